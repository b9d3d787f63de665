//! The result of a case: what `netsys bench --json` writes, and what was seen of the server meanwhile.

use std::path::Path;
use std::{fs, io};

use serde_json::{Map, Value, json};

/// What `loadtest` adds to a result of `netsys bench`.
const OWN: &str = "load_test";

/// One result, as a line of JSON.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome(Map<String, Value>);

/// Resident bytes of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Before the connections of the case were made, after some others.
    pub(crate) idle: u64,
    /// The most while it ran.
    pub(crate) peak: u64,
}

/// Where and of what it was measured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: u64,
    pub(crate) kernel: String,
    pub(crate) commit: String,
}

impl Machine {
    pub(crate) fn this() -> Self {
        use network_system_perf::machine;
        Machine {
            cpu: machine::cpu_model(),
            cores: machine::cores() as u64,
            kernel: machine::kernel(),
            commit: machine::commit(),
        }
    }

    /// Whether times of one can be compared with times of the other.
    pub(crate) fn is_like(&self, other: &Machine) -> bool {
        self.cpu == other.cpu && self.cores == other.cores
    }
}

impl Outcome {
    /// Takes the one line that `netsys bench --json -` has written.
    pub(crate) fn new(
        name: &str,
        line: &str,
        memory: Memory,
        machine: &Machine,
    ) -> Result<Self, String> {
        let Ok(Value::Object(mut result)) = serde_json::from_str(line) else {
            return Err(format!("not a result: {}", line.trim()));
        };
        // Older versions of the program do not say these.
        result.insert("label".to_owned(), name.into());
        let described = json!({
            "cpu": machine.cpu,
            "cores": machine.cores,
            "kernel": machine.kernel,
        });
        result.entry("machine").or_insert(described);
        let own = json!({
            "case": name,
            "cpu": machine.cpu,
            "cores": machine.cores,
            "kernel": machine.kernel,
            "commit": machine.commit,
            "rss_idle_bytes": memory.idle,
            "rss_peak_bytes": memory.peak,
        });
        result.insert(OWN.to_owned(), own);
        Ok(Outcome(result))
    }

    fn number(&self, path: &[&str]) -> Option<f64> {
        let mut value = self.0.get(path[0])?;
        for key in &path[1..] {
            value = value.get(key)?;
        }
        value.as_f64().filter(|number| *number >= 0.0)
    }

    fn own(&self, key: &str) -> Option<&str> {
        self.0.get(OWN)?.get(key)?.as_str()
    }

    pub(crate) fn name(&self) -> &str {
        self.own("case").unwrap_or("")
    }

    pub(crate) fn machine(&self) -> Machine {
        let text = |key| self.own(key).unwrap_or("unknown").to_owned();
        Machine {
            cpu: text("cpu"),
            cores: self.number(&[OWN, "cores"]).unwrap_or(0.0) as u64,
            kernel: text("kernel"),
            commit: text("commit"),
        }
    }

    /// Messages, or connections, a second.
    pub(crate) fn rate(&self) -> f64 {
        self.number(&["messages_per_second"]).unwrap_or(0.0)
    }

    /// Bytes of messages a second, one way.
    pub(crate) fn bytes_per_second(&self) -> f64 {
        self.number(&["bytes_per_second"]).unwrap_or(0.0)
    }

    /// Microseconds; `which` is as in the result: `p50`, `p95`, `p99`, `max`.
    pub(crate) fn latency(&self, which: &str) -> Option<f64> {
        self.number(&["latency_us", which])
    }

    pub(crate) fn errors(&self) -> f64 {
        self.number(&["errors"]).unwrap_or(0.0)
    }

    pub(crate) fn first_error(&self) -> Option<&str> {
        self.0.get("first_error")?.as_str()
    }

    /// The part of the messages that had no answer, in percent; where they can be lost.
    pub(crate) fn lost_percent(&self) -> Option<f64> {
        let lost = self.number(&["lost"])?;
        let answered = self.number(&["messages"])?;
        Some(100.0 * lost / (lost + answered).max(1.0))
    }

    pub(crate) fn connected(&self) -> f64 {
        self.number(&["connected"]).unwrap_or(0.0)
    }

    pub(crate) fn memory(&self) -> Memory {
        let bytes = |key| self.number(&[OWN, key]).unwrap_or(0.0) as u64;
        Memory {
            idle: bytes("rss_idle_bytes"),
            peak: bytes("rss_peak_bytes"),
        }
    }

    /// What the server's memory grew by, for each connection.
    pub(crate) fn bytes_per_connection(&self) -> f64 {
        let memory = self.memory();
        memory.peak.saturating_sub(memory.idle) as f64 / self.connected().max(1.0)
    }

    pub(crate) fn to_line(&self) -> String {
        let mut line = Value::Object(self.0.clone()).to_string();
        line.push('\n');
        line
    }
}

/// The most that is read of a file of results.
const FILE_LIMIT: u64 = 64 * 1024 * 1024;

/// Reads the lines of earlier results; those that `loadtest` did not write are passed over.
pub(crate) fn read(path: &Path) -> io::Result<Vec<Outcome>> {
    let bad = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    if fs::metadata(path)?.len() > FILE_LIMIT {
        return Err(bad(format!("more than {FILE_LIMIT} bytes")));
    }
    let mut outcomes = Vec::new();
    for (index, line) in fs::read_to_string(path)?.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str(line) {
            Ok(Value::Object(result)) => outcomes.push(Outcome(result)),
            Ok(_) => return Err(bad(format!("line {}: not an object", index + 1))),
            Err(error) => return Err(bad(format!("line {}: {error}", index + 1))),
        }
    }
    outcomes.retain(|outcome| !outcome.name().is_empty());
    Ok(outcomes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A result with these figures.
    pub(crate) fn outcome(name: &str, rate: f64, p50: f64, p99: f64, errors: u64) -> Outcome {
        let line = json!({
            "messages_per_second": rate, "bytes_per_second": rate * 64.0, "messages": rate, "lost": null,
            "errors": errors, "first_error": null, "connected": 10,
            "latency_us": {"p50": p50, "p99": p99},
        });
        let machine = Machine {
            cpu: "a processor".into(),
            cores: 2,
            kernel: "6".into(),
            commit: "abc".into(),
        };
        let memory = Memory {
            idle: 1_000_000,
            peak: 1_010_000,
        };
        Outcome::new(name, &line.to_string(), memory, &machine).expect("a result")
    }

    #[test]
    fn a_result_without_the_newer_fields_is_taken() {
        let outcome = outcome("tcp/closed/10", 1_000.0, 50.0, 90.0, 0);
        assert_eq!(outcome.name(), "tcp/closed/10");
        assert_eq!(outcome.latency("p95"), None);
        assert_eq!(outcome.bytes_per_connection(), 1_000.0);
        assert!(outcome.machine().is_like(&outcome.machine()));
    }

    #[test]
    fn what_is_no_result_is_named() {
        let machine = Machine::this();
        let error = Outcome::new("x", "error: nothing", Memory::default(), &machine);
        assert!(error.is_err_and(|text| text.contains("nothing")));
    }

    #[test]
    fn lines_are_read_as_they_were_written() {
        let path = std::env::temp_dir().join(format!("loadtest-{}.jsonl", std::process::id()));
        let written = [
            outcome("a", 1.0, 2.0, 3.0, 0),
            outcome("b", 4.0, 5.0, 6.0, 1),
        ];
        let text: String = written.iter().map(Outcome::to_line).collect();
        fs::write(
            &path,
            format!("{text}{{\"label\": \"of somebody else\"}}\n"),
        )
        .expect("written");
        assert_eq!(read(&path).expect("read"), written);
        fs::write(&path, "[1]").expect("written");
        assert!(read(&path).is_err());
        fs::remove_file(&path).expect("removed");
    }
}

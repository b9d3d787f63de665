//! On what it is measured: this machine, and the process of the server when that is here.

use crate::results::{Machine, ServerUse};

/// This machine, as far as it says what it is.
pub(super) fn machine() -> Machine {
    Machine {
        cpu: cpu(),
        cores: std::thread::available_parallelism()
            .ok()
            .map(|cores| cores.get() as u64),
        os: Some(std::env::consts::OS.to_owned()),
        kernel: kernel(),
    }
}

#[cfg(target_os = "linux")]
fn cpu() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    let (_, name) = line.split_once(':')?;
    Some(name.trim().to_owned())
}

#[cfg(target_os = "linux")]
fn kernel() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(text.trim().to_owned())
}

#[cfg(not(target_os = "linux"))]
fn cpu() -> Option<String> {
    None
}

#[cfg(not(target_os = "linux"))]
fn kernel() -> Option<String> {
    None
}

/// Watches the memory and the processor time of a process.
pub(super) struct Watch {
    process: Process,
    before: u64,
    peak: u64,
    /// Processor seconds at the beginning and at the end of the measured time.
    cpu: [Option<f64>; 2],
}

impl Watch {
    /// # Errors
    ///
    /// There is no such process, or no way to ask for it on this system; the text says which.
    pub(super) fn new(pid: u32) -> Result<Self, String> {
        let process = Process::find(pid)?;
        let before = process.rss().ok_or("the process has ended")?;
        Ok(Watch {
            process,
            before,
            peak: before,
            cpu: [None; 2],
        })
    }

    /// Looks at the memory.
    pub(super) fn look(&mut self) {
        self.peak = self.peak.max(self.process.rss().unwrap_or(0));
    }

    /// The measured time begins.
    pub(super) fn begins(&mut self) {
        self.cpu[0] = self.process.cpu_seconds();
    }

    /// The measured time has ended.
    pub(super) fn ended(&mut self) {
        self.look();
        self.cpu[1] = self.process.cpu_seconds();
    }

    /// What it came to, after the connections have been closed.
    pub(super) fn finish(&self) -> ServerUse {
        let [begin, end] = self.cpu;
        ServerUse {
            pid: self.process.pid,
            rss_before_bytes: self.before,
            rss_peak_bytes: self.peak,
            rss_after_bytes: self.process.rss(),
            cpu_seconds: begin
                .zip(end)
                .map(|(begin, end)| ((end - begin).max(0.0) * 1e3).round() / 1e3),
        }
    }
}

#[cfg(target_os = "linux")]
struct Process {
    pid: u32,
    /// In ticks of the system; the same number may be given to another process later.
    started: u64,
}

#[cfg(target_os = "linux")]
impl Process {
    fn find(pid: u32) -> Result<Self, String> {
        let [_, started, _] = stat(pid).ok_or_else(|| format!("there is no process {pid}"))?;
        Ok(Process { pid, started })
    }

    fn stat(&self) -> Option<[u64; 3]> {
        stat(self.pid).filter(|[_, started, _]| *started == self.started)
    }

    /// Resident memory, in bytes.
    fn rss(&self) -> Option<u64> {
        let [_, _, pages] = self.stat()?;
        Some(pages * rustix::param::page_size() as u64)
    }

    fn cpu_seconds(&self) -> Option<f64> {
        let [ticks, ..] = self.stat()?;
        Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }
}

/// Of a process that is not a zombie: processor time in ticks, start in ticks, resident pages.
#[cfg(target_os = "linux")]
fn stat(pid: u32) -> Option<[u64; 3]> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may have any characters.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<_> = rest.split_ascii_whitespace().collect();
    // The state is field 3 of proc_pid_stat(5).
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    match *fields.first()? {
        "Z" | "X" => None,
        _ => Some([field(14)?.checked_add(field(15)?)?, field(22)?, field(24)?]),
    }
}

#[cfg(not(target_os = "linux"))]
struct Process {
    pid: u32,
}

#[cfg(not(target_os = "linux"))]
impl Process {
    fn find(_: u32) -> Result<Self, String> {
        Err("only Linux says what a process needs".to_owned())
    }

    fn rss(&self) -> Option<u64> {
        None
    }

    fn cpu_seconds(&self) -> Option<f64> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_and_time_and_no_other_has_its_number() {
        let pid = std::process::id();
        let mut watch = Watch::new(pid).unwrap_or_else(|text| panic!("{text}"));
        watch.begins();
        watch.ended();
        let used = watch.finish();
        assert!(used.rss_before_bytes > 0);
        assert!(used.rss_peak_bytes >= used.rss_before_bytes);
        assert!(used.cpu_seconds >= Some(0.0));
        let mut other = Watch::new(pid).unwrap_or_else(|text| panic!("{text}"));
        other.process.started += 1;
        assert!(other.process.rss().is_none());
        assert!(Watch::new(u32::MAX).is_err());
    }
}

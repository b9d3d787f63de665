//! A case: a server, the load on it, and what is seen of the server meanwhile.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, thread};

use network_system_perf::scheme::Scheme;
use network_system_perf::server::{Server, ServerCommand};
use network_system_perf::sys;

use crate::cases::{Case, Kind};
use crate::outcome::{Machine, Memory, Outcome};

/// How often the server's memory is read. Reading it takes some microseconds for each MiB.
const SAMPLE: Duration = Duration::from_millis(20);
/// Descriptors that a process needs for other things than connections.
const SPARE_DESCRIPTORS: u64 = 100;

/// How cases are run.
pub(crate) struct Setup {
    netsys: PathBuf,
    server: ServerCommand,
    /// Options of the program that not all of its versions have.
    has_server_pid: bool,
    pub(crate) seconds: f64,
    pub(crate) warmup: f64,
    /// The cores of server and load.
    cores: Option<(usize, usize)>,
    descriptors: u64,
    pub(crate) machine: Machine,
}

impl Setup {
    pub(crate) fn new(
        netsys: PathBuf,
        seconds: f64,
        warmup: f64,
        is_pinned: bool,
    ) -> io::Result<Self> {
        let help = |command: &str| -> io::Result<String> {
            let output = Command::new(&netsys).args([command, "--help"]).output()?;
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let (serve, bench) = (help("serve")?, help("bench")?);
        let machine = Machine::this();
        let cores = (is_pinned && machine.cores >= 2).then_some((0, 1));
        let mut words = format!(
            "{} serve --quiet --listen {{scheme}}://127.0.0.1:0 --idle-timeout 0 --max-connections 20000 \
             --message-size-limit 2MiB --udp-sessions 20000 --udp-new-sessions 100000 \
             --udp-new-sessions-per-ip 100000 --udp-datagram-size 65507",
            netsys.display()
        );
        if cores.is_some() {
            words += " --workers 1";
        }
        if serve.contains("--dashboard") {
            words += " --dashboard off";
        }
        Ok(Setup {
            server: ServerCommand::new("netsys", &words),
            has_server_pid: bench.contains("--server-pid"),
            netsys,
            seconds,
            warmup,
            cores,
            descriptors: sys::raise_descriptor_limit()?,
            machine,
        })
    }

    pub(crate) fn is_pinned(&self) -> bool {
        self.cores.is_some()
    }

    /// Why a case cannot be run here.
    pub(crate) fn obstacle(&self, case: &Case) -> Option<String> {
        let needed = case.connections as u64 + SPARE_DESCRIPTORS;
        (needed > self.descriptors).then(|| {
            format!(
                "{} connections need {needed} descriptors in each process, and the hard limit is {} (`ulimit -Hn`)",
                case.connections, self.descriptors
            )
        })
    }

    pub(crate) fn run(&self, case: &Case) -> Result<Outcome, String> {
        let text = |error: io::Error| error.to_string();
        let server = Server::start(&self.server, case.scheme, self.cores.map(|cores| cores.0))
            .map_err(text)?;
        // What the server needs for any connection is there before its memory is read.
        let touch = ["--connections", "16", "--size", "1024", "--window", "16"];
        self.bench(case, &server, &touch.map(str::to_owned), (0.1, 0.05))?;
        let idle = server.resident_bytes().map_err(text)?;
        let is_over = AtomicBool::new(false);
        let (line, peak) = thread::scope(|scope| {
            let sampling = scope.spawn(|| {
                let mut peak = idle;
                while !is_over.load(Ordering::Relaxed) {
                    peak = peak.max(server.resident_bytes().unwrap_or(0));
                    thread::sleep(SAMPLE);
                }
                peak
            });
            let line = self.bench(case, &server, &case.options(), (self.seconds, self.warmup));
            is_over.store(true, Ordering::Relaxed);
            (line, sampling.join().unwrap_or(idle))
        });
        let outcome = Outcome::new(
            &case.to_string(),
            &line?,
            Memory { idle, peak },
            &self.machine,
        )?;
        checked(case, outcome)
    }

    /// Runs `netsys bench` and gives what it prints.
    fn bench(
        &self,
        case: &Case,
        server: &Server,
        options: &[String],
        (seconds, warmup): (f64, f64),
    ) -> Result<String, String> {
        let mut command = Command::new(&self.netsys);
        let millis = |seconds: f64| format!("{}ms", (seconds * 1_000.0).round());
        command
            .args(["bench", server.url(), "--json", "-"])
            .args(["--duration", &millis(seconds), "--warmup", &millis(warmup)])
            .args(options)
            .stdin(Stdio::null());
        if case.scheme.is_encrypted() {
            command.arg("--insecure");
        }
        if self.has_server_pid {
            command.args(["--server-pid", &server.pid().to_string()]);
        }
        sys::pin(&mut command, self.cores.map(|cores| cores.1));
        let output = command.output().map_err(|error| error.to_string())?;
        // With errors in the run it fails, and still says what it measured.
        match output.stdout.is_empty() {
            true => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            false => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        }
    }
}

/// The outcome, if it is one: with errors, or when nothing was done, figures mean nothing.
fn checked(case: &Case, outcome: Outcome) -> Result<Outcome, String> {
    match outcome.first_error() {
        Some(error) if outcome.errors() > 0.0 => {
            Err(format!("{} errors: {error}", outcome.errors()))
        }
        _ if outcome.rate() == 0.0 && case.kind != Kind::Idle => Err(
            "nothing was done in the time: the machine is busy, or --seconds is too short"
                .to_owned(),
        ),
        _ => Ok(outcome),
    }
}

/// The program `netsys`: the one that was named, or one that is built now as this program was.
pub(crate) fn netsys(given: Option<&str>) -> Result<PathBuf, String> {
    if let Some(path) = given {
        return Ok(PathBuf::from(path));
    }
    let this = env::current_exe().map_err(|error| error.to_string())?;
    let path = this.with_file_name("netsys");
    // Cargo is there when this was started by `cargo run`: then nothing old is measured.
    if let Some(cargo) = env::var_os("CARGO") {
        let mut build = Command::new(cargo);
        build
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
            .args(["build", "-p", "network-system-cli"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let status = build.status().map_err(|error| error.to_string())?;
        if !status.success() {
            return Err("netsys cannot be built".to_owned());
        }
    }
    match path.exists() {
        true => Ok(path),
        false => Err(format!(
            "there is no {}: build it with `cargo build --release -p network-system-cli`, or name another with --netsys",
            path.display()
        )),
    }
}

/// The schemes that were named, separated by commas.
pub(crate) fn schemes(text: &str) -> Result<Vec<Scheme>, String> {
    text.split(',').map(str::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;
    use crate::outcome::tests::outcome;

    #[test]
    fn a_case_in_which_nothing_was_done_has_failed() {
        for case in cases::all(true) {
            let is_idle = case.kind == Kind::Idle;
            let nothing = checked(&case, outcome("a", 0.0, 0.0, 0.0, 0));
            assert_eq!(nothing.is_ok(), is_idle, "{case}");
            assert!(checked(&case, outcome("a", 1.0, 1.0, 1.0, 0)).is_ok());
        }
    }
}

//! The built program as a child process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// The program with arguments, without the variables that it would obey. A server that is not told to have a
/// dashboard has none: those of the tests would meet at its default address. A client that is not told how long to
/// wait for what the server still says waits for as long as a busy machine may need.
pub(crate) fn netsys(arguments: &[&str]) -> Command {
    let mut all = arguments.to_vec();
    let has = |option: &str| arguments.iter().any(|word| word.starts_with(option));
    if arguments.first() == Some(&"serve") && !has("--dashboard") {
        all.splice(1..1, ["--dashboard", "off"]);
    }
    if arguments.first() == Some(&"connect") && !has("--wait") {
        // Where nothing says that it was the last answer, all of a quarter of it passes.
        let is_plain_udp =
            has("udp://") && !arguments.iter().any(|word| word.contains("codec=msgi"));
        all.extend(["--wait", if is_plain_udp { "8s" } else { "60s" }]);
    }
    exactly(&all)
}

/// The program with these arguments and no others.
pub(crate) fn exactly(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netsys"));
    command.args(arguments);
    for name in [
        "NETSYS_TOKEN",
        "NETSYS_DASHBOARD_TOKEN",
        "NO_COLOR",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ] {
        command.env_remove(name);
    }
    command
}

/// Runs the program to its end with something on stdin.
pub(crate) fn run(arguments: &[&str], stdin: &[u8]) -> Output {
    let mut child = netsys(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _watch = Watchdog::over(&child);
    // It may end without reading all of it.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

/// Ends a program that does not end: who waits for it, or for a line of it, then fails instead of waiting for ever.
struct Watchdog(#[allow(dead_code, reason = "dropping it is what is waited for")] Sender<()>);

#[allow(clippy::print_stderr, reason = "for who reads why a test failed")]
fn tell(text: &str) {
    eprintln!("{text}");
}

/// Longer than any test needs on a machine that is busy with others.
const NO_PROGRAM_RUNS_LONGER: Duration = Duration::from_secs(150);

impl Watchdog {
    fn over(child: &Child) -> Self {
        let (guard, ended) = channel::<()>();
        let id = child.id().to_string();
        std::thread::spawn(move || {
            if ended.recv_timeout(NO_PROGRAM_RUNS_LONGER) == Err(RecvTimeoutError::Timeout) {
                let killed = Command::new("kill").args(["-KILL", &id]).status();
                tell(&format!(
                    "the program {id} did not end and was ended: {killed:?}"
                ));
            }
        });
        Watchdog(guard)
    }
}

/// Runs `netsys connect` to its end.
pub(crate) fn connect(url: &str, options: &[&str], stdin: &[u8]) -> Ended {
    let mut all = vec!["connect", url];
    all.extend(options);
    let output = run(&all, stdin);
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: text(&output.stderr),
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A program that runs beside the test and is killed with it.
pub(crate) struct Running {
    child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: BufReader<ChildStderr>,
    _watch: Watchdog,
}

/// How a program ended, and what it had printed that nobody had read.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Running {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Running::spawn(&mut netsys(arguments))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _watch = Watchdog::over(&child);
        Running {
            stdin: child.stdin.take(),
            stdout: child.stdout.take().map(BufReader::new),
            stderr: BufReader::new(child.stderr.take().unwrap()),
            child,
            _watch,
        }
    }

    /// The next line of stdout, without its end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The next line of stderr, without its end.
    pub(crate) fn error_line(&mut self) -> String {
        let mut line = String::new();
        self.stderr.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> Ended {
        drop(self.stdin.take());
        let mut ended = Ended {
            code: None,
            stdout: String::new(),
            stderr: String::new(),
        };
        if let Some(stdout) = &mut self.stdout {
            stdout.read_to_string(&mut ended.stdout).unwrap();
        }
        self.stderr.read_to_string(&mut ended.stderr).unwrap();
        ended.code = self.child.wait().unwrap().code();
        ended
    }

    /// Reads stdout no more.
    pub(crate) fn close_stdout(&mut self) {
        self.stdout = None;
    }

    #[cfg(unix)]
    pub(crate) fn terminate(self) -> Ended {
        self.signal(rustix::process::Signal::TERM);
        self.end()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder of a test's own, which goes with it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("netsys-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server of the program with one listener, by TCP on a free port unless said otherwise.
pub(crate) struct Serving {
    pub(crate) program: Running,
    pub(crate) url: String,
}

impl Serving {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Serving::with_codec("", arguments)
    }

    /// `query` is empty or `?codec=…`.
    pub(crate) fn with_codec(query: &str, arguments: &[&str]) -> Self {
        Serving::at(&format!("tcp://127.0.0.1:0{query}"), arguments)
    }

    pub(crate) fn at(listen: &str, arguments: &[&str]) -> Self {
        let mut all = vec!["serve", "--listen", listen];
        all.extend(arguments);
        let mut program = Running::start(&all);
        let url = listening(&program.line());
        Serving { program, url }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        address(&self.url)
    }
}

/// The URL of a `listening` line.
pub(crate) fn listening(line: &str) -> String {
    line.strip_prefix("listening ")
        .unwrap_or_else(|| panic!("not a listening line: {line}"))
        .to_owned()
}

/// The address in a URL.
pub(crate) fn address(url: &str) -> SocketAddr {
    let (_, rest) = url.split_once("://").unwrap();
    rest.split(['?', '/']).next().unwrap().parse().unwrap()
}

//! The processes of a run: a server, and the load generator.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{fs, thread};

use network_system_perf::report::Report;
use network_system_perf::scheme::Scheme;
use network_system_perf::sys;

/// How long a server may take until it listens, and until it has ended.
const PATIENCE: Duration = Duration::from_secs(10);
/// Stands in a command for the scheme that a case needs.
const PLACEHOLDER: &str = "{scheme}";

/// How to start a server.
pub(crate) struct ServerCommand {
    pub(crate) name: String,
    words: Vec<String>,
}

impl ServerCommand {
    /// Splits `command` at white space.
    pub(crate) fn new(name: &str, command: &str) -> Self {
        Self {
            name: name.to_owned(),
            words: command.split_whitespace().map(str::to_owned).collect(),
        }
    }

    /// Whether the server can be started for `scheme`. A command without a
    /// placeholder serves the schemes that it names, or `tcp` if it names none.
    pub(crate) fn serves(&self, scheme: Scheme) -> bool {
        let names = |scheme: Scheme| {
            let url = format!("{scheme}://");
            self.words.iter().any(|word| {
                word.match_indices(&url)
                    .any(|(at, _)| !word[..at].ends_with(char::is_alphanumeric))
            })
        };
        self.words.iter().any(|word| word.contains(PLACEHOLDER))
            || names(scheme)
            || scheme == Scheme::Tcp && !Scheme::ALL.into_iter().any(names)
    }

    /// The baseline `name` from the folder `programs`.
    pub(crate) fn baseline(programs: &Path, name: &str) -> Self {
        let program = programs.join("baseline").to_string_lossy().into_owned();
        Self {
            name: name.to_owned(),
            words: vec![program, name.to_owned()],
        }
    }
}

/// A running server; it is ended when this is dropped.
pub(crate) struct Server {
    child: Child,
    url: String,
}

impl Server {
    /// Starts a server and waits until it listens for `scheme`.
    pub(crate) fn start(
        command: &ServerCommand,
        scheme: Scheme,
        cpu: Option<usize>,
    ) -> io::Result<Self> {
        let words = command
            .words
            .iter()
            .map(|word| word.replace(PLACEHOLDER, scheme.name()));
        let mut process = Command::new(&command.words[0]);
        process
            .args(words.skip(1))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        sys::pin(&mut process, cpu);
        let mut child = process.spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", command.words[0]))
        })?;
        let output = child.stdout.take().expect("standard output is a pipe");
        let mut server = Self {
            child,
            url: String::new(),
        };
        let listening = format!("listening {scheme}://");
        let wanted = listening.clone();
        let (sender, urls) = mpsc::channel();
        thread::spawn(move || {
            // What follows the line is read too, so that the server never waits for us.
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(rest) = line.strip_prefix(&wanted) {
                    let _ = sender.send(format!("{scheme}://{}", rest.trim()));
                }
            }
        });
        server.url = urls
            .recv_timeout(PATIENCE)
            .map_err(|_| io::Error::other(format!("no line \"{listening}…\" was printed")))?;
        Ok(server)
    }

    /// The resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> io::Result<u64> {
        // The kernel counts `VmRSS` for each core and may show it some hundred
        // KiB off; `Rss` here is counted page by page.
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = fs::read_to_string(path)?;
        let kib: Option<u64> = text
            .lines()
            .find_map(|line| line.strip_prefix("Rss:"))
            .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok());
        kib.map(|kib| kib * 1024)
            .ok_or_else(|| io::Error::other("the kernel does not show the resident memory"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself already.
        let _ = sys::terminate(self.child.id());
        let begin = Instant::now();
        while let Ok(None) = self.child.try_wait() {
            if begin.elapsed() > PATIENCE {
                let _ = self.child.kill();
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A running load generator; it is ended when this is dropped.
pub(crate) struct Load {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Load {
    /// Starts the generator from the folder `programs` against `server`.
    pub(crate) fn start(
        programs: &Path,
        arguments: &str,
        more: &[(&str, f64)],
        server: &Server,
        cpu: Option<usize>,
    ) -> io::Result<Self> {
        let mut process = Command::new(programs.join("load"));
        process
            .args(arguments.split_whitespace())
            .args(["--server", &server.url])
            .args(["--pid", &server.child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        for (flag, value) in more {
            process.args([flag, value.to_string().as_str()]);
        }
        sys::pin(&mut process, cpu);
        let mut child = process.spawn()?;
        let output = child.stdout.take().expect("standard output is a pipe");
        Ok(Self {
            child,
            output: BufReader::new(output),
        })
    }

    /// The next line that the generator prints.
    pub(crate) fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            return Err(io::Error::other(format!(
                "the load generator ended: {status}"
            )));
        }
        Ok(line)
    }

    /// Tells the generator to end its idle connections.
    pub(crate) fn tell(&mut self) -> io::Result<()> {
        let input = self.child.stdin.as_mut().expect("standard input is a pipe");
        input.write_all(b"end\n")
    }

    /// Waits for the end and gives the result.
    pub(crate) fn report(mut self) -> io::Result<Report> {
        let line = self.line()?;
        self.child.wait()?;
        Report::from_json(&line)
            .ok_or_else(|| io::Error::other(format!("not a report: {}", line.trim())))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_serves_the_schemes_that_it_names() {
        let served = |command: &str| -> Vec<&str> {
            let command = ServerCommand::new("name", command);
            Scheme::ALL
                .into_iter()
                .filter(|scheme| command.serves(*scheme))
                .map(Scheme::name)
                .collect()
        };
        let all = Scheme::ALL.map(Scheme::name);
        assert_eq!(served("serve --listen {scheme}://127.0.0.1:0"), all);
        assert_eq!(served("serve --listen=wss://127.0.0.1:0"), ["wss"]);
        assert_eq!(served("serve --listen ws://127.0.0.1:0"), ["ws"]);
        assert_eq!(served("sessions lent"), ["tcp"]);
    }
}

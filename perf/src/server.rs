//! Servers as processes that are measured from outside.

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::scheme::Scheme;
use crate::sys;

/// How long a server may take until it listens, and until it has ended.
const PATIENCE: Duration = Duration::from_secs(10);
/// Stands in a command for the scheme that a case needs.
const PLACEHOLDER: &str = "{scheme}";

/// How to start a server.
#[derive(Clone, Debug)]
pub struct ServerCommand {
    /// What it is called in results.
    pub name: String,
    words: Vec<String>,
}

impl ServerCommand {
    /// Splits `command` at white space.
    pub fn new(name: &str, command: &str) -> Self {
        Self {
            name: name.to_owned(),
            words: command.split_whitespace().map(str::to_owned).collect(),
        }
    }

    /// Whether the server can be started for `scheme`. A command without a
    /// placeholder serves the schemes that it names, or `tcp` if it names none.
    pub fn serves(&self, scheme: Scheme) -> bool {
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

    /// Whether the server is asked for reliable sessions, which its clients then have to ask for, too.
    pub fn is_reliable(&self) -> bool {
        self.words.iter().any(|word| word == "--reliable")
    }

    /// The baseline `name` from the folder `programs`.
    pub fn baseline(programs: &Path, name: &str) -> Self {
        let program = programs.join("baseline").to_string_lossy().into_owned();
        Self {
            name: name.to_owned(),
            words: vec![program, name.to_owned()],
        }
    }
}

/// A running server; it is ended when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    url: String,
}

impl Server {
    /// Starts a server and waits until it listens for `scheme`.
    ///
    /// # Errors
    ///
    /// The program cannot be started, or does not say within ten seconds that it listens.
    pub fn start(command: &ServerCommand, scheme: Scheme, cpu: Option<usize>) -> io::Result<Self> {
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

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The id of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The resident memory in bytes.
    ///
    /// # Errors
    ///
    /// The process has ended, or the kernel does not show it.
    pub fn resident_bytes(&self) -> io::Result<u64> {
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

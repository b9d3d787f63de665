//! The server as a process.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{self, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;

use crate::SERVER_MODE;
use crate::sample::{Process, Sample};

/// How long it may say nothing.
const PATIENCE: Duration = Duration::from_secs(20);

/// The running server; it ends when this is dropped, because its input does.
pub(crate) struct Child {
    process: process::Child,
    said: mpsc::UnboundedReceiver<Said>,
}

/// What it says, a line each.
#[derive(Debug)]
pub(crate) enum Said {
    Listening(Vec<String>),
    Sample(Box<Sample>),
    Stopped(Stopped),
}

/// How it ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stopped {
    pub(crate) drained: u64,
    pub(crate) aborted: u64,
    /// When everything had stopped.
    pub(crate) process: Process,
    /// How often it has seen which error, by the names of the codes.
    pub(crate) errors: Vec<(String, u64)>,
}

impl Child {
    /// Starts this program again as a server; gives its URLs, too.
    pub(crate) async fn start() -> io::Result<(Self, Vec<String>)> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(SERVER_MODE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().expect("standard output is a pipe");
        let (sender, said) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if read(&line).is_some_and(|said| sender.send(said).is_err()) {
                    return;
                }
            }
        });
        let mut child = Child { process, said };
        match child.next().await? {
            Said::Listening(urls) => Ok((child, urls)),
            _ => Err(io::Error::other("the server did not say where it listens")),
        }
    }

    async fn next(&mut self) -> io::Result<Said> {
        match tokio::time::timeout(PATIENCE, self.said.recv()).await {
            Ok(Some(said)) => Ok(said),
            Ok(None) => Err(io::Error::other("the server has ended")),
            Err(_) => Err(io::Error::other(format!(
                "the server said nothing for {PATIENCE:?}"
            ))),
        }
    }

    /// The next sample.
    pub(crate) async fn sample(&mut self) -> io::Result<Sample> {
        loop {
            if let Said::Sample(sample) = self.next().await? {
                return Ok(*sample);
            }
        }
    }

    /// Tells it to stop, and waits for that.
    pub(crate) async fn stop(mut self) -> io::Result<Said> {
        if let Some(input) = &mut self.process.stdin {
            input.write_all(b"stop\n")?;
        }
        loop {
            match self.next().await? {
                Said::Sample(_) => {}
                said => return Ok(said),
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn read(line: &str) -> Option<Said> {
    let value: Value = serde_json::from_str(line).ok()?;
    if let Some(urls) = value["listening"].as_array() {
        let urls = urls.iter().filter_map(Value::as_str).map(str::to_owned);
        return Some(Said::Listening(urls.collect()));
    }
    if let Some(sample) = Sample::from_json(&value["sample"]) {
        return Some(Said::Sample(Box::new(sample)));
    }
    let stopped = &value["stopped"];
    Some(Said::Stopped(Stopped {
        drained: stopped["drained"].as_u64()?,
        aborted: stopped["aborted"].as_u64()?,
        process: Process::from_json(&stopped["process"])?,
        errors: stopped["errors"]
            .as_object()?
            .iter()
            .filter_map(|(name, count)| Some((name.clone(), count.as_u64()?)))
            .collect(),
    }))
}

//! A server in a process of its own, which can be killed.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use network_system::{Limits, Message, Reliability, Server, Session};

const LISTEN: &str = "FAULTS_LISTEN";
const LOG: &str = "FAULTS_LOG";

/// How long a server has to stop in order: it is not the machine's speed that decides what is lost.
const DRAIN: Duration = Duration::from_secs(60);

/// After how long clients are asked to come back.
pub const RETRY: Duration = Duration::from_millis(600);

/// Bytes of what a message says: whose it is, and which.
const RECORD: usize = 8;

/// What a message says.
pub fn record(client: u32, number: u32) -> Vec<u8> {
    [client.to_be_bytes(), number.to_be_bytes()].concat()
}

/// A server that writes down each message when it handles it, before anything is acknowledged.
pub struct ServerProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    pub url: String,
}

impl ServerProcess {
    /// Starts a server with at most so many descriptors, and waits until it listens.
    pub fn start(listen: &str, log: &Path, descriptors: usize) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut child = Command::new("sh")
            .args([
                "-c",
                "ulimit -n \"$0\" && exec \"$@\"",
                &descriptors.to_string(),
            ])
            .arg(program)
            .args(["--exact", "server::server_process", "--nocapture"])
            .env(LISTEN, listen)
            .env(LOG, log)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let url = line_with(&mut stdout, "URL ");
        ServerProcess {
            child,
            stdin,
            stdout,
            url,
        }
    }

    /// Lets the server stop in order, and says what it says about that.
    pub fn drain(mut self) -> String {
        self.stdin.take().unwrap().write_all(b"drain\n").unwrap();
        let report = line_with(&mut self.stdout, "STOPPED ");
        assert!(self.child.wait().unwrap().success());
        report
    }

    /// Ends the server at once, by SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for ServerProcess {
    /// A test that fails leaves no server behind.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What follows `start` in the first line that has it, be it behind what the test runner prints.
fn line_with(output: &mut impl BufRead, start: &str) -> String {
    let mut line = String::new();
    while output.read_line(&mut line).unwrap() > 0 {
        if let Some((_, rest)) = line.trim_end().split_once(start) {
            return rest.to_owned();
        }
        line.clear();
    }
    panic!("the server has ended and not said {start}");
}

/// What servers have written down, in the order in which they have handled it.
pub struct Log(PathBuf);

impl Log {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "netsys-faults-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        Log(std::env::temp_dir().join(name))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The numbers of each client.
    pub fn read(&self, clients: usize) -> Vec<Vec<u32>> {
        let mut bytes = Vec::new();
        File::open(&self.0)
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        assert_eq!(bytes.len() % RECORD, 0);
        let mut numbers = vec![Vec::new(); clients];
        for record in bytes.chunks_exact(RECORD) {
            let (client, number) = record.split_at(4);
            let client = u32::from_be_bytes(client.try_into().unwrap());
            numbers[client as usize].push(u32::from_be_bytes(number.try_into().unwrap()));
        }
        numbers
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The process of [`ServerProcess`]. Nothing happens when it is run by itself.
#[test]
fn server_process() {
    let Ok(listen) = std::env::var(LISTEN) else {
        return;
    };
    let log = std::env::var_os(LOG).unwrap();
    let log = Arc::new(
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .unwrap(),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let report = runtime.block_on(async move {
        let mut limits = Limits::default();
        limits.max_connections = 10_000;
        limits.max_connections_per_ip = 0;
        let server = Server::builder()
            .listen(listen)
            .limits(limits)
            .goaway(RETRY)
            .reliable(Reliability::default())
            .on_message(move |_: Session, message: Message| {
                // One write that appends is not torn by others.
                (&*log).write_all(message.payload()).unwrap();
                async {}
            })
            .on_request(|_, message| async move { Ok(message) })
            .build()
            .unwrap();
        server.start().await.unwrap();
        println!("URL {}", server.urls()[0]);
        let waiting =
            tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
        // The end of the input too: then whoever started this is gone.
        let _ = waiting.await;
        server.stop_within(DRAIN).await.unwrap()
    });
    println!(
        "STOPPED {} drained, {} aborted",
        report.drained, report.aborted
    );
}

//! The load generator as a process.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use network_system_perf::report::Report;
use network_system_perf::server::Server;
use network_system_perf::sys;

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
            .args(["--server", server.url()])
            .args(["--pid", &server.pid().to_string()])
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

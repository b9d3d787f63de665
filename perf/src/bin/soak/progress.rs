//! How it goes, on standard error.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::load::Counts;
use crate::sample::{Process, Sample};

/// How often there is a line where nobody watches.
const SELDOM: Duration = Duration::from_secs(10);

pub(crate) struct Progress {
    duration: Duration,
    begun: Instant,
    is_terminal: bool,
    told: Option<Instant>,
}

impl Progress {
    pub(crate) fn new(duration: Duration) -> Self {
        Progress {
            duration,
            begun: Instant::now(),
            is_terminal: io::stderr().is_terminal(),
            told: None,
        }
    }

    /// A line, which takes the place of the last one where somebody watches.
    pub(crate) fn tell(&mut self, sample: &Sample, own: &Process, counts: &Counts) {
        let is_due = self.told.is_none_or(|told| told.elapsed() >= SELDOM);
        if !self.is_terminal && !is_due {
            return;
        }
        self.told = Some(Instant::now());
        let mib = |bytes: u64| bytes as f64 / (1024.0 * 1024.0);
        let process = &sample.process;
        let allocated = process.allocated_bytes.map_or(String::new(), |bytes| {
            format!(" ({:.1} allocated)", mib(bytes))
        });
        let line = format!(
            "{:>5} s of {} s: {:.1} MiB{allocated}, {} sessions ({} suspended), {} descriptors, {} tasks, {:.1} MiB queued, \
             {} connections, {} messages; clients {:.1} MiB, {} tasks; {}",
            self.begun.elapsed().as_secs(),
            self.duration.as_secs(),
            mib(process.resident_bytes),
            sample.sessions,
            sample.suspended,
            process.descriptors,
            process.tasks,
            mib(sample.queued_bytes),
            sample.connections,
            sample.messages,
            mib(own.resident_bytes),
            own.tasks,
            counts.faults_to_text(),
        );
        let mut stderr = io::stderr().lock();
        // Nobody has to see it.
        let _ = match self.is_terminal {
            true => write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush()),
            false => writeln!(stderr, "{line}"),
        };
    }

    pub(crate) fn end(&self) {
        if self.is_terminal {
            let _ = writeln!(io::stderr());
        }
    }
}

//! The measured part of a run: after the warm-up, for a given time.

use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use network_system_perf::report::Report;
use network_system_perf::sys;

use crate::peer::PATIENCE;

/// Longer latencies are recorded as this one, in nanoseconds.
const HIGHEST_LATENCY: u64 = 60_000_000_000;

pub(crate) struct Window {
    begin: Instant,
    length: Duration,
    /// The process whose CPU time is measured.
    pid: Option<u32>,
    /// The CPU time at the begin, once it has come.
    cpu_before: Option<u64>,
    messages: u64,
    lost: u64,
    latency: Histogram<u64>,
    /// When something was counted last, warm-up included.
    progress: Instant,
}

impl Window {
    /// A window of `seconds` which begins after `warmup` seconds.
    pub(crate) fn new(warmup: f64, seconds: f64, pid: Option<u32>) -> Self {
        let now = Instant::now();
        Self {
            begin: now + Duration::from_secs_f64(warmup),
            length: Duration::from_secs_f64(seconds),
            pid,
            cpu_before: None,
            messages: 0,
            lost: 0,
            latency: Histogram::new_with_bounds(1, HIGHEST_LATENCY, 3)
                .expect("the bounds are valid"),
            progress: now,
        }
    }

    /// Counts messages that were sent at `sent` and arrived at `now`.
    pub(crate) fn count(&mut self, messages: u64, sent: Instant, now: Instant) {
        self.progress = now;
        if self.cpu_before.is_some() {
            self.messages += messages;
            let nanos = now.duration_since(sent).as_nanos() as u64;
            self.latency.saturating_record_n(nanos.max(1), messages);
        }
    }

    /// Counts messages whose answer never came.
    pub(crate) fn lose(&mut self, messages: u64) {
        if self.cpu_before.is_some() {
            self.lost += messages;
        }
    }

    /// Opens the window when its time has come, and gives the report when it is
    /// over. To be called now and then, between the counts.
    pub(crate) fn check(&mut self) -> io::Result<Option<Report>> {
        let now = Instant::now();
        let Some(cpu_before) = self.cpu_before else {
            if now >= self.begin {
                self.cpu_before = Some(self.cpu()?);
                self.begin = Instant::now();
            }
            return self.check_progress(now).map(|()| None);
        };
        if now < self.begin + self.length {
            return self.check_progress(now).map(|()| None);
        }
        self.finish(cpu_before).map(Some)
    }

    /// A window over everything from now on; ended by [`Window::close`].
    pub(crate) fn open(pid: Option<u32>) -> io::Result<Self> {
        let mut window = Self::new(0.0, f64::from(u16::MAX), pid);
        window.check()?;
        Ok(window)
    }

    /// Ends the window before its time.
    pub(crate) fn close(&self) -> io::Result<Report> {
        self.finish(self.cpu_before.unwrap_or(0))
    }

    fn finish(&self, cpu_before: u64) -> io::Result<Report> {
        let cpu = self.cpu()? - cpu_before;
        let seconds = self.begin.elapsed().as_secs_f64();
        Ok(Report {
            lost: self.lost as f64,
            ..Report::new(seconds, self.messages, cpu, &self.latency)
        })
    }

    fn cpu(&self) -> io::Result<u64> {
        self.pid.map_or(Ok(0), sys::process_cpu_ns)
    }

    fn check_progress(&self, now: Instant) -> io::Result<()> {
        if now.duration_since(self.progress) > PATIENCE {
            return Err(io::Error::other("the server did not answer"));
        }
        Ok(())
    }
}

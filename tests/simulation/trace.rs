//! What happened, as a number: two runs of one seed are the same when these numbers are.

use std::fmt::Write;

use tokio::time::Instant;

/// The longest text of a trace that is kept, in lines.
const MOST_LINES: usize = 200_000;

/// How many operations a run may take. Virtual time costs nothing, but a run in which it stands still would not end.
const MOST_EVENTS: u64 = 3_000_000;

pub struct Trace {
    began: Instant,
    hash: u64,
    events: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    pub fn new(keep_lines: bool) -> Self {
        Trace {
            began: Instant::now(),
            hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
            lines: keep_lines.then(Vec::new),
        }
    }

    /// Notes one event with the numbers that belong to it.
    pub fn note(&mut self, what: &'static str, numbers: &[u64]) {
        let micros = self.began.elapsed().as_micros() as u64;
        self.events += 1;
        assert!(
            self.events < MOST_EVENTS,
            "the simulation does not come to an end: {what} {numbers:?} at {micros} µs"
        );
        for &byte in what.as_bytes() {
            self.mix(u64::from(byte));
        }
        self.mix(micros);
        for &number in numbers {
            self.mix(number);
        }
        let Some(lines) = &mut self.lines else { return };
        if lines.len() < MOST_LINES {
            let mut line = format!("{:>12.3} ms  {what}", micros as f64 / 1000.0);
            for number in numbers {
                let _ = write!(line, " {number}");
            }
            lines.push(line);
        }
    }

    fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number)
            .wrapping_mul(0x0000_0100_0000_01b3)
            .rotate_left(23);
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn events(&self) -> u64 {
        self.events
    }

    pub fn take_lines(&mut self) -> Vec<String> {
        self.lines.take().unwrap_or_default()
    }
}

//! What was sent and what arrived, and whether that is what was promised.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use crate::random::Random;

/// A message of the simulation: what kind, whose, which one, and bytes that follow from these.
pub struct Tag {
    pub kind: u8,
    pub of: u64,
    pub number: u32,
}

/// Messages from a client.
pub const UP: u8 = b'u';
/// Messages from the server.
pub const DOWN: u8 = b'd';
/// Requests of a client.
pub const REQUEST: u8 = b'r';
/// Requests of the server.
pub const ASK: u8 = b'a';
/// The last request, whose answer says that all before has been handled.
pub const FLUSH: u8 = b'f';

const HEAD: usize = 13;

/// Bytes that no message has in another place.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::new(0);
    let bytes = std::iter::repeat_with(|| random.next().to_be_bytes());
    bytes.take(8_192).flatten().collect()
});

impl Tag {
    pub fn message(&self, len: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + len as usize);
        bytes.push(self.kind);
        bytes.extend(self.of.to_be_bytes());
        bytes.extend(self.number.to_be_bytes());
        // Half of the messages can be compressed.
        let from = self.number as usize * 7 % 256;
        match self.number % 2 {
            0 => bytes.resize(HEAD + len as usize, self.number as u8),
            _ => bytes.extend_from_slice(&NOISE[from..from + len as usize]),
        }
        bytes
    }

    /// Reads a message, every byte of it.
    pub fn of(message: &[u8]) -> Result<Tag, String> {
        let broken = || format!("a message of {} bytes that nobody sent", message.len());
        if message.len() < HEAD {
            return Err(broken());
        }
        let tag = Tag {
            kind: message[0],
            of: u64::from_be_bytes(message[1..9].try_into().map_err(|_| broken())?),
            number: u32::from_be_bytes(message[9..13].try_into().map_err(|_| broken())?),
        };
        match tag.message((message.len() - HEAD) as u64) == message {
            true => Ok(tag),
            false => Err(broken()),
        }
    }
}

/// Messages of one sender to one receiver, which may have gone over several sessions.
#[derive(Debug, Default)]
pub struct Flow {
    /// Numbers of the messages that were taken, in order.
    accepted: Vec<u32>,
    /// Of those that were given back.
    refused: BTreeSet<u32>,
    /// What was handled, with the session on which it came.
    handled: Vec<(u64, u32)>,
    /// What each session said in the end that it does not know the fate of.
    reported: Vec<Vec<u32>>,
}

impl Flow {
    pub fn accept(&mut self, number: u32) {
        self.accepted.push(number);
    }

    pub fn refuse(&mut self, number: u32) {
        self.refused.insert(number);
    }

    pub fn handle(&mut self, session: u64, number: u32) {
        self.handled.push((session, number));
    }

    pub fn report(&mut self, numbers: Vec<u32>) {
        self.reported.push(numbers);
    }

    pub fn handled(&self) -> usize {
        self.handled.len()
    }

    /// How many were sent and never handled.
    pub fn lost(&self) -> usize {
        self.accepted.len() - self.handled.len().min(self.accepted.len())
    }

    /// Every promise that was broken.
    pub fn check(&self, name: &str, is_reliable: bool, faults: &mut Vec<String>) {
        let place: BTreeMap<u32, usize> = self
            .accepted
            .iter()
            .enumerate()
            .map(|(place, &number)| (number, place))
            .collect();
        // Handlers of two sessions run side by side: there is an order within each.
        let mut last_of: BTreeMap<u64, usize> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for &(session, number) in &self.handled {
            if self.refused.contains(&number) {
                faults.push(format!("{name}: {number} was given back, and arrived"));
            }
            let Some(&at) = place.get(&number) else {
                if !self.refused.contains(&number) {
                    faults.push(format!("{name}: {number} was never sent, and arrived"));
                }
                continue;
            };
            if !seen.insert(number) {
                faults.push(format!(
                    "{name}: {number} arrived twice, now on session {session:x}"
                ));
            }
            match last_of.insert(session, at) {
                Some(last) if at <= last => {
                    faults.push(format!("{name}: {number} arrived behind a later one"));
                }
                Some(last) if at != last + 1 => {
                    let missing = at - last - 1;
                    faults.push(format!(
                        "{name}: {missing} before {number} are missing in the middle of session {session:x}"
                    ));
                }
                _ => {}
            }
        }
        if !is_reliable {
            return;
        }
        let reported: BTreeSet<u32> = self.reported.iter().flatten().copied().collect();
        let lost: Vec<u32> = self
            .accepted
            .iter()
            .copied()
            .filter(|number| !seen.contains(number) && !reported.contains(number))
            .collect();
        if !lost.is_empty() {
            faults.push(format!(
                "{name}: {} of {} were lost without a word: {:?}; reported: {:?}",
                lost.len(),
                self.accepted.len(),
                &lost[..lost.len().min(10)],
                self.reported,
            ));
        }
        for report in &self.reported {
            let places: Vec<_> = report.iter().map(|number| place.get(number)).collect();
            let in_order = places.windows(2).all(|pair| match pair {
                [Some(first), Some(second)] => *first + 1 == **second,
                _ => false,
            });
            if !in_order || places.contains(&None) {
                faults.push(format!(
                    "{name}: reported as unacknowledged, not as sent: {report:?}"
                ));
            }
        }
    }
}

/// What became of requests.
#[derive(Debug, Default)]
pub struct Requests {
    asked: u32,
    executions: BTreeMap<u32, u32>,
    answered: BTreeSet<u32>,
}

impl Requests {
    pub fn ask(&mut self) {
        self.asked += 1;
    }

    /// How many got no answer.
    pub fn unanswered(&self) -> usize {
        self.asked as usize - self.answered.len()
    }

    pub fn execute(&mut self, number: u32) {
        *self.executions.entry(number).or_default() += 1;
    }

    pub fn answer(&mut self, number: u32) {
        self.answered.insert(number);
    }

    pub fn answered(&self) -> usize {
        self.answered.len()
    }

    pub fn check(&self, name: &str, faults: &mut Vec<String>) {
        for (number, &count) in &self.executions {
            if count > 1 {
                faults.push(format!(
                    "{name}: request {number} was executed {count} times"
                ));
            }
        }
        for number in &self.answered {
            if !self.executions.contains_key(number) {
                faults.push(format!(
                    "{name}: request {number} was answered, never executed"
                ));
            }
        }
    }
}

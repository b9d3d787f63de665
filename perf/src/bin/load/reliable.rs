//! The client's side of a reliable session: hello asks for one, and what arrives is acknowledged.

use std::io::{self, Write};

use network_system_perf::frame::{self, HEADER_LEN};

use crate::stream::Stream;

/// Bytes that are sent and not acknowledged, as hello and the server's default have it.
const WINDOW: usize = 1024 * 1024;
/// The most bytes that may be outstanding: the server acknowledges a quarter of the window late.
pub(crate) const MAX_OUTSTANDING: usize = WINDOW / 2;
/// Messages after which the library acknowledges, too.
const ACK_MESSAGES: u64 = 256;
/// Bytes after which it does.
const ACK_BYTES: u64 = WINDOW as u64 / 4;
/// The longest welcome.
const MAX_WELCOME_LEN: usize = 64 * 1024;

/// What is to be acknowledged on a connection.
pub(crate) struct Acks {
    /// Messages that came on the session.
    received: u64,
    /// What the last acknowledgement said.
    said: u64,
    /// So many messages are acknowledged at a time.
    every: u64,
    /// An acknowledgement that is not completely written.
    unsent: Vec<u8>,
}

impl Acks {
    /// Acknowledgements of messages of `size` bytes.
    pub(crate) fn new(size: usize) -> Self {
        Self {
            received: 0,
            said: 0,
            every: (ACK_BYTES / size as u64).clamp(1, ACK_MESSAGES),
            unsent: Vec::new(),
        }
    }

    /// Counts messages that came.
    pub(crate) fn count(&mut self, messages: u64) {
        self.received += messages;
    }

    /// The acknowledgement that is due, or the rest of one, to be written between frames. What was written is
    /// taken off its front.
    pub(crate) fn due(&mut self) -> &mut Vec<u8> {
        if self.unsent.is_empty() && self.received - self.said >= self.every {
            self.said = self.received;
            self.unsent = control(&format!(r#"{{"op":"ack","received":{}}}"#, self.said));
        }
        &mut self.unsent
    }
}

/// Asks for a reliable session on a blocking stream.
pub(crate) fn open(stream: &mut Stream) -> io::Result<()> {
    let hello = format!(r#"{{"op":"hello","version":1,"reliable":true,"window":{WINDOW}}}"#);
    stream.write_all(&control(&hello))?;
    stream.flush()?;
    let mut welcome = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        stream.read(&mut buffer, |bytes| {
            welcome.extend_from_slice(bytes);
            Ok(())
        })?;
        if let Some(header) = welcome.first_chunk() {
            let (kind, length) = frame::parse_header(header).map_err(io::Error::other)?;
            if length > MAX_WELCOME_LEN {
                return Err(io::Error::other("the server's welcome is too long"));
            }
            if let Some(payload) = welcome.get(HEADER_LEN..length) {
                return check(kind, payload);
            }
        }
    }
}

fn check(kind: u16, payload: &[u8]) -> io::Result<()> {
    let welcome: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
    match kind == frame::CONTROL && welcome["reliable"] == true {
        true => Ok(()),
        false => Err(io::Error::other("the server has no reliable sessions")),
    }
}

fn control(json: &str) -> Vec<u8> {
    [
        &frame::header(frame::CONTROL, json.len())[..],
        json.as_bytes(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_acknowledged_in_batches_that_fit_the_window() {
        for (size, every) in [(8, 256), (64, 256), (64 * 1024, 4), (1 << 20, 1)] {
            let mut acks = Acks::new(size);
            acks.count(every - 1);
            assert!(acks.due().is_empty(), "{size}");
            acks.count(1);
            let ack = format!(r#"{{"op":"ack","received":{every}}}"#);
            assert_eq!(*acks.due(), control(&ack), "{size}");
            // The rest of it is due until it is written.
            acks.due().drain(..3);
            assert_eq!(*acks.due(), control(&ack)[3..], "{size}");
            acks.due().clear();
            assert!(acks.due().is_empty(), "{size}");
        }
    }

    #[test]
    fn only_a_welcome_to_a_reliable_session_is_one() {
        let ok = |kind, text: &str| check(kind, text.as_bytes()).is_ok();
        assert!(ok(frame::CONTROL, r#"{"op":"welcome","reliable":true}"#));
        assert!(!ok(frame::CONTROL, r#"{"op":"welcome","reliable":false}"#));
        assert!(!ok(frame::DATA, r#"{"op":"welcome","reliable":true}"#));
        assert!(!ok(frame::CONTROL, "no JSON"));
    }
}

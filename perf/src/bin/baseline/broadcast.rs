//! `epoll-broadcast`: sends every message to all connections but its sender,
//! by a plain loop of writes: one for each connection and read, however many
//! messages the read brought.

use network_system_perf::frame::{self, HEADER_LEN, Malformed};

use crate::server::{Connections, Service};

#[derive(Default)]
pub(crate) struct Broadcast {
    messages: Vec<u8>,
    pongs: Vec<u8>,
}

impl Service for Broadcast {
    fn received(
        &mut self,
        connections: &mut Connections,
        from: usize,
        bytes: &[u8],
    ) -> Result<(), Malformed> {
        let mut partial = connections.take_partial(from);
        let result = frame::split(&mut partial, bytes, |kind, frame| match kind {
            frame::DATA => self.messages.extend_from_slice(frame),
            frame::PING => {
                let payload = &frame[HEADER_LEN..];
                self.pongs
                    .extend_from_slice(&frame::header(frame::PONG, payload.len()));
                self.pongs.extend_from_slice(payload);
            }
            _ => {}
        });
        connections.put_partial(from, partial);
        if !self.pongs.is_empty() {
            connections.send(from, &self.pongs);
            self.pongs.clear();
        }
        if !self.messages.is_empty() {
            connections.send_to_others(from, &self.messages);
            self.messages.clear();
        }
        result
    }
}

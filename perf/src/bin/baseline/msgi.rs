//! `epoll-msgi`: parses frames, copies each message into one answer for all
//! that a read brought, and writes that answer with one call.

use network_system_perf::frame::{self, Malformed};

use crate::server::{Connections, Service};

#[derive(Default)]
pub(crate) struct Echo {
    answer: Vec<u8>,
}

impl Service for Echo {
    fn received(
        &mut self,
        connections: &mut Connections,
        from: usize,
        bytes: &[u8],
    ) -> Result<(), Malformed> {
        let mut partial = connections.take_partial(from);
        let result = frame::split(&mut partial, bytes, |kind, frame| {
            if kind == frame::DATA {
                self.answer.extend_from_slice(frame);
            }
        });
        connections.put_partial(from, partial);
        if !self.answer.is_empty() {
            connections.send(from, &self.answer);
            self.answer.clear();
        }
        result
    }
}

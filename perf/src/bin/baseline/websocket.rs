//! `epoll-ws`: parses WebSocket frames, copies each unmasked into one answer
//! for all that a read brought, and writes that answer with one call.
//!
//! It does what an echo needs and no more: it does not look at the upgrade
//! request but for its key, knows no limits but one of length, and takes what is in
//! text for granted.

use network_system_perf::frame::Malformed;
use network_system_perf::websocket::{self, CLOSE, FINAL, Header, PING, PONG};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::server::{Connections, Service};

/// The longest upgrade request.
const MAX_REQUEST_LEN: usize = 8192;

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
        let result = if connections.is_upgraded(from) {
            self.frames(&mut partial, bytes)
        } else {
            partial.extend_from_slice(bytes);
            self.request(connections, from, &mut partial)
        };
        connections.put_partial(from, partial);
        if !self.answer.is_empty() {
            connections.send(from, &self.answer);
            self.answer.clear();
        }
        result
    }
}

impl Echo {
    fn frames(&mut self, partial: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Malformed> {
        let mut closed = false;
        websocket::split(partial, bytes, |header, payload| {
            match header.opcode() {
                _ if closed || header.mask.is_none() => closed = true,
                PING => self.put(&header, FINAL | PONG, payload),
                PONG => {}
                opcode => {
                    self.put(&header, header.first, payload);
                    closed = opcode == CLOSE;
                }
            };
        })?;
        if closed { Err(Malformed) } else { Ok(()) }
    }

    fn put(&mut self, header: &Header, first: u8, payload: &[u8]) {
        websocket::put_header(&mut self.answer, first, payload.len(), None);
        let from = self.answer.len();
        self.answer.extend_from_slice(payload);
        websocket::mask(&mut self.answer[from..], header.mask.unwrap_or_default());
    }

    /// Answers the upgrade request once it is whole; then come frames.
    fn request(
        &mut self,
        connections: &mut Connections,
        from: usize,
        partial: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        let Some(end) = partial.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            return if partial.len() > MAX_REQUEST_LEN {
                Err(Malformed)
            } else {
                Ok(())
            };
        };
        let rest = partial.split_off(end + 4);
        let request = std::mem::take(partial);
        let key = str::from_utf8(&request)
            .ok()
            .and_then(|request| {
                request.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("sec-websocket-key")
                        .then_some(value.trim())
                })
            })
            .ok_or(Malformed)?;
        self.answer.extend_from_slice(
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: {}\r\n\r\n",
                derive_accept_key(key.as_bytes())
            )
            .as_bytes(),
        );
        connections.set_upgraded(from);
        self.frames(partial, &rest)
    }
}

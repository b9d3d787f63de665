//! `epoll-bytes`: sends every byte back as it is. This is the limit of what a
//! server on sockets can do.

use network_system_perf::frame::Malformed;

use crate::server::{Connections, Service};

pub(crate) struct Echo;

impl Service for Echo {
    fn received(
        &mut self,
        connections: &mut Connections,
        from: usize,
        bytes: &[u8],
    ) -> Result<(), Malformed> {
        connections.send(from, bytes);
        Ok(())
    }
}

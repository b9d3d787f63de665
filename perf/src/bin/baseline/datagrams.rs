//! `mmsg-udp`: receives as many datagrams as there are with one call, and
//! sends them back with one call.

use std::io::{self, ErrorKind};
use std::net::UdpSocket;

use network_system_perf::sys::{self, Datagrams, Wait};

/// How many datagrams a call takes.
const BATCH: usize = 64;
/// No datagram is longer.
const MAX_DATAGRAM_LEN: usize = 65_536;
/// What all peers together may have under way; the kernel counts some 2 KiB
/// for a datagram of 1 KiB.
const RECEIVE_BUFFER: u32 = 4 * 1024 * 1024;

pub(crate) fn run(socket: &UdpSocket) -> io::Result<()> {
    sys::set_receive_buffer(socket, RECEIVE_BUFFER)?;
    let mut datagrams = Datagrams::new(BATCH, MAX_DATAGRAM_LEN);
    loop {
        match datagrams
            .receive(socket, Wait::ForOne)
            .and_then(|count| datagrams.send_back(socket, count))
        {
            // A peer that has gone concerns nobody else.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => result?,
        }
    }
}

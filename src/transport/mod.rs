//! The only place that names sockets. Each transport is a small adapter that makes links.

#![allow(clippy::disallowed_types, reason = "sockets belong here")]

pub(crate) mod dial;
pub(crate) mod happy_eyeballs;
pub(crate) mod memory;
pub(crate) mod stream;
pub(crate) mod tcp;
pub(crate) mod udp;
#[cfg_attr(not(unix), path = "unix_missing.rs")]
pub(crate) mod unix;

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use crate::config::SocketOptions;
use crate::session::link::Link;
use crate::session::shared::PeerInfo;

/// A connection that was accepted.
pub(crate) struct Incoming {
    pub(crate) link: Box<dyn Link>,
    pub(crate) peer: PeerInfo,
}

/// Accepts connections of one transport.
pub(crate) trait Listener: Send {
    /// Accepts the next connection.
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Incoming>>;

    /// The URL at which it can be reached, with the real port.
    fn url(&self) -> String;

    /// The address, when the transport has addresses.
    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// Whether it limits by itself how many connections there are at a time.
    fn has_own_limit(&self) -> bool {
        false
    }

    /// No more connections are wanted. Does for those that there are what only the listener can do, until
    /// they have ended.
    fn poll_finish(&mut self, _context: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// What a transport needs to know to make links.
#[derive(Clone, Debug)]
pub(crate) struct LinkConfig {
    /// The longest message, in bytes.
    pub(crate) message_limit: usize,
    pub(crate) socket: SocketOptions,
    pub(crate) udp: udp::UdpConfig,
}

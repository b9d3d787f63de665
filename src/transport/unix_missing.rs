//! In place of Unix sockets, on platforms without them.

use std::io;
use std::path::Path;

use super::layers::Dialing;
use super::{LinkConfig, ServerOptions, tcp::Tcp};
use crate::endpoint::Endpoint;
use crate::session::link::Link;
use crate::session::shared::PeerInfo;

/// Whether this platform has Unix sockets.
pub(crate) const AVAILABLE: bool = false;

/// Never made here.
pub(crate) struct Unix;

impl Unix {
    /// Always fails; the type is only there to have one.
    pub(crate) fn bind(
        _: &Path,
        _: &Endpoint,
        _: LinkConfig,
        _: &ServerOptions,
    ) -> io::Result<Tcp> {
        Err(missing())
    }
}

/// Always fails.
pub(crate) async fn connect(
    _: &Path,
    _: &Dialing,
    _: &LinkConfig,
) -> io::Result<(Box<dyn Link>, PeerInfo)> {
    Err(missing())
}

fn missing() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "this platform has no Unix sockets",
    )
}

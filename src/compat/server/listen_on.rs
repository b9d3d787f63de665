//! Where a classic server listens.

use crate::compat::config::ServerConfig;

/// Where [`classic_server::start_server`](super::classic_server::start_server) listens: `()` for what the
/// configuration says, a port, an address and a port, or a whole configuration for this start. Port 0
/// takes a free one; [`classic_server::port`](super::classic_server::port) says which.
///
/// A WebSocket server also takes a port and a path: `(8080, "/chat")`.
pub trait ListenOn<C> {
    /// Says it to the configuration of this start.
    #[doc(hidden)]
    fn apply(self, config: &mut C);
}

impl<C: ServerConfig> ListenOn<C> for () {
    fn apply(self, _config: &mut C) {}
}

impl<C: ServerConfig> ListenOn<C> for u16 {
    fn apply(self, config: &mut C) {
        *config.place_mut().1 = self;
    }
}

impl<C: ServerConfig> ListenOn<C> for (&str, u16) {
    fn apply(self, config: &mut C) {
        (self.0.to_owned(), self.1).apply(config);
    }
}

impl<C: ServerConfig> ListenOn<C> for (String, u16) {
    fn apply(self, config: &mut C) {
        let (address, port) = config.place_mut();
        (*address, *port) = self;
    }
}

impl<C: ServerConfig> ListenOn<C> for C {
    fn apply(self, config: &mut C) {
        *config = self;
    }
}

//! How a bridge is set up.

use std::time::Duration;

use super::keys_missing;
use crate::compat::config::{client_config, refuse, server_config};
use crate::compat::result::{Result, VoidResult};
use crate::config::{SocketOptions, Timeouts};
use crate::error::ErrorCode;
use crate::pipeline::{Compression, Encryption, Keys, MessageLog, Pipeline};

/// As many as a native pool may have.
const CONNECTIONS_MAX: usize = 65_536;

/// How a [`messaging_bridge`](super::messaging_bridge) is set up. The defaults are the classic ones.
///
/// Every field is obeyed, or refused by [`set_config`](super::messaging_bridge::set_config). A field of a
/// server's or client's own configuration that is not at its default comes before the bridge's.
///
/// ```
/// use network_system::compat::{bridge_config, messaging_bridge};
///
/// let bridge = messaging_bridge::new("main");
/// let mut config = bridge_config::default();
/// config.enable_compression = true;
/// bridge.set_config(config)?;
/// # Ok::<(), network_system::compat::error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct bridge_config {
    /// Whether [`get_metrics`](super::messaging_bridge::get_metrics) counts. Default on.
    pub enable_performance_monitoring: bool,
    /// Whether each message is logged, at level info, with session, direction and length, without its
    /// content. Default off.
    pub enable_message_logging: bool,
    /// Whether pools of clients ([`create_client_pool`](super::messaging_bridge::create_client_pool)) keep
    /// connections for the next one who needs one. Off: each `acquire` connects, and each `release` disconnects.
    /// Default on. A single client has one connection in either case: its messages keep their order, and the server
    /// knows it as one session.
    pub enable_connection_pooling: bool,
    /// How many connections such a pool has at most, at least 1. Default 10.
    pub max_connections_per_client: usize,
    /// A client's connection is made, its opening included, within this time. Default 30 s.
    pub connection_timeout: Duration,
    /// How long sending waits for room before it fails with `queue_full`, and a native request for its
    /// answer where the call names no time. Default 5 s.
    pub message_timeout: Duration,
    /// Bytes of the system's buffers of each connection, for each direction. 0 and the classic default, 8192,
    /// leave it to the system, which does better; other values are obeyed.
    pub message_buffer_size: usize,
    /// Whether LZ4 is offered to peers, and used with those that have it. Needs the codec MSGI. Default off.
    pub enable_compression: bool,
    /// Whether messages are encrypted (AES-256-GCM, or ChaCha20-Poly1305 where the server prefers it); peers
    /// that cannot are refused. Needs keys, set before with
    /// [`set_encryption_keys`](super::messaging_bridge::set_encryption_keys), and the codec MSGI. Default off.
    pub enable_encryption: bool,
}

impl Default for bridge_config {
    fn default() -> Self {
        bridge_config {
            enable_performance_monitoring: true,
            enable_message_logging: false,
            enable_connection_pooling: true,
            max_connections_per_client: 10,
            connection_timeout: Duration::from_secs(30),
            message_timeout: Duration::from_secs(5),
            message_buffer_size: 8192,
            enable_compression: false,
            enable_encryption: false,
        }
    }
}

impl bridge_config {
    fn check(&self) -> VoidResult {
        if !(1..=CONNECTIONS_MAX).contains(&self.max_connections_per_client) {
            let text = "has to be 1 to 65,536";
            let field = "max_connections_per_client";
            return Err(refuse(ErrorCode::InvalidConfiguration, field, text));
        }
        for (field, value) in [
            ("connection_timeout", self.connection_timeout),
            ("message_timeout", self.message_timeout),
        ] {
            let timeouts = Timeouts {
                connect: value,
                ..Timeouts::default()
            };
            if timeouts.check().is_err() {
                let text = "has to be above zero, and at most a year";
                return Err(refuse(ErrorCode::InvalidConfiguration, field, text));
            }
        }
        let socket = SocketOptions {
            receive_buffer_size: self.message_buffer_size,
            ..SocketOptions::default()
        };
        if socket.check().is_err() {
            let text = "has to be at most 1 GiB";
            let field = "message_buffer_size";
            return Err(refuse(ErrorCode::InvalidConfiguration, field, text));
        }
        Ok(())
    }
}

/// A checked configuration, and what it makes.
#[derive(Clone, Default)]
pub(super) struct Settings {
    pub(super) config: bridge_config,
    pub(super) pipeline: Option<Pipeline>,
}

impl Settings {
    pub(super) fn new(config: bridge_config, keys: Option<&Keys>) -> Result<Self> {
        config.check()?;
        let mut pipeline = Pipeline::builder();
        if config.enable_message_logging {
            pipeline = pipeline.offer(MessageLog::new(tracing::Level::INFO));
        }
        if config.enable_compression {
            pipeline = pipeline.offer(Compression::lz4());
        }
        if config.enable_encryption {
            let keys = keys.ok_or_else(keys_missing)?;
            // One of a kind suffices.
            pipeline = pipeline
                .require(Encryption::aes_256_gcm(keys))
                .require(Encryption::chacha20_poly1305(keys));
        }
        let pipeline = pipeline.build()?;
        Ok(Settings {
            pipeline: (!pipeline.is_empty()).then_some(pipeline),
            config,
        })
    }

    /// Which stages peers have to be asked about.
    pub(super) fn negotiated(&self) -> Option<&'static str> {
        match (
            self.config.enable_compression,
            self.config.enable_encryption,
        ) {
            (true, _) => Some("enable_compression"),
            (false, true) => Some("enable_encryption"),
            (false, false) => None,
        }
    }

    /// What a server is told where its own configuration says nothing else.
    pub(super) fn for_server(&self, mut config: server_config) -> server_config {
        let unset = server_config::default();
        self.buffer(&mut config.receive_buffer_size, unset.receive_buffer_size);
        self.buffer(&mut config.send_buffer_size, unset.send_buffer_size);
        config
    }

    /// What a client is told where its own configuration says nothing else.
    pub(super) fn for_client(&self, mut config: client_config) -> client_config {
        let unset = client_config::default();
        self.buffer(&mut config.receive_buffer_size, unset.receive_buffer_size);
        self.buffer(&mut config.send_buffer_size, unset.send_buffer_size);
        if config.connection_timeout == unset.connection_timeout {
            config.connection_timeout = self.config.connection_timeout;
        }
        config
    }

    fn buffer(&self, size: &mut usize, unset: usize) {
        if *size == unset {
            *size = self.config.message_buffer_size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_member_says_itself_comes_before_the_bridge() {
        let config = bridge_config {
            connection_timeout: Duration::from_secs(7),
            message_buffer_size: 65_536,
            ..bridge_config::default()
        };
        let settings = Settings::new(config, None).expect("it is valid");

        let client = settings.for_client(client_config::default());
        assert_eq!(client.connection_timeout, Duration::from_secs(7));
        assert_eq!(
            (client.receive_buffer_size, client.send_buffer_size),
            (65_536, 65_536)
        );
        let own = client_config {
            connection_timeout: Duration::from_secs(2),
            send_buffer_size: 4_096,
            ..client_config::default()
        };
        let client = settings.for_client(own);
        assert_eq!(client.connection_timeout, Duration::from_secs(2));
        assert_eq!(
            (client.receive_buffer_size, client.send_buffer_size),
            (65_536, 4_096)
        );
        let server = settings.for_server(server_config::default());
        assert_eq!(
            (server.receive_buffer_size, server.send_buffer_size),
            (65_536, 65_536)
        );
    }
}

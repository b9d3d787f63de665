//! The classic names of the C++ `network_system`: blocking, with callbacks, for programs that have no
//! runtime.
//!
//! The C++ library shows its API in three generations; all three are here, on top of
//! [`Server`](crate::Server), [`Client`](crate::Client) and [`Session`](crate::Session).
//!
//! | generation | looks like |
//! |---|---|
//! | first | [`messaging_server`], `start_server(port)`, `set_message_handler`, [`messaging_client`], `start_client(host, port)`, `send_message` |
//! | second | the same, with [`VoidResult`], `send_packet`, `on_receive`, `on_error`, `wait_for_stop` on the client |
//! | third | [`MessagingServer`]`(host, port, pool)`, `on_client_connected`, `on_message_received`, `send(session_id, data)`; [`MessagingClient`]`(host, port)`, `connect`, `enable_auto_reconnect` |
//!
//! The same classes are there for the other transports: [`secure_messaging_server`], [`messaging_ws_server`]
//! and [`messaging_udp_server`], each with its client and its configuration. A server is the same
//! [`classic_server`] on each, and a session the same [`messaging_session`].
//!
//! Where C++ has overloads, one function takes either: `start_server(())`, `start_server(8080)`,
//! `start_server(("127.0.0.1", 8080))`, `start_server(config)`. Where C++ returns `bool`, and where it
//! returns `void` from something that can fail, this returns a [`VoidResult`]:
//! `if server.start_server(8080).is_ok()`.
//!
//! A classic string is bytes: what is sent is anything that is `AsRef<[u8]>`, what arrives is `&[u8]`.
//! Text that names something (ids, groups, hosts, reasons) is `str`.
//!
//! # Blocking
//!
//! Every function can be called on every thread: a plain one, one of the application's own runtime (which
//! it blocks meanwhile), and in callbacks. The network runs on a few threads of its own, which are
//! started on first use and shared by all servers and clients of the process.
//!
//! # Callbacks
//!
//! Callbacks of one session run one at a time, in the order in which things happened; those of different
//! sessions run side by side, at most 512 at a time in the process. Error and state-change callbacks are
//! the exception: they run beside the others, in their own order.
//!
//! A callback may block. It holds up its own session only: what was sent still leaves, heartbeats are
//! still answered, and once 64 KiB of messages wait, the session stops reading, so that back-pressure
//! reaches the peer. A callback may call everything, `stop_server` and `stop_client` included. One
//! thing cannot work: to wait for another thread that stops the callback's own server; that lasts until
//! the stop cuts the callback's session off.
//!
//! A callback that panics ends its session and no other.
//!
//! The price is that what was read is handed to another thread: some ten microseconds for a message that
//! comes alone. What is read together is handed over together, so under load a message costs a small part
//! of that. Handlers of the native API run where messages are read, and take none of it.
//!
//! # Logging
//!
//! Events go to the logger of [`set_global_logger`], or to the program's subscriber of `tracing`; before one of
//! them is set, nowhere. By default a server listens on `0.0.0.0`, as the classic one does; it says so
//! with a warning. The rest of the library listens on loopback unless told otherwise.
//!
#![doc = include_str!("../../docs/classic-api.md")]
// The classic names are the point of this module.
#![allow(non_camel_case_types)]

use std::sync::Arc;

mod architecture;
mod bridge;
mod callback;
mod client;
mod config;
mod container;
mod handlers;
mod logger;
mod manager;
mod memory;
mod pipeline;
mod pooling;
mod result;
mod runtime;
mod secure;
mod server;
mod session;
mod thread_pool;
mod udp;
pub mod utils;
mod websocket;

pub use self::architecture::{MessagingClient, MessagingServer, session_id};
pub use self::bridge::{OrDefault, bridge_config, messaging_bridge, performance_metrics};
pub use self::callback::{Task, thread_pool_interface};
pub use self::client::{classic_client, messaging_client};
pub use self::config::{ClientConfig, ServerConfig, client_config, server_config};
pub use self::container::{container_system, value_container, value_factory, value_types};
pub use self::logger::{
    basic_logger, log_level, logger_interface, logger_system_adapter, set_global_logger,
};
pub use self::manager::session_manager;
pub use self::memory::{get_memory_profiler, memory_profiler, memory_statistics};
pub use self::pipeline::{Filtered, Pipeline, WriteTo, authenticated_message, message_pipeline};
pub use self::pooling::client_pool;
pub use self::result::{Result, ResultExt, VoidResult, error, error_codes, error_void, ok};
pub use self::secure::{
    secure_client_config, secure_messaging_client, secure_messaging_server, secure_server_config,
    secure_session,
};
pub use self::server::{ListenOn, classic_server, messaging_server, server_statistics};
pub use self::session::{messaging_session, session_state, session_statistics};
pub use self::thread_pool::basic_thread_pool;
pub use self::udp::{
    messaging_udp_client, messaging_udp_server, udp_client_config, udp_server_config,
};
pub use self::utils::performance_monitor;
pub use self::websocket::{
    ConnectTo, messaging_ws_client, messaging_ws_server, ws_client_config, ws_close_code,
    ws_connection, ws_message, ws_server_config, ws_session_manager,
};
pub use crate::endpoint::CodecKind;

/// A session of a [`MessagingServer`], by the name of the third generation.
pub type MessagingSession = messaging_session;

/// A set of sessions, by the name of the third generation.
pub type SessionManager = session_manager;

/// A bridge, by a name in the style of the third generation.
pub type MessagingBridge = messaging_bridge;

/// A server over TLS, by a name in the style of the third generation.
pub type SecureMessagingServer = secure_messaging_server;

/// A client over TLS, by a name in the style of the third generation.
pub type SecureMessagingClient = secure_messaging_client;

/// A session over TLS, by a name in the style of the third generation.
pub type SecureSession = secure_session;

/// A server over WebSocket, by a name in the style of the third generation.
pub type MessagingWsServer = messaging_ws_server;

/// A client over WebSocket, by a name in the style of the third generation.
pub type MessagingWsClient = messaging_ws_client;

/// A set of WebSocket connections, by a name in the style of the third generation.
pub type WsSessionManager = ws_session_manager;

/// A server over UDP, by a name in the style of the third generation.
pub type MessagingUdpServer = messaging_udp_server;

/// A client over UDP, by a name in the style of the third generation.
pub type MessagingUdpClient = messaging_udp_client;

/// Makes a server that can be shared.
pub fn make_messaging_server(server_id: impl Into<String>) -> Arc<messaging_server> {
    Arc::new(messaging_server::new(server_id))
}

/// Makes a client that can be shared.
pub fn make_messaging_client(client_id: impl Into<String>) -> Arc<messaging_client> {
    Arc::new(messaging_client::new(client_id))
}

/// The namespace of the classic containers, as the oldest programs know it.
pub use self::container_system as container_module;

/// The namespace in which the classic documents have the bridge, and the classic names beside it.
pub mod integration {
    pub use super::messaging_bridge;

    /// The classic names.
    pub mod compat {
        pub use super::super::{
            make_messaging_client, make_messaging_server, messaging_client, messaging_server,
            messaging_session, network_module,
        };
    }
}

/// The namespace of the oldest programs.
pub mod network_module {
    use std::sync::Arc;

    pub use super::{
        bridge_config, client_config, messaging_bridge, messaging_client, messaging_server,
        messaging_session, server_config, session_manager, session_state,
    };

    /// Makes a bridge that can be shared.
    pub fn create_bridge(bridge_id: impl Into<String>) -> Arc<messaging_bridge> {
        Arc::new(messaging_bridge::new(bridge_id))
    }

    /// Makes a server that can be shared.
    pub fn create_server(server_id: impl Into<String>) -> Arc<messaging_server> {
        super::make_messaging_server(server_id)
    }

    /// Makes a client that can be shared.
    pub fn create_client(client_id: impl Into<String>) -> Arc<messaging_client> {
        super::make_messaging_client(client_id)
    }
}

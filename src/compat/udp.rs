//! The classic server and client over UDP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::client::classic_client;
use super::config::{ClientConfig, ServerConfig};
use super::result::{Result, VoidResult, error};
use super::server::classic_server;
use super::session::messaging_session;
use crate::client::{Client, ClientBuilder, ReconnectPolicy};
use crate::config::{SocketOptions, Timeouts, UdpOptions};
use crate::endpoint::Endpoint;
use crate::error::ErrorCode;
use crate::message::Message;
use crate::server::{Server, ServerBuilder};
use crate::session::Session;

/// The largest datagram that there is. The classic classes know no smaller limit.
const DATAGRAM_SIZE: usize = 65_507;

/// A server over UDP: each datagram is a message.
///
/// ```
/// use std::sync::Arc;
/// use network_system::compat::{messaging_udp_client, messaging_udp_server};
///
/// let server = Arc::new(messaging_udp_server::new("UDPServer"));
/// let echo = Arc::downgrade(&server);
/// server.set_receive_callback(move |data, sender| {
///     if let Some(server) = echo.upgrade() {
///         let _ = server.async_send_to(data.to_vec(), sender);
///     }
/// });
/// server.start_server(("127.0.0.1", 0))?;
///
/// let client = messaging_udp_client::new("UDPClient");
/// let (tell, told) = std::sync::mpsc::channel();
/// client.set_receive_callback(move |data, _sender| {
///     let _ = tell.send(data.to_vec());
/// });
/// client.start_client("127.0.0.1", server.port())?;
/// client.send_packet(vec![1, 2, 3])?;
/// assert_eq!(told.recv()?, [1, 2, 3]);
///
/// client.stop_client()?;
/// server.stop_server()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Each address that sends has a session, until nothing has come from it for
/// [`udp_server_config::timeout`]. So sessions, groups and broadcasts are there as on other servers.
pub type messaging_udp_server = classic_server<udp_server_config>;

/// A client over UDP: each message is a datagram. There is an example at [`messaging_udp_server`].
///
/// That a client has started does not mean that anybody is there.
pub type messaging_udp_client = classic_client<udp_client_config>;

/// How a [`messaging_udp_server`] is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct udp_server_config {
    /// The port to listen on; 0 takes a free one. Default 8080.
    pub port: u16,
    /// The address to listen on. Default `0.0.0.0`, every interface of the machine.
    pub bind_address: String,
    /// Nothing received from an address for this long ends its session; zero: never. Default 30 s.
    pub timeout: Duration,
    /// Addresses that have a session at a time. Default 10,000.
    pub max_sessions: usize,
    /// The largest datagram that is sent, in bytes, 256 to 65,507. Default 65,507. Those above some
    /// 1,450 bytes travel in fragments, of which each can be lost.
    pub max_datagram_size: usize,
    /// Bytes that the system holds until they are read; it may allow less. Default 4 MiB.
    pub receive_buffer_size: usize,
}

impl Default for udp_server_config {
    fn default() -> Self {
        let native = UdpOptions::default();
        udp_server_config {
            port: 8080,
            bind_address: "0.0.0.0".to_owned(),
            timeout: Duration::from_secs(30),
            max_sessions: native.max_sessions,
            max_datagram_size: DATAGRAM_SIZE,
            receive_buffer_size: native.receive_buffer,
        }
    }
}

impl ServerConfig for udp_server_config {
    fn place(&self) -> (&str, u16) {
        (&self.bind_address, self.port)
    }

    fn place_mut(&mut self) -> (&mut String, &mut u16) {
        (&mut self.bind_address, &mut self.port)
    }

    fn builder(&self) -> Result<ServerBuilder> {
        let timeouts = Timeouts {
            idle: self.timeout,
            ..Timeouts::default()
        };
        let options = UdpOptions {
            max_sessions: self.max_sessions,
            datagram_size: self.max_datagram_size,
            receive_buffer: self.receive_buffer_size,
            ..UdpOptions::default()
        };
        Ok(Server::builder()
            .listen_on(Endpoint::udp(&self.bind_address, self.port)?)
            .timeouts(timeouts)
            .udp(options))
    }
}

impl classic_server<udp_server_config> {
    /// Sets what happens to datagrams: their bytes, and the address that sent them. Those of one address
    /// are handled one at a time, those of different addresses side by side.
    ///
    /// It is the same callback as that of [`set_message_handler`](Self::set_message_handler).
    pub fn set_receive_callback(
        &self,
        callback: impl Fn(&[u8], SocketAddr) + Send + Sync + 'static,
    ) {
        let callback = move |session: &Arc<messaging_session>, message: &Message| {
            receive(&callback, session.native(), message);
        };
        self.handlers.message.set(Arc::new(callback));
    }

    /// The same as [`on_error`](Self::on_error).
    pub fn set_error_callback(&self, callback: impl Fn(&error) + Send + Sync + 'static) {
        self.on_error(callback);
    }

    /// Sends a datagram to an address from which datagrams came. Returns when it is queued; that it
    /// arrives is not certain.
    ///
    /// Until an address has sent something after it was sent something, no more bytes go there than came
    /// from it; the rest waits. Whoever sends under a false address could otherwise turn the server
    /// against it.
    ///
    /// # Errors
    /// `session_not_found` when the address has no session: nothing came from it, or not for
    /// [`udp_server_config::timeout`]. `message_too_large` above
    /// [`udp_server_config::max_datagram_size`].
    pub fn async_send_to(&self, data: Vec<u8>, endpoint: SocketAddr) -> VoidResult {
        match self.session_at(endpoint) {
            Some(session) => session.send_packet(data),
            None => {
                let text = format!("nothing came from {endpoint}");
                Err(error::new(ErrorCode::SessionNotFound, text))
            }
        }
    }
}

/// How a [`messaging_udp_client`] is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct udp_client_config {
    /// The name of the server is looked up within this time. Default 10 s.
    pub connection_timeout: Duration,
    /// The largest datagram that is sent, in bytes, 256 to 65,507. Default 65,507.
    pub max_datagram_size: usize,
    /// Bytes that the system holds until they are read; 0, the default, leaves it to the system.
    pub receive_buffer_size: usize,
    /// Whether the client may send to a broadcast address. Default off.
    pub broadcast: bool,
}

impl Default for udp_client_config {
    fn default() -> Self {
        udp_client_config {
            connection_timeout: Duration::from_secs(10),
            max_datagram_size: DATAGRAM_SIZE,
            receive_buffer_size: 0,
            broadcast: false,
        }
    }
}

impl ClientConfig for udp_client_config {
    /// Datagrams carry no client id.
    fn builder(&self, _client_id: &str, host: &str, port: u16) -> Result<ClientBuilder> {
        let timeouts = Timeouts {
            connect: self.connection_timeout,
            ..Timeouts::client()
        };
        let options = UdpOptions {
            datagram_size: self.max_datagram_size,
            broadcast: self.broadcast,
            ..UdpOptions::default()
        };
        let socket = SocketOptions {
            receive_buffer_size: self.receive_buffer_size,
            ..SocketOptions::default()
        };
        Ok(Client::builder()
            .add_endpoint(Endpoint::udp(host, port)?)
            .timeouts(timeouts)
            .socket(socket)
            .udp(options)
            .reconnect(ReconnectPolicy::disabled()))
    }
}

impl classic_client<udp_client_config> {
    /// Sets what happens to datagrams: their bytes, and the address of the server. Others are not
    /// received.
    ///
    /// It is the same callback as that of [`set_message_handler`](Self::set_message_handler).
    pub fn set_receive_callback(
        &self,
        callback: impl Fn(&[u8], SocketAddr) + Send + Sync + 'static,
    ) {
        let callback = move |session: &Session, message: &Message| {
            receive(&callback, session, message);
        };
        self.handlers.message.set(Arc::new(callback));
    }

    /// The same as [`on_error`](Self::on_error).
    pub fn set_error_callback(&self, callback: impl Fn(&error) + Send + Sync + 'static) {
        self.on_error(callback);
    }

    /// Sends to another server from now on. What was sent before leaves first; datagrams of the former
    /// server are not received any more.
    ///
    /// # Errors
    /// As [`stop_client`](Self::stop_client) and [`start_client`](Self::start_client). The client is
    /// stopped then.
    pub fn set_target(&self, host: &str, port: u16) -> VoidResult {
        self.stop_client()?;
        self.start_client(host, port)
    }
}

fn receive(callback: &impl Fn(&[u8], SocketAddr), session: &Session, message: &Message) {
    // On UDP there is always one.
    if let Some(sender) = session.remote_addr() {
        callback(message.payload(), sender);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the builder says that it is going to obey.
    fn has(builder: &impl std::fmt::Debug, options: &[&str]) {
        let shown = format!("{builder:?}");
        for option in options {
            assert!(shown.contains(option), "{option} in {shown}");
        }
    }

    #[test]
    fn every_field_of_a_server_reaches_the_native_configuration() {
        let config = udp_server_config {
            timeout: Duration::from_secs(5),
            max_sessions: 77,
            max_datagram_size: 1_234,
            receive_buffer_size: 5_678,
            ..udp_server_config::default()
        };
        let builder = config.builder().expect("it is valid");
        let udp = [
            "max_sessions: 77",
            "datagram_size: 1234",
            "receive_buffer: 5678",
        ];
        has(&builder, &udp);
        has(&builder, &["idle: 5s"]);
    }

    #[test]
    fn every_field_of_a_client_reaches_the_native_configuration() {
        let config = udp_client_config {
            connection_timeout: Duration::from_secs(3),
            max_datagram_size: 1_234,
            receive_buffer_size: 5_678,
            broadcast: true,
        };
        let builder = config.builder("", "127.0.0.1", 1).expect("it is valid");
        has(&builder, &["datagram_size: 1234", "broadcast: true"]);
        has(&builder, &["receive_buffer_size: 5678"]);
    }
}

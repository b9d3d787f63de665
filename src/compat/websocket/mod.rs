//! The classic server and client over WebSocket.

mod client;
mod manager;
mod server;
mod session;

use crate::compat::config::refuse;
use crate::compat::result::{Result, VoidResult};
use crate::config::{Limits, Timeouts};
use crate::endpoint::{Address, Endpoint};
use crate::error::{CloseReason, ClosedBy, ErrorCode};
use crate::message::Message;

pub use self::client::{ConnectTo, messaging_ws_client, ws_client_config};
pub use self::manager::ws_session_manager;
pub use self::server::{messaging_ws_server, ws_server_config};
pub use self::session::ws_connection;

/// A message of a WebSocket connection: [`Message::kind`] says whether it is text, [`Message::payload`]
/// has the bytes of either kind.
pub type ws_message = Message;

/// Why a WebSocket connection ends, by the names of the classic enumeration. Applications have
/// 3000 to 4999.
#[allow(non_upper_case_globals)]
pub mod ws_close_code {
    /// All is said.
    pub const normal: u16 = 1000;
    /// The server stops, or the user leaves the page.
    pub const going_away: u16 = 1001;
    /// The peer has broken the protocol.
    pub const protocol_error: u16 = 1002;
    /// The peer has sent a kind of message that is not taken.
    pub const unsupported_data: u16 = 1003;
    /// The peer gave no code. It is never sent.
    pub const no_status: u16 = 1005;
    /// The connection broke off. It is never sent.
    pub const abnormal: u16 = 1006;
    /// A text is not UTF-8.
    pub const invalid_frame: u16 = 1007;
    /// The peer may not do what it did.
    pub const policy_violation: u16 = 1008;
    /// A message is longer than the limit.
    pub const message_too_big: u16 = 1009;
    /// The server does not have what the client needs.
    pub const missing_extension: u16 = 1010;
    /// This side has failed.
    pub const internal_error: u16 = 1011;
}

/// The classic default of both sides.
const MESSAGE_SIZE: usize = 10 * 1024 * 1024;

/// Limits with one of messages. As everywhere, one message of any length fits into an outbox.
fn limits(max_message_size: usize) -> Limits {
    Limits {
        message_size: max_message_size,
        ..Limits::default()
    }
}

/// Pings are the heartbeat; a peer that answers none of three is given up.
fn timeouts(ping_interval: std::time::Duration) -> Timeouts {
    Timeouts {
        heartbeat: ping_interval,
        ..Timeouts::client()
    }
}

fn check_auto_pong(auto_pong: bool) -> VoidResult {
    match auto_pong {
        true => Ok(()),
        false => Err(refuse(
            ErrorCode::NotSupported,
            "auto_pong",
            "pings are always answered, as RFC 6455 demands",
        )),
    }
}

/// The endpoint with a path, which may have a query.
fn endpoint(host: &str, port: u16, path: &str) -> Result<Endpoint> {
    if !path.starts_with('/') {
        let text = "expected a path that begins with a slash";
        return Err(refuse(ErrorCode::InvalidConfiguration, "path", text));
    }
    // Checks the host, so that none of it can be taken for something else in the URL.
    let checked = Endpoint::tcp(host, port)?;
    let host = match checked.address() {
        Address::Tcp { host, .. } => host.to_string(),
        _ => host.to_owned(),
    };
    Ok(Endpoint::parse(&format!("ws://{host}:{port}{path}"))?)
}

/// The reason with which an application closes.
fn close_reason(code: u16, reason: &str) -> Result<CloseReason> {
    let close = CloseReason::new(reason.to_owned()).with_websocket_code(code);
    if close.websocket_code() != Some(code) {
        let text =
            format!("{code} must not be sent, expected 1000 to 1003, 1007 to 1014 or 3000 to 4999");
        return Err(refuse(ErrorCode::InvalidConfiguration, "code", &text));
    }
    Ok(close)
}

/// The code that disconnect callbacks get.
fn code_of(reason: &CloseReason) -> u16 {
    reason.websocket_code().unwrap_or_else(|| {
        // A peer's close frame always has a code, even if it is 1005. So there was none.
        match reason.is_orderly() && reason.closed_by() == ClosedBy::Local {
            true => ws_close_code::normal,
            false => ws_close_code::abnormal,
        }
    })
}

//! The HTTP request and response before the first frame (RFC 6455 section 4), as bytes.
//!
//! [`request`] is the server's side, [`client`] the other one, [`origin`] says who may come in.

pub(crate) mod client;
pub(crate) mod origin;
pub(crate) mod request;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What the accepting side appends to the key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// How much the other side may send before the first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UpgradeLimits {
    /// The first line and all headers. Default 8 KiB.
    pub(crate) max_bytes: usize,
    /// Default 64.
    pub(crate) max_headers: usize,
}

impl Default for UpgradeLimits {
    fn default() -> Self {
        UpgradeLimits {
            max_bytes: 8 * 1024,
            max_headers: 64,
        }
    }
}

/// The answer to a key: proof that it was understood as a WebSocket handshake.
fn accept_key(key: &str) -> String {
    // What SHA-1 is used for here is no matter of security.
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.as_bytes());
    context.update(GUID);
    STANDARD.encode(context.finish().as_ref())
}

/// Whether a header that is a list, in one or several lines, has this element.
fn has_token<'a>(mut values: impl Iterator<Item = &'a str>, token: &str) -> bool {
    values.any(|value| elements(value).any(|element| element.eq_ignore_ascii_case(token)))
}

/// The elements of a header that is a list.
fn elements(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(',')
        .map(|element| element.trim_matches([' ', '\t']))
        .filter(|element| !element.is_empty())
}

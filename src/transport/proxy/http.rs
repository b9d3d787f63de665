//! HTTP CONNECT (RFC 9110, section 9.3.6).

use std::future::poll_fn;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::Credentials;
use crate::endpoint::Host;
use crate::transport::head;

/// The longest head of an answer, in bytes, and the most fields in it. Proxies that deny say why in the
/// body, which is not read.
const HEAD_MAX: usize = 16 * 1024;
const FIELDS_MAX: usize = 64;

/// How many interim answers (1xx) are passed over.
const INTERIM_MAX: usize = 8;

/// How much of the proxy's own words an error repeats, in characters.
const SHOWN_CHARS: usize = 64;

pub(super) async fn connect(
    stream: &mut TcpStream,
    credentials: Option<&Credentials>,
    host: &Host,
    port: u16,
) -> io::Result<()> {
    stream
        .write_all(request(credentials, host, port).as_bytes())
        .await?;
    for _ in 0..=INTERIM_MAX {
        let mut taken = Vec::new();
        let answer = poll_fn(|context| head::poll_take(stream, context, &mut taken, find));
        let Answer { status, reason } = answer.await?;
        match status {
            200..300 => return Ok(()),
            // What follows is another answer. With 101 it would be another protocol.
            100 | 102..200 => {}
            _ => return Err(refused(status, &reason, credentials.is_some())),
        }
    }
    Err(invalid("interim answers without an end"))
}

fn request(credentials: Option<&Credentials>, host: &Host, port: u16) -> String {
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if let Some(Credentials { user, password }) = credentials {
        let encoded = STANDARD.encode(format!("{user}:{password}"));
        request.push_str(&format!("Proxy-Authorization: Basic {encoded}\r\n"));
    }
    request.push_str("\r\n");
    request
}

struct Answer {
    status: u16,
    reason: String,
}

/// Finds the end of the head, of which `known` bytes were looked at before.
fn find(bytes: &[u8], known: usize) -> io::Result<Option<(usize, Answer)>> {
    let agrees = bytes.iter().zip(b"HTTP/1.").all(|(a, b)| a == b);
    if !agrees {
        return Err(invalid("the answer is not HTTP/1.1"));
    }
    match end_of_head(bytes, known) {
        Some(length) if length <= HEAD_MAX => {
            let answer = parse(&bytes[..length])?;
            Ok(Some((length, answer)))
        }
        None if bytes.len() < HEAD_MAX => Ok(None),
        _ => Err(invalid("the head of the answer is longer than 16 KiB")),
    }
}

/// The length up to and with the empty line. Lines may end in LF alone (RFC 9112, section 2.2).
fn end_of_head(bytes: &[u8], known: usize) -> Option<usize> {
    // The line feed before the empty line may have been there before.
    let from = known.saturating_sub(2);
    let mut line_feeds = (from..bytes.len()).filter(|index| bytes[*index] == b'\n');
    line_feeds.find_map(|index| match &bytes[index + 1..] {
        [b'\n', ..] => Some(index + 2),
        [b'\r', b'\n', ..] => Some(index + 3),
        _ => None,
    })
}

fn parse(head: &[u8]) -> io::Result<Answer> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(head) {
        // The end that httparse sees is the one that was found, or else bytes behind it were taken.
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(invalid("the head of the answer ends where it should not")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(invalid("the answer has more than 64 fields"));
        }
        Err(_) => return Err(invalid("the head of the answer is malformed")),
    }
    let reason = response.reason.unwrap_or_default();
    Ok(Answer {
        status: response.code.unwrap_or_default(),
        reason: reason.chars().take(SHOWN_CHARS).collect(),
    })
}

fn refused(status: u16, reason: &str, has_credentials: bool) -> io::Error {
    let kind = match status {
        401 | 403 | 407 => io::ErrorKind::PermissionDenied,
        504 => io::ErrorKind::TimedOut,
        _ => io::ErrorKind::Other,
    };
    let hint = match (status, has_credentials) {
        (407, false) => ": it wants a user and a password",
        (407, true) => ": it does not accept the user or the password",
        _ => "",
    };
    let reason = reason.escape_debug();
    let text = format!("CONNECT was answered with {status} {reason}");
    io::Error::new(kind, format!("{}{hint}", text.trim_end()))
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

//! The client's side of the upgrade to WebSocket (RFC 6455, section 4.1).

use std::io::{self, Write};

use crate::stream::Stream;
use crate::target::Target;

/// The key of the RFC's example and what it must be answered with. The same for
/// all connections: it proves only that the server knows WebSocket.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const DEFLATE: &str = "permessage-deflate";
/// The longest answer.
const MAX_RESPONSE_LEN: usize = 8192;

/// Upgrades a blocking stream. With `deflate`, the server must agree to
/// permessage-deflate without context takeover; else it is not offered.
pub(crate) fn upgrade(stream: &mut Stream, target: &Target, deflate: bool) -> io::Result<()> {
    let offer = if deflate {
        format!(
            "Sec-WebSocket-Extensions: {DEFLATE}; server_no_context_takeover; \
             client_no_context_takeover\r\n"
        )
    } else {
        String::new()
    };
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{offer}\r\n",
        target.path, target.address,
    );
    stream.write_all(request.as_bytes())?;
    stream.flush()?;

    let mut response = Vec::new();
    let mut buffer = [0; 4096];
    while !response.ends_with(b"\r\n\r\n") {
        if response.len() > MAX_RESPONSE_LEN {
            return Err(io::Error::other(
                "the server's upgrade response does not end",
            ));
        }
        stream.read(&mut buffer, |bytes| {
            response.extend_from_slice(bytes);
            Ok(())
        })?;
    }
    check(&String::from_utf8_lossy(&response), deflate).map_err(io::Error::other)
}

fn check(response: &str, deflate: bool) -> Result<(), String> {
    let (status, fields) = response.split_once("\r\n").unwrap_or((response, ""));
    if status.split(' ').nth(1) != Some("101") {
        return Err(format!("the server refused the upgrade: {status}"));
    }
    let field = |wanted: &str| {
        fields.split("\r\n").find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    };
    if field("Sec-WebSocket-Accept") != Some(ACCEPT) {
        return Err("the server answered the upgrade with a wrong key".to_owned());
    }
    if let Some(protocol) = field("Sec-WebSocket-Protocol") {
        return Err(format!(
            "the server chose the subprotocol {protocol}, unasked"
        ));
    }
    match (field("Sec-WebSocket-Extensions"), deflate) {
        (None, false) => Ok(()),
        (Some(agreed), true) => {
            // Messages are checked one by one, so that each must stand for itself.
            let mut words = agreed.split([';', ',']).map(str::trim);
            if words.next() == Some(DEFLATE)
                && words.any(|word| word == "server_no_context_takeover")
            {
                Ok(())
            } else {
                Err(format!(
                    "the server agreed to \"{agreed}\" instead of what was offered"
                ))
            }
        }
        (None, true) => Err(format!("the server does not agree to {DEFLATE}")),
        (Some(agreed), false) => Err(format!("the server agreed to \"{agreed}\", unasked")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\n\
        upgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

    #[test]
    fn only_what_was_offered_may_be_agreed_to() {
        let agreed = format!(
            "{ACCEPTED}Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n"
        );
        let plain = format!("{ACCEPTED}\r\n");
        assert_eq!(check(&plain, false), Ok(()));
        assert_eq!(check(&agreed, true), Ok(()));
        assert!(check(&plain, true).is_err());
        assert!(check(&agreed, false).is_err());
    }

    #[test]
    fn refusals_and_wrong_keys_are_named() {
        let refused = check("HTTP/1.1 403 Forbidden\r\n\r\n", false);
        assert!(refused.is_err_and(|text| text.contains("403")));
        let wrong = ACCEPTED.replace("s3p", "S3p");
        assert!(check(&wrong, false).is_err_and(|text| text.contains("key")));
    }
}

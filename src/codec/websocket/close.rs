//! The payload of a close frame.

use super::{NO_STATUS, invalid_payload, violation};
use crate::codec::ProtocolError;

/// Judges the payload of a close frame; returns the code, 1005 when there is none.
pub(super) fn judge(payload: &[u8]) -> Result<u16, ProtocolError> {
    match payload {
        [] => Ok(NO_STATUS),
        [_] => Err(violation("a close frame with one byte")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !may_be_sent(code) {
                return Err(violation(format!(
                    "the close code {code} is not to be sent"
                )));
            }
            if std::str::from_utf8(reason).is_err() {
                return Err(invalid_payload(
                    "the reason of a close frame is not valid UTF-8",
                ));
            }
            Ok(code)
        }
    }
}

/// Codes of RFC 6455 section 7.4.1 and those registered since, of libraries, and of applications. 1004, 1005,
/// 1006 and 1015 never stand in a frame.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

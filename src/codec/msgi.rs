//! MSGI framing, protocol section 1.

use super::{Decoded, FrameType, ProtocolError, Span, control};

/// The letters `MSGI`.
pub(crate) const MAGIC: [u8; 4] = *b"MSGI";
/// Bytes before the payload: magic, length, type.
pub(crate) const HEADER: usize = 10;
/// Bytes of a correlation id.
pub(crate) const ID: usize = 8;

const CONTROL_LIMIT: usize = 64 * 1024;
const PING_LIMIT: usize = 125;
const TEXT_LIMIT: usize = 1024;

/// The longest text that ERROR, FAILURE and DISCONNECT carry, cut at a character boundary.
pub(crate) fn clip_text(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_LIMIT)]
}

/// The header of a frame with `payload` bytes after it.
#[inline(always)]
pub(crate) fn header(frame_type: FrameType, payload: usize) -> [u8; HEADER] {
    let [l0, l1, l2, l3] = ((payload + HEADER) as u32).to_be_bytes();
    let [t0, t1] = frame_type.0.to_be_bytes();
    let [m0, m1, m2, m3] = MAGIC;
    [m0, m1, m2, m3, l0, l1, l2, l3, t0, t1]
}

/// The length of the payload of the frame at the front of `bytes`, which has been found there before.
#[inline(always)]
pub(crate) fn payload_len(bytes: &[u8]) -> usize {
    match bytes.first_chunk::<HEADER>() {
        Some([_, _, _, _, l0, l1, l2, l3, _, _]) => {
            (u32::from_be_bytes([*l0, *l1, *l2, *l3]) as usize).saturating_sub(HEADER)
        }
        None => 0,
    }
}

/// As many DATA frames before an acknowledgement are taken as a run of their own. Fewer are listed together with it.
const OWN_RUN: usize = 32;

/// The DATA frames at the front of a buffer, as nearly all traffic is.
struct Run {
    count: usize,
    /// Bytes that they have.
    len: usize,
    /// How long an unfinished one behind them is, 0 when there is none or its length is not known.
    needed: usize,
    /// Whether there is anything else behind them.
    is_cut: bool,
}

#[inline]
fn scan_run(buffer: &[u8], message_limit: usize) -> Run {
    let mut run = Run {
        count: 0,
        len: 0,
        needed: 0,
        is_cut: false,
    };
    while let Some((head, _)) = buffer[run.len..].split_first_chunk::<HEADER>() {
        let [m0, m1, m2, m3, l0, l1, l2, l3, t0, t1] = *head;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let is_data = u32::from_be_bytes([m0, m1, m2, m3]) == u32::from_be_bytes(MAGIC)
            && u16::from_be_bytes([t0, t1]) == FrameType::DATA.0
            && length.wrapping_sub(HEADER) <= message_limit;
        if !is_data {
            run.is_cut = true;
            return run;
        }
        if buffer.len() - run.len < length {
            run.needed = length;
            return run;
        }
        run.count += 1;
        run.len += length;
    }
    run.is_cut = judge_partial(&buffer[run.len..]).is_some();
    run
}

/// Whether an acknowledgement is at the front of a buffer, as far as that can be seen at once.
fn is_ack(buffer: &[u8]) -> bool {
    buffer
        .split_first_chunk::<HEADER>()
        .is_some_and(|(head, payload)| {
            head[8..] == FrameType::CONTROL.0.to_be_bytes() && control::is_plain_ack(payload)
        })
}

/// DATA alone comes as a run. An acknowledgement before a run, or behind it, does not change that: it is taken by
/// itself. All else that was read together stays together: an answer must not wait behind the messages before it.
pub(super) fn decode(buffer: &[u8], message_limit: usize, spans: &mut Vec<Span>) -> Decoded {
    let run = scan_run(buffer, message_limit);
    if !run.is_cut || (run.count >= OWN_RUN && is_ack(&buffer[run.len..])) {
        return Decoded {
            consumed: run.len,
            needed: run.needed,
            plain: run.count,
            again: run.is_cut,
            error: None,
        };
    }
    let mut at = 0;
    let mut only_acks = true;
    loop {
        let rest = &buffer[at..];
        let mut decoded = Decoded {
            consumed: at,
            ..Decoded::default()
        };
        let Some((head, _)) = rest.split_first_chunk::<HEADER>() else {
            decoded.error = judge_partial(rest);
            return decoded;
        };
        let [m0, m1, m2, m3, l0, l1, l2, l3, t0, t1] = *head;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let frame_type = FrameType(u16::from_be_bytes([t0, t1]));
        decoded.error = judge([m0, m1, m2, m3], length, frame_type, message_limit);
        if decoded.error.is_some() {
            return decoded;
        }
        if only_acks && at > 0 && frame_type == FrameType::DATA {
            decoded.again = true;
            return decoded;
        }
        if rest.len() < length {
            decoded.needed = length;
            return decoded;
        }
        // What stands behind a hello is judged together with it.
        only_acks = only_acks
            && frame_type == FrameType::CONTROL
            && control::is_plain_ack(&rest[HEADER..length]);
        spans.push(span(rest, at, length, frame_type));
        at += length;
    }
}

/// The span of a frame that has been judged, with its first bytes in `bytes`, which stand at `at`.
#[inline]
fn span(bytes: &[u8], at: usize, length: usize, frame_type: FrameType) -> Span {
    let mut span = Span {
        frame_type,
        text: false,
        start: (at + HEADER) as u32,
        len: (length - HEADER) as u32,
        id: 0,
    };
    if frame_type.has_id()
        && let Some((id, _)) = bytes[HEADER..].split_first_chunk::<ID>()
    {
        span.id = u64::from_be_bytes(*id);
        span.start += ID as u32;
        span.len -= ID as u32;
    }
    span
}

/// The longest frame with this message limit.
pub(super) fn frame_limit(message_limit: usize) -> usize {
    HEADER + (message_limit + ID).max(CONTROL_LIMIT)
}

/// Judges a frame that is a message by itself, of which `bytes` have arrived. `whole` is the length of the
/// message when it is known.
#[inline]
pub(super) fn judge_alone(
    bytes: &[u8],
    whole: Option<usize>,
    message_limit: usize,
) -> Option<ProtocolError> {
    let Some((head, _)) = bytes.split_first_chunk::<HEADER>() else {
        return match whole {
            Some(whole) if whole < HEADER => too_short(whole),
            _ => judge_partial(bytes),
        };
    };
    let [m0, m1, m2, m3, l0, l1, l2, l3, t0, t1] = *head;
    let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    let frame_type = FrameType(u16::from_be_bytes([t0, t1]));
    let error = judge([m0, m1, m2, m3], length, frame_type, message_limit);
    match whole {
        _ if error.is_some() => error,
        Some(whole) if whole != length => Some(not_alone(length, whole)),
        None if bytes.len() > length => Some(not_alone(length, bytes.len())),
        _ => None,
    }
}

/// The span of a frame that is a message by itself, all of it in `bytes`, which stand at `at`.
#[inline]
pub(crate) fn decode_alone(
    bytes: &[u8],
    at: usize,
    message_limit: usize,
) -> Result<Span, ProtocolError> {
    match judge_alone(bytes, Some(bytes.len()), message_limit) {
        Some(error) => Err(error),
        None => {
            let frame_type = FrameType(u16::from_be_bytes([bytes[8], bytes[9]]));
            Ok(span(bytes, at, bytes.len(), frame_type))
        }
    }
}

#[cold]
fn not_alone(length: usize, whole: usize) -> ProtocolError {
    ProtocolError::invalid(format!(
        "a message is one whole frame, this one has {whole} bytes and its frame {length}"
    ))
}

/// Judges the first bytes of a header as soon as they are there.
#[cold]
fn judge_partial(rest: &[u8]) -> Option<ProtocolError> {
    let known = rest.len().min(MAGIC.len());
    if rest[..known] != MAGIC[..known] {
        return Some(wrong_magic(&rest[..known]));
    }
    let length = rest.get(4..8)?.try_into().map(u32::from_be_bytes).ok()? as usize;
    too_short(length)
}

/// Judges a whole header.
#[inline]
fn judge(
    magic: [u8; 4],
    length: usize,
    frame_type: FrameType,
    message_limit: usize,
) -> Option<ProtocolError> {
    if magic != MAGIC {
        return Some(wrong_magic(&magic));
    }
    if frame_type == FrameType::DATA && length.wrapping_sub(HEADER) <= message_limit {
        return None;
    }
    if let Some(error) = too_short(length) {
        return Some(error);
    }
    judge_payload(frame_type, length - HEADER, message_limit)
}

/// Judges a frame that comes as a value, whose correlation id stands beside its payload.
pub(crate) fn judge_value(
    frame_type: FrameType,
    payload: usize,
    message_limit: usize,
) -> Option<ProtocolError> {
    if frame_type == FrameType::DATA && payload <= message_limit {
        return None;
    }
    let id = if frame_type.has_id() { ID } else { 0 };
    judge_payload(frame_type, payload + id, message_limit)
}

/// Judges a type and the length of what follows the header.
#[cold]
fn judge_payload(
    frame_type: FrameType,
    payload: usize,
    message_limit: usize,
) -> Option<ProtocolError> {
    let (name, least, most) = match frame_type {
        FrameType::PING => ("PING", 0, PING_LIMIT),
        FrameType::PONG => ("PONG", 0, PING_LIMIT),
        FrameType::HEARTBEAT => ("HEARTBEAT", 0, PING_LIMIT),
        FrameType::REQUEST => ("REQUEST", ID, usize::MAX),
        FrameType::RESPONSE => ("RESPONSE", ID, usize::MAX),
        FrameType::FAILURE => ("FAILURE", ID + 4, ID + 4 + TEXT_LIMIT),
        FrameType::CONTROL => ("CONTROL", 0, CONTROL_LIMIT),
        FrameType::ERROR => ("ERROR", 4, 4 + TEXT_LIMIT),
        FrameType::DISCONNECT => ("DISCONNECT", 0, TEXT_LIMIT),
        other if other.is_message() => ("", 0, usize::MAX),
        FrameType(other) => {
            return Some(ProtocolError::invalid(format!(
                "unknown frame type {other:#06x}"
            )));
        }
    };
    if payload < least {
        return Some(ProtocolError::invalid(format!(
            "a {name} payload of {payload} bytes is too short, it needs at least {least}"
        )));
    }
    if most == usize::MAX {
        let message = payload - least;
        return (message > message_limit).then(|| ProtocolError::too_large(message, message_limit));
    }
    (payload > most).then(|| {
        ProtocolError::invalid(format!(
            "a {name} payload of {payload} bytes is too long, the limit is {most}"
        ))
    })
}

fn too_short(length: usize) -> Option<ProtocolError> {
    (length < HEADER).then(|| {
        ProtocolError::invalid(format!(
            "a frame length of {length} is too short, the header alone has {HEADER} bytes"
        ))
    })
}

fn wrong_magic(bytes: &[u8]) -> ProtocolError {
    let hint = match bytes {
        b"GET " | b"POST" | b"HEAD" | b"PUT " | b"OPTI" => ", this looks like HTTP",
        [0x16, 3, ..] => ", this looks like TLS",
        _ => "",
    };
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    ProtocolError::invalid(format!(
        "a frame begins with `MSGI`, not with the bytes {hex}{hint}"
    ))
}

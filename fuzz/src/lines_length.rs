//! The codecs `lines`, `length` and `raw` in any bytes, cut at any places.

use network_system::CodecKind;
use network_system::internal::{Ending, ReceivedStream, receive};

use crate::input::{Input, cut};

/// The input is a codec, a cut, a message limit, and the stream. Promises:
///
/// - lines and messages with a length are the same however the stream is cut, and the stream ends in the same
///   way; with `raw`, all bytes come out in order;
/// - no message is longer than the limit.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let codec = [CodecKind::Lines, CodecKind::Length, CodecKind::Raw];
    let codec = codec[usize::from(input.byte()) % 3];
    let seed = input.quad();
    let limit = [1, 10, 300, 20_000][usize::from(input.byte()) % 4];
    let stretch = input.byte();
    let stream = stretched(input.rest(), stretch);
    let whole = receive(codec, limit, [&stream[..]]);
    let cut = receive(codec, limit, cut(&stream, seed));
    for received in [&whole, &cut] {
        for message in &received.frames {
            assert!(
                message.payload.len() <= limit,
                "{} bytes",
                message.payload.len()
            );
            let is_text = std::str::from_utf8(&message.payload).is_ok();
            assert_eq!(message.text, codec == CodecKind::Lines && is_text);
        }
    }
    if codec == CodecKind::Raw {
        for received in [whole, cut] {
            assert_eq!(received.ending, Ending::Boundary);
            assert_eq!(payloads(&received).concat(), stream);
        }
        return;
    }
    assert_eq!(payloads(&cut), payloads(&whole));
    match (&cut.ending, &whole.ending) {
        // The text says how much of a line had arrived when it was refused.
        (Ending::Invalid(one, _), Ending::Invalid(other, _)) => assert_eq!(one, other),
        (one, other) => assert_eq!(one, other),
    }
}

fn payloads(received: &ReceivedStream) -> Vec<&[u8]> {
    received
        .frames
        .iter()
        .map(|frame| &frame.payload[..])
        .collect()
}

/// Repeats bytes that stand for nothing in particular, so that a short input makes a long line.
fn stretched(input: &[u8], stretch: u8) -> Vec<u8> {
    let times = [1, 1, 10, 500][usize::from(stretch) % 4];
    let mut stream = Vec::with_capacity(input.len());
    for &byte in input {
        let times = if byte.is_ascii_alphabetic() { times } else { 1 };
        stream.extend(std::iter::repeat_n(byte, times));
    }
    stream
}

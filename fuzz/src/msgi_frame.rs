//! MSGI frames in any bytes, cut at any places.

use network_system::CodecKind;
use network_system::internal::{Ending, ReceivedStream, receive};

use crate::input::{FRAME_TYPES, Input, cut, push_frame, push_header};

/// The input is two cuts, a message limit, and a recipe for a stream. Promises:
///
/// - however the stream is cut, the same frames come out of it, and it ends in the same way;
/// - what comes out is what stood in the stream, in order, without gaps;
/// - no frame is longer than its limit.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (first, second) = (input.quad(), input.quad());
    let limit = [1, 64, 1_000, 70_000, 1024 * 1024][usize::from(input.byte()) % 5];
    let stream = stream(&mut input);
    let whole = receive(CodecKind::Msgi, limit, [&stream[..]]);
    check(&stream, limit, &whole);
    for seed in [first, second] {
        let cut = receive(CodecKind::Msgi, limit, cut(&stream, seed));
        assert_eq!(cut.frames, whole.frames);
        match (&cut.ending, &whole.ending) {
            // The text says how much of a header had arrived when it was refused.
            (Ending::Invalid(one, _), Ending::Invalid(other, _)) => assert_eq!(one, other),
            (one, other) => assert_eq!(one, other),
        }
    }
}

/// A stream of frames, headers without payload, and bytes that are no frames. A recipe that begins with a
/// zero is the stream itself, so that a fuzzer can work on plain bytes.
fn stream(input: &mut Input<'_>) -> Vec<u8> {
    if input.byte() == 0 {
        return input.rest().to_vec();
    }
    let mut stream = Vec::new();
    while !input.is_empty() && stream.len() < 2_000_000 {
        match input.byte() % 8 {
            // A frame whose payload stands in the input.
            0..=2 => {
                let frame_type = FRAME_TYPES[usize::from(input.byte()) % FRAME_TYPES.len()];
                let len = input.byte().into();
                push_frame(&mut stream, frame_type, input.bytes(len));
            }
            // Frames in a row, of any length that the limits know.
            3..=5 => {
                let frame_type = FRAME_TYPES[usize::from(input.byte()) % FRAME_TYPES.len()];
                let payload = vec![input.byte(); usize::from(input.pair())];
                for _ in 0..=input.byte() % 4 {
                    push_frame(&mut stream, frame_type, &payload);
                }
            }
            6 => push_header(&mut stream, input.quad(), input.pair()),
            _ => {
                let len = input.byte().into();
                stream.extend_from_slice(input.bytes(len));
            }
        }
    }
    stream
}

fn check(stream: &[u8], limit: usize, received: &ReceivedStream) {
    let mut encoded = Vec::with_capacity(stream.len());
    for frame in &received.frames {
        let mut payload = Vec::new();
        if matches!(frame.frame_type, 0x11..=0x13) {
            payload.extend_from_slice(&frame.id.to_be_bytes());
        } else {
            assert_eq!(frame.id, 0);
        }
        payload.extend_from_slice(&frame.payload);
        push_frame(&mut encoded, frame.frame_type, &payload);
        let most = match frame.frame_type {
            0x01 | 0x02 | 0x40 => 125,
            0x10 | 0x11 | 0x12 | 0x8000.. => limit,
            0x13 | 0x30 => 4 + 1_024,
            0x20 => 64 * 1_024,
            0x50 => 1_024,
            other => panic!("a frame of the unknown type {other:#06x}"),
        };
        assert!(frame.payload.len() <= most);
    }
    assert!(stream.starts_with(&encoded));
    let rest = stream.len() - encoded.len();
    match &received.ending {
        Ending::Boundary => assert_eq!(rest, 0),
        Ending::InsideFrame => assert!(rest > 0),
        Ending::Invalid(code, text) => {
            assert!(rest > 0);
            assert!(matches!(code, -642 | -643), "{code}");
            assert!(!text.is_empty() && text.len() <= 1_024);
        }
    }
}

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::session::inbound::Inbound;
use crate::session::output::Output;

const LIMIT: usize = 2_000;

/// A frame as a test writes it down.
#[derive(Clone, Debug, PartialEq)]
struct Plain {
    frame_type: u16,
    id: u64,
    payload: Vec<u8>,
}

fn encode(framing: Framing, frames: &[Plain]) -> Vec<u8> {
    let mut output = Output::default();
    for frame in frames {
        let payload = Bytes::from(frame.payload.clone());
        output.push(
            framing,
            FrameType(frame.frame_type),
            false,
            frame.id,
            payload,
        );
    }
    output.to_vec()
}

/// Decodes `bytes` arriving in pieces that end at `cuts`, keeping the rest as a connection does.
fn decode_in_pieces(
    framing: Framing,
    bytes: &[u8],
    cuts: &[usize],
) -> (Vec<Plain>, Option<ProtocolError>) {
    let mut decoder = Decoder::new(framing, LIMIT);
    let (mut frames, mut buffer, mut start) = (Vec::new(), Vec::new(), 0);
    let ends = cuts.iter().copied().chain([bytes.len()]);
    for end in ends {
        let end = end.clamp(start, bytes.len());
        buffer.extend_from_slice(&bytes[start..end]);
        start = end;
        loop {
            let mut spans = Vec::new();
            let decoded = decoder.decode(&buffer, &mut spans);
            assert!(decoded.plain == 0 || spans.is_empty());
            assert!(
                !decoded.again || decoded.consumed > 0,
                "no pass for nothing"
            );
            let data = Bytes::copy_from_slice(&buffer[..decoded.consumed]);
            let mut inbound = match decoded.plain {
                0 => Inbound::new(data, spans),
                count => Inbound::plain(data, count, spans),
            };
            while let Some((span, message)) = inbound.take_next() {
                let payload = message.payload().to_vec();
                frames.push(Plain {
                    frame_type: span.frame_type.0,
                    id: span.id,
                    payload,
                });
            }
            assert!(decoded.consumed <= buffer.len());
            assert!(decoded.needed == 0 || decoded.needed > buffer.len() - decoded.consumed);
            if decoded.error.is_some() {
                return (frames, decoded.error);
            }
            buffer.drain(..decoded.consumed);
            if !decoded.again {
                break;
            }
        }
    }
    (frames, None)
}

fn a_frame() -> impl Strategy<Value = Plain> {
    let payload = |most: usize| proptest::collection::vec(any::<u8>(), 0..=most);
    prop_oneof![
        (payload(125), prop_oneof![Just(1_u16), Just(2), Just(0x40)]).prop_map(
            |(payload, frame_type)| Plain {
                frame_type,
                id: 0,
                payload
            }
        ),
        (payload(LIMIT), prop_oneof![Just(0x10_u16), 0x8000_u16..]).prop_map(
            |(payload, frame_type)| Plain {
                frame_type,
                id: 0,
                payload
            }
        ),
        (
            payload(LIMIT),
            any::<u64>(),
            prop_oneof![Just(0x11_u16), Just(0x12)]
        )
            .prop_map(|(payload, id, frame_type)| Plain {
                frame_type,
                id,
                payload
            }),
    ]
}

fn a_message(codec: Framing) -> impl Strategy<Value = Plain> {
    let byte = any::<u8>().prop_map(move |byte| match codec {
        // A line may hold any byte but the end of line.
        Framing::Lines if matches!(byte, b'\n' | b'\r') => b'.',
        _ => byte,
    });
    proptest::collection::vec(byte, 0..=LIMIT).prop_map(|payload| Plain {
        frame_type: 0x10,
        id: 0,
        payload,
    })
}

proptest! {
    #[test]
    fn any_split_of_msgi_frames_decodes_to_the_same_frames(
        frames in proptest::collection::vec(a_frame(), 0..12),
        mut cuts in proptest::collection::vec(0_usize..20_000, 0..12),
    ) {
        let bytes = encode(Framing::Msgi, &frames);
        cuts.sort_unstable();
        prop_assert_eq!(decode_in_pieces(Framing::Msgi, &bytes, &cuts), (frames, None));
    }

    #[test]
    fn runs_of_data_with_control_frames_between_decode_to_the_same_frames(
        runs in proptest::collection::vec(
            (prop_oneof![0..3_usize, 30..35_usize, 60..70_usize], 0..3_usize, any::<bool>()),
            0..5,
        ),
        mut cuts in proptest::collection::vec(0_usize..4_000, 0..12),
    ) {
        let frame = |frame_type, number| Plain {
            frame_type,
            id: 0,
            payload: vec![number as u8; 5],
        };
        let mut frames = Vec::new();
        for (data, control, ack) in runs {
            frames.extend((0..data).map(|number| frame(0x10, number)));
            frames.extend((0..control).map(|number| match ack {
                true => Plain {
                    payload: br#"{"op":"ack","received":7}"#.to_vec(),
                    ..frame(0x20, number)
                },
                false => frame(0x20, number),
            }));
        }
        let bytes = encode(Framing::Msgi, &frames);
        cuts.sort_unstable();
        prop_assert_eq!(decode_in_pieces(Framing::Msgi, &bytes, &cuts), (frames, None));
    }

    #[test]
    fn any_split_of_lines_decodes_to_the_same_lines(
        frames in proptest::collection::vec(a_message(Framing::Lines), 0..8),
        mut cuts in proptest::collection::vec(0_usize..16_000, 0..12),
    ) {
        let bytes = encode(Framing::Lines, &frames);
        cuts.sort_unstable();
        prop_assert_eq!(decode_in_pieces(Framing::Lines, &bytes, &cuts), (frames, None));
    }

    #[test]
    fn any_split_of_length_prefixed_messages_decodes_to_the_same_messages(
        frames in proptest::collection::vec(a_message(Framing::Length), 0..8),
        mut cuts in proptest::collection::vec(0_usize..16_000, 0..12),
    ) {
        let bytes = encode(Framing::Length, &frames);
        cuts.sort_unstable();
        prop_assert_eq!(decode_in_pieces(Framing::Length, &bytes, &cuts), (frames, None));
    }

    #[test]
    fn raw_pieces_together_are_the_stream(
        bytes in proptest::collection::vec(any::<u8>(), 0..6_000),
        mut cuts in proptest::collection::vec(0_usize..6_000, 0..8),
    ) {
        cuts.sort_unstable();
        let (frames, error) = decode_in_pieces(Framing::Raw, &bytes, &cuts);
        prop_assert!(error.is_none());
        prop_assert!(frames.iter().all(|frame| (1..=LIMIT).contains(&frame.payload.len())));
        prop_assert_eq!(frames.concat_payloads(), bytes);
    }

    #[test]
    fn decoders_never_panic_and_never_claim_more_than_there_is(
        bytes in proptest::collection::vec(any::<u8>(), 0..4_000),
        magic in any::<bool>(),
        mut cuts in proptest::collection::vec(0_usize..4_000, 0..6),
    ) {
        let mut bytes = bytes;
        if magic && bytes.len() > 4 {
            bytes[..4].copy_from_slice(&msgi::MAGIC);
        }
        cuts.sort_unstable();
        for framing in [Framing::Msgi, Framing::Raw, Framing::Lines, Framing::Length] {
            decode_in_pieces(framing, &bytes, &cuts);
        }
    }
}

trait ConcatPayloads {
    fn concat_payloads(&self) -> Vec<u8>;
}

impl ConcatPayloads for Vec<Plain> {
    fn concat_payloads(&self) -> Vec<u8> {
        self.iter()
            .flat_map(|frame| frame.payload.iter().copied())
            .collect()
    }
}

fn refusal(bytes: &[u8]) -> Option<ErrorCode> {
    let mut spans = Vec::new();
    let decoded = Decoder::new(Framing::Msgi, LIMIT).decode(bytes, &mut spans);
    assert!(spans.is_empty());
    decoded.error.map(|error| error.code)
}

fn head(frame_type: u16, length: u32) -> Vec<u8> {
    [
        &msgi::MAGIC[..],
        &length.to_be_bytes(),
        &frame_type.to_be_bytes(),
    ]
    .concat()
}

#[test]
fn a_bad_header_is_refused_as_soon_as_its_bytes_are_there() {
    assert_eq!(refusal(b"X"), Some(ErrorCode::InvalidFrame));
    assert_eq!(refusal(b"MSGX"), Some(ErrorCode::InvalidFrame));
    assert_eq!(refusal(b"MSGI\0\0\0"), None);
    assert_eq!(refusal(b"MSGI\0\0\0\x09"), Some(ErrorCode::InvalidFrame));
    assert_eq!(refusal(&head(0x7777, 10)), Some(ErrorCode::InvalidFrame));
    assert_eq!(
        refusal(&head(0x0001, 10 + 126)),
        Some(ErrorCode::InvalidFrame)
    );
    assert_eq!(refusal(&head(0x0001, 10 + 125)), None);
    assert_eq!(
        refusal(&head(0x0011, 10 + 7)),
        Some(ErrorCode::InvalidFrame)
    );
    assert_eq!(
        refusal(&head(0x0013, 10 + 11)),
        Some(ErrorCode::InvalidFrame)
    );
    assert_eq!(
        refusal(&head(0x0030, 10 + 3)),
        Some(ErrorCode::InvalidFrame)
    );
    assert_eq!(
        refusal(&head(0x0030, 10 + 4 + 1025)),
        Some(ErrorCode::InvalidFrame)
    );
    assert_eq!(
        refusal(&head(0x0020, 10 + 65_537)),
        Some(ErrorCode::InvalidFrame)
    );
    assert_eq!(
        refusal(&head(0x0050, 10 + 1025)),
        Some(ErrorCode::InvalidFrame)
    );
}

#[test]
fn a_message_of_exactly_the_limit_passes_and_one_byte_more_is_refused_from_its_header() {
    let limit = LIMIT as u32;
    assert_eq!(refusal(&head(0x0010, 10 + limit)), None);
    assert_eq!(
        refusal(&head(0x0010, 11 + limit)),
        Some(ErrorCode::MessageTooLarge)
    );
    assert_eq!(
        refusal(&head(0x8000, 11 + limit)),
        Some(ErrorCode::MessageTooLarge)
    );
    assert_eq!(
        refusal(&head(0x0010, u32::MAX)),
        Some(ErrorCode::MessageTooLarge)
    );
    // The correlation id does not count.
    assert_eq!(refusal(&head(0x0011, 18 + limit)), None);
    assert_eq!(
        refusal(&head(0x0011, 19 + limit)),
        Some(ErrorCode::MessageTooLarge)
    );
}

#[test]
fn an_acknowledgement_does_not_keep_data_from_being_a_run() {
    let frame = |frame_type, payload: &[u8]| Plain {
        frame_type,
        id: 0,
        payload: payload.to_vec(),
    };
    let ack = frame(0x20, br#"{"op":"ack","received":256}"#);
    let hello = frame(0x20, br#"{"op":"hello","version":1}"#);
    let data = frame(0x10, b"a message");
    // Where ten frames come first they are too few to be worth a pass, and all is listed. So is what stands beside
    // anything else.
    for (control, at, in_runs) in [
        (&ack, 0, 64),
        (&ack, 64, 64),
        (&ack, 40, 64),
        (&ack, 10, 0),
        (&hello, 0, 0),
        (&hello, 40, 0),
    ] {
        let mut frames = vec![data.clone(); 64];
        frames.insert(at, control.clone());
        let bytes = encode(Framing::Msgi, &frames);
        let (mut rest, mut runs, mut listed) = (&bytes[..], 0, 0);
        loop {
            let mut spans = Vec::new();
            let decoded = Decoder::new(Framing::Msgi, LIMIT).decode(rest, &mut spans);
            rest = &rest[decoded.consumed..];
            runs += decoded.plain;
            listed += spans.len();
            if !decoded.again {
                break;
            }
        }
        assert_eq!(
            (runs, listed, rest.len()),
            (in_runs, 65 - in_runs, 0),
            "{at}"
        );
    }
}

#[test]
fn frames_before_a_bad_one_are_still_found() {
    let mut bytes = encode(
        Framing::Msgi,
        &[Plain {
            frame_type: 0x10,
            id: 0,
            payload: b"good".to_vec(),
        }],
    );
    bytes.extend_from_slice(b"bad bytes that are no frame");
    let mut spans = Vec::new();
    let decoded = Decoder::new(Framing::Msgi, LIMIT).decode(&bytes, &mut spans);
    assert_eq!((spans.len(), decoded.plain, decoded.consumed), (1, 0, 14));
    assert_eq!(
        decoded.error.map(|error| error.code),
        Some(ErrorCode::InvalidFrame)
    );
}

#[test]
fn lines_accept_both_ends_and_an_unterminated_last_line() {
    let mut decoder = Decoder::new(Framing::Lines, LIMIT);
    let mut spans = Vec::new();
    let bytes = b"one\r\ntwo\n\nlast";
    let decoded = decoder.decode(bytes, &mut spans);
    let end = decoder.finish(&bytes[decoded.consumed..], &mut spans);
    let lengths: Vec<u32> = spans.iter().map(|span| span.len).collect();
    assert_eq!((lengths, end), (vec![3, 3, 0, 4], EndOfStream::Boundary));
}

#[test]
fn a_line_over_the_limit_is_refused_before_its_end_arrives() {
    let mut decoder = Decoder::new(Framing::Lines, 10);
    let exact = decoder.decode(b"0123456789\r", &mut Vec::new());
    assert!(exact.error.is_none());
    let longer = decoder.decode(b"0123456789ab", &mut Vec::new());
    assert_eq!(
        longer.error.map(|error| error.code),
        Some(ErrorCode::MessageTooLarge)
    );
}

#[test]
fn a_length_over_the_limit_is_refused_from_its_four_bytes() {
    let mut decoder = Decoder::new(Framing::Length, LIMIT);
    let decoded = decoder.decode(&(LIMIT as u32 + 1).to_be_bytes(), &mut Vec::new());
    assert_eq!(
        decoded.error.map(|error| error.code),
        Some(ErrorCode::MessageTooLarge)
    );
}

#[test]
fn texts_are_clipped_at_a_character_boundary() {
    let text = "é".repeat(600);
    assert_eq!(msgi::clip_text(&text).len(), 1024);
    assert_eq!(msgi::clip_text(&format!("x{text}")).len(), 1023);
}

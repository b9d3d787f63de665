use proptest::prelude::*;

use super::*;
use crate::codec::websocket::decoder::Decoder;

#[test]
fn an_idle_decoder_is_small() {
    assert!(size_of::<Decoder>() <= 64, "{}", size_of::<Decoder>());
}

/// The examples of RFC 6455 section 5.7, byte for byte.
#[test]
fn examples_of_the_rfc_are_understood() {
    let client = WebSocketOptions {
        client: true,
        message_limit: 70_000,
        ..SERVER
    };
    let hello = vec![found(DATA, true, b"Hello")];
    let cases: [(&WebSocketOptions, &[u8], Vec<RawFrame>); 5] = [
        (&client, b"\x81\x05Hello", hello.clone()),
        (
            &SERVER,
            b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
            hello.clone(),
        ),
        (&client, b"\x01\x03Hel\x80\x02lo", hello.clone()),
        (&client, b"\x89\x05Hello", vec![found(PING, true, b"Hello")]),
        (
            &SERVER,
            b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
            vec![found(PONG, true, b"Hello")],
        ),
    ];
    for (options, bytes, expected) in cases {
        let (frames, ending) = receive(options, bytes);
        assert_eq!((frames, ending), (expected, WebSocketEnding::Boundary));
    }
    for (head, len) in [
        (&b"\x82\x7E\x01\x00"[..], 256),
        (b"\x82\x7F\x00\x00\x00\x00\x00\x01\x00\x00", 65_536),
    ] {
        let bytes = [head, &vec![7; len]].concat();
        let (frames, _) = receive_websocket(&client, [&bytes[..]]);
        assert_eq!(frames, [found(DATA, false, &vec![7; len])]);
    }
}

/// The same examples, written.
#[test]
fn heads_are_encoded_in_their_shortest_form() {
    let mut head = Head {
        fin: true,
        compressed: false,
        opcode: Opcode::Text,
        len: 5,
        mask: None,
    };
    let encode = |head: &Head| {
        let mut out = [0; HEAD_MAX];
        let size = head.encode(&mut out);
        out[..size].to_vec()
    };
    assert_eq!(encode(&head), b"\x81\x05");
    head.mask = MASK;
    assert_eq!(encode(&head), b"\x81\x85\x37\xfa\x21\x3d");
    (head.fin, head.mask) = (false, None);
    assert_eq!(encode(&head), b"\x01\x05");
    (head.fin, head.opcode, head.len) = (true, Opcode::Binary, 256);
    assert_eq!(encode(&head), b"\x82\x7E\x01\x00");
    head.len = 65_536;
    assert_eq!(encode(&head), b"\x82\x7F\x00\x00\x00\x00\x00\x01\x00\x00");
    for (len, size) in [(125, 2), (126, 4), (65_535, 4)] {
        head.len = len;
        assert_eq!(encode(&head).len(), size);
    }
    head.compressed = true;
    assert_eq!(encode(&head)[0], 0xC2);
}

#[test]
fn masking_keys_differ() {
    let keys: std::collections::HashSet<_> = (0..2_000).map(|_| next_mask()).collect();
    // Two of 2,000 are the same with a probability of 0.05 %, twenty never.
    assert!(keys.len() > 1_980);
}

#[test]
fn control_frames_come_between_fragments() {
    let stream = [
        frame(0x01, b"one "),
        frame(0x89, b"are you there"),
        frame(0x00, b"two "),
        frame(0x8A, b""),
        frame(0x80, b"three"),
        frame(0x82, b"four"),
    ]
    .concat();
    let (frames, ending) = receive(&SERVER, &stream);
    assert_eq!(
        frames,
        [
            found(PING, true, b"are you there"),
            found(PONG, true, b""),
            found(DATA, true, b"one two three"),
            found(DATA, false, b"four"),
        ]
    );
    assert_eq!(ending, WebSocketEnding::Boundary);
}

#[test]
fn a_close_ends_the_stream() {
    for (payload, code) in [
        (&b""[..], 1005),
        (b"\x03\xE8", 1000),
        (b"\x03\xE9going away", 1001),
        (b"\x0F\xA0", 4000),
        (b"\x0B\xB8", 3000),
        (b"\x03\xF6", 1014),
    ] {
        let stream = [
            frame(0x82, b"last"),
            frame(0x88, payload),
            frame(0x82, b"ignored"),
        ]
        .concat();
        let (frames, ending) = receive(&SERVER, &stream);
        assert_eq!(
            frames,
            [
                found(DATA, false, b"last"),
                found(DISCONNECT, true, payload)
            ]
        );
        assert_eq!(ending, WebSocketEnding::Closed(code));
        let msgi = WebSocketOptions {
            msgi: true,
            ..SERVER
        };
        let (frames, ending) = receive(&msgi, &frame(0x88, payload));
        assert_eq!((frames, ending), (vec![], WebSocketEnding::Closed(code)));
    }
}

#[test]
fn the_end_of_the_stream_is_told_from_the_middle_of_a_message() {
    let fragment = frame(0x01, b"begun");
    for cut in [&frame(0x82, b"cut short")[..8], &fragment, &[0x82]] {
        let (frames, ending) = receive(&SERVER, cut);
        assert_eq!((frames, ending), (vec![], WebSocketEnding::InsideFrame));
    }
}

fn msgi_frame(frame_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = b"MSGI".to_vec();
    bytes.extend_from_slice(&(payload.len() as u32 + 10).to_be_bytes());
    bytes.extend_from_slice(&frame_type.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn each_message_is_one_msgi_frame() {
    let options = WebSocketOptions {
        msgi: true,
        message_limit: 100,
        ..SERVER
    };
    let request = msgi_frame(0x11, b"\0\0\0\0\0\0\0\x07question");
    let (first, second) = request.split_at(13);
    let control = msgi_frame(0x20, &[b'x'; 60_000]);
    let stream = [
        frame(0x82, &msgi_frame(0x10, b"data")),
        frame(0x82, &request),
        frame(0x02, first),
        frame(0x80, second),
        frame(0x82, &control),
        frame(0x89, b"ping"),
        frame(0x82, &msgi_frame(0x8000, &[1; 100])),
        // With its correlation id it is eight bytes longer than the limit of messages.
        frame(0x82, &msgi_frame(0x11, &[1; 108])),
    ]
    .concat();
    let (frames, ending) = receive(&options, &stream);
    let question = RawFrame {
        id: 7,
        ..found(0x11, false, b"question")
    };
    assert_eq!(frames.len(), 7);
    assert_eq!(frames[0], found(DATA, false, b"data"));
    assert_eq!(frames[1..3], [question.clone(), question]);
    assert_eq!(frames[3], found(0x20, false, &control[10..]));
    assert_eq!(frames[4], found(PING, true, b"ping"));
    assert_eq!(frames[6].payload, &[1; 100][..]);
    assert_eq!(ending, WebSocketEnding::Boundary);
}

#[test]
fn a_message_that_is_not_one_msgi_frame_is_refused() {
    let options = WebSocketOptions {
        msgi: true,
        message_limit: 100,
        ..SERVER
    };
    let data = msgi_frame(0x10, b"data");
    let cases = [
        (frame(0x81, &data), Some(1003)),
        (frame(0x82, &data[..12]), None),
        (frame(0x82, &[&data[..], b"x"].concat()), None),
        (frame(0x82, &[&data[..], &data[..]].concat()), None),
        (frame(0x82, b""), None),
        (frame(0x82, b"MSGI"), None),
        (frame(0x82, b"something else"), None),
        ([frame(0x02, &data), frame(0x80, b"x")].concat(), None),
        ([frame(0x02, &data[..11]), frame(0x80, b"x")].concat(), None),
        (frame(0x82, &msgi_frame(0x77, b"unknown")), None),
    ];
    for (stream, websocket) in cases {
        assert_eq!(refused(&options, &stream), (0, -643, websocket));
    }
    let large = frame(0x82, &msgi_frame(0x10, &[0; 101]));
    assert_eq!(refused(&options, &large), (0, -642, None));
}

/// The payload of a refused frame is not waited for.
#[test]
fn an_msgi_frame_is_refused_from_its_header() {
    let options = WebSocketOptions {
        msgi: true,
        ..SERVER
    };
    let large = frame(0x82, &msgi_frame(0x10, &[0; LIMIT + 1]));
    assert_eq!(refused(&options, &large[..8 + 10]), (0, -642, None));
    let fragment = frame(0x02, &msgi_frame(0x10, &[0; LIMIT + 1])[..10]);
    assert_eq!(refused(&options, &fragment), (0, -642, None));
}

/// A message as a test writes it down: the lengths of its fragments, and which pings come between.
#[derive(Clone, Debug)]
struct Written {
    text: bool,
    payload: Vec<u8>,
    cuts: Vec<usize>,
    pings: Vec<Vec<u8>>,
}

fn any_message() -> impl Strategy<Value = Written> {
    let payload = prop_oneof![
        3 => ".{0,100}".prop_map(String::into_bytes),
        1 => "[a-zäöü]{100,2000}".prop_map(String::into_bytes),
    ];
    let cuts = prop_oneof![Just(vec![]), prop::collection::vec(0..2_000_usize, 0..4),];
    let pings = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..126), 0..3);
    (any::<bool>(), payload, cuts, pings).prop_map(|(text, payload, cuts, pings)| Written {
        text,
        payload,
        cuts,
        pings,
    })
}

fn write(messages: &[Written], masks: &[[u8; 4]]) -> (Vec<u8>, Vec<RawFrame>) {
    let (mut stream, mut expected) = (Vec::new(), Vec::new());
    let mut masks = masks.iter().copied().cycle();
    for message in messages {
        let mut ends: Vec<_> = message
            .cuts
            .iter()
            .map(|cut| cut % (message.payload.len() + 1))
            .collect();
        ends.sort_unstable();
        ends.push(message.payload.len());
        let (mut start, mut pings) = (0, message.pings.iter());
        for (index, &end) in ends.iter().enumerate() {
            let opcode = match index {
                0 => {
                    if message.text {
                        1
                    } else {
                        2
                    }
                }
                _ => 0,
            };
            let fin = if index + 1 == ends.len() { 0x80 } else { 0 };
            push_websocket_frame(
                &mut stream,
                fin | opcode,
                masks.next(),
                &message.payload[start..end],
            );
            start = end;
            if fin == 0
                && let Some(ping) = pings.next()
            {
                push_websocket_frame(&mut stream, 0x89, masks.next(), ping);
                expected.push(found(PING, true, ping));
            }
        }
        expected.push(found(DATA, message.text, &message.payload));
    }
    (stream, expected)
}

fn pieces<'a>(stream: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    ends.push(stream.len());
    ends.sort_unstable();
    let mut start = 0;
    ends.into_iter()
        .map(|end| {
            let piece = &stream[start..end];
            start = end;
            piece
        })
        .collect()
}

proptest! {
    #[test]
    fn messages_arrive_however_they_are_cut(
        messages in prop::collection::vec(any_message(), 1..6),
        masks in prop::collection::vec(any::<[u8; 4]>(), 1..5),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        let (stream, expected) = write(&messages, &masks);
        for inflate in [None, Some((false, 15))] {
            let options = WebSocketOptions { inflate, ..SERVER };
            for pieces in [vec![&stream[..]], pieces(&stream, &cuts), stream.chunks(1).collect()] {
                let (frames, ending) = receive_websocket(&options, pieces);
                prop_assert_eq!(&frames, &expected);
                prop_assert_eq!(ending, WebSocketEnding::Boundary);
            }
        }
    }

    #[test]
    fn a_mask_applied_twice_is_none(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        key: [u8; 4],
        cut: usize,
    ) {
        let expected: Vec<u8> = bytes.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        let mut masked = bytes.clone();
        let cut = cut % (bytes.len() + 1);
        let (first, second) = masked.split_at_mut(cut);
        apply_mask(second, key, cut);
        apply_mask(first, key, 0);
        prop_assert_eq!(&masked, &expected);
        apply_mask(&mut masked, key, 0);
        prop_assert_eq!(masked, bytes);
    }

    #[test]
    fn any_bytes_end_the_same_however_they_are_cut(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        first in prop::sample::select(vec![0x01_u8, 0x02, 0x81, 0x82, 0x88, 0x89, 0xC1, 0x41]),
        msgi: bool,
        compress: bool,
    ) {
        let options = WebSocketOptions { msgi, inflate: compress.then_some((false, 15)), ..SERVER };
        let stream = [frame(first, &bytes), frame(0x80, &bytes), bytes.clone()].concat();
        receive(&options, &stream);
        receive(&options, &bytes);
    }
}

use super::*;

/// Bytes that are refused with close code 1002 as soon as they are there.
#[test]
fn what_is_not_of_the_protocol_is_refused_at_once() {
    let begun = frame(0x01, b"begun");
    let cases: &[(&str, &[u8])] = &[
        ("RSV1 without an extension", &[0xC1]),
        ("RSV2", &[0xA1]),
        ("RSV3", &[0x91]),
        ("reserved opcode 3", &[0x83]),
        ("reserved opcode 7", &[0x87]),
        ("reserved opcode 11", &[0x8B]),
        ("reserved opcode 15", &[0x8F]),
        ("a fragmented ping", &[0x09]),
        ("a fragmented close", &[0x08]),
        ("a long ping", &[0x89, 0xFE]),
        ("a long close", &[0x88, 0xFF]),
        ("a continuation of nothing", &[0x80]),
        ("a continuation of nothing, to be continued", &[0x00]),
        ("no mask", &[0x81, 0x05]),
        ("a length of 125 in two bytes", &[0x82, 0xFE, 0, 125]),
        ("a length of 0 in two bytes", &[0x82, 0xFE, 0, 0]),
        (
            "a length of 65,535 in eight bytes",
            &[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF],
        ),
        (
            "the highest bit of a length",
            &[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0],
        ),
        (
            "all bits of a length",
            &[0x82, 0xFF, 255, 255, 255, 255, 255, 255, 255, 255],
        ),
        ("a close of one byte", &[0x88, 0x81, 0, 0, 0, 0, 3]),
    ];
    for (name, bytes) in cases {
        assert_eq!(refused(&SERVER, bytes), (0, -643, Some(1002)), "{name}");
        let after = [&frame(0x82, b"fine"), *bytes].concat();
        assert_eq!(refused(&SERVER, &after), (1, -643, Some(1002)), "{name}");
        for len in 0..bytes.len() {
            let (_, ending) = receive(&SERVER, &bytes[..len]);
            let early = matches!(ending, WebSocketEnding::Invalid(..));
            assert!(!early, "{name}: refused after {len} bytes already");
        }
    }
    for first in [0x81, 0x82, 0x01, 0x02] {
        let bytes = [&begun[..], &[first]].concat();
        assert_eq!(refused(&SERVER, &bytes), (0, -643, Some(1002)));
    }
    let client = WebSocketOptions {
        client: true,
        ..SERVER
    };
    assert_eq!(refused(&client, &[0x81, 0x85]), (0, -643, Some(1002)));
    // Only the first frame of a message says that it is compressed.
    let compressing = WebSocketOptions {
        inflate: Some((false, 15)),
        ..SERVER
    };
    let bytes = [&begun[..], &[0xC0]].concat();
    assert_eq!(refused(&compressing, &bytes), (0, -643, Some(1002)));
    assert_eq!(refused(&compressing, &[0xC9]), (0, -643, Some(1002)));
}

#[test]
fn close_codes_that_are_not_to_be_sent_are_refused() {
    for code in [
        0_u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
    ] {
        let stream = frame(0x88, &code.to_be_bytes());
        assert_eq!(refused(&SERVER, &stream), (0, -643, Some(1002)), "{code}");
    }
    let stream = frame(0x88, b"\x03\xE8\xFF");
    assert_eq!(refused(&SERVER, &stream), (0, -643, Some(1007)));
}

#[test]
fn a_declared_length_over_the_limit_is_refused_from_the_head() {
    let too_large = (0, -642, Some(1009));
    assert_eq!(
        refused(&SERVER, &frame(0x82, &[0; LIMIT + 1])[..4]),
        too_large
    );
    let head = [0x82, 0xFF, 0x7F, 255, 255, 255, 255, 255, 255, 255];
    assert_eq!(refused(&SERVER, &head), too_large);
    let fragments = [frame(0x02, &[0; LIMIT]), frame(0x00, &[0; 1])].concat();
    assert_eq!(refused(&SERVER, &fragments), too_large);
    let (frames, _) = receive(&SERVER, &frame(0x82, &[0; LIMIT]));
    assert_eq!(frames[0].payload.len(), LIMIT);
    let whole = [frame(0x02, &[0; LIMIT - 1]), frame(0x80, &[0; 1])].concat();
    assert_eq!(receive(&SERVER, &whole).0[0].payload.len(), LIMIT);
}

/// Autobahn 6.4: as soon as the bytes cannot become valid UTF-8 any more.
#[test]
fn bad_utf8_is_refused_at_the_first_bad_byte() {
    let good = "κόσμε";
    for (bad, at) in [
        (&b"\xF4\x90\x80\x80"[..], 2),
        (b"\xED\xA0\x80", 2),
        (b"\xC0\xAF", 1),
        (b"\xFF", 1),
        (b"\x80", 1),
        (b"\xF8\x88\x80\x80\x80", 1),
        (b"\xE2\x82x", 3),
    ] {
        let text = [good.as_bytes(), bad, b"edited"].concat();
        let bad_end = good.len() + at;
        let refuses = |stream: &[u8], from: usize| {
            assert_eq!(
                refused(&SERVER, &stream[..from + bad_end]),
                (0, -643, Some(1007))
            );
            let (_, ending) = receive(&SERVER, &stream[..from + bad_end - 1]);
            assert_eq!(ending, WebSocketEnding::InsideFrame);
        };
        refuses(&frame(0x81, &text), 6);
        refuses(&frame(0x01, &text), 6);
        let fragments: Vec<u8> = (0..text.len())
            .flat_map(|index| frame(u8::from(index == 0), &text[index..=index]))
            .collect();
        let stream = &fragments[..7 * bad_end];
        assert_eq!(refused(&SERVER, stream), (0, -643, Some(1007)));
        assert_eq!(
            receive(&SERVER, &stream[..7 * bad_end - 1]).1,
            WebSocketEnding::InsideFrame
        );
        // A binary message may hold anything.
        assert_eq!(receive(&SERVER, &frame(0x82, &text)).0.len(), 1);
    }
}

#[test]
fn a_text_that_ends_inside_a_character_is_refused() {
    let cut = &"ende €".as_bytes()[..7];
    assert_eq!(refused(&SERVER, &frame(0x81, cut)), (0, -643, Some(1007)));
    let fragments = [frame(0x01, cut), frame(0x80, b"")].concat();
    assert_eq!(refused(&SERVER, &fragments), (0, -643, Some(1007)));
    // Cut between fragments it is fine.
    let rest = &"ende €".as_bytes()[7..];
    let (frames, _) = receive(&SERVER, &[frame(0x01, cut), frame(0x80, rest)].concat());
    assert_eq!(frames, [found(DATA, true, "ende €".as_bytes())]);
}

/// A fragmented message takes what has arrived, whatever its frames declare.
#[test]
fn nothing_is_allocated_for_what_is_declared() {
    let mut decoder = crate::codec::websocket::decoder::Decoder::new(
        crate::codec::websocket::decoder::DecoderConfig {
            client: false,
            msgi: false,
            message_limit: 1 << 30,
            inflate: None,
        },
    );
    let mut head = vec![0x02, 0xFF, 0, 0, 0, 0, 0x3F, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3];
    let (mut spans, mut copied) = (Vec::new(), bytes::BytesMut::new());
    let pass = decoder.decode(&mut head, &mut spans, &mut copied);
    assert_eq!((pass.consumed, pass.needed), (head.len(), 0));
    assert!(decoder.is_mid_message());
    assert_eq!(copied.capacity(), 0);
    assert!(decoder.held() < 64, "{}", decoder.held());
}

#[test]
fn many_empty_fragments_are_one_message() {
    let mut stream = frame(0x01, b"");
    for _ in 0..10_000 {
        stream.extend(frame(0x00, b""));
    }
    stream.extend(frame(0x80, b"end"));
    let (frames, ending) = receive(&SERVER, &stream);
    assert_eq!(frames, [found(DATA, true, b"end")]);
    assert_eq!(ending, WebSocketEnding::Boundary);
}

use proptest::prelude::*;

use super::*;
use crate::codec::websocket::deflate::negotiation::{Agreed, accept, judge_answer, offer};
use crate::codec::websocket::deflate::{Deflate, Deflater, compress_once};

const EACH: WebSocketOptions = WebSocketOptions {
    inflate: Some((false, 15)),
    ..SERVER
};
const TAKEOVER: WebSocketOptions = WebSocketOptions {
    inflate: Some((true, 15)),
    ..SERVER
};

fn agreed(takeover: bool, bits: u8) -> Agreed {
    Agreed {
        own_no_context_takeover: !takeover,
        peer_no_context_takeover: !takeover,
        own_window_bits: bits,
        peer_window_bits: bits,
    }
}

/// RFC 7692 section 7.2.3, byte for byte.
#[test]
fn examples_of_the_rfc_are_inflated() {
    let hello = found(DATA, true, b"Hello");
    let whole = [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
    let stored = [
        0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00,
    ];
    let last = [0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00];
    let two = [
        0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00,
    ];
    for options in [EACH, TAKEOVER] {
        for payload in [&whole[..], &stored, &last, &two] {
            let (frames, ending) = receive(&options, &frame(0xC1, payload));
            assert_eq!(frames, std::slice::from_ref(&hello));
            assert_eq!(ending, WebSocketEnding::Boundary);
        }
        // Fragmented, with a ping between.
        let stream = [
            frame(0x41, &whole[..3]),
            frame(0x89, b"?"),
            frame(0x80, &whole[3..]),
            frame(0xC1, &last),
            frame(0xC1, &whole),
        ]
        .concat();
        let (frames, _) = receive(&options, &stream);
        assert_eq!(frames[0], found(PING, true, b"?"));
        assert_eq!(frames[1..], [hello.clone(), hello.clone(), hello.clone()]);
        // An empty message is one zero byte; some encoders send none.
        for payload in [&[0x00][..], &[]] {
            let stream = [frame(0xC2, payload), frame(0xC1, &whole)].concat();
            let (frames, _) = receive(&options, &stream);
            assert_eq!(frames, [found(DATA, false, b""), hello.clone()]);
        }
    }
    // The second message refers to the first.
    let second = [0xF2, 0x00, 0x11, 0x00, 0x00];
    let stream = [frame(0xC1, &whole), frame(0xC1, &second)].concat();
    assert_eq!(receive(&TAKEOVER, &stream).0, [hello.clone(), hello]);
    assert_eq!(refused(&EACH, &stream), (1, -643, Some(1007)));
}

#[test]
fn a_whole_message_is_compressed_as_in_the_rfc() {
    let mut out = b"before".to_vec();
    let payload = b"Hello Hello Hello Hello Hello Hello";
    assert!(compress_once(payload, 6, &mut out));
    let (frames, _) = receive(&EACH, &frame(0xC1, &out[6..]));
    assert_eq!(frames, [found(DATA, true, payload)]);
    assert!(!out.ends_with(&[0, 0, 0xFF, 0xFF]));
}

#[test]
fn what_does_not_become_shorter_is_sent_as_it_is() {
    let noise: Vec<u8> = (0..5_000).flat_map(|_| next_mask()).collect();
    for payload in [&noise[..], b"", b"a"] {
        let mut out = b"before".to_vec();
        assert!(!compress_once(payload, 3, &mut out));
        assert_eq!(out, b"before");
    }
}

#[test]
fn an_empty_message_can_be_compressed_after_any_other() {
    let mut deflater = Deflater::new(&agreed(true, 15), 3);
    let mut stream = Vec::new();
    for payload in [&b""[..], b"text", b"", b"", b"text"] {
        let mut out = Vec::new();
        assert!(deflater.compress(payload, &mut out));
        assert!(!out.is_empty());
        stream.extend(frame(0xC1, &out));
    }
    let (frames, _) = receive(&TAKEOVER, &stream);
    let payloads: Vec<_> = frames.iter().map(|frame| &frame.payload[..]).collect();
    assert_eq!(payloads, [&b""[..], b"text", b"", b"", b"text"]);
}

/// 10 MB of zeros in 10 KB: refused when the limit is passed, with no more memory than that.
#[test]
fn a_bomb_is_refused_at_the_limit() {
    let zeros = vec![0; 10_000_000];
    let mut bomb = Vec::new();
    assert!(compress_once(&zeros, 9, &mut bomb));
    assert!(bomb.len() < 11_000);
    for options in [EACH, TAKEOVER] {
        for stream in [
            frame(0xC2, &bomb),
            [frame(0x42, &bomb[..100]), frame(0x80, &bomb[100..])].concat(),
        ] {
            assert_eq!(refused(&options, &stream), (0, -642, Some(1009)));
        }
    }
    let mut exact = Vec::new();
    assert!(compress_once(&zeros[..LIMIT], 9, &mut exact));
    assert_eq!(
        receive(&EACH, &frame(0xC2, &exact)).0[0].payload.len(),
        LIMIT
    );
    let mut over = Vec::new();
    assert!(compress_once(&zeros[..LIMIT + 1], 9, &mut over));
    let too_large = refused(&EACH, &frame(0xC2, &over));
    assert_eq!(too_large, (0, -642, Some(1009)));
}

/// One read of bombs comes out in several passes; `receive_websocket` checks how much each copies. Messages
/// below 4 KiB are copied one behind the other, larger ones are moved one by one.
#[test]
fn many_bombs_do_not_come_out_at_once() {
    for (size, count) in [(4_000, 2_000), (1 << 20, 40)] {
        let options = WebSocketOptions {
            message_limit: size,
            ..EACH
        };
        let mut bomb = Vec::new();
        assert!(compress_once(&vec![0; size], 9, &mut bomb));
        let stream = frame(0xC2, &bomb).repeat(count);
        let (frames, ending) = receive_websocket(&options, [&stream[..]]);
        assert_eq!((frames.len(), ending), (count, WebSocketEnding::Boundary));
        assert!(frames.iter().all(|frame| frame.payload.len() == size));
    }
}

/// Whatever is missing of its last block, where no window is carried over to hide it.
#[test]
fn a_compressed_message_that_is_cut_short_is_refused() {
    let text: Vec<u8> = (0..400_u32)
        .flat_map(|number| {
            (number.wrapping_mul(2_654_435_761) >> 20)
                .to_string()
                .into_bytes()
        })
        .collect();
    let mut valid = Vec::new();
    assert!(compress_once(&text, 6, &mut valid));
    let (frames, _) = receive(&EACH, &frame(0xC2, &valid));
    assert_eq!(frames, [found(DATA, false, &text)]);
    for len in 1..valid.len() - 1 {
        let stream = frame(0xC2, &valid[..len]);
        let (_, ending) = receive_websocket(&EACH, [&stream[..]]);
        let refused = WebSocketEnding::Invalid(-643, Some(1007));
        assert_eq!(ending, refused, "{len} of {}", valid.len());
    }
}

#[test]
fn bad_compressed_data_is_refused() {
    let mut valid = Vec::new();
    assert!(compress_once(&[7; 3_000], 6, &mut valid));
    for bad in [
        // A block of the reserved type; a stored block whose length is wrong; a window that is not there.
        &b"\x06"[..],
        b"\x00\x05\x00\x00\x00",
        b"\xFF\xFF\xFF\xFF",
        // Cut short inside a block.
        &valid[..valid.len() - 1],
        &valid[..3],
        b"\x00\x05\x00\xFA\xFFHe",
    ] {
        assert_eq!(
            refused(&EACH, &frame(0xC2, bad)),
            (0, -643, Some(1007)),
            "{bad:x?}"
        );
    }
    let text = {
        let mut out = Vec::new();
        assert!(compress_once(&[0xFF; 100], 6, &mut out));
        frame(0xC1, &out)
    };
    assert_eq!(refused(&EACH, &text), (0, -643, Some(1007)));
}

/// Beginning the stream anew with every second byte would be work without end.
#[test]
fn a_message_cannot_restart_the_stream_often() {
    let empty_final_blocks = [0x03, 0x00].repeat(4_000);
    for options in [EACH, TAKEOVER] {
        let stream = frame(0xC2, &empty_final_blocks);
        assert_eq!(refused(&options, &stream), (0, -643, Some(1007)));
        let few = frame(0xC2, &empty_final_blocks[..20]);
        assert_eq!(receive(&options, &few).0, [found(DATA, false, b"")]);
    }
}

/// Compressed bytes that stand for nothing are not taken for ever.
#[test]
fn compressed_bytes_have_a_limit_too() {
    let empty_blocks = [0, 0, 0, 0xFF, 0xFF].repeat(400);
    let mut stream = frame(0x42, &empty_blocks);
    for _ in 0..20 {
        stream.extend(frame(0x00, &empty_blocks));
    }
    assert_eq!(refused(&EACH, &stream), (0, -642, Some(1009)));
}

#[test]
fn options_are_negotiated_by_the_server() {
    let answer = |options: &Deflate, offers: &[&str]| {
        accept(options, offers.iter().copied()).map(|(_, answer)| answer)
    };
    let default = Deflate::default();
    let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assert_eq!(
        answer(&default, &["permessage-deflate"]).as_deref(),
        Some(both)
    );
    assert_eq!(
        answer(&default, &["permessage-deflate; client_max_window_bits"]).as_deref(),
        Some(both)
    );
    let takeover = Deflate {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_max_window_bits: 12,
        client_max_window_bits: 11,
        ..Deflate::default()
    };
    for (offer, expected) in [
        (
            "permessage-deflate",
            "permessage-deflate; server_max_window_bits=12",
        ),
        (
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=11",
        ),
        (
            "permessage-deflate ; client_max_window_bits = \"10\";server_max_window_bits=9",
            "permessage-deflate; server_max_window_bits=9; client_max_window_bits=10",
        ),
        (
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=15",
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=12",
        ),
        (
            "x-other; a=b, permessage-deflate; server_max_window_bits=8, permessage-deflate; client_no_context_takeover",
            "permessage-deflate; client_no_context_takeover; server_max_window_bits=12",
        ),
        (
            "permessage-deflate; client_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=8",
        ),
    ] {
        assert_eq!(
            answer(&takeover, &[offer]).as_deref(),
            Some(expected),
            "{offer}"
        );
    }
    assert_eq!(
        answer(&default, &["x-other", "permessage-deflate"]).as_deref(),
        Some(both)
    );
    for declined in [
        "",
        "x-webkit-deflate-frame",
        "permessage-deflate; unknown",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=09",
        "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; client_max_window_bits=",
        "permessage-deflate; client_max_window_bits=\"1",
        "permessage-deflate; =1",
        "permessage-deflate permessage-deflate",
    ] {
        assert_eq!(answer(&default, &[declined]), None, "{declined}");
    }
}

#[test]
fn the_answer_is_judged_by_the_client() {
    let options = Deflate {
        server_max_window_bits: 12,
        client_max_window_bits: 11,
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        ..Deflate::default()
    };
    assert_eq!(
        offer(&options),
        "permessage-deflate; server_max_window_bits=12; client_max_window_bits=11"
    );
    assert_eq!(
        offer(&Deflate::default()),
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits"
    );
    assert_eq!(judge_answer(&options, []), Ok(None));
    let judged = judge_answer(
        &options,
        [
            "permessage-deflate; client_max_window_bits=10; server_max_window_bits=9; client_no_context_takeover",
        ],
    );
    assert_eq!(
        judged,
        Ok(Some(Agreed {
            own_no_context_takeover: true,
            peer_no_context_takeover: false,
            own_window_bits: 10,
            peer_window_bits: 9,
        }))
    );
    for refused in [
        "x-other",
        "permessage-deflate, permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=12",
        "permessage-deflate; server_max_window_bits=13",
        "permessage-deflate; server_max_window_bits=0",
        "permessage-deflate; unknown=1",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate;",
    ] {
        assert!(judge_answer(&options, [refused]).is_err(), "{refused}");
    }
}

/// A window of 256 bytes is one that the library does not have.
#[test]
fn with_a_window_that_is_too_small_nothing_is_compressed() {
    let options = Deflate::default();
    let judged = judge_answer(&options, ["permessage-deflate; client_max_window_bits=8"]);
    let judged = judged.expect("valid").expect("accepted");
    assert_eq!(judged.own_window_bits, 8);
    assert!(!Deflater::new(&judged, 3).compress(&[0; 2_000], &mut Vec::new()));
}

#[test]
fn options_out_of_range_are_refused() {
    assert!(Deflate::default().check().is_ok());
    for options in [
        Deflate {
            server_max_window_bits: 8,
            ..Deflate::default()
        },
        Deflate {
            client_max_window_bits: 16,
            ..Deflate::default()
        },
        Deflate {
            level: 0,
            ..Deflate::default()
        },
        Deflate {
            level: 10,
            ..Deflate::default()
        },
    ] {
        assert!(options.check().is_err(), "{options:?}");
    }
}

proptest! {
    #[test]
    fn compressed_messages_arrive(
        messages in prop::collection::vec(
            prop_oneof!["[a-d ]{0,3000}", ".{0,40}"].prop_map(String::into_bytes), 1..6),
        takeover: bool,
        bits in 9..=15_u8,
        level in 1..=9_u8,
        cut: usize,
    ) {
        let mut deflater = Deflater::new(&agreed(takeover, bits), level);
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for payload in &messages {
            let mut out = Vec::new();
            if deflater.compress(payload, &mut out) {
                let cut = cut % (out.len() + 1);
                stream.extend(frame(0x41, &out[..cut]));
                stream.extend(frame(0x80, &out[cut..]));
                stream.extend(frame(0xC1, &out[..0]));
                expected.push(found(DATA, true, payload));
                expected.push(found(DATA, true, b""));
            } else {
                stream.extend(frame(0x81, payload));
                expected.push(found(DATA, true, payload));
            }
        }
        let options = WebSocketOptions { inflate: Some((takeover, bits)), ..SERVER };
        let (frames, ending) = receive(&options, &stream);
        prop_assert_eq!(frames, expected);
        prop_assert_eq!(ending, WebSocketEnding::Boundary);
    }

    #[test]
    fn what_one_side_accepts_the_other_understands(
        offered in (any::<(bool, bool)>(), 9..=15_u8, 9..=15_u8),
        accepting in (any::<(bool, bool)>(), 9..=15_u8, 9..=15_u8),
    ) {
        let options = |((server, client), server_bits, client_bits)| Deflate {
            server_no_context_takeover: server,
            client_no_context_takeover: client,
            server_max_window_bits: server_bits,
            client_max_window_bits: client_bits,
            ..Deflate::default()
        };
        let (client, server) = (options(offered), options(accepting));
        let offer = offer(&client);
        let (at_server, answer) = accept(&server, [offer.as_str()]).expect("accepted");
        let at_client = judge_answer(&client, [answer.as_str()]).expect("valid").expect("accepted");
        prop_assert_eq!(at_client.own_window_bits, at_server.peer_window_bits);
        prop_assert_eq!(at_client.peer_window_bits, at_server.own_window_bits);
        prop_assert_eq!(at_client.own_no_context_takeover, at_server.peer_no_context_takeover);
        prop_assert_eq!(at_client.peer_no_context_takeover, at_server.own_no_context_takeover);
    }
}

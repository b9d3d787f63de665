//! Micro benches of parts of the message path: decoding, encoding, the outbox, encoding for many receivers.
//!
//! `cargo bench --bench codec [-- TEXT]` runs those whose name contains the text. A run is what one read brings; the rate
//! is of messages. They show where a change has an effect; what a server costs is measured in `perf/`.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use network_system::CodecKind;
use network_system::internal::{
    Decode, Encode, Queue, WebSocketDecode, WebSocketDeflate, WebSocketOptions, encode_for_many,
    push_websocket_frame, push_websocket_message,
};

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500));
    targets = codec
}
criterion_main!(benches);

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("Codec");
    let mut bench = |name: &str, messages: usize, mut run: Box<dyn FnMut()>| {
        group.throughput(Throughput::Elements(messages as u64));
        group.bench_function(name, |bencher| bencher.iter(&mut run));
    };
    for size in [64, 1_024, 65_536] {
        bench(
            &format!("decode/msgi/{size}"),
            count(size),
            decode(CodecKind::Msgi, size),
        );
    }
    bench("decode/length/64", count(64), decode(CodecKind::Length, 64));
    bench("decode/lines/64", count(64), decode(CodecKind::Lines, 64));
    for size in [64, 1_024, 65_536] {
        for (kind, first) in [("binary", 0x82), ("text", 0x81)] {
            bench(
                &format!("decode/websocket/{kind}/{size}"),
                count(size),
                decode_websocket(first, size),
            );
        }
        bench(
            &format!("encode/websocket/client/{size}"),
            count(size),
            encode_websocket(true, size),
        );
    }
    bench(
        "encode/websocket/server/64",
        count(64),
        encode_websocket(false, 64),
    );
    bench("deflate/1024", 16, deflate());
    bench("inflate/1024", 16, inflate());
    for size in [64, 1_024] {
        bench(
            &format!("encode/lent/{size}"),
            count(size),
            encode_lent(size),
        );
    }
    for size in [64, 1_024, 65_536] {
        bench(
            &format!("encode/owned/{size}"),
            count(size),
            encode_owned(size),
        );
    }
    for size in [64, 1_024] {
        bench(&format!("outbox/{size}"), 512, outbox(size));
    }
    for receivers in [10, 1_000] {
        bench(
            &format!("encode-for-many/64/{receivers}"),
            receivers,
            broadcast(receivers),
        );
    }
}

/// As many messages as one read brings.
fn count(size: usize) -> usize {
    (256 * 1024 / (size + 10)).max(1)
}

fn decode(codec: CodecKind, size: usize) -> Box<dyn FnMut()> {
    let mut stream = Vec::new();
    for _ in 0..count(size) {
        match codec {
            CodecKind::Length => stream.extend_from_slice(&(size as u32).to_be_bytes()),
            CodecKind::Lines => {}
            _ => {
                stream.extend_from_slice(b"MSGI");
                stream.extend_from_slice(&(size as u32 + 10).to_be_bytes());
                stream.extend_from_slice(&0x10_u16.to_be_bytes());
            }
        }
        stream.resize(stream.len() + size, b'x');
        if codec == CodecKind::Lines {
            stream.push(b'\n');
        }
    }
    let stream = Bytes::from(stream);
    let mut decode = Decode::new(codec);
    Box::new(move || {
        let consumed = decode.messages(&stream, |message| {
            black_box(message);
        });
        assert_eq!(consumed, stream.len());
    })
}

/// Frames of a client. Masking is its own inverse, so a text needs the key that changes nothing.
fn decode_websocket(first: u8, size: usize) -> Box<dyn FnMut()> {
    let key = if first == 0x81 { [0; 4] } else { [1, 2, 3, 4] };
    let mut stream = Vec::new();
    for _ in 0..count(size) {
        push_websocket_frame(&mut stream, first, Some(key), &vec![b'x'; size]);
    }
    let mut decode = WebSocketDecode::new(&websocket_options(None));
    let mut masked = false;
    Box::new(move || {
        // What one run unmasks, the next one masks again: were it left out, the first byte would not change.
        let expected = if masked { b'x' ^ key[0] } else { b'x' };
        masked = !masked;
        let mut messages = 0;
        let consumed = decode.messages(&mut stream, |message| {
            assert!(message.len() == size && message[0] == expected);
            messages += 1;
            black_box(message);
        });
        assert_eq!((consumed, messages), (stream.len(), count(size)));
    })
}

fn websocket_options(inflate: Option<(bool, u8)>) -> WebSocketOptions {
    WebSocketOptions {
        client: false,
        msgi: false,
        message_limit: 1024 * 1024,
        inflate,
    }
}

fn encode_websocket(masked: bool, size: usize) -> Box<dyn FnMut()> {
    let (payload, mut stream) = (vec![b'x'; size], Vec::new());
    Box::new(move || {
        stream.clear();
        for _ in 0..count(size) {
            push_websocket_message(&mut stream, masked, black_box(&payload));
        }
        black_box(&stream);
    })
}

/// About a kilobyte of JSON, each time another.
fn json(number: usize) -> Vec<u8> {
    let mut text = String::from("[");
    for item in 0..8 {
        let id = number * 7919 + item * 104_729;
        text += &format!(
            r#"{{"id":{id},"user":"user{}","price":{}.{:02},"tags":["new","sale"],"time":"2026-11-21T12:{:02}:{:02}Z","stock":{}}},"#,
            id % 977,
            id % 4_999,
            id % 97,
            id % 60,
            id % 59,
            id % 31,
        );
    }
    text.into_bytes()
}

fn deflate() -> Box<dyn FnMut()> {
    let payloads: Vec<_> = (0..16).map(json).collect();
    let mut deflate = WebSocketDeflate::new(false, 15, 3);
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        for payload in &payloads {
            assert!(deflate.compress(black_box(payload), &mut out));
        }
        black_box(&out);
    })
}

fn inflate() -> Box<dyn FnMut()> {
    let mut deflate = WebSocketDeflate::new(false, 15, 3);
    let mut stream = Vec::new();
    for payload in (0..16).map(json) {
        let mut out = Vec::new();
        assert!(deflate.compress(&payload, &mut out));
        push_websocket_frame(&mut stream, 0xC1, Some([0; 4]), &out);
    }
    let mut decode = WebSocketDecode::new(&websocket_options(Some((false, 15))));
    Box::new(move || {
        let consumed = decode.messages(&mut stream, |message| {
            black_box(message);
        });
        assert_eq!(consumed, stream.len());
    })
}

fn encode_lent(size: usize) -> Box<dyn FnMut()> {
    let (payload, mut encode) = (vec![b'x'; size], Encode::default());
    Box::new(move || {
        for _ in 0..count(size) {
            encode.lent(black_box(&payload));
        }
        black_box(encode.written());
    })
}

fn encode_owned(size: usize) -> Box<dyn FnMut()> {
    let (payload, mut encode) = (Bytes::from(vec![b'x'; size]), Encode::default());
    Box::new(move || {
        for _ in 0..count(size) {
            encode.owned(black_box(payload.clone()));
        }
        black_box(encode.written());
    })
}

fn outbox(size: usize) -> Box<dyn FnMut()> {
    let (payload, mut queue) = (Bytes::from(vec![b'x'; size]), Queue::default());
    Box::new(move || {
        for _ in 0..512 {
            assert!(queue.offer(black_box(&payload)));
        }
        black_box(queue.drain());
    })
}

fn broadcast(receivers: usize) -> Box<dyn FnMut()> {
    let payload = Bytes::from(vec![b'x'; 64]);
    let mut queues: Vec<Queue> = (0..receivers).map(|_| Queue::default()).collect();
    Box::new(move || {
        encode_for_many(black_box(&payload), &mut queues);
        for queue in &mut queues {
            black_box(queue.drain());
        }
    })
}

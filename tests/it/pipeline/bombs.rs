//! What compressed messages may cost: little more than the largest message, whatever they say they are.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use network_system::pipeline::{Compression, OnFailure};
use network_system::{Message, Session};

use super::{hello, with_fate};
use crate::support::{Frame, Net, Over, alloc, kind, limits, serve, timeouts};

/// The message limit of these tests.
const LIMIT: usize = 1024 * 1024;

type MakeCompression = fn() -> Compression;

const ALGORITHMS: [(&str, MakeCompression); 4] = [
    ("lz4", Compression::lz4),
    ("zstd", Compression::zstd),
    ("gzip", Compression::gzip),
    ("deflate", Compression::deflate),
];

/// A message of `len` zeroes as it stands on the wire, which says that it has `declared`.
fn zeroes(algorithm: &str, len: usize, declared: usize) -> Vec<u8> {
    let raw = vec![0; len];
    let level = flate2::Compression::best();
    let compressed = match algorithm {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(&raw).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(&raw).unwrap();
            encoder.finish().unwrap()
        }
        _ => gigabytes(algorithm, len),
    };
    saying(declared, &compressed)
}

fn saying(declared: usize, compressed: &[u8]) -> Vec<u8> {
    let mut message = vec![1];
    message.extend((declared as u32).to_be_bytes());
    message.extend(compressed);
    message
}

/// Very many zeroes, in little time.
fn gigabytes(algorithm: &str, len: usize) -> Vec<u8> {
    match algorithm {
        // One literal, one match that is as long as it gets, and five literals at the end.
        "lz4" => {
            let mut block = vec![0x1F, 0, 1, 0];
            let left = len - 1 - 4 - 15 - 5;
            block.resize(block.len() + left / 255, 255);
            block.extend([(left % 255) as u8, 0x50, 0, 0, 0, 0, 0]);
            block
        }
        "zstd" => {
            let zeroes = std::io::repeat(0).take(len as u64);
            zstd::stream::encode_all(zeroes, 1).unwrap()
        }
        "gzip" => {
            let mut member = vec![0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255];
            deflated_zeroes(len, &mut member);
            member
        }
        _ => {
            let mut stream = vec![0x78, 0xDA];
            deflated_zeroes(len, &mut stream);
            stream
        }
    }
}

/// Blocks of deflate that are all the same, because nothing of one is needed for the next. The checksum
/// behind them is wrong: nobody should come so far.
fn deflated_zeroes(len: usize, into: &mut Vec<u8>) {
    const BLOCK: usize = 16 << 20;
    let mut compress = flate2::Compress::new(flate2::Compression::best(), false);
    let mut block = Vec::with_capacity(64 * 1024);
    let raw = vec![0; BLOCK.min(len)];
    compress
        .compress_vec(&raw, &mut block, flate2::FlushCompress::Full)
        .unwrap();
    assert_eq!(compress.total_in() as usize, raw.len());
    for _ in 0..len.div_ceil(BLOCK) {
        into.extend_from_slice(&block);
    }
    into.extend([3, 0]);
    into.extend([0; 8]);
}

async fn server(algorithm: fn() -> Compression, fate: OnFailure) -> Net {
    serve(Over::Tcp, |builder| {
        builder
            .workers(1)
            .limits(limits(|limits| limits.message_size = LIMIT))
            // Making the bombs takes longer than anybody should be silent.
            .timeouts(timeouts(|timeouts| timeouts.heartbeat = Duration::ZERO))
            .pipeline(with_fate(fate, vec![algorithm().into()]))
            .on_message(|session: Session, message: Message| async move {
                let _ = session
                    .send((message.len() as u64).to_be_bytes().to_vec())
                    .await;
            })
    })
    .await
}

/// Says hello on a thread of its own, sends all that, and gives the frames that come back until the
/// end, or until there are so many.
fn attack(
    url: &str,
    name: &'static str,
    frames: Vec<Vec<u8>>,
    most: usize,
) -> std::thread::JoinHandle<Vec<(u16, Vec<u8>)>> {
    let addr = url.strip_prefix("tcp://").unwrap().to_owned();
    std::thread::spawn(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let hello = Frame::new(kind::CONTROL, hello(&[name], None)).encode();
        stream.write_all(&hello).unwrap();
        let mut answers = vec![read_frame(&mut stream).unwrap()];
        let mut reader = stream.try_clone().unwrap();
        let writing = std::thread::spawn(move || {
            for frame in frames {
                let _ = stream.write_all(&Frame::new(kind::DATA, frame).encode());
            }
            stream
        });
        while answers.len() < most + 1
            && let Some(frame) = read_frame(&mut reader)
        {
            answers.push(frame);
        }
        drop(writing.join().unwrap());
        answers.split_off(1)
    })
}

fn read_frame(stream: &mut TcpStream) -> Option<(u16, Vec<u8>)> {
    let mut head = [0; 10];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes(head[4..8].try_into().unwrap());
    let mut payload = vec![0; length as usize - 10];
    stream.read_exact(&mut payload).ok()?;
    Some((u16::from_be_bytes([head[8], head[9]]), payload))
}

/// Lets the server work on this thread until the other thread is done; gives the bytes by which what is held
/// here has grown at most.
async fn peak_while<T: Send + 'static>(work: std::thread::JoinHandle<T>) -> (T, usize) {
    let before = alloc::held();
    alloc::reset_peak();
    while !work.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let grown = alloc::peak() - before;
    (work.join().unwrap(), usize::try_from(grown).unwrap_or(0))
}

#[tokio::test]
async fn a_gigabyte_from_a_megabyte_is_refused_at_once_in_little_memory() {
    for (name, algorithm) in ALGORITHMS {
        let net = server(algorithm, OnFailure::Disconnect).await;
        let mut bystander = bystander(&net, name).await;
        // LZ4 makes no more than 255 bytes of one, so that a gigabyte would take four megabytes.
        let len = if name == "lz4" { 255 << 20 } else { 1 << 30 };
        let compressed = gigabytes(name, len);
        // One that says how long it is, one that lies, and one that says just what is allowed.
        for declared in [len, 4, LIMIT] {
            let bomb = saying(declared, &compressed);
            assert!(bomb.len() <= LIMIT + 64, "{name}: {}", bomb.len());
            let began = Instant::now();
            let (answers, peak) = peak_while(attack(&net.url, name, vec![bomb], 9)).await;
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "{name}: {:?}",
                began.elapsed()
            );
            let [(kind::ERROR, error)] = &answers[..] else {
                panic!("{name}: {answers:?}")
            };
            let code = i32::from_be_bytes(error[..4].try_into().unwrap());
            let expected = if declared > LIMIT { -642 } else { -646 };
            assert_eq!(
                code,
                expected,
                "{name} {declared}: {}",
                String::from_utf8_lossy(&error[4..])
            );
            // The message as it came, what it has come to, and the frames around them.
            assert!(
                peak < 2 * LIMIT + 64 * 1024,
                "{name} {declared}: {peak} bytes"
            );
        }
        bystander.data(b"\0unharmed".to_vec()).await;
        assert_eq!(bystander.expect_data().await[1..], 8_u64.to_be_bytes());
        net.stop().await;
    }
}

/// A session that is not harmed. Its message of the largest size shows that the buffers for that are there.
async fn bystander(net: &Net, name: &str) -> crate::support::Peer {
    let mut peer = net.peer().await;
    peer.control(hello(&[name], None)).await;
    peer.expect(kind::CONTROL).await;
    peer.data(vec![0; LIMIT + 1]).await;
    assert_eq!(peer.expect_data().await[1..], (LIMIT as u64).to_be_bytes());
    peer
}

#[tokio::test]
async fn many_small_frames_that_become_large_are_taken_one_after_the_other() {
    for (name, algorithm) in ALGORITHMS {
        let net = server(algorithm, OnFailure::Disconnect).await;
        let small = zeroes(name, LIMIT, LIMIT);
        let count = (256 * 1024 / small.len()).min(200);
        let (answers, peak) = peak_while(attack(&net.url, name, vec![small; count], count)).await;
        assert_eq!(answers.len(), count, "{name}");
        let mut echo = vec![0];
        echo.extend((LIMIT as u64).to_be_bytes());
        assert!(
            answers
                .iter()
                .all(|answer| *answer == (kind::DATA, echo.clone())),
            "{name}"
        );
        assert!(peak < 2 * LIMIT, "{name}: {peak} bytes for {count} frames");
        net.stop().await;
    }
}

#[tokio::test]
async fn a_bomb_is_dropped_where_that_is_configured() {
    for (name, algorithm) in ALGORITHMS {
        let net = server(algorithm, OnFailure::Drop).await;
        let bomb = zeroes(name, 2 * LIMIT, 2 * LIMIT);
        let liar = zeroes(name, 2 * LIMIT, LIMIT);
        let frames = vec![bomb, liar, b"\0fine".to_vec()];
        let (answers, _) = peak_while(attack(&net.url, name, frames, 1)).await;
        let mut echo = vec![0];
        echo.extend(4_u64.to_be_bytes());
        assert_eq!(answers, [(kind::DATA, echo)], "{name}");
        net.stop().await;
    }
}

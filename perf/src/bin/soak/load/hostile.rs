//! Peers that break the protocol, in every way that is cheap for them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use network_system_perf::frame::{self, CONTROL, DATA, HEARTBEAT, PING};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::World;
use super::resume::address;
use crate::random::Random;

/// REQUEST, of which the load generator needs only its type.
const REQUEST: u16 = 0x0011;
/// How long they wait for an answer.
const WAIT: Duration = Duration::from_millis(500);

pub(super) async fn run(world: Arc<World>, mut random: Random) {
    let urls = [&world.tcp, &world.ws, &world.tls].map(|url| address(url));
    let [Some(tcp), Some(ws), Some(tls)] = urls else {
        return world.counts.fault("a URL has no address".to_owned());
    };
    let Some(udp) = address(&world.udp) else {
        return world.counts.fault("a URL has no address".to_owned());
    };
    while world.is_on() {
        // What is refused may end in any way; the server's own samples say whether it has taken it well.
        let _ = match random.within(0, 8) {
            0..4 => stream(&world, tcp, &msgi(&mut random), &mut random).await,
            4 => stream(&world, ws, &upgrade(&mut random), &mut random).await,
            5 => stream(&world, tls, &handshake(&mut random), &mut random).await,
            6 => datagrams(udp, &mut random).await,
            _ => greedy(&world, tcp, &mut random).await,
        };
        world.counts.bad_peers.fetch_add(1, Relaxed);
        world.rest(random.within(1, 100)).await;
    }
}

fn framed(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&frame::header(kind, payload.len())[..], payload].concat()
}

/// What a peer of MSGI must not send.
fn msgi(random: &mut Random) -> Vec<u8> {
    let hello = framed(CONTROL, br#"{"op":"hello","version":1}"#);
    match random.within(0, 14) {
        // Not a byte, until the deadline.
        0 => Vec::new(),
        1 => random.bytes(200),
        // A length that lies: too long, too short.
        2 => [&b"MSGI\xff\xff\xff\xff"[..], &[0, DATA as u8]].concat(),
        3 => b"MSGI\0\0\0\x03\0\x10".to_vec(),
        4 => framed(0x7777, b"unknown"),
        // Much is declared, little comes.
        5 => [&frame::header(DATA, 100_000)[..], b"little"].concat(),
        6 => framed(REQUEST, b"1234"),
        7 => framed(CONTROL, b"{\"op\":"),
        8 => framed(CONTROL, br#"{"op":"hello","op":"hello"}"#),
        // The session of another, with any token.
        9 => {
            let token: String = (0..4)
                .map(|_| format!("{:08x}", random.next() as u32))
                .collect();
            let text = format!(
                r#"{{"op":"hello","version":1,"reliable":true,"resume":{{"session_id":"{}","resume_token":"{token}","received":0}}}}"#,
                random.within(1, 1_000)
            );
            framed(CONTROL, text.as_bytes())
        }
        // Acknowledges what was never sent.
        10 => {
            let ack = framed(CONTROL, br#"{"op":"ack","received":9007199254740991}"#);
            let reliable = framed(CONTROL, br#"{"op":"hello","version":1,"reliable":true}"#);
            [&reliable[..], &ack].concat()
        }
        11 => {
            let mut bytes = hello;
            for number in 0..200 {
                let text = format!(r#"{{"op":"join","group":"feed-x{number}"}}"#);
                bytes.extend(framed(CONTROL, text.as_bytes()));
            }
            bytes
        }
        12 => [hello.clone(), hello].concat(),
        // As many PINGs as fit.
        _ => framed(PING, b"again").repeat(2_000),
    }
}

fn upgrade(random: &mut Random) -> Vec<u8> {
    let begin = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    match random.within(0, 6) {
        0 => random.bytes(300),
        // It does not end.
        1 => begin.as_bytes().to_vec(),
        2 => format!("{begin}X: {}\r\n\r\n", "x".repeat(20_000)).into_bytes(),
        3 => format!("{begin}Origin: https://example.org\r\n\r\n").into_bytes(),
        // A frame without a mask, and one that is longer than anything.
        4 => [format!("{begin}\r\n").as_bytes(), b"\x82\x05hello"].concat(),
        _ => [
            format!("{begin}\r\n").as_bytes(),
            b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff",
        ]
        .concat(),
    }
}

fn handshake(random: &mut Random) -> Vec<u8> {
    match random.within(0, 3) {
        0 => random.bytes(500),
        // The head of a ClientHello.
        1 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        _ => Vec::new(),
    }
}

/// Sends, hears a little, and goes in one way or another.
async fn stream(
    world: &World,
    address: SocketAddr,
    bytes: &[u8],
    random: &mut Random,
) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    if random.one_in(10) {
        return stream.set_zero_linger();
    }
    stream.write_all(bytes).await?;
    let mut buffer = [0; 4096];
    let wait = match random.one_in(4) {
        // Until a deadline of the server's.
        true => 6 * WAIT,
        false => WAIT,
    };
    let answer = async { while matches!(stream.read(&mut buffer).await, Ok(1..)) {} };
    tokio::select! {
        _ = tokio::time::timeout(wait, answer) => {}
        () = world.rest(60_000) => {}
    }
    match random.one_in(2) {
        true => stream.set_zero_linger(),
        false => Ok(()),
    }
}

/// Asks and asks, and does not read.
async fn greedy(world: &World, address: SocketAddr, random: &mut Random) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&framed(HEARTBEAT, b"")).await?;
    let questions = framed(DATA, &vec![b'e'; 8_000]).repeat(16);
    let asking = async { while stream.write_all(&questions).await.is_ok() {} };
    let wait = Duration::from_millis(random.within(200, 3_000));
    tokio::select! {
        _ = tokio::time::timeout(wait, asking) => {}
        () = world.rest(60_000) => {}
    }
    Ok(())
}

async fn datagrams(address: SocketAddr, random: &mut Random) -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    for _ in 0..random.within(1, 50) {
        let bytes = match random.one_in(3) {
            true => msgi(random),
            false => random.bytes(300),
        };
        socket
            .send_to(&bytes[..bytes.len().min(1_400)], address)
            .await?;
    }
    Ok(())
}

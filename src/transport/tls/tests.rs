#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::task::Poll;

use bytes::BytesMut;
use proptest::prelude::*;
use rustls::unbuffered::ConnectionState;

use super::records::{Connection, MAX_RECORD, OVERHEAD, RECORD};
use super::testing::{End, Pipe, finish, open};
use super::{KEPT_LIMIT, WRITE_CHUNK};
use crate::codec::{Decoder, EndOfStream, Framing};
use crate::endpoint::CodecKind;
use crate::error::ErrorCode;
use crate::session::link::{Buffers, Link, LinkError, READ_CHUNK, Then};
use crate::tls::testing::Authority;
use crate::tls::{Alpn, TlsClient, TlsServer};
use crate::transport::stream::{Stream, StreamLink};

fn configs() -> (TlsServer, TlsClient) {
    let authority = Authority::new();
    let server = authority.leaf(&["localhost"]).server();
    (server, authority.client().build().unwrap())
}

fn ends() -> (End, End) {
    let (server, client) = configs();
    open(&server, &client)
}

fn old_ends() -> (End, End) {
    let authority = Authority::new();
    let server = authority.leaf(&["localhost"]).server();
    let (one, other) = Pipe::pair();
    let server = End::server(one, &server, Alpn::Stream);
    let done = finish(server, End::client_with(other, authority.tls12()));
    done.server_result.unwrap();
    (done.server, done.client)
}

/// Bytes that are not the same everywhere.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn ready<T>(poll: Poll<std::io::Result<T>>) -> T {
    match poll {
        Poll::Ready(result) => result.unwrap(),
        Poll::Pending => panic!("pending"),
    }
}

#[test]
fn bytes_arrive_as_they_were_sent_with_both_versions() {
    for (mut server, mut client) in [ends(), old_ends()] {
        for count in [1, 64, RECORD - 1, RECORD, RECORD + 1, 4097, 300_000] {
            let sent = bytes(count);
            client.write_all(&sent);
            assert_eq!(server.read_all().unwrap(), (sent.clone(), false));
            server.write_all(&sent);
            assert_eq!(client.read_all().unwrap(), (sent, false));
        }
    }
}

#[test]
fn many_small_slices_leave_in_one_full_record_and_one_write() {
    let (mut server, client) = ends();
    let before = server.tls.stream.sent();
    let slice = bytes(64);
    let slices = vec![&slice[..]; 64];
    assert_eq!(ready(server.write(&slices)), 64 * 64);
    let after = server.tls.stream.sent();
    assert_eq!(after.1 - before.1, 1, "one write");
    assert!(after.0 - before.0 <= 64 * 64 + OVERHEAD, "one record");
    drop(client);
}

#[test]
fn a_write_takes_what_it_can_bound_and_keeps_only_that() {
    let (mut server, mut client) = ends();
    server.tls.stream.set_room(100);
    let sent = bytes(1_000_000);
    let taken = ready(server.write(&[&sent]));
    assert_eq!(taken, WRITE_CHUNK);
    assert!(!server.tls.is_flushed() && server.flush().is_pending());
    let bound = WRITE_CHUNK + 8 * OVERHEAD;
    assert!(server.tls.unsent.len() <= bound);
    for _ in 0..100 {
        assert!(server.write(&[&sent]).is_pending());
    }
    assert!(server.tls.unsent.capacity() <= 2 * bound);
    // It goes on as the peer reads, and all that was taken arrives.
    let mut received = Vec::new();
    while server.flush().is_pending() {
        received.extend(client.read_all().unwrap().0);
    }
    received.extend(client.read_all().unwrap().0);
    assert_eq!(received, sent[..taken]);
    assert_eq!(server.tls.unsent.capacity(), 0);
}

#[test]
fn half_a_record_is_not_the_end() {
    let (mut server, mut client) = ends();
    client.write_all(b"hello");
    let mut held = Vec::new();
    server
        .tls
        .stream
        .tamper(|bytes| held.extend(bytes.drain(10..)));
    let mut into = BytesMut::new();
    assert!(server.read(&mut into, READ_CHUNK).is_pending());
    assert!(server.read(&mut into, READ_CHUNK).is_pending());
    server.tls.stream.inject(&held);
    assert_eq!(server.read_all().unwrap(), (b"hello".to_vec(), false));
}

#[test]
fn an_idle_connection_holds_no_buffer() {
    for (mut server, mut client) in [ends(), old_ends()] {
        client.write_all(b"hello");
        server.read_all().unwrap();
        server.write_all(b"hello");
        client.read_all().unwrap();
        for end in [&server, &client] {
            assert_eq!(end.tls.received.capacity(), 0);
            assert_eq!(end.tls.unsent.capacity(), 0);
            assert_eq!(end.tls.early.capacity(), 0);
            assert!(size_of_val(&*end.tls.connection) <= 1_536);
            assert!(size_of_val(&end.tls) <= 192);
        }
    }
}

#[test]
fn a_small_room_brings_not_much_more() {
    let (mut server, mut client) = ends();
    client.write_all(&bytes(200_000));
    let mut total = 0;
    for room in [1, 100, RECORD, 3 * RECORD].into_iter().cycle() {
        let mut into = BytesMut::new();
        let Poll::Ready(Ok(count)) = server.read(&mut into, room) else {
            break;
        };
        assert!(
            count <= room.next_multiple_of(RECORD) + RECORD,
            "{count} for {room}"
        );
        total += count;
    }
    assert_eq!(total, 200_000);
}

#[test]
fn what_follows_the_handshake_at_once_is_not_lost() {
    let authority = Authority::new();
    let server = authority.leaf(&["localhost"]).server();
    let client = authority.client().build().unwrap();
    let (one, other) = Pipe::pair();
    let mut server = End::server(one, &server, Alpn::Stream);
    let mut client = End::client(other, &client, "localhost", Alpn::Stream);
    assert!(client.open().is_pending());
    assert!(server.open().is_pending());
    // The client is done, and sends along with its last flight.
    assert!(matches!(client.open(), Poll::Ready(Ok(()))));
    client.write_all(b"at once");
    assert!(matches!(server.open(), Poll::Ready(Ok(()))));
    assert_eq!(server.read_all().unwrap(), (b"at once".to_vec(), false));
}

#[test]
fn a_handshake_may_come_byte_by_byte() {
    let (server, client) = configs();
    let (mut one, mut other) = Pipe::pair();
    one.read_size = 1;
    other.read_size = 1;
    let server = End::server(one, &server, Alpn::Stream);
    let done = finish(
        server,
        End::client(other, &client, "localhost", Alpn::Stream),
    );
    done.server_result.unwrap();
    done.client_result.unwrap();
}

#[test]
fn a_handshake_goes_on_when_the_peer_reads_again() {
    let authority = Authority::new();
    let identity = authority.leaf(&["localhost"]).identity();
    // Without tickets, which nobody here would read after the handshake.
    let server = TlsServer::builder(identity).session_resumption(false);
    let server = server.build().unwrap();
    let client = authority.client().build().unwrap();
    let (one, other) = Pipe::pair();
    one.set_room(10);
    other.set_room(10);
    let server = End::server(one, &server, Alpn::Stream);
    let done = finish(
        server,
        End::client(other, &client, "localhost", Alpn::Stream),
    );
    done.server_result.unwrap();
    done.client_result.unwrap();
}

#[test]
fn garbage_is_refused_with_an_alert_and_takes_no_memory() {
    let (server, _) = configs();
    for garbage in [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        bytes(1_000_000),
        vec![0; 1_000_000],
        vec![0xff; 1_000_000],
    ] {
        let (one, other) = Pipe::pair();
        let mut server = End::server(one, &server, Alpn::Stream);
        server.tls.stream.inject(&garbage);
        let Poll::Ready(Err(error)) = server.open() else {
            panic!("not refused");
        };
        assert_eq!(error.code, ErrorCode::TlsHandshakeFailed);
        assert!(error.text.contains("does not speak TLS"), "{}", error.text);
        assert!(server.tls.received.capacity() <= KEPT_LIMIT);
        // An alert: a record of type 21 with two bytes.
        let mut alert = Vec::new();
        other.tamper(|bytes| alert.extend(bytes.drain(..)));
        assert_eq!((alert.len(), alert[0]), (7, 21));
        // The rest is taken and forgotten, and the connection ends.
        let mut into = BytesMut::new();
        while let Poll::Ready(Ok(1..)) = server.read(&mut into, READ_CHUNK) {}
        assert!(into.is_empty());
        assert!(ready_error(server.write(&[b"x"])));
        ready(server.shutdown());
    }
}

fn ready_error<T>(poll: Poll<std::io::Result<T>>) -> bool {
    matches!(poll, Poll::Ready(Err(_)))
}

#[test]
fn a_handshake_message_that_never_ends_is_bounded() {
    let (server, _) = configs();
    let (one, _other) = Pipe::pair();
    let mut server = End::server(one, &server, Alpn::Stream);
    // A client hello of 65,535 bytes, in records of one byte each.
    let record = |byte: u8| [22, 3, 1, 0, 1, byte];
    for byte in [1, 0, 0xff, 0xff] {
        server.tls.stream.inject(&record(byte));
    }
    for _ in 0..200_000 {
        server.tls.stream.inject(&record(0));
    }
    let Poll::Ready(Err(error)) = server.open() else {
        panic!("not refused");
    };
    assert_eq!(error.code, ErrorCode::TlsHandshakeFailed);
    assert!(server.tls.received.capacity() <= 2 * KEPT_LIMIT);
}

#[test]
fn a_peer_that_leaves_during_the_handshake_is_told_apart() {
    let (server, client) = configs();
    let (one, other) = Pipe::pair();
    let mut server = End::server(one, &server, Alpn::Stream);
    let _client = End::client(other, &client, "localhost", Alpn::Stream);
    assert!(server.open().is_pending());
    server.tls.stream.cut_off();
    let Poll::Ready(Err(error)) = server.open() else {
        panic!("still open");
    };
    assert_eq!(error.code, ErrorCode::ConnectionClosed);
    assert!(error.text.contains("during the TLS handshake"));
}

#[test]
fn a_close_is_an_end_and_a_cut_is_told_apart() {
    for (mut server, mut client) in [ends(), old_ends()] {
        client.write_all(b"last");
        ready(client.shutdown());
        assert_eq!(server.read_all().unwrap(), (b"last".to_vec(), true));
        assert_eq!(server.read_all().unwrap(), (Vec::new(), true));
        assert!(!server.tls.was_cut_off());
        // The other direction stays open, and ends by itself.
        server.write_all(b"answer");
        ready(server.shutdown());
        assert_eq!(client.read_all().unwrap(), (b"answer".to_vec(), true));
        assert!(!client.tls.was_cut_off());
    }
    let (mut server, mut client) = ends();
    client.write_all(b"last");
    server.tls.stream.cut_off();
    assert_eq!(server.read_all().unwrap(), (b"last".to_vec(), true));
    assert!(server.tls.was_cut_off());
}

#[test]
fn a_line_that_may_have_been_cut_off_is_not_delivered() {
    for cut in [true, false] {
        let (server, mut client) = ends();
        client.write_all(b"whole\npay 100");
        if cut {
            server.tls.stream.cut_off();
        } else {
            ready(client.shutdown());
        }
        let decoder = Decoder::new(Framing::from(CodecKind::Lines), 1024);
        let mut link = StreamLink::new(server.tls, decoder);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut buffers = Buffers::default();
        let mut receive = || match link.poll_receive(&mut context, &mut buffers, READ_CHUNK) {
            Poll::Ready(result) => result.unwrap(),
            Poll::Pending => panic!("pending"),
        };
        assert!(matches!(receive().then, Then::More));
        let end = receive();
        match cut {
            true => assert!(matches!(end.then, Then::End(EndOfStream::InsideFrame))),
            false => assert!(matches!(end.then, Then::End(EndOfStream::Boundary))),
        }
        assert_eq!(end.frames.is_empty(), cut);
    }
}

#[test]
fn a_changed_record_ends_the_connection_after_what_came_before_it() {
    for (mut server, mut client) in [ends(), old_ends()] {
        client.write_all(b"good");
        client.write_all(b"changed");
        server
            .tls
            .stream
            .tamper(|bytes| *bytes.back_mut().unwrap() ^= 1);
        let mut into = BytesMut::new();
        assert_eq!(ready(server.read(&mut into, READ_CHUNK)), 4);
        assert_eq!(&into[..], b"good");
        let error = server.read_all().unwrap_err();
        assert_eq!(LinkError::code_of(&error), Some(ErrorCode::ReceiveFailed));
        assert!(ready_error(server.write(&[b"x"])));
        // The peer learns of it.
        let error = client.read_all().unwrap_err();
        assert!(error.to_string().contains("BadRecordMac"), "{error}");
    }
}

#[test]
fn keys_may_be_updated_at_any_time_and_flooding_with_updates_is_an_error() {
    let (mut server, mut client) = ends();
    let update = |end: &mut End| {
        let Connection::Client(connection) = &mut *end.tls.connection else {
            panic!("not a client");
        };
        match connection.process_tls_records(&mut []).state {
            Ok(ConnectionState::WriteTraffic(traffic)) => traffic.refresh_traffic_keys().unwrap(),
            other => panic!("{other:?}"),
        }
    };
    for _ in 0..10 {
        update(&mut client);
        client.write_all(b"under new keys");
        assert_eq!(
            server.read_all().unwrap(),
            (b"under new keys".to_vec(), false)
        );
        server.write_all(b"mine too");
        assert_eq!(client.read_all().unwrap(), (b"mine too".to_vec(), false));
    }
    for _ in 0..1_000 {
        update(&mut client);
        let _ = client.write(&[]);
        if server.read_all().is_err() {
            assert!(server.tls.unsent.len() < MAX_RECORD);
            return;
        }
    }
    panic!("1,000 key updates without data");
}

#[test]
fn a_connection_goes_on_where_it_was_moved_to() {
    let (mut server, mut client) = ends();
    client.write_all(b"before");
    server
        .tls
        .stream
        .tamper(|bytes| bytes.make_contiguous().rotate_left(0));
    let moved = server.tls.leave_runtime().unwrap();
    server.tls = moved().unwrap();
    assert_eq!(server.read_all().unwrap(), (b"before".to_vec(), false));
    server.write_all(b"after");
    assert_eq!(client.read_all().unwrap(), (b"after".to_vec(), false));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever the sizes of writes, of reads, and of what the stream below takes.
    #[test]
    fn every_byte_arrives_once_and_in_order(
        writes in prop::collection::vec(prop::collection::vec(0..40_000_usize, 1..8), 1..6),
        room in 1..50_000_usize,
        read_size in 1..50_000_usize,
        read_room in 1..300_000_usize,
    ) {
        let (mut server, mut client) = ends();
        client.tls.stream.set_room(room);
        server.tls.stream.read_size = read_size;
        let mut sent = Vec::new();
        let mut into = BytesMut::new();
        for write in writes {
            let data = bytes(write.iter().sum());
            let mut begin = 0;
            let pieces = write.iter().map(|&count| {
                begin += count;
                &data[begin - count..begin]
            });
            let pieces: Vec<_> = pieces.filter(|piece| !piece.is_empty()).collect();
            if pieces.is_empty() {
                continue;
            }
            loop {
                match client.write(&pieces) {
                    Poll::Ready(taken) => {
                        sent.extend_from_slice(&data[..taken.unwrap()]);
                        break;
                    }
                    Poll::Pending => while let Poll::Ready(read) = server.read(&mut into, read_room) {
                        prop_assert!(read.unwrap() > 0);
                    }
                }
            }
        }
        loop {
            let flushed = client.flush().is_ready();
            while let Poll::Ready(read) = server.read(&mut into, read_room) {
                prop_assert!(read.unwrap() > 0);
            }
            if flushed {
                break;
            }
        }
        prop_assert!(sent == into[..]);
    }
}

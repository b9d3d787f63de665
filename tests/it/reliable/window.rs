//! The window: what is not acknowledged is bounded, and nothing is dropped for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use network_system::{
    ErrorCode, Message, QueuePolicy, RequestError, ServerBuilder, Session, State,
};
use serde_json::json;

use super::{CONNECTED, MS, ack, begin_with, reliability, serve_reliable};
use crate::support::{
    Frame, Net, Over, Peer, echo, eventually, kind, limits, number_of, numbered, timeouts, within,
};

fn silent(builder: ServerBuilder) -> ServerBuilder {
    builder.timeouts(timeouts(|timeouts| {
        timeouts.heartbeat = Duration::ZERO;
        timeouts.idle = Duration::ZERO;
    }))
}

async fn peer_of(net: &Net, window: usize) -> (Peer, Session) {
    let peer = begin_with(&net.url, json!({"window": window})).await.0;
    (peer, net.server.sessions().remove(0))
}

/// What comes until nothing more does, which is one frame at least; acknowledgements do not count.
async fn burst(peer: &mut Peer) -> Vec<Frame> {
    let mut frames = vec![super::next(peer).await];
    let mut quiet = 0;
    // An answer to PING may overtake frames, but not those of the turns before it.
    while quiet < 10 {
        peer.send(Frame::new(kind::PING, "more?")).await;
        let before = frames.len();
        loop {
            let frame = super::next(peer).await;
            if frame.kind == kind::PONG {
                break;
            }
            frames.push(frame);
        }
        quiet = if frames.len() > before { 0 } else { quiet + 1 };
    }
    frames
}

/// Takes what the window lets through and acknowledges it, until `total` frames have come. Returns how many came at
/// a time.
async fn take_all(
    peer: &mut Peer,
    window: usize,
    total: u64,
    mut check: impl FnMut(u64, &Frame),
) -> Vec<usize> {
    let mut taken = 0;
    let mut sizes = Vec::new();
    while taken < total {
        let frames = burst(peer).await;
        let bytes: usize = frames.iter().map(|frame| frame.encode().len()).sum();
        assert!(
            bytes <= window || frames.len() == 1,
            "{} frames of {bytes} bytes",
            frames.len()
        );
        assert!(
            !frames.is_empty(),
            "nothing comes after {taken} of {total} frames"
        );
        for frame in &frames {
            check(taken, frame);
            taken += 1;
        }
        sizes.push(frames.len());
        ack(peer, taken).await;
    }
    sizes
}

fn is_number(number: u64, frame: &Frame) {
    assert_eq!(frame.kind, kind::DATA, "{frame:?}");
    assert_eq!(number_of(&frame.payload), number);
}

#[tokio::test]
async fn never_more_is_unacknowledged_than_the_window() {
    for &over in CONNECTED {
        let net = serve_reliable(over, silent).await;
        let (mut peer, session) = peer_of(&net, 1_024).await;
        for number in 0..20 {
            session.send(numbered(number, 300)).await.unwrap();
        }
        let sizes = take_all(&mut peer, 1_024, 20, is_number).await;
        assert_eq!(sizes, [3, 3, 3, 3, 3, 3, 2], "{over:?}: as many as fit");
        net.stop().await;
    }
}

#[tokio::test]
async fn a_session_whose_window_is_used_up_does_not_keep_its_worker_busy() {
    // A thread that spins does not let the clock of this test go on.
    let net = serve_reliable(Over::Mem, silent).await;
    let (mut peer, session) = peer_of(&net, 1_024).await;
    for number in 0..5 {
        session.send(numbered(number, 300)).await.unwrap();
    }
    assert_eq!(burst(&mut peer).await.len(), 3);
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.worker_total_busy_duration(0);
    assert!(peer.is_quiet_for(300 * MS).await);
    let busy = metrics.worker_total_busy_duration(0) - before;
    assert!(busy < 150 * MS, "{busy:?} of 300 ms");
    net.stop().await;
}

#[tokio::test]
async fn a_handler_that_waits_while_acknowledgements_are_withheld_does_not_keep_its_worker_busy() {
    let net = serve_reliable(Over::Mem, |builder| {
        silent(echo(builder)).limits(limits(|limits| limits.outbox_messages = 3))
    })
    .await;
    // What is left of the window is too small for the next message.
    let (mut peer, session) = peer_of(&net, 1_024).await;
    for number in 0..10 {
        peer.data(numbered(number, 300)).await;
    }
    assert_eq!(burst(&mut peer).await.len(), 3);
    eventually("the outbox is full", || {
        session.stats().queued_messages == 3
    })
    .await;
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.worker_total_busy_duration(0);
    assert!(peer.is_quiet_for(300 * MS).await);
    let busy = metrics.worker_total_busy_duration(0) - before;
    assert!(busy < 150 * MS, "{busy:?} of 300 ms");
    ack(&mut peer, 3).await;
    assert_eq!(burst(&mut peer).await.len(), 3);
    net.stop().await;
}

#[tokio::test]
async fn a_frame_longer_than_the_window_goes_alone() {
    for &over in CONNECTED {
        let net = serve_reliable(over, silent).await;
        let (mut peer, session) = peer_of(&net, 1_024).await;
        let lens = [10, 5_000, 200_000, 10, 10, 5_000, 10];
        for (number, len) in lens.into_iter().enumerate() {
            session.send(numbered(number as u64, len)).await.unwrap();
        }
        let sizes = take_all(&mut peer, 1_024, lens.len() as u64, is_number).await;
        assert_eq!(sizes, [1, 1, 1, 2, 1, 1], "{over:?}");
        net.stop().await;
    }
}

#[tokio::test]
async fn with_a_window_of_one_byte_frames_go_one_by_one() {
    for &over in CONNECTED {
        let net = serve_reliable(over, silent).await;
        let (mut peer, session) = peer_of(&net, 1).await;
        for number in 0..5 {
            session.send(numbered(number, 20)).await.unwrap();
        }
        let sizes = take_all(&mut peer, 1, 5, is_number).await;
        assert_eq!(sizes, [1; 5], "{over:?}");
        // The other way it is acknowledged at once, for the peer's window is as small.
        peer.data("x").await;
        assert_eq!(super::next_ack(&mut peer).await, 1);
        net.stop().await;
    }
}

#[tokio::test]
async fn what_handlers_send_keeps_within_the_window() {
    for &over in CONNECTED {
        let net = serve_reliable(over, |builder| silent(echo(builder))).await;
        let (mut peer, _session) = peer_of(&net, 2_048).await;
        // The peer need not wait for acknowledgements of what is allowed alone.
        let frames = (0..60).map(|number| Frame::new(kind::DATA, numbered(number, 300)));
        peer.send_together(frames.collect()).await;
        let sizes = take_all(&mut peer, 2_048, 60, is_number).await;
        assert!(sizes.iter().all(|&size| size <= 6), "{over:?}: {sizes:?}");
        net.stop().await;
    }
}

#[tokio::test]
async fn what_a_handler_sends_bit_by_bit_keeps_within_the_window() {
    for &over in CONNECTED {
        let net = serve_reliable(over, |builder| {
            silent(builder).on_message(|session: Session, _| async move {
                for number in 0..50 {
                    session.send(numbered(number, 300)).await.unwrap();
                    tokio::task::yield_now().await;
                }
            })
        })
        .await;
        let (mut peer, _session) = peer_of(&net, 1_024).await;
        peer.data("go").await;
        take_all(&mut peer, 1_024, 50, is_number).await;
        net.stop().await;
    }
}

#[tokio::test]
async fn answers_keep_within_the_window_and_none_is_dropped() {
    for policy in [QueuePolicy::Wait, QueuePolicy::Disconnect] {
        for &over in CONNECTED {
            let net = serve_reliable(over, |builder| {
                silent(builder)
                    .limits(limits(|limits| {
                        limits.when_full = policy;
                        limits.outbox_messages = 4;
                    }))
                    .on_request(|_, message: Message| async move { Ok::<_, RequestError>(message) })
            })
            .await;
            let (mut peer, _session) = peer_of(&net, 1_024).await;
            let frames = (0..40).map(|id| Frame::with_id(kind::REQUEST, id, numbered(id, 300)));
            peer.send_together(frames.collect()).await;
            take_all(&mut peer, 1_024, 40, |number, frame| {
                assert_eq!((frame.kind, frame.id), (kind::RESPONSE, number));
                assert_eq!(number_of(&frame.payload), number);
            })
            .await;
            net.stop().await;
        }
    }
}

#[tokio::test]
async fn a_sender_waits_while_acknowledgements_are_withheld_and_others_do_not() {
    let net = serve_reliable(Over::Tcp, |builder| {
        silent(echo(builder)).limits(limits(|limits| limits.outbox_bytes = 64 * 1024))
    })
    .await;
    let (mut peer, session) = peer_of(&net, 16 * 1024).await;
    let sent = Arc::new(AtomicUsize::new(0));
    let sender = tokio::spawn({
        let sent = Arc::clone(&sent);
        async move {
            for number in 0..1_000 {
                session.send(numbered(number, 990)).await.unwrap();
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let first = burst(&mut peer).await;
    assert_eq!(first.len(), 16);
    let waits = sent.load(Ordering::Relaxed);
    assert!((16..100).contains(&waits), "{waits}");
    // Whatever else it asks for, no more than the window and the outbox is kept for it.
    let held = net.monitor.memory();
    let bytes = held.queued_bytes + held.session_buffer_bytes;
    assert!(bytes < 256 * 1024, "{bytes} bytes");
    let (mut other, _) = super::begin(&net.url).await;
    for number in 0..200 {
        other.data(numbered(number, 500)).await;
        assert_eq!(number_of(&super::next_data(&mut other).await), number);
    }
    assert_eq!(sent.load(Ordering::Relaxed), waits);
    ack(&mut peer, 16).await;
    let mut taken = 16;
    while taken < 1_000 {
        for frame in burst(&mut peer).await {
            is_number(taken, &frame);
            taken += 1;
        }
        ack(&mut peer, taken).await;
    }
    within("the sender", sender).await.unwrap();
    net.stop().await;
}

#[tokio::test]
async fn a_peer_that_does_not_heed_the_window_is_read_no_further() {
    let net = serve_reliable(Over::Tcp, |builder| {
        silent(builder)
            .reliable(reliability(|reliability| reliability.window = 64 * 1024))
            .on_message(|_, _| std::future::pending())
    })
    .await;
    let (mut peer, _session) = peer_of(&net, 64 * 1024).await;
    let flood = async {
        loop {
            peer.try_send(Frame::new(kind::DATA, vec![7; 8_000]))
                .await
                .unwrap();
        }
    };
    // It gets stuck when the sockets are full.
    let _ = tokio::time::timeout(300 * MS, flood).await;
    let held = net.monitor.memory().session_buffer_bytes;
    assert!(held < 3 * 64 * 1024 + 512 * 1024, "{held} bytes");
    net.stop().await;
}

#[tokio::test]
async fn a_queue_policy_of_disconnect_counts_from_the_outbox_on() {
    let net = serve_reliable(Over::Mem, |builder| {
        silent(builder).limits(limits(|limits| {
            limits.when_full = QueuePolicy::Disconnect;
            limits.outbox_messages = 3;
        }))
    })
    .await;
    let (mut peer, session) = peer_of(&net, 1_024).await;
    for number in 0..3 {
        session.send(numbered(number, 300)).await.unwrap();
    }
    eventually("they leave", || session.stats().queued_messages == 0).await;
    for number in 3..6 {
        session.send(numbered(number, 300)).await.unwrap();
    }
    let _ = session.send(numbered(6, 300)).await;
    for number in 0..3 {
        assert_eq!(number_of(&peer.expect_data().await), number);
    }
    assert_eq!(
        peer.expect(kind::ERROR).await.code_and_text().0,
        network_system::ErrorCode::SlowConsumer.as_i32()
    );
    drop(peer);
    let reason = within("the end", session.closed()).await;
    assert_eq!(reason.code(), Some(network_system::ErrorCode::SlowConsumer));
    net.stop().await;
}

#[tokio::test]
async fn acknowledgements_are_read_while_a_message_longer_than_the_window_is_handled() {
    for &over in CONNECTED {
        let net = serve_reliable(over, |builder| {
            silent(builder)
                .reliable(reliability(|reliability| reliability.window = 1_024))
                .limits(limits(|limits| limits.outbox_messages = 4))
                .on_message(|session: Session, _| async move {
                    for number in 0..50 {
                        session.send(numbered(number, 300)).await.unwrap();
                    }
                })
        })
        .await;
        let (mut peer, _session) = peer_of(&net, 1_024).await;
        peer.data(vec![7; 200_000]).await;
        take_all(&mut peer, 1_024, 50, is_number).await;
        net.stop().await;
    }
}

/// A peer that has used up the window, and acknowledges nothing.
async fn unheard(net: &Net) -> (Peer, Session) {
    let (mut peer, session) = peer_of(net, 1_024).await;
    for number in 0..8 {
        session.send(numbered(number, 300)).await.unwrap();
    }
    assert_eq!(burst(&mut peer).await.len(), 3);
    (peer, session)
}

/// Sends `frame` again and again; how the server puts an end to it.
async fn asked_on(mut peer: Peer, session: &Session, frame: impl Fn(u64) -> Frame) {
    let flood = async {
        for number in 0.. {
            if session.state() != State::Connected || peer.try_send(frame(number)).await.is_err() {
                return;
            }
        }
    };
    within("the end of it", flood).await;
    drop(peer);
    let reason = within("the end", session.closed()).await;
    assert_eq!(reason.code(), Some(ErrorCode::SlowConsumer));
    let rest = session.take_unacknowledged();
    let rest = rest.iter().map(|message| number_of(message.payload()));
    assert!(rest.eq(0..8), "what it has not acknowledged is given back");
}

#[tokio::test]
async fn who_asks_on_and_acknowledges_no_answers_is_not_listened_to_for_ever() {
    let net = serve_reliable(Over::Tcp, |builder| {
        silent(builder)
            .limits(limits(|limits| limits.pending_requests = 100))
            .on_request(|_, message: Message| async move { Ok::<_, RequestError>(message) })
    })
    .await;
    let (peer, session) = unheard(&net).await;
    asked_on(peer, &session, |id| {
        Frame::with_id(kind::REQUEST, id, numbered(id, 300))
    })
    .await;
    net.stop().await;
}

#[tokio::test]
async fn who_joins_on_and_acknowledges_nothing_is_not_listened_to_for_ever() {
    let net = serve_reliable(Over::Tcp, silent).await;
    let (peer, session) = unheard(&net).await;
    let join = json!({"op": "join", "group": "x".repeat(1_000)}).to_string();
    asked_on(peer, &session, |_| Frame::new(kind::CONTROL, join.clone())).await;
    net.stop().await;
}

//! When what was handled is acknowledged. The clock stands still but for what nothing else is left to do.

use std::sync::Arc;
use std::time::Duration;

use network_system::executor::ThreadPool;
use network_system::{Message, RequestError, ServerBuilder, Session};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{
    MS, ack, acked, begin, begin_with, lose, next_ack, reliability, resume, serve_reliable,
};
use crate::support::{Frame, Net, Over, Peer, kind, settle, timeouts, within};

/// Acknowledgements are the only frames that nobody asks for.
fn silent(builder: ServerBuilder) -> ServerBuilder {
    builder.timeouts(timeouts(|timeouts| {
        timeouts.heartbeat = Duration::ZERO;
        timeouts.idle = Duration::ZERO;
    }))
}

fn nothing(builder: ServerBuilder) -> ServerBuilder {
    silent(builder).on_message(|_, _| async {})
}

async fn peer_of(net: &Net, window: usize) -> Peer {
    begin_with(&net.url, json!({"window": window})).await.0
}

async fn send_data(peer: &mut Peer, count: usize, len: usize) {
    let frames = (0..count).map(|_| Frame::new(kind::DATA, vec![7; len]));
    peer.send_together(frames.collect()).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_handled_is_acknowledged_after_100_ms() {
    let net = serve_reliable(Over::Mem, nothing).await;
    let mut peer = peer_of(&net, 1 << 20).await;
    for count in [1, 2, 257] {
        let before = if count == 257 { 2 } else { count - 1 };
        let began = Instant::now();
        send_data(&mut peer, count - before, 10).await;
        assert_eq!(next_ack(&mut peer).await, count as u64);
        let elapsed = began.elapsed();
        assert!((99 * MS..=110 * MS).contains(&elapsed), "{elapsed:?}");
    }
    assert!(peer.is_quiet_for(Duration::from_secs(5)).await, "once");
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_256_frames_it_is_acknowledged_at_once() {
    let net = serve_reliable(Over::Mem, nothing).await;
    let mut peer = peer_of(&net, 1 << 20).await;
    let began = Instant::now();
    send_data(&mut peer, 256, 10).await;
    let count = next_ack(&mut peer).await;
    assert_eq!(count, 256);
    assert!(began.elapsed() <= 2 * MS, "{:?}", began.elapsed());
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_quarter_of_the_window_it_is_acknowledged_at_once() {
    let net = serve_reliable(Over::Mem, nothing).await;
    let mut peer = peer_of(&net, 4_096).await;
    let began = Instant::now();
    send_data(&mut peer, 4, 246).await;
    assert_eq!(
        next_ack(&mut peer).await,
        4,
        "heads count: 4 times 256 bytes"
    );
    assert!(began.elapsed() <= 2 * MS, "{:?}", began.elapsed());
    send_data(&mut peer, 4, 245).await;
    assert_eq!(next_ack(&mut peer).await, 8);
    assert!(began.elapsed() >= 99 * MS, "{:?}", began.elapsed());
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn frames_of_all_application_types_count_and_no_others() {
    let net = serve_reliable(Over::Mem, |builder| {
        nothing(builder)
            .on_request(|_, message: Message| async move { Ok::<_, RequestError>(message) })
    })
    .await;
    let mut peer = peer_of(&net, 1 << 20).await;
    peer.heartbeat().await;
    peer.send(Frame::new(0x8001, "own")).await;
    peer.control(r#"{"op":"unheard-of"}"#).await;
    peer.data("").await;
    peer.send(Frame::with_id(kind::RESPONSE, 99, "unasked"))
        .await;
    let failure = [&5_i32.to_be_bytes()[..], b"unasked"].concat();
    peer.send(Frame::with_id(kind::FAILURE, 98, failure)).await;
    peer.request(1, "echo").await;
    assert_eq!(peer.expect(kind::RESPONSE).await.payload, "echo");
    assert_eq!(next_ack(&mut peer).await, 5);
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_before_its_handler_has_returned() {
    let go_on = Arc::new(Semaphore::new(0));
    let net = serve_reliable(Over::Mem, |builder| {
        let go_on = Arc::clone(&go_on);
        silent(builder).on_message(move |_, _| {
            let go_on = Arc::clone(&go_on);
            async move { go_on.acquire().await.unwrap().forget() }
        })
    })
    .await;
    let mut peer = peer_of(&net, 1 << 20).await;
    send_data(&mut peer, 300, 10).await;
    assert!(peer.is_quiet_for(Duration::from_secs(5)).await);
    go_on.add_permits(3);
    assert_eq!(next_ack(&mut peer).await, 3);
    assert!(peer.is_quiet_for(Duration::from_secs(5)).await);
    go_on.add_permits(290);
    assert_eq!(next_ack(&mut peer).await, 3 + 256);
    assert_eq!(next_ack(&mut peer).await, 293);
    net.stop().await;
}

/// Nobody knows what of it had arrived when the link was lost.
#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_is_said_again_on_the_next_link() {
    let net = serve_reliable(Over::Mem, nothing).await;
    let (mut peer, mut ticket) = begin(&net.url).await;
    send_data(&mut peer, 3, 10).await;
    assert_eq!(next_ack(&mut peer).await, 3);
    for is_lost in [true, false] {
        // A link that looks alive is as good as lost.
        let old = peer;
        let mut kept = None;
        match is_lost {
            true => lose(&net, old).await,
            false => kept = Some(old),
        }
        (peer, _, ticket) = resume(&net.url, &ticket, 0).await;
        assert_eq!(next_ack(&mut peer).await, 3, "lost: {is_lost}");
        drop(kept);
    }
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_being_answered_holds_the_count_back() {
    let go_on = Arc::new(Semaphore::new(0));
    let net = serve_reliable(Over::Mem, |builder| {
        let go_on = Arc::clone(&go_on);
        nothing(builder).on_request(move |_, message: Message| {
            let go_on = Arc::clone(&go_on);
            async move {
                if message.payload() == b"slow" {
                    go_on.acquire().await.unwrap().forget();
                }
                Ok::<_, RequestError>(message)
            }
        })
    })
    .await;
    let mut peer = peer_of(&net, 1 << 20).await;
    send_data(&mut peer, 2, 10).await;
    peer.request(1, "slow").await;
    peer.request(2, "fast").await;
    send_data(&mut peer, 600, 10).await;
    assert_eq!(peer.expect(kind::RESPONSE).await.id, 2);
    assert_eq!(next_ack(&mut peer).await, 2);
    assert!(peer.is_quiet_for(Duration::from_secs(5)).await);
    go_on.add_permits(1);
    assert_eq!(peer.expect(kind::RESPONSE).await.id, 1);
    assert_eq!(next_ack(&mut peer).await, 604);
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn answers_count_on_both_sides() {
    let net = serve_reliable(Over::Mem, nothing).await;
    let mut peer = peer_of(&net, 1 << 20).await;
    let session = net.server.sessions().remove(0);
    let asking = tokio::spawn({
        let session = session.clone();
        async move { session.ask("what?").await.unwrap() }
    });
    let id = peer.expect(kind::REQUEST).await.id;
    assert_eq!(session.stats().unacknowledged_messages, 1);
    ack(&mut peer, 1).await;
    peer.send(Frame::with_id(kind::RESPONSE, id, "that")).await;
    assert_eq!(next_ack(&mut peer).await, 1);
    assert_eq!(asking.await.unwrap(), Message::binary("that"));
    assert_eq!(session.stats().unacknowledged_messages, 0);
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_request_is_handled_too() {
    // Without a request handler the answer is FAILURE.
    let net = serve_reliable(Over::Mem, nothing).await;
    let mut peer = peer_of(&net, 1 << 20).await;
    peer.request(1, "?").await;
    peer.expect(kind::FAILURE).await;
    assert_eq!(next_ack(&mut peer).await, 1);
    let session = net.server.sessions().remove(0);
    let unacknowledged = session.stats().unacknowledged_messages;
    assert_eq!(unacknowledged, 1, "it waits for an ack");
    ack(&mut peer, 1).await;
    crate::support::eventually("the ack", || session.stats().unacknowledged_messages == 0).await;
    net.stop().await;
}

#[tokio::test]
async fn acknowledgements_overtake_what_is_queued() {
    for &over in super::CONNECTED {
        let net = serve_reliable(over, |builder| {
            nothing(builder)
                .reliable(reliability(|reliability| reliability.window = 64 << 20))
                .limits(crate::support::limits(|limits| {
                    limits.outbox_bytes = 64 << 20;
                    limits.outbox_messages = 1 << 20
                }))
        })
        .await;
        let mut peer = peer_of(&net, 64 << 20).await;
        let session = net.server.sessions().remove(0);
        // More than links and sockets hold.
        let total = 24 * 1024;
        for _ in 0..total {
            session.send(vec![1; 1_014]).await.unwrap();
        }
        // The link takes no more, and what comes is still read.
        settle().await;
        send_data(&mut peer, 256, 10).await;
        crate::support::eventually("all is read", || session.stats().messages_received == 256)
            .await;
        let mut before = 0;
        loop {
            let frame = peer.receive().await.unwrap();
            match acked(&frame) {
                Some(count) => {
                    assert!(count >= 1);
                    break;
                }
                None => before += 1,
            }
        }
        assert!(
            before < total - 1_024,
            "{over:?}: {before} of {total} came first"
        );
        for _ in before..total {
            super::next_data(&mut peer).await;
        }
        net.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_leave_while_the_window_is_used_up() {
    let net = serve_reliable(Over::Mem, nothing).await;
    let mut peer = peer_of(&net, 1_024).await;
    let session = net.server.sessions().remove(0);
    for _ in 0..10 {
        session.send(vec![1; 300]).await.unwrap();
    }
    for _ in 0..3 {
        peer.expect_data().await;
    }
    send_data(&mut peer, 1, 500).await;
    assert_eq!(next_ack(&mut peer).await, 1);
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_ordinary_session_acknowledges_nothing() {
    let net = serve_reliable(Over::Mem, nothing).await;
    let mut peer = net.peer().await;
    peer.control(r#"{"op":"hello"}"#).await;
    peer.expect(kind::CONTROL).await;
    send_data(&mut peer, 600, 1_000).await;
    assert!(peer.is_quiet_for(Duration::from_secs(5)).await);
    // What it is told of acknowledgements means nothing to it.
    ack(&mut peer, 1_000_000).await;
    peer.ping_pong(b"still here").await;
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_no_messages_has_handled_them() {
    let net = serve_reliable(Over::Mem, silent).await;
    let mut peer = peer_of(&net, 1 << 20).await;
    send_data(&mut peer, 5, 10).await;
    assert_eq!(next_ack(&mut peer).await, 5);
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn messages_count_one_by_one_while_the_handler_works_on_what_one_read_brought() {
    struct Slow(Arc<Semaphore>);
    impl network_system::Handler for Slow {
        async fn on_message(&self, _: &Session, _: &Message) {
            self.0.acquire().await.unwrap().forget();
        }
    }
    let go_on = Arc::new(Semaphore::new(0));
    let net = serve_reliable(Over::Mem, |builder| {
        silent(builder).handler(Slow(go_on.clone()))
    })
    .await;
    let mut peer = peer_of(&net, 1 << 20).await;
    send_data(&mut peer, 10, 10).await;
    settle().await;
    go_on.add_permits(4);
    assert_eq!(next_ack(&mut peer).await, 4, "the fifth is in work");
    go_on.add_permits(6);
    assert_eq!(within("ack", next_ack(&mut peer)).await, 10);
    net.stop().await;
}

/// In real time: a thread blocks.
#[tokio::test]
async fn what_an_executor_has_handled_is_acknowledged_while_it_is_at_the_rest() {
    let (go_on, gate) = std::sync::mpsc::channel();
    let gate = Arc::new(std::sync::Mutex::new(gate));
    let net = serve_reliable(Over::Tcp, |builder| {
        let gate = Arc::clone(&gate);
        silent(builder)
            .executor(ThreadPool::new(1, 16).unwrap())
            .on_message(move |_, message| {
                if message.payload() == b"wait" {
                    let _ = gate.lock().unwrap().recv();
                }
                async {}
            })
    })
    .await;
    let (mut peer, _) = begin(&net.url).await;
    let batch = ["a", "b", "wait", "c"].map(|text| Frame::new(kind::DATA, text).encode());
    peer.write(&batch.concat()).await;
    super::ack_of(&mut peer, 2).await;
    go_on.send(()).unwrap();
    super::ack_of(&mut peer, 4).await;
    drop(peer);
    net.stop().await;
}

//! Deadlines, on a clock that stands still until nothing else is left to do.
//!
//! Most run in process, where no I/O can come between. The middle of a frame needs bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use network_system::{ErrorCode, Message, Session};
use tokio::time::Instant;

use crate::support::websocket::{Ask, BINARY, Ws, WsPeer, encode};
use crate::support::{
    Frame, Over, Peer, VIRTUAL_PATIENCE, echo, kind, log, record, serve, timeouts, within,
};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Deadlines are looked at twice a second.
const GRAIN: Duration = Duration::from_millis(1_000);

fn assert_about(elapsed: Duration, expected: Duration) {
    assert!(
        elapsed >= expected && elapsed <= expected + GRAIN,
        "after {elapsed:?}, not after {expected:?}"
    );
}

/// Answers every PING until the server says something else.
async fn pong(peer: &mut Peer) -> Option<Frame> {
    loop {
        match peer.receive().await {
            Some(frame) if frame.kind == kind::PING => {
                peer.send(Frame::new(kind::PONG, frame.payload)).await;
            }
            other => return other,
        }
    }
}

/// Does not answer PING.
async fn ignore_pings(peer: &mut Peer) -> Option<Frame> {
    loop {
        match peer.receive().await {
            Some(frame) if frame.kind == kind::PING => {}
            other => return other,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_told_after_the_first_byte_timeout() {
    let net = serve(Over::Mem, |builder| {
        echo(builder).timeouts(timeouts(|timeouts| timeouts.first_byte = secs(7)))
    })
    .await;
    let began = Instant::now();
    let mut peer = net.peer().await;
    let (code, text) = peer.expect_error_and_end().await;
    assert_eq!(code, ErrorCode::ConnectionTimeout.as_i32(), "{text}");
    assert_about(began.elapsed(), secs(7));
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_first_byte_timeout_covers_the_authenticator() {
    struct Slow;
    impl network_system::Authenticator for Slow {
        fn authenticate<'a>(
            &'a self,
            _: &'a Session,
            _: network_system::Credentials,
        ) -> network_system::BoxFuture<'a, Result<Option<String>, network_system::RequestError>>
        {
            Box::pin(std::future::pending())
        }
    }
    let net = serve(Over::Mem, |builder| {
        builder
            .authenticator(Slow)
            .timeouts(timeouts(|timeouts| timeouts.drain = secs(1)))
    })
    .await;
    let began = Instant::now();
    let mut peer = net.peer().await;
    peer.control(r#"{"op":"hello"}"#).await;
    let (code, _) = peer.expect_error_and_end().await;
    assert_eq!(code, ErrorCode::ConnectionTimeout.as_i32());
    assert_about(began.elapsed(), secs(10));
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_not_completed_is_told_after_the_mid_frame_timeout() {
    for over in [
        Over::Tcp,
        #[cfg(unix)]
        Over::Unix,
    ] {
        let net = serve(over, |builder| {
            echo(builder).timeouts(timeouts(|timeouts| {
                timeouts.heartbeat = Duration::ZERO;
                timeouts.mid_frame = secs(20);
            }))
        })
        .await;
        let mut peer = net.peer().await;
        peer.data("open").await;
        assert_eq!(peer.expect_data().await, "open");
        let began = Instant::now();
        let bytes = Frame::new(kind::DATA, vec![7; 100]).encode();
        // Bytes that trickle in are activity, but complete nothing.
        for byte in 0..9 {
            peer.write(&bytes[byte..=byte]).await;
            tokio::time::sleep(secs(2)).await;
        }
        let (code, text) = peer.expect_error_and_end().await;
        assert_eq!(code, ErrorCode::ConnectionTimeout.as_i32(), "{text}");
        assert_about(began.elapsed(), secs(20));
        net.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_frame_has_the_whole_mid_frame_timeout() {
    let net = serve(Over::Tcp, |builder| {
        echo(builder).timeouts(timeouts(|timeouts| {
            timeouts.heartbeat = Duration::ZERO;
            timeouts.mid_frame = secs(3);
        }))
    })
    .await;
    let mut peer = net.peer().await;
    let bytes = Frame::new(kind::DATA, "a message").encode();
    // The end of one and the beginning of the next in one write.
    peer.write(&bytes[..8]).await;
    for _ in 0..10 {
        tokio::time::sleep(secs(2)).await;
        peer.write(&[&bytes[8..], &bytes[..8]].concat()).await;
        assert_eq!(peer.expect_data().await, "a message");
    }
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_goes_quiet_is_told_after_the_idle_timeout() {
    let (log, mut events) = log();
    let net = serve(Over::Mem, |builder| {
        record(echo(builder), &log).timeouts(timeouts(|timeouts| {
            timeouts.heartbeat = Duration::ZERO;
            timeouts.idle = secs(30);
        }))
    })
    .await;
    let mut peer = net.peer().await;
    for _ in 0..5 {
        peer.heartbeat().await;
        assert!(peer.is_quiet_for(secs(25)).await);
    }
    peer.data("the last").await;
    let began = Instant::now();
    assert_eq!(peer.expect_data().await, "the last");
    let (code, _) = peer.expect_error_and_end().await;
    assert_eq!(code, ErrorCode::IdleTimeout.as_i32());
    assert_about(began.elapsed(), secs(30));
    drop(peer);
    assert_eq!(
        events.disconnected().await.code(),
        Some(ErrorCode::IdleTimeout)
    );
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_to_an_idle_peer_does_not_keep_it() {
    let net = serve(Over::Mem, |builder| {
        builder.timeouts(timeouts(|timeouts| timeouts.heartbeat = Duration::ZERO))
    })
    .await;
    let (mut peer, session) = net.pair().await;
    let began = Instant::now();
    let sender = tokio::spawn(async move {
        while session.send("news").await.is_ok() {
            tokio::time::sleep(secs(1)).await;
        }
    });
    let error = loop {
        let frame = peer.receive().await.unwrap();
        if frame.kind != kind::DATA {
            break frame;
        }
    };
    assert_eq!(error.code_and_text().0, ErrorCode::IdleTimeout.as_i32());
    assert_about(began.elapsed(), secs(30));
    drop(peer);
    within("the sender", sender).await.unwrap();
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_quiet_session_is_pinged_and_lives_as_long_as_it_answers() {
    let net = serve(Over::Mem, echo).await;
    let (mut peer, session) = net.pair().await;
    assert_eq!(session.stats().round_trip, None);
    let began = Instant::now();
    let ping = peer.expect(kind::PING).await;
    assert_about(began.elapsed(), secs(10));
    assert!(ping.payload.len() <= 125);
    tokio::time::sleep(Duration::from_millis(30)).await;
    peer.send(Frame::new(kind::PONG, ping.payload)).await;
    let lives = tokio::time::timeout(secs(3_600), pong(&mut peer)).await;
    assert!(lives.is_err(), "{lives:?}");
    assert!(session.is_connected());
    let round_trip = session.stats().round_trip.unwrap();
    assert!(round_trip <= Duration::from_millis(100), "{round_trip:?}");
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_sends_is_not_pinged() {
    let net = serve(Over::Mem, |builder| builder).await;
    let (mut peer, session) = net.pair().await;
    for _ in 0..20 {
        tokio::time::sleep(secs(6)).await;
        session.send("news").await.unwrap();
        assert_eq!(peer.expect_data().await, "news");
        peer.heartbeat().await;
    }
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_peer_is_noticed_after_three_heartbeats() {
    let (log, mut events) = log();
    let net = serve(Over::Mem, |builder| {
        record(builder, &log).timeouts(timeouts(|timeouts| {
            timeouts.idle = Duration::ZERO;
            timeouts.heartbeat = secs(4);
        }))
    })
    .await;
    let mut peer = net.open_peer().await;
    let began = Instant::now();
    let error = ignore_pings(&mut peer).await.unwrap();
    assert_eq!(
        error.code_and_text().0,
        ErrorCode::HeartbeatTimeout.as_i32()
    );
    assert_about(began.elapsed(), secs(12));
    peer.expect_end().await;
    drop(peer);
    assert_eq!(
        events.disconnected().await.code(),
        Some(ErrorCode::HeartbeatTimeout)
    );
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn zero_switches_deadlines_off() {
    let net = serve(Over::Mem, |builder| {
        echo(builder).timeouts(timeouts(|timeouts| {
            timeouts.idle = Duration::ZERO;
            timeouts.first_byte = Duration::ZERO;
            timeouts.heartbeat = Duration::ZERO;
        }))
    })
    .await;
    let mut silent = net.peer().await;
    let mut open = net.open_peer().await;
    assert!(silent.is_quiet_for(secs(10_000)).await);
    assert!(open.is_quiet_for(secs(10_000)).await);
    silent.ping_pong(b"better late").await;
    open.ping_pong(b"still").await;
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn while_reading_is_paused_no_deadline_runs() {
    let net = serve(Over::Mem, echo).await;
    let (mut peer, session) = net.pair().await;
    session.pause_reading();
    peer.data("waits").await;
    // PING goes out, but an answer cannot be read.
    let quiet = tokio::time::timeout(secs(300), ignore_pings(&mut peer)).await;
    assert!(quiet.is_err(), "{quiet:?}");
    session.resume_reading();
    assert_eq!(
        ignore_pings(&mut peer).await,
        Some(Frame::new(kind::DATA, "waits"))
    );
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_handler_is_no_reason_to_give_its_peer_up() {
    let net = serve(Over::Mem, |builder| {
        builder.on_message(|session: Session, message: Message| async move {
            tokio::time::sleep(secs(600)).await;
            session.send(message).await.unwrap();
        })
    })
    .await;
    let mut peer = net.open_peer().await;
    peer.data("slow").await;
    assert_eq!(pong(&mut peer).await, Some(Frame::new(kind::DATA, "slow")));
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_answer_ends_after_its_time() {
    let net = serve(Over::Mem, |builder| builder).await;
    let (mut peer, session) = net.pair().await;
    let began = Instant::now();
    let asking = tokio::spawn(async move { session.request("?", secs(5)).await });
    peer.expect(kind::REQUEST).await;
    let error = within("an end", asking).await.unwrap().unwrap_err();
    assert_eq!(error.code(), ErrorCode::RequestTimeout);
    assert!(error.is_timeout());
    assert_about(began.elapsed(), secs(5));
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn at_the_drain_deadline_what_is_left_is_cut_off() {
    let net = serve(Over::Mem, echo).await;
    let mut polite = net.open_peer().await;
    let mut stubborn = net.open_peer().await;
    let began = Instant::now();
    let stopping = tokio::spawn({
        let server = net.server.clone();
        async move { server.stop().await }
    });
    polite.expect(kind::DISCONNECT).await;
    polite.shutdown().await;
    stubborn.expect(kind::DISCONNECT).await;
    let report = within("stop", stopping).await.unwrap().unwrap();
    assert_eq!((report.drained, report.aborted), (1, 1));
    assert_about(began.elapsed(), secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_that_the_peer_does_not_answer_ends_at_the_drain_deadline() {
    let (log, mut events) = log();
    let net = serve(Over::Mem, |builder| record(builder, &log)).await;
    let (mut peer, session) = net.pair().await;
    let began = Instant::now();
    session.disconnect(network_system::CloseReason::new("bye"));
    peer.expect(kind::DISCONNECT).await;
    peer.expect_end().await;
    assert_eq!(events.disconnected().await.text(), "bye");
    assert_about(began.elapsed(), secs(10));
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_an_error_a_peer_is_listened_to_for_a_second_at_most() {
    let net = serve(Over::Mem, echo).await;
    let mut peer = net.peer().await;
    let began = Instant::now();
    peer.send(Frame::new(0x0044, "bad")).await;
    peer.expect_error_and_end().await;
    while peer
        .try_send(Frame::new(kind::DATA, "on and on"))
        .await
        .is_ok()
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_about(began.elapsed(), secs(1));
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_finishes_after_its_peer_is_gone() {
    let done = Arc::new(AtomicBool::new(false));
    let sets = Arc::clone(&done);
    let (log, mut events) = log();
    let net = serve(Over::Mem, |builder| {
        record(builder, &log).on_message(move |_, _| {
            let done = Arc::clone(&sets);
            async move {
                tokio::time::sleep(secs(60)).await;
                done.store(true, Ordering::SeqCst);
            }
        })
    })
    .await;
    let mut peer = net.open_peer().await;
    peer.data("work").await;
    drop(peer);
    events.disconnected().await;
    assert!(done.load(Ordering::SeqCst), "the handler was dropped");
    assert!(net.server.sessions().is_empty());
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_waits_for_the_end_learns_of_it_while_it_runs() {
    let (log, mut events) = log();
    let ended = log.clone();
    let net = serve(Over::Mem, |builder| {
        builder.on_message(move |session: Session, _| {
            let log = ended.clone();
            async move {
                let reason = session.closed().await;
                log.send(crate::support::Event::Disconnected(session, reason))
                    .unwrap();
            }
        })
    })
    .await;
    let mut peer = net.open_peer().await;
    peer.data("wait for me").await;
    let began = Instant::now();
    peer.shutdown().await;
    assert!(events.disconnected().await.is_orderly());
    assert!(began.elapsed() <= secs(11), "{:?}", began.elapsed());
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_handler_that_never_ends_does_not_hold_a_stop_up() {
    let net = serve(Over::Mem, |builder| {
        builder.on_disconnect(|_, _| std::future::pending())
    })
    .await;
    // One has ended before the stop, one ends with it.
    let (peer, session) = net.pair().await;
    drop(peer);
    within("closed", session.closed()).await;
    let mut other = net.open_peer().await;
    let began = Instant::now();
    let stopping = tokio::spawn({
        let server = net.server.clone();
        async move { server.stop_within(secs(5)).await }
    });
    other.expect(kind::DISCONNECT).await;
    other.shutdown().await;
    let report = within("stop", stopping).await.unwrap().unwrap();
    assert_eq!((report.drained, report.aborted), (0, 2));
    assert_about(began.elapsed(), secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_never_ends_does_not_hold_a_stop_up() {
    let net = serve(Over::Mem, |builder| {
        builder
            .on_message(|_, _| std::future::pending())
            .on_request(|_, _| std::future::pending())
    })
    .await;
    let (mut one, mut two) = (net.open_peer().await, net.open_peer().await);
    one.data("never").await;
    two.request(1, "never").await;
    // This one's connection is gone, and the handler is still running.
    let (mut three, session) = net.pair().await;
    three.data("never").await;
    drop(three);
    within("closed", session.closed()).await;
    let began = Instant::now();
    let report = within("stop", net.server.stop_within(secs(5)))
        .await
        .unwrap();
    assert_eq!((report.drained, report.aborted), (0, 3));
    assert_about(began.elapsed(), secs(5));
}

#[tokio::test(start_paused = true)]
async fn sending_waits_as_long_as_it_is_told_to() {
    let net = serve(Over::Mem, |builder| builder).await;
    let (_peer, session) = net.pair().await;
    let full = loop {
        if let Err(error) = session.send_timeout(vec![1; 100_000], secs(3)).await {
            break error;
        }
    };
    assert_eq!(full.code(), ErrorCode::QueueFull);
    let began = Instant::now();
    session
        .send_timeout(vec![1; 100_000], secs(3))
        .await
        .unwrap_err();
    assert_about(began.elapsed(), secs(3));
    assert!(VIRTUAL_PATIENCE > secs(3_600));
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pings_inside_of_a_message_do_not_complete_it() {
    let net = serve(Over::Ws, |builder| {
        echo(builder).timeouts(timeouts(|timeouts| {
            timeouts.heartbeat = Duration::ZERO;
            timeouts.mid_frame = secs(20);
        }))
    })
    .await;
    let mut peer = WsPeer::connect(&net.url, &Ask::new("/")).await;
    peer.text("open").await;
    assert_eq!(peer.receive().await, Ws::Text("open".into()));
    let began = Instant::now();
    peer.write(&encode(false, BINARY, &[7; 100])).await;
    for _ in 0..9 {
        tokio::time::sleep(secs(2)).await;
        peer.ping_pong(b"still here").await;
    }
    assert_eq!(peer.expect_close().await.0, Some(1001));
    assert_about(began.elapsed(), secs(20));
    net.stop().await;
}

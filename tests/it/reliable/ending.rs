//! How a reliable session ends, and what is said of what was not acknowledged.

use std::sync::Arc;
use std::time::Duration;

use network_system::{CloseReason, ErrorCode, Session, State};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{
    CONNECTED, Ticket, ack, acked, begin, begin_with, lose, next_data, refused, serve_reliable,
};
use crate::support::{
    Frame, Net, Over, Peer, echo, eventually, kind, log, number_of, numbered, record, timeouts,
    within,
};

fn texts(session: &Session) -> Vec<u64> {
    let rest = session.take_unacknowledged();
    rest.iter()
        .map(|message| number_of(message.payload()))
        .collect()
}

#[tokio::test]
async fn a_disconnect_waits_for_acknowledgements() {
    for &over in CONNECTED {
        let net = serve_reliable(over, |builder| builder).await;
        let (mut peer, _) = begin(&net.url).await;
        let session = net.server.sessions().remove(0);
        for number in 0..3 {
            session.send(numbered(number, 20)).await.unwrap();
        }
        session.disconnect(CloseReason::new("enough"));
        for number in 0..3 {
            assert_eq!(number_of(&next_data(&mut peer).await), number);
        }
        ack(&mut peer, 2).await;
        assert!(
            peer.is_quiet_for(50 * super::MS).await,
            "{over:?}: one is not acknowledged"
        );
        ack(&mut peer, 3).await;
        assert_eq!(peer.expect(kind::DISCONNECT).await.payload, "enough");
        peer.send(Frame::new(kind::DISCONNECT, "")).await;
        drop(peer);
        within("the end", session.closed()).await;
        assert!(session.take_unacknowledged().is_empty());
        net.stop().await;
    }
}

#[tokio::test]
async fn messages_that_come_with_the_last_acknowledgement_are_acknowledged_before_the_goodbye() {
    let net = serve_reliable(Over::Tcp, |builder| builder.on_message(|_, _| async {})).await;
    let (mut peer, _) = begin(&net.url).await;
    let session = net.server.sessions().remove(0);
    session.send(numbered(0, 20)).await.unwrap();
    next_data(&mut peer).await;
    session.disconnect(CloseReason::new("enough"));
    eventually("closing", || session.state() == State::Disconnecting).await;
    let mut frames = vec![Frame::new(kind::CONTROL, r#"{"op":"ack","received":1}"#)];
    frames.extend((0..3).map(|_| Frame::new(kind::DATA, "as late as can be")));
    peer.send_together(frames).await;
    let mut acknowledged = 0;
    loop {
        let frame = peer.receive().await.unwrap();
        if let Some(count) = acked(&frame) {
            acknowledged = count;
        }
        if frame.kind == kind::DISCONNECT {
            break;
        }
    }
    assert_eq!(acknowledged, 3);
    peer.send(Frame::new(kind::DISCONNECT, "")).await;
    drop(peer);
    within("the end", session.closed()).await;
    assert_eq!(session.stats().messages_received, 3);
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_acknowledged_by_the_deadline_is_reported() {
    let (log, mut events) = log();
    let net = serve_reliable(Over::Mem, |builder| {
        record(builder, &log).timeouts(timeouts(|timeouts| timeouts.drain = Duration::from_secs(3)))
    })
    .await;
    let (mut peer, welcome) = begin_with(&net.url, json!({"window": 1_024})).await;
    let _ = Ticket::of(&welcome);
    let session = net.server.sessions().remove(0);
    for number in 0..8 {
        session.send(numbered(number, 300)).await.unwrap();
    }
    for _ in 0..3 {
        next_data(&mut peer).await;
    }
    ack(&mut peer, 2).await;
    let began = tokio::time::Instant::now();
    session.disconnect(CloseReason::new("enough"));
    within("the end", session.closed()).await;
    assert!(
        began.elapsed() >= Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    events.disconnected().await;
    assert_eq!(texts(&session), [2, 3, 4, 5, 6, 7]);
    assert!(texts(&session).is_empty());
    drop(peer);
    net.stop().await;
}

#[tokio::test]
async fn a_peer_that_leaves_gets_the_answers_and_the_rest_is_reported() {
    for &over in CONNECTED {
        let net = serve_reliable(over, echo).await;
        let (mut peer, ticket) = begin(&net.url).await;
        let session = net.server.sessions().remove(0);
        peer.send_together(vec![
            Frame::new(kind::DATA, numbered(0, 20)),
            Frame::new(kind::DATA, numbered(1, 20)),
            Frame::new(kind::DISCONNECT, "bye"),
        ])
        .await;
        let mut last = None;
        let mut answers = 0;
        let mut count = 0;
        while let Some(frame) = peer.receive().await {
            answers += u64::from(frame.kind == kind::DATA);
            count = acked(&frame).unwrap_or(count);
            last = Some(frame.kind);
            if frame.kind == kind::DISCONNECT {
                break;
            }
        }
        assert_eq!((answers, last), (2, Some(kind::DISCONNECT)), "{over:?}");
        drop(peer);
        within("the end", session.closed()).await;
        assert_eq!(texts(&session), [0, 1], "the answers were not acknowledged");
        assert_eq!(
            refused(&net.url, &ticket, 0).await,
            ErrorCode::SessionExpired
        );
        assert_eq!(net.server.stats().suspended, 0);
        net.stop().await;
    }
}

#[tokio::test]
async fn who_has_said_its_last_word_cannot_have_the_session_back() {
    for &over in CONNECTED {
        let go_on = Arc::new(Semaphore::new(0));
        let (log, mut events) = log();
        let net = serve_reliable(over, |builder| {
            let go_on = Arc::clone(&go_on);
            record(builder, &log).on_message(move |_, _| {
                let go_on = Arc::clone(&go_on);
                async move { go_on.acquire().await.unwrap().forget() }
            })
        })
        .await;
        let (mut peer, ticket) = begin(&net.url).await;
        let session = net.server.sessions().remove(0);
        // The DISCONNECT waits for the handler.
        peer.data("one").await;
        peer.data("two").await;
        peer.send_together(vec![
            Frame::new(kind::PING, "with it"),
            Frame::new(kind::DISCONNECT, "bye"),
        ])
        .await;
        peer.expect(kind::PONG).await;
        assert_eq!(
            refused(&net.url, &ticket, 0).await,
            ErrorCode::SessionExpired,
            "{over:?}"
        );
        assert_eq!(session.state(), State::Connected);
        go_on.add_permits(2);
        // The close goes on where it was said.
        super::ack_of(&mut peer, 2).await;
        peer.expect(kind::DISCONNECT).await;
        drop(peer);
        let reason = within("the end", session.closed()).await;
        assert_eq!((reason.code(), reason.text()), (None, "bye"), "{over:?}");
        events.disconnected().await;
        net.stop().await;
    }
}

/// Answers PING, and takes what comes up to DISCONNECT.
async fn drained(peer: &mut Peer) -> (Vec<u64>, u64, bool) {
    let (mut numbers, mut count, mut goaway) = (Vec::new(), 0, false);
    loop {
        let frame = peer.receive().await.expect("DISCONNECT comes first");
        match frame.kind {
            kind::PING => peer.send(Frame::new(kind::PONG, frame.payload)).await,
            kind::DATA => {
                numbers.push(number_of(&frame.payload));
                let taken = numbers.len() as u64;
                ack(peer, taken).await;
            }
            kind::DISCONNECT => return (numbers, count, goaway),
            kind::CONTROL => match acked(&frame) {
                Some(received) => count = received,
                None => goaway |= frame.json()["op"] == "goaway",
            },
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_stops_acknowledges_and_waits_for_acknowledgements() {
    for &over in CONNECTED {
        let net = serve_reliable(over, |builder| builder.on_message(|_, _| async {})).await;
        let (mut peer, _) = begin(&net.url).await;
        let session = net.server.sessions().remove(0);
        for number in 0..5 {
            session.send(numbered(number, 20)).await.unwrap();
        }
        for number in 0..7 {
            peer.data(numbered(number, 20)).await;
        }
        let server = net.server.clone();
        let stop = tokio::spawn(async move { server.stop().await.unwrap() });
        let (numbers, count, _) = drained(&mut peer).await;
        assert_eq!(numbers, [0, 1, 2, 3, 4], "{over:?}");
        assert_eq!(count, 7, "{over:?}");
        peer.send(Frame::new(kind::DISCONNECT, "")).await;
        peer.shutdown().await;
        let report = within("stop", stop).await.unwrap();
        assert_eq!((report.drained, report.aborted), (1, 0), "{over:?}");
        assert!(session.take_unacknowledged().is_empty());
        net.holds_nothing().await;
    }
}

#[tokio::test]
async fn a_server_that_stops_gives_suspended_sessions_up() {
    let (log, mut events) = log();
    let net = serve_reliable(Over::Tcp, |builder| record(builder, &log)).await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let (peer, _) = begin(&net.url).await;
        lose(&net, peer).await;
    }
    for session in net.server.sessions() {
        session.send(numbered(0, 50)).await.unwrap();
        sessions.push(session);
    }
    let report = within("stop", net.server.stop()).await.unwrap();
    assert_eq!(report.unacknowledged, 3, "{report:?}");
    assert_eq!(net.server.stats().unacknowledged, 3);
    for session in sessions {
        assert_eq!(texts(&session), [0]);
    }
    for _ in 0..3 {
        assert_eq!(
            events.disconnected().await.code(),
            Some(ErrorCode::ShuttingDown)
        );
    }
    assert_eq!(net.server.stats().suspended, 0);
    net.holds_nothing().await;
}

#[tokio::test]
async fn a_suspended_session_can_be_ended() {
    let (log, mut events) = log();
    let net = serve_reliable(Over::Tcp, |builder| record(builder, &log)).await;
    for abort in [false, true] {
        let (peer, ticket) = begin(&net.url).await;
        let session = net.server.sessions().remove(0);
        lose(&net, peer).await;
        assert_eq!(session.state(), State::Suspended);
        session.send(numbered(5, 50)).await.unwrap();
        match abort {
            true => session.abort(),
            false => session.disconnect(CloseReason::new("enough")),
        }
        within("the end", session.closed()).await;
        assert_eq!(texts(&session), [5]);
        assert_eq!(
            refused(&net.url, &ticket, 0).await,
            ErrorCode::SessionExpired
        );
        assert_eq!(net.server.stats().suspended, 0);
        events.disconnected().await;
    }
    net.stop().await;
}

#[tokio::test]
async fn an_error_ends_the_session_whatever_could_be_resumed() {
    let net = serve_reliable(Over::Tcp, echo).await;
    let (mut peer, ticket) = begin(&net.url).await;
    peer.write(b"no frame at all").await;
    assert_eq!(
        super::code(peer.expect_error_and_end().await),
        ErrorCode::InvalidFrame
    );
    drop(peer);
    assert_eq!(
        refused(&net.url, &ticket, 0).await,
        ErrorCode::SessionExpired
    );
    let (mut peer, ticket) = begin(&net.url).await;
    let error = [
        &ErrorCode::RequestFailed.as_i32().to_be_bytes()[..],
        b"mine",
    ]
    .concat();
    peer.send(Frame::new(kind::ERROR, error)).await;
    let _ = peer.try_receive().await;
    drop(peer);
    crate::support::eventually("the end", || net.server.session_count() == 0).await;
    assert_eq!(
        refused(&net.url, &ticket, 0).await,
        ErrorCode::SessionExpired
    );
    net.stop().await;
}

/// A session whose window of three messages is used up, with five more behind them.
async fn used_up(net: &Net) -> (Peer, Session) {
    let (mut peer, _) = begin_with(&net.url, json!({"window": 1_024})).await;
    let session = net.server.sessions().remove(0);
    for number in 0..8 {
        session.send(numbered(number, 300)).await.unwrap();
    }
    for number in 0..3 {
        assert_eq!(number_of(&next_data(&mut peer).await), number);
    }
    (peer, session)
}

#[tokio::test]
async fn an_error_does_not_wait_for_room_in_the_window() {
    for &over in CONNECTED {
        let net = serve_reliable(over, |builder| builder).await;
        let (mut peer, session) = used_up(&net).await;
        let began = Instant::now();
        ack(&mut peer, 99).await;
        assert_eq!(
            super::code(peer.expect_error_and_end().await),
            ErrorCode::InvalidSession
        );
        drop(peer);
        within("the end", session.closed()).await;
        assert!(began.elapsed() < Duration::from_secs(9), "{over:?}");
        assert_eq!(texts(&session), [0, 1, 2, 3, 4, 5, 6, 7], "{over:?}");
        net.stop().await;
    }
}

#[tokio::test]
async fn who_leaves_does_not_wait_for_room_in_its_window() {
    for &over in CONNECTED {
        let net = serve_reliable(over, |builder| builder).await;
        let (mut peer, session) = used_up(&net).await;
        let began = Instant::now();
        peer.send(Frame::new(kind::DISCONNECT, "bye")).await;
        peer.expect(kind::DISCONNECT).await;
        drop(peer);
        within("the end", session.closed()).await;
        assert!(began.elapsed() < Duration::from_secs(9), "{over:?}");
        assert_eq!(texts(&session), [0, 1, 2, 3, 4, 5, 6, 7], "{over:?}");
        net.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_word_is_said_although_acknowledgements_are_missing() {
    // Without it the peer would take the end for a lost link, and ask for the session again and again.
    for stops in [false, true] {
        let net = serve_reliable(Over::Mem, |builder| {
            builder.timeouts(timeouts(|timeouts| timeouts.drain = Duration::from_secs(3)))
        })
        .await;
        let (mut peer, session) = used_up(&net).await;
        let end = async {
            match stops {
                true => drop(net.server.stop().await),
                false => session.disconnect(CloseReason::new("enough")),
            }
        };
        let last = async {
            loop {
                let frame = peer.receive().await.expect("the last word is missing");
                match frame.kind {
                    kind::PING => peer.send(Frame::new(kind::PONG, frame.payload)).await,
                    kind::DISCONNECT => break,
                    _ => {}
                }
            }
            peer.send(Frame::new(kind::DISCONNECT, "")).await;
            peer.shutdown().await;
        };
        tokio::join!(end, last);
        within("the end", session.closed()).await;
        assert_eq!(texts(&session), [0, 1, 2, 3, 4, 5, 6, 7], "{stops}");
        if !stops {
            net.stop().await;
        }
    }
}

//! Peers that lie, that guess, and that want what is not theirs.

use std::time::Duration;

use network_system::{
    Authenticator, BoxFuture, Credentials, ErrorCode, RequestError, Session, State,
};
use serde_json::json;
use tracing::Level;

use super::{
    CONNECTED, Ticket, ack, ask, begin, begin_with, code, lose, next_data, refused, reliability,
    resume, resume_hello, serve_reliable,
};
use crate::support::events::hear;
use crate::support::{Frame, Over, Peer, echo, eventually, kind, log, record, serve, within};

fn other(text: &str) -> String {
    let digit = if text.ends_with('0') { "1" } else { "0" };
    format!("{}{digit}", &text[..text.len() - 1])
}

#[tokio::test]
async fn whoever_has_no_right_to_a_session_gets_one_and_the_same_answer() {
    for &over in CONNECTED {
        let net = serve_reliable(over, echo).await;
        let (peer, ticket) = begin(&net.url).await;
        lose(&net, peer).await;
        let ordinary = net.open_peer().await;
        let ids: Vec<_> = net.server.sessions().iter().map(Session::id).collect();
        let not_it = ids.iter().find(|id| id.to_string() != ticket.id).unwrap();
        let with = |id: &str, token: &str| Ticket {
            id: id.to_owned(),
            token: token.to_owned(),
        };
        let mut texts = std::collections::HashSet::new();
        for wrong in [
            with(&ticket.id, &other(&ticket.token)),
            with(&ticket.id, ""),
            with(&ticket.id, &ticket.token[..31]),
            with(&ticket.id, &format!("{}0", ticket.token)),
            with("999999", &ticket.token),
            with("", ""),
            with("-1", &ticket.token),
            with("no number", &ticket.token),
            with(&not_it.to_string(), &ticket.token),
        ] {
            let mut peer = ask(&net.url, &wrong, 0).await;
            let (number, text) = peer.expect_error_and_end().await;
            assert_eq!(code((number, text.clone())), ErrorCode::SessionExpired);
            texts.insert(text);
        }
        assert_eq!(texts.len(), 1, "{over:?}: {texts:?}");
        // The session is still there for its client.
        resume(&net.url, &ticket, 0).await;
        drop(ordinary);
        net.stop().await;
    }
}

struct ByToken;
impl Authenticator for ByToken {
    fn authenticate<'a>(
        &'a self,
        _: &'a Session,
        credentials: Credentials,
    ) -> BoxFuture<'a, Result<Option<String>, RequestError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            match credentials.token {
                Some(name) if name != "nobody" => Ok(Some(name)),
                _ => Err(RequestError::with_code(
                    ErrorCode::AuthenticationFailed,
                    "who?",
                )),
            }
        })
    }
}

#[tokio::test]
async fn a_session_is_for_the_identity_that_began_it() {
    for &over in CONNECTED {
        let net = serve_reliable(over, |builder| echo(builder).authenticator(ByToken)).await;
        let (peer, welcome) = begin_with(&net.url, json!({"token": "anna"})).await;
        let ticket = Ticket::of(&welcome);
        lose(&net, peer).await;
        for (token, expected) in [
            ("berta", ErrorCode::SessionExpired),
            ("nobody", ErrorCode::AuthenticationFailed),
        ] {
            let mut hello = resume_hello(&ticket, 0);
            hello["token"] = token.into();
            let mut peer = Peer::connect(&net.url).await;
            peer.control(hello.to_string()).await;
            assert_eq!(
                code(peer.expect_error_and_end().await),
                expected,
                "{over:?}"
            );
        }
        let mut hello = resume_hello(&ticket, 0);
        hello["token"] = "anna".into();
        let mut peer = Peer::connect(&net.url).await;
        peer.control(hello.to_string()).await;
        let welcome = peer.expect(kind::CONTROL).await.json();
        super::resumed(&welcome, &ticket);
        peer.data("hers").await;
        assert_eq!(next_data(&mut peer).await, b"hers");
        net.stop().await;
    }
}

#[tokio::test]
async fn of_two_clients_with_one_token_one_has_the_session() {
    let net = serve_reliable(Over::Tcp, echo).await;
    let (peer, ticket) = begin(&net.url).await;
    lose(&net, peer).await;
    let mut peers = Vec::new();
    for _ in 0..2 {
        peers.push(ask(&net.url, &ticket, 0).await);
    }
    for peer in &mut peers {
        // The later one may find the session taken over, and the earlier one its link closed.
        let _ = peer.try_send(Frame::new(kind::PING, "mine")).await;
    }
    let mut have = 0;
    for peer in &mut peers {
        while let Ok(Some(frame)) = within("a frame", peer.try_receive()).await {
            match frame.kind {
                kind::PONG => {
                    have += 1;
                    break;
                }
                kind::ERROR => assert_eq!(code(frame.code_and_text()), ErrorCode::SessionExpired),
                _ => {}
            }
        }
    }
    assert!((1..=2).contains(&have), "{have}");
    assert_eq!(net.server.session_count(), 1);
    assert_eq!(
        refused(&net.url, &ticket, 0).await,
        ErrorCode::SessionExpired
    );
    net.stop().await;
}

/// Asks for a session again and again; says how often it was answered that there is none before it was said that
/// this was too often.
async fn asked_in_vain(url: &str, ticket: &Ticket) -> u64 {
    let began = tokio::time::Instant::now();
    for count in 0..1_500 {
        match refused(url, ticket, 0).await {
            ErrorCode::SessionExpired => {}
            ErrorCode::RateLimited => {
                assert!(began.elapsed() < Duration::from_secs(1), "the clock stands");
                return count;
            }
            code => panic!("{code:?}"),
        }
    }
    panic!("nobody is turned away");
}

#[tokio::test(start_paused = true)]
async fn more_than_a_thousand_wrong_tokens_a_second_are_turned_away_and_right_ones_are_not() {
    let net = serve_reliable(Over::Mem, echo).await;
    let (peer, ticket) = begin(&net.url).await;
    lose(&net, peer).await;
    let wrong = Ticket {
        id: ticket.id.clone(),
        token: other(&ticket.token),
    };
    for _ in 0..2 {
        assert_eq!(asked_in_vain(&net.url, &wrong).await, 1_000);
        assert_eq!(
            refused(&net.url, &wrong, 0).await,
            ErrorCode::RateLimited,
            "and again"
        );
        // The next second is another one.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    asked_in_vain(&net.url, &wrong).await;
    let (_peer, ..) = resume(&net.url, &ticket, 0).await;
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_is_refused_by_the_session_itself_counts_among_them() {
    let net = serve_reliable(Over::Mem, |builder| builder).await;
    let (mut peer, ticket) = begin(&net.url).await;
    let session = net.server.sessions().remove(0);
    session.send("one").await.unwrap();
    next_data(&mut peer).await;
    ack(&mut peer, 1).await;
    peer.ping_pong(b"seen").await;
    lose(&net, peer).await;
    // The token is right, and what is asked for was acknowledged.
    assert_eq!(asked_in_vain(&net.url, &ticket).await, 1_000);
    let (_peer, ..) = resume(&net.url, &ticket, 1).await;
    net.stop().await;
}

#[tokio::test]
async fn who_acknowledges_what_was_never_sent_is_told_so() {
    for &over in CONNECTED {
        let (log, mut events) = log();
        let net = serve_reliable(over, |builder| record(builder, &log)).await;
        let (mut peer, ticket) = begin(&net.url).await;
        let session = net.server.sessions().remove(0);
        session.send("one").await.unwrap();
        assert_eq!(next_data(&mut peer).await, b"one");
        ack(&mut peer, 2).await;
        assert_eq!(
            code(peer.expect_error_and_end().await),
            ErrorCode::InvalidSession
        );
        drop(peer);
        within("the end", session.closed()).await;
        assert_eq!(session.take_unacknowledged().len(), 1);
        assert_eq!(
            refused(&net.url, &ticket, 0).await,
            ErrorCode::SessionExpired
        );
        assert_eq!(
            events.disconnected().await.code(),
            Some(ErrorCode::InvalidSession)
        );
        net.stop().await;
    }
}

#[tokio::test]
async fn who_resumes_with_more_than_was_sent_is_told_so() {
    for &over in CONNECTED {
        for alive in [false, true] {
            let net = serve_reliable(over, |builder| builder).await;
            let (mut peer, ticket) = begin(&net.url).await;
            let session = net.server.sessions().remove(0);
            session.send("one").await.unwrap();
            assert_eq!(next_data(&mut peer).await, b"one");
            let kept = match alive {
                true => Some(peer),
                false => {
                    lose(&net, peer).await;
                    None
                }
            };
            assert_eq!(
                refused(&net.url, &ticket, 2).await,
                ErrorCode::InvalidSession,
                "{over:?}"
            );
            drop(kept);
            within("the end", session.closed()).await;
            net.stop().await;
        }
    }
}

#[tokio::test]
async fn who_resumes_with_less_than_it_acknowledged_is_told_so_and_may_ask_again() {
    let net = serve_reliable(Over::Tcp, |builder| builder).await;
    let (mut peer, ticket) = begin(&net.url).await;
    let session = net.server.sessions().remove(0);
    for _ in 0..3 {
        session.send("one").await.unwrap();
        next_data(&mut peer).await;
    }
    ack(&mut peer, 2).await;
    peer.ping_pong(b"seen").await;
    lose(&net, peer).await;
    assert_eq!(
        refused(&net.url, &ticket, 1).await,
        ErrorCode::SessionExpired
    );
    let (mut peer, _, _) = resume(&net.url, &ticket, 2).await;
    assert_eq!(next_data(&mut peer).await, b"one");
    assert_eq!(session.state(), State::Connected);
    net.stop().await;
}

#[tokio::test]
async fn acknowledgements_that_go_backwards_are_ignored() {
    let net = serve_reliable(Over::Tcp, |builder| builder).await;
    let (mut peer, _) = begin(&net.url).await;
    let session = net.server.sessions().remove(0);
    for _ in 0..3 {
        session.send("one").await.unwrap();
        next_data(&mut peer).await;
    }
    for count in [2, 1, 0, 2] {
        ack(&mut peer, count).await;
        peer.ping_pong(b"seen").await;
        assert_eq!(session.stats().unacknowledged_messages, 1);
    }
    net.stop().await;
}

#[tokio::test]
async fn a_message_behind_the_hello_that_resumes_is_no_frame_that_may_be_there() {
    let net = serve_reliable(Over::Tcp, echo).await;
    let (peer, ticket) = begin(&net.url).await;
    lose(&net, peer).await;
    let mut peer = net.peer().await;
    peer.send_together(vec![
        Frame::new(kind::CONTROL, resume_hello(&ticket, 0).to_string()),
        Frame::new(kind::DATA, "early"),
    ])
    .await;
    assert_eq!(
        code(peer.expect_error_and_end().await),
        ErrorCode::InvalidFrame
    );
    let (_peer, count, _) = resume(&net.url, &ticket, 0).await;
    assert_eq!(count, 0);
    net.stop().await;
}

#[tokio::test]
async fn a_second_hello_is_not_allowed_on_a_resumed_link_either() {
    let net = serve_reliable(Over::Tcp, echo).await;
    let (peer, ticket) = begin(&net.url).await;
    lose(&net, peer).await;
    let (mut peer, _, next) = resume(&net.url, &ticket, 0).await;
    peer.control(resume_hello(&next, 0).to_string()).await;
    assert_eq!(
        code(peer.expect_error_and_end().await),
        ErrorCode::InvalidFrame
    );
    assert_eq!(refused(&net.url, &next, 0).await, ErrorCode::SessionExpired);
    net.stop().await;
}

#[tokio::test]
async fn a_server_without_reliable_sessions_has_none_to_resume() {
    let net = serve(Over::Tcp, echo).await;
    let ticket = Ticket {
        id: "1".into(),
        token: "0".repeat(32),
    };
    assert_eq!(
        refused(&net.url, &ticket, 0).await,
        ErrorCode::SessionExpired
    );
    net.stop().await;
}

#[tokio::test]
async fn the_session_that_has_waited_longest_gives_way() {
    let net = serve(Over::Tcp, |builder| {
        echo(builder).reliable(reliability(|reliability| {
            reliability.suspended_sessions = 3
        }))
    })
    .await;
    let mut tickets = Vec::new();
    for number in 0..6 {
        let (peer, ticket) = begin(&net.url).await;
        tickets.push(ticket);
        drop(peer);
        let seen = || {
            let stats = net.server.stats();
            stats.suspended + stats.expired as usize == number + 1
        };
        eventually("it is noticed", seen).await;
        assert!(net.server.stats().suspended <= 3);
    }
    for (number, ticket) in tickets.iter().enumerate() {
        match number {
            0..3 => assert_eq!(
                refused(&net.url, ticket, 0).await,
                ErrorCode::SessionExpired
            ),
            _ => drop(resume(&net.url, ticket, 0).await),
        }
    }
    assert_eq!(net.server.stats().expired, 3);
    net.stop().await;
}

#[tokio::test]
async fn suspended_sessions_take_no_place_among_connections() {
    let net = serve(Over::Tcp, |builder| {
        echo(builder)
            .reliable(reliability(|_| {}))
            .limits(crate::support::limits(|limits| limits.max_connections = 1))
    })
    .await;
    let (peer, ticket) = begin(&net.url).await;
    lose(&net, peer).await;
    let (other, _) = begin(&net.url).await;
    lose(&net, other).await;
    let (peer, _, _) = resume(&net.url, &ticket, 0).await;
    let mut third = Peer::connect(&net.url).await;
    let refusal = third.expect(kind::ERROR).await;
    assert_eq!(code(refusal.code_and_text()), ErrorCode::TooManyConnections);
    drop(peer);
    net.stop().await;
}

#[tokio::test]
async fn no_token_is_logged_or_shown() {
    let (heard, _guard) = hear(Level::TRACE);
    let net = serve_reliable(Over::Tcp, echo).await;
    let (peer, first) = begin(&net.url).await;
    lose(&net, peer).await;
    let (mut peer, _, second) = resume(&net.url, &first, 0).await;
    peer.data("x").await;
    next_data(&mut peer).await;
    let wrong = Ticket {
        id: first.id.clone(),
        token: other(&second.token),
    };
    refused(&net.url, &wrong, 0).await;
    let session = net.server.sessions().remove(0);
    let mut shown = format!("{:?} {session:?} {:?}", heard.all(), net.server);
    lose(&net, peer).await;
    shown += &format!("{:?} {session:?} {:?}", heard.all(), net.server.stats());
    for token in [&first.token, &second.token, &wrong.token] {
        assert!(!shown.contains(&token[..31]));
    }
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_nobody_resumes_in_time_is_over() {
    let (log, mut events) = log();
    let net = serve(Over::Mem, |builder| {
        record(builder, &log).reliable(reliability(|reliability| {
            reliability.resume = Duration::from_secs(7);
        }))
    })
    .await;
    let (mut peer, ticket) = begin(&net.url).await;
    let session = net.server.sessions().remove(0);
    for text in ["one", "two", "three"] {
        session.send(text).await.unwrap();
        next_data(&mut peer).await;
    }
    ack(&mut peer, 1).await;
    peer.ping_pong(b"seen").await;
    lose(&net, peer).await;
    session.send("four").await.unwrap();
    let began = tokio::time::Instant::now();
    let reason = within("the end", session.closed()).await;
    let elapsed = began.elapsed();
    assert!((7..=8).contains(&elapsed.as_secs()), "{elapsed:?}");
    assert_eq!(reason.code(), Some(ErrorCode::SessionExpired));
    assert_eq!(
        events.disconnected().await.code(),
        Some(ErrorCode::SessionExpired)
    );
    let rest = session.take_unacknowledged();
    let rest: Vec<_> = rest.iter().map(|message| message.payload()).collect();
    assert_eq!(rest, [&b"two"[..], b"three", b"four"]);
    assert!(session.take_unacknowledged().is_empty(), "given once");
    assert_eq!(
        refused(&net.url, &ticket, 3).await,
        ErrorCode::SessionExpired
    );
    assert_eq!(
        (net.server.stats().suspended, net.server.stats().expired),
        (0, 1)
    );
    net.stop().await;
    while let Some(event) = events.try_next() {
        let is_error = matches!(event, crate::support::Event::Error(_));
        assert!(is_error, "{event:?}: the handler runs once");
    }
}

//! What hello asks for and welcome agrees to.

use network_system::pipeline::OnFailure;
use network_system::{
    Client, ConfigError, ErrorCode, Limits, QueuePolicy, Rate, RatePolicy, Reliability, Server,
};
use serde_json::json;

use super::{CONNECTED, Ticket, begin_with, code, reliability, resume_hello};
use crate::pipeline::{Numbered, with_fate};
use crate::support::{Over, Peer, echo, kind, limits, serve, within};

#[tokio::test]
async fn welcome_says_what_a_reliable_session_needs() {
    for &over in CONNECTED {
        let net = serve(over, |builder| {
            echo(builder).reliable(reliability(|reliability| {
                reliability.window = 64 * 1024;
                reliability.resume = std::time::Duration::from_secs(7);
            }))
        })
        .await;
        for (asked, agreed) in [
            (json!({}), 65_536),
            (json!({"window": 5_000}), 5_000),
            (json!({"window": 9_999_999}), 65_536),
        ] {
            let (_peer, welcome) = begin_with(&net.url, asked).await;
            assert_eq!(welcome["reliable"], true, "{over:?}: {welcome}");
            assert_eq!(welcome["window"], agreed, "the smaller one of both");
            assert_eq!(welcome["resume_ms"], 7_000);
            assert_eq!(welcome["received"], 0);
            assert!(welcome["resumed"] == false || welcome["resumed"].is_null());
            assert!(!welcome["session_id"].as_str().unwrap().is_empty());
            let token = welcome["resume_token"].as_str().unwrap();
            assert!(
                token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "128 bits"
            );
        }
        net.stop().await;
    }
}

#[tokio::test]
async fn no_two_sessions_have_the_same_token() {
    let net = serve(Over::Mem, |builder| {
        builder.reliable(Reliability::default())
    })
    .await;
    let mut tokens = std::collections::HashSet::new();
    for _ in 0..50 {
        let (_peer, welcome) = begin_with(&net.url, json!({})).await;
        assert!(tokens.insert(Ticket::of(&welcome).token));
    }
    net.stop().await;
}

#[tokio::test]
async fn a_session_is_ordinary_unless_both_sides_want_it_reliable() {
    for &over in CONNECTED {
        for (server, client) in [(true, false), (false, true), (false, false)] {
            let net = serve(over, |builder| match server {
                true => echo(builder).reliable(Reliability::default()),
                false => echo(builder),
            })
            .await;
            let mut peer = net.peer().await;
            peer.control(json!({"op": "hello", "reliable": client}).to_string())
                .await;
            let welcome = peer.expect(kind::CONTROL).await.json();
            assert_eq!(welcome["reliable"], false);
            for field in ["resume_token", "resume_ms", "window", "received"] {
                assert!(welcome[field].is_null(), "{field} in {welcome}");
            }
            let session = net.server.sessions().remove(0);
            assert!(!session.is_reliable());
            peer.data("hi").await;
            assert_eq!(peer.expect_data().await, "hi");
            drop(peer);
            within("the end", session.closed()).await;
            assert_eq!(net.server.stats().suspended, 0);
            net.stop().await;
        }
    }
}

#[tokio::test]
async fn over_datagrams_there_are_none() {
    let net = serve(Over::Udp, |builder| {
        echo(builder).reliable(Reliability::default())
    })
    .await;
    let mut peer = net.peer().await;
    let hello = json!({"op": "hello", "reliable": true, "client_id": "x".repeat(200)});
    peer.control(hello.to_string()).await;
    let welcome = peer.expect(kind::CONTROL).await.json();
    assert_eq!(welcome["reliable"], false, "{welcome}");
    assert!(welcome["resume_token"].is_null());
    let mut peer = net.peer().await;
    let ticket = Ticket {
        id: "1".into(),
        token: "0".repeat(32),
    };
    peer.control(resume_hello(&ticket, 0).to_string()).await;
    let error = peer.expect(kind::ERROR).await.code_and_text();
    assert_eq!(code(error), ErrorCode::SessionExpired);
    net.stop().await;
}

#[tokio::test]
async fn a_codec_without_hello_has_ordinary_sessions() {
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0?codec=lines")
        .reliable(Reliability::default())
        .build()
        .unwrap();
    server.start().await.unwrap();
    let url = server.urls().remove(0);
    let address = url
        .strip_prefix("tcp://")
        .unwrap()
        .split('?')
        .next()
        .unwrap();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    crate::support::eventually("a session", || !server.sessions().is_empty()).await;
    assert!(!server.sessions()[0].is_reliable());
    drop(stream);
    within("stop", server.stop()).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_reliable_is_refused_when_it_is_built() {
    let client = |url: &str| {
        Client::builder()
            .endpoint(url)
            .reliable(Reliability::default())
    };
    for url in [
        "udp://127.0.0.1:9?codec=msgi",
        "udp://127.0.0.1:9",
        "tcp://127.0.0.1:9?codec=lines",
        "tcp://127.0.0.1:9?codec=raw",
        "tcp://127.0.0.1:9?codec=length",
    ] {
        let error = client(url).build().unwrap_err();
        assert_eq!(error.code(), ErrorCode::NotSupported, "{url}: {error}");
    }
    let plain = client("ws://127.0.0.1:9/").websocket(
        network_system::websocket::WebSocketClient::new()
            .speak(network_system::websocket::Speak::Plain),
    );
    let error = plain.build().unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotSupported, "{error}");
    for policy in [QueuePolicy::DropOldest, QueuePolicy::DropNewest] {
        let dropping: Limits = limits(|limits| limits.when_full = policy);
        let error = client("tcp://127.0.0.1:9")
            .limits(dropping.clone())
            .build()
            .unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidConfiguration, "{error}");
        let server = Over::Mem
            .server()
            .reliable(Reliability::default())
            .limits(dropping);
        assert_eq!(
            server.build().unwrap_err().code(),
            ErrorCode::InvalidConfiguration
        );
    }
    for policy in [QueuePolicy::Wait, QueuePolicy::Disconnect] {
        let waiting = limits(|limits| limits.when_full = policy);
        assert!(client("tcp://127.0.0.1:9").limits(waiting).build().is_ok());
    }
}

#[test]
fn whatever_drops_messages_is_refused_beside_reliable_sessions() {
    let kept = Reliability::default;
    let server = || Server::builder().reliable(kept());
    let client = || Client::builder().endpoint("mem://no").reliable(kept());
    let refused = |error: Option<ConfigError>, option: &str| {
        let error = error.unwrap_or_else(|| panic!("{option} is taken"));
        assert_eq!(error.code(), ErrorCode::InvalidConfiguration, "{error}");
        assert!(error.to_string().contains(option), "{option}: {error}");
    };
    type Change = fn(&mut Limits, Rate);
    let rates: [(&str, Change); 3] = [
        ("session_rate", |limits, rate| {
            limits.session_rate = Some(rate)
        }),
        ("ip_rate", |limits, rate| limits.ip_rate = Some(rate)),
        ("server_rate", |limits, rate| {
            limits.server_rate = Some(rate)
        }),
    ];
    for (option, set) in rates {
        for policy in [RatePolicy::Wait, RatePolicy::Drop, RatePolicy::Disconnect] {
            let rated = limits(|limits| set(limits, Rate::new(10, 0).when_exceeded(policy)));
            let built = [
                server().limits(rated.clone()).build().err(),
                client().limits(rated.clone()).build().err(),
            ];
            for error in built {
                match policy {
                    RatePolicy::Drop => refused(error, option),
                    _ => assert!(error.is_none(), "{option}, {policy:?}: {error:?}"),
                }
            }
            // Only a reliable session drops nothing.
            assert!(Server::builder().limits(rated).build().is_ok());
        }
    }
    for fate in [OnFailure::Disconnect, OnFailure::Drop] {
        let stages = || with_fate(fate, vec![Numbered::stage(7).into()]);
        let built = [
            server().pipeline(stages()).build().err(),
            client().pipeline(stages()).build().err(),
        ];
        for error in built {
            match fate {
                OnFailure::Drop => refused(error, "on_failure"),
                _ => assert!(error.is_none(), "{error:?}"),
            }
        }
        assert!(Server::builder().pipeline(stages()).build().is_ok());
    }
    for policy in [
        QueuePolicy::Wait,
        QueuePolicy::DropNewest,
        QueuePolicy::DropOldest,
    ] {
        let error = client().offline_queue(1_000, policy).build().err();
        match policy {
            QueuePolicy::Wait => assert!(error.is_none(), "{error:?}"),
            _ => refused(error, "offline_queue"),
        }
    }
}

#[tokio::test]
async fn a_message_before_welcome_is_no_frame_that_may_be_there() {
    for &over in CONNECTED {
        let net = serve(over, |builder| {
            echo(builder).reliable(Reliability::default())
        })
        .await;
        let mut peer: Peer = net.peer().await;
        peer.send_together(vec![
            crate::support::Frame::new(
                kind::CONTROL,
                json!({"op": "hello", "reliable": true}).to_string(),
            ),
            crate::support::Frame::new(kind::DATA, "too early"),
        ])
        .await;
        // Where frames arrive one by one, welcome may be on its way before the message is there.
        loop {
            match peer.receive().await {
                Some(frame) if frame.kind == kind::ERROR => {
                    assert_eq!(code(frame.code_and_text()), ErrorCode::InvalidFrame);
                    break;
                }
                Some(frame) if over == Over::Mem && frame.kind == kind::DATA => break,
                Some(frame) => assert_eq!(frame.kind, kind::CONTROL, "{over:?}: {frame:?}"),
                None => panic!("{over:?}: the connection ended"),
            }
        }
        drop(peer);
        net.stop().await;
    }
}

#[tokio::test]
async fn a_message_before_welcome_is_refused_when_the_authenticator_has_had_its_say() {
    struct Slow(std::sync::Arc<tokio::sync::Notify>);
    impl network_system::Authenticator for Slow {
        fn authenticate<'a>(
            &'a self,
            _: &'a network_system::Session,
            _: network_system::Credentials,
        ) -> network_system::BoxFuture<'a, Result<Option<String>, network_system::RequestError>>
        {
            Box::pin(async {
                self.0.notified().await;
                Ok(None)
            })
        }
    }
    let go_on = std::sync::Arc::new(tokio::sync::Notify::new());
    let net = serve(Over::Tcp, |builder| {
        echo(builder)
            .authenticator(Slow(go_on.clone()))
            .reliable(Reliability::default())
    })
    .await;
    let mut peer = net.peer().await;
    peer.control(json!({"op": "hello", "reliable": true}).to_string())
        .await;
    peer.data("too early").await;
    crate::support::settle().await;
    tokio::time::sleep(super::MS * 20).await;
    go_on.notify_one();
    loop {
        let frame = peer.receive().await.expect("an ERROR");
        if frame.kind == kind::ERROR {
            assert_eq!(code(frame.code_and_text()), ErrorCode::InvalidFrame);
            break;
        }
        assert_eq!(frame.kind, kind::CONTROL, "{frame:?}");
    }
    net.stop().await;
}

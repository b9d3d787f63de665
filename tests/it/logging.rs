//! What is logged, and what never is.

use std::time::Duration;

use network_system::tls::{TlsIdentity, TlsServer};
use network_system::websocket::WebSocketClient;
use network_system::{
    Authenticator, BoxFuture, Client, Credentials, ErrorCode, Message, QueuePolicy,
    ReconnectPolicy, RequestError, Server, Session, executor,
};
use tokio::net::{TcpStream, UdpSocket};
use tracing::Level;

use crate::support::events::{Logged, hear};
use crate::support::{Frame, Over, echo, eventually, kind, limits, serve, timeouts, within};

fn code(code: ErrorCode) -> String {
    code.as_i32().to_string()
}

async fn connect(over: Over, url: &str) -> Client {
    let client = over
        .client(url)
        .reconnect(ReconnectPolicy::disabled())
        .build()
        .unwrap();
    within("connect", client.connect()).await.unwrap();
    client
}

/// The events of one side's session.
fn of_side<'a>(all: &'a [Logged], side: &str) -> Vec<&'a Logged> {
    let inside = |logged: &&Logged| logged.spans.iter().any(|span| span["side"] == side);
    all.iter().filter(inside).collect()
}

#[tokio::test]
async fn the_life_of_a_session_is_logged_inside_its_span() {
    let (heard, _guard) = hear(Level::TRACE);
    let net = serve(Over::Tcp, |builder| {
        builder.on_message(|session: Session, message: Message| async move {
            tracing::info!(target: "application", "handling");
            session.send(message).await.unwrap();
        })
    })
    .await;
    let client = connect(Over::Tcp, &net.url).await;
    let local = client.session().unwrap().local_addr().unwrap().to_string();
    let mut messages = client.messages().unwrap();
    client.send("12345").await.unwrap();
    assert_eq!(messages.next().await.unwrap().payload(), b"12345");
    client.stop().await;
    eventually("the end", || heard.named("session_closed").len() == 2).await;
    within("stop", net.server.stop()).await.unwrap();

    let all = heard.all();
    let ours: Vec<_> = of_side(&all, "server");
    let names: Vec<_> = ours.iter().map(|logged| logged.name).collect();
    let (opened, closed) = (ours[0], *ours.last().unwrap());
    assert_eq!(
        (names[0], closed.name),
        ("session_opened", "session_closed")
    );
    for name in ["messages_received", "messages_sent"] {
        let counted = ours.iter().find(|logged| logged.name == name).unwrap();
        assert_eq!(
            (counted.field("messages"), counted.field("bytes")),
            ("1", "5")
        );
    }
    assert!(ours.iter().any(|logged| logged.target == "application"));
    for logged in &ours {
        assert_eq!(logged.spans.len(), 1, "{logged:?}");
        let span = &logged.spans[0];
        assert_eq!((&*span["span"], &*span["transport"]), ("session", "tcp"));
        assert_eq!(span["peer"], local);
        assert_eq!(span["session"], opened.field("session"));
    }
    assert_eq!(opened.field("peer"), local);
    assert_eq!((closed.field("by"), closed.field("code")), ("remote", ""));
    assert_eq!(closed.field("opened"), "true");
    for name in ["messages_received", "messages_sent"] {
        assert_eq!(closed.field(name), "1");
    }
    assert!(closed.field("duration_ms").parse::<u64>().is_ok());

    let outside: Vec<_> = all
        .iter()
        .filter(|logged| logged.spans.is_empty())
        .collect();
    let of = |target: &str| -> Vec<_> {
        let ours = outside.iter().filter(|logged| logged.target == target);
        ours.map(|logged| logged.name).collect()
    };
    assert_eq!(
        of("network_system::server"),
        [
            "listener_bound",
            "server_started",
            "drain_began",
            "listener_closed",
            "server_stopped"
        ]
    );
    assert_eq!(
        of("network_system::client"),
        ["connecting", "connected", "client_stopped"]
    );
    let workers = of("network_system::worker");
    let ended = workers.iter().filter(|name| **name == "worker_stopped");
    assert_eq!((workers.len(), ended.count()), (6, 3));
    drop((client, net, messages));
    eventually("the spans are closed", || heard.open_spans() == 0).await;
}

#[tokio::test]
async fn below_debug_there_are_no_spans_and_no_events_of_sessions() {
    let (heard, _guard) = hear(Level::INFO);
    let net = serve(Over::Tcp, echo).await;
    let client = connect(Over::Tcp, &net.url).await;
    assert_eq!(heard.open_spans(), 0);
    client.stop().await;
    net.stop().await;
    let of_sessions = |logged: &Logged| logged.target == "network_system::session";
    assert!(!heard.all().iter().any(of_sessions));
}

#[tokio::test]
async fn a_silent_peer_is_said_to_be_silent() {
    let (heard, _guard) = hear(Level::DEBUG);
    let net = serve(Over::Tcp, |builder| {
        builder.timeouts(timeouts(|timeouts| {
            timeouts.first_byte = Duration::from_millis(50);
        }))
    })
    .await;
    let mut peer = net.peer().await;
    peer.expect_error_and_end().await;
    let logged = heard.first("session_timed_out").await;
    assert_eq!(logged.field("code"), code(ErrorCode::ConnectionTimeout));
    let closed = heard.first("session_closed").await;
    assert_eq!(
        (closed.field("by"), closed.field("opened")),
        ("local", "false")
    );
    net.stop().await;
}

#[tokio::test]
async fn a_refused_hello_and_a_failed_request_are_logged_by_their_codes() {
    let (heard, _guard) = hear(Level::TRACE);
    let net = serve(Over::Tcp, |builder| {
        builder.on_request(|_: Session, request: Message| async move {
            let text = String::from_utf8_lossy(request.payload()).into_owned();
            Err::<Message, _>(RequestError::failed(text))
        })
    })
    .await;
    let mut peer = net.peer().await;
    peer.control(r#"{"op":"hello","version":0}"#).await;
    peer.expect_error_and_end().await;
    let refused = heard.first("hello_refused").await;
    assert_eq!(refused.field("code"), code(ErrorCode::UnsupportedVersion));

    let mut peer = net.open_peer().await;
    peer.request(7, "what-was-asked").await;
    peer.expect(kind::FAILURE).await;
    let failed = heard.first("request_failed").await;
    assert_eq!(failed.field("code"), code(ErrorCode::RequestFailed));
    assert!(!format!("{:?}", heard.all()).contains("what-was-asked"));
    net.stop().await;
}

#[tokio::test]
async fn a_handler_on_an_executor_is_inside_the_span_of_its_session() {
    let (heard, _guard) = hear(Level::DEBUG);
    let net = serve(Over::Mem, |builder| {
        builder.executor(executor::Runtime::current()).on_message(
            |_: Session, _: Message| async move {
                tokio::task::yield_now().await;
                tracing::info!(name: "elsewhere", target: "application", "handling");
            },
        )
    })
    .await;
    let (mut peer, session) = net.pair().await;
    peer.data("go").await;
    let logged = heard.first("elsewhere").await;
    assert_eq!(logged.spans[0]["session"], session.id().to_string());
    net.stop().await;
}

struct Tokens;

impl Authenticator for Tokens {
    fn authenticate<'a>(
        &'a self,
        _: &'a Session,
        credentials: Credentials,
    ) -> BoxFuture<'a, Result<Option<String>, RequestError>> {
        let known = credentials
            .token
            .is_some_and(|token| token.starts_with("good"));
        Box::pin(async move {
            match known {
                true => Ok(Some("somebody".into())),
                false => Err(RequestError::failed("who are you?")),
            }
        })
    }
}

#[tokio::test]
async fn payloads_tokens_and_keys_are_never_logged() {
    const PAYLOAD: &str = "payload-5a8c2f";
    const GOOD: &str = "good-token-91be07";
    const BAD: &str = "bad-token-3d44e1";
    const QUERY: &str = "query-token-7f00aa";
    const HEADER: &str = "header-token-c0ffee";

    let (heard, _guard) = hear(Level::TRACE);
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, pem) = (key.cert.pem(), key.signing_key.serialize_pem());
    let tls = TlsServer::from_pem(certificate.clone(), pem.clone()).unwrap();
    let server = Server::builder()
        .listen("tls://127.0.0.1:0")
        .listen("ws://127.0.0.1:0")
        .tls(tls.clone())
        .authenticator(Tokens)
        .on_message(|session: Session, message: Message| async move {
            let _ = session.send(message).await;
        })
        .build()
        .unwrap();
    server.start().await.unwrap();
    tls.replace([TlsIdentity::pem(certificate, pem.clone())])
        .unwrap();
    let (secure, plain) = (server.urls().remove(0), server.urls().remove(1));

    for token in [GOOD, BAD] {
        for url in [secure.clone(), format!("{plain}/chat?token={QUERY}")] {
            let unchecked = network_system::tls::TlsClient::builder()
                .dangerous_accept_any_certificate()
                .build()
                .unwrap();
            let headers = WebSocketClient::new().header("authorization", HEADER);
            let client = Client::builder()
                .endpoint(url)
                .tls(unchecked)
                .websocket(headers)
                .client_id("somebody")
                .token(token)
                .reconnect(ReconnectPolicy::disabled())
                .build()
                .unwrap();
            let connected = within("connect", client.connect()).await;
            assert_eq!(connected.is_ok(), token == GOOD);
            if connected.is_ok() {
                let mut messages = client.messages().unwrap();
                client.send(PAYLOAD).await.unwrap();
                within("the echo", messages.next()).await.unwrap();
            }
            client.stop().await;
        }
    }
    // Nobody is there any more.
    server.stop().await.unwrap();
    let client = Client::builder()
        .endpoint(format!("{plain}/chat?token={QUERY}"))
        .build()
        .unwrap();
    let failed = within("refused", client.connect()).await.unwrap_err();
    assert!(!failed.to_string().contains(QUERY));

    assert_eq!(heard.named("authentication_failed").len(), 2);
    assert_eq!(heard.named("authenticated").len(), 2);
    assert!(!heard.named("tls_reloaded").is_empty() && !heard.named("tls_established").is_empty());
    let all = format!("{:?}", heard.all());
    let key: Vec<_> = pem.lines().filter(|line| !line.starts_with('-')).collect();
    for secret in [PAYLOAD, GOOD, BAD, QUERY, HEADER].iter().chain(&key) {
        assert!(!all.contains(*secret), "`{secret}` is in the log");
    }
}

#[tokio::test]
async fn refused_connections_do_not_fill_the_log() {
    let (heard, _guard) = hear(Level::INFO);
    let net = serve(Over::Tcp, |builder| {
        builder.limits(limits(|limits| limits.max_connections = 1))
    })
    .await;
    let _peer = net.open_peer().await;
    let host = net.server.local_addrs()[0];
    for _ in 0..60 {
        drop(TcpStream::connect(host).await.unwrap());
    }
    eventually("all are refused", || {
        net.server.stats().refused_connections == 60
    })
    .await;
    let refused = heard.named("connection_refused");
    // Two windows, if one ended meanwhile.
    assert!(
        !refused.is_empty() && refused.len() <= 20,
        "{}",
        refused.len()
    );
    let logged = &refused[0];
    assert_eq!(logged.level, Level::WARN);
    assert_eq!(logged.field("url"), net.url);
    assert_eq!(logged.field("code"), code(ErrorCode::TooManyConnections));
    assert!(logged.field("peer").starts_with("127.0.0.1:"));
    net.stop().await;
}

#[tokio::test]
async fn malformed_datagrams_do_not_fill_the_log() {
    let (heard, _guard) = hear(Level::TRACE);
    let server = Server::builder()
        .listen("udp://127.0.0.1:0?codec=msgi")
        .build()
        .unwrap();
    server.start().await.unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for _ in 0..60 {
        let to = server.local_addrs()[0];
        socket.send_to(b"nothing that is known", to).await.unwrap();
    }
    eventually("they arrive", || server.stats().udp.malformed >= 40).await;
    let logged = heard.named("datagram_malformed");
    assert!(!logged.is_empty() && logged.len() <= 20, "{}", logged.len());
    server.stop().await.unwrap();
}

#[tokio::test]
async fn dropped_messages_and_slow_consumers_are_logged() {
    for (policy, name) in [
        (QueuePolicy::DropOldest, "messages_dropped"),
        (QueuePolicy::Disconnect, "slow_consumer"),
    ] {
        let (heard, _guard) = hear(Level::INFO);
        let net = serve(Over::Mem, |builder| {
            builder.limits(limits(|limits| {
                limits.outbox_messages = 4;
                limits.when_full = policy;
            }))
        })
        .await;
        let (_peer, session) = net.pair().await;
        eventually("it is full", || {
            for _ in 0..100 {
                let _ = session.try_send(vec![0; 64 * 1024]);
            }
            !heard.named(name).is_empty()
        })
        .await;
        assert_eq!(heard.named(name)[0].level, Level::WARN);
        net.stop().await;
    }
}

#[tokio::test]
async fn what_a_peer_says_stays_in_one_line_of_bounded_length() {
    let (heard, _guard) = hear(Level::DEBUG);
    let net = serve(Over::Tcp, |builder| builder).await;
    let mut peer = net.open_peer().await;
    let text = format!("bye\nERROR all is lost\u{1b}[2J{}", "x".repeat(900));
    peer.send(Frame::new(kind::DISCONNECT, text)).await;
    let closed = heard.first("session_closed").await;
    let reason = closed.field("reason");
    assert!(reason.starts_with("bye\\nERROR"), "{reason}");
    assert!(!reason.contains(char::is_control) && reason.chars().count() <= 270);
    net.stop().await;
}

#[tokio::test]
async fn a_handler_that_panics_is_an_error_in_the_log() {
    let (heard, _guard) = hear(Level::INFO);
    let net = serve(Over::Mem, |builder| {
        builder.on_message(|_: Session, _: Message| async move { panic!("on purpose") })
    })
    .await;
    let (mut peer, session) = net.pair().await;
    peer.data("go").await;
    let logged = heard.first("handler_panicked").await;
    assert_eq!(logged.level, Level::ERROR);
    assert_eq!(logged.field("session"), session.id().to_string());
    net.stop().await;
}

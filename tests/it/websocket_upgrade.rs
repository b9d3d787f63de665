//! Who is let in to WebSocket, and as whom.

use std::time::Duration;

use network_system::websocket::{Accept, Reject, Upgrade, WebSocketServer};
use network_system::{
    Authenticator, BoxFuture, Credentials, ErrorCode, RequestError, Server, ServerBuilder, Session,
};
use tokio::time::Instant;

use crate::support::websocket::{self, Ask, Ws, WsPeer, ask};
use crate::support::{
    Event, Frame, Net, Over, Peer, echo, eventually, kind, limits, log, record, timeouts, within,
};

async fn serve(configure: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Net {
    crate::support::serve(Over::Ws, |builder| echo(configure(builder))).await
}

/// The status of the answer and, for a refusal, its text.
async fn status(net: &Net, what: &Ask) -> (u16, String) {
    let answer = within("an answer", ask(&net.url, what)).await.unwrap();
    (answer.status, answer.body)
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_unless_they_are_allowed() {
    let origin = |origin| Ask::new("/").field("Origin", origin);
    let net = serve(|builder| builder).await;
    for own in ["http://127.0.0.1", "http://localhost:3000", "http://[::1]"] {
        assert_eq!(status(&net, &origin(own)).await.0, 101, "{own}");
    }
    for foreign in [
        "https://example.org",
        "null",
        "http://127.0.0.1.example.org",
    ] {
        let (status, text) = status(&net, &origin(foreign)).await;
        assert_eq!(status, 403, "{foreign}");
        assert!(text.contains("origin"), "{text}");
    }
    net.stop().await;
    let allows = WebSocketServer::new().allow_origin("https://example.org");
    let net = serve(|builder| builder.websocket(allows)).await;
    assert_eq!(status(&net, &origin("https://example.org")).await.0, 101);
    assert_eq!(status(&net, &origin("https://example.com")).await.0, 403);
    net.stop().await;
    let all = WebSocketServer::new().allow_any_origin();
    let net = serve(|builder| builder.websocket(all)).await;
    assert_eq!(status(&net, &origin("https://example.com")).await.0, 101);
    net.stop().await;
}

#[tokio::test]
async fn a_loopback_listener_is_asked_for_under_its_own_names_only() {
    let net = serve(|builder| builder).await;
    for own in ["localhost", "127.0.0.1:80", "app.localhost:7601"] {
        assert_eq!(status(&net, &Ask::new("/").host(own)).await.0, 101, "{own}");
    }
    // What a page sends whose name server says that it is at 127.0.0.1.
    let rebound = Ask::new("/")
        .host("example.org")
        .field("Origin", "http://example.org");
    assert_eq!(status(&net, &rebound).await.0, 403);
    net.stop().await;
}

#[tokio::test]
async fn another_path_is_not_found() {
    let server = echo(Server::builder())
        .listen("ws://127.0.0.1:0/chat")
        .build()
        .unwrap();
    server.start().await.unwrap();
    let url = server.urls().remove(0);
    assert!(url.ends_with("/chat"), "{url}");
    for (path, expected) in [
        ("/chat", 101),
        ("/chat?room=1", 101),
        ("/", 404),
        ("/chat/", 404),
    ] {
        let answer = ask(&url, &Ask::new(path)).await.unwrap();
        assert_eq!(answer.status, expected, "{path}");
    }
    server.stop_within(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_hook_refuses_with_a_status_and_lets_in_with_identity_and_data() {
    let hook = |upgrade: &Upgrade<'_>| {
        assert!(upgrade.remote.unwrap().ip().is_loopback());
        match upgrade.request.header("X-User") {
            Some("panic") => panic!("on purpose"),
            Some(user) => Ok(Accept::new().identity(user).data("user", user)),
            None => Err(Reject::new(418, "say who you are")),
        }
    };
    let (log, mut events) = log();
    let net =
        serve(|builder| record(builder, &log).websocket(WebSocketServer::new().on_upgrade(hook)))
            .await;
    let refused = status(&net, &Ask::new("/")).await;
    assert_eq!(
        (refused.0, refused.1.contains("say who you are")),
        (418, true)
    );
    let panics = status(&net, &Ask::new("/").field("X-User", "panic")).await;
    assert_eq!(panics.0, 500);
    let asks = Ask::new("/here?now=1").field("X-User", "eve");
    let mut peer = WsPeer::connect(&net.url, &asks).await;
    let session = loop {
        match events.next().await {
            Event::Connected(session) => break session,
            Event::Error(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(session.identity().as_deref(), Some("eve"));
    assert_eq!(session.data("user").as_deref(), Some("eve"));
    let info = session.websocket().unwrap();
    assert_eq!((info.path(), info.query()), ("/here", Some("now=1")));
    assert_eq!(info.subprotocol, None);
    peer.ping_pong(b"in").await;
    assert_eq!(net.server.stats().total_connections, 1);
    net.stop().await;
}

#[tokio::test]
async fn the_subprotocol_is_one_that_was_offered() {
    let choose = |upgrade: &Upgrade<'_>| {
        let offered = upgrade.request.subprotocols();
        Ok(match upgrade.request.path() {
            "/chat" => Accept::new().subprotocol("chat.v2"),
            _ => {
                assert_eq!(upgrade.msgi, offered.contains(&"msgi.v1"));
                Accept::new()
            }
        })
    };
    let options = WebSocketServer::new().on_upgrade(choose);
    let net = serve(|builder| builder.websocket(options)).await;
    let offers = |path: &str, offer| Ask::new(path).field("Sec-WebSocket-Protocol", offer);
    for (what, expected) in [
        (offers("/", "msgi.v1"), Some("msgi.v1")),
        (offers("/", "chat.v2, msgi.v1"), Some("msgi.v1")),
        (offers("/", "chat.v2"), None),
        (offers("/chat", "msgi.v1, chat.v2"), Some("chat.v2")),
    ] {
        let answer = ask(&net.url, &what).await.unwrap();
        assert_eq!(answer.status, 101);
        assert_eq!(answer.field("Sec-WebSocket-Protocol"), expected, "{what:?}");
    }
    // What the hook chose was not offered: that is the server's mistake.
    assert_eq!(status(&net, &offers("/chat", "msgi.v1")).await.0, 500);
    // A session with a subprotocol of the application's is a plain one.
    let mut peer = WsPeer::connect(&net.url, &offers("/chat", "chat.v2")).await;
    peer.text("plain").await;
    assert_eq!(peer.receive().await, Ws::Text("plain".into()));
    let found = |session: &Session| {
        let info = session.websocket()?;
        info.subprotocol.clone().filter(|_| info.target == "/chat")
    };
    let found: Vec<_> = net.server.sessions().iter().filter_map(found).collect();
    assert!(found.contains(&"chat.v2".to_owned()), "{found:?}");
    net.stop().await;
}

/// Lets everyone in who shows a token.
struct Token;

impl Authenticator for Token {
    fn authenticate<'a>(
        &'a self,
        _: &'a Session,
        credentials: Credentials,
    ) -> BoxFuture<'a, Result<Option<String>, RequestError>> {
        Box::pin(async move {
            let code = ErrorCode::AuthenticationFailed;
            let token = credentials.token;
            token
                .map(Some)
                .ok_or(RequestError::with_code(code, "no token"))
        })
    }
}

#[tokio::test]
async fn with_an_authenticator_plain_peers_need_a_hook_that_knows_them() {
    let net = serve(|builder| builder.authenticator(Token)).await;
    let (refused, text) = status(&net, &Ask::new("/")).await;
    assert_eq!(refused, 401, "{text}");
    // Those that speak MSGI say who they are by hello.
    let mut peer = Peer::connect(&net.url).await;
    let hello = r#"{"op":"hello","token":"eve"}"#;
    peer.send_together(vec![
        Frame::new(kind::CONTROL, hello),
        Frame::new(kind::DATA, "in"),
    ])
    .await;
    peer.expect(kind::CONTROL).await;
    assert_eq!(peer.expect_data().await, "in");
    assert_eq!(net.server.sessions()[0].identity().as_deref(), Some("eve"));
    net.stop().await;
    let hook = |upgrade: &Upgrade<'_>| {
        let accept = Accept::new();
        Ok(match upgrade.request.query() {
            Some(user) => accept.identity(user),
            None => accept,
        })
    };
    let options = WebSocketServer::new().on_upgrade(hook);
    let net = serve(|builder| builder.authenticator(Token).websocket(options)).await;
    assert_eq!(status(&net, &Ask::new("/")).await.0, 401);
    let mut peer = WsPeer::connect(&net.url, &Ask::new("/?bob")).await;
    peer.text("in").await;
    assert_eq!(peer.receive().await, Ws::Text("in".into()));
    assert_eq!(net.server.sessions()[0].identity().as_deref(), Some("bob"));
    net.stop().await;
}

#[tokio::test]
async fn beyond_the_connection_limit_the_status_is_503() {
    let net = serve(|builder| builder.limits(limits(|limits| limits.max_connections = 1))).await;
    let mut inside = WsPeer::connect(&net.url, &Ask::new("/")).await;
    inside.ping_pong(b"in").await;
    let (refused, text) = status(&net, &Ask::new("/")).await;
    assert_eq!(refused, 503, "{text}");
    inside.close(1000, "").await;
    drop(inside);
    eventually("a place is free", || net.server.session_count() == 0).await;
    assert_eq!(status(&net, &Ask::new("/")).await.0, 101);
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_that_does_not_come_in_time_is_answered_with_408() {
    let net = serve(|builder| {
        builder.timeouts(timeouts(|timeouts| {
            timeouts.first_byte = Duration::from_secs(7)
        }))
    })
    .await;
    for said in ["", "GET / HTTP/1.1\r\nHost: local"] {
        let mut io = crate::support::peer::dial(&net.url).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut io, said.as_bytes())
            .await
            .unwrap();
        let began = Instant::now();
        let answer = websocket::answer(io).await.unwrap();
        assert_eq!(answer.status, 408, "{said:?}");
        let seconds = began.elapsed().as_secs_f64();
        assert!((7.0..8.5).contains(&seconds), "{said:?}: {seconds} s");
    }
    net.stop().await;
}

#[tokio::test]
async fn a_request_that_is_no_upgrade_is_answered_with_its_status() {
    let options = WebSocketServer::new().header_limits(1_024, 16);
    let net = serve(|builder| builder.websocket(options)).await;
    let many = "X: y\r\n".repeat(20);
    let long = format!("X: {}\r\n", "y".repeat(2_000));
    let base = "Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    let rest = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (request, expected) in [
        ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), 426),
        (format!("POST / HTTP/1.1\r\n{base}{rest}\r\n"), 405),
        (
            format!("GET / HTTP/1.1\r\n{base}Sec-WebSocket-Version: 8\r\n\r\n"),
            426,
        ),
        (format!("GET / HTTP/1.1\r\n{base}{rest}{many}\r\n"), 431),
        (format!("GET / HTTP/1.1\r\n{base}{rest}{long}\r\n"), 431),
        ("nonsense\r\n\r\n".to_owned(), 400),
    ] {
        let mut io = crate::support::peer::dial(&net.url).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut io, request.as_bytes())
            .await
            .unwrap();
        let answer = within("an answer", websocket::answer(io)).await.unwrap();
        assert_eq!(answer.status, expected, "{request:?}: {}", answer.body);
        if expected == 426 {
            assert_eq!(answer.field("Sec-WebSocket-Version"), Some("13"));
        }
    }
    // A well-formed one is still served.
    let mut peer = WsPeer::connect(&net.url, &Ask::new("/")).await;
    peer.ping_pong(b"in").await;
    net.stop().await;
}

#[test]
fn a_listener_has_no_query() {
    let built = Server::builder()
        .listen("ws://127.0.0.1:0/chat?room=1")
        .build();
    let error = built.expect_err("refused");
    assert_eq!(error.code(), ErrorCode::InvalidConfiguration);
    assert!(error.to_string().contains("without a query"), "{error}");
}

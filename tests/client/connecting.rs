//! The first connection: made, or refused with the reason.

use std::time::Duration;

use network_system::{
    Address, Authenticator, BoxFuture, Client, ClientState, Credentials, Endpoint, ErrorCode,
    QueuePolicy, ReconnectPolicy, RequestError, Resolver, Server, Session, Timeouts,
};
use tokio::time::Instant;

use crate::support::*;

fn within(connect: Duration) -> Timeouts {
    let mut timeouts = Timeouts::client();
    timeouts.connect = connect;
    timeouts
}

#[tokio::test]
async fn a_closed_port_is_reported_as_refused_and_leaves_nothing_behind() {
    let closed = Port::take().await;
    let client = quick(&closed.url).build().expect("valid");
    let error = soon(client.connect()).await.expect_err("nobody listens");
    assert_eq!(error.code(), ErrorCode::ConnectionRefused);
    assert_eq!(client.state(), ClientState::Failed);
    assert_eq!(client.stats().failed_attempts, 1);
    let reason = client.close_reason().expect("a reason");
    assert_eq!(reason.code(), Some(ErrorCode::ConnectionRefused));
    assert_eq!(alive_tasks(), 0);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_at_the_deadline() {
    let (fake, url) = Fake::bind().await;
    let client = quick(&url)
        .timeouts(within(80 * MS))
        .build()
        .expect("valid");
    let began = Instant::now();
    let (error, mut peer) = tokio::join!(client.connect(), fake.accept());
    let error = error.expect_err("no welcome");
    assert!(error.is_timeout(), "{error}");
    assert!(
        (80 * MS..PROMPT).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(alive_tasks(), 0);
    peer.closed().await;
}

#[tokio::test]
async fn the_client_connects_again_after_a_failure() {
    let port = Port::take().await;
    let client = quick(&port.url).build().expect("valid");
    client.connect().await.expect_err("nobody listens");
    let (server, _) = started(echo_on(&port.url)).await;
    client.connect().await.expect("the server is there now");
    client.connect().await.expect("connected already");
    assert_eq!(server.session_count(), 1);
    client.stop().await;
    server.stop().await.expect("running");
}

#[tokio::test]
async fn each_endpoint_is_tried_in_order() {
    let (server, url) = started(echo()).await;
    let (silent, silent_url) = Fake::bind().await;
    let closed = Port::take().await;
    let client = Client::builder()
        .endpoint(&closed.url)
        .endpoint(silent_url)
        .endpoint(&url)
        .timeouts(within(3_000 * MS))
        .build()
        .expect("valid");
    let (result, _peer) = tokio::join!(client.connect(), silent.accept());
    result.expect("the third one is there");
    assert_eq!(client.stats().failed_attempts, 2);
    client.stop().await;
    server.stop().await.expect("running");
}

#[tokio::test]
async fn ipv6_loopback_works() {
    let server = echo_on("tcp://[::1]:0").build().expect("valid");
    if server.start().await.is_err() {
        // This machine has no IPv6.
        return;
    }
    let client = Client::connect_to(&server.urls()[0])
        .await
        .expect("connects");
    let remote = client.session().and_then(|session| session.remote_addr());
    assert!(remote.is_some_and(|remote| remote.is_ipv6()));
    let answer = client.request("six", LONG).await.expect("an answer");
    assert_eq!(answer.as_text(), Some("re: six"));
    client.stop().await;
    server.stop().await.expect("running");
}

/// Resolves every name to addresses of the test's choice.
struct Fixed(Vec<std::net::SocketAddr>);

impl Resolver for Fixed {
    fn resolve<'a>(
        &'a self,
        _host: &'a str,
        _port: u16,
    ) -> BoxFuture<'a, std::io::Result<Vec<std::net::SocketAddr>>> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

#[tokio::test]
async fn every_address_of_a_name_is_tried() {
    let (server, _) = started(echo()).await;
    let closed = Port::take().await;
    let endpoint = Endpoint::parse(&closed.url).expect("a URL");
    let Address::Tcp { port, .. } = *endpoint.address() else {
        panic!("a TCP address")
    };
    let addresses = vec![([127, 0, 0, 1], port).into(), server.local_addrs()[0]];
    let client = Client::builder()
        .endpoint("tcp://a-name.test:1")
        .resolver(Fixed(addresses))
        .build()
        .expect("valid");
    soon(client.connect())
        .await
        .expect("the second address is there");
    client.stop().await;
    server.stop().await.expect("running");
}

struct Password;

impl Authenticator for Password {
    fn authenticate<'a>(
        &'a self,
        _session: &'a Session,
        credentials: Credentials,
    ) -> BoxFuture<'a, Result<Option<String>, RequestError>> {
        Box::pin(async move {
            match credentials.token.as_deref() {
                Some("right") => Ok(credentials.client_id),
                _ => Err(RequestError::with_code(
                    ErrorCode::AuthenticationFailed,
                    "wrong token",
                )),
            }
        })
    }
}

#[tokio::test]
async fn the_token_opens_the_door_and_a_wrong_one_is_reported() {
    let (server, url) = started(echo().authenticator(Password)).await;
    let wrong = quick(&url).token("wrong").build().expect("valid");
    let error = soon(wrong.connect()).await.expect_err("refused");
    assert_eq!(error.code(), ErrorCode::AuthenticationFailed);
    assert!(error.to_string().contains("wrong token"), "{error}");
    assert_eq!(wrong.state(), ClientState::Failed);
    let right = connected(quick(&url).token("right").client_id("alice")).await;
    assert_eq!(right.client_id(), Some("alice"));
    let session = server.sessions().remove(0);
    assert_eq!(session.client_id(), "alice");
    assert_eq!(session.identity().as_deref(), Some("alice"));
    right.stop().await;
    server.stop().await.expect("running");
}

#[tokio::test]
async fn an_error_in_place_of_welcome_needs_no_end_of_stream() {
    let (fake, url) = Fake::bind().await;
    let client = quick(&url).build().expect("valid");
    let (error, _peer) = tokio::join!(client.connect(), async {
        let mut peer = fake.accept().await;
        peer.error(-624, "not you").await;
        peer
    });
    let error = error.expect_err("refused");
    assert_eq!(error.code(), ErrorCode::AccessDenied);
    assert!(error.to_string().contains("not you"), "{error}");
}

#[tokio::test]
async fn a_disconnect_in_place_of_welcome_is_reported_with_its_text() {
    let (fake, url) = Fake::bind().await;
    let client = quick(&url).build().expect("valid");
    let (error, _) = tokio::join!(client.connect(), async {
        let mut peer = fake.accept().await;
        peer.send(DISCONNECT, b"full moon").await;
        peer.closed().await;
    });
    let error = error.expect_err("refused");
    assert!(error.to_string().contains("full moon"), "{error}");
    assert_eq!(alive_tasks(), 0);
}

#[tokio::test]
async fn a_message_in_place_of_welcome_is_refused() {
    let (fake, url) = Fake::bind().await;
    let client = quick(&url).build().expect("valid");
    let (error, _) = tokio::join!(client.connect(), async {
        let mut peer = fake.accept().await;
        // An unknown op is ignored, whatever comes with it.
        peer.send(CONTROL, br#"{"op":"news"}"#).await;
        peer.send(DATA, b"too soon").await;
        peer.closed().await;
    });
    assert_eq!(error.expect_err("refused").code(), ErrorCode::InvalidFrame);
}

#[tokio::test]
async fn dropping_connect_ends_the_attempt() {
    let (fake, url) = Fake::bind().await;
    let client = quick(&url).build().expect("valid");
    let mut peer = {
        let connect = client.connect();
        tokio::pin!(connect);
        tokio::select! {
            _ = &mut connect => panic!("there is no welcome"),
            mut peer = fake.accept() => {
                tokio::select! {
                    _ = &mut connect => panic!("there is no welcome"),
                    hello = peer.frame() => assert!(hello.is_some()),
                }
                peer
            }
        }
    };
    peer.closed().await;
    reached(&client, ClientState::Stopped).await;
    assert_eq!(alive_tasks(), 0);
}

#[tokio::test]
async fn a_stop_ends_an_attempt() {
    let (fake, url) = Fake::bind().await;
    let client = quick(&url).build().expect("valid");
    let (error, _) = tokio::join!(client.connect(), async {
        let _peer = fake.accept().await;
        client.stop().await;
    });
    assert_eq!(error.expect_err("stopped").code(), ErrorCode::ShuttingDown);
    assert_eq!(client.state(), ClientState::Stopped);
}

#[tokio::test]
async fn two_callers_wait_for_one_connection() {
    let (server, url) = started(echo()).await;
    let client = quick(&url).build().expect("valid");
    let (first, second) = tokio::join!(client.connect(), client.connect());
    first.expect("connects");
    second.expect("connects");
    assert_eq!(server.stats().total_connections, 1);
    client.stop().await;
    server.stop().await.expect("running");
}

#[tokio::test]
async fn codecs_without_hello_open_at_once() {
    let (server, url) = started(echo_on("tcp://127.0.0.1:0?codec=lines")).await;
    let client = soon(Client::connect_to(&url)).await.expect("connects");
    let mut messages = client.messages().expect("no handler");
    client.send("a line").await.expect("connected");
    assert_eq!(
        soon(messages.next()).await.expect("the echo").as_text(),
        Some("a line")
    );
    let error = client
        .request("question", LONG)
        .await
        .expect_err("no requests");
    assert_eq!(error.code(), ErrorCode::NotSupported);
    let error = client.send("two\nlines").await.expect_err("no line feeds");
    assert_eq!(error.code(), ErrorCode::NotSupported);
    let room = "room".parse().expect("a name");
    let error = client.join(&room).await.expect_err("no control frames");
    assert_eq!(error.code(), ErrorCode::NotSupported);
    client.stop().await;
    server.stop().await.expect("running");
}

#[test]
fn impossible_configurations_are_refused() {
    let url = "tcp://127.0.0.1:1";
    let base = || Client::builder().endpoint(url);
    let policy = ReconnectPolicy::new().base(Duration::ZERO);
    for (name, builder) in [
        ("endpoint", Client::builder()),
        ("scheme", Client::builder().endpoint("http://localhost:80")),
        (
            "offline_queue",
            base().offline_queue(1, QueuePolicy::Disconnect),
        ),
        ("reconnect base", base().reconnect(policy)),
        ("connect", base().timeouts(within(Duration::ZERO))),
        (
            "token",
            Client::builder()
                .endpoint("tcp://127.0.0.1:1?codec=raw")
                .token("x"),
        ),
        ("token", base().token("x".repeat(8 * 1024 + 1))),
        ("client_id", base().client_id("")),
        ("handler", base().handler(Nothing).on_error(|_, _, _| {})),
    ] {
        let error = builder.build().expect_err(name);
        assert_eq!(error.code(), ErrorCode::InvalidConfiguration);
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
}

struct Nothing;

impl network_system::Handler for Nothing {}

#[test]
fn debug_output_shows_no_token() {
    let builder = Client::builder()
        .endpoint("tcp://127.0.0.1:1")
        .token("secret");
    assert!(!format!("{builder:?}").contains("secret"));
    let client = builder.build().expect("valid");
    assert!(!format!("{client:?}").contains("secret"));
}

#[tokio::test]
async fn a_server_with_a_lower_message_limit_is_heeded() {
    let mut limits = network_system::Limits::default();
    limits.message_size = 10;
    let builder = Server::builder().listen("tcp://127.0.0.1:0").limits(limits);
    let (server, url) = started(builder).await;
    let client = connected(quick(&url)).await;
    let error = client.send("eleven char").await.expect_err("too long");
    assert_eq!(error.code(), ErrorCode::MessageTooLarge);
    assert_eq!(error.into_message().as_text(), Some("eleven char"));
    client.stop().await;
    server.stop().await.expect("running");
}

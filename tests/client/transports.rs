//! What a client does is the same on every transport that has sessions with requests.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use network_system::tls::{TlsAuthorities, TlsClient, TlsServer};
use network_system::{
    Client, ClientBuilder, ClientState, CloseReason, ErrorCode, GroupName, Message, Proxy,
    ReconnectPolicy, Server, ServerBuilder, Session, Timeouts, Transport,
};
use tokio::sync::mpsc;
use tungstenite::handshake::server::{Request, Response};

use crate::support::*;

type Certified = rcgen::CertifiedKey<rcgen::KeyPair>;

/// Made once for each process.
fn certified() -> &'static Certified {
    static CERTIFIED: OnceLock<Certified> = OnceLock::new();
    CERTIFIED.get_or_init(|| {
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        rcgen::generate_simple_self_signed(names).expect("a certificate")
    })
}

fn shown() -> TlsServer {
    let Certified { cert, signing_key } = certified();
    TlsServer::from_pem(cert.pem(), signing_key.serialize_pem()).expect("a certificate")
}

fn trusted() -> TlsClient {
    let authorities = TlsAuthorities::pem(certified().cert.pem());
    let builder = TlsClient::builder().authorities(authorities);
    builder.build().expect("a certificate")
}

fn serving(url: &str) -> ServerBuilder {
    echo_on(url).tls(shown())
}

fn asking(url: &str) -> ClientBuilder {
    quick(url).tls(trusted())
}

/// Instantiates tests for every transport with a URL to listen on.
macro_rules! over_all {
    ($($test:ident),+ $(,)?) => {
        over_all!(@ tcp "tcp://127.0.0.1:0"; $($test),+);
        over_all!(@ tls "tls://127.0.0.1:0"; $($test),+);
        over_all!(@ ws "ws://127.0.0.1:0/path"; $($test),+);
        over_all!(@ wss "wss://127.0.0.1:0"; $($test),+);
    };
    (@ $module:ident $url:expr; $($test:ident),+) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test($url).await;
                }
            )+
        }
    };
}

over_all! {
        a_client_connects_and_its_messages_come_back,
        requests_are_answered_on_both_sides,
        a_lost_connection_is_made_again_and_what_was_sent_meanwhile_arrives,
        groups_are_joined_left_and_joined_again_after_a_reconnect,
        a_stop_delivers_what_was_sent,
        a_server_that_stops_says_so_to_its_clients,
        a_refused_client_learns_why,
        a_port_on_which_nobody_listens_is_reported_as_refused,
}

async fn a_client_connects_and_its_messages_come_back(url: &str) {
    let (server, url) = started(serving(url)).await;
    let client = connected(asking(&url)).await;
    let mut messages = client.messages().expect("no handler");
    for number in 0..300_usize {
        let payload = vec![number as u8; number * 97 % 5_000];
        client.send(payload).await.expect("connected");
    }
    client.send(vec![1; 1024 * 1024]).await.expect("connected");
    for number in 0..300_usize {
        let message = soon(messages.next()).await.expect("connected");
        assert!(message.payload() == vec![number as u8; number * 97 % 5_000]);
    }
    let last = soon(messages.next()).await.expect("connected");
    assert_eq!(last.len(), 1024 * 1024);
    let session = client.session().expect("connected");
    let scheme = url.split(':').next().expect("a scheme");
    assert_eq!(session.transport().to_string(), scheme);
    let is_tls = matches!(
        session.transport(),
        Transport::Tls | Transport::SecureWebSocket
    );
    assert_eq!(session.tls().is_some(), is_tls);
    let remote = session.remote_addr().expect("an address");
    assert_eq!(remote, server.local_addrs()[0]);
    client.stop().await;
    server.stop().await.expect("running");
}

async fn requests_are_answered_on_both_sides(url: &str) {
    let (server, url) = started(serving(url)).await;
    let answering = asking(&url).on_request(|_, request: Message| async move { Ok(request) });
    let client = connected(answering).await;
    for number in 0..20 {
        let question = format!("{number}");
        let answer = client.request(question, LONG).await.expect("an answer");
        assert_eq!(answer.as_text(), Some(&format!("re: {number}")[..]));
    }
    let session = server.sessions().remove(0);
    let answer = session.request("name?", LONG).await.expect("an answer");
    assert_eq!(answer.payload(), b"name?");
    client.stop().await;
    server.stop().await.expect("running");
}

async fn a_lost_connection_is_made_again_and_what_was_sent_meanwhile_arrives(url: &str) {
    let (server, url) = started(serving(url)).await;
    let client = connected(asking(&url)).await;
    let mut messages = client.messages().expect("no handler");
    for round in 0..3 {
        let session = server.sessions().remove(0);
        session.abort();
        let _ = soon(session.closed()).await;
        // Queued or sent, it is there when the connection is.
        while client.state() == ClientState::Connected {
            tokio::task::yield_now().await;
        }
        client.send(format!("{round}")).await.expect("queued");
        let message = soon(messages.next()).await.expect("the echo");
        assert_eq!(message.as_text(), Some(&format!("{round}")[..]));
    }
    assert_eq!(server.stats().total_connections, 4);
    client.stop().await;
    server.stop().await.expect("running");
}

async fn groups_are_joined_left_and_joined_again_after_a_reconnect(url: &str) {
    let guard = |_: &Session, group: &GroupName| group.as_str() != "secret";
    let (server, url) = started(serving(url).group_guard(guard)).await;
    let client = connected(asking(&url)).await;
    let [room, other, secret]: [GroupName; 3] =
        ["room", "other", "secret"].map(|name| name.parse().expect("a name"));
    client.join(&room).await.expect("allowed");
    client.join(&other).await.expect("allowed");
    client.leave(&other).await.expect("allowed");
    let error = client.join(&secret).await.expect_err("not allowed");
    assert_eq!(error.code(), ErrorCode::AccessDenied);
    server.sessions().remove(0).abort();
    soon(async {
        while server.stats().total_connections < 2 || server.members(&room).is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(server.members(&other).is_empty());
    let mut messages = client.messages().expect("no handler");
    let report = server.broadcast_to(&room, "news", &[]).await;
    assert_eq!(report.expect("running").sent, 1);
    let message = soon(messages.next()).await.expect("connected");
    assert_eq!(message.as_text(), Some("news"));
    client.stop().await;
    server.stop().await.expect("running");
}

/// Expects that something takes less than the second that a peer has for its part of an end. Where the machine has
/// more to do it may take longer, but not each time.
async fn is_prompt<F: Future<Output = Duration>>(attempt: impl Fn() -> F) {
    let mut took = Vec::new();
    for _ in 0..10 {
        took.push(attempt().await);
        if took.last() < Some(&(900 * MS)) {
            return;
        }
    }
    panic!("it waits: {took:?}");
}

async fn a_stop_delivers_what_was_sent(url: &str) {
    is_prompt(|| stop_with_much_to_send(url)).await;
}

async fn stop_with_much_to_send(url: &str) -> Duration {
    let (received, mut messages) = mpsc::unbounded_channel();
    let sink = Server::builder()
        .listen(url)
        .tls(shown())
        .on_message(move |_, message: Message| {
            let _ = received.send(message.len());
            async {}
        });
    let (server, url) = started(sink).await;
    let before = alive_tasks();
    let client = connected(asking(&url)).await;
    for _ in 0..200 {
        client.send(vec![1; 10_000]).await.expect("connected");
    }
    let began = tokio::time::Instant::now();
    let report = soon(client.stop()).await;
    let took = began.elapsed();
    assert!(report.in_order && report.unsent == 0, "{report:?}");
    assert_eq!(alive_tasks(), before);
    for _ in 0..200 {
        assert_eq!(soon(messages.recv()).await, Some(10_000));
    }
    let report = server.stop().await.expect("running");
    assert_eq!(report.aborted, 0);
    took
}

async fn a_server_that_stops_says_so_to_its_clients(url: &str) {
    is_prompt(|| stop_of_a_server(url)).await;
}

async fn stop_of_a_server(url: &str) -> Duration {
    let (server, url) = started(serving(url)).await;
    let (told, mut reasons) = mpsc::unbounded_channel();
    let policy = network_system::ReconnectPolicy::disabled();
    let told = Arc::new(told);
    let builder = asking(&url)
        .reconnect(policy)
        .on_disconnect(move |_, reason: CloseReason| {
            let _ = told.send(reason);
            async {}
        });
    let client = connected(builder).await;
    let began = tokio::time::Instant::now();
    let report = soon(server.stop()).await.expect("running");
    let took = began.elapsed();
    assert_eq!((report.drained, report.aborted), (1, 0));
    let reason = soon(reasons.recv()).await.expect("a reason");
    assert_eq!(reason.text(), "shutting down");
    soon(client.wait_for_stop()).await;
    took
}

async fn a_refused_client_learns_why(url: &str) {
    let mut limits = network_system::Limits::default();
    limits.max_connections = 1;
    let (server, url) = started(serving(url).limits(limits)).await;
    let inside = connected(asking(&url)).await;
    let outside = asking(&url).build().expect("valid");
    let error = soon(outside.connect()).await.expect_err("refused");
    match url.split(':').next() {
        // No handshake is made for a refusal.
        Some("tls" | "wss") => assert!(error.is_retryable(), "{error:?}"),
        _ => assert_eq!(error.code(), ErrorCode::TooManyConnections),
    }
    inside.request("still in", LONG).await.expect("an answer");
    inside.stop().await;
    server.stop().await.expect("running");
}

async fn a_port_on_which_nobody_listens_is_reported_as_refused(url: &str) {
    let closed = Port::take().await;
    let port = closed.url.rsplit(':').next().expect("a port");
    let url = url.replacen(":0", &format!(":{port}"), 1);
    let client: Client = asking(&url).build().expect("valid");
    let error = soon(client.connect()).await.expect_err("nobody listens");
    assert_eq!(error.code(), ErrorCode::ConnectionRefused);
    assert_eq!(alive_tasks(), 0);
}

/// What is left of a connection that a client has given up.
async fn ended(stream: &mut tokio::net::TcpStream) {
    use tokio::io::AsyncReadExt;
    let mut rest = Vec::new();
    // What it has sent and nobody read may make a reset of it.
    let _ = soon(stream.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_given_up_with_its_attempt() {
    for scheme in ["tls", "ws", "wss"] {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("{scheme}://{}", silent.local_addr().expect("an address"));

        // The attempt takes too long.
        let mut timeouts = Timeouts::default();
        timeouts.connect = Duration::from_millis(100);
        let hasty = asking(&url).timeouts(timeouts).build().expect("valid");
        let (result, accepted) = tokio::join!(soon(hasty.connect()), silent.accept());
        let error = result.expect_err("nobody answers");
        assert_eq!(error.code(), ErrorCode::ConnectionTimeout, "{error}");
        ended(&mut accepted.expect("a connection").0).await;

        // The client is stopped.
        let client = asking(&url).build().expect("valid");
        let attempt = async {
            let (mut stream, _) = silent.accept().await.expect("a connection");
            soon(stream.readable()).await.expect("a first word");
            soon(client.stop()).await;
            ended(&mut stream).await;
        };
        let (result, ()) = tokio::join!(soon(client.connect()), attempt);
        let error = result.expect_err("stopped");
        assert_eq!(error.code(), ErrorCode::ShuttingDown, "{error}");

        // Nobody waits any more.
        let client = asking(&url).build().expect("valid");
        let mut stream = tokio::select! {
            _ = client.connect() => panic!("connected"),
            accepted = silent.accept() => accepted.expect("a connection").0,
        };
        ended(&mut stream).await;

        // The server ends the connection.
        let client = asking(&url).build().expect("valid");
        let attempt = async { drop(silent.accept().await.expect("a connection")) };
        let (result, ()) = tokio::join!(soon(client.connect()), attempt);
        let error = result.expect_err("ended");
        assert_eq!(error.code(), ErrorCode::ConnectionClosed, "{error}");
        assert_eq!(client.state(), ClientState::Failed);
    }
}

#[test]
fn a_proxy_and_udp_together_are_refused() {
    let built = Client::builder()
        .endpoint("udp://127.0.0.1:1")
        .proxy(Proxy::parse("socks5://127.0.0.1:1080").expect("works"))
        .build();
    assert_eq!(built.expect_err("refused").code(), ErrorCode::NotSupported);
}

#[tokio::test]
#[allow(
    clippy::result_large_err,
    reason = "tungstenite's callback is like that"
)]
async fn whoever_agrees_to_msgi_and_does_not_speak_it_is_found_out() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("works");
    let url = format!("ws://{}", listener.local_addr().expect("bound"));
    // An echo server that agrees to the first subprotocol, as some do.
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("works");
        let agree = |_: &Request, mut response: Response| {
            let name = "msgi.v1".parse().expect("works");
            response
                .headers_mut()
                .insert("Sec-WebSocket-Protocol", name);
            Ok(response)
        };
        let mut socket = tungstenite::accept_hdr(stream, agree).expect("works");
        while let Ok(message) = socket.read() {
            let _ = socket.send(message);
        }
    });
    let client = Client::builder()
        .endpoint(&url)
        .reconnect(ReconnectPolicy::disabled())
        .build()
        .expect("works");
    let error = client.connect().await.expect_err("refused");
    assert_eq!(error.code(), ErrorCode::InvalidFrame);
    assert!(error.to_string().contains("plain WebSocket"), "{error}");
    drop(client);
    server.join().expect("works");
}

//! Starting, and what it leaves when it fails.

use std::time::Duration;

use network_system::{CodecKind, ErrorCode, Message, Server, Session};

use crate::support::{Over, Peer, echo, eventually, serve, settle, within};

over_all! {
    session:
        a_server_knows_whether_it_runs,
        a_server_can_be_started_once_at_a_time,
        a_server_that_was_not_started_cannot_be_stopped,
        an_address_that_is_taken_is_bind_failed,
        a_start_that_fails_half_way_leaves_nothing_bound,
        run_returns_when_the_server_was_stopped,
        a_broadcast_needs_a_running_server,
        dropping_every_handle_leaves_the_server_running;
    reliability:
        a_stopped_server_starts_again_and_forgets_nothing_it_counted;
    addresses:
        a_name_is_bound_at_all_its_addresses;
    sockets:
        a_bound_socket_can_be_given_and_is_closed_in_the_end;
}

async fn a_server_knows_whether_it_runs(over: Over) {
    let server = over.server().build().unwrap();
    assert!(!server.is_running());
    assert!(server.urls().is_empty() && server.local_addrs().is_empty());
    assert_eq!(server.stats().started_at, None);
    server.start().await.unwrap();
    assert!(server.is_running());
    assert_eq!(server.urls().len(), 1);
    assert!(server.stats().started_at.is_some());
    server.stop().await.unwrap();
    assert!(!server.is_running());
    // Waiting for what has happened already.
    within("nothing", server.wait_for_stop()).await;
}

async fn a_server_can_be_started_once_at_a_time(over: Over) {
    let net = serve(over, echo).await;
    let error = net.server.start().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::ServerAlreadyRunning);
    let mut peer = net.open_peer().await;
    peer.ping_pong(b"unharmed").await;
    let (one, two) = {
        let server = over.server().build().unwrap();
        let both = tokio::join!(server.start(), server.start());
        server.stop().await.unwrap();
        both
    };
    assert!(one.is_ok() != two.is_ok());
    net.stop().await;
}

async fn a_server_that_was_not_started_cannot_be_stopped(over: Over) {
    let server = over.server().build().unwrap();
    assert_eq!(
        server.stop().await.unwrap_err().code(),
        ErrorCode::ServerNotStarted
    );
    server.start().await.unwrap();
    server.stop().await.unwrap();
    assert_eq!(
        server.stop().await.unwrap_err().code(),
        ErrorCode::ServerNotStarted
    );
}

async fn a_stopped_server_starts_again_and_forgets_nothing_it_counted(over: Over) {
    let net = serve(over, echo).await;
    for round in 1..=3 {
        let url = net.server.urls().remove(0);
        let mut peer = Peer::connect(&url).await;
        peer.data("again").await;
        assert_eq!(peer.expect_data().await, "again");
        let stats = net.server.stats();
        assert_eq!(
            (stats.total_connections, stats.messages_received),
            (round, round)
        );
        net.stop().await;
        assert!(Peer::try_connect(&url).await.is_err());
        net.server.start().await.unwrap();
    }
    net.stop().await;
}

async fn an_address_that_is_taken_is_bind_failed(over: Over) {
    let net = serve(over, echo).await;
    let second = over
        .configure(Server::builder())
        .listen(&net.url)
        .build()
        .unwrap();
    let error = second.start().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::BindFailed);
    assert!(error.to_string().contains(&net.url), "{error}");
    let source = std::error::Error::source(&error).unwrap();
    let source = source.downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
    assert!(!second.is_running());
    let mut peer = net.open_peer().await;
    peer.ping_pong(b"unharmed").await;
    // Free again, it can be had.
    net.stop().await;
    second.start().await.unwrap();
    second.stop().await.unwrap();
}

async fn a_start_that_fails_half_way_leaves_nothing_bound(over: Over) {
    let taken = serve(over, echo).await;
    let others = [Over::Tcp, Over::Mem].map(Over::listen_url);
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut builder = over
        .configure(Server::builder())
        .listen(format!("tcp://127.0.0.1:{port}"));
    for url in &others {
        builder = builder.listen(url);
    }
    #[cfg(unix)]
    let path = crate::support::over::socket_path();
    #[cfg(unix)]
    {
        builder = builder.listen(format!("unix://{}", path.display()));
    }
    let server = builder.listen(&taken.url).build().unwrap();
    assert_eq!(
        server.start().await.unwrap_err().code(),
        ErrorCode::BindFailed
    );
    assert!(!server.is_running());
    assert_eq!(tasks(), before);
    std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    assert!(Peer::try_connect(&others[1]).await.is_err());
    #[cfg(unix)]
    assert!(!path.exists());
    taken.stop().await;
    // Nothing is in the way any more.
    server.start().await.unwrap();
    assert_eq!(server.urls().len(), if cfg!(unix) { 5 } else { 4 });
    for url in server.urls() {
        let mut peer = Peer::connect(&url).await;
        peer.ping_pong(b"served").await;
    }
    server.stop_within(Duration::ZERO).await.unwrap();
    #[cfg(unix)]
    assert!(!path.exists());
}

async fn run_returns_when_the_server_was_stopped(over: Over) {
    let server = echo(over.server()).build().unwrap();
    let running = tokio::spawn({
        let server = server.clone();
        async move { server.run().await }
    });
    eventually("it runs", || server.is_running()).await;
    let waiting = tokio::spawn({
        let server = server.clone();
        async move { server.wait_for_stop().await }
    });
    settle().await;
    assert!(!running.is_finished() && !waiting.is_finished());
    let report = server.stop().await.unwrap();
    assert_eq!(within("run", running).await.unwrap().unwrap(), report);
    assert_eq!(within("wait_for_stop", waiting).await.unwrap(), report);
}

async fn a_broadcast_needs_a_running_server(over: Over) {
    let server = over.server().build().unwrap();
    let error = server.broadcast("anyone?").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::ServerNotStarted);
    assert_eq!(error.into_message().payload(), b"anyone?");
}

async fn dropping_every_handle_leaves_the_server_running(over: Over) {
    let net = serve(over, |builder| {
        builder.on_message(|session: Session, message: Message| async move {
            session.send(message).await.unwrap();
        })
    })
    .await;
    let url = net.url.clone();
    drop(net);
    let mut peer = Peer::connect(&url).await;
    peer.data("still there").await;
    assert_eq!(peer.expect_data().await, "still there");
}

async fn a_bound_socket_can_be_given_and_is_closed_in_the_end(_: Over) {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    let server = echo(Server::builder())
        .listen_socket(socket, CodecKind::Msgi)
        .build()
        .unwrap();
    for _ in 0..2 {
        server.start().await.unwrap();
        assert_eq!(server.local_addrs(), [addr]);
        let mut peer = Peer::connect(&server.urls()[0]).await;
        peer.data("given").await;
        assert_eq!(peer.expect_data().await, "given");
        server.stop_within(Duration::ZERO).await.unwrap();
        assert!(Peer::try_connect(&format!("tcp://{addr}")).await.is_err());
        drop(std::net::TcpListener::bind(addr).unwrap());
    }
}

async fn a_name_is_bound_at_all_its_addresses(over: Over) {
    let server = echo(over.configure(Server::builder()))
        .listen(over.listen_url_at("localhost"))
        .build()
        .unwrap();
    server.start().await.unwrap();
    assert!(!server.urls().is_empty());
    for url in server.urls() {
        let mut peer = Peer::connect(&url).await;
        peer.data("by name").await;
        assert_eq!(peer.expect_data().await, "by name");
    }
    server.stop_within(Duration::ZERO).await.unwrap();
}

#[test]
fn a_configuration_that_cannot_be_used_is_refused_when_it_is_built() {
    for url in [
        "tcp://127.0.0.1",
        "nonsense",
        "mem://",
        "tcp://127.0.0.1:1?codec=none",
    ] {
        let error = Server::builder().listen(url).build().unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidConfiguration, "{url}");
    }
    let error = Server::builder()
        .listen("quic://127.0.0.1:1")
        .build()
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotSupported);
    let limits = crate::support::limits(|limits| limits.message_size = 0);
    let error = Server::builder().limits(limits).build().unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidConfiguration);
    assert!(error.to_string().contains("message_size"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_sockets_file_is_its_owners_alone_and_goes_with_the_server() {
    use std::os::unix::fs::MetadataExt;
    let net = serve(Over::Unix, echo).await;
    let path = net.url.strip_prefix("unix://").unwrap().to_owned();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    net.stop().await;
    assert!(!std::path::Path::new(&path).exists());
}

/// Dropping the runtime ends everything, and says so to whoever waits.
#[test]
fn a_runtime_that_ends_ends_its_sessions() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (session, server) = runtime.block_on(async {
        let net = serve(Over::Mem, echo).await;
        let (_peer, session) = net.pair().await;
        (session, net.server)
    });
    drop(runtime);
    assert!(session.state().is_final());
    assert_eq!(
        session.close_reason().unwrap().code(),
        Some(ErrorCode::ShuttingDown)
    );
    assert_eq!(server.session_count(), 0);
}

//! UDP: what datagrams promise, and what nobody can do with them.

mod addresses;
mod strangers;

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use network_system::{
    Client, ClosedBy, ErrorCode, Message, MulticastGroup, MulticastInterface, ReconnectPolicy,
    Server, ServerBuilder, Session, State, UdpOptions, WorkerThreads,
};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::support::{
    Net, Over, PATIENCE, echo, eventually, kind, log, number_of, numbered, record, record_messages,
    settle, within,
};

const RAW: &str = "udp://127.0.0.1:0";
const MSGI: &str = "udp://127.0.0.1:0?codec=msgi";

fn options(change: impl FnOnce(&mut UdpOptions)) -> UdpOptions {
    let mut options = UdpOptions::default();
    change(&mut options);
    options
}

async fn serve_udp(url: &str, configure: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Net {
    let builder = Server::builder().listen(url).workers(2);
    Net::start(builder, configure).await
}

fn addr(net: &Net) -> SocketAddr {
    net.server.local_addrs()[0]
}

/// A plain socket that talks to one address.
struct Plain(UdpSocket);

impl Plain {
    async fn new(server: SocketAddr) -> Plain {
        Plain::at(Ipv4Addr::LOCALHOST, server).await
    }

    async fn at(ip: Ipv4Addr, server: SocketAddr) -> Plain {
        let socket = UdpSocket::bind((ip, 0)).await.unwrap();
        socket.connect(server).await.unwrap();
        Plain(socket)
    }

    async fn send(&self, datagram: &[u8]) {
        assert_eq!(self.0.send(datagram).await.unwrap(), datagram.len());
    }

    async fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0; 65_536];
        let len = within("a datagram", self.0.recv(&mut buffer))
            .await
            .unwrap();
        buffer.truncate(len);
        buffer
    }

    /// What has arrived by now.
    async fn arrived(&self) -> Vec<Vec<u8>> {
        settle().await;
        let mut all = Vec::new();
        let mut buffer = vec![0; 65_536];
        while let Ok(len) = self.0.try_recv(&mut buffer) {
            all.push(buffer[..len].to_vec());
        }
        all
    }
}

fn frame(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = b"MSGI".to_vec();
    frame.extend_from_slice(&((payload.len() + 10) as u32).to_be_bytes());
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn client(url: &str) -> network_system::ClientBuilder {
    Client::builder()
        .endpoint(url)
        .reconnect(ReconnectPolicy::disabled())
}

#[tokio::test]
async fn a_datagram_is_a_message_and_its_echo_a_datagram() {
    let net = serve_udp(RAW, echo).await;
    assert!(net.url.starts_with("udp://127.0.0.1:") && !net.url.contains('?'));
    let peer = Plain::new(addr(&net)).await;
    for datagram in [&b"one"[..], b"", b"three", &[7; 1_452]] {
        peer.send(datagram).await;
        assert_eq!(peer.receive().await, datagram);
    }
    let sessions = net.server.sessions();
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0].remote_addr(), peer.0.local_addr().ok());
    assert_eq!(sessions[0].local_addr(), Some(addr(&net)));
    assert_eq!(sessions[0].transport().to_string(), "udp");
    net.stop().await;
}

#[tokio::test]
async fn a_client_without_hello_is_open_at_once_and_hears_its_echo() {
    let net = serve_udp(RAW, echo).await;
    let client = client(&net.url).build().unwrap();
    within("connect", client.connect()).await.unwrap();
    let mut messages = client.messages().unwrap();
    for number in 0..100 {
        client.send(numbered(number, 64)).await.unwrap();
        let echo = within("echo", messages.next()).await.unwrap();
        assert_eq!(number_of(echo.payload()), number);
    }
    let error = client.request("no", PATIENCE).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotSupported);
    within("stop", client.stop()).await;
    net.stop().await;
}

#[tokio::test]
async fn sessions_over_datagrams_have_requests_and_an_orderly_end() {
    let (log, mut events) = log();
    let net = serve_udp(MSGI, |builder| {
        record(echo(builder), &log).on_request(|_, message: Message| async move { Ok(message) })
    })
    .await;
    assert!(net.url.ends_with("?codec=msgi"));
    let client = client(&net.url).client_id("sensor").build().unwrap();
    within("connect", client.connect()).await.unwrap();
    let answer = within("answer", client.request("question", PATIENCE)).await;
    assert_eq!(answer.unwrap().payload(), b"question");
    let mut messages = client.messages().unwrap();
    client.send("hello").await.unwrap();
    assert_eq!(
        within("echo", messages.next()).await.unwrap().payload(),
        b"hello"
    );
    assert_eq!(net.server.sessions()[0].client_id(), "sensor");
    let began = Instant::now();
    within("stop", client.stop()).await;
    let reason = events.disconnected().await;
    assert!(reason.is_orderly(), "{reason}");
    assert!(
        began.elapsed() < Duration::from_secs(9),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(net.server.stats().udp.malformed, 0);
    net.stop().await;
}

#[tokio::test]
async fn peers_are_apart_and_each_hears_its_own_in_order() {
    let net = serve_udp(RAW, echo).await;
    let peers = [Plain::new(addr(&net)).await, Plain::new(addr(&net)).await];
    for round in 0..50 {
        for (which, peer) in peers.iter().enumerate() {
            for step in 0..4 {
                let number = which as u64 * 1_000_000 + round * 4 + step;
                peer.send(&numbered(number, 20 + step as usize)).await;
            }
        }
        for (which, peer) in peers.iter().enumerate() {
            for step in 0..4 {
                let number = which as u64 * 1_000_000 + round * 4 + step;
                assert_eq!(number_of(&peer.receive().await), number);
            }
        }
    }
    assert_eq!(net.server.session_count(), 2);
    net.stop().await;
}

#[tokio::test]
async fn a_burst_both_ways_may_lose_but_never_reorders_or_repeats() {
    for url in [RAW, MSGI] {
        let net = serve_udp(url, echo).await;
        let client = client(&net.url).build().unwrap();
        within("connect", client.connect()).await.unwrap();
        let mut messages = client.messages().unwrap();
        for number in 0..1_000 {
            // Different lengths, so that runs of equal ones begin and end.
            let len = 32 + (number as usize / 7 % 3) * 16;
            client.send(numbered(number, len)).await.unwrap();
        }
        let (mut last, mut count) = (None, 0);
        loop {
            // No datagram says that it was the last one.
            let patience = match count {
                0..500 => PATIENCE,
                _ => Duration::from_millis(50),
            };
            let Ok(Some(message)) = tokio::time::timeout(patience, messages.next()).await else {
                break;
            };
            let number = number_of(message.payload());
            assert!(last < Some(number), "{number} after {last:?}");
            (last, count) = (Some(number), count + 1);
        }
        let stats = net.server.stats();
        assert!(count >= 500, "only {count} of 1,000 came back: {stats:?}");
        within("stop", client.stop()).await;
        net.stop().await;
    }
}

#[tokio::test]
async fn a_message_that_fits_no_datagram_is_refused_with_the_limit() {
    let net = serve_udp(MSGI, |builder| {
        echo(builder).udp(options(|udp| udp.datagram_size = 1_000))
    })
    .await;
    let client = client(&net.url).build().unwrap();
    within("connect", client.connect()).await.unwrap();
    // The client's own limit: 1,452 bytes, of which the frame needs 18.
    let session = client.session().unwrap();
    let error = session.send(vec![0; 1_435]).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::MessageTooLarge);
    assert!(error.to_string().contains("1434"), "{error}");
    session.send(vec![0; 1_434]).await.unwrap();
    // And the server's.
    let session = net.server.sessions().remove(0);
    let error = session.send(vec![0; 983]).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::MessageTooLarge);
    assert!(error.to_string().contains("982"), "{error}");
    let mut messages = client.messages().unwrap();
    session.send(vec![0; 982]).await.unwrap();
    assert_eq!(within("it", messages.next()).await.unwrap().len(), 982);
    let report = net.server.broadcast(vec![0; 983]).await.unwrap();
    assert_eq!((report.sent, report.missed), (0, 1));
    within("stop", client.stop()).await;
    net.stop().await;

    let net = serve_udp(RAW, |builder| {
        echo(builder).udp(options(|udp| udp.datagram_size = 65_507))
    })
    .await;
    let client = Client::builder()
        .endpoint(&net.url)
        .udp(options(|udp| udp.datagram_size = 65_507))
        .build()
        .unwrap();
    within("connect", client.connect()).await.unwrap();
    let mut messages = client.messages().unwrap();
    client.send(vec![1; 65_507]).await.unwrap();
    assert_eq!(within("it", messages.next()).await.unwrap().len(), 65_507);
    assert!(client.send(vec![1; 65_508]).await.is_err());
    within("stop", client.stop()).await;
    net.stop().await;
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused() {
    type Change = fn(&mut UdpOptions);
    let changes: [(Change, &str); 5] = [
        (|udp| udp.datagram_size = 65_508, "datagram_size"),
        (|udp| udp.datagram_size = 10, "datagram_size"),
        (|udp| udp.max_sessions = 0, "max_sessions"),
        (
            |udp| udp.multicast = vec![MulticastGroup::new([10, 0, 0, 1])],
            "multicast",
        ),
        (
            |udp| {
                let group = MulticastGroup::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x1234));
                udp.multicast = vec![group.on(MulticastInterface::V4(Ipv4Addr::LOCALHOST))];
            },
            "multicast",
        ),
    ];
    for (change, name) in changes {
        let error = Server::builder().udp(options(change)).build().unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidConfiguration);
        assert!(error.to_string().contains(name), "{error}");
        assert!(client(RAW).udp(options(change)).build().is_err());
    }
}

#[tokio::test]
async fn a_session_that_the_server_ends_is_over_at_once() {
    let (log, mut events) = log();
    let net = serve_udp(RAW, |builder| record(echo(builder), &log)).await;
    let peer = Plain::new(addr(&net)).await;
    peer.send(b"here").await;
    peer.receive().await;
    let session = net.server.sessions().remove(0);
    let began = Instant::now();
    session.disconnect(network_system::CloseReason::new("enough"));
    within("closed", session.closed()).await;
    assert!(
        began.elapsed() < Duration::from_secs(9),
        "{:?}",
        began.elapsed()
    );
    let reason = events.disconnected().await;
    assert_eq!(reason.closed_by(), ClosedBy::Local);
    net.stop().await;
}

#[tokio::test]
async fn stopping_says_goodbye_and_frees_the_port() {
    let net = serve_udp(MSGI, echo).await;
    let client = client(&net.url).build().unwrap();
    within("connect", client.connect()).await.unwrap();
    let raw = Plain::new(addr(&net)).await;
    for _ in 0..2 {
        raw.send(&frame(kind::DATA, b"x")).await;
        raw.receive().await;
    }
    let at = addr(&net);
    let session = client.session().unwrap();
    let server = net.server.clone();
    let stop = tokio::spawn(async move { server.stop_within(Duration::from_millis(500)).await });
    let reason = within("closed", session.closed()).await;
    assert_eq!(reason.closed_by(), ClosedBy::Remote, "{reason}");
    // The plain peer was told, and does not answer.
    assert_eq!(raw.receive().await[8..10], kind::DISCONNECT.to_be_bytes());
    let report = within("stop", stop).await.unwrap().unwrap();
    assert_eq!((report.drained, report.aborted), (1, 1));
    UdpSocket::bind(at).await.expect("the port is free");
    net.server.start().await.unwrap();
    net.stop().await;
    within("client", client.stop()).await;
}

#[tokio::test]
async fn what_an_address_may_not_be_sent_holds_no_stop_up() {
    for url in [RAW, MSGI] {
        let net = serve_udp(url, |builder| {
            builder.on_message(|session: Session, _| async move {
                let _ = session.send([0; 500].as_slice()).await;
            })
        })
        .await;
        let peer = Plain::new(addr(&net)).await;
        peer.send(&frame(kind::DATA, b"x")).await;
        eventually("it was handled", || net.server.stats().messages_sent == 1).await;
        let began = Instant::now();
        within("stop", net.server.stop_within(Duration::from_millis(300)))
            .await
            .unwrap();
        let patience = Duration::from_secs(2);
        assert!(began.elapsed() < patience, "{:?}", began.elapsed());
        assert_eq!(peer.arrived().await.len(), 0);
    }
}

#[tokio::test]
async fn where_nobody_listens_a_session_is_refused() {
    let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = gone.local_addr().unwrap();
    drop(gone);
    let client = client(&format!("udp://{at}?codec=msgi")).build().unwrap();
    let error = within("connect", client.connect()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::ConnectionRefused, "{error}");
}

#[tokio::test]
async fn a_client_without_hello_outlives_its_server() {
    let net = serve_udp(RAW, echo).await;
    let at = addr(&net);
    let client = client(&net.url).build().unwrap();
    within("connect", client.connect()).await.unwrap();
    let mut messages = client.messages().unwrap();
    client.send("first").await.unwrap();
    within("echo", messages.next()).await.unwrap();
    net.stop().await;
    // Nobody is there, as the system says each time.
    for _ in 0..5 {
        client.send("lost").await.unwrap();
        settle().await;
    }
    let server = echo(Server::builder().listen(format!("udp://{at}")))
        .build()
        .unwrap();
    server.start().await.unwrap();
    client.send("second").await.unwrap();
    loop {
        let echo = within("echo", messages.next()).await.unwrap();
        if echo.payload() == b"second" {
            break;
        }
    }
    assert_eq!(client.session().unwrap().state(), State::Connected);
    within("stop", client.stop()).await;
    server.stop().await.unwrap();
}

#[tokio::test]
async fn workers_on_threads_of_their_own_serve_datagrams() {
    for url in [RAW, MSGI] {
        let net = serve_udp(url, |builder| {
            echo(builder).worker_threads(WorkerThreads::Dedicated)
        })
        .await;
        let client = client(&net.url).build().unwrap();
        within("connect", client.connect()).await.unwrap();
        let mut messages = client.messages().unwrap();
        for number in 0..100 {
            client.send(numbered(number, 100)).await.unwrap();
            let echo = within("echo", messages.next()).await.unwrap();
            assert_eq!(number_of(echo.payload()), number);
        }
        within("stop", client.stop()).await;
        net.stop().await;
    }
}

#[tokio::test]
async fn a_session_that_is_not_read_holds_little_and_drops_the_rest() {
    let (log, mut events) = log();
    let net = serve_udp(RAW, |builder| record_messages(builder, &log)).await;
    let peer = Plain::new(addr(&net)).await;
    peer.send(&numbered(0, 1_000)).await;
    events.message().await;
    let session = net.server.sessions().remove(0);
    session.pause_reading();
    for number in 1..=2_000 {
        peer.send(&numbered(number, 1_000)).await;
        if number % 50 == 0 {
            settle().await;
        }
    }
    eventually("the rest is dropped", || {
        net.server.stats().udp.dropped > 1_000
    })
    .await;
    session.resume_reading();
    let mut last = 0;
    loop {
        let message = events.message().await;
        let number = number_of(message.payload());
        assert!(number > last);
        last = number;
        if number >= 200 {
            break;
        }
    }
    net.stop().await;
}

#[tokio::test]
async fn one_broadcast_reaches_streams_and_datagrams() {
    let server = echo(
        Server::builder()
            .listen(RAW)
            .listen(MSGI)
            .listen(Over::Tcp.listen_url()),
    )
    .build()
    .unwrap();
    server.start().await.unwrap();
    let mut streams = HashMap::new();
    for url in server.urls() {
        let client = client(&url).build().unwrap();
        within("connect", client.connect()).await.unwrap();
        let mut messages = client.messages().unwrap();
        // The second one answers the first echo: from then on, the peer is known to be there.
        for _ in 0..2 {
            client.send("open").await.unwrap();
            within("echo", messages.next()).await.unwrap();
        }
        streams.insert(url, (client, messages));
    }
    let report = server.broadcast("to all").await.unwrap();
    assert_eq!((report.sent, report.missed), (3, 0));
    for (url, (client, messages)) in &mut streams {
        let message = within(url, messages.next()).await.unwrap();
        assert_eq!(message.payload(), b"to all");
        client.stop_within(Duration::ZERO).await;
    }
    server.stop_within(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn handlers_of_all_peers_run_beside_one_another() {
    let waiting = Arc::new(tokio::sync::Barrier::new(3));
    let net = serve_udp(RAW, |builder| {
        let waiting = Arc::clone(&waiting);
        builder.on_message(move |session: Session, message: Message| {
            let waiting = Arc::clone(&waiting);
            async move {
                waiting.wait().await;
                let _ = session.send(message).await;
            }
        })
    })
    .await;
    let mut peers = Vec::new();
    for _ in 0..3 {
        let peer = Plain::new(addr(&net)).await;
        peer.send(b"wait for the others").await;
        peers.push(peer);
    }
    for peer in &peers {
        assert_eq!(peer.receive().await, b"wait for the others");
    }
    net.stop().await;
}

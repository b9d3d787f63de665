//! Servers behind proxies, clients through them.

use std::net::SocketAddr;
use std::time::Duration;

use network_system::{
    Client, ErrorCode, Message, Proxy, ProxyProtocol, ReconnectPolicy, Server, ServerBuilder,
    Session,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{self, within};

/// A server that answers each line with the ends of the connection.
async fn start(configure: impl FnOnce(ServerBuilder) -> ServerBuilder) -> (Server, SocketAddr) {
    let builder = Server::builder()
        .listen("tcp://127.0.0.1:0?codec=lines")
        .on_message(async |session: Session, _| {
            let (remote, local) = (session.remote_addr(), session.local_addr());
            let text = format!("{} {}", remote.unwrap(), local.unwrap());
            session.send(Message::text(text)).await.unwrap();
        });
    let server = configure(builder).build().unwrap();
    server.start().await.unwrap();
    let addr = server.local_addrs()[0];
    (server, addr)
}

fn trusting(network: &str) -> ProxyProtocol {
    ProxyProtocol::required().trust(network.parse().unwrap())
}

/// Says `bytes` to the server and gives all that it answers.
async fn answer(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = String::new();
    // A server that refuses may not have read everything.
    let _ = within("the end", stream.read_to_string(&mut answer)).await;
    answer
}

#[tokio::test]
async fn peers_have_the_addresses_that_a_trusted_proxy_tells() {
    let (server, addr) = start(|builder| builder.proxy_protocol(trusting("127.0.0.0/8"))).await;
    let header = b"PROXY TCP4 192.0.2.1 198.51.100.2 1000 2000\r\nhello\n";
    assert_eq!(
        answer(addr, header).await,
        "192.0.2.1:1000 198.51.100.2:2000\n"
    );
    let version_2 =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x02\x03\xe8\x07\xd0hello\n";
    assert_eq!(
        answer(addr, version_2).await,
        "192.0.2.1:1000 198.51.100.2:2000\n"
    );
    let own = answer(addr, b"PROXY UNKNOWN\r\nhello\n").await;
    assert!(
        own.starts_with("127.0.0.1:") && own.ends_with(&format!(" {addr}\n")),
        "{own}"
    );
    server.stop().await.unwrap();
}

#[tokio::test]
async fn peers_that_are_no_proxies_and_proxies_that_say_nothing_are_refused() {
    let (server, addr) = start(|builder| builder.proxy_protocol(trusting("127.0.0.1/32"))).await;
    let headers: [&[u8]; 4] = [
        b"hello\n",
        b"PROXY TCP4 192.0.2.1\r\nhello\n",
        b"PROXY",
        b"",
    ];
    for header in headers {
        assert!(
            !answer(addr, header).await.contains(' '),
            "{}",
            header.escape_ascii()
        );
    }
    // Another one still gets through.
    assert!(
        answer(addr, b"PROXY UNKNOWN\r\nhello\n")
            .await
            .contains("127.0.0.1:")
    );
    server.stop().await.unwrap();

    let (server, addr) = start(|builder| builder.proxy_protocol(trusting("10.0.0.0/8"))).await;
    let header = b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nhello\n";
    assert_eq!(answer(addr, header).await, "");
    server.stop().await.unwrap();
    let nobody = Server::builder().proxy_protocol(ProxyProtocol::required());
    assert_eq!(
        nobody.build().unwrap_err().code(),
        ErrorCode::InvalidConfiguration
    );
}

/// A proxy that connects everybody to one address, and gives the request that it got.
async fn http_proxy(target: SocketAddr) -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let proxy = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        let mut server = TcpStream::connect(target).await.unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let _ = copy_bidirectional(&mut client, &mut server).await;
        String::from_utf8(head).unwrap()
    });
    (addr, proxy)
}

#[tokio::test]
async fn the_limit_of_an_address_behind_a_proxy_holds_from_the_header_on() {
    let builder = Server::builder()
        .listen("tls://127.0.0.1:0")
        .tls(support::tls::server())
        .limits(support::limits(|limits| limits.max_connections_per_ip = 1))
        .proxy_protocol(trusting("127.0.0.0/8"));
    let server = builder.build().unwrap();
    server.start().await.unwrap();
    let addr = server.local_addrs()[0];
    // One stays in its handshake. How the proxy writes the address makes no difference.
    let mut first = TcpStream::connect(addr).await.unwrap();
    let header = b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 1000 2000\r\n";
    first.write_all(header).await.unwrap();
    let mut byte = [0];
    for round in 1..=2 {
        let refused = async {
            loop {
                let mut second = TcpStream::connect(addr).await.unwrap();
                let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n";
                second.write_all(header).await.unwrap();
                // Until the first one's header was read, the second is the only one.
                let read = second.read(&mut byte);
                match tokio::time::timeout(Duration::from_secs(2), read).await {
                    Ok(end) => return assert_eq!(end.unwrap_or(0), 0),
                    Err(_) => drop(second),
                }
            }
        };
        within("a refusal", refused).await;
        assert_eq!(server.stats().refused_connections, round);
    }
    drop(first);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_client_reaches_through_its_proxy_what_only_that_can_resolve() {
    let (server, addr) = start(|builder| builder).await;
    let (proxy_addr, proxy) = http_proxy(addr).await;
    let url = format!("http://alice:secret@{proxy_addr}");
    let client = Client::builder()
        .endpoint("tcp://server.invalid:7600?codec=lines")
        .proxy(Proxy::parse(&url).unwrap())
        .reconnect(ReconnectPolicy::disabled())
        .build()
        .unwrap();
    let mut messages = client.messages().unwrap();
    within("connect", client.connect()).await.unwrap();
    client.send(Message::text("hello")).await.unwrap();
    let message = within("an answer", messages.next()).await.unwrap();
    assert!(message.as_text().unwrap().contains(&addr.to_string()));
    client.stop().await;
    let head = within("the proxy", proxy).await.unwrap();
    assert!(
        head.starts_with("CONNECT server.invalid:7600 HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.contains("Proxy-Authorization: Basic YWxpY2U6c2VjcmV0\r\n"),
        "{head}"
    );
    server.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_excepted_is_connected_to_directly() {
    let (server, addr) = start(|builder| builder).await;
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    for (exceptions, reached) in [("", false), ("127.0.0.0/8", true)] {
        let proxy = Proxy::parse(&format!("socks5://{nobody}")).unwrap();
        let client = Client::builder()
            .endpoint(format!("tcp://{addr}?codec=lines"))
            .proxy(proxy.bypass(exceptions))
            .reconnect(ReconnectPolicy::disabled())
            .build()
            .unwrap();
        let connected = within("connect", client.connect()).await;
        assert_eq!(connected.is_ok(), reached, "{connected:?}");
        if let Err(error) = connected {
            // The host has not refused anything.
            assert_eq!(error.code(), ErrorCode::ConnectionFailed);
            continue;
        }
        client.stop().await;
    }
    server.stop().await.unwrap();
}

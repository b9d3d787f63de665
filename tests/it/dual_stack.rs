//! IPv4 and IPv6 on one server.

use std::net::{IpAddr, SocketAddr, TcpListener};

use network_system::{Server, Session};

use crate::support::{Peer, echo};

/// A machine may have no IPv6. There is nothing to promise then.
fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

/// A port that is free in both families, when nobody is quicker.
fn free_port() -> u16 {
    let both = TcpListener::bind("[::]:0").unwrap();
    both.local_addr().unwrap().port()
}

async fn start(urls: &[String]) -> Server {
    let mut builder = echo(Server::builder());
    for url in urls {
        builder = builder.listen(url);
    }
    let server = builder.build().unwrap();
    server.start().await.unwrap();
    server
}

async fn echoes(url: &str) {
    let mut peer = Peer::connect(url).await;
    peer.data("hello").await;
    assert_eq!(peer.expect_data().await, "hello");
}

fn url(host: &str, port: u16) -> String {
    format!("tcp://{host}:{port}")
}

#[tokio::test]
async fn the_unspecified_ipv6_address_accepts_ipv4_too() {
    if !has_ipv6() {
        return;
    }
    let server = start(&[url("[::]", 0)]).await;
    let [addr] = server.local_addrs()[..] else {
        panic!("one listener");
    };
    assert!(addr.ip().is_unspecified() && addr.is_ipv6());
    for host in ["127.0.0.1", "[::1]"] {
        echoes(&url(host, addr.port())).await;
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_peer_by_ipv4_has_its_ipv4_address_on_an_ipv6_socket() {
    if !has_ipv6() {
        return;
    }
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let server = Server::builder()
        .listen("tcp://[::]:0")
        .on_connect(move |session: Session| {
            let sender = sender.clone();
            async move {
                let ends = (session.remote_addr(), session.local_addr());
                sender.send(ends).await.unwrap();
            }
        })
        .build()
        .unwrap();
    server.start().await.unwrap();
    let port = server.local_addrs()[0].port();
    for host in ["127.0.0.1", "::1"] {
        let ip: IpAddr = host.parse().unwrap();
        let mut peer = Peer::connect(&format!("tcp://{}", SocketAddr::new(ip, port))).await;
        peer.data("hello").await;
        let (remote, local) = receiver.recv().await.unwrap();
        assert_eq!(remote.unwrap().ip(), ip);
        assert_eq!(local.unwrap(), SocketAddr::new(ip, port));
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn both_families_can_have_a_listener_with_the_same_port() {
    if !has_ipv6() {
        return;
    }
    for order in [["[::]", "0.0.0.0"], ["127.0.0.1", "[::]"]] {
        let port = free_port();
        let server = start(&order.map(|host| url(host, port))).await;
        assert_eq!(server.urls(), order.map(|host| url(host, port)));
        for host in ["127.0.0.1", "[::1]"] {
            echoes(&url(host, port)).await;
        }
        server.stop().await.unwrap();
    }
}

#[tokio::test]
async fn both_families_can_ask_for_free_ports() {
    if !has_ipv6() {
        return;
    }
    let server = start(&[url("[::]", 0), url("0.0.0.0", 0)]).await;
    let ports: Vec<_> = server.local_addrs().iter().map(SocketAddr::port).collect();
    assert_eq!(ports.len(), 2);
    for host in ["127.0.0.1", "[::1]"] {
        echoes(&url(host, ports[0])).await;
    }
    echoes(&url("127.0.0.1", ports[1])).await;
    server.stop().await.unwrap();
}

//! Wildcard addresses, multicast groups and broadcast.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use network_system::{ErrorCode, MulticastGroup, MulticastInterface, Server};
use tokio::net::UdpSocket;

use super::{Plain, addr, client, options, serve_udp};
use crate::support::{echo, eventually, number_of, numbered, within};

#[tokio::test]
async fn a_wildcard_listener_answers_from_where_it_was_asked() {
    for url in ["udp://0.0.0.0:0", "udp://[::]:0"] {
        let net = match Server::builder().listen(url).build() {
            Ok(_) => serve_udp(url, echo).await,
            Err(error) => panic!("{error}"),
        };
        let port = addr(&net).port();
        // A connected socket hears only from where it sends to.
        let there = SocketAddr::from(([127, 0, 0, 9], port));
        let peer = Plain::new(there).await;
        for _ in 0..2 {
            peer.send(b"who").await;
            assert_eq!(peer.receive().await, b"who");
        }
        let local = net.server.sessions()[0].local_addr().unwrap();
        assert_eq!(local.ip().to_canonical(), there.ip());
        net.stop().await;
    }
}

/// Whether this machine delivers multicast to itself on loopback at all, found out without the library.
async fn has_multicast(group: Ipv4Addr) -> bool {
    let receiver = UdpSocket::bind("0.0.0.0:0").await.unwrap();
    let port = receiver.local_addr().unwrap().port();
    if receiver
        .join_multicast_v4(group, Ipv4Addr::LOCALHOST)
        .is_err()
    {
        return false;
    }
    let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    if sender.send_to(b"x", (group, port)).await.is_err() {
        return false;
    }
    let mut buffer = [0; 1];
    tokio::time::timeout(Duration::from_secs(1), receiver.recv(&mut buffer))
        .await
        .is_ok()
}

#[tokio::test]
async fn a_group_is_received_from_and_sent_to() {
    let group = Ipv4Addr::new(239, 255, 42, 99);
    let here = MulticastInterface::V4(Ipv4Addr::LOCALHOST);
    let joined = options(|udp| {
        udp.multicast = vec![MulticastGroup::new(group).on(here)];
        udp.multicast_interface = here;
    });
    let net = serve_udp("udp://0.0.0.0:0", |builder| {
        echo(builder).udp(joined.clone())
    })
    .await;
    if !has_multicast(group).await {
        // The listener has joined or the start would have failed; nothing more can be shown here.
        net.stop().await;
        return;
    }
    let client = client(&format!("udp://{group}:{}", addr(&net).port()))
        .udp(joined)
        .build()
        .unwrap();
    within("connect", client.connect()).await.unwrap();
    let mut messages = client.messages().unwrap();
    for number in 0..3 {
        client.send(numbered(number, 100)).await.unwrap();
        // The answer comes from the member's own address.
        let echo = within("echo", messages.next()).await.unwrap();
        assert_eq!(number_of(echo.payload()), number);
    }
    within("stop", client.stop()).await;
    net.stop().await;
}

#[tokio::test]
async fn broadcast_addresses_need_the_option() {
    let net = serve_udp("udp://0.0.0.0:0", echo).await;
    let url = format!("udp://127.255.255.255:{}", addr(&net).port());
    let without = client(&url).build().unwrap();
    let error = within("connect", without.connect()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::ConnectionFailed);
    let with = client(&url)
        .udp(options(|udp| udp.broadcast = true))
        .build()
        .unwrap();
    within("connect", with.connect()).await.unwrap();
    with.send("to all").await.unwrap();
    eventually("it arrives", || net.server.stats().messages_received == 1).await;
    within("stop", with.stop()).await;
    net.stop().await;
}

#[tokio::test]
async fn whoever_asks_a_network_is_answered_from_an_address_of_this_side() {
    let net = serve_udp("udp://0.0.0.0:0", echo).await;
    let asks = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    asks.set_broadcast(true).unwrap();
    let all = SocketAddr::from(([127, 255, 255, 255], addr(&net).port()));
    asks.send_to(b"who is there", all).await.unwrap();
    let mut buffer = [0; 64];
    let (len, from) = within("an answer", asks.recv_from(&mut buffer))
        .await
        .unwrap();
    assert_eq!(&buffer[..len], b"who is there");
    assert_eq!(from.port(), addr(&net).port());
    assert_eq!(net.server.stats().udp.unsent, 0);
    net.stop().await;
}

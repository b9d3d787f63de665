//! What a server says about its listeners, its groups, and what happened lately.

use network_system::metrics::{EventLevel, PerformanceMonitor};
use network_system::{Client, CloseReason, ErrorCode, Server};

use crate::support::{self, Over, eventually, group, limits, within};

#[tokio::test]
async fn a_listener_counts_what_it_lets_in_and_what_it_refuses() {
    let net = support::serve(Over::Tcp, |builder| {
        builder.limits(limits(|limits| limits.max_connections = 1))
    })
    .await;
    let listeners = net.server.listeners();
    assert_eq!(listeners.len(), 1);
    assert_eq!(listeners[0].url, net.url);
    assert_eq!(listeners[0].addr, Some(net.server.local_addrs()[0]));
    let _first = net.open_peer().await;
    let _second = net.peer().await;
    eventually("one is refused", || net.server.listeners()[0].refused == 1).await;
    let listener = &net.server.listeners()[0];
    assert_eq!((listener.accepted, listener.is_accepting), (1, true));
    net.stop().await;
    assert!(net.server.listeners().is_empty());
}

#[tokio::test]
async fn a_server_says_that_it_drains_and_that_its_listeners_are_closed() {
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let waits = std::sync::Arc::clone(&gate);
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .name("chat")
        .on_disconnect(move |_, _| {
            let gate = std::sync::Arc::clone(&waits);
            async move { gate.acquire().await.unwrap().forget() }
        })
        .build()
        .unwrap();
    server.start().await.unwrap();
    assert_eq!((server.name(), server.is_draining()), ("chat", false));
    let client = Client::builder()
        .endpoint(&server.urls()[0])
        .build()
        .unwrap();
    client.connect().await.unwrap();
    let stopping = tokio::spawn({
        let server = server.clone();
        async move { server.stop_within(std::time::Duration::from_secs(60)).await }
    });
    eventually("it drains", || server.is_draining()).await;
    eventually("nothing is accepted", || {
        server
            .listeners()
            .iter()
            .all(|listener| !listener.is_accepting)
    })
    .await;
    gate.add_permits(1);
    within("the stop", stopping).await.unwrap().unwrap();
    assert!(!server.is_draining());
    client.stop().await;
}

#[tokio::test]
async fn a_group_counts_its_members_and_what_was_sent_to_it() {
    let net = support::serve(Over::Mem, |builder| builder).await;
    let (_one, first) = net.pair().await;
    let (_two, second) = net.pair().await;
    let lobby = group("lobby");
    first.join(&lobby).unwrap();
    second.join(&lobby).unwrap();
    first.join(&group("other")).unwrap();
    net.server.broadcast_to(&lobby, "hello", &[]).await.unwrap();
    net.server
        .broadcast_to(&lobby, "you", &[first.id()])
        .await
        .unwrap();
    let mut groups = net.server.group_stats();
    groups.sort_by_key(|group| group.members);
    assert_eq!(
        (
            groups[0].name.as_str(),
            groups[0].members,
            groups[0].messages
        ),
        ("other", 1, 0)
    );
    assert_eq!((groups[1].name.as_str(), groups[1].members), ("lobby", 2));
    assert_eq!((groups[1].messages, groups[1].bytes), (2, 8));
    first.leave(&lobby);
    second.leave(&lobby);
    assert_eq!(net.server.group_stats().len(), 1);
    net.stop().await;
}

#[tokio::test]
async fn a_monitor_hears_what_happens_to_a_server_and_its_sessions() {
    let monitor = PerformanceMonitor::new();
    let net = support::serve_watched(Over::Tcp, &monitor, |builder| builder.name("chat")).await;
    let (peer, session) = net.pair().await;
    session.disconnect(CloseReason::with_code(ErrorCode::AccessDenied, "go\naway"));
    drop(peer);
    within("the close", session.closed()).await;
    net.stop().await;
    let recent = monitor.events(0);
    let kinds: Vec<_> = recent.events.iter().map(|event| event.kind).collect();
    let expected = [
        "listener_bound",
        "session_opened",
        "session_closed",
        "drain_began",
        "listener_closed",
        "server_stopped",
    ];
    assert_eq!(kinds, expected);
    assert_eq!(recent.next, kinds.len() as u64);
    let closed = &recent.events[2];
    assert_eq!(
        (closed.session, closed.code),
        (Some(session.id()), Some(ErrorCode::AccessDenied))
    );
    assert_eq!((&*closed.member, closed.level), ("chat", EventLevel::Info));
    assert_eq!(closed.text, "by local: go away");
    assert_eq!(monitor.events(4).events[0].kind, "listener_closed");
}

//! Decisions that are late, lost, or many.

use super::*;

#[tokio::test]
async fn a_refresh_whose_connection_breaks_is_not_waited_for() {
    let gate = Arc::new(Semaphore::new(0));
    let net = serve(Over::Tcp, |builder| {
        doorkeeper(echo(builder), &gate).reliable(Reliability::default())
    })
    .await;
    let target = net.url.strip_prefix("tcp://").unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let cut = Arc::new(Notify::new());
    let cuts = Arc::clone(&cut);
    let way = tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = TcpStream::connect(&target).await.unwrap();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                () = cuts.notified() => {}
            }
        }
    });
    let client = Client::builder()
        .endpoint(url)
        .token("anna for 60")
        .reliable(Reliability::default())
        .reconnect(ReconnectPolicy::new().base(Duration::from_millis(1)))
        .build()
        .unwrap();
    within("connected", client.connect()).await.unwrap();
    let session = client.session().unwrap();
    let refreshing = {
        let client = client.clone();
        tokio::spawn(async move { client.refresh_token("pending").await })
    };
    // What comes back behind the refresh shows that the server has it.
    let mut messages = client.messages().unwrap();
    tokio::task::yield_now().await;
    client.send("echo").await.unwrap();
    within("echo", messages.next()).await.unwrap();
    cut.notify_one();
    let error = within("given up", refreshing).await.unwrap().unwrap_err();
    assert_eq!(error.code(), ErrorCode::ConnectionClosed);
    // The new token is used, and judged, when the session is resumed.
    gate.add_permits(1);
    within("resumed", async {
        while session.stats().resumes == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(net.server.sessions().remove(0).expires_at(), None);
    way.abort();
    client.stop().await;
    net.stop().await;
}

#[tokio::test]
async fn the_fields_of_the_upgrade_reach_the_authenticator() {
    let net = serve(Over::Ws, |builder| {
        echo(builder).authenticate(|credentials: Credentials| async move {
            assert_eq!(credentials.transport, Transport::WebSocket);
            let shown = format!("{credentials:?}");
            assert!(!shown.contains("secret"), "{shown}");
            assert!(shown.contains("/door"), "{shown}");
            let upgrade = credentials.upgrade.as_ref().unwrap();
            assert_eq!(upgrade.query(), Some("ticket=secret"));
            match credentials.header("authorization") {
                Some("Bearer secret") => Ok("anna"),
                _ => Err(RequestError::failed("no")),
            }
        })
    })
    .await;
    let url = format!("{}/door?ticket=secret", net.url.trim_end_matches('/'));
    let websocket = WebSocketClient::new().header("Authorization", "Bearer secret");
    let client = Client::builder()
        .endpoint(url)
        .websocket(websocket)
        .build()
        .unwrap();
    within("connected", client.connect()).await.unwrap();
    let session = net.server.sessions().remove(0);
    assert_eq!(session.identity().as_deref(), Some("anna"));
    client.stop().await;
    net.stop().await;
}

#[tokio::test]
async fn data_that_was_granted_is_the_sessions() {
    let net = serve(Over::Mem, |builder| {
        builder.authenticate(|credentials: Credentials| async move {
            let tenant = credentials.token.unwrap_or_default();
            Ok(Authentication::new("anna").data("tenant", tenant))
        })
    })
    .await;
    let (mut peer, session, _) = open(&net, "north").await;
    assert_eq!(session.data("tenant").as_deref(), Some("north"));
    peer.control(refresh(1, "south")).await;
    peer.expect(kind::CONTROL).await;
    assert_eq!(session.data("tenant").as_deref(), Some("south"));
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn sessions_end_when_the_identity_does_and_not_before() {
    let gate = Arc::new(Semaphore::new(0));
    let (log, mut events) = log();
    let net = serve(Over::Mem, |builder| {
        doorkeeper(record(builder, &log), &gate)
            .timeouts(timeouts(|timeouts| timeouts.heartbeat = Duration::ZERO))
    })
    .await;
    let began = Instant::now();
    let (mut peer, session, welcome) = open(&net, "anna for 20").await;
    assert_eq!(welcome["expires_ms"], 20_000);
    tokio::time::sleep(Duration::from_secs(15)).await;
    peer.control(refresh(1, "anna for 20")).await;
    let answer = peer.receive().await.unwrap().json();
    assert_eq!(answer["expires_ms"], 20_000);
    assert_eq!(session.expires_at(), Some(began + Duration::from_secs(35)));
    assert_eq!(peer.expect_error_and_end().await.0, -623);
    let lasted = began.elapsed();
    let expected = Duration::from_secs(35);
    assert!(
        lasted >= expected && lasted <= expected + Duration::from_secs(1),
        "{lasted:?}"
    );
    let reason = events.disconnected().await;
    assert_eq!(reason.text(), "the identity has expired");
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn decisions_that_never_come_are_given_up() {
    let gate = Arc::new(Semaphore::new(0));
    let net = serve(Over::Mem, |builder| {
        doorkeeper(echo(builder), &gate)
            .authorize_join(|_, _| std::future::pending())
            .timeouts(timeouts(|timeouts| {
                timeouts.heartbeat = Duration::ZERO;
                timeouts.idle = Duration::ZERO;
                timeouts.first_byte = Duration::from_secs(5);
                timeouts.request = Duration::from_secs(7);
            }))
    })
    .await;
    let (mut peer, _session, _) = open(&net, "anna").await;
    let began = Instant::now();
    peer.control(refresh(1, "pending")).await;
    peer.control(change("join", "a")).await;
    peer.control(change("join", "b")).await;
    for (op, seconds) in [("refresh_refused", 5), ("refused", 7), ("refused", 14)] {
        let answer = peer.receive().await.unwrap().json();
        assert_eq!((&answer["op"], &answer["code"]), (&json!(op), &json!(-645)));
        let (took, expected) = (began.elapsed(), Duration::from_secs(seconds));
        assert!(
            took >= expected && took <= expected + Duration::from_secs(2),
            "{took:?}"
        );
    }
    peer.data("on").await;
    assert_eq!(peer.expect_data().await, "on");
    net.stop().await;
}

#[tokio::test]
async fn ten_thousand_joins_and_refreshes_leave_others_alone() {
    let (log, mut events) = log();
    let net = serve(Over::Tcp, |builder| {
        record(echo(builder), &log)
            .authenticate(|credentials: Credentials| async move {
                match credentials.token.as_deref() {
                    Some("anna") => Ok("anna"),
                    _ => Err(RequestError::failed("no")),
                }
            })
            .authorize_join(|_, _| std::future::pending())
    })
    .await;
    let (mut peer, session, _) = open(&net, "anna").await;
    let (mut other, ..) = open(&net, "anna").await;
    let frames = (0..10_000).map(|number| {
        let control = match number % 2 {
            0 => change("join", &format!("room {number}")),
            _ => refresh(number, "a guess"),
        };
        Frame::new(kind::CONTROL, control)
    });
    peer.send_together(frames.collect()).await;
    let mut refused = 0;
    // All but the joins that wait are answered.
    while refused < 10_000 - 64 {
        let answer = peer.receive().await.unwrap().json();
        let op = answer["op"].as_str().unwrap();
        assert!(op == "refused" || op == "refresh_refused", "{answer}");
        refused += 1;
    }
    other.data("unaffected").await;
    assert_eq!(other.expect_data().await, "unaffected");
    assert!(session.is_connected() && session.groups().is_empty());
    assert!(net.monitor.memory().queued_bytes < 1024 * 1024);
    while let Some(event) = events.try_next() {
        assert!(matches!(event, Event::Connected(_)), "{event:?}");
    }
    net.stop().await;
}

#[tokio::test]
async fn messages_before_and_after_a_refresh_are_handled_by_the_same_session() {
    let (net, _) = guarded(Over::Tcp).await;
    let client = Client::builder()
        .endpoint(&net.url)
        .token("anna for 60")
        .build()
        .unwrap();
    within("connected", client.connect()).await.unwrap();
    let mut messages = client.messages().unwrap();
    for number in 0..100 {
        client.send(format!("{number}")).await.unwrap();
        if number % 10 == 5 {
            within("refreshed", client.refresh_token("anna for 60"))
                .await
                .unwrap();
        }
    }
    for number in 0..100 {
        let message: Message = within("echo", messages.next()).await.unwrap();
        assert_eq!(message.as_text(), Some(&*number.to_string()));
    }
    assert_eq!(net.server.stats().total_connections, 1);
    client.stop().await;
    net.stop().await;
}

//! Clients with a source of tokens.

use super::*;

/// A client whose tokens last 20 s each, and how often it asked for one.
fn sourced(
    url: &str,
    fails: impl Fn(usize) -> bool + Send + Sync + 'static,
) -> (Client, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let client = Over::Mem
        .client(url)
        .token_source(move || {
            let number = count.fetch_add(1, Ordering::Relaxed);
            let fails = fails(number);
            async move {
                match fails {
                    true => Err(RequestError::failed("the issuer is away")),
                    false => Ok("anna for 20".to_owned()),
                }
            }
        })
        .build()
        .unwrap();
    (client, asked)
}

#[tokio::test(start_paused = true)]
async fn a_client_with_a_source_of_tokens_stays_as_long_as_it_gets_any() {
    let (net, _) = guarded(Over::Mem).await;
    let (client, asked) = sourced(&net.url, |number| number == 2);
    within("connected", client.connect()).await.unwrap();
    let session = client.session().unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    tokio::time::sleep(Duration::from_secs(120)).await;
    // The same session, refreshed each 16 s, once after a failure.
    assert_eq!(client.session(), Some(session));
    let asked = asked.load(Ordering::Relaxed);
    assert!((7..=11).contains(&asked), "{asked}");
    assert_eq!(client.stats().connections, 1);
    client.stop().await;
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_expired_is_made_again_with_another_token() {
    let (net, _) = guarded(Over::Mem).await;
    // All fail while the first session lasts.
    let (client, asked) = sourced(&net.url, |number| (1..20).contains(&number));
    within("connected", client.connect()).await.unwrap();
    let session = client.session().unwrap();
    let reason = within("expired", session.closed()).await;
    assert_eq!(reason.code(), Some(ErrorCode::AuthenticationFailed));
    within("back", async {
        while client.state() != ClientState::Connected {
            client.state_changed(client.state()).await;
        }
    })
    .await;
    assert!(asked.load(Ordering::Relaxed) >= 20);
    assert_ne!(client.session(), Some(session));
    client.stop().await;
    net.stop().await;
}

#[tokio::test]
async fn a_source_that_panics_fails_the_attempt() {
    let (net, _) = guarded(Over::Mem).await;
    let client = Over::Mem
        .client(&net.url)
        .token_source(|| async { panic!("on purpose") })
        .build()
        .unwrap();
    let error = within("failed", client.connect()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RequestFailed);
    net.stop().await;
}

#[tokio::test]
async fn a_token_that_is_set_or_not_refused_is_used_by_the_next_connection() {
    let (net, _) = guarded(Over::Tcp).await;
    let client = Client::builder()
        .endpoint(&net.url)
        .token("anna")
        .build()
        .unwrap();
    within("connected", client.connect()).await.unwrap();
    within("refreshed", client.refresh_token("anna for 600"))
        .await
        .unwrap();
    let _ = within("refused", client.refresh_token("eve")).await;
    let before = client.session().unwrap();
    before.abort();
    within("again", async {
        while client.session().is_none_or(|session| session == before) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let session = client.session().unwrap();
    assert!(session.expires_at().is_some(), "the refreshed token");
    client.stop().await;
    client.set_token("ben").unwrap();
    within("connected", client.connect()).await.unwrap();
    eventually("ben", || {
        let sessions = net.server.sessions();
        sessions
            .iter()
            .any(|session| session.identity().as_deref() == Some("ben"))
    })
    .await;
    client.stop().await;
    net.stop().await;
}

/// A server that answers hello and nothing else.
async fn old_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let welcome = Frame::new(kind::CONTROL, r#"{"op":"welcome","version":1}"#);
        let mut buffer = [0; 4096];
        let mut greeted = false;
        while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {
            if !std::mem::replace(&mut greeted, true) {
                stream.write_all(&welcome.encode()).await.unwrap();
            }
        }
    });
    url
}

#[tokio::test]
async fn a_server_that_knows_no_refresh_is_not_supported() {
    let client = Client::builder()
        .endpoint(old_server().await)
        .timeouts(timeouts(|timeouts| {
            timeouts.request = Duration::from_millis(50);
            timeouts.drain = Duration::from_millis(50);
        }))
        .build()
        .unwrap();
    within("connected", client.connect()).await.unwrap();
    let error = within("no answer", client.refresh_token("anna")).await;
    assert_eq!(error.unwrap_err().code(), ErrorCode::NotSupported);
    assert!(client.is_connected());
    client.stop().await;
}

//! What the operator can do.

use network_system::{Client, Limits, Message, QueuePolicy, Session};

use crate::support::*;

/// The id of the session of the only client.
async fn only(site: &Site) -> u64 {
    until("one session is connected", || {
        site.server.session_count() == 1
    })
    .await;
    site.json("/api/v1/sessions").await["sessions"][0]["id"]
        .as_u64()
        .unwrap()
}

async fn next(client: &Client) -> Message {
    let mut messages = client.messages().unwrap();
    tokio::time::timeout(PATIENCE, messages.next())
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn a_session_is_disconnected_with_the_reason_that_the_operator_gives() {
    let site = site().await;
    let client = site.client("c").await;
    let id = only(&site).await;
    let path = format!("/api/v1/sessions/{id}/disconnect");
    let reply = site
        .post(&path, Some(TOKEN), r#"{"reason":"maintenance \u00e4"}"#)
        .await
        .is(202);
    assert_eq!(reply.json(), serde_json::json!({}));
    let session = client.session();
    if let Some(session) = session {
        assert_eq!(session.closed().await.text(), "maintenance \u{e4}");
    }
    until("the session has ended", || site.server.session_count() == 0).await;
    let gone = site.post(&path, Some(TOKEN), "{}").await.is(404);
    assert_eq!(gone.code(), "session_not_found");
    client.stop().await;
}

#[tokio::test]
async fn a_message_reaches_the_peer_as_text_or_bytes() {
    let site = site().await;
    let client = site.client("c").await;
    let path = format!("/api/v1/sessions/{}/messages", only(&site).await);
    let reply = site
        .post(&path, Some(TOKEN), r#"{"text":"h\u00e9llo"}"#)
        .await
        .is(202);
    assert_eq!(reply.json(), serde_json::json!({}));
    assert_eq!(next(&client).await.payload(), "h\u{e9}llo".as_bytes());
    site.post(&path, Some(TOKEN), r#"{"base64":"AP8B"}"#)
        .await
        .is(202);
    assert_eq!(next(&client).await.payload(), [0, 255, 1]);
    site.post(&path, Some(TOKEN), r#"{"text":""}"#)
        .await
        .is(202);
    assert!(next(&client).await.is_empty());
    client.stop().await;
}

#[tokio::test]
async fn whoever_has_no_token_changes_nothing() {
    let site = site().await;
    let client = site.client("c").await;
    let id = only(&site).await;
    for action in ["disconnect", "messages"] {
        let path = format!("/api/v1/sessions/{id}/{action}");
        for token in [None, Some("wrong"), Some("")] {
            let reply = site.post(&path, token, r#"{"text":"x"}"#).await.is(401);
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        }
    }
    assert!(client.is_connected());
    assert_eq!(client.session().unwrap().stats().messages_received, 0);
    client.stop().await;
}

#[tokio::test]
async fn bodies_that_are_not_what_they_should_be_are_refused() {
    let site = site().await;
    let client = site.client("c").await;
    let id = only(&site).await;
    let messages = format!("/api/v1/sessions/{id}/messages");
    let disconnect = format!("/api/v1/sessions/{id}/disconnect");
    for body in [
        "",
        "{",
        "[]",
        "null",
        "\"text\"",
        "{}",
        r#"{"text":7}"#,
        r#"{"text":"a","base64":"AA=="}"#,
        r#"{"base64":"not base64!"}"#,
        r#"{"text":"a","colour":"red"}"#,
        r#"{"text":"a"} {"text":"b"}"#,
    ] {
        site.post(&messages, Some(TOKEN), body).await.is(400);
    }
    for body in [
        r#"{"reason":7}"#.to_owned(),
        r#"{"text":"a"}"#.into(),
        format!("{{\"reason\":\"{}\"}}", "r".repeat(257)),
    ] {
        site.post(&disconnect, Some(TOKEN), &body).await.is(400);
    }
    let deep = "[".repeat(60_000);
    site.post(&messages, Some(TOKEN), &deep).await.is(400);
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    for kind in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
    ] {
        let fields = format!("{token}{kind}");
        site.ask("POST", &messages, &fields, r#"{"text":"x"}"#)
            .await
            .is(415);
    }
    let kind = format!("{token}Content-Type: Application/JSON; charset=utf-8\r\n");
    site.ask("POST", &messages, &kind, r#"{"text":"x"}"#)
        .await
        .is(202);
    assert_eq!(next(&client).await.payload(), b"x");
    for id in ["7777", "0", "x", "-1", "99999999999999999999"] {
        let path = format!("/api/v1/sessions/{id}/messages");
        let reply = site
            .post(&path, Some(TOKEN), r#"{"text":"x"}"#)
            .await
            .is(404);
        assert_eq!(reply.code(), "session_not_found");
    }
    client.stop().await;
}

#[tokio::test]
async fn bodies_over_64_kib_are_413_whether_they_say_so_or_not() {
    let site = site().await;
    let path = "/api/v1/sessions/1/messages";
    let fits = format!("{{\"text\":\"{}\"}}", "x".repeat(64 * 1024 - 11));
    assert_eq!(fits.len(), 64 * 1024);
    site.post(path, Some(TOKEN), &fits).await.is(404);
    site.post(path, Some(TOKEN), &format!("{fits} "))
        .await
        .is(413);
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n",
        site.addr()
    );
    // Nothing of it comes, and nothing is waited for.
    let declared = format!("{head}Content-Length: 1099511627776\r\n\r\n");
    raw(site.addr(), declared.as_bytes()).await.is(413);
    let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..65 {
        chunked.extend_from_slice(b"400\r\n");
        chunked.extend_from_slice(&[b' '; 1024]);
        chunked.extend_from_slice(b"\r\n");
    }
    raw(site.addr(), &chunked).await.is(413);
}

#[tokio::test]
async fn a_message_for_a_full_queue_is_409_at_once() {
    let site = site_with(
        |server| {
            let mut limits = Limits::default();
            limits.outbox_bytes = 1024;
            limits.outbox_messages = 4;
            limits.when_full = QueuePolicy::Wait;
            server.limits(limits)
        },
        |dashboard| dashboard.token(TOKEN),
    )
    .await;
    let client = site.client("slow").await;
    let id = only(&site).await;
    client.session().unwrap().pause_reading();
    let path = format!("/api/v1/sessions/{id}/messages");
    let body = format!("{{\"text\":\"{}\"}}", "x".repeat(60_000));
    let refused = loop {
        let reply = site.post(&path, Some(TOKEN), &body).await;
        if reply.status != 202 {
            break reply.is(409);
        }
    };
    assert_eq!(refused.code(), "queue_full");
    assert_eq!(refused.message(), "the outbox is full");
    let session = site.json(&format!("/api/v1/sessions/{id}")).await;
    assert!(session["queued_bytes"].as_u64().unwrap() > 0);
    client.session().unwrap().resume_reading();
    client.stop().await;
}

#[tokio::test]
async fn a_session_that_is_closing_is_none_any_more() {
    let (entered, mut is_entered) = tokio::sync::mpsc::channel::<()>(1);
    let (leave, left) = tokio::sync::watch::channel(false);
    let site = site_with(
        |server| {
            server.on_message(move |_: Session, _: Message| {
                let (entered, mut left) = (entered.clone(), left.clone());
                async move {
                    let _ = entered.send(()).await;
                    let _ = left.wait_for(|left| *left).await;
                }
            })
        },
        |dashboard| dashboard.token(TOKEN),
    )
    .await;
    let client = site.client("c").await;
    let id = only(&site).await;
    client.send("work").await.unwrap();
    is_entered.recv().await.unwrap();
    let session = site.server.sessions().remove(0);
    site.post(
        &format!("/api/v1/sessions/{id}/disconnect"),
        Some(TOKEN),
        "{}",
    )
    .await
    .is(202);
    let path = format!("/api/v1/sessions/{id}/messages");
    let reply = site
        .post(&path, Some(TOKEN), r#"{"text":"late"}"#)
        .await
        .is(404);
    assert_eq!(reply.code(), "session_not_found");
    leave.send(true).unwrap();
    assert_eq!(session.closed().await.text(), "disconnected by an operator");
    client.stop().await;
}

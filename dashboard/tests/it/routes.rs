//! What there is, and how it is asked for.

use crate::support::*;

const READABLE: [&str; 9] = [
    "/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/api/v1/status",
    "/api/v1/metrics",
    "/api/v1/history",
    "/api/v1/sessions",
    "/api/v1/groups",
];

const SECURITY: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

#[tokio::test]
async fn everything_can_be_read_and_by_head_too() {
    let site = site().await;
    for path in READABLE {
        let reply = site.get(path).await.is(200);
        assert!(!reply.body.is_empty() || path == "/metrics", "{path}");
        let head = site.ask("HEAD", path, "", "").await.is(200);
        assert!(head.body.is_empty(), "{path}");
        assert_eq!(
            head.header("content-type"),
            reply.header("content-type"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn every_answer_forbids_what_the_page_does_not_need() {
    let site = site().await;
    let mut replies = vec![
        site.get("/nothing").await.is(404),
        site.get("/api/v1/sessions/7").await.is(404),
        site.get("/api/v1/sessions?limit=0").await.is(400),
        site.post("/api/v1/status", Some(TOKEN), "{}").await.is(405),
        site.post("/api/v1/sessions/7/messages", None, "{}")
            .await
            .is(401),
        site.ask("GET", "/", "Origin: http://evil.example\r\n", "")
            .await
            .is(403),
        site.ask_as("GET", "/", "Host: evil.example\r\n", "")
            .await
            .is(421),
        site.ask_as("GET", "/", "", "").await.is(400),
    ];
    for path in READABLE {
        replies.push(site.get(path).await);
    }
    for reply in replies {
        for (name, value) in SECURITY {
            assert_eq!(reply.header(name), Some(value), "{}", reply.head);
        }
        let head = reply.head.to_lowercase();
        assert!(!head.contains("access-control"), "{head}");
        assert!(reply.header("cache-control").is_some(), "{head}");
    }
}

#[tokio::test]
async fn unknown_paths_are_404_and_none_leads_out() {
    let site = site().await;
    for path in [
        "/nothing",
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v1/status/",
        "/api/v2/status",
        "/api/v1/sessions/7/close",
        "/assets/",
        "/assets/none.js",
        "/assets/index.html",
        "/assets/../Cargo.toml",
        "/assets/..%2f..%2fCargo.toml",
        "/assets/%2e%2e/index.html",
        "/../../etc/passwd",
        "/..%5c..%5cwindows",
        "//etc/passwd",
        "/%00",
    ] {
        let reply = site.get(path).await.is(404);
        assert!(reply.message().starts_with("there is no"), "{}", reply.body);
    }
    site.get("/assets/%ff").await.is(400);
}

#[tokio::test]
async fn wrong_methods_are_405_and_say_which_are_right() {
    let site = site().await;
    for (method, path, allowed) in [
        ("POST", "/", "GET,HEAD"),
        ("PUT", "/api/v1/status", "GET,HEAD"),
        ("DELETE", "/api/v1/sessions/7", "GET,HEAD"),
        ("OPTIONS", "/api/v1/sessions", "GET,HEAD"),
        ("TRACE", "/metrics", "GET,HEAD"),
        ("GET", "/api/v1/sessions/7/disconnect", "POST"),
        ("BREW", "/api/v1/sessions/7/messages", "POST"),
    ] {
        let reply = site.ask(method, path, "", "").await.is(405);
        assert_eq!(reply.header("allow"), Some(allowed), "{method} {path}");
        assert_eq!(
            reply.message(),
            format!("{method} is not possible here, see Allow")
        );
    }
}

#[tokio::test]
async fn unknown_parameters_and_bad_values_say_what_is_allowed() {
    let site = site().await;
    for (path, expected) in [
        (
            "/api/v1/sessions?colour=red",
            "there is no parameter colour; there are sort, order, filter, transport, state, group, offset, limit",
        ),
        (
            "/api/v1/status?x=1",
            "there is no parameter x: nothing is asked here",
        ),
        (
            "/api/v1/sessions?limit=1001",
            "limit has to be a whole number from 1 to 1000, not \"1001\"",
        ),
        (
            "/api/v1/sessions?limit=0",
            "limit has to be a whole number from 1 to 1000, not \"0\"",
        ),
        (
            "/api/v1/sessions?offset=-1",
            "offset has to be a whole number from 0 to 4294967295, not \"-1\"",
        ),
        (
            "/api/v1/sessions?order=up",
            "order has to be one of asc, desc, not \"up\"",
        ),
        (
            "/api/v1/sessions?transport=quic",
            "transport has to be one of tcp, tls, unix, ws, wss, udp, mem, not \"quic\"",
        ),
        (
            "/api/v1/history?since=x",
            "since has to be a whole number from 0 to 18446744073709551615, not \"x\"",
        ),
        (
            "/api/v1/events?since=1&since=2",
            "since stands more than once",
        ),
    ] {
        assert_eq!(site.get(path).await.is(400).message(), expected);
    }
    let sort = site.get("/api/v1/sessions?sort=colour").await.is(400);
    assert!(
        sort.message()
            .starts_with("sort has to be one of id, client_id,")
    );
    let group = format!("/api/v1/sessions?group={}", "g".repeat(200));
    assert!(
        site.get(&group)
            .await
            .is(400)
            .message()
            .contains("too long")
    );
    let long = format!("/api/v1/sessions?limit={}", "9".repeat(5_000));
    assert!(site.get(&long).await.is(400).message().len() < 200);
}

#[tokio::test]
async fn the_page_and_its_files_are_sent_once() {
    let site = site().await;
    let page = site.get("/").await.is(200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(page.header("cache-control"), Some("no-cache"));
    let tag = page.header("etag").unwrap();
    for given in [
        tag.to_owned(),
        format!("W/{tag}"),
        format!("\"a\", {tag}"),
        "*".into(),
    ] {
        let field = format!("If-None-Match: {given}\r\n");
        let reply = site.ask("GET", "/", &field, "").await.is(304);
        assert!(reply.body.is_empty());
    }
    site.ask("GET", "/", "If-None-Match: \"other\"\r\n", "")
        .await
        .is(200);
}

#[tokio::test]
async fn http_1_0_and_several_requests_on_one_connection_work() {
    let site = site().await;
    let host = site.addr();
    let old = format!("GET /healthz HTTP/1.0\r\nHost: {host}\r\n\r\n");
    assert_eq!(raw(host, old.as_bytes()).await.is(200).body, "ok");
    let one = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let last = format!("GET /readyz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let answers = exchange(host, format!("{}{last}", one.repeat(50)).as_bytes()).await;
    let answers = String::from_utf8(answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 51);
    assert!(answers.ends_with("ready"));
}

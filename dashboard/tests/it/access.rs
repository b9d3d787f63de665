//! Who may come in.

use network_system::ErrorCode;
use network_system_dashboard::Dashboard;

use crate::support::*;

#[tokio::test]
async fn only_the_bound_address_and_names_of_this_machine_are_known() {
    let site = site_with(
        |server| server,
        |dashboard| {
            dashboard
                .allowed_host("Dash.example")
                .allowed_host("other.example:8443")
        },
    )
    .await;
    let port = site.addr().port();
    let host = |host: &str| format!("Host: {host}\r\n");
    for known in [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("LOCALHOST:{port}"),
        format!("[::1]:{port}"),
        "dash.example".into(),
        "DASH.EXAMPLE:1234".into(),
        "other.example:8443".into(),
    ] {
        site.ask_as("GET", "/api/v1/status", &host(&known), "")
            .await
            .is(200);
    }
    for foreign in [
        // A name whose owner made it point to 127.0.0.1.
        format!("rebound.evil.example:{port}"),
        "evil.example".into(),
        "127.0.0.1".into(),
        "127.0.0.1:1".into(),
        format!("127.0.0.1.evil.example:{port}"),
        format!("localhost.:{port}"),
        format!("localhost.evil.example:{port}"),
        format!("10.0.0.1:{port}"),
        format!("0.0.0.0:{port}"),
        format!("[::2]:{port}"),
        "other.example".into(),
        "other.example:1".into(),
        "sub.dash.example".into(),
    ] {
        for path in [
            "/",
            "/healthz",
            "/assets/app.js",
            "/api/v1/status",
            "/nothing",
        ] {
            let reply = site.ask_as("GET", path, &host(&foreign), "").await.is(421);
            assert!(
                reply.message().contains("is not known as"),
                "{}",
                reply.body
            );
        }
    }
}

#[tokio::test]
async fn a_host_that_is_missing_doubled_or_unreadable_is_400() {
    let site = site().await;
    let addr = site.addr();
    for fields in [
        String::new(),
        format!("Host: {addr}\r\nHost: {addr}\r\n"),
        "Host: \r\n".into(),
        "Host: user@localhost\r\n".into(),
        "Host: local host\r\n".into(),
        "Host: localhost:port\r\n".into(),
        "Host: localhost:99999\r\n".into(),
        "Host: localhost:\r\n".into(),
        "Host: h\u{f6}st\r\n".into(),
    ] {
        site.ask_as("GET", "/healthz", &fields, "").await.is(400);
    }
    // Without a Host, an old client does not say whom it asks.
    raw(addr, b"GET /healthz HTTP/1.0\r\n\r\n").await.is(400);
    // The target says more than the header.
    let target = format!("http://{addr}/healthz");
    site.ask("GET", &target, "", "").await.is(200);
    site.ask("GET", "http://evil.example/healthz", "", "")
        .await
        .is(400);
}

#[tokio::test]
async fn pages_of_other_origins_reach_nothing() {
    let site = site_with(
        |server| server,
        |dashboard| dashboard.token(TOKEN).allowed_host("dash.example"),
    )
    .await;
    let addr = site.addr();
    let port = addr.port();
    let origin = |origin: &str| format!("Origin: {origin}\r\n");
    site.ask(
        "GET",
        "/api/v1/status",
        &origin(&format!("http://{addr}")),
        "",
    )
    .await
    .is(200);
    for foreign in [
        "http://evil.example".to_owned(),
        "null".into(),
        String::new(),
        format!("http://localhost:{port}"),
        "http://127.0.0.1".into(),
        "http://127.0.0.1:1".into(),
        format!("https://{addr}"),
        format!("http://{addr}.evil.example"),
        format!("http://{addr}\r\nOrigin: http://{addr}"),
    ] {
        for path in ["/", "/metrics", "/api/v1/status"] {
            site.ask("GET", path, &origin(&foreign), "").await.is(403);
        }
        let fields = format!(
            "{}Content-Type: application/json\r\nAuthorization: Bearer {TOKEN}\r\n",
            origin(&foreign)
        );
        site.ask("POST", "/api/v1/sessions/1/disconnect", &fields, "{}")
            .await
            .is(403);
    }
    // A proxy does TLS for the configured name.
    for (scheme, status) in [("https", 200), ("http", 200), ("ftp", 403)] {
        let fields = format!("Host: dash.example\r\nOrigin: {scheme}://dash.example\r\n");
        site.ask_as("GET", "/api/v1/status", &fields, "")
            .await
            .is(status);
    }
}

#[tokio::test]
async fn other_pages_may_lead_to_the_page_and_no_further() {
    let site = site().await;
    let fields =
        |site: &str, mode: &str| format!("Sec-Fetch-Site: {site}\r\nSec-Fetch-Mode: {mode}\r\n");
    for ours in ["same-origin", "none"] {
        site.ask("GET", "/api/v1/status", &fields(ours, "cors"), "")
            .await
            .is(200);
    }
    for foreign in ["cross-site", "same-site", "anything"] {
        site.ask("GET", "/", &fields(foreign, "navigate"), "")
            .await
            .is(200);
        site.ask("GET", "/", &fields(foreign, "no-cors"), "")
            .await
            .is(403);
        site.ask("POST", "/", &fields(foreign, "navigate"), "")
            .await
            .is(403);
        for path in ["/assets/app.js", "/metrics", "/healthz", "/api/v1/sessions"] {
            site.ask("GET", path, &fields(foreign, "navigate"), "")
                .await
                .is(403);
            site.ask("GET", path, &fields(foreign, "no-cors"), "")
                .await
                .is(403);
        }
    }
}

#[tokio::test]
async fn a_wrong_token_is_401_even_where_reading_is_open() {
    let site = site().await;
    let with = |value: &str| format!("Authorization: {value}\r\n");
    let right = format!("Bearer {TOKEN}");
    let status = site
        .ask("GET", "/api/v1/status", &with(&right), "")
        .await
        .is(200);
    assert_eq!(status.json()["admin"], true);
    let lower = site
        .ask(
            "GET",
            "/api/v1/status",
            &with(&format!("bearer  {TOKEN}")),
            "",
        )
        .await;
    assert_eq!(lower.is(200).json()["admin"], true);
    let open = site.json("/api/v1/status").await;
    assert_eq!(
        (&open["admin"], &open["read_only"]),
        (&false.into(), &false.into())
    );
    for wrong in [
        "Bearer wrong".to_owned(),
        "Bearer".into(),
        String::new(),
        format!("Basic {TOKEN}"),
        format!("Bearer {TOKEN}x"),
        format!("Bearer {}", &TOKEN[1..]),
        format!("Bearer {}", TOKEN.to_uppercase()),
        format!("{right}\r\nAuthorization: {right}"),
        format!("Bearer {}", "x".repeat(10_000)),
    ] {
        let reply = site
            .ask("GET", "/api/v1/status", &with(&wrong), "")
            .await
            .is(401);
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        assert!(!reply.body.contains(TOKEN));
    }
}

#[tokio::test]
async fn without_a_token_everything_is_read_only() {
    let site = site_with(|server| server, |dashboard| dashboard).await;
    assert_eq!(site.json("/api/v1/status").await["read_only"], true);
    for token in [None, Some("some-token-of-another-server")] {
        for path in [
            "/api/v1/sessions/1/disconnect",
            "/api/v1/sessions/1/messages",
        ] {
            let reply = site.post(path, token, "{}").await.is(403);
            assert_eq!(reply.message(), "read-only: no admin token is configured");
        }
    }
}

#[tokio::test]
async fn on_an_address_that_others_reach_a_token_is_needed_for_reading_too() {
    let site = site().await;
    let open = Dashboard::builder(&site.server, &site.monitor)
        .build()
        .unwrap();
    for addr in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let error = open.bind(addr.parse().unwrap()).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidConfiguration);
        assert!(
            error.to_string().contains("needs an admin token"),
            "{error}"
        );
    }
    let page = site
        .dashboard
        .bind("0.0.0.0:0".parse().unwrap())
        .await
        .unwrap();
    let addr = format!("127.0.0.1:{}", page.local_addr().port())
        .parse()
        .unwrap();
    let ask = async |path: &str, fields: &str| {
        let request = format!("GET {path} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n");
        raw(addr, request.as_bytes()).await
    };
    for (path, status) in [
        ("/", 200),
        ("/healthz", 200),
        ("/readyz", 200),
        ("/assets/none", 404),
        ("/metrics", 401),
        ("/api/v1/status", 401),
        ("/api/v1/sessions", 401),
        ("/nothing", 401),
    ] {
        let reply = ask(path, "Host: 192.0.2.7:80\r\n").await.is(status);
        let challenge = reply.header("www-authenticate");
        assert_eq!(challenge.is_some(), status == 401, "{path}");
    }
    let token = format!("Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\n");
    ask("/api/v1/status", &token).await.is(200);
    ask("/metrics", &token).await.is(200);
    // Addresses cannot be rebound, names can.
    ask("/", "Host: evil.example\r\n").await.is(421);
}

#[tokio::test]
async fn what_cannot_work_is_said_when_it_is_built() {
    let site = site().await;
    let builder = || Dashboard::builder(&site.server, &site.monitor);
    for token in [
        "",
        "short",
        "spaces are not allowed here",
        "t\u{f6}ken-t\u{f6}ken-t\u{f6}ken",
    ] {
        let error = builder().token(token).build().unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidConfiguration, "{token}");
        assert!(
            token.is_empty() || !error.to_string().contains(token),
            "{error}"
        );
    }
    for name in [
        "",
        "a b",
        "http://dash.example",
        "dash.example/path",
        "user@dash.example",
    ] {
        let error = builder().allowed_host(name).build().unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidConfiguration, "{name}");
    }
    let taken = site.dashboard.bind(site.addr()).await.unwrap_err();
    assert_eq!(taken.code(), ErrorCode::BindFailed);
    assert!(taken.to_string().contains(&site.addr().to_string()));
    assert!(std::error::Error::source(&taken).is_some());
    let shown = format!("{:?} {:?}", builder().token(TOKEN), site.dashboard);
    assert!(!shown.contains(TOKEN), "{shown}");
}

//! A dashboard inside an application's own HTTP server.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;

use crate::support::*;

/// Serves an application until the test ends.
async fn serve(application: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, application).await });
    addr
}

async fn ask(addr: SocketAddr, method: &str, path: &str, fields: &str) -> Reply {
    let request = format!("{method} {path} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n");
    raw(addr, request.as_bytes()).await
}

#[tokio::test]
async fn it_works_below_any_path_beside_the_applications_own_routes() {
    let site = site_with(|server| server, |dashboard| dashboard).await;
    let application = Router::new()
        .route("/", get(|| async { "mine" }))
        .nest_service("/ops/dashboard", site.dashboard.router())
        .nest("/bare", site.dashboard.router())
        .nest("/slash/", site.dashboard.router());
    let addr = serve(application).await;
    let host = format!("Host: {addr}\r\n");
    assert_eq!(ask(addr, "GET", "/", &host).await.is(200).body, "mine");
    for path in ["/ops/dashboard/", "/slash/"] {
        let page = ask(addr, "GET", path, &host).await.is(200);
        assert_eq!(
            page.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        assert!(page.header("content-security-policy").is_some());
    }
    let script = ask(addr, "GET", "/bare/assets/app.js", &host).await.is(200);
    assert_eq!(
        script.header("content-type"),
        Some("text/javascript; charset=utf-8")
    );
    for (path, below) in [("/ops/dashboard", "dashboard/"), ("/bare", "bare/")] {
        let page = ask(addr, "GET", path, &host).await.is(200);
        let mut assets = 0;
        for (at, _) in page.body.match_indices("assets/") {
            assert!(page.body[..at].ends_with(below), "{}", &page.body[at..]);
            assets += 1;
        }
        assert!(assets > 0);
    }
    for path in [
        "/ops/dashboard/api/v1/status",
        "/slash/api/v1/status",
        "/bare/api/v1/status",
    ] {
        assert_eq!(
            ask(addr, "GET", path, &host).await.is(200).json()["state"],
            "running"
        );
    }
    let unknown = ask(addr, "GET", "/ops/dashboard/nothing", &host)
        .await
        .is(404);
    assert_eq!(unknown.message(), "there is no /nothing");
    let method = ask(addr, "POST", "/ops/dashboard/metrics", &host)
        .await
        .is(405);
    assert_eq!(method.header("allow"), Some("GET,HEAD"));
    // The application's own are its own affair.
    assert!(
        ask(addr, "GET", "/", &host)
            .await
            .header("content-security-policy")
            .is_none()
    );
}

#[tokio::test]
async fn other_names_and_pages_are_refused_there_too() {
    let site = site_with(
        |server| server,
        |dashboard| dashboard.allowed_host("app.example"),
    )
    .await;
    let addr = serve(Router::new().nest_service("/d", site.dashboard.router())).await;
    let path = "/d/api/v1/status";
    for host in [
        "192.0.2.1:8080",
        "localhost",
        "[2001:db8::1]:1",
        "app.example:8443",
    ] {
        ask(addr, "GET", path, &format!("Host: {host}\r\n"))
            .await
            .is(200);
        for scheme in ["http", "https"] {
            let fields = format!("Host: {host}\r\nOrigin: {scheme}://{host}\r\n");
            ask(addr, "GET", path, &fields).await.is(200);
        }
        let fields = format!("Host: {host}\r\nOrigin: https://evil.example\r\n");
        ask(addr, "GET", path, &fields).await.is(403);
        let fields = format!("Host: {host}\r\nSec-Fetch-Site: cross-site\r\n");
        ask(addr, "GET", path, &fields).await.is(403);
    }
    ask(addr, "GET", path, "Host: evil.example\r\n")
        .await
        .is(421);
    ask(addr, "GET", path, "").await.is(400);
}

#[tokio::test]
async fn a_token_is_asked_for_wherever_there_is_one() {
    let site = site().await;
    let addr = serve(Router::new().nest_service("/d", site.dashboard.router())).await;
    let host = format!("Host: {addr}\r\n");
    ask(addr, "GET", "/d/", &host).await.is(200);
    ask(addr, "GET", "/d/healthz", &host).await.is(200);
    ask(addr, "GET", "/d/api/v1/status", &host).await.is(401);
    ask(addr, "GET", "/d/metrics", &host).await.is(401);
    let fields = format!("{host}Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(
        ask(addr, "GET", "/d/api/v1/status", &fields)
            .await
            .is(200)
            .json()["admin"],
        true
    );
}

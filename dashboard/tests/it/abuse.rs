//! Clients that mean no good, and the messaging side meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

/// Deadlines a twentieth as long: heads 250 ms, bodies and readers 500 ms, idle connections 3 s.
async fn hasty() -> Site {
    site_with(
        |server| server,
        |dashboard| dashboard.token(TOKEN).deadlines_divided_by(20),
    )
    .await
}

#[tokio::test]
async fn heads_that_are_too_long_are_431() {
    let site = site().await;
    let addr = site.addr();
    let head = |fields: &str| {
        format!("GET /healthz HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{fields}\r\n")
    };
    let long = |bytes: usize| format!("X-Long: {}\r\n", "x".repeat(bytes));
    raw(addr, head(&long(15_000)).as_bytes()).await.is(200);
    raw(addr, head(&long(17_000)).as_bytes()).await.is(431);
    raw(addr, head(&long(1024 * 1024)).as_bytes()).await.is(431);
    raw(addr, head(&long(1_000).repeat(1_000)).as_bytes())
        .await
        .is(431);
    // Host and Connection are two of 64.
    raw(addr, head(&"X-Many: 1\r\n".repeat(62)).as_bytes())
        .await
        .is(200);
    raw(addr, head(&"X-Many: 1\r\n".repeat(63)).as_bytes())
        .await
        .is(431);
    let target = format!(
        "GET /{} HTTP/1.1\r\nHost: {addr}\r\n\r\n",
        "a".repeat(100_000)
    );
    let status = raw(addr, target.as_bytes()).await.status;
    assert!(status == 414 || status == 431, "{status}");
}

#[tokio::test]
async fn what_is_not_http_is_400_or_closed() {
    let site = site().await;
    let addr = site.addr();
    for request in [
        "HELLO\r\n\r\n".to_owned(),
        "GET\r\n\r\n".into(),
        "GET / HTTP/9.9\r\n\r\n".into(),
        format!("GET / HTTP/1.1\r\nHost: {addr}\r\nno colon\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {addr}\r\n folded: 1\r\n\r\n"),
        format!(
            "GET / HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"
        ),
        format!("GET / HTTP/1.1\r\nHost: {addr}\r\nContent-Length: -1\r\n\r\n"),
        format!("GET /\u{0} HTTP/1.1\r\nHost: {addr}\r\n\r\n"),
        format!("CONNECT {addr} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n"),
    ] {
        let reply = raw(addr, request.as_bytes()).await;
        assert!(
            [400, 404, 405].contains(&reply.status),
            "{request:?}: {}",
            reply.head
        );
    }
    raw(addr, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.is(505);
    // The first record of a TLS handshake.
    let hello = [
        0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, b'\r', b'\n', b'\r', b'\n',
    ];
    raw(addr, &hello).await.is(400);
}

#[tokio::test]
async fn a_slow_head_is_408_and_a_silent_client_is_closed() {
    let site = hasty().await;
    let addr = site.addr();
    let began = Instant::now();
    let mut slow = TcpStream::connect(addr).await.unwrap();
    let (mut reading, mut writing) = slow.split();
    // A byte now and then does not help.
    let drip = async {
        for byte in b"GET /healthz HTTP/1.1\r\nX-Slow: "
            .iter()
            .chain([b'x'; 400].iter())
        {
            if writing.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut answer = Vec::new();
    let read = async {
        let _ = reading.read_to_end(&mut answer).await;
    };
    tokio::select! {
        () = drip => panic!("the connection was never closed"),
        () = read => {}
    }
    let reply = Reply::parse(&answer).is(408);
    assert!(reply.message().contains("too slowly"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(250), "{waited:?}");
    // Nobody has asked for anything.
    let mut silent = TcpStream::connect(addr).await.unwrap();
    assert!(rest(&mut silent).await.is_empty());
    // A connection that was used before may rest longer than a head may take.
    let mut used = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    for _ in 0..2 {
        used.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok") {
            assert_ne!(used.read_buf(&mut answer).await.unwrap(), 0);
        }
        Reply::parse(&answer).is(200);
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    assert!(rest(&mut used).await.is_empty());
}

#[tokio::test]
async fn a_slow_body_is_408() {
    let site = hasty().await;
    let addr = site.addr();
    let mut slow = TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "POST /api/v1/sessions/1/messages HTTP/1.1\r\nHost: {addr}\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{\"text\""
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let reply = Reply::parse(&rest(&mut slow).await).is(408);
    assert!(reply.message().contains("body"), "{}", reply.body);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed() {
    let site = hasty().await;
    let addr = site.addr();
    let mut lazy = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET /api/v1/metrics HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    let began = Instant::now();
    // Until it is cut off, which a write to it notices.
    let cut = tokio::time::timeout(PATIENCE, async {
        while lazy.write_all(request.repeat(100).as_bytes()).await.is_ok() {}
    });
    cut.await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(500));
    site.get("/healthz").await.is(200);
}

#[tokio::test]
async fn connections_beyond_64_are_told_503_and_the_others_go_on() {
    let site = site().await;
    let addr = site.addr();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    let mut open = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.read_exact(&mut [0; 12]).await.unwrap();
        open.push(stream);
    }
    for _ in 0..36 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let answer = rest(&mut stream).await;
        // The sixteenth at a time is told nothing.
        if !answer.is_empty() {
            let reply = Reply::parse(&answer).is(503);
            assert!(reply.message().contains("as many connections"));
        }
    }
    open[63].write_all(request.as_bytes()).await.unwrap();
    drop(open);
    tokio::time::timeout(PATIENCE, async {
        while raw(
            addr,
            request
                .replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        )
        .await
        .status
            == 503
        {}
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_messaging_side_loses_nothing_meanwhile() {
    let site = hasty().await;
    let addr = site.addr();
    let client = site.client("echo").await;
    let mut messages = client.messages().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let abused = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    let requests: [Vec<u8>; 8] = [
        b"GET".to_vec(),
        b"\x16\x03\x01".repeat(1_000),
        format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1024 * 1024)).into_bytes(),
        format!("GET /api/v1/sessions?limit=1000 HTTP/1.1\r\nHost: {addr}\r\n\r\n").repeat(200).into_bytes(),
        b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_vec(),
        format!("GET /api/v1/status HTTP/1.1\r\nHost: {addr}\r\nAuthorization: Bearer wrong\r\n\r\n").into_bytes(),
        format!("POST /api/v1/sessions/1/messages HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 9999999\r\n\r\n").into_bytes(),
        format!("GET /nothing HTTP/1.1\r\nHost: {addr}\r\nOrigin: null\r\n\r\n").into_bytes(),
    ];
    for request in requests.iter().cycle().take(32) {
        let request = request.clone();
        let (stop, abused) = (Arc::clone(&stop), Arc::clone(&abused));
        tasks.spawn(async move {
            while !stop.load(Relaxed) {
                let Ok(mut stream) = TcpStream::connect(addr).await else {
                    continue;
                };
                let _ = stream.write_all(&request).await;
                let _ = stream.read(&mut [0; 1024]).await;
                abused.fetch_add(1, Relaxed);
            }
        });
    }
    let echoing = async {
        let mut number = 0_u64;
        while number < 500 || abused.load(Relaxed) < 200 {
            client.send(number.to_string()).await.unwrap();
            let echo = tokio::time::timeout(PATIENCE, messages.next());
            let echo = echo.await.unwrap().unwrap();
            assert_eq!(echo.payload(), number.to_string().as_bytes());
            number += 1;
        }
        number
    };
    // All of it takes as long as the machine needs for so much.
    let echoed = tokio::time::timeout(10 * PATIENCE, echoing).await.unwrap();
    stop.store(true, Relaxed);
    tasks.shutdown().await;
    let stats = site.server.stats();
    assert_eq!(
        (stats.messages_received, stats.messages_sent),
        (echoed, echoed)
    );
    assert_eq!((stats.errors, stats.dropped), (0, 0));
    client.stop().await;
}

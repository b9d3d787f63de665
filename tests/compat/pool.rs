use std::thread;

use super::*;

fn pool_of(server: &messaging_server, size: usize) -> client_pool {
    client_pool::new(size, "127.0.0.1", server.port()).expect("the size is valid")
}

/// Waits until it is so.
fn until(mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LONG, "it comes in time");
        thread::sleep(Duration::from_millis(1));
    }
}

fn bridge_with(
    server: &messaging_server,
    pooling: bool,
    most: usize,
) -> (messaging_bridge, Arc<client_pool>) {
    let bridge = messaging_bridge::new("");
    let mut config = bridge.get_config();
    config.enable_connection_pooling = pooling;
    config.max_connections_per_client = most;
    bridge.set_config(config).expect("it is valid");
    bridge.start().expect("it does not run yet");
    let pool = bridge.create_client_pool("worker", "127.0.0.1", server.port(), ());
    (bridge, pool.expect("it can be made"))
}

/// The example of the classic documents.
#[test]
fn a_pool_connects_its_clients_and_lends_each_to_one() {
    let server = echo();
    let pool = pool_of(&server, 3);
    assert_eq!((pool.size(), pool.available()), (3, 3));
    assert_eq!(server.connection_count(), 3);
    let clients: Vec<_> = (0..3)
        .map(|_| pool.acquire().expect("three are there"))
        .collect();
    let names: HashSet<_> = clients.iter().map(|client| client.client_id()).collect();
    let expected = ["pooled_client_0", "pooled_client_1", "pooled_client_2"];
    assert_eq!(names, expected.map(str::to_owned).into());
    assert!(pool.acquire().is_none(), "all are lent");
    for client in clients {
        let (tell, told) = seen();
        client.set_message_handler(move |message| {
            let _ = tell.send(message.to_vec());
        });
        client.send_message("hello").expect("it is connected");
        assert_eq!(told.next(), b"hello");
        pool.release(client).expect("it is the pool's");
    }
    assert_eq!(pool.available(), 3);
    drop(pool);
    until(|| server.connection_count() == 0);
}

#[test]
fn who_waits_gets_what_is_released() {
    let server = echo();
    let pool = Arc::new(pool_of(&server, 1));
    let client = pool.acquire().expect("it is there");
    let late = pool.acquire_within(Duration::from_millis(50));
    assert_eq!(
        late.expect_err("it is lent").code,
        error_codes::connection_timeout
    );
    let waits = thread::spawn({
        let pool = Arc::clone(&pool);
        move || pool.acquire_within(LONG).map(|client| client.client_id())
    });
    until(|| pool.stats().waiting == 1);
    let name = client.client_id();
    pool.release(client).expect("it is the pool's");
    assert_eq!(waits.join().expect("no panic"), Ok(name));
    // That thread dropped it without releasing it. It is not lost.
    assert!(pool.acquire().is_some());
    assert_eq!(pool.stats().created, 1);
}

#[test]
fn a_client_that_is_not_the_pools_is_not_taken() {
    let server = echo();
    let pool = pool_of(&server, 1);
    let other = Arc::new(messaging_client::new("other"));
    let refused = pool.release(other).expect_err("it is another's");
    assert_eq!(refused.code, error_codes::session_not_found);
    let client = pool.acquire().expect("it is there");
    let again = Arc::clone(&client);
    pool.release(client).expect("it is the pool's");
    assert!(pool.release(again).is_err(), "once is enough");
}

#[test]
fn a_client_that_lost_its_connection_is_replaced() {
    let server = echo();
    let pool = pool_of(&server, 1);
    let client = pool.acquire().expect("it is there");
    client.stop_client().expect("it runs");
    pool.release(client).expect("it is the pool's");
    let client = pool.acquire_within(LONG).expect("another is connected");
    assert!(client.is_connected());
    assert_eq!(client.client_id(), "pooled_client_1");
}

#[test]
fn without_a_server_there_is_no_client_and_nothing_hangs() {
    let closed = ClosedPort::take();
    let port = closed.port();
    let began = Instant::now();
    let pool = client_pool::new(2, "127.0.0.1", port).expect("the size is valid");
    assert!(pool.acquire().is_none());
    let refused = pool.acquire_within(LONG).expect_err("nobody listens");
    assert_eq!(refused.code, error_codes::connection_refused);
    drop(pool);
    assert!(began.elapsed() < PROMPT);
    let none = client_pool::new(0, "127.0.0.1", port);
    assert_eq!(
        none.map(drop).expect_err("it has no clients").code,
        error_codes::invalid_configuration
    );
}

#[test]
fn a_lent_client_outlives_its_pool() {
    let server = echo();
    let pool = pool_of(&server, 2);
    let client = pool.acquire().expect("it is there");
    drop(pool);
    until(|| server.connection_count() == 1);
    assert!(client.is_connected());
}

#[test]
fn a_bridge_pools_connections_up_to_its_maximum() {
    let server = echo();
    let (bridge, pool) = bridge_with(&server, true, 2);
    assert_eq!(server.connection_count(), 0, "they are made as needed");
    for _ in 0..5 {
        let client = pool.acquire().expect("the server is there");
        client.send_message("hello").expect("it is connected");
        pool.release(client).expect("it is the pool's");
    }
    assert_eq!(pool.stats().created, 1);
    let both = (pool.acquire(), pool.acquire());
    assert!(both.0.is_some() && both.1.is_some());
    assert!(pool.acquire().is_none(), "two is the maximum");
    // A message counts when it leaves.
    until(|| bridge.get_metrics().messages_sent >= 5);
    let metrics = bridge.get_metrics();
    assert_eq!((metrics.total_connections, metrics.messages_sent), (2, 5));
    let report = bridge.get_status_report();
    assert!(report.contains("connection pooling: up to 2 connections a pool\n"));
    assert!(
        report.contains("client \"worker_0\": connected\n"),
        "{report}"
    );
    drop(both);
}

#[test]
fn a_bridge_without_pooling_connects_for_each_and_keeps_nothing() {
    let server = echo();
    let (bridge, pool) = bridge_with(&server, false, 2);
    for number in 0..3 {
        let client = pool.acquire().expect("the server is there");
        assert_eq!(client.client_id(), format!("worker_{number}"));
        pool.release(client).expect("it is the pool's");
        assert_eq!(pool.available(), 0);
        until(|| server.connection_count() == 0);
    }
    assert!(
        bridge
            .get_status_report()
            .contains("connection pooling: off\n")
    );
}

#[test]
fn a_bridge_that_stops_ends_what_its_pools_have_lent() {
    let server = echo();
    let (bridge, pool) = bridge_with(&server, true, 2);
    let lent = pool.acquire().expect("the server is there");
    let idle = pool.acquire().expect("the server is there");
    pool.release(idle).expect("it is the pool's");
    bridge.stop().expect("it runs");
    assert!(!lent.is_connected());
    until(|| server.connection_count() == 0);
    pool.release(lent).expect("it is the pool's");
    let refused = pool.acquire_within(LONG).expect_err("it has stopped");
    assert_eq!(refused.code, error_codes::shutting_down);
    bridge.start().expect("it has stopped");
    assert!(pool.acquire_within(LONG).is_ok());
}

#[test]
fn a_pool_can_be_used_in_callbacks() {
    let server = echo();
    let pool = Arc::new(pool_of(&server, 2));
    let (tell, told) = seen();
    let relay = echo_with(|_config| {});
    let inner = Arc::clone(&pool);
    relay.set_message_handler(move |_session, message| {
        let client = inner.acquire_within(LONG).expect("one is released");
        let sent = client.send_message(message).is_ok();
        inner.release(client).expect("it is the pool's");
        let _ = tell.send(sent);
    });
    let client = messaging_client::new("");
    client
        .start_client("127.0.0.1", relay.port())
        .expect("the relay is there");
    for _ in 0..10 {
        client.send_message("hello").expect("it is connected");
        assert!(told.next());
    }
}

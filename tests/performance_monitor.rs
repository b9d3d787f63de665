//! The classic performance monitor. There is one for the process, so these tests have a process of their own.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, and says where"
)]
#![allow(missing_docs, reason = "a test's name is its documentation")]

use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use network_system::compat::utils::{metrics, performance_monitor};
use network_system::compat::{bridge_config, messaging_bridge, messaging_client, messaging_server};

const PATIENCE: Duration = Duration::from_secs(20);

/// One test at a time, with everything at zero.
fn alone() -> (MutexGuard<'static, ()>, &'static performance_monitor) {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let monitor = performance_monitor::instance();
    monitor.reset_metrics();
    (turn, monitor)
}

/// Sends a message from a client to a server, and back.
fn echo(server: &messaging_server, client: &messaging_client) {
    server.set_message_handler(|session, message| {
        let _ = session.send_message(message);
    });
    server.start_server(("127.0.0.1", 0)).unwrap();
    let (sender, received) = mpsc::channel();
    client.set_message_handler(move |message| {
        let _ = sender.send(message.len());
    });
    client.start_client("127.0.0.1", server.port()).unwrap();
    client.send_message("12345").unwrap();
    assert_eq!(received.recv_timeout(PATIENCE), Ok(5));
}

#[test]
fn servers_and_clients_feed_the_monitor_by_themselves() {
    let (_turn, monitor) = alone();
    let (server, client) = (messaging_server::new("s"), messaging_client::new("c"));
    echo(&server, &client);
    // A message has been answered before its handler has returned.
    let since = Instant::now();
    while monitor.get_metrics().max_latency_us == 0 {
        assert!(since.elapsed() < PATIENCE, "handlers are timed");
        std::thread::yield_now();
    }
    let now: metrics = monitor.get_metrics();
    assert_eq!((now.total_connections, now.active_connections), (2, 2));
    assert_eq!((now.messages_sent, now.messages_received), (2, 2));
    assert_eq!((now.bytes_sent, now.bytes_received), (10, 10));
    assert!(now.min_latency_us <= now.avg_latency_us && now.avg_latency_us <= now.max_latency_us);
    assert!(now.p95_latency_us <= now.p99_latency_us);
    assert!(now.last_update >= now.start_time);
    let report = monitor.generate_report();
    assert!(
        report.contains("server \"s\"") && report.contains("client \"c\""),
        "{report}"
    );
    client.stop_client().unwrap();
    server.stop_server().unwrap();
    drop((client, server));
    let later = monitor.get_metrics();
    assert_eq!(
        (later.total_connections, later.messages_sent),
        (2, 2),
        "they stay"
    );
}

#[test]
fn what_a_bridge_makes_counts_there_and_here_with_resets_of_its_own() {
    let (_turn, monitor) = alone();
    let bridge = messaging_bridge::new("b");
    bridge.start().unwrap();
    let (server, client) = (bridge.create_server("s", ()), bridge.create_client("c", ()));
    echo(&server, &client);
    monitor.reset_metrics();
    client.send_message("67").unwrap();
    let here = monitor.get_metrics();
    assert_eq!((here.total_connections, here.active_connections), (0, 2));
    assert!(bridge.get_metrics().total_connections == 2);
    bridge.reset_metrics();
    assert_eq!(bridge.get_metrics().active_connections, 2);
    assert!(monitor.get_metrics().messages_sent <= 2);
    bridge.stop().unwrap();
}

#[test]
fn a_bridge_without_monitoring_feeds_no_monitor() {
    let (_turn, monitor) = alone();
    let bridge = messaging_bridge::new("b");
    let mut config = bridge_config::default();
    config.enable_performance_monitoring = false;
    bridge.set_config(config).unwrap();
    bridge.start().unwrap();
    let (server, client) = (bridge.create_server("s", ()), bridge.create_client("c", ()));
    echo(&server, &client);
    assert_eq!(monitor.get_metrics().total_connections, 0);
    assert_eq!(bridge.get_metrics().total_connections, 0);
    bridge.stop().unwrap();
}

#[test]
fn what_is_recorded_by_hand_counts_too() {
    let (_turn, monitor) = alone();
    let zero = monitor.get_metrics();
    assert_eq!(
        (
            zero.min_latency_us,
            zero.max_latency_us,
            zero.avg_latency_us
        ),
        (u64::MAX, 0, 0)
    );
    assert_eq!(zero.last_update, zero.start_time);
    monitor.record_connection(true);
    monitor.record_connection(false);
    monitor.record_message_sent(3);
    monitor.record_message_received(4);
    for millis in 1..=100 {
        monitor.record_latency(Duration::from_millis(millis));
    }
    monitor.record_error("send_failed");
    monitor.record_error("receive_failed");
    monitor.record_error("connection_timeout");
    monitor.record_error("disk");
    monitor.record_memory_usage(3_000);
    monitor.record_memory_usage(2_000);
    monitor.update_realtime_stats();
    let now = monitor.get_metrics();
    assert_eq!((now.total_connections, now.active_connections), (1, 1));
    assert_eq!(now.failed_connections, 1);
    assert_eq!((now.messages_sent, now.bytes_received), (1, 4));
    let near = |value: u64, right: u64| assert!(value.abs_diff(right) <= right / 100, "{value}");
    near(now.avg_latency_us, 50_500);
    near(now.min_latency_us, 1_000);
    near(now.max_latency_us, 100_000);
    near(now.p95_latency_us, 95_000);
    near(now.p99_latency_us, 99_000);
    assert_eq!((now.send_errors, now.receive_errors), (1, 1));
    assert_eq!((now.timeout_errors, now.connection_errors), (1, 1));
    assert_eq!(
        (now.memory_usage_bytes, now.peak_memory_usage),
        (2_000, 3_000)
    );
    assert!(now.messages_per_second > 0 && now.bytes_per_second > now.messages_per_second);
    assert!(now.uptime() < PATIENCE);
    let json: serde_json::Value = serde_json::from_str(&monitor.to_json()).unwrap();
    assert_eq!(json["errors"]["by_code"]["disk"], 1);
    monitor.record_disconnection();
    monitor.reset_metrics();
    assert_eq!(monitor.get_metrics().active_connections, 0);
}

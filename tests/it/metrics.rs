//! What a monitor says of servers and clients.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use network_system::metrics::{PerformanceMonitor, Role};
use network_system::pipeline::{Compression, Pipeline};
use network_system::{
    Client, ErrorCode, MemoryBudget, Message, QueuePolicy, ReconnectPolicy, Server, ServerBuilder,
};
use serde_json::Value;

use crate::support::{
    self, Frame, Net, Over, echo, eventually, group, kind, limits, settle, timeouts, within,
};

over_all! {
    session:
        both_ends_count_connections_messages_and_bytes,
        requests_and_pings_are_timed_and_handlers_sampled;
}

async fn connect(over: Over, net: &Net, monitor: &PerformanceMonitor) -> Client {
    let client = over.client(&net.url).name("c").monitor(monitor).build();
    let client = client.unwrap();
    within("the connection", client.connect()).await.unwrap();
    client
}

async fn both_ends_count_connections_messages_and_bytes(over: Over) {
    let monitor = PerformanceMonitor::new();
    let net = support::serve_watched(over, &monitor, |builder| echo(builder).name("s")).await;
    let client = connect(over, &net, &monitor).await;
    let mut messages = client.messages().unwrap();
    for _ in 0..3 {
        client.send("12345").await.unwrap();
        within("the echo", messages.next()).await.unwrap();
    }
    let metrics = monitor.metrics();
    assert_eq!(
        (metrics.total_connections, metrics.active_connections),
        (2, 2)
    );
    assert_eq!((metrics.messages_sent, metrics.bytes_sent), (6, 30));
    assert_eq!((metrics.messages_received, metrics.bytes_received), (6, 30));
    assert!(metrics.last_update.is_some());
    let roles: Vec<_> = metrics.members.iter().map(|member| member.role).collect();
    assert_eq!(roles, [Role::Server, Role::Client]);
    for member in &metrics.members {
        assert_eq!(member.transports.len(), 1, "{member:?}");
        let transport = &member.transports[0];
        assert!(net.url.starts_with(&format!("{}://", transport.transport)));
        assert_eq!((transport.messages_sent, transport.bytes_received), (3, 15));
        assert_eq!(
            (transport.total_connections, transport.active_connections),
            (1, 1)
        );
    }

    client.stop().await;
    net.stop().await;
    assert_eq!(monitor.metrics().active_connections, 0);
    drop((client, messages, net));
    let metrics = monitor.metrics();
    assert_eq!(
        (metrics.messages_sent, metrics.total_connections),
        (6, 2),
        "they stay"
    );
    assert_eq!(metrics.members.len(), 2);
}

async fn requests_and_pings_are_timed_and_handlers_sampled(over: Over) {
    let monitor = PerformanceMonitor::new();
    let net = support::serve_watched(over, &monitor, |builder| {
        builder
            .name("s")
            .on_request(|_session, message: Message| async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                Ok(message)
            })
    })
    .await;
    let clients = PerformanceMonitor::new();
    let client = connect(over, &net, &clients).await;
    let mut intervals = clients.intervals();
    within("the answer", client.request("?", support::PATIENCE))
        .await
        .unwrap();
    let asked = clients.metrics().request_latency;
    assert_eq!(asked.count, 1);
    // A histogram shows the shortest time up to 1 % too short.
    assert!(asked.min >= Duration::from_micros(4_900), "{asked:?}");
    assert_eq!(intervals.take().request_latency.count, 1);
    assert_eq!(intervals.take().request_latency.count, 0);
    let handled = monitor.metrics().handler_time;
    assert_eq!(handled.count, 1);
    assert!(handled.min >= Duration::from_micros(4_900), "{handled:?}");
    assert_eq!(
        monitor.metrics().request_latency.count,
        0,
        "the server asked nothing"
    );
    client.stop().await;
    net.stop().await;
}

#[tokio::test]
async fn a_handler_that_takes_its_time_is_seen() {
    let monitor = PerformanceMonitor::new();
    let net = support::serve_watched(Over::Mem, &monitor, |builder| {
        builder.on_message(|session, message| async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            session.send(message).await.unwrap();
        })
    })
    .await;
    let mut peer = net.open_peer().await;
    peer.data("slow").await;
    peer.expect_data().await;
    eventually("it is recorded", || {
        monitor.metrics().handler_time.count == 1
    })
    .await;
    let time = monitor.metrics().handler_time;
    assert!(time.max >= Duration::from_millis(5), "{time:?}");
    assert!(monitor.metrics().latency.max >= Duration::from_millis(5));
    net.stop().await;
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_timed() {
    let monitor = PerformanceMonitor::new();
    let beat = timeouts(|timeouts| timeouts.heartbeat = Duration::from_secs(1));
    let net = support::serve_watched(Over::Mem, &monitor, |builder| builder.timeouts(beat)).await;
    let client = Over::Mem.client(&net.url).build().unwrap();
    client.connect().await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let pings = monitor.metrics().ping_latency;
    assert!(pings.count >= 3, "{pings:?}");
    client.stop().await;
    net.stop().await;
}

#[tokio::test]
async fn a_client_without_a_monitor_feeds_none() {
    let monitor = PerformanceMonitor::new();
    let net = support::serve_watched(Over::Mem, &monitor, echo).await;
    let client = Over::Mem.client(&net.url).build().unwrap();
    client.connect().await.unwrap();
    assert!(client.request("?", support::PATIENCE).await.is_err());
    let metrics = monitor.metrics();
    assert_eq!(
        (metrics.request_latency.count, metrics.members.len()),
        (0, 1)
    );
    client.stop().await;
    net.stop().await;
}

// Errors

#[tokio::test]
async fn each_error_counts_once_by_its_code() {
    let monitor = PerformanceMonitor::new();
    let net = support::serve_watched(Over::Tcp, &monitor, |builder| {
        builder.limits(limits(|limits| limits.max_connections = 1))
    })
    .await;
    // A frame that is none.
    let mut peer = net.open_peer().await;
    peer.write(b"GET / HTTP/1.1\r\n\r\n").await;
    peer.expect_error_and_end().await;
    drop(peer);
    eventually("it has ended", || net.server.session_count() == 0).await;
    // A connection over the limit.
    let first = net.open_peer().await;
    let mut second = net.peer().await;
    second.expect_error_and_end().await;
    let metrics = monitor.metrics();
    let by_code: Vec<_> = metrics.errors.by_code.iter().collect();
    let expected = [
        (&"invalid_frame".to_owned(), &1),
        (&"too_many_connections".to_owned(), &1),
    ];
    assert_eq!(by_code, expected);
    assert_eq!(
        (
            metrics.errors.receive_errors,
            metrics.errors.connection_errors
        ),
        (1, 1)
    );
    assert_eq!(metrics.failed_connections, 1);
    // A connection that breaks inside a frame.
    let mut first = first;
    first.write(&first.declare(100)).await;
    drop(first);
    eventually("it breaks", || {
        monitor
            .metrics()
            .errors
            .by_code
            .contains_key("connection_closed")
    })
    .await;
    assert_eq!(monitor.metrics().errors.by_code["connection_closed"], 1);
    net.stop().await;
}

#[tokio::test]
async fn a_failed_attempt_of_a_client_counts_once() {
    let monitor = PerformanceMonitor::new();
    // Somebody who accepts and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tcp://{}", silent.local_addr().unwrap());
    let client = Client::builder()
        .endpoint(&url)
        .monitor(&monitor)
        .reconnect(ReconnectPolicy::disabled())
        .timeouts(timeouts(|timeouts| {
            timeouts.connect = Duration::from_millis(50);
            timeouts.first_byte = Duration::from_millis(20);
        }))
        .build()
        .unwrap();
    let error = within("the end", client.connect()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::ConnectionTimeout);
    let metrics = monitor.metrics();
    assert_eq!(metrics.failed_connections, 1);
    assert_eq!(metrics.errors.by_code["connection_timeout"], 1);
    assert_eq!(
        (
            metrics.errors.timeout_errors,
            metrics.errors.connection_errors
        ),
        (1, 1)
    );
    client.stop().await;
}

#[tokio::test]
async fn messages_that_cannot_be_sent_are_errors_of_sending() {
    let monitor = PerformanceMonitor::new();
    let full = limits(|limits| {
        limits.outbox_messages = 1;
        limits.message_size = 1_000;
        limits.when_full = QueuePolicy::Wait;
    });
    let net = support::serve_watched(Over::Mem, &monitor, |builder| builder.limits(full)).await;
    let (peer, session) = net.pair().await;
    assert!(session.send(vec![0; 2_000]).await.is_err());
    let mut refused = 0;
    // All in one turn of this task, so that nothing leaves meanwhile.
    for _ in 0..5 {
        refused += u64::from(session.try_send("x").is_err());
    }
    assert!(refused > 0);
    drop(peer);
    within("the end", session.closed()).await;
    assert!(session.send("late").await.is_err());
    let errors = monitor.metrics().errors;
    assert_eq!(errors.by_code["send_failed"], 2);
    assert_eq!(errors.by_code["queue_full"], refused);
    assert_eq!(errors.send_errors, 2 + refused);
    net.stop().await;
}

#[tokio::test]
async fn requests_without_an_answer_are_timeouts() {
    let monitor = PerformanceMonitor::new();
    let net = support::serve_watched(Over::Mem, &monitor, |builder| builder).await;
    let (mut peer, session) = net.pair().await;
    let error = session.request("?", Duration::from_millis(1)).await;
    assert_eq!(error.unwrap_err().code(), ErrorCode::RequestTimeout);
    peer.expect(kind::REQUEST).await;
    let metrics = monitor.metrics();
    assert_eq!(metrics.errors.by_code["request_timeout"], 1);
    assert_eq!(
        (metrics.errors.timeout_errors, metrics.request_latency.count),
        (1, 0)
    );
    net.stop().await;
}

#[tokio::test]
async fn drops_are_counted() {
    let monitor = PerformanceMonitor::new();
    let full = limits(|limits| {
        limits.outbox_messages = 1;
        limits.when_full = QueuePolicy::DropNewest;
    });
    let net = support::serve_watched(Over::Mem, &monitor, |builder| builder.limits(full)).await;
    let (_peer, session) = net.pair().await;
    for _ in 0..1_000 {
        let _ = session.try_send("x");
    }
    let metrics = monitor.metrics();
    assert!(metrics.messages_dropped > 500);
    // Few events say so, or they would be all that is kept.
    let events = monitor.events(0).events;
    let drops = events
        .iter()
        .filter(|event| event.kind == "messages_dropped");
    assert!((1..=10).contains(&drops.count()), "{events:?}");
    assert_eq!(metrics.messages_dropped, net.server.stats().dropped);
    assert_eq!(
        metrics.members[0].messages_dropped,
        metrics.messages_dropped
    );
    net.stop().await;
}

// Members

#[tokio::test]
async fn servers_with_one_name_are_one_and_a_reset_keeps_what_is_open() {
    let monitor = PerformanceMonitor::new();
    let configure = |builder: ServerBuilder| echo(builder).name("twin");
    let one = support::serve_watched(Over::Mem, &monitor, configure).await;
    let two = support::serve_watched(Over::Tcp, &monitor, configure).await;
    let mut first = one.open_peer().await;
    let mut second = two.open_peer().await;
    first.data("1").await;
    first.expect_data().await;
    second.data("22").await;
    second.expect_data().await;
    let metrics = monitor.metrics();
    assert_eq!(metrics.members.len(), 1);
    let transports: Vec<_> = metrics.members[0]
        .transports
        .iter()
        .map(|transport| (transport.transport, transport.bytes_sent))
        .collect();
    assert_eq!(transports, [("tcp", 2), ("mem", 1)]);

    monitor.reset();
    let metrics = monitor.metrics();
    assert_eq!((metrics.messages_sent, metrics.total_connections), (0, 0));
    assert_eq!(
        (metrics.active_connections, metrics.handler_time.count),
        (2, 0)
    );
    assert_eq!(
        one.server.stats().messages_sent,
        1,
        "its own statistics stay"
    );
    one.server.reset_stats();
    first.data("1").await;
    first.expect_data().await;
    assert_eq!(monitor.metrics().messages_sent, 1);
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn stages_are_counted_for_the_server_that_has_them() {
    let monitor = PerformanceMonitor::new();
    let pipeline = Pipeline::builder()
        .offer(Compression::lz4())
        .build()
        .unwrap();
    let shared = &pipeline;
    let serve = |name: &'static str| {
        support::serve_watched(Over::Mem, &monitor, move |builder| {
            echo(builder).name(name).pipeline(shared.clone())
        })
    };
    let (one, two) = (serve("one").await, serve("two").await);
    let mut clients = Vec::new();
    for net in [&one, &two, &two] {
        let client = Over::Mem.client(&net.url).pipeline(
            Pipeline::builder()
                .offer(Compression::lz4())
                .build()
                .unwrap(),
        );
        let client = client.build().unwrap();
        client.connect().await.unwrap();
        let mut messages = client.messages().unwrap();
        client.send(vec![b'x'; 4_000]).await.unwrap();
        within("the echo", messages.next()).await.unwrap();
        clients.push(client);
    }
    let metrics = monitor.metrics();
    let stages: Vec<_> = metrics
        .members
        .iter()
        .map(|member| (&*member.name, member.stages[0].received.messages))
        .collect();
    assert_eq!(stages, [("one", 1), ("two", 2)]);
    assert!(metrics.members[0].stages[0].sent.ratio() < 0.1);
    assert_eq!(
        pipeline.stats()[0].received.messages,
        3,
        "all that share it"
    );
    pipeline.reset_stats();
    assert_eq!(monitor.metrics().members[1].stages[0].received.messages, 2);
    for client in clients {
        client.stop().await;
    }
    one.stop().await;
    two.stop().await;
}

/// Says when it is dropped.
struct Canary;

#[tokio::test]
async fn a_monitor_that_a_handler_of_its_server_holds_does_not_keep_it_alive() {
    let canary = Arc::new(Canary);
    let gone: Weak<Canary> = Arc::downgrade(&canary);
    let monitor = PerformanceMonitor::new();
    let net = support::serve_watched(Over::Mem, &monitor, |builder| {
        let held = monitor.clone();
        builder.on_message(move |_session, _message| {
            let (_canary, held) = (Arc::clone(&canary), held.clone());
            async move { held.record_message_sent(1) }
        })
    })
    .await;
    let mut peer = net.open_peer().await;
    peer.data("x").await;
    eventually("it is handled", || monitor.metrics().messages_sent == 1).await;
    net.stop().await;
    drop((net, peer, monitor));
    settle().await;
    assert_eq!(gone.strong_count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_never_go_backwards_while_members_come_and_go() {
    let monitor = PerformanceMonitor::new();
    let net = support::serve_watched(Over::Mem, &monitor, echo).await;
    let done = Arc::new(AtomicBool::new(false));
    let looking = std::thread::spawn({
        let (monitor, done) = (monitor.clone(), Arc::clone(&done));
        move || {
            let mut before = (0, 0, 0);
            while !done.load(Ordering::Relaxed) {
                let metrics = monitor.metrics();
                let now = (
                    metrics.messages_sent,
                    metrics.total_connections,
                    metrics.handler_time.count,
                );
                assert!(now.0 >= before.0 && now.1 >= before.1 && now.2 >= before.2);
                before = now;
            }
        }
    });
    for _ in 0..50 {
        let client = connect(Over::Mem, &net, &monitor).await;
        let mut messages = client.messages().unwrap();
        client.send("x").await.unwrap();
        within("the echo", messages.next()).await.unwrap();
        client.stop().await;
    }
    done.store(true, Ordering::Relaxed);
    assert!(looking.join().is_ok());
    assert_eq!(monitor.metrics().messages_sent, 100);
    net.stop().await;
}

// JSON

/// The fields of an object, and of those in it: `errors.by_code`.
fn fields(value: &Value, path: &str, names: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let path = match path {
                    "" => name.clone(),
                    path => format!("{path}.{name}"),
                };
                names.push(path.clone());
                fields(value, &path, names);
            }
        }
        Value::Array(values) => {
            if let Some(value) = values.first() {
                fields(value, &format!("{path}[]"), names);
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn the_fields_of_the_json_are_those_that_others_read() {
    let monitor = PerformanceMonitor::new();
    let pipeline = Pipeline::builder()
        .offer(Compression::lz4())
        .build()
        .unwrap();
    let net = support::serve_watched(Over::Mem, &monitor, |builder| {
        builder.name("\"quoted\"\n").pipeline(pipeline)
    })
    .await;
    let (mut peer, session) = net.pair().await;
    session.join(&group("lobby")).unwrap();
    peer.send(Frame::new(kind::PING, "x")).await;
    peer.expect(kind::PONG).await;
    monitor.record_error("disk");
    let json: Value = serde_json::from_str(&monitor.to_json()).unwrap();
    assert_eq!(json["members"][0]["name"], "\"quoted\"\n");
    let mut names = Vec::new();
    fields(&json, "", &mut names);
    names.sort();
    let expected = include_str!("metrics.fields.txt");
    let missing: Vec<_> = expected
        .lines()
        .filter(|name| !names.iter().any(|n| n == name))
        .collect();
    assert_eq!(missing, [""; 0], "no field goes or changes its name");
    net.stop().await;
}

#[test]
fn a_server_that_is_never_started_leaves_nothing_behind() {
    let monitor = PerformanceMonitor::new();
    let server = Server::builder()
        .listen("mem://nobody")
        .monitor(&monitor)
        .build()
        .unwrap();
    assert_eq!(monitor.metrics().members.len(), 1);
    drop(server);
    assert_eq!(monitor.metrics().total_connections, 0);
}

#[tokio::test(start_paused = true)]
async fn reliable_sessions_are_counted_through_suspension_resume_and_expiry() {
    use crate::reliable::{begin, lose, next_data, resume, serve_reliable};
    let monitor = PerformanceMonitor::new();
    let net = serve_reliable(Over::Mem, |builder| echo(builder).monitor(&monitor)).await;
    let counted = || {
        let metrics = monitor.metrics();
        let member = &metrics.members[0];
        let of_member = (
            member.sessions_suspended,
            member.sessions_resumed,
            member.sessions_expired,
            member.messages_unacknowledged,
        );
        let of_all = (
            metrics.sessions_suspended,
            metrics.sessions_resumed,
            metrics.sessions_expired,
            metrics.messages_unacknowledged,
        );
        assert_eq!(of_member, of_all);
        of_all
    };
    let (mut peer, ticket) = begin(&net.url).await;
    peer.send(Frame::new(kind::DATA, "never acknowledged"))
        .await;
    assert_eq!(next_data(&mut peer).await, b"never acknowledged");
    assert_eq!(counted(), (0, 0, 0, 0));
    lose(&net, peer).await;
    assert_eq!(counted(), (1, 0, 0, 0));
    assert_eq!(
        monitor.metrics().active_connections,
        1,
        "it is open all the time"
    );
    // What has been counted starts again; what there is stays.
    monitor.reset();
    assert_eq!(counted(), (1, 0, 0, 0));
    let (peer, _, _) = resume(&net.url, &ticket, 0).await;
    assert_eq!(counted(), (0, 1, 0, 0));
    lose(&net, peer).await;
    let session = net.server.sessions().remove(0);
    within("it expires", session.closed()).await;
    eventually("it is counted", || counted() == (0, 1, 1, 1)).await;
    net.stop().await;
}

#[test]
fn budgets_of_memory_are_those_of_the_servers_and_each_counts_once() {
    let monitor = PerformanceMonitor::new();
    let process = MemoryBudget::process().limit() as u64;
    assert_eq!(monitor.memory().budget_limit_bytes, process);
    let (small, large) = (MemoryBudget::new(1 << 20), MemoryBudget::new(1 << 30));
    let server = |name: &str, budget: &MemoryBudget| {
        let builder = Server::builder().listen(format!("mem://budget-{name}"));
        let builder = builder.name(name).monitor(&monitor).memory_budget(budget);
        builder.build().unwrap()
    };
    let one = server("one", &small);
    assert_eq!(one.memory_budget().limit(), 1 << 20);
    assert_eq!(monitor.memory().budget_limit_bytes, 1 << 20);
    let _same = server("same", &small);
    let _other = server("other", &large);
    let metrics = monitor.metrics();
    assert_eq!(metrics.memory.budget_limit_bytes, (1 << 20) + (1 << 30));
    let limit = |name| {
        let member = metrics.member(Role::Server, name).unwrap();
        member.memory.budget_limit_bytes
    };
    assert_eq!(
        (limit("one"), limit("same"), limit("other")),
        (1 << 20, 1 << 20, 1 << 30)
    );
}

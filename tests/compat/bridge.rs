use std::sync::atomic::AtomicBool;

use network_system::Message;
use network_system::container::Format;
use network_system::pipeline::{Keys, Secret};

use super::*;

/// A bridge that runs, and where its containers and errors go.
fn bridge() -> Arc<messaging_bridge> {
    let bridge = network_module::create_bridge("test_bridge");
    bridge.start().expect("it does not run yet");
    bridge
}

fn on_loopback(change: impl FnOnce(&mut server_config)) -> server_config {
    let mut config = server_config::default();
    config.bind_address = "127.0.0.1".to_owned();
    config.port = 0;
    change(&mut config);
    config
}

/// A server of the bridge that echoes, started.
fn echo_of(bridge: &messaging_bridge) -> Arc<messaging_server> {
    let server = bridge.create_server("test_server", on_loopback(|_config| {}));
    server.set_message_handler(|session, message| {
        let _ = session.send_message(message);
    });
    server.start_server(()).expect("a free port");
    server
}

fn client_in(bridge: &messaging_bridge, server: &messaging_server) -> Arc<messaging_client> {
    let client = bridge.create_client("test_client", ());
    client
        .start_client("127.0.0.1", server.port())
        .expect("the server is there");
    client
}

/// Sets a message handler and sends one message through the server.
fn exchange(client: &messaging_client, message: &[u8]) {
    let (tell, told) = seen();
    client.set_message_handler(move |message| {
        let _ = tell.send(message.to_vec());
    });
    client.send_message(message).expect("it is connected");
    assert_eq!(told.next(), message);
}

fn set(bridge: &messaging_bridge, change: impl FnOnce(&mut bridge_config)) -> VoidResult {
    let mut config = bridge.get_config();
    change(&mut config);
    bridge.set_config(config)
}

fn code(result: VoidResult) -> i32 {
    result.expect_err("it is refused").code
}

// Containers

/// The container integration test of the classic documents.
#[test]
fn a_container_that_a_client_sends_arrives_as_it_was() {
    let bridge = messaging_bridge::new("test_bridge");
    bridge
        .set_container_factory(Arc::new(value_factory::new()))
        .expect("it can be read");
    bridge.enable_container_serialization(true);
    let (tell, received) = seen();
    bridge.set_container_message_handler(move |container| {
        let _ = tell.send(container);
    });
    bridge.start().expect("it does not run yet");

    let server = bridge.create_server("test_server", ());
    let client = bridge.create_client("test_client", ());
    server.start_server(0).expect("a free port");
    client
        .start_client("127.0.0.1", server.port())
        .expect("the server is there");

    let mut container = value_container::new();
    container.set_source("test_client", "main");
    container.set_target("test_server", "handler");
    container.set_message_type("test_message");
    container.set_values([
        value_factory::create("text", container_system::string_value, "Hello, Container!")
            .expect("it is text"),
        value_factory::create("number", container_system::int32_value, "42")
            .expect("it is a number"),
    ]);
    client
        .send_message(container.serialize().expect("MessagePack carries it"))
        .expect("it is connected");

    let received = received.next();
    assert_eq!(received.message_type(), "test_message");
    assert_eq!(received.source_id(), "test_client");
    assert_eq!(received.target_id(), "test_server");
    let text = received.get_value("text").expect("it is there");
    assert_eq!(text.to_string(), "Hello, Container!");
    let number = received.get_value("number").expect("it is there");
    assert_eq!(number.to_int32(), Ok(42));
    assert_eq!(*received, container);

    bridge.stop().expect("it runs");
    assert!(!server.is_running() && !client.is_connected());
}

#[test]
fn what_is_no_container_is_reported_and_goes_to_the_message_handler() {
    let bridge = bridge();
    bridge.enable_container_serialization(true);
    let (tell, containers) = seen();
    bridge.set_container_message_handler(move |container| {
        let _ = tell.send(container.message_type().to_string_lossy().into_owned());
    });
    let (tell, errors) = seen();
    bridge.set_error_event_handler(move |text, code| {
        let _ = tell.send((text.to_owned(), code));
    });
    let server = echo_of(&bridge);
    let client = client_in(&bridge, &server);
    // The echo is no container either.
    let (tell, echoed) = seen();
    client.set_message_handler(move |message| {
        let _ = tell.send(message.to_vec());
    });
    client.send_message("plain text").expect("it is connected");
    assert_eq!(echoed.next(), b"plain text");
    for _side in ["server", "client"] {
        let (text, code) = errors.next();
        assert_eq!(code, error_codes::invalid_frame);
        assert!(
            text.contains("msgpack") && !text.contains("plain"),
            "{text}"
        );
    }

    let mut login = value_container::new();
    login.set_message_type("login");
    let bytes = login.serialize().expect("MessagePack carries it");
    client.send_message(&bytes).expect("the session goes on");
    assert_eq!(echoed.next(), bytes, "message handlers get containers too");
    assert_eq!([containers.next(), containers.next()], ["login", "login"]);
    errors.none();
    assert_eq!(bridge.get_metrics().receive_errors, 2);

    bridge.enable_container_serialization(false);
    client.send_message("plain text").expect("it is connected");
    assert_eq!(echoed.next(), b"plain text");
    errors.none();
}

#[test]
fn the_format_of_containers_is_configured_and_not_guessed() {
    let bridge = bridge();
    bridge.enable_container_serialization(true);
    bridge
        .set_container_format(Format::Text)
        .expect("it can be read");
    let (tell, containers) = seen();
    bridge.set_container_message_handler(move |container| {
        let _ = tell.send(container.get_string("user"));
    });
    let (tell, errors) = seen();
    bridge.set_error_event_handler(move |_text, code| {
        let _ = tell.send(code);
    });
    let server = bridge.create_server("", on_loopback(|_config| {}));
    server.start_server(()).expect("a free port");
    let client = client_in(&bridge, &server);
    let mut login = value_container::new();
    login.set_value("user", "ada");
    for format in [Format::Text, Format::MessagePack] {
        let bytes = login.serialize_as(format).expect("both carry it");
        client.send_message(bytes).expect("it is connected");
    }
    assert_eq!(containers.next().as_deref(), Some("ada"));
    assert_eq!(errors.next(), error_codes::invalid_frame);

    let refused = bridge.set_container_format(Format::Xml);
    assert_eq!(code(refused), error_codes::not_supported);
    let refused = bridge.set_container_factory(Arc::new(value_factory::with_format(Format::Xml)));
    assert_eq!(code(refused), error_codes::not_supported);
}

// Configuration

#[test]
fn the_default_configuration_is_the_classic_one_and_can_be_set() {
    let config = bridge_config::default();
    assert!(config.enable_performance_monitoring);
    assert!(!config.enable_message_logging);
    assert!(config.enable_connection_pooling);
    assert_eq!(config.max_connections_per_client, 10);
    assert_eq!(config.connection_timeout, Duration::from_millis(30_000));
    assert_eq!(config.message_timeout, Duration::from_millis(5_000));
    assert_eq!(config.message_buffer_size, 8192);
    assert!(!config.enable_compression);
    assert!(!config.enable_encryption);

    let bridge = messaging_bridge::default();
    assert_eq!(bridge.bridge_id(), "default");
    assert_eq!(bridge.get_config(), config);
    bridge.set_config(config).expect("it is valid");
}

#[test]
fn what_cannot_be_obeyed_is_refused_and_changes_nothing() {
    let bridge = messaging_bridge::new("");
    let before = bridge.get_config();
    let none = set(&bridge, |config| config.max_connections_per_client = 0);
    assert!(none.error().message.contains("max_connections_per_client"));
    assert_eq!(code(none), error_codes::invalid_configuration);
    let encryption = set(&bridge, |config| config.enable_encryption = true);
    assert!(encryption.error().message.contains("enable_encryption"));
    assert_eq!(code(encryption), error_codes::invalid_configuration);
    for change in [
        |config: &mut bridge_config| config.connection_timeout = Duration::ZERO,
        |config: &mut bridge_config| config.message_timeout = Duration::ZERO,
        |config: &mut bridge_config| config.message_timeout = Duration::MAX,
        |config: &mut bridge_config| config.message_buffer_size = usize::MAX,
    ] {
        assert_eq!(
            code(set(&bridge, change)),
            error_codes::invalid_configuration
        );
    }
    assert_eq!(bridge.get_config(), before);
}

#[test]
fn a_configuration_applies_to_what_is_made_afterwards() {
    let bridge = bridge();
    let early = bridge.create_client("", ());
    set(&bridge, |config| {
        config.connection_timeout = Duration::from_millis(200);
        config.message_buffer_size = 100_000;
    })
    .expect("it is valid");
    let late = bridge.create_client("", ());
    assert_eq!(early.get_config().connection_timeout.as_secs(), 30);
    assert_eq!(late.get_config().connection_timeout.as_millis(), 200);
    assert_eq!(late.get_config().receive_buffer_size, 100_000);
    let server = bridge.create_server("", ());
    assert_eq!(server.get_config().send_buffer_size, 100_000);

    // Nobody accepts, so that the opening is never complete.
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = silent.local_addr().expect("it is bound").port();
    let started = Instant::now();
    let result = late.start_client("127.0.0.1", port);
    assert_eq!(code(result), error_codes::connection_timeout);
    assert!(started.elapsed() < PROMPT);
    let metrics = bridge.get_metrics();
    assert_eq!(metrics.timeout_errors, 1);
    assert_eq!(metrics.failed_connections, 1);
}

#[test]
fn sending_waits_for_room_no_longer_than_the_message_timeout() {
    let bridge = bridge();
    set(&bridge, |config| {
        // Long enough for what sockets take to have been taken.
        config.message_timeout = Duration::from_millis(500);
    })
    .expect("it is valid");
    let server = bridge.create_server("", on_loopback(|_config| {}));
    server.start_server(()).expect("a free port");
    let client = client_in(&bridge, &server);
    let (tell, told) = seen();
    server.set_message_handler(move |session, _message| {
        let _ = tell.send(session);
    });
    let blocked = Arc::new(Mutex::new(()));
    let hold = blocked.lock().expect("nobody else has it");
    let wait = Arc::clone(&blocked);
    client.set_message_handler(move |_message| {
        let _blocked = wait.lock();
    });
    client
        .send_message("who reads nothing")
        .expect("it is connected");
    let session = told.next();

    let message = vec![0; 500_000];
    let refused = (0..200).find_map(|_| session.send_message(&message).err());
    let refused = refused.expect("there is an end to what fits");
    assert_eq!(refused.code, error_codes::queue_full);
    let metrics = bridge.get_metrics();
    assert_eq!((metrics.send_errors, metrics.timeout_errors), (1, 1));
    // Sockets may have taken some more meanwhile.
    let late = (0..200).find_map(|_| server.broadcast_message(&message).err());
    let late = late.expect("there is an end to what fits");
    assert_eq!(late.code, error_codes::queue_full);
    drop(hold);
}

#[test]
fn compression_is_agreed_on_and_works_with_peers_that_have_none() {
    let bridge = bridge();
    set(&bridge, |config| config.enable_compression = true).expect("it is valid");
    let server = echo_of(&bridge);
    let sessions = |server: &messaging_server| {
        let all = server.get_all_sessions();
        all.iter()
            .map(|session| session.native().pipeline().to_vec())
            .collect::<Vec<_>>()
    };
    let client = client_in(&bridge, &server);
    exchange(&client, &[7; 50_000]);
    assert_eq!(sessions(&server), [["lz4"]]);
    client.stop_client().expect("it stops");

    let (plain, messages) = client_of(&server);
    plain.send_message([7; 50_000]).expect("it is connected");
    assert_eq!(messages.next(), [7; 50_000]);

    let raw = bridge.create_server("", on_loopback(|config| config.codec = CodecKind::Raw));
    let refused = raw.start_server(());
    assert!(refused.error().message.contains("enable_compression"));
    assert_eq!(code(refused), error_codes::not_supported);
    let raw = bridge.create_client("", ());
    raw.set_codec(CodecKind::Lines);
    let refused = raw.start_client("127.0.0.1", server.port());
    assert_eq!(code(refused), error_codes::not_supported);
}

#[test]
fn encryption_needs_keys_and_peers_that_have_them() {
    let bridge = bridge();
    let secret = Secret::random().expect("there is randomness");
    let keys = Keys::new(1, secret);
    bridge
        .set_encryption_keys(keys.clone())
        .expect("they are valid");
    set(&bridge, |config| {
        config.enable_encryption = true;
        config.enable_compression = true;
    })
    .expect("there are keys");
    let server = echo_of(&bridge);
    let client = client_in(&bridge, &server);
    exchange(&client, b"for nobody else");
    let sessions = server.get_all_sessions();
    assert_eq!(
        *sessions[0].native().pipeline(),
        ["lz4", "aes-256-gcm"],
        "compressed before it is encrypted"
    );
    // Keys change while everything runs.
    keys.add(2, Secret::random().expect("there is randomness"))
        .expect("the id is new");
    keys.activate(2).expect("it is there");
    exchange(&client, b"by another key");

    let plain = messaging_client::new("");
    assert!(plain.start_client("127.0.0.1", server.port()).is_err());
    let other = messaging_bridge::new("other");
    let strange = Keys::new(1, Secret::random().expect("there is randomness"));
    other.set_encryption_keys(strange).expect("they are valid");
    set(&other, |config| config.enable_encryption = true).expect("there are keys");
    let wrong = other.create_client("", ());
    let (tell, ended) = seen();
    wrong.set_disconnect_handler(move |_reason| {
        let _ = tell.send(());
    });
    wrong
        .start_client("127.0.0.1", server.port())
        .expect("keys show with the first message");
    wrong.send_message("who am I").expect("it is connected");
    ended.next();
    exchange(&client, b"others go on");
}

// Threads

/// A pool of one thread that counts.
struct Counting(basic_thread_pool, Arc<AtomicUsize>);

impl thread_pool_interface for Counting {
    fn post(&self, task: Task) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.post(task);
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}

fn threads_of(server: &messaging_server, client: &messaging_client) -> (ThreadId, ThreadId) {
    let (tell, told) = seen();
    server.set_message_handler(move |session, message| {
        let _ = tell.send(std::thread::current().id());
        session.send_message(message).expect("the session is open");
    });
    let on_server = |client: &messaging_client| {
        exchange(client, b"where");
        told.next()
    };
    (on_server(client), on_server(client))
}

#[test]
fn callbacks_run_on_the_pool_that_was_set() {
    let bridge = bridge();
    let posted = Arc::new(AtomicUsize::new(0));
    let pool = basic_thread_pool::new(1).expect("there are threads");
    let pool: Arc<dyn thread_pool_interface> = Arc::new(Counting(pool, Arc::clone(&posted)));
    let (tell, told) = seen();
    pool.post(Box::new(move || {
        let _ = tell.send(std::thread::current().id());
    }));
    let thread = told.next();
    bridge.set_thread_pool(Arc::clone(&pool));
    let server = echo_of(&bridge);
    let client = client_in(&bridge, &server);
    assert_eq!(threads_of(&server, &client), (thread, thread));
    assert!(posted.load(Ordering::SeqCst) > 3);
    assert!(
        bridge
            .get_status_report()
            .contains("callback threads: pool of 1\n")
    );
    bridge.stop().expect("it runs");
}

#[test]
fn without_async_mode_callbacks_run_where_messages_are_read() {
    let bridge = bridge();
    bridge.set_async_mode(false);
    let server = echo_of(&bridge);
    let client = client_in(&bridge, &server);
    let (tell, told) = seen();
    let other = bridge.create_server("other", on_loopback(|_config| {}));
    let weak = Arc::downgrade(&server);
    server.set_message_handler(move |session, message| {
        let name = std::thread::current().name().map(str::to_owned);
        let Some(server) = weak.upgrade() else { return };
        // Nothing here can wait, and nothing hangs.
        let started = other.start_server(());
        let broadcast = server.broadcast_message(message);
        let full = (0..100).find_map(|_| session.send_message(vec![0; 1_000_000]).err());
        server.wait_for_stop();
        let _ = tell.send((name, started, broadcast, full));
        session.disconnect("seen enough");
    });
    client.set_message_handler(|_message| {});
    client.send_message("go").expect("it is connected");
    let (name, started, broadcast, full) = told.next();
    assert_eq!(name.as_deref(), Some("network-compat"));
    assert_eq!(code(started), error_codes::not_supported);
    broadcast.expect("there is room");
    assert_eq!(full.expect("the outbox ends").code, error_codes::queue_full);

    let next = client_in(&bridge, &server);
    let ended = Arc::new(AtomicBool::new(false));
    let weak = Arc::downgrade(&bridge);
    let (tell, told) = seen();
    let tell_end = Arc::clone(&ended);
    server.set_disconnect_handler(move |_session, _reason| {
        tell_end.store(true, Ordering::SeqCst);
    });
    server.set_message_handler(move |_session, _message| {
        let started = Instant::now();
        let result = weak.upgrade().map(|bridge| bridge.stop());
        let _ = tell.send((result, started.elapsed()));
    });
    next.send_message("stop").expect("it is connected");
    let (result, took) = told.next();
    assert_eq!(result, Some(Ok(())));
    assert!(took < PROMPT);
    server.wait_for_stop();
    assert!(!server.is_running());
    assert!(ended.load(Ordering::SeqCst));
}

// Metrics

#[test]
fn metrics_are_sums_over_all_and_can_be_reset() {
    let bridge = bridge();
    let zero = bridge.get_metrics();
    assert_eq!((zero.total_connections, zero.messages_sent), (0, 0));
    assert_eq!((zero.min_latency_us, zero.max_latency_us), (u64::MAX, 0));
    assert_eq!(zero.last_update, zero.start_time);

    let server = echo_of(&bridge);
    let client = client_in(&bridge, &server);
    exchange(&client, b"12345");
    let metrics = bridge.get_metrics();
    assert_eq!(metrics.active_connections, 2, "both ends");
    assert_eq!(metrics.total_connections, 2);
    assert_eq!((metrics.messages_sent, metrics.messages_received), (2, 2));
    assert_eq!((metrics.bytes_sent, metrics.bytes_received), (10, 10));
    assert!(metrics.last_update > metrics.start_time);

    // A request that nobody handles is answered as well.
    let session = server.get_all_sessions().remove(0);
    let native = session.native().clone();
    let answer = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("there are threads")
        .block_on(async move { native.ask(Message::binary("?")).await });
    assert!(answer.is_err());
    let metrics = bridge.get_metrics();
    assert!(metrics.max_latency_us > 0);
    assert!(metrics.min_latency_us <= metrics.avg_latency_us);
    assert!(metrics.avg_latency_us <= metrics.max_latency_us);

    let refused = client.start_client("127.0.0.1", server.port());
    assert!(refused.is_err(), "it is connected");
    let nowhere = bridge.create_client("", ());
    let closed = ClosedPort::take();
    assert!(nowhere.start_client("127.0.0.1", closed.port()).is_err());
    assert_eq!(
        code(nowhere.send_message("x")),
        error_codes::connection_closed
    );
    let metrics = bridge.get_metrics();
    assert_eq!((metrics.failed_connections, metrics.send_errors), (1, 1));

    // What a server counts for itself is its own, and what is gone has counted.
    server.reset_statistics();
    assert_eq!(bridge.get_metrics().total_connections, 2);
    client.stop_client().expect("it stops");
    drop((client, nowhere));
    let metrics = bridge.get_metrics();
    assert_eq!(
        (metrics.total_connections, metrics.failed_connections),
        (2, 1)
    );

    bridge.reset_metrics();
    let metrics = bridge.get_metrics();
    assert_eq!((metrics.total_connections, metrics.bytes_sent), (0, 0));
    assert_eq!((metrics.failed_connections, metrics.send_errors), (0, 0));
    assert_eq!(
        (metrics.min_latency_us, metrics.avg_latency_us),
        (u64::MAX, 0)
    );
    assert!(metrics.start_time > zero.start_time);
    let again = client_in(&bridge, &server);
    exchange(&again, b"123");
    assert_eq!(bridge.get_metrics().bytes_sent, 6);
}

#[test]
fn nothing_is_counted_without_performance_monitoring() {
    let bridge = bridge();
    set(&bridge, |config| {
        config.enable_performance_monitoring = false;
    })
    .expect("it is valid");
    let server = echo_of(&bridge);
    let client = client_in(&bridge, &server);
    exchange(&client, b"12345");
    let metrics = bridge.get_metrics();
    assert_eq!((metrics.total_connections, metrics.messages_sent), (0, 0));
    drop((client, server));
    assert_eq!(bridge.get_metrics().total_connections, 0);
    assert!(
        bridge
            .get_status_report()
            .contains("\nservers: 0\nclients: 0\n")
    );
}

// Events

#[test]
fn connections_and_errors_of_all_are_told() {
    let bridge = bridge();
    let (tell, connections) = seen();
    bridge.set_connection_event_handler(move |endpoint, connected| {
        let _ = tell.send((endpoint.to_owned(), connected));
    });
    let (tell, errors) = seen();
    bridge.set_error_event_handler(move |_text, code| {
        let _ = tell.send(code);
    });
    let server = echo_of(&bridge);
    let (tell, own) = seen();
    server.set_error_handler(move |_text, code| {
        let _ = tell.send(code);
    });
    let mut broken = TcpStream::connect(("127.0.0.1", server.port())).expect("it listens");
    broken.write_all(b"no frame at all").expect("it is open");
    assert_eq!(errors.next(), error_codes::invalid_frame);
    assert_eq!(own.next(), error_codes::invalid_frame, "its own as well");
    assert_eq!(bridge.get_metrics().receive_errors, 1);

    let client = client_in(&bridge, &server);
    let at_server = format!("127.0.0.1:{}", server.port());
    let both = [connections.next(), connections.next()];
    assert!(both.contains(&(at_server.clone(), true)), "{both:?}");
    assert!(both.iter().all(|(_, connected)| *connected));
    client.stop_client().expect("it stops");
    let both = [connections.next(), connections.next()];
    assert!(both.contains(&(at_server, false)), "{both:?}");
}

// Lifecycle

#[test]
fn a_bridge_starts_stops_and_starts_again() {
    let bridge = messaging_bridge::new("b");
    assert!(!bridge.is_running());
    let server = echo_of(&bridge);
    assert!(server.is_running(), "before the first start of the bridge");
    bridge.start().expect("it does not run");
    assert_eq!(code(bridge.start()), error_codes::server_already_running);
    assert!(bridge.is_running() && server.is_running());
    let client = client_in(&bridge, &server);

    bridge.stop().expect("it runs");
    assert!(!bridge.is_running());
    assert!(!server.is_running() && !client.is_connected());
    assert_eq!(code(bridge.stop()), error_codes::server_not_started);
    assert_eq!(code(server.start_server(())), error_codes::shutting_down);
    let refused = client.start_client("127.0.0.1", 1);
    assert_eq!(code(refused), error_codes::shutting_down);
    assert_eq!(
        code(bridge.create_server("", ()).start_server(0)),
        error_codes::shutting_down
    );

    bridge.start().expect("it has stopped");
    server.start_server(()).expect("a free port");
    client
        .start_client("127.0.0.1", server.port())
        .expect("the server is there");
    exchange(&client, b"again");
}

#[test]
fn a_bridge_can_be_stopped_in_every_callback_of_what_it_made() {
    for place in ["connection", "connect", "message", "container", "error"] {
        let bridge = bridge();
        bridge.enable_container_serialization(true);
        let (tell, told) = seen();
        let weak: Weak<messaging_bridge> = Arc::downgrade(&bridge);
        let stop = Arc::new(move |here: &str| {
            if here == place {
                let started = Instant::now();
                let result = weak.upgrade().map(|bridge| bridge.stop());
                let _ = tell.send((result, started.elapsed()));
            }
        });
        let here = Arc::clone(&stop);
        bridge.set_connection_event_handler(move |_, connected| {
            if connected {
                here("connection");
            }
        });
        let here = Arc::clone(&stop);
        bridge.set_container_message_handler(move |_| here("container"));
        let here = Arc::clone(&stop);
        bridge.set_error_event_handler(move |_, _| here("error"));
        let server = bridge.create_server("", on_loopback(|_config| {}));
        let here = Arc::clone(&stop);
        server.set_connect_handler(move |_| here("connect"));
        let here = Arc::clone(&stop);
        server.set_message_handler(move |_, _| here("message"));
        server.start_server(()).expect("a free port");
        let client = bridge.create_client("", ());
        if client.start_client("127.0.0.1", server.port()).is_ok() {
            // It may be over already.
            let container = value_container::new();
            let _ = client.send_message(container.serialize().expect("it is carried"));
            let _ = client.send_message("no container");
        }
        let (result, took) = told.next();
        assert!(matches!(result, Some(Ok(()))), "{place}: {result:?}");
        assert!(took < PROMPT, "{place}");
        server.wait_for_stop();
        client.wait_for_stop();
        assert!(!client.is_connected(), "{place}");
    }
}

#[test]
fn dropping_a_bridge_stops_what_it_made() {
    let bridge = messaging_bridge::new("");
    let server = echo_of(&bridge);
    let client = client_in(&bridge, &server);
    drop(bridge);
    assert!(!server.is_running() && !client.is_connected());
    assert_eq!(code(server.start_server(())), error_codes::shutting_down);
}

#[test]
fn a_server_that_nobody_holds_stops_though_its_bridge_is_there() {
    let bridge = bridge();
    let server = echo_of(&bridge);
    let port = server.port();
    assert!(bridge.get_status_report().contains("servers: 1\n"));
    drop(server);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(bridge.get_status_report().contains("servers: 0\n"));
}

#[test]
fn all_generations_of_names_make_members() {
    let bridge: MessagingBridge = messaging_bridge::new("names");
    let server = bridge.make_messaging_server("s");
    server.set_message_handler(|session, message| {
        let _ = session.send_message(message);
    });
    server.start_server(("127.0.0.1", 0)).expect("a free port");
    let client = bridge.make_messaging_client("c");
    client
        .start_client("127.0.0.1", server.port())
        .expect("the server is there");
    exchange(&client, b"x");
    let free = integration::compat::make_messaging_client("free");
    free.start_client("127.0.0.1", server.port())
        .expect("the server is there");
    drop(bridge);
    assert!(!client.is_connected());
}

// Diagnostics

#[test]
fn the_status_report_has_a_line_for_each_thing() {
    let bridge = bridge();
    let server = echo_of(&bridge);
    let client = client_in(&bridge, &server);
    let idle = bridge.create_client("idle \n one", ());
    exchange(&client, b"12345");
    let report = bridge.get_status_report();
    let port = server.port();
    let expected = format!(
        "bridge: \"test_bridge\"
state: running
callback threads: as needed
containers: off
performance monitoring: on
message logging: off
connection pooling: up to 10 connections a pool
connection timeout: 30000 ms
message timeout: 5000 ms
message buffers: the system's
compression: off
encryption: off
connections: 2 active, 2 in all, 0 failed
messages: 2 sent, 2 received
bytes: 10 sent, 10 received
latency: not measured yet
errors: 0 sending, 0 receiving, 0 timeouts
servers: 1
  server \"test_server\": running on 127.0.0.1:{port}, connections 1
clients: 2
  client \"test_client\": connected
  client \"idle \\n one\": stopped
"
    );
    assert_eq!(report, expected);
    drop(idle);
    bridge.stop().expect("it runs");
    let report = bridge.get_status_report();
    assert!(report.contains("state: stopped\n"), "{report}");
    assert!(
        report.contains("server \"test_server\": stopped\n"),
        "{report}"
    );
}

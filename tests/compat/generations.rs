use super::*;

#[test]
fn the_first_echoes() {
    let server = network_module::create_server("legacy_server");
    server.set_max_connections(10);
    server.set_message_size_limit(1024);
    server.set_timeout_seconds(30);
    server.set_message_handler(|session, message| {
        session
            .send_message([b"Echo: ", message].concat())
            .expect("it is open");
    });
    assert!(server.start_server(("127.0.0.1", 0)).is_ok());
    let client = network_module::create_client("legacy_client");
    let (tell, messages) = seen();
    client.set_message_handler(move |message| {
        let _ = tell.send(message.to_vec());
    });
    assert!(client.start_client("127.0.0.1", server.port()).is_ok());
    client
        .send_message(String::from("one"))
        .expect("it is connected");
    client
        .send_raw_message([0, 159, 146, 150])
        .expect("it is connected");
    assert_eq!(messages.next(), b"Echo: one");
    assert_eq!(messages.next(), b"Echo: \0\x9f\x92\x96");
    client.stop_client().expect("it stops");
    server.stop_server().expect("it runs");
}

#[test]
fn the_second_echoes() {
    let server = make_messaging_server("MyServer");
    server.on_receive(|session, data| {
        session.send_packet(data.to_vec()).expect("it is open");
    });
    server.on_error(|error| panic!("{}: {}", error.code, error.message));
    let result: VoidResult = server.start_server(("127.0.0.1".to_owned(), 0));
    if result.is_err() {
        panic!("{} (code {})", result.error().message, result.error().code);
    }
    let client = make_messaging_client("MyClient");
    let (tell, received) = seen();
    client.on_receive(move |data| {
        let _ = tell.send(data.to_vec());
    });
    client.on_error(|error| panic!("{}: {}", error.code, error.message));
    let result = client
        .start_client("localhost", server.port())
        .and_then(|()| client.send_packet(b"Hello".to_vec()))
        .or_else(|error| error_void(error.code, error.message));
    assert_eq!(result, ok(()));
    assert_eq!(received.next(), b"Hello");
    client.stop_client().expect("it stops");
    client.wait_for_stop();
    assert!(client.send_packet(vec![1]).is_err());
    server.stop_server().expect("it runs");
}

#[test]
fn the_third_echoes() {
    let server = Arc::new(MessagingServer::new("127.0.0.1", 0, None));
    let (tell_connect, connects) = seen();
    server.on_client_connected(move |id| {
        let _ = tell_connect.send(id);
    });
    let (tell_disconnect, disconnects) = seen();
    server.on_client_disconnected(move |id| {
        let _ = tell_disconnect.send(id);
    });
    let echo = Arc::downgrade(&server);
    server.on_message_received(move |id: session_id, data| {
        let server = echo.upgrade().expect("it calls");
        server.send(id, data).expect("it is open");
        server
            .broadcast([b"all: ", data].concat())
            .expect("it runs");
    });
    server.start().expect("a free port");

    let client = MessagingClient::new("127.0.0.1", server.port());
    let (tell, opened) = seen();
    client.on_connected(move || {
        let _ = tell.send(());
    });
    let (tell, closed) = seen();
    client.on_disconnected(move || {
        let _ = tell.send(());
    });
    let (tell, messages) = seen();
    client.on_message_received(move |data| {
        let _ = tell.send(data.to_vec());
    });
    client.enable_auto_reconnect(true, Duration::from_millis(5));
    assert!(!client.is_connected());
    client
        .connect()
        .and_then(|()| client.send(b"hi"))
        .expect("the server is there");
    opened.next();
    let id = connects.next();
    assert_eq!(messages.next(), b"hi");
    assert_eq!(messages.next(), b"all: hi");

    let session: Arc<MessagingSession> = server.get_session(id).expect("it is open");
    assert_eq!(session.get_id(), id);
    let (tell, own) = seen();
    session.set_on_message(move |data| {
        let _ = tell.send(data.to_vec());
    });
    session.async_send(b"pushed".to_vec()).expect("it is open");
    assert_eq!(messages.next(), b"pushed");
    client.send("for the session").expect("it is connected");
    assert_eq!(own.next(), b"for the session");
    let manager = SessionManager::new();
    manager.add_session(Arc::clone(&session));
    assert_eq!(manager.broadcast_message("managed"), 1);
    assert_eq!(messages.next(), b"managed");

    session.disconnect("");
    closed.next();
    assert_eq!(disconnects.next(), id);
    opened.next();
    assert_ne!(connects.next(), id, "another connection is another session");
    // It is forgotten when its callback has returned.
    let since = Instant::now();
    while server.send(id, "gone").error().code != error_codes::session_not_found {
        assert!(since.elapsed() < LONG);
        std::thread::yield_now();
    }
    client.disconnect();
    closed.next();
    assert!(!client.is_connected());
    server.stop().expect("it runs");
    assert!(!server.is_running());
    assert_eq!(server.stop().error().code, error_codes::server_not_started);
}

/// A pool of one thread.
struct OneThread(Mutex<Sender<Task>>);

impl OneThread {
    fn new() -> (Arc<Self>, ThreadId) {
        let (post, tasks) = channel::<Task>();
        let thread = std::thread::spawn(move || tasks.into_iter().for_each(|task| task()));
        let id = thread.thread().id();
        (Arc::new(OneThread(Mutex::new(post))), id)
    }
}

impl thread_pool_interface for OneThread {
    fn post(&self, task: Task) {
        let _ = self
            .0
            .lock()
            .expect("no task runs under the lock")
            .send(task);
    }

    fn size(&self) -> usize {
        1
    }
}

#[test]
fn a_basic_pool_runs_the_callbacks_of_a_session_in_order_on_its_threads() {
    let pool = Arc::new(basic_thread_pool::new(3).expect("three threads"));
    assert_eq!(pool.size(), 3);
    let server = MessagingServer::new("127.0.0.1", 0, Some(pool.clone()));
    let (tell, told) = seen();
    server.on_message_received(move |_id, data| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default().to_owned();
        let _ = tell.send((name, data.to_vec()));
    });
    server.start().expect("a free port");
    let client = MessagingClient::new("127.0.0.1", server.port());
    client.connect().expect("the server is there");
    for number in 0..200 {
        client.send(number.to_string()).expect("it is connected");
    }
    for number in 0..200 {
        let (thread, data) = told.next();
        assert!(thread.starts_with("network-pool-"), "{thread}");
        assert_eq!(data, number.to_string().as_bytes());
    }
    client.disconnect();
    server.stop().expect("it runs");
    pool.stop();
    assert_eq!(pool.pending_tasks(), 0);
}

#[test]
fn a_full_basic_pool_makes_sessions_wait_and_loses_nothing() {
    const LEN: usize = 8 * 1024;
    const MESSAGES: usize = 1_000;
    let pool = Arc::new(basic_thread_pool::with_queue(1, 1).expect("a thread"));
    let (go, gate) = channel::<()>();
    let (tell, told) = seen();
    // The only thread is kept by something else.
    pool.post(Box::new(move || {
        let _ = gate.recv();
    }));
    let server = MessagingServer::new("127.0.0.1", 0, Some(pool.clone()));
    server.on_message_received(move |id, data| {
        let _ = tell.send((id, data.len()));
    });
    server.start().expect("a free port");
    let clients: Vec<_> = (0..3)
        .map(|_| MessagingClient::new("127.0.0.1", server.port()))
        .collect();
    for client in &clients {
        client.connect().expect("the server is there");
    }
    std::thread::scope(|scope| {
        for client in &clients {
            scope.spawn(|| {
                for _ in 0..MESSAGES {
                    client.send([7; LEN]).expect("it is connected");
                }
            });
        }
        while pool.pending_tasks() < 1 {
            std::thread::yield_now();
        }
        let refused = pool.try_post(Box::new(|| {}));
        assert!(refused.is_err(), "there is no room");
        told.none();
        go.send(()).expect("the task waits");
        for _ in 0..clients.len() * MESSAGES {
            assert_eq!(told.next().1, LEN);
        }
    });
    assert!(pool.pending_tasks() <= 1);
    for client in &clients {
        client.disconnect();
    }
    server.stop().expect("it runs");
}

#[test]
fn a_task_that_panics_takes_no_thread_of_a_basic_pool() {
    let pool = basic_thread_pool::new(1).expect("a thread");
    let (tell, told) = seen();
    pool.post(Box::new(|| panic!("a task")));
    pool.post(Box::new(move || {
        let _ = tell.send("the next one");
    }));
    assert_eq!(told.next(), "the next one");
    let refused = basic_thread_pool::with_queue(1, 0);
    assert_eq!(
        refused.expect_err("no room").code,
        error_codes::invalid_configuration
    );
}

/// A pool that is none: its tasks run where they are posted.
struct Inline;

impl thread_pool_interface for Inline {
    fn post(&self, task: Task) {
        task();
    }

    fn size(&self) -> usize {
        0
    }
}

/// A pool that has been shut down.
struct Gone;

impl thread_pool_interface for Gone {
    fn post(&self, _task: Task) {}

    fn size(&self) -> usize {
        0
    }
}

#[test]
fn a_pool_runs_the_callbacks() {
    let (pool, its_thread) = OneThread::new();
    let server = MessagingServer::new("127.0.0.1", 0, Some(pool));
    let (tell, threads) = seen();
    let told = tell.clone();
    server.on_client_connected(move |_id| {
        let _ = told.send(std::thread::current().id());
    });
    server.on_message_received(move |_id, _data| {
        let _ = tell.send(std::thread::current().id());
    });
    server.start().expect("a free port");
    let client = MessagingClient::new("127.0.0.1", server.port());
    client.connect().expect("the server is there");
    client.send("where am I?").expect("it is connected");
    assert_eq!(threads.next(), its_thread);
    assert_eq!(threads.next(), its_thread);
}

#[test]
fn a_pool_that_runs_tasks_where_they_are_posted_stops_nobody() {
    let server = Arc::new(MessagingServer::new("127.0.0.1", 0, Some(Arc::new(Inline))));
    let weak = Arc::downgrade(&server);
    server.on_message_received(move |_id, _data| {
        let server = weak.upgrade().expect("it calls");
        server.stop().expect("it runs");
    });
    server.start().expect("a free port");
    let client = MessagingClient::new("127.0.0.1", server.port());
    client.connect().expect("the server is there");
    let before = Instant::now();
    client.send("stop").expect("it is connected");
    client.client_ended();
    assert!(before.elapsed() < PROMPT);
}

#[test]
fn a_pool_that_runs_nothing_ends_sessions() {
    let server = MessagingServer::new("127.0.0.1", 0, Some(Arc::new(Gone)));
    server.on_message_received(|_id, _data| {});
    server.start().expect("a free port");
    let client = MessagingClient::new("127.0.0.1", server.port());
    let (tell, closed) = seen();
    client.on_disconnected(move || {
        let _ = tell.send(());
    });
    client.connect().expect("the server is there");
    // It may have ended already: the connect callback did not run.
    let _ = client.send("hello?");
    closed.next();
}

trait Ended {
    fn client_ended(&self);
}

impl Ended for MessagingClient {
    /// Waits until the connection has ended.
    fn client_ended(&self) {
        while self.is_connected() {
            std::thread::yield_now();
        }
    }
}

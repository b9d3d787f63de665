use super::*;

#[test]
fn a_server_starts_and_stops() {
    let server = messaging_server::new("main_server");
    assert!(!server.is_running());
    assert_eq!(
        (server.server_id().as_str(), server.port()),
        ("main_server", 8080)
    );
    assert_eq!(server.bind_address(), "0.0.0.0");

    server.start_server(("127.0.0.1", 0)).expect("a free port");
    assert!(server.is_running());
    assert_ne!(server.port(), 0);
    assert_eq!(server.bind_address(), "127.0.0.1");
    assert_eq!(server.connection_count(), 0);

    server.stop_server().expect("it runs");
    assert!(!server.is_running());
}

#[test]
fn the_classic_default_address_is_every_interface() {
    let server = messaging_server::new("");
    server.start_server(0).expect("a free port");
    assert_eq!(server.bind_address(), "0.0.0.0");
    let (client, _messages) = client_of(&server);
    assert!(client.is_connected());
}

#[test]
fn what_cannot_be_started_or_stopped_says_so() {
    let server = echo();
    let error = server.start_server(0).expect_err("it runs already");
    assert_eq!(error.code, error_codes::server_already_running);

    let second = messaging_server::new("second");
    assert_eq!(
        second.stop_server().error().code,
        error_codes::server_not_started,
        "it never ran"
    );
    let taken = second.start_server(("127.0.0.1", server.port()));
    assert_eq!(taken.error().code, error_codes::bind_failed);
    assert!(taken.error().message.contains(&server.port().to_string()));
    assert!(!second.is_running());

    second.set_message_size_limit(0);
    let refused = second.start_server(("127.0.0.1", 0));
    assert_eq!(refused.error().code, error_codes::invalid_configuration);
    assert!(
        refused.error().message.contains("message_size"),
        "{:?}",
        refused.error()
    );
    assert!(second.start_server(("not a host", 0)).is_err());

    second.set_message_size_limit(100);
    second
        .start_server(("127.0.0.1", 0))
        .expect("it is valid now");
}

#[test]
fn a_server_can_be_started_again_and_counts_on() {
    let server = echo();
    for round in 1..=3 {
        let (client, messages) = client_of(&server);
        client.send_message("again").expect("it is connected");
        assert_eq!(messages.next(), b"again");
        client.stop_client().expect("it stops");
        server.stop_server().expect("it runs");
        let statistics = server.get_statistics();
        assert_eq!(statistics.total_connections, round);
        assert_eq!(statistics.messages_received, round);
        server.start_server(()).expect("a free port");
    }
}

#[test]
fn wait_for_stop_returns_when_another_thread_stops() {
    let server = echo();
    let (client, _messages) = client_of(&server);
    let client = Arc::new(client);
    let waiting = {
        let (server, client) = (Arc::clone(&server), Arc::clone(&client));
        std::thread::spawn(move || {
            client.wait_for_stop();
            server.wait_for_stop();
            assert!(!client.is_connected());
        })
    };
    server.stop_server().expect("it runs");
    waiting.join().expect("it saw the stop");
    server.wait_for_stop();
    client.wait_for_stop();
}

#[test]
fn dropping_stops() {
    let (tell, ended) = seen();
    let server = echo();
    server.set_disconnect_handler(move |_session, reason| {
        let _ = tell.send(reason.to_owned());
    });
    let (client, messages) = client_of(&server);
    client.send_message("last words").expect("it is connected");
    assert_eq!(messages.next(), b"last words");
    drop(client);
    assert_eq!(ended.next(), "shutting down");

    let port = server.port();
    drop(server);
    assert!(
        TcpStream::connect(("127.0.0.1", port)).is_err(),
        "nobody listens any more"
    );
}

#[test]
fn a_stop_loses_nothing_that_was_accepted() {
    const COUNT: usize = 500;
    let received = Arc::new(AtomicUsize::new(0));
    let server = echo();
    let counter = Arc::clone(&received);
    server.set_message_handler(move |_session, message| {
        assert_eq!(message.len(), 1_000);
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let (client, _messages) = client_of(&server);
    for _ in 0..COUNT {
        client.send_packet(vec![7; 1_000]).expect("it is connected");
    }
    client.stop_client().expect("it stops");
    assert_eq!(received.load(Ordering::SeqCst), COUNT);
}

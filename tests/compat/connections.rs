use super::*;

#[test]
fn messages_go_both_ways_and_handlers_say_who() {
    let (tell_connect, connects) = seen();
    let (tell_message, received) = seen();
    let (tell_disconnect, disconnects) = seen();
    let server = echo();
    server.set_connect_handler(move |session| {
        let _ = tell_connect.send((session.session_id(), session.client_id()));
    });
    server.set_message_handler(move |session, message| {
        let _ = tell_message.send((session, message.to_vec()));
    });
    server.set_disconnect_handler(move |session, reason| {
        let _ = tell_disconnect.send((session.session_id(), reason.to_owned()));
    });

    let client = messaging_client::new("client_01");
    let (tell, opened) = seen();
    client.set_connect_handler(move || {
        let _ = tell.send(());
    });
    let (tell, messages) = seen();
    client.set_message_handler(move |message| {
        let _ = tell.send(message.to_vec());
    });
    let (tell, closed) = seen();
    client.set_disconnect_handler(move |reason| {
        let _ = tell.send(reason.to_owned());
    });
    assert!(!client.is_connected());
    client
        .start_client("localhost", server.port())
        .expect("the server is there");
    opened.next();
    assert!(client.is_connected());
    assert_eq!(client.client_id(), "client_01");
    let (id, name) = connects.next();
    assert_eq!(name, "client_01");
    assert_eq!(server.connection_count(), 1);

    client
        .send_message("Hello, Server!")
        .expect("it is connected");
    let (session, message) = received.next();
    assert_eq!(
        (session.session_id(), message),
        (id.clone(), b"Hello, Server!".to_vec())
    );
    session
        .send_message("Hello, Client!")
        .expect("it is connected");
    assert_eq!(messages.next(), b"Hello, Client!");

    // Every byte is carried, none at all too.
    let every: Vec<u8> = (0..=255).collect();
    client.send_raw_message(&every).expect("it is connected");
    assert_eq!(received.next().1, every);
    client.send_message("").expect("it is connected");
    assert_eq!(received.next().1, b"");

    session.disconnect("that is enough");
    assert_eq!(closed.next(), "that is enough");
    assert_eq!(disconnects.next(), (id, "that is enough".to_owned()));
    client.wait_for_stop();
    assert!(!client.is_connected());
    let refused = client.send_message("too late");
    assert_eq!(refused.error().code, error_codes::connection_closed);
    let refused = session.send_message("too late");
    assert_eq!(refused.error().code, error_codes::connection_closed);
    opened.none();
}

#[test]
fn connecting_to_a_closed_port_fails_and_says_so() {
    let client = messaging_client::new("client_01");
    let (tell, opened) = seen::<()>();
    client.set_connect_handler(move || {
        let _ = tell.send(());
    });
    let closed = ClosedPort::take();
    let port = closed.port();
    let result = client.start_client("127.0.0.1", port);
    assert!(result.is_err());
    assert_eq!(result.error().code, error_codes::connection_refused);
    assert!(
        result.error().message.contains(&port.to_string()),
        "{}",
        result.error()
    );
    assert!(!client.is_connected());
    opened.none();
    assert!(client.send_message("nobody hears").is_err());
    client.wait_for_stop();
    client.stop_client().expect("there is nothing to stop");

    let server = echo();
    client
        .start_client("127.0.0.1", server.port())
        .expect("it can be tried again");
    let twice = client.start_client("127.0.0.1", server.port());
    assert_eq!(twice.error().code, error_codes::connection_failed);
    assert!(client.is_connected(), "the connection that there is stays");
}

#[test]
fn no_more_connections_than_the_limit() {
    let mut config = server_config::default();
    config.max_connections = 2;
    let server = echo();
    server.stop_server().expect("it runs");
    config.bind_address = "127.0.0.1".into();
    config.port = 0;
    server.set_config(config.clone());
    assert_eq!(server.get_config(), config);
    server.start_server(()).expect("a free port");

    let (_first, _) = client_of(&server);
    let (second, _) = client_of(&server);
    let third = messaging_client::new("");
    let refused = third.start_client("127.0.0.1", server.port());
    assert_eq!(refused.error().code, error_codes::too_many_connections);
    assert_eq!(server.connection_count(), 2);

    let (tell, ended) = seen();
    server.set_disconnect_handler(move |_session, _reason| {
        let _ = tell.send(());
    });
    second.stop_client().expect("it stops");
    ended.next();
    third
        .start_client("127.0.0.1", server.port())
        .expect("there is a place again");
}

#[test]
fn a_message_over_the_limit_is_refused_where_it_is_sent() {
    let server = echo_with(|config| config.message_size_limit = 10);
    let (client, messages) = client_of(&server);
    client
        .send_message("0123456789")
        .expect("it is of the limit");
    assert_eq!(messages.next(), b"0123456789");
    let refused = client.send_message("0123456789A");
    assert_eq!(refused.error().code, error_codes::message_too_large);
    let refused = server.broadcast_message("0123456789A");
    assert_eq!(refused.error().code, error_codes::message_too_large);
}

#[test]
fn a_silent_connection_ends_after_the_timeout() {
    let server = echo_with(|config| {
        config.codec = CodecKind::Raw;
        config.timeout = Duration::from_millis(200);
    });
    let (tell, ended) = seen();
    server.set_disconnect_handler(move |_session, reason| {
        let _ = tell.send(reason.to_owned());
    });
    let (tell, errors) = seen();
    server.on_error(move |error| {
        let _ = tell.send(error.code);
    });
    let mut peer = TcpStream::connect(("127.0.0.1", server.port())).expect("it listens");
    assert_eq!(peer.read(&mut [0; 8]).expect("an orderly end"), 0);
    assert!(ended.next().starts_with("nothing received for 200ms"));
    assert_eq!(errors.next(), error_codes::idle_timeout);
}

#[test]
fn a_lost_connection_is_made_again() {
    let server = echo();
    let client = messaging_client::new("comes back");
    let (tell, opened) = seen();
    client.set_connect_handler(move || {
        let _ = tell.send(());
    });
    let (tell, closed) = seen();
    client.set_disconnect_handler(move |_reason| {
        let _ = tell.send(());
    });
    let (tell, messages) = seen();
    client.on_receive(move |message| {
        let _ = tell.send(message.to_vec());
    });
    client.enable_auto_reconnect(true, Duration::from_millis(5));
    client
        .start_client("127.0.0.1", server.port())
        .expect("the server is there");
    opened.next();
    for _ in 0..3 {
        server.disconnect_all_sessions();
        closed.next();
        // It goes out when there is a connection again.
        client
            .send_message("still here")
            .expect("it is queued at least");
        opened.next();
        assert_eq!(messages.next(), b"still here");
    }
    client.stop_client().expect("it stops");
    closed.next();
    opened.none();
}

#[test]
fn without_auto_reconnect_a_lost_connection_is_the_end() {
    let server = echo();
    let (client, _messages) = client_of(&server);
    server.disconnect_all_sessions();
    client.wait_for_stop();
    assert!(!client.is_connected());
}

use super::*;

/// The session of the only client, as soon as it is there.
fn only_session(server: &messaging_server) -> Arc<messaging_session> {
    let sessions = server.get_all_sessions();
    assert_eq!(sessions.len(), 1);
    Arc::clone(&sessions[0])
}

/// A server, a client that has exchanged a message, and its session.
fn conversation() -> (
    Arc<messaging_server>,
    messaging_client,
    Arc<messaging_session>,
) {
    let server = echo();
    let (client, messages) = client_named("alice", &server);
    client.send_message("first").expect("it is connected");
    assert_eq!(messages.next(), b"first");
    let session = only_session(&server);
    (server, client, session)
}

#[test]
fn a_session_knows_its_ends() {
    let (server, _client, session) = conversation();
    assert_eq!(session.client_id(), "alice");
    assert_eq!(session.remote_address(), "127.0.0.1");
    assert_ne!(session.remote_port(), 0);
    assert_eq!(session.local_address(), "127.0.0.1");
    assert_eq!(session.local_port(), server.port());
    assert!(session.is_connected());
    assert_eq!(session.state(), session_state::connected);
    assert!(session.connect_time() <= session.last_activity());
    assert_eq!(session.session_id(), session.get_id().to_string());

    let same = server
        .get_session(&session.session_id())
        .expect("it is open");
    assert!(Arc::ptr_eq(&same, &session), "a session is one object");
    assert!(server.get_session("no such id").is_none());
    assert!(server.get_session("999999").is_none());
}

#[test]
fn session_data_are_bytes() {
    let (_server, _client, session) = conversation();
    assert!(!session.has_session_data("user"));
    assert_eq!(session.get_session_data("user"), b"");
    session.set_session_data("user", "alice");
    session.set_session_data(b"\xff", [0, 1, 255]);
    assert!(session.has_session_data("user"));
    assert_eq!(session.get_session_data("user"), b"alice");
    assert_eq!(session.get_session_data(b"\xff"), [0, 1, 255]);
    session.remove_session_data("user");
    assert!(!session.has_session_data("user"));
    session.clear_session_data();
    assert!(!session.has_session_data(b"\xff"));
}

#[test]
fn groups_have_their_own_broadcast() {
    let server = echo();
    let (_alice, alice_hears) = client_named("alice", &server);
    let (bob, bob_hears) = client_named("bob", &server);
    let session = |name: &str| {
        let mut sessions = server.get_all_sessions().into_iter();
        sessions
            .find(|session| session.client_id() == name)
            .expect("it is connected")
    };
    let (alice_session, bob_session) = (session("alice"), session("bob"));
    let alice_id = alice_session.session_id();
    server
        .add_session_to_group(&alice_id, "room")
        .expect("it is open");
    bob_session.join_group("room").expect("it is open");
    bob_session.join_group("lobby").expect("it is open");
    assert_eq!(bob_session.get_groups(), ["lobby", "room"]);
    assert_eq!(server.get_session_groups(&alice_id), ["room"]);
    assert!(alice_session.is_in_group("room") && !alice_session.is_in_group("lobby"));

    server
        .broadcast_to_group("room", "to the room")
        .expect("it runs");
    assert_eq!(alice_hears.next(), b"to the room");
    assert_eq!(bob_hears.next(), b"to the room");
    server
        .remove_session_from_group(&alice_id, "room")
        .expect("it is open");
    server
        .broadcast_to_group("room", "to bob")
        .expect("it runs");
    server
        .broadcast_to_group("nobody is here", "to nobody")
        .expect("it runs");
    bob_session.leave_group("room");
    server.broadcast_message("to all").expect("it runs");
    assert_eq!(bob_hears.next(), b"to bob");
    assert_eq!(bob_hears.next(), b"to all");
    assert_eq!(alice_hears.next(), b"to all");

    let code = |result: VoidResult| result.error().code;
    assert_eq!(
        code(bob_session.join_group("")),
        error_codes::request_failed
    );
    assert_eq!(
        code(server.add_session_to_group("77777", "room")),
        error_codes::session_not_found
    );
    assert_eq!(
        code(server.disconnect_session("77777")),
        error_codes::session_not_found
    );
    let (tell, ended) = seen();
    server.set_disconnect_handler(move |_session, _reason| {
        let _ = tell.send(());
    });
    bob.stop_client().expect("it stops");
    ended.next();
    assert_eq!(
        bob_session.get_groups(),
        [""; 0],
        "who leaves the server leaves the groups"
    );
}

#[test]
fn statistics_count_and_are_reset() {
    let (server, client, session) = conversation();
    let statistics = session.get_statistics();
    assert_eq!(
        (statistics.messages_received, statistics.messages_sent),
        (1, 1)
    );
    assert_eq!((statistics.bytes_received, statistics.bytes_sent), (5, 5));
    assert_eq!(statistics.errors_count, 0);
    assert!(statistics.last_message_time.is_some());
    let statistics = server.get_statistics();
    assert_eq!(
        (statistics.total_connections, statistics.current_connections),
        (1, 1)
    );
    assert_eq!(
        (statistics.messages_received, statistics.messages_sent),
        (1, 1)
    );
    assert_eq!((statistics.bytes_received, statistics.bytes_sent), (5, 5));
    assert!(statistics.start_time.is_some() && statistics.last_activity.is_some());

    session.reset_statistics();
    server.reset_statistics();
    assert_eq!(session.get_statistics().messages_received, 0);
    let statistics = server.get_statistics();
    assert_eq!(
        (statistics.total_connections, statistics.messages_received),
        (0, 0)
    );
    assert_eq!(statistics.current_connections, 1, "what is, stays");
    drop(client);
}

#[test]
fn a_session_can_have_handlers_of_its_own() {
    let server = echo();
    let (tell_message, private) = seen();
    server.set_connect_handler(move |session| {
        if session.client_id() == "special" {
            let tell = tell_message.clone();
            session.set_message_handler(move |message| {
                let _ = tell.send(message.to_vec());
            });
        }
    });
    let (special, special_hears) = client_named("special", &server);
    let (other, other_hears) = client_named("other", &server);
    special
        .send_message("for its own")
        .expect("it is connected");
    other.send_message("for all").expect("it is connected");
    assert_eq!(private.next(), b"for its own");
    assert_eq!(other_hears.next(), b"for all");
    private.none();
    special_hears.none();
}

#[test]
fn a_session_can_have_an_error_handler_of_its_own() {
    let server = echo();
    let (tell, of_all) = seen();
    server.set_error_handler(move |text, code| {
        let _ = tell.send((text.to_owned(), code));
    });
    let (tell, of_one) = seen();
    let (tell_connect, connects) = seen();
    server.set_connect_handler(move |session| {
        let tell = tell.clone();
        session.set_on_error(move |error| {
            let _ = tell.send(error.code);
        });
        let _ = tell_connect.send(());
    });
    // A PING, which opens the session, and bytes that are no frame.
    let mut peer = TcpStream::connect(("127.0.0.1", server.port())).expect("it listens");
    peer.write_all(b"MSGI\0\0\0\x0a\0\x01").expect("it reads");
    connects.next();
    peer.write_all(b"this is no frame").expect("it reads");
    assert_eq!(of_one.next(), error_codes::invalid_frame);
    of_all.none();

    let mut peer = TcpStream::connect(("127.0.0.1", server.port())).expect("it listens");
    peer.write_all(b"this is no frame").expect("it reads");
    let (text, code) = of_all.next();
    assert_eq!(code, error_codes::invalid_frame);
    assert!(!text.is_empty());
}

#[test]
fn state_changes_are_observed() {
    use session_state::{connected, disconnected, disconnecting};
    let server = echo();
    let (tell, states) = seen();
    let (tell_connect, connects) = seen();
    server.set_connect_handler(move |session| {
        assert_eq!(session.state(), connected);
        let tell = tell.clone();
        session.set_state_change_handler(move |from, to| {
            let _ = tell.send((from, to));
        });
        let _ = tell_connect.send(());
    });
    let (client, _messages) = client_of(&server);
    connects.next();
    client.stop_client().expect("it stops");
    assert_eq!(states.next(), (connected, disconnecting));
    assert_eq!(states.next(), (disconnecting, disconnected));

    let (_client, _messages) = client_of(&server);
    connects.next();
    server.stop_server().expect("it runs");
    // A stop has waited for them.
    assert_eq!(states.0.try_iter().count(), 2);
}

#[test]
fn a_manager_is_a_set_of_sessions() {
    let server = echo();
    let manager = Arc::new(session_manager::new());
    let (tell, changes) = seen();
    server.set_connect_handler({
        let (manager, tell) = (Arc::clone(&manager), tell.clone());
        move |session| {
            manager.add_session(session);
            let _ = tell.send(manager.session_count());
        }
    });
    server.set_disconnect_handler({
        let manager = Arc::clone(&manager);
        move |session, _reason| {
            assert!(manager.remove_session(&session.session_id()).is_some());
            let _ = tell.send(manager.session_count());
        }
    });
    let (_first, first_hears) = client_of(&server);
    assert_eq!(changes.next(), 1);
    let (second, second_hears) = client_of(&server);
    assert_eq!(changes.next(), 2);
    assert_eq!(manager.broadcast_message("to all"), 2);
    assert_eq!(first_hears.next(), b"to all");
    assert_eq!(second_hears.next(), b"to all");
    second.stop_client().expect("it stops");
    assert_eq!(changes.next(), 1);
    let left = &manager.get_all_sessions()[0];
    assert!(manager.get_session(&left.session_id()).is_some());
    assert!(manager.remove_session("999999").is_none());
}

//! The classic names, used as programs that have no runtime use them.

use std::collections::HashSet;
use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use network_system::compat::*;

/// Longer than anything that works takes; waiting that long means that it does not.
const LONG: Duration = Duration::from_secs(20);

/// Shorter than the drain deadline of 10 s, within which everything ends whether it works or not.
const PROMPT: Duration = Duration::from_secs(8);

/// What a callback saw, in order.
struct Seen<T>(Receiver<T>);

impl<T: Debug> Seen<T> {
    fn next(&self) -> T {
        self.0
            .recv_timeout(LONG)
            .expect("the callback is called in time")
    }

    fn none(&self) {
        assert!(self.0.try_recv().is_err(), "the callback is not called");
    }
}

fn seen<T: Debug>() -> (Sender<T>, Seen<T>) {
    let (tell, told) = channel();
    (tell, Seen(told))
}

/// A server that echoes, on a free port of the loopback.
fn echo() -> Arc<messaging_server> {
    echo_with(|_config| {})
}

fn echo_with(change: impl FnOnce(&mut server_config)) -> Arc<messaging_server> {
    let mut config = server_config::default();
    config.bind_address = "127.0.0.1".to_owned();
    config.port = 0;
    change(&mut config);
    let server = Arc::new(messaging_server::with_config("echo", config));
    server.set_message_handler(|session, message| {
        session.send_message(message).expect("the session is open");
    });
    server.start_server(()).expect("a free port");
    server
}

/// A connected client, and the messages that it receives.
fn client_of(server: &messaging_server) -> (messaging_client, Seen<Vec<u8>>) {
    client_named("", server)
}

fn client_named(id: &str, server: &messaging_server) -> (messaging_client, Seen<Vec<u8>>) {
    let client = messaging_client::new(id);
    let (tell, messages) = seen();
    client.set_message_handler(move |message| {
        let _ = tell.send(message.to_vec());
    });
    client
        .start_client("127.0.0.1", server.port())
        .expect("the server is there");
    (client, messages)
}

/// A port of the loopback at which nobody listens.
fn closed_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

mod lifecycle {
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
}

mod connections {
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
        let port = closed_port();
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
}

mod sessions {
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
}

mod generations {
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
        let gone = server.send(id, "gone");
        assert_eq!(gone.error().code, error_codes::session_not_found);
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
}

mod callbacks {
    use super::*;

    #[test]
    fn a_callback_can_stop_its_own_server() {
        let server = echo();
        let (tell, stopped) = seen();
        let weak = Arc::downgrade(&server);
        server.set_message_handler(move |session, _message| {
            session.send_message("stopping").expect("it is open");
            let server = weak.upgrade().expect("it calls");
            server.stop_server().expect("it runs");
            assert!(!server.is_running());
            let _ = tell.send(());
        });
        let (_bystander, _) = client_of(&server);
        let (client, messages) = client_of(&server);
        let before = Instant::now();
        client.send_message("stop").expect("it is connected");
        stopped.next();
        server.wait_for_stop();
        client.wait_for_stop();
        assert!(before.elapsed() < PROMPT, "nobody waits for itself");
        assert_eq!(messages.next(), b"stopping");
        server.start_server(()).expect("a free port");
    }

    #[test]
    fn two_callbacks_can_stop_their_server_at_once() {
        let server = echo();
        let weak = Arc::downgrade(&server);
        let meet = Arc::new(std::sync::Barrier::new(2));
        let (tell, stopped) = seen();
        server.set_message_handler(move |_session, _message| {
            meet.wait();
            // One of them may find the server stopped.
            let _ = weak.upgrade().expect("it calls").stop_server();
            let _ = tell.send(());
        });
        let (first, _) = client_of(&server);
        let (second, _) = client_of(&server);
        let before = Instant::now();
        first.send_message("stop").expect("it is connected");
        second.send_message("stop").expect("it is connected");
        stopped.next();
        stopped.next();
        server.wait_for_stop();
        assert!(before.elapsed() < PROMPT, "nobody waits for itself");
    }

    #[test]
    fn every_callback_can_stop_its_own_server() {
        for which in ["connect", "disconnect", "error", "state"] {
            let server = echo();
            let (tell, stopped) = seen();
            let weak = Arc::downgrade(&server);
            let stop = Arc::new(move || {
                if let Some(server) = Weak::upgrade(&weak)
                    && server.stop_server().is_ok()
                {
                    let _ = tell.send(());
                }
            });
            match which {
                "connect" => server.set_connect_handler(move |_session| stop()),
                "disconnect" => server.set_disconnect_handler(move |_session, _reason| stop()),
                "error" => server.set_error_handler(move |_text, _code| stop()),
                _ => server.set_connect_handler(move |session| {
                    let stop = Arc::clone(&stop);
                    session.set_state_change_handler(move |_from, _to| stop());
                }),
            }
            let before = Instant::now();
            let mut peer = TcpStream::connect(("127.0.0.1", server.port())).expect("it listens");
            peer.write_all(b"MSGI\0\0\0\x0a\0\x01").expect("it reads");
            peer.write_all(b"this is no frame").expect("it reads");
            peer.shutdown(std::net::Shutdown::Write)
                .expect("it is connected");
            stopped.next();
            server.wait_for_stop();
            assert!(
                before.elapsed() < PROMPT,
                "{which}: nobody waits for itself"
            );
        }
    }

    #[test]
    fn a_callback_can_restart_its_own_server() {
        let server = echo();
        let weak = Arc::downgrade(&server);
        let (tell, restarted) = seen();
        server.set_message_handler(move |_session, _message| {
            let server = weak.upgrade().expect("it calls");
            server.stop_server().expect("it runs");
            let _ = tell.send(server.start_server(("127.0.0.1", 0)));
        });
        let (client, _) = client_of(&server);
        client.send_message("restart").expect("it is connected");
        restarted.next().expect("a free port");
        client.wait_for_stop();
        assert!(server.is_running());
        client
            .start_client("127.0.0.1", server.port())
            .expect("it is there again");
    }

    #[test]
    fn callbacks_of_a_client_can_stop_and_start_it() {
        let server = echo();
        let client = Arc::new(messaging_client::new(""));
        let (tell, stopped) = seen();
        let weak = Arc::downgrade(&client);
        client.set_message_handler(move |_message| {
            let client = weak.upgrade().expect("it calls");
            client.stop_client().expect("it is connected");
            assert!(!client.is_connected());
            client.wait_for_stop();
            let _ = tell.send(());
        });
        let (tell, restarted) = seen();
        let weak = Arc::downgrade(&client);
        let port = server.port();
        client.set_disconnect_handler(move |_reason| {
            if let Some(client) = weak.upgrade() {
                let _ = tell.send(client.start_client("127.0.0.1", port));
            }
        });
        client
            .start_client("127.0.0.1", port)
            .expect("the server is there");
        let before = Instant::now();
        client.send_message("stop").expect("it is connected");
        stopped.next();
        restarted.next().expect("the server is there");
        assert!(client.is_connected());
        assert!(before.elapsed() < PROMPT, "nobody waits for itself");
        client.set_disconnect_handler(|_reason| {});
    }

    #[test]
    fn a_callback_that_sends_more_than_there_is_room_for_gets_it_through() {
        const COUNT: usize = 100;
        let server = echo();
        server.set_message_handler(move |session, _message| {
            for index in 0..COUNT {
                session
                    .send_packet(vec![index as u8; 100_000])
                    .expect("it is open");
            }
        });
        let (client, messages) = client_of(&server);
        client.send_message("go").expect("it is connected");
        for index in 0..COUNT {
            assert_eq!(messages.next(), vec![index as u8; 100_000]);
        }
    }

    #[test]
    fn a_callback_that_blocks_holds_up_its_own_session_only() {
        let server = echo();
        let (release, released) = channel::<()>();
        let released = Mutex::new(released);
        let (tell, blocked) = seen();
        server.set_message_handler(move |session, message| {
            if message == b"block" {
                let _ = tell.send(());
                let _ = released.lock().expect("nobody panics").recv();
            }
            session.send_message(message).expect("it is open");
        });
        let (slow, slow_hears) = client_of(&server);
        slow.send_message("block").expect("it is connected");
        slow.send_message("after").expect("it is connected");
        blocked.next();
        let others: Vec<_> = (0..10).map(|_| client_of(&server)).collect();
        for (client, messages) in &others {
            client.send_message("through").expect("it is connected");
            assert_eq!(messages.next(), b"through");
        }
        slow_hears.none();
        release.send(()).expect("the callback waits");
        assert_eq!(slow_hears.next(), b"block");
        assert_eq!(slow_hears.next(), b"after");
    }

    #[test]
    fn messages_of_one_session_stay_in_order() {
        const COUNT: u32 = 5_000;
        let server = echo();
        let (client, messages) = client_of(&server);
        for number in 0..COUNT {
            client
                .send_packet(number.to_be_bytes().to_vec())
                .expect("it is connected");
        }
        for number in 0..COUNT {
            assert_eq!(messages.next(), number.to_be_bytes());
        }
    }

    #[test]
    fn a_panic_ends_its_session_and_no_other() {
        let server = echo();
        let (tell, ended) = seen();
        server.set_disconnect_handler(move |session, _reason| {
            let _ = tell.send(session.client_id());
        });
        server.set_message_handler(|session, message| {
            assert_ne!(message, b"panic", "the test asks for it");
            session.send_message(message).expect("it is open");
        });
        let (careless, _) = client_named("careless", &server);
        let (careful, messages) = client_named("careful", &server);
        careless.send_message("panic").expect("it is connected");
        assert_eq!(ended.next(), "careless");
        careless.wait_for_stop();
        careful.send_message("fine").expect("it is connected");
        assert_eq!(messages.next(), b"fine");
        assert_eq!(server.connection_count(), 1);
        ended.none();
    }
}

mod codecs {
    use super::*;

    #[test]
    fn a_raw_peer_sends_bytes_and_gets_bytes() {
        let server = echo_with(|config| config.codec = CodecKind::Raw);
        let mut peer = TcpStream::connect(("127.0.0.1", server.port())).expect("it listens");
        peer.write_all(b"just bytes").expect("it reads");
        let mut answer = [0; 10];
        peer.read_exact(&mut answer).expect("it answers");
        assert_eq!(&answer, b"just bytes");
        // What is sent before the end is answered after it.
        peer.write_all(b"and the end").expect("it reads");
        peer.shutdown(std::net::Shutdown::Write)
            .expect("it is connected");
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).expect("an orderly end");
        assert_eq!(rest, b"and the end");
    }

    #[test]
    fn a_length_peer_keeps_its_messages_apart() {
        let server = echo_with(|config| config.codec = CodecKind::Length);
        let mut peer = TcpStream::connect(("127.0.0.1", server.port())).expect("it listens");
        let sent = b"\0\0\0\x03one\0\0\0\x05three";
        peer.write_all(sent).expect("it reads");
        let mut answer = [0; 16];
        peer.read_exact(&mut answer).expect("it answers");
        assert_eq!(&answer, sent);
    }

    #[test]
    fn a_client_speaks_raw_and_length_too() {
        for (codec, wire) in [
            (CodecKind::Raw, &b"hello"[..]),
            (CodecKind::Length, b"\0\0\0\x05hello"),
        ] {
            let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
            let port = listener.local_addr().expect("it is bound").port();
            let client = messaging_client::new("has no way to say its name");
            client.set_codec(codec);
            let (tell, messages) = seen();
            client.set_message_handler(move |message| {
                let _ = tell.send(message.to_vec());
            });
            client.start_client("127.0.0.1", port).expect("it listens");
            let (mut peer, _) = listener.accept().expect("the client is there");
            client.send_message("hello").expect("it is connected");
            let mut received = vec![0; wire.len()];
            peer.read_exact(&mut received).expect("the client sends");
            assert_eq!(received, wire);
            peer.write_all(wire).expect("the client reads");
            assert_eq!(messages.next(), b"hello");
        }
    }

    #[test]
    fn both_ends_can_use_another_codec() {
        let server = echo_with(|config| config.codec = CodecKind::Length);
        let client = messaging_client::new("anonymous here");
        client.set_codec(CodecKind::Length);
        let (tell, messages) = seen();
        client.set_message_handler(move |message| {
            let _ = tell.send(message.to_vec());
        });
        client
            .start_client("127.0.0.1", server.port())
            .expect("the server is there");
        for message in ["one", "", "three"] {
            client.send_message(message).expect("it is connected");
            assert_eq!(messages.next(), message.as_bytes());
        }
    }
}

mod anywhere {
    use super::*;

    /// Start, exchange and stop, all blocking.
    fn exchange() {
        let server = echo();
        let (client, messages) = client_of(&server);
        client.send_message("from here").expect("it is connected");
        assert_eq!(messages.next(), b"from here");
        server.broadcast_message("to all").expect("it runs");
        assert_eq!(messages.next(), b"to all");
        client.stop_client().expect("it stops");
        server.stop_server().expect("it runs");
        server.wait_for_stop();
    }

    #[test]
    fn on_a_plain_thread() {
        exchange();
    }

    #[tokio::test]
    async fn inside_a_runtime_of_one_thread() {
        exchange();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn inside_a_runtime_of_several_threads() {
        exchange();
        tokio::task::spawn_blocking(exchange)
            .await
            .expect("it works there too");
    }

    #[test]
    fn on_many_threads_at_once() {
        static SERVER: OnceLock<Arc<messaging_server>> = OnceLock::new();
        let server = SERVER.get_or_init(echo);
        let ids = Arc::new(Mutex::new(HashSet::new()));
        let known = Arc::clone(&ids);
        server.set_connect_handler(move |session| {
            assert!(
                known
                    .lock()
                    .expect("nobody panics")
                    .insert(session.session_id())
            );
        });
        std::thread::scope(|scope| {
            for thread in 0..16 {
                scope.spawn(move || {
                    let (client, messages) = client_of(server);
                    for round in 0..20 {
                        let message = format!("{thread} {round}");
                        client.send_message(&message).expect("it is connected");
                        assert_eq!(messages.next(), message.as_bytes());
                    }
                });
            }
        });
        assert_eq!(ids.lock().expect("nobody panics").len(), 16);
        server.stop_server().expect("it runs");
    }
}

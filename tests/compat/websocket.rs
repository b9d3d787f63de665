//! WebSocket: what the classic classes promise beside what they promise everywhere.

use network_system::MessageKind;
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::Response as Answer;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket};

use super::*;

type Connections = Seen<Arc<ws_connection>>;

fn configured(change: impl FnOnce(&mut ws_server_config)) -> ws_server_config {
    let mut config = ws_server_config::default();
    config.bind_address = "127.0.0.1".to_owned();
    config.port = 0;
    change(&mut config);
    config
}

/// A server, and the connections that it gets.
fn serve(change: impl FnOnce(&mut ws_server_config)) -> (messaging_ws_server, Connections) {
    let server = messaging_ws_server::new("ws_server");
    let (tell, connections) = seen();
    server.set_connection_callback(move |connection| {
        let _ = tell.send(connection);
    });
    server
        .start_server(configured(change))
        .expect("a free port");
    (server, connections)
}

fn client_of(server: &messaging_ws_server) -> messaging_ws_client {
    let client = MessagingWsClient::new("ws_client");
    client
        .start_client(("127.0.0.1", server.port()))
        .expect("the server is there");
    client
}

/// A client of another implementation.
fn peer_of(server: &messaging_ws_server, target: &str) -> WebSocket<TcpStream> {
    try_peer_of(server, target, None).expect("it is let in").0
}

fn try_peer_of(
    server: &messaging_ws_server,
    target: &str,
    subprotocol: Option<&'static str>,
) -> Result<(WebSocket<TcpStream>, Answer), u16> {
    let stream = TcpStream::connect(("127.0.0.1", server.port())).expect("the server is there");
    stream.set_read_timeout(Some(LONG)).expect("a time");
    let url = format!("ws://127.0.0.1:{}{target}", server.port());
    let mut request = url.into_client_request().expect("a URL");
    if let Some(name) = subprotocol {
        let value = name.parse().expect("a token");
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", value);
    }
    tungstenite::client(request, stream).map_err(|error| match error {
        tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response)) => {
            response.status().as_u16()
        }
        other => panic!("{other}"),
    })
}

#[test]
fn texts_stay_texts_and_bytes_stay_bytes() {
    let (server, connections) = serve(|_config| {});
    server.set_text_message_callback(|connection, text| {
        connection.send_text(format!("Echo: {text}")).expect("open");
    });
    server.set_binary_message_callback(|connection, data| {
        connection.send_binary(data.to_vec()).expect("open");
    });
    let client = client_of(&server);
    let (tell, texts) = seen();
    client.set_text_message_callback(move |text| {
        let _ = tell.send(text.to_owned());
    });
    let (tell, datas) = seen();
    client.set_binary_message_callback(move |data| {
        let _ = tell.send(data.to_vec());
    });
    let (tell, all) = seen();
    client.set_message_callback(move |message| {
        let _ = tell.send(message.kind() == MessageKind::Text);
    });
    client.send_text("hello").expect("it is connected");
    assert_eq!((texts.next().as_str(), all.next()), ("Echo: hello", true));
    client.send_binary(vec![1, 2, 3]).expect("it is connected");
    assert_eq!((datas.next(), all.next()), (vec![1, 2, 3], false));

    let connection = connections.next();
    let found = server.get_connection(&connection.connection_id());
    assert!(found.is_some_and(|found| Arc::ptr_eq(&found, &connection)));
    assert_eq!(server.get_all_connections(), [connection.connection_id()]);
    assert!(connection.remote_endpoint().starts_with("127.0.0.1:"));
    let statistics = server.get_statistics();
    assert_eq!(
        (statistics.messages_received, statistics.messages_sent),
        (2, 2)
    );
}

#[test]
fn a_broadcast_reaches_every_connection_in_its_kind() {
    let (server, connections) = serve(|_config| {});
    let mut peers = [peer_of(&server, "/"), peer_of(&server, "/")];
    connections.next();
    connections.next();
    server.broadcast_text("to all").expect("it runs");
    server.broadcast_binary(vec![9]).expect("it runs");
    for peer in &mut peers {
        assert_eq!(peer.read().expect("a text"), Message::text("to all"));
        assert_eq!(peer.read().expect("bytes"), Message::binary(vec![9]));
    }
    let stopped = messaging_ws_server::new("").broadcast_text("to nobody");
    assert_eq!(stopped.error().code, error_codes::server_not_started);
}

#[test]
fn there_is_something_at_one_path_only() {
    let (server, _connections) = serve(|config| config.path = "/chat".to_owned());
    assert_eq!(try_peer_of(&server, "/", None).err(), Some(404));
    peer_of(&server, "/chat?room=1");

    server.stop_server().expect("it runs");
    server.set_config(configured(|_config| {}));
    server.start_server((0, "/other")).expect("a free port");
    assert_eq!(try_peer_of(&server, "/chat", None).err(), Some(404));
    peer_of(&server, "/other");

    let (root, _connections) = serve(|_config| {});
    assert_eq!(try_peer_of(&root, "/chat", None).err(), Some(404));

    let client = messaging_ws_client::new("");
    client
        .start_client(("127.0.0.1", server.port(), "/other?x=y"))
        .expect("it is there");
    let lost = messaging_ws_client::new("").start_client(("127.0.0.1", server.port(), "/lost"));
    assert!(lost.is_err(), "nothing is there");
    for path in ["chat", "/chat?x=y"] {
        let refused = server_with_path(path);
        assert_eq!(refused.error().code, error_codes::invalid_configuration);
        assert!(refused.error().message.starts_with("path"));
    }
}

fn server_with_path(path: &str) -> VoidResult {
    messaging_ws_server::new("").start_server(configured(|config| config.path = path.to_owned()))
}

#[test]
fn a_subprotocol_is_chosen() {
    let (server, connections) = serve(|config| {
        config.subprotocols = vec!["chat.v1".to_owned(), "chat.v2".to_owned()];
    });
    let (_peer, response) = try_peer_of(&server, "/", Some("chat.v3, chat.v2")).expect("let in");
    assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "chat.v2");
    connections.next();

    let mut config = ws_client_config::default();
    config.host = "127.0.0.1".to_owned();
    config.port = server.port();
    config.subprotocols = vec!["chat.v1".to_owned()];
    let client = messaging_ws_client::with_config("", config);
    client.start_client(()).expect("the server is there");
    let connection = connections.next();
    let upgrade = connection.native().websocket().expect("it was chosen");
    assert_eq!(upgrade.subprotocol.as_deref(), Some("chat.v1"));
}

#[test]
fn pages_of_other_origins_are_refused_unless_allowed() {
    let origin = |server: &messaging_ws_server| {
        let mut config = ws_client_config::default();
        config.host = "127.0.0.1".to_owned();
        config.port = server.port();
        let origin = "https://example.org".to_owned();
        config.headers.insert("Origin".to_owned(), origin);
        messaging_ws_client::new("").start_client(config)
    };
    let (server, _connections) = serve(|_config| {});
    assert!(origin(&server).is_err());
    for allowed in ["https://example.org", "*"] {
        let (server, _connections) =
            serve(|config| config.allowed_origins = vec![allowed.to_owned()]);
        origin(&server).expect("it is allowed");
    }
}

#[test]
fn close_codes_and_reasons_reach_the_other_side() {
    let (server, connections) = serve(|_config| {});
    let (tell, server_saw) = seen();
    server.set_disconnection_callback(move |id, code, reason| {
        let _ = tell.send((id.to_owned(), code, reason.to_owned()));
    });
    let client = messaging_ws_client::new("");
    let (tell, client_saw) = seen();
    client.set_disconnected_callback(move |code, reason| {
        let _ = tell.send((code, reason.to_owned()));
    });
    let start = || client.start_client(("127.0.0.1", server.port()));

    start().expect("the server is there");
    let id = connections.next().connection_id();
    client
        .close(4001, "enough")
        .expect("a code that may be sent");
    assert_eq!(server_saw.next(), (id, 4001, "enough".to_owned()));
    assert_eq!(client_saw.next(), (4001, "enough".to_owned()));
    assert!(!client.is_connected());

    start().expect("the server is there");
    let connection = connections.next();
    let close = connection.close(ws_close_code::policy_violation, "not here");
    close.expect("a code that may be sent");
    assert_eq!(client_saw.next().0, ws_close_code::policy_violation);
    assert_eq!(server_saw.next().1, ws_close_code::policy_violation);

    start().expect("the server is there");
    connections.next();
    client.stop_client().expect("it stops");
    assert_eq!(server_saw.next().1, ws_close_code::going_away);

    start().expect("the server is there");
    connections.next().disconnect("that is all");
    assert_eq!(server_saw.next().1, ws_close_code::normal);

    let mut peer = peer_of(&server, "/");
    connections.next();
    peer.close(Some(CloseFrame {
        code: 3000.into(),
        reason: "from afar".into(),
    }))
    .expect("it is open");
    let (_id, code, reason) = server_saw.next();
    assert_eq!((code, reason.as_str()), (3000, "from afar"));

    drop(peer_of(&server, "/"));
    connections.next();
    assert_eq!(server_saw.next().1, ws_close_code::abnormal);
}

#[test]
fn codes_that_must_not_be_sent_are_refused() {
    let (server, connections) = serve(|_config| {});
    let client = client_of(&server);
    // A client can be connected a moment before its server knows.
    let connection = connections.next();
    for code in [
        0,
        999,
        ws_close_code::no_status,
        ws_close_code::abnormal,
        5000,
    ] {
        for refused in [connections_close(&server, code), client.close(code, "")] {
            assert_eq!(refused.error().code, error_codes::invalid_configuration);
        }
    }
    assert!(client.is_connected());
    assert!(connection.is_connected());
}

fn connections_close(server: &messaging_ws_server, code: u16) -> VoidResult {
    let ids = server.get_all_connections();
    match ids.first().and_then(|id| server.get_connection(id)) {
        Some(connection) => connection.close(code, ""),
        None => panic!("there is a connection"),
    }
}

#[test]
fn a_configuration_that_cannot_be_obeyed_is_refused() {
    let server = messaging_ws_server::new("");
    let refused = server.start_server(configured(|config| config.auto_pong = false));
    assert_eq!(refused.error().code, error_codes::not_supported);
    assert!(refused.error().message.starts_with("auto_pong"));
    let refused = server.start_server(configured(|config| {
        config.subprotocols = vec!["msgi.v1".into()]
    }));
    assert_eq!(refused.error().code, error_codes::invalid_configuration);
    let refused = server.start_server(configured(|config| config.max_message_size = 0));
    assert_eq!(refused.error().code, error_codes::invalid_configuration);
    assert!(!server.is_running());

    let refused = messaging_ws_client::new("").start_client(());
    assert_eq!(refused.error().code, error_codes::invalid_configuration);
    assert!(refused.error().message.contains("host"), "{refused:?}");
    let mut config = ws_client_config::default();
    config.host = "127.0.0.1".to_owned();
    config.auto_pong = false;
    let refused = messaging_ws_client::new("").start_client(config);
    assert_eq!(refused.error().code, error_codes::not_supported);
}

#[test]
fn messages_above_the_limit_are_refused_both_ways() {
    let (server, connections) = serve(|config| config.max_message_size = 100);
    let mut peer = peer_of(&server, "/");
    let refused = connections.next().send_binary(vec![0; 101]);
    assert_eq!(refused.error().code, error_codes::message_too_large);
    peer.send(Message::binary(vec![0; 101]))
        .expect("it is open");
    let closed = loop {
        match peer.read().expect("a close frame") {
            Message::Close(frame) => break frame.expect("a code"),
            _other => {}
        }
    };
    assert_eq!(u16::from(closed.code), ws_close_code::message_too_big);

    let mut config = ws_client_config::default();
    config.host = "127.0.0.1".to_owned();
    config.port = server.port();
    config.max_message_size = 50;
    let client = messaging_ws_client::with_config("", config);
    client.start_client(()).expect("the server is there");
    let refused = client.send_text("x".repeat(51));
    assert_eq!(refused.error().code, error_codes::message_too_large);
}

#[test]
fn no_more_connections_than_the_limit() {
    let (server, connections) = serve(|config| config.max_connections = 1);
    let _first = peer_of(&server, "/");
    connections.next();
    assert_eq!(try_peer_of(&server, "/", None).err(), Some(503));
}

#[test]
fn quiet_connections_are_pinged_and_given_up_when_they_do_not_answer() {
    let (server, connections) = serve(|config| config.ping_interval = Duration::from_millis(100));
    let (tell, ended) = seen();
    server.set_disconnection_callback(move |_id, code, reason| {
        let _ = tell.send((code, reason.to_owned()));
    });
    let (tell, errors) = seen();
    server.set_error_callback(move |id, error| {
        let _ = tell.send((id.to_owned(), error.code));
    });
    let mut peer = peer_of(&server, "/");
    let id = connections.next().connection_id();
    assert!(matches!(peer.read().expect("a ping"), Message::Ping(_)));
    // It is read no more, so nothing is answered.
    assert_eq!(ended.next().0, ws_close_code::abnormal);
    assert_eq!(errors.next(), (id, error_codes::heartbeat_timeout));
}

#[test]
#[allow(clippy::result_large_err, reason = "the other side's own type")]
fn a_client_asks_for_what_it_is_configured_to() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        let mut asked = None;
        let look = |request: &Request, response: Response| {
            let token = request.headers()["X-Token"].as_bytes().to_vec();
            asked = Some((request.uri().to_string(), token));
            Ok(response)
        };
        let mut socket = tungstenite::accept_hdr(stream, look).expect("an upgrade");
        let ping = loop {
            if matches!(socket.read().expect("a frame"), Message::Ping(_)) {
                break true;
            }
        };
        (asked, ping)
    });
    let mut config = ws_client_config::default();
    config.host = "localhost".to_owned();
    config.port = port;
    config.path = "/chat?room=1".to_owned();
    config.ping_interval = Duration::from_millis(50);
    config
        .headers
        .insert("X-Token".to_owned(), "abc".to_owned());
    let client = messaging_ws_client::new("");
    client.start_client(config).expect("it is let in");
    let (asked, pinged) = server.join().expect("it saw all");
    assert_eq!(asked, Some(("/chat?room=1".to_owned(), b"abc".to_vec())));
    assert!(pinged);
}

#[test]
fn a_server_that_says_nothing_is_given_up_after_the_connect_timeout() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let mut config = ws_client_config::default();
    config.host = "127.0.0.1".to_owned();
    config.port = silent.local_addr().expect("it is bound").port();
    config.connect_timeout = Duration::from_millis(100);
    let client = messaging_ws_client::new("");
    let timeout = client.start_client(config);
    assert_eq!(timeout.error().code, error_codes::connection_timeout);
    assert!(!client.is_running());
}

#[test]
fn a_lost_connection_is_made_again_if_so_configured() {
    let (server, connections) = serve(|_config| {});
    let mut config = ws_client_config::default();
    config.host = "127.0.0.1".to_owned();
    config.port = server.port();
    config.auto_reconnect = true;
    config.reconnect_interval = Duration::from_millis(5);
    let client = messaging_ws_client::with_config("", config);
    let (tell, connected) = seen();
    client.set_connected_callback(move || {
        let _ = tell.send(());
    });
    client.start_client(()).expect("the server is there");
    for _ in 0..2 {
        connected.next();
        connections.next().disconnect("");
    }
    connected.next();
    connections.next();
    client.stop_client().expect("it stops");

    let once = client_of(&server);
    // A client can be connected a moment before its server knows.
    connections.next();
    server.disconnect_all_sessions();
    once.wait_for_stop();
    assert!(!once.is_running(), "by default it is not");
}

#[test]
fn a_manager_has_a_limit() {
    let (server, connections) = serve(|_config| {});
    let manager = WsSessionManager::with_limit(1);
    assert!(manager.can_accept_connection());
    let mut peer = peer_of(&server, "/");
    let first = connections.next();
    let id = manager.add_connection(Arc::clone(&first)).expect("room");
    let _other = peer_of(&server, "/");
    let second = connections.next();
    let refused = manager.add_connection(Arc::clone(&second));
    assert_eq!(
        refused.err().map(|error| error.code),
        Some(error_codes::too_many_connections)
    );
    manager.add_connection(first).expect("it is there already");
    assert!(!manager.can_accept_connection());
    assert_eq!(
        (manager.get_total_accepted(), manager.get_total_rejected()),
        (2, 1)
    );
    assert_eq!(manager.get_all_connection_ids(), std::slice::from_ref(&id));

    assert_eq!(manager.broadcast_text("to one"), 1);
    assert_eq!(manager.broadcast_binary(vec![1]), 1);
    assert_eq!(peer.read().expect("a text"), Message::text("to one"));
    assert_eq!(peer.read().expect("bytes"), Message::binary(vec![1]));

    assert!(manager.get_connection(&id).is_some());
    assert!(manager.remove_connection(&id) && !manager.remove_connection(&id));
    manager.add_connection(second).expect("room");
    manager.clear_all_connections();
    assert_eq!(manager.get_connection_count(), 0);
    assert_eq!(server.connection_count(), 2, "they stay open");
}

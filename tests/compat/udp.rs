//! UDP: datagrams by the classic names.

use std::net::{SocketAddr, UdpSocket};

use super::*;

fn serve(change: impl FnOnce(&mut udp_server_config)) -> Arc<messaging_udp_server> {
    let mut config = udp_server_config::default();
    config.bind_address = "127.0.0.1".to_owned();
    config.port = 0;
    change(&mut config);
    let server = Arc::new(MessagingUdpServer::with_config("UDPServer", config));
    let echo = Arc::downgrade(&server);
    server.set_receive_callback(move |data, sender| {
        if let Some(server) = echo.upgrade() {
            server
                .async_send_to(data.to_vec(), sender)
                .expect("it has just sent");
        }
    });
    server.start_server(()).expect("a free port");
    server
}

/// A started client, and the datagrams that it receives.
fn client_of(server: &messaging_udp_server) -> (messaging_udp_client, Seen<(Vec<u8>, SocketAddr)>) {
    let client = messaging_udp_client::new("UDPClient");
    let (tell, datagrams) = seen();
    client.set_receive_callback(move |data, sender| {
        let _ = tell.send((data.to_vec(), sender));
    });
    client
        .start_client("127.0.0.1", server.port())
        .expect("a free port");
    (client, datagrams)
}

fn address(server: &messaging_udp_server) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], server.port()))
}

#[test]
fn datagrams_go_both_ways() {
    let server = serve(|_config| {});
    let (client, datagrams) = client_of(&server);
    assert!(client.is_running());
    for size in [1, 1_000, 20_000] {
        client.send_packet(vec![7; size]).expect("it is started");
        assert_eq!(datagrams.next(), (vec![7; size], address(&server)));
    }
    client.stop_client().expect("it stops");
    assert!(!client.is_running());
    let stopped = client.send_packet(vec![1]);
    assert_eq!(stopped.error().code, error_codes::connection_closed);
}

#[test]
fn a_plain_socket_is_answered() {
    let server = serve(|_config| {});
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a free port");
    socket.set_read_timeout(Some(LONG)).expect("a time");
    socket.connect(address(&server)).expect("an address");
    let mut buffer = [0; 100];
    for datagram in [&b"one"[..], b"two"] {
        socket.send(datagram).expect("it is sent");
        let len = socket.recv(&mut buffer).expect("an answer");
        assert_eq!(&buffer[..len], datagram);
    }
    assert_eq!(server.connection_count(), 1);
    let session = server.get_all_sessions().remove(0);
    let own = socket.local_addr().expect("it is bound");
    assert_eq!(session.remote_endpoint(), own.to_string());

    server.broadcast_message("to all").expect("it runs");
    let len = socket.recv(&mut buffer).expect("the broadcast");
    assert_eq!(&buffer[..len], b"to all");
}

#[test]
fn nothing_is_sent_to_an_address_that_has_sent_nothing() {
    let server = serve(|_config| {});
    let stranger = UdpSocket::bind(("127.0.0.1", 0)).expect("a free port");
    let stranger = stranger.local_addr().expect("it is bound");
    let refused = server.async_send_to(vec![1], stranger);
    assert_eq!(refused.error().code, error_codes::session_not_found);
    assert!(refused.error().message.contains(&stranger.to_string()));
}

#[test]
fn an_address_that_is_silent_is_forgotten() {
    let (tell, ended) = seen();
    // So long the echo may take.
    let server = serve(|config| config.timeout = Duration::from_secs(1));
    server.set_disconnect_handler(move |session, _reason| {
        let _ = tell.send(session.remote_port());
    });
    let (client, datagrams) = client_of(&server);
    client.send_packet(vec![1]).expect("it is started");
    datagrams.next();
    let port = ended.next();
    let client_address = SocketAddr::from(([127, 0, 0, 1], port));
    // The session is removed after its handler.
    server.stop_server().expect("it runs");
    server.start_server(()).expect("a free port");
    let forgotten = server.async_send_to(vec![1], client_address);
    assert_eq!(forgotten.error().code, error_codes::session_not_found);
}

#[test]
fn datagrams_above_the_limit_are_refused_where_they_are_sent() {
    let server = serve(|config| config.max_datagram_size = 1_000);
    let (tell, refused) = seen();
    server.set_message_handler(move |session, _message| {
        let _ = tell.send(session.send_packet(vec![0; 1_001]));
    });
    let mut config = udp_client_config::default();
    config.max_datagram_size = 2_000;
    let client = MessagingUdpClient::with_config("", config);
    client
        .start_client("127.0.0.1", server.port())
        .expect("a free port");
    let too_large = client.send_packet(vec![0; 2_001]);
    assert_eq!(too_large.error().code, error_codes::message_too_large);
    client.send_packet(vec![0; 2_000]).expect("it fits");
    assert_eq!(
        refused.next().error().code,
        error_codes::message_too_large,
        "the server has a limit of its own"
    );
}

#[test]
fn the_target_can_be_changed() {
    let (first, second) = (serve(|_config| {}), serve(|_config| {}));
    let (client, datagrams) = client_of(&first);
    client.send_packet(b"a".to_vec()).expect("it is started");
    assert_eq!(datagrams.next(), (b"a".to_vec(), address(&first)));
    client
        .set_target("127.0.0.1", second.port())
        .expect("an address");
    client.send_packet(b"b".to_vec()).expect("it is started");
    assert_eq!(datagrams.next(), (b"b".to_vec(), address(&second)));
}

#[test]
fn what_cannot_be_obeyed_is_refused() {
    let mut config = udp_server_config::default();
    config.max_datagram_size = 100_000;
    let server = messaging_udp_server::new("");
    let refused = server.start_server(config);
    assert_eq!(refused.error().code, error_codes::invalid_configuration);
    assert!(refused.error().message.contains("datagram_size"));

    let mut config = udp_server_config::default();
    config.max_sessions = 0;
    let refused = server.start_server(config);
    assert_eq!(refused.error().code, error_codes::invalid_configuration);
    assert!(messaging_udp_client::new("").start_client("", 1).is_err());
}

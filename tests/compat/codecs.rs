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

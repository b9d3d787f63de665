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
        if which == "error" {
            peer.write_all(b"this is no frame").expect("it reads");
        }
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

//! What a bridge logs, and when. The logger is the program's, so that this test has a program of its own.

#![allow(missing_docs, reason = "a test's name is its documentation")]

use std::sync::{Arc, Mutex};

use network_system::compat::{
    bridge_config, log_level, logger_interface, messaging_bridge, set_global_logger,
};

#[derive(Default)]
struct Lines(Mutex<Vec<(log_level, String)>>);

impl Lines {
    fn take(&self) -> Vec<(log_level, String)> {
        std::mem::take(&mut *self.0.lock().expect("nobody panics"))
    }
}

struct Shared(Arc<Lines>);

impl logger_interface for Shared {
    fn log(&self, level: log_level, message: &str) {
        let line = (level, message.to_owned());
        self.0.0.lock().expect("nobody panics").push(line);
    }
}

/// One message each way over a bridge.
fn exchange(config: bridge_config, debug: bool) {
    let bridge = messaging_bridge::new("logged_bridge");
    bridge.enable_debug_logging(debug);
    bridge.set_config(config).expect("it is valid");
    bridge.start().expect("it does not run");
    let server = bridge.create_server("logged_server", ());
    server.set_message_handler(|session, message| {
        let _ = session.send_message(message);
    });
    server.start_server(("127.0.0.1", 0)).expect("a free port");
    let client = bridge.create_client("logged_client", ());
    let (tell, told) = std::sync::mpsc::channel();
    client.set_message_handler(move |_message| {
        let _ = tell.send(());
    });
    client
        .start_client("127.0.0.1", server.port())
        .expect("the server is there");
    client.send_message("sesame-4711").expect("it is connected");
    told.recv().expect("the echo comes");
    bridge.stop().expect("it runs");
}

#[test]
fn messages_are_logged_without_their_content_and_the_bridge_itself_only_when_asked() {
    let lines = Arc::new(Lines::default());
    set_global_logger(Arc::new(Shared(Arc::clone(&lines)))).expect("there is no other");

    exchange(bridge_config::default(), false);
    let quiet = lines.take();
    let about = |lines: &[(log_level, String)], text: &str| {
        let found = lines.iter().filter(|(_, line)| line.contains(text));
        found.cloned().collect::<Vec<_>>()
    };
    assert!(about(&quiet, "direction=").is_empty(), "{quiet:?}");
    assert!(about(&quiet, "logged_bridge").is_empty(), "{quiet:?}");

    let mut config = bridge_config::default();
    config.enable_message_logging = true;
    exchange(config, true);
    let told = lines.take();
    let messages = about(&told, "direction=");
    assert_eq!(
        messages.len(),
        4,
        "sent and received, on both sides: {messages:?}"
    );
    for (level, line) in &messages {
        assert!(line.contains("bytes=11"), "{line}");
        assert_eq!(*level, log_level::info);
    }
    let bridge = about(&told, "logged_bridge");
    assert!(bridge.iter().all(|(level, _)| *level == log_level::info));
    for expected in [
        "kind=server",
        "kind=client",
        "state=running",
        "state=stopped",
        "connected=true",
        "connected=false",
    ] {
        let found = about(&bridge, expected);
        assert!(!found.is_empty(), "{expected}: {bridge:?}");
    }
    assert!(about(&told, "sesame").is_empty() && about(&quiet, "sesame").is_empty());
}

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use super::*;

use network_system::ErrorCode;

fn failed<T>() -> Result<T> {
    error(ErrorCode::PipelineFailed.as_i32(), "refused")
}

#[test]
fn filters_run_in_the_order_in_which_they_were_added() {
    let mut pipeline = message_pipeline::new();
    assert_eq!(pipeline.process("as it is").unwrap(), b"as it is");
    pipeline.add_filter(|message| [message, b"1"].concat());
    pipeline.add_text_filter(|message| format!("{message}2"));
    pipeline.add_filter(|message| ok([message, b"3"].concat()));
    pipeline.add_text_filter(|message| ok(format!("{message}4")));
    assert_eq!(pipeline.process("").unwrap(), b"1234");
    assert_eq!(pipeline.process(b"0").unwrap(), b"01234");
}

#[test]
fn a_filter_that_fails_ends_the_message_and_not_the_next_one() {
    let reached = Arc::new(AtomicUsize::new(0));
    let mut pipeline = message_pipeline::new();
    pipeline.add_filter(|message| match message {
        b"bad" => failed(),
        message => Ok(message.to_vec()),
    });
    let count = Arc::clone(&reached);
    pipeline.add_filter(move |message| {
        count.fetch_add(1, Ordering::Relaxed);
        message.to_vec()
    });
    let refused = pipeline.process("bad");
    assert_eq!(refused.error().code, error_codes::pipeline_failed);
    assert_eq!(reached.load(Ordering::Relaxed), 0);
    assert_eq!(pipeline.process("good").unwrap(), b"good");
    assert_eq!(reached.load(Ordering::Relaxed), 1);
}

#[test]
fn a_filter_of_text_refuses_what_is_no_text() {
    let mut pipeline = message_pipeline::new();
    pipeline.add_text_filter(str::to_uppercase);
    assert_eq!(pipeline.process("grün").unwrap(), "GRÜN".as_bytes());
    let refused = pipeline.process(b"\xFF");
    assert_eq!(refused.error().code, error_codes::pipeline_failed);
}

/// As the documentation of the C++ library shows it.
#[test]
fn a_server_answers_with_what_its_pipeline_makes_of_a_message() {
    let mut pipeline = message_pipeline::new();
    pipeline.add_text_filter(str::to_uppercase);
    let log = Arc::new(Mutex::new(Vec::new()));
    let lines = Arc::clone(&log);
    pipeline.add_filter(move |message| {
        lines.lock().unwrap().push(message.len());
        message.to_vec()
    });
    let server = echo();
    server.set_message_handler(move |session, message| {
        let processed = pipeline.process(message).expect("it is text");
        session.send_message(processed).expect("it is open");
    });
    let (client, messages) = client_of(&server);
    client.send_message("hello").expect("it is connected");
    assert_eq!(messages.next(), b"HELLO");
    assert_eq!(*log.lock().unwrap(), [5]);
}

#[test]
fn a_signed_message_is_verified_by_whoever_has_the_key() {
    let authenticated = authenticated_message::new("secret_key");
    let signed = authenticated.sign_message("hello");
    // printf hello | openssl dgst -sha256 -hmac secret_key -binary | base64
    assert_eq!(
        signed,
        b"hello|DxZqVSs4rrEq0HBV572n+KsvIqOjUuSB3pe4bxe+a8Y="
    );
    assert_eq!(authenticated.verify_message(&signed), Some(&b"hello"[..]));
    assert_eq!(authenticated.verify_message("hello"), None);
    let other = authenticated_message::new("another_key");
    assert_eq!(other.verify_message(&signed), None);
    assert!(!format!("{authenticated:?}").contains("secret_key"));
}

#[test]
#[allow(
    clippy::needless_borrows_for_generic_args,
    reason = "that it takes a borrowed vector, too, is the point"
)]
fn the_segmented_buffer_has_its_classic_names() {
    let mut pipeline = Pipeline::new();
    assert!(pipeline.empty());
    pipeline.write(b"borrowed, ");
    pipeline.write("borrowed, ");
    pipeline.write(b"x, ".to_vec());
    pipeline.write(vec![b'y', b',', b' ']);
    pipeline.write(String::from("given"));
    assert_eq!(*pipeline.peek(100), *b"borrowed, borrowed, x, y, given");
    assert_eq!(pipeline.size(), 31);
    pipeline.consume(26);
    assert_eq!(*pipeline.peek(2), *b"gi");
    pipeline.clear();
    assert_eq!((pipeline.size(), pipeline.empty()), (0, true));
}

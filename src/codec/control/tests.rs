//! Tests of CONTROL payloads.

use super::*;
use proptest::prelude::*;

fn parse(json: &str) -> Control {
    Control::parse(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn error(json: impl AsRef<[u8]>) -> String {
    match Control::parse(json.as_ref()) {
        Ok(control) => panic!("was read as {control:?}"),
        Err(error) => error.to_string(),
    }
}

fn full_hello() -> Hello {
    Hello {
        version: 1,
        client_id: Some("näme \"x\"".into()),
        token: Some("secret-1".into()),
        nonce: Some(*b"0123456789abcdef"),
        pipeline: vec!["lz4".into(), "aes-256-gcm".into()],
        reliable: true,
        window: Some(MAX_INTEGER),
        resume: Some(Resume {
            session_id: "s".into(),
            resume_token: "secret-2".into(),
            received: 7,
        }),
    }
}

fn full_welcome() -> Welcome {
    Welcome {
        version: 1,
        session_id: Some("s".into()),
        nonce: Some([0; 16]),
        pipeline: vec!["zstd".into()],
        reliable: true,
        window: Some(1 << 20),
        resume_token: Some("secret-3".into()),
        resume_ms: Some(30_000),
        resumed: true,
        received: Some(0),
        heartbeat_ms: Some(10_000),
        message_limit: Some(1 << 20),
        expires_ms: Some(60_000),
    }
}

fn full_refresh() -> Refresh {
    Refresh {
        id: 3,
        token: Some("secret-4".into()),
    }
}

#[test]
fn what_is_written_is_read_back() {
    let group = || "a\n\"b".to_owned();
    let all = [
        Control::Hello(Box::default()),
        Control::Hello(Box::new(full_hello())),
        Control::Welcome(Box::default()),
        Control::Welcome(Box::new(full_welcome())),
        Control::Ack { received: 256 },
        Control::Join { group: group() },
        Control::Leave { group: group() },
        Control::Joined { group: group() },
        Control::Left { group: group() },
        Control::Refused {
            group: group(),
            code: -624,
            text: "no".into(),
        },
        Control::Goaway {
            retry_ms: Some(500),
        },
        Control::Goaway { retry_ms: None },
        Control::Refresh(Box::new(full_refresh())),
        Control::Refreshed {
            id: 3,
            expires_ms: Some(60_000),
        },
        Control::Refreshed {
            id: 0,
            expires_ms: None,
        },
        Control::RefreshRefused {
            id: 3,
            code: -623,
            text: "no".into(),
        },
        Control::Unknown,
    ];
    for control in all {
        let bytes = control.to_bytes();
        assert_eq!(Control::parse(&bytes), Ok(control), "{bytes:?}");
    }
}

#[test]
fn the_bytes_are_those_of_the_protocol_page() {
    let json = |control: Control| String::from_utf8(control.to_bytes().into()).expect("UTF-8");
    assert_eq!(
        json(Control::Ack { received: 3 }),
        r#"{"op":"ack","received":3}"#
    );
    assert_eq!(
        json(Control::Refused {
            group: "g".into(),
            code: -624,
            text: "no".into()
        }),
        r#"{"op":"refused","group":"g","code":-624,"text":"no"}"#
    );
    assert_eq!(
        json(Control::Goaway { retry_ms: Some(5) }),
        r#"{"op":"goaway","retry_ms":5}"#
    );
    assert_eq!(
        json(Control::Refresh(Box::new(full_refresh()))),
        r#"{"op":"refresh","id":3,"token":"secret-4"}"#
    );
    assert_eq!(
        json(Control::RefreshRefused {
            id: 3,
            code: -623,
            text: "no".into()
        }),
        r#"{"op":"refresh_refused","id":3,"code":-623,"text":"no"}"#
    );
    assert_eq!(
        json(Control::Hello(Box::new(full_hello()))),
        concat!(
            r#"{"op":"hello","version":1,"client_id":"näme \"x\"","token":"secret-1","#,
            r#""nonce":"30313233343536373839616263646566","pipeline":["lz4","aes-256-gcm"],"#,
            r#""reliable":true,"window":9007199254740991,"resume":{"session_id":"s","#,
            r#""resume_token":"secret-2","received":7}}"#
        )
    );
}

#[test]
fn a_plain_hello_is_short_and_a_plain_welcome_states_the_answers() {
    let hello = Control::Hello(Box::default()).to_bytes();
    assert_eq!(hello, r#"{"op":"hello","version":1}"#);
    let welcome = Control::Welcome(Box::default()).to_bytes();
    let expected = r#"{"op":"welcome","version":1,"pipeline":[],"reliable":false,"resumed":false}"#;
    assert_eq!(welcome, expected);
}

#[test]
fn absent_and_null_fields_have_their_defaults() {
    assert_eq!(parse(r#"{"op":"hello"}"#), Control::Hello(Box::default()));
    let nulls = r#"{"version":null,"client_id":null,"token":null,"nonce":null,"pipeline":null,
        "reliable":null,"window":null,"resume":null,"op":"hello"}"#;
    assert_eq!(parse(nulls), Control::Hello(Box::default()));
    assert_eq!(
        parse(r#"{"op":"welcome"}"#),
        Control::Welcome(Box::default())
    );
    assert_eq!(parse(r#"{"op":"ack"}"#), Control::Ack { received: 0 });
    assert_eq!(
        parse(r#"{"op":"goaway"}"#),
        Control::Goaway { retry_ms: None }
    );
    assert_eq!(
        parse(r#"{"op":"join"}"#),
        Control::Join {
            group: String::new()
        }
    );
    let Control::Hello(hello) = parse(r#"{"op":"hello","resume":{}}"#) else {
        panic!("not hello");
    };
    assert_eq!(hello.resume, Some(Resume::default()));
}

#[test]
fn unknown_ops_and_fields_are_ignored() {
    assert_eq!(
        parse(r#"{"op":"future","version":"2.0","group":[1]}"#),
        Control::Unknown
    );
    let json = r#"{"op":"ack","received":5,"group":9,"x":{"y":1,"y":2},"z":[1e999e]}"#;
    assert!(error(json).contains("not one JSON object"));
    let json = r#"{"op":"ack","received":5,"group":9,"x":{"y":1,"y":2},"z":[1.5,-0]}"#;
    assert_eq!(parse(json), Control::Ack { received: 5 });
}

#[test]
fn only_one_json_object_in_utf8_is_control() {
    for json in [
        "",
        " ",
        "{",
        "{}{}",
        "{} x",
        r#"{"op":"ack",}"#,
        "{'op':1}",
        "\u{feff}{}",
    ] {
        let text = error(json);
        assert!(text.contains("not one JSON object"), "{json}: {text}");
    }
    for json in ["null", "1", "\"op\"", "[]", r#"[{"op":"ack"}]"#] {
        assert_eq!(error(json), "CONTROL is not a JSON object");
    }
    assert_eq!(error(b"{\"op\":\"\xff\"}"), "CONTROL is not valid UTF-8");
    assert!(error(r#"{"op":"\ud800"}"#).contains("not one JSON object"));
    assert_eq!(error("{}"), "CONTROL has no `op`");
    assert_eq!(error(r#"{"op":null}"#), "CONTROL has no `op`");
    assert_eq!(error(r#"{"op":1}"#), "`op` must be a string");
}

#[test]
fn a_key_that_stands_twice_is_refused_however_it_is_spelled() {
    let table = [
        (
            r#"{"op":"ack","op":"ack"}"#,
            "CONTROL has the key \"op\" twice",
        ),
        (
            r#"{"op":"ack","o\u0070":"ack"}"#,
            "CONTROL has the key \"op\" twice",
        ),
        (
            r#"{"op":"ack","x":null,"x":null}"#,
            "CONTROL has the key \"x\" twice",
        ),
        (
            r#"{"op":"future","x":1,"x":1}"#,
            "CONTROL has the key \"x\" twice",
        ),
        (
            r#"{"op":"hello","resume":{"received":1,"received":1}}"#,
            "`resume` has the key \"received\" twice",
        ),
        (
            r#"{"op":"hello","resume":{"a\n":1,"a\n":1}}"#,
            "`resume` has the key \"a\\n\" twice",
        ),
    ];
    for (json, expected) in table {
        assert_eq!(error(json), expected, "{json}");
    }
    let key = "k".repeat(1000);
    let long = error(format!(r#"{{"op":"ack","{key}":1,"{key}":1}}"#));
    assert!(long.len() < 100, "{long}");
}

#[test]
fn a_known_field_of_the_wrong_type_is_named() {
    let long_id = &*format!("\"{}\"", "x".repeat(CLIENT_ID_MAX + 1));
    let count = "a whole number from 0 to 9007199254740991";
    let table = [
        ("hello", "version", "\"1\"", count),
        ("hello", "client_id", "1", "a string of at most 256 bytes"),
        (
            "hello",
            "client_id",
            long_id,
            "a string of at most 256 bytes",
        ),
        ("hello", "token", "[]", "a string"),
        ("hello", "nonce", "7", "32 hexadecimal digits"),
        ("hello", "nonce", "\"00\"", "32 hexadecimal digits"),
        (
            "hello",
            "nonce",
            "\"+0000000000000000000000000000000\"",
            "32 hexadecimal digits",
        ),
        (
            "hello",
            "nonce",
            "\"g0000000000000000000000000000000\"",
            "32 hexadecimal digits",
        ),
        ("hello", "pipeline", "\"lz4\"", "a list of strings"),
        ("hello", "pipeline", "[\"lz4\",null]", "a list of strings"),
        ("hello", "reliable", "1", "true or false"),
        ("hello", "window", "-1", count),
        ("hello", "resume", "[]", "an object"),
        ("welcome", "session_id", "{}", "a string"),
        ("welcome", "resumed", "\"yes\"", "true or false"),
        ("ack", "received", "9007199254740992", count),
        ("ack", "received", "18446744073709551616", count),
        ("ack", "received", "1.0", count),
        ("ack", "received", "1e3", count),
        ("join", "group", "1", "a string"),
        ("refused", "code", "2147483648", "a whole number of 32 bits"),
        ("goaway", "retry_ms", "true", count),
    ];
    for (op, field, value, expected) in table {
        let json = format!(r#"{{"op":"{op}","{field}":{value}}}"#);
        assert_eq!(
            error(&json),
            format!("`{field}` must be {expected}"),
            "{json}"
        );
    }
    let resume = r#"{"op":"hello","resume":{"received":-1}}"#;
    assert_eq!(error(resume), format!("`received` must be {count}"));
}

#[test]
fn the_largest_values_pass() {
    let json = format!(r#"{{"op":"ack","received":{MAX_INTEGER}}}"#);
    assert_eq!(
        parse(&json),
        Control::Ack {
            received: MAX_INTEGER
        }
    );
    let Control::Hello(hello) = parse(&format!(
        r#"{{"op":"hello","version":{MAX_INTEGER},"nonce":"{}"}}"#,
        "Ff".repeat(16)
    )) else {
        panic!("not hello");
    };
    assert_eq!((hello.version, hello.nonce), (u32::MAX, Some([0xff; 16])));
}

#[test]
fn deep_nesting_is_an_error_and_no_stack_overflow() {
    let json = format!(r#"{{"op":"ack","x":{}"#, "[".repeat(60_000));
    assert!(error(json).contains("recursion limit"));
}

#[test]
fn debug_output_has_no_tokens() {
    let hello = Control::Hello(Box::new(full_hello()));
    let welcome = Control::Welcome(Box::new(full_welcome()));
    let refresh = Control::Refresh(Box::new(full_refresh()));
    let text = format!("{hello:?} {welcome:?} {refresh:?}");
    assert!(
        !text.contains("secret") && text.contains("[hidden]"),
        "{text}"
    );
}

proptest! {
    #[test]
    fn acknowledgements_are_read_alike_however_they_are_written(
        received in prop_oneof![any::<u64>(), 0..1000_u64, 0..=MAX_INTEGER],
        zeros in 0..2_usize,
        end in prop_oneof![Just("}"), Just(" }"), Just("}}"), Just(""), Just(",\"x\":1}")],
    ) {
        // A space before it leaves it to the parser of JSON.
        let json = format!("{{\"op\":\"ack\",\"received\":{}{received}{end}", "0".repeat(zeros));
        let (plain, spaced) = (Control::parse(json.as_bytes()), Control::parse(format!(" {json}").as_bytes()));
        prop_assert_eq!(plain.as_ref().ok(), spaced.as_ref().ok());
    }

    #[test]
    fn no_bytes_make_the_parser_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
        json in "[\\[\\]{}\":,\\\\a0-9.eE+-]{0,64}",
        fields in "(,\"[a-z]{1,3}\":[\\[\\]{}\"0-9a-z]{0,4}){0,6}",
    ) {
        let _ = Control::parse(&bytes);
        let _ = Control::parse(json.as_bytes());
        let _ = Control::parse(format!("{{\"op\":\"hello\"{fields}}}").as_bytes());
    }

    #[test]
    fn any_names_and_counts_survive(
        group: String,
        text: String,
        code: i32,
        received in 0..=MAX_INTEGER,
        nonce: [u8; 16],
    ) {
        let hello = Hello { nonce: Some(nonce), token: Some(text.clone()), ..Hello::default() };
        for control in [
            Control::Refused { group, code, text },
            Control::Ack { received },
            Control::Hello(Box::new(hello)),
        ] {
            let bytes = control.to_bytes();
            prop_assert_eq!(Control::parse(&bytes), Ok(control));
        }
    }
}

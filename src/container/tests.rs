#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use proptest::prelude::*;

use super::*;

/// Any value, some levels deep.
pub(crate) fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        Just(Value::Container(None)),
        any::<bool>().prop_map(Value::from),
        any::<i16>().prop_map(Value::from),
        any::<u16>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        any::<i64>().prop_map(Value::Long),
        any::<u64>().prop_map(Value::ULong),
        any::<i64>().prop_map(Value::LLong),
        any::<u64>().prop_map(Value::ULLong),
        (-200_i64..200).prop_map(Value::LLong),
        any::<u32>().prop_map(|bits| Value::Float(f32::from_bits(bits))),
        any::<u64>().prop_map(|bits| Value::Double(f64::from_bits(bits))),
        any_text().prop_map(Value::String),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 20, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::Array),
            (any_header(), entries(inner))
                .prop_map(|(header, values)| Value::from(Container::from_parts(header, values))),
        ]
    })
}

fn any_text() -> impl Strategy<Value = Text> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Text::from),
        "\\PC{0,30}".prop_map(Text::from),
    ]
}

fn any_header() -> impl Strategy<Value = Header> {
    let ids = proptest::array::uniform4(prop_oneof![Just(Text::new()), any_text()]);
    let message_type = prop_oneof![Just(Text::from("data_container")), any_text()];
    (ids, message_type, any_text()).prop_map(|(ids, message_type, version)| {
        let [source, source_sub, target, target_sub] = ids;
        Header {
            source,
            source_sub,
            target,
            target_sub,
            message_type,
            version,
        }
    })
}

fn entries(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Vec<(Text, Value)>> {
    proptest::collection::vec((any_text(), value), 0..20)
}

pub(crate) fn any_container() -> impl Strategy<Value = Container> {
    (any_header(), entries(any_value()))
        .prop_map(|(header, values)| Container::from_parts(header, values))
}

fn sample() -> Container {
    let user = Container::new("user")
        .with("name", "ada")
        .with("tags", ["a", "b"].into_iter().collect::<Value>());
    Container::new("login")
        .source("client", "1")
        .target("server", "2")
        .with("n", 42)
        .with("user.name", "dotted")
        .with("a/b~c", true)
        .with("n", 43_u64)
        .with("user", user)
}

#[test]
fn values_keep_their_order_and_may_share_a_name() {
    let mut container = sample();
    let names: Vec<_> = container.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["n", "user.name", "a/b~c", "n", "user"]);
    assert_eq!(container.get("n"), Some(&Value::Int(42)));
    let all: Vec<_> = container.get_all("n").filter_map(Value::to_i64).collect();
    assert_eq!(all, [42, 43]);

    assert_eq!(container.set("n", 1), Some(Value::Int(42)));
    assert_eq!(container.set("new", 2), None);
    assert_eq!(container.remove("n"), Some(Value::Int(1)));
    assert_eq!(container.get("n"), Some(&Value::ULLong(43)));
    assert_eq!(container.remove("nothing"), None);
    assert_eq!(container.len(), 5);
}

#[test]
fn a_path_reaches_every_value_whatever_its_name() {
    let mut container = sample();
    assert_eq!(container.at_as::<&str>("user/name").unwrap(), "ada");
    assert_eq!(container.at_as::<&str>("user/tags/1").unwrap(), "b");
    assert_eq!(container.at_as::<&str>("user.name").unwrap(), "dotted");
    assert_eq!(container.at_as::<bool>("a~1b~0c"), Ok(true));
    for path in [
        "user/tags/2",
        "user/tags/01",
        "user/tags/+1",
        "n/0",
        "x",
        "",
        "a~2",
        "~",
    ] {
        assert_eq!(container.at(path), None, "{path}");
        assert!(container.at_as::<Value>(path).unwrap_err().is_missing());
    }
    *container.at_mut("user/tags/0").unwrap() = Value::Null;
    assert!(container.at("user/tags/0").unwrap().is_null());
}

#[test]
fn typed_getters_convert_without_loss_only() {
    let container = Container::new("x")
        .with("int", 300)
        .with("big", u64::MAX)
        .with("float", 0.5_f32)
        .with("double", 0.1)
        .with("text", "text")
        .with("not_text", Text::from(&b"\xff"[..]))
        .with("bytes", b"\x00\xff")
        .with("null", ())
        .with("list", [1, 2].into_iter().collect::<Value>());
    assert_eq!(container.get_as::<u16>("int"), Ok(300));
    assert_eq!(container.get_as::<f64>("int"), Ok(300.0));
    assert!(container.get_as::<u8>("int").is_err());
    assert!(container.get_as::<bool>("int").is_err());
    assert_eq!(container.get_as::<u64>("big"), Ok(u64::MAX));
    assert!(container.get_as::<i64>("big").is_err());
    assert!(container.get_as::<f64>("big").is_err());
    assert_eq!(container.get_as::<f64>("float"), Ok(0.5));
    assert!(container.get_as::<f32>("double").is_err());
    assert_eq!(container.get_as::<String>("text"), Ok("text".to_owned()));
    assert!(container.get_as::<&str>("not_text").is_err());
    assert_eq!(
        container.get_as::<Text>("not_text").unwrap().as_bytes(),
        b"\xff"
    );
    assert_eq!(container.get_as::<&[u8]>("bytes"), Ok(&b"\x00\xff"[..]));
    assert_eq!(container.get_as::<Option<i32>>("null"), Ok(None));
    assert_eq!(container.get_as::<Option<i32>>("int"), Ok(Some(300)));
    assert_eq!(container.get_as::<Vec<u8>>("list"), Ok(vec![1, 2]));

    let error = container.get_as::<i32>("text").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the value \"text\" is a string and no i32"
    );
    assert_eq!(error.found(), Some(ValueType::String));
    let error = container.get_as::<i32>("nothing").unwrap_err();
    assert_eq!(error.to_string(), "there is no value \"nothing\"");
}

#[test]
fn an_answer_goes_back_to_the_source() {
    let answer = sample().reply("login_result");
    assert_eq!(answer.header.source, "server");
    assert_eq!(answer.header.source_sub, "2");
    assert_eq!(answer.header.target, "client");
    assert_eq!(answer.header.target_sub, "1");
    assert_eq!(answer.message_type(), "login_result");
    assert!(answer.is_empty());
}

#[test]
fn debug_output_shows_names_and_types_and_no_content() {
    let shown = format!(
        "{:?}",
        sample().with("pin", 1234).with("password", "hunter2")
    );
    for content in ["1234", "hunter2", "ada", "dotted"] {
        assert!(!shown.contains(content), "{shown}");
    }
    assert!(shown.contains("\"password\": string(7 B)"), "{shown}");
}

#[test]
fn floats_are_equal_by_their_bits() {
    assert_eq!(Value::from(f64::NAN), Value::from(f64::NAN));
    assert_ne!(Value::from(0.0), Value::from(-0.0));
    assert_ne!(Value::Long(1), Value::LLong(1));
}

#[test]
fn a_text_is_its_bytes_whatever_their_number() {
    for len in [0, 1, 22, 23, 24, 300] {
        let long = vec![b'x'; len];
        let source = Bytes::from([b"..", &long[..], b".."].concat());
        let part = Text::part(&source, 2, 2 + len).unwrap();
        assert_eq!(part.as_bytes(), long);
        assert_eq!(part.to_bytes(), long);
        assert_eq!(part, Text::from(long.clone()));
        assert_eq!(part, Text::from(&long[..]));
        assert_eq!(part.len(), len);
        // At the very end there is nothing behind it to copy along.
        assert_eq!(
            Text::part(&source.slice(..2 + len), 2, 2 + len).unwrap(),
            part
        );
        assert_eq!(Text::part(&source, 2, source.len() + 1), None);
        assert_eq!(Text::part(&source, 3, 2), None);
    }
    assert_eq!(std::mem::size_of::<Text>(), std::mem::size_of::<Bytes>());
}

#[test]
fn formats_and_types_are_found_by_their_names() {
    for format in Format::ALL {
        assert_eq!(format.name().parse::<Format>().unwrap(), *format);
    }
    assert!("MSGPACK".parse::<Format>().is_err());
    for (id, value_type) in ValueType::ALL.iter().enumerate() {
        assert_eq!(usize::from(value_type.id()), id);
        assert_eq!(ValueType::from_id(value_type.id()), Some(*value_type));
        assert_eq!(ValueType::from_name(value_type.name()), Some(*value_type));
    }
    assert_eq!(ValueType::from_id(16), None);
}

#[test]
fn an_error_names_the_value_and_the_formats_that_carry_it() {
    let inner = Container::new("data_container").with("n", 1).with("n", 2);
    let list = Value::Array(vec![Value::Null, inner.into()]);
    let container = Container::new("x").with("a/b", list);
    let mut output = b"before".to_vec();
    let error = container
        .encode_into(Format::Binary, &mut output)
        .unwrap_err();
    assert_eq!(output, b"before");
    assert_eq!(error.path(), "a~1b/1/n");
    assert_eq!(
        error.to_string(),
        "the binary format cannot carry two values of one name (\"a~1b/1/n\"); msgpack and json can"
    );
}

#[test]
fn the_path_in_an_error_stays_short() {
    let mut value = Value::from_iter([Value::from(Container::new("typed"))]);
    for _ in 0..60 {
        value = Container::new("data_container")
            .with("x".repeat(100), value)
            .into();
    }
    let container = Container::new("x").with("outer", value);
    let error = container.encode(Format::Binary).unwrap_err();
    assert!(error.to_string().len() < 600);
    assert!(error.path().starts_with("…/"), "{}", error.path());
}

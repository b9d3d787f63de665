#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::*;
use crate::container::Format;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle(f64),
    Line(i32, i32),
    Box { width: u32, height: u32 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Inner {
    name: String,
    tags: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    yes: bool,
    tiny: i8,
    octet: u8,
    short: i16,
    ushort: u16,
    int: i32,
    uint: u32,
    long: i64,
    ulong: u64,
    float: f32,
    double: f64,
    letter: char,
    text: String,
    some: Option<u32>,
    none: Option<u32>,
    unit: (),
    pair: (i32, String),
    list: Vec<u8>,
    inner: Inner,
    many: Vec<Inner>,
    shapes: Vec<Shape>,
    counts: BTreeMap<u16, i64>,
    named: HashMap<String, bool>,
}

fn everything() -> Everything {
    let inner = Inner {
        name: "in".into(),
        tags: vec!["a".into(), String::new()],
    };
    Everything {
        yes: true,
        tiny: i8::MIN,
        octet: u8::MAX,
        short: i16::MIN,
        ushort: u16::MAX,
        int: i32::MIN,
        uint: u32::MAX,
        long: i64::MIN,
        ulong: u64::MAX,
        float: 0.1,
        double: -0.1,
        letter: 'é',
        text: "a text of more than twenty-three bytes".into(),
        some: Some(0),
        none: None,
        unit: (),
        pair: (-1, "two".into()),
        list: vec![0, 255],
        inner: inner.clone(),
        many: vec![inner.clone(), inner],
        shapes: vec![
            Shape::Point,
            Shape::Circle(1.5),
            Shape::Line(-1, 1),
            Shape::Box {
                width: 2,
                height: 3,
            },
        ],
        counts: [(1, -1), (65_535, i64::MAX)].into(),
        named: [("x".to_owned(), true)].into(),
    }
}

#[test]
fn a_struct_comes_back_from_a_container_and_its_formats() {
    let before = everything();
    let container = Container::from_struct("everything", &before).unwrap();
    assert_eq!(container.message_type(), "everything");
    assert_eq!(container.to_struct::<Everything>().unwrap(), before);
    for format in [Format::MessagePack, Format::Binary] {
        let bytes = container.encode(format).unwrap().into();
        let container = Container::decode(format, &bytes).unwrap();
        assert_eq!(container.to_struct::<Everything>().unwrap(), before);
    }
}

#[test]
fn texts_are_borrowed() {
    #[derive(Deserialize)]
    struct Borrowed<'a> {
        name: &'a str,
        data: &'a [u8],
    }
    let container = Container::new("x")
        .with("name", "ada")
        .with("data", b"\xff\x00");
    let borrowed: Borrowed<'_> = container.to_struct().unwrap();
    assert_eq!((borrowed.name, borrowed.data), ("ada", &b"\xff\x00"[..]));
}

#[test]
fn bytes_are_taken_as_a_list_of_numbers() {
    let container = Container::new("x").with("list", b"\x01\x02");
    let map: BTreeMap<String, Vec<u8>> = container.to_struct().unwrap();
    assert_eq!(map["list"], [1, 2]);
}

#[test]
fn errors_name_the_place_and_show_no_content() {
    let mut container = Container::from_struct("x", &everything()).unwrap();
    *container.at_mut("many/1/name").unwrap() = Value::Null;
    let error = container.to_struct::<Everything>().unwrap_err();
    assert_eq!(error.path(), "many/1/name");
    assert_eq!(
        error.to_string(),
        "found null, expected a string (\"many/1/name\")"
    );

    let mut container = Container::from_struct("x", &everything()).unwrap();
    container.set("int", "secret");
    container.set("shapes", Value::from_iter(["secret"]));
    let error = container.to_struct::<Everything>().unwrap_err().to_string();
    assert_eq!(error, "found a string, expected i32 (\"int\")");
    container.set("int", 1);
    let error = container.to_struct::<Everything>().unwrap_err().to_string();
    assert!(
        error.contains("shapes/0") && !error.contains("secret"),
        "{error}"
    );
}

#[test]
fn a_field_that_stands_there_twice_is_refused() {
    #[derive(Debug, Deserialize)]
    struct One {
        #[allow(dead_code)]
        a: i32,
    }
    let container = Container::new("x").with("a", 1).with("a", 2);
    assert!(container.to_struct::<One>().is_err());
}

#[test]
fn no_element_is_left_out() {
    let three = Value::from_iter([1, 2, 3]);
    assert_eq!(three.to_deserialize::<(i32, i32, i32)>(), Ok((1, 2, 3)));
    assert!(three.to_deserialize::<(i32, i32)>().is_err());
    assert!(three.to_deserialize::<[i32; 2]>().is_err());
    let bytes = Value::from(b"abc");
    assert_eq!(bytes.to_deserialize::<[u8; 3]>(), Ok(*b"abc"));
    assert!(bytes.to_deserialize::<(u8, u8)>().is_err());

    #[derive(Debug, Deserialize)]
    enum Point {
        At(#[allow(dead_code)] i32, #[allow(dead_code)] i32),
    }
    let container = Container::new("x").with("At", three);
    let error = container.to_struct::<Point>().unwrap_err();
    assert_eq!(error.path(), "At");
}

#[test]
fn a_number_that_floating_bits_do_not_hold_is_refused() {
    assert!(Value::from(1e300).to_deserialize::<f32>().is_err());
    assert!(Value::from(16_777_217).to_deserialize::<f32>().is_err());
    assert!(Value::from(u64::MAX).to_deserialize::<f64>().is_err());
    assert_eq!(Value::from(0.5).to_deserialize::<f32>(), Ok(0.5));
    assert_eq!(
        Value::from(f64::INFINITY).to_deserialize(),
        Ok(f32::INFINITY)
    );
    assert_eq!(
        Value::from(1_u64 << 63).to_deserialize(),
        Ok(2_f64.powi(63))
    );
}

#[test]
fn what_is_no_struct_or_map_is_refused() {
    assert!(Container::from_struct("x", &1).is_err());
    assert!(Container::from_struct("x", &[1]).is_err());
    assert!(Container::from_struct("x", &HashMap::from([((1, 2), 3)])).is_err());
    assert!(Value::from_serialize(&u128::MAX).is_err());
}

#[test]
fn depth_is_limited_in_both_directions() {
    #[derive(Serialize, Deserialize)]
    struct Nested(Vec<Nested>);
    let mut nested = Nested(Vec::new());
    for _ in 0..1_000 {
        nested = Nested(vec![nested]);
    }
    assert!(Value::from_serialize(&nested).is_err());

    let mut value = Value::Array(Vec::new());
    for _ in 0..1_000 {
        value = Value::Array(vec![value]);
    }
    assert!(value.to_deserialize::<Nested>().is_err());
}

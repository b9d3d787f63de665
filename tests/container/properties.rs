//! What holds for every container.

use bytes::Bytes;
use network_system::container::{Container, Format, Header, Text, Value};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::vectors::with_plain_integers;

/// A text: usually one that all formats take, sometimes one that is trouble for some of them.
fn texts() -> impl Strategy<Value = Text> {
    prop_oneof![
        4 => "[a-zA-Z0-9_]{0,30}".prop_map(Text::from),
        2 => r"[ -~]{0,12}".prop_map(Text::from),
        1 => r"[\];}{@data=,\[ \r\n\t\\]{0,8}".prop_map(Text::from),
        1 => any::<String>().prop_map(Text::from),
        1 => vec(any::<u8>(), 0..8).prop_map(Text::from),
    ]
}

fn doubles() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        any::<i32>().prop_map(|number| f64::from(number) / 1000.0),
        Just(f64::NAN),
        Just(f64::INFINITY),
    ]
}

fn scalars() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i16>().prop_map(Value::Short),
        any::<u16>().prop_map(Value::UShort),
        any::<i32>().prop_map(Value::Int),
        any::<u32>().prop_map(Value::UInt),
        any::<i64>().prop_map(Value::Long),
        any::<u64>().prop_map(Value::ULong),
        any::<i64>().prop_map(Value::LLong),
        any::<u64>().prop_map(Value::ULLong),
        any::<u32>().prop_map(|bits| Value::Float(f32::from_bits(bits))),
        doubles().prop_map(|number| Value::Float(number as f32)),
        doubles().prop_map(Value::Double),
        texts().prop_map(Value::String),
        texts().prop_map(Value::String),
    ]
}

fn values() -> impl Strategy<Value = Value> {
    let rare = prop_oneof![
        vec(any::<u8>(), 0..40).prop_map(|bytes| Value::Bytes(bytes.into())),
        Just(Value::Container(None)),
    ];
    let leaf = prop_oneof![8 => scalars(), 1 => rare];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::Array),
            (headers(), vec((texts(), inner), 0..6))
                .prop_map(|(header, values)| Container::from_parts(header, values).into()),
        ]
    })
}

fn headers() -> impl Strategy<Value = Header> {
    prop_oneof![
        Just(Header::default()),
        vec(texts(), 6).prop_map(|fields| {
            let [
                source,
                source_sub,
                target,
                target_sub,
                message_type,
                version,
            ] = fields.try_into().expect("six");
            Header {
                source,
                source_sub,
                target,
                target_sub,
                message_type,
                version,
            }
        }),
    ]
}

fn containers(values: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Container> {
    (headers(), vec((texts(), values), 0..5))
        .prop_map(|(header, values)| Container::from_parts(header, values))
}

/// What is written is read as the same, or else it is not written, and the error names what can carry it.
fn is_carried_or_refused(
    container: &Container,
    format: Format,
    comparable: fn(&Container) -> Container,
) -> Result<(), TestCaseError> {
    match container.encode(format) {
        Ok(bytes) => {
            let read = Container::decode(format, &bytes.into());
            prop_assert_eq!(
                read.map(|read| comparable(&read)),
                Ok(comparable(container))
            );
        }
        Err(error) => {
            prop_assert!(!error.carriers().is_empty() && !error.carriers().contains(&format));
            prop_assert!(error.to_string().contains("can"), "{}", error);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn text_carries_exactly_or_refuses(container in containers(scalars())) {
        is_carried_or_refused(&container, Format::Text, Container::clone)?;
    }

    #[test]
    fn typed_json_carries_exactly_or_refuses(container in containers(values())) {
        is_carried_or_refused(&container, Format::Json, Container::clone)?;
    }

    /// But for the types of integers, and a float that becomes a double of the same six decimals.
    #[test]
    fn cpp_json_carries_or_refuses(container in containers(scalars())) {
        let comparable = |container: &Container| {
            let values = container.iter().map(|(name, value)| {
                let value = match value {
                    Value::Float(number) => format!("{number:.6}").into(),
                    Value::Double(number) => format!("{number:.6}").into(),
                    other => other.clone(),
                };
                (name.clone(), value)
            });
            with_plain_integers(&Container::from_parts(container.header.clone(), values.collect()))
        };
        is_carried_or_refused(&container, Format::CppJson, comparable)?;
    }

    #[test]
    fn json_to_look_at_shows_everything(container in containers(values())) {
        let shown = container.to_typed_json().expect("not nested deeply");
        prop_assert_eq!(Container::from_typed_json(&shown), Ok(container));
    }

    /// Whatever is cut off, what is left is no container.
    #[test]
    fn a_part_of_a_container_is_refused(container in containers(values()), part: prop::sample::Index) {
        for format in [Format::Text, Format::Json, Format::CppJson] {
            let Ok(bytes) = container.encode(format) else { continue };
            let part = Bytes::from(bytes[..part.index(bytes.len())].to_vec());
            prop_assert!(Container::decode(format, &part).is_err(), "{:?}", part);
        }
    }

    #[test]
    fn any_input_is_read_or_refused(bytes: Vec<u8>) {
        let bytes = Bytes::from(bytes);
        for format in Format::ALL {
            let _ = Container::decode(*format, &bytes);
        }
    }

    /// The same for input that looks like text, and what is read of it is told apart from what is not.
    #[test]
    fn what_looks_like_text_is_read_or_refused(
        parts in vec(prop_oneof![
            Just("@header="), Just("@data="), Just("{{"), Just("}};"), Just("}"), Just("["), Just("];"), Just(","),
            Just("[n,4,1];"), Just("[s,12,"), Just("[c,14,1];"), Just("[5,m];"), Just("\\"), Just(" "), Just("\n"),
            Just("int_value"), Just("@data={{"), Just("@header={{"),
        ], 0..12),
    ) {
        let text = Bytes::from(parts.concat());
        if let Ok(read) = Container::decode(Format::Text, &text)
            && let Ok(written) = read.encode(Format::Text)
        {
            prop_assert_eq!(Container::decode(Format::Text, &written.into()), Ok(read));
        }
    }
}

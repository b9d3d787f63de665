//! Containers in MessagePack.

use bytes::Bytes;
use network_system::container::{Container, Format, Value};

use crate::input::Input;

/// The input is read as it is, and as a recipe for a container. Promises: reading does not panic; a refusal is
/// one short line with a place inside the input; what was read is written, and reads as the same; so does what
/// was made from the recipe, but for the types of integers; bytes are never read as anything else.
pub fn run(data: &[u8]) {
    let format = Format::MessagePack;
    assert_reads(format, &Bytes::copy_from_slice(data));

    let mut input = Input::new(data);
    let container = container(&mut input, 0);
    match container.encode(format) {
        Ok(written) => {
            let written = Bytes::from(written);
            assert_reads(format, &written);
            let read = Container::decode(format, &written).expect("it has been written here");
            assert_same(&read, &container);
        }
        Err(error) => assert!(!error.carriers().is_empty(), "{error}"),
    }
}

/// Reads and, if that succeeds, writes and reads again.
pub(crate) fn assert_reads(format: Format, input: &Bytes) {
    match Container::decode(format, input) {
        Ok(container) => {
            let written = container.encode(format).expect("it has been read");
            let again = Container::decode(format, &written.into());
            assert_eq!(again.as_ref(), Ok(&container));
        }
        Err(error) => {
            let text = error.to_string();
            assert!(
                text.len() <= 1_024 && !text.contains(['\n', '\r']),
                "{text}"
            );
            assert!(error.position() <= input.len(), "{text}");
        }
    }
}

/// Makes a container; a few levels deep.
pub(crate) fn container(input: &mut Input<'_>, depth: usize) -> Container {
    let choice = input.byte();
    let mut container = match choice & 1 {
        0 => Container::default(),
        _ => Container::new(short(input)),
    };
    if choice & 2 != 0 {
        container = container.source(short(input), short(input));
    }
    for _ in 0..choice >> 2 {
        if input.is_empty() {
            break;
        }
        let name = short(input);
        container.push(name, value(input, depth));
    }
    container
}

fn value(input: &mut Input<'_>, depth: usize) -> Value {
    match input.byte() % 20 {
        0 => Value::Null,
        1 => Value::Bool(input.byte() & 1 == 1),
        2 => Value::Short(input.pair() as i16),
        3 => Value::UShort(input.pair()),
        4 => Value::Int(input.quad() as i32),
        5 => Value::UInt(input.quad()),
        6 => Value::Long(long(input) as i64),
        7 => Value::ULong(long(input)),
        8 => Value::LLong(long(input) as i64),
        9 => Value::ULLong(long(input)),
        10 => Value::Float(f32::from_bits(input.quad())),
        11 => Value::Double(f64::from_bits(long(input))),
        12 => Value::String(short(input).into()),
        13 => Value::from(short(input)),
        14 => Value::Container(None),
        // Bytes that are nearly a container, or wholly one.
        15 if depth < 4 => {
            let mut bytes = container(input, depth + 1)
                .encode(Format::MessagePack)
                .unwrap_or_default();
            let (at, byte) = (usize::from(input.byte()), input.byte());
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            Value::from(bytes)
        }
        16 | 17 if depth < 4 => Value::from(container(input, depth + 1)),
        18 | 19 if depth < 4 => {
            let len = usize::from(input.byte());
            let mut values = Vec::new();
            while values.len() < len && !input.is_empty() {
                values.push(value(input, depth + 1));
            }
            Value::Array(values)
        }
        _ => Value::Null,
    }
}

fn long(input: &mut Input<'_>) -> u64 {
    u64::from(input.quad()) << 32 | u64::from(input.quad())
}

fn short<'a>(input: &mut Input<'a>) -> &'a [u8] {
    let len = usize::from(input.byte());
    input.bytes(len % 80)
}

fn assert_same(read: &Container, made: &Container) {
    assert_eq!((&read.header, read.len()), (&made.header, made.len()));
    for ((read_name, read), (made_name, made)) in read.iter().zip(made) {
        assert_eq!(read_name, made_name);
        assert_same_value(read, made);
    }
}

fn assert_same_value(read: &Value, made: &Value) {
    match (read, made) {
        (Value::Container(Some(read)), Value::Container(Some(made))) => assert_same(read, made),
        (Value::Null, Value::Container(None)) => {}
        (Value::Array(read), Value::Array(made)) => {
            assert_eq!(read.len(), made.len());
            for (read, made) in read.iter().zip(made) {
                assert_same_value(read, made);
            }
        }
        _ => match made.as_integer() {
            Some(number) => assert_eq!(read.as_integer(), Some(number)),
            None => assert_eq!(read, made),
        },
    }
}

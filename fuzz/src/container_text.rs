//! Containers as text.

use bytes::Bytes;
use network_system::container::{Container, DecodeError, DecodeOptions, Format, TextDialect};

/// The first byte chooses a dialect, the rest is a container as text. Promises: reading does not panic, an error is
/// in the input, whatever was read and can be written is read as the same again, and something can write it.
pub fn run(data: &[u8]) {
    let Some((choice, text)) = data.split_first() else {
        return;
    };
    let dialect = match choice % 5 {
        0 => TextDialect::Detect,
        1 => TextDialect::Cpp,
        2 => TextDialect::CppLegacy,
        3 => TextDialect::Python,
        _ => TextDialect::Ports,
    };
    let options = DecodeOptions::new().text_dialect(dialect);
    let input = Bytes::copy_from_slice(text);
    let read = Container::decode_with(Format::Text, &input, &options);
    check(read, &input, &[Format::Text, Format::Json]);
}

/// What holds for everything that was read, or was not.
pub(crate) fn check(read: Result<Container, DecodeError>, input: &Bytes, formats: &[Format]) {
    let container = match read {
        Ok(container) => container,
        Err(error) => {
            assert!(error.position() <= input.len(), "{error}");
            assert!(error.to_string().len() <= 2_048, "{error}");
            return;
        }
    };
    for format in formats {
        match container.encode(*format) {
            Ok(written) => {
                let again = Container::decode(*format, &written.into());
                assert_eq!(again.as_ref(), Ok(&container), "{format}");
            }
            Err(error) => assert!(!error.carriers().is_empty(), "{error}"),
        }
    }
    let shown = container.to_typed_json().expect("not nested deeply");
    assert_eq!(Container::from_typed_json(&shown), Ok(container));
}

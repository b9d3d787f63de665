//! What makes values, and reads and writes containers for a bridge.

use std::str::FromStr;

use bytes::Bytes;

use super::{value, value_container, value_types};
use crate::compat::result::{Result, error};
use crate::container::{Container, DecodeOptions, Format, Value, c_numbers};
use crate::error::ErrorCode;

/// Makes values from text; and, given to a [`messaging_bridge`](crate::compat::messaging_bridge), says in
/// which format its containers are, and what is read at most.
#[derive(Clone, Debug)]
pub struct value_factory {
    format: Format,
    options: DecodeOptions,
}

/// MessagePack, with the limits of [`DecodeOptions`].
impl Default for value_factory {
    fn default() -> Self {
        value_factory::with_format(Format::MessagePack)
    }
}

impl value_factory {
    /// A factory whose containers are in MessagePack.
    pub fn new() -> Self {
        value_factory::default()
    }

    /// A factory whose containers are in another format.
    pub fn with_format(format: Format) -> Self {
        value_factory {
            format,
            options: DecodeOptions::default(),
        }
    }

    /// Sets what is read at most.
    #[must_use]
    pub fn limits(mut self, options: DecodeOptions) -> Self {
        self.options = options;
        self
    }

    /// The same limits for containers in another format.
    pub(in crate::compat) fn in_format(&self, format: Format) -> Self {
        value_factory {
            format,
            options: self.options.clone(),
        }
    }

    /// The format of its containers.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Reads a container in the format of the factory.
    ///
    /// # Errors
    /// As [`value_container::from_serialized_as`].
    pub fn deserialize(&self, data: impl Into<Bytes>) -> Result<value_container> {
        Ok(Container::decode_with(self.format, &data.into(), &self.options)?.into())
    }

    /// Writes a container in the format of the factory.
    ///
    /// # Errors
    /// As [`value_container::serialize_as`].
    pub fn serialize(&self, container: &value_container) -> Result<Vec<u8>> {
        container.serialize_as(self.format)
    }

    /// Makes a value of a type from its text: a decimal number, `true` or `false`, the text itself, or the
    /// bytes of the text. Null takes no text.
    ///
    /// # Errors
    /// `request_failed`: the text is not of the type, or the number does not fit. `not_supported` for
    /// containers and arrays, which [`value::new`] makes.
    pub fn create(name: &str, value_type: value_types, text: &str) -> Result<value> {
        let made = match value_type {
            value_types::null_value if text.is_empty() => Some(Value::Null),
            value_types::null_value => None,
            value_types::bool_value => parse(text, Value::Bool),
            value_types::short_value => parse(text, Value::Short),
            value_types::ushort_value => parse(text, Value::UShort),
            value_types::int_value => parse(text, Value::Int),
            value_types::uint_value => parse(text, Value::UInt),
            value_types::long_value => parse(text, Value::Long),
            value_types::ulong_value => parse(text, Value::ULong),
            value_types::llong_value => parse(text, Value::LLong),
            value_types::ullong_value => parse(text, Value::ULLong),
            value_types::float_value => c_numbers::read_f32(text.as_bytes()).ok().map(Value::Float),
            value_types::double_value => {
                c_numbers::read_f64(text.as_bytes()).ok().map(Value::Double)
            }
            value_types::string_value => Some(Value::from(text)),
            value_types::bytes_value => Some(Value::from(text.as_bytes())),
            value_types::container_value | value_types::array_value => {
                let text = "containers and arrays are not made from text";
                return Err(error::new(ErrorCode::NotSupported, text));
            }
        };
        let made = made.ok_or_else(|| {
            let name = name.escape_debug();
            let text = format!("the text of \"{name}\" is no {value_type:?}");
            error::new(ErrorCode::RequestFailed, text)
        })?;
        Ok(value::new(name, made))
    }
}

fn parse<T: FromStr>(text: &str, make: fn(T) -> Value) -> Option<Value> {
    text.parse().ok().map(make)
}

//! The classic value and its types.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::compat::result::{Result, error};
use crate::container::{Text, Value, ValueType, c_numbers};
use crate::error::ErrorCode;

macro_rules! value_types {
    ($($(#[$doc:meta])* $classic:ident = $native:ident;)*) => {
        /// The type of a [`value`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum value_types {
            $($(#[$doc])* $classic,)*
        }

        impl From<value_types> for ValueType {
            fn from(classic: value_types) -> Self {
                match classic { $(value_types::$classic => ValueType::$native,)* }
            }
        }

        impl From<ValueType> for value_types {
            fn from(native: ValueType) -> Self {
                match native { $(ValueType::$native => value_types::$classic,)* }
            }
        }
    };
}

value_types! {
    /// Nothing.
    null_value = Null;
    /// True or false.
    bool_value = Bool;
    /// 16 bits, signed.
    short_value = Short;
    /// 16 bits, unsigned.
    ushort_value = UShort;
    /// 32 bits, signed.
    int_value = Int;
    /// 32 bits, unsigned.
    uint_value = UInt;
    /// C's `long`: 64 bits, signed, as on Linux.
    long_value = Long;
    /// C's `unsigned long`: 64 bits, as on Linux.
    ulong_value = ULong;
    /// 64 bits, signed.
    llong_value = LLong;
    /// 64 bits, unsigned.
    ullong_value = ULLong;
    /// 32 bits, floating.
    float_value = Float;
    /// 64 bits, floating.
    double_value = Double;
    /// Text.
    string_value = String;
    /// Bytes.
    bytes_value = Bytes;
    /// A container.
    container_value = Container;
    /// A list of values without names.
    array_value = Array;
}

/// A value with its name, by the classic names.
///
/// `to_string()` gives numbers as decimal numbers, strings as they are (what is no UTF-8 is replaced),
/// bytes in Base64, null as nothing, and of containers and arrays the number of their values.
///
/// The conversions never damage a number: what does not fit is refused. They take integers of every type,
/// and text that is a number.
#[derive(Clone, PartialEq, Eq)]
pub struct value {
    name: Text,
    value: Value,
}

macro_rules! integers {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// `request_failed`: it is no number, or one that does not fit.
        pub fn $name(&self) -> Result<$type> {
            self.integer()
                .and_then(|number| number.try_into().ok())
                .ok_or_else(|| self.is_no(stringify!($type)))
        }
    )*};
}

impl value {
    /// A value of any type.
    ///
    /// ```
    /// use network_system::compat::container_system::{llong_value, value};
    ///
    /// let count = value::new("count", 5_000_000_000_i64);
    /// assert_eq!(count.value_type(), llong_value);
    /// assert_eq!(count.to_string(), "5000000000");
    /// ```
    pub fn new(name: impl Into<Text>, value: impl Into<Value>) -> Self {
        value {
            name: name.into(),
            value: value.into(),
        }
    }

    pub(super) fn into_parts(self) -> (Text, Value) {
        (self.name, self.value)
    }

    /// The name; empty for what is in an array.
    pub fn name(&self) -> &Text {
        &self.name
    }

    /// The type. In C++ this is `type`, which is a word of the language here.
    pub fn value_type(&self) -> value_types {
        self.value.value_type().into()
    }

    /// Whether there is nothing.
    pub fn is_null(&self) -> bool {
        self.value.is_null()
    }

    integers! {
        /// The number as a `short`.
        to_short: i16;
        /// The number as an `unsigned short`.
        to_ushort: u16;
        /// The number as an `int`.
        to_int: i32;
        /// The number as an `unsigned int`.
        to_uint: u32;
        /// The number as a `long`, 64 bits as on Linux.
        to_long: i64;
        /// The number as an `unsigned long`, 64 bits as on Linux.
        to_ulong: u64;
        /// The number as a `long long`.
        to_llong: i64;
        /// The number as an `unsigned long long`.
        to_ullong: u64;
        /// The number with 32 bits.
        to_int32: i32;
        /// The number with 32 bits, unsigned.
        to_uint32: u32;
        /// The number with 64 bits.
        to_int64: i64;
        /// The number with 64 bits, unsigned.
        to_uint64: u64;
    }

    fn integer(&self) -> Option<i128> {
        match &self.value {
            Value::Bool(value) => Some(i128::from(*value)),
            Value::String(text) => text.as_str()?.parse().ok(),
            number => number.as_integer(),
        }
    }

    /// The number with 64 bits, floating.
    ///
    /// # Errors
    /// `request_failed`: it is no number, an integer that 64 floating bits do not hold exactly, or a text whose
    /// number is beyond their range.
    pub fn to_double(&self) -> Result<f64> {
        let number = match &self.value {
            Value::String(text) => c_numbers::read_f64(text.as_bytes()).ok(),
            number => number.to_f64(),
        };
        number.ok_or_else(|| self.is_no("double"))
    }

    /// The number with 32 bits, floating, rounded to what these hold.
    ///
    /// # Errors
    /// As [`to_double`](Self::to_double), and for a number beyond the range of 32 bits.
    pub fn to_float(&self) -> Result<f32> {
        let number = match &self.value {
            Value::Float(number) => Some(*number),
            Value::String(text) => c_numbers::read_f32(text.as_bytes()).ok(),
            _ => {
                let number = self.to_double()?;
                let rounded = number as f32;
                (rounded.is_finite() || !number.is_finite()).then_some(rounded)
            }
        };
        number.ok_or_else(|| self.is_no("float"))
    }

    /// True or false: a bool, the text `true` or `false`, or an integer, of which 0 is false.
    ///
    /// # Errors
    /// `request_failed`: it is none of these.
    pub fn to_boolean(&self) -> Result<bool> {
        let truth = match &self.value {
            Value::Bool(value) => Some(*value),
            Value::String(text) => text.as_str().and_then(|text| text.parse().ok()),
            number => number.as_integer().map(|number| number != 0),
        };
        truth.ok_or_else(|| self.is_no("boolean"))
    }

    /// The bytes of bytes or of a text.
    ///
    /// # Errors
    /// `request_failed`: it is neither.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        match &self.value {
            Value::Bytes(bytes) => Ok(bytes.to_vec()),
            Value::String(text) => Ok(text.as_bytes().to_vec()),
            _ => Err(self.is_no("bytes")),
        }
    }

    /// Copies of the values of a container, or of an array, whose values have no names; none of others.
    pub fn children(&self) -> Vec<value> {
        match &self.value {
            Value::Container(Some(container)) => container
                .iter()
                .map(|(name, child)| value::new(name, child.clone()))
                .collect(),
            Value::Array(values) => values
                .iter()
                .map(|child| value::new(Text::new(), child.clone()))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// How many values a container or an array has; 0 for others.
    pub fn child_count(&self) -> usize {
        match &self.value {
            Value::Container(Some(container)) => container.len(),
            Value::Array(values) => values.len(),
            _ => 0,
        }
    }

    /// The native value below.
    pub fn native(&self) -> &Value {
        &self.value
    }

    fn is_no(&self, wanted: &str) -> error {
        let text = format!(
            "the value \"{}\" is a {} and cannot be taken as {wanted}",
            self.name.to_string_lossy().escape_debug(),
            self.value.value_type()
        );
        error::new(ErrorCode::RequestFailed, text)
    }
}

impl fmt::Display for value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::Null => Ok(()),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Float(value) => write!(f, "{value}"),
            Value::Double(value) => write!(f, "{value}"),
            Value::String(text) => f.write_str(&text.to_string_lossy()),
            Value::Bytes(bytes) => f.write_str(&STANDARD.encode(bytes)),
            Value::Container(_) | Value::Array(_) => write!(f, "{}", self.child_count()),
            number => match number.as_integer() {
                Some(number) => write!(f, "{number}"),
                None => Ok(()),
            },
        }
    }
}

/// Shows name and type; the content may be secret.
impl fmt::Debug for value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("value")
            .field("name", &self.name)
            .field("value", &self.value)
            .finish()
    }
}

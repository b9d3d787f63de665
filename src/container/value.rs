//! Values and their types.

use std::fmt;

use bytes::Bytes;

use super::{Container, Text};

macro_rules! types {
    ($($(#[$doc:meta])* $variant:ident = $id:literal, $name:literal;)*) => {
        /// The type of a value, with the numbers and names of the C++ family.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum ValueType {
            $($(#[$doc])* $variant = $id,)*
        }

        impl ValueType {
            /// Every type, by number.
            pub const ALL: &'static [ValueType] = &[$(ValueType::$variant,)*];

            /// The number, 0 to 15.
            pub const fn id(self) -> u8 {
                self as u8
            }

            /// The name, for example `ushort`.
            pub const fn name(self) -> &'static str {
                match self { $(ValueType::$variant => $name,)* }
            }

            /// The type with this number.
            pub const fn from_id(id: u8) -> Option<Self> {
                match id { $($id => Some(ValueType::$variant),)* _ => None }
            }

            /// The type with this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(ValueType::$variant),)* _ => None }
            }
        }
    };
}

types! {
    /// Nothing.
    Null = 0, "null";
    /// True or false.
    Bool = 1, "bool";
    /// 16 bits, signed.
    Short = 2, "short";
    /// 16 bits, unsigned.
    UShort = 3, "ushort";
    /// 32 bits, signed.
    Int = 4, "int";
    /// 32 bits, unsigned.
    UInt = 5, "uint";
    /// C's `long`: 64 bits, signed, as on Linux.
    Long = 6, "long";
    /// C's `unsigned long`: 64 bits, as on Linux.
    ULong = 7, "ulong";
    /// 64 bits, signed.
    LLong = 8, "llong";
    /// 64 bits, unsigned.
    ULLong = 9, "ullong";
    /// 32 bits, floating.
    Float = 10, "float";
    /// 64 bits, floating.
    Double = 11, "double";
    /// Text.
    String = 12, "string";
    /// Bytes.
    Bytes = 13, "bytes";
    /// A container.
    Container = 14, "container";
    /// A list of values without names.
    Array = 15, "array";
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A value of one of the sixteen types.
///
/// Two values are equal when their types and contents are; floating-point numbers by their bits, so that a
/// NaN equals itself, and 0.0 does not equal -0.0. Debug output shows types and lengths, no contents.
#[derive(Clone, Default)]
pub enum Value {
    /// Nothing.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// 16 bits, signed.
    Short(i16),
    /// 16 bits, unsigned.
    UShort(u16),
    /// 32 bits, signed.
    Int(i32),
    /// 32 bits, unsigned.
    UInt(u32),
    /// C's `long`.
    Long(i64),
    /// C's `unsigned long`.
    ULong(u64),
    /// 64 bits, signed: what an `i64` becomes.
    LLong(i64),
    /// 64 bits, unsigned: what a `u64` becomes.
    ULLong(u64),
    /// 32 bits, floating.
    Float(f32),
    /// 64 bits, floating.
    Double(f64),
    /// Text.
    String(Text),
    /// Bytes.
    Bytes(Bytes),
    /// A container. `None` is the null pointer that the C++ type can hold.
    Container(Option<Box<Container>>),
    /// A list of values without names.
    Array(Vec<Value>),
}

impl Value {
    /// The type.
    pub const fn value_type(&self) -> ValueType {
        match self {
            Value::Null => ValueType::Null,
            Value::Bool(_) => ValueType::Bool,
            Value::Short(_) => ValueType::Short,
            Value::UShort(_) => ValueType::UShort,
            Value::Int(_) => ValueType::Int,
            Value::UInt(_) => ValueType::UInt,
            Value::Long(_) => ValueType::Long,
            Value::ULong(_) => ValueType::ULong,
            Value::LLong(_) => ValueType::LLong,
            Value::ULLong(_) => ValueType::ULLong,
            Value::Float(_) => ValueType::Float,
            Value::Double(_) => ValueType::Double,
            Value::String(_) => ValueType::String,
            Value::Bytes(_) => ValueType::Bytes,
            Value::Container(_) => ValueType::Container,
            Value::Array(_) => ValueType::Array,
        }
    }

    /// Whether it is null; a container that is a null pointer counts.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null | Value::Container(None))
    }

    /// The bool, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The integer of any of the eight types, if it is one; `i128` holds them all.
    pub fn as_integer(&self) -> Option<i128> {
        Some(match self {
            Value::Short(value) => (*value).into(),
            Value::UShort(value) => (*value).into(),
            Value::Int(value) => (*value).into(),
            Value::UInt(value) => (*value).into(),
            Value::Long(value) | Value::LLong(value) => (*value).into(),
            Value::ULong(value) | Value::ULLong(value) => (*value).into(),
            _ => return None,
        })
    }

    /// The integer of any type, if it is one that fits.
    pub fn to_i64(&self) -> Option<i64> {
        self.as_integer()?.try_into().ok()
    }

    /// The integer of any type, if it is one that fits.
    pub fn to_u64(&self) -> Option<u64> {
        self.as_integer()?.try_into().ok()
    }

    /// The floating-point number, or the integer if an `f64` holds it exactly.
    pub fn to_f64(&self) -> Option<f64> {
        match self {
            Value::Float(value) => Some((*value).into()),
            Value::Double(value) => Some(*value),
            _ => {
                let value = self.as_integer()?;
                (value as f64 as i128 == value).then_some(value as f64)
            }
        }
    }

    /// The text, if it is a string.
    pub fn as_text(&self) -> Option<&Text> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The text, if it is a string in UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        self.as_text()?.as_str()
    }

    /// The bytes, if it is of type bytes.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match self {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The container, if it is one.
    pub fn as_container(&self) -> Option<&Container> {
        match self {
            Value::Container(container) => container.as_deref(),
            _ => None,
        }
    }

    /// The container, if it is one.
    pub fn as_container_mut(&mut self) -> Option<&mut Container> {
        match self {
            Value::Container(container) => container.as_deref_mut(),
            _ => None,
        }
    }

    /// The values, if it is an array.
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(values) => Some(values),
            _ => None,
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Short(a), Value::Short(b)) => a == b,
            (Value::UShort(a), Value::UShort(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::UInt(a), Value::UInt(b)) => a == b,
            (Value::Long(a), Value::Long(b)) | (Value::LLong(a), Value::LLong(b)) => a == b,
            (Value::ULong(a), Value::ULong(b)) | (Value::ULLong(a), Value::ULLong(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
            (Value::Double(a), Value::Double(b)) => a.to_bits() == b.to_bits(),
            (Value::String(a), Value::String(b)) => a == b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Container(a), Value::Container(b)) => a == b,
            (Value::Array(a), Value::Array(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

/// Shows the type, lengths, and names inside containers; contents may be secret.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::String(text) => write!(f, "string({} B)", text.len()),
            Value::Bytes(bytes) => write!(f, "bytes({} B)", bytes.len()),
            Value::Container(Some(container)) => container.fmt(f),
            Value::Container(None) => f.write_str("container(null)"),
            Value::Array(values) => f.debug_list().entries(values).finish(),
            other => f.write_str(other.value_type().name()),
        }
    }
}

macro_rules! from {
    ($($type:ty => $variant:ident,)*) => {$(
        impl From<$type> for Value {
            #[inline]
            fn from(value: $type) -> Self {
                Value::$variant(value.into())
            }
        }
    )*};
}

from! {
    bool => Bool,
    i8 => Short,
    i16 => Short,
    u8 => UShort,
    u16 => UShort,
    i32 => Int,
    u32 => UInt,
    i64 => LLong,
    u64 => ULLong,
    f32 => Float,
    f64 => Double,
    &str => String,
    String => String,
    &String => String,
    Text => String,
    &Text => String,
    Bytes => Bytes,
    Vec<u8> => Bytes,
    Vec<Value> => Array,
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Value::Bytes(Bytes::copy_from_slice(bytes))
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(bytes: &[u8; N]) -> Self {
        Value::from(bytes.as_slice())
    }
}

impl From<Container> for Value {
    fn from(container: Container) -> Self {
        Value::Container(Some(Box::new(container)))
    }
}

impl From<()> for Value {
    fn from((): ()) -> Self {
        Value::Null
    }
}

/// `None` becomes null.
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

impl<T: Into<Value>> FromIterator<T> for Value {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Value::Array(values.into_iter().map(Into::into).collect())
    }
}

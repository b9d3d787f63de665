//! From Rust values to values.

use bytes::Bytes;
use serde::ser::{self, Impossible, Serialize, Serializer};

use super::StructError;
use crate::container::format::MAX_DEPTH;
use crate::container::{Container, Header, Text, Value};

type Result<T> = std::result::Result<T, StructError>;

/// Makes a value on a level.
#[derive(Clone, Copy)]
pub(super) struct ToValue {
    depth: usize,
}

impl ToValue {
    pub(super) fn new() -> Self {
        ToValue { depth: 1 }
    }

    fn deeper(self) -> Result<Self> {
        if self.depth >= MAX_DEPTH {
            return Err(StructError::too_deep());
        }
        Ok(ToValue {
            depth: self.depth + 1,
        })
    }

    fn sequence(self, len: Option<usize>, variant: Option<&'static str>) -> Result<Sequence> {
        Ok(Sequence {
            // What a length hint says is no reason for a large allocation.
            values: Vec::with_capacity(len.unwrap_or(0).min(4_096)),
            inner: self.deeper()?,
            variant,
        })
    }

    fn entries(self, variant: Option<&'static str>) -> Result<Entries> {
        Ok(Entries {
            container: empty(),
            key: None,
            inner: self.deeper()?,
            variant,
        })
    }
}

fn empty() -> Container {
    Container::from_parts(Header::default(), Vec::new())
}

/// The data of an enum's variant under the variant's name.
fn under(variant: Option<&'static str>, value: Value) -> Value {
    match variant {
        Some(variant) => empty().with(variant, value).into(),
        None => value,
    }
}

macro_rules! plain {
    ($($method:ident: $type:ty,)*) => {$(
        fn $method(self, value: $type) -> Result<Value> {
            Ok(value.into())
        }
    )*};
}

impl Serializer for ToValue {
    type Ok = Value;
    type Error = StructError;
    type SerializeSeq = Sequence;
    type SerializeTuple = Sequence;
    type SerializeTupleStruct = Sequence;
    type SerializeTupleVariant = Sequence;
    type SerializeMap = Entries;
    type SerializeStruct = Entries;
    type SerializeStructVariant = Entries;

    plain! {
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_f32: f32,
        serialize_f64: f64,
        serialize_str: &str,
    }

    fn serialize_i128(self, value: i128) -> Result<Value> {
        match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => Ok(value.into()),
            (_, Ok(value)) => Ok(value.into()),
            _ => Err(StructError::new("an integer beyond 64 bits")),
        }
    }

    fn serialize_u128(self, value: u128) -> Result<Value> {
        match u64::try_from(value) {
            Ok(value) => Ok(value.into()),
            Err(_) => Err(StructError::new("an integer beyond 64 bits")),
        }
    }

    fn serialize_char(self, value: char) -> Result<Value> {
        Ok(Text::from(&*value.encode_utf8(&mut [0; 4])).into())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<Value> {
        Ok(Value::Bytes(Bytes::copy_from_slice(bytes)))
    }

    fn serialize_none(self) -> Result<Value> {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value> {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Value> {
        Ok(Value::Null)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Value> {
        Ok(variant.into())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Value> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value> {
        let inner = value.serialize(self.deeper()?);
        let inner = inner.map_err(|error| error.inside(&variant.into()))?;
        Ok(under(Some(variant), inner))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Sequence> {
        self.sequence(len, None)
    }

    fn serialize_tuple(self, len: usize) -> Result<Sequence> {
        self.sequence(Some(len), None)
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Sequence> {
        self.sequence(Some(len), None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Sequence> {
        self.deeper()?.sequence(Some(len), Some(variant))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Entries> {
        self.entries(None)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Entries> {
        self.entries(None)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Entries> {
        self.deeper()?.entries(Some(variant))
    }
}

/// An array in the making.
pub(super) struct Sequence {
    values: Vec<Value>,
    inner: ToValue,
    variant: Option<&'static str>,
}

impl Sequence {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let index = self.values.len();
        let value = value.serialize(self.inner);
        self.values
            .push(value.map_err(|error| error.at_index(index))?);
        Ok(())
    }

    fn finish(self) -> Value {
        under(self.variant, Value::Array(self.values))
    }
}

macro_rules! sequence {
    ($($trait:ident $method:ident,)*) => {$(
        impl ser::$trait for Sequence {
            type Ok = Value;
            type Error = StructError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
                self.push(value)
            }

            fn end(self) -> Result<Value> {
                Ok(self.finish())
            }
        }
    )*};
}

sequence! {
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field,
}

/// A container in the making.
pub(super) struct Entries {
    container: Container,
    key: Option<Text>,
    inner: ToValue,
    variant: Option<&'static str>,
}

impl Entries {
    fn push<T: Serialize + ?Sized>(&mut self, name: Text, value: &T) -> Result<()> {
        match value.serialize(self.inner) {
            Ok(value) => self.container.push(name, value),
            Err(error) => return Err(error.inside(&name)),
        }
        Ok(())
    }

    fn finish(self) -> Value {
        under(self.variant, self.container.into())
    }
}

impl ser::SerializeMap for Entries {
    type Ok = Value;
    type Error = StructError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        self.key = Some(key.serialize(ToKey)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        match self.key.take() {
            Some(key) => self.push(key, value),
            None => Err(StructError::new("a value before its key")),
        }
    }

    fn end(self) -> Result<Value> {
        Ok(self.finish())
    }
}

macro_rules! entries {
    ($($trait:ident)*) => {$(
        impl ser::$trait for Entries {
            type Ok = Value;
            type Error = StructError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<()> {
                self.push(key.into(), value)
            }

            fn end(self) -> Result<Value> {
                Ok(self.finish())
            }
        }
    )*};
}

entries! { SerializeStruct SerializeStructVariant }

/// Makes a name of a key: of text, of numbers, of variants.
struct ToKey;

macro_rules! keys {
    ($($method:ident: $type:ty,)*) => {$(
        fn $method(self, value: $type) -> Result<Text> {
            Ok(value.to_string().into())
        }
    )*};
}

macro_rules! no_keys {
    ($($method:ident($($type:ty),*) -> $ok:ty,)*) => {$(
        fn $method(self, $(_: $type),*) -> Result<$ok> {
            Err(no_key())
        }
    )*};
}

fn no_key() -> StructError {
    StructError::new("a key of a map that cannot be written as text")
}

type Never = Impossible<Text, StructError>;

impl Serializer for ToKey {
    type Ok = Text;
    type Error = StructError;
    type SerializeSeq = Never;
    type SerializeTuple = Never;
    type SerializeTupleStruct = Never;
    type SerializeTupleVariant = Never;
    type SerializeMap = Never;
    type SerializeStruct = Never;
    type SerializeStructVariant = Never;

    keys! {
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_u128: u128,
        serialize_char: char,
    }

    fn serialize_str(self, value: &str) -> Result<Text> {
        Ok(value.into())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Text> {
        Ok(value.into())
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Text> {
        Ok(variant.into())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Text> {
        value.serialize(self)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<Text> {
        Err(no_key())
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Text> {
        Err(no_key())
    }

    no_keys! {
        serialize_f32(f32) -> Text,
        serialize_f64(f64) -> Text,
        serialize_none() -> Text,
        serialize_unit() -> Text,
        serialize_unit_struct(&'static str) -> Text,
        serialize_seq(Option<usize>) -> Never,
        serialize_tuple(usize) -> Never,
        serialize_tuple_struct(&'static str, usize) -> Never,
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Never,
        serialize_map(Option<usize>) -> Never,
        serialize_struct(&'static str, usize) -> Never,
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Never,
    }
}

//! From values to Rust values.

use serde::de::value::{BorrowedStrDeserializer, SeqDeserializer};
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::StructError;
use crate::container::format::MAX_DEPTH;
use crate::container::{Container, Iter, Text, Value};

type Result<T> = std::result::Result<T, StructError>;

/// A value or a container, on a level.
#[derive(Clone, Copy)]
pub(super) struct Node<'de> {
    content: Content<'de>,
    depth: usize,
}

#[derive(Clone, Copy)]
enum Content<'de> {
    Value(&'de Value),
    Container(&'de Container),
}

impl<'de> Node<'de> {
    pub(super) fn container(container: &'de Container) -> Self {
        Node {
            content: Content::Container(container),
            depth: 1,
        }
    }

    pub(super) fn value(value: &'de Value) -> Self {
        Node {
            content: Content::Value(value),
            depth: 1,
        }
    }

    fn inner(value: &'de Value, depth: usize) -> Self {
        Node {
            content: Content::Value(value),
            depth,
        }
    }

    fn deeper(self) -> Result<usize> {
        match self.depth < MAX_DEPTH {
            true => Ok(self.depth + 1),
            false => Err(StructError::too_deep()),
        }
    }

    fn is_null(self) -> bool {
        matches!(self.content, Content::Value(value) if value.is_null())
    }

    fn as_container(self) -> Option<&'de Container> {
        match self.content {
            Content::Value(value) => value.as_container(),
            Content::Container(container) => Some(container),
        }
    }

    fn as_bytes(self) -> Option<&'de [u8]> {
        match self.content {
            Content::Value(Value::Bytes(bytes)) => Some(bytes),
            Content::Value(Value::String(text)) => Some(text.as_bytes()),
            _ => None,
        }
    }
}

fn visit_text<'de, V: Visitor<'de>>(text: &'de Text, visitor: V) -> Result<V::Value> {
    match text.as_str() {
        Some(text) => visitor.visit_borrowed_str(text),
        None => visitor.visit_borrowed_bytes(text.as_bytes()),
    }
}

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = StructError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let value = match self.content {
            Content::Container(container) => {
                return visitor.visit_map(Entries::new(container, self.deeper()?));
            }
            Content::Value(value) => value,
        };
        match value {
            Value::Null | Value::Container(None) => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Short(value) => visitor.visit_i16(*value),
            Value::UShort(value) => visitor.visit_u16(*value),
            Value::Int(value) => visitor.visit_i32(*value),
            Value::UInt(value) => visitor.visit_u32(*value),
            Value::Long(value) | Value::LLong(value) => visitor.visit_i64(*value),
            Value::ULong(value) | Value::ULLong(value) => visitor.visit_u64(*value),
            Value::Float(value) => visitor.visit_f32(*value),
            Value::Double(value) => visitor.visit_f64(*value),
            Value::String(text) => visit_text(text, visitor),
            Value::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Value::Container(Some(container)) => {
                visitor.visit_map(Entries::new(container, self.deeper()?))
            }
            Value::Array(values) => {
                let mut elements = Elements {
                    values: values.iter().enumerate(),
                    depth: self.deeper()?,
                };
                let sequence = visitor.visit_seq(&mut elements)?;
                // A shorter tuple would lose the rest without a word.
                match elements.values.len() {
                    0 => Ok(sequence),
                    _ => Err(de::Error::invalid_length(values.len(), &"fewer elements")),
                }
            }
        }
    }

    /// What would be infinite, or another integer, is refused.
    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if let Content::Value(value) = self.content {
            let is_lost = match (value, value.as_integer()) {
                (Value::Double(number), _) => number.is_finite() && (*number as f32).is_infinite(),
                (_, Some(number)) => number as f32 as i128 != number,
                _ => false,
            };
            if is_lost {
                return Err(StructError::new(
                    "a number that 32 floating bits do not hold",
                ));
            }
        }
        self.deserialize_any(visitor)
    }

    /// An integer that would become another one is refused.
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if let Content::Value(value) = self.content
            && value.as_integer().is_some()
            && value.to_f64().is_none()
        {
            return Err(StructError::new(
                "an integer that 64 floating bits do not hold",
            ));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.is_null() {
            true => visitor.visit_none(),
            false => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    /// Bytes are taken for a list of numbers too: what a plain `Vec<u8>` expects.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.content {
            Content::Value(Value::Bytes(bytes)) => {
                let mut elements = SeqDeserializer::new(bytes.iter().copied());
                let sequence = visitor.visit_seq(&mut elements)?;
                elements.end().map(|()| sequence)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.as_bytes() {
            Some(bytes) => visitor.visit_borrowed_bytes(bytes),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        if let Content::Value(Value::String(variant)) = self.content {
            return visitor.visit_enum(Variant {
                name: variant,
                data: None,
                depth: self.depth,
            });
        }
        let Some(container) = self.as_container() else {
            return self.deserialize_any(visitor);
        };
        let mut entries = container.iter();
        match (entries.next(), entries.next()) {
            (Some((name, value)), None) => visitor.visit_enum(Variant {
                name,
                data: Some(value),
                depth: self.deeper()?,
            }),
            _ => Err(StructError::new(
                "a container that is a variant has one value",
            )),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 char str string
        unit unit_struct map struct identifier
    }
}

struct Elements<'de> {
    values: std::iter::Enumerate<std::slice::Iter<'de, Value>>,
    depth: usize,
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = StructError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        let Some((index, value)) = self.values.next() else {
            return Ok(None);
        };
        let element = seed.deserialize(Node::inner(value, self.depth));
        element.map(Some).map_err(|error| error.at_index(index))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.values.len())
    }
}

struct Entries<'de> {
    values: Iter<'de>,
    current: Option<(&'de Text, &'de Value)>,
    depth: usize,
}

impl<'de> Entries<'de> {
    fn new(container: &'de Container, depth: usize) -> Self {
        Entries {
            values: container.iter(),
            current: None,
            depth,
        }
    }
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = StructError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        self.current = self.values.next();
        let Some((name, _)) = self.current else {
            return Ok(None);
        };
        let key = seed.deserialize(Name(name));
        key.map(Some).map_err(|error| error.inside(name))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value> {
        let Some((name, value)) = self.current else {
            return Err(StructError::new("a value before its key"));
        };
        let value = seed.deserialize(Node::inner(value, self.depth));
        value.map_err(|error| error.inside(name))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.values.len())
    }
}

/// A variant of an enum: its name, and its data unless it has none.
struct Variant<'de> {
    name: &'de Text,
    data: Option<&'de Value>,
    depth: usize,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = StructError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self)> {
        Ok((seed.deserialize(Name(self.name))?, self))
    }
}

impl<'de> Variant<'de> {
    /// Deserializes the data with the variant's name in errors.
    fn data<T>(self, expected: &str, read: impl FnOnce(Node<'de>) -> Result<T>) -> Result<T> {
        let Some(value) = self.data else {
            return Err(de::Error::invalid_type(Unexpected::Unit, &expected));
        };
        read(Node::inner(value, self.depth)).map_err(|error| error.inside(self.name))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = StructError;

    fn unit_variant(self) -> Result<()> {
        match self.data {
            None | Some(Value::Null) => Ok(()),
            Some(_) => Err(StructError::new("data of a variant that has none").inside(self.name)),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        self.data("the data of a variant", |node| seed.deserialize(node))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value> {
        self.data("the data of a variant", |node| {
            node.deserialize_seq(visitor)
        })
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.data("the data of a variant", |node| {
            node.deserialize_any(visitor)
        })
    }
}

/// The name of a value as a field, a variant or a key of a map.
struct Name<'de>(&'de Text);

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty,)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            match self.0.as_str().and_then(|name| name.parse::<$type>().ok()) {
                Some(value) => visitor.$visit(value),
                None => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Name<'de> {
    type Error = StructError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visit_text(self.0, visitor)
    }

    numbers! {
        deserialize_bool visit_bool bool,
        deserialize_i8 visit_i8 i8,
        deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64,
        deserialize_i128 visit_i128 i128,
        deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64,
        deserialize_u128 visit_u128 u128,
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        match self.0.as_str() {
            Some(text) => {
                BorrowedStrDeserializer::new(text).deserialize_enum(name, variants, visitor)
            }
            None => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        f32 f64 char str string bytes byte_buf option unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

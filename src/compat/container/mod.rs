//! The classic containers, on top of [`crate::container`].

mod factory;
mod values;

use std::fmt;

use bytes::Bytes;

use super::result::{Result, VoidResult, error};
use crate::container::{Container, Format, Text, Value};
use crate::error::ErrorCode;

pub use self::factory::value_factory;
pub use self::values::{value, value_types};

/// A header and named values, with the classic names.
///
/// ```
/// use network_system::compat::container_system::{self, value_container, value_factory};
///
/// let mut container = value_container::new();
/// container.set_source("test_client", "main");
/// container.set_target("test_server", "handler");
/// container.set_message_type("test_message");
/// container.set_values(vec![
///     value_factory::create("text", container_system::string_value, "Hello")?,
///     value_factory::create("number", container_system::int32_value, "42")?,
/// ]);
///
/// let received = value_container::from_serialized(container.serialize()?)?;
/// assert_eq!(received.source_id(), "test_client");
/// let number = received.get_value("number").ok_or("there is none")?;
/// assert_eq!(number.to_int32()?, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// What C++ shares by `std::shared_ptr` and changes is here a value of its own, which is put into an
/// `Arc` when it is to be shared. Strings are [`Text`]: bytes that are usually UTF-8.
///
/// The functions that name no format use MessagePack, which carries every type. Classic programs write
/// the text format by default: `serialize_as(Format::Text)`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct value_container {
    container: Container,
}

impl value_container {
    /// A container without ids and values.
    pub fn new() -> Self {
        value_container::default()
    }

    /// Reads a container in MessagePack.
    ///
    /// # Errors
    /// `invalid_frame`: the data are not a container in this format.
    pub fn from_serialized(data: impl Into<Bytes>) -> Result<Self> {
        Self::from_serialized_as(Format::MessagePack, data)
    }

    /// Reads a container in a format.
    ///
    /// # Errors
    /// `invalid_frame`: the data are not a container in this format; `not_supported` for formats that can
    /// only be written.
    pub fn from_serialized_as(format: Format, data: impl Into<Bytes>) -> Result<Self> {
        Ok(Container::decode(format, &data.into())?.into())
    }

    // Header

    /// Sets who sends it, and which part of the sender.
    pub fn set_source(&mut self, source_id: impl Into<Text>, source_sub_id: impl Into<Text>) {
        self.container.header.source = source_id.into();
        self.container.header.source_sub = source_sub_id.into();
    }

    /// Sets who shall receive it, and which part of the receiver.
    pub fn set_target(&mut self, target_id: impl Into<Text>, target_sub_id: impl Into<Text>) {
        self.container.header.target = target_id.into();
        self.container.header.target_sub = target_sub_id.into();
    }

    /// Sets what it is.
    pub fn set_message_type(&mut self, message_type: impl Into<Text>) {
        self.container.header.message_type = message_type.into();
    }

    /// Exchanges source and target, for an answer.
    pub fn swap_header(&mut self) {
        self.container.swap_header();
    }

    /// Who sends it.
    pub fn source_id(&self) -> &Text {
        &self.container.header.source
    }

    /// Which part of the sender.
    pub fn source_sub_id(&self) -> &Text {
        &self.container.header.source_sub
    }

    /// Who shall receive it.
    pub fn target_id(&self) -> &Text {
        &self.container.header.target
    }

    /// Which part of the receiver.
    pub fn target_sub_id(&self) -> &Text {
        &self.container.header.target_sub
    }

    /// What it is.
    pub fn message_type(&self) -> &Text {
        &self.container.header.message_type
    }

    /// The version of its contents.
    pub fn version(&self) -> &Text {
        &self.container.header.version
    }

    /// A copy, with its values or only the header.
    #[must_use]
    pub fn copy(&self, containing_values: bool) -> Self {
        let container = match containing_values {
            true => self.container.clone(),
            false => Container::from_parts(self.container.header.clone(), Vec::new()),
        };
        value_container { container }
    }

    // Values

    /// Replaces all values.
    pub fn set_values(&mut self, values: impl IntoIterator<Item = value>) {
        self.container.clear();
        values.into_iter().for_each(|value| self.add(value));
    }

    /// Appends a value, whether or not there are others of its name.
    pub fn add(&mut self, value: value) {
        let (name, value) = value.into_parts();
        self.container.push(name, value);
    }

    /// The same as [`add`](Self::add).
    pub fn add_value(&mut self, value: value) {
        self.add(value);
    }

    /// Replaces the first value of this name, or appends it.
    ///
    /// ```
    /// use network_system::compat::container_system;
    ///
    /// let mut container = container_system::create_container();
    /// container.set_value("type", "request");
    /// container.set_value("attempt", 2);
    /// assert_eq!(container.get_string("type").as_deref(), Some("request"));
    /// ```
    pub fn set_value(&mut self, name: impl Into<Text>, value: impl Into<Value>) {
        let _replaced = self.container.set(name, value);
    }

    /// Removes the first value of this name; says whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        self.container.remove(name).is_some()
    }

    /// Removes all values and leaves the header.
    pub fn clear_values(&mut self) {
        self.container.clear();
    }

    /// A copy of the first value of this name.
    pub fn get_value(&self, name: &str) -> Option<value> {
        let found = self.container.get(name)?;
        Some(value::new(name, found.clone()))
    }

    /// Copies of all values of this name, in order.
    pub fn value_array(&self, name: &str) -> Vec<value> {
        let all = self.container.iter().filter(|(other, _)| *other == name);
        all.map(|(name, found)| value::new(name, found.clone()))
            .collect()
    }

    /// Copies of all values, in order.
    pub fn values(&self) -> Vec<value> {
        let all = self.container.iter();
        all.map(|(name, found)| value::new(name, found.clone()))
            .collect()
    }

    /// The first value of this name as text, as [`value`] shows it.
    pub fn get_string(&self, name: &str) -> Option<String> {
        Some(self.get_value(name)?.to_string())
    }

    // Formats

    /// The container in MessagePack.
    ///
    /// # Errors
    /// `not_supported`, `message_too_large`: more than 128 levels or 4 GiB.
    pub fn serialize(&self) -> Result<Vec<u8>> {
        self.serialize_as(Format::MessagePack)
    }

    /// The container in a format.
    ///
    /// # Errors
    /// `not_supported`: the format cannot carry a value; the text names the value and formats that can.
    pub fn serialize_as(&self, format: Format) -> Result<Vec<u8>> {
        Ok(self.container.encode(format)?)
    }

    /// The same as [`serialize`](Self::serialize).
    ///
    /// # Errors
    /// As [`serialize`](Self::serialize).
    pub fn serialize_array(&self) -> Result<Vec<u8>> {
        self.serialize()
    }

    /// The same as [`serialize`](Self::serialize).
    ///
    /// # Errors
    /// As [`serialize`](Self::serialize).
    pub fn serialize_to_binary(&self) -> Result<Vec<u8>> {
        self.serialize()
    }

    /// Reads a container in MessagePack into this one. When that fails, this one stays as it is.
    ///
    /// # Errors
    /// As [`from_serialized`](Self::from_serialized).
    pub fn deserialize(&mut self, data: impl Into<Bytes>) -> VoidResult {
        *self = Self::from_serialized(data)?;
        Ok(())
    }

    /// The container in the JSON that C++ writes.
    ///
    /// # Errors
    /// As [`serialize_as`](Self::serialize_as); also `not_supported` when the result is no UTF-8.
    pub fn to_json(&self) -> Result<String> {
        self.to_text(Format::CppJson)
    }

    /// The container in XML.
    ///
    /// # Errors
    /// As [`to_json`](Self::to_json).
    pub fn to_xml(&self) -> Result<String> {
        self.to_text(Format::Xml)
    }

    fn to_text(&self, format: Format) -> Result<String> {
        String::from_utf8(self.serialize_as(format)?).map_err(|_| {
            let text = format!("the {format} format cannot carry text that is no UTF-8");
            error::new(ErrorCode::NotSupported, text)
        })
    }

    /// The native container below.
    pub fn native(&self) -> &Container {
        &self.container
    }

    /// The native container below, to be changed.
    pub fn native_mut(&mut self) -> &mut Container {
        &mut self.container
    }
}

impl From<Container> for value_container {
    fn from(container: Container) -> Self {
        value_container { container }
    }
}

impl From<value_container> for Container {
    fn from(classic: value_container) -> Self {
        classic.container
    }
}

/// Shows names and types; contents may be secret.
impl fmt::Debug for value_container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.container.fmt(f)
    }
}

/// The namespace of the classic containers.
pub mod container_system {
    use bytes::Bytes;

    pub use super::value_types::{
        array_value, bool_value, bytes_value, container_value, double_value, float_value,
        int_value, llong_value, long_value, null_value, short_value, string_value, uint_value,
        ullong_value, ulong_value, ushort_value,
    };
    pub use super::{value, value_container, value_factory, value_types};
    use crate::compat::result::Result;

    /// An integer of 16 bits, by its other name.
    #[allow(non_upper_case_globals)]
    pub const int16_value: value_types = short_value;
    /// An unsigned integer of 16 bits, by its other name.
    #[allow(non_upper_case_globals)]
    pub const uint16_value: value_types = ushort_value;
    /// An integer of 32 bits, by its other name.
    #[allow(non_upper_case_globals)]
    pub const int32_value: value_types = int_value;
    /// An unsigned integer of 32 bits, by its other name.
    #[allow(non_upper_case_globals)]
    pub const uint32_value: value_types = uint_value;
    /// An integer of 64 bits, by its other name.
    #[allow(non_upper_case_globals)]
    pub const int64_value: value_types = llong_value;
    /// An unsigned integer of 64 bits, by its other name.
    #[allow(non_upper_case_globals)]
    pub const uint64_value: value_types = ullong_value;

    /// A container without ids and values.
    pub fn create_container() -> value_container {
        value_container::new()
    }

    /// Reads a container in MessagePack.
    ///
    /// # Errors
    /// As [`value_container::from_serialized`].
    pub fn deserialize_from_binary(data: impl Into<Bytes>) -> Result<value_container> {
        value_container::from_serialized(data)
    }
}

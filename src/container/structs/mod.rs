//! Conversion from and to the user's own structs.

mod de;
mod error;
mod ser;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Container, Text, Value};

pub use error::StructError;

impl Container {
    /// A container with the fields of a struct, or the entries of a map, as its values.
    ///
    /// | Rust | value |
    /// |---|---|
    /// | `bool`, integers of 8 and 16 bits, of 32 bits, of 64 bits | bool, short and ushort, int and uint, llong and ullong |
    /// | `f32`, `f64` | float, double |
    /// | `char`, strings | string |
    /// | what serializes as bytes (as with `serde_bytes`) | bytes; a plain `Vec<u8>` is an array |
    /// | `None`, `()` | null |
    /// | structs, maps with keys that can be written as text | container without a type |
    /// | sequences, tuples | array |
    /// | enum variants | string without data, else a container with one value: the variant's name and data |
    ///
    /// # Errors
    ///
    /// [`StructError`] when the value is not a struct or map, for integers beyond 64 bits, for other keys, and
    /// for more than 128 levels.
    ///
    /// ```
    /// use network_system::container::Container;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Login {
    ///     user: String,
    ///     roles: Vec<String>,
    ///     attempt: Option<u32>,
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let login = Login { user: "ada".into(), roles: vec!["admin".into()], attempt: None };
    /// let container = Container::from_struct("login", &login)?;
    /// assert_eq!(container.at_as::<&str>("roles/0")?, "admin");
    ///
    /// let again: Login = container.to_struct()?;
    /// assert_eq!(again.user, "ada");
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_struct<T: Serialize + ?Sized>(
        message_type: impl Into<Text>,
        value: &T,
    ) -> Result<Self, StructError> {
        match Value::from_serialize(value)? {
            Value::Container(Some(inner)) => {
                let mut container = *inner;
                container.header.message_type = message_type.into();
                Ok(container)
            }
            other => Err(StructError::new(format!(
                "only structs and maps become containers, this became a value of type {}",
                other.value_type()
            ))),
        }
    }

    /// The values as a struct or map, by their names; the header is left out.
    ///
    /// The struct may borrow texts and bytes from the container. Integers may be of any type that the number fits
    /// into. A double becomes an `f32` by rounding. Of several values of one name a map keeps the last.
    ///
    /// # Errors
    ///
    /// [`StructError`] when a field is missing, there twice, or of another type, when a number does not fit, or when
    /// an array has more elements than are asked for; it names the path of the value.
    pub fn to_struct<'a, T: Deserialize<'a>>(&'a self) -> Result<T, StructError> {
        T::deserialize(de::Node::container(self))
    }
}

impl Value {
    /// Any Rust value as a value, see [`Container::from_struct`].
    ///
    /// # Errors
    ///
    /// [`StructError`] for integers beyond 64 bits, for keys of maps that cannot be written as text, and for more
    /// than 128 levels.
    pub fn from_serialize<T: Serialize + ?Sized>(value: &T) -> Result<Self, StructError> {
        value.serialize(ser::ToValue::new())
    }

    /// The value as any Rust value, see [`Container::to_struct`].
    ///
    /// # Errors
    ///
    /// [`StructError`] when the value is of another type.
    pub fn to_deserialize<T: DeserializeOwned>(&self) -> Result<T, StructError> {
        T::deserialize(de::Node::value(self))
    }
}

#[cfg(test)]
mod tests;

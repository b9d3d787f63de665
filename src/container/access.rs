//! Typed getters and access by path.

use bytes::Bytes;

use super::{Container, GetError, Text, Value};

/// A Rust type that a [`Value`] can be taken as without loss.
///
/// Integers are taken from every integer type when the number fits, `f64` from floats too and from integers
/// that it holds exactly, `f32` from floats only. Strings are taken as `&str` and `String` when they are UTF-8,
/// as [`Text`] always. `Option` turns null into `None`.
pub trait FromValue<'a>: Sized {
    /// What to call the type in errors.
    const NAME: &'static str;

    /// The value as this type; `None` when it is of another type or does not fit.
    fn from_value(value: &'a Value) -> Option<Self>;
}

macro_rules! integers {
    ($($type:ident)*) => {$(
        impl<'a> FromValue<'a> for $type {
            const NAME: &'static str = stringify!($type);
            fn from_value(value: &'a Value) -> Option<Self> {
                value.as_integer()?.try_into().ok()
            }
        }
    )*};
}

integers! { i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize }

macro_rules! others {
    ($($type:ty, $name:literal, $value:ident => $get:expr;)*) => {$(
        impl<'a> FromValue<'a> for $type {
            const NAME: &'static str = $name;
            fn from_value($value: &'a Value) -> Option<Self> {
                $get
            }
        }
    )*};
}

others! {
    bool, "bool", value => value.as_bool();
    f64, "f64", value => value.to_f64();
    f32, "f32", value => match value {
        Value::Float(value) => Some(*value),
        _ => None,
    };
    &'a str, "text in UTF-8", value => value.as_str();
    String, "text in UTF-8", value => value.as_str().map(str::to_owned);
    Text, "text", value => value.as_text().cloned();
    &'a Text, "text", value => value.as_text();
    Bytes, "bytes", value => value.as_bytes().cloned();
    &'a [u8], "bytes", value => value.as_bytes().map(|bytes| &bytes[..]);
    Container, "container", value => value.as_container().cloned();
    &'a Container, "container", value => value.as_container();
    &'a [Value], "array", value => value.as_array();
    Value, "value", value => Some(value.clone());
    &'a Value, "value", value => Some(value);
}

/// The elements of an array, all of one type.
impl<'a, T: FromValue<'a>> FromValue<'a> for Vec<T> {
    const NAME: &'static str = "array of the type";

    fn from_value(value: &'a Value) -> Option<Self> {
        value.as_array()?.iter().map(T::from_value).collect()
    }
}

impl<'a, T: FromValue<'a>> FromValue<'a> for Option<T> {
    const NAME: &'static str = T::NAME;

    fn from_value(value: &'a Value) -> Option<Self> {
        match value.is_null() {
            true => Some(None),
            false => T::from_value(value).map(Some),
        }
    }
}

impl Container {
    /// The first value of this name, as a type.
    ///
    /// # Errors
    ///
    /// [`GetError`] when there is none, or it is of another type or does not fit.
    pub fn get_as<'a, T: FromValue<'a>>(&'a self, name: &str) -> Result<T, GetError> {
        let value = self
            .get(name)
            .ok_or_else(|| GetError::missing(&step(name), T::NAME))?;
        T::from_value(value)
            .ok_or_else(|| GetError::mismatch(&step(name), T::NAME, value.value_type()))
    }

    /// The value at a path: names and indexes of arrays, separated by `/`, for example `users/0/name`.
    ///
    /// A `/` in a name is written `~1` and a `~` is written `~0`, as in JSON pointers; there is no leading `/`.
    /// Of several values of one name, the first counts.
    pub fn at(&self, path: &str) -> Option<&Value> {
        let mut steps = path.split('/');
        let mut value = self.get(unescape(steps.next()?)?)?;
        for step in steps {
            value = match value {
                Value::Container(container) => container.as_deref()?.get(unescape(step)?)?,
                Value::Array(values) => values.get(index(step)?)?,
                _ => return None,
            };
        }
        Some(value)
    }

    /// The value at a path, to be changed. See [`at`](Self::at).
    pub fn at_mut(&mut self, path: &str) -> Option<&mut Value> {
        let mut steps = path.split('/');
        let mut value = self.get_mut(unescape(steps.next()?)?)?;
        for step in steps {
            value = match value {
                Value::Container(container) => {
                    container.as_deref_mut()?.get_mut(unescape(step)?)?
                }
                Value::Array(values) => values.get_mut(index(step)?)?,
                _ => return None,
            };
        }
        Some(value)
    }

    /// The value at a path, as a type. See [`at`](Self::at).
    ///
    /// # Errors
    ///
    /// [`GetError`] when there is none, or it is of another type or does not fit.
    pub fn at_as<'a, T: FromValue<'a>>(&'a self, path: &str) -> Result<T, GetError> {
        let value = self
            .at(path)
            .ok_or_else(|| GetError::missing(path, T::NAME))?;
        T::from_value(value).ok_or_else(|| GetError::mismatch(path, T::NAME, value.value_type()))
    }
}

/// An index as it is usually written: no sign, no leading zeros.
fn index(step: &str) -> Option<usize> {
    let plain = step == "0" || step.starts_with(|first: char| ('1'..='9').contains(&first));
    plain.then(|| step.parse().ok())?
}

/// Appends a name to a path.
pub(crate) fn push_step(path: &mut String, name: &str) {
    for letter in name.chars() {
        match letter {
            '~' => path.push_str("~0"),
            '/' => path.push_str("~1"),
            _ => path.push(letter),
        }
    }
}

fn step(name: &str) -> String {
    let mut path = String::with_capacity(name.len());
    push_step(&mut path, name);
    path
}

/// The name that a step of a path means; `None` for a `~` without 0 or 1.
fn unescape(step: &str) -> Option<String> {
    let mut name = String::with_capacity(step.len());
    let mut letters = step.chars();
    while let Some(letter) = letters.next() {
        name.push(match letter {
            '~' => match letters.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            letter => letter,
        });
    }
    Some(name)
}

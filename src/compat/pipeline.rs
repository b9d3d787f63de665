//! The classic pipelines: filters one after the other, signed messages, and the segmented buffer.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::result::{Result, error};
use crate::buffer::SegmentedBuffer;
use crate::error::ErrorCode;
use crate::pipeline::signature;

type Filter = dyn Fn(&[u8]) -> Result<Vec<u8>> + Send + Sync;

/// Filters through which a message goes one after the other.
///
/// The application calls it where it likes, in a message handler for one; it is not part of a session. What
/// happens to every message of a session is a native [`Pipeline`](crate::pipeline::Pipeline).
///
/// ```
/// use network_system::compat::{error, error_codes, message_pipeline};
///
/// let mut pipeline = message_pipeline::new();
/// pipeline.add_text_filter(|message| message.trim().to_owned());
/// pipeline.add_filter(|message| match message.is_empty() {
///     true => error(error_codes::pipeline_failed, "there is nothing in it"),
///     false => Ok(message.to_ascii_uppercase()),
/// });
/// assert_eq!(pipeline.process(" hello ").unwrap(), b"HELLO");
/// assert!(pipeline.process("  ").is_err());
/// ```
#[derive(Default)]
pub struct message_pipeline {
    filters: Vec<Box<Filter>>,
}

/// What a filter of a [`message_pipeline`] may return: `Vec<u8>` or `String`, or a `Result` of either.
pub trait Filtered {
    /// Makes one of all.
    #[doc(hidden)]
    fn into_result(self) -> Result<Vec<u8>>;
}

impl Filtered for Vec<u8> {
    fn into_result(self) -> Result<Vec<u8>> {
        Ok(self)
    }
}

impl Filtered for String {
    fn into_result(self) -> Result<Vec<u8>> {
        Ok(self.into_bytes())
    }
}

impl<T: Filtered> Filtered for Result<T> {
    fn into_result(self) -> Result<Vec<u8>> {
        self.and_then(T::into_result)
    }
}

impl message_pipeline {
    /// A pipeline without filters, which leaves messages as they are.
    pub fn new() -> Self {
        message_pipeline::default()
    }

    /// Adds a filter behind the others. One that can fail returns a `Result`.
    pub fn add_filter<R: Filtered>(&mut self, filter: impl Fn(&[u8]) -> R + Send + Sync + 'static) {
        let filter = move |message: &[u8]| filter(message).into_result();
        self.filters.push(Box::new(filter));
    }

    /// Adds a filter that gets text, behind the others. A message that is no UTF-8 fails there with
    /// `pipeline_failed`.
    pub fn add_text_filter<R: Filtered>(
        &mut self,
        filter: impl Fn(&str) -> R + Send + Sync + 'static,
    ) {
        self.add_filter(move |message| match std::str::from_utf8(message) {
            Ok(text) => filter(text).into_result(),
            Err(_) => Err(error::new(
                ErrorCode::PipelineFailed,
                "a message for a filter of text is no UTF-8",
            )),
        });
    }

    /// Sends a message through all filters.
    ///
    /// # Errors
    /// What the first filter that failed has returned.
    pub fn process(&self, message: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        let message = message.as_ref();
        let Some((first, others)) = self.filters.split_first() else {
            return Ok(message.to_vec());
        };
        let begun = first(message);
        others.iter().fold(begun, |result, filter| filter(&result?))
    }
}

impl fmt::Debug for message_pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("message_pipeline")
            .field("filters", &self.filters.len())
            .finish()
    }
}

/// Signs messages in the form `message|signature`, see [`signature`].
///
/// ```
/// use network_system::compat::authenticated_message;
///
/// let authenticated = authenticated_message::new("a key of many random bytes");
/// let signed = authenticated.sign_message("transfer 100");
/// assert_eq!(authenticated.verify_message(&signed), Some(&b"transfer 100"[..]));
/// assert_eq!(authenticated.verify_message("transfer 900|"), None);
/// ```
pub struct authenticated_message {
    /// Overwritten when it is dropped.
    key: Zeroizing<Vec<u8>>,
}

impl authenticated_message {
    /// Signs and checks with this key. A vector is taken as it is; of anything else the caller keeps the
    /// original.
    pub fn new(key: impl Into<Vec<u8>>) -> Self {
        authenticated_message {
            key: Zeroizing::new(key.into()),
        }
    }

    /// The message with its signature.
    pub fn sign_message(&self, message: impl AsRef<[u8]>) -> Vec<u8> {
        signature::sign_bytes(message.as_ref(), &*self.key)
    }

    /// The message that was signed; `None` when it was not, or was changed.
    pub fn verify_message<'a, T: AsRef<[u8]> + ?Sized>(&self, signed: &'a T) -> Option<&'a [u8]> {
        signature::verify_bytes(signed.as_ref(), &*self.key)
    }
}

impl fmt::Debug for authenticated_message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("authenticated_message(..)")
    }
}

/// The segmented buffer: bytes are written at one end in pieces and consumed at the other. The native
/// [`SegmentedBuffer`] has more.
///
/// ```
/// use network_system::compat::Pipeline;
///
/// let mut pipeline = Pipeline::new();
/// pipeline.write(vec![1, 2, 3]); // taken as it is
/// pipeline.write(&[4, 5]); // copied
/// assert_eq!(*pipeline.peek(4), [1, 2, 3, 4]);
/// pipeline.consume(4);
/// assert_eq!(pipeline.size(), 1);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Pipeline {
    buffer: SegmentedBuffer,
}

/// What can be written to a [`Pipeline`]: `Vec<u8>`, `String` and `Bytes` are taken as they are, what is
/// borrowed is copied.
pub trait WriteTo {
    /// Writes it.
    #[doc(hidden)]
    fn write_to(self, buffer: &mut SegmentedBuffer);
}

macro_rules! write_to {
    ($($given:ty),*; $($borrowed:ty),*) => {
        $(impl WriteTo for $given {
            fn write_to(self, buffer: &mut SegmentedBuffer) {
                buffer.write(self);
            }
        })*
        $(impl WriteTo for $borrowed {
            fn write_to(self, buffer: &mut SegmentedBuffer) {
                buffer.write_slice(self.as_ref());
            }
        })*
    };
}

write_to!(Bytes, Vec<u8>, String; &[u8], &Vec<u8>, &str, &String);

impl<const N: usize> WriteTo for &[u8; N] {
    fn write_to(self, buffer: &mut SegmentedBuffer) {
        buffer.write_slice(self);
    }
}

impl Pipeline {
    /// An empty buffer.
    pub fn new() -> Self {
        Pipeline::default()
    }

    /// Adds bytes.
    pub fn write(&mut self, data: impl WriteTo) {
        data.write_to(&mut self.buffer);
    }

    /// The first `size` bytes, or all when there are fewer; copied only when they lie in several segments.
    pub fn peek(&self, size: usize) -> Cow<'_, [u8]> {
        self.buffer.peek(size)
    }

    /// Removes the first `size` bytes, or all when there are fewer.
    pub fn consume(&mut self, size: usize) {
        self.buffer.consume(size);
    }

    /// How many bytes there are.
    pub fn size(&self) -> usize {
        self.buffer.len()
    }

    /// Whether there are no bytes.
    pub fn empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Removes all bytes.
    pub fn clear(&mut self) {
        self.buffer.clear();
    }
}

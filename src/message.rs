//! The message: what a handler sees and what an application sends.

use std::fmt;

use bytes::Bytes;

/// Payloads from this size on are shared, smaller ones copied, when a received message is kept.
///
/// A shared slice keeps the whole read buffer (256 KiB) alive, which a few small messages are not
/// worth; copying more than a page costs more than the bookkeeping of a shared slice.
pub(crate) const SHARE_THRESHOLD: usize = 4 * 1024;

/// What a message holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MessageKind {
    /// Opaque bytes.
    #[default]
    Binary,
    /// UTF-8 text. Transports that know no text, such as MSGI, deliver it as [`Binary`](Self::Binary).
    Text,
    /// A frame type of the application's own, `0x8000` to `0xFFFF`. Only MSGI and in-process carry it.
    Application(u16),
}

/// A message that owns its payload. Cloning shares the payload.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Message {
    kind: MessageKind,
    payload: Bytes,
}

impl Message {
    /// A message of opaque bytes.
    pub fn binary(payload: impl Into<Bytes>) -> Self {
        Message {
            kind: MessageKind::Binary,
            payload: payload.into(),
        }
    }

    /// A message of text.
    pub fn text(text: impl Into<String>) -> Self {
        Message {
            kind: MessageKind::Text,
            payload: Bytes::from(text.into()),
        }
    }

    /// A message of an application's own frame type, `0x8000` to `0xFFFF`.
    ///
    /// Returns `None` when `frame_type` is below `0x8000`: those are the protocol's.
    pub fn application(frame_type: u16, payload: impl Into<Bytes>) -> Option<Self> {
        (frame_type >= 0x8000).then(|| Message {
            kind: MessageKind::Application(frame_type),
            payload: payload.into(),
        })
    }

    pub(crate) fn from_parts(kind: MessageKind, payload: Bytes) -> Self {
        Message { kind, payload }
    }

    /// What the message holds.
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The payload as text, when it is valid UTF-8.
    pub fn as_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.payload).ok()
    }

    /// The length of the payload in bytes.
    pub fn len(&self) -> usize {
        self.payload.len()
    }

    /// Whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    /// Gives the payload away.
    pub fn into_payload(self) -> Bytes {
        self.payload
    }

    /// Lends the message, in the form that a handler takes.
    pub fn as_ref(&self) -> MessageRef<'_> {
        MessageRef {
            kind: self.kind,
            payload: &self.payload,
            source: &self.payload,
        }
    }
}

/// Prints the kind and the length, never the payload: messages end up in logs.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("kind", &self.kind)
            .field("len", &self.len())
            .finish()
    }
}

/// A received message, lent to the handler while it runs.
///
/// It points into the buffer that the transport read into. [`to_message`](Self::to_message) makes it
/// owned; sending it on needs no copy of its own.
#[derive(Clone, Copy)]
pub struct MessageRef<'a> {
    kind: MessageKind,
    payload: &'a [u8],
    /// The buffer that `payload` is a part of.
    source: &'a Bytes,
}

impl<'a> MessageRef<'a> {
    pub(crate) fn new(kind: MessageKind, payload: &'a [u8], source: &'a Bytes) -> Self {
        MessageRef {
            kind,
            payload,
            source,
        }
    }

    /// What the message holds.
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// The payload.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The payload as text, when it is valid UTF-8.
    pub fn as_text(&self) -> Option<&'a str> {
        std::str::from_utf8(self.payload).ok()
    }

    /// The length of the payload in bytes.
    pub fn len(&self) -> usize {
        self.payload.len()
    }

    /// Whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    /// Makes the message owned: a payload under 4 KiB is copied, a larger one shared.
    pub fn to_message(&self) -> Message {
        Message {
            kind: self.kind,
            payload: share(self.payload, self.source),
        }
    }
}

impl fmt::Debug for MessageRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageRef")
            .field("kind", &self.kind)
            .field("len", &self.len())
            .finish()
    }
}

/// A handle to `payload`, which lies inside `source`: shared when large, copied when small.
pub(crate) fn share(payload: &[u8], source: &Bytes) -> Bytes {
    if payload.len() >= SHARE_THRESHOLD {
        source.slice_ref(payload)
    } else {
        Bytes::copy_from_slice(payload)
    }
}

impl From<MessageRef<'_>> for Message {
    fn from(message: MessageRef<'_>) -> Self {
        message.to_message()
    }
}

/// Everything that can be sent: [`Message`], [`MessageRef`], byte strings and text.
///
/// Text types are sent as [`MessageKind::Text`], byte types as [`MessageKind::Binary`]. The trait is
/// sealed; convert other types to one of these.
pub trait Outgoing: sealed::Sealed + Unpin {
    /// What the message holds.
    fn kind(&self) -> MessageKind;
    /// The payload, lent.
    fn bytes(&self) -> &[u8];
    /// The message, owned, with as little copying as the type allows.
    fn into_message(self) -> Message;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! outgoing {
    ($type:ty, $kind:expr, $self:ident => $bytes:expr, $payload:expr) => {
        impl sealed::Sealed for $type {}
        impl Outgoing for $type {
            #[inline]
            fn kind(&self) -> MessageKind {
                let $self = self;
                let _ = $self;
                $kind
            }
            #[inline]
            fn bytes(&self) -> &[u8] {
                let $self = self;
                $bytes
            }
            #[inline]
            fn into_message(self) -> Message {
                let kind = Outgoing::kind(&self);
                let $self = self;
                Message {
                    kind,
                    payload: $payload,
                }
            }
        }
    };
}

outgoing!(Message, this.kind, this => &this.payload, this.payload);
outgoing!(MessageRef<'_>, this.kind, this => this.payload, share(this.payload, this.source));
outgoing!(Bytes, MessageKind::Binary, this => this, this);
outgoing!(Vec<u8>, MessageKind::Binary, this => this, Bytes::from(this));
outgoing!(&[u8], MessageKind::Binary, this => this, Bytes::copy_from_slice(this));

impl<const N: usize> sealed::Sealed for &[u8; N] {}
impl<const N: usize> Outgoing for &[u8; N] {
    fn kind(&self) -> MessageKind {
        MessageKind::Binary
    }
    fn bytes(&self) -> &[u8] {
        self.as_slice()
    }
    fn into_message(self) -> Message {
        self.as_slice().into_message()
    }
}
outgoing!(String, MessageKind::Text, this => this.as_bytes(), Bytes::from(this));
outgoing!(&str, MessageKind::Text, this => this.as_bytes(), Bytes::copy_from_slice(this.as_bytes()));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_payloads_are_shared_and_small_ones_copied() {
        let source = Bytes::from(vec![7_u8; 64 * 1024]);
        let large = MessageRef::new(
            MessageKind::Binary,
            &source[10..10 + SHARE_THRESHOLD],
            &source,
        );
        assert_eq!(large.to_message().payload().as_ptr(), source[10..].as_ptr());
        let small = MessageRef::new(MessageKind::Binary, &source[10..20], &source);
        assert_ne!(small.to_message().payload().as_ptr(), source[10..].as_ptr());
    }

    #[test]
    fn application_types_start_at_0x8000() {
        assert!(Message::application(0x7fff, "x").is_none());
        let message = Message::application(0x8000, "x").expect("an application type");
        assert_eq!(message.kind(), MessageKind::Application(0x8000));
    }

    #[test]
    fn debug_output_has_no_payload() {
        assert!(!format!("{:?}", Message::text("secret")).contains("secret"));
    }
}

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

/// A message: a kind and a payload.
///
/// A handler is lent the messages that it receives (`&Message`): their payloads are parts of the buffer
/// that the transport read into. Cloning such a message makes it the handler's own: a payload under 4 KiB
/// is copied, so that it does not keep the whole buffer alive, and a larger one is shared. Cloning a
/// message that owns its payload shares it.
pub struct Message {
    kind: MessageKind,
    /// The payload is `data[start..start + len]`.
    start: u32,
    len: usize,
    data: Bytes,
}

impl Message {
    /// A message of opaque bytes.
    pub fn binary(payload: impl Into<Bytes>) -> Self {
        Message::from_parts(MessageKind::Binary, payload.into())
    }

    /// A message of text.
    pub fn text(text: impl Into<String>) -> Self {
        Message::from_parts(MessageKind::Text, Bytes::from(text.into()))
    }

    /// A message of an application's own frame type, `0x8000` to `0xFFFF`.
    ///
    /// Returns `None` when `frame_type` is below `0x8000`: those are the protocol's.
    pub fn application(frame_type: u16, payload: impl Into<Bytes>) -> Option<Self> {
        (frame_type >= 0x8000)
            .then(|| Message::from_parts(MessageKind::Application(frame_type), payload.into()))
    }

    pub(crate) fn from_parts(kind: MessageKind, payload: Bytes) -> Self {
        Message {
            kind,
            start: 0,
            len: payload.len(),
            data: payload,
        }
    }

    /// Makes the message another part of the same buffer.
    #[inline(always)]
    pub(crate) fn move_to(&mut self, kind: MessageKind, start: usize, len: usize) {
        self.kind = kind;
        self.start = start as u32;
        self.len = len;
    }

    /// The buffer that the payload is a part of.
    #[inline(always)]
    pub(crate) fn buffer(&self) -> &Bytes {
        &self.data
    }

    /// What the message holds.
    #[inline]
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.data[self.start as usize..][..self.len]
    }

    /// The payload as text, when it is valid UTF-8.
    pub fn as_text(&self) -> Option<&str> {
        std::str::from_utf8(self.payload()).ok()
    }

    /// The length of the payload in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Gives the payload away.
    pub fn into_payload(self) -> Bytes {
        if self.data.len() == self.len {
            self.data
        } else {
            share(self.payload(), &self.data)
        }
    }
}

impl Clone for Message {
    fn clone(&self) -> Self {
        let payload = match self.data.len() == self.len {
            true => self.data.clone(),
            false => share(self.payload(), &self.data),
        };
        Message::from_parts(self.kind, payload)
    }
}

impl Default for Message {
    fn default() -> Self {
        Message::from_parts(MessageKind::Binary, Bytes::new())
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.payload() == other.payload()
    }
}

impl Eq for Message {}

/// Prints the kind and the length, never the payload: messages end up in logs.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
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

/// Everything that can be sent: [`Message`] and `&Message`, byte strings and text.
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
                Message::from_parts(kind, $payload)
            }
        }
    };
}

impl sealed::Sealed for Message {}
impl Outgoing for Message {
    #[inline]
    fn kind(&self) -> MessageKind {
        self.kind
    }
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.payload()
    }
    #[inline]
    fn into_message(self) -> Message {
        self
    }
}

impl sealed::Sealed for &Message {}
impl Outgoing for &Message {
    #[inline]
    fn kind(&self) -> MessageKind {
        self.kind
    }
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.payload()
    }
    #[inline]
    fn into_message(self) -> Message {
        self.clone()
    }
}

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
    fn cloning_a_lent_message_shares_large_payloads_and_copies_small_ones() {
        let mut lent = Message::binary(vec![7_u8; 64 * 1024]);
        lent.move_to(MessageKind::Binary, 10, SHARE_THRESHOLD);
        assert_eq!(lent.clone().payload().as_ptr(), lent.payload().as_ptr());
        lent.move_to(MessageKind::Binary, 10, SHARE_THRESHOLD - 1);
        assert_ne!(lent.clone().payload().as_ptr(), lent.payload().as_ptr());
        assert_eq!(lent.clone(), lent);
    }

    #[test]
    fn cloning_an_owned_message_shares_its_payload() {
        let message = Message::text("small");
        assert_eq!(
            message.clone().payload().as_ptr(),
            message.payload().as_ptr()
        );
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

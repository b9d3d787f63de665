//! Finds messages in the bytes of one connection.

use bytes::BytesMut;

use super::assembly::{Assembly, Rules, check_utf8, compressed_limit};
use super::deflate::InflateConfig;
use super::deflate::inflate::Inflater;
use super::head::{CONTROL_MAX, Head, Opcode, apply_mask};
use super::{UNSUPPORTED_DATA, close, not_utf8, too_large, violation};
use crate::codec::{EndOfStream, FrameType, ProtocolError, Span, msgi};

/// From this size on a message is not copied when that can be avoided.
const LARGE: usize = 4 * 1024;
/// One pass copies no more than this and one message. A read of 256 KiB can hold a thousand times as much
/// once it is inflated.
const COPIED_MAX: usize = 256 * 1024;

/// What the two sides have agreed on, and limits.
#[derive(Clone, Debug)]
pub(crate) struct DecoderConfig {
    /// Whether this side is the client: frames must come unmasked, otherwise masked.
    pub(crate) client: bool,
    /// Whether each message is one MSGI frame.
    pub(crate) msgi: bool,
    /// The longest message in bytes, not counting what MSGI puts around it.
    pub(crate) message_limit: usize,
    /// How the peer compresses, when that was agreed on.
    pub(crate) inflate: Option<InflateConfig>,
}

/// What the offsets of spans refer to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Source {
    #[default]
    Buffer,
    Copied,
}

/// What one pass over a buffer found.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    /// Bytes that are done with; the rest stays at the front of the buffer for the next pass.
    pub(crate) consumed: usize,
    /// How long the unfinished frame at the front of the rest is in all, 0 when that is not known.
    pub(crate) needed: usize,
    pub(crate) source: Source,
    /// Whether the rest holds a frame that the next pass can take at once.
    pub(crate) again: bool,
    /// Whether the peer has closed: nothing after it is looked at.
    pub(crate) ended: bool,
    /// What is wrong with the bytes after `consumed`.
    pub(crate) error: Option<ProtocolError>,
}

/// The decoder of one connection. An idle one holds no memory outside itself, unless the peer's compression
/// carries its window over from message to message.
#[derive(Debug)]
pub(crate) struct Decoder {
    message_limit: usize,
    /// Payload bytes of the unfinished frame at the front of the buffer that are unmasked.
    unmasked: usize,
    /// How many of them are known to be UTF-8.
    checked: usize,
    /// The message that does not stand in the buffer.
    assembly: Option<Box<Assembly>>,
    /// There during a compressed message, and between them when the window is carried over.
    inflater: Option<Box<Inflater>>,
    inflate: Option<InflateConfig>,
    /// The code that the peer has closed with.
    close: Option<u16>,
    client: bool,
    msgi: bool,
    failed: bool,
}

/// Where frames go.
struct Found<'a> {
    spans: &'a mut Vec<Span>,
    copied: &'a mut BytesMut,
    /// Lengths before the pass.
    spans_before: usize,
    copied_before: usize,
    /// What the spans refer to; `None` while there are none.
    source: Option<Source>,
    /// Whether a large message was moved to `copied`, to which nothing is appended then.
    moved: bool,
}

/// How the pass goes on after a frame.
enum Next {
    /// With the next frame.
    Frame,
    /// The rest has to arrive; how long the frame is in all when that is known.
    Wait(usize),
    /// The next frame belongs to another pass.
    Again,
    /// The peer has closed.
    Ended,
}

impl Decoder {
    pub(crate) fn new(config: DecoderConfig) -> Self {
        Decoder {
            message_limit: config.message_limit,
            unmasked: 0,
            checked: 0,
            assembly: None,
            inflater: None,
            inflate: config.inflate,
            close: None,
            client: config.client,
            msgi: config.msgi,
            failed: false,
        }
    }

    /// Finds what is complete at the front of `buffer` and appends it to `spans`.
    ///
    /// The payloads are in `buffer`, unmasked, or in `copied`, as the pass says. What is not consumed has
    /// to be at the front of the buffer of the next pass, as this one left it.
    pub(crate) fn decode(
        &mut self,
        buffer: &mut [u8],
        spans: &mut Vec<Span>,
        copied: &mut BytesMut,
    ) -> Pass {
        let mut pass = Pass {
            ended: self.close.is_some(),
            ..Pass::default()
        };
        if pass.ended || self.failed {
            return pass;
        }
        let mut found = Found {
            spans_before: spans.len(),
            copied_before: copied.len(),
            spans,
            copied,
            source: None,
            moved: false,
        };
        let mut at = 0;
        loop {
            let next = self
                .take_plain(buffer, &mut at, &mut found)
                .and_then(|()| self.take_frame(buffer, &mut at, &mut found));
            match next {
                Ok(Next::Frame) => continue,
                Ok(Next::Wait(needed)) => pass.needed = needed,
                Ok(Next::Again) => pass.again = true,
                Ok(Next::Ended) => pass.ended = true,
                Err(error) => {
                    self.fail();
                    pass.error = Some(error);
                }
            }
            break;
        }
        pass.consumed = at;
        pass.source = found.source.unwrap_or_default();
        pass
    }

    /// Takes frames as nearly all are: complete, with a whole message, not compressed. Stops in front of
    /// anything else.
    #[inline]
    fn take_plain(
        &mut self,
        buffer: &mut [u8],
        at: &mut usize,
        found: &mut Found<'_>,
    ) -> Result<(), ProtocolError> {
        // A pass that copies goes on copying, and a frame that is partly unmasked is for the other way.
        if self.assembly.is_some() || self.unmasked > 0 || found.source == Some(Source::Copied) {
            return Ok(());
        }
        let (client, limit) = (self.client, self.frame_limit());
        let mask_bit = if client { 0 } else { 0x80 };
        let mask_size = if client { 0 } else { 4 };
        while let Some(&[first, second]) = buffer[*at..].first_chunk::<2>() {
            let text = match first {
                0x81 if !self.msgi => true,
                0x82 => false,
                _ => break,
            };
            if second & 0x80 != mask_bit {
                break;
            }
            let (len, size) = match second & 0x7F {
                126 => match buffer[*at..].first_chunk::<4>() {
                    Some(&[_, _, l0, l1]) => (usize::from(u16::from_be_bytes([l0, l1])), 4),
                    None => break,
                },
                127 => break,
                len => (usize::from(len), 2),
            };
            if len > limit || (size == 4 && len <= CONTROL_MAX) {
                break;
            }
            let Some(frame) = buffer[*at..].get_mut(..size + mask_size + len) else {
                break;
            };
            let (head, payload) = frame.split_at_mut(size + mask_size);
            if let (false, Some(key)) = (client, head.last_chunk::<4>()) {
                apply_mask(payload, *key, 0);
            }
            let start = *at + size + mask_size;
            let span = if self.msgi {
                msgi::decode_alone(payload, start, self.message_limit)?
            } else if text && std::str::from_utf8(payload).is_err() {
                return Err(not_utf8());
            } else {
                Span::data(start, len, text)
            };
            found.spans.push(span);
            *at = start + len;
        }
        if found.spans.len() > found.spans_before {
            found.source = Some(Source::Buffer);
        }
        Ok(())
    }

    /// Takes one frame of any kind, or what there is of it.
    fn take_frame(
        &mut self,
        buffer: &mut [u8],
        at: &mut usize,
        found: &mut Found<'_>,
    ) -> Result<Next, ProtocolError> {
        if self
            .assembly
            .as_ref()
            .is_some_and(|assembly| assembly.is_inside_frame())
        {
            return self.take_into_assembly(buffer, at, found);
        }
        let rest = &mut buffer[*at..];
        let Some((head, size)) = self.judge_head(rest)? else {
            return Ok(Next::Wait(0));
        };
        let is_whole = head.fin && !head.compressed && head.opcode != Opcode::Continuation;
        if is_whole {
            return self.take_whole(head, size, buffer, at, found);
        }
        let arrived = rest.len() - size;
        if head.fin && arrived >= head.len && !found.takes_copies() {
            return Ok(Next::Again);
        }
        self.begin(&head)?;
        *at += size;
        self.take_into_assembly(buffer, at, found)
    }

    /// Judges a head as far as it has arrived; `None` when that is not all of it. Also says how long it is.
    fn judge_head(&self, bytes: &[u8]) -> Result<Option<(Head, usize)>, ProtocolError> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        let fin = first & 0x80 != 0;
        let compressed = first & 0x40 != 0;
        let opcode = Opcode::try_from(first & 0x0F)
            .map_err(|other| violation(format!("the opcode {other} is reserved")))?;
        self.judge_opcode(first, opcode)?;
        let Some(&second) = bytes.get(1) else {
            return Ok(None);
        };
        let masked = second & 0x80 != 0;
        if masked == self.client {
            return Err(violation(match masked {
                true => "a frame of a server is masked",
                false => "a frame of a client is not masked",
            }));
        }
        let short = second & 0x7F;
        if opcode.is_control() && usize::from(short) > CONTROL_MAX {
            return Err(violation(
                "the payload of a control frame is longer than 125 bytes",
            ));
        }
        let (len, size) = match short {
            126 => match bytes.first_chunk::<4>() {
                Some(&[_, _, l0, l1]) => (u64::from(u16::from_be_bytes([l0, l1])), 4),
                None => return Ok(None),
            },
            127 => match bytes.get(2..10).and_then(<[u8]>::first_chunk) {
                Some(len) => (u64::from_be_bytes(*len), 10),
                None => return Ok(None),
            },
            len => (u64::from(len), 2),
        };
        let least = [0, CONTROL_MAX as u64 + 1, 1 << 16][usize::from(short.max(125) - 125)];
        if len < least {
            return Err(violation(
                "the length of a frame is not in its shortest form",
            ));
        }
        if len >> 63 != 0 {
            return Err(violation("the length of a frame has its highest bit set"));
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        // Of a compressed message this is the other length; continuations are judged with what was before.
        let is_compressed = match &self.assembly {
            Some(assembly) => assembly.compressed,
            None => compressed,
        };
        let limit = match is_compressed {
            true => compressed_limit(self.frame_limit()),
            false => self.frame_limit(),
        };
        if !opcode.is_control() && len > limit {
            return Err(too_large(len, self.message_limit));
        }
        let end = if masked { size + 4 } else { size };
        let Some(head) = bytes.get(..end) else {
            return Ok(None);
        };
        let mask = masked.then(|| head.last_chunk().copied().unwrap_or_default());
        let head = Head {
            fin,
            compressed,
            opcode,
            len,
            mask,
        };
        Ok(Some((head, end)))
    }

    /// Judges the first byte of a head.
    fn judge_opcode(&self, first: u8, opcode: Opcode) -> Result<(), ProtocolError> {
        let (fin, compressed) = (first & 0x80 != 0, first & 0x40 != 0);
        let may_compress =
            self.inflate.is_some() && matches!(opcode, Opcode::Text | Opcode::Binary);
        if first & 0x30 != 0 || (compressed && !may_compress) {
            return Err(violation("a reserved bit is set"));
        }
        match (opcode, &self.assembly) {
            _ if opcode.is_control() => match fin {
                true => Ok(()),
                false => Err(violation("a control frame is fragmented")),
            },
            (Opcode::Continuation, Some(_)) => Ok(()),
            (Opcode::Continuation, None) => {
                Err(violation("a continuation without a message to continue"))
            }
            (_, Some(_)) => Err(violation("a message begins inside another one")),
            (Opcode::Text, None) if self.msgi => Err(ProtocolError::invalid(
                "a text message where MSGI frames are binary ones",
            )
            .with_websocket(UNSUPPORTED_DATA)),
            _ => Ok(()),
        }
    }

    /// Takes a frame that is a whole message or a control frame. It stays in the buffer until it is complete,
    /// and what has arrived of it is unmasked and judged.
    fn take_whole(
        &mut self,
        head: Head,
        size: usize,
        buffer: &mut [u8],
        at: &mut usize,
        found: &mut Found<'_>,
    ) -> Result<Next, ProtocolError> {
        let rest = &mut buffer[*at + size..];
        let arrived = rest.len().min(head.len);
        let complete = arrived == head.len;
        let payload = &mut rest[..arrived];
        if let Some(key) = head.mask
            && let Some(new) = payload.get_mut(self.unmasked..)
        {
            apply_mask(new, key, self.unmasked);
        }
        self.unmasked = arrived;
        let text = head.opcode == Opcode::Text;
        if text && !check_utf8(payload, &mut self.checked, complete) {
            return Err(not_utf8());
        }
        let is_msgi = self.msgi && head.opcode == Opcode::Binary;
        if is_msgi
            && let Some(error) = msgi::judge_alone(payload, Some(head.len), self.message_limit)
        {
            return Err(error);
        }
        if !complete {
            return Ok(Next::Wait(size + head.len));
        }
        if found.prefers_another_pass(head.len) {
            return Ok(Next::Again);
        }
        (self.unmasked, self.checked) = (0, 0);
        let start = *at + size;
        *at = start + head.len;
        let mut span = match is_msgi {
            true => msgi::decode_alone(payload, start, self.message_limit)?,
            false => Span::data(start, head.len, true),
        };
        match head.opcode {
            Opcode::Binary if !is_msgi => span.text = false,
            Opcode::Ping => span.frame_type = FrameType::PING,
            Opcode::Pong => span.frame_type = FrameType::PONG,
            Opcode::Close => {
                self.close = Some(close::judge(payload)?);
                (self.assembly, self.inflater) = (None, None);
                if self.msgi {
                    return Ok(Next::Ended);
                }
                span.frame_type = FrameType::DISCONNECT;
            }
            _ => {}
        }
        found.push(span, buffer);
        match self.close {
            Some(_) => Ok(Next::Ended),
            None => Ok(Next::Frame),
        }
    }

    /// A frame begins whose payload is taken out of the buffer as it arrives.
    fn begin(&mut self, head: &Head) -> Result<(), ProtocolError> {
        let rules = self.rules();
        let text = head.opcode == Opcode::Text;
        let assembly = self
            .assembly
            .get_or_insert_with(|| Box::new(Assembly::new(text, head.compressed)));
        if assembly.compressed
            && self.inflater.is_none()
            && let Some(config) = self.inflate
        {
            self.inflater = Some(Box::new(Inflater::new(config)));
        }
        assembly.begin(head, rules)
    }

    /// Takes what there is of the frame that is arriving.
    fn take_into_assembly(
        &mut self,
        buffer: &mut [u8],
        at: &mut usize,
        found: &mut Found<'_>,
    ) -> Result<Next, ProtocolError> {
        let rules = self.rules();
        let Some(assembly) = &mut self.assembly else {
            return Ok(Next::Frame);
        };
        let rest = &mut buffer[*at..];
        let completes = assembly
            .missing()
            .is_some_and(|missing| missing <= rest.len());
        let inflater = match assembly.compressed {
            true => self.inflater.as_deref_mut(),
            false => None,
        };
        *at += assembly.take(rest, inflater, rules)?;
        if assembly.is_inside_frame() {
            return Ok(Next::Wait(0));
        }
        if !completes {
            return Ok(Next::Frame);
        }
        if self
            .inflate
            .is_some_and(|config| config.no_context_takeover)
        {
            self.inflater = None;
        }
        if let Some(assembly) = self.assembly.take() {
            let span = match self.msgi {
                true => msgi::decode_alone(&assembly.bytes, 0, self.message_limit)?,
                false => Span::data(0, assembly.bytes.len(), assembly.text),
            };
            found.push_assembled(span, assembly.bytes);
        }
        Ok(Next::Frame)
    }

    /// The longest message as WebSocket sees it.
    fn frame_limit(&self) -> usize {
        match self.msgi {
            true => msgi::frame_limit(self.message_limit),
            false => self.message_limit,
        }
    }

    fn rules(&self) -> Rules {
        Rules {
            limit: self.frame_limit(),
            msgi: self.msgi.then_some(self.message_limit),
        }
    }

    #[cold]
    fn fail(&mut self) {
        self.failed = true;
        (self.assembly, self.inflater) = (None, None);
    }

    /// The code that the peer has closed with, 1005 when it gave none; `None` while it has not closed.
    pub(crate) fn close_received(&self) -> Option<u16> {
        self.close
    }

    /// Whether part of a message is held here rather than in the buffer.
    pub(crate) fn is_mid_message(&self) -> bool {
        self.assembly.is_some()
    }

    /// Bytes allocated for an unfinished message.
    pub(crate) fn held(&self) -> usize {
        self.assembly
            .as_ref()
            .map_or(0, |assembly| assembly.bytes.capacity())
    }

    /// Gives back memory that an unfinished message holds beyond its need.
    pub(crate) fn shrink(&mut self) {
        if let Some(assembly) = &mut self.assembly {
            assembly.shrink();
        }
    }

    /// The stream ended, and `rest` is what was not consumed.
    pub(crate) fn finish(&self, rest: &[u8]) -> EndOfStream {
        match self.close.is_some() || (rest.is_empty() && self.assembly.is_none()) {
            true => EndOfStream::Boundary,
            false => EndOfStream::InsideFrame,
        }
    }
}

impl Found<'_> {
    /// Whether a message can be copied in this pass.
    fn takes_copies(&self) -> bool {
        self.source != Some(Source::Buffer)
            && !self.moved
            && self.copied.len() - self.copied_before < COPIED_MAX
    }

    /// Whether a frame of this length is better taken by the next pass, which need not copy it.
    fn prefers_another_pass(&self, len: usize) -> bool {
        self.source == Some(Source::Copied) && (len >= LARGE || !self.takes_copies())
    }

    /// Adds a frame whose payload stands in the buffer.
    fn push(&mut self, mut span: Span, buffer: &[u8]) {
        if self.source == Some(Source::Copied) {
            let payload = &buffer[span.start as usize..][..span.len as usize];
            span.start = self.copied.len() as u32;
            self.copied.extend_from_slice(payload);
        } else {
            self.source = Some(Source::Buffer);
        }
        self.spans.push(span);
    }

    /// Adds a message that is by itself, at which the span points.
    fn push_assembled(&mut self, mut span: Span, message: Vec<u8>) {
        self.source = Some(Source::Copied);
        if message.len() >= LARGE && self.copied.is_empty() && self.spans.is_empty() {
            *self.copied = BytesMut::from(bytes::Bytes::from(message));
            self.moved = true;
        } else {
            let payload = &message[span.start as usize..][..span.len as usize];
            span.start = self.copied.len() as u32;
            self.copied.extend_from_slice(payload);
        }
        self.spans.push(span);
    }
}

//! A message that does not stand in the read buffer as it is: fragmented, compressed, or both.

use super::deflate::inflate::{Inflater, Refused};
use super::head::{Head, apply_mask};
use super::{invalid_payload, not_utf8, too_large};
use crate::codec::{ProtocolError, msgi};

/// What a decoder holds while such a message arrives.
#[derive(Debug)]
pub(super) struct Assembly {
    /// The message so far, inflated.
    pub(super) bytes: Vec<u8>,
    pub(super) text: bool,
    pub(super) compressed: bool,
    /// Bytes at the front that are known to be UTF-8.
    checked: usize,
    /// Payload bytes of all frames so far, as they were sent.
    received: usize,
    /// The frame whose payload is arriving.
    frame: Option<Arriving>,
}

#[derive(Debug)]
struct Arriving {
    fin: bool,
    mask: [u8; 4],
    len: usize,
    /// Payload bytes that have arrived.
    seen: usize,
}

/// What every message is held against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// The longest message, in bytes.
    pub(super) limit: usize,
    /// The limit of messages in MSGI frames, when each message is one.
    pub(super) msgi: Option<usize>,
}

impl Assembly {
    /// A message that begins with this frame.
    pub(super) fn new(text: bool, compressed: bool) -> Self {
        Assembly {
            bytes: Vec::new(),
            text,
            compressed,
            checked: 0,
            received: 0,
            frame: None,
        }
    }

    /// Whether the payload of a frame has not arrived in full.
    pub(super) fn is_inside_frame(&self) -> bool {
        self.frame.is_some()
    }

    /// How many bytes complete the message, when the frame that is arriving is its last.
    pub(super) fn missing(&self) -> Option<usize> {
        let frame = self.frame.as_ref().filter(|frame| frame.fin)?;
        Some(frame.len - frame.seen)
    }

    /// The next frame of the message begins.
    pub(super) fn begin(&mut self, head: &Head, rules: Rules) -> Result<(), ProtocolError> {
        let (before, limit) = match self.compressed {
            false => (self.bytes.len(), rules.limit),
            true => (self.received, compressed_limit(rules.limit)),
        };
        let len = before.saturating_add(head.len);
        if len > limit {
            return Err(too_large(len, rules.limit));
        }
        self.frame = Some(Arriving {
            fin: head.fin,
            mask: head.mask.unwrap_or_default(),
            len: head.len,
            seen: 0,
        });
        Ok(())
    }

    /// Takes what there is of the frame that is arriving from the front of `buffer`, and says how many bytes
    /// that were. `inflater` is there when the message is compressed.
    pub(super) fn take(
        &mut self,
        buffer: &mut [u8],
        inflater: Option<&mut Inflater>,
        rules: Rules,
    ) -> Result<usize, ProtocolError> {
        let Some(frame) = &mut self.frame else {
            return Ok(0);
        };
        let len = (frame.len - frame.seen).min(buffer.len());
        let bytes = &mut buffer[..len];
        apply_mask(bytes, frame.mask, frame.seen);
        frame.seen += len;
        self.received += len;
        let ends = frame.seen == frame.len;
        let complete = ends && frame.fin;
        if ends {
            self.frame = None;
        }
        match inflater {
            None => self.bytes.extend_from_slice(bytes),
            Some(inflater) => {
                let inflated = inflater.inflate(bytes, &mut self.bytes, rules.limit);
                let inflated = match complete {
                    true => inflated.and_then(|()| inflater.finish(&mut self.bytes, rules.limit)),
                    false => inflated,
                };
                if let Err(refused) = inflated {
                    // What came out before is judged first, as it would be had it come by itself.
                    self.judge(false, rules)?;
                    return Err(match refused {
                        Refused::TooLarge => too_large(self.bytes.len(), rules.limit),
                        Refused::Invalid(text) => invalid_payload(text),
                    });
                }
            }
        }
        self.judge(complete, rules)?;
        Ok(len)
    }

    /// Judges what has arrived of the message.
    fn judge(&mut self, complete: bool, rules: Rules) -> Result<(), ProtocolError> {
        if self.text && !check_utf8(&self.bytes, &mut self.checked, complete) {
            return Err(not_utf8());
        }
        let error = match rules.msgi {
            // The whole message is judged when its span is made.
            Some(limit) if !complete => msgi::judge_alone(&self.bytes, None, limit),
            _ => None,
        };
        error.map_or(Ok(()), Err)
    }

    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }
}

/// How many compressed bytes a message may have. What cannot be compressed grows by 5 bytes for each stored
/// block, and small blocks are of 4 KiB or more.
pub(super) fn compressed_limit(limit: usize) -> usize {
    limit.saturating_add(limit / 512).saturating_add(1024)
}

/// Goes on checking that `bytes` is UTF-8, of which the first `checked` bytes are. A character that is cut
/// off at the end waits for its rest unless the message is `complete`.
#[inline]
pub(super) fn check_utf8(bytes: &[u8], checked: &mut usize, complete: bool) -> bool {
    match std::str::from_utf8(&bytes[*checked..]) {
        Ok(text) => {
            *checked += text.len();
            true
        }
        Err(error) => {
            *checked += error.valid_up_to();
            error.error_len().is_none() && !complete
        }
    }
}

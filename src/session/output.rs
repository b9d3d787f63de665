//! Encoded frames on their way to a link.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::codec::websocket::deflate::{Deflate, compress_once};
use crate::codec::websocket::head::{self, HEAD_MAX, Head, Opcode, apply_mask, next_mask};
use crate::codec::websocket::mapping;
use crate::codec::{FrameType, Framing, length, msgi};
use crate::message::SHARE_THRESHOLD;
use crate::session::reliable::wire_len;

/// How many slices one vectored write hands over. The system's limit is 1,024; past some tens the gain
/// is below what the longer array costs.
pub(crate) const MAX_SLICES: usize = 64;

/// Entries that an empty list of values keeps room for.
const VALUES_KEEP: usize = 4 * 1024;

/// A frame as a value: what links that carry frames hand over, and what waits in an outbox.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) frame_type: FrameType,
    pub(crate) text: bool,
    /// How many stages of the session's pipeline the payload has gone through: what is sent to many goes
    /// once through stages that make the same of it for all.
    pub(crate) stages_done: u8,
    /// The length of the message before it went through any.
    pub(crate) message_len: u32,
    /// The correlation id of REQUEST, RESPONSE and FAILURE, otherwise 0.
    pub(crate) id: u64,
    pub(crate) payload: Bytes,
}

impl Frame {
    /// Its length as MSGI, whatever the link makes of it.
    fn wire_len(&self) -> usize {
        wire_len(self.frame_type, self.payload.len())
    }

    pub(crate) fn new(frame_type: FrameType, text: bool, id: u64, payload: Bytes) -> Self {
        Frame {
            frame_type,
            text,
            stages_done: 0,
            message_len: payload.len() as u32,
            id,
            payload,
        }
    }
}

/// Frames in the order in which they leave.
///
/// Heads and small payloads are copied together into one run of bytes; large payloads are kept as they
/// are, with the position in the run at which they belong, and leave in the same vectored write. On a
/// link that carries frames, they are kept as values instead.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Heads and small payloads are in `bytes[start..end]`; what is behind `end` is room. Keeping the
    /// room initialised makes appending a frame two plain copies behind one check.
    bytes: Vec<u8>,
    /// How much of `bytes` has left. At most `end`.
    start: usize,
    end: usize,
    /// Large payloads, each with its position in `bytes`. Positions ascend, from `start` to `end`.
    large: VecDeque<(usize, Bytes)>,
    /// Frames for a link that carries values.
    frames: VecDeque<Frame>,
    /// Bytes of `large` and `frames` that remain to be written.
    apart: usize,
    /// Frames pushed since the last call of [`take_counts`](Self::take_counts), without the plain ones.
    counts: Counts,
    /// Frames pushed by [`push_msgi`](Self::push_msgi) since then. Their bytes are what has been added to
    /// `bytes` without `aside`.
    plain: u32,
    /// Frames pushed by [`push_short_websocket`](Self::push_short_websocket) since then, and the bytes of
    /// their heads.
    short: u32,
    short_heads: usize,
    /// Bytes that others have added to `bytes` since then, and where `end` was.
    aside: usize,
    counted: usize,
    /// How far the frames in `bytes` have been recorded by a session that keeps them.
    recorded: usize,
    /// What `plain` and `aside` were then.
    plain_recorded: u32,
    aside_recorded: usize,
    /// How many of `frames`, from the first one on, are as the link takes them.
    staged: usize,
}

/// What went out, for the statistics.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) frames: u32,
    pub(crate) messages: u32,
    pub(crate) message_bytes: u64,
}

impl Output {
    /// Appends a frame whose payload is owned: a large one is kept, not copied.
    pub(crate) fn push(
        &mut self,
        framing: Framing,
        frame_type: FrameType,
        text: bool,
        id: u64,
        payload: Bytes,
    ) {
        self.push_frame(framing, Frame::new(frame_type, text, id, payload));
    }

    /// Appends a frame, as [`push`](Self::push) does.
    pub(crate) fn push_frame(&mut self, framing: Framing, frame: Frame) {
        self.count(frame.frame_type, frame.message_len as usize);
        self.place(framing, frame);
    }

    /// Appends a frame that was counted before, as [`push`](Self::push) does.
    pub(crate) fn place(&mut self, framing: Framing, frame: Frame) {
        if framing.is_values() {
            self.apart += frame.wire_len();
            self.frames.push_back(frame);
            return;
        }
        let Frame {
            frame_type,
            text,
            id,
            payload,
            ..
        } = frame;
        if payload.len() < SHARE_THRESHOLD || !framing.keeps_payload() {
            self.place_slice(framing, frame_type, text, id, &payload);
        } else {
            self.push_head(framing, frame_type, text, id, payload.len());
            self.apart += payload.len();
            self.large.push_back((self.end, payload));
            self.push_tail(framing);
        }
    }

    /// Takes out the frames that were collected as values since [`set_staged`](Self::set_staged). They stay counted.
    pub(crate) fn take_values(&mut self) -> VecDeque<Frame> {
        let frames = match self.staged {
            0 => std::mem::take(&mut self.frames),
            staged => self.frames.split_off(staged),
        };
        self.apart -= frames.iter().map(Frame::wire_len).sum::<usize>();
        frames
    }

    /// The values are what the link takes: they were kept, and have gone through the stages.
    pub(crate) fn set_staged(&mut self) {
        self.staged = self.frames.len();
    }

    /// Keeps the memory of an empty list of frames for the next use.
    pub(crate) fn recycle_values(&mut self, frames: VecDeque<Frame>) {
        debug_assert!(frames.is_empty());
        if self.frames.is_empty() && frames.capacity() <= VALUES_KEEP {
            self.frames = frames;
        }
    }

    /// Appends a frame whose payload is lent, by copying it. Not for links that carry frames.
    #[inline]
    pub(crate) fn push_slice(
        &mut self,
        framing: Framing,
        frame_type: FrameType,
        text: bool,
        id: u64,
        payload: &[u8],
    ) {
        self.count(frame_type, payload.len());
        self.place_slice(framing, frame_type, text, id, payload);
    }

    /// Appends a frame that was counted before, as [`push_slice`](Self::push_slice) does.
    #[inline]
    pub(crate) fn place_slice(
        &mut self,
        framing: Framing,
        frame_type: FrameType,
        text: bool,
        id: u64,
        payload: &[u8],
    ) {
        debug_assert!(!framing.is_values());
        if !framing.keeps_payload() {
            return self.push_changed(framing, frame_type, text, id, payload);
        }
        self.push_head(framing, frame_type, text, id, payload.len());
        self.append(payload);
        self.push_tail(framing);
    }

    /// Appends a frame whose payload is not sent as it is: masked or compressed.
    fn push_changed(
        &mut self,
        framing: Framing,
        frame_type: FrameType,
        text: bool,
        id: u64,
        payload: &[u8],
    ) {
        if framing == Framing::WebSocketDeflated {
            return self.push_deflated(frame_type, text, payload);
        }
        let key = next_mask();
        let msgi = framing == Framing::WebSocketMsgiMasked && !is_own(frame_type, text);
        let overhead = if msgi { msgi_overhead(frame_type) } else { 0 };
        let opcode = match msgi {
            true => Opcode::Binary,
            false => mapping::opcode(frame_type, text),
        };
        self.push_websocket_head(opcode, false, payload.len() + overhead, Some(key));
        let start = self.end;
        if msgi {
            self.push_msgi_head(frame_type, id, payload.len());
        }
        self.append(payload);
        apply_mask(&mut self.bytes[start..self.end], key, 0);
    }

    fn push_deflated(&mut self, frame_type: FrameType, text: bool, payload: &[u8]) {
        let opcode = mapping::opcode(frame_type, text);
        if opcode.is_control() || payload.len() < Deflate::default().threshold {
            self.push_websocket_head(opcode, false, payload.len(), None);
            return self.append(payload);
        }
        let mut compressed = Vec::new();
        let shorter = compress_once(payload, Deflate::default().level, &mut compressed);
        let payload = if shorter { &compressed } else { payload };
        self.push_websocket_head(opcode, shorter, payload.len(), None);
        self.append(payload);
    }

    fn push_websocket_head(
        &mut self,
        opcode: Opcode,
        compressed: bool,
        len: usize,
        mask: Option<[u8; 4]>,
    ) {
        self.push_websocket_part(Head {
            fin: true,
            compressed,
            opcode,
            len,
            mask,
        });
    }

    #[inline]
    fn push_websocket_part(&mut self, head: Head) {
        let mut bytes = [0; HEAD_MAX];
        let size = head.encode(&mut bytes);
        self.append(&bytes[..size]);
    }

    /// Appends a frame of WebSocket, as a link that encodes frames itself does.
    pub(crate) fn push_websocket(
        &mut self,
        fin: bool,
        compressed: bool,
        opcode: Opcode,
        payload: &[u8],
        masked: bool,
    ) {
        let mask = masked.then(next_mask);
        self.push_websocket_part(Head {
            fin,
            compressed,
            opcode,
            len: payload.len(),
            mask,
        });
        let start = self.end;
        self.append(payload);
        if let Some(key) = mask {
            apply_mask(&mut self.bytes[start..self.end], key, 0);
        }
    }

    /// Appends a control frame of WebSocket.
    pub(crate) fn push_control(&mut self, opcode: Opcode, payload: &[u8], masked: bool) {
        self.push_websocket(true, false, opcode, payload, masked);
    }

    /// What is encoded, when all of it was copied.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        debug_assert!(self.large.is_empty());
        self.bytes.truncate(self.end);
        Bytes::from(self.bytes)
    }

    fn push_msgi_head(&mut self, frame_type: FrameType, id: u64, payload: usize) {
        if frame_type.has_id() {
            self.append(&msgi::header(frame_type, payload + msgi::ID));
            self.append(&id.to_be_bytes());
        } else {
            self.append(&msgi::header(frame_type, payload));
        }
    }

    /// Makes room for `len` more bytes.
    #[inline]
    pub(crate) fn reserve(&mut self, len: usize) {
        if self.bytes.len() - self.end < len {
            self.grow(len);
        }
    }

    #[cold]
    fn grow(&mut self, len: usize) {
        let least = (self.end + len).max(2 * self.bytes.len()).max(512);
        self.bytes.resize(least, 0);
    }

    #[inline]
    fn append(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.bytes[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
        self.aside += bytes.len();
    }

    /// Appends a message as an MSGI frame by copying it: the shortest path there is. The frame has to
    /// end before [`plain_end`](Self::plain_end).
    #[inline(always)]
    pub(crate) fn push_msgi(&mut self, frame_type: FrameType, message: &[u8]) {
        let len = msgi::HEADER + message.len();
        let frame = &mut self.bytes[self.end..self.end + len];
        if let Some((head, payload)) = frame.split_first_chunk_mut() {
            *head = msgi::header(frame_type, message.len());
            payload.copy_from_slice(message);
        }
        self.end += len;
        self.plain += 1;
    }

    /// Appends a message as a WebSocket frame without mask by copying it: the counterpart of
    /// [`push_msgi`](Self::push_msgi), with the same condition. The message is below 64 KiB.
    #[inline(always)]
    pub(crate) fn push_short_websocket(&mut self, text: bool, message: &[u8]) {
        let first = if text { head::TEXT } else { head::BINARY };
        let size = if message.len() <= head::CONTROL_MAX {
            let head = &mut self.bytes[self.end..self.end + 2];
            head.copy_from_slice(&[first, message.len() as u8]);
            2
        } else {
            let [high, low] = (message.len() as u16).to_be_bytes();
            let head = &mut self.bytes[self.end..self.end + 4];
            head.copy_from_slice(&[first, 126, high, low]);
            4
        };
        let start = self.end + size;
        self.bytes[start..start + message.len()].copy_from_slice(message);
        self.end = start + message.len();
        self.short += 1;
        self.short_heads += size;
    }

    /// Appends bytes that are no frame.
    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) {
        self.append(bytes);
    }

    /// Appends a frame that is encoded already, as a broadcast has it.
    pub(crate) fn push_encoded(&mut self, frame: &Encoded) {
        self.count(frame.frame_type, frame.message_len);
        if frame.bytes.len() < SHARE_THRESHOLD {
            self.append(&frame.bytes);
        } else {
            self.apart += frame.bytes.len();
            self.large.push_back((self.end, frame.bytes.clone()));
        }
    }

    #[inline]
    fn push_head(
        &mut self,
        framing: Framing,
        frame_type: FrameType,
        text: bool,
        id: u64,
        payload: usize,
    ) {
        match framing {
            Framing::Msgi => self.push_msgi_head(frame_type, id, payload),
            Framing::Length => self.append(&length::header(payload)),
            Framing::WebSocket => {
                let opcode = mapping::opcode(frame_type, text);
                self.push_websocket_head(opcode, false, payload, None);
            }
            Framing::WebSocketMsgi if is_own(frame_type, text) => {
                let opcode = mapping::opcode(frame_type, text);
                self.push_websocket_head(opcode, false, payload, None);
            }
            Framing::WebSocketMsgi => {
                let len = payload + msgi_overhead(frame_type);
                self.push_websocket_head(Opcode::Binary, false, len, None);
                self.push_msgi_head(frame_type, id, payload);
            }
            _ => {}
        }
    }

    #[inline]
    fn push_tail(&mut self, framing: Framing) {
        if framing == Framing::Lines {
            self.append(b"\n");
        }
    }

    #[inline]
    fn count(&mut self, frame_type: FrameType, len: usize) {
        self.counts.frames += 1;
        if frame_type.is_message() || frame_type.has_id() {
            self.counts.messages += 1;
            self.counts.message_bytes += len as u64;
        }
    }

    /// How far `push_msgi` may go on without growing the buffer or holding more than `limit` bytes.
    #[inline]
    pub(crate) fn plain_end(&self, limit: usize) -> usize {
        self.bytes
            .len()
            .min((self.start + limit).saturating_sub(self.apart))
    }

    /// Where the next frame begins.
    #[inline(always)]
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    /// Bytes that remain to be written.
    #[inline]
    pub(crate) fn remaining(&self) -> usize {
        self.end - self.start + self.apart
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// Bytes of memory that it takes.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity()
            + self.large.capacity() * size_of::<(usize, Bytes)>()
            + self.frames.capacity() * size_of::<Frame>()
            + self.apart
    }

    /// How many frames were pushed since the counts were last taken.
    #[inline]
    pub(crate) fn pending_frames(&self) -> u32 {
        self.counts.frames + self.plain + self.short
    }

    /// What was added since [`set_recorded`](Self::set_recorded): the run of bytes, and the large payloads with their
    /// positions in it.
    pub(crate) fn unrecorded(&self) -> (&[u8], impl Iterator<Item = (usize, &Bytes)>) {
        let recorded = self.recorded;
        let first = self
            .large
            .partition_point(|(position, _)| *position <= recorded);
        let large = self.large.range(first..);
        let large = large.map(move |(position, payload)| (position - recorded, payload));
        (&self.bytes[recorded..self.end], large)
    }

    /// How many frames were added since [`set_recorded`](Self::set_recorded), if all of them are messages that
    /// [`push_msgi`](Self::push_msgi) has copied.
    pub(crate) fn unrecorded_plain(&self) -> Option<u32> {
        let is_plain = self.large.is_empty() && self.aside == self.aside_recorded;
        is_plain.then(|| self.plain - self.plain_recorded)
    }

    /// Everything is recorded.
    pub(crate) fn set_recorded(&mut self) {
        self.recorded = self.end;
        self.plain_recorded = self.plain;
        self.aside_recorded = self.aside;
    }

    pub(crate) fn take_counts(&mut self) -> Counts {
        let mut counts = std::mem::take(&mut self.counts);
        // What leaves was recorded before, if it is recorded at all.
        self.recorded = self.end;
        (self.plain_recorded, self.aside_recorded) = (0, 0);
        let plain = std::mem::take(&mut self.plain);
        let bytes = self.end - self.counted - std::mem::take(&mut self.aside);
        self.counted = self.end;
        let short = std::mem::take(&mut self.short);
        let heads = plain as usize * msgi::HEADER + std::mem::take(&mut self.short_heads);
        counts.frames += plain + short;
        counts.messages += plain + short;
        counts.message_bytes += (bytes - heads) as u64;
        counts
    }

    /// The whole of what remains, when it is one run of bytes.
    #[inline]
    pub(crate) fn as_single(&self) -> Option<&[u8]> {
        self.large
            .is_empty()
            .then(|| &self.bytes[self.start..self.end])
    }

    /// Fills `slices` with what remains, in order, and returns how many were filled.
    pub(crate) fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let (mut count, mut at) = (0, self.start);
        let mut add = |slice: &'a [u8]| {
            if !slice.is_empty() && count < MAX_SLICES {
                slices[count] = IoSlice::new(slice);
                count += 1;
            }
            count < MAX_SLICES
        };
        for (position, payload) in &self.large {
            if !add(&self.bytes[at..*position]) || !add(payload) {
                return MAX_SLICES;
            }
            at = *position;
        }
        add(&self.bytes[at..self.end]);
        count
    }

    /// Takes note that the first `written` bytes have left.
    pub(crate) fn advance(&mut self, mut written: usize) {
        while let Some((position, payload)) = self.large.front_mut() {
            let before = *position - self.start;
            if written < before {
                break;
            }
            written -= before;
            self.start = *position;
            let from_large = written.min(payload.len());
            self.apart -= from_large;
            written -= from_large;
            if from_large < payload.len() {
                payload.advance(from_large);
                return;
            }
            self.large.pop_front();
        }
        self.start += written;
    }

    /// Takes the next frame, on a link that carries values.
    pub(crate) fn pop_frame(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        self.staged = self.staged.saturating_sub(1);
        self.apart -= frame.wire_len();
        Some(frame)
    }

    /// The frames, on a link that carries values.
    pub(crate) fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter()
    }

    /// The next frame, on a link that carries values.
    pub(crate) fn front_frame(&self) -> Option<&Frame> {
        self.frames.front()
    }

    /// Forgets everything and keeps the memory for the next use, unless it has grown beyond `most`.
    pub(crate) fn reset(&mut self, most: usize) {
        self.start = 0;
        self.end = 0;
        self.apart = 0;
        self.large.clear();
        self.frames.clear();
        self.counts = Counts::default();
        (self.plain, self.aside, self.counted) = (0, 0, 0);
        (self.plain_recorded, self.aside_recorded) = (0, 0);
        (self.recorded, self.staged) = (0, 0);
        (self.short, self.short_heads) = (0, 0);
        if self.bytes.len() > most {
            self.bytes = Vec::new();
        }
    }

    #[cfg(test)]
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = self.fill(&mut slices);
        slices[..count]
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect()
    }
}

/// Whether a frame on a WebSocket link with MSGI is WebSocket's own ping or pong.
#[inline]
fn is_own(frame_type: FrameType, text: bool) -> bool {
    text && matches!(frame_type, FrameType::PING | FrameType::PONG)
}

/// What MSGI puts around a payload.
#[inline]
fn msgi_overhead(frame_type: FrameType) -> usize {
    msgi::HEADER + if frame_type.has_id() { msgi::ID } else { 0 }
}

/// A frame encoded once, for many receivers with the same framing.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    pub(crate) bytes: Bytes,
    pub(crate) frame_type: FrameType,
    pub(crate) message_len: usize,
}

impl Encoded {
    pub(crate) fn new(
        framing: Framing,
        frame_type: FrameType,
        text: bool,
        payload: &Bytes,
    ) -> Self {
        let mut output = Output::default();
        output.push_slice(framing, frame_type, text, 0, payload);
        Encoded {
            bytes: output.into_bytes(),
            frame_type,
            message_len: payload.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_and_large_payloads_leave_in_the_order_in_which_they_were_pushed() {
        let mut output = Output::default();
        let large = Bytes::from(vec![b'L'; SHARE_THRESHOLD]);
        output.push(
            Framing::Length,
            FrameType::DATA,
            false,
            0,
            Bytes::from_static(b"ab"),
        );
        output.push(Framing::Length, FrameType::DATA, false, 0, large.clone());
        output.push(Framing::Length, FrameType::DATA, false, 0, large);
        output.push(
            Framing::Length,
            FrameType::DATA,
            false,
            0,
            Bytes::from_static(b"c"),
        );
        let whole = output.to_vec();
        assert_eq!(whole.len(), output.remaining());
        assert_eq!(&whole[..10], b"\0\0\0\x02ab\0\0\x10\0");
        assert_eq!(&whole[whole.len() - 5..], b"\0\0\0\x01c");
        // Whatever the pieces in which it is written, the same bytes leave.
        for step in [1, 3, 7, 4096, 5000] {
            let mut rest = Output::default();
            let large = Bytes::from(vec![b'L'; SHARE_THRESHOLD]);
            rest.push(
                Framing::Length,
                FrameType::DATA,
                false,
                0,
                Bytes::from_static(b"ab"),
            );
            rest.push(Framing::Length, FrameType::DATA, false, 0, large.clone());
            rest.push(Framing::Length, FrameType::DATA, false, 0, large);
            rest.push(
                Framing::Length,
                FrameType::DATA,
                false,
                0,
                Bytes::from_static(b"c"),
            );
            let mut written = Vec::new();
            while !rest.is_empty() {
                let next = rest.to_vec();
                let count = next.len().min(step);
                written.extend_from_slice(&next[..count]);
                rest.advance(count);
            }
            assert_eq!(written, whole);
        }
    }
}

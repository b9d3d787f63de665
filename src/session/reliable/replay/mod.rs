//! What was sent and is not acknowledged.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{is_application, wire_len};
use crate::codec::{FrameType, msgi};
use crate::message::{Message, MessageKind, SHARE_THRESHOLD};
use crate::session::output::{Frame, Output};

/// Bytes of small frames that are kept in one piece.
const RUN: usize = 16 * 1024;

/// Sent frames in order, until they are acknowledged.
///
/// What was collected as bytes is kept as bytes, copied a run at a time; large payloads are shared with what is on
/// its way. The other side's window bounds it.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    entries: VecDeque<Entry>,
    /// Frames that the other side has handled: they are gone from here.
    acknowledged: u64,
    sent: u64,
    /// The length of what is kept, as MSGI.
    bytes: usize,
    /// Memory for the next run.
    spare: Vec<u8>,
}

#[derive(Debug)]
enum Entry {
    Run(Run),
    Frame(Frame),
}

/// MSGI frames, one behind the other.
#[derive(Debug, Default)]
struct Run {
    bytes: Vec<u8>,
    /// Where the first frame that is left begins.
    start: usize,
    frames: u64,
}

/// A frame that is kept.
pub(crate) enum Kept<'a> {
    /// Its type, correlation id and payload.
    Copied(FrameType, u64, &'a [u8]),
    Whole(&'a Frame),
}

impl Replay {
    /// Frames that were sent on the session.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Frames that are kept.
    pub(crate) fn len(&self) -> u64 {
        self.sent - self.acknowledged
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sent == self.acknowledged
    }

    /// Their bytes, heads included.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of memory that it takes.
    pub(crate) fn memory(&self) -> usize {
        self.bytes + self.spare.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// Keeps the application frames that were added to `output` since the last call. It holds MSGI frames as bytes.
    pub(crate) fn keep_new(&mut self, output: &mut Output) {
        let (run, large) = output.unrecorded();
        if run.is_empty() {
            return;
        }
        if let Some(frames) = output.unrecorded_plain() {
            self.keep_run(run, frames.into());
            drop(large);
            return output.set_recorded();
        }
        let mut large = large.peekable();
        let (mut from, mut at, mut frames) = (0, 0, 0);
        while let Some((frame_type, len)) = head(&run[at..]) {
            let fixed = wire_len(frame_type, 0);
            let payload = len - fixed;
            // A large payload stands beside the run.
            let kept = match payload < SHARE_THRESHOLD {
                true => None,
                false => large.next_if(|(position, _)| *position == at + fixed),
            };
            let next = match kept {
                None => at + len,
                Some(_) => at + fixed,
            };
            if kept.is_some() || !is_application(frame_type) {
                self.keep_run(&run[from..at], frames);
                (from, frames) = (next, 0);
                if let Some((_, payload)) = kept
                    && is_application(frame_type)
                {
                    let id = id_of(frame_type, &run[at..]);
                    self.keep(Frame::new(frame_type, false, id, payload.clone()));
                }
            } else {
                frames += 1;
            }
            at = next;
        }
        self.keep_run(&run[from..at], frames);
        drop(large);
        output.set_recorded();
    }

    fn keep_run(&mut self, bytes: &[u8], frames: u64) {
        if frames == 0 {
            return;
        }
        self.sent += frames;
        self.bytes += bytes.len();
        let room = RUN.max(bytes.len());
        match self.entries.back_mut() {
            Some(Entry::Run(run)) if run.bytes.len() + bytes.len() <= room => {
                run.bytes.extend_from_slice(bytes);
                run.frames += frames;
            }
            _ => {
                let mut memory = std::mem::take(&mut self.spare);
                memory.clear();
                memory.extend_from_slice(bytes);
                self.entries.push_back(Entry::Run(Run {
                    bytes: memory,
                    start: 0,
                    frames,
                }));
            }
        }
    }

    /// Keeps an application frame.
    pub(crate) fn keep(&mut self, frame: Frame) {
        self.sent += 1;
        self.bytes += wire_len(frame.frame_type, frame.payload.len());
        self.entries.push_back(Entry::Frame(frame));
    }

    /// The other side has handled the first `count` frames of the session, which are not more than were sent.
    pub(crate) fn free(&mut self, count: u64) {
        debug_assert!(count <= self.sent);
        while self.acknowledged < count
            && let Some(entry) = self.entries.front_mut()
        {
            let left = count - self.acknowledged;
            match entry {
                Entry::Frame(frame) => {
                    self.bytes -= wire_len(frame.frame_type, frame.payload.len());
                    self.acknowledged += 1;
                }
                Entry::Run(run) if run.frames <= left => {
                    self.bytes -= run.bytes.len() - run.start;
                    self.acknowledged += run.frames;
                    if run.bytes.capacity() <= 2 * RUN {
                        self.spare = std::mem::take(&mut run.bytes);
                    }
                }
                Entry::Run(run) => {
                    let before = run.start;
                    run.skip(left);
                    self.bytes -= run.start - before;
                    self.acknowledged += left;
                    return;
                }
            }
            self.entries.pop_front();
        }
    }

    /// Gives memory back that is kept for the next frames.
    pub(crate) fn shrink(&mut self) {
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
            self.spare = Vec::new();
        }
    }

    /// Hands the kept frames from the `first`th of the session on to `visit`, until that says to stop. Returns the
    /// number of the frame after the last one.
    pub(crate) fn visit_from(&self, first: u64, mut visit: impl FnMut(Kept<'_>) -> bool) -> u64 {
        let mut number = self.acknowledged;
        for entry in &self.entries {
            match entry {
                Entry::Frame(frame) => {
                    if number >= first && !visit(Kept::Whole(frame)) {
                        return number + 1;
                    }
                    number += 1;
                }
                Entry::Run(run) if number + run.frames <= first => number += run.frames,
                Entry::Run(run) => {
                    let mut at = run.start;
                    while let Some((frame_type, len)) = head(&run.bytes[at..]) {
                        let frame = &run.bytes[at..at + len];
                        at += len;
                        number += 1;
                        if number > first {
                            let id = id_of(frame_type, frame);
                            let payload = &frame[wire_len(frame_type, 0)..];
                            if !visit(Kept::Copied(frame_type, id, payload)) {
                                return number;
                            }
                        }
                    }
                }
            }
        }
        number
    }

    /// The messages among the kept frames. Requests and answers are reported elsewhere.
    pub(crate) fn messages(&self) -> Vec<Message> {
        let mut messages = Vec::new();
        self.visit_from(self.acknowledged, |kept| {
            let frame = match kept {
                Kept::Whole(frame) => frame.clone(),
                Kept::Copied(frame_type, id, payload) => {
                    Frame::new(frame_type, false, id, Bytes::copy_from_slice(payload))
                }
            };
            messages.extend(message_of(frame));
            true
        });
        messages
    }
}

impl Run {
    fn skip(&mut self, count: u64) {
        for _ in 0..count {
            if let Some((_, len)) = head(&self.bytes[self.start..]) {
                self.start += len;
                self.frames -= 1;
            }
        }
    }
}

/// The message in a frame, if it has one.
pub(crate) fn message_of(frame: Frame) -> Option<Message> {
    if !frame.frame_type.is_message() {
        return None;
    }
    let kind = match frame.frame_type {
        FrameType::DATA if frame.text => MessageKind::Text,
        FrameType::DATA => MessageKind::Binary,
        FrameType(number) => MessageKind::Application(number),
    };
    Some(Message::from_parts(kind, frame.payload))
}

/// Type and whole length of the MSGI frame at the front.
#[inline]
fn head(bytes: &[u8]) -> Option<(FrameType, usize)> {
    let head: &[u8; msgi::HEADER] = bytes.first_chunk()?;
    let frame_type = FrameType(u16::from_be_bytes([head[8], head[9]]));
    Some((frame_type, msgi::HEADER + msgi::payload_len(head)))
}

fn id_of(frame_type: FrameType, frame: &[u8]) -> u64 {
    let id = frame.get(msgi::HEADER..).and_then(<[u8]>::first_chunk);
    match (frame_type.has_id(), id) {
        (true, Some(id)) => u64::from_be_bytes(*id),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;

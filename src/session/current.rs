//! The session whose handler the thread is running, and where its answers are collected.
//!
//! What a handler sends on its own session goes into one buffer without a lock and leaves in one write
//! when the handler has returned or waits. The buffer is owned by this thread-local only while the
//! handler is polled: it is moved in before and moved out after, whether the poll returned or panicked,
//! so bytes of one session can never reach another.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::output::Output;
use super::shared::Shared;
use crate::codec::{FrameType, Framing};
use crate::message::{MessageKind, Outgoing, SHARE_THRESHOLD};

struct Current {
    /// Address of the session's shared part: its identity while it lives.
    session: *const Shared,
    output: Output,
    /// Whether nothing queued has to leave before what the handler sends now.
    direct: bool,
    /// Whether a send waits for the collected answers to be written.
    flush_wanted: bool,
}

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

/// What a poll of a handler left behind.
pub(crate) struct Polled<T> {
    pub(crate) output: Output,
    pub(crate) flush_wanted: bool,
    /// `Err` when the handler panicked.
    pub(crate) result: Result<T, ()>,
}

/// Polls a handler of `session`. Sends on that session are collected in `output`.
#[inline]
pub(crate) fn enter<T>(
    session: *const Shared,
    output: Output,
    direct: bool,
    poll: impl FnOnce() -> T,
) -> Polled<T> {
    let entered = Current { session, output, direct, flush_wanted: false };
    // A handler that blocks on another session's handler nests; what was there comes back after.
    let outer = CURRENT.replace(Some(entered));
    let result = catch_unwind(AssertUnwindSafe(poll)).map_err(drop);
    match CURRENT.replace(outer) {
        Some(current) => {
            Polled { output: current.output, flush_wanted: current.flush_wanted, result }
        }
        // Nothing takes the value out while it is entered.
        None => Polled { output: Output::default(), flush_wanted: false, result },
    }
}

/// The outcome of trying to send from inside the session's own handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direct {
    /// The frame was collected.
    Taken,
    /// The thread runs no handler of this session, queued frames have to leave first, or the session is
    /// closing and takes no more.
    Elsewhere,
    /// What is collected is at the limit and has to be written first.
    Full,
}

/// Collects a frame if the thread runs the handler of `session`.
#[inline]
pub(crate) fn send<M: Outgoing>(
    session: &Shared,
    frame_type: FrameType,
    id: u64,
    message: &mut Option<M>,
) -> Direct {
    CURRENT.with(|current| {
        let Ok(mut current) = current.try_borrow_mut() else { return Direct::Elsewhere };
        let Some(current) = current.as_mut() else { return Direct::Elsewhere };
        if !std::ptr::eq(current.session, session)
            || !current.direct
            || session.has_queued()
            || session.is_outbox_closed()
        {
            return Direct::Elsewhere;
        }
        let Some(lent) = message.as_ref() else { return Direct::Elsewhere };
        let bytes = lent.bytes();
        let output = &mut current.output;
        if !output.is_empty()
            && (output.remaining() + bytes.len() > session.limits().outbox_bytes
                || output.pending_frames() as usize >= session.limits().outbox_messages)
        {
            return Direct::Full;
        }
        let framing = session.framing();
        if bytes.len() < SHARE_THRESHOLD && framing != Framing::Frames {
            output.push_slice(framing, frame_type, id, bytes);
        } else if let Some(message) = message.take() {
            let message = message.into_message();
            let text = message.kind() == MessageKind::Text;
            output.push(framing, frame_type, text, id, message.into_payload());
        }
        Direct::Taken
    })
}

/// Asks for what is collected to be written as soon as the handler waits.
pub(crate) fn want_flush(session: &Shared) {
    CURRENT.with_borrow_mut(|current| {
        if let Some(current) = current
            && std::ptr::eq(current.session, session)
        {
            current.flush_wanted = true;
        }
    });
}

/// Whether the thread is running a handler of `session`.
pub(crate) fn is_inside(session: &Shared) -> bool {
    CURRENT.with_borrow(|current| {
        current.as_ref().is_some_and(|current| std::ptr::eq(current.session, session))
    })
}

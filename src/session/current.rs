//! The session whose handler the thread is running, and where its answers are collected.
//!
//! What a handler sends on its own session goes into one buffer without a lock and leaves in one write
//! when the handler has returned or waits. The buffer is owned by this thread-local only while the
//! handler is polled: it is moved in before and moved out after, whether the poll returned or panicked,
//! so bytes of one session can never reach another.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::output::Output;
use super::reliable::{Room, wire_len};
use super::shared::Shared;
use crate::codec::{FrameType, Framing, msgi};
use crate::hub::Hub;
use crate::message::{MessageKind, Outgoing, SHARE_THRESHOLD};

/// Room that is made when collected answers outgrow their buffer.
const ROOM: usize = 4 * 1024;

struct Current {
    /// Address of the session's shared part: its identity while it lives.
    session: *const Shared,
    /// Address of what the sessions of its server or client share.
    hub: *const Hub,
    output: Box<Output>,
    /// Whether nothing queued has to leave before what the handler sends now.
    direct: bool,
    /// Whether a send waits for the collected answers to be written.
    flush_wanted: bool,
    /// Below which length [`send_plain`] takes messages: 0, so that not even empty ones are taken, unless
    /// the framing is MSGI.
    plain_below: usize,
    /// Whether the framing is that of a WebSocket server instead.
    websocket: bool,
    /// Where the collected bytes have to end for [`send_plain`].
    plain_end: usize,
    /// Collected bytes and frames at which a send has to wait.
    byte_limit: usize,
    frame_limit: u32,
    /// Whether that also goes for the first message: the other side's window is in use.
    is_strict: bool,
}

thread_local! {
    /// Without a destructor, access needs no check whether the thread is ending. Nothing is ever left
    /// in it: [`enter`] takes out what it has put in.
    static CURRENT: RefCell<Option<ManuallyDrop<Current>>> = const { RefCell::new(None) };
}

thread_local! {
    /// The session, and its hub, whose handler the thread runs for an executor.
    static ELSEWHERE: Cell<Option<(*const Shared, *const Hub)>> = const { Cell::new(None) };
}

/// Runs a part of a handler of `session` on an executor: [`is_inside`] and [`is_inside_hub`] know of it.
/// What it sends is not collected.
pub(crate) fn run_elsewhere<T>(session: &Arc<Shared>, run: impl FnOnce() -> T) -> T {
    /// A thread may run one task inside another. What was there comes back, whatever happens.
    struct Outer(Option<(*const Shared, *const Hub)>);
    impl Drop for Outer {
        fn drop(&mut self) {
            ELSEWHERE.set(self.0);
        }
    }
    let inner = (Arc::as_ptr(session), Arc::as_ptr(session.hub()));
    let _outer = Outer(ELSEWHERE.replace(Some(inner)));
    run()
}

/// What a poll of a handler left behind.
pub(crate) struct Polled<T> {
    pub(crate) output: Box<Output>,
    pub(crate) flush_wanted: bool,
    /// `Err` when the handler panicked.
    pub(crate) result: Result<T, ()>,
}

/// Polls a handler of `session`. Sends on that session are collected in `output`.
#[inline]
pub(crate) fn enter<T>(
    session: &Arc<Shared>,
    output: Box<Output>,
    direct: bool,
    room: Room,
    poll: impl FnOnce() -> T,
) -> Polled<T> {
    let (limits, framing) = (session.limits(), session.collecting());
    let byte_limit = room
        .left
        .saturating_add(output.remaining())
        .min(limits.outbox_bytes);
    let entered = Current {
        session: Arc::as_ptr(session),
        hub: Arc::as_ptr(session.hub()),
        direct,
        flush_wanted: false,
        plain_below: match framing {
            Framing::Msgi | Framing::WebSocket if direct => {
                session.message_limit().min(SHARE_THRESHOLD - 1) + 1
            }
            _ => 0,
        },
        websocket: framing == Framing::WebSocket,
        plain_end: output.plain_end(byte_limit),
        byte_limit,
        is_strict: !room.is_empty,
        frame_limit: u32::try_from(limits.outbox_messages).unwrap_or(u32::MAX),
        output,
    };
    // A handler that blocks on another session's handler nests; what was there comes back after.
    let outer = CURRENT.replace(Some(ManuallyDrop::new(entered)));
    let result = catch_unwind(AssertUnwindSafe(poll)).map_err(drop);
    match CURRENT.replace(outer) {
        Some(current) => {
            let current = ManuallyDrop::into_inner(current);
            Polled {
                output: current.output,
                flush_wanted: current.flush_wanted,
                result,
            }
        }
        // Nothing takes the value out while it is entered.
        None => Polled {
            output: Box::default(),
            flush_wanted: false,
            result,
        },
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

/// Collects a small message if the thread runs the handler of `session`, its link speaks MSGI or is a
/// WebSocket server's, and nothing stands in the way; otherwise does nothing and returns false. Nearly all answers go this way.
#[inline]
pub(crate) fn send_plain(session: &Shared, kind: MessageKind, message: &[u8]) -> bool {
    CURRENT.with(|current| {
        let Ok(mut current) = current.try_borrow_mut() else {
            return false;
        };
        let Some(current) = current.as_deref_mut() else {
            return false;
        };
        let fits = message.len() < current.plain_below
            && current.output.end() + msgi::HEADER + message.len() <= current.plain_end
            && current.output.pending_frames() < current.frame_limit;
        if !fits || !std::ptr::eq(current.session, session) || session.must_queue() {
            return false;
        }
        let frame_type = match kind {
            MessageKind::Application(_) if current.websocket => return false,
            MessageKind::Application(number) => FrameType(number),
            _ => FrameType::DATA,
        };
        match current.websocket {
            false => current.output.push_msgi(frame_type, message),
            true => {
                let text = kind == MessageKind::Text;
                current.output.push_short_websocket(text, message);
            }
        }
        true
    })
}

/// Collects a frame if the thread runs the handler of `session`.
pub(crate) fn send<M: Outgoing>(
    session: &Shared,
    frame_type: FrameType,
    id: u64,
    message: &mut Option<M>,
) -> Direct {
    CURRENT.with(|current| {
        let Ok(mut current) = current.try_borrow_mut() else {
            return Direct::Elsewhere;
        };
        let Some(current) = current.as_deref_mut() else {
            return Direct::Elsewhere;
        };
        if !std::ptr::eq(current.session, session) || !current.direct || session.must_queue() {
            return Direct::Elsewhere;
        }
        let Some(lent) = message.as_ref() else {
            return Direct::Elsewhere;
        };
        let bytes = lent.bytes();
        let output = &mut current.output;
        let over = output.remaining() + wire_len(frame_type, bytes.len()) > current.byte_limit;
        if over && current.is_strict {
            // It waits for acknowledgements in the outbox.
            return Direct::Elsewhere;
        }
        if !output.is_empty() && (over || output.pending_frames() >= current.frame_limit) {
            return Direct::Full;
        }
        let framing = session.collecting();
        if bytes.len() < SHARE_THRESHOLD && !framing.is_values() {
            // Room for a few more, so that the next ones take the short way.
            output.reserve(bytes.len() + ROOM);
            let text = lent.kind() == MessageKind::Text;
            output.push_slice(framing, frame_type, text, id, bytes);
        } else if let Some(message) = message.take() {
            let message = message.into_message();
            let text = message.kind() == MessageKind::Text;
            output.push(framing, frame_type, text, id, message.into_payload());
        }
        current.plain_end = current.output.plain_end(current.byte_limit);
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
    let here = CURRENT.with_borrow(|current| {
        current
            .as_ref()
            .is_some_and(|current| std::ptr::eq(current.session, session))
    });
    here || ELSEWHERE
        .get()
        .is_some_and(|(elsewhere, _)| std::ptr::eq(elsewhere, session))
}

/// Whether the thread is running a handler of any session of this server or client, ended ones included.
pub(crate) fn is_inside_hub(hub: &Hub) -> bool {
    let here = CURRENT.with_borrow(|current| {
        current
            .as_ref()
            .is_some_and(|current| std::ptr::eq(current.hub, hub))
    });
    here || ELSEWHERE
        .get()
        .is_some_and(|(_, elsewhere)| std::ptr::eq(elsewhere, hub))
}

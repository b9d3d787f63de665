//! What a reliable session and the connections that ask for it share.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use aws_lc_rs::constant_time;

use crate::error::CloseReason;
use crate::message::Message;
use crate::session::shared::lock;

/// Random bits that prove that a client had the session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResumeToken([u8; 16]);

impl ResumeToken {
    /// `None` without a source of random numbers.
    pub(crate) fn random() -> Option<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).ok()?;
        Some(ResumeToken(bytes))
    }

    /// As it stands in welcome and hello: hexadecimal.
    pub(crate) fn to_text(self) -> String {
        use fmt::Write;
        let mut text = String::with_capacity(32);
        for byte in self.0 {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// Whether `text` is this token. It takes the same time wherever they differ.
    fn is(self, text: &str) -> bool {
        constant_time::verify_slices_are_equal(self.to_text().as_bytes(), text.as_bytes()).is_ok()
    }
}

impl fmt::Debug for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// The tokens of a session on its server.
#[derive(Debug)]
struct Keys {
    current: ResumeToken,
    /// The one before, as long as it is not known that the client has the current one.
    previous: Option<ResumeToken>,
}

/// What a client needs to ask for its session.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// The id that the server gave the session.
    pub(crate) session_id: String,
    pub(crate) resume_token: String,
    /// Frames that have arrived.
    pub(crate) received: u64,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("session_id", &self.session_id)
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

/// The shared part of a reliable session.
#[derive(Debug, Default)]
pub(crate) struct Resumption {
    /// `None` on a client.
    keys: Mutex<Option<Keys>>,
    /// On a client whose session is suspended.
    ticket: Mutex<Option<Ticket>>,
    /// Why the session is not to be waited for any more.
    expired: Mutex<Option<CloseReason>>,
    messages: AtomicU64,
    bytes: AtomicU64,
    resumes: AtomicU32,
    /// After the end: what was not acknowledged, and what was never sent.
    rest: Mutex<Rest>,
    /// Whether a client's next session takes what this one has never sent.
    has_next: AtomicBool,
    /// Frames of the batch in work that the handler has not asked for.
    pub(crate) left_in_batch: AtomicU64,
}

/// The messages that a session had accepted and whose fate is not known, or known to be not sent.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    /// Sent, and not acknowledged: they may or may not have been handled.
    pub(crate) sent: Vec<Message>,
    /// Never sent.
    pub(crate) unsent: Vec<Message>,
    /// Whether those are for a client's next session.
    pub(crate) is_carried: bool,
}

impl Resumption {
    /// The handler has so many frames of its batch left.
    #[inline(always)]
    pub(crate) fn note_left(&self, frames: u64) {
        self.left_in_batch.store(frames, Ordering::Relaxed);
    }

    /// Of a session on its server.
    pub(crate) fn with_token(token: ResumeToken) -> Self {
        Resumption {
            keys: Mutex::new(Some(Keys {
                current: token,
                previous: None,
            })),
            ..Resumption::default()
        }
    }

    /// Whether the token is the session's.
    pub(crate) fn accepts(&self, token: &str) -> bool {
        let keys = lock(&self.keys);
        let Some(keys) = &*keys else { return false };
        // Both are compared, whichever fits.
        let is_current = keys.current.is(token);
        let is_previous = keys.previous.is_some_and(|previous| previous.is(token));
        is_current | is_previous
    }

    /// The session is resumed with `token`, which `next` replaces as soon as the client is known to have that.
    pub(crate) fn rotate(&self, token: &str, next: ResumeToken) {
        if let Some(keys) = &mut *lock(&self.keys) {
            if keys.current.is(token) {
                keys.previous = Some(keys.current);
            }
            keys.current = next;
        }
    }

    /// The client has answered on the newest link: it has the current token.
    pub(crate) fn forget_previous(&self) {
        if let Some(keys) = &mut *lock(&self.keys) {
            keys.previous = None;
        }
    }

    pub(crate) fn set_ticket(&self, ticket: Option<Ticket>) {
        *lock(&self.ticket) = ticket;
    }

    pub(crate) fn ticket(&self) -> Option<Ticket> {
        lock(&self.ticket).clone()
    }

    /// The first reason counts.
    pub(crate) fn set_expired(&self, reason: CloseReason) {
        lock(&self.expired).get_or_insert(reason);
    }

    pub(crate) fn expired(&self) -> Option<CloseReason> {
        lock(&self.expired).clone()
    }

    #[inline]
    pub(crate) fn publish(&self, messages: u64, bytes: usize) {
        self.messages.store(messages, Ordering::Relaxed);
        self.bytes.store(bytes as u64, Ordering::Relaxed);
    }

    /// Frames that are sent and not acknowledged, and their bytes.
    pub(crate) fn unacknowledged(&self) -> (u64, u64) {
        (
            self.messages.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        )
    }

    /// The session has another link: why its last wait was to end no longer counts.
    pub(crate) fn note_resumed(&self) {
        *lock(&self.expired) = None;
        self.resumes.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn resumes(&self) -> u32 {
        self.resumes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_rest(&self, rest: Rest) {
        *lock(&self.rest) = rest;
    }

    /// All of it that no other session takes, in the order in which it was sent.
    pub(crate) fn take_rest(&self) -> Vec<Message> {
        let mut rest = lock(&self.rest);
        let mut messages = std::mem::take(&mut rest.sent);
        if !rest.is_carried {
            messages.append(&mut rest.unsent);
        }
        messages
    }

    /// What is never sent here is for the client's next session.
    pub(crate) fn set_next(&self) {
        self.has_next.store(true, Ordering::Release);
    }

    pub(crate) fn has_next(&self) -> bool {
        self.has_next.load(Ordering::Acquire)
    }

    /// There is no next session after all.
    pub(crate) fn forget_next(&self) {
        self.has_next.store(false, Ordering::Release);
        lock(&self.rest).is_carried = false;
    }

    /// What was never sent and so can be sent on another session.
    pub(crate) fn take_unsent(&self) -> Vec<Message> {
        std::mem::take(&mut lock(&self.rest).unsent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_until_the_client_is_known_to_have_the_next() {
        let first = ResumeToken::random().expect("random numbers");
        let keys = Resumption::with_token(first);
        assert!(keys.accepts(&first.to_text()));
        assert!(!keys.accepts("") && !keys.accepts(&first.to_text()[..31]));
        let second = ResumeToken::random().expect("random numbers");
        keys.rotate(&first.to_text(), second);
        assert!(keys.accepts(&first.to_text()), "welcome may have been lost");
        assert!(keys.accepts(&second.to_text()));
        keys.forget_previous();
        assert!(!keys.accepts(&first.to_text()), "it was used");
        // Resumed again and again with the previous one, as when no welcome arrives.
        let mut last = second;
        for _ in 0..3 {
            last = ResumeToken::random().expect("random numbers");
            keys.rotate(&second.to_text(), last);
            assert!(keys.accepts(&second.to_text()) && keys.accepts(&last.to_text()));
        }
        keys.forget_previous();
        assert!(!keys.accepts(&second.to_text()) && keys.accepts(&last.to_text()));
    }

    #[test]
    fn no_token_is_shown() {
        let token = ResumeToken::random().expect("random numbers");
        let shown = format!("{:?}", Resumption::with_token(token));
        assert!(!shown.contains(&token.to_text()));
        let ticket = Ticket {
            session_id: "7".into(),
            resume_token: token.to_text(),
            received: 0,
        };
        assert!(!format!("{ticket:?}").contains(&token.to_text()));
    }
}

//! What went wrong, told to whom it concerns: counters, events, people who look and the application.

use std::fmt;
use std::sync::atomic::Ordering;

use super::{Driver, shielded};
use crate::error::ErrorCode;
use crate::events::{self, shown};
use crate::metrics::{EventLevel, Note};

impl Driver {
    pub(super) fn report_error(&self, code: ErrorCode, text: &str) {
        self.count_error(code);
        events::session_error {
            session: self.shared.id().as_u64(),
            code: code.as_i32(),
            reason: shown(text),
        }
        .emit();
        let shown = format_args!("{text}");
        self.note(EventLevel::Warning, "session_error", Some(code), shown);
        self.call_error_handler(code, text);
    }

    /// A request of the peer has failed. The text is the application's, and may repeat what it was sent.
    pub(super) fn report_failed_request(&self, code: ErrorCode, text: &str) {
        self.count_error(code);
        events::request_failed {
            session: self.shared.id().as_u64(),
            code: code.as_i32(),
        }
        .emit();
        self.call_error_handler(code, text);
    }

    /// Tells people who look.
    pub(super) fn note(
        &self,
        level: EventLevel,
        kind: &'static str,
        code: Option<ErrorCode>,
        text: fmt::Arguments<'_>,
    ) {
        self.shared.hub().recorder.note(Note {
            level,
            kind,
            session: Some(self.shared.id()),
            code,
            text,
        });
    }

    pub(super) fn count_error(&self, code: ErrorCode) {
        self.shared.counters.errors.fetch_add(1, Ordering::Relaxed);
        let totals = &self.shared.hub().recorder.totals;
        match self.opened {
            None => totals.session_error(code),
            // Whoever waits counts the attempt as failed, with its code.
            Some(_) => {
                totals.errors.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn call_error_handler(&self, code: ErrorCode, text: &str) {
        let session = self.session();
        let service = self.service();
        // A panic in the application's error handler must not end the worker.
        let _ = shielded(|| service.error(&session, code, text));
    }
}

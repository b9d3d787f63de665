//! Requests of this side that wait for an answer.

use std::collections::{HashMap, VecDeque};

use tokio::sync::oneshot;

use crate::error::{CloseReason, RequestError};
use crate::message::Message;

type Answer = Result<Message, RequestError>;

/// Waiting requests by correlation id.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    last_id: u64,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    /// Set when the session is over and no answer can come any more.
    closed: Option<CloseReason>,
}

impl Requests {
    /// Registers a request and returns its id and where its answer arrives, unless `limit` requests wait.
    pub(crate) fn open(
        &mut self,
        limit: usize,
    ) -> Result<(u64, oneshot::Receiver<Answer>), RequestError> {
        if let Some(reason) = &self.closed {
            return Err(RequestError::closed(reason));
        }
        if self.waiting.len() >= limit {
            return Err(RequestError::with_code(
                crate::error::ErrorCode::QueueFull,
                format!("{limit} requests wait for an answer already"),
            ));
        }
        self.last_id += 1;
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(self.last_id, sender);
        Ok((self.last_id, receiver))
    }

    /// Completes a request; false when none waits with that id.
    pub(crate) fn complete(&mut self, id: u64, answer: Answer) -> bool {
        let Some(sender) = self.waiting.remove(&id) else {
            return false;
        };
        if self.waiting.is_empty() {
            self.waiting = HashMap::new();
        }
        // The caller may have stopped waiting a moment ago; then the answer is nobody's.
        sender.send(answer).is_ok()
    }

    /// Forgets a request whose caller has stopped waiting.
    pub(crate) fn forget(&mut self, id: u64) {
        self.waiting.remove(&id);
    }

    /// Fails all that wait, and all that come.
    pub(crate) fn close(&mut self, reason: &CloseReason) {
        self.closed = Some(reason.clone());
        for (_, sender) in std::mem::take(&mut self.waiting) {
            let _ = sender.send(Err(RequestError::closed(reason)));
        }
    }
}

/// Joins and leaves of a client that its server has not answered, in the order in which they were sent.
///
/// A server answers in that order, and an answer has no id. An entry whose caller has stopped waiting
/// therefore stays until its answer comes.
#[derive(Debug, Default)]
pub(crate) struct GroupChanges {
    waiting: VecDeque<GroupChange>,
    closed: Option<CloseReason>,
}

#[derive(Debug)]
struct GroupChange {
    /// Whether it is a join rather than a leave.
    join: bool,
    group: String,
    answer: oneshot::Sender<Result<(), RequestError>>,
}

impl GroupChanges {
    /// Registers a join or leave and returns where its answer arrives, unless `limit` of them wait.
    pub(crate) fn open(
        &mut self,
        join: bool,
        group: &str,
        limit: usize,
    ) -> Result<oneshot::Receiver<Result<(), RequestError>>, RequestError> {
        if let Some(reason) = &self.closed {
            return Err(RequestError::closed(reason));
        }
        if self.waiting.len() >= limit {
            let text = format!("{limit} joins and leaves wait for an answer already");
            return Err(RequestError::with_code(
                crate::error::ErrorCode::QueueFull,
                text,
            ));
        }
        let (answer, receiver) = oneshot::channel();
        self.waiting.push_back(GroupChange {
            join,
            group: group.to_owned(),
            answer,
        });
        Ok(receiver)
    }

    /// Completes the first that fits; a refusal (`join` is `None`) fits both kinds.
    pub(crate) fn complete(
        &mut self,
        join: Option<bool>,
        group: &str,
        answer: Result<(), RequestError>,
    ) {
        let fits = |change: &GroupChange| {
            join.is_none_or(|join| join == change.join) && change.group == group
        };
        if let Some(change) = self
            .waiting
            .iter()
            .position(fits)
            .and_then(|index| self.waiting.remove(index))
        {
            // The caller may have stopped waiting.
            let _ = change.answer.send(answer);
        }
    }

    /// What waits, in order: whether it is a join, and the group.
    pub(crate) fn unanswered(&self) -> Vec<(bool, String)> {
        let waiting = self.waiting.iter();
        waiting
            .map(|change| (change.join, change.group.clone()))
            .collect()
    }

    /// Fails all that wait, and all that come.
    pub(crate) fn close(&mut self, reason: &CloseReason) {
        self.closed = Some(reason.clone());
        for change in std::mem::take(&mut self.waiting) {
            let _ = change.answer.send(Err(RequestError::closed(reason)));
        }
    }
}

//! How other threads reach a worker: its ready queue and its commands.

use std::io;
use std::sync::Mutex;
use std::task::Waker;

use super::{Command, Placed};
use crate::session::driver::Handover;
use crate::session::link::Link;
use crate::session::shared::lock;

/// The inbox of a worker.
pub(crate) struct WorkerQueue {
    index: usize,
    /// Whether the worker has a runtime of its own.
    dedicated: bool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Slots of sessions that have something to do, first in, first out.
    ready: Vec<u32>,
    commands: Vec<Command>,
    /// Whether the worker's task has to be woken: it has seen the queue empty.
    idle: bool,
    waker: Option<Waker>,
    /// Set when the worker has ended and takes no more.
    closed: bool,
}

impl WorkerQueue {
    pub(crate) fn new(index: usize, dedicated: bool) -> Self {
        WorkerQueue {
            index,
            dedicated,
            inner: Mutex::new(Inner::default()),
        }
    }

    /// Which of the workers it is.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Marks a session as ready. Each session is in the queue at most once, so the queue is bounded by
    /// their number.
    #[inline]
    pub(crate) fn push_ready(&self, slot: u32) {
        let mut inner = lock(&self.inner);
        inner.ready.push(slot);
        Self::wake(inner);
    }

    /// Makes a link of another worker ready to come here.
    pub(crate) fn place(&self, link: Box<dyn Link>, from: &WorkerQueue) -> io::Result<Placed> {
        Ok(match self.dedicated && !std::ptr::eq(self, from) {
            true => Placed::Moving(link.leave_runtime()?),
            false => Placed::Here(link),
        })
    }

    /// Hands a link over to one of the worker's sessions. A worker that has ended lets it go.
    pub(crate) fn push_handover(&self, handover: Box<Handover>) {
        let _ = self.push_command(Command::Resume(handover));
    }

    /// Hands a command over; gives it back when the worker has ended.
    pub(crate) fn push_command(&self, command: Command) -> Result<(), Command> {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Err(command);
        }
        inner.commands.push(command);
        Self::wake(inner);
        Ok(())
    }

    fn wake(mut inner: std::sync::MutexGuard<'_, Inner>) {
        if inner.idle {
            inner.idle = false;
            let waker = inner.waker.clone();
            drop(inner);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Takes what is there into the two lists, which must be empty. When there is nothing, remembers
    /// `waker` and returns false.
    pub(crate) fn take(
        &self,
        ready: &mut Vec<u32>,
        commands: &mut Vec<Command>,
        waker: &Waker,
    ) -> bool {
        let mut inner = lock(&self.inner);
        if inner.ready.is_empty() && inner.commands.is_empty() {
            inner.idle = true;
            if !inner
                .waker
                .as_ref()
                .is_some_and(|known| known.will_wake(waker))
            {
                inner.waker = Some(waker.clone());
            }
            return false;
        }
        std::mem::swap(&mut inner.ready, ready);
        std::mem::swap(&mut inner.commands, commands);
        true
    }

    /// Takes no more commands and returns what is left.
    pub(crate) fn close(&self) -> Vec<Command> {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        std::mem::take(&mut inner.commands)
    }

    pub(crate) fn is_empty(&self) -> bool {
        let inner = lock(&self.inner);
        inner.ready.is_empty() && inner.commands.is_empty()
    }
}

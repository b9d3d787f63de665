//! What stands between the native handler of a run and the callbacks.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::compat::bridge::Member;
use crate::compat::callback::{Inside, Lane, Pending, Threads, Unique};
use crate::compat::handlers::Handlers;
use crate::compat::session::messaging_session;
use crate::error::{CloseReason, ErrorCode};
use crate::handler::Handler;
use crate::message::Message;
use crate::session::shared::lock;
use crate::session::{Session, SessionId, Transport};

/// Calls the callbacks of one run. Its methods run on the threads for callbacks.
pub(super) struct Adapter {
    owner: Unique,
    run: Unique,
    threads: Threads,
    handlers: Arc<Handlers<Arc<messaging_session>>>,
    member: Option<Arc<Member>>,
    sessions: Mutex<Sessions>,
    pending: Pending,
}

/// The classic sessions, until after their disconnect handlers.
#[derive(Default)]
struct Sessions {
    by_id: HashMap<SessionId, Arc<messaging_session>>,
    /// Where datagrams are sent by the address of the peer.
    by_address: HashMap<SocketAddr, SessionId>,
}

impl Sessions {
    fn add(&mut self, classic: &Arc<messaging_session>) {
        let session = classic.native();
        self.by_id.insert(session.id(), Arc::clone(classic));
        if session.transport() == Transport::Udp
            && let Some(address) = session.remote_addr()
        {
            self.by_address.insert(address, session.id());
        }
    }

    fn remove(&mut self, session: &Session) -> Option<Arc<messaging_session>> {
        // The peer may have a newer session by now.
        if let Some(address) = session.remote_addr()
            && self.by_address.get(&address) == Some(&session.id())
        {
            self.by_address.remove(&address);
        }
        self.by_id.remove(&session.id())
    }
}

impl Adapter {
    pub(super) fn new(
        owner: Unique,
        threads: Threads,
        handlers: Arc<Handlers<Arc<messaging_session>>>,
        member: Option<Arc<Member>>,
    ) -> Self {
        Adapter {
            owner,
            run: Unique::new(),
            threads,
            handlers,
            member,
            sessions: Mutex::default(),
            pending: Pending::new(),
        }
    }

    pub(super) fn run(&self) -> Unique {
        self.run
    }

    pub(super) fn pending(&self) -> &Pending {
        &self.pending
    }

    fn inside(&self, session: &Session) -> Inside {
        Inside {
            owner: self.owner,
            run: self.run,
            session: Some(session.id()),
            inline: self.threads.is_inline(),
        }
    }

    fn make(&self, session: &Session) -> Arc<messaging_session> {
        let lane = Lane::new(
            self.threads.clone(),
            self.inside(session),
            self.pending.clone(),
        );
        messaging_session::new(session.clone(), lane, self.member.clone())
    }

    /// The classic session. It is kept if `keep` says so or the session is connected: only then the
    /// disconnect handler, which removes it, is certain to come.
    fn find_or_make(&self, session: &Session, keep: bool) -> Arc<messaging_session> {
        let mut sessions = lock(&self.sessions);
        if let Some(classic) = sessions.by_id.get(&session.id()) {
            return Arc::clone(classic);
        }
        let classic = self.make(session);
        if keep || session.is_connected() {
            sessions.add(&classic);
        }
        classic
    }

    pub(super) fn find(&self, session: &Session) -> Arc<messaging_session> {
        self.find_or_make(session, false)
    }

    /// The session whose datagrams come from an address.
    pub(super) fn find_by_address(&self, address: SocketAddr) -> Option<Arc<messaging_session>> {
        let sessions = lock(&self.sessions);
        let id = sessions.by_address.get(&address)?;
        sessions.by_id.get(id).cloned()
    }

    fn connect(&self, session: &Session) {
        let classic = self.find_or_make(session, true);
        let call = || {
            if let Some(member) = &self.member {
                member.connection(session, true);
            }
            self.handlers.on_connect(&classic);
        };
        self.inside(session).call(call);
    }

    fn message(&self, session: &Session, message: &Message) {
        let classic = self.find(session);
        self.inside(session).call(|| {
            if let Some(member) = &self.member {
                member.message(message);
            }
            match classic.message_handler() {
                Some(handler) => handler(message.payload()),
                None => self.handlers.on_message(&classic, message),
            }
        });
    }

    fn disconnect(&self, session: &Session, reason: &CloseReason) {
        /// Removes the session even when the handler panics.
        struct Ended<'a>(&'a Adapter, &'a Session);
        impl Drop for Ended<'_> {
            fn drop(&mut self) {
                let _ended = lock(&self.0.sessions).remove(self.1);
            }
        }
        let classic = self.find(session);
        let _ended = Ended(self, session);
        let call = || {
            if let Some(member) = &self.member {
                member.connection(session, false);
            }
            self.handlers.on_disconnect(&classic, reason);
        };
        self.inside(session).call(call);
    }
}

/// The native handler. Its futures are never pending.
pub(super) struct Hand(pub(super) Arc<Adapter>);

impl Handler for Hand {
    async fn on_connect(&self, session: &Session) {
        self.0.connect(session);
    }

    async fn on_message(&self, session: &Session, message: &Message) {
        self.0.message(session, message);
    }

    async fn on_disconnect(&self, session: &Session, reason: &CloseReason) {
        self.0.disconnect(session, reason);
    }

    /// Called where bytes are moved.
    fn on_error(&self, session: &Session, code: ErrorCode, text: &str) {
        let classic = self.0.find(session);
        let lane = Arc::clone(classic.lane());
        let member = self.0.member.as_ref();
        if let Some(callback) = member.and_then(|member| member.about_error(code, text)) {
            lane.push(session, callback);
        }
        let callback = match classic.error_handler() {
            Some(handler) => {
                let text = text.to_owned();
                Some(Box::new(move || handler(&text, code.as_i32())) as Box<_>)
            }
            None => self.0.handlers.about_error(classic, code, text),
        };
        if let Some(callback) = callback {
            lane.push(session, callback);
        }
    }
}

//! What a classic server does with its sessions.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{classic_server, server_statistics};
use crate::compat::callback::Inside;
use crate::compat::config::ServerConfig;
use crate::compat::result::{Result, VoidResult, error};
use crate::compat::runtime;
use crate::compat::session::{messaging_session, not_found};
use crate::error::{CloseReason, ErrorCode};
use crate::group::GroupName;
use crate::message::Message;
use crate::server::Server;
use crate::session::SessionId;
use crate::session::shared::lock;

/// What a client's disconnect handler gets when the server's application ends its session.
const BY_SERVER: &str = "disconnected by the server";

impl<C: ServerConfig> classic_server<C> {
    // Sending

    /// Sends a message to every session. Blocks while the outbox of one is full, after the others have
    /// the message.
    ///
    /// # Errors
    /// `server_not_started`, `message_too_large`. That some sessions were closing is no error.
    pub fn broadcast_message(&self, message: impl AsRef<[u8]>) -> VoidResult {
        self.broadcast(Message::binary(message.as_ref().to_vec()))
    }

    pub(in crate::compat) fn broadcast(&self, message: Message) -> VoidResult {
        self.send_to_many(None, message)
    }

    /// Sends a message to the sessions in a group, as [`broadcast_message`](Self::broadcast_message). A
    /// group that nobody is in is no error.
    ///
    /// # Errors
    /// As [`broadcast_message`](Self::broadcast_message), and `request_failed` when the name is empty or
    /// longer than 128 bytes.
    pub fn broadcast_to_group(&self, group_id: &str, message: impl AsRef<[u8]>) -> VoidResult {
        let _running = self.server()?;
        let message = Message::binary(message.as_ref().to_vec());
        self.send_to_many(Some(GroupName::new(group_id)?), message)
    }

    fn send_to_many(&self, group: Option<GroupName>, message: Message) -> VoidResult {
        let server = self.server()?;
        if Inside::is_inline() {
            return self.sent(send_to_each(&server, group.as_ref(), &message), false);
        }
        let timeout = self.member.as_ref().map(|member| member.message_timeout());
        let sending = async move {
            match group {
                None => server.broadcast(message).await,
                Some(group) => server.broadcast_to(&group, message, &[]).await,
            }
        };
        self.sent(runtime::wait_for_room(timeout, sending).map(drop), true)
    }

    fn sent(&self, result: VoidResult, waited: bool) -> VoidResult {
        match &self.member {
            Some(member) => member.sent(result, waited),
            None => result,
        }
    }

    fn server(&self) -> Result<Server> {
        match self.run() {
            Some(run) => Ok(run.server.clone()),
            None => Err(error::new(
                ErrorCode::ServerNotStarted,
                "the server is not running",
            )),
        }
    }

    // Sessions

    /// How many sessions are open.
    pub fn connection_count(&self) -> usize {
        self.run().map_or(0, |run| run.server.session_count())
    }

    /// The open session with this id.
    pub fn get_session(&self, session_id: &str) -> Option<Arc<messaging_session>> {
        self.session(session_id.parse().ok()?)
    }

    /// The open session whose datagrams come from an address.
    pub(in crate::compat) fn session_at(
        &self,
        address: SocketAddr,
    ) -> Option<Arc<messaging_session>> {
        self.run()?.adapter.find_by_address(address)
    }

    pub(in crate::compat) fn session(&self, id: SessionId) -> Option<Arc<messaging_session>> {
        let run = self.run()?;
        let session = run.server.session(id)?;
        Some(run.adapter.find(&session))
    }

    /// All open sessions, in no particular order.
    pub fn get_all_sessions(&self) -> Vec<Arc<messaging_session>> {
        let Some(run) = self.run() else {
            return Vec::new();
        };
        let sessions = run.server.sessions();
        sessions
            .iter()
            .map(|session| run.adapter.find(session))
            .collect()
    }

    fn find(&self, session_id: &str) -> Result<Arc<messaging_session>> {
        self.get_session(session_id)
            .ok_or_else(|| not_found(session_id))
    }

    /// Ends a session in order. Returns at once.
    ///
    /// # Errors
    /// `session_not_found`.
    pub fn disconnect_session(&self, session_id: &str) -> VoidResult {
        self.find(session_id)?.disconnect(BY_SERVER);
        Ok(())
    }

    /// Ends all open sessions in order. Returns at once; the server goes on accepting.
    pub fn disconnect_all_sessions(&self) {
        if let Some(run) = self.run() {
            run.server.disconnect_all(CloseReason::new(BY_SERVER));
        }
    }

    // Groups

    /// Puts a session into a group, as [`messaging_session::join_group`].
    ///
    /// # Errors
    /// `session_not_found`, and as [`messaging_session::join_group`].
    pub fn add_session_to_group(&self, session_id: &str, group_id: &str) -> VoidResult {
        self.find(session_id)?.join_group(group_id)
    }

    /// Takes a session out of a group. A session that was not in it stays as it is.
    ///
    /// # Errors
    /// `session_not_found`.
    pub fn remove_session_from_group(&self, session_id: &str, group_id: &str) -> VoidResult {
        self.find(session_id)?.leave_group(group_id);
        Ok(())
    }

    /// The groups that a session is in; none when there is no such session.
    pub fn get_session_groups(&self, session_id: &str) -> Vec<String> {
        self.get_session(session_id)
            .map(|session| session.get_groups())
            .unwrap_or_default()
    }

    // Statistics

    /// Counters at this moment.
    pub fn get_statistics(&self) -> server_statistics {
        let carried = lock(&self.carried);
        match self.run() {
            Some(run) => carried.and(&run.server),
            None => *carried,
        }
    }

    /// Counts from zero again.
    pub fn reset_statistics(&self) {
        let mut carried = lock(&self.carried);
        *carried = server_statistics::default();
        if let Some(run) = self.run() {
            run.server.reset_stats();
        }
    }
}

/// Sends a message to one session after the other without waiting for any.
fn send_to_each(server: &Server, group: Option<&GroupName>, message: &Message) -> VoidResult {
    let sessions = match group {
        None => server.sessions(),
        Some(group) => {
            let members = server.members(group).into_iter();
            members.filter_map(|id| server.session(id)).collect()
        }
    };
    let mut result = Ok(());
    for session in sessions {
        match session.try_send(message.clone()) {
            // One that is closing does not matter.
            Err(error) if error.code() != ErrorCode::ConnectionClosed => result = Err(error.into()),
            _ => {}
        }
    }
    result
}

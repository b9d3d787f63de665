//! Groups: named sets of sessions.

mod name;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

pub use name::{GroupName, GroupNameError};

use crate::error::ErrorCode;
use crate::session::shared::lock;
use crate::session::{Session, SessionId};

/// A session could not join a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// The session is in as many groups as it may be.
    #[error("the session is in {limit} groups already, which is the limit")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The session has ended, or has not begun.
    #[error("the session is not connected")]
    NotConnected,
}

impl GroupError {
    /// The code of the error.
    pub fn code(self) -> ErrorCode {
        match self {
            GroupError::TooMany { .. } => ErrorCode::QueueFull,
            GroupError::NotConnected => ErrorCode::ConnectionClosed,
        }
    }
}

/// The members of one group on one worker: slot and id.
type Members = Arc<Vec<(u32, SessionId)>>;

#[derive(Default)]
struct Group {
    /// For each worker, its members. A broadcast takes the list without copying it; a change during a
    /// broadcast copies it.
    members: HashMap<usize, Members>,
    /// Messages that were sent to the group, and their bytes.
    messages: u64,
    bytes: u64,
}

/// A group at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStats {
    /// Its name.
    pub name: GroupName,
    /// Sessions in it.
    pub members: usize,
    /// Messages that were sent to it since it was made, however many took them.
    pub messages: u64,
    /// Bytes of these messages, each counted once.
    pub bytes: u64,
}

/// The groups of one server.
#[derive(Default)]
pub(crate) struct Groups {
    groups: Mutex<HashMap<GroupName, Group>>,
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Groups")
            .field("count", &lock(&self.groups).len())
            .finish()
    }
}

impl Groups {
    pub(crate) fn join(&self, session: &Session, name: &GroupName) -> Result<(), GroupError> {
        let shared = &session.shared;
        let limit = shared.limits().groups_per_session;
        let mut groups = lock(&self.groups);
        // Checked under the lock that `leave_all` takes, so that no session joins after it has ended.
        if !session.is_connected() {
            return Err(GroupError::NotConnected);
        }
        let mut own = lock(&shared.extra().groups);
        if own.contains(name) {
            return Ok(());
        }
        if own.len() >= limit {
            return Err(GroupError::TooMany { limit });
        }
        own.insert(name.clone());
        let group = groups.entry(name.clone()).or_default();
        let members = group.members.entry(shared.worker().index()).or_default();
        Arc::make_mut(members).push((shared.slot(), shared.id()));
        Ok(())
    }

    pub(crate) fn leave(&self, session: &Session, name: &GroupName) -> bool {
        let mut groups = lock(&self.groups);
        let Some(extra) = session.shared.extra_if_any() else {
            return false;
        };
        if !lock(&extra.groups).remove(name) {
            return false;
        }
        remove(&mut groups, session, name);
        true
    }

    /// A session that ends leaves its groups.
    pub(crate) fn leave_all(&self, session: &Session) {
        let Some(extra) = session.shared.extra_if_any() else {
            return;
        };
        let mut groups = lock(&self.groups);
        for name in std::mem::take(&mut *lock(&extra.groups)) {
            remove(&mut groups, session, &name);
        }
    }

    /// The members of a group, by worker, who are sent a message of so many bytes.
    pub(crate) fn receivers(&self, name: &GroupName, bytes: usize) -> Vec<(usize, Members)> {
        let mut groups = lock(&self.groups);
        let Some(group) = groups.get_mut(name) else {
            return Vec::new();
        };
        group.messages += 1;
        group.bytes += bytes as u64;
        group
            .members
            .iter()
            .map(|(&worker, members)| (worker, Arc::clone(members)))
            .collect()
    }

    pub(crate) fn members(&self, name: &GroupName) -> Vec<SessionId> {
        let groups = lock(&self.groups);
        let Some(group) = groups.get(name) else {
            return Vec::new();
        };
        group
            .members
            .values()
            .flat_map(|members| members.iter().map(|&(_, id)| id))
            .collect()
    }

    pub(crate) fn stats(&self) -> Vec<GroupStats> {
        let groups = lock(&self.groups);
        let stats = groups.iter().map(|(name, group)| GroupStats {
            name: name.clone(),
            members: group.members.values().map(|members| members.len()).sum(),
            messages: group.messages,
            bytes: group.bytes,
        });
        stats.collect()
    }

    pub(crate) fn names(&self) -> Vec<GroupName> {
        lock(&self.groups).keys().cloned().collect()
    }
}

fn remove(groups: &mut HashMap<GroupName, Group>, session: &Session, name: &GroupName) {
    let Some(group) = groups.get_mut(name) else {
        return;
    };
    let worker = session.shared.worker().index();
    if let Some(members) = group.members.get_mut(&worker) {
        let id = session.id();
        let list = Arc::make_mut(members);
        if let Some(at) = list.iter().position(|&(_, member)| member == id) {
            list.swap_remove(at);
        }
        if list.is_empty() {
            group.members.remove(&worker);
        }
    }
    if group.members.is_empty() {
        groups.remove(name);
    }
}

//! What the application keeps with a session, and the groups that it is in.

use std::any::{Any, TypeId};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Session;
use crate::codec::FrameType;
use crate::codec::control::Control;
use crate::error::{ErrorCode, RequestError};
use crate::group::{GroupError, GroupName};
use crate::session::output::Frame;
use crate::session::shared::lock;

impl Session {
    /// Sets a value in the session's key-value store and returns the one it replaces.
    pub fn set_data(&self, key: impl Into<String>, value: impl Into<String>) -> Option<String> {
        lock(&self.shared.extra().data).insert(key.into(), value.into())
    }

    /// A value of the session's key-value store.
    pub fn data(&self, key: &str) -> Option<String> {
        lock(&self.shared.extra_if_any()?.data).get(key).cloned()
    }

    /// The keys of the session's key-value store, in order.
    pub fn data_keys(&self) -> Vec<String> {
        let Some(extra) = self.shared.extra_if_any() else {
            return Vec::new();
        };
        let mut keys: Vec<String> = lock(&extra.data).keys().cloned().collect();
        keys.sort_unstable();
        keys
    }

    /// Removes a value and returns it.
    pub fn remove_data(&self, key: &str) -> Option<String> {
        lock(&self.shared.extra_if_any()?.data).remove(key)
    }

    /// Removes all values.
    pub fn clear_data(&self) {
        if let Some(extra) = self.shared.extra_if_any() {
            lock(&extra.data).clear();
        }
    }

    /// Attaches a value of the application's own type; there is one for each type.
    pub fn insert_extension<T: Any + Send + Sync>(&self, value: T) {
        let replaced =
            lock(&self.shared.extra().extensions).insert(TypeId::of::<T>(), Arc::new(value));
        // Its destructor may ask for extensions: not under the lock.
        drop(replaced);
    }

    /// The attached value of type `T`.
    pub fn extension<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let extensions = lock(&self.shared.extra_if_any()?.extensions);
        extensions.get(&TypeId::of::<T>())?.clone().downcast().ok()
    }

    /// Removes the attached value of type `T` and returns it.
    pub fn remove_extension<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let mut extensions = lock(&self.shared.extra_if_any()?.extensions);
        extensions.remove(&TypeId::of::<T>())?.downcast().ok()
    }

    // Groups

    /// Joins a group, which is made if nobody is in it. Joining twice is joining once.
    ///
    /// # Errors
    /// `queue_full` at the limit of groups, `connection_closed` when the session has ended.
    pub fn join(&self, group: &GroupName) -> Result<(), GroupError> {
        self.shared.hub().groups.join(self, group)
    }

    /// Leaves a group; false when the session was not in it.
    pub fn leave(&self, group: &GroupName) -> bool {
        self.shared.hub().groups.leave(self, group)
    }

    /// Asks the server to put this client into a group, or to take it out; says where the answer comes.
    pub(crate) fn change_group(
        &self,
        join: bool,
        group: &GroupName,
    ) -> Result<oneshot::Receiver<Result<(), RequestError>>, RequestError> {
        let shared = &self.shared;
        if !shared.framing().has_hello() {
            let text = "this codec carries messages only: clients cannot join groups";
            return Err(RequestError::with_code(ErrorCode::NotSupported, text));
        }
        if shared.is_outbox_closed() {
            let text = "the session is closing";
            return Err(RequestError::with_code(ErrorCode::ConnectionClosed, text));
        }
        let group = group.to_string();
        // Held until the frame is queued, so that both have the same order.
        let mut changes = lock(&shared.extra().group_changes);
        let answer = changes.open(join, &group, shared.limits().pending_requests)?;
        let control = if join {
            Control::Join { group }
        } else {
            Control::Leave { group }
        };
        let payload = control.to_bytes();
        let frame = Frame::new(FrameType::CONTROL, false, 0, payload);
        shared.push_protocol_frame(frame);
        Ok(answer)
    }

    /// The groups that the session is in, in order of their names.
    pub fn groups(&self) -> Vec<GroupName> {
        match self.shared.extra_if_any() {
            Some(extra) => lock(&extra.groups).iter().cloned().collect(),
            None => Vec::new(),
        }
    }

    /// Whether the session is in a group.
    pub fn is_in(&self, group: &GroupName) -> bool {
        self.shared
            .extra_if_any()
            .is_some_and(|extra| lock(&extra.groups).contains(group))
    }
}

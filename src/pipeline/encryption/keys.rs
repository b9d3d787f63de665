//! The keys that the links of a server or client share, by id.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::pipeline::{KeyError, Secret};

/// The secrets that both sides of encrypted links have, each with an id that says in every frame which one was
/// used, and which of them is used for sending.
///
/// Clones are handles to the same ring: what one of them changes holds for every link of every server and
/// client that was configured with another, from its next message on. To change a key while sessions are
/// running,
///
/// 1. [`add`](Self::add) the new one, on both sides;
/// 2. [`activate`](Self::activate) it, on both sides, in any order;
/// 3. [`remove`](Self::remove) the old one, when nothing that was sent with it can still be on its way.
///
/// [`replace`](Self::replace) is all of that at once, for keys that are read from a file again.
///
/// Links make keys of their own from a secret, see [`Encryption`](super::Encryption). Secrets are overwritten
/// when they are removed, or dropped with the last handle; a link's own keys when the link ends, or with its
/// next message after the removal.
///
/// No id and no secret can be used a second time in the life of a ring, because a link would then use a key
/// and a nonce twice.
///
/// ```
/// use network_system::pipeline::{Encryption, Keys, Pipeline, Secret};
///
/// let keys = Keys::new(1, Secret::random()?);
/// let pipeline = Pipeline::builder()
///     .require(Encryption::aes_256_gcm(&keys))
///     .build()?;
///
/// keys.add(2, Secret::random()?)?;
/// keys.activate(2)?;
/// keys.remove(1)?;
/// assert_eq!((keys.active(), keys.ids()), (2, vec![2]));
/// # Ok::<(), network_system::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Keys {
    shared: Arc<Shared>,
}

struct Shared {
    /// That of the ring, so that a link sees without a lock that nothing has changed.
    generation: AtomicU64,
    ring: RwLock<Ring>,
}

/// What the handles share.
pub(super) struct Ring {
    /// Counts changes that links have to follow.
    generation: u64,
    active: (u32, Secret),
    /// Every key, the active one included.
    keys: BTreeMap<u32, Secret>,
    used_ids: HashSet<u32>,
    /// Fingerprints of 64 bits, which help nobody to find a secret.
    used_secrets: HashSet<u64>,
    fingerprint: RandomState,
}

impl Keys {
    /// The most keys that a ring holds at a time.
    pub const MAX: usize = 64;

    /// The most keys that a ring takes in its life, because it remembers them: for one a minute two years.
    pub const LIFETIME_MAX: usize = 1_048_576;

    /// A ring of one key, which is used for sending.
    pub fn new(id: u32, secret: Secret) -> Self {
        let fingerprint = RandomState::new();
        let used_secret = fingerprint.hash_one(secret.as_bytes());
        let ring = Ring {
            generation: 0,
            active: (id, secret.clone()),
            keys: BTreeMap::from([(id, secret)]),
            used_ids: HashSet::from([id]),
            used_secrets: HashSet::from([used_secret]),
            fingerprint,
        };
        Keys {
            shared: Arc::new(Shared {
                generation: AtomicU64::new(0),
                ring: RwLock::new(ring),
            }),
        }
    }

    /// Adds a key, which is accepted from now on in what is received. Nothing happens when it is there already.
    ///
    /// # Errors
    /// The id or the secret was used before, the ring holds [`Keys::MAX`] keys, or it has taken
    /// [`Keys::LIFETIME_MAX`].
    pub fn add(&self, id: u32, secret: Secret) -> Result<(), KeyError> {
        let ring = &mut *self.write();
        if ring.keys.get(&id).is_some_and(|held| held.is_same(&secret)) {
            return Ok(());
        }
        let used_secret = ring.fingerprint.hash_one(secret.as_bytes());
        if ring.used_ids.contains(&id) {
            return Err(KeyError::ReusedId { id });
        }
        if ring.used_secrets.contains(&used_secret) {
            return Err(KeyError::ReusedSecret { id });
        }
        if ring.keys.len() >= Keys::MAX {
            return Err(KeyError::TooManyKeys { limit: Keys::MAX });
        }
        if ring.used_ids.len() >= Keys::LIFETIME_MAX {
            let limit = Keys::LIFETIME_MAX;
            return Err(KeyError::Exhausted { limit });
        }
        ring.used_ids.insert(id);
        ring.used_secrets.insert(used_secret);
        ring.keys.insert(id, secret);
        Ok(())
    }

    /// Uses this key for what is sent from now on. A key that was active before can become so again.
    ///
    /// # Errors
    /// There is no such key.
    pub fn activate(&self, id: u32) -> Result<(), KeyError> {
        let ring = &mut *self.write();
        let secret = ring.keys.get(&id).ok_or(KeyError::UnknownKey { id })?;
        if ring.active.0 != id {
            ring.active = (id, secret.clone());
            self.changed(ring);
        }
        Ok(())
    }

    /// Removes a key. What was sent with it and is still on its way is refused.
    ///
    /// # Errors
    /// There is no such key, or it is the active one.
    pub fn remove(&self, id: u32) -> Result<(), KeyError> {
        let ring = &mut *self.write();
        if ring.active.0 == id {
            return Err(KeyError::ActiveKey { id });
        }
        if ring.keys.remove(&id).is_none() {
            return Err(KeyError::UnknownKey { id });
        }
        self.changed(ring);
        Ok(())
    }

    /// Holds these keys and no others from now on. The first is used for sending. Keys that are there already
    /// stay as they are; links go on with them.
    ///
    /// # Errors
    /// There is no key or more than [`Keys::MAX`], or one could not be [added](Self::add). Nothing has changed
    /// then.
    pub fn replace(&self, keys: &[(u32, Secret)]) -> Result<(), KeyError> {
        let Some((active, secret)) = keys.first() else {
            return Err(KeyError::NoKeys);
        };
        if keys.len() > Keys::MAX {
            return Err(KeyError::TooManyKeys { limit: Keys::MAX });
        }
        let ring = &mut *self.write();
        let (mut ids, mut secrets) = (HashSet::new(), HashSet::new());
        let mut added = Vec::new();
        for (id, secret) in keys {
            let used_secret = ring.fingerprint.hash_one(secret.as_bytes());
            let is_held = ring.keys.get(id).is_some_and(|held| held.is_same(secret));
            if !ids.insert(*id) || (!is_held && ring.used_ids.contains(id)) {
                return Err(KeyError::ReusedId { id: *id });
            }
            if !secrets.insert(used_secret)
                || (!is_held && ring.used_secrets.contains(&used_secret))
            {
                return Err(KeyError::ReusedSecret { id: *id });
            }
            if !is_held {
                added.push((*id, used_secret));
            }
        }
        if ring.used_ids.len() + added.len() > Keys::LIFETIME_MAX {
            let limit = Keys::LIFETIME_MAX;
            return Err(KeyError::Exhausted { limit });
        }
        for (id, used_secret) in added {
            ring.used_ids.insert(id);
            ring.used_secrets.insert(used_secret);
        }
        ring.keys = keys.iter().cloned().collect();
        ring.active = (*active, secret.clone());
        self.changed(ring);
        Ok(())
    }

    /// The id of the key that is used for sending.
    pub fn active(&self) -> u32 {
        self.ring().active.0
    }

    /// The ids of all keys, in ascending order.
    pub fn ids(&self) -> Vec<u32> {
        self.ring().keys.keys().copied().collect()
    }

    /// Changes with everything that a link has to follow.
    pub(super) fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    pub(super) fn ring(&self) -> RwLockReadGuard<'_, Ring> {
        let ring = self.shared.ring.read();
        ring.unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Ring> {
        let ring = self.shared.ring.write();
        ring.unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, ring: &mut Ring) {
        ring.generation += 1;
        let generation = &self.shared.generation;
        generation.store(ring.generation, Ordering::Release);
    }
}

impl Ring {
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn active(&self) -> &(u32, Secret) {
        &self.active
    }

    pub(super) fn secret(&self, id: u32) -> Option<&Secret> {
        self.keys.get(&id)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ring = self.ring();
        f.debug_struct("Keys")
            .field("active", &ring.active.0)
            .field("ids", &ring.keys.keys())
            .finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    fn secret(number: u32) -> Secret {
        Secret::new(u128::from(number).to_be_bytes()).unwrap()
    }

    #[test]
    fn replacing_takes_all_keys_or_none() {
        let keys = Keys::new(1, secret(1));
        keys.replace(&[(2, secret(2)), (1, secret(1))]).unwrap();
        assert_eq!((keys.active(), keys.ids()), (2, vec![1, 2]));
        let generation = keys.generation();
        let many: Vec<_> = (10..75).map(|id| (id, secret(id))).collect();
        for (wrong, error) in [
            (vec![], KeyError::NoKeys),
            (
                vec![(3, secret(3)), (1, secret(4))],
                KeyError::ReusedId { id: 1 },
            ),
            (
                vec![(3, secret(3)), (3, secret(4))],
                KeyError::ReusedId { id: 3 },
            ),
            (
                vec![(3, secret(3)), (4, secret(1))],
                KeyError::ReusedSecret { id: 4 },
            ),
            (
                vec![(3, secret(3)), (4, secret(3))],
                KeyError::ReusedSecret { id: 4 },
            ),
            (many.clone(), KeyError::TooManyKeys { limit: Keys::MAX }),
        ] {
            assert_eq!(keys.replace(&wrong), Err(error));
            assert_eq!((keys.active(), keys.ids()), (2, vec![1, 2]));
        }
        assert_eq!(keys.generation(), generation, "no link has to look");
        // What was refused was not taken, not even in part.
        keys.replace(&[(3, secret(5)), (2, secret(2))]).unwrap();
        assert_eq!(keys.add(1, secret(1)), Err(KeyError::ReusedId { id: 1 }));
        // A full ring can be exchanged for another.
        keys.replace(&many[..Keys::MAX]).unwrap();
        assert_eq!((keys.active(), keys.ids().len()), (10, Keys::MAX));
    }

    #[test]
    fn a_key_is_added_activated_and_removed() {
        let keys = Keys::new(7, secret(7));
        assert_eq!((keys.active(), keys.ids()), (7, vec![7]));
        keys.add(3, secret(3)).unwrap();
        assert_eq!((keys.active(), keys.ids()), (7, vec![3, 7]));
        assert_eq!(keys.remove(7), Err(KeyError::ActiveKey { id: 7 }));
        keys.activate(3).unwrap();
        keys.activate(7).unwrap();
        keys.activate(3).unwrap();
        keys.remove(7).unwrap();
        assert_eq!((keys.active(), keys.ids()), (3, vec![3]));
        assert_eq!(keys.remove(7), Err(KeyError::UnknownKey { id: 7 }));
        assert_eq!(keys.activate(7), Err(KeyError::UnknownKey { id: 7 }));
        let code = KeyError::UnknownKey { id: 7 }.code();
        assert_eq!(code, crate::error::ErrorCode::InvalidConfiguration);
    }

    #[test]
    fn no_id_and_no_secret_is_used_twice_even_after_its_removal() {
        let keys = Keys::new(1, secret(1));
        keys.add(2, secret(2)).unwrap();
        keys.add(2, secret(2)).unwrap();
        assert_eq!(keys.add(2, secret(3)), Err(KeyError::ReusedId { id: 2 }));
        assert_eq!(
            keys.add(3, secret(2)),
            Err(KeyError::ReusedSecret { id: 3 })
        );
        keys.remove(2).unwrap();
        assert_eq!(keys.add(2, secret(2)), Err(KeyError::ReusedId { id: 2 }));
        assert_eq!(keys.add(2, secret(3)), Err(KeyError::ReusedId { id: 2 }));
        assert_eq!(
            keys.add(3, secret(2)),
            Err(KeyError::ReusedSecret { id: 3 })
        );
        assert_eq!(keys.ids(), [1]);
    }

    #[test]
    fn a_ring_holds_sixty_four_keys_and_takes_another_after_a_removal() {
        let keys = Keys::new(0, secret(0));
        for id in 1..64 {
            keys.add(id, secret(id)).unwrap();
        }
        let full = Err(KeyError::TooManyKeys { limit: 64 });
        assert_eq!(keys.add(64, secret(64)), full);
        keys.add(63, secret(63)).unwrap();
        keys.remove(63).unwrap();
        keys.add(64, secret(64)).unwrap();
    }

    #[test]
    fn what_a_ring_remembers_of_removed_keys_is_bounded() {
        let keys = Keys::new(0, secret(0));
        let most = Keys::LIFETIME_MAX as u32;
        keys.write().used_ids.extend(1..most - 1);
        keys.add(most, secret(1)).unwrap();
        let limit = Keys::LIFETIME_MAX;
        let exhausted = Err(KeyError::Exhausted { limit });
        assert_eq!(keys.add(most + 1, secret(2)), exhausted);
        keys.activate(most).unwrap();
    }

    #[test]
    fn links_see_every_change_that_they_have_to_follow() {
        let keys = Keys::new(1, secret(1));
        let handle = keys.clone();
        let first = keys.generation();
        handle.add(2, secret(2)).unwrap();
        handle.activate(1).unwrap();
        assert_eq!(keys.generation(), first);
        handle.activate(2).unwrap();
        let second = keys.generation();
        handle.remove(1).unwrap();
        let third = keys.generation();
        assert!(first < second && second < third);
        assert_eq!(keys.ring().generation(), third);
    }
}

//! What algorithms work with, kept for the next message of any session of the thread.

use std::cell::RefCell;
use std::thread::LocalKey;

/// How many of a sort a thread keeps: one for each of two configurations.
const POOLED: usize = 2;

/// The pool of a thread. The key says what its value can be used for.
pub(super) type Pool<K, T> = RefCell<Vec<(K, T)>>;

/// Calls `work` with a value of the pool or, when there is none for this key, with a new one. Afterwards the
/// value is kept when `keep` agrees. `None` when there is no new one.
pub(super) fn with<K: Copy + PartialEq, T, R>(
    pool: &'static LocalKey<Pool<K, T>>,
    key: K,
    make: impl FnOnce() -> Option<T>,
    work: impl FnOnce(&mut T) -> R,
    keep: impl FnOnce(&T) -> bool,
) -> Option<R> {
    // A thread that is ending has no pool any more. The value is moved out, so that one in whose use something
    // panicked is not used again.
    let kept = pool.try_with(|pool| {
        let mut pool = pool.try_borrow_mut().ok()?;
        let index = pool.iter().position(|(known, _)| *known == key)?;
        Some(pool.swap_remove(index).1)
    });
    let mut value = match kept.ok().flatten() {
        Some(value) => value,
        None => make()?,
    };
    let result = work(&mut value);
    if keep(&value) {
        let _ = pool.try_with(|pool| {
            if let Ok(mut pool) = pool.try_borrow_mut() {
                if pool.len() == POOLED {
                    pool.remove(0);
                }
                pool.push((key, value));
            }
        });
    }
    Some(result)
}

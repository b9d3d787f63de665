//! An allocator that counts.

#![allow(
    unsafe_code,
    reason = "an allocator cannot be written without; every call is handed on as it is"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Threads count in so many places, so that they do not wait for each other's cache line.
const SHARDS: usize = 32;

/// What a shard counts by itself before it is added to the sum, whose peak is kept.
const BATCH: i64 = 32 * 1024;

static COUNTED: [Shard; SHARDS] = [const { Shard::new() }; SHARDS];

/// Bytes, without what the shards have not added.
static BYTES: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);

/// The shard of the next thread.
static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The index of the thread's shard and 1, 0 before its first allocation. Needs neither memory nor a
    /// destructor, so that an allocator can have it.
    static SHARD: Cell<usize> = const { Cell::new(0) };
}

/// What some threads have counted. Two cache lines, as processors fetch them in pairs.
#[repr(align(128))]
struct Shard {
    /// Bytes allocated and freed since they were last added to the sum.
    pending: AtomicI64,
    allocations: AtomicU64,
}

impl Shard {
    const fn new() -> Self {
        Shard {
            pending: AtomicI64::new(0),
            allocations: AtomicU64::new(0),
        }
    }

    /// That of this thread.
    #[inline]
    fn own() -> &'static Shard {
        let index = match SHARD.get() {
            0 => Shard::assign(),
            index => index,
        };
        &COUNTED[(index - 1) % SHARDS]
    }

    #[cold]
    fn assign() -> usize {
        let index = NEXT.fetch_add(1, Relaxed) % SHARDS + 1;
        SHARD.set(index);
        index
    }

    #[inline]
    fn allocated(&self) {
        self.allocations.fetch_add(1, Relaxed);
    }

    /// Bytes were allocated, or freed when they are less than 0.
    #[inline]
    fn add(&self, bytes: i64) {
        let pending = self.pending.fetch_add(bytes, Relaxed) + bytes;
        if !(-BATCH..=BATCH).contains(&pending) {
            self.settle();
        }
    }

    #[cold]
    fn settle(&self) {
        let pending = self.pending.swap(0, Relaxed);
        let now = BYTES.fetch_add(pending, Relaxed) + pending;
        if pending > 0 {
            PEAK.fetch_max(now, Relaxed);
        }
    }
}

/// What has been allocated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allocated {
    pub(super) bytes: u64,
    pub(super) peak: u64,
    pub(super) allocations: u64,
}

/// What the process has allocated; `None` unless a [`CountingAllocator`] is its allocator.
pub(super) fn allocated() -> Option<Allocated> {
    if !is_global() {
        return None;
    }
    let (mut pending, mut allocations) = (0, 0);
    for shard in &COUNTED {
        // Taken out, so that nothing is in a shard and in the sum, however fast threads add up meanwhile.
        pending += shard.pending.swap(0, Relaxed);
        allocations += shard.allocations.load(Relaxed);
    }
    let bytes = (BYTES.fetch_add(pending, Relaxed) + pending).max(0);
    let peak = PEAK.fetch_max(bytes, Relaxed).max(bytes);
    Some(Allocated {
        bytes: bytes as u64,
        peak: peak as u64,
        allocations,
    })
}

/// Whether an allocation of this thread is counted: an allocator of this kind may be used for something else
/// than the process.
fn is_global() -> bool {
    let count = || Shard::own().allocations.load(Relaxed);
    let before = count();
    drop(std::hint::black_box(Box::new(0_u64)));
    count() != before
}

/// Counts what the process allocates, and hands on to another allocator, that of the system unless another one is
/// given.
///
/// With it as the program's allocator a monitor knows [`MemoryMetrics::allocated_bytes`]:
///
/// ```
/// use network_system::metrics::{CountingAllocator, PerformanceMonitor};
///
/// #[global_allocator]
/// static ALLOCATOR: CountingAllocator = CountingAllocator::new();
///
/// let kept = vec![0_u8; 1_000_000];
/// let memory = PerformanceMonitor::new().memory();
/// assert!(memory.allocated_bytes >= Some(1_000_000));
/// # drop(kept);
/// ```
///
/// It counts the bytes that were asked for, not what the allocator below takes for them. Now and in all the
/// figures are exact. A peak may be off by what threads allocate between two looks at it: 32 KiB for each
/// thread, at most 1 MiB.
///
/// Threads count apart from each other, up to 32 of them, so that none waits for another. Allocating and freeing
/// again takes about 15 ns more (`benches/allocator.rs`), with one thread and with two.
///
/// [`MemoryMetrics::allocated_bytes`]: super::MemoryMetrics::allocated_bytes
#[derive(Clone, Copy, Debug, Default)]
pub struct CountingAllocator<A = System> {
    below: A,
}

impl CountingAllocator {
    /// Counts on top of the system's allocator.
    pub const fn new() -> Self {
        CountingAllocator::with(System)
    }
}

impl<A> CountingAllocator<A> {
    /// Counts on top of another allocator.
    pub const fn with(below: A) -> Self {
        CountingAllocator { below }
    }
}

// SAFETY: every call is handed on to `below` with the arguments that it came with, and its result is returned as
// it is. Counting touches atomics and a thread local without destructor: it neither allocates nor panics.
unsafe impl<A: GlobalAlloc> GlobalAlloc for CountingAllocator<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that `below` asks for.
        let pointer = unsafe { self.below.alloc(layout) };
        count_new(pointer, layout);
        pointer
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let pointer = unsafe { self.below.alloc_zeroed(layout) };
        count_new(pointer, layout);
        pointer
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; `pointer` came from `below`.
        unsafe { self.below.dealloc(pointer, layout) }
        Shard::own().add(-(layout.size() as i64));
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        let moved = unsafe { self.below.realloc(pointer, layout, size) };
        if !moved.is_null() {
            let shard = Shard::own();
            shard.allocated();
            shard.add(size as i64 - layout.size() as i64);
        }
        moved
    }
}

#[inline]
fn count_new(pointer: *mut u8, layout: Layout) {
    if !pointer.is_null() {
        let shard = Shard::own();
        shard.allocated();
        shard.add(layout.size() as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocator_for_something_else_says_nothing_of_the_process() {
        let (other, layout) = (CountingAllocator::new(), Layout::new::<[u8; 64]>());
        // SAFETY: the layout is not empty, and what is freed was allocated with it.
        let pointer = unsafe { other.alloc(layout) };
        assert!(allocated().is_none());
        // SAFETY: as above.
        unsafe { other.dealloc(pointer, layout) };
    }
}

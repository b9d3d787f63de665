//! What counting costs: `cargo bench --features counting-allocator --bench allocator`.

#![allow(
    unsafe_code,
    reason = "allocators are called directly, so that nothing else is measured"
)]
#![allow(clippy::print_stdout, reason = "the figures are what is wanted")]
#![allow(missing_docs, reason = "nothing is public here")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::time::Instant;

use network_system::metrics::CountingAllocator;

static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// Nanoseconds of a thread to allocate and free 64 bytes, with so many threads side by side.
fn nanos(allocator: &(impl GlobalAlloc + Sync), threads: usize) -> f64 {
    const ROUNDS: usize = 5_000_000;
    let layout = Layout::new::<[u8; 64]>();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    // SAFETY: the layout is not empty, and what is freed was allocated with it.
                    unsafe { allocator.dealloc(black_box(allocator.alloc(layout)), layout) };
                }
            });
        }
    });
    began.elapsed().as_nanos() as f64 / ROUNDS as f64
}

fn main() {
    for threads in [1, 2] {
        let (mut plain, mut counting) = (f64::MAX, f64::MAX);
        for _ in 0..5 {
            plain = plain.min(nanos(&System, threads));
            counting = counting.min(nanos(&ALLOCATOR, threads));
        }
        println!("{threads} threads: {plain:.1} ns, counted {counting:.1} ns");
    }
}

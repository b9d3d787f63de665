//! A program whose allocator counts. There is one for the process, so these tests have a process of their own.

#![allow(missing_docs, reason = "a test's name is its documentation")]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, and says where"
)]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use network_system::compat::get_memory_profiler;
use network_system::metrics::{CountingAllocator, MemoryMetrics, PerformanceMonitor};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// What the harness allocates for another test is a few KiB.
const NOISE: u64 = 200_000;

/// One test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn memory() -> MemoryMetrics {
    PerformanceMonitor::new().memory()
}

fn allocated() -> u64 {
    memory().allocated_bytes.unwrap()
}

#[test]
fn what_is_allocated_counts_until_it_is_freed() {
    let _turn = alone();
    let before = allocated();
    let kept = black_box(vec![0_u8; 10_000_000]);
    let with = allocated();
    assert!(
        with.abs_diff(before + 10_000_000) < NOISE,
        "{before} {with}"
    );
    drop(kept);
    assert!(allocated().abs_diff(before) < NOISE);
    assert!(memory().allocated_bytes_peak.unwrap() >= with);
}

#[test]
fn a_buffer_that_grows_counts_once() {
    let _turn = alone();
    let before = allocated();
    let mut grown = Vec::new();
    for byte in 0..3_000_000_u32 {
        grown.push(byte as u8);
    }
    let size = black_box(&grown).capacity() as u64;
    assert!(allocated().abs_diff(before + size) < NOISE);
    drop(grown);
    assert!(allocated().abs_diff(before) < NOISE);
}

#[test]
fn what_one_thread_allocates_another_may_free() {
    let _turn = alone();
    let (before, calls) = (allocated(), memory().allocations.unwrap());
    for _ in 0..20 {
        // More threads than places to count in, one after the other, each with less than it adds up by itself.
        let threads: Vec<_> = (0..8)
            .map(|_| std::thread::spawn(|| (0..100).map(|_| vec![7_u8; 100]).collect()))
            .collect();
        let made: Vec<Vec<Vec<u8>>> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        assert_eq!(made.iter().map(Vec::len).sum::<usize>(), 800);
        std::thread::spawn(move || drop(made)).join().unwrap();
    }
    assert!(allocated().abs_diff(before) < NOISE);
    assert!(memory().allocations.unwrap() - calls >= 16_000);
}

#[test]
fn peaks_of_many_threads_are_seen() {
    let _turn = alone();
    let before = allocated();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    drop(black_box(vec![0_u8; 1_000_000]));
                }
            });
        }
    });
    let peak = memory().allocated_bytes_peak.unwrap();
    assert!(peak >= before + 1_000_000 - NOISE, "{before} {peak}");
}

/// Who adds up what threads have counted reads their places one after the other. What a thread moves from its place
/// to the sum meanwhile must not be seen in both.
#[test]
fn nothing_counts_twice_while_threads_allocate() {
    const LARGE: usize = 1 << 20;
    let _turn = alone();
    let before = allocated();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                drop(black_box(Vec::<u8>::with_capacity(LARGE)));
            }
        });
        let (mut least, mut most) = (u64::MAX, 0);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(1) {
            let now = allocated();
            (least, most) = (least.min(now), most.max(now));
        }
        // Before anything can panic: the scope waits for its thread.
        done.store(true, Ordering::Relaxed);
        assert!(most < before + LARGE as u64 + NOISE, "{before} {most}");
        assert!(least + NOISE > before, "{before} {least}");
    });
}

#[test]
fn the_classic_profiler_says_what_is_allocated() {
    let _turn = alone();
    let kept = black_box(vec![0_u8; 20_000_000]);
    let statistics = get_memory_profiler().get_statistics();
    assert!(statistics.total_bytes >= 20_000_000);
    assert!(statistics.peak_bytes >= statistics.total_bytes);
    drop(kept);
    assert!(get_memory_profiler().get_statistics().peak_bytes >= 20_000_000);
}

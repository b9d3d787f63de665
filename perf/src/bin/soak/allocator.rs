//! The allocator of both processes, with the feature `counting-allocator`.

use network_system::metrics::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

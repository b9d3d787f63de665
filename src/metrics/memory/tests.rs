use proptest::prelude::*;

use super::*;
use crate::metrics::Role;

fn key(role: Role) -> Key {
    (role, "a".to_owned())
}

fn server(memory: &MonitorMemory) -> Arc<MemberMemory> {
    memory.attach(key(Role::Server), None)
}

fn client(memory: &MonitorMemory) -> Arc<MemberMemory> {
    memory.attach(key(Role::Client), None)
}

fn held(bytes: usize, buffers: usize) -> Held {
    Held { bytes, buffers }
}

#[test]
fn what_takes_nothing_is_no_buffer() {
    let mut sum = Held::default();
    sum.add(0);
    assert_eq!(sum, Held::default());
    sum.add(5);
    sum.add_many(10, 2);
    assert_eq!(sum, held(15, 3));
}

#[test]
fn more_buffers_than_fit_are_as_many_as_fit() {
    let packed = held(7, 1_000_000).pack();
    assert_eq!(Held::unpack(packed), held(7, 65_535));
}

#[test]
fn a_peak_is_the_most_that_there_was_and_no_less_than_what_there_is() {
    let gauge = MemoryGauge::new();
    for (change, peak) in [(5, 5), (-5, 5), (4, 5), (2, 6), (-6, 6)] {
        gauge.change((change, 0));
        assert_eq!(gauge.peak(gauge.bytes()), peak);
    }
    gauge.change((3, 1));
    gauge.reset_peak();
    assert_eq!((gauge.peak(gauge.bytes()), gauge.buffers()), (3, 1));
}

#[test]
fn members_of_one_name_are_one_and_all_are_the_whole() {
    let memory = MonitorMemory::default();
    let one = server(&memory);
    let same = server(&memory);
    let other = client(&memory);
    one.queue_changed(Held::default(), held(100, 1));
    same.queue_changed(Held::default(), held(10, 1));
    other.session_changed(Held::default(), held(1, 1));
    let server = memory.of_member(&key(Role::Server), 0);
    assert_eq!((server.queued_bytes, server.active_buffers), (110, 2));
    let whole = memory.metrics(0);
    assert_eq!((whole.queued_bytes, whole.session_buffer_bytes), (110, 1));
    // The queues were emptied before the buffer grew: the common peak is less than the sum of the peaks.
    one.queue_changed(held(100, 1), Held::default());
    other.session_changed(held(1, 1), held(50, 1));
    let whole = memory.metrics(0);
    assert_eq!(
        whole.queued_bytes_peak + whole.session_buffer_bytes_peak,
        160
    );
    assert_eq!(memory.whole.total.peak(0), 111);
    memory.reset_peaks();
    assert_eq!(memory.metrics(0).queued_bytes_peak, 10);
    let client = memory.of_member(&key(Role::Client), 0);
    assert_eq!(client.session_buffer_bytes_peak, 50);
}

#[test]
fn a_monitor_above_sees_all_and_has_peaks_of_its_own() {
    let (above, below) = (MonitorMemory::default(), MonitorMemory::default());
    let member = below.attach(key(Role::Server), Some(server(&above)));
    member.queue_changed(Held::default(), held(100, 1));
    member.session_changed(Held::default(), held(10, 1));
    for memory in [&above, &below] {
        let whole = memory.metrics(0);
        assert_eq!((whole.queued_bytes, whole.session_buffer_bytes), (100, 10));
        assert_eq!(memory.of_member(&key(Role::Server), 0).queued_bytes, 100);
    }
    member.queue_changed(held(100, 1), Held::default());
    below.reset_peaks();
    assert_eq!(below.metrics(0).queued_bytes_peak, 0);
    assert_eq!(above.metrics(0).queued_bytes_peak, 100);
}

#[test]
fn names_without_number_are_not_kept() {
    let memory = MonitorMemory::default();
    let kept = memory.attach((Role::Server, "kept".to_owned()), None);
    kept.queue_changed(Held::default(), held(1, 1));
    for number in 0..1_000 {
        memory.attach((Role::Client, number.to_string()), None);
    }
    assert!(lock(&memory.members).len() <= NAMES_MAX);
    let kept = memory.of_member(&(Role::Server, "kept".to_owned()), 0);
    assert_eq!(kept.queued_bytes, 1);
    let gone = memory.of_member(&(Role::Client, "0".to_owned()), 0);
    assert_eq!(gone, MemoryMetrics::default());
}

#[test]
fn a_session_takes_its_structures_and_its_share() {
    let memory = MonitorMemory::default();
    let member = server(&memory);
    member.queue_changed(Held::default(), held(1_000, 1));
    member.session_changed(Held::default(), held(200, 1));
    let per_session = |sessions| memory.metrics(sessions).bytes_per_session;
    assert_eq!(per_session(0), 0);
    assert_eq!(per_session(4), IDLE_SESSION_BYTES as u64 + 300);
}

#[test]
fn a_queue_that_is_dropped_gives_everything_back() {
    let memory = MonitorMemory::default();
    let mut account = QueueAccount::new(Some(client(&memory)), &MemoryBudget::new(0));
    account.note(3, 0);
    assert_eq!(memory.whole.metrics(0).active_buffers, 1);
    account.note(4, 70);
    assert_eq!(memory.whole.metrics(0).queued_bytes, 70);
    drop(account);
    let metrics = memory.whole.metrics(0);
    assert_eq!((metrics.queued_bytes, metrics.active_buffers), (0, 0));
    assert_eq!(metrics.queued_bytes_peak, 70);
}

#[test]
fn the_peak_of_what_threads_take_together_is_between_the_largest_and_the_sum() {
    let memory = MonitorMemory::default();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let member = server(&memory);
                for bytes in 1..1_000 {
                    member.queue_changed(Held::default(), held(bytes, 1));
                    member.queue_changed(held(bytes, 1), Held::default());
                }
            });
        }
    });
    let metrics = memory.whole.metrics(0);
    assert_eq!((metrics.queued_bytes, metrics.active_buffers), (0, 0));
    assert!((999..=4 * 999).contains(&metrics.queued_bytes_peak));
}

proptest! {
    #[test]
    fn packing_keeps_bytes_and_buffers(bytes in 0..1_usize << 48, buffers in 0..65_536_usize) {
        let before = held(bytes, buffers);
        prop_assert_eq!(Held::unpack(before.pack()), before);
    }

    #[test]
    fn whatever_changes_the_gauges_say_the_sum(
        steps in prop::collection::vec((0..5_usize, 0..100_000_usize, 0..10_usize), 0..100)
    ) {
        let memory = MonitorMemory::default();
        let member = server(&memory);
        let mut now = [Held::default(); 5];
        let mut peak = 0;
        for (index, bytes, buffers) in steps {
            let next = held(bytes, buffers);
            member.session_changed(now[index], next);
            now[index] = next;
            let sum: usize = now.iter().map(|held| held.bytes).sum();
            peak = peak.max(sum);
            let metrics = memory.whole.metrics(1);
            prop_assert_eq!(metrics.session_buffer_bytes, sum as u64);
            prop_assert_eq!(metrics.session_buffer_bytes_peak, peak as u64);
            let buffers: usize = now.iter().map(|held| held.buffers).sum();
            prop_assert_eq!(metrics.active_buffers, buffers as u64);
        }
    }
}

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::{Instant, advance};

use super::latency::Distribution;
use super::rates::{PerSecond, Rates, Sample};
use super::snapshot::ErrorKind;
use super::*;
use crate::ErrorCode;
use crate::hub::Clock;
use crate::limits::MemoryBudget;
use crate::session::Transport;

fn recorder(monitor: &PerformanceMonitor, role: Role, name: &str) -> std::sync::Arc<Recorder> {
    Recorder::new(
        role,
        name.into(),
        Clock::default(),
        Some(monitor.clone()),
        None,
        MemoryBudget::process(),
    )
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

// Times

proptest! {
    #[test]
    fn percentiles_are_those_of_the_times_within_one_percent(
        times in prop::collection::vec(0_u64..20_000_000_000, 1..400),
    ) {
        let mut distribution = Distribution::default();
        for &time in &times {
            distribution.record(time, 1);
        }
        let mut sorted = times.clone();
        sorted.sort_unstable();
        let latency = distribution.latency();
        let at = |quantile: f64| {
            let index = (quantile * sorted.len() as f64).ceil().max(1.0) as usize - 1;
            sorted[index]
        };
        let mean = sorted.iter().sum::<u64>() / sorted.len() as u64;
        let expected = [
            (latency.average, mean),
            (latency.min, sorted[0]),
            (latency.max, sorted[sorted.len() - 1]),
            (latency.p50, at(0.5)),
            (latency.p90, at(0.9)),
            (latency.p95, at(0.95)),
            (latency.p99, at(0.99)),
            (latency.p99_9, at(0.999)),
        ];
        for (shown, right) in expected {
            let off = nanos(shown).abs_diff(right);
            prop_assert!(off <= right / 100 + 2, "{shown:?} for {right} ns");
        }
        prop_assert_eq!(latency.count, times.len() as u64);
    }

    #[test]
    fn a_difference_is_what_came_after(
        before in prop::collection::vec(0_u64..5_000_000_000, 0..50),
        after in prop::collection::vec(0_u64..5_000_000_000, 0..50),
    ) {
        let (mut whole, mut part) = (Distribution::default(), Distribution::default());
        for &time in &before {
            whole.record(time, 1);
        }
        let earlier = whole.clone();
        for &time in &after {
            whole.record(time, 1);
            part.record(time, 1);
        }
        let difference = whole.since(&earlier).latency();
        let alone = part.latency();
        prop_assert_eq!(difference.count, alone.count);
        prop_assert_eq!(difference.p50, alone.p50);
        prop_assert_eq!(difference.p99_9, alone.p99_9);
    }
}

#[test]
fn the_longest_times_count_as_an_hour() {
    let monitor = PerformanceMonitor::new();
    monitor.record_latency(Duration::MAX);
    let longest = monitor.metrics().recorded_latency.max;
    assert!(longest >= Duration::from_secs(3_600));
    assert!(longest < Duration::from_secs(3_700));
}

#[test]
fn an_earlier_state_of_something_else_is_not_subtracted() {
    let (mut one, mut other) = (Distribution::default(), Distribution::default());
    one.record(1_000, 3);
    other.record(5_000_000, 9);
    assert_eq!(one.since(&other).count(), 3);
    other.record(1_000, 9);
    assert_eq!(one.since(&other).count(), 3);
}

// Rates

fn sample(messages: u64) -> Sample {
    Sample {
        connections: 0,
        messages,
        bytes: messages * 10,
    }
}

#[tokio::test(start_paused = true)]
async fn rates_are_over_the_last_read_that_is_a_second_ago() {
    let mut rates = Rates::default();
    let since = Instant::now();
    let mut read = |messages| rates.read(Instant::now(), sample(messages), since);
    assert_eq!(read(5), PerSecond::default(), "no time has passed");
    advance(Duration::from_millis(500)).await;
    assert_eq!(read(10).messages, 20.0, "since the beginning");
    advance(Duration::from_millis(500)).await;
    assert_eq!(
        read(30).messages,
        25.0,
        "since the read at the beginning, which saw 5"
    );
    advance(Duration::from_millis(600)).await;
    assert_eq!(
        read(30).messages,
        20.0 / 1.1,
        "since the read at half a second"
    );
    advance(Duration::from_secs(10)).await;
    let late = read(130);
    assert_eq!((late.messages, late.bytes), (10.0, 100.0), "since the last");
    advance(Duration::from_secs(1)).await;
    assert_eq!(read(130).messages, 0.0);
}

#[tokio::test(start_paused = true)]
async fn who_reads_all_the_time_gets_rates_of_a_second_and_little_is_kept() {
    let mut rates = Rates::default();
    let since = Instant::now();
    for millis in 0..5_000_u64 {
        let read = rates.read(Instant::now(), sample(millis * 2), since);
        if millis > 1_200 {
            assert!((read.messages - 2_000.0).abs() < 1.0, "{read:?}");
        }
        assert!(rates.len() <= 12);
        advance(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn rates_of_a_monitor_begin_again_with_a_reset() {
    let monitor = PerformanceMonitor::new();
    for _ in 0..40 {
        monitor.record_message_sent(100);
        monitor.record_connection(true);
    }
    advance(Duration::from_secs(4)).await;
    let metrics = monitor.metrics();
    assert_eq!(metrics.messages_per_second, 10.0);
    assert_eq!(metrics.bytes_per_second, 1_000.0);
    assert_eq!(metrics.connections_per_second, 10.0);
    assert_eq!(metrics.uptime, Duration::from_secs(4));
    assert_eq!(metrics.last_update, Some(Duration::from_secs(4)));
    monitor.reset();
    advance(Duration::from_secs(2)).await;
    monitor.record_message_received(8);
    let metrics = monitor.metrics();
    assert_eq!(
        (metrics.messages_per_second, metrics.bytes_per_second),
        (0.5, 4.0)
    );
    assert_eq!(metrics.uptime, Duration::from_secs(2));
}

// What is recorded

#[test]
fn everything_that_is_recorded_is_counted() {
    let monitor = PerformanceMonitor::new();
    assert_eq!(monitor.metrics().last_update, None);
    monitor.record_connection(true);
    monitor.record_connection(true);
    monitor.record_connection(false);
    monitor.record_disconnection();
    monitor.record_message_sent(3);
    monitor.record_message_received(4);
    monitor.record_message_received(5);
    monitor.record_latency(Duration::from_millis(2));
    monitor.record_memory_usage(2_000);
    monitor.record_memory_usage(1_000);
    monitor.record_error("disk");
    monitor.record_error("queue_full");
    let metrics = monitor.metrics();
    assert_eq!(
        (metrics.total_connections, metrics.active_connections),
        (2, 1)
    );
    assert_eq!(metrics.failed_connections, 1);
    assert_eq!((metrics.messages_sent, metrics.bytes_sent), (1, 3));
    assert_eq!((metrics.messages_received, metrics.bytes_received), (2, 9));
    assert_eq!(
        (metrics.latency.count, metrics.recorded_latency.count),
        (1, 1)
    );
    assert_eq!(metrics.memory.recorded_bytes, 1_000);
    assert_eq!(metrics.memory.recorded_bytes_peak, 2_000);
    assert_eq!(metrics.errors.by_code["disk"], 1);
    assert_eq!(metrics.errors.by_code["queue_full"], 1);
    assert_eq!(metrics.errors.send_errors, 1, "it is a code");
    assert!(metrics.last_update.is_some());

    monitor.reset();
    let metrics = monitor.metrics();
    assert_eq!(
        (metrics.total_connections, metrics.active_connections),
        (0, 1)
    );
    assert_eq!(
        metrics.memory.recorded_bytes_peak, 1_000,
        "what there is now"
    );
    assert_eq!(metrics.errors, ErrorCounts::default());
    assert_eq!((metrics.latency.count, metrics.messages_received), (0, 0));
    assert_eq!((metrics.failed_connections, metrics.last_update), (0, None));
}

#[test]
fn more_ends_than_connections_leave_none_open() {
    let monitor = PerformanceMonitor::new();
    monitor.record_disconnection();
    monitor.record_connection(true);
    monitor.record_disconnection();
    monitor.record_disconnection();
    assert_eq!(monitor.metrics().active_connections, 0);
}

#[test]
fn names_of_errors_are_bounded_in_number_and_length() {
    let monitor = PerformanceMonitor::new();
    for number in 0..1_000 {
        monitor.record_error(&format!("kind {number}"));
    }
    monitor.record_error(&"ß".repeat(1_000));
    monitor.record_error("idle_timeout");
    let errors = monitor.metrics().errors;
    assert_eq!(errors.by_code["other"], 1_000 - 64 + 1);
    assert_eq!(
        errors.by_code["idle_timeout"], 1,
        "codes are never among the others"
    );
    assert_eq!(errors.timeout_errors, 1);
    assert_eq!(errors.by_code.len(), 64 + 2);

    let monitor = PerformanceMonitor::new();
    monitor.record_error(&"ß".repeat(1_000));
    let errors = monitor.metrics().errors;
    assert!(errors.by_code.keys().all(|kind| kind.len() <= 128));
}

#[test]
fn every_code_is_of_the_kinds_that_the_documentation_says() {
    let documented = include_str!("snapshot.rs");
    for &code in ErrorCode::ALL {
        let mut errors = ErrorCounts::default();
        errors.count(code, 2);
        let kinds = ErrorKind::of(code);
        let counted = [
            (
                ErrorKind::Send,
                errors.send_errors,
                "Messages that could not be sent: ",
            ),
            (
                ErrorKind::Receive,
                errors.receive_errors,
                "What was received and refused: ",
            ),
            (
                ErrorKind::Timeout,
                errors.timeout_errors,
                "What took too long: ",
            ),
            (
                ErrorKind::Connection,
                errors.connection_errors,
                "not let in, or broke: ",
            ),
        ];
        for (kind, count, text) in counted {
            let expected = if kinds.contains(&kind) { 2 } else { 0 };
            assert_eq!(count, expected, "{code} as {kind:?}");
            assert_eq!(
                names(documented, text, code),
                count > 0,
                "{code} as {kind:?}"
            );
        }
        let is_of_none = names(documented, "Codes that are of no kind:\n/// ", code);
        assert_eq!(is_of_none, kinds.is_empty(), "{code}");
        assert_eq!(errors.by_code[code.name()], 2);
    }
}

/// Whether the numbers behind `text` have the code: `−600 to −609, −623 and −661`.
fn names(documented: &str, text: &str, code: ErrorCode) -> bool {
    let (_, rest) = documented.split_once(text).expect("it is documented");
    let list = rest
        .lines()
        .next()
        .expect("it has a line")
        .trim_end_matches('.');
    let list = list.replace(" and ", ", ").replace('−', "-");
    list.split(", ").any(|part| {
        let mut ends = part
            .split(" to ")
            .map(|number| number.parse::<i32>().expect(part));
        let first = ends.next().expect("a part has a number");
        let last = ends.next().unwrap_or(first);
        (last..=first).contains(&code.as_i32())
    })
}

// Servers and clients

#[test]
fn what_is_gone_stays_and_what_has_one_name_is_one() {
    let monitor = PerformanceMonitor::new();
    let first = recorder(&monitor, Role::Server, "chat");
    let second = recorder(&monitor, Role::Server, "chat");
    let other = recorder(&monitor, Role::Client, "chat");
    for recorder in [&first, &second, &other] {
        recorder.totals.session_opened(Transport::Tcp);
        recorder.totals.session_error(ErrorCode::InvalidFrame);
        let worker = recorder.worker(0);
        worker.traffic(Transport::Tcp).add_received(2, 20, 1);
        recorder.ping_answered(Duration::from_millis(1));
    }
    let seen = |open| {
        let metrics = monitor.metrics();
        assert_eq!(metrics.members.len(), 2);
        let chat = &metrics.members[0];
        assert_eq!((chat.role, &*chat.name), (Role::Server, "chat"));
        assert_eq!(chat.transports[0].messages_received, 4);
        assert_eq!(chat.transports[0].active_connections, open);
        assert_eq!(
            (chat.errors.receive_errors, chat.ping_latency.count),
            (2, 2)
        );
        assert_eq!(
            (metrics.messages_received, metrics.ping_latency.count),
            (6, 3)
        );
        assert_eq!(
            (metrics.total_connections, metrics.active_connections),
            (3, open + 1)
        );
    };
    seen(2);
    first.retire();
    seen(1);
    second.retire();
    seen(0);
    second.retire();
    seen(0);

    monitor.reset();
    let metrics = monitor.metrics();
    assert_eq!(metrics.members.len(), 1, "the client is still there");
    assert_eq!(
        (metrics.total_connections, metrics.active_connections),
        (0, 1)
    );
    assert_eq!(
        (metrics.messages_received, metrics.ping_latency.count),
        (0, 0)
    );
    other.ping_answered(Duration::from_millis(7));
    let metrics = monitor.metrics();
    assert_eq!(metrics.ping_latency.count, 1);
    assert!(metrics.ping_latency.min >= Duration::from_micros(6_930));
}

#[test]
fn nothing_is_timed_without_a_monitor() {
    let recorder = Recorder::new(
        Role::Server,
        "s".into(),
        Clock::default(),
        None,
        None,
        MemoryBudget::process(),
    );
    assert!(!recorder.takes_times());
    assert!(recorder.worker(0).handler_times().is_none());
    recorder.ping_answered(Duration::from_millis(1));
    recorder.request_answered(Duration::from_millis(1));
    let times = recorder.times();
    assert_eq!((times.pings.count(), times.requests.count()), (0, 0));
}

#[test]
fn a_monitor_within_another_has_resets_of_its_own() {
    let outer = PerformanceMonitor::new();
    let inner = PerformanceMonitor::within(&outer);
    let recorder = recorder(&inner, Role::Client, "one");
    recorder.worker(0).traffic(Transport::Udp).add_sent(1, 5, 1);
    recorder.request_answered(Duration::from_micros(50));
    inner.reset();
    recorder.worker(0).traffic(Transport::Udp).add_sent(1, 5, 1);
    recorder.retire();
    let sent = |monitor: &PerformanceMonitor| {
        let metrics = monitor.metrics();
        (metrics.messages_sent, metrics.request_latency.count)
    };
    assert_eq!((sent(&outer), sent(&inner)), ((2, 1), (1, 0)));
}

#[test]
fn names_of_those_that_are_gone_are_bounded() {
    let monitor = PerformanceMonitor::new();
    for number in 0..1_000 {
        let recorder = recorder(&monitor, Role::Client, &format!("client-{number}"));
        recorder.worker(0).traffic(Transport::Tcp).add_sent(1, 1, 1);
        recorder.retire();
    }
    let metrics = monitor.metrics();
    assert_eq!(metrics.messages_sent, 1_000);
    assert_eq!(metrics.members.len(), 65);
    let other = metrics.members.iter().find(|member| member.name == "other");
    let sent = other.map(|other| other.transports[0].messages_sent);
    assert_eq!(sent, Some(1_000 - 64));
}

// Intervals

#[test]
fn an_interval_has_the_times_that_were_recorded_in_it() {
    let monitor = PerformanceMonitor::new();
    let recorder = recorder(&monitor, Role::Server, "one");
    monitor.record_latency(Duration::from_secs(1));
    let (mut intervals, mut others) = (monitor.intervals(), monitor.intervals());
    assert_eq!(intervals.take().recorded_latency, Latency::default());
    monitor.record_latency(Duration::from_millis(3));
    recorder.ping_answered(Duration::from_millis(5));
    let first = intervals.take();
    assert_eq!(
        (first.recorded_latency.count, first.ping_latency.count),
        (1, 1)
    );
    assert!(
        first.recorded_latency.max < Duration::from_millis(4),
        "not of before"
    );
    assert_eq!(first.request_latency, Latency::default());

    // It counts what those have timed that go in between.
    recorder.request_answered(Duration::from_millis(8));
    recorder.retire();
    let second = intervals.take();
    assert_eq!(
        (second.request_latency.count, second.ping_latency.count),
        (1, 0)
    );
    assert_eq!(intervals.take().request_latency.count, 0);
    assert_eq!(others.take().ping_latency.count, 1, "each is on its own");

    // A reset is no interval with less than nothing.
    monitor.record_latency(Duration::from_millis(1));
    monitor.reset();
    assert_eq!(intervals.take().recorded_latency.count, 0);
    monitor.reset();
    monitor.record_latency(Duration::from_millis(1));
    assert_eq!(intervals.take().recorded_latency.count, 1);
}

// Texts

#[test]
fn the_report_shows_what_there_is_in_lines_without_control_characters() {
    let monitor = PerformanceMonitor::new();
    let empty = monitor.report();
    assert!(empty.contains("none yet"), "{empty}");
    let name = "a\u{1b}[2J\n".to_owned() + &"x".repeat(1_000);
    let recorder = recorder(&monitor, Role::Server, &name);
    recorder.totals.session_opened(Transport::Tcp);
    recorder
        .worker(0)
        .traffic(Transport::Tcp)
        .add_sent(3, 3_000, 1);
    recorder.request_answered(Duration::from_micros(1_500));
    monitor.record_error("bell \u{7}");
    monitor.record_memory_usage(1 << 30);
    let report = monitor.report();
    for part in ["server \"a", "1.5 ms", "2.9 KiB", "1.0 GiB", "bell"] {
        assert!(report.contains(part), "{part} in {report}");
    }
    let is_plain = |character: char| character == '\n' || !character.is_control();
    assert!(report.chars().all(is_plain), "{report}");
    assert!(
        report.lines().all(|line| line.chars().count() <= 140),
        "{report}"
    );
}

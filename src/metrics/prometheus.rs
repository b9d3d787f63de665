//! The text format of Prometheus, version 0.0.4.

use std::fmt::{self, Write};

use super::counts::Work;
use super::latency::Distribution;
use super::monitor::{Key, Observed};
use super::process;
use crate::pipeline::StageStats;

/// What the application recorded stands in the place of a side.
const RECORDED: &str = "application";

/// Upper bounds of the buckets of histograms, in nanoseconds and as they are written, in seconds.
const BUCKETS: [(u64, &str); 22] = [
    (1_000, "0.000001"),
    (2_500, "0.0000025"),
    (5_000, "0.000005"),
    (10_000, "0.00001"),
    (25_000, "0.000025"),
    (50_000, "0.00005"),
    (100_000, "0.0001"),
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5"),
    (10_000_000_000, "10"),
];

/// Writes everything.
pub(super) fn of(observed: &Observed) -> String {
    let mut text = Text(String::with_capacity(16 * 1024));
    // Writing to a string does not fail.
    let _ = text.observed(observed);
    let _ = text.process(&process::read());
    text.0
}

/// Names and values of labels.
type Labels<'a> = &'a [(&'static str, &'a str)];

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) -> fmt::Result {
        writeln!(self.0, "# HELP {name} {help}")?;
        writeln!(self.0, "# TYPE {name} {kind}")
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl fmt::Display) -> fmt::Result {
        self.0.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            write!(self.0, "{label}=\"{}\"", Escaped(value))?;
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        writeln!(self.0, " {value}")
    }

    /// A family of one sample.
    fn single(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        value: impl fmt::Display,
    ) -> fmt::Result {
        self.family(name, kind, help)?;
        self.sample(name, &[], value)
    }

    fn observed(&mut self, observed: &Observed) -> fmt::Result {
        self.connections(observed)?;
        self.traffic(observed)?;
        self.losses(observed)?;
        self.reliable(observed)?;
        self.errors(observed)?;
        self.stages(observed)?;
        self.times(observed)?;
        self.memory(observed)?;
        let uptime = observed.uptime.as_secs_f64();
        self.single(
            "network_system_uptime_seconds",
            "gauge",
            "Time since counting began.",
            uptime,
        )
    }

    fn connections(&mut self, observed: &Observed) -> fmt::Result {
        let recorded = &observed.recorded;
        let name = "network_system_connections_total";
        self.family(name, "counter", "Connections that were opened.")?;
        for (key, work) in &observed.members {
            for transport in work.counts.transports() {
                let labels = with(key, "transport", transport.transport);
                self.sample(name, &labels, transport.total_connections)?;
            }
        }
        let recorded_labels = [("role", RECORDED), ("name", ""), ("transport", "")];
        self.sample(name, &recorded_labels, recorded.traffic.opened)?;

        let name = "network_system_connections";
        self.family(name, "gauge", "Connections that are open.")?;
        for (key, work) in &observed.members {
            for transport in work.counts.transports() {
                let labels = with(key, "transport", transport.transport);
                self.sample(name, &labels, transport.active_connections)?;
            }
        }
        self.sample(name, &recorded_labels, recorded.traffic.active)?;

        let help = "Connections that a limit refused, and attempts that failed.";
        let of = |work: &Work| work.counts.failed;
        let name = "network_system_failed_connections_total";
        self.members(name, help, observed, of)?;
        self.sample(name, &recorded_labels[..2], recorded.failed)
    }

    /// A counter for each server and client.
    fn members(
        &mut self,
        name: &str,
        help: &str,
        observed: &Observed,
        of: impl Fn(&Work) -> u64,
    ) -> fmt::Result {
        self.family(name, "counter", help)?;
        for (key, work) in &observed.members {
            self.sample(name, &member(key), of(work))?;
        }
        Ok(())
    }

    fn traffic(&mut self, observed: &Observed) -> fmt::Result {
        let recorded = &observed.recorded.traffic;
        let name = "network_system_messages_total";
        self.family(name, "counter", "Messages, requests and answers.")?;
        for (key, work) in &observed.members {
            for transport in work.counts.transports() {
                let [role, member] = member(key);
                let transport_label = ("transport", transport.transport);
                let sent = [role, member, transport_label, ("direction", "sent")];
                self.sample(name, &sent, transport.messages_sent)?;
                let received = [role, member, transport_label, ("direction", "received")];
                self.sample(name, &received, transport.messages_received)?;
            }
        }
        self.sample(name, &recorded_in("sent"), recorded.messages_sent)?;
        self.sample(name, &recorded_in("received"), recorded.messages_received)?;

        let name = "network_system_message_bytes_total";
        self.family(name, "counter", "Bytes of messages, without framing.")?;
        for (key, work) in &observed.members {
            for transport in work.counts.transports() {
                let [role, member] = member(key);
                let transport_label = ("transport", transport.transport);
                let sent = [role, member, transport_label, ("direction", "sent")];
                self.sample(name, &sent, transport.bytes_sent)?;
                let received = [role, member, transport_label, ("direction", "received")];
                self.sample(name, &received, transport.bytes_received)?;
            }
        }
        self.sample(name, &recorded_in("sent"), recorded.bytes_sent)?;
        self.sample(name, &recorded_in("received"), recorded.bytes_received)
    }

    fn losses(&mut self, observed: &Observed) -> fmt::Result {
        self.members(
            "network_system_messages_dropped_total",
            "Messages that the policy of a full queue dropped.",
            observed,
            |work| work.counts.dropped,
        )?;
        self.members(
            "network_system_messages_lost_total",
            "Messages that waited to be sent when their session ended.",
            observed,
            |work| work.counts.lost,
        )?;
        self.members(
            "network_system_messages_rate_limited_total",
            "Messages that were not let in because of a rate.",
            observed,
            |work| work.counts.rate_limited,
        )?;
        self.members(
            "network_system_sessions_throttled_total",
            "How often a session had to wait because of a rate.",
            observed,
            |work| work.counts.throttled,
        )?;
        self.members(
            "network_system_sessions_shed_total",
            "Sessions that were closed because the memory for queues was used up.",
            observed,
            |work| work.counts.shed,
        )
    }

    fn reliable(&mut self, observed: &Observed) -> fmt::Result {
        let name = "network_system_sessions_suspended";
        let help = "Reliable sessions that have no connection at the moment.";
        self.family(name, "gauge", help)?;
        for (key, work) in &observed.members {
            self.sample(name, &member(key), work.counts.suspended)?;
        }
        self.members(
            "network_system_sessions_resumed_total",
            "How often reliable sessions went on with another connection.",
            observed,
            |work| work.counts.resumed,
        )?;
        self.members(
            "network_system_sessions_expired_total",
            "Reliable sessions that were given up because nobody came back for them.",
            observed,
            |work| work.counts.expired,
        )?;
        self.members(
            "network_system_messages_unacknowledged_total",
            "Messages of reliable sessions that were sent and not acknowledged when their session ended.",
            observed,
            |work| work.counts.unacknowledged,
        )
    }

    fn errors(&mut self, observed: &Observed) -> fmt::Result {
        let by_kind = |errors: &super::ErrorCounts| {
            [
                ("send", errors.send_errors),
                ("receive", errors.receive_errors),
                ("timeout", errors.timeout_errors),
                ("connection", errors.connection_errors),
            ]
        };
        let mut recorded = super::ErrorCounts::default();
        recorded.record(&observed.recorded.errors);
        let recorded_labels = [("role", RECORDED), ("name", "")];

        let name = "network_system_errors_total";
        self.family(
            name,
            "counter",
            "Errors, each once, by the name of its code.",
        )?;
        for (key, work) in &observed.members {
            for (code, count) in work.counts.errors().by_code {
                self.sample(name, &with(key, "code", &code), count)?;
            }
        }
        for (code, count) in &recorded.by_code {
            let [role, member] = recorded_labels;
            self.sample(name, &[role, member, ("code", code)], count)?;
        }

        let name = "network_system_errors_by_kind_total";
        let help = "Errors by what they are about. One error may be of several kinds, or of none.";
        self.family(name, "counter", help)?;
        for (key, work) in &observed.members {
            for (kind, count) in by_kind(&work.counts.errors()) {
                self.sample(name, &with(key, "kind", kind), count)?;
            }
        }
        for (kind, count) in by_kind(&recorded) {
            let [role, member] = recorded_labels;
            self.sample(name, &[role, member, ("kind", kind)], count)?;
        }
        Ok(())
    }

    fn stages(&mut self, observed: &Observed) -> fmt::Result {
        type OfStage = fn(&StageStats) -> (u64, u64);
        let families: [(&str, &str, OfStage); 3] = [
            (
                "network_system_pipeline_messages_total",
                "Messages that went through a stage of a pipeline.",
                |stage| (stage.sent.messages, stage.received.messages),
            ),
            (
                "network_system_pipeline_message_bytes_total",
                "Bytes of these messages on the side of the session.",
                |stage| (stage.sent.message_bytes, stage.received.message_bytes),
            ),
            (
                "network_system_pipeline_encoded_bytes_total",
                "Bytes of these messages on the side of the link.",
                |stage| (stage.sent.encoded_bytes, stage.received.encoded_bytes),
            ),
        ];
        for (name, help, of) in families {
            self.family(name, "counter", help)?;
            for (key, stage) in stages(observed) {
                let [role, member] = member(key);
                let (sent, received) = of(stage);
                let stage = ("stage", &*stage.name);
                self.sample(name, &[role, member, stage, ("direction", "sent")], sent)?;
                let labels = [role, member, stage, ("direction", "received")];
                self.sample(name, &labels, received)?;
            }
        }
        let name = "network_system_pipeline_failures_total";
        let help = "Messages that a stage of a pipeline refused.";
        self.family(name, "counter", help)?;
        for (key, stage) in stages(observed) {
            self.sample(name, &with(key, "stage", &stage.name), stage.failures)?;
        }
        Ok(())
    }

    fn times(&mut self, observed: &Observed) -> fmt::Result {
        type OfWork = fn(&Work) -> &Distribution;
        let families: [(&str, &str, OfWork); 3] = [
            (
                "network_system_request_latency_seconds",
                "Time from a request of this side to its answer.",
                |work| &work.times.requests,
            ),
            (
                "network_system_ping_latency_seconds",
                "Time from a PING of this side to its PONG.",
                |work| &work.times.pings,
            ),
            (
                "network_system_handler_time_seconds",
                "Time that handlers needed for a message, sampled once a read.",
                |work| &work.times.handlers,
            ),
        ];
        for (name, help, of) in families {
            self.family(name, "histogram", help)?;
            for (key, work) in &observed.members {
                self.histogram(name, &member(key), of(work))?;
            }
        }
        let name = "network_system_recorded_latency_seconds";
        self.family(name, "histogram", "Times that the application recorded.")?;
        self.histogram(name, &[], &observed.sum.times.recorded)
    }

    fn histogram(&mut self, name: &str, labels: Labels<'_>, times: &Distribution) -> fmt::Result {
        let bucket = format!("{name}_bucket");
        let mut labels = labels.to_vec();
        let mut counts = times.counts().peekable();
        let mut below = 0;
        for (bound, le) in BUCKETS {
            while let Some((_, count)) = counts.next_if(|&(nanos, _)| nanos <= bound) {
                below += count;
            }
            labels.push(("le", le));
            self.sample(&bucket, &labels, below)?;
            labels.pop();
        }
        labels.push(("le", "+Inf"));
        self.sample(&bucket, &labels, times.count())?;
        labels.pop();
        self.sample(&format!("{name}_sum"), &labels, times.sum() / 1e9)?;
        self.sample(&format!("{name}_count"), &labels, times.count())
    }

    fn memory(&mut self, observed: &Observed) -> fmt::Result {
        let memory = &observed.memory;
        let gauges = [
            (
                "network_system_queued_bytes",
                "Bytes of messages that wait in the queues of sessions.",
                Some(memory.queued_bytes),
            ),
            (
                "network_system_queued_peak_bytes",
                "The most of these bytes at a time.",
                Some(memory.queued_bytes_peak),
            ),
            (
                "network_system_session_buffer_bytes",
                "Bytes in buffers of sessions.",
                Some(memory.session_buffer_bytes),
            ),
            (
                "network_system_session_buffer_peak_bytes",
                "The most of these bytes at a time.",
                Some(memory.session_buffer_bytes_peak),
            ),
            (
                "network_system_buffer_pool_bytes",
                "Bytes in buffers that workers share among their sessions.",
                Some(memory.buffer_pool_bytes),
            ),
            (
                "network_system_buffer_pool_peak_bytes",
                "The most of these bytes at a time.",
                Some(memory.buffer_pool_bytes_peak),
            ),
            (
                "network_system_bytes_per_session",
                "Bytes that a session takes on average.",
                Some(memory.bytes_per_session),
            ),
            (
                "network_system_active_buffers",
                "Buffers that hold something.",
                Some(memory.active_buffers),
            ),
            (
                "network_system_memory_budget_used_bytes",
                "Bytes that the budgets of memory count.",
                Some(memory.budget_bytes),
            ),
            (
                "network_system_memory_budget_limit_bytes",
                "What the budgets of memory allow.",
                Some(memory.budget_limit_bytes),
            ),
            (
                "network_system_recorded_memory_bytes",
                "What the application recorded last as its use of memory.",
                Some(memory.recorded_bytes),
            ),
            (
                "network_system_recorded_memory_peak_bytes",
                "The most of these bytes that it recorded.",
                Some(memory.recorded_bytes_peak),
            ),
            (
                "network_system_allocated_bytes",
                "Bytes that the process has allocated.",
                memory.allocated_bytes,
            ),
            (
                "network_system_allocated_peak_bytes",
                "The most of these bytes at a time.",
                memory.allocated_bytes_peak,
            ),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                self.single(name, "gauge", help, value)?;
            }
        }
        if let Some(count) = memory.allocations {
            let name = "network_system_allocations_total";
            self.single(
                name,
                "counter",
                "How often the process has allocated.",
                count,
            )?;
        }
        Ok(())
    }

    fn process(&mut self, process: &process::Process) -> fmt::Result {
        let metrics = [
            (
                "process_cpu_seconds_total",
                "counter",
                "Time of processors that the process has used.",
                process.cpu_seconds,
            ),
            (
                "process_open_fds",
                "gauge",
                "Open file descriptors.",
                process.open_fds.map(|count| count as f64),
            ),
            (
                "process_max_fds",
                "gauge",
                "The most file descriptors that may be open.",
                process.max_fds.map(|count| count as f64),
            ),
            (
                "process_resident_memory_bytes",
                "gauge",
                "Bytes of the process that are in memory.",
                process.resident_bytes.map(|bytes| bytes as f64),
            ),
            (
                "process_virtual_memory_bytes",
                "gauge",
                "Bytes of addresses that the process has.",
                process.virtual_bytes.map(|bytes| bytes as f64),
            ),
            (
                "process_start_time_seconds",
                "gauge",
                "When the process was started, in seconds since 1970.",
                process.start_time,
            ),
        ];
        for (name, kind, help, value) in metrics {
            if let Some(value) = value {
                self.single(name, kind, help, value)?;
            }
        }
        Ok(())
    }
}

/// The labels of a server or client.
fn member(key: &Key) -> [(&'static str, &str); 2] {
    [("role", key.0.name()), ("name", &key.1)]
}

/// The same with one more.
fn with<'a>(key: &'a Key, label: &'static str, value: &'a str) -> [(&'static str, &'a str); 3] {
    let [role, name] = member(key);
    [role, name, (label, value)]
}

/// The labels of recorded messages.
fn recorded_in(direction: &'static str) -> [(&'static str, &'static str); 4] {
    [
        ("role", RECORDED),
        ("name", ""),
        ("transport", ""),
        ("direction", direction),
    ]
}

fn stages(observed: &Observed) -> impl Iterator<Item = (&Key, &StageStats)> {
    observed.members.iter().flat_map(|(key, work)| {
        let stages = work.counts.stages.iter();
        stages.map(move |stage| (key, stage))
    })
}

/// The value of a label, without what would end it.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

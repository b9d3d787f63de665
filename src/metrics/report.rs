//! Metrics as a text for people.

use std::fmt::{self, Write};
use std::time::Duration;

use super::latency::Latency;
use super::snapshot::{ErrorCounts, MemberMetrics, MemoryMetrics, PerformanceMetrics};

/// The longest name that is shown whole.
const NAME_MAX: usize = 64;

/// Writes a report of about two dozen lines, and some more for each server and client.
pub(super) fn of(metrics: &PerformanceMetrics) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, metrics);
    text
}

fn write(out: &mut String, metrics: &PerformanceMetrics) -> fmt::Result {
    writeln!(out, "uptime       {}", Time(metrics.uptime))?;
    match metrics.last_update {
        Some(ago) => writeln!(out, "last message {} ago", Time(ago))?,
        None => writeln!(out, "last message none yet")?,
    }
    writeln!(out)?;
    writeln!(
        out,
        "connections  {:>12} open  {:>12} in all  {:>12} failed  {:>10.1} /s",
        metrics.active_connections,
        metrics.total_connections,
        metrics.failed_connections,
        metrics.connections_per_second
    )?;
    writeln!(
        out,
        "messages     {:>12} sent  {:>12} received {:>10} dropped {:>10.1} /s",
        metrics.messages_sent,
        metrics.messages_received,
        metrics.messages_dropped,
        metrics.messages_per_second
    )?;
    writeln!(
        out,
        "bytes        {:>12} sent  {:>12} received {:>10} lost    {:>10}/s",
        Bytes(metrics.bytes_sent).to_string(),
        Bytes(metrics.bytes_received).to_string(),
        metrics.messages_lost,
        Bytes(metrics.bytes_per_second as u64).to_string()
    )?;
    writeln!(
        out,
        "limits       {:>12} waits for rates {:>6} rate limited {:>10} sessions shed",
        metrics.sessions_throttled, metrics.messages_rate_limited, metrics.sessions_shed
    )?;
    writeln!(
        out,
        "reliable     {:>12} suspended {:>9} resumed {:>9} expired {:>9} unacknowledged",
        metrics.sessions_suspended,
        metrics.sessions_resumed,
        metrics.sessions_expired,
        metrics.messages_unacknowledged
    )?;
    writeln!(out)?;
    latencies(
        out,
        "",
        &[
            ("all times", metrics.latency),
            ("requests", metrics.request_latency),
            ("pings", metrics.ping_latency),
            ("handlers", metrics.handler_time),
            ("recorded", metrics.recorded_latency),
        ],
    )?;
    writeln!(out)?;
    errors(out, "", &metrics.errors)?;
    memory(out, &metrics.memory)?;
    for member in &metrics.members {
        writeln!(out)?;
        write_member(out, member)?;
    }
    Ok(())
}

fn latencies(out: &mut String, indent: &str, kinds: &[(&str, Latency)]) -> fmt::Result {
    let taken: Vec<_> = kinds.iter().filter(|kind| kind.1.count > 0).collect();
    if taken.is_empty() {
        return writeln!(out, "{indent}times        none taken yet");
    }
    writeln!(
        out,
        "{indent}{:<12} {:>12} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "times", "count", "average", "min", "p50", "p95", "p99", "max"
    )?;
    for (name, latency) in taken {
        let cells = [
            latency.average,
            latency.min,
            latency.p50,
            latency.p95,
            latency.p99,
            latency.max,
        ];
        write!(out, "{indent}{name:<12} {:>12}", latency.count)?;
        for cell in cells {
            write!(out, " {:>9}", Time(cell).to_string())?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn errors(out: &mut String, indent: &str, errors: &ErrorCounts) -> fmt::Result {
    writeln!(
        out,
        "{indent}errors       {} sending, {} receiving, {} timeouts, {} connections",
        errors.send_errors, errors.receive_errors, errors.timeout_errors, errors.connection_errors
    )?;
    for (code, count) in &errors.by_code {
        writeln!(out, "{indent}  {count:>10} {}", Name(code))?;
    }
    Ok(())
}

fn memory(out: &mut String, memory: &MemoryMetrics) -> fmt::Result {
    writeln!(
        out,
        "memory       {} queued (peak {}), {} in buffers (peak {}), {} in pools; {} queues and buffers in use",
        Bytes(memory.queued_bytes),
        Bytes(memory.queued_bytes_peak),
        Bytes(memory.session_buffer_bytes),
        Bytes(memory.session_buffer_bytes_peak),
        Bytes(memory.buffer_pool_bytes),
        memory.active_buffers
    )?;
    let process = [
        ("resident", memory.resident_bytes),
        ("allocated", memory.allocated_bytes),
        ("allocated at most", memory.allocated_bytes_peak),
    ];
    for (name, bytes) in process {
        if let Some(bytes) = bytes {
            writeln!(out, "  {:>12} {name}", Bytes(bytes).to_string())?;
        }
    }
    if memory.recorded_bytes_peak > 0 {
        let (now, peak) = (memory.recorded_bytes, memory.recorded_bytes_peak);
        let now = Bytes(now).to_string();
        writeln!(out, "  {now:>12} recorded (peak {})", Bytes(peak))?;
    }
    Ok(())
}

fn write_member(out: &mut String, member: &MemberMetrics) -> fmt::Result {
    writeln!(out, "{} \"{}\"", member.role.name(), Name(&member.name))?;
    for transport in &member.transports {
        writeln!(
            out,
            "  {:<10} {:>8} open {:>10} in all {:>12} sent {:>10} {:>12} received {:>10}",
            transport.transport,
            transport.active_connections,
            transport.total_connections,
            transport.messages_sent,
            Bytes(transport.bytes_sent).to_string(),
            transport.messages_received,
            Bytes(transport.bytes_received).to_string()
        )?;
    }
    writeln!(
        out,
        "  {} connections failed, {} messages dropped, {} lost",
        member.failed_connections, member.messages_dropped, member.messages_lost
    )?;
    for stage in &member.stages {
        writeln!(
            out,
            "  stage {}: {} sent at {:.3}, {} received at {:.3}, {} failures",
            Name(&stage.name),
            stage.sent.messages,
            stage.sent.ratio(),
            stage.received.messages,
            stage.received.ratio(),
            stage.failures
        )?;
    }
    latencies(
        out,
        "  ",
        &[
            ("requests", member.request_latency),
            ("pings", member.ping_latency),
            ("handlers", member.handler_time),
        ],
    )?;
    errors(out, "  ", &member.errors)
}

/// A name in one line, which may come from anywhere.
struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.floor_char_boundary(NAME_MAX)];
        write!(f, "{}", shown.escape_debug())?;
        if shown.len() < self.0.len() {
            f.write_str("…")?;
        }
        Ok(())
    }
}

/// Bytes with three or four digits.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        if self.0 < 1_024 {
            return write!(f, "{} B", self.0);
        }
        for unit in ["KiB", "MiB", "GiB", "TiB"] {
            value /= 1_024.0;
            if value < 1_024.0 {
                return write!(f, "{value:.1} {unit}");
            }
        }
        write!(f, "{:.1} PiB", value / 1_024.0)
    }
}

/// A time with three digits or so.
struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        match nanos {
            0..1_000 => write!(f, "{nanos} ns"),
            1_000..1_000_000 => write!(f, "{:.1} µs", nanos as f64 / 1e3),
            1_000_000..1_000_000_000 => write!(f, "{:.1} ms", nanos as f64 / 1e6),
            _ if self.0.as_secs() < 120 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            _ => {
                let minutes = self.0.as_secs() / 60;
                match (minutes / 1_440, minutes / 60 % 24, minutes % 60) {
                    (0, 0, minutes) => write!(f, "{minutes} min"),
                    (0, hours, minutes) => write!(f, "{hours} h {minutes} min"),
                    (days, hours, _) => write!(f, "{days} d {hours} h"),
                }
            }
        }
    }
}

//! What a process holds at one moment.

use std::fs;

use serde_json::{Value, json};

/// What the system and the runtime know of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Process {
    pub(crate) resident_bytes: u64,
    /// `None` without the counting allocator.
    pub(crate) allocated_bytes: Option<u64>,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
    /// Tasks of the runtime that have not ended.
    pub(crate) tasks: u64,
}

/// What the server says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    pub(crate) process: Process,
    pub(crate) sessions: u64,
    /// Those of them that have no connection.
    pub(crate) suspended: u64,
    /// How often one has got another connection, and how many were given up.
    pub(crate) resumed: u64,
    pub(crate) expired: u64,
    pub(crate) groups: u64,
    /// Bytes that wait in outboxes.
    pub(crate) queued_bytes: u64,
    /// Bytes that sessions hold between their turns.
    pub(crate) session_buffer_bytes: u64,
    /// Bytes in the spare buffers of workers.
    pub(crate) buffer_pool_bytes: u64,
    pub(crate) connections: u64,
    pub(crate) messages: u64,
    pub(crate) errors: u64,
}

impl Process {
    /// This process; inside a runtime.
    pub(crate) fn own(allocated_bytes: Option<u64>) -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
        let descriptors = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Process {
            // The kernel may show `VmRSS` some hundred KiB off; `Rss` here is counted page by page.
            resident_bytes: 1024 * number_after(&rollup, "Rss:"),
            allocated_bytes,
            // One of them is the folder that is being read.
            descriptors: descriptors.saturating_sub(1) as u64,
            threads: number_after(&status, "Threads:"),
            tasks: tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks() as u64,
        }
    }

    pub(crate) fn to_json(self) -> Value {
        json!({
            "resident_bytes": self.resident_bytes,
            "allocated_bytes": self.allocated_bytes,
            "descriptors": self.descriptors,
            "threads": self.threads,
            "tasks": self.tasks,
        })
    }

    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        Some(Process {
            resident_bytes: value["resident_bytes"].as_u64()?,
            allocated_bytes: value["allocated_bytes"].as_u64(),
            descriptors: value["descriptors"].as_u64()?,
            threads: value["threads"].as_u64()?,
            tasks: value["tasks"].as_u64()?,
        })
    }
}

impl Sample {
    pub(crate) fn to_json(self) -> Value {
        json!({
            "process": self.process.to_json(),
            "sessions": self.sessions,
            "suspended": self.suspended,
            "resumed": self.resumed,
            "expired": self.expired,
            "groups": self.groups,
            "queued_bytes": self.queued_bytes,
            "session_buffer_bytes": self.session_buffer_bytes,
            "buffer_pool_bytes": self.buffer_pool_bytes,
            "connections": self.connections,
            "messages": self.messages,
            "errors": self.errors,
        })
    }

    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        Some(Sample {
            process: Process::from_json(&value["process"])?,
            sessions: value["sessions"].as_u64()?,
            suspended: value["suspended"].as_u64()?,
            resumed: value["resumed"].as_u64()?,
            expired: value["expired"].as_u64()?,
            groups: value["groups"].as_u64()?,
            queued_bytes: value["queued_bytes"].as_u64()?,
            session_buffer_bytes: value["session_buffer_bytes"].as_u64()?,
            buffer_pool_bytes: value["buffer_pool_bytes"].as_u64()?,
            connections: value["connections"].as_u64()?,
            messages: value["messages"].as_u64()?,
            errors: value["errors"].as_u64()?,
        })
    }
}

/// The number that stands behind a word, in files of `/proc`.
fn number_after(text: &str, word: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(word));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_what_was_meant() {
        let sample = Sample {
            process: Process {
                resident_bytes: 1,
                allocated_bytes: Some(2),
                descriptors: 3,
                threads: 4,
                tasks: 5,
            },
            sessions: 6,
            suspended: 14,
            resumed: 15,
            expired: 16,
            groups: 7,
            queued_bytes: 8,
            session_buffer_bytes: 9,
            buffer_pool_bytes: 10,
            connections: 11,
            messages: 12,
            errors: 13,
        };
        assert_eq!(Sample::from_json(&sample.to_json()), Some(sample));
        assert_eq!(Sample::from_json(&json!({})), None);
    }

    #[test]
    fn a_process_knows_itself() {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.build().expect("a runtime");
        let process = runtime.block_on(async { Process::own(None) });
        assert!(process.resident_bytes > 0 && process.descriptors >= 3 && process.threads >= 1);
    }
}

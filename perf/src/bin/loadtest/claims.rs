//! What the documents of the C++ family claim, beside what is measured here.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use serde_json::Value;

use crate::outcome::Outcome;
use crate::tables::{grouped, micros, scaled};

/// What is said of a case.
#[derive(Clone, Copy)]
enum Figure {
    /// Round trips a second, and their median.
    Rate,
    /// The rate and how many connections there were.
    Connected,
    Connections,
    /// Bytes for a connection.
    Memory,
    /// The percentiles 50 and 99.
    Latency,
    /// Bytes a second, each way.
    Bandwidth,
}

struct Claim {
    what: &'static str,
    theirs: &'static str,
    machine: &'static str,
    case: &'static str,
    figure: Figure,
}

const M1: &str = "Apple M1, 8 cores";
const I7: &str = "i7-12700K, gigabit LAN";

/// Of their in-process benches: what a message takes, and what they make of it. They allocate and copy; nothing is sent.
const IN_PROCESS: [(&str, &str); 4] = [
    ("64B", "769 k/s, 1.3 µs"),
    ("256B", "305 k/s, 3.27 µs"),
    ("1KB", "128 k/s, 7.8 µs"),
    ("8KB", "21 k/s, 48 µs"),
];

const CLAIMS: [Claim; 13] = [
    Claim {
        what: "64 B, 1 connection",
        theirs: "769 k/s, p50 < 1 µs",
        machine: M1,
        case: "tcp/one/64B",
        figure: Figure::Rate,
    },
    Claim {
        what: "1 KB, 1 connection",
        theirs: "305 k/s, p50 < 1 µs",
        machine: M1,
        case: "tcp/one/1KB",
        figure: Figure::Rate,
    },
    Claim {
        what: "64 KB, 1 connection",
        theirs: "45 k/s, p50 2.1 µs",
        machine: M1,
        case: "tcp/one/64KB",
        figure: Figure::Rate,
    },
    Claim {
        what: "100 connections",
        theirs: "285 k/s, p50 1.8 µs",
        machine: M1,
        case: "tcp/pipelined/100",
        figure: Figure::Rate,
    },
    Claim {
        what: "1,000 connections",
        theirs: "250 k/s, p50 3.2 µs",
        machine: M1,
        case: "tcp/pipelined/1000",
        figure: Figure::Rate,
    },
    Claim {
        what: "5,000 connections",
        theirs: "200 k/s",
        machine: M1,
        case: "tcp/pipelined/5000",
        figure: Figure::Rate,
    },
    Claim {
        what: "connections at a time",
        theirs: "10,000",
        machine: I7,
        case: "tcp/pipelined/10000",
        figure: Figure::Connected,
    },
    Claim {
        what: "1 KB on localhost",
        theirs: "100 k/s",
        machine: I7,
        case: "tcp/throughput/1KB",
        figure: Figure::Rate,
    },
    Claim {
        what: "new connections",
        theirs: "5 k/s",
        machine: I7,
        case: "tcp/connect",
        figure: Figure::Connections,
    },
    Claim {
        what: "memory of a connection",
        theirs: "about 8 KB",
        machine: I7,
        case: "tcp/idle/10000",
        figure: Figure::Memory,
    },
    Claim {
        what: "latency",
        theirs: "< 1 ms",
        machine: I7,
        case: "tcp/open/10000",
        figure: Figure::Latency,
    },
    Claim {
        what: "a round trip",
        theirs: "p50 < 50 µs",
        machine: "no machine named",
        case: "tcp/closed/1",
        figure: Figure::Rate,
    },
    Claim {
        what: "bandwidth",
        theirs: "800 MB/s",
        machine: I7,
        case: "tcp/throughput/64KB",
        figure: Figure::Bandwidth,
    },
];

/// The table; claims whose case was not run are left out.
pub(crate) fn markdown(outcomes: &[Outcome]) -> String {
    let mut rows = String::new();
    for (size, theirs) in IN_PROCESS {
        if let Some(ours) = in_process(size) {
            let _ = writeln!(
                rows,
                "| in process, {size} | {theirs} (i7-12700K; allocates and copies, sends nothing) | {}/s ({ours:.0} ns): \
                 from `send` to the handler | `benches/run wall MessageThroughput` |",
                scaled(1e9 / ours),
            );
        }
    }
    for claim in &CLAIMS {
        let found = outcomes.iter().find(|outcome| outcome.name() == claim.case);
        if let Some(outcome) = found {
            let _ = writeln!(
                rows,
                "| {} | {} ({}) | {} | `{}` |",
                claim.what,
                claim.theirs,
                claim.machine,
                ours(outcome, claim.figure),
                claim.case
            );
        }
    }
    match rows.is_empty() {
        true => rows,
        false => format!(
            "### Beside the reference's claims\n\nTheirs are from the documents of the C++ family, which say little of how they were \
             measured; ours are round trips over TCP on loopback, both sides on this machine, each message there and back \
             counted once.\n\n| | claim | measured | by |\n|---|---|---|---|\n{rows}\n"
        ),
    }
}

fn ours(outcome: &Outcome, figure: Figure) -> String {
    let at = |which| outcome.latency(which).map_or("–".to_owned(), micros);
    let rate = scaled(outcome.rate());
    match figure {
        Figure::Rate => format!("{rate}/s, p50 {}", at("p50")),
        Figure::Connected => format!("{} with {rate}/s", grouped(outcome.connected())),
        Figure::Connections => format!("{rate}/s, p50 {}", at("p50")),
        Figure::Memory => format!("{} B", grouped(outcome.bytes_per_connection())),
        Figure::Latency => format!("p50 {}, p99 {} at 10,000/s", at("p50"), at("p99")),
        Figure::Bandwidth => format!(
            "{} MB/s each way",
            grouped(outcome.bytes_per_second() / 1e6)
        ),
    }
}

/// Nanoseconds of a message in process, if the bench has been run here.
fn in_process(size: &str) -> Option<f64> {
    let program = env::current_exe().ok()?;
    let target: &Path = program.parent()?.parent()?;
    let path = target.join(format!(
        "criterion/MessageThroughput/{size}/new/estimates.json"
    ));
    let estimates: Value = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
    estimates.get("median")?.get("point_estimate")?.as_f64()
}

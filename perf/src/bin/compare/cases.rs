//! What is measured, against which baselines, and what is wanted.

use std::fmt;

/// One kind of load.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) work: Work,
    pub(crate) baselines: Vec<Baseline>,
}

/// What a server does with messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Echo,
    Broadcast,
}

/// What the load generator does.
pub(crate) enum Work {
    /// Runs with these arguments for the measured window.
    Window(&'static str),
    /// Holds this many idle connections while memory is read.
    Idle(usize),
}

/// A baseline server, and what a candidate should reach.
pub(crate) struct Baseline {
    pub(crate) name: &'static str,
    pub(crate) wanted: Option<Wanted>,
}

/// The figure that a candidate should reach.
#[derive(Clone, Copy)]
pub(crate) enum Wanted {
    /// The baseline's CPU time for a message, divided by the candidate's.
    CpuRatioAtLeast(f64),
    /// The candidate's 99th percentile of latency, divided by the baseline's.
    P99RatioAtMost(f64),
    /// The candidate's resident bytes for each idle connection.
    BytesAtMost(f64),
}

impl Wanted {
    pub(crate) fn is_met(self, cpu_ratio: f64, p99_ratio: f64, bytes: f64) -> bool {
        match self {
            Self::CpuRatioAtLeast(bound) => cpu_ratio >= bound,
            Self::P99RatioAtMost(bound) => p99_ratio <= bound,
            Self::BytesAtMost(bound) => bytes <= bound,
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CpuRatioAtLeast(bound) => write!(f, "CPU ≥ {bound:.2}"),
            Self::P99RatioAtMost(bound) => write!(f, "p99 ≤ {bound:.2}"),
            Self::BytesAtMost(bound) => write!(f, "≤ {bound:.0} B"),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<18}", self.name)?;
        match self.work {
            Work::Window(arguments) => write!(f, "{arguments}")?,
            Work::Idle(count) => write!(f, "idle --connections {count}")?,
        }
        for baseline in &self.baselines {
            write!(f, "; {}", baseline.name)?;
            if let Some(wanted) = baseline.wanted {
                write!(f, " ({wanted})")?;
            }
        }
        Ok(())
    }
}

/// All cases, in the order in which they run.
pub(crate) fn all() -> Vec<Case> {
    use Wanted::{BytesAtMost, CpuRatioAtLeast, P99RatioAtMost};

    let case = |name, role, work, baselines: &[(&'static str, Option<Wanted>)]| Case {
        name,
        role,
        work,
        baselines: baselines
            .iter()
            .map(|&(name, wanted)| Baseline { name, wanted })
            .collect(),
    };
    let echo = |name, arguments, msgi, tokio| {
        let baselines = [
            ("epoll-msgi", Some(CpuRatioAtLeast(msgi))),
            ("tokio-framed", Some(CpuRatioAtLeast(tokio))),
        ];
        case(name, Role::Echo, Work::Window(arguments), &baselines)
    };
    let against = |name, role, arguments, baseline, wanted| {
        case(
            name,
            role,
            Work::Window(arguments),
            &[(baseline, Some(wanted))],
        )
    };
    let idle = |name, count| {
        let bytes = Some(BytesAtMost(1792.0));
        let baselines = [("epoll-bytes", bytes), ("tokio-framed", None)];
        case(name, Role::Echo, Work::Idle(count), &baselines)
    };
    vec![
        echo(
            "echo-64-c100-w1",
            "echo --size 64 --connections 100 --outstanding 1",
            0.90,
            0.97,
        ),
        echo(
            "echo-64-c8-w64",
            "echo --size 64 --connections 8 --outstanding 64",
            0.85,
            1.30,
        ),
        echo(
            "echo-64-c100-w64",
            "echo --size 64 --connections 100 --outstanding 64",
            0.85,
            1.30,
        ),
        echo(
            "echo-1k-c8-w64",
            "echo --size 1024 --connections 8 --outstanding 64",
            0.90,
            1.30,
        ),
        echo(
            "echo-1k-c100-w64",
            "echo --size 1024 --connections 100 --outstanding 64",
            0.90,
            1.30,
        ),
        against(
            "bulk-64k",
            Role::Echo,
            "echo --size 65536 --connections 8 --outstanding 4",
            "epoll-bytes",
            CpuRatioAtLeast(0.92),
        ),
        // More than one message of this size outstanding makes the kernel drop
        // and resend segments even over loopback, which measures nothing.
        against(
            "bulk-1m",
            Role::Echo,
            "echo --size 1048576 --connections 8 --outstanding 1",
            "epoll-bytes",
            CpuRatioAtLeast(0.92),
        ),
        against(
            "latency-300",
            Role::Echo,
            "echo --size 64 --connections 300 --outstanding 1",
            "epoll-bytes",
            P99RatioAtMost(1.30),
        ),
        against(
            "latency-1000",
            Role::Echo,
            "echo --size 64 --connections 1000 --outstanding 1",
            "epoll-bytes",
            P99RatioAtMost(1.30),
        ),
        against(
            "broadcast-1000-64",
            Role::Broadcast,
            "broadcast --size 64 --connections 1000 --outstanding 1",
            "epoll-broadcast",
            CpuRatioAtLeast(0.88),
        ),
        against(
            "broadcast-1000-1k",
            Role::Broadcast,
            "broadcast --size 1024 --connections 1000 --outstanding 1",
            "epoll-broadcast",
            CpuRatioAtLeast(0.88),
        ),
        idle("idle-5000", 5_000),
        idle("idle-10000", 10_000),
        against(
            "connect",
            Role::Echo,
            "connect --size 64 --in-flight 32",
            "epoll-msgi",
            CpuRatioAtLeast(0.90),
        ),
    ]
}

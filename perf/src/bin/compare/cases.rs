//! What is measured, against which baselines, and what is wanted.

use std::fmt;

use network_system_perf::scheme::Scheme;

use self::Wanted::{BytesAtMost, CpuRatioAtLeast, P99RatioAtMost};

/// One kind of load.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) scheme: Scheme,
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
    /// Holds this many idle connections while memory is read, opened with these
    /// arguments.
    Idle {
        count: usize,
        arguments: &'static str,
    },
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
        write!(f, "{:<18} {:<4}", self.name, self.scheme)?;
        match self.work {
            Work::Window(arguments) => write!(f, "{arguments}")?,
            Work::Idle { count, arguments } => {
                write!(f, "idle --connections {count} {arguments}")?;
            }
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

impl Case {
    /// Whether the load generator knows the case with reliable sessions.
    pub(crate) fn can_be_reliable(&self) -> bool {
        let is_known = match self.work {
            Work::Window(arguments) => arguments.starts_with("echo "),
            Work::Idle { .. } => true,
        };
        is_known && matches!(self.scheme, Scheme::Tcp | Scheme::Tls)
    }
}

/// All cases, in the order in which they run.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = tcp();
    cases.extend(websocket());
    cases.extend(tls());
    cases.extend(udp());
    cases.extend(idle());
    cases
}

/// A baseline and what is wanted against it.
type Against = (&'static str, Option<Wanted>);

fn case(name: &'static str, role: Role, scheme: Scheme, work: Work, baselines: &[Against]) -> Case {
    Case {
        name,
        role,
        scheme,
        work,
        baselines: baselines
            .iter()
            .map(|&(name, wanted)| Baseline { name, wanted })
            .collect(),
    }
}

fn tcp() -> Vec<Case> {
    let window = |name, role, arguments, baselines: &[Against]| {
        case(name, role, Scheme::Tcp, Work::Window(arguments), baselines)
    };
    let echo = |name, arguments, msgi, tokio| {
        let baselines = [
            ("epoll-msgi", Some(CpuRatioAtLeast(msgi))),
            ("tokio-framed", Some(CpuRatioAtLeast(tokio))),
        ];
        window(name, Role::Echo, arguments, &baselines)
    };
    let against = |name, role, arguments, baseline, wanted| {
        window(name, role, arguments, &[(baseline, Some(wanted))])
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
        against(
            "connect",
            Role::Echo,
            "connect --size 64 --in-flight 32",
            "epoll-msgi",
            CpuRatioAtLeast(0.90),
        ),
    ]
}

fn websocket() -> Vec<Case> {
    let echo = |name, arguments, epoll, crates| {
        let baselines = [
            ("epoll-ws", epoll),
            ("tungstenite-ws", crates),
            ("fastwebsockets-ws", crates),
            ("sockudo-ws", crates),
        ]
        .map(|(name, wanted): (_, Option<f64>)| (name, wanted.map(CpuRatioAtLeast)));
        let work = Work::Window(arguments);
        case(name, Role::Echo, Scheme::Ws, work, &baselines)
    };
    let waiting = |name, arguments| echo(name, arguments, Some(0.80), Some(0.90));
    let small = |name, arguments| echo(name, arguments, Some(0.80), Some(1.50));
    let large = |name, arguments| echo(name, arguments, Some(0.80), Some(1.20));
    vec![
        waiting(
            "ws-64-c8-w1",
            "echo --size 64 --connections 8 --outstanding 1",
        ),
        waiting(
            "ws-64-c100-w1",
            "echo --size 64 --connections 100 --outstanding 1",
        ),
        small(
            "ws-64-c8-w64",
            "echo --size 64 --connections 8 --outstanding 64",
        ),
        small(
            "ws-64-c100-w64",
            "echo --size 64 --connections 100 --outstanding 64",
        ),
        waiting(
            "ws-1k-c8-w1",
            "echo --size 1024 --connections 8 --outstanding 1",
        ),
        waiting(
            "ws-1k-c100-w1",
            "echo --size 1024 --connections 100 --outstanding 1",
        ),
        large(
            "ws-1k-c8-w64",
            "echo --size 1024 --connections 8 --outstanding 64",
        ),
        large(
            "ws-1k-c100-w64",
            "echo --size 1024 --connections 100 --outstanding 64",
        ),
        echo(
            "ws-64k",
            "echo --size 65536 --connections 8 --outstanding 4",
            None,
            None,
        ),
    ]
}

fn tls() -> Vec<Case> {
    let echo = |name, arguments, wanted: Option<f64>| {
        let baselines = [
            ("tokio-rustls", wanted.map(CpuRatioAtLeast)),
            ("tokio-rustls-buffered", None),
        ];
        let work = Work::Window(arguments);
        case(name, Role::Echo, Scheme::Tls, work, &baselines)
    };
    vec![
        echo(
            "tls-64-c8-w1",
            "echo --size 64 --connections 8 --outstanding 1",
            Some(1.10),
        ),
        echo(
            "tls-64-c100-w1",
            "echo --size 64 --connections 100 --outstanding 1",
            Some(1.10),
        ),
        echo(
            "tls-64-c8-w64",
            "echo --size 64 --connections 8 --outstanding 64",
            Some(1.10),
        ),
        echo(
            "tls-64-c100-w64",
            "echo --size 64 --connections 100 --outstanding 64",
            Some(1.10),
        ),
        echo(
            "tls-64k",
            "echo --size 65536 --connections 8 --outstanding 4",
            None,
        ),
    ]
}

fn udp() -> Vec<Case> {
    let echo = |name, arguments| {
        let baselines = [("mmsg-udp", Some(CpuRatioAtLeast(0.80)))];
        let work = Work::Window(arguments);
        case(name, Role::Echo, Scheme::Udp, work, &baselines)
    };
    vec![
        echo(
            "udp-64-c8-w64",
            "echo --size 64 --connections 8 --outstanding 64",
        ),
        echo(
            "udp-64-c100-w1",
            "echo --size 64 --connections 100 --outstanding 1",
        ),
        echo(
            "udp-1k-c8-w64",
            "echo --size 1024 --connections 8 --outstanding 64",
        ),
        echo(
            "udp-1k-c100-w1",
            "echo --size 1024 --connections 100 --outstanding 1",
        ),
    ]
}

fn idle() -> Vec<Case> {
    // What is wanted does not depend on a baseline: it stands with the first one.
    let idle = |name, scheme, count, arguments, bytes, baselines: &[&'static str]| {
        let baselines: Vec<Against> = baselines
            .iter()
            .enumerate()
            .map(|(index, &name)| (name, (index == 0).then_some(BytesAtMost(bytes))))
            .collect();
        let work = Work::Idle { count, arguments };
        case(name, Role::Echo, scheme, work, &baselines)
    };
    let tcp = ["epoll-bytes", "tokio-framed"];
    let websocket = [
        "epoll-ws",
        "tungstenite-ws",
        "fastwebsockets-ws",
        "sockudo-ws",
    ];
    vec![
        idle("idle-5000", Scheme::Tcp, 5_000, "", 1792.0, &tcp),
        idle("idle-10000", Scheme::Tcp, 10_000, "", 1792.0, &tcp),
        idle("ws-idle", Scheme::Ws, 10_000, "", 2304.0, &websocket),
        idle(
            "ws-deflate-idle",
            Scheme::Ws,
            10_000,
            "--deflate --size 1024",
            3072.0,
            &["sockudo-ws"],
        ),
        idle(
            "tls-idle",
            Scheme::Tls,
            10_000,
            "",
            8192.0,
            &["tokio-rustls"],
        ),
        idle(
            "wss-idle",
            Scheme::Wss,
            10_000,
            "",
            9216.0,
            &["tungstenite-wss"],
        ),
    ]
}

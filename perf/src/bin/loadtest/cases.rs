//! What is measured.

use std::fmt;

use network_system_perf::scheme::Scheme;

/// What a case shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The rate of messages of one size, with enough of them on their way; `connections` of them.
    Throughput,
    /// The same on one connection.
    One,
    /// Latency while so many messages a second leave at their time.
    Open(usize),
    /// Latency and rate when each connection waits for its answer.
    Closed,
    /// The rate of many connections with 16 messages on their way each.
    Pipelined,
    /// Connections one after the other.
    Connect,
    /// The memory of connections that say nothing.
    Idle,
}

/// A run of `netsys bench` against a server that was started for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) scheme: Scheme,
    pub(crate) kind: Kind,
    pub(crate) connections: usize,
    /// Bytes of a message.
    pub(crate) size: usize,
    /// Messages on their way on each connection.
    pub(crate) window: usize,
}

/// The case's name: in results, labels and options.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case {
            scheme,
            connections,
            ..
        } = self;
        let size = size_name(self.size);
        match self.kind {
            Kind::Throughput => write!(f, "{scheme}/throughput/{size}"),
            Kind::One => write!(f, "{scheme}/one/{size}"),
            Kind::Open(rate) => write!(f, "{scheme}/open/{rate}"),
            Kind::Closed => write!(f, "{scheme}/closed/{connections}"),
            Kind::Pipelined => write!(f, "{scheme}/pipelined/{connections}"),
            Kind::Connect => write!(f, "{scheme}/connect"),
            Kind::Idle => write!(f, "{scheme}/idle/{connections}"),
        }
    }
}

/// `1024` as `1KB`, as the classic benchmarks write it.
pub(crate) fn size_name(size: usize) -> String {
    match size {
        _ if size >= 1 << 20 && size.is_multiple_of(1 << 20) => format!("{}MB", size >> 20),
        _ if size >= 1 << 10 && size.is_multiple_of(1 << 10) => format!("{}KB", size >> 10),
        _ => format!("{size}B"),
    }
}

impl Case {
    fn new(scheme: Scheme, kind: Kind, connections: usize, size: usize, window: usize) -> Self {
        Case {
            scheme,
            kind,
            connections,
            size,
            window,
        }
    }

    /// The options of `netsys bench` for it, but for the times.
    pub(crate) fn options(&self) -> Vec<String> {
        let mut words = vec!["--connections".to_owned(), self.connections.to_string()];
        let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
        match self.kind {
            Kind::Connect => option("--mode", "connect".to_owned()),
            Kind::Idle => option("--mode", "idle".to_owned()),
            Kind::Open(rate) => {
                option("--size", self.size.to_string());
                option("--rate", rate.to_string());
            }
            Kind::Throughput | Kind::One | Kind::Closed | Kind::Pipelined => {
                option("--size", self.size.to_string());
                option("--window", self.window.to_string());
            }
        }
        words
    }

    /// Whether how much was done says something; a fixed rate does not.
    pub(crate) fn has_rate(&self) -> bool {
        !matches!(self.kind, Kind::Open(_) | Kind::Idle)
    }
}

/// All cases, or those of a run that only shows that everything works.
pub(crate) fn all(is_quick: bool) -> Vec<Case> {
    Scheme::ALL
        .into_iter()
        .flat_map(|scheme| match is_quick {
            true => quick(scheme),
            false => whole(scheme),
        })
        .collect()
}

fn quick(scheme: Scheme) -> Vec<Case> {
    let mut cases = vec![
        Case::new(scheme, Kind::Throughput, 10, 64, 64),
        Case::new(scheme, Kind::Open(1_000), 10, 64, 1),
        Case::new(scheme, Kind::Closed, 100, 64, 1),
    ];
    if scheme != Scheme::Udp {
        cases.push(Case::new(scheme, Kind::Connect, 10, 0, 1));
        cases.push(Case::new(scheme, Kind::Idle, 100, 0, 1));
    }
    cases
}

fn whole(scheme: Scheme) -> Vec<Case> {
    // Inside TLS, what is different is what encryption costs.
    let is_plain = !scheme.is_encrypted();
    // A datagram is lost when its socket's buffer is full: fewer at a time.
    let is_lossy = scheme == Scheme::Udp;
    let mut cases = Vec::new();
    let sizes: &[(usize, usize)] = match is_lossy {
        true => &[(64, 16), (1 << 10, 16), (8 << 10, 4)],
        false => &[
            (64, 64),
            (1 << 10, 64),
            (8 << 10, 16),
            (64 << 10, 4),
            (1 << 20, 1),
        ],
    };
    for &(size, window) in sizes {
        cases.push(Case::new(scheme, Kind::Throughput, 10, size, window));
    }
    if scheme == Scheme::Tcp {
        for (size, window) in [(64, 256), (1 << 10, 256), (64 << 10, 16)] {
            cases.push(Case::new(scheme, Kind::One, 1, size, window));
        }
    }
    let rates: &[usize] = match is_plain {
        true => &[1_000, 10_000, 50_000],
        false => &[10_000],
    };
    for &rate in rates {
        cases.push(Case::new(scheme, Kind::Open(rate), 10, 64, 1));
    }
    let connections: &[usize] = match (is_lossy, is_plain) {
        (true, _) => &[1, 10, 100, 1_000],
        (false, true) => &[1, 10, 100, 1_000, 5_000, 10_000],
        (false, false) => &[1, 100, 1_000],
    };
    for &count in connections {
        cases.push(Case::new(scheme, Kind::Closed, count, 64, 1));
    }
    if scheme == Scheme::Tcp {
        for count in [100, 1_000, 5_000, 10_000] {
            cases.push(Case::new(scheme, Kind::Pipelined, count, 64, 16));
        }
    }
    if !is_lossy {
        cases.push(Case::new(scheme, Kind::Connect, 10, 0, 1));
        cases.push(Case::new(scheme, Kind::Idle, 10_000, 0, 1));
    }
    cases
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_cases_have_the_same_name() {
        for is_quick in [false, true] {
            let cases = all(is_quick);
            let names: HashSet<String> = cases.iter().map(Case::to_string).collect();
            assert_eq!(names.len(), cases.len());
        }
    }

    #[test]
    fn names_say_what_is_measured() {
        let names: Vec<_> = all(false).iter().map(Case::to_string).collect();
        for name in [
            "tcp/throughput/1KB",
            "udp/open/10000",
            "wss/connect",
            "ws/idle/10000",
        ] {
            assert!(names.iter().any(|other| other == name), "{name}");
        }
    }
}

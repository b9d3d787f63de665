//! What was measured: results of different cases say nothing about each other.

use std::fmt;

use super::Measurement;

/// What has to be the same in two results for a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    /// The scheme of the URL, and the codec if it is not the usual one.
    pub(crate) transport: String,
    pub(crate) mode: String,
    pub(crate) connections: u64,
    pub(crate) size: Option<u64>,
    pub(crate) window: Option<u64>,
    pub(crate) rate: Option<u64>,
    pub(crate) threads: u64,
    pub(crate) pipeline: Vec<String>,
    pub(crate) reliable: bool,
}

impl Case {
    pub(crate) fn of(result: &Measurement) -> Self {
        Case {
            transport: transport(&result.url),
            mode: result.mode.clone(),
            connections: result.connections,
            size: result.size,
            window: result.window,
            rate: result.rate,
            threads: result.threads,
            pipeline: result.pipeline.clone(),
            reliable: result.reliable,
        }
    }

    /// In what `other` is not the same, with both values: `connections (10, not 50)`.
    pub(crate) fn differences(&self, other: &Case) -> Vec<String> {
        let parts = self.parts().into_iter().zip(other.parts());
        parts
            .filter(|(own, other)| own != other)
            .map(|((name, own), (_, other))| format!("{name} ({own}, not {other})"))
            .collect()
    }

    /// What is left to be compared before it is known which stages a server agrees on.
    pub(crate) fn without_pipeline(mut self) -> Self {
        self.pipeline.clear();
        self
    }

    fn parts(&self) -> [(&'static str, String); 9] {
        let number = |number: Option<u64>| number.map_or("none".to_owned(), |it| it.to_string());
        [
            ("url", self.transport.clone()),
            ("mode", self.mode.clone()),
            ("connections", self.connections.to_string()),
            ("size", number(self.size)),
            ("window", number(self.window)),
            ("rate", number(self.rate)),
            ("threads", self.threads.to_string()),
            (
                "pipeline",
                match self.pipeline.is_empty() {
                    true => "none".to_owned(),
                    false => self.pipeline.join(" + "),
                },
            ),
            ("reliable", self.reliable.to_string()),
        ]
    }
}

/// In words: `tcp echo, 10 connections, 64 bytes, window 1`.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = |count: u64| if count == 1 { "" } else { "s" };
        let connections = self.connections;
        write!(f, "{} {}, ", self.transport, self.mode)?;
        write!(f, "{connections} connection{}", s(connections))?;
        if let Some(size) = self.size {
            write!(f, ", {size} byte{}", s(size))?;
        }
        if let Some(window) = self.window {
            write!(f, ", window {window}")?;
        }
        if let Some(rate) = self.rate {
            write!(f, ", {rate}/s asked for")?;
        }
        if self.threads != 1 {
            write!(f, ", {} threads", self.threads)?;
        }
        if !self.pipeline.is_empty() {
            write!(f, ", {}", self.pipeline.join(" + "))?;
        }
        if self.reliable {
            write!(f, ", reliable")?;
        }
        Ok(())
    }
}

/// `tcp`, or with a codec `tcp (lines)`.
pub(crate) fn transport(url: &str) -> String {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    let scheme = scheme.to_ascii_lowercase();
    // The query of a WebSocket is the server's own.
    let query = match scheme.starts_with("ws") {
        true => "",
        false => url.split_once('?').map_or("", |(_, query)| query),
    };
    let codec = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("codec="));
    // What a URL without one means.
    let usual = if scheme == "udp" { "raw" } else { "msgi" };
    match codec {
        Some(codec) if codec != usual => format!("{scheme} ({codec})"),
        _ => scheme,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transport_is_scheme_and_codec_and_no_address() {
        for (url, expected) in [
            ("tcp://127.0.0.1:7600", "tcp"),
            ("tcp://[::1]:1?codec=msgi", "tcp"),
            ("tcp://a:1?x=y&codec=lines", "tcp (lines)"),
            ("udp://a:1", "udp"),
            ("udp://a:1?codec=raw", "udp"),
            ("udp://a:1?codec=msgi", "udp (msgi)"),
            ("WSS://a/chat?codec=lines", "wss"),
        ] {
            assert_eq!(transport(url), expected, "{url}");
        }
    }

    #[test]
    fn differences_have_names_and_both_values() {
        let one = Case {
            transport: "tcp".to_owned(),
            mode: "echo".to_owned(),
            connections: 1,
            size: Some(64),
            window: Some(1),
            rate: None,
            threads: 1,
            pipeline: Vec::new(),
            reliable: false,
        };
        let other = Case {
            connections: 50,
            window: None,
            rate: Some(1_000),
            pipeline: vec!["lz4".to_owned()],
            reliable: true,
            ..one.clone()
        };
        assert_eq!(
            one.differences(&other),
            [
                "connections (1, not 50)",
                "window (1, not none)",
                "rate (none, not 1000)",
                "pipeline (none, not lz4)",
                "reliable (false, not true)",
            ]
        );
        assert!(one.differences(&one).is_empty());
        assert_eq!(
            one.to_string(),
            "tcp echo, 1 connection, 64 bytes, window 1"
        );
        assert_eq!(
            other.to_string(),
            "tcp echo, 50 connections, 64 bytes, 1000/s asked for, lz4, reliable"
        );
    }
}

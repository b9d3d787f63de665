//! What a run shall do, checked: an option that means nothing in a mode is refused there.

use std::time::Duration;

use bytes::Bytes;
use network_system::{CodecKind, Endpoint};

use crate::args::{BenchArgs, BenchMode};
use crate::exit::Failure;
use crate::settings::{ClientSettings, has_hello, message_size, within_a_year};
use crate::units::Size;

/// Digits in which a broadcast carries the time at which it was sent.
pub(super) const STAMP_DIGITS: usize = 16;

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) endpoint: Endpoint,
    pub(super) mode: BenchMode,
    pub(super) connections: usize,
    pub(super) threads: usize,
    pub(super) payload: Bytes,
    pub(super) window: usize,
    /// Messages a second of the whole run; `None` in a closed loop.
    pub(super) rate: Option<usize>,
    pub(super) warmup: Duration,
    pub(super) duration: Duration,
    pub(super) timeout: Duration,
    pub(super) token: Option<String>,
    pub(super) client: ClientSettings,
}

impl Plan {
    pub(super) fn new(args: BenchArgs) -> Result<Self, Failure> {
        let mode = args.mode;
        let name = mode_name(mode);
        for (option, given, has_meaning) in [
            ("size", args.size.is_some(), sends(mode)),
            ("rate", args.rate.is_some(), sends(mode)),
            ("window", args.window.is_some(), has_window(mode)),
        ] {
            if given && !has_meaning {
                return Err(Failure::usage(format_args!(
                    "--{option} means nothing with --mode {name}, which sends no messages{}",
                    if mode == BenchMode::Oneway {
                        " that are answered"
                    } else {
                        ""
                    }
                )));
            }
        }
        within_a_year("duration", args.duration)?;
        within_a_year("warmup", args.warmup)?;
        within_a_year("timeout", args.timeout)?;
        let size = args.size.unwrap_or(Size(64));
        let size = match size.0 {
            0 => 0,
            _ => message_size(size)
                .map_err(|_| Failure::usage("invalid value for --size: expected at most 1GiB"))?,
        };
        check_codec(&args, size)?;
        // Each connection is one of another client, which has nothing to resume.
        let mut client = ClientSettings::new(&args.client, &args.url, false)?;
        if mode == BenchMode::Broadcast {
            client.insist_on_msgi();
        }
        Ok(Plan {
            client,
            mode,
            // No thread without a connection.
            threads: args.threads.min(args.connections),
            connections: args.connections,
            payload: vec![b'x'; size].into(),
            window: args.window.unwrap_or(1),
            rate: args.rate,
            warmup: args.warmup.0,
            duration: args.duration.0,
            timeout: args.timeout.0,
            token: args.token,
            endpoint: args.url,
        })
    }

    /// How many of the connections thread `index` makes.
    pub(super) fn share(&self, index: usize) -> usize {
        self.connections / self.threads + usize::from(index < self.connections % self.threads)
    }

    pub(super) fn mode_name(&self) -> &'static str {
        mode_name(self.mode)
    }

    pub(super) fn sends(&self) -> bool {
        sends(self.mode)
    }

    pub(super) fn has_window(&self) -> bool {
        has_window(self.mode) && self.rate.is_none()
    }
}

fn check_codec(args: &BenchArgs, size: usize) -> Result<(), Failure> {
    let codec = args.url.codec();
    let name = mode_name(args.mode);
    if codec == Some(CodecKind::Raw) && sends(args.mode) {
        return Err(Failure::usage(format_args!(
            "--mode {name} counts messages, whose boundaries codec=raw does not keep: expected \
             msgi, lines or length"
        )));
    }
    if args.mode == BenchMode::Broadcast && !has_hello(&args.url) {
        // Without it nobody knows when the server has all receivers.
        return Err(Failure::usage("--mode broadcast needs the codec msgi"));
    }
    if args.mode == BenchMode::Broadcast && size < STAMP_DIGITS {
        return Err(Failure::usage(format_args!(
            "invalid value `{size}` for --size: expected at least {STAMP_DIGITS} with --mode \
             broadcast, where messages carry the time"
        )));
    }
    if args.token.is_some() && !has_hello(&args.url) {
        return Err(Failure::usage(
            "--token needs the codec msgi, which carries it",
        ));
    }
    Ok(())
}

fn sends(mode: BenchMode) -> bool {
    matches!(
        mode,
        BenchMode::Echo | BenchMode::Oneway | BenchMode::Broadcast
    )
}

fn has_window(mode: BenchMode) -> bool {
    matches!(mode, BenchMode::Echo | BenchMode::Broadcast)
}

fn mode_name(mode: BenchMode) -> &'static str {
    match mode {
        BenchMode::Echo => "echo",
        BenchMode::Oneway => "oneway",
        BenchMode::Connect => "connect",
        BenchMode::Idle => "idle",
        BenchMode::Broadcast => "broadcast",
    }
}

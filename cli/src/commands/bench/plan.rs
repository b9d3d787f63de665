//! What a run shall do, checked: an option that means nothing in a mode is refused there.

use std::time::{Duration, Instant};

use bytes::Bytes;
use network_system::{Address, CodecKind, Endpoint};

use super::run::Run;
use crate::args::{BenchArgs, BenchMode};
use crate::exit::Failure;
use crate::results::case::{Case, transport};
use crate::settings::{ClientSettings, has_hello, message_size, within_a_year};
use crate::units::Size;

/// Digits in which a message carries the time at which it was sent, in broadcasts and on UDP.
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
    /// How often it is measured.
    pub(super) repeat: usize,
    pub(super) label: Option<String>,
    pub(super) server_pid: Option<u32>,
    pub(super) client: ClientSettings,
    /// Messages may be lost on the way, so each carries the time at which it was sent.
    pub(super) is_lossy: bool,
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
        let is_lossy = matches!(args.url.address(), Address::Udp { .. });
        check_codec(&args, size)?;
        // Each connection is one of another client, which has nothing to resume.
        let mut client = ClientSettings::new(&args.client, &args.url, false)?;
        if mode == BenchMode::Broadcast {
            client.insist_on_msgi();
        }
        if is_lossy {
            fit_datagrams(&mut client, &args, size)?;
        }
        Ok(Plan {
            client,
            is_lossy,
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
            repeat: args.repeat,
            label: args.label,
            server_pid: args.server_pid,
            endpoint: args.url,
        })
    }

    /// Whether it is counted how many messages have no answer.
    pub(super) fn counts_lost(&self) -> bool {
        self.is_lossy && self.mode == BenchMode::Echo
    }

    /// What an echo shall send back, which begins its way at `begun`.
    pub(super) fn question(&self, run: &Run, begun: Instant) -> Bytes {
        match self.is_lossy {
            true => stamped(self, run.stamp(begun)),
            false => self.payload.clone(),
        }
    }

    /// How many of the connections thread `index` makes.
    pub(super) fn share(&self, index: usize) -> usize {
        self.connections / self.threads + usize::from(index < self.connections % self.threads)
    }

    /// What is measured, but for the stages, on which server and clients agree.
    pub(super) fn case(&self) -> Case {
        Case {
            transport: transport(&self.endpoint.to_string()),
            mode: self.mode_name().to_owned(),
            connections: self.connections as u64,
            size: self.sends().then_some(self.payload.len() as u64),
            window: self.has_window().then_some(self.window as u64),
            rate: self.rate.map(|rate| rate as u64),
            threads: self.threads as u64,
            pipeline: Vec::new(),
            reliable: self.client.is_reliable(),
        }
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

/// What `codec=msgi` puts around a message in a datagram.
const FRAME: usize = 18;

/// The most that the stages of a pipeline add to a message.
const STAGES: usize = 64;

/// The payload of the largest datagram.
const DATAGRAM_MAX: usize = 65_507;

/// Messages have to fit into datagrams, and what measures them into messages.
fn fit_datagrams(
    client: &mut ClientSettings,
    args: &BenchArgs,
    size: usize,
) -> Result<(), Failure> {
    let frame = if has_hello(&args.url) { FRAME } else { 0 };
    let stages = if client.has_pipeline() { STAGES } else { 0 };
    let datagram = size + frame + stages;
    let most = match args.client.udp_datagram_size {
        Some(_) => client.datagram_size(),
        None => DATAGRAM_MAX,
    };
    let least = match args.mode {
        BenchMode::Echo => STAMP_DIGITS,
        _ => 1,
    };
    if sends(args.mode) && (datagram > most || size < least) {
        let most = most - (datagram - size);
        return Err(Failure::usage(format_args!(
            "invalid value `{size}` for --size: expected {least} to {most} with --mode {} on UDP",
            mode_name(args.mode)
        )));
    }
    client.fit_datagrams(datagram.min(most));
    Ok(())
}

fn check_udp(args: &BenchArgs) -> Result<(), Failure> {
    let name = mode_name(args.mode);
    match args.mode {
        BenchMode::Broadcast => Err(Failure::usage(
            "--mode broadcast needs every message to reach every receiver: UDP loses some",
        )),
        BenchMode::Connect | BenchMode::Idle if !has_hello(&args.url) => {
            Err(Failure::usage(format_args!(
                "--mode {name} means nothing on UDP without connections: expected codec=msgi"
            )))
        }
        _ => Ok(()),
    }
}

fn check_codec(args: &BenchArgs, size: usize) -> Result<(), Failure> {
    let codec = args.url.codec();
    let name = mode_name(args.mode);
    let is_udp = matches!(args.url.address(), Address::Udp { .. });
    if is_udp {
        check_udp(args)?;
    } else if codec == Some(CodecKind::Raw) && sends(args.mode) {
        return Err(Failure::usage(format_args!(
            "--mode {name} counts messages, whose boundaries codec=raw does not keep: expected \
             msgi, lines or length"
        )));
    }
    if args.mode == BenchMode::Broadcast && !has_hello(&args.url) {
        // Without it nobody knows when the server has all receivers.
        return Err(Failure::usage("--mode broadcast needs the codec msgi"));
    }
    if args.mode == BenchMode::Broadcast && args.client.plain {
        return Err(Failure::usage(
            "--mode broadcast needs MSGI, which is not spoken with --plain",
        ));
    }
    if args.token.is_some() && args.client.plain {
        return Err(Failure::usage(
            "--token needs MSGI, which is not spoken with --plain",
        ));
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

/// A message that says when it left.
pub(super) fn stamped(plan: &Plan, stamp: u64) -> Bytes {
    let mut payload = plan.payload.to_vec();
    for (digit, byte) in payload[..STAMP_DIGITS].iter_mut().enumerate() {
        let shift = 4 * (STAMP_DIGITS - 1 - digit);
        *byte = b"0123456789abcdef"[(stamp >> shift & 15) as usize];
    }
    payload.into()
}

/// When a message has left, as it says.
pub(super) fn stamp_of(payload: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(payload.get(..STAMP_DIGITS)?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

//! `netsys connect`: stdin to messages, messages to stdout.
//!
//! stdin is read and stdout is written by threads of their own: a reader of stdout that is slow holds up
//! the server, as it should, and not the session's heartbeat.
//!
//! - [`stdio`]: these threads; [`mod@format`]: how messages are written down.
//! - [`talk`]: what comes from the server, and what is said about the connection.

mod format;
mod stdio;
mod talk;

use std::convert::Infallible;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use network_system::{
    Address, Client, ClientBuilder, CloseReason, ClosedBy, Endpoint, ErrorCode, Limits,
    QueuePolicy, ReconnectPolicy, Session, State, Timeouts,
};
use serde_json::json;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use self::format::{Format, Style};
use self::stdio::Input;
use self::talk::{Receiver, Talk, request_text, send_text};
use super::reload;
use super::signals::{Hangup, Signals};
use crate::args::ConnectArgs;
use crate::exit::{ExitStatus, Failure};
use crate::output::Output;
use crate::settings::{
    A_YEAR, ClientSettings, KeyFile, has_hello, is_websocket, message_size, within_a_year,
};
use crate::units::Span;

/// How often is looked whether everything is acknowledged.
const SETTLING: Duration = Duration::from_millis(10);

/// Lines that wait between the threads.
const WAITING: usize = 64;

pub(crate) fn run(args: ConnectArgs, output: Output) -> Result<ExitStatus, Failure> {
    let limit = message_size(args.message_size_limit)?;
    within_a_year("timeout", args.timeout)?;
    within_a_year("wait", args.wait)?;
    within_a_year("ping", args.ping.unwrap_or(Span(Duration::ZERO)))?;
    check_msgi(&args)?;
    let settings = ClientSettings::new(&args.client, &args.url, true)?;
    settings.warn(output);
    let style = Style {
        format: match (args.binary, args.hex) {
            (true, _) => Format::Binary,
            (_, true) => Format::Hex,
            _ => Format::Lines,
        },
        json: args.json,
        guarded: io::stdout().is_terminal(),
    };
    let (lines, input) = mpsc::channel(WAITING);
    let (printer, printed) = mpsc::channel::<Vec<u8>>(WAITING);
    let talk = Talk {
        style,
        output,
        interactive: args.json || io::stderr().is_terminal(),
    };
    let arrived = Arc::new(Notify::new());
    let refused = Arc::new(OnceLock::new());
    let unacknowledged = Arc::new(AtomicBool::new(false));
    let session = Arc::<Mutex<Option<Session>>>::default();
    let receiver = Receiver {
        session: Arc::clone(&session),
        refused: Arc::clone(&refused),
        unacknowledged: Arc::clone(&unacknowledged),
        printer: printer.clone(),
        talk,
        url: args.url.to_string(),
        arrived: Arc::clone(&arrived),
    };
    let client = build(&args, &settings, limit, receiver)?;
    // Neither thread is joined: stdin may never end, and the writer is waited for below.
    std::thread::spawn(move || stdio::read(style.format, limit, &lines));
    let writer = std::thread::spawn(move || stdio::write(output, printed));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let status = runtime.block_on(async {
        let conversation = Conversation {
            client: &client,
            printer,
            args: &args,
            talk,
            arrived,
            session: Arc::clone(&session),
        };
        tokio::select! {
            status = conversation.run(input) => status,
            never = tell_round_trips(&client, args.ping, talk) => match never {},
            error = read_keys_again(settings.keys(), output) => Err(error.into()),
        }
    });
    drop(client);
    // It has the receiver, which has it, and the writer ends when nobody can print any more.
    drop(
        session
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(),
    );
    drop(runtime);
    let written = writer.join().unwrap_or(Ok(()));
    match (status, written) {
        (Ok(ExitStatus::Done), Ok(())) if unacknowledged.load(Ordering::Relaxed) => {
            Ok(ExitStatus::Failed)
        }
        (Ok(status), Ok(())) => match refused.get() {
            // Whether it was dropped, or came while the connection was being closed.
            Some(text) if status == ExitStatus::Done => Err(Failure::new(
                ExitStatus::Failed,
                format_args!("{}: {text}", args.url),
            )),
            _ => Ok(status),
        },
        (Err(failure), _) => Err(failure),
        (Ok(_), Err(error)) => Err(error.into()),
    }
}

/// Refuses what only MSGI has where it is not spoken.
fn check_msgi(args: &ConnectArgs) -> Result<(), Failure> {
    let is_plain = args.client.plain && is_websocket(&args.url);
    for (option, given) in [
        ("token", args.token.is_some()),
        ("client-id", args.client_id.is_some()),
        ("request", args.request),
    ] {
        if given && is_plain {
            return Err(Failure::usage(format_args!(
                "--{option} needs MSGI, which is not spoken with --plain"
            )));
        }
        if given && !has_hello(&args.url) {
            return Err(Failure::usage(format_args!(
                "--{option} needs the codec msgi"
            )));
        }
    }
    if args.ping.is_some() && !has_hello(&args.url) {
        let text = "--ping needs the codec msgi or WebSocket: the others have no PING";
        return Err(Failure::usage(text));
    }
    Ok(())
}

fn build(
    args: &ConnectArgs,
    settings: &ClientSettings,
    limit: usize,
    receiver: Receiver,
) -> Result<Client, Failure> {
    let mut limits = Limits::default();
    limits.message_size = limit;
    let mut timeouts = Timeouts::client();
    timeouts.connect = non_zero(args.timeout.0);
    timeouts.request = non_zero(args.timeout.0);
    timeouts.drain = non_zero(args.wait.0);
    if let Some(ping) = args.ping {
        timeouts.heartbeat = ping.0;
    }
    let reconnect = match args.reconnect || settings.is_reliable() {
        true => ReconnectPolicy::default(),
        false => ReconnectPolicy::disabled(),
    };
    let (url, talk) = (receiver.url.clone(), receiver.talk);
    let mut builder: ClientBuilder = settings
        .apply(Client::builder())
        .add_endpoint(args.url.clone())
        .limits(limits)
        .timeouts(timeouts)
        .reconnect(reconnect)
        .offline_queue(limits_offline(limit), QueuePolicy::Wait)
        .handler(receiver)
        .on_state_change(move |_, state| talk.state(state, &url));
    if let Some(client_id) = &args.client_id {
        builder = builder.client_id(client_id);
    }
    if let Some(token) = &args.token {
        builder = builder.token(token);
    }
    Ok(builder.build()?)
}

/// Room for one long message at least while there is no connection.
fn limits_offline(limit: usize) -> usize {
    limit.max(1024 * 1024)
}

/// 0 switches a limit off; the library wants a time.
fn non_zero(time: Duration) -> Duration {
    if time.is_zero() { A_YEAR } else { time }
}

/// Why the conversation ended.
enum End {
    /// stdin is at its end.
    Input,
    /// The client has stopped or given up.
    Client,
    Signal,
    /// Nobody reads stdout.
    Output,
}

/// A client, and what comes and goes on it.
struct Conversation<'a> {
    client: &'a Client,
    printer: mpsc::Sender<Vec<u8>>,
    args: &'a ConnectArgs,
    talk: Talk,
    /// Told about each message of the server's.
    arrived: Arc<Notify>,
    /// The session that began last.
    session: Arc<Mutex<Option<Session>>>,
}

impl Conversation<'_> {
    async fn run(&self, mut input: mpsc::Receiver<Input>) -> Result<ExitStatus, Failure> {
        let Conversation {
            client,
            printer,
            args,
            talk,
            arrived,
            ..
        } = self;
        let mut signals = Signals::new()?;
        let connected = tokio::select! {
            // A connection that is made is closed in order, also when the signal comes in that moment.
            biased;
            connected = client.connect() => Some(connected),
            () = signals.next() => None,
        };
        match connected {
            Some(connected) => connected?,
            None => {
                client.stop_within(Duration::ZERO).await;
                return Ok(ExitStatus::Interrupted);
            }
        }
        let mut failed = false;
        let mut end = tokio::select! {
            () = self.pump(&mut input, &mut failed) => End::Input,
            _ = client.wait_for_stop() => End::Client,
            () = signals.next() => End::Signal,
            () = printer.closed() => End::Output,
        };
        let has_close = !is_plain_udp(&args.url);
        if matches!(end, End::Input) && (args.stay || !has_close) {
            let enough = async {
                match args.stay {
                    true => std::future::pending().await,
                    false => answers(arrived, non_zero(args.wait.0)).await,
                }
            };
            end = tokio::select! {
                _ = client.wait_for_stop() => End::Client,
                () = signals.next() => End::Signal,
                () = printer.closed() => End::Output,
                () = enough => End::Input,
            };
        }
        let until = Instant::now() + non_zero(args.wait.0);
        if matches!(end, End::Input) && args.client.reliable {
            end = tokio::select! {
                _ = client.wait_for_stop() => End::Client,
                () = signals.next() => End::Signal,
                () = printer.closed() => End::Output,
                _ = tokio::time::timeout_at(until, self.settled()) => End::Input,
            };
        }
        let left_open = match end {
            End::Client => false,
            End::Input | End::Signal => true,
            End::Output => {
                client.stop_within(Duration::ZERO).await;
                return Ok(ExitStatus::Done);
            }
        };
        if left_open {
            let stop = client.stop_within(until.saturating_duration_since(Instant::now()));
            let report = tokio::select! {
                report = stop => report,
                () = signals.next() => {
                    client.stop_within(Duration::ZERO).await;
                    return Ok(ExitStatus::Interrupted);
                }
                () = printer.closed() => {
                    client.stop_within(Duration::ZERO).await;
                    return Ok(ExitStatus::Done);
                }
            };
            if !report.in_order && has_close {
                let wait = Span(args.wait.0);
                let text =
                    format!("the server did not close within {wait} (--wait); more may have come");
                talk.output
                    .note(&json!({ "event": "cut", "text": text }), &text);
            }
            if report.unsent > 0 {
                let text = format!("{} messages were not sent", report.unsent);
                return Err(Failure::new(ExitStatus::Failed, text));
            }
        }
        if matches!(end, End::Signal) {
            return Ok(ExitStatus::Interrupted);
        }
        ended(client, left_open, failed, &args.url, *talk)
    }

    /// Waits until a reliable session has delivered what it was given: one that is being closed is not taken up again
    /// when its connection breaks.
    async fn settled(&self) {
        loop {
            let session = self.session.lock();
            let session = session.unwrap_or_else(PoisonError::into_inner).clone();
            let waits = session.is_some_and(|session| {
                let stats = session.stats();
                let state = session.state();
                matches!(state, State::Connected | State::Suspended)
                    && (stats.queued_messages > 0 || stats.unacknowledged_messages > 0)
            });
            if !waits && self.client.stats().queued_messages == 0 {
                return;
            }
            tokio::time::sleep(SETTLING).await;
        }
    }

    /// Sends what comes from stdin, to its end.
    async fn pump(&self, input: &mut mpsc::Receiver<Input>, failed: &mut bool) {
        let Conversation {
            client,
            printer,
            args,
            talk,
            ..
        } = self;
        while let Some(read) = input.recv().await {
            let payload = match read {
                Input::Message(payload) => payload,
                Input::Refused(text) => {
                    *failed = true;
                    talk.output.error(&text);
                    continue;
                }
            };
            let message = talk.style.message(payload);
            if args.request {
                match client.request(message, non_zero(args.timeout.0)).await {
                    // Without a reader of stdout there is nothing more to do than to end, which is noticed.
                    Ok(answer) => drop(
                        printer
                            .send(talk.style.show("answer", answer.payload()))
                            .await,
                    ),
                    Err(error) => {
                        *failed = true;
                        talk.refused(error.code(), &request_text(&error));
                    }
                }
            } else if let Err(error) = client.send(message).await {
                if error.is_closed() {
                    // How it ended is told elsewhere.
                    return std::future::pending().await;
                }
                *failed = true;
                talk.refused(error.code(), &send_text(&error));
            }
        }
    }
}

/// What the end of the client means for the exit.
fn ended(
    client: &Client,
    by_us: bool,
    failed: bool,
    url: &Endpoint,
    talk: Talk,
) -> Result<ExitStatus, Failure> {
    let reason = client.close_reason();
    let error = reason.as_ref().and_then(CloseReason::code);
    // The server may say so only after everything was sent, and has taken none of it.
    let refused = error == Some(ErrorCode::TlsHandshakeFailed);
    // Our own deadline for a server that does not close is no failure: all was sent. What could not be read
    // of its answers is one.
    let ran_out = matches!(
        error,
        Some(
            ErrorCode::ConnectionTimeout
                | ErrorCode::ConnectionClosed
                | ErrorCode::IdleTimeout
                | ErrorCode::HeartbeatTimeout
                | ErrorCode::ShuttingDown
        )
    );
    match reason {
        Some(reason)
            if error.is_some()
                && (!by_us || !ran_out || reason.closed_by() == ClosedBy::Remote) =>
        {
            let status = match refused {
                true => ExitStatus::Tls,
                false => ExitStatus::Failed,
            };
            Err(Failure::new(status, format_args!("{url}: {reason}")))
        }
        Some(reason) if !by_us => {
            let text = match reason.text() {
                "" => "the server closed the connection".to_owned(),
                text => format!("the server closed the connection: {text}"),
            };
            talk.note("closed", &text);
            Ok(if failed {
                ExitStatus::Failed
            } else {
                ExitStatus::Done
            })
        }
        _ if failed => Ok(ExitStatus::Failed),
        _ => Ok(ExitStatus::Done),
    }
}

/// Whether there is neither an end of the connection nor an answer that would be the last.
fn is_plain_udp(url: &Endpoint) -> bool {
    matches!(url.address(), Address::Udp { .. }) && !has_hello(url)
}

/// Waits for messages, at most this long, and not when none has come for a quarter of it.
async fn answers(arrived: &Notify, wait: Duration) {
    let until = tokio::time::Instant::now() + wait;
    let next = || tokio::time::timeout(wait / 4, arrived.notified());
    let all = async { while next().await.is_ok() {} };
    let _ = tokio::time::timeout_at(until, all).await;
}

/// Reads the keys of encryption again on each SIGHUP. Without any, the signal ends the program.
async fn read_keys_again(keys: Option<&KeyFile>, output: Output) -> io::Error {
    let Some(keys) = keys else {
        return std::future::pending().await;
    };
    let mut hangup = match Hangup::new(true) {
        Ok(hangup) => hangup,
        Err(error) => return error,
    };
    loop {
        hangup.next().await;
        reload::keys(keys.clone(), output).await;
    }
}

/// Says how long PINGs take, if that was asked for.
async fn tell_round_trips(client: &Client, every: Option<Span>, talk: Talk) -> Infallible {
    let Some(Span(every)) = every else {
        return std::future::pending().await;
    };
    let mut ticks = tokio::time::interval(every);
    let mut last = None;
    loop {
        ticks.tick().await;
        let session = client.session().map(|session| session.stats());
        let Some((round_trip, sent)) =
            session.and_then(|stats| Some((stats.round_trip?, stats.messages_sent)))
        else {
            continue;
        };
        // While messages leave there are no PINGs, and what is known is old.
        let is_new =
            !matches!(last, Some((known, before)) if known == round_trip && before != sent);
        last = Some((round_trip, sent));
        if is_new {
            let micros = round_trip.as_micros();
            let event = json!({ "event": "ping", "round_trip_us": micros as u64 });
            let millis = round_trip.as_secs_f64() * 1_000.0;
            talk.output
                .note(&event, &format!("round trip {millis:.3} ms"));
        }
    }
}

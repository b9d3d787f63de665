//! `netsys connect`: stdin to messages, messages to stdout.
//!
//! stdin is read and stdout is written by threads of their own: a reader of stdout that is slow holds up
//! the server, as it should, and not the session's heartbeat.

use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::time::Duration;

use network_system::{
    Client, ClientBuilder, ClientState, CloseReason, ClosedBy, Endpoint, ErrorCode, Handler,
    Limits, Message, QueuePolicy, ReconnectPolicy, RequestError, SendError, Session, Timeouts,
};
use serde_json::json;
use tokio::sync::mpsc;

use super::signals::Signals;
use crate::args::ConnectArgs;
use crate::exit::{ExitStatus, Failure};
use crate::output::Output;
use crate::settings::{A_YEAR, has_hello, message_size, within_a_year};

/// What is read from stdin at a time with `--binary`.
const CHUNK: usize = 64 * 1024;

/// Lines that wait between the threads.
const WAITING: usize = 64;

/// How messages look on stdin and stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Lines,
    Binary,
    Hex,
}

#[derive(Clone, Copy, Debug)]
struct Style {
    format: Format,
    json: bool,
    /// stdout is a terminal, which obeys what it should show.
    guarded: bool,
}

pub(crate) fn run(args: ConnectArgs, output: Output) -> Result<ExitStatus, Failure> {
    let limit = message_size(args.message_size_limit)?;
    within_a_year("timeout", args.timeout)?;
    within_a_year("wait", args.wait)?;
    for (option, given) in [
        ("token", args.token.is_some()),
        ("client-id", args.client_id.is_some()),
        ("request", args.request),
    ] {
        if given && !has_hello(&args.url) {
            return Err(Failure::usage(format_args!(
                "--{option} needs the codec msgi"
            )));
        }
    }
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
    let client = build(&args, limit, printer.clone(), talk)?;
    // Neither thread is joined: stdin may never end, and the writer is waited for below.
    std::thread::spawn(move || read(style.format, limit, &lines));
    let writer = std::thread::spawn(move || write(output, printed));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let status = runtime.block_on(converse(&client, input, printer, &args, talk));
    drop(client);
    drop(runtime);
    let written = writer.join().unwrap_or(Ok(()));
    match (status, written) {
        (Ok(status), Ok(())) => Ok(status),
        (Err(failure), _) => Err(failure),
        (Ok(_), Err(error)) => Err(error.into()),
    }
}

fn build(
    args: &ConnectArgs,
    limit: usize,
    printer: mpsc::Sender<Vec<u8>>,
    talk: Talk,
) -> Result<Client, Failure> {
    let mut limits = Limits::default();
    limits.message_size = limit;
    let mut timeouts = Timeouts::client();
    timeouts.connect = non_zero(args.timeout.0);
    timeouts.request = non_zero(args.timeout.0);
    timeouts.drain = non_zero(args.wait.0);
    let reconnect = match args.reconnect {
        true => ReconnectPolicy::default(),
        false => ReconnectPolicy::disabled(),
    };
    let url = args.url.to_string();
    let mut builder: ClientBuilder = Client::builder()
        .add_endpoint(args.url.clone())
        .limits(limits)
        .timeouts(timeouts)
        .reconnect(reconnect)
        .offline_queue(limits_offline(limit), QueuePolicy::Wait)
        .handler(Receiver { printer, talk })
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

async fn converse(
    client: &Client,
    mut input: mpsc::Receiver<Input>,
    printer: mpsc::Sender<Vec<u8>>,
    args: &ConnectArgs,
    talk: Talk,
) -> Result<ExitStatus, Failure> {
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
        () = pump(client, &mut input, &printer, args, talk, &mut failed) => End::Input,
        _ = client.wait_for_stop() => End::Client,
        () = signals.next() => End::Signal,
        () = printer.closed() => End::Output,
    };
    if matches!(end, End::Input) && args.stay {
        end = tokio::select! {
            _ = client.wait_for_stop() => End::Client,
            () = signals.next() => End::Signal,
            () = printer.closed() => End::Output,
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
        let stop = client.stop();
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
        if report.unsent > 0 {
            let text = format!("{} messages were not sent", report.unsent);
            return Err(Failure::new(ExitStatus::Failed, text));
        }
    }
    if matches!(end, End::Signal) {
        return Ok(ExitStatus::Interrupted);
    }
    ended(client, left_open, failed, &args.url, talk)
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
    match reason {
        // Our own deadline for a server that does not close is no failure: all was sent.
        Some(reason) if error.is_some() && (!by_us || reason.closed_by() == ClosedBy::Remote) => {
            Err(Failure::new(
                ExitStatus::Failed,
                format_args!("{url}: {reason}"),
            ))
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

/// Sends what comes from stdin, to its end.
async fn pump(
    client: &Client,
    input: &mut mpsc::Receiver<Input>,
    printer: &mpsc::Sender<Vec<u8>>,
    args: &ConnectArgs,
    talk: Talk,
    failed: &mut bool,
) {
    while let Some(read) = input.recv().await {
        let payload = match read {
            Input::Message(payload) => payload,
            Input::Refused(text) => {
                *failed = true;
                talk.output.error(&text);
                continue;
            }
        };
        let message = match String::from_utf8(payload) {
            Ok(text) => Message::text(text),
            Err(error) => Message::binary(error.into_bytes()),
        };
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

fn request_text(error: &RequestError) -> String {
    format!("no answer: {error}")
}

fn send_text(error: &SendError) -> String {
    format!("not sent: {error}")
}

/// What is said besides the messages.
#[derive(Clone, Copy)]
struct Talk {
    style: Style,
    output: Output,
    /// Someone or something follows how the connection is.
    interactive: bool,
}

impl Talk {
    fn note(self, event: &str, text: &str) {
        if self.interactive {
            self.output
                .note(&json!({ "event": event, "text": text }), text);
        }
    }

    fn state(self, state: ClientState, url: &str) {
        match state {
            ClientState::Connected => self.note("connected", &format!("connected to {url}")),
            ClientState::Reconnecting => {
                self.note("reconnecting", &format!("reconnecting to {url}"))
            }
            _ => {}
        }
    }

    fn refused(self, code: ErrorCode, text: &str) {
        if self.output.json {
            let event = json!({
                "event": "error", "code": code.as_i32(), "name": code.name(), "text": text
            });
            self.output.problem(&event, text);
        } else {
            self.output.error(text);
        }
    }
}

/// Hands messages to the printing thread.
struct Receiver {
    printer: mpsc::Sender<Vec<u8>>,
    talk: Talk,
}

impl Handler for Receiver {
    async fn on_message(&self, _: &Session, message: &Message) {
        // Nobody reads stdout any more: that is noticed elsewhere.
        let _ = self
            .printer
            .send(self.talk.style.show("message", message.payload()))
            .await;
    }

    async fn on_disconnect(&self, _: &Session, reason: &CloseReason) {
        if reason.closed_by() != ClosedBy::Local && !reason.is_orderly() {
            self.talk
                .note("disconnected", &format!("disconnected: {reason}"));
        }
    }
}

impl Style {
    /// A received payload as it stands on stdout.
    fn show(self, event: &str, payload: &[u8]) -> Vec<u8> {
        let mut shown = if self.json {
            let object = match std::str::from_utf8(payload) {
                Ok(text) if self.format != Format::Hex => json!({ "event": event, "text": text }),
                _ => json!({ "event": event, "hex": to_hex(payload) }),
            };
            object.to_string().into_bytes()
        } else {
            match self.format {
                Format::Binary => return payload.to_vec(),
                Format::Hex => to_hex(payload).into_bytes(),
                Format::Lines if self.guarded => harmless(payload).into_bytes(),
                Format::Lines => payload.to_vec(),
            }
        };
        shown.push(b'\n');
        shown
    }
}

/// Text for a terminal: what it would obey is spelled out.
fn harmless(payload: &[u8]) -> String {
    let mut shown = String::with_capacity(payload.len());
    for c in String::from_utf8_lossy(payload).chars() {
        match c {
            '\n' | '\t' => shown.push(c),
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

fn from_hex(line: &[u8]) -> Option<Vec<u8>> {
    let digits = line.iter().filter(|byte| !byte.is_ascii_whitespace());
    let digits: Option<Vec<u8>> = digits
        .map(|&byte| char::from(byte).to_digit(16).map(|digit| digit as u8))
        .collect();
    let digits = digits?;
    digits.len().is_multiple_of(2).then(|| {
        digits
            .chunks_exact(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    })
}

/// Something from stdin.
enum Input {
    Message(Vec<u8>),
    /// It cannot be sent; why.
    Refused(String),
}

/// Reads stdin to its end, or until nobody wants more.
fn read(format: Format, limit: usize, lines: &mpsc::Sender<Input>) {
    let mut stdin = BufReader::with_capacity(CHUNK, io::stdin().lock());
    let mut number = 0_u64;
    loop {
        number += 1;
        let input = match format {
            Format::Binary => read_chunk(&mut stdin, limit),
            _ => read_line(&mut stdin, format, limit, number),
        };
        let input = match input {
            Ok(Some(input)) => input,
            Ok(None) => return,
            Err(error) => Input::Refused(format!("cannot read stdin: {error}")),
        };
        let failed = matches!(&input, Input::Refused(text) if text.starts_with("cannot read"));
        if lines.blocking_send(input).is_err() || failed {
            return;
        }
    }
}

fn read_chunk(stdin: &mut impl BufRead, limit: usize) -> io::Result<Option<Input>> {
    let chunk = stdin.fill_buf()?;
    let chunk = chunk[..chunk.len().min(limit)].to_vec();
    stdin.consume(chunk.len());
    Ok((!chunk.is_empty()).then_some(Input::Message(chunk)))
}

fn read_line(
    stdin: &mut impl BufRead,
    format: Format,
    limit: usize,
    number: u64,
) -> io::Result<Option<Input>> {
    // Two digits and a space for each byte, and the end of the line.
    let most = if format == Format::Hex {
        limit.saturating_mul(3)
    } else {
        limit
    } as u64
        + 2;
    let mut line = Vec::new();
    stdin.by_ref().take(most).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    let ended = line.last() == Some(&b'\n');
    if ended {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    } else if line.len() as u64 == most {
        // Nothing is kept of the rest of a line that is too long.
        stdin.skip_until(b'\n')?;
    }
    let payload = match format {
        Format::Hex => match from_hex(&line) {
            Some(payload) => payload,
            None => {
                let text = format!("line {number} is not hexadecimal digits in pairs");
                return Ok(Some(Input::Refused(text)));
            }
        },
        _ => line,
    };
    if payload.len() > limit {
        let text = format!("line {number} is over the limit of {limit} bytes");
        return Ok(Some(Input::Refused(text)));
    }
    Ok(Some(Input::Message(payload)))
}

/// Writes what comes, until there is nothing more or nobody who reads it.
fn write(output: Output, mut printed: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    while let Some(mut bytes) = printed.blocking_recv() {
        // Whatever has come meanwhile leaves with it.
        while let Ok(more) = printed.try_recv() {
            bytes.extend(more);
            if bytes.len() >= CHUNK {
                break;
            }
        }
        output.bytes(&bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_come_back_as_they_were() {
        assert_eq!(from_hex(b"00 fF\t10"), Some(vec![0, 255, 16]));
        assert_eq!(to_hex(&[0, 255, 16]), "00ff10");
        assert_eq!(from_hex(b""), Some(vec![]));
        assert_eq!(from_hex(b"123"), None);
        assert_eq!(from_hex(b"xy"), None);
    }

    #[test]
    fn a_terminal_obeys_nothing() {
        assert_eq!(harmless(b"a\x1b[31mb\tc\n\x07"), "a\\u{1b}[31mb\tc\n\\u{7}");
    }

    #[test]
    fn lines_lose_their_ends_and_nothing_else() {
        let mut stdin: &[u8] = b"one\r\n\ntoo long\nlast";
        let mut read = |number| match read_line(&mut stdin, Format::Lines, 5, number) {
            Ok(Some(Input::Message(line))) => Some(String::from_utf8_lossy(&line).into_owned()),
            Ok(Some(Input::Refused(text))) => Some(text),
            _ => None,
        };
        assert_eq!(read(1).as_deref(), Some("one"));
        assert_eq!(read(2).as_deref(), Some(""));
        assert_eq!(
            read(3).as_deref(),
            Some("line 3 is over the limit of 5 bytes")
        );
        assert_eq!(read(4).as_deref(), Some("last"));
        assert_eq!(read(5), None);
    }
}

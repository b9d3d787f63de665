//! The threads that read stdin and write stdout.

use std::io::{self, BufRead, BufReader, Read};

use tokio::sync::mpsc;

use super::format::{Format, from_hex};
use crate::output::Output;

/// What is read from stdin at a time with `--binary`.
const CHUNK: usize = 64 * 1024;

/// Something from stdin.
pub(super) enum Input {
    Message(Vec<u8>),
    /// It cannot be sent; why.
    Refused(String),
}

/// Reads stdin to its end, or until nobody wants more.
pub(super) fn read(format: Format, limit: usize, lines: &mpsc::Sender<Input>) {
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
pub(super) fn write(output: Output, mut printed: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
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

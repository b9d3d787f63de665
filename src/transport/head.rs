//! Taking a head from the front of a connection, and not a byte more.
//!
//! The bytes are peeked at first, so that whatever reads the connection next, such as TLS or a session,
//! finds it as if the head had never been there.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;
use tokio::net::TcpStream;

/// How much is peeked at once, in bytes. Most heads fit.
const CHUNK: usize = 256;

/// Takes bytes until `end` finds where the head ends. Dropping the caller's future between two polls
/// loses nothing of `taken`.
///
/// `end` gets all bytes so far and how many of them it has seen before. It answers with the length of the
/// head and what it makes of it, or with `None` when all of the bytes are of the head; it has to fail
/// before they are too many. There is no deadline here, and what is known already does not wake the task
/// again.
///
/// # Errors
/// Those of `end`, `UnexpectedEof` when the connection ends before the head does, and what the socket
/// reports.
pub(crate) fn poll_take<T>(
    stream: &TcpStream,
    context: &mut Context<'_>,
    taken: &mut Vec<u8>,
    end: impl Fn(&[u8], usize) -> io::Result<Option<(usize, T)>>,
) -> Poll<io::Result<T>> {
    loop {
        let mut chunk = [0; CHUNK];
        let mut peeked = ReadBuf::new(&mut chunk);
        if ready!(stream.poll_peek(context, &mut peeked))? == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let known = taken.len();
        taken.extend_from_slice(peeked.filled());
        let found = end(taken, known)?;
        let length = found.as_ref().map_or(taken.len(), |(length, _)| *length);
        let count = consume(stream, &mut chunk[..length.saturating_sub(known)])?;
        taken.truncate(known + count);
        // If fewer bytes came than were seen, the rest is peeked at again.
        if let Some((length, value)) = found
            && length == taken.len()
        {
            return Poll::Ready(Ok(value));
        }
    }
}

/// Reads bytes that were seen to be there. The system may still give fewer.
fn consume(stream: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
    match stream.try_read(into) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        read => read,
    }
}

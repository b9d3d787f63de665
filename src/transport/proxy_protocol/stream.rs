//! A connection from a proxy, as a stream that opens with the header.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::net::TcpStream;

use super::{State, poll_header};
use crate::error::ErrorCode;
use crate::session::link::{Buffers, Established, OpenError, Scratch};
use crate::transport::network::canonical;
use crate::transport::stream::{self, Stream};

/// A connection whose ends are those that its header tells. What is above it, TLS included, begins behind
/// the header.
#[derive(Debug)]
pub(crate) struct ProxiedStream {
    stream: TcpStream,
    /// Until the header was read. Idle connections need none of it.
    opening: Option<Box<Opening>>,
}

#[derive(Debug)]
struct Opening {
    state: State,
    /// The ends of the connection to the proxy, which hold when it speaks for itself.
    remote: SocketAddr,
    local: SocketAddr,
}

impl ProxiedStream {
    /// A connection that a trusted proxy has made, between the proxy (`remote`) and this server (`local`).
    pub(crate) fn new(stream: TcpStream, remote: SocketAddr, local: SocketAddr) -> Self {
        let opening = Opening {
            state: State::default(),
            remote,
            local,
        };
        ProxiedStream {
            stream,
            opening: Some(Box::new(opening)),
        }
    }
}

impl Stream for ProxiedStream {
    fn needs_opening(&self) -> bool {
        self.opening.is_some()
    }

    fn poll_open(
        &mut self,
        context: &mut Context<'_>,
        _buffers: &mut Buffers,
        established: &mut Established,
    ) -> Poll<Result<(), OpenError>> {
        let Some(opening) = &mut self.opening else {
            return Poll::Ready(Ok(()));
        };
        let header = ready!(poll_header(&self.stream, context, &mut opening.state));
        let addresses = header.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => {
                OpenError::new(ErrorCode::InvalidFrame, error.to_string())
            }
            _ => stream::broken(&error),
        })?;
        let (remote, local) = match addresses {
            // Proxies that listen for both families at once write IPv4 addresses as IPv6 ones.
            Some(addresses) => (
                canonical(addresses.source),
                canonical(addresses.destination),
            ),
            None => (opening.remote, opening.local),
        };
        established.remote = Some(remote);
        established.local = Some(local);
        self.opening = None;
        Poll::Ready(Ok(()))
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        into: &mut BytesMut,
        room: usize,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<usize>> {
        Stream::poll_read(&mut self.stream, context, into, room, scratch)
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        scratch: &mut Scratch,
    ) -> Poll<io::Result<usize>> {
        Stream::poll_write(&mut self.stream, context, slices, scratch)
    }

    fn poll_shutdown(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<()>> {
        Stream::poll_shutdown(&mut self.stream, context, scratch)
    }

    fn leave_runtime(self) -> io::Result<Box<dyn FnOnce() -> io::Result<Self> + Send>> {
        let ProxiedStream { stream, opening } = self;
        let join = Stream::leave_runtime(stream)?;
        Ok(Box::new(move || {
            let stream = join()?;
            Ok(ProxiedStream { stream, opening })
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn opened(
        first_bytes: &[u8],
    ) -> (
        Result<(), OpenError>,
        Established,
        ProxiedStream,
        SocketAddr,
    ) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let addr = listener.local_addr().expect("an address");
        let mut client = TcpStream::connect(addr).await.expect("a connection");
        let (stream, remote) = listener.accept().await.expect("a connection");
        client.write_all(first_bytes).await.expect("written");
        client.shutdown().await.expect("ended");
        let mut stream = ProxiedStream::new(stream, remote, addr);
        assert!(stream.needs_opening());
        let mut established = Established::default();
        let mut buffers = Buffers::default();
        let open =
            poll_fn(|context| stream.poll_open(context, &mut buffers, &mut established)).await;
        (open, established, stream, remote)
    }

    #[tokio::test]
    async fn the_header_is_not_read_as_the_first_bytes() {
        let bytes = b"PROXY TCP6 2001:db8::1 2001:db8::2 1000 2000\r\nhello";
        let (open, established, stream, _) = opened(bytes).await;
        open.expect("open");
        let ends = (established.remote, established.local);
        let [remote, local] = ["[2001:db8::1]:1000", "[2001:db8::2]:2000"];
        assert_eq!(ends, (remote.parse().ok(), local.parse().ok()));
        // Another worker may have a runtime of its own.
        let mut stream = stream.leave_runtime().expect("left")().expect("joined");
        assert!(!stream.needs_opening());
        let (mut into, mut scratch) = (BytesMut::new(), Scratch::default());
        let read = poll_fn(|context| {
            Stream::poll_read(&mut stream, context, &mut into, 100, &mut scratch)
        });
        assert_eq!(read.await.expect("read"), 5);
        assert_eq!(into, "hello");
    }

    #[tokio::test]
    async fn a_proxy_that_speaks_for_itself_is_the_peer() {
        let (open, established, _, proxy) = opened(b"PROXY UNKNOWN\r\n").await;
        open.expect("open");
        assert_eq!(established.remote, Some(proxy));
        assert!(established.local.is_some());
    }

    #[tokio::test]
    async fn a_connection_without_a_header_does_not_open() {
        for (bytes, code) in [
            (&b"MSGI\0\0\0\0"[..], ErrorCode::InvalidFrame),
            (b"PROXY", ErrorCode::ConnectionClosed),
        ] {
            let (open, established, stream, _) = opened(bytes).await;
            assert_eq!(open.expect_err("no header").code, code);
            assert!(established.is_empty() && stream.needs_opening());
        }
    }
}

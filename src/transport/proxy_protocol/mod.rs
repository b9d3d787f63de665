//! The PROXY protocol, versions 1 and 2: a proxy in front of the server says whom it speaks for.
//!
//! The header stands before the first byte of the connection's own protocol, TLS included. It is peeked
//! at, and exactly its bytes are taken, so that whatever reads the connection next finds it as the peer
//! began it.

mod header;
pub(crate) mod stream;

use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll};

use tokio::net::TcpStream;

use self::header::{HEADER_MAX, Parsed, parse};
use super::head;
use super::network::Network;
use crate::error::{ConfigError, ErrorCode};

pub(crate) use self::header::Addresses;

/// Makes a server take the peers' addresses from the PROXY protocol (version 1 or 2), which proxies such
/// as HAProxy, nginx, Envoy and the load balancers of clouds send in front of each connection.
///
/// Whoever sends the header can claim any address. So it is accepted from trusted networks only, all
/// other peers are refused, and a trusted peer that does not send it is refused as well: otherwise a
/// client that reaches the server past the proxy would decide which of the two it is.
///
/// ```
/// use network_system::ProxyProtocol;
///
/// let proxies = ProxyProtocol::required().trust("10.0.0.0/8".parse()?);
/// assert!(proxies.trusts("10.1.2.3".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    trusted: Vec<Network>,
}

impl ProxyProtocol {
    /// Every connection has to begin with the header. Nobody is trusted yet.
    pub fn required() -> Self {
        ProxyProtocol {
            trusted: Vec::new(),
        }
    }

    /// Trusts the proxies in a network.
    pub fn trust(mut self, network: Network) -> Self {
        self.trusted.push(network);
        self
    }

    /// Whether a proxy at this address is trusted.
    pub fn trusts(&self, proxy: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(proxy))
    }

    /// # Errors
    /// Nobody is trusted, so that nobody could connect.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.trusted.is_empty() {
            return Err(ConfigError::new(
                ErrorCode::InvalidConfiguration,
                "proxy_protocol: no network is trusted, so nobody could connect; expected one or more",
            ));
        }
        Ok(())
    }
}

/// What has been taken from a connection of its header: at most [`HEADER_MAX`] bytes.
#[derive(Debug, Default)]
pub(crate) struct State(Vec<u8>);

/// Takes the header from the front of a connection, and not a byte more.
///
/// Ready with the addresses, or with `None` when those of the connection itself hold. There is no deadline
/// here: the caller sets one. Not to be polled again once it was ready.
///
/// # Errors
/// `InvalidData` when the connection begins with anything else, `UnexpectedEof` when it ends before the
/// header does, and what the socket reports.
pub(crate) fn poll_header(
    stream: &TcpStream,
    context: &mut Context<'_>,
    state: &mut State,
) -> Poll<io::Result<Option<Addresses>>> {
    head::poll_take(stream, context, &mut state.0, |bytes, _| {
        match parse(bytes) {
            Ok(Parsed::Complete { length, addresses }) => Ok(Some((length, addresses))),
            Ok(Parsed::Incomplete) => {
                debug_assert!(bytes.len() < HEADER_MAX);
                Ok(None)
            }
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n";

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let addr = listener.local_addr().expect("an address");
        let client = TcpStream::connect(addr).await.expect("a connection");
        let (server, _) = listener.accept().await.expect("a connection");
        client.set_nodelay(true).expect("a socket");
        (client, server)
    }

    fn expected() -> Addresses {
        Addresses {
            source: "192.0.2.1:1000".parse().expect("an address"),
            destination: "192.0.2.2:2000".parse().expect("an address"),
        }
    }

    fn version_2(extensions: usize) -> Vec<u8> {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
        header.extend(u16::try_from(12 + extensions).expect("short").to_be_bytes());
        header.extend([192, 0, 2, 1, 192, 0, 2, 2, 3, 232, 7, 208]);
        header.resize(header.len() + extensions, 0xaa);
        header
    }

    async fn header(stream: &TcpStream) -> io::Result<Option<Addresses>> {
        let mut state = State::default();
        poll_fn(|context| poll_header(stream, context, &mut state)).await
    }

    #[tokio::test]
    async fn the_header_is_taken_and_what_follows_is_left() {
        for header_bytes in [HEADER.to_vec(), version_2(0), version_2(2_000)] {
            let (mut client, mut server) = pair().await;
            client.write_all(&header_bytes).await.expect("written");
            client.write_all(b"\r\nPROXY").await.expect("written");
            client.shutdown().await.expect("ended");
            let addresses = header(&server).await.expect("a header");
            assert_eq!(addresses, Some(expected()));
            let mut rest = Vec::new();
            server.read_to_end(&mut rest).await.expect("the rest");
            assert_eq!(rest, b"\r\nPROXY");
        }
    }

    #[tokio::test]
    async fn a_header_in_pieces_is_polled_once_a_piece() {
        for header_bytes in [HEADER.to_vec(), version_2(20)] {
            let (mut client, server) = pair().await;
            let mut state = State::default();
            let (last, first) = header_bytes.split_last().expect("bytes");
            for (count, byte) in first.iter().enumerate() {
                client.write_all(&[*byte]).await.expect("written");
                let mut polls = 0;
                // Ready as soon as the byte was taken; until then nothing but the socket may wake it.
                poll_fn(|context| {
                    polls += 1;
                    assert!(poll_header(&server, context, &mut state).is_pending());
                    match state.0.len() > count {
                        true => Poll::Ready(()),
                        false => Poll::Pending,
                    }
                })
                .await;
                assert!(polls <= 3, "{polls} polls for one byte");
            }
            client.write_all(&[*last]).await.expect("written");
            let addresses = poll_fn(|context| poll_header(&server, context, &mut state)).await;
            assert_eq!(addresses.expect("a header"), Some(expected()));
        }
    }

    #[tokio::test]
    async fn anything_else_is_invalid_and_an_early_end_is_one() {
        use io::ErrorKind::{InvalidData, UnexpectedEof};
        for (bytes, kind) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], InvalidData),
            (b"\x16\x03\x01\x02\x00\x01", InvalidData),
            (b"PROXY TCP4 1.2.3.4\r\n", InvalidData),
            (b"", UnexpectedEof),
            (b"PROXY", UnexpectedEof),
            (&version_2(20)[..40], UnexpectedEof),
        ] {
            let (mut client, server) = pair().await;
            client.write_all(bytes).await.expect("written");
            client.shutdown().await.expect("ended");
            let error = header(&server).await.expect_err("no header");
            assert_eq!(error.kind(), kind, "{}", bytes.escape_ascii());
        }
    }

    #[tokio::test]
    async fn an_endless_header_is_refused_before_it_takes_memory() {
        let (mut client, server) = pair().await;
        let endless = [b"PROXY UNKNOWN ", &[b'x'; 100_000][..]].concat();
        let (written, error) = tokio::join!(client.write_all(&endless), header(&server));
        let _ = written;
        assert_eq!(
            error.expect_err("no end").kind(),
            io::ErrorKind::InvalidData
        );
    }

    #[test]
    fn only_named_networks_are_trusted_and_one_is_needed() {
        let nobody = ProxyProtocol::required();
        assert!(nobody.check().is_err());
        assert!(!nobody.trusts(IpAddr::from([127, 0, 0, 1])));
        let some = nobody
            .trust("127.0.0.0/8".parse().expect("a network"))
            .trust("fd00::/8".parse().expect("a network"));
        assert!(some.check().is_ok());
        for (address, trusted) in [
            ("127.1.2.3", true),
            ("::ffff:127.0.0.1", true),
            ("fd12::1", true),
            ("::1", false),
            ("10.0.0.1", false),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(some.trusts(address), trusted, "{address}");
        }
    }
}

//! TLS on a socket, with few calls and few copies, so that the generator's core
//! is left to the messages.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnectionData, Resumption, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
    WriteTraffic,
};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

/// Room for a record around the plaintext of one: header, type, tag and more.
const RECORD_OVERHEAD: usize = 64;
/// The plaintext that a record holds at most.
const RECORD_LEN: usize = 16 * 1024;
/// Room for a read of the handshake.
const HANDSHAKE_BUFFER: usize = 32 * 1024;

/// How connections are encrypted. Whose certificate the server has is not
/// verified: the generator measures its own servers.
pub(crate) fn config() -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(NoVerification(Arc::clone(&provider)));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// An encrypted connection.
pub(crate) struct TlsStream {
    socket: TcpStream,
    connection: UnbufferedClientConnection,
    /// The beginning of a record whose end has not come yet.
    partial: Vec<u8>,
    unsent: Unsent,
}

/// Records that the socket has not taken yet.
#[derive(Default)]
struct Unsent {
    bytes: Vec<u8>,
    /// How much of `bytes` the socket has taken.
    start: usize,
    /// How much of `bytes` is records.
    end: usize,
}

/// What becomes of received plaintext.
type Each<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

impl TlsStream {
    /// Does the handshake on a blocking socket.
    pub(crate) fn open(socket: TcpStream, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let connection =
            UnbufferedClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let mut stream = Self {
            socket,
            connection,
            partial: Vec::new(),
            unsent: Unsent::default(),
        };
        let early = &mut |_: &[u8]| Err(io::Error::other("the server spoke before it was asked"));
        stream.process(&mut [], early)?;
        let mut buffer = vec![0; HANDSHAKE_BUFFER];
        while stream.connection.is_handshaking() {
            stream.read(&mut buffer, early)?;
        }
        Ok(stream)
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Reads once, and calls `each` with the plaintext that came. Says whether the
    /// buffer was filled, so that there may be more.
    pub(crate) fn read(&mut self, buffer: &mut [u8], each: Each<'_>) -> io::Result<bool> {
        let kept = self.partial.len();
        let len = self.socket.read(&mut buffer[kept..])?;
        if len == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        buffer[..kept].copy_from_slice(&self.partial);
        self.partial.clear();
        let used = self.process(&mut buffer[..kept + len], each)?;
        self.partial.extend_from_slice(&buffer[used..kept + len]);
        Ok(kept + len == buffer.len())
    }

    /// Deals with the records in `bytes`, and says how many bytes they have.
    fn process(&mut self, bytes: &mut [u8], each: Each<'_>) -> io::Result<usize> {
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(&mut bytes[used..]);
            let done = match state.map_err(io::Error::other)? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(io::Error::other)?;
                        discard += record.discard;
                        each(record.payload)?;
                    }
                    false
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    self.unsent
                        .put(|room| data.encode(room).map_err(encode_error))?;
                    false
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    false
                }
                ConnectionState::PeerClosed | ConnectionState::Closed => {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                // There is nothing more to be done without more bytes.
                _ => true,
            };
            used += discard;
            if done {
                self.flush()?;
                return Ok(used);
            }
        }
    }
}

impl Write for TlsStream {
    /// Encrypts all of `bytes`, unless the socket has to take others before.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        if !self.unsent.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut []);
        let ConnectionState::WriteTraffic(mut traffic) = state.map_err(io::Error::other)? else {
            return Err(io::Error::other("the TLS connection takes no messages"));
        };
        self.unsent
            .reserve(bytes.len() + (bytes.len() / RECORD_LEN + 1) * RECORD_OVERHEAD);
        self.unsent.put(|room| encrypt(&mut traffic, bytes, room))?;
        self.flush()?;
        Ok(bytes.len())
    }

    /// Writes what is unsent, as far as the socket takes it.
    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.socket.write(self.unsent.get()) {
                Ok(len) => self.unsent.taken(len),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Why nothing could be put into a buffer.
enum Refused {
    /// It must have this room.
    Needs(usize),
    Failed(io::Error),
}

fn encode_error(error: EncodeError) -> Refused {
    match error {
        EncodeError::InsufficientSize(InsufficientSizeError { required_size }) => {
            Refused::Needs(required_size)
        }
        error => Refused::Failed(io::Error::other(error)),
    }
}

fn encrypt(
    traffic: &mut WriteTraffic<'_, ClientConnectionData>,
    bytes: &[u8],
    room: &mut [u8],
) -> Result<usize, Refused> {
    traffic.encrypt(bytes, room).map_err(|error| match error {
        EncryptError::InsufficientSize(InsufficientSizeError { required_size }) => {
            Refused::Needs(required_size)
        }
        error => Refused::Failed(io::Error::other(error)),
    })
}

impl Unsent {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn get(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn taken(&mut self, len: usize) {
        self.start += len;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Makes room for `len` bytes more. Room once made is kept, so that it is not cleared for
    /// each write.
    fn reserve(&mut self, len: usize) {
        let len = self.end + len;
        if self.bytes.len() < len {
            self.bytes.resize(len, 0);
        }
    }

    /// Lets `write` append, with as much room as it asks for.
    fn put(
        &mut self,
        mut write: impl FnMut(&mut [u8]) -> Result<usize, Refused>,
    ) -> io::Result<()> {
        loop {
            match write(&mut self.bytes[self.end..]) {
                Ok(len) => {
                    self.end += len;
                    return Ok(());
                }
                Err(Refused::Needs(len)) => self.reserve(len),
                Err(Refused::Failed(error)) => return Err(error),
            }
        }
    }
}

/// Takes any certificate.
#[derive(Debug)]
struct NoVerification(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

//! The stream of a connection: a socket, encrypted or not, and upgraded to
//! WebSocket when that is what it carries.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::ClientConfig;

use crate::outgoing::Gather;
use crate::reliable;
use crate::shape::Format;
use crate::target::Target;
use crate::tls::{self, TlsStream};
use crate::upgrade;

pub(crate) enum Stream {
    Plain(TcpStream),
    Encrypted(Box<TlsStream>),
}

/// Opens streams to one server.
pub(crate) struct Connector {
    target: Target,
    format: Format,
    tls: Option<Arc<ClientConfig>>,
    reliable: bool,
}

impl Connector {
    pub(crate) fn new(target: &Target, format: Format, reliable: bool) -> io::Result<Self> {
        let is_encrypted = target.scheme.is_encrypted();
        Ok(Self {
            target: target.clone(),
            format,
            tls: is_encrypted.then(tls::config).transpose()?,
            reliable,
        })
    }

    /// Opens a stream, with all handshakes. Its socket is left blocking.
    pub(crate) fn open(&self) -> io::Result<Stream> {
        let socket = TcpStream::connect(self.target.address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(crate::peer::PATIENCE))?;
        let mut stream = match &self.tls {
            Some(config) => Stream::Encrypted(Box::new(TlsStream::open(socket, config)?)),
            None => Stream::Plain(socket),
        };
        if self.target.scheme.is_websocket() {
            upgrade::upgrade(&mut stream, &self.target, self.format == Format::Deflate)?;
        }
        if self.reliable {
            reliable::open(&mut stream)?;
        }
        Ok(stream)
    }
}

impl Stream {
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Encrypted(stream) => stream.socket(),
        }
    }

    /// Reads once, and calls `each` with what came. Says whether the buffer was
    /// filled, so that there may be more.
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<bool> {
        let result = match self {
            Self::Plain(socket) => match socket.read(buffer) {
                Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
                Ok(len) => each(&buffer[..len]).map(|()| len == buffer.len()),
                Err(error) => Err(error),
            },
            Self::Encrypted(stream) => stream.read(buffer, &mut each),
        };
        result.map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => io::Error::other("the server closed a connection"),
            _ => error,
        })
    }

    /// How large frames are best written.
    pub(crate) fn gather(&self) -> Gather {
        match self {
            Self::Plain(_) => Gather::Pieces,
            Self::Encrypted(_) => Gather::Buffer,
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Encrypted(stream) => stream.write(bytes),
        }
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write_vectored(pieces),
            Self::Encrypted(stream) => stream.write_vectored(pieces),
        }
    }

    /// Writes what was taken before and is still here.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Encrypted(stream) => stream.flush(),
        }
    }
}

//! A peer that speaks MSGI byte by byte, independent of the library.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

pub(crate) const DATA: u16 = 0x0010;
pub(crate) const REQUEST: u16 = 0x0011;
pub(crate) const RESPONSE: u16 = 0x0012;
pub(crate) const FAILURE: u16 = 0x0013;
pub(crate) const CONTROL: u16 = 0x0020;
pub(crate) const ERROR: u16 = 0x0030;
pub(crate) const HEARTBEAT: u16 = 0x0040;
pub(crate) const DISCONNECT: u16 = 0x0050;

/// How long a test waits for what has to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An address at which nobody listens, nor will as long as this is there: a connection has it.
pub(crate) struct Closed {
    stream: TcpStream,
    _to: TcpListener,
}

impl Closed {
    pub(crate) fn take() -> Self {
        let to = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(to.local_addr().unwrap()).unwrap();
        Closed { stream, _to: to }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

pub(crate) struct Peer {
    stream: BufReader<TcpStream>,
}

impl Peer {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Peer {
            stream: BufReader::new(connect(address)),
        }
    }

    /// The next one that connects to a server in the test.
    pub(crate) fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Peer {
            stream: BufReader::new(stream),
        }
    }

    /// Connects and opens a session; comes back when the server has it.
    pub(crate) fn hello(address: SocketAddr, hello: &str) -> Self {
        let mut peer = Peer::connect(address);
        peer.send(CONTROL, hello.as_bytes());
        let (kind, payload) = peer.receive();
        assert_eq!(kind, CONTROL, "{}", String::from_utf8_lossy(&payload));
        assert!(String::from_utf8(payload).unwrap().contains("welcome"));
        peer
    }

    pub(crate) fn open(address: SocketAddr) -> Self {
        Peer::hello(address, r#"{"op":"hello"}"#)
    }

    pub(crate) fn send(&mut self, kind: u16, payload: &[u8]) {
        let mut frame = b"MSGI".to_vec();
        frame.extend((10 + payload.len() as u32).to_be_bytes());
        frame.extend(kind.to_be_bytes());
        frame.extend(payload);
        self.stream.get_mut().write_all(&frame).unwrap();
    }

    /// The next frame, PING left out.
    pub(crate) fn receive(&mut self) -> (u16, Vec<u8>) {
        self.try_receive().unwrap()
    }

    pub(crate) fn try_receive(&mut self) -> io::Result<(u16, Vec<u8>)> {
        loop {
            let mut header = [0; 10];
            self.stream.read_exact(&mut header)?;
            assert_eq!(&header[..4], b"MSGI");
            let len = u32::from_be_bytes(header[4..8].try_into().unwrap()) as usize;
            let kind = u16::from_be_bytes(header[8..].try_into().unwrap());
            let mut payload = vec![0; len - 10];
            self.stream.read_exact(&mut payload)?;
            if kind != 1 {
                return Ok((kind, payload));
            }
        }
    }

    /// Waits until something has come, and leaves it there.
    pub(crate) fn await_input(&mut self) {
        assert!(!self.stream.fill_buf().unwrap().is_empty());
    }

    /// The next frame as type and text.
    pub(crate) fn receive_text(&mut self) -> (u16, String) {
        let (kind, payload) = self.receive();
        (kind, String::from_utf8(payload).unwrap())
    }

    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0) | Err(_))
    }

    pub(crate) fn shut_down(&mut self) {
        self.stream.get_mut().shutdown(Shutdown::Write).unwrap();
    }
}

/// A person with a plain terminal: `nc` to a listener with the codec `lines`.
pub(crate) struct Terminal {
    stream: BufReader<TcpStream>,
}

impl Terminal {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Terminal {
            stream: BufReader::new(connect(address)),
        }
    }

    pub(crate) fn type_line(&mut self, line: &str) {
        self.stream
            .get_mut()
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

//! A plain peer: it speaks frames and has no session, so that it can also do what is forbidden.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use network_system::ErrorCode;
use network_system::internal::{MemoryPeer, RawFrame};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::tls;
use super::websocket::{self, Ask, Ws, WsPeer};
use super::within;

/// Types of frames, protocol section 2.
pub mod kind {
    pub const PING: u16 = 0x0001;
    pub const PONG: u16 = 0x0002;
    pub const DATA: u16 = 0x0010;
    pub const REQUEST: u16 = 0x0011;
    pub const RESPONSE: u16 = 0x0012;
    pub const FAILURE: u16 = 0x0013;
    pub const CONTROL: u16 = 0x0020;
    pub const ERROR: u16 = 0x0030;
    pub const HEARTBEAT: u16 = 0x0040;
    pub const DISCONNECT: u16 = 0x0050;
}

/// A frame, its correlation id apart from its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u16,
    pub id: u64,
    pub payload: Bytes,
}

impl Frame {
    pub fn new(kind: u16, payload: impl Into<Bytes>) -> Self {
        Frame {
            kind,
            id: 0,
            payload: payload.into(),
        }
    }

    pub fn with_id(kind: u16, id: u64, payload: impl Into<Bytes>) -> Self {
        Frame {
            kind,
            id,
            payload: payload.into(),
        }
    }

    fn has_id(kind: u16) -> bool {
        matches!(kind, kind::REQUEST | kind::RESPONSE | kind::FAILURE)
    }

    /// The frame as MSGI has it.
    pub fn encode(&self) -> Vec<u8> {
        let id = if Frame::has_id(self.kind) { 8 } else { 0 };
        let mut bytes = b"MSGI".to_vec();
        bytes.extend(((10 + id + self.payload.len()) as u32).to_be_bytes());
        bytes.extend(self.kind.to_be_bytes());
        if id > 0 {
            bytes.extend(self.id.to_be_bytes());
        }
        bytes.extend(&self.payload);
        bytes
    }

    /// The code and the text of ERROR and FAILURE.
    pub fn code_and_text(&self) -> (i32, String) {
        let (code, text) = self.payload.split_at(4);
        let code = i32::from_be_bytes(code.try_into().unwrap());
        (code, String::from_utf8(text.to_vec()).unwrap())
    }

    /// The object of a CONTROL frame.
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.kind, kind::CONTROL, "{self:?}");
        serde_json::from_slice(&self.payload).unwrap()
    }
}

pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

enum Wire {
    Stream {
        io: Box<dyn Io>,
        buffer: BytesMut,
    },
    Memory(MemoryPeer),
    WebSocket {
        peer: WsPeer,
        /// Whether the server has said its last.
        ended: bool,
    },
    Datagrams {
        socket: UdpSocket,
        paid: usize,
        /// Whether a DISCONNECT was sent.
        left: bool,
        /// Whether the server has said its last.
        ended: bool,
    },
    /// A connection that was not upgraded, with the ERROR that the refusal stands for.
    Refused(Option<Frame>),
}

/// What a peer sends over UDP before it expects an answer, in bytes.
const PAID: usize = 2_000;

impl Wire {
    fn stream(io: Box<dyn Io>) -> Self {
        Wire::Stream {
            io,
            buffer: BytesMut::new(),
        }
    }
}

async fn tcp(host: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(host).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connects a stream of bytes.
pub async fn dial(url: &str) -> io::Result<Box<dyn Io>> {
    let (scheme, rest) = url.split_once("://").unwrap();
    let rest = rest.split(['?', '/']).next().unwrap_or(rest);
    match scheme {
        "tcp" | "ws" => Ok(Box::new(tcp(rest).await?)),
        "tls" => Ok(Box::new(tls::connect(tcp(rest).await?, "msgi/1").await?)),
        "wss" => Ok(Box::new(tls::connect(tcp(rest).await?, "http/1.1").await?)),
        #[cfg(unix)]
        "unix" | "ws+unix" => {
            let path = url.split_once("://").unwrap().1;
            let path = path.split(['?', ':']).next().unwrap();
            Ok(Box::new(tokio::net::UnixStream::connect(path).await?))
        }
        other => panic!("no stream for {other}"),
    }
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionReset, UnexpectedEof};
    matches!(error.kind(), ConnectionReset | UnexpectedEof)
}

/// Asks for MSGI inside of WebSocket. A refusal has a status, which stands for an error.
async fn upgrade(url: &str) -> io::Result<Wire> {
    let answer = match websocket::ask(url, &Ask::msgi()).await {
        // Closed without a word.
        Err(error) if is_end(&error) => return Ok(Wire::Refused(None)),
        answer => answer?,
    };
    let body = answer.body.clone();
    Ok(match answer.upgraded() {
        Ok(peer) => Wire::WebSocket { peer, ended: false },
        Err(status) => {
            let code = match status {
                401 => ErrorCode::AuthenticationFailed,
                403 => ErrorCode::AccessDenied,
                408 => ErrorCode::ConnectionTimeout,
                429 => ErrorCode::RateLimited,
                503 => ErrorCode::TooManyConnections,
                other => panic!("refused with {other}: {body}"),
            };
            let payload = [&code.as_i32().to_be_bytes()[..], body.as_bytes()].concat();
            Wire::Refused(Some(Frame::new(kind::ERROR, payload)))
        }
    })
}

pub struct Peer {
    wire: Wire,
}

impl Peer {
    /// The other end of a connection.
    pub fn of(stream: impl Io + 'static) -> Self {
        Peer {
            wire: Wire::stream(Box::new(stream)),
        }
    }

    pub async fn connect(url: &str) -> Self {
        within("connect", Peer::try_connect(url)).await.unwrap()
    }

    pub async fn try_connect(url: &str) -> io::Result<Self> {
        let wire = match url.split_once("://").unwrap() {
            ("mem", name) => Wire::Memory(MemoryPeer::connect(name).await?),
            ("ws" | "wss" | "ws+unix", _) => upgrade(url).await?,
            ("udp", host) => {
                let host: SocketAddr = host.split('?').next().unwrap().parse().unwrap();
                let own = if host.is_ipv6() {
                    "[::1]:0"
                } else {
                    "127.0.0.1:0"
                };
                let socket = UdpSocket::bind(own).await?;
                socket.connect(host).await?;
                Wire::Datagrams {
                    socket,
                    paid: 0,
                    left: false,
                    ended: false,
                }
            }
            // Refused before there was a handshake.
            ("tls", _) => match dial(url).await {
                Err(error) if is_end(&error) => Wire::Refused(None),
                io => Wire::stream(io?),
            },
            _ => Wire::stream(dial(url).await?),
        };
        Ok(Peer { wire })
    }

    // Sending

    pub async fn try_send(&mut self, frame: Frame) -> io::Result<()> {
        match &mut self.wire {
            Wire::Stream { io, .. } => {
                io.write_all(&frame.encode()).await?;
                io.flush().await
            }
            Wire::WebSocket { peer, .. } => peer.try_write(&in_message(&frame)).await,
            Wire::Datagrams {
                socket, paid, left, ..
            } => {
                *left |= frame.kind == kind::DISCONNECT;
                socket.send(&frame.encode()).await?;
                // No more is sent to an address that has not answered than came from it. This is enough
                // for the first answer, and nobody's message.
                while *paid < PAID {
                    let heartbeat = Frame::new(kind::HEARTBEAT, vec![0; 125]).encode();
                    *paid += socket.send(&heartbeat).await?;
                }
                Ok(())
            }
            Wire::Refused(_) => Err(io::ErrorKind::BrokenPipe.into()),
            Wire::Memory(peer) => {
                let Frame { kind, id, payload } = frame;
                peer.send(RawFrame {
                    frame_type: kind,
                    text: false,
                    id,
                    payload,
                })
                .await
            }
        }
    }

    pub async fn send(&mut self, frame: Frame) {
        within("send", self.try_send(frame)).await.unwrap();
    }

    /// Sends frames in one write, where there are writes.
    pub async fn send_together(&mut self, frames: Vec<Frame>) {
        match &mut self.wire {
            Wire::Stream { .. } | Wire::WebSocket { .. } => {
                let bytes: Vec<u8> = frames.iter().flat_map(|frame| self.encode(frame)).collect();
                self.write(&bytes).await;
            }
            Wire::Memory(_) | Wire::Datagrams { .. } | Wire::Refused(_) => {
                for frame in frames {
                    self.send(frame).await;
                }
            }
        }
    }

    /// The bytes that carry a frame. Only for streams.
    pub fn encode(&self, frame: &Frame) -> Vec<u8> {
        match &self.wire {
            Wire::Stream { .. } => frame.encode(),
            Wire::WebSocket { .. } => in_message(frame),
            _ => panic!("not a stream"),
        }
    }

    /// The bytes that stand before a payload of DATA which is `len` bytes long; the payload then follows as
    /// it is. Only for streams.
    pub fn declare(&self, len: u32) -> Vec<u8> {
        let mut bytes = match &self.wire {
            Wire::Stream { .. } => Vec::new(),
            // A mask of zeroes changes nothing.
            Wire::WebSocket { .. } => {
                let mut head = websocket::head(0x80 | websocket::BINARY, len as usize + 10);
                head.extend([0; 4]);
                head
            }
            _ => panic!("not a stream"),
        };
        bytes.extend(b"MSGI");
        bytes.extend((len + 10).to_be_bytes());
        bytes.extend(kind::DATA.to_be_bytes());
        bytes
    }

    /// Writes bytes where a frame is expected. Only for streams.
    pub async fn write_unit(&mut self, bytes: &[u8]) {
        match &mut self.wire {
            Wire::WebSocket { peer, .. } => peer.send(websocket::BINARY, bytes).await,
            _ => self.write(bytes).await,
        }
    }

    /// Writes bytes as they are. Only for streams.
    pub async fn write(&mut self, bytes: &[u8]) {
        within("write", self.try_write(bytes)).await.unwrap();
    }

    pub async fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.wire {
            Wire::Stream { io, .. } => {
                io.write_all(bytes).await?;
                io.flush().await
            }
            Wire::WebSocket { peer, .. } => peer.try_write(bytes).await,
            _ => panic!("not a stream"),
        }
    }

    pub async fn data(&mut self, payload: impl Into<Bytes>) {
        self.send(Frame::new(kind::DATA, payload)).await;
    }

    pub async fn request(&mut self, id: u64, payload: impl Into<Bytes>) {
        self.send(Frame::with_id(kind::REQUEST, id, payload)).await;
    }

    pub async fn control(&mut self, json: impl Into<Bytes>) {
        self.send(Frame::new(kind::CONTROL, json)).await;
    }

    /// A frame that only opens the session.
    pub async fn heartbeat(&mut self) {
        self.send(Frame::new(kind::HEARTBEAT, "")).await;
    }

    /// Ends the sending direction. Datagrams have no other end than a DISCONNECT.
    pub async fn shutdown(&mut self) {
        match &mut self.wire {
            Wire::Stream { io, .. } => io.shutdown().await.unwrap(),
            Wire::Memory(peer) => peer.shutdown(),
            Wire::WebSocket { peer, .. } => peer.close(1000, "").await,
            Wire::Datagrams { left: false, .. } => {
                self.send(Frame::new(kind::DISCONNECT, "")).await
            }
            Wire::Datagrams { .. } | Wire::Refused(_) => {}
        }
    }

    /// Ends the stream of bytes where it is. Only for streams.
    pub async fn cut_off(&mut self) {
        match &mut self.wire {
            Wire::Stream { io, .. } => io.shutdown().await.unwrap(),
            Wire::WebSocket { peer, .. } => peer.io.shutdown().await.unwrap(),
            _ => panic!("not a stream"),
        }
    }

    // Receiving

    /// The next frame, `None` at the end of the stream, an error when the connection broke.
    pub async fn try_receive(&mut self) -> io::Result<Option<Frame>> {
        match &mut self.wire {
            Wire::Memory(peer) => Ok(peer.receive().await.map(|frame| Frame {
                kind: frame.frame_type,
                id: frame.id,
                payload: frame.payload,
            })),
            Wire::Refused(error) => Ok(error.take()),
            Wire::WebSocket { ended: true, .. } | Wire::Datagrams { ended: true, .. } => Ok(None),
            Wire::Datagrams { socket, ended, .. } => {
                let mut datagram = BytesMut::with_capacity(64 * 1024);
                socket.recv_buf(&mut datagram).await?;
                let frame = split(&mut datagram).expect("a whole frame");
                assert!(datagram.is_empty(), "two frames in one datagram");
                *ended = matches!(frame.kind, kind::ERROR | kind::DISCONNECT);
                Ok(Some(frame))
            }
            Wire::WebSocket { peer, ended } => match peer.try_receive().await? {
                Some(Ws::Binary(message)) => {
                    let mut message = BytesMut::from(message);
                    let frame = split(&mut message).expect("a whole frame");
                    assert!(message.is_empty(), "two frames in one message");
                    Ok(Some(frame))
                }
                Some(Ws::Close(..)) => {
                    *ended = true;
                    Ok(None)
                }
                // As TLS without close_notify: it may have been cut off.
                None => Err(io::ErrorKind::UnexpectedEof.into()),
                Some(other) => panic!("no frame of MSGI: {other:?}"),
            },
            Wire::Stream { io, buffer } => loop {
                if let Some(frame) = split(buffer) {
                    return Ok(Some(frame));
                }
                if io.read_buf(buffer).await? == 0 {
                    assert!(
                        buffer.is_empty(),
                        "the server ended inside a frame: {buffer:?}"
                    );
                    return Ok(None);
                }
            },
        }
    }

    pub async fn receive(&mut self) -> Option<Frame> {
        within("a frame", self.try_receive())
            .await
            .expect("the connection broke")
    }

    /// Whether no frame comes within `time`.
    pub async fn is_quiet_for(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.try_receive())
            .await
            .is_err()
    }

    /// The next frame, which is of this kind.
    pub async fn expect(&mut self, kind: u16) -> Frame {
        let frame = self
            .receive()
            .await
            .expect("the server ended the connection");
        if frame.kind == kind::ERROR && kind != kind::ERROR {
            panic!("the server refused: {:?}", frame.code_and_text());
        }
        assert_eq!(frame.kind, kind, "{frame:?}");
        frame
    }

    pub async fn expect_data(&mut self) -> Bytes {
        self.expect(kind::DATA).await.payload
    }

    /// Exactly one ERROR, then the end of the stream. Frames before it are given to `skip`.
    pub async fn expect_error_and_end(&mut self) -> (i32, String) {
        let error = self.expect(kind::ERROR).await;
        self.expect_end().await;
        error.code_and_text()
    }

    pub async fn expect_end(&mut self) {
        let frame = self.receive().await;
        assert_eq!(frame, None, "the stream goes on");
    }

    /// Reads bytes as they are until the end of the stream. Only for streams.
    pub async fn read_to_end(&mut self) -> Vec<u8> {
        let Wire::Stream { io, buffer } = &mut self.wire else {
            panic!("not a stream")
        };
        let mut bytes = std::mem::take(buffer).to_vec();
        within("the end", io.read_to_end(&mut bytes)).await.unwrap();
        bytes
    }

    /// Reads so many bytes as they are. Only for streams.
    pub async fn read_exact(&mut self, count: usize) -> Vec<u8> {
        let Wire::Stream { io, .. } = &mut self.wire else {
            panic!("not a stream")
        };
        let mut bytes = vec![0; count];
        within("bytes", io.read_exact(&mut bytes)).await.unwrap();
        bytes
    }

    /// Shows that datagrams to this address arrive, so that the server sends more than it has got.
    pub async fn prove_address(&mut self) {
        if let Wire::Datagrams { .. } = self.wire {
            self.ping_pong(b"here").await;
        }
    }

    /// Waits until the server has seen everything sent so far.
    pub async fn ping_pong(&mut self, payload: &'static [u8]) {
        self.send(Frame::new(kind::PING, payload)).await;
        let pong = self.expect(kind::PONG).await;
        assert_eq!(pong.payload, payload);
    }

    /// Leaves in order.
    pub async fn leave(mut self) {
        self.send(Frame::new(kind::DISCONNECT, "done")).await;
        self.shutdown().await;
        while let Some(frame) = self.receive().await {
            if frame.kind == kind::DISCONNECT {
                break;
            }
        }
        self.expect_end().await;
    }
}

/// A frame in a WebSocket message.
fn in_message(frame: &Frame) -> Vec<u8> {
    websocket::encode(true, websocket::BINARY, &frame.encode())
}

/// Takes a frame from the front of the buffer, and checks that it is one.
fn split(buffer: &mut BytesMut) -> Option<Frame> {
    let head = buffer.get(..10)?;
    assert_eq!(&head[..4], b"MSGI");
    let length = u32::from_be_bytes(head[4..8].try_into().unwrap()) as usize;
    let kind = u16::from_be_bytes(head[8..].try_into().unwrap());
    if buffer.len() < length {
        return None;
    }
    let mut payload = buffer.split_to(length).freeze();
    payload.advance(10);
    let id = if Frame::has_id(kind) {
        payload.get_u64()
    } else {
        0
    };
    Some(Frame { kind, id, payload })
}

//! A plain WebSocket client: it masks, cuts and compresses as it is told, so that it can also do what is
//! forbidden.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::peer::{Io, dial};
use super::within;

pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

/// What is asked for when a connection is upgraded.
#[derive(Clone, Debug)]
pub struct Ask {
    path: String,
    host: Option<String>,
    fields: Vec<(String, String)>,
}

impl Ask {
    pub fn new(path: &str) -> Self {
        Ask {
            path: path.to_owned(),
            host: None,
            fields: Vec::new(),
        }
    }

    /// Asks for MSGI inside of WebSocket.
    pub fn msgi() -> Self {
        Ask::new("/").field("Sec-WebSocket-Protocol", "msgi.v1")
    }

    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Replaces the Host that the URL has.
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    pub fn deflate(self, offer: &str) -> Self {
        self.field("Sec-WebSocket-Extensions", offer)
    }

    /// The request.
    pub fn text(&self, host: &str) -> String {
        let mut text = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            self.path,
            self.host.as_deref().unwrap_or(host)
        );
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text
    }
}

/// What a server says to a request: an upgraded connection, or why there is none.
pub struct Answer {
    pub status: u16,
    fields: Vec<(String, String)>,
    pub body: String,
    peer: Option<WsPeer>,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        let field = |(found, _): &&(String, String)| found.eq_ignore_ascii_case(name);
        self.fields.iter().find(field).map(|(_, value)| &value[..])
    }

    pub fn upgraded(self) -> Result<WsPeer, u16> {
        self.peer.ok_or(self.status)
    }
}

/// Asks a server; an error when the connection ended before there was an answer.
pub async fn ask(url: &str, ask: &Ask) -> io::Result<Answer> {
    let host = url.split("://").nth(1).unwrap().split('/').next();
    // On a Unix socket there is none.
    let host = host.filter(|host| !host.is_empty()).unwrap_or("localhost");
    let mut io = dial(url).await?;
    // A server that is full answers without having read anything.
    let _ = io.write_all(ask.text(host).as_bytes()).await;
    let _ = io.flush().await;
    answer(io).await
}

/// Reads the answer to a request.
pub async fn answer(mut io: Box<dyn Io>) -> io::Result<Answer> {
    let mut buffer = BytesMut::new();
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break at + 4;
        }
        if io.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8(buffer.split_to(end).to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().strip_prefix("HTTP/1.1 ").unwrap();
    let status = status[..3].parse().unwrap();
    let fields = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut answer = Answer {
        status,
        fields,
        body: String::new(),
        peer: None,
    };
    if status != 101 {
        let mut rest = buffer.to_vec();
        io.read_to_end(&mut rest).await?;
        answer.body = String::from_utf8(rest).unwrap();
        return Ok(answer);
    }
    // Of the key that is always sent, RFC 6455 section 1.3.
    let accept = answer.field("Sec-WebSocket-Accept");
    assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let agreed = answer.field("Sec-WebSocket-Extensions").map(str::to_owned);
    answer.peer = Some(WsPeer::new(io, buffer, agreed));
    Ok(answer)
}

/// What has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ws {
    Text(String),
    Binary(Bytes),
    Ping(Bytes),
    Pong(Bytes),
    Close(Option<u16>, String),
}

/// A frame as it stood on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WsFrame {
    pub fin: bool,
    pub compressed: bool,
    pub opcode: u8,
    pub payload: Bytes,
}

/// An upgraded connection.
pub struct WsPeer {
    pub io: Box<dyn Io>,
    buffer: BytesMut,
    /// The message of which fragments have arrived, and whether it is compressed.
    partial: Option<(u8, bool, BytesMut)>,
    pub inflate: Option<flate2::Decompress>,
    forgets: bool,
    close_sent: bool,
    close_received: bool,
}

impl WsPeer {
    fn new(io: Box<dyn Io>, buffer: BytesMut, agreed: Option<String>) -> Self {
        WsPeer {
            io,
            buffer,
            partial: None,
            forgets: agreed
                .as_deref()
                .is_some_and(|agreed| agreed.contains("server_no_context_takeover")),
            inflate: agreed.map(|_| flate2::Decompress::new(false)),
            close_sent: false,
            close_received: false,
        }
    }

    pub async fn connect(url: &str, what: &Ask) -> Self {
        let answer = within("an upgrade", ask(url, what)).await.unwrap();
        let body = answer.body.clone();
        match answer.upgraded() {
            Ok(peer) => peer,
            Err(status) => panic!("{status}: {body}"),
        }
    }

    // Sending

    pub async fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.write_all(bytes).await?;
        self.io.flush().await
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        within("write", self.try_write(bytes)).await.unwrap();
    }

    /// Sends one unfragmented message or control frame.
    pub async fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.write(&encode(true, opcode, payload)).await;
    }

    pub async fn text(&mut self, text: &str) {
        self.send(TEXT, text.as_bytes()).await;
    }

    /// Sends a close frame, unless one was sent.
    pub async fn close(&mut self, code: u16, text: &str) {
        let payload = [&code.to_be_bytes()[..], text.as_bytes()].concat();
        if !std::mem::replace(&mut self.close_sent, true) {
            // The server may have closed already.
            let _ = self.try_write(&encode(true, CLOSE, &payload)).await;
            self.end_when_both_have_closed().await;
        }
    }

    async fn end_when_both_have_closed(&mut self) {
        if self.close_sent && self.close_received {
            let _ = self.io.shutdown().await;
        }
    }

    // Receiving

    /// The next frame; `None` at the end of the stream.
    pub async fn try_frame(&mut self) -> io::Result<Option<WsFrame>> {
        loop {
            if let Some(frame) = split(&mut self.buffer) {
                return Ok(Some(frame));
            }
            if self.io.read_buf(&mut self.buffer).await? == 0 {
                assert!(self.buffer.is_empty(), "the server ended inside a frame");
                return Ok(None);
            }
        }
    }

    pub async fn frame(&mut self) -> Option<WsFrame> {
        within("a frame", self.try_frame()).await.unwrap()
    }

    /// The next message or control frame; `None` at the end of the stream.
    pub async fn try_receive(&mut self) -> io::Result<Option<Ws>> {
        loop {
            let Some(frame) = self.try_frame().await? else {
                return Ok(None);
            };
            let WsFrame {
                fin,
                compressed,
                opcode,
                payload,
            } = frame;
            match opcode {
                CLOSE | PING | PONG => {
                    assert!(fin && !compressed && payload.len() <= 125, "{payload:?}");
                    if opcode == CLOSE {
                        self.close_received = true;
                        self.end_when_both_have_closed().await;
                    }
                    return Ok(Some(control(opcode, payload)));
                }
                CONTINUATION => {
                    let (_, _, partial) = self.partial.as_mut().expect("a first fragment");
                    partial.extend_from_slice(&payload);
                }
                _ => {
                    assert!(self.partial.is_none(), "a message inside a message");
                    self.partial = Some((opcode, compressed, BytesMut::from(&payload[..])));
                }
            }
            if !fin {
                continue;
            }
            let (opcode, compressed, payload) = self.partial.take().expect("a message");
            let payload = match compressed {
                true => self.inflated(&payload),
                false => payload.freeze(),
            };
            return Ok(Some(match opcode {
                TEXT => Ws::Text(String::from_utf8(payload.to_vec()).unwrap()),
                BINARY => Ws::Binary(payload),
                other => panic!("opcode {other}"),
            }));
        }
    }

    pub async fn receive(&mut self) -> Ws {
        let received = within("a message", self.try_receive()).await.unwrap();
        received.expect("the server ended the connection")
    }

    /// The server's close frame is next; it is answered, and the server closes the connection.
    pub async fn expect_close(&mut self) -> (Option<u16>, String) {
        let Ws::Close(code, text) = self.receive().await else {
            panic!("no close frame");
        };
        self.close(code.unwrap_or(1000), "").await;
        self.expect_end().await;
        (code, text)
    }

    pub async fn expect_end(&mut self) {
        let frame = self.frame().await;
        assert_eq!(frame, None, "the stream goes on");
    }

    /// Waits until the server has seen everything sent so far.
    pub async fn ping_pong(&mut self, payload: &'static [u8]) {
        self.send(PING, payload).await;
        assert_eq!(self.receive().await, Ws::Pong(Bytes::from_static(payload)));
    }

    fn inflated(&mut self, payload: &[u8]) -> Bytes {
        let inflate = self.inflate.as_mut().expect("compression was agreed");
        let input = [payload, &[0, 0, 0xFF, 0xFF]].concat();
        let mut output = Vec::new();
        let before = inflate.total_in();
        while (inflate.total_in() - before) < input.len() as u64 {
            output.reserve(64 * 1024);
            let at = (inflate.total_in() - before) as usize;
            let flush = flate2::FlushDecompress::Sync;
            inflate
                .decompress_vec(&input[at..], &mut output, flush)
                .unwrap();
        }
        if self.forgets {
            inflate.reset(false);
        }
        output.into()
    }
}

fn control(opcode: u8, mut payload: Bytes) -> Ws {
    match opcode {
        PING => Ws::Ping(payload),
        PONG => Ws::Pong(payload),
        _ if payload.is_empty() => Ws::Close(None, String::new()),
        _ => {
            let code = payload.get_u16();
            Ws::Close(Some(code), String::from_utf8(payload.to_vec()).unwrap())
        }
    }
}

/// The head of a frame of a client's, up to its mask.
pub fn head(first: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![first];
    match len {
        0..126 => bytes.push(0x80 | len as u8),
        126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes
}

/// A frame as a client sends it.
pub fn encode(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    encode_with(u8::from(fin) << 7 | opcode, payload)
}

/// The same with reserved bits.
pub fn encode_with(first: u8, payload: &[u8]) -> Vec<u8> {
    // Another mask for every length, none of whose bytes is zero.
    let mask = (payload.len() as u32 | 0x0101_0101).to_be_bytes();
    let mut bytes = head(first, payload.len());
    bytes.extend(mask);
    let at = bytes.len();
    bytes.extend(payload);
    for chunk in bytes[at..].chunks_mut(4) {
        chunk
            .iter_mut()
            .zip(mask)
            .for_each(|(byte, mask)| *byte ^= mask);
    }
    bytes
}

/// Takes a frame of a server's from the front of the buffer.
fn split(buffer: &mut BytesMut) -> Option<WsFrame> {
    let (&[first, second], rest) = buffer.split_first_chunk::<2>()?;
    assert_eq!(first & 0x30, 0, "reserved bits");
    assert_eq!(second & 0x80, 0, "a server masks nothing");
    let (skip, len) = match second {
        126 => (4, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (10, u64::from_be_bytes(*rest.first_chunk()?) as usize),
        len => (2, usize::from(len)),
    };
    if buffer.len() < skip + len {
        buffer.reserve(skip + len - buffer.len());
        return None;
    }
    buffer.advance(skip);
    Some(WsFrame {
        fin: first & 0x80 != 0,
        compressed: first & 0x40 != 0,
        opcode: first & 0x0F,
        payload: buffer.split_to(len).freeze(),
    })
}

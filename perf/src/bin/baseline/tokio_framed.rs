//! `tokio-framed`: the echo as a user of tokio would write it by hand. One
//! task for each connection owns the socket in a [`Framed`]; answers go
//! through a channel, so that other tasks could send to the connection too,
//! and the task drains the channel into the socket with one flush.

use std::{io, net};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use network_system_perf::frame::{self, HEADER_LEN};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::codec::{Decoder, Encoder, Framed};

/// Answers that may wait for one connection. When the channel is full, the
/// connection is not read until it was drained.
const CHANNEL: usize = 1024;

pub(crate) fn run(listener: net::TcpListener) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                // A broken connection concerns nobody else.
                let _ = serve(stream).await;
            });
        }
    })
}

async fn serve(stream: TcpStream) -> io::Result<()> {
    let mut framed = Framed::new(stream, Codec);
    let (sender, mut receiver) = mpsc::channel::<Message>(CHANNEL);
    loop {
        tokio::select! {
            // Reading first collects the answers to all that one read brought.
            biased;
            message = framed.next(), if sender.capacity() > 0 => {
                let Some(message) = message.transpose()? else {
                    break;
                };
                if message.kind == frame::DATA {
                    sender.try_send(message).map_err(io::Error::other)?;
                }
            }
            Some(message) = receiver.recv() => {
                framed.feed(message).await?;
                while let Ok(message) = receiver.try_recv() {
                    framed.feed(message).await?;
                }
                framed.flush().await?;
            }
        }
    }
    while let Ok(message) = receiver.try_recv() {
        framed.feed(message).await?;
    }
    framed.close().await
}

struct Message {
    kind: u16,
    payload: Bytes,
}

struct Codec;

impl Decoder for Codec {
    type Item = Message;
    type Error = io::Error;

    fn decode(&mut self, source: &mut BytesMut) -> io::Result<Option<Message>> {
        let Some(header) = source.first_chunk() else {
            return Ok(None);
        };
        let (kind, length) = frame::parse_header(header)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if source.len() < length {
            source.reserve(length - source.len());
            return Ok(None);
        }
        let mut payload = source.split_to(length);
        payload.advance(HEADER_LEN);
        Ok(Some(Message {
            kind,
            payload: payload.freeze(),
        }))
    }
}

impl Encoder<Message> for Codec {
    type Error = io::Error;

    fn encode(&mut self, message: Message, target: &mut BytesMut) -> io::Result<()> {
        target.reserve(HEADER_LEN + message.payload.len());
        target.put_slice(&frame::header(message.kind, message.payload.len()));
        target.put_slice(&message.payload);
        Ok(())
    }
}

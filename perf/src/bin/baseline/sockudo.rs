//! `sockudo-ws`: the echo of sockudo-ws' documentation, in the form that it
//! recommends for batches: answers are fed, and leave together when all that
//! a read brought is parsed. It agrees to permessage-deflate when offered.

use std::{io, net};

use bytes::BytesMut;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use sockudo_ws::deflate::negotiate_server_deflate;
use sockudo_ws::handshake::{build_response, generate_accept_key, parse_request};
use sockudo_ws::{
    CompressedWebSocketStream, Config, DeflateConfig, Error, Message, Result, WebSocketStream,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;

use crate::tokio_server;

pub(crate) fn run(listener: net::TcpListener) -> io::Result<()> {
    tokio_server::run(listener, Builder::enable_all, serve)
}

async fn serve(mut stream: TcpStream) -> Result<()> {
    match accept(&mut stream).await? {
        Some(deflate) => {
            let config = Config::default();
            echo(CompressedWebSocketStream::server(stream, config, deflate)).await
        }
        None => echo(WebSocketStream::server(stream, Config::default())).await,
    }
}

/// Answers the upgrade request; gives the agreed compression.
async fn accept(stream: &mut TcpStream) -> Result<Option<DeflateConfig>> {
    let mut buffer = BytesMut::with_capacity(4096);
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(Error::ConnectionClosed);
        }
        if let Some((request, _)) = parse_request(&buffer)? {
            let deflate = request
                .extensions
                .and_then(|offers| negotiate_server_deflate(offers, &DeflateConfig::default()));
            let extension = deflate.as_ref().map(|agreed| agreed.to_response_header());
            let accept_key = generate_accept_key(request.key);
            let response = build_response(&accept_key, None, extension.as_deref());
            stream.write_all(&response).await?;
            return Ok(deflate.map(|agreed| agreed.config));
        }
    }
}

async fn echo<S>(mut socket: S) -> Result<()>
where
    S: Stream<Item = Result<Message>> + Sink<Message, Error = Error> + Unpin,
{
    while let Some(message) = socket.next().await {
        match message? {
            message @ (Message::Text(_) | Message::Binary(_)) => socket.feed(message).await?,
            Message::Close(_) => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}

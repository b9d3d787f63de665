//! `tungstenite-ws` and `tungstenite-wss`: the echo server of
//! tokio-tungstenite's examples, without its log.

use std::{io, net};

use futures_util::{StreamExt, TryStreamExt, future};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Builder;
use tokio_tungstenite::tungstenite::Error;

use crate::{tls, tokio_server};

pub(crate) fn run(listener: net::TcpListener) -> io::Result<()> {
    tokio_server::run(listener, Builder::enable_io, echo)
}

pub(crate) fn run_encrypted(listener: net::TcpListener) -> io::Result<()> {
    let acceptor = tls::acceptor()?;
    tokio_server::run(listener, Builder::enable_io, move |stream| {
        let accepting = acceptor.accept(stream);
        async move { echo(accepting.await?).await }
    })
}

async fn echo(stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), Error> {
    let stream = tokio_tungstenite::accept_async(stream).await?;
    let (write, read) = stream.split();
    read.try_filter(|message| future::ready(message.is_text() || message.is_binary()))
        .forward(write)
        .await
}

//! `tokio-rustls` and `tokio-rustls-buffered`: MSGI inside TLS as a user of
//! tokio would write it by hand for speed. All frames that a read brought are
//! answered with one write.
//!
//! rustls reads 4 KiB at a time from its socket, however large the buffer is
//! that it is asked to fill. The second server gives it a socket with a buffer.

use std::sync::Arc;
use std::{io, net};

use network_system_perf::frame;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::runtime::Builder;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::tokio_server;

/// The size of a connection's read buffer.
const READ_BUFFER: usize = 64 * 1024;

pub(crate) fn run(listener: net::TcpListener) -> io::Result<()> {
    let acceptor = acceptor()?;
    tokio_server::run(listener, Builder::enable_io, move |stream| {
        let accepting = acceptor.accept(stream);
        async move { echo(accepting.await?).await }
    })
}

pub(crate) fn run_buffered(listener: net::TcpListener) -> io::Result<()> {
    let acceptor = acceptor()?;
    tokio_server::run(listener, Builder::enable_io, move |stream| {
        let accepting = acceptor.accept(BufReader::with_capacity(READ_BUFFER, stream));
        async move { echo(accepting.await?).await }
    })
}

/// What accepts TLS connections with a certificate that is made now.
pub(crate) fn acceptor() -> io::Result<TlsAcceptor> {
    let certified =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(io::Error::other)?;
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn echo(mut stream: TlsStream<impl AsyncRead + AsyncWrite + Unpin>) -> io::Result<()> {
    let mut buffer = vec![0; READ_BUFFER];
    let mut partial = Vec::new();
    let mut answer = Vec::new();
    loop {
        let len = stream.read(&mut buffer).await?;
        if len == 0 {
            return Ok(());
        }
        frame::split(&mut partial, &buffer[..len], |kind, frame| {
            if kind == frame::DATA {
                answer.extend_from_slice(frame);
            }
        })
        .map_err(io::Error::other)?;
        if !answer.is_empty() {
            stream.write_all(&answer).await?;
            stream.flush().await?;
            answer.clear();
        }
    }
}

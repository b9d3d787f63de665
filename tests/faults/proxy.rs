//! A way to a server that breaks where it is told to.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How a connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Both ends get a reset.
    Reset,
    /// Both ends see the end of the stream.
    Close,
    /// Nothing passes any more, and nobody is told.
    Stall,
}

/// What becomes of one connection. Side 0 is what the client sends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Script {
    /// On which side, after how many bytes, and how.
    pub cut: Option<(usize, u64, Break)>,
    /// The most bytes that are passed on at once; 0 for as they come.
    pub piece: usize,
    /// How long each piece is held up.
    pub pause: Duration,
}

/// Stands before a server until it is dropped.
pub struct Proxy {
    pub url: String,
    task: JoinHandle<()>,
}

impl Proxy {
    /// `script` says what becomes of each connection, counted from 0.
    pub async fn start(
        target: SocketAddr,
        script: impl Fn(u64) -> Script + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("tcp://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            for count in 0.. {
                let Ok((near, _)) = listener.accept().await else {
                    break;
                };
                let script = script(count);
                connections.spawn(async move {
                    // Who hears nothing of it sees the connection closed.
                    let _ = carry(near, target, script).await;
                });
            }
        });
        Proxy { url, task }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(near: TcpStream, target: SocketAddr, script: Script) -> io::Result<()> {
    let far = TcpStream::connect(target).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let limit = |side: usize| script.cut.filter(|cut| cut.0 == side).map(|cut| cut.1);
    let was_cut = tokio::select! {
        cut = pass(&near, &far, limit(0), script) => cut?,
        cut = pass(&far, &near, limit(1), script) => cut?,
    };
    match script.cut.filter(|_| was_cut) {
        Some((_, _, Break::Stall)) => std::future::pending::<()>().await,
        Some((_, _, Break::Reset)) => {
            for end in [&near, &far] {
                SockRef::from(end).set_linger(Some(Duration::ZERO))?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Passes bytes on; says whether it stopped because it was to cut.
async fn pass(
    from: &TcpStream,
    to: &TcpStream,
    limit: Option<u64>,
    script: Script,
) -> io::Result<bool> {
    let mut passed = 0;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let room = limit.map_or(u64::MAX, |limit| limit - passed);
        if room == 0 {
            return Ok(true);
        }
        let most = match script.piece {
            0 => buffer.len(),
            piece => piece.min(buffer.len()),
        };
        let most = most.min(usize::try_from(room).unwrap_or(usize::MAX));
        let count = read_some(from, &mut buffer[..most]).await?;
        if count == 0 {
            SockRef::from(to).shutdown(Shutdown::Write)?;
            // The other direction says when it is over.
            std::future::pending::<()>().await;
        }
        if !script.pause.is_zero() {
            tokio::time::sleep(script.pause).await;
        }
        write_whole(to, &buffer[..count]).await?;
        passed += count as u64;
    }
}

async fn read_some(from: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
    loop {
        from.readable().await?;
        match from.try_read(into) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

async fn write_whole(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => bytes = &bytes[written?..],
        }
    }
    Ok(())
}

//! The listener: who comes in, how many, and their end.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::answer;
use crate::connection;
use crate::error::DashboardError;

/// Connections at a time. A browser opens six.
const CONNECTIONS: usize = 64;

/// Connections beyond those that are told so at a time; more are closed without a word.
const TURNED_AWAY: usize = 16;

/// How long one that is turned away has to read why.
const TURNED_AWAY_TIME: Duration = Duration::from_secs(1);

/// The pause after an `accept` that failed, when the process has no descriptors left for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long answers may go on at the end.
const SHUTDOWN_TIME: Duration = Duration::from_millis(500);

/// How long clients may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// From the first byte of a head to its last.
    pub(crate) head: Duration,
    /// Between two requests, and before the first.
    pub(crate) idle: Duration,
    /// For the body of a request.
    pub(crate) body: Duration,
    /// From the head of a request to the answer.
    pub(crate) answer: Duration,
    /// Without taking enough of an answer, see `connection`.
    pub(crate) write: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines {
            head: Duration::from_secs(5),
            idle: Duration::from_secs(60),
            body: Duration::from_secs(10),
            answer: Duration::from_secs(15),
            write: Duration::from_secs(10),
        }
    }
}

impl Deadlines {
    pub(crate) fn divided_by(self, divisor: u32) -> Self {
        Deadlines {
            head: self.head / divisor,
            idle: self.idle / divisor,
            body: self.body / divisor,
            answer: self.answer / divisor,
            write: self.write / divisor,
        }
    }
}

/// A dashboard that is served on an address of its own. Dropping it ends it at once.
pub struct DashboardServer {
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl DashboardServer {
    /// Where it listens, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address of the page, for example `http://127.0.0.1:7680`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Accepts no more, lets answers that are under way end for half a second, and closes all connections.
    ///
    /// Dropping the future ends it at once.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        // It ends by itself, and after a panic there is nothing left to wait for.
        let _ = (&mut self.task).await;
    }
}

impl Drop for DashboardServer {
    fn drop(&mut self) {
        // The connections belong to the task.
        self.task.abort();
    }
}

impl fmt::Debug for DashboardServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DashboardServer")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

pub(crate) async fn bind(
    addr: SocketAddr,
    deadlines: Deadlines,
    router: impl FnOnce(SocketAddr) -> Router,
) -> Result<DashboardServer, DashboardError> {
    let bound = |error: io::Error| DashboardError::bind(addr, error);
    let listener = TcpListener::bind(addr).await.map_err(bound)?;
    let addr = listener.local_addr().map_err(bound)?;
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(accept(listener, router(addr), deadlines, stopped));
    Ok(DashboardServer { addr, stop, task })
}

async fn accept(
    listener: TcpListener,
    router: Router,
    deadlines: Deadlines,
    mut stopped: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let door = Arc::new(Semaphore::new(TURNED_AWAY));
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = tasks.join_next() => continue,
            _ = stopped.changed() => break,
        };
        let Ok((stream, _)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        if let Ok(permit) = Arc::clone(&room).try_acquire_owned() {
            // Answers are small and wanted now; where it cannot be set, they come a little later.
            let _ = stream.set_nodelay(true);
            let serving = connection::serve(stream, router.clone(), deadlines, stopped.clone());
            tasks.spawn(async move {
                serving.await;
                drop(permit);
            });
        } else if let Ok(permit) = Arc::clone(&door).try_acquire_owned() {
            tasks.spawn(async move {
                let busy = answer::raw(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the dashboard has as many connections as it may",
                );
                // Whoever does not listen is not told.
                let _ = timeout(TURNED_AWAY_TIME, turn_away(stream, &busy)).await;
                drop(permit);
            });
        }
    }
    drop(listener);
    let _ = timeout(SHUTDOWN_TIME, async {
        while tasks.join_next().await.is_some() {}
    })
    .await;
    tasks.shutdown().await;
}

/// Writes a last answer, and reads what comes until the other side has closed too: a socket that is closed with
/// something unread takes its answer back.
pub(crate) async fn turn_away(mut stream: TcpStream, answer: &[u8]) -> io::Result<()> {
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    let mut unread = [0; 4096];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

//! What the servers on tokio share: a runtime of one thread, and a task for
//! each connection.

use std::{io, net};

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

/// Accepts connections and spawns `serve` for each; returns on failure only.
/// `enable` switches those drivers of the runtime on that the server needs.
pub(crate) fn run<S>(
    listener: net::TcpListener,
    enable: fn(&mut Builder) -> &mut Builder,
    serve: impl Fn(TcpStream) -> S,
) -> io::Result<()>
where
    S: Future + Send + 'static,
    S::Output: Send + 'static,
{
    let runtime = enable(&mut Builder::new_current_thread()).build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            // A broken connection concerns nobody else.
            tokio::spawn(serve(stream));
        }
    })
}

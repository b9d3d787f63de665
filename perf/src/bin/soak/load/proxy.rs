//! A proxy whose connections do not last.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::World;
use crate::random::Random;

/// Passes connections on until they are cut. It ends when this is dropped.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(super) async fn start(
        world: &Arc<World>,
        target: SocketAddr,
        mut random: Random,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let world = Arc::clone(world);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                // One client at a time is here; what has ended is not kept.
                while connections.try_join_next().is_some() {}
                if let Ok((inside, _)) = listener.accept().await {
                    let (world, random) = (Arc::clone(&world), random.fork());
                    connections.spawn(async move {
                        let _ = pass(&world, inside, target, random).await;
                    });
                }
            }
        });
        Ok(Proxy {
            address,
            _tasks: tasks,
        })
    }
}

async fn pass(
    world: &World,
    mut inside: TcpStream,
    target: SocketAddr,
    mut random: Random,
) -> io::Result<()> {
    if random.one_in(10) {
        // Nobody is there.
        return inside.set_zero_linger();
    }
    let mut outside = TcpStream::connect(target).await?;
    let lasts = Duration::from_millis(random.within(1, 3_000));
    let copying = tokio::io::copy_bidirectional(&mut inside, &mut outside);
    if tokio::time::timeout(lasts, copying).await.is_ok() {
        return Ok(());
    }
    world.counts.cuts.fetch_add(1, Relaxed);
    match random.within(0, 4) {
        // Both sides see an end.
        0 => {}
        1 => {
            inside.set_zero_linger()?;
            outside.set_zero_linger()?;
        }
        // The server sees a reset, the client nothing for a while; and the other way round.
        2 => {
            outside.set_zero_linger()?;
            drop(outside);
            world.rest(random.within(100, 1_500)).await;
        }
        _ => {
            inside.set_zero_linger()?;
            drop(inside);
            world.rest(random.within(100, 1_500)).await;
        }
    }
    Ok(())
}

//! Clients in a pool: one for each caller, and few that many callers share.

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::time::Duration;

use network_system::pool::{ClientPool, PoolError};
use network_system::{Client, Message, Server, Session};
use tokio::task::JoinSet;

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .on_request(|_: Session, question: Message| async move { Ok(question) })
        .build()?;
    server.start().await?;
    let url = server.urls().remove(0);
    let connect = move || Client::builder().endpoint(&url);

    // Each caller has a client to itself, and gives it back.
    let pool = ClientPool::clients(connect.clone())
        .minimum(2)
        .maximum(4)
        .acquire_timeout(PATIENCE)
        .check_after_idle(Some(Duration::from_secs(30)))
        .probe("are you well?", Duration::from_secs(1))
        .build()?;
    pool.warm_up().await?;
    let mut callers = JoinSet::new();
    for number in 0..20 {
        let pool = pool.clone();
        callers.spawn(async move {
            let client = pool.acquire().await?;
            let answer = client.request(format!("job {number}"), PATIENCE).await;
            Ok::<_, PoolError>(answer.is_ok())
        });
    }
    while let Some(answered) = callers.join_next().await {
        assert!(answered??);
    }
    let stats = pool.stats();
    println!(
        "20 callers, {} connections, {} waited, at most {:?}",
        stats.created, stats.waits.count, stats.waits.max
    );
    assert!(stats.created <= 4);
    assert!(pool.close().await.in_order);

    // All callers share one connection, or a few when they are many.
    let shared = ClientPool::clients(connect)
        .maximum(2)
        .multiplexed()
        .build()?;
    let mut callers = JoinSet::new();
    for number in 0..20 {
        let shared = shared.clone();
        callers.spawn(async move { shared.request(format!("job {number}"), PATIENCE).await });
    }
    while let Some(answer) = callers.join_next().await {
        answer??;
    }
    println!("20 callers, {} connection", shared.stats().pool.created);
    shared.close().await;
    server.stop().await?;
    Ok(())
}

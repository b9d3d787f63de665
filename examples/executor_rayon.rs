//! Handlers that compute, on a pool that the program has anyway: rayon's, behind a trait of one function.

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use network_system::executor::{Executor, Task};
use network_system::{Client, Message, Server, Session};
use rayon::prelude::*;

/// Runs handlers on a pool of rayon's.
struct Rayon(rayon::ThreadPool);

impl Executor for Rayon {
    fn execute(&self, task: Task) -> Result<(), Task> {
        // A pool that can be full would return `Err(task)` then.
        self.0.spawn(move || task.run());
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build()?;
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .executor(Rayon(pool))
        .on_message(|session: Session, message: Message| async move {
            let most = message.as_text().and_then(|text| text.parse().ok());
            // It takes a while, and no other session waits for it.
            let sum: u64 = (1..=most.unwrap_or(0)).into_par_iter().sum();
            let _ = session.send(sum.to_string()).await;
        })
        .build()?;
    server.start().await?;

    let client = Client::builder().endpoint(&server.urls()[0]).build()?;
    client.connect().await?;
    let mut messages = client.messages().ok_or("there is no message handler")?;
    // The answers come in the order of the messages, although the second is ready much sooner.
    for most in ["1000000", "10"] {
        client.send(most).await?;
    }
    for expected in ["500000500000", "55"] {
        let answer = messages.next().await.ok_or("the client has stopped")?;
        println!("{}", answer.as_text().unwrap_or("?"));
        assert_eq!(answer.payload(), expected.as_bytes());
    }

    client.stop().await;
    server.stop().await?;
    Ok(())
}

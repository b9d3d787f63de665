//! Executors that are full.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_pool_is_back_pressure_and_loses_nothing() {
    const LEN: usize = 4_000;
    let pool = Arc::new(ThreadPool::single_thread(1).unwrap());
    let gate = Arc::new((Mutex::new(false), std::sync::Condvar::new()));
    let (begun, first) = blocking::channel();
    let server = server().executor(Arc::clone(&pool)).handler(Blocked {
        begun,
        gate: Arc::clone(&gate),
    });
    let server = start(server).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(connect(&server).await);
    }
    let mut streams: Vec<_> = clients
        .iter()
        .map(|client| client.messages().unwrap())
        .collect();
    // Every client writes until nothing more goes through, all the way back from the pool.
    let mut sent = Vec::new();
    for client in &clients {
        let (mut number, mut refused) = (0, 0);
        while refused < 20 {
            let message = format!("{number:0>LEN$}");
            match client.try_send(message) {
                Ok(()) => (number, refused) = (number + 1, 0),
                Err(error) => {
                    assert!(error.is_full(), "{error}");
                    refused += 1;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            assert!(number < 50_000, "200 MB and still no back-pressure");
        }
        sent.push(number);
    }
    first.recv_timeout(PROMPT).unwrap();
    assert!(pool.queued() <= 1);
    for session in server.sessions() {
        // One read of 256 KiB in hand, another that waits, and what was held before reading stopped.
        let held = session.stats().bytes_received;
        assert!(held <= 1024 * 1024, "{held} bytes are held");
    }
    // No worker is blocked: on each of them another session can open.
    for _ in 0..2 {
        clients.push(promptly(connect(&server)).await);
    }

    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    for (messages, sent) in streams.iter_mut().zip(sent) {
        for number in 0..sent {
            let message = promptly(messages.next()).await.unwrap();
            assert_eq!(message.len(), LEN);
            let text = message.as_text().unwrap().trim_start_matches('0');
            assert_eq!(text.parse().unwrap_or(0), number);
        }
    }
    for client in &clients {
        client.stop().await;
    }
    let report = promptly(server.stop()).await.unwrap();
    assert_eq!(report.aborted, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_share_a_full_pool_all_go_on() {
    let pool = Arc::new(ThreadPool::new(2, 1).unwrap());
    let mut tasks = Vec::new();
    let mut servers = Vec::new();
    for _ in 0..3 {
        let server = server().executor(Arc::clone(&pool)).on_message(
            |session: Session, message: Message| async move {
                std::thread::sleep(Duration::from_micros(50));
                session.send(message).await.unwrap();
            },
        );
        let server = start(server).await;
        for _ in 0..4 {
            let client = connect(&server).await;
            tasks.push(tokio::spawn(async move {
                echoes(&client, 100).await;
                client.stop().await;
            }));
        }
        servers.push(server);
    }
    for task in tasks {
        task.await.unwrap();
    }
    for server in servers {
        promptly(server.stop()).await.unwrap();
    }
}

#[tokio::test]
async fn who_waits_first_for_a_full_executor_is_served_first() {
    /// Takes as many tasks as there are permits.
    struct Counted {
        permits: Arc<AtomicUsize>,
        tasks: mpsc::UnboundedSender<Task>,
        room: Room,
    }
    impl Executor for Counted {
        fn execute(&self, task: Task) -> Result<(), Task> {
            let take = |permits: usize| permits.checked_sub(1);
            match self
                .permits
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, take)
            {
                Ok(_) => {
                    let _ = self.tasks.send(task);
                    Ok(())
                }
                Err(_) => Err(task),
            }
        }

        fn room(&self) -> Room {
            self.room.clone()
        }
    }
    let (tasks, mut handed) = mpsc::unbounded_channel();
    let permits = Arc::new(AtomicUsize::new(0));
    let room = Room::new();
    let executor = Counted {
        permits: Arc::clone(&permits),
        tasks,
        room: room.clone(),
    };
    let (tell, mut told) = mpsc::unbounded_channel();
    let server = start(server().workers(1).executor(executor).on_connect(
        move |session: Session| {
            let tell = tell.clone();
            async move { tell.send(session.id()).unwrap() }
        },
    ))
    .await;
    let mut clients = Vec::new();
    let mut ids = Vec::new();
    for count in 1..=5 {
        clients.push(connect(&server).await);
        while server.session_count() < count {
            tokio::task::yield_now().await;
        }
        let new = server.sessions().into_iter().map(|session| session.id());
        ids.extend(new.filter(|id| !ids.contains(id)).collect::<Vec<_>>());
    }
    for id in ids {
        permits.fetch_add(1, Ordering::AcqRel);
        room.notify();
        promptly(handed.recv()).await.unwrap().run();
        assert_eq!(told.try_recv().unwrap(), id);
    }
    permits.store(usize::MAX, Ordering::Release);
    let rest = std::thread::spawn(move || {
        while let Some(task) = handed.blocking_recv() {
            task.run();
        }
    });
    promptly(server.stop()).await.unwrap();
    drop((server, clients));
    rest.join().unwrap();
}

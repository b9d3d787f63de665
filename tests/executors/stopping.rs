//! Stops, and sessions that are cut off, while handlers are on an executor.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_can_stop_its_own_server_on_every_executor() {
    for (name, executor) in executors() {
        let (tell, told) = oneshot::channel();
        let own = Arc::new(Mutex::new(None::<(Server, oneshot::Sender<_>)>));
        let held = Arc::clone(&own);
        let server =
            server()
                .executor(executor)
                .on_message(move |session: Session, message: Message| {
                    let own = Arc::clone(&held);
                    async move {
                        session.send(message).await.unwrap();
                        let own = own.lock().unwrap().take();
                        if let Some((server, tell)) = own {
                            let report = server.stop().await.unwrap();
                            let _ = tell.send(report);
                        }
                    }
                });
        let server = start(server).await;
        *own.lock().unwrap() = Some((server.clone(), tell));
        let (client, other) = (connect(&server).await, connect(&server).await);
        client.send("stop").await.unwrap();
        let inside = promptly(told).await.expect(name);
        assert_eq!(inside.aborted, 0, "{name}");
        let report = promptly(server.wait_for_stop()).await;
        assert_eq!((report.drained, report.aborted), (2, 0), "{name}");
        drop((client, other));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_can_stop_its_own_client_on_every_executor() {
    let server = start(
        server().on_connect(|session: Session| async move { session.send("hello").await.unwrap() }),
    )
    .await;
    for (name, executor) in executors() {
        let (tell, told) = oneshot::channel();
        let own = Arc::new(Semaphore::new(0));
        let client = Arc::new(Mutex::new(None::<(Client, oneshot::Sender<_>)>));
        let (held, ready) = (Arc::clone(&client), Arc::clone(&own));
        let connecting = Client::builder()
            .endpoint(&server.urls()[0])
            .reconnect(ReconnectPolicy::disabled())
            .executor(executor)
            .on_message(move |_, _| {
                let (held, ready) = (Arc::clone(&held), Arc::clone(&ready));
                async move {
                    ready.acquire().await.unwrap().forget();
                    let own = held.lock().unwrap().take();
                    if let Some((client, tell)) = own {
                        let _ = tell.send(client.stop().await);
                    }
                }
            })
            .build()
            .unwrap();
        connecting.connect().await.unwrap();
        *client.lock().unwrap() = Some((connecting.clone(), tell));
        own.add_permits(1);
        promptly(told).await.expect(name);
        assert!(
            promptly(connecting.wait_for_stop()).await.in_order,
            "{name}"
        );
    }
    promptly(server.stop()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_of_a_stop_drops_a_handler_that_waits_on_an_executor() {
    /// Says that it was dropped.
    struct Held(Option<oneshot::Sender<()>>);
    impl Drop for Held {
        fn drop(&mut self) {
            let _ = self.0.take().map(|dropped| dropped.send(()));
        }
    }
    for (name, executor) in executors() {
        let (dropped, noticed) = oneshot::channel();
        let held = Mutex::new(Some(Held(Some(dropped))));
        let (tell, mut told) = mpsc::unbounded_channel();
        let server = server().executor(executor).on_message(move |_, _| {
            let (held, tell) = (held.lock().unwrap().take(), tell.clone());
            async move {
                tell.send(()).unwrap();
                std::future::pending::<()>().await;
                drop(held);
            }
        });
        let server = start(server).await;
        let client = connect(&server).await;
        client.send("hold").await.unwrap();
        promptly(told.recv()).await.unwrap();
        let report = promptly(server.stop_within(Duration::from_millis(50)))
            .await
            .unwrap();
        assert_eq!(report.aborted, 1, "{name}");
        promptly(noticed).await.expect(name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_of_a_stop_ends_sessions_that_wait_for_a_full_pool() {
    let pool = Arc::new(ThreadPool::single_thread(1).unwrap());
    let gate = Arc::new((Mutex::new(false), std::sync::Condvar::new()));
    let (begun, first) = blocking::channel();
    let handler = Blocked {
        begun,
        gate: Arc::clone(&gate),
    };
    let server = start(server().executor(Arc::clone(&pool)).handler(handler)).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(connect(&server).await);
    }
    for client in &clients {
        client.send("one").await.unwrap();
    }
    first.recv_timeout(PROMPT).unwrap();
    // A session to which nothing has come has nothing to wait for.
    promptly(async {
        while server.stats().messages_received < 4 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let report = promptly(server.stop_within(Duration::from_millis(50)))
        .await
        .unwrap();
    assert_eq!((report.drained, report.aborted), (0, 4));
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    pool.stop();
    // Nobody has begun meanwhile: tasks of sessions that have ended do nothing.
    assert!(first.try_recv().is_err());
}

#[tokio::test]
async fn a_session_that_is_cut_off_takes_its_task_back() {
    let (tasks, mut handed) = mpsc::unbounded_channel();
    let called = Arc::new(AtomicBool::new(false));
    let calls = Arc::clone(&called);
    let server = server().executor(Hands(tasks)).on_message(move |_, _| {
        calls.store(true, Ordering::Relaxed);
        async {}
    });
    let server = start(server).await;
    let client = connect(&server).await;
    client.send("late").await.unwrap();
    let task = promptly(handed.recv()).await.unwrap();
    promptly(server.stop_within(Duration::ZERO)).await.unwrap();
    task.run();
    assert!(!called.load(Ordering::Relaxed));
}

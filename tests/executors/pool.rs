//! The pool of threads itself.

use super::*;

#[tokio::test]
async fn a_pool_joins_its_threads_and_runs_what_waited() {
    /// Counts the ends of threads: what a thread owns is dropped before it can be joined.
    struct End(Arc<AtomicUsize>);
    impl Drop for End {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    thread_local! {
        static END: Cell<Option<End>> = const { Cell::new(None) };
    }
    let ended = Arc::new(AtomicUsize::new(0));
    let handled = Arc::new(AtomicUsize::new(0));
    let (ends, counts) = (Arc::clone(&ended), Arc::clone(&handled));
    let pool = Arc::new(ThreadPool::single_thread(8).unwrap());
    let (begun, first) = blocking::channel();
    let (open, gate) = blocking::channel::<()>();
    let gate = Mutex::new(gate);
    let server = server()
        .executor(Arc::clone(&pool))
        .on_message(move |_, _| {
            END.set(Some(End(Arc::clone(&ends))));
            let _ = begun.send(());
            let _ = gate.lock().unwrap().recv_timeout(PROMPT);
            counts.fetch_add(1, Ordering::SeqCst);
            async {}
        });
    let server = start(server).await;
    let clients = [connect(&server).await, connect(&server).await];
    clients[0].send("one").await.unwrap();
    let first = tokio::task::spawn_blocking(move || first.recv_timeout(PROMPT).map(|()| first))
        .await
        .unwrap();
    let _first = first.unwrap();
    clients[1].send("two").await.unwrap();
    promptly(async {
        while pool.queued() < 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let stopping = Arc::clone(&pool);
    let stopped = tokio::task::spawn_blocking(move || stopping.stop());
    open.send(()).unwrap();
    open.send(()).unwrap();
    promptly(stopped).await.unwrap();
    assert_eq!(handled.load(Ordering::SeqCst), 2);
    assert!(ended.load(Ordering::SeqCst) >= 1);
    promptly(server.stop()).await.unwrap();
}

#[test]
fn a_pool_without_threads_or_room_is_refused() {
    for (threads, queue) in [(0, 1), (1, 0)] {
        let error = ThreadPool::new(threads, queue).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_may_go_in_a_handler_that_it_runs() {
    let pool = Arc::new(ThreadPool::single_thread(1).unwrap());
    let kept = Mutex::new(Some(Arc::clone(&pool)));
    let (tell, mut told) = mpsc::unbounded_channel();
    let server = start(server().executor(pool).on_message(
        move |_session: Session, _message: Message| {
            let pool = kept.lock().unwrap().take();
            let tell = tell.clone();
            async move {
                if let Some(pool) = pool {
                    pool.stop();
                    drop(pool);
                }
                let _ = tell.send(());
            }
        },
    ))
    .await;
    let client = connect(&server).await;
    client.send("go").await.unwrap();
    promptly(told.recv()).await.unwrap();
    promptly(server.stop()).await.unwrap();
    drop(server);
}

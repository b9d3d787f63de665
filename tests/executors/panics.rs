//! Handlers and executors that fail.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_ends_its_session_and_no_other_on_every_executor() {
    for (name, executor) in executors() {
        let server = server().executor(executor).on_message(
            |session: Session, message: Message| async move {
                assert_ne!(message.payload(), b"panic");
                session.send(message).await.unwrap();
            },
        );
        let server = start(server).await;
        let (bad, good) = (connect(&server).await, connect(&server).await);
        let session = bad.session().unwrap();
        bad.send("panic").await.unwrap();
        let reason = promptly(session.closed()).await;
        assert_eq!(reason.code(), Some(ErrorCode::RequestFailed), "{name}");
        echoes(&good, 10).await;
        good.stop().await;
        promptly(server.stop()).await.unwrap();
    }
}

#[tokio::test]
async fn a_task_that_is_dropped_ends_its_session() {
    let (tasks, mut handed) = mpsc::unbounded_channel();
    let server = start(server().executor(Hands(tasks)).on_message(|_, _| async {})).await;
    let client = connect(&server).await;
    let session = client.session().unwrap();
    client.send("to nobody").await.unwrap();
    drop(promptly(handed.recv()).await.unwrap());
    let reason = promptly(session.closed()).await;
    assert_eq!(reason.code(), Some(ErrorCode::RequestFailed));
    promptly(server.stop()).await.unwrap();
}

#[tokio::test]
async fn a_pool_that_has_stopped_ends_the_sessions_that_need_it() {
    let pool = Arc::new(ThreadPool::new(1, 1).unwrap());
    let server = server()
        .executor(Arc::clone(&pool))
        .on_message(|_, _| async {});
    let server = start(server).await;
    let client = connect(&server).await;
    let session = client.session().unwrap();
    pool.stop();
    client.send("too late").await.unwrap();
    let reason = promptly(session.closed()).await;
    assert_eq!(reason.code(), Some(ErrorCode::RequestFailed));
    promptly(server.stop()).await.unwrap();
}

/// Full for a while, and panics instead of taking the first task that it has room for.
struct Panics {
    pool: ThreadPool,
    offers: AtomicUsize,
}

impl Executor for Panics {
    fn execute(&self, task: Task) -> Result<(), Task> {
        match self.offers.fetch_add(1, Ordering::SeqCst) {
            0..3 => Err(task),
            3 => panic!("an executor that fails"),
            _ => self.pool.execute(task),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_executor_that_panics_ends_one_session_and_holds_up_no_other() {
    let executor = Panics {
        pool: ThreadPool::new(1, 1).unwrap(),
        offers: AtomicUsize::new(0),
    };
    let server = start(server().executor(executor).on_message(
        |session: Session, message: Message| async move {
            session.send(message).await.unwrap();
        },
    ))
    .await;
    let (first, second) = (connect(&server).await, connect(&server).await);
    first.send("lost").await.unwrap();
    promptly(first.wait_for_stop()).await;
    echoes(&second, 50).await;
    promptly(server.stop()).await.unwrap();
}

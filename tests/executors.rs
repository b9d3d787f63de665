//! Handlers on executors: order, back-pressure, panics, stops.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::cell::Cell;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc as blocking};
use std::time::Duration;

use network_system::executor::{Inline, Room, Runtime, Task, ThreadPool};
use network_system::{
    Client, ErrorCode, Executor, Handler, Message, ReconnectPolicy, Server, ServerBuilder, Session,
};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Longer than anything that works takes, and shorter than the drain deadline, after which everything ends
/// whether it works or not.
const PROMPT: Duration = Duration::from_secs(8);

/// All kinds, the application's own included.
fn executors() -> Vec<(&'static str, Box<dyn Executor>)> {
    let rayon = rayon::ThreadPoolBuilder::new().num_threads(3);
    vec![
        ("inline", Box::new(Inline)),
        ("runtime", Box::new(Runtime::current())),
        ("single", Box::new(ThreadPool::single_thread(4).unwrap())),
        ("pool", Box::new(ThreadPool::new(4, 4).unwrap())),
        ("rayon", Box::new(Rayon(rayon.build().unwrap()))),
        ("one at a time", Box::new(OneAtATime::default())),
    ]
}

struct Rayon(rayon::ThreadPool);

impl Executor for Rayon {
    fn execute(&self, task: Task) -> Result<(), Task> {
        self.0.spawn(move || task.run());
        Ok(())
    }
}

/// Full while a task runs, and does not say when it no longer is.
#[derive(Default)]
struct OneAtATime(Arc<AtomicBool>);

impl Executor for OneAtATime {
    fn execute(&self, task: Task) -> Result<(), Task> {
        if self.0.swap(true, Ordering::AcqRel) {
            return Err(task);
        }
        let busy = Arc::clone(&self.0);
        std::thread::spawn(move || {
            task.run();
            busy.store(false, Ordering::Release);
        });
        Ok(())
    }
}

/// Gives tasks to whoever has the other end, in place of running them.
struct Hands(mpsc::UnboundedSender<Task>);

impl Executor for Hands {
    fn execute(&self, task: Task) -> Result<(), Task> {
        let _ = self.0.send(task);
        Ok(())
    }
}

fn server() -> ServerBuilder {
    Server::builder().listen("tcp://127.0.0.1:0").workers(2)
}

async fn start(builder: ServerBuilder) -> Server {
    let server = builder.build().unwrap();
    server.start().await.unwrap();
    server
}

async fn connect(server: &Server) -> Client {
    let client = Client::builder()
        .endpoint(&server.urls()[0])
        .reconnect(ReconnectPolicy::disabled())
        .build()
        .unwrap();
    client.connect().await.unwrap();
    client
}

async fn promptly<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PROMPT, future).await.unwrap()
}

/// Sends numbered messages and expects them back.
async fn echoes(client: &Client, count: usize) {
    let mut messages = client.messages().unwrap();
    for number in 0..count {
        client.send(format!("{number}")).await.unwrap();
    }
    for number in 0..count {
        let message = promptly(messages.next()).await.unwrap();
        assert_eq!(message.as_text().unwrap(), format!("{number}"));
    }
}

/// Echoes after delays of all kinds: none, on the thread, on the runtime, by giving way.
struct Uneven {
    calls: AtomicUsize,
    ended: mpsc::UnboundedSender<usize>,
}

#[derive(Default)]
struct Handled {
    now: AtomicBool,
    messages: AtomicUsize,
}

impl Handler for Uneven {
    async fn on_connect(&self, session: &Session) {
        tokio::task::yield_now().await;
        session.insert_extension(Handled::default());
    }

    async fn on_message(&self, session: &Session, message: &Message) {
        let handled = session.extension::<Handled>().unwrap();
        assert!(!handled.now.swap(true, Ordering::SeqCst), "one at a time");
        match self.calls.fetch_add(1, Ordering::Relaxed) * 7 % 11 {
            0 => std::thread::sleep(Duration::from_micros(300)),
            1 => tokio::time::sleep(Duration::from_millis(1)).await,
            2 | 3 => tokio::task::yield_now().await,
            _ => {}
        }
        session.send(message).await.unwrap();
        handled.messages.fetch_add(1, Ordering::Relaxed);
        handled.now.store(false, Ordering::SeqCst);
    }

    async fn on_disconnect(&self, session: &Session, _: &network_system::CloseReason) {
        let handled = session.extension::<Handled>().unwrap();
        let _ = self.ended.send(handled.messages.load(Ordering::Relaxed));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_executor_keeps_a_sessions_order() {
    const CLIENTS: usize = 5;
    const MESSAGES: usize = 150;
    for (name, executor) in executors() {
        let (ended, mut counts) = mpsc::unbounded_channel();
        let calls = AtomicUsize::new(0);
        let server = start(server().executor(executor).handler(Uneven { calls, ended })).await;
        let mut tasks = Vec::new();
        for _ in 0..CLIENTS {
            let client = connect(&server).await;
            tasks.push(tokio::spawn(async move {
                echoes(&client, MESSAGES).await;
                client.stop().await;
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        for _ in 0..CLIENTS {
            // The disconnect handler comes last.
            let handled = promptly(counts.recv()).await.unwrap();
            assert_eq!(handled, MESSAGES, "{name}");
        }
        assert_eq!(promptly(server.stop()).await.unwrap().aborted, 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_on_every_executor() {
    for (name, executor) in executors() {
        let server = server().executor(executor).on_request(
            |session: Session, question: Message| async move {
                // The peer's answer arrives while this handler waits, on the same executor or not.
                let answer = session.request(question, PROMPT).await?;
                Ok(Message::text(format!(
                    "{}!",
                    answer.as_text().unwrap_or("?")
                )))
            },
        );
        let server = start(server).await;
        let client = Client::builder()
            .endpoint(&server.urls()[0])
            .executor(ThreadPool::single_thread(1).unwrap())
            .on_request(|_, question: Message| async move { Ok(question) })
            .build()
            .unwrap();
        client.connect().await.unwrap();
        let questions = (0..40).map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.request(format!("{number}"), PROMPT).await })
        });
        for (number, answer) in questions.collect::<Vec<_>>().into_iter().enumerate() {
            let answer = answer.await.unwrap().unwrap();
            assert_eq!(answer.as_text().unwrap(), format!("{number}!"), "{name}");
        }
        client.stop().await;
        promptly(server.stop()).await.unwrap();
    }
}

/// Blocks its thread at the first message, until it is let go.
struct Blocked {
    begun: blocking::Sender<()>,
    gate: Arc<(Mutex<bool>, std::sync::Condvar)>,
}

impl Handler for Blocked {
    async fn on_message(&self, session: &Session, message: &Message) {
        let _ = self.begun.send(());
        let (open, opened) = &*self.gate;
        drop(
            opened
                .wait_while(open.lock().unwrap(), |open| !*open)
                .unwrap(),
        );
        session.send(message).await.unwrap();
    }
}

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
async fn handlers_that_wait_leave_the_only_thread_to_others() {
    // One session's handler waits for what another one's does, on one thread.
    let gate = Arc::new(Semaphore::new(0));
    let server = server()
        .executor(ThreadPool::single_thread(1).unwrap())
        .on_message(move |session: Session, message: Message| {
            let gate = Arc::clone(&gate);
            async move {
                match message.payload() {
                    b"open" => gate.add_permits(1),
                    _ => drop(gate.acquire().await),
                }
                session.send(message).await.unwrap();
            }
        });
    let server = start(server).await;
    let (waits, opens) = (connect(&server).await, connect(&server).await);
    let (mut to_waits, mut to_opens) = (waits.messages().unwrap(), opens.messages().unwrap());
    waits.send("wait").await.unwrap();
    opens.send("open").await.unwrap();
    promptly(to_opens.next()).await.unwrap();
    promptly(to_waits.next()).await.unwrap();
    promptly(server.stop()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_on_one_thread_never_run_at_the_same_time() {
    let running = Arc::new(AtomicUsize::new(0));
    let server = server()
        .executor(ThreadPool::single_thread(2).unwrap())
        .on_message(move |session: Session, message: Message| {
            let running = Arc::clone(&running);
            async move {
                assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
                std::thread::sleep(Duration::from_micros(20));
                running.fetch_sub(1, Ordering::SeqCst);
                session.send(message).await.unwrap();
            }
        });
    let server = start(server).await;
    let mut tasks = Vec::new();
    for _ in 0..6 {
        let client = connect(&server).await;
        tasks.push(tokio::spawn(async move { echoes(&client, 50).await }));
    }
    for task in tasks {
        task.await.unwrap();
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

#[tokio::test]
async fn what_a_handler_logs_on_an_executor_is_inside_the_span_of_its_session() {
    #[derive(Clone, Default)]
    struct Text(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Text {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let text = Text::default();
    let written = text.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(move || written.clone())
        .finish();
    // For all threads: with one of a thread's own, what others log at the same time decides whether spans are made.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let server =
        server()
            .executor(Runtime::current())
            .on_message(|session: Session, _| async move {
                tokio::task::yield_now().await;
                tracing::info!("handling what is to be logged");
                session.send("handled").await.unwrap();
            });
    let server = start(server).await;
    let client = connect(&server).await;
    let mut messages = client.messages().unwrap();
    client.send("to be logged").await.unwrap();
    promptly(messages.next()).await.unwrap();
    let text = String::from_utf8(text.0.lock().unwrap().clone()).unwrap();
    let mut lines = text.lines();
    let line = lines.find(|line| line.contains("handling what is to be logged"));
    let line = line.unwrap();
    assert!(line.contains("session{session="), "{line}");
    promptly(server.stop()).await.unwrap();
}

/// Handlers of single sessions run on the executor too.
#[tokio::test]
async fn a_sessions_own_handler_runs_on_the_executor() {
    struct Named;
    impl Handler for Named {
        async fn on_message(&self, session: &Session, _: &Message) {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or_default();
            session.send(name).await.unwrap();
        }
    }
    let server = server()
        .executor(ThreadPool::new(1, 1).unwrap())
        .on_connect(|session: Session| async move { session.set_handler(Named) });
    let server = start(server).await;
    let client = connect(&server).await;
    let mut messages = client.messages().unwrap();
    client.send("who?").await.unwrap();
    let name = promptly(messages.next()).await.unwrap();
    assert_eq!(name.as_text(), Some("network-pool-0"));
    promptly(server.stop()).await.unwrap();
}

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
async fn a_handler_awaits_an_answer_of_its_own_session_on_the_only_thread() {
    let server = start(
        server()
            .executor(ThreadPool::single_thread(1).unwrap())
            .on_message(|session: Session, message: Message| async move {
                let answer = session.request(message, PROMPT).await.unwrap();
                session.send(answer).await.unwrap();
            }),
    )
    .await;
    let client = Client::builder()
        .endpoint(&server.urls()[0])
        .reconnect(ReconnectPolicy::disabled())
        .executor(ThreadPool::single_thread(1).unwrap())
        .on_request(|_session: Session, request: Message| async move { Ok(request) })
        .build()
        .unwrap();
    let mut messages = client.messages().unwrap();
    client.connect().await.unwrap();
    for number in 0..20 {
        client.send(format!("{number}")).await.unwrap();
    }
    for number in 0..20 {
        let message = promptly(messages.next()).await.unwrap();
        assert_eq!(message.as_text().unwrap(), format!("{number}"));
    }
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

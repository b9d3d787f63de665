//! Handlers on executors: order, back-pressure, panics, stops.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod backpressure;
mod panics;
mod pool;
mod stopping;

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

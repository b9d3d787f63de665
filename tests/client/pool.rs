//! Pools of clients and clients that many share, on real connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use network_system::pool::{ClientPool, Clients, PoolBuilder};
use network_system::{
    Client, ErrorCode, Message, ReconnectPolicy, Reliability, RequestError, Server, ServerBuilder,
    Session, State,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::support::{Fake, LONG, MS, Port, alive_tasks, echo, soon, started, until};

fn clients(url: &str) -> PoolBuilder<Clients> {
    let url = url.to_owned();
    ClientPool::clients(move || Client::builder().endpoint(&url))
}

/// A server whose answers wait until the test lets them go.
fn patient(gate: &Arc<Semaphore>) -> ServerBuilder {
    let gate = Arc::clone(gate);
    Server::builder()
        .listen("tcp://127.0.0.1:0")
        .on_request(move |_: Session, request: Message| {
            let gate = Arc::clone(&gate);
            async move {
                let permit = gate.acquire().await;
                permit.map_err(|_| RequestError::failed("closed"))?.forget();
                Ok(request)
            }
        })
}

/// A way to a server that can be cut, and blocked.
struct Way {
    url: String,
    cut: watch::Sender<()>,
    is_open: Arc<AtomicBool>,
}

impl Way {
    async fn to(url: &str) -> Way {
        let target = url
            .strip_prefix("tcp://")
            .expect("over TCP")
            .trim_end_matches('/');
        let target = target.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("tcp://{}", listener.local_addr().expect("bound"));
        let is_open = Arc::new(AtomicBool::new(true));
        let (cut, cuts) = watch::channel(());
        let opens = Arc::clone(&is_open);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                if !opens.load(SeqCst) {
                    continue;
                }
                let (mut cuts, target) = (cuts.clone(), target.clone());
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(target).await.expect("a server");
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Way { url, cut, is_open }
    }

    fn block(&self) {
        self.is_open.store(false, SeqCst);
        self.cut.send_replace(());
    }

    fn unblock(&self) {
        self.is_open.store(true, SeqCst);
    }

    /// Clients with reliable sessions.
    fn clients(&self) -> PoolBuilder<Clients> {
        let url = self.url.clone();
        ClientPool::clients(move || {
            Client::builder()
                .endpoint(&url)
                .reconnect(ReconnectPolicy::new().base(MS).cap(20 * MS))
                .reliable(Reliability::default())
        })
    }
}

/// A server that keeps sessions for so long, and a way there.
async fn kept_for(resume: Duration) -> (Server, Way) {
    let mut reliability = Reliability::default();
    reliability.resume = resume;
    let (server, url) = started(echo().reliable(reliability)).await;
    let way = Way::to(&url).await;
    (server, way)
}

// Pools

#[tokio::test]
async fn a_client_whose_session_is_suspended_is_not_lent_and_kept() {
    let (server, way) = kept_for(LONG).await;
    let pool = way.clients().maximum(1).build().expect("it is valid");
    // It breaks while it is lent, and then while it is idle.
    for is_idle in [false, true] {
        let client = soon(pool.acquire()).await.expect("it is connected");
        let session = client.session().expect("it is connected");
        match is_idle {
            false => {
                way.block();
                until(|| session.state() == State::Suspended).await;
                drop(client);
                until(|| pool.stats().checking == 1).await;
            }
            true => {
                drop(client);
                way.block();
                until(|| session.state() == State::Suspended).await;
                assert_eq!(pool.stats().idle, 1);
            }
        }
        let error = pool.try_acquire().expect_err("it is of no use");
        assert_eq!(error.code(), ErrorCode::QueueFull);
        let stats = pool.stats();
        assert_eq!((stats.idle, stats.in_use, stats.checking), (0, 0, 1));
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { pool.acquire().await }
        });
        until(|| pool.stats().waiting == 1).await;
        way.unblock();
        let client = soon(waiting).await.expect("no panic").expect("it is back");
        assert_eq!(client.session().expect("connected").id(), session.id());
        let answer = client.request("hello", LONG).await.expect("an answer");
        assert_eq!(answer.payload(), b"re: hello");
    }
    let stats = pool.stats();
    assert_eq!((stats.created, stats.closed.total()), (1, 0));
    // Closing does not wait for one that does not come back.
    let client = soon(pool.acquire()).await.expect("it is idle");
    way.block();
    until(|| !client.is_connected()).await;
    drop(client);
    soon(pool.close()).await;
    server.stop_within(Duration::ZERO).await.expect("it runs");
}

#[tokio::test]
async fn a_client_whose_suspended_session_expires_is_replaced() {
    let (server, way) = kept_for(300 * MS).await;
    let pool = way.clients().maximum(1).build().expect("it is valid");
    let client = soon(pool.acquire()).await.expect("it is connected");
    let session = client.session().expect("it is connected");
    way.block();
    // It may be over before anybody looks.
    until(|| session.state() != State::Connected).await;
    drop(client);
    until(|| pool.stats().closed.broken == 1).await;
    assert!(session.close_reason().is_some());
    way.unblock();
    let client = soon(pool.acquire()).await.expect("another one");
    let answer = client.request("hello", LONG).await.expect("an answer");
    assert_eq!(answer.payload(), b"re: hello");
    assert_eq!(pool.stats().created, 2);
    drop(client);
    soon(pool.close()).await;
    server.stop_within(Duration::ZERO).await.expect("it runs");
}

#[tokio::test]
async fn many_share_a_client_again_when_its_session_is_back() {
    let (server, way) = kept_for(LONG).await;
    let builder = way.clients().maximum(1).multiplexed();
    let shared = builder.build().expect("it is valid");
    let lease = soon(shared.lease()).await.expect("it is connected");
    let session = lease.client().session().expect("it is connected");
    way.block();
    until(|| session.state() == State::Suspended).await;
    // There is no other: who asks waits until it is back.
    let asked = tokio::spawn({
        let shared = shared.clone();
        async move { shared.request("hello", LONG).await }
    });
    until(|| shared.stats().outstanding == 2).await;
    way.unblock();
    let answer = soon(asked).await.expect("no panic").expect("an answer");
    assert_eq!(answer.payload(), b"re: hello");
    drop(lease);
    let stats = shared.stats();
    assert_eq!((stats.clients, stats.pool.created), (1, 1));
    assert_eq!(stats.pool.closed.total(), 0);
    soon(shared.close()).await;
    server.stop_within(Duration::ZERO).await.expect("it runs");
}

#[tokio::test]
async fn a_client_is_lent_to_one_at_a_time_and_used_again() {
    let (server, url) = started(echo()).await;
    let pool = clients(&url).maximum(2).build().expect("it is valid");
    for _ in 0..10 {
        let client = soon(pool.acquire()).await.expect("the server is there");
        let answer = client.request("hello", LONG).await.expect("an answer");
        assert_eq!(answer.payload(), b"re: hello");
    }
    assert_eq!(pool.stats().created, 1);
    let one = soon(pool.acquire()).await.expect("one");
    let two = soon(pool.acquire()).await.expect("another");
    assert_eq!(server.stats().current_connections, 2);
    drop((one, two));
    let answer = soon(pool.request("again", LONG)).await.expect("an answer");
    assert_eq!(answer.payload(), b"re: again");
    assert!(soon(pool.close()).await.in_order);
    server.stop().await.expect("it runs");
}

#[tokio::test]
async fn a_server_that_closes_an_idle_connection_is_noticed_and_the_client_replaced() {
    let (fake, url) = Fake::bind().await;
    let pool = clients(&url).minimum(1).build().expect("it is valid");
    let warm = tokio::spawn({
        let pool = pool.clone();
        async move { pool.warm_up().await }
    });
    let peer = fake.welcome().await;
    soon(warm)
        .await
        .expect("no panic")
        .expect("it is connected");
    assert_eq!(pool.stats().idle, 1);
    drop(peer);
    let _next = fake.welcome().await;
    until(|| pool.stats().idle == 1).await;
    let stats = pool.stats();
    assert_eq!((stats.closed.broken, stats.created), (1, 2));
}

#[tokio::test]
async fn a_client_that_is_lent_and_breaks_is_not_kept() {
    let (server, url) = started(echo()).await;
    let pool = clients(&url).maximum(1).build().expect("it is valid");
    let client = soon(pool.acquire()).await.expect("the server is there");
    for session in server.sessions() {
        session.abort();
    }
    let session = client.session();
    if let Some(session) = session {
        soon(session.closed()).await;
    }
    drop(client);
    let answer = soon(pool.request("hello", LONG)).await.expect("an answer");
    assert_eq!(answer.payload(), b"re: hello");
    assert_eq!((pool.stats().created, pool.stats().closed.broken), (2, 1));
    soon(pool.close()).await;
    server.stop().await.expect("it runs");
}

#[tokio::test]
async fn what_the_server_says_reaches_who_waits() {
    let Port { url, .. } = &Port::take().await;
    let pool = clients(url).build().expect("it is valid");
    let refused = soon(pool.acquire()).await.expect_err("nobody listens");
    assert_eq!(refused.code(), ErrorCode::ConnectionRefused);
    let refused = soon(pool.request("hello", LONG)).await;
    assert_eq!(
        refused.expect_err("nobody listens").code(),
        ErrorCode::ConnectionRefused
    );
    let refused = soon(pool.warm_up()).await;
    assert!(refused.is_ok(), "it keeps none");
    let pool = clients(url).minimum(2).build().expect("it is valid");
    let refused = soon(pool.warm_up()).await.expect_err("nobody listens");
    assert_eq!(refused.code(), ErrorCode::ConnectionRefused);
    let pool = ClientPool::from_clients(|| Client::builder().build())
        .build()
        .expect("the pool is valid");
    let refused = soon(pool.acquire()).await.expect_err("no endpoint");
    assert_eq!(refused.code(), ErrorCode::InvalidConfiguration);
}

#[tokio::test]
async fn a_client_whose_server_does_not_answer_the_probe_is_replaced() {
    let silent = Arc::new(AtomicBool::new(false));
    let is_silent = Arc::clone(&silent);
    let server = Server::builder().listen("tcp://127.0.0.1:0").on_request(
        move |_: Session, request: Message| {
            let is_silent = Arc::clone(&is_silent);
            async move {
                if is_silent.swap(false, SeqCst) {
                    return Err(RequestError::failed("not well"));
                }
                Ok(request)
            }
        },
    );
    let (server, url) = started(server).await;
    let pool = clients(&url)
        .probe("ping", LONG)
        .check_after_idle(Some(Duration::ZERO))
        .build()
        .expect("it is valid");
    drop(soon(pool.acquire()).await.expect("the server is there"));
    drop(soon(pool.acquire()).await.expect("it answers"));
    assert_eq!(pool.stats().created, 1);
    silent.store(true, SeqCst);
    drop(soon(pool.acquire()).await.expect("another"));
    let stats = pool.stats();
    assert_eq!((stats.created, stats.closed.failed_check), (2, 1));
    soon(pool.close()).await;
    server.stop().await.expect("it runs");
}

#[tokio::test]
async fn closing_ends_the_connections_in_order_and_every_task() {
    let reasons = Arc::new(AtomicU64::new(0));
    let orderly = Arc::clone(&reasons);
    let server = echo().on_disconnect(move |_, reason| {
        orderly.fetch_add(u64::from(reason.is_orderly()), SeqCst);
        async {}
    });
    let (server, url) = started(server).await;
    let before = alive_tasks();
    let pool = clients(&url).minimum(3).build().expect("it is valid");
    soon(pool.warm_up()).await.expect("the server is there");
    let client = soon(pool.acquire()).await.expect("it is warm");
    let closing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close().await }
    });
    until(|| pool.is_closed()).await;
    drop(client);
    assert!(soon(closing).await.expect("no panic").in_order);
    until(|| reasons.load(SeqCst) == 3).await;
    until(|| alive_tasks() == before).await;
    server.stop().await.expect("it runs");
}

/// On one thread, so that nobody is held up by what else the machine does while others go on.
#[tokio::test]
async fn a_thousand_tasks_on_ten_connections_have_fair_shares() {
    let (least, most) = turns_of_a_thousand().await;
    assert!(most <= 2 * least, "{least} to {most}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tasks_on_two_threads_all_have_their_turns() {
    let (least, _) = turns_of_a_thousand().await;
    assert!(least > 0);
}

/// How often it was the turn of the one that had the fewest and of the one that had the most.
async fn turns_of_a_thousand() -> (u64, u64) {
    let (server, url) = started(echo()).await;
    let pool = clients(&url)
        .maximum(10)
        .minimum(10)
        .build()
        .expect("it is valid");
    soon(pool.warm_up()).await.expect("the server is there");
    let turns: Arc<Vec<AtomicU64>> = Arc::new((0..1_000).map(|_| AtomicU64::new(0)).collect());
    let total = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..1_000)
        .map(|number| {
            let (pool, turns, total) = (pool.clone(), Arc::clone(&turns), Arc::clone(&total));
            tokio::spawn(async move {
                while total.load(SeqCst) < 20_000 {
                    let client = pool.acquire().await.expect("its turn comes");
                    client.request("hello", LONG).await.expect("an answer");
                    turns[number].fetch_add(1, SeqCst);
                    total.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    for task in tasks {
        soon(task).await.expect("no task panics");
    }
    let counts = turns.iter().map(|turns| turns.load(SeqCst));
    let (least, most) = (counts.clone().min().unwrap_or(0), counts.max().unwrap_or(0));
    assert_eq!(pool.stats().created, 10);
    assert!(soon(pool.close()).await.in_order);
    server.stop().await.expect("it runs");
    (least, most)
}

// Clients that many share

#[tokio::test]
async fn many_requests_share_few_connections() {
    let (server, url) = started(echo()).await;
    let shared = clients(&url)
        .maximum(3)
        .multiplexed()
        .build()
        .expect("it is valid");
    let tasks: Vec<_> = (0..200)
        .map(|number| {
            let shared = shared.clone();
            tokio::spawn(async move {
                let question = format!("{number}");
                let answer = shared.request(question.as_str(), LONG).await;
                let answer = answer.expect("an answer");
                assert_eq!(answer.as_text(), Some(&*format!("re: {question}")));
            })
        })
        .collect();
    for task in tasks {
        soon(task).await.expect("no task panics");
    }
    let stats = shared.stats();
    assert!((1..=3).contains(&stats.clients), "{stats:?}");
    assert_eq!((stats.outstanding, stats.leased), (0, 200));
    assert!(soon(shared.close()).await.in_order);
    server.stop().await.expect("it runs");
}

#[tokio::test]
async fn another_is_opened_when_all_have_much_to_do_and_closed_when_it_is_not_needed() {
    let gate = Arc::new(Semaphore::new(0));
    let (server, url) = started(patient(&gate)).await;
    let before = alive_tasks();
    let shared = clients(&url)
        .maximum(3)
        .minimum(1)
        // Longer than it takes until the new ones have something to do.
        .idle_timeout(Some(1_000 * MS))
        .multiplexed()
        .outstanding(4)
        .build()
        .expect("it is valid");
    let ask = |count: usize| {
        let asked: Vec<_> = (0..count)
            .map(|_| {
                let shared = shared.clone();
                tokio::spawn(async move { shared.request("?", LONG).await.map(drop) })
            })
            .collect();
        asked
    };
    let mut asked = ask(4);
    until(|| shared.stats().outstanding == 4).await;
    assert_eq!((shared.stats().clients, shared.stats().opening), (1, 0));
    // One more than it should have begins the next, and does not wait for it.
    asked.extend(ask(1));
    until(|| shared.stats().outstanding == 5 && shared.stats().clients == 2).await;
    // The new one has nothing to do, so it gets the next ones.
    asked.extend(ask(4));
    until(|| shared.stats().outstanding == 9).await;
    assert_eq!(shared.stats().clients, 2);
    asked.extend(ask(2));
    until(|| shared.stats().clients == 3).await;
    asked.extend(ask(20));
    until(|| shared.stats().outstanding == 31).await;
    assert_eq!(
        (shared.stats().clients, shared.stats().opening),
        (3, 0),
        "the maximum"
    );
    gate.add_permits(31);
    for asked in asked {
        soon(asked).await.expect("no panic").expect("an answer");
    }
    until(|| shared.stats().clients == 1 && shared.stats().pool.size == 1).await;
    until(|| server.stats().current_connections == 1).await;
    assert_eq!(shared.stats().pool.closed.idle, 2);
    assert!(soon(shared.close()).await.in_order);
    until(|| alive_tasks() == before).await;
    server.stop().await.expect("it runs");
}

#[tokio::test]
async fn who_shares_a_client_that_broke_is_told_and_the_next_gets_another() {
    let gate = Arc::new(Semaphore::new(0));
    let (server, url) = started(patient(&gate)).await;
    let shared = clients(&url).multiplexed().build().expect("it is valid");
    let lost = tokio::spawn({
        let shared = shared.clone();
        async move { shared.request("lost", LONG).await }
    });
    until(|| server.stats().current_connections == 1 && shared.stats().outstanding == 1).await;
    for session in server.sessions() {
        session.abort();
    }
    assert!(soon(lost).await.expect("no panic").is_err());
    gate.add_permits(1);
    let answer = soon(shared.request("found", LONG))
        .await
        .expect("an answer");
    assert_eq!(answer.payload(), b"found");
    assert_eq!(shared.stats().pool.closed.broken, 1);
    soon(shared.close()).await;
    server.stop().await.expect("it runs");
}

#[tokio::test]
async fn an_idempotent_request_on_a_client_that_broke_is_sent_again_on_another() {
    let gate = Arc::new(Semaphore::new(0));
    let (server, url) = started(patient(&gate)).await;
    let shared = clients(&url).multiplexed().build().expect("it is valid");
    let asked = tokio::spawn({
        let shared = shared.clone();
        async move { shared.request_idempotent("again", LONG).await }
    });
    for lost in 0..2 {
        until(|| server.stats().total_connections == lost + 1 && shared.stats().outstanding == 1)
            .await;
        for session in server.sessions() {
            session.abort();
        }
    }
    gate.add_permits(3);
    let answer = soon(asked).await.expect("no panic").expect("an answer");
    assert_eq!(answer.payload(), b"again");
    let stats = shared.stats();
    assert_eq!(
        (stats.leased, stats.outstanding, stats.pool.closed.broken),
        (3, 0, 2),
        "three attempts, each with a client of its own"
    );
    // Without a server there is no client.
    soon(server.stop()).await.expect("it runs");
    let error = soon(shared.request_idempotent("late", 20 * MS)).await;
    assert!(error.is_err());
    soon(shared.close()).await;
    let error = soon(shared.request_idempotent("closed", LONG)).await;
    assert_eq!(
        error.expect_err("it is closed").code(),
        ErrorCode::ShuttingDown
    );
}

#[tokio::test]
async fn all_who_wait_for_the_first_client_are_told_why_there_is_none() {
    let Port { url, .. } = &Port::take().await;
    let shared = clients(url)
        .waiters(10)
        .multiplexed()
        .build()
        .expect("it is valid");
    let asked: Vec<_> = (0..10)
        .map(|_| {
            let shared = shared.clone();
            tokio::spawn(async move { shared.request("?", LONG).await })
        })
        .collect();
    for asked in asked {
        let error = soon(asked)
            .await
            .expect("no panic")
            .expect_err("nobody listens");
        assert_eq!(error.code(), ErrorCode::ConnectionRefused);
    }
    let closed = soon(shared.close()).await;
    assert!(closed.in_order);
    let error = soon(shared.request("?", LONG))
        .await
        .expect_err("it has closed");
    assert_eq!(error.code(), ErrorCode::ShuttingDown);
}

#[tokio::test]
async fn the_wait_for_the_first_client_is_bounded_and_has_a_deadline() {
    let (_fake, url) = Fake::bind().await;
    let shared = clients(&url).waiters(1).multiplexed().build();
    let shared = shared.expect("it is valid");
    let waits = tokio::spawn({
        let shared = shared.clone();
        async move { shared.request("?", LONG).await.map(drop) }
    });
    until(|| shared.stats().waiting == 1).await;
    let refused = soon(shared.request("?", LONG))
        .await
        .expect_err("one waits");
    assert_eq!(refused.code(), ErrorCode::QueueFull);
    waits.abort();
    until(|| shared.stats().waiting == 0).await;
    let late = soon(shared.request("?", 100 * MS))
        .await
        .expect_err("nobody answers");
    assert_eq!(late.code(), ErrorCode::ConnectionTimeout);
    assert_eq!(shared.stats().waiting, 0);
    soon(shared.close_within(Duration::ZERO)).await;
}

#[tokio::test]
async fn dropping_the_last_handle_closes_the_clients() {
    let (server, url) = started(echo()).await;
    let before = alive_tasks();
    let shared = clients(&url).multiplexed().build().expect("it is valid");
    soon(shared.request("?", LONG)).await.expect("an answer");
    drop(shared);
    until(|| server.stats().current_connections == 0).await;
    until(|| alive_tasks() == before).await;
    server.stop().await.expect("it runs");
}

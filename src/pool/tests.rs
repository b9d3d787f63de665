//! The promises of the pool, with items whose every fate the test decides.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, advance, sleep, timeout};

use super::*;
use crate::handler::BoxFuture;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// What a test decides.
#[derive(Default)]
struct Fates {
    created: AtomicU64,
    closed: AtomicU64,
    /// Items that have not been dropped.
    alive: AtomicUsize,
    most_alive: AtomicUsize,
    refuses: AtomicBool,
    panics: AtomicBool,
    /// How many may be made; without one, any number.
    gate: Option<Semaphore>,
    unfit: AtomicBool,
    checks: AtomicU64,
    /// Checks wait for ever.
    stalls: AtomicBool,
}

struct Item {
    number: u64,
    broken: Arc<AtomicBool>,
    breaks: Arc<Notify>,
    fates: Arc<Fates>,
}

impl Item {
    fn break_it(&self) {
        self.broken.store(true, SeqCst);
        self.breaks.notify_one();
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        self.fates.alive.fetch_sub(1, SeqCst);
    }
}

#[derive(Clone, Default)]
struct Maker(Arc<Fates>);

impl Maker {
    fn gated(count: usize) -> Self {
        Maker(Arc::new(Fates {
            gate: Some(Semaphore::new(count)),
            ..Fates::default()
        }))
    }
}

impl Manage for Maker {
    type Item = Item;

    async fn create(&self) -> Result<Item, PoolError> {
        let fates = &self.0;
        if let Some(gate) = &fates.gate {
            gate.acquire().await.expect("it is not closed").forget();
        }
        assert!(!fates.panics.load(SeqCst), "it was told to");
        if fates.refuses.load(SeqCst) {
            let text = "nobody is there";
            return Err(PoolError::with_code(ErrorCode::ConnectionRefused, text));
        }
        let alive = fates.alive.fetch_add(1, SeqCst) + 1;
        fates.most_alive.fetch_max(alive, SeqCst);
        Ok(Item {
            number: fates.created.fetch_add(1, SeqCst) + 1,
            broken: Arc::default(),
            breaks: Arc::default(),
            fates: Arc::clone(fates),
        })
    }

    fn is_broken(&self, item: &Item) -> bool {
        item.broken.load(SeqCst)
    }

    fn watch(&self, item: &Item) -> Option<BoxFuture<'static, ()>> {
        let breaks = Arc::clone(&item.breaks);
        Some(Box::pin(async move { breaks.notified().await }))
    }

    async fn check(&self, _item: &mut Item) -> bool {
        self.0.checks.fetch_add(1, SeqCst);
        if self.0.stalls.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        assert!(!self.0.panics.load(SeqCst), "it was told to");
        !self.0.unfit.load(SeqCst)
    }

    async fn close(&self, item: Item) {
        self.0.closed.fetch_add(1, SeqCst);
        drop(item);
    }
}

fn pool(
    maker: &Maker,
    configure: impl FnOnce(PoolBuilder<Maker>) -> PoolBuilder<Maker>,
) -> Pool<Maker> {
    configure(Pool::builder(maker.clone()))
        .build()
        .expect("a valid configuration")
}

async fn get(pool: &Pool<Maker>) -> Pooled<Maker> {
    pool.acquire().await.expect("there is one")
}

/// Lets every other task do what it can.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// What must be true of every pool that nobody uses at the moment.
fn is_whole(pool: &Pool<Maker>) {
    let stats = pool.stats();
    let alive = pool.manager().0.alive.load(SeqCst);
    assert_eq!(
        (stats.in_use, stats.waiting, stats.creating),
        (0, 0, 0),
        "{stats:?}"
    );
    assert_eq!(stats.size, alive, "{stats:?}");
    assert_eq!(
        stats.created,
        stats.closed.total() + stats.size as u64,
        "{stats:?}"
    );
    assert!(alive <= pool.inner().config.maximum);
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_is_lent_again() {
    let maker = Maker::default();
    let pool = pool(&maker, |builder| builder);
    let first = get(&pool).await;
    assert_eq!(first.number, 1);
    drop(first);
    assert_eq!(get(&pool).await.number, 1);
    assert_eq!(pool.try_acquire().expect("it is idle").number, 1);
    assert_eq!(pool.stats().created, 1);
    assert_eq!(pool.stats().acquired, 3);
    is_whole(&pool);
}

#[tokio::test(start_paused = true)]
async fn there_are_never_more_than_the_maximum() {
    let maker = Maker::default();
    let pool = pool(&maker, |builder| builder.maximum(3));
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let item = get(&pool).await;
                sleep(MS).await;
                drop(item);
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no task panics");
    }
    assert_eq!(maker.0.most_alive.load(SeqCst), 3);
    assert_eq!(pool.stats().waits.count, 50);
    is_whole(&pool);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_in_the_order_of_arrival() {
    let pool = pool(&Maker::default(), |builder| builder.maximum(1));
    let item = get(&pool).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for number in 0..20 {
        let (pool, order) = (pool.clone(), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            let _item = get(&pool).await;
            lock(&order).push(number);
        }));
        settle().await;
    }
    assert_eq!(pool.stats().waiting, 20);
    drop(item);
    // Whoever comes now cannot overtake them.
    assert!(pool.try_acquire().is_err());
    for task in tasks {
        task.await.expect("no task panics");
    }
    assert_eq!(*lock(&order), (0..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_tasks_on_ten_items_have_equal_shares() {
    let pool = pool(&Maker::default(), |builder| {
        builder.maximum(10).waiters(1_000)
    });
    let turns: Arc<Vec<AtomicU64>> = Arc::new((0..1_000).map(|_| AtomicU64::new(0)).collect());
    let tasks: Vec<_> = (0..1_000)
        .map(|number| {
            let (pool, turns) = (pool.clone(), Arc::clone(&turns));
            tokio::spawn(async move {
                loop {
                    let Ok(_item) = pool.acquire_timeout(60 * SECOND).await else {
                        return;
                    };
                    turns[number].fetch_add(1, SeqCst);
                    // Some hold their item for longer than others.
                    sleep(MS * (1 + number as u32 % 3)).await;
                }
            })
        })
        .collect();
    sleep(20 * SECOND).await;
    pool.close().await;
    for task in tasks {
        task.await.expect("no task panics");
    }
    let counts = turns.iter().map(|turns| turns.load(SeqCst));
    let (least, most) = (counts.clone().min().unwrap_or(0), counts.max().unwrap_or(0));
    assert!(least >= 50 && most - least <= 3, "{least} to {most}");
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded() {
    let pool = pool(&Maker::default(), |builder| builder.maximum(1).waiters(2));
    let item = get(&pool).await;
    let mut first = Box::pin(pool.acquire());
    let mut second = Box::pin(pool.acquire());
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    let refused = pool.acquire().await.expect_err("two wait");
    assert_eq!(refused.code(), ErrorCode::QueueFull);
    assert_eq!(pool.stats().refused, 1);
    drop(first);
    let mut third = Box::pin(pool.acquire());
    assert!(poll(third.as_mut()).is_pending(), "there is room again");
    drop((item, second, third));
    is_whole(&pool);
}

#[tokio::test(start_paused = true)]
async fn the_wait_has_a_deadline() {
    let pool = pool(&Maker::default(), |builder| {
        builder.maximum(1).acquire_timeout(3 * SECOND)
    });
    let item = get(&pool).await;
    let began = Instant::now();
    let late = pool.acquire().await.expect_err("it is in use");
    assert!(late.is_timeout() && late.code() == ErrorCode::ConnectionTimeout);
    assert_eq!(began.elapsed(), 3 * SECOND);
    let late = pool.acquire_timeout(SECOND).await;
    assert!(late.is_err() && began.elapsed() == 4 * SECOND);
    assert_eq!((pool.stats().timeouts, pool.stats().waiting), (2, 0));
    drop(item);
    is_whole(&pool);
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_swallows_nothing() {
    let pool = pool(&Maker::default(), |builder| builder.maximum(1));
    let item = get(&pool).await;
    let mut gives_up = Box::pin(pool.acquire());
    let mut patient = Box::pin(pool.acquire());
    assert!(poll(gives_up.as_mut()).is_pending() && poll(patient.as_mut()).is_pending());
    // It is on its way to the first when that gives up.
    drop(item);
    drop(gives_up);
    let Poll::Ready(Ok(item)) = poll(patient.as_mut()) else {
        panic!("it goes to the next");
    };
    drop((item, patient));
    is_whole(&pool);
    assert_eq!(pool.stats().created, 1);
}

#[tokio::test(start_paused = true)]
async fn a_future_can_be_dropped_at_every_await() {
    for polls in 0..40 {
        let maker = Maker::gated(1);
        let pool = pool(&maker, |builder| {
            builder.maximum(2).check_after_idle(Some(Duration::ZERO))
        });
        drop(get(&pool).await);
        let mut waiting = [
            Some(Box::pin(pool.acquire())),
            Some(Box::pin(pool.acquire())),
        ];
        for step in 0..polls {
            if step == 10 {
                maker.0.gate.as_ref().expect("it has one").add_permits(1);
            }
            let turn = &mut waiting[step % 2];
            // What comes goes back at once.
            if turn
                .as_mut()
                .is_some_and(|one| poll(one.as_mut()).is_ready())
            {
                *turn = None;
            }
            tokio::task::yield_now().await;
        }
        drop(waiting);
        maker.0.gate.as_ref().expect("it has one").add_permits(10);
        settle().await;
        is_whole(&pool);
        let both = (get(&pool).await, get(&pool).await);
        drop(both);
        assert!(pool.close().await.in_order);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_gets_what_is_given_back_while_another_is_made() {
    let maker = Maker::gated(1);
    let pool = pool(&maker, |builder| builder.maximum(2));
    let item = get(&pool).await;
    let mut waits = Box::pin(pool.acquire());
    assert!(poll(waits.as_mut()).is_pending());
    settle().await;
    assert_eq!(pool.stats().creating, 1);
    drop(item);
    let Poll::Ready(Ok(item)) = poll(waits.as_mut()) else {
        panic!("it does not wait for the second");
    };
    assert_eq!(item.number, 1);
    maker.0.gate.as_ref().expect("it has one").add_permits(1);
    settle().await;
    assert_eq!((pool.stats().idle, pool.stats().in_use), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn without_any_item_the_reason_comes_at_once() {
    let maker = Maker::default();
    maker.0.refuses.store(true, SeqCst);
    let pool = pool(&maker, |builder| builder);
    let began = Instant::now();
    let error = pool.acquire().await.expect_err("none can be made");
    assert_eq!(error.code(), ErrorCode::ConnectionRefused);
    assert_eq!(began.elapsed(), Duration::ZERO);
    maker.0.refuses.store(false, SeqCst);
    assert_eq!(get(&pool).await.number, 1);
    assert_eq!(pool.stats().create_failures, 1);
    is_whole(&pool);
}

#[tokio::test(start_paused = true)]
async fn while_an_item_is_in_use_who_waits_goes_on_waiting() {
    let maker = Maker::default();
    let pool = pool(&maker, |builder| {
        builder.maximum(2).acquire_timeout(SECOND * 60)
    });
    let item = get(&pool).await;
    maker.0.refuses.store(true, SeqCst);
    let mut waits = Box::pin(pool.acquire());
    assert!(poll(waits.as_mut()).is_pending());
    assert!(timeout(30 * SECOND, &mut waits).await.is_err());
    let failures = pool.stats().create_failures;
    assert!((3..=60).contains(&failures), "{failures} attempts in 30 s");
    drop(item);
    assert_eq!(waits.await.expect("it was given back").number, 1);
    let _item = get(&pool).await;
    let late = pool
        .acquire_timeout(SECOND)
        .await
        .expect_err("none is there");
    assert!(late.to_string().contains("nobody is there"), "{late}");
}

#[tokio::test(start_paused = true)]
async fn panics_of_the_manager_cost_no_place() {
    let maker = Maker::default();
    let pool = pool(&maker, |builder| {
        builder.maximum(1).check_after_idle(Some(Duration::ZERO))
    });
    maker.0.panics.store(true, SeqCst);
    for _ in 0..3 {
        let error = pool.acquire().await.expect_err("making one panics");
        assert_eq!(error.code(), ErrorCode::ConnectionFailed);
    }
    maker.0.panics.store(false, SeqCst);
    drop(get(&pool).await);
    maker.0.panics.store(true, SeqCst);
    let checks = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await.map(drop) }
    });
    assert!(checks.await.is_err_and(|error| error.is_panic()));
    maker.0.panics.store(false, SeqCst);
    assert_eq!(pool.stats().closed.failed_check, 1);
    drop(get(&pool).await);
    settle().await;
    is_whole(&pool);
}

#[tokio::test(start_paused = true)]
async fn an_item_that_breaks_while_idle_is_replaced_by_itself() {
    let pool = pool(&Maker::default(), |builder| builder.minimum(1));
    pool.warm_up().await.expect("it can be made");
    let breaks = Arc::clone(&pool.try_acquire().expect("it is warm").breaks);
    breaks.notify_one();
    settle().await;
    let stats = pool.stats();
    assert_eq!((stats.closed.broken, stats.idle, stats.created), (1, 1, 2));
    is_whole(&pool);
}

#[tokio::test(start_paused = true)]
async fn a_broken_item_is_not_lent_and_not_kept() {
    let maker = Maker::default();
    let pool = pool(&maker, |builder| builder.maximum(1));
    let item = get(&pool).await;
    item.break_it();
    let mut waits = Box::pin(pool.acquire());
    assert!(poll(waits.as_mut()).is_pending());
    drop(item);
    assert_eq!(waits.await.expect("another is made").number, 2);
    let item = get(&pool).await;
    let broken = Arc::clone(&item.broken);
    drop(item);
    broken.store(true, SeqCst);
    assert!(pool.try_acquire().is_err());
    assert_eq!(get(&pool).await.number, 3);
    settle().await;
    assert_eq!(maker.0.closed.load(SeqCst), 2);
    is_whole(&pool);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_needs_is_closed_down_to_the_minimum() {
    let pool = pool(&Maker::default(), |builder| {
        builder.minimum(2).idle_timeout(Some(10 * SECOND))
    });
    let items = (
        get(&pool).await,
        get(&pool).await,
        get(&pool).await,
        get(&pool).await,
    );
    drop(items);
    advance(9 * SECOND).await;
    drop(get(&pool).await);
    settle().await;
    assert_eq!(pool.stats().idle, 4);
    sleep(2 * SECOND).await;
    assert_eq!((pool.stats().idle, pool.stats().closed.idle), (2, 2));
    sleep(60 * SECOND).await;
    assert_eq!((pool.stats().idle, pool.stats().created), (2, 4));
    is_whole(&pool);
}

#[tokio::test(start_paused = true)]
async fn items_that_were_made_together_do_not_grow_old_together() {
    let pool = pool(&Maker::default(), |builder| {
        builder
            .maximum(20)
            .minimum(20)
            .max_age(Some(100 * SECOND))
            .idle_timeout(None)
    });
    pool.warm_up().await.expect("they can be made");
    sleep(79 * SECOND).await;
    assert_eq!(pool.stats().closed.age, 0);
    let mut steps = std::collections::BTreeSet::new();
    for _ in 0..22 {
        sleep(SECOND).await;
        steps.insert(pool.stats().closed.age);
    }
    let stats = pool.stats();
    assert_eq!((stats.closed.age, stats.size), (20, 20));
    assert!(steps.len() >= 6, "{steps:?}");
    is_whole(&pool);
}

#[tokio::test(start_paused = true)]
async fn an_item_that_is_too_old_goes_when_it_is_given_back() {
    let pool = pool(&Maker::default(), |builder| builder.max_age(Some(SECOND)));
    let item = get(&pool).await;
    sleep(2 * SECOND).await;
    drop(item);
    settle().await;
    assert_eq!((pool.stats().size, pool.stats().closed.age), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn an_item_that_was_idle_for_long_is_asked_before_it_is_lent() {
    let maker = Maker::default();
    let pool = pool(&maker, |builder| builder.check_after_idle(Some(5 * SECOND)));
    drop(get(&pool).await);
    sleep(4 * SECOND).await;
    drop(get(&pool).await);
    assert_eq!(maker.0.checks.load(SeqCst), 0);
    sleep(6 * SECOND).await;
    assert_eq!(get(&pool).await.number, 1);
    assert_eq!(maker.0.checks.load(SeqCst), 1);
    sleep(6 * SECOND).await;
    maker.0.unfit.store(true, SeqCst);
    assert_eq!(get(&pool).await.number, 2);
    settle().await;
    assert_eq!(pool.stats().closed.failed_check, 1);
    is_whole(&pool);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_never_ends_ends_by_its_own_deadline() {
    let maker = Maker::default();
    let pool = pool(&maker, |builder| {
        builder
            .check_after_idle(Some(Duration::ZERO))
            .check_timeout(2 * SECOND)
    });
    drop(get(&pool).await);
    maker.0.stalls.store(true, SeqCst);
    let began = Instant::now();
    assert_eq!(get(&pool).await.number, 2);
    assert_eq!(began.elapsed(), 2 * SECOND);
    let late = pool.acquire_timeout(SECOND).await;
    assert!(late.is_err_and(|error| error.is_timeout()));
    settle().await;
    is_whole(&pool);
}

#[tokio::test(start_paused = true)]
async fn items_are_checked_when_they_are_given_back() {
    let maker = Maker::default();
    let pool = pool(&maker, |builder| builder.maximum(1).check_on_return(true));
    drop(get(&pool).await);
    assert_eq!((pool.stats().checking, pool.stats().idle), (1, 0));
    settle().await;
    assert_eq!((pool.stats().checking, pool.stats().idle), (0, 1));
    maker.0.unfit.store(true, SeqCst);
    drop(get(&pool).await);
    assert_eq!(get(&pool).await.number, 2);
    settle().await;
    assert_eq!(pool.stats().closed.failed_check, 2);
    is_whole(&pool);
}

#[tokio::test(start_paused = true)]
async fn idle_items_are_checked_in_the_background_a_quarter_at_a_time() {
    let maker = Maker::default();
    let pool = pool(&maker, |builder| {
        builder
            .maximum(8)
            .minimum(8)
            .check_every(Some(10 * SECOND))
            .idle_timeout(None)
    });
    pool.warm_up().await.expect("they can be made");
    maker.0.stalls.store(true, SeqCst);
    sleep(11 * SECOND).await;
    assert_eq!((pool.stats().checking, pool.stats().idle), (2, 6));
    maker.0.stalls.store(false, SeqCst);
    sleep(10 * SECOND).await;
    let stats = pool.stats();
    assert_eq!((stats.checking, stats.idle), (0, 8));
    assert_eq!(stats.closed.failed_check, 2, "those that stalled");
    assert!(maker.0.checks.load(SeqCst) >= 8);
    is_whole(&pool);
}

#[tokio::test(start_paused = true)]
async fn what_is_detached_or_discarded_leaves_room_for_another() {
    let maker = Maker::default();
    let pool = pool(&maker, |builder| builder.maximum(1));
    let item = get(&pool).await.detach();
    assert_eq!(get(&pool).await.number, 2);
    drop(item);
    get(&pool).await.discard();
    assert_eq!(get(&pool).await.number, 3);
    settle().await;
    let closed = pool.stats().closed;
    assert_eq!((closed.detached, closed.discarded), (1, 1));
    assert_eq!(
        maker.0.closed.load(SeqCst),
        1,
        "what is detached is not closed"
    );
    is_whole(&pool);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_closes_waits_for_what_is_out_and_lends_nothing() {
    let maker = Maker::default();
    let pool = pool(&maker, |builder| builder.maximum(2));
    let (item, other) = (get(&pool).await, get(&pool).await);
    drop(other);
    let idle = get(&pool).await;
    let waits = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await.map(drop) }
    });
    settle().await;
    let closes = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close_within(5 * SECOND).await }
    });
    settle().await;
    let refused = waits.await.expect("no panic").expect_err("it closes");
    assert_eq!(refused.code(), ErrorCode::ShuttingDown);
    let refused = pool.acquire().await.expect_err("it closes");
    assert_eq!(refused.code(), ErrorCode::ShuttingDown);
    assert!(!closes.is_finished() && pool.is_closed());
    drop((item, idle));
    let report = closes.await.expect("no panic");
    assert_eq!((report.in_order, report.left), (true, 0));
    assert_eq!(maker.0.closed.load(SeqCst), 2);
    assert_eq!(maker.0.alive.load(SeqCst), 0);
    assert_eq!(pool.close().await, report);
    assert_eq!(pool.stats().closed.closing, 2);
}

#[tokio::test(start_paused = true)]
async fn closing_ends_at_the_deadline_and_leaves_no_task() {
    let maker = Maker::gated(1);
    let pool = pool(&maker, |builder| builder.maximum(3));
    let item = get(&pool).await;
    let mut waits = Box::pin(pool.acquire());
    assert!(poll(waits.as_mut()).is_pending());
    settle().await;
    let began = Instant::now();
    let report = pool.close_within(SECOND).await;
    assert_eq!(began.elapsed(), SECOND);
    assert_eq!((report.in_order, report.left), (false, 1));
    settle().await;
    let tasks = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    assert_eq!(tasks, 0);
    drop(item);
    assert_eq!(maker.0.alive.load(SeqCst), 0);
    assert_eq!(
        pool.stats().create_failures,
        0,
        "what nobody wants did not fail"
    );
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_closes_the_pool() {
    let maker = Maker::default();
    let pool = pool(&maker, |builder| builder);
    let (item, other) = (get(&pool).await, get(&pool).await);
    drop(other);
    drop(pool);
    settle().await;
    assert_eq!(maker.0.closed.load(SeqCst), 1);
    drop(item);
    settle().await;
    assert_eq!(maker.0.closed.load(SeqCst), 2);
    let tasks = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    assert_eq!(tasks, 0);
}

#[test]
fn a_pool_outlives_the_runtime_that_it_began_on() {
    let maker = Maker::default();
    let pool = pool(&maker, |builder| builder.maximum(2));
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime")
    };
    let first = runtime();
    let item = first.block_on(get(&pool));
    let mut waits = Box::pin({
        let pool = pool.clone();
        async move {
            let _both = (get(&pool).await, pool.acquire().await);
        }
    });
    first.block_on(async {
        assert!(poll(waits.as_mut()).is_pending());
    });
    drop(first);
    drop(waits);
    drop(item);
    let second = runtime();
    second.block_on(async {
        let both = (get(&pool).await, get(&pool).await);
        drop(both);
        settle().await;
        is_whole(&pool);
        assert!(pool.close().await.in_order);
    });
    assert_eq!(maker.0.alive.load(SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_when_many_threads_come_give_up_and_break() {
    let maker = Maker::default();
    let pool = pool(&maker, |builder| builder.maximum(5).waiters(64));
    let tasks: Vec<_> = (0..64_u32)
        .map(|number| {
            let pool = pool.clone();
            tokio::spawn(async move {
                for turn in 0..200_u32 {
                    let wait = match (number + turn) % 5 {
                        0 => Duration::from_micros(u64::from(turn % 50)),
                        _ => 20 * SECOND,
                    };
                    // The timeout around it drops the future, unlike its own.
                    let Ok(Ok(item)) = timeout(wait, pool.acquire()).await else {
                        continue;
                    };
                    match turn % 17 {
                        0 => item.break_it(),
                        1 => item.discard(),
                        2 => drop(item.detach()),
                        _ => tokio::task::yield_now().await,
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no task panics");
    }
    timeout(20 * SECOND, async {
        while pool.stats().closing + pool.stats().creating > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it comes to rest");
    is_whole(&pool);
    assert!(pool.close().await.in_order);
    assert_eq!(maker.0.alive.load(SeqCst), 0);
}

#[test]
fn what_cannot_be_obeyed_is_refused() {
    let build = |configure: fn(PoolBuilder<Maker>) -> PoolBuilder<Maker>| {
        let pool = configure(Pool::builder(Maker::default())).build();
        pool.map(drop).expect_err("it is not valid").to_string()
    };
    assert!(build(|builder| builder.maximum(0)).contains("maximum"));
    assert!(build(|builder| builder.minimum(11)).contains("minimum"));
    assert!(build(|builder| builder.waiters(0)).contains("waiters"));
    assert!(build(|builder| builder.parallel_creates(0)).contains("parallel_creates"));
    assert!(build(|builder| builder.idle_timeout(Some(Duration::ZERO))).contains("idle_timeout"));
    assert!(build(|builder| builder.max_age(Some(Duration::MAX))).contains("max_age"));
}

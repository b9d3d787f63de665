//! Circuit breakers and retries, against servers that fail, hang and die.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use network_system::resilience::{
    CircuitBreaker, CircuitBreakerBuilder, CircuitState, RetryBudget, RetryPolicy,
};
use network_system::{
    Client, ClientState, CloseReason, ErrorCode, Limits, Message, ReconnectPolicy, RequestError,
    Server, ServerBuilder, Session,
};
use tokio::time::{Instant, timeout};

use crate::support::*;

const RESPONSE: u16 = 0x0012;

/// Opens after three failures in a row, for longer than a test unless it says otherwise.
fn strict() -> CircuitBreakerBuilder {
    CircuitBreaker::builder()
        .name("test")
        .consecutive_failures(Some(3))
        .failure_rate(None)
        .open_for(LONG, LONG)
        .jitter(0.0)
}

fn breaker(builder: CircuitBreakerBuilder) -> CircuitBreaker {
    builder.build().expect("a valid configuration")
}

/// Waits until the breaker is in a state.
async fn stands(breaker: &CircuitBreaker, wanted: CircuitState) {
    soon(async {
        while breaker.state() != wanted {
            tokio::time::sleep(MS).await;
        }
    })
    .await;
}

/// A server whose handler gets the number of the request, from 0.
fn counting<F, R>(url: &str, handler: F) -> (ServerBuilder, Arc<AtomicU32>)
where
    F: Fn(Session, u32) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Message, RequestError>> + Send + 'static,
{
    let calls = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&calls);
    let builder = Server::builder()
        .listen(url)
        .on_request(move |session, _| handler(session, counter.fetch_add(1, Ordering::SeqCst)));
    (builder, calls)
}

const ANY: &str = "tcp://127.0.0.1:0";

// Connecting

#[tokio::test]
async fn connecting_through_an_open_breaker_does_not_touch_the_network() {
    let (fake, url) = Fake::bind().await;
    let breaker = breaker(strict());
    breaker.force_open();
    let client = quick(&url)
        .circuit_breaker(&breaker)
        .build()
        .expect("valid");
    let error = soon(client.connect())
        .await
        .expect_err("the breaker is open");
    assert_eq!(error.code(), ErrorCode::CircuitOpen);
    assert_eq!(client.state(), ClientState::Failed);
    assert!(timeout(50 * MS, fake.accept()).await.is_err());
    breaker.reset();
    let (connected, _peer) = tokio::join!(client.connect(), fake.welcome());
    connected.expect("the breaker is closed");
}

#[tokio::test]
async fn connections_that_fail_open_it_and_the_error_says_until_when() {
    let nobody = Port::take().await;
    let breaker = breaker(strict());
    let client = quick(&nobody.url)
        .circuit_breaker(&breaker)
        .build()
        .expect("valid");
    for _ in 0..3 {
        let error = soon(client.connect()).await.expect_err("nobody listens");
        assert_eq!(error.code(), ErrorCode::ConnectionRefused);
    }
    let error = soon(client.connect())
        .await
        .expect_err("the breaker is open");
    assert_eq!(error.code(), ErrorCode::CircuitOpen);
    let text = error.to_string();
    assert!(
        text.starts_with("the circuit breaker `test` is open for another "),
        "{text}"
    );
    assert_eq!(breaker.stats().failures, 3);
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_no_failure_while_another_one_answers() {
    let (server, url) = started(echo()).await;
    let nobody = Port::take().await;
    let breaker = breaker(strict());
    for _ in 0..5 {
        let builder = quick(&nobody.url).endpoint(&url).circuit_breaker(&breaker);
        connected(builder).await.stop().await;
    }
    let stats = breaker.stats();
    assert_eq!((stats.successes, stats.failures), (5, 0));
    server.stop().await.expect("running");
}

#[tokio::test]
async fn a_lost_connection_is_made_again_as_soon_as_the_breaker_lets_it() {
    let (fake, url) = Fake::bind().await;
    let breaker = breaker(strict());
    let builder = quick(&url).circuit_breaker(&breaker);
    let (client, peer) = tokio::join!(connected(builder), fake.welcome());
    breaker.force_open();
    drop(peer);
    reached(&client, ClientState::Reconnecting).await;
    assert!(timeout(100 * MS, fake.accept()).await.is_err());
    breaker.force_close();
    let _peer = fake.welcome().await;
    reached(&client, ClientState::Connected).await;
    client.stop_within(MS).await;
}

#[tokio::test]
async fn waiting_for_the_breaker_uses_up_no_attempt_and_ends_with_the_client() {
    let port = Port::take().await;
    let (server, url) = started(echo_on(&port.url)).await;
    let breaker = breaker(strict().open_for(100 * MS, 100 * MS));
    let policy = ReconnectPolicy::new().base(MS).cap(MS).attempts(Some(8));
    let builder = quick(&url).reconnect(policy).circuit_breaker(&breaker);
    let client = connected(builder).await;
    server.stop().await.expect("running");
    // Three failures open it, and each attempt after that opens it again.
    soon(async {
        while breaker.stats().opened < 3 {
            tokio::time::sleep(MS).await;
        }
    })
    .await;
    assert_eq!(client.stats().failed_attempts, 5);
    let (server, _) = started(echo_on(&url)).await;
    reached(&client, ClientState::Connected).await;
    stands(&breaker, CircuitState::Closed).await;
    breaker.force_open();
    server.stop().await.expect("running");
    reached(&client, ClientState::Reconnecting).await;
    soon(client.stop()).await;
}

// Requests

#[tokio::test]
async fn a_server_that_hangs_is_not_asked_any_more_until_a_probe_has_found_it_well() {
    let (builder, calls) = counting(ANY, |_, number| async move {
        match number {
            0..3 => pending().await,
            _ => Ok(Message::text("well")),
        }
    });
    let (server, url) = started(builder).await;
    let breaker = breaker(strict().open_for(1_000 * MS, LONG));
    let client = connected(quick(&url).circuit_breaker(&breaker)).await;
    for _ in 0..3 {
        let error = client.request("?", 20 * MS).await.expect_err("it hangs");
        assert_eq!(error.code(), ErrorCode::RequestTimeout);
    }
    let began = Instant::now();
    let error = client.request("?", LONG).await.expect_err("it is open");
    assert_eq!(error.code(), ErrorCode::CircuitOpen);
    assert!(began.elapsed() < PROMPT);
    // The third may still be on its way, and would be before a fourth.
    until(|| calls.load(Ordering::SeqCst) >= 3).await;
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    assert!(client.is_connected(), "an open breaker ends no session");
    breaker.ready().await;
    let answer = soon(client.request("?", LONG)).await.expect("a probe");
    assert_eq!(answer.as_text(), Some("well"));
    assert_eq!(breaker.state(), CircuitState::Closed);
    client.stop_within(MS).await;
    server.stop_within(MS).await.expect("running");
}

#[tokio::test]
async fn answers_and_mistakes_of_the_caller_do_not_open_it() {
    let (builder, _) = counting(ANY, |_, _| async { Err(RequestError::failed("no")) });
    let (server, url) = started(builder).await;
    let breaker = breaker(strict());
    let mut limits = Limits::default();
    limits.message_size = 1024;
    let client = connected(quick(&url).limits(limits).circuit_breaker(&breaker)).await;
    for _ in 0..5 {
        let error = soon(client.request("?", LONG)).await.expect_err("no");
        assert_eq!(error.code(), ErrorCode::RequestFailed);
        let error = soon(client.request(vec![0; 2048], LONG)).await;
        let code = error.expect_err("too long").code();
        assert_eq!(code, ErrorCode::MessageTooLarge);
    }
    let stats = breaker.stats();
    assert_eq!((stats.successes, stats.neutral, stats.failures), (6, 5, 0));
    client.stop().await;
    server.stop().await.expect("running");
}

#[tokio::test]
async fn a_connection_that_breaks_is_one_failure_however_many_requests_were_under_way() {
    let (fake, url) = Fake::bind().await;
    let breaker = breaker(strict());
    let builder = quick(&url).circuit_breaker(&breaker);
    let (client, mut peer) = tokio::join!(connected(builder), fake.welcome());
    let requests: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.request("?", LONG).await })
        })
        .collect();
    for _ in 0..20 {
        let (frame_type, _) = peer.frame().await.expect("a request");
        assert_eq!(frame_type, REQUEST);
    }
    drop(peer);
    for request in requests {
        let error = soon(request).await.expect("no panic").expect_err("lost");
        assert!(error.is_connection_lost(), "{error}");
    }
    let stats = breaker.stats();
    assert_eq!((stats.failures, stats.neutral), (1, 19));
    client.stop_within(MS).await;
}

#[tokio::test]
async fn requests_that_end_with_the_clients_own_stop_say_nothing() {
    let (fake, url) = Fake::bind().await;
    let breaker = breaker(strict());
    let builder = quick(&url).circuit_breaker(&breaker);
    let (client, mut peer) = tokio::join!(connected(builder), fake.welcome());
    let stop = async {
        let (frame_type, _) = peer.frame().await.expect("a request");
        assert_eq!(frame_type, REQUEST);
        let session = client.session().expect("connected");
        session.disconnect(CloseReason::new("enough"));
        peer.closed_politely().await;
    };
    let (answer, ()) = tokio::join!(soon(client.request("?", LONG)), stop);
    assert!(answer.is_err());
    let stats = breaker.stats();
    assert_eq!((stats.failures, stats.neutral), (0, 1));
}

#[tokio::test]
async fn clients_that_share_a_breaker_learn_from_each_other() {
    let (fake, url) = Fake::bind().await;
    let breaker = breaker(strict());
    let builder = quick(&url).circuit_breaker(&breaker);
    let (healthy, _peer) = tokio::join!(connected(builder), fake.welcome());
    let nobody = Port::take().await;
    let sick = quick(&nobody.url)
        .circuit_breaker(&breaker)
        .build()
        .expect("valid");
    for _ in 0..3 {
        soon(sick.connect()).await.expect_err("nobody listens");
    }
    let error = healthy.request("?", LONG).await.expect_err("it is open");
    assert_eq!(error.code(), ErrorCode::CircuitOpen);
    healthy.stop_within(MS).await;
}

// Retries

#[tokio::test]
async fn an_idempotent_request_is_sent_again_when_its_connection_breaks_and_another_is_not() {
    let (builder, calls) = counting(ANY, |session, number| async move {
        match number % 2 {
            0 => {
                session.abort();
                pending().await
            }
            _ => Ok(Message::text("again")),
        }
    });
    let (server, url) = started(builder).await;
    let client = connected(quick(&url)).await;
    let answer = soon(client.request_idempotent("?", LONG)).await;
    assert_eq!(answer.expect("the second one").as_text(), Some("again"));
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    let error = soon(client.request("?", LONG)).await.expect_err("lost");
    assert!(error.is_connection_lost(), "{error}");
    until(|| client.stats().connections == 3).await;
    let answer = soon(client.request("?", LONG)).await.expect("answered");
    assert_eq!(answer.as_text(), Some("again"));
    assert_eq!(calls.load(Ordering::SeqCst), 4, "each request once");
    client.stop_within(MS).await;
    server.stop_within(MS).await.expect("running");
}

#[tokio::test]
async fn what_is_sent_again_is_the_same() {
    let (fake, url) = Fake::bind().await;
    let (client, mut peer) = tokio::join!(connected(quick(&url)), fake.welcome());
    let serve = async {
        let (frame_type, first) = peer.frame().await.expect("a request");
        assert_eq!(frame_type, REQUEST);
        drop(peer);
        let mut peer = fake.welcome().await;
        let (frame_type, second) = peer.frame().await.expect("the request again");
        assert_eq!((frame_type, &second[8..]), (REQUEST, &first[8..]));
        peer.send(RESPONSE, &[&second[..8], b"done"].concat()).await;
        peer
    };
    let (answer, _peer) = tokio::join!(client.request_idempotent("once more", LONG), serve);
    assert_eq!(answer.expect("answered").payload(), b"done");
    client.stop_within(MS).await;
}

#[tokio::test]
async fn requests_survive_a_server_that_dies_and_comes_back() {
    let port = Port::take().await;
    let (builder, calls) = counting(&port.url, |_, _| pending());
    let (server, url) = started(builder).await;
    let budget = RetryBudget::default();
    let policy = RetryPolicy::new().budget(&budget);
    let breaker = CircuitBreaker::builder()
        .open_for(50 * MS, 50 * MS)
        .build()
        .expect("valid");
    let client = connected(quick(&url).retry(policy).circuit_breaker(&breaker)).await;
    let requests: Vec<_> = (0..50)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.request_idempotent(format!("{number}"), LONG).await })
        })
        .collect();
    soon(async {
        while calls.load(Ordering::SeqCst) < 32 {
            tokio::time::sleep(MS).await;
        }
    })
    .await;
    server.stop_within(Duration::ZERO).await.expect("running");
    // Long enough for the breaker to open.
    stands(&breaker, CircuitState::Open).await;
    let (server, _) = started(echo_on(&url)).await;
    for (number, request) in requests.into_iter().enumerate() {
        let answer = soon(request).await.expect("no panic").expect("answered");
        assert_eq!(answer.as_text(), Some(format!("re: {number}").as_str()));
    }
    let stats = budget.stats();
    assert_eq!((stats.requests, stats.retries), (50, 50));
    client.stop().await;
    server.stop().await.expect("running");
}

#[tokio::test]
async fn an_attempt_without_an_answer_in_its_own_time_is_made_again() {
    let (builder, calls) = counting(ANY, |_, number| async move {
        match number {
            0..2 => pending().await,
            _ => Ok(Message::text("third")),
        }
    });
    let (server, url) = started(builder).await;
    // The third has so long for its answer.
    let policy = RetryPolicy::new().attempt_timeout(Some(500 * MS)).base(MS);
    let client = connected(quick(&url).retry(policy)).await;
    let answer = soon(client.request_idempotent("?", LONG)).await;
    assert_eq!(answer.expect("answered").as_text(), Some("third"));
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    client.stop_within(MS).await;
    server.stop_within(MS).await.expect("running");
}

#[tokio::test]
async fn a_retry_waits_for_the_breaker_that_refuses_others_at_once() {
    let (builder, calls) = counting(ANY, |_, number| async move {
        match number {
            0..3 => pending().await,
            _ => Ok(Message::text("well")),
        }
    });
    let (server, url) = started(builder).await;
    let breaker = breaker(strict().open_for(1_000 * MS, LONG));
    // The fourth has so long for its answer.
    let policy = RetryPolicy::new()
        .attempts(4)
        .attempt_timeout(Some(300 * MS))
        .base(MS);
    let client = connected(quick(&url).retry(policy).circuit_breaker(&breaker)).await;
    let other = async {
        stands(&breaker, CircuitState::Open).await;
        let error = client.request_idempotent("?", LONG).await;
        assert_eq!(error.expect_err("open").code(), ErrorCode::CircuitOpen);
    };
    let (answer, ()) = tokio::join!(soon(client.request_idempotent("?", LONG)), other);
    assert_eq!(answer.expect("answered").as_text(), Some("well"));
    assert_eq!(calls.load(Ordering::SeqCst), 4);
    client.stop_within(MS).await;
    server.stop_within(MS).await.expect("running");
}

#[tokio::test]
async fn all_attempts_together_obey_the_timeout() {
    let (builder, calls) = counting(ANY, |_, _| pending());
    let (server, url) = started(builder).await;
    let policy = RetryPolicy::new()
        .attempts(100)
        .attempt_timeout(Some(60 * MS))
        .base(MS);
    let client = connected(quick(&url).retry(policy)).await;
    let began = Instant::now();
    let error = client.request_idempotent("?", 1_000 * MS).await;
    let error = error.expect_err("it hangs");
    assert_eq!(error.code(), ErrorCode::RequestTimeout);
    assert!(error.to_string().contains("(attempt "), "{error}");
    let elapsed = began.elapsed();
    // All of them would take 6 s and more.
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    until(|| calls.load(Ordering::SeqCst) > 1).await;
    client.stop_within(MS).await;
    server.stop_within(MS).await.expect("running");
}

#[tokio::test]
async fn without_a_connection_the_timeout_is_obeyed_too() {
    let port = Port::take().await;
    let fake = Fake::at(&port).await;
    let (client, peer) = tokio::join!(connected(quick(&port.url)), fake.welcome());
    drop(fake);
    drop(peer);
    reached(&client, ClientState::Reconnecting).await;
    let error = soon(client.request_idempotent("?", 50 * MS)).await;
    let code = error.expect_err("nobody is there").code();
    assert_eq!(code, ErrorCode::RequestTimeout);
    // And a client that stops does not let anybody wait.
    let (answer, _) = tokio::join!(client.request_idempotent("?", LONG), client.stop());
    let code = answer.expect_err("stopped").code();
    let ended = [ErrorCode::ShuttingDown, ErrorCode::ConnectionClosed];
    assert!(ended.contains(&code), "{code}");
    let error = client.request_idempotent("?", LONG).await;
    let code = error.expect_err("not connected").code();
    assert_eq!(code, ErrorCode::ConnectionClosed);
}

#[tokio::test]
async fn dropping_the_future_ends_the_attempts() {
    let (builder, calls) = counting(ANY, |_, _| pending());
    let (server, url) = started(builder).await;
    let policy = RetryPolicy::new()
        .attempts(100)
        .attempt_timeout(Some(20 * MS))
        .base(MS);
    let client = connected(quick(&url).retry(policy)).await;
    let asking = client.request_idempotent("?", LONG);
    assert!(timeout(100 * MS, asking).await.is_err());
    let made = calls.load(Ordering::SeqCst);
    assert!(timeout(100 * MS, pending::<()>()).await.is_err());
    let after = calls.load(Ordering::SeqCst);
    // One may have been on its way.
    assert!(after <= made + 1, "{made}, {after}");
    client.stop_within(MS).await;
    server.stop_within(MS).await.expect("running");
}

#[tokio::test]
async fn an_answer_is_an_answer_also_when_it_is_a_failure() {
    let (builder, calls) = counting(ANY, |_, _| async { Err(RequestError::failed("no")) });
    let (server, url) = started(builder).await;
    let client = connected(quick(&url)).await;
    let error = soon(client.request_idempotent("?", LONG)).await;
    let error = error.expect_err("no");
    assert_eq!(
        (error.code(), error.to_string()),
        (ErrorCode::RequestFailed, "no".into())
    );
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    client.stop().await;
    server.stop().await.expect("running");
}

#[tokio::test]
async fn without_a_budget_there_is_no_retry() {
    let (builder, calls) = counting(ANY, |_, _| async {
        Err(RequestError::with_code(ErrorCode::RateLimited, "later"))
    });
    let (server, url) = started(builder).await;
    let budget = RetryBudget::new(0.1, 0, LONG).expect("valid");
    let policy = RetryPolicy::new()
        .attempts(10)
        .base(MS)
        .cap(MS)
        .budget(&budget);
    let client: Client = connected(quick(&url).retry(policy)).await;
    for _ in 0..100 {
        let error = soon(client.request_idempotent("?", LONG)).await;
        assert_eq!(error.expect_err("later").code(), ErrorCode::RateLimited);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 110);
    assert_eq!(budget.stats().retries, 10);
    client.stop().await;
    server.stop().await.expect("running");
}

#[tokio::test]
async fn policies_that_make_no_sense_are_refused() {
    let builder = Client::builder().endpoint("tcp://127.0.0.1:1");
    let error = builder.retry(RetryPolicy::new().attempts(0)).build();
    let error = error.expect_err("no attempt");
    assert!(error.to_string().contains("retry attempts: `0`"), "{error}");
}

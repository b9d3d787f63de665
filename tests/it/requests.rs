//! Requests, in both directions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use network_system::{ErrorCode, Message, RequestError, Session};
use tokio::sync::Semaphore;

use crate::support::{Frame, Over, eventually, kind, limits, serve, settle, within};

const LONG: Duration = Duration::from_secs(60);

over_all! {
    requests:
        a_request_is_answered_under_its_id,
        a_request_of_the_server_is_answered_by_the_peer,
        ids_belong_to_the_requester,
        many_requests_of_the_server_are_told_apart,
        a_failed_request_says_why,
        a_request_nobody_handles_fails,
        an_answer_over_the_limit_becomes_a_failure,
        an_id_in_use_is_refused_and_the_first_request_goes_on,
        of_33_requests_at_once_32_run,
        requests_start_in_order_and_messages_keep_their_place,
        an_answer_to_nothing_is_counted_and_dropped,
        pending_requests_are_bounded,
        answers_of_requests_leave_before_an_orderly_end;
    reliability:
        requests_in_flight_end_with_the_session;
    size:
        the_largest_request_is_answered;
}

/// Answers `fail …` with a failure and everything else with itself.
async fn answer(_: Session, request: Message) -> Result<Message, RequestError> {
    match request.as_text() {
        Some(text) if text.starts_with("fail") => Err(RequestError::failed(text.to_owned())),
        _ => Ok(request),
    }
}

async fn a_request_is_answered_under_its_id(over: Over) {
    let net = serve(over, |builder| builder.on_request(answer)).await;
    let mut peer = net.peer().await;
    for (id, payload) in [(0, "a"), (u64::MAX, "b"), (7, ""), (7, "again")] {
        peer.request(id, payload).await;
        assert_eq!(
            peer.receive().await,
            Some(Frame::with_id(kind::RESPONSE, id, payload))
        );
    }
    net.stop().await;
}

async fn the_largest_request_is_answered(over: Over) {
    let net = serve(over, |builder| builder.on_request(answer)).await;
    let mut peer = net.peer().await;
    let largest = vec![3; 1024 * 1024];
    peer.request(1, largest.clone()).await;
    assert!(peer.expect(kind::RESPONSE).await.payload == largest);
    net.stop().await;
}

async fn a_request_of_the_server_is_answered_by_the_peer(over: Over) {
    let net = serve(over, |builder| builder).await;
    let (mut peer, session) = net.pair().await;
    let asking = tokio::spawn({
        let session = session.clone();
        async move {
            let first = session.request("question", LONG).await;
            let second = session.request("another", LONG).await;
            (first, second)
        }
    });
    let question = peer.expect(kind::REQUEST).await;
    assert_eq!(question.payload, "question");
    peer.send(Frame::with_id(kind::RESPONSE, question.id, "answer"))
        .await;
    let another = peer.expect(kind::REQUEST).await;
    assert_ne!(another.id, question.id);
    let failure = [&(-620_i32).to_be_bytes()[..], b"not here"].concat();
    peer.send(Frame::with_id(kind::FAILURE, another.id, failure))
        .await;
    let (first, second) = within("answers", asking).await.unwrap();
    assert_eq!(first.unwrap().payload(), b"answer");
    let error = second.unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (ErrorCode::SessionNotFound, "not here")
    );
    net.stop().await;
}

async fn ids_belong_to_the_requester(over: Over) {
    let net = serve(over, |builder| {
        builder.on_request(|session: Session, request: Message| async move {
            // The server asks back before it answers, and very likely with the same id.
            session.request(request, LONG).await
        })
    })
    .await;
    let mut peer = net.peer().await;
    for id in 1..4 {
        peer.request(id, "ping").await;
        let back = peer.expect(kind::REQUEST).await;
        peer.send(Frame::with_id(kind::RESPONSE, back.id, "pong"))
            .await;
        assert_eq!(
            peer.receive().await,
            Some(Frame::with_id(kind::RESPONSE, id, "pong"))
        );
    }
    net.stop().await;
}

async fn many_requests_of_the_server_are_told_apart(over: Over) {
    let net = serve(over, |builder| builder).await;
    let (mut peer, session) = net.pair().await;
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..100_u32 {
        let session = session.clone();
        asking.spawn(async move {
            let answer = session.request(&number.to_be_bytes(), LONG).await.unwrap();
            assert_eq!(answer.payload(), (number * 3).to_be_bytes());
        });
    }
    let mut asked = Vec::new();
    for _ in 0..100 {
        asked.push(peer.expect(kind::REQUEST).await);
    }
    // Answered in another order.
    for request in asked.iter().rev() {
        let number = u32::from_be_bytes(request.payload[..].try_into().unwrap());
        let answer = (number * 3).to_be_bytes().to_vec();
        peer.send(Frame::with_id(kind::RESPONSE, request.id, answer))
            .await;
    }
    within("answers", async {
        while let Some(asked) = asking.join_next().await {
            asked.unwrap()
        }
    })
    .await;
    net.stop().await;
}

async fn a_failed_request_says_why(over: Over) {
    let net = serve(over, |builder| builder.on_request(answer)).await;
    let mut peer = net.peer().await;
    peer.request(5, "fail because of rain").await;
    let failure = peer.expect(kind::FAILURE).await;
    assert_eq!(
        (failure.id, failure.code_and_text()),
        (5, (-647, "fail because of rain".into()))
    );
    // The session goes on.
    peer.request(6, "fine").await;
    assert_eq!(peer.expect(kind::RESPONSE).await.id, 6);
    net.stop().await;
}

async fn a_request_nobody_handles_fails(over: Over) {
    let net = serve(over, |builder| builder).await;
    let mut peer = net.peer().await;
    peer.request(1, "anyone?").await;
    let failure = peer.expect(kind::FAILURE).await;
    assert_eq!((failure.id, failure.code_and_text().0), (1, -647));
    peer.ping_pong(b"on").await;
    net.stop().await;
}

async fn an_answer_over_the_limit_becomes_a_failure(over: Over) {
    let net = serve(over, |builder| {
        builder
            .limits(limits(|limits| limits.message_size = 100))
            .on_request(|_, _| async { Ok(Message::binary(vec![0; 101])) })
    })
    .await;
    let mut peer = net.peer().await;
    peer.request(1, "much").await;
    let failure = peer.expect(kind::FAILURE).await;
    assert_eq!((failure.id, failure.code_and_text().0), (1, -642));
    net.stop().await;
}

/// Requests wait until they are let go; says how many run.
fn gated(
    builder: network_system::ServerBuilder,
) -> (
    network_system::ServerBuilder,
    Arc<Semaphore>,
    Arc<AtomicUsize>,
) {
    let (gate, running) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (waits, counts) = (Arc::clone(&gate), Arc::clone(&running));
    let builder = builder.on_request(move |_, request: Message| {
        let (gate, running) = (Arc::clone(&waits), Arc::clone(&counts));
        async move {
            running.fetch_add(1, Ordering::SeqCst);
            gate.acquire().await.unwrap().forget();
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(request)
        }
    });
    (builder, gate, running)
}

async fn an_id_in_use_is_refused_and_the_first_request_goes_on(over: Over) {
    let mut parts = None;
    let net = serve(over, |builder| {
        let (builder, gate, running) = gated(builder);
        parts = Some((gate, running));
        builder
    })
    .await;
    let (gate, running) = parts.unwrap();
    let mut peer = net.peer().await;
    peer.request(9, "first").await;
    peer.request(9, "second").await;
    let failure = peer.expect(kind::FAILURE).await;
    assert_eq!((failure.id, failure.code_and_text().0), (9, -647));
    assert_eq!(running.load(Ordering::SeqCst), 1);
    gate.add_permits(2);
    assert_eq!(
        peer.receive().await,
        Some(Frame::with_id(kind::RESPONSE, 9, "first"))
    );
    // Free again.
    peer.request(9, "third").await;
    assert_eq!(
        peer.receive().await,
        Some(Frame::with_id(kind::RESPONSE, 9, "third"))
    );
    net.stop().await;
}

async fn of_33_requests_at_once_32_run(over: Over) {
    let mut parts = None;
    let net = serve(over, |builder| {
        let (builder, gate, running) = gated(builder);
        parts = Some((gate, running));
        builder
    })
    .await;
    let (gate, running) = parts.unwrap();
    let mut peer = net.peer().await;
    let requests = (0..33).map(|id| Frame::with_id(kind::REQUEST, id, vec![id as u8]));
    peer.send_together(requests.collect()).await;
    eventually("32 run", || running.load(Ordering::SeqCst) == 32).await;
    peer.ping_pong(b"the 33rd is there").await;
    settle().await;
    assert_eq!(running.load(Ordering::SeqCst), 32);
    // One ends, the last begins.
    gate.add_permits(1);
    assert_eq!(peer.expect(kind::RESPONSE).await.id, 0);
    eventually("the last runs", || running.load(Ordering::SeqCst) == 32).await;
    gate.add_permits(32);
    let mut ids: Vec<_> = Vec::new();
    for _ in 0..32 {
        ids.push(peer.expect(kind::RESPONSE).await.id);
    }
    ids.sort_unstable();
    assert_eq!(ids, (1..33).collect::<Vec<_>>());
    net.stop().await;
}

async fn requests_start_in_order_and_messages_keep_their_place(over: Over) {
    let (order, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let (requests, messages) = (order.clone(), order);
    let net = serve(over, |builder| {
        builder
            .on_request(move |_, request: Message| {
                requests.send(request.payload().to_vec()).unwrap();
                async { Ok(request) }
            })
            .on_message(move |_, message: Message| {
                messages.send(message.payload().to_vec()).unwrap();
                async {}
            })
    })
    .await;
    let mut peer = net.peer().await;
    let frames = (0..40_u64).map(|number| match number % 3 {
        0 => Frame::with_id(kind::REQUEST, number, number.to_be_bytes().to_vec()),
        _ => Frame::new(kind::DATA, number.to_be_bytes().to_vec()),
    });
    peer.send_together(frames.collect()).await;
    for number in 0..40_u64 {
        let next = within("the next", seen.recv()).await.unwrap();
        assert_eq!(next, number.to_be_bytes());
    }
    net.stop().await;
}

async fn an_answer_to_nothing_is_counted_and_dropped(over: Over) {
    let net = serve(over, |builder| builder).await;
    let (mut peer, session) = net.pair().await;
    peer.send(Frame::with_id(kind::RESPONSE, 1, "what?")).await;
    let failure = [&(-647_i32).to_be_bytes()[..], b"no"].concat();
    peer.send(Frame::with_id(kind::FAILURE, 2, failure)).await;
    peer.ping_pong(b"on").await;
    assert_eq!(net.server.stats().unknown_responses, 2);
    // One that comes after its request was given up is unknown too.
    let asking = tokio::spawn({
        let session = session.clone();
        async move { session.request("slow", LONG).await }
    });
    let request = peer.expect(kind::REQUEST).await;
    asking.abort();
    let _ = asking.await;
    peer.send(Frame::with_id(kind::RESPONSE, request.id, "late"))
        .await;
    peer.ping_pong(b"on").await;
    assert_eq!(net.server.stats().unknown_responses, 3);
    net.server.reset_stats();
    assert_eq!(net.server.stats().unknown_responses, 0);
    net.stop().await;
}

async fn pending_requests_are_bounded(over: Over) {
    let net = serve(over, |builder| {
        builder.limits(limits(|limits| limits.pending_requests = 2))
    })
    .await;
    let (mut peer, session) = net.pair().await;
    let ask = |session: Session| tokio::spawn(async move { session.request("?", LONG).await });
    let asking = [ask(session.clone()), ask(session.clone())];
    let first = peer.expect(kind::REQUEST).await;
    peer.expect(kind::REQUEST).await;
    let error = session.request("?", LONG).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::QueueFull);
    peer.send(Frame::with_id(kind::RESPONSE, first.id, "!"))
        .await;
    let [one, two] = asking;
    within("an answer", one).await.unwrap().unwrap();
    two.abort();
    let _ = two.await;
    // Both places are free again.
    let third = ask(session.clone());
    let request = peer.expect(kind::REQUEST).await;
    peer.send(Frame::with_id(kind::RESPONSE, request.id, "!"))
        .await;
    within("an answer", third).await.unwrap().unwrap();
    net.stop().await;
}

async fn requests_in_flight_end_with_the_session(over: Over) {
    let net = serve(over, |builder| builder).await;
    let (mut peer, session) = net.pair().await;
    let asking = tokio::spawn({
        let session = session.clone();
        async move { session.request("?", LONG).await }
    });
    peer.expect(kind::REQUEST).await;
    drop(peer);
    let error = within("the end", asking).await.unwrap().unwrap_err();
    assert!(!error.is_timeout(), "{error}");
    within("closed", session.closed()).await;
    let error = session.request("?", LONG).await.unwrap_err();
    assert!(!error.is_timeout(), "{error}");
    net.stop().await;
}

async fn answers_of_requests_leave_before_an_orderly_end(over: Over) {
    let mut parts = None;
    let net = serve(over, |builder| {
        let (builder, gate, running) = gated(builder);
        parts = Some((gate, running));
        builder
    })
    .await;
    let (gate, running) = parts.unwrap();
    let mut peer = net.peer().await;
    let requests = (0..3).map(|id| Frame::with_id(kind::REQUEST, id, vec![id as u8]));
    peer.send_together(requests.collect()).await;
    peer.send(Frame::new(kind::DISCONNECT, "that was all"))
        .await;
    peer.shutdown().await;
    eventually("they run", || running.load(Ordering::SeqCst) == 3).await;
    gate.add_permits(3);
    for id in 0..3 {
        assert_eq!(peer.expect(kind::RESPONSE).await.id, id);
    }
    peer.expect(kind::DISCONNECT).await;
    peer.expect_end().await;
    net.stop().await;
}

#[tokio::test]
async fn an_answer_that_comes_together_with_many_messages_does_not_wait_behind_them() {
    for many in [40, 1_300] {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let asked = Arc::new(AtomicBool::new(false));
        let net = serve(Over::Tcp, |builder| {
            builder.on_message(move |session: Session, _| {
                let tell = tell.clone();
                let is_first = !asked.swap(true, Ordering::Relaxed);
                async move {
                    if is_first {
                        let answer = session.request("which?", Duration::from_secs(9)).await;
                        tell.send(answer.is_ok()).unwrap();
                    }
                }
            })
        })
        .await;
        let mut peer = net.peer().await;
        peer.data("asks").await;
        let question = peer.expect(kind::REQUEST).await;
        let mut frames = vec![Frame::new(kind::DATA, "x"); many];
        frames.push(Frame::with_id(kind::RESPONSE, question.id, "this one"));
        peer.send_together(frames).await;
        assert_eq!(within("an answer", told.recv()).await, Some(true), "{many}");
        net.stop().await;
    }
}

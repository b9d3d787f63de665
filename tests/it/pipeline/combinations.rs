//! Every stage and some of their combinations, between server and client, with everything a session does.

use std::time::Duration;

use network_system::pipeline::{Compression, Encryption, Pipeline, StageDefinition};
use network_system::{
    Client, ErrorCode, Message, QueuePolicy, ReconnectPolicy, Server, Session, SessionId,
};

use super::{Numbered, keys, requiring, secret};
use crate::support::{
    Events, Log, Over, echo, eventually, group, limits, log, number_of, numbered, record_messages,
    within,
};

over_all! {
    session:
        messages_and_requests_pass_every_combination,
        a_broadcast_reaches_sessions_with_different_stages;
    order:
        many_messages_of_several_tasks_stay_in_order_while_keys_change;
    reliability:
        what_was_sent_before_a_stop_arrives_before_the_goodbye,
        a_client_that_reconnects_has_new_keys;
    size:
        a_message_of_exactly_the_limit_passes_and_no_longer_one,
        statistics_count_messages_as_they_are_and_stages_what_they_made;
}

const SECONDS_20: Duration = Duration::from_secs(20);

fn combinations() -> Vec<Vec<StageDefinition>> {
    let ring = keys(1, 4);
    let aes = || Encryption::aes_256_gcm(&ring).into();
    let chacha = || Encryption::chacha20_poly1305(&ring).into();
    let lz4 = || Compression::lz4().threshold(32).into();
    let numbered = || Numbered::stage(3).into();
    vec![
        vec![lz4()],
        vec![Compression::zstd().threshold(32).into()],
        vec![Compression::gzip().threshold(32).into()],
        vec![Compression::deflate().threshold(32).into()],
        vec![aes()],
        vec![chacha()],
        vec![lz4(), aes()],
        vec![
            Compression::zstd().threshold(1).into(),
            chacha(),
            numbered(),
        ],
        vec![numbered(), lz4(), aes()],
    ]
}

fn names(stages: &[StageDefinition]) -> Vec<String> {
    let pipeline = requiring(stages.to_vec());
    pipeline.names().map(str::to_owned).collect()
}

/// A message of this length, which compresses well when the number is even, and not at all when it is odd.
fn payload(number: usize, len: usize) -> Vec<u8> {
    if number.is_multiple_of(2) {
        return vec![number as u8; len];
    }
    let mut state = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) + 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(next).collect()
}

async fn start(builder: network_system::ServerBuilder) -> (Server, String) {
    let server = builder.build().unwrap();
    server.start().await.unwrap();
    let url = server.urls().remove(0);
    (server, url)
}

async fn messages_and_requests_pass_every_combination(over: Over) {
    for stages in combinations() {
        let expected = names(&stages);
        let server = echo(over.server())
            .on_request(|_: Session, message: Message| async move { Ok(message) });
        let (server, url) = start(server.pipeline(requiring(stages.clone()))).await;
        let client = over
            .client(&url)
            .pipeline(requiring(stages))
            .on_request(|_: Session, message: Message| async move { Ok(message) })
            .build()
            .unwrap();
        let mut stream = client.messages().unwrap();
        within("connect", client.connect()).await.unwrap();
        assert_eq!(*client.session().unwrap().pipeline(), expected);
        let session = server.sessions().remove(0);
        assert_eq!(*session.pipeline(), expected);
        for round in 0..12 {
            let lens = [0, 1, 31, 32, 100, 1_000];
            for (index, len) in lens.into_iter().enumerate() {
                client.send(payload(round + index, len)).await.unwrap();
            }
            let question = payload(round, round * 50);
            let answer = client.request(question.clone(), SECONDS_20).await.unwrap();
            assert_eq!(answer.payload(), question);
            let answer = session.request(question.clone(), SECONDS_20).await.unwrap();
            assert_eq!(answer.payload(), question);
            for (index, len) in lens.into_iter().enumerate() {
                let message = within("an echo", stream.next()).await.unwrap();
                assert_eq!(
                    message.payload(),
                    payload(round + index, len),
                    "{expected:?}"
                );
            }
        }
        within("the client to stop", client.stop()).await;
        within("the server to stop", server.stop()).await.unwrap();
    }
}

async fn a_broadcast_reaches_sessions_with_different_stages(over: Over) {
    let ring = keys(1, 4);
    let offering = |take: usize| {
        let all: [StageDefinition; 3] = [
            Compression::lz4().threshold(8).into(),
            Encryption::aes_256_gcm(&ring).into(),
            Numbered::stage(9).into(),
        ];
        let chosen = all.into_iter().take(take);
        chosen
            .fold(Pipeline::builder(), |builder, stage| builder.offer(stage))
            .build()
            .unwrap()
    };
    let (server, url) = start(over.server().pipeline(offering(3))).await;
    let mut clients = Vec::new();
    for take in [0, 1, 2, 3, 3, 0] {
        let client = over.client(&url).pipeline(offering(take)).build().unwrap();
        let stream = client.messages().unwrap();
        within("connect", client.connect()).await.unwrap();
        assert_eq!(client.session().unwrap().pipeline().len(), take);
        clients.push((client, stream));
    }
    eventually("all are open", || server.sessions().len() == 6).await;
    for session in server.sessions() {
        session.join(&group("all")).unwrap();
    }
    for number in 0..30 {
        let sent = match number % 2 {
            0 => within("a broadcast", server.broadcast(numbered(number, 300))).await,
            _ => {
                within(
                    "a broadcast",
                    server.broadcast_to(&group("all"), numbered(number, 300), &[]),
                )
                .await
            }
        };
        assert_eq!(sent.unwrap().sent, 6);
    }
    for (client, stream) in &mut clients {
        for number in 0..30 {
            let message = within("a broadcast", stream.next()).await.unwrap();
            assert_eq!(number_of(message.payload()), number);
        }
        within("stop", client.stop()).await;
    }
    within("stop", server.stop()).await.unwrap();
}

async fn many_messages_of_several_tasks_stay_in_order_while_keys_change(over: Over) {
    const TASKS: u64 = 4;
    const EACH: u64 = 1_000;
    // Two configurations of different age, each with a ring of its own.
    let (old, new) = (keys(1, 1), keys(1, 1));
    new.add(2, secret(2)).unwrap();
    let stages = |ring| {
        requiring(vec![
            Compression::lz4().threshold(32).into(),
            Encryption::aes_256_gcm(ring).into(),
        ])
    };
    let (server, url) = start(echo(over.server()).pipeline(stages(&new))).await;
    let client = over.client(&url).pipeline(stages(&old)).build().unwrap();
    let mut stream = client.messages().unwrap();
    within("connect", client.connect()).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let session = client.session().unwrap();
        tasks.spawn(async move {
            for count in 0..EACH {
                let number = task * EACH + count;
                session
                    .send(numbered(number, 8 + number as usize % 200))
                    .await
                    .unwrap();
                if count % 64 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    let mut next = [0; TASKS as usize];
    for received in 0..TASKS * EACH {
        let message = within("an echo", stream.next()).await.unwrap();
        let number = number_of(message.payload());
        let task = (number / EACH) as usize;
        assert_eq!(number % EACH, next[task], "of task {task}");
        next[task] += 1;
        match received {
            1_000 => old.add(2, secret(2)).unwrap(),
            // The server sends with the new key while the client still sends with the old one.
            1_200 => new.activate(2).unwrap(),
            2_000 => old.activate(2).unwrap(),
            2_400 => {
                new.add(3, secret(3)).unwrap();
                old.add(3, secret(3)).unwrap();
                old.activate(3).unwrap();
            }
            2_800 => new.activate(3).unwrap(),
            // And back again.
            3_000 => new.activate(2).unwrap(),
            3_400 => old.activate(1).unwrap(),
            _ => {}
        }
    }
    assert_eq!(next, [EACH; TASKS as usize]);
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    within("stop", client.stop()).await;
    within("stop", server.stop()).await.unwrap();
}

async fn what_was_sent_before_a_stop_arrives_before_the_goodbye(over: Over) {
    for stages in combinations().split_off(5) {
        let (log, mut events): (Log, Events) = log();
        let server = record_messages(over.server(), &log).pipeline(requiring(stages.clone()));
        let (server, url) = start(server).await;
        let client = over
            .client(&url)
            .pipeline(requiring(stages))
            .build()
            .unwrap();
        let mut stream = client.messages().unwrap();
        within("connect", client.connect()).await.unwrap();
        eventually("it is open", || !server.sessions().is_empty()).await;
        let session = server.sessions().remove(0);
        for number in 0..200 {
            client.send(numbered(number, 700)).await.unwrap();
            session.send(numbered(number, 700)).await.unwrap();
        }
        let reads = async {
            for number in 0..200 {
                assert_eq!(number_of(events.message().await.payload()), number);
                let message = within("a message", stream.next()).await.unwrap();
                assert_eq!(number_of(message.payload()), number);
            }
        };
        let (stopped, ()) = tokio::join!(server.stop(), reads);
        stopped.unwrap();
        within("stop", client.stop()).await;
        let reason = session.closed().await;
        assert_eq!(reason.code(), Some(ErrorCode::ShuttingDown), "{reason}");
    }
}

async fn a_client_that_reconnects_has_new_keys(over: Over) {
    let stages = || {
        let aes = Encryption::aes_256_gcm(&keys(1, 4));
        requiring(vec![aes.into(), Numbered::stage(3).into()])
    };
    let (server, url) = start(echo(over.server()).pipeline(stages())).await;
    let policy = ReconnectPolicy::new().base(Duration::from_millis(1));
    let builder: network_system::ClientBuilder = over.client(&url).reconnect(policy);
    let client = builder.pipeline(stages()).build().unwrap();
    let mut stream = client.messages().unwrap();
    within("connect", client.connect()).await.unwrap();
    let mut last: Option<SessionId> = None;
    for round in 0..5 {
        eventually("another session", || {
            let known = server.sessions().first().map(Session::id);
            known.is_some() && known != last
        })
        .await;
        client.send(numbered(round, 100)).await.unwrap();
        let message = within("an echo", stream.next()).await.unwrap();
        assert_eq!(number_of(message.payload()), round);
        let session = server.sessions().remove(0);
        last = Some(session.id());
        session.abort();
        within("the end", client.session().unwrap().closed()).await;
        within("a new session", client.connect()).await.unwrap();
    }
    within("stop", client.stop()).await;
    within("stop", server.stop_within(Duration::ZERO))
        .await
        .unwrap();
}

async fn a_message_of_exactly_the_limit_passes_and_no_longer_one(over: Over) {
    const LIMIT: usize = 70_000;
    for stages in combinations() {
        let expected = names(&stages);
        let small = || limits(|limits| limits.message_size = LIMIT);
        let server = echo(over.server())
            .on_request(|_: Session, message: Message| async move { Ok(message) });
        let (server, url) = start(server.limits(small()).pipeline(requiring(stages.clone()))).await;
        let client = over
            .client(&url)
            .limits(small())
            .pipeline(requiring(stages));
        let client = client.build().unwrap();
        let mut stream = client.messages().unwrap();
        within("connect", client.connect()).await.unwrap();
        for number in 0..4 {
            let largest = payload(number, LIMIT);
            client.send(largest.clone()).await.unwrap();
            let echo = within("an echo", stream.next()).await.unwrap();
            assert!(echo.payload() == largest, "{expected:?}");
            let answer = client.request(largest.clone(), SECONDS_20).await.unwrap();
            assert!(answer.payload() == largest, "{expected:?}");
            let longer = client.send(payload(number, LIMIT + 1)).await.unwrap_err();
            assert_eq!(longer.code(), ErrorCode::MessageTooLarge);
        }
        within("stop", client.stop()).await;
        within("stop", server.stop()).await.unwrap();
    }
}

async fn statistics_count_messages_as_they_are_and_stages_what_they_made(over: Over) {
    let stages = || {
        let lz4 = Compression::lz4().into();
        requiring(vec![lz4, Encryption::aes_256_gcm(&keys(1, 4)).into()])
    };
    let (at_server, at_client) = (stages(), stages());
    let (server, url) = start(echo(over.server()).pipeline(at_server.clone())).await;
    let client = over
        .client(&url)
        .pipeline(at_client.clone())
        .build()
        .unwrap();
    let mut stream = client.messages().unwrap();
    within("connect", client.connect()).await.unwrap();
    for _ in 0..10 {
        client.send(vec![b'a'; 10_000]).await.unwrap();
        within("an echo", stream.next()).await.unwrap();
    }
    let session = client.session().unwrap().stats();
    assert_eq!((session.messages_sent, session.bytes_sent), (10, 100_000));
    assert_eq!(
        (session.messages_received, session.bytes_received),
        (10, 100_000)
    );
    for stats in [at_server.stats(), at_client.stats()] {
        let [lz4, aes] = &stats[..] else {
            panic!("{stats:?}")
        };
        for direction in [lz4.sent, lz4.received] {
            assert_eq!((direction.messages, direction.message_bytes), (10, 100_000));
            assert!(direction.ratio() < 0.05, "{direction:?}");
        }
        for (direction, inner) in [(aes.sent, lz4.sent), (aes.received, lz4.received)] {
            assert_eq!(direction.messages, 10);
            assert_eq!(direction.message_bytes, inner.encoded_bytes);
            assert_eq!(direction.encoded_bytes, inner.encoded_bytes + 10 * 20);
        }
        assert_eq!((lz4.failures, aes.failures), (0, 0));
    }
    at_client.reset_stats();
    assert_eq!(at_client.stats()[0].sent.messages, 0);
    within("stop", client.stop()).await;
    within("stop", server.stop()).await.unwrap();
}

#[tokio::test]
async fn what_a_policy_drops_was_never_encrypted() {
    let stages = || requiring(vec![Encryption::aes_256_gcm(&keys(1, 4)).into()]);
    for policy in [QueuePolicy::DropOldest, QueuePolicy::DropNewest] {
        let server = Over::Mem
            .server()
            .pipeline(stages())
            .limits(limits(|limits| {
                limits.when_full = policy;
                limits.outbox_messages = 16;
            }));
        let (server, url) = start(server).await;
        let client = Client::builder().endpoint(&url).pipeline(stages());
        let (log, mut events) = log();
        let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
        let opened = gate.clone();
        let client = client
            .on_message(move |_, message| {
                let (log, gate) = (log.clone(), opened.clone());
                async move {
                    gate.acquire().await.unwrap().forget();
                    let _ = log.send(crate::support::Event::Message(message));
                }
            })
            .build()
            .unwrap();
        within("connect", client.connect()).await.unwrap();
        eventually("it is open", || !server.sessions().is_empty()).await;
        let session = server.sessions().remove(0);
        for number in 0..3_000 {
            session.send(numbered(number, 1_000)).await.unwrap();
            if number % 50 == 0 {
                tokio::task::yield_now().await;
            }
        }
        let dropped = session.stats().dropped;
        assert!(dropped > 100, "{dropped}");
        gate.add_permits(10_000);
        let mut last = None;
        for _ in 0..3_000 - dropped {
            let number = number_of(events.message().await.payload());
            assert!(last < Some(number));
            last = Some(number);
        }
        within("stop", client.stop()).await;
        within("stop", server.stop()).await.unwrap();
    }
}

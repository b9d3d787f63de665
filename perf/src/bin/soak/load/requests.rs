//! Requests in both directions, with answers, failures and answers that come too late.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use network_system::{Client, ErrorCode, Message, Session};

use super::World;
use crate::random::Random;
use crate::server::{SLOW_ANSWER, ask};

/// How long an answer may take. The machine may be busy.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) async fn run(world: Arc<World>, mut random: Random) {
    while world.is_on() {
        let url = world.any_url(&mut random).to_owned();
        let builder = world
            .client(&url, &mut random)
            .on_request(|_: Session, request: Message| async move { Ok(request) });
        let Some(client) = world.must_connect(builder).await else {
            continue;
        };
        for _ in 0..random.within(1, 200) {
            if !world.is_on() {
                break;
            }
            let questions = [(); 3].map(|()| question(&mut random));
            let [one, two, three] = questions.map(|question| one(&world, &client, question));
            tokio::join!(one, two, three);
            world.rest(random.within(1, 60)).await;
        }
        client.stop().await;
    }
}

fn question(random: &mut Random) -> Vec<u8> {
    let kinds = [b'e', b'e', b'e', ask::SLOW, b'l', ask::FAIL, ask::BACK];
    let kind = *random.pick(&kinds);
    let len = random.within(8, 600) as usize;
    [&[kind][..], &random.bytes(len)].concat()
}

async fn one(world: &World, client: &Client, mut question: Vec<u8>) {
    let kind = question[0];
    // One that comes too late, and that nobody waits for any more.
    let is_late = kind == b'l';
    let timeout = match is_late {
        true => SLOW_ANSWER / 10,
        false => PATIENCE,
    };
    if is_late {
        question[0] = ask::SLOW;
    }
    let answer = client.request(question.clone(), timeout).await;
    let is_right = match &answer {
        Ok(answer) => kind != ask::FAIL && answer.payload() == question,
        Err(error) if kind == ask::FAIL => error.code() == ErrorCode::AccessDenied,
        Err(error) => is_late && error.code() == ErrorCode::RequestTimeout,
    };
    match (is_right, answer) {
        (true, _) => drop(world.counts.requests.fetch_add(1, Relaxed)),
        (false, Ok(_)) => world.counts.fault("request, another answer".to_owned()),
        (false, Err(error)) => world.counts.fault(format!("request: {error}")),
    }
}

/// The same where answers can be lost, and ends too.
pub(super) async fn run_datagrams(world: Arc<World>, mut random: Random) {
    while world.is_on() {
        let builder = world.client(&world.udp, &mut random);
        let Ok(client) = world.connect(builder).await else {
            world.rest(100).await;
            continue;
        };
        for _ in 0..random.within(1, 50) {
            if !world.is_on() {
                break;
            }
            let len = random.within(8, 1_000) as usize;
            let question = [&b"e"[..], &random.bytes(len)].concat();
            match client
                .request(question.clone(), Duration::from_secs(1))
                .await
            {
                Ok(answer) if answer.payload() == question => {
                    world.counts.requests.fetch_add(1, Relaxed);
                }
                Ok(_) => world.counts.fault("datagrams, another answer".to_owned()),
                Err(_) => break,
            }
            world.rest(random.within(1, 60)).await;
        }
        if random.one_in(2) {
            client.stop().await;
        }
    }
}

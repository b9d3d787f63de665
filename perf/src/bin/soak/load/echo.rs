//! Round trips, each of which has to come back as it was sent.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use network_system::{Client, MessageStream};

use super::World;
use crate::random::Random;
use crate::server::ask;

/// Bytes that are on their way at a time. The server ends sessions whose outbox is full.
const BURST: u64 = 128 * 1024;
/// How long an answer may take. The machine may be busy.
const PATIENCE: Duration = Duration::from_secs(15);
/// The first byte and the number of a message.
const HEAD: u64 = 9;

/// Connections that stay, or that come and go.
pub(super) async fn run(world: Arc<World>, mut random: Random, stays: bool) {
    while world.is_on() {
        let url = world.any_url(&mut random).to_owned();
        let builder = world.client(&url, &mut random);
        let Some(client) = world.must_connect(builder).await else {
            continue;
        };
        let rounds = match stays {
            true => u64::MAX,
            false => random.within(0, 20),
        };
        if let Some(mut messages) = client.messages() {
            talk(&world, &client, &mut messages, &mut random, rounds).await;
        }
        end(&client, &mut random).await;
        world.rest(random.within(1, 100)).await;
    }
}

async fn talk(
    world: &World,
    client: &Client,
    messages: &mut MessageStream,
    random: &mut Random,
    rounds: u64,
) {
    let mut number = 0;
    for _ in 0..rounds {
        if !world.is_on() {
            return;
        }
        let burst = random.within(1, 17);
        let mut expected = Vec::new();
        for _ in 0..burst {
            let payload = payload(number, size(random).min(BURST / burst), random);
            number += 1;
            if client
                .send_timeout(payload.clone(), PATIENCE)
                .await
                .is_err()
            {
                return world.lost("echo, not sent", client);
            }
            expected.push(payload);
        }
        for payload in expected {
            match tokio::time::timeout(PATIENCE, messages.next()).await {
                Ok(Some(message)) if message.payload() == payload => {}
                Ok(Some(_)) => return world.counts.fault("echo, another message".to_owned()),
                Ok(None) => return world.lost("echo, no answer", client),
                Err(_) => {
                    return world
                        .counts
                        .fault(format!("echo, no answer within {PATIENCE:?}"));
                }
            }
            world.counts.echoes.fetch_add(1, Relaxed);
        }
        world.rest(random.within(1, 60)).await;
    }
}

/// Mostly small, seldom as large as can be.
fn size(random: &mut Random) -> u64 {
    match random.within(0, 100) {
        0 => random.within(32 * 1024, BURST),
        1..10 => random.within(1024, 16 * 1024),
        _ => random.within(HEAD, 512),
    }
}

/// A message that is like no other.
pub(super) fn payload(number: u64, size: u64, random: &mut Random) -> Vec<u8> {
    let mut payload = vec![b'e'; size.max(HEAD) as usize];
    payload[1..HEAD as usize].copy_from_slice(&number.to_be_bytes());
    payload[HEAD as usize..].fill(random.next() as u8);
    payload
}

/// The number of such a message.
pub(super) fn number_of(payload: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*payload.get(1..)?.first_chunk()?))
}

/// All the ways in which a client can go.
async fn end(client: &Client, random: &mut Random) {
    match random.within(0, 4) {
        0 => drop(client.stop().await),
        1 => {
            // The server says that it is over.
            if client.send(vec![ask::END]).await.is_ok()
                && let Some(session) = client.session()
            {
                let _ = tokio::time::timeout(PATIENCE, session.closed()).await;
            }
        }
        2 => {
            if let Some(session) = client.session() {
                session.abort();
            }
        }
        // The last handle is dropped.
        _ => {}
    }
}

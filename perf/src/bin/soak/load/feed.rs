//! Messages to groups: publishers, readers that come and go between groups, and readers that do not read.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use network_system::{ErrorCode, SocketOptions};

use super::World;
use crate::random::Random;
use crate::server::{ask, group};

/// Groups, each with one publisher.
pub(super) const FEEDS: u8 = 4;
/// The first byte, the group and the number of a message.
const HEAD: usize = 10;

/// Sends to one group, small messages and now and then a large one.
pub(super) async fn publish(world: Arc<World>, mut random: Random, feed: u8) {
    let mut number: u64 = 0;
    while world.is_on() {
        let builder = world.client(&world.tcp, &mut random);
        let Some(client) = world.must_connect(builder).await else {
            continue;
        };
        while world.is_on() {
            let mut payload = match random.one_in(10) {
                true => vec![0; 16 * 1024],
                false => vec![0; random.within(HEAD as u64, 400) as usize],
            };
            payload[0] = ask::BROADCAST;
            payload[1] = feed;
            payload[2..HEAD].copy_from_slice(&number.to_be_bytes());
            number += 1;
            if client.send(payload).await.is_err() {
                world.lost("publisher", &client);
                break;
            }
            world.counts.published.fetch_add(1, Relaxed);
            world.rest(random.within(2, 12)).await;
        }
        client.stop().await;
    }
}

/// Reads one group after the other. What comes has to be in the publisher's order.
pub(super) async fn read(world: Arc<World>, mut random: Random) {
    while world.is_on() {
        let url = world.any_url(&mut random).to_owned();
        let builder = world.client(&url, &mut random);
        let Some(client) = world.must_connect(builder).await else {
            continue;
        };
        let Some(mut messages) = client.messages() else {
            return;
        };
        let mut last = [None; FEEDS as usize];
        for _ in 0..random.within(1, 10) {
            let feed = random.within(0, FEEDS.into()) as u8;
            if let Err(error) = client.join(&group(feed)).await {
                world.counts.fault(format!("not joined: {error}"));
                break;
            }
            world.counts.joins.fetch_add(1, Relaxed);
            for _ in 0..random.within(1, 300) {
                let wait = Duration::from_secs(1);
                let Ok(message) = tokio::time::timeout(wait, messages.next()).await else {
                    break;
                };
                let Some(message) = message else {
                    break;
                };
                world.counts.received.fetch_add(1, Relaxed);
                let payload = message.payload();
                let number = payload.get(2..).and_then(|rest| rest.first_chunk());
                let number = number.map(|bytes| u64::from_be_bytes(*bytes));
                let last = payload.get(1).and_then(|feed| last.get_mut(*feed as usize));
                match (number, last) {
                    (Some(number), Some(last)) if last.is_none_or(|last| last < number) => {
                        *last = Some(number);
                    }
                    _ => world.counts.fault("feed, out of order".to_owned()),
                }
            }
            if !world.is_on() || client.close_reason().is_some() {
                break;
            }
            if random.one_in(2)
                && let Err(error) = client.leave(&group(feed)).await
            {
                world.counts.fault(format!("not left: {error}"));
            }
        }
        // On a busy machine one that reads can be too slow, too.
        let is_slow = |code| code == Some(ErrorCode::SlowConsumer);
        if let Some(reason) = client.close_reason()
            && !is_slow(reason.code())
        {
            world.lost("reader", &client);
        }
        client.stop().await;
    }
}

/// Joins, does not read for a while, and reads again if it is still there.
pub(super) async fn read_slowly(world: Arc<World>, mut random: Random) {
    while world.is_on() {
        let url = world.any_url(&mut random).to_owned();
        let mut socket = SocketOptions::default();
        // Less makes loopback wait for probes of a window that is too small for its segments.
        socket.receive_buffer_size = 64 * 1024;
        let builder = world.client(&url, &mut random).socket(socket);
        let Some(client) = world.must_connect(builder).await else {
            continue;
        };
        let Some(mut messages) = client.messages() else {
            return;
        };
        for feed in 0..FEEDS {
            if client.join(&group(feed)).await.is_ok() {
                world.counts.joins.fetch_add(1, Relaxed);
            }
        }
        if let Some(session) = client.session() {
            session.pause_reading();
            world.rest(random.within(500, 6_000)).await;
            session.resume_reading();
            let reading = async { while messages.next().await.is_some() {} };
            tokio::select! {
                _ = session.closed() => {
                    world.counts.slow_readers_ended.fetch_add(1, Relaxed);
                }
                () = reading => {}
                () = world.rest(random.within(100, 3_000)) => {}
            }
        }
        match random.one_in(2) {
            true => drop(client.stop().await),
            false => drop(client),
        }
    }
}

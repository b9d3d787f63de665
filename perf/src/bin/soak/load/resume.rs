//! Clients whose connection is cut again and again. What comes back has to be in order, and nothing twice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use network_system::{Client, MessageStream, ReconnectPolicy};

use super::World;
use super::echo::{number_of, payload};
use super::proxy::Proxy;
use super::reliability;
use crate::random::Random;

/// Messages on their way at a time.
const WINDOW: u64 = 16;
/// What has not come back within this time was lost with its session.
const PATIENCE: Duration = Duration::from_secs(8);

pub(super) async fn run(world: Arc<World>, mut random: Random) {
    // Broken on one, gone on with on the other.
    let targets = [("tcp", &world.tcp), ("ws", &world.ws)];
    let mut proxies = Vec::new();
    let mut urls = Vec::new();
    for (scheme, url) in targets {
        let Some(target) = address(url) else {
            return world.counts.fault(format!("{url} has no address"));
        };
        match Proxy::start(&world, target, random.fork()).await {
            Ok(proxy) => {
                urls.push(format!("{scheme}://{}", proxy.address));
                proxies.push(proxy);
            }
            Err(error) => return world.counts.fault(format!("no proxy: {error}")),
        }
    }
    while world.is_on() {
        if random.one_in(2) {
            urls.reverse();
        }
        let again = ReconnectPolicy::new()
            .base(Duration::from_millis(20))
            .cap(Duration::from_millis(200));
        let builder = world
            .client(&urls[0], &mut random)
            .endpoint(&urls[1])
            .reliable(reliability())
            .reconnect(again);
        // The first connection can be cut, too.
        let Ok(client) = world.connect(builder).await else {
            world.rest(50).await;
            continue;
        };
        if let Some(mut messages) = client.messages() {
            talk(&world, &client, &mut messages, &mut random).await;
        }
        match random.one_in(2) {
            true => drop(client.stop().await),
            false => drop(client),
        }
    }
    drop(proxies);
}

async fn talk(world: &World, client: &Client, messages: &mut MessageStream, random: &mut Random) {
    let (mut sent, mut expected) = (0, 0);
    let mut known = client.session().map(|session| session.id());
    for _ in 0..random.within(50, 2_000) {
        if !world.is_on() || client.state().is_ended() {
            return;
        }
        while sent - expected < WINDOW {
            let size = random.within(16, 2_000);
            if client.send(payload(sent, size, random)).await.is_err() {
                return;
            }
            sent += 1;
        }
        let next = tokio::time::timeout(PATIENCE, messages.next()).await;
        let number = match &next {
            Ok(Some(message)) => number_of(message.payload()),
            Ok(None) => return,
            Err(_) => Some(sent),
        };
        // Only the end of a session loses something.
        let now = client.session().map(|session| session.id());
        let is_another = std::mem::replace(&mut known, now) != now;
        match number {
            Some(number) if number == expected => {}
            Some(number) if (expected..=sent).contains(&number) && is_another => {
                world.counts.gaps.fetch_add(number - expected, Relaxed);
            }
            Some(_) if next.is_err() && world.is_on() => {
                let text = format!("resume, nothing within {PATIENCE:?}: {:?}", client.state());
                return world.counts.fault(text);
            }
            Some(number) => {
                let text = format!("resume, message {number} of {sent}, {expected} expected");
                return world.counts.fault(text);
            }
            None => return world.counts.fault("resume, another message".to_owned()),
        }
        world.counts.echoes.fetch_add(1, Relaxed);
        expected = number.map_or(sent, |number| (number + 1).min(sent));
        world.rest(random.within(0, 10)).await;
    }
}

/// The address in a URL of the server's.
pub(super) fn address(url: &str) -> Option<SocketAddr> {
    let (_, rest) = url.split_once("://")?;
    rest.split(['/', '?']).next()?.parse().ok()
}

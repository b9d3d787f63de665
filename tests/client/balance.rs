//! Clients with several endpoints.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use network_system::balance::{EndpointState, EndpointStats};
use network_system::{
    AttemptBudget, BoxFuture, Client, ClientBuilder, ClientState, Ejection, Endpoint, Endpoints,
    ErrorCode, Reliability, Resolver, Server, Strategy, Timeouts,
};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::support::*;

/// Some servers, and their URLs.
async fn servers(count: usize) -> (Vec<Server>, Vec<String>) {
    let mut all = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (server, url) = started(echo()).await;
        all.0.push(server);
        all.1.push(url);
    }
    all
}

fn set(urls: &[String], strategy: Strategy) -> Endpoints {
    ejecting_for(50 * MS, urls, strategy)
}

/// After two failures an endpoint is left alone for so long.
fn ejecting_for(base: Duration, urls: &[String], strategy: Strategy) -> Endpoints {
    let ejection = Ejection::default().consecutive_failures(Some(2)).base(base);
    let builder = Endpoints::builder().strategy(strategy).ejection(ejection);
    let builder = urls
        .iter()
        .fold(builder, |builder, url| builder.endpoint(url));
    builder.build().expect("valid")
}

/// A client of a shared set that reconnects within milliseconds.
fn of(set: &Endpoints) -> ClientBuilder {
    let policy = network_system::ReconnectPolicy::new().base(MS).cap(20 * MS);
    Client::builder().endpoints(set.clone()).reconnect(policy)
}

async fn clients(set: &Endpoints, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(connected(of(set)).await);
    }
    clients
}

fn connections(set: &Endpoints) -> Vec<usize> {
    set.stats().iter().map(|stats| stats.connections).collect()
}

/// Waits until the statistics of a set are as wanted.
async fn until(set: &Endpoints, wanted: impl Fn(&[EndpointStats]) -> bool) {
    crate::support::until(|| wanted(&set.stats())).await;
}

async fn end(clients: Vec<Client>, servers: Vec<Server>) {
    for client in clients {
        client.stop().await;
    }
    for server in servers {
        let _ = server.stop().await;
    }
}

#[tokio::test]
async fn load_spreads_moves_away_from_a_server_that_dies_and_comes_back_with_it() {
    for strategy in [Strategy::RoundRobin, Strategy::LeastLoaded] {
        let (mut servers, mut urls) = servers(2).await;
        let port = Port::take().await;
        servers.insert(0, started(echo_on(&port.url)).await.0);
        urls.insert(0, port.url.clone());
        let set = set(&urls, strategy);
        let mut all = clients(&set, 6).await;
        assert_eq!(connections(&set), [2, 2, 2], "{strategy}");
        servers[0].stop().await.expect("running");
        until(&set, |stats| {
            stats[0].connections == 0 && stats[1].connections + stats[2].connections == 6
        })
        .await;
        for client in &all {
            let answer = soon(client.request("?", LONG)).await.expect("an answer");
            assert_eq!(answer.as_text(), Some("re: ?"));
        }
        servers[0] = started(echo_on(&urls[0])).await.0;
        // Whoever comes now finds it, once it is no longer ejected, if it was at all.
        until(&set, |stats| stats[0].state != EndpointState::Ejected).await;
        all.extend(clients(&set, 3).await);
        let back = connections(&set);
        assert!(
            back[0] > 0 && back.iter().sum::<usize>() == 9,
            "{strategy}: {back:?}"
        );
        assert_eq!(servers[0].session_count(), back[0]);
        end(all, servers).await;
        assert_eq!(connections(&set), [0, 0, 0]);
    }
}

#[tokio::test]
async fn two_choices_leave_a_dead_endpoint_alone() {
    let (servers, mut urls) = servers(2).await;
    let dead = Port::take().await;
    urls.push(dead.url.clone());
    let set = ejecting_for(LONG, &urls, Strategy::PowerOfTwoChoices);
    let all = clients(&set, 12).await;
    let stats = set.stats();
    assert_eq!(stats[2].connections, 0);
    assert!((1..=2).contains(&stats[2].attempts), "{stats:?}");
    assert!(
        stats[0].connections > 0 && stats[1].connections > 0,
        "{stats:?}"
    );
    end(all, servers).await;
}

#[tokio::test]
async fn a_client_id_sticks_to_its_server_in_every_set() {
    let (servers, urls) = servers(4).await;
    let mut homes = Vec::new();
    for round in 0..2 {
        // Two processes that know the endpoints in another order.
        let mut urls = urls.clone();
        urls.rotate_left(round);
        for number in 0..16 {
            let set = set(&urls, Strategy::ConsistentHash);
            let client = connected(of(&set).client_id(format!("client-{number}"))).await;
            let home = client.session().and_then(|session| session.remote_addr());
            homes.push(home.expect("an address"));
            client.stop().await;
        }
    }
    assert_eq!(homes[..16], homes[16..]);
    assert!(homes[..16].iter().any(|home| *home != homes[0]));
    // The key that is given goes before the id.
    let set = set(&urls, Strategy::ConsistentHash);
    for id in ["a", "b", "c"] {
        let builder = of(&set).client_id(id).balance_key("client-0");
        let client = connected(builder).await;
        let home = client.session().and_then(|session| session.remote_addr());
        assert_eq!(home, Some(homes[0]));
        client.stop().await;
    }
    end(Vec::new(), servers).await;
}

#[tokio::test]
async fn a_connect_tries_every_endpoint_once_also_those_that_are_ejected() {
    let (servers, mut urls) = servers(1).await;
    let dead = Port::take().await;
    urls.insert(0, dead.url.clone());
    let set = ejecting_for(LONG, &urls, Strategy::InOrder);
    for _ in 0..2 {
        connected(of(&set)).await.stop().await;
    }
    assert_eq!(set.stats()[0].state, EndpointState::Ejected);
    let before = set.stats()[0].attempts;
    connected(of(&set)).await.stop().await;
    assert_eq!(set.stats()[0].attempts, before, "there is a better one");
    end(Vec::new(), servers).await;
    let client = of(&set).build().expect("valid");
    let error = soon(client.connect()).await.expect_err("nobody is there");
    assert_eq!(error.code(), ErrorCode::ConnectionRefused);
    assert_eq!(set.stats()[0].attempts, before + 1);
    assert_eq!(client.stats().failed_attempts, 2);
}

#[tokio::test]
async fn a_full_server_is_no_sick_server() {
    let (full, full_url) = Fake::bind().await;
    let (servers, mut urls) = servers(1).await;
    urls.insert(0, full_url);
    let set = set(&urls, Strategy::InOrder);
    let refuse = async {
        let mut peer = full.accept().await;
        peer.error(-607, "full").await;
        peer.closed().await;
    };
    let (client, ()) = tokio::join!(connected(of(&set)), refuse);
    let stats = set.stats();
    assert_eq!(
        (stats[0].state, stats[0].failures),
        (EndpointState::Resting, 0)
    );
    assert_eq!(stats[1].connections, 1);
    end(vec![client], servers).await;
}

#[tokio::test]
async fn a_goaway_sends_elsewhere_at_once() {
    let (first, first_url) = Fake::bind().await;
    let (servers, mut urls) = servers(1).await;
    urls.insert(0, first_url);
    let set = set(&urls, Strategy::InOrder);
    let (client, mut peer) = tokio::join!(connected(of(&set)), first.welcome());
    peer.send(CONTROL, br#"{"op":"goaway","retry_ms":3600000}"#)
        .await;
    peer.send(DISCONNECT, b"restarting").await;
    peer.closed().await;
    until(&set, |stats| stats[1].connections == 1).await;
    let stats = set.stats();
    assert_eq!(
        (stats[0].state, stats[0].failures),
        (EndpointState::Resting, 0)
    );
    end(vec![client], servers).await;
}

#[tokio::test]
async fn a_connection_that_breaks_counts_against_its_endpoint() {
    let port = Port::take().await;
    let first = Fake::at(&port).await;
    let (servers, mut urls) = servers(1).await;
    urls.insert(0, port.url.clone());
    let set = set(&urls, Strategy::InOrder);
    let (client, mut peer) = tokio::join!(connected(of(&set)), first.welcome());
    // In the middle of a frame: at a boundary it would be an end in order.
    peer.stream
        .write_all(b"MSGI")
        .await
        .expect("the client reads");
    drop(peer);
    until(&set, |stats| stats[0].failures == 1).await;
    drop(first);
    until(&set, |stats| stats[1].connections == 1).await;
    end(vec![client], servers).await;
}

#[tokio::test]
async fn requests_are_counted_and_timed() {
    let (fake, url) = Fake::bind().await;
    let set = set(&[url], Strategy::LeastLoaded);
    let (client, mut peer) = tokio::join!(connected(of(&set)), fake.welcome());
    let answer = async {
        let (frame_type, mut payload) = peer.frame().await.expect("a request");
        assert_eq!(frame_type, REQUEST);
        assert_eq!(set.stats()[0].requests, 1);
        // The correlation id, and the same payload.
        payload.truncate(8);
        peer.send(0x0012, &payload).await;
    };
    let (answered, ()) = tokio::join!(client.request("?", LONG), answer);
    answered.expect("an answer");
    let stats = &set.stats()[0];
    assert!(stats.round_trip.is_some() && stats.connect_time.is_some() && stats.requests == 0);
    client.request("?", 20 * MS).await.expect_err("no answer");
    assert_eq!(set.stats()[0].failures, 1);
    client.stop_within(MS).await;
}

#[tokio::test]
async fn endpoints_come_and_go_under_a_client() {
    let (mut servers, urls) = servers(2).await;
    let set = set(&urls[..1], Strategy::RoundRobin);
    let client = connected(of(&set)).await;
    servers.remove(0).stop().await.expect("running");
    reached(&client, ClientState::Reconnecting).await;
    let parse = |url: &str| Endpoint::parse(url).expect("a URL");
    assert!(set.remove(&parse(&urls[0])));
    // It keeps on asking, also without any endpoint, and leaves what it cannot use.
    until(&set, |stats| stats.is_empty()).await;
    assert!(set.add(parse("tls://127.0.0.1:1")));
    assert!(set.add(parse(&urls[1])));
    reached(&client, ClientState::Connected).await;
    assert_eq!(connections(&set), [0, 1]);
    assert_eq!(set.stats()[0].attempts, 0);
    end(vec![client], servers).await;
}

#[tokio::test]
async fn a_budget_bounds_the_attempts_of_all_who_share_it() {
    let Port { url, .. } = &Port::take().await;
    let budget = AttemptBudget::new(20, 1).expect("valid");
    let start = Instant::now();
    let mut clients = Vec::new();
    let attempts = Arc::new(AtomicUsize::new(0));
    for _ in 0..4 {
        let client = quick(url)
            .attempt_budget(budget.clone())
            .build()
            .expect("valid");
        let attempts = Arc::clone(&attempts);
        clients.push(tokio::spawn(async move {
            for _ in 0..2 {
                client.connect().await.expect_err("nobody is there");
                attempts.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for client in clients {
        soon(client).await.expect("no panic");
    }
    // The first one is free, each of the other seven takes 50 ms.
    assert_eq!(attempts.load(Ordering::Relaxed), 8);
    assert!(start.elapsed() >= 350 * MS, "{:?}", start.elapsed());
    // And who gets no token in time learns it.
    let budget = AttemptBudget::new(1, 1).expect("valid");
    let mut timeouts = Timeouts::client();
    timeouts.connect = 300 * MS;
    let client = quick(url)
        .timeouts(timeouts)
        .attempt_budget(budget)
        .build()
        .expect("valid");
    // There is one a second: where that passes between two attempts, the next one is told.
    let limited = async {
        loop {
            let error = client.connect().await.expect_err("nobody is there");
            match error.code() {
                ErrorCode::RateLimited => break,
                code => assert_eq!(code, ErrorCode::ConnectionRefused),
            }
        }
    };
    soon(limited).await;
}

/// Sends a name to an address that can change, and counts who asks.
#[derive(Clone, Default)]
struct Changing {
    address: Arc<Mutex<Option<SocketAddr>>>,
    asked: Arc<AtomicUsize>,
}

impl Changing {
    fn set(&self, url: &str) {
        let address = url
            .trim_start_matches("tcp://")
            .parse()
            .expect("an address");
        *self.address.lock().expect("no panic") = Some(address);
    }
}

impl Resolver for Changing {
    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let address = *self.address.lock().expect("no panic");
        Box::pin(async move { Ok(address.into_iter().collect()) })
    }
}

#[tokio::test]
async fn each_attempt_asks_the_resolver_anew() {
    let (mut servers, urls) = servers(2).await;
    let resolver = Changing::default();
    resolver.set(&urls[0]);
    let client = connected(quick("tcp://service:1").resolver(resolver.clone())).await;
    assert_eq!(resolver.asked.load(Ordering::Relaxed), 1);
    resolver.set(&urls[1]);
    servers.remove(0).stop().await.expect("running");
    reached(&client, ClientState::Reconnecting).await;
    reached(&client, ClientState::Connected).await;
    assert_eq!(servers[0].session_count(), 1);
    end(vec![client], servers).await;
}

#[tokio::test]
async fn a_connection_moves_when_its_address_has_left_the_name() {
    let (servers, urls) = servers(2).await;
    let resolver = Changing::default();
    resolver.set(&urls[0]);
    let second = Duration::from_secs(1);
    let builder = quick("tcp://service:1")
        .resolver(resolver.clone())
        .re_resolve(second);
    let client = connected(builder).await;
    resolver.set(&urls[1]);
    reached(&client, ClientState::Reconnecting).await;
    reached(&client, ClientState::Connected).await;
    // Two lookups that miss the address, and one for the new connection.
    assert!(resolver.asked.load(Ordering::Relaxed) >= 4);
    let counts = || -> Vec<_> { servers.iter().map(Server::session_count).collect() };
    crate::support::until(|| counts() == [0, 1]).await;
    // Ending the session still ends the client.
    let reason = network_system::CloseReason::new("enough");
    client.session().expect("connected").disconnect(reason);
    soon(client.wait_for_stop()).await;
    assert_eq!(client.state(), ClientState::Stopped);
    end(Vec::new(), servers).await;
}

#[test]
fn contradictory_settings_are_refused() {
    let set = Endpoints::new(["tcp://127.0.0.1:1"]).expect("valid");
    let shared = || Client::builder().endpoints(set.clone());
    let own = || Client::builder().endpoint("tcp://127.0.0.1:1");
    let second = Duration::from_secs(1);
    for (builder, option) in [
        (shared().endpoint("tcp://127.0.0.1:2"), "endpoints"),
        (shared().balance(Strategy::RoundRobin), "endpoints"),
        (shared().ejection(Ejection::disabled()), "endpoints"),
        (
            shared().attempt_budget(AttemptBudget::unlimited()),
            "endpoints",
        ),
        (
            own().ejection(Ejection::default().base(Duration::ZERO)),
            "ejection base",
        ),
        (own().re_resolve(Duration::ZERO), "re_resolve"),
        (
            own().re_resolve(second).reliable(Reliability::default()),
            "re_resolve",
        ),
        (
            Client::builder()
                .endpoint("udp://127.0.0.1:1")
                .client_id("x"),
            "client_id",
        ),
    ] {
        let error = builder.build().expect_err(option);
        assert!(error.to_string().starts_with(option), "{error}");
    }
    assert!(shared().build().is_ok() && own().re_resolve(second).build().is_ok());
    let lines = Endpoints::new(["tcp://127.0.0.1:1?codec=lines"]).expect("valid");
    let builder = Client::builder().endpoints(lines).token("secret");
    assert!(
        builder.build().is_err(),
        "what is in a shared set is checked too"
    );
}

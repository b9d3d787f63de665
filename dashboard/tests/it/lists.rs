//! What the lists show, and in which order.

use std::time::Duration;

use network_system::{
    Authenticator, BoxFuture, Client, Credentials, GroupName, RequestError, Session,
};
use serde_json::Value;

use crate::support::*;

fn ids(answer: &Value) -> Vec<u64> {
    let sessions = answer["sessions"].as_array().unwrap();
    sessions
        .iter()
        .map(|session| session["id"].as_u64().unwrap())
        .collect()
}

fn texts<'a>(answer: &'a Value, list: &str, field: &str) -> Vec<&'a str> {
    let rows = answer[list].as_array().unwrap();
    rows.iter()
        .map(|row| row[field].as_str().unwrap())
        .collect()
}

async fn site_with_clients(names: &[&str]) -> (Site, Vec<Client>) {
    let site = site().await;
    let mut clients = Vec::new();
    for name in names {
        clients.push(site.client(name).await);
    }
    let count = names.len();
    until("all are connected", || site.server.session_count() == count).await;
    (site, clients)
}

#[tokio::test]
async fn sessions_are_sorted_by_every_field_both_ways() {
    let names = ["bravo", "alpha", "delta", "charlie"];
    let (site, clients) = site_with_clients(&names).await;
    for (at, client) in clients.iter().enumerate() {
        for _ in 0..at {
            client.send("hello").await.unwrap();
        }
    }
    let counts = || {
        site.server
            .sessions()
            .iter()
            .map(|s| s.stats().messages_sent)
            .sum::<u64>()
    };
    until("all is echoed", || counts() == 6).await;
    let order = async |query: &str| {
        let answer = site.json(&format!("/api/v1/sessions?{query}")).await;
        texts(&answer, "sessions", "client_id")
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(order("").await, names);
    assert_eq!(
        order("sort=client_id").await,
        ["alpha", "bravo", "charlie", "delta"]
    );
    assert_eq!(
        order("sort=client_id&order=desc").await,
        ["delta", "charlie", "bravo", "alpha"]
    );
    for key in [
        "messages_received",
        "messages_sent",
        "bytes_received",
        "bytes_sent",
    ] {
        assert_eq!(order(&format!("sort={key}")).await, names, "{key}");
        let mut reversed = names;
        reversed.reverse();
        assert_eq!(
            order(&format!("sort={key}&order=desc")).await,
            reversed,
            "{key}"
        );
    }
    assert_eq!(order("sort=connected_seconds&order=desc").await, names);
    // Of those that are alike, the older stands first, whichever way.
    for key in [
        "identity",
        "transport",
        "state",
        "errors",
        "dropped",
        "queued_bytes",
        "groups",
        "round_trip_us",
    ] {
        for way in ["asc", "desc"] {
            assert_eq!(
                order(&format!("sort={key}&order={way}")).await,
                names,
                "{key}"
            );
        }
    }
    for key in ["remote", "idle_seconds", "queued_messages", "buffer_bytes"] {
        assert_eq!(order(&format!("sort={key}")).await.len(), 4);
    }
}

#[tokio::test]
async fn sessions_are_filtered_and_paged() {
    let (site, _clients) = site_with_clients(&["Ann", "bob", "ann-2", "\u{c4}nne", "eve"]).await;
    let server = &site.server;
    let first = server
        .sessions()
        .into_iter()
        .min_by_key(|session| session.id().as_u64())
        .unwrap();
    first
        .join(&GroupName::new("vips & friends").unwrap())
        .unwrap();
    let ask = async |query: &str| site.json(&format!("/api/v1/sessions?{query}")).await;
    let all = ask("limit=1000").await;
    assert_eq!((&all["total"], &all["matched"]), (&5.into(), &5.into()));
    let found = ask("filter=ANN").await;
    assert_eq!(texts(&found, "sessions", "client_id"), ["Ann", "ann-2"]);
    assert_eq!((&found["total"], &found["matched"]), (&5.into(), &2.into()));
    let found = ask("filter=%C3%A4nn").await;
    assert_eq!(texts(&found, "sessions", "client_id"), ["\u{c4}nne"]);
    let remote = all["sessions"][3]["remote"].as_str().unwrap();
    assert_eq!(ids(&ask(&format!("filter={remote}")).await), [ids(&all)[3]]);
    assert_eq!(ask("filter=TCP").await["matched"], 5);
    assert_eq!(ask("transport=tcp").await["matched"], 5);
    assert_eq!(ask("transport=udp").await["matched"], 0);
    assert_eq!(
        ids(&ask("group=vips%20%26+friends").await),
        [first.id().as_u64()]
    );
    assert_eq!(ask("group=nobody").await["matched"], 0);
    assert_eq!(ids(&ask("offset=1&limit=3").await), ids(&all)[1..4]);
    assert_eq!(ids(&ask("offset=4&limit=3").await), ids(&all)[4..]);
    let beyond = ask("offset=9").await;
    assert_eq!((ids(&beyond).len(), &beyond["offset"]), (0, &9.into()));
}

#[tokio::test]
async fn a_session_tells_everything_but_secrets() {
    let (site, clients) = site_with_clients(&["c-7"]).await;
    let session = site.server.sessions().remove(0);
    for number in 0..100 {
        session.set_data(format!("key-{number:03}"), "v".repeat(1_000));
    }
    let path = format!("/api/v1/sessions/{}", session.id());
    let open = site.json(&path).await;
    assert_eq!(open["client_id"], "c-7");
    assert_eq!(open["state"], "connected");
    assert_eq!(open["groups"], serde_json::json!(["lobby"]));
    assert_eq!(open["local"], site.server.local_addrs()[0].to_string());
    assert_eq!(
        (&open["data"], &open["data_count"]),
        (&Value::Null, &101.into())
    );
    assert_eq!(
        (&open["tls"], &open["websocket"]),
        (&Value::Null, &Value::Null)
    );
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    let full = site.ask("GET", &path, &token, "").await.is(200).json();
    let data = full["data"].as_object().unwrap();
    assert_eq!((data.len(), &data["desk"]), (64, &"7".into()));
    assert_eq!(data["key-000"].as_str().unwrap().chars().count(), 257);
    let gone = site.get("/api/v1/sessions/999").await.is(404);
    assert_eq!(
        (gone.code(), gone.message()),
        ("session_not_found".into(), "there is no session 999".into())
    );
    drop(clients);
}

#[tokio::test]
async fn long_identities_do_not_make_long_answers() {
    struct Long;
    impl Authenticator for Long {
        fn authenticate<'a>(
            &'a self,
            _: &'a Session,
            _: Credentials,
        ) -> BoxFuture<'a, Result<Option<String>, RequestError>> {
            Box::pin(async { Ok(Some("\u{1f980}".repeat(100_000))) })
        }
    }
    let site = site_with(|server| server.authenticator(Long), |dashboard| dashboard).await;
    let _client = site.client(&"\u{1f980}".repeat(64)).await;
    until("it is connected", || site.server.session_count() == 1).await;
    let query = "/api/v1/sessions?sort=identity&filter=%F0%9F%A6%80";
    let list = site.get(query).await.is(200);
    assert!(list.body.len() < 3_000, "{}", list.body.len());
    let listed = &list.json()["sessions"][0];
    let clipped = format!("{}\u{2026}", "\u{1f980}".repeat(256));
    assert_eq!(listed["identity"], clipped);
    assert_eq!(listed["client_id"], "\u{1f980}".repeat(64));
}

#[tokio::test]
async fn groups_are_listed_the_largest_first_with_their_members() {
    let (site, _clients) = site_with_clients(&["a", "b", "c"]).await;
    let sessions = site.server.sessions();
    let group = |name: &str| GroupName::new(name).unwrap();
    for session in &sessions[..2] {
        session.join(&group("two/of them")).unwrap();
    }
    sessions[0].join(&group("one")).unwrap();
    sessions[0].join(&group("One more")).unwrap();
    site.server
        .broadcast_to(&group("one"), "hello", &[])
        .await
        .unwrap();
    let all = site.json("/api/v1/groups").await;
    assert_eq!(
        texts(&all, "groups", "name"),
        ["lobby", "two/of them", "One more", "one"]
    );
    assert_eq!(all["groups"][3]["messages"], 1);
    assert_eq!(all["groups"][3]["bytes"], 5);
    let some = site
        .json("/api/v1/groups?filter=ONE&limit=1&offset=1")
        .await;
    assert_eq!(texts(&some, "groups", "name"), ["one"]);
    assert_eq!((&some["total"], &some["matched"]), (&4.into(), &2.into()));
    let members = site.json("/api/v1/groups/two%2Fof%20them").await;
    let mut expected: Vec<u64> = sessions[..2]
        .iter()
        .map(|session| session.id().as_u64())
        .collect();
    expected.sort_unstable();
    assert_eq!(members["members"], serde_json::json!(expected));
    let page = site.json("/api/v1/groups/lobby?offset=2&limit=5").await;
    assert_eq!(
        (&page["total"], page["members"].as_array().unwrap().len()),
        (&3.into(), 1)
    );
    for nobody in ["nobody", &"g".repeat(200), "%20"] {
        site.get(&format!("/api/v1/groups/{nobody}")).await.is(404);
    }
}

#[tokio::test]
async fn listeners_count_what_they_accept() {
    let site = site_with(
        |server| server.listen("ws://127.0.0.1:0/path"),
        |dashboard| dashboard,
    )
    .await;
    let _client = site.client("c").await;
    let answer = site.json("/api/v1/listeners").await;
    assert_eq!(texts(&answer, "listeners", "transport"), ["tcp", "ws"]);
    assert_eq!(texts(&answer, "listeners", "url"), site.server.urls());
    let tcp = &answer["listeners"][0];
    assert_eq!(
        (&tcp["accepted"], &tcp["refused"], &tcp["accepting"]),
        (&1.into(), &0.into(), &true.into())
    );
    assert_eq!(tcp["addr"], site.server.local_addrs()[0].to_string());
    site.server.stop().await.unwrap();
    assert_eq!(
        site.json("/api/v1/listeners").await["listeners"],
        serde_json::json!([])
    );
}

#[tokio::test]
async fn events_are_asked_for_one_after_the_other() {
    let (site, clients) = site_with_clients(&["c"]).await;
    let all = site.json("/api/v1/events").await;
    assert_eq!(all["first"], 0);
    let opened = all["events"].as_array().unwrap().last().unwrap();
    assert!(opened["session"].is_u64() && opened["at"].as_u64().unwrap() > 1_700_000_000_000);
    let next = all["next"].as_u64().unwrap();
    let none = site.json(&format!("/api/v1/events?since={next}")).await;
    assert_eq!(
        (&none["first"], &none["next"]),
        (&next.into(), &next.into())
    );
    clients[0].stop().await;
    until("the session has ended", || site.server.session_count() == 0).await;
    until("its end is noted", || site.monitor.events(next).next > next).await;
    let more = site.json(&format!("/api/v1/events?since={next}")).await;
    assert_eq!(more["first"], next);
    // Somebody who has asked another process before gets everything.
    assert_eq!(site.json("/api/v1/events?since=999999").await["first"], 0);
}

#[tokio::test]
async fn the_history_has_a_sample_a_second_of_what_happened() {
    let (site, clients) = site_with_clients(&["c"]).await;
    let empty = site.json("/api/v1/history").await;
    assert_eq!(empty["interval_seconds"], 1.0);
    clients[0].send("hello").await.unwrap();
    let history = tokio::time::timeout(PATIENCE, async {
        loop {
            let history = site.json("/api/v1/history").await;
            let received = history["columns"]["messages_received"].as_array().unwrap();
            if received.iter().any(|rate| rate.as_f64().unwrap() > 0.0) {
                return history;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    let columns = history["columns"].as_object().unwrap();
    let count = history["next"].as_u64().unwrap() - history["first"].as_u64().unwrap();
    for (name, column) in columns {
        assert_eq!(column.as_array().unwrap().len() as u64, count, "{name}");
    }
    let at = columns["messages_received"]
        .as_array()
        .unwrap()
        .iter()
        .position(|rate| rate.as_f64() > Some(0.0))
        .unwrap();
    assert_eq!(columns["connections"][at], 1);
    // A second may have been longer for the one who looks.
    let rate = |name: &str| columns[name][at].as_f64().unwrap();
    let bytes = rate("bytes_received") / rate("messages_received");
    assert_eq!(bytes.round(), 5.0, "hello");
    assert!(columns["handler_p50_us"][at].as_f64().unwrap() > 0.0);
    assert!(columns["handler_max_us"][at].as_f64() >= columns["handler_p50_us"][at].as_f64());
    assert_eq!(columns["request_p99_us"][at], Value::Null);
    let since = history["next"].as_u64().unwrap() - 1;
    let last = site.json(&format!("/api/v1/history?since={since}")).await;
    assert_eq!(last["first"], since);
}

/// A frame of the protocol.
fn frame(kind: u16, payload: &[u8]) -> Vec<u8> {
    let len = 10 + payload.len() as u32;
    [
        b"MSGI",
        &len.to_be_bytes()[..],
        &kind.to_be_bytes(),
        payload,
    ]
    .concat()
}

#[tokio::test]
async fn suspended_sessions_are_shown_as_such() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    const DATA: u16 = 0x10;
    const CONTROL: u16 = 0x20;
    let site = site_with(
        |server| server.reliable(network_system::Reliability::default()),
        |dashboard| dashboard.token(TOKEN),
    )
    .await;
    let url = site.server.urls().remove(0);
    let address = url.strip_prefix("tcp://").unwrap();
    let mut peer = tokio::net::TcpStream::connect(address).await.unwrap();
    let hello = br#"{"op":"hello","client_id":"away","reliable":true}"#;
    peer.write_all(&frame(CONTROL, hello)).await.unwrap();
    let mut got = Vec::new();
    // Before its welcome it sends nothing more.
    while !String::from_utf8_lossy(&got).contains("resume_token") {
        assert_ne!(peer.read_buf(&mut got).await.unwrap(), 0);
    }
    peer.write_all(&frame(DATA, b"hello")).await.unwrap();
    // The echo is the last of what comes, and is never acknowledged.
    while !got.ends_with(b"hello") {
        assert_ne!(peer.read_buf(&mut got).await.unwrap(), 0);
    }
    drop(peer);
    until("it is suspended", || site.server.stats().suspended == 1).await;

    let _other = site.client("here").await;
    let all = site.json("/api/v1/sessions?sort=state&order=desc").await;
    assert_eq!(texts(&all, "sessions", "client_id"), ["away", "here"]);
    let found = site.json("/api/v1/sessions?state=suspended").await;
    assert_eq!((&found["total"], &found["matched"]), (&2.into(), &1.into()));
    let away = &found["sessions"][0];
    assert_eq!(away["state"], "suspended");
    assert_eq!(
        (&away["reliable"], &away["resumes"]),
        (&true.into(), &0.into())
    );
    assert_eq!(away["unacknowledged_messages"], 1);
    assert!(away["unacknowledged_bytes"].as_u64() >= Some(5));
    let metrics = site.json("/api/v1/metrics").await;
    assert_eq!(metrics["sessions_suspended"], 1);
    assert_eq!(metrics["members"][0]["sessions_suspended"], 1);
    let status = site.json("/api/v1/status").await;
    assert_eq!(status["limits"]["reliable"]["resume_seconds"], 30.0);
}

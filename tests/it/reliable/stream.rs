//! Messages that a client takes as a stream.

use network_system::{Client, Reliability, Server, Session};

use crate::support::{Net, eventually, number_of, numbered, within};

const COUNT: u64 = 60;

/// A client without a message handler, and the server's session, which has sent it more than a stream holds.
async fn flooded(reliable: bool) -> (Net, Client, Session) {
    let builder = Server::builder().listen("tcp://127.0.0.1:0");
    let net = Net::start(builder, |builder| match reliable {
        true => builder.reliable(Reliability::default()),
        false => builder,
    })
    .await;
    let builder = Client::builder().endpoint(&net.url);
    let builder = match reliable {
        true => builder.reliable(Reliability::default()),
        false => builder,
    };
    let client = builder.build().unwrap();
    within("connect", client.connect()).await.unwrap();
    eventually("the session", || {
        net.server.stats().current_connections == 1
    })
    .await;
    let session = net.server.sessions().remove(0);
    for number in 0..COUNT {
        session.send(numbered(number, 4_096)).await.unwrap();
    }
    let received = |client: &Client| client.stats().messages_received == COUNT;
    eventually("all messages", || received(&client)).await;
    (net, client, session)
}

#[tokio::test]
async fn without_a_reader_a_reliable_session_waits_and_drops_nothing() {
    let (_net, client, session) = flooded(true).await;
    assert!(session.stats().unacknowledged_messages > 0);
    let mut stream = client.messages().unwrap();
    for number in 0..COUNT {
        let message = within("a message", stream.next()).await.unwrap();
        assert_eq!(number_of(message.payload()), number);
    }
    eventually("acknowledgements", || {
        session.stats().unacknowledged_messages == 0
    })
    .await;
    assert_eq!(client.stats().dropped, 0);
}

#[tokio::test]
async fn what_has_arrived_can_be_read_after_a_stop_that_nobody_holds_up() {
    let (net, client, _) = flooded(true).await;
    within("stop", client.stop()).await;
    assert_eq!(client.stats().dropped, 0);
    let mut stream = client.messages().unwrap();
    for number in 0..COUNT {
        let message = within("a message", stream.next()).await.unwrap();
        assert_eq!(number_of(message.payload()), number);
    }
    assert!(within("the end", stream.next()).await.is_none());
    assert_eq!(net.server.stats().unacknowledged, 0);
}

#[tokio::test]
async fn without_a_reader_other_sessions_drop_and_count() {
    let (_net, client, _) = flooded(false).await;
    eventually("drops", || client.stats().dropped == COUNT - 16).await;
}

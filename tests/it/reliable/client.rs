//! Reliable sessions: what is sent arrives once, in order, whatever happens to connections.

use std::time::Duration;

use network_system::{
    Client, ClientBuilder, Message, ReconnectPolicy, Reliability, ServerBuilder, Session,
};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::{Over, eventually, within};

const MS: Duration = Duration::from_millis(1);

/// A way to a server that can be cut.
struct Way {
    url: String,
    cut: watch::Sender<u64>,
}

impl Way {
    async fn to(url: &str) -> Way {
        let target = url.strip_prefix("tcp://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("tcp://{}", listener.local_addr().unwrap());
        let (cut, cuts) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let mut cuts = cuts.clone();
                cuts.mark_unchanged();
                let target = target.clone();
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(target).await else {
                        return;
                    };
                    let (mut near_in, mut near_out) = near.into_split();
                    let (mut far_in, mut far_out) = far.into_split();
                    tokio::select! {
                        _ = tokio::io::copy(&mut near_in, &mut far_out) => {}
                        _ = tokio::io::copy(&mut far_in, &mut near_out) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Way { url, cut }
    }

    fn cut(&self) {
        self.cut.send_modify(|count| *count += 1);
    }
}

fn client(url: &str) -> ClientBuilder {
    Client::builder()
        .endpoint(url)
        .reconnect(ReconnectPolicy::new().base(MS).cap(20 * MS))
        .reliable(Reliability::default())
}

fn server(over: Over) -> ServerBuilder {
    over.server().workers(2).reliable(Reliability::default())
}

#[tokio::test]
async fn messages_both_ways_arrive_once_and_in_order_while_connections_are_cut() {
    let net = server(Over::Tcp)
        .on_message(|session: Session, message: Message| async move {
            session.send(message).await.unwrap();
        })
        .build()
        .unwrap();
    net.start().await.unwrap();
    let way = Way::to(&net.urls()[0]).await;
    let client = client(&way.url).build().unwrap();
    let mut messages = client.messages().unwrap();
    within("connect", client.connect()).await.unwrap();
    let session = client.session().unwrap();
    assert!(session.is_reliable());
    let count = 3_000;
    let sender = {
        let client = client.clone();
        tokio::spawn(async move {
            for number in 0..count {
                client.send(format!("{number}")).await.unwrap();
                if number % 300 == 299 {
                    way.cut();
                    tokio::time::sleep(5 * MS).await;
                }
            }
            way
        })
    };
    for number in 0..count {
        let message = within("an echo", messages.next()).await.unwrap();
        assert_eq!(message.as_text(), Some(&*format!("{number}")));
    }
    let way = sender.await.unwrap();
    assert!(session.stats().resumes >= 5, "{:?}", session.stats());
    assert_eq!(net.stats().total_connections, 1);
    eventually("all is acknowledged", || {
        session.stats().unacknowledged_messages == 0
    })
    .await;
    let report = within("stop", client.stop()).await;
    assert_eq!(report.unsent, 0);
    assert!(session.take_unacknowledged().is_empty());
    drop(way);
    within("stop", net.stop()).await.unwrap();
}

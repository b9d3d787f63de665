//! Routes by the type of a message and by the message type of a container.

use network_system::container::{Container, DecodeOptions, Format};
use network_system::{Client, ErrorCode, Message, Router, Server, Session};
use tokio::sync::mpsc;

use crate::support::PATIENCE;

/// Where a message went, and what it was.
type Seen = (&'static str, Vec<u8>);

struct Routed {
    server: Server,
    client: Client,
    seen: mpsc::UnboundedReceiver<Seen>,
}

impl Routed {
    async fn new(format: Format, options: DecodeOptions) -> Self {
        let (tell, seen) = mpsc::unbounded_channel();
        let teller = |place: &'static str| {
            let tell = tell.clone();
            move |what: Vec<u8>| tell.send((place, what)).unwrap()
        };
        let (login, update) = (teller("login"), teller("update"));
        let (number, otherwise) = (teller("0x8001"), teller("otherwise"));
        let error = teller("error");
        let router = Router::new()
            .containers(format)
            .container_limits(options)
            .on_container("user_login", move |_: Session, container: Container| {
                login(container.get_as::<&str>("user").unwrap().into());
                async {}
            })
            .on_container(
                "data_update",
                move |session: Session, update_: Container| {
                    update(Vec::new());
                    async move {
                        let answer = update_.reply("response").encode(format).unwrap();
                        session.send(answer).await.unwrap();
                    }
                },
            )
            .on(0x8001, move |_: Session, message: Message| {
                number(message.payload().to_vec());
                async {}
            })
            .otherwise(move |_: Session, message: Message| {
                otherwise(message.payload().to_vec());
                async {}
            })
            .on_error(move |_: &Session, code: ErrorCode, text: &str| {
                error(format!("{code:?}: {text}").into());
            });
        let server = Server::builder()
            .listen("tcp://127.0.0.1:0")
            .handler(router)
            .build()
            .unwrap();
        server.start().await.unwrap();
        let client = Client::connect_to(server.urls().remove(0)).await.unwrap();
        Routed {
            server,
            client,
            seen,
        }
    }

    async fn next(&mut self) -> Seen {
        let next = tokio::time::timeout(PATIENCE, self.seen.recv());
        next.await.unwrap().unwrap()
    }
}

fn login() -> Container {
    Container::new("user_login")
        .source("client", "main")
        .target("server", "accounts")
        .with("user", "ada")
}

#[tokio::test]
async fn a_container_goes_to_the_route_of_its_message_type() {
    for format in [Format::MessagePack, Format::Text, Format::Json] {
        let mut routed = Routed::new(format, DecodeOptions::default()).await;
        let client = &routed.client;
        let mut messages = client.messages().unwrap();
        let bytes = login().encode(format).unwrap();
        client.send(bytes.clone()).await.unwrap();
        assert_eq!(routed.next().await, ("login", b"ada".to_vec()));

        let mut update = login();
        update.header.message_type = "data_update".into();
        let client = &routed.client;
        client.send(update.encode(format).unwrap()).await.unwrap();
        assert_eq!(routed.next().await.0, "update");
        let answer = messages.next().await.unwrap().into_payload();
        let answer = Container::decode(format, &answer).unwrap();
        assert_eq!(answer.header.source, "server");
        assert_eq!(answer.header.target_sub, "main");

        // An application type comes before what is inside.
        let message = Message::application(0x8001, bytes.clone()).unwrap();
        routed.client.send(message).await.unwrap();
        assert_eq!(routed.next().await, ("0x8001", bytes.clone()));
        let message = Message::application(0x8002, bytes).unwrap();
        routed.client.send(message).await.unwrap();
        assert_eq!(routed.next().await.0, "login");
    }
}

#[tokio::test]
async fn what_has_no_route_or_is_no_container_goes_to_otherwise_and_the_session_goes_on() {
    let mut routed = Routed::new(Format::MessagePack, DecodeOptions::default()).await;
    let other = Container::new("other").encode(Format::MessagePack).unwrap();
    routed.client.send(other.clone()).await.unwrap();
    assert_eq!(routed.next().await, ("otherwise", other));
    assert_eq!(routed.server.stats().errors, 0);

    let text = login().encode(Format::Text).unwrap();
    routed.client.send(text.clone()).await.unwrap();
    let (place, what) = routed.next().await;
    let what = String::from_utf8(what).unwrap();
    assert_eq!(place, "error");
    assert!(what.starts_with("InvalidFrame: "), "{what}");
    assert!(!what.contains("ada"), "no contents: {what}");
    assert_eq!(routed.next().await, ("otherwise", text));
    assert_eq!(routed.server.stats().errors, 1);

    let login = login().encode(Format::MessagePack).unwrap();
    routed.client.send(login).await.unwrap();
    assert_eq!(routed.next().await.0, "login");
}

#[tokio::test]
async fn limits_of_containers_are_obeyed() {
    let mut routed = Routed::new(Format::MessagePack, DecodeOptions::new().max_values(1)).await;
    let two = login().with("attempt", 2);
    let two = two.encode(Format::MessagePack).unwrap();
    routed.client.send(two).await.unwrap();
    assert_eq!(routed.next().await.0, "error");
    assert_eq!(routed.next().await.0, "otherwise");
}

#[tokio::test]
async fn without_routes_for_containers_nothing_is_read_as_one() {
    let (tell, mut seen) = mpsc::unbounded_channel();
    let errors = tell.clone();
    let router = Router::new()
        .containers(Format::Text)
        .otherwise(move |_: Session, message: Message| {
            tell.send(message.payload().to_vec()).unwrap();
            async {}
        })
        .on_error(move |_: &Session, _: ErrorCode, text: &str| {
            errors.send(text.into()).unwrap();
        });
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .handler(router)
        .build()
        .unwrap();
    server.start().await.unwrap();
    let client = Client::connect_to(server.urls().remove(0)).await.unwrap();
    client.send("no container").await.unwrap();
    assert_eq!(seen.recv().await.unwrap(), b"no container");
    server.stop().await.unwrap();
    assert!(seen.try_recv().is_err());
}

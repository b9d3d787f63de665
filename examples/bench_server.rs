//! Echo servers for measurements: `lent` or `closure` handler, current-thread or multi-thread runtime.
use network_system::{Handler, Limits, Message, Server, Session, Timeouts};

struct Echo;

impl Handler for Echo {
    async fn on_message(&self, session: &Session, message: &Message) {
        let _ = session.send(message).await;
    }
}

struct Fan(std::sync::OnceLock<Server>);
struct FanHandler(std::sync::Arc<Fan>);
impl Handler for FanHandler {
    async fn on_message(&self, session: &Session, message: &Message) {
        let _ = self
            .0
            .0
            .get()
            .unwrap()
            .broadcast_except(message, &[session.id()])
            .await;
    }
}

fn main() {
    let mode = std::env::args().nth(1).unwrap_or("lent".into());
    let runtime = if std::env::args().any(|a| a == "multi") {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
    } else {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
    }
    .unwrap();
    runtime.block_on(async {
        let mut limits = Limits::default();
        limits.max_connections = 0;
        let timeouts = Timeouts::default();
        let fan = std::sync::Arc::new(Fan(Default::default()));
        let builder = Server::builder()
            .listen("tcp://127.0.0.1:0")
            .limits(limits)
            .timeouts(timeouts);
        let server = match mode.as_str() {
            "closure" => builder.on_message(|session: Session, message: Message| async move {
                let _ = session.send(message).await;
            }),
            "broadcast" => builder.handler(FanHandler(fan.clone())),
            _ => builder.handler(Echo),
        }
        .build()
        .unwrap();
        let _ = fan.0.set(server.clone());
        server.start().await.unwrap();
        println!("listening {}", server.urls()[0]);
        server.wait_for_stop().await;
    });
}

//! A server with a dashboard, and a client that sends exactly what it is told.

use std::net::SocketAddr;
use std::time::Duration;

use network_system::metrics::PerformanceMonitor;
use network_system::{Client, GroupName, Message, Server, ServerBuilder, Session};
use network_system_dashboard::{Dashboard, DashboardBuilder, DashboardServer};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const TOKEN: &str = "correct-horse-battery-staple";

/// Whatever takes longer than this never ends.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Site {
    pub server: Server,
    pub monitor: PerformanceMonitor,
    pub dashboard: Dashboard,
    pub page: DashboardServer,
}

/// An echo server with a dashboard that has a token.
pub async fn site() -> Site {
    site_with(|server| server, |dashboard| dashboard.token(TOKEN)).await
}

pub async fn site_with(
    server: impl FnOnce(ServerBuilder) -> ServerBuilder,
    dashboard: impl FnOnce(DashboardBuilder) -> DashboardBuilder,
) -> Site {
    let monitor = PerformanceMonitor::new();
    let builder = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .monitor(&monitor)
        .on_connect(|session: Session| async move {
            session.join(&GroupName::new("lobby").unwrap()).unwrap();
            session.set_data("desk", "7");
        })
        .on_message(|session: Session, message: Message| async move {
            let _ = session.send(message).await;
        });
    let server = server(builder).build().unwrap();
    server.start().await.unwrap();
    let dashboard = dashboard(Dashboard::builder(&server, &monitor))
        .build()
        .unwrap();
    let page = dashboard
        .bind("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    Site {
        server,
        monitor,
        dashboard,
        page,
    }
}

impl Site {
    pub fn addr(&self) -> SocketAddr {
        self.page.local_addr()
    }

    /// A client of the messaging side, connected.
    pub async fn client(&self, id: &str) -> Client {
        let url = self.server.urls().remove(0);
        let client = Client::builder()
            .endpoint(url)
            .client_id(id)
            .build()
            .unwrap();
        client.connect().await.unwrap();
        client
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, "", "").await
    }

    pub async fn json(&self, path: &str) -> Value {
        let reply = self.get(path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        reply.json()
    }

    pub async fn post(&self, path: &str, token: Option<&str>, body: &str) -> Reply {
        let token = token.map_or(String::new(), |token| {
            format!("Authorization: Bearer {token}\r\n")
        });
        let fields = format!("Content-Type: application/json\r\n{token}");
        self.ask("POST", path, &fields, body).await
    }

    /// One request with the right `Host` and other fields, on a connection of its own.
    pub async fn ask(&self, method: &str, path: &str, fields: &str, body: &str) -> Reply {
        let host = format!("Host: {}\r\n{fields}", self.addr());
        self.ask_as(method, path, &host, body).await
    }

    /// One request with just these fields.
    pub async fn ask_as(&self, method: &str, path: &str, fields: &str, body: &str) -> Reply {
        let length = match (method, body.len()) {
            ("POST", length) => format!("Content-Length: {length}\r\n"),
            _ => String::new(),
        };
        let head = format!("{method} {path} HTTP/1.1\r\n{fields}{length}Connection: close\r\n\r\n");
        raw(self.addr(), format!("{head}{body}").as_bytes()).await
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn parse(bytes: &[u8]) -> Reply {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply {
            status,
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// What the error says.
    pub fn message(&self) -> String {
        let error = &self.json()["error"];
        assert_eq!(error["status"], self.status);
        error["message"].as_str().unwrap().to_owned()
    }

    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn is(self, status: u16) -> Reply {
        assert_eq!(self.status, status, "{}\n{}", self.head, self.body);
        self
    }
}

/// Sends bytes and reads until the other side closes.
pub async fn raw(addr: SocketAddr, request: &[u8]) -> Reply {
    Reply::parse(&exchange(addr, request).await)
}

pub async fn exchange(addr: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    // It may be refused before all of it is sent.
    let _ = stream.write_all(request).await;
    rest(&mut stream).await
}

/// What comes until the other side closes.
pub async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .unwrap_or_else(|_| panic!("never closed: {:?}", String::from_utf8_lossy(&answer)));
    answer
}

/// Waits until something holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    tokio::time::timeout(PATIENCE, async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("it never was that {what}"));
}

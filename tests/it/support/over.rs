//! Which transports there are, and what each can do.

use std::sync::atomic::{AtomicUsize, Ordering};

use network_system::{Client, ClientBuilder, Server, ServerBuilder};

/// A transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Tcp,
    Tls,
    #[cfg(unix)]
    Unix,
    Mem,
    /// WebSocket with the subprotocol `msgi.v1`. Without it there are tests of its own.
    Ws,
    Wss,
    /// Frames of MSGI in datagrams. What raw datagrams promise has tests of its own.
    Udp,
}

impl Over {
    pub const ALL: &[Over] = &[
        Over::Tcp,
        Over::Tls,
        #[cfg(unix)]
        Over::Unix,
        Over::Mem,
        Over::Ws,
        Over::Wss,
        Over::Udp,
    ];

    /// A URL to listen on that nobody else uses.
    pub fn listen_url(self) -> String {
        match self {
            #[cfg(unix)]
            Over::Unix => format!("unix://{}", socket_path().display()),
            Over::Mem => format!("mem://{}", unique()),
            _ => self.listen_url_at("127.0.0.1"),
        }
    }

    /// A URL with a free port of a host, for transports whose peers have addresses.
    pub fn listen_url_at(self, host: &str) -> String {
        match self {
            Over::Tcp => format!("tcp://{host}:0"),
            Over::Tls => format!("tls://{host}:0"),
            Over::Ws => format!("ws://{host}:0"),
            Over::Wss => format!("wss://{host}:0"),
            Over::Udp => format!("udp://{host}:0?codec=msgi"),
            other => panic!("{other:?} has no addresses"),
        }
    }

    /// A server that listens on this transport.
    pub fn server(self) -> ServerBuilder {
        self.configure(Server::builder()).listen(self.listen_url())
    }

    /// A client of a server on this transport.
    pub fn client(self, url: impl AsRef<str>) -> ClientBuilder {
        let builder = Client::builder().endpoint(url);
        match self {
            Over::Tls | Over::Wss => builder.tls(super::tls::library_client()),
            _ => builder,
        }
    }

    /// Whether a connection over the limit is told why. With TLS that would take a handshake, the very
    /// work that a limit spares.
    pub fn tells_refusals(self) -> bool {
        !matches!(self, Over::Tls | Over::Wss)
    }

    /// Gives a server what it needs to listen on this transport.
    pub fn configure(self, builder: ServerBuilder) -> ServerBuilder {
        match self {
            Over::Tls | Over::Wss => builder.tls(super::tls::server()),
            _ => builder,
        }
    }
}

/// A name that no other test and no other process has.
pub fn unique() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!(
        "netsys-it-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

/// A path for a socket.
#[cfg(unix)]
pub fn socket_path() -> std::path::PathBuf {
    std::env::temp_dir().join(unique())
}

/// Instantiates tests for every transport that has the capability under which they stand.
///
/// | capability | what it means | tcp | tls | unix | mem | ws | wss | udp |
/// |---|---|---|---|---|---|---|---|---|
/// | `session` | a session has what it promises, while nothing is lost and messages fit a datagram | ✓ | ✓ | ✓ | ✓ | ✓ | ✓ | ✓ |
/// | `requests` | requests, CONTROL, PING and orderly close | ✓ | ✓ | ✓ | ✓ | ✓ | ✓ | ✓ |
/// | `errors` | a peer that breaks the protocol is told so, and its session ends | ✓ | ✓ | ✓ | ✓ | ✓ | ✓ | |
/// | `order` | messages arrive in the order in which they were sent, however many they are | ✓ | ✓ | ✓ | ✓ | ✓ | ✓ | |
/// | `reliability` | what was accepted arrives, or the session ends; a slow reader slows the sender down | ✓ | ✓ | ✓ | ✓ | ✓ | ✓ | |
/// | `size` | messages up to the configured limit | ✓ | ✓ | ✓ | ✓ | ✓ | ✓ | |
/// | `stream` | frames stand in a stream of bytes, which can be cut anywhere | ✓ | ✓ | ✓ | | ✓ | ✓ | |
/// | `codecs` | how frames stand in that stream can be chosen | ✓ | ✓ | ✓ | | | | |
/// | `addresses` | peers have IP addresses | ✓ | ✓ | | | ✓ | ✓ | ✓ |
/// | `tcp` | the peer is connected by TCP | ✓ | ✓ | | | ✓ | ✓ | |
/// | `sockets` | a bound TCP socket can be handed over | ✓ | | | | | | |
macro_rules! over_all {
    ($($capability:ident: $($test:ident),+ $(,)?;)+) => {
        mod tcp { $($(instance!(Tcp $capability $test);)+)+ }
        mod tls { $($(instance!(Tls $capability $test);)+)+ }
        #[cfg(unix)]
        mod unix { $($(instance!(Unix $capability $test);)+)+ }
        mod mem { $($(instance!(Mem $capability $test);)+)+ }
        mod ws { $($(instance!(Ws $capability $test);)+)+ }
        mod wss { $($(instance!(Wss $capability $test);)+)+ }
        mod udp { $($(instance!(Udp $capability $test);)+)+ }

        pub const TESTS: &[(&str, &str, &str)] =
            &[$($((module_path!(), stringify!($test), stringify!($capability)),)+)+];
    };
}

/// What a transport does not have is left out.
macro_rules! instance {
    (Tls sockets $test:ident) => {};
    (Unix addresses $test:ident) => {};
    (Unix tcp $test:ident) => {};
    (Unix sockets $test:ident) => {};
    (Mem stream $test:ident) => {};
    (Mem codecs $test:ident) => {};
    (Mem addresses $test:ident) => {};
    (Mem tcp $test:ident) => {};
    (Mem sockets $test:ident) => {};
    (Ws codecs $test:ident) => {};
    (Ws sockets $test:ident) => {};
    (Wss codecs $test:ident) => {};
    (Wss sockets $test:ident) => {};
    (Udp errors $test:ident) => {};
    (Udp order $test:ident) => {};
    (Udp reliability $test:ident) => {};
    (Udp size $test:ident) => {};
    (Udp stream $test:ident) => {};
    (Udp codecs $test:ident) => {};
    (Udp tcp $test:ident) => {};
    (Udp sockets $test:ident) => {};
    ($over:ident $capability:ident $test:ident) => {
        #[tokio::test]
        async fn $test() {
            super::$test($crate::support::Over::$over).await;
        }
    };
}

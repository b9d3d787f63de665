//! Which transports there are, and what each can do.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Tcp,
    #[cfg(unix)]
    Unix,
    Mem,
}

impl Over {
    pub const ALL: &[Over] = &[
        Over::Tcp,
        #[cfg(unix)]
        Over::Unix,
        Over::Mem,
    ];

    /// A URL to listen on that nobody else uses.
    pub fn listen_url(self) -> String {
        match self {
            Over::Tcp => "tcp://127.0.0.1:0".to_owned(),
            #[cfg(unix)]
            Over::Unix => format!("unix://{}", socket_path().display()),
            Over::Mem => format!("mem://{}", unique()),
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
/// | capability | what it means | tcp | unix | mem |
/// |---|---|---|---|---|
/// | `order` | messages arrive in the order in which they were sent | ✓ | ✓ | ✓ |
/// | `reliability` | what was accepted arrives, or the session ends | ✓ | ✓ | ✓ |
/// | `requests` | requests, CONTROL, PING and orderly close | ✓ | ✓ | ✓ |
/// | `size` | messages up to the configured limit | ✓ | ✓ | ✓ |
/// | `bytes` | frames stand in a stream of bytes, which can be cut anywhere | ✓ | ✓ | |
/// | `addresses` | peers have IP addresses | ✓ | | |
macro_rules! over_all {
    ($($capability:ident: $($test:ident),+ $(,)?;)+) => {
        mod tcp { $($(instance!(Tcp $capability $test);)+)+ }
        #[cfg(unix)]
        mod unix { $($(instance!(Unix $capability $test);)+)+ }
        mod mem { $($(instance!(Mem $capability $test);)+)+ }

        pub const TESTS: &[(&str, &str, &str)] =
            &[$($((module_path!(), stringify!($test), stringify!($capability)),)+)+];
    };
}

macro_rules! instance {
    (Mem bytes $test:ident) => {};
    (Mem addresses $test:ident) => {};
    (Unix addresses $test:ident) => {};
    ($over:ident $capability:ident $test:ident) => {
        #[tokio::test]
        async fn $test() {
            super::$test($crate::support::Over::$over).await;
        }
    };
}

//! Socket activation: sockets that systemd, or whatever speaks its protocol, has bound for this process.
//!
//! The service then starts with the first connection, needs no right to bind a low port, and a restart
//! loses no connection, as the sockets stay with systemd. Unix only.
//!
//! ```no_run
//! use network_system::{BoundSocket, activation};
//! use network_system::{CodecKind, Server};
//!
//! let mut builder = Server::builder();
//! for activated in activation::sockets()? {
//!     if let BoundSocket::Tcp(listener) = activated.socket {
//!         builder = builder.listen_socket(listener, CodecKind::Msgi);
//!     }
//! }
//! # Ok::<(), network_system::ConfigError>(())
//! ```
//!
//! The socket's unit has `ListenStream=` for TCP and Unix sockets and `ListenDatagram=` for UDP, each with
//! `FileDescriptorName=` if there are several, and `Accept=no`, which is the default.

use std::ffi::OsString;
use std::sync::Mutex;

use listenfd::ListenFd;
use socket2::SockRef;

use super::BoundSocket;
use crate::error::{ConfigError, ErrorCode};
use crate::session::shared::lock;

/// The most sockets that are taken. systemd passes on each that a unit lists.
const SOCKETS_MAX: usize = 1_024;

/// What systemd calls sockets without a name.
const NAMELESS: &str = "unknown";

/// A number of a descriptor is believed up to here: Linux allows no higher one.
const DESCRIPTOR_MAX: i32 = 1 << 30;

/// Two calls must not take the same descriptors.
static TAKING: Mutex<()> = Mutex::new(());

/// A socket that was handed over.
#[derive(Debug)]
#[non_exhaustive]
pub struct Activated {
    /// Its `FileDescriptorName=`: the name of the socket's unit, such as `chat.socket`, unless it says
    /// otherwise. Sockets may share a name.
    pub name: String,
    /// The socket.
    pub socket: BoundSocket,
}

/// Takes the sockets that were handed over to this process, in their order. There are none when the process
/// was started in another way, or at the second call.
///
/// It reads `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES`, and removes the first two, so that child
/// processes do not take the sockets for theirs. So call it early in `main`, before there are threads
/// that could read the environment at the same time by other means than Rust's.
///
/// # Errors
/// The variables contradict each other, or a descriptor is no socket of a kind that
/// [`BoundSocket`] knows: a connection of a unit with `Accept=yes`, a FIFO. The sockets before it
/// are closed then.
pub fn sockets() -> Result<Vec<Activated>, ConfigError> {
    let _taking = lock(&TAKING);
    let names = announced(|name| std::env::var_os(name), std::process::id())?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut given = ListenFd::from_env();
    let sockets = names.into_iter().enumerate().map(|(index, name)| {
        let socket = take(&mut given, index, &name)?;
        Ok(Activated { name, socket })
    });
    sockets.collect()
}

/// The names of the sockets that the environment announces to the process `pid`.
fn announced(
    variable: impl Fn(&str) -> Option<OsString>,
    pid: u32,
) -> Result<Vec<String>, ConfigError> {
    let text = |name: &str| match variable(name).map(OsString::into_string).transpose() {
        Ok(value) => Ok(value),
        Err(_) => Err(invalid(name, "is not Unicode")),
    };
    // The variables may have been inherited from a process that they were meant for.
    if text("LISTEN_PID")?.as_deref() != Some(pid.to_string().as_str()) {
        return Ok(Vec::new());
    }
    let Some(count) = text("LISTEN_FDS")? else {
        return Ok(Vec::new());
    };
    let count: usize = match count.parse() {
        Ok(count @ ..=SOCKETS_MAX) => count,
        _ => return Err(invalid("LISTEN_FDS", "is not a number up to 1024")),
    };
    // Not systemd's, but listenfd reads it.
    let first = text("LISTEN_FDS_FIRST_FD")?.map(|first| first.parse());
    if !matches!(first, None | Some(Ok(0..=DESCRIPTOR_MAX))) {
        return Err(invalid("LISTEN_FDS_FIRST_FD", "is not a descriptor"));
    }
    let Some(names) = text("LISTEN_FDNAMES")? else {
        return Ok(vec![NAMELESS.to_owned(); count]);
    };
    let names: Vec<String> = names.split(':').map(str::to_owned).collect();
    match names.len() == count {
        true => Ok(names),
        // No socket has no name, which splits into one that is empty.
        false if count == 0 => Ok(Vec::new()),
        false => Err(invalid(
            "LISTEN_FDNAMES",
            "names more or fewer than LISTEN_FDS",
        )),
    }
}

fn take(given: &mut ListenFd, index: usize, name: &str) -> Result<BoundSocket, ConfigError> {
    // A socket of another kind is left where it is, for the next to try.
    if let Ok(Some(listener)) = given.take_tcp_listener(index) {
        refuse_connection(&SockRef::from(&listener), name)?;
        return Ok(BoundSocket::Tcp(listener));
    }
    if let Ok(Some(listener)) = given.take_unix_listener(index) {
        refuse_connection(&SockRef::from(&listener), name)?;
        return Ok(BoundSocket::Unix(listener));
    }
    match given.take_udp_socket(index) {
        Ok(Some(socket)) => Ok(BoundSocket::Udp(socket)),
        _ => {
            let text = "is no socket, or none of TCP, UDP or Unix streams";
            Err(invalid(name, text))
        }
    }
}

/// A connection has a peer, a listener has none.
fn refuse_connection(socket: &SockRef<'_>, name: &str) -> Result<(), ConfigError> {
    match socket.peer_addr() {
        Ok(_) => Err(invalid(name, "is a connection; the unit needs Accept=no")),
        Err(_) => Ok(()),
    }
}

fn invalid(name: &str, text: &str) -> ConfigError {
    let text = format!("socket activation: {} {text}", name.escape_debug());
    ConfigError::new(ErrorCode::InvalidConfiguration, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is announced to process 7.
    fn names(variables: &[(&str, &str)]) -> Result<Vec<String>, ConfigError> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| OsString::from(value))
        };
        announced(variable, 7)
    }

    #[test]
    fn only_what_is_meant_for_this_process_is_taken() {
        for variables in [
            &[][..],
            &[("LISTEN_FDS", "1")],
            &[("LISTEN_FDS", "1"), ("LISTEN_PID", "8")],
            &[("LISTEN_FDS", "1"), ("LISTEN_PID", "")],
            &[("LISTEN_FDS", "x"), ("LISTEN_PID", "77")],
            &[("LISTEN_PID", "7")],
            &[("LISTEN_PID", "7"), ("LISTEN_FDS", "0")],
            &[
                ("LISTEN_PID", "7"),
                ("LISTEN_FDS", "0"),
                ("LISTEN_FDNAMES", ""),
            ],
        ] {
            assert!(
                names(variables).expect("no error").is_empty(),
                "{variables:?}"
            );
        }
    }

    #[test]
    fn sockets_have_the_names_of_their_units() {
        let two = [("LISTEN_PID", "7"), ("LISTEN_FDS", "2")];
        assert_eq!(names(&two).expect("names"), ["unknown", "unknown"]);
        let named = [&two[..], &[("LISTEN_FDNAMES", "a:b.socket")]].concat();
        assert_eq!(names(&named).expect("names"), ["a", "b.socket"]);
        let empty = [&two[..], &[("LISTEN_FDNAMES", ":")]].concat();
        assert_eq!(names(&empty).expect("names"), ["", ""]);
    }

    #[test]
    fn contradictions_are_errors_that_name_the_variable() {
        for (name, value) in [
            ("LISTEN_FDS", ""),
            ("LISTEN_FDS", "-1"),
            ("LISTEN_FDS", "1025"),
            ("LISTEN_FDS", "99999999999999999999"),
            ("LISTEN_FDNAMES", ""),
            ("LISTEN_FDNAMES", "a"),
            ("LISTEN_FDNAMES", "a:b:c"),
            ("LISTEN_FDS_FIRST_FD", "-1"),
            ("LISTEN_FDS_FIRST_FD", "2147483647"),
        ] {
            let rest = [("LISTEN_PID", "7"), ("LISTEN_FDS", "2")];
            let variables = [&[(name, value)][..], &rest].concat();
            let error = names(&variables).expect_err(value);
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}

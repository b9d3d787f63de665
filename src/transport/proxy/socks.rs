//! SOCKS5 (RFC 1928) with user and password (RFC 1929).

use std::io;

use tokio::net::TcpStream;
use tokio_socks::tcp::Socks5Stream;
use tokio_socks::{Error, TargetAddr};

use super::Credentials;
use crate::endpoint::Host;

pub(super) async fn connect(
    stream: &mut TcpStream,
    credentials: Option<&Credentials>,
    host: &Host,
    port: u16,
) -> io::Result<()> {
    let target = match host {
        Host::Ip(ip) => TargetAddr::Ip((*ip, port).into()),
        Host::Name(name) => TargetAddr::Domain(name.as_str().into(), port),
    };
    // All replies have known lengths, so nothing behind them is read.
    let connected = match credentials {
        None => Socks5Stream::connect_with_socket(stream, target).await,
        Some(Credentials { user, password }) => {
            Socks5Stream::connect_with_password_and_socket(stream, target, user, password).await
        }
    };
    connected.map(drop).map_err(translated)
}

fn translated(error: Error) -> io::Error {
    use io::ErrorKind;
    let kind = match error {
        Error::Io(error) => return error,
        Error::ConnectionRefused => ErrorKind::ConnectionRefused,
        Error::HostUnreachable => ErrorKind::HostUnreachable,
        Error::NetworkUnreachable => ErrorKind::NetworkUnreachable,
        Error::TtlExpired => ErrorKind::TimedOut,
        Error::ConnectionNotAllowedByRuleset
        | Error::NoAcceptableAuthMethods
        | Error::AuthorizationRequired
        | Error::PasswordAuthFailure(_) => ErrorKind::PermissionDenied,
        Error::InvalidResponseVersion
        | Error::InvalidReservedByte
        | Error::UnknownAuthMethod
        | Error::UnknownAddressType
        | Error::InvalidTargetAddress(_) => ErrorKind::InvalidData,
        _ => ErrorKind::Other,
    };
    io::Error::new(kind, format!("SOCKS5: {error}"))
}

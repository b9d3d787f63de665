//! Names to addresses.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::handler::BoxFuture;

/// Finds the addresses of a host.
///
/// A client asks anew before each attempt to connect, so a resolver that caches decides how fast a
/// change in the DNS is noticed. The client tries the addresses in the order given, alternating
/// between IPv6 and IPv4.
///
/// ```
/// use std::io;
/// use std::net::SocketAddr;
/// use network_system::{BoxFuture, Resolver};
///
/// /// Sends every name to one address, as tests like to.
/// struct Always(std::net::IpAddr);
///
/// impl Resolver for Always {
///     fn resolve<'a>(
///         &'a self,
///         _host: &'a str,
///         port: u16,
///     ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
///         Box::pin(async move { Ok(vec![SocketAddr::new(self.0, port)]) })
///     }
/// }
/// ```
pub trait Resolver: Send + Sync {
    /// The addresses of `host`, the preferred ones first, with `port` in each.
    ///
    /// `host` is a DNS name or an IP address, the latter without brackets. The future is dropped when
    /// the client's deadline passes, or when the client stops.
    ///
    /// # Errors
    ///
    /// The name could not be resolved. A name without addresses is an error too.
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
}

impl<R: Resolver + ?Sized> Resolver for Arc<R> {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        (**self).resolve(host, port)
    }
}

/// The operating system's resolver, which honours the hosts file and the system's configuration.
///
/// It runs on tokio's threads for blocking work. Dropping the future abandons the lookup; the thread
/// is free again when the system answers or gives up.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            // An address needs no lookup, and must not wait for a thread behind slow ones.
            if let Ok(address) = host.parse::<IpAddr>() {
                return Ok(vec![SocketAddr::new(address, port)]);
            }
            let found = tokio::net::lookup_host((host, port)).await;
            let addresses: Vec<_> = found.map_err(|error| failed(host, error))?.collect();
            if addresses.is_empty() {
                let error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                return Err(failed(host, error));
            }
            Ok(addresses)
        })
    }
}

/// Adds the name, which the system's text lacks, and keeps the kind.
fn failed(host: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot resolve {host}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_resolve_to_themselves() {
        let resolver: Arc<dyn Resolver> = Arc::new(SystemResolver);
        for host in ["127.0.0.1", "::1"] {
            let found = resolver.resolve(host, 80).await.expect("an address");
            let expected = SocketAddr::new(host.parse().expect("an address"), 80);
            assert_eq!(found, [expected]);
        }
    }

    #[test]
    fn addresses_need_no_runtime() {
        let mut future = SystemResolver.resolve("127.0.0.1", 80);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(future.as_mut().poll(&mut context).is_ready());
    }

    #[tokio::test]
    async fn localhost_resolves_to_loopback_with_the_port() {
        let found = SystemResolver
            .resolve("localhost", 80)
            .await
            .expect("an address");
        assert!(!found.is_empty());
        assert!(
            found
                .iter()
                .all(|address| address.ip().is_loopback() && address.port() == 80)
        );
    }

    #[tokio::test]
    async fn errors_name_the_host() {
        // A label of 64 bytes is refused without asking anybody.
        let host = format!("{}.invalid", "a".repeat(64));
        let error = SystemResolver
            .resolve(&host, 80)
            .await
            .expect_err("no such name");
        assert!(error.to_string().contains(&host), "{error}");
    }
}

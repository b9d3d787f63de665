//! IPv4 and IPv6: which of them a socket accepts, and networks, which are ranges of addresses with a
//! common prefix.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use socket2::Socket;
use tracing::field::display;

use crate::error::ConfigError;
use crate::events::{self, shown};

/// A range of IP addresses, written as `10.0.0.0/8`, `fd00::/8` or, for one address, `192.0.2.1`.
///
/// An IPv4 address that came by an IPv6 socket, such as `::ffff:192.0.2.1`, is taken as the IPv4 address
/// that it is.
///
/// ```
/// use network_system::Network;
///
/// let private: Network = "10.0.0.0/8".parse()?;
/// assert!(private.contains("10.1.2.3".parse()?));
/// assert!(!private.contains("192.0.2.1".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    /// The first address of the range.
    first: IpAddr,
    prefix: u32,
}

impl Network {
    /// The network of the addresses that have the first `prefix` bits in common with `address`.
    ///
    /// # Errors
    /// The prefix is longer than the address, or the address has bits set behind it, which is more often
    /// a slip than meant.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Network, ConfigError> {
        let width = width(address);
        let prefix = u32::from(prefix);
        if prefix > width {
            let expected = format!("a prefix of at most {width} bits");
            return Err(invalid(format_args!("{address}/{prefix}"), &expected));
        }
        let network = Network {
            first: address,
            prefix,
        };
        if network.masked(address) != bits(address) {
            let expected = "an address with no bits set behind the prefix";
            return Err(invalid(format_args!("{address}/{prefix}"), expected));
        }
        Ok(network.canonical())
    }

    /// Whether the address is one of the network's.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.first.is_ipv4() == address.is_ipv4() && self.masked(address) == bits(self.first)
    }

    /// The address with everything behind the prefix cleared. Only for addresses of the same family.
    fn masked(&self, address: IpAddr) -> u128 {
        let host_bits = width(self.first) - self.prefix;
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        bits(address) & mask
    }

    /// IPv4 networks within `::ffff:0:0/96` become IPv4 networks, as the addresses in them do.
    fn canonical(self) -> Self {
        match self.first.to_canonical() {
            first @ IpAddr::V4(_) if self.first.is_ipv6() && self.prefix >= 96 => Network {
                first,
                prefix: self.prefix - 96,
            },
            _ => self,
        }
    }
}

/// What a socket that is bound to `[::]` accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Families {
    /// IPv6, and IPv4 where the platform can.
    Both,
    /// IPv6 alone.
    Ipv6,
}

impl Families {
    /// What to accept at `addr`, when the same server is to listen at `others` as well.
    ///
    /// A port of IPv4 can be taken once. Whoever lists an IPv4 address beside `[::]` with the same port
    /// means two sockets with a family each, and without this the second could not be bound.
    pub(crate) fn at(addr: SocketAddr, others: impl IntoIterator<Item = SocketAddr>) -> Self {
        let taken = |other: SocketAddr| other.is_ipv4() && other.port() == addr.port();
        match addr.port() != 0 && others.into_iter().any(taken) {
            true => Families::Ipv6,
            false => Families::Both,
        }
    }

    /// Settles it for a socket that is about to be bound to `addr`: otherwise the platform and its
    /// configuration would decide.
    pub(crate) fn apply(self, socket: &Socket, addr: SocketAddr) -> io::Result<()> {
        if !addr.is_ipv6() {
            return Ok(());
        }
        match (self, socket.set_only_v6(self == Families::Ipv6)) {
            // OpenBSD never accepts both.
            (Families::Both, Err(error)) => {
                events::ipv6_only {
                    addr: display(addr),
                    error: shown(error),
                }
                .emit();
                Ok(())
            }
            (_, set) => set,
        }
    }
}

/// Gives an IPv4 address that came by an IPv6 socket (`::ffff:192.0.2.1`) the form that it has anywhere
/// else, so that limits, logs and lists know it.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), addr.port()),
        // The scope of a link-local address stays.
        IpAddr::V6(_) => addr,
    }
}

fn width(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => Ipv4Addr::BITS,
        IpAddr::V6(_) => Ipv6Addr::BITS,
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn invalid(value: impl fmt::Display, expected: &str) -> ConfigError {
    ConfigError::option("network", value, expected)
}

/// The network of one address.
impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        let network = Network {
            first: address,
            prefix: width(address),
        };
        network.canonical()
    }
}

impl FromStr for Network {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || {
            let shown: String = text.escape_debug().take(64).collect();
            invalid(shown, "an address or ADDRESS/PREFIX, such as 10.0.0.0/8")
        };
        let Some((address, prefix)) = text.split_once('/') else {
            let address: IpAddr = text.parse().map_err(|_| malformed())?;
            return Ok(address.into());
        };
        let address = address.parse().map_err(|_| malformed())?;
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed());
        }
        Network::new(address, prefix.parse().map_err(|_| malformed())?)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Network {
        text.parse().expect(text)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn networks_contain_their_first_and_last_address_and_no_neighbour() {
        for (text, first, last, before, behind) in [
            (
                "10.0.0.0/8",
                "10.0.0.0",
                "10.255.255.255",
                "9.255.255.255",
                "11.0.0.0",
            ),
            (
                "192.0.2.8/30",
                "192.0.2.8",
                "192.0.2.11",
                "192.0.2.7",
                "192.0.2.12",
            ),
            (
                "192.0.2.1",
                "192.0.2.1",
                "192.0.2.1",
                "192.0.2.0",
                "192.0.2.2",
            ),
            ("fd00::/8", "fd00::", "fdff:ffff::", "fcff::", "fe00::"),
            ("::1", "::1", "::1", "::", "::2"),
        ] {
            let network = network(text);
            assert!(network.contains(address(first)), "{text} {first}");
            assert!(network.contains(address(last)), "{text} {last}");
            assert!(!network.contains(address(before)), "{text} {before}");
            assert!(!network.contains(address(behind)), "{text} {behind}");
        }
    }

    #[test]
    fn the_whole_of_a_family_is_not_the_other_family() {
        let (four, six) = (network("0.0.0.0/0"), network("::/0"));
        assert!(four.contains(address("255.255.255.255")) && !four.contains(address("::1")));
        assert!(six.contains(address("ff::1")) && !six.contains(address("127.0.0.1")));
    }

    #[test]
    fn mapped_addresses_are_ipv4_addresses() {
        assert!(network("10.0.0.0/8").contains(address("::ffff:10.1.2.3")));
        assert!(network("::ffff:10.0.0.0/104").contains(address("10.1.2.3")));
        assert!(network("::ffff:10.0.0.1").contains(address("10.0.0.1")));
        assert!(!network("::/0").contains(address("::ffff:10.0.0.1")));
        assert_eq!(network("::ffff:10.0.0.0/104").to_string(), "10.0.0.0/8");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "/",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/256",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "10.0.0.1/8",
            "10/8",
            "::/129",
            "fd00::1/8",
            "[::1]",
            "localhost",
            " 10.0.0.0/8",
            "10.0.0.0 /8",
            "fe80::1%1/64",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_ipv4_listener_of_its_own_takes_ipv4_off_the_other() {
        let addr = |text: &str| text.parse::<SocketAddr>().expect(text);
        let all = addr("[::]:80");
        assert_eq!(Families::at(all, []), Families::Both);
        assert_eq!(Families::at(all, [addr("0.0.0.0:80")]), Families::Ipv6);
        assert_eq!(Families::at(all, [addr("127.0.0.1:80")]), Families::Ipv6);
        assert_eq!(
            Families::at(all, [all, addr("0.0.0.0:81"), addr("[::1]:80")]),
            Families::Both
        );
        // Both get a port of their own.
        assert_eq!(
            Families::at(addr("[::]:0"), [addr("0.0.0.0:0")]),
            Families::Both
        );
    }

    #[test]
    fn mapped_peers_get_the_form_of_ipv4() {
        let addr = |text: &str| text.parse::<SocketAddr>().expect(text);
        assert_eq!(
            canonical(addr("[::ffff:192.0.2.1]:80")),
            addr("192.0.2.1:80")
        );
        for same in [
            "192.0.2.1:80",
            "[::1]:80",
            "[fe80::1%3]:80",
            "[::192.0.2.1]:80",
        ] {
            assert_eq!(canonical(addr(same)), addr(same));
        }
    }

    proptest! {
        #[test]
        fn every_network_is_written_as_it_is_read(ip in any::<IpAddr>(), prefix in 0..=128_u8) {
            let prefix = prefix.min(if ip.is_ipv4() { 32 } else { 128 });
            let cleared = Network { first: ip, prefix: prefix.into() }.masked(ip);
            let first = match ip {
                IpAddr::V4(_) => Ipv4Addr::from_bits(cleared as u32).into(),
                IpAddr::V6(_) => Ipv6Addr::from_bits(cleared).into(),
            };
            let network = Network::new(first, prefix).expect("nothing behind the prefix");
            prop_assert_eq!(network.to_string().parse::<Network>().expect("its own text"), network);
            prop_assert!(network.contains(ip) || ip.to_canonical() != ip);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = text.parse::<Network>();
        }
    }
}

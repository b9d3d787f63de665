//! The header of the PROXY protocol, without I/O: <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The longest header of version 1 with its line end, in bytes, as the specification has it.
const V1_MAX: usize = 107;

const V1_START: &[u8] = b"PROXY ";

const V2_START: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The fixed part of version 2, in bytes: the start, version and command, family, length.
const V2_FIXED: usize = 16;

/// The addresses of version 2, in bytes, by family.
const V2_INET: usize = 12;
const V2_INET6: usize = 36;
const V2_UNIX: usize = 216;

/// What version 2 may carry behind the addresses, in bytes. Proxies add an ALPN, a host name, an id and
/// the names in a certificate; 2 KiB hold them several times over.
const V2_EXTENSIONS_MAX: usize = 2 * 1024;

/// The longest header of either version, in bytes.
pub(super) const HEADER_MAX: usize = V2_FIXED + V2_UNIX + V2_EXTENSIONS_MAX;

/// Where a connection came from and where it was made to, as the proxy saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// All of the bytes are of a header, whose end is not among them.
    Incomplete,
    /// The first `length` bytes are a header.
    Complete {
        length: usize,
        /// `None` when the proxy speaks for itself, as in health checks, or does not know, or the
        /// connection came by a Unix socket.
        addresses: Option<Addresses>,
    },
}

/// The bytes are not a header that is understood here. The text says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(&'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PROXY protocol: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// Reads the header at the front of `bytes`, which begin where the connection begins.
///
/// An [`Incomplete`](Parsed::Incomplete) header becomes complete or malformed within [`HEADER_MAX`]
/// bytes.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    if agrees(bytes, V2_START) {
        parse_v2(bytes)
    } else if agrees(bytes, V1_START) {
        parse_v1(bytes)
    } else {
        Err(Malformed("the connection does not begin with a header"))
    }
}

/// Whether `bytes` begin with `start`, as far as they go.
fn agrees(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(byte, start)| byte == start)
}

fn parse_v1(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let within = &bytes[..bytes.len().min(V1_MAX)];
    let Some(end) = within.iter().position(|byte| *byte == b'\r') else {
        return match bytes.len() {
            // The last byte that may come is the line feed behind a carriage return.
            V1_MAX.. => Err(Malformed("no end of the line within 107 bytes")),
            _ => Ok(Parsed::Incomplete),
        };
    };
    match within.get(end + 1) {
        Some(b'\n') => {}
        None if end + 1 < V1_MAX => return Ok(Parsed::Incomplete),
        _ => return Err(Malformed("the line does not end in CR LF")),
    }
    let line = std::str::from_utf8(&bytes[V1_START.len()..end]);
    let mut words = line
        .map_err(|_| Malformed("the line is not text"))?
        .split(' ');
    let addresses = match words.next() {
        // What follows may be anything.
        Some("UNKNOWN") => None,
        Some("TCP4") => Some(v1_addresses::<Ipv4Addr>(&mut words)?),
        Some("TCP6") => Some(v1_addresses::<Ipv6Addr>(&mut words)?),
        _ => return Err(Malformed("expected TCP4, TCP6 or UNKNOWN")),
    };
    if addresses.is_some() && words.next().is_some() {
        return Err(Malformed("more than two addresses and two ports"));
    }
    Ok(Parsed::Complete {
        length: end + 2,
        addresses,
    })
}

fn v1_addresses<'a, A: FromStr + Into<IpAddr>>(
    words: &mut impl Iterator<Item = &'a str>,
) -> Result<Addresses, Malformed> {
    let mut address = || {
        let address = words.next().and_then(|word| word.parse::<A>().ok());
        let address = address.ok_or(Malformed("an address that is none of its family"));
        address.map(Into::into)
    };
    let (source, destination) = (address()?, address()?);
    let mut port = || {
        let port = words.next().and_then(decimal);
        port.ok_or(Malformed("a port that is not a number up to 65535"))
    };
    Ok(Addresses {
        source: SocketAddr::new(source, port()?),
        destination: SocketAddr::new(destination, port()?),
    })
}

/// A number without a sign or leading zeros, which `parse` would let through.
fn decimal(word: &str) -> Option<u16> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit());
    let padded = word.len() > 1 && word.starts_with('0');
    word.parse().ok().filter(|_| plain && !padded)
}

fn parse_v2(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<V2_FIXED>() else {
        return Ok(Parsed::Incomplete);
    };
    let is_local = match fixed[12] {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed("a version or command that is not known")),
    };
    let family = fixed[13];
    let declared = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    // The family of a proxy that speaks for itself is to be ignored.
    let needed = match family {
        _ if is_local => 0,
        0x00 => 0,
        0x11 => V2_INET,
        0x21 => V2_INET6,
        0x31 => V2_UNIX,
        0x12 | 0x22 | 0x32 => return Err(Malformed("datagrams on a stream")),
        _ => return Err(Malformed("an address family that is not known")),
    };
    if declared < needed {
        return Err(Malformed("too short for its addresses"));
    }
    if declared > V2_UNIX + V2_EXTENSIONS_MAX {
        return Err(Malformed("longer than 2264 bytes"));
    }
    let Some(body) = rest.get(..declared) else {
        return Ok(Parsed::Incomplete);
    };
    let addresses = match family {
        0x11 if !is_local => v2_addresses::<4>(body),
        0x21 if !is_local => v2_addresses::<16>(body),
        _ => None,
    };
    Ok(Parsed::Complete {
        length: V2_FIXED + declared,
        addresses,
    })
}

/// Two addresses of `N` bytes and two ports. What is behind them is passed over.
fn v2_addresses<const N: usize>(body: &[u8]) -> Option<Addresses>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = body.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (ports, _) = rest.split_first_chunk::<4>()?;
    let [a, b, c, d] = *ports;
    Some(Addresses {
        source: SocketAddr::new((*source).into(), u16::from_be_bytes([a, b])),
        destination: SocketAddr::new((*destination).into(), u16::from_be_bytes([c, d])),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn complete(header: &[u8]) -> Option<Addresses> {
        match parse(header) {
            Ok(Parsed::Complete { length, addresses }) => {
                assert_eq!(length, header.len());
                addresses
            }
            other => panic!("{other:?}: {}", header.escape_ascii()),
        }
    }

    fn addresses(source: &str, destination: &str) -> Addresses {
        Addresses {
            source: source.parse().expect("an address"),
            destination: destination.parse().expect("an address"),
        }
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = V2_START.to_vec();
        header.extend([command, family]);
        header.extend(u16::try_from(body.len()).expect("short").to_be_bytes());
        header.extend(body);
        header
    }

    fn v2_body(addresses: Addresses) -> Vec<u8> {
        let mut body = Vec::new();
        for addr in [addresses.source, addresses.destination] {
            match addr.ip() {
                IpAddr::V4(ip) => body.extend(ip.octets()),
                IpAddr::V6(ip) => body.extend(ip.octets()),
            }
        }
        for addr in [addresses.source, addresses.destination] {
            body.extend(addr.port().to_be_bytes());
        }
        body
    }

    #[test]
    fn the_examples_of_the_specification_are_read() {
        let four = complete(b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n");
        let all = "255.255.255.255:65535";
        assert_eq!(four, Some(addresses(all, all)));
        let ones = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let six = complete(format!("PROXY TCP6 {ones} {ones} 65535 65535\r\n").as_bytes());
        let all = format!("[{ones}]:65535");
        assert_eq!(six, Some(addresses(&all, &all)));
        assert_eq!(complete(b"PROXY UNKNOWN\r\n"), None);
        let longest = format!("PROXY UNKNOWN {ones} {ones} 65535 65535\r\n");
        assert_eq!(longest.len(), V1_MAX);
        assert_eq!(complete(longest.as_bytes()), None);
    }

    #[test]
    fn what_follows_the_header_is_not_part_of_it() {
        let header = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n";
        let mut bytes = header.to_vec();
        bytes.extend(b"GET / HTTP/1.1\r\nHost: 192.168.0.11\r\n\r\n");
        let expected = Parsed::Complete {
            length: header.len(),
            addresses: Some(addresses("192.168.0.1:56324", "192.168.0.11:443")),
        };
        assert_eq!(parse(&bytes), Ok(expected));
    }

    #[test]
    fn a_line_may_be_as_long_as_specified_and_no_longer() {
        let line = |length: usize| {
            let mut line = b"PROXY UNKNOWN ".to_vec();
            line.resize(length - 2, b'x');
            line.extend(b"\r\n");
            line
        };
        assert_eq!(complete(&line(V1_MAX)), None);
        let long = line(V1_MAX + 1);
        assert!(parse(&long).is_err());
        assert_eq!(parse(&long[..V1_MAX - 1]), Ok(Parsed::Incomplete));
        // The carriage return is in the last place, so its line feed would be outside.
        assert!(parse(&long[..V1_MAX]).is_err());
    }

    #[test]
    fn lines_that_are_not_exactly_as_specified_are_refused() {
        for line in [
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 -1\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 +1 1\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 01 1\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 \r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 1 1\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 1 \r\n",
            "PROXY TCP4 1.2.3.4  5.6.7.8 1 1\r\n",
            "PROXY TCP4\t1.2.3.4 5.6.7.8 1 1\r\n",
            "PROXY TCP4 1.2.3.04 5.6.7.8 1 1\r\n",
            "PROXY TCP4 ::1 ::1 1 1\r\n",
            "PROXY TCP6 1.2.3.4 5.6.7.8 1 1\r\n",
            "PROXY TCP6 [::1] [::1] 1 1\r\n",
            "PROXY TCP6 fe80::1%1 ::1 1 1\r\n",
            "PROXY TCP5 1.2.3.4 5.6.7.8 1 1\r\n",
            "PROXY UDP4 1.2.3.4 5.6.7.8 1 1\r\n",
            "PROXY tcp4 1.2.3.4 5.6.7.8 1 1\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 1\n\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 1\rx",
            "PROXY UNKNOWNS\r\n",
            "PROXY  UNKNOWN\r\n",
            "PROXY \r\n",
            "PROXY\r\n",
            "proxy UNKNOWN\r\n",
            " PROXY UNKNOWN\r\n",
            "GET / HTTP/1.1\r\n",
            "\n",
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line:?}");
        }
        assert!(parse(b"PROXY TCP4 \xff\r\n").is_err());
        // Too long without an end.
        assert!(parse(format!("PROXY {:200}", "").as_bytes()).is_err());
    }

    #[test]
    fn extensions_are_passed_over_up_to_their_limit() {
        let expected = addresses("10.1.2.3:4", "10.5.6.7:8");
        let mut body = v2_body(expected);
        body.resize(V2_UNIX + V2_EXTENSIONS_MAX, 0xa5);
        assert_eq!(complete(&v2(0x21, 0x11, &body)), Some(expected));
        body.push(0);
        // The fixed part is enough to see it.
        assert!(parse(&v2(0x21, 0x11, &body)[..V2_FIXED]).is_err());
    }

    #[test]
    fn a_proxy_that_speaks_for_itself_gives_no_addresses() {
        let body = v2_body(addresses("10.1.2.3:4", "10.5.6.7:8"));
        for family in [0x00, 0x11, 0x12, 0x21, 0x31, 0xff] {
            assert_eq!(complete(&v2(0x20, family, &body)), None);
            assert_eq!(complete(&v2(0x20, family, b"")), None);
        }
        assert_eq!(complete(&v2(0x21, 0x00, b"")), None);
        assert_eq!(complete(&v2(0x21, 0x31, &[b'/'; 216])), None);
    }

    #[test]
    fn version_2_of_another_kind_is_refused() {
        let body = [0; 216];
        for command in [0x00, 0x01, 0x11, 0x22, 0x2f, 0x31, 0xff] {
            assert!(parse(&v2(command, 0x11, &body)).is_err(), "{command:#x}");
        }
        for family in [0x01, 0x10, 0x12, 0x13, 0x20, 0x22, 0x30, 0x32, 0x41, 0xff] {
            assert!(parse(&v2(0x21, family, &body)).is_err(), "{family:#x}");
        }
        for (family, needed) in [(0x11, V2_INET), (0x21, V2_INET6), (0x31, V2_UNIX)] {
            assert!(parse(&v2(0x21, family, &body[..needed - 1])).is_err());
            assert!(parse(&v2(0x21, family, &body[..needed])).is_ok());
        }
    }

    fn any_addresses() -> impl Strategy<Value = Addresses> {
        let four = any::<(Ipv4Addr, Ipv4Addr, u16, u16)>().prop_map(|(a, b, c, d)| Addresses {
            source: (a, c).into(),
            destination: (b, d).into(),
        });
        let six = any::<(Ipv6Addr, Ipv6Addr, u16, u16)>().prop_map(|(a, b, c, d)| Addresses {
            source: (a, c).into(),
            destination: (b, d).into(),
        });
        prop_oneof![four, six]
    }

    fn v1_line(addresses: Addresses) -> Vec<u8> {
        let Addresses {
            source,
            destination,
        } = addresses;
        let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        let (a, b) = (source.ip(), destination.ip());
        let (c, d) = (source.port(), destination.port());
        format!("PROXY {family} {a} {b} {c} {d}\r\n").into_bytes()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_no_part_of_it_alone(
            expected in any_addresses(),
            extensions in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut body = v2_body(expected);
            body.extend(extensions);
            let family = if expected.source.is_ipv4() { 0x11 } else { 0x21 };
            for header in [v1_line(expected), v2(0x21, family, &body)] {
                prop_assert_eq!(complete(&header), Some(expected));
                for end in 0..header.len() {
                    prop_assert_eq!(parse(&header[..end]), Ok(Parsed::Incomplete));
                }
            }
        }

        #[test]
        fn any_bytes_are_decided_within_the_limit(
            start in 0..3_usize,
            bytes in proptest::collection::vec(any::<u8>(), 0..4_000),
        ) {
            let mut all = [&b""[..], V1_START, V2_START][start].to_vec();
            all.extend(bytes);
            match parse(&all) {
                Ok(Parsed::Incomplete) => prop_assert!(all.len() < HEADER_MAX),
                Ok(Parsed::Complete { length, .. }) => prop_assert!(length <= all.len().min(HEADER_MAX)),
                Err(_) => {}
            }
        }

        #[test]
        fn more_bytes_do_not_change_a_decision(
            expected in any_addresses(),
            more in proptest::collection::vec(any::<u8>(), 0..100),
            changed in any::<proptest::sample::Index>(),
            to in any::<u8>(),
        ) {
            let mut header = v1_line(expected);
            let at = changed.index(header.len());
            header[at] = to;
            let before = parse(&header);
            header.extend(more);
            if before != Ok(Parsed::Incomplete) {
                prop_assert_eq!(parse(&header), before);
            }
        }
    }
}

//! The header of the PROXY protocol, versions 1 and 2: for whom a proxy has connected. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use memchr::memmem;

/// The longest header that is read, in bytes. Version 1 ends at 107; in version 2 the addresses take at most 232, and the rest
/// is for what proxies add, which is skipped.
pub const HEADER_BYTES_MAX: usize = 4096;

/// Version 1's longest line, with its end (2.1).
const LINE_BYTES_MAX: usize = 107;

const SIGNATURE_1: &[u8] = b"PROXY ";
const SIGNATURE_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Who has connected.
    pub client: Client,
    /// The header's bytes; what comes behind them is the client's.
    pub length: usize,
}

/// Whom a proxy has connected for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// For nobody that it can name, or for itself, as when it looks whether the server is there: the connection's own address
    /// counts (`UNKNOWN`, `LOCAL`, `UNSPEC`).
    Proxy,
    /// A client at this address.
    At(SocketAddr),
    /// A program on the proxy's own machine, over a Unix socket.
    Local,
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// They begin with something else: the client's own bytes, as a rule.
    #[error("no PROXY header")]
    Missing,
    /// It takes more than version 1 allows, or than is read of version 2.
    #[error("PROXY header too long")]
    TooLong,
    /// A line that version 1 does not know.
    #[error("malformed PROXY line")]
    Line,
    /// A version, command, family or protocol that may not be there, or addresses that are cut off.
    #[error("malformed PROXY header")]
    Binary,
}

/// Reads the header at the beginning of `bytes`; none while it is not whole.
///
/// # Errors
/// A [`Fault`], as soon as it is certain.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, Fault> {
    if begins(bytes, SIGNATURE_2) {
        parse_binary(bytes)
    } else if begins(bytes, SIGNATURE_1) {
        parse_line(bytes)
    } else {
        Err(Fault::Missing)
    }
}

/// Whether `bytes` begin with the signature, as far as they go.
fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(byte, of)| byte == of)
}

/// 2.1: `PROXY TCP4 192.0.2.1 192.0.2.2 40000 1883\r\n`.
fn parse_line(bytes: &[u8]) -> Result<Option<Header>, Fault> {
    let within = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = memmem::find(within, b"\r\n") else {
        return if bytes.len() < LINE_BYTES_MAX {
            Ok(None)
        } else {
            Err(Fault::TooLong)
        };
    };
    let line = within.get(SIGNATURE_1.len()..end).ok_or(Fault::Line)?;
    Ok(Some(Header {
        client: client_of_line(line).ok_or(Fault::Line)?,
        length: end + 2,
    }))
}

fn client_of_line(line: &[u8]) -> Option<Client> {
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Some(Client::Proxy); // whatever stands there besides is ignored
    }
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let family = words.next()?;
    let (source, destination) = (words.next()?, words.next()?);
    let (source_port, destination_port) = (words.next()?, words.next()?);
    if words.next().is_some() {
        return None;
    }
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    address(destination)?;
    port(destination_port)?;
    Some(Client::At(SocketAddr::new(
        address(source)?,
        port(source_port)?,
    )))
}

/// Decimal without leading zeros (2.1).
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let leads = text.len() > 1 && text.starts_with('0');
    (plain && !leads).then(|| text.parse().ok()).flatten()
}

/// 2.2: signature, version and command, family and protocol, length; addresses; what proxies add.
fn parse_binary(bytes: &[u8]) -> Result<Option<Header>, Fault> {
    let Some(&[.., command, family, high, low]) = bytes.first_chunk::<16>() else {
        return Ok(None);
    };
    let (start, length) = (16, usize::from(u16::from_be_bytes([high, low])));
    let proxied = match command {
        0x20 => false,
        0x21 => true,
        _ => return Err(Fault::Binary),
    };
    let addresses = match family {
        _ if !proxied => 0,
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        _ => return Err(Fault::Binary), // datagrams do not come over a stream
    };
    if length < addresses {
        return Err(Fault::Binary);
    }
    if start + length > HEADER_BYTES_MAX {
        return Err(Fault::TooLong);
    }
    let Some(block) = bytes.get(start..start + length) else {
        return Ok(None);
    };
    let client = match addresses {
        12 => client_of_v4(block),
        36 => client_of_v6(block),
        216 => Some(Client::Local),
        _ => Some(Client::Proxy),
    };
    Ok(Some(Header {
        client: client.ok_or(Fault::Binary)?,
        length: start + length,
    }))
}

/// Source, destination, source port, destination port.
fn client_of_v4(block: &[u8]) -> Option<Client> {
    let source: [u8; 4] = *block.first_chunk()?;
    let port: [u8; 2] = *block.get(8..)?.first_chunk()?;
    Some(at(Ipv4Addr::from(source).into(), port))
}

fn client_of_v6(block: &[u8]) -> Option<Client> {
    let source: [u8; 16] = *block.first_chunk()?;
    let port: [u8; 2] = *block.get(32..)?.first_chunk()?;
    Some(at(Ipv6Addr::from(source).into(), port))
}

fn at(ip: IpAddr, port: [u8; 2]) -> Client {
    Client::At(SocketAddr::new(ip, u16::from_be_bytes(port)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(bytes: &[u8]) -> Header {
        parse(bytes).unwrap().unwrap()
    }

    fn at(text: &str) -> Client {
        Client::At(text.parse().unwrap())
    }

    fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [SIGNATURE_2, &[command, family], &length, block].concat()
    }

    #[test]
    fn a_line_names_the_client_and_what_follows_is_not_touched() {
        let line = b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 1883\r\n\x10\x00";
        let header = whole(line);
        assert_eq!(header.client, at("192.0.2.7:40000"));
        assert_eq!(&line[header.length..], b"\x10\x00");
        let six = whole(b"PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n");
        assert_eq!(six.client, at("[2001:db8::7]:1"));
    }

    #[test]
    fn a_line_that_does_not_know_the_client_may_say_anything() {
        for line in [
            "PROXY UNKNOWN\r\n",
            "PROXY UNKNOWN ffff::1 x y 99999\r\n",
            "PROXY UNKNOWN \u{e9}\r\n",
        ] {
            assert_eq!(whole(line.as_bytes()).client, Client::Proxy, "{line:?}");
        }
    }

    #[test]
    fn a_line_is_read_to_the_letter() {
        for line in [
            "PROXY TCP4 192.0.2.7 192.0.2.1 40000\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 40000 1883 \r\n",
            "PROXY TCP4  192.0.2.7 192.0.2.1 40000 1883\r\n",
            "PROXY TCP4 192.0.2.07 192.0.2.1 40000 1883\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 040000 1883\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 +4 1883\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 65536 1883\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1  1883\r\n",
            "PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
            "PROXY TCP6 192.0.2.7 192.0.2.1 1 2\r\n",
            "PROXY TCP4 192.0.2.7 x 1 2\r\n",
            "PROXY UDP4 192.0.2.7 192.0.2.1 1 2\r\n",
            "PROXY tcp4 192.0.2.7 192.0.2.1 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY \r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 1 2\n\r\n",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(Fault::Line), "{line:?}");
        }
    }

    #[test]
    fn a_line_ends_within_107_bytes() {
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(91));
        assert_eq!(whole(longest.as_bytes()).length, 107);
        let longer = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
        assert_eq!(parse(longer.as_bytes()), Err(Fault::TooLong));
    }

    #[test]
    fn a_binary_header_names_the_client_and_its_additions_are_skipped() {
        let four = [192, 0, 2, 7, 192, 0, 2, 1, 0x9c, 0x40, 0x07, 0x5b];
        assert_eq!(
            whole(&binary(0x21, 0x11, &four)).client,
            at("192.0.2.7:40000")
        );
        let added = [&four[..], &[0x20, 0, 3, 1, 2, 3, 0xff]].concat();
        let header = whole(&binary(0x21, 0x11, &added));
        assert_eq!(
            (header.client, header.length),
            (at("192.0.2.7:40000"), 16 + added.len())
        );
        let mut six = [0; 36];
        six[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        six[15] = 7;
        six[33] = 9;
        assert_eq!(
            whole(&binary(0x21, 0x21, &six)).client,
            at("[2001:db8::7]:9")
        );
        assert_eq!(whole(&binary(0x21, 0x31, &[0; 216])).client, Client::Local);
    }

    #[test]
    fn a_binary_header_may_be_the_proxys_own() {
        assert_eq!(whole(&binary(0x20, 0x00, &[])).client, Client::Proxy);
        // Whatever the block of a LOCAL one says is skipped.
        assert_eq!(whole(&binary(0x20, 0x11, &[1, 2])).client, Client::Proxy);
        assert_eq!(whole(&binary(0x20, 0xff, &[0; 12])).client, Client::Proxy);
        assert_eq!(whole(&binary(0x21, 0x00, &[9; 5])).client, Client::Proxy);
    }

    #[test]
    fn a_binary_header_with_what_may_not_be_there_is_refused() {
        for (command, family, bytes) in [
            (0x11, 0x11, 12),
            (0x22, 0x11, 12),
            (0x31, 0x11, 12),
            (0x21, 0x12, 12),
            (0x21, 0x41, 12),
            (0x21, 0x10, 12),
            (0x21, 0x01, 12),
            (0x21, 0x11, 11),
            (0x21, 0x21, 35),
            (0x21, 0x31, 215),
        ] {
            let header = binary(command, family, &vec![0; bytes]);
            assert_eq!(
                parse(&header),
                Err(Fault::Binary),
                "{command:x} {family:x} {bytes}"
            );
        }
        let most = HEADER_BYTES_MAX - 16;
        assert!(parse(&binary(0x21, 0x11, &vec![0; most])).is_ok());
        let more = binary(0x21, 0x11, &vec![0; most + 1]);
        assert_eq!(parse(&more), Err(Fault::TooLong));
    }

    #[test]
    fn what_a_client_says_by_itself_is_no_header() {
        for bytes in [
            &b"\x10\x0c\x00\x04MQTT"[..],
            b"GET / HTTP/1.1\r\n",
            b"PUT / HTTP/1.1\r\n",
            b"PROXZ",
            b"\r\n\r\n\0\r\nQUIT\r",
            b"\r\nP",
        ] {
            assert_eq!(parse(bytes), Err(Fault::Missing), "{bytes:?}");
        }
    }

    fn header() -> impl Strategy<Value = (Vec<u8>, Client)> {
        let line = (any::<[u8; 4]>(), any::<[u8; 4]>(), any::<(u16, u16)>()).prop_map(
            |(from, to, (port, other))| {
                let (from, to) = (Ipv4Addr::from(from), Ipv4Addr::from(to));
                let text = format!("PROXY TCP4 {from} {to} {port} {other}\r\n");
                let client = Client::At(SocketAddr::new(from.into(), port));
                (text.into_bytes(), client)
            },
        );
        let additions = proptest::collection::vec(any::<u8>(), 0..64);
        let six = (any::<[u8; 16]>(), any::<u16>(), additions).prop_map(|(from, port, added)| {
            let ports = [port.to_be_bytes(), [0, 1]].concat();
            let block = [&from[..], &[0; 16], &ports, &added].concat();
            let client = Client::At(SocketAddr::new(Ipv6Addr::from(from).into(), port));
            (binary(0x21, 0x21, &block), client)
        });
        prop_oneof![line, six]
    }

    proptest! {
        #[test]
        fn a_header_is_whole_at_its_last_byte_and_not_before(
            (header, client) in header(),
            behind in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            for cut in 0..header.len() {
                prop_assert_eq!(parse(&header[..cut]), Ok(None), "cut at {}", cut);
            }
            let bytes = [&header[..], &behind].concat();
            prop_assert_eq!(parse(&bytes), Ok(Some(Header { client, length: header.len() })));
        }
    }
}

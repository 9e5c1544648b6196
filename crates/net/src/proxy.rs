//! Proxies that say for whom they connect, by the PROXY protocol (versions 1 and 2).

pub mod header;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;

use self::header::{Client, Fault, HEADER_BYTES_MAX, Header};
use crate::{Peer, Signal, Socket, limit_met};

/// Who may say for whom it connects: addresses and networks for the TCP port, and the word `unix` for the Unix socket. Where
/// one is named, each connection of that listener must come from it and begin with the header.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Proxies {
    networks: Vec<Network>,
    unix: bool,
}

impl Proxies {
    /// The proxies in front of a TCP port, if any: their headers must come within `header_timeout`, which is the `setting`.
    pub fn of_tcp(&self, header_timeout: Duration, setting: &'static str) -> Option<Proxied> {
        (!self.networks.is_empty()).then(|| Proxied {
            trusted: self.networks.clone(),
            header_timeout,
            setting,
        })
    }

    /// The proxies in front of a Unix socket, if any.
    pub fn of_unix(&self, header_timeout: Duration, setting: &'static str) -> Option<Proxied> {
        self.unix.then(|| Proxied {
            trusted: Vec::new(),
            header_timeout,
            setting,
        })
    }

    /// Whether one is named that comes over a Unix socket.
    pub fn over_unix(&self) -> bool {
        self.unix
    }
}

impl TryFrom<Vec<String>> for Proxies {
    type Error = NotANetwork;

    fn try_from(words: Vec<String>) -> Result<Self, NotANetwork> {
        let mut proxies = Self::default();
        for word in words {
            if word == "unix" {
                proxies.unix = true;
            } else {
                proxies.networks.push(word.parse()?);
            }
        }
        Ok(proxies)
    }
}

impl From<Proxies> for Vec<String> {
    fn from(proxies: Proxies) -> Self {
        let networks = proxies.networks.iter().map(Network::to_string);
        let unix = proxies.unix.then(|| "unix".to_owned());
        networks.chain(unix).collect()
    }
}

/// An address, or all that share its first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// What is neither an address nor a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an address or a network such as \"192.0.2.1\" or \"10.0.0.0/8\", got {0:?}")]
pub struct NotANetwork(String);

impl Network {
    /// Whether the address lies in it. An IPv4 address is one, also where it comes as IPv6.
    pub fn holds(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differ = network.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differ = network.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let not = || NotANetwork(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| not())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse().map_err(|_| not())?,
            None => most,
        };
        if bits > most {
            return Err(not());
        }
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = if self.address.is_ipv4() { 32 } else { 128 };
        if self.bits == most {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{}/{}", self.address, self.bits)
        }
    }
}

/// The proxies in front of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxied {
    /// Of a TCP port; who reaches a Unix socket is trusted.
    trusted: Vec<Network>,
    header_timeout: Duration,
    setting: &'static str,
}

impl Proxied {
    /// Whether a connection from there may be a proxy's.
    pub(crate) fn trusts(&self, peer: Peer) -> bool {
        match peer {
            Peer::At(address) => self
                .trusted
                .iter()
                .any(|network| network.holds(address.ip())),
            Peer::Local => true,
        }
    }

    /// Reads the header: the same socket behind it, and who the client is.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn introduce(
        &self,
        mut socket: Socket,
        proxy: Peer,
    ) -> Result<(Socket, Peer), Refused> {
        socket.life().expire_in(self.header_timeout);
        let mut bytes = BytesMut::with_capacity(256);
        let header = loop {
            match header::parse(&bytes).map_err(Refused::Fault)? {
                Some(header) => break header,
                None => self.read(&mut socket, &mut bytes).await?,
            }
        };
        socket.life().keep();
        let Header { client, length } = header;
        // In memory of its own: the buffer is not kept for a few bytes.
        let behind = bytes.get(length..).unwrap_or_default().to_vec();
        let peer = match client {
            Client::Proxy => proxy,
            Client::At(address) => Peer::At(address),
            Client::Local => Peer::Local,
        };
        Ok((socket.after(behind.into()), peer))
    }

    async fn read(&self, socket: &mut Socket, bytes: &mut BytesMut) -> Result<(), Refused> {
        let life = Arc::clone(socket.life());
        // As long as the header is not whole, it fits.
        let left = HEADER_BYTES_MAX.saturating_sub(bytes.len());
        let mut room = bytes.limit(left);
        let read = tokio::select! {
            read = socket.read_buf(&mut room) => read,
            signal = life.signal() => return Err(match signal {
                Signal::Drain => Refused::Ended,
                Signal::Expired => {
                    limit_met(self.setting);
                    Refused::Late
                }
            }),
        };
        match read {
            Ok(0) | Err(_) => Err(Refused::Ended),
            Ok(_) => Ok(()),
        }
    }
}

/// Why a connection was not introduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// It comes from elsewhere.
    #[error("not from a trusted proxy")]
    Stranger,
    /// What it says is no header.
    #[error(transparent)]
    Fault(Fault),
    /// It took too long to say it.
    #[error("no whole PROXY header in time")]
    Late,
    /// It ended before, or the server does.
    #[error("ended before its PROXY header")]
    Ended,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_holds_what_shares_its_first_bits() {
        for (text, address, holds) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.128/25", "192.0.2.127", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "192.0.2.1", false),
            ("::1", "::1", true),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(network(text).holds(address), holds, "{text} {address}");
        }
    }

    #[test]
    fn what_is_no_network_is_told_what_one_looks_like() {
        for text in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "proxy",
            "10/8",
        ] {
            let error = text.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains("10.0.0.0/8"), "{error}");
        }
    }

    #[test]
    fn proxies_are_written_as_they_are_read() {
        let words = ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "unix"];
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let proxies = Proxies::try_from(words.clone()).unwrap();
        assert_eq!(Vec::from(proxies), words);
    }

    #[test]
    fn each_listener_has_its_own_proxies() {
        let of = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            let proxies = Proxies::try_from(words).unwrap();
            let second = Duration::from_secs(1);
            (
                proxies.of_tcp(second, "a").is_some(),
                proxies.of_unix(second, "a").is_some(),
            )
        };
        assert_eq!(of(&[]), (false, false));
        assert_eq!(of(&["10.0.0.0/8"]), (true, false));
        assert_eq!(of(&["unix"]), (false, true));
        assert_eq!(of(&["::1", "unix"]), (true, true));
    }
}

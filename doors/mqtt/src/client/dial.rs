//! From an address to a connection that has been let in (3.1, 3.2).

use std::io;
use std::num::{NonZeroU16, NonZeroU32};
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::{Lost, Wire, in_words, not_expected};
use crate::codec::{
    Connack, Connect, ConnectProperties, DecodeLimits, Decoder, Packet, ReasonCode, Text, Version,
};

/// MQTT's port where none is said.
const PORT: u16 = 1883;

/// How long a broker may take for its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Where another broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Over TLS.
    #[error(
        "TLS is not there yet: expected mqtt://HOST:PORT, or a local proxy that speaks TLS for it"
    )]
    Tls,
    /// With a user's name, which is not for logs.
    #[error(
        "expected mqtt://HOST:PORT without a user: user name and password have places of their own"
    )]
    User,
    /// Anything else.
    #[error("expected mqtt://HOST:PORT or HOST:PORT, got {0:?}")]
    Odd(String),
}

impl FromStr for Address {
    type Err = AddressError;

    /// Reads `mqtt://host:port`, `host:port`, `host`, `[::1]:1883`.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let odd = || AddressError::Odd(text.to_owned());
        let rest = match text.split_once("://") {
            None => text,
            Some(("mqtt" | "tcp", rest)) => rest,
            Some(("mqtts" | "ssl" | "tls", _)) => return Err(AddressError::Tls),
            Some(_) => return Err(odd()),
        };
        if rest.contains('@') {
            return Err(AddressError::User);
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(odd)?;
                let port = match port.strip_prefix(':') {
                    Some(port) => Some(port),
                    None if port.is_empty() => None,
                    None => return Err(odd()),
                };
                (host, port)
            }
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(odd)?,
            None => PORT,
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
        if host.is_empty() || !host.chars().all(fits) {
            return Err(odd());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "mqtt://[{host}]:{port}")
        } else {
            write!(f, "mqtt://{host}:{port}")
        }
    }
}

/// What is spoken to a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speech {
    /// 5.0
    V5,
    /// 3.1.1 with bit 7 of the level set: to mosquitto that is a bridge, which is not sent what it sent itself, and sees RETAIN
    /// as it was published.
    Bridge3,
    /// 3.1.1
    V3,
}

impl Speech {
    /// The version of it.
    pub(crate) fn version(self) -> Version {
        match self {
            Self::V5 => Version::V5,
            Self::Bridge3 | Self::V3 => Version::V3_1_1,
        }
    }
}

/// What is said in CONNECT.
#[derive(Clone)]
pub(crate) struct Hello {
    pub(crate) client_id: Text,
    pub(crate) user_name: Option<Text>,
    pub(crate) password: Option<Bytes>,
    pub(crate) keep_alive_s: u16,
    pub(crate) clean_start: bool,
    pub(crate) session_expiry_s: u32,
    pub(crate) receive_maximum: Option<NonZeroU16>,
    pub(crate) packet_bytes_max: Option<NonZeroU32>,
}

impl Hello {
    fn packet(self, speech: Speech) -> Packet {
        let version = speech.version();
        let mut properties = ConnectProperties::default();
        if version.is_5() {
            properties.session_expiry_s = Some(self.session_expiry_s).filter(|s| *s > 0);
            properties.receive_maximum = self.receive_maximum;
            properties.packet_bytes_max = self.packet_bytes_max;
        }
        Packet::Connect(Box::new(Connect {
            version,
            bridge: speech == Speech::Bridge3,
            clean_start: self.clean_start,
            keep_alive_s: self.keep_alive_s,
            client_id: self.client_id,
            will: None,
            user_name: self.user_name,
            password: self.password,
            properties,
        }))
    }
}

/// Why a broker did not let a client in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// It can't be reached.
    #[error("can't reach it: {0}")]
    Connect(#[source] io::Error),
    /// It does not speak this version.
    #[error("it does not speak {}", match .0 { Version::V5 => "MQTT 5.0", _ => "MQTT 3.1.1" })]
    Version(Version),
    /// It said no.
    #[error("it refused the connection: {}", in_words(*.0, .1))]
    Refused(ReasonCode, String),
    /// It did not answer in time.
    #[error("it did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Silent,
    /// The connection ended instead of an answer.
    #[error("{0}")]
    Lost(#[from] Lost),
}

/// Connects to a broker.
pub(crate) async fn dial(
    address: &Address,
    speech: Speech,
    hello: Hello,
) -> Result<(Wire<TcpStream>, Connack), DialError> {
    let connecting = async {
        let stream = TcpStream::connect((address.host.as_str(), address.port))
            .await
            .map_err(DialError::Connect)?;
        stream.set_nodelay(true).map_err(DialError::Connect)?;
        greet(stream, speech, hello).await
    };
    match tokio::time::timeout(ANSWER_TIMEOUT, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(DialError::Silent),
    }
}

/// Says CONNECT, and waits for the answer.
pub(crate) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    speech: Speech,
    hello: Hello,
) -> Result<(Wire<S>, Connack), DialError> {
    let version = speech.version();
    let mut wire = Wire::new(stream, version);
    wire.send(&hello.packet(speech))?;
    let connack = connack(&mut wire).await?;
    match connack.reason {
        ReasonCode::Success => Ok((wire, connack)),
        ReasonCode::UnsupportedProtocolVersion => Err(DialError::Version(version)),
        reason => {
            let words = connack.properties.reason_string.as_ref();
            let words = words.map_or_else(String::new, |words| words.as_str().to_owned());
            Err(DialError::Refused(reason, words))
        }
    }
}

/// Reads the answer. A broker that knows 3.x only answers 5.0 in its own way: by two bytes behind the head.
async fn connack<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>) -> Result<Connack, Lost> {
    wire.flush().await?;
    while wire.inbound.len() < 2 {
        std::future::poll_fn(|cx| wire.poll_read(cx)).await?;
    }
    let usual = wire.decoder.clone();
    if wire.inbound.starts_with(&[0x20, 2]) {
        wire.decoder = Decoder::with_version(Version::V3_1_1, DecodeLimits::default());
    }
    let packet = wire.next().await?;
    wire.decoder = usual;
    match packet {
        Packet::Connack(connack) => Ok(*connack),
        other => Err(not_expected(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_leave_out_its_scheme_and_its_port() {
        for (text, address) in [
            ("mqtt://broker:1884", "mqtt://broker:1884"),
            ("broker", "mqtt://broker:1883"),
            ("10.0.0.7:1", "mqtt://10.0.0.7:1"),
            ("mqtt://[::1]:1884/", "mqtt://[::1]:1884"),
            ("[fe80::1%eth0]", "mqtt://[fe80::1%eth0]:1883"),
        ] {
            let parsed = text.parse::<Address>().map(|parsed| parsed.to_string());
            assert_eq!(parsed.as_deref(), Ok(address), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_one_looks_like() {
        for text in [
            "", "mqtt://", "http://x", "x:0", "x:99999", "a b", "x:1:2", "[::1", "[::1]1", "x/y",
        ] {
            assert!(
                matches!(text.parse::<Address>(), Err(AddressError::Odd(_))),
                "{text}"
            );
        }
        assert_eq!("mqtts://x".parse::<Address>(), Err(AddressError::Tls));
        assert_eq!(
            "mqtt://me:secret@x".parse::<Address>(),
            Err(AddressError::User)
        );
    }
}

//! The opening handshake (RFC 6455, section 4).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method, Version, header};
use tokio::io::AsyncWriteExt;

use super::WebSocket;
use crate::Socket;

/// A request to open a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    accept: String,
    /// The subprotocols that the client offers, its favourite first.
    pub offered: Vec<String>,
    /// More fields of the answer, as they go out.
    fields: String,
}

/// Why a request to open a WebSocket can't be answered with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    /// It is not a GET of HTTP/1.1, or `Connection` does not say `upgrade`.
    #[error("a WebSocket is opened by a GET with Connection: Upgrade")]
    NotAnUpgrade,
    /// A version other than 13.
    #[error("the WebSocket version is 13")]
    Version,
    /// No key, several, or not 16 bytes.
    #[error("Sec-WebSocket-Key is 16 bytes in base64")]
    Key,
}

/// Whether a request asks for a WebSocket, well or badly.
pub fn is_asked(headers: &HeaderMap) -> bool {
    has_token(headers, header::UPGRADE, "websocket")
}

impl Opening {
    /// Reads the handshake of a request for which [`is_asked`] holds.
    ///
    /// # Errors
    /// [`OpeningError`] if it is none.
    pub fn parse(
        method: &Method,
        version: Version,
        headers: &HeaderMap,
    ) -> Result<Self, OpeningError> {
        if method != Method::GET
            || version != Version::HTTP_11
            || !has_token(headers, header::CONNECTION, "upgrade")
        {
            return Err(OpeningError::NotAnUpgrade);
        }
        if headers
            .get(header::SEC_WEBSOCKET_VERSION)
            .is_none_or(|version| version != "13")
        {
            return Err(OpeningError::Version);
        }
        let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
        let key = keys
            .next()
            .and_then(|key| key.to_str().ok())
            .map(str::trim)
            .ok_or(OpeningError::Key)?;
        if keys.next().is_some() || STANDARD.decode(key).ok().is_none_or(|key| key.len() != 16) {
            return Err(OpeningError::Key);
        }
        let offered = tokens(headers, header::SEC_WEBSOCKET_PROTOCOL)
            .map(str::to_owned)
            .collect();
        Ok(Self {
            accept: accept_of(key),
            offered,
            fields: String::new(),
        })
    }

    /// Adds a field to the answer. Name and value are the server's own.
    pub fn add_field(&mut self, name: &str, value: &str) {
        for piece in [name, ": ", value, "\r\n"] {
            self.fields.push_str(piece);
        }
    }

    /// Answers 101 on a socket that was taken over, and gives the frames that follow.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn accept(
        &self,
        mut socket: Socket,
        subprotocol: Option<&str>,
        message_bytes_max: usize,
    ) -> std::io::Result<WebSocket> {
        let mut head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n",
            self.accept
        );
        if let Some(subprotocol) = subprotocol {
            head.push_str("Sec-WebSocket-Protocol: ");
            head.push_str(subprotocol);
            head.push_str("\r\n");
        }
        head.push_str(&self.fields);
        head.push_str("\r\n");
        socket.write_all(head.as_bytes()).await?;
        Ok(WebSocket::new(socket, message_bytes_max))
    }
}

/// RFC 6455, 4.2.2.
fn accept_of(key: &str) -> String {
    let mut sha1 = sha1_smol::Sha1::new();
    sha1.update(key.as_bytes());
    sha1.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(sha1.digest().bytes())
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|given| given.eq_ignore_ascii_case(token))
}

fn tokens(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, header::HeaderValue::from_static(value));
        }
        headers
    }

    const GOOD: [(&str, &str); 4] = [
        ("upgrade", "WebSocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn the_key_is_answered_as_the_standard_shows() {
        let opening = Opening::parse(&Method::GET, Version::HTTP_11, &headers(&GOOD)).unwrap();
        assert_eq!(opening.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(opening.offered.is_empty());
    }

    #[test]
    fn offered_subprotocols_are_read_over_several_fields() {
        let mut fields = headers(&GOOD);
        fields.append("sec-websocket-protocol", "mqtt, v12.stomp".parse().unwrap());
        fields.append("sec-websocket-protocol", "x".parse().unwrap());
        let opening = Opening::parse(&Method::GET, Version::HTTP_11, &fields).unwrap();
        assert_eq!(opening.offered, ["mqtt", "v12.stomp", "x"]);
    }

    #[test]
    fn half_a_handshake_is_none() {
        let without = |name: &str| {
            headers(
                &GOOD
                    .iter()
                    .copied()
                    .filter(|(field, _)| *field != name)
                    .collect::<Vec<_>>(),
            )
        };
        let parse = |fields: &HeaderMap| {
            Opening::parse(&Method::GET, Version::HTTP_11, fields).unwrap_err()
        };
        assert_eq!(parse(&without("connection")), OpeningError::NotAnUpgrade);
        assert_eq!(
            parse(&without("sec-websocket-version")),
            OpeningError::Version
        );
        assert_eq!(parse(&without("sec-websocket-key")), OpeningError::Key);
        let mut short = without("sec-websocket-key");
        short.append("sec-websocket-key", "AAAA".parse().unwrap());
        assert_eq!(parse(&short), OpeningError::Key);
        assert!(Opening::parse(&Method::POST, Version::HTTP_11, &headers(&GOOD)).is_err());
    }
}

//! Where to listen, as people write it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// HTTP's port where none is said.
pub const HTTP_PORT: u16 = 9000;

/// MQTT's.
pub const MQTT_PORT: u16 = 1883;

/// Reads `9000`, `:9000`, `127.0.0.1`, `localhost:9000`, `[::1]:9000`. What is left out is loopback, and `default_port`.
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse(text: &str, default_port: u16) -> Result<SocketAddr, String> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let text = text.trim();
    let numbers = text.replacen("localhost", "127.0.0.1", 1);
    if let Ok(port) = numbers.strip_prefix(':').unwrap_or(&numbers).parse() {
        return Ok(SocketAddr::new(loopback, port));
    }
    if let Ok(address) = numbers.parse() {
        return Ok(address);
    }
    let host = numbers
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(&numbers);
    host.parse()
        .map(|host| SocketAddr::new(host, default_port))
        .map_err(|_| {
            format!(
                "expected an address such as 127.0.0.1:{default_port}, [::]:{default_port} or :{default_port}, got {text:?}"
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_leave_out_its_host_or_its_port() {
        for (text, address) in [
            ("9001", "127.0.0.1:9001"),
            (":0", "127.0.0.1:0"),
            ("localhost:80", "127.0.0.1:80"),
            ("localhost", "127.0.0.1:9000"),
            ("0.0.0.0", "0.0.0.0:9000"),
            ("[::1]", "[::1]:9000"),
            ("::1", "[::1]:9000"),
            ("[::]:9000", "[::]:9000"),
        ] {
            assert_eq!(
                parse(text, HTTP_PORT)
                    .map(|address| address.to_string())
                    .as_deref(),
                Ok(address),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_address_is_told_what_one_looks_like() {
        for text in ["", "example", "1.2.3.4:99999", "127.0.0.1:", "a b"] {
            assert!(parse(text, HTTP_PORT).is_err(), "{text}");
        }
    }
}

//! `[http]` in the configuration.

use std::time::Duration;

use sapwood_net::Proxies;
use serde::{Deserialize, Serialize};

/// `[http]` in sapwood.toml.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Where to listen: `address:port`, or `:port` on loopback. Port 0 takes a free one.
    pub listen: String,
    /// Proxies that begin each connection with the PROXY protocol's header (version 1 or 2): addresses and networks, such as
    /// `["10.0.0.0/8"]`. Where some are named, a connection from elsewhere, or without the header, is refused.
    pub proxy_protocol: Proxies,
    /// Serve `/metrics`, `/healthz` and `/readyz` beside `/.sapwood/metrics` and so on. `false` frees the names for data.
    pub bare_names: bool,
    /// `/.echo` sends back what it gets on a WebSocket: for conformance tests.
    pub echo: bool,
    /// Folder whose files are served by GET. Empty: `public` beside the configuration file (else in the working folder),
    /// whenever it is there.
    pub public: String,
    /// Largest body of a request and largest message on a WebSocket, in bytes. A larger one is answered 413, or ends the WebSocket with 1009.
    pub body_bytes_max: usize,
    /// Largest request line and header fields together, in bytes. More is answered 431, or 414 if the request line alone is too long.
    pub head_bytes_max: usize,
    /// Most header fields of a request. More are answered 431.
    pub head_fields_max: usize,
    /// Time for a request's line and fields to arrive, in seconds; for the first request from the start of the connection. Later is answered 408.
    pub head_timeout_s: u64,
    /// Time that a connection may wait between two requests, in seconds.
    pub idle_timeout_s: u64,
    /// Time for which a client may take nothing of what is written to it, in seconds. Then the connection ends.
    pub write_timeout_s: u64,
    /// Slowest body that is waited for, in bytes per second. A slower one is answered 408, or ends the WebSocket with 1008.
    pub body_rate_min: u64,
    /// Most connections in all. 0: as many as the process may have descriptors, less a reserve.
    pub connections_max: usize,
    /// Most connections from one address (of IPv6, from one /64). Loopback is exempt.
    pub connections_per_address_max: usize,
    /// Most connections from one address that have not sent a request yet. Loopback is exempt.
    pub waiting_per_address_max: usize,
    /// Most operations in one batch.
    pub batch_operations_max: usize,
    /// Time between two comments on a quiet event stream, in seconds.
    pub comment_interval_s: u64,
    /// Time between two pings on a quiet WebSocket, in seconds. Without any sign of life for two of them, it ends.
    pub ping_interval_s: u64,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: ":9000".to_owned(),
            proxy_protocol: Proxies::default(),
            bare_names: true,
            echo: false,
            public: String::new(),
            body_bytes_max: 16 << 20,
            head_bytes_max: 64 << 10,
            head_fields_max: 100,
            head_timeout_s: 10,
            idle_timeout_s: 75,
            write_timeout_s: 60,
            body_rate_min: 500,
            connections_max: 0,
            connections_per_address_max: 1000,
            waiting_per_address_max: 100,
            batch_operations_max: 10_000,
            comment_interval_s: 15,
            ping_interval_s: 30,
        }
    }
}

impl HttpConfig {
    /// What bounds a connection's requests.
    pub fn connection_limits(&self) -> sapwood_net::http::Limits {
        sapwood_net::http::Limits {
            head_bytes_max: self.head_bytes_max.max(1024),
            fields_max: self.head_fields_max,
            head_timeout: Duration::from_secs(self.head_timeout_s.max(1)),
            idle_timeout: Duration::from_secs(self.idle_timeout_s.max(1)),
        }
    }

    /// What bounds the number of connections.
    pub fn listener_limits(&self) -> sapwood_net::Limits {
        sapwood_net::Limits {
            connections_max: self.connections_max,
            connections_per_address_max: self.connections_per_address_max,
            waiting_per_address_max: self.waiting_per_address_max,
            message_rate_min: self.body_rate_min.max(1),
            write_timeout: Duration::from_secs(self.write_timeout_s.max(1)),
        }
    }
}

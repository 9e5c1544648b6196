//! `[mqtt]` in the configuration.

use std::num::NonZeroU16;
use std::time::Duration;

use sapwood_net::Proxies;
use serde::{Deserialize, Serialize};

use crate::bridge::BridgeConfig;
use crate::codec::DecodeLimits;
use crate::machine::Settings;
use crate::rules::{AcceptRule, PayloadRule};
use crate::subscriptions::SubscriptionLimits;

/// `[mqtt]` in sapwood.toml.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MqttConfig {
    /// Where to listen: `address:port`, or `:port` on loopback. Port 0 takes a free one, `"off"` closes the door. Empty: port 1883
    /// on loopback in `dev` (the next free one if it is taken), and nowhere in `serve`. `unix:/path` listens at that Unix socket
    /// instead.
    pub listen: String,
    /// A Unix socket to listen at, too: its path. Empty: none. One that nobody listens at any more is replaced.
    pub unix: String,
    /// Who may connect to the Unix socket: its permission bits, in octal.
    pub unix_mode: String,
    /// Proxies that begin each connection with the PROXY protocol's header (version 1 or 2): addresses and networks, such as
    /// `["10.0.0.0/8"]`, for the TCP port, and `"unix"` for the Unix socket. Where some are named, a connection from elsewhere,
    /// or without the header, is refused.
    pub proxy_protocol: Proxies,
    /// Serve MQTT on the HTTP port, too, over WebSockets with the subprotocol `mqtt`, at any path.
    pub websocket: bool,
    /// Largest packet from a client, in bytes; at most 268,435,455. A larger one ends the connection with 0x95.
    pub packet_bytes_max: u32,
    /// Largest CONNECT, in bytes. A larger one ends the connection.
    pub connect_bytes_max: u32,
    /// Time for a connection's CONNECT to arrive, in seconds. Later it ends.
    pub connect_timeout_s: u64,
    /// Most filters in one SUBSCRIBE or UNSUBSCRIBE. More end the connection with 0x97.
    pub filters_max: usize,
    /// Most subscriptions of one session. More are answered 0x97.
    pub subscriptions_max: usize,
    /// Longest query of a subscription, in bytes. A longer one is answered 0x83.
    pub query_bytes_max: usize,
    /// Most conditions in a query. More are answered 0x83.
    pub query_terms_max: usize,
    /// Topics that a session is known to hold by its queries. Beyond them, a record that changes and does not match is told as a
    /// removal, whether it matched before or not.
    pub query_topics_max: usize,
    /// Unacknowledged messages of QoS 1 and 2 that a client may have sent (5.0's receive maximum). More end the connection with 0x93.
    pub receive_maximum: u16,
    /// Unacknowledged messages of QoS 1 and 2 toward a client, if it takes that many.
    pub in_flight_max: u16,
    /// Messages that wait in memory for a client that is there. At the limit the oldest of QoS 0 go first; then those of QoS 1 and 2
    /// wait in the store if its session is kept, and else it is told 0x97.
    pub queued_max: usize,
    /// What waits so, in bytes.
    pub queued_bytes_max: usize,
    /// Bytes that wait in the server for a client to take them. Until it does, nothing more is taken from it or from the tree.
    pub outbound_bytes_max: usize,
    /// Messages of QoS 1 and 2 that a client finds when it comes back after having been away.
    pub away_messages_max: usize,
    /// What it finds so, in bytes.
    pub away_bytes_max: usize,
    /// Which of them go if there are more: `"oldest"` or `"newest"`.
    pub away_drops: AwayDrops,
    /// Longest life of a session whose client is away, in seconds.
    pub session_expiry_s_max: u32,
    /// Most sessions whose clients are away or may go away. More are answered 0x97.
    pub sessions_max: usize,
    /// Highest topic alias that a client may use, and most that it is given if it takes them.
    pub topic_alias_maximum: u16,
    /// Longest keep-alive, in seconds; clients of 5.0 that want a longer one, or none, are told this one. 0: any.
    pub keep_alive_s_max: u16,
    /// Check that a payload which claims to be text is UTF-8 (0x99 if not).
    pub check_payload_format: bool,
    /// End the connection of a 3.x client whose publish is refused. 3.x has no other way to say so; without it, the client takes
    /// the publish for done.
    pub close_on_refused_publish: bool,
    /// Tables `[[mqtt.accept]]`: in which format data comes to whom where the client does not say.
    pub accept: Vec<AcceptRule>,
    /// Tables `[[mqtt.payload]]`: what payloads without a content type are, by topic, and which are refused.
    pub payload: Vec<PayloadRule>,
    /// Tables `[[mqtt.bridge]]`: bridges to other brokers.
    pub bridge: Vec<BridgeConfig>,
}

/// What goes where more waits for a client than may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AwayDrops {
    /// What came first.
    Oldest,
    /// What came last.
    Newest,
}

impl Default for MqttConfig {
    fn default() -> Self {
        Self {
            listen: String::new(),
            unix: String::new(),
            unix_mode: "0660".to_owned(),
            proxy_protocol: Proxies::default(),
            websocket: true,
            packet_bytes_max: 16 << 20,
            connect_bytes_max: 64 << 10,
            connect_timeout_s: 10,
            filters_max: 100,
            subscriptions_max: 1000,
            query_bytes_max: 4096,
            query_terms_max: 64,
            query_topics_max: 10_000,
            receive_maximum: 1000,
            in_flight_max: 20,
            queued_max: 1000,
            queued_bytes_max: 1 << 20,
            outbound_bytes_max: 256 << 10,
            away_messages_max: 100_000,
            away_bytes_max: 64 << 20,
            away_drops: AwayDrops::Oldest,
            session_expiry_s_max: 7 * 24 * 60 * 60,
            sessions_max: 100_000,
            topic_alias_maximum: 16,
            keep_alive_s_max: 0,
            check_payload_format: true,
            close_on_refused_publish: false,
            accept: Vec::new(),
            payload: Vec::new(),
            bridge: Vec::new(),
        }
    }
}

impl MqttConfig {
    /// What the machine of each connection is told. `open_writes_max` is what a session of the core may have unanswered.
    pub(crate) fn settings(&self, paths: sapwood_tree::Limits, open_writes_max: usize) -> Settings {
        Settings {
            connect_timeout: Duration::from_secs(self.connect_timeout_s.max(1)),
            receive_maximum: NonZeroU16::new(self.receive_maximum).unwrap_or(NonZeroU16::MIN),
            packet_bytes_max: self.packet_bytes_max,
            topic_alias_maximum: self.topic_alias_maximum,
            given_aliases_max: self.topic_alias_maximum,
            in_flight_max: self.in_flight_max.max(1),
            queued_max: self.queued_max,
            queued_bytes_max: self.queued_bytes_max,
            open_writes_max,
            keep_alive_s_max: Some(self.keep_alive_s_max).filter(|max| *max > 0),
            session_expiry_s_max: self.session_expiry_s_max,
            check_payload_format: self.check_payload_format,
            close_on_refused_publish: self.close_on_refused_publish,
            paths,
            ..Settings::default()
        }
    }

    /// What a session may subscribe to.
    pub(crate) fn subscription_limits(&self) -> SubscriptionLimits {
        SubscriptionLimits {
            subscriptions_max: self.subscriptions_max,
            query: sapwood_tree::QueryLimits {
                bytes_max: self.query_bytes_max,
                terms_max: self.query_terms_max,
            },
            query_topics_max: self.query_topics_max,
        }
    }

    /// What a client may send before it has been let in.
    pub(crate) fn first_limits(&self) -> DecodeLimits {
        DecodeLimits {
            packet_bytes_max: self.connect_bytes_max.min(self.packet_bytes_max),
            filters_max: self.filters_max,
        }
    }

    /// What a client may send then.
    pub(crate) fn limits(&self) -> DecodeLimits {
        DecodeLimits {
            packet_bytes_max: self.packet_bytes_max,
            filters_max: self.filters_max,
        }
    }
}

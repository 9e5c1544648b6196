//! What no type can say: values that are wrong in themselves, or beside another one. Each is refused at the start.

use super::{Config, ConfigError, Loaded, Origin, report};

/// Table, key, and the least that makes sense. With less, nothing could be stored, sent, or served.
const LEAST: &[(&str, &str, u64)] = &[
    ("http", "body_bytes_max", 1),
    ("http", "head_bytes_max", 1024),
    ("http", "head_fields_max", 1),
    ("http", "head_timeout_s", 1),
    ("http", "idle_timeout_s", 1),
    ("http", "write_timeout_s", 1),
    ("http", "body_rate_min", 1),
    ("http", "connections_per_address_max", 1),
    ("http", "batch_operations_max", 1),
    ("http", "comment_interval_s", 1),
    ("http", "ping_interval_s", 1),
    ("mqtt", "packet_bytes_max", 64),
    ("mqtt", "connect_bytes_max", 64),
    ("mqtt", "connect_timeout_s", 1),
    ("mqtt", "filters_max", 1),
    ("mqtt", "query_bytes_max", 1),
    ("mqtt", "query_terms_max", 1),
    ("mqtt", "receive_maximum", 1),
    ("mqtt", "in_flight_max", 1),
    ("mqtt", "outbound_bytes_max", 1),
    ("store", "segment_bytes", 1),
    ("store", "split_bytes", 1),
    ("store", "backlog_bytes_max", 1),
    ("limits", "depth_max", 1),
    ("limits", "segment_bytes_max", 1),
    ("limits", "value_bytes_max", 1),
    ("limits", "string_bytes_max", 1),
    ("limits", "parse_depth_max", 1),
    ("limits", "value_memory_bytes_max", 1),
    ("limits", "decode_bytes_max", 1),
    ("limits", "writes_waiting_max", 1),
    ("limits", "requests_in_flight_max", 1),
    ("limits", "watches_max", 1),
    ("limits", "outbox_bytes_max", 1),
    ("limits", "outbox_events_max", 1),
    ("limits", "outbox_soft_bytes_max", 1),
    ("limits", "outbox_soft_s", 1),
    ("limits", "first_state_bytes_max", 1),
    ("limits", "record_bytes_max", 1),
];

/// Levels in a body. Its decoders call themselves for each, and so does whatever walks a value; that of JSON takes 127.
const PARSE_DEPTH_MOST: usize = 120;

/// Bytes of the longest path with a slash for each segment: a row's key has to fit into the 65,535 of the engine.
const PATH_BYTES_MOST: usize = 60_000;

impl Loaded {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.check_least()?;
        self.check_limits(&self.config)?;
        self.check_store(&self.config)?;
        self.check_proxies()?;
        self.check_bridges()?;
        self.check_resources()
    }

    fn check_least(&self) -> Result<(), ConfigError> {
        let config = report::as_value(&self.config);
        for (table, key, least) in LEAST {
            let got = config[table][key].as_u64();
            if let Some(got) = got.filter(|got| got < least) {
                let message = format!("expected {least} or more, got {got}");
                return Err(self.refuse(&[table, key], message));
            }
        }
        Ok(())
    }

    fn check_limits(&self, config: &Config) -> Result<(), ConfigError> {
        let limits = &config.limits;
        if limits.parse_depth_max > PARSE_DEPTH_MOST {
            let message = format!(
                "expected at most {PARSE_DEPTH_MOST}, got {}",
                limits.parse_depth_max
            );
            return Err(self.refuse(&["limits", "parse_depth_max"], message));
        }
        let segment_bytes = limits.segment_bytes_max.saturating_add(1);
        if limits.depth_max.saturating_mul(segment_bytes) > PATH_BYTES_MOST {
            // It is about two settings: blame the one that somebody wrote.
            let key = match self.origin(&["limits", "depth_max"]) {
                super::Origin::Default => "segment_bytes_max",
                _ => "depth_max",
            };
            let message = format!(
                "expected paths of at most {PATH_BYTES_MOST} bytes, and limits.depth_max ({}) segments of \
                 limits.segment_bytes_max ({}) bytes are longer",
                limits.depth_max, limits.segment_bytes_max
            );
            return Err(self.refuse(&["limits", key], message));
        }
        Ok(())
    }

    fn check_store(&self, config: &Config) -> Result<(), ConfigError> {
        let store = &config.store;
        if store.reserve_bytes < store.memtable_bytes {
            return Err(self.refuse(
                &["store", "reserve_bytes"],
                format!(
                    "expected at least store.memtable_bytes ({}), as that must fit on a full disk",
                    store.memtable_bytes
                ),
            ));
        }
        Ok(())
    }

    fn check_proxies(&self) -> Result<(), ConfigError> {
        if self.config.http.proxy_protocol.over_unix() {
            let message = "expected addresses and networks: HTTP listens at no Unix socket";
            return Err(self.refuse(&["http", "proxy_protocol"], message));
        }
        Ok(())
    }

    fn check_bridges(&self) -> Result<(), ConfigError> {
        let limits = &self.config.limits;
        let limits = sapwood_tree::Limits {
            depth: limits.depth_max,
            segment_bytes: limits.segment_bytes_max,
            ..sapwood_tree::Limits::default()
        };
        let bridges = &self.config.mqtt.bridge;
        for (at, bridge) in bridges.iter().enumerate() {
            bridge
                .check(&limits)
                .map_err(|wrong| self.refuse_bridge(at, wrong.topic, wrong.key, wrong.message))?;
            let twin = bridges
                .iter()
                .take(at)
                .any(|other| other.name == bridge.name);
            if twin {
                let message = format!("expected a name of its own, got {:?} again", bridge.name);
                return Err(self.refuse_bridge(at, None, "name", message));
            }
        }
        Ok(())
    }

    /// A value of a bridge is wrong: names its place, or that of the bridge if the key is missing.
    pub(crate) fn refuse_bridge(
        &self,
        bridge: usize,
        topic: Option<usize>,
        key: &str,
        message: impl Into<String>,
    ) -> ConfigError {
        let (bridge, topic) = (bridge.to_string(), topic.map(|topic| topic.to_string()));
        let mut place = vec!["mqtt", "bridge", &bridge];
        let mut full = "mqtt.bridge".to_owned();
        if let Some(topic) = &topic {
            place.extend(["topics", topic]);
            full += ".topics";
        }
        let below = [&place[..], &[key]].concat();
        let origin = match self.origin(&below) {
            Origin::Default => self.origin(&place),
            origin => origin,
        };
        ConfigError::Value {
            origin,
            key: format!("{full}.{key}"),
            message: message.into(),
        }
    }

    /// A resource may be declared; what else it can say is not built yet, and must not seem to work.
    fn check_resources(&self) -> Result<(), ConfigError> {
        for (database, settings) in &self.config.databases {
            for (resource, says) in &settings.resources {
                let place = ["databases", database, "resources", resource];
                if let Some(segment) = odd_segment(resource) {
                    let message = format!(
                        "expected a path like sensors/{{id}}, where {{name}} (letters, digits and _) stands for a whole \
                         segment; {segment:?} is neither that nor a name"
                    );
                    return Err(self.refuse(&place, message));
                }
                let said = [
                    ("key", says.key.is_some()),
                    ("indexes", says.indexes.is_some()),
                    ("expires", says.expires.is_some()),
                    ("history", says.history.is_some()),
                ];
                if let Some((word, _)) = said.into_iter().find(|(_, is_there)| *is_there) {
                    let place = [&place[..], &[word]].concat();
                    return Err(
                        self.refuse(&place, "planned, but not there yet: take the line out")
                    );
                }
            }
        }
        Ok(())
    }
}

/// The first segment of a resource that is neither a name nor `{name}`.
fn odd_segment(resource: &str) -> Option<&str> {
    let resource = resource.strip_prefix('/').unwrap_or(resource);
    let is_name = |segment: &str| {
        let inner = segment
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        match inner {
            Some(name) => {
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            }
            None => !segment.is_empty() && !segment.contains(['{', '}']),
        }
    };
    resource.split('/').find(|segment| !is_name(segment))
}

//! The table of limits in `docs/operations.md` names each setting that bounds something, and no other.

use std::collections::BTreeSet;

use sapwood::config::Config;

use super::{read, root};

/// Settings of `[http]` that bound nothing.
const NO_LIMITS: &[&str] = &[
    "listen",
    "proxy_protocol",
    "bare_names",
    "echo",
    "public",
    "comment_interval_s",
    "ping_interval_s",
];

/// Settings of `[mqtt]` that bound nothing, or that a client is told of and kept to without meeting them.
const NO_LIMITS_OF_MQTT: &[&str] = &[
    "listen",
    "unix",
    "unix_mode",
    "proxy_protocol",
    "bridge",
    "websocket",
    "in_flight_max",
    "outbound_bytes_max",
    "away_drops",
    "session_expiry_s_max",
    "keep_alive_s_max",
    "check_payload_format",
    "close_on_refused_publish",
    "accept",
    "payload",
];

/// What the page says is counted under another name.
const COUNTED_ELSEWHERE: &[&str] = &[
    "limits.outbox_soft_s",
    "limits.record_bytes_max",
    "mqtt.queued_bytes_max",
];

fn settings() -> BTreeSet<String> {
    let config = serde_json::to_value(Config::default()).unwrap();
    let keys = |table: &str| -> Vec<String> {
        let keys = config[table].as_object().unwrap().keys();
        let no_limits = match table {
            "http" => NO_LIMITS,
            "mqtt" => NO_LIMITS_OF_MQTT,
            _ => &[],
        };
        keys.filter(|key| !no_limits.contains(&key.as_str()))
            .map(|key| format!("{table}.{key}"))
            .collect()
    };
    [keys("http"), keys("mqtt"), keys("limits")]
        .concat()
        .into_iter()
        .collect()
}

/// The first column of the page's table of limits.
fn on_the_page() -> Vec<String> {
    let page = read("docs/operations.md");
    let (_, limits) = page.split_once("\n## Limits\n").unwrap();
    limits
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_page_on_operations_names_every_limit_once() {
    let page = on_the_page();
    let once: BTreeSet<String> = page.iter().cloned().collect();
    assert_eq!(once.len(), page.len(), "{page:?}");
    assert_eq!(once, settings());
}

#[test]
fn every_limit_is_counted_where_it_is_met() {
    let mut source = String::new();
    for folder in [
        "crates/core/src",
        "crates/net/src",
        "doors/http/src",
        "doors/mqtt/src",
    ] {
        gather(&root().join(folder), &mut source);
    }
    for setting in settings() {
        assert!(
            COUNTED_ELSEWHERE.contains(&&*setting) || source.contains(&format!("\"{setting}\"")),
            "{setting} is counted nowhere"
        );
    }
}

fn gather(folder: &std::path::Path, source: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, source);
        } else {
            source.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

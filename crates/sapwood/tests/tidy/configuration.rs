//! The tables of `docs/configuration.md` are made from the structs, their doc comments and their defaults.

use sapwood::config::{Bridge, BridgeTopic, Config};
use serde_json::Value;

use super::{read, root};

const PAGE: &str = "docs/configuration.md";
/// What stands behind it on the page is made.
const MARK: &str = "<!-- made by the test -->\n";

/// Table, the file of its struct, the struct.
const TABLES: &[(&str, &str, &str)] = &[
    ("http", "doors/http/src/config.rs", "HttpConfig"),
    ("mqtt", "doors/mqtt/src/config.rs", "MqttConfig"),
    (
        "[mqtt.bridge]",
        "doors/mqtt/src/bridge/config.rs",
        "BridgeConfig",
    ),
    (
        "[mqtt.bridge.topics]",
        "doors/mqtt/src/bridge/config.rs",
        "BridgeTopic",
    ),
    ("store", "crates/sapwood/src/config/store.rs", "StoreConfig"),
    ("limits", "crates/core/src/settings.rs", "Limits"),
    ("log", "crates/sapwood/src/config.rs", "LogConfig"),
];

/// The public fields of a struct with their doc comments, in order.
fn fields(file: &str, name: &str) -> Vec<(String, String)> {
    let source = read(file);
    let start = source
        .find(&format!("pub struct {name} {{"))
        .unwrap_or_else(|| panic!("no {name} in {file}"));
    let body = source[start..].split("\n}").next().unwrap();
    let (mut fields, mut doc) = (Vec::new(), Vec::new());
    for line in body.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            doc.push(text.trim().to_owned());
        } else if let Some(field) = line
            .strip_prefix("pub ")
            .and_then(|rest| rest.split(':').next())
            && !field.starts_with("struct")
        {
            fields.push((field.to_owned(), std::mem::take(&mut doc).join(" ")));
        }
    }
    fields
}

/// The defaults of a table; of one that can be there more than once, those of each.
fn defaults(table: &str) -> Value {
    let defaults = match table {
        "[mqtt.bridge]" => serde_json::to_value(Bridge::default()),
        "[mqtt.bridge.topics]" => serde_json::to_value(BridgeTopic::default()),
        table => serde_json::to_value(Config::default()).map(|mut all| all[table].take()),
    };
    defaults.unwrap()
}

fn default_text(value: &Value) -> String {
    match value {
        Value::Null => "not set".to_owned(),
        other => format!("`{other}`"),
    }
}

fn page() -> String {
    let written = read(PAGE);
    let mut page = format!("{}{MARK}", written.split(MARK).next().unwrap());
    for (table, file, name) in TABLES {
        page += &format!("\n## `[{table}]`\n\n| key | default | meaning |\n|---|---|---|\n");
        let defaults = defaults(table);
        for (field, doc) in fields(file, name) {
            let default = default_text(&defaults[&field]);
            page += &format!("| `{field}` | {default} | {} |\n", doc.replace('|', "\\|"));
        }
    }
    page
}

#[test]
fn the_page_on_configuration_says_what_the_structs_say() {
    let made = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(root().join(PAGE), &made).unwrap();
    }
    assert_eq!(
        read(PAGE),
        made,
        "{PAGE} is old: make it again with UPDATE_DOCS=1 cargo test -p sapwood --test tidy"
    );
}

#[test]
fn every_key_is_explained() {
    for (table, file, name) in TABLES {
        let fields = fields(file, name);
        let defaults = defaults(table);
        let known: Vec<_> = defaults.as_object().unwrap().keys().collect();
        assert_eq!(known.len(), fields.len(), "[{table}]: {known:?}");
        for (field, doc) in fields {
            assert!(doc.len() > 10, "[{table}] {field} has no doc");
        }
    }
}

//! The effective configuration as text, and the list of all keys that have a place of their own.

use serde_json::Value;

use super::{Config, Loaded, read::quoted};

/// Every key outside the tables that users name, as a path.
pub(super) fn keys() -> Vec<Vec<String>> {
    let mut keys = Vec::new();
    leaves(
        &as_value(&Config::default()),
        &mut Vec::new(),
        &mut |path, _| keys.push(path.to_vec()),
    );
    keys.retain(|path| path.first().is_some_and(|first| first != "databases"));
    keys
}

pub(super) fn report(loaded: &Loaded) -> String {
    let mut lines = Vec::new();
    leaves(
        &as_value(&loaded.config),
        &mut Vec::new(),
        &mut |path, value| {
            if matches!(path, [only] if only == "databases") {
                return; // none is declared
            }
            let key = path
                .iter()
                .map(|segment| quoted(segment))
                .collect::<Vec<_>>()
                .join(".");
            let path: Vec<_> = path.iter().map(String::as_str).collect();
            lines.push((
                format!("{key} = {}", toml_text(value)),
                loaded.origin(&path),
            ));
        },
    );
    let width = lines
        .iter()
        .map(|(line, _)| line.chars().count())
        .max()
        .unwrap_or(0)
        .min(60);
    lines
        .iter()
        .map(|(line, origin)| format!("{line:width$}  # {origin}\n"))
        .collect()
}

pub(super) fn as_value(config: &Config) -> Value {
    // A struct of plain fields always has a JSON form.
    serde_json::to_value(config).unwrap_or_default()
}

/// Empty tables are leaves, too: an empty table declares a resource.
fn leaves(value: &Value, path: &mut Vec<String>, each: &mut impl FnMut(&[String], &Value)) {
    match value {
        Value::Object(table) if !table.is_empty() => {
            for (key, value) in table {
                path.push(key.clone());
                leaves(value, path, each);
                path.pop();
            }
        }
        _ => each(path, value),
    }
}

/// A key without a value has none in TOML; it is shown as a comment would.
fn toml_text(value: &Value) -> String {
    match value {
        Value::Null => "(not set)".to_owned(),
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(toml_text).collect::<Vec<_>>().join(", ")
        ),
        Value::Object(table) if !table.is_empty() => {
            let one =
                |(key, value): (&String, &Value)| format!("{} = {}", quoted(key), toml_text(value));
            format!(
                "{{ {} }}",
                table.iter().map(one).collect::<Vec<_>>().join(", ")
            )
        }
        other => other.to_string(),
    }
}

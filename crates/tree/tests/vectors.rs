//! The 300 sequences of `vectors/sequences.jsonl`: state, records and told, after each step.
#![expect(clippy::unwrap_used, reason = "a test stops where it can't go on")]

#[path = "model/oracle.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the model test")]
mod oracle;

use oracle::{At, Model, at};
use sapwood_tree::{Draft, Limits, MemoryRows, Op, OpKind, Path, Rows, Settings, tree_value};
use sapwood_value::{Map, Text, VALUE_KEY, Value};
use serde_json::Value as Json;

fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(is) => Value::Bool(*is),
        Json::Number(n) => match n.as_i64() {
            Some(n) => Value::Int(n),
            None => Value::Float(n.as_f64().unwrap()),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::Array(items.iter().map(value).collect()),
        Json::Object(map) => {
            let key = |key: &String| {
                if key == ".value" {
                    VALUE_KEY.to_owned()
                } else {
                    key.clone()
                }
            };
            Value::Map(map.iter().map(|(k, v)| (key(k), value(v))).collect())
        }
    }
}

fn op(step: &Json) -> Op {
    let text = step["path"].as_str().unwrap();
    let path = Path::from_segments(text.split('/'), &Limits::default()).unwrap();
    let given = value(&step["value"]);
    let kind = match step["op"].as_str().unwrap() {
        "put" => OpKind::Put {
            value: given,
            mark: false,
        },
        "http_put" => OpKind::Put {
            value: given,
            mark: true,
        },
        "http_patch" => OpKind::Merge {
            entries: entries(given),
            mark: true,
        },
        "delete" => OpKind::Delete,
        "put_record" => OpKind::PutRecord {
            document: given,
            payload: None,
        },
        "delete_record" => OpKind::DeleteRecord,
        other => panic!("{other}"),
    };
    Op { path, kind }
}

fn entries(value: Value) -> Vec<(Text, Option<Value>)> {
    let Value::Map(map) = value else { panic!() };
    map.into_iter()
        .map(|(k, v)| (k, Some(v).filter(|v| !v.is_null())))
        .collect()
}

fn path_of(text: &str) -> At {
    text.split('/').map(str::to_owned).collect()
}

fn each_step(mut check: impl FnMut(&Json, Op, &str)) {
    let text = include_str!("vectors/sequences.jsonl");
    for line in text.lines() {
        let sequence: Json = serde_json::from_str(line).unwrap();
        check(
            &Json::Null,
            Op {
                path: Path::root(),
                kind: OpKind::Delete,
            },
            "",
        );
        for (n, step) in sequence["steps"].as_array().unwrap().iter().enumerate() {
            let context = format!(
                "seed {} step {n}: {} {}",
                sequence["seed"], step["op"], step["path"]
            );
            check(step, op(step), &context);
        }
    }
}

#[test]
fn the_oracle_says_what_the_vectors_say() {
    let mut model = Model::default();
    each_step(|step, op, context| {
        if step.is_null() {
            model = Model::default();
            return;
        }
        let before = model.clone();
        model.apply(&op);
        model.prune();
        let tree = model.tree(&[]).unwrap_or_else(Value::empty_map);
        assert_eq!(tree, value(&step["tree"]), "{context}");
        let records = step["records"].as_object().unwrap();
        assert_eq!(records.len(), model.records.len(), "{context}");
        for (at, document) in records {
            assert_eq!(
                model.records[&path_of(at)],
                value(document),
                "{context} {at}"
            );
        }
        for filter in [
            "#", "x/#", "x/+", "+", "x", "x/y", "+/y", "x/+/z", "x/y/z", "+/+/+",
        ] {
            let says = oracle::told(&before, &model, &path_of(filter), std::slice::from_ref(&op));
            let says: Map = says
                .into_iter()
                .map(|(at, value)| (at.join("/"), value.unwrap_or_default()))
                .collect();
            let wanted = value(
                &step["told"]
                    .get(filter)
                    .cloned()
                    .unwrap_or_else(|| Json::Object(Default::default())),
            );
            assert_eq!(Value::Map(says), wanted, "{context} told {filter}");
        }
    });
}

#[test]
fn rows_hold_what_the_vectors_say() {
    for split_bytes in [1, 24, 4096] {
        let settings = Settings {
            split_bytes,
            cut_rows: 2,
            ..Settings::default()
        };
        let mut rows = MemoryRows::new();
        let mut seq = 0;
        each_step(|step, op, context| {
            if step.is_null() {
                rows = MemoryRows::new();
                return;
            }
            seq += 1;
            let mut draft = Draft::new(&rows, seq, &settings);
            draft.apply(&op).unwrap();
            let changes = draft.finish().unwrap();
            rows.apply(&changes);
            let tree = tree_value(&rows, &Path::root(), usize::MAX)
                .unwrap()
                .unwrap();
            assert_eq!(
                tree,
                value(&step["tree"]),
                "{context} split {split_bytes} {rows:#?}"
            );
            let records = step["records"].as_object().unwrap();
            let held: Vec<At> = rows
                .iter()
                .filter(|(_, row)| row.is_record())
                .map(|(path, _)| at(path))
                .collect();
            assert_eq!(held.len(), records.len(), "{context} split {split_bytes}");
            for record in held {
                let path =
                    Path::from_segments(record.iter().map(String::as_str), &Limits::default())
                        .unwrap();
                let document = sapwood_tree::document(&rows, &path, usize::MAX)
                    .unwrap()
                    .unwrap();
                assert_eq!(
                    document,
                    value(&records[&record.join("/")]),
                    "{context} split {split_bytes} {path}"
                );
            }
            let _: &dyn Rows = &rows;
        });
    }
}

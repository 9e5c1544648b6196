//! The 300 sequences of `tests/vectors/sequences.jsonl`: state, records and told, after each step.

use std::collections::BTreeMap;

use sapwood_tree::{Limits, MemoryRows, Op, OpKind, Path, Settings, document, tree_value};
use sapwood_value::{Text, VALUE_KEY, Value};
use serde_json::Value as Json;

use crate::model::{At, Model, at};
use crate::naive::{self, Says, State};
use crate::told::{Filters, commit, tell};

const FILTERS: [&str; 10] = [
    "#", "x/#", "x/+", "+", "x", "x/y", "+/y", "x/+/z", "x/y/z", "+/+/+",
];

/// What one step does, and what must come of it.
struct Step {
    /// For a message.
    place: String,
    op: Op,
    tree: Value,
    records: BTreeMap<At, Value>,
    told: Vec<Says>,
}

fn sequences() -> impl Iterator<Item = Vec<Step>> {
    let lines = include_str!("../vectors/sequences.jsonl").lines();
    lines.map(|line| {
        let sequence: Json = serde_json::from_str(line).unwrap();
        let steps = sequence["steps"].as_array().unwrap().iter().enumerate();
        let steps = steps.map(|(n, step)| Step {
            place: format!("seed {} step {n}", sequence["seed"]),
            op: op(step),
            tree: value(&step["tree"]),
            records: topics(&step["records"]).collect(),
            told: FILTERS.map(|filter| says(&step["told"], filter)).into(),
        });
        steps.collect()
    })
}

fn value(json: &Json) -> Value {
    match json {
        Json::Array(items) => Value::Array(items.iter().map(value).collect()),
        Json::Object(map) => {
            let key = |key: &str| Text::from(if key == ".value" { VALUE_KEY } else { key });
            Value::Map(map.iter().map(|(k, v)| (key(k), value(v))).collect())
        }
        scalar => Value::from_json(&scalar.to_string()).unwrap(),
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
        "http_patch" => {
            let Value::Map(map) = given else { panic!() };
            let entries = map.into_iter().map(|(key, value)| (key, Some(value)));
            OpKind::Merge {
                entries: entries
                    .map(|(key, v)| (key, v.filter(|v| !v.is_null())))
                    .collect(),
                mark: true,
            }
        }
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

/// A map of topics to values.
fn topics(json: &Json) -> impl Iterator<Item = (At, Value)> + '_ {
    let topics = json.as_object().into_iter().flatten();
    topics.map(|(topic, json)| (topic.split('/').map(str::to_owned).collect(), value(json)))
}

fn says(told: &Json, filter: &str) -> Says {
    let topics = told.get(filter).map(topics).into_iter().flatten();
    topics
        .map(|(topic, value)| (topic, Some(value).filter(|value| !value.is_null())))
        .collect()
}

fn assert_told(told: &[Says], wanted: &[Says], place: &str) {
    for (filter, (told, wanted)) in FILTERS.iter().zip(told.iter().zip(wanted)) {
        assert_eq!(told, wanted, "{place} filter {filter}");
    }
}

#[test]
fn the_naive_model_says_what_the_vectors_say() {
    let filters = Filters::new(&FILTERS);
    for sequence in sequences() {
        let mut model = Model::default();
        for step in sequence {
            let before = State::new(model.clone());
            model.apply(&step.op);
            model.prune();
            let tree = model.tree(&[]).unwrap_or_else(Value::empty_map);
            assert_eq!(tree, step.tree, "{}", step.place);
            assert_eq!(model.records, step.records, "{}", step.place);
            let (after, ops) = (State::new(model.clone()), [step.op]);
            let changed = naive::changed(&before, &after, &ops);
            let told = filters.levels.iter();
            let told = told.map(|filter| naive::told(&before, &after, filter, &ops, &changed));
            assert_told(&told.collect::<Vec<_>>(), &step.told, &step.place);
        }
    }
}

#[test]
fn rows_hold_and_tell_what_the_vectors_say() {
    let filters = Filters::new(&FILTERS);
    for split_bytes in [1, 24, 4096] {
        let settings = Settings {
            split_bytes,
            cut_rows: 2,
            ..Settings::default()
        };
        for sequence in sequences() {
            let mut rows = MemoryRows::new();
            for (seq, step) in (1..).zip(sequence) {
                let place = format!("{} split {split_bytes}", step.place);
                let ops = [step.op];
                let before = commit(&mut rows, seq, &ops, &settings);
                let tree = tree_value(&rows, &Path::root(), usize::MAX).unwrap();
                assert_eq!(tree, Some(step.tree), "{place} {rows:#?}");
                assert_eq!(records(&rows), step.records, "{place}");
                assert_told(&tell(&before, &rows, &ops, &filters), &step.told, &place);
            }
        }
    }
}

fn records(rows: &MemoryRows) -> BTreeMap<At, Value> {
    let records = rows.iter().filter(|(_, row)| row.is_record());
    let held = |path| document(rows, path, usize::MAX).unwrap().unwrap();
    records.map(|(path, _)| (at(path), held(path))).collect()
}

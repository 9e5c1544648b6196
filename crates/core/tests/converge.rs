//! Whatever is written: who applies what a watch tells holds what a read gives.

#![allow(clippy::unwrap_used, reason = "a test fails where it does")]

mod common;

use std::collections::BTreeMap;

use common::{connect, memory, path};
use proptest::prelude::*;
use sapwood_core::{
    Claims, Database, Delivery, Event, EventKind, EventValue, Session, Start, WatchSpec, Write,
    WriteOp,
};
use sapwood_tree::{Draft, MemoryRows, Op, OpKind, Path, Settings};
use sapwood_value::{Map, VALUE_KEY, Value};

/// A client of a tree watch: it applies what it is told to a tree of its own.
#[derive(Default)]
struct TreeClient {
    rows: MemoryRows,
    seq: u64,
}

impl TreeClient {
    fn apply(&mut self, event: &Event) {
        let kind = match (event.kind, event.value()) {
            (EventKind::Put, EventValue::Value(value)) => OpKind::Put {
                value: value.clone(),
                mark: false,
            },
            (EventKind::Patch, EventValue::Entries(entries)) => OpKind::Merge {
                entries: entries.to_vec(),
                mark: false,
            },
            (EventKind::Delete, _) => OpKind::Delete,
            (EventKind::Reset, _) => {
                *self = Self::default();
                return;
            }
            other => panic!("{other:?}"),
        };
        self.seq += 1;
        let settings = Settings::default();
        let mut draft = Draft::new(&self.rows, self.seq, &settings);
        draft
            .apply(&Op {
                path: event.path.clone(),
                kind,
            })
            .unwrap();
        let changes = draft.finish().unwrap();
        self.rows.apply(&changes);
    }

    fn value(&self, at: &Path) -> Option<Value> {
        sapwood_tree::tree_value(&self.rows, at, usize::MAX)
            .unwrap()
            .and_then(pruned)
    }
}

/// A value without the maps that nothing is in: whether an empty one was spelled out, a client can't know.
fn pruned(value: Value) -> Option<Value> {
    match value {
        Value::Map(map) => {
            let map: Map = map
                .into_iter()
                .filter_map(|(key, value)| Some((key, pruned(value)?)))
                .collect();
            match map.get(VALUE_KEY) {
                // Alone, it is the value.
                Some(value) if map.len() == 1 => Some(value.clone()),
                _ => (!map.is_empty()).then_some(Value::Map(map)),
            }
        }
        value => Some(value),
    }
}

fn segment() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c", "0"])
}

fn some_path(least: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(segment(), least..4).prop_map(|segments| {
        segments
            .iter()
            .map(|segment| format!("/{segment}"))
            .collect()
    })
}

fn some_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i16>().prop_map(|number| Value::Int(number.into())),
        any::<bool>().prop_map(Value::Bool)
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop::collection::btree_map(segment(), inner, 1..3).prop_map(|map| {
            Value::Map(
                map.into_iter()
                    .map(|(key, value)| (sapwood_value::Text::from(key), value))
                    .collect(),
            )
        })
    })
}

fn some_op() -> impl Strategy<Value = WriteOp> {
    let kind = prop_oneof![
        4 => (some_value(), any::<bool>()).prop_map(|(value, mark)| OpKind::Put { value, mark }),
        2 => (prop::collection::btree_map(segment(), prop::option::weighted(0.7, some_value()), 1..3), any::<bool>())
            .prop_map(|(map, mark)| OpKind::Merge { entries: map.into_iter().map(|(key, value)| (key.into(), value)).collect(), mark }),
        2 => Just(OpKind::Delete),
        1 => some_value().prop_map(|document| OpKind::PutRecord { document, payload: None }),
        1 => Just(OpKind::DeleteRecord),
    ];
    (some_path(1), kind).prop_map(|(at, kind)| WriteOp::new(path(&at), kind))
}

async fn drain(session: &mut Session, tag: u64, mut each: impl FnMut(&Event)) {
    session.submit_read(tag, Path::root());
    loop {
        let mut out = Vec::new();
        session.next(&mut out).await;
        for delivery in &out {
            if let Delivery::Event { event, .. } = delivery {
                each(event);
            }
        }
        if out.iter().any(|delivery| matches!(delivery, Delivery::Answer { tag: answered, .. } if *answered == tag)) {
            return;
        }
    }
}

fn server_value(database: &Database, at: &Path) -> Option<Value> {
    database
        .read(&Claims::anonymous(), at)
        .unwrap()
        .value(usize::MAX)
        .unwrap()
        .and_then(pruned)
}

async fn converges(writes: Vec<Vec<WriteOp>>, at: Path, begin: usize) {
    let (core, database, _) = memory();
    let mut trees = None;
    let mut children: Option<(Session, BTreeMap<String, Value>)> = None;
    for (number, ops) in writes.into_iter().enumerate() {
        if number == begin {
            let mut session = connect(&database);
            session
                .watch(WatchSpec::Tree(at.clone()), Start::State)
                .unwrap();
            let mut client = TreeClient::default();
            drain(&mut session, 0, |event| client.apply(event)).await;
            trees = Some((session, client));
            let mut session = connect(&database);
            session
                .watch(WatchSpec::Children(at.clone()), Start::State)
                .unwrap();
            let mut known = BTreeMap::new();
            drain(&mut session, 0, |event| apply_child(&mut known, event)).await;
            children = Some((session, known));
        }
        // A write that can't be (a record at the root) is one that changes nothing.
        drop(
            database
                .write(
                    &Claims::anonymous(),
                    Write {
                        ops,
                        conditions: Vec::new(),
                    },
                )
                .await,
        );
    }
    if let Some((mut session, mut client)) = trees {
        drain(&mut session, 1, |event| client.apply(event)).await;
        assert_eq!(
            client.value(&at),
            server_value(&database, &at),
            "the tree at {at}"
        );
    }
    if let Some((mut session, mut known)) = children {
        drain(&mut session, 1, |event| apply_child(&mut known, event)).await;
        let known: Map = known
            .into_iter()
            .map(|(key, value)| (sapwood_value::Text::from(key), value))
            .collect();
        let expected = match server_value(&database, &at) {
            Some(Value::Map(map)) => map
                .into_iter()
                .filter(|(key, _)| sapwood_tree::is_segment(key))
                .collect(),
            _ => Map::new(),
        };
        assert_eq!(
            pruned(Value::Map(known)),
            pruned(Value::Map(expected)),
            "the children of {at}"
        );
    }
    core.close();
}

fn apply_child(known: &mut BTreeMap<String, Value>, event: &Event) {
    let id = event.id.as_ref().map(ToString::to_string);
    match (event.kind, event.value(), id) {
        (EventKind::Put, EventValue::Value(value), Some(id)) => {
            drop(known.insert(id, value.clone()));
        }
        (EventKind::Delete, _, Some(id)) => drop(known.remove(&id)),
        (EventKind::Reset, ..) => known.clear(),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn who_applies_what_is_told_holds_what_is_read(
        writes in prop::collection::vec(prop::collection::vec(some_op(), 1..4), 1..12),
        at in some_path(0),
        begin in 0usize..6,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(converges(writes, path(&at), begin));
    }
}

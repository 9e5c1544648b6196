//! What writes refuse, and what they keep of the payloads that records came in.
#![expect(clippy::unwrap_used, reason = "a test stops where it can't go on")]

use sapwood_tree::{
    Draft, Limits, MemoryRows, Op, OpKind, Path, Payload, PayloadForm, RowChanges, Rows, Settings,
    WriteError, tree_value,
};
use sapwood_value::{Map, Value};

fn path(text: &str) -> Path {
    Path::parse(text, &Limits::default()).unwrap()
}

fn op(at: &str, kind: OpKind) -> Op {
    Op {
        path: path(at),
        kind,
    }
}

fn put(at: &str, value: impl Into<Value>) -> Op {
    let value = value.into();
    op(at, OpKind::Put { value, mark: false })
}

fn publish(at: &str, document: impl Into<Value>, payload: &str) -> Op {
    let payload = Payload {
        bytes: Some(payload.to_owned().into()),
        form: PayloadForm::Text,
        user_properties: vec![("a".into(), "b".into())],
        ..Payload::default()
    };
    op(
        at,
        OpKind::PutRecord {
            document: document.into(),
            payload: Some(payload),
        },
    )
}

fn commit(rows: &mut MemoryRows, seq: u64, ops: &[Op]) -> RowChanges {
    let settings = Settings::default();
    let mut draft = Draft::new(rows, seq, &settings);
    for op in ops {
        draft.apply(op).unwrap();
    }
    let changes = draft.finish().unwrap();
    rows.apply(&changes);
    changes
}

fn refused(op: &Op) -> WriteError {
    let settings = Settings {
        limits: Limits {
            value_bytes: 3000,
            string_bytes: 2000,
            ..Limits::default()
        },
        ..Settings::default()
    };
    let rows = MemoryRows::new();
    Draft::new(&rows, 1, &settings).apply(op).unwrap_err()
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(Value::Int(1), |inner, level| {
        if level % 2 == 0 {
            Value::Array(vec![inner])
        } else {
            Value::Map([("k", inner)].into_iter().collect())
        }
    })
}

#[test]
fn levels_are_counted_from_the_root() {
    let mut rows = MemoryRows::new();
    commit(&mut rows, 1, &[put("/a", nested(31))]);
    assert!(matches!(
        refused(&put("/a", nested(32))),
        WriteError::TooDeep { limit: 32, .. }
    ));
    let deep = put(&"/a".repeat(31), nested(2));
    assert!(matches!(refused(&deep), WriteError::TooDeep { .. }));
    let merge = op(
        &"/a".repeat(32),
        OpKind::Merge {
            entries: vec![("b".into(), Some(1.into()))],
            mark: false,
        },
    );
    assert!(matches!(refused(&merge), WriteError::TooDeep { .. }));
}

#[test]
fn values_and_strings_have_a_size() {
    let string = put("/a", "s".repeat(2001));
    assert!(matches!(
        refused(&string),
        WriteError::StringTooLarge {
            got: 2001,
            limit: 2000,
            ..
        }
    ));
    let items = vec![Value::from("s".repeat(1000)); 3];
    assert!(matches!(
        refused(&put("/a", items)),
        WriteError::ValueTooLarge { limit: 3000, .. }
    ));
}

#[test]
fn the_systems_names_and_keys_that_are_no_segments_are_refused() {
    let system: Map = [(".x", 1)].into_iter().collect();
    for op in [put("/.x", 1), put("", system.clone())] {
        assert!(matches!(refused(&op), WriteError::System { .. }), "{op:?}");
    }
    // Only the first segment is the system's.
    commit(&mut MemoryRows::new(), 1, &[put("/a", system)]);
    let merge = |keys: &[&str]| {
        let entries = keys.iter().map(|key| ((*key).into(), Some(1.into())));
        let entries = entries.collect();
        op(
            "",
            OpKind::Merge {
                entries,
                mark: false,
            },
        )
    };
    assert!(matches!(
        refused(&merge(&[".x"])),
        WriteError::System { .. }
    ));
    assert!(matches!(refused(&merge(&["a/b"])), WriteError::Key { .. }));
    assert!(matches!(
        refused(&merge(&["a", "a"])),
        WriteError::KeyTwice { .. }
    ));
    let record = op(
        "",
        OpKind::PutRecord {
            document: Value::Null,
            payload: None,
        },
    );
    assert!(matches!(refused(&record), WriteError::RecordAtRoot));
}

#[test]
fn a_record_keeps_its_bytes_until_its_document_changes() {
    let mut rows = MemoryRows::new();
    commit(&mut rows, 1, &[publish("/lamp", "ON", "ON")]);
    let payload = |rows: &MemoryRows| {
        let row = rows.row(&path("/lamp")).unwrap().unwrap();
        let payload = row.payload.clone().unwrap();
        let (bytes, content_type) = payload.encode(&row.fragment);
        (bytes, content_type, payload.user_properties.len())
    };
    let changes = commit(&mut rows, 2, &[put("/lamp", "ON")]);
    assert!(changes.is_empty());
    commit(&mut rows, 3, &[put("/lamp", "OFF")]);
    assert_eq!(payload(&rows), ("OFF".into(), None, 1));
    commit(&mut rows, 4, &[put("/lamp", 5)]);
    assert_eq!(
        payload(&rows),
        ("5".into(), Some("application/json".into()), 1)
    );
    let document: Map = [("a", 1)].into_iter().collect();
    commit(&mut rows, 5, &[publish("/lamp", document, "{\"a\": 1}")]);
    commit(&mut rows, 6, &[put("/lamp/a", 1)]);
    assert_eq!(payload(&rows).0, "{\"a\": 1}");
    commit(&mut rows, 7, &[put("/lamp/a", 2)]);
    let row = rows.row(&path("/lamp")).unwrap().unwrap();
    assert_eq!(
        (row.version, row.payload.as_ref().unwrap().bytes.clone()),
        (7, None)
    );
}

#[test]
fn a_covered_field_shows_again_when_its_record_goes() {
    for split_bytes in [1, 4096] {
        let settings = Settings {
            split_bytes,
            ..Settings::default()
        };
        let mut rows = MemoryRows::new();
        let mut seq = 0;
        let mut commit = |kind, at| {
            seq += 1;
            let mut draft = Draft::new(&rows, seq, &settings);
            draft.apply(&op(at, kind)).unwrap();
            let changes = draft.finish().unwrap();
            rows.apply(&changes);
            tree_value(&rows, &path("/lamp/a"), 99).unwrap()
        };
        let record = |document| OpKind::PutRecord {
            document,
            payload: None,
        };
        let lamp = Value::Map(
            [("a", Value::Map([("x", 1)].into_iter().collect()))]
                .into_iter()
                .collect(),
        );
        let below = Some(Value::Map([("x", 1)].into_iter().collect()));
        assert_eq!(commit(record(lamp.clone()), "/lamp"), below);
        assert_eq!(commit(record(7.into()), "/lamp/a"), Some(7.into()));
        assert_eq!(commit(OpKind::DeleteRecord, "/lamp/a"), below);
        assert_eq!(commit(record(7.into()), "/lamp/a"), Some(7.into()));
        // A delete takes along what was covered.
        assert_eq!(commit(OpKind::Delete, "/lamp/a"), None);
        assert_eq!(commit(record(7.into()), "/lamp/a"), Some(7.into()));
        assert_eq!(commit(record(lamp), "/lamp"), Some(7.into()));
        assert_eq!(commit(OpKind::DeleteRecord, "/lamp/a"), below);
    }
}

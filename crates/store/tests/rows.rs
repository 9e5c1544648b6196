//! The rows of a database against a plain map, whatever happens to the process and the disk.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sapwood_store::rows::{RowSettings, RowStore, View};
use sapwood_tree::{Limits, MemoryRows, Path, Row, RowChanges, RowKind, Rows, Skip};
use sapwood_value::Value;

#[path = "rows/cuts.rs"]
mod cuts;
#[path = "rows/damage.rs"]
mod damage;
#[path = "rows/kill.rs"]
mod kill;
#[path = "rows/limits.rs"]
mod limits;
#[path = "rows/model.rs"]
mod model;
#[path = "rows/readers.rs"]
mod readers;

type Private = Vec<(Bytes, Option<Bytes>)>;

/// The rows as a map, and how they came about.
#[derive(Clone, Default)]
struct Model {
    seq: u64,
    rows: MemoryRows,
    private: BTreeMap<Bytes, Bytes>,
}

impl Model {
    fn apply(&mut self, seq: u64, changes: &RowChanges, private: &Private) {
        self.seq = seq;
        self.rows.apply(changes);
        for (key, value) in private {
            match value {
                Some(value) => self.private.insert(key.clone(), value.clone()),
                None => self.private.remove(key),
            };
        }
    }
}

/// So eager that every commit meets freezes and sweeps.
fn eager() -> RowSettings {
    RowSettings {
        freeze_bytes: 1,
        freeze_after: Duration::ZERO,
        sweep_rows: 3,
        reserve_bytes: 0,
        ..RowSettings::default()
    }
}

fn path(text: &str) -> Path {
    Path::parse(text, &Limits::default()).unwrap()
}

fn row(seq: u64, value: i64) -> Arc<Row> {
    Arc::new(Row::new(RowKind::Record, Value::Int(value), seq))
}

fn put(seq: u64, at: &str, value: i64) -> RowChanges {
    RowChanges {
        rows: vec![(path(at), Some(row(seq, value)))],
        cuts: Vec::new(),
    }
}

fn cut(at: &str) -> RowChanges {
    RowChanges {
        rows: Vec::new(),
        cuts: vec![path(at)],
    }
}

fn commit(store: &RowStore, seq: u64, changes: &RowChanges) -> View {
    let mut working = store.begin();
    working.apply(seq, changes, &Vec::new());
    store.publish(working);
    store.view()
}

fn said(row: &Row) -> Said {
    (row.kind, row.version, row.written, row.fragment.clone())
}

type Said = (RowKind, u64, u64, Value);

/// All rows but the root's, in order.
fn rows_below(view: &View) -> Vec<(Path, Said)> {
    let rows = view.scan(&Path::root(), None, usize::MAX).unwrap();
    let said = rows.into_iter().map(|(path, row)| (path, said(&row)));
    said.collect()
}

/// Everything below a path, in steps of `max`.
fn all_below(rows: &dyn Rows, under: &Path, max: usize) -> Vec<(Path, Arc<Row>)> {
    let mut out: Vec<(Path, Arc<Row>)> = Vec::new();
    loop {
        let last = out.last().map(|(path, _)| path.clone());
        let after = last.as_ref().map(|path| (path, Skip::Row));
        let some = rows.scan(under, after, max).unwrap();
        let last = some.len() < max;
        out.extend(some);
        if last {
            return out;
        }
    }
}

fn assert_same(view: &View, model: &Model) {
    assert_eq!(view.seq(), model.seq);
    let found = all_below(view, &Path::root(), 7);
    let wanted = all_below(&model.rows, &Path::root(), 1000);
    let spell = |rows: &[(Path, Arc<Row>)]| -> Vec<_> {
        rows.iter()
            .map(|(path, row)| (path.clone(), said(row)))
            .collect()
    };
    assert_eq!(spell(&found), spell(&wanted));
    let found: BTreeMap<_, _> = view
        .scan_private(b"", None, 1000)
        .unwrap()
        .into_iter()
        .collect();
    assert_eq!(found, model.private);
}

/// Waits until nothing is left to sweep.
fn swept(store: &RowStore) {
    while store.stats().cuts > 0 {
        std::thread::yield_now();
    }
}

//! What writing and telling cost: how much is read, and how much is written, whatever lies around.
#![expect(clippy::unwrap_used, reason = "a test stops where it can't go on")]

use std::cell::Cell;
use std::sync::{Arc, Mutex};

use sapwood_tree::{
    Draft, FilterIndex, Limits, MemoryRows, Op, OpKind, Path, ReadError, Row, RowChanges, Rows,
    RowsError, Settings, Skip, TopicFilter, What, own, told, told_value, tree_value, written_value,
};
use sapwood_value::{Map, Value};

/// Rows that count what is asked of them.
struct Counted<'a> {
    rows: &'a MemoryRows,
    looked_up: Cell<usize>,
    scans: Cell<usize>,
    scanned: Cell<usize>,
}

impl<'a> Counted<'a> {
    const fn new(rows: &'a MemoryRows) -> Self {
        Self {
            rows,
            looked_up: Cell::new(0),
            scans: Cell::new(0),
            scanned: Cell::new(0),
        }
    }

    /// All that was asked, and all rows that were given.
    const fn read(&self) -> usize {
        self.looked_up.get() + self.scans.get() + self.scanned.get()
    }
}

impl Rows for Counted<'_> {
    fn row(&self, path: &Path) -> Result<Option<Arc<Row>>, RowsError> {
        self.looked_up.set(self.looked_up.get() + 1);
        self.rows.row(path)
    }

    fn scan(
        &self,
        under: &Path,
        after: Option<(&Path, Skip)>,
        max: usize,
    ) -> Result<Vec<(Path, Arc<Row>)>, RowsError> {
        let found = self.rows.scan(under, after, max)?;
        self.scans.set(self.scans.get() + 1);
        self.scanned.set(self.scanned.get() + found.len());
        Ok(found)
    }
}

#[derive(Debug)]
struct Cost {
    changes: RowChanges,
    looked_up: usize,
    scans: usize,
    scanned: usize,
}

fn path(text: &str) -> Path {
    Path::parse(text, &Limits::default()).unwrap()
}

fn put(at: &str, value: impl Into<Value>, mark: bool) -> Op {
    let value = value.into();
    Op {
        path: path(at),
        kind: OpKind::Put { value, mark },
    }
}

fn delete(at: &str) -> Op {
    Op {
        path: path(at),
        kind: OpKind::Delete,
    }
}

/// Commits, and says what that took.
fn commit(rows: &mut MemoryRows, seq: u64, ops: &[Op]) -> Cost {
    let settings = Settings::default();
    let counted = Counted::new(rows);
    let mut draft = Draft::new(&counted, seq, &settings);
    for op in ops {
        draft.apply(op).unwrap();
    }
    let cost = Cost {
        changes: draft.finish().unwrap(),
        looked_up: counted.looked_up.get(),
        scans: counted.scans.get(),
        scanned: counted.scanned.get(),
    };
    rows.apply(&cost.changes);
    cost
}

/// A map of 100,000 children at a path; made once, as that takes longer than what is tested.
fn crowd(at: &'static str, mark: bool) -> MemoryRows {
    static MADE: Mutex<Vec<(&str, bool, MemoryRows)>> = Mutex::new(Vec::new());
    let mut made = MADE.lock().unwrap();
    if let Some((_, _, rows)) = made
        .iter()
        .find(|(path, marked, _)| (*path, *marked) == (at, mark))
    {
        return rows.clone();
    }
    let children: Map = (0..100_000).map(|n| (format!("-N{n:06}"), n)).collect();
    let mut rows = MemoryRows::new();
    commit(&mut rows, 1, &[put(at, children, mark)]);
    assert!(rows.len() >= 100_000);
    made.push((at, mark, rows.clone()));
    rows
}

#[test]
fn a_put_over_100_000_rows_is_one_cut_and_reads_few() {
    for mark in [false, true] {
        let mut rows = crowd("/rooms/1/messages", mark);
        let value: Map = [("a", 1), ("-N000007", 8)].into_iter().collect();
        let cost = commit(
            &mut rows,
            2,
            &[put("/rooms/1/messages", value.clone(), mark)],
        );
        assert_eq!(cost.changes.cuts, [path("/rooms/1/messages")]);
        assert!(cost.changes.rows.len() <= 2, "{cost:?}");
        assert!(cost.looked_up + cost.scanned < 300, "{cost:?}");
        let held = tree_value(&rows, &path("/rooms/1/messages"), usize::MAX);
        assert_eq!(held.unwrap(), Some(Value::Map(value)));
        assert!(rows.len() < 10);
    }
}

#[test]
fn a_delete_of_100_000_rows_is_one_cut_and_reads_few() {
    for at in ["/rooms/1/messages", "/rooms", ""] {
        let mut rows = crowd("/rooms/1/messages", true);
        let cost = commit(&mut rows, 2, &[delete(at)]);
        assert_eq!(cost.changes.cuts, [path(at)]);
        assert!(cost.looked_up + cost.scanned < 200, "{cost:?}");
        assert!(rows.is_empty(), "{rows:?}");
    }
}

#[test]
fn a_put_over_100_000_records_reads_what_it_says_and_keeps_those() {
    let mut rows = MemoryRows::new();
    let children: Map = (0..100_000).map(|n| (format!("{n}"), n)).collect();
    commit(&mut rows, 1, &[put("/t", children, true)]);
    let value: Map = [("5", 5), ("6", 7), ("x", 8)].into_iter().collect();
    let cost = commit(&mut rows, 2, &[put("/t", value, false)]);
    assert_eq!(cost.changes.cuts, [path("/t")]);
    assert!(cost.looked_up + cost.scanned < 300, "{cost:?}");
    let version = |at: &str| rows.row(&path(at)).unwrap().unwrap().version;
    assert_eq!((version("/t/5"), version("/t/6")), (1, 2));
    assert!(rows.row(&path("/t/6")).unwrap().unwrap().is_record());
    assert_eq!(
        own(&rows, &path("/t"), 99).unwrap(),
        Some(Value::Map([("x", 8)].into_iter().collect()))
    );
}

#[test]
fn a_push_into_100_000_children_writes_one_small_row() {
    for mark in [false, true] {
        let mut rows = crowd("/rooms/1/messages", mark);
        let cost = commit(
            &mut rows,
            2,
            &[put("/rooms/1/messages/-N999999", "hello", false)],
        );
        // A record knows the commit that last changed it: its own row is written, too.
        assert_eq!(cost.changes.rows.len(), if mark { 2 } else { 1 });
        assert!(cost.changes.cuts.is_empty());
        assert!(cost.looked_up <= 6 && cost.scanned <= 1, "{cost:?}");
        let cost = commit(&mut rows, 3, &[delete("/rooms/1/messages/-N999999")]);
        assert_eq!(cost.changes.rows.len(), if mark { 2 } else { 1 });
        assert!(cost.looked_up <= 6 && cost.scanned <= 32, "{cost:?}");
    }
}

#[test]
fn a_put_of_a_small_record_looks_up_its_way_and_scans_nothing() {
    let mut rows = MemoryRows::new();
    let document = |n: i64| Value::Map([("a", n), ("b", 2)].into_iter().collect());
    commit(&mut rows, 1, &[put("/t/1", document(1), true)]);
    let cost = commit(&mut rows, 2, &[put("/t/1", document(2), true)]);
    assert_eq!((cost.looked_up, cost.scans), (1, 0), "{cost:?}");
    assert_eq!(cost.changes.rows.len(), 1);
    // A new one is looked for up to the root, and something below it once.
    let cost = commit(&mut rows, 3, &[put("/t/2", document(1), true)]);
    assert!(cost.looked_up <= 3 && cost.scans <= 1, "{cost:?}");
    assert_eq!(cost.changes.rows.len(), 1);
}

#[test]
fn a_retained_publish_over_a_large_record_is_one_cut() {
    let mut rows = crowd("/rooms/1", true);
    let op = Op {
        path: path("/rooms/1"),
        kind: OpKind::PutRecord {
            document: Value::from("ON"),
            payload: None,
        },
    };
    let cost = commit(&mut rows, 2, &[op]);
    assert_eq!(cost.changes.cuts, [path("/rooms/1")]);
    assert!(cost.looked_up + cost.scanned < 200, "{cost:?}");
    assert_eq!(rows.len(), 1);
}

#[test]
fn marking_a_large_value_writes_one_row() {
    let mut rows = crowd("/rooms/1", false);
    let op = Op {
        path: path("/rooms/1"),
        kind: OpKind::Mark,
    };
    let cost = commit(&mut rows, 2, &[op]);
    assert!(cost.changes.rows.len() <= 2, "{cost:?}");
    assert!(cost.looked_up + cost.scanned < 50, "{cost:?}");
    assert!(rows.row(&path("/rooms/1")).unwrap().unwrap().is_record());
}

#[test]
fn a_merge_into_a_long_array_copies_it_once() {
    let mut rows = MemoryRows::new();
    let array = |n: i64| Value::Array(vec![Value::Int(n); 50_000]);
    commit(&mut rows, 1, &[put("/a", array(1), true)]);
    // Copied for each of its items, it would take minutes.
    let entries = (0..50_000).map(|n| (format!("{n}").into(), Some(Value::Int(2))));
    let merge = Op {
        path: path("/a"),
        kind: OpKind::Merge {
            entries: entries.collect(),
            mark: false,
        },
    };
    let cost = commit(&mut rows, 2, &[merge]);
    assert_eq!(cost.changes.rows.len(), 1);
    let held = tree_value(&rows, &path("/a"), usize::MAX).unwrap();
    assert_eq!(held, Some(array(2)));
}

#[test]
fn a_write_that_changes_nothing_writes_nothing() {
    let mut rows = MemoryRows::new();
    let small: Map = [("a", 1), ("b", 2)].into_iter().collect();
    let large: Map = (0..2000).map(|n| (format!("k{n}"), n)).collect();
    let ops = [
        put("/t/1", small.clone(), true),
        put("/t/2", large.clone(), true),
        put("/plain", small, false),
    ];
    commit(&mut rows, 1, &ops);
    let cost = commit(&mut rows, 2, &ops[..1]);
    assert!(cost.changes.is_empty(), "{cost:?}");
    let cost = commit(
        &mut rows,
        2,
        &[put("/t/1/a", 1, true), put("/plain/b", 2, false)],
    );
    assert!(cost.changes.is_empty(), "{cost:?}");
    // Of a large one the rows may be written again, but its version stays.
    commit(&mut rows, 3, &[put("/t/2", large, true)]);
    assert_eq!(rows.row(&path("/t/2")).unwrap().unwrap().version, 1);
    commit(&mut rows, 4, &[put("/t/2/k7", 8, true)]);
    assert_eq!(rows.row(&path("/t/2")).unwrap().unwrap().version, 4);
}

// What telling costs.

fn small(key: &str, n: i64) -> Value {
    Value::Map([(key, n)].into_iter().collect())
}

/// A collection of many children, each with a row of its own: plain, or records.
fn collection(records: bool) -> MemoryRows {
    let child = |n: usize| (format!("k{n}"), small("a", 1));
    let value: Map = (0..20_000).map(child).collect();
    let mut rows = MemoryRows::new();
    commit(&mut rows, 1, &[put("/c", value, records)]);
    assert!(rows.len() >= 20_000);
    rows
}

/// How many rows telling a write reads, and how much it tells.
fn telling(before: &MemoryRows, ops: &[Op], filters: &[&str]) -> (usize, usize) {
    let mut rows = before.clone();
    commit(&mut rows, 2, ops);
    let (before, after) = (Counted::new(before), Counted::new(&rows));
    let filters = index(filters);
    let told = told(&before, &after, ops, &filters).unwrap();
    (before.read() + after.read(), told.len())
}

fn index(filters: &[&str]) -> FilterIndex<usize> {
    let mut index = FilterIndex::new();
    for (id, filter) in filters.iter().enumerate() {
        index.insert(&TopicFilter::parse(filter, &Limits::default()).unwrap(), id);
    }
    index
}

#[test]
fn a_push_into_a_large_collection_is_told_at_the_cost_of_a_push() {
    let push = [put("/c/new", small("a", 2), false)];
    for records in [false, true] {
        let rows = collection(records);
        let (read, told) = telling(&rows, &push, &["#", "c", "c/+", "c/+/a", "c/k7/a", "d/#"]);
        assert!(read < 120, "{read}");
        assert_eq!(told, 3);
    }
}

#[test]
fn a_write_above_many_rows_reads_only_where_filters_lead() {
    let delete = [delete("/c")];
    for records in [false, true] {
        let rows = collection(records);
        for (filters, most, tells) in [
            (&["d/#", "c", "+"][..], 60, usize::from(!records)),
            (&["c/k7/a", "c/k9"], 120, 2),
            (&["c/+"], usize::MAX, 20_000),
        ] {
            let (read, told) = telling(&rows, &delete, filters);
            assert!(read < most, "{filters:?} {read}");
            assert_eq!(told, tells, "{filters:?} {records}");
        }
    }
}

#[test]
fn a_record_over_many_records_is_told_without_reading_them() {
    let mut rows = collection(true);
    let record = |n: i64| Op {
        path: path("/c"),
        kind: OpKind::PutRecord {
            document: Value::Int(n),
            payload: None,
        },
    };
    commit(&mut rows, 2, &[record(1)]);
    let (read, told) = telling(&rows, &[record(2)], &["#", "c/#", "c/+/a", "c/k1"]);
    assert!(read < 60, "{read}");
    assert_eq!(told, 1);
}

#[test]
fn what_was_written_is_shared_and_told_at_any_size() {
    let ops = [put("/c/new", "x".repeat(100_000), true)];
    let (before, mut rows) = (MemoryRows::new(), MemoryRows::new());
    commit(&mut rows, 1, &ops);
    let filters = index(&["c/+", "c/new"]);
    let told = told(&before, &rows, &ops, &filters).unwrap();
    let [told] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(told.what, What::Written { op: 0, entry: None });
    assert_eq!(told.filters.len(), 2);
    let value = written_value(&ops, &told.what).unwrap();
    let held = told_value(&rows, &told.topic, &told.what, &ops, 10).unwrap();
    assert_eq!(Some(value), held.as_ref());
    let computed = told_value(&rows, &told.topic, &What::Document, &ops, 10);
    assert!(matches!(computed, Err(ReadError::TooLarge { .. })));
}

#[test]
fn a_few_large_documents_go_like_many_rows() {
    let mut rows = MemoryRows::new();
    let large = Value::Array(vec![Value::Int(7); 20_000]);
    for seq in 1..=3 {
        commit(
            &mut rows,
            seq,
            &[put(&format!("/q/{seq}"), large.clone(), true)],
        );
    }
    // 600 kB each in memory: a scan ends behind the second.
    let cost = commit(&mut rows, 4, &[delete("/q")]);
    assert_eq!(cost.changes.cuts, [path("/q")]);
    assert!(rows.is_empty(), "{rows:?}");
}

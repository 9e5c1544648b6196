//! Who is told what: against the vectors, against the naive model, and whether it converges.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops where it can't go on, and says why"
)]

#[path = "told/naive.rs"]
#[allow(unreachable_pub, reason = "a module of a test")]
mod naive;
#[path = "model/oracle.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the model test")]
mod oracle;
#[path = "model/random.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the model test")]
mod random;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use naive::State;
use oracle::{At, Says, at};
use random::Random;
use sapwood_tree::{
    Declared, Draft, FilterIndex, FirstTopics, Limits, MemoryRows, Op, OpKind, Path, ReadError,
    Row, Rows, RowsError, Settings, Skip, TopicFilter, What, told, told_value, written_value,
};
use sapwood_value::{Text, Value};
use serde_json::Value as Json;

const VECTOR_FILTERS: [&str; 10] = [
    "#", "x/#", "x/+", "+", "x", "x/y", "+/y", "x/+/z", "x/y/z", "+/+/+",
];
const FILTERS: [&str; 30] = [
    "#", "x/#", "x/+", "+", "x", "x/y", "+/y", "x/+/z", "x/y/z", "+/+/+", "+/#", "x/+/#", "x/y/#",
    "+/+", "x/y/+", "x/y/0", "x/0", "x/0/1", "y", "y/x", "y/x/0", "z/+/x", "+/x/y/#", "x/-/10",
    "+//+", "x/x/x/x", "y/+/+/1", "+/+/+/+", "+/y/z/#", "z/x/y",
];

struct Filters {
    parsed: Vec<TopicFilter>,
    levels: Vec<At>,
    index: FilterIndex<usize>,
}

impl Filters {
    fn new(texts: &[&str]) -> Self {
        let parse = |text: &&str| TopicFilter::parse(text, &Limits::default()).unwrap();
        let parsed: Vec<TopicFilter> = texts.iter().map(parse).collect();
        let mut index = FilterIndex::new();
        for (id, filter) in parsed.iter().enumerate() {
            index.insert(filter, id);
        }
        let levels = texts
            .iter()
            .map(|text| text.split('/').map(str::to_owned).collect());
        Self {
            levels: levels.collect(),
            parsed,
            index,
        }
    }
}

/// What each filter is told, and what a commit says must hold in itself.
fn tell(before: &dyn Rows, after: &dyn Rows, ops: &[Op], filters: &Filters) -> Vec<Says> {
    let mut says = vec![Says::new(); filters.parsed.len()];
    let mut last: Option<Path> = None;
    for told in told(before, after, ops, &filters.index).unwrap() {
        assert!(last.is_none_or(|last| last <= told.topic), "in path order");
        assert!(!told.filters.is_empty());
        let value = told_value(after, &told.topic, &told.what, ops, usize::MAX).unwrap();
        assert_eq!(value.is_none(), told.what == What::Removed, "{told:?}");
        if matches!(told.what, What::Written { .. }) {
            assert!(told.written, "{told:?}");
        }
        for id in &told.filters {
            let known = says[**id].insert(at(&told.topic), value.clone());
            assert!(known.is_none(), "once for each filter: {told:?}");
        }
        last = Some(told.topic);
    }
    says
}

fn first(rows: &dyn Rows, filter: &TopicFilter, max: usize) -> BTreeMap<At, Value> {
    let mut topics = FirstTopics::new(filter.clone());
    let mut all = BTreeMap::new();
    loop {
        let some = topics.next(rows, max).unwrap();
        assert!(some.len() <= max);
        if some.is_empty() {
            return all;
        }
        for (topic, value) in some {
            assert!(all.insert(at(&topic), value).is_none(), "once: {topic}");
        }
    }
}

fn commit(rows: &mut MemoryRows, seq: u64, ops: &[Op], settings: &Settings) -> MemoryRows {
    let before = rows.clone();
    let mut draft = Draft::new(&before, seq, settings);
    for op in ops {
        draft.apply(op).unwrap();
    }
    rows.apply(&draft.finish().unwrap());
    before
}

// The vectors.

fn value(json: &Json) -> Value {
    Value::from_json(&json.to_string()).unwrap()
}

fn op(step: &Json) -> Op {
    let text = step["path"].as_str().unwrap();
    let path = Path::from_segments(text.split('/'), &Limits::default()).unwrap();
    let given = || value(&step["value"]);
    let kind = match step["op"].as_str().unwrap() {
        "put" => OpKind::Put {
            value: given(),
            mark: false,
        },
        "http_put" => OpKind::Put {
            value: given(),
            mark: true,
        },
        "http_patch" => {
            let Value::Map(map) = given() else { panic!() };
            let entries = map.into_iter().map(|(key, value)| (key, Some(value)));
            OpKind::Merge {
                entries: entries.collect(),
                mark: true,
            }
        }
        "delete" => OpKind::Delete,
        "put_record" => OpKind::PutRecord {
            document: given(),
            payload: None,
        },
        "delete_record" => OpKind::DeleteRecord,
        other => panic!("{other}"),
    };
    Op { path, kind }
}

fn wanted(told: &Json, filter: &str) -> Says {
    let topics = told.get(filter).and_then(Json::as_object);
    let topics = topics.into_iter().flatten().map(|(topic, says)| {
        let topic = topic.split('/').map(str::to_owned).collect();
        (topic, Some(value(says)).filter(|value| !value.is_null()))
    });
    topics.collect()
}

#[test]
fn ten_filters_are_told_what_the_vectors_say() {
    let filters = Filters::new(&VECTOR_FILTERS);
    for line in include_str!("vectors/sequences.jsonl").lines() {
        let sequence: Json = serde_json::from_str(line).unwrap();
        let steps = sequence["steps"].as_array().unwrap();
        let read = |step: &Json| VECTOR_FILTERS.map(|filter| wanted(&step["told"], filter));
        let steps: Vec<(Op, [Says; 10])> = steps.iter().map(|s| (op(s), read(s))).collect();
        for split_bytes in [1, 24, 4096] {
            let settings = Settings {
                split_bytes,
                cut_rows: 2,
                ..Settings::default()
            };
            let mut rows = MemoryRows::new();
            for (seq, (op, wanted)) in (1..).zip(&steps) {
                let ops = std::slice::from_ref(op);
                let before = commit(&mut rows, seq, ops, &settings);
                let says = tell(&before, &rows, ops, &filters);
                let place = format!("seed {} step {seq} split {split_bytes}", sequence["seed"]);
                for (filter, (says, wanted)) in VECTOR_FILTERS.iter().zip(says.iter().zip(wanted)) {
                    assert_eq!(says, wanted, "{place} filter {filter}");
                }
            }
        }
    }
}

// Generated sequences.

const SEQUENCES: u64 = 10_000;
const COMMITS: u64 = 8;
const DECLARED: [&str; 4] = ["x/{id}", "y/{a}/{b}", "z", "x/{id}/y/{part}"];

fn settings(random: &mut Random) -> Settings {
    let declared = if random.one_in(3) {
        let patterns = DECLARED.into_iter().filter(|_| random.one_in(2));
        Declared::parse(patterns.collect::<Vec<_>>(), &Limits::default()).unwrap()
    } else {
        Declared::default()
    };
    Settings {
        split_bytes: [1, 24, 24, 4096][usize::try_from(random.below(4)).unwrap()],
        cut_rows: 2,
        declared,
        limits: Limits::default(),
    }
}

/// Prints what led to a failure.
struct OnPanic(u64, Vec<Vec<Op>>);

impl Drop for OnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("seed {}", self.0);
            self.1.iter().for_each(|ops| println!("commit {ops:?}"));
        }
    }
}

fn sequence(seed: u64, filters: &Filters) {
    let mut random = Random::new(seed);
    let settings = settings(&mut random);
    let mut rows = MemoryRows::new();
    let mut before = State::of(&rows);
    let mut have = vec![BTreeMap::new(); filters.parsed.len()];
    let mut log = OnPanic(seed, Vec::new());
    for seq in 1..=COMMITS {
        let count = if random.one_in(4) {
            2 + random.below(2)
        } else {
            1
        };
        let ops: Vec<Op> = (0..count).map(|_| random.op()).collect();
        log.1.push(ops.clone());
        let rows_before = commit(&mut rows, seq, &ops, &settings);
        let after = State::of(&rows);
        let says = tell(&rows_before, &rows, &ops, filters);
        let changed = naive::changed(&before, &after, &ops);
        for (id, says) in says.into_iter().enumerate() {
            let filter = &filters.levels[id];
            let naive = naive::told(&before, &after, filter, &ops, &changed);
            assert_eq!(says, naive, "filter {}", filters.parsed[id]);
            apply(&mut have[id], says);
        }
        if seq == COMMITS || random.one_in(4) {
            check_first(&rows, &after, filters, &have);
        }
        before = after;
    }
}

fn apply(have: &mut BTreeMap<At, Value>, says: Says) {
    for (topic, value) in says {
        match value {
            Some(value) => have.insert(topic, value),
            None => have.remove(&topic),
        };
    }
}

/// Who applied what it was told holds what a new subscriber gets first. With `#`, the records of it.
fn check_first(rows: &MemoryRows, state: &State, filters: &Filters, have: &[BTreeMap<At, Value>]) {
    for (id, filter) in filters.parsed.iter().enumerate() {
        let gets = first(rows, filter, 1 + id % 3);
        assert_eq!(gets, state.first(&filters.levels[id]), "first {filter}");
        let mut have = have[id].clone();
        if filter.is_open_ended() {
            have.retain(|topic, _| gets.contains_key(topic));
        }
        assert_eq!(have, gets, "converges {filter}");
    }
}

#[test]
fn whatever_is_written_filters_are_told_what_the_naive_model_says_and_converge() {
    let filters = Filters::new(&FILTERS);
    for seed in 0..SEQUENCES {
        sequence(seed, &filters);
    }
}

// What telling costs.

/// Counts what is read.
struct Counting<'a>(&'a MemoryRows, Cell<usize>);

impl Rows for Counting<'_> {
    fn row(&self, path: &Path) -> Result<Option<Arc<Row>>, RowsError> {
        self.1.update(|read| read + 1);
        self.0.row(path)
    }

    fn scan(
        &self,
        under: &Path,
        after: Option<(&Path, Skip)>,
        max: usize,
    ) -> Result<Vec<(Path, Arc<Row>)>, RowsError> {
        let rows = self.0.scan(under, after, max)?;
        self.1.update(|read| read + 1 + rows.len());
        Ok(rows)
    }
}

fn path(text: &str) -> Path {
    Path::parse(text, &Limits::default()).unwrap()
}

fn put(at: &str, json: &str, mark: bool) -> Op {
    let value = Value::from_json(json).unwrap();
    Op {
        path: path(at),
        kind: OpKind::Put { value, mark },
    }
}

/// A collection of many children, each with a row of its own: plain, or records.
fn collection(records: bool) -> MemoryRows {
    let child = |n: usize| {
        (
            Text::from(format!("k{n}")),
            Value::from_json(r#"{"a":1}"#).unwrap(),
        )
    };
    let value = Value::Map((0..20_000).map(child).collect());
    let op = Op {
        path: path("/c"),
        kind: OpKind::Put {
            value,
            mark: records,
        },
    };
    let mut rows = MemoryRows::new();
    commit(&mut rows, 1, &[op], &Settings::default());
    assert!(rows.len() >= 20_000);
    rows
}

/// How many rows telling a write reads, and how much it tells.
fn cost(before: &MemoryRows, ops: &[Op], filters: &[&str]) -> (usize, usize) {
    let mut rows = before.clone();
    commit(&mut rows, 2, ops, &Settings::default());
    let (before, after) = (
        Counting(before, Cell::new(0)),
        Counting(&rows, Cell::new(0)),
    );
    let filters = Filters::new(filters);
    let told = told(&before, &after, ops, &filters.index).unwrap();
    (before.1.get() + after.1.get(), told.len())
}

#[test]
fn a_push_into_a_large_collection_is_told_at_the_cost_of_a_push() {
    let push = [put("/c/new", r#"{"a":2}"#, false)];
    for records in [false, true] {
        let rows = collection(records);
        let (read, told) = cost(&rows, &push, &["#", "c", "c/+", "c/+/a", "c/k7/a", "d/#"]);
        assert!(read < 120, "{read}");
        assert_eq!(told, 3);
    }
}

#[test]
fn a_write_above_many_rows_reads_only_where_filters_lead() {
    let delete = [Op {
        path: path("/c"),
        kind: OpKind::Delete,
    }];
    for records in [false, true] {
        let rows = collection(records);
        for (filters, most, tells) in [
            (&["d/#", "c", "+"][..], 60, usize::from(!records)),
            (&["c/k7/a", "c/k9"], 120, 2),
            (&["c/+"], usize::MAX, 20_000),
        ] {
            let (read, told) = cost(&rows, &delete, filters);
            assert!(read < most, "{filters:?} {read}");
            assert_eq!(told, tells, "{filters:?} {records}");
        }
    }
}

#[test]
fn a_record_over_many_records_is_told_without_reading_them() {
    let rows = collection(true);
    let record = |n: i64| Op {
        path: path("/c"),
        kind: OpKind::PutRecord {
            document: Value::Int(n),
            payload: None,
        },
    };
    let mut with = rows;
    commit(&mut with, 2, &[record(1)], &Settings::default());
    let (read, told) = cost(&with, &[record(2)], &["#", "c/#", "c/+/a", "c/k1"]);
    assert!(read < 60, "{read}");
    assert_eq!(told, 1);
}

#[test]
fn what_was_written_is_shared_and_told_at_any_size() {
    let large = format!("\"{}\"", "x".repeat(100_000));
    let ops = [put("/c/new", &large, true)];
    let mut rows = MemoryRows::new();
    let before = commit(&mut rows, 1, &ops, &Settings::default());
    let filters = Filters::new(&["c/+", "c/new"]);
    let told = told(&before, &rows, &ops, &filters.index).unwrap();
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

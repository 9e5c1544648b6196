//! Rows against the naive model: whatever is written, they hold the same and tell the same.
use sapwood_tree::{
    Draft, MemoryRows, Op, Path, RowChanges, Settings, TreeStream, children, document, exists, own,
    tree_value,
};
use sapwood_value::{Format, VALUE_KEY, Value};

use crate::model::{Model, at};
use crate::random::{Random, sequences};

const COMMITS: u64 = 12;

struct Pair {
    rows: MemoryRows,
    model: Model,
    seq: u64,
}

impl Pair {
    fn commit(&mut self, ops: &[Op], settings: &Settings) -> RowChanges {
        self.seq += 1;
        let mut draft = Draft::new(&self.rows, self.seq, settings);
        for op in ops {
            let there = self.model.tree(&at(&op.path)).is_some();
            let applied = draft.apply(op).unwrap();
            if ops.len() == 1 && !op.path.is_root() && !is_record_op(op) {
                assert_eq!(applied.existed, there, "{op:?}");
            }
            self.model.apply(op);
        }
        let changes = draft.finish().unwrap();
        self.model.prune();
        self.rows.apply(&changes);
        changes
    }

    fn check(&self, random: &mut Random) {
        let root = Path::root();
        let tree = self.model.tree(&[]).unwrap_or_else(Value::empty_map);
        assert_eq!(
            tree_value(&self.rows, &root, usize::MAX).unwrap().unwrap(),
            tree
        );
        let rows = self.rows.iter().filter(|(_, row)| row.is_record());
        let records: Vec<&Path> = rows.map(|(path, _)| path).collect();
        assert_eq!(records.len(), self.model.records.len());
        for record in records {
            let held = document(&self.rows, record, usize::MAX).unwrap().unwrap();
            assert_eq!(held, self.model.records[&at(record)], "{record}");
            assert_implied(&held, &self.model.records[&at(record)]);
        }
        for _ in 0..2 {
            self.check_path(&random.path());
        }
        let format = [Format::Json, Format::Cbor, Format::MessagePack];
        let format = format[usize::try_from(random.below(3)).unwrap()];
        let chunk = usize::try_from(random.below(40)).unwrap();
        self.check_stream(&root, format, chunk);
        self.check_stream(&random.path(), format, chunk);
    }

    fn check_stream(&self, path: &Path, format: Format, chunk: usize) {
        let value = tree_value(&self.rows, path, usize::MAX).unwrap();
        let stream = TreeStream::begin(&self.rows, path, format).unwrap();
        assert_eq!(stream.is_some(), value.is_some());
        let (Some(mut stream), Some(value)) = (stream, value) else {
            return;
        };
        let mut bytes = Vec::new();
        while stream.next_chunk(&self.rows, &mut bytes, chunk).unwrap() {}
        let mut whole = Vec::new();
        format.encode_spelled(&value, &mut whole);
        if format == Format::Cbor {
            // Maps of open length are other bytes.
            let limits = sapwood_value::Limits::default();
            let decode = |bytes: &[u8]| format.decode(bytes, &limits).unwrap();
            assert_eq!(decode(&bytes), decode(&whole), "{path}");
        } else {
            assert_eq!(bytes, whole, "{path} {format:?}");
        }
    }

    fn check_path(&self, path: &Path) {
        let tree = self.model.tree(&at(path));
        assert_eq!(
            tree_value(&self.rows, path, usize::MAX).unwrap(),
            tree.clone().or(path.is_root().then(Value::empty_map)),
            "{path}"
        );
        assert_eq!(
            exists(&self.rows, path).unwrap(),
            tree.is_some() || path.is_root()
        );
        if !path.is_root() {
            let held = own(&self.rows, path, usize::MAX).unwrap();
            assert_eq!(held.as_ref(), self.model.own(&at(path)), "own {path}");
        }
        let keys: Vec<_> = match &tree {
            Some(Value::Map(map)) => map
                .keys()
                .filter(|key| *key != VALUE_KEY)
                .cloned()
                .collect(),
            Some(Value::Array(items)) => (0..items.len()).map(|i| i.to_string().into()).collect(),
            _ => Vec::new(),
        };
        assert_eq!(
            children(&self.rows, path, None, 99).unwrap(),
            keys,
            "{path}"
        );
        for (n, key) in keys.iter().enumerate() {
            let behind = children(&self.rows, path, Some(key), 1).unwrap();
            assert_eq!(behind.first(), keys.get(n + 1), "{path} behind {key}");
        }
    }
}

fn is_record_op(op: &Op) -> bool {
    matches!(
        op.kind,
        sapwood_tree::OpKind::PutRecord { .. }
            | sapwood_tree::OpKind::DeleteRecord
            | sapwood_tree::OpKind::Mark
    )
}

/// `==` does not look at which maps were spelled out.
fn assert_implied(a: &Value, b: &Value) {
    match (a, b) {
        (Value::Map(a), Value::Map(b)) => {
            assert_eq!(a.is_implied(), b.is_implied());
            a.values()
                .zip(b.values())
                .for_each(|(a, b)| assert_implied(a, b));
        }
        (Value::Array(a), Value::Array(b)) => {
            a.iter().zip(b).for_each(|(a, b)| assert_implied(a, b));
        }
        _ => {}
    }
}

/// Prints what led to a failure.
struct OnPanic(u64, Vec<Vec<Op>>, MemoryRows);

impl Drop for OnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}, rows before the last commit:", self.0);
            for (path, row) in self.2.iter() {
                let (kind, below, fragment) = (row.kind, row.below, &row.fragment);
                let (exploded, covered) = (row.exploded, &row.covered);
                eprintln!("{path} {kind:?} {exploded} {below:?} {fragment:?} {covered:?}");
            }
            for ops in &self.1 {
                eprintln!("commit {ops:?}");
            }
        }
    }
}

fn sequence(seed: u64) {
    let mut random = Random::new(seed);
    let settings = random.settings(&[1, 12, 24, 24, 4096], &[0, 1, 2, 3]);
    let mut pair = Pair {
        rows: MemoryRows::new(),
        model: Model::of(&settings),
        seq: 0,
    };
    let mut log = OnPanic(seed, Vec::new(), MemoryRows::new());
    for _ in 0..COMMITS {
        let ops = random.ops();
        log.1.push(ops.clone());
        log.2 = pair.rows.clone();
        pair.commit(&ops, &settings);
        pair.check(&mut random);
    }
}

#[test]
fn whatever_is_written_rows_hold_what_the_model_holds() {
    sequences(sequence);
    // And those that found faults when many more were run.
    for seed in [146_027, 208_749] {
        sequence(seed);
    }
}

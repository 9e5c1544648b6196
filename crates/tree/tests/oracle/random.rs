//! Random commits over a small tree, so that everything meets everything.

use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use sapwood_tree::{Declared, Limits, Op, OpKind, Path, Payload, Settings};
use sapwood_value::{Map, Text, Value};

const SEQUENCES: u64 = 10_000;
const DECLARED: [&str; 4] = ["x/{id}", "y/{a}/{b}", "z", "x/{id}/y/{part}"];

/// Runs each sequence once, by its seed, on every core.
pub fn sequences(run: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    let work = || {
        while let seed @ ..SEQUENCES = next.fetch_add(1, Ordering::Relaxed) {
            run(seed);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(work);
        }
    });
}

/// A small generator of numbers (splitmix64): the same seed, the same sequence.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn choose<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }

    fn one_of(&mut self, all: &[usize]) -> usize {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }

    /// Some resources declared, and rows that explode and are cut early.
    pub fn settings(&mut self, split_bytes: &[usize], cut_rows: &[usize]) -> Settings {
        let declared = if self.one_in(3) {
            let patterns = DECLARED.into_iter().filter(|_| self.one_in(2));
            Declared::parse(patterns.collect::<Vec<_>>(), &Limits::default()).unwrap()
        } else {
            Declared::default()
        };
        Settings {
            split_bytes: self.one_of(split_bytes),
            cut_rows: self.one_of(cut_rows),
            declared,
            limits: Limits::default(),
        }
    }

    /// What one commit does: mostly one thing.
    pub fn ops(&mut self) -> Vec<Op> {
        let count = if self.one_in(4) { 1 + self.below(3) } else { 1 };
        (0..count).map(|_| self.op()).collect()
    }

    fn key(&mut self) -> &'static str {
        if self.one_in(12) {
            return self.choose(&["", "-", "10", "é"]);
        }
        self.choose(&["x", "y", "z", "x", "y", "0", "1"])
    }

    pub fn path(&mut self) -> Path {
        let length = if self.one_in(25) {
            0
        } else {
            1 + self.below(4)
        };
        let keys: Vec<&str> = (0..length)
            .map(|n| {
                if n == 0 {
                    self.choose(&["x", "y", "z"])
                } else {
                    self.key()
                }
            })
            .collect();
        Path::from_segments(keys, &Limits::default()).unwrap()
    }

    fn value(&mut self, depth: u64) -> Value {
        match self.below(10 + depth * 3) {
            0..=4 => self.map(depth),
            5 => {
                let items = (0..self.below(3)).map(|_| self.value(depth + 2)).collect();
                Value::Array(items)
            }
            6 => Value::from(format!("s{}", self.below(1000))),
            7 if depth > 0 => Value::Null,
            8 => Value::bytes(format!("b{}", self.below(9))),
            _ => Value::Int(self.below(4).cast_signed()),
        }
    }

    fn map(&mut self, depth: u64) -> Value {
        let mut map = Map::new();
        for _ in 0..self.below(4) {
            let key = if self.one_in(20) { "p/q" } else { self.key() };
            let value = self.value(depth + 1);
            map.insert(key.into(), value);
        }
        Value::Map(map)
    }

    fn entries(&mut self) -> Vec<(Text, Option<Value>)> {
        let mut entries: Vec<(Text, Option<Value>)> = Vec::new();
        for _ in 0..1 + self.below(3) {
            let key = Text::from(self.key());
            if entries.iter().all(|(other, _)| *other != key) {
                let value = if self.one_in(3) {
                    None
                } else {
                    Some(self.value(1))
                };
                entries.push((key, value.filter(|value| !value.is_null())));
            }
        }
        entries
    }

    fn op(&mut self) -> Op {
        let path = self.path();
        let mark = self.one_in(2);
        let kind = match self.below(10) {
            0..=2 => OpKind::Put {
                value: self.value(0),
                mark,
            },
            3..=4 => OpKind::Merge {
                entries: self.entries(),
                mark,
            },
            5 => OpKind::Delete,
            6..=7 if !path.is_root() => OpKind::PutRecord {
                document: self.value(0),
                payload: self.one_in(2).then(Payload::default),
            },
            8 if !path.is_root() => OpKind::DeleteRecord,
            9 if !path.is_root() && self.one_in(2) => OpKind::Mark,
            _ => OpKind::Delete,
        };
        Op { path, kind }
    }
}

//! Who is told what: against the naive model, and whether it converges.

use std::collections::BTreeMap;

use sapwood_tree::{
    Draft, FilterIndex, FirstTopics, Limits, MemoryRows, Op, Path, Rows, Settings, TopicFilter,
    What, told, told_value,
};
use sapwood_value::Value;

use crate::model::{At, at};
use crate::naive::{self, Says, State};
use crate::random::{Random, sequences};

const COMMITS: u64 = 8;
const FILTERS: [&str; 30] = [
    "#", "x/#", "x/+", "+", "x", "x/y", "+/y", "x/+/z", "x/y/z", "+/+/+", "+/#", "x/+/#", "x/y/#",
    "+/+", "x/y/+", "x/y/0", "x/0", "x/0/1", "y", "y/x", "y/x/0", "z/+/x", "+/x/y/#", "x/-/10",
    "+//+", "x/x/x/x", "y/+/+/1", "+/+/+/+", "+/y/z/#", "z/x/y",
];

/// Filters, read as the server reads them, and as levels.
pub struct Filters {
    parsed: Vec<TopicFilter>,
    pub levels: Vec<At>,
    index: FilterIndex<usize>,
}

impl Filters {
    pub fn new(texts: &[&str]) -> Self {
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
pub fn tell(before: &dyn Rows, after: &dyn Rows, ops: &[Op], filters: &Filters) -> Vec<Says> {
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
        for (topic, said) in some {
            let known = all.insert(at(&topic), said.value().clone());
            assert!(known.is_none(), "once: {topic}");
        }
    }
}

/// Commits; gives back the rows as they were.
pub fn commit(rows: &mut MemoryRows, seq: u64, ops: &[Op], settings: &Settings) -> MemoryRows {
    let before = rows.clone();
    let mut draft = Draft::new(&before, seq, settings);
    for op in ops {
        draft.apply(op).unwrap();
    }
    rows.apply(&draft.finish().unwrap());
    before
}

/// Prints what led to a failure.
struct OnPanic(u64, Vec<Vec<Op>>);

impl Drop for OnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
            self.1.iter().for_each(|ops| eprintln!("commit {ops:?}"));
        }
    }
}

fn sequence(seed: u64, filters: &Filters) {
    let mut random = Random::new(seed);
    let settings = random.settings(&[1, 24, 24, 4096], &[2]);
    let mut rows = MemoryRows::new();
    let mut before = State::of(&rows);
    let mut have = vec![BTreeMap::new(); filters.parsed.len()];
    let mut log = OnPanic(seed, Vec::new());
    for seq in 1..=COMMITS {
        let ops = random.ops();
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
    sequences(|seed| sequence(seed, &filters));
}

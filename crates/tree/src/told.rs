//! Who is told what (design, 2.2).
//!
//! What a filter is told depends on the data alone: the states before and after a commit, and which paths it wrote. So
//! all here goes by what documents hold, and looks at rows only to find quickly what can have changed.

use std::collections::BTreeMap;

use sapwood_value::Value;

use crate::walk::nearest;
use crate::{FilterIndex, Op, OpKind, Path, ReadError, Rows, RowsError, document, own, record_of};

mod below;
mod first;
mod held;
mod index;
mod line;
mod writes;

pub use first::{FirstTopics, TopicValue};

use held::Held;
use index::{Index, Picked};
use writes::Writes;

/// One thing that a commit says to some filters.
#[derive(Debug)]
pub struct Told<'f, Id> {
    /// The topic that it is said under.
    pub topic: Path,
    /// The filters that it is said to, each once.
    pub filters: Vec<&'f Id>,
    /// What is said.
    pub what: What,
    /// Whether all of it was written by the commit, at or above the topic: such a value is told at any size. Others are
    /// told because something in them changed.
    pub written: bool,
}

/// What is said under a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// The field inside a record, for filters that name it.
    Field,
    /// Exactly what an operation wrote here.
    Written {
        /// The operation's number in the commit.
        op: usize,
        /// The entry's number, of a merge.
        entry: Option<usize>,
    },
    /// The record's document.
    Document,
    /// The plain value, without the records below it.
    Prefix,
    /// Nothing is here any more.
    Removed,
}

/// What one commit says to filters: its operations, told as one, with the states before and after all of them.
///
/// In path order, each topic once for each filter. A topic comes twice where it is one thing to a filter that names it
/// and another to a wildcard (a field that a removed record uncovers); who has both filters is told the first.
///
/// The cost depends on what the commit wrote, and on the filters at, above and below it.
///
/// # Errors
/// If the rows can't be read.
pub fn told<'f, Id>(
    before: &dyn Rows,
    after: &dyn Rows,
    ops: &[Op],
    filters: &'f FilterIndex<Id>,
) -> Result<Vec<Told<'f, Id>>, RowsError> {
    let mut teller = Teller {
        before,
        after,
        filters: Index::new(filters),
        topics: BTreeMap::new(),
    };
    for (path, change) in writes::changes(before, after, ops, Index::new(filters))? {
        teller.tell_line(&path, change)?;
    }
    teller.finish(&Writes::of(ops))
}

/// The value that is said, as it is in `rows`: the state after the commit, or a later one. None if nothing is there.
///
/// # Errors
/// If it was not written itself and takes more than about `limit` bytes, or the rows can't be read.
pub fn told_value(
    rows: &dyn Rows,
    topic: &Path,
    what: &What,
    ops: &[Op],
    limit: usize,
) -> Result<Option<Value>, ReadError> {
    match what {
        What::Removed => Ok(None),
        What::Written { .. } => Ok(written_value(ops, what).cloned()),
        What::Document => document(rows, topic, limit),
        What::Field => own(rows, topic, limit),
        What::Prefix if record_of(rows, topic)?.is_some() => Ok(None),
        What::Prefix => Ok(own(rows, topic, limit)?.filter(|value| !held::is_empty(value))),
    }
}

/// The value in a commit's operations that [`What::Written`] means, to be shared instead of copied.
pub fn written_value<'o>(ops: &'o [Op], what: &What) -> Option<&'o Value> {
    let What::Written { op, entry } = *what else {
        return None;
    };
    match (&ops.get(op)?.kind, entry) {
        (OpKind::Put { value, .. }, None) => Some(value),
        (OpKind::PutRecord { document, .. }, None) => Some(document),
        (OpKind::Merge { entries, .. }, Some(entry)) => entries.get(entry)?.1.as_ref(),
        (
            OpKind::Put { .. }
            | OpKind::PutRecord { .. }
            | OpKind::Merge { .. }
            | OpKind::Delete
            | OpKind::DeleteRecord
            | OpKind::Mark,
            _,
        ) => None,
    }
}

/// Collects what a commit says, by topic.
struct Teller<'a, 'f, Id> {
    before: &'a dyn Rows,
    after: &'a dyn Rows,
    filters: Index<'f, Id>,
    topics: BTreeMap<Path, Topic<'f, Id>>,
}

/// What there is to say under a topic.
struct Topic<'f, Id> {
    /// It is or was a record, and was written or has another document now (rules 1 and 3).
    record: bool,
    /// To these its plain value changed (rules 2 and 3).
    plain: Vec<&'f Id>,
    /// The field that it is, or was, changed (rule 4).
    field: bool,
}

impl<Id> Default for Topic<'_, Id> {
    fn default() -> Self {
        Self {
            record: false,
            plain: Vec::new(),
            field: false,
        }
    }
}

impl<'f, Id> Teller<'_, 'f, Id> {
    fn topic(&mut self, path: &Path) -> &mut Topic<'f, Id> {
        self.topics.entry(path.clone()).or_default()
    }

    fn finish(mut self, writes: &Writes) -> Result<Vec<Told<'f, Id>>, RowsError> {
        let mut told = Vec::new();
        for (path, topic) in std::mem::take(&mut self.topics) {
            let written = writes.reach(&path);
            for (what, filters) in self.say(&path, topic, writes)? {
                if !filters.is_empty() {
                    told.push(Told {
                        topic: path.clone(),
                        filters,
                        what,
                        written: written && what != What::Removed,
                    });
                }
            }
        }
        Ok(told)
    }

    /// What is said under one topic, and to whom.
    fn say(
        &self,
        path: &Path,
        topic: Topic<'f, Id>,
        writes: &Writes,
    ) -> Result<Vec<(What, Vec<&'f Id>)>, RowsError> {
        let row = self.after.row(path)?;
        if row.is_some_and(|row| row.is_record()) {
            let all = if topic.record {
                self.filters.all(path)
            } else {
                Vec::new()
            };
            return Ok(vec![(self.exactly(path, What::Document, writes)?, all)]);
        }
        let inside_before = record_of(self.before, path)?.is_some();
        let inside_after = record_of(self.after, path)?.is_some();
        let held = Held::new(nearest(self.after, path)?, path);
        let mut plain = topic.plain;
        let mut seen = Picked::<Id>::none();
        let mut said = Vec::new();
        let mut removed = Vec::new();
        let changed = topic.field || topic.record || !plain.is_empty();
        if changed && (inside_before || inside_after) {
            let mut named = self.filters.literal(path);
            named.retain(|id| seen.add(id));
            if held.is_gone(self.after, path, inside_after)? {
                removed = named;
            } else {
                said.push((What::Field, named));
            }
        }
        plain.retain(|id| seen.add(id));
        if inside_after || held.is_gone(self.after, path, false)? {
            removed.append(&mut plain);
        } else if !plain.is_empty() {
            said.push((self.exactly(path, What::Prefix, writes)?, plain));
        }
        if topic.record {
            let all = self.filters.all(path).into_iter();
            removed.extend(all.filter(|id| seen.add(id)));
        }
        said.push((What::Removed, removed));
        Ok(said)
    }

    /// What is told, by the operation that wrote exactly this and nothing else, if one did.
    fn exactly(&self, path: &Path, what: What, writes: &Writes) -> Result<What, RowsError> {
        Ok(match writes.exactly(path) {
            Some(write) if !write.spreads || !self.records_below(path)? => What::Written {
                op: write.op,
                entry: write.entry,
            },
            Some(_) | None => what,
        })
    }

    fn records_below(&self, path: &Path) -> Result<bool, RowsError> {
        match self.after.row(path)? {
            Some(row) if row.is_whole() || row.is_record() && !row.records => Ok(false),
            Some(_) | None => crate::has_records_below(self.after, path),
        }
    }
}

//! Which paths a commit wrote.

use std::collections::BTreeMap;
use std::ops::Bound;

use sapwood_value::Value;

use super::index::Index;
use crate::{Op, OpKind, Path, Rows, RowsError, children, is_segment};

/// How a path was written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Change {
    /// By a tree write, which goes for all below it.
    pub(super) tree: bool,
    /// By a record write, which is told even if nothing changed.
    pub(super) record: bool,
}

/// The paths that a commit wrote: each key of a merge, and for the root each child that concerns a filter.
pub(super) fn changes<Id>(
    before: &dyn Rows,
    after: &dyn Rows,
    ops: &[Op],
    filters: Index<'_, Id>,
) -> Result<BTreeMap<Path, Change>, RowsError> {
    let mut changes: BTreeMap<Path, Change> = BTreeMap::new();
    for op in ops {
        let path = &op.path;
        match &op.kind {
            OpKind::Put { .. } | OpKind::Delete if path.is_root() => {
                for rows in [before, after] {
                    each_top(rows, |top| {
                        if !top.is_system() && filters.concerns(&top) {
                            changes.entry(top).or_default().tree = true;
                        }
                    })?;
                }
            }
            OpKind::Put { .. } | OpKind::Delete => {
                changes.entry(path.clone()).or_default().tree = true;
            }
            OpKind::Merge { entries, .. } => {
                for (key, _) in entries.iter().filter(|(key, _)| is_segment(key)) {
                    changes.entry(path.child_unchecked(key)).or_default().tree = true;
                }
            }
            OpKind::PutRecord { .. } | OpKind::DeleteRecord => {
                changes.entry(path.clone()).or_default().record = true;
            }
            OpKind::Mark => {
                changes.entry(path.clone()).or_default();
            }
        }
    }
    Ok(changes)
}

/// How many children of the root are looked at together.
const CHILDREN: usize = 256;

fn each_top(rows: &dyn Rows, mut tell: impl FnMut(Path)) -> Result<(), RowsError> {
    let root = Path::root();
    let mut newest = None;
    loop {
        let names = children(rows, &root, newest.as_deref(), CHILDREN)?;
        for name in names.iter().filter(|name| is_segment(name)) {
            tell(root.child_unchecked(name));
        }
        if names.len() < CHILDREN {
            return Ok(());
        }
        newest = names.last().cloned();
    }
}

/// The values that a commit wrote, by path.
#[derive(Debug)]
pub(super) struct Writes {
    at: BTreeMap<Path, Write>,
}

/// What a commit wrote at one path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write {
    pub(super) op: usize,
    pub(super) entry: Option<usize>,
    /// Whether parts of the value may have gone to records below.
    pub(super) spreads: bool,
    /// Whether a value was written, none removed.
    value: bool,
    /// Whether the path was written more than once.
    again: bool,
}

impl Writes {
    pub(super) fn of(ops: &[Op]) -> Self {
        let mut writes = Self {
            at: BTreeMap::new(),
        };
        for (number, op) in ops.iter().enumerate() {
            match &op.kind {
                OpKind::Put { value, .. } => writes.add(&op.path, number, None, Some(value), true),
                OpKind::PutRecord { document, .. } => {
                    writes.add(&op.path, number, None, Some(document), false);
                }
                OpKind::Merge { entries, .. } => {
                    for (entry, (key, value)) in entries.iter().enumerate() {
                        if is_segment(key) {
                            let path = op.path.child_unchecked(key);
                            writes.add(&path, number, Some(entry), value.as_ref(), true);
                        }
                    }
                }
                OpKind::Delete | OpKind::DeleteRecord | OpKind::Mark => {
                    writes.add(&op.path, number, None, None, false);
                }
            }
        }
        writes
    }

    fn add(
        &mut self,
        path: &Path,
        op: usize,
        entry: Option<usize>,
        value: Option<&Value>,
        tree: bool,
    ) {
        let keys = value.and_then(Value::as_map).map_or(0, |map| map.len());
        let write = Write {
            op,
            entry,
            spreads: tree && keys > 0,
            value: value.is_some_and(|value| !tree || !value.is_null()),
            again: false,
        };
        let known = self.at.entry(path.clone());
        known
            .and_modify(|known| known.again = true)
            .or_insert(write);
    }

    /// Whether a value was written at or above a path.
    pub(super) fn reach(&self, path: &Path) -> bool {
        path.ancestors()
            .any(|at| self.at.get(&at).is_some_and(|write| write.value))
    }

    /// The only write at, above and below a path, if it gave a value to just this path.
    pub(super) fn exactly(&self, path: &Path) -> Option<&Write> {
        let write = self
            .at
            .get(path)
            .filter(|write| write.value && !write.again)?;
        let above = path.ancestors().skip(1).any(|at| self.at.contains_key(&at));
        let behind = (Bound::Excluded(path), Bound::Unbounded);
        let next = self.at.range(behind).next();
        (!above && next.is_none_or(|(next, _)| !next.is_below(path))).then_some(write)
    }
}

//! Writing what a row holds, in several rows where it is large.

use sapwood_value::{Map, Text, Value};

use super::super::value::prune;
use super::Draft;
use crate::{Below, Path, Row, RowKind, Rows, RowsError, is_segment};

/// For so many new rows it is looked whether rows lie below each; for more it is taken that they may.
const CHILDREN_LOOKED_BELOW: usize = 16;

impl Draft<'_> {
    /// Writes a row with its fragment, which is all of its document at and below the path: no rows of the same document
    /// lie below. Explodes it if it is too large for one row.
    pub(super) fn fill(&mut self, path: &Path, row: Row) -> Result<(), RowsError> {
        if path.is_root() {
            self.fill_root(row)
        } else {
            self.fill_row(path, row, false)
        }
    }

    /// A `fresh` row is a part of a row just written, with no row at or below its path.
    fn fill_row(&mut self, path: &Path, mut row: Row, fresh: bool) -> Result<(), RowsError> {
        let large = row.fragment.estimated_bytes() > self.settings.split_bytes;
        match row.fragment {
            Value::Map(map) if large && map.keys().any(|key| is_segment(key)) => {
                let (children, rest) = split(map);
                row.fragment = Value::Map(rest);
                let below = row.below;
                row.exploded = true;
                row.below = below.max(Below::Children);
                self.place_or_set(path, row, fresh)?;
                self.fill_children(path, children, below)
            }
            fragment => {
                row.fragment = fragment;
                row.exploded = false;
                self.place_or_set(path, row, fresh)
            }
        }
    }

    fn place_or_set(&mut self, path: &Path, row: Row, fresh: bool) -> Result<(), RowsError> {
        if fresh {
            // The row above says already that something is below it.
            self.set(path, row);
            Ok(())
        } else {
            self.place(path, row)
        }
    }

    /// The root is always exploded, and needs no row to say so.
    fn fill_root(&mut self, mut row: Row) -> Result<(), RowsError> {
        let root = Path::root();
        let below = row.below;
        row.below = Below::Anywhere;
        let Value::Map(map) = row.fragment else {
            row.exploded = false;
            self.set(&root, row);
            return Ok(());
        };
        let (children, mut rest) = split(map);
        if rest.is_empty() {
            self.changed.insert(root.clone(), None);
        } else {
            rest.set_implied(true);
            row.fragment = Value::Map(rest);
            row.exploded = true;
            self.set(&root, row);
        }
        self.fill_children(&root, children, below)
    }

    /// Writes the children of a row just written, below which rows were as `below` says.
    fn fill_children(
        &mut self,
        path: &Path,
        children: Vec<(Text, Value)>,
        below: Below,
    ) -> Result<(), RowsError> {
        let few = children.len() <= CHILDREN_LOOKED_BELOW;
        let emptied = self.emptied.contains(path);
        for (key, mut value) in children {
            let child = path.child_unchecked(&key);
            if emptied {
                self.emptied.insert(child.clone());
            }
            if below == Below::Nothing {
                self.fill_row(&child, Row::new(RowKind::Part, value, self.seq), true)?;
            } else if let Some(record) = self.row(&child)? {
                let mut record = Row::clone(&record);
                record.covered = prune(&mut value).then(|| Box::new(value));
                self.set(&child, record);
            } else {
                let mut row = Row::new(RowKind::Part, value, self.seq);
                // Rows may lie below any of the children, if any lie below this row.
                let nothing = few && self.scan(&child, None, 1)?.is_empty();
                row.below = if nothing {
                    Below::Nothing
                } else {
                    Below::Anywhere
                };
                self.fill_row(&child, row, false)?;
            }
        }
        Ok(())
    }

    /// What a new row at this path has to say of the rows below it.
    pub(super) fn find_below(&self, path: &Path) -> Result<Below, RowsError> {
        if !self.may_have_below(path)? || self.scan(path, None, 1)?.is_empty() {
            Ok(Below::Nothing)
        } else {
            Ok(Below::Anywhere)
        }
    }
}

/// A map's entries that can have rows of their own, and the map of those that can't.
fn split(map: Map) -> (Vec<(Text, Value)>, Map) {
    let mut rest = Map::new();
    rest.set_implied(map.is_implied());
    let mut children = Vec::with_capacity(map.len());
    for (key, value) in map {
        if is_segment(&key) {
            children.push((key, value));
        } else {
            rest.insert(key, value);
        }
    }
    (children, rest)
}

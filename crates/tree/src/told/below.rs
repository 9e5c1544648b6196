//! What a write says below its path.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use sapwood_value::{Text, Value};

use super::Teller;
use super::held::{Held, Pair};
use super::index::open_beyond;
use super::writes::Change;
use crate::filter::{Place, Walked};
use crate::walk::{Cursor, nearest};
use crate::{Below, Path, Row, Rows, RowsError, is_segment, record_of};

/// The part of the tree below a written path, or below a record that begins or ends.
#[derive(Clone, Copy)]
struct Region {
    /// The level of its root. What the filters with `#` that match there are told, they are told there, but for records.
    base: usize,
    /// Whether the records in it may have changed, too.
    records: bool,
    /// Whether plain values are told, and not only fields of records.
    plain: bool,
}

/// How filters go on below a path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Nowhere,
    /// By names only.
    Named,
    Anywhere,
}

impl Region {
    /// How the filters go on that are told of what documents hold.
    fn reach_inside<Id>(self, walked: &Walked<'_, Id>) -> Reach {
        if open_beyond(walked, self.base).next().is_some() || walked.at().any(Place::has_one) {
            Reach::Anywhere
        } else if walked.at().any(Place::goes_on) {
            Reach::Named
        } else {
            Reach::Nowhere
        }
    }

    /// How filters go on.
    fn reach<Id>(self, walked: &Walked<'_, Id>) -> Reach {
        if self.records && walked.open().next().is_some() {
            Reach::Anywhere
        } else {
            self.reach_inside(walked)
        }
    }
}

/// Rows of both states in one order.
struct Merged {
    before: Cursor,
    after: Cursor,
}

/// The rows at one path, before and after.
type Both = (Option<Arc<Row>>, Option<Arc<Row>>);

impl Merged {
    fn next(
        &mut self,
        before: &dyn Rows,
        after: &dyn Rows,
    ) -> Result<Option<(Path, Both)>, RowsError> {
        let order = match (self.before.peek(before)?, self.after.peek(after)?) {
            (None, None) => return Ok(None),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let first = if order.is_le() {
            self.before.next(before)?
        } else {
            None
        };
        let second = if order.is_ge() {
            self.after.next(after)?
        } else {
            None
        };
        Ok(match (first, second) {
            (Some((path, x)), second) => Some((path, (Some(x), second.map(|(_, y)| y)))),
            (None, Some((path, y))) => Some((path, (None, Some(y)))),
            (None, None) => None,
        })
    }

    fn skip_subtree(&mut self, path: &Path) {
        self.before.skip_subtree(path);
        self.after.skip_subtree(path);
    }
}

fn is_record(row: Option<&Arc<Row>>) -> bool {
    row.is_some_and(|row| row.is_record())
}

impl<Id> Teller<'_, '_, Id> {
    /// Says what changed strictly below a written path. A tree write goes for the records there, too. Everything in the
    /// path's own document `turns` into another if a record began or ended there.
    pub(super) fn tell_below(
        &mut self,
        path: &Path,
        change: Change,
        turns: bool,
    ) -> Result<(), RowsError> {
        let region = Region {
            base: path.len(),
            records: change.tree,
            plain: true,
        };
        self.tell_region(region, path, turns)
    }

    /// Says what became of all that lies below a record that began or ended while something in it was written: plain
    /// values became its fields, or its fields are what it had covered.
    pub(super) fn tell_turned(&mut self, record: &Path, began: bool) -> Result<(), RowsError> {
        let region = Region {
            base: record.len(),
            records: false,
            plain: began,
        };
        self.tell_region(region, record, true)
    }

    fn tell_region(&mut self, region: Region, at: &Path, turns: bool) -> Result<(), RowsError> {
        let walked = self.filters.walk(at);
        match region.reach(&walked) {
            Reach::Nowhere => Ok(()),
            Reach::Named => {
                let names: BTreeSet<&str> = walked
                    .at()
                    .flat_map(Place::literals)
                    .map(|(name, _)| name)
                    .collect();
                for name in names {
                    self.tell_named(region, &at.child_unchecked(name), turns)?;
                }
                Ok(())
            }
            Reach::Anywhere => {
                let before = Held::new(nearest(self.before, at)?, at);
                let after = Held::new(nearest(self.after, at)?, at);
                self.tell_values(region, at, (before.value(at), after.value(at)), turns)?;
                let split = before.is_split() || after.is_split();
                let records =
                    region.records && (has_below(self.before, at)? || has_below(self.after, at)?);
                if split || records {
                    self.tell_rows(region, at, turns)?;
                }
                Ok(())
            }
        }
    }

    /// Says what changed at a path that a filter names or goes through, and below it.
    fn tell_named(&mut self, region: Region, path: &Path, turns: bool) -> Result<(), RowsError> {
        let (before, after) = (self.before.row(path)?, self.after.row(path)?);
        let both = (is_record(before.as_ref()), is_record(after.as_ref()));
        if !region.records && both == (true, true) {
            return Ok(());
        }
        self.tell_topic(region, path)?;
        self.tell_record(path, (before.as_ref(), after.as_ref()))?;
        self.tell_region(region, path, turns || both.0 != both.1)
    }

    fn tell_rows(&mut self, region: Region, root: &Path, turns: bool) -> Result<(), RowsError> {
        let cursor = || Cursor::new(root.clone());
        let mut rows = Merged {
            before: cursor(),
            after: cursor(),
        };
        // Below this path, a record began or ended.
        let mut turned: Option<Path> = turns.then(|| root.clone());
        let mut last = root.clone();
        while let Some((path, (before, after))) = rows.next(self.before, self.after)? {
            let both = (is_record(before.as_ref()), is_record(after.as_ref()));
            if !region.records && both == (true, true) {
                rows.skip_subtree(&path);
                continue;
            }
            if region.reach(&self.filters.walk(&path)) == Reach::Nowhere {
                rows.skip_subtree(&path);
            }
            turned = turned.filter(|turned| path.starts_with(turned));
            if turned.is_none() && both.0 != both.1 {
                turned = Some(path.clone());
            }
            let same = match (&before, &after) {
                (Some(before), Some(after)) => Arc::ptr_eq(before, after),
                _ => false,
            };
            if same && turned.is_none() {
                continue;
            }
            for level in root.len() + 1..=path.len() {
                let at = path.prefix(level);
                if !last.starts_with(&at) {
                    self.tell_topic(region, &at)?;
                }
            }
            self.tell_record(&path, (before.as_ref(), after.as_ref()))?;
            let before = before.as_ref().map(|row| &row.fragment);
            let after = after.as_ref().map(|row| &row.fragment);
            self.tell_values(region, &path, (before, after), turned.is_some())?;
            last = path;
        }
        Ok(())
    }

    /// Says that a record's document changed, if the row at the path begins one.
    fn tell_record(
        &mut self,
        path: &Path,
        (before, after): (Option<&Arc<Row>>, Option<&Arc<Row>>),
    ) -> Result<(), RowsError> {
        let both = (is_record(before), is_record(after));
        if both == (false, false) || !self.filters.matches(path) {
            return Ok(());
        }
        let changed = match (before, after) {
            (Some(before), Some(after)) if both == (true, true) => {
                before.version != after.version && self.pair_at(path)?.differs()?
            }
            _ => true,
        };
        if changed {
            self.topic(path).record = true;
        }
        Ok(())
    }

    /// Says what changed inside two values that lie at a path.
    fn tell_values(
        &mut self,
        region: Region,
        path: &Path,
        (before, after): (Option<&Value>, Option<&Value>),
        turned: bool,
    ) -> Result<(), RowsError> {
        let reach = region.reach_inside(&self.filters.walk(path));
        if reach == Reach::Nowhere || !turned && before == after {
            return Ok(());
        }
        for key in keys(before, after) {
            let before = before.and_then(|value| value.child(&key));
            let after = after.and_then(|value| value.child(&key));
            if turned || before != after {
                let at = path.child_unchecked(&key);
                self.tell_topic(region, &at)?;
                self.tell_values(region, &at, (before, after), turned)?;
            }
        }
        Ok(())
    }

    /// Says what is told under a topic below the region's root, if that is no record now.
    fn tell_topic(&mut self, region: Region, path: &Path) -> Result<(), RowsError> {
        let told = self.filters.beyond(path, region.base);
        if told.is_empty() || is_record(self.after.row(path)?.as_ref()) {
            return Ok(());
        }
        let inside = (
            record_of(self.before, path)?.is_some(),
            record_of(self.after, path)?.is_some(),
        );
        let named = inside != (false, false) && !self.filters.literal(path).is_empty();
        let field = named && self.pair_at(path)?.field_other(inside)?;
        let plain = region.plain && self.pair_at(path)?.plain(inside).plain_other()?;
        if field || plain {
            let topic = self.topic(path);
            topic.field |= field;
            if plain {
                topic.plain.extend(told);
            }
        }
        Ok(())
    }

    fn pair_at<'s>(&'s self, path: &'s Path) -> Result<Pair<'s>, RowsError> {
        Ok(Pair {
            path,
            before: (self.before, Held::new(nearest(self.before, path)?, path)),
            after: (self.after, Held::new(nearest(self.after, path)?, path)),
        })
    }
}

/// Whether rows may lie strictly below a path, as its own row says.
fn has_below(rows: &dyn Rows, path: &Path) -> Result<bool, RowsError> {
    Ok(match nearest(rows, path)? {
        Some((at, row)) if at == *path => row.exploded || row.below != Below::Nothing,
        Some((at, row)) => at.is_root() || row.exploded || row.below == Below::Anywhere,
        None => true,
    })
}

/// The keys of two values' children that can be addressed.
fn keys(before: Option<&Value>, after: Option<&Value>) -> BTreeSet<Text> {
    let mut keys = BTreeSet::new();
    for value in [before, after].into_iter().flatten() {
        match value {
            Value::Map(map) => keys.extend(map.keys().filter(|key| is_segment(key)).cloned()),
            Value::Array(items) => {
                keys.extend((0..items.len()).map(|index| Text::from(index.to_string())));
            }
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::UInt(_)
            | Value::Float(_)
            | Value::String(_)
            | Value::Bytes(_) => {}
        }
    }
    keys
}

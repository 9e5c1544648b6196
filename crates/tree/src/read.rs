//! Reading values (design, 2.1).

use std::ops::ControlFlow;

use sapwood_value::{Text, Value, key_cmp};

use crate::walk::{ChildRows, Cursor, Mode, Walk, collect, inline, nearest};
use crate::{Path, Rows, RowsError};

/// Why a value was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It takes more bytes than asked for.
    #[error("the value is larger than {limit} bytes")]
    TooLarge {
        /// The bound that it passed, in bytes.
        limit: usize,
    },
    /// The rows can't be read.
    #[error("the value's rows can't be read")]
    Rows(#[from] RowsError),
}

/// The tree value at a path; none if nothing is there. The root of an empty tree holds an empty map.
///
/// # Errors
/// If it takes more than about `limit` bytes, or the rows can't be read. No more than that is read.
pub fn tree_value(rows: &dyn Rows, path: &Path, limit: usize) -> Result<Option<Value>, ReadError> {
    read(rows, path, Mode::Tree, limit)
}

/// What the path's own document (or the plain tree) says there, without the records below it.
///
/// # Errors
/// As [`tree_value`].
pub fn own(rows: &dyn Rows, path: &Path, limit: usize) -> Result<Option<Value>, ReadError> {
    read(rows, path, Mode::Own, limit)
}

/// The document of the record at exactly this path; none if there is no record.
///
/// # Errors
/// As [`tree_value`].
pub fn document(rows: &dyn Rows, path: &Path, limit: usize) -> Result<Option<Value>, ReadError> {
    match rows.row(path)? {
        Some(row) if row.is_record() => read(rows, path, Mode::Own, limit),
        Some(_) | None => Ok(None),
    }
}

fn read(
    rows: &dyn Rows,
    path: &Path,
    mode: Mode,
    limit: usize,
) -> Result<Option<Value>, ReadError> {
    let Some(mut walk) = Walk::begin(rows, path, mode)? else {
        return Ok(None);
    };
    match collect(rows, &mut walk, limit)? {
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(ReadError::TooLarge { limit }),
    }
}

/// The deepest record at or above a path: the one whose document the path belongs to.
///
/// # Errors
/// If the rows can't be read.
pub fn record_of(rows: &dyn Rows, path: &Path) -> Result<Option<Path>, RowsError> {
    for at in path.ancestors() {
        if rows.row(&at)?.is_some_and(|row| row.is_record()) {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Whether the path has a tree value. The root always has one.
///
/// # Errors
/// If the rows can't be read.
pub fn exists(rows: &dyn Rows, path: &Path) -> Result<bool, RowsError> {
    Ok(path.is_root() || own_exists(rows, path)? || has_rows_below(rows, path)?)
}

/// Whether the path's own document (or the plain tree) has something there.
///
/// # Errors
/// If the rows can't be read.
pub fn own_exists(rows: &dyn Rows, path: &Path) -> Result<bool, RowsError> {
    Ok(match nearest(rows, path)? {
        Some((at, _)) if at == *path => true,
        Some((at, row)) => inline(&at, &row, path).is_some(),
        None => false,
    })
}

/// The highest path strictly above `path` whose own document has something there that is no map, and below which rows
/// lie: it reads as a map only as long as they do.
///
/// # Errors
/// If the rows can't be read.
pub fn covered_above(rows: &dyn Rows, path: &Path) -> Result<Option<Path>, RowsError> {
    for n in 0..path.len() {
        let at = path.prefix(n);
        let Some(row) = rows.row(&at)? else { continue };
        let no_map = (n..path.len()).map(|n| path.prefix(n)).find(|above| {
            let own = if *above == at {
                Some(&row.fragment)
            } else {
                inline(&at, &row, above)
            };
            own.is_some_and(|own| own.as_map().is_none())
        });
        if let Some(above) = no_map
            && has_rows_below(rows, &above)?
        {
            return Ok(Some(above));
        }
    }
    Ok(None)
}

/// Whether records lie strictly below a path.
///
/// # Errors
/// If the rows can't be read.
pub fn has_records_below(rows: &dyn Rows, path: &Path) -> Result<bool, RowsError> {
    // Of what lies below a record, its row knows.
    if rows
        .row(path)?
        .is_some_and(|row| row.is_record() && !row.records)
    {
        return Ok(false);
    }
    let mut cursor = Cursor::new(path.clone());
    while let Some((_, row)) = cursor.next(rows)? {
        if row.is_record() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_rows_below(rows: &dyn Rows, path: &Path) -> Result<bool, RowsError> {
    Ok(!rows.scan(path, None, 1)?.is_empty())
}

/// Up to `max` names of direct children of the tree value at a path, in key order, from behind the key `after`.
///
/// Keys that are no segments are among them; a scalar's `.value` is not. Fewer than `max` means that there are no more.
///
/// # Errors
/// If the rows can't be read.
pub fn children(
    rows: &dyn Rows,
    path: &Path,
    after: Option<&str>,
    max: usize,
) -> Result<Vec<Text>, RowsError> {
    let mut found = Vec::new();
    if max > 0 {
        each_child(rows, path, after, |key| {
            found.push(key);
            if found.len() < max {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
    }
    Ok(found)
}

/// How many direct children the tree value at a path has. None: it is absent, or neither a map nor read as one.
///
/// # Errors
/// If the rows can't be read.
pub fn count_children(rows: &dyn Rows, path: &Path) -> Result<usize, RowsError> {
    let mut count = 0;
    each_child(rows, path, None, |_| {
        count += 1;
        ControlFlow::Continue(())
    })?;
    Ok(count)
}

/// Tells the names of the direct children in key order, from behind `after`.
fn each_child(
    rows: &dyn Rows,
    path: &Path,
    after: Option<&str>,
    mut tell: impl FnMut(Text) -> ControlFlow<()>,
) -> Result<(), RowsError> {
    let mut below = ChildRows::new(path, after);
    let own = own_keys(rows, path)?;
    let behind = |key: &Text| after.is_none_or(|after| key_cmp(key, after).is_gt());
    let mut own = own.into_iter().filter(behind).peekable();
    loop {
        let row = below.peek(rows)?;
        let order = match (own.peek(), row) {
            (Some(own), Some(row)) => key_cmp(own, row),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return Ok(()),
        };
        let from_row = if order.is_ge() { below.take() } else { None };
        let from_own = if order.is_le() { own.next() } else { None };
        if let Some(key) = from_own.or(from_row)
            && tell(key).is_break()
        {
            return Ok(());
        }
    }
}

/// The keys that the row at or above the path has there.
fn own_keys(rows: &dyn Rows, path: &Path) -> Result<Vec<Text>, RowsError> {
    let near = nearest(rows, path)?;
    let own = match &near {
        Some((at, row)) if at == path => Some(&row.fragment),
        Some((at, row)) => inline(at, row, path),
        None => None,
    };
    Ok(match own {
        Some(Value::Map(map)) => map.keys().cloned().collect(),
        Some(Value::Array(items)) => (0..items.len())
            .map(|index| Text::from(index.to_string()))
            .collect(),
        _ => Vec::new(),
    })
}

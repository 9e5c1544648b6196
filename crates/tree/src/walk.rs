//! Walking what lies at and below a path, in bounded memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::vec::IntoIter;

use sapwood_value::{Map, Text, VALUE_KEY, Value, key_cmp};

use crate::{Path, Row, Rows, RowsError, Skip, is_end, is_segment};

/// Rows that a batch takes at first, and at most.
const BATCH_FIRST: usize = 8;
const BATCH_MAX: usize = 256;

/// The rows strictly below a path, in tree order, read in batches.
#[derive(Debug)]
pub(crate) struct Cursor {
    under: Path,
    batch: VecDeque<(Path, Arc<Row>)>,
    resume: Option<(Path, Skip)>,
    size: usize,
    done: bool,
}

impl Cursor {
    pub(crate) const fn new(under: Path) -> Self {
        Self {
            under,
            batch: VecDeque::new(),
            resume: None,
            size: BATCH_FIRST,
            done: false,
        }
    }

    /// Begins behind a path instead of at the first row.
    pub(crate) fn start_behind(&mut self, path: Path, skip: Skip) {
        self.resume = Some((path, skip));
    }

    /// The next row, which stays the next.
    pub(crate) fn peek(&mut self, rows: &dyn Rows) -> Result<Option<&(Path, Arc<Row>)>, RowsError> {
        if self.batch.is_empty() && !self.done {
            let after = self.resume.as_ref().map(|(path, skip)| (path, *skip));
            let batch = rows.scan(&self.under, after, self.size)?;
            self.done = is_end(&batch, self.size);
            self.size = BATCH_MAX.min(self.size * 4);
            if let Some((last, _)) = batch.last() {
                self.resume = Some((last.clone(), Skip::Row));
            }
            self.batch = batch.into();
        }
        Ok(self.batch.front())
    }

    /// The next row.
    pub(crate) fn next(&mut self, rows: &dyn Rows) -> Result<Option<(Path, Arc<Row>)>, RowsError> {
        self.peek(rows)?;
        Ok(self.batch.pop_front())
    }

    /// Leaves out what comes at and below `path`. All rows before it have been taken.
    pub(crate) fn skip_subtree(&mut self, path: &Path) {
        while self
            .batch
            .front()
            .is_some_and(|(next, _)| next.starts_with(path))
        {
            self.batch.pop_front();
        }
        if self.batch.is_empty() {
            self.resume = Some((path.clone(), Skip::Subtree));
        }
    }
}

/// The names of the direct children that rows lie at or below.
#[derive(Debug)]
pub(crate) struct ChildRows {
    path: Path,
    cursor: Cursor,
    after: Option<Text>,
    next: Option<Text>,
}

impl ChildRows {
    pub(crate) fn new(path: &Path, after: Option<&str>) -> Self {
        let mut cursor = Cursor::new(path.clone());
        if let Some(after) = after.filter(|after| is_segment(after)) {
            cursor.start_behind(path.child_unchecked(after), Skip::Subtree);
        }
        Self {
            path: path.clone(),
            cursor,
            after: after.map(Text::from),
            next: None,
        }
    }

    pub(crate) fn peek(&mut self, rows: &dyn Rows) -> Result<Option<&Text>, RowsError> {
        while self.next.is_none()
            && let Some((path, _)) = self.cursor.peek(rows)?
            && let Some(key) = path
                .segments_below(&self.path)
                .and_then(|mut all| all.next())
        {
            let key = Text::from(key);
            self.cursor.skip_subtree(&self.path.child_unchecked(&key));
            // A key that is no segment can't be sought.
            if self
                .after
                .as_ref()
                .is_none_or(|after| key_cmp(&key, after).is_gt())
            {
                self.next = Some(key);
            }
        }
        Ok(self.next.as_ref())
    }

    pub(crate) fn take(&mut self) -> Option<Text> {
        self.next.take()
    }

    pub(crate) fn next(&mut self, rows: &dyn Rows) -> Result<Option<Text>, RowsError> {
        self.peek(rows)?;
        Ok(self.take())
    }
}

/// The direct children of an exploded row that belong to its document: parts, and records that cover something of it.
#[derive(Debug)]
pub(crate) struct Parts {
    path: Path,
    cursor: Cursor,
}

impl Parts {
    pub(crate) fn new(path: Path) -> Self {
        Self {
            cursor: Cursor::new(path.clone()),
            path,
        }
    }

    pub(crate) fn next(&mut self, rows: &dyn Rows) -> Result<Option<(Path, Arc<Row>)>, RowsError> {
        while let Some((at, row)) = self.cursor.next(rows)? {
            let child = at.prefix(self.path.len() + 1);
            self.cursor.skip_subtree(&child);
            if child == at && (!row.is_record() || row.covered.is_some()) {
                return Ok(Some((at, row)));
            }
        }
        Ok(None)
    }
}

/// What a walk is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The tree value: the document, overlaid with the records below.
    Tree,
    /// The document alone (or the plain tree), with what the records below cover of it.
    Own,
}

/// A step of a walk: a value, or a map's beginning, its keys each before its value, and its end.
#[derive(Debug)]
pub(crate) enum Token {
    /// A whole value: the row's fragment.
    Row(Arc<Row>),
    /// A whole value.
    Value(Value),
    /// A map begins. It may be one that nobody spelled out.
    BeginMap { implied: bool },
    /// A key of the innermost map; its value is next. Keys come in key order.
    Key(Text),
    /// The innermost map ends.
    EndMap,
}

/// A map that is being walked: its own entries, to be merged with the rows below its path.
#[derive(Debug)]
struct Frame {
    path: Path,
    entries: IntoIter<(Text, Value)>,
}

/// A walk over the value at a path.
#[derive(Debug)]
pub(crate) struct Walk {
    mode: Mode,
    cursor: Cursor,
    /// The row at the path that is entered next, if it was read.
    row: Option<Arc<Row>>,
    frames: Vec<Frame>,
    enter: Option<(Path, Option<Value>)>,
    /// Where the row lies that was entered last.
    inside: Path,
}

impl Walk {
    /// Begins at `path`; none if nothing is there. At the root of an empty tree there is an empty map.
    pub(crate) fn begin(
        rows: &dyn Rows,
        path: &Path,
        mode: Mode,
    ) -> Result<Option<Self>, RowsError> {
        let mut walk = Self {
            mode,
            cursor: Cursor::new(path.clone()),
            row: None,
            frames: Vec::new(),
            enter: None,
            inside: path.clone(),
        };
        let base = match nearest(rows, path)? {
            Some((at, row)) if at == *path => {
                walk.row = Some(row);
                None
            }
            Some((at, row)) => inline(&at, &row, path).cloned(),
            None if path.is_root() => Some(Value::Map(Map::implied())),
            None => None,
        };
        let inlined = base.is_some() && !path.is_root();
        let whole = walk.row.as_ref().map_or(inlined, |row| !row.exploded);
        if mode == Mode::Own && whole {
            walk.cursor.done = true;
        }
        if walk.row.is_none() && base.is_none() {
            // Without anything of its own, what lies below is records only.
            if mode == Mode::Own || walk.peek(rows)?.is_none() {
                return Ok(None);
            }
        }
        walk.enter = Some((path.clone(), base));
        Ok(Some(walk))
    }

    /// The next step; none at the end.
    pub(crate) fn next(&mut self, rows: &dyn Rows) -> Result<Option<Token>, RowsError> {
        if let Some((path, base)) = self.enter.take() {
            return self.enter(rows, path, base).map(Some);
        }
        let Some(path) = self.frames.last().map(|frame| frame.path.clone()) else {
            return Ok(None);
        };
        let row_key = match self.peek(rows)? {
            Some(next) => next
                .segments_below(&path)
                .and_then(|mut segments| segments.next())
                .map(Text::from),
            None => None,
        };
        let Some(frame) = self.frames.last_mut() else {
            return Ok(None);
        };
        let own_first = match (frame.entries.as_slice().first(), &row_key) {
            (Some((own, _)), Some(row)) => key_cmp(own, row),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => {
                self.frames.pop();
                return Ok(Some(Token::EndMap));
            }
        };
        let own = if own_first.is_le() {
            frame.entries.next()
        } else {
            None
        };
        let (key, base) = match (own, row_key) {
            (Some((key, value)), _) => (key, Some(value)),
            (None, Some(key)) => (key, None),
            (None, None) => return Ok(None),
        };
        if own_first.is_lt() {
            // Not every key is a segment, and no row lies below this one.
            self.enter = base.map(|value| (Path::root(), Some(value)));
        } else {
            self.enter = Some((path.child_unchecked(&key), base));
        }
        Ok(Some(Token::Key(key)))
    }

    /// Enters the value at a path, of which `base` is what the fragments above say. The root as the path of a value
    /// inside says that no rows go with it.
    fn enter(
        &mut self,
        rows: &dyn Rows,
        path: Path,
        base: Option<Value>,
    ) -> Result<Token, RowsError> {
        let inside = path.is_root() && !self.frames.is_empty();
        if inside {
            return Ok(Token::Value(base.unwrap_or_default()));
        }
        let mut row = self.row.take();
        if self.peek(rows)? == Some(&path) {
            let Some((_, taken)) = self.cursor.next(rows)? else {
                return Ok(Token::Value(base.unwrap_or_default()));
            };
            if self.mode == Mode::Own {
                if taken.is_record() || !taken.exploded {
                    self.cursor.skip_subtree(&path);
                }
                if let (true, Some(covered)) = (taken.is_record(), &taken.covered) {
                    return Ok(Token::Value((**covered).clone()));
                }
            }
            self.inside = path.clone();
            row = Some(taken);
        }
        let below = self.peek(rows)?.is_some_and(|next| next.is_below(&path));
        if !below {
            return Ok(match row {
                Some(row) => Token::Row(row),
                None => Token::Value(base.unwrap_or_default()),
            });
        }
        let own = row.map(|row| row.fragment.clone()).or(base);
        let map = merged_map(own);
        let implied = map.is_implied();
        self.frames.push(Frame {
            path,
            entries: map.into_entries().into_iter(),
        });
        Ok(Token::BeginMap { implied })
    }

    /// How many keys the innermost map has, of which none has been taken yet.
    pub(crate) fn count(&self, rows: &dyn Rows) -> Result<usize, RowsError> {
        let Some(frame) = self.frames.last() else {
            return Ok(0);
        };
        let own = frame.entries.as_slice();
        let mut count = own.len();
        let mut below = ChildRows::new(&frame.path, None);
        while let Some(key) = below.next(rows)? {
            let known = own.binary_search_by(|(own, _)| key_cmp(own, &key));
            count += usize::from(known.is_err());
        }
        Ok(count)
    }

    /// The path of the next row that belongs to the walk.
    fn peek(&mut self, rows: &dyn Rows) -> Result<Option<&Path>, RowsError> {
        if self.mode == Mode::Own {
            while let Some((path, row)) = self.cursor.peek(rows)? {
                if !row.is_record() || row.covered.is_some() {
                    break;
                }
                // The child that the record lies at or in: had the document something there, a row of it would come first.
                let above = std::iter::once(&self.inside)
                    .chain(self.frames.iter().rev().map(|frame| &frame.path));
                let above = above
                    .filter(|above| path.is_below(above))
                    .map(Path::len)
                    .max();
                let child = path.prefix(above.unwrap_or(0) + 1);
                self.cursor.skip_subtree(&child);
            }
        }
        Ok(self.cursor.peek(rows)?.map(|(path, _)| path))
    }
}

/// The map as which a value reads when records lie below it (design, 2.1).
pub(crate) fn merged_map(own: Option<Value>) -> Map {
    match own {
        None => Map::implied(),
        Some(Value::Map(map)) => map,
        Some(Value::Array(items)) => {
            let entries = items.into_iter().enumerate();
            entries
                .map(|(index, item)| (Text::from(index.to_string()), item))
                .collect()
        }
        Some(
            scalar @ (Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::UInt(_)
            | Value::Float(_)
            | Value::String(_)
            | Value::Bytes(_)),
        ) => [(Text::const_new(VALUE_KEY), scalar)].into_iter().collect(),
    }
}

/// The deepest row at or above a path.
pub(crate) fn nearest(rows: &dyn Rows, path: &Path) -> Result<Option<(Path, Arc<Row>)>, RowsError> {
    for at in path.ancestors() {
        if let Some(row) = rows.row(&at)? {
            return Ok(Some((at, row)));
        }
    }
    Ok(None)
}

/// What the row at `at` holds in itself at a path below it.
pub(crate) fn inline<'a>(at: &Path, row: &'a Row, path: &Path) -> Option<&'a Value> {
    if row.exploded {
        return None;
    }
    step(&row.fragment, path.segments_below(at)?)
}

/// What lies in a value along a path.
pub(crate) fn step<'a, 'b>(
    value: &'a Value,
    mut path: impl Iterator<Item = &'b str>,
) -> Option<&'a Value> {
    path.try_fold(value, |value, key| value.child(key))
}

/// A value that grew past the bound it was read with.
#[derive(Debug)]
pub(crate) struct PastBound;

/// Reads all of a walk into a value of at most `bytes`, as estimated.
pub(crate) fn collect(
    rows: &dyn Rows,
    walk: &mut Walk,
    bytes: usize,
) -> Result<Result<Value, PastBound>, RowsError> {
    let mut stack: Vec<(Map, Text)> = Vec::new();
    let mut key = Text::default();
    let mut total = 0_usize;
    loop {
        let done = match walk.next(rows)? {
            None => return Ok(Ok(Value::Null)),
            Some(Token::Key(next)) => {
                total += 2 + next.len();
                key = next;
                continue;
            }
            Some(Token::BeginMap { implied }) => {
                total += 3;
                let mut map = Map::new();
                map.set_implied(implied);
                stack.push((map, std::mem::take(&mut key)));
                continue;
            }
            Some(Token::Row(row)) => {
                total += row.fragment.estimated_bytes();
                if total > bytes {
                    return Ok(Err(PastBound));
                }
                row.fragment.clone()
            }
            Some(Token::Value(value)) => {
                total += value.estimated_bytes();
                value
            }
            Some(Token::EndMap) => match stack.pop() {
                Some((map, outer)) => {
                    key = outer;
                    Value::Map(map)
                }
                None => return Ok(Ok(Value::Null)),
            },
        };
        if total > bytes {
            return Ok(Err(PastBound));
        }
        match stack.last_mut() {
            Some((map, _)) => {
                map.insert(std::mem::take(&mut key), done);
            }
            None => return Ok(Ok(done)),
        }
    }
}

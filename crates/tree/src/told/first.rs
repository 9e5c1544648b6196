//! What a new subscriber is told first (design, 2.2).

use std::sync::Arc;

use sapwood_value::{Text, Value};

use super::held::is_empty;
use crate::walk::Cursor;
use crate::{
    Path, Payload, ReadError, Row, Rows, RowsError, TopicFilter, children, is_segment, own,
    record_of,
};

/// How many children, or rows, are looked at together.
const BATCH: usize = 256;
/// About so many bytes of values are handed out together; one value may be larger.
const BATCH_BYTES: usize = 1 << 20;

/// What a topic says: a value, and the payload of the record that it is, if one made it.
#[derive(Debug, Clone)]
pub struct TopicValue {
    /// The record's row.
    row: Option<Arc<Row>>,
    /// None where the row's fragment is all of it.
    value: Option<Value>,
}

impl From<Value> for TopicValue {
    /// A plain value, or a field: what no record's payload has to do with.
    fn from(value: Value) -> Self {
        Self {
            row: None,
            value: Some(value),
        }
    }
}

impl TopicValue {
    /// What the record or the plain value at a path says there, without the records below; none if it is nothing.
    ///
    /// # Errors
    /// If it takes more than about `limit` bytes, or the rows can't be read.
    pub fn read(rows: &dyn Rows, path: &Path, limit: usize) -> Result<Option<Self>, ReadError> {
        let row = rows.row(path)?.filter(|row| row.is_record());
        if let Some(row) = row {
            return Self::record(rows, path, row, limit);
        }
        Ok(own(rows, path, limit)?.map(Self::from))
    }

    fn record(
        rows: &dyn Rows,
        path: &Path,
        row: Arc<Row>,
        limit: usize,
    ) -> Result<Option<Self>, ReadError> {
        let value = if row.is_whole() {
            if limit < usize::MAX && row.fragment.estimated_bytes() > limit {
                return Err(ReadError::TooLarge { limit });
            }
            None
        } else {
            let Some(value) = own(rows, path, limit)? else {
                return Ok(None);
            };
            Some(value)
        };
        let row = Some(row);
        Ok(Some(Self { row, value }))
    }

    /// The value.
    pub fn value(&self) -> &Value {
        let whole = || self.row.as_ref().map(|row| &row.fragment);
        self.value
            .as_ref()
            .or_else(whole)
            .unwrap_or(const { &Value::Null })
    }

    /// The payload that made the record, if this is one that a payload made; [`Payload::encode`] says it as it is now.
    pub fn payload(&self) -> Option<&Payload> {
        self.row.as_ref()?.payload.as_deref()
    }
}

/// The first state of a filter, on its way: the records that match; for a filter without `#` also the plain values that
/// match, without the records below them, and the field inside a record that the filter names.
///
/// Each call goes on where the one before it stopped, over the same rows.
#[derive(Debug)]
pub struct FirstTopics {
    filter: TopicFilter,
    levels: Vec<Level>,
    /// The filter has no wildcard.
    literal: bool,
    /// What is still to be looked at, the next one last.
    left: Vec<Left>,
}

#[derive(Debug)]
enum Level {
    Literal(Text),
    One,
    All,
}

#[derive(Debug)]
enum Left {
    /// The path, which has gone through so many levels of the filter.
    At(Path),
    /// The children of a path behind this one.
    Children { parent: Path, after: Option<Text> },
    /// The records at and below a path.
    Records(Path, Option<Cursor>),
}

impl FirstTopics {
    /// Begins with everything that the filter matches still to come.
    pub fn new(filter: TopicFilter) -> Self {
        let named = filter.as_path();
        let literal = named.is_some();
        Self {
            levels: if literal { Vec::new() } else { levels(&filter) },
            literal,
            left: vec![Left::At(named.unwrap_or_else(Path::root))],
            filter,
        }
    }

    /// The next topics with their values, at most `max` of them; none at the end.
    ///
    /// # Errors
    /// If the rows can't be read.
    pub fn next(
        &mut self,
        rows: &dyn Rows,
        max: usize,
    ) -> Result<Vec<(Path, TopicValue)>, RowsError> {
        let mut found = Vec::new();
        let mut bytes = 0;
        while found.len() < max && bytes < BATCH_BYTES {
            let Some(left) = self.left.pop() else { break };
            let topic = match left {
                Left::At(path) => self.enter(rows, path)?,
                Left::Children { parent, after } => {
                    self.list(rows, parent, after.as_deref())?;
                    None
                }
                Left::Records(path, cursor) => self.next_record(rows, path, cursor)?,
            };
            bytes += topic
                .as_ref()
                .map_or(0, |(_, said)| said.value().estimated_bytes());
            found.extend(topic);
        }
        Ok(found)
    }

    /// Looks at a path that the filter's first levels match; the topic, if the whole filter does.
    fn enter(
        &mut self,
        rows: &dyn Rows,
        path: Path,
    ) -> Result<Option<(Path, TopicValue)>, RowsError> {
        match self.levels.get(path.len()) {
            Some(Level::Literal(segment)) => {
                self.left.push(Left::At(path.child_unchecked(segment)));
            }
            Some(Level::One) if goes_on(rows, &path)? => {
                self.left.push(Left::Children {
                    parent: path,
                    after: None,
                });
            }
            Some(Level::One) => {}
            Some(Level::All) => self.left.push(Left::Records(path, None)),
            None => return self.topic(rows, path),
        }
        Ok(None)
    }

    fn topic(&self, rows: &dyn Rows, path: Path) -> Result<Option<(Path, TopicValue)>, RowsError> {
        let record = record_of(rows, &path)?;
        let value = match &record {
            Some(record) if *record == path || self.literal => whole(rows, &path)?,
            Some(_) => None,
            None => whole(rows, &path)?.filter(|said| !is_empty(said.value())),
        };
        Ok(value.map(|said| (path, said)))
    }

    fn list(
        &mut self,
        rows: &dyn Rows,
        parent: Path,
        after: Option<&str>,
    ) -> Result<(), RowsError> {
        let names = children(rows, &parent, after, BATCH)?;
        let last = names.last().cloned().filter(|_| names.len() == BATCH);
        let named = names.iter().rev().filter(|name| is_segment(name));
        let paths: Vec<Path> = named.map(|name| parent.child_unchecked(name)).collect();
        if last.is_some() {
            self.left.push(Left::Children {
                parent,
                after: last,
            });
        }
        // Wildcards at the first level leave some out.
        let open = |path: &Path| self.filter.matches(path) || self.filter.reaches_below(path);
        let paths = paths.into_iter().filter(open).map(Left::At);
        self.left.extend(paths.collect::<Vec<_>>());
        Ok(())
    }

    /// Goes on with the records at and below a path, for `#`.
    fn next_record(
        &mut self,
        rows: &dyn Rows,
        path: Path,
        cursor: Option<Cursor>,
    ) -> Result<Option<(Path, TopicValue)>, RowsError> {
        let (mut cursor, here) = match cursor {
            Some(cursor) => (cursor, None),
            None => (Cursor::new(path.clone()), rows.row(&path)?),
        };
        let mut found = here.map(|row| (path.clone(), row));
        let (topic, row) = loop {
            let next = match found.take() {
                Some(row) => Some(row),
                None => cursor.next(rows)?,
            };
            let Some((at, row)) = next else {
                return Ok(None);
            };
            if !self.filter.matches(&at) && !at.is_root() {
                cursor.skip_subtree(&at.prefix(1));
            } else if row.is_record() {
                if !row.records {
                    cursor.skip_subtree(&at);
                }
                break (at, row);
            }
        };
        let said = any_size(TopicValue::record(rows, &topic, row, usize::MAX))?;
        self.left.push(Left::Records(path, Some(cursor)));
        Ok(said.map(|said| (topic, said)))
    }
}

/// The levels of a filter with wildcards, as it is spelled.
fn levels(filter: &TopicFilter) -> Vec<Level> {
    let text = filter.to_string();
    let level = |level: &str| match level {
        "+" => Level::One,
        "#" => Level::All,
        text => Level::Literal(text.into()),
    };
    text.split('/').map(level).collect()
}

/// Whether topics may lie below a path: inside a record without records below it, only fields do.
fn goes_on(rows: &dyn Rows, path: &Path) -> Result<bool, RowsError> {
    let Some(record) = record_of(rows, path)? else {
        return Ok(true);
    };
    Ok(rows.row(&record)?.is_some_and(|row| row.records))
}

/// What the path's document holds there, whatever its size.
fn whole(rows: &dyn Rows, path: &Path) -> Result<Option<TopicValue>, RowsError> {
    any_size(TopicValue::read(rows, path, usize::MAX))
}

fn any_size(read: Result<Option<TopicValue>, ReadError>) -> Result<Option<TopicValue>, RowsError> {
    match read {
        Ok(said) => Ok(said),
        Err(ReadError::Rows(error)) => Err(error),
        // There is no limit.
        Err(ReadError::TooLarge { .. }) => Ok(None),
    }
}

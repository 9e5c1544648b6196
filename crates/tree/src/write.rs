//! Writing: operations, and the commit that is made of them.

use std::sync::Arc;

use sapwood_value::{Text, Value};

use crate::{Declared, Limits, Path, Payload, Row, RowsError};

mod codec;
mod draft;
mod value;

pub use codec::OpError;
pub use draft::Draft;

/// One effect of a commit: what a write does at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// Where.
    pub path: Path,
    /// What.
    pub kind: OpKind,
}

/// What an operation does at its path (design, 2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpKind {
    /// Makes the tree value exactly this; null deletes. `mark` makes records as the HTTP door's PUT does.
    Put {
        /// The new tree value.
        value: Value,
        /// Whether what was written becomes records.
        mark: bool,
    },
    /// Puts or deletes (none, or null) direct children. `mark` makes records as the HTTP door's PATCH does.
    Merge {
        /// The children, each once.
        entries: Vec<(Text, Option<Value>)>,
        /// Whether what was written becomes records.
        mark: bool,
    },
    /// Removes all that lies at and below the path.
    Delete,
    /// Replaces the document at exactly this path, as a retained publish does; null is a document, too.
    PutRecord {
        /// The new document.
        document: Value,
        /// The payload that it came in.
        payload: Option<Payload>,
    },
    /// Removes the document at exactly this path.
    DeleteRecord,
    /// Makes what lies here a record, if something does: a resource was declared.
    Mark,
}

/// How a commit is made into rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// A row whose fragment takes more bytes than this, as estimated, explodes.
    pub split_bytes: usize,
    /// Up to so many rows below a replaced path are removed one by one; more are cut off by one entry.
    pub cut_rows: usize,
    /// The declared resources.
    pub declared: Declared,
    /// Bounds of paths and values.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            split_bytes: 4096,
            cut_rows: 64,
            declared: Declared::default(),
            limits: Limits::default(),
        }
    }
}

/// What an operation found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Whether the path had a tree value before (for a record operation: a record or plain data).
    pub existed: bool,
}

/// What a commit changes.
#[derive(Debug, Clone, Default)]
pub struct RowChanges {
    /// Rows to write or to remove, in tree order, each path once.
    pub rows: Vec<(Path, Option<Arc<Row>>)>,
    /// Paths strictly below which all rows of earlier commits are dead, in tree order. They come before `rows`.
    pub cuts: Vec<Path>,
}

impl RowChanges {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.cuts.is_empty()
    }
}

/// Why an operation was refused. The draft is then of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Levels of the path and of the value's maps and arrays together pass [`Limits::depth`].
    #[error("{path} would lie deeper than {limit} levels")]
    TooDeep {
        /// Where the levels end.
        path: Path,
        /// The limit that they passed.
        limit: usize,
    },
    /// A value is larger than [`Limits::value_bytes`].
    #[error("the value for {path} takes {got} bytes, the limit is {limit}")]
    ValueTooLarge {
        /// Where it was to go.
        path: Path,
        /// About how many bytes it takes.
        got: usize,
        /// The limit that it passed, in bytes.
        limit: usize,
    },
    /// A string is longer than [`Limits::string_bytes`].
    #[error("a string in the value for {path} takes {got} bytes, the limit is {limit}")]
    StringTooLarge {
        /// Where the value was to go.
        path: Path,
        /// How many bytes it takes.
        got: usize,
        /// The limit that it passed, in bytes.
        limit: usize,
    },
    /// A merge names a key that is no segment: it can't be addressed.
    #[error("the key \"{}\" can't be merged into {path}: it is no segment of a path", .key.escape_debug())]
    Key {
        /// Where it was to go.
        path: Path,
        /// The key.
        key: Text,
    },
    /// A merge names a key twice.
    #[error("the key \"{}\" is there twice in the merge into {path}", .key.escape_debug())]
    KeyTwice {
        /// Where it was to go.
        path: Path,
        /// The key.
        key: Text,
    },
    /// A first segment, or a key at the root, begins with a dot: such paths are the system's.
    #[error("{path} is the system's")]
    System {
        /// The path.
        path: Path,
    },
    /// A record can't lie at the root.
    #[error("the root can't be a record")]
    RecordAtRoot,
    /// The rows can't be read.
    #[error("the write needs rows that can't be read")]
    Rows(#[from] RowsError),
}

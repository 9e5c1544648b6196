//! The rows that the tree is kept as.

use std::sync::OnceLock;

use bytes::Bytes;
use sapwood_value::{Value, json};

use crate::Payload;

mod codec;

pub use codec::RowError;
pub(crate) use codec::{encode_payload, take_payload};

/// One row of the tree: a document, or a part of one.
///
/// Every row has a path. A *record* row begins a document. A *part* row goes on with the document, or the plain tree,
/// of the row above it. A row that is not exploded holds all of its document at and below its path in `fragment`
/// (what lies there in records of their own apart). An *exploded* row's fragment is a map of only those entries whose
/// keys are no segments; every other child of that map has a row of its own. The root is exploded and has no row,
/// unless it holds something that is no map, or entries of that kind.
#[derive(Debug)]
pub struct Row {
    /// What the row begins or goes on with.
    pub kind: RowKind,
    /// Whether the children have rows of their own.
    pub exploded: bool,
    /// Whether rows may lie strictly below this one that no deeper row stands above.
    pub below: Below,
    /// Whether records may lie strictly below this record. Too much may be said, never too little.
    pub records: bool,
    /// The commit that last changed the document (of a record) or this part of it.
    pub version: u64,
    /// The commit at which this row was last written: a cut after it, above it, makes it dead.
    pub written: u64,
    /// The document, or the part of it, that this row holds.
    pub fragment: Value,
    /// What the document above has at a record's path, if that document is exploded down to here. It shows again when
    /// the record is gone.
    pub covered: Option<Box<Value>>,
    /// The payload that made the record, if one did.
    pub payload: Option<Box<Payload>>,
    json: OnceLock<Bytes>,
}

/// What a row is of its document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowKind {
    /// Its beginning.
    Record,
    /// A part of it, or of the plain tree.
    Part,
}

/// Where rows may lie below a row, as seen from the nearest row above them. Too much may be said, never too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Below {
    /// Nowhere.
    Nothing,
    /// At its direct children, and below those.
    Children,
    /// Anywhere.
    Anywhere,
}

impl Row {
    /// A row with nothing below it, of commit `seq`.
    pub const fn new(kind: RowKind, fragment: Value, seq: u64) -> Self {
        Self {
            kind,
            exploded: false,
            below: Below::Nothing,
            records: false,
            version: seq,
            written: seq,
            fragment,
            covered: None,
            payload: None,
            json: OnceLock::new(),
        }
    }

    /// Whether this is a record.
    pub fn is_record(&self) -> bool {
        self.kind == RowKind::Record
    }

    /// Whether the fragment is the whole tree value: a record that is one row with nothing below it.
    pub fn is_whole(&self) -> bool {
        self.is_record() && !self.exploded && self.below == Below::Nothing
    }

    /// The fragment as JSON, spelled as JSON doors spell it; encoded once.
    pub fn json(&self) -> &Bytes {
        self.json.get_or_init(|| {
            let mut out = Vec::with_capacity(self.fragment.estimated_bytes() * 2);
            json::encode_spelled(&self.fragment, &mut out);
            out.into()
        })
    }

    /// What the row counts for in a scan, in bytes: its values, which are the same wherever it is read.
    pub fn scan_bytes(&self) -> usize {
        let covered = self
            .covered
            .as_ref()
            .map_or(0, |covered| covered.heap_bytes());
        self.fragment.heap_bytes() + covered
    }

    /// About how much memory the row takes, in bytes.
    pub fn estimated_bytes(&self) -> usize {
        let payload = self.payload.as_ref().map_or(0, |p| p.estimated_bytes());
        let json = self.json.get().map_or(0, Bytes::len);
        size_of::<Self>() + self.scan_bytes() + payload + json
    }

    /// The fragment's map, where children that have no rows of their own would be.
    pub(crate) fn is_implied(&self) -> bool {
        self.fragment.as_map().is_some_and(|map| map.is_implied())
    }
}

impl Clone for Row {
    /// Everything but the encoded form: a clone is made to be changed.
    fn clone(&self) -> Self {
        Self {
            kind: self.kind,
            exploded: self.exploded,
            below: self.below,
            records: self.records,
            version: self.version,
            written: self.written,
            fragment: self.fragment.clone(),
            covered: self.covered.clone(),
            payload: self.payload.clone(),
            json: OnceLock::new(),
        }
    }
}

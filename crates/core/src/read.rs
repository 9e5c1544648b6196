//! Reading: one path, as of one commit.

use std::sync::Arc;

use sapwood_store::rows::View;
use sapwood_tree::{Path, ReadError, Row, Rows as _, RowsError};
use sapwood_value::{Value, json};

use crate::{LogId, Tag, Version};

/// A path as it is at one commit, whatever is written meanwhile. Cheap to clone and to keep for a while.
#[derive(Clone)]
pub struct Reading {
    path: Path,
    view: View,
    log: LogId,
}

impl Reading {
    /// What counts as small enough to be read at once, in bytes.
    pub const VALUE_BYTES_SMALL: usize = 64 * 1024;

    pub(crate) fn new(path: Path, view: View, log: LogId) -> Self {
        Self { path, view, log }
    }

    /// Where.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The commit that this is the state of.
    pub fn version(&self) -> Version {
        Version::new(self.log, self.view.seq())
    }

    /// The rows, for reading what is too large to be one value.
    pub fn rows(&self) -> &View {
        &self.view
    }

    /// The record at exactly this path, if one row holds all of it and nothing lies below: then its row says everything.
    ///
    /// # Errors
    /// [`RowsError`] if the store can't be read.
    pub fn single(&self) -> Result<Option<Arc<Row>>, RowsError> {
        Ok(self.view.row(&self.path)?.filter(|row| row.is_whole()))
    }

    /// Whether anything is here. The root always is.
    ///
    /// # Errors
    /// [`RowsError`] if the store can't be read.
    pub fn exists(&self) -> Result<bool, RowsError> {
        Ok(self.path.is_root() || sapwood_tree::exists(&self.view, &self.path)?)
    }

    /// The tree value, if it is no larger than `limit_bytes`.
    ///
    /// # Errors
    /// [`ReadError`] if it is larger, or the store can't be read.
    pub fn value(&self, limit_bytes: usize) -> Result<Option<Value>, ReadError> {
        sapwood_tree::tree_value(&self.view, &self.path, limit_bytes)
    }

    /// The value's tag: of a record with nothing below at any size, of any other value up to
    /// [`Tag::VALUE_BYTES_MAX`]; none above, and none where nothing is.
    ///
    /// # Errors
    /// [`RowsError`] if the store can't be read.
    pub fn tag(&self) -> Result<Option<Tag>, RowsError> {
        if let Some(row) = self.view.row(&self.path)?
            && row.is_record()
            && !sapwood_tree::has_records_below(&self.view, &self.path)?
        {
            return Ok(Some(Tag::of_record(&self.log, row.version)));
        }
        match self.value(Tag::VALUE_BYTES_MAX) {
            Ok(value) => Ok(value.map(|value| {
                let mut encoded = Vec::new();
                json::encode_spelled(&value, &mut encoded);
                Tag::of_content(&encoded)
            })),
            Err(ReadError::TooLarge { .. }) => Ok(None),
            Err(ReadError::Rows(error)) => Err(error),
        }
    }

    /// The commit that last changed the record at exactly this path, if one is there.
    ///
    /// # Errors
    /// [`RowsError`] if the store can't be read.
    pub fn record(&self) -> Result<Option<Version>, RowsError> {
        Ok(self
            .record_version()?
            .map(|seq| Version::new(self.log, seq)))
    }

    pub(crate) fn record_version(&self) -> Result<Option<u64>, RowsError> {
        Ok(self
            .view
            .row(&self.path)?
            .filter(|row| row.is_record())
            .map(|row| row.version))
    }
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading")
            .field("path", &self.path)
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}

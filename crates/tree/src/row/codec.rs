//! Rows as bytes, for the engine.

use crate::Row;

/// Bytes are no row: damage, or of a newer version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no row")]
pub struct RowError;

impl Row {
    /// Appends the row.
    pub fn encode(&self, _out: &mut Vec<u8>) {
        unimplemented!("waits for the stored form of values")
    }

    /// Reads back what [`Row::encode`] wrote, all of it.
    ///
    /// # Errors
    /// If the bytes are not that.
    pub fn decode(_bytes: &[u8]) -> Result<Self, RowError> {
        unimplemented!("waits for the stored form of values")
    }
}

//! Operations as bytes, for the commit log.

use crate::Op;

/// Bytes are no operation: damage, or of a newer version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no operation")]
pub struct OpError;

impl Op {
    /// Appends the operation.
    pub fn encode(&self, _out: &mut Vec<u8>) {
        unimplemented!("waits for the stored form of values")
    }

    /// Reads back what [`Op::encode`] wrote, all of it.
    ///
    /// # Errors
    /// If the bytes are not that.
    pub fn decode(_bytes: &[u8]) -> Result<Self, OpError> {
        unimplemented!("waits for the stored form of values")
    }
}

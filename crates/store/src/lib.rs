//! What a database keeps: the commit log, and the rows of its tree.
//!
//! The log decides what has happened and in which order ([`log::CommitLog`]); the rows are what follows from it and can
//! be made again from it. Neither knows what an entry means.

pub mod format;
pub mod lock;
pub mod log;
pub mod rows;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

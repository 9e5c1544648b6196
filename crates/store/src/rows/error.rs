//! What can go wrong, by operation.

use std::path::PathBuf;

/// Why the rows could not be opened. Nothing was changed on disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process (or a view of this one that is still held) has the folder.
    #[error("the rows in {dir} are in use by another process")]
    Locked {
        /// The rows' folder.
        dir: PathBuf,
    },
    /// The rows cannot be trusted. They can be made again from the commit log if that reaches back to its first commit:
    /// [`wipe`](super::wipe), then open.
    #[error(
        "the rows in {dir} are damaged ({what}); they are not served: restore a backup, or, if the commit log reaches back \
         to its first commit, remove this folder and start again"
    )]
    Damaged {
        /// The rows' folder.
        dir: PathBuf,
        /// What was found.
        what: String,
    },
    /// A later version of Sapwood has written the rows.
    #[error(
        "the rows in {dir} have format {found}, this version reads up to {known}: start the newer version"
    )]
    Newer {
        /// The rows' folder.
        dir: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format that this version knows.
        known: u32,
    },
    /// The operating system refused.
    #[error("cannot open the rows in {dir}")]
    Io {
        /// The rows' folder.
        dir: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
}

/// Why the rows of recent commits cannot get to the disk. Reads go on.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PersistError {
    /// There is too little room on the disk. Goes away by itself when there is room again.
    #[error("the disk of the rows is full")]
    Full,
    /// The engine could not write, and takes no more writes: a new start replays the commit log.
    #[error("the rows cannot be written any more: {0}")]
    Failed(String),
    /// The store is being shut down.
    #[error("the rows are closed")]
    Closed,
}

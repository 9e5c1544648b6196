//! What can go wrong with a commit log, by operation.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::CommitSeq;

/// Why a group was not appended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// Somebody else has written, or the caller has lost count. Nothing was appended.
    #[error("the next commit is {next}, not the one expected")]
    Conflict {
        /// What [`CommitLog::next`](super::CommitLog::next) says.
        next: CommitSeq,
    },
    /// Nothing was appended.
    #[error("a group of {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// What the entries come to.
        bytes: u64,
        /// What they may come to.
        limit: u64,
    },
    /// Nothing was appended; a later append succeeds when there is room again.
    #[error("no space left for the commit log")]
    Full,
    /// Final: what the disk holds is unknown, so nothing more is written (PostgreSQL's fsync lesson of 2018).
    #[error("the commit log has failed and takes no more writes until the next start")]
    Failed(#[source] Arc<io::Error>),
}

/// Why [`LogReader::read`](super::LogReader::read) has nothing to give.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// The entries asked for are no longer kept.
    #[error("commits before {first} are no longer in the log")]
    Gone {
        /// The oldest that is kept.
        first: CommitSeq,
    },
    /// What was once flushed does not read back as it was written.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The disk did not answer.
    #[error("cannot read the commit log at {}", file.display())]
    Io {
        /// The segment file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A place in a segment file that does not hold what was flushed there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is damaged at byte {offset}: commit {seq} does not read back ({why})", file.display())]
pub struct Damage {
    /// The segment file.
    pub file: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// The first commit that is lost with it.
    pub seq: CommitSeq,
    /// What is wrong there.
    pub why: &'static str,
}

/// Why the oldest entries were not dropped.
#[derive(Debug, thiserror::Error)]
#[error("cannot drop the log's old segment {}", file.display())]
pub struct RetainError {
    /// The segment file.
    pub file: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Why the clean stop was not noted. Nothing that was answered is lost by it at level sync.
#[derive(Debug, thiserror::Error)]
#[error("cannot note in the commit log that it was stopped cleanly")]
pub struct CloseError(#[source] pub Arc<io::Error>);

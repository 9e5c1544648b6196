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

/// Why a log was not opened. Nothing in its folder has been changed, but for what a crash had left unfinished.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// What was flushed once is not there any more, so that answered writes would be lost in silence.
    #[error(
        "the commit log {damage}; this is not the trace of a crash but of a disk or of somebody who wrote to the file. \
         Put the file back from a copy, or restore the database's last backup"
    )]
    Damaged {
        /// Where.
        damage: Damage,
    },
    /// A segment is not there, between others that are.
    #[error(
        "the commit log lacks the commits {from} to {to}: a file is missing in {}. Put it back, or restore the \
         database's last backup",
        dir.display()
    )]
    Missing {
        /// The log's folder.
        dir: PathBuf,
        /// The first commit that is missing.
        from: CommitSeq,
        /// The last.
        to: CommitSeq,
    },
    /// A newer version has written the log.
    #[error(
        "{} has version {version} of the log's format, and this sapwood reads up to {known}: run the sapwood that wrote \
         it, or a newer one",
        file.display()
    )]
    Newer {
        /// The segment file.
        file: PathBuf,
        /// Its version.
        version: u32,
        /// The newest that this build reads.
        known: u32,
    },
    /// The file was made for another database.
    #[error("{} belongs to the log of another database: put it back where it came from", file.display())]
    OtherDatabase {
        /// The segment file.
        file: PathBuf,
    },
    /// The disk did not let us.
    #[error("cannot {action} {}{}", path.display(), hint(source))]
    Disk {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What to do about an error that the user can mend.
pub(crate) fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            ": sapwood's user must be allowed to read and write there"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            ": it is on a read-only disk; choose a data folder that can be written"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ": no space is left there; make room and start again"
        }
        _ => "",
    }
}

//! The commit log: where the one order of a database's commits comes from.
//!
//! [`CommitLog`] is narrow so that it can live elsewhere than in local files. [`SegmentLog`] keeps it in segment files
//! (`docs/file-format.md`), [`MemoryLog`] on no disk at all; nothing else in the server may know which.

pub mod disk;
mod error;
mod flusher;
mod id;
mod memory;
mod open;
mod reader;
mod scan;
mod segment;
mod segment_log;
mod segments;
mod window;

use std::time::{Duration, SystemTime};

use bytes::Bytes;

pub(crate) use error::hint;
pub use error::{AppendError, CloseError, Damage, OpenError, RetainError, TailError};
pub use id::{CommitSeq, DatabaseId, LogId, ParseLogIdError};
pub use memory::MemoryLog;
pub use open::Opening;
pub use scan::{SegmentReport, check_segment};
pub use segment_log::{Durability, SegmentLog, SegmentSettings};

/// The commit log of one database, as its one writer holds it.
///
/// Entries are numbered from 1 without gaps; what an entry says is the caller's business. Entries of one [`append`]
/// are a *group*: after a crash either all of them are there or none is.
///
/// [`append`]: CommitLog::append
pub trait CommitLog: Send {
    /// Names this history. It changes when entries that were answered may be gone (an unclean stop at a level other
    /// than sync, a restore), so that nobody resumes into a history that is no more.
    fn id(&self) -> LogId;

    /// The sequence that the next entry gets.
    fn next(&self) -> CommitSeq;

    /// Appends `entries` as one group, the first of them with the sequence `expected`.
    ///
    /// When this returns `Ok`, the group is durable at the level that the log was opened with, and readers see it. No
    /// entries is no group: nothing happens.
    ///
    /// # Errors
    /// [`AppendError::Conflict`], [`AppendError::TooLarge`] and [`AppendError::Full`] leave the log as it was.
    /// [`AppendError::Failed`] is final: every later append fails alike, and whether this group is there after the
    /// next start is unknown.
    fn append(&mut self, expected: CommitSeq, entries: &[Bytes]) -> Result<(), AppendError>;

    /// A handle to read with, on any thread; it stays valid when the log is closed.
    fn reader(&self) -> Box<dyn LogReader>;

    /// Drops the oldest entries that `keep` lets go, of those up to `floor`, which the engine has
    /// for good. Drops in large units: more than `keep` asks for may stay.
    ///
    /// # Errors
    /// [`RetainError`] if the disk refused; the log is as usable as before.
    fn retain(&mut self, keep: Retention, floor: CommitSeq) -> Result<(), RetainError>;

    /// Whether [`retain`](Self::retain) would drop far more, were `floor` at the end: it pays to get the engine's rows to
    /// the disk. A log that says `false` always is right as well.
    fn is_held_back(&self, _keep: Retention, _floor: CommitSeq) -> bool {
        false
    }

    /// Flushes, and notes that the log was stopped on purpose and whole.
    ///
    /// # Errors
    /// [`CloseError`] if the note could not be made: the next start takes the stop for a crash.
    fn close(self: Box<Self>) -> Result<(), CloseError>;
}

/// Reads a commit log while it is being written.
pub trait LogReader: Send + Sync {
    /// The oldest entry that is kept; one past [`last`](LogReader::last) if there is none.
    fn first(&self) -> CommitSeq;

    /// The newest entry that is durable at the log's level; 0 (or one before the log's start) if there is none.
    fn last(&self) -> CommitSeq;

    /// The entries from `from` on, in order and without a gap, as many as fit `bytes_max` together, but one at least.
    /// Empty if `from` is past [`last`](LogReader::last).
    ///
    /// # Errors
    /// [`TailError::Gone`] if `from` is before [`first`](LogReader::first).
    fn read(&self, from: CommitSeq, bytes_max: usize)
    -> Result<Vec<(CommitSeq, Bytes)>, TailError>;
}

/// How much of the past [`CommitLog::retain`] keeps. What exceeds either bound may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Bytes of log to keep.
    pub bytes_max: u64,
    /// How long an entry is kept.
    pub age_max: Duration,
    /// The time that `age_max` is counted back from.
    pub now: SystemTime,
}

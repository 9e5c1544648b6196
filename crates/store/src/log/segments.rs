//! What the writer of a log and its readers share: the segments there are, and how far they may be read.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use super::disk::DiskFile;
use super::scan::{Index, Rest, scan};
use super::segment::{HEADER_BYTES, SegmentHeader};
use super::{CommitSeq, Damage, TailError};

/// One segment file.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) header: SegmentHeader,
    /// Where its last group ends. Of a segment that is not indexed yet, the file's size.
    end: AtomicU64,
    /// `None` until somebody needs it: a start after a clean stop reads the newest segment only.
    index: Mutex<Option<Index>>,
}

impl Segment {
    pub(crate) fn new(
        path: PathBuf,
        file: Arc<dyn DiskFile>,
        header: SegmentHeader,
        end: u64,
        index: Option<Index>,
    ) -> Self {
        Self {
            path,
            file,
            header,
            end: AtomicU64::new(end),
            index: Mutex::new(index),
        }
    }

    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Takes in a group that the writer has put at `offset`.
    pub(crate) fn grew(&self, first: CommitSeq, offset: u64, end: u64) {
        if let Some(index) = &mut *self.index.lock() {
            index.note(first, offset);
        }
        self.end.store(end, Ordering::Release);
    }

    /// The offset of a group not behind the one with `seq`. Reads and verifies the whole segment if nobody has;
    /// `next` is the sequence that the following segment begins with.
    pub(crate) fn before(&self, seq: CommitSeq, next: CommitSeq) -> Result<u64, TailError> {
        self.verify(next).map_err(|error| match error {
            VerifyError::Damaged(damage) => TailError::Damaged(damage),
            VerifyError::Io(source) => self.unreadable(source),
        })?;
        Ok(self
            .index
            .lock()
            .as_ref()
            .map_or(HEADER_BYTES as u64, |index| index.before(seq)))
    }

    /// Reads the whole segment, unless somebody has: all entries before `next` must be there.
    pub(crate) fn verify(&self, next: CommitSeq) -> Result<(), VerifyError> {
        let mut index = self.index.lock();
        if index.is_none() {
            let scan = scan(&*self.file, self.header, self.end()).map_err(VerifyError::Io)?;
            let damage = match scan.rest {
                Rest::Damaged { offset, seq, why } => Some(self.damaged(offset, seq, why)),
                Rest::Empty | Rest::Torn if scan.next < next => {
                    Some(self.damaged(scan.end, scan.next, "its group is missing"))
                }
                Rest::Empty | Rest::Torn if scan.next > next => {
                    Some(self.damaged(scan.end, next, "the following file has it, too"))
                }
                Rest::Empty | Rest::Torn => None,
            };
            if let Some(damage) = damage {
                return Err(VerifyError::Damaged(damage));
            }
            self.end.store(scan.end, Ordering::Release);
            *index = Some(scan.index);
        }
        Ok(())
    }

    pub(crate) fn damaged(&self, offset: u64, seq: CommitSeq, why: &'static str) -> Damage {
        Damage {
            file: self.path.clone(),
            offset,
            seq,
            why,
        }
    }

    pub(crate) fn unreadable(&self, source: io::Error) -> TailError {
        TailError::Io {
            file: self.path.clone(),
            source,
        }
    }
}

/// Why a segment that is not the newest does not serve.
#[derive(Debug)]
pub(crate) enum VerifyError {
    Damaged(Damage),
    Io(io::Error),
}

/// The segments, oldest first, and the newest entry that may be shown.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) last: CommitSeq,
}

impl Kept {
    pub(crate) fn first(&self) -> CommitSeq {
        self.segments
            .first()
            .map_or_else(|| self.last.next(), |segment| segment.header.first)
    }
}

/// Shared by the writer, the flusher and the readers.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) kept: RwLock<Kept>,
    /// Only one flush at a time: the system tells a failure once, so two at a time might each believe the other.
    flushing: Mutex<()>,
    flushed: AtomicU64,
    failure: OnceLock<Arc<io::Error>>,
}

impl Shared {
    /// Of a log that is flushed as it is.
    pub(crate) fn new(kept: Kept) -> Self {
        let flushed = AtomicU64::new(kept.last.0);
        Self {
            kept: RwLock::new(kept),
            flushing: Mutex::new(()),
            flushed,
            failure: OnceLock::new(),
        }
    }

    /// The log is flushed up to here.
    pub(crate) fn flushed(&self) -> CommitSeq {
        CommitSeq(self.flushed.load(Ordering::Acquire))
    }

    /// Why the log has failed for good, if it has.
    pub(crate) fn failure(&self) -> Option<Arc<io::Error>> {
        self.failure.get().cloned()
    }

    /// Ends the log: nothing is written any more.
    pub(crate) fn fail(&self, error: io::Error) -> Arc<io::Error> {
        tracing::error!(%error, "the commit log has failed: no more writes until the next start");
        Arc::clone(self.failure.get_or_init(|| Arc::new(error)))
    }

    /// Makes durable what was written to `file`, whose newest entry is `last`. A failure is final.
    pub(crate) fn flush(&self, file: &dyn DiskFile, last: CommitSeq) -> Result<(), Arc<io::Error>> {
        let _one = self.flushing.lock();
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        file.sync().map_err(|error| self.fail(error))?;
        self.flushed.fetch_max(last.0, Ordering::AcqRel);
        Ok(())
    }
}

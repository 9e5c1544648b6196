//! A commit log on no disk.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use super::{
    AppendError, CloseError, CommitLog, CommitSeq, LogId, LogReader, RetainError, Retention,
    TailError,
};

/// Keeps the newest entries in memory, up to a number of bytes: the oldest go by themselves, floor or not.
/// It knows no age.
#[derive(Debug)]
pub struct MemoryLog {
    id: LogId,
    bytes_max: usize,
    kept: Arc<RwLock<Kept>>,
}

/// Counted for each entry beside its content.
const ENTRY_OVERHEAD_BYTES: usize = 64;

impl MemoryLog {
    /// An empty log with a new id, that keeps up to `bytes_max`.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            id: LogId::random(),
            bytes_max,
            kept: Arc::default(),
        }
    }
}

#[derive(Debug, Default)]
struct Kept {
    entries: VecDeque<Bytes>,
    bytes: usize,
    last: CommitSeq,
}

impl Kept {
    fn first(&self) -> CommitSeq {
        CommitSeq(self.last.0 + 1 - self.entries.len() as u64)
    }

    fn push(&mut self, entry: Bytes) {
        self.bytes += entry.len() + ENTRY_OVERHEAD_BYTES;
        self.entries.push_back(entry);
        self.last = self.last.next();
    }

    fn drop_first(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= entry.len() + ENTRY_OVERHEAD_BYTES;
        }
    }
}

impl CommitLog for MemoryLog {
    fn id(&self) -> LogId {
        self.id
    }

    fn next(&self) -> CommitSeq {
        self.kept.read().last.next()
    }

    fn append(&mut self, expected: CommitSeq, entries: &[Bytes]) -> Result<(), AppendError> {
        let mut kept = self.kept.write();
        let next = kept.last.next();
        if expected != next {
            return Err(AppendError::Conflict { next });
        }
        let bytes = entries
            .iter()
            .map(|entry| entry.len() + ENTRY_OVERHEAD_BYTES)
            .sum::<usize>();
        if bytes > self.bytes_max {
            return Err(AppendError::TooLarge {
                bytes: bytes as u64,
                limit: self.bytes_max as u64,
            });
        }
        while kept.bytes + bytes > self.bytes_max {
            kept.drop_first();
        }
        for entry in entries {
            kept.push(entry.clone());
        }
        Ok(())
    }

    fn reader(&self) -> Box<dyn LogReader> {
        Box::new(MemoryReader(Arc::clone(&self.kept)))
    }

    fn retain(&mut self, keep: Retention, floor: CommitSeq) -> Result<(), RetainError> {
        let mut kept = self.kept.write();
        while kept.first() <= floor.min(kept.last) && kept.bytes as u64 > keep.bytes_max {
            kept.drop_first();
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), CloseError> {
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryReader(Arc<RwLock<Kept>>);

impl LogReader for MemoryReader {
    fn first(&self) -> CommitSeq {
        self.0.read().first()
    }

    fn last(&self) -> CommitSeq {
        self.0.read().last
    }

    fn read(
        &self,
        from: CommitSeq,
        bytes_max: usize,
    ) -> Result<Vec<(CommitSeq, Bytes)>, TailError> {
        let kept = self.0.read();
        let first = kept.first();
        let Some(skip) = from.0.checked_sub(first.0) else {
            return Err(TailError::Gone { first });
        };
        let mut left = bytes_max;
        let mut batch = Vec::new();
        for entry in kept
            .entries
            .iter()
            .skip(usize::try_from(skip).unwrap_or(usize::MAX))
        {
            if entry.len() > left && !batch.is_empty() {
                break;
            }
            left = left.saturating_sub(entry.len());
            batch.push((from.plus(batch.len() as u64), entry.clone()));
        }
        Ok(batch)
    }
}

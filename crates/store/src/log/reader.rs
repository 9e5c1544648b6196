//! Reads entries out of segment files, verifying each.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::sync::Arc;

use bytes::Bytes;

use super::scan::group_at;
use super::segment::{ENTRY_HEADER_BYTES, EntryHeader, GROUP_HEADER_BYTES, GroupHeader};
use super::segments::{Segment, Shared};
use super::window::Window;
use super::{CommitSeq, LogReader, TailError};
use crate::log::disk::DiskFile;

/// Reads a [`SegmentLog`](super::SegmentLog).
#[derive(Clone, Debug)]
pub(crate) struct SegmentReader(pub(crate) Arc<Shared>);

impl LogReader for SegmentReader {
    fn first(&self) -> CommitSeq {
        self.0.kept.read().first()
    }

    fn last(&self) -> CommitSeq {
        self.0.kept.read().last
    }

    fn read(
        &self,
        from: CommitSeq,
        bytes_max: usize,
    ) -> Result<Vec<(CommitSeq, Bytes)>, TailError> {
        let mut batch = Batch {
            next: from,
            left: bytes_max,
            entries: Vec::new(),
            full: false,
        };
        while !batch.full {
            let Some((segment, end)) = self.find(batch.next)? else {
                break;
            };
            batch.read_segment(&segment, end)?;
        }
        Ok(batch.entries)
    }
}

impl SegmentReader {
    /// The segment with the entry `seq`, and the sequence that may not be read any more: that of the next segment, or of
    /// what is not shown yet. `None` past the end.
    fn find(&self, seq: CommitSeq) -> Result<Option<(Arc<Segment>, CommitSeq)>, TailError> {
        let kept = self.0.kept.read();
        let first = kept.first();
        if seq < first {
            return Err(TailError::Gone { first });
        }
        if seq > kept.last {
            return Ok(None);
        }
        let at = kept
            .segments
            .partition_point(|segment| segment.header.first <= seq);
        let end = kept
            .segments
            .get(at)
            .map_or(kept.last.next(), |following| following.header.first);
        Ok(at
            .checked_sub(1)
            .and_then(|at| kept.segments.get(at))
            .map(|segment| (Arc::clone(segment), end)))
    }
}

/// What one read brings together.
struct Batch {
    next: CommitSeq,
    left: usize,
    entries: Vec<(CommitSeq, Bytes)>,
    full: bool,
}

impl Batch {
    /// Takes entries of a segment, until it is full or arrives at `end`.
    fn read_segment(&mut self, segment: &Segment, end: CommitSeq) -> Result<(), TailError> {
        let mut offset = segment.before(self.next, end)?;
        let file: &dyn DiskFile = &*segment.file;
        let mut window = Window::new(file, segment.end());
        while !self.full && self.next < end {
            let group = group_at(&mut window, segment.header.salt, offset)
                .map_err(|e| segment.unreadable(e))?;
            let Some(group) = group.filter(|group| group.first <= self.next) else {
                return Err(segment
                    .damaged(offset, self.next, "there is no group header")
                    .into());
            };
            if group.next() > self.next {
                self.read_group(segment, &mut window, offset, &group)?;
            }
            offset = group.end(offset);
        }
        Ok(())
    }

    fn read_group(
        &mut self,
        segment: &Segment,
        window: &mut Window<'_, dyn DiskFile>,
        offset: u64,
        group: &GroupHeader,
    ) -> Result<(), TailError> {
        let mut at = offset + GROUP_HEADER_BYTES as u64;
        for number in 0..u64::from(group.count) {
            let seq = group.first.plus(number);
            let header = window
                .array::<ENTRY_HEADER_BYTES>(at)
                .map_err(|e| segment.unreadable(e))?;
            let Some(entry) = header
                .and_then(|bytes| EntryHeader::decode(&bytes))
                .filter(|e| e.seq == seq)
            else {
                return Err(segment
                    .damaged(at, seq, "its length or sequence is wrong")
                    .into());
            };
            at += ENTRY_HEADER_BYTES as u64;
            if seq >= self.next {
                if self.has_no_room_for(entry.bytes as usize) {
                    return Ok(());
                }
                let content = window
                    .get(at, entry.bytes as usize)
                    .map_err(|e| segment.unreadable(e))?;
                let Some(content) = content.filter(|content| entry.matches(content)) else {
                    return Err(segment.damaged(at, seq, "its checksum is wrong").into());
                };
                self.take(seq, Bytes::copy_from_slice(content));
            }
            at += u64::from(entry.bytes);
        }
        Ok(())
    }

    fn has_no_room_for(&mut self, bytes: usize) -> bool {
        self.full = bytes > self.left && !self.entries.is_empty();
        self.full
    }

    fn take(&mut self, seq: CommitSeq, content: Bytes) {
        self.left = self.left.saturating_sub(content.len());
        self.entries.push((seq, content));
        self.next = seq.next();
    }
}

//! Reads a segment from its beginning and judges what is there.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::collections::VecDeque;
use std::io;

use crc32fast::Hasher;

use super::CommitSeq;
use super::disk::ReadAt;
use super::segment::{
    ALIGNMENT, ENTRY_HEADER_BYTES, EntryHeader, GROUP_HEADER_BYTES, GROUP_MAGIC, GroupHeader,
    GroupKind, HEADER_BYTES, HeaderError, Level, Place, SegmentHeader,
};
use super::window::Window;

/// What a segment holds.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Where the last good group ends.
    pub(crate) end: u64,
    /// The sequence after the last good entry.
    pub(crate) next: CommitSeq,
    /// The level of the last good group, or of the segment if it has none.
    pub(crate) level: Level,
    /// Whether the last good group says that the log was stopped on purpose.
    pub(crate) clean: bool,
    pub(crate) index: Index,
    /// Where the groups begin that no mark covers.
    pub(crate) unmarked_from: u64,
    pub(crate) rest: Rest,
}

/// What comes behind the last good group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Nothing, or zeros.
    Empty,
    /// The torn tail of what was being written: to be cut off.
    Torn,
    /// Something that was flushed once is gone.
    Damaged {
        offset: u64,
        seq: CommitSeq,
        why: &'static str,
    },
}

/// Where some of a segment's groups begin.
#[derive(Debug, Default)]
pub(crate) struct Index {
    points: Vec<(CommitSeq, u64)>,
}

/// A group in this many bytes is remembered.
const POINT_EVERY_BYTES: u64 = 64 * 1024;

impl Index {
    pub(crate) fn note(&mut self, first: CommitSeq, offset: u64) {
        if self
            .points
            .last()
            .is_none_or(|(_, last)| offset - last >= POINT_EVERY_BYTES)
        {
            self.points.push((first, offset));
        }
    }

    /// The offset of a group that is not behind the one with `seq`.
    pub(crate) fn before(&self, seq: CommitSeq) -> u64 {
        let at = self.points.partition_point(|(first, _)| *first <= seq);
        let point = at.checked_sub(1).and_then(|at| self.points.get(at));
        point.map_or(HEADER_BYTES as u64, |(_, offset)| *offset)
    }
}

/// A group that does not read back.
#[derive(Clone, Copy, Debug)]
struct Bad {
    offset: u64,
    seq: CommitSeq,
    why: &'static str,
}

pub(crate) fn read_header<S: ReadAt + ?Sized>(
    source: &S,
) -> io::Result<Result<SegmentHeader, HeaderError>> {
    let mut window = Window::new(source, source.size()?.min(HEADER_BYTES as u64));
    Ok(match window.array(0)? {
        Some(bytes) => SegmentHeader::decode(&bytes),
        None => Err(HeaderError::Damaged("it is too short to be a log segment")),
    })
}

/// Reads all of a segment, whose `header` is known, up to `limit`.
pub(crate) fn scan<S: ReadAt + ?Sized>(
    source: &S,
    header: SegmentHeader,
    limit: u64,
) -> io::Result<Scan> {
    let mut window = Window::new(source, limit);
    let mut scan = Scan {
        end: HEADER_BYTES as u64,
        next: header.first,
        level: header.level,
        clean: false,
        index: Index::default(),
        unmarked_from: HEADER_BYTES as u64,
        rest: Rest::Empty,
    };
    // A segment is made when all before it is flushed.
    let mut marks = Marks {
        highest: header.first.previous(),
        open: VecDeque::new(),
    };
    let bad = loop {
        match check_group(&mut window, header.salt, scan.end, scan.next)? {
            Ok(group) => scan.add(&group, &mut marks),
            Err(bad) => break bad,
        }
    };
    scan.rest = judge_rest(&mut window, header.salt, bad)?;
    scan.unmarked_from = marks.open.front().map_or(scan.end, |(offset, _)| *offset);
    Ok(scan)
}

impl Scan {
    fn add(&mut self, group: &GroupHeader, marks: &mut Marks) {
        let next = group.next();
        marks.note(group.flushed, self.end, next.previous());
        if group.kind == GroupKind::Entries {
            self.index.note(group.first, self.end);
        }
        self.level = group.level;
        self.clean = group.kind == GroupKind::Clean;
        self.end = group.end(self.end);
        self.next = next;
    }
}

/// The highest flushed mark so far, and the groups that it does not cover.
struct Marks {
    highest: CommitSeq,
    open: VecDeque<(u64, CommitSeq)>,
}

impl Marks {
    fn note(&mut self, flushed: CommitSeq, offset: u64, last: CommitSeq) {
        self.highest = self.highest.max(flushed);
        while self
            .open
            .front()
            .is_some_and(|(_, last)| *last <= self.highest)
        {
            self.open.pop_front();
        }
        if last > self.highest {
            self.open.push_back((offset, last));
        }
    }
}

/// The group header at `offset`, if there is one.
pub(crate) fn group_at<S: ReadAt + ?Sized>(
    window: &mut Window<'_, S>,
    salt: u64,
    offset: u64,
) -> io::Result<Option<GroupHeader>> {
    let bytes = window.array::<GROUP_HEADER_BYTES>(offset)?;
    Ok(bytes.and_then(|bytes| GroupHeader::decode(&bytes, Place { salt, offset })))
}

/// The group at `offset` if it is whole and the one that belongs there.
fn check_group<S: ReadAt + ?Sized>(
    window: &mut Window<'_, S>,
    salt: u64,
    offset: u64,
    expected: CommitSeq,
) -> io::Result<Result<GroupHeader, Bad>> {
    let bad = |seq, why| Ok(Err(Bad { offset, seq, why }));
    let Some(group) = group_at(window, salt, offset)? else {
        return bad(expected, "there is no group header");
    };
    if group.first != expected {
        return bad(expected, "its group is out of sequence");
    }
    let body_end = offset + GROUP_HEADER_BYTES as u64 + u64::from(group.body_bytes);
    let mut at = offset + GROUP_HEADER_BYTES as u64;
    let mut headers = Hasher::new();
    for number in 0..u64::from(group.count) {
        let seq = group.first.plus(number);
        let Some(bytes) = window.array::<ENTRY_HEADER_BYTES>(at)? else {
            return bad(seq, "the file ends within its group");
        };
        headers.update(&bytes);
        let content_at = at + ENTRY_HEADER_BYTES as u64;
        let Some(entry) = EntryHeader::decode(&bytes).filter(|entry| {
            entry.seq == seq && content_at.saturating_add(u64::from(entry.bytes)) <= body_end
        }) else {
            return bad(seq, "its length or sequence is wrong");
        };
        match window.get(content_at, entry.bytes as usize)? {
            Some(content) if entry.matches(content) => at = content_at + u64::from(entry.bytes),
            Some(_) => return bad(seq, "its checksum is wrong"),
            None => return bad(seq, "the file ends within its group"),
        }
    }
    if at != body_end || headers.finalize() != group.entries_checksum {
        return bad(group.first, "the checksum of its group is wrong");
    }
    let padding = usize::try_from(group.end(offset) - body_end).unwrap_or(0);
    match window.get(body_end, padding)? {
        Some(zeros) if zeros.iter().all(|byte| *byte == 0) => Ok(Ok(group)),
        Some(_) | None => bad(group.first, "its group does not end as one"),
    }
}

/// Looks through what is behind the last good group: only a mark that covers the bad place tells damage from a torn
/// tail. (No mark of a good group before it can: a group's mark is below its own sequence.)
fn judge_rest<S: ReadAt + ?Sized>(
    window: &mut Window<'_, S>,
    salt: u64,
    bad: Bad,
) -> io::Result<Rest> {
    const STRIDE: usize = 64 * 1024;
    let damaged = Rest::Damaged {
        offset: bad.offset,
        seq: bad.seq,
        why: bad.why,
    };
    let mut rest = Rest::Empty;
    let mut offset = bad.offset;
    while offset < window.limit() {
        let count = usize::try_from(window.limit() - offset)
            .unwrap_or(STRIDE)
            .min(STRIDE);
        let Some(bytes) = window.get(offset, count)? else {
            break;
        };
        if bytes.iter().any(|byte| *byte != 0) {
            rest = Rest::Torn;
            for found in magics(bytes) {
                let group = group_at(window, salt, offset + found)?;
                if group.is_some_and(|group| group.flushed >= bad.seq) {
                    return Ok(damaged);
                }
            }
        }
        offset += count as u64;
    }
    Ok(rest)
}

/// Where a group may begin.
fn magics(bytes: &[u8]) -> Vec<u64> {
    let words = bytes.chunks(ALIGNMENT).enumerate();
    words
        .filter(|(_, word)| word.starts_with(&GROUP_MAGIC))
        .map(|(at, _)| (at * ALIGNMENT) as u64)
        .collect()
}

/// What [`check_segment`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// The sequence of the first entry, if there is one.
    pub first: CommitSeq,
    /// The sequence after the last good entry.
    pub next: CommitSeq,
    /// Where the last good group ends.
    pub end: u64,
    /// Whether the log was stopped on purpose behind it.
    pub clean: bool,
    /// Whether something behind it is to be cut off.
    pub torn: bool,
    /// Whether something that was flushed is missing.
    pub damaged: bool,
}

/// Reads a segment file from memory, whatever the bytes are. It never panics, and takes no more memory than they do.
/// `None` if they do not begin as a segment does.
#[must_use]
pub fn check_segment(bytes: &[u8]) -> Option<SegmentReport> {
    let header = read_header(bytes).ok()?.ok()?;
    let scan = scan(bytes, header, bytes.len() as u64).ok()?;
    Some(SegmentReport {
        first: header.first,
        next: scan.next,
        end: scan.end,
        clean: scan.clean,
        torn: scan.rest == Rest::Torn,
        damaged: matches!(scan.rest, Rest::Damaged { .. }),
    })
}

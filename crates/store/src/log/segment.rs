//! The bytes of a segment file (`docs/file-format.md`), both ways. Numbers are little-endian.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use bytes::Bytes;
use crc32fast::Hasher;

use super::{CommitSeq, DatabaseId, LogId};

/// The version of the format that this build writes, and the newest that it reads.
pub(crate) const VERSION: u32 = 1;
pub(crate) const HEADER_BYTES: usize = 64;
pub(crate) const GROUP_HEADER_BYTES: usize = 40;
pub(crate) const ENTRY_HEADER_BYTES: usize = 16;
/// Groups begin at multiples of this, so that a search for them has few places to look at.
pub(crate) const ALIGNMENT: usize = 8;
pub(crate) const GROUP_MAGIC: [u8; 4] = *b"sapG";
const SEGMENT_MAGIC: [u8; 8] = *b"sapw\x00log";

/// What a run of the server promised about what it wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Flushed before the answer.
    Sync,
    /// Flushed soon after the answer.
    Interval,
}

impl Level {
    const fn code(self) -> u8 {
        match self {
            Self::Sync => 1,
            Self::Interval => 2,
        }
    }

    const fn decode(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Sync),
            2 => Some(Self::Interval),
            _ => None,
        }
    }
}

/// How a segment file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log: LogId,
    pub(crate) database: DatabaseId,
    pub(crate) first: CommitSeq,
    /// What the segment before this one begins with; 0 if this is the log's first.
    pub(crate) previous: CommitSeq,
    /// Goes into the checksum of each group header, so that no bytes a client sent can be taken for one.
    pub(crate) salt: u64,
    pub(crate) level: Level,
}

/// Why a file does not begin as a segment does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// Written by a newer version.
    Newer(u32),
    /// Anything else.
    Damaged(&'static str),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut to = Put(&mut bytes);
        to.put(&SEGMENT_MAGIC);
        to.put(&VERSION.to_le_bytes());
        to.put(&[0; 4]);
        to.put(&self.log.as_u64().to_le_bytes());
        to.put(&self.database.0.to_le_bytes());
        to.put(&self.first.0.to_le_bytes());
        to.put(&self.previous.0.to_le_bytes());
        to.put(&self.salt.to_le_bytes());
        to.put(&[self.level.code()]);
        let checksum = checksum(&[&bytes]);
        Put(&mut bytes).skip(12).put(&checksum.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, HeaderError> {
        Self::take(bytes).unwrap_or(Err(HeaderError::Damaged("its header is too short")))
    }

    fn take(bytes: &[u8; HEADER_BYTES]) -> Option<Result<Self, HeaderError>> {
        let mut from = &bytes[..];
        if take::<8>(&mut from)? != SEGMENT_MAGIC {
            return Some(Err(HeaderError::Damaged(
                "it does not begin as a log segment",
            )));
        }
        let version = take_u32(&mut from)?;
        let expected = take_u32(&mut from)?;
        let mut unsigned = *bytes;
        Put(&mut unsigned).skip(12).put(&[0; 4]);
        if checksum(&[&unsigned]) != expected {
            return Some(Err(HeaderError::Damaged(
                "the checksum of its header is wrong",
            )));
        }
        if version != VERSION {
            return Some(Err(HeaderError::Newer(version)));
        }
        let log = LogId::from_u64(take_u64(&mut from)?);
        let database = DatabaseId(take_u64(&mut from)?);
        let first = CommitSeq(take_u64(&mut from)?);
        let previous = CommitSeq(take_u64(&mut from)?);
        let salt = take_u64(&mut from)?;
        let Some(level) = Level::decode(take::<1>(&mut from)?[0]) else {
            return Some(Err(HeaderError::Damaged("its durability level is unknown")));
        };
        Some(Ok(Self {
            log,
            database,
            first,
            previous,
            salt,
            level,
        }))
    }
}

/// What a group is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupKind {
    /// Carries entries.
    Entries,
    /// No entries: from here on, commits are answered before they are flushed.
    Opened,
    /// No entries: the log was stopped on purpose, and all of it is flushed.
    Clean,
}

impl GroupKind {
    const fn code(self) -> u8 {
        match self {
            Self::Entries => 0,
            Self::Opened => 1,
            Self::Clean => 2,
        }
    }

    const fn decode(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Entries),
            1 => Some(Self::Opened),
            2 => Some(Self::Clean),
            _ => None,
        }
    }
}

/// How a group begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub(crate) kind: GroupKind,
    pub(crate) level: Level,
    /// The sequence of its first entry, or of the next one if it has none.
    pub(crate) first: CommitSeq,
    /// The log was flushed up to here when the group was written.
    pub(crate) flushed: CommitSeq,
    pub(crate) count: u32,
    /// Of the entries, with their headers and without the padding behind them.
    pub(crate) body_bytes: u32,
    /// Of the entries' headers one after the other, and so of their checksums.
    pub(crate) entries_checksum: u32,
}

impl GroupHeader {
    /// The sequence after the group.
    pub(crate) fn next(&self) -> CommitSeq {
        self.first.plus(u64::from(self.count))
    }

    /// Where the group after this one, which is at `offset`, begins.
    pub(crate) fn end(&self, offset: u64) -> u64 {
        offset.saturating_add(
            (GROUP_HEADER_BYTES as u64 + u64::from(self.body_bytes))
                .next_multiple_of(ALIGNMENT as u64),
        )
    }

    fn encode(&self, place: Place) -> [u8; GROUP_HEADER_BYTES] {
        let mut bytes = [0; GROUP_HEADER_BYTES];
        let mut to = Put(&mut bytes);
        to.put(&GROUP_MAGIC);
        to.put(&[0; 4]);
        to.put(&self.first.0.to_le_bytes());
        to.put(&self.flushed.0.to_le_bytes());
        to.put(&self.count.to_le_bytes());
        to.put(&self.body_bytes.to_le_bytes());
        to.put(&self.entries_checksum.to_le_bytes());
        to.put(&[self.kind.code(), self.level.code()]);
        let checksum = place.checksum(&bytes);
        Put(&mut bytes).skip(4).put(&checksum.to_le_bytes());
        bytes
    }

    /// The header, if these bytes are one and belong at this place.
    pub(crate) fn decode(bytes: &[u8; GROUP_HEADER_BYTES], place: Place) -> Option<Self> {
        let mut from = &bytes[..];
        let magic = take::<4>(&mut from)?;
        let checksum = take_u32(&mut from)?;
        if magic != GROUP_MAGIC || place.checksum(bytes) != checksum {
            return None;
        }
        let first = CommitSeq(take_u64(&mut from)?);
        let flushed = CommitSeq(take_u64(&mut from)?);
        let count = take_u32(&mut from)?;
        let body_bytes = take_u32(&mut from)?;
        let entries_checksum = take_u32(&mut from)?;
        let [kind, level] = take::<2>(&mut from)?;
        let header = Self {
            kind: GroupKind::decode(kind)?,
            level: Level::decode(level)?,
            first,
            flushed,
            count,
            body_bytes,
            entries_checksum,
        };
        ((header.kind == GroupKind::Entries) == (count > 0)).then_some(header)
    }
}

/// Where a group is: a header that was moved or comes from another file does not pass for one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) salt: u64,
    pub(crate) offset: u64,
}

impl Place {
    /// Of all of a group header but the magic and the checksum.
    fn checksum(self, header: &[u8; GROUP_HEADER_BYTES]) -> u32 {
        let fields = header.get(8..).unwrap_or_default();
        checksum(&[&self.salt.to_le_bytes(), &self.offset.to_le_bytes(), fields])
    }
}

/// How an entry begins; its content follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryHeader {
    pub(crate) bytes: u32,
    pub(crate) seq: CommitSeq,
    checksum: u32,
}

impl EntryHeader {
    fn new(bytes: u32, seq: CommitSeq, content: &[u8]) -> Self {
        let checksum = checksum(&[&bytes.to_le_bytes(), &seq.0.to_le_bytes(), content]);
        Self {
            bytes,
            seq,
            checksum,
        }
    }

    fn encode(self) -> [u8; ENTRY_HEADER_BYTES] {
        let mut bytes = [0; ENTRY_HEADER_BYTES];
        let mut to = Put(&mut bytes);
        to.put(&self.bytes.to_le_bytes());
        to.put(&self.checksum.to_le_bytes());
        to.put(&self.seq.0.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; ENTRY_HEADER_BYTES]) -> Option<Self> {
        let mut from = &bytes[..];
        let length = take_u32(&mut from)?;
        let checksum = take_u32(&mut from)?;
        let seq = CommitSeq(take_u64(&mut from)?);
        Some(Self {
            bytes: length,
            seq,
            checksum,
        })
    }

    /// Whether this is the content that the header was written for.
    pub(crate) fn matches(self, content: &[u8]) -> bool {
        Self::new(self.bytes, self.seq, content) == self
    }
}

/// What a group of these entries takes in a file; `None` if it is more than a group can say.
pub(crate) fn group_bytes(entries: &[Bytes]) -> Option<usize> {
    let body = entries.iter().try_fold(0usize, |sum, e| {
        sum.checked_add(e.len())?.checked_add(ENTRY_HEADER_BYTES)
    })?;
    u32::try_from(body).ok()?;
    Some((GROUP_HEADER_BYTES + body).next_multiple_of(ALIGNMENT))
}

/// What the writer knows of a group beside its entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupStart {
    pub(crate) kind: GroupKind,
    pub(crate) level: Level,
    pub(crate) first: CommitSeq,
    pub(crate) flushed: CommitSeq,
}

/// Puts a group into the empty `buffer`, padding included; [`group_bytes`] has judged the entries.
pub(crate) fn encode_group(
    buffer: &mut Vec<u8>,
    place: Place,
    start: GroupStart,
    entries: &[Bytes],
) {
    debug_assert!(buffer.is_empty(), "a group begins its buffer");
    buffer.extend_from_slice(&[0; GROUP_HEADER_BYTES]);
    let mut entries_checksum = Hasher::new();
    let mut seq = start.first;
    for content in entries {
        let header = EntryHeader::new(to_u32(content.len()), seq, content).encode();
        entries_checksum.update(&header);
        buffer.extend_from_slice(&header);
        buffer.extend_from_slice(content);
        seq = seq.next();
    }
    let header = GroupHeader {
        kind: start.kind,
        level: start.level,
        first: start.first,
        flushed: start.flushed,
        count: to_u32(entries.len()),
        body_bytes: to_u32(buffer.len() - GROUP_HEADER_BYTES),
        entries_checksum: entries_checksum.finalize(),
    };
    Put(buffer).put(&header.encode(place));
    buffer.resize(buffer.len().next_multiple_of(ALIGNMENT), 0);
}

fn to_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn checksum(parts: &[&[u8]]) -> u32 {
    let mut hasher = Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// Fills bytes from the front; what does not fit is our own bug, and left out.
struct Put<'a>(&'a mut [u8]);

impl Put<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let room = std::mem::take(&mut self.0);
        debug_assert!(
            room.len() >= bytes.len(),
            "the header is as long as its fields"
        );
        if let Some((to, rest)) = room.split_at_mut_checked(bytes.len()) {
            to.copy_from_slice(bytes);
            self.0 = rest;
        }
    }

    fn skip(mut self, count: usize) -> Self {
        let room = std::mem::take(&mut self.0);
        self.0 = room.get_mut(count..).unwrap_or_default();
        self
    }
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = from.split_first_chunk::<N>()?;
    *from = rest;
    Some(*head)
}

fn take_u32(from: &mut &[u8]) -> Option<u32> {
    take(from).map(u32::from_le_bytes)
}

fn take_u64(from: &mut &[u8]) -> Option<u64> {
    take(from).map(u64::from_le_bytes)
}

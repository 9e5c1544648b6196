//! The commit log in segment files (`docs/file-format.md`).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::disk::{CreateError, Disk, is_full, write_all_at};
use super::flusher::Flusher;
use super::open::{Opened, Opening, new_segment, open};
use super::reader::SegmentReader;
use super::segment::{
    GROUP_HEADER_BYTES, GroupKind, GroupStart, Level, Place, encode_group, group_bytes,
};
use super::segments::{Segment, Shared};
use super::{
    AppendError, CloseError, CommitLog, CommitSeq, DatabaseId, LogId, LogReader, OpenError,
    RetainError, Retention,
};

/// When a commit counts as durable. (On no disk at all it is with [`MemoryLog`](super::MemoryLog).)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Flushed before the answer: it survives a power cut.
    Sync,
    /// In the file before the answer, flushed after this time at most: it survives a kill, not a power cut.
    Interval(Duration),
}

impl Durability {
    pub(crate) const fn level(self) -> Level {
        match self {
            Self::Sync => Level::Sync,
            Self::Interval(_) => Level::Interval,
        }
    }
}

/// How a [`SegmentLog`] is kept.
#[derive(Clone, Copy, Debug)]
pub struct SegmentSettings {
    /// Whose log it is. Another one's files are refused.
    pub database: DatabaseId,
    /// When a commit counts as durable.
    pub durability: Durability,
    /// A segment that would exceed this is followed by a new one. Larger groups get a segment that fits.
    pub segment_bytes: u64,
    /// Segments are filled with zeros in steps of this, as a flush that neither moves the file's end nor takes new
    /// blocks is the cheapest.
    pub preallocate_bytes: u64,
    /// The most that one group may take.
    pub group_bytes_max: u64,
    /// The sequence that the first commit gets if there is no log yet.
    pub start: CommitSeq,
}

/// Kept free behind the last group, so that a clean stop can be noted on a full disk.
const RESERVE_BYTES: u64 = 64;
/// A buffer that a large group has left is not kept above this.
const BUFFER_BYTES: usize = 1024 * 1024;
/// One call drops no more segments than this, as each costs a flush of the folder while the committer waits.
const DROPS_MAX: usize = 8;
/// With more segments than this that only the engine holds back, it pays to have it flush.
const HELD_MAX: usize = 4;

impl SegmentSettings {
    /// The defaults: level sync, segments of 64 MiB.
    #[must_use]
    pub const fn new(database: DatabaseId) -> Self {
        Self {
            database,
            durability: Durability::Sync,
            segment_bytes: 64 << 20,
            preallocate_bytes: 256 << 10,
            group_bytes_max: 256 << 20,
            start: CommitSeq::FIRST,
        }
    }

    /// Up to where a segment is to be filled whose groups end at `end`.
    pub(crate) fn allocation(&self, end: u64) -> u64 {
        (end + RESERVE_BYTES).next_multiple_of(self.preallocate_bytes.max(1))
    }
}

/// The commit log in a folder of segment files. One process at a time ([`FolderLock`](crate::lock::FolderLock)).
///
/// Dropped without [`close`](CommitLog::close) it leaves what a crash leaves.
pub struct SegmentLog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    settings: SegmentSettings,
    shared: Arc<Shared>,
    id: LogId,
    next: CommitSeq,
    active: Arc<Segment>,
    /// Where the next group goes.
    end: u64,
    /// Up to where the active segment is filled with zeros.
    allocated: u64,
    /// Whether the log says durably that commits are answered before they are flushed.
    interval_noted: bool,
    flusher: Option<Flusher>,
    buffer: Vec<u8>,
    opening: Opening,
}

impl SegmentLog {
    /// Opens the log in `dir`, or begins one there.
    ///
    /// What a crash has left is mended: the torn tail of the last group is cut off, and after an unclean stop at level
    /// interval the log gets a new id.
    ///
    /// # Errors
    /// [`OpenError`]: damage, a file of a newer format or of another database, the disk's own.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        settings: SegmentSettings,
    ) -> Result<Self, OpenError> {
        let Opened {
            log,
            kept,
            end,
            allocated,
            opening,
        } = open(&*disk, dir, &settings)?;
        let failed = |source| OpenError::Disk {
            action: "serve the log in",
            path: dir.to_owned(),
            source,
        };
        let active = kept.segments.last().map(Arc::clone);
        let active = active.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let next = kept.last.next();
        let shared = Arc::new(Shared::new(kept));
        let flusher = match settings.durability {
            Durability::Sync => None,
            Durability::Interval(interval) => {
                Some(Flusher::start(Arc::clone(&shared), interval).map_err(failed)?)
            }
        };
        let dir = dir.to_owned();
        let (buffer, interval_noted) = (Vec::new(), false);
        Ok(Self {
            disk,
            dir,
            settings,
            shared,
            id: log,
            next,
            active,
            end,
            allocated,
            interval_noted,
            flusher,
            buffer,
            opening,
        })
    }

    /// How the log was found.
    #[must_use]
    pub fn opening(&self) -> Opening {
        self.opening
    }

    /// Makes durable what was appended, at any level.
    ///
    /// # Errors
    /// [`AppendError::Failed`], and the log has failed.
    pub fn flush(&mut self) -> Result<(), AppendError> {
        if let Some(failure) = self.shared.failure() {
            return Err(AppendError::Failed(failure));
        }
        let last = self.next.previous();
        if self.shared.flushed() < last {
            let file = &*self.active.file;
            self.shared.flush(file, last).map_err(AppendError::Failed)?;
        }
        Ok(())
    }

    /// At level interval says so durably, before the first answer that a power cut could take back.
    fn note_interval(&mut self) -> Result<(), AppendError> {
        if self.flusher.is_none() || self.interval_noted {
            return Ok(());
        }
        self.write_group(GroupKind::Opened, &[])?;
        self.shared
            .flush(&*self.active.file, self.next.previous())
            .map_err(AppendError::Failed)?;
        self.interval_noted = true;
        Ok(())
    }

    /// Goes on in a new segment if the group does not fit this one.
    fn make_room(&mut self, bytes: u64) -> Result<(), AppendError> {
        let has_entries = self.next > self.active.header.first;
        if !has_entries || self.end + bytes + RESERVE_BYTES <= self.settings.segment_bytes {
            return Ok(());
        }
        // That a segment exists says that all before it is flushed.
        self.flush()?;
        let previous = self.active.header.first;
        match new_segment(
            &*self.disk,
            &self.dir,
            &self.settings,
            self.id,
            self.next,
            previous,
        ) {
            Ok((segment, allocated)) => self.go_on_in(segment, allocated),
            Err(CreateError::Unknown(error)) => {
                return Err(AppendError::Failed(self.shared.fail(error)));
            }
            Err(CreateError::Nothing(error)) => {
                tracing::warn!(dir = %self.dir.display(), %error, "cannot begin a log segment, going on in the old one");
            }
        }
        Ok(())
    }

    fn go_on_in(&mut self, segment: Segment, allocated: u64) {
        if let Err(error) = self.active.file.set_size(self.end) {
            tracing::debug!(%error, "the zeros behind a full log segment stay");
        }
        self.active = Arc::new(segment);
        self.end = self.active.end();
        self.allocated = allocated;
        self.shared
            .kept
            .write()
            .segments
            .push(Arc::clone(&self.active));
    }

    /// Writes a group behind the last one, with zeros behind it where the segment has none yet.
    fn write_group(&mut self, kind: GroupKind, entries: &[Bytes]) -> Result<(), AppendError> {
        let offset = self.end;
        let level = self.settings.durability.level();
        let start = GroupStart {
            kind,
            level,
            first: self.next,
            flushed: self.shared.flushed(),
        };
        self.buffer.clear();
        encode_group(
            &mut self.buffer,
            Place {
                salt: self.active.header.salt,
                offset,
            },
            start,
            entries,
        );
        let end = offset + self.buffer.len() as u64;
        let reserve = if kind == GroupKind::Clean {
            0
        } else {
            RESERVE_BYTES
        };
        if end + reserve > self.allocated {
            let filled = self.settings.allocation(end) - offset;
            self.buffer
                .resize(usize::try_from(filled).unwrap_or(self.buffer.len()), 0);
        }
        if let Err(error) = write_all_at(&*self.active.file, &self.buffer, offset) {
            return Err(self.undo_write(error));
        }
        self.allocated = self.allocated.max(offset + self.buffer.len() as u64);
        self.end = end;
        self.active.grew(self.next, offset, end);
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES);
        Ok(())
    }

    /// Puts the segment back to what it was before a write that stopped half-way.
    fn undo_write(&mut self, error: io::Error) -> AppendError {
        if !is_full(&error) {
            return AppendError::Failed(self.shared.fail(error));
        }
        let file = &*self.active.file;
        let allocated = self.allocated.max(self.end);
        let zeros = usize::try_from(allocated - self.end)
            .unwrap_or(usize::MAX)
            .min(self.buffer.len());
        self.buffer.fill(0);
        // What was allocated before can be written even now.
        let undone = write_all_at(file, self.buffer.get(..zeros).unwrap_or_default(), self.end)
            .and_then(|()| file.set_size(allocated));
        match undone {
            Ok(()) => AppendError::Full,
            Err(error) => AppendError::Failed(self.shared.fail(error)),
        }
    }

    /// Whether the oldest segment may go, and the log with it not be too short.
    fn may_drop_oldest(
        &self,
        keep: Retention,
        floor: CommitSeq,
    ) -> io::Result<Option<Arc<Segment>>> {
        let kept = self.shared.kept.read();
        let [oldest, following, ..] = kept.segments.as_slice() else {
            return Ok(None);
        };
        if following.header.first > floor.next() {
            return Ok(None);
        }
        let may_go = bytes_of(&kept.segments) > keep.bytes_max || is_old(oldest, keep)?;
        Ok(may_go.then(|| Arc::clone(oldest)))
    }
}

fn bytes_of(segments: &[Arc<Segment>]) -> u64 {
    segments.iter().map(|segment| segment.end()).sum()
}

fn is_old(segment: &Segment, keep: Retention) -> io::Result<bool> {
    let end = segment.file.modified()?.checked_add(keep.age_max);
    Ok(end.is_some_and(|end| end < keep.now))
}

impl CommitLog for SegmentLog {
    fn id(&self) -> LogId {
        self.id
    }

    fn next(&self) -> CommitSeq {
        self.next
    }

    fn append(&mut self, expected: CommitSeq, entries: &[Bytes]) -> Result<(), AppendError> {
        if let Some(failure) = self.shared.failure() {
            return Err(AppendError::Failed(failure));
        }
        if expected != self.next {
            return Err(AppendError::Conflict { next: self.next });
        }
        if entries.is_empty() {
            return Ok(());
        }
        let bytes = group_bytes(entries).map_or(u64::MAX, |bytes| bytes as u64);
        if bytes > self.settings.group_bytes_max {
            return Err(AppendError::TooLarge {
                bytes,
                limit: self.settings.group_bytes_max,
            });
        }
        self.make_room(bytes)?;
        self.note_interval()?;
        self.write_group(GroupKind::Entries, entries)?;
        let last = self.next.plus(entries.len() as u64 - 1);
        match &self.flusher {
            None => self
                .shared
                .flush(&*self.active.file, last)
                .map_err(AppendError::Failed)?,
            Some(flusher) => flusher.wrote(&self.active.file, last),
        }
        self.next = last.next();
        self.shared.kept.write().last = last;
        Ok(())
    }

    fn reader(&self) -> Box<dyn LogReader> {
        Box::new(SegmentReader(Arc::clone(&self.shared)))
    }

    fn retain(&mut self, keep: Retention, floor: CommitSeq) -> Result<(), RetainError> {
        for _ in 0..DROPS_MAX {
            let failed = |source| RetainError {
                file: self.dir.clone(),
                source,
            };
            let Some(oldest) = self.may_drop_oldest(keep, floor).map_err(failed)? else {
                break;
            };
            self.disk
                .remove(&oldest.path)
                .map_err(|source| RetainError {
                    file: oldest.path.clone(),
                    source,
                })?;
            self.shared.kept.write().segments.remove(0);
            // One by one: were they to vanish in another order, the log would have a hole.
            if let Err(source) = self.disk.sync_dir(&self.dir) {
                let kind = source.kind();
                self.shared.fail(source);
                return Err(RetainError {
                    file: oldest.path.clone(),
                    source: kind.into(),
                });
            }
        }
        Ok(())
    }

    fn is_held_back(&self, keep: Retention, floor: CommitSeq) -> bool {
        let kept = self.shared.kept.read();
        let mut bytes = bytes_of(&kept.segments);
        let mut held = 0;
        for (segment, following) in kept.segments.iter().zip(kept.segments.iter().skip(1)) {
            if bytes <= keep.bytes_max && !is_old(segment, keep).unwrap_or(false) {
                break;
            }
            bytes -= segment.end();
            held += usize::from(following.header.first > floor.next());
            if held > HELD_MAX {
                return true;
            }
        }
        false
    }

    fn close(mut self: Box<Self>) -> Result<(), CloseError> {
        self.flusher = None;
        if let Some(failure) = self.shared.failure() {
            return Err(CloseError(failure));
        }
        self.flush()
            .and_then(|()| self.write_group(GroupKind::Clean, &[]))
            .map_err(closing)?;
        self.shared
            .flush(&*self.active.file, self.next.previous())
            .map_err(CloseError)
    }
}

fn closing(error: AppendError) -> CloseError {
    match error {
        AppendError::Failed(source) => CloseError(source),
        other => CloseError(Arc::new(io::Error::other(other))),
    }
}

impl fmt::Debug for SegmentLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentLog")
            .field("dir", &self.dir)
            .field("id", &self.id)
            .field("next", &self.next)
            .finish()
    }
}

const _: () = assert!(
    GROUP_HEADER_BYTES as u64 <= RESERVE_BYTES,
    "a mark fits the reserve"
);

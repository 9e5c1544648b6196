//! Opens the segment files of a log: verifies them, and mends what a crash has left.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{CreateError, Disk, DiskFile, UNFINISHED, create_durably, write_all_at};
use super::scan::{Index, Rest, Scan, read_header, scan};
use super::segment::{HEADER_BYTES, HeaderError, Level, SegmentHeader, VERSION};
use super::segments::{Kept, Segment, VerifyError};
use super::window::Window;
use super::{CommitSeq, Damage, LogId, OpenError, SegmentSettings};

const SUFFIX: &str = ".seg";
const REWRITE_BYTES: usize = 256 * 1024;

/// How a log was found, for the server's own log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// There was none.
    pub created: bool,
    /// It was stopped on purpose.
    pub clean: bool,
    /// The log got a new id: commits that were answered may be gone.
    pub renewed: bool,
    /// Bytes of a torn tail that were cut off.
    pub cut_bytes: u64,
}

/// What the writer goes on from.
pub(crate) struct Opened {
    pub(crate) log: LogId,
    pub(crate) kept: Kept,
    /// Where the next group goes in the newest segment, and up to where that is filled with zeros.
    pub(crate) end: u64,
    pub(crate) allocated: u64,
    pub(crate) opening: Opening,
}

pub(crate) fn open(
    disk: &dyn Disk,
    dir: &Path,
    settings: &SegmentSettings,
) -> Result<Opened, OpenError> {
    disk.create_dir(dir)
        .map_err(failed("make the log's folder", dir))?;
    let mut found = Vec::<Found>::new();
    for first in list(disk, dir)? {
        let next = load(disk, dir, first, settings)?;
        if let Some(before) = found
            .last()
            .filter(|before| before.header.first != next.header.previous)
        {
            let (from, to) = (
                next.header.previous.max(before.header.first.next()),
                first.previous(),
            );
            return Err(OpenError::Missing {
                dir: dir.to_owned(),
                from,
                to,
            });
        }
        found.push(next);
    }
    match found.pop() {
        Some(newest) => recover(disk, dir, settings, found, newest),
        None => create(disk, dir, settings),
    }
}

/// The first sequences of the segments in the folder, in order. Removes what was never finished.
fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<CommitSeq>, OpenError> {
    let mut firsts = Vec::new();
    for name in disk
        .list(dir)
        .map_err(failed("list the log's folder", dir))?
    {
        let whole = name.strip_suffix(UNFINISHED);
        let stem = whole.unwrap_or(&name).strip_suffix(SUFFIX);
        let Some(first) = stem.and_then(|stem| stem.parse().ok()).map(CommitSeq) else {
            continue;
        };
        if whole.is_some() {
            let path = dir.join(&name);
            disk.remove(&path)
                .map_err(failed("remove the unfinished file", &path))?;
        } else if name == segment_name(first) {
            firsts.push(first);
        }
    }
    firsts.sort_unstable();
    Ok(firsts)
}

fn segment_name(first: CommitSeq) -> String {
    format!("{:020}{SUFFIX}", first.0)
}

struct Found {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    header: SegmentHeader,
    size: u64,
}

impl Found {
    fn scan(&self) -> Result<Scan, OpenError> {
        scan(&*self.file, self.header, self.size).map_err(failed("read", &self.path))
    }
}

fn load(
    disk: &dyn Disk,
    dir: &Path,
    first: CommitSeq,
    settings: &SegmentSettings,
) -> Result<Found, OpenError> {
    let path = dir.join(segment_name(first));
    let file = disk.open(&path).map_err(failed("open", &path))?;
    let size = file.size().map_err(failed("read", &path))?;
    let damaged = |why| {
        Err(OpenError::Damaged {
            damage: Damage {
                file: path.clone(),
                offset: 0,
                seq: first,
                why,
            },
        })
    };
    match read_header(&*file).map_err(failed("read", &path))? {
        Err(HeaderError::Damaged(why)) => damaged(why),
        Err(HeaderError::Newer(version)) => Err(OpenError::Newer {
            file: path,
            version,
            known: VERSION,
        }),
        Ok(header) if header.database != settings.database => {
            Err(OpenError::OtherDatabase { file: path })
        }
        Ok(header) if header.first != first => damaged("its name is not that of its first commit"),
        Ok(header) => Ok(Found {
            path,
            file,
            header,
            size,
        }),
    }
}

fn recover(
    disk: &dyn Disk,
    dir: &Path,
    settings: &SegmentSettings,
    older: Vec<Found>,
    newest: Found,
) -> Result<Opened, OpenError> {
    let tail = newest.scan()?;
    if let Rest::Damaged { offset, seq, why } = tail.rest {
        return Err(OpenError::Damaged {
            damage: Damage {
                file: newest.path,
                offset,
                seq,
                why,
            },
        });
    }
    let segments = verify(older, newest.header.first, !tail.clean)?;
    let mut opening = Opening {
        clean: tail.clean,
        ..Opening::default()
    };
    if tail.rest == Rest::Torn {
        opening.cut_bytes = newest.size.saturating_sub(tail.end);
    }
    if !tail.clean || tail.rest == Rest::Torn {
        mend(disk, dir, &newest, &tail).map_err(failed("mend", &newest.path))?;
    }
    opening.renewed = !tail.clean && tail.level == Level::Interval;
    let mut kept = Kept {
        segments,
        last: tail.next.previous(),
    };
    let allocated = if tail.rest == Rest::Torn {
        tail.end
    } else {
        newest.size
    };
    let log = newest.header.log;
    let (is_empty, end) = (tail.next == newest.header.first, tail.end);
    if !(opening.renewed && is_empty) {
        let segment = Segment::new(
            newest.path,
            newest.file,
            newest.header,
            end,
            Some(tail.index),
        );
        kept.segments.push(Arc::new(segment));
    }
    if !opening.renewed {
        return Ok(Opened {
            log,
            kept,
            end,
            allocated,
            opening,
        });
    }
    add_segment(disk, dir, settings, kept, opening)
}

/// Makes the newest segment what it has been judged to be, durably.
///
/// The groups that no mark covers are written again: if the server died of a failed flush, the system may hold them in
/// memory and take them for written.
fn mend(disk: &dyn Disk, dir: &Path, newest: &Found, tail: &Scan) -> io::Result<()> {
    if tail.rest == Rest::Torn {
        newest.file.set_size(tail.end)?;
    }
    let mut window = Window::new(&*newest.file, tail.end);
    let mut offset = tail.unmarked_from;
    while offset < tail.end {
        let count = usize::try_from(tail.end - offset)
            .unwrap_or(usize::MAX)
            .min(REWRITE_BYTES);
        let bytes = window
            .get(offset, count)?
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        write_all_at(&*newest.file, bytes, offset)?;
        offset += count as u64;
    }
    newest.file.sync()?;
    disk.sync_dir(dir)
}

/// The older segments. After a crash each is read and verified now; else when somebody reads it.
fn verify(
    older: Vec<Found>,
    newest: CommitSeq,
    fully: bool,
) -> Result<Vec<Arc<Segment>>, OpenError> {
    let nexts = older
        .iter()
        .skip(1)
        .map(|found| found.header.first)
        .chain([newest])
        .collect::<Vec<_>>();
    let mut segments = Vec::new();
    for (found, next) in older.into_iter().zip(nexts) {
        let segment = Arc::new(Segment::new(
            found.path,
            found.file,
            found.header,
            found.size,
            None,
        ));
        if fully {
            segment.verify(next).map_err(|error| match error {
                VerifyError::Damaged(damage) => OpenError::Damaged { damage },
                VerifyError::Io(source) => failed("read", &segment.path)(source),
            })?;
        }
        segments.push(segment);
    }
    Ok(segments)
}

fn create(disk: &dyn Disk, dir: &Path, settings: &SegmentSettings) -> Result<Opened, OpenError> {
    let kept = Kept {
        segments: Vec::new(),
        last: settings.start.previous(),
    };
    add_segment(
        disk,
        dir,
        settings,
        kept,
        Opening {
            created: true,
            ..Opening::default()
        },
    )
}

/// Goes on in a new segment under a new log id.
fn add_segment(
    disk: &dyn Disk,
    dir: &Path,
    settings: &SegmentSettings,
    mut kept: Kept,
    opening: Opening,
) -> Result<Opened, OpenError> {
    let log = LogId::random();
    let previous = kept
        .segments
        .last()
        .map_or(CommitSeq::ZERO, |segment| segment.header.first);
    let made = new_segment(disk, dir, settings, log, kept.last.next(), previous);
    let (segment, allocated) = made
        .map_err(CreateError::into_source)
        .map_err(failed("begin a file in", dir))?;
    let end = segment.end();
    kept.segments.push(Arc::new(segment));
    Ok(Opened {
        log,
        kept,
        end,
        allocated,
        opening,
    })
}

/// Makes an empty segment for the entries from `first` on, and says up to where it is filled with zeros.
pub(crate) fn new_segment(
    disk: &dyn Disk,
    dir: &Path,
    settings: &SegmentSettings,
    log: LogId,
    first: CommitSeq,
    previous: CommitSeq,
) -> Result<(Segment, u64), CreateError> {
    let level = settings.durability.level();
    let header = SegmentHeader {
        log,
        database: settings.database,
        first,
        previous,
        salt: rand::random(),
        level,
    };
    let mut content = header.encode().to_vec();
    let allocated = settings.allocation(HEADER_BYTES as u64);
    content.resize(usize::try_from(allocated).unwrap_or(HEADER_BYTES), 0);
    let name = segment_name(first);
    let file = create_durably(disk, dir, &name, &content)?;
    let end = HEADER_BYTES as u64;
    Ok((
        Segment::new(dir.join(name), file, header, end, Some(Index::default())),
        content.len() as u64,
    ))
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> OpenError + 'a {
    move |source| OpenError::Disk {
        action,
        path: path.to_owned(),
        source,
    }
}

//! A disk in memory that keeps apart what is flushed and what is not, and fails on demand.
//!
//! As in a page cache, a write changes whole pages of 4 KiB in memory; when the power goes, each page is as it was after
//! some write since the last flush, whatever the others are, and so are a file's size and the names in a folder. A flush
//! that fails forgets what it should have written (PostgreSQL's fsync lesson of 2018).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use crate::log::disk::{Disk, DiskFile, ReadAt};

const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// A faulty disk. Clones are the same disk.
#[derive(Clone, Default)]
pub struct FaultDisk(Arc<Mutex<World>>);

#[derive(Clone, Default)]
struct World {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    flushed_names: BTreeMap<PathBuf, usize>,
    name_changes: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    operations: u64,
    flushes: u64,
    fault: Option<Fault>,
    off_before_flush: Option<u64>,
    capacity: Option<u64>,
    seconds: u64,
}

#[derive(Clone, Default)]
struct Inode {
    now: Vec<u8>,
    flushed: Vec<u8>,
    changes: Vec<Change>,
    modified_s: u64,
}

/// What one operation did to a file: how the pages that it touched look after it, and how long the file is.
#[derive(Clone)]
struct Change {
    pages: BTreeMap<usize, Vec<u8>>,
    size: usize,
}

#[derive(Clone)]
enum NameChange {
    Put(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
    Remove(PathBuf),
}

#[derive(Clone, Copy)]
struct Fault {
    first: u64,
    last: u64,
    kind: io::ErrorKind,
}

/// Numbers that look random and are the same for the same seed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % end.max(1) as u64).unwrap()
    }
}

impl FaultDisk {
    /// An empty disk without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many operations there have been.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// How many flushes, of files and folders, there have been.
    #[must_use]
    pub fn flushes(&self) -> u64 {
        self.0.lock().flushes
    }

    /// From now on, the `nth` operation (the next is 1) fails with an error of this kind, and those after it if
    /// `for_ever`.
    pub fn fail(&self, nth: u64, for_ever: bool, kind: io::ErrorKind) {
        let mut world = self.0.lock();
        let first = world.operations + nth;
        world.fault = Some(Fault {
            first,
            last: if for_ever { u64::MAX } else { first },
            kind,
        });
    }

    /// From before the `nth` flush (the next is 0) on, nothing works any more.
    pub fn stop_before_flush(&self, nth: u64) {
        let mut world = self.0.lock();
        world.off_before_flush = Some(world.flushes + nth);
    }

    /// No more faults are planned, and there is room for so many bytes.
    pub fn mend(&self, capacity: Option<u64>) {
        let mut world = self.0.lock();
        world.fault = None;
        world.off_before_flush = None;
        world.capacity = capacity;
    }

    /// The bytes that files take.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.lock().used()
    }

    /// The disk as the next process finds it, when this one is killed: all that was written is there, flushed or not.
    #[must_use]
    pub fn killed(&self) -> Self {
        let copy = Self(Arc::new(Mutex::new(self.0.lock().clone())));
        copy.mend(None);
        copy
    }

    /// The disk as it may be found when the power goes now. `pick(n)` chooses, below `n`, among the states that each
    /// piece may be in, the flushed one first and the newest last. With `torn`, pages are written in parts.
    #[must_use]
    pub fn power_off(&self, torn: bool, pick: &mut dyn FnMut(usize) -> usize) -> Self {
        let world = self.0.lock();
        let mut names = world.flushed_names.clone();
        for change in &world.name_changes {
            if pick(2) == 1 {
                change.apply(&mut names);
            }
        }
        let inodes = world
            .inodes
            .iter()
            .map(|inode| inode.power_off(torn, pick))
            .collect();
        let dirs = world.dirs.clone();
        let flushed_names = names.clone();
        Self(Arc::new(Mutex::new(World {
            inodes,
            names,
            flushed_names,
            dirs,
            ..World::default()
        })))
    }

    /// The files there are.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.0.lock().names.keys().cloned().collect()
    }

    /// What is in a file; nothing if there is none.
    #[must_use]
    pub fn content(&self, path: &Path) -> Vec<u8> {
        let world = self.0.lock();
        world
            .names
            .get(path)
            .map(|inode| world.inodes[*inode].now.clone())
            .unwrap_or_default()
    }

    /// Puts a file there, durably. A file that was there has another content from now on, for who has it open too.
    pub fn put(&self, path: &Path, content: Vec<u8>) {
        let mut world = self.0.lock();
        let modified_s = world.seconds;
        let put = Inode {
            now: content.clone(),
            flushed: content,
            changes: Vec::new(),
            modified_s,
        };
        let inode = match world.names.get(path) {
            Some(inode) => *inode,
            None => {
                world.inodes.push(Inode::default());
                world.inodes.len() - 1
            }
        };
        world.inodes[inode] = put;
        world.names.insert(path.to_owned(), inode);
        world.flushed_names.insert(path.to_owned(), inode);
    }

    /// What time it is, for the times of files. It begins with 0 and stands still.
    pub fn set_time(&self, since_epoch: Duration) {
        self.0.lock().seconds = since_epoch.as_secs();
    }
}

impl fmt::Debug for FaultDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FaultDisk").field(&self.files()).finish()
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Put(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

impl World {
    /// Counts an operation, and fails if it is its turn.
    fn operate(&mut self) -> io::Result<()> {
        self.operations += 1;
        if self
            .off_before_flush
            .is_some_and(|flush| self.flushes > flush)
        {
            return Err(io::Error::other("the power is off"));
        }
        match self.fault {
            Some(fault) if (fault.first..=fault.last).contains(&self.operations) => {
                Err(fault.kind.into())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn operate_flush(&mut self) -> io::Result<()> {
        self.flushes += 1;
        self.operate()
    }

    fn used(&self) -> u64 {
        self.names
            .values()
            .map(|inode| self.inodes[*inode].now.len() as u64)
            .sum()
    }

    fn rename_to(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }
}

fn page_of(bytes: &[u8], page: usize) -> Vec<u8> {
    let mut content = bytes
        .iter()
        .skip(page * PAGE)
        .take(PAGE)
        .copied()
        .collect::<Vec<_>>();
    content.resize(PAGE, 0);
    content
}

impl Inode {
    fn resize(&mut self, size: usize) {
        let touched = self.now.len().min(size) / PAGE..self.now.len().max(size).div_ceil(PAGE);
        self.now.resize(size, 0);
        self.note(touched);
    }

    fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        self.now[offset..end].copy_from_slice(bytes);
        self.note(offset / PAGE..end.div_ceil(PAGE));
    }

    fn note(&mut self, touched: std::ops::Range<usize>) {
        let pages = touched
            .map(|page| (page, page_of(&self.now, page)))
            .collect();
        self.changes.push(Change {
            pages,
            size: self.now.len(),
        });
    }

    fn flush(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            self.flushed.resize(change.size, 0);
            for (page, content) in change.pages {
                let end = ((page + 1) * PAGE).min(change.size);
                if page * PAGE < end {
                    self.flushed[page * PAGE..end].copy_from_slice(&content[..end - page * PAGE]);
                }
            }
        }
    }

    fn power_off(&self, torn: bool, pick: &mut dyn FnMut(usize) -> usize) -> Self {
        let mut content = self.flushed.clone();
        if !self.changes.is_empty() {
            let sizes = std::iter::once(self.flushed.len())
                .chain(self.changes.iter().map(|change| change.size));
            let sizes = sizes.collect::<Vec<_>>();
            content.resize(sizes[pick(sizes.len())], 0);
        }
        let touched = self
            .changes
            .iter()
            .flat_map(|change| change.pages.keys().copied())
            .collect::<BTreeSet<_>>();
        let unit = if torn { SECTOR } else { PAGE };
        for page in touched {
            let mut versions = vec![page_of(&self.flushed, page)];
            versions.extend(
                self.changes
                    .iter()
                    .filter_map(|change| change.pages.get(&page).cloned()),
            );
            for part in 0..PAGE / unit {
                let (from, to) = (
                    page * PAGE + part * unit,
                    (page * PAGE + (part + 1) * unit).min(content.len()),
                );
                if from < to {
                    let version = &versions[pick(versions.len())];
                    content[from..to]
                        .copy_from_slice(&version[part * unit..part * unit + (to - from)]);
                }
            }
        }
        Self {
            now: content.clone(),
            flushed: content,
            changes: Vec::new(),
            modified_s: self.modified_s,
        }
    }
}

impl Disk for FaultDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        world.operate()?;
        world.dirs.insert(dir.to_owned());
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut world = self.0.lock();
        world.operate()?;
        let here = world.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(here
            .filter_map(|path| path.file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.0.lock();
        world.operate()?;
        let inode = world.inodes.len();
        let modified_s = world.seconds;
        world.inodes.push(Inode {
            modified_s,
            ..Inode::default()
        });
        world.rename_to(NameChange::Put(path.to_owned(), inode));
        Ok(Arc::new(FaultFile {
            disk: self.clone(),
            inode,
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.0.lock();
        world.operate()?;
        let inode = *world.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(FaultFile {
            disk: self.clone(),
            inode,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        world.operate()?;
        let inode = *world.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        world.rename_to(NameChange::Rename(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        world.operate()?;
        if !world.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.rename_to(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        world.operate_flush()?;
        let (here, elsewhere) = std::mem::take(&mut world.name_changes)
            .into_iter()
            .partition(|change| match change {
                NameChange::Put(path, _)
                | NameChange::Rename(_, path, _)
                | NameChange::Remove(path) => path.parent() == Some(dir),
            });
        let here: Vec<NameChange> = here;
        world.name_changes = elsewhere;
        for change in here {
            change.apply(&mut world.flushed_names);
        }
        Ok(())
    }
}

struct FaultFile {
    disk: FaultDisk,
    inode: usize,
}

impl fmt::Debug for FaultFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FaultFile").field(&self.inode).finish()
    }
}

impl ReadAt for FaultFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.disk.0.lock();
        world.operate()?;
        world.inodes[self.inode]
            .now
            .as_slice()
            .read_at(buffer, offset)
    }

    fn size(&self) -> io::Result<u64> {
        let mut world = self.disk.0.lock();
        world.operate()?;
        Ok(world.inodes[self.inode].now.len() as u64)
    }
}

impl DiskFile for FaultFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut world = self.disk.0.lock();
        let offset = usize::try_from(offset).unwrap();
        let seconds = world.seconds;
        // A write that fails may have come half-way.
        let failed = world.operate().err();
        let wanted = if failed.is_some() {
            bytes.len() / 2
        } else {
            bytes.len()
        };
        let room = world
            .capacity
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(world.used()));
        let inode = &mut world.inodes[self.inode];
        let end_max = inode
            .now
            .len()
            .saturating_add(usize::try_from(room).unwrap());
        let count = wanted.min(end_max.saturating_sub(offset));
        if count > 0 {
            inode.write(&bytes[..count], offset);
            inode.modified_s = seconds;
        }
        match failed {
            Some(error) => Err(error),
            None if count == 0 && !bytes.is_empty() => Err(io::ErrorKind::StorageFull.into()),
            None => Ok(count),
        }
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut world = self.disk.0.lock();
        world.operate()?;
        world.inodes[self.inode].resize(usize::try_from(size).unwrap());
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.disk.0.lock();
        let result = world.operate_flush();
        if result.is_err() && world.off_before_flush.is_none() {
            world.inodes[self.inode].changes.clear();
        }
        result?;
        world.inodes[self.inode].flush();
        Ok(())
    }

    fn modified(&self) -> io::Result<SystemTime> {
        let world = self.disk.0.lock();
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(world.inodes[self.inode].modified_s))
    }
}

//! The engine that keeps rows on disk: fjall, one keyspace, written without flush by one thread.
//!
//! The commit log is the promise, the engine follows it. So the log is kept from the last commit whose rows are in the
//! engine's *tables*, flushed; the engine's own journal only saves replay. That matters, as its reader takes a damaged
//! entry for the journal's end: where a journal cannot be trusted it is dropped, and the log fills the gap. To see that a
//! batch is missing, each leaves a *link* with its number; links go when their batch is in the tables, and what is left
//! must have no hole.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fjall::config::{BlockSizePolicy, CompressionPolicy};
use fjall::{
    AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode,
    Readable, Slice, Snapshot,
};
use parking_lot::Mutex;

use super::error::OpenError;

/// Keys begin with what they are for.
pub(crate) const ROWS: u8 = 0x01;
pub(crate) const CUTS: u8 = 0x02;
pub(crate) const PRIVATE: u8 = 0x03;
const FORMAT: &[u8] = &[0x06, b'f'];
const APPLIED: &[u8] = &[0x06, b'a'];
const LINKS: &[u8] = &[0x06, b'b'];
const LINKS_END: &[u8] = &[0x06, b'c'];

const FORMAT_KNOWN: u32 = 1;
const KEYSPACE: &str = "rows";
const BLOCK_BYTES: u32 = 16 * 1024;
/// The least that fjall takes.
const JOURNAL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// One compacts while the other moves memtables to disk.
const WORKERS: usize = 2;
/// About the most that one compaction writes before it removes what it has read.
const COMPACTION_BYTES: u64 = 256 * 1024 * 1024;
/// With so many batches since the last table, another table is made, small as it may be.
const LINKS_MAX: usize = 1_000;
const FILES_MAX: usize = 256;
const TABLES_POLL: Duration = Duration::from_millis(1);

/// A failure of the engine, or bytes of it that say nothing.
pub(crate) type EngineError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Copy, Debug)]
pub(crate) struct EngineSettings {
    pub(crate) block_cache_bytes: u64,
    pub(crate) memtable_bytes: u64,
}

/// The one writer's handle.
pub(crate) struct Engine {
    database: Database,
    rows: Keyspace,
    dir: PathBuf,
    /// Number of the last batch written.
    batch: u64,
    links: VecDeque<Link>,
    progress: Arc<Mutex<Progress>>,
}

struct Link {
    batch: u64,
    engine_seq: u64,
}

/// How far the tables have come: the engine's sequences that were current after a batch, with what was applied by then.
struct Progress {
    rows: Keyspace,
    waiting: VecDeque<(u64, u64)>,
    flushed: u64,
}

/// The engine as of one batch.
pub(crate) struct EngineView {
    snapshot: Snapshot,
    rows: Keyspace,
    /// Number of the batch.
    pub(crate) generation: u64,
    /// Every commit up to this one is in it, and nothing later.
    pub(crate) applied: u64,
}

/// Tells how far the log may be dropped.
#[derive(Clone)]
pub(crate) struct Flushed(Arc<Mutex<Progress>>);

/// What goes to the engine at once.
#[derive(Default)]
pub(crate) struct Batch {
    puts: Vec<(Slice, Slice)>,
    removes: Vec<Slice>,
}

impl Engine {
    /// Opens the engine's folder, making it if need be.
    pub(crate) fn open(
        dir: &Path,
        settings: EngineSettings,
    ) -> Result<(Self, EngineView), OpenError> {
        prepare(dir)?;
        let what = match Self::open_once(dir, settings) {
            Err(OpenError::Damaged { what, .. }) if !is_empty(dir) => what,
            other => return other,
        };
        tracing::warn!(dir = %dir.display(), what, "dropping the engine's journal, the commit log has what was in it");
        drop_journals(dir).map_err(|source| io_error(dir, source))?;
        Self::open_once(dir, settings)
    }

    fn open_once(dir: &Path, settings: EngineSettings) -> Result<(Self, EngineView), OpenError> {
        // On bad files the engine may panic as well as fail.
        let opened = panic::catch_unwind(AssertUnwindSafe(|| open_keyspace(dir, settings)));
        let (database, rows) = opened
            .map_err(|_| damaged(dir, "the engine gave up reading its files"))?
            .map_err(|error| classify(dir, error))?;
        let snapshot = database.snapshot();
        let format = read_format(dir, &snapshot, &rows)?;
        let (applied, batch) =
            read_applied(&snapshot, &rows).map_err(|what| damaged(dir, &what))?;
        let links = read_links(&snapshot, &rows, batch).map_err(|what| damaged(dir, &what))?;
        let engine_seq = snapshot.seqno();
        let in_memory =
            !rows.tree.active_memtable().is_empty() || rows.tree.sealed_memtable_count() > 0;
        let progress = Progress {
            rows: rows.clone(),
            waiting: in_memory
                .then_some((engine_seq, applied))
                .into_iter()
                .collect(),
            flushed: if in_memory { 0 } else { applied },
        };
        let mut engine = Self {
            links: links.map(|batch| Link { batch, engine_seq }).collect(),
            progress: Arc::new(Mutex::new(progress)),
            dir: dir.to_owned(),
            database,
            rows,
            batch,
        };
        if format.is_none() {
            engine
                .write_format()
                .map_err(|error| damaged(dir, &error.to_string()))?;
        }
        if in_memory {
            // What the journal brought back goes to the tables, so that the log need not be kept for it.
            engine
                .rows
                .rotate_memtable()
                .map_err(|error| classify(dir, error))?;
        }
        let view = engine.view(applied);
        Ok((engine, view))
    }

    fn write_format(&mut self) -> Result<(), EngineError> {
        let mut batch = Batch::default();
        batch.put(FORMAT, &FORMAT_KNOWN.to_be_bytes());
        drop(self.write(batch, 0)?);
        Ok(())
    }

    /// Writes a batch and what is applied with it: both or neither survive. Nothing is flushed.
    pub(crate) fn write(&mut self, batch: Batch, applied: u64) -> Result<EngineView, EngineError> {
        let number = self.batch + 1;
        let mut out = self.database.batch();
        for (key, value) in batch.puts {
            out.insert(&self.rows, key, value);
        }
        for key in batch.removes {
            out.remove(&self.rows, key);
        }
        out.insert(
            &self.rows,
            APPLIED,
            [applied.to_be_bytes(), number.to_be_bytes()].concat(),
        );
        out.insert(&self.rows, link_key(number), []);
        let in_tables = self.rows.tree.get_highest_persisted_seqno();
        while let Some(link) = self.links.front()
            && in_tables.is_some_and(|seq| link.engine_seq <= seq)
        {
            out.remove(&self.rows, link_key(link.batch));
            self.links.pop_front();
        }
        out.commit()?;
        self.batch = number;
        if self.links.len() >= LINKS_MAX && self.rows.sealed_memtable_count() == 0 {
            self.rows.rotate_memtable()?;
        }
        let view = self.view(applied);
        // The snapshot's number is the first that it does not see.
        let engine_seq = view.snapshot.seqno().saturating_sub(1);
        self.links.push_back(Link {
            batch: number,
            engine_seq,
        });
        let mut progress = self.progress.lock();
        progress.advance();
        progress.waiting.push_back((engine_seq, applied));
        drop(progress);
        Ok(view)
    }

    fn view(&self, applied: u64) -> EngineView {
        EngineView {
            snapshot: self.database.snapshot(),
            rows: self.rows.clone(),
            generation: self.batch,
            applied,
        }
    }

    /// Whether the disk has room for this many bytes, beside what the engine needs while it makes new tables of old ones.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        let needed = bytes.saturating_add(self.rows.disk_space().min(COMPACTION_BYTES));
        // Where the question fails, the write will tell.
        let free = |disk: rustix::fs::StatVfs| disk.f_bavail.saturating_mul(disk.f_frsize);
        rustix::fs::statvfs(&self.dir).map_or(true, |disk| free(disk) >= needed)
    }

    /// Moves all that was written to tables and waits until they are flushed.
    pub(crate) fn flush_tables(&self, applied: u64) -> Result<(), EngineError> {
        self.rows.rotate_memtable()?;
        while self.rows.sealed_memtable_count() > 0 {
            // If the engine's workers have died, this is where it says so.
            self.database.persist(PersistMode::Buffer)?;
            std::thread::sleep(TABLES_POLL);
        }
        let mut progress = self.progress.lock();
        progress.waiting.clear();
        progress.flushed = applied;
        Ok(())
    }

    pub(crate) fn flushed(&self) -> Flushed {
        Flushed(Arc::clone(&self.progress))
    }

    /// Closes the engine; the journal goes, as the tables have all of it.
    pub(crate) fn close(self, applied: u64) -> Result<(), EngineError> {
        self.flush_tables(applied)?;
        let Self {
            database,
            rows,
            dir,
            ..
        } = self;
        drop(rows);
        drop(database);
        drop_journals(&dir)?;
        Ok(())
    }
}

impl Flushed {
    /// Every commit up to this one is on disk without the journal's help.
    pub(crate) fn applied(&self) -> u64 {
        self.0.lock().advance()
    }
}

impl Progress {
    fn advance(&mut self) -> u64 {
        let in_tables = self.rows.tree.get_highest_persisted_seqno();
        while let Some((engine_seq, applied)) = self.waiting.front().copied()
            && in_tables.is_some_and(|seq| engine_seq <= seq)
        {
            self.waiting.pop_front();
            self.flushed = applied;
        }
        self.flushed
    }
}

impl EngineView {
    pub(crate) fn get(&self, prefix: u8, key: &[u8]) -> Result<Option<Slice>, EngineError> {
        Ok(self.snapshot.get(&self.rows, prefixed(prefix, key))?)
    }

    /// Entries from the first key (inclusive) to the last (exclusive), keys without the prefix.
    pub(crate) fn range(&self, prefix: u8, from: &[u8], to: &[u8]) -> EngineRange {
        EngineRange {
            inner: self
                .snapshot
                .range(&self.rows, prefixed(prefix, from)..prefixed(prefix, to)),
        }
    }
}

/// An ordered walk over a part of the engine; it keeps its snapshot.
pub(crate) struct EngineRange {
    inner: fjall::Iter,
}

impl Iterator for EngineRange {
    type Item = Result<(Slice, Slice), EngineError>;

    /// The key still has its prefix.
    fn next(&mut self) -> Option<Self::Item> {
        Some(self.inner.next()?.into_inner().map_err(EngineError::from))
    }
}

impl Batch {
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) {
        self.puts.push((Slice::from(key), Slice::from(value)));
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        self.removes.push(Slice::from(key));
    }

    pub(crate) fn len(&self) -> usize {
        self.puts.len() + self.removes.len()
    }
}

pub(crate) fn prefixed(prefix: u8, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 1);
    out.push(prefix);
    out.extend_from_slice(key);
    out
}

fn open_keyspace(dir: &Path, settings: EngineSettings) -> fjall::Result<(Database, Keyspace)> {
    let database = Database::builder(dir)
        .cache_size(settings.block_cache_bytes)
        .max_journaling_size(JOURNAL_BYTES_MAX)
        .worker_threads(WORKERS)
        .max_cached_files(Some(FILES_MAX))
        .open()?;
    let options = || {
        KeyspaceCreateOptions::default()
            .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
            .max_memtable_size(settings.memtable_bytes)
    };
    let rows = database.keyspace(KEYSPACE, options)?;
    Ok((database, rows))
}

fn read_format(dir: &Path, snapshot: &Snapshot, rows: &Keyspace) -> Result<Option<u32>, OpenError> {
    let bytes = snapshot
        .get(rows, FORMAT)
        .map_err(|error| classify(dir, error))?;
    let Some(bytes) = bytes else { return Ok(None) };
    let found = <[u8; 4]>::try_from(&*bytes).map_or(u32::MAX, u32::from_be_bytes);
    if found > FORMAT_KNOWN {
        return Err(OpenError::Newer {
            dir: dir.to_owned(),
            found,
            known: FORMAT_KNOWN,
        });
    }
    Ok(Some(found))
}

/// What is applied, and the number of the last batch.
fn read_applied(snapshot: &Snapshot, rows: &Keyspace) -> Result<(u64, u64), String> {
    let bytes = snapshot
        .get(rows, APPLIED)
        .map_err(|error| error.to_string())?;
    let Some(bytes) = bytes else {
        return Ok((0, 0));
    };
    let halves = bytes.split_first_chunk::<8>().and_then(|(applied, rest)| {
        let batch = <[u8; 8]>::try_from(rest).ok()?;
        Some((u64::from_be_bytes(*applied), u64::from_be_bytes(batch)))
    });
    halves.ok_or_else(|| "the applied sequence cannot be read".to_owned())
}

/// The links present: they must lead up to the last batch without a hole.
fn read_links(
    snapshot: &Snapshot,
    rows: &Keyspace,
    last: u64,
) -> Result<std::ops::RangeInclusive<u64>, String> {
    let mut first = None;
    let mut next = 0;
    for entry in snapshot.range(rows, LINKS..LINKS_END) {
        let key = entry.key().map_err(|error| error.to_string())?;
        let number = key
            .strip_prefix(LINKS)
            .and_then(|rest| <[u8; 8]>::try_from(rest).ok())
            .map(u64::from_be_bytes);
        let number = number.ok_or("a link cannot be read")?;
        if first.is_some() && number != next {
            return Err(format!("batch {next} is missing"));
        }
        first.get_or_insert(number);
        next = number + 1;
    }
    if last > 0 && next != last + 1 {
        return Err(format!("batch {last} has no link"));
    }
    Ok(first.unwrap_or(last + 1)..=last)
}

fn link_key(number: u64) -> Vec<u8> {
    [LINKS, &number.to_be_bytes()].concat()
}

fn classify(dir: &Path, error: fjall::Error) -> OpenError {
    match error {
        fjall::Error::Locked => OpenError::Locked {
            dir: dir.to_owned(),
        },
        fjall::Error::Io(source)
            if !matches!(
                source.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::InvalidData
            ) =>
        {
            io_error(dir, source)
        }
        other => damaged(dir, &other.to_string()),
    }
}

fn damaged(dir: &Path, what: &str) -> OpenError {
    OpenError::Damaged {
        dir: dir.to_owned(),
        what: what.to_owned(),
    }
}

fn io_error(dir: &Path, source: io::Error) -> OpenError {
    OpenError::Io {
        dir: dir.to_owned(),
        source,
    }
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
}

/// Puts right what an interrupted making of the folder leaves: the engine writes its marker last, and refuses what lies
/// there before; and without any journal it would count its sequences from zero again. Refuses a folder in which the
/// engine would not recognise its own tables: it would remove them.
fn prepare(dir: &Path) -> Result<(), OpenError> {
    let io_error = |source| io_error(dir, source);
    if !dir.try_exists().map_err(io_error)? {
        return Ok(());
    }
    let mut missing = Vec::new();
    for file in ["version", "keyspaces/0/current"] {
        if !dir.join(file).try_exists().map_err(io_error)? {
            missing.push(dir.join(file));
        }
    }
    let keyspaces = with_tables(&dir.join("keyspaces")).map_err(io_error)?;
    if keyspaces.is_empty() && !missing.is_empty() {
        return super::wipe(dir).map_err(io_error);
    }
    missing.extend(
        keyspaces
            .iter()
            .map(|keyspace| keyspace.join("current"))
            .filter(|file| !file.exists()),
    );
    if let Some(file) = missing.first() {
        return Err(damaged(dir, &format!("{} is missing", file.display())));
    }
    if journals(dir).map_err(io_error)?.is_empty() {
        let journal = File::create_new(dir.join("0.jnl")).map_err(io_error)?;
        journal.sync_all().map_err(io_error)?;
    }
    Ok(())
}

/// The keyspaces that have tables, but for the engine's own.
fn with_tables(keyspaces: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !keyspaces.try_exists()? {
        return Ok(found);
    }
    for entry in fs::read_dir(keyspaces)? {
        let keyspace = entry?.path();
        if !keyspace.ends_with("0") && !is_empty(&keyspace.join("tables")) {
            found.push(keyspace);
        }
    }
    Ok(found)
}

/// Empties the engine's journals: the newest stays, with nothing in it.
fn drop_journals(dir: &Path) -> io::Result<()> {
    let mut journals = journals(dir)?;
    if let Some((_, newest)) = journals.pop() {
        let file = OpenOptions::new().write(true).open(newest)?;
        file.set_len(0)?;
        file.sync_all()?;
    }
    for (_, path) in journals {
        fs::remove_file(path)?;
    }
    File::open(dir)?.sync_all()
}

/// The engine's journals, the oldest first.
fn journals(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let id = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse().ok());
        if let Some(id) = id {
            journals.push((id, path));
        }
    }
    journals.sort();
    Ok(journals)
}

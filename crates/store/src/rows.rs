//! The rows of a database: what its commits add up to.
//!
//! Three layers, the newest first: rows of *recent* commits in memory, a *frozen* part of them on its way to the disk, and
//! the *engine*, an ordered key-value store (fjall) that is written behind the answers by one thread, without flush. With
//! each batch goes the sequence of the last commit in it, so after a crash the commit log is replayed from there. A
//! [`View`] is the three as of one commit.
//!
//! Deleting a large subtree is a *cut*: its rows are dead from that commit on, are hidden by every later view, and are
//! swept from the engine bit by bit.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path as FsPath;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

mod cache;
mod cuts;
mod engine;
mod error;
mod keeper;
mod merge;
mod overlay;
mod shared;
mod stem;
mod sweep;
mod view;
mod working;

pub use error::{OpenError, PersistError};
pub use view::View;
pub use working::Working;

use engine::{Engine, EngineSettings, Flushed};
use keeper::Keeper;
use shared::Shared;
use view::Base;

/// How much memory the rows take, and how soon they get to the disk.
#[derive(Clone, Copy, Debug)]
pub struct RowSettings {
    /// Decoded rows kept for reading, in bytes.
    pub cache_bytes: u64,
    /// The engine's cache of blocks, in bytes.
    pub block_cache_bytes: u64,
    /// The engine's memtable: what it sorts in memory before it makes a table, in bytes.
    pub memtable_bytes: u64,
    /// Recent rows are written to the engine when they are this many bytes,
    pub freeze_bytes: usize,
    /// or this old.
    pub freeze_after: Duration,
    /// Recent rows in memory, in bytes: beyond this a commit waits for the disk. One batch of the committer may go over
    /// it.
    pub backlog_bytes_max: usize,
    /// Room on the disk that is left free, in bytes: for the commit log, and for the engine's journal and memtables. For
    /// its tables the engine leaves as much again as they take, up to 256 MiB.
    pub reserve_bytes: u64,
    /// Dead rows deleted behind a cut in one batch.
    pub sweep_rows: usize,
}

impl Default for RowSettings {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            block_cache_bytes: 32 << 20,
            memtable_bytes: 16 << 20,
            freeze_bytes: 4 << 20,
            freeze_after: Duration::from_millis(200),
            backlog_bytes_max: 64 << 20,
            reserve_bytes: 32 << 20,
            sweep_rows: 1_000,
        }
    }
}

/// The rows of one database. Owned by its committer; readers have a [`ViewHandle`].
///
/// Dropping it stops its thread and leaves the engine as it is, as a crash would: what the engine lacks is in the log.
/// The folder can be opened again once no [`View`], [`Working`] or [`ViewHandle`] of it is left.
pub struct RowStore {
    shared: Arc<Shared>,
    opened_at: u64,
    flushed: Option<Flushed>,
    keeper: Option<JoinHandle<Option<Engine>>>,
}

/// Gives views to readers on any thread.
#[derive(Clone)]
pub struct ViewHandle(Arc<Shared>);

impl RowStore {
    /// Opens the rows in `dir`, making them if there are none.
    ///
    /// The commits from [`applied`](Self::applied) on are then to be applied from the log. If the log does not reach back
    /// that far (and has ever had a commit), the rows are those of another log and must not be served.
    ///
    /// # Errors
    /// [`OpenError`]. Damage to what was written lately does not count: it is dropped, and in the log.
    pub fn open(dir: &FsPath, settings: RowSettings) -> Result<Self, OpenError> {
        let of_engine = EngineSettings {
            block_cache_bytes: settings.block_cache_bytes,
            memtable_bytes: settings.memtable_bytes,
        };
        let (engine, view) = Engine::open(dir, of_engine)?;
        let damaged = |error: engine::EngineError| OpenError::Damaged {
            dir: dir.to_owned(),
            what: error.to_string(),
        };
        let old_cuts = keeper::read_cuts(&view).map_err(damaged)?;
        let applied = view.applied;
        let flushed = engine.flushed();
        let base = Base {
            old_cuts,
            engine: Some(Arc::new(view)),
            ..Base::default()
        };
        let shared = Arc::new(Shared::new(settings, base, applied, false));
        let keeper = Keeper {
            shared: Arc::clone(&shared),
            engine,
            sweep: None,
            retry_at: None,
        };
        let thread = spawn(move || Some(keeper.run()));
        let keeper = thread.map_err(|source| OpenError::Io {
            dir: dir.to_owned(),
            source,
        })?;
        Ok(Self {
            shared,
            opened_at: applied,
            flushed: Some(flushed),
            keeper: Some(keeper),
        })
    }

    /// Rows that are kept in memory only.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn memory(settings: RowSettings) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(settings, Base::default(), 0, true));
        let of_thread = Arc::clone(&shared);
        let keeper = spawn(move || {
            of_thread.sweep_memory();
            None
        })?;
        Ok(Self {
            shared,
            opened_at: 0,
            flushed: None,
            keeper: Some(keeper),
        })
    }

    /// The commit up to which the rows were there when the store was opened: the log is replayed from the next.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.opened_at
    }

    /// The published view.
    #[must_use]
    pub fn view(&self) -> View {
        self.shared.view()
    }

    /// A working view over the published one. There is one at a time.
    #[must_use]
    pub fn begin(&self) -> Working {
        self.shared.begin()
    }

    /// Publishes what a working view has applied: its commits are durable in the log.
    pub fn publish(&self, mut working: Working) {
        self.shared.publish(&mut working);
    }

    /// A handle for readers.
    #[must_use]
    pub fn handle(&self) -> ViewHandle {
        ViewHandle(Arc::clone(&self.shared))
    }

    /// Every commit up to this one is in the engine and flushed: the log may drop what lies before the next. Always 0 in
    /// memory.
    #[must_use]
    pub fn flushed(&self) -> u64 {
        self.flushed.as_ref().map_or(0, Flushed::applied)
    }

    /// Whether more writes may be taken.
    ///
    /// # Errors
    /// [`PersistError::Full`] while the disk has no more than the reserve left; [`PersistError::Failed`] if the engine has
    /// failed for good.
    pub fn check(&self) -> Result<(), PersistError> {
        self.shared.check()
    }

    /// Brings everything published to the disk, flushed, and waits for it. Afterwards [`flushed`](Self::flushed) is at
    /// least the sequence that was published.
    ///
    /// Not to be called while a working view is out.
    ///
    /// # Errors
    /// [`PersistError`].
    pub fn persist(&self) -> Result<(), PersistError> {
        self.shared.persist()
    }

    /// Has everything published brought to the disk, flushed, without waiting for it: [`flushed`](Self::flushed) tells.
    pub fn persist_soon(&self) {
        self.shared.persist_soon();
    }

    /// Brings everything to the disk and closes the engine, so that the next start has nothing to replay.
    ///
    /// # Errors
    /// [`PersistError`]; the store is closed all the same.
    pub fn shutdown(mut self) -> Result<(), PersistError> {
        self.shared.persist()?;
        let failed = |error: engine::EngineError| PersistError::Failed(error.to_string());
        let applied = self
            .shared
            .view()
            .0
            .base
            .engine
            .as_ref()
            .map_or(0, |engine| engine.applied);
        match self.stop() {
            Some(engine) => engine.close(applied).map_err(failed),
            None => Ok(()),
        }
    }

    /// Figures for metrics and tests.
    #[must_use]
    pub fn stats(&self) -> RowStats {
        let state = self.shared.view().0;
        let base = &*state.base;
        RowStats {
            backlog_bytes: state.recent.bytes + base.bytes(),
            cache_bytes: self.shared.cache.bytes(),
            engine_applied: base.engine.as_ref().map_or(0, |engine| engine.applied),
            cuts: base.cuts.len() + base.old_cuts.len() + state.recent.cuts.len(),
        }
    }

    fn stop(&mut self) -> Option<Engine> {
        self.shared.line.lock().stop = true;
        self.shared.wake.notify_all();
        self.shared.done.notify_all();
        // A panic of the keeper has been reported by its thread.
        self.keeper.take()?.join().ok().flatten()
    }
}

impl Drop for RowStore {
    fn drop(&mut self) {
        drop(self.stop());
    }
}

impl ViewHandle {
    /// The published view.
    #[must_use]
    pub fn view(&self) -> View {
        self.0.view()
    }
}

/// What the rows are up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowStats {
    /// Rows in memory that wait for the disk or for a sweep, in bytes.
    pub backlog_bytes: usize,
    /// Decoded rows kept for reading, in bytes.
    pub cache_bytes: u64,
    /// The last commit whose rows are in the engine.
    pub engine_applied: u64,
    /// Cuts that are not swept yet.
    pub cuts: usize,
}

/// Empties a folder of rows, which must not be open: [`RowStore::open`] then begins at commit 0.
///
/// # Errors
/// If the folder can be read or emptied only in part.
pub fn wipe(dir: &FsPath) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => fs::create_dir_all(dir),
    }
}

fn spawn(
    run: impl FnOnce() -> Option<Engine> + Send + 'static,
) -> io::Result<JoinHandle<Option<Engine>>> {
    std::thread::Builder::new()
        .name("rows".to_owned())
        .spawn(run)
}

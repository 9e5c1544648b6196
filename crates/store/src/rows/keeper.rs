//! The thread that writes rows to the engine and sweeps behind cuts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cuts::Cuts;
use super::engine::{self, Batch, Engine, EngineError, EngineView};
use super::overlay::{Layer, Slot};
use super::shared::{Line, Shared};
use super::stem;
use super::sweep::Sweep;
use super::view::{Base, Frozen};

/// How often a full disk is looked at again.
const FULL_RETRY: Duration = Duration::from_millis(500);

/// The only writer of the engine, on a thread of its own.
pub(crate) struct Keeper {
    pub(crate) shared: Arc<Shared>,
    pub(crate) engine: Engine,
    pub(crate) sweep: Option<Sweep>,
    /// When to look again whether the disk has room.
    pub(crate) retry_at: Option<Instant>,
}

enum Task {
    Flush(Arc<Frozen>),
    /// All that is in the engine to its tables.
    Tables,
    Sweep,
    Stop,
}

impl Keeper {
    /// Runs until stopped; gives the engine back.
    pub(crate) fn run(mut self) -> Engine {
        let _guard = PanicGuard(Arc::clone(&self.shared));
        loop {
            let done = match self.next_task() {
                Task::Flush(frozen) => self.flush(&frozen),
                Task::Tables => self.tables(),
                Task::Sweep => self.sweep_step(),
                Task::Stop => return self.engine,
            };
            if let Err(error) = done {
                tracing::error!(
                    error,
                    "the rows cannot be written any more; a new start replays the commit log"
                );
                self.shared.fail(error.to_string());
            }
        }
    }

    fn next_task(&mut self) -> Task {
        let shared = Arc::clone(&self.shared);
        let mut line = shared.line.lock();
        loop {
            if line.stop {
                return Task::Stop;
            }
            if line.failure.is_some() {
                shared.wake.wait(&mut line);
                continue;
            }
            if let Some(retry_at) = self.retry_at {
                if Instant::now() < retry_at {
                    let _timed_out = shared.wake.wait_until(&mut line, retry_at);
                    continue;
                }
                self.retry_at = Some(retry_at + FULL_RETRY).filter(|_| !self.has_room(0));
                if self.retry_at.is_some() {
                    continue;
                }
                tracing::info!("the disk of the rows has room again");
                line.full = false;
                shared.done.notify_all();
            }
            if let Some(task) = self.due(&mut line) {
                return task;
            }
            match shared.idle_for(&line).filter(|_| !line.working) {
                Some(wait) => {
                    let _timed_out = shared.wake.wait_for(&mut line, wait);
                }
                None => shared.wake.wait(&mut line),
            }
        }
    }

    fn due(&self, line: &mut parking_lot::MutexGuard<'_, Line>) -> Option<Task> {
        let state = self.shared.view().0;
        if let Some(frozen) = &state.base.frozen {
            return Some(Task::Flush(Arc::clone(frozen)));
        }
        let applied = state
            .base
            .engine
            .as_ref()
            .map_or(0, |engine| engine.applied);
        line.hurry = line.persist_to > applied;
        if !line.hurry && line.persist_to > line.persisted {
            return Some(Task::Tables);
        }
        if self.shared.freeze_if_due(line) {
            return self.due(line);
        }
        let any_cut = !(state.base.cuts.is_empty() && state.base.old_cuts.is_empty());
        any_cut.then_some(Task::Sweep)
    }

    /// Writes a frozen layer, then shows it as a part of the engine.
    fn flush(&mut self, frozen: &Frozen) -> Result<(), EngineError> {
        let layer = &frozen.layer;
        if !self.has_room(layer.bytes as u64) {
            self.wait_for_disk();
            return Ok(());
        }
        let base = Arc::clone(&self.shared.view().0.base);
        let mut cuts = base.cuts.clone();
        cuts.extend(&layer.cuts);
        let mut old_cuts = base.old_cuts.clone();
        for (stem, seq) in layer.cuts.iter() {
            old_cuts.remove_up_to(stem, seq);
        }
        let engine = self.engine.write(batch_of(layer, &cuts), frozen.seq)?;
        for (key, slot) in &layer.rows {
            self.shared.cache.written(key, engine.generation);
            // What is dead has not been written, and will not be swept.
            if let Some(row) = &slot.row
                && !cuts.hides(key, row.written)
            {
                let row = Some(Arc::clone(row));
                self.shared
                    .cache
                    .insert(Arc::clone(key), row, engine.generation);
            }
        }
        let mut kept = base.kept.clone();
        if !cuts.is_empty() {
            keep(&mut kept, layer, &cuts);
        }
        // Only this thread takes a frozen layer away, and none is frozen while there is one.
        self.shared.rebase(|_| Base {
            frozen: None,
            cuts,
            old_cuts,
            kept,
            engine: Some(Arc::new(engine)),
        });
        Ok(())
    }

    fn tables(&mut self) -> Result<(), EngineError> {
        let applied = self
            .shared
            .view()
            .0
            .base
            .engine
            .as_ref()
            .map_or(0, |engine| engine.applied);
        self.engine.flush_tables(applied)?;
        self.shared.line.lock().persisted = applied;
        self.shared.done.notify_all();
        Ok(())
    }

    /// Whether the disk has room for these bytes, and for what the engine does with its tables by itself: once it has
    /// met a full disk it is of no use any more.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        let reserve = self.shared.settings.reserve_bytes;
        self.engine.has_room(reserve.saturating_add(bytes))
    }

    /// Notes that the disk is full; the task is tried again later.
    pub(crate) fn wait_for_disk(&mut self) {
        self.retry_at = Some(Instant::now() + FULL_RETRY);
        let mut line = self.shared.line.lock();
        if !line.full {
            tracing::warn!("the disk of the rows is full");
            line.full = true;
            self.shared.done.notify_all();
        }
    }
}

/// Lets nobody wait for a keeper that has panicked.
struct PanicGuard(Arc<Shared>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("the engine's writer has panicked".to_owned());
        }
    }
}

/// The engine's batch for a layer. Rows that the layer's own or older cuts have killed are left out: what older ones lie
/// in the engine at their keys is dead as well, and swept.
fn batch_of(layer: &Layer, cuts: &Cuts) -> Batch {
    let mut batch = Batch::default();
    let mut encoded = Vec::new();
    for (key, slot) in &layer.rows {
        match &slot.row {
            Some(row) if cuts.hides(key, row.written) => {}
            Some(row) => {
                encoded.clear();
                row.encode(&mut encoded);
                batch.put(&engine::prefixed(engine::ROWS, key), &encoded);
            }
            None => batch.remove(&engine::prefixed(engine::ROWS, key)),
        }
    }
    for (key, value) in &layer.private {
        let key = engine::prefixed(engine::PRIVATE, key);
        match value {
            Some(value) => batch.put(&key, value),
            None => batch.remove(&key),
        }
    }
    for (stem, seq) in layer.cuts.iter() {
        batch.put(&engine::prefixed(engine::CUTS, stem), &seq.to_be_bytes());
    }
    batch
}

/// Keeps in memory what is alive below cuts, so that the engine need not be searched for it among the dead.
fn keep(kept: &mut Layer, layer: &Layer, cuts: &Cuts) {
    for (key, slot) in &layer.rows {
        if cuts.outermost(key).is_none() {
            continue;
        }
        match &slot.row {
            Some(row) if !cuts.hides(key, row.written) => {
                kept.set(Arc::clone(key), Slot::clone(slot));
            }
            _ => kept.unset(key),
        }
    }
}

/// The cuts that the engine holds.
pub(crate) fn read_cuts(engine: &EngineView) -> Result<Cuts, EngineError> {
    let mut cuts = Cuts::default();
    let (_, end) = stem::below(&[]);
    for entry in engine.range(engine::CUTS, &[], &end) {
        let (key, value) = entry?;
        let seq = <[u8; 8]>::try_from(&*value).map(u64::from_be_bytes);
        cuts.insert(
            key.get(1..).unwrap_or_default(),
            seq.map_err(|_| "a cut cannot be read")?,
        );
    }
    Ok(cuts)
}

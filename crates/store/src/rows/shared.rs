//! What the committer, the keeper and the readers share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex, MutexGuard};
use sapwood_tree::Row;

use super::RowSettings;
use super::cache::RowCache;
use super::error::PersistError;
use super::view::{Base, Frozen, State, View};
use super::working::Working;

pub(crate) struct Shared {
    pub(crate) settings: RowSettings,
    pub(crate) in_memory: bool,
    pub(crate) cache: Arc<RowCache<Arc<Row>>>,
    /// The published view. Stored only under `line`'s lock.
    view: ArcSwap<State>,
    pub(crate) line: Mutex<Line>,
    /// Something to do for the keeper.
    pub(crate) wake: Condvar,
    /// The keeper has done something.
    pub(crate) done: Condvar,
}

/// The order between committer and keeper.
#[derive(Default)]
pub(crate) struct Line {
    /// A working view is out: its recent rows begin with the published ones, which must stay what they are.
    pub(crate) working: bool,
    /// When the oldest of the recent rows was published.
    pub(crate) recent_since: Option<Instant>,
    /// Freeze at the next occasion, whatever size and age.
    pub(crate) hurry: bool,
    /// Up to where someone waits for the tables; and up to where they are flushed.
    pub(crate) persist_to: u64,
    pub(crate) persisted: u64,
    pub(crate) full: bool,
    pub(crate) failure: Option<String>,
    pub(crate) stop: bool,
    /// Committers that wait for room.
    pub(crate) waiting: usize,
    pub(crate) memory_sweep: super::sweep::MemorySweep,
}

impl Shared {
    pub(crate) fn new(settings: RowSettings, base: Base, seq: u64, in_memory: bool) -> Self {
        let cache = Arc::new(RowCache::new(settings.cache_bytes));
        let state = State {
            seq,
            recent: super::overlay::Layer::default(),
            base: Arc::new(base),
            cache: Arc::clone(&cache),
        };
        Self {
            settings,
            in_memory,
            cache,
            view: ArcSwap::from_pointee(state),
            line: Mutex::default(),
            wake: Condvar::new(),
            done: Condvar::new(),
        }
    }

    pub(crate) fn view(&self) -> View {
        View(self.view.load_full())
    }

    pub(crate) fn begin(self: &Arc<Self>) -> Working {
        let mut line = self.line.lock();
        debug_assert!(!line.working, "one working view at a time");
        line.working = true;
        Working {
            shared: Arc::clone(self),
            view: self.view(),
            changed: false,
            published: false,
        }
    }

    pub(crate) fn publish(&self, working: &mut Working) {
        let mut line = self.line.lock();
        line.working = false;
        working.published = true;
        if !working.changed {
            self.wake.notify_one();
            return;
        }
        // The keeper may have put another base under the published view meanwhile.
        let base = Arc::clone(&self.view.load().base);
        Arc::make_mut(&mut working.view.0).base = base;
        self.view.store(Arc::clone(&working.view.0));
        if self.in_memory {
            if super::sweep::in_memory(self, &mut line) {
                self.wake.notify_one();
            }
            return;
        }
        if line.recent_since.is_none() {
            line.recent_since = Some(Instant::now());
            self.wake.notify_one();
        }
        self.freeze_if_due(&mut line);
    }

    /// Freezes the published rows if there are enough, if they are old enough, or someone is in a hurry.
    pub(crate) fn freeze_if_due(&self, line: &mut MutexGuard<'_, Line>) -> bool {
        let state = self.view.load();
        if line.working
            || state.base.frozen.is_some()
            || (state.recent.is_empty() && state.seq <= frozen_up_to(&state))
        {
            return false;
        }
        let old = line
            .recent_since
            .is_some_and(|since| since.elapsed() >= self.settings.freeze_after);
        if !(old || line.hurry || state.recent.bytes >= self.settings.freeze_bytes) {
            return false;
        }
        let frozen = Arc::new(Frozen {
            layer: state.recent.clone(),
            seq: state.seq,
        });
        let base = Arc::new(Base {
            frozen: Some(frozen),
            ..(*state.base).clone()
        });
        self.store(State {
            seq: state.seq,
            recent: super::overlay::Layer::default(),
            base,
            cache: Arc::clone(&self.cache),
        });
        line.recent_since = None;
        self.wake.notify_one();
        true
    }

    /// Puts another base under the published view: one that says the same.
    pub(crate) fn rebase(&self, change: impl FnOnce(&Base) -> Base) {
        let _line = self.line.lock();
        let state = self.view.load();
        self.store(State {
            seq: state.seq,
            recent: state.recent.clone(),
            base: Arc::new(change(&state.base)),
            cache: Arc::clone(&self.cache),
        });
        self.done.notify_all();
    }

    /// Publishes. The caller holds the line.
    pub(crate) fn store(&self, state: State) {
        self.view.store(Arc::new(state));
    }

    /// Waits until rows on their way to the disk, beside `ahead` bytes that are not yet, are within the bound; gives the
    /// base as it is then.
    pub(crate) fn wait_for_room(&self, ahead: usize) -> Arc<Base> {
        let mut line = self.line.lock();
        loop {
            let base = Arc::clone(&self.view.load().base);
            let on_its_way = base.bytes();
            let stuck = line.full || line.failure.is_some() || line.stop;
            if on_its_way == 0 || stuck || ahead + on_its_way <= self.settings.backlog_bytes_max {
                return base;
            }
            line.waiting += 1;
            self.done.wait(&mut line);
            line.waiting -= 1;
        }
    }

    /// Waits until everything published by now is in the engine's tables.
    pub(crate) fn persist(&self) -> Result<(), PersistError> {
        if self.in_memory {
            return Ok(());
        }
        let mut line = self.line.lock();
        let target = self.view.load().seq;
        line.persist_to = line.persist_to.max(target);
        self.wake.notify_one();
        while line.persisted < target {
            if let Some(failure) = &line.failure {
                return Err(PersistError::Failed(failure.clone()));
            }
            if line.full {
                return Err(PersistError::Full);
            }
            if line.stop {
                return Err(PersistError::Closed);
            }
            self.done.wait(&mut line);
        }
        Ok(())
    }

    /// Has the keeper do what [`persist`](Self::persist) waits for.
    pub(crate) fn persist_soon(&self) {
        if !self.in_memory {
            let mut line = self.line.lock();
            line.persist_to = line.persist_to.max(self.view.load().seq);
            self.wake.notify_one();
        }
    }

    pub(crate) fn check(&self) -> Result<(), PersistError> {
        let line = self.line.lock();
        if let Some(failure) = &line.failure {
            return Err(PersistError::Failed(failure.clone()));
        }
        if line.full {
            return Err(PersistError::Full);
        }
        Ok(())
    }

    /// Notes that the engine is of no use any more.
    pub(crate) fn fail(&self, what: String) {
        self.line.lock().failure = Some(what);
        self.done.notify_all();
    }

    /// The keeper of a store without an engine: sweeps when the committer does not.
    pub(crate) fn sweep_memory(&self) {
        let mut line = self.line.lock();
        while !line.stop {
            if line.working || !super::sweep::in_memory(self, &mut line) {
                self.wake.wait(&mut line);
            } else {
                MutexGuard::unlocked_fair(&mut line, std::thread::yield_now);
            }
        }
    }

    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.line.lock().waiting
    }

    /// How long the keeper may sleep, if nothing wakes it.
    pub(crate) fn idle_for(&self, line: &Line) -> Option<Duration> {
        let since = line.recent_since?;
        Some(self.settings.freeze_after.saturating_sub(since.elapsed()))
    }
}

/// The sequence up to which the engine has the rows, or is about to.
fn frozen_up_to(state: &State) -> u64 {
    let base = &*state.base;
    let engine = base.engine.as_ref().map_or(0, |engine| engine.applied);
    base.frozen.as_ref().map_or(engine, |frozen| frozen.seq)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use sapwood_tree::{Limits, Path, RowChanges, RowKind};
    use sapwood_value::Value;

    use super::*;

    fn changes(seq: u64) -> RowChanges {
        let path = Path::parse(&format!("/{seq}"), &Limits::default()).unwrap();
        let row = Row::new(RowKind::Record, Value::Null, seq);
        RowChanges {
            rows: vec![(path, Some(Arc::new(row)))],
            cuts: Vec::new(),
        }
    }

    #[test]
    fn a_commit_waits_for_the_disk_when_too_much_is_in_memory() {
        let settings = RowSettings {
            freeze_bytes: 1,
            backlog_bytes_max: 1_000,
            ..RowSettings::default()
        };
        // There is no keeper: what is frozen stays frozen until the test says otherwise.
        let shared = Arc::new(Shared::new(settings, Base::default(), 0, false));
        let mut working = shared.begin();
        working.apply(1, &changes(1), &[]);
        shared.publish(&mut working);
        assert!(shared.view().0.base.frozen.is_some());

        let (applied, progress) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut working = shared.begin();
                for seq in 2..100 {
                    working.apply(seq, &changes(seq), &[]);
                    applied.send(seq).unwrap();
                    if seq == 90 {
                        // Nothing is on its way to the disk any more: waiting would be for ever.
                        assert!(working.view.0.recent.bytes > 1_000);
                    }
                }
                drop(applied);
            });
            let mut last = 0;
            while shared.waiting() == 0 {
                last = progress.try_iter().last().unwrap_or(last);
                std::thread::yield_now();
            }
            last = progress.try_iter().last().unwrap_or(last);
            assert!(last < 20, "{last} commits went by");
            shared.rebase(|_| Base::default());
            assert_eq!(progress.iter().last(), Some(99));
        });
    }
}

//! Deleting the dead rows below cuts, a few at a time.

use std::ops::Bound;
use std::sync::Arc;

use super::cuts::Cuts;
use super::engine::{self, Batch, EngineError};
use super::keeper::Keeper;
use super::overlay::Layer;
use super::shared::{Line, Shared};
use super::stem::{self, Key};
use super::view::{self, Base, State};

/// Rows looked at for each that may be deleted.
const LOOKS_PER_DELETE: usize = 10;

/// A cut being swept.
pub(crate) struct Sweep {
    stem: Key,
    seq: u64,
    /// Below this key nothing is left to delete.
    from: Vec<u8>,
}

impl Sweep {
    fn new((stem, seq): (Key, u64)) -> Self {
        Self {
            from: stem::below(&stem).0,
            stem,
            seq,
        }
    }
}

impl Keeper {
    /// Deletes some dead rows from the engine. With the last of them goes the cut, in the same batch.
    ///
    /// What is deleted is hidden from every view with the cut, and views without it have snapshots of their own. A crash
    /// leaves the cut, and the sweep begins again.
    pub(crate) fn sweep_step(&mut self) -> Result<(), EngineError> {
        let base = Arc::clone(&self.shared.view().0.base);
        let Some(engine) = &base.engine else {
            return Ok(());
        };
        let Some(mut sweep) = self.current(&base) else {
            return Ok(());
        };
        if !self.has_room(0) {
            self.sweep = Some(sweep);
            self.wait_for_disk();
            return Ok(());
        }
        let mut batch = Batch::default();
        let mut dead: Vec<Key> = Vec::new();
        let deletes_max = self.shared.settings.sweep_rows;
        let mut looks = 0;
        let mut finished = true;
        for entry in engine.range(engine::ROWS, &sweep.from, &stem::past(&sweep.stem)) {
            let (key, value) = entry?;
            let bare = key.get(1..).unwrap_or_default();
            looks += 1;
            if dead.len() == deletes_max || looks > deletes_max * LOOKS_PER_DELETE {
                finished = false;
                sweep.from = bare.to_vec();
                break;
            }
            if view::decode(&value)?.written < sweep.seq {
                batch.remove(&key);
                dead.push(Arc::from(bare));
            }
        }
        if finished {
            batch.remove(&engine::prefixed(engine::CUTS, &sweep.stem));
        }
        if batch.len() > 0 {
            let engine = self.engine.write(batch, engine.applied)?;
            for key in &dead {
                self.shared.cache.written(key, engine.generation);
            }
            self.shared.rebase(|base| {
                let mut base = Base {
                    engine: Some(Arc::new(engine)),
                    ..base.clone()
                };
                if finished {
                    forget(&mut base, &sweep);
                }
                base
            });
        }
        self.sweep = (!finished).then_some(sweep);
        Ok(())
    }

    /// The sweep to go on with: the one under way, if its cut is still the newest at its place.
    fn current(&mut self, base: &Base) -> Option<Sweep> {
        let under_way = self.sweep.take().filter(|sweep| {
            base.cuts
                .at(&sweep.stem)
                .or_else(|| base.old_cuts.at(&sweep.stem))
                == Some(sweep.seq)
        });
        under_way.or_else(|| {
            base.cuts
                .first()
                .or_else(|| base.old_cuts.first())
                .map(Sweep::new)
        })
    }
}

/// Takes a swept cut out, and what was kept in memory for it alone.
fn forget(base: &mut Base, sweep: &Sweep) {
    base.cuts.remove_up_to(&sweep.stem, sweep.seq);
    base.old_cuts.remove_up_to(&sweep.stem, sweep.seq);
    if base.cuts.is_empty() {
        base.kept = Layer::default();
        return;
    }
    let (from, to) = stem::below(&sweep.stem);
    let in_range = base.kept.rows.range::<_, [u8]>(stem::half_open(&from, &to));
    let free: Vec<Key> = in_range
        .filter(|(key, _)| base.cuts.outermost(key).is_none())
        .map(|(key, _)| Arc::clone(key))
        .collect();
    for key in free {
        base.kept.unset(&key);
    }
}

/// Where the sweep of a store without an engine stands.
#[derive(Default)]
pub(crate) struct MemorySweep {
    sweep: Option<Sweep>,
}

/// Deletes some dead rows from the published view of a store without an engine. The caller holds the line, and no working
/// view is out. Gives whether more is to be done.
pub(crate) fn in_memory(shared: &Shared, line: &mut Line) -> bool {
    let state = shared.view().0;
    let Some(mut sweep) = next_in_memory(line, &state.recent.cuts) else {
        return false;
    };
    let mut recent = state.recent.clone();
    let to = stem::past(&sweep.stem);
    let mut looks = 0;
    let mut dead: Vec<Key> = Vec::new();
    let mut finished = true;
    let bounds: (Bound<&[u8]>, Bound<&[u8]>) = stem::half_open(&sweep.from, &to);
    let mut next = None;
    for (key, slot) in state.recent.rows.range::<_, [u8]>(bounds) {
        looks += 1;
        if looks > shared.settings.sweep_rows {
            finished = false;
            next = Some(key.to_vec());
            break;
        }
        if slot.row.as_ref().is_none_or(|row| row.written < sweep.seq) {
            dead.push(Arc::clone(key));
        }
    }
    for key in &dead {
        recent.unset(key);
    }
    if finished {
        recent.cuts.remove_up_to(&sweep.stem, sweep.seq);
    } else if let Some(next) = next {
        sweep.from = next;
        line.memory_sweep.sweep = Some(sweep);
    }
    let more = !recent.cuts.is_empty();
    shared.store(State {
        seq: state.seq,
        recent,
        base: Arc::clone(&state.base),
        cache: Arc::clone(&state.cache),
    });
    more
}

fn next_in_memory(line: &mut Line, cuts: &Cuts) -> Option<Sweep> {
    let under_way = line
        .memory_sweep
        .sweep
        .take()
        .filter(|sweep| cuts.at(&sweep.stem) == Some(sweep.seq));
    under_way.or_else(|| cuts.first().map(Sweep::new))
}

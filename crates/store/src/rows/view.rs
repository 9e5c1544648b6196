//! What a reader sees: the rows as of one commit.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use sapwood_tree::{Path, Row, RowChanges, Rows, RowsError, SCAN_BYTES, Skip};

use super::cache::RowCache;
use super::cuts::Cuts;
use super::engine::{self, EngineError, EngineView};
use super::merge::{EngineCursor, Found, Merge};
use super::overlay::{Layer, Peek, Slot};
use super::stem::{self, Key};

/// The rows of a database as of one commit. Never changes; cheap to clone and to send.
///
/// A view keeps what it can see, in memory and on disk: to be held for a while, not for ever.
#[derive(Clone)]
pub struct View(pub(crate) Arc<State>);

/// A view's parts, the newest first.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) seq: u64,
    /// Rows of the commits since the last freeze.
    pub(crate) recent: Layer,
    pub(crate) base: Arc<Base>,
    pub(crate) cache: Arc<RowCache<Arc<Row>>>,
}

/// What lies under the recent rows. All bases of one moment say the same, whether the frozen layer is still in memory or
/// in the engine by now.
#[derive(Clone, Default)]
pub(crate) struct Base {
    /// On its way to the engine.
    pub(crate) frozen: Option<Arc<Frozen>>,
    /// Cuts in the engine that are not swept yet. The engine is not read below them: `kept` has what is alive there.
    pub(crate) cuts: Cuts,
    pub(crate) kept: Layer,
    /// Cuts found at the start, for which nothing was kept: the engine's rows are judged one by one.
    pub(crate) old_cuts: Cuts,
    /// `None`: everything is in memory.
    pub(crate) engine: Option<Arc<EngineView>>,
}

impl Base {
    /// Memory that the keeper's work will free, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.kept.bytes + self.frozen.as_ref().map_or(0, |frozen| frozen.layer.bytes)
    }
}

pub(crate) struct Frozen {
    pub(crate) layer: Layer,
    pub(crate) seq: u64,
}

impl View {
    /// The sequence of the last commit that this view shows.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.0.seq
    }

    /// The view as of the next commit, `seq`, but for its private rows, which stay as they are here.
    #[must_use]
    pub fn after(&self, seq: u64, changes: &RowChanges) -> Self {
        let mut state = State::clone(&self.0);
        state.apply(seq, changes);
        Self(Arc::new(state))
    }

    /// The value of a private row: one that is not part of the tree.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn private(&self, key: &[u8]) -> Result<Option<Bytes>, RowsError> {
        let state = &*self.0;
        if let Some(value) = state.recent.private.get(key) {
            return Ok(value.clone());
        }
        if let Some(value) = state
            .base
            .frozen
            .as_ref()
            .and_then(|frozen| frozen.layer.private.get(key))
        {
            return Ok(value.clone());
        }
        let Some(engine) = &state.base.engine else {
            return Ok(None);
        };
        let found = engine.get(engine::PRIVATE, key).map_err(RowsError::new)?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// Private rows in key order whose keys begin with `prefix`: at most `max`, those behind `after` if it is given. Keys
    /// must not begin with 0xff.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn scan_private(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        max: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, RowsError> {
        let mut out = Vec::new();
        let state = &*self.0;
        let from = after.map_or_else(|| prefix.to_vec(), |after| [after, &[0]].concat());
        let to = end_of_prefix(prefix);
        if from >= to {
            return Ok(out);
        }
        let bounds = stem::half_open(&from, &to);
        let frozen = state.base.frozen.iter().map(|frozen| &frozen.layer.private);
        let layers = [&state.recent.private].into_iter().chain(frozen);
        let layers = layers
            .map(|map| Peek::new(map, bounds.0, bounds.1))
            .collect();
        let engine = state.base.engine.as_deref();
        let cursor = engine.map(|engine| {
            EngineCursor::new(
                engine,
                engine::PRIVATE,
                (from.clone(), to.clone()),
                Vec::new(),
            )
        });
        let mut merge = Merge::new(layers, cursor.transpose().map_err(RowsError::new)?);
        while out.len() < max
            && let Some(found) = merge.next().map_err(RowsError::new)?
        {
            match found {
                Found::Layer(key, Some(value)) => {
                    out.push((Bytes::copy_from_slice(key), value.clone()));
                }
                Found::Layer(_, None) => {}
                Found::Engine(key, value) => {
                    let key = key.get(1..).unwrap_or_default();
                    out.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(&value)));
                }
            }
        }
        Ok(out)
    }
}

impl Rows for View {
    fn row(&self, path: &Path) -> Result<Option<Arc<Row>>, RowsError> {
        self.0.find(&path.key()).map_err(RowsError::new)
    }

    fn scan(
        &self,
        under: &Path,
        after: Option<(&Path, Skip)>,
        max: usize,
    ) -> Result<Vec<(Path, Arc<Row>)>, RowsError> {
        let (first, to) = stem::below(stem::stem(&under.key()));
        let from = after.map(|(path, skip)| match skip {
            Skip::Row => stem::below(stem::stem(&path.key())).0,
            Skip::Subtree => stem::past(stem::stem(&path.key())),
        });
        self.0
            .scan(from.unwrap_or(first), to, max)
            .map_err(RowsError::new)
    }
}

impl State {
    /// Lays a commit's rows over those that are here.
    pub(crate) fn apply(&mut self, seq: u64, changes: &RowChanges) {
        debug_assert!(seq > self.seq, "commits come in order");
        self.seq = seq;
        for path in &changes.cuts {
            self.recent.cuts.insert(stem::stem(&path.key()), seq);
        }
        let in_memory = self.in_memory();
        for (path, row) in &changes.rows {
            let key = key_of(path);
            if row.is_none() && in_memory {
                self.recent.unset(&key);
            } else {
                self.recent.set(key, Slot::new(row.clone()));
            }
        }
    }

    pub(crate) fn set_private(&mut self, key: Key, value: Option<Bytes>) {
        if value.is_none() && self.in_memory() {
            self.recent.unset_private(&key);
        } else {
            self.recent.set_private(key, value);
        }
    }

    /// Nothing lies below the recent rows that a deletion would have to hide.
    fn in_memory(&self) -> bool {
        self.base.engine.is_none() && self.base.frozen.is_none()
    }

    fn find(&self, key: &[u8]) -> Result<Option<Arc<Row>>, EngineError> {
        let base = &*self.base;
        let frozen = base.frozen.as_ref().map(|frozen| &frozen.layer.rows);
        for rows in [Some(&self.recent.rows), frozen].into_iter().flatten() {
            if let Some(slot) = rows.get(key) {
                return Ok(slot.row.clone().filter(|row| self.is_alive(key, row)));
            }
        }
        let Some(engine) = base.engine.as_ref().filter(|engine| engine.applied > 0) else {
            return Ok(None);
        };
        if self.masks().any(|cuts| cuts.outermost(key).is_some()) {
            let kept = base.kept.rows.get(key).and_then(|slot| slot.row.clone());
            return Ok(kept.filter(|row| self.is_alive(key, row)));
        }
        let row = match self.cache.get(key, engine.generation) {
            Some(cached) => cached,
            None => {
                let row = engine
                    .get(engine::ROWS, key)?
                    .map(|bytes| decode(&bytes))
                    .transpose()?;
                self.cache
                    .insert(Arc::from(key), row.clone(), engine.generation);
                row
            }
        };
        Ok(row.filter(|row| self.is_alive(key, row)))
    }

    /// Rows from one key (inclusive) to another (exclusive).
    fn scan(
        &self,
        mut from: Vec<u8>,
        to: Vec<u8>,
        max: usize,
    ) -> Result<Vec<(Path, Arc<Row>)>, EngineError> {
        let (mut out, mut bytes) = (Vec::new(), 0);
        while from < to && out.len() < max && bytes < SCAN_BYTES {
            let end = self.near_end(&from, &to, max);
            let end = end.unwrap_or_else(|| to.clone());
            bytes += self.scan_to(from, end.clone(), max, &mut out)?;
            from = end;
        }
        Ok(out)
    }

    /// How far the engine is worth looking at for the next `max` rows, if that is not all the way: so many rows are at hand
    /// before that. The engine steps over each row that was removed and not yet forgotten, up to the next that is there; where
    /// a large table went and came again, that was all of the old one for every look at the new one.
    fn near_end(&self, from: &[u8], to: &[u8], max: usize) -> Option<Vec<u8>> {
        const ROWS: std::ops::RangeInclusive<usize> = 16..=1024;
        self.base.engine.as_ref()?;
        let frozen = self.base.frozen.iter().map(|frozen| &frozen.layer.rows);
        let layers = [&self.recent.rows].into_iter().chain(frozen);
        let ends = layers.filter_map(|rows| {
            let mut rows = rows.range::<_, [u8]>(stem::half_open(from, to));
            rows.nth(max.clamp(*ROWS.start(), *ROWS.end()))
                .map(|(key, _)| key.to_vec())
        });
        ends.min()
    }

    /// Gives the bytes that were added.
    fn scan_to(
        &self,
        from: Vec<u8>,
        to: Vec<u8>,
        max: usize,
        out: &mut Vec<(Path, Arc<Row>)>,
    ) -> Result<usize, EngineError> {
        let mut merge = self.merge(from, to)?;
        let mut bytes = 0;
        while out.len() < max
            && bytes < SCAN_BYTES
            && let Some(found) = merge.next()?
        {
            let (path, row) = match found {
                Found::Layer(key, slot) => match &slot.row {
                    Some(row) if self.is_alive(key, row) => (path_of(key)?, Arc::clone(row)),
                    _ => continue,
                },
                Found::Engine(key, bytes) => {
                    let key = key.get(1..).unwrap_or_default();
                    let row = self.decode_cached(key, &bytes)?;
                    if !self.is_alive(key, &row) {
                        continue;
                    }
                    (path_of(key)?, row)
                }
            };
            bytes += row.scan_bytes();
            out.push((path, row));
        }
        Ok(bytes)
    }

    fn merge(
        &self,
        from: Vec<u8>,
        to: Vec<u8>,
    ) -> Result<Merge<'_, super::overlay::Slot>, EngineError> {
        let base = &*self.base;
        let (low, high) = (Bound::Included(&*from), Bound::Excluded(&*to));
        let frozen = base.frozen.iter().map(|frozen| &frozen.layer.rows);
        let kept = (!base.kept.rows.is_empty()).then_some(&base.kept.rows);
        let layers = [&self.recent.rows].into_iter().chain(frozen).chain(kept);
        let layers = layers.map(|rows| Peek::new(rows, low, high)).collect();
        let masks: Vec<&Cuts> = self.masks().collect();
        let cursor = match &base.engine {
            Some(engine) => Some(EngineCursor::new(engine, engine::ROWS, (from, to), masks)?),
            None => None,
        };
        Ok(Merge::new(layers, cursor))
    }

    fn decode_cached(&self, key: &[u8], bytes: &[u8]) -> Result<Arc<Row>, EngineError> {
        let generation = self
            .base
            .engine
            .as_ref()
            .map_or(0, |engine| engine.generation);
        if let Some(Some(row)) = self.cache.get(key, generation) {
            return Ok(row);
        }
        let row = decode(bytes)?;
        self.cache
            .insert(Arc::from(key), Some(Arc::clone(&row)), generation);
        Ok(row)
    }

    fn is_alive(&self, key: &[u8], row: &Row) -> bool {
        let base = &*self.base;
        let frozen = base.frozen.as_ref().map(|frozen| &frozen.layer.cuts);
        let all = [
            Some(&self.recent.cuts),
            frozen,
            Some(&base.cuts),
            Some(&base.old_cuts),
        ];
        !all.into_iter()
            .flatten()
            .any(|cuts| cuts.hides(key, row.written))
    }

    /// The cuts below which nothing in the engine is alive that is not also kept in memory.
    fn masks(&self) -> impl Iterator<Item = &Cuts> {
        let base = &*self.base;
        let frozen = base.frozen.as_ref().map(|frozen| &frozen.layer.cuts);
        [Some(&self.recent.cuts), frozen, Some(&base.cuts)]
            .into_iter()
            .flatten()
            .filter(|cuts| !cuts.is_empty())
    }
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Arc<Row>, EngineError> {
    Ok(Arc::new(Row::decode(bytes)?))
}

fn path_of(key: &[u8]) -> Result<Path, EngineError> {
    Path::from_key(key).ok_or_else(|| "a row's key is damaged".into())
}

/// The first key behind all that begin with `prefix`. No key begins with 0xff.
fn end_of_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0xff]
}

/// A key for a map.
pub(crate) fn key_of(path: &Path) -> Key {
    Arc::from(&*path.key())
}

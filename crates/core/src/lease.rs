//! What goes when somebody or some time does: owners, times to live, and what a session leaves to be done at its end.
//!
//! All three are private rows beside the tree, changed by the same commit as the write that they belong to:
//!
//! | key | holds |
//! |---|---|
//! | `L` path | the lease on a path: its owner, its expiry |
//! | `O` session path | nothing: the leases of one session, to find them at its end |
//! | `E` expiry path | nothing: the leases in the order in which they expire |
//! | `S` session number | one thing to be done at the session's end |
//! | `T` time session | nothing: the sessions that end at a time, in its order |
//! | `U` session | that time, of a session whose client is gone already |
//! | `Mdeclared` | the declared resources of the last start |
//! | others | [durable sessions](crate::durable) |
//!
//! `O` and `E` rows are hints: what counts is the `L` row, which a later write replaces. So a write need not look for the
//! hints that it makes stale.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use sapwood_store::rows::View;
use sapwood_tree::{Op, OpKind, Path, RowsError};

use crate::commit::Commit;
use crate::durable::{self, DurableChange, DurableId, Kept};
use crate::session::SessionId;

/// A change that a commit makes beside the tree; part of its entry in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The path that operation `op` wrote has an owner, or an expiry.
    Lease {
        op: usize,
        owner: Option<SessionId>,
        expires_ms: Option<u64>,
    },
    /// Something to be done at a session's end: the encoded thing.
    AtEnd {
        session: SessionId,
        number: u32,
        what: Bytes,
    },
    /// The session ends then, though nobody is there to end it.
    EndsAt { session: SessionId, at_ms: u64 },
    /// What the session left to be done at its end is not done.
    Forgotten { session: SessionId },
    /// The session has ended: what it left to be done is part of this commit.
    Ended { session: SessionId },
    /// The hints of expiries up to this time have been seen to.
    Expired { until_ms: u64 },
    /// These are the declared resources from now on, a line each.
    Declared { patterns: String },
    /// Something is kept for durable sessions.
    Keep(Kept),
    /// What was kept is needed by nobody any more.
    Unkept { numbers: Vec<u64> },
    /// Something changes in a durable session.
    Durable {
        id: DurableId,
        change: DurableChange,
    },
}

/// A lease, as its `L` row says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) owner: Option<SessionId>,
    pub(crate) expires_ms: Option<u64>,
}

/// Where the declared resources of the last start are kept.
pub(crate) const DECLARED_KEY: &[u8] = b"Mdeclared";

/// How many private rows are read at a time.
const SCAN_ROWS: usize = 256;

/// The private rows that a commit changes, read through its own changes.
pub(crate) struct PrivateDraft<'a> {
    view: &'a View,
    changes: BTreeMap<Bytes, Option<Bytes>>,
}

impl<'a> PrivateDraft<'a> {
    pub(crate) fn new(view: &'a View) -> Self {
        Self {
            view,
            changes: BTreeMap::new(),
        }
    }

    /// Applies a commit: its writes drop the leases on what they replace, then its effects make new ones.
    pub(crate) fn apply(&mut self, commit: &Commit, any_leases: bool) -> Result<(), RowsError> {
        if any_leases {
            for op in &commit.ops {
                self.drop_leases(op)?;
            }
        }
        let mut effects = commit.effects.iter();
        effects.try_for_each(|effect| self.apply_effect(commit, effect))
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowsError> {
        match self.changes.get(key) {
            Some(changed) => Ok(changed.clone()),
            None => self.view.private(key),
        }
    }

    pub(crate) fn set(&mut self, key: Vec<u8>, row: Bytes) {
        self.changes.insert(key.into(), Some(row));
    }

    pub(crate) fn unset(&mut self, key: Vec<u8>) {
        self.changes.insert(key.into(), None);
    }

    /// All rows with a prefix, as the commit leaves them so far.
    pub(crate) fn all(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, RowsError> {
        let mut rows: BTreeMap<Bytes, Bytes> = all(self.view, prefix)?.into_iter().collect();
        let changed = self.changes.range(Bytes::copy_from_slice(prefix)..);
        for (key, row) in changed.take_while(|(key, _)| key.starts_with(prefix)) {
            match row {
                Some(row) => rows.insert(key.clone(), row.clone()),
                None => rows.remove(key),
            };
        }
        Ok(rows.into_iter().collect())
    }

    pub(crate) fn into_changes(self) -> Vec<(Bytes, Option<Bytes>)> {
        self.changes.into_iter().collect()
    }

    fn apply_effect(&mut self, commit: &Commit, effect: &Effect) -> Result<(), RowsError> {
        let ops = &commit.ops;
        match effect {
            Effect::Lease {
                op,
                owner,
                expires_ms,
            } => {
                if let Some(op) = ops.get(*op) {
                    self.make_lease(
                        &op.path,
                        Lease {
                            owner: *owner,
                            expires_ms: *expires_ms,
                        },
                    );
                }
                Ok(())
            }
            Effect::AtEnd {
                session,
                number,
                what,
            } => {
                self.changes
                    .insert(at_end_key(*session, *number), Some(what.clone()));
                Ok(())
            }
            Effect::EndsAt { session, at_ms } => {
                self.drop_end(*session)?;
                let at = Bytes::copy_from_slice(&at_ms.to_be_bytes());
                self.set(session_prefix(b'U', *session), at);
                self.set(end_key(*at_ms, *session), Bytes::new());
                Ok(())
            }
            Effect::Forgotten { session } => {
                self.drop_end(*session)?;
                self.drop_all(&session_prefix(b'S', *session), None)
            }
            Effect::Ended { session } => {
                self.drop_end(*session)?;
                self.drop_all(&session_prefix(b'S', *session), None)?;
                self.drop_all(&session_prefix(b'O', *session), None)
            }
            Effect::Expired { until_ms } => {
                self.drop_all(b"E", Some(&expiry_prefix(until_ms.saturating_add(1))))
            }
            Effect::Declared { patterns } => {
                self.changes.insert(
                    Bytes::from_static(DECLARED_KEY),
                    Some(Bytes::copy_from_slice(patterns.as_bytes())),
                );
                Ok(())
            }
            Effect::Keep(kept) => {
                durable::keep(self, commit, kept);
                Ok(())
            }
            Effect::Unkept { numbers } => {
                durable::forget(self, numbers);
                Ok(())
            }
            Effect::Durable { id, change } => durable::apply(self, commit.seq, *id, change),
        }
    }

    /// Whatever time it was to end at.
    fn drop_end(&mut self, session: SessionId) -> Result<(), RowsError> {
        let key = session_prefix(b'U', session);
        if let Some(at) = self.get(&key)?.and_then(|row| number(&row)) {
            self.unset(key);
            self.unset(end_key(at, session));
        }
        Ok(())
    }

    fn make_lease(&mut self, path: &Path, lease: Lease) {
        self.changes
            .insert(lease_key(path), Some(encode_lease(lease)));
        if let Some(owner) = lease.owner {
            self.changes.insert(
                with_path(session_prefix(b'O', owner), path),
                Some(Bytes::new()),
            );
        }
        if let Some(expires_ms) = lease.expires_ms {
            self.changes.insert(
                with_path(expiry_prefix(expires_ms), path),
                Some(Bytes::new()),
            );
        }
    }

    /// Drops the leases that a write replaces: its own path's, and those of everything it puts away below.
    fn drop_leases(&mut self, op: &Op) -> Result<(), RowsError> {
        match &op.kind {
            OpKind::Put { .. } | OpKind::Delete => {
                self.changes.insert(lease_key(&op.path), None);
                self.drop_all(&below_prefix(&op.path), None)
            }
            OpKind::Merge { entries, .. } => {
                self.changes.insert(lease_key(&op.path), None);
                for child in entries.iter().map(|(key, _)| op.path.child_unchecked(key)) {
                    self.changes.insert(lease_key(&child), None);
                    self.drop_all(&below_prefix(&child), None)?;
                }
                Ok(())
            }
            OpKind::PutRecord { .. } | OpKind::DeleteRecord => {
                self.changes.insert(lease_key(&op.path), None);
                Ok(())
            }
            OpKind::Mark => Ok(()),
        }
    }

    /// Drops all rows with a prefix, up to a key if one is given.
    pub(crate) fn drop_all(
        &mut self,
        prefix: &[u8],
        until: Option<&[u8]>,
    ) -> Result<(), RowsError> {
        self.changes
            .range(Bytes::copy_from_slice(prefix)..)
            .map(|(key, _)| key.clone())
            .take_while(|key| {
                key.starts_with(prefix) && until.is_none_or(|until| key.as_ref() < until)
            })
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|key| {
                self.changes.insert(key, None);
            });
        let mut after: Option<Bytes> = None;
        loop {
            let rows = self
                .view
                .scan_private(prefix, after.as_deref(), SCAN_ROWS)?;
            let full = rows.len() == SCAN_ROWS;
            for (key, _) in rows {
                if until.is_some_and(|until| key.as_ref() >= until) {
                    return Ok(());
                }
                after = Some(key.clone());
                self.changes.insert(key, None);
            }
            if !full {
                return Ok(());
            }
        }
    }
}

/// The paths that a session still owns.
pub(crate) fn owned_by(view: &View, session: SessionId) -> Result<Vec<Path>, RowsError> {
    let prefix = session_prefix(b'O', session);
    let hints = all_paths(view, &prefix, prefix.len(), None)?;
    still(view, hints, |lease| lease.owner == Some(session))
}

/// The paths whose time has come.
pub(crate) fn expired_at(view: &View, now_ms: u64) -> Result<Vec<Path>, RowsError> {
    let until = expiry_prefix(now_ms.saturating_add(1));
    let hints = all_paths(view, b"E", 9, Some(&until))?;
    still(view, hints, |lease| {
        lease
            .expires_ms
            .is_some_and(|expires_ms| expires_ms <= now_ms)
    })
}

/// When the next lease may expire.
pub(crate) fn next_expiry(view: &View) -> Result<Option<u64>, RowsError> {
    let first = view.scan_private(b"E", None, 1)?;
    Ok(first
        .first()
        .and_then(|(key, _)| key.get(1..9))
        .and_then(|bytes| bytes.try_into().ok())
        .map(u64::from_be_bytes))
}

/// What a session left to be done at its end, in order.
pub(crate) fn left_by(view: &View, session: SessionId) -> Result<Vec<Bytes>, RowsError> {
    let prefix = session_prefix(b'S', session);
    Ok(all(view, &prefix)?
        .into_iter()
        .map(|(_, what)| what)
        .collect())
}

/// The sessions whose time to end has come.
pub(crate) fn ending(view: &View, now_ms: u64) -> Result<Vec<SessionId>, RowsError> {
    let rows = view.scan_private(b"T", None, SCAN_ROWS)?;
    let ends = rows.iter().filter_map(|(key, _)| {
        let at_ms = number(key.get(1..9)?)?;
        Some((at_ms, SessionId(number(key.get(9..)?)?)))
    });
    let due = ends.take_while(|(at_ms, _)| *at_ms <= now_ms);
    Ok(due.map(|(_, session)| session).collect())
}

/// When the next session ends that nobody ends.
pub(crate) fn next_ending(view: &View) -> Result<Option<u64>, RowsError> {
    let first = view.scan_private(b"T", None, 1)?;
    Ok(first.first().and_then(|(key, _)| number(key.get(1..9)?)))
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

fn end_key(at_ms: u64, session: SessionId) -> Vec<u8> {
    let mut key = vec![b'T'];
    key.extend_from_slice(&at_ms.to_be_bytes());
    key.extend_from_slice(&session.0.to_be_bytes());
    key
}

/// All sessions that left or own something: after a crash, those that were connected when the server died. Those that end
/// at a time of their own are not among them.
pub(crate) fn sessions(view: &View) -> Result<Vec<SessionId>, RowsError> {
    let mut found = Vec::new();
    for (key, _) in all(view, b"O")?.into_iter().chain(all(view, b"S")?) {
        if let Some(session) = key
            .get(1..9)
            .and_then(|bytes| bytes.try_into().ok())
            .map(|bytes| SessionId(u64::from_be_bytes(bytes)))
            && !found.contains(&session)
            && view.private(&session_prefix(b'U', session))?.is_none()
        {
            found.push(session);
        }
    }
    Ok(found)
}

/// When the records of a first state go by themselves. They are asked for in the order of their paths, so that leases are
/// read along with them: where there is none, nothing is read but that.
#[derive(Debug)]
pub(crate) struct Expiries {
    /// Leases read ahead, of paths that may still be asked for.
    ahead: VecDeque<(Bytes, Option<u64>)>,
    /// Whether there are leases behind them.
    more: bool,
    /// The newest that was asked for.
    asked: Bytes,
}

impl Expiries {
    /// How many leases are read at a time.
    const AHEAD: usize = 32;

    pub(crate) fn new() -> Self {
        Self {
            ahead: VecDeque::new(),
            more: true,
            asked: Bytes::new(),
        }
    }

    pub(crate) fn of(&mut self, view: &View, path: &Path) -> Result<Option<u64>, RowsError> {
        if !self.more && self.ahead.is_empty() {
            return Ok(None);
        }
        let key = lease_key(path);
        if key < self.asked {
            let row = view.private(&key)?;
            return Ok(row.and_then(|row| decode_lease(&row)?.expires_ms));
        }
        self.asked.clone_from(&key);
        while self.ahead.front().is_some_and(|(ahead, _)| *ahead < key) {
            self.ahead.pop_front();
        }
        if self.ahead.is_empty() && self.more {
            self.read(view, &key)?;
        }
        let first = self.ahead.front().filter(|(ahead, _)| *ahead == key);
        Ok(first.and_then(|(_, expires_ms)| *expires_ms))
    }

    /// Reads leases from a key on.
    fn read(&mut self, view: &View, key: &Bytes) -> Result<(), RowsError> {
        // A path's key ends with a zero: behind the key without it, that key is the first.
        let before = key.get(..key.len().saturating_sub(1));
        let rows = view.scan_private(b"L", before, Self::AHEAD)?;
        self.more = rows.len() == Self::AHEAD;
        let rows = rows.into_iter();
        self.ahead = rows
            .map(|(key, row)| (key, decode_lease(&row).and_then(|lease| lease.expires_ms)))
            .collect();
        Ok(())
    }
}

/// Whether there is any lease at all: where there is none, no write needs to look.
pub(crate) fn any(view: &View) -> Result<bool, RowsError> {
    Ok(!view.scan_private(b"L", None, 1)?.is_empty())
}

pub(crate) fn all(view: &View, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, RowsError> {
    let mut found: Vec<(Bytes, Bytes)> = Vec::new();
    loop {
        let rows =
            view.scan_private(prefix, found.last().map(|(key, _)| key.as_ref()), SCAN_ROWS)?;
        let full = rows.len() == SCAN_ROWS;
        found.extend(rows);
        if !full {
            return Ok(found);
        }
    }
}

fn all_paths(
    view: &View,
    prefix: &[u8],
    path_at: usize,
    until: Option<&[u8]>,
) -> Result<Vec<Path>, RowsError> {
    let rows = all(view, prefix)?;
    let due = rows
        .iter()
        .take_while(|(key, _)| until.is_none_or(|until| key.as_ref() < until));
    Ok(due
        .filter_map(|(key, _)| Path::from_key(key.get(path_at..)?))
        .collect())
}

/// Of the paths that hints name, those whose lease still says so.
fn still(
    view: &View,
    hints: Vec<Path>,
    says: impl Fn(Lease) -> bool,
) -> Result<Vec<Path>, RowsError> {
    let mut paths = Vec::new();
    for path in hints {
        if view
            .private(&lease_key(&path))?
            .and_then(|row| decode_lease(&row))
            .is_some_and(&says)
            && !paths.contains(&path)
        {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn lease_key(path: &Path) -> Bytes {
    with_path(vec![b'L'], path)
}

/// What the keys of all leases strictly below a path begin with. (A row's key is its path's prefix and a zero; a
/// segment's first byte is never zero, so the path's own lease is not among them, but for the zero.)
fn below_prefix(path: &Path) -> Vec<u8> {
    let mut key = vec![b'L'];
    key.extend_from_slice(&path.key());
    key.pop();
    key
}

fn with_path(mut prefix: Vec<u8>, path: &Path) -> Bytes {
    prefix.extend_from_slice(&path.key());
    prefix.into()
}

fn session_prefix(kind: u8, session: SessionId) -> Vec<u8> {
    let mut prefix = vec![kind];
    prefix.extend_from_slice(&session.0.to_be_bytes());
    prefix
}

fn at_end_key(session: SessionId, number: u32) -> Bytes {
    let mut key = session_prefix(b'S', session);
    key.extend_from_slice(&number.to_be_bytes());
    key.into()
}

fn expiry_prefix(expires_ms: u64) -> Vec<u8> {
    let mut prefix = vec![b'E'];
    prefix.extend_from_slice(&expires_ms.to_be_bytes());
    prefix
}

/// Two numbers of eight bytes, big-endian; zero is none.
fn encode_lease(lease: Lease) -> Bytes {
    let owner = lease.owner.map_or(0, |session| session.0).to_be_bytes();
    let expires = lease.expires_ms.unwrap_or(0).to_be_bytes();
    [owner, expires].concat().into()
}

fn decode_lease(row: &[u8]) -> Option<Lease> {
    let owner = u64::from_be_bytes(row.get(..8)?.try_into().ok()?);
    let expires_ms = u64::from_be_bytes(row.get(8..16)?.try_into().ok()?);
    Some(Lease {
        owner: (owner != 0).then_some(SessionId(owner)),
        expires_ms: (expires_ms != 0).then_some(expires_ms),
    })
}

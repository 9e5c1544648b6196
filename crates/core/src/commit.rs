//! A write that was accepted: how it is decided, and how it stands in the commit log.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use sapwood_store::rows::View;
use sapwood_tree::{Draft, Op, OpKind, Path, RowChanges, Rows as _, RowsError, Settings};
use sapwood_value::{ServerValue, Text, Value};

use crate::durable::{DurableChange, DurableId, Durables, Kept};
use crate::gate::{Claims, Gate, Operation};
use crate::lease::{Effect, PrivateDraft};
use crate::read::Reading;
use crate::session::SessionId;
use crate::write::{Condition, OpOutcome, TagList, Write, WriteError, WriteOp};
use crate::{LogId, codec, durable};

/// A commit: a write's effects, with nothing left to decide. Applying it gives the same rows every time.
#[derive(Debug)]
pub struct Commit {
    /// Its place in the order of its database.
    pub seq: u64,
    /// When it was decided, in milliseconds since 1970.
    pub at_ms: u64,
    /// The session that asked for it; not kept in the log.
    pub origin: Option<SessionId>,
    /// What it does to the tree, in order.
    pub ops: Vec<Op>,
    pub(crate) effects: Vec<Effect>,
    /// About how many bytes it takes.
    pub(crate) weight: usize,
}

impl Commit {
    /// Whether all that it does is to remove what has expired.
    pub(crate) fn is_expiry(&self) -> bool {
        let mut effects = self.effects.iter();
        effects.any(|effect| matches!(effect, Effect::Expired { .. }))
    }

    /// When the records that it writes go by themselves.
    pub(crate) fn expiries(&self) -> HashMap<&Path, u64> {
        let leased = self.effects.iter().filter_map(|effect| match effect {
            Effect::Lease {
                op,
                expires_ms: Some(expires_ms),
                ..
            } => Some((&self.ops.get(*op)?.path, *expires_ms)),
            _ => None,
        });
        leased.collect()
    }

    /// The numbers under which what it says to topics is kept for durable sessions.
    pub(crate) fn kept_numbers(&self) -> HashMap<Path, u64> {
        let kept = self.effects.iter().filter_map(|effect| match effect {
            Effect::Keep(kept) if !kept.is_message() => {
                Some((kept.path(self)?, durable::number(self.seq, kept.part)))
            }
            _ => None,
        });
        kept.collect()
    }
}

/// A commit with the rows that it changes.
pub(crate) struct Decided {
    pub(crate) commit: Arc<Commit>,
    pub(crate) entry: Bytes,
    pub(crate) changes: RowChanges,
    pub(crate) private: PrivateChanges,
    pub(crate) outcomes: Vec<OpOutcome>,
}

/// What deciding needs to know beside the tree.
pub(crate) struct Context<'a> {
    pub(crate) log: &'a LogId,
    pub(crate) gate: &'a Gate,
    pub(crate) tree: &'a Settings,
    pub(crate) seq: u64,
    pub(crate) now_ms: u64,
    /// Whether any lease exists: where there is none, no write looks for one.
    pub(crate) any_leases: bool,
    /// Who is told durably.
    pub(crate) durables: &'a Durables,
    /// The durable session that asks.
    pub(crate) durable: Option<DurableId>,
}

/// Decides one write on the tree as it is in `view`: conditions first, then the gate, then server values, then the rows.
pub(crate) fn decide(
    context: &Context<'_>,
    view: &View,
    claims: &Claims,
    session: Option<SessionId>,
    write: Write,
    mut effects: Vec<Effect>,
) -> Result<Decided, WriteError> {
    check_conditions(context.log, view, &write.conditions)?;
    check_durable(view, &effects)?;
    for op in &write.ops {
        context
            .gate
            .check(claims, Operation::Write(&op.path))
            .map_err(|_| WriteError::Denied {
                path: op.path.clone(),
            })?;
    }
    let mut ops = Vec::with_capacity(write.ops.len());
    for (index, op) in write.ops.into_iter().enumerate() {
        lease_of(&op, index, session, context.now_ms)?
            .into_iter()
            .for_each(|effect| effects.push(effect));
        ops.push(resolve(context, view, op, index)?);
    }
    let mut commit = Commit {
        seq: context.seq,
        at_ms: context.now_ms,
        origin: session,
        ops,
        effects,
        weight: 0,
    };
    let (mut changes, mut outcomes) = apply_to_tree(context.tree, view, &commit)?;
    let written = outcomes.len();
    let gone = uncovering(view, &commit.ops, &changes).map_err(|error| unavailable(&error))?;
    if !gone.is_empty() {
        commit.ops.extend(gone);
        (changes, outcomes) = apply_to_tree(context.tree, view, &commit)?;
        outcomes.truncate(written);
    }
    keep(context, view, &mut commit, &changes)?;
    let private = apply_beside(view, &commit, context.any_leases)?;
    let entry = codec::encode(&commit);
    commit.weight = 128 + entry.len().max(commit.ops.iter().map(heap_bytes).sum());
    Ok(Decided {
        commit: Arc::new(commit),
        entry,
        changes,
        private,
        outcomes,
    })
}

/// Has the commit keep what it says to durable sessions. What just expires says nothing to them.
fn keep(
    context: &Context<'_>,
    view: &View,
    commit: &mut Commit,
    changes: &RowChanges,
) -> Result<(), WriteError> {
    if commit.ops.is_empty() || !context.durables.any() || commit.is_expiry() {
        return Ok(());
    }
    let after = view.after(commit.seq, changes);
    let ops = &commit.ops;
    let kept = context
        .durables
        .to_keep(view, &after, ops, context.durable)
        .map_err(|error| unavailable(&error))?;
    let is_kept = |effect: &&Effect| matches!(effect, Effect::Keep(_));
    let before = commit.effects.iter().filter(is_kept).count();
    if before + kept.len() > durable::PARTS_MAX {
        return Err(WriteError::TooLarge {
            index: 0,
            message: format!(
                "it changes {} topics that durable sessions are told; a write may change {}",
                kept.len(),
                durable::PARTS_MAX
            ),
        });
    }
    for (kept, part) in kept
        .into_iter()
        .zip(u32::try_from(before).unwrap_or(u32::MAX)..)
    {
        commit.effects.push(Effect::Keep(Kept { part, ..kept }));
    }
    Ok(())
}

/// What an operation keeps in memory: a long list of small numbers is much larger there than in the log.
fn heap_bytes(op: &Op) -> usize {
    match &op.kind {
        OpKind::Put { value, .. } => value.heap_bytes(),
        OpKind::PutRecord { document, .. } => document.heap_bytes(),
        OpKind::Merge { entries, .. } => entries.iter().fold(0, |sum, (_, value)| {
            sum + size_of::<(Text, Option<Value>)>() + value.as_ref().map_or(0, Value::heap_bytes)
        }),
        OpKind::Delete | OpKind::DeleteRecord | OpKind::Mark => 0,
    }
}

/// The ends of the records that a write from inside leaves empty, where a document further up has something of its own at
/// that place: it shows again. They are put in words, so that whoever is told of the commit learns of it, now and later.
fn uncovering(view: &View, ops: &[Op], changes: &RowChanges) -> Result<Vec<Op>, RowsError> {
    let mut gone: Vec<Op> = Vec::new();
    for (path, row) in &changes.rows {
        let from_inside = |op: &Op| match op.kind {
            OpKind::Merge { .. } => op.path.starts_with(path),
            OpKind::Put { .. } | OpKind::Delete => op.path.starts_with(path) && op.path != *path,
            OpKind::PutRecord { .. } | OpKind::DeleteRecord | OpKind::Mark => false,
        };
        let stays = row.as_ref().is_some_and(|row| row.is_record());
        if stays || !ops.iter().any(from_inside) {
            continue;
        }
        let was_record = view.row(path)?.is_some_and(|row| row.is_record());
        let above = path
            .parent()
            .map(|above| sapwood_tree::record_of(view, &above));
        if was_record && above.transpose()?.flatten().is_some() {
            gone.push(Op {
                path: path.clone(),
                kind: OpKind::DeleteRecord,
            });
        }
    }
    Ok(gone)
}

/// Private rows to write, or to remove.
pub(crate) type PrivateChanges = Vec<(Bytes, Option<Bytes>)>;

/// The rows that a commit changes: what deciding does at first, and replaying does again.
pub(crate) fn apply(
    tree: &Settings,
    view: &View,
    commit: &Commit,
    any_leases: bool,
) -> Result<(RowChanges, PrivateChanges, Vec<OpOutcome>), WriteError> {
    let (changes, outcomes) = apply_to_tree(tree, view, commit)?;
    let private = apply_beside(view, commit, any_leases)?;
    Ok((changes, private, outcomes))
}

fn apply_to_tree(
    tree: &Settings,
    view: &View,
    commit: &Commit,
) -> Result<(RowChanges, Vec<OpOutcome>), WriteError> {
    let mut draft = Draft::new(view, commit.seq, tree);
    let mut outcomes = Vec::with_capacity(commit.ops.len());
    for (index, op) in commit.ops.iter().enumerate() {
        let applied = draft.apply(op).map_err(|error| invalid(index, &error))?;
        outcomes.push(OpOutcome {
            existed: applied.existed,
        });
    }
    let changes = draft.finish().map_err(|error| unavailable(&error))?;
    Ok((changes, outcomes))
}

fn apply_beside(
    view: &View,
    commit: &Commit,
    any_leases: bool,
) -> Result<PrivateChanges, WriteError> {
    let mut private = PrivateDraft::new(view);
    let applied = private.apply(commit, any_leases);
    applied.map_err(|error| unavailable(&error))?;
    Ok(private.into_changes())
}

/// That a durable session that somebody comes back to is still there: its time may have been over meanwhile.
fn check_durable(view: &View, effects: &[Effect]) -> Result<(), WriteError> {
    for effect in effects {
        if let Effect::Durable {
            id,
            change: DurableChange::Back { .. },
        } = effect
            && !durable::exists(view, *id).map_err(|error| unavailable(&error))?
        {
            return Err(WriteError::NoSession);
        }
    }
    Ok(())
}

fn check_conditions(
    log: &LogId,
    view: &View,
    conditions: &[(Path, Condition)],
) -> Result<(), WriteError> {
    // Many conditions of one write tend to name one path.
    let mut readings: HashMap<&Path, Reading> = HashMap::new();
    for (index, (path, condition)) in conditions.iter().enumerate() {
        let reading = readings
            .entry(path)
            .or_insert_with(|| Reading::new(path.clone(), view.clone(), *log));
        if !holds(log, reading, condition).map_err(|error| unavailable(&error))? {
            return Err(WriteError::Conflict {
                path: path.clone(),
                index,
            });
        }
    }
    Ok(())
}

fn holds(log: &LogId, reading: &Reading, condition: &Condition) -> Result<bool, RowsError> {
    Ok(match condition {
        Condition::Exists(wanted) => reading.exists()? == *wanted,
        Condition::Version(version) => {
            version.log == *log
                && version.part.is_none()
                && reading.record_version()? == Some(version.seq)
        }
        Condition::Match(TagList::Any) => reading.exists()?,
        Condition::NoneMatch(TagList::Any) => !reading.exists()?,
        Condition::Match(TagList::Tags(tags)) => {
            reading.tag()?.is_some_and(|tag| tags.contains(&tag))
        }
        Condition::NoneMatch(TagList::Tags(tags)) => {
            !reading.tag()?.is_some_and(|tag| tags.contains(&tag))
        }
    })
}

fn lease_of(
    op: &WriteOp,
    index: usize,
    session: Option<SessionId>,
    now_ms: u64,
) -> Result<Option<Effect>, WriteError> {
    let owner = match (op.owner, session) {
        (true, None) => return Err(WriteError::NoSession),
        (true, session) => session,
        (false, _) => None,
    };
    let expires_ms = op
        .ttl
        .map(|ttl| now_ms.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)));
    let leased = owner.is_some() || expires_ms.is_some();
    Ok(leased.then_some(Effect::Lease {
        op: index,
        owner,
        expires_ms,
    }))
}

/// Fills in what only the server knows: the time, and sums.
fn resolve(
    context: &Context<'_>,
    view: &View,
    op: WriteOp,
    index: usize,
) -> Result<Op, WriteError> {
    let WriteOp {
        path,
        mut kind,
        server_values,
        ..
    } = op;
    for (place, server_value) in server_values {
        let value = match server_value {
            ServerValue::Timestamp => Value::Int(i64::try_from(context.now_ms).unwrap_or(i64::MAX)),
            ServerValue::Increment(by) => {
                let target = place
                    .iter()
                    .try_fold(path.clone(), |at, key| at.child(key, &context.tree.limits))
                    .map_err(|error| WriteError::Invalid {
                        index,
                        code: "bad_path",
                        message: error.to_string(),
                    })?;
                let now = sapwood_tree::tree_value(view, &target, Reading::VALUE_BYTES_SMALL)
                    .ok()
                    .flatten();
                sum(now.as_ref(), &by)
            }
        };
        if let Some(slot) = slot(&mut kind, &place) {
            *slot = value;
        }
    }
    Ok(Op { path, kind })
}

/// The sum that an increment leaves: what is no number counts as nothing; integers beyond 64 bits become floats.
fn sum(now: Option<&Value>, by: &Value) -> Value {
    match (now, by) {
        (Some(Value::Int(now)), Value::Int(by)) => now.checked_add(*by).map_or_else(
            || Value::Float(to_f64(&Value::Int(*now)) + to_f64(&Value::Int(*by))),
            Value::Int,
        ),
        (Some(now @ (Value::Int(_) | Value::UInt(_) | Value::Float(_))), by) => {
            let sum = to_f64(now) + to_f64(by);
            if sum.is_finite() {
                Value::Float(sum)
            } else {
                now.clone()
            }
        }
        _ => by.clone(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a sum with a float is a float")]
fn to_f64(value: &Value) -> f64 {
    match value {
        Value::Int(number) => *number as f64,
        Value::UInt(number) => *number as f64,
        Value::Float(number) => *number,
        Value::Null
        | Value::Bool(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Array(_)
        | Value::Map(_) => 0.0,
    }
}

/// The place inside a written value that `place` names.
fn slot<'a>(kind: &'a mut OpKind, place: &[Text]) -> Option<&'a mut Value> {
    match kind {
        OpKind::Put { value, .. }
        | OpKind::PutRecord {
            document: value, ..
        } => step(value, place),
        OpKind::Merge { entries, .. } => {
            let (first, rest) = place.split_first()?;
            let value = entries
                .iter_mut()
                .find(|(key, _)| key == first)?
                .1
                .as_mut()?;
            step(value, rest)
        }
        OpKind::Delete | OpKind::DeleteRecord | OpKind::Mark => None,
    }
}

fn step<'a>(value: &'a mut Value, place: &[Text]) -> Option<&'a mut Value> {
    place.iter().try_fold(value, |at, key| match at {
        Value::Map(map) => map.get_mut(key),
        Value::Array(items) => items.get_mut(key.parse::<usize>().ok()?),
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::UInt(_)
        | Value::Float(_)
        | Value::String(_)
        | Value::Bytes(_) => None,
    })
}

fn invalid(index: usize, error: &sapwood_tree::WriteError) -> WriteError {
    use sapwood_tree::WriteError as Tree;
    let code = match error {
        Tree::Rows(error) => return unavailable(error),
        Tree::ValueTooLarge { .. } | Tree::StringTooLarge { .. } => {
            return WriteError::TooLarge {
                index,
                message: error.to_string(),
            };
        }
        Tree::TooDeep { .. } => "too_deep",
        Tree::Key { .. } => "bad_key",
        Tree::KeyTwice { .. } => "duplicate_key",
        Tree::System { .. } => "system_path",
        Tree::RecordAtRoot => "record_at_root",
        _ => "invalid",
    };
    WriteError::Invalid {
        index,
        code,
        message: error.to_string(),
    }
}

fn unavailable(error: &RowsError) -> WriteError {
    tracing::error!(
        error = error as &dyn std::error::Error,
        "the rows could not be read"
    );
    WriteError::Unavailable
}

//! What a commit says to a watch, as far as the commit alone can tell.

use std::sync::Arc;

use sapwood_store::rows::View;
use sapwood_tree::{OpKind, Path, ReadError};
use sapwood_value::{Text, Value};

use crate::commit::Commit;
use crate::event::{Body, Event, EventKind};
use crate::{LogId, Version};

/// The version of one event: the commit's on its last event for a watch, else with the operation's number.
pub(crate) fn version(log: LogId, seq: u64, part: usize, last: bool) -> Version {
    Version {
        log,
        seq,
        part: (!last).then(|| u32::try_from(part).unwrap_or(u32::MAX)),
    }
}

/// What operation `index` of a commit says as it is to a tree watch at or above its path; nothing if it must be told as a state.
pub(crate) fn tree_event(commit: &Arc<Commit>, index: usize, version: Version) -> Option<Event> {
    let op = commit.ops.get(index)?;
    let shared = || Body::Op(Arc::clone(commit), index);
    let (kind, body) = match &op.kind {
        OpKind::Put { .. } => (EventKind::Put, shared()),
        OpKind::Merge { .. } => (EventKind::Patch, shared()),
        OpKind::Delete => (EventKind::Delete, Body::Absent),
        OpKind::PutRecord { .. } | OpKind::DeleteRecord | OpKind::Mark => return None,
    };
    Some(Event::new(kind, op.path.clone(), Some(version), body))
}

/// Whether an operation leaves the records below its path: what it says is then not all that is there.
pub(crate) fn is_record_write(kind: &OpKind) -> bool {
    match kind {
        OpKind::PutRecord { .. } | OpKind::DeleteRecord => true,
        OpKind::Put { .. } | OpKind::Merge { .. } | OpKind::Delete | OpKind::Mark => false,
    }
}

/// Where an operation is told as a state, if it is: at its own path if it is a record write, or at the highest document above that
/// is no map and has records below. Such a document reads as a map only as long as they are there, and loses its value
/// to what is put beside them.
pub(crate) fn state_path(states: &[&View], path: &Path, kind: &OpKind) -> Option<Path> {
    let written = match kind {
        OpKind::Mark => return None,
        // What a merge writes lies below its path.
        OpKind::Merge { entries, .. } => &path.child_unchecked(&entries.first()?.0),
        OpKind::Put { .. } | OpKind::Delete | OpKind::PutRecord { .. } | OpKind::DeleteRecord => {
            path
        }
    };
    let above = states.iter().filter_map(|view| match sapwood_tree::covered_above(*view, written) {
        Ok(above) => above,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, %path, "what lies above a write could not be read");
            None
        }
    });
    above
        .min_by_key(Path::len)
        .or_else(|| is_record_write(kind).then(|| path.clone()))
}

/// A put of what is at a path, or a delete if nothing is.
pub(crate) fn state_event(view: &View, path: Path, version: Option<Version>) -> Event {
    match whole(view, &path) {
        Some(value) => Event::new(EventKind::Put, path, version, Body::Value(value)),
        None => Event::new(EventKind::Delete, path, version, Body::Absent),
    }
}

/// The tree value at a path, whatever its size. A store that can't be read is as good as empty here; it has been
/// logged, and the database takes no more writes.
pub(crate) fn whole(view: &View, path: &Path) -> Option<Value> {
    match sapwood_tree::tree_value(view, path, usize::MAX) {
        Ok(value) => value,
        Err(ReadError::TooLarge { .. }) => None,
        Err(ReadError::Rows(error)) => {
            tracing::error!(error = &error as &dyn std::error::Error, %path, "a told value could not be read");
            None
        }
    }
}

/// Which children of a path an operation touches.
#[derive(Debug, PartialEq)]
pub(crate) enum Touched<'a> {
    /// None.
    None,
    /// This one: something in it changed.
    Inside(Text),
    /// This one has this value now, or is gone.
    Whole(Text, Option<&'a Value>),
    /// These have these values now, or are gone.
    Each(&'a [(Text, Option<Value>)]),
    /// Any of them: something above was written.
    Any,
}

/// Which children of `parent` an operation touches.
pub(crate) fn touched<'a>(path: &Path, kind: &'a OpKind, parent: &Path) -> Touched<'a> {
    if path == parent {
        return match kind {
            OpKind::Merge { entries, .. } => Touched::Each(entries),
            OpKind::Put { .. }
            | OpKind::Delete
            | OpKind::PutRecord { .. }
            | OpKind::DeleteRecord => Touched::Any,
            OpKind::Mark => Touched::None,
        };
    }
    if let Some(rest) = path.strip_prefix(parent) {
        let Some(child) = rest.segments().next().map(Text::from) else {
            return Touched::None;
        };
        return match kind {
            OpKind::Put { value, .. } if rest.len() == 1 => Touched::Whole(child, Some(value)),
            OpKind::Delete if rest.len() == 1 => Touched::Whole(child, None),
            OpKind::Put { .. }
            | OpKind::Delete
            | OpKind::Merge { .. }
            | OpKind::PutRecord { .. }
            | OpKind::DeleteRecord => Touched::Inside(child),
            OpKind::Mark => Touched::None,
        };
    }
    match kind {
        OpKind::Merge { entries, .. } => {
            // Only what goes the way of `parent` touches it.
            let way = parent
                .strip_prefix(path)
                .and_then(|rest| rest.segments().next().map(Text::from));
            if way.is_some_and(|way| entries.iter().any(|(key, _)| *key == way)) {
                Touched::Any
            } else {
                Touched::None
            }
        }
        OpKind::Put { .. } | OpKind::Delete | OpKind::PutRecord { .. } | OpKind::DeleteRecord
            if parent.starts_with(path) =>
        {
            Touched::Any
        }
        OpKind::Put { .. }
        | OpKind::Delete
        | OpKind::PutRecord { .. }
        | OpKind::DeleteRecord
        | OpKind::Mark => Touched::None,
    }
}

/// Whether an operation may change what is strictly below its path at `below`.
pub(crate) fn reaches_below(path: &Path, kind: &OpKind, below: &Path) -> bool {
    match kind {
        OpKind::Put { .. } | OpKind::Delete | OpKind::PutRecord { .. } | OpKind::DeleteRecord => {
            true
        }
        OpKind::Merge { entries, .. } => {
            let way = below
                .strip_prefix(path)
                .and_then(|rest| rest.segments().next().map(Text::from));
            way.is_some_and(|way| entries.iter().any(|(key, _)| *key == way))
        }
        OpKind::Mark => false,
    }
}

/// The operations of a commit as events of a tree watch that stands at or below none of them; what comes from above is cut to it.
///
/// For a client that comes back: nothing is known of the state before, so what comes from above is told changed or not.
pub(crate) fn replay_tree(
    commit: &Arc<Commit>,
    log: LogId,
    at: &Path,
    view: &View,
    skip: Option<u32>,
) -> Vec<Arc<Event>> {
    let telling: Vec<usize> = commit
        .ops
        .iter()
        .enumerate()
        .filter(|(_, op)| {
            op.path.starts_with(at)
                || at.starts_with(&op.path) && reaches_below(&op.path, &op.kind, at)
        })
        .map(|(index, _)| index)
        .collect();
    let mut events = Vec::with_capacity(telling.len());
    for (position, &index) in telling.iter().enumerate() {
        if skip.is_some_and(|skip| index <= skip as usize) {
            continue;
        }
        let version = version(log, commit.seq, index, position + 1 == telling.len());
        let Some(op) = commit.ops.get(index) else {
            continue;
        };
        let event = if op.path.starts_with(at) {
            match state_path(&[view], &op.path, &op.kind) {
                Some(state) if state.starts_with(at) => {
                    Some(state_event(view, state, Some(version)))
                }
                Some(_) if is_record_write(&op.kind) => {
                    Some(state_event(view, op.path.clone(), Some(version)))
                }
                Some(_) | None => tree_event(commit, index, version),
            }
        } else {
            Some(cut_event(op, at, version, view))
        };
        events.extend(event.map(Arc::new));
    }
    events
}

/// What an operation above a watch says to it: its own value there, as the operation says it.
fn cut_event(op: &sapwood_tree::Op, at: &Path, version: Version, view: &View) -> Event {
    let inside = |value: &Value, rest: &Path| rest.segments().try_fold(value.clone(), child_of);
    let value = match &op.kind {
        OpKind::Put { value, .. } => at
            .strip_prefix(&op.path)
            .and_then(|rest| inside(value, &rest)),
        OpKind::Merge { entries, .. } => at.strip_prefix(&op.path).and_then(|rest| {
            let first = rest.segments().next()?;
            let value = entries.iter().find(|(key, _)| key == first)?.1.as_ref()?;
            rest.segments().skip(1).try_fold(value.clone(), child_of)
        }),
        OpKind::PutRecord { .. } | OpKind::DeleteRecord => {
            return state_event(view, at.clone(), Some(version));
        }
        OpKind::Delete | OpKind::Mark => None,
    };
    match value {
        Some(value) => Event::new(
            EventKind::Put,
            at.clone(),
            Some(version),
            Body::Value(value),
        ),
        None => Event::new(EventKind::Delete, at.clone(), Some(version), Body::Absent),
    }
}

fn child_of(value: Value, key: &str) -> Option<Value> {
    match value {
        Value::Map(mut map) => map.remove(key),
        Value::Array(mut items) => {
            let index: usize = key
                .parse()
                .ok()
                .filter(|index: &usize| index.to_string() == key && *index < items.len())?;
            Some(items.swap_remove(index))
        }
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::UInt(_)
        | Value::Float(_)
        | Value::String(_)
        | Value::Bytes(_) => None,
    }
}

/// What a topic says now.
pub(crate) fn topic_event(topic: &Path, body: Body, version: Version) -> Event {
    let kind = if matches!(body, Body::Absent) {
        EventKind::Delete
    } else {
        EventKind::Put
    };
    Event::new(kind, topic.clone(), Some(version), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        Path::parse(text, &sapwood_tree::Limits::default()).unwrap()
    }

    #[test]
    fn a_write_touches_the_child_that_it_lies_in() {
        let put = OpKind::Put {
            value: Value::Int(1),
            mark: false,
        };
        assert_eq!(
            touched(&path("/c/x"), &put, &path("/c")),
            Touched::Whole("x".into(), Some(&Value::Int(1)))
        );
        assert_eq!(
            touched(&path("/c/x/y"), &put, &path("/c")),
            Touched::Inside("x".into())
        );
        assert_eq!(touched(&path("/c"), &put, &path("/c")), Touched::Any);
        assert_eq!(touched(&path(""), &put, &path("/c")), Touched::Any);
        assert_eq!(touched(&path("/cx/y"), &put, &path("/c")), Touched::None);
    }

    #[test]
    fn a_merge_touches_only_where_its_keys_lead() {
        let entries = vec![("c".into(), Some(Value::Int(1)))];
        let merge = OpKind::Merge {
            entries: entries.clone(),
            mark: false,
        };
        assert_eq!(touched(&path(""), &merge, &path("/c")), Touched::Any);
        assert_eq!(touched(&path(""), &merge, &path("/d")), Touched::None);
        assert_eq!(
            touched(&path("/c"), &merge, &path("/c")),
            Touched::Each(&entries)
        );
        assert!(
            reaches_below(&path(""), &merge, &path("/c/x"))
                && !reaches_below(&path(""), &merge, &path("/d"))
        );
    }
}

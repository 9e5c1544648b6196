//! Something that is kept for durable sessions: as an effect of its commit, as a row, and as the event that it was.

use std::sync::Arc;

use bytes::Bytes;
use sapwood_store::rows::View;
use sapwood_tree::{Op, OpKind, Path, TopicValue};

use super::DurableId;
use crate::codec::{self, UNLIMITED};
use crate::commit::Commit;
use crate::event::{Body, Event, EventKind};
use crate::lease::Effect;
use crate::message::Message;
use crate::tell;
use crate::{LogId, Version};

/// What a commit keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Its place among what the commit keeps.
    pub(crate) part: u32,
    /// The durable session that said it.
    pub(crate) origin: Option<DurableId>,
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// A message, with its path, encoded.
    Message(Bytes),
    /// The record that an operation of the commit wrote: it is in the log once.
    Op(usize),
    /// That what is at a path has changed: what it is by then is read when somebody is told.
    State(Path),
}

/// How a row begins.
const MESSAGE: u8 = 1;
const OP: u8 = 2;
const STATE: u8 = 3;

/// Kind, time, origin, expiry.
const HEAD_BYTES: usize = 25;

impl Kept {
    /// What the commit's row says: kind (1), time of the commit in milliseconds (8), who said it (8), when the record that
    /// was written goes (8), path, content.
    pub(super) fn row(&self, commit: &Commit) -> Option<Bytes> {
        let mut out = Vec::with_capacity(64);
        out.push(match self.what {
            What::Message(_) => MESSAGE,
            What::Op(_) => OP,
            What::State(_) => STATE,
        });
        out.extend_from_slice(&commit.at_ms.to_be_bytes());
        let origin = self.origin.map_or(0, |origin| origin.0);
        out.extend_from_slice(&origin.to_be_bytes());
        out.extend_from_slice(&self.expires_ms(commit).unwrap_or(0).to_be_bytes());
        match &self.what {
            What::Message(bytes) => out.extend_from_slice(bytes),
            What::Op(index) => {
                let op = commit.ops.get(*index)?;
                codec::put_bytes(&mut out, op.path.as_str().as_bytes());
                op.encode(&mut out);
            }
            What::State(path) => codec::put_bytes(&mut out, path.as_str().as_bytes()),
        }
        Some(out.into())
    }

    fn expires_ms(&self, commit: &Commit) -> Option<u64> {
        let What::Op(index) = self.what else {
            return None;
        };
        commit.effects.iter().find_map(|effect| match effect {
            Effect::Lease { op, expires_ms, .. } if *op == index => *expires_ms,
            _ => None,
        })
    }

    pub(crate) fn path(&self, commit: &Commit) -> Option<Path> {
        match &self.what {
            What::Message(bytes) => codec::path_of_message(bytes),
            What::Op(index) => commit.ops.get(*index).map(|op| op.path.clone()),
            What::State(path) => Some(path.clone()),
        }
    }

    pub(crate) fn is_message(&self) -> bool {
        matches!(self.what, What::Message(_))
    }
}

/// The path in a row, and whether it is a message's.
pub(super) fn path_of(row: &[u8]) -> Option<(Path, bool)> {
    let (kind, content) = (row.first()?, row.get(HEAD_BYTES..)?);
    if *kind == MESSAGE {
        return Some((codec::path_of_message(content)?, true));
    }
    let text = codec::first_text(content)?;
    Some((Path::parse(text, &UNLIMITED).ok()?, false))
}

/// The event that a row is about, and who said it. None if its time is over.
pub(crate) fn event(
    row: &[u8],
    number: u64,
    view: &View,
    log: LogId,
    now_ms: u64,
) -> Option<(Event, Option<DurableId>)> {
    let (kind, content) = (*row.first()?, row.get(HEAD_BYTES..)?);
    let at_ms = super::number_at(row, 1)?;
    let origin = super::number_at(row, 9).filter(|origin| *origin != 0);
    let expires_ms = super::number_at(row, 17).filter(|expires_ms| *expires_ms != 0);
    if expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms) {
        return None;
    }
    let version = Version::new(log, super::commit_of(number));
    let mut event = match kind {
        MESSAGE => {
            let (path, message) = codec::decode_message(content)?;
            let message = Arc::new(in_time(message, at_ms, now_ms)?);
            Event::new(EventKind::Message, path, None, Body::Message(message))
        }
        OP => written(content, number, at_ms, version)?,
        _ => {
            let path = Path::parse(codec::first_text(content)?, &UNLIMITED).ok()?;
            let said = TopicValue::read(view, &path, usize::MAX).ok()?;
            tell::topic_event(&path, said.map_or(Body::Absent, Body::Topic), version)
        }
    };
    event.kept = Some(number);
    event.expires_ms = expires_ms;
    Some((event, origin.map(DurableId)))
}

/// What an operation wrote.
fn written(content: &[u8], number: u64, at_ms: u64, version: Version) -> Option<Event> {
    let path_bytes = 4 + codec::first_text(content)?.len();
    let op = Op::decode(content.get(path_bytes..)?).ok()?;
    let path = op.path.clone();
    if !matches!(op.kind, OpKind::PutRecord { .. }) {
        return Some(tell::topic_event(&path, Body::Absent, version));
    }
    let commit = Commit {
        seq: super::commit_of(number),
        at_ms,
        origin: None,
        ops: vec![op],
        effects: Vec::new(),
        weight: 0,
    };
    Some(tell::topic_event(
        &path,
        Body::Op(Arc::new(commit), 0),
        version,
    ))
}

/// A message with the time that it has left; none if that is over.
fn in_time(mut message: Message, at_ms: u64, now_ms: u64) -> Option<Message> {
    if let Some(expires_s) = message.expires_s {
        let ends_ms = at_ms.saturating_add(u64::from(expires_s) * 1000);
        let left_ms = ends_ms.saturating_sub(now_ms);
        if left_ms == 0 {
            return None;
        }
        message.expires_s = u32::try_from(left_ms.div_ceil(1000)).ok();
    }
    Some(message)
}

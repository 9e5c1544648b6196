//! A commit's entry in the log, and what a session leaves to be done at its end, as bytes.
//!
//! An entry is: format (1), time (8 bytes), the operations, the effects. Numbers are little-endian; lists
//! begin with their count, byte strings with their length (4 bytes each). The sequence is the log's.

use std::time::Duration;

use bytes::Bytes;
use sapwood_tree::{Limits, Op, Path, Payload};
use sapwood_value::{ServerValue, Text, Value, stored};

mod durable;

use crate::commit::Commit;
use crate::lease::Effect;
use crate::message::Message;
use crate::session::SessionId;
use crate::write::{AtEnd, WriteOp};

/// The format of entries, their first byte.
const FORMAT: u8 = 1;

/// What was accepted once is read again, whatever the limits are now.
pub(crate) const UNLIMITED: Limits = Limits {
    depth: usize::MAX,
    segment_bytes: usize::MAX,
    value_bytes: usize::MAX,
    string_bytes: usize::MAX,
};

/// An entry that can't be read: written by a newer server, or damaged past its checksum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("commit {seq} can't be read: {reason}")]
pub struct EntryError {
    /// Which commit.
    pub seq: u64,
    /// Why.
    pub reason: &'static str,
}

/// The entry of a commit.
pub(crate) fn encode(commit: &Commit) -> Bytes {
    let mut out = Vec::with_capacity(256);
    out.push(FORMAT);
    out.extend_from_slice(&commit.at_ms.to_le_bytes());
    put_len(&mut out, commit.ops.len());
    for op in &commit.ops {
        put_sized(&mut out, |out| op.encode(out));
    }
    put_len(&mut out, commit.effects.len());
    for effect in &commit.effects {
        put_effect(&mut out, effect);
    }
    out.into()
}

/// Reads an entry.
///
/// # Errors
/// [`EntryError`] if it is of another format, or not whole.
pub fn decode(seq: u64, entry: &Bytes) -> Result<Commit, EntryError> {
    let mut input = Input { rest: entry };
    if input.take(1).and_then(|bytes| bytes.first()) != Some(&FORMAT) {
        return Err(EntryError {
            seq,
            reason: "its format is unknown to this version",
        });
    }
    read_commit(&mut input)
        .map(|commit| Commit {
            seq,
            weight: entry.len() + 128,
            ..commit
        })
        .filter(|_| input.rest.is_empty())
        .ok_or(EntryError {
            seq,
            reason: "it is damaged",
        })
}

fn read_commit(input: &mut Input<'_>) -> Option<Commit> {
    let at_ms = input.u64()?;
    let ops = input.list(|input| Op::decode(input.sized()?).ok())?;
    let effects = input.list(read_effect)?;
    Some(Commit {
        seq: 0,
        at_ms,
        origin: None,
        ops,
        effects,
        weight: 0,
    })
}

fn put_effect(out: &mut Vec<u8>, effect: &Effect) {
    match effect {
        Effect::Lease {
            op,
            owner,
            expires_ms,
        } => {
            out.push(1);
            put_len(out, *op);
            out.extend_from_slice(&owner.map_or(0, |session| session.0).to_le_bytes());
            out.extend_from_slice(&expires_ms.unwrap_or(0).to_le_bytes());
        }
        Effect::AtEnd {
            session,
            number,
            what,
        } => {
            out.push(2);
            out.extend_from_slice(&session.0.to_le_bytes());
            out.extend_from_slice(&number.to_le_bytes());
            put_sized(out, |out| out.extend_from_slice(what));
        }
        Effect::Ended { session } => {
            out.push(3);
            out.extend_from_slice(&session.0.to_le_bytes());
        }
        Effect::Expired { until_ms } => {
            out.push(4);
            out.extend_from_slice(&until_ms.to_le_bytes());
        }
        Effect::Forgotten { session } => {
            out.push(6);
            out.extend_from_slice(&session.0.to_le_bytes());
        }
        Effect::Declared { patterns } => {
            out.push(5);
            put_sized(out, |out| out.extend_from_slice(patterns.as_bytes()));
        }
        Effect::Keep(kept) => durable::put_kept(out, kept),
        Effect::Unkept { numbers } => {
            out.push(8);
            put_len(out, numbers.len());
            for number in numbers {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        Effect::Durable { id, change } => durable::put_change(out, *id, change),
        Effect::EndsAt { session, at_ms } => {
            out.push(10);
            out.extend_from_slice(&session.0.to_le_bytes());
            out.extend_from_slice(&at_ms.to_le_bytes());
        }
    }
}

fn read_effect(input: &mut Input<'_>) -> Option<Effect> {
    Some(match input.u8()? {
        1 => {
            let op = usize::try_from(input.u32()?).ok()?;
            let (owner, expires_ms) = (input.u64()?, input.u64()?);
            Effect::Lease {
                op,
                owner: (owner != 0).then_some(SessionId(owner)),
                expires_ms: (expires_ms != 0).then_some(expires_ms),
            }
        }
        2 => {
            let session = SessionId(input.u64()?);
            Effect::AtEnd {
                session,
                number: input.u32()?,
                what: Bytes::copy_from_slice(input.sized()?),
            }
        }
        3 => Effect::Ended {
            session: SessionId(input.u64()?),
        },
        4 => Effect::Expired {
            until_ms: input.u64()?,
        },
        5 => Effect::Declared {
            patterns: input.text()?.to_owned(),
        },
        6 => Effect::Forgotten {
            session: SessionId(input.u64()?),
        },
        7 => Effect::Keep(durable::read_kept(input)?),
        8 => Effect::Unkept {
            numbers: input.list(Input::u64)?,
        },
        9 => {
            let (id, change) = durable::read_change(input)?;
            Effect::Durable { id, change }
        }
        10 => Effect::EndsAt {
            session: SessionId(input.u64()?),
            at_ms: input.u64()?,
        },
        _ => return None,
    })
}

/// What a session leaves to be done at its end.
pub(crate) fn encode_at_end(at_end: &AtEnd) -> Bytes {
    let mut out = Vec::with_capacity(128);
    match at_end {
        AtEnd::Write(op) => {
            out.push(1);
            put_sized(&mut out, |out| {
                Op {
                    path: op.path.clone(),
                    kind: op.kind.clone(),
                }
                .encode(out);
            });
            out.extend_from_slice(
                &op.ttl
                    .map_or(0, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))
                    .to_le_bytes(),
            );
            put_len(&mut out, op.server_values.len());
            for (place, value) in &op.server_values {
                put_server_value(&mut out, place, value);
            }
        }
        AtEnd::Publish(path, message) => put_message(&mut out, path, message),
    }
    out.into()
}

/// Reads what [`encode_at_end`] wrote.
pub(crate) fn decode_at_end(bytes: &[u8]) -> Option<AtEnd> {
    let mut input = Input { rest: bytes };
    Some(match input.u8()? {
        1 => {
            let op = Op::decode(input.sized()?).ok()?;
            let ttl_ms = input.u64()?;
            let server_values = input.list(read_server_value)?;
            AtEnd::Write(WriteOp {
                path: op.path,
                kind: op.kind,
                server_values,
                owner: false,
                ttl: (ttl_ms != 0).then(|| Duration::from_millis(ttl_ms)),
            })
        }
        kind @ (2 | 3) => {
            let path = Path::parse(input.text()?, &UNLIMITED).ok()?;
            AtEnd::Publish(path, read_message(&mut input, kind)?)
        }
        _ => return None,
    })
}

/// A message, with its path, as it is kept.
pub(crate) fn encode_message(path: &Path, message: &Message) -> Bytes {
    let mut out = Vec::with_capacity(128);
    put_message(&mut out, path, message);
    out.into()
}

/// Reads what [`encode_message`] wrote.
pub(crate) fn decode_message(bytes: &[u8]) -> Option<(Path, Message)> {
    let mut input = Input { rest: bytes };
    let kind = input.u8()?;
    let path = Path::parse(input.text()?, &UNLIMITED).ok()?;
    Some((path, read_message(&mut input, kind)?))
}

/// The path of what [`encode_message`] wrote.
pub(crate) fn path_of_message(bytes: &[u8]) -> Option<Path> {
    let mut input = Input { rest: bytes };
    input.u8()?;
    Path::parse(input.text()?, &UNLIMITED).ok()
}

/// The text that bytes begin with.
pub(crate) fn first_text(bytes: &[u8]) -> Option<&str> {
    Input { rest: bytes }.text()
}

/// A message and its path: 2 with a value and its content type, 3 with a payload; both with what else it says.
fn put_message(out: &mut Vec<u8>, path: &Path, message: &Message) {
    let kind = if message.payload().is_some() { 3 } else { 2 };
    out.push(kind);
    put_bytes(out, path.as_str().as_bytes());
    match message.payload() {
        Some(payload) => put_sized(out, |out| payload.store(out)),
        None => {
            put_sized(out, |out| stored::encode(message.value(), out));
            put_bytes(out, message.content_type().unwrap_or_default().as_bytes());
        }
    }
    let Message {
        qos,
        expires_s,
        response_topic,
        correlation_data,
        ..
    } = message;
    let has = u8::from(expires_s.is_some())
        | u8::from(response_topic.is_some()) << 1
        | u8::from(correlation_data.is_some()) << 2;
    out.extend_from_slice(&[*qos, has]);
    put_len(out, expires_s.map_or(0, |seconds| seconds as usize));
    put_bytes(
        out,
        response_topic.as_deref().unwrap_or_default().as_bytes(),
    );
    put_bytes(out, correlation_data.as_deref().unwrap_or_default());
}

fn read_message(input: &mut Input<'_>, kind: u8) -> Option<Message> {
    let mut message = if kind == 3 {
        let mut bytes = input.sized()?;
        let payload = Payload::restore(&mut bytes).ok()?;
        Message::from_payload(payload, sapwood_value::Limits::default())
    } else {
        let value = stored::decode(input.sized()?).ok()?;
        let content_type = Some(input.text()?).filter(|text| !text.is_empty());
        Message::new(value).with_content_type(content_type.map(Text::from))
    };
    // Before there was more to say, a message ended here.
    if input.rest.is_empty() {
        return Some(message);
    }
    let (qos, has) = (input.u8()?, input.u8()?);
    let (expires_s, topic, correlation) = (input.u32()?, input.text()?, input.sized()?);
    message.qos = qos;
    message.expires_s = (has & 1 != 0).then_some(expires_s);
    message.response_topic = (has & 2 != 0).then(|| topic.into());
    message.correlation_data = (has & 4 != 0).then(|| Bytes::copy_from_slice(correlation));
    Some(message)
}

fn put_server_value(out: &mut Vec<u8>, place: &[Text], value: &ServerValue) {
    put_len(out, place.len());
    for key in place {
        put_sized(out, |out| out.extend_from_slice(key.as_bytes()));
    }
    match value {
        ServerValue::Timestamp => out.push(1),
        ServerValue::Increment(by) => {
            out.push(2);
            put_sized(out, |out| stored::encode(by, out));
        }
    }
}

fn read_server_value(input: &mut Input<'_>) -> Option<(Vec<Text>, ServerValue)> {
    let place = input.list(|input| Some(Text::from(input.text()?)))?;
    let value = match input.u8()? {
        1 => ServerValue::Timestamp,
        2 => ServerValue::Increment(stored_value(input)?),
        _ => return None,
    };
    Some((place, value))
}

fn stored_value(input: &mut Input<'_>) -> Option<Value> {
    stored::decode(input.sized()?).ok()
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    // Sizes are limited long before they reach four gibibytes.
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_sized(out, |out| out.extend_from_slice(bytes));
}

fn put_sized(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let len = u32::try_from(out.len() - at - 4)
        .unwrap_or(u32::MAX)
        .to_le_bytes();
    if let Some(slot) = out.get_mut(at..at + 4) {
        slot.copy_from_slice(&len);
    }
}

struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        self.take(len)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.sized()?).ok()
    }

    fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u32()?;
        // No room is made ahead: a count that lies ends where the bytes do.
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(read(self)?);
        }
        Some(list)
    }
}

#[cfg(test)]
mod tests {
    use sapwood_tree::OpKind;

    use super::*;

    fn commit() -> Commit {
        let put = OpKind::Put {
            value: Value::Int(5),
            mark: true,
        };
        Commit {
            seq: 9,
            at_ms: 1_700_000_000_000,
            origin: None,
            ops: vec![
                Op {
                    path: Path::parse("/a/b", &UNLIMITED).unwrap(),
                    kind: put,
                },
                Op {
                    path: Path::parse("/c", &UNLIMITED).unwrap(),
                    kind: OpKind::Delete,
                },
            ],
            effects: vec![
                Effect::Lease {
                    op: 0,
                    owner: Some(SessionId(7)),
                    expires_ms: None,
                },
                Effect::AtEnd {
                    session: SessionId(7),
                    number: 2,
                    what: Bytes::from_static(b"x"),
                },
                Effect::Ended {
                    session: SessionId(8),
                },
                Effect::Forgotten {
                    session: SessionId(9),
                },
                Effect::Expired { until_ms: 12 },
                Effect::Declared {
                    patterns: "a/{b}".into(),
                },
            ],
            weight: 0,
        }
    }

    #[test]
    fn an_entry_reads_back() {
        let entry = encode(&commit());
        let back = decode(9, &entry).unwrap();
        assert_eq!(
            (back.seq, back.at_ms, &back.effects),
            (9, commit().at_ms, &commit().effects)
        );
        assert_eq!(format!("{:?}", back.ops), format!("{:?}", commit().ops));
    }

    #[test]
    fn no_cut_or_flipped_entry_panics() {
        let entry = encode(&commit());
        for len in 0..entry.len() {
            assert!(decode(9, &entry.slice(..len)).is_err(), "cut at {len}");
            let mut flipped = entry.to_vec();
            flipped[len] ^= 0x80;
            drop(decode(9, &flipped.into()));
        }
    }

    #[test]
    fn what_a_session_leaves_reads_back() {
        let op = WriteOp {
            path: Path::parse("/a", &UNLIMITED).unwrap(),
            kind: OpKind::Put {
                value: Value::Null,
                mark: false,
            },
            server_values: vec![
                (vec!["at".into()], ServerValue::Timestamp),
                (vec![], ServerValue::Increment(Value::Float(0.5))),
            ],
            owner: false,
            ttl: Some(Duration::from_secs(3)),
        };
        let message = |message| AtEnd::Publish(Path::parse("/m", &UNLIMITED).unwrap(), message);
        let payload = Payload {
            bytes: Some("ON".into()),
            user_properties: vec![("a".into(), "b".into())],
            qos: 1,
            ..Payload::default()
        };
        let mut will = Message::from_payload(payload, sapwood_value::Limits::default());
        will.expires_s = Some(0);
        will.response_topic = Some("t".into());
        will.correlation_data = Some("c".into());
        let plain = Message::new(Value::Bool(true));
        for at_end in [
            AtEnd::Write(op),
            message(plain.with_content_type(Some("text/plain".into()))),
            message(will),
        ] {
            assert_eq!(
                format!("{:?}", decode_at_end(&encode_at_end(&at_end))),
                format!("{:?}", Some(at_end))
            );
        }
    }
}

//! Operations as bytes, for the commit log.
//!
//! ```text
//! kind | path: text | what the kind needs
//! 01 put: value              02 put, marked: value
//! 03 merge: count: varint | (key, 00 or 01 value)…      04 merge, marked: the same
//! 05 delete    06 put record: value    07 put record: payload | value
//! 08 delete record    09 mark
//! ```
//!
//! The table is the version: a kind keeps its meaning for ever, and an unknown one stops the decoder.

#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use sapwood_value::stored::{
    encode as encode_value, encode_text, encode_varint, take, take_text, take_varint,
};
use sapwood_value::{StoredError, Text, Value};

use crate::row::{encode_payload, take_payload};
use crate::{Limits, Op, OpKind, Path, PathError, RowError};

const PUT: u8 = 0x01;
const PUT_MARKED: u8 = 0x02;
const MERGE: u8 = 0x03;
const MERGE_MARKED: u8 = 0x04;
const DELETE: u8 = 0x05;
const PUT_RECORD: u8 = 0x06;
const PUT_RECORD_PAYLOAD: u8 = 0x07;
const DELETE_RECORD: u8 = 0x08;
const MARK: u8 = 0x09;

/// What was logged was within the limits of its time.
const ANY: Limits = Limits {
    depth: usize::MAX,
    segment_bytes: usize::MAX,
    value_bytes: usize::MAX,
    string_bytes: usize::MAX,
};

/// Bytes are no operation: damage, or of a newer version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpError {
    /// A kind that this version does not know.
    #[error("the operation has the unknown kind {0}")]
    UnknownKind(u8),
    /// The path is none.
    #[error("the operation's path is damaged")]
    Path(#[from] PathError),
    /// The payload is damaged.
    #[error("the operation's payload is damaged")]
    Payload(#[from] RowError),
    /// A value, a number or a text in it is damaged.
    #[error("the operation is damaged")]
    Value(#[from] StoredError),
}

impl Op {
    /// Appends the operation.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Self { path, kind } = self;
        out.push(match kind {
            OpKind::Put { mark: false, .. } => PUT,
            OpKind::Put { mark: true, .. } => PUT_MARKED,
            OpKind::Merge { mark: false, .. } => MERGE,
            OpKind::Merge { mark: true, .. } => MERGE_MARKED,
            OpKind::Delete => DELETE,
            OpKind::PutRecord { payload: None, .. } => PUT_RECORD,
            OpKind::PutRecord { .. } => PUT_RECORD_PAYLOAD,
            OpKind::DeleteRecord => DELETE_RECORD,
            OpKind::Mark => MARK,
        });
        encode_text(path.as_str(), out);
        match kind {
            OpKind::Put { value, mark: _ } => encode_value(value, out),
            OpKind::Merge { entries, mark: _ } => encode_entries(entries, out),
            OpKind::PutRecord { document, payload } => {
                if let Some(payload) = payload {
                    encode_payload(payload, out);
                }
                encode_value(document, out);
            }
            OpKind::Delete | OpKind::DeleteRecord | OpKind::Mark => {}
        }
    }

    /// Reads back what [`Op::encode`] wrote, all of it.
    ///
    /// # Errors
    /// If the bytes are not that. It never panics, and takes memory only as bytes are there.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, OpError> {
        let op = Self::take(&mut bytes)?;
        if bytes.is_empty() {
            Ok(op)
        } else {
            Err(StoredError::TooLong.into())
        }
    }

    /// Takes an operation from the front of `bytes`, and moves behind it.
    ///
    /// # Errors
    /// As [`Op::decode`].
    pub fn take(bytes: &mut &[u8]) -> Result<Self, OpError> {
        let (tag, rest) = bytes.split_first().ok_or(StoredError::TooShort)?;
        *bytes = rest;
        let path = Path::parse(take_text(bytes)?, &ANY)?;
        let mark = matches!(*tag, PUT_MARKED | MERGE_MARKED);
        let kind = match *tag {
            PUT | PUT_MARKED => {
                let value = take(bytes)?;
                OpKind::Put { value, mark }
            }
            MERGE | MERGE_MARKED => {
                let entries = take_entries(bytes)?;
                OpKind::Merge { entries, mark }
            }
            DELETE => OpKind::Delete,
            PUT_RECORD => OpKind::PutRecord {
                payload: None,
                document: take(bytes)?,
            },
            PUT_RECORD_PAYLOAD => OpKind::PutRecord {
                payload: Some(take_payload(bytes)?),
                document: take(bytes)?,
            },
            DELETE_RECORD => OpKind::DeleteRecord,
            MARK => OpKind::Mark,
            unknown => return Err(OpError::UnknownKind(unknown)),
        };
        Ok(Self { path, kind })
    }
}

fn encode_entries(entries: &[(Text, Option<Value>)], out: &mut Vec<u8>) {
    encode_varint(entries.len() as u64, out);
    for (key, value) in entries {
        encode_text(key, out);
        out.push(u8::from(value.is_some()));
        if let Some(value) = value {
            encode_value(value, out);
        }
    }
}

fn take_entries(bytes: &mut &[u8]) -> Result<Vec<(Text, Option<Value>)>, OpError> {
    let mut entries = Vec::new();
    for _ in 0..take_varint(bytes)? {
        let key = Text::from(take_text(bytes)?);
        let (there, rest) = bytes.split_first().ok_or(StoredError::TooShort)?;
        *bytes = rest;
        let value = match there {
            0 => None,
            1 => Some(take(bytes)?),
            unknown => return Err(OpError::UnknownKind(*unknown)),
        };
        entries.push((key, value));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Payload;

    fn ops() -> Vec<Op> {
        let document = Value::Map([("a", 1), ("b", 2)].into_iter().collect());
        let payload = Some(Payload {
            bytes: Some("{\"a\":1,\"b\":2}".into()),
            ..Payload::default()
        });
        let entries = vec![("x".into(), None), ("y".into(), Some(document.clone()))];
        let kinds = [
            OpKind::Put {
                value: document.clone(),
                mark: false,
            },
            OpKind::Put {
                value: Value::Null,
                mark: true,
            },
            OpKind::Merge {
                entries: entries.clone(),
                mark: true,
            },
            OpKind::Merge {
                entries,
                mark: false,
            },
            OpKind::Delete,
            OpKind::PutRecord {
                document: document.clone(),
                payload,
            },
            OpKind::PutRecord {
                document,
                payload: None,
            },
            OpKind::DeleteRecord,
            OpKind::Mark,
        ];
        let path = |n| Path::parse(&"/a".repeat(n), &Limits::default()).unwrap();
        let ops = kinds.into_iter().enumerate();
        ops.map(|(n, kind)| Op {
            path: path(n),
            kind,
        })
        .collect()
    }

    #[test]
    fn an_operation_reads_back_as_it_was_written() {
        for op in ops() {
            let mut bytes = Vec::new();
            op.encode(&mut bytes);
            assert_eq!(Op::decode(&bytes).as_ref(), Ok(&op));
            for end in 0..bytes.len() {
                assert!(Op::decode(&bytes[..end]).is_err(), "{op:?} cut at {end}");
            }
        }
    }

    #[test]
    fn damaged_operations_do_not_panic() {
        for op in ops() {
            let mut bytes = Vec::new();
            op.encode(&mut bytes);
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut damaged = bytes.clone();
                    damaged[at] ^= 1 << bit;
                    drop(Op::decode(&damaged));
                }
            }
        }
    }
}

//! Rows as bytes, for the engine.
//!
//! ```text
//! 01 | flags | version: varint | written: varint | payload? | covered? | fragment
//! flags: 01 part   02 exploded   0C below: 0, 1, 2   10 covered   20 payload   40 records
//! payload: flags | form? | bytes? | type? | format? | count: varint | (name, value)…
//! flags: 01 bytes   02 content type   04 payload format   18 form: 0 JSON, 1 text, 2 bytes, 3 fixed: the form byte says
//! form byte: 0 JSON, 1 CBOR, 2 MessagePack, 3 text, 4 bytes
//!        60 QoS: 0 exactly once, 1 at least once, 2 at most once
//! ```
//!
//! Values, varints and texts are in the stored form (`sapwood_value::stored`).

#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::sync::OnceLock;

use bytes::Bytes;
use sapwood_value::stored::{
    encode as encode_value, encode_bytes, encode_text, encode_varint, take, take_bytes, take_text,
    take_varint,
};
use sapwood_value::{StoredError, Text};

use crate::{Below, FixedForm, Payload, PayloadForm, Row, RowKind};

const VERSION: u8 = 1;
const PART: u8 = 0x01;
const EXPLODED: u8 = 0x02;
const COVERED: u8 = 0x10;
const PAYLOAD: u8 = 0x20;
const RECORDS: u8 = 0x40;
const PAYLOAD_BYTES: u8 = 0x01;
const CONTENT_TYPE: u8 = 0x02;
const PAYLOAD_FORMAT: u8 = 0x04;

/// Bytes are no row: damage, or of a newer version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// The first byte is of no version that this program knows.
    #[error("the row is of the unknown version {0}")]
    Version(u8),
    /// The bytes end within the row's head, or a flag is unknown.
    #[error("the row's head is damaged")]
    Head,
    /// A value, a number or a text in it is damaged.
    #[error("the row is damaged")]
    Value(#[from] StoredError),
}

impl Row {
    /// Appends the row.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Self {
            kind,
            exploded,
            below,
            records,
            version,
            written,
            fragment,
            covered,
            payload,
            json: _,
        } = self;
        let mut flags = match below {
            Below::Nothing => 0,
            Below::Children => 0x04,
            Below::Anywhere => 0x08,
        };
        if *kind == RowKind::Part {
            flags |= PART;
        }
        if *exploded {
            flags |= EXPLODED;
        }
        if *records {
            flags |= RECORDS;
        }
        if covered.is_some() {
            flags |= COVERED;
        }
        if payload.is_some() {
            flags |= PAYLOAD;
        }
        out.extend_from_slice(&[VERSION, flags]);
        encode_varint(*version, out);
        encode_varint(*written, out);
        if let Some(payload) = payload {
            encode_payload(payload, out);
        }
        if let Some(covered) = covered {
            encode_value(covered, out);
        }
        encode_value(fragment, out);
    }

    /// Reads back what [`Row::encode`] wrote, all of it.
    ///
    /// # Errors
    /// If the bytes are not that. It never panics, and takes memory only as bytes are there.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, RowError> {
        let bytes = &mut bytes;
        let version = take_byte(bytes)?;
        if version != VERSION {
            return Err(RowError::Version(version));
        }
        let flags = take_byte(bytes)?;
        let below = match flags & 0x0C {
            0x00 => Below::Nothing,
            0x04 => Below::Children,
            0x08 => Below::Anywhere,
            _ => return Err(RowError::Head),
        };
        if flags & 0x80 != 0 {
            return Err(RowError::Head);
        }
        let kind = if flags & PART == 0 {
            RowKind::Record
        } else {
            RowKind::Part
        };
        let row = Self {
            kind,
            exploded: flags & EXPLODED != 0,
            below,
            records: flags & RECORDS != 0,
            version: take_varint(bytes)?,
            written: take_varint(bytes)?,
            payload: optional(flags & PAYLOAD, || take_payload(bytes).map(Box::new))?,
            covered: optional(flags & COVERED, || Ok(Box::new(take(bytes)?)))?,
            fragment: take(bytes)?,
            json: OnceLock::new(),
        };
        if bytes.is_empty() {
            Ok(row)
        } else {
            Err(StoredError::TooLong.into())
        }
    }
}

/// Appends a payload.
pub(crate) fn encode_payload(payload: &Payload, out: &mut Vec<u8>) {
    let Payload {
        bytes,
        content_type,
        payload_format,
        user_properties,
        form,
        qos,
    } = payload;
    let mut flags = match form {
        PayloadForm::Json => 0,
        PayloadForm::Text => 0x08,
        PayloadForm::Bytes => 0x10,
        PayloadForm::Fixed(_) => 0x18,
    };
    flags |= 2_u8.saturating_sub(*qos) << 5;
    if bytes.is_some() {
        flags |= PAYLOAD_BYTES;
    }
    if content_type.is_some() {
        flags |= CONTENT_TYPE;
    }
    if payload_format.is_some() {
        flags |= PAYLOAD_FORMAT;
    }
    out.push(flags);
    if let PayloadForm::Fixed(fixed) = form {
        out.push(form_byte(*fixed));
    }
    if let Some(bytes) = bytes {
        encode_bytes(bytes, out);
    }
    if let Some(content_type) = content_type {
        encode_text(content_type, out);
    }
    out.extend(payload_format);
    encode_varint(user_properties.len() as u64, out);
    for (name, value) in user_properties {
        encode_text(name, out);
        encode_text(value, out);
    }
}

/// Takes a payload that [`encode_payload`] appended.
fn form_byte(form: FixedForm) -> u8 {
    match form {
        FixedForm::Json => 0,
        FixedForm::Cbor => 1,
        FixedForm::MessagePack => 2,
        FixedForm::Text => 3,
        FixedForm::Bytes => 4,
    }
}

fn take_form(bytes: &mut &[u8]) -> Result<FixedForm, RowError> {
    let known = [
        FixedForm::Json,
        FixedForm::Cbor,
        FixedForm::MessagePack,
        FixedForm::Text,
        FixedForm::Bytes,
    ];
    let byte = take_byte(bytes)?;
    let form = known.into_iter().find(|form| form_byte(*form) == byte);
    form.ok_or(RowError::Head)
}

pub(crate) fn take_payload(bytes: &mut &[u8]) -> Result<Payload, RowError> {
    let flags = take_byte(bytes)?;
    let form = match flags & 0x18 {
        0x00 => PayloadForm::Json,
        0x08 => PayloadForm::Text,
        0x10 => PayloadForm::Bytes,
        _ => PayloadForm::Fixed(take_form(bytes)?),
    };
    let qos = match flags & 0xE0 {
        0x00 => 2,
        0x20 => 1,
        0x40 => 0,
        _ => return Err(RowError::Head),
    };
    let mut payload = Payload {
        bytes: optional(flags & PAYLOAD_BYTES, || {
            Ok(Bytes::copy_from_slice(take_bytes(bytes)?))
        })?,
        content_type: optional(flags & CONTENT_TYPE, || Ok(Text::from(take_text(bytes)?)))?,
        payload_format: optional(flags & PAYLOAD_FORMAT, || take_byte(bytes))?,
        user_properties: Vec::new(),
        form,
        qos,
    };
    for _ in 0..take_varint(bytes)? {
        let name = Text::from(take_text(bytes)?);
        let value = Text::from(take_text(bytes)?);
        payload.user_properties.push((name, value));
    }
    Ok(payload)
}

fn take_byte(bytes: &mut &[u8]) -> Result<u8, RowError> {
    let (byte, rest) = bytes.split_first().ok_or(RowError::Head)?;
    *bytes = rest;
    Ok(*byte)
}

fn optional<T>(
    flag: u8,
    take: impl FnOnce() -> Result<T, RowError>,
) -> Result<Option<T>, RowError> {
    if flag == 0 {
        Ok(None)
    } else {
        take().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sapwood_value::Value;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Int),
            ".{0,5}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 8, 3, |inner| {
            prop::collection::vec((".{0,3}", inner), 0..3)
                .prop_map(|entries| Value::Map(entries.into_iter().collect()))
        })
    }

    prop_compose! {
        fn payload()(
            bytes in prop::option::of(prop::collection::vec(any::<u8>(), 0..9)),
            content_type in prop::option::of("[a-z/]{0,20}"),
            payload_format in prop::option::of(any::<u8>()),
            user_properties in prop::collection::vec((".{0,3}", ".{0,3}"), 0..3),
            form in prop::sample::select(vec![PayloadForm::Json, PayloadForm::Text, PayloadForm::Bytes, PayloadForm::Fixed(FixedForm::Cbor), PayloadForm::Fixed(FixedForm::Text)]),
            qos in 0..3_u8,
        ) -> Payload {
            Payload {
                bytes: bytes.map(Bytes::from),
                content_type: content_type.map(Text::from),
                payload_format,
                user_properties: user_properties.iter().map(|(k, v)| (k.into(), v.into())).collect(),
                form,
                qos,
            }
        }
    }

    prop_compose! {
        fn row()(
            part in any::<bool>(),
            (exploded, records) in any::<(bool, bool)>(),
            below in prop::sample::select(vec![Below::Nothing, Below::Children, Below::Anywhere]),
            version in any::<u64>(),
            written in any::<u64>(),
            fragment in value(),
            covered in prop::option::of(value()),
            payload in prop::option::of(payload()),
        ) -> Row {
            let kind = if part { RowKind::Part } else { RowKind::Record };
            let mut row = Row::new(kind, fragment, version);
            row.exploded = exploded;
            row.below = below;
            row.records = records;
            row.written = written;
            row.covered = covered.map(Box::new);
            row.payload = payload.map(Box::new);
            row
        }
    }

    proptest! {
        #[test]
        fn a_row_reads_back_as_it_was_written(row in row()) {
            let mut bytes = Vec::new();
            row.encode(&mut bytes);
            let back = Row::decode(&bytes).unwrap();
            prop_assert_eq!(format!("{row:?}"), format!("{back:?}"));
            for end in 0..bytes.len() {
                prop_assert!(Row::decode(&bytes[..end]).is_err());
            }
        }

        #[test]
        fn damaged_rows_do_not_panic(row in row(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut bytes = Vec::new();
            row.encode(&mut bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            drop(Row::decode(&bytes));
        }
    }
}

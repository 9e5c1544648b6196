//! The encoding of rows and of the commit log: compact, exact, and never on the wire.
//!
//! A value begins with its tag:
//!
//! ```text
//! 00 null   01 false   02 true
//! 03 integer: varint, zigzag            04 integer above i64::MAX: 8 bytes
//! 05 float: 8 bytes                     06 string: length, UTF-8
//! 07 bytes: length, bytes               08 bytes with a media type: length, type, length, bytes
//! 09 array: count, values               0A map: count, (length, key, value)…, in key order
//! 0B implied map: as 0A
//! 40–7F integer 0–63    80–BF string of 0–63 bytes    C0–DF map of 0–31 entries
//! E0–EF implied map of 0–15 entries     F0–FF array of 0–15 items
//! ```
//!
//! Lengths and counts are varints (LEB128); numbers are little-endian. The table is the version: a tag keeps its meaning
//! for ever, new meanings take free tags, and an unknown tag stops the decoder.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use bytes::Bytes;

use crate::{Blob, Map, Text, Value, key_cmp};

/// Levels that a stored value may have: a document's own, below the longest path.
pub const DEPTH_MAX: usize = 256;

/// Why bytes are no stored value: they are damaged, or from a newer version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoredError {
    /// The bytes end within the value.
    #[error("stored value ends too early")]
    TooShort,
    /// There are bytes behind the value.
    #[error("stored value has bytes behind it")]
    TooLong,
    /// A tag that this version does not know.
    #[error("stored value has the unknown tag {0:#04x}")]
    UnknownTag(u8),
    /// Text that is no UTF-8.
    #[error("stored text is not UTF-8")]
    NotUtf8,
    /// Keys out of order, or twice.
    #[error("stored keys are out of order")]
    KeyOrder,
    /// A float that is not finite.
    #[error("stored float is not finite")]
    NotFinite,
    /// A varint that does not fit 64 bits.
    #[error("stored number is too long")]
    Varint,
    /// More than [`DEPTH_MAX`] levels.
    #[error("stored value is too deep")]
    TooDeep,
}

const NULL: u8 = 0x00;
const FALSE: u8 = 0x01;
const TRUE: u8 = 0x02;
const INT: u8 = 0x03;
const UINT: u8 = 0x04;
const FLOAT: u8 = 0x05;
const STRING: u8 = 0x06;
const BYTES: u8 = 0x07;
const TYPED_BYTES: u8 = 0x08;
const ARRAY: u8 = 0x09;
const MAP: u8 = 0x0A;
const IMPLIED_MAP: u8 = 0x0B;
const SMALL_INT: u8 = 0x40;
const SHORT_STRING: u8 = 0x80;
const SMALL_MAP: u8 = 0xC0;
const SMALL_IMPLIED_MAP: u8 = 0xE0;
const SMALL_ARRAY: u8 = 0xF0;

/// Appends a value.
pub fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(NULL),
        Value::Bool(false) => out.push(FALSE),
        Value::Bool(true) => out.push(TRUE),
        Value::Int(n) => encode_int(*n, out),
        Value::UInt(n) => {
            out.push(UINT);
            out.extend_from_slice(&n.to_le_bytes());
        }
        Value::Float(n) => {
            out.push(FLOAT);
            out.extend_from_slice(&n.to_le_bytes());
        }
        Value::String(text) => {
            head(text.len(), SHORT_STRING, 64, STRING, out);
            out.extend_from_slice(text.as_bytes());
        }
        Value::Bytes(blob) => encode_blob(blob, out),
        Value::Array(items) => {
            head(items.len(), SMALL_ARRAY, 16, ARRAY, out);
            for item in items {
                encode(item, out);
            }
        }
        Value::Map(map) => {
            encode_map_head(map.len(), map.is_implied(), out);
            for (key, value) in map {
                encode_text(key, out);
                encode(value, out);
            }
        }
    }
}

/// Appends a map's head; so many keys ([`encode_text`]) with their values follow, in key order.
pub fn encode_map_head(entries: usize, implied: bool, out: &mut Vec<u8>) {
    if implied {
        head(entries, SMALL_IMPLIED_MAP, 16, IMPLIED_MAP, out);
    } else {
        head(entries, SMALL_MAP, 32, MAP, out);
    }
}

/// Appends a length and that many bytes of text.
pub fn encode_text(text: &str, out: &mut Vec<u8>) {
    encode_bytes(text.as_bytes(), out);
}

/// Appends a length and that many bytes.
pub fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends a number in 1 to 10 bytes, seven bits in each, the lowest first.
#[inline]
pub fn encode_varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n.to_le_bytes()[0] | 0x80);
        n >>= 7;
    }
    out.push(n.to_le_bytes()[0]);
}

fn encode_int(n: i64, out: &mut Vec<u8>) {
    if let Ok(small @ 0..64) = u8::try_from(n) {
        out.push(SMALL_INT + small);
    } else {
        out.push(INT);
        encode_varint(((n << 1) ^ (n >> 63)).cast_unsigned(), out);
    }
}

fn encode_blob(blob: &Blob, out: &mut Vec<u8>) {
    if let Some(media_type) = &blob.media_type {
        out.push(TYPED_BYTES);
        encode_text(media_type, out);
    } else {
        out.push(BYTES);
    }
    encode_bytes(&blob.data, out);
}

/// A count in its tag if it is below `few`, else behind the long tag.
fn head(count: usize, small: u8, few: u8, long: u8, out: &mut Vec<u8>) {
    match u8::try_from(count) {
        Ok(count) if count < few => out.push(small + count),
        Ok(_) | Err(_) => {
            out.push(long);
            encode_varint(count as u64, out);
        }
    }
}

/// Decodes one value that is all of `bytes`.
///
/// # Errors
/// If the bytes are damaged or from a newer version. Never panics, and takes memory only as bytes are there.
pub fn decode(mut bytes: &[u8]) -> Result<Value, StoredError> {
    let value = take(&mut bytes)?;
    if bytes.is_empty() {
        Ok(value)
    } else {
        Err(StoredError::TooLong)
    }
}

/// Decodes the value at the front of `bytes`, and moves behind it.
///
/// # Errors
/// As [`decode`].
pub fn take(bytes: &mut &[u8]) -> Result<Value, StoredError> {
    value(bytes, 0)
}

/// Takes text that [`encode_text`] appended.
///
/// # Errors
/// If the bytes are damaged.
pub fn take_text<'a>(bytes: &mut &'a [u8]) -> Result<&'a str, StoredError> {
    let text = take_bytes(bytes)?;
    std::str::from_utf8(text).map_err(|_| StoredError::NotUtf8)
}

/// Takes bytes that [`encode_bytes`] appended.
///
/// # Errors
/// If the bytes are damaged.
pub fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], StoredError> {
    let length = take_varint(bytes)?;
    slice(
        bytes,
        usize::try_from(length).map_err(|_| StoredError::TooShort)?,
    )
}

/// Takes a number that [`encode_varint`] appended.
///
/// # Errors
/// If the bytes are damaged.
#[inline]
pub fn take_varint(bytes: &mut &[u8]) -> Result<u64, StoredError> {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let byte = byte(bytes)?;
        let part = u64::from(byte & 0x7F);
        if part << shift >> shift != part {
            return Err(StoredError::Varint);
        }
        n |= part << shift;
        if byte < 0x80 {
            return Ok(n);
        }
    }
    Err(StoredError::Varint)
}

fn byte(bytes: &mut &[u8]) -> Result<u8, StoredError> {
    let (byte, rest) = bytes.split_first().ok_or(StoredError::TooShort)?;
    *bytes = rest;
    Ok(*byte)
}

fn eight(bytes: &mut &[u8]) -> Result<[u8; 8], StoredError> {
    let (eight, rest) = bytes.split_first_chunk().ok_or(StoredError::TooShort)?;
    *bytes = rest;
    Ok(*eight)
}

fn slice<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], StoredError> {
    let (slice, rest) = bytes
        .split_at_checked(length)
        .ok_or(StoredError::TooShort)?;
    *bytes = rest;
    Ok(slice)
}

fn value(bytes: &mut &[u8], depth: usize) -> Result<Value, StoredError> {
    if depth > DEPTH_MAX {
        return Err(StoredError::TooDeep);
    }
    let tag = byte(bytes)?;
    match tag {
        NULL => Ok(Value::Null),
        FALSE => Ok(Value::Bool(false)),
        TRUE => Ok(Value::Bool(true)),
        INT => {
            let zigzag = take_varint(bytes)?;
            Ok(Value::Int(
                (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed(),
            ))
        }
        UINT => Ok(Value::from(u64::from_le_bytes(eight(bytes)?))),
        FLOAT => {
            Value::try_from(f64::from_le_bytes(eight(bytes)?)).map_err(|_| StoredError::NotFinite)
        }
        STRING => take_text(bytes).map(Value::from),
        BYTES => blob(bytes, None),
        TYPED_BYTES => {
            let media_type = Text::from(take_text(bytes)?);
            blob(bytes, Some(media_type))
        }
        ARRAY => {
            let count = take_varint(bytes)?;
            array(bytes, count, depth)
        }
        MAP | IMPLIED_MAP => {
            let count = take_varint(bytes)?;
            map(bytes, count, tag == IMPLIED_MAP, depth)
        }
        SMALL_INT..SHORT_STRING => Ok(Value::Int((tag - SMALL_INT).into())),
        SHORT_STRING..SMALL_MAP => {
            let text = slice(bytes, (tag - SHORT_STRING).into())?;
            std::str::from_utf8(text)
                .map(Value::from)
                .map_err(|_| StoredError::NotUtf8)
        }
        SMALL_MAP..SMALL_IMPLIED_MAP => map(bytes, (tag - SMALL_MAP).into(), false, depth),
        SMALL_IMPLIED_MAP..SMALL_ARRAY => map(bytes, (tag - SMALL_IMPLIED_MAP).into(), true, depth),
        SMALL_ARRAY.. => array(bytes, (tag - SMALL_ARRAY).into(), depth),
        _ => Err(StoredError::UnknownTag(tag)),
    }
}

fn blob(bytes: &mut &[u8], media_type: Option<Text>) -> Result<Value, StoredError> {
    let data = Bytes::copy_from_slice(take_bytes(bytes)?);
    Ok(Blob { data, media_type }.into())
}

/// Room for what a row usually holds, then for twice as much as there is: a damaged count takes no more. A list ends
/// with room for what it holds.
fn make_room<T>(list: &mut Vec<T>, count: u64) {
    const FIRST: usize = 64;
    if list.len() == list.capacity() {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let left = count.saturating_sub(list.len());
        list.reserve_exact(left.min(list.len().max(FIRST)));
    }
}

fn array(bytes: &mut &[u8], count: u64, depth: usize) -> Result<Value, StoredError> {
    let mut items = Vec::new();
    for _ in 0..count {
        make_room(&mut items, count);
        items.push(value(bytes, depth + 1)?);
    }
    Ok(Value::Array(items))
}

fn map(bytes: &mut &[u8], count: u64, implied: bool, depth: usize) -> Result<Value, StoredError> {
    let mut entries: Vec<(Text, Value)> = Vec::new();
    for _ in 0..count {
        make_room(&mut entries, count);
        let key = take_text(bytes)?;
        if entries
            .last()
            .is_some_and(|(last, _)| key_cmp(last, key).is_ge())
        {
            return Err(StoredError::KeyOrder);
        }
        entries.push((Text::from(key), value(bytes, depth + 1)?));
    }
    Ok(Value::Map(Map::from_sorted(entries, implied)))
}

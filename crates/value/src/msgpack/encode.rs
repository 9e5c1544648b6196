//! Values to bytes, each in the shortest form that says exactly the same.

use crate::spelling::spelled_key;
use crate::{Blob, Value};

/// Appends a value's MessagePack. Keys go out as they are.
pub fn encode(value: &Value, out: &mut Vec<u8>) {
    write::<false>(value, out);
}

/// Appends a value's MessagePack in the spelling that [`crate::spelling`] reads: data keys of its names are escaped.
pub fn encode_spelled(value: &Value, out: &mut Vec<u8>) {
    write::<true>(value, out);
}

/// Appends a key, spelled as [`encode_spelled`] does.
pub fn encode_key_spelled(key: &str, out: &mut Vec<u8>) {
    text(&spelled_key::<true>(key), out);
}

/// Appends the head of a map of so many entries, which the caller appends.
pub fn map_head(entries: usize, out: &mut Vec<u8>) {
    match entries {
        0..16 => out.push(0x80 | entries.to_le_bytes()[0]),
        _ => wide_head(entries, 0xDE, out),
    }
}

fn write<const SPELLED: bool>(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0xC0),
        Value::Bool(is) => out.push(0xC2 + u8::from(*is)),
        Value::Int(n) if *n < 0 => negative(*n, out),
        Value::Int(n) => unsigned(n.cast_unsigned(), out),
        Value::UInt(n) => unsigned(*n, out),
        Value::Float(n) => float(*n, out),
        Value::String(string) => text(string, out),
        Value::Bytes(blob) => bytes(blob, out),
        Value::Array(items) => {
            match items.len() {
                few @ 0..16 => out.push(0x90 | few.to_le_bytes()[0]),
                many => wide_head(many, 0xDC, out),
            }
            for item in items {
                write::<SPELLED>(item, out);
            }
        }
        Value::Map(map) => {
            map_head(map.len(), out);
            for (key, value) in map {
                text(&spelled_key::<SPELLED>(key), out);
                write::<SPELLED>(value, out);
            }
        }
    }
}

/// A length of 16 or 32 bits behind its tag. The format has no longer ones, and no value is so long.
fn wide_head(length: usize, tag_16: u8, out: &mut Vec<u8>) {
    if let Ok(length) = u16::try_from(length) {
        out.push(tag_16);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(tag_16 + 1);
        out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    }
}

/// A length of 8 to 32 bits behind its tag.
fn string_head(length: usize, tag_8: u8, out: &mut Vec<u8>) {
    match u8::try_from(length) {
        Ok(short) => out.extend_from_slice(&[tag_8, short]),
        Err(_) => wide_head(length, tag_8 + 1, out),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "each arm's range fits")]
fn unsigned(n: u64, out: &mut Vec<u8>) {
    match n {
        0..0x80 => out.push(n as u8),
        0x80..=0xFF => out.extend_from_slice(&[0xCC, n as u8]),
        0x100..=0xFFFF => {
            out.push(0xCD);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        0x1_0000..=0xFFFF_FFFF => {
            out.push(0xCE);
            out.extend_from_slice(&(n as u32).to_be_bytes());
        }
        _ => {
            out.push(0xCF);
            out.extend_from_slice(&n.to_be_bytes());
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "each arm's range fits")]
fn negative(n: i64, out: &mut Vec<u8>) {
    const I8_MIN: i64 = i8::MIN as i64;
    const I16_MIN: i64 = i16::MIN as i64;
    const I32_MIN: i64 = i32::MIN as i64;
    match n {
        -32.. => out.extend_from_slice(&(n as i8).to_be_bytes()),
        I8_MIN.. => {
            out.push(0xD0);
            out.extend_from_slice(&(n as i8).to_be_bytes());
        }
        I16_MIN.. => {
            out.push(0xD1);
            out.extend_from_slice(&(n as i16).to_be_bytes());
        }
        I32_MIN.. => {
            out.push(0xD2);
            out.extend_from_slice(&(n as i32).to_be_bytes());
        }
        _ => {
            out.push(0xD3);
            out.extend_from_slice(&n.to_be_bytes());
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the test is whether anything is lost"
)]
fn float(n: f64, out: &mut Vec<u8>) {
    let single = n as f32;
    if f64::from(single).to_bits() == n.to_bits() {
        out.push(0xCA);
        out.extend_from_slice(&single.to_be_bytes());
    } else {
        out.push(0xCB);
        out.extend_from_slice(&n.to_be_bytes());
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    match text.len() {
        short @ 0..32 => out.push(0xA0 | short.to_le_bytes()[0]),
        long => string_head(long, 0xD9, out),
    }
    out.extend_from_slice(text.as_bytes());
}

fn bytes(blob: &Blob, out: &mut Vec<u8>) {
    if blob.media_type.is_some() {
        map_head(2, out);
        text(".bytes", out);
    }
    string_head(blob.data.len(), 0xC4, out);
    out.extend_from_slice(&blob.data);
    if let Some(media_type) = &blob.media_type {
        text(".type", out);
        text(media_type, out);
    }
}

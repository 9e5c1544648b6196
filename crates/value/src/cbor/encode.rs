//! Values to bytes: shortest integers, shortest exact floats, definite lengths (RFC 8949, 4.1).

use crate::spelling::spelled_key;
use crate::{Blob, Value};

/// Appends a value's CBOR. Keys go out as they are.
pub fn encode(value: &Value, out: &mut Vec<u8>) {
    write::<false>(value, out);
}

/// Appends a value's CBOR in the spelling that [`crate::spelling`] reads: data keys of its names are escaped.
pub fn encode_spelled(value: &Value, out: &mut Vec<u8>) {
    write::<true>(value, out);
}

/// Appends a key, spelled as [`encode_spelled`] does.
pub fn encode_key_spelled(key: &str, out: &mut Vec<u8>) {
    text(&spelled_key::<true>(key), out);
}

/// Appends the head of a map of so many entries, which the caller appends.
pub fn map_head(entries: usize, out: &mut Vec<u8>) {
    head(5, entries as u64, out);
}

/// Begins a map of open length; [`end`] ends it.
pub fn begin_map(out: &mut Vec<u8>) {
    out.push(0xBF);
}

/// Ends a map of open length.
pub fn end(out: &mut Vec<u8>) {
    out.push(0xFF);
}

fn write<const SPELLED: bool>(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0xF6),
        Value::Bool(is) => out.push(0xF4 + u8::from(*is)),
        Value::Int(n) if *n < 0 => head(1, !n.cast_unsigned(), out),
        Value::Int(n) => head(0, n.cast_unsigned(), out),
        Value::UInt(n) => head(0, *n, out),
        Value::Float(n) => float(*n, out),
        Value::String(string) => text(string, out),
        Value::Bytes(blob) => bytes(blob, out),
        Value::Array(items) => {
            head(4, items.len() as u64, out);
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

#[expect(clippy::cast_possible_truncation, reason = "each arm's range fits")]
fn head(major: u8, n: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    match n {
        0..24 => out.push(major | n as u8),
        24..=0xFF => out.extend_from_slice(&[major | 24, n as u8]),
        0x100..=0xFFFF => {
            out.push(major | 25);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        0x1_0000..=0xFFFF_FFFF => {
            out.push(major | 26);
            out.extend_from_slice(&(n as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&n.to_be_bytes());
        }
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    head(3, text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

fn bytes(blob: &Blob, out: &mut Vec<u8>) {
    if blob.media_type.is_some() {
        map_head(2, out);
        text(".bytes", out);
    }
    head(2, blob.data.len() as u64, out);
    out.extend_from_slice(&blob.data);
    if let Some(media_type) = &blob.media_type {
        text(".type", out);
        text(media_type, out);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the test is whether anything is lost"
)]
fn float(n: f64, out: &mut Vec<u8>) {
    let single = n as f32;
    if f64::from(single).to_bits() != n.to_bits() {
        out.push(0xFB);
        out.extend_from_slice(&n.to_be_bytes());
    } else if let Some(half) = f32_to_f16(single) {
        out.push(0xF9);
        out.extend_from_slice(&half.to_be_bytes());
    } else {
        out.push(0xFA);
        out.extend_from_slice(&single.to_be_bytes());
    }
}

/// The half float that says exactly the same, if there is one. Infinities and NaN are no values.
fn f32_to_f16(single: f32) -> Option<u16> {
    let bits = single.to_bits();
    let sign = u16::try_from(bits >> 16).ok()? & 0x8000;
    let (exponent, fraction) = ((bits >> 23) & 0xFF, bits & 0x7F_FFFF);
    let size = match exponent {
        0 if fraction == 0 => Some(0),
        // The exponents of a normal half: -14 to 15.
        113..=142 => exact_shift((exponent - 112) << 23 | fraction, 13),
        // Of a subnormal: -24 to -15. The leading one becomes part of the fraction.
        103..=112 => exact_shift(0x80_0000 | fraction, 126 - exponent),
        _ => None,
    }?;
    Some(sign | u16::try_from(size).ok()?)
}

/// `n >> by`, if no bit is lost.
const fn exact_shift(n: u32, by: u32) -> Option<u32> {
    let shifted = n >> by;
    if shifted << by == n {
        Some(shifted)
    } else {
        None
    }
}

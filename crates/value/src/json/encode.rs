//! Values to bytes, straight into the caller's buffer: this is on the way of every event.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::spelling::spelled_key;
use crate::{Blob, Map, Value};

/// Appends a value's JSON. Keys go out as they are.
pub fn encode(value: &Value, out: &mut Vec<u8>) {
    write::<false>(value, out);
}

/// Appends a value's JSON in the spelling that [`crate::spelling`] reads: data keys of its names are escaped.
pub fn encode_spelled(value: &Value, out: &mut Vec<u8>) {
    write::<true>(value, out);
}

/// Appends a key as a JSON string (without the colon), spelled as [`encode_spelled`] does.
pub fn encode_key_spelled(key: &str, out: &mut Vec<u8>) {
    encode_string(&spelled_key::<true>(key), out);
}

fn write<const SPELLED: bool>(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write::<SPELLED>(item, out);
            }
            out.push(b']');
        }
        Value::Map(map) => write_map::<SPELLED>(map, out),
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::UInt(_)
        | Value::Float(_)
        | Value::String(_)
        | Value::Bytes(_) => write_scalar(value, out),
    }
}

fn write_map<const SPELLED: bool>(map: &Map, out: &mut Vec<u8>) {
    out.push(b'{');
    for (i, (key, value)) in map.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        encode_string(&spelled_key::<SPELLED>(key), out);
        out.push(b':');
        write::<SPELLED>(value, out);
    }
    out.push(b'}');
}

fn write_scalar(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(n) => out.extend_from_slice(itoa::Buffer::new().format(*n).as_bytes()),
        Value::UInt(n) => out.extend_from_slice(itoa::Buffer::new().format(*n).as_bytes()),
        Value::Float(n) => write_float(*n, out),
        Value::String(text) => encode_string(text, out),
        Value::Bytes(blob) => write_blob(blob, out),
        Value::Array(_) | Value::Map(_) => {}
    }
}

/// A float is finite by its invariant; were one not, `null` is at least JSON.
fn write_float(n: f64, out: &mut Vec<u8>) {
    if n.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(n).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

fn write_blob(blob: &Blob, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\".bytes\":\"");
    let start = out.len();
    out.resize(start + blob.data.len().div_ceil(3) * 4, b'=');
    let written = STANDARD.encode_slice(&blob.data, &mut out[start..]);
    debug_assert_eq!(
        written,
        Ok(out.len() - start),
        "padded base64 has this length"
    );
    out.push(b'"');
    if let Some(media_type) = &blob.media_type {
        out.extend_from_slice(b",\".type\":");
        encode_string(media_type, out);
    }
    out.push(b'}');
}

/// Appends a JSON string. Control characters never come out raw, so no line can be forged with it.
pub fn encode_string(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = first_special(rest) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        write_escape(special[0], out);
        rest = &special[1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn write_escape(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0C => b'f',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Where the first byte is that needs an escape: a control character, `"` or `\`. Eight bytes at a time.
fn first_special(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let zero_bytes = |word: u64| word.wrapping_sub(ONES) & !word;
    let (words, tail) = bytes.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let quote = zero_bytes(word ^ (ONES * u64::from(b'"')));
        let backslash = zero_bytes(word ^ (ONES * u64::from(b'\\')));
        // A borrow can only mark bytes behind a true hit, so the lowest mark is right.
        let marks = (control | quote | backslash) & HIGH;
        if marks != 0 {
            return Some(i * 8 + marks.trailing_zeros() as usize / 8);
        }
    }
    let special = |byte: &u8| *byte < 0x20 || matches!(*byte, b'"' | b'\\');
    tail.iter().position(special).map(|at| words.len() * 8 + at)
}

/// Appends a value's JSON for people, two spaces per level, spelled as [`encode_spelled`] does.
pub fn encode_pretty(value: &Value, out: &mut Vec<u8>) {
    write_pretty(value, 0, out);
}

fn write_pretty(value: &Value, level: usize, out: &mut Vec<u8>) {
    match value {
        Value::Array(items) if !items.is_empty() => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                write_line(i, level + 1, out);
                write_pretty(item, level + 1, out);
            }
            write_line(0, level, out);
            out.push(b']');
        }
        Value::Map(map) if !map.is_empty() => {
            out.push(b'{');
            for (i, (key, item)) in map.iter().enumerate() {
                write_line(i, level + 1, out);
                encode_key_spelled(key, out);
                out.extend_from_slice(b": ");
                write_pretty(item, level + 1, out);
            }
            write_line(0, level, out);
            out.push(b'}');
        }
        _ => encode_spelled(value, out),
    }
}

fn write_line(entry: usize, level: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(if entry > 0 { b",\n" } else { b"\n" });
    out.resize(out.len() + 2 * level, b' ');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::VALUE_KEY;

    fn json(value: &Value) -> String {
        let mut out = Vec::new();
        encode(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_keep_their_point_and_their_sign() {
        for (n, text) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e300, "1e+300"),
            (5e-324, "5e-324"),
        ] {
            assert_eq!(json(&Value::Float(n)), text);
        }
    }

    #[test]
    fn bytes_are_base64_with_their_type() {
        assert_eq!(json(&Value::bytes("")), r#"{".bytes":""}"#);
        assert_eq!(json(&Value::bytes("abcd")), r#"{".bytes":"YWJjZA=="}"#);
        let blob = Blob {
            data: "abc".into(),
            media_type: Some("a/\"b".into()),
        };
        assert_eq!(json(&blob.into()), r#"{".bytes":"YWJj",".type":"a/\"b"}"#);
    }

    #[test]
    fn data_keys_of_reserved_names_are_escaped_where_such_keys_are_read() {
        let map: Map = [
            (VALUE_KEY, 1),
            (".value", 2),
            ("%2Evalue", 3),
            (".other", 4),
        ]
        .into_iter()
        .collect();
        let mut out = Vec::new();
        encode_spelled(&map.clone().into(), &mut out);
        let spelled = r#"{".value":1,"%252Evalue":3,".other":4,"%2Evalue":2}"#;
        assert_eq!(String::from_utf8(out).unwrap(), spelled);
        assert_eq!(
            json(&map.into()),
            r#"{".value":1,"%2Evalue":3,".other":4,".value":2}"#
        );
    }

    #[test]
    fn pretty_is_for_people() {
        let inner: Map = [("x", Value::Array(vec![])), ("y", Value::empty_map())]
            .into_iter()
            .collect();
        let value = Value::Array(vec![Value::Int(1), inner.into()]);
        let mut out = Vec::new();
        encode_pretty(&value, &mut out);
        let text = "[\n  1,\n  {\n    \"x\": [],\n    \"y\": {}\n  }\n]";
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }

    proptest! {
        #[test]
        fn strings_come_out_as_a_second_encoder_writes_them(text in "[\\x00-\\x7f\u{80}-\u{ffff}\"\\\\]{0,40}") {
            let mut out = Vec::new();
            encode_string(&text, &mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(&text).unwrap());
        }
    }
}

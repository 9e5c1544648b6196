//! What a fuzzer feeds: bytes in, a panic where a promise is broken.

use crate::{DecodeError, Limits, Value, cbor, json, msgpack, stored};

/// Decodes and encodes JSON, and holds it against a second parser.
///
/// # Panics
/// If a value does not come back as it went, or the parsers differ.
pub fn json(bytes: &[u8]) {
    let decoded = there_and_back(bytes, json::decode, json::encode);
    let theirs = serde_json::from_slice::<serde_json::Value>(bytes);
    if let (Ok(ours), Ok(theirs)) = (&decoded, &theirs) {
        let mut out = Vec::new();
        json::encode(ours, &mut out);
        let ours: serde_json::Value = serde_json::from_slice(&out).unwrap_or_default();
        assert_eq!(ours, *theirs);
    }
    assert!(decoded.is_err() || theirs.is_ok(), "accepted alone");
    if let Ok(value) = &decoded {
        through(value);
    }
}

/// Decodes and encodes CBOR.
///
/// # Panics
/// If a value does not come back as it went.
pub fn cbor(bytes: &[u8]) {
    if let Ok(value) = there_and_back(bytes, cbor::decode, cbor::encode) {
        through(&value);
    }
}

/// Decodes and encodes MessagePack.
///
/// # Panics
/// If a value does not come back as it went.
pub fn msgpack(bytes: &[u8]) {
    if let Ok(value) = there_and_back(bytes, msgpack::decode, msgpack::encode) {
        through(&value);
    }
}

/// Decodes and encodes a stored value.
///
/// # Panics
/// If a value does not come back as it went.
pub fn stored(bytes: &[u8]) {
    if let Ok(value) = stored::decode(bytes) {
        let mut out = Vec::new();
        stored::encode(&value, &mut out);
        assert_eq!(stored::decode(&out).as_ref(), Ok(&value));
    }
}

type Decode = fn(&[u8], &Limits) -> Result<Value, DecodeError>;
type Encode = fn(&Value, &mut Vec<u8>);

fn there_and_back(bytes: &[u8], decode: Decode, encode: Encode) -> Result<Value, DecodeError> {
    let decoded = decode(bytes, &Limits::default());
    match &decoded {
        Ok(value) => {
            let mut out = Vec::new();
            encode(value, &mut out);
            // JSON has no bytes, so there it is the second time that stays.
            let again = decode(&out, &WIDE);
            let mut twice = Vec::new();
            encode(again.as_ref().unwrap_or(&Value::Null), &mut twice);
            assert_eq!(out, twice, "encoding is stable");
            assert_eq!(again.as_ref(), Ok(value));
        }
        Err(error) => assert!(error.offset <= bytes.len(), "the offset lies within"),
    }
    decoded
}

/// A value carries over to every other format, spelled so that its keys stay data.
fn through(value: &Value) {
    let mut out = Vec::new();
    stored::encode(value, &mut out);
    assert_eq!(stored::decode(&out).as_ref(), Ok(value));
    for format in [
        crate::Format::Json,
        crate::Format::Cbor,
        crate::Format::MessagePack,
    ] {
        out.clear();
        format.encode_spelled(value, &mut out);
        let read = format
            .decode_spelled(&out, &WIDE)
            .map(|spelled| spelled.value);
        assert_eq!(read.as_ref(), Ok(value), "{format:?}");
    }
}

/// An encoding may be longer than what it was decoded from, and bytes in JSON a level deeper.
const WIDE: Limits = Limits {
    depth: 66,
    value_bytes: 1 << 30,
    string_bytes: 1 << 30,
    memory_bytes: 1 << 34,
};

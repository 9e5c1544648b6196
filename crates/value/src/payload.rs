//! Bytes that come with a media type, or without.

use bytes::Bytes;

use crate::budget::{self, Fault};
use crate::{Blob, DecodeError, DecodeErrorKind, Limits, Text, Value, cbor, json, msgpack};

/// A format that says values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// JSON: `application/json`, `text/json`, `…+json`.
    Json,
    /// CBOR: `application/cbor`, `…+cbor`.
    Cbor,
    /// MessagePack: `application/msgpack`, `application/x-msgpack`, `application/vnd.msgpack`, `…+msgpack`.
    MessagePack,
}

impl Format {
    /// All of them, the one that we like best first.
    pub const ALL: [Self; 3] = [Self::Json, Self::Cbor, Self::MessagePack];

    /// The format that a media type names, whatever its parameters.
    pub fn of(media_type: &str) -> Option<Self> {
        let essence = essence(media_type);
        match essence.as_str() {
            "application/json" | "text/json" => Some(Self::Json),
            "application/cbor" => Some(Self::Cbor),
            "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => {
                Some(Self::MessagePack)
            }
            _ => match essence.rsplit_once('+')?.1 {
                "json" => Some(Self::Json),
                "cbor" => Some(Self::Cbor),
                "msgpack" => Some(Self::MessagePack),
                _ => None,
            },
        }
    }

    /// The media type that we answer with.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Cbor => "application/cbor",
            Self::MessagePack => "application/msgpack",
        }
    }

    /// Decodes a value; every key is data.
    ///
    /// # Errors
    /// As the format's own `decode`.
    pub fn decode(self, bytes: &[u8], limits: &Limits) -> Result<Value, DecodeError> {
        match self {
            Self::Json => json::decode(bytes, limits),
            Self::Cbor => cbor::decode(bytes, limits),
            Self::MessagePack => msgpack::decode(bytes, limits),
        }
    }

    /// Decodes a value, and reads the keys of [`crate::spelling`].
    ///
    /// # Errors
    /// As the format's own `decode_spelled`.
    pub fn decode_spelled(
        self,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<crate::Spelled, crate::ReadError> {
        match self {
            Self::Json => json::decode_spelled(bytes, limits),
            Self::Cbor => cbor::decode_spelled(bytes, limits),
            Self::MessagePack => msgpack::decode_spelled(bytes, limits),
        }
    }

    /// Appends a value; keys go out as they are.
    pub fn encode(self, value: &Value, out: &mut Vec<u8>) {
        match self {
            Self::Json => json::encode(value, out),
            Self::Cbor => cbor::encode(value, out),
            Self::MessagePack => msgpack::encode(value, out),
        }
    }

    /// Appends a value in the spelling of [`crate::spelling`].
    pub fn encode_spelled(self, value: &Value, out: &mut Vec<u8>) {
        match self {
            Self::Json => json::encode_spelled(value, out),
            Self::Cbor => cbor::encode_spelled(value, out),
            Self::MessagePack => msgpack::encode_spelled(value, out),
        }
    }
}

/// A media type in lower case, without its parameters.
fn essence(media_type: &str) -> Text {
    let essence = media_type.split(';').next().unwrap_or_default();
    Text::from(essence.trim()).to_ascii_lowercase()
}

/// The value of a payload that came without a media type: JSON if it parses, else a string if it is text, else bytes.
///
/// What is JSON by its syntax but no value (a key that is there twice, too deep, a number beyond all floats) is bytes,
/// so that nobody takes it for a string.
pub fn decode_payload(bytes: &[u8], limits: &Limits) -> Value {
    if let Ok(value) = json::decode(bytes, limits) {
        return value;
    }
    let text = std::str::from_utf8(bytes)
        .ok()
        .filter(|_| bytes.len() <= limits.string_bytes);
    match text {
        Some(text) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() => {
            Value::from(text)
        }
        Some(_) | None => Value::bytes(Bytes::copy_from_slice(bytes)),
    }
}

/// The value of a payload of a known media type: data by its format, `text/plain` as a string, anything else as bytes
/// with their type (`application/octet-stream` says nothing, and is left out).
///
/// # Errors
/// If the bytes are not what the type says, or past a limit.
pub fn decode_typed(bytes: &[u8], media_type: &str, limits: &Limits) -> Result<Value, DecodeError> {
    if let Some(format) = Format::of(media_type) {
        return format.decode(bytes, limits);
    }
    budget::short(bytes.len(), limits).map_err(|fault| fault.at(0, None))?;
    let essence = essence(media_type);
    if essence == "text/plain" && is_utf8(media_type) {
        return std::str::from_utf8(bytes)
            .map(Value::from)
            .map_err(|error| {
                Fault::new(DecodeErrorKind::NotUtf8, "text that is not UTF-8")
                    .at(error.valid_up_to(), None)
            });
    }
    let media_type = (essence != "application/octet-stream").then(|| Text::from(media_type.trim()));
    Ok(Blob {
        data: Bytes::copy_from_slice(bytes),
        media_type,
    }
    .into())
}

/// Whether a text type's `charset` is UTF-8 or a part of it; without one it is.
fn is_utf8(media_type: &str) -> bool {
    let parameter = |part: &str| {
        let (name, value) = part.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("charset")
            .then(|| value.trim().trim_matches('"').to_ascii_lowercase())
    };
    let charset = media_type.split(';').skip(1).find_map(parameter);
    charset.is_none_or(|charset| matches!(charset.as_str(), "utf-8" | "utf8" | "us-ascii"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(bytes: &[u8]) -> Value {
        decode_payload(bytes, &Limits::default())
    }

    #[test]
    fn a_payload_is_json_else_text_else_bytes() {
        assert_eq!(payload(b" 21.5 "), Value::Float(21.5));
        assert_eq!(payload(b"null"), Value::Null);
        assert_eq!(payload(b"ON"), Value::from("ON"));
        assert_eq!(payload(b"{\"a\":1} x"), Value::from("{\"a\":1} x"));
        assert_eq!(payload(b""), Value::from(""));
        assert_eq!(payload(b"\xff"), Value::bytes(&b"\xff"[..]));
    }

    #[test]
    fn json_that_is_no_value_is_bytes() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for text in ["{\"a\":1,\"a\":2}", "[1e999]", deep.as_str()] {
            assert_eq!(
                payload(text.as_bytes()),
                Value::bytes(text.as_bytes().to_vec())
            );
        }
        assert_eq!(
            payload(b"{\"a\":1,\"a\":2} x"),
            Value::from("{\"a\":1,\"a\":2} x")
        );
    }

    #[test]
    fn a_media_type_says_what_the_bytes_are() {
        let typed = |bytes: &[u8], media_type| decode_typed(bytes, media_type, &Limits::default());
        assert_eq!(
            typed(b"[1]", "Application/JSON; charset=utf-8"),
            Ok(Value::Array(vec![Value::Int(1)]))
        );
        assert_eq!(
            typed(b"[1]", "application/geo+json"),
            Ok(Value::Array(vec![Value::Int(1)]))
        );
        assert_eq!(
            typed(b"\x81\x01", "application/cbor"),
            Ok(Value::Array(vec![Value::Int(1)]))
        );
        assert_eq!(
            typed(b"\x91\x01", "application/x-msgpack"),
            Ok(Value::Array(vec![Value::Int(1)]))
        );
        assert_eq!(
            typed(b"[1]", "text/plain; charset=\"UTF-8\""),
            Ok(Value::from("[1]"))
        );
        assert_eq!(typed(b"\xff", "text/plain").unwrap_err().code(), "not_utf8");
        assert_eq!(
            typed(b"[1", "application/json").unwrap_err().code(),
            "malformed"
        );
        assert_eq!(
            typed(b"x", "application/octet-stream"),
            Ok(Value::bytes("x"))
        );
        let typed_bytes = |media_type: &str| {
            Value::from(Blob {
                data: "x".into(),
                media_type: Some(media_type.into()),
            })
        };
        for media_type in ["image/png", "text/html", "text/plain; charset=latin1"] {
            assert_eq!(typed(b"x", media_type), Ok(typed_bytes(media_type)));
        }
    }
}

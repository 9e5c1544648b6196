//! The keys that say what JSON has no word for: `.bytes`, `.type`, `.value`, `.priority` and `.sv`.
//!
//! The HTTP door's bodies, and our own protocol's, read them so in every format; all other keys are data, also those
//! with a leading dot. A *data* key of such a name goes out and comes in as `%2Evalue`, and so on, and one that reads
//! as such an escape gets `%25` for its `%`. So each key has one spelling, and each spelling one key.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::map::shown;
use crate::{Blob, DecodeError, Map, Text, VALUE_KEY, Value};

/// The names that are keys of their own behind a dot.
const NAMES: [&str; 5] = ["bytes", "type", "value", "priority", "sv"];

/// Memory for the paths of what one value says beside itself: each is whole, and many may share a long beginning.
const PATHS_BYTES_MAX: usize = 32 << 20;

/// A value with what its spelling said beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spelled {
    /// The value; null where a server value goes.
    pub value: Value,
    /// Where the server sets a value, by keys and indexes from the root.
    pub server_values: Vec<(Vec<Text>, ServerValue)>,
    /// Which paths carry a priority: a null, a number or a string.
    pub priorities: Vec<(Vec<Text>, Value)>,
}

impl Spelled {
    /// A value that says nothing beside itself.
    pub const fn plain(value: Value) -> Self {
        Self {
            value,
            server_values: Vec::new(),
            priorities: Vec::new(),
        }
    }
}

/// A value that only the server can give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerValue {
    /// The time of the commit: `{".sv": "timestamp"}`.
    Timestamp,
    /// The number that lies there, plus this one: `{".sv": {"increment": 5}}`.
    Increment(Value),
}

/// Why a spelling cannot be read. Safe to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpellingError {
    /// What is wrong.
    pub kind: SpellingErrorKind,
    /// Where, by keys and indexes from the root.
    pub path: Vec<Text>,
}

/// What can be wrong with a spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum SpellingErrorKind {
    /// `.value`, `.sv` or `.bytes` beside keys that do not go with it.
    #[error("`.value`, `.sv` or `.bytes` beside other keys")]
    MixedValue,
    /// `.bytes` that is no base64, or `.type` that is no string or without `.bytes`.
    #[error("`.bytes` must be base64 text, and `.type` a string beside it")]
    BadBytes,
    /// `.sv` that names no server value.
    #[error("`.sv` must be \"timestamp\" or {{\"increment\": a number}}")]
    BadServerValue,
    /// `.priority` that is none, or two for one place.
    #[error("`.priority` must be one number, string or null")]
    BadPriority,
    /// Server values and priorities whose paths take too much memory.
    #[error("server values and priorities at too many places")]
    TooMany,
}

impl SpellingError {
    /// The fault's stable name.
    pub const fn code(&self) -> &'static str {
        match self.kind {
            SpellingErrorKind::MixedValue => "mixed_value",
            SpellingErrorKind::BadBytes => "bad_bytes",
            SpellingErrorKind::BadServerValue => "bad_server_value",
            SpellingErrorKind::BadPriority => "bad_priority",
            SpellingErrorKind::TooMany => "too_large",
        }
    }
}

impl fmt::Display for SpellingError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at /", self.kind)?;
        for (i, key) in self.path.iter().enumerate() {
            write!(formatter, "{}{}", if i > 0 { "/" } else { "" }, shown(key))?;
        }
        Ok(())
    }
}

impl std::error::Error for SpellingError {}

/// Why a body is no value: its bytes, or its spelling.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The bytes are not the format.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The keys do not go together.
    #[error(transparent)]
    Spelling(#[from] SpellingError),
}

impl ReadError {
    /// The fault's stable name.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Decode(error) => error.code(),
            Self::Spelling(error) => error.code(),
        }
    }
}

/// Reads the spelling of a decoded value.
///
/// # Errors
/// If the keys do not go together, or hold what they cannot.
pub fn read(value: Value) -> Result<Spelled, SpellingError> {
    let mut reader = Reader::default();
    let value = reader.value(value)?;
    let Reader {
        server_values,
        priorities,
        ..
    } = reader;
    Ok(Spelled {
        value,
        server_values,
        priorities,
    })
}

#[derive(Default)]
struct Reader {
    path: Vec<Text>,
    server_values: Vec<(Vec<Text>, ServerValue)>,
    priorities: Vec<(Vec<Text>, Value)>,
    /// What the paths in both take.
    paths_bytes: usize,
}

/// A map taken apart: what its reserved keys hold, and the rest.
#[derive(Default)]
struct Parts {
    bytes: Option<Value>,
    media_type: Option<Value>,
    value: Option<Value>,
    priority: Option<Value>,
    server: Option<Value>,
    data: Vec<(Text, Value)>,
}

impl Reader {
    fn value(&mut self, value: Value) -> Result<Value, SpellingError> {
        match value {
            Value::Map(map) => self.map(map),
            Value::Array(mut items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    if matches!(item, Value::Map(_) | Value::Array(_)) {
                        *item = self.child(Text::from(i.to_string()), std::mem::take(item))?;
                    }
                }
                Ok(Value::Array(items))
            }
            scalar => Ok(scalar),
        }
    }

    fn child(&mut self, key: Text, value: Value) -> Result<Value, SpellingError> {
        self.path.push(key);
        let value = self.value(value)?;
        let _key: Option<Text> = self.path.pop();
        Ok(value)
    }

    fn map(&mut self, mut map: Map) -> Result<Value, SpellingError> {
        if map.keys().any(|key| key.starts_with(['.', '%'])) {
            return self.parts(Parts::of(map));
        }
        for (key, value) in map.iter_mut() {
            if matches!(value, Value::Map(_) | Value::Array(_)) {
                *value = self.child(key.clone(), std::mem::take(value))?;
            }
        }
        Ok(Value::Map(map))
    }

    fn parts(&mut self, parts: Parts) -> Result<Value, SpellingError> {
        let Parts {
            bytes,
            media_type,
            value,
            priority,
            server,
            data,
        } = parts;
        let claims = usize::from(bytes.is_some() || media_type.is_some())
            + usize::from(value.is_some())
            + usize::from(server.is_some())
            + usize::from(!data.is_empty());
        if claims > 1 {
            return Err(self.error(SpellingErrorKind::MixedValue));
        }
        if let Some(priority) = priority {
            self.priority(priority)?;
        }
        if bytes.is_some() || media_type.is_some() {
            return blob(bytes, media_type).ok_or_else(|| self.error(SpellingErrorKind::BadBytes));
        }
        if let Some(server) = server {
            let server = server_value(server)
                .ok_or_else(|| self.error(SpellingErrorKind::BadServerValue))?;
            let path = self.place()?;
            self.server_values.push((path, server));
            return Ok(Value::Null);
        }
        match value {
            Some(value) => self.value(value),
            None => self.data(data),
        }
    }

    fn data(&mut self, mut data: Vec<(Text, Value)>) -> Result<Value, SpellingError> {
        for (key, value) in &mut data {
            *value = self.child(key.clone(), std::mem::take(value))?;
        }
        // Two spellings never give one key.
        Map::from_entries(data)
            .map(Value::Map)
            .map_err(|_| self.error(SpellingErrorKind::MixedValue))
    }

    fn priority(&mut self, priority: Value) -> Result<(), SpellingError> {
        let fits = priority.is_null() || priority.is_number() || priority.as_str().is_some();
        let twice = self
            .priorities
            .last()
            .is_some_and(|(path, _)| *path == self.path);
        if !fits || twice {
            return Err(self.error(SpellingErrorKind::BadPriority));
        }
        let path = self.place()?;
        self.priorities.push((path, priority));
        Ok(())
    }

    /// Where we are, to be kept.
    fn place(&mut self) -> Result<Vec<Text>, SpellingError> {
        let entry = size_of::<(Vec<Text>, Value)>();
        let keys = self.path.iter().map(|key| size_of::<Text>() + key.len());
        self.paths_bytes += entry + keys.sum::<usize>();
        if self.paths_bytes > PATHS_BYTES_MAX {
            return Err(self.error(SpellingErrorKind::TooMany));
        }
        Ok(self.path.clone())
    }

    fn error(&self, kind: SpellingErrorKind) -> SpellingError {
        SpellingError {
            kind,
            path: self.path.clone(),
        }
    }
}

impl Parts {
    fn of(map: Map) -> Self {
        let mut parts = Self::default();
        for (key, value) in map {
            match key.as_str() {
                ".bytes" => parts.bytes = Some(value),
                ".type" => parts.media_type = Some(value),
                ".value" => parts.value = Some(value),
                ".priority" => parts.priority = Some(value),
                ".sv" => parts.server = Some(value),
                _ => {
                    let key = match unescape_key(&key) {
                        Cow::Owned(data) => Text::from(data),
                        Cow::Borrowed(_) => key,
                    };
                    parts.data.push((key, value));
                }
            }
        }
        parts
    }
}

fn blob(bytes: Option<Value>, media_type: Option<Value>) -> Option<Value> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let data = match bytes? {
        Value::String(text) => GeneralPurpose::new(&STANDARD, LENIENT)
            .decode(text)
            .ok()?
            .into(),
        // CBOR and MessagePack have bytes of their own.
        Value::Bytes(blob) => blob.data,
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::UInt(_)
        | Value::Float(_)
        | Value::Array(_)
        | Value::Map(_) => return None,
    };
    let media_type = match media_type {
        None => None,
        Some(Value::String(text)) => Some(text),
        Some(_) => return None,
    };
    Some(Blob { data, media_type }.into())
}

fn server_value(value: Value) -> Option<ServerValue> {
    match value {
        Value::String(name) if name == "timestamp" => Some(ServerValue::Timestamp),
        Value::Map(mut map) if map.len() == 1 => {
            let by = map.remove("increment").filter(Value::is_number)?;
            Some(ServerValue::Increment(by))
        }
        _ => None,
    }
}

/// The spelling of a data key.
pub fn escape_key(key: &str) -> Cow<'_, str> {
    if let Some(name) = key.strip_prefix('.').filter(|name| NAMES.contains(name)) {
        return Cow::Owned(format!("%2E{name}"));
    }
    match escape_body(key) {
        Some(body) => Cow::Owned(format!("%25{body}")),
        None => Cow::Borrowed(key),
    }
}

/// The data key that a spelling stands for.
pub fn unescape_key(key: &str) -> Cow<'_, str> {
    match escape_body(key).and_then(|body| body.split_at_checked(2)) {
        Some(("2E", name)) => Cow::Owned(format!(".{name}")),
        Some((_, escape)) => Cow::Owned(format!("%{escape}")),
        None => Cow::Borrowed(key),
    }
}

/// What follows the `%` of a key that reads as an escape: any number of `25`, then `2E` and a reserved name.
fn escape_body(key: &str) -> Option<&str> {
    let body = key.strip_prefix('%')?;
    let name = body.trim_start_matches("25").strip_prefix("2E")?;
    NAMES.contains(&name).then_some(body)
}

/// A key of the value model as an encoder writes it.
#[inline]
pub(crate) fn spelled_key<const SPELLED: bool>(key: &str) -> Cow<'_, str> {
    match key.as_bytes().first() {
        Some(0) if key == VALUE_KEY => Cow::Borrowed(".value"),
        Some(b'.' | b'%') if SPELLED => escape_key(key),
        Some(_) | None => Cow::Borrowed(key),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Limits, json};

    fn spelled(text: &str) -> Result<Spelled, ReadError> {
        json::decode_spelled(text.as_bytes(), &Limits::default())
    }

    fn value(text: &str) -> Value {
        spelled(text).unwrap().value
    }

    fn code(text: &str) -> &'static str {
        spelled(text).unwrap_err().code()
    }

    fn path(text: &str) -> Vec<Text> {
        text.split('/')
            .filter(|key| !key.is_empty())
            .map(Text::from)
            .collect()
    }

    #[test]
    fn bytes_come_in_as_base64_with_or_without_padding_and_type() {
        let blob = |data: &'static str, media_type: Option<&str>| {
            Value::from(Blob {
                data: data.into(),
                media_type: media_type.map(Text::from),
            })
        };
        assert_eq!(value(r#"{".bytes":"YWI="}"#), blob("ab", None));
        assert_eq!(
            value(r#"{".bytes":"YWI",".type":"image/png"}"#),
            blob("ab", Some("image/png"))
        );
        for bad in [
            r#"{".bytes":"YW_"}"#,
            r#"{".bytes":"Y"}"#,
            r#"{".bytes":1}"#,
            r#"{".type":"a"}"#,
            r#"{".bytes":"",".type":1}"#,
        ] {
            assert_eq!(code(bad), "bad_bytes", "{bad}");
        }
        assert_eq!(code(r#"{".bytes":"","a":1}"#), "mixed_value");
    }

    #[test]
    fn server_values_are_told_by_path() {
        let read =
            spelled(r#"{"a":[1,{".sv":"timestamp"}],"%2Esv":{".sv":{"increment":2.5}}}"#).unwrap();
        assert_eq!(
            read.server_values,
            [
                (path(".sv"), ServerValue::Increment(Value::Float(2.5))),
                (path("a/1"), ServerValue::Timestamp),
            ]
        );
        assert_eq!(
            read.value.child("a").and_then(|a| a.child("1")),
            Some(&Value::Null)
        );
        for bad in [
            "\"now\"",
            "1",
            "{}",
            r#"{"increment":"1"}"#,
            r#"{"increment":1,"by":2}"#,
        ] {
            assert_eq!(
                code(&format!("{{\".sv\":{bad}}}")),
                "bad_server_value",
                "{bad}"
            );
        }
        assert_eq!(code(r#"{".sv":"timestamp","a":1}"#), "mixed_value");
    }

    #[test]
    fn a_value_may_stand_alone_or_with_its_priority() {
        assert_eq!(
            value(r#"{".value":{".value":[1]}}"#),
            Value::Array(vec![Value::Int(1)])
        );
        let read =
            spelled(r#"{"a":{".value":5,".priority":"p"},"b":{"c":1,".priority":2}}"#).unwrap();
        assert_eq!(
            read.priorities,
            [(path("a"), Value::from("p")), (path("b"), Value::Int(2))]
        );
        assert_eq!(read.value.child("a"), Some(&Value::Int(5)));
        let error = spelled(r#"{"x":{".value":5,"a":1}}"#).unwrap_err();
        assert_eq!(error.code(), "mixed_value");
        assert!(error.to_string().ends_with("at /x"), "{error}");
        assert_eq!(code(r#"{".priority":true,"a":1}"#), "bad_priority");
        assert_eq!(
            code(r#"{".priority":1,".value":{".priority":2}}"#),
            "bad_priority"
        );
    }

    #[test]
    fn many_server_values_below_a_long_key_do_not_take_its_length_each() {
        let key = "k".repeat(64 << 10);
        let many = vec![r#"{".sv":"timestamp"}"#; 2_000].join(",");
        assert_eq!(code(&format!("{{\"{key}\":[{many}]}}")), "too_large");
        let many = vec![r#"{".value":1,".priority":2}"#; 2_000].join(",");
        assert_eq!(code(&format!("{{\"{key}\":[{many}]}}")), "too_large");
        assert_eq!(
            spelled(&format!("{{\"k\":[{many}]}}"))
                .unwrap()
                .priorities
                .len(),
            2_000
        );
    }

    #[test]
    fn all_other_keys_are_data() {
        for text in [
            r#"{".x":1}"#,
            r#"{"%2Ex":1}"#,
            r#"{"%2evalue":1}"#,
            r#"{"%":1,"%25":2}"#,
            r#"{"__proto__":1}"#,
        ] {
            let plain = json::decode(text.as_bytes(), &Limits::default()).unwrap();
            assert_eq!(value(text), plain, "{text}");
        }
        let read = value(r#"{"%2Evalue":1,"%252Evalue":2,"%25252Evalue":3}"#);
        let keys: Vec<&Text> = read.as_map().unwrap().keys().collect();
        assert_eq!(keys, ["%252Evalue", "%2Evalue", ".value"]);
    }

    #[test]
    fn a_scalar_with_records_below_is_written_and_not_read_back() {
        let map: Map = [(VALUE_KEY, 1), ("child", 2)].into_iter().collect();
        let mut out = Vec::new();
        json::encode_spelled(&map.into(), &mut out);
        assert_eq!(
            std::str::from_utf8(&out).unwrap(),
            r#"{".value":1,"child":2}"#
        );
        assert_eq!(code(std::str::from_utf8(&out).unwrap()), "mixed_value");
    }

    fn keys() -> impl Strategy<Value = String> {
        prop_oneof![
            "[.%]{0,2}(25){0,3}(2E)?[.]?(value|bytes|type|sv|priority|x|)",
            "[.%25EVa]{0,8}",
            any::<String>(),
        ]
    }

    proptest! {
        #[test]
        fn each_key_has_one_spelling(key in keys()) {
            let escaped = escape_key(&key);
            prop_assert!(!NAMES.iter().any(|name| escaped.strip_prefix('.') == Some(name)));
            prop_assert_eq!(unescape_key(&escaped), key.as_str());
        }

        #[test]
        fn each_spelling_has_one_key(spelling in keys()) {
            prop_assume!(!NAMES.iter().any(|name| spelling.strip_prefix('.') == Some(name)));
            let key = unescape_key(&spelling);
            prop_assert_eq!(escape_key(&key), spelling.as_str());
        }
    }
}

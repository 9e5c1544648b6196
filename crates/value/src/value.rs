//! The value model.

use bytes::Bytes;

use crate::{DecodeError, Limits, Map, json};

/// A short string: up to 24 bytes live in place.
pub type Text = compact_str::CompactString;

/// The map key under which a scalar lies that has records below it (design, 2.1).
///
/// It exists in materialised tree values only. Encoders write it as `.value`, and decoders refuse it as data.
pub const VALUE_KEY: &str = "\u{0}.value";

/// Anything a path can hold.
///
/// `==` tells `1` from `1.0` and `0.0` from `-0.0`, and does not look at whether a map is [implied](Map::is_implied).
#[derive(Debug, Clone, Default)]
pub enum Value {
    /// Null: inside a document it is data, at its top it means removal to most doors.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// An integer that fits `i64`.
    Int(i64),
    /// An integer above `i64::MAX`; smaller ones are [`Value::Int`]. Use `Value::from(u64)` to get this right.
    UInt(u64),
    /// A finite number with a fraction, or that was written as if it had one (`1.0`).
    Float(f64),
    /// UTF-8 text.
    String(Text),
    /// Bytes with their media type, if they came with one.
    Bytes(Box<Blob>),
    /// A list.
    Array(Vec<Self>),
    /// Keys in key order, and their values.
    Map(Map),
}

/// Bytes, and what they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blob {
    /// The bytes themselves.
    pub data: Bytes,
    /// The media type they came with.
    pub media_type: Option<Text>,
}

impl Value {
    /// An empty map that somebody spelled out.
    pub fn empty_map() -> Self {
        Self::Map(Map::new())
    }

    /// Bytes without a media type.
    pub fn bytes(data: impl Into<Bytes>) -> Self {
        Self::from(Blob {
            data: data.into(),
            media_type: None,
        })
    }

    /// The value of a JSON text within the default limits, every key data: for tests and constants.
    ///
    /// # Errors
    /// As [`crate::json::decode`].
    pub fn from_json(text: &str) -> Result<Self, DecodeError> {
        json::decode(text.as_bytes(), &Limits::default())
    }

    /// Whether this is null.
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Whether this is an integer or a float.
    pub const fn is_number(&self) -> bool {
        matches!(self, Self::Int(_) | Self::UInt(_) | Self::Float(_))
    }

    /// The map, if this is one.
    pub const fn as_map(&self) -> Option<&Map> {
        if let Self::Map(map) = self {
            Some(map)
        } else {
            None
        }
    }

    /// The map, if this is one.
    pub const fn as_map_mut(&mut self) -> Option<&mut Map> {
        if let Self::Map(map) = self {
            Some(map)
        } else {
            None
        }
    }

    /// The text, if this is a string.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self {
            Some(text)
        } else {
            None
        }
    }

    /// The items, if this is an array.
    pub fn as_array(&self) -> Option<&[Self]> {
        if let Self::Array(items) = self {
            Some(items)
        } else {
            None
        }
    }

    /// The truth value, if this is one.
    pub const fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(is) = self {
            Some(*is)
        } else {
            None
        }
    }

    /// The integer, if this is one that fits.
    pub const fn as_i64(&self) -> Option<i64> {
        if let Self::Int(n) = self {
            Some(*n)
        } else {
            None
        }
    }

    /// The integer, if this is one that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Int(n) => u64::try_from(*n).ok(),
            Self::UInt(n) => Some(*n),
            Self::Null
            | Self::Bool(_)
            | Self::Float(_)
            | Self::String(_)
            | Self::Bytes(_)
            | Self::Array(_)
            | Self::Map(_) => None,
        }
    }

    /// The number as the nearest float, if this is a number.
    #[expect(
        clippy::cast_precision_loss,
        reason = "the nearest float is what is asked for"
    )]
    pub const fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(n) => Some(*n as f64),
            Self::UInt(n) => Some(*n as f64),
            Self::Float(n) => Some(*n),
            Self::Null
            | Self::Bool(_)
            | Self::String(_)
            | Self::Bytes(_)
            | Self::Array(_)
            | Self::Map(_) => None,
        }
    }

    /// The direct child of that name: a map's value, or an array's item by canonical index.
    pub fn child(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(map) => map.get(key),
            Self::Array(items) => array_index(key).and_then(|index| items.get(index)),
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::UInt(_)
            | Self::Float(_)
            | Self::String(_)
            | Self::Bytes(_) => None,
        }
    }

    /// About how many bytes of memory this takes beside itself: for caches and for what is held back.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::UInt(_) | Self::Float(_) => 0,
            Self::String(text) => text_bytes(text),
            Self::Bytes(blob) => blob.data.len() + blob.media_type.as_ref().map_or(0, text_bytes),
            Self::Array(items) => items
                .iter()
                .fold(0, |sum, item| sum + size_of::<Self>() + item.heap_bytes()),
            Self::Map(map) => map.iter().fold(0, |sum, (key, value)| {
                sum + size_of::<(Text, Self)>() + text_bytes(key) + value.heap_bytes()
            }),
        }
    }

    /// About how many bytes this takes when encoded: a cheap measure for limits and for splitting rows.
    pub fn estimated_bytes(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) => 1,
            Self::Int(n) if (-32..64).contains(n) => 1,
            Self::Int(_) | Self::UInt(_) | Self::Float(_) => 9,
            Self::String(text) => 2 + text.len(),
            Self::Bytes(blob) => {
                4 + blob.data.len() + blob.media_type.as_ref().map_or(0, Text::len)
            }
            Self::Array(items) => items
                .iter()
                .fold(3, |sum, item| sum + item.estimated_bytes()),
            Self::Map(map) => map.iter().fold(3, |sum, (key, value)| {
                sum + 2 + key.len() + value.estimated_bytes()
            }),
        }
    }
}

/// What a text takes beside itself: a short one lies in place.
fn text_bytes(text: &Text) -> usize {
    if text.is_heap_allocated() {
        text.len()
    } else {
        0
    }
}

/// The canonical array index that a key is, if it is one: `0`, or digits without a leading zero.
pub(crate) fn array_index(key: &str) -> Option<usize> {
    let canonical =
        key == "0" || (!key.starts_with('0') && key.bytes().all(|byte| byte.is_ascii_digit()));
    if canonical { key.parse().ok() } else { None }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::UInt(a), Self::UInt(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Array(a), Self::Array(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            (
                Self::Null
                | Self::Bool(_)
                | Self::Int(_)
                | Self::UInt(_)
                | Self::Float(_)
                | Self::String(_)
                | Self::Bytes(_)
                | Self::Array(_)
                | Self::Map(_),
                _,
            ) => false,
        }
    }
}

impl Eq for Value {}

impl From<bool> for Value {
    fn from(is: bool) -> Self {
        Self::Bool(is)
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}

impl From<i32> for Value {
    fn from(n: i32) -> Self {
        Self::Int(n.into())
    }
}

impl From<u32> for Value {
    fn from(n: u32) -> Self {
        Self::Int(n.into())
    }
}

impl From<u64> for Value {
    fn from(n: u64) -> Self {
        i64::try_from(n).map_or(Self::UInt(n), Self::Int)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<Text> for Value {
    fn from(text: Text) -> Self {
        Self::String(text)
    }
}

impl From<Blob> for Value {
    fn from(blob: Blob) -> Self {
        Self::Bytes(Box::new(blob))
    }
}

impl From<Vec<Self>> for Value {
    fn from(items: Vec<Self>) -> Self {
        Self::Array(items)
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

/// A float that is finite: what [`Value::Float`] may hold.
impl TryFrom<f64> for Value {
    type Error = NotFinite;

    fn try_from(n: f64) -> Result<Self, NotFinite> {
        if n.is_finite() {
            Ok(Self::Float(n))
        } else {
            Err(NotFinite)
        }
    }
}

/// NaN and the infinities are no values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a finite number")]
pub struct NotFinite;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_takes_at_most_32_bytes() {
        assert!(size_of::<Value>() <= 32, "{}", size_of::<Value>());
    }

    #[test]
    fn what_a_value_takes_in_memory_counts_each_item() {
        let numbers = Value::Array(vec![Value::Int(0); 1000]);
        assert_eq!(numbers.heap_bytes(), 32_000);
        assert_eq!(numbers.estimated_bytes(), 1_003);
        let long = Value::from("x".repeat(100));
        assert_eq!(
            (long.heap_bytes(), Value::from("short").heap_bytes()),
            (100, 0)
        );
        let nested = Value::Array(vec![Value::Array(vec![long])]);
        assert_eq!(nested.heap_bytes(), 2 * 32 + 100);
    }

    #[test]
    fn equality_tells_1_from_1_0_and_ignores_who_made_a_map() {
        assert_ne!(Value::Int(1), Value::Float(1.0));
        assert_ne!(Value::Float(0.0), Value::Float(-0.0));
        assert_eq!(Value::Map(Map::implied()), Value::empty_map());
        assert_eq!(Value::from(7_u64), Value::Int(7));
        assert_eq!(Value::from(u64::MAX), Value::UInt(u64::MAX));
    }

    #[test]
    fn a_path_steps_into_an_array_by_canonical_index_only() {
        let list = Value::Array(vec![Value::Int(5), Value::Int(6)]);
        assert_eq!(list.child("1"), Some(&Value::Int(6)));
        for key in ["2", "01", "-1", "+1", "", "99999999999999999999999"] {
            assert_eq!(list.child(key), None, "{key}");
        }
    }
}

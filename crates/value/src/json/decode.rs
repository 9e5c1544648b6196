//! Bytes to values.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::budget::{Budget, Fault};
use crate::{
    Bound, DecodeError, DecodeErrorKind, Format, Limits, ReadError, Spelled, Text, Value, decode,
};

/// Decodes one JSON text. Every key is data, also those that [`crate::spelling`] reads.
///
/// Integers beyond 64 bits become the nearest float, as does `-0`.
///
/// # Errors
/// If the text is not JSON, has a key twice, a number beyond all floats, or is past a limit.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Value, DecodeError> {
    decode::plain(Format::Json, bytes, limits)
}

/// Decodes one JSON text, and reads the keys of [`crate::spelling`] in it.
///
/// # Errors
/// As [`decode`], or if the spelling is wrong.
pub fn decode_spelled(bytes: &[u8], limits: &Limits) -> Result<Spelled, ReadError> {
    decode::spelled(Format::Json, bytes, limits)
}

/// One pass over the bytes.
pub(crate) fn read<const KEEPS: bool>(
    bytes: &[u8],
    budget: &mut Budget<KEEPS>,
) -> Result<Value, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let fault = Fault::new(DecodeErrorKind::NotUtf8, "text that is not UTF-8");
        at(bytes, fault, error.valid_up_to())
    })?;
    let mut fault = None;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let seed = Seed {
        budget,
        fault: &mut fault,
        depth: 0,
    };
    let decoded = seed
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    decoded.map_err(|error| {
        let offset = offset(bytes, error.line(), error.column());
        at(bytes, fault.unwrap_or_else(|| syntax(&error)), offset)
    })
}

/// What `serde_json` says, without the position that its text ends in.
fn syntax(error: &serde_json::Error) -> Fault {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    if message.starts_with("number out of range") {
        return Fault::number("a number beyond all floats");
    }
    if message.starts_with("recursion limit") {
        return Fault::beyond(Bound::Depth, "more than 127 levels");
    }
    Fault::malformed(message)
}

/// The byte that a line and a column, both from 1, stand for.
fn offset(bytes: &[u8], line: usize, column: usize) -> usize {
    let line_start = match line {
        0 | 1 => 0,
        _ => memchr::memchr_iter(b'\n', bytes)
            .nth(line - 2)
            .map_or(0, |newline| newline + 1),
    };
    (line_start + column.saturating_sub(1)).min(bytes.len())
}

fn at(bytes: &[u8], fault: Fault, offset: usize) -> DecodeError {
    let before = bytes.get(..offset).unwrap_or_default();
    let line = memchr::memchr_iter(b'\n', before).count() + 1;
    let column = offset - memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1) + 1;
    fault.at(offset, Some((line, column)))
}

/// Decodes one value at a depth. Our own faults go beside serde's error, which can only carry text.
struct Seed<'a, const KEEPS: bool> {
    budget: &'a mut Budget<KEEPS>,
    fault: &'a mut Option<Fault>,
    depth: usize,
}

impl<const KEEPS: bool> Seed<'_, KEEPS> {
    fn check<T, E: de::Error>(&mut self, result: Result<T, Fault>) -> Result<T, E> {
        result.map_err(|fault| {
            *self.fault = Some(fault);
            E::custom("refused")
        })
    }

    fn text<E: de::Error>(&mut self, text: &str) -> Result<Text, E> {
        let text = self.budget.text(text);
        self.check(text)
    }

    fn inner(&mut self, depth: usize) -> Seed<'_, KEEPS> {
        Seed {
            budget: self.budget,
            fault: self.fault,
            depth,
        }
    }
}

impl<'de, const KEEPS: bool> DeserializeSeed<'de> for Seed<'_, KEEPS> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, const KEEPS: bool> Visitor<'de> for Seed<'_, KEEPS> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, is: bool) -> Result<Value, E> {
        Ok(Value::Bool(is))
    }

    fn visit_i64<E: de::Error>(self, n: i64) -> Result<Value, E> {
        Ok(Value::Int(n))
    }

    fn visit_u64<E: de::Error>(self, n: u64) -> Result<Value, E> {
        Ok(Value::from(n))
    }

    fn visit_f64<E: de::Error>(mut self, n: f64) -> Result<Value, E> {
        let number = Value::try_from(n).map_err(|_| Fault::number("a number beyond all floats"));
        self.check(number)
    }

    fn visit_str<E: de::Error>(mut self, text: &str) -> Result<Value, E> {
        self.text(text).map(Value::String)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let depth = self.budget.enter(self.depth);
        let depth = self.check(depth)?;
        let array = self.budget.open();
        let mut array = self.check(array)?;
        while let Some(item) = items.next_element_seed(self.inner(depth))? {
            let room = self.budget.item();
            self.check(room)?;
            self.budget.push(&mut array, item);
        }
        Ok(self.budget.array(array))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value, A::Error> {
        let depth = self.budget.enter(self.depth);
        let depth = self.check(depth)?;
        let map = self.budget.open();
        let mut map = self.check(map)?;
        while let Some(key) = entries.next_key_seed(KeySeed(self.inner(depth)))? {
            let value = entries.next_value_seed(self.inner(depth))?;
            self.budget.push(&mut map, (key, value));
        }
        let map = self.budget.map(map);
        self.check(map)
    }
}

struct KeySeed<'a, const KEEPS: bool>(Seed<'a, KEEPS>);

impl<'de, const KEEPS: bool> DeserializeSeed<'de> for KeySeed<'_, KEEPS> {
    type Value = Text;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Text, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de, const KEEPS: bool> Visitor<'de> for KeySeed<'_, KEEPS> {
    type Value = Text;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: de::Error>(mut self, key: &str) -> Result<Text, E> {
        let key = self.0.budget.key(key);
        self.0.check(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(text: &str) -> (&'static str, usize, Option<(usize, usize)>) {
        let error = decode(text.as_bytes(), &Limits::default()).unwrap_err();
        (error.code(), error.offset, error.line_column)
    }

    #[test]
    fn an_error_names_the_place() {
        assert_eq!(
            fails("{\"a\": 1,\n \"b\": x}"),
            ("malformed", 15, Some((2, 7)))
        );
        assert_eq!(fails("{\"a\":1,\n\"a\":2}").0, "duplicate_key");
        assert_eq!(fails("[1e999]").0, "number_range");
        assert_eq!(fails("").1, 0);
        assert_eq!(fails("1 2"), ("malformed", 2, Some((1, 3))));
        let error = decode(b"[\"\xff\"]", &Limits::default()).unwrap_err();
        assert_eq!((error.code(), error.offset), ("not_utf8", 2));
        assert_eq!(
            error.to_string(),
            "text that is not UTF-8 at line 1 column 3"
        );
    }

    #[test]
    fn the_reserved_key_is_no_data() {
        assert_eq!(fails("{\"\\u0000.value\":1}").0, "reserved_key");
    }

    #[test]
    fn each_limit_holds() {
        let small = Limits {
            depth: 2,
            value_bytes: 40,
            string_bytes: 5,
            memory_bytes: 200,
        };
        let code = |text: &str| decode(text.as_bytes(), &small).map_err(|error| error.code());
        assert!(code("[[1]]").is_ok());
        assert_eq!(code("[[[]]]"), Err("too_deep"));
        assert_eq!(code("{\"a\":[{}]}"), Err("too_deep"));
        assert!(code("\"12345\"").is_ok());
        assert_eq!(code("\"123456\""), Err("too_large"));
        assert_eq!(code("{\"123456\":1}"), Err("too_large"));
        assert_eq!(code(&" ".repeat(41)), Err("too_large"));
        assert_eq!(code("[1,2,3,4,5,6,7]"), Err("too_large"));
    }

    #[test]
    fn more_levels_than_the_parser_goes_are_too_deep_whatever_the_limit() {
        let wide = Limits {
            depth: 1000,
            ..Limits::default()
        };
        let text = format!("{}{}", "[".repeat(500), "]".repeat(500));
        let error = decode(text.as_bytes(), &wide).unwrap_err();
        assert_eq!(error.code(), "too_deep");
    }

    #[test]
    fn numbers_keep_what_they_can() {
        let read = |text: &str| decode(text.as_bytes(), &Limits::default()).unwrap();
        assert_eq!(read("1"), Value::Int(1));
        assert_eq!(read("1.0"), Value::Float(1.0));
        assert_eq!(read("-0"), Value::Float(-0.0));
        assert_eq!(read("-9223372036854775808"), Value::Int(i64::MIN));
        assert_eq!(read("18446744073709551615"), Value::UInt(u64::MAX));
        assert_eq!(
            read("18446744073709551616"),
            Value::Float(18_446_744_073_709_551_616.0)
        );
    }
}

//! Firebase's orders: of keys, of values, of priorities.

use std::cmp::Ordering;

use crate::Value;

/// Compares two keys: integer keys first, by number and then by length; then all others by UTF-16 code units.
///
/// The order is total: keys of the same number and length (`-0` and `00`) go by their bytes.
#[inline]
pub fn key_cmp(a: &str, b: &str) -> Ordering {
    if !may_be_integer(a) && !may_be_integer(b) {
        return utf16_cmp(a, b);
    }
    match (integer_key(a), integer_key(b)) {
        (Some(m), Some(n)) => m.cmp(&n).then(a.len().cmp(&b.len())).then_with(|| a.cmp(b)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => utf16_cmp(a, b),
    }
}

#[inline]
fn may_be_integer(key: &str) -> bool {
    matches!(key.as_bytes().first(), Some(b'0'..=b'9' | b'-'))
}

/// The number that a key is, if it is an *integer key*: `-?0*[0-9]{1,10}` with a value that fits 32 bits.
pub fn integer_key(key: &str) -> Option<i32> {
    let digits = key.strip_prefix('-').unwrap_or(key);
    let significant = digits.trim_start_matches('0');
    if digits.is_empty()
        || significant.len() > 10
        || !significant.bytes().all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    let size = significant
        .bytes()
        .fold(0, |sum, byte| sum * 10 + i64::from(byte - b'0'));
    i32::try_from(if digits.len() < key.len() {
        -size
    } else {
        size
    })
    .ok()
}

/// Compares two strings by their UTF-16 code units.
///
/// That is the order of their bytes, but for U+E000 to U+FFFF (lead bytes EE, EF), which UTF-16 puts behind the
/// supplementary characters (F0 to F4).
#[inline]
pub fn utf16_cmp(a: &str, b: &str) -> Ordering {
    match first_difference(a.as_bytes(), b.as_bytes()) {
        None => a.len().cmp(&b.len()),
        Some((0xEE..=0xEF, 0xF0..)) => Ordering::Greater,
        Some((0xF0.., 0xEE..=0xEF)) => Ordering::Less,
        Some((x, y)) => x.cmp(&y),
    }
}

/// The first bytes that differ, found eight at a time; none if one is the other's beginning.
#[inline]
fn first_difference(a: &[u8], b: &[u8]) -> Option<(u8, u8)> {
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    let equal = words.take_while(|(x, y)| x == y).count() * 8;
    let rest = a[equal..].iter().zip(&b[equal..]);
    rest.map(|(x, y)| (*x, *y)).find(|(x, y)| x != y)
}

/// Compares two values: null, false, true, numbers, strings, then all that has parts.
///
/// Bytes, arrays and maps are all equal, as all of them are maps to a Firebase client; ties go by key.
pub fn value_cmp(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::String(a), Value::String(b)) => utf16_cmp(a, b),
        (a, b) if a.is_number() && b.is_number() => number_cmp(a, b),
        (a, b) => value_rank(a).cmp(&value_rank(b)),
    }
}

const fn value_rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(false) => 1,
        Value::Bool(true) => 2,
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => 3,
        Value::String(_) => 4,
        Value::Bytes(_) | Value::Array(_) | Value::Map(_) => 5,
    }
}

/// Compares two priorities: none (null) before numbers before strings. Anything else is no priority, and comes last.
pub fn priority_cmp(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::String(a), Value::String(b)) => utf16_cmp(a, b),
        (a, b) if a.is_number() && b.is_number() => number_cmp(a, b),
        (a, b) => priority_rank(a).cmp(&priority_rank(b)),
    }
}

const fn priority_rank(priority: &Value) -> u8 {
    match priority {
        Value::Null => 0,
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => 1,
        Value::String(_) => 2,
        Value::Bool(_) | Value::Bytes(_) | Value::Array(_) | Value::Map(_) => 3,
    }
}

/// Compares two numbers by what they stand for, exactly: `1` equals `1.0`. What is no number counts as zero.
pub fn number_cmp(a: &Value, b: &Value) -> Ordering {
    match (integer(a), integer(b)) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        (Ok(a), Err(b)) => integer_float_cmp(a, b),
        (Err(a), Ok(b)) => integer_float_cmp(b, a).reverse(),
        (Err(a), Err(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
    }
}

fn integer(value: &Value) -> Result<i128, f64> {
    match value {
        Value::Int(n) => Ok((*n).into()),
        Value::UInt(n) => Ok((*n).into()),
        Value::Float(n) => Err(*n),
        Value::Null
        | Value::Bool(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Array(_)
        | Value::Map(_) => Ok(0),
    }
}

/// Rounding down and comparing as integers is exact; `as` saturates, far beyond 64 bits.
#[expect(
    clippy::cast_possible_truncation,
    reason = "saturation keeps the order"
)]
fn integer_float_cmp(integer: i128, float: f64) -> Ordering {
    let floor = float.floor();
    integer.cmp(&(floor as i128)).then(if floor < float {
        Ordering::Less
    } else {
        Ordering::Equal
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn integer_keys_come_first_by_number_then_by_length() {
        let keys = [
            "-2147483648",
            "-1",
            "-0",
            "0",
            "1",
            "01",
            "001",
            "2",
            "10",
            "2147483647",
            "",
            "-",
            "-2147483649",
            "-a",
            "1a",
            "2147483648",
            "99999999999",
            "A",
            "a",
            "\u{d7ff}",
            "\u{10000}",
            "\u{10ffff}",
            "\u{e000}",
            "\u{ffff}",
        ];
        let mut sorted = keys;
        sorted.reverse();
        sorted.sort_by(|a, b| key_cmp(a, b));
        // `-0` has the number of `0`, and is longer.
        let mut expected = keys;
        expected.swap(2, 3);
        assert_eq!(sorted, expected);
        assert_eq!(
            integer_key("0000000000000000000000000000002147483647"),
            Some(i32::MAX)
        );
        assert_eq!(integer_key("-"), None);
        assert_eq!(integer_key("+1"), None);
        assert_eq!(key_cmp("-0", "00"), Ordering::Less);
    }

    #[test]
    fn values_come_in_firebases_order() {
        let values = [
            Value::Null,
            Value::Bool(false),
            Value::Bool(true),
            Value::Float(-1e300),
            Value::Int(i64::MIN),
            Value::Float(0.5),
            Value::Int(1),
            Value::Float(1.5),
            Value::Int(9_007_199_254_740_993),
            Value::Float(9_007_199_254_740_994.0),
            Value::UInt(u64::MAX),
            Value::Float(18_446_744_073_709_551_616.0),
            Value::from(""),
            Value::from("a"),
            Value::empty_map(),
        ];
        for (i, a) in values.iter().enumerate() {
            for (j, b) in values.iter().enumerate() {
                assert_eq!(value_cmp(a, b), i.cmp(&j), "{a:?} {b:?}");
            }
        }
        assert_eq!(
            value_cmp(&Value::Int(1), &Value::Float(1.0)),
            Ordering::Equal
        );
        assert_eq!(
            value_cmp(&Value::Array(vec![]), &Value::bytes("x")),
            Ordering::Equal
        );
    }

    #[test]
    fn priorities_go_none_numbers_strings() {
        let sorted = [
            Value::Null,
            Value::Float(-1.5),
            Value::Int(2),
            Value::from("10"),
            Value::from("9"),
        ];
        assert!(sorted.is_sorted_by(|a, b| priority_cmp(a, b).is_lt()));
    }

    proptest! {
        #[test]
        fn strings_compare_as_their_utf16_code_units(a in ".{0,6}", b in ".{0,6}") {
            prop_assert_eq!(utf16_cmp(&a, &b), a.encode_utf16().cmp(b.encode_utf16()));
        }

        #[test]
        fn key_order_is_total(a in "-?[0-1]{0,3}a?", b in "-?[0-1]{0,3}a?", c in "-?[0-1]{0,3}a?") {
            prop_assert_eq!(key_cmp(&a, &b), key_cmp(&b, &a).reverse());
            prop_assert_eq!(key_cmp(&a, &b).is_eq(), a == b);
            if key_cmp(&a, &b).is_le() && key_cmp(&b, &c).is_le() {
                prop_assert!(key_cmp(&a, &c).is_le());
            }
        }
    }
}

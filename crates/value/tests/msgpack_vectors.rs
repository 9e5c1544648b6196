//! msgpack-test-suite: one value with every encoding it may have.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its premises fail"
)]

use sapwood_value::{Limits, Value, json, msgpack};

const SUITE: &str = include_str!("vectors/msgpack/msgpack-test-suite.json");

fn read(text: &str) -> Value {
    json::decode(text.as_bytes(), &Limits::default()).unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    text.split('-')
        .filter(|digits| !digits.is_empty())
        .map(|digits| u8::from_str_radix(digits, 16).unwrap())
        .collect()
}

/// The value that a case names, or the code of its refusal.
fn expected(case: &Value) -> Result<Value, &'static str> {
    let member = |name| case.child(name);
    if let Some(binary) = member("binary") {
        return Ok(Value::bytes(hex(binary.as_str().unwrap())));
    }
    if let Some(timestamp) = member("timestamp") {
        let seconds = timestamp.child("0").and_then(Value::as_i64).unwrap();
        let in_years = (-62_167_219_200..253_402_300_800).contains(&seconds);
        return if in_years {
            Ok(Value::Null)
        } else {
            Err("number_range")
        };
    }
    if member("ext").is_some() {
        return Err("unsupported");
    }
    if let Some(bignum) = member("bignum") {
        return Ok(read(bignum.as_str().unwrap()));
    }
    let names = ["nil", "bool", "number", "string", "array", "map"];
    Ok(names
        .iter()
        .find_map(|name| member(name))
        .unwrap_or_else(|| panic!("{case:?}"))
        .clone())
}

/// Whether a decoded value is the one that was named: a number may have come as a float.
fn same(decoded: &Value, named: &Value) -> bool {
    let number = decoded.is_number() && named.is_number();
    decoded == named || (number && sapwood_value::number_cmp(decoded, named).is_eq())
}

#[test]
fn every_encoding_of_the_suite_is_read() {
    let suite = read(SUITE);
    let (mut read, mut refused) = (0, 0);
    for case in suite
        .as_map()
        .unwrap()
        .values()
        .flat_map(|group| group.as_array().unwrap())
    {
        let expected = expected(case);
        for encoding in case.child("msgpack").unwrap().as_array().unwrap() {
            let bytes = hex(encoding.as_str().unwrap());
            let decoded = msgpack::decode(&bytes, &Limits::default());
            match (&decoded, &expected) {
                (Err(error), Err(code)) => {
                    assert_eq!(error.code(), *code, "{case:?}");
                    refused += 1;
                    continue;
                }
                (Ok(Value::String(text)), Ok(Value::Null)) => {
                    assert!(text.ends_with('Z'), "{text}");
                }
                (Ok(value), Ok(named)) => assert!(same(value, named), "{value:?} is not {named:?}"),
                (_, _) => panic!("{decoded:?}, not {expected:?}: {case:?}"),
            }
            let value = decoded.unwrap();
            let mut out = Vec::new();
            msgpack::encode(&value, &mut out);
            assert_eq!(
                msgpack::decode(&out, &Limits::default()).as_ref(),
                Ok(&value)
            );
            assert!(
                out.len() <= bytes.len() || matches!(value, Value::String(_)),
                "{value:?} is written short"
            );
            read += 1;
        }
    }
    assert_eq!((read, refused), (222, 11));
}

//! What goes in comes out, in every format, for any value.

use proptest::prelude::*;
use sapwood_value::{Blob, Format, Limits, Map, Text, Value, fuzz, json, stored};

const FORMATS: [Format; 3] = [Format::Json, Format::Cbor, Format::MessagePack];

fn number() -> impl Strategy<Value = Value> {
    let edges = [
        0,
        1,
        63,
        64,
        127,
        128,
        255,
        256,
        65_535,
        65_536,
        1 << 31,
        1 << 32,
        1 << 53,
        i64::MAX,
    ];
    prop_oneof![
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(Value::from),
        (0..edges.len(), -2..3_i64, any::<bool>()).prop_map(move |(at, by, negative)| {
            let n = edges[at].saturating_add(by);
            Value::Int(if negative { n.saturating_neg() } else { n })
        }),
        any::<f64>().prop_filter_map("finite", |n| Value::try_from(n).ok()),
        any::<f32>().prop_filter_map("finite", |n| Value::try_from(f64::from(n)).ok()),
        (-3000..3000_i32).prop_map(|n| Value::Float(f64::from(n) / 16.0)),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-c]{0,40}",
        "-?[0-9]{1,4}",
        "[.%](25)?(2E)?(value|bytes|type|sv|priority|x)",
        "[\\x00-\\x20\"\\\\\u{d7ff}\u{e000}\u{ffff}\u{10000}]{0,12}",
    ]
}

fn blob() -> impl Strategy<Value = Value> {
    (
        proptest::collection::vec(any::<u8>(), 0..300),
        proptest::option::of("[a-z]{1,5}/[a-z]{1,5}"),
    )
        .prop_map(|(data, kind)| {
            Blob {
                data: data.into(),
                media_type: kind.map(Text::from),
            }
            .into()
        })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        number(),
        text().prop_map(Value::from),
        blob()
    ];
    leaf.prop_recursive(5, 80, 20, |inner| {
        let map = |entries: Vec<(String, Value)>, implied| {
            let mut map: Map = entries.into_iter().collect();
            map.set_implied(implied);
            Value::Map(map)
        };
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::Array),
            (
                proptest::collection::vec((text(), inner), 0..35),
                any::<bool>()
            )
                .prop_map(move |(entries, implied)| map(entries, implied)),
        ]
    })
}

/// The value with every map's mark in words, which `==` does not look at.
fn with_marks(value: &Value) -> String {
    format!("{value:?}")
}

fn encoded(format: Format, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    format.encode_spelled(value, &mut out);
    out
}

proptest! {
    #[test]
    fn a_value_comes_back_from_every_format(value in value()) {
        for format in FORMATS {
            let out = encoded(format, &value);
            let read = format.decode_spelled(&out, &Limits::default());
            prop_assert_eq!(read.map(|spelled| spelled.value), Ok(value.clone()), "{:?}", format);
        }
        let mut pretty = Vec::new();
        json::encode_pretty(&value, &mut pretty);
        let read = json::decode_spelled(&pretty, &Limits::default());
        prop_assert_eq!(read.map(|spelled| spelled.value), Ok(value));
    }

    #[test]
    fn a_value_comes_back_from_the_store_with_who_spelled_it_out(value in value()) {
        let mut out = Vec::new();
        stored::encode(&value, &mut out);
        let back = stored::decode(&out).unwrap();
        prop_assert_eq!(with_marks(&back), with_marks(&value));
        prop_assert_eq!(back, value.clone());
        prop_assert!(out.len() <= value.estimated_bytes() * 2 + 16, "{} of {}", out.len(), value.estimated_bytes());
    }

    #[test]
    fn json_says_what_a_second_encoder_says(value in value()) {
        let out = encoded(Format::Json, &value);
        let theirs: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let again = serde_json::to_vec(&theirs).unwrap();
        // Their maps lose our order, so the texts are compared as their values.
        let ours = json::decode(&again, &Limits::default()).unwrap();
        prop_assert_eq!(ours, json::decode(&out, &Limits::default()).unwrap());
    }

    #[test]
    fn damaged_bytes_never_panic(
        value in value(),
        which in 0..4_usize,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = Vec::new();
        match FORMATS.get(which) {
            Some(format) => format.encode_spelled(&value, &mut bytes),
            None => stored::encode(&value, &mut bytes),
        }
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let cut = cut.index(bytes.len() * 4);
        bytes.truncate(cut.max(1));
        match which {
            0 => fuzz::json(&bytes),
            1 => fuzz::cbor(&bytes),
            2 => fuzz::msgpack(&bytes),
            _ => fuzz::stored(&bytes),
        }
    }

    #[test]
    fn any_bytes_are_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        fuzz::json(&bytes);
        fuzz::cbor(&bytes);
        fuzz::msgpack(&bytes);
        fuzz::stored(&bytes);
    }

    #[test]
    fn any_json_like_text_is_read_as_a_second_parser_reads_it(text in "[\\[\\]{}:,\"ab\\\\u0-9eE+\\-. ]{0,24}") {
        fuzz::json(text.as_bytes());
    }
}

#[test]
fn a_map_of_many_keys_and_a_long_array_come_back() {
    let map: Map = (0..70_000).map(|n| (n.to_string(), n)).collect();
    let values = [
        Value::Map(map),
        Value::Array(vec![Value::Null; 70_000]),
        Value::from("x".repeat(70_000)),
    ];
    for value in values {
        for format in FORMATS {
            let read = format.decode(&encoded(format, &value), &Limits::default());
            assert!(read.as_ref() == Ok(&value), "{format:?}");
        }
        let mut out = Vec::new();
        stored::encode(&value, &mut out);
        assert!(stored::decode(&out).as_ref() == Ok(&value));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_large_body_is_read_as_a_small_one(value in value()) {
        // Above 256 KiB a body is gone over twice.
        let value = Value::Array(vec![value, Value::from("x".repeat(300_000))]);
        for format in FORMATS {
            let out = encoded(format, &value);
            let read = format.decode_spelled(&out, &Limits::default());
            prop_assert_eq!(read.map(|spelled| spelled.value), Ok(value.clone()), "{:?}", format);
            let cut = format.decode(&out[..out.len() - 1], &Limits::default());
            prop_assert_eq!(cut.map_err(|error| error.code()), Err("malformed"));
        }
        let twice = format!("[{{\"a\":1,\"a\":2}},\"{}\"]", "x".repeat(300_000));
        let twice = json::decode(twice.as_bytes(), &Limits::default());
        prop_assert_eq!(twice.map_err(|error| error.code()), Err("duplicate_key"));
    }
}

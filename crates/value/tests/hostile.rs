//! Depth bombs, lying lengths, and small bytes that would take much memory.

use sapwood_value::{Format, Limits, StoredError, stored};

const LEVELS: usize = 200_000;

fn refused(format: Format, bytes: &[u8]) -> &'static str {
    format
        .decode(bytes, &Limits::default())
        .expect_err("refused")
        .code()
}

#[test]
fn a_depth_bomb_is_refused_in_every_format() {
    let closed = format!("{}{}", "[".repeat(LEVELS), "]".repeat(LEVELS));
    assert_eq!(refused(Format::Json, closed.as_bytes()), "too_deep");
    assert_eq!(
        refused(Format::Json, "{\"a\":".repeat(LEVELS).as_bytes()),
        "too_deep"
    );
    for bomb in [
        &b"\x81"[..],
        b"\x9f",
        b"\xa1\x61a",
        b"\xbf\x61a",
        b"\xc1",
        b"\xd9\xd9\xf7",
    ] {
        assert_eq!(
            refused(Format::Cbor, &bomb.repeat(LEVELS)),
            "too_deep",
            "{bomb:?}"
        );
    }
    for bomb in [&b"\x91"[..], b"\x81\xa1a", b"\xdd\0\0\0\x01"] {
        assert_eq!(
            refused(Format::MessagePack, &bomb.repeat(LEVELS)),
            "too_deep",
            "{bomb:?}"
        );
    }
    for bomb in [&b"\xf1"[..], b"\xc1\x01a", b"\xe1\x01a"] {
        assert_eq!(
            stored::decode(&bomb.repeat(LEVELS)),
            Err(StoredError::TooDeep),
            "{bomb:?}"
        );
    }
    // Chunks lie beside each other, and not within.
    assert_eq!(refused(Format::Cbor, &b"\x5f".repeat(LEVELS)), "malformed");
}

#[test]
fn as_many_levels_as_the_limit_come_in() {
    let json = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(
        Format::Json
            .decode(json(64).as_bytes(), &Limits::default())
            .is_ok()
    );
    assert_eq!(refused(Format::Json, json(65).as_bytes()), "too_deep");
    let cbor = |levels: usize| [b"\x81".repeat(levels - 1), b"\x80".to_vec()].concat();
    assert!(Format::Cbor.decode(&cbor(64), &Limits::default()).is_ok());
    assert_eq!(refused(Format::Cbor, &cbor(65)), "too_deep");
    let msgpack = |levels: usize| [b"\x91".repeat(levels - 1), b"\x90".to_vec()].concat();
    assert!(
        Format::MessagePack
            .decode(&msgpack(64), &Limits::default())
            .is_ok()
    );
    assert_eq!(refused(Format::MessagePack, &msgpack(65)), "too_deep");
}

#[test]
fn an_announced_length_takes_no_memory() {
    let lies: [(Format, &[u8]); 10] = [
        (Format::Cbor, b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff"),
        (Format::Cbor, b"\x7b\x7f\xff\xff\xff\xff\xff\xff\xff"),
        (Format::Cbor, b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff"),
        (Format::Cbor, b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff"),
        (Format::Cbor, b"\xbb\x80\0\0\0\0\0\0\0\x61a\x01"),
        (Format::MessagePack, b"\xc6\xff\xff\xff\xff"),
        (Format::MessagePack, b"\xdb\xff\xff\xff\xff"),
        (Format::MessagePack, b"\xdd\xff\xff\xff\xff"),
        (Format::MessagePack, b"\xdf\xff\xff\xff\xff"),
        (Format::MessagePack, b"\xc9\xff\xff\xff\xff\x05"),
    ];
    for (format, bytes) in lies {
        assert_eq!(refused(format, bytes), "malformed", "{bytes:x?}");
    }
    let huge = b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f";
    for tag in [6, 7, 8, 9, 0x0A, 0x0B] {
        assert_eq!(
            stored::decode(&[&[tag], &huge[..]].concat()),
            Err(StoredError::TooShort),
            "{tag}"
        );
    }
}

#[test]
fn small_items_are_counted_by_the_memory_they_take() {
    const ITEMS: usize = 8 << 20;
    let mut json = b"[0".to_vec();
    json.extend_from_slice(&b",0".repeat(ITEMS / 2 * 2 - 1));
    json.truncate((16 << 20) - 1);
    json.push(b']');
    assert_eq!(refused(Format::Json, &json), "too_large");
    let cbor = [b"\x9f".to_vec(), b"\xf6".repeat(ITEMS), b"\xff".to_vec()].concat();
    assert_eq!(refused(Format::Cbor, &cbor), "too_large");
    let msgpack = [b"\xdd\x00\x80\x00\x00".to_vec(), b"\xc0".repeat(ITEMS)].concat();
    assert_eq!(refused(Format::MessagePack, &msgpack), "too_large");
}

#[test]
fn chunks_do_not_get_around_the_limit_of_a_string() {
    let limits = Limits {
        string_bytes: 10,
        ..Limits::default()
    };
    let chunks =
        |head: u8, chunk: &[u8], times| [vec![head], chunk.repeat(times), vec![0xFF]].concat();
    let code = |bytes: &[u8]| {
        Format::Cbor
            .decode(bytes, &limits)
            .map_err(|error| error.code())
    };
    assert!(code(&chunks(0x7F, b"\x65abcde", 2)).is_ok());
    assert_eq!(code(&chunks(0x7F, b"\x65abcde", 3)), Err("too_large"));
    assert_eq!(code(&chunks(0x5F, b"\x45abcde", 3)), Err("too_large"));
    assert_eq!(
        code(&chunks(0x7F, b"\x60", 100_000)),
        Ok(sapwood_value::Value::from(""))
    );
}

#[test]
fn stored_damage_is_named() {
    use StoredError::{KeyOrder, NotFinite, NotUtf8, TooLong, TooShort, UnknownTag, Varint};
    let cases: [(&[u8], StoredError); 10] = [
        (b"", TooShort),
        (b"\x00\x00", TooLong),
        (b"\x0c", UnknownTag(0x0C)),
        (b"\x3f", UnknownTag(0x3F)),
        (b"\x81\xff", NotUtf8),
        (b"\xc2\x01b\x00\x01a\x00", KeyOrder),
        (b"\xc2\x01a\x00\x01a\x00", KeyOrder),
        (b"\x05\0\0\0\0\0\0\xf0\x7f", NotFinite),
        (b"\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", Varint),
        (b"\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Varint),
    ];
    for (bytes, error) in cases {
        assert_eq!(stored::decode(bytes), Err(error), "{bytes:x?}");
    }
}

#[test]
fn the_key_that_stands_for_a_scalar_is_no_data() {
    assert_eq!(
        refused(Format::Json, br#"{"\u0000.value":1}"#),
        "reserved_key"
    );
    assert_eq!(
        refused(Format::Cbor, b"\xa1\x67\0.value\x01"),
        "reserved_key"
    );
    assert_eq!(
        refused(Format::Cbor, b"\xa1\x7f\x62\0.\x65value\xff\x01"),
        "reserved_key"
    );
    assert_eq!(
        refused(Format::MessagePack, b"\x81\xa7\0.value\x01"),
        "reserved_key"
    );
}

#[test]
fn names_that_other_systems_trip_over_are_data() {
    for text in [
        r#"{"__proto__":{"a":1},"constructor":1}"#,
        r#"{"$sv":1,"&value":2,".info":3,"":4}"#,
    ] {
        for format in [Format::Json, Format::Cbor, Format::MessagePack] {
            let value = sapwood_value::Value::from_json(text).unwrap();
            let mut out = Vec::new();
            format.encode_spelled(&value, &mut out);
            let read = format.decode_spelled(&out, &Limits::default()).unwrap();
            assert_eq!(read, sapwood_value::Spelled::plain(value));
        }
    }
}

#[test]
fn a_message_shows_no_more_than_the_beginning_of_a_key() {
    let key = "\u{e9}\n".repeat(100_000);
    let object = format!("{{{0}:1,{0}:2}}", serde_json::to_string(&key).unwrap());
    let error = Format::Json
        .decode(object.as_bytes(), &Limits::default())
        .unwrap_err();
    assert_eq!(error.code(), "duplicate_key");
    assert!(
        error.message.len() < 300 && error.message.contains("\\n"),
        "{}",
        error.message.len()
    );
}

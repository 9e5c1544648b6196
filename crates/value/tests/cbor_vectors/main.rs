//! cbor-test-vectors: RFC 8949's good, bad and appendix A, against their diagnostic notation.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its premises fail"
)]

use std::fs;
use std::path::PathBuf;

use edn::Edn;
use sapwood_value::{Limits, Value, cbor};

mod edn;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/cbor")
}

const GOOD: [&str; 11] = [
    "rfc8949/good",
    "rfc8949-appendixA/mt0",
    "rfc8949-appendixA/mt1",
    "rfc8949-appendixA/mt2",
    "rfc8949-appendixA/mt3",
    "rfc8949-appendixA/mt4",
    "rfc8949-appendixA/mt5",
    "rfc8949-appendixA/mt6",
    "rfc8949-appendixA/mt7-float",
    "rfc8949-appendixA/mt7-simple",
    "rfc8949-appendixA/streaming",
];

struct Case {
    description: String,
    encoded: Vec<u8>,
    decoded: Option<Edn>,
}

fn cases(name: &str) -> Vec<Case> {
    let file = edn::parse(&fs::read_to_string(folder().join(format!("{name}.edn"))).unwrap());
    let Some(Edn::Array(tests)) = file.member("tests") else {
        panic!("no tests in {name}")
    };
    let case = |test: &Edn| {
        let Some(Edn::Bytes(encoded)) = test.member("encoded") else {
            panic!("{test:?}")
        };
        let Some(Edn::Text(description)) = test.member("description") else {
            panic!("{test:?}")
        };
        Case {
            description: format!("{name}: {description}"),
            encoded: encoded.clone(),
            decoded: test.member("decoded").cloned(),
        }
    };
    tests.iter().map(case).collect()
}

/// What the table of `docs/formats.md` makes of an item: a value, or the code of its refusal.
fn expected(item: &Edn, depth: usize) -> Result<Value, &'static str> {
    let enter = || {
        if depth < 64 {
            Ok(depth + 1)
        } else {
            Err("too_deep")
        }
    };
    Ok(match item {
        Edn::Null | Edn::Undefined => Value::Null,
        Edn::Bool(is) => Value::Bool(*is),
        Edn::Simple(_) => return Err("unsupported"),
        Edn::Int(n) => match (i64::try_from(*n), u64::try_from(*n)) {
            (Ok(n), _) => Value::Int(n),
            (Err(_), Ok(n)) => Value::UInt(n),
            (Err(_), Err(_)) => return Err("number_range"),
        },
        Edn::Float(n) => Value::try_from(*n).map_err(|_| "number_range")?,
        Edn::Text(text) => Value::from(text.as_str()),
        Edn::Bytes(bytes) => Value::bytes(bytes.clone()),
        Edn::Array(items) => {
            let depth = enter()?;
            Value::Array(
                items
                    .iter()
                    .map(|item| expected(item, depth))
                    .collect::<Result<_, _>>()?,
            )
        }
        Edn::Map(entries) => {
            let depth = enter()?;
            let entry = |(key, value): &(Edn, Edn)| match key {
                Edn::Text(key) => Ok((key.clone(), expected(value, depth)?)),
                _ => Err("unsupported"),
            };
            Value::Map(entries.iter().map(entry).collect::<Result<_, _>>()?)
        }
        Edn::Tag(tag, inner) => {
            let value = expected(inner, enter()?)?;
            match tag {
                0 | 1 | 21..=24 | 32..=34 | 36 | 64 | 55799 => value,
                _ => return Err("unsupported"),
            }
        }
    })
}

fn decode(bytes: &[u8]) -> Result<Value, &'static str> {
    cbor::decode(bytes, &Limits::default()).map_err(|error| error.code())
}

#[test]
fn every_good_item_is_what_its_notation_says_or_what_the_table_makes_of_it() {
    let (mut values, mut refused) = (0, 0);
    for case in GOOD.iter().flat_map(|name| cases(name)) {
        let decoded = decode(&case.encoded);
        assert_eq!(
            decoded,
            expected(case.decoded.as_ref().unwrap(), 0),
            "{}",
            case.description
        );
        let Ok(value) = decoded else {
            refused += 1;
            continue;
        };
        let mut out = Vec::new();
        cbor::encode(&value, &mut out);
        assert_eq!(decode(&out).as_ref(), Ok(&value), "{}", case.description);
        assert!(
            out.len() <= case.encoded.len(),
            "{} is written short",
            case.description
        );
        values += 1;
    }
    assert_eq!((values, refused), (147, 22));
}

#[test]
fn every_bad_item_is_refused() {
    let cases = cases("rfc8949/bad");
    assert_eq!(cases.len(), 47);
    for case in cases {
        assert!(decode(&case.encoded).is_err(), "{}", case.description);
    }
}

/// The files themselves are CBOR, too: what their notation says, with the one item that no value can hold deciding.
#[test]
fn every_file_is_what_its_notation_says() {
    for name in GOOD.iter().chain(&["rfc8949/bad"]) {
        let bytes = fs::read(folder().join(format!("{name}.cbor"))).unwrap();
        let notation =
            edn::parse(&fs::read_to_string(folder().join(format!("{name}.edn"))).unwrap());
        let expected = expected(&notation, 0);
        assert_eq!(decode(&bytes), expected, "{name}");
    }
}

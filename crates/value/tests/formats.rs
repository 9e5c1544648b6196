//! Holds the tables of `docs/formats.md`.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its premises fail"
)]

use sapwood_value::{Format, Limits, Value};

const DOC: &str = include_str!("../../../docs/formats.md");

/// The rows of the table whose first heading is this, cell by cell.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let rows = DOC
        .lines()
        .skip_while(|line| !line.starts_with(heading))
        .skip(2);
    let cells = |row: &'static str| row.trim_matches('|').split('|').map(str::trim).collect();
    let rows: Vec<Vec<&str>> = rows
        .take_while(|line| line.starts_with('|'))
        .map(cells)
        .collect();
    assert!(rows.len() > 5, "the table `{heading}` is there");
    rows
}

fn format(name: &str) -> Format {
    match name {
        "JSON" => Format::Json,
        "CBOR" => Format::Cbor,
        "MessagePack" => Format::MessagePack,
        _ => panic!("no format: {name}"),
    }
}

/// What stands in a cell's backquotes.
fn quoted(cell: &str) -> &str {
    cell.split('`')
        .nth(1)
        .unwrap_or_else(|| panic!("nothing quoted: {cell}"))
}

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

fn example(cell: &str) -> Vec<u8> {
    if cell.starts_with("hex ") {
        hex(quoted(cell))
    } else {
        quoted(cell).into()
    }
}

fn json(value: &Value) -> String {
    let mut out = Vec::new();
    sapwood_value::json::encode_spelled(value, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn what_comes_in_is_treated_as_the_manual_says() {
    for row in table("| format | what it says") {
        let &[name, says, bytes, treatment] = row.as_slice() else {
            panic!("four cells: {row:?}")
        };
        let bytes = example(bytes);
        let decoded = format(name).decode(&bytes, &Limits::default());
        let spelled = format(name).decode_spelled(&bytes, &Limits::default());
        let treated = match &decoded {
            Err(error) => format!("refused, `{}`", error.code()),
            Ok(_) if treatment.starts_with("kept") => treatment.to_owned(),
            Ok(value) => format!("becomes `{}`", json(value)),
        };
        assert_eq!(treated, treatment, "{name}: {says}");
        match (decoded, spelled) {
            (Ok(value), Ok(spelled)) => assert_eq!(value, spelled.value, "{name}: {says}"),
            (Err(plain), Err(spelled)) => {
                assert_eq!(plain.code(), spelled.code(), "{name}: {says}");
            }
            (plain, spelled) => panic!("{name}: {says}: {plain:?}, {spelled:?}"),
        }
    }
}

#[test]
fn what_goes_out_is_written_as_the_manual_says() {
    for row in table("| value | JSON") {
        let &[says, json, cbor, msgpack] = row.as_slice() else {
            panic!("four cells: {row:?}")
        };
        let expected = [
            (Format::Json, quoted(json).into()),
            (Format::Cbor, hex(quoted(cbor))),
            (Format::MessagePack, hex(quoted(msgpack))),
        ];
        let value = Format::Json
            .decode_spelled(quoted(json).as_bytes(), &Limits::default())
            .unwrap()
            .value;
        for (format, bytes) in expected {
            let mut out = Vec::new();
            format.encode_spelled(&value, &mut out);
            assert_eq!(out, bytes, "{says} in {format:?}");
            let read = format.decode_spelled(&bytes, &Limits::default()).unwrap();
            assert_eq!(read.value, value, "{says} from {format:?}");
        }
    }
}

#[test]
fn what_you_write_means_what_the_manual_says() {
    let meanings = table("| you write");
    for row in &meanings {
        let read = Format::Json.decode_spelled(quoted(row[0]).as_bytes(), &Limits::default());
        assert!(read.is_ok(), "{row:?}");
    }
    let key = |row: usize| {
        let read = Format::Json
            .decode_spelled(quoted(meanings[row][0]).as_bytes(), &Limits::default())
            .unwrap();
        read.value.as_map().unwrap().keys().next().unwrap().clone()
    };
    assert_eq!((key(4).as_str(), key(5).as_str()), (".value", "%2Evalue"));
}

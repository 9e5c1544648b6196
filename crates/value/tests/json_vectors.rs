//! JSONTestSuite: what is JSON is read, what is not is refused, and what is open is pinned.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its premises fail"
)]

use std::fs;
use std::path::PathBuf;

use sapwood_value::{Limits, Value, json};

fn files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors/json")
        .join(folder);
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (
                path.file_stem().unwrap().to_str().unwrap().to_owned(),
                fs::read(path).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

/// The value's JSON, or the code of its refusal.
fn meaning(bytes: &[u8]) -> String {
    match json::decode(bytes, &Limits::default()) {
        Ok(value) => text(&value),
        Err(error) => error.code().to_owned(),
    }
}

fn text(value: &Value) -> String {
    let mut out = Vec::new();
    json::encode(value, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn every_y_file_is_read_and_comes_back() {
    let files: Vec<_> = files("parsing")
        .into_iter()
        .filter(|(name, _)| name.starts_with("y_"))
        .collect();
    assert_eq!(files.len(), 95);
    for (name, bytes) in files {
        let limits = Limits::default();
        match name.as_str() {
            // JSON leaves it open whether keys may repeat; here they may not.
            "y_object_duplicated_key" | "y_object_duplicated_key_and_value" => {
                assert_eq!(meaning(&bytes), "duplicate_key", "{name}");
            }
            _ => {
                let value =
                    json::decode(&bytes, &limits).unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(
                    json::decode(text(&value).as_bytes(), &limits),
                    Ok(value),
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn every_n_file_is_refused() {
    let mut files: Vec<_> = files("parsing")
        .into_iter()
        .filter(|(name, _)| name.starts_with("n_"))
        .collect();
    files.push((
        "n_structure_100000_opening_arrays".into(),
        b"[".repeat(100_000),
    ));
    files.push((
        "n_structure_open_array_object".into(),
        [b"[{\"\":".repeat(50_000), b"\n".to_vec()].concat(),
    ));
    assert_eq!(files.len(), 188);
    for (name, bytes) in files {
        let error = json::decode(&bytes, &Limits::default()).expect_err(&name);
        assert!(error.offset <= bytes.len(), "{name}: {error:?}");
        assert!(error.line_column.is_some(), "{name}");
    }
}

#[test]
fn every_i_file_has_one_meaning() {
    let pinned = [
        ("i_number_double_huge_neg_exp", "[0.0]"),
        ("i_number_huge_exp", "number_range"),
        ("i_number_neg_int_huge_exp", "number_range"),
        ("i_number_pos_double_huge_exp", "number_range"),
        ("i_number_real_neg_overflow", "number_range"),
        ("i_number_real_pos_overflow", "number_range"),
        ("i_number_real_underflow", "[0.0]"),
        ("i_number_too_big_neg_int", "[-1.2312312312312312e+29]"),
        ("i_number_too_big_pos_int", "[1e+20]"),
        ("i_number_very_big_negative_int", "[-2.374623746732769e+47]"),
        ("i_object_key_lone_2nd_surrogate", "malformed"),
        ("i_string_1st_surrogate_but_2nd_missing", "malformed"),
        ("i_string_1st_valid_surrogate_2nd_invalid", "malformed"),
        ("i_string_UTF-16LE_with_BOM", "not_utf8"),
        ("i_string_UTF-8_invalid_sequence", "not_utf8"),
        ("i_string_UTF8_surrogate_U+D800", "not_utf8"),
        (
            "i_string_incomplete_surrogate_and_escape_valid",
            "malformed",
        ),
        ("i_string_incomplete_surrogate_pair", "malformed"),
        ("i_string_incomplete_surrogates_escape_valid", "malformed"),
        ("i_string_invalid_lonely_surrogate", "malformed"),
        ("i_string_invalid_surrogate", "malformed"),
        ("i_string_invalid_utf-8", "not_utf8"),
        ("i_string_inverted_surrogates_U+1D11E", "malformed"),
        ("i_string_iso_latin_1", "not_utf8"),
        ("i_string_lone_second_surrogate", "malformed"),
        ("i_string_lone_utf8_continuation_byte", "not_utf8"),
        ("i_string_not_in_unicode_range", "not_utf8"),
        ("i_string_overlong_sequence_2_bytes", "not_utf8"),
        ("i_string_overlong_sequence_6_bytes", "not_utf8"),
        ("i_string_overlong_sequence_6_bytes_null", "not_utf8"),
        ("i_string_truncated-utf-8", "not_utf8"),
        ("i_string_utf16BE_no_BOM", "not_utf8"),
        ("i_string_utf16LE_no_BOM", "not_utf8"),
        ("i_structure_500_nested_arrays", "too_deep"),
        ("i_structure_UTF-8_BOM_empty_object", "malformed"),
    ];
    let found: Vec<(String, String)> = files("parsing")
        .into_iter()
        .filter(|(name, _)| name.starts_with("i_"))
        .map(|(name, bytes)| (name, meaning(&bytes)))
        .collect();
    let pinned: Vec<_> = pinned
        .iter()
        .map(|(name, meaning)| ((*name).into(), (*meaning).into()))
        .collect();
    assert_eq!(found, pinned);
}

#[test]
fn every_odd_document_has_one_meaning() {
    let pinned = [
        ("number_-9223372036854775808", "[-9223372036854775808]"),
        ("number_-9223372036854775809", "[-9.223372036854776e+18]"),
        ("number_1.0", "[1.0]"),
        ("number_1.000000000000000005", "[1.0]"),
        ("number_1000000000000000", "[1000000000000000]"),
        ("number_10000000000000000999", "[10000000000000000999]"),
        ("number_1e-999", "[0.0]"),
        ("number_1e6", "[1000000.0]"),
        ("number_9223372036854775807", "[9223372036854775807]"),
        ("number_9223372036854775808", "[9223372036854775808]"),
        (
            "object_key_nfc_nfd",
            "{\"e\u{301}\":\"NFD\",\"\u{e9}\":\"NFC\"}",
        ),
        (
            "object_key_nfd_nfc",
            "{\"e\u{301}\":\"NFD\",\"\u{e9}\":\"NFC\"}",
        ),
        ("object_same_key_different_values", "duplicate_key"),
        ("object_same_key_same_value", "duplicate_key"),
        ("object_same_key_unclear_values", "duplicate_key"),
        ("string_1_escaped_invalid_codepoint", "malformed"),
        ("string_1_invalid_codepoint", "not_utf8"),
        ("string_2_escaped_invalid_codepoints", "malformed"),
        ("string_2_invalid_codepoints", "not_utf8"),
        ("string_3_escaped_invalid_codepoints", "malformed"),
        ("string_3_invalid_codepoints", "not_utf8"),
        ("string_with_escaped_NULL", "[\"A\\u0000B\"]"),
    ];
    let found: Vec<(String, String)> = files("transform")
        .into_iter()
        .map(|(name, bytes)| (name, meaning(&bytes)))
        .collect();
    let pinned: Vec<_> = pinned
        .iter()
        .map(|(name, meaning)| ((*name).into(), (*meaning).into()))
        .collect();
    assert_eq!(found, pinned);
}

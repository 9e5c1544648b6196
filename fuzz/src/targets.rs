//! The parsers, each with where its seeds are and the words of its language.

use bytes::Bytes;
use sapwood_tree::{Limits, Path, TopicFilter};

/// One parser.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// Folders, from `fuzz/`.
    pub seeds: &'static [&'static str],
    pub words: &'static [&'static [u8]],
}

const JSON_WORDS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\\u",
    b"\\ud800",
    b"null",
    b"true",
    b"1.0e-400",
    b"{\"a\":",
    b"[[[[[[[[",
    b"\".value\"",
    b"\".bytes\":\"AA==\"",
    b"\".sv\"",
    b"\"%2Evalue\"",
];
const BINARY_WORDS: &[&[u8]] = &[
    &[0x9f],
    &[0xbf],
    &[0xff],
    &[0x5f],
    &[0x7f],
    &[0x81; 8],
    &[0x91; 8],
    &[0xa1, 0x61, 0x61],
    &[0xf9, 0x7e, 0],
    &[0xc2, 0x49],
    &[0xdf, 0xff, 0xff, 0xff, 0xff],
    &[0xdd, 0xff, 0xff, 0xff, 0xff],
    &[0xc6, 0xff, 0xff, 0xff, 0xff],
    &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
];
const URL_WORDS: &[&[u8]] = &[
    b"/",
    b"//",
    b"%2F",
    b"%2e",
    b"%252E",
    b"%00",
    b"%zz",
    b"~",
    b"~~",
    b"..",
    b".json",
    b".cbor",
    b".msgpack",
    b"?since=",
    b"&events=tree",
    b"&ns=",
    b"==",
    b"?publish",
    "é".as_bytes(),
    b"%C3%A9",
];
const TOPIC_WORDS: &[&[u8]] = &[b"/", b"+", b"#", b"/+/", b"/#", b"$", b"+a", b"\0"];
const HEADER_WORDS: &[&[u8]] = &[
    b",",
    b";",
    b";q=",
    b"q=0.5",
    b"q=1.0000",
    b"*/*",
    b"text/*",
    b"application/json",
    b"application/cbor",
    b"text/event-stream",
    b"W/",
    b"\"",
    b"charset=\"utf-8\"",
];
const TOML_WORDS: &[&[u8]] = &[
    b"[http]\n",
    b"[store]\n",
    b"[databases.default.resources.\"a/{id}\"]\n",
    b" = ",
    b"\"\"\"",
    b"'''",
    b"0x",
    b"1_000",
    b"[[",
    b"listen",
    b"1979-05-27T07:32:00Z",
    b"\\u0000",
    b"{a.b=",
];

/// All of them.
pub fn all() -> Vec<Target> {
    let target = |name, run, seeds, words| Target {
        name,
        run,
        seeds,
        words,
    };
    vec![
        target(
            "json",
            sapwood_value::fuzz::json,
            &["seeds/json", "../crates/value/tests/vectors/json"],
            JSON_WORDS,
        ),
        target(
            "cbor",
            sapwood_value::fuzz::cbor,
            &["../crates/value/tests/vectors/cbor"],
            BINARY_WORDS,
        ),
        target(
            "msgpack",
            sapwood_value::fuzz::msgpack,
            &["seeds/msgpack"],
            BINARY_WORDS,
        ),
        target(
            "stored",
            sapwood_value::fuzz::stored,
            &["../crates/value/tests/vectors/cbor"],
            BINARY_WORDS,
        ),
        target("path", path, &["seeds/path"], URL_WORDS),
        target(
            "url",
            sapwood_http::url::fuzz,
            &["seeds/path", "seeds/query"],
            URL_WORDS,
        ),
        target(
            "accept",
            sapwood_http::negotiate::fuzz,
            &["seeds/accept"],
            HEADER_WORDS,
        ),
        target(
            "command",
            sapwood_http::command::fuzz,
            &["seeds/command"],
            JSON_WORDS,
        ),
        target("topic", topic, &["seeds/topic", "seeds/path"], TOPIC_WORDS),
        target("segment", segment, &[], BINARY_WORDS),
        target(
            "entry",
            entry,
            &["../crates/value/tests/vectors/cbor"],
            BINARY_WORDS,
        ),
        target("config", config, &["seeds/config"], TOML_WORDS),
    ]
}

/// A path that is read is written as it was read.
fn path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(path) = Path::parse(text, &Limits::default()) {
        assert_eq!(
            Path::parse(path.as_str(), &Limits::default()).ok(),
            Some(path)
        );
    }
}

fn topic(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let _filter = TopicFilter::parse(text, &Limits::default());
}

fn segment(bytes: &[u8]) {
    let _report = sapwood_store::log::check_segment(bytes);
}

fn entry(bytes: &[u8]) {
    let _commit = sapwood_core::decode_entry(1, &Bytes::copy_from_slice(bytes));
}

fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(loaded) = sapwood::config::Loaded::from_text(text) {
        assert!(!loaded.report().is_empty());
    }
}

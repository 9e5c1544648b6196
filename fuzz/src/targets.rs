//! The parsers, each with where its seeds are and the words of its language.

use bytes::Bytes;
use sapwood_tree::{Limits, Path, Query, QueryLimits, TopicFilter};

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

const YAML_WORDS: &[&[u8]] = &[
    b"serverModules:",
    b"module: mqtt",
    b"port: ",
    b"webSocket: true",
    b"\n  - ",
    b"\n    ",
    b"[",
    b"{",
    b"}]",
    b"? ",
    b"&a ",
    b"*a",
    b"!!str ",
    b"|\n",
    b"---\n",
    b"%YAML 1.2\n",
    b"\t",
];

const HTTP_WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b"GET / HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b"Host: a\r\n",
    b"Content-Length: ",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"transfer-encoding : gzip, chunked\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b";a=b\r\n",
    b"\0",
];
/// Frames of a client: a first byte, a length with the mask's bit, a mask of zeros.
const WEBSOCKET_WORDS: &[&[u8]] = &[
    &[0x81, 0x85, 0, 0, 0, 0, b'h', b'e', b'l', b'l', b'o'],
    &[0x01, 0x81, 0, 0, 0, 0, 0xc3],
    &[0x80, 0x81, 0, 0, 0, 0, 0xa9],
    &[0x00, 0x80, 0, 0, 0, 0],
    &[0x82, 0x80, 1, 2, 3, 4],
    &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8],
    &[0x88, 0x80, 0, 0, 0, 0],
    &[0x89, 0x80, 0, 0, 0, 0],
    &[0x8a, 0x81, 0, 0, 0, 0, b'p'],
    &[0xc1, 0x80, 0, 0, 0, 0],
    &[0x82, 0xfe, 0x03, 0xe9, 0, 0, 0, 0],
    &[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x89, 0xfe, 0, 0x7e, 0, 0, 0, 0],
];

/// Packets, and pieces of them.
const MQTT_WORDS: &[&[u8]] = &[
    b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01c",
    b"\x10\x0e\0\x04MQTT\x05\0\0\x3c\0\0\x01c",
    b"\0\x04MQTT",
    b"\0\x06MQIsdp",
    b"\0\x01a",
    b"\x32\x06\0\x01a\0\x01x",
    b"\x34\x06\0\x01a\0\x02\0",
    b"\x40\x02\0\x01",
    b"\x50\x02\0\x01",
    b"\x62\x02\0\x02",
    b"\x70\x02\0\x01",
    b"\x82\x06\0\x01\0\x01a\x01",
    b"\xa2\x05\0\x01\0\x01a",
    b"\xc0\0",
    b"\xe0\0",
    b"\xf0\0",
    b"\x26\0\x01k\0\x01v",
    b"\x23\0\x01",
    b"\x0b\x01",
    b"\xff\xff\xff\x7f",
    b"\x80\x80\x80\x01",
];
/// What happens to the machine: an outcome, an acknowledgement kept, a delivery of each QoS, time, another connection.
const MACHINE_WORDS: &[&[u8]] = &[
    b"\x02\x07",
    b"\x02\x00",
    b"\x03\x00",
    b"\x04\x00",
    b"\x05\x00",
    b"\x05\x01",
    b"\x05\x02",
    b"\x05\x31",
    b"\x06\x40",
    b"\x00\x64",
    b"\x01\x0a",
    b"\x08\x00",
    b"\x0a\x01",
    b"\x10\x0d\0\x04MQTT\x04\0\0\x3c\0\x01c",
    b"\x10\x16\0\x04MQTT\x05\0\0\x3c\x08\x11\0\0\0\x3c\x21\0\x02\0\x01c",
    b"\x32\x07\0\x01a\0\x01\0x",
    b"\x34\x07\0\x01a\0\x02\0x",
    b"\x40\x02\0\x01",
    b"\x50\x02\0\x01",
    b"\x62\x02\0\x02",
    b"\x70\x02\0\x01",
];
const CONDITION_WORDS: &[&[u8]] = &[
    b"&",
    b"|",
    b"(",
    b")",
    b"[",
    b"]",
    b"=",
    b"==",
    b"!==",
    b"=gt=",
    b"&lt=",
    b"=ct=",
    b"%26",
    b"%ff",
    b".value",
    b"a.b",
    b"*",
    b"string:",
    b"number:1e400",
    b"null",
    b"[[1]]",
];
const FILTER_WORDS: &[&[u8]] = &[
    b"\n",
    b"\n=",
    b"/",
    b"+",
    b"#",
    b"/+/",
    b"/#",
    b"$share/g/",
    b"$SYS",
    b"%2B",
    b"%23",
    b"~",
    b".",
    b"a",
];
const PROXY_WORDS: &[&[u8]] = &[
    b"PROXY ",
    b"TCP4 ",
    b"TCP6 ",
    b"UNKNOWN",
    b"192.0.2.1 ",
    b"2001:db8::1 ",
    b"65535",
    b"\r\n",
    b"\r\n\r\n\0\r\nQUIT\n",
    &[0x21, 0x11, 0, 12],
    &[0x21, 0x21, 0, 36],
    &[0x21, 0x31, 0, 216],
    &[0x20, 0, 0, 0],
    &[0x21, 0x11, 0x0f, 0xf0],
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
        target("harper", harper, &["seeds/harper"], YAML_WORDS),
        target(
            "framing",
            sapwood_net::fuzz::framing,
            &["seeds/framing"],
            HTTP_WORDS,
        ),
        target(
            "websocket",
            sapwood_net::fuzz::websocket,
            &["seeds/websocket"],
            WEBSOCKET_WORDS,
        ),
        target(
            "mqtt-codec-3",
            sapwood_mqtt::fuzz::codec_3,
            &["seeds/mqtt3"],
            MQTT_WORDS,
        ),
        target(
            "mqtt-codec-5",
            sapwood_mqtt::fuzz::codec_5,
            &["seeds/mqtt5"],
            MQTT_WORDS,
        ),
        target(
            "mqtt-bridge",
            sapwood_mqtt::fuzz::bridge,
            &["seeds/mqtt-bridge"],
            MQTT_WORDS,
        ),
        target(
            "mqtt-machine",
            sapwood_mqtt::fuzz::machine,
            &["seeds/mqtt-machine", "seeds/mqtt3", "seeds/mqtt5"],
            MACHINE_WORDS,
        ),
        target(
            "mqtt-websocket",
            sapwood_mqtt::fuzz::websocket,
            &["seeds/mqtt3", "seeds/mqtt5", "seeds/websocket"],
            MQTT_WORDS,
        ),
        target(
            "filters",
            sapwood_mqtt::fuzz::filters,
            &["seeds/filters", "seeds/topic"],
            FILTER_WORDS,
        ),
        target(
            "conditions",
            conditions,
            &["seeds/conditions"],
            CONDITION_WORDS,
        ),
        target(
            "proxy",
            sapwood_net::fuzz::proxy,
            &["seeds/proxy"],
            PROXY_WORDS,
        ),
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

/// A query, and behind the line a document for it.
fn conditions(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (text, document) = text.split_once('\n').unwrap_or((text, "null"));
    let limits = QueryLimits::default();
    match Query::parse(text, &limits) {
        Ok(query) => {
            let document = sapwood_value::Value::from_json(document).unwrap_or_default();
            // A group says what is in it, where there may be one more.
            if let Ok(group) = Query::parse(&format!("[{text}]"), &limits) {
                assert_eq!(group.matches(&document), query.matches(&document));
            }
        }
        Err(error) => assert!(error.at <= text.len()),
    }
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

fn harper(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(loaded) = sapwood::config::Loaded::from_harper_text(text) {
        assert!(!loaded.report().is_empty());
    }
}

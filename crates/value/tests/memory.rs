//! What decoding takes at its peak, seen from outside: each body is decoded in a process of its own.
#![expect(clippy::unwrap_used, reason = "a test stops where it can't go on")]

use std::process::Command;

use sapwood_value::{Format, Limits};

const CASE: &str = "SAPWOOD_MEMORY_CASE";
const MIB: usize = 1 << 20;

/// A body of tiny items, what it comes to, and the memory in bytes that its decoding may take.
struct Case {
    name: &'static str,
    format: Format,
    body: fn() -> Vec<u8>,
    wanted: &'static str,
    most: usize,
}

/// What a value may take that is let in: the limit, and what the allocator adds to small pieces.
const BUILT: usize = 192 * MIB * 10 / 9;
/// What a refused body may take.
const REFUSED: usize = 32 * MIB;

const CASES: [Case; 11] = [
    case(
        Format::Json,
        "json zeros 10 MB",
        || json(b"0,", 10_000_000),
        "ok",
        BUILT,
    ),
    case(
        Format::Json,
        "json zeros 15 MB",
        || json(b"0,", 15_000_000),
        "too_large",
        REFUSED,
    ),
    case(
        Format::Json,
        "json maps 15 MB",
        || json(b"{},", 15_000_000),
        "ok",
        BUILT,
    ),
    case(
        Format::Json,
        "json arrays of one 10 MB",
        || json(b"[0],", 10_000_000),
        "ok",
        BUILT,
    ),
    case(
        Format::Json,
        "json arrays of one 15 MB",
        || json(b"[0],", 15_000_000),
        "too_large",
        REFUSED,
    ),
    case(
        Format::Json,
        "json maps of one 15 MB",
        || json(b"{\"\":0},", 15_000_000),
        "ok",
        BUILT,
    ),
    case(
        Format::Cbor,
        "cbor nulls",
        || counted(b"\x9a", b"\xf6", 5_000_000),
        "ok",
        BUILT,
    ),
    case(
        Format::Cbor,
        "cbor nulls 15 MB",
        || counted(b"\x9a", b"\xf6", 15_000_000),
        "too_large",
        REFUSED,
    ),
    case(
        Format::Cbor,
        "cbor bytes",
        || counted(b"\x9a", b"\x40", 5_000_000),
        "too_large",
        REFUSED,
    ),
    case(
        Format::MessagePack,
        "msgpack nulls",
        || counted(b"\xdd", b"\xc0", 5_000_000),
        "ok",
        BUILT,
    ),
    case(
        Format::MessagePack,
        "msgpack maps 15 MB",
        || counted(b"\xdd", b"\x80", 15_000_000),
        "too_large",
        REFUSED,
    ),
];

const fn case(
    format: Format,
    name: &'static str,
    body: fn() -> Vec<u8>,
    wanted: &'static str,
    most: usize,
) -> Case {
    Case {
        name,
        format,
        body,
        wanted,
        most,
    }
}

fn json(item: &[u8], bytes: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(bytes + item.len());
    body.push(b'[');
    while body.len() + item.len() <= bytes {
        body.extend_from_slice(item);
    }
    body.pop();
    body.push(b']');
    body
}

fn counted(head: &[u8], item: &[u8], items: u32) -> Vec<u8> {
    let mut body = Vec::with_capacity(items as usize * item.len() + 8);
    body.extend_from_slice(head);
    body.extend_from_slice(&items.to_be_bytes());
    for _ in 0..items {
        body.extend_from_slice(item);
    }
    body
}

/// A line of the kernel's account of this process, in bytes.
fn status(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let number = line.split_whitespace().nth(1).unwrap();
    number.parse::<usize>().unwrap() * 1024
}

#[test]
fn decoding_takes_what_the_value_takes_and_refusing_takes_next_to_nothing() {
    if let Ok(name) = std::env::var(CASE) {
        let case = CASES.iter().find(|case| case.name == name).unwrap();
        let body = (case.body)();
        let before = status("VmRSS:");
        let decoded = case.format.decode(&body, &Limits::default());
        let peak = status("VmHWM:").saturating_sub(before);
        let came = decoded.as_ref().map_or_else(|error| error.code(), |_| "ok");
        println!("\n{CASE}: {came} {peak}");
        return;
    }
    if !std::path::Path::new("/proc/self/status").exists() {
        println!("skipped: only Linux says what a process takes");
        return;
    }
    let mut wrong = Vec::new();
    for case in &CASES {
        let run = Command::new(std::env::current_exe().unwrap())
            .env(CASE, case.name)
            .arg("--nocapture")
            .output()
            .unwrap();
        let out = String::from_utf8(run.stdout).unwrap();
        let line = out.lines().find_map(|line| line.strip_prefix(CASE));
        let (came, peak) = line.unwrap()[2..].split_once(' ').unwrap();
        let peak: usize = peak.parse().unwrap();
        println!("{}: {came}, {} MiB", case.name, peak / MIB);
        if came != case.wanted || peak > case.most {
            wrong.push((case.name, came.to_owned(), peak / MIB));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

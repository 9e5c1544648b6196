//! What a fuzzer feeds: bytes in, a panic where a promise is broken.
#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is what it finds faults by"
)]

mod machine;

use bytes::{Bytes, BytesMut};
use sapwood_net::websocket;
use sapwood_tree::{FilterIndex, Limits, Path, TopicFilter};

use crate::codec::{DecodeLimits, Decoder, Fault, Packet, Version, encode, encoded_len};
use crate::topic::{self, Filter};

pub use crate::bridge::fuzz::relay as bridge;
pub use machine::machine;

const LIMITS: DecodeLimits = DecodeLimits {
    packet_bytes_max: 32 << 10,
    filters_max: 50,
};

/// What became of a stream of bytes.
#[derive(Debug, PartialEq)]
struct Read {
    packets: Vec<Packet>,
    fault: Option<Fault>,
    version: Option<Version>,
}

/// Decodes a client's bytes as a server of 3.x does, and as one who knows that 3.1 or 3.1.1 is spoken.
///
/// # Panics
/// If it makes a difference how the bytes are cut, or what was read is not written as the same.
pub fn codec_3(bytes: &[u8]) {
    check(|| Decoder::new(LIMITS), bytes);
    check(|| Decoder::with_version(Version::V3_1, LIMITS), bytes);
    check(|| Decoder::with_version(Version::V3_1_1, LIMITS), bytes);
}

/// The same for 5.0.
///
/// # Panics
/// As [`codec_3`].
pub fn codec_5(bytes: &[u8]) {
    check(|| Decoder::new(LIMITS), bytes);
    check(|| Decoder::with_version(Version::V5, LIMITS), bytes);
}

fn check(decoder: impl Fn() -> Decoder, bytes: &[u8]) {
    let whole = read(decoder(), [bytes]);
    assert_eq!(read(decoder(), bytes.chunks(1)), whole);
    assert_eq!(read(decoder(), bytes.chunks(7)), whole);
    let Some(version) = whole.version else {
        assert!(whole.packets.is_empty() || !is_known(&whole.packets[0]));
        return;
    };
    for packet in whole.packets {
        if is_known(&packet) {
            comes_back(packet, version);
        }
    }
}

/// All but a CONNECT whose level nobody speaks: that is not written, and says no version.
fn is_known(packet: &Packet) -> bool {
    !matches!(packet, Packet::ConnectUnknown(_))
}

fn read<'a>(mut decoder: Decoder, pieces: impl IntoIterator<Item = &'a [u8]>) -> Read {
    let (mut buffer, mut packets) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(fault) => {
                    return Read {
                        packets,
                        fault: Some(fault),
                        version: decoder.version(),
                    };
                }
            }
        }
    }
    Read {
        packets,
        fault: None,
        version: decoder.version(),
    }
}

fn comes_back(packet: Packet, version: Version) {
    let mut written = BytesMut::new();
    assert_eq!(encode(&packet, version, &mut written), Ok(()));
    assert_eq!(encoded_len(&packet, version), Some(written.len()));
    let again = read(Decoder::with_version(version, LIMITS), [&*written]);
    assert_eq!((again.packets, again.fault), (vec![packet], None));
}

/// Carries a client's bytes in WebSocket frames, cut at any places, and reads frames that are not of our making.
///
/// # Panics
/// If it makes a difference how the stream is cut into frames, or these into reads (6.0.0-2).
pub fn websocket(bytes: &[u8]) {
    let direct = read(Decoder::new(LIMITS), [bytes]);
    let framed = frames(bytes);
    for size in [usize::MAX, 1, 7] {
        let payloads = payloads(framed.chunks(size));
        let got = read(
            Decoder::new(LIMITS),
            payloads.iter().map(|bytes| &bytes[..]),
        );
        assert_eq!(got, direct);
    }
    let whole = payloads([bytes]);
    assert_eq!(payloads(bytes.chunks(1)), whole);
    read(Decoder::new(LIMITS), whole.iter().map(|bytes| &bytes[..]));
}

/// The bytes in binary messages, whose sizes and fragments the bytes themselves choose; a ping goes between.
fn frames(bytes: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let mut out = Vec::with_capacity(2 * bytes.len());
    let (mut rest, mut continues) = (bytes, false);
    while !rest.is_empty() {
        let first = rest[0];
        let (piece, behind) = rest.split_at(usize::from(first % 100 + 1).min(rest.len()));
        let is_last = behind.is_empty() || first & 1 == 0;
        let opcode = if continues { 0 } else { 2 };
        out.push(opcode | if is_last { 0x80 } else { 0 });
        out.push(0x80 | piece.len() as u8);
        out.extend(MASK);
        out.extend(piece.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b));
        if first & 4 != 0 {
            out.extend([0x89, 0x80, 0, 0, 0, 0]);
        }
        (rest, continues) = (behind, !is_last);
    }
    out
}

/// What binary messages carry, up to what ends the connection.
fn payloads<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Bytes> {
    let mut decoder = websocket::Decoder::new(LIMITS.packet_bytes_max as usize);
    let mut payloads = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.message() {
                Ok(Some(websocket::Message::Binary(payload))) => payloads.push(payload),
                Ok(Some(websocket::Message::Ping(_) | websocket::Message::Pong)) => {}
                Ok(None) => break,
                Ok(Some(websocket::Message::Text(_) | websocket::Message::Close(_))) | Err(_) => {
                    return payloads;
                }
            }
        }
    }
    payloads
}

/// Matches filters with topics: a line each, topics with `=` in front.
///
/// # Panics
/// If a filter, or an index of all of them, says something else than the standard's words (4.7).
pub fn filters(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let limits = Limits::default();
    let (mut filters, mut paths, mut index) = (Vec::new(), Vec::new(), FilterIndex::new());
    for line in text.lines().take(64) {
        match line.strip_prefix('=') {
            Some(topic) => paths.extend(path(topic, &limits)),
            None => filters.extend(Filter::parse(line, &limits)),
        }
    }
    for (id, filter) in filters.iter().enumerate() {
        index.insert(&filter.filter, id);
    }
    agrees(&filters, &paths, &index, |_| true);
    for (id, filter) in filters.iter().enumerate().skip(1).step_by(2) {
        assert!(index.remove(&filter.filter, &id));
        assert!(!index.remove(&filter.filter, &id));
    }
    agrees(&filters, &paths, &index, |id| id % 2 == 0);
    assert_eq!(index.len(), filters.len().div_ceil(2));
}

/// A topic's path, whose topic is the same again.
fn path(topic: &str, limits: &Limits) -> Option<Path> {
    if topic.is_empty() || topic.contains(['+', '#']) {
        return None;
    }
    let path = topic::to_path(topic, limits).ok()?;
    let back = topic::from_path(&path)?;
    assert_eq!(topic::to_path(back.as_str(), limits).as_ref(), Ok(&path));
    Some(path)
}

fn agrees(
    filters: &[Filter],
    paths: &[Path],
    index: &FilterIndex<usize>,
    is_there: impl Fn(usize) -> bool,
) {
    for path in paths {
        let mut found = Vec::new();
        index.for_each_match(path, |id| found.push(*id));
        found.sort_unstable();
        let mut expected = Vec::new();
        for (id, filter) in filters.iter().enumerate() {
            // A level that is a wildcard's character and none can't be told from one in print.
            let text = filter.filter.to_string();
            let is_plain =
                TopicFilter::parse(&text, &Limits::default()).as_ref() == Ok(&filter.filter);
            let matches = if is_plain {
                matches_naively(&text, path)
            } else {
                filter.filter.matches(path)
            };
            assert_eq!(filter.filter.matches(path), matches, "{filter:?} {path}");
            if matches && is_there(id) {
                expected.push(id);
            }
        }
        assert_eq!(found, expected, "{path}");
    }
}

/// 4.7.1, 4.7.2, word by word; and what begins with a dot is the system's.
fn matches_naively(filter: &str, path: &Path) -> bool {
    fn matches(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            ([], []) | (["#"], _) => true,
            (["+", filter @ ..], [_, topic @ ..]) => matches(filter, topic),
            ([level, filter @ ..], [other, topic @ ..]) => level == other && matches(filter, topic),
            _ => false,
        }
    }
    let levels: Vec<&str> = filter.split('/').collect();
    let names: Vec<&str> = path.segments().collect();
    let hidden = names
        .first()
        .is_some_and(|name| name.starts_with(['$', '.']));
    !(hidden && matches!(levels[0], "+" | "#")) && matches(&levels, &names)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_break_a_promise(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            super::codec_3(&bytes);
            super::codec_5(&bytes);
            super::machine(&bytes);
            super::websocket(&bytes);
        }

        #[test]
        fn no_filters_do(text in "([=]?[ab+#/$.%~2B]{0,6}\n){0,12}") {
            super::filters(text.as_bytes());
        }
    }
}

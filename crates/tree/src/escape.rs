//! How a door whose protocol can't say a segment writes it (design, 2.4).
//!
//! A character that the door can't say is written `%XX`, byte by byte of its UTF-8, in upper case. `%` itself is
//! written `%25` only where it would read as such an escape. An empty segment is written `~`, and a segment of n tildes
//! as n + 1. Each segment has one spelling, and each spelling that [`escape`] makes reads back as its segment.

#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::borrow::Cow;

/// Writes a segment for a door that can't say some characters. `%`, `~` and digits and letters it must be able to say.
pub fn escape<'a>(segment: &'a str, cannot_say: &dyn Fn(char) -> bool) -> Cow<'a, str> {
    if segment.bytes().all(|byte| byte == b'~') {
        return Cow::Owned(format!("{segment}~"));
    }
    let mut out = String::new();
    let mut rest = segment;
    while let Some(c) = rest.chars().next() {
        let (this, behind) = rest.split_at(c.len_utf8());
        if cannot_say(c) {
            this.bytes().for_each(|byte| push_escape(byte, &mut out));
        } else if c == '%' && reads_as_escape(rest, cannot_say) {
            out.push_str("%25");
        } else {
            out.push(c);
        }
        rest = behind;
    }
    if out == segment {
        Cow::Borrowed(segment)
    } else {
        Cow::Owned(out)
    }
}

/// Reads what [`escape`] wrote. What it would not have written stands for itself.
pub fn unescape<'a>(text: &'a str, cannot_say: &dyn Fn(char) -> bool) -> Cow<'a, str> {
    if let Some(tildes) = text.strip_prefix('~')
        && tildes.bytes().all(|byte| byte == b'~')
    {
        return Cow::Borrowed(tildes);
    }
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let read = if c == '%' {
            read_escape(rest, cannot_say)
        } else {
            None
        };
        let (c, length) = read.unwrap_or((c, c.len_utf8()));
        out.push(c);
        rest = rest.get(length..).unwrap_or_default();
    }
    Cow::Owned(out)
}

/// Whether text that begins with `%` would be decoded there, were it left as it is.
fn reads_as_escape(text: &str, cannot_say: &dyn Fn(char) -> bool) -> bool {
    // What follows may itself be escaped: only bytes that stay as they are count.
    read_escape(text, cannot_say).is_some()
}

/// The character that an escape at the front of `text` stands for, and how many bytes the escape takes: one that the
/// door can't say, or a `%` in front of what reads as an escape.
fn read_escape(text: &str, cannot_say: &dyn Fn(char) -> bool) -> Option<(char, usize)> {
    if let Some(behind) = text.strip_prefix("%25")
        && !cannot_say('%')
    {
        let escape = format!("%{behind}");
        return read_escape(&escape, cannot_say).map(|_| ('%', 3));
    }
    let mut bytes = [0; 4];
    for length in 1..=4 {
        let slot = bytes.get_mut(length - 1)?;
        *slot = escaped_byte(text.get(3 * (length - 1)..)?)?;
        let read = bytes
            .get(..length)
            .and_then(|bytes| std::str::from_utf8(bytes).ok());
        if let Some(c) = read.and_then(|read| read.chars().next()) {
            return cannot_say(c).then_some((c, 3 * length));
        }
    }
    None
}

fn escaped_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix('%')?.get(..2)?;
    let upper = |byte: u8| matches!(byte, b'0'..=b'9' | b'A'..=b'F');
    if !digits.bytes().all(upper) {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

fn push_escape(byte: u8, out: &mut String) {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    out.push('%');
    for nibble in [byte >> 4, byte & 0xF] {
        out.extend(DIGITS.get(usize::from(nibble)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn firebase(c: char) -> bool {
        matches!(c, '.' | '$' | '#' | '[' | ']' | '\0'..='\x1f' | '\x7f')
    }

    fn mqtt(c: char) -> bool {
        matches!(c, '+' | '#')
    }

    fn odd(c: char) -> bool {
        matches!(c, 'é' | '€' | '\u{1f600}' | '.' | ':')
    }

    #[test]
    fn only_what_a_door_cannot_say_is_escaped() {
        assert_eq!(escape("a.b", &firebase), "a%2Eb");
        assert_eq!(escape("a.b", &mqtt), "a.b");
        assert_eq!(escape("100%", &firebase), "100%");
        assert_eq!(escape("%2E", &firebase), "%252E");
        assert_eq!(escape("%2e", &firebase), "%2e");
        assert_eq!(escape("%2E", &mqtt), "%2E");
        assert_eq!(escape("%252E", &firebase), "%25252E");
        assert_eq!(escape("%25", &firebase), "%25");
        assert_eq!(escape("é", &odd), "%C3%A9");
        assert_eq!(escape("", &mqtt), "~");
        assert_eq!(escape("~", &mqtt), "~~");
        assert_eq!(escape("~a", &mqtt), "~a");
    }

    #[test]
    fn only_canonical_escapes_are_read() {
        assert_eq!(unescape("a%2Eb", &firebase), "a.b");
        assert_eq!(unescape("a%2eb", &firebase), "a%2eb");
        assert_eq!(unescape("%41", &firebase), "%41");
        assert_eq!(unescape("%2541", &firebase), "%2541");
        assert_eq!(unescape("%252E", &firebase), "%2E");
        assert_eq!(unescape("%25252E", &firebase), "%252E");
        assert_eq!(unescape("~", &firebase), "");
        assert_eq!(unescape("~~~", &firebase), "~~");
    }

    fn segment() -> impl Strategy<Value = String> {
        prop_oneof![
            "(%|2|5|E|C|3|A|9|\\.|#|\\+|~|é|€|:|25|%2E|%C3%A9){0,10}",
            "[^/\0]{0,6}"
        ]
    }

    proptest! {
        #[test]
        fn every_segment_reads_back(segment in segment()) {
            for cannot_say in [firebase, mqtt, odd] {
                let text = escape(&segment, &cannot_say);
                prop_assert!(!text.contains(cannot_say), "{}", text);
                prop_assert!(!text.is_empty());
                prop_assert_eq!(unescape(&text, &cannot_say), &*segment, "by {}", text);
            }
        }

        #[test]
        fn every_spelling_is_that_of_its_segment(text in segment()) {
            for cannot_say in [firebase, mqtt, odd] {
                if text.is_empty() || text.contains(cannot_say) {
                    continue;
                }
                let segment = unescape(&text, &cannot_say).into_owned();
                prop_assert_eq!(escape(&segment, &cannot_say), &*text, "of {}", segment);
            }
        }
    }
}

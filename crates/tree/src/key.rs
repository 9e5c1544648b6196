//! Paths as row keys: bytes whose order is the tree's.
//!
//! A path's key is its segments and a closing 0x00:
//!
//! - an integer key (`-?0*[0-9]{1,10}` of 32 bits) is 0x02, the number as a big-endian `u32` with its sign bit turned
//!   over, the text's length as a big-endian `u16`, and 0 or 1 for a minus sign or none, which `-0` and `00` need;
//! - any other segment is 0x03, its UTF-8 with the lead bytes EE and EF written F8 and F9, and 0x00. That gives the
//!   order of UTF-16 code units, and nothing in it is 0x00.
//!
//! So a path sorts before its children, a subtree is one range, and children come in key order.

#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use sapwood_value::integer_key;

use crate::Path;
use crate::path::is_segment;

const END: u8 = 0x00;
const BELOW: u8 = 0x01;
const INTEGER: u8 = 0x02;
const TEXT: u8 = 0x03;
const AFTER: u8 = 0xFF;

impl Path {
    /// The key of the path's row.
    pub fn key(&self) -> Vec<u8> {
        self.key_with(END)
    }

    /// Appends the key of the path's row.
    pub fn key_into(&self, out: &mut Vec<u8>) {
        self.segments_into(out);
        out.push(END);
    }

    /// The keys strictly below the path: from the first, up to but without the second.
    pub fn below_range(&self) -> (Vec<u8>, Vec<u8>) {
        (self.key_with(BELOW), self.key_with(AFTER))
    }

    /// The keys at and below the path: from the first, up to but without the second.
    pub fn subtree_range(&self) -> (Vec<u8>, Vec<u8>) {
        (self.key_with(END), self.key_with(AFTER))
    }

    fn key_with(&self, end: u8) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.as_str().len() + 8);
        self.segments_into(&mut out);
        out.push(end);
        out
    }

    fn segments_into(&self, out: &mut Vec<u8>) {
        for segment in self.segments() {
            segment_into(segment, out);
        }
    }

    /// The path whose key these bytes are, if they are one.
    pub fn from_key(mut key: &[u8]) -> Option<Self> {
        let mut text = String::with_capacity(key.len());
        loop {
            let (tag, rest) = key.split_first()?;
            key = match *tag {
                END if rest.is_empty() => return Some(Self::from_text(text)),
                INTEGER => integer_from(rest, &mut text)?,
                TEXT => text_from(rest, &mut text)?,
                _ => return None,
            };
        }
    }
}

fn segment_into(segment: &str, out: &mut Vec<u8>) {
    // Longer keys than a length says are ordered as text; no configuration allows segments as long.
    match (integer_key(segment), u16::try_from(segment.len())) {
        (Some(number), Ok(length)) => {
            out.push(INTEGER);
            out.extend_from_slice(&(number.cast_unsigned() ^ 0x8000_0000).to_be_bytes());
            out.extend_from_slice(&length.to_be_bytes());
            out.push(u8::from(!segment.starts_with('-')));
        }
        _ => {
            out.push(TEXT);
            out.extend(segment.bytes().map(|byte| match byte {
                0xEE => 0xF8,
                0xEF => 0xF9,
                other => other,
            }));
            out.push(END);
        }
    }
}

fn integer_from<'a>(bytes: &'a [u8], text: &mut String) -> Option<&'a [u8]> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (sign, rest) = rest.split_first()?;
    let number = (u32::from_be_bytes(*number) ^ 0x8000_0000).cast_signed();
    let start = text.len() + 1;
    let length = usize::from(u16::from_be_bytes(*length));
    text.push('/');
    if *sign == 0 {
        text.push('-');
    }
    let digits = number.unsigned_abs().to_string();
    let digits_length = length.checked_sub(usize::from(*sign == 0))?;
    for _ in digits.len()..digits_length {
        text.push('0');
    }
    text.push_str(&digits);
    // What does not read back as it was written is damage.
    let segment = text.get(start..)?;
    let mut again = Vec::with_capacity(8);
    segment_into(segment, &mut again);
    (again.get(1..) == bytes.get(..7)).then_some(rest)
}

fn text_from<'a>(bytes: &'a [u8], text: &mut String) -> Option<&'a [u8]> {
    let end = bytes.iter().position(|byte| *byte == END)?;
    let (segment, rest) = bytes.split_at_checked(end)?;
    let rest = rest.get(1..)?;
    if segment.iter().any(|byte| matches!(byte, 0xEE | 0xEF)) {
        return None;
    }
    let plain = segment.iter().map(|byte| match byte {
        0xF8 => 0xEE,
        0xF9 => 0xEF,
        other => *other,
    });
    let segment = String::from_utf8(plain.collect()).ok()?;
    if !is_segment(&segment) || integer_key(&segment).is_some() {
        return None;
    }
    text.push('/');
    text.push_str(&segment);
    Some(rest)
}

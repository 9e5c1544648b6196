//! A filter as bytes, for who keeps it.
//!
//! Each level is its kind, and for a literal its length (two bytes, little-endian) and text: a literal may have any
//! character, so MQTT's spelling would not do.

use super::{Level, TopicFilter};

const LITERAL: u8 = 0;
const ONE: u8 = 1;
const ALL: u8 = 2;

impl TopicFilter {
    /// Appends the filter.
    pub fn store(&self, out: &mut Vec<u8>) {
        for level in &self.levels {
            match level {
                Level::One => out.push(ONE),
                Level::All => out.push(ALL),
                Level::Literal(text) => {
                    out.push(LITERAL);
                    // Segments are far shorter than that.
                    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
                    out.extend_from_slice(&len.to_le_bytes());
                    out.extend_from_slice(
                        text.as_bytes().get(..usize::from(len)).unwrap_or_default(),
                    );
                }
            }
        }
    }

    /// Reads what [`TopicFilter::store`] appended, all of it; none if the bytes are not that.
    pub fn restore(mut bytes: &[u8]) -> Option<Self> {
        let mut levels = Vec::new();
        while let Some((kind, rest)) = bytes.split_first() {
            bytes = rest;
            levels.push(match *kind {
                ONE => Level::One,
                ALL if bytes.is_empty() => Level::All,
                LITERAL => {
                    let (len, rest) = bytes.split_first_chunk::<2>()?;
                    let (text, rest) = rest.split_at_checked(u16::from_le_bytes(*len).into())?;
                    bytes = rest;
                    Level::Literal(std::str::from_utf8(text).ok()?.into())
                }
                _ => return None,
            });
        }
        Some(Self { levels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, Path};

    #[test]
    fn a_filter_reads_back() {
        let limits = Limits::default();
        let path = Path::from_segments(["a+b", "", "#"], &limits).unwrap();
        let filters = ["a/+/#", "#", "+", "a//b", "$SYS/x"];
        let parsed = filters.map(|text| TopicFilter::parse(text, &limits).unwrap());
        for filter in parsed.into_iter().chain([TopicFilter::literal(&path)]) {
            let mut bytes = Vec::new();
            filter.store(&mut bytes);
            assert_eq!(TopicFilter::restore(&bytes), Some(filter));
        }
    }

    #[test]
    fn damaged_bytes_are_none() {
        for bytes in [
            &[3][..],
            &[0],
            &[0, 1],
            &[0, 2, 0, 65],
            &[2, 1],
            &[0, 1, 0, 0xff],
        ] {
            assert_eq!(TopicFilter::restore(bytes), None, "{bytes:?}");
        }
    }
}

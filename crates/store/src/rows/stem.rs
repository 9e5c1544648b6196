//! Where the segments of a row's key end.
//!
//! The key of a path is its segments and a terminator of 0x00 (`tree::key`); the segments alone are its *stem*. What lies
//! strictly below a path are the keys that begin with its stem and go on with a segment's tag.

use std::ops::Bound;
use std::sync::Arc;

/// The key of a row, without the engine's prefix. Shared, as it is in several maps at once.
pub(crate) type Key = Arc<[u8]>;

/// No segment's tag is this large: the end of a subtree's range.
const PAST_TAGS: u8 = 0x04;
/// The smallest tag: where the range strictly below a path begins.
const FIRST_TAG: u8 = 0x02;
const INTEGER: u8 = 0x02;
const INTEGER_BYTES: usize = 8;
const TEXT: u8 = 0x03;

/// The stem of the path whose key this is.
pub(crate) fn stem(key: &[u8]) -> &[u8] {
    key.strip_suffix(&[0]).unwrap_or(key)
}

/// The range of keys strictly below a stem: first key and, exclusive, last.
pub(crate) fn below(stem: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (with(stem, FIRST_TAG), with(stem, PAST_TAGS))
}

/// The first key that may follow everything at and below a stem.
pub(crate) fn past(stem: &[u8]) -> Vec<u8> {
    with(stem, PAST_TAGS)
}

fn with(stem: &[u8], tag: u8) -> Vec<u8> {
    let mut key = Vec::with_capacity(stem.len() + 1);
    key.extend_from_slice(stem);
    key.push(tag);
    key
}

/// Half-open bounds, as the ordered maps want them.
pub(crate) fn half_open<'a>(from: &'a [u8], to: &'a [u8]) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    (Bound::Included(from), Bound::Excluded(to))
}

/// The lengths of the stems of all strict ancestors of the path with this key, from the root's (0) down.
pub(crate) fn ancestors(key: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let own = stem(key).len();
    let mut next = (own > 0).then_some(0);
    std::iter::from_fn(move || {
        let at = next?;
        next = segment_end(key, at).filter(|end| *end < own);
        Some(at)
    })
}

fn segment_end(key: &[u8], at: usize) -> Option<usize> {
    match *key.get(at)? {
        INTEGER => Some(at + INTEGER_BYTES),
        TEXT => {
            let text = key.get(at + 1..)?;
            text.iter()
                .position(|byte| *byte == 0)
                .map(|end| at + 1 + end + 1)
        }
        _ => None,
    }
}

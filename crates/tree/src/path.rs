//! Places in the tree.

#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use sapwood_value::key_cmp;

use crate::Limits;

/// A list of segments from the root: `/sensors/341/temp`; the root is the empty text.
///
/// A segment is UTF-8 without NUL or `/`, and may be empty: `/` is one empty segment. Clones share their text. The
/// order is the tree's: parents before children, siblings in [key order](key_cmp).
#[derive(Clone)]
pub struct Path(Arc<str>);

/// Why text is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// The text is neither empty nor begins with a slash.
    #[error("a path begins with a slash")]
    NoSlash,
    /// A segment contains NUL.
    #[error("a path contains no NUL")]
    Nul,
    /// A single segment contains a slash.
    #[error("a segment contains no slash")]
    Slash,
    /// More segments than [`Limits::depth`].
    #[error("the path is deeper than {limit} levels")]
    TooDeep {
        /// The limit that it passed.
        limit: usize,
    },
    /// A segment is longer than [`Limits::segment_bytes`].
    #[error("a segment of the path is longer than {limit} bytes")]
    SegmentTooLong {
        /// The limit that it passed, in bytes.
        limit: usize,
    },
}

impl Path {
    /// The whole tree.
    pub fn root() -> Self {
        static ROOT: LazyLock<Path> = LazyLock::new(|| Path(Arc::from("")));
        ROOT.clone()
    }

    /// Reads the plain form: `/a/b`, or nothing for the root.
    ///
    /// # Errors
    /// If the text is no path, or one past the limits.
    pub fn parse(text: &str, limits: &Limits) -> Result<Self, PathError> {
        let Some(segments) = text.strip_prefix('/') else {
            return if text.is_empty() {
                Ok(Self::root())
            } else {
                Err(PathError::NoSlash)
            };
        };
        for (n, segment) in segments.split('/').enumerate() {
            if n >= limits.depth {
                return Err(PathError::TooDeep {
                    limit: limits.depth,
                });
            }
            check_segment(segment, limits)?;
        }
        Ok(Self(Arc::from(text)))
    }

    /// The path of these segments.
    ///
    /// # Errors
    /// If one of them is no segment, or they are past the limits.
    pub fn from_segments<'a>(
        segments: impl IntoIterator<Item = &'a str>,
        limits: &Limits,
    ) -> Result<Self, PathError> {
        let mut text = String::new();
        for (n, segment) in segments.into_iter().enumerate() {
            if n >= limits.depth {
                return Err(PathError::TooDeep {
                    limit: limits.depth,
                });
            }
            check_segment(segment, limits)?;
            text.push('/');
            text.push_str(segment);
        }
        Ok(Self::from_text(text))
    }

    /// Text that is known to be a path: it came out of one.
    pub(crate) fn from_text(text: impl AsRef<str> + Into<Arc<str>>) -> Self {
        if text.as_ref().is_empty() {
            Self::root()
        } else {
            Self(text.into())
        }
    }

    /// The child of that name.
    ///
    /// # Errors
    /// If the name is no segment, or the child is past the limits.
    pub fn child(&self, segment: &str, limits: &Limits) -> Result<Self, PathError> {
        check_segment(segment, limits)?;
        if self.len() >= limits.depth {
            return Err(PathError::TooDeep {
                limit: limits.depth,
            });
        }
        Ok(self.child_unchecked(segment))
    }

    /// The child of a name that is known to be a segment.
    pub fn child_unchecked(&self, segment: &str) -> Self {
        debug_assert!(is_segment(segment), "{segment:?} is no segment");
        let mut text = String::with_capacity(self.0.len() + 1 + segment.len());
        text.push_str(&self.0);
        text.push('/');
        text.push_str(segment);
        Self(text.into())
    }

    /// The path without its last segment; the root has none.
    pub fn parent(&self) -> Option<Self> {
        let (parent, _) = self.0.rsplit_once('/')?;
        Some(Self::from_text(parent))
    }

    /// The last segment; the root has none.
    pub fn last(&self) -> Option<&str> {
        self.0.rsplit_once('/').map(|(_, last)| last)
    }

    /// The first segment; the root has none.
    pub fn first(&self) -> Option<&str> {
        self.segments().next()
    }

    /// The segments from the root.
    pub fn segments(&self) -> Segments<'_> {
        Segments(self.0.strip_prefix('/'))
    }

    /// How many segments there are.
    pub fn len(&self) -> usize {
        memchr_count(b'/', self.0.as_bytes())
    }

    /// Whether this is the root.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The plain form: `/a/b`, or nothing for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `other`, or lies below it.
    pub fn starts_with(&self, other: &Self) -> bool {
        self.0
            .strip_prefix(&*other.0)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether this lies strictly above `other`.
    pub fn is_above(&self, other: &Self) -> bool {
        other.is_below(self)
    }

    /// Whether this lies strictly below `other`.
    pub fn is_below(&self, other: &Self) -> bool {
        self.0.len() > other.0.len() && self.starts_with(other)
    }

    /// What leads from `base` to this path, if this is at or below it.
    pub fn strip_prefix(&self, base: &Self) -> Option<Self> {
        if self.starts_with(base) {
            self.0.get(base.0.len()..).map(Self::from_text)
        } else {
            None
        }
    }

    /// The segments that lead from `base` to this path, if this is at or below it.
    pub fn segments_below(&self, base: &Self) -> Option<Segments<'_>> {
        if self.starts_with(base) {
            let rest = self.0.get(base.0.len()..)?;
            Some(Segments(rest.strip_prefix('/')))
        } else {
            None
        }
    }

    /// The path `relative` as seen from this one.
    #[must_use]
    pub fn join(&self, relative: &Self) -> Self {
        if relative.is_root() {
            self.clone()
        } else if self.is_root() {
            relative.clone()
        } else {
            Self([&*self.0, &*relative.0].concat().into())
        }
    }

    /// The first `n` segments; the whole path if it has no more.
    #[must_use]
    pub fn prefix(&self, n: usize) -> Self {
        let end = self.0.match_indices('/').nth(n).map(|(at, _)| at);
        match end.and_then(|end| self.0.get(..end)) {
            Some(text) => Self::from_text(text),
            None => self.clone(),
        }
    }

    /// This path, its parent, and so on up to the root.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> + use<> {
        std::iter::successors(Some(self.clone()), Self::parent)
    }

    /// Whether the first segment begins with `.`: such paths are the system's (design, 2.4).
    pub fn is_system(&self) -> bool {
        self.0.starts_with("/.")
    }
}

/// Whether a key can be a segment of a path, whatever its length.
pub fn is_segment(key: &str) -> bool {
    !key.bytes().any(|byte| byte == b'/' || byte == 0)
}

fn check_segment(segment: &str, limits: &Limits) -> Result<(), PathError> {
    if segment.len() > limits.segment_bytes {
        return Err(PathError::SegmentTooLong {
            limit: limits.segment_bytes,
        });
    }
    match segment.bytes().find(|byte| matches!(byte, 0 | b'/')) {
        None => Ok(()),
        Some(0) => Err(PathError::Nul),
        Some(_) => Err(PathError::Slash),
    }
}

fn memchr_count(needle: u8, bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == needle).count()
}

/// The segments of a path, from the root.
#[derive(Debug, Clone)]
pub struct Segments<'a>(Option<&'a str>);

impl<'a> Iterator for Segments<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0?;
        match text.split_once('/') {
            Some((segment, rest)) => {
                self.0 = Some(rest);
                Some(segment)
            }
            None => self.0.take(),
        }
    }
}

impl PartialEq for Path {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for Path {}

impl Hash for Path {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialOrd for Path {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Path {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.0.as_bytes(), other.0.as_bytes());
        let same = common_prefix(a, b);
        match (a.get(same), b.get(same)) {
            (None, None) => Ordering::Equal,
            (None, Some(b'/')) => Ordering::Less,
            (Some(b'/'), None) => Ordering::Greater,
            _ => {
                let (a, b) = (
                    segment_around(&self.0, same),
                    segment_around(&other.0, same),
                );
                key_cmp(a, b)
            }
        }
    }
}

/// How many bytes two texts have in common at their front. Most pairs have many: eight are compared at once.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let (a_words, b_words) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    let words = a_words.iter().zip(b_words).take_while(|(x, y)| x == y);
    let same = 8 * words.count();
    let rest = a.iter().skip(same).zip(b.iter().skip(same));
    same + rest.take_while(|(x, y)| x == y).count()
}

/// The segment that the byte at `at` lies in, or ends at.
fn segment_around(text: &str, at: usize) -> &str {
    let bytes = text.as_bytes();
    let start = bytes
        .iter()
        .take(at)
        .rposition(|byte| *byte == b'/')
        .map_or(0, |slash| slash + 1);
    let rest = text.get(start..).unwrap_or_default();
    rest.split_once('/').map_or(rest, |(segment, _)| segment)
}

impl fmt::Display for Path {
    /// The plain form, the root as `/`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "/" } else { &self.0 })
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> Path {
        Path::parse(text, &Limits::default()).unwrap()
    }

    #[test]
    fn the_root_is_the_empty_text_and_a_slash_is_one_empty_segment() {
        assert_eq!(path("").len(), 0);
        assert_eq!(path("").segments().count(), 0);
        assert_eq!(path("/").segments().collect::<Vec<_>>(), [""]);
        assert_eq!(path("//a/").segments().collect::<Vec<_>>(), ["", "a", ""]);
        assert_eq!(path("/").parent(), Some(Path::root()));
        assert_eq!(Path::root().parent(), None);
    }

    #[test]
    fn what_is_no_path_is_refused() {
        let refuse = |text: &str| Path::parse(text, &Limits::default()).unwrap_err();
        assert_eq!(refuse("a"), PathError::NoSlash);
        assert_eq!(refuse("/a\0"), PathError::Nul);
        assert_eq!(refuse(&"/a".repeat(33)), PathError::TooDeep { limit: 32 });
        let long = format!("/{}", "a".repeat(769));
        assert_eq!(refuse(&long), PathError::SegmentTooLong { limit: 768 });
        assert!(Path::parse(&"/a".repeat(32), &Limits::default()).is_ok());
        assert_eq!(
            path("/a").child("b/c", &Limits::default()),
            Err(PathError::Slash)
        );
    }

    #[test]
    fn paths_know_what_lies_above_and_below() {
        assert!(path("/a/b").is_below(&path("/a")));
        assert!(path("/a/b").is_below(&path("")));
        assert!(!path("/ab").is_below(&path("/a")));
        assert!(!path("/a").is_below(&path("/a")));
        assert!(path("/a").starts_with(&path("/a")));
        assert_eq!(path("/a/b/c").strip_prefix(&path("/a")), Some(path("/b/c")));
        assert_eq!(path("/a/b/c").prefix(2), path("/a/b"));
        assert_eq!(path("/a/b/c").prefix(0), path(""));
        assert_eq!(path("/a/b/c").prefix(7), path("/a/b/c"));
        assert_eq!(path("/a").join(&path("/b")), path("/a/b"));
        let all: Vec<Path> = path("/a/b").ancestors().collect();
        assert_eq!(all, [path("/a/b"), path("/a"), path("")]);
    }

    proptest! {
        #[test]
        fn paths_are_ordered_by_their_segments(
            a in prop::collection::vec("[a-b0-2-]{0,3}|[\u{e000}\u{10000}é]{0,2}", 0..4),
            b in prop::collection::vec("[a-b0-2-]{0,3}|[\u{e000}\u{10000}é]{0,2}", 0..4),
        ) {
            let limits = Limits::default();
            let slow = {
                let mut order = Ordering::Equal;
                for (x, y) in a.iter().zip(&b) {
                    order = order.then_with(|| key_cmp(x, y));
                }
                order.then(a.len().cmp(&b.len()))
            };
            let p = Path::from_segments(a.iter().map(String::as_str), &limits).unwrap();
            let q = Path::from_segments(b.iter().map(String::as_str), &limits).unwrap();
            prop_assert_eq!(p.cmp(&q), slow);
            prop_assert_eq!(p.key().cmp(&q.key()), slow, "{:?} {:?}", p, q);
            prop_assert_eq!(Path::from_key(&p.key()), Some(p.clone()));
            prop_assert_eq!(p.is_above(&q), a.len() < b.len() && b.starts_with(&a));
            let (lo, hi) = p.below_range();
            let key = q.key();
            prop_assert_eq!(lo <= key && key < hi, q.is_below(&p));
        }

        #[test]
        fn any_text_reads_back_or_is_refused(text in "(/[^/\0]{0,4}){0,5}") {
            let p = path(&text);
            prop_assert_eq!(p.as_str(), &text);
            prop_assert_eq!(Path::from_key(&p.key()), Some(p));
        }

        #[test]
        fn damaged_keys_do_not_panic(key in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(path) = Path::from_key(&key) {
                prop_assert_eq!(path.key(), key);
            }
        }
    }
}

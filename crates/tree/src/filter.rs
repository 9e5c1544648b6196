//! Topic filters, and many of them by topic.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;

use crate::{Limits, Path, PathError};

mod stored;
mod walk;

pub(crate) use walk::{Place, Walked};

/// A filter of topics: a path in which `+` stands for any one segment, and `#` at the end for any number of them
/// (MQTT 5.0, 4.7.1). Neither matches a first segment that begins with `$` (4.7.2) or with `.`, which is the system's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicFilter {
    levels: Vec<Level>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Level {
    Literal(Box<str>),
    One,
    All,
}

/// One level of a filter that is [made of levels](TopicFilter::from_levels).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterLevel<'a> {
    /// The segment of this name, whatever characters it has.
    Literal(&'a str),
    /// Any one segment.
    One,
    /// Any number of segments; only at the end.
    All,
}

/// Why text is no topic filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// A wildcard that is not a whole level, or a `#` that is not the last.
    #[error("a wildcard stands alone in its level, and # only at the end")]
    Wildcard,
    /// No level at all.
    #[error("a topic filter is not empty")]
    Empty,
    /// A level that is no segment, or too many of them.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl TopicFilter {
    /// Reads MQTT's spelling: levels with `/` between them.
    ///
    /// # Errors
    /// If the text is no filter, or one past the limits.
    pub fn parse(text: &str, limits: &Limits) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Err(FilterError::Empty);
        }
        let level = |level| match level {
            "+" => Ok(FilterLevel::One),
            "#" => Ok(FilterLevel::All),
            text if text.contains(['+', '#']) => Err(FilterError::Wildcard),
            text => Ok(FilterLevel::Literal(text)),
        };
        let levels: Vec<FilterLevel<'_>> = text.split('/').map(level).collect::<Result<_, _>>()?;
        Self::from_levels(levels, limits)
    }

    /// A filter of these levels: wildcards may stand beside segments whose names have a wildcard's character.
    ///
    /// # Errors
    /// If there is no level, if [`FilterLevel::All`] is not the last, or past the limits.
    pub fn from_levels<'a>(
        levels: impl IntoIterator<Item = FilterLevel<'a>>,
        limits: &Limits,
    ) -> Result<Self, FilterError> {
        let levels: Vec<Level> = levels
            .into_iter()
            .map(|level| match level {
                FilterLevel::Literal(text) => Level::Literal(text.into()),
                FilterLevel::One => Level::One,
                FilterLevel::All => Level::All,
            })
            .collect();
        let (last, before) = levels.split_last().ok_or(FilterError::Empty)?;
        if before.contains(&Level::All) {
            return Err(FilterError::Wildcard);
        }
        let literals = before.iter().chain([last]).map(|level| match level {
            Level::Literal(text) => &**text,
            Level::One | Level::All => "+",
        });
        // What a filter names could be a path.
        Path::from_segments(literals, limits)?;
        Ok(Self { levels })
    }

    /// The filter that matches one path only, whatever characters its segments have.
    pub fn literal(path: &Path) -> Self {
        Self {
            levels: path
                .segments()
                .map(|segment| Level::Literal(segment.into()))
                .collect(),
        }
    }

    /// Whether a path matches.
    pub fn matches(&self, path: &Path) -> bool {
        let mut segments = path.segments();
        for (n, level) in self.levels.iter().enumerate() {
            match (level, segments.next()) {
                // `a/#` matches `a`, too.
                (Level::All, None) => return n > 0,
                (Level::All, Some(segment)) => return n > 0 || is_open(segment),
                (Level::One, Some(segment)) if n > 0 || is_open(segment) => {}
                (Level::Literal(literal), Some(segment)) if **literal == *segment => {}
                (Level::One | Level::Literal(_), _) => return false,
            }
        }
        segments.next().is_none()
    }

    /// The path that the filter names, if it has no wildcard.
    pub fn as_path(&self) -> Option<Path> {
        let literal = self
            .levels
            .iter()
            .all(|level| matches!(level, Level::Literal(_)));
        literal.then(|| self.literal_prefix())
    }

    /// Whether the filter ends with `#`.
    pub fn is_open_ended(&self) -> bool {
        matches!(self.levels.last(), Some(Level::All))
    }

    /// The levels before the first wildcard, as a path: all that matches lies at or below it.
    pub fn literal_prefix(&self) -> Path {
        let literals = self.levels.iter().map_while(|level| match level {
            Level::Literal(text) => Some(&**text),
            Level::One | Level::All => None,
        });
        literals.fold(Path::root(), |path, segment| path.child_unchecked(segment))
    }

    /// Whether the filter may match something strictly below a path.
    pub fn reaches_below(&self, path: &Path) -> bool {
        let mut levels = self.levels.iter();
        for (n, segment) in path.segments().enumerate() {
            match levels.next() {
                Some(Level::All) => return n > 0 || is_open(segment),
                Some(Level::One) if n > 0 || is_open(segment) => {}
                Some(Level::Literal(literal)) if **literal == *segment => {}
                Some(Level::One | Level::Literal(_)) | None => return false,
            }
        }
        levels.next().is_some()
    }

    /// How closely the filter names what it matches: how many levels it has beside `#`, and how many of them are names.
    /// Of several filters that match, the one with the greatest counts as the longest.
    pub fn closeness(&self) -> (usize, usize) {
        let count =
            |counts: fn(&Level) -> bool| self.levels.iter().filter(|level| counts(level)).count();
        let levels = count(|level| !matches!(level, Level::All));
        (levels, count(|level| matches!(level, Level::Literal(_))))
    }

    /// How many levels the filter has, `#` among them.
    pub fn len(&self) -> usize {
        self.levels.len()
    }

    /// Whether the filter has no level: only the literal filter of the root.
    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }
}

/// Whether a wildcard at the first level matches a segment there.
fn is_open(segment: &str) -> bool {
    !segment.starts_with(['$', '.'])
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, level) in self.levels.iter().enumerate() {
            let slash = if n > 0 { "/" } else { "" };
            let text = match level {
                Level::Literal(text) => text,
                Level::One => "+",
                Level::All => "#",
            };
            write!(f, "{slash}{text}")?;
        }
        Ok(())
    }
}

/// Filters, found by the topics that they match: a trie by level, so that finding costs what the matching filters cost, not
/// what all of them do.
#[derive(Debug, Clone)]
pub struct FilterIndex<Id> {
    root: Node<Id>,
    len: usize,
}

#[derive(Debug, Clone)]
struct Node<Id> {
    /// The filters that end here.
    here: Vec<Id>,
    /// The filters that end with `#` behind this level.
    all: Vec<Id>,
    literals: HashMap<Box<str>, Self>,
    one: Option<Box<Self>>,
}

impl<Id> Default for Node<Id> {
    fn default() -> Self {
        Self {
            here: Vec::new(),
            all: Vec::new(),
            literals: HashMap::new(),
            one: None,
        }
    }
}

impl<Id> Default for FilterIndex<Id> {
    fn default() -> Self {
        Self {
            root: Node::default(),
            len: 0,
        }
    }
}

impl<Id: PartialEq> FilterIndex<Id> {
    /// An index without filters.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many filters are in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no filter is in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a filter under an id.
    pub fn insert(&mut self, filter: &TopicFilter, id: Id) {
        let mut node = &mut self.root;
        self.len += 1;
        for level in &filter.levels {
            node = match level {
                Level::Literal(text) => node.literals.entry(text.clone()).or_default(),
                Level::One => node.one.get_or_insert_default(),
                Level::All => {
                    node.all.push(id);
                    return;
                }
            };
        }
        node.here.push(id);
    }

    /// Removes a filter's id; `false` if it was not there.
    pub fn remove(&mut self, filter: &TopicFilter, id: &Id) -> bool {
        let removed = self.root.remove(&filter.levels, id);
        self.len -= usize::from(removed);
        removed
    }

    /// Calls `found` with the id of every filter that matches a path.
    pub fn for_each_match<'a>(&'a self, path: &Path, mut found: impl FnMut(&'a Id)) {
        let segments: Vec<&str> = path.segments().collect();
        self.root.matching(&segments, true, &mut found);
    }

    /// Calls `found` with the id of every filter that may match something strictly below a path; `false` ends it.
    pub fn any_reaches_below(&self, path: &Path) -> bool {
        let segments: Vec<&str> = path.segments().collect();
        self.root.reaches_below(&segments, true)
    }

    /// Calls `found` with the id of every filter.
    pub fn for_each<'a>(&'a self, mut found: impl FnMut(&'a Id)) {
        self.root.for_each(&mut found);
    }
}

impl<Id: PartialEq> Node<Id> {
    fn is_empty(&self) -> bool {
        self.here.is_empty()
            && self.all.is_empty()
            && self.literals.is_empty()
            && self.one.is_none()
    }

    fn remove(&mut self, levels: &[Level], id: &Id) -> bool {
        let take = |ids: &mut Vec<Id>| {
            ids.iter()
                .position(|other| other == id)
                .map(|at| drop(ids.swap_remove(at)))
                .is_some()
        };
        match levels.split_first() {
            None => take(&mut self.here),
            Some((Level::All, _)) => take(&mut self.all),
            Some((Level::One, rest)) => {
                let removed = self.one.as_mut().is_some_and(|node| node.remove(rest, id));
                self.one.take_if(|node| node.is_empty());
                removed
            }
            Some((Level::Literal(text), rest)) => {
                let Some(node) = self.literals.get_mut(text) else {
                    return false;
                };
                let removed = node.remove(rest, id);
                if node.is_empty() {
                    self.literals.remove(text);
                }
                removed
            }
        }
    }

    fn matching<'a>(&'a self, segments: &[&str], first: bool, found: &mut impl FnMut(&'a Id)) {
        let Some((segment, rest)) = segments.split_first() else {
            self.here.iter().for_each(&mut *found);
            if !first {
                self.all.iter().for_each(found);
            }
            return;
        };
        let open = !first || is_open(segment);
        if open {
            self.all.iter().for_each(&mut *found);
            if let Some(node) = &self.one {
                node.matching(rest, false, found);
            }
        }
        if let Some(node) = self.literals.get(*segment) {
            node.matching(rest, false, found);
        }
    }

    fn reaches_below(&self, segments: &[&str], first: bool) -> bool {
        let Some((segment, rest)) = segments.split_first() else {
            return !self.all.is_empty() || !self.literals.is_empty() || self.one.is_some();
        };
        let open = !first || is_open(segment);
        open && (!self.all.is_empty()
            || self
                .one
                .as_ref()
                .is_some_and(|node| node.reaches_below(rest, false)))
            || self
                .literals
                .get(*segment)
                .is_some_and(|node| node.reaches_below(rest, false))
    }

    fn for_each<'a>(&'a self, found: &mut impl FnMut(&'a Id)) {
        self.here.iter().chain(&self.all).for_each(&mut *found);
        self.literals
            .values()
            .chain(self.one.as_deref())
            .for_each(|node| node.for_each(found));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text, &Limits::default()).unwrap()
    }

    fn topic(text: &str) -> Path {
        Path::from_segments(text.split('/'), &Limits::default()).unwrap()
    }

    #[test]
    fn filters_match_as_the_standard_says() {
        for (text, topics, others) in [
            ("a/#", &["a", "a/b", "a/b/c", "a/"][..], &["b", "ab/c"][..]),
            ("a/+", &["a/b", "a/"], &["a", "a/b/c"]),
            ("+/b", &["a/b", "/b"], &["b", "$SYS/b", ".clients/b"]),
            ("#", &["a", "a/b", "/"], &["$SYS/x", ".clients/x"]),
            ("+", &["a"], &["a/b", "$SYS"]),
            ("$SYS/#", &["$SYS", "$SYS/x"], &["a"]),
            ("a/+/c", &["a/b/c", "a//c"], &["a/c"]),
        ] {
            let filter = filter(text);
            topics
                .iter()
                .for_each(|name| assert!(filter.matches(&topic(name)), "{text} {name}"));
            others
                .iter()
                .for_each(|name| assert!(!filter.matches(&topic(name)), "{text} {name}"));
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for text in ["", "a/#/b", "a+", "#a", "a/b#"] {
            assert!(
                TopicFilter::parse(text, &Limits::default()).is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn a_wildcard_stands_beside_a_name_that_has_its_character() {
        use FilterLevel::{All, Literal, One};
        let limits = Limits::default();
        let made =
            |levels: &[FilterLevel<'_>]| TopicFilter::from_levels(levels.iter().copied(), &limits);
        let filter = made(&[Literal("a+"), One, All]).unwrap();
        assert!(filter.matches(&topic("a+/x/y")) && !filter.matches(&topic("ab/x/y")));
        assert_eq!(filter.literal_prefix(), topic("a+"));
        assert!(made(&[One, Literal("#")]).unwrap().matches(&topic("x/#")));
        assert_eq!(made(&[]), Err(FilterError::Empty));
        assert_eq!(made(&[All, One]), Err(FilterError::Wildcard));
        assert!(made(&[Literal("a/b"), One]).is_err());
    }

    fn filters() -> impl Strategy<Value = Vec<String>> {
        let level = prop::sample::select(vec!["a", "b", "$x", ".y", "", "+"]);
        let filter =
            (prop::collection::vec(level, 1..4), any::<bool>()).prop_map(|(levels, open)| {
                let text = levels.join("/");
                if open { format!("{text}/#") } else { text }
            });
        prop::collection::vec(filter, 0..12)
    }

    proptest! {
        #[test]
        fn an_index_finds_what_each_filter_says_for_itself(texts in filters(), topics in prop::collection::vec(prop::sample::select(vec!["a", "b", "$x", ".y", ""]), 1..5), gone in 0usize..12) {
            let path = topic(&topics.join("/"));
            let mut index = FilterIndex::new();
            let mut filters: Vec<(usize, TopicFilter)> = texts.iter().filter_map(|text| TopicFilter::parse(text, &Limits::default()).ok()).enumerate().collect();
            filters.iter().for_each(|(id, filter)| index.insert(filter, *id));
            if let Some(at) = filters.iter().position(|(id, _)| *id == gone) {
                let (id, filter) = filters.remove(at);
                prop_assert!(index.remove(&filter, &id));
                prop_assert!(!index.remove(&filter, &id));
            }
            let mut found = Vec::new();
            index.for_each_match(&path, |id| found.push(*id));
            found.sort_unstable();
            let expected: Vec<usize> = filters.iter().filter(|(_, filter)| filter.matches(&path)).map(|(id, _)| *id).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(index.any_reaches_below(&path), filters.iter().any(|(_, filter)| filter.reaches_below(&path)));
            prop_assert_eq!(index.len(), filters.len());
        }

        #[test]
        fn a_filter_prints_what_it_was_read_from(texts in filters()) {
            for text in texts {
                if let Ok(filter) = TopicFilter::parse(&text, &Limits::default()) {
                    prop_assert_eq!(filter.to_string(), text);
                }
            }
        }
    }
}

//! Topics ⇄ paths, and filters of topics.
//!
//! A topic's levels are a path's segments, empty ones and `$` included: `/a//b` has four. What a segment may be and MQTT
//! can't say, `+` and `#`, is written `%2B` and `%23` ([`escape`]). The path of one empty segment would be the empty
//! topic, which is none (4.7.3-1): a topic of one level of n tildes is the segment of n − 1 of them.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::borrow::Cow;

use sapwood_tree::{FilterError, FilterLevel, Limits, Path, PathError, TopicFilter, escape};

use crate::codec::{Fault, ReasonCode, Text};

/// Why a topic names no path that a client may use. All of them are 0x90.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// The first level begins with `.`: such names are the system's (design, 2.4).
    #[error("a topic that begins with a dot")]
    System,
    /// Past the limits of paths.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// The path that a topic names.
///
/// # Errors
/// If it is the system's, or past the limits.
pub fn to_path(topic: &str, limits: &Limits) -> Result<Path, TopicError> {
    if topic.starts_with('.') {
        return Err(TopicError::System);
    }
    let path = if !topic.contains('/') {
        Path::from_segments([&*escape::unescape(topic, &cannot_say)], limits)?
    } else if topic.contains('%') {
        let levels: Vec<Cow<'_, str>> = topic.split('/').map(unescape_level).collect();
        Path::from_segments(levels.iter().map(|level| &**level), limits)?
    } else {
        Path::from_segments(topic.split('/'), limits)?
    };
    Ok(path)
}

/// The topic of a path; none for the root, and where it would be longer than a string can be.
pub fn from_path(path: &Path) -> Option<Text> {
    let mut levels = path.segments();
    let topic = match (levels.next()?, levels.next()) {
        (only, None) => escape::escape(only, &cannot_say),
        _ if path.as_str().contains(['%', '+', '#']) => {
            let levels: Vec<Cow<'_, str>> = path.segments().map(escape_level).collect();
            Cow::Owned(levels.join("/"))
        }
        _ => Cow::Borrowed(path.as_str().get(1..)?),
    };
    Text::new(&topic).ok()
}

/// Whether a topic is the server's to publish to (4.7.2).
pub fn is_reserved(topic: &str) -> bool {
    topic.starts_with('$')
}

fn cannot_say(c: char) -> bool {
    matches!(c, '+' | '#')
}

/// One level among several: only there are empty ones, and tildes, as they are.
fn escape_level(segment: &str) -> Cow<'_, str> {
    if segment.bytes().all(|byte| byte == b'~') {
        return Cow::Borrowed(segment);
    }
    escape::escape(segment, &cannot_say)
}

fn unescape_level(level: &str) -> Cow<'_, str> {
    if level.bytes().all(|byte| byte == b'~') {
        return Cow::Borrowed(level);
    }
    escape::unescape(level, &cannot_say)
}

/// What a client subscribes to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Filter {
    /// The name under which several share it (4.8.2).
    pub share: Option<Box<str>>,
    /// What is told.
    pub filter: TopicFilter,
}

/// Why a filter is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is no filter: the connection ends.
    Fault(Fault),
    /// It is one, but is not served: its reason goes into the answer.
    Reason(ReasonCode),
}

const TOO_SHORT: Fault = Fault::new(
    ReasonCode::TopicFilterInvalid,
    "4.7.3-1",
    "an empty topic filter",
);

impl Filter {
    /// Reads a filter, shared or not. 3.1.1 has no word for shared ones, but its clients use them.
    ///
    /// # Errors
    /// If it is none, or one past the limits.
    pub fn parse(text: &str, limits: &Limits) -> Result<Self, Refused> {
        let Some(shared) = text.strip_prefix("$share") else {
            return plain(text, limits).map(|filter| Self {
                share: None,
                filter,
            });
        };
        match shared.strip_prefix('/') {
            None if shared.is_empty() => Err(share_fault("4.8.2-1")),
            // `$shared/…` is another name.
            None => plain(text, limits).map(|filter| Self {
                share: None,
                filter,
            }),
            Some(rest) => shared_filter(rest, limits),
        }
    }
}

fn share_fault(section: &'static str) -> Refused {
    Refused::Fault(Fault::new(
        ReasonCode::TopicFilterInvalid,
        section,
        "a shared subscription without its name or its filter",
    ))
}

fn shared_filter(rest: &str, limits: &Limits) -> Result<Filter, Refused> {
    let (name, filter) = rest.split_once('/').ok_or(share_fault("4.8.2-2"))?;
    if name.is_empty() {
        return Err(share_fault("4.8.2-1"));
    }
    if name.contains(['+', '#']) || filter.is_empty() {
        return Err(share_fault("4.8.2-2"));
    }
    Ok(Filter {
        share: Some(name.into()),
        filter: plain(filter, limits)?,
    })
}

fn plain(text: &str, limits: &Limits) -> Result<TopicFilter, Refused> {
    const UNSERVED: Refused = Refused::Reason(ReasonCode::TopicFilterInvalid);
    if text.is_empty() {
        return Err(Refused::Fault(TOO_SHORT));
    }
    if text.starts_with('.') {
        return Err(UNSERVED);
    }
    if !text.contains(['+', '#']) {
        return match to_path(text, limits) {
            Ok(path) => Ok(TopicFilter::literal(&path)),
            Err(_) => Err(UNSERVED),
        };
    }
    match with_wildcards(text, limits) {
        Ok(filter) => Ok(filter),
        Err(FilterError::Wildcard) => Err(Refused::Fault(wildcard_fault(text))),
        Err(FilterError::Empty) => Err(Refused::Fault(TOO_SHORT)),
        Err(_) => Err(UNSERVED),
    }
}

/// A filter with wildcards, beside which a level stands for the segment that it stands for in a topic.
fn with_wildcards(text: &str, limits: &Limits) -> Result<TopicFilter, FilterError> {
    if !text.contains('%') {
        return TopicFilter::parse(text, limits);
    }
    let names: Vec<Cow<'_, str>> = text.split('/').map(unescape_level).collect();
    let levels = text.split('/').zip(&names).map(|level| match level {
        ("+", _) => Ok(FilterLevel::One),
        ("#", _) => Ok(FilterLevel::All),
        (level, _) if level.contains(['+', '#']) => Err(FilterError::Wildcard),
        (_, name) => Ok(FilterLevel::Literal(name)),
    });
    TopicFilter::from_levels(levels.collect::<Result<Vec<_>, _>>()?, limits)
}

fn wildcard_fault(text: &str) -> Fault {
    let before_last = text.rsplit_once('/').map_or("", |(before, _)| before);
    let single = text
        .split('/')
        .any(|level| level.len() > 1 && level.contains('+'));
    let section = if single && !before_last.contains('#') {
        "4.7.1-2"
    } else {
        "4.7.1-1"
    };
    Fault::new(
        ReasonCode::TopicFilterInvalid,
        section,
        "a wildcard that is not a level of its own, or # before the end",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits() -> Limits {
        Limits::default()
    }

    fn segments(topic: &str) -> Vec<String> {
        let path = to_path(topic, &limits()).unwrap();
        path.segments().map(str::to_owned).collect()
    }

    #[test]
    fn levels_are_segments() {
        // 4.7.1.1, 4.7.3
        for (topic, expected) in [
            ("a/b", &["a", "b"][..]),
            ("/a//b", &["", "a", "", "b"]),
            ("/", &["", ""]),
            ("a/", &["a", ""]),
            ("$SYS/x", &["$SYS", "x"]),
            ("a b/é.c", &["a b", "é.c"]),
            ("a%2Bb/c%23", &["a+b", "c#"]),
            ("a%2fb", &["a%2fb"]),
            ("~", &[""]),
            ("~~", &["~"]),
            ("~/~~", &["~", "~~"]),
        ] {
            assert_eq!(segments(topic), expected, "{topic}");
            let path = to_path(topic, &limits()).unwrap();
            assert_eq!(from_path(&path).unwrap().as_str(), topic);
        }
        assert_eq!(from_path(&Path::root()), None);
    }

    #[test]
    fn topics_past_the_limits_and_the_systems_are_refused() {
        assert_eq!(to_path(".clients/a", &limits()), Err(TopicError::System));
        assert!(to_path("a/.b", &limits()).is_ok());
        let deep = vec!["a"; 33].join("/");
        assert!(matches!(
            to_path(&deep, &limits()),
            Err(TopicError::Path(_))
        ));
        assert!(to_path(&"a".repeat(768), &limits()).is_ok());
        assert!(to_path(&"a".repeat(769), &limits()).is_err());
    }

    #[test]
    fn what_is_no_filter_ends_the_connection_by_its_paragraph() {
        for (text, section) in [
            ("", "4.7.3-1"),
            ("a/#/b", "4.7.1-1"),
            ("a#", "4.7.1-1"),
            ("#/+a", "4.7.1-1"),
            ("a+", "4.7.1-2"),
            ("+a/#", "4.7.1-2"),
            ("$share", "4.8.2-1"),
            ("$share//a", "4.8.2-1"),
            ("$share/n", "4.8.2-2"),
            ("$share/n/", "4.8.2-2"),
            ("$share/n+/a", "4.8.2-2"),
            ("$share/#/a", "4.8.2-2"),
            ("$share/n/a#", "4.7.1-1"),
        ] {
            let Err(Refused::Fault(fault)) = Filter::parse(text, &limits()) else {
                panic!("{text} is taken");
            };
            assert_eq!(
                (fault.section, fault.reason as u8),
                (section, 0x8F),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_not_served_has_a_reason() {
        let deep = vec!["+"; 33].join("/");
        for text in [&*deep, ".clients/#", &"a".repeat(769)] {
            let refused = Filter::parse(text, &limits());
            assert_eq!(
                refused,
                Err(Refused::Reason(ReasonCode::TopicFilterInvalid)),
                "{text}"
            );
        }
    }

    #[test]
    fn a_shared_filter_has_a_name() {
        // 4.8.2-1
        let filter = Filter::parse("$share/n/a/+", &limits()).unwrap();
        assert_eq!(filter.share.as_deref(), Some("n"));
        assert_eq!(filter.filter.to_string(), "a/+");
        let filter = Filter::parse("$share/n//", &limits()).unwrap();
        assert_eq!(filter.filter.len(), 2);
        assert_eq!(Filter::parse("$shared/n/a", &limits()).unwrap().share, None);
    }

    #[test]
    fn a_filter_without_wildcards_names_the_topic_of_that_name() {
        for topic in ["a%2Bb/c", "~", "/", "a//b", "%252B"] {
            let filter = Filter::parse(topic, &limits()).unwrap().filter;
            assert!(
                filter.matches(&to_path(topic, &limits()).unwrap()),
                "{topic}"
            );
        }
    }

    #[test]
    fn an_escaped_level_stands_beside_wildcards() {
        let filter = Filter::parse("a%2Bb/+/c%23/#", &limits()).unwrap().filter;
        let named = |topic| filter.matches(&to_path(topic, &limits()).unwrap());
        assert!(named("a%2Bb/x/c%23") && named("a%2Bb/x/c%23/d"));
        assert!(!named("aab/x/c%23") && !named("a%2Bb/c%23"));
        // What is no escape stays as it is.
        let filter = Filter::parse("a%2fb/+", &limits()).unwrap().filter;
        assert!(filter.matches(&to_path("a%2fb/x", &limits()).unwrap()));
        let Err(Refused::Fault(fault)) = Filter::parse("a%2Bb/+x", &limits()) else {
            panic!("a wildcard inside a level is taken");
        };
        assert_eq!(fault.section, "4.7.1-2");
    }

    fn matches_naively(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            ([], []) | (["#"], _) => true,
            (["+", filter @ ..], [_, topic @ ..]) => matches_naively(filter, topic),
            ([level, filter @ ..], [other, topic @ ..]) => {
                level == other && matches_naively(filter, topic)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn every_path_has_a_topic_of_its_own(segments in prop::collection::vec("[ab~%+#25BE3$é]{0,5}", 1..5)) {
            let path = Path::from_segments(segments.iter().map(String::as_str), &limits()).unwrap();
            let topic = from_path(&path).unwrap();
            prop_assert!(!topic.is_empty());
            prop_assert!(!topic.as_str().contains(['+', '#']));
            prop_assert_eq!(to_path(topic.as_str(), &limits()), Ok(path));
        }

        #[test]
        fn every_topic_comes_back_as_it_was(topic in "[ab~%25BE3$é/]{1,12}") {
            // 4.7.3-4
            let path = to_path(&topic, &limits()).unwrap();
            let back = from_path(&path).unwrap();
            prop_assert_eq!(back.as_str(), topic);
        }

        #[test]
        fn filters_match_topics_as_the_standard_says(filter in "([ab+]|)(/([ab+$]|)){0,3}(/#)?", topic in "[$]?[ab]?(/[ab]?){0,3}") {
            if topic.is_empty() || filter.is_empty() {
                return Ok(());
            }
            let (levels, names): (Vec<&str>, Vec<&str>) = (filter.split('/').collect(), topic.split('/').collect());
            // 4.7.2-1
            let hidden = topic.starts_with('$') && filter.starts_with(['+', '#']);
            let expected = !hidden && matches_naively(&levels, &names);
            let filter = Filter::parse(&filter, &limits()).unwrap().filter;
            prop_assert_eq!(filter.matches(&to_path(&topic, &limits()).unwrap()), expected);
        }
    }
}

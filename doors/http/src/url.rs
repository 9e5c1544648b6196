//! URLs and the places in the tree that they name.
//!
//! Percent-encoding is undone once. Above it lies the door's own escape (design, 2.4) for what a URL can't carry:
//! clients take the segments `.` and `..` away, however they are encoded, and a real dot before `json`, `cbor` or
//! `msgpack` at the end would choose a format. Such a dot is `%2E` above URL encoding, so `%252E` in the URL; `%` is
//! `%25` there only where it would read as such an escape. An empty segment is `~`, one of n tildes has n + 1.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sapwood_tree::{Limits, Path, PathError};
use sapwood_value::Format;

use crate::problem::{self, Problem};

/// What a request's target says.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Where.
    pub path: Path,
    /// A trailing slash: the direct children.
    pub children: bool,
    /// The format that the URL's ending asks for.
    pub ending: Option<Ending>,
    /// What follows the `?`.
    pub query: Query,
}

/// A known ending of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// `.cbor`, `.msgpack`.
    Format(Format),
    /// `.json`, which belongs to the Firebase door.
    Firebase,
}

/// The parameters that have a meaning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// `ns`: the database.
    pub ns: Option<String>,
    /// `since`: the version to go on from.
    pub since: Option<String>,
    /// `events`: `tree` or `records`.
    pub events: Option<String>,
    /// `publish`: a message, not a write.
    pub publish: bool,
    /// Everything else, as it was written: conditions on fields, and names that have no meaning yet.
    pub others: Vec<String>,
}

impl Target {
    /// Reads the target of a request: its path, and its query if it has one.
    ///
    /// # Errors
    /// A problem with status 400.
    pub fn parse(path: &str, query: Option<&str>, limits: &Limits) -> Result<Self, Problem> {
        let (path, children, ending) = parse_path(path, limits)?;
        Ok(Self {
            path,
            children,
            ending,
            query: query.map_or_else(|| Ok(Query::default()), Query::parse)?,
        })
    }
}

fn parse_path(text: &str, limits: &Limits) -> Result<(Path, bool, Option<Ending>), Problem> {
    let Some(rest) = text.strip_prefix('/') else {
        return Err(Problem::new(
            &problem::BAD_PATH,
            "the path does not begin with a slash",
        ));
    };
    let (rest, children) = match rest.strip_suffix('/') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    if rest.is_empty() && !children {
        return Ok((Path::root(), false, None));
    }
    if is_plain(rest) {
        // Nothing to undo: the text is the path.
        let plain = text.strip_suffix('/').unwrap_or(text);
        let path = Path::parse(plain, limits).map_err(|error| no_path(&error))?;
        return Ok((path, children, None));
    }
    let count = rest.bytes().filter(|byte| *byte == b'/').count() + 1;
    if count > limits.depth + 1 {
        let limit = limits.depth;
        return Err(no_path(&PathError::TooDeep { limit }));
    }
    let (mut segments, mut ending, mut emptied) = (Vec::with_capacity(count), None, false);
    for (index, raw) in rest.split('/').enumerate() {
        let mut segment = decode(raw)?;
        let last = index + 1 == count;
        if last
            && !children
            && let Some((cut, found)) = split_ending(&segment)
        {
            segment = Cow::Owned(cut.to_owned());
            ending = Some(found);
            // `/a/.cbor` is `/a/` in CBOR, `/.cbor` the whole tree.
            if segment.is_empty() {
                emptied = true;
                break;
            }
        }
        segments.push(unescape(segment)?);
    }
    let path = Path::from_segments(segments.iter().map(AsRef::as_ref), limits)
        .map_err(|error| no_path(&error))?;
    let children = (children || emptied) && !path.is_root();
    Ok((path, children, ending))
}

/// What is no path, or one above a limit, which counts it.
pub(crate) fn no_path(error: &PathError) -> Problem {
    match error {
        PathError::TooDeep { .. } => sapwood_core::Limits::met("limits.depth_max"),
        PathError::SegmentTooLong { .. } => {
            sapwood_core::Limits::met("limits.segment_bytes_max");
        }
        _ => {}
    }
    Problem::new(&problem::BAD_PATH, error.to_string())
}

/// Whether the segments are names as they stand: letters, digits, `-` and `_`, at least one in each.
fn is_plain(rest: &str) -> bool {
    let mut before = b'/';
    for byte in rest.bytes() {
        let is_name = byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !is_name && (byte != b'/' || before == b'/') {
            return false;
        }
        before = byte;
    }
    before != b'/'
}

fn split_ending(segment: &str) -> Option<(&str, Ending)> {
    if let Some(front) = segment.strip_suffix(".cbor") {
        return Some((front, Ending::Format(Format::Cbor)));
    }
    if let Some(front) = segment.strip_suffix(".msgpack") {
        return Some((front, Ending::Format(Format::MessagePack)));
    }
    segment
        .strip_suffix(".json")
        .map(|front| (front, Ending::Firebase))
}

/// Undoes percent-encoding, strictly.
fn decode(text: &str) -> Result<Cow<'_, str>, Problem> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('%') {
        if !after
            .get(..2)
            .is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
        {
            return Err(Problem::new(
                &problem::BAD_ESCAPE,
                "a % in the URL is not followed by two hexadecimal digits",
            ));
        }
        rest = after;
    }
    percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| Problem::new(&problem::BAD_ESCAPE, "the URL's escapes are not UTF-8"))
}

/// Undoes the door's own escape.
fn unescape(segment: Cow<'_, str>) -> Result<Cow<'_, str>, Problem> {
    if segment.is_empty() {
        return Err(
            Problem::new(&problem::BAD_PATH, "the path has an empty segment")
                .hint("an empty segment is written ~"),
        );
    }
    if segment == "." || segment == ".." {
        return Err(
            Problem::new(&problem::BAD_PATH, "the path has a segment . or ..")
                .hint("as a name it is written %252E or %252E%252E"),
        );
    }
    if segment.bytes().all(|byte| byte == b'~') {
        return Ok(Cow::Owned(segment.get(1..).unwrap_or_default().to_owned()));
    }
    if !segment.contains("2E") || !segment.contains('%') {
        return Ok(segment);
    }
    let mut out = String::with_capacity(segment.len());
    let mut rest = &*segment;
    while let Some(at) = rest.find('%') {
        let (front, tail) = rest.split_at(at);
        out.push_str(front);
        match escape_at(tail) {
            Some((0, length)) => {
                out.push('.');
                rest = tail.get(length..).unwrap_or_default();
            }
            Some((_, length)) => {
                out.push('%');
                out.push_str(tail.get(3..length).unwrap_or_default());
                rest = tail.get(length..).unwrap_or_default();
            }
            None => {
                out.push('%');
                rest = tail.get(1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

/// If `text` begins with `%`, any number of `25`, and `2E`: how many `25` there are, and its length.
fn escape_at(text: &str) -> Option<(usize, usize)> {
    let mut rest = text.strip_prefix('%')?;
    let mut depth = 0;
    while let Some(after) = rest.strip_prefix("25") {
        rest = after;
        depth += 1;
    }
    rest.strip_prefix("2E")
        .map(|after| (depth, text.len() - after.len()))
}

/// What `encodeURIComponent` leaves as it is.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// The URL of a path: what [`Target::parse`] reads back as just this path.
pub fn href(path: &Path) -> String {
    if path.is_root() {
        return "/".to_owned();
    }
    let mut url = String::with_capacity(path.as_str().len() + 8);
    let last = path.len() - 1;
    for (index, segment) in path.segments().enumerate() {
        url.push('/');
        url.extend(utf8_percent_encode(&escape(segment, index == last), KEPT));
    }
    url
}

fn escape(segment: &str, last: bool) -> Cow<'_, str> {
    if segment.bytes().all(|byte| byte == b'~') {
        return Cow::Owned(format!("~{segment}"));
    }
    if segment == "." || segment == ".." {
        return Cow::Owned("%2E".repeat(segment.len()));
    }
    let ending = if last {
        split_ending(segment).map(|(front, _)| front.len())
    } else {
        None
    };
    if ending.is_none() && !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let (front, tail) = segment.split_at(ending.unwrap_or(segment.len()));
    let mut out = String::with_capacity(segment.len() + 4);
    let mut rest = front;
    while let Some(at) = rest.find('%') {
        let (plain, escape) = rest.split_at(at);
        out.push_str(plain);
        out.push_str(if escape_at(escape).is_some() {
            "%25"
        } else {
            "%"
        });
        rest = escape.get(1..).unwrap_or_default();
    }
    out.push_str(rest);
    if let Some(name) = tail.strip_prefix('.') {
        out.push_str("%2E");
        out.push_str(name);
    }
    Cow::Owned(out)
}

impl Query {
    /// Reads what follows the `?`.
    ///
    /// # Errors
    /// A problem with status 400.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // `name==…` asks about a field of that name.
            if value.starts_with('=') {
                query.others.push(decode_form(pair)?);
                continue;
            }
            let value = decode_form(value)?;
            let twice = match name {
                "ns" => query.ns.replace(value).is_some(),
                "since" => query.since.replace(value).is_some(),
                "events" => query.events.replace(value).is_some(),
                "publish" => std::mem::replace(&mut query.publish, true),
                _ => {
                    query.others.push(decode_form(pair)?);
                    false
                }
            };
            if twice {
                return Err(Problem::new(
                    &problem::BAD_QUERY,
                    format!("the query names {name} twice"),
                ));
            }
        }
        Ok(query)
    }
}

fn decode_form(text: &str) -> Result<String, Problem> {
    if text.contains('+') {
        decode(&text.replace('+', " ")).map(Cow::into_owned)
    } else {
        decode(text).map(Cow::into_owned)
    }
}

/// For the fuzzer: no bytes make the parser panic, and a path that it reads has a URL that reads the same.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (path, query) = text
        .split_once('?')
        .map_or((text, None), |(path, query)| (path, Some(query)));
    if let Ok(target) = Target::parse(path, query, &Limits::default()) {
        let again =
            Target::parse(&href(&target.path), None, &Limits::default()).map(|target| target.path);
        assert_eq!(again.ok(), Some(target.path));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(url: &str) -> Target {
        let (path, query) = url
            .split_once('?')
            .map_or((url, None), |(path, query)| (path, Some(query)));
        Target::parse(path, query, &Limits::default()).unwrap()
    }

    fn refused(url: &str) -> &'static str {
        let (path, query) = url
            .split_once('?')
            .map_or((url, None), |(path, query)| (path, Some(query)));
        Target::parse(path, query, &Limits::default())
            .unwrap_err()
            .code()
    }

    fn segments(url: &str) -> Vec<String> {
        parse(url).path.segments().map(str::to_owned).collect()
    }

    #[test]
    fn a_url_names_a_path() {
        assert_eq!(segments("/"), [""; 0]);
        assert_eq!(segments("/a/b"), ["a", "b"]);
        assert_eq!(segments("/%C3%A4%20+"), ["ä +"]);
        assert_eq!(segments("/~/~~/a~"), ["", "~", "a~"]);
        assert_eq!(segments("/report%252Ejson"), ["report.json"]);
        assert_eq!(segments("/%252E/%252E%252E/x"), [".", "..", "x"]);
        assert_eq!(segments("/%25252E"), ["%2E"]);
        assert_eq!(segments("/100%25"), ["100%"]);
        assert_eq!(segments("/%2525"), ["%25"]);
        assert_eq!(segments("/a.b/c.JSON"), ["a.b", "c.JSON"]);
    }

    #[test]
    fn a_trailing_slash_names_the_children() {
        assert!(parse("/a/").children);
        assert!(!parse("/a").children);
        assert!(!parse("/").children);
        assert_eq!(segments("/a.cbor/"), ["a.cbor"]);
    }

    #[test]
    fn an_ending_chooses_a_format() {
        assert_eq!(parse("/a.cbor").ending, Some(Ending::Format(Format::Cbor)));
        assert_eq!(
            parse("/a.msgpack").ending,
            Some(Ending::Format(Format::MessagePack))
        );
        assert_eq!(parse("/a%2Ejson").ending, Some(Ending::Firebase));
        assert_eq!(
            parse("/a.json.cbor").path,
            Path::parse("/a.json", &Limits::default()).unwrap()
        );
        let children = parse("/a/.cbor");
        assert!(children.children && children.path.as_str() == "/a");
        let root = parse("/.cbor");
        assert!(!root.children && root.path.is_root() && root.ending.is_some());
    }

    #[test]
    fn what_names_no_path_is_refused() {
        for url in [
            "//",
            "/a//b",
            "//a",
            "/a//",
            "/.",
            "/..",
            "/a/../b",
            "/%2E%2e/a",
            "a",
            "",
            "/a%2Fb",
            "/a%00",
        ] {
            assert_eq!(refused(url), "bad_path", "{url}");
        }
        for url in ["/%", "/%2", "/%zz", "/%ff", "/a?ns=%f"] {
            assert_eq!(refused(url), "bad_escape", "{url}");
        }
        assert_eq!(refused(&"/a".repeat(33)), "bad_path");
        assert_eq!(refused(&format!("/{}", "a".repeat(769))), "bad_path");
    }

    #[test]
    fn bare_names_have_a_meaning_and_fields_have_two_equal_signs() {
        let query = parse("/a?ns=x&since=l.5&publish&events=tree&since==3&age==4&a%20b==c").query;
        assert_eq!(query.ns.as_deref(), Some("x"));
        assert_eq!(query.since.as_deref(), Some("l.5"));
        assert!(query.publish);
        assert_eq!(query.others, ["since==3", "age==4", "a b==c"]);
        assert_eq!(refused("/a?ns=a&ns=b"), "bad_query");
    }

    /// What clients do to a URL before they send it.
    fn normalised(url: &str) -> String {
        let mut out: Vec<&str> = Vec::new();
        for segment in url.split('/').skip(1) {
            match segment.to_ascii_lowercase().replace("%2e", ".").as_str() {
                "." => {}
                ".." => drop(out.pop()),
                _ => out.push(segment),
            }
        }
        format!("/{}", out.join("/"))
    }

    proptest! {
        #[test]
        fn every_path_has_a_url_that_reads_the_same(
            segments in proptest::collection::vec(r"(~|%|2E|25|\.|\.json|\.cbor|json|[^/\x00]|[a-z]){0,6}", 0..5),
        ) {
            let path = Path::from_segments(segments.iter().map(String::as_str), &Limits::default()).unwrap();
            let url = href(&path);
            prop_assert_eq!(&normalised(&url), &url);
            let target = parse(&url);
            prop_assert_eq!(target.path, path);
            prop_assert_eq!(target.ending, None);
            prop_assert!(!target.children);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            fuzz(text.as_bytes());
            fuzz(format!("/{text}").as_bytes());
        }
    }
}

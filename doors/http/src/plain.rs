//! Paths as events and commands write them: absolute, plain UTF-8, the root a single slash.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use sapwood_tree::{Limits, Path};

use crate::problem::{self, Problem};
use crate::url::no_path;

/// Writes a path: `/`, `/sensors/341`, an empty segment as `~`.
pub(crate) fn write(path: &Path, out: &mut String) {
    if path.is_root() {
        out.push('/');
        return;
    }
    let has_tildes = path
        .segments()
        .any(|segment| segment.bytes().all(|byte| byte == b'~'));
    if !has_tildes {
        out.push_str(path.as_str());
        return;
    }
    for segment in path.segments() {
        out.push('/');
        if segment.bytes().all(|byte| byte == b'~') {
            out.push('~');
        }
        out.push_str(segment);
    }
}

/// [`write`] into a text of its own.
pub fn text(path: &Path) -> String {
    let mut out = String::with_capacity(path.as_str().len() + 1);
    write(path, &mut out);
    out
}

/// Reads what [`write`] wrote.
///
/// # Errors
/// A problem with status 400.
pub fn parse(text: &str, limits: &Limits) -> Result<Path, Problem> {
    let bad = |detail: String| Problem::new(&problem::BAD_PATH, detail);
    let Some(rest) = text.strip_prefix('/') else {
        return Err(bad(format!(
            "the path {text:?} does not begin with a slash"
        )));
    };
    if rest.is_empty() {
        return Ok(Path::root());
    }
    let mut segments = Vec::new();
    for segment in rest.split('/') {
        if segment.is_empty() {
            return Err(bad(format!("the path {text:?} has an empty segment"))
                .hint("an empty segment is written ~"));
        }
        let tildes = segment.bytes().all(|byte| byte == b'~');
        segments.push(if tildes {
            segment.get(1..).unwrap_or_default()
        } else {
            segment
        });
        if segments.len() > limits.depth {
            break;
        }
    }
    Path::from_segments(segments, limits).map_err(|error| no_path(&error))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_root_is_a_slash() {
        assert_eq!(text(&Path::root()), "/");
        assert_eq!(parse("/", &Limits::default()).unwrap(), Path::root());
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in ["", "a", "//", "/a/", "/a//b", "/a\0"] {
            assert!(parse(text, &Limits::default()).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_path_reads_back(segments in proptest::collection::vec("(~|%|[^/\\x00]){0,4}", 0..5)) {
            let path = Path::from_segments(segments.iter().map(String::as_str), &Limits::default()).unwrap();
            prop_assert_eq!(parse(&text(&path), &Limits::default()).unwrap(), path);
        }
    }
}

//! Which watch a stream opens, and where it begins.

use sapwood_core::{LogId, Start, Version, WatchError, WatchSpec};

use crate::problem::{self, Problem};
use crate::request::Asked;

/// The watch of a URL: record events for a trailing slash or a declared resource, else tree events; `?events=` overrides.
pub(crate) fn spec(asked: &Asked) -> Result<WatchSpec, Problem> {
    let path = asked.path().clone();
    let children = asked.target.children;
    let declared = || asked.database.declared().matches(asked.path());
    let records = match asked.target.query.events.as_deref() {
        Some("records") => true,
        Some("tree") => false,
        Some(other) => {
            return Err(Problem::new(
                &problem::BAD_QUERY,
                format!("events is tree or records, not {other:?}"),
            ));
        }
        None => children || declared(),
    };
    Ok(match (records, children || asked.path().is_root()) {
        (true, true) => WatchSpec::Children(path),
        (true, false) => WatchSpec::Record(path),
        (false, _) => WatchSpec::Tree(path),
    })
}

/// Where a stream begins: with the state, or behind the version that the client names.
///
/// `Last-Event-ID` wins over `?since=`. A browser can't mend one that makes no sense: it gets a reset and the state.
pub(crate) fn start(asked: &Asked) -> Result<Start, Problem> {
    if let Some(id) = asked
        .headers
        .get("last-event-id")
        .filter(|id| !id.is_empty())
    {
        let version = id.to_str().ok().and_then(|id| id.parse::<Version>().ok());
        return Ok(Start::Since(
            version.unwrap_or_else(|| Version::new(LogId::random(), 0)),
        ));
    }
    match asked.target.query.since.as_deref() {
        None => Ok(Start::State),
        Some(since) => since.parse().map(Start::Since).map_err(|_| {
            Problem::new(
                &problem::BAD_SINCE,
                format!("since is a version, and {since:?} is none"),
            )
            .hint("take the Sapwood-Version of an answer, or the version of an event")
        }),
    }
}

/// A refused watch as a problem.
pub(crate) fn refused(error: &WatchError) -> Problem {
    match error {
        WatchError::TooMany { .. } => Problem::new(&problem::TOO_MANY_REQUESTS, error.to_string()),
        _ => Problem::new(&problem::DENIED, error.to_string()),
    }
}

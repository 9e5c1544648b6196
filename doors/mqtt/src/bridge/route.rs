//! Which topics go over a bridge, and what they are called on the other side.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use super::Side;
use super::config::{BridgeTopic, Direction, Wrong};
use crate::codec::{Qos, Text};
use crate::topic::Filter;

/// One line of a bridge's topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) qos: Qos,
    direction: Direction,
    is_all: bool,
    local: End,
    remote: End,
}

/// What a route is on one side.
#[derive(Debug, Clone, PartialEq, Eq)]
struct End {
    prefix: String,
    filter: Text,
}

impl Route {
    pub(super) fn new(
        topic: &BridgeTopic,
        qos: Qos,
        paths: &sapwood_tree::Limits,
    ) -> Result<Self, Wrong> {
        let wrong = |message: String| Wrong {
            key: "filter",
            topic: None,
            message,
        };
        let end = |prefix: &str| {
            let filter = format!("{prefix}{}", topic.filter);
            let text = Text::new(&filter).map_err(|error| wrong(error.to_string()))?;
            if !is_filter(&filter) {
                return Err(wrong(format!(
                    "expected + and # to stand alone between slashes, # at the end, also behind the prefix; got {filter:?}"
                )));
            }
            if filter.starts_with("$share/") {
                return Err(wrong(format!(
                    "a bridge shares with nobody, got {filter:?}"
                )));
            }
            Ok(End {
                prefix: prefix.to_owned(),
                filter: text,
            })
        };
        let route = Self {
            qos,
            direction: topic.direction,
            is_all: topic.filter == "#",
            local: end(&topic.local_prefix)?,
            remote: end(&topic.remote_prefix)?,
        };
        let local = route.local.filter.as_str();
        if Filter::parse(local, paths).is_err() {
            return Err(wrong(format!(
                "{local:?} is no filter here: at most {} levels of {} bytes, and none begins with a dot",
                paths.depth, paths.segment_bytes
            )));
        }
        if topic.direction != Direction::Out && local.starts_with("$SYS") {
            return Err(wrong(
                "$SYS is this server's own: say a local_prefix for what the other broker reports"
                    .to_owned(),
            ));
        }
        Ok(route)
    }

    /// Whether messages go this way from that side.
    pub(super) fn takes(&self, from: Side) -> bool {
        match from {
            Side::Local => self.direction != Direction::In,
            Side::Remote => self.direction != Direction::Out,
        }
    }

    fn end(&self, side: Side) -> &End {
        match side {
            Side::Local => &self.local,
            Side::Remote => &self.remote,
        }
    }

    /// What is subscribed to on a side.
    pub(super) fn filter(&self, side: Side) -> &Text {
        &self.end(side).filter
    }

    /// What a topic of one side is called on the other; none if it does not go over this route.
    fn map(&self, from: Side, topic: &str) -> Option<String> {
        let (here, there) = (self.end(from), self.end(from.other()));
        if !self.takes(from) || !matches(here.filter.as_str(), topic) {
            return None;
        }
        if let Some(rest) = topic.strip_prefix(here.prefix.as_str()) {
            return Some(format!("{}{rest}", there.prefix)).filter(|topic| !topic.is_empty());
        }
        // 4.7.1.2: `a/#` holds `a`, too, which is the prefix `a/` without its slash.
        let above = there.prefix.strip_suffix('/')?;
        let is_above = self.is_all && here.prefix.strip_suffix('/') == Some(topic);
        (is_above && !above.is_empty()).then(|| above.to_owned())
    }
}

/// What a topic of one side is called on the other, by the first route that it goes over.
pub(super) fn map(routes: &[Route], from: Side, topic: &str) -> Option<Text> {
    let mapped = routes.iter().find_map(|route| route.map(from, topic))?;
    Text::new(&mapped).ok()
}

/// Whether a text is a topic filter (4.7.1), of whatever length.
fn is_filter(text: &str) -> bool {
    let mut levels = text.split('/').peekable();
    let mut fits = !text.is_empty();
    while let Some(level) = levels.next() {
        fits &= match level {
            "+" => true,
            "#" => levels.peek().is_none(),
            _ => !level.contains(['+', '#']),
        };
    }
    fits
}

/// Whether a topic matches a filter (4.7).
fn matches(filter: &str, topic: &str) -> bool {
    // 4.7.2-1
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (mut levels, mut names) = (filter.split('/'), topic.split('/'));
    loop {
        match (levels.next(), names.next()) {
            (Some("#"), _) => return true,
            (Some("+"), Some(_)) => {}
            (Some(level), Some(name)) if level == name => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(filter: &str, local: &str, remote: &str) -> BridgeTopic {
        BridgeTopic {
            filter: filter.to_owned(),
            local_prefix: local.to_owned(),
            remote_prefix: remote.to_owned(),
            ..BridgeTopic::default()
        }
    }

    fn route(filter: &str, local: &str, remote: &str) -> Route {
        let topic = topic(filter, local, remote);
        topic.route(&sapwood_tree::Limits::default()).unwrap()
    }

    fn wrong(filter: &str, local: &str, remote: &str) -> String {
        let topic = topic(filter, local, remote);
        let wrong = topic.route(&sapwood_tree::Limits::default()).unwrap_err();
        format!("{}: {}", wrong.key, wrong.message)
    }

    fn both_ways(route: &Route, local: &str, remote: &str) {
        assert_eq!(route.map(Side::Local, local).as_deref(), Some(remote));
        assert_eq!(route.map(Side::Remote, remote).as_deref(), Some(local));
    }

    #[test]
    fn prefixes_are_changed_on_the_way() {
        both_ways(&route("#", "", ""), "a/b", "a/b");
        both_ways(&route("#", "here/", ""), "here/a/b", "a/b");
        both_ways(&route("#", "", "there/"), "a", "there/a");
        both_ways(&route("+/temp", "in/", "out/"), "in/1/temp", "out/1/temp");
        both_ways(&route("", "one/here", "another"), "one/here", "another");
        both_ways(&route("#", "a/", "b/"), "a", "b");
        both_ways(
            &route("$SYS/#", "east/", ""),
            "east/$SYS/broker",
            "$SYS/broker",
        );
    }

    #[test]
    fn what_no_filter_holds_does_not_go_over() {
        let route = route("+/temp", "in/", "out/");
        for topic in [
            "in/1",
            "in/1/2/temp",
            "temp",
            "out/1/temp",
            "in//",
            "$SYS/temp",
        ] {
            assert_eq!(route.map(Side::Local, topic), None, "{topic}");
        }
        assert_eq!(
            self::route("#", "", "x/").map(Side::Local, "$SYS/broker"),
            None
        );
        assert_eq!(self::route("#", "", "x/").map(Side::Remote, "x"), None);
    }

    #[test]
    fn a_direction_is_kept_to() {
        let one_way = |direction| {
            let topic = BridgeTopic {
                direction,
                ..topic("#", "", "")
            };
            let route = topic.route(&sapwood_tree::Limits::default()).unwrap();
            [Side::Local, Side::Remote].map(|from| route.map(from, "a").is_some())
        };
        assert_eq!(one_way(Direction::Out), [true, false]);
        assert_eq!(one_way(Direction::In), [false, true]);
        assert_eq!(one_way(Direction::Both), [true, true]);
    }

    #[test]
    fn the_first_route_that_holds_a_topic_is_taken() {
        let routes = [route("a/#", "", "x/"), route("#", "", "y/")];
        let mapped = |topic| {
            map(&routes, Side::Local, topic)
                .unwrap()
                .as_str()
                .to_owned()
        };
        assert_eq!(mapped("a/b"), "x/a/b");
        assert_eq!(mapped("b"), "y/b");
    }

    #[test]
    fn what_maps_nothing_is_refused_with_what_to_write() {
        assert!(wrong("#", "a", "").starts_with("filter: expected + and # to stand alone"));
        assert!(wrong("a+", "", "").starts_with("filter: expected + and # to stand alone"));
        assert!(wrong("", "a", "").starts_with("remote_prefix: expected the one topic"));
        assert!(wrong("", "", "a").starts_with("local_prefix: expected the one topic"));
        assert!(wrong("a", "#/", "").starts_with("local_prefix: expected no + or #"));
        assert!(wrong("$share/g/a", "", "").starts_with("filter: a bridge shares with nobody"));
        assert!(wrong(".a", "", "").starts_with("filter: \".a\" is no filter here"));
        assert!(wrong("$SYS/#", "", "").starts_with("filter: $SYS is this server's own"));
    }
}

//! What the configuration says about the form of payloads, by topic and client.

use std::fmt;

use sapwood_tree::{FixedForm, Limits, Path, PayloadForm, TopicFilter};
use sapwood_value::Format;
use serde::{Deserialize, Serialize};

use crate::machine::Accept;
use crate::topic::Filter;

/// A topic filter in the configuration, as MQTT spells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicPattern {
    text: String,
    filter: TopicFilter,
}

/// A text that is no topic filter.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no topic filter; expected one like \"sensors/+/temp\" or \"sensors/#\"")]
pub struct NoFilter(String);

impl TryFrom<String> for TopicPattern {
    type Error = NoFilter;

    fn try_from(text: String) -> Result<Self, NoFilter> {
        match Filter::parse(&text, &Limits::default()) {
            Ok(Filter {
                share: None,
                filter,
            }) => Ok(Self { text, filter }),
            Ok(_) | Err(_) => Err(NoFilter(text)),
        }
    }
}

impl From<TopicPattern> for String {
    fn from(pattern: TopicPattern) -> Self {
        pattern.text
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `[[mqtt.accept]]` in sapwood.toml.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptRule {
    /// In this format all that is data comes: `"json"`, `"cbor"` or `"msgpack"`.
    pub format: DataFormat,
    /// On these topics only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<TopicPattern>,
    /// To clients with these ids only; `*` stands for any number of characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// To clients of this listener only: `"tcp"`, `"unix"` or `"websocket"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<Listener>,
}

/// `[[mqtt.payload]]` in sapwood.toml.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayloadRule {
    /// On these topics.
    pub filter: TopicPattern,
    /// What a payload without a content type is: `"auto"` (JSON if it parses, else text, else bytes), `"json"`, `"cbor"`,
    /// `"msgpack"`, `"text"` or `"bytes"`. What it is not, it is as bytes.
    #[serde(default)]
    pub form: Form,
    /// Refuse, with 0x99, a payload that is not what its content type or this rule says.
    #[serde(default)]
    pub must: bool,
}

/// What payloads without a content type are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// JSON if it parses, else text, else bytes.
    #[default]
    Auto,
    /// JSON.
    Json,
    /// CBOR.
    Cbor,
    /// MessagePack.
    Msgpack,
    /// Text, whatever it looks like.
    Text,
    /// Bytes, whatever they look like.
    Bytes,
}

impl Form {
    fn fixed(self) -> Option<FixedForm> {
        match self {
            Self::Auto => None,
            Self::Json => Some(FixedForm::Json),
            Self::Cbor => Some(FixedForm::Cbor),
            Self::Msgpack => Some(FixedForm::MessagePack),
            Self::Text => Some(FixedForm::Text),
            Self::Bytes => Some(FixedForm::Bytes),
        }
    }
}

/// How a payload is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Demand {
    pub(crate) form: PayloadForm,
    /// Whether it is refused where it is something else.
    pub(crate) must: bool,
}

/// A format of data, as the configuration names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataFormat {
    /// JSON.
    Json,
    /// CBOR.
    Cbor,
    /// MessagePack.
    Msgpack,
}

impl From<DataFormat> for Format {
    fn from(format: DataFormat) -> Self {
        match format {
            DataFormat::Json => Self::Json,
            DataFormat::Cbor => Self::Cbor,
            DataFormat::Msgpack => Self::MessagePack,
        }
    }
}

/// Where a client comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Listener {
    /// A TCP port.
    Tcp,
    /// A Unix socket.
    Unix,
    /// The HTTP port.
    Websocket,
}

impl Listener {
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
            Self::Websocket => "websocket",
        }
    }
}

/// All rules, those that come first where several match at the front.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    accept: Vec<AcceptRule>,
    payload: Vec<PayloadRule>,
}

impl Rules {
    pub(crate) fn new(accept: &[AcceptRule], payload: &[PayloadRule]) -> Self {
        let (mut accept, mut payload) = (accept.to_vec(), payload.to_vec());
        payload.sort_by_key(|rule| std::cmp::Reverse(rule.filter.filter.closeness()));
        // By topic before by client before by listener; the longest filter first, else the one written first.
        accept.sort_by_key(|rule| {
            let filter = rule.filter.as_ref().map(|filter| filter.filter.closeness());
            std::cmp::Reverse((filter, rule.client.is_some(), rule.listener.is_some()))
        });
        Self { accept, payload }
    }

    /// How a payload on a topic is to be read.
    pub(crate) fn demand(&self, topic: &Path) -> Demand {
        let mut rules = self.payload.iter();
        let rule = rules.find(|rule| rule.filter.filter.matches(topic));
        rule.map_or(Demand::default(), |rule| Demand {
            form: rule
                .form
                .fixed()
                .map_or_else(PayloadForm::default, PayloadForm::Fixed),
            must: rule.must,
        })
    }

    /// What comes to a client that has said `accept` on CONNECT, has this id, and came by this listener.
    pub(crate) fn preferred(&self, accept: Accept, client_id: &str, listener: &str) -> Preferred {
        let is_for = |rule: &&AcceptRule| {
            let client = rule.client.as_deref();
            client.is_none_or(|pattern| is_like(client_id, pattern))
                && rule.listener.is_none_or(|rule| rule.name() == listener)
        };
        let mut topics = Vec::new();
        let mut anywhere = None;
        for rule in self.accept.iter().filter(is_for) {
            match &rule.filter {
                Some(filter) => topics.push((filter.filter.clone(), rule.format.into())),
                None => {
                    anywhere.get_or_insert(Format::from(rule.format));
                }
            }
        }
        Preferred {
            said: accept,
            topics: topics.into(),
            anywhere,
        }
    }
}

/// In which format data comes to a client where its subscription does not say.
#[derive(Debug, Default)]
pub(crate) struct Preferred {
    said: Accept,
    topics: Box<[(TopicFilter, Format)]>,
    anywhere: Option<Format>,
}

impl Preferred {
    /// The format that a subscription's data comes in, on a topic; none if it comes as it is.
    pub(crate) fn format(&self, asked: Accept, topic: &Path) -> Option<Format> {
        match (asked, self.said) {
            (Accept::Data(format), _) | (Accept::Unsaid, Accept::Data(format)) => Some(format),
            (Accept::Anything, _) | (Accept::Unsaid, Accept::Anything) => None,
            (Accept::Unsaid, Accept::Unsaid) => {
                let mut topics = self.topics.iter();
                let found = topics.find(|(filter, _)| filter.matches(topic));
                found.map(|(_, format)| *format).or(self.anywhere)
            }
        }
    }
}

/// Whether a text is like a pattern, in which `*` stands for any number of characters.
fn is_like(text: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return text == pattern;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        match text.split_once(part) {
            Some((_, behind)) => text = behind,
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> Path {
        Path::from_segments(text.split('/'), &Limits::default()).unwrap()
    }

    fn rule(
        format: DataFormat,
        filter: Option<&str>,
        client: Option<&str>,
        listener: Option<Listener>,
    ) -> AcceptRule {
        AcceptRule {
            format,
            filter: filter.map(|text| TopicPattern::try_from(text.to_owned()).unwrap()),
            client: client.map(str::to_owned),
            listener,
        }
    }

    #[test]
    fn what_is_closest_to_the_subscription_decides() {
        let rules = Rules::new(
            &[
                rule(DataFormat::Msgpack, None, None, Some(Listener::Tcp)),
                rule(DataFormat::Json, None, Some("esp-*"), None),
                rule(DataFormat::Cbor, Some("a/#"), None, None),
                rule(DataFormat::Json, Some("a/+"), None, None),
                rule(DataFormat::Msgpack, Some("a/b"), Some("esp-1"), None),
            ],
            &[],
        );
        let at = |said, client, listener, asked, topic: &str| {
            rules
                .preferred(said, client, listener)
                .format(asked, &path(topic))
        };
        use Accept::{Anything, Data, Unsaid};
        let (json, cbor, msgpack) = (Format::Json, Format::Cbor, Format::MessagePack);
        let by_rule = |client, listener, topic| at(Unsaid, client, listener, Unsaid, topic);
        assert_eq!(by_rule("x", "websocket", "b"), None);
        assert_eq!(by_rule("x", "tcp", "b"), Some(msgpack));
        assert_eq!(by_rule("esp-1", "tcp", "b"), Some(json));
        assert_eq!(by_rule("esp-1", "tcp", "a/b/c"), Some(cbor));
        assert_eq!(by_rule("x", "tcp", "a/b"), Some(json));
        assert_eq!(by_rule("esp-1", "tcp", "a/b"), Some(msgpack));
        assert_eq!(at(Data(cbor), "esp-1", "tcp", Unsaid, "a/b"), Some(cbor));
        assert_eq!(
            at(Data(cbor), "esp-1", "tcp", Data(json), "a/b"),
            Some(json)
        );
        assert_eq!(at(Data(cbor), "esp-1", "tcp", Anything, "a/b"), None);
        assert_eq!(at(Anything, "esp-1", "tcp", Unsaid, "a/b"), None);
    }

    fn is_like_naively(text: &[u8], pattern: &[u8]) -> bool {
        match (text, pattern) {
            (_, [b'*', rest @ ..]) => (0..=text.len()).any(|at| is_like_naively(&text[at..], rest)),
            ([one, text @ ..], [other, rest @ ..]) => one == other && is_like_naively(text, rest),
            (text, []) => text.is_empty(),
            ([], _) => false,
        }
    }

    proptest! {
        #[test]
        fn a_star_stands_for_any_characters(text in "[ab]{0,8}", pattern in "[ab*]{0,6}") {
            prop_assert_eq!(is_like(&text, &pattern), is_like_naively(text.as_bytes(), pattern.as_bytes()));
        }
    }
}

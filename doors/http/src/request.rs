//! What a request says, taken apart once; and its body.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName};
use http::{Method, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use sapwood_core::{Condition, Database};
use sapwood_tree::Path;
use sapwood_value::{Format, Value};
use tokio::time::Instant;

use crate::HttpConfig;
use crate::command;
use crate::etag::TagList;
use crate::negotiate::{Accept, BodyType};
use crate::problem::{self, Member, Problem};
use crate::respond;
use crate::url::{Ending, Target};

/// A request for a place in a database.
pub(crate) struct Asked {
    pub(crate) database: Database,
    pub(crate) target: Target,
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) accept: Accept,
}

impl Asked {
    pub(crate) fn path(&self) -> &Path {
        &self.target.path
    }

    /// The conditions of `If-Match` and `If-None-Match`, for a write.
    pub(crate) fn conditions(&self) -> Result<Vec<(Path, Condition)>, Problem> {
        let mut conditions = Vec::new();
        if let Some(list) = self.tags(header::IF_MATCH)? {
            conditions.push((
                self.path().clone(),
                Condition::Match(command::strong(&list)),
            ));
        }
        if let Some(list) = self.tags(header::IF_NONE_MATCH)? {
            conditions.push((self.path().clone(), Condition::NoneMatch(weak(&list))));
        }
        Ok(conditions)
    }

    /// The list of a conditional field, if it is there.
    pub(crate) fn tags(&self, name: HeaderName) -> Result<Option<TagList>, Problem> {
        if !self.headers.contains_key(&name) {
            return Ok(None);
        }
        TagList::parse(
            name.as_str(),
            self.headers
                .get_all(&name)
                .iter()
                .map(|field| field.as_bytes()),
        )
    }

    /// The lifetime of what is written.
    pub(crate) fn ttl(&self) -> Result<Option<Duration>, Problem> {
        let Some(field) = self.headers.get(respond::TTL) else {
            return Ok(None);
        };
        let number = field
            .to_str()
            .ok()
            .and_then(|text| text.trim().parse::<f64>().ok())
            .filter(|number| number.is_finite());
        command::read_ttl(&number.map_or(Value::Null, Value::Float)).map(Some)
    }

    /// What the body is.
    pub(crate) fn body_type(&self) -> Result<BodyType, Problem> {
        let encoding = self.headers.get(header::CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(Problem::new(
                &problem::UNSUPPORTED_TYPE,
                "compressed bodies are not taken",
            )
            .hint("send the body without Content-Encoding"));
        }
        BodyType::parse(
            self.headers
                .get(header::CONTENT_TYPE)
                .map(|field| field.as_bytes()),
        )
    }

    /// The bounds of a value in a body.
    pub(crate) fn value_limits(&self, config: &HttpConfig) -> sapwood_value::Limits {
        value_limits(&self.database, config)
    }

    /// The format that a URL's ending or `Accept` chooses for a stream of messages.
    pub(crate) fn stream_format(&self) -> Format {
        let by_accept = || match crate::negotiate::Offers::data().choose(&self.accept) {
            Ok(crate::negotiate::Form::Data(format)) => format,
            Ok(_) | Err(_) => Format::Json,
        };
        match self.target.ending {
            Some(Ending::Format(format)) => format,
            Some(Ending::Firebase) | None => by_accept(),
        }
    }
}

pub(crate) fn value_limits(database: &Database, config: &HttpConfig) -> sapwood_value::Limits {
    let limits = database.limits();
    sapwood_value::Limits {
        value_bytes: limits.value_bytes_max.min(config.body_bytes_max),
        string_bytes: limits.string_bytes_max,
        ..sapwood_value::Limits::default()
    }
}

fn weak(list: &TagList) -> sapwood_core::TagList {
    match list {
        TagList::Any => sapwood_core::TagList::Any,
        TagList::Tags(tags) => sapwood_core::TagList::Tags(
            tags.iter()
                .map(|tag| sapwood_core::Tag::parse(tag.value()))
                .collect(),
        ),
    }
}

/// The whole body of a request.
///
/// # Errors
/// 413 for too large a body, 408 for too slow a one, 400 for one that ends early.
pub(crate) async fn read_body(mut body: Incoming, config: &HttpConfig) -> Result<Bytes, Problem> {
    const GRACE: Duration = Duration::from_secs(10);
    let max = config.body_bytes_max;
    let too_large = || {
        Problem::new(
            &problem::TOO_LARGE,
            format!("the body is larger than {max} bytes"),
        )
        .with("limit", Member::Number(max as u64))
    };
    if body.size_hint().lower() > max as u64 {
        return Err(too_large());
    }
    let begin = Instant::now();
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    let mut length = 0;
    loop {
        let earned = Duration::from_secs(length as u64 / config.body_rate_min.max(1));
        let frame = match tokio::time::timeout_at(begin + GRACE + earned, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => {
                return Err(Problem::new(
                    &problem::MALFORMED,
                    "the body ended before its length, or its chunks are malformed",
                ));
            }
            Ok(None) => break,
            Err(_) => {
                let rate = config.body_rate_min;
                return Err(Problem::new(
                    &problem::REQUEST_TIMEOUT,
                    format!("the body came more slowly than {rate} bytes a second"),
                ));
            }
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length += data.len();
        if length > max {
            return Err(too_large());
        }
        // Small bodies come in one piece, which is then not copied.
        if length == data.len() {
            first = data;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

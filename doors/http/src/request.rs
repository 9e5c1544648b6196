//! What a request says, taken apart once; and its body.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::{Method, Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use sapwood_core::{Condition, Database, DecodeShare, Limits};
use sapwood_net::http::Body;
use sapwood_tree::Path;
use sapwood_value::{Format, Value};
use tokio::time::Instant;

use crate::HttpConfig;
use crate::body::BodyType;
use crate::command;
use crate::etag::TagList;
use crate::negotiate::{Accept, Form, OCTETS};
use crate::problem::{self, Member, Problem};
use crate::respond;
use crate::url::{Ending, Target};

/// One of the ways of [`BodyType`] to read a body.
pub(crate) type Decode<T> = fn(&BodyType, &Bytes, &sapwood_value::Limits) -> Result<T, Problem>;

/// What a client sent for a write.
pub(crate) struct Sent<T> {
    pub(crate) value: T,
    /// Those of `If-Match` and `If-None-Match`.
    pub(crate) conditions: Vec<(Path, Condition)>,
    /// That of `Sapwood-Ttl`.
    pub(crate) ttl: Option<Duration>,
    /// Held until the write is answered: until then there is the value.
    pub(crate) share: DecodeShare,
}

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
        let said = BodyType::parse(
            self.headers
                .get(header::CONTENT_TYPE)
                .map(|field| field.as_bytes()),
        )?;
        Ok(match (said, self.target.ending) {
            (BodyType::Guess, Some(Ending::Format(format))) => BodyType::Data(format),
            (said, _) => said,
        })
    }

    /// The body of a write, decoded. Whatever else the request says wrong is told before the body is read.
    pub(crate) async fn read<T>(
        &self,
        body: &mut Upload,
        config: &HttpConfig,
        decode: Decode<T>,
    ) -> Result<Sent<T>, Problem> {
        self.no_stream()?;
        let (body_type, conditions, ttl) = (self.body_type()?, self.conditions()?, self.ttl()?);
        let body = read_body(body, config).await?;
        let grows = if body_type.grows() { body.len() } else { 0 };
        let share = self.database.room_to_decode(grows).await;
        let value = decode(&body_type, &body, &value_limits(&self.database, config))?;
        Ok(Sent {
            value,
            conditions,
            ttl,
            share,
        })
    }

    /// Refuses what only streams understand.
    pub(crate) fn no_stream(&self) -> Result<(), Problem> {
        if self.target.query.since.is_none() && self.target.query.events.is_none() {
            return Ok(());
        }
        Err(
            Problem::new(&problem::BAD_QUERY, "since and events go with streams")
                .hint("ask with Accept: text/event-stream, or open a WebSocket"),
        )
    }

    /// An answer of a small value, in the format of the URL's ending, else in the one that the client likes best.
    pub(crate) fn small(&self, status: StatusCode, value: &Value) -> Response<Body> {
        let Some(Ending::Format(format)) = self.target.ending else {
            return respond::small(status, value, &self.accept);
        };
        let form = Form::Data(format);
        respond::negotiated(status, form, OCTETS, respond::encode(value, form).into())
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
        ..limits.decoder()
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

/// The body of a request, until it has been read to its end.
pub(crate) struct Upload {
    /// None if there is no more to come.
    body: Option<Incoming>,
    /// It comes by itself, and nobody has tried to read it yet.
    comes: bool,
}

impl Upload {
    pub(crate) fn new(body: Incoming, headers: &HeaderMap) -> Self {
        Self {
            body: (!body.is_end_stream()).then_some(body),
            comes: !headers.contains_key(header::EXPECT),
        }
    }

    /// Whether some of it is still to come: then no other request can follow on the connection.
    pub(crate) fn is_unread(&self) -> bool {
        self.body.is_some()
    }

    /// Reads what the answer did not need, if it is so little that it keeps the connection cheaply.
    pub(crate) async fn drain(&mut self, config: &HttpConfig) {
        const DRAINED_MAX: u64 = 64 * 1024;
        let exact = self.body.as_ref().and_then(|body| body.size_hint().exact());
        let max = DRAINED_MAX.min(config.body_bytes_max as u64);
        if self.comes && exact.is_some_and(|length| length <= max) {
            drop(read_body(self, config).await);
        }
    }
}

/// The whole body of a request.
///
/// # Errors
/// 413 for too large a body, 408 for too slow a one, 400 for one that ends early. What is left of it stays unread.
pub(crate) async fn read_body(upload: &mut Upload, config: &HttpConfig) -> Result<Bytes, Problem> {
    const GRACE: Duration = Duration::from_secs(10);
    upload.comes = false;
    let Some(body) = &mut upload.body else {
        return Ok(Bytes::new());
    };
    let max = config.body_bytes_max;
    let too_large = || {
        Limits::met("http.body_bytes_max");
        Problem::new(
            &problem::TOO_LARGE,
            format!("the body is larger than {max} bytes"),
        )
        .with("limit", Member::Number(max as u64))
    };
    if body.size_hint().lower() > max as u64 {
        return Err(too_large());
    }
    let has_length = body.size_hint().exact().is_some();
    let begin = Instant::now();
    let mut first = Bytes::new();
    let mut all = Vec::new();
    let mut length = 0;
    loop {
        let earned = Duration::from_secs(length as u64 / config.body_rate_min.max(1));
        let frame = match tokio::time::timeout_at(begin + GRACE + earned, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => return Err(broken(has_length)),
            Ok(None) => break,
            Err(_) => {
                Limits::met("http.body_rate_min");
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
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            make_room(&mut all, data.len(), body.size_hint().exact());
            all.extend_from_slice(&data);
        }
    }
    upload.body = None;
    Ok(if all.is_empty() { first } else { all.into() })
}

/// A body that can't be read to its end, by how it is framed (RFC 9112, 6 and 7.1).
fn broken(has_length: bool) -> Problem {
    if has_length {
        Problem::new(&problem::MALFORMED, "the body ended before its length")
    } else {
        Problem::new(
            &problem::BAD_FRAMING,
            "the body's chunks are malformed, or end before the last one",
        )
    }
}

/// Room for more of a body: as much again as came so far, but not beyond what the client says is left to come.
fn make_room(all: &mut Vec<u8>, more: usize, after: Option<u64>) {
    if all.capacity() - all.len() >= more {
        return;
    }
    let after = after.and_then(|after| usize::try_from(after).ok());
    let growth = all
        .len()
        .min(after.unwrap_or(usize::MAX).saturating_add(more));
    all.reserve_exact(growth.max(more));
}

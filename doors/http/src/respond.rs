//! Answers, with the fields that all of them carry.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use sapwood_net::http::Body;
use sapwood_value::{Format, Value};

use crate::negotiate::{Form, OCTETS, Offers, TEXT, is_runnable};
use crate::problem::Problem;

/// `<log id>.<sequence>` of the state that was read, or of the commit that was made.
pub(crate) const VERSION: HeaderName = HeaderName::from_static("sapwood-version");

/// The lifetime of what is written, in seconds.
pub(crate) const TTL: HeaderName = HeaderName::from_static("sapwood-ttl");

const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
const ACCEPT: HeaderValue = HeaderValue::from_static("Accept");

/// An answer with a body of a fixed type.
pub(crate) fn answer(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Body>,
) -> Response<Body> {
    let mut response = bare(status, body.into());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    bare(status, Body::Empty)
}

fn bare(status: StatusCode, body: Body) -> Response<Body> {
    let mut headers = header::HeaderMap::with_capacity(10);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// An answer whose format was negotiated.
pub(crate) fn negotiated(
    status: StatusCode,
    form: Form,
    raw_type: &str,
    body: Body,
) -> Response<Body> {
    let mut response = bare(status, body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type(form, raw_type));
    headers.insert(header::VARY, ACCEPT);
    headers.insert(header::CACHE_CONTROL, NO_CACHE);
    if form == Form::Raw && is_runnable(raw_type) {
        headers.insert(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("sandbox"),
        );
    }
    response
}

fn content_type(form: Form, raw_type: &str) -> HeaderValue {
    match form {
        Form::Data(Format::Json) => HeaderValue::from_static("application/json"),
        Form::Data(Format::Cbor) => HeaderValue::from_static("application/cbor"),
        Form::Data(Format::MessagePack) => HeaderValue::from_static("application/msgpack"),
        Form::Text => HeaderValue::from_static(TEXT),
        Form::Raw => HeaderValue::from_str(raw_type).unwrap_or(HeaderValue::from_static(OCTETS)),
    }
}

/// A small value, in the format that the client likes best.
pub(crate) fn small(
    status: StatusCode,
    value: &Value,
    accept: &crate::negotiate::Accept,
) -> Response<Body> {
    // The operation is done: a client that takes none of our formats gets JSON rather than an error.
    let form = Offers::of(value)
        .choose(accept)
        .unwrap_or(Form::Data(Format::Json));
    negotiated(status, form, OCTETS, encode(value, form).into())
}

/// A value in a form that suits it.
pub(crate) fn encode(value: &Value, form: Form) -> Bytes {
    match (form, value) {
        (Form::Text, Value::String(text)) => Bytes::copy_from_slice(text.as_bytes()),
        (Form::Raw, Value::Bytes(blob)) => blob.data.clone(),
        (Form::Data(format), value) => {
            let mut out = Vec::with_capacity(128);
            format.encode_spelled(value, &mut out);
            out.into()
        }
        (Form::Text | Form::Raw, value) => {
            let mut out = Vec::new();
            Format::Json.encode_spelled(value, &mut out);
            out.into()
        }
    }
}

/// Sets a field to a text made for this answer.
pub(crate) fn set(response: &mut Response<Body>, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(name, value);
    }
}

/// The stable word of an answer's problem, for the log.
#[derive(Clone, Copy)]
struct Code(&'static str);

/// The problem that an answer tells, by its stable word.
pub(crate) fn code_of(response: &Response<Body>) -> Option<&'static str> {
    response.extensions().get::<Code>().map(|code| code.0)
}

/// A problem as an answer.
pub(crate) fn problem(problem: &Problem) -> Response<Body> {
    let status =
        StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = answer(status, "application/problem+json", problem.to_json());
    response.extensions_mut().insert(Code(problem.code()));
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(allow) = problem.allow() {
        response
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    if problem.code() == crate::problem::NOT_ACCEPTABLE.name {
        response.headers_mut().insert(header::VARY, ACCEPT);
    }
    if problem.code() == crate::problem::UPGRADE_REQUIRED.name {
        response
            .headers_mut()
            .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        response.headers_mut().insert(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
    }
    response
}

/// Takes the body of an answer to a HEAD away, and leaves its length.
pub(crate) fn without_body(mut response: Response<Body>) -> Response<Body> {
    let body = std::mem::take(response.body_mut());
    if let Body::Full(bytes) = body {
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    }
    response
}

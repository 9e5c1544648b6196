//! What a body is by its `Content-Type`, and the value that it says (RFC 9110, 8.3).
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use bytes::Bytes;
use sapwood_value::{
    Blob, Bound, DecodeError, DecodeErrorKind, Format, Limits, ReadError, Spelled, Text, Value,
};

use crate::negotiate::OCTETS;
use crate::problem::{self, Member, Problem};

/// What a body's `Content-Type` makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyType {
    /// Data in a format.
    Data(Format),
    /// Nothing said, or what curl says when one says nothing: data if it is JSON.
    Guess,
    /// Plain text in UTF-8.
    Text,
    /// Bytes, with a type to give back.
    Other(Option<Text>),
}

impl BodyType {
    /// Whether the value may take more memory than the body: data does, a text or bytes don't.
    pub fn grows(&self) -> bool {
        matches!(self, Self::Data(_) | Self::Guess)
    }

    /// Reads the field, if there is one.
    ///
    /// # Errors
    /// A problem with status 400 if it is no media type.
    pub fn parse(field: Option<&[u8]>) -> Result<Self, Problem> {
        let Some(field) = field else {
            return Ok(Self::Guess);
        };
        let bad = || Problem::new(&problem::BAD_HEADER, "Content-Type is no media type");
        let text = std::str::from_utf8(field).map_err(|_| bad())?.trim();
        if text.is_empty() {
            return Ok(Self::Guess);
        }
        if !text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) || !are_parameters(text) {
            return Err(bad());
        }
        if let Some(format) = Format::of(text) {
            return Ok(Self::Data(format));
        }
        let essence = text
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        match &*essence {
            "application/x-www-form-urlencoded" => Ok(Self::Guess),
            "text/plain" if is_utf8(text) => Ok(Self::Text),
            OCTETS => Ok(Self::Other(None)),
            _ if is_essence(&essence) => Ok(Self::Other(Some(Text::from(text)))),
            _ => Err(bad()),
        }
    }

    /// The value that a body says.
    ///
    /// # Errors
    /// A problem with status 400, 413 or 415.
    pub fn read(&self, body: &Bytes, limits: &Limits) -> Result<Spelled, Problem> {
        match self {
            Self::Data(format) => format.decode_spelled(body, limits).map_err(|error| {
                count(&error);
                error.into()
            }),
            Self::Guess => Format::Json.decode_spelled(body, limits).map_err(|error| {
                count(&error);
                not_json(body, error, false)
            }),
            Self::Text => {
                let text = std::str::from_utf8(body)
                    .map_err(|_| Problem::new(&problem::NOT_UTF8, "the text is not UTF-8"))?;
                too_long(body, limits)?;
                Ok(Spelled::plain(Value::String(text.into())))
            }
            Self::Other(media_type) => {
                too_long(body, limits)?;
                Ok(Spelled::plain(Value::from(Blob {
                    data: body.clone(),
                    media_type: media_type.clone(),
                })))
            }
        }
    }

    /// The value that a body says where only data will do.
    ///
    /// # Errors
    /// A problem with status 400, 413 or 415.
    pub fn read_data(&self, body: &Bytes, limits: &Limits) -> Result<Spelled, Problem> {
        match self {
            Self::Data(_) => self.read(body, limits),
            Self::Guess => Format::Json.decode_spelled(body, limits).map_err(|error| {
                count(&error);
                not_json(body, error, true)
            }),
            Self::Text | Self::Other(_) => Err(Problem::new(
                &problem::UNSUPPORTED_TYPE,
                "data is needed here: application/json, application/cbor or application/msgpack",
            )),
        }
    }

    /// The data of a body that is a list of operations: their values are spelled, the list is not.
    ///
    /// # Errors
    /// A problem with status 400, 413 or 415.
    pub fn read_unspelled(&self, body: &Bytes, limits: &Limits) -> Result<Value, Problem> {
        match self {
            Self::Data(format) => format.decode(body, limits).map_err(|error| {
                count_decode(&error);
                error.into()
            }),
            Self::Guess => Format::Json.decode(body, limits).map_err(|error| {
                count_decode(&error);
                not_json(body, error.into(), true)
            }),
            Self::Text | Self::Other(_) => {
                self.read_data(body, limits).map(|spelled| spelled.value)
            }
        }
    }
}

/// What to say of a body without a type that is no JSON, where anything or only data will do.
fn not_json(body: &Bytes, error: ReadError, only_data: bool) -> Problem {
    if body.is_empty() {
        return Problem::new(&problem::MALFORMED, "the body is empty");
    }
    match &error {
        ReadError::Decode(decode)
            if matches!(
                decode.kind,
                DecodeErrorKind::Malformed | DecodeErrorKind::NotUtf8
            ) =>
        {
            Problem::new(
                &problem::TYPE_NEEDED,
                format!("the body has no Content-Type and is not JSON: {decode}"),
            )
            .hint(type_to_say(body, only_data))
        }
        ReadError::Decode(_) | ReadError::Spelling(_) => error.into(),
    }
}

/// What the client can do about a body that says too little.
fn type_to_say(body: &Bytes, only_data: bool) -> String {
    let media_type = match body.trim_ascii_start().first() {
        Some(b'{' | b'[') => "application/json",
        _ if only_data => {
            return "data is needed here: send JSON, or CBOR or MessagePack with its Content-Type"
                .to_owned();
        }
        _ if std::str::from_utf8(body).is_ok() => "text/plain",
        _ => OCTETS,
    };
    format!("say what it is, with curl: -H 'Content-Type: {media_type}'")
}

fn count(error: &ReadError) {
    if let ReadError::Decode(error) = error {
        count_decode(error);
    }
}

/// Counts the limit that a decoder met, if it refused a body for one.
pub(crate) fn count_decode(error: &DecodeError) {
    if let Some(setting) = limit_of(error) {
        sapwood_core::Limits::met(setting);
    }
}

/// The setting whose bound a body broke.
fn limit_of(error: &DecodeError) -> Option<&'static str> {
    error.bound.map(|bound| match bound {
        Bound::Depth => "limits.parse_depth_max",
        Bound::ValueBytes => "limits.value_bytes_max",
        Bound::StringBytes => "limits.string_bytes_max",
        Bound::MemoryBytes => "limits.value_memory_bytes_max",
    })
}

fn too_long(body: &Bytes, limits: &Limits) -> Result<(), Problem> {
    if body.len() <= limits.string_bytes {
        return Ok(());
    }
    let limit = limits.string_bytes;
    sapwood_core::Limits::met("limits.string_bytes_max");
    Err(Problem::new(
        &problem::TOO_LARGE,
        format!("a text or byte string of more than {limit} bytes"),
    )
    .with("limit", Member::Number(limit as u64)))
}

fn is_essence(text: &str) -> bool {
    let is_token = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    text.split_once('/')
        .is_some_and(|(main, sub)| is_token(main) && is_token(sub))
}

/// Whether what follows a media type's name are parameters: `;name=token` or `;name="text"` (RFC 9110, 5.6.6).
fn are_parameters(media_type: &str) -> bool {
    let is_token = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    let (_, mut rest) = media_type.split_at(media_type.find(';').unwrap_or(media_type.len()));
    while let Some(parameter) = rest.strip_prefix(';') {
        let parameter = parameter.trim_start();
        let value = match parameter.split_once('=') {
            Some((name, value)) if is_token(name) => value,
            // Nothing between two semicolons, or behind the last.
            _ if parameter.is_empty() || parameter.starts_with(';') => {
                rest = parameter;
                continue;
            }
            _ => return false,
        };
        let length = match value.strip_prefix('"') {
            Some(text) => match quoted_length(text) {
                Some(length) => length + 1,
                None => return false,
            },
            None => {
                let token = value.find([';', ' ', '\t']).unwrap_or(value.len());
                if !is_token(value.get(..token).unwrap_or_default()) {
                    return false;
                }
                token
            }
        };
        rest = value.get(length..).unwrap_or_default().trim_start();
    }
    rest.is_empty()
}

/// The length of a quoted text behind its first quote, with its last one; none if it does not end.
fn quoted_length(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn is_utf8(media_type: &str) -> bool {
    let charset = media_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("charset")
            .then(|| value.trim().trim_matches('"').to_ascii_lowercase())
    });
    charset.is_none_or(|charset| matches!(&*charset, "utf-8" | "utf8" | "us-ascii"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_says_what_a_body_is() {
        let parse = |text: &str| BodyType::parse(Some(text.as_bytes()));
        assert_eq!(BodyType::parse(None), Ok(BodyType::Guess));
        assert_eq!(
            parse("application/x-www-form-urlencoded"),
            Ok(BodyType::Guess)
        );
        assert_eq!(
            parse("application/json; charset=utf-8"),
            Ok(BodyType::Data(Format::Json))
        );
        assert_eq!(
            parse("application/merge-patch+json"),
            Ok(BodyType::Data(Format::Json))
        );
        assert_eq!(parse("text/plain"), Ok(BodyType::Text));
        assert_eq!(
            parse("text/plain; charset=latin1"),
            Ok(BodyType::Other(Some("text/plain; charset=latin1".into())))
        );
        assert_eq!(parse("application/octet-stream"), Ok(BodyType::Other(None)));
        assert_eq!(
            parse("image/png"),
            Ok(BodyType::Other(Some("image/png".into())))
        );
        for bad in ["nonsense", "a/", "/b", "a/b c", "a\u{e4}/b"] {
            assert_eq!(
                parse(bad).map_err(|problem| problem.code()),
                Err("bad_header"),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_body_without_a_type_is_json_or_the_answer_says_what_to_add() {
        let read = |body: &'static str| {
            BodyType::Guess.read(&Bytes::from_static(body.as_bytes()), &Limits::default())
        };
        assert_eq!(
            read("[1]").map(|spelled| spelled.value),
            Ok(Value::Array(vec![Value::Int(1)]))
        );
        let problem = read("hello").unwrap_err();
        assert_eq!(problem.code(), "type_needed");
        assert!(
            problem
                .hint_text()
                .unwrap()
                .contains("-H 'Content-Type: text/plain'")
        );
        assert_eq!(read("").unwrap_err().code(), "malformed");
        assert_eq!(
            read("{\"a\":1,\"a\":2}").unwrap_err().code(),
            "duplicate_key"
        );
        assert_eq!(
            read("{\".value\":1,\"a\":2}").unwrap_err().code(),
            "mixed_value"
        );
    }

    #[test]
    fn where_data_is_needed_no_type_is_advised_that_is_refused_next() {
        let limits = Limits::default();
        let hints = |body: &'static str| {
            let body = Bytes::from_static(body.as_bytes());
            let problems = [
                BodyType::Guess.read_data(&body, &limits).unwrap_err(),
                BodyType::Guess.read_unspelled(&body, &limits).unwrap_err(),
            ];
            problems.map(|problem| {
                assert_eq!(problem.code(), "type_needed");
                problem.hint_text().unwrap().to_owned()
            })
        };
        for hint in hints("hello there") {
            assert!(!hint.contains("text/plain"), "{hint}");
            assert!(hint.contains("JSON, or CBOR or MessagePack"), "{hint}");
        }
        for hint in hints("{broken") {
            assert!(
                hint.contains("-H 'Content-Type: application/json'"),
                "{hint}"
            );
        }
    }

    #[test]
    fn data_may_grow_and_what_is_kept_as_it_came_does_not() {
        assert!(BodyType::Data(Format::Cbor).grows() && BodyType::Guess.grows());
        assert!(!BodyType::Text.grows() && !BodyType::Other(None).grows());
    }

    #[test]
    fn where_data_is_needed_nothing_else_will_do() {
        let body = Bytes::from_static(b"x");
        for other in [BodyType::Text, BodyType::Other(None)] {
            assert_eq!(
                other
                    .read_data(&body, &Limits::default())
                    .unwrap_err()
                    .code(),
                "unsupported_type"
            );
        }
    }

    #[test]
    fn a_refused_body_names_the_setting_that_it_broke() {
        let limits = Limits {
            depth: 3,
            value_bytes: 100,
            string_bytes: 10,
            memory_bytes: 1000,
        };
        let check = |body: &str, setting: Option<&str>| {
            for format in [Format::Json, Format::Cbor, Format::MessagePack] {
                let body = match Format::Json.decode(body.as_bytes(), &Limits::default()) {
                    Ok(value) => {
                        let mut out = Vec::new();
                        format.encode(&value, &mut out);
                        out
                    }
                    Err(_) => body.as_bytes().to_vec(),
                };
                let error = format.decode(&body, &limits).unwrap_err();
                assert_eq!(limit_of(&error), setting, "{format:?} {error}");
            }
        };
        check("[[[[1]]]]", Some("limits.parse_depth_max"));
        check("[\"12345678901\"]", Some("limits.string_bytes_max"));
        check(
            &format!("[{}1]", "1,".repeat(45)),
            Some("limits.value_memory_bytes_max"),
        );
        check(
            &format!("[{}1]", "\"a\",".repeat(105)),
            Some("limits.value_bytes_max"),
        );
        check("nonsense", None);
    }
}

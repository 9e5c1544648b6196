//! Problem documents (RFC 9457): every error that the door answers with, in one table.

use std::borrow::Cow;

use sapwood_value::{DecodeError, SpellingError, json};

/// One kind of error.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// The stable word that programs compare.
    pub name: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What it is, in a few words that never change.
    pub title: &'static str,
    /// When it comes and what to do, for the manual.
    pub help: &'static str,
}

macro_rules! codes {
    ($($constant:ident = $status:literal $name:literal, $title:literal, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Code = Code { name: $name, status: $status, title: $title, help: $help };
        )*

        /// All of them, in the order of the manual.
        pub const CODES: &[&Code] = &[$(&$constant),*];
    };
}

codes! {
    BAD_REQUEST = 400 "bad_request", "Bad request", "The request line or a field is not HTTP: a method or a name that is no token, no version, a target that is neither a path nor a URL, a byte that must be escaped. The connection ends.";
    BAD_FRAMING = 400 "bad_framing", "Bad framing", "Where the request ends is not certain: a line without CR, space before a colon, two lengths, a length beside chunked, malformed chunks, a body in a request to open a WebSocket. The connection ends.";
    BAD_PATH = 400 "bad_path", "Bad path", "The URL or the path names no place in the tree: an empty segment, `.` or `..`, NUL, too deep, or a segment that is too long.";
    BAD_ESCAPE = 400 "bad_escape", "Bad escape", "A `%` in the URL is not followed by two hexadecimal digits, or what the escapes say is not UTF-8.";
    BAD_QUERY = 400 "bad_query", "Bad query", "A parameter in the query is malformed, is there twice, or does not go with the rest of the request: `publish` with a batch, for instance.";
    BAD_HEADER = 400 "bad_header", "Bad header field", "A header field that the server must understand can't be read, `If-Match` for instance.";
    BAD_HOST = 400 "bad_host", "Bad host", "The request names no host, or several.";
    MALFORMED = 400 "malformed", "Malformed body", "The body is not what its type says. The detail has the place.";
    NOT_UTF8 = 400 "not_utf8", "Not UTF-8", "Text in the body is not UTF-8.";
    DUPLICATE_KEY = 400 "duplicate_key", "Duplicate key", "A map in the body has a key twice.";
    TOO_DEEP = 400 "too_deep", "Too deep", "The value is nested deeper than the server takes, or would lie deeper in the tree than its limit.";
    NUMBER_RANGE = 400 "number_range", "Number out of range", "A number that no value can hold: NaN, an infinity, or an integer beyond 64 bits in a binary format.";
    UNSUPPORTED = 400 "unsupported", "Unsupported item", "The format can say this and the tree can't: a key that is no string, a tag, an extension.";
    RESERVED_KEY = 400 "reserved_key", "Reserved key", "A key that the server keeps for itself.";
    MIXED_VALUE = 400 "mixed_value", "Mixed value", "`.value`, `.bytes` or `.sv` stand beside keys that do not go with them. A data key of that name is written `%2Evalue`.";
    BAD_BYTES = 400 "bad_bytes", "Bad bytes", "`.bytes` is not base64, or `.type` is no string beside it.";
    BAD_SERVER_VALUE = 400 "bad_server_value", "Bad server value", "`.sv` is neither `\"timestamp\"` nor `{\"increment\": a number}`.";
    BAD_PRIORITY = 400 "bad_priority", "Bad priority", "A `.priority`, which this door does not store yet, or that is no number, string or null.";
    BAD_KEY = 400 "bad_key", "Bad key", "A key of a PATCH can't be a segment of a path, or is there twice.";
    BAD_OPERATION = 400 "bad_operation", "Bad operation", "An entry of a batch, or a command, lacks a member, has one too many, or has one of the wrong type.";
    BAD_TTL = 400 "bad_ttl", "Bad lifetime", "`Sapwood-Ttl` or `ttl` is not a number of seconds above 0.";
    BAD_SINCE = 400 "bad_since", "Bad version", "`?since=` or `Last-Event-ID` is no version: `<log id>.<sequence>`, as `Sapwood-Version` and events give it.";
    INVALID_WRITE = 400 "invalid_write", "Invalid write", "The write can't be done on the tree as it is.";
    DENIED = 403 "denied", "Denied", "No rule allows this.";
    FOREIGN_ORIGIN = 403 "foreign_origin", "Foreign origin", "A page elsewhere asked for this. An open server on loopback answers pages of this machine only.";
    NOT_FOUND = 404 "not_found", "Not found", "Nothing is at this path.";
    UNKNOWN_DATABASE = 404 "unknown_database", "Unknown database", "No database has the name that `ns` or the host gives.";
    UNKNOWN_SYSTEM_PATH = 404 "unknown_system_path", "Unknown system path", "A first segment that begins with a dot is the system's, and this one is none of its paths.";
    JSON_ENDING = 404 "json_ending", "The .json ending is not served", "URLs that end in `.json` are kept for Firebase's REST interface, which is not there yet. Leave the ending out to get JSON.";
    METHOD_NOT_ALLOWED = 405 "method_not_allowed", "Method not allowed", "The path does not take this method; `Allow` lists those that it takes.";
    NOT_ACCEPTABLE = 406 "not_acceptable", "Not acceptable", "`Accept` names no type that the value can be given as; `available` lists those.";
    REQUEST_TIMEOUT = 408 "request_timeout", "Request timeout", "The body came more slowly than the server waits for. The connection ends.";
    HEAD_TIMEOUT = 408 "head_timeout", "Head timeout", "The request line and fields came more slowly than the server waits for. The connection ends.";
    PRECONDITION_FAILED = 412 "precondition_failed", "Precondition failed", "The value is not as `If-Match`, `If-None-Match` or an `if` demands. Read it again and decide anew.";
    TOO_LARGE = 413 "too_large", "Too large", "The body, a value or a string in it is larger than the limit. If it is the body, the connection ends.";
    TARGET_TOO_LONG = 414 "target_too_long", "URL too long", "The request line is longer than the server reads. The connection ends.";
    TYPE_NEEDED = 415 "type_needed", "Content-Type needed", "A body without a type is read as JSON, and this one is none. The hint says what to do.";
    UNSUPPORTED_TYPE = 415 "unsupported_type", "Unsupported type", "Data is needed here: JSON, CBOR or MessagePack. Or the body is compressed.";
    MISDIRECTED = 421 "misdirected", "Misdirected request", "The host that the request names is not served here: an open server on loopback serves loopback names only.";
    UPGRADE_REQUIRED = 426 "upgrade_required", "Upgrade required", "The path speaks WebSocket only, or the version of the handshake is not 13.";
    TOO_MANY_REQUESTS = 429 "too_many_requests", "Too many requests", "The session has too many watches, or leaves too much to be done at its end. The detail has the limit; trying again in this session is of no use.";
    HEAD_TOO_LARGE = 431 "head_too_large", "Head too large", "The request's fields are too long together, or too many. The connection ends.";
    INTERNAL = 500 "internal", "Internal error", "The server's fault; its log has the cause.";
    NOT_YET = 501 "not_yet", "Not there yet", "Part of Sapwood's design, and not built yet: queries in the URL, for instance.";
    BUSY = 503 "busy", "Busy", "More writes are waiting than the server takes, or a session has too many requests unanswered. Try again in a moment.";
    UNAVAILABLE = 503 "unavailable", "Unavailable", "The store takes no writes, or the server is stopping. Its log has the cause.";
    VERSION_NOT_SUPPORTED = 505 "version_not_supported", "Version not supported", "The request's version of HTTP is neither 1.0 nor 1.1. The connection ends.";
    DISK_FULL = 507 "disk_full", "Disk full", "The server's disk is full. Reads go on; writes come back when there is room.";
}

/// An error as a client sees it. Everything in it is safe to show.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    kind: &'static Code,
    detail: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    members: Vec<(&'static str, Member)>,
    allow: Option<&'static str>,
}

/// A member that only some problems have.
#[derive(Debug, Clone, PartialEq)]
pub enum Member {
    /// A number.
    Number(u64),
    /// A list of words.
    Words(Vec<String>),
}

impl Problem {
    /// A problem, with a clause that says what is wrong here.
    pub fn new(kind: &'static Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            hint: None,
            members: Vec::new(),
            allow: None,
        }
    }

    /// Adds what the client can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a member.
    #[must_use]
    pub fn with(mut self, name: &'static str, member: Member) -> Self {
        self.members.push((name, member));
        self
    }

    /// Says which operation of a batch it is about, from 0.
    #[must_use]
    pub fn at(self, index: usize) -> Self {
        self.with("index", Member::Number(index as u64))
    }

    /// A path that takes only these methods.
    pub fn method(allow: &'static str) -> Self {
        Self {
            allow: Some(allow),
            ..Self::new(&METHOD_NOT_ALLOWED, format!("this path takes {allow}"))
        }
    }

    /// The stable word.
    pub fn code(&self) -> &'static str {
        self.kind.name
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.kind.status
    }

    /// What is wrong here.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The hint, if there is one.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The methods for `Allow`.
    pub fn allow(&self) -> Option<&'static str> {
        self.allow
    }

    /// The document.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(b"{\"type\":\"urn:sapwood:problem:");
        out.extend_from_slice(self.kind.name.as_bytes());
        out.extend_from_slice(b"\",\"title\":");
        json::encode_string(self.kind.title, &mut out);
        out.extend_from_slice(
            format!(
                ",\"status\":{},\"code\":\"{}\",\"detail\":",
                self.kind.status, self.kind.name
            )
            .as_bytes(),
        );
        json::encode_string(&self.detail, &mut out);
        if let Some(hint) = &self.hint {
            out.extend_from_slice(b",\"hint\":");
            json::encode_string(hint, &mut out);
        }
        for (name, member) in &self.members {
            out.push(b',');
            json::encode_string(name, &mut out);
            out.push(b':');
            member.encode(&mut out);
        }
        out.push(b'}');
        out
    }
}

impl Member {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Self::Words(words) => {
                for (index, word) in words.iter().enumerate() {
                    out.push(if index == 0 { b'[' } else { b',' });
                    json::encode_string(word, out);
                }
                out.extend_from_slice(if words.is_empty() { b"[]" } else { b"]" });
            }
        }
    }
}

/// The kind that other parts of the server name by its stable word.
pub fn named(name: &str) -> Option<&'static Code> {
    CODES.iter().copied().find(|code| code.name == name)
}

impl From<DecodeError> for Problem {
    fn from(error: DecodeError) -> Self {
        Self::new(named(error.code()).unwrap_or(&MALFORMED), error.to_string())
    }
}

impl From<SpellingError> for Problem {
    fn from(error: SpellingError) -> Self {
        Self::new(named(error.code()).unwrap_or(&MALFORMED), error.to_string())
    }
}

impl From<sapwood_value::ReadError> for Problem {
    fn from(error: sapwood_value::ReadError) -> Self {
        match error {
            sapwood_value::ReadError::Decode(error) => error.into(),
            sapwood_value::ReadError::Spelling(error) => error.into(),
        }
    }
}

/// The manual's page of errors; `docs/errors.md` is this, and a test holds it.
pub fn manual() -> String {
    let mut page = String::from(
        "# Errors\n\nAn error is a problem document (RFC 9457, `application/problem+json`) with a stable `code`. On a WebSocket it \
         is the `error` of an answer, with the same `code`, `detail` and `hint`. Some have more members: `index` (which operation of a \
         batch), `limit`, `available`.\n\n| code | status | when, and what to do |\n|---|---|---|\n",
    );
    for code in CODES {
        page.push_str(&format!(
            "| `{}` | {} | {} |\n",
            code.name, code.status, code.help
        ));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_what_where_and_what_to_do() {
        let problem = Problem::new(&BAD_PATH, "it is \"bad\"")
            .hint("do better")
            .at(3);
        assert_eq!(
            String::from_utf8(problem.to_json()).unwrap(),
            r#"{"type":"urn:sapwood:problem:bad_path","title":"Bad path","status":400,"code":"bad_path","detail":"it is \"bad\"","hint":"do better","index":3}"#
        );
    }

    #[test]
    fn every_code_is_there_once() {
        for (index, code) in CODES.iter().enumerate() {
            assert!(
                CODES
                    .iter()
                    .skip(index + 1)
                    .all(|other| other.name != code.name),
                "{}",
                code.name
            );
            assert!((400..600).contains(&code.status));
        }
    }

    #[test]
    fn every_fault_of_a_body_has_a_code() {
        use sapwood_value::DecodeErrorKind as Kind;
        for kind in [
            Kind::Malformed,
            Kind::NotUtf8,
            Kind::DuplicateKey,
            Kind::TooDeep,
            Kind::TooLarge,
            Kind::Number,
            Kind::Unsupported,
            Kind::ReservedKey,
        ] {
            assert!(named(kind.code()).is_some(), "{}", kind.code());
        }
        for name in [
            "mixed_value",
            "bad_bytes",
            "bad_server_value",
            "bad_priority",
        ] {
            assert!(named(name).is_some(), "{name}");
        }
    }

    #[test]
    fn everything_that_is_refused_before_it_is_read_has_a_code() {
        for refusal in sapwood_net::http::Refusal::ALL {
            assert!(named(refusal.code()).is_some(), "{refusal:?}");
        }
    }

    #[test]
    fn the_manual_lists_them_all() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");
        if std::env::var_os("SAPWOOD_WRITE_DOCS").is_some() {
            std::fs::write(file, manual()).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(file).unwrap(),
            manual(),
            "run with SAPWOOD_WRITE_DOCS=1 to write it"
        );
    }
}

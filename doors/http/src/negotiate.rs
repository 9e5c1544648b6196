//! Which format an answer goes out in (RFC 9110, 12.5.1).
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

pub use sapwood_value::Accept;
use sapwood_value::{Blob, Format, Value};

use crate::body::BodyType;
use crate::problem::{self, Member, Problem};

/// How an answer says a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As data, in one of the formats.
    Data(Format),
    /// A string as plain text.
    Text,
    /// Bytes as they are.
    Raw,
}

impl Form {
    /// The letter behind the value's tag.
    pub fn letter(self) -> char {
        match self {
            Self::Data(Format::Json) => 'j',
            Self::Data(Format::Cbor) => 'c',
            Self::Data(Format::MessagePack) => 'm',
            Self::Text => 't',
            Self::Raw => 'b',
        }
    }
}

/// What an answer could be given as, the server's favourite first.
#[derive(Debug, Clone, PartialEq)]
pub struct Offers<'a>(Vec<(Form, &'a str)>);

const DATA: [(Form, &str); 3] = [
    (Form::Data(Format::Json), "application/json"),
    (Form::Data(Format::Cbor), "application/cbor"),
    (Form::Data(Format::MessagePack), "application/msgpack"),
];

/// The type of plain text as it goes out.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// The type of bytes that came without one.
pub const OCTETS: &str = "application/octet-stream";

impl<'a> Offers<'a> {
    /// What data can be given as.
    pub fn data() -> Self {
        Self(DATA.to_vec())
    }

    /// What a value can be given as: a string also as text, bytes first of all as what they are.
    pub fn of(value: &'a Value) -> Self {
        let mut offers = DATA.to_vec();
        match value {
            Value::String(_) => offers.push((Form::Text, TEXT)),
            Value::Bytes(blob) => offers.insert(0, (Form::Raw, raw_type(blob))),
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::UInt(_)
            | Value::Float(_)
            | Value::Array(_)
            | Value::Map(_) => {}
        }
        Self(offers)
    }

    /// The offer that the client likes best; of equals the server's favourite.
    ///
    /// # Errors
    /// 406 with the list, if it likes none.
    pub fn choose(&self, accept: &Accept) -> Result<Form, Problem> {
        let mut best: Option<(u16, Form)> = None;
        for (form, media_type) in &self.0 {
            let quality = accept.quality(media_type).0;
            if quality > 0 && best.is_none_or(|(other, _)| quality > other) {
                best = Some((quality, *form));
            }
        }
        best.map(|(_, form)| form).ok_or_else(|| {
            let types: Vec<String> = self
                .0
                .iter()
                .map(|(_, media_type)| (*media_type).to_owned())
                .collect();
            Problem::new(
                &problem::NOT_ACCEPTABLE,
                format!("this can be given as {}", types.join(", ")),
            )
            .with("available", Member::Words(types))
        })
    }
}

/// The type that bytes go out with.
pub fn raw_type(blob: &Blob) -> &str {
    blob.media_type.as_deref().unwrap_or(OCTETS)
}

/// Whether a browser that is sent to a stored value of this type may run something in it.
pub fn is_runnable(media_type: &str) -> bool {
    let essence = media_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let (main, sub) = essence.split_once('/').unwrap_or((&essence, ""));
    let inert = match main {
        "image" => sub != "svg+xml" && sub != "svg",
        "audio" | "video" | "font" => true,
        "text" => matches!(sub, "plain" | "csv" | "calendar" | "vcard"),
        "application" => matches!(
            sub,
            "octet-stream" | "json" | "cbor" | "msgpack" | "zip" | "gzip"
        ),
        _ => false,
    };
    !inert
}

/// For the fuzzer: no bytes make the readers panic.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let accept = Accept::parse(std::iter::once(bytes));
    let _chosen = Offers::data().choose(&accept);
    let _prefers = accept.prefers("text/event-stream");
    let _body = BodyType::parse(Some(bytes));
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn accept(text: &str) -> Accept {
        Accept::parse(std::iter::once(text.as_bytes()))
    }

    fn chosen(text: &str) -> String {
        match Offers::data().choose(&accept(text)) {
            Ok(form) => form.letter().to_string(),
            Err(problem) => problem.code().to_owned(),
        }
    }

    #[test]
    fn the_client_s_favourite_wins_and_json_among_equals() {
        for (field, letter) in [
            ("*/*", "j"),
            ("application/cbor", "c"),
            ("application/cbor, application/json", "j"),
            ("application/cbor, application/json;q=0.9", "c"),
            ("application/msgpack;q=0.2, application/cbor;q=0.1", "m"),
            ("application/x-msgpack", "m"),
            ("application/vnd.msgpack", "m"),
            ("application/*;q=0.5, application/json;q=0.1", "c"),
            ("*/*;q=0.1, application/json;q=0", "c"),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
                "j",
            ),
            ("APPLICATION/CBOR ; Q=1.000", "c"),
            ("*", "j"),
            ("", "j"),
            ("application/cbor;q=2, */*;q=0.1", "j"),
            ("image/png", "not_acceptable"),
            ("application/json;q=0", "not_acceptable"),
            ("text/*", "not_acceptable"),
        ] {
            assert_eq!(chosen(field), letter, "{field}");
        }
        assert_eq!(
            Offers::data().choose(&Accept::anything()),
            Ok(Form::Data(Format::Json))
        );
    }

    #[test]
    fn strings_go_out_as_text_only_when_asked_and_bytes_as_they_came() {
        let text = Value::String("hi".into());
        assert_eq!(
            Offers::of(&text).choose(&Accept::anything()),
            Ok(Form::Data(Format::Json))
        );
        assert_eq!(
            Offers::of(&text).choose(&accept("text/plain")),
            Ok(Form::Text)
        );
        let html = Value::from(Blob {
            data: Bytes::new(),
            media_type: Some("text/html".into()),
        });
        assert_eq!(Offers::of(&html).choose(&Accept::anything()), Ok(Form::Raw));
        assert_eq!(
            Offers::of(&html).choose(&accept("text/html, */*;q=0.1")),
            Ok(Form::Raw)
        );
        assert_eq!(
            Offers::of(&html).choose(&accept("application/json")),
            Ok(Form::Data(Format::Json))
        );
        assert_eq!(
            Offers::of(&html).choose(&accept("application/json, text/plain, */*")),
            Ok(Form::Raw)
        );
    }

    #[test]
    fn any_list_that_prefers_event_stream_opens_one() {
        for field in [
            "text/event-stream",
            "text/event-stream, */*",
            "application/json;q=0.9, text/event-stream",
            "text/event-stream;q=0.5",
        ] {
            assert!(accept(field).prefers("text/event-stream"), "{field}");
        }
        for field in [
            "*/*",
            "text/*",
            "",
            "application/json, text/event-stream",
            "text/event-stream;q=0.5, */*",
            "text/event-stream;q=0",
        ] {
            assert!(!accept(field).prefers("text/event-stream"), "{field}");
        }
        assert!(
            accept("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
                .prefers("text/html")
        );
        assert!(!accept("*/*").prefers("text/html"));
    }

    #[test]
    fn what_a_browser_could_run_is_told_from_pictures() {
        for runnable in [
            "text/html",
            "image/svg+xml",
            "application/xhtml+xml",
            "text/xml",
            "application/pdf",
            "x/y",
            "TEXT/HTML; a=b",
        ] {
            assert!(is_runnable(runnable), "{runnable}");
        }
        for inert in [
            "image/png",
            "text/plain",
            "application/octet-stream",
            "audio/ogg",
        ] {
            assert!(!is_runnable(inert), "{inert}");
        }
    }

    proptest! {
        #[test]
        fn no_field_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60), text in "[a-z*/;,=q.0-9 ]{0,60}") {
            fuzz(&bytes);
            fuzz(text.as_bytes());
        }
    }
}

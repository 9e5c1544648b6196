//! The payloads that records were made from.

use bytes::Bytes;
use sapwood_value::{Blob, Format, Limits, Text, Value, decode_payload, decode_typed, json};

use crate::RowError;

/// What a published payload was, beside the value that it meant (design, 2.3, «Payloads»).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The bytes as they came; none once a tree write has changed the document.
    pub bytes: Option<Bytes>,
    /// The media type it came with.
    pub content_type: Option<Text>,
    /// MQTT 5's payload format indicator.
    pub payload_format: Option<u8>,
    /// MQTT 5's user properties, in their order.
    pub user_properties: Vec<(Text, Text)>,
    /// How the bytes were read when no content type said it; or how they are to be read, where that is fixed.
    pub form: PayloadForm,
    /// The QoS that it was published at, 0 to 2; 2 where the publisher's protocol has no such thing.
    pub qos: u8,
}

impl Default for Payload {
    fn default() -> Self {
        Self {
            bytes: None,
            content_type: None,
            payload_format: None,
            user_properties: Vec::new(),
            form: PayloadForm::default(),
            qos: 2,
        }
    }
}

/// How a payload without a content type was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PayloadForm {
    /// As JSON.
    #[default]
    Json,
    /// As bare text: `ON`.
    Text,
    /// As bytes.
    Bytes,
    /// Not by what they look like: somebody has said what payloads without a content type are here.
    Fixed(FixedForm),
}

/// What payloads without a content type are, where somebody has said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FixedForm {
    /// JSON, else bytes.
    Json,
    /// CBOR, else bytes.
    Cbor,
    /// MessagePack, else bytes.
    MessagePack,
    /// A string, whatever it looks like; bytes if it is no UTF-8.
    Text,
    /// Bytes, whatever they look like.
    Bytes,
}

impl FixedForm {
    /// The format of data that it is, if it is one.
    pub fn format(self) -> Option<Format> {
        match self {
            Self::Json => Some(Format::Json),
            Self::Cbor => Some(Format::Cbor),
            Self::MessagePack => Some(Format::MessagePack),
            Self::Text | Self::Bytes => None,
        }
    }
}

/// A payload that is not what its content type, or a fixed form, says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a payload that is not what it is said to be")]
pub struct NotOfForm;

/// A payload to send: its bytes, and the media type if there is one to tell.
pub type Encoded = (Bytes, Option<Text>);

impl Payload {
    /// The value that the bytes mean, and how they were read: by the content type, else in the fixed form, else JSON if
    /// they parse, else text, else bytes. What is not what its content type says is bytes of that type.
    pub fn read(&self, limits: &Limits) -> (Value, PayloadForm) {
        self.try_read(limits).unwrap_or_else(|NotOfForm| {
            let blob = Blob {
                data: self.bytes.clone().unwrap_or_default(),
                media_type: self.content_type.clone(),
            };
            (Value::from(blob), self.form)
        })
    }

    /// As [`read`](Self::read), where the payload is what it is said to be.
    ///
    /// # Errors
    /// If it is not: then it would be read as bytes.
    pub fn try_read(&self, limits: &Limits) -> Result<(Value, PayloadForm), NotOfForm> {
        let bytes = self.bytes.clone().unwrap_or_default();
        if let Some(content_type) = &self.content_type {
            let value = decode_typed(&bytes, content_type, limits).map_err(|_| NotOfForm)?;
            return Ok((value, self.form));
        }
        let PayloadForm::Fixed(fixed) = self.form else {
            let value = decode_payload(&bytes, limits);
            let form = self.form_of(&value);
            return Ok((value, form));
        };
        let value = match (fixed.format(), fixed) {
            (Some(format), _) => format.decode(&bytes, limits).map_err(|_| NotOfForm)?,
            (None, FixedForm::Text) => {
                decode_typed(&bytes, "text/plain", limits).map_err(|_| NotOfForm)?
            }
            (None, _) => Value::bytes(bytes),
        };
        Ok((value, self.form))
    }

    /// How the bytes were read that mean `value`, and came without a content type.
    pub fn form_of(&self, value: &Value) -> PayloadForm {
        if let PayloadForm::Fixed(_) = self.form {
            return self.form;
        }
        match (value, &self.bytes) {
            // As JSON it would have quotes.
            (Value::String(text), Some(bytes)) if text.as_bytes() == &**bytes => PayloadForm::Text,
            (Value::String(text), None) if text.is_empty() => PayloadForm::Text,
            (Value::Bytes(_), _) => PayloadForm::Bytes,
            _ => PayloadForm::Json,
        }
    }

    /// Appends the payload, to be kept.
    pub fn store(&self, out: &mut Vec<u8>) {
        crate::row::encode_payload(self, out);
    }

    /// Takes what [`Payload::store`] appended from the front of `bytes`, and moves behind it.
    ///
    /// # Errors
    /// If the bytes are not that. It never panics, and takes memory only as bytes are there.
    pub fn restore(bytes: &mut &[u8]) -> Result<Self, RowError> {
        crate::row::take_payload(bytes)
    }

    /// The payload for `document`: the bytes as they came, or the document in the same type. Where that type can't
    /// say it, it becomes `application/json`.
    pub fn encode(&self, document: &Value) -> Encoded {
        if let Some(bytes) = &self.bytes {
            return (bytes.clone(), self.content_type.clone());
        }
        match encode_as(self.content_type.as_deref(), self.form, document) {
            Some(bytes) => (bytes, self.content_type.clone()),
            None => (json_bytes(document), Some("application/json".into())),
        }
    }

    /// About how much memory this takes beside the struct, in bytes.
    pub fn estimated_bytes(&self) -> usize {
        let properties = self.user_properties.iter();
        size_of::<Self>()
            + self.bytes.as_ref().map_or(0, Bytes::len)
            + self.content_type.as_ref().map_or(0, Text::len)
            + properties
                .map(|(name, value)| 48 + name.len() + value.len())
                .sum::<usize>()
    }
}

/// `document` in that type, if the type can say it.
fn encode_as(content_type: Option<&str>, form: PayloadForm, document: &Value) -> Option<Bytes> {
    let Some(content_type) = content_type else {
        return encode_bare(form, document);
    };
    if let Some(format) = Format::of(content_type) {
        let mut out = Vec::with_capacity(document.estimated_bytes());
        format.encode(document, &mut out);
        return Some(out.into());
    }
    match document {
        Value::String(text) if is_text(content_type) => Some(text_bytes(text)),
        Value::Bytes(blob) => {
            let own = blob.media_type.as_deref();
            (own.is_none() || own == Some(content_type)).then(|| blob.data.clone())
        }
        _ => None,
    }
}

/// Without a type the receiver guesses as we did, so what it would take for something else can't go out bare.
fn encode_bare(form: PayloadForm, document: &Value) -> Option<Bytes> {
    let bare = match (form, document) {
        (PayloadForm::Fixed(form), _) => return encode_fixed(form, document),
        (PayloadForm::Json, _) => return Some(json_bytes(document)),
        (PayloadForm::Text | PayloadForm::Bytes, Value::String(text)) => text_bytes(text),
        (PayloadForm::Text | PayloadForm::Bytes, Value::Bytes(blob)) => blob.data.clone(),
        (PayloadForm::Text | PayloadForm::Bytes, _) => return None,
    };
    (&decode_payload(&bare, &Limits::default()) == document).then_some(bare)
}

/// In a fixed form the receiver knows what it gets: text may look like a number.
fn encode_fixed(form: FixedForm, document: &Value) -> Option<Bytes> {
    if let Some(format) = form.format() {
        let mut out = Vec::with_capacity(document.estimated_bytes());
        format.encode(document, &mut out);
        return Some(out.into());
    }
    match (form, document) {
        (FixedForm::Text, Value::String(text)) => Some(text_bytes(text)),
        (FixedForm::Bytes, Value::Bytes(blob)) if blob.media_type.is_none() => {
            Some(blob.data.clone())
        }
        _ => None,
    }
}

fn is_text(content_type: &str) -> bool {
    content_type
        .get(..5)
        .is_some_and(|start| start.eq_ignore_ascii_case("text/"))
}

fn text_bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn json_bytes(document: &Value) -> Bytes {
    let mut out = Vec::with_capacity(document.estimated_bytes() * 2);
    json::encode(document, &mut out);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(
        form: PayloadForm,
        content_type: Option<&str>,
        document: Value,
    ) -> (String, Option<Text>) {
        let payload = Payload {
            form,
            content_type: content_type.map(Text::from),
            ..Payload::default()
        };
        let (bytes, content_type) = payload.encode(&document);
        (String::from_utf8_lossy(&bytes).into_owned(), content_type)
    }

    #[test]
    fn a_payload_goes_out_as_it_came_until_a_tree_write() {
        let payload = Payload {
            bytes: Some("{ \"a\": 1.00 }".into()),
            ..Payload::default()
        };
        assert_eq!(
            payload.encode(&Value::Null),
            ("{ \"a\": 1.00 }".into(), None)
        );
    }

    #[test]
    fn bytes_mean_what_their_type_says_or_what_they_look_like() {
        let read = |bytes: &'static [u8], content_type: Option<&str>| {
            let payload = Payload {
                bytes: Some(bytes.into()),
                content_type: content_type.map(Text::from),
                ..Payload::default()
            };
            payload.read(&Limits::default())
        };
        assert_eq!(read(b"5", None), (5.into(), PayloadForm::Json));
        assert_eq!(read(b"\"5\"", None), ("5".into(), PayloadForm::Json));
        for text in ["", "ON", "\"open"] {
            let told = read(text.as_bytes(), None);
            assert_eq!(told, (text.into(), PayloadForm::Text));
        }
        assert_eq!(
            read(b"\xff", None),
            (Value::bytes(&b"\xff"[..]), PayloadForm::Bytes)
        );
        assert_eq!(read(b"\x05", Some("application/cbor")).0, 5.into());
        let none = Value::from(Blob {
            data: "{".into(),
            media_type: Some("application/json".into()),
        });
        assert_eq!(read(b"{", Some("application/json")).0, none);
    }

    #[test]
    fn bare_text_goes_out_bare_while_it_reads_back() {
        let bare = |document| rewritten(PayloadForm::Text, None, document);
        let json = || Some(Text::from("application/json"));
        assert_eq!(bare("OFF".into()), ("OFF".into(), None));
        assert_eq!(bare("5".into()), ("\"5\"".into(), json()));
        assert_eq!(bare(5.into()), ("5".into(), json()));
    }

    #[test]
    fn where_a_form_is_fixed_bytes_mean_that_and_nothing_else() {
        let read = |form, bytes: &'static [u8]| {
            let payload = Payload {
                bytes: Some(bytes.into()),
                form: PayloadForm::Fixed(form),
                ..Payload::default()
            };
            (
                payload.read(&Limits::default()).0,
                payload.try_read(&Limits::default()).is_ok(),
            )
        };
        assert_eq!(read(FixedForm::Json, b"5"), (5.into(), true));
        assert_eq!(read(FixedForm::Json, b"ON"), (Value::bytes("ON"), false));
        assert_eq!(read(FixedForm::Cbor, b"\x05"), (5.into(), true));
        assert_eq!(
            read(FixedForm::Cbor, b"\xff"),
            (Value::bytes(&b"\xff"[..]), false)
        );
        assert_eq!(read(FixedForm::MessagePack, b"\x05"), (5.into(), true));
        assert_eq!(read(FixedForm::Text, b"5"), ("5".into(), true));
        assert_eq!(
            read(FixedForm::Text, b"\xff"),
            (Value::bytes(&b"\xff"[..]), false)
        );
        assert_eq!(read(FixedForm::Bytes, b"5"), (Value::bytes("5"), true));
    }

    #[test]
    fn a_changed_document_goes_out_in_the_fixed_form_where_that_can_say_it() {
        let fixed = |form, document| rewritten(PayloadForm::Fixed(form), None, document);
        assert_eq!(fixed(FixedForm::Text, "5".into()), ("5".into(), None));
        assert_eq!(fixed(FixedForm::Cbor, 5.into()), ("\u{5}".into(), None));
        assert_eq!(
            fixed(FixedForm::Bytes, Value::bytes("x")),
            ("x".into(), None)
        );
        let json = Some(Text::from("application/json"));
        assert_eq!(fixed(FixedForm::Text, 5.into()), ("5".into(), json.clone()));
        assert_eq!(fixed(FixedForm::Bytes, "x".into()), ("\"x\"".into(), json));
    }

    #[test]
    fn a_document_keeps_its_type_where_the_type_can_say_it() {
        let text = |document| rewritten(PayloadForm::Json, Some("text/plain"), document);
        assert_eq!(text("5".into()), ("5".into(), Some("text/plain".into())));
        assert_eq!(
            text(5.into()),
            ("5".into(), Some("application/json".into()))
        );
        let png = |document| rewritten(PayloadForm::Json, Some("image/png"), document);
        assert_eq!(
            png(Value::bytes("x")),
            ("x".into(), Some("image/png".into()))
        );
        assert_eq!(
            png("x".into()),
            ("\"x\"".into(), Some("application/json".into()))
        );
        let geo = rewritten(PayloadForm::Json, Some("application/geo+json"), "x".into());
        assert_eq!(geo, ("\"x\"".into(), Some("application/geo+json".into())));
    }
}

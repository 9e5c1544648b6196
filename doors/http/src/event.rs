//! Events as clients read them: one object, in JSON, CBOR or MessagePack, and its server-sent form.

use bytes::Bytes;
use sapwood_core::{Event, EventKind, EventValue, Form};
use sapwood_net::websocket::{Kind, framed};
use sapwood_value::{Format, Value, cbor, json, msgpack};

use crate::plain;

/// The word of an event's `type`.
fn word(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::Put => "put",
        EventKind::Patch => "patch",
        EventKind::Delete => "delete",
        EventKind::Message => "message",
        EventKind::Reset => "reset",
        EventKind::Gap { .. } => "gap",
    }
}

/// The event as one WebSocket frame in a format; made once for all who get it.
pub fn frame(event: &Event, format: Format) -> Bytes {
    let (form, kind) = match format {
        Format::Json => (Form::Json, Kind::Text),
        Format::Cbor => (Form::Cbor, Kind::Binary),
        Format::MessagePack => (Form::Msgpack, Kind::Binary),
    };
    event.encoded(form, |event| framed(kind, |out| write(event, format, out)))
}

/// The event as a block of a server-sent event stream; made once for all who get it.
pub fn block(event: &Event) -> Bytes {
    event.encoded(Form::Sse, |event| {
        let mut out = Vec::with_capacity(256);
        if let Some(version) = &event.version {
            out.extend_from_slice(format!("id: {version}\n").as_bytes());
        }
        out.extend_from_slice(b"data: ");
        write(event, Format::Json, &mut out); // JSON has no line breaks: nothing in it can end the line
        out.extend_from_slice(b"\n\n");
        out.into()
    })
}

fn write(event: &Event, format: Format, out: &mut Vec<u8>) {
    let mut path = String::with_capacity(event.path.as_str().len() + 1);
    plain::write(&event.path, &mut path);
    let has_value = !matches!(event.value(), EventValue::Absent);
    let dropped = match event.kind {
        EventKind::Gap { dropped } => Some(dropped),
        EventKind::Put
        | EventKind::Patch
        | EventKind::Delete
        | EventKind::Message
        | EventKind::Reset => None,
    };
    // An absent first state is told as null.
    let has_value = has_value || event.kind == EventKind::Put;
    let members = 2
        + usize::from(event.id.is_some())
        + usize::from(has_value)
        + usize::from(event.version.is_some())
        + usize::from(dropped.is_some());
    let mut object = Object::begin(format, members, out);
    object.text("type", word(&event.kind));
    object.text("path", &path);
    if let Some(id) = &event.id {
        object.text("id", id);
    }
    if has_value {
        object.key("value");
        match event.value() {
            EventValue::Absent => format.encode(&Value::Null, object.out),
            EventValue::Value(value) => format.encode_spelled(value, object.out),
            EventValue::Entries(entries) => object.entries(entries),
        }
    }
    if let Some(version) = &event.version {
        object.text("version", &version.to_string());
    }
    if let Some(dropped) = dropped {
        object.key("dropped");
        format.encode(&number(dropped), object.out);
    }
    object.end();
}

/// A number as a value.
pub(crate) fn number(number: u64) -> Value {
    i64::try_from(number).map_or(Value::UInt(number), Value::Int)
}

/// Writes a map of known size, member by member, in any format.
pub(crate) struct Object<'a> {
    format: Format,
    first: bool,
    pub(crate) out: &'a mut Vec<u8>,
}

impl<'a> Object<'a> {
    pub(crate) fn begin(format: Format, members: usize, out: &'a mut Vec<u8>) -> Self {
        match format {
            Format::Json => out.push(b'{'),
            Format::Cbor => cbor::map_head(members, out),
            Format::MessagePack => msgpack::map_head(members, out),
        }
        Self {
            format,
            first: true,
            out,
        }
    }

    pub(crate) fn key(&mut self, key: &str) {
        match self.format {
            Format::Json => {
                if !self.first {
                    self.out.push(b',');
                }
                json::encode_string(key, self.out);
                self.out.push(b':');
            }
            Format::Cbor | Format::MessagePack => {
                self.format.encode(&Value::String(key.into()), self.out);
            }
        }
        self.first = false;
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        self.string(value);
    }

    pub(crate) fn string(&mut self, value: &str) {
        match self.format {
            Format::Json => json::encode_string(value, self.out),
            Format::Cbor | Format::MessagePack => {
                self.format.encode(&Value::String(value.into()), self.out);
            }
        }
    }

    pub(crate) fn value(&mut self, key: &str, value: &Value) {
        self.key(key);
        self.format.encode_spelled(value, self.out);
    }

    /// The changed children of a patch, null for those that went.
    fn entries(&mut self, entries: &[(sapwood_value::Text, Option<Value>)]) {
        let format = self.format;
        let mut map = Object::begin(format, entries.len(), self.out);
        for (key, value) in entries {
            map.spelled_key(key);
            match value {
                Some(value) => format.encode_spelled(value, map.out),
                None => format.encode(&Value::Null, map.out),
            }
        }
        map.end();
    }

    fn spelled_key(&mut self, key: &str) {
        match self.format {
            Format::Json => {
                if !self.first {
                    self.out.push(b',');
                }
                json::encode_key_spelled(key, self.out);
                self.out.push(b':');
            }
            Format::Cbor => cbor::encode_key_spelled(key, self.out),
            Format::MessagePack => msgpack::encode_key_spelled(key, self.out),
        }
        self.first = false;
    }

    pub(crate) fn end(self) {
        match self.format {
            Format::Json => self.out.push(b'}'),
            Format::Cbor | Format::MessagePack => {}
        }
    }
}

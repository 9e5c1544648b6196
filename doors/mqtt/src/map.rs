//! What packets mean to the core, and events to a client.

use bytes::Bytes;
use sapwood_core::{Answer, ErrorKind, Event, EventKind, EventValue, WriteError, WriteOp};
use sapwood_tree::{FixedForm, NotOfForm, OpKind, Path, Payload, PayloadForm};
use sapwood_value::{Format, Value, json};

use crate::codec::{Message, MessageProperties, Qos, ReasonCode, Text, UserProperties};
use crate::rules::Demand;
use crate::topic;

/// Payloads up to this size are copied out of the bytes that were read together, so that a small one does not hold a large
/// buffer.
const COPIED_BYTES_MAX: usize = 4096;

/// The record write of a retained message; an empty one removes (3.3.1-6).
///
/// # Errors
/// If its payload is not what it must be.
pub(crate) fn record_write(
    path: &Path,
    message: &Message,
    qos: Qos,
    limits: &sapwood_value::Limits,
    demand: Demand,
) -> Result<WriteOp, NotOfForm> {
    if message.payload.is_empty() {
        return Ok(WriteOp::new(path.clone(), OpKind::DeleteRecord));
    }
    let payload = payload(message, qos, demand);
    let (document, form) = if demand.must {
        must_read(&payload, limits)?
    } else {
        payload.read(limits)
    };
    let payload = Some(Payload { form, ..payload });
    let expiry_s = message.properties.message_expiry_s;
    Ok(WriteOp {
        ttl: expiry_s.map(|s| std::time::Duration::from_secs(u64::from(s))),
        ..WriteOp::new(path.clone(), OpKind::PutRecord { document, payload })
    })
}

/// A message of the core.
///
/// # Errors
/// If its payload is not what it must be.
pub(crate) fn core_message(
    message: &Message,
    qos: Qos,
    limits: &sapwood_value::Limits,
    demand: Demand,
) -> Result<sapwood_core::Message, NotOfForm> {
    let properties = &message.properties;
    let payload = payload(message, qos, demand);
    if demand.must {
        must_read(&payload, limits)?;
    }
    let mut said = sapwood_core::Message::from_payload(payload, *limits);
    said.qos = qos as u8;
    said.expires_s = properties.message_expiry_s;
    said.response_topic = properties.response_topic.as_ref().map(core_text);
    said.correlation_data = properties.correlation_data.as_ref().map(kept);
    Ok(said)
}

/// What a payload says that must be what its content type says, and of the form that is fixed for it.
fn must_read(
    payload: &Payload,
    limits: &sapwood_value::Limits,
) -> Result<(Value, PayloadForm), NotOfForm> {
    let (value, form) = payload.try_read(limits)?;
    let (PayloadForm::Fixed(fixed), Some(content_type)) = (form, &payload.content_type) else {
        return Ok((value, form));
    };
    let is_of_form = match fixed {
        FixedForm::Json | FixedForm::Cbor | FixedForm::MessagePack => {
            Format::of(content_type) == fixed.format()
        }
        FixedForm::Text => matches!(value, Value::String(_)),
        FixedForm::Bytes => true,
    };
    is_of_form.then_some((value, form)).ok_or(NotOfForm)
}

fn payload(message: &Message, qos: Qos, demand: Demand) -> Payload {
    let properties = &message.properties;
    let user_properties = properties.user_properties.iter();
    Payload {
        bytes: Some(kept(&message.payload)),
        content_type: properties.content_type.as_ref().map(core_text),
        payload_format: properties.payload_is_text.map(u8::from),
        user_properties: user_properties
            .map(|(name, value)| (core_text(&name), core_text(&value)))
            .collect(),
        qos: qos as u8,
        form: demand.form,
    }
}

fn kept(bytes: &Bytes) -> Bytes {
    if bytes.len() <= COPIED_BYTES_MAX {
        Bytes::copy_from_slice(bytes)
    } else {
        bytes.clone()
    }
}

fn core_text(text: &Text) -> sapwood_value::Text {
    text.as_str().into()
}

/// The QoS at which an event was published. What was born elsewhere comes at the subscription's.
pub(crate) fn qos(event: &Event) -> Qos {
    let number = match event.kind {
        EventKind::Message => event.message().map(|message| message.qos),
        _ => event.payload().map(|payload| payload.qos),
    };
    number.and_then(Qos::from_u8).unwrap_or(Qos::ExactlyOnce)
}

/// Whether an event tells of a record, so that RETAIN is 1 where it goes as published.
pub(crate) fn is_retained(event: &Event) -> bool {
    event.kind != EventKind::Message
}

/// What an event says to a client; none if it says nothing, or the protocol can't say it.
pub(crate) fn message(event: &Event) -> Option<Message> {
    // Nobody has removed it: what is over just ends (design, 2.2).
    if event.expired {
        return None;
    }
    let (payload, properties) = match event.kind {
        EventKind::Message | EventKind::Put => content(event),
        EventKind::Delete => (Bytes::new(), MessageProperties::default()),
        EventKind::Patch | EventKind::Reset | EventKind::Gap { .. } => return None,
    };
    Some(Message {
        topic: topic::from_path(&event.path)?,
        properties,
        payload,
    })
}

fn content(event: &Event) -> (Bytes, MessageProperties) {
    let mut properties = MessageProperties::default();
    if let Some(message) = event.message() {
        properties.message_expiry_s = message.expires_s;
        properties.response_topic = message.response_topic.as_deref().and_then(text);
        properties.correlation_data = message.correlation_data.clone();
    }
    let (bytes, content_type) = match event.payload() {
        Some(payload) => {
            properties.payload_is_text = payload.payload_format.map(|format| format == 1);
            properties.user_properties = user_properties(payload);
            match &payload.bytes {
                // As they came: nobody decodes them on this way.
                Some(bytes) => (bytes.clone(), payload.content_type.clone()),
                None => payload.encode(value(event).unwrap_or(&Value::Null)),
            }
        }
        None => born_elsewhere(value(event)),
    };
    properties.content_type = content_type.as_deref().and_then(text);
    (bytes, properties)
}

/// That what was told at a topic is gone.
pub(crate) fn removal(said: &Message) -> Message {
    Message {
        topic: said.topic.clone(),
        ..Message::default()
    }
}

/// What an event that `said` tells says in a format; none if it is no data, or in that format already.
pub(crate) fn in_format(event: &Event, said: &Message, format: Format) -> Option<Message> {
    let value = value(event).filter(|value| !matches!(value, Value::Bytes(_)))?;
    let named = said.properties.content_type.as_ref().map(Text::as_str);
    if said.payload.is_empty() || named.and_then(Format::of) == Some(format) {
        return None;
    }
    let is_json = || match event.payload() {
        Some(payload) if named.is_none() => matches!(
            payload.form_of(value),
            PayloadForm::Json | PayloadForm::Fixed(FixedForm::Json)
        ),
        Some(_) | None => false,
    };
    let payload = if format == Format::Json && is_json() {
        said.payload.clone()
    } else {
        let mut out = Vec::with_capacity(value.estimated_bytes());
        format.encode(value, &mut out);
        out.into()
    };
    let properties = MessageProperties {
        content_type: text(format.media_type()),
        payload_is_text: said
            .properties
            .payload_is_text
            .filter(|_| format == Format::Json),
        ..said.properties.clone()
    };
    Some(Message {
        topic: said.topic.clone(),
        properties,
        payload,
    })
}

fn value(event: &Event) -> Option<&Value> {
    match event.value() {
        EventValue::Value(value) => Some(value),
        EventValue::Absent | EventValue::Entries(_) => None,
    }
}

/// What was not made from a payload: bytes as they are, all else as JSON.
fn born_elsewhere(value: Option<&Value>) -> (Bytes, Option<sapwood_value::Text>) {
    match value {
        None => (Bytes::new(), None),
        Some(Value::Bytes(blob)) => (blob.data.clone(), blob.media_type.clone()),
        Some(value) => {
            let mut out = Vec::with_capacity(value.estimated_bytes());
            json::encode(value, &mut out);
            (out.into(), Some("application/json".into()))
        }
    }
}

fn user_properties(payload: &Payload) -> UserProperties {
    let mut properties = UserProperties::default();
    for (name, value) in &payload.user_properties {
        if let (Some(name), Some(value)) = (text(name), text(value)) {
            properties.push(&name, &value);
        }
    }
    properties
}

/// What is too long for the protocol, or has a NUL in it, it can't say.
fn text(text: &str) -> Option<Text> {
    Text::new(text).ok()
}

/// How a publish went (3.4.2.1).
pub(crate) fn outcome(answer: &Result<Answer, WriteError>) -> ReasonCode {
    match answer {
        Ok(Answer::Published { receivers: 0 }) => ReasonCode::NoMatchingSubscribers,
        Ok(
            Answer::Published { .. } | Answer::Written(_) | Answer::Read(_) | Answer::Registered,
        ) => ReasonCode::Success,
        Err(error) => refusal(error.kind()),
    }
}

/// Whether a write was refused for the moment only.
pub(crate) fn may_work_later(answer: &Result<Answer, WriteError>) -> bool {
    let kind = answer.as_ref().err().map(WriteError::kind);
    kind.is_some_and(|kind| match kind {
        ErrorKind::Busy | ErrorKind::Full | ErrorKind::Unavailable => true,
        ErrorKind::Denied | ErrorKind::Invalid | ErrorKind::TooLarge | ErrorKind::Conflict => false,
    })
}

/// What a client is told of a refused write.
pub(crate) fn refusal(kind: ErrorKind) -> ReasonCode {
    match kind {
        ErrorKind::Denied => ReasonCode::NotAuthorized,
        ErrorKind::Invalid => ReasonCode::TopicNameInvalid,
        ErrorKind::TooLarge | ErrorKind::Busy | ErrorKind::Full => ReasonCode::QuotaExceeded,
        ErrorKind::Conflict => ReasonCode::UnspecifiedError,
        ErrorKind::Unavailable => ReasonCode::UnspecifiedError,
    }
}

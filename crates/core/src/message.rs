//! What is said to a path and not kept in the tree.

use std::sync::OnceLock;

use bytes::Bytes;
use sapwood_tree::Payload;
use sapwood_value::{Limits, Text, Value};

/// Something said to a path, delivered to whoever listens.
///
/// It comes as a value, or as a payload that is decoded when somebody first asks for its value: what goes from one door
/// to another as it came is never decoded.
#[derive(Debug, Clone)]
pub struct Message {
    value: OnceLock<Value>,
    payload: Option<Payload>,
    limits: Limits,
    content_type: Option<Text>,
    /// The QoS that it was published at, 0 to 2; 2 where the publisher's protocol has no such thing.
    pub qos: u8,
    /// How long it may wait for its receivers, in seconds.
    pub expires_s: Option<u32>,
    /// The topic that an answer is expected at (MQTT 5.0, 3.3.2.3.5).
    pub response_topic: Option<Text>,
    /// What the answer is to carry (MQTT 5.0, 3.3.2.3.6).
    pub correlation_data: Option<Bytes>,
}

impl Message {
    /// A message that is a value.
    pub fn new(value: Value) -> Self {
        Self {
            value: OnceLock::from(value),
            payload: None,
            limits: Limits::default(),
            content_type: None,
            qos: 2,
            expires_s: None,
            response_topic: None,
            correlation_data: None,
        }
    }

    /// A message that came as bytes; its value will be read within these limits, and is bytes where they are not enough.
    pub fn from_payload(payload: Payload, limits: Limits) -> Self {
        Self {
            value: OnceLock::new(),
            limits,
            content_type: None,
            qos: payload.qos,
            expires_s: None,
            response_topic: None,
            correlation_data: None,
            payload: Some(payload),
        }
    }

    /// With the media type that its sender gave beside the value.
    #[must_use]
    pub fn with_content_type(self, content_type: Option<Text>) -> Self {
        Self {
            content_type,
            ..self
        }
    }

    /// What is said; decoded once, by the first who asks (design, 2.3, «Payloads»).
    pub fn value(&self) -> &Value {
        self.value.get_or_init(|| {
            self.payload
                .as_ref()
                .map_or(Value::Null, |payload| payload.read(&self.limits).0)
        })
    }

    /// The payload as it came, if it came as bytes.
    pub fn payload(&self) -> Option<&Payload> {
        self.payload.as_ref()
    }

    /// The media type that its sender gave.
    pub fn content_type(&self) -> Option<&str> {
        let of_payload = self.payload.as_ref();
        of_payload
            .and_then(|payload| payload.content_type.as_deref())
            .or(self.content_type.as_deref())
    }

    /// About how much memory it takes, in bytes, without decoding it.
    pub(crate) fn estimated_bytes(&self) -> usize {
        let correlation = self.correlation_data.as_ref().map_or(0, Bytes::len);
        let body = match &self.payload {
            Some(payload) => payload.estimated_bytes(),
            None => self.value().estimated_bytes(),
        };
        body + correlation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_decoded_when_somebody_asks() {
        let payload = Payload {
            bytes: Some(" 5 ".into()),
            qos: 1,
            ..Payload::default()
        };
        let message = Message::from_payload(payload.clone(), Limits::default());
        assert_eq!((message.payload(), message.qos), (Some(&payload), 1));
        assert!(message.estimated_bytes() > 0 && message.value.get().is_none());
        assert_eq!(message.value(), &Value::Int(5));
        assert!(message.value.get().is_some());
    }
}

//! The payloads that records were made from.

use bytes::Bytes;
use sapwood_value::Text;

/// What a published payload was, beside the value that it meant (design, 2.3, «Payloads»).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Payload {
    /// The bytes as they came; none once a tree write has changed the document.
    pub bytes: Option<Bytes>,
    /// The media type it came with.
    pub content_type: Option<Text>,
    /// MQTT 5's payload format indicator.
    pub payload_format: Option<u8>,
    /// MQTT 5's user properties, in their order.
    pub user_properties: Vec<(Text, Text)>,
    /// How the bytes were read when no content type said it.
    pub form: PayloadForm,
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
}

impl Payload {
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

//! A message for many connections.

use std::sync::OnceLock;
use std::time::Instant;

use crate::codec::{Message, Qos, Template, Version};

/// A message that goes to any number of subscribers, encoded when the first of them needs it: once for 3.x and once
/// for 5.0, with and without a packet id.
#[derive(Debug)]
pub struct Published {
    message: Message,
    /// When its time is over.
    expires: Option<Instant>,
    templates: [OnceLock<Option<Template>>; 4],
}

impl Published {
    /// A message whose time, if it has one, begins to run now.
    pub fn new(message: Message, now: Instant) -> Self {
        let expiry_s = message.properties.message_expiry_s;
        let expires =
            expiry_s.and_then(|s| now.checked_add(std::time::Duration::from_secs(u64::from(s))));
        Self {
            message,
            expires,
            templates: Default::default(),
        }
    }

    /// A message whose time ends then.
    pub(crate) fn until(message: Message, expires: Instant) -> Self {
        Self {
            expires: Some(expires),
            ..Self::new(message, expires)
        }
    }

    /// The same in another form: its time is the same.
    pub(crate) fn with(&self, message: Message) -> Self {
        Self {
            message,
            expires: self.expires,
            templates: Default::default(),
        }
    }

    /// What is published.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Seconds that are left: `Err` if its time is over, `None` if it has all the time in the world.
    pub(super) fn left_s(&self, now: Instant) -> Result<Option<u32>, Expired> {
        let Some(expires) = self.expires else {
            return Ok(None);
        };
        let left = expires.saturating_duration_since(now);
        if left.is_zero() {
            return Err(Expired);
        }
        // Part of a second still is one: 0 would say that it is over.
        let s = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        Ok(Some(u32::try_from(s).unwrap_or(u32::MAX)))
    }

    /// About how much memory it takes.
    pub(super) fn estimated_bytes(&self) -> usize {
        128 + self.message.topic.len() + self.message.payload.len()
    }

    /// Its encoding; none if the protocol can't say it.
    pub(super) fn template(&self, version: Version, qos: Qos) -> Option<&Template> {
        let acknowledged = qos.is_acknowledged();
        let slot = match (version.is_5(), acknowledged) {
            (false, false) => &self.templates[0],
            (false, true) => &self.templates[1],
            (true, false) => &self.templates[2],
            (true, true) => &self.templates[3],
        };
        slot.get_or_init(|| Template::new(version, acknowledged, &self.message).ok())
            .as_ref()
    }
}

impl PartialEq for Published {
    fn eq(&self, other: &Self) -> bool {
        self.message == other.message && self.expires == other.expires
    }
}

/// A message whose time is over.
#[derive(Debug)]
pub(super) struct Expired;

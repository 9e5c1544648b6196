//! What a peer did wrong.

use super::ReasonCode;

/// Bytes or a packet that the standard does not allow. The connection ends with its reason code (4.13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} ({section})")]
pub struct Fault {
    /// What a client of 5.0 is told.
    pub reason: ReasonCode,
    /// The statement of MQTT 5.0 that was broken, or the section where no statement has a number of its own.
    pub section: &'static str,
    /// What was wrong, for the log and the reason string.
    pub what: &'static str,
}

impl Fault {
    /// A fault with any reason.
    pub const fn new(reason: ReasonCode, section: &'static str, what: &'static str) -> Self {
        Self {
            reason,
            section,
            what,
        }
    }

    /// Bytes that can't be read as the standard says: 0x81.
    pub const fn malformed(section: &'static str, what: &'static str) -> Self {
        Self::new(ReasonCode::MalformedPacket, section, what)
    }

    /// Something that may not be said, or not now: 0x82.
    pub const fn protocol(section: &'static str, what: &'static str) -> Self {
        Self::new(ReasonCode::ProtocolError, section, what)
    }
}

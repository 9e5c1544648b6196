//! Strings of the protocol.

use std::fmt;

use bytes::Bytes;

use super::Fault;

/// A UTF-8 string without U+0000, of at most 65,535 bytes (1.5.4). It shares the bytes of the packet that it came in:
/// what is to be kept for long is [detached](Self::detached) first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(Bytes);

/// Why something is no string of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// More than 65,535 bytes.
    #[error("a string of more than 65,535 bytes")]
    TooLong,
    /// It contains U+0000.
    #[error("a string that contains U+0000")]
    Nul,
}

impl Text {
    /// A string of its own.
    ///
    /// # Errors
    /// If it is too long, or contains U+0000.
    pub fn new(text: &str) -> Result<Self, TextError> {
        if text.len() > usize::from(u16::MAX) {
            return Err(TextError::TooLong);
        }
        if text.bytes().any(|byte| byte == 0) {
            return Err(TextError::Nul);
        }
        Ok(Self(Bytes::copy_from_slice(text.as_bytes())))
    }

    /// Text that the program itself has; it must be one.
    pub fn from_static(text: &'static str) -> Self {
        debug_assert!(Self::new(text).is_ok());
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// A string as it stands in a packet.
    pub(super) fn from_wire(bytes: Bytes) -> Result<Self, Fault> {
        match std::str::from_utf8(&bytes) {
            Err(_) => Err(Fault::malformed("1.5.4-1", "a string that is not UTF-8")),
            Ok(text) if text.bytes().any(|byte| byte == 0) => {
                Err(Fault::malformed("1.5.4-2", "a string that contains U+0000"))
            }
            Ok(_) => Ok(Self(bytes)),
        }
    }

    /// The string.
    pub fn as_str(&self) -> &str {
        // Checked when it was made: looking again costs less than a copy would.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same in memory of its own, so that it holds no packet's.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<&str> for Text {
    type Error = TextError;

    fn try_from(text: &str) -> Result<Self, TextError> {
        Self::new(text)
    }
}

//! What the three decoders share: one count of what a value costs, and what it may not hold.

use crate::{DecodeErrorKind, Limits, Map, Text, VALUE_KEY, Value};

/// A fault without its position, which only the decoder knows.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) kind: DecodeErrorKind,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(kind: DecodeErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(DecodeErrorKind::Malformed, message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(DecodeErrorKind::Unsupported, message)
    }

    pub(crate) fn number(message: impl Into<String>) -> Self {
        Self::new(DecodeErrorKind::Number, message)
    }
}

/// Counts a value's memory and depth while it is decoded.
pub(crate) struct Budget {
    limits: Limits,
    memory: usize,
    /// Whether a key begins as those do that [`crate::spelling`] reads.
    pub(crate) marked: bool,
}

impl Budget {
    /// # Errors
    /// If there are more bytes than a value may have.
    pub(crate) fn new(limits: &Limits, bytes: usize) -> Result<Self, Fault> {
        if bytes > limits.value_bytes {
            return Err(too_large("a value", limits.value_bytes));
        }
        Ok(Self {
            limits: *limits,
            memory: limits.memory_bytes,
            marked: false,
        })
    }

    /// One level further in, of a count that starts at 0.
    pub(crate) fn enter(&self, depth: usize) -> Result<usize, Fault> {
        if depth >= self.limits.depth {
            let message = format!("more than {} levels", self.limits.depth);
            return Err(Fault::new(DecodeErrorKind::TooDeep, message));
        }
        Ok(depth + 1)
    }

    /// One more item of an array.
    pub(crate) fn item(&mut self) -> Result<(), Fault> {
        self.take(size_of::<Value>())
    }

    /// One more entry of a map, with this key.
    pub(crate) fn key(&mut self, key: &str) -> Result<Text, Fault> {
        match key.as_bytes().first() {
            Some(b'.' | b'%') => self.marked = true,
            Some(0) if key == VALUE_KEY => {
                return Err(Fault::new(DecodeErrorKind::ReservedKey, "a reserved key"));
            }
            Some(_) | None => {}
        }
        self.take(size_of::<(Text, Value)>())?;
        self.text(key)
    }

    /// A string.
    pub(crate) fn text(&mut self, text: &str) -> Result<Text, Fault> {
        self.string(text.len())?;
        Ok(Text::from(text))
    }

    /// So many bytes of a string or byte string.
    pub(crate) fn string(&mut self, bytes: usize) -> Result<(), Fault> {
        self.string_in_all(bytes)?;
        self.take(bytes)
    }

    /// The whole length of a string that came in parts, each of them counted.
    pub(crate) fn string_in_all(&self, bytes: usize) -> Result<(), Fault> {
        if bytes > self.limits.string_bytes {
            return Err(too_large("a string", self.limits.string_bytes));
        }
        Ok(())
    }

    /// The map of these entries.
    pub(crate) fn map(entries: Vec<(Text, Value)>) -> Result<Value, Fault> {
        Map::from_entries(entries)
            .map(Value::Map)
            .map_err(|duplicate| Fault::new(DecodeErrorKind::DuplicateKey, duplicate.to_string()))
    }

    fn take(&mut self, bytes: usize) -> Result<(), Fault> {
        match self.memory.checked_sub(bytes) {
            Some(left) => {
                self.memory = left;
                Ok(())
            }
            None => Err(too_large("a value's memory", self.limits.memory_bytes)),
        }
    }
}

fn too_large(what: &str, limit: usize) -> Fault {
    Fault::new(
        DecodeErrorKind::TooLarge,
        format!("{what} takes more than {limit} bytes"),
    )
}

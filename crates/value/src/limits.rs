//! What bounds a decoder, and why it refused.

/// Bounds of one decoded value. Past any of them the bytes are refused, never cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many maps and arrays (and CBOR tags) may lie within each other; in JSON 127 at most.
    pub depth: usize,
    /// Bytes of the whole encoded value.
    pub value_bytes: usize,
    /// Bytes of one string, key or byte string.
    pub string_bytes: usize,
    /// Memory that the decoded value may take, in bytes: small items cost more in memory than on the wire. It is never
    /// taken for a value that is refused for it.
    pub memory_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth: 64,
            value_bytes: 16 << 20,
            string_bytes: 10 << 20,
            memory_bytes: 192 << 20,
        }
    }
}

/// Why bytes are no value. The message is safe to show to whoever sent them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} at {}", self.position())]
pub struct DecodeError {
    /// The sort of fault.
    pub kind: DecodeErrorKind,
    /// The bound that was broken, where one was.
    pub bound: Option<Bound>,
    /// What is wrong, as a lower-case clause.
    pub message: String,
    /// The byte at which it was noticed, from 0.
    pub offset: usize,
    /// Line and column, from 1, where the format has lines.
    pub line_column: Option<(usize, usize)>,
}

impl DecodeError {
    /// The fault's stable name, for programs and metrics.
    pub const fn code(&self) -> &'static str {
        self.kind.code()
    }

    fn position(&self) -> String {
        match self.line_column {
            Some((line, column)) => format!("line {line} column {column}"),
            None => format!("byte {}", self.offset),
        }
    }
}

/// The bounds of [`Limits`], by the names of its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bound {
    /// [`Limits::depth`].
    Depth,
    /// [`Limits::value_bytes`].
    ValueBytes,
    /// [`Limits::string_bytes`].
    StringBytes,
    /// [`Limits::memory_bytes`].
    MemoryBytes,
}

impl Bound {
    /// The sort of fault that breaking it is.
    pub const fn kind(self) -> DecodeErrorKind {
        match self {
            Self::Depth => DecodeErrorKind::TooDeep,
            Self::ValueBytes | Self::StringBytes | Self::MemoryBytes => DecodeErrorKind::TooLarge,
        }
    }
}

/// The sorts of fault that a decoder tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// Not the format, or not all of it.
    Malformed,
    /// Text that is no UTF-8.
    NotUtf8,
    /// A key is there twice in one map.
    DuplicateKey,
    /// More levels than [`Limits::depth`].
    TooDeep,
    /// Larger than a limit in bytes.
    TooLarge,
    /// A number that no value holds: NaN, an infinity, an integer beyond 64 bits.
    Number,
    /// Something the format can say and a value cannot: a key that is no string, a tag, an extension.
    Unsupported,
    /// The key that stands for a scalar with records below it, as data.
    ReservedKey,
}

impl DecodeErrorKind {
    /// The kind's stable name.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NotUtf8 => "not_utf8",
            Self::DuplicateKey => "duplicate_key",
            Self::TooDeep => "too_deep",
            Self::TooLarge => "too_large",
            Self::Number => "number_range",
            Self::Unsupported => "unsupported",
            Self::ReservedKey => "reserved_key",
        }
    }
}

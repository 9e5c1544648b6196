//! What bounds paths and values.

/// Bounds of what a write may say (design, 2.4). All of them are configurable; these are the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many segments a path may have. The levels inside a document count on from its path.
    pub depth: usize,
    /// Bytes of one segment.
    pub segment_bytes: usize,
    /// Bytes of one written value, about as encoded.
    pub value_bytes: usize,
    /// Bytes of one string inside a value.
    pub string_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth: 32,
            segment_bytes: 768,
            value_bytes: 16 << 20,
            string_bytes: 10 << 20,
        }
    }
}

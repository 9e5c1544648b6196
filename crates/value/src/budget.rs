//! What the three decoders share: one count of what a value costs, and what it may not hold.

use crate::{Blob, Bound, DecodeError, DecodeErrorKind, Limits, Map, Text, VALUE_KEY, Value};

/// A fault without its position, which only the decoder knows.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) kind: DecodeErrorKind,
    pub(crate) bound: Option<Bound>,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(kind: DecodeErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            bound: None,
            message: message.into(),
        }
    }

    /// A bound that is broken.
    pub(crate) fn beyond(bound: Bound, message: impl Into<String>) -> Self {
        Self {
            bound: Some(bound),
            ..Self::new(bound.kind(), message)
        }
    }

    /// The fault with its position.
    pub(crate) fn at(self, offset: usize, line_column: Option<(usize, usize)>) -> DecodeError {
        DecodeError {
            kind: self.kind,
            bound: self.bound,
            message: self.message,
            offset,
            line_column,
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

/// What a string holds in place: longer ones are elsewhere in memory.
const TEXT_IN_PLACE: usize = size_of::<Text>();

/// Counts a value's memory and depth while it is decoded. One that does not keep anything only counts.
pub(crate) struct Budget<const KEEPS: bool> {
    limits: Limits,
    memory: usize,
    /// How much each array and map holds, in the order in which they open, if they were counted before.
    sizes: Vec<u32>,
    /// How many arrays and maps opened.
    opened: usize,
    /// Whether a key begins as those do that [`crate::spelling`] reads.
    pub(crate) marked: bool,
}

/// What an array or a map holds while it is read.
pub(crate) struct List<T> {
    held: Vec<T>,
    /// Which it is of those that opened.
    number: usize,
    /// How much it would hold, where nothing is kept.
    count: u32,
}

impl<const KEEPS: bool> Budget<KEEPS> {
    pub(crate) const fn new(limits: &Limits) -> Self {
        Self {
            limits: *limits,
            memory: limits.memory_bytes,
            sizes: Vec::new(),
            opened: 0,
            marked: false,
        }
    }

    /// One level further in, of a count that starts at 0.
    pub(crate) fn enter(&self, depth: usize) -> Result<usize, Fault> {
        if depth >= self.limits.depth {
            let message = format!("more than {} levels", self.limits.depth);
            return Err(Fault::beyond(Bound::Depth, message));
        }
        Ok(depth + 1)
    }

    /// An array or a map begins.
    #[inline]
    pub(crate) fn open<T>(&mut self) -> Result<List<T>, Fault> {
        let number = self.opened;
        self.opened += 1;
        let mut held = Vec::new();
        if !KEEPS {
            // The count is memory, too.
            self.take(size_of::<u32>())?;
            self.sizes.push(0);
        } else if let Some(size) = self.sizes.get(number) {
            // So much is there: it was counted, and not announced.
            held.reserve_exact(usize::try_from(*size).unwrap_or_default());
        }
        Ok(List {
            held,
            number,
            count: 0,
        })
    }

    /// One more of what an array or a map holds; its memory was counted by [`Self::item`] or [`Self::key`].
    #[inline]
    pub(crate) fn push<T>(&self, list: &mut List<T>, held: T) {
        if KEEPS {
            list.held.push(held);
        } else {
            list.count = list.count.saturating_add(1);
        }
    }

    /// The array ends.
    #[inline]
    pub(crate) fn array(&mut self, list: List<Value>) -> Value {
        Value::Array(self.close(list))
    }

    /// The map ends.
    pub(crate) fn map(&mut self, list: List<(Text, Value)>) -> Result<Value, Fault> {
        Map::from_entries(self.close(list))
            .map(Value::Map)
            .map_err(|duplicate| Fault::new(DecodeErrorKind::DuplicateKey, duplicate.to_string()))
    }

    #[inline]
    fn close<T>(&mut self, list: List<T>) -> Vec<T> {
        if !KEEPS && let Some(size) = self.sizes.get_mut(list.number) {
            *size = list.count;
        }
        list.held
    }

    /// One more item of an array.
    #[inline]
    pub(crate) fn item(&mut self) -> Result<(), Fault> {
        self.take(size_of::<Value>())
    }

    /// One more entry of a map, with this key.
    #[inline]
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
    #[inline]
    pub(crate) fn text(&mut self, text: &str) -> Result<Text, Fault> {
        self.string(text.len())?;
        if text.len() > TEXT_IN_PLACE {
            self.take(text.len())?;
        }
        Ok(if KEEPS {
            Text::from(text)
        } else {
            Text::default()
        })
    }

    /// A byte string.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<Value, Fault> {
        self.string(bytes.len())?;
        self.take(size_of::<Blob>() + bytes.len())?;
        Ok(Value::bytes(if KEEPS {
            bytes.to_vec()
        } else {
            Vec::new()
        }))
    }

    /// So many bytes of a string or byte string, all of it or as much as has come.
    pub(crate) fn string(&self, bytes: usize) -> Result<(), Fault> {
        short(bytes, &self.limits)
    }

    #[inline]
    fn take(&mut self, bytes: usize) -> Result<(), Fault> {
        match self.memory.checked_sub(bytes) {
            Some(left) => {
                self.memory = left;
                Ok(())
            }
            None => Err(too_large(Bound::MemoryBytes, self.limits.memory_bytes)),
        }
    }
}

impl Budget<false> {
    /// The same bytes come again, and now what they say is kept, in lists of the size that was counted.
    pub(crate) fn again(self) -> Budget<true> {
        Budget {
            sizes: self.sizes,
            ..Budget::new(&self.limits)
        }
    }
}

/// # Errors
/// If there are more bytes than a value may have.
pub(crate) fn whole(bytes: &[u8], limits: &Limits) -> Result<(), Fault> {
    if bytes.len() > limits.value_bytes {
        return Err(too_large(Bound::ValueBytes, limits.value_bytes));
    }
    Ok(())
}

/// # Errors
/// If a string of so many bytes is longer than one may be.
pub(crate) fn short(bytes: usize, limits: &Limits) -> Result<(), Fault> {
    if bytes > limits.string_bytes {
        return Err(too_large(Bound::StringBytes, limits.string_bytes));
    }
    Ok(())
}

fn too_large(bound: Bound, limit: usize) -> Fault {
    let what = match bound {
        Bound::StringBytes => "a string",
        Bound::MemoryBytes => "a value's memory",
        Bound::ValueBytes | Bound::Depth => "a value",
    };
    Fault::beyond(bound, format!("{what} takes more than {limit} bytes"))
}

//! Bytes to values.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use crate::budget::{Budget, Fault};
use crate::reader::Reader;
use crate::{DecodeError, Format, Limits, ReadError, Spelled, Text, Value, decode};

/// Decodes one CBOR item. Every key is data, also those that [`crate::spelling`] reads.
///
/// # Errors
/// If the bytes are not one well-formed item, past a limit, or say what a value cannot: see `docs/formats.md`.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Value, DecodeError> {
    decode::plain(Format::Cbor, bytes, limits)
}

/// Decodes one CBOR item, and reads the keys of [`crate::spelling`] in it.
///
/// # Errors
/// As [`decode`], or if the spelling is wrong.
pub fn decode_spelled(bytes: &[u8], limits: &Limits) -> Result<Spelled, ReadError> {
    decode::spelled(Format::Cbor, bytes, limits)
}

/// One pass over the bytes.
pub(crate) fn read<const KEEPS: bool>(
    bytes: &[u8],
    budget: &mut Budget<KEEPS>,
) -> Result<Value, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut decoder = Decoder {
        reader: &mut reader,
        budget,
    };
    let value = decoder.value(0);
    let whole = value.and_then(|value| reader.end().map(|()| value));
    whole.map_err(|fault| reader.error(fault))
}

const BREAK: u8 = 0xFF;

/// The head of an item: its major type, its argument, and whether its length is left open.
struct Head {
    major: u8,
    info: u8,
    argument: u64,
}

impl Head {
    const fn is_indefinite(&self) -> bool {
        self.info == 31
    }
}

struct Decoder<'a, 'b, const KEEPS: bool> {
    reader: &'b mut Reader<'a>,
    budget: &'b mut Budget<KEEPS>,
}

impl<'a, const KEEPS: bool> Decoder<'a, '_, KEEPS> {
    fn value(&mut self, depth: usize) -> Result<Value, Fault> {
        let head = self.head()?;
        match head.major {
            0 => Ok(Value::from(head.argument)),
            1 => negative(head.argument),
            2 => self.bytes(&head),
            3 => self.text(&head).map(Value::String),
            4 => self.array(&head, depth),
            5 => self.map(&head, depth),
            6 => self.tagged(head.argument, depth),
            _ => simple(&head),
        }
    }

    fn head(&mut self) -> Result<Head, Fault> {
        let byte = self.reader.byte()?;
        let (major, info) = (byte >> 5, byte & 31);
        let argument = match info {
            0..24 => info.into(),
            24 => self.reader.byte()?.into(),
            25 => u16::from_be_bytes(self.reader.array()?).into(),
            26 => u32::from_be_bytes(self.reader.array()?).into(),
            27 => u64::from_be_bytes(self.reader.array()?),
            31 if byte == BREAK => {
                return Err(Fault::malformed("a break outside an item of open length"));
            }
            31 if matches!(major, 2..=5) => 0,
            _ => return Err(Fault::malformed("a reserved kind of length")),
        };
        Ok(Head {
            major,
            info,
            argument,
        })
    }

    fn bytes(&mut self, head: &Head) -> Result<Value, Fault> {
        if !head.is_indefinite() {
            let bytes = self.reader.take(head.argument)?;
            return self.budget.bytes(bytes);
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = self.next_chunk(head.major)? {
            bytes.extend_from_slice(chunk);
            self.budget.string(bytes.len())?;
        }
        self.budget.bytes(&bytes)
    }

    fn text(&mut self, head: &Head) -> Result<Text, Fault> {
        if !head.is_indefinite() {
            let text = self.reader.take(head.argument)?;
            return self.budget.text(self.reader.utf8(text)?);
        }
        let text = self.chunks(head)?;
        self.budget.text(&text)
    }

    /// The whole of a text of open length.
    fn chunks(&mut self, head: &Head) -> Result<String, Fault> {
        let mut text = String::new();
        while let Some(chunk) = self.next_chunk(head.major)? {
            // RFC 8949, 3.2.3: a character is never split between chunks.
            text.push_str(self.reader.utf8(chunk)?);
            self.budget.string(text.len())?;
        }
        Ok(text)
    }

    /// The next chunk of a string of open length, or none at its break.
    fn next_chunk(&mut self, major: u8) -> Result<Option<&'a [u8]>, Fault> {
        if self.at_break()? {
            return Ok(None);
        }
        let head = self.head()?;
        if head.major != major || head.is_indefinite() {
            return Err(Fault::malformed(
                "a string of open length with other items in it",
            ));
        }
        self.reader.take(head.argument).map(Some)
    }

    fn at_break(&mut self) -> Result<bool, Fault> {
        let at_break = self.reader.peek()? == BREAK;
        if at_break {
            self.reader.byte()?;
        }
        Ok(at_break)
    }

    /// Whether another item of the array or map comes; `left` counts those that were announced.
    fn another(&mut self, head: &Head, left: &mut u64) -> Result<bool, Fault> {
        if head.is_indefinite() {
            return Ok(!self.at_break()?);
        }
        let another = *left > 0;
        *left = left.saturating_sub(1);
        Ok(another)
    }

    fn array(&mut self, head: &Head, depth: usize) -> Result<Value, Fault> {
        let depth = self.budget.enter(depth)?;
        let mut left = head.argument;
        let mut items = self.budget.open()?;
        while self.another(head, &mut left)? {
            self.budget.item()?;
            let item = self.value(depth)?;
            self.budget.push(&mut items, item);
        }
        Ok(self.budget.array(items))
    }

    fn map(&mut self, head: &Head, depth: usize) -> Result<Value, Fault> {
        let depth = self.budget.enter(depth)?;
        let mut left = head.argument;
        let mut entries = self.budget.open()?;
        while self.another(head, &mut left)? {
            let key = self.key()?;
            let value = self.value(depth)?;
            self.budget.push(&mut entries, (key, value));
        }
        self.budget.map(entries)
    }

    fn key(&mut self) -> Result<Text, Fault> {
        let head = self.head()?;
        if head.major != 3 {
            return Err(Fault::unsupported("a key that is not a string"));
        }
        if head.is_indefinite() {
            let key = self.chunks(&head)?;
            return self.budget.key(&key);
        }
        let chunk = self.reader.take(head.argument)?;
        self.budget.key(self.reader.utf8(chunk)?)
    }

    /// The tags that a value can do without; see `docs/formats.md`. A tag counts as a level.
    fn tagged(&mut self, tag: u64, depth: usize) -> Result<Value, Fault> {
        let depth = self.budget.enter(depth)?;
        let inner = self.value(depth)?;
        let fits = match tag {
            2 | 3 => return bignum(tag == 3, &inner),
            0 | 32 | 33 | 34 | 36 => matches!(inner, Value::String(_)),
            1 => inner.is_number(),
            24 | 64 => matches!(inner, Value::Bytes(_)),
            21..=23 | 55799 => true,
            _ => return Err(Fault::unsupported(format!("the tag {tag}"))),
        };
        if fits {
            Ok(inner)
        } else {
            Err(Fault::malformed(format!(
                "the tag {tag} around the wrong type"
            )))
        }
    }
}

/// RFC 8949, 3.1: major type 1 stands for -1 - n.
fn negative(n: u64) -> Result<Value, Fault> {
    i64::try_from(n)
        .map(|n| Value::Int(!n))
        .map_err(|_| beyond_64_bits())
}

/// RFC 8949, 3.4.3, where the number fits 64 bits.
fn bignum(is_negative: bool, inner: &Value) -> Result<Value, Fault> {
    let Value::Bytes(blob) = inner else {
        return Err(Fault::malformed("a big number that is not bytes"));
    };
    let mut n: u64 = 0;
    for byte in &blob.data {
        n = n.checked_mul(256).ok_or_else(beyond_64_bits)? | u64::from(*byte);
    }
    if is_negative {
        negative(n)
    } else {
        Ok(Value::from(n))
    }
}

fn beyond_64_bits() -> Fault {
    Fault::number("an integer beyond 64 bits")
}

fn simple(head: &Head) -> Result<Value, Fault> {
    let float = match (head.info, head.argument) {
        (20, _) => return Ok(Value::Bool(false)),
        (21, _) => return Ok(Value::Bool(true)),
        // Undefined is what JavaScript's encoders write for a missing value.
        (22 | 23, _) => return Ok(Value::Null),
        (24, 0..32) => {
            return Err(Fault::malformed(
                "a simple value in two bytes that needs one",
            ));
        }
        (25, bits) => f16_to_f64(bits),
        (26, bits) => f64::from(f32::from_bits(u32::try_from(bits).unwrap_or(u32::MAX))),
        (27, bits) => f64::from_bits(bits),
        (_, n) => return Err(Fault::unsupported(format!("the simple value {n}"))),
    };
    Value::try_from(float).map_err(|_| Fault::number("a number that is not finite"))
}

/// RFC 8949, appendix D. Of `bits`, the low 16 count.
fn f16_to_f64(bits: u64) -> f64 {
    let (exponent, fraction) = ((bits >> 10) & 0x1F, bits & 0x3FF);
    let sign = (bits & 0x8000) << 48;
    let size = match exponent {
        0 => return f64::from_bits(sign | (f16_steps(fraction) * 2f64.powi(-24)).to_bits()),
        31 => 0x7FF << 52 | fraction << 42,
        _ => (exponent + 1023 - 15) << 52 | fraction << 42,
    };
    f64::from_bits(sign | size)
}

fn f16_steps(fraction: u64) -> f64 {
    u16::try_from(fraction).map_or(0.0, f64::from)
}

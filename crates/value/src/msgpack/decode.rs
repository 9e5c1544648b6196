//! Bytes to values.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use super::timestamp;
use crate::budget::{Budget, Fault};
use crate::reader::Reader;
use crate::{DecodeError, Format, Limits, ReadError, Spelled, Text, Value, decode};

/// Decodes one MessagePack object. Every key is data, also those that [`crate::spelling`] reads.
///
/// # Errors
/// If the bytes are not one object, past a limit, or say what a value cannot: see `docs/formats.md`.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Value, DecodeError> {
    decode::plain(Format::MessagePack, bytes, limits)
}

/// Decodes one MessagePack object, and reads the keys of [`crate::spelling`] in it.
///
/// # Errors
/// As [`decode`], or if the spelling is wrong.
pub fn decode_spelled(bytes: &[u8], limits: &Limits) -> Result<Spelled, ReadError> {
    decode::spelled(Format::MessagePack, bytes, limits)
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

struct Decoder<'a, 'b, const KEEPS: bool> {
    reader: &'b mut Reader<'a>,
    budget: &'b mut Budget<KEEPS>,
}

impl<'a, const KEEPS: bool> Decoder<'a, '_, KEEPS> {
    fn value(&mut self, depth: usize) -> Result<Value, Fault> {
        let head = self.reader.byte()?;
        match head {
            0x00..=0x7F => Ok(Value::Int(head.into())),
            0x80..=0x8F => self.map(u64::from(head & 0x0F), depth),
            0x90..=0x9F => self.array(u64::from(head & 0x0F), depth),
            0xA0..=0xBF => self.text(u64::from(head & 0x1F)),
            0xC0 => Ok(Value::Null),
            0xC1 => Err(Fault::malformed("the byte 0xc1, which is never used")),
            0xC2 => Ok(Value::Bool(false)),
            0xC3 => Ok(Value::Bool(true)),
            0xC4..=0xC6 => self.bytes(head - 0xC4),
            0xC7..=0xC9 => {
                let length = self.length(head - 0xC7)?;
                self.extension(length)
            }
            0xCA => finite(f32::from_be_bytes(self.reader.array()?).into()),
            0xCB => finite(f64::from_be_bytes(self.reader.array()?)),
            0xCC..=0xCF => self.unsigned(head - 0xCC).map(Value::from),
            0xD0..=0xD3 => self.signed(head - 0xD0).map(Value::Int),
            0xD4..=0xD8 => self.extension(1 << (head - 0xD4)),
            0xD9..=0xDB => {
                let length = self.length(head - 0xD9)?;
                self.text(length)
            }
            0xDC | 0xDD => {
                let length = self.length(head - 0xDC + 1)?;
                self.array(length, depth)
            }
            0xDE | 0xDF => {
                let length = self.length(head - 0xDE + 1)?;
                self.map(length, depth)
            }
            0xE0..=0xFF => Ok(Value::Int(head.cast_signed().into())),
        }
    }

    /// An unsigned integer of `1 << size` bytes.
    fn unsigned(&mut self, size: u8) -> Result<u64, Fault> {
        Ok(match size {
            0 => self.reader.byte()?.into(),
            1 => u16::from_be_bytes(self.reader.array()?).into(),
            2 => u32::from_be_bytes(self.reader.array()?).into(),
            _ => u64::from_be_bytes(self.reader.array()?),
        })
    }

    /// A signed integer of `1 << size` bytes.
    fn signed(&mut self, size: u8) -> Result<i64, Fault> {
        Ok(match size {
            0 => i8::from_be_bytes(self.reader.array()?).into(),
            1 => i16::from_be_bytes(self.reader.array()?).into(),
            2 => i32::from_be_bytes(self.reader.array()?).into(),
            _ => i64::from_be_bytes(self.reader.array()?),
        })
    }

    /// A length of 1, 2 or 4 bytes.
    fn length(&mut self, size: u8) -> Result<u64, Fault> {
        self.unsigned(size)
    }

    fn text(&mut self, length: u64) -> Result<Value, Fault> {
        let text = self.reader.take(length)?;
        self.budget.text(self.reader.utf8(text)?).map(Value::String)
    }

    fn bytes(&mut self, size: u8) -> Result<Value, Fault> {
        let length = self.length(size)?;
        let bytes = self.reader.take(length)?;
        self.budget.bytes(bytes)
    }

    fn array(&mut self, length: u64, depth: usize) -> Result<Value, Fault> {
        let depth = self.budget.enter(depth)?;
        let mut items = self.budget.open()?;
        for _ in 0..length {
            self.budget.item()?;
            let item = self.value(depth)?;
            self.budget.push(&mut items, item);
        }
        Ok(self.budget.array(items))
    }

    fn map(&mut self, length: u64, depth: usize) -> Result<Value, Fault> {
        let depth = self.budget.enter(depth)?;
        let mut entries = self.budget.open()?;
        for _ in 0..length {
            let key = self.key()?;
            let value = self.value(depth)?;
            self.budget.push(&mut entries, (key, value));
        }
        self.budget.map(entries)
    }

    fn key(&mut self) -> Result<Text, Fault> {
        let head = self.reader.byte()?;
        let length = match head {
            0xA0..=0xBF => u64::from(head & 0x1F),
            0xD9..=0xDB => self.length(head - 0xD9)?,
            _ => return Err(Fault::unsupported("a key that is not a string")),
        };
        let key = self.reader.take(length)?;
        self.budget.key(self.reader.utf8(key)?)
    }

    /// Of the extensions, a value has a word for the timestamp: its text.
    fn extension(&mut self, length: u64) -> Result<Value, Fault> {
        let kind = self.reader.byte()?.cast_signed();
        let data = self.reader.take(length)?;
        if kind != timestamp::KIND {
            return Err(Fault::unsupported(format!("the extension type {kind}")));
        }
        let text = timestamp::text(data)?;
        self.budget.text(&text).map(Value::String)
    }
}

fn finite(n: f64) -> Result<Value, Fault> {
    Value::try_from(n).map_err(|_| Fault::number("a number that is not finite"))
}

//! Fields of a packet, read one after the other.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use bytes::{Buf as _, Bytes};

use super::{Fault, Text};

/// What is left of a packet, or of a part of it. What is taken shares its memory.
#[derive(Debug)]
pub(super) struct Reader(Bytes);

const SHORT: Fault = Fault::malformed("4.13.1", "a field that runs past the end of its packet");

impl Reader {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    pub(super) fn u8(&mut self) -> Result<u8, Fault> {
        self.0.try_get_u8().map_err(|_| SHORT)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Fault> {
        self.0.try_get_u16().map_err(|_| SHORT)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        self.0.try_get_u32().map_err(|_| SHORT)
    }

    pub(super) fn varint(&mut self) -> Result<u32, Fault> {
        let read = varint(&self.0)?.ok_or(SHORT)?;
        if read.overlong {
            return Err(OVERLONG);
        }
        self.0.advance(read.bytes);
        Ok(read.value)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<Bytes, Fault> {
        if length > self.0.len() {
            return Err(SHORT);
        }
        Ok(self.0.split_to(length))
    }

    pub(super) fn binary(&mut self) -> Result<Bytes, Fault> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    pub(super) fn text(&mut self) -> Result<Text, Fault> {
        Text::from_wire(self.binary()?)
    }

    /// The list of properties that stands here, with its length in front (2.2.2).
    pub(super) fn properties(&mut self) -> Result<Self, Fault> {
        let length = self.varint()?;
        let length = usize::try_from(length).map_err(|_| SHORT)?;
        self.take(length).map(Self)
    }

    /// All that is left.
    pub(super) fn rest(self) -> Bytes {
        self.0
    }

    /// What is left, to look at only.
    pub(super) fn peek_rest(&self) -> Bytes {
        self.0.clone()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// That nothing is left.
    pub(super) fn end(&self) -> Result<(), Fault> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Fault::malformed(
                "4.13.1",
                "bytes behind the last field of a packet",
            ))
        }
    }
}

/// A number of variable length that was found (1.5.5).
pub(super) struct Varint {
    pub(super) value: u32,
    pub(super) bytes: usize,
    /// Whether fewer bytes would have said it.
    pub(super) overlong: bool,
}

pub(super) const OVERLONG: Fault =
    Fault::malformed("1.5.5-1", "a number in more bytes than it needs");

/// Reads a number of variable length; `None` if more bytes are needed.
pub(super) fn varint(bytes: &[u8]) -> Result<Option<Varint>, Fault> {
    let mut value = 0;
    for (n, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * n);
        if byte & 0x80 == 0 {
            let overlong = n > 0 && *byte == 0;
            return Ok(Some(Varint {
                value,
                bytes: n + 1,
                overlong,
            }));
        }
    }
    if bytes.len() >= 4 {
        return Err(Fault::malformed(
            "1.5.5",
            "a number of more than four bytes",
        ));
    }
    Ok(None)
}

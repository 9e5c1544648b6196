//! A place in bytes that come from outside.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use crate::budget::Fault;
use crate::{DecodeError, DecodeErrorKind};

pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    bytes: usize,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            bytes: bytes.len(),
        }
    }

    /// How many bytes were taken.
    pub(crate) const fn offset(&self) -> usize {
        self.bytes - self.rest.len()
    }

    pub(crate) fn peek(&self) -> Result<u8, Fault> {
        self.rest.first().copied().ok_or_else(too_short)
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, Fault> {
        let (byte, rest) = self.rest.split_first().ok_or_else(too_short)?;
        self.rest = rest;
        Ok(*byte)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (array, rest) = self.rest.split_first_chunk().ok_or_else(too_short)?;
        self.rest = rest;
        Ok(*array)
    }

    /// The next `length` bytes, if they are there: an announced length takes no memory.
    #[inline]
    pub(crate) fn take(&mut self, length: u64) -> Result<&'a [u8], Fault> {
        let length = usize::try_from(length).map_err(|_| too_short())?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(too_short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Bytes of here as text.
    #[inline]
    pub(crate) fn utf8(&self, bytes: &'a [u8]) -> Result<&'a str, Fault> {
        std::str::from_utf8(bytes)
            .map_err(|_| Fault::new(DecodeErrorKind::NotUtf8, "text that is not UTF-8"))
    }

    pub(crate) fn end(&self) -> Result<(), Fault> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Fault::malformed("more bytes behind the value"))
        }
    }

    pub(crate) fn error(&self, fault: Fault) -> DecodeError {
        fault.at(self.offset(), None)
    }
}

fn too_short() -> Fault {
    Fault::malformed("the bytes end within a value")
}

//! A moving window on a file, so that a scan costs a few large reads and little memory.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::io;

use super::disk::ReadAt;

const CHUNK_BYTES: u64 = 256 * 1024;

pub(crate) struct Window<'a, S: ReadAt + ?Sized> {
    source: &'a S,
    /// Nothing at or behind this is looked at.
    limit: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a, S: ReadAt + ?Sized> Window<'a, S> {
    /// On the first `limit` bytes.
    pub(crate) fn new(source: &'a S, limit: u64) -> Self {
        Self {
            source,
            limit,
            start: 0,
            bytes: Vec::new(),
        }
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// The bytes at `offset`, or `None` if there are fewer than `count` of them.
    pub(crate) fn get(&mut self, offset: u64, count: usize) -> io::Result<Option<&[u8]>> {
        let end = offset.saturating_add(count as u64);
        if end > self.limit {
            return Ok(None);
        }
        if offset < self.start || end > self.start + self.bytes.len() as u64 {
            // The count was held against the file's length, so no lie in a file makes us take memory for it.
            let wanted = (count as u64).max(CHUNK_BYTES).min(self.limit - offset);
            self.fill(offset, usize::try_from(wanted).map_err(io::Error::other)?)?;
        }
        let from = usize::try_from(offset - self.start).map_err(io::Error::other)?;
        Ok(self.bytes.get(from..).and_then(|bytes| bytes.get(..count)))
    }

    /// The same as an array.
    pub(crate) fn array<const N: usize>(&mut self, offset: u64) -> io::Result<Option<[u8; N]>> {
        Ok(self.get(offset, N)?.and_then(|bytes| bytes.try_into().ok()))
    }

    fn fill(&mut self, offset: u64, wanted: usize) -> io::Result<()> {
        self.start = offset;
        self.bytes.resize(wanted, 0);
        let mut filled = 0;
        while let Some(rest) = self.bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.source.read_at(rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.bytes.clear();
                    return Err(error);
                }
            }
        }
        self.bytes.truncate(filled);
        Ok(())
    }
}

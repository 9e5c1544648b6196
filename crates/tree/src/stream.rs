//! Tree values of any size, as bytes, a chunk at a time.

use sapwood_value::{Format, Value, cbor, json, msgpack};

use crate::walk::{Mode, Token, Walk};
use crate::{Path, Rows, RowsError};

/// Writes the tree value at a path in chunks, in bounded memory, however large it is.
///
/// It borrows nothing: give it the same rows with each chunk (a view, or equal ones).
#[derive(Debug)]
pub struct TreeStream {
    walk: Walk,
    format: Format,
    /// For each map that is open, whether it has a key yet.
    open: Vec<bool>,
    done: bool,
}

impl TreeStream {
    /// Begins the value at a path; none if nothing is there. The root of an empty tree holds an empty map.
    ///
    /// # Errors
    /// If the rows can't be read.
    pub fn begin(rows: &dyn Rows, path: &Path, format: Format) -> Result<Option<Self>, RowsError> {
        let walk = Walk::begin(rows, path, Mode::Tree)?;
        Ok(walk.map(|walk| Self {
            walk,
            format,
            open: Vec::new(),
            done: false,
        }))
    }

    /// Appends the next bytes, at least `bytes` of them or all that are left; whether more is to come.
    ///
    /// A chunk ends behind a value that one row holds, so it may be larger by that. The spelling is that of
    /// [`Format::encode_spelled`]; CBOR's maps are of open length where they span rows.
    ///
    /// # Errors
    /// If the rows can't be read: what was appended is then good, but the value ends there.
    pub fn next_chunk(
        &mut self,
        rows: &dyn Rows,
        out: &mut Vec<u8>,
        bytes: usize,
    ) -> Result<bool, RowsError> {
        let enough = out.len().saturating_add(bytes.max(1));
        while !self.done && out.len() < enough {
            match self.walk.next(rows)? {
                None => self.done = true,
                Some(token) => self.write(rows, token, out)?,
            }
        }
        Ok(!self.done)
    }

    fn write(&mut self, rows: &dyn Rows, token: Token, out: &mut Vec<u8>) -> Result<(), RowsError> {
        match token {
            Token::Row(row) => self.value(&row.fragment, out),
            Token::Value(value) => self.value(&value, out),
            Token::BeginMap { .. } => {
                self.open.push(false);
                match self.format {
                    Format::Json => out.push(b'{'),
                    Format::Cbor => cbor::begin_map(out),
                    Format::MessagePack => msgpack::map_head(self.walk.count(rows)?, out),
                }
            }
            Token::Key(key) => self.key(&key, out),
            Token::EndMap => {
                self.open.pop();
                match self.format {
                    Format::Json => out.push(b'}'),
                    Format::Cbor => cbor::end(out),
                    Format::MessagePack => {}
                }
                self.done = self.open.is_empty();
            }
        }
        Ok(())
    }

    fn value(&mut self, value: &Value, out: &mut Vec<u8>) {
        self.format.encode_spelled(value, out);
        self.done = self.open.is_empty();
    }

    fn key(&mut self, key: &str, out: &mut Vec<u8>) {
        match self.format {
            Format::Json => {
                if let Some(has_key) = self.open.last_mut()
                    && std::mem::replace(has_key, true)
                {
                    out.push(b',');
                }
                json::encode_key_spelled(key, out);
                out.push(b':');
            }
            Format::Cbor => cbor::encode_key_spelled(key, out),
            Format::MessagePack => msgpack::encode_key_spelled(key, out),
        }
    }
}

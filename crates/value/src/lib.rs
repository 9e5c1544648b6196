//! What Sapwood stores: values, their order, and their encodings.
//!
//! Everything here is pure: no files, sockets, clocks or tasks. [`Value`] is the one model that all doors share;
//! [`json`], [`cbor`] and [`msgpack`] carry it over the wire, [`stored`] to disk, and [`spelling`] reads and writes the
//! keys that give JSON bytes, priorities and server values. What a format cannot say is in `docs/formats.md`.

mod limits;
mod map;
mod order;
mod value;

pub use limits::{DecodeError, DecodeErrorKind, Limits};
pub use map::{DuplicateKey, Map};
pub use order::{integer_key, key_cmp, number_cmp, priority_cmp, utf16_cmp, value_cmp};
pub use value::{Blob, Text, VALUE_KEY, Value};

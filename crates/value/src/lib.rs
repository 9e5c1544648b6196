//! What Sapwood stores: values, their order, and their encodings.
//!
//! Everything here is pure: no files, sockets, clocks or tasks. [`Value`] is the one model that all doors share;
//! [`json`], [`cbor`] and [`msgpack`] carry it over the wire, [`stored`] to disk, and [`spelling`] reads and writes the
//! keys that give JSON bytes, priorities and server values. What a format cannot say is in `docs/formats.md`.

mod accept;
mod budget;
pub mod cbor;
mod decode;
#[doc(hidden)]
pub mod fuzz;
pub mod json;
mod limits;
mod map;
pub mod msgpack;
mod order;
mod payload;
mod reader;
pub mod spelling;
pub mod stored;
mod value;

pub use accept::{Accept, Closeness, NotAcceptable};
pub use limits::{Bound, DecodeError, DecodeErrorKind, Limits};
pub use map::{DuplicateKey, Iter, Map};
pub use order::{integer_key, key_cmp, number_cmp, priority_cmp, utf16_cmp, value_cmp};
pub use payload::{Format, decode_payload, decode_typed};
pub use spelling::{ReadError, ServerValue, Spelled, SpellingError, SpellingErrorKind};
pub use stored::StoredError;
pub use value::{Blob, NotFinite, Text, VALUE_KEY, Value};

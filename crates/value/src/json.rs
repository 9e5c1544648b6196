//! JSON (RFC 8259).
//!
//! Bytes are written as `{".bytes": "<base64>"}`, with a `.type` if they have one. Floats keep their point (`1.0`), and
//! are written with the fewest digits that read back the same.

mod decode;
mod encode;

pub(crate) use decode::read;
pub use decode::{decode, decode_spelled};
pub use encode::{encode, encode_key_spelled, encode_pretty, encode_spelled, encode_string};

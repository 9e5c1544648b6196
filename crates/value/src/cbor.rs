//! CBOR (RFC 8949).
//!
//! Bytes are byte strings; with a media type they are the map `{".bytes": h'…', ".type": "…"}`. What CBOR can say and a
//! value cannot is in `docs/formats.md`.

mod decode;
mod encode;

pub(crate) use decode::read;
pub use decode::{decode, decode_spelled};
pub use encode::{begin_map, encode, encode_key_spelled, encode_spelled, end, map_head};

//! MessagePack.
//!
//! Bytes are the bin type; with a media type they are the map `{".bytes": bin, ".type": str}`. What MessagePack can say
//! and a value cannot is in `docs/formats.md`.

mod decode;
mod encode;
mod timestamp;

pub(crate) use decode::read;
pub use decode::{decode, decode_spelled};
pub use encode::{encode, encode_key_spelled, encode_spelled, map_head};

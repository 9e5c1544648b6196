//! WebSockets (RFC 6455): the opening handshake, frames, and a connection of messages.
//!
//! Our own, for two figures that no library gave: a connection at rest holds no buffer at all, and an event is framed once
//! for all who get it.

mod decode;
mod opening;
mod stream;

pub use decode::{Decoder, Fault, Message};
pub use opening::{Opening, OpeningError, is_asked};
pub use stream::{Kind, WebSocket, framed};

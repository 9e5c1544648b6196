//! What a fuzzer feeds: bytes in, a panic where a promise is broken.

use crate::http::framing::{Framing, Refusal};
use crate::proxy::header::{self, HEADER_BYTES_MAX, Header};
use crate::websocket::{Decoder, Fault, Message};

/// Looks at the framing of HTTP requests.
///
/// # Panics
/// If it makes a difference how the bytes are cut.
pub fn framing(bytes: &[u8]) {
    let whole = check([bytes]);
    assert_eq!(check(bytes.chunks(1)), whole);
    assert_eq!(check(bytes.chunks(7)), whole);
}

fn check<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(), Refusal> {
    let mut framing = Framing::new(1000, 10);
    for piece in pieces {
        let (good, checked) = framing.check(piece);
        assert!(good <= piece.len(), "what is good lies within");
        checked?;
    }
    Ok(())
}

/// Reads the header of the PROXY protocol.
///
/// # Panics
/// If it makes a difference how much has come beyond what decides, or more is taken than there is.
pub fn proxy(bytes: &[u8]) {
    let mut decided = None;
    for cut in 0..=bytes.len() {
        let parsed = header::parse(bytes.get(..cut).unwrap_or_default());
        if let Ok(Some(Header { length, .. })) = parsed {
            assert!(length <= cut.min(HEADER_BYTES_MAX));
        }
        match &decided {
            None if parsed == Ok(None) => assert!(cut < HEADER_BYTES_MAX),
            None => decided = Some(parsed),
            Some(before) => assert_eq!(&parsed, before),
        }
    }
}

/// Decodes the frames of a WebSocket's client.
///
/// # Panics
/// If it makes a difference how the bytes are cut, or a message is more than was allowed.
pub fn websocket(bytes: &[u8]) {
    let whole = decode([bytes]);
    assert_eq!(decode(bytes.chunks(1)), whole);
    assert_eq!(decode(bytes.chunks(7)), whole);
}

/// The messages, and the fault that ended them.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Message>, Option<Fault>) {
    const BYTES_MAX: usize = 1000;
    let mut decoder = Decoder::new(BYTES_MAX);
    let mut messages = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.message() {
                Ok(Some(message)) => {
                    if let Message::Text(payload) | Message::Binary(payload) = &message {
                        assert!(payload.len() <= BYTES_MAX);
                    }
                    messages.push(message);
                }
                Ok(None) => break,
                Err(fault) => return (messages, Some(fault)),
            }
        }
    }
    (messages, None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_break_a_promise(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            super::framing(&bytes);
            super::websocket(&bytes);
            super::proxy(&bytes);
        }
    }
}

//! Frames from a client, put together to messages (RFC 6455, 5 and 8.1).
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use bytes::{Buf as _, Bytes, BytesMut};

/// What a client said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text, which is UTF-8.
    Text(Bytes),
    /// Bytes.
    Binary(Bytes),
    /// To be answered by a pong with the same payload.
    Ping(Bytes),
    /// A sign of life.
    Pong,
    /// The client closes, with its code if it gave one.
    Close(Option<u16>),
}

/// Why a client's bytes are no messages. The connection ends with its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A frame that the standard does not allow here.
    #[error("{0}")]
    Protocol(&'static str),
    /// Text that is not UTF-8 (8.1).
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// A message above the limit.
    #[error("a message of more than {0} bytes")]
    TooLarge(usize),
}

impl Fault {
    /// The code to close with (7.4.1).
    pub fn code(self) -> u16 {
        match self {
            Self::Protocol(_) => 1002,
            Self::NotUtf8 => 1007,
            Self::TooLarge(_) => 1009,
        }
    }
}

/// Puts messages together. It holds no memory between messages.
#[derive(Debug)]
pub struct Decoder {
    bytes_max: usize,
    /// Read, and not yet decoded.
    inbound: BytesMut,
    /// The beginning of a message in several frames.
    partial: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    is_text: bool,
    payload: BytesMut,
    /// So many bytes of it are known to be UTF-8.
    checked: usize,
}

/// The head of a frame.
struct Head {
    last: bool,
    opcode: u8,
    mask: [u8; 4],
    /// Bytes of the head.
    length: usize,
    payload: usize,
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

impl Decoder {
    /// For messages of at most so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            inbound: BytesMut::new(),
            partial: None,
        }
    }

    /// Takes bytes of the connection in.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.inbound.extend_from_slice(bytes);
    }

    /// Whether a message has begun and not ended.
    pub fn is_in_message(&self) -> bool {
        self.partial.is_some() || !self.inbound.is_empty()
    }

    /// The next message, if all of it is there.
    ///
    /// # Errors
    /// [`Fault`]; what follows has no meaning then.
    pub fn message(&mut self) -> Result<Option<Message>, Fault> {
        loop {
            let Some(head) = self.head()? else {
                return Ok(None);
            };
            if self.inbound.len() - head.length < head.payload {
                return Ok(None);
            }
            self.inbound.advance(head.length);
            let mut payload = self.inbound.split_to(head.payload);
            if self.inbound.is_empty() {
                self.inbound = BytesMut::new();
            }
            unmask(&mut payload, head.mask);
            if let Some(message) = self.frame(&head, payload)? {
                return Ok(Some(message));
            }
        }
    }

    /// Reads the head of the next frame, and judges it as soon as it is there (5.2, 5.4, 5.5).
    fn head(&self) -> Result<Option<Head>, Fault> {
        let bytes = &*self.inbound;
        let (Some(&first), Some(&second)) = (bytes.first(), bytes.get(1)) else {
            return Ok(None);
        };
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        self.check_opcode(first, last, opcode)?;
        if second & 0x80 == 0 {
            return Err(Fault::Protocol("a client masks its frames"));
        }
        let (payload, at) = match second & 0x7f {
            126 => match bytes.get(2..4).and_then(|bytes| bytes.try_into().ok()) {
                Some(bytes) => (u64::from(u16::from_be_bytes(bytes)), 4),
                None => return Ok(None),
            },
            127 => match bytes.get(2..10).and_then(|bytes| bytes.try_into().ok()) {
                Some(bytes) => (u64::from_be_bytes(bytes), 10),
                None => return Ok(None),
            },
            short => (u64::from(short), 2),
        };
        let is_shortest = match at {
            4 => payload > 125,
            10 => payload > 0xffff && payload >> 63 == 0,
            _ => true,
        };
        if !is_shortest {
            return Err(Fault::Protocol("a length is written in the shortest way"));
        }
        if opcode >= CLOSE && at != 2 {
            return Err(Fault::Protocol("a control frame has at most 125 bytes"));
        }
        let payload = self.check_size(payload, opcode)?;
        let mask = bytes.get(at..at + 4).and_then(|mask| mask.try_into().ok());
        Ok(mask.map(|mask| Head {
            last,
            opcode,
            mask,
            length: at + 4,
            payload,
        }))
    }

    fn check_opcode(&self, first: u8, last: bool, opcode: u8) -> Result<(), Fault> {
        if first & 0x70 != 0 {
            return Err(Fault::Protocol("no extension was agreed on"));
        }
        match (opcode, &self.partial) {
            (CONTINUATION, None) => Err(Fault::Protocol("nothing is there to go on with")),
            (TEXT | BINARY, Some(_)) => Err(Fault::Protocol("the message before has not ended")),
            (CONTINUATION, Some(_)) | (TEXT | BINARY, None) => Ok(()),
            (CLOSE | PING | PONG, _) if last => Ok(()),
            (CLOSE | PING | PONG, _) => Err(Fault::Protocol("a control frame is one frame")),
            _ => Err(Fault::Protocol("an opcode that nobody has defined")),
        }
    }

    fn check_size(&self, payload: u64, opcode: u8) -> Result<usize, Fault> {
        let before = match &self.partial {
            Some(partial) if opcode < CLOSE => partial.payload.len(),
            Some(_) | None => 0,
        };
        let payload = usize::try_from(payload).unwrap_or(usize::MAX);
        if before.saturating_add(payload) > self.bytes_max && opcode < CLOSE {
            return Err(Fault::TooLarge(self.bytes_max));
        }
        Ok(payload)
    }

    /// What a whole frame adds up to.
    fn frame(&mut self, head: &Head, payload: BytesMut) -> Result<Option<Message>, Fault> {
        match head.opcode {
            CLOSE => close(&payload).map(Some),
            PING => Ok(Some(Message::Ping(Bytes::copy_from_slice(&payload)))),
            PONG => Ok(Some(Message::Pong)),
            _ => self.data(head, payload),
        }
    }

    fn data(&mut self, head: &Head, payload: BytesMut) -> Result<Option<Message>, Fault> {
        let mut partial = match self.partial.take() {
            Some(mut partial) => {
                partial.payload.extend_from_slice(&payload);
                partial
            }
            None => Partial {
                is_text: head.opcode == TEXT,
                payload,
                checked: 0,
            },
        };
        partial.check(head.last)?;
        if !head.last {
            self.partial = Some(partial);
            return Ok(None);
        }
        let payload = partial.payload.freeze();
        Ok(Some(if partial.is_text {
            Message::Text(payload)
        } else {
            Message::Binary(payload)
        }))
    }
}

impl Partial {
    /// Whether text is UTF-8 so far; between frames it may end inside a character.
    fn check(&mut self, last: bool) -> Result<(), Fault> {
        if !self.is_text {
            return Ok(());
        }
        let unchecked = self.payload.get(self.checked..).unwrap_or_default();
        match std::str::from_utf8(unchecked) {
            Ok(text) => self.checked += text.len(),
            Err(error) if error.error_len().is_none() && !last => {
                self.checked += error.valid_up_to();
            }
            Err(_) => return Err(Fault::NotUtf8),
        }
        Ok(())
    }
}

/// The payload of a close frame: nothing, or a code and a reason (5.5.1, 7.4).
fn close(payload: &[u8]) -> Result<Message, Fault> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() {
            Ok(Message::Close(None))
        } else {
            Err(Fault::Protocol("a close code has two bytes"))
        };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Fault::Protocol("a close code that may not be sent"));
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Fault::NotUtf8);
    }
    Ok(Message::Close(Some(code)))
}

/// 5.3. Eight bytes at a time.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_le_bytes([a, b, c, d, a, b, c, d]);
    if wide == 0 {
        return;
    }
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_le_bytes(*word) ^ wide).to_le_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 100_000;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        const MASK: [u8; 4] = [1, 2, 3, 250];
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..126 => frame.push(0x80 | u8::try_from(short).unwrap()),
            long @ 126..0x1_0000 => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&u16::try_from(long).unwrap().to_be_bytes());
            }
            long => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(long as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&MASK);
        frame.extend(
            payload
                .iter()
                .zip(MASK.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        frame
    }

    fn decode(bytes: &[u8]) -> Result<Vec<Message>, Fault> {
        let mut decoder = Decoder::new(MAX);
        decoder.feed(bytes);
        let mut messages = Vec::new();
        while let Some(message) = decoder.message()? {
            messages.push(message);
        }
        Ok(messages)
    }

    fn text(text: &str) -> Message {
        Message::Text(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn the_standard_s_own_example_is_read() {
        let masked = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        assert_eq!(decode(&masked), Ok(vec![text("Hello")]));
    }

    #[test]
    fn messages_of_every_size_come_whole() {
        for size in [0, 1, 7, 8, 125, 126, 127, 65_535, 65_536, MAX] {
            let payload: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
            assert_eq!(
                decode(&frame(0x82, &payload)),
                Ok(vec![Message::Binary(payload.into())]),
                "{size}"
            );
        }
        assert_eq!(
            decode(&frame(0x82, &vec![0; MAX + 1])),
            Err(Fault::TooLarge(MAX))
        );
    }

    #[test]
    fn a_message_in_pieces_lets_control_frames_through() {
        let bytes = [
            frame(0x01, b"a"),
            frame(0x89, b"p"),
            frame(0x00, "\u{e4}".as_bytes()),
            frame(0x8a, b""),
            frame(0x80, b""),
        ]
        .concat();
        assert_eq!(
            decode(&bytes),
            Ok(vec![
                Message::Ping("p".into()),
                Message::Pong,
                text("a\u{e4}")
            ])
        );
    }

    #[test]
    fn a_character_may_lie_across_frames_but_not_across_the_end() {
        let (one, two) = "\u{1f333}".as_bytes().split_at(2);
        assert_eq!(
            decode(&[frame(0x01, one), frame(0x80, two)].concat()),
            Ok(vec![text("\u{1f333}")])
        );
        assert_eq!(decode(&frame(0x81, one)), Err(Fault::NotUtf8));
        assert_eq!(decode(&frame(0x01, b"a\xff")), Err(Fault::NotUtf8));
        assert_eq!(decode(&frame(0x81, b"\xed\xa0\x80")), Err(Fault::NotUtf8));
    }

    #[test]
    fn frames_that_the_standard_forbids_end_the_connection() {
        let forbidden: Vec<Vec<u8>> = vec![
            vec![0x81, 0x01, b'a'], // not masked
            frame(0xc1, b""),       // reserved bits
            frame(0x83, b""),       // reserved opcodes
            frame(0x8b, b""),
            frame(0x09, b""),                              // a ping in pieces
            frame(0x89, &[0; 126]),                        // a long ping
            frame(0x80, b""),                              // nothing to go on with
            [frame(0x01, b""), frame(0x81, b"")].concat(), // two messages at once
            vec![0x82, 0xfe, 0, 125],                      // lengths not in the shortest way
            vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
            frame(0x88, b"x"), // half a close code
            frame(0x88, &999_u16.to_be_bytes()),
            frame(0x88, &1005_u16.to_be_bytes()),
            frame(0x88, &1015_u16.to_be_bytes()),
            frame(0x88, &2999_u16.to_be_bytes()),
            frame(0x88, &5000_u16.to_be_bytes()),
        ];
        for bytes in forbidden {
            assert_eq!(decode(&bytes).map_err(Fault::code), Err(1002), "{bytes:?}");
        }
        assert_eq!(decode(&frame(0x88, b"\x03\xe8\xff")), Err(Fault::NotUtf8));
        assert_eq!(
            decode(&frame(0x88, b"\x03\xe8bye")),
            Ok(vec![Message::Close(Some(1000))])
        );
        assert_eq!(decode(&frame(0x88, b"")), Ok(vec![Message::Close(None)]));
        assert_eq!(
            decode(&[frame(0x02, &vec![0; MAX]), frame(0x80, b"x")].concat()),
            Err(Fault::TooLarge(MAX))
        );
        assert_eq!(
            decode(&[0x82, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0]),
            Err(Fault::TooLarge(MAX))
        );
    }

    #[test]
    fn between_messages_nothing_is_held() {
        let mut decoder = Decoder::new(MAX);
        decoder.feed(&frame(0x81, b"hello"));
        assert_eq!(decoder.message(), Ok(Some(text("hello"))));
        assert_eq!(
            (decoder.inbound.capacity(), decoder.partial.is_none()),
            (0, true)
        );
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_makes_no_difference(
            frames in proptest::collection::vec(
                (prop_oneof![Just(0x81_u8), Just(0x01), Just(0x00), Just(0x80), Just(0x82), Just(0x89), Just(0x88)], "[a\u{e4}]{0,140}"),
                0..6,
            ),
            cuts in proptest::collection::vec(1_usize..9, 0..40),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(first, payload)| frame(*first, payload.as_bytes())).collect();
            let whole = decode(&bytes);
            let mut decoder = Decoder::new(MAX);
            let mut pieces = Ok(Vec::new());
            let mut rest = &*bytes;
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                rest = after;
                decoder.feed(piece);
                while let Ok(messages) = &mut pieces {
                    match decoder.message() {
                        Ok(Some(message)) => messages.push(message),
                        Ok(None) => break,
                        Err(fault) => pieces = Err(fault),
                    }
                }
            }
            prop_assert_eq!(whole, pieces);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _messages = decode(&bytes);
        }
    }
}

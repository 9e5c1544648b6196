//! The other end of the protocol: a client of a broker, be it another one or the server itself.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

mod dial;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::codec::{DecodeLimits, Decoder, Fault, Packet, ReasonCode, VARINT_MAX, Version, encode};

pub use dial::{Address, AddressError, DialError};
pub(crate) use dial::{Hello, Speech, dial, greet};

/// How many bytes are read at a time, onto the stack.
const READ_BYTES: usize = 16 << 10;

/// Why a connection to a broker has ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Lost {
    /// What the system says.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// Without a word.
    #[error("the other side closed the connection")]
    Ended,
    /// By a DISCONNECT with its reason.
    #[error("the other side ended the connection: {}", in_words(*.0, .1))]
    Disconnected(ReasonCode, String),
    /// The other side broke the standard.
    #[error("the other side sent what it must not: {0}")]
    Fault(#[from] Fault),
    /// Nothing came, not even the answer to a ping.
    #[error("the other side is silent")]
    Silent,
    /// It has no room for a message just now.
    #[error("{0} has no room for a message now (0x97)")]
    Later(&'static str),
}

/// A reason with its code, and the words that came with it.
pub(crate) fn in_words(reason: ReasonCode, words: &str) -> String {
    let code = format!("{reason:?} (0x{:02X})", reason as u8);
    if words.is_empty() {
        code
    } else {
        format!("{code}, «{words}»")
    }
}

/// Packets over a stream of bytes, both ways.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    stream: S,
    version: Version,
    decoder: Decoder,
    inbound: BytesMut,
    /// What is to be sent; whoever writes packets puts them behind.
    pub(crate) out: BytesMut,
    /// Something has come since [`Wire::was_heard`] was asked.
    heard: bool,
    /// What has been read has been looked through: no whole packet is left.
    looked_through: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// A stream over which nothing has been said. A broker is taken at its word: its packets may be as large as packets can
    /// be, and memory is taken by bytes that are there only.
    pub(crate) fn new(stream: S, version: Version) -> Self {
        let limits = DecodeLimits {
            packet_bytes_max: VARINT_MAX.saturating_add(5),
            filters_max: 0,
        };
        Self {
            stream,
            version,
            decoder: Decoder::with_version(version, limits),
            inbound: BytesMut::new(),
            out: BytesMut::new(),
            heard: false,
            looked_through: true,
        }
    }

    /// What is spoken.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Whether anything has come since this was asked last.
    pub(crate) fn was_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// Puts a packet behind what is to be sent.
    ///
    /// # Errors
    /// If it is larger than the protocol can say.
    pub(crate) fn send(&mut self, packet: &Packet) -> Result<(), Lost> {
        encode(packet, self.version, &mut self.out)
            .map_err(|error| Lost::Io(io::Error::new(io::ErrorKind::InvalidInput, error)))
    }

    /// A packet of what has been read already.
    ///
    /// # Errors
    /// If that is none.
    pub(crate) fn decoded(&mut self) -> Result<Option<Packet>, Lost> {
        let packet = self.decoder.decode(&mut self.inbound)?;
        self.looked_through = packet.is_none();
        Ok(packet)
    }

    /// Whether a packet may have been read that nobody has looked at.
    pub(crate) fn has_unread(&self) -> bool {
        !self.looked_through
    }

    /// Writes what is to be sent; ready when all of it is.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out))?;
            if written == 0 {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
            }
            self.out.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what has come.
    ///
    /// # Errors
    /// How the connection has ended.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        let mut bytes = [0; READ_BYTES];
        let mut buf = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
        if buf.filled().is_empty() {
            return Poll::Ready(Err(Lost::Ended));
        }
        self.inbound.extend_from_slice(buf.filled());
        (self.heard, self.looked_through) = (true, false);
        Poll::Ready(Ok(()))
    }

    /// The next packet, while what is to be sent goes out. Cancel-safe.
    ///
    /// # Errors
    /// How the connection has ended.
    pub(crate) async fn next(&mut self) -> Result<Packet, Lost> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Packet, Lost>> {
        loop {
            if let Some(packet) = self.decoded()? {
                return Poll::Ready(Ok(packet));
            }
            if let Poll::Ready(flushed) = self.poll_flush(cx) {
                flushed?;
            }
            ready!(self.poll_read(cx))?;
        }
    }

    /// Sends all that is to be sent. Cancel-safe.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) async fn flush(&mut self) -> Result<(), Lost> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Takes its leave as one does, and closes; what can't be said any more is not.
    pub(crate) async fn part(mut self) {
        use tokio::io::AsyncWriteExt as _;
        let leave = crate::codec::Disconnect {
            reason: ReasonCode::Success,
            properties: crate::codec::DisconnectProperties::default(),
        };
        if self.send(&Packet::Disconnect(leave)).is_ok() && self.flush().await.is_ok() {
            drop(self.stream.shutdown().await);
        }
    }
}

/// What a packet means that ends a connection, or should not have come.
pub(crate) fn not_expected(packet: &Packet) -> Lost {
    match packet {
        Packet::Disconnect(disconnect) => {
            let words = disconnect.properties.reason_string.as_ref();
            let words = words.map_or_else(String::new, |words| words.as_str().to_owned());
            Lost::Disconnected(disconnect.reason, words)
        }
        _ => Fault::protocol("4.13", "a packet that was not expected").into(),
    }
}

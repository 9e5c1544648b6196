//! One accepted socket, and what is known about it.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::listener::Waiting;
use crate::stream::Stream;
use crate::websocket::WebSocket;
use crate::{Life, Limits, Mounts, Signal};

/// What is known about a connection.
#[derive(Debug)]
pub struct Info {
    /// Counts the connections of this process from 1; for logs.
    pub id: u64,
    /// The other end.
    pub peer: Peer,
    /// The name of the door that listens there.
    pub listener: &'static str,
}

/// The other end of a connection; behind a trusted proxy, whom it says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A client at this address.
    At(SocketAddr),
    /// A program on this machine or the proxy's, over a Unix socket.
    Local,
}

impl Peer {
    /// Its address, if it has one.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::At(address) => Some(address),
            Self::Local => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::Local => f.write_str("unix"),
        }
    }
}

/// A connection for a door to serve.
#[derive(Debug)]
pub struct Connection {
    /// What is known about it.
    pub info: Arc<Info>,
    /// The bytes.
    pub transport: Transport,
    /// What other doors have mounted on the HTTP port.
    pub mounts: Arc<Mounts>,
}

/// How a connection's bytes come.
#[derive(Debug)]
pub enum Transport {
    /// A stream of the door's own port or Unix socket.
    Tcp(Socket),
    /// A WebSocket that has agreed on one of the door's subprotocols.
    WebSocket {
        /// The frames.
        stream: Box<WebSocket>,
        /// The subprotocol, as mounted.
        subprotocol: &'static str,
    },
}

/// A stream with a deadline: who takes nothing of what is written for too long is cut off.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    /// Read already, with what came before it.
    early: Bytes,
    life: Arc<Life>,
    waiting: Option<Waiting>,
    limits: Arc<Limits>,
    stalled: bool,
}

impl Socket {
    pub(crate) fn new(stream: Stream, life: Arc<Life>, limits: Arc<Limits>) -> Self {
        Self {
            stream,
            early: Bytes::new(),
            life,
            waiting: None,
            limits,
            stalled: false,
        }
    }

    /// The same socket, that first reads `early`.
    pub(crate) fn after(mut self, early: Bytes) -> Self {
        if !early.is_empty() {
            // Even an empty piece would keep the whole buffer that it was cut from.
            self.early = early;
        }
        self
    }

    /// What it is, for counts: `tcp` or `unix`.
    pub fn name(&self) -> &'static str {
        match self.stream {
            Stream::Tcp(_) => "tcp",
            Stream::Unix(_) => "unix",
        }
    }

    /// The connection's deadline and signals.
    pub fn life(&self) -> &Arc<Life> {
        &self.life
    }

    /// Writes all of `pieces` in as few calls as possible, and takes out what is written.
    ///
    /// # Errors
    /// What the system says; also if it takes nothing.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &mut VecDeque<Bytes>,
    ) -> Poll<io::Result<()>> {
        const SLICES: usize = 64;
        while let Some(first) = pieces.front() {
            let socket = Pin::new(&mut *self);
            let written = if pieces.len() == 1 {
                ready!(socket.poll_write(cx, first))?
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let filled = slices.iter_mut().zip(pieces.iter());
                let count = filled
                    .map(|(slice, piece)| *slice = IoSlice::new(piece))
                    .count();
                ready!(socket.poll_write_vectored(cx, slices.get(..count).unwrap_or_default()))?
            };
            if written == 0 && !first_is_empty(pieces) {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            take_out(pieces, written);
        }
        Poll::Ready(Ok(()))
    }

    /// Counts the connection among those that have not begun.
    pub(crate) fn waits(&mut self, waiting: Option<Waiting>) {
        self.waiting = waiting;
    }

    /// Says that the client has sent a whole request, or whatever its protocol begins with: it does not count as one that
    /// may never do so any more.
    pub fn has_begun(&mut self) {
        self.waiting = None;
    }

    /// What bounds the connection, whatever it speaks.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether the client takes nothing of what is written just now.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Sets the deadline of a write that has to wait. A write that outlives it fails, so that whoever waits for nothing
    /// but the write does not wait for ever.
    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if polled.is_ready() {
            if self.stalled {
                self.stalled = false;
                self.life.keep();
            }
            return polled;
        }
        if !self.stalled {
            self.stalled = true;
            self.life.stall(self.limits.write_timeout);
        }
        match self.life.poll_signal(cx) {
            Poll::Ready(Signal::Expired) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Ready(Signal::Drain) | Poll::Pending => Poll::Pending,
        }
    }
}

fn first_is_empty(pieces: &VecDeque<Bytes>) -> bool {
    pieces.front().is_none_or(Bytes::is_empty)
}

fn take_out(pieces: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(piece) = pieces.front_mut() {
        if piece.len() > written {
            piece.advance(written);
            return;
        }
        written -= piece.len();
        pieces.pop_front();
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.has_remaining() {
            let n = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early.split_to(n));
            if self.early.is_empty() {
                self.early = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = match slices {
            // An answer is one piece, as a rule, and the plain call costs the system less.
            [piece] => Pin::new(&mut self.stream).poll_write(cx, piece),
            pieces => Pin::new(&mut self.stream).poll_write_vectored(cx, pieces),
        };
        self.wrote(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // a stream has no buffer of its own
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        Poll::Ready(Ok(()))
    }
}

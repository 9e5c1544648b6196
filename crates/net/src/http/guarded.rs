//! A socket whose requests are looked at before hyper sees them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::Response;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::framing::{Framing, Refusal};
use super::{Body, Caller, Handler, Limits};
use crate::{Closed, Socket, limit_met};

/// A socket that hyper gets whole heads from, and only those that the strict look has let through.
pub(super) struct Guarded {
    pub(super) socket: Socket,
    framing: Framing,
    /// The beginning of a head, until it is there whole: hyper would begin anew with each piece of it.
    held: BytesMut,
    /// Let through, and not yet read.
    passed: Bytes,
    refusal: Option<Refusal>,
    /// See [`Guarded::refused_sign`].
    refused: Arc<AtomicBool>,
    /// The deadline of a head that has begun is not put off by its further bytes.
    head_begun: bool,
    limits: Arc<Limits>,
}

impl Guarded {
    /// The deadline for the first request begins now.
    pub(super) fn new(socket: Socket, limits: Arc<Limits>) -> Self {
        let framing = Framing::new(limits.head_bytes_max, limits.fields_max);
        socket.life().expire_in(limits.head_timeout);
        Self {
            socket,
            framing,
            held: BytesMut::new(),
            passed: Bytes::new(),
            refusal: None,
            refused: Arc::default(),
            head_begun: true,
            limits,
        }
    }

    /// Says that the next request is refused, and those before it may be answered still.
    pub(super) fn refused_sign(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.refused)
    }

    /// Sets the deadline for what the client has to do next.
    fn await_client(&mut self) {
        if self.socket.is_stalled() {
            return; // the write's deadline stands
        }
        if self.framing.is_in_head() || !self.framing.has_begun() {
            if !self.head_begun {
                self.socket.life().expire_in(self.limits.head_timeout);
            }
            self.head_begun = true;
        } else {
            self.socket.life().expire_in(self.limits.idle_timeout);
            self.head_begun = false;
        }
    }

    /// Ends the connection at its deadline.
    pub(super) async fn expire(mut self, handler: &impl Handler, caller: &Caller) -> Closed {
        if self.socket.is_stalled() {
            return Closed::Lost; // counted by its deadline, and nothing can be said to it
        }
        if self.framing.is_in_head() {
            return self.refuse(Refusal::HeadTimeout, handler, caller).await;
        }
        limit_met(if self.framing.has_begun() {
            "http.idle_timeout_s"
        } else {
            "http.head_timeout_s"
        });
        self.close(Closed::Lost).await
    }

    /// Ends the connection that hyper has let go, with a word to the client if it broke the framing.
    pub(super) async fn end(
        mut self,
        result: hyper::Result<Closed>,
        handler: &impl Handler,
        caller: &Caller,
    ) -> Closed {
        match (self.refusal, result) {
            // A request whose body broke off has its own answer.
            (Some(refusal), _) if self.framing.is_in_chunks() => {
                self.close(Closed::Refused(refusal.code())).await
            }
            (Some(refusal), _) => self.refuse(refusal, handler, caller).await,
            (None, Ok(closed)) => self.close(closed).await,
            (None, Err(error)) if error.is_parse() => {
                self.close(Closed::Refused("malformed request")).await
            }
            (None, Err(_)) => Closed::Lost,
        }
    }

    async fn refuse(
        &mut self,
        refusal: Refusal,
        handler: &impl Handler,
        caller: &Caller,
    ) -> Closed {
        caller.count(); // it is a request, too
        if let Some(setting) = refusal.setting() {
            limit_met(setting);
        }
        let answer = whole(handler.refuse(refusal, caller));
        // Whether it arrives does not matter any more: the connection ends.
        drop(self.socket.write_all(&answer).await);
        self.shutdown(true).await;
        Closed::Refused(refusal.code())
    }

    async fn close(mut self, closed: Closed) -> Closed {
        let linger = matches!(closed, Closed::Orderly | Closed::Refused(_));
        self.shutdown(linger).await;
        closed
    }

    /// Says that nothing more comes, and reads on for a moment, so that a client that is still sending (a body that was refused for
    /// its size, say) gets the answer instead of a reset. Who has sent all closes at once.
    async fn shutdown(&mut self, linger: bool) {
        const LINGER: Duration = Duration::from_millis(500);
        drop(self.socket.shutdown().await);
        if linger {
            let mut bytes = [0; 512];
            drop(
                tokio::time::timeout(LINGER, async {
                    while self.socket.read(&mut bytes).await.is_ok_and(|n| n > 0) {}
                })
                .await,
            );
        }
    }

    /// Looks at what was read behind the first `before` bytes of `buf`, and leaves there what hyper may have.
    fn look(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let read = buf.filled().get(before..).unwrap_or_default();
        let (good, checked) = self.framing.check(read);
        if self.framing.has_begun() {
            self.socket.has_begun();
        }
        let (good, rest) = read.split_at_checked(good).unwrap_or((read, &[]));
        let keep = if self.held.is_empty() {
            good.len()
        } else if good.is_empty() {
            0
        } else {
            self.held.extend_from_slice(good);
            self.passed = std::mem::take(&mut self.held).freeze();
            0
        };
        match checked {
            Ok(()) => self.held.extend_from_slice(rest),
            Err(refusal) => self.refusal = Some(refusal),
        }
        buf.set_filled(before + keep);
    }

    /// What hyper reads where nothing can follow: an error in a body, which goes to whoever reads it; else
    /// nothing yet, so that the requests before are answered.
    fn refused_read(&self) -> Poll<io::Result<()>> {
        if self.framing.is_in_chunks() {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        self.refused.store(true, Ordering::Relaxed);
        Poll::Pending
    }

    /// What is left to read when the connection stops being HTTP.
    pub(super) fn into_socket(self, read: Bytes) -> Socket {
        let early = if self.passed.is_empty() {
            read
        } else {
            [read, self.passed].concat().into()
        };
        self.socket.after(early)
    }
}

/// An answer as it goes out, with a whole body.
fn whole(mut response: Response<Body>) -> Vec<u8> {
    let body = match std::mem::take(response.body_mut()) {
        Body::Full(bytes) => bytes,
        Body::Empty | Body::Length(_) | Body::Stream(_) => Bytes::new(),
    };
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or_default();
    let mut out = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    for (name, value) in response.headers() {
        for piece in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(piece);
        }
    }
    let length = body.len();
    out.extend_from_slice(
        format!("Content-Length: {length}\r\nConnection: close\r\n\r\n").as_bytes(),
    );
    out.extend_from_slice(&body);
    out
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.passed.has_remaining() {
                let n = self.passed.len().min(buf.remaining());
                buf.put_slice(&self.passed.split_to(n));
                if self.passed.is_empty() {
                    self.passed = Bytes::new();
                }
                return Poll::Ready(Ok(()));
            }
            if self.refusal.is_some() {
                return self.refused_read();
            }
            let before = buf.filled().len();
            match Pin::new(&mut self.socket).poll_read(cx, buf) {
                Poll::Ready(read) => read?,
                Poll::Pending => {
                    self.await_client();
                    return Poll::Pending;
                }
            }
            if buf.filled().len() == before {
                return Poll::Ready(Ok(())); // the client has ended
            }
            self.look(buf, before);
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl Guarded {
    /// A client that takes something is not idle.
    fn wrote(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(_)) = polled {
            self.socket.life().expire_in(self.limits.idle_timeout);
        }
        polled
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

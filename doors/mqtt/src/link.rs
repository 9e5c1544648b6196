//! A connection's bytes, over TCP or inside a WebSocket (6.0).

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use sapwood_net::websocket::{Kind, Message, WebSocket};
use sapwood_net::{Closed, Life, Socket};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};

/// How many bytes are read at a time.
const READ_BYTES: usize = 64 << 10;

/// What a thread's buffer may grow to and still be kept for the next connection.
const SCRATCH_BYTES_MAX: usize = 1 << 20;

thread_local! {
    /// What is read and written goes through buffers of the thread, so that a connection at rest holds none.
    static READING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static WRITING: Cell<BytesMut> = Cell::new(BytesMut::new());
}

/// The thread's buffer for what goes out; to be given [back](give_back).
pub(crate) fn borrow() -> BytesMut {
    WRITING.take()
}

/// Gives the thread its buffer back.
pub(crate) fn give_back(mut buffer: BytesMut) {
    buffer.clear();
    if buffer.capacity() <= SCRATCH_BYTES_MAX {
        WRITING.set(buffer);
    }
}

/// A connection's bytes.
#[derive(Debug)]
pub(crate) struct Link {
    transport: Transport,
    /// Bytes that the client has not taken yet.
    waiting: usize,
    /// Bytes since they were last counted.
    received: u64,
    sent: u64,
}

#[derive(Debug)]
enum Transport {
    Tcp {
        socket: Socket,
        held: BytesMut,
    },
    /// A client in this process.
    Inside(Box<Inside>),
    WebSocket(Box<WebSocket>),
}

/// A stream in this process.
#[derive(Debug)]
struct Inside {
    stream: DuplexStream,
    held: BytesMut,
    life: Arc<Life>,
}

impl Link {
    /// A client in this process.
    pub(crate) fn inside(stream: DuplexStream) -> Self {
        let inside = Inside {
            stream,
            held: BytesMut::new(),
            life: Life::apart(),
        };
        Self::over(Transport::Inside(Box::new(inside)))
    }

    pub(crate) fn new(transport: sapwood_net::Transport) -> Self {
        let transport = match transport {
            sapwood_net::Transport::Tcp(socket) => Transport::Tcp {
                socket,
                held: BytesMut::new(),
            },
            sapwood_net::Transport::WebSocket { stream, .. } => Transport::WebSocket(stream),
        };
        Self::over(transport)
    }

    fn over(transport: Transport) -> Self {
        Self {
            transport,
            waiting: 0,
            received: 0,
            sent: 0,
        }
    }

    /// What the connection is counted as.
    pub(crate) fn name(&self) -> &'static str {
        match &self.transport {
            Transport::Tcp { socket, .. } => socket.name(),
            Transport::Inside(_) => "inside",
            Transport::WebSocket(_) => "websocket",
        }
    }

    /// The connection's deadline and signals.
    pub(crate) fn life(&self) -> &Arc<Life> {
        match &self.transport {
            Transport::Tcp { socket, .. } => socket.life(),
            Transport::Inside(inside) => &inside.life,
            Transport::WebSocket(stream) => stream.life(),
        }
    }

    /// Says that CONNECT has come.
    pub(crate) fn has_begun(&mut self) {
        match &mut self.transport {
            Transport::Tcp { socket, .. } => socket.has_begun(),
            Transport::WebSocket(_) | Transport::Inside(_) => {}
        }
    }

    /// How many bytes the client has not taken yet.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Reads what has come, behind what the buffer holds.
    ///
    /// # Errors
    /// How the connection has ended.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        inbound: &mut BytesMut,
    ) -> Poll<Result<(), Closed>> {
        let before = inbound.len();
        let read = match &mut self.transport {
            Transport::Tcp { socket, .. } => poll_read_bytes(socket, cx, inbound),
            Transport::Inside(inside) => poll_read_bytes(&mut inside.stream, cx, inbound),
            Transport::WebSocket(stream) => poll_read_websocket(stream, cx, inbound),
        };
        self.received += (inbound.len() - before) as u64;
        read
    }

    /// Bytes from the client and to it, since this was last asked.
    pub(crate) fn take_counts(&mut self) -> (u64, u64) {
        (
            std::mem::take(&mut self.received),
            std::mem::take(&mut self.sent),
        )
    }

    /// Writes what was left over, and all of `out`; what the client does not take now is kept. Ready when nothing waits.
    ///
    /// # Errors
    /// What the socket says.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut BytesMut,
    ) -> Poll<io::Result<()>> {
        self.waiting += out.len();
        self.sent += out.len() as u64;
        match &mut self.transport {
            Transport::Tcp { socket, held } => {
                let sent = poll_send_bytes(socket, held, cx, out);
                self.waiting = held.len();
                sent
            }
            Transport::Inside(inside) => {
                let sent = poll_send_bytes(&mut inside.stream, &mut inside.held, cx, out);
                self.waiting = inside.held.len();
                sent
            }
            Transport::WebSocket(stream) => {
                if !out.is_empty() {
                    // 6.0.0-2: packets may be cut anywhere.
                    stream.say(Kind::Binary, out.split().freeze());
                }
                ready!(stream.poll_flush(cx))?;
                self.waiting = 0;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Ends the connection. Where it `lingers`, a client that still sends is heard out for a moment: a socket that is closed
    /// on unread bytes may take along what was said last.
    pub(crate) async fn finish(self, lingers: bool) {
        const PATIENCE: Duration = Duration::from_secs(1);
        match self.transport {
            Transport::Tcp { mut socket, .. } => {
                let parting = async {
                    let mut rest = BytesMut::new();
                    if socket.shutdown().await.is_ok() && lingers {
                        let read = |cx: &mut Context<'_>| {
                            rest.clear();
                            poll_read_bytes(&mut socket, cx, &mut rest)
                        };
                        let mut read = read;
                        while std::future::poll_fn(&mut read).await.is_ok() {}
                    }
                };
                drop(tokio::time::timeout(PATIENCE, parting).await);
            }
            // What it has been told stays there to be read.
            Transport::Inside(inside) => drop(inside),
            Transport::WebSocket(mut stream) => {
                const NORMAL: u16 = 1000;
                stream.say_close(NORMAL, "");
                stream.finish(false, PATIENCE).await;
            }
        }
    }
}

fn poll_read_bytes(
    stream: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    inbound: &mut BytesMut,
) -> Poll<Result<(), Closed>> {
    let mut bytes = READING.take();
    bytes.resize(READ_BYTES, 0);
    let mut buf = ReadBuf::new(&mut bytes);
    let polled = Pin::new(stream).poll_read(cx, &mut buf);
    let read = match polled {
        Poll::Pending => Poll::Pending,
        Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
            inbound.extend_from_slice(buf.filled());
            Poll::Ready(Ok(()))
        }
        Poll::Ready(_) => Poll::Ready(Err(Closed::Lost)),
    };
    READING.set(bytes);
    read
}

fn poll_read_websocket(
    stream: &mut WebSocket,
    cx: &mut Context<'_>,
    inbound: &mut BytesMut,
) -> Poll<Result<(), Closed>> {
    loop {
        return Poll::Ready(match ready!(stream.poll_next(cx)) {
            Some(Ok(Message::Binary(bytes))) => {
                inbound.extend_from_slice(&bytes);
                Ok(())
            }
            // Pongs go out with what is sent next.
            Some(Ok(Message::Ping(_) | Message::Pong)) => continue,
            // 6.0.0-1
            Some(Ok(Message::Text(_))) => {
                stream.say_close(1003, "MQTT is binary");
                Err(Closed::Refused("websocket text"))
            }
            Some(Err(_)) => Err(Closed::Refused("websocket framing")),
            Some(Ok(Message::Close(_))) | None => Err(Closed::Lost),
        });
    }
}

fn poll_send_bytes(
    stream: &mut (impl AsyncWrite + Unpin),
    held: &mut BytesMut,
    cx: &mut Context<'_>,
    out: &mut BytesMut,
) -> Poll<io::Result<()>> {
    while !held.is_empty() || !out.is_empty() {
        let bytes = if held.is_empty() {
            &mut *out
        } else {
            &mut *held
        };
        match Pin::new(&mut *stream).poll_write(cx, bytes) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(written)) => bytes.advance(written),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {
                held.extend_from_slice(out);
                out.clear();
                return Poll::Pending;
            }
        }
    }
    if held.capacity() > 0 {
        *held = BytesMut::new();
    }
    Poll::Ready(Ok(()))
}

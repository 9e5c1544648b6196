//! A connection of messages: reads them, answers pings and closes, and writes what is queued in as few calls as possible.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::time::Instant;

use super::{Decoder, Fault, Message};
use crate::{Life, Socket, limit_met};

/// What kind of message goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Bytes.
    Binary,
}

/// A WebSocket that was opened.
#[derive(Debug)]
pub struct WebSocket {
    socket: Socket,
    decoder: Decoder,
    /// When the message began that comes just now, and how many bytes of it have come since.
    coming: Option<(Instant, u64)>,
    /// Something has come since [`WebSocket::was_heard`] was asked.
    heard: bool,
    outbound: VecDeque<Bytes>,
    /// We have sent a close frame: nothing follows it.
    closed: bool,
}

/// How many bytes are read at a time, onto the stack.
const READ_BYTES: usize = 4096;

/// How long a message may take before its rate counts.
const MESSAGE_GRACE: Duration = Duration::from_secs(10);

/// Room for the head of a frame that goes out.
const HEAD_BYTES: usize = 10;

impl WebSocket {
    pub(super) fn new(socket: Socket, message_bytes_max: usize) -> Self {
        Self {
            socket,
            decoder: Decoder::new(message_bytes_max),
            coming: None,
            heard: false,
            outbound: VecDeque::new(),
            closed: false,
        }
    }

    /// The connection's deadline and signals.
    pub fn life(&self) -> &Arc<Life> {
        self.socket.life()
    }

    /// The next message. Pings have been answered, and a close too: those answers wait to be flushed.
    /// `None` is the end of the connection; a client whose message comes too slowly is told so first.
    ///
    /// # Errors
    /// [`Fault`]: the close frame with its code waits to be flushed.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Fault>>> {
        loop {
            match self.decoder.message() {
                Ok(Some(message)) => {
                    self.react(&message);
                    return Poll::Ready(Some(Ok(message)));
                }
                Ok(None) if self.decoder.is_in_message() => {}
                Ok(None) => self.coming = None,
                Err(fault) => {
                    self.say_close(fault.code(), &fault.to_string());
                    return Poll::Ready(Some(Err(fault)));
                }
            }
            let mut bytes = [0; READ_BYTES];
            let mut buf = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => self.decoder.feed(buf.filled()),
                Ok(()) | Err(_) => return Poll::Ready(None),
            }
            self.heard = true;
            if self.is_too_slow(buf.filled().len()) {
                limit_met("http.body_rate_min");
                self.say_close(1008, "the message came too slowly");
                return Poll::Ready(None);
            }
        }
    }

    /// Whether any byte has come since this was asked last, be it of a message that is not whole yet.
    pub fn was_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// Whether the message that comes just now is held up: what has come of it would stay in memory for as long as the
    /// client likes.
    fn is_too_slow(&mut self, read: usize) -> bool {
        let (begin, bytes) = self.coming.get_or_insert_with(|| (Instant::now(), 0));
        *bytes = bytes.saturating_add(read as u64);
        let earned = Duration::from_secs(*bytes / self.socket.limits().message_rate_min.max(1));
        begin.elapsed() > MESSAGE_GRACE + earned
    }

    /// [`WebSocket::poll_next`] as a future; cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Message, Fault>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn react(&mut self, message: &Message) {
        match message {
            Message::Ping(payload) => self.control(10, payload),
            Message::Close(code) => {
                let code = code.map(u16::to_be_bytes);
                let payload = code.as_ref().map_or(&[][..], |code| &code[..]);
                self.control(8, payload);
                self.closed = true;
            }
            Message::Text(_) | Message::Binary(_) | Message::Pong => {}
        }
    }

    /// Queues a message.
    pub fn say(&mut self, kind: Kind, payload: Bytes) {
        if self.closed {
            return;
        }
        let mut head = [0; HEAD_BYTES];
        let begin = write_head(&mut head, kind, payload.len());
        self.outbound.push_back(Bytes::copy_from_slice(
            head.get(begin..).unwrap_or_default(),
        ));
        self.outbound.push_back(payload);
    }

    /// Queues a message that [`framed`] has made.
    pub fn say_framed(&mut self, frame: Bytes) {
        if !self.closed {
            self.outbound.push_back(frame);
        }
    }

    /// Queues a ping.
    pub fn ping(&mut self) {
        self.control(9, b"");
    }

    /// Queues a close frame; nothing can be said after it.
    pub fn say_close(&mut self, code: u16, reason: &str) {
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(reason.as_bytes().get(..123).unwrap_or(reason.as_bytes()));
        self.control(8, &payload);
        self.closed = true;
    }

    fn control(&mut self, opcode: u8, payload: &[u8]) {
        if self.closed {
            return;
        }
        let length = u8::try_from(payload.len()).unwrap_or(125);
        self.outbound
            .push_back([&[0x80 | opcode, length], payload].concat().into());
    }

    /// Whether something waits to be flushed.
    pub fn has_queued(&self) -> bool {
        !self.outbound.is_empty()
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// What the socket says.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_send(cx, &mut self.outbound)
    }

    /// [`WebSocket::poll_flush`] as a future; cancel-safe.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Flushes, and if the client has not closed waits for it, for at most `patience`; then ends the connection.
    pub async fn finish(mut self, client_has_closed: bool, patience: Duration) {
        // The connection ends in any case: whether the client still hears it is the client's business.
        let parting = async {
            if self.flush().await.is_ok()
                && self.socket.shutdown().await.is_ok()
                && !client_has_closed
            {
                while let Some(Ok(message)) = self.next().await {
                    if matches!(message, Message::Close(_)) {
                        break;
                    }
                }
            }
        };
        drop(tokio::time::timeout(patience, parting).await);
    }
}

/// A message as one frame, whose payload `encode` appends: for all who get the same.
pub fn framed(kind: Kind, encode: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(&[0; HEAD_BYTES]);
    encode(&mut out);
    let payload = out.len() - HEAD_BYTES;
    let begin = match out.first_chunk_mut::<HEAD_BYTES>() {
        Some(head) => write_head(head, kind, payload),
        None => 0,
    };
    let mut frame = Bytes::from(out);
    frame.advance(begin);
    frame
}

/// Writes a frame's head to the end of `head`; where it begins.
fn write_head(head: &mut [u8; HEAD_BYTES], kind: Kind, payload: usize) -> usize {
    let first = match kind {
        Kind::Text => 0x81,
        Kind::Binary => 0x82,
    };
    if let Ok(short) = u8::try_from(payload)
        && short < 126
    {
        head[8..].copy_from_slice(&[first, short]);
        8
    } else if let Ok(medium) = u16::try_from(payload) {
        let [a, b] = medium.to_be_bytes();
        head[6..].copy_from_slice(&[first, 126, a, b]);
        6
    } else {
        head[..2].copy_from_slice(&[first, 127]);
        head[2..].copy_from_slice(&(payload as u64).to_be_bytes());
        0
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::Limits;
    use crate::life::Lives;
    use crate::stream::Stream;

    async fn pair() -> (TcpStream, WebSocket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let life = Lives::default().enter(1);
        let socket = Socket::new(Stream::Tcp(stream), life, Arc::new(Limits::default()));
        (client, WebSocket::new(socket, 1 << 20))
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_comes_too_slowly_ends_the_connection() {
        let (mut client, mut server) = pair().await;
        // A whole message, and then the beginning of one of 1,000 bytes.
        client
            .write_all(&[0x81, 0x80, 0, 0, 0, 0, 0x82, 0xfe, 3, 0xe8, 0, 0, 0, 0, 1])
            .await
            .unwrap();
        assert_eq!(server.next().await, Some(Ok(Message::Text(Bytes::new()))));
        for _ in 0..5 {
            let waited = tokio::time::timeout(Duration::from_secs(5), server.next()).await;
            if let Ok(ended) = waited {
                assert_eq!(ended, None);
                break;
            }
            client.write_all(&[1]).await.unwrap();
        }
        server.flush().await.unwrap();
        let mut answer = [0; 4];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(
            (answer[0], &answer[2..]),
            (0x88, &1008_u16.to_be_bytes()[..])
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_message_may_take_its_time() {
        let (mut client, mut server) = pair().await;
        let mut head = vec![0x82, 0xff];
        head.extend_from_slice(&100_000_u64.to_be_bytes());
        head.extend_from_slice(&[0; 4]);
        client.write_all(&head).await.unwrap();
        for _ in 0..20 {
            let waited = tokio::time::timeout(Duration::from_secs(5), server.next()).await;
            assert!(waited.is_err());
            client.write_all(&[7; 5000]).await.unwrap();
        }
        assert!(matches!(server.next().await, Some(Ok(Message::Binary(_)))));
    }

    #[test]
    fn the_head_of_a_frame_says_its_length_in_the_shortest_way() {
        for (size, head) in [
            (0, vec![0x81, 0]),
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (65_535, vec![0x81, 126, 0xff, 0xff]),
            (65_536, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let frame = framed(Kind::Text, |out| out.resize(out.len() + size, b'x'));
            assert_eq!(frame.len(), head.len() + size);
            assert!(frame.starts_with(&head), "{size}");
        }
    }
}

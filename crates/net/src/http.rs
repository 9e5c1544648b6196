//! HTTP/1.1 on one connection: strict framing, deadlines, drain, and the switch to something else.

mod body;
pub mod framing;
pub mod origin;

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use metrics::counter;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

pub use self::body::Body;
use self::framing::{Framing, Refusal};
use crate::{Closed, Connection, Info, Mounts, Signal, Socket, Transport};

/// Bounds on what one connection may send and how long it may take (reliability L10).
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a request's line and fields.
    pub head_bytes_max: usize,
    /// Fields of a request.
    pub fields_max: usize,
    /// Time for a request's head to arrive, from its first byte; for the first request from the start.
    pub head_timeout: Duration,
    /// Time that a connection may wait between requests.
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: 64 * 1024,
            fields_max: 100,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
        }
    }
}

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(self: Arc<Self>, request: Request<Incoming>, caller: Arc<Caller>) -> Handling;
}

/// Who sends the requests of a connection.
#[derive(Debug)]
pub struct Caller {
    /// The connection.
    pub info: Arc<Info>,
    /// What doors have mounted beside this one.
    pub mounts: Arc<Mounts>,
}

/// An answer, or the work that leads to one.
pub enum Handling {
    /// It is there already.
    Now(Reply),
    /// It takes a while.
    Later(BoxFuture<'static, Reply>),
}

/// What becomes of a request.
pub enum Reply {
    /// An HTTP answer.
    Response(Response<Body>),
    /// The connection stops being HTTP: whoever takes the socket over answers, too. What the client sent
    /// beyond the request is read first.
    Takeover(Takeover),
}

impl From<Response<Body>> for Reply {
    fn from(response: Response<Body>) -> Self {
        Self::Response(response)
    }
}

/// Takes a connection's socket over until it ends.
pub type Takeover = Box<dyn FnOnce(Socket) -> BoxFuture<'static, Closed> + Send>;

/// Serves the requests of one connection.
pub async fn serve<H: Handler>(
    connection: Connection,
    handler: Arc<H>,
    limits: Arc<Limits>,
) -> Closed {
    let Transport::Tcp(socket) = connection.transport else {
        return Closed::Refused("not a TCP connection");
    };
    let caller = Arc::new(Caller {
        info: connection.info,
        mounts: connection.mounts,
    });
    // Boxed, so that what a request needs is not held by the streams that take a socket over.
    let ended = Box::pin(serve_requests(socket, caller, handler, limits)).await;
    match ended {
        Ended::Closed(closed) => closed,
        Ended::TakenOver(socket, takeover) => takeover(socket).await,
    }
}

enum Ended {
    Closed(Closed),
    TakenOver(Socket, Takeover),
}

async fn serve_requests<H: Handler>(
    socket: Socket,
    caller: Arc<Caller>,
    handler: Arc<H>,
    limits: Arc<Limits>,
) -> Ended {
    let life = Arc::clone(socket.life());
    life.expire_in(limits.head_timeout);
    let taken: Arc<Mutex<Option<Takeover>>> = Arc::default();
    let slot = Arc::clone(&taken);
    let service = service_fn(move |request: Request<Incoming>| {
        let upgrade = request.headers().contains_key(header::UPGRADE);
        let handling = Some(Arc::clone(&handler).handle(request, Arc::clone(&caller)));
        Answering {
            handling,
            upgrade,
            taken: Arc::clone(&slot),
        }
    });
    let io = TokioIo::new(Guarded::new(socket, Arc::clone(&limits)));
    let mut http = http1::Builder::new()
        .max_headers(limits.fields_max)
        .max_buf_size(limits.head_bytes_max + 64 * 1024)
        .header_read_timeout(None)
        .serve_connection(io, service);
    let mut draining = false;
    let ended = std::future::poll_fn(|cx| {
        match life.poll_signal(cx) {
            Poll::Ready(Signal::Expired) => return Poll::Ready(Turn::Expired),
            Poll::Ready(Signal::Drain) if !draining => {
                draining = true;
                Pin::new(&mut http).graceful_shutdown();
            }
            Poll::Ready(Signal::Drain) | Poll::Pending => {}
        }
        let polled = http.poll_without_shutdown(cx);
        match taken.lock().take() {
            Some(takeover) => Poll::Ready(Turn::TakenOver(takeover)),
            None => polled.map(Turn::Ended),
        }
    })
    .await;
    let parts = http.into_parts();
    let guarded = parts.io.into_inner();
    match ended {
        Turn::TakenOver(takeover) => {
            life.keep();
            Ended::TakenOver(guarded.socket.after(parts.read_buf), takeover)
        }
        Turn::Expired => Ended::Closed(guarded.expire().await),
        Turn::Ended(result) => {
            let orderly = if draining {
                Closed::Drained
            } else {
                Closed::Orderly
            };
            Ended::Closed(guarded.end(result.map(|()| orderly)).await)
        }
    }
}

enum Turn {
    Ended(hyper::Result<()>),
    TakenOver(Takeover),
    Expired,
}

/// A request that is being answered.
struct Answering {
    handling: Option<Handling>,
    /// The request asked for another protocol.
    upgrade: bool,
    taken: Arc<Mutex<Option<Takeover>>>,
}

impl Future for Answering {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = match self.handling.take() {
            Some(Handling::Now(reply)) => reply,
            Some(Handling::Later(mut reply)) => match reply.as_mut().poll(cx) {
                Poll::Ready(reply) => reply,
                Poll::Pending => {
                    self.handling = Some(Handling::Later(reply));
                    return Poll::Pending;
                }
            },
            None => return Poll::Pending,
        };
        match reply {
            Reply::Response(response) => Poll::Ready(Ok(finish(response, self.upgrade))),
            Reply::Takeover(takeover) => {
                *self.taken.lock() = Some(takeover);
                Poll::Pending // the connection is taken from hyper before this is polled again
            }
        }
    }
}

/// Ends the connection after an answer to a request that asked for another protocol: what its bytes mean
/// from here on is not certain.
fn finish(mut response: Response<Body>, upgrade: bool) -> Response<Body> {
    if upgrade {
        response.headers_mut().insert(
            header::CONNECTION,
            header::HeaderValue::from_static("close"),
        );
    }
    response
}

/// A socket whose requests are looked at before hyper sees them.
struct Guarded {
    socket: Socket,
    framing: Framing,
    refusal: Option<Refusal>,
    /// The deadline of a head that has begun is not put off by its further bytes.
    head_begun: bool,
    limits: Arc<Limits>,
}

impl Guarded {
    fn new(socket: Socket, limits: Arc<Limits>) -> Self {
        let framing = Framing::new(limits.head_bytes_max, limits.fields_max);
        Self {
            socket,
            framing,
            refusal: None,
            head_begun: true,
            limits,
        }
    }

    /// Sets the deadline for what the client has to do next.
    fn await_client(&mut self) {
        if self.framing.is_in_head() {
            if !self.head_begun {
                self.socket.life().expire_in(self.limits.head_timeout);
            }
            self.head_begun = true;
        } else {
            self.socket.life().expire_in(self.limits.idle_timeout);
            self.head_begun = false;
        }
    }

    async fn expire(mut self) -> Closed {
        if self.framing.is_in_head() {
            return self.refuse(Refusal::HeadTimeout).await;
        }
        counter!("sapwood_http_expired_total").increment(1);
        self.close(Closed::Lost).await
    }

    /// Ends the connection that hyper has let go, with a word to the client if it broke the framing.
    async fn end(mut self, result: hyper::Result<Closed>) -> Closed {
        match (self.refusal, result) {
            (Some(refusal), _) => self.refuse(refusal).await,
            (None, Ok(closed)) => self.close(closed).await,
            (None, Err(error)) if error.is_parse() => {
                self.close(Closed::Refused("malformed request")).await
            }
            (None, Err(_)) => Closed::Lost,
        }
    }

    async fn refuse(&mut self, refusal: Refusal) -> Closed {
        counter!("sapwood_http_refused_total", "code" => refusal.code()).increment(1);
        // Whether it arrives does not matter any more: the connection ends.
        drop(self.socket.write_all(&refusal_answer(refusal)).await);
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
                    use tokio::io::AsyncReadExt;
                    while self.socket.read(&mut bytes).await.is_ok_and(|n| n > 0) {}
                })
                .await,
            );
        }
    }
}

fn refusal_answer(refusal: Refusal) -> Vec<u8> {
    let status = refusal.status();
    let title = http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or_default();
    let (code, detail) = (refusal.code(), refusal.detail());
    let body = format!(
        r#"{{"type":"about:blank","title":"{title}","status":{status},"code":"{code}","detail":"{detail}"}}"#
    );
    format!(
        "HTTP/1.1 {status} {title}\r\nContent-Type: application/problem+json\r\nX-Content-Type-Options: nosniff\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.refusal.is_some() {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut self.socket).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {}
            Poll::Pending => {
                self.await_client();
                return Poll::Pending;
            }
            failed @ Poll::Ready(Err(_)) => return failed,
        }
        let read = buf.filled().get(before..).unwrap_or_default();
        let checked = self.framing.check(read);
        if let Err((good, refusal)) = checked {
            self.refusal = Some(refusal);
            if good == 0 {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            buf.set_filled(before + good);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
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

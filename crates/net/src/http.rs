//! HTTP/1.1 on one connection: strict framing, deadlines, drain, and the switch to something else.

mod body;
pub mod framing;
mod guarded;
pub mod origin;
mod refusal;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;

pub use self::body::Body;
use self::guarded::Guarded;
pub use self::refusal::Refusal;
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

    /// Answers bytes that are no request, or none that is taken. The body of the answer is whole, and the connection ends
    /// after it.
    fn refuse(&self, refusal: Refusal, caller: &Caller) -> Response<Body>;
}

/// Who sends the requests of a connection.
#[derive(Debug)]
pub struct Caller {
    /// The connection.
    pub info: Arc<Info>,
    /// What doors have mounted beside this one.
    pub mounts: Arc<Mounts>,
    requests: AtomicU64,
}

impl Caller {
    /// The number of the request that is answered just now, on its connection, from 1; for logs.
    pub fn request(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }
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
        requests: AtomicU64::new(0),
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
    let taken: Arc<Mutex<Option<Takeover>>> = Arc::default();
    let slot = Arc::clone(&taken);
    let (answerer, asking) = (Arc::clone(&handler), Arc::clone(&caller));
    let service = service_fn(move |request: Request<Incoming>| {
        let upgrade = request.headers().contains_key(header::UPGRADE);
        asking.count();
        let handling = Some(Arc::clone(&answerer).handle(request, Arc::clone(&asking)));
        Answering {
            handling,
            upgrade,
            taken: Arc::clone(&slot),
        }
    });
    let guarded = Guarded::new(socket, Arc::clone(&limits));
    let refused = guarded.refused_sign();
    let io = TokioIo::new(guarded);
    let mut http = http1::Builder::new()
        .max_headers(limits.fields_max)
        .max_buf_size(limits.head_bytes_max + 64 * 1024)
        .header_read_timeout(None)
        .serve_connection(io, service);
    let mut draining = false;
    let mut last = false; // no further request is read
    let ended = std::future::poll_fn(|cx| {
        match life.poll_signal(cx) {
            Poll::Ready(Signal::Expired) => return Poll::Ready(Turn::Expired),
            Poll::Ready(Signal::Drain) => draining = true,
            Poll::Pending => {}
        }
        loop {
            if !last && (draining || refused.load(Ordering::Relaxed)) {
                last = true;
                Pin::new(&mut http).graceful_shutdown();
            }
            let polled = http.poll_without_shutdown(cx);
            if let Some(takeover) = taken.lock().take() {
                return Poll::Ready(Turn::TakenOver(takeover));
            }
            let ends = polled.is_pending() && refused.load(Ordering::Relaxed);
            if last || !ends {
                return polled.map(Turn::Ended);
            }
        }
    })
    .await;
    let parts = http.into_parts();
    let guarded = parts.io.into_inner();
    match ended {
        Turn::TakenOver(takeover) => {
            life.keep();
            Ended::TakenOver(guarded.into_socket(parts.read_buf), takeover)
        }
        Turn::Expired => Ended::Closed(guarded.expire(&*handler, &caller).await),
        Turn::Ended(result) => {
            let orderly = if draining {
                Closed::Drained
            } else {
                Closed::Orderly
            };
            let result = result.map(|()| orderly);
            Ended::Closed(guarded.end(result, &*handler, &caller).await)
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

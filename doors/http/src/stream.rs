//! Server-sent events (WHATWG HTML, 9.2).
//!
//! The stream has taken the connection over: its blocks go to the socket as they are, shared with everybody who gets
//! the same event, and what waits goes out in one write. The end of the stream is the end of the connection.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderValue, Response, StatusCode, header};
use metrics::gauge;
use sapwood_core::{Connect, Delivery, Session, Start};
use sapwood_net::http::{Body, Caller, Reply};
use sapwood_net::{Closed, Signal, Socket};
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Interval, MissedTickBehavior};

use crate::door::{Site, anonymous};
use crate::event;
use crate::problem::Problem;
use crate::request::Asked;
use crate::{respond, watch};

/// How long a browser waits before it comes back, in milliseconds.
const RETRY_MS: u32 = 2000;

/// Opens an event stream.
pub(crate) fn open(
    site: &Arc<Site>,
    asked: &Asked,
    caller: &Arc<Caller>,
    origin: Option<&HeaderValue>,
) -> Result<Reply, Problem> {
    let (spec, start) = (watch::spec(asked)?, watch::start(asked)?);
    let resumed = start != Start::State;
    let mut session = asked.database.connect(Connect {
        protocol: "sse",
        peer: caller.info.peer.address(),
        claims: anonymous(),
    });
    session
        .watch(spec, start)
        .map_err(|error| watch::refused(&error))?;
    let head = head(origin, &crate::door::newest(&asked.database)?);
    let interval = Duration::from_secs(site.config.comment_interval_s.max(1));
    Ok(Reply::Takeover(Box::new(move |socket| {
        async move {
            let open = gauge!("sapwood_http_event_streams");
            open.increment(1);
            let closed = Stream::new(socket, session, interval, resumed)
                .serve(head)
                .await;
            open.decrement(1);
            closed
        }
        .boxed()
    })))
}

/// The answer to a HEAD: the fields of the stream that a GET would open.
pub(crate) fn head_alone(asked: &Asked) -> Result<Response<Body>, Problem> {
    let (_spec, _start) = (watch::spec(asked)?, watch::start(asked)?);
    let mut response = respond::answer(StatusCode::OK, "text/event-stream", Body::Empty);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    respond::set(
        &mut response,
        respond::VERSION,
        crate::door::newest(&asked.database)?,
    );
    Ok(response)
}

fn head(origin: Option<&HeaderValue>, version: &str) -> String {
    let mut head = String::from(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
         X-Accel-Buffering: no\r\nVary: Accept\r\nConnection: close\r\n",
    );
    if let Some(origin) = origin.and_then(|origin| origin.to_str().ok()) {
        // Writing to a String does not fail.
        let _written = write!(
            head,
            "Vary: Origin\r\nAccess-Control-Allow-Origin: {origin}\r\nAccess-Control-Allow-Credentials: true\r\n"
        );
    }
    let _written = write!(
        head,
        "Sapwood-Version: {version}\r\n\r\n: sapwood\nretry: {RETRY_MS}\n\n"
    );
    head
}

/// One client of an event stream.
struct Stream {
    socket: Socket,
    session: Session,
    ticks: Interval,
    deliveries: Vec<Delivery>,
    /// The client has what a version in a comment would say that it has.
    has_state: bool,
}

/// What a stream wakes for.
enum Turn {
    Deliveries,
    Comment,
    Ended(Closed),
}

impl Stream {
    fn new(socket: Socket, session: Session, interval: Duration, resumed: bool) -> Self {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        Self {
            socket,
            session,
            ticks,
            deliveries: Vec::new(),
            has_state: resumed,
        }
    }

    async fn serve(mut self, head: String) -> Closed {
        let mut out = VecDeque::from([Bytes::from(head)]);
        loop {
            if let Err(closed) = self.send(&mut out).await {
                return closed;
            }
            match std::future::poll_fn(|cx| self.poll_turn(cx)).await {
                Turn::Deliveries => self.blocks(&mut out),
                Turn::Comment => out.push_back(self.comment()),
                Turn::Ended(closed) => {
                    drop(self.socket.shutdown().await);
                    return closed;
                }
            }
        }
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        match self.socket.life().poll_signal(cx) {
            Poll::Ready(Signal::Drain) => return Poll::Ready(Turn::Ended(Closed::Drained)),
            Poll::Ready(Signal::Expired) => return Poll::Ready(Turn::Ended(Closed::Lost)),
            Poll::Pending => {}
        }
        if self.session.poll_next(cx, &mut self.deliveries).is_ready() {
            return Poll::Ready(Turn::Deliveries);
        }
        if self.poll_gone(cx).is_ready() {
            return Poll::Ready(Turn::Ended(Closed::Orderly));
        }
        self.ticks.poll_tick(cx).map(|_| Turn::Comment)
    }

    /// Ready when the client has left. What it still sends has no meaning.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; 64];
        loop {
            let mut buf = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.socket).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn blocks(&mut self, out: &mut VecDeque<Bytes>) {
        for delivery in self.deliveries.drain(..) {
            if let Delivery::Event { event, .. } = delivery {
                self.has_state |= event
                    .version
                    .as_ref()
                    .is_some_and(|version| version.part.is_none());
                out.push_back(event::block(&event));
            }
        }
        self.deliveries.shrink_to(16);
    }

    /// A sign of life, with the newest commit that the stream has passed.
    fn comment(&self) -> Bytes {
        if self.has_state {
            format!(": \nid: {}\n\n", self.session.last_seen()).into()
        } else {
            Bytes::from_static(b": \n\n")
        }
    }

    /// Writes all of it, unless the server tells the connection to end.
    async fn send(&mut self, out: &mut VecDeque<Bytes>) -> Result<(), Closed> {
        std::future::poll_fn(|cx| match self.socket.poll_send(cx, out) {
            Poll::Ready(sent) => Poll::Ready(sent.map_err(|_| Closed::Lost)),
            Poll::Pending => self.socket.life().poll_signal(cx).map(|signal| {
                Err(match signal {
                    Signal::Drain => Closed::Drained,
                    Signal::Expired => Closed::Lost,
                })
            }),
        })
        .await?;
        out.shrink_to(16);
        Ok(())
    }
}

//! WebSockets on any path: the events of its watch go out, commands come in and are answered.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use metrics::{counter, gauge};
use sapwood_core::{
    Answer, AtEnd, Condition, Connect, Delivery, Limits, Session, Write, WriteError,
};
use sapwood_net::http::{Caller, Reply};
use sapwood_net::websocket::{Fault, Kind, Message, Opening, OpeningError, WebSocket};
use sapwood_net::{Closed, Connection, Signal, Socket, Transport};
use sapwood_tree::{OpKind, Path};
use sapwood_value::{Format, Value};
use tokio::time::{Interval, MissedTickBehavior};

use crate::command::{self, Command, Name, Operation};
use crate::door::{Site, anonymous};
use crate::event::{self, Object};
use crate::problem::{self, Problem};
use crate::request::{Asked, value_limits};
use crate::{watch, write};

/// How long a closing handshake may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The close code of a server that stops (RFC 6455, 7.4.1).
const GOING_AWAY: u16 = 1001;

/// Opens a WebSocket: one that a door has mounted if the client offers it, else the plain one of the path.
pub(crate) fn open(site: &Arc<Site>, asked: Asked, caller: &Arc<Caller>) -> Result<Reply, Problem> {
    let opening = opening(&asked)?;
    if let Some((subprotocol, door)) = caller
        .mounts
        .subprotocol(opening.offered.iter().map(String::as_str))
    {
        let (info, mounts) = (Arc::clone(&caller.info), Arc::clone(&caller.mounts));
        let bytes_max = site.config.body_bytes_max;
        return Ok(takeover(move |socket| {
            async move {
                match opening.accept(socket, Some(subprotocol), bytes_max).await {
                    Ok(stream) => {
                        let transport = Transport::WebSocket {
                            stream: Box::new(stream),
                            subprotocol,
                        };
                        door.serve(Connection {
                            info,
                            transport,
                            mounts,
                        })
                        .await
                    }
                    Err(_) => Closed::Lost,
                }
            }
            .boxed()
        }));
    }
    let (spec, start) = (watch::spec(&asked)?, watch::start(&asked)?);
    let format = asked.stream_format();
    let mut session = asked.database.connect(Connect {
        protocol: "websocket",
        peer: caller.info.peer.address(),
        claims: anonymous(),
    });
    session
        .watch(spec, start)
        .map_err(|error| watch::refused(&error))?;
    let site = Arc::clone(site);
    Ok(takeover(move |socket| {
        async move {
            let bytes_max = site.config.body_bytes_max;
            let Ok(stream) = opening.accept(socket, None, bytes_max).await else {
                return Closed::Lost;
            };
            let open = gauge!("sapwood_http_websockets");
            open.increment(1);
            let closed = Client::new(stream, session, asked, format, site)
                .serve()
                .await;
            open.decrement(1);
            closed
        }
        .boxed()
    }))
}

/// Opens `/.echo`, which sends back what it gets.
pub(crate) fn open_echo(
    site: &Site,
    asked: &Asked,
    _caller: &Arc<Caller>,
) -> Result<Reply, Problem> {
    let opening = opening(asked)?;
    let bytes_max = site.config.body_bytes_max;
    Ok(takeover(move |socket| {
        async move {
            let Ok(mut stream) = opening.accept(socket, None, bytes_max).await else {
                return Closed::Lost;
            };
            let (closed, client_has_closed) = echo(&mut stream).await;
            stream.finish(client_has_closed, CLOSE_TIMEOUT).await;
            closed
        }
        .boxed()
    }))
}

/// Sends back what comes; at the end, why it ended, and whether the client closed.
async fn echo(stream: &mut WebSocket) -> (Closed, bool) {
    let life = Arc::clone(stream.life());
    loop {
        let message = tokio::select! {
            message = stream.next() => message,
            _ = life.signal() => {
                stream.say_close(GOING_AWAY, "the server is stopping");
                return (Closed::Drained, false);
            }
        };
        match message {
            Some(Ok(Message::Text(text))) => stream.say(Kind::Text, text),
            Some(Ok(Message::Binary(bytes))) => stream.say(Kind::Binary, bytes),
            Some(Ok(Message::Ping(_) | Message::Pong)) => {}
            Some(Ok(Message::Close(_))) => return (Closed::Orderly, true),
            Some(Err(fault)) => return (refused(fault), false),
            None => return (Closed::Lost, true),
        }
        if stream.flush().await.is_err() {
            return (Closed::Lost, true);
        }
    }
}

fn takeover(serve: impl FnOnce(Socket) -> BoxFuture<'static, Closed> + Send + 'static) -> Reply {
    Reply::Takeover(Box::new(serve))
}

/// The handshake, whose answer names the newest commit whoever goes on with the socket.
fn opening(asked: &Asked) -> Result<Opening, Problem> {
    let parsed = Opening::parse(&asked.method, asked.version, &asked.headers);
    let mut opening = parsed.map_err(|error| match error {
        OpeningError::Version => Problem::new(&problem::UPGRADE_REQUIRED, error.to_string()),
        OpeningError::NotAnUpgrade | OpeningError::Key => {
            Problem::new(&problem::BAD_HEADER, error.to_string())
        }
    })?;
    opening.add_field("Sapwood-Version", &crate::door::newest(&asked.database)?);
    Ok(opening)
}

/// The end of a connection whose client broke the framing or a limit; it has been told why.
fn refused(fault: Fault) -> Closed {
    let reason = match fault {
        Fault::Protocol(_) => "websocket framing",
        Fault::NotUtf8 => "websocket text that is not UTF-8",
        Fault::TooLarge(_) => {
            Limits::met("http.body_bytes_max");
            "websocket message too large"
        }
    };
    counter!("sapwood_http_websocket_faults_total", "reason" => reason).increment(1);
    Closed::Refused(reason)
}

/// One client of a plain WebSocket.
struct Client {
    stream: WebSocket,
    session: Session,
    place: Box<Place>,
    format: Format,
    site: Arc<Site>,
    deliveries: Vec<Delivery>,
    /// Requests that are not answered yet, by their tag.
    asked: HashMap<u64, Pending>,
    next_tag: u64,
    /// How much was left to be done at the session's end.
    left: usize,
    ticks: Interval,
    /// Ticks since the client was last heard of.
    silent: u32,
}

/// What the URL says.
struct Place {
    asked: Asked,
}

/// A request that is not answered yet.
struct Pending {
    id: Value,
    /// The new child of a POST.
    made: Option<String>,
    /// The condition that stands for «something was there» in a DELETE.
    exists: Option<usize>,
}

/// Why a client's loop ends.
enum Turn {
    Message(Result<Message, Fault>),
    Deliveries,
    Tick,
    Signal(Signal),
    Ended,
}

impl Client {
    fn new(
        stream: WebSocket,
        session: Session,
        asked: Asked,
        format: Format,
        site: Arc<Site>,
    ) -> Self {
        let mut ticks =
            tokio::time::interval(Duration::from_secs(site.config.ping_interval_s.max(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        Self {
            stream,
            session,
            place: Box::new(Place {
                asked: Asked {
                    headers: http::HeaderMap::new(),
                    ..asked
                },
            }),
            format,
            site,
            deliveries: Vec::new(),
            asked: HashMap::new(),
            next_tag: 0,
            left: 0,
            ticks,
            silent: 0,
        }
    }

    async fn serve(mut self) -> Closed {
        let (closed, client_has_closed) = loop {
            match std::future::poll_fn(|cx| self.poll_turn(cx)).await {
                Turn::Deliveries => self.deliver(),
                Turn::Message(Ok(Message::Close(_))) => break (Closed::Orderly, true),
                Turn::Message(Ok(message)) => self.read(&message).await,
                Turn::Message(Err(fault)) => break (refused(fault), false),
                Turn::Tick if self.is_gone() => break (Closed::Lost, true),
                Turn::Tick => self.stream.ping(),
                Turn::Signal(Signal::Drain) => {
                    self.stream.say_close(GOING_AWAY, "the server is stopping");
                    break (Closed::Drained, false);
                }
                Turn::Signal(Signal::Expired) => break (Closed::Lost, true),
                Turn::Ended => break (Closed::Lost, true),
            }
        };
        // What the session leaves to be done is done before the connection is counted as gone.
        self.session.close().await;
        self.stream.finish(client_has_closed, CLOSE_TIMEOUT).await;
        closed
    }

    /// Nothing is read or taken from the session while the client does not take what is written.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        if let Poll::Ready(signal) = self.stream.life().poll_signal(cx) {
            return Poll::Ready(Turn::Signal(signal));
        }
        match self.stream.poll_flush(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Turn::Ended),
            Poll::Pending => return Poll::Pending,
        }
        if self.session.poll_next(cx, &mut self.deliveries).is_ready() {
            return Poll::Ready(Turn::Deliveries);
        }
        match self.stream.poll_next(cx) {
            Poll::Ready(Some(message)) => return Poll::Ready(Turn::Message(message)),
            Poll::Ready(None) => return Poll::Ready(Turn::Ended),
            Poll::Pending => {}
        }
        self.ticks.poll_tick(cx).map(|_| Turn::Tick)
    }

    /// Whether nothing has come for two pings, not even a part of a message.
    fn is_gone(&mut self) -> bool {
        if self.stream.was_heard() {
            self.silent = 0;
        }
        self.silent += 1;
        self.silent > 2
    }

    fn deliver(&mut self) {
        let mut deliveries = std::mem::take(&mut self.deliveries);
        for delivery in deliveries.drain(..) {
            match delivery {
                Delivery::Event { event, .. } => {
                    self.stream.say_framed(event::frame(&event, self.format));
                }
                Delivery::Answer { tag, answer } => {
                    let answer = self.answer(tag, answer);
                    self.say(answer);
                }
            }
        }
        deliveries.shrink_to(16);
        self.deliveries = deliveries;
    }

    fn say(&mut self, payload: Vec<u8>) {
        let kind = if self.format == Format::Json {
            Kind::Text
        } else {
            Kind::Binary
        };
        self.stream.say(kind, payload.into());
    }

    /// Reads a command. A large one waits for its share of the memory, and its client with it.
    async fn read(&mut self, message: &Message) {
        let (format, bytes) = match message {
            Message::Text(text) => (Format::Json, text),
            Message::Binary(bytes) => (self.format, bytes),
            Message::Ping(_) | Message::Pong | Message::Close(_) => return,
        };
        let asked = &self.place.asked;
        let _share = asked.database.room_to_decode(bytes.len()).await;
        let limits = value_limits(&asked.database, &self.site.config);
        let Command { id, operation } =
            command::read_command(bytes, format, &limits, asked.database.tree_limits());
        let submitted = operation.and_then(|operation| self.submit(&id, operation));
        if let Err(problem) = submitted {
            self.say(refusal(self.format, &id, &problem));
        }
    }

    /// Hands a command to the session; its answer comes as a delivery.
    fn submit(&mut self, id: &Value, operation: Operation) -> Result<(), Problem> {
        let asked = &self.place.asked;
        let mut path = operation
            .path
            .clone()
            .unwrap_or_else(|| asked.path().clone());
        write::writable(&path)?;
        let made = (operation.name == Name::Post).then(|| self.site.push_id(&asked.database));
        if let Some(made) = &made {
            path = write::child(asked, &path, made)?;
        }
        let tag = self.next_tag;
        let mut pending = Pending {
            id: id.clone(),
            made,
            exists: None,
        };
        match operation.name {
            Name::Get => self.session.submit_read(tag, path),
            Name::Publish => {
                let message = write::message(
                    operation
                        .value
                        .unwrap_or_else(|| sapwood_value::Spelled::plain(Value::Null)),
                )?;
                if operation.at_end {
                    self.leave_one_more()?;
                    self.session
                        .submit_at_end(tag, &AtEnd::Publish(path, message));
                } else {
                    self.session.submit_publish(tag, path, message);
                }
            }
            Name::Put | Name::Patch | Name::Post | Name::Delete if operation.at_end => {
                let op = write::write_op(operation, path)?;
                self.leave_one_more()?;
                self.session.submit_at_end(tag, &AtEnd::Write(op));
            }
            Name::Put | Name::Patch | Name::Post | Name::Delete => {
                let mut conditions: Vec<(Path, Condition)> = operation
                    .conditions
                    .iter()
                    .map(|condition| (path.clone(), condition.clone()))
                    .collect();
                let op = write::write_op(operation, path.clone())?;
                if op.kind == OpKind::Delete {
                    pending.exists = Some(conditions.len());
                    conditions.push((path, Condition::Exists(true)));
                }
                self.session.submit(
                    tag,
                    Write {
                        ops: vec![op],
                        conditions,
                    },
                );
            }
        }
        self.next_tag += 1;
        self.asked.insert(tag, pending);
        Ok(())
    }

    /// Counts what is left for the end. The session would say that it is busy, which passes; this does not.
    fn leave_one_more(&mut self) -> Result<(), Problem> {
        let max = self.place.asked.database.limits().at_end_max;
        if self.left >= max {
            Limits::met("limits.at_end_max");
            return Err(Problem::new(
                &problem::TOO_MANY_REQUESTS,
                format!("a session leaves at most {max} things to be done at its end"),
            )
            .hint("trying again in this session is of no use"));
        }
        self.left += 1;
        Ok(())
    }

    fn answer(&mut self, tag: u64, answer: Result<Answer, WriteError>) -> Vec<u8> {
        let Pending { id, made, exists } = self.asked.remove(&tag).unwrap_or(Pending {
            id: Value::Null,
            made: None,
            exists: None,
        });
        match answer {
            Ok(Answer::Written(committed)) => accepted(
                self.format,
                &id,
                &[
                    ("version", Value::from(committed.version.to_string())),
                    ("value", made.map_or(Value::Null, Value::from)),
                ],
            ),
            Ok(Answer::Published { receivers }) => {
                accepted(self.format, &id, &[("receivers", event::number(receivers))])
            }
            Ok(Answer::Registered) => accepted(self.format, &id, &[]),
            Ok(Answer::Read(reading)) => match reading.value(self.site.config.body_bytes_max) {
                Ok(Some(value)) => {
                    let version = Value::from(reading.version().to_string());
                    accepted(self.format, &id, &[("value", value), ("version", version)])
                }
                Ok(None) => refusal(
                    self.format,
                    &id,
                    &Problem::new(&problem::NOT_FOUND, "nothing is here"),
                ),
                Err(sapwood_tree::ReadError::TooLarge { limit }) => {
                    let problem = Problem::new(
                        &problem::TOO_LARGE,
                        format!("the value is larger than {limit} bytes"),
                    )
                    .hint("GET streams it at any size");
                    refusal(self.format, &id, &problem)
                }
                Err(_) => refusal(
                    self.format,
                    &id,
                    &Problem::new(&problem::INTERNAL, "the tree could not be read"),
                ),
            },
            Err(WriteError::Conflict { index, .. }) if Some(index) == exists => refusal(
                self.format,
                &id,
                &Problem::new(&problem::NOT_FOUND, "nothing is here"),
            ),
            Err(error) => refusal(self.format, &id, &write::refused(&error)),
        }
    }
}

/// `{"id", "ok": {…}}`; members that are null are left out, unless it is the value read.
fn accepted(format: Format, id: &Value, members: &[(&str, Value)]) -> Vec<u8> {
    let told = || {
        members.iter().filter(|(name, value)| {
            !value.is_null()
                || (*name == "value" && members.first().is_some_and(|(first, _)| first == name))
        })
    };
    let mut out = Vec::with_capacity(96);
    let mut object = Object::begin(format, 2, &mut out);
    object.value("id", id);
    object.key("ok");
    let mut ok = Object::begin(format, told().count(), object.out);
    for (name, value) in told() {
        ok.value(name, value);
    }
    ok.end();
    object.end();
    out
}

/// `{"id", "error": {"code", …}}`.
fn refusal(format: Format, id: &Value, problem: &Problem) -> Vec<u8> {
    let hint = problem.hint_text();
    let mut out = Vec::with_capacity(160);
    let mut object = Object::begin(format, 2, &mut out);
    object.value("id", id);
    object.key("error");
    let mut error = Object::begin(format, 3 + usize::from(hint.is_some()), object.out);
    error.text("code", problem.code());
    error.value("status", &Value::Int(i64::from(problem.status())));
    error.text("detail", problem.detail());
    if let Some(hint) = hint {
        error.text("hint", hint);
    }
    error.end();
    object.end();
    out
}

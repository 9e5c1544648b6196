//! What a watch is told: shared by all who are told it, encoded once for each form.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use sapwood_tree::{OpKind, Path, Payload, TopicValue};
use sapwood_value::{Text, Value};

use crate::Version;
use crate::commit::Commit;
use crate::message::Message;
use crate::session::SessionId;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// The value at the path is now this one; `null` is an absent first state.
    Put,
    /// Some children of the path changed.
    Patch,
    /// Nothing is at the path any more.
    Delete,
    /// Somebody said something to the path.
    Message,
    /// What was told before no longer counts: the full state follows.
    Reset,
    /// Messages were dropped, because the client took them too slowly.
    Gap {
        /// How many.
        dropped: u64,
    },
}

/// One change or message, as a watch is told it.
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// Where, from the root.
    pub path: Path,
    /// The child's name, in the events of a watch over records.
    pub id: Option<Text>,
    /// The commit (absent on messages, and inside a first state).
    pub version: Option<Version>,
    /// The session that wrote or said it; none in a first state, a replay, and where several had a part in it.
    pub origin: Option<SessionId>,
    /// It went because its time was over: nobody removed it.
    pub expired: bool,
    /// When the record that is told goes by itself, in milliseconds since 1970: in a first state, and where the write is told
    /// that says so.
    pub expires_ms: Option<u64>,
    /// Its number, if it is kept for durable sessions.
    pub kept: Option<u64>,
    body: Body,
    forms: [OnceLock<Bytes>; Form::COUNT],
    shared: OnceLock<Arc<dyn Any + Send + Sync>>,
}

/// What an event carries.
#[derive(Debug, Clone, Copy)]
pub enum EventValue<'a> {
    /// Nothing.
    Absent,
    /// A value.
    Value(&'a Value),
    /// The children that changed, `None` for those that went.
    Entries(&'a [(Text, Option<Value>)]),
}

/// A form that an event is encoded in once, for all who get it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The event object in JSON.
    Json,
    /// The event object in CBOR.
    Cbor,
    /// The event object in MessagePack.
    Msgpack,
    /// A block of a server-sent event stream.
    Sse,
}

impl Form {
    const COUNT: usize = 4;
}

/// Where an event's value lives: in the commit that it tells of, where possible, so that it is never copied.
pub(crate) enum Body {
    Absent,
    Value(Value),
    Shared(Arc<TopicValue>),
    Op(Arc<Commit>, usize),
    Message(Arc<Message>),
    /// What a topic says, with its record's payload.
    Topic(TopicValue),
}

impl Event {
    pub(crate) fn new(kind: EventKind, path: Path, version: Option<Version>, body: Body) -> Self {
        Self {
            kind,
            path,
            id: None,
            version,
            origin: None,
            expired: false,
            expires_ms: None,
            kept: None,
            body,
            forms: [const { OnceLock::new() }; Form::COUNT],
            shared: OnceLock::new(),
        }
    }

    pub(crate) fn with_version(mut self, version: Version) -> Self {
        self.version = Some(version);
        self
    }

    pub(crate) fn with_id(mut self, id: Text) -> Self {
        self.id = Some(id);
        self
    }

    pub(crate) fn with_origin(mut self, origin: Option<SessionId>) -> Self {
        self.origin = origin;
        self
    }

    /// The message, if this is one.
    pub fn message(&self) -> Option<&Message> {
        match &self.body {
            Body::Message(message) => Some(message),
            _ => None,
        }
    }

    /// The payload of what is told: of a message that came as one, of a retained publish, of the record that a topic
    /// watch is told. Its bytes are there as long as they say what the value is; [`Payload::encode`] says it in any case.
    pub fn payload(&self) -> Option<&Payload> {
        match &self.body {
            Body::Message(message) => message.payload(),
            Body::Topic(said) => said.payload(),
            Body::Shared(said) => said.payload(),
            Body::Op(commit, index) => match &commit.ops.get(*index)?.kind {
                OpKind::PutRecord { payload, .. } => payload.as_ref(),
                _ => None,
            },
            Body::Absent | Body::Value(_) => None,
        }
    }

    /// What the event carries. A message that came as a payload is decoded by the first call.
    pub fn value(&self) -> EventValue<'_> {
        match &self.body {
            Body::Absent => EventValue::Absent,
            Body::Value(value) => EventValue::Value(value),
            Body::Shared(said) => EventValue::Value(said.value()),
            Body::Op(commit, index) => op_value(commit, *index),
            Body::Message(message) => EventValue::Value(message.value()),
            Body::Topic(said) => EventValue::Value(said.value()),
        }
    }

    /// Something that a door makes of the event the first time that it needs it, and shares from then on: what is the
    /// same for all who are told. There is one such thing for each event; a door that asks for another type gets it
    /// made anew each time.
    pub fn shared<T: Any + Send + Sync>(&self, make: impl Fn(&Self) -> T) -> Arc<T> {
        let shared = self.shared.get_or_init(|| Arc::new(make(self)));
        match Arc::downcast(Arc::clone(shared)) {
            Ok(shared) => shared,
            Err(_) => Arc::new(make(self)),
        }
    }

    /// The event in one form: made by `encode` the first time that somebody asks, shared from then on.
    pub fn encoded(&self, form: Form, encode: impl FnOnce(&Self) -> Bytes) -> Bytes {
        match self.forms.get(form as usize) {
            Some(cell) => cell.get_or_init(|| encode(self)).clone(),
            None => encode(self),
        }
    }

    /// About how many bytes the event takes in a client's outbox.
    pub(crate) fn weight(&self) -> usize {
        const FRAME_BYTES: usize = 96;
        if let Body::Message(message) = &self.body {
            return FRAME_BYTES + self.path.as_str().len() + message.estimated_bytes();
        }
        let value = match self.value() {
            EventValue::Absent => 0,
            EventValue::Value(value) => value.estimated_bytes(),
            EventValue::Entries(entries) => entries
                .iter()
                .map(|(key, value)| key.len() + value.as_ref().map_or(4, Value::estimated_bytes))
                .sum(),
        };
        FRAME_BYTES + self.path.as_str().len() + value
    }
}

fn op_value(commit: &Commit, index: usize) -> EventValue<'_> {
    match commit.ops.get(index).map(|op| &op.kind) {
        Some(OpKind::Put { value, .. }) => EventValue::Value(value),
        Some(OpKind::PutRecord { document, .. }) => EventValue::Value(document),
        Some(OpKind::Merge { entries, .. }) => EventValue::Entries(entries),
        Some(OpKind::Delete | OpKind::DeleteRecord | OpKind::Mark) | None => EventValue::Absent,
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Event")
            .field("kind", &self.kind)
            .field("path", &self.path)
            .field("id", &self.id)
            .field("version", &self.version)
            .field("value", &self.value())
            .finish_non_exhaustive()
    }
}

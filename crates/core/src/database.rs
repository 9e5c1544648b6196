//! One database: a tree with its own log, order and watches.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use sapwood_store::log::{CommitLog, CommitSeq, LogReader, TailError};
use sapwood_store::rows::{RowStore, View, ViewHandle};
use sapwood_tree::{Declared, Path, Settings, TopicValue};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use crate::clock::Clock;
use crate::codec;
use crate::commit::Commit;
use crate::committer::{Committer, Reply, Request, Status};
use crate::decode_room::{DecodeRoom, DecodeShare};
use crate::durable::{self, Durable, DurableId, Durables};
use crate::event::{Body, Event};
use crate::gate::{Claims, Denied, Gate, Operation};
use crate::hub::{
    Batch, HubHandle, HubRequest, HubSettings, Join, JoinReply, MessageReply, Said, hub,
};
use crate::lease::{self, Effect};
use crate::message::Message;
use crate::outbox::{Outbox, Slot};
use crate::queue::Queue;
use crate::read::Reading;
use crate::session::{Connect, Session, SessionId, WatchSpec};
use crate::settings::{Limits, LogSettings};
use crate::watch::From;
use crate::write::{Committed, Write, WriteError};
use crate::{LogId, Version, tell};

/// How much room a waiting write takes at least, in kibibytes.
const WRITE_KIB_MIN: usize = 8;

/// One database. Cheap to clone.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    name: String,
    log: LogId,
    gate: Gate,
    tree: Settings,
    limits: Limits,
    clock: Arc<dyn Clock>,
    queue: Arc<Queue<Request>>,
    hub: HubHandle,
    views: ViewHandle,
    reader: Box<dyn LogReader>,
    /// Room for writes that wait, in kibibytes.
    room: Arc<Semaphore>,
    /// Room for decoding what clients send; all databases share it.
    decoding: DecodeRoom,
    status: Arc<Status>,
    durables: Arc<Durables>,
    runtime: Arc<OnceLock<Handle>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a database is made of when it starts.
pub(crate) struct Parts {
    pub(crate) name: String,
    pub(crate) log: Box<dyn CommitLog>,
    pub(crate) store: RowStore,
    pub(crate) gate: Gate,
    pub(crate) tree: Settings,
    pub(crate) limits: Limits,
    pub(crate) retention: LogSettings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) decoding: DecodeRoom,
}

impl Database {
    /// Starts the committer and the hub over rows that are up to date with their log. The sessions of before the
    /// start have ended when this returns.
    pub(crate) fn start(parts: Parts) -> std::io::Result<Self> {
        let Parts {
            name,
            log,
            store,
            gate,
            tree,
            limits,
            retention,
            clock,
            decoding,
        } = parts;
        let runtime = Arc::default();
        let queue = Arc::new(Queue::new());
        let status = Arc::new(Status::default());
        let settings = HubSettings {
            log: log.id(),
            limits,
            recent_bytes: retention.recent_bytes,
        };
        let handle = hub(store.view(), settings);
        let views = store.handle();
        let view = store.view();
        let unread = |error: sapwood_tree::RowsError| std::io::Error::other(error);
        let any_leases = lease::any(&view).map_err(unread)?;
        let next_expiry = lease::next_expiry(&view).map_err(unread)?;
        let next_ending = lease::next_ending(&view).map_err(unread)?;
        let durables = Arc::new(Durables::load(&view, limits, &name).map_err(unread)?);
        drop(view);
        let database = Self(Arc::new(Inner {
            name: name.clone(),
            log: log.id(),
            gate: gate.clone(),
            tree: tree.clone(),
            limits,
            clock: Arc::clone(&clock),
            queue: Arc::clone(&queue),
            hub: handle.clone(),
            views,
            reader: log.reader(),
            room: Arc::new(Semaphore::new(room_in_all(&limits) as usize)),
            decoding,
            status: Arc::clone(&status),
            durables: Arc::clone(&durables),
            threads: Mutex::new(Vec::new()),
            runtime: Arc::clone(&runtime),
        }));
        let mut committer = Committer {
            queue,
            log,
            store,
            hub: handle.clone(),
            gate,
            tree,
            clock,
            retention,
            status,
            any_leases,
            next_expiry,
            next_ending,
            durables,
            runtime,
        };
        let thread = |what: &str| std::thread::Builder::new().name(format!("{what} {name}"));
        let hub_thread = thread("hub").spawn(move || handle.run())?;
        committer.end_lost_sessions();
        let committer_thread = thread("commit").spawn(move || committer.run())?;
        database
            .0
            .threads
            .lock()
            .extend([committer_thread, hub_thread]);
        Ok(database)
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The id of its commit log, the first part of every version.
    pub fn log_id(&self) -> LogId {
        self.0.log
    }

    /// The declared resources.
    pub fn declared(&self) -> &Declared {
        &self.0.tree.declared
    }

    /// The limits of paths and values.
    pub fn tree_limits(&self) -> &sapwood_tree::Limits {
        &self.0.tree.limits
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Waits until a body of so many bytes may be decoded: large ones share a memory that is bounded
    /// (`limits.decode_bytes_max`). The share is to be held as long as what was decoded is.
    pub async fn room_to_decode(&self, body_bytes: usize) -> DecodeShare {
        self.0.decoding.share(body_bytes).await
    }

    /// The database's time, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.0.clock.now_ms()
    }

    /// Whether writes are taken.
    pub fn is_writable(&self) -> bool {
        let status = &self.0.status;
        !status.failed.load(Ordering::Relaxed) && !status.stalled.load(Ordering::Relaxed)
    }

    /// Connects a client.
    pub fn connect(&self, connect: Connect) -> Session {
        Session::new(self.clone(), connect)
    }

    /// Reads a path as of now.
    ///
    /// # Errors
    /// [`Denied`] if the gate says no.
    pub fn read(&self, claims: &Claims, path: &Path) -> Result<Reading, Denied> {
        self.0.gate.check(claims, Operation::Read(path))?;
        Ok(Reading::new(path.clone(), self.view(), self.0.log))
    }

    /// Writes, and waits until the write is durable at the database's level and seen by every read that begins then.
    ///
    /// # Errors
    /// [`WriteError`]; nothing of the write has happened then.
    pub async fn write(&self, claims: &Claims, write: Write) -> Result<Committed, WriteError> {
        let room = self.room_for(&write);
        let permit = match Arc::clone(&self.0.room).try_acquire_many_owned(room) {
            Ok(permit) => permit,
            // The queue is full: the client's socket waits with it.
            Err(_) => {
                Limits::met("limits.writes_waiting_max");
                Arc::clone(&self.0.room)
                    .acquire_many_owned(room)
                    .await
                    .map_err(|_| WriteError::Unavailable)?
            }
        };
        if self.0.runtime.get().is_none()
            && let Ok(runtime) = Handle::try_current()
        {
            self.0.runtime.set(runtime).ok();
        }
        let (reply, answer) = oneshot::channel();
        let request = Request::Write {
            claims: claims.clone(),
            session: None,
            durable: None,
            write,
            effects: Vec::new(),
            reply: Reply::Caller(reply),
            permit: Some(permit),
        };
        self.enqueue(request)
            .map_err(|()| WriteError::Unavailable)?;
        let answer = answer.await.unwrap_or(Err(WriteError::Unavailable));
        answer.inspect_err(WriteError::count)
    }

    /// Sends a message, and learns how many sessions had it.
    ///
    /// # Errors
    /// [`WriteError::Denied`] if the gate says no; [`WriteError::Unavailable`] while the server stops.
    pub async fn publish(
        &self,
        claims: &Claims,
        path: &Path,
        message: Message,
    ) -> Result<u64, WriteError> {
        self.0
            .gate
            .check(claims, Operation::Publish(path))
            .map_err(|_| WriteError::Denied { path: path.clone() })?;
        let (reply, receivers) = oneshot::channel();
        let kept = message.qos > 0 && self.0.durables.wants(path);
        let said = Said {
            path: path.clone(),
            message: Arc::new(message),
            tag: 0,
            kept: None,
        };
        let batch = Batch {
            said: vec![said],
            origin: None,
            durable: None,
            effects: Vec::new(),
            reply: MessageReply::Caller(reply),
        };
        if kept {
            self.publish_behind(batch);
        } else {
            self.publish_now(batch);
        }
        receivers.await.map_err(|_| WriteError::Unavailable)
    }

    /// Stops the database: what was accepted is answered, and everything is on disk when this returns. Blocking.
    pub(crate) fn stop(&self) {
        self.0.queue.close();
        for thread in std::mem::take(&mut *self.0.threads.lock()) {
            if thread.join().is_err() {
                tracing::error!(
                    database = self.name(),
                    "a thread of the database had panicked"
                );
            }
        }
    }

    /// The room that a write takes while it waits, in kibibytes. One that is larger than all of it waits alone.
    fn room_for(&self, write: &Write) -> u32 {
        room_for(write).min(room_in_all(&self.0.limits))
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.0.gate
    }

    pub(crate) fn view(&self) -> View {
        self.0.views.view()
    }

    pub(crate) fn enqueue(&self, request: Request) -> Result<(), ()> {
        self.0.queue.push(request).map_err(drop)
    }

    /// Sends messages behind the writes that wait.
    pub(crate) fn publish_behind(&self, batch: Batch) {
        if let Err(Request::Publish(batch)) = self.0.queue.push(Request::Publish(batch)) {
            batch.refuse(&WriteError::Unavailable);
        }
    }

    /// Puts a session's write into the queue, if there is room.
    pub(crate) fn submit(
        &self,
        claims: Claims,
        (session, durable): (SessionId, Option<DurableId>),
        write: Write,
        effects: Vec<Effect>,
        reply: Reply,
    ) -> Result<(), WriteError> {
        let permit = Arc::clone(&self.0.room)
            .try_acquire_many_owned(self.room_for(&write))
            .map_err(|_| {
                Limits::met("limits.writes_waiting_max");
                WriteError::Busy
            })?;
        let request = Request::Write {
            claims,
            session: Some(session),
            durable,
            write,
            effects,
            reply,
            permit: Some(permit),
        };
        self.enqueue(request).map_err(|()| WriteError::Unavailable)
    }

    pub(crate) fn durables(&self) -> &Durables {
        &self.0.durables
    }

    /// The durable session of a key, if there is one.
    ///
    /// # Errors
    /// [`WriteError::Unavailable`] if it can't be read.
    pub fn durable(&self, key: &str) -> Result<Option<Durable>, WriteError> {
        let Some(id) = self.0.durables.find(key) else {
            return Ok(None);
        };
        let view = self.view();
        let read = Durable::read(&view, id);
        read.map(Some).map_err(|error| {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a durable session could not be read"
            );
            WriteError::Unavailable
        })
    }

    /// What is kept under a number, and who said it.
    pub(crate) fn kept(&self, number: u64) -> Option<(Event, Option<DurableId>)> {
        let view = self.view();
        let row = durable::kept_row(&view, number).ok()??;
        durable::event(&row, number, &view, self.0.log, self.now_ms())
    }

    pub(crate) fn state_of(&self, claims: &Claims, topic: &Path) -> Option<Event> {
        self.0.gate.check(claims, Operation::Read(topic)).ok()?;
        let view = self.view();
        let said = TopicValue::read(&view, topic, usize::MAX).ok()??;
        let version = Version::new(self.0.log, view.seq());
        Some(tell::topic_event(topic, Body::Topic(said), version))
    }

    /// How many durable sessions there are, their clients being there or not.
    pub fn durable_sessions(&self) -> usize {
        self.0.durables.len()
    }

    pub(crate) fn passed(&self) -> u64 {
        self.0.hub.passed()
    }

    /// Tells messages that go behind no write.
    pub(crate) fn publish_now(&self, batch: Batch) {
        self.0.hub.publish(batch);
    }

    pub(crate) fn tell_hub(&self, request: HubRequest) {
        self.0.hub.tell(request);
    }

    pub(crate) fn join(
        &self,
        spec: WatchSpec,
        session: SessionId,
        slot: Slot,
        outbox: Arc<Outbox>,
        from: &From,
    ) -> oneshot::Receiver<JoinReply> {
        let (reply, receiver) = oneshot::channel();
        let join = Join {
            spec,
            session,
            slot,
            outbox,
            from: from.seq,
            skip: from.skip,
            view: from.view.clone(),
        };
        self.tell_hub(HubRequest::Join { join, reply });
        receiver
    }

    /// Has a watch's messages delivered from now on; and its changes, if it is a group's, else not until it joins.
    pub(crate) fn listen(
        &self,
        spec: WatchSpec,
        session: SessionId,
        slot: Slot,
        outbox: Arc<Outbox>,
    ) {
        let from = match &spec {
            WatchSpec::Group { .. } => self.view().seq(),
            _ => u64::MAX,
        };
        self.tell_hub(HubRequest::Listen {
            spec,
            session,
            slot,
            outbox,
            from,
        });
    }

    /// Ends a watch; `left` is what it was told for a group, and has not taken.
    pub(crate) fn leave(
        &self,
        spec: WatchSpec,
        session: SessionId,
        slot: Slot,
        left: Vec<Arc<Event>>,
    ) {
        self.tell_hub(HubRequest::Leave {
            spec,
            session,
            slot,
            left,
        });
    }

    /// The commits after one, as many as fit `bytes_max`. Blocking.
    pub(crate) fn read_log(
        &self,
        after: u64,
        bytes_max: usize,
    ) -> Result<Vec<Arc<Commit>>, LogError> {
        let entries = self.0.reader.read(CommitSeq(after + 1), bytes_max)?;
        entries
            .iter()
            .map(|(seq, entry)| Ok(Arc::new(codec::decode(seq.0, entry)?)))
            .collect()
    }
}

/// Why the change log could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error(transparent)]
    Tail(#[from] TailError),
    #[error(transparent)]
    Entry(#[from] codec::EntryError),
}

/// The room for writes that wait, in kibibytes.
fn room_in_all(limits: &Limits) -> u32 {
    let kib = limits.writes_waiting_max.saturating_mul(WRITE_KIB_MIN);
    u32::try_from(kib.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX)
}

/// The room that a write takes by what it holds, in kibibytes.
fn room_for(write: &Write) -> u32 {
    use sapwood_tree::OpKind;
    let value_bytes = |kind: &OpKind| match kind {
        OpKind::Put { value, .. }
        | OpKind::PutRecord {
            document: value, ..
        } => value.estimated_bytes(),
        OpKind::Merge { entries, .. } => entries
            .iter()
            .map(|(_, value)| {
                value
                    .as_ref()
                    .map_or(0, sapwood_value::Value::estimated_bytes)
            })
            .sum(),
        OpKind::Delete | OpKind::DeleteRecord | OpKind::Mark => 0,
    };
    let bytes: usize = write.ops.iter().map(|op| value_bytes(&op.kind) + 256).sum();
    u32::try_from((bytes / 1024).max(WRITE_KIB_MIN)).unwrap_or(u32::MAX)
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

//! One client: its watches, its requests, its outbox, and what is done when it ends.

use std::collections::HashSet;
use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use sapwood_tree::{Path, TopicFilter};
use sapwood_value::Text;

use crate::committer::{Reply, Request};
use crate::database::Database;
use crate::durable::{Claim, DurableChange, DurableId, KeptBounds, last_of};
use crate::event::{Body, Event, EventKind};
use crate::gate::{Claims, Operation};
use crate::hub::{Batch, HubRequest, MessageReply, Said};
use crate::lease::Effect;
use crate::message::Message;
use crate::outbox::{Drained, Outbox, OutboxLimits, Parcel, Slot, SoftLimit};
use crate::read::Reading;
use crate::settings::Limits;
use crate::watch::{Produced, Watch};
use crate::write::{AtEnd, Committed, Write, WriteError};
use crate::{Version, codec};

/// A session's id. No two sessions ever share one, not across a restart either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub(crate) u64);

impl SessionId {
    /// As bytes, for who has to find it again.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// Reads [`SessionId::to_bytes`].
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// How somebody is connected.
#[derive(Debug, Clone)]
pub struct Connect {
    /// The protocol's name, for logs and presence.
    pub protocol: &'static str,
    /// The client's address.
    pub peer: Option<SocketAddr>,
    /// Who it is.
    pub claims: Claims,
}

/// One of a session's watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId(pub(crate) u32);

impl WatchId {
    pub(crate) fn slot(self) -> Slot {
        Slot(self.0)
    }
}

/// What to watch (design, section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchSpec {
    /// Everything at and below a path, as changes of one tree.
    Tree(Path),
    /// The children of a path, each with its whole value, whatever changed in it.
    Children(Path),
    /// One record, with its whole value, whatever changed in it.
    Record(Path),
    /// What the topics say that a filter matches.
    Topic(TopicFilter),
    /// A share of that: of each event, one of those is told who watch by the same name and filter; whoever is least busy,
    /// else in turns. It begins with what happens next, whatever [`Start`] says. What a member that leaves or ends has
    /// not taken goes to the others.
    Group {
        /// The group's name.
        name: Text,
        /// What the group is told.
        filter: TopicFilter,
    },
}

/// Where a watch begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With the state as it is, then its changes.
    State,
    /// With what happened since a version; with a reset and the state, if that is not known any more.
    Since(Version),
    /// With the next change.
    Now,
}

/// What comes for a session.
#[derive(Debug)]
pub enum Delivery {
    /// A watch is told something.
    Event {
        /// Which.
        watch: WatchId,
        /// What.
        event: Arc<Event>,
    },
    /// A request is answered.
    Answer {
        /// The request's tag.
        tag: u64,
        /// Its answer.
        answer: Result<Answer, WriteError>,
    },
}

/// How a durable session begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// From nothing; the one that has the key until then ends.
    Anew {
        /// That one.
        instead_of: Option<DurableId>,
    },
    /// Where it was left.
    GoOn(DurableId),
}

/// What a request came to.
#[derive(Debug)]
pub enum Answer {
    /// The write is durable.
    Written(Committed),
    /// The path as it is, behind every event that led to it.
    Read(Reading),
    /// A message reached so many.
    Published {
        /// How many sessions.
        receivers: u64,
    },
    /// It will be done when the session ends.
    Registered,
}

/// An answer on its way through committer and hub.
#[derive(Debug)]
pub(crate) enum Outcome {
    Written(Result<Committed, WriteError>),
    Read(Reading),
    Registered,
}

/// Why a watch was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The gate said no.
    #[error("no rule allows to watch this")]
    Denied,
    /// The session has as many watches as one may have.
    #[error("a session has at most {max} watches")]
    TooMany {
        /// The limit.
        max: usize,
    },
}

/// One client. Whoever holds it serves one connection; dropping it ends the session: its watches go, what it owns goes, and what it
/// left to be done is done.
pub struct Session {
    database: Database,
    id: SessionId,
    claims: Claims,
    /// The durable session that this connection is of.
    durable: Option<DurableId>,
    outbox: Arc<Outbox>,
    watches: Vec<(WatchId, Watch)>,
    /// The watches that there are: what still waits for others is not delivered.
    slots: HashSet<Slot>,
    numbers: u32,
    at_end: u32,
    /// The server has something to do when this session ends.
    leaves: bool,
    in_flight: usize,
    seen: u64,
    /// Messages on their way out: many go together.
    said: Vec<Said>,
    /// What changes with them.
    said_with: Vec<Effect>,
    /// Whether one of them is to be kept for somebody.
    said_durably: bool,
    /// Room for what the outbox has; empty but for a moment.
    drained: Drained,
}

/// So many messages are sent together.
const SAID_MAX: usize = 64;

impl Session {
    pub(crate) fn new(database: Database, connect: Connect) -> Self {
        let limits = database.limits();
        let outbox = OutboxLimits {
            bytes_max: limits.outbox_bytes_max,
            events_max: limits.outbox_events_max,
        };
        let soft = SoftLimit {
            bytes_max: limits.outbox_soft_bytes_max,
            lasting: Duration::from_secs(limits.outbox_soft_s),
        };
        metrics::counter!("sapwood_sessions_total", "protocol" => connect.protocol).increment(1);
        Self {
            id: SessionId(rand::random::<u64>().max(1)),
            claims: connect.claims,
            durable: None,
            outbox: Arc::new(Outbox::new(outbox).with_soft(soft)),
            watches: Vec::new(),
            slots: HashSet::new(),
            numbers: 0,
            at_end: 0,
            leaves: false,
            in_flight: 0,
            seen: 0,
            said: Vec::new(),
            said_with: Vec::new(),
            said_durably: false,
            drained: Drained::default(),
            database,
        }
    }

    /// The session's id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The newest commit that everything told so far is behind; what a client may resume from. It moves on with commits that say
    /// nothing to this session, too.
    pub fn last_seen(&self) -> Version {
        // Looked at in this order: whatever those commits say to the session is in the outbox by then.
        let passed = self.database.passed();
        let all_told =
            self.watches.iter().all(|(_, watch)| watch.is_live()) && self.outbox.is_empty();
        let seen = if all_told {
            self.seen.max(passed)
        } else {
            self.seen
        };
        Version::new(self.database.log_id(), seen)
    }

    /// Watches something.
    ///
    /// # Errors
    /// [`WatchError`] if the gate says no, or the session has too many.
    pub fn watch(&mut self, spec: WatchSpec, start: Start) -> Result<WatchId, WatchError> {
        self.flush();
        let operation = match &spec {
            WatchSpec::Tree(path) | WatchSpec::Children(path) | WatchSpec::Record(path) => {
                Operation::Read(path)
            }
            WatchSpec::Topic(filter) | WatchSpec::Group { filter, .. } => {
                Operation::Subscribe(filter)
            }
        };
        self.database
            .gate()
            .check(&self.claims, operation)
            .map_err(|_| WatchError::Denied)?;
        let max = self.database.limits().watches_max;
        if self.watches.len() >= max {
            Limits::met("limits.watches_max");
            return Err(WatchError::TooMany { max });
        }
        let group = matches!(spec, WatchSpec::Group { .. });
        let slot = Slot::new(self.next_number(), group);
        let id = WatchId(slot.0);
        if group {
            self.outbox.join_group(slot);
        }
        let has = self.has_already(if group { &Start::Now } else { &start });
        self.seen = if self.watches.is_empty() {
            has
        } else {
            self.seen.min(has)
        };
        // Messages come at once, changes when the state has been told.
        self.slots.insert(id.slot());
        self.database
            .listen(spec.clone(), self.id, id.slot(), Arc::clone(&self.outbox));
        let watch = Watch::new(&self.database, spec, start);
        self.watches.push((id, watch));
        Ok(id)
    }

    /// The commit up to which a client has everything that begins so.
    fn has_already(&self, start: &Start) -> u64 {
        match start {
            Start::Since(version) if version.log == self.database.log_id() => version
                .seq
                .saturating_sub(u64::from(version.part.is_some())),
            Start::State | Start::Since(_) => 0,
            Start::Now => self.database.view().seq(),
        }
    }

    /// Ends a watch. Nothing more comes for it.
    pub fn unwatch(&mut self, id: WatchId) {
        self.flush();
        if let Some(index) = self.watches.iter().position(|(other, _)| *other == id) {
            let (_, watch) = self.watches.swap_remove(index);
            self.leave(id, &watch);
        }
    }

    /// Submits a write; its answer comes behind the events of every commit that it was decided on.
    pub fn submit(&mut self, tag: u64, write: Write) {
        self.submit_with(tag, write, Vec::new());
    }

    /// [`Session::submit`], with changes to the session's own durable state: both are done, or neither.
    pub fn submit_with(&mut self, tag: u64, write: Write, changes: Vec<DurableChange>) {
        self.leaves |= write.ops.iter().any(|op| op.owner);
        let effects = effects(self.durable, changes).collect();
        self.send(tag, write, effects);
    }

    /// Begins a durable session under a key, in place of one that there may be, or goes on with one. From then on, what
    /// this session says about [itself](DurableChange) is said about that. Answered when it is durable.
    pub fn submit_begin(&mut self, tag: u64, key: &str, expiry_s: u32, before: Begin) {
        let id = match before {
            Begin::Anew { .. } => DurableId::random(),
            Begin::GoOn(id) => id,
        };
        self.durable = Some(id);
        self.outbox.keeps();
        let mut changes = Vec::new();
        if let Begin::Anew {
            instead_of: Some(other),
        } = before
        {
            changes.push(Effect::Durable {
                id: other,
                change: DurableChange::End,
            });
        }
        let change = match before {
            Begin::Anew { .. } => DurableChange::Begin {
                key: key.into(),
                expiry_s,
            },
            Begin::GoOn(_) => DurableChange::Back { expiry_s },
        };
        changes.push(Effect::Durable { id, change });
        self.send(tag, Write::default(), changes);
    }

    /// Ends a durable session that nobody is to go on with.
    pub fn submit_end(&mut self, tag: u64, id: DurableId) {
        let change = DurableChange::End;
        self.send(tag, Write::default(), vec![Effect::Durable { id, change }]);
    }

    /// Changes the session's own durable state. Answered when it is durable.
    pub fn submit_changes(&mut self, tag: u64, changes: Vec<DurableChange>) {
        self.flush();
        // It does not count as a request: it comes of those that have counted.
        let reply = Reply::Session {
            outbox: Arc::clone(&self.outbox),
            tag,
        };
        self.outbox.commits();
        if let Err(error) = self.send_changes(changes, reply) {
            self.outbox.committed(1);
            self.outbox.answer(tag, Outcome::Written(Err(error)));
        }
    }

    /// [`Session::close`], with last changes to the session's own durable state, which are durable when this returns.
    ///
    /// # Errors
    /// [`WriteError`] if they could not be written; the session has ended all the same.
    pub async fn close_with(mut self, changes: Vec<DurableChange>) -> Result<(), WriteError> {
        self.flush();
        let (reply, answer) = tokio::sync::oneshot::channel();
        let done = match self.send_changes(changes, Reply::Caller(reply)) {
            Ok(()) => answer.await.unwrap_or(Err(WriteError::Unavailable)),
            Err(error) => Err(error),
        };
        self.close().await;
        done.map(drop)
    }

    /// Sends changes to the committer. They need no room: they come of what has had some.
    fn send_changes(&self, changes: Vec<DurableChange>, reply: Reply) -> Result<(), WriteError> {
        let request = Request::Write {
            claims: self.claims.clone(),
            session: Some(self.id),
            durable: self.durable,
            write: Write::default(),
            effects: effects(self.durable, changes).collect(),
            reply,
            permit: None,
        };
        let sent = self.database.enqueue(request);
        sent.map_err(|()| WriteError::Unavailable)
    }

    /// What a topic says now, as a first state tells it; none if it says nothing.
    pub fn state_of(&self, topic: &Path) -> Option<Arc<Event>> {
        self.database.state_of(&self.claims, topic).map(Arc::new)
    }

    /// The durable session that this one is of.
    pub fn durable(&self) -> Option<DurableId> {
        self.durable
    }

    /// Whether all watches have told their first state, and what happened meanwhile.
    pub fn is_live(&self) -> bool {
        self.watches.iter().all(|(_, watch)| watch.is_live())
    }

    /// Whether all watches have told their first state.
    pub fn has_begun(&self) -> bool {
        self.watches.iter().all(|(_, watch)| watch.has_begun())
    }

    /// The numbers of what is kept for this durable session behind `after`, in order, the first `max` of them.
    pub fn kept_after(&self, after: u64, max: usize) -> Vec<u64> {
        // What is newer than the rows can't be read yet; it is told.
        let until = last_of(self.database.view().seq());
        let durables = self.database.durables();
        let mut numbers = self
            .durable
            .map(|id| durables.after(id, after, max))
            .unwrap_or_default();
        numbers.retain(|number| *number <= until);
        numbers
    }

    /// How much is kept for this durable session behind `after`, and where to begin so that it is not more than so many
    /// messages and bytes.
    pub fn kept_bounds(&self, after: u64, messages_max: usize, bytes_max: usize) -> KeptBounds {
        let durables = self.database.durables();
        self.durable
            .map(|id| durables.bounds(id, after, messages_max, bytes_max))
            .unwrap_or_default()
    }

    /// Claims something that was told to a group, before it is delivered.
    pub fn claim(&self, share: &str, filter: &TopicFilter, number: u64) -> Claim {
        let name = (share.into(), filter.clone());
        self.database.durables().claim(&name, number, self.id)
    }

    /// Claims what waits for a durable group, the first `max` of it; and the group's id, if it is one.
    pub fn claim_waiting(
        &self,
        share: &str,
        filter: &TopicFilter,
        max: usize,
    ) -> Option<(DurableId, Vec<u64>)> {
        let name = (share.into(), filter.clone());
        let until = last_of(self.database.view().seq());
        let durables = self.database.durables();
        durables.claim_waiting(&name, (max, until), self.id)
    }

    /// What was claimed for a group is settled just now: it is not given back when the session leaves.
    pub fn stays_claimed(&self, share: &str, filter: &TopicFilter, number: u64) {
        let name = (share.into(), filter.clone());
        self.database.durables().stays(&name, number, self.id);
    }

    /// Gives back something claimed for a group: it has no room for it now.
    pub fn release(&self, share: &str, filter: &TopicFilter, number: u64) {
        let name = (share.into(), filter.clone());
        self.database.durables().release(&name, number, self.id);
    }

    /// What is kept under a number, as it was told; none if it is kept no longer, or its time is over.
    pub fn kept(&self, number: u64) -> Option<Arc<Event>> {
        let (mut event, origin) = self.database.kept(number)?;
        if origin.is_some() && origin == self.durable {
            event.origin = Some(self.id);
        }
        Some(Arc::new(event))
    }

    /// Reads a path; the answer comes behind the events of every commit that it shows.
    pub fn submit_read(&mut self, tag: u64, path: Path) {
        self.flush();
        if self.refused_as_busy(tag) {
            return;
        }
        match self.database.read(&self.claims, &path) {
            Ok(reading) => self.behind(tag, reading.version().seq, Outcome::Read(reading)),
            Err(_) => self
                .outbox
                .answer(tag, Outcome::Written(Err(WriteError::Denied { path }))),
        }
    }

    /// Sends a message, behind the session's own writes. Many go together: when the session is next polled, flushed, asked
    /// for something else, or ended.
    pub fn submit_publish(&mut self, tag: u64, path: Path, message: Message) {
        self.submit_publish_with(tag, path, message, Vec::new());
    }

    /// [`Session::submit_publish`], with changes to the session's own durable state: both are done, or neither. Then the
    /// answer comes when they are durable.
    pub fn submit_publish_with(
        &mut self,
        tag: u64,
        path: Path,
        message: Message,
        changes: Vec<DurableChange>,
    ) {
        if self.refused_as_busy(tag) {
            return;
        }
        if self
            .database
            .gate()
            .check(&self.claims, Operation::Publish(&path))
            .is_err()
        {
            return self
                .outbox
                .answer(tag, Outcome::Written(Err(WriteError::Denied { path })));
        }
        self.said_durably |= message.qos > 0 && self.database.durables().wants(&path);
        let with = effects(self.durable, changes);
        self.said_with.extend(with);
        let message = Arc::new(message);
        self.said.push(Said {
            path,
            message,
            tag,
            kept: None,
        });
        if self.said.len() >= SAID_MAX {
            self.flush();
        }
    }

    /// Sends the messages that wait to go together. Who does not poll the session soon after publishing calls this.
    pub fn flush(&mut self) {
        if self.said.is_empty() {
            return;
        }
        let effects = std::mem::take(&mut self.said_with);
        // Behind a write that is under way they take its way.
        let durably = std::mem::take(&mut self.said_durably) || !effects.is_empty();
        let committed = durably || self.outbox.is_committing();
        let batch = Batch {
            said: std::mem::take(&mut self.said),
            origin: Some(self.id),
            durable: self.durable,
            effects,
            reply: MessageReply::Session {
                outbox: Arc::clone(&self.outbox),
                committed,
            },
        };
        if !committed {
            return self.database.publish_now(batch);
        }
        self.outbox.commits();
        self.database.publish_behind(batch);
    }

    /// Leaves something to be done when this session ends. Answered when it is durable.
    pub fn submit_at_end(&mut self, tag: u64, at_end: &AtEnd) {
        if self.at_end as usize >= self.database.limits().at_end_max {
            Limits::met("limits.at_end_max");
            return self.refuse(tag, WriteError::Busy);
        }
        self.leaves = true;
        self.at_end += 1;
        let effect = Effect::AtEnd {
            session: self.id,
            number: self.next_number(),
            what: codec::encode_at_end(at_end),
        };
        self.send(tag, Write::default(), vec![effect]);
    }

    /// Forgets what the session left to be done at its end. What it owns still goes then. Answered when it is durable.
    pub fn forget_at_end(&mut self, tag: u64) {
        self.at_end = 0;
        let effect = Effect::Forgotten { session: self.id };
        self.send(tag, Write::default(), vec![effect]);
    }

    /// Has what the session left be done at a time, in milliseconds since 1970, if it has not ended by then: also where the
    /// server has died meanwhile. Answered when it is durable.
    pub fn submit_ends_at(&mut self, tag: u64, at_ms: u64) {
        let session = self.id;
        self.send(
            tag,
            Write::default(),
            vec![Effect::EndsAt { session, at_ms }],
        );
    }

    /// Leaves without ending: what is left to be done is done at [its time](Self::submit_ends_at).
    pub fn abandon(mut self) {
        self.leaves = false;
    }

    /// Takes over what a session of before has left to be done, whose client has come back: it is done at this session's
    /// end at the latest, or [forgotten](Self::forget_at_end). For a session that has left nothing itself.
    pub fn adopt(&mut self, other: SessionId) {
        self.id = other;
        self.leaves = true;
    }

    /// Says how many events that it took are still on their way to its client: groups prefer those who hold less.
    pub fn holds(&self, events: usize) {
        self.outbox.holds(events);
    }

    /// Waits until something is there, then appends all that is there to `out`, in order.
    ///
    /// Cancel-safe: what has been appended is delivered, and nothing else is lost.
    pub async fn next(&mut self, out: &mut Vec<Delivery>) {
        poll_fn(|cx| self.poll_next(cx, out)).await;
    }

    /// Ends the session; what it leaves is done when this returns.
    pub async fn close(mut self) {
        if let Some(done) = self.end() {
            // The committer answers, or has stopped: then it is done at the next start.
            drop(done.await);
        }
    }

    /// [`Session::next`] as a poll.
    pub fn poll_next(&mut self, cx: &mut Context<'_>, out: &mut Vec<Delivery>) -> Poll<()> {
        let before = out.len();
        if !self.said.is_empty() {
            // The answers may be there before this returns, and nobody need be woken for them.
            self.outbox.hush();
            self.flush();
        }
        let mut drained = std::mem::take(&mut self.drained);
        if self.outbox.poll_drain(cx.waker(), &mut drained).is_ready() {
            self.deliver(&mut drained, out);
        }
        self.drained = drained;
        self.poll_watches(cx, out);
        if out.len() > before {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Appends the answers that are there, and leaves all else where it is: for who can't take anything just now, but must
    /// know what has become of what it asked for. Wakes when anything comes.
    pub fn poll_answers(&mut self, cx: &mut Context<'_>, out: &mut Vec<Delivery>) -> Poll<()> {
        let before = out.len();
        self.flush();
        let mut answers = Drained {
            parcels: self.outbox.take_answers(cx.waker()),
            ..Drained::default()
        };
        self.deliver(&mut answers, out);
        if out.len() > before {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn poll_watches(&mut self, cx: &mut Context<'_>, out: &mut Vec<Delivery>) {
        let Self {
            watches,
            database,
            outbox,
            id: session,
            seen,
            ..
        } = self;
        for (id, watch) in watches.iter_mut().filter(|(_, watch)| !watch.is_live()) {
            let Produced { events, seen: told } = watch.poll(cx, database, |spec, from| {
                database.join(spec.clone(), *session, id.slot(), Arc::clone(outbox), &from)
            });
            *seen = (*seen).max(told);
            out.extend(
                events
                    .into_iter()
                    .map(|event| Delivery::Event { watch: *id, event }),
            );
        }
    }

    fn deliver(&mut self, drained: &mut Drained, out: &mut Vec<Delivery>) {
        out.reserve(drained.parcels.len());
        if self.durable.is_some() {
            // What was dropped may have come before what follows: it is read before that is taken.
            self.deliver_gaps(drained, out);
        }
        let mut known = None;
        for parcel in drained.parcels.drain(..) {
            match parcel {
                Parcel::Event(slot, event) => {
                    if known != Some(slot) {
                        if !self.slots.contains(&slot) {
                            continue;
                        }
                        known = Some(slot);
                    }
                    if let Some(version) = &event.version
                        && version.part.is_none()
                    {
                        self.seen = self.seen.max(version.seq);
                    }
                    out.push(Delivery::Event {
                        watch: WatchId(slot.0),
                        event,
                    });
                }
                Parcel::Published(tag, receivers) => {
                    self.in_flight = self.in_flight.saturating_sub(1);
                    let answer = Ok(Answer::Published { receivers });
                    out.push(Delivery::Answer { tag, answer });
                }
                Parcel::Answer(tag, outcome) => {
                    self.in_flight = self.in_flight.saturating_sub(1);
                    let answer = answer(*outcome);
                    out.push(Delivery::Answer { tag, answer });
                }
            }
        }
        self.deliver_gaps(drained, out);
        for slot in drained.lost.drain(..) {
            self.restart(slot);
        }
    }

    fn deliver_gaps(&self, drained: &mut Drained, out: &mut Vec<Delivery>) {
        for (slot, dropped) in drained.dropped.drain(..) {
            if self.slots.contains(&slot) {
                let watch = WatchId(slot.0);
                let path = self.path_of(watch);
                metrics::counter!("sapwood_messages_dropped_total").increment(dropped);
                let event = Event::new(EventKind::Gap { dropped }, path, None, Body::Absent);
                out.push(Delivery::Event {
                    watch,
                    event: Arc::new(event),
                });
            }
        }
    }

    /// A watch fell too far behind: it begins again, and says so.
    fn restart(&mut self, slot: Slot) {
        if let Some((_, watch)) = self.watches.iter_mut().find(|(id, _)| id.slot() == slot) {
            metrics::counter!("sapwood_watches_reset_total").increment(1);
            self.database.listen(
                watch.spec().clone(),
                self.id,
                slot,
                Arc::clone(&self.outbox),
            );
            watch.reset(&self.database);
        }
    }

    fn path_of(&self, id: WatchId) -> Path {
        let watch = self.watches.iter().find(|(other, _)| *other == id);
        watch.map_or_else(Path::root, |(_, watch)| watch.path())
    }

    fn send(&mut self, tag: u64, write: Write, effects: Vec<Effect>) {
        self.flush();
        if self.refused_as_busy(tag) {
            return;
        }
        let reply = Reply::Session {
            outbox: Arc::clone(&self.outbox),
            tag,
        };
        self.outbox.commits();
        if let Err(error) = self.database.submit(
            self.claims.clone(),
            (self.id, self.durable),
            write,
            effects,
            reply,
        ) {
            self.outbox.committed(1);
            self.outbox.answer(tag, Outcome::Written(Err(error)));
        }
    }

    /// Counts a request in, or refuses it if too many are unanswered.
    fn refused_as_busy(&mut self, tag: u64) -> bool {
        self.in_flight += 1;
        let busy = self.in_flight > self.database.limits().requests_in_flight_max;
        if busy {
            Limits::met("limits.requests_in_flight_max");
            self.outbox
                .answer(tag, Outcome::Written(Err(WriteError::Busy)));
        }
        busy
    }

    fn refuse(&mut self, tag: u64, error: WriteError) {
        self.in_flight += 1;
        self.outbox.answer(tag, Outcome::Written(Err(error)));
    }

    /// Puts an answer behind the events up to a commit.
    fn behind(&self, tag: u64, seq: u64, outcome: Outcome) {
        let request = HubRequest::Answer {
            behind: seq,
            outbox: Arc::clone(&self.outbox),
            tag,
            outcome,
        };
        self.database.tell_hub(request);
    }

    fn next_number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }

    fn leave(&mut self, id: WatchId, watch: &Watch) {
        self.slots.remove(&id.slot());
        let mut left = self.outbox.leave_group(id.slot());
        if let WatchSpec::Group { name, filter } = watch.spec() {
            // What it has not settled is another member's, now or later: one is told to look for it, so that it comes in
            // order.
            let name = (name.clone(), filter.clone());
            if self.database.durables().release_all(&name, self.id) {
                left.retain(|event| event.kept.is_none());
                let kind = EventKind::Gap { dropped: 0 };
                let look = Event::new(kind, watch.path(), None, Body::Absent);
                left.push(Arc::new(look));
            }
        }
        self.database
            .leave(watch.spec().clone(), self.id, id.slot(), left);
    }

    fn end(&mut self) -> Option<tokio::sync::oneshot::Receiver<()>> {
        self.flush();
        for (id, watch) in std::mem::take(&mut self.watches) {
            self.leave(id, &watch);
        }
        self.outbox.close();
        if !std::mem::take(&mut self.leaves) {
            return None;
        }
        let (done, receiver) = tokio::sync::oneshot::channel();
        let request = Request::EndSession {
            session: self.id,
            claims: self.claims.clone(),
            done,
        };
        // A committer that has stopped finds the session at the next start.
        self.database.enqueue(request).is_ok().then_some(receiver)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.end());
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn effects(id: Option<DurableId>, changes: Vec<DurableChange>) -> impl Iterator<Item = Effect> {
    let for_a_group = |change: &DurableChange| matches!(change, DurableChange::SettleFor { .. });
    debug_assert!(
        id.is_some() || changes.iter().all(for_a_group),
        "only a durable session has such state"
    );
    let id = id.unwrap_or(DurableId(0));
    let changes = changes.into_iter();
    changes.map(move |change| Effect::Durable { id, change })
}

fn answer(outcome: Outcome) -> Result<Answer, WriteError> {
    match outcome {
        Outcome::Written(written) => written.inspect_err(WriteError::count).map(Answer::Written),
        Outcome::Read(reading) => Ok(Answer::Read(reading)),
        Outcome::Registered => Ok(Answer::Registered),
    }
}

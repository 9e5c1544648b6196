//! A session's bounded outbound queue.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use sapwood_tree::Path;
use tokio::time::Instant;

use crate::event::{Event, EventKind};
use crate::session::Outcome;
use crate::settings::Limits;

/// How much may wait for one client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutboxLimits {
    /// In bytes. An event larger than this goes alone, when the outbox is empty.
    pub(crate) bytes_max: usize,
    /// In events.
    pub(crate) events_max: usize,
}

/// How much may wait for one client for longer than a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SoftLimit {
    /// In bytes.
    pub(crate) bytes_max: usize,
    /// More than that may wait for so long.
    pub(crate) lasting: Duration,
}

/// With as much waiting as this, a session is to write, and more need not be gathered.
const BATCH_EVENTS: usize = 64;
const BATCH_BYTES: usize = 64 << 10;

/// A watch, as the hub and the outbox know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Slot(pub(crate) u32);

impl Slot {
    /// The slot of a session's watch of that number. Slots grow with the numbers; the odd ones are of watches in groups.
    pub(crate) fn new(number: u32, group: bool) -> Self {
        Self(number << 1 | u32::from(group))
    }

    /// What a group's watch is told is no state: it is not told anew.
    fn is_of_group(self) -> bool {
        self.0 & 1 != 0
    }
}

/// Something for a session.
#[derive(Debug)]
pub(crate) enum Parcel {
    Event(Slot, Arc<Event>),
    /// The message of that tag reached so many sessions.
    Published(u64, u64),
    Answer(u64, Box<Outcome>),
}

/// An event with its weight, counted once for all who are told it.
#[derive(Debug, Clone)]
pub(crate) struct Weighed {
    pub(crate) event: Arc<Event>,
    pub(crate) weight: usize,
}

impl Weighed {
    pub(crate) fn new(event: Event) -> Self {
        let weight = event.weight();
        let event = Arc::new(event);
        Self { event, weight }
    }
}

/// A session's spare queue has room for so many, whatever was in it.
const SPARE: usize = 32;

/// What the session finds when it looks; kept by it, so that the queue's room is used again.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    pub(crate) parcels: VecDeque<Parcel>,
    /// Watches whose state no longer fits: they begin again with a first state.
    pub(crate) lost: Vec<Slot>,
    /// Messages that were dropped, by watch.
    pub(crate) dropped: Vec<(Slot, u64)>,
}

/// The queue between the hub (and the committer), which fill it without ever waiting, and the
/// session, which empties it whenever its socket has room.
///
/// Its size is bounded, and more tightly where it stays filled. When it is full, states are conflated: the newest event
/// of each path stays, and a put drops those below it. Where the paths alone are too many, the watch is lost and starts
/// over with a first state. Messages are dropped and counted.
#[derive(Debug)]
pub(crate) struct Outbox {
    limits: OutboxLimits,
    soft: Option<SoftLimit>,
    /// Events that the session took, and its client has not got yet.
    held: AtomicUsize,
    /// Requests of the session that are with the committer, and not answered.
    committing: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    parcels: VecDeque<Parcel>,
    bytes: usize,
    events: usize,
    /// Since when more than the soft limit waits.
    filled_since: Option<Instant>,
    lost: Vec<Slot>,
    /// Watches that are told no states until they join again.
    deaf: Vec<Slot>,
    dropped: Vec<(Slot, u64)>,
    /// The watches that are members of a group.
    members: Vec<Slot>,
    waker: Option<Waker>,
    closed: bool,
    /// What is kept for durable sessions is kept for this one, too: it is not conflated, but read again.
    keeps: bool,
}

impl Outbox {
    pub(crate) fn new(limits: OutboxLimits) -> Self {
        Self {
            limits,
            soft: None,
            held: AtomicUsize::new(0),
            committing: AtomicUsize::new(0),
            inner: Mutex::new(Inner::default()),
        }
    }

    /// With a limit for what waits long.
    pub(crate) fn with_soft(self, soft: SoftLimit) -> Self {
        Self {
            soft: Some(soft),
            ..self
        }
    }

    /// Puts an event into the queue; `weight` is the event's, counted once for all who get it. Gives the session's waker,
    /// for the caller to call when it has told all that it has, unless so much waits that it is called right here.
    #[must_use]
    pub(crate) fn push(&self, slot: Slot, event: &Arc<Event>, weight: usize) -> Option<Waker> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return None;
        }
        if !is_message(slot, event) && inner.deaf.contains(&slot) {
            if inner.is_read_again(event) {
                inner.drop_message(slot);
            }
            return None;
        }
        match self.full(&inner, weight) {
            Some((limits, setting)) => {
                Limits::met(setting);
                inner.conflate(limits, slot, event, weight);
            }
            None => inner.take_in(slot, event, weight),
        }
        self.to_wake(inner)
    }

    /// Puts messages into the queue together, as [`Outbox::push`].
    #[must_use]
    pub(crate) fn push_all(&self, slot: Slot, messages: &[Weighed]) -> Option<Waker> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return None;
        }
        for Weighed { event, weight } in messages {
            match self.full(&inner, *weight) {
                Some((limits, setting)) => {
                    Limits::met(setting);
                    inner.conflate(limits, slot, event, *weight);
                }
                None => inner.take_in(slot, event, *weight),
            }
        }
        self.to_wake(inner)
    }

    /// Puts an event for a group into the queue, if there is room, and the session still is a member: as [`Outbox::push`].
    pub(crate) fn offer(
        &self,
        slot: Slot,
        event: &Arc<Event>,
        weight: usize,
    ) -> Result<Option<Waker>, Refused> {
        let mut inner = self.inner.lock();
        if !inner.members.contains(&slot) || self.full(&inner, weight).is_some() {
            return Err(Refused);
        }
        inner.take_in(slot, event, weight);
        Ok(self.to_wake(inner))
    }

    fn to_wake(&self, mut inner: MutexGuard<'_, Inner>) -> Option<Waker> {
        self.note_how_long(&mut inner);
        let waker = inner.waker.take()?;
        if inner.events < BATCH_EVENTS && inner.bytes < BATCH_BYTES {
            return Some(waker);
        }
        drop(inner);
        waker.wake();
        None
    }

    /// The bounds that one more event would break, and the setting that they come from. An empty queue takes any event.
    fn full(&self, inner: &Inner, weight: usize) -> Option<(OutboxLimits, &'static str)> {
        if inner.events == 0 {
            return None;
        }
        if inner.bytes + weight > self.limits.bytes_max {
            return Some((self.limits, "limits.outbox_bytes_max"));
        }
        if inner.events >= self.limits.events_max {
            return Some((self.limits, "limits.outbox_events_max"));
        }
        let (soft, since) = (self.soft?, inner.filled_since?);
        let limits = OutboxLimits {
            bytes_max: soft.bytes_max,
            ..self.limits
        };
        (since.elapsed() >= soft.lasting).then_some((limits, "limits.outbox_soft_bytes_max"))
    }

    fn note_how_long(&self, inner: &mut Inner) {
        let filled = self.soft.is_some_and(|soft| inner.bytes > soft.bytes_max);
        if !filled {
            inner.filled_since = None;
        } else if inner.filled_since.is_none() {
            inner.filled_since = Some(Instant::now());
        }
    }

    /// Puts an answer into the queue, behind the events that came before it. Answers are bounded by
    /// the number of requests that a session may have in flight.
    pub(crate) fn answer(&self, tag: u64, outcome: Outcome) {
        let waker = {
            let mut inner = self.inner.lock();
            if inner.closed {
                return;
            }
            inner
                .parcels
                .push_back(Parcel::Answer(tag, Box::new(outcome)));
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Puts the answers of messages into the queue, as [`Outbox::answer`].
    pub(crate) fn published(&self, tags: impl Iterator<Item = u64>, receivers: u64) {
        let waker = {
            let mut inner = self.inner.lock();
            if inner.closed {
                return;
            }
            let answers = tags.map(|tag| Parcel::Published(tag, receivers));
            inner.parcels.extend(answers);
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// A request of the session goes to the committer.
    pub(crate) fn commits(&self) {
        self.committing.fetch_add(1, Ordering::Relaxed);
    }

    /// The committer's answers to so many requests have reached the hub, or there is no commit behind them.
    pub(crate) fn committed(&self, requests: usize) {
        self.committing.fetch_sub(requests, Ordering::Release);
    }

    /// Whether requests are with the committer: what comes after them must take the same way.
    pub(crate) fn is_committing(&self) -> bool {
        self.committing.load(Ordering::Acquire) > 0
    }

    /// Calls no waker until the session has looked again: it is about to.
    pub(crate) fn hush(&self) {
        self.inner.lock().waker = None;
    }

    /// Swaps all that is there into `drained`, which is empty, or leaves the waker to be called when something comes.
    pub(crate) fn poll_drain(&self, waker: &Waker, drained: &mut Drained) -> Poll<()> {
        let mut inner = self.inner.lock();
        if inner.parcels.is_empty() && inner.lost.is_empty() && inner.dropped.is_empty() {
            inner.waker = Some(waker.clone());
            return Poll::Pending;
        }
        inner.bytes = 0;
        inner.events = 0;
        inner.filled_since = None;
        let spare = drained.parcels.capacity();
        if spare > SPARE && spare / 4 > inner.parcels.len() {
            // A crowd has passed: its room is not kept for ever.
            drained.parcels = VecDeque::new();
        }
        std::mem::swap(&mut inner.parcels, &mut drained.parcels);
        std::mem::swap(&mut inner.lost, &mut drained.lost);
        std::mem::swap(&mut inner.dropped, &mut drained.dropped);
        Poll::Ready(())
    }

    /// Takes the answers out, and leaves the waker to be called when something comes.
    pub(crate) fn take_answers(&self, waker: &Waker) -> VecDeque<Parcel> {
        let mut inner = self.inner.lock();
        inner.waker = Some(waker.clone());
        let is_event = |parcel: &Parcel| matches!(parcel, Parcel::Event(..));
        if inner.parcels.iter().all(is_event) {
            return VecDeque::new();
        }
        let all = std::mem::take(&mut inner.parcels);
        let (events, answers) = all.into_iter().partition(is_event);
        inner.parcels = events;
        answers
    }

    /// Has a watch begin again: what it was told may not be all.
    pub(crate) fn lose(&self, slot: Slot) {
        let waker = {
            let mut inner = self.inner.lock();
            if inner.closed {
                return;
            }
            inner.lose(slot);
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The session is a durable one's.
    pub(crate) fn keeps(&self) {
        self.inner.lock().keeps = true;
    }

    /// A watch becomes a member of a group.
    pub(crate) fn join_group(&self, slot: Slot) {
        self.inner.lock().members.push(slot);
    }

    /// A watch is a member no longer; gives what waits for it.
    pub(crate) fn leave_group(&self, slot: Slot) -> Vec<Arc<Event>> {
        let mut inner = self.inner.lock();
        let members = inner.members.len();
        inner.members.retain(|member| *member != slot);
        if inner.members.len() == members {
            return Vec::new();
        }
        let (mut left, mut bytes) = (Vec::new(), 0);
        inner.parcels.retain(|parcel| match parcel {
            Parcel::Event(of, event) if *of == slot => {
                bytes += event.weight();
                left.push(Arc::clone(event));
                false
            }
            Parcel::Event(..) | Parcel::Published(..) | Parcel::Answer(..) => true,
        });
        inner.bytes = inner.bytes.saturating_sub(bytes);
        inner.events = inner.events.saturating_sub(left.len());
        left
    }

    /// So many events that the session took are still on their way to its client.
    pub(crate) fn holds(&self, events: usize) {
        self.held.store(events, Ordering::Relaxed);
    }

    /// How many events the client has not got yet.
    pub(crate) fn held_and_waiting(&self) -> usize {
        self.held.load(Ordering::Relaxed) + self.inner.lock().events
    }

    /// A watch joins: what is told from now on fits what it has.
    pub(crate) fn hear(&self, slot: Slot) {
        self.inner.lock().deaf.retain(|deaf| *deaf != slot);
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        let inner = self.inner.lock();
        inner.parcels.is_empty() && inner.lost.is_empty() && inner.dropped.is_empty()
    }

    /// Takes nothing more in.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        *inner = Inner {
            closed: true,
            ..Inner::default()
        };
    }
}

impl Inner {
    fn take_in(&mut self, slot: Slot, event: &Arc<Event>, weight: usize) {
        self.parcels
            .push_back(Parcel::Event(slot, Arc::clone(event)));
        self.bytes += weight;
        self.events += 1;
    }

    /// Makes room: of the states the newest of each path stays, and messages give way.
    fn conflate(&mut self, limits: OutboxLimits, slot: Slot, event: &Arc<Event>, weight: usize) {
        if is_message(slot, event) || self.is_read_again(event) {
            self.drop_message(slot);
            return;
        }
        self.take_in(slot, event, weight);
        let mut kept = VecDeque::with_capacity(self.parcels.len());
        let mut covers: HashSet<(Slot, Path)> = HashSet::new();
        let mut gone: Vec<Slot> = Vec::new();
        (self.bytes, self.events) = (0, 0);
        for parcel in std::mem::take(&mut self.parcels).into_iter().rev() {
            match &parcel {
                Parcel::Event(slot, event)
                    if is_message(*slot, event) || self.is_read_again(event) =>
                {
                    gone.push(*slot);
                    continue;
                }
                Parcel::Event(slot, event) => {
                    if is_covered(&covers, *slot, &event.path) {
                        continue;
                    }
                    if matches!(event.kind, EventKind::Put | EventKind::Delete) {
                        covers.insert((*slot, event.path.clone()));
                    }
                    self.bytes += event.weight();
                    self.events += 1;
                }
                Parcel::Published(..) | Parcel::Answer(..) => {}
            }
            kept.push_front(parcel);
        }
        self.parcels = kept;
        gone.into_iter().for_each(|slot| self.drop_message(slot));
        // Were it kept fuller than this, the next event would find it full again: the work must pay for itself.
        if self.bytes > limits.bytes_max - limits.bytes_max / 8
            || self.events > limits.events_max / 2
        {
            self.lose_all();
        }
    }

    fn is_read_again(&self, event: &Event) -> bool {
        self.keeps && event.kept.is_some()
    }

    fn drop_message(&mut self, slot: Slot) {
        match self.dropped.iter_mut().find(|(other, _)| *other == slot) {
            Some((_, count)) => *count += 1,
            None => self.dropped.push((slot, 1)),
        }
    }

    /// The paths alone are too many: every watch with something waiting begins again. Messages are no state: they are dropped.
    fn lose_all(&mut self) {
        let waiting = std::mem::take(&mut self.parcels);
        (self.bytes, self.events) = (0, 0);
        for parcel in waiting {
            match parcel {
                Parcel::Event(slot, event)
                    if is_message(slot, &event) || self.is_read_again(&event) =>
                {
                    self.drop_message(slot);
                }
                Parcel::Event(slot, _) => self.lose(slot),
                answer @ (Parcel::Published(..) | Parcel::Answer(..)) => {
                    self.parcels.push_back(answer);
                }
            }
        }
    }

    fn lose(&mut self, slot: Slot) {
        if !self.deaf.contains(&slot) {
            self.deaf.push(slot);
            self.lost.push(slot);
        }
    }
}

/// No room, or no member any more.
#[derive(Debug)]
pub(crate) struct Refused;

/// What is no state: nothing later says it again.
fn is_message(slot: Slot, event: &Event) -> bool {
    event.kind == EventKind::Message || slot.is_of_group()
}

/// Whether a later put or delete at or above `path` makes an event there superfluous.
fn is_covered(covers: &HashSet<(Slot, Path)>, slot: Slot, path: &Path) -> bool {
    let mut at = Some(path.clone());
    while let Some(path) = at {
        at = path.parent();
        if covers.contains(&(slot, path)) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests;

//! A session's bounded outbound queue.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
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

/// Something for a session.
#[derive(Debug)]
pub(crate) enum Parcel {
    Event(Slot, Arc<Event>),
    Answer(u64, Outcome),
}

/// What the session finds when it looks.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    pub(crate) parcels: Vec<Parcel>,
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
    waker: Option<Waker>,
    closed: bool,
}

impl Outbox {
    pub(crate) fn new(limits: OutboxLimits) -> Self {
        Self {
            limits,
            soft: None,
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
        let deaf = event.kind != EventKind::Message && inner.deaf.contains(&slot);
        if inner.closed || deaf {
            return None;
        }
        match self.full(&inner, weight) {
            Some((limits, setting)) => {
                Limits::met(setting);
                inner.conflate(limits, slot, event, weight);
            }
            None => inner.take_in(slot, event, weight),
        }
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
            inner.parcels.push_back(Parcel::Answer(tag, outcome));
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes all that is there, or leaves the waker to be called when something comes.
    pub(crate) fn poll_drain(&self, waker: &Waker) -> Poll<Drained> {
        let mut inner = self.inner.lock();
        if inner.parcels.is_empty() && inner.lost.is_empty() && inner.dropped.is_empty() {
            inner.waker = Some(waker.clone());
            return Poll::Pending;
        }
        inner.bytes = 0;
        inner.events = 0;
        inner.filled_since = None;
        Poll::Ready(Drained {
            parcels: std::mem::take(&mut inner.parcels).into(),
            lost: std::mem::take(&mut inner.lost),
            dropped: std::mem::take(&mut inner.dropped),
        })
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
        if event.kind == EventKind::Message {
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
                Parcel::Event(slot, event) if event.kind == EventKind::Message => {
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
                Parcel::Answer(..) => {}
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
                Parcel::Event(slot, event) if event.kind == EventKind::Message => {
                    self.drop_message(slot);
                }
                Parcel::Event(slot, _) => self.lose(slot),
                answer @ Parcel::Answer(..) => self.parcels.push_back(answer),
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
mod tests {
    use sapwood_value::Value;

    use super::*;
    use crate::event::Body;

    const LIMITS: OutboxLimits = OutboxLimits {
        bytes_max: 1 << 20,
        events_max: 8,
    };

    fn event(kind: EventKind, path: &str, value: i64) -> Arc<Event> {
        Arc::new(Event::new(
            kind,
            Path::parse(path, &sapwood_tree::Limits::default()).unwrap(),
            None,
            Body::Value(Value::Int(value)),
        ))
    }

    fn drain(outbox: &Outbox) -> Drained {
        match outbox.poll_drain(Waker::noop()) {
            Poll::Ready(drained) => drained,
            Poll::Pending => Drained::default(),
        }
    }

    fn told(drained: &Drained) -> Vec<String> {
        drained
            .parcels
            .iter()
            .map(|parcel| match parcel {
                Parcel::Event(_, event) => format!("{} {:?}", event.path, event.value()),
                Parcel::Answer(tag, _) => format!("answer {tag}"),
            })
            .collect()
    }

    fn push(outbox: &Outbox, kind: EventKind, path: &str, value: i64) {
        let event = event(kind, path, value);
        drop(outbox.push(Slot(0), &event, event.weight()));
    }

    #[test]
    fn a_full_outbox_keeps_the_newest_of_each_path() {
        let outbox = Outbox::new(LIMITS);
        for value in 0..100 {
            push(
                &outbox,
                EventKind::Put,
                if value % 2 == 0 { "/a" } else { "/b" },
                value,
            );
        }
        let drained = drain(&outbox);
        let told = told(&drained);
        assert!(drained.lost.is_empty());
        assert!(told.len() <= 8, "{told:?}");
        assert!(
            told.contains(&"/a Value(Int(98))".to_owned())
                && told.contains(&"/b Value(Int(99))".to_owned()),
            "{told:?}"
        );
    }

    #[test]
    fn a_put_covers_what_was_told_below_it() {
        let outbox = Outbox::new(LIMITS);
        for child in 0..8 {
            push(&outbox, EventKind::Put, &format!("/a/{child}"), child);
        }
        push(&outbox, EventKind::Put, "/a", 7);
        assert_eq!(told(&drain(&outbox)), ["/a Value(Int(7))"]);
    }

    #[test]
    fn too_many_paths_lose_the_watch() {
        let outbox = Outbox::new(LIMITS);
        for child in 0..9 {
            push(&outbox, EventKind::Put, &format!("/a/{child}"), child);
        }
        let drained = drain(&outbox);
        assert_eq!(drained.lost, [Slot(0)]);
        assert!(drained.parcels.is_empty());
    }

    #[test]
    fn messages_give_way_and_are_counted() {
        let outbox = Outbox::new(LIMITS);
        for value in 0..20 {
            push(&outbox, EventKind::Message, "/a", value);
        }
        let drained = drain(&outbox);
        assert_eq!(drained.parcels.len(), 8);
        assert_eq!(drained.dropped, [(Slot(0), 12)]);
    }

    #[test]
    fn a_watch_that_was_lost_hears_messages_and_no_states_until_it_joins_again() {
        let outbox = Outbox::new(LIMITS);
        outbox.lose(Slot(0));
        push(&outbox, EventKind::Put, "/a", 1);
        push(&outbox, EventKind::Message, "/a", 2);
        let drained = drain(&outbox);
        assert_eq!(
            (told(&drained), drained.lost),
            (vec!["/a Value(Int(2))".to_owned()], vec![Slot(0)])
        );
        outbox.hear(Slot(0));
        push(&outbox, EventKind::Put, "/a", 3);
        assert_eq!(told(&drain(&outbox)), ["/a Value(Int(3))"]);
    }

    #[test]
    fn a_large_event_goes_alone() {
        let outbox = Outbox::new(OutboxLimits {
            bytes_max: 10,
            events_max: 8,
        });
        push(&outbox, EventKind::Put, "/a", 1);
        assert_eq!(told(&drain(&outbox)), ["/a Value(Int(1))"]);
    }

    /// Half the hard limit, for ten seconds.
    fn softly() -> Outbox {
        let weight = event(EventKind::Put, "/a", 0).weight();
        let hard = OutboxLimits {
            bytes_max: 8 * weight,
            events_max: 100,
        };
        Outbox::new(hard).with_soft(SoftLimit {
            bytes_max: 4 * weight,
            lasting: Duration::from_secs(10),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn what_stays_above_the_soft_limit_is_conflated() {
        let outbox = softly();
        for value in 0..6 {
            push(&outbox, EventKind::Put, "/a", value);
        }
        tokio::time::advance(Duration::from_millis(9_999)).await;
        push(&outbox, EventKind::Put, "/a", 6);
        assert_eq!(outbox.inner.lock().events, 7, "it may do so for a moment");
        tokio::time::advance(Duration::from_millis(1)).await;
        push(&outbox, EventKind::Put, "/a", 7);
        assert_eq!(told(&drain(&outbox)), ["/a Value(Int(7))"]);
    }

    #[tokio::test(start_paused = true)]
    async fn paths_that_stay_above_the_soft_limit_lose_the_watch() {
        let outbox = softly();
        for child in 0..6 {
            push(&outbox, EventKind::Put, &format!("/{child}"), child);
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        push(&outbox, EventKind::Put, "/9", 9);
        let drained = drain(&outbox);
        assert_eq!((told(&drained), drained.lost), (vec![], vec![Slot(0)]));
    }

    #[tokio::test(start_paused = true)]
    async fn messages_give_way_where_those_before_them_stay_above_the_soft_limit() {
        let outbox = softly();
        for value in 0..6 {
            push(&outbox, EventKind::Message, "/a", value);
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        push(&outbox, EventKind::Message, "/a", 6);
        let drained = drain(&outbox);
        assert_eq!(
            (drained.parcels.len(), drained.dropped),
            (6, vec![(Slot(0), 1)])
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_what_waits_has_ten_seconds_again() {
        let outbox = softly();
        for round in 0..5 {
            for value in 0..6 {
                push(&outbox, EventKind::Message, "/a", value);
            }
            tokio::time::advance(Duration::from_secs(9)).await;
            let drained = drain(&outbox);
            assert_eq!(
                (drained.parcels.len(), drained.dropped),
                (6, vec![]),
                "{round}"
            );
        }
    }

    #[test]
    fn answers_stay_behind_the_events_before_them() {
        let outbox = Outbox::new(LIMITS);
        push(&outbox, EventKind::Put, "/a", 1);
        outbox.answer(5, Outcome::Registered);
        push(&outbox, EventKind::Put, "/a", 2);
        assert_eq!(
            told(&drain(&outbox)),
            ["/a Value(Int(1))", "answer 5", "/a Value(Int(2))"]
        );
    }
}

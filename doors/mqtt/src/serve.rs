//! One connection: bytes in, what the machine wants done, what the session is told, bytes out.
//!
//! All that is at hand goes out in one write: packets are encoded into a buffer of the thread, and only what the client does
//! not take at once becomes the connection's own.

mod durable;
mod leaving;
mod sharing;

pub(crate) use sharing::Shares;

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use metrics::counter;
use sapwood_core::{
    Answer, Claim as Claimed, Delivery as Told, Event, EventKind, Limits, WatchId, Write,
    WriteError,
};
use sapwood_net::{Closed, Connection, Info, Signal};
use sapwood_tree::NotOfForm;
use tokio::time::Sleep;
use tracing::debug;

use crate::codec::{self, Decoder, Packet, Qos, ReasonCode};
use crate::door::Site;
use crate::joining::{Joined, join};
use crate::link::{self, Link};
use crate::machine::{
    Accepted, Action, Connecting, Delivered, Delivery, Machine, Publication, Settings, Subscribing,
    Tag, Unsubscribing,
};
use crate::map;
use crate::registry::Claim;
use crate::reports::Counted;
use crate::shared;
use crate::subscriptions::How;

/// How often a connection goes on with what has come meanwhile before others have their turn.
const ROUNDS_MAX: usize = 16;

/// How long a client may take for what is said last.
const PARTING_TIMEOUT: Duration = Duration::from_secs(5);

thread_local! {
    /// What a session is told goes through a buffer of the thread, so that a connection at rest holds none.
    static TOLD: Cell<Vec<Told>> = const { Cell::new(Vec::new()) };
    /// So does what its machine wants done.
    static ACTIONS: Cell<Vec<Action>> = const { Cell::new(Vec::new()) };
}

/// What a thread's buffer may grow to and still be kept for the next connection, in events or actions.
const KEPT_MAX: usize = 4096;

type Joining = BoxFuture<'static, Result<(Joined, Accepted), ReasonCode>>;

/// One client.
pub(crate) struct Client {
    site: Arc<Site>,
    info: Arc<Info>,
    link: Link,
    inbound: BytesMut,
    decoder: Decoder,
    machine: Machine,
    actions: Vec<Action>,
    /// The client is about to be let in.
    joining: Option<Joining>,
    joined: Option<Box<Joined>>,
    /// Another connection has the client id.
    claim: Option<Claim>,
    /// What the machine has no room for.
    waiting: VecDeque<Delivery>,
    /// Publishes whose outcome has not come, by the core's tag.
    open: VecDeque<(u64, Tag)>,
    last_tag: u64,
    timer: Option<Pin<Box<Sleep>>>,
    closing: Option<Closed>,
    /// What the session was last told that it holds.
    holds: usize,
    counted: Counted,
}

impl Client {
    /// In memory of its own: so it is never copied, and its future stays small.
    pub(crate) fn new(site: Arc<Site>, connection: Connection) -> Box<Self> {
        let settings = Arc::clone(&site.settings);
        let link = Link::new(connection.transport);
        Self::over(site, settings, connection.info, link)
    }

    /// One that comes over any link.
    pub(crate) fn over(
        site: Arc<Site>,
        settings: Arc<Settings>,
        info: Arc<Info>,
        link: Link,
    ) -> Box<Self> {
        let now = Instant::now();
        Box::new(Self {
            link,
            info,
            inbound: BytesMut::new(),
            decoder: Decoder::new(site.config.first_limits()),
            machine: Machine::new(settings, now),
            actions: Vec::new(),
            joining: None,
            joined: None,
            claim: None,
            waiting: VecDeque::new(),
            open: VecDeque::new(),
            last_tag: 0,
            timer: None,
            closing: None,
            holds: usize::MAX,
            counted: Counted::default(),
            site,
        })
    }

    /// Serves the connection until it ends, and sees to what it leaves.
    pub(crate) async fn serve(mut self: Box<Self>) -> Closed {
        let closed = poll_fn(|cx| {
            let mut out = link::borrow();
            self.actions = ACTIONS.take();
            let polled = self.poll(cx, &mut out);
            let actions = std::mem::take(&mut self.actions);
            if actions.capacity() <= KEPT_MAX {
                ACTIONS.set(actions);
            }
            link::give_back(out);
            polled
        })
        .await;
        // What only the end needs, takes memory only then.
        self.end(closed).boxed().await
    }

    fn poll(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<Closed> {
        let now = Instant::now();
        for _ in 0..ROUNDS_MAX {
            if let Some(closed) = self.heed(cx, out) {
                return Poll::Ready(closed);
            }
            let mut goes_on = self.poll_join(cx, now, out);
            goes_on |= self.poll_session(cx, now, out);
            goes_on |= self.catch_up(now, out);
            goes_on |= self.pull(now, out);
            match self.poll_input(cx, now, out) {
                Ok(read) => goes_on |= read,
                Err(closed) => return Poll::Ready(closed),
            }
            goes_on |= self.poll_timer(cx, now, out);
            self.write_down(cx);
            let had_room = self.has_room(out);
            match self.link.poll_send(cx, out) {
                Poll::Ready(Err(_)) => return Poll::Ready(Closed::Lost),
                Poll::Ready(Ok(())) if self.is_done() => return Poll::Ready(self.how_closed()),
                // What waited for room has not been looked at.
                Poll::Ready(Ok(())) => goes_on |= !had_room,
                Poll::Pending => {}
            }
            if !goes_on {
                self.note_first_states();
                self.settle_shares();
                self.rest();
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// What has ended the connection, and that a join that has begun is seen through.
    fn is_done(&self) -> bool {
        self.machine.is_closed() && self.joining.is_none()
    }

    fn how_closed(&self) -> Closed {
        self.closing.unwrap_or(Closed::Orderly)
    }

    /// Gives back the memory that a connection at rest does not need.
    fn rest(&mut self) {
        if self.inbound.is_empty() && self.inbound.capacity() > 0 {
            self.inbound = BytesMut::new();
        }
        self.waiting.shrink_to(0);
        self.open.shrink_to(4);
        let holds = self.machine.in_flight() + self.waiting.len();
        if holds != self.holds
            && let Some(joined) = &self.joined
        {
            joined.session.holds(holds);
            self.holds = holds;
        }
        let (bytes_received, bytes_sent) = self.link.take_counts();
        self.site.figures.add(Counted {
            bytes_received,
            bytes_sent,
            ..std::mem::take(&mut self.counted)
        });
    }

    /// What the server, or another connection, has to say to this one.
    fn heed(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Option<Closed> {
        match self.link.life().poll_signal(cx) {
            Poll::Ready(Signal::Expired) if self.joining.is_none() => return Some(Closed::Lost),
            Poll::Ready(Signal::Drain) => {
                self.close(ReasonCode::ServerShuttingDown, Closed::Drained, out);
            }
            Poll::Ready(Signal::Expired) | Poll::Pending => {}
        }
        if let Some(joined) = &mut self.joined
            && self.claim.is_none()
            && let Poll::Ready(claim) = joined.claimed.poll_unpin(cx)
        {
            self.claim = claim.ok();
            self.close(ReasonCode::SessionTakenOver, Closed::Orderly, out);
            // Whoever comes next does not wait until a client that may be dead has taken this.
            drop(self.link.poll_send(cx, out));
            return Some(Closed::Orderly);
        }
        None
    }

    fn close(&mut self, reason: ReasonCode, closed: Closed, out: &mut BytesMut) {
        if !self.machine.is_closed() {
            self.closing.get_or_insert(closed);
            self.machine.close(reason, &mut self.actions);
            self.act(out);
        }
    }

    fn poll_join(&mut self, cx: &mut Context<'_>, now: Instant, out: &mut BytesMut) -> bool {
        let Some(joining) = &mut self.joining else {
            return false;
        };
        let Poll::Ready(joined) = joining.poll_unpin(cx) else {
            return false;
        };
        self.joining = None;
        match joined {
            Ok((joined, accepted)) => {
                debug!(connection = self.info.id, peer = %self.info.peer, client_id = joined.client_id, transport = self.link.name(), "mqtt client connected");
                self.joined = Some(Box::new(joined));
                self.link.has_begun();
                self.decoder.set_limits(self.site.config.limits());
                self.machine.accepted(accepted, now, &mut self.actions);
            }
            Err(reason) => {
                self.closing.get_or_insert(Closed::Refused("not let in"));
                self.machine.refused(reason, None, &mut self.actions);
            }
        }
        self.act(out);
        true
    }

    /// Whether the client takes what is written, so that there may be more.
    fn has_room(&self, out: &BytesMut) -> bool {
        self.link.waiting() + out.len() < self.site.config.outbound_bytes_max
    }

    /// Takes what the session is told. While the client takes nothing more, it stays in the session's outbox, which is
    /// bounded.
    fn poll_session(&mut self, cx: &mut Context<'_>, now: Instant, out: &mut BytesMut) -> bool {
        self.deliver_waiting(now, out);
        if !self.has_room(out) || !self.machine.is_connected() {
            return false;
        }
        let Some(joined) = &mut self.joined else {
            return false;
        };
        let mut told = TOLD.take();
        let polled = if self.waiting.is_empty() {
            joined.session.poll_next(cx, &mut told)
        } else {
            // What the client is to be answered must not wait for what it has not taken.
            joined.session.poll_answers(cx, &mut told)
        };
        let any = polled.is_ready();
        for one in told.drain(..) {
            match one {
                Told::Event { watch, event } => self.tell(watch, &event, now, out),
                Told::Answer { tag, answer } => self.outcome(tag, &answer, out),
            }
        }
        if told.capacity() <= KEPT_MAX {
            TOLD.set(told);
        }
        any
    }

    /// Whether a first state may come in: it leaves half of what may wait to what happens meanwhile.
    fn has_room_for_state(&self) -> bool {
        self.machine.room() > self.site.config.queued_max / 2
    }

    /// Hands the machine what it had no room for.
    fn deliver_waiting(&mut self, now: Instant, out: &mut BytesMut) {
        while self.has_room_for_state()
            && let Some(delivery) = self.waiting.pop_front()
        {
            self.deliver(delivery, now, out);
        }
    }

    fn tell(&mut self, watch: WatchId, event: &Arc<Event>, now: Instant, out: &mut BytesMut) {
        let Some(joined) = &mut self.joined else {
            return;
        };
        if let EventKind::Gap { dropped } = event.kind {
            return self.fell_behind(dropped, out);
        }
        let joined = &mut **joined;
        if let Some(number) = event.kept {
            if let Some(share) = joined.subscriptions.share_of(watch) {
                match joined.session.claim(&share.name, &share.filter, number) {
                    Claimed::Mine(group) => {
                        self.tell_claimed(watch, &share, (group, number), event, now, out);
                        return;
                    }
                    Claimed::Taken => return,
                    Claimed::NotDurable => return self.tell_plainly(watch, event, now, out),
                }
            }
            if joined.feed.is_some() && joined.subscriptions.is_told_at_most_once(&event.path) {
                // It is not kept for this one.
                return self.tell_plainly(watch, event, now, out);
            }
            if joined.feed.as_ref().is_some_and(|feed| !feed.takes(number)) {
                return;
            }
        }
        let how = joined
            .subscriptions
            .how(watch, event, &mut joined.session, &joined.database);
        if let Some(number) = event.kept.filter(|_| joined.feed.is_some()) {
            return self.tell_kept(number, event, how, now, out);
        }
        self.tell_so(how, event, now, out);
    }

    /// Tells an event that is nobody's but this connection's to remember.
    fn tell_plainly(
        &mut self,
        watch: WatchId,
        event: &Arc<Event>,
        now: Instant,
        out: &mut BytesMut,
    ) {
        let Some(joined) = self.joined.as_deref_mut() else {
            return;
        };
        let how = joined
            .subscriptions
            .how(watch, event, &mut joined.session, &joined.database);
        self.tell_so(how, event, now, out);
    }

    fn tell_so(&mut self, how: Option<How>, event: &Arc<Event>, now: Instant, out: &mut BytesMut) {
        let Some(joined) = self.joined.as_deref_mut() else {
            return;
        };
        let Some((how, message)) = how.and_then(|how| {
            let message = shared::published(event, how.shape, now, &joined.database)?;
            Some((how, message))
        }) else {
            return;
        };
        if how.qos == Qos::AtMostOnce && self.waiting.is_empty() {
            let ids = how.ids.as_slice();
            let written = self.machine.write_now(&message, how.retain, ids, now, out);
            if let Some(written) = written {
                self.counted.publishes_sent += u64::from(written == Delivered::Sent);
                return;
            }
        }
        let delivery = Delivery {
            message,
            qos: how.qos,
            retain: how.retain,
            subscription_ids: how.ids,
            reference: durable::reference(joined),
        };
        if !self.waiting.is_empty() || how.first && !self.has_room_for_state() {
            self.waiting.push_back(delivery);
            return;
        }
        self.deliver(delivery, now, out);
        if !self.waiting.is_empty() {
            self.takes_too_little(out);
        }
    }

    /// Messages of QoS 1 or 2 wait, and there is no room for more (L7). It is told so, rather than missing any without a word.
    fn takes_too_little(&mut self, out: &mut BytesMut) {
        Limits::met("mqtt.queued_max");
        let closed = Closed::Refused("too slow for its subscriptions");
        self.close(ReasonCode::QuotaExceeded, closed, out);
    }

    fn deliver(&mut self, delivery: Delivery, now: Instant, out: &mut BytesMut) {
        match self.machine.deliver(delivery, now, &mut self.actions) {
            Delivered::Full(delivery) => self.waiting.push_front(delivery),
            Delivered::Sent | Delivered::Queued | Delivered::Dropped => {}
        }
        self.act(out);
    }

    /// The session's outbox was full, and messages were dropped.
    fn fell_behind(&mut self, dropped: u64, out: &mut BytesMut) {
        let Some(joined) = &mut self.joined else {
            return;
        };
        joined.shares.pulls = true;
        if dropped == 0 {
            // A group has something for it.
            return;
        }
        if let Some(feed) = &mut joined.feed {
            // What is kept is read.
            return feed.falls_behind();
        }
        counter!("sapwood_mqtt_dropped_total", "reason" => "outbox").increment(dropped);
        let acknowledged = joined.subscriptions.any_acknowledged();
        if acknowledged && (!self.waiting.is_empty() || self.machine.room() == 0) {
            self.takes_too_little(out);
        }
    }

    fn outcome(&mut self, tag: u64, answer: &Result<Answer, WriteError>, out: &mut BytesMut) {
        if self.written_down(tag, answer, out) {
            return;
        }
        let Some(tag) = self.take_open(tag) else {
            return;
        };
        let reason = map::outcome(answer);
        if map::may_work_later(answer) && !self.machine.version().is_5() {
            // 3.x can't say no, and must not be told that it is done: so it sends it again on its next connection.
            self.close(reason, Closed::Refused("can't be written now"), out);
        }
        self.machine.written(tag, reason, &mut self.actions);
        self.act(out);
    }

    /// The machine's tag of what was asked for. Outcomes come in the order of the publishes, but for those that are refused
    /// at once.
    fn take_open(&mut self, tag: u64) -> Option<Tag> {
        let at = self.open.iter().position(|(open, _)| *open == tag)?;
        self.open.remove(at).map(|(_, tag)| tag)
    }

    /// Reads and carries out what has come; whether there was anything.
    fn poll_input(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        out: &mut BytesMut,
    ) -> Result<bool, Closed> {
        if !self.takes_input(out) {
            return Ok(false);
        }
        let mut any = self.decode(now, out);
        if self.takes_input(out) {
            match self.link.poll_read(cx, &mut self.inbound) {
                Poll::Ready(Ok(())) => {
                    self.decode(now, out);
                    any = true;
                }
                Poll::Ready(Err(closed)) => return Err(closed),
                Poll::Pending => {}
            }
        }
        Ok(any)
    }

    fn takes_input(&self, out: &BytesMut) -> bool {
        self.machine.wants_input() && self.has_room(out)
    }

    /// Takes packets off the buffer; whether there was one.
    fn decode(&mut self, now: Instant, out: &mut BytesMut) -> bool {
        let mut any = false;
        while self.takes_input(out) {
            match self.decoder.decode(&mut self.inbound) {
                Ok(Some(packet)) => {
                    any = true;
                    self.counted.publishes_received +=
                        u64::from(matches!(packet, Packet::Publish(_)));
                    self.machine.received(packet, now, &mut self.actions);
                }
                Ok(None) => break,
                Err(fault) => {
                    self.closing.get_or_insert(Closed::Refused(fault.what));
                    self.met_limit(fault.reason);
                    let version = self.decoder.version();
                    self.machine.faulted(&fault, version, &mut self.actions);
                }
            }
            self.act(out);
        }
        any
    }

    /// Carries out what the machine wants, in order.
    fn act(&mut self, out: &mut BytesMut) {
        while !self.actions.is_empty() {
            let mut actions = std::mem::take(&mut self.actions);
            for action in actions.drain(..) {
                self.act_on(action, out);
            }
            if self.actions.is_empty() {
                self.actions = actions;
            }
        }
    }

    fn act_on(&mut self, action: Action, out: &mut BytesMut) {
        let version = self.machine.version();
        match action {
            Action::Connect(connecting) => self.connect(connecting),
            Action::Publish(publication) => self.publish(*publication),
            Action::Subscribe(subscribing) => self.subscribe(*subscribing),
            Action::Unsubscribe(unsubscribing) => self.unsubscribe(*unsubscribing),
            Action::Send(packet) => {
                if let Packet::Disconnect(disconnect) = &packet {
                    match disconnect.reason {
                        ReasonCode::ReceiveMaximumExceeded => Limits::met("mqtt.receive_maximum"),
                        ReasonCode::TopicAliasInvalid => Limits::met("mqtt.topic_alias_maximum"),
                        _ => {}
                    }
                }
                let encoded = codec::encode(&packet, version, out);
                debug_assert!(encoded.is_ok(), "the machine sends what can be said");
            }
            Action::Deliver(deliver) => {
                self.counted.publishes_sent += 1;
                deliver.write(version, out);
            }
            Action::Keep { tag, change } => self.keep(tag, change),
            Action::Close => {
                let is_fault = self.machine.counts().faults > 0;
                self.closing.get_or_insert(if is_fault {
                    Closed::Refused("broke the protocol")
                } else {
                    Closed::Orderly
                });
                // Who takes nothing of what was said last is not waited for.
                self.link.life().expire_in(PARTING_TIMEOUT);
            }
        }
    }

    /// Counts the limit that a packet broke, if it was one.
    fn met_limit(&self, reason: ReasonCode) {
        match reason {
            ReasonCode::PacketTooLarge if self.joined.is_none() => {
                Limits::met("mqtt.connect_bytes_max");
            }
            ReasonCode::PacketTooLarge => Limits::met("mqtt.packet_bytes_max"),
            ReasonCode::QuotaExceeded => Limits::met("mqtt.filters_max"),
            _ => {}
        }
    }

    fn connect(&mut self, connecting: Box<Connecting>) {
        let (site, info) = (Arc::clone(&self.site), Arc::clone(&self.info));
        self.joining = Some(join(site, connecting, info, self.link.name()).boxed());
    }

    fn publish(&mut self, publication: Publication) {
        let Some(joined) = &mut self.joined else {
            return;
        };
        let changes = Self::changes_of(&publication);
        let Publication {
            tag,
            path,
            message,
            qos,
            retain,
            ..
        } = publication;
        if path.first() == Some("$SYS") {
            // 4.7.2-1: it is the server's.
            self.machine
                .written(tag, ReasonCode::NotAuthorized, &mut self.actions);
            return;
        }
        let session = &mut joined.session;
        let limits = joined.database.limits().decoder();
        let demand = self.site.rules.demand(&path);
        let core_tag = self.last_tag + 1;
        let done = if retain {
            map::record_write(&path, &message, qos, &limits, demand).map(|op| {
                let write = Write {
                    ops: vec![op],
                    conditions: Vec::new(),
                };
                session.submit_with(core_tag, write, changes);
            })
        } else {
            map::core_message(&message, qos, &limits, demand)
                .map(|message| session.submit_publish_with(core_tag, path, message, changes))
        };
        match done {
            Ok(()) => {
                self.last_tag = core_tag;
                self.open.push_back((core_tag, tag));
            }
            Err(NotOfForm) => {
                let reason = ReasonCode::PayloadFormatInvalid;
                self.machine.written(tag, reason, &mut self.actions);
            }
        }
    }

    fn subscribe(&mut self, subscribing: Subscribing) {
        match &self.joined {
            Some(joined) if joined.feed.is_some() => self.subscribe_durably(subscribing),
            _ => self.subscribe_now(subscribing),
        }
    }

    fn subscribe_now(&mut self, subscribing: Subscribing) {
        let Some(joined) = self.joined.as_deref_mut() else {
            return;
        };
        if let Some(feed) = &mut joined.feed {
            // What is said while a first state is told comes behind it.
            feed.falls_behind();
        }
        let limits = self.site.config.subscription_limits();
        joined.shares.pulls |= subscribing
            .subscriptions
            .iter()
            .any(|asked| asked.filter.share.is_some());
        let mut refused = Vec::new();
        let mut reasons = Vec::with_capacity(subscribing.subscriptions.len());
        let mut words = None;
        for asked in subscribing.subscriptions {
            let reader = self.site.figures.reader(asked.text.as_str());
            let kept = joined.feed.is_some().then(|| asked.clone());
            let added = joined.subscriptions.add(
                asked,
                subscribing.subscription_id,
                reader,
                &mut joined.session,
                &joined.database,
                &limits,
            );
            reasons.push(added.unwrap_or_else(|not| {
                refused.extend(kept);
                words = not.words.or(words.take());
                not.reason
            }));
        }
        for asked in &refused {
            self.forget_subscription(&asked.text, asked);
        }
        self.machine
            .subscribed_saying(subscribing.tag, &reasons, words, &mut self.actions);
    }

    fn unsubscribe(&mut self, unsubscribing: Unsubscribing) {
        match &self.joined {
            Some(joined) if joined.feed.is_some() => self.unsubscribe_durably(unsubscribing),
            _ => self.unsubscribe_now(&unsubscribing),
        }
    }

    fn unsubscribe_now(&mut self, unsubscribing: &Unsubscribing) {
        for (text, _) in &unsubscribing.filters {
            let joined = self.joined.as_ref();
            if let Some(share) = joined.and_then(|joined| joined.subscriptions.share_named(text)) {
                self.leave_share(&share);
            }
        }
        let Some(joined) = self.joined.as_deref_mut() else {
            return;
        };
        let mut reasons = Vec::with_capacity(unsubscribing.filters.len());
        for (text, _) in &unsubscribing.filters {
            reasons.push(if joined.subscriptions.remove(text, &mut joined.session) {
                ReasonCode::Success
            } else {
                ReasonCode::NoSubscriptionExisted
            });
        }
        self.machine
            .unsubscribed(unsubscribing.tag, &reasons, &mut self.actions);
    }

    /// Sees to the machine's deadline. The timer is set anew only when it has gone off: packets put the deadline off all
    /// the time.
    fn poll_timer(&mut self, cx: &mut Context<'_>, now: Instant, out: &mut BytesMut) -> bool {
        let Some(deadline) = self.machine.deadline().filter(|_| self.joining.is_none()) else {
            self.timer = None;
            return false;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        if deadline < timer.deadline().into_std() {
            timer.as_mut().reset(deadline.into());
        }
        while timer.as_mut().poll(cx).is_ready() {
            if deadline <= now {
                self.timer = None;
                if self.joined.is_none() {
                    Limits::met("mqtt.connect_timeout_s");
                }
                self.machine.tick(now, &mut self.actions);
                self.closing.get_or_insert(Closed::Lost);
                self.act(out);
                return true;
            }
            timer.as_mut().reset(deadline.into());
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_at_rest_takes_little_memory() {
        fn future_bytes<F>(_serve: fn(Box<Client>) -> F) -> usize {
            size_of::<F>()
        }
        let together = size_of::<Client>() + future_bytes(Client::serve) + size_of::<Joined>();
        assert!(together < 2560, "{together} bytes");
    }
}

//! The durable part of a connection: what is kept for it, and what it writes down.

use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use sapwood_core::{Answer, DurableChange, DurableId, Event, WriteError};
use sapwood_net::Closed;

use super::{Client, Delivered, Delivery};
use crate::codec::Text;
use crate::durable::{Asked, Feed, Subscribed, subscription_key, subscription_row, unreleased_key};
use crate::joining::Joined;
use crate::machine::{Change, Publication, Subscribing, Subscription, Tag, Unsubscribing};
use crate::map;
use crate::shared;
use crate::subscriptions::{How, Subscriptions};
use crate::topic::Filter;

/// How long what may be written late waits for more.
const LATE: Duration = Duration::from_millis(100);

/// How much of what is kept is read before others have their turn.
const READ_MAX: usize = 128;

impl Client {
    fn feed(&mut self) -> Option<&mut Feed> {
        self.joined.as_mut()?.feed.as_deref_mut()
    }

    /// A change of the machine's that is to be kept.
    pub(super) fn keep(&mut self, tag: Option<Tag>, change: Change) {
        self.hand_over(&change);
        if let Some(feed) = self.feed() {
            feed.keeping.add(tag, change);
        }
    }

    /// What a publish changes in the session's own state.
    pub(super) fn changes_of(publication: &Publication) -> Vec<DurableChange> {
        let remember = publication.remember.map(|packet_id| DurableChange::Row {
            key: unreleased_key(packet_id),
            value: Some(bytes::Bytes::new()),
        });
        remember.into_iter().collect()
    }

    /// What is kept as `number` is told just now. Whether that is all there is to do: it goes out, or is read later.
    pub(super) fn tell_kept(
        &mut self,
        number: u64,
        event: &Arc<Event>,
        how: Option<How>,
        now: Instant,
        out: &mut BytesMut,
    ) {
        let blocked = !self.waiting.is_empty();
        let Some(feed) = self.feed() else {
            return;
        };
        if blocked {
            feed.falls_behind();
            return;
        }
        let said = how.and_then(|how| {
            let database = &self.joined.as_ref()?.database;
            Some((shared::published(event, how.shape, now, database)?, how))
        });
        match said {
            Some((message, how)) => drop(self.deliver_kept(number, message, how, now, out)),
            None => {
                if let Some(feed) = self.feed() {
                    feed.has_taken(number);
                }
            }
        }
    }

    /// Whether there was room for it.
    fn deliver_kept(
        &mut self,
        number: u64,
        message: Arc<crate::machine::Published>,
        how: How,
        now: Instant,
        out: &mut BytesMut,
    ) -> bool {
        let delivery = Delivery {
            message,
            qos: how.qos,
            retain: how.retain,
            subscription_ids: how.ids,
            reference: number,
        };
        let delivered = self.machine.deliver(delivery, now, &mut self.actions);
        let is_full = matches!(delivered, Delivered::Full(_));
        if let Some(feed) = self.feed() {
            if is_full {
                feed.falls_behind();
            } else {
                feed.has_taken(number);
            }
        }
        self.act(out);
        !is_full
    }

    /// Reads what is kept, if the client is behind and has room; whether there may be more.
    pub(super) fn catch_up(&mut self, now: Instant, out: &mut BytesMut) -> bool {
        for _ in 0..READ_MAX {
            if !self.has_room_for_state() || !self.has_room(out) || !self.waiting.is_empty() {
                return false;
            }
            if !self.machine.is_connected() {
                return false;
            }
            let Some(joined) = self.joined.as_deref_mut() else {
                return false;
            };
            let Joined {
                session,
                subscriptions,
                database,
                feed: Some(feed),
                ..
            } = joined
            else {
                return false;
            };
            if !feed.is_behind() || !session.is_live() {
                return false;
            }
            let Some(number) = feed.next(session) else {
                return false;
            };
            let event = session.kept(number);
            let said = event.and_then(|event| {
                let how = subscriptions.how_kept(&event, session)?;
                Some((shared::published(&event, how.shape, now, database)?, how))
            });
            match said {
                None => feed.has_taken(number),
                // It goes on when the client has taken something.
                Some((message, how)) => {
                    if !self.deliver_kept(number, message, how, now, out) {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Writes down what is to be written: what promises wait for at once, the rest a little later.
    pub(super) fn write_down(&mut self, cx: &mut Context<'_>) {
        let Some(joined) = self.joined.as_deref_mut() else {
            return;
        };
        let Joined {
            session,
            feed: Some(feed),
            ..
        } = joined
        else {
            return;
        };
        let cursor = feed.cursor(&self.machine);
        if !feed.keeping.is_urgent() {
            if feed.keeping.is_empty(cursor) {
                feed.late = None;
                return;
            }
            let late = feed
                .late
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(LATE)));
            if Future::poll(late.as_mut(), cx).is_pending() {
                return;
            }
        }
        feed.late = None;
        let (changes, promises) = feed.keeping.take(cursor);
        self.last_tag += 1;
        session.submit_changes(self.last_tag, changes);
        feed.asked.push_back((self.last_tag, Asked::Kept(promises)));
    }

    /// Subscribes behind what makes it durable.
    pub(super) fn subscribe_durably(&mut self, subscribing: Subscribing) {
        let Some(joined) = self.joined.as_deref_mut() else {
            return;
        };
        let Joined {
            session,
            subscriptions,
            feed: Some(feed),
            ..
        } = joined
        else {
            return;
        };
        let mut changes = Vec::new();
        for asked in &subscribing.subscriptions {
            let before = subscriptions.get(&asked.text);
            // Always: what was asked for just before may still be on its way.
            if asked.qos.is_acknowledged() {
                changes.push(begins(&asked.filter));
            } else {
                changes.extend(ends(&asked.filter, &asked.text, subscriptions));
            }
            let subscribed = Subscribed {
                asked: asked.clone(),
                id: subscribing.subscription_id,
                first: before.is_none(),
            };
            changes.push(DurableChange::Row {
                key: subscription_key(&asked.text),
                value: Some(subscription_row(&subscribed)),
            });
        }
        self.last_tag += 1;
        session.submit_changes(self.last_tag, changes);
        feed.asked
            .push_back((self.last_tag, Asked::Subscribe(subscribing)));
    }

    /// Unsubscribes, and answers when that is durable.
    pub(super) fn unsubscribe_durably(&mut self, unsubscribing: Unsubscribing) {
        let Some(joined) = self.joined.as_deref_mut() else {
            return;
        };
        let Joined {
            session,
            subscriptions,
            feed: Some(feed),
            ..
        } = joined
        else {
            return;
        };
        // What it has been given for a group is written before it leaves that.
        let cursor = feed.cursor(&self.machine);
        let (mut changes, promises) = feed.keeping.take(cursor);
        for (text, filter) in &unsubscribing.filters {
            changes.push(DurableChange::Row {
                key: subscription_key(text),
                value: None,
            });
            changes.extend(ends(filter, text, subscriptions));
        }
        self.last_tag += 1;
        session.submit_changes(self.last_tag, changes);
        feed.asked.push_back((self.last_tag, Asked::Kept(promises)));
        feed.asked
            .push_back((self.last_tag, Asked::Unsubscribe(unsubscribing)));
    }

    /// What was to be written down has been, or could not be; whether the answer was to such a thing.
    pub(super) fn written_down(
        &mut self,
        tag: u64,
        answer: &Result<Answer, WriteError>,
        out: &mut BytesMut,
    ) -> bool {
        let mut any = false;
        while let Some(asked) = self.feed().and_then(|feed| feed.take_asked(tag)) {
            any = true;
            self.written_down_one(asked, answer, out);
        }
        any
    }

    fn written_down_one(
        &mut self,
        asked: Asked,
        answer: &Result<Answer, WriteError>,
        out: &mut BytesMut,
    ) {
        match (asked, answer) {
            (Asked::Kept(promises), Ok(_)) => {
                let now = Instant::now();
                for promise in promises {
                    self.machine.kept(promise, now, &mut self.actions);
                }
            }
            (Asked::Kept(_), Err(error)) => {
                // What is written down is behind what it should be: the client comes back to where it was.
                if let Some(feed) = self.feed() {
                    feed.has_failed = true;
                }
                let reason = map::refusal(error.kind());
                self.close(reason, Closed::Refused("its session can't be written"), out);
            }
            (Asked::Subscribe(subscribing), Ok(_)) => self.subscribe_now(subscribing),
            (Asked::Subscribe(subscribing), Err(error)) => {
                let reason = map::refusal(error.kind());
                let reasons = vec![reason; subscribing.subscriptions.len()];
                self.machine
                    .subscribed(subscribing.tag, &reasons, &mut self.actions);
            }
            (Asked::Unsubscribe(unsubscribing), Ok(_)) => self.unsubscribe_now(&unsubscribing),
            (Asked::Unsubscribe(unsubscribing), Err(error)) => {
                let reason = map::refusal(error.kind());
                let reasons = vec![reason; unsubscribing.filters.len()];
                self.machine
                    .unsubscribed(unsubscribing.tag, &reasons, &mut self.actions);
            }
        }
        self.act(out);
    }

    /// A subscription was not taken after all.
    pub(super) fn forget_subscription(&mut self, text: &Text, subscription: &Subscription) {
        let Some(feed) = self.feed() else {
            return;
        };
        feed.keeping.add_late(DurableChange::Row {
            key: subscription_key(text),
            value: None,
        });
        feed.keeping.add_late(end(&subscription.filter));
    }

    /// First states that are told need not be told again after a crash.
    pub(super) fn note_first_states(&mut self) {
        let quiet = self.waiting.is_empty() && self.machine.is_queue_empty();
        let Some(joined) = self.joined.as_deref_mut() else {
            return;
        };
        let Joined {
            session,
            subscriptions,
            feed: Some(feed),
            ..
        } = joined
        else {
            return;
        };
        if !quiet || !session.has_begun() {
            return;
        }
        for subscribed in subscriptions.take_told() {
            feed.keeping.add_late(DurableChange::Row {
                key: subscription_key(&subscribed.asked.text),
                value: Some(subscription_row(&subscribed)),
            });
        }
    }
}

/// What makes a subscription durable.
fn begins(filter: &Filter) -> DurableChange {
    match &filter.share {
        None => DurableChange::Subscribe {
            filter: filter.filter.clone(),
        },
        Some(share) => DurableChange::JoinGroup {
            share: (&**share).into(),
            filter: filter.filter.clone(),
            group: DurableId::random(),
        },
    }
}

fn end(filter: &Filter) -> DurableChange {
    match &filter.share {
        None => DurableChange::Unsubscribe {
            filter: filter.filter.clone(),
        },
        Some(share) => DurableChange::LeaveGroup {
            share: (&**share).into(),
            filter: filter.filter.clone(),
        },
    }
}

/// What ends it, unless another one wants the same.
fn ends(filter: &Filter, text: &Text, all: &Subscriptions) -> Option<DurableChange> {
    let wanted = filter.share.is_none() && all.is_wanted(&filter.filter, text);
    (!wanted).then(|| end(filter))
}

/// What a delivery that the core does not keep is known by.
pub(super) fn reference(joined: &mut Joined) -> u64 {
    match &mut joined.feed {
        Some(feed) => feed.keeping.next_unkept(),
        None => {
            joined.deliveries += 1;
            joined.deliveries
        }
    }
}

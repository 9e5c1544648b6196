//! Who has which client id, and the sessions of clients that are away.
//!
//! Each session has one owner: the task of its connection, or that which keeps it while the client is away. Who comes with
//! the same client id takes the owner's place at once, and asks it to hand the session over; so however many come
//! together, each waits for the one before it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Gauge, counter, gauge};
use parking_lot::Mutex;
use sapwood_core::{Database, Delivery as Told, Limits, Session};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::machine::{self, Delivery};
use crate::shared;
use crate::subscriptions::Subscriptions;
use crate::will::Will;

/// A client id in a database.
pub(crate) type Key = (String, String);

/// What a successor asks of the owner of a session.
#[derive(Debug)]
pub(crate) struct Claim {
    /// Whether the session is to end instead.
    pub(crate) clean: bool,
    /// Gets the session, if there is one to go on with.
    pub(crate) reply: oneshot::Sender<Option<Box<Kept>>>,
}

/// A session whose client is away, or comes back just now.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) database: Database,
    pub(crate) session: Session,
    pub(crate) machine: machine::Session,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) references: u64,
}

/// All client ids in use.
#[derive(Debug)]
pub(crate) struct Registry {
    places: Mutex<Places>,
    kept_max: usize,
    open: Gauge,
    kept: Gauge,
}

#[derive(Debug, Default)]
struct Places {
    owners: HashMap<Key, Owner>,
    last_number: u64,
    kept: usize,
}

#[derive(Debug)]
struct Owner {
    number: u64,
    /// Whether the session outlives its connection.
    keeps: bool,
    claim: oneshot::Sender<Claim>,
}

/// An owner's place; given up when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    registry: Arc<Registry>,
    key: Key,
    number: u64,
}

/// A place that was taken.
pub(crate) struct Entered {
    pub(crate) place: Place,
    /// Who comes next claims by it.
    pub(crate) claimed: oneshot::Receiver<Claim>,
    /// What the owner before hands over, if there was one.
    pub(crate) before: Option<oneshot::Receiver<Option<Box<Kept>>>>,
}

/// As many sessions are kept as may be.
#[derive(Debug)]
pub(crate) struct Full;

impl Registry {
    pub(crate) fn new(kept_max: usize) -> Self {
        Self {
            places: Mutex::default(),
            kept_max,
            open: gauge!("sapwood_mqtt_client_ids"),
            kept: gauge!("sapwood_mqtt_sessions_kept"),
        }
    }

    /// Takes a client id's place, and claims what the owner before has.
    ///
    /// # Errors
    /// If the session is to be kept, and too many are.
    pub(crate) fn enter(
        self: &Arc<Self>,
        key: Key,
        keeps: bool,
        clean: bool,
    ) -> Result<Entered, Full> {
        let (claim, claimed) = oneshot::channel();
        let mut places = self.places.lock();
        let kept_before = places.owners.get(&key).is_some_and(|owner| owner.keeps);
        if keeps && !kept_before && places.kept >= self.kept_max {
            Limits::met("mqtt.sessions_max");
            return Err(Full);
        }
        places.last_number += 1;
        let number = places.last_number;
        places.kept = places.kept + usize::from(keeps) - usize::from(kept_before);
        let owner = Owner {
            number,
            keeps,
            claim,
        };
        let before = places.owners.insert(key.clone(), owner).and_then(|owner| {
            let (reply, before) = oneshot::channel();
            // An owner that has just gone has nothing to hand over.
            owner
                .claim
                .send(Claim { clean, reply })
                .ok()
                .map(|()| before)
        });
        self.count(&places);
        let place = Place {
            registry: Arc::clone(self),
            key,
            number,
        };
        Ok(Entered {
            place,
            claimed,
            before,
        })
    }

    /// How many client ids are in use, also by clients that are away.
    pub(crate) fn len(&self) -> usize {
        self.places.lock().owners.len()
    }

    fn count(&self, places: &Places) {
        self.open.set(count(places.owners.len()));
        self.kept.set(count(places.kept));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn count(number: usize) -> f64 {
    number as f64
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.registry.places.lock();
        let is_mine = |owner: &Owner| owner.number == self.number;
        if places.owners.get(&self.key).is_some_and(is_mine)
            && let Some(owner) = places.owners.remove(&self.key)
        {
            places.kept -= usize::from(owner.keeps);
        }
        self.registry.count(&places);
    }
}

impl Place {
    /// The session will not outlive its connection after all.
    pub(crate) fn keeps_no_more(&self) {
        let mut places = self.registry.places.lock();
        let number = self.number;
        if let Some(owner) = places.owners.get_mut(&self.key)
            && owner.number == number
            && std::mem::take(&mut owner.keeps)
        {
            places.kept -= 1;
        }
        self.registry.count(&places);
    }
}

/// What a session is said to hold while its client is away: of a group, whoever is there is told (4.8.2).
const HELD_AWAY: usize = 1 << 40;

/// How much may wait for a client that is away.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueLimits {
    pub(crate) messages_max: usize,
    pub(crate) bytes_max: usize,
}

/// What waits for a client that is away.
#[derive(Debug)]
pub(crate) struct Queue {
    limits: QueueLimits,
    bytes: usize,
}

impl Queue {
    pub(crate) fn new(limits: QueueLimits, waiting: &[Delivery]) -> Self {
        Self {
            limits,
            bytes: waiting.iter().map(weight).sum(),
        }
    }

    /// Puts a delivery behind the others, if it is one that waits and there is room.
    pub(crate) fn push(&mut self, waiting: &mut Vec<Delivery>, delivery: Delivery) {
        if !delivery.qos.is_acknowledged() {
            return;
        }
        let bytes = self.bytes + weight(&delivery);
        if waiting.len() >= self.limits.messages_max
            || bytes > self.limits.bytes_max && !waiting.is_empty()
        {
            Limits::met("mqtt.queued_max");
            counter!("sapwood_mqtt_dropped_total", "reason" => "queue").increment(1);
            return;
        }
        self.bytes = bytes;
        waiting.push(delivery);
    }
}

fn weight(delivery: &Delivery) -> usize {
    let message = delivery.message.message();
    128 + message.topic.len() + message.payload.len()
}

impl Kept {
    /// Takes what the session is told behind what waits; answers mean nothing any more.
    pub(crate) fn take_in(
        &mut self,
        told: &mut Vec<Told>,
        queue: &mut Queue,
        waiting: &mut Vec<Delivery>,
    ) {
        let now = std::time::Instant::now();
        for told in told.drain(..) {
            let Told::Event { watch, event } = told else {
                continue;
            };
            let how = self
                .subscriptions
                .how(watch, &event, &mut self.session, &self.database);
            let Some(how) = how.filter(|how| how.qos.is_acknowledged()) else {
                continue;
            };
            if let Some(message) = shared::published(&event, how.shape, now, &self.database) {
                self.references += 1;
                let delivery = Delivery {
                    message,
                    qos: how.qos,
                    retain: how.retain,
                    subscription_ids: how.ids,
                    reference: self.references,
                };
                queue.push(waiting, delivery);
            }
        }
    }
}

/// What is to be kept of a client that went away.
pub(crate) struct Away {
    pub(crate) kept: Box<Kept>,
    pub(crate) place: Place,
    pub(crate) claimed: oneshot::Receiver<Claim>,
    pub(crate) expires: Duration,
    pub(crate) will: Option<(Will, Duration)>,
    pub(crate) limits: QueueLimits,
}

/// Keeps a session until its client comes back, or its time is over.
pub(crate) async fn keep(away: Away) {
    let Away {
        mut kept,
        place,
        mut claimed,
        expires,
        mut will,
        limits,
    } = away;
    let begin = Instant::now();
    let will_at = will.as_ref().map(|(_, delay)| begin + *delay);
    let mut queue = Queue::new(limits, &kept.machine.queue);
    let mut told = Vec::new();
    kept.session.holds(HELD_AWAY);
    let claim = loop {
        tokio::select! {
            claim = &mut claimed => break claim.ok(),
            () = kept.session.next(&mut told) => {
                let mut waiting = std::mem::take(&mut kept.machine.queue);
                kept.take_in(&mut told, &mut queue, &mut waiting);
                kept.machine.queue = waiting;
                told.shrink_to(4);
            }
            () = sleep_until(will_at), if will.is_some() => {
                if let Some((will, _)) = will.take() {
                    will.publish().await;
                }
            }
            () = tokio::time::sleep_until(begin + expires) => break None,
        }
    };
    let clean = claim.as_ref().is_none_or(|claim| claim.clean);
    if let Some((will, _)) = will {
        // 3.1.3-9: who comes back in time makes it void; the end of the session is the latest moment.
        if clean {
            will.publish().await;
        } else {
            will.discard().await;
        }
    }
    match claim {
        Some(claim) if !claim.clean => {
            // What came since is still in the session's outbox. A successor that is gone ends it.
            drop(claim.reply.send(Some(kept)));
        }
        claim => {
            kept.session.close().await;
            if let Some(claim) = claim {
                drop(claim.reply.send(None));
            }
        }
    }
    drop(place);
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

//! Who has which client id.
//!
//! Each client id has one owner: the task of its connection, or that which waits with its will. Who comes with the same
//! client id takes the owner's place at once, and asks it to leave the session; so however many come together, each
//! waits for the one before it.

use std::collections::HashMap;
use std::sync::Arc;

use metrics::{Gauge, gauge};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// A client id in a database.
pub(crate) type Key = (String, String);

/// What a successor asks of the owner of a client id.
#[derive(Debug)]
pub(crate) struct Claim {
    /// Whether the session is to end.
    pub(crate) clean: bool,
    /// Told when the owner has left it: all that there is to go on with has been written down.
    pub(crate) reply: oneshot::Sender<()>,
}

/// All client ids in use.
#[derive(Debug)]
pub(crate) struct Registry {
    places: Mutex<Places>,
    open: Gauge,
}

#[derive(Debug, Default)]
struct Places {
    owners: HashMap<Key, Owner>,
    last_number: u64,
}

#[derive(Debug)]
struct Owner {
    number: u64,
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
    /// Ends when the owner before has left, if there was one.
    pub(crate) before: Option<oneshot::Receiver<()>>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self {
            places: Mutex::default(),
            open: gauge!("sapwood_mqtt_client_ids"),
        }
    }

    /// Takes a client id's place, and claims what the owner before has.
    pub(crate) fn enter(self: &Arc<Self>, key: Key, clean: bool) -> Entered {
        let (claim, claimed) = oneshot::channel();
        let mut places = self.places.lock();
        places.last_number += 1;
        let number = places.last_number;
        let owner = Owner { number, claim };
        let before = places.owners.insert(key.clone(), owner).and_then(|owner| {
            let (reply, before) = oneshot::channel();
            // An owner that has just gone has left already.
            let claimed = owner.claim.send(Claim { clean, reply });
            claimed.ok().map(|()| before)
        });
        self.count(&places);
        let place = Place {
            registry: Arc::clone(self),
            key,
            number,
        };
        Entered {
            place,
            claimed,
            before,
        }
    }

    /// How many client ids have an owner.
    pub(crate) fn len(&self) -> usize {
        self.places.lock().owners.len()
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    fn count(&self, places: &Places) {
        self.open.set(places.owners.len() as f64);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.registry.places.lock();
        let is_mine = |owner: &Owner| owner.number == self.number;
        if places.owners.get(&self.key).is_some_and(is_mine) {
            places.owners.remove(&self.key);
        }
        self.registry.count(&places);
    }
}

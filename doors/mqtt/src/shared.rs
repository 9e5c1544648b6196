//! Events as messages, each made and encoded once for all who get it.

use std::sync::Arc;
use std::time::Instant;

use sapwood_core::Event;

use crate::machine::Published;
use crate::map;

/// What an event is to MQTT; it lives with the event.
struct Said(Option<Arc<Published>>);

/// The message that an event is to MQTT; none if it is none, or can't be said there. Its time, if it has one, begins to run
/// when it is first asked for.
pub(crate) fn published(event: &Event, now: Instant) -> Option<Arc<Published>> {
    let make =
        |event: &Event| Said(map::message(event).map(|said| Arc::new(Published::new(said, now))));
    event.shared(make).0.clone()
}

//! Events as messages, each made and encoded once for all who get it.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use sapwood_core::Event;
use sapwood_value::Format;

use crate::machine::Published;
use crate::map;

/// In which shape an event goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Shape {
    /// As it is.
    #[default]
    AsItIs,
    /// In this format, if it is data.
    Data(Format),
}

/// What an event is to MQTT; it lives with the event.
struct Said {
    /// None if it is nothing, or can't be said there.
    plain: Option<Arc<Published>>,
    /// In other shapes, each made when somebody wants it.
    others: OnceLock<Box<Others>>,
}

/// In the formats of data.
#[derive(Default)]
struct Others {
    json: OnceLock<Arc<Published>>,
    cbor: OnceLock<Arc<Published>>,
    msgpack: OnceLock<Arc<Published>>,
}

/// The message that an event is to MQTT in a shape; none if it is none, or can't be said there. Its time, if it has one,
/// begins to run when it is first asked for.
pub(crate) fn published(event: &Event, shape: Shape, now: Instant) -> Option<Arc<Published>> {
    let said = event.shared(|event| Said {
        plain: map::message(event).map(|said| Arc::new(Published::new(said, now))),
        others: OnceLock::new(),
    });
    let plain = said.plain.as_ref()?;
    let Shape::Data(format) = shape else {
        return Some(Arc::clone(plain));
    };
    let others = said.others.get_or_init(Box::default);
    let slot = match format {
        Format::Json => &others.json,
        Format::Cbor => &others.cbor,
        Format::MessagePack => &others.msgpack,
    };
    let made = slot.get_or_init(|| match map::in_format(event, plain.message(), format) {
        Some(message) => Arc::new(plain.with(message)),
        None => Arc::clone(plain),
    });
    Some(Arc::clone(made))
}

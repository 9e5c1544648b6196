//! Events as messages, each made and encoded once for all who get it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sapwood_core::{Database, Event};
use sapwood_value::Format;

use crate::codec::Message;
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
    /// As if nothing were there any more: to who is told no more what is there.
    Removal,
}

/// What an event is to MQTT; it lives with the event.
struct Said {
    /// None if it is nothing, or can't be said there.
    plain: Option<Arc<Published>>,
    /// In other shapes, each made when somebody wants it.
    others: OnceLock<Box<Others>>,
}

/// In the formats of data, and as a removal.
#[derive(Default)]
struct Others {
    json: OnceLock<Arc<Published>>,
    cbor: OnceLock<Arc<Published>>,
    msgpack: OnceLock<Arc<Published>>,
    removal: OnceLock<Arc<Published>>,
}

/// The message that an event is to MQTT in a shape; none if it is none, or can't be said there. Its time, if it has one,
/// begins to run when it is first asked for.
pub(crate) fn published(
    event: &Event,
    shape: Shape,
    now: Instant,
    database: &Database,
) -> Option<Arc<Published>> {
    let said = event.shared(|event| Said {
        plain: map::message(event).map(|said| Arc::new(timed(said, event, now, database))),
        others: OnceLock::new(),
    });
    let plain = said.plain.as_ref()?;
    let others = || said.others.get_or_init(Box::default);
    let in_format = |slot: &OnceLock<Arc<Published>>, format| {
        let make = || match map::in_format(event, plain.message(), format) {
            Some(message) => Arc::new(plain.with(message)),
            None => Arc::clone(plain),
        };
        Arc::clone(slot.get_or_init(make))
    };
    Some(match shape {
        Shape::AsItIs => Arc::clone(plain),
        Shape::Data(Format::Json) => in_format(&others().json, Format::Json),
        Shape::Data(Format::Cbor) => in_format(&others().cbor, Format::Cbor),
        Shape::Data(Format::MessagePack) => in_format(&others().msgpack, Format::MessagePack),
        Shape::Removal => {
            let removal = || Arc::new(Published::new(map::removal(plain.message()), now));
            Arc::clone(others().removal.get_or_init(removal))
        }
    })
}

/// A message with its time: what is left of the record's, which goes by itself (3.3.2-6), else its own.
fn timed(mut said: Message, event: &Event, now: Instant, database: &Database) -> Published {
    let Some(expires_ms) = event.expires_ms else {
        return Published::new(said, now);
    };
    let left = Duration::from_millis(expires_ms.saturating_sub(database.now_ms()));
    // What is told is counted down from the end.
    said.properties.message_expiry_s = Some(u32::try_from(left.as_secs()).unwrap_or(u32::MAX));
    match now.checked_add(left) {
        Some(expires) => Published::until(said, expires),
        None => Published::new(said, now),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_core::{Claims, Connect, Core, CoreSettings, Delivery, Start, WatchSpec};
    use sapwood_tree::{OpKind, Path};

    use super::*;
    use crate::topic::Filter;

    #[test]
    fn an_event_is_made_once_for_each_shape() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let _entered = runtime.enter();
        let core = Core::open(CoreSettings::memory()).unwrap();
        let database = core.database("default").unwrap();
        let limits = sapwood_tree::Limits::default();
        let path = Path::parse("/a", &limits).unwrap();
        let kind = OpKind::Put {
            value: 5.into(),
            mark: true,
        };
        let write = sapwood_core::Write::of(path, kind);
        runtime
            .block_on(database.write(&Claims::anonymous(), write))
            .unwrap();
        let mut session = database.connect(Connect {
            protocol: "test",
            peer: None,
            claims: Claims::anonymous(),
        });
        let filter = Filter::parse("a", &limits).unwrap().filter;
        session
            .watch(WatchSpec::Topic(filter), Start::State)
            .unwrap();
        let mut told = Vec::new();
        runtime.block_on(session.next(&mut told));
        let Some(Delivery::Event { event, .. }) = told.pop() else {
            panic!("nothing is told");
        };
        let now = Instant::now();
        let make = |shape| published(&event, shape, now, &database).unwrap();
        let shapes = [
            Shape::AsItIs,
            Shape::Data(Format::Cbor),
            Shape::Data(Format::MessagePack),
            Shape::Removal,
        ];
        for shape in shapes {
            assert!(Arc::ptr_eq(&make(shape), &make(shape)), "{shape:?}");
            for other in shapes.into_iter().filter(|other| *other != shape) {
                assert!(
                    !Arc::ptr_eq(&make(shape), &make(other)),
                    "{shape:?} {other:?}"
                );
            }
        }
        // It was JSON already.
        assert!(Arc::ptr_eq(
            &make(Shape::AsItIs),
            &make(Shape::Data(Format::Json))
        ));
        core.close();
    }
}

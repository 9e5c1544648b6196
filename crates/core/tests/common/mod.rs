//! What the tests of this crate share: a core, writes in short, and a session read until it has said what is expected.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails where it does"
)]
#![allow(dead_code, reason = "each test file uses a part of this")]

use std::sync::Arc;
use std::time::Duration;

use sapwood_core::{
    Claims, Connect, Core, CoreSettings, Database, Delivery, Event, EventValue, ManualClock,
    Session, Start, WatchSpec, Write, WriteOp,
};
use sapwood_tree::{Limits, OpKind, Path};
use sapwood_value::{Value, json};

/// A core in memory whose clock stands at a second after the epoch.
pub(crate) fn memory() -> (Core, Database, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(1_000));
    let settings = CoreSettings {
        clock: clock.clone(),
        ..CoreSettings::memory()
    };
    let core = Core::open(settings).unwrap();
    let database = core.database("default").unwrap();
    (core, database, clock)
}

pub(crate) fn path(text: &str) -> Path {
    Path::parse(text, &Limits::default()).unwrap()
}

pub(crate) fn value(text: &str) -> Value {
    json::decode(text.as_bytes(), &sapwood_value::Limits::default()).unwrap()
}

pub(crate) fn text(value: &Value) -> String {
    let mut out = Vec::new();
    json::encode_spelled(value, &mut out);
    String::from_utf8(out).unwrap()
}

pub(crate) fn put(at: &str, to: &str) -> WriteOp {
    WriteOp::new(
        path(at),
        OpKind::Put {
            value: value(to),
            mark: false,
        },
    )
}

pub(crate) fn delete(at: &str) -> WriteOp {
    WriteOp::new(path(at), OpKind::Delete)
}

pub(crate) fn patch(at: &str, to: &str) -> WriteOp {
    let Value::Map(map) = value(to) else {
        panic!("a patch is a map")
    };
    let entries = map
        .into_iter()
        .map(|(key, value)| (key, Some(value).filter(|value| !value.is_null())))
        .collect();
    WriteOp::new(
        path(at),
        OpKind::Merge {
            entries,
            mark: false,
        },
    )
}

pub(crate) fn write(ops: impl IntoIterator<Item = WriteOp>) -> Write {
    Write {
        ops: ops.into_iter().collect(),
        conditions: Vec::new(),
    }
}

pub(crate) async fn done(
    database: &Database,
    ops: impl IntoIterator<Item = WriteOp>,
) -> sapwood_core::Committed {
    database
        .write(&Claims::anonymous(), write(ops))
        .await
        .unwrap()
}

pub(crate) fn read(database: &Database, at: &str) -> Option<String> {
    let reading = database.read(&Claims::anonymous(), &path(at)).unwrap();
    reading.value(usize::MAX).unwrap().map(|value| text(&value))
}

pub(crate) fn connect(database: &Database) -> Session {
    database.connect(Connect {
        protocol: "test",
        peer: None,
        claims: Claims::anonymous(),
    })
}

pub(crate) fn watch_tree(session: &mut Session, at: &str) {
    session
        .watch(WatchSpec::Tree(path(at)), Start::State)
        .unwrap();
}

/// An event in short: `put /a 5`, with `.k` behind the kind on all but a commit's last.
pub(crate) fn short(event: &Event) -> String {
    let kind = format!("{:?}", event.kind).to_lowercase();
    let part = event
        .version
        .as_ref()
        .and_then(|version| version.part)
        .map(|part| format!(".{part}"))
        .unwrap_or_default();
    let value = match event.value() {
        EventValue::Absent => String::new(),
        EventValue::Value(value) => format!(" {}", text(value)),
        EventValue::Entries(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{key}:{}", value.as_ref().map_or("null".into(), text)))
                .collect();
            format!(" {{{}}}", entries.join(","))
        }
    };
    let id = event
        .id
        .as_ref()
        .map(|id| format!(" #{id}"))
        .unwrap_or_default();
    format!(
        "{kind}{part} {}{value}{id}",
        if event.path.is_root() {
            "/"
        } else {
            event.path.as_str()
        }
    )
}

/// The next `count` deliveries, in short.
pub(crate) async fn next(session: &mut Session, count: usize) -> Vec<String> {
    let mut told = Vec::new();
    while told.len() < count {
        let mut out = Vec::new();
        let waited = tokio::time::timeout(Duration::from_secs(20), session.next(&mut out)).await;
        assert!(waited.is_ok(), "nothing came after {told:?}");
        told.extend(out.iter().map(|delivery| match delivery {
            Delivery::Event { event, .. } => short(event),
            Delivery::Answer { tag, answer } => match answer {
                Ok(_) => format!("answer {tag}"),
                Err(error) => format!("answer {tag}: {error}"),
            },
        }));
    }
    told
}

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
    let mut drained = Drained::default();
    let empty = outbox.poll_drain(Waker::noop(), &mut drained).is_pending();
    assert!(!empty || drained.parcels.is_empty());
    drained
}

fn told(drained: &Drained) -> Vec<String> {
    drained
        .parcels
        .iter()
        .map(|parcel| match parcel {
            Parcel::Event(_, event) => format!("{} {:?}", event.path, event.value()),
            Parcel::Published(tag, _) | Parcel::Answer(tag, _) => format!("answer {tag}"),
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

//! Durable sessions: what is kept for them, and what they find again.

#![allow(clippy::unwrap_used, reason = "a test fails where it does")]

mod common;

use std::future::poll_fn;
use std::path::Path as FsPath;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;

use bytes::Bytes;
use common::{connect, delete, done, next, path, put, short, write};
use sapwood_core::{
    Begin, Core, CoreSettings, Database, Delivery, Durable, DurableChange, ManualClock, Message,
    Session, Start, WatchSpec, last_of,
};
use sapwood_tree::{Limits, OpKind, Payload, TopicFilter};
use sapwood_value::Value;

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text, &Limits::default()).unwrap()
}

fn open(dir: &FsPath, clock: &Arc<ManualClock>) -> (Core, Database) {
    let settings = CoreSettings {
        clock: clock.clone(),
        ..CoreSettings::folder(dir.to_owned())
    };
    let core = Core::open(settings).unwrap();
    let database = core.database("default").unwrap();
    (core, database)
}

/// A durable session that is told what matches `filters`.
async fn begin(database: &Database, key: &str, filters: &[&str]) -> Session {
    let mut session = connect(database);
    let instead_of = database.durable(key).unwrap().map(|durable| durable.id);
    session.submit_begin(1, key, 60, Begin::Anew { instead_of });
    let subscribe = |text: &&str| DurableChange::Subscribe {
        filter: filter(text),
    };
    session.submit_changes(2, filters.iter().map(subscribe).collect());
    assert_eq!(next(&mut session, 2).await, ["answer 1", "answer 2"]);
    session
}

async fn change(session: &mut Session, changes: impl Into<Vec<DurableChange>>) {
    session.submit_changes(9, changes.into());
    assert_eq!(next(session, 1).await, ["answer 9"]);
}

fn message(text: &str) -> Message {
    let mut message = Message::new(Value::String(text.into()));
    message.qos = 1;
    message
}

async fn publish(session: &mut Session, at: &str, text: &str) -> u64 {
    session.submit_publish(7, path(at), message(text));
    let mut told = Vec::new();
    session.next(&mut told).await;
    match told.as_slice() {
        [
            sapwood_core::Delivery::Answer {
                answer: Ok(sapwood_core::Answer::Published { receivers }),
                ..
            },
        ] => *receivers,
        other => panic!("{other:?}"),
    }
}

/// What waits for a session behind a number, in short.
fn waiting(session: &Session, after: u64) -> Vec<String> {
    let numbers = session.kept_after(after, 100).into_iter();
    numbers
        .filter_map(|number| session.kept(number))
        .map(|event| short(&event))
        .collect()
}

fn resume(database: &Database, key: &str) -> Durable {
    database.durable(key).unwrap().unwrap()
}

#[tokio::test]
async fn what_is_said_while_nobody_is_there_is_found_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000));
    let (core, database) = open(dir.path(), &clock);
    begin(&database, "a", &["s/+", "x/#"]).await.close().await;
    let mut other = connect(&database);
    assert_eq!(publish(&mut other, "/s/1", "one").await, 1);
    assert_eq!(publish(&mut other, "/t/1", "nobody").await, 0);
    done(&database, [put("/x/y", "5")]).await;
    done(&database, [delete("/x/y")]).await;
    assert_eq!(publish(&mut other, "/s/2", "two").await, 1);
    drop(other);
    core.close();
    drop((core, database));
    let (core, database) = open(dir.path(), &clock);
    let durable = resume(&database, "a");
    let mut session = connect(&database);
    session.submit_begin(1, "a", 60, Begin::GoOn(durable.id));
    next(&mut session, 1).await;
    assert_eq!(
        waiting(&session, durable.cursor),
        [
            "message /s/1 \"one\"",
            "delete /x/y",
            "delete /x/y",
            "message /s/2 \"two\""
        ]
    );
    core.close();
}

#[tokio::test]
async fn what_was_taken_and_not_settled_is_held_and_what_all_have_passed_goes() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000));
    let (core, database) = open(dir.path(), &clock);
    let mut session = begin(&database, "a", &["s"]).await;
    let mut other = connect(&database);
    for text in ["one", "two", "three"] {
        publish(&mut other, "/s", text).await;
    }
    let numbers = session.kept_after(0, 10);
    let [one, two, three] = numbers.as_slice() else {
        panic!("{numbers:?}")
    };
    let take = |number: &u64| DurableChange::Take {
        number: *number,
        row: Bytes::from_static(b"row"),
    };
    change(
        &mut session,
        [take(one), take(two), DurableChange::Settle { number: *two }],
    )
    .await;
    let durable = resume(&database, "a");
    assert_eq!(
        (&durable.held, &durable.settled),
        (&vec![(*one, "row".into())], &vec![*two])
    );
    change(&mut session, [DurableChange::Pass { cursor: *two }]).await;
    let durable = resume(&database, "a");
    assert_eq!((durable.cursor, durable.settled), (*two, vec![]));
    session.close().await;
    drop(other);
    core.close();
    drop((core, database));

    let (core, database) = open(dir.path(), &clock);
    let durable = resume(&database, "a");
    let mut session = connect(&database);
    session.submit_begin(1, "a", 60, Begin::GoOn(durable.id));
    next(&mut session, 1).await;
    assert_eq!(session.kept_after(durable.cursor, 10), [*three]);
    assert_eq!(
        session.kept(*one).map(|event| short(&event)).as_deref(),
        Some("message /s \"one\"")
    );
    change(
        &mut session,
        [
            DurableChange::Settle { number: *one },
            DurableChange::Pass { cursor: *three },
        ],
    )
    .await;
    // Something comes by that gives the committer a reason to look.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while session.kept(*one).is_some() || session.kept(*three).is_some() {
        assert!(std::time::Instant::now() < deadline, "it is still kept");
        done(&database, [put("/elsewhere", "1")]).await;
    }
    core.close();
}

#[tokio::test]
async fn a_retained_publish_is_kept_as_it_came_and_one_of_qos_0_is_not() {
    let (core, database, _) = common::memory();
    let session = begin(&database, "a", &["#"]).await;
    let record = |qos| {
        let payload = Payload {
            bytes: Some("21.50".into()),
            qos,
            ..Payload::default()
        };
        sapwood_core::WriteOp::new(
            path("/r"),
            OpKind::PutRecord {
                document: Value::Float(21.5),
                payload: Some(payload),
            },
        )
    };
    done(&database, [record(0)]).await;
    done(&database, [record(2)]).await;
    let numbers = session.kept_after(0, 10);
    let events: Vec<_> = numbers
        .iter()
        .filter_map(|number| session.kept(*number))
        .collect();
    assert_eq!(events.len(), 1);
    assert_eq!(
        events[0].payload().unwrap().bytes.as_deref(),
        Some(&b"21.50"[..])
    );
    core.close();
}

#[tokio::test]
async fn a_session_ends_when_its_time_is_over_and_takes_what_was_kept_along() {
    let (core, database, clock) = common::memory();
    let mut session = begin(&database, "a", &["s"]).await;
    let row = |key: &'static str| DurableChange::Row {
        key: key.into(),
        value: Some("row".into()),
    };
    change(
        &mut session,
        [row("k"), DurableChange::Away { expires_ms: 5_000 }],
    )
    .await;
    assert_eq!(resume(&database, "a").rows, [("k".into(), "row".into())]);
    let mut other = connect(&database);
    publish(&mut other, "/s", "one").await;
    clock.advance(3_999);
    done(&database, [put("/x", "1")]).await;
    assert!(database.durable("a").unwrap().is_some());
    clock.advance(1);
    // It is the committer's turn to see it: a write wakes it, and it looks behind the write.
    done(&database, [put("/x", "2")]).await;
    done(&database, [put("/x", "3")]).await;
    assert!(database.durable("a").unwrap().is_none());
    assert_eq!(database.durable_sessions(), 0);
    assert_eq!(publish(&mut other, "/s", "two").await, 0);
    core.close();
}

#[tokio::test]
async fn a_message_has_the_time_that_is_left_of_it() {
    let (core, database, clock) = common::memory();
    let session = begin(&database, "a", &["s"]).await;
    let mut other = connect(&database);
    let mut long = message("long");
    long.expires_s = Some(10);
    let mut brief = message("brief");
    brief.expires_s = Some(2);
    other.submit_publish(1, path("/s"), long);
    other.submit_publish(2, path("/s"), brief);
    next(&mut other, 2).await;
    clock.advance(3_500);
    let numbers = session.kept_after(0, 10);
    let events: Vec<_> = numbers.iter().map(|number| session.kept(*number)).collect();
    let left = |at: usize| {
        events[at]
            .as_ref()
            .map(|event| event.message().unwrap().expires_s)
    };
    assert_eq!((left(0), left(1)), (Some(Some(7)), None));
    core.close();
}

#[tokio::test]
async fn what_changes_with_a_write_or_a_message_is_there_with_it() {
    let (core, database, _) = common::memory();
    let mut session = begin(&database, "a", &[]).await;
    let row = |key: &'static str| DurableChange::Row {
        key: key.into(),
        value: Some("x".into()),
    };
    session.submit_with(3, write([put("/a", "1")]), vec![row("w")]);
    session.submit_publish_with(4, path("/m"), message("m"), vec![row("m")]);
    assert_eq!(next(&mut session, 2).await.len(), 2);
    let rows = resume(&database, "a").rows;
    assert_eq!(
        rows.iter().map(|(key, _)| &**key).collect::<Vec<_>>(),
        [b"m", b"w"]
    );
    core.close();
}

#[tokio::test]
async fn a_session_that_begins_anew_has_nothing_of_the_one_before() {
    let (core, database, _) = common::memory();
    let mut session = begin(&database, "a", &["s"]).await;
    publish(&mut session, "/s", "one").await;
    let before = resume(&database, "a").id;
    session.close().await;
    let session = begin(&database, "a", &["s"]).await;
    assert_ne!(session.durable(), Some(before));
    assert_eq!(waiting(&session, 0), Vec::<String>::new());
    assert_eq!(database.durable_sessions(), 1);
    assert!(resume(&database, "a").cursor >= last_of(1));
    core.close();
}

/// What a session is told, one letter for a gap or a message.
async fn told(session: &mut Session) -> String {
    let mut told = Vec::new();
    session.next(&mut told).await;
    let letter = |delivery: &sapwood_core::Delivery| match delivery {
        sapwood_core::Delivery::Event { event, .. } => match event.kind {
            sapwood_core::EventKind::Gap { .. } => 'g',
            sapwood_core::EventKind::Message => 'm',
            _ => 's',
        },
        sapwood_core::Delivery::Answer { .. } => 'a',
    };
    told.iter().map(letter).collect()
}

#[tokio::test]
async fn a_gap_is_told_before_what_came_behind_it_and_what_is_kept_is_not_conflated() {
    let clock = Arc::new(ManualClock::at(1_000));
    let settings = CoreSettings {
        clock,
        limits: sapwood_core::Limits {
            outbox_bytes_max: 64 << 10,
            ..sapwood_core::Limits::default()
        },
        ..CoreSettings::memory()
    };
    let core = Core::open(settings).unwrap();
    let database = core.database("default").unwrap();
    let mut session = begin(&database, "a", &["#"]).await;
    let spec = sapwood_core::WatchSpec::Topic(filter("#"));
    session.watch(spec, sapwood_core::Start::Now).unwrap();
    while !session.is_live() {
        let mut none = Vec::new();
        let polled = tokio::time::timeout(
            std::time::Duration::from_millis(10),
            session.next(&mut none),
        );
        drop(polled.await);
    }
    let mut other = connect(&database);
    let large = "x".repeat(40 << 10);
    // The second finds no room, the third does.
    for text in [&large, &large, "small"] {
        publish(&mut other, "/s", text).await;
    }
    assert_eq!(told(&mut session).await, "gmm");
    for n in 0..2 {
        done(&database, [put("/r", &format!("\"{n}{large}\""))]).await;
    }
    publish(&mut other, "/s", "small").await;
    assert_eq!(told(&mut session).await, "gsm");
    assert_eq!(session.kept_after(0, 100).len(), 6);
    core.close();
}

/// Comes back to a session while others write; what was kept meanwhile, and was neither found nor told.
async fn missed_by_coming_back(database: &Database, key: &str, round: u32) -> Vec<u64> {
    let mut session = connect(database);
    session.submit_begin(1, key, 60, Begin::GoOn(resume(database, key).id));
    next(&mut session, 1).await;
    let before = session.kept_after(0, usize::MAX).pop().unwrap_or(0);
    let writer = tokio::spawn({
        let database = database.clone();
        async move {
            for n in 0..20 {
                done(&database, [put("/s/1", &n.to_string())]).await;
            }
        }
    });
    let spec = WatchSpec::Topic(filter("s/#"));
    session.watch(spec, Start::Now).unwrap();
    let mut told = Vec::new();
    poll_fn(|cx| {
        let _anything = session.poll_next(cx, &mut told);
        if session.is_live() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    let mut found = session.kept_after(before, usize::MAX);
    found.retain(|number| session.kept(*number).is_some());
    writer.await.unwrap();
    done(database, [put("/s/last", &round.to_string())]).await;
    let mut at_end = false;
    while !at_end {
        for told in told.drain(..) {
            if let Delivery::Event { event, .. } = told {
                at_end |= event.path == path("/s/last");
                found.extend(event.kept);
            }
        }
        if !at_end {
            session.next(&mut told).await;
        }
    }
    let mut kept = session.kept_after(before, usize::MAX);
    kept.retain(|number| !found.contains(number));
    kept
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_while_others_write_misses_nothing() {
    let (core, database, _clock) = common::memory();
    begin(&database, "a", &["s/#"]).await.close().await;
    let other = begin(&database, "b", &["s/#"]).await;
    done(&database, (0..2_000).map(|n| put(&format!("/s/{n}"), "1"))).await;
    // The committer has to wait for who looks something up in all that.
    let ends = Arc::new(AtomicBool::new(false));
    let looks = thread::spawn({
        let ends = Arc::clone(&ends);
        move || {
            while !ends.load(Ordering::Relaxed) {
                other.kept_after(0, 1);
            }
        }
    });
    let mut missed = Vec::new();
    for round in 0..40 {
        missed.extend(missed_by_coming_back(&database, "a", round).await);
    }
    ends.store(true, Ordering::Relaxed);
    looks.join().unwrap();
    core.close();
    assert_eq!(missed, Vec::<u64>::new());
}

#[tokio::test]
async fn who_subscribes_again_loses_nothing_of_what_waits() {
    let (core, database, _) = common::memory();
    let mut session = begin(&database, "a", &["s"]).await;
    publish(&mut session, "/s", "one").await;
    let again = DurableChange::Subscribe {
        filter: filter("s"),
    };
    let off = DurableChange::Unsubscribe {
        filter: filter("s"),
    };
    change(&mut session, [again.clone()]).await;
    assert_eq!(waiting(&session, 0), ["message /s \"one\""]);
    change(&mut session, [off, again]).await;
    assert_eq!(waiting(&session, 0), Vec::<String>::new());
    publish(&mut session, "/s", "two").await;
    assert_eq!(waiting(&session, 0), ["message /s \"two\""]);
    core.close();
}

#[tokio::test]
async fn changes_do_not_count_as_requests() {
    let settings = CoreSettings {
        limits: sapwood_core::Limits {
            requests_in_flight_max: 1,
            ..sapwood_core::Limits::default()
        },
        ..CoreSettings::memory()
    };
    let core = Core::open(settings).unwrap();
    let database = core.database("default").unwrap();
    let mut session = begin(&database, "a", &[]).await;
    session.submit_changes(2, Vec::new());
    session.submit_changes(3, Vec::new());
    session.submit(4, write([put("/a", "1")]));
    assert_eq!(
        next(&mut session, 3).await,
        ["answer 2", "answer 3", "answer 4"]
    );
    core.close();
}

#[tokio::test]
async fn what_is_kept_and_its_bounds_are_in_messages_and_bytes() {
    let (core, database, _) = common::memory();
    let session = begin(&database, "a", &["s/#", "s/1"]).await;
    let mut other = connect(&database);
    for n in 0..10 {
        publish(&mut other, &format!("/s/{}", n % 2), &"x".repeat(1000)).await;
    }
    let numbers = session.kept_after(0, 100);
    assert_eq!(numbers.len(), 10, "each once, by however many filters");
    assert_eq!(session.kept_after(0, 3), numbers[..3]);
    assert_eq!(session.kept_after(numbers[6], 2), numbers[7..9]);
    let all = session.kept_bounds(0, 10, usize::MAX);
    assert_eq!((all.messages, all.dropped, all.newest_from), (10, 0, 0));
    let some = session.kept_bounds(0, 4, usize::MAX);
    assert_eq!(
        (some.dropped, some.newest_from, some.oldest_to, some.last),
        (6, numbers[5], numbers[3], numbers[9])
    );
    let by_bytes = session.kept_bounds(0, 10, 2500);
    assert_eq!((by_bytes.dropped, by_bytes.newest_from), (8, numbers[7]));
    core.close();
}

#[tokio::test]
async fn the_oldest_of_what_is_kept_gives_way() {
    let settings = CoreSettings {
        limits: sapwood_core::Limits {
            kept_messages_max: 32,
            ..sapwood_core::Limits::default()
        },
        ..CoreSettings::memory()
    };
    let core = Core::open(settings).unwrap();
    let database = core.database("default").unwrap();
    let session = begin(&database, "a", &["s"]).await;
    let mut other = connect(&database);
    for n in 0..40 {
        publish(&mut other, "/s", &n.to_string()).await;
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while session.kept_after(0, 100).len() > 32 {
        assert!(std::time::Instant::now() < deadline, "it is still kept");
        done(&database, [put("/elsewhere", "1")]).await;
    }
    let left = waiting(&session, 0);
    assert_eq!(left.len(), 30, "a sixteenth more goes");
    assert_eq!(left.last().map(String::as_str), Some("message /s \"39\""));
    core.close();
}

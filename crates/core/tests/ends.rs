//! What goes when a session or a time does.

#![allow(clippy::unwrap_used, reason = "a test fails where it does")]

mod common;

use std::time::Duration;

use common::{connect, done, memory, next, path, put, read, value, watch_tree, write};
use sapwood_core::{AtEnd, Core, CoreSettings, Delivery, Message, Start, WatchSpec, WriteOp};
use sapwood_tree::{Limits, OpKind, TopicFilter};
use sapwood_value::{ServerValue, Value};

fn owned(at: &str, to: &str) -> sapwood_core::WriteOp {
    let mut op = put(at, to);
    op.owner = true;
    op
}

#[tokio::test]
async fn what_a_session_owns_goes_with_it_and_what_it_left_is_done() {
    let (core, database, _) = memory();
    let mut session = connect(&database);
    session.submit(1, write([owned("/here/me", "true")]));
    let mut op = put("/seen/me", "null");
    op.server_values.push((vec![], ServerValue::Timestamp));
    session.submit_at_end(2, &AtEnd::Write(op));
    session.submit_at_end(
        3,
        &AtEnd::Publish(common::path("/bye"), Message::new(Value::Bool(true))),
    );
    assert_eq!(
        next(&mut session, 3).await,
        ["answer 1", "answer 2", "answer 3"]
    );
    let mut other = connect(&database);
    watch_tree(&mut other, "");
    next(&mut other, 1).await;
    other.submit_read(9, common::path(""));
    next(&mut other, 1).await;
    session.close().await;
    assert_eq!(
        read(&database, "").as_deref(),
        Some(r#"{"seen":{"me":1000}}"#)
    );
    assert_eq!(
        next(&mut other, 3).await,
        [
            "delete.0 /here/me",
            "put /seen/me 1000",
            "message /bye true"
        ]
    );
    core.close();
}

#[tokio::test]
async fn what_somebody_else_wrote_since_stays() {
    let (core, database, _) = memory();
    let mut session = connect(&database);
    session.submit(1, write([owned("/a/b", "1"), owned("/c/d", "1")]));
    next(&mut session, 1).await;
    done(&database, [put("/a/b", "2")]).await;
    done(&database, [put("/c", r#"{"d":2}"#)]).await;
    session.close().await;
    assert_eq!(
        read(&database, "").as_deref(),
        Some(r#"{"a":{"b":2},"c":{"d":2}}"#)
    );
    core.close();
}

#[tokio::test]
async fn a_time_to_live_ends_if_nobody_wrote_again() {
    let (core, database, clock) = memory();
    let with_ttl = |at: &str, seconds| {
        let mut op = put(at, "1");
        op.ttl = Some(Duration::from_secs(seconds));
        op
    };
    done(
        &database,
        [
            with_ttl("/a/x", 5),
            with_ttl("/a/y", 5),
            with_ttl("/a/z", 50),
        ],
    )
    .await;
    done(&database, [put("/a/y", "2")]).await;
    let mut session = connect(&database);
    watch_tree(&mut session, "/a");
    next(&mut session, 1).await;
    clock.advance(5_000);
    // Any write wakes the committer, which then looks at the clock.
    done(&database, [put("/b", "1")]).await;
    assert_eq!(next(&mut session, 1).await, ["delete /a/x"]);
    assert_eq!(read(&database, "/a").as_deref(), Some(r#"{"y":2,"z":1}"#));
    core.close();
}

#[tokio::test]
async fn a_first_state_says_when_its_records_go() {
    let (core, database, clock) = memory();
    let record = |n: u64| WriteOp {
        // Some go, some are owned, some stay; others lie between them.
        ttl: n.is_multiple_of(3).then(|| Duration::from_secs(100 + n)),
        ..WriteOp::new(
            path(&format!("/s/{n}/{}", ["temp", "other"][(n % 2) as usize])),
            OpKind::PutRecord {
                document: value("1"),
                payload: None,
            },
        )
    };
    done(&database, (0..700).map(record)).await;
    for (text, step) in [("s/+/temp", 2), ("s/#", 1)] {
        let filter = TopicFilter::parse(text, &Limits::default()).unwrap();
        let mut session = connect(&database);
        session
            .watch(WatchSpec::Topic(filter), Start::State)
            .unwrap();
        let mut told = Vec::new();
        while told.len() < 700 / step {
            session.next(&mut told).await;
        }
        for (told, n) in told.iter().zip((0..700_u64).step_by(step)) {
            let Delivery::Event { event, .. } = told else {
                panic!("{told:?}");
            };
            let expires_ms = n.is_multiple_of(3).then(|| 1_000 + (100 + n) * 1_000);
            assert_eq!(event.expires_ms, expires_ms, "{}", event.path);
        }
    }
    // A write that says nothing of it takes it away.
    let filter = TopicFilter::parse("s/3/+", &Limits::default()).unwrap();
    let mut session = connect(&database);
    session.watch(WatchSpec::Topic(filter), Start::Now).unwrap();
    for (op, expires_ms) in [
        (record(3), Some(1_000 + 5_000 + 103_000)),
        (
            WriteOp {
                ttl: None,
                ..record(3)
            },
            None,
        ),
    ] {
        clock.advance(if expires_ms.is_some() { 5_000 } else { 0 });
        done(&database, [op]).await;
        let mut told = Vec::new();
        session.next(&mut told).await;
        let [Delivery::Event { event, .. }] = &*told else {
            panic!("{told:?}");
        };
        assert_eq!(event.expires_ms, expires_ms);
    }
    core.close();
}

#[tokio::test]
async fn after_a_crash_the_sessions_of_before_have_ended_before_anybody_looks() {
    let folder = tempfile::tempdir().unwrap();
    let settings = CoreSettings::folder(folder.path().to_owned());
    let core = Core::open(settings.clone()).unwrap();
    let database = core.database("default").unwrap();
    let mut session = connect(&database);
    session.submit(1, write([owned("/here/me", "true")]));
    session.submit_at_end(2, &AtEnd::Write(put("/seen/me", "1")));
    next(&mut session, 2).await;
    // A copy of the folder while the server runs is what a crash leaves.
    let copy = tempfile::tempdir().unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .arg(folder.path().join("."))
        .arg(copy.path())
        .status()
        .unwrap();
    assert!(copied.success());
    let after = Core::open(CoreSettings::folder(copy.path().to_owned())).unwrap();
    let database = after.database("default").unwrap();
    assert_eq!(read(&database, "").as_deref(), Some(r#"{"seen":{"me":1}}"#));
    after.close();
    let again = Core::open(CoreSettings::folder(copy.path().to_owned()));
    assert!(again.is_err(), "the lock is held as long as the core is");
    drop((database, after));
    let again = Core::open(CoreSettings::folder(copy.path().to_owned())).unwrap();
    assert_eq!(
        again
            .database("default")
            .unwrap()
            .read(&sapwood_core::Claims::anonymous(), &common::path(""))
            .unwrap()
            .version()
            .seq,
        3,
        "it is done once"
    );
    again.close();
    session.close().await;
    core.close();
}

#[tokio::test]
async fn a_start_replays_what_was_accepted_whatever_the_configuration_says_now() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = CoreSettings::folder(folder.path().to_owned());
    // Nothing gets to the rows' engine: all of it is replayed.
    settings.rows.freeze_after = Duration::from_secs(3600);
    settings.databases = vec![sapwood_core::DatabaseSettings {
        name: "default".into(),
        declared: vec!["s/{id}".into()],
    }];
    let core = Core::open(settings.clone()).unwrap();
    let database = core.database("default").unwrap();
    done(&database, [put("/s/1", r#"{"deep":{"er":"long enough"}}"#)]).await;
    let copy = tempfile::tempdir().unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .arg(folder.path().join("."))
        .arg(copy.path())
        .status()
        .unwrap();
    assert!(copied.success());
    let mut stricter = CoreSettings {
        data: Some(copy.path().to_owned()),
        databases: Vec::new(),
        ..settings
    };
    stricter.limits.depth_max = 2;
    stricter.limits.string_bytes_max = 4;
    let after = Core::open(stricter).unwrap();
    let database = after.database("default").unwrap();
    assert_eq!(
        read(&database, "/s/1").as_deref(),
        Some(r#"{"deep":{"er":"long enough"}}"#)
    );
    let reading = database
        .read(&sapwood_core::Claims::anonymous(), &common::path("/s/1"))
        .unwrap();
    assert!(
        reading.record().unwrap().is_some(),
        "it was declared when it was written"
    );
    after.close();
    core.close();
}

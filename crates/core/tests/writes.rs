//! Writes: what they leave, what they answer, and which of them are refused.

#![allow(clippy::unwrap_used, reason = "a test fails where it does")]

mod common;

use common::{connect, delete, done, memory, next, patch, path, put, read, write};
use sapwood_core::{Claims, Condition, TagList, Version, WriteError};
use sapwood_value::{ServerValue, Value};

#[tokio::test]
async fn a_read_after_the_answer_sees_the_write() {
    let (core, database, _) = memory();
    let first = done(&database, [put("/a/b", r#"{"c":1}"#)]).await;
    assert!(!first.ops[0].existed);
    assert_eq!(read(&database, "/a").as_deref(), Some(r#"{"b":{"c":1}}"#));
    let second = done(&database, [patch("/a/b", r#"{"c":null,"d":2}"#)]).await;
    assert!(second.ops[0].existed);
    assert_eq!(second.version.seq, first.version.seq + 1);
    assert_eq!(read(&database, "/a/b").as_deref(), Some(r#"{"d":2}"#));
    done(&database, [delete("/a/b")]).await;
    assert_eq!(read(&database, "/a"), None);
    core.close();
}

#[tokio::test]
async fn of_many_writers_with_one_tag_exactly_one_wins() {
    let (core, database, _) = memory();
    done(&database, [put("/x", "0")]).await;
    let tag = database
        .read(&Claims::anonymous(), &path("/x"))
        .unwrap()
        .tag()
        .unwrap()
        .unwrap();
    let writers = (1..=32).map(|number| {
        let mut write = write([put("/x", &number.to_string())]);
        write.conditions.push((
            path("/x"),
            Condition::Match(TagList::Tags(vec![tag.clone()])),
        ));
        let database = database.clone();
        tokio::spawn(async move { database.write(&Claims::anonymous(), write).await })
    });
    let mut won = 0;
    for writer in writers.collect::<Vec<_>>() {
        match writer.await.unwrap() {
            Ok(_) => won += 1,
            Err(WriteError::Conflict { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(won, 1);
    core.close();
}

#[tokio::test]
async fn all_conditions_are_judged_on_the_tree_before_the_write() {
    let (core, database, _) = memory();
    let mut both = write([put("/a", "1"), put("/b", "1")]);
    both.conditions = vec![
        (path("/a"), Condition::Exists(false)),
        (path("/b"), Condition::Exists(false)),
    ];
    database
        .write(&Claims::anonymous(), both.clone())
        .await
        .unwrap();
    let refused = database
        .write(&Claims::anonymous(), both)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, WriteError::Conflict { index: 0, .. }),
        "{refused:?}"
    );
    core.close();
}

#[tokio::test]
async fn a_records_version_is_a_precondition_and_another_logs_is_none() {
    let (core, database, _) = memory();
    let mut marked = write([put("/t/1", "5")]);
    marked.ops[0].kind = sapwood_tree::OpKind::Put {
        value: Value::Int(5),
        mark: true,
    };
    let version = database
        .write(&Claims::anonymous(), marked)
        .await
        .unwrap()
        .version;
    let with = |version: Version| {
        let mut write = write([put("/t/1", "6")]);
        write
            .conditions
            .push((path("/t/1"), Condition::Version(version)));
        write
    };
    let other = Version {
        log: sapwood_core::LogId::random(),
        ..version.clone()
    };
    assert!(
        database
            .write(&Claims::anonymous(), with(other))
            .await
            .is_err()
    );
    assert!(
        database
            .write(&Claims::anonymous(), with(version.clone()))
            .await
            .is_ok()
    );
    assert!(
        database
            .write(&Claims::anonymous(), with(version))
            .await
            .is_err()
    );
    core.close();
}

#[tokio::test]
async fn server_values_are_filled_in_when_the_write_is_decided() {
    let (core, database, _) = memory();
    let counter = || {
        let mut op = put("/c", r#"{"n":null,"at":null}"#);
        op.server_values = vec![
            (vec!["n".into()], ServerValue::Increment(Value::Int(2))),
            (vec!["at".into()], ServerValue::Timestamp),
        ];
        op
    };
    done(&database, [counter()]).await;
    done(&database, [counter()]).await;
    assert_eq!(
        read(&database, "/c").as_deref(),
        Some(r#"{"at":1000,"n":4}"#)
    );
    core.close();
}

#[tokio::test]
async fn a_write_of_several_operations_happens_whole_or_not_at_all() {
    let (core, database, _) = memory();
    let deep = "/a".repeat(32);
    let refused = database
        .write(
            &Claims::anonymous(),
            write([put("/ok", "1"), put(&deep, r#"{"b":1}"#)]),
        )
        .await
        .unwrap_err();
    assert!(
        matches!(refused, WriteError::Invalid { index: 1, .. }),
        "{refused:?}"
    );
    assert_eq!(read(&database, "/ok"), None);
    core.close();
}

#[tokio::test]
async fn an_answer_comes_behind_the_events_that_it_was_decided_on() {
    let (core, database, _) = memory();
    let mut session = connect(&database);
    common::watch_tree(&mut session, "/a");
    assert_eq!(next(&mut session, 1).await, ["put /a null"]);
    // Joined by the time that an answer of its own comes.
    session.submit_read(0, path("/a"));
    next(&mut session, 1).await;
    done(&database, [put("/a/x", "1")]).await;
    session.submit(1, write([put("/a/y", "2")]));
    session.submit_read(2, path("/a"));
    let told = next(&mut session, 4).await;
    let place = |what: &str| {
        told.iter()
            .position(|told| told == what)
            .unwrap_or_else(|| panic!("{what} in {told:?}"))
    };
    assert!(place("put /a/x 1") < place("answer 1") && place("put /a/y 2") < place("answer 1"));
    assert!(place("put /a/x 1") < place("answer 2"));
    core.close();
}

#[tokio::test]
async fn only_a_session_can_own() {
    let (core, database, _) = memory();
    let mut owned = write([put("/a", "1")]);
    owned.ops[0].owner = true;
    assert!(matches!(
        database.write(&Claims::anonymous(), owned).await,
        Err(WriteError::NoSession)
    ));
    core.close();
}

#[tokio::test]
async fn a_write_larger_than_the_whole_queue_waits_alone_and_is_done() {
    let mut settings = sapwood_core::CoreSettings::memory();
    settings.limits.writes_waiting_max = 1;
    let core = sapwood_core::Core::open(settings).unwrap();
    let database = core.database("default").unwrap();
    let large = format!("\"{}\"", "x".repeat(100_000));
    let written = done(&database, [put("/a", &large)]);
    let patience = std::time::Duration::from_secs(20);
    tokio::time::timeout(patience, written).await.unwrap();
    let mut session = connect(&database);
    session.submit(1, write([put("/b", &large)]));
    assert_eq!(next(&mut session, 1).await, ["answer 1"]);
    core.close();
}

//! Watches: a first state, then every change, with neither gap nor overlap.

#![allow(clippy::unwrap_used, reason = "a test fails where it does")]

mod common;

use common::{connect, delete, done, memory, next, patch, path, put, value, watch_tree};
use sapwood_core::{Claims, Core, CoreSettings, Message, Start, WatchSpec, WriteOp};
use sapwood_tree::OpKind;
use sapwood_value::Value;

#[tokio::test]
async fn a_tree_watch_is_told_the_state_and_then_the_changes() {
    let (core, database, _) = memory();
    done(&database, [put("/a", r#"{"b":1}"#)]).await;
    let mut session = connect(&database);
    watch_tree(&mut session, "/a");
    assert_eq!(next(&mut session, 1).await, [r#"put /a {"b":1}"#]);
    done(&database, [put("/a/c", "2")]).await;
    done(&database, [patch("/a", r#"{"b":null,"d":3}"#)]).await;
    done(&database, [put("/other", "1")]).await;
    done(&database, [delete("/a/c")]).await;
    assert_eq!(
        next(&mut session, 3).await,
        ["put /a/c 2", "patch /a {b:null,d:3}", "delete /a/c"]
    );
    core.close();
}

#[tokio::test]
async fn a_write_above_is_cut_to_the_watch_and_told_only_if_it_changed_something() {
    let (core, database, _) = memory();
    done(&database, [put("/a", r#"{"b":1,"c":1}"#)]).await;
    let mut session = connect(&database);
    watch_tree(&mut session, "/a/b");
    assert_eq!(next(&mut session, 1).await, ["put /a/b 1"]);
    done(&database, [put("/a", r#"{"b":1,"c":2}"#)]).await;
    done(&database, [put("/a", r#"{"b":2}"#)]).await;
    done(&database, [delete("/a")]).await;
    assert_eq!(next(&mut session, 2).await, ["put /a/b 2", "delete /a/b"]);
    core.close();
}

#[tokio::test]
async fn the_last_event_of_a_commit_carries_its_version() {
    let (core, database, _) = memory();
    let mut session = connect(&database);
    watch_tree(&mut session, "/a");
    next(&mut session, 1).await;
    done(
        &database,
        [
            put("/a/x", "1"),
            put("/b", "1"),
            put("/a/y", "2"),
            put("/c", "1"),
        ],
    )
    .await;
    assert_eq!(next(&mut session, 2).await, ["put.0 /a/x 1", "put /a/y 2"]);
    core.close();
}

#[tokio::test]
async fn a_watch_of_children_is_told_whole_children() {
    let (core, database, _) = memory();
    done(&database, [put("/c", r#"{"x":{"n":1},"y":{"n":2}}"#)]).await;
    let mut session = connect(&database);
    session
        .watch(WatchSpec::Children(path("/c")), Start::State)
        .unwrap();
    assert_eq!(
        next(&mut session, 2).await,
        [r#"put /c/x {"n":1} #x"#, r#"put /c/y {"n":2} #y"#]
    );
    done(&database, [put("/c/x/m", "3")]).await;
    assert_eq!(
        next(&mut session, 1).await,
        [r#"put /c/x {"m":3,"n":1} #x"#]
    );
    done(&database, [put("/c", r#"{"x":{"m":3,"n":1},"z":0}"#)]).await;
    assert_eq!(
        next(&mut session, 2).await,
        ["delete /c/y #y", "put /c/z 0 #z"]
            .map(|told| told.replace("delete.0", "delete"))
            .map(|told| if told.starts_with("delete") {
                told.replacen("delete", "delete.0", 1)
            } else {
                told
            })
    );
    done(&database, [delete("/c/z")]).await;
    assert_eq!(next(&mut session, 1).await, ["delete /c/z #z"]);
    core.close();
}

#[tokio::test]
async fn a_record_watch_is_told_the_whole_record() {
    let (core, database, _) = memory();
    done(&database, [put("/t/1", r#"{"a":1}"#)]).await;
    let mut session = connect(&database);
    session
        .watch(WatchSpec::Record(path("/t/1")), Start::State)
        .unwrap();
    assert_eq!(next(&mut session, 1).await, [r#"put /t/1 {"a":1} #1"#]);
    done(&database, [put("/t/1/b", "2")]).await;
    assert_eq!(
        next(&mut session, 1).await,
        [r#"put /t/1 {"a":1,"b":2} #1"#]
    );
    done(&database, [delete("/t")]).await;
    assert_eq!(next(&mut session, 1).await, ["delete /t/1 #1"]);
    core.close();
}

#[tokio::test]
async fn a_large_first_state_comes_in_pieces_that_add_up() {
    let (core, database, _) = memory();
    let filler = "x".repeat(1000);
    for group in 0..10 {
        let children: Vec<String> = (0..100)
            .map(|child| format!(r#""k{child}":"{filler}{child}""#))
            .collect();
        done(
            &database,
            [put(
                &format!("/big/g{group}"),
                &format!("{{{}}}", children.join(",")),
            )],
        )
        .await;
    }
    let mut session = connect(&database);
    watch_tree(&mut session, "/big");
    let told = next(&mut session, 11).await;
    assert_eq!(told[0], "put /big {}");
    assert_eq!(
        told.iter()
            .filter(|told| told.starts_with("put /big/g"))
            .count(),
        10
    );
    core.close();
}

#[tokio::test]
async fn a_message_reaches_those_who_watch_its_path_or_above() {
    let (core, database, _) = memory();
    let (mut above, mut child, mut elsewhere) =
        (connect(&database), connect(&database), connect(&database));
    watch_tree(&mut above, "/a");
    child
        .watch(WatchSpec::Children(path("/a")), Start::Now)
        .unwrap();
    watch_tree(&mut elsewhere, "/b");
    next(&mut above, 1).await;
    next(&mut elsewhere, 1).await;
    for session in [&mut above, &mut child] {
        session.submit_read(0, path("/a"));
        next(session, 1).await;
    }
    let message = Message::new(Value::String("hi".into()));
    let receivers = database
        .publish(&Claims::anonymous(), &path("/a/x"), message)
        .await
        .unwrap();
    assert_eq!(receivers, 2);
    assert_eq!(next(&mut above, 1).await, [r#"message /a/x "hi""#]);
    assert_eq!(next(&mut child, 1).await, [r#"message /a/x "hi" #x"#]);
    core.close();
}

#[tokio::test]
async fn a_client_that_comes_back_is_told_what_it_missed() {
    let (core, database, _) = memory();
    let since = done(&database, [put("/a/x", "1")]).await.version;
    done(&database, [put("/a/y", "2"), put("/a/z", "3")]).await;
    done(&database, [delete("/a/x")]).await;
    let mut session = connect(&database);
    session
        .watch(WatchSpec::Tree(path("/a")), Start::Since(since.clone()))
        .unwrap();
    assert_eq!(
        next(&mut session, 3).await,
        ["put.0 /a/y 2", "put /a/z 3", "delete /a/x"]
    );
    let mut half = since;
    half.seq += 1;
    half.part = Some(0);
    let mut session = connect(&database);
    session
        .watch(WatchSpec::Tree(path("/a")), Start::Since(half))
        .unwrap();
    assert_eq!(next(&mut session, 2).await, ["put /a/z 3", "delete /a/x"]);
    core.close();
}

#[tokio::test]
async fn a_version_of_another_log_means_a_reset_and_the_state() {
    let (core, database, _) = memory();
    let mut version = done(&database, [put("/a", "1")]).await.version;
    version.log = sapwood_core::LogId::random();
    let mut session = connect(&database);
    session
        .watch(WatchSpec::Tree(path("/a")), Start::Since(version))
        .unwrap();
    assert_eq!(next(&mut session, 2).await, ["reset /a", "put /a 1"]);
    core.close();
}

/// What a client holds of the children of `/a`.
#[derive(Default)]
struct Held {
    state: std::collections::BTreeMap<String, String>,
    resets: usize,
    answered: bool,
}

impl Held {
    fn take(&mut self, told: &str) {
        match told.split(' ').collect::<Vec<_>>()[..] {
            ["reset", _] => {
                self.resets += 1;
                self.state.clear();
            }
            ["answer", "1"] => self.answered = true,
            ["put", "/a", whole] => {
                if let Value::Map(map) = common::value(whole) {
                    let children = map.iter();
                    let text = |(key, value): (&str, &Value)| (key.to_owned(), common::text(value));
                    self.state = children.map(|(key, value)| text((key, value))).collect();
                }
            }
            ["put", at, value] => {
                let child = at.rsplit('/').next().unwrap();
                self.state.insert(child.to_owned(), value.to_owned());
            }
            ref other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_ends_with_the_newest_state() {
    let (core, database, _) = memory();
    let mut session = connect(&database);
    watch_tree(&mut session, "/a");
    assert_eq!(next(&mut session, 1).await, ["put /a null"]);
    // With its first change it is told all others as they come.
    done(&database, [put("/a/0", "0")]).await;
    assert_eq!(next(&mut session, 1).await, ["put /a/0 0"]);
    for number in 0..5_000 {
        done(
            &database,
            [put(&format!("/a/{}", number % 3_000), &number.to_string())],
        )
        .await;
    }
    session.submit_read(1, path("/a"));
    let mut held = Held::default();
    while !held.answered || held.state.len() < 3_000 {
        for told in next(&mut session, 1).await {
            held.take(&told);
        }
    }
    assert!(held.resets > 0, "3,000 paths fit no outbox of 1,000 events");
    assert_eq!(held.state["1999"], "4999");
    assert_eq!(held.state["2000"], "2000");
    core.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_starts_while_others_write_misses_nothing() {
    let (core, database, _) = memory();
    let writer = {
        let database = database.clone();
        tokio::spawn(async move {
            for number in 0..3_000 {
                done(&database, [put("/n", &number.to_string())]).await;
            }
        })
    };
    let mut rounds = 0;
    while !writer.is_finished() {
        let mut session = connect(&database);
        watch_tree(&mut session, "/n");
        let mut newest: i64 = -1;
        for told in next(&mut session, 3).await {
            let number = told
                .rsplit(' ')
                .next()
                .and_then(|number| number.parse().ok())
                .unwrap_or(-1);
            assert!(number > newest || newest == -1, "{told} after {newest}");
            assert!(
                newest == -1 || number == newest + 1,
                "{told} after {newest}: a gap"
            );
            newest = number;
            if newest == 2_999 {
                break;
            }
        }
        rounds += 1;
        if database
            .read(&Claims::anonymous(), &path("/n"))
            .unwrap()
            .version()
            .seq
            > 2_990
        {
            break;
        }
    }
    writer.await.unwrap();
    assert!(rounds > 0);
    core.close();
}

fn watch_topic(session: &mut sapwood_core::Session, filter: &str) {
    let filter =
        sapwood_tree::TopicFilter::parse(filter, &sapwood_tree::Limits::default()).unwrap();
    session
        .watch(WatchSpec::Topic(filter), Start::State)
        .unwrap();
}

#[tokio::test]
async fn topics_are_told_by_where_they_are_cut() {
    let (core, database, _) = memory();
    done(&database, [put("/plain/1/temp", "1")]).await;
    let retain = |at: &str, to: &str| {
        sapwood_core::WriteOp::new(
            path(at),
            sapwood_tree::OpKind::PutRecord {
                document: common::value(to),
                payload: None,
            },
        )
    };
    done(&database, [retain("/sensors/341", r#"{"temp":1}"#)]).await;
    let mut all = connect(&database);
    watch_topic(&mut all, "sensors/#");
    assert_eq!(next(&mut all, 1).await, [r#"put /sensors/341 {"temp":1}"#]);
    let mut each = connect(&database);
    watch_topic(&mut each, "plain/+");
    assert_eq!(next(&mut each, 1).await, [r#"put /plain/1 {"temp":1}"#]);
    for session in [&mut all, &mut each] {
        session.submit_read(0, path(""));
        next(session, 1).await;
    }
    done(&database, [put("/sensors/341/temp", "5")]).await;
    done(&database, [put("/plain/1/temp", "5")]).await;
    done(&database, [delete("/sensors")]).await;
    assert_eq!(
        next(&mut all, 2).await,
        [r#"put /sensors/341 {"temp":5}"#, "delete /sensors/341"]
    );
    assert_eq!(next(&mut each, 1).await, [r#"put /plain/1 {"temp":5}"#]);
    core.close();
}

#[tokio::test]
async fn a_session_is_told_a_topic_once_however_many_filters_match() {
    let (core, database, _) = memory();
    let mut session = connect(&database);
    watch_topic(&mut session, "a/#");
    watch_topic(&mut session, "a/+");
    session.submit_read(0, path(""));
    next(&mut session, 1).await;
    let message = Message::new(Value::Bool(true));
    assert_eq!(
        database
            .publish(&Claims::anonymous(), &path("/a/x"), message)
            .await
            .unwrap(),
        1
    );
    done(&database, [put("/a/x", "1")]).await;
    session.submit_read(1, path(""));
    assert_eq!(
        next(&mut session, 3).await,
        ["message /a/x true", "put /a/x 1", "answer 1"]
    );
    core.close();
}

#[tokio::test]
async fn a_session_moves_on_with_commits_that_say_nothing_to_it() {
    let (core, database, _) = memory();
    let mut session = connect(&database);
    watch_tree(&mut session, "/a");
    next(&mut session, 1).await;
    let newest = done(&database, [put("/b", "1")]).await.version;
    session.submit_read(0, path("/a"));
    next(&mut session, 1).await;
    assert_eq!(session.last_seen(), newest);
    core.close();
}

#[tokio::test]
async fn messages_reach_a_watch_that_is_still_told_its_state() {
    let (core, database, _) = memory();
    let filler = "x".repeat(300_000);
    for child in 0..4 {
        done(
            &database,
            [put(&format!("/a/{child}"), &format!("\"{filler}\""))],
        )
        .await;
    }
    let mut session = connect(&database);
    watch_tree(&mut session, "/a");
    assert_eq!(next(&mut session, 1).await[0], "put /a {}");
    let message = Message::new(Value::Int(7));
    assert_eq!(
        database
            .publish(&Claims::anonymous(), &path("/a/x"), message)
            .await
            .unwrap(),
        1
    );
    let told = next(&mut session, 5).await;
    assert!(
        told.iter().any(|told| told == "message /a/x 7"),
        "{:?}",
        told.iter()
            .map(|told| &told[..told.len().min(20)])
            .collect::<Vec<_>>()
    );
    core.close();
}

#[tokio::test]
async fn a_record_stream_goes_on_behind_a_part_of_a_commit() {
    let (core, database, _) = memory();
    let mut since = done(
        &database,
        [put("/c/b", "1"), put("/c/a", "1"), put("/c/c", "1")],
    )
    .await
    .version;
    since.part = Some(0);
    let mut session = connect(&database);
    session
        .watch(WatchSpec::Children(path("/c")), Start::Since(since))
        .unwrap();
    assert_eq!(
        next(&mut session, 2).await,
        ["put.1 /c/b 1 #b", "put /c/c 1 #c"]
    );
    core.close();
}

#[tokio::test]
async fn much_that_was_missed_is_replayed_and_not_reset() {
    let (core, database, _) = memory();
    let since = done(&database, [put("/big/0", "0")]).await.version;
    let filler = "x".repeat(100_000);
    for number in 0..60 {
        done(
            &database,
            [put(
                &format!("/big/{}", number % 20),
                &format!("\"{number}{filler}\""),
            )],
        )
        .await;
    }
    let mut session = connect(&database);
    session
        .watch(WatchSpec::Tree(path("/big")), Start::Since(since))
        .unwrap();
    let told = next(&mut session, 60).await;
    assert!(
        told.iter().all(|told| told.starts_with("put /big/")),
        "{:?}",
        told.iter()
            .map(|told| &told[..20.min(told.len())])
            .collect::<Vec<_>>()
    );
    core.close();
}

#[tokio::test]
async fn what_a_client_may_resume_from_never_runs_ahead_of_what_it_was_told() {
    let (core, database, _) = memory();
    let since = done(&database, [put("/a", "1")]).await.version;
    let newest = done(&database, [put("/a", "2")]).await.version;
    let mut session = connect(&database);
    session
        .watch(WatchSpec::Tree(path("/a")), Start::Since(since.clone()))
        .unwrap();
    assert_eq!(session.last_seen(), since);
    assert_eq!(next(&mut session, 1).await, ["put /a 2"]);
    assert_eq!(session.last_seen(), newest);
    let mut session = connect(&database);
    watch_tree(&mut session, "/a");
    assert_eq!(session.last_seen().seq, 0);
    assert_eq!(next(&mut session, 1).await, ["put /a 2"]);
    assert_eq!(session.last_seen(), newest);
    core.close();
}

#[tokio::test]
async fn a_client_that_stays_behind_is_reset_before_its_outbox_is_full() {
    let mut settings = CoreSettings::memory();
    settings.limits.outbox_soft_bytes_max = 4_000;
    settings.limits.outbox_soft_s = 0;
    let core = Core::open(settings).unwrap();
    let database = core.database("default").unwrap();
    let mut session = connect(&database);
    watch_tree(&mut session, "/a");
    assert_eq!(next(&mut session, 1).await, ["put /a null"]);
    session.submit_read(1, path("/a"));
    assert_eq!(next(&mut session, 1).await, ["answer 1"]);
    for number in 0..100 {
        done(&database, [put(&format!("/a/{number}"), "\"some text\"")]).await;
    }
    // An answer comes behind all that was told to others.
    let mut other = connect(&database);
    other.submit_read(2, path("/a"));
    assert_eq!(next(&mut other, 1).await, ["answer 2"]);
    let told = next(&mut session, 2).await;
    assert_eq!(told[0], "reset /a");
    assert!(
        told[1].starts_with("put /a {") && told[1].contains("\"99\":"),
        "{told:?}"
    );
    core.close();
}

#[tokio::test]
async fn a_record_that_is_emptied_from_inside_shows_what_it_covered() {
    let (core, database, _) = memory();
    let marked = OpKind::Merge {
        entries: vec![("c".into(), Some(Value::Int(1)))],
        mark: true,
    };
    let document = OpKind::PutRecord {
        document: value(r#"{"b":{"d":2}}"#),
        payload: None,
    };
    done(&database, [WriteOp::new(path("/a/b"), marked)]).await;
    done(&database, [WriteOp::new(path("/a"), document)]).await;
    let mut above = connect(&database);
    watch_tree(&mut above, "");
    assert_eq!(next(&mut above, 1).await, [r#"put / {"a":{"b":{"c":1}}}"#]);
    let mut children = connect(&database);
    children
        .watch(WatchSpec::Children(path("/a/b")), Start::State)
        .unwrap();
    assert_eq!(next(&mut children, 1).await, ["put /a/b/c 1 #c"]);
    let mut beside = connect(&database);
    watch_tree(&mut beside, "/a/b/d");
    assert_eq!(next(&mut beside, 1).await, ["put /a/b/d null"]);

    done(&database, [delete("/a/b/c")]).await;
    assert_eq!(
        next(&mut above, 2).await,
        ["delete.0 /a/b/c", r#"put /a/b {"d":2}"#]
    );
    assert_eq!(
        next(&mut children, 2).await,
        ["delete.0 /a/b/c #c", "put /a/b/d 2 #d"]
    );
    assert_eq!(next(&mut beside, 1).await, ["put /a/b/d 2"]);
    core.close();
}

#[tokio::test]
async fn a_write_of_more_children_than_an_outbox_holds_is_told_as_a_new_beginning() {
    let (core, database, _) = memory();
    let mut children = connect(&database);
    let mut beside = connect(&database);
    children
        .watch(WatchSpec::Children(path("/t")), Start::State)
        .unwrap();
    watch_tree(&mut beside, "/o");
    assert_eq!(next(&mut beside, 1).await, ["put /o null"]);
    children.submit_read(1, path("/t"));
    assert_eq!(next(&mut children, 1).await, ["answer 1"]);
    done(&database, [put("/t/0", "0")]).await;
    assert_eq!(next(&mut children, 1).await, ["put /t/0 0 #0"]);

    let table = |to: &str| {
        let rows = (0..5_000).map(|row| format!("\"{row}\":{{\"a\":{to}}}"));
        format!("{{{}}}", rows.collect::<Vec<_>>().join(","))
    };
    for (write, to) in [(put("/t", &table("1")), 1), (patch("/t", &table("2")), 2)] {
        done(&database, [write]).await;
        done(&database, [put("/o/x", &to.to_string())]).await;
        assert_eq!(next(&mut beside, 1).await, [format!("put /o/x {to}")]);
        let told = next(&mut children, 5_001).await;
        assert_eq!(told[0], "reset /t");
        assert_eq!(told[1], format!("put /t/0 {{\"a\":{to}}} #0"));
        assert_eq!(told[5_000], format!("put /t/4999 {{\"a\":{to}}} #4999"));
    }
    done(&database, [delete("/t")]).await;
    assert_eq!(next(&mut children, 1).await, ["reset /t"]);
    core.close();
}

//! Groups: each event to one member, and to another if that one goes.

#![allow(clippy::unwrap_used, reason = "a test fails where it does")]

mod common;

use common::{connect, delete, done, memory, next, path, put};
use sapwood_core::{
    Claims, Core, CoreSettings, Database, Limits, Message, Session, Start, WatchId, WatchSpec,
};
use sapwood_tree::TopicFilter;
use sapwood_value::Value;

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text, &sapwood_tree::Limits::default()).unwrap()
}

fn join(session: &mut Session, name: &str, text: &str) -> WatchId {
    let spec = WatchSpec::Group {
        name: name.into(),
        filter: filter(text),
    };
    session.watch(spec, Start::State).unwrap()
}

async fn members(database: &Database, count: usize) -> Vec<Session> {
    let mut members = Vec::new();
    for _ in 0..count {
        let mut member = connect(database);
        join(&mut member, "workers", "a/+");
        settled(&mut member).await;
        members.push(member);
    }
    members
}

/// Waits until the hub has seen what the session asked for; gives what was told it until then.
async fn settled(session: &mut Session) -> Vec<String> {
    session.submit_read(0, path("/nothing"));
    let mut told = Vec::new();
    while !told.iter().any(|told| told == "answer 0") {
        told.extend(next(session, 1).await);
    }
    told.retain(|told| told != "answer 0");
    told
}

async fn say(database: &Database, number: i64) -> u64 {
    let message = Message::new(Value::Int(number));
    let (nobody, at) = (Claims::anonymous(), path("/a/x"));
    database.publish(&nobody, &at, message).await.unwrap()
}

#[tokio::test]
async fn each_message_goes_to_one_member_in_turns() {
    let (core, database, _) = memory();
    let mut members = members(&database, 3).await;
    for number in 0..6 {
        assert_eq!(say(&database, number).await, 1);
    }
    for (at, member) in members.iter_mut().enumerate() {
        let told = settled(member).await;
        let expected = [at, at + 3].map(|number| format!("message /a/x {number}"));
        assert_eq!(told, expected);
    }
    core.close();
}

#[tokio::test]
async fn a_group_is_told_what_is_written_once_and_no_first_state() {
    let (core, database, _) = memory();
    done(&database, [put("/a/x", "0")]).await;
    let mut members = members(&database, 2).await;
    done(&database, [put("/a/x", "1")]).await;
    done(&database, [delete("/a/x")]).await;
    assert_eq!(settled(&mut members[0]).await, ["put /a/x 1"]);
    assert_eq!(settled(&mut members[1]).await, ["delete /a/x"]);
    core.close();
}

#[tokio::test]
async fn who_is_behind_or_busy_is_told_less() {
    let (core, database, _) = memory();
    let mut members = members(&database, 3).await;
    members[0].holds(10);
    // Only the second takes what it is told.
    for number in 0..6 {
        say(&database, number).await;
        settled(&mut members[1]).await;
    }
    assert_eq!(settled(&mut members[0]).await.len(), 0);
    assert_eq!(settled(&mut members[2]).await.len(), 1);
    core.close();
}

#[tokio::test]
async fn what_a_member_has_not_taken_when_it_goes_others_are_told() {
    let (core, database, _) = memory();
    let mut members = members(&database, 3).await;
    for number in 0..6 {
        say(&database, number).await;
    }
    let gone = members.remove(0);
    gone.close().await;
    let mut told = Vec::new();
    for member in &mut members {
        told.extend(settled(member).await);
    }
    told.sort();
    let all: Vec<String> = (0..6)
        .map(|number| format!("message /a/x {number}"))
        .collect();
    assert_eq!(told, all);
    core.close();
}

#[tokio::test]
async fn a_member_that_leaves_hands_on_what_waits_and_stays_a_session() {
    let (core, database, _) = memory();
    let mut members = members(&database, 1).await;
    let mut leaving = connect(&database);
    let watch = join(&mut leaving, "workers", "a/+");
    settled(&mut leaving).await;
    for number in 0..4 {
        say(&database, number).await;
    }
    leaving.unwatch(watch);
    assert!(settled(&mut leaving).await.is_empty());
    assert_eq!(settled(&mut members[0]).await.len(), 4);
    drop(members);
    settled(&mut leaving).await;
    assert_eq!(say(&database, 5).await, 0, "nobody is left");
    core.close();
}

#[tokio::test]
async fn groups_of_other_names_or_filters_and_plain_watches_are_told_beside_each_other() {
    let (core, database, _) = memory();
    let mut session = connect(&database);
    join(&mut session, "one", "a/+");
    join(&mut session, "other", "a/+");
    join(&mut session, "one", "a/#");
    session
        .watch(WatchSpec::Topic(filter("#")), Start::Now)
        .unwrap();
    settled(&mut session).await;
    assert_eq!(say(&database, 1).await, 1, "it is one session");
    assert_eq!(settled(&mut session).await, ["message /a/x 1"; 4]);
    core.close();
}

#[tokio::test]
async fn a_full_member_is_passed_over_and_a_full_group_drops_and_says_so() {
    let mut settings = CoreSettings::memory();
    settings.limits = Limits {
        outbox_events_max: 4,
        ..Limits::default()
    };
    let core = Core::open(settings).unwrap();
    let database = core.database("default").unwrap();
    let mut members = members(&database, 2).await;
    // It seems to be the less busy one until it is full.
    members[1].holds(100);
    for number in 0..10 {
        assert_eq!(say(&database, number).await, u64::from(number < 8));
    }
    let mut told = settled(&mut members[0]).await;
    told.extend(settled(&mut members[1]).await);
    let gaps = told.iter().filter(|told| told.starts_with("gap")).count();
    assert_eq!((told.len() - gaps, gaps), (8, 1), "{told:?}");
    core.close();
}

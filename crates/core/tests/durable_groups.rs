//! Groups in which durable sessions share: what is kept for them waits until one member has it.

#![allow(clippy::unwrap_used, reason = "a test fails where it does")]

mod common;

use std::sync::Arc;

use common::{connect, done, next, path, put};
use sapwood_core::{
    Begin, Claim, Core, CoreSettings, Database, Delivery, DurableChange, DurableId, EventKind,
    ManualClock, Message, Session, Start, WatchSpec,
};
use sapwood_tree::{Limits, TopicFilter};
use sapwood_value::Value;

fn filter() -> TopicFilter {
    TopicFilter::parse("s", &Limits::default()).unwrap()
}

async fn begin(database: &Database, key: &str) -> Session {
    let mut session = connect(database);
    session.submit_begin(1, key, 60, Begin::Anew { instead_of: None });
    next(&mut session, 1).await;
    session
}

async fn change(session: &mut Session, changes: impl Into<Vec<DurableChange>>) {
    session.submit_changes(9, changes.into());
    assert_eq!(next(session, 1).await, ["answer 9"]);
}

fn joins() -> DurableChange {
    DurableChange::JoinGroup {
        share: "g".into(),
        filter: filter(),
        group: DurableId::random(),
    }
}

fn leaves() -> DurableChange {
    DurableChange::LeaveGroup {
        share: "g".into(),
        filter: filter(),
    }
}

/// A durable session that shares in the group.
async fn member(database: &Database, key: &str) -> Session {
    let mut session = begin(database, key).await;
    change(&mut session, [joins()]).await;
    session
}

fn watch(session: &mut Session) {
    let spec = WatchSpec::Group {
        name: "g".into(),
        filter: filter(),
    };
    session.watch(spec, Start::Now).unwrap();
}

async fn publish(session: &mut Session, text: &str) {
    let mut message = Message::new(Value::String(text.into()));
    message.qos = 1;
    session.submit_publish(7, path("/s"), message);
    next(session, 1).await;
}

/// What waits for the group: claimed by this session.
fn pull(session: &Session, max: usize) -> Option<(DurableId, Vec<u64>)> {
    session.claim_waiting("g", &filter(), max)
}

fn texts(session: &Session, numbers: &[u64]) -> Vec<String> {
    let events = numbers.iter().filter_map(|number| session.kept(*number));
    events.map(|event| common::short(&event)).collect()
}

/// Waits until nothing is kept under a number; something comes by that gives the committer a reason to look.
async fn is_forgotten(database: &Database, session: &Session, number: u64) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while session.kept(number).is_some() {
        assert!(std::time::Instant::now() < deadline, "it is still kept");
        done(database, [put("/elsewhere", "1")]).await;
    }
}

#[tokio::test]
async fn what_waits_for_a_group_is_claimed_once_and_gone_when_it_is_settled() {
    let (core, database, _) = common::memory();
    let mut one = member(&database, "one").await;
    let two = member(&database, "two").await;
    let mut other = connect(&database);
    for text in ["a", "b", "c"] {
        publish(&mut other, text).await;
    }
    let (group, numbers) = pull(&one, 2).unwrap();
    assert_eq!(
        texts(&one, &numbers),
        ["message /s \"a\"", "message /s \"b\""]
    );
    let (same, rest) = pull(&two, 9).unwrap();
    assert_eq!((same, texts(&two, &rest).len()), (group, 1));
    assert_eq!(two.claim("g", &filter(), numbers[0]), Claim::Taken);
    let settle = |number| DurableChange::SettleFor { group, number };
    change(
        &mut one,
        numbers
            .iter()
            .map(|number| settle(*number))
            .collect::<Vec<_>>(),
    )
    .await;
    // Given back, it is anybody's again; settled, it is nobody's.
    two.release("g", &filter(), rest[0]);
    assert_eq!(one.claim("g", &filter(), numbers[0]), Claim::Taken);
    assert_eq!(one.claim("g", &filter(), rest[0]), Claim::Mine(group));
    is_forgotten(&database, &one, numbers[1]).await;
    assert!(one.kept(rest[0]).is_some());
    core.close();
}

#[tokio::test]
async fn a_group_goes_on_after_a_restart_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let settings = CoreSettings {
            clock: Arc::new(ManualClock::at(1_000)),
            ..CoreSettings::folder(dir.path().to_owned())
        };
        let core = Core::open(settings).unwrap();
        let database = core.database("default").unwrap();
        (core, database)
    };
    let (core, database) = open();
    let mut one = member(&database, "one").await;
    let mut other = connect(&database);
    for text in ["a", "b", "c"] {
        publish(&mut other, text).await;
    }
    let (group, numbers) = pull(&one, 9).unwrap();
    // The one in the middle is done with; the others were with somebody who died.
    let number = numbers[1];
    change(&mut one, [DurableChange::SettleFor { group, number }]).await;
    drop((one, other));
    core.close();
    drop((core, database));
    let (core, database) = open();
    let session = connect(&database);
    let (same, waits) = pull(&session, 9).unwrap();
    assert_eq!(
        (same, texts(&session, &waits)),
        (
            group,
            vec!["message /s \"a\"".into(), "message /s \"c\"".into()]
        )
    );
    core.close();
}

#[tokio::test]
async fn the_last_durable_member_takes_the_group_along() {
    let (core, database, _) = common::memory();
    let mut one = member(&database, "one").await;
    let mut two = member(&database, "two").await;
    publish(&mut two, "a").await;
    let (group, numbers) = pull(&two, 9).unwrap();
    change(&mut one, [leaves()]).await;
    assert_eq!(one.claim("g", &filter(), numbers[0]), Claim::Taken);
    // It ends with the session, too.
    let id = two.durable().unwrap();
    one.submit_end(3, id);
    next(&mut one, 1).await;
    assert_eq!(pull(&one, 9), None);
    is_forgotten(&database, &one, numbers[0]).await;
    // What is done for it late leaves nothing behind, and the next group of that name is another one.
    let number = numbers[0];
    change(
        &mut one,
        [DurableChange::SettleFor { group, number }, joins()],
    )
    .await;
    let (next_group, waits) = pull(&one, 9).unwrap();
    assert_ne!(next_group, group);
    assert_eq!(waits, Vec::<u64>::new());
    assert_eq!(database.durable_sessions(), 1);
    core.close();
}

#[tokio::test]
async fn what_a_member_that_goes_had_claimed_another_looks_for() {
    let (core, database, _) = common::memory();
    let mut one = member(&database, "one").await;
    let mut two = member(&database, "two").await;
    watch(&mut one);
    let mut other = connect(&database);
    publish(&mut other, "a").await;
    publish(&mut other, "b").await;
    // Of what it has claimed it had no room for one, and has given it back.
    let (_, numbers) = pull(&one, 9).unwrap();
    one.release("g", &filter(), numbers[1]);
    watch(&mut two);
    publish(&mut other, "c").await;
    one.close().await;
    let mut told = Vec::new();
    let look = loop {
        two.next(&mut told).await;
        let is_gap = |delivery: &Delivery| matches!(delivery, Delivery::Event { event, .. } if event.kind == EventKind::Gap { dropped: 0 });
        if told.iter().any(is_gap) {
            break pull(&two, 9).unwrap().1;
        }
    };
    let all = ["message /s \"a\"", "message /s \"b\"", "message /s \"c\""];
    assert_eq!(texts(&two, &look), all);
    core.close();
}

#[tokio::test]
async fn what_was_said_before_a_group_was_durable_is_whose_it_was_told() {
    let (core, database, _) = common::memory();
    // Somebody else has it kept.
    let mut plain = begin(&database, "plain").await;
    change(&mut plain, [DurableChange::Subscribe { filter: filter() }]).await;
    let mut other = connect(&database);
    publish(&mut other, "a").await;
    let number = plain.kept_after(0, 9)[0];
    assert_eq!(plain.claim("g", &filter(), number), Claim::NotDurable);
    let mut one = member(&database, "one").await;
    assert_eq!(one.claim("g", &filter(), number), Claim::NotDurable);
    publish(&mut other, "b").await;
    let (group, numbers) = pull(&one, 9).unwrap();
    assert_eq!(texts(&one, &numbers), ["message /s \"b\""]);
    let number = numbers[0];
    change(&mut one, [DurableChange::SettleFor { group, number }]).await;
    assert_eq!(plain.claim("g", &filter(), number), Claim::Taken);
    core.close();
}

#[tokio::test]
async fn what_waits_is_claimed_in_order_and_what_is_given_back_comes_first() {
    let (core, database, _) = common::memory();
    let mut one = member(&database, "one").await;
    let two = connect(&database);
    let mut other = connect(&database);
    for n in 0..30 {
        publish(&mut other, &n.to_string()).await;
    }
    let (group, all) = pull(&two, 99).unwrap();
    assert_eq!(all.len(), 30);
    two.release("g", &filter(), all[20]);
    two.release("g", &filter(), all[7]);
    assert_eq!(pull(&one, 1).unwrap().1, [all[7]]);
    assert_eq!(pull(&one, 9).unwrap().1, [all[20]]);
    assert_eq!(pull(&one, 9).unwrap().1, Vec::<u64>::new());
    one.release("g", &filter(), all[7]);
    let number = all[0];
    change(&mut one, [DurableChange::SettleFor { group, number }]).await;
    publish(&mut other, "30").await;
    let (_, rest) = pull(&one, 9).unwrap();
    assert_eq!((rest[0], rest.len()), (all[7], 2));
    core.close();
}

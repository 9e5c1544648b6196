//! What a limit that is met answers, and that it is counted by the name of its setting. One test, as there is one recorder
//! for all threads.

#![allow(clippy::unwrap_used, reason = "a test fails where it does")]

mod common;

use common::{connect, done, next, path, put, watch_tree, write};
use sapwood_core::{
    AtEnd, Claims, Core, CoreSettings, Limits, Message, Start, WatchError, WatchSpec,
};
use sapwood_testkit::LimitsMet;
use sapwood_value::Value;

fn message(bytes: usize) -> Message {
    Message::new(Value::from("x".repeat(bytes)))
}

#[tokio::test]
async fn a_limit_that_is_met_is_counted_under_its_setting() {
    let met = LimitsMet::default();
    metrics::set_global_recorder(met.clone()).unwrap();
    let mut settings = CoreSettings::memory();
    settings.limits = Limits {
        depth_max: 3,
        value_bytes_max: 20_000,
        writes_waiting_max: 1,
        requests_in_flight_max: 2,
        watches_max: 1,
        at_end_max: 0,
        outbox_bytes_max: 4_000,
        outbox_events_max: 3,
        first_state_bytes_max: 100,
        ..Limits::default()
    };
    let core = Core::open(settings).unwrap();
    let database = core.database("default").unwrap();
    let mut session = connect(&database);

    watch_tree(&mut session, "/a");
    let refused = session.watch(WatchSpec::Tree(path("/b")), Start::State);
    assert_eq!(refused, Err(WatchError::TooMany { max: 1 }));
    assert_eq!(met.count("limits.watches_max"), 1);
    assert_eq!(next(&mut session, 1).await, ["put /a null"]);

    session.submit_at_end(1, &AtEnd::Publish(path("/bye"), message(1)));
    assert_eq!(
        next(&mut session, 1).await,
        ["answer 1: too many writes are waiting"]
    );
    assert_eq!(met.count("limits.at_end_max"), 1);

    for tag in 2..5 {
        session.submit_read(tag, path("/a"));
    }
    next(&mut session, 3).await;
    assert_eq!(met.count("limits.requests_in_flight_max"), 1);

    let deep = [put("/a", r#"{"b":{"c":{"d":1}}}"#)];
    database
        .write(&Claims::anonymous(), write(deep))
        .await
        .unwrap_err();
    assert_eq!(met.count("limits.depth_max"), 1);
    let large = format!("\"{}\"", "x".repeat(30_000));
    session.submit(6, write([put("/a", &large)]));
    assert_eq!(next(&mut session, 1).await.len(), 1);
    assert_eq!(met.count("limits.value_bytes_max"), 1);

    let (nobody, at) = (Claims::anonymous(), path("/a"));
    for bytes in [3_000, 3_000, 1, 1, 1] {
        let sent = database.publish(&nobody, &at, message(bytes)).await;
        assert_eq!(sent.unwrap(), 1);
    }
    assert_eq!(met.count("limits.outbox_bytes_max"), 1);
    assert_eq!(met.count("limits.outbox_events_max"), 1);

    // Each fills the queue.
    let text = format!("\"{}\"", "x".repeat(15_000));
    let one = |at| done(&database, [put(at, &text)]);
    tokio::join!(
        one("/d"),
        one("/e"),
        one("/f"),
        one("/g"),
        one("/h"),
        one("/i")
    );
    assert!(met.count("limits.writes_waiting_max") > 0);

    for child in ["/c/d", "/c/e"] {
        let text = format!("\"{}\"", "x".repeat(90));
        done(&database, [put(child, &text)]).await;
    }
    let mut other = connect(&database);
    watch_tree(&mut other, "/c");
    next(&mut other, 3).await;
    assert_eq!(met.count("limits.first_state_bytes_max"), 1);
    core.close();
    stays_slow(&met).await;
}

async fn stays_slow(met: &LimitsMet) {
    let (nobody, at) = (Claims::anonymous(), path("/a"));
    let mut settings = CoreSettings::memory();
    settings.limits.outbox_soft_bytes_max = 1_000;
    settings.limits.outbox_soft_s = 0;
    let core = Core::open(settings).unwrap();
    let database = core.database("default").unwrap();
    let mut slow = connect(&database);
    watch_tree(&mut slow, "/a");
    next(&mut slow, 1).await;
    for _ in 0..3 {
        let sent = database.publish(&nobody, &at, message(800)).await;
        assert_eq!(sent.unwrap(), 1);
    }
    assert!(met.count("limits.outbox_soft_bytes_max") > 0);
    core.close();
}

//! What topic watches are told of payloads, and who said it.

#![allow(clippy::unwrap_used, reason = "a test fails where it does")]

mod common;

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use common::{connect, delete, done, memory, next, path, put, write};
use sapwood_core::{
    Answer, AtEnd, Database, Delivery, Event, EventKind, Message, Session, Start, WatchSpec,
    WriteOp,
};
use sapwood_tree::{OpKind, Payload, TopicFilter};
use sapwood_value::{Limits, Value};

fn watch(session: &mut Session, filter: &str) {
    let filter = TopicFilter::parse(filter, &sapwood_tree::Limits::default()).unwrap();
    session
        .watch(WatchSpec::Topic(filter), Start::State)
        .unwrap();
}

fn payload(bytes: &'static str, content_type: Option<&str>, qos: u8) -> Payload {
    Payload {
        bytes: Some(bytes.into()),
        content_type: content_type.map(Into::into),
        qos,
        ..Payload::default()
    }
}

fn retain(at: &str, payload: Payload) -> WriteOp {
    let (document, form) = payload.read(&Limits::default());
    let payload = Some(Payload { form, ..payload });
    WriteOp::new(path(at), OpKind::PutRecord { document, payload })
}

/// The next events, `count` at least.
async fn events(session: &mut Session, count: usize) -> Vec<Arc<Event>> {
    let (mut out, mut events) = (Vec::new(), Vec::new());
    while events.len() < count {
        session.next(&mut out).await;
        events.extend(out.drain(..).filter_map(|delivery| match delivery {
            Delivery::Event { event, .. } => Some(event),
            Delivery::Answer { .. } => None,
        }));
    }
    events
}

/// A session that has been told its first state, and is told what happens next.
async fn watching(database: &Database, filter: &str) -> Session {
    let mut session = connect(database);
    watch(&mut session, filter);
    session.submit_read(0, path(""));
    next(&mut session, 1).await;
    session
}

#[tokio::test]
async fn a_message_keeps_its_payload_and_names_its_sender() {
    let (core, database, _) = memory();
    let mut listener = watching(&database, "a/+").await;
    let mut sender = connect(&database);
    let mut message = Message::from_payload(payload("ON", None, 1), Limits::default());
    message.response_topic = Some("answers".into());
    sender.submit_publish(1, path("/a/x"), message);
    assert_eq!(next(&mut sender, 1).await, ["answer 1"]);
    let told = events(&mut listener, 1).await.remove(0);
    assert_eq!(told.origin, Some(sender.id()));
    assert_eq!(told.payload(), Some(&payload("ON", None, 1)));
    let message = told.message().unwrap();
    assert_eq!(
        (message.qos, message.response_topic.as_deref()),
        (1, Some("answers"))
    );
    assert_eq!(message.value(), &Value::from("ON"));
    core.close();
}

#[tokio::test]
async fn a_record_is_told_with_its_payload_first_and_when_it_is_written() {
    let (core, database, _) = memory();
    let mut listener = watching(&database, "a/+").await;
    let mut sender = connect(&database);
    let lamp = || payload(" {\"on\": 1.00} ", Some("application/json"), 0);
    sender.submit(1, write([retain("/a/lamp", lamp())]));
    next(&mut sender, 1).await;
    let mut late = connect(&database);
    watch(&mut late, "a/#");
    for (listener, origin) in [(&mut listener, Some(sender.id())), (&mut late, None)] {
        let told = events(listener, 1).await.remove(0);
        assert_eq!((told.kind, told.origin), (EventKind::Put, origin));
        assert_eq!(told.payload(), Some(&lamp()));
        assert!(told.message().is_none());
    }
    core.close();
}

#[tokio::test]
async fn a_tree_write_to_a_record_keeps_the_payloads_type() {
    let (core, database, _) = memory();
    let cbor = || payload("\u{5}", Some("application/cbor"), 1);
    done(&database, [retain("/a/lamp", cbor())]).await;
    let mut listener = watching(&database, "a/lamp").await;
    for (at, to) in [("/a/lamp", r#"{"n":1}"#), ("/a/lamp/n", "2")] {
        done(&database, [put(at, to)]).await;
        let told = events(&mut listener, 1).await.remove(0);
        let payload = told.payload().unwrap();
        assert_eq!(payload.content_type, cbor().content_type, "{at}");
        assert_eq!((&payload.bytes, payload.qos), (&None, 1), "{at}");
    }
    core.close();
}

#[tokio::test]
async fn several_who_wrote_into_a_record_together_are_nobody() {
    let (core, database, _) = memory();
    done(&database, [retain("/a/lamp", payload("{}", None, 1))]).await;
    let mut listener = watching(&database, "a/lamp").await;
    let (mut one, mut other) = (connect(&database), connect(&database));
    for round in 0..20 {
        one.submit(1, write([put("/a/lamp/one", &round.to_string())]));
        other.submit(1, write([put("/a/lamp/other", &round.to_string())]));
        next(&mut one, 1).await;
        next(&mut other, 1).await;
    }
    let mut told = Vec::new();
    done(&database, [delete("/a/lamp")]).await;
    while !matches!(told.last(), Some(last) if is_delete(last)) {
        told.extend(events(&mut listener, 1).await);
    }
    // Whoever leaves out what it wrote itself still has everything that the other did.
    let seen_by_one = told
        .iter()
        .filter(|event| event.origin != Some(one.id()))
        .count();
    assert!(seen_by_one >= 20, "{seen_by_one}");
    core.close();
}

fn is_delete(event: &Arc<Event>) -> bool {
    event.kind == EventKind::Delete
}

#[tokio::test]
async fn what_expires_says_so() {
    let (core, database, clock) = memory();
    let mut op = retain("/a/lamp", payload("1", None, 1));
    op.ttl = Some(std::time::Duration::from_secs(1));
    done(&database, [op]).await;
    let mut listener = watching(&database, "a/lamp").await;
    clock.advance(1_000);
    done(&database, [put("/b", "1")]).await;
    let told = events(&mut listener, 1).await.remove(0);
    assert!(is_delete(&told) && told.expired);
    done(&database, [retain("/a/lamp", payload("1", None, 1))]).await;
    done(&database, [delete("/a/lamp")]).await;
    let told = events(&mut listener, 2).await;
    assert!(told.iter().all(|event| !event.expired));
    core.close();
}

#[tokio::test]
async fn what_is_forgotten_is_not_done_at_the_end() {
    let (core, database, _) = memory();
    let mut session = connect(&database);
    session.submit_at_end(1, &AtEnd::Write(put("/gone", "1")));
    session.forget_at_end(2);
    session.submit_at_end(3, &AtEnd::Write(put("/left", "1")));
    assert_eq!(
        next(&mut session, 3).await,
        ["answer 1", "answer 2", "answer 3"]
    );
    session.close().await;
    assert_eq!(
        common::read(&database, "").as_deref(),
        Some(r#"{"left":1}"#)
    );
    core.close();
}

#[tokio::test]
async fn what_a_door_makes_of_an_event_is_made_once() {
    let (core, database, _) = memory();
    let (mut one, mut other) = (
        watching(&database, "a").await,
        watching(&database, "+").await,
    );
    let claims = sapwood_core::Claims::anonymous();
    let message = Message::new(Value::Int(1));
    database
        .publish(&claims, &path("/a"), message)
        .await
        .unwrap();
    let one = events(&mut one, 1).await.remove(0);
    let other = events(&mut other, 1).await.remove(0);
    let made = one.shared(|_| String::from("first"));
    assert_eq!(*other.shared(|_| String::from("second")), *made);
    assert_eq!(*other.shared(|_| 5), 5);
    core.close();
}

#[tokio::test]
async fn messages_and_writes_of_a_session_are_told_in_their_order() {
    let (core, database, _) = memory();
    let mut listener = watching(&database, "a/+").await;
    let mut session = connect(&database);
    let mut expected = Vec::new();
    for round in 0..40_i64 {
        let number = |offset: i64| round * 3 + offset;
        for offset in 0..2 {
            let message = Message::new(Value::Int(number(offset)));
            session.submit_publish(0, path("/a/said"), message);
            expected.push(format!("message /a/said {}", number(offset)));
        }
        session.submit(1, write([put("/a/put", &number(2).to_string())]));
        expected.push(format!("put /a/put {}", number(2)));
        if round % 7 == 0 {
            next(&mut session, 3).await;
        }
    }
    assert_eq!(next(&mut listener, expected.len()).await, expected);
    core.close();
}

#[tokio::test]
async fn messages_that_go_together_are_each_told_and_answered() {
    let (core, database, _) = memory();
    let mut listener = watching(&database, "a/+").await;
    let mut group = connect(&database);
    let filter = TopicFilter::parse("a/1", &sapwood_tree::Limits::default()).unwrap();
    let spec = WatchSpec::Group {
        name: "g".into(),
        filter,
    };
    group.watch(spec, Start::Now).unwrap();
    let mut session = connect(&database);
    let mut expected = Vec::new();
    for number in 0..100_i64 {
        let topic = ["/a/1", "/a/2", "/none"][usize::try_from(number / 10 % 3).unwrap()];
        session.submit_publish(
            number.unsigned_abs(),
            path(topic),
            Message::new(Value::Int(number)),
        );
        if topic != "/none" {
            expected.push(format!("message {topic} {number}"));
        }
    }
    let mut out = Vec::new();
    let mut receivers = Vec::new();
    while receivers.len() < 100 {
        session.next(&mut out).await;
        for delivery in out.drain(..) {
            let Delivery::Answer { tag, answer } = delivery else {
                continue;
            };
            assert_eq!(tag, receivers.len() as u64);
            let Answer::Published { receivers: count } = answer.unwrap() else {
                continue;
            };
            receivers.push(count);
        }
    }
    assert_eq!(
        [receivers[0], receivers[9], receivers[10], receivers[20]],
        [2, 2, 1, 0]
    );
    assert_eq!(next(&mut listener, expected.len()).await, expected);
    assert_eq!(next(&mut group, 40).await.len(), 40);
    core.close();
}

#[tokio::test]
async fn a_message_that_the_hub_has_time_for_is_told_by_whoever_says_it() {
    let (_core, database, _clock) = memory();
    let mut told = watching(&database, "a").await;
    let mut says = connect(&database);
    let until = Instant::now() + Duration::from_secs(20);
    let mut out = Vec::new();
    for tag in 1.. {
        let message = Message::from_payload(payload("x", None, 0), Limits::default());
        says.submit_publish(tag, path("/a"), message);
        let mut cx = Context::from_waker(Waker::noop());
        if says.poll_next(&mut cx, &mut out).is_ready() {
            break;
        }
        // It was at work just then.
        assert!(Instant::now() < until, "it never rests");
        says.next(&mut out).await;
    }
    assert!(matches!(out.last(), Some(Delivery::Answer { .. })));
    let mut heard = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(told.poll_next(&mut cx, &mut heard).is_ready());
}

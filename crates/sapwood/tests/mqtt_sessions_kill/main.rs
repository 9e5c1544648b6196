//! Sessions that are kept, over twenty SIGKILLs at random moments: publishers and subscribers of QoS 1 and 2 that keep
//! their own state as the standard wants it (4.1, 4.4). Nothing that was acknowledged is lost, nothing of QoS 2 comes
//! twice, and the order of each topic is kept.
//!
//! `KILL_SCALE` makes the rounds as many times as long.
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod client;
mod ledger;
mod publisher;
mod subscriber;

use std::{
    fmt::Write as _,
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    sync::mpsc,
    thread,
    time::Duration,
};

use bytes::Bytes;
use sapwood_mqtt::codec::{Message, Packet, PacketId, Publish, Qos, Text, Version};
use sapwood_testkit::{Server, ServerBuilder};

use client::{SILENCE, Who};
use ledger::Ledger;
use publisher::Publisher;
use subscriber::Subscriber;

const ROUNDS: u64 = 20;

/// One message: the `n`th on a topic of a publisher's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    publisher: usize,
    topic: usize,
    n: u64,
}

impl Told {
    fn topic(self) -> String {
        format!("kill/p{}/t{}", self.publisher, self.topic)
    }

    fn payload(self) -> String {
        // Never a number alone, which would be read as one.
        let pad = usize::try_from(1 + self.n * 37 % 300).unwrap();
        format!("{} {}", self.n, "x".repeat(pad))
    }

    /// What came: one of these, whole.
    fn read(message: &Message) -> Self {
        let topic = message.topic.as_str();
        let payload = std::str::from_utf8(&message.payload).unwrap();
        let mut levels = topic.split('/').skip(1);
        let mut level = || levels.next().unwrap()[1..].parse().unwrap();
        let told = Self {
            publisher: level(),
            topic: level(),
            n: payload.split(' ').next().unwrap().parse().unwrap(),
        };
        assert_eq!(told.topic(), topic);
        assert_eq!(told.payload(), payload, "{topic} is torn");
        told
    }
}

fn random(below: u64) -> u64 {
    RandomState::new().hash_one(below) % below
}

/// What a client does in one round.
#[derive(Clone, Copy)]
enum Plan {
    Stays,
    /// It does not come.
    Away,
    /// Its connection breaks after so many packets, and it comes again.
    Breaks(u64),
    /// It goes on until there is nothing left to be done.
    Ends,
}

impl Plan {
    fn random() -> Self {
        match random(4) {
            0 => Self::Away,
            1 => Self::Breaks(random(60)),
            _ => Self::Stays,
        }
    }
}

fn subscribers(ledgers: &[Ledger; 6]) -> Vec<Subscriber<'_>> {
    let [own, first, old, slow, all, group] = ledgers;
    let v5 = Version::V5;
    let mut list = vec![
        Subscriber::new("own", v5, &["kill/p0/+", "kill/p1/+"], own, 0),
        Subscriber::new("first", v5, &["kill/+/t0"], first, 3),
        Subscriber::new("old", Version::V3_1_1, &["kill/p3/#"], old, 5),
        Subscriber::new("slow", v5, &["kill/#"], slow, 2),
        // What several filters match comes once.
        Subscriber::new("all", v5, &["kill/#", "kill/p2/+", "kill/p0/t0"], all, 7),
        Subscriber::new("g1", v5, &["$share/g/kill/#"], group, 0),
        Subscriber::new("g2", v5, &["$share/g/kill/#"], group, 4),
    ];
    list[3].who.receive_maximum = Some(4);
    list[3].slow = Duration::from_millis(1);
    list
}

fn publishers() -> Vec<Publisher> {
    let (one, two) = (Qos::AtLeastOnce, Qos::ExactlyOnce);
    vec![
        Publisher::new(0, Version::V5, [two; 3]),
        Publisher::new(1, Version::V5, [one; 3]),
        Publisher::new(2, Version::V5, [two, one, two]),
        Publisher::new(3, Version::V3_1_1, [two; 3]),
    ]
}

fn mqtt_address(server: &Server) -> SocketAddr {
    let line = server.prints("mqtt://").unwrap();
    line.trim().trim_start_matches("mqtt://").parse().unwrap()
}

/// Lets all of them work until so much has happened, and kills the server while they do.
fn round(
    server: &mut Server,
    publishers: &mut [Publisher],
    subscribers: &mut [Subscriber<'_>],
    moment: u64,
) {
    let address = mqtt_address(server);
    let (happens, happened) = mpsc::channel();
    thread::scope(|scope| {
        for (at, publisher) in publishers.iter_mut().enumerate() {
            let happens = happens.clone();
            // One of them is always there, so that something happens.
            let plan = if at == 0 { Plan::Stays } else { Plan::random() };
            scope.spawn(move || publisher.run(address, plan, &happens));
        }
        for subscriber in subscribers.iter_mut() {
            let happens = happens.clone();
            scope.spawn(move || subscriber.run(address, Plan::random(), &happens));
        }
        let goes_on = (0..moment).all(|_| happened.recv_timeout(SILENCE).is_ok());
        server.kill().unwrap();
        assert!(goes_on, "nothing happened in {SILENCE:?}");
    });
}

/// Says farewell to each subscriber; they leave when they have it.
fn say_farewell(farewell: &mut Who, address: SocketAddr, subscribers: &[String]) {
    let mut client = farewell.connect(address).unwrap();
    for topic in subscribers {
        client.say(&Packet::Publish(Publish {
            dup: false,
            qos: Qos::AtLeastOnce,
            retain: false,
            packet_id: PacketId::new(1),
            topic_alias: None,
            subscription_ids: Vec::new(),
            message: Message {
                topic: Text::new(topic).unwrap(),
                payload: Bytes::from_static(b"farewell"),
                ..Message::default()
            },
        }));
        assert!(matches!(client.next(), Some(Packet::Puback(_))));
    }
}

/// Lets all come to an end: the publishers are acknowledged all they have sent, the subscribers get all of it.
fn drain(
    server: &mut Server,
    publishers: &mut [Publisher],
    subscribers: &mut [Subscriber<'_>],
    ledgers: &[Ledger],
    farewell: &mut Who,
) {
    let address = mqtt_address(server);
    let (happens, happened) = mpsc::channel();
    let farewells: Vec<String> = subscribers.iter().map(Subscriber::farewell).collect();
    thread::scope(|scope| {
        for subscriber in subscribers {
            let happens = happens.clone();
            scope.spawn(move || subscriber.run(address, Plan::Ends, &happens));
        }
        for publisher in &mut *publishers {
            publisher.run(address, Plan::Ends, &happens);
        }
        let mut missing = String::new();
        for (at, ledger) in ledgers.iter().enumerate() {
            let patience = if missing.is_empty() {
                SILENCE / 2
            } else {
                Duration::ZERO
            };
            let lacks = ledger.wait_for(&ledger.expected(publishers), patience);
            if !lacks.is_empty() {
                writeln!(missing, "ledger {at} lacks {lacks:?}").unwrap();
            }
        }
        if !missing.is_empty() {
            // The subscribers would wait.
            server.kill().unwrap();
            panic!("{missing}{}", server.log().unwrap());
        }
        say_farewell(farewell, address, &farewells);
    });
    drop(happened);
}

/// The records are the newest of what was published.
fn check_records(server: &Server, publishers: &[Publisher]) {
    let mut client = server.client().unwrap();
    for one in publishers {
        let last = Told {
            publisher: one.number,
            topic: 0,
            n: one.sent[0],
        };
        let response = client.get(&format!("/{}", last.topic())).unwrap();
        assert_eq!(response.text().trim(), format!("\"{}\"", last.payload()));
    }
}

fn scale() -> u64 {
    std::env::var("KILL_SCALE").map_or(1, |scale| scale.parse().unwrap())
}

fn ledgers() -> [Ledger; 6] {
    let (one, two) = (Qos::AtLeastOnce, Qos::ExactlyOnce);
    [
        Ledger::new(two, |publisher, _| publisher < 2),
        Ledger::new(one, |_, topic| topic == 0),
        Ledger::new(two, |publisher, _| publisher == 3),
        Ledger::new(two, |_, _| true),
        Ledger::new(one, |_, _| true),
        Ledger {
            is_group: true,
            ..Ledger::new(two, |_, _| true)
        },
    ]
}

#[test]
fn kept_sessions_lose_nothing_and_double_nothing_when_the_server_is_killed_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = ServerBuilder::dev(env!("CARGO_BIN_EXE_sapwood"))
        .data(folder.path().join("data"))
        .argument("--mqtt")
        .argument(":0")
        .set("store.segment_bytes=1048576")
        .start()
        .unwrap();
    let (mut publishers, ledgers) = (publishers(), ledgers());
    let mut subscribers = subscribers(&ledgers);
    let mut farewell = Who::new("farewell".to_owned(), Version::V5);
    for subscriber in &mut subscribers {
        subscriber.subscribe(mqtt_address(&server));
    }
    for one in 0..ROUNDS {
        // Some are short: the server is killed before it has done much.
        let moment = if one % 4 == 3 {
            random(10)
        } else {
            20 + random(2500 * scale())
        };
        round(&mut server, &mut publishers, &mut subscribers, moment);
        server.start_again().unwrap();
        if random(3) == 0 {
            server.kill().unwrap();
            server.start_again().unwrap();
        }
    }
    drain(
        &mut server,
        &mut publishers,
        &mut subscribers,
        &ledgers,
        &mut farewell,
    );
    let counts: Vec<usize> = ledgers.iter().map(Ledger::count).collect();
    for (at, ledger) in ledgers.iter().enumerate() {
        ledger.check(&format!("ledger {at}"), &publishers);
    }
    check_records(&server, &publishers);
    // Whoever was done with all is told nothing of it again, over an orderly end as well.
    assert!(server.terminate().unwrap().success());
    server.start_again().unwrap();
    drain(
        &mut server,
        &mut publishers,
        &mut subscribers,
        &ledgers,
        &mut farewell,
    );
    assert_eq!(
        ledgers.iter().map(Ledger::count).collect::<Vec<_>>(),
        counts
    );
    let sent: Vec<_> = publishers.iter().map(|one| &one.sent).collect();
    println!("sent {sent:?}, received {counts:?}");
}

//! MQTT beside mosquitto and rumqttd: the rows of the table «MQTT» in `README.md`.

mod client;
mod flows;
mod paced;
mod redis;
mod rest;
mod retained;
mod wire;

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use sapwood_testkit::{Server, ServerBuilder};

use self::{
    client::{Counting, Opening},
    flows::{Flow, Load, Sends},
    paced::Paced,
    wire::Publish,
};
use crate::{Plan, closed_loop::Measured, peers::Peer, report};

pub use self::{rest::idle, retained::read};

/// Messages that a publisher may be ahead, and unacknowledged ones on each connection: rumqttd has no other.
const WINDOW: u64 = 100;
const PAIRS: usize = 50;
/// Messages that a publisher of a pair may be ahead.
const PAIR_WINDOW: u64 = 16;
const WRITERS: usize = 64;

/// A server.
struct Broker {
    name: &'static str,
    address: SocketAddr,
    id: u32,
    _running: Running,
}

#[expect(dead_code, reason = "they end when they are dropped")]
enum Running {
    Ours(Box<Server>),
    Theirs(Peer),
}

impl Broker {
    fn sapwood(plan: &Plan, settings: &[&str]) -> Result<Self> {
        let builder = ServerBuilder::dev(&plan.sapwood)
            .set("mqtt.listen=:0")
            .set(&format!("mqtt.in_flight_max={WINDOW}"));
        let server = settings
            .iter()
            .fold(builder, |builder, setting| builder.set(setting))
            .start()?;
        let line = server.prints("mqtt://")?;
        let address = line.trim().strip_prefix("mqtt://").context("no address")?;
        Ok(Self {
            name: "Sapwood",
            address: address.parse()?,
            id: server.id(),
            _running: Running::Ours(Box::new(server)),
        })
    }

    fn mosquitto() -> Result<Self> {
        Ok(Self::peer("mosquitto", Peer::mosquitto(WINDOW)?))
    }

    fn rumqttd() -> Result<Self> {
        Ok(Self::peer("rumqttd", Peer::rumqttd(WINDOW)?))
    }

    fn peer(name: &'static str, peer: Peer) -> Self {
        Self {
            name,
            address: peer.address,
            id: peer.id(),
            _running: Running::Theirs(peer),
        }
    }

    /// Ours, and the one that is most like it.
    fn two(plan: &Plan) -> Result<Vec<Self>> {
        let mut two = vec![Self::sapwood(plan, &[])?];
        if !plan.alone {
            two.push(Self::mosquitto()?);
        }
        Ok(two)
    }

    /// Ours, and both peers.
    fn all(plan: &Plan) -> Result<Vec<Self>> {
        let mut all = vec![Self::sapwood(plan, &[])?];
        if !plan.alone {
            all.extend([Self::rumqttd()?, Self::mosquitto()?]);
        }
        Ok(all)
    }
}

/// 64 bytes, unless told otherwise, as a sensor would send them.
fn payload(n: usize, bytes: usize) -> Vec<u8> {
    let mut text = format!(
        r#"{{"temp":{}.5,"unit":"C","seq":{:06},"note":""#,
        10 + n % 40,
        n
    );
    while text.len() + 2 < bytes {
        text.push('.');
    }
    text += r#""}"#;
    text.into_bytes()
}

/// A number that no run had before: sessions that are kept must not meet again.
fn run_number() -> u64 {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    RUNS.fetch_add(1, Ordering::Relaxed)
}

fn opening(client_id: String) -> Opening {
    Opening {
        client_id,
        ..Opening::default()
    }
}

fn receiver(n: usize, topic: &str, qos: u8) -> Opening {
    Opening {
        filters: vec![topic.to_owned()],
        qos,
        ..opening(format!("receiver{n}"))
    }
}

type Contender<'a> = (String, Box<dyn Fn() -> Result<Measured> + 'a>);

/// Runs all in turn, in windows of the same length, and prints the medians of the rounds that came through, and the first by
/// each other. Where none of a peer's did, its line says so.
fn in_turn(plan: &Plan, contenders: Vec<Contender<'_>>) -> Result<()> {
    let mut rounds = vec![Vec::new(); contenders.len()];
    let mut errors: Vec<Option<anyhow::Error>> = contenders.iter().map(|_| None).collect();
    for _ in 0..plan.rounds {
        for (index, (_, run)) in contenders.iter().enumerate() {
            match run() {
                Ok(measured) => rounds[index].push(measured),
                Err(error) => errors[index] = Some(error),
            }
            // What one leaves behind must not cost the other.
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    let mut ours: Option<Measured> = None;
    for (((name, _), rounds), error) in contenders.iter().zip(rounds).zip(errors) {
        if let Some(error) = &error {
            eprintln!("{name}: a round failed: {error:#}");
        }
        match (rounds.is_empty(), ours) {
            (false, None) => {
                let measured = report::median(rounds);
                report::line(name, &measured);
                ours = Some(measured);
            }
            (false, Some(ours)) => {
                let theirs = report::median(rounds);
                report::line(name, &theirs);
                report::ratio(&ours, &theirs);
            }
            (true, None) => anyhow::bail!("{name}: no round came through"),
            (true, Some(_)) => report::figure(name, "no round came through"),
        }
    }
    Ok(())
}

/// Runs the same load on each broker.
fn on_all(
    plan: &Plan,
    what: &str,
    brokers: &[Broker],
    load: impl Fn(&Broker) -> Load,
    more: Vec<Contender<'_>>,
) -> Result<()> {
    let load = &load;
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for broker in brokers {
        let name = format!("{}: {what}", broker.name);
        contenders.push((name, Box::new(move || load(broker).run(plan.window))));
    }
    contenders.extend(more);
    in_turn(plan, contenders)
}

/// One publisher, many receivers, at full rate.
///
/// # Errors
/// A server didn't start, or lost something.
pub fn fan_out(plan: &Plan) -> Result<()> {
    for (receivers, bytes, qos) in [(100, 64, 0), (100, 64, 1), (1000, 64, 0), (100, 1024, 0)] {
        let brokers = Broker::all(plan)?;
        let redis = Peer::redis(&[])?;
        let mut more: Vec<Contender<'_>> = Vec::new();
        if qos == 0 && !plan.alone {
            more.push((
                format!("Redis PUBLISH: 1 → {receivers}, {bytes} B"),
                Box::new(|| redis_fan_out(&redis, receivers, bytes).run(plan.window)),
            ));
        }
        let what = format!("1 → {receivers}, QoS {qos}, {bytes} B");
        let load = |broker: &Broker| mqtt_fan_out(broker, receivers, bytes, qos);
        on_all(plan, &what, &brokers, load, more)?;
    }
    Ok(())
}

fn mqtt_fan_out(broker: &Broker, receivers: usize, bytes: usize, qos: u8) -> Load {
    let topic = "sensors/341";
    Load {
        address: broker.address,
        server: broker.id,
        counting: Counting::Mqtt,
        receivers: (0..receivers).map(|n| receiver(n, topic, qos)).collect(),
        flows: vec![Flow {
            publisher: opening("publisher".into()),
            sends: Sends::Packets(vec![Publish::new(topic, &payload(341, bytes), qos, false)]),
            receivers: 0..receivers,
            window: WINDOW,
            acknowledged: qos > 0,
            to_one: false,
        }],
    }
}

fn redis_fan_out(redis: &Peer, receivers: usize, bytes: usize) -> Load {
    let channel = "sensors/341";
    let payload = String::from_utf8_lossy(&payload(341, bytes)).into_owned();
    let (publish, delivery) = redis::publish(channel, &payload);
    Load {
        address: redis.address,
        server: redis.id(),
        counting: Counting::Bytes(delivery),
        receivers: (0..receivers).map(|n| receiver(n, channel, 0)).collect(),
        flows: vec![Flow {
            publisher: Opening::default(),
            sends: Sends::Bytes(publish),
            receivers: 0..receivers,
            window: WINDOW,
            acknowledged: false,
            to_one: false,
        }],
    }
}

/// One publisher to 100 receivers at 20,000 deliveries a second, and 50 pairs at 2,000.
///
/// # Errors
/// A server didn't start, or doesn't keep up.
pub fn paced(plan: &Plan) -> Result<()> {
    let brokers = Broker::all(plan)?;
    let topic = "sensors/341";
    let fan_out = |broker: &Broker| Paced {
        address: broker.address,
        server: broker.id,
        receivers: (0..100).map(|n| receiver(n, topic, 0)).collect(),
        publishers: vec![(
            opening("publisher".into()),
            Publish::new(topic, &[7; 64], 0, false),
        )],
        rate: 200,
        copies: 100,
    };
    paced_on_all(plan, "1 → 100, QoS 0, 20,000/s", &brokers, fan_out)?;
    let pairs = |broker: &Broker| Paced {
        address: broker.address,
        server: broker.id,
        receivers: (0..PAIRS)
            .map(|n| receiver(n, &format!("pairs/{n}"), 1))
            .collect(),
        publishers: (0..PAIRS)
            .map(|n| {
                let publish = Publish::new(&format!("pairs/{n}"), &[7; 64], 1, false);
                (opening(format!("publisher{n}")), publish)
            })
            .collect(),
        rate: 2000,
        copies: 1,
    };
    paced_on_all(plan, "50 pairs, QoS 1, 2,000/s", &brokers, pairs)
}

fn paced_on_all(
    plan: &Plan,
    what: &str,
    brokers: &[Broker],
    load: impl Fn(&Broker) -> Paced,
) -> Result<()> {
    let load = &load;
    let contenders = brokers.iter().map(|broker| -> Contender<'_> {
        let name = format!("{}: {what}", broker.name);
        (name, Box::new(move || load(broker).run(plan.window)))
    });
    in_turn(plan, contenders.collect())
}

/// 50 publishers, each with a receiver of its own.
///
/// # Errors
/// A server didn't start, or lost something.
pub fn pairs(plan: &Plan) -> Result<()> {
    for qos in [0, 1] {
        let brokers = Broker::all(plan)?;
        let what = format!("50 pairs, QoS {qos}, {PAIR_WINDOW} ahead");
        let load = |broker: &Broker| pairs_on(broker, PAIRS, qos, false);
        on_all(plan, &what, &brokers, load, Vec::new())?;
    }
    Ok(())
}

fn pairs_on(broker: &Broker, pairs: usize, qos: u8, kept: bool) -> Load {
    let run = run_number();
    let topic = |n| format!("pairs/{run}/{n}");
    let receivers = (0..pairs).map(|n| Opening {
        client_id: format!("receiver{run}-{n}"),
        kept,
        filters: vec![topic(n)],
        qos,
    });
    let flows = (0..pairs).map(|n| Flow {
        publisher: Opening {
            kept,
            ..opening(format!("publisher{run}-{n}"))
        },
        sends: Sends::Packets(vec![Publish::new(&topic(n), &payload(n, 64), qos, false)]),
        receivers: n..n + 1,
        window: PAIR_WINDOW,
        acknowledged: qos > 0,
        to_one: false,
    });
    Load {
        address: broker.address,
        server: broker.id,
        counting: Counting::Mqtt,
        receivers: receivers.collect(),
        flows: flows.collect(),
    }
}

/// 64 pairs whose sessions are kept on both sides, at QoS 1 and at QoS 2.
///
/// # Errors
/// The server didn't start, or lost something.
pub fn durable(plan: &Plan) -> Result<()> {
    let broker = Broker::sapwood(plan, &[])?;
    let contender = |qos| -> Contender<'_> {
        let name = format!("Sapwood: 64 pairs, sessions kept, QoS {qos}");
        let broker = &broker;
        let run = move || pairs_on(broker, WRITERS, qos, true).run(plan.window);
        (name, Box::new(run))
    };
    in_turn(plan, vec![contender(2), contender(1)])
}

/// Retained puts by 64 clients, each waiting for its acknowledgement; beside mosquitto, which has them in memory, and Redis,
/// which flushes.
///
/// # Errors
/// A server didn't start, or refused something.
pub fn put(plan: &Plan) -> Result<()> {
    let brokers = Broker::two(plan)?;
    let redis = Peer::redis(&[])?;
    let requests = crate::scenario::requests(WRITERS, |connection, n| {
        crate::scenario::set(&format!("sensors/{connection}-{}", n / 2), &payload(n, 64))
    });
    let sets = crate::closed_loop::Load {
        address: redis.address,
        server: redis.id(),
        framing: crate::exchange::Framing::Resp,
        requests,
    };
    let mut more: Vec<Contender<'_>> = vec![(
        "Redis SET, `appendfsync always`, 64 clients".into(),
        Box::new(|| sets.run(plan.window)),
    )];
    if plan.alone {
        more.clear();
    }
    let what = "retained put, QoS 1, 64 clients";
    on_all(plan, what, &brokers, |broker| puts(broker, 1, 128), more)
}

/// Retained puts of so many topics each by 64 clients.
fn puts(broker: &Broker, window: u64, packets: usize) -> Load {
    let flows = (0..WRITERS).map(|client| Flow {
        publisher: opening(format!("writer{client}")),
        sends: Sends::Packets(
            (0..packets)
                .map(|n| {
                    // Each topic with two payloads in turn, so that each put changes something.
                    let topic = format!("sensors/{client}/{}", n / 2);
                    Publish::new(&topic, &payload(n, 64), 1, true)
                })
                .collect(),
        ),
        receivers: 0..0,
        window,
        acknowledged: true,
        to_one: false,
    });
    Load {
        address: broker.address,
        server: broker.id,
        counting: Counting::Mqtt,
        receivers: Vec::new(),
        flows: flows.collect(),
    }
}

/// The cost of a publish that one of 100 subscriptions matches, and one of 100,000, all with wildcards.
///
/// # Errors
/// A server didn't start, or lost something.
pub fn matching(plan: &Plan) -> Result<()> {
    for broker in Broker::two(plan)? {
        let contender = |each: usize| -> Contender<'_> {
            let name = format!(
                "{}: {} wildcard subscriptions",
                broker.name,
                each * SESSIONS
            );
            let broker = &broker;
            (
                name,
                Box::new(move || matched(broker, each).run(plan.window)),
            )
        };
        in_turn(plan, vec![contender(1000), contender(1)])?;
    }
    Ok(())
}

const SESSIONS: usize = 100;

/// Each session has as many filters as `each` says, and each topic matches one of all.
fn matched(broker: &Broker, each: usize) -> Load {
    const TOPICS: usize = 20_000;
    let all = SESSIONS * each;
    let filter = |n: usize| {
        if n.is_multiple_of(2) {
            format!("s/{n}/+/x")
        } else {
            format!("+/k{n}/#")
        }
    };
    let topic = |n: usize| {
        if n.is_multiple_of(2) {
            format!("s/{n}/a/x")
        } else {
            format!("z/k{n}/b/c")
        }
    };
    let receivers = (0..SESSIONS).map(|session| Opening {
        filters: (0..each).map(|n| filter(session * each + n)).collect(),
        ..opening(format!("receiver{session}"))
    });
    // In an order without neighbours; 7,919 is a prime.
    let packets = (0..TOPICS.min(all * 16)).map(|n| n * 7919 % all);
    let packets = packets.map(|n| Publish::new(&topic(n), &payload(n, 64), 0, false));
    Load {
        address: broker.address,
        server: broker.id,
        counting: Counting::Mqtt,
        receivers: receivers.collect(),
        flows: vec![Flow {
            publisher: opening("publisher".into()),
            sends: Sends::Packets(packets.collect()),
            receivers: 0..SESSIONS,
            window: WINDOW,
            acknowledged: false,
            to_one: true,
        }],
    }
}

//! Bridges between two servers.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sapwood_mqtt::codec::{Ack, Connack, Connect, Packet, ReasonCode, Suback, Version};
use sapwood_mqtt::{BridgeConfig, BridgeTopic, BridgeVersion, Direction, MqttConfig};
use sapwood_value::Value;

use crate::server::{Client, Q0, Q1, Q2, Server, filter, hello, id, lasting, publish, spell, text};

fn topic(filter: &str, direction: Direction) -> BridgeTopic {
    BridgeTopic {
        filter: filter.to_owned(),
        direction,
        qos: 2,
        ..BridgeTopic::default()
    }
}

fn bridge(to: SocketAddr, topics: Vec<BridgeTopic>) -> BridgeConfig {
    BridgeConfig {
        name: "b".to_owned(),
        address: to.to_string(),
        topics,
        client_id: "bridge".to_owned(),
        ..BridgeConfig::default()
    }
}

fn bridged(bridge: BridgeConfig) -> Server {
    Server::with(MqttConfig {
        bridge: vec![bridge],
        ..MqttConfig::default()
    })
}

/// Waits until something holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until what is said to one server is heard at the other.
fn connected(from: &Server, to: &Server, said: &str, heard: &str) {
    let mut witness = to.connect("witness");
    witness.subscribe(heard, Q1);
    until("the bridge is connected", || {
        from.say(said, Value::from("ready")) > 0 && {
            witness.send(Packet::Pingreq);
            next_or_pong(&mut witness).is_some()
        }
    });
}

/// A way to a server that can be cut.
struct Line {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    open: bool,
    streams: Vec<TcpStream>,
}

impl Line {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            open: true,
            streams: Vec::new(),
        }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                let mut state = shared.lock().unwrap();
                if !state.open {
                    continue;
                }
                let Ok(far) = TcpStream::connect(server) else {
                    continue;
                };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let mut bytes = [0; 4096];
                        while let Ok(read @ 1..) = from.read(&mut bytes) {
                            if to.write_all(&bytes[..read]).is_err() {
                                break;
                            }
                        }
                        drop(to.shutdown(Shutdown::Both));
                    });
                }
                state.streams.extend([near, far]);
            }
        });
        Self { address, state }
    }

    fn cut(&self) {
        let mut state = self.state.lock().unwrap();
        state.open = false;
        for stream in state.streams.drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    fn mend(&self) {
        self.state.lock().unwrap().open = true;
    }
}

#[test]
fn messages_and_records_go_both_ways_and_do_not_come_back() {
    let far = Server::start();
    let near = bridged(bridge(far.address, vec![topic("t/#", Direction::Both)]));
    let (mut here, mut there) = (near.connect("here"), far.connect("there"));
    here.subscribe("t/#", Q2);
    there.subscribe("t/#", Q2);
    connected(&near, &far, "t/ready", "t/ready");
    // Behind all that said that the bridge is connected.
    near.connect("p").say_surely("t/go", "");
    while !next(&mut here).starts_with("t/go") {}
    while !next(&mut there).starts_with("t/go") {}
    for qos in [Q0, Q1, Q2] {
        near.connect("p").send(Packet::Publish(publish(
            "t/out",
            "1",
            qos,
            5 * u16::from(qos.is_acknowledged()),
        )));
        far.connect("p").send(Packet::Publish(publish(
            "t/in",
            "2",
            qos,
            5 * u16::from(qos.is_acknowledged()),
        )));
        let mut told = [next(&mut here), next(&mut here)];
        told.sort();
        let q = qos as u8;
        assert_eq!(told, [format!("t/in 2 q{q}"), format!("t/out 1 q{q}")]);
        let mut told = [next(&mut there), next(&mut there)];
        told.sort();
        assert_eq!(told, [format!("t/in 2 q{q}"), format!("t/out 1 q{q}")]);
    }
    near.connect("p").retain("t/kept", "\"a\"");
    until("the record is there", || {
        far.get("t/kept") == Some(Value::from("a"))
    });
    far.connect("p").retain("t/kept", "");
    until("the record is gone", || near.get("t/kept").is_none());
    // The record, and its end, once each; then nothing.
    assert_eq!(
        [next(&mut here), next(&mut here)],
        ["t/kept \"a\" q1", "t/kept  q2"]
    );
    silent(&mut here);
    assert_eq!(
        [next(&mut there), next(&mut there)],
        ["t/kept \"a\" q1", "t/kept  q2"]
    );
    silent(&mut there);
}

/// The next message, or the answer to a ping; all else is answered.
fn next_or_pong(client: &mut Client) -> Option<String> {
    let ok = |packet_id| Ack::new(packet_id, ReasonCode::Success);
    loop {
        match client.next() {
            Some(Packet::Publish(publish)) => {
                match (publish.qos, publish.packet_id) {
                    (Q1, Some(packet_id)) => client.send(Packet::Puback(ok(packet_id))),
                    (Q2, Some(packet_id)) => client.send(Packet::Pubrec(ok(packet_id))),
                    _ => {}
                }
                return Some(spell(&publish));
            }
            Some(Packet::Pubrel(release)) => client.send(Packet::Pubcomp(ok(release.packet_id))),
            Some(Packet::Pingresp) => return None,
            other => panic!("expected a message, got {other:?}"),
        }
    }
}

/// The next message.
fn next(client: &mut Client) -> String {
    next_or_pong(client).unwrap()
}

/// Nothing comes any more.
fn silent(client: &mut Client) {
    client.send(Packet::Pingreq);
    assert_eq!(next_or_pong(client), None);
}

#[test]
fn prefixes_are_put_on_and_taken_off() {
    let far = Server::start();
    let topics = vec![
        BridgeTopic {
            local_prefix: "east/".to_owned(),
            remote_prefix: "site/".to_owned(),
            ..topic("+/temp", Direction::In)
        },
        BridgeTopic {
            remote_prefix: "from/west/".to_owned(),
            ..topic("mine/#", Direction::Out)
        },
        BridgeTopic {
            local_prefix: "one/here".to_owned(),
            remote_prefix: "other/there".to_owned(),
            ..topic("", Direction::Both)
        },
    ];
    let near = bridged(bridge(far.address, topics));
    far.connect("p").retain("site/7/temp", "21");
    near.connect("p").retain("mine/a", "1");
    near.connect("p").retain("one/here", "2");
    near.connect("p").retain("else/b", "3");
    until("in", || near.get("east/7/temp") == Some(Value::from(21)));
    until("out", || {
        far.get("from/west/mine/a") == Some(Value::from(1))
    });
    until("both", || far.get("other/there") == Some(Value::from(2)));
    far.connect("p").retain("other/there", "4");
    until("back", || near.get("one/here") == Some(Value::from(4)));
    assert_eq!(far.get("else"), None);
}

#[test]
fn what_was_retained_before_goes_over_at_first() {
    let far = Server::start();
    for n in 0..300 {
        far.connect("p").retain(&format!("t/far/{n}"), "1");
    }
    let line = Line::to(far.address);
    line.cut();
    let near = bridged(bridge(line.address, vec![topic("t/#", Direction::Both)]));
    for n in 0..300 {
        near.put(&format!("t/near/{n}"), 1);
    }
    line.mend();
    let count = |server: &Server, at: &str| match server.get(at) {
        Some(Value::Map(map)) => map.len(),
        _ => 0,
    };
    until("all that was there is here", || {
        count(&near, "t/far") == 300
    });
    until("all that was here is there", || {
        count(&far, "t/near") == 300
    });
}

/// Publishes numbers at QoS 2 while the line is cut again and again; what a subscriber behind the bridge gets.
fn numbers_over(line: &Line, from: &Server, to: &Server) {
    const LAST: u16 = 300;
    let (mut teller, _) = from.connect_as(hello(Version::V5, "teller"));
    let (mut hearer, _) = to.connect_as(lasting("hearer"));
    hearer.subscribe("n/#", Q2);
    let line_state = Arc::clone(&line.state);
    let cutter = Line {
        address: line.address,
        state: line_state,
    };
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let cutting = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(150));
            cutter.cut();
            std::thread::sleep(Duration::from_millis(20));
            cutter.mend();
        }
    });
    let telling = std::thread::spawn(move || {
        for n in 1..=LAST {
            teller.send(Packet::Publish(publish(
                &format!("n/{}", n % 3),
                &n.to_string(),
                Q2,
                n,
            )));
            assert!(matches!(teller.next(), Some(Packet::Pubrec(_))));
            teller.send(Packet::Pubrel(Ack::new(id(n), ReasonCode::Success)));
            assert!(matches!(teller.next(), Some(Packet::Pubcomp(_))));
            std::thread::sleep(Duration::from_millis(3));
        }
    });
    let mut heard = BTreeSet::new();
    while heard.len() < usize::from(LAST) {
        let told = next(&mut hearer);
        let Ok(number) = told.split(' ').nth(1).unwrap().parse::<u16>() else {
            continue; // what said that the bridge is connected
        };
        assert!(heard.insert(number), "{number} came twice");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    telling.join().unwrap();
    cutting.join().unwrap();
    silent(&mut hearer);
}

fn quick(bridge: BridgeConfig) -> BridgeConfig {
    // The least there is: tests that cut often would wait a second each time otherwise.
    BridgeConfig {
        reconnect_s_min: 1,
        reconnect_s_max: 1,
        ..bridge
    }
}

#[test]
fn what_goes_out_over_a_bad_line_arrives_once() {
    let far = Server::start();
    let line = Line::to(far.address);
    let near = bridged(quick(bridge(
        line.address,
        vec![topic("n/#", Direction::Out)],
    )));
    numbers_over(&line, &near, &far);
}

#[test]
fn what_comes_in_over_a_bad_line_arrives_once() {
    let far = Server::start();
    let line = Line::to(far.address);
    let near = bridged(quick(bridge(
        line.address,
        vec![topic("n/#", Direction::In)],
    )));
    connected(&far, &near, "n/0", "n/0");
    numbers_over(&line, &far, &near);
}

#[test]
fn what_is_published_before_the_other_broker_was_ever_reached_waits_for_it() {
    let far = Server::start();
    let line = Line::to(far.address);
    line.cut();
    let near = bridged(bridge(line.address, vec![topic("t/#", Direction::Out)]));
    let mut there = far.connect("there");
    there.subscribe("t/#", Q2);
    until("the bridge has its session", || {
        near.say("t/ready", Value::from(0)) > 0
    });
    for n in 1..=50 {
        assert_eq!(near.connect("p").say_surely("t/a", &n.to_string()), 0);
    }
    line.mend();
    let mut told = Vec::new();
    while told.len() < 50 {
        let next = next(&mut there);
        if next.starts_with("t/a ") {
            told.push(next);
        }
    }
    let expected: Vec<_> = (1..=50).map(|n| format!("t/a {n} q1")).collect();
    assert_eq!(told, expected);
}

#[test]
fn a_broker_of_3_1_1_is_bridged_without_loops() {
    let far = Server::start();
    let near = bridged(BridgeConfig {
        version: BridgeVersion::V3,
        ..bridge(far.address, vec![topic("t/#", Direction::Both)])
    });
    let mut here = near.connect("here");
    here.subscribe_with(vec![filter("t/#", Q2)], None);
    far.connect("p").retain("t/far", "1");
    until("in", || near.get("t/far") == Some(Value::from(1)));
    near.connect("p").retain("t/near", "2");
    until("out", || far.get("t/near") == Some(Value::from(2)));
    assert_eq!(
        [next(&mut here), next(&mut here)],
        ["t/far 1 q1", "t/near 2 q1"]
    );
    silent(&mut here);
}

#[test]
fn a_flood_from_both_sides_does_not_block_the_bridge() {
    let far = Server::start();
    let near = bridged(bridge(far.address, vec![topic("f/#", Direction::Both)]));
    connected(&near, &far, "f/ready", "f/ready");
    let mut ends = [near.connect("here"), far.connect("there")];
    for (end, of) in ends.iter_mut().zip(["f/far/end", "f/near/end"]) {
        end.subscribe(of, Q1);
    }
    std::thread::scope(|scope| {
        for (server, name) in [(&near, "near"), (&far, "far")] {
            scope.spawn(move || {
                let payload = "x".repeat(64 << 10);
                let mut client = server.connect("p");
                for _ in 0..500 {
                    client.say(&format!("f/{name}"), &payload);
                }
                client.say_surely(&format!("f/{name}/end"), "1");
            });
        }
    });
    assert_eq!(next(&mut ends[0]), "f/far/end 1 q1");
    assert_eq!(next(&mut ends[1]), "f/near/end 1 q1");
}

#[test]
fn nobody_else_may_have_the_session_of_a_bridge() {
    let server = Server::start();
    let mut client = server.open(Version::V5);
    client.send(Packet::Connect(Box::new(hello(Version::V5, "$bridge/b"))));
    assert_eq!(
        client.connack().reason,
        ReasonCode::ClientIdentifierNotValid
    );
}

/// The other broker, played by the test.
struct Broker {
    listener: TcpListener,
}

impl Broker {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { listener }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The next connection, with the CONNECT that it begins with.
    fn meet(&self) -> (Client, Connect) {
        let mut bridge = Client::over(self.listener.accept().unwrap().0, None);
        match bridge.next() {
            Some(Packet::Connect(connect)) => {
                bridge.version = connect.version;
                (bridge, *connect)
            }
            other => panic!("expected CONNECT, got {other:?}"),
        }
    }

    /// Lets the next connection in, and grants its one subscription.
    fn let_in(&self, session_present: bool) -> Client {
        let (mut bridge, _) = self.meet();
        welcome(&mut bridge, session_present);
        bridge
    }
}

fn welcome(bridge: &mut Client, session_present: bool) {
    bridge.send(Packet::Connack(Box::new(Connack {
        session_present,
        reason: ReasonCode::Success,
        properties: Default::default(),
    })));
    let Some(Packet::Subscribe(subscribe)) = bridge.next() else {
        panic!("expected SUBSCRIBE");
    };
    bridge.send(Packet::Suback(Suback {
        packet_id: subscribe.packet_id,
        properties: Default::default(),
        reasons: vec![ReasonCode::GrantedQos2],
    }));
}

fn published(bridge: &mut Client) -> String {
    spell(&bridge.publish())
}

#[test]
fn a_broker_that_remembers_more_than_this_server_is_told_to_forget_it() {
    let broker = Broker::new();
    let near = bridged(bridge(broker.address(), vec![topic("t", Direction::Both)]));
    let mut far = broker.let_in(true);
    // It may hold any packet id of QoS 2, and would take the next message of that id for the old one.
    for number in 1..=u16::MAX {
        let Some(Packet::Pubrel(release)) = far.next() else {
            panic!("expected PUBREL");
        };
        assert_eq!(release.packet_id, id(number));
        far.send(Packet::Pubcomp(Ack::new(
            id(number),
            ReasonCode::PacketIdentifierNotFound,
        )));
    }
    near.connect("p").retain("t", "1");
    assert_eq!(published(&mut far), "t 1 q1 retain");
}

#[test]
fn a_broker_that_has_forgotten_everything_may_use_its_packet_ids_anew() {
    let broker = Broker::new();
    let near = bridged(quick(bridge(
        broker.address(),
        vec![topic("t", Direction::Both)],
    )));
    let mut here = near.connect("here");
    here.subscribe("t", Q2);
    for payload in ["one", "two"] {
        let mut far = broker.let_in(false);
        far.send(Packet::Publish(publish("t", payload, Q2, 9)));
        assert!(matches!(far.next(), Some(Packet::Pubrec(_))));
        assert_eq!(next(&mut here), format!("t {payload} q2"));
    }
}

#[test]
fn what_the_other_broker_has_no_room_for_comes_again() {
    let broker = Broker::new();
    let near = bridged(quick(bridge(
        broker.address(),
        vec![topic("t", Direction::Both)],
    )));
    let mut far = broker.let_in(false);
    near.connect("p")
        .send(Packet::Publish(publish("t", "1", Q1, 3)));
    let first = far.publish();
    let refusal = Ack::new(first.packet_id.unwrap(), ReasonCode::QuotaExceeded);
    far.send(Packet::Puback(refusal));
    let mut far = broker.let_in(true);
    let again = far.publish();
    assert_eq!((again.packet_id, again.dup), (first.packet_id, true));
    assert_eq!(again.message, first.message);
}

#[test]
fn a_broker_of_an_older_version_is_spoken_to_as_it_can() {
    let broker = Broker::new();
    let near = bridged(bridge(broker.address(), vec![topic("t", Direction::Both)]));
    let (mut far, connect) = broker.meet();
    assert_eq!(connect.version, Version::V5);
    far.stream.write_all(&[0x20, 2, 0, 1]).unwrap();
    drop(far);
    // It does not even know how to say no; once might have been chance.
    for _ in 0..2 {
        let (_, connect) = broker.meet();
        assert_eq!((connect.version, connect.bridge), (Version::V3_1_1, true));
    }
    let (mut far, connect) = broker.meet();
    assert_eq!((connect.version, connect.bridge), (Version::V3_1_1, false));
    welcome(&mut far, false);
    near.connect("p").retain("t", "1");
    assert_eq!(published(&mut far), "t 1 q1 retain");
}

#[test]
fn a_broker_that_falls_silent_is_left() {
    let broker = Broker::new();
    let config = BridgeConfig {
        keep_alive_s: 1,
        ..quick(bridge(broker.address(), vec![topic("t", Direction::Both)]))
    };
    let _near = bridged(config);
    let mut far = broker.let_in(false);
    assert_eq!(far.next(), Some(Packet::Pingreq));
    far.send(Packet::Pingresp);
    assert_eq!(far.next(), Some(Packet::Pingreq));
    broker.let_in(true);
}

#[test]
fn a_bridge_takes_its_leave_when_its_server_ends() {
    let broker = Broker::new();
    let mut near = bridged(bridge(broker.address(), vec![topic("t", Direction::Both)]));
    let (mut far, connect) = broker.meet();
    assert_eq!(
        (connect.client_id, connect.clean_start),
        (text("bridge"), false)
    );
    welcome(&mut far, false);
    far.send(Packet::Publish(publish("t", "1", Q1, 9)));
    let Some(Packet::Puback(ack)) = far.next() else {
        panic!("expected PUBACK");
    };
    assert_eq!(ack.packet_id, id(9));
    let start = Instant::now();
    near.drain();
    assert!(matches!(far.next(), Some(Packet::Disconnect(_))));
    drop(near);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

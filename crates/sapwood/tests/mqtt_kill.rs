//! T-D1 for MQTT: what was acknowledged as retained is there after a SIGKILL at a random moment, at QoS 1 and 2.
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

use std::{
    hash::{BuildHasher, RandomState},
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use sapwood_mqtt::codec::{
    Ack, Connect, ConnectProperties, DecodeLimits, Decoder, Message, Packet, PacketId, Publish,
    Qos, ReasonCode, Text, Version, encode,
};
use sapwood_testkit::ServerBuilder;

const ROUNDS: u64 = 20;
const WRITERS: u64 = 8;
const KEYS: u64 = 5;

/// A client that waits for each answer.
struct Client {
    stream: TcpStream,
    decoder: Decoder,
    inbound: BytesMut,
}

impl Client {
    fn connect(address: SocketAddr, writer: u64) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_nodelay(true).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .ok()?;
        let mut client = Self {
            stream,
            decoder: Decoder::with_version(Version::V3_1_1, DecodeLimits::default()),
            inbound: BytesMut::new(),
        };
        let connect = Connect {
            version: Version::V3_1_1,
            bridge: false,
            clean_start: true,
            keep_alive_s: 0,
            client_id: Text::new(&format!("writer{writer}")).unwrap(),
            will: None,
            user_name: None,
            password: None,
            properties: ConnectProperties::default(),
        };
        client.ask(Packet::Connect(Box::new(connect)))?;
        Some(client)
    }

    /// Sends a packet, and waits for the next one; none when the server is gone.
    fn ask(&mut self, packet: Packet) -> Option<Packet> {
        let mut out = BytesMut::new();
        encode(&packet, Version::V3_1_1, &mut out).unwrap();
        self.stream.write_all(&out).ok()?;
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.inbound).unwrap() {
                return Some(packet);
            }
            let mut bytes = [0; 4096];
            let read = self.stream.read(&mut bytes).ok().filter(|read| *read > 0)?;
            self.inbound.extend_from_slice(&bytes[..read]);
        }
    }

    /// Publishes with RETAIN; whether it was acknowledged.
    fn put(&mut self, topic: &str, payload: &str, qos: Qos) -> Option<()> {
        let packet_id = PacketId::new(1).unwrap();
        let publish = Publish {
            dup: false,
            qos,
            retain: true,
            packet_id: Some(packet_id),
            topic_alias: None,
            subscription_ids: Vec::new(),
            message: Message {
                topic: Text::new(topic).unwrap(),
                payload: Bytes::copy_from_slice(payload.as_bytes()),
                ..Message::default()
            },
        };
        match self.ask(Packet::Publish(publish))? {
            Packet::Puback(_) => Some(()),
            Packet::Pubrec(_) => {
                // It is done, whether or not the release is still heard.
                self.ask(Packet::Pubrel(Ack::new(packet_id, ReasonCode::Success)));
                Some(())
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What a key may hold: the newest acknowledged, and what was sent behind it. 0 is nothing.
type Known = Vec<(u64, Option<u64>)>;

fn write(address: SocketAddr, writer: u64, n: &mut u64, known: &mut Known, answered: &AtomicU64) {
    let Some(mut client) = Client::connect(address, writer) else {
        return;
    };
    loop {
        *n += 1;
        let key = *n % KEYS;
        let removes = n.is_multiple_of(7);
        let value = if removes { 0 } else { *n };
        let slot = &mut known[usize::try_from(key).unwrap()];
        slot.1 = Some(value);
        let payload = if removes {
            String::new()
        } else {
            format!("{{ \"n\":{n} }}")
        };
        let qos = if writer.is_multiple_of(2) {
            Qos::AtLeastOnce
        } else {
            Qos::ExactlyOnce
        };
        let topic = format!("kill/w{writer}/k{key}");
        if client.put(&topic, &payload, qos).is_none() {
            return;
        }
        *slot = (value, None);
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn what_was_acknowledged_as_retained_outlives_a_kill_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = ServerBuilder::dev(env!("CARGO_BIN_EXE_sapwood"))
        .data(folder.path().join("data"))
        .argument("--mqtt")
        .argument(":0")
        .start()
        .unwrap();
    let mut all: Vec<(Known, u64)> = (0..WRITERS)
        .map(|_| (vec![(0, None); usize::try_from(KEYS).unwrap()], 0))
        .collect();
    for round in 0..ROUNDS {
        let line = server.prints("mqtt://").unwrap();
        let address: SocketAddr = line.trim().trim_start_matches("mqtt://").parse().unwrap();
        let answered = Arc::new(AtomicU64::new(0));
        let writers: Vec<_> = (0..WRITERS)
            .zip(std::mem::take(&mut all))
            .map(|(writer, (mut known, mut n))| {
                let answered = Arc::clone(&answered);
                thread::spawn(move || {
                    write(address, writer, &mut n, &mut known, &answered);
                    (known, n)
                })
            })
            .collect();
        let moment = 10 + RandomState::new().hash_one(round) % 400;
        while answered.load(Ordering::Relaxed) < moment {
            thread::yield_now();
        }
        server.kill().unwrap();
        all = writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect();
        server.start_again().unwrap();
        let mut client = server.client().unwrap();
        for (writer, (known, _)) in all.iter_mut().enumerate() {
            for (key, slot) in known.iter_mut().enumerate() {
                let response = client.get(&format!("/kill/w{writer}/k{key}/n")).unwrap();
                let there = match response.status {
                    200 => response.text().trim().parse().unwrap(),
                    404 => 0,
                    other => panic!("{other}"),
                };
                let may_be = [Some(slot.0), slot.1];
                assert!(
                    may_be.contains(&Some(there)),
                    "round {round}: w{writer}/k{key} is {there}, and should be one of {may_be:?}"
                );
                *slot = (there, None);
            }
        }
    }
}

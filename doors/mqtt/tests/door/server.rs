//! A server in the test's own process, and a client that says packets and hears them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sapwood_core::{
    Claims, Core, CoreSettings, DatabaseSettings, Message as Said, Write as CoreWrite,
};
use sapwood_mqtt::codec::{
    Ack, Connack, Connect, ConnectProperties, DecodeLimits, Decoder, Disconnect,
    DisconnectProperties, Message, Packet, PacketId, Publish, Qos, ReasonCode, RetainHandling,
    Subscribe, SubscribeFilter, SubscribeProperties, SubscriptionId, Text, Unsubscribe,
    UnsubscribeProperties, Version, Will, encode,
};
use sapwood_mqtt::{MqttConfig, MqttDoor};
use sapwood_net::Door;
use sapwood_tree::{Limits, OpKind, Path};
use sapwood_value::Value;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

pub(crate) const Q0: Qos = Qos::AtMostOnce;
pub(crate) const Q1: Qos = Qos::AtLeastOnce;
pub(crate) const Q2: Qos = Qos::ExactlyOnce;

/// A server that ends with the test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) core: Core,
    runtime: tokio::runtime::Handle,
    drain: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(MqttConfig::default())
    }

    pub(crate) fn with(config: MqttConfig) -> Self {
        Self::over(config, CoreSettings::memory())
    }

    pub(crate) fn over(config: MqttConfig, mut settings: CoreSettings) -> Self {
        settings.databases = vec![DatabaseSettings {
            name: "other".to_owned(),
            declared: Vec::new(),
        }];
        let (drain, drained) = oneshot::channel::<()>();
        let (ready, started) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let core = Core::open(settings).unwrap();
                let address = Some("127.0.0.1:0".parse().unwrap());
                let door = MqttDoor::new(core.clone(), config, address).unwrap();
                let bridges = door.bridges().map_err(|(_, error)| error).unwrap();
                let reporting = tokio::spawn(door.clone().report());
                let door: Arc<dyn Door> = Arc::new(door);
                let bound = sapwood_net::bind(&[door], &sapwood_net::Limits::default()).unwrap();
                let address = bound.addresses().next().unwrap().1;
                let handle = tokio::runtime::Handle::current();
                let (ending, ends) = watch::channel(false);
                let mut bridging = JoinSet::new();
                for bridge in bridges {
                    bridging.spawn(bridge.run(ends.clone()));
                }
                ready.send((address, core.clone(), handle)).unwrap();
                let told = async {
                    drop(drained.await);
                    ending.send_replace(true);
                };
                bound.run(told, Duration::from_secs(5)).await;
                while bridging.join_next().await.is_some() {}
                reporting.abort();
                tokio::task::spawn_blocking(move || core.close())
                    .await
                    .unwrap();
            });
        });
        let (address, core, runtime) = started.recv().unwrap();
        Self {
            address,
            core,
            runtime,
            drain: Some(drain),
            thread: Some(thread),
        }
    }

    /// Tells the server to stop, without waiting.
    pub(crate) fn drain(&mut self) {
        drop(self.drain.take());
    }

    /// A connection that says nothing yet.
    pub(crate) fn open(&self, version: Version) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        Client::over(stream, Some(version))
    }

    /// A client of 5.0 with that id, which is let in.
    pub(crate) fn connect(&self, client_id: &str) -> Client {
        self.connect_as(hello(Version::V5, client_id)).0
    }

    /// A client that is let in, and what it is told.
    pub(crate) fn connect_as(&self, connect: Connect) -> (Client, Connack) {
        let mut client = self.open(connect.version);
        client.send(Packet::Connect(Box::new(connect)));
        let connack = client.connack();
        assert_eq!(connack.reason, ReasonCode::Success);
        (client, connack)
    }

    /// Puts a value as HTTP's PUT would.
    pub(crate) fn put(&self, path: &str, value: impl Into<Value>) {
        let kind = OpKind::Put {
            value: value.into(),
            mark: true,
        };
        self.write(path, kind);
    }

    pub(crate) fn write(&self, at: &str, kind: OpKind) {
        let database = self.core.database("default").unwrap();
        let write = CoreWrite::of(path(at), kind);
        let claims = Claims::anonymous();
        self.runtime
            .block_on(database.write(&claims, write))
            .unwrap();
    }

    /// What lies at a path.
    pub(crate) fn get(&self, at: &str) -> Option<Value> {
        let database = self.core.database("default").unwrap();
        let reading = database.read(&Claims::anonymous(), &path(at)).unwrap();
        reading.value(usize::MAX).unwrap()
    }

    /// Says something to a path as another door would; how many heard it.
    pub(crate) fn say(&self, at: &str, value: impl Into<Value>) -> u64 {
        let database = self.core.database("default").unwrap();
        let claims = Claims::anonymous();
        self.runtime
            .block_on(database.publish(&claims, &path(at), Said::new(value.into())))
            .unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.drain();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

pub(crate) fn path(text: &str) -> Path {
    Path::parse(&format!("/{text}"), &Limits::default()).unwrap()
}

pub(crate) fn text(text: &str) -> Text {
    Text::new(text).unwrap()
}

pub(crate) fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

pub(crate) fn hello(version: Version, client_id: &str) -> Connect {
    Connect {
        version,
        bridge: false,
        clean_start: true,
        keep_alive_s: 60,
        client_id: text(client_id),
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties::default(),
    }
}

/// A client that comes back to its session, and may stay away for a minute.
pub(crate) fn lasting(client_id: &str) -> Connect {
    Connect {
        clean_start: false,
        properties: ConnectProperties {
            session_expiry_s: Some(60),
            ..ConnectProperties::default()
        },
        ..hello(Version::V5, client_id)
    }
}

pub(crate) fn message(topic: &str, payload: &str) -> Message {
    Message {
        topic: text(topic),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        ..Message::default()
    }
}

pub(crate) fn will(topic: &str, payload: &str) -> Will {
    Will {
        qos: Q1,
        retain: false,
        delay_s: 0,
        message: message(topic, payload),
    }
}

pub(crate) fn publish(topic: &str, payload: &str, qos: Qos, packet_id: u16) -> Publish {
    Publish {
        dup: false,
        qos,
        retain: false,
        packet_id: PacketId::new(packet_id),
        topic_alias: None,
        subscription_ids: Vec::new(),
        message: message(topic, payload),
    }
}

pub(crate) fn filter(text_of: &str, qos: Qos) -> SubscribeFilter {
    SubscribeFilter {
        filter: text(text_of),
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Send,
    }
}

/// A client that says packets and hears them.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) version: Version,
    decoder: Decoder,
    inbound: BytesMut,
}

impl Client {
    /// One end of a connection: a client's, which knows its version, or a server's, which waits for CONNECT.
    pub(crate) fn over(stream: TcpStream, version: Option<Version>) -> Self {
        let limits = DecodeLimits {
            packet_bytes_max: u32::MAX,
            filters_max: 10_000,
        };
        let client = |version| Decoder::with_version(version, limits);
        Self {
            stream,
            version: version.unwrap_or(Version::V5),
            decoder: version.map_or_else(|| Decoder::new(limits), client),
            inbound: BytesMut::new(),
        }
    }

    pub(crate) fn send(&mut self, packet: Packet) {
        let mut out = BytesMut::new();
        encode(&packet, self.version, &mut out).unwrap();
        self.stream.write_all(&out).unwrap();
    }

    /// Says bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next bytes, as they come.
    pub(crate) fn raw(&mut self, count: usize) -> BytesMut {
        let time = Some(Duration::from_secs(10));
        self.stream.set_read_timeout(time).unwrap();
        while self.inbound.len() < count {
            let mut bytes = [0; 4096];
            let read = self.stream.read(&mut bytes).unwrap();
            assert!(read > 0, "the end behind {:x?}", self.inbound);
            self.inbound.extend_from_slice(&bytes[..read]);
        }
        self.inbound.split_to(count)
    }

    /// The next packet; none at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<Packet> {
        self.next_within(Duration::from_secs(10))
            .expect("nothing came within ten seconds")
    }

    /// The next packet, or the end; an error if nothing comes in time.
    fn next_within(&mut self, time: Duration) -> Result<Option<Packet>, std::io::Error> {
        self.stream.set_read_timeout(Some(time)).unwrap();
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.inbound).unwrap() {
                return Ok(Some(packet));
            }
            let mut bytes = [0; 65536];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Ok(None),
                Ok(read) => self.inbound.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn connack(&mut self) -> Connack {
        match self.next() {
            Some(Packet::Connack(connack)) => *connack,
            other => panic!("expected CONNACK, got {other:?}"),
        }
    }

    /// The next PUBLISH.
    pub(crate) fn publish(&mut self) -> Publish {
        match self.next() {
            Some(Packet::Publish(publish)) => publish,
            other => panic!("expected PUBLISH, got {other:?}"),
        }
    }

    /// The next PUBLISH in short: topic, payload, QoS, and what else is set. It is answered at QoS 1.
    pub(crate) fn told(&mut self) -> String {
        let publish = self.publish();
        if publish.qos == Q1 {
            let packet_id = publish.packet_id.unwrap();
            self.send(Packet::Puback(Ack::new(packet_id, ReasonCode::Success)));
        }
        spell(&publish)
    }

    /// Nothing comes but the answer to a ping.
    pub(crate) fn silent(&mut self) {
        self.send(Packet::Pingreq);
        match self.next() {
            Some(Packet::Pingresp) => {}
            other => panic!("expected silence, got {other:?}"),
        }
    }

    /// The reason of the next answer, whatever it answers.
    pub(crate) fn reason(&mut self) -> u8 {
        match self.next() {
            Some(
                Packet::Puback(ack)
                | Packet::Pubrec(ack)
                | Packet::Pubrel(ack)
                | Packet::Pubcomp(ack),
            ) => ack.reason as u8,
            Some(Packet::Connack(connack)) => connack.reason as u8,
            Some(Packet::Disconnect(disconnect)) => disconnect.reason as u8,
            other => panic!("expected an answer, got {other:?}"),
        }
    }

    /// The reason of the DISCONNECT that ends the connection.
    pub(crate) fn ends(&mut self) -> u8 {
        loop {
            match self.next() {
                Some(Packet::Disconnect(disconnect)) => {
                    assert_eq!(self.next(), None);
                    return disconnect.reason as u8;
                }
                Some(_) => {}
                None => panic!("the connection ended without a word"),
            }
        }
    }

    pub(crate) fn subscribe_with(
        &mut self,
        filters: Vec<SubscribeFilter>,
        subscription_id: Option<u32>,
    ) -> Vec<u8> {
        let properties = SubscribeProperties {
            subscription_id: subscription_id.and_then(SubscriptionId::new),
            ..SubscribeProperties::default()
        };
        self.send(Packet::Subscribe(Subscribe {
            packet_id: id(999),
            properties,
            filters,
        }));
        match self.next() {
            Some(Packet::Suback(suback)) => {
                suback.reasons.iter().map(|reason| *reason as u8).collect()
            }
            other => panic!("expected SUBACK, got {other:?}"),
        }
    }

    /// Subscribes with a user property; the reason, and the words with it.
    pub(crate) fn subscribe_asking(
        &mut self,
        filter_text: &str,
        (name, value): (&str, &str),
    ) -> (u8, String) {
        let mut properties = SubscribeProperties::default();
        properties.user_properties.push(&text(name), &text(value));
        self.send(Packet::Subscribe(Subscribe {
            packet_id: id(997),
            properties,
            filters: vec![filter(filter_text, Q0)],
        }));
        match self.next() {
            Some(Packet::Suback(suback)) => {
                let words = suback.properties.reason_string.unwrap_or_default();
                (suback.reasons[0] as u8, words.to_string())
            }
            other => panic!("expected SUBACK, got {other:?}"),
        }
    }

    pub(crate) fn subscribe(&mut self, text: &str, qos: Qos) {
        let granted = self.subscribe_with(vec![filter(text, qos)], None);
        assert_eq!(granted, [qos as u8]);
    }

    pub(crate) fn unsubscribe(&mut self, filter: &str) -> Vec<u8> {
        self.send(Packet::Unsubscribe(Unsubscribe {
            packet_id: id(998),
            properties: UnsubscribeProperties::default(),
            filters: vec![text(filter)],
        }));
        match self.next() {
            Some(Packet::Unsuback(unsuback)) => unsuback
                .reasons
                .iter()
                .map(|reason| *reason as u8)
                .collect(),
            other => panic!("expected UNSUBACK, got {other:?}"),
        }
    }

    /// Publishes at QoS 0.
    pub(crate) fn say(&mut self, topic: &str, payload: &str) {
        self.send(Packet::Publish(publish(topic, payload, Q0, 0)));
    }

    /// Publishes with RETAIN at QoS 0.
    pub(crate) fn say_retained(&mut self, topic: &str, payload: &str) {
        self.send(Packet::Publish(Publish {
            retain: true,
            ..publish(topic, payload, Q0, 0)
        }));
    }

    /// Publishes at QoS 1, and waits until it is acknowledged.
    pub(crate) fn say_surely(&mut self, topic: &str, payload: &str) -> u8 {
        self.send(Packet::Publish(publish(topic, payload, Q1, 77)));
        self.reason()
    }

    /// Publishes with RETAIN, and waits until it is acknowledged.
    pub(crate) fn retain(&mut self, topic: &str, payload: &str) -> u8 {
        self.send(Packet::Publish(Publish {
            retain: true,
            ..publish(topic, payload, Q1, 78)
        }));
        self.reason()
    }

    /// Leaves as one does.
    pub(crate) fn leave(mut self) {
        self.leave_with(ReasonCode::Success);
    }

    pub(crate) fn leave_with(&mut self, reason: ReasonCode) {
        let properties = DisconnectProperties::default();
        self.send(Packet::Disconnect(Disconnect { reason, properties }));
        assert_eq!(self.next(), None);
    }
}

/// A PUBLISH in short.
pub(crate) fn spell(publish: &Publish) -> String {
    let message = &publish.message;
    let mut text = format!(
        "{} {} q{}",
        message.topic,
        String::from_utf8_lossy(&message.payload),
        publish.qos as u8
    );
    if publish.dup {
        text += " dup";
    }
    if publish.retain {
        text += " retain";
    }
    for id in &publish.subscription_ids {
        text += &format!(" #{}", id.get());
    }
    text
}

//! Rust's MQTT clients against the real binary: a server for a test, and `rumqttc` in both its versions under one name.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use rumqttc::{Incoming, Outgoing, v5};

const PATIENCE: Duration = Duration::from_secs(10);

/// `sapwood dev` on free ports, with a folder of its own.
pub struct Server {
    process: Child,
    folder: PathBuf,
    pub http: u16,
    pub mqtt: u16,
}

impl Server {
    /// Starts the binary that `TESTED_BINARY` names.
    pub fn start(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("sapwood-rust-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (process, http, mqtt) = spawn(&folder, 0, 0);
        Self {
            process,
            folder,
            http,
            mqtt,
        }
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Kills it, and starts it on the same folder and ports.
    pub fn restart(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
        (self.process, _, _) = spawn(&self.folder, self.http, self.mqtt);
    }

    /// The JSON at a path; nothing if it is not there.
    pub fn get(&self, path: &str) -> Option<String> {
        let answer = self.ask(&format!("GET {path} HTTP/1.1\r\n"), "");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        head.starts_with("HTTP/1.1 200 ").then(|| body.to_owned())
    }

    pub fn put(&self, path: &str, json: &str) {
        let head = format!(
            "PUT {path} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
            json.len()
        );
        let answer = self.ask(&head, json);
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    }

    fn ask(&self, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).expect("a connection");
        let request = format!("{head}Host: localhost\r\nConnection: close\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn spawn(folder: &PathBuf, http: u16, mqtt: u16) -> (Child, u16, u16) {
    let binary = std::env::var_os("TESTED_BINARY").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../target/release/sapwood"
            ))
        },
        PathBuf::from,
    );
    let mut process = Command::new(binary)
        .args([
            "dev",
            "--data",
            "data",
            "--http",
            &format!("127.0.0.1:{http}"),
            "--mqtt",
            &format!("127.0.0.1:{mqtt}"),
            "--set",
            // So few that a test can break it.
            "mqtt.receive_maximum=20",
        ])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let mut printed = BufReader::new(process.stdout.take().expect("its output"));
    let http = port(&mut printed, "http://");
    let mqtt = port(&mut printed, "mqtt://");
    // It goes on printing.
    thread::spawn(move || std::io::copy(&mut printed, &mut std::io::sink()));
    (process, http, mqtt)
}

/// The port in the next line that has such an address.
fn port(printed: &mut BufReader<ChildStdout>, scheme: &str) -> u16 {
    loop {
        let mut line = String::new();
        assert!(
            printed.read_line(&mut line).expect("a line") > 0,
            "the server ended"
        );
        if let Some((_, address)) = line.split_once(scheme) {
            let (_, port) = address.split_once(':').expect("a port");
            let digits: String = port.chars().take_while(char::is_ascii_digit).collect();
            return digits.parse().expect("a number");
        }
    }
}

/// What a client is told, or what became of what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Connected {
        session_present: bool,
    },
    /// `topic payload qos retain`
    Told(String),
    Subscribed,
    /// A PUBLISH of the client is done, at whatever QoS.
    Done,
    Ended(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V3,
    V5,
}

/// How a client connects.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub version: Version,
    pub client_id: &'static str,
    pub clean: bool,
    /// Topic and payload, at QoS 1.
    pub will: Option<(&'static str, &'static str)>,
}

impl Options {
    pub fn new(version: Version, client_id: &'static str) -> Self {
        Self {
            version,
            client_id,
            clean: true,
            will: None,
        }
    }
}

enum Speaker {
    V3(rumqttc::Client),
    V5(v5::Client),
}

/// A client whose events can be awaited.
pub struct Client {
    speaker: Speaker,
    heard: Receiver<Heard>,
}

impl Client {
    /// Connects; whether its session was there.
    pub fn connect(server: &Server, options: Options) -> (Self, bool) {
        let client = match options.version {
            Version::V3 => connect_3(server, options),
            Version::V5 => connect_5(server, options),
        };
        match client.next() {
            Heard::Connected { session_present } => (client, session_present),
            other => panic!("expected CONNACK, got {other:?}"),
        }
    }

    pub fn next(&self) -> Heard {
        match self.heard.recv_timeout(PATIENCE) {
            Ok(heard) => heard,
            Err(RecvTimeoutError::Timeout) => panic!("nothing came within {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("the client has ended"),
        }
    }

    /// The next message, whatever else comes before it.
    pub fn told(&self) -> String {
        loop {
            match self.next() {
                Heard::Told(told) => return told,
                Heard::Ended(why) => panic!("{why}"),
                _ => {}
            }
        }
    }

    pub fn subscribe(&self, filter: &str, qos: u8) {
        match &self.speaker {
            Speaker::V3(client) => client
                .subscribe(filter, rumqttc::qos(qos).expect("a QoS"))
                .expect("taken"),
            Speaker::V5(client) => client
                .subscribe(filter, v5::mqttbytes::qos(qos).expect("a QoS"))
                .expect("taken"),
        }
        while self.next() != Heard::Subscribed {}
    }

    /// Publishes, and waits until that is done.
    pub fn publish(&self, topic: &str, payload: &str, qos: u8, retain: bool) {
        self.say(topic, payload, qos, retain);
        while self.next() != Heard::Done {}
    }

    /// Publishes without waiting.
    pub fn say(&self, topic: &str, payload: &str, qos: u8, retain: bool) {
        let payload = payload.to_owned();
        match &self.speaker {
            Speaker::V3(client) => {
                client
                    .publish(topic, rumqttc::qos(qos).expect("a QoS"), retain, payload)
                    .expect("taken");
            }
            Speaker::V5(client) => {
                client
                    .publish(
                        topic,
                        v5::mqttbytes::qos(qos).expect("a QoS"),
                        retain,
                        payload,
                    )
                    .expect("taken");
            }
        }
    }

    /// Leaves with DISCONNECT, and waits for the end.
    pub fn leave(self) {
        match &self.speaker {
            Speaker::V3(client) => client.disconnect().expect("taken"),
            Speaker::V5(client) => client.disconnect().expect("taken"),
        }
        while let Ok(heard) = self.heard.recv_timeout(PATIENCE) {
            if matches!(heard, Heard::Ended(_)) {
                return;
            }
        }
    }
}

fn connect_3(server: &Server, options: Options) -> Client {
    let mut connect = rumqttc::MqttOptions::new(options.client_id, "127.0.0.1", server.mqtt);
    connect
        .set_keep_alive(Duration::from_secs(30))
        .set_clean_session(options.clean);
    if let Some((topic, payload)) = options.will {
        connect.set_last_will(rumqttc::LastWill::new(
            topic,
            payload,
            rumqttc::QoS::AtLeastOnce,
            false,
        ));
    }
    let (client, mut connection) = rumqttc::Client::new(connect, 100);
    let (sender, heard) = channel();
    thread::spawn(move || {
        for event in connection.iter() {
            let told = match event {
                Ok(rumqttc::Event::Incoming(packet)) => heard_3(packet),
                Ok(rumqttc::Event::Outgoing(Outgoing::Disconnect)) => {
                    Some(Heard::Ended("left".to_owned()))
                }
                Ok(rumqttc::Event::Outgoing(_)) => None,
                Err(error) => Some(Heard::Ended(error.to_string())),
            };
            let is_last = matches!(told, Some(Heard::Ended(_)));
            if told.is_some_and(|told| sender.send(told).is_err()) || is_last {
                return;
            }
        }
    });
    Client {
        speaker: Speaker::V3(client),
        heard,
    }
}

fn heard_3(packet: Incoming) -> Option<Heard> {
    Some(match packet {
        Incoming::ConnAck(connack) => Heard::Connected {
            session_present: connack.session_present,
        },
        Incoming::Publish(publish) => {
            let payload = String::from_utf8_lossy(&publish.payload).into_owned();
            Heard::Told(format!(
                "{} {payload} {} {}",
                publish.topic, publish.qos as u8, publish.retain
            ))
        }
        Incoming::SubAck(_) => Heard::Subscribed,
        Incoming::PubAck(_) | Incoming::PubComp(_) => Heard::Done,
        _ => return None,
    })
}

fn connect_5(server: &Server, options: Options) -> Client {
    let mut connect = v5::MqttOptions::new(options.client_id, "127.0.0.1", server.mqtt);
    connect
        .set_keep_alive(Duration::from_secs(30))
        .set_clean_start(options.clean);
    connect.set_session_expiry_interval((!options.clean).then_some(60));
    if let Some((topic, payload)) = options.will {
        let qos = v5::mqttbytes::QoS::AtLeastOnce;
        connect.set_last_will(v5::mqttbytes::v5::LastWill::new(
            topic, payload, qos, false, None,
        ));
    }
    let (client, mut connection) = v5::Client::new(connect, 100);
    let (sender, heard) = channel();
    thread::spawn(move || {
        for event in connection.iter() {
            let told = match event {
                Ok(v5::Event::Incoming(packet)) => heard_5(packet),
                Ok(v5::Event::Outgoing(Outgoing::Disconnect)) => {
                    Some(Heard::Ended("left".to_owned()))
                }
                Ok(v5::Event::Outgoing(_)) => None,
                Err(error) => Some(Heard::Ended(error.to_string())),
            };
            let is_last = matches!(told, Some(Heard::Ended(_)));
            if told.is_some_and(|told| sender.send(told).is_err()) || is_last {
                return;
            }
        }
    });
    Client {
        speaker: Speaker::V5(client),
        heard,
    }
}

fn heard_5(packet: v5::Incoming) -> Option<Heard> {
    use v5::mqttbytes::v5::Packet;
    Some(match packet {
        Packet::ConnAck(connack) => Heard::Connected {
            session_present: connack.session_present,
        },
        Packet::Publish(publish) => {
            let topic = String::from_utf8_lossy(&publish.topic).into_owned();
            let payload = String::from_utf8_lossy(&publish.payload).into_owned();
            Heard::Told(format!(
                "{topic} {payload} {} {}",
                publish.qos as u8, publish.retain
            ))
        }
        Packet::SubAck(_) => Heard::Subscribed,
        Packet::PubAck(_) | Packet::PubComp(_) => Heard::Done,
        Packet::Disconnect(disconnect) => Heard::Ended(format!("{:?}", disconnect.reason_code)),
        _ => return None,
    })
}

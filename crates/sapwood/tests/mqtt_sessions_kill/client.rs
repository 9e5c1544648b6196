//! Who a client is, and its connection.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    num::NonZeroU16,
    time::Duration,
};

use bytes::BytesMut;
use sapwood_mqtt::codec::{
    Connect, ConnectProperties, DecodeLimits, Decoder, Disconnect, DisconnectProperties, Packet,
    ReasonCode, Text, Version, encode,
};

/// How long a server may say nothing at all.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);

/// Who a client is.
pub(crate) struct Who {
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) receive_maximum: Option<u16>,
    /// Whether the server has a session of it.
    pub(crate) known: bool,
}

impl Who {
    pub(crate) fn new(name: String, version: Version) -> Self {
        Self {
            name,
            version,
            receive_maximum: None,
            known: false,
        }
    }

    /// Connects to the session that it has, which must be there; none when the server is gone.
    pub(crate) fn connect(&mut self, address: SocketAddr) -> Option<Client> {
        let mut properties = ConnectProperties::default();
        if self.version.is_5() {
            properties.session_expiry_s = Some(3600);
            properties.receive_maximum = self.receive_maximum.and_then(NonZeroU16::new);
        }
        let connect = Connect {
            version: self.version,
            bridge: false,
            clean_start: false,
            keep_alive_s: 0,
            client_id: Text::new(&self.name).unwrap(),
            will: None,
            user_name: None,
            password: None,
            properties,
        };
        let mut client = Client::open(address, self.version)?;
        client.say(&Packet::Connect(Box::new(connect)));
        let Packet::Connack(connack) = client.next()? else {
            panic!("{}: no CONNACK", self.name);
        };
        assert_eq!(connack.reason, ReasonCode::Success, "{}", self.name);
        assert_eq!(connack.session_present, self.known, "{}", self.name);
        self.known = true;
        Some(client)
    }
}

/// A connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) version: Version,
    pub(crate) decoder: Decoder,
    pub(crate) inbound: BytesMut,
    pub(crate) outbound: BytesMut,
}

impl Client {
    pub(crate) fn open(address: SocketAddr, version: Version) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(SILENCE)).ok()?;
        Some(Self {
            stream,
            version,
            decoder: Decoder::with_version(version, DecodeLimits::default()),
            inbound: BytesMut::new(),
            outbound: BytesMut::new(),
        })
    }

    /// Waits longer: others may have much to do first.
    pub(crate) fn is_patient(&self) {
        let timeout = Some(SILENCE * 20);
        self.stream.set_read_timeout(timeout).unwrap();
    }

    pub(crate) fn say(&mut self, packet: &Packet) {
        encode(packet, self.version, &mut self.outbound).unwrap();
    }

    /// Sends what was said, and waits for a packet; none when the server is gone.
    pub(crate) fn next(&mut self) -> Option<Packet> {
        if !self.outbound.is_empty() {
            let out = self.outbound.split();
            // What it has answered already is still read.
            self.stream.write_all(&out).ok();
        }
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.inbound).unwrap() {
                return Some(packet);
            }
            let mut bytes = [0; 4096];
            let read = match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(read) => read,
                Err(error) if is_timeout(error.kind()) => panic!("nothing came"),
                Err(_) => return None,
            };
            self.inbound.extend_from_slice(&bytes[..read]);
        }
    }

    /// Leaves in good order, and waits until the server has seen to it.
    pub(crate) fn leave(mut self) {
        if self.version.is_5() {
            // What came before has been worked on when this is answered.
            self.say(&Packet::Pingreq);
            assert_eq!(self.next(), Some(Packet::Pingresp));
        }
        self.say(&Packet::Disconnect(Disconnect {
            reason: ReasonCode::Success,
            properties: DisconnectProperties::default(),
        }));
        assert_eq!(self.next(), None);
    }
}

pub(crate) fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

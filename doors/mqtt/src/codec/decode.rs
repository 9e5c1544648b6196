//! Bytes → packets.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use bytes::{Buf as _, Bytes, BytesMut};

use super::connect::{self, Level};
use super::property::PublishProperties;
use super::read::{OVERLONG, Reader, varint};
use super::{
    Ack, AckProperties, Auth, AuthProperties, Connack, ConnackProperties, Disconnect,
    DisconnectProperties, Fault, Message, Packet, PacketId, Publish, Qos, ReasonCode,
    RetainHandling, Suback, Subscribe, SubscribeFilter, SubscribeProperties, Unsuback, Unsubscribe,
    UnsubscribeProperties, Version,
};

/// What a peer may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Bytes of one packet, its head included. A longer one is refused as soon as its length is known (3.2.2-15).
    pub packet_bytes_max: u32,
    /// Filters in one SUBSCRIBE or UNSUBSCRIBE.
    pub filters_max: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            packet_bytes_max: 64 << 10,
            filters_max: 100,
        }
    }
}

/// Takes packets off the front of a buffer.
///
/// It keeps nothing but the version: a packet is read when all of it has come, so memory is taken by bytes that are
/// there, never by a length that was announced. Strings and payloads share the buffer's memory.
#[derive(Debug, Clone)]
pub struct Decoder {
    version: Option<Version>,
    limits: DecodeLimits,
}

/// A packet's fixed header (2.1).
struct Header {
    kind: u8,
    flags: u8,
    bytes: usize,
    body_bytes: usize,
    overlong: bool,
}

impl Decoder {
    /// A server's: the first packet must be a CONNECT, which says the version (3.1.0-1).
    pub fn new(limits: DecodeLimits) -> Self {
        Self {
            version: None,
            limits,
        }
    }

    /// A client's, who knows what it speaks.
    pub fn with_version(version: Version, limits: DecodeLimits) -> Self {
        Self {
            version: Some(version),
            limits,
        }
    }

    /// What is spoken, as soon as a CONNECT has said so, also if there was a fault behind that.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Other limits from the next packet on: more is allowed to a client that has been let in.
    pub fn set_limits(&mut self, limits: DecodeLimits) {
        self.limits = limits;
    }

    /// Takes the packet at the front of the buffer off it; `None` if not all of it has come yet.
    ///
    /// # Errors
    /// If the bytes are no packet that may come here, or one past the limits. What is in the buffer then means nothing
    /// any more.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Packet>, Fault> {
        let Some(header) = self.header(buffer)? else {
            return Ok(None);
        };
        if buffer.len() - header.bytes < header.body_bytes {
            return Ok(None);
        }
        buffer.advance(header.bytes);
        let body = Reader::new(buffer.split_to(header.body_bytes).freeze());
        self.packet(&header, body).map(Some)
    }

    /// Reads the fixed header, and refuses what it can.
    fn header(&self, buffer: &[u8]) -> Result<Option<Header>, Fault> {
        let Some((first, rest)) = buffer.split_first() else {
            return Ok(None);
        };
        let (kind, flags) = (first >> 4, first & 0x0F);
        if self.version.is_none() && kind != 1 {
            return Err(Fault::protocol(
                "3.1.0-1",
                "a first packet that is not CONNECT",
            ));
        }
        check_flags(kind, flags, self.version)?;
        let Some(length) = varint(rest)? else {
            return Ok(None);
        };
        let bytes = 1 + length.bytes;
        let body_bytes = usize::try_from(length.value).unwrap_or(usize::MAX);
        let max = usize::try_from(self.limits.packet_bytes_max).unwrap_or(usize::MAX);
        if body_bytes.saturating_add(bytes) > max {
            return Err(Fault::new(
                ReasonCode::PacketTooLarge,
                "3.2.2-15",
                "a packet larger than what is taken",
            ));
        }
        Ok(Some(Header {
            kind,
            flags,
            bytes,
            body_bytes,
            overlong: length.overlong,
        }))
    }

    fn packet(&mut self, header: &Header, mut body: Reader) -> Result<Packet, Fault> {
        if header.kind == 1 {
            return self.connect(header, body);
        }
        let Some(version) = self.version else {
            return Err(Fault::protocol(
                "3.1.0-1",
                "a first packet that is not CONNECT",
            ));
        };
        // 3.x asks nobody for the shortest form.
        if header.overlong && version.is_5() {
            return Err(OVERLONG);
        }
        let filters_max = self.limits.filters_max;
        match header.kind {
            2 => connack(version, body),
            3 => publish(header.flags, version, body),
            4 => ack(version, body, ReasonCode::OF_PUBACK, "3.4.2-1").map(Packet::Puback),
            5 => ack(version, body, ReasonCode::OF_PUBACK, "3.5.2-1").map(Packet::Pubrec),
            6 => ack(version, body, ReasonCode::OF_PUBREL, "3.6.2-1").map(Packet::Pubrel),
            7 => ack(version, body, ReasonCode::OF_PUBREL, "3.7.2-1").map(Packet::Pubcomp),
            8 => subscribe(version, body, filters_max),
            9 => suback(version, body),
            10 => unsubscribe(version, body, filters_max),
            11 => unsuback(version, body),
            12 => body.end().map(|()| Packet::Pingreq),
            13 => body.end().map(|()| Packet::Pingresp),
            14 => disconnect(version, body),
            15 if version.is_5() => auth(&mut body),
            _ => Err(Fault::malformed("2.1.2", "a packet of no known type")),
        }
    }

    fn connect(&mut self, header: &Header, mut body: Reader) -> Result<Packet, Fault> {
        match connect::level(&mut body)? {
            Level::Unknown(level) => Ok(Packet::ConnectUnknown(level)),
            Level::Known { version, bridge } => {
                // A second CONNECT is a fault of its own; it changes nothing.
                self.version.get_or_insert(version);
                if header.overlong && version.is_5() {
                    return Err(OVERLONG);
                }
                connect::decode(version, bridge, body)
            }
        }
    }
}

/// The flags that each type of packet must have (2.1.3-1).
fn check_flags(kind: u8, flags: u8, version: Option<Version>) -> Result<(), Fault> {
    let section = match kind {
        3 => return Ok(()),
        6 => "3.6.1-1",
        8 => "3.8.1-1",
        10 => "3.10.1-1",
        14 => "3.14.1-1",
        15 => "3.15.1-1",
        0 => return Err(Fault::malformed("2.1.2", "a packet of type 0")),
        _ => "2.1.3-1",
    };
    let expected = if matches!(kind, 6 | 8 | 10) { 2 } else { 0 };
    // 3.1 sent these three again with DUP set.
    let again = version == Some(Version::V3_1) && expected == 2 && flags == 0x0A;
    if flags == expected || again {
        Ok(())
    } else {
        Err(Fault::malformed(section, "reserved flags of a packet"))
    }
}

/// Reads a packet id: one that a request has (2.2.1-3), or an answer to it.
fn packet_id(body: &mut Reader, section: &'static str) -> Result<PacketId, Fault> {
    PacketId::new(body.u16()?).ok_or(Fault::protocol(section, "a packet id of zero"))
}

/// Reads a reason code, which must be one of `allowed`.
fn reason(
    body: &mut Reader,
    allowed: &[ReasonCode],
    section: &'static str,
) -> Result<ReasonCode, Fault> {
    let code = ReasonCode::from_u8(body.u8()?)
        .ok_or(Fault::malformed("2.4", "a reason code that there is not"))?;
    if allowed.contains(&code) {
        Ok(code)
    } else {
        Err(Fault::protocol(
            section,
            "a reason code that its packet can't have",
        ))
    }
}

fn connack(version: Version, mut body: Reader) -> Result<Packet, Fault> {
    let flags = body.u8()?;
    if flags & !1 != 0 {
        return Err(Fault::malformed("3.2.2-1", "reserved flags of CONNACK"));
    }
    let (reason, properties) = if version.is_5() {
        let reason = reason(&mut body, ReasonCode::OF_CONNACK, "3.2.2-8")?;
        (reason, ConnackProperties::read(&mut body)?)
    } else {
        let reason = ReasonCode::from_return_code(body.u8()?).ok_or(Fault::malformed(
            "3.1.1, 3.2.2.3",
            "a return code that there is not",
        ))?;
        (reason, ConnackProperties::default())
    };
    body.end()?;
    Ok(Packet::Connack(Box::new(Connack {
        session_present: flags & 1 != 0,
        reason,
        properties,
    })))
}

fn publish(flags: u8, version: Version, mut body: Reader) -> Result<Packet, Fault> {
    let (dup, retain) = (flags & 8 != 0, flags & 1 != 0);
    let qos =
        Qos::from_u8((flags >> 1) & 3).ok_or(Fault::malformed("3.3.1-4", "a message of QoS 3"))?;
    if dup && !qos.is_acknowledged() && version != Version::V3_1 {
        return Err(Fault::malformed("3.3.1-2", "DUP at QoS 0"));
    }
    let topic = body.text()?;
    let packet_id = if qos.is_acknowledged() {
        Some(packet_id(&mut body, "2.2.1-3")?)
    } else {
        None
    };
    let (properties, topic_alias, subscription_ids) = if version.is_5() {
        PublishProperties::read(&mut body)?.into_message()
    } else {
        PublishProperties::default().into_message()
    };
    let message = Message {
        topic,
        properties,
        payload: body.rest(),
    };
    check_message(&message)?;
    if topic_alias == Some(0) {
        return Err(Fault::new(
            ReasonCode::TopicAliasInvalid,
            "3.3.2-8",
            "a topic alias of zero",
        ));
    }
    if message.topic.is_empty() && topic_alias.is_none() {
        return Err(if version.is_5() {
            Fault::protocol("3.3.2.1", "an empty topic without an alias")
        } else {
            Fault::new(ReasonCode::TopicNameInvalid, "4.7.3-1", "an empty topic")
        });
    }
    Ok(Packet::Publish(Publish {
        dup,
        qos,
        retain,
        packet_id,
        topic_alias,
        subscription_ids,
        message,
    }))
}

/// What holds for messages and wills alike.
pub(super) fn check_message(message: &Message) -> Result<(), Fault> {
    let wild = |text: &Bytes| text.iter().any(|byte| matches!(byte, b'+' | b'#'));
    if wild(message.topic.as_bytes()) {
        return Err(Fault::new(
            ReasonCode::TopicNameInvalid,
            "3.3.2-2",
            "a wildcard in a topic name",
        ));
    }
    let response = message.properties.response_topic.as_ref();
    if response.is_some_and(|topic| wild(topic.as_bytes())) {
        return Err(Fault::protocol(
            "3.3.2-14",
            "a wildcard in a response topic",
        ));
    }
    Ok(())
}

fn ack(
    version: Version,
    mut body: Reader,
    reasons: &[ReasonCode],
    section: &'static str,
) -> Result<Ack, Fault> {
    let mut ack = Ack::new(packet_id(&mut body, "2.2.1-5")?, ReasonCode::Success);
    if version.is_5() && !body.is_empty() {
        ack.reason = reason(&mut body, reasons, section)?;
        if !body.is_empty() {
            ack.properties = AckProperties::read(&mut body)?;
        }
    }
    body.end()?;
    Ok(ack)
}

fn subscribe(version: Version, mut body: Reader, filters_max: usize) -> Result<Packet, Fault> {
    let packet_id = packet_id(&mut body, "2.2.1-3")?;
    let properties = if version.is_5() {
        SubscribeProperties::read(&mut body)?
    } else {
        SubscribeProperties::default()
    };
    let mut filters = Vec::new();
    while !body.is_empty() {
        check_count(filters.len(), filters_max)?;
        let filter = body.text()?;
        filters.push(subscribe_filter(filter, body.u8()?, version)?);
    }
    if filters.is_empty() {
        return Err(Fault::protocol("3.8.3-2", "SUBSCRIBE without a filter"));
    }
    Ok(Packet::Subscribe(Subscribe {
        packet_id,
        properties,
        filters,
    }))
}

fn check_count(count: usize, max: usize) -> Result<(), Fault> {
    if count < max {
        return Ok(());
    }
    Err(Fault::new(
        ReasonCode::QuotaExceeded,
        "4.13.1",
        "more filters in a packet than are taken",
    ))
}

fn subscribe_filter(
    filter: super::Text,
    options: u8,
    version: Version,
) -> Result<SubscribeFilter, Fault> {
    let reserved = if version.is_5() { 0xC0 } else { 0xFC };
    if options & reserved != 0 {
        return Err(Fault::malformed(
            "3.8.3-5",
            "reserved bits of the subscription options",
        ));
    }
    let qos =
        Qos::from_u8(options & 3).ok_or(Fault::protocol("3.8.3.1", "a subscription of QoS 3"))?;
    let retain_handling = match options >> 4 {
        0 => RetainHandling::Send,
        1 => RetainHandling::SendIfNew,
        2 => RetainHandling::DoNotSend,
        _ => return Err(Fault::protocol("3.8.3.1", "a retain handling of 3")),
    };
    Ok(SubscribeFilter {
        filter,
        qos,
        no_local: options & 4 != 0,
        retain_as_published: options & 8 != 0,
        retain_handling,
    })
}

fn suback(version: Version, mut body: Reader) -> Result<Packet, Fault> {
    let packet_id = packet_id(&mut body, "2.2.1-6")?;
    let (properties, allowed) = if version.is_5() {
        (AckProperties::read(&mut body)?, ReasonCode::OF_SUBACK)
    } else {
        (AckProperties::default(), ReasonCode::OF_SUBACK_3)
    };
    Ok(Packet::Suback(Suback {
        packet_id,
        properties,
        reasons: reasons(body, allowed, "3.9.3-2")?,
    }))
}

fn reasons(
    mut body: Reader,
    allowed: &[ReasonCode],
    section: &'static str,
) -> Result<Vec<ReasonCode>, Fault> {
    let mut reasons = Vec::new();
    while !body.is_empty() {
        reasons.push(reason(&mut body, allowed, section)?);
    }
    Ok(reasons)
}

fn unsubscribe(version: Version, mut body: Reader, filters_max: usize) -> Result<Packet, Fault> {
    let packet_id = packet_id(&mut body, "2.2.1-3")?;
    let properties = if version.is_5() {
        UnsubscribeProperties::read(&mut body)?
    } else {
        UnsubscribeProperties::default()
    };
    let mut filters = Vec::new();
    while !body.is_empty() {
        check_count(filters.len(), filters_max)?;
        filters.push(body.text()?);
    }
    if filters.is_empty() {
        return Err(Fault::protocol("3.10.3-2", "UNSUBSCRIBE without a filter"));
    }
    Ok(Packet::Unsubscribe(Unsubscribe {
        packet_id,
        properties,
        filters,
    }))
}

fn unsuback(version: Version, mut body: Reader) -> Result<Packet, Fault> {
    let packet_id = packet_id(&mut body, "2.2.1-6")?;
    let mut properties = AckProperties::default();
    let mut all = Vec::new();
    if version.is_5() {
        properties = AckProperties::read(&mut body)?;
        all = reasons(body, ReasonCode::OF_UNSUBACK, "3.11.3-2")?;
    } else {
        body.end()?;
    }
    Ok(Packet::Unsuback(Unsuback {
        packet_id,
        properties,
        reasons: all,
    }))
}

fn disconnect(version: Version, mut body: Reader) -> Result<Packet, Fault> {
    let mut disconnect = Disconnect {
        reason: ReasonCode::Success,
        properties: DisconnectProperties::default(),
    };
    if version.is_5() && !body.is_empty() {
        disconnect.reason = reason(&mut body, ReasonCode::OF_DISCONNECT, "3.14.2-1")?;
        if !body.is_empty() {
            disconnect.properties = DisconnectProperties::read(&mut body)?;
        }
    }
    body.end()?;
    Ok(Packet::Disconnect(disconnect))
}

fn auth(body: &mut Reader) -> Result<Packet, Fault> {
    let mut auth = Auth {
        reason: ReasonCode::Success,
        properties: AuthProperties::default(),
    };
    if !body.is_empty() {
        auth.reason = reason(body, ReasonCode::OF_AUTH, "3.15.2-1")?;
        auth.properties = AuthProperties::read(body)?;
    }
    body.end()?;
    Ok(Packet::Auth(auth))
}

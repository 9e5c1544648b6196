//! Packets → bytes.

use bytes::{BufMut as _, BytesMut};

use super::{
    Ack, AckProperties, Alias, Auth, Connack, Disconnect, Head, Packet, Publish, ReasonCode,
    Suback, Subscribe, Template, Unsuback, Unsubscribe, VARINT_MAX, Version, connect,
};

/// A packet of more bytes than the protocol can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a packet of more than {VARINT_MAX} bytes")]
pub struct PacketTooLarge;

/// Writes one packet behind what the buffer holds.
///
/// A message for many is written by [`Template`] instead.
///
/// # Errors
/// If the packet is larger than the protocol can say; nothing has been written then.
pub fn encode(packet: &Packet, version: Version, out: &mut BytesMut) -> Result<(), PacketTooLarge> {
    let (first, body) = match packet {
        Packet::Pingreq => (0xC0, BytesMut::new()),
        Packet::Pingresp => (0xD0, BytesMut::new()),
        Packet::Publish(publish) => return self::publish(publish, version, out),
        // What goes out most is made in place.
        Packet::Puback(ack) => return self::ack(0x40, ack, version, out),
        Packet::Pubrec(ack) => return self::ack(0x50, ack, version, out),
        Packet::Pubrel(ack) => return self::ack(0x62, ack, version, out),
        Packet::Pubcomp(ack) => return self::ack(0x70, ack, version, out),
        Packet::Connect(connect) => (0x10, body(|out| connect::encode(connect, out))),
        Packet::ConnectUnknown(level) => (0x10, body(|out| connect_unknown(*level, out))),
        Packet::Connack(connack) => (0x20, body(|out| self::connack(connack, version, out))),
        Packet::Subscribe(packet) => (0x82, body(|out| subscribe(packet, version, out))),
        Packet::Suback(packet) => (0x90, body(|out| suback(packet, version, out))),
        Packet::Unsubscribe(packet) => (0xA2, body(|out| unsubscribe(packet, version, out))),
        Packet::Unsuback(packet) => (0xB0, body(|out| unsuback(packet, version, out))),
        Packet::Disconnect(packet) => (0xE0, body(|out| disconnect(packet, version, out))),
        Packet::Auth(auth) => (0xF0, body(|out| self::auth(auth, out))),
    };
    let length = packet_length(body.len())?;
    out.put_u8(first);
    put_varint(length, out);
    out.extend_from_slice(&body);
    Ok(())
}

/// How many bytes a packet takes; none if it is larger than the protocol can say.
pub fn encoded_len(packet: &Packet, version: Version) -> Option<usize> {
    let mut out = BytesMut::new();
    encode(packet, version, &mut out).ok()?;
    Some(out.len())
}

fn body(write: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    write(&mut out);
    out
}

pub(super) fn packet_length(body: usize) -> Result<u32, PacketTooLarge> {
    match u32::try_from(body) {
        Ok(length) if length <= VARINT_MAX => Ok(length),
        _ => Err(PacketTooLarge),
    }
}

pub(super) fn put_varint(mut value: u32, out: &mut BytesMut) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            out.put_u8(low & 0x7F);
            return;
        }
        out.put_u8(low | 0x80);
    }
}

pub(super) fn varint_len(value: u32) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        0x20_0000.. => 4,
    }
}

/// Writes bytes with their length in front; what two bytes of length can't say is cut off.
pub(super) fn put_binary(bytes: &[u8], out: &mut BytesMut) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    debug_assert_eq!(usize::from(length), bytes.len());
    out.put_u16(length);
    out.extend_from_slice(bytes.get(..usize::from(length)).unwrap_or_default());
}

fn connect_unknown(level: u8, out: &mut BytesMut) {
    put_binary(b"MQTT", out);
    out.put_u8(level);
}

fn connack(connack: &Connack, version: Version, out: &mut BytesMut) {
    out.put_u8(u8::from(connack.session_present));
    if version.is_5() {
        out.put_u8(connack.reason as u8);
        connack.properties.put(out);
    } else {
        out.put_u8(connack.reason.to_return_code());
    }
}

fn publish(publish: &Publish, version: Version, out: &mut BytesMut) -> Result<(), PacketTooLarge> {
    let template = Template::new(version, publish.qos.is_acknowledged(), &publish.message)?;
    template.write(
        &Head {
            dup: publish.dup,
            qos: publish.qos,
            retain: publish.retain,
            packet_id: publish.packet_id,
            alias: match publish.topic_alias {
                None => Alias::None,
                Some(alias) if publish.message.topic.is_empty() => Alias::Use(alias),
                Some(alias) => Alias::Set(alias),
            },
            subscription_ids: &publish.subscription_ids,
            message_expiry_s: publish.message.properties.message_expiry_s,
        },
        out,
    )
}

fn ack(first: u8, ack: &Ack, version: Version, out: &mut BytesMut) -> Result<(), PacketTooLarge> {
    let plain = !version.is_5() || ack.properties.is_empty();
    let reason = version.is_5() && ack.reason != ReasonCode::Success;
    if plain {
        out.put_u8(first);
        out.put_u8(if reason { 3 } else { 2 });
        out.put_u16(ack.packet_id.get());
        if reason {
            out.put_u8(ack.reason as u8);
        }
        return Ok(());
    }
    let body = body(|out| {
        out.put_u16(ack.packet_id.get());
        out.put_u8(ack.reason as u8);
        ack.properties.put(out);
    });
    let length = packet_length(body.len())?;
    out.put_u8(first);
    put_varint(length, out);
    out.extend_from_slice(&body);
    Ok(())
}

fn subscribe(packet: &Subscribe, version: Version, out: &mut BytesMut) {
    out.put_u16(packet.packet_id.get());
    if version.is_5() {
        packet.properties.put(out);
    }
    for filter in &packet.filters {
        put_binary(filter.filter.as_bytes(), out);
        let mut options = filter.qos as u8;
        if version.is_5() {
            options |= u8::from(filter.no_local) << 2;
            options |= u8::from(filter.retain_as_published) << 3;
            options |= (filter.retain_handling as u8) << 4;
        }
        out.put_u8(options);
    }
}

fn suback(packet: &Suback, version: Version, out: &mut BytesMut) {
    out.put_u16(packet.packet_id.get());
    put_ack_properties(&packet.properties, version, out);
    for reason in &packet.reasons {
        // 3.x knows one way to fail (3.1.1, 3.9.3-2).
        let plain = version.is_5() || !reason.is_failure();
        out.put_u8(if plain { *reason as u8 } else { 0x80 });
    }
}

fn put_ack_properties(properties: &AckProperties, version: Version, out: &mut BytesMut) {
    if version.is_5() {
        properties.put(out);
    }
}

fn unsubscribe(packet: &Unsubscribe, version: Version, out: &mut BytesMut) {
    out.put_u16(packet.packet_id.get());
    if version.is_5() {
        packet.properties.put(out);
    }
    for filter in &packet.filters {
        put_binary(filter.as_bytes(), out);
    }
}

fn unsuback(packet: &Unsuback, version: Version, out: &mut BytesMut) {
    out.put_u16(packet.packet_id.get());
    put_ack_properties(&packet.properties, version, out);
    if version.is_5() {
        packet
            .reasons
            .iter()
            .for_each(|reason| out.put_u8(*reason as u8));
    }
}

fn disconnect(packet: &Disconnect, version: Version, out: &mut BytesMut) {
    let plain = packet.properties.is_empty();
    if !version.is_5() || plain && packet.reason == ReasonCode::Success {
        return;
    }
    out.put_u8(packet.reason as u8);
    if !plain {
        packet.properties.put(out);
    }
}

fn auth(auth: &Auth, out: &mut BytesMut) {
    out.put_u8(auth.reason as u8);
    auth.properties.put(out);
}

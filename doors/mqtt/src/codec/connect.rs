//! CONNECT (3.1).
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use bytes::{BufMut as _, BytesMut};

use super::encode::put_binary;
use super::property::WillProperties;
use super::read::Reader;
use super::{Connect, ConnectProperties, Fault, Message, Packet, Qos, ReasonCode, Version, Will};

const USER_NAME: u8 = 0x80;
const PASSWORD: u8 = 0x40;
const WILL_RETAIN: u8 = 0x20;
const WILL_QOS: u8 = 0x18;
const WILL: u8 = 0x04;
const CLEAN_START: u8 = 0x02;
const RESERVED: u8 = 0x01;
const BRIDGE: u8 = 0x80;

/// What a CONNECT's first fields say.
pub(super) enum Level {
    Known { version: Version, bridge: bool },
    Unknown(u8),
}

/// Reads protocol name and level (3.1.2.1, 3.1.2.2).
pub(super) fn level(body: &mut Reader) -> Result<Level, Fault> {
    let name = body.binary()?;
    let level = body.u8()?;
    let known = |version| Level::Known {
        version,
        bridge: level & BRIDGE != 0,
    };
    match (&*name, level) {
        (b"MQIsdp", 0x03 | 0x83) => Ok(known(Version::V3_1)),
        (b"MQTT", 0x04 | 0x84) => Ok(known(Version::V3_1_1)),
        (b"MQTT", 0x05) => Ok(known(Version::V5)),
        (b"MQTT" | b"MQIsdp", _) => Ok(Level::Unknown(level)),
        _ => Err(Fault::new(
            ReasonCode::UnsupportedProtocolVersion,
            "3.1.2-1",
            "a protocol name that is not MQTT",
        )),
    }
}

/// Reads what stands behind the level.
pub(super) fn decode(version: Version, bridge: bool, mut body: Reader) -> Result<Packet, Fault> {
    let flags = body.u8()?;
    check(flags, version)?;
    let keep_alive_s = body.u16()?;
    let properties = if version.is_5() {
        ConnectProperties::read(&mut body)?
    } else {
        ConnectProperties::default()
    };
    if properties.authentication_data.is_some() && properties.authentication_method.is_none() {
        return Err(Fault::protocol(
            "3.1.2.11.10",
            "authentication data without a method",
        ));
    }
    let client_id = body.text()?;
    let will = if flags & WILL == 0 {
        None
    } else {
        Some(will(flags, version, &mut body)?)
    };
    let user_name = (flags & USER_NAME != 0).then(|| body.text()).transpose()?;
    let password = (flags & PASSWORD != 0).then(|| body.binary()).transpose()?;
    body.end()?;
    Ok(Packet::Connect(Box::new(Connect {
        version,
        bridge,
        clean_start: flags & CLEAN_START != 0,
        keep_alive_s,
        client_id,
        will,
        user_name,
        password,
        properties,
    })))
}

fn check(flags: u8, version: Version) -> Result<(), Fault> {
    if flags & RESERVED != 0 && version != Version::V3_1 {
        return Err(Fault::malformed("3.1.2-3", "the reserved flag of CONNECT"));
    }
    if flags & WILL_QOS == WILL_QOS {
        return Err(Fault::malformed("3.1.2-12", "a will of QoS 3"));
    }
    if flags & WILL == 0 && flags & WILL_QOS != 0 {
        return Err(Fault::malformed(
            "3.1.2-11",
            "the QoS of a will that is not there",
        ));
    }
    if flags & WILL == 0 && flags & WILL_RETAIN != 0 {
        return Err(Fault::malformed(
            "3.1.2-13",
            "RETAIN of a will that is not there",
        ));
    }
    if flags & PASSWORD != 0 && flags & USER_NAME == 0 && !version.is_5() {
        return Err(Fault::malformed(
            "3.1.1, 3.1.2-22",
            "a password without a user name",
        ));
    }
    Ok(())
}

fn will(flags: u8, version: Version, body: &mut Reader) -> Result<Will, Fault> {
    let (properties, delay_s) = if version.is_5() {
        WillProperties::read(body)?.into_message()
    } else {
        WillProperties::default().into_message()
    };
    let message = Message {
        properties,
        topic: body.text()?,
        payload: body.binary()?,
    };
    super::decode::check_message(&message)?;
    if message.topic.is_empty() {
        return Err(Fault::new(
            ReasonCode::TopicNameInvalid,
            "4.7.3-1",
            "an empty topic of a will",
        ));
    }
    Ok(Will {
        qos: Qos::from_u8((flags & WILL_QOS) >> 3).unwrap_or_default(),
        retain: flags & WILL_RETAIN != 0,
        delay_s,
        message,
    })
}

/// Writes the body.
pub(super) fn encode(connect: &Connect, out: &mut BytesMut) {
    let (name, level) = match connect.version {
        Version::V3_1 => ("MQIsdp", 3),
        Version::V3_1_1 => ("MQTT", 4),
        Version::V5 => ("MQTT", 5),
    };
    put_binary(name.as_bytes(), out);
    let bridge = connect.bridge && !connect.version.is_5();
    out.put_u8(if bridge { level | BRIDGE } else { level });
    out.put_u8(flags(connect));
    out.put_u16(connect.keep_alive_s);
    if connect.version.is_5() {
        connect.properties.put(out);
    }
    put_binary(connect.client_id.as_bytes(), out);
    if let Some(will) = &connect.will {
        if connect.version.is_5() {
            will_properties(will).put(out);
        }
        put_binary(will.message.topic.as_bytes(), out);
        put_binary(&will.message.payload, out);
    }
    if let Some(user_name) = &connect.user_name {
        put_binary(user_name.as_bytes(), out);
    }
    if let Some(password) = &connect.password {
        put_binary(password, out);
    }
}

fn flags(connect: &Connect) -> u8 {
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    let will = connect.will.as_ref().map_or(0, |will| {
        WILL | ((will.qos as u8) << 3) | flag(will.retain, WILL_RETAIN)
    });
    flag(connect.user_name.is_some(), USER_NAME)
        | flag(connect.password.is_some(), PASSWORD)
        | flag(connect.clean_start, CLEAN_START)
        | will
}

fn will_properties(will: &Will) -> WillProperties {
    let properties = will.message.properties.clone();
    WillProperties {
        will_delay_s: (will.delay_s > 0).then_some(will.delay_s),
        message_expiry_s: properties.message_expiry_s,
        payload_is_text: properties.payload_is_text,
        content_type: properties.content_type,
        response_topic: properties.response_topic,
        correlation_data: properties.correlation_data,
        user_properties: properties.user_properties,
    }
}

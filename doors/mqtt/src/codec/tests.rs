//! The codec as a whole; what is refused is in `tests/refused.rs`.

pub(crate) mod packets;
mod refused;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use packets::{any_packet, any_version, message};

const LIMITS: DecodeLimits = DecodeLimits {
    packet_bytes_max: 1 << 20,
    filters_max: 100,
};

fn encoded(packet: &Packet, version: Version) -> BytesMut {
    let mut out = BytesMut::new();
    encode(packet, version, &mut out).unwrap();
    out
}

fn text(text: &str) -> Text {
    Text::new(text).unwrap()
}

/// All packets of a stream of bytes that comes in these pieces.
fn decode_in_pieces(version: Version, bytes: &[u8], cuts: &[usize]) -> Vec<Packet> {
    let mut decoder = Decoder::with_version(version, LIMITS);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    let (mut buffer, mut packets) = (BytesMut::new(), Vec::new());
    for cut in cuts.windows(2) {
        buffer.extend_from_slice(&bytes[cut[0]..cut[1]]);
        while let Some(packet) = decoder.decode(&mut buffer).unwrap() {
            packets.push(packet);
        }
    }
    assert!(buffer.is_empty());
    packets
}

proptest! {
    #[test]
    fn what_is_written_is_read_however_it_is_cut(
        (version, packets) in any_version().prop_flat_map(|version| (Just(version), prop::collection::vec(any_packet(version), 1..5))),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let mut bytes = BytesMut::new();
        for packet in &packets {
            let start = bytes.len();
            encode(packet, version, &mut bytes).unwrap();
            prop_assert_eq!(encoded_len(packet, version), Some(bytes.len() - start));
        }
        prop_assert_eq!(decode_in_pieces(version, &bytes, &cuts), packets);
    }

    #[test]
    fn a_damaged_packet_is_refused_or_read_as_another(
        (version, packet) in any_version().prop_flat_map(|version| (Just(version), any_packet(version))),
        damage in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4),
        first in any::<bool>(),
    ) {
        let mut bytes = encoded(&packet, version);
        for (at, byte) in damage {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let mut decoder = if first { Decoder::new(LIMITS) } else { Decoder::with_version(version, LIMITS) };
        while let Ok(Some(packet)) = decoder.decode(&mut bytes) {
            // What was read can be written, and reads as the same.
            let version = decoder.version().unwrap_or(version);
            let again = encoded(&packet, version);
            if !matches!(packet, Packet::Connect(_) | Packet::ConnectUnknown(_)) {
                prop_assert_eq!(decode_in_pieces(version, &again, &[]), [packet]);
            }
        }
    }

    #[test]
    fn any_bytes_end_in_packets_a_fault_or_waiting(bytes in prop::collection::vec(any::<u8>(), 0..200), version in prop::option::of(any_version())) {
        let mut decoder = version.map_or(Decoder::new(LIMITS), |version| Decoder::with_version(version, LIMITS));
        let mut buffer = BytesMut::from(&*bytes);
        while let Ok(Some(_)) = decoder.decode(&mut buffer) {}
    }

    #[test]
    fn a_template_writes_what_a_packet_says(
        version in any_version(),
        message in message(Version::V5),
        qos in packets::qos(),
        (dup, retain) in any::<(bool, bool)>(),
        alias in prop_oneof![Just(Alias::None), (1u16..).prop_map(Alias::Set), (1u16..).prop_map(Alias::Use)],
        ids in prop::collection::vec(1u32..=VARINT_MAX, 0..4),
        left in any::<u32>(),
    ) {
        let acknowledged = qos.is_acknowledged();
        let packet_id = PacketId::new(77).filter(|_| acknowledged);
        let subscription_ids: Vec<SubscriptionId> = ids.iter().filter_map(|id| SubscriptionId::new(*id)).collect();
        let template = Template::new(version, acknowledged, &message).unwrap();
        let head = Head { dup: dup && acknowledged, qos, retain, packet_id, alias, subscription_ids: &subscription_ids, message_expiry_s: Some(left) };
        let mut whole = BytesMut::new();
        template.write(&head, &mut whole).unwrap();
        let mut parts = BytesMut::new();
        let shared = template.write_head(&head, &mut parts).unwrap();
        parts.extend_from_slice(&shared);
        prop_assert_eq!(&whole, &parts);
        prop_assert_eq!(template.packet_bytes(&head), Some(whole.len()));

        let mut expected = Publish { dup: head.dup, qos, retain, packet_id, topic_alias: None, subscription_ids, message };
        if version.is_5() {
            expected.topic_alias = match alias { Alias::None => None, Alias::Set(alias) | Alias::Use(alias) => Some(alias) };
            if matches!(alias, Alias::Use(_)) {
                expected.message.topic = Text::default();
            }
            expected.message.properties.message_expiry_s = expected.message.properties.message_expiry_s.map(|_| left);
        } else {
            expected.subscription_ids.clear();
            expected.message.properties = MessageProperties::default();
        }
        prop_assert_eq!(decode_in_pieces(version, &whole, &[]), [Packet::Publish(expected)]);
    }
}

#[test]
fn payloads_and_strings_share_the_memory_of_their_packet() {
    let mut message = Message {
        topic: text("a/b"),
        payload: Bytes::from(vec![7; 5000]),
        ..Message::default()
    };
    message.properties.content_type = Some(text("x/y"));
    let publish = Packet::Publish(Publish {
        dup: false,
        qos: Qos::AtMostOnce,
        retain: false,
        packet_id: None,
        topic_alias: None,
        subscription_ids: Vec::new(),
        message,
    });
    let mut buffer = encoded(&publish, Version::V5);
    let (start, end) = (buffer.as_ptr(), buffer.as_ptr().wrapping_add(buffer.len()));
    let mut decoder = Decoder::with_version(Version::V5, LIMITS);
    let Some(Packet::Publish(publish)) = decoder.decode(&mut buffer).unwrap() else {
        panic!("no PUBLISH");
    };
    for bytes in [&publish.message.payload, publish.message.topic.as_bytes()] {
        assert!((start..end).contains(&bytes.as_ptr()));
    }
}

#[test]
fn an_announced_length_takes_no_memory() {
    // Reliability, L5.
    let mut decoder = Decoder::with_version(
        Version::V5,
        DecodeLimits {
            packet_bytes_max: VARINT_MAX,
            ..LIMITS
        },
    );
    let mut buffer = BytesMut::from(&[0x30, 0xFF, 0xFF, 0xFF, 0x7E, 0, 1][..]);
    let before = buffer.capacity();
    assert_eq!(decoder.decode(&mut buffer), Ok(None));
    assert_eq!(buffer.capacity(), before);
}

#[test]
fn many_small_user_properties_take_no_more_than_they_came_in() {
    let mut properties = UserProperties::default();
    for _ in 0..1000 {
        properties.push(&text(""), &text("v"));
    }
    assert_eq!(properties.iter().count(), 1000);
    assert_eq!(properties.find(""), Some(text("v")));
    assert_eq!(properties.find("x"), None);
}

#[test]
fn user_properties_keep_their_order_also_with_others_between() {
    // 3.3.2-18
    let bytes = b"\x30\x1b\0\x01a\x17\x26\0\x01a\0\x011\x01\x01\x26\0\x01a\0\x012\x26\0\x01b\0\x01";
    let mut buffer = BytesMut::from(&bytes[..]);
    buffer.extend_from_slice(b"3");
    let mut decoder = Decoder::with_version(Version::V5, LIMITS);
    let Ok(Some(Packet::Publish(publish))) = decoder.decode(&mut buffer) else {
        panic!("no PUBLISH");
    };
    let properties = publish.message.properties;
    assert_eq!(properties.payload_is_text, Some(true));
    let all: Vec<String> = properties
        .user_properties
        .iter()
        .map(|(name, value)| format!("{name}{value}"))
        .collect();
    assert_eq!(all, ["a1", "a2", "b3"]);
}

#[test]
fn a_bridge_sets_bit_7_of_its_level() {
    for (name, level, version) in [
        ("MQIsdp", 0x83, Version::V3_1),
        ("MQTT", 0x84, Version::V3_1_1),
    ] {
        let mut body = vec![0, name.len() as u8];
        body.extend(name.bytes());
        body.extend([level, 2, 0, 0, 0, 1, b'x']);
        let mut buffer = BytesMut::from(&[0x10, body.len() as u8][..]);
        buffer.extend_from_slice(&body);
        let Ok(Some(Packet::Connect(connect))) = Decoder::new(LIMITS).decode(&mut buffer) else {
            panic!("no CONNECT");
        };
        assert_eq!((connect.version, connect.bridge), (version, true));
    }
}

#[test]
fn an_unknown_level_is_told_as_such() {
    // 3.1.2-2
    for (name, level) in [
        ("MQTT", 3),
        ("MQTT", 6),
        ("MQTT", 0x85),
        ("MQIsdp", 4),
        ("MQTT", 0),
    ] {
        let mut body = vec![0, name.len() as u8];
        body.extend(name.bytes());
        body.push(level);
        // What follows may mean anything.
        body.extend([0xFF; 9]);
        let mut buffer = BytesMut::from(&[0x10, body.len() as u8][..]);
        buffer.extend_from_slice(&body);
        let read = Decoder::new(LIMITS).decode(&mut buffer);
        assert_eq!(read, Ok(Some(Packet::ConnectUnknown(level))));
    }
}

#[test]
fn a_byte_order_mark_stays() {
    // 1.5.4-3; 3.1.1, 1.5.3-3
    let read = Text::from_wire(Bytes::from_static(b"\xEF\xBB\xBFa")).unwrap();
    assert_eq!(read.as_str(), "\u{feff}a");
}

#[test]
fn answers_of_5_leave_out_what_goes_without_saying() {
    // 3.4.2.1, 3.14.2.1
    let id = PacketId::new(0x0102).unwrap();
    let ack = |reason| Packet::Puback(Ack::new(id, reason));
    let bytes = |packet| encoded(&packet, Version::V5).to_vec();
    assert_eq!(bytes(ack(ReasonCode::Success)), [0x40, 2, 1, 2]);
    assert_eq!(
        bytes(ack(ReasonCode::NoMatchingSubscribers)),
        [0x40, 3, 1, 2, 0x10]
    );
    let disconnect = |reason| {
        Packet::Disconnect(Disconnect {
            reason,
            properties: DisconnectProperties::default(),
        })
    };
    assert_eq!(bytes(disconnect(ReasonCode::Success)), [0xE0, 0]);
    assert_eq!(
        bytes(disconnect(ReasonCode::KeepAliveTimeout)),
        [0xE0, 1, 0x8D]
    );
}

#[test]
fn version_3_is_told_less() {
    // 3.1.1, 3.2.2.3 and 3.9.3-2
    let connack = |reason| {
        let connack = Connack {
            session_present: false,
            reason,
            properties: ConnackProperties::default(),
        };
        encoded(&Packet::Connack(Box::new(connack)), Version::V3_1_1)[3]
    };
    assert_eq!(connack(ReasonCode::UnsupportedProtocolVersion), 1);
    assert_eq!(connack(ReasonCode::ClientIdentifierNotValid), 2);
    assert_eq!(connack(ReasonCode::ServerBusy), 3);
    assert_eq!(connack(ReasonCode::BadUserNameOrPassword), 4);
    assert_eq!(connack(ReasonCode::NotAuthorized), 5);
    let suback = Packet::Suback(Suback {
        packet_id: PacketId::MIN,
        properties: AckProperties::default(),
        reasons: vec![ReasonCode::GrantedQos1, ReasonCode::TopicFilterInvalid],
    });
    assert_eq!(encoded(&suback, Version::V3_1_1)[4..], [1, 0x80]);
}

#[test]
fn every_reason_code_reads_as_itself() {
    for code in 0..=u8::MAX {
        let reason = ReasonCode::from_u8(code);
        assert!(reason.is_none_or(|reason| reason as u8 == code));
    }
    assert_eq!(ReasonCode::ALL.len(), 43);
}

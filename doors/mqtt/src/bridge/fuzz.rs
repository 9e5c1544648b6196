//! What a fuzzer feeds to a bridge.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is what it finds faults by"
)]

use std::sync::Arc;

use bytes::BytesMut;

use super::relay::{Outs, Refusals, Relay, Terms};
use super::{BridgeTopic, Meters, Side};
use crate::codec::{DecodeLimits, Decoder, Packet, Qos, Version};

const LIMITS: DecodeLimits = DecodeLimits {
    packet_bytes_max: u32::MAX,
    filters_max: 100,
};

/// Hands a bridge the packets of both sides: the first byte says what the other broker takes, and each further one whose
/// packets the next 0 to 127 bytes are.
///
/// # Panics
/// If a side is sent what it could not read, or does not take.
pub fn relay(bytes: &[u8]) {
    let Some((first, mut rest)) = bytes.split_first() else {
        return;
    };
    let (local, remote) = (terms(0), terms(*first));
    let topic = |filter: &str, local: &str, remote: &str| {
        let topic = BridgeTopic {
            filter: filter.to_owned(),
            local_prefix: local.to_owned(),
            remote_prefix: remote.to_owned(),
            ..BridgeTopic::default()
        };
        topic.route(&sapwood_tree::Limits::default()).unwrap()
    };
    let routes = [
        topic("a/#", "", "b/"),
        topic("", "a", "c/d"),
        topic("#", "", ""),
    ];
    let mut refusals = Refusals::default();
    let meters = Arc::new(Meters::new("fuzz"));
    let mut relay = Relay::new(&routes, local, remote, &mut refusals, meters);
    let mut sides = [Side::Local, Side::Remote].map(|side| {
        let version = if side == Side::Local {
            local.version
        } else {
            remote.version
        };
        (Decoder::with_version(version, LIMITS), BytesMut::new())
    });
    let (mut to_local, mut to_remote) = (BytesMut::new(), BytesMut::new());
    while let Some((head, behind)) = rest.split_first() {
        let (piece, behind) = behind.split_at(usize::from(head & 0x7F).min(behind.len()));
        rest = behind;
        let from = if head & 0x80 == 0 {
            Side::Local
        } else {
            Side::Remote
        };
        let [of_local, of_remote] = &mut sides;
        let (decoder, inbound) = if from == Side::Local {
            of_local
        } else {
            of_remote
        };
        inbound.extend_from_slice(piece);
        loop {
            let Ok(packet) = decoder.decode(inbound) else {
                return;
            };
            let Some(packet) = packet else {
                break;
            };
            let mut outs = Outs {
                local: &mut to_local,
                remote: &mut to_remote,
            };
            if relay
                .packet(from, packet, head & 1 == 0, &mut outs)
                .is_err()
            {
                return;
            }
            check(local, &mut to_local);
            check(remote, &mut to_remote);
        }
    }
}

fn terms(byte: u8) -> Terms {
    Terms {
        version: if byte & 1 == 0 {
            Version::V5
        } else {
            Version::V3_1_1
        },
        qos_max: match (byte >> 1) & 3 {
            1 => Qos::AtLeastOnce,
            2 => Qos::AtMostOnce,
            _ => Qos::ExactlyOnce,
        },
        retains: byte & 8 == 0,
        packet_bytes_max: if byte & 16 == 0 { usize::MAX } else { 40 },
    }
}

/// That a side can read what it is sent, and takes it.
fn check(terms: Terms, sent: &mut BytesMut) {
    let mut decoder = Decoder::with_version(terms.version, LIMITS);
    loop {
        let before = sent.len();
        match decoder.decode(sent) {
            Ok(Some(Packet::Publish(publish))) => {
                assert!(publish.qos <= terms.qos_max && (terms.retains || !publish.retain));
                assert!(before - sent.len() <= terms.packet_bytes_max);
            }
            Ok(Some(_)) => {}
            Ok(None) => {
                assert!(sent.is_empty());
                return;
            }
            Err(fault) => panic!("a side is sent what is no packet: {fault}"),
        }
    }
}

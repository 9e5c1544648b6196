//! Any packet that a version can say.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use proptest::prelude::*;

use crate::codec::*;

pub(super) fn any_version() -> impl Strategy<Value = Version> {
    prop::sample::select(vec![Version::V3_1, Version::V3_1_1, Version::V5])
}

pub(super) fn qos() -> impl Strategy<Value = Qos> {
    prop::sample::select(vec![Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce])
}

fn text() -> impl Strategy<Value = Text> {
    "[a-zé€/ $\u{feff}]{0,12}".prop_map(|text| Text::new(&text).unwrap())
}

fn binary(max: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn some<S: Strategy>(value: S) -> impl Strategy<Value = Option<S::Value>>
where
    S::Value: Clone,
{
    prop::option::weighted(0.3, value)
}

fn user() -> impl Strategy<Value = UserProperties> {
    prop::collection::vec((text(), text()), 0..3).prop_map(|pairs| {
        let mut properties = UserProperties::default();
        for (name, value) in &pairs {
            properties.push(name, value);
        }
        properties
    })
}

fn id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|id| PacketId::new(id).unwrap())
}

fn subscription_id() -> impl Strategy<Value = SubscriptionId> {
    (1..=VARINT_MAX).prop_map(|id| SubscriptionId::new(id).unwrap())
}

/// Properties, or none for a version that has none.
fn only_5<T: Default + Clone + std::fmt::Debug>(
    version: Version,
    properties: impl Strategy<Value = T>,
) -> impl Strategy<Value = T> {
    properties.prop_map(move |properties| {
        if version.is_5() {
            properties
        } else {
            T::default()
        }
    })
}

fn message_properties() -> impl Strategy<Value = MessageProperties> {
    let fields = (
        some(any::<u32>()),
        some(any::<bool>()),
        some(text()),
        some(text()),
        some(binary(9)),
        user(),
    );
    fields.prop_map(
        |(expiry, is_text, content, response, correlation, user)| MessageProperties {
            message_expiry_s: expiry,
            payload_is_text: is_text,
            content_type: content,
            response_topic: response,
            correlation_data: correlation,
            user_properties: user,
        },
    )
}

pub(super) fn message(version: Version) -> impl Strategy<Value = Message> {
    let topic = "[a-z$é/]{1,12}".prop_map(|text| Text::new(&text).unwrap());
    let properties = only_5(version, message_properties());
    (topic, properties, binary(200)).prop_map(|(topic, properties, payload)| Message {
        topic,
        properties,
        payload,
    })
}

fn will(version: Version) -> impl Strategy<Value = Will> {
    let delay = only_5(version, any::<u32>());
    (qos(), any::<bool>(), delay, message(version)).prop_map(|(qos, retain, delay_s, message)| {
        Will {
            qos,
            retain,
            delay_s,
            message,
        }
    })
}

fn connect_properties() -> impl Strategy<Value = ConnectProperties> {
    let fields = (
        some(any::<u32>()),
        some(any::<NonZeroU16>()),
        some(any::<NonZeroU32>()),
        some(any::<u16>()),
        some(any::<bool>()),
        some(any::<bool>()),
        user(),
        some((text(), some(binary(9)))),
    );
    fields.prop_map(
        |(expiry, receive, bytes, alias, response, problem, user, auth)| {
            let (method, data) = auth.map_or((None, None), |(method, data)| (Some(method), data));
            ConnectProperties {
                session_expiry_s: expiry,
                receive_maximum: receive,
                packet_bytes_max: bytes,
                topic_alias_maximum: alias,
                request_response_information: response,
                request_problem_information: problem,
                user_properties: user,
                authentication_method: method,
                authentication_data: data,
            }
        },
    )
}

fn connect(version: Version) -> impl Strategy<Value = Packet> {
    let login = (some(text()), some(binary(9)));
    let fields = (
        any::<bool>(),
        any::<bool>(),
        any::<u16>(),
        text(),
        some(will(version)),
        login,
        only_5(version, connect_properties()),
    );
    fields.prop_map(
        move |(
            bridge,
            clean_start,
            keep_alive_s,
            client_id,
            will,
            (user_name, password),
            properties,
        )| {
            Packet::Connect(Box::new(Connect {
                version,
                bridge: bridge && !version.is_5(),
                clean_start,
                keep_alive_s,
                client_id,
                will,
                password: password.filter(|_| version.is_5() || user_name.is_some()),
                user_name,
                properties,
            }))
        },
    )
}

fn connack(version: Version) -> impl Strategy<Value = Packet> {
    let limits = (
        some(any::<u32>()),
        some(any::<NonZeroU16>()),
        some(any::<NonZeroU32>()),
        some(any::<u16>()),
        some(any::<u16>()),
    );
    let flags = (
        some(any::<bool>()),
        some(any::<bool>()),
        some(any::<bool>()),
        some(any::<bool>()),
    );
    let texts = (
        some(text()),
        some(text()),
        some(text()),
        some(text()),
        user(),
    );
    let auth = (some(text()), some(binary(9)));
    let max = some(prop::sample::select(vec![
        Qos::AtMostOnce,
        Qos::AtLeastOnce,
    ]));
    let properties =
        (limits, flags, texts, auth, max).prop_map(|(limits, flags, texts, auth, maximum_qos)| {
            ConnackProperties {
                session_expiry_s: limits.0,
                receive_maximum: limits.1,
                maximum_qos,
                retain_available: flags.0,
                packet_bytes_max: limits.2,
                assigned_client_id: texts.0,
                topic_alias_maximum: limits.3,
                reason_string: texts.1,
                user_properties: texts.4,
                wildcard_subscriptions: flags.1,
                subscription_identifiers: flags.2,
                shared_subscriptions: flags.3,
                server_keep_alive_s: limits.4,
                response_information: texts.2,
                server_reference: texts.3,
                authentication_method: auth.0,
                authentication_data: auth.1,
            }
        });
    let reason = if version.is_5() {
        reason(ReasonCode::OF_CONNACK).boxed()
    } else {
        (0..=5u8)
            .prop_map(|code| ReasonCode::from_return_code(code).unwrap())
            .boxed()
    };
    (any::<bool>(), reason, only_5(version, properties)).prop_map(
        |(session_present, reason, properties)| {
            Packet::Connack(Box::new(Connack {
                session_present,
                reason,
                properties,
            }))
        },
    )
}

fn reason(of: &'static [ReasonCode]) -> impl Strategy<Value = ReasonCode> {
    prop::sample::select(of)
}

fn ack_properties(version: Version) -> impl Strategy<Value = AckProperties> {
    let properties =
        (some(text()), user()).prop_map(|(reason_string, user_properties)| AckProperties {
            reason_string,
            user_properties,
        });
    only_5(version, properties)
}

fn publish(version: Version) -> impl Strategy<Value = Packet> {
    let hop = (
        some(1..=u16::MAX),
        prop::collection::vec(subscription_id(), 0..3),
    );
    let fields = (
        any::<bool>(),
        qos(),
        any::<bool>(),
        id(),
        hop,
        any::<bool>(),
        message(version),
    );
    fields.prop_map(move |(dup, qos, retain, id, hop, known, mut message)| {
        let (topic_alias, subscription_ids) = if version.is_5() {
            hop
        } else {
            Default::default()
        };
        if known && topic_alias.is_some() {
            message.topic = Text::default();
        }
        Packet::Publish(Publish {
            dup: dup && qos.is_acknowledged(),
            qos,
            retain,
            packet_id: qos.is_acknowledged().then_some(id),
            topic_alias,
            subscription_ids,
            message,
        })
    })
}

fn ack(version: Version, reasons: &'static [ReasonCode]) -> impl Strategy<Value = Ack> {
    let reason = prop::sample::select(reasons);
    (id(), reason, ack_properties(version)).prop_map(move |(packet_id, reason, properties)| Ack {
        packet_id,
        reason: if version.is_5() {
            reason
        } else {
            ReasonCode::Success
        },
        properties,
    })
}

fn subscribe(version: Version) -> impl Strategy<Value = Packet> {
    let handling = prop::sample::select(vec![
        RetainHandling::Send,
        RetainHandling::SendIfNew,
        RetainHandling::DoNotSend,
    ]);
    let options = only_5(version, (any::<bool>(), any::<bool>(), handling));
    let filter = (text(), qos(), options).prop_map(|(filter, qos, options)| SubscribeFilter {
        filter,
        qos,
        no_local: options.0,
        retain_as_published: options.1,
        retain_handling: options.2,
    });
    let properties = (some(subscription_id()), user()).prop_map(|(id, user)| SubscribeProperties {
        subscription_id: id,
        user_properties: user,
    });
    let filters = prop::collection::vec(filter, 1..4);
    (id(), only_5(version, properties), filters).prop_map(|(packet_id, properties, filters)| {
        Packet::Subscribe(Subscribe {
            packet_id,
            properties,
            filters,
        })
    })
}

fn suback(version: Version) -> impl Strategy<Value = Packet> {
    let all = if version.is_5() {
        ReasonCode::OF_SUBACK
    } else {
        &[ReasonCode::GrantedQos1, ReasonCode::UnspecifiedError]
    };
    let reasons = prop::collection::vec(prop::sample::select(all), 0..4);
    (id(), ack_properties(version), reasons).prop_map(|(packet_id, properties, reasons)| {
        Packet::Suback(Suback {
            packet_id,
            properties,
            reasons,
        })
    })
}

fn unsubscribe(version: Version) -> impl Strategy<Value = Packet> {
    let properties = user().prop_map(|user_properties| UnsubscribeProperties { user_properties });
    let filters = prop::collection::vec(text(), 1..4);
    (id(), only_5(version, properties), filters).prop_map(|(packet_id, properties, filters)| {
        Packet::Unsubscribe(Unsubscribe {
            packet_id,
            properties,
            filters,
        })
    })
}

fn unsuback(version: Version) -> impl Strategy<Value = Packet> {
    let reasons = only_5(
        version,
        prop::collection::vec(reason(ReasonCode::OF_UNSUBACK), 0..4),
    );
    (id(), ack_properties(version), reasons).prop_map(|(packet_id, properties, reasons)| {
        Packet::Unsuback(Unsuback {
            packet_id,
            properties,
            reasons,
        })
    })
}

fn disconnect(version: Version) -> impl Strategy<Value = Packet> {
    let properties = (some(any::<u32>()), some(text()), user(), some(text())).prop_map(
        |(session_expiry_s, reason_string, user_properties, server_reference)| {
            DisconnectProperties {
                session_expiry_s,
                reason_string,
                user_properties,
                server_reference,
            }
        },
    );
    let reasons = reason(ReasonCode::OF_DISCONNECT);
    (reasons, only_5(version, properties)).prop_map(move |(reason, properties)| {
        Packet::Disconnect(Disconnect {
            reason: if version.is_5() {
                reason
            } else {
                ReasonCode::Success
            },
            properties,
        })
    })
}

fn auth() -> impl Strategy<Value = Packet> {
    let reasons = vec![
        ReasonCode::Success,
        ReasonCode::ContinueAuthentication,
        ReasonCode::ReAuthenticate,
    ];
    let fields = (some(text()), some(binary(9)), some(text()), user());
    (prop::sample::select(reasons), fields).prop_map(|(reason, fields)| {
        Packet::Auth(Auth {
            reason,
            properties: AuthProperties {
                authentication_method: fields.0,
                authentication_data: fields.1,
                reason_string: fields.2,
                user_properties: fields.3,
            },
        })
    })
}

pub(crate) fn any_packet(version: Version) -> BoxedStrategy<Packet> {
    const ACK: &[ReasonCode] = &[
        ReasonCode::Success,
        ReasonCode::NoMatchingSubscribers,
        ReasonCode::QuotaExceeded,
    ];
    const RELEASE: &[ReasonCode] = &[ReasonCode::Success, ReasonCode::PacketIdentifierNotFound];
    let all = prop_oneof![
        connect(version),
        connack(version),
        publish(version),
        publish(version),
        ack(version, ACK).prop_map(Packet::Puback),
        ack(version, ACK).prop_map(Packet::Pubrec),
        ack(version, RELEASE).prop_map(Packet::Pubrel),
        ack(version, RELEASE).prop_map(Packet::Pubcomp),
        subscribe(version),
        suback(version),
        unsubscribe(version),
        unsuback(version),
        prop_oneof![Just(Packet::Pingreq), Just(Packet::Pingresp)],
        disconnect(version),
    ];
    if version.is_5() {
        prop_oneof![14 => all, 1 => auth()].boxed()
    } else {
        all.boxed()
    }
}

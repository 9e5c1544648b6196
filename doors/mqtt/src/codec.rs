//! Bytes ⇄ packets, for every version that the door speaks: the version is a field, not a second codec.

mod connect;
mod decode;
mod encode;
mod fault;
mod packet;
mod property;
mod read;
mod reason;
mod template;
mod text;

#[cfg(test)]
pub(crate) mod tests;

pub use decode::{DecodeLimits, Decoder};
pub use encode::{PacketTooLarge, encode, encoded_len};
pub use fault::Fault;
pub use packet::{
    Ack, Auth, Connack, Connect, Disconnect, Message, Packet, PacketId, Publish, RetainHandling,
    Suback, Subscribe, SubscribeFilter, Unsuback, Unsubscribe, Will,
};
pub use property::{
    AckProperties, AuthProperties, ConnackProperties, ConnectProperties, DisconnectProperties,
    MessageProperties, SubscribeProperties, SubscriptionId, UnsubscribeProperties, UserProperties,
};
pub use reason::ReasonCode;
pub use template::{Alias, Head, Template};
pub use text::{Text, TextError};

/// The largest number that four bytes of variable length can say (1.5.5).
pub const VARINT_MAX: u32 = 268_435_455;

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// 3.1, level 3, with the name `MQIsdp`.
    V3_1,
    /// 3.1.1, level 4.
    V3_1_1,
    /// 5.0, level 5.
    V5,
}

impl Version {
    /// Whether packets have properties and reason codes.
    pub fn is_5(self) -> bool {
        self == Self::V5
    }
}

/// How hard delivery tries (4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Qos {
    /// QoS 0.
    #[default]
    AtMostOnce = 0,
    /// QoS 1.
    AtLeastOnce = 1,
    /// QoS 2.
    ExactlyOnce = 2,
}

impl Qos {
    /// The QoS of that number, if there is one.
    pub fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// Whether packets of it are answered, and so carry a packet id.
    pub fn is_acknowledged(self) -> bool {
        self != Self::AtMostOnce
    }
}

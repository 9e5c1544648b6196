//! Properties of 5.0 (2.2.2): a struct for each packet that has some, read and written by one macro.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{BufMut as _, Bytes, BytesMut};

use super::encode::{put_binary, put_varint, varint_len};
use super::read::Reader;
use super::{Fault, Qos, Text, VARINT_MAX};

/// A property's value.
trait Value: Sized {
    fn read(list: &mut Reader) -> Result<Self, Fault>;
    fn write(&self, out: &mut BytesMut);
    fn len(&self) -> usize;
}

/// A property, or several of one kind, as a field of a struct.
trait Field {
    /// Reads one that the front of the list is.
    fn take(&mut self, list: &mut Reader) -> Result<(), Fault>;
    fn put(&self, id: u8, out: &mut BytesMut);
    fn size(&self) -> usize;
}

impl<V: Value> Field for Option<V> {
    fn take(&mut self, list: &mut Reader) -> Result<(), Fault> {
        list.u8()?;
        let value = V::read(list)?;
        match self.replace(value) {
            None => Ok(()),
            Some(_) => Err(Fault::protocol(
                "2.2.2.2",
                "a property that stands there twice",
            )),
        }
    }

    fn put(&self, id: u8, out: &mut BytesMut) {
        if let Some(value) = self {
            out.put_u8(id);
            value.write(out);
        }
    }

    fn size(&self) -> usize {
        self.as_ref().map_or(0, |value| 1 + value.len())
    }
}

impl Field for Vec<SubscriptionId> {
    fn take(&mut self, list: &mut Reader) -> Result<(), Fault> {
        list.u8()?;
        self.push(SubscriptionId::read(list)?);
        Ok(())
    }

    fn put(&self, id: u8, out: &mut BytesMut) {
        for value in self {
            out.put_u8(id);
            value.write(out);
        }
    }

    fn size(&self) -> usize {
        self.iter().map(|value| 1 + value.len()).sum()
    }
}

impl Value for bool {
    fn read(list: &mut Reader) -> Result<Self, Fault> {
        match list.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Fault::protocol(
                "2.2.2.2",
                "a property that is neither 0 nor 1",
            )),
        }
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(*self));
    }

    fn len(&self) -> usize {
        1
    }
}

impl Value for Qos {
    fn read(list: &mut Reader) -> Result<Self, Fault> {
        match list.u8()? {
            0 => Ok(Self::AtMostOnce),
            1 => Ok(Self::AtLeastOnce),
            _ => Err(Fault::protocol(
                "3.2.2.3.4",
                "a maximum QoS that is neither 0 nor 1",
            )),
        }
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_u8(*self as u8);
    }

    fn len(&self) -> usize {
        1
    }
}

macro_rules! number {
    ($type:ty, $read:ident, $put:ident) => {
        impl Value for $type {
            fn read(list: &mut Reader) -> Result<Self, Fault> {
                list.$read()
            }

            fn write(&self, out: &mut BytesMut) {
                out.$put(*self);
            }

            fn len(&self) -> usize {
                size_of::<Self>()
            }
        }
    };
}

number!(u16, u16, put_u16);
number!(u32, u32, put_u32);

macro_rules! not_zero {
    ($type:ty, $read:ident, $put:ident) => {
        impl Value for $type {
            fn read(list: &mut Reader) -> Result<Self, Fault> {
                Self::new(list.$read()?).ok_or(Fault::protocol(
                    "2.2.2.2",
                    "a property that may not be zero",
                ))
            }

            fn write(&self, out: &mut BytesMut) {
                out.$put(self.get());
            }

            fn len(&self) -> usize {
                size_of::<Self>()
            }
        }
    };
}

not_zero!(NonZeroU16, u16, put_u16);
not_zero!(NonZeroU32, u32, put_u32);

impl Value for Text {
    fn read(list: &mut Reader) -> Result<Self, Fault> {
        list.text()
    }

    fn write(&self, out: &mut BytesMut) {
        put_binary(self.as_bytes(), out);
    }

    fn len(&self) -> usize {
        2 + Self::len(self)
    }
}

impl Value for Bytes {
    fn read(list: &mut Reader) -> Result<Self, Fault> {
        list.binary()
    }

    fn write(&self, out: &mut BytesMut) {
        put_binary(self, out);
    }

    fn len(&self) -> usize {
        2 + Self::len(self)
    }
}

/// A subscription's identifier (3.8.2.1.2): 1 to 268,435,455.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(NonZeroU32);

impl SubscriptionId {
    /// The identifier of that number, if it may be one.
    pub fn new(number: u32) -> Option<Self> {
        let number = NonZeroU32::new(number)?;
        (number.get() <= VARINT_MAX).then_some(Self(number))
    }

    /// Its number.
    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// Its bytes as a property, the property's own id included.
    pub(super) fn put(self, out: &mut BytesMut) {
        out.put_u8(SUBSCRIPTION_ID);
        self.write(out);
    }

    pub(super) fn property_len(self) -> usize {
        1 + varint_len(self.get())
    }
}

const SUBSCRIPTION_ID: u8 = 0x0B;

impl Value for SubscriptionId {
    fn read(list: &mut Reader) -> Result<Self, Fault> {
        Self::new(list.varint()?).ok_or(Fault::protocol(
            "3.8.2.1.2",
            "a subscription identifier of zero",
        ))
    }

    fn write(&self, out: &mut BytesMut) {
        put_varint(self.get(), out);
    }

    fn len(&self) -> usize {
        varint_len(self.get())
    }
}

const USER_PROPERTY: u8 = 0x26;

/// User properties in their order (3.1.2.11.8), kept as they go over the wire: to pass them on costs a copy of their
/// bytes, and many small ones take no more memory than they came in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserProperties(Bytes);

impl UserProperties {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values, in order. A name may come more than once.
    pub fn iter(&self) -> impl Iterator<Item = (Text, Text)> + use<> {
        let mut list = Reader::new(self.0.clone());
        std::iter::from_fn(move || {
            list.u8().ok()?;
            Some((list.text().ok()?, list.text().ok()?))
        })
    }

    /// The first value of a name.
    pub fn find(&self, name: &str) -> Option<Text> {
        self.iter()
            .find(|(other, _)| other.as_str() == name)
            .map(|(_, value)| value)
    }

    /// Adds one behind the others.
    pub fn push(&mut self, name: &Text, value: &Text) {
        let mut one = BytesMut::with_capacity(5 + name.len() + value.len());
        one.put_u8(USER_PROPERTY);
        put_binary(name.as_bytes(), &mut one);
        put_binary(value.as_bytes(), &mut one);
        self.append(one.freeze());
    }

    fn append(&mut self, more: Bytes) {
        if self.0.is_empty() {
            self.0 = more;
            return;
        }
        // Memory that nobody shares grows in place, so that many small appends stay cheap.
        let mut all = match std::mem::take(&mut self.0).try_into_mut() {
            Ok(own) => own,
            Err(shared) => BytesMut::from(&*shared),
        };
        all.extend_from_slice(&more);
        self.0 = all.freeze();
    }
}

impl Field for UserProperties {
    fn take(&mut self, list: &mut Reader) -> Result<(), Fault> {
        let start = list.peek_rest();
        while list.peek() == Some(USER_PROPERTY) {
            list.u8()?;
            list.text()?;
            list.text()?;
        }
        let taken = start.len() - list.len();
        self.append(start.slice(..taken));
        Ok(())
    }

    fn put(&self, _id: u8, out: &mut BytesMut) {
        out.extend_from_slice(&self.0);
    }

    fn size(&self) -> usize {
        self.0.len()
    }
}

macro_rules! properties {
    ($($(#[$doc:meta])* $vis:vis struct $name:ident {
        $($(#[$field_doc:meta])* $field:ident: $type:ty = $id:literal,)*
    })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        $vis struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        #[allow(dead_code, reason = "some structs are written by parts only")]
        impl $name {
            /// Reads the list that stands at the front, with its length.
            pub(super) fn read(body: &mut Reader) -> Result<Self, Fault> {
                let mut list = body.properties()?;
                let mut properties = Self::default();
                while let Some(id) = list.peek() {
                    match id {
                        $($id => Field::take(&mut properties.$field, &mut list)?,)*
                        _ => return Err(UNKNOWN),
                    }
                }
                Ok(properties)
            }

            /// How many bytes the list takes, without its length.
            pub(super) fn size(&self) -> usize {
                0 $(+ Field::size(&self.$field))*
            }

            /// Writes the list without its length.
            pub(super) fn put_list(&self, out: &mut BytesMut) {
                $(Field::put(&self.$field, $id, out);)*
            }

            /// Writes the list with its length.
            pub(super) fn put(&self, out: &mut BytesMut) {
                put_varint(u32::try_from(self.size()).unwrap_or(u32::MAX), out);
                self.put_list(out);
            }
        }
    )*};
}

const UNKNOWN: Fault = Fault::malformed("2.2.2.2", "a property that its packet can't have");

properties! {
    /// What a client tells with CONNECT (3.1.2.11).
    pub struct ConnectProperties {
        /// How long the session lives on without a connection, in seconds; `u32::MAX` is for ever.
        session_expiry_s: Option<u32> = 0x11,
        /// How many unacknowledged messages the client takes at once.
        receive_maximum: Option<NonZeroU16> = 0x21,
        /// The largest packet that the client takes, in bytes.
        packet_bytes_max: Option<NonZeroU32> = 0x27,
        /// The highest topic alias that the client takes.
        topic_alias_maximum: Option<u16> = 0x22,
        /// Whether the client wants response information.
        request_response_information: Option<bool> = 0x19,
        /// Whether the client wants reasons on other packets than CONNACK and DISCONNECT.
        request_problem_information: Option<bool> = 0x17,
        /// User properties.
        user_properties: UserProperties = 0x26,
        /// The method of extended authentication.
        authentication_method: Option<Text> = 0x15,
        /// Its first data.
        authentication_data: Option<Bytes> = 0x16,
    }

    /// What the server tells with CONNACK (3.2.2.3).
    pub struct ConnackProperties {
        /// How long the session lives on, where it is not what the client asked for.
        session_expiry_s: Option<u32> = 0x11,
        /// How many unacknowledged messages the server takes at once.
        receive_maximum: Option<NonZeroU16> = 0x21,
        /// The highest QoS that the server serves, if that is not 2.
        maximum_qos: Option<Qos> = 0x24,
        /// Whether messages can be retained.
        retain_available: Option<bool> = 0x25,
        /// The largest packet that the server takes, in bytes.
        packet_bytes_max: Option<NonZeroU32> = 0x27,
        /// The client id that the server has given.
        assigned_client_id: Option<Text> = 0x12,
        /// The highest topic alias that the server takes.
        topic_alias_maximum: Option<u16> = 0x22,
        /// A reason for people.
        reason_string: Option<Text> = 0x1F,
        /// User properties.
        user_properties: UserProperties = 0x26,
        /// Whether filters may have wildcards.
        wildcard_subscriptions: Option<bool> = 0x28,
        /// Whether subscriptions may have identifiers.
        subscription_identifiers: Option<bool> = 0x29,
        /// Whether subscriptions can be shared.
        shared_subscriptions: Option<bool> = 0x2A,
        /// The keep-alive that holds instead of the client's, in seconds.
        server_keep_alive_s: Option<u16> = 0x13,
        /// Where the client may make its response topics.
        response_information: Option<Text> = 0x1A,
        /// Another server.
        server_reference: Option<Text> = 0x1C,
        /// The method of extended authentication.
        authentication_method: Option<Text> = 0x15,
        /// Its last data.
        authentication_data: Option<Bytes> = 0x16,
    }

    /// All that a PUBLISH can have (3.3.2.3).
    pub(super) struct PublishProperties {
        message_expiry_s: Option<u32> = 0x02,
        payload_is_text: Option<bool> = 0x01,
        content_type: Option<Text> = 0x03,
        response_topic: Option<Text> = 0x08,
        correlation_data: Option<Bytes> = 0x09,
        user_properties: UserProperties = 0x26,
        topic_alias: Option<u16> = 0x23,
        subscription_ids: Vec<SubscriptionId> = 0x0B,
    }

    /// All that a will can have (3.1.3.2).
    pub(super) struct WillProperties {
        will_delay_s: Option<u32> = 0x18,
        message_expiry_s: Option<u32> = 0x02,
        payload_is_text: Option<bool> = 0x01,
        content_type: Option<Text> = 0x03,
        response_topic: Option<Text> = 0x08,
        correlation_data: Option<Bytes> = 0x09,
        user_properties: UserProperties = 0x26,
    }

    /// What goes with a message from end to end (3.3.2.3).
    pub struct MessageProperties {
        /// How long the message may wait, in seconds.
        message_expiry_s: Option<u32> = 0x02,
        /// Whether the payload is UTF-8 text: the payload format indicator. Not told, and told to be no text, differ.
        payload_is_text: Option<bool> = 0x01,
        /// The payload's media type.
        content_type: Option<Text> = 0x03,
        /// Where an answer is expected.
        response_topic: Option<Text> = 0x08,
        /// What an answer is to bring along.
        correlation_data: Option<Bytes> = 0x09,
        /// User properties.
        user_properties: UserProperties = 0x26,
    }

    /// What goes with PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK (3.4.2.2).
    pub struct AckProperties {
        /// A reason for people.
        reason_string: Option<Text> = 0x1F,
        /// User properties.
        user_properties: UserProperties = 0x26,
    }

    /// What goes with SUBSCRIBE (3.8.2.1).
    pub struct SubscribeProperties {
        /// The identifier that what comes by these subscriptions is to bear.
        subscription_id: Option<SubscriptionId> = 0x0B,
        /// User properties.
        user_properties: UserProperties = 0x26,
    }

    /// What goes with UNSUBSCRIBE (3.10.2.1).
    pub struct UnsubscribeProperties {
        /// User properties.
        user_properties: UserProperties = 0x26,
    }

    /// What goes with DISCONNECT (3.14.2.2).
    pub struct DisconnectProperties {
        /// How long the session lives on, in seconds; only a client says so.
        session_expiry_s: Option<u32> = 0x11,
        /// A reason for people.
        reason_string: Option<Text> = 0x1F,
        /// User properties.
        user_properties: UserProperties = 0x26,
        /// Another server.
        server_reference: Option<Text> = 0x1C,
    }

    /// What goes with AUTH (3.15.2.2).
    pub struct AuthProperties {
        /// The method of extended authentication.
        authentication_method: Option<Text> = 0x15,
        /// Its data.
        authentication_data: Option<Bytes> = 0x16,
        /// A reason for people.
        reason_string: Option<Text> = 0x1F,
        /// User properties.
        user_properties: UserProperties = 0x26,
    }
}

impl PublishProperties {
    pub(super) fn into_message(self) -> (MessageProperties, Option<u16>, Vec<SubscriptionId>) {
        let message = MessageProperties {
            message_expiry_s: self.message_expiry_s,
            payload_is_text: self.payload_is_text,
            content_type: self.content_type,
            response_topic: self.response_topic,
            correlation_data: self.correlation_data,
            user_properties: self.user_properties,
        };
        (message, self.topic_alias, self.subscription_ids)
    }
}

impl WillProperties {
    pub(super) fn into_message(self) -> (MessageProperties, u32) {
        let message = MessageProperties {
            message_expiry_s: self.message_expiry_s,
            payload_is_text: self.payload_is_text,
            content_type: self.content_type,
            response_topic: self.response_topic,
            correlation_data: self.correlation_data,
            user_properties: self.user_properties,
        };
        (message, self.will_delay_s.unwrap_or(0))
    }
}

impl AckProperties {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        let Self {
            reason_string,
            user_properties,
        } = self;
        reason_string.is_none() && user_properties.is_empty()
    }
}

impl DisconnectProperties {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.size() == 0
    }
}

//! What a machine wants done.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sapwood_tree::Path;

use super::{Accept, Delivery, Published};
use crate::codec::{
    Alias, Connect, Head, Message, Packet, PacketId, Qos, RetainHandling, SubscriptionId, Text,
    UserProperties, Version,
};
use crate::topic::Filter;

/// Names something that was asked for, in the answer to it. A connection uses each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub(super) u64);

/// What the door is to do, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Judge a CONNECT; answered by [`accepted`](super::Machine::accepted) or [`refused`](super::Machine::refused).
    Connect(Box<Connecting>),
    /// Do what was published; answered by [`written`](super::Machine::written), also at QoS 0.
    Publish(Box<Publication>),
    /// Answered by [`subscribed`](super::Machine::subscribed).
    Subscribe(Box<Subscribing>),
    /// Answered by [`unsubscribed`](super::Machine::unsubscribed).
    Unsubscribe(Box<Unsubscribing>),
    /// Write a packet to the client, in [the machine's version](super::Machine::version).
    Send(Packet),
    /// Write a message to the client.
    Deliver(Deliver),
    /// Remember something about a durable session. With a tag, answered by [`kept`](super::Machine::kept) once it
    /// would survive a crash; without one it may be remembered late, and together with others. Changes, and
    /// [`Publication::remember`], are kept in the order in which they come, or lost from the end.
    Keep {
        /// What the answer bears.
        tag: Option<Tag>,
        /// What to remember.
        change: Change,
    },
    /// Close the socket, behind all that was sent.
    Close,
}

/// A client that wants to be let in.
#[derive(Debug, Clone, PartialEq)]
pub struct Connecting {
    /// What it said. An empty client id is to be replaced (3.1.3-6).
    pub connect: Connect,
    /// Where its will goes.
    pub will_path: Option<Path>,
    /// How long its session is to live on without a connection, in seconds, as far as the settings allow; 0 is not at
    /// all.
    pub session_expiry_s: u32,
    /// In which format it wants data where a subscription does not say.
    pub accept: Accept,
}

/// A message that a client published.
#[derive(Debug, Clone, PartialEq)]
pub struct Publication {
    /// What the outcome bears.
    pub tag: Tag,
    /// Where.
    pub path: Path,
    /// What, with the topic in place of an alias.
    pub message: Message,
    /// How hard to try.
    pub qos: Qos,
    /// Whether it is a record: a put, or a delete if the payload is empty.
    pub retain: bool,
    /// A packet id to remember in the same commit ([`Session::unreleased`](super::Session)): durable session, QoS 2.
    pub remember: Option<PacketId>,
}

/// Subscriptions that a client wants.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscribing {
    /// What the outcome bears.
    pub tag: Tag,
    /// What goes with all that comes by them.
    pub subscription_id: Option<SubscriptionId>,
    /// As sent.
    pub user_properties: UserProperties,
    /// In order; those that the protocol refuses are not among them.
    pub subscriptions: Vec<Subscription>,
}

/// One subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The filter as sent: by this text it is replaced and removed (3.8.4-3, 3.10.4-1).
    pub text: Text,
    /// The filter as read.
    pub filter: Filter,
    /// The highest QoS to deliver at.
    pub qos: Qos,
    /// Not what this client has published itself.
    pub no_local: bool,
    /// Whether RETAIN goes out as it came in.
    pub retain_as_published: bool,
    /// Whether the first state is sent.
    pub retain_handling: RetainHandling,
    /// In which format data is to come.
    pub accept: Accept,
    /// Which records and messages are to come, as sent (user property `query`); none for all.
    pub query: Option<Text>,
}

/// Subscriptions that a client wants no longer.
#[derive(Debug, Clone, PartialEq)]
pub struct Unsubscribing {
    /// What the outcome bears.
    pub tag: Tag,
    /// As sent.
    pub user_properties: UserProperties,
    /// In order, each as sent and as read.
    pub filters: Vec<(Text, Filter)>,
}

/// What a durable session is to remember of the messages toward its client, or from it.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A message of the client has been released: its packet id means nothing any more.
    Forget(PacketId),
    /// A message goes out under this packet id.
    Assign {
        /// The id.
        packet_id: PacketId,
        /// The message.
        delivery: Delivery,
    },
    /// The client has it, and is to be told to release it.
    Received {
        /// The id.
        packet_id: PacketId,
        /// [`Delivery::reference`](super::Delivery).
        reference: u64,
    },
    /// The client is done with it.
    Settle {
        /// The id, which is free again.
        packet_id: PacketId,
        /// [`Delivery::reference`](super::Delivery).
        reference: u64,
    },
    /// A message of QoS 1 or 2 that never got a packet id is done with: it has expired, or the client can't take it.
    Skip {
        /// [`Delivery::reference`](super::Delivery).
        reference: u64,
    },
}

/// Identifiers of the subscriptions that a message comes by. One takes no memory of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SubscriptionIds {
    /// None has one.
    #[default]
    None,
    /// One has.
    One(SubscriptionId),
    /// Several have.
    Many(Arc<[SubscriptionId]>),
}

impl SubscriptionIds {
    /// All of them.
    pub fn as_slice(&self) -> &[SubscriptionId] {
        match self {
            Self::None => &[],
            Self::One(id) => std::slice::from_ref(id),
            Self::Many(ids) => ids,
        }
    }
}

/// A message on its way to the client.
#[derive(Debug, Clone, PartialEq)]
pub struct Deliver {
    /// The message, which many connections share.
    pub message: Arc<Published>,
    /// Whether it may have gone out before.
    pub dup: bool,
    /// At which QoS.
    pub qos: Qos,
    /// Whether it is a first state, or goes as published.
    pub retain: bool,
    /// What the client answers to.
    pub packet_id: Option<PacketId>,
    /// Whether a number stands for the topic.
    pub alias: Alias,
    /// By which subscriptions it comes.
    pub subscription_ids: SubscriptionIds,
    /// What is left of its time, in seconds.
    pub message_expiry_s: Option<u32>,
}

impl Deliver {
    fn head(&self) -> Head<'_> {
        Head {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            packet_id: self.packet_id,
            alias: self.alias,
            subscription_ids: self.subscription_ids.as_slice(),
            message_expiry_s: self.message_expiry_s,
        }
    }

    /// How many bytes it takes in a version; none if the protocol can't say it.
    pub fn packet_bytes(&self, version: Version) -> Option<usize> {
        let template = self.message.template(version, self.qos)?;
        template.packet_bytes(&self.head())
    }

    /// Writes it behind what the buffer holds. What can't be written is left out: the machine has asked
    /// [`packet_bytes`](Self::packet_bytes) before.
    pub fn write(&self, version: Version, out: &mut BytesMut) {
        if let Some(template) = self.message.template(version, self.qos) {
            let written = template.write(&self.head(), out);
            debug_assert!(written.is_ok());
        }
    }

    /// Writes what is this client's own, and hands out the rest, which all share: for payloads that are better not
    /// copied.
    pub fn write_head(&self, version: Version, out: &mut BytesMut) -> Bytes {
        let template = self.message.template(version, self.qos);
        let shared = template.and_then(|template| template.write_head(&self.head(), out).ok());
        shared.unwrap_or_default()
    }
}

/// What is to happen when a connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ended {
    /// How long to wait with the will; none if it is not to be published. A new connection to the session makes it
    /// void until then (3.1.3-9).
    pub will_after: Option<Duration>,
    /// How long the session lives on, in seconds; 0 if it ends now.
    pub session_expiry_s: u32,
}

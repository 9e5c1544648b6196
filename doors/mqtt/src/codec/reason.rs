//! Reason codes (2.4).

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// Why something ended as it did (2.4). From 0x80 on it is a failure.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum ReasonCode {
            $($(#[$doc])* $name = $code,)*
        }

        impl ReasonCode {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The reason of that number, if there is one.
            pub fn from_u8(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    /// Success; a normal disconnection; QoS 0 granted.
    Success = 0x00,
    /// QoS 1 granted.
    GrantedQos1 = 0x01,
    /// QoS 2 granted.
    GrantedQos2 = 0x02,
    /// The client leaves, and its will is to be published all the same.
    DisconnectWithWill = 0x04,
    /// Nobody had subscribed to what was published.
    NoMatchingSubscribers = 0x10,
    /// There was no such subscription.
    NoSubscriptionExisted = 0x11,
    /// The exchange goes on.
    ContinueAuthentication = 0x18,
    /// The client wants to authenticate again.
    ReAuthenticate = 0x19,
    /// No reason is told.
    UnspecifiedError = 0x80,
    /// The packet could not be read.
    MalformedPacket = 0x81,
    /// The packet is not allowed, or not at this point.
    ProtocolError = 0x82,
    /// Allowed, but not here.
    ImplementationSpecificError = 0x83,
    /// No such version of the protocol.
    UnsupportedProtocolVersion = 0x84,
    /// The client id is not accepted.
    ClientIdentifierNotValid = 0x85,
    /// User name or password are wrong.
    BadUserNameOrPassword = 0x86,
    /// The client may not do this.
    NotAuthorized = 0x87,
    /// The server is not available.
    ServerUnavailable = 0x88,
    /// The server has too much to do.
    ServerBusy = 0x89,
    /// The client has been shut out.
    Banned = 0x8A,
    /// The server ends.
    ServerShuttingDown = 0x8B,
    /// The method of authentication is not known here.
    BadAuthenticationMethod = 0x8C,
    /// Nothing came for one and a half times the keep-alive.
    KeepAliveTimeout = 0x8D,
    /// Another connection has the client id now.
    SessionTakenOver = 0x8E,
    /// The filter is not accepted.
    TopicFilterInvalid = 0x8F,
    /// The topic is not accepted.
    TopicNameInvalid = 0x90,
    /// The packet id is in use.
    PacketIdentifierInUse = 0x91,
    /// The packet id is not known.
    PacketIdentifierNotFound = 0x92,
    /// More in flight than was allowed.
    ReceiveMaximumExceeded = 0x93,
    /// A topic alias of zero, or above what was allowed.
    TopicAliasInvalid = 0x94,
    /// The packet is larger than was allowed.
    PacketTooLarge = 0x95,
    /// Too many messages a second.
    MessageRateTooHigh = 0x96,
    /// A limit has been reached.
    QuotaExceeded = 0x97,
    /// Somebody wanted it so.
    AdministrativeAction = 0x98,
    /// The payload is not what it claims to be.
    PayloadFormatInvalid = 0x99,
    /// Nothing can be retained here.
    RetainNotSupported = 0x9A,
    /// The QoS is not served here.
    QosNotSupported = 0x9B,
    /// For now, use another server.
    UseAnotherServer = 0x9C,
    /// For good, use another server.
    ServerMoved = 0x9D,
    /// Subscriptions can't be shared here.
    SharedSubscriptionsNotSupported = 0x9E,
    /// Too many connections a second.
    ConnectionRateExceeded = 0x9F,
    /// The connection has lasted as long as it may.
    MaximumConnectTime = 0xA0,
    /// Subscriptions have no identifiers here.
    SubscriptionIdentifiersNotSupported = 0xA1,
    /// Filters have no wildcards here.
    WildcardSubscriptionsNotSupported = 0xA2,
}

impl ReasonCode {
    /// Whether it says that something failed.
    pub fn is_failure(self) -> bool {
        self as u8 >= 0x80
    }

    /// The return code of a 3.x CONNACK (3.1.1, 3.2.2.3).
    pub(super) fn to_return_code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::UnsupportedProtocolVersion => 1,
            Self::ClientIdentifierNotValid => 2,
            Self::BadUserNameOrPassword | Self::BadAuthenticationMethod => 4,
            Self::NotAuthorized | Self::Banned => 5,
            // «Server unavailable» is the only one left that is no lie.
            _ => 3,
        }
    }

    /// What the return code of a 3.x CONNACK means.
    pub(super) fn from_return_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Success),
            1 => Some(Self::UnsupportedProtocolVersion),
            2 => Some(Self::ClientIdentifierNotValid),
            3 => Some(Self::ServerUnavailable),
            4 => Some(Self::BadUserNameOrPassword),
            5 => Some(Self::NotAuthorized),
            _ => None,
        }
    }
}

/// What each packet may say (3.2.2.2, 3.4.2.1, 3.5.2.1, 3.6.2.1, 3.7.2.1, 3.9.3, 3.11.3, 3.14.2.1, 3.15.2.1).
impl ReasonCode {
    /// CONNACK.
    pub const OF_CONNACK: &[Self] = &[
        Self::Success,
        Self::UnspecifiedError,
        Self::MalformedPacket,
        Self::ProtocolError,
        Self::ImplementationSpecificError,
        Self::UnsupportedProtocolVersion,
        Self::ClientIdentifierNotValid,
        Self::BadUserNameOrPassword,
        Self::NotAuthorized,
        Self::ServerUnavailable,
        Self::ServerBusy,
        Self::Banned,
        Self::BadAuthenticationMethod,
        Self::TopicNameInvalid,
        Self::PacketTooLarge,
        Self::QuotaExceeded,
        Self::PayloadFormatInvalid,
        Self::RetainNotSupported,
        Self::QosNotSupported,
        Self::UseAnotherServer,
        Self::ServerMoved,
        Self::ConnectionRateExceeded,
    ];
    /// PUBACK and PUBREC.
    pub const OF_PUBACK: &[Self] = &[
        Self::Success,
        Self::NoMatchingSubscribers,
        Self::UnspecifiedError,
        Self::ImplementationSpecificError,
        Self::NotAuthorized,
        Self::TopicNameInvalid,
        Self::PacketIdentifierInUse,
        Self::QuotaExceeded,
        Self::PayloadFormatInvalid,
    ];
    /// PUBREL and PUBCOMP.
    pub const OF_PUBREL: &[Self] = &[Self::Success, Self::PacketIdentifierNotFound];
    /// SUBACK.
    pub const OF_SUBACK: &[Self] = &[
        Self::Success,
        Self::GrantedQos1,
        Self::GrantedQos2,
        Self::UnspecifiedError,
        Self::ImplementationSpecificError,
        Self::NotAuthorized,
        Self::TopicFilterInvalid,
        Self::PacketIdentifierInUse,
        Self::QuotaExceeded,
        Self::SharedSubscriptionsNotSupported,
        Self::SubscriptionIdentifiersNotSupported,
        Self::WildcardSubscriptionsNotSupported,
    ];
    /// SUBACK of 3.x (3.1.1, 3.9.3-2).
    pub(super) const OF_SUBACK_3: &[Self] = &[
        Self::Success,
        Self::GrantedQos1,
        Self::GrantedQos2,
        Self::UnspecifiedError,
    ];
    /// UNSUBACK.
    pub const OF_UNSUBACK: &[Self] = &[
        Self::Success,
        Self::NoSubscriptionExisted,
        Self::UnspecifiedError,
        Self::ImplementationSpecificError,
        Self::NotAuthorized,
        Self::TopicFilterInvalid,
        Self::PacketIdentifierInUse,
    ];
    /// DISCONNECT, whoever sends it.
    pub const OF_DISCONNECT: &[Self] = &[
        Self::Success,
        Self::DisconnectWithWill,
        Self::UnspecifiedError,
        Self::MalformedPacket,
        Self::ProtocolError,
        Self::ImplementationSpecificError,
        Self::NotAuthorized,
        Self::ServerBusy,
        Self::ServerShuttingDown,
        Self::KeepAliveTimeout,
        Self::SessionTakenOver,
        Self::TopicFilterInvalid,
        Self::TopicNameInvalid,
        Self::ReceiveMaximumExceeded,
        Self::TopicAliasInvalid,
        Self::PacketTooLarge,
        Self::MessageRateTooHigh,
        Self::QuotaExceeded,
        Self::AdministrativeAction,
        Self::PayloadFormatInvalid,
        Self::RetainNotSupported,
        Self::QosNotSupported,
        Self::UseAnotherServer,
        Self::ServerMoved,
        Self::SharedSubscriptionsNotSupported,
        Self::ConnectionRateExceeded,
        Self::MaximumConnectTime,
        Self::SubscriptionIdentifiersNotSupported,
        Self::WildcardSubscriptionsNotSupported,
    ];
    /// AUTH.
    pub const OF_AUTH: &[Self] = &[
        Self::Success,
        Self::ContinueAuthentication,
        Self::ReAuthenticate,
    ];

    /// This reason where a packet can say it; else the plainest of those that it can which says as much.
    #[must_use]
    pub fn within(self, packet: &[Self]) -> Self {
        if packet.contains(&self) {
            self
        } else if !self.is_failure() {
            Self::Success
        } else if self == Self::ServerShuttingDown && packet.contains(&Self::ServerUnavailable) {
            Self::ServerUnavailable
        } else if packet.contains(&Self::UnspecifiedError) {
            Self::UnspecifiedError
        } else {
            Self::PacketIdentifierNotFound
        }
    }
}

//! How a connection begins and how the client ends it (3.1, 3.2, 3.14).

use std::num::{NonZeroU16, NonZeroU32};
use std::time::{Duration, Instant};

use super::options;
use super::{Action, Connecting, Machine, Phase, Session};
use crate::codec::{
    Connack, ConnackProperties, Connect, Disconnect, Fault, Packet, ReasonCode, Text,
    UserProperties, VARINT_MAX, Version,
};
use crate::topic;

/// What a client said of itself, as far as it matters later.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) bridge: bool,
    pub(super) keep_alive: Option<Duration>,
    asked_keep_alive_s: u16,
    pub(super) session_expiry_s: u32,
    asked_session_expiry_s: u32,
    /// How long to wait with the will; none if there is none any more.
    pub(super) will_delay_s: Option<u32>,
    pub(super) receive_maximum: u16,
    pub(super) packet_bytes_max: Option<usize>,
    pub(super) alias_maximum: u16,
    pub(super) problem_information: bool,
    response_information: bool,
    /// Whether what it must keep is stored elsewhere, so that promises wait for it.
    pub(super) durable: bool,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            bridge: false,
            keep_alive: None,
            asked_keep_alive_s: 0,
            session_expiry_s: 0,
            asked_session_expiry_s: 0,
            will_delay_s: None,
            receive_maximum: u16::MAX,
            packet_bytes_max: None,
            alias_maximum: 0,
            problem_information: true,
            response_information: false,
            durable: false,
        }
    }
}

impl Client {
    fn new(connect: &Connect, session_expiry_s_max: u32) -> Self {
        let properties = &connect.properties;
        // 3.x: a session that is not clean lives as long as sessions do.
        let asked_session_expiry_s = match (connect.version.is_5(), connect.clean_start) {
            (true, _) => properties.session_expiry_s.unwrap_or(0),
            (false, true) => 0,
            (false, false) => u32::MAX,
        };
        let packet_bytes_max = properties.packet_bytes_max.map(NonZeroU32::get);
        Self {
            bridge: connect.bridge,
            keep_alive: None,
            asked_keep_alive_s: connect.keep_alive_s,
            session_expiry_s: asked_session_expiry_s.min(session_expiry_s_max),
            asked_session_expiry_s,
            will_delay_s: connect.will.as_ref().map(|will| will.delay_s),
            receive_maximum: properties.receive_maximum.map_or(u16::MAX, NonZeroU16::get),
            packet_bytes_max: packet_bytes_max.and_then(|max| usize::try_from(max).ok()),
            alias_maximum: properties.topic_alias_maximum.unwrap_or(0),
            problem_information: properties.request_problem_information.unwrap_or(true),
            response_information: properties.request_response_information.unwrap_or(false),
            durable: false,
        }
    }
}

/// What a client that is let in is told, and what it finds again.
#[derive(Debug, Clone, Default)]
pub struct Accepted {
    /// Whether its session was still there.
    pub session_present: bool,
    /// Whether what its session must keep is stored elsewhere: [`Change`](super::Change)s are told, and waited for.
    pub durable: bool,
    /// The client id that it was given, if it brought none.
    pub assigned_client_id: Option<Text>,
    /// Where it may make its response topics; told if it asked.
    pub response_information: Option<Text>,
    /// Told to a client of 5.0.
    pub user_properties: UserProperties,
    /// What its session kept, as of when all that an earlier connection asked for was done.
    pub session: Session,
}

impl Machine {
    /// The first packet.
    pub(super) fn first(&mut self, packet: Packet, out: &mut Vec<Action>) {
        match packet {
            Packet::Connect(connect) => self.connect(*connect, out),
            Packet::ConnectUnknown(level) => {
                // Who speaks a later version reads the answer of 5.0 (3.1.2-2; 3.1.1, 3.1.2-2).
                let later = level & 0x7F >= 5;
                self.version = Some(if later { Version::V5 } else { Version::V3_1_1 });
                self.close(ReasonCode::UnsupportedProtocolVersion, out);
            }
            _ => self.faulted(
                &Fault::protocol("3.1.0-1", "a first packet that is not CONNECT"),
                None,
                out,
            ),
        }
    }

    fn connect(&mut self, mut connect: Connect, out: &mut Vec<Action>) {
        self.version = Some(connect.version);
        self.client = Client::new(&connect, self.settings.session_expiry_s_max);
        self.phase = Phase::Connecting;
        let will_path = match self.check(&connect) {
            Ok(path) => path,
            Err(reason) => return self.close(reason, out),
        };
        let accept = match options::accept(&connect.properties.user_properties) {
            Ok(accept) => accept,
            Err(words) => {
                let reason = ReasonCode::ImplementationSpecificError;
                return self.end_with(reason, Some(words), out);
            }
        };
        // It is kept longer than the packet.
        connect.client_id = connect.client_id.detached();
        out.push(Action::Connect(Box::new(Connecting {
            connect,
            will_path,
            session_expiry_s: self.client.session_expiry_s,
            accept,
        })));
    }

    /// What needs nobody else to be judged. Returns where the will goes.
    fn check(&self, connect: &Connect) -> Result<Option<sapwood_tree::Path>, ReasonCode> {
        let nameless = match connect.version {
            Version::V3_1 => true,
            // 3.1.1, 3.1.3-8
            Version::V3_1_1 => !connect.clean_start,
            Version::V5 => false,
        };
        if connect.client_id.is_empty() && nameless {
            return Err(ReasonCode::ClientIdentifierNotValid);
        }
        // 4.12.0-1
        if connect.properties.authentication_method.is_some() {
            return Err(ReasonCode::BadAuthenticationMethod);
        }
        let Some(will) = &connect.will else {
            return Ok(None);
        };
        if self.is_false_text(&will.message) {
            return Err(ReasonCode::PayloadFormatInvalid);
        }
        let path = topic::to_path(will.message.topic.as_str(), &self.settings.paths);
        path.map(Some).map_err(|_| ReasonCode::TopicNameInvalid)
    }

    /// Whether a reason can be said in a CONNACK of 3.x for what it is.
    pub(super) fn has_return_code(&self, reason: ReasonCode) -> bool {
        self.version.is_some()
            && matches!(
                reason,
                ReasonCode::UnsupportedProtocolVersion
                    | ReasonCode::ClientIdentifierNotValid
                    | ReasonCode::BadUserNameOrPassword
                    | ReasonCode::NotAuthorized
                    | ReasonCode::Banned
                    | ReasonCode::ServerUnavailable
                    | ReasonCode::ServerBusy
                    | ReasonCode::ServerShuttingDown
                    | ReasonCode::QuotaExceeded
                    | ReasonCode::ConnectionRateExceeded
            )
    }

    /// Does not let the client in, and ends (3.2.2-7).
    pub fn refused(&mut self, reason: ReasonCode, words: Option<Text>, out: &mut Vec<Action>) {
        if self.phase == Phase::Connecting {
            self.end_with(reason, words, out);
        }
    }

    pub(super) fn say_no(
        &mut self,
        reason: ReasonCode,
        words: Option<Text>,
        out: &mut Vec<Action>,
    ) {
        let connack = Connack {
            session_present: false,
            reason,
            properties: ConnackProperties {
                reason_string: words,
                ..ConnackProperties::default()
            },
        };
        self.send(Packet::Connack(Box::new(connack)), out);
    }

    /// Lets the client in, and takes up what its session left: PUBREL and PUBLISH go out again (4.4.0-1).
    pub fn accepted(&mut self, accepted: Accepted, now: Instant, out: &mut Vec<Action>) {
        if self.phase != Phase::Connecting {
            return;
        }
        self.phase = Phase::Connected;
        self.heard = now;
        self.client.durable = accepted.durable;
        let server_keep_alive_s = self.begin_keep_alive();
        let connack = self.connack(&accepted, server_keep_alive_s);
        self.send(Packet::Connack(Box::new(connack)), out);
        self.inbound.resume(&accepted.session.unreleased);
        self.resume(accepted.session, now, out);
    }

    /// Returns the keep-alive that the client is to be told.
    fn begin_keep_alive(&mut self) -> Option<u16> {
        let asked = self.client.asked_keep_alive_s;
        let told = self
            .settings
            .keep_alive_s_max
            // 3.x can't be told.
            .filter(|max| self.version().is_5() && (asked == 0 || asked > *max));
        let keep_alive_s = told.unwrap_or(asked);
        self.client.keep_alive =
            (keep_alive_s > 0).then(|| Duration::from_secs(u64::from(keep_alive_s)));
        told
    }

    fn connack(&self, accepted: &Accepted, server_keep_alive_s: Option<u16>) -> Connack {
        let (settings, client) = (&self.settings, &self.client);
        let expiry_s = client.session_expiry_s;
        let aliases = settings.topic_alias_maximum;
        let bytes_max = settings.packet_bytes_max;
        let properties = ConnackProperties {
            session_expiry_s: (expiry_s != client.asked_session_expiry_s).then_some(expiry_s),
            receive_maximum: Some(settings.receive_maximum).filter(|max| *max != NonZeroU16::MAX),
            packet_bytes_max: NonZeroU32::new(bytes_max).filter(|max| max.get() < VARINT_MAX),
            assigned_client_id: accepted.assigned_client_id.clone(),
            topic_alias_maximum: (aliases > 0).then_some(aliases),
            user_properties: accepted.user_properties.clone(),
            server_keep_alive_s,
            response_information: accepted
                .response_information
                .clone()
                .filter(|_| client.response_information),
            ..ConnackProperties::default()
        };
        Connack {
            // 3.1 has no such flag.
            session_present: accepted.session_present && self.version() != Version::V3_1,
            reason: ReasonCode::Success,
            properties,
        }
    }

    /// The client takes its leave (3.14).
    pub(super) fn disconnected(
        &mut self,
        disconnect: &Disconnect,
        out: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        if let Some(expiry_s) = disconnect.properties.session_expiry_s {
            if self.client.asked_session_expiry_s == 0 && expiry_s > 0 {
                return Err(Fault::protocol(
                    "3.14.2.2.2",
                    "a session expiry where CONNECT had none",
                ));
            }
            self.client.session_expiry_s = expiry_s.min(self.settings.session_expiry_s_max);
        }
        // 3.14.4-3
        if disconnect.reason == ReasonCode::Success {
            self.client.will_delay_s = None;
        }
        self.shut(out);
        Ok(())
    }
}

//! Both sides' connections: who is asked for what before anything is handed on.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use sapwood_net::Closed;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::relay::Terms;
use super::{Bridge, CLIENT_ID_PREFIX, Side};
use crate::client::{DialError, Hello, Lost, Speech, Wire, dial, greet, in_words};
use crate::codec::{
    Ack, Connack, Packet, PacketId, Qos, ReasonCode, RetainHandling, Subscribe, SubscribeFilter,
    SubscribeProperties, Text, Unsubscribe, UnsubscribeProperties,
};
use crate::door::Site;

/// How long the subscriptions of a side may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a side may take to let go.
const PART_TIMEOUT: Duration = Duration::from_secs(3);

/// Messages of QoS 0 that are kept while a side is not ready for them.
const EARLY_MAX: usize = 10_000;

/// What is known of both sides' sessions over connections.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// The local session was new, and nothing has gone over it yet.
    local_is_new: bool,
    /// The other broker has been asked for its topics since the start.
    has_asked: bool,
    /// A side's session is older than the other's: it may know packet ids of QoS 2 whose release will never come.
    stale: Option<Side>,
}

/// Why a bridge is not connected.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("{0}")]
    Remote(DialError),
    #[error("this server: {0}")]
    Local(DialError),
    #[error("no answer to the subscriptions within {} s", ASK_TIMEOUT.as_secs())]
    Silent,
    #[error("{0}")]
    Lost(#[from] Lost),
}

impl OpenError {
    /// Whether the other broker does not know how it was spoken to.
    pub(super) fn is_unknown_version(&self) -> bool {
        matches!(self, Self::Remote(DialError::Version(_)))
    }

    /// Whether the other broker has closed the connection instead of an answer.
    pub(super) fn is_no_answer(&self) -> bool {
        matches!(
            self,
            Self::Remote(DialError::Lost(Lost::Ended | Lost::Io(_)))
        )
    }
}

/// The bridge as a client of its own server.
pub(super) struct Local {
    pub(super) wire: Wire<DuplexStream>,
    task: JoinHandle<Closed>,
}

impl Local {
    /// Takes leave, and waits until the server has put the session aside.
    async fn close(self) {
        drop(tokio::time::timeout(PART_TIMEOUT, self.wire.part()).await);
        drop(tokio::time::timeout(PART_TIMEOUT, self.task).await);
    }
}

/// Both sides, ready to be handed to each other.
pub(super) struct Opened {
    pub(super) local: Local,
    pub(super) remote: Wire<TcpStream>,
    pub(super) local_terms: Terms,
    pub(super) remote_terms: Terms,
    /// What has come already.
    pub(super) early: Vec<(Side, Packet)>,
    /// What the other broker wants instead of our keep-alive.
    pub(super) keep_alive_s: u16,
}

impl Opened {
    pub(super) async fn close(self) {
        let parting = tokio::time::timeout(PART_TIMEOUT, self.remote.part());
        let (parted, ()) = tokio::join!(parting, self.local.close());
        drop(parted);
    }
}

impl Bridge {
    /// Has the local session wait for what is to go out, also before the other broker has been reached for the first time.
    pub(super) async fn prepare(&mut self) {
        if self.config.clean_start {
            return;
        }
        let entered = self.enter(NonZeroU16::new(1)).await;
        let (mut local, connack) = match entered {
            Ok(entered) => entered,
            Err(error) => {
                return warn!(bridge = self.config.name, %error, "bridge has no session here yet");
            }
        };
        if !connack.session_present {
            self.standing.local_is_new = true;
            // Its first state comes when it can go over.
            let ask = self.ask(Side::Local, Qos::ExactlyOnce, RetainHandling::DoNotSend);
            if let Err(error) = ask.of(&mut local.wire, &mut Vec::new()).await {
                warn!(bridge = self.config.name, %error, "bridge can't subscribe here");
            }
        }
        local.close().await;
    }

    /// Connects both sides, the other broker first: only then is it known how much it takes at once.
    pub(super) async fn open(&mut self) -> Result<Opened, OpenError> {
        let (mut remote, connack) = dial(&self.address, self.speech, self.remote_hello())
            .await
            .map_err(OpenError::Remote)?;
        let remote_terms = Terms::of(remote.version(), &connack, self.config.packet_bytes_max);
        let receive_maximum = connack.properties.receive_maximum;
        let (mut local, local_connack) = self
            .enter(receive_maximum)
            .await
            .map_err(OpenError::Local)?;
        let (here, there) = (local_connack.session_present, connack.session_present);
        self.compare(here, there);
        let mut early = Vec::new();
        let asking = async {
            self.ask_remote(&mut remote, there, &mut early).await?;
            let state = if self.standing.local_is_new || !there {
                RetainHandling::Send
            } else {
                RetainHandling::SendIfNew
            };
            let ask = self.ask(Side::Local, remote_terms.qos_max, state);
            ask.of(&mut local.wire, &mut early).await?;
            match self.standing.stale {
                Some(Side::Local) => release_all(Side::Local, &mut local.wire, &mut early).await?,
                Some(Side::Remote) => release_all(Side::Remote, &mut remote, &mut early).await?,
                None => {}
            }
            Ok::<_, Lost>(())
        };
        let asked = tokio::time::timeout(ASK_TIMEOUT, asking).await;
        asked.map_err(|_| OpenError::Silent)??;
        self.standing = Standing {
            has_asked: true,
            ..Standing::default()
        };
        let local_terms = Terms::of(local.wire.version(), &local_connack, 0);
        let asked_s = self.config.keep_alive_s;
        Ok(Opened {
            keep_alive_s: connack.properties.server_keep_alive_s.unwrap_or(asked_s),
            local,
            remote,
            local_terms,
            remote_terms,
            early,
        })
    }

    /// Sees which of the sessions is older than the other.
    fn compare(&mut self, here: bool, there: bool) {
        let standing = &mut self.standing;
        standing.local_is_new |= !here;
        standing.stale = match (!standing.local_is_new, there) {
            (true, false) => Some(Side::Local),
            (false, true) => Some(Side::Remote),
            (true, true) => standing.stale,
            (false, false) => None,
        };
        if let Some(side) = standing.stale {
            debug!(
                bridge = self.config.name,
                older = side.name(),
                "one side has forgotten the other"
            );
        }
    }

    fn remote_hello(&self) -> Hello {
        let config = &self.config;
        let limits = self.site.config.limits();
        Hello {
            client_id: self.client_id.clone(),
            user_name: Some(&config.username)
                .filter(|name| !name.is_empty())
                .and_then(|name| Text::new(name).ok()),
            password: self.password.clone(),
            keep_alive_s: config.keep_alive_s,
            clean_start: config.clean_start,
            session_expiry_s: if config.clean_start {
                0
            } else {
                config.session_expiry_s
            },
            receive_maximum: NonZeroU16::new(self.site.config.receive_maximum),
            packet_bytes_max: NonZeroU32::new(limits.packet_bytes_max),
        }
    }

    /// Becomes a client of this server.
    async fn enter(
        &self,
        receive_maximum: Option<NonZeroU16>,
    ) -> Result<(Local, Connack), DialError> {
        let config = &self.config;
        let (stream, task) = Site::serve_inside(&self.site);
        let hello = Hello {
            client_id: Text::new(&format!("{CLIENT_ID_PREFIX}{}", config.name)).unwrap_or_default(),
            user_name: Text::new(&format!("{}/", config.database)).ok(),
            password: None,
            keep_alive_s: 0,
            clean_start: config.clean_start,
            session_expiry_s: if config.clean_start {
                0
            } else {
                config.session_expiry_s
            },
            receive_maximum,
            packet_bytes_max: None,
        };
        let (wire, connack) = greet(stream, Speech::V5, hello).await?;
        Ok((Local { wire, task }, connack))
    }

    /// Subscribes at the other broker. 3.x sends all that is retained with each SUBSCRIBE, so one is enough.
    async fn ask_remote(
        &self,
        wire: &mut Wire<TcpStream>,
        there: bool,
        early: &mut Vec<(Side, Packet)>,
    ) -> Result<(), Lost> {
        let standing = &self.standing;
        let is_known = there && standing.has_asked && !standing.local_is_new;
        if is_known && !wire.version().is_5() {
            return Ok(());
        }
        let state = if standing.local_is_new {
            RetainHandling::Send
        } else {
            RetainHandling::SendIfNew
        };
        self.ask(Side::Remote, Qos::ExactlyOnce, state)
            .of(wire, early)
            .await
    }

    /// What a side is asked for.
    fn ask(&self, side: Side, qos_max: Qos, retain_handling: RetainHandling) -> Ask<'_> {
        let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
        for route in &self.routes {
            let filter = route.filter(side).clone();
            if route.takes(side) {
                wanted.push(SubscribeFilter {
                    filter,
                    qos: route.qos.min(qos_max),
                    no_local: true,
                    retain_as_published: true,
                    retain_handling,
                });
            } else {
                unwanted.push(filter);
            }
        }
        // What a kept session has from when the configuration was another one.
        unwanted.retain(|filter| wanted.iter().all(|wanted| wanted.filter != *filter));
        Ask {
            bridge: &self.config.name,
            side,
            wanted,
            unwanted,
        }
    }
}

/// Subscriptions that a side is asked for, and those that it is to end.
struct Ask<'a> {
    bridge: &'a str,
    side: Side,
    wanted: Vec<SubscribeFilter>,
    unwanted: Vec<Text>,
}

impl Ask<'_> {
    /// Asks one by one, and waits for all answers: no other packet with an id goes out before.
    async fn of<S: AsyncRead + AsyncWrite + Unpin>(
        self,
        wire: &mut Wire<S>,
        early: &mut Vec<(Side, Packet)>,
    ) -> Result<(), Lost> {
        let mut ids = (1..=u16::MAX).filter_map(PacketId::new);
        let mut open = self.wanted.len() + self.unwanted.len();
        for (filter, packet_id) in self.unwanted.into_iter().zip(&mut ids) {
            wire.send(&Packet::Unsubscribe(Unsubscribe {
                packet_id,
                properties: UnsubscribeProperties::default(),
                filters: vec![filter],
            }))?;
        }
        let mut asked = Vec::new();
        for (filter, packet_id) in self.wanted.into_iter().zip(&mut ids) {
            asked.push((packet_id, filter.filter.clone(), filter.qos));
            wire.send(&Packet::Subscribe(Subscribe {
                packet_id,
                properties: SubscribeProperties::default(),
                filters: vec![filter],
            }))?;
        }
        while open > 0 {
            match wire.next().await? {
                Packet::Suback(suback) => {
                    open -= 1;
                    let asked = asked.iter().find(|(id, ..)| *id == suback.packet_id);
                    if let (Some((_, filter, qos)), Some(reason)) = (asked, suback.reasons.first())
                    {
                        granted(self.bridge, self.side, filter, *qos, *reason);
                    }
                }
                Packet::Unsuback(_) => open -= 1,
                packet => keep_early(self.side, packet, early),
            }
        }
        Ok(())
    }
}

fn granted(bridge: &str, side: Side, filter: &Text, asked: Qos, reason: ReasonCode) {
    let (side, filter) = (side.name(), filter.as_str());
    if reason.is_failure() {
        let reason = in_words(reason, "");
        warn!(
            bridge,
            side, filter, reason, "bridge may not subscribe: these topics are not bridged"
        );
    } else if (reason as u8) < asked as u8 {
        warn!(
            bridge,
            side,
            filter,
            qos = reason as u8,
            "bridge gets a lower QoS than it asked for"
        );
    }
}

/// Keeps what comes before the other side is ready. Of QoS 1 and 2 that is no more than may be in flight.
fn keep_early(side: Side, packet: Packet, early: &mut Vec<(Side, Packet)>) {
    let may_go = |packet: &Packet| matches!(packet, Packet::Publish(publish) if !publish.qos.is_acknowledged());
    if early.len() < EARLY_MAX || !may_go(&packet) {
        early.push((side, packet));
    }
}

/// Releases every packet id of QoS 2 that a side may know from an older session of the other: else it would take the next
/// message of that id for one that it has had. Its answers are of no interest.
async fn release_all<S: AsyncRead + AsyncWrite + Unpin>(
    side: Side,
    wire: &mut Wire<S>,
    early: &mut Vec<(Side, Packet)>,
) -> Result<(), Lost> {
    let mut open = 0_usize;
    for packet_id in (1..=u16::MAX).filter_map(PacketId::new) {
        wire.send(&Packet::Pubrel(Ack::new(packet_id, ReasonCode::Success)))?;
        open += 1;
    }
    while open > 0 {
        match wire.next().await? {
            Packet::Pubcomp(_) => open -= 1,
            packet => keep_early(side, packet, early),
        }
    }
    Ok(())
}

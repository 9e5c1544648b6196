//! From CONNECT to the session that the client goes on with (3.1, 4.1).

use std::sync::Arc;
use std::time::Instant;

use sapwood_core::{
    Answer, Begin, Claims, Connect, Database, Delivery as Told, Durable, Limits, Session,
    WriteError,
};
use sapwood_net::Info;
use tokio::sync::oneshot;

use crate::bridge::CLIENT_ID_PREFIX;
use crate::codec::{ReasonCode, Text};
use crate::door::{INSIDE, Site};
use crate::durable::{self, Feed, Held};
use crate::machine::{self, Accepted, Connecting, Delivery, InFlight};
use crate::map;
use crate::registry::{Claim, Key, Place};
use crate::serve::Shares;
use crate::shared;
use crate::subscriptions::Subscriptions;
use crate::topic;
use crate::will::Will;

/// A client that is let in.
pub(crate) struct Joined {
    pub(crate) database: Database,
    pub(crate) session: Session,
    pub(crate) subscriptions: Subscriptions,
    /// Of a session that outlives the connection.
    pub(crate) feed: Option<Box<Feed>>,
    pub(crate) place: Place,
    pub(crate) claimed: oneshot::Receiver<Claim>,
    pub(crate) will: Option<Will>,
    pub(crate) client_id: String,
    /// The newest delivery, where nothing is kept about it.
    pub(crate) deliveries: u64,
    pub(crate) shares: Shares,
}

/// What a durable session is found by.
fn durable_key((_, client_id): &Key) -> String {
    format!("mqtt/{client_id}")
}

/// Finds or begins the client's session, and registers its will.
pub(crate) async fn join(
    site: Arc<Site>,
    connecting: Box<Connecting>,
    info: Arc<Info>,
    listener: &'static str,
) -> Result<(Joined, Accepted), ReasonCode> {
    let connect = &connecting.connect;
    let database = database(&site, connect.user_name.as_ref());
    let brought = !connect.client_id.is_empty();
    let client_id = if brought {
        connect.client_id.as_str().to_owned()
    } else {
        format!("sapwood-{:016x}", rand::random::<u64>())
    };
    if client_id.starts_with(CLIENT_ID_PREFIX) && info.listener != INSIDE {
        return Err(ReasonCode::ClientIdentifierNotValid);
    }
    let key = (database.name().to_owned(), client_id.clone());
    let durable_key = durable_key(&key);
    let who = Connect {
        protocol: "mqtt",
        peer: info.peer.address(),
        claims: Claims::anonymous(),
    };
    // First, so that who is refused for it leaves the session of that client id alone.
    let will = match (&connect.will, &connecting.will_path) {
        (Some(will), Some(path)) => {
            let demand = site.rules.demand(path);
            Some(Will::arm(&database, who.clone(), path, will, demand).await?)
        }
        _ => None,
    };
    let entered = site.registry.enter(key, connect.clean_start);
    // Whoever had the client id leaves its session, or has just gone.
    if let Some(before) = entered.before {
        drop(before.await);
    }
    let mut session = database.connect(who.clone());
    let begun = begin(
        &site,
        &database,
        &mut session,
        (&durable_key, &who),
        &connecting,
    )
    .await;
    let durable = match begun {
        Ok(durable) => durable,
        Err(reason) => {
            if let Some(will) = will {
                will.discard().await;
            }
            return Err(reason);
        }
    };
    let mut subscriptions = Subscriptions::default();
    subscriptions.prefer(
        site.rules
            .preferred(connecting.accept, &client_id, listener),
    );
    let mut joined = Joined {
        database,
        session,
        subscriptions,
        feed: None,
        place: entered.place,
        claimed: entered.claimed,
        will,
        client_id,
        deliveries: 0,
        shares: Shares::default(),
    };
    let accepted = Accepted {
        session_present: durable.as_ref().is_some_and(|begun| begun.is_present),
        durable: durable.is_some(),
        assigned_client_id: (!brought).then(|| Text::new(&joined.client_id).unwrap_or_default()),
        session: durable.map_or_else(machine::Session::default, |begun| {
            joined.resume(&site, &begun.durable)
        }),
        ..Accepted::default()
    };
    Ok((joined, accepted))
}

/// A durable session that a client has begun, or goes on with.
struct Begun {
    durable: Durable,
    is_present: bool,
}

/// Goes on with the client's durable session, begins one, or ends the one that it does not want (3.1.2-4 to 3.1.2-6). None
/// if it is to have none.
async fn begin(
    site: &Site,
    database: &Database,
    session: &mut Session,
    (key, who): (&str, &Connect),
    connecting: &Connecting,
) -> Result<Option<Begun>, ReasonCode> {
    let expiry_s = connecting.session_expiry_s;
    let refused = |error: WriteError| map::refusal(error.kind());
    let mut before = database.durable(key).map_err(refused)?;
    if !connecting.connect.clean_start
        && let Some(durable) = before.take()
    {
        session.submit_begin(0, key, expiry_s, Begin::GoOn(durable.id));
        match answer(session).await {
            Ok(()) => {
                if let Some(by) = durable::left_will(&durable) {
                    // 3.1.3-9: who comes back in time makes it void.
                    Will::left(database, who.clone(), by).discard().await;
                    session.submit_changes(0, vec![durable::will_change(None)]);
                    answer(session).await.map_err(refused)?;
                }
                return Ok(Some(Begun {
                    durable,
                    is_present: true,
                }));
            }
            // Its time was over just now.
            Err(WriteError::NoSession) => {}
            Err(error) => return Err(refused(error)),
        }
    }
    if let Some(by) = before.as_ref().and_then(durable::left_will) {
        // The end of its session is the latest moment (3.1.2-8).
        Will::left(database, who.clone(), by).publish().await;
    }
    if expiry_s == 0 {
        if let Some(durable) = before {
            session.submit_end(0, durable.id);
            answer(session).await.map_err(refused)?;
        }
        return Ok(None);
    }
    if before.is_none() && database.durable_sessions() >= site.config.sessions_max {
        Limits::met("mqtt.sessions_max");
        return Err(ReasonCode::QuotaExceeded);
    }
    let instead_of = before.map(|durable| durable.id);
    session.submit_begin(0, key, expiry_s, Begin::Anew { instead_of });
    answer(session).await.map_err(refused)?;
    let durable = database.durable(key).map_err(refused)?;
    let durable = durable.ok_or(ReasonCode::UnspecifiedError)?;
    Ok(Some(Begun {
        durable,
        is_present: false,
    }))
}

/// Waits for the one answer that a session has not had yet.
async fn answer(session: &mut Session) -> Result<(), WriteError> {
    let mut told = Vec::new();
    session.next(&mut told).await;
    match told.pop() {
        Some(Told::Answer {
            answer: Ok(Answer::Registered | Answer::Written(_)),
            ..
        }) => Ok(()),
        Some(Told::Answer {
            answer: Err(error), ..
        }) => Err(error),
        _ => Err(WriteError::Unavailable),
    }
}

impl Joined {
    /// Takes up what the session kept.
    fn resume(&mut self, site: &Site, durable: &Durable) -> machine::Session {
        let found = durable::read(durable, self.database.tree_limits());
        let limits = site.config.subscription_limits();
        for subscribed in &found.subscriptions {
            let reader = site.figures.reader(subscribed.asked.text.as_str());
            let (session, database) = (&mut self.session, &self.database);
            self.subscriptions
                .resume(subscribed, reader, session, database, &limits);
        }
        self.shares.pulls = !self.subscriptions.shares().is_empty();
        let now = Instant::now();
        let in_flight = found.in_flight.into_iter();
        let in_flight = in_flight.map(|(one, held)| InFlight {
            delivery: self.delivery(&one, held, now),
            ..one
        });
        let in_flight: Vec<InFlight> = in_flight.collect();
        self.feed = Some(Box::new(Feed::new(durable, &self.session, &site.config)));
        let shares = self.subscriptions.shares();
        self.shares.claim_again(&in_flight, &shares, &self.session);
        let last = in_flight.iter().map(|one| one.packet_id.get()).max();
        machine::Session {
            unreleased: found.unreleased,
            in_flight,
            queue: Vec::new(),
            last_packet_id: last.unwrap_or(0),
        }
    }

    /// A message in flight, as far as it is still needed, and there.
    fn delivery(&self, one: &InFlight, held: Held, now: Instant) -> Option<Delivery> {
        if one.received {
            return None;
        }
        let event = match &held.topic {
            None => self.session.kept(one.reference)?,
            Some(topic) => {
                let path = topic::to_path(topic.as_str(), self.database.tree_limits()).ok()?;
                self.session.state_of(&path)?
            }
        };
        let shape = self.subscriptions.shape_of(&event);
        Some(Delivery {
            message: shared::published(&event, shape, now, &self.database)?,
            qos: held.qos,
            retain: held.retain,
            subscription_ids: held.ids,
            reference: one.reference,
        })
    }
}

/// The database that a user name `database/user` names, if there is one of that name (design, section 6).
fn database(site: &Site, user_name: Option<&Text>) -> Database {
    let named = user_name
        .and_then(|user_name| user_name.as_str().split_once('/'))
        .and_then(|(name, _)| site.core.database(name));
    named.unwrap_or_else(|| site.default.clone())
}

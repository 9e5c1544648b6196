//! From CONNECT to the session that the client goes on with (3.1, 4.1).

use std::sync::Arc;

use sapwood_core::{Claims, Connect, Database};
use sapwood_net::Info;
use tokio::sync::oneshot;

use crate::bridge::CLIENT_ID_PREFIX;
use crate::codec::{ReasonCode, Text};
use crate::door::{INSIDE, Site};
use crate::machine::{self, Accepted, Connecting};
use crate::registry::{Claim, Kept, Place};
use crate::subscriptions::Subscriptions;
use crate::will::Will;

/// A client that is let in.
pub(crate) struct Joined {
    pub(crate) kept: Box<Kept>,
    pub(crate) place: Place,
    pub(crate) claimed: oneshot::Receiver<Claim>,
    pub(crate) will: Option<Will>,
    pub(crate) client_id: String,
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
    let keeps = connecting.session_expiry_s > 0;
    let clean = connect.clean_start;
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
    let Ok(entered) = site.registry.enter(key, keeps, clean) else {
        if let Some(will) = will {
            will.discard().await;
        }
        return Err(ReasonCode::QuotaExceeded);
    };
    // Whoever had the client id gives it up, or has just gone.
    let before = match entered.before {
        Some(before) => before.await.ok().flatten(),
        None => None,
    };
    let session_present = before.is_some();
    let mut kept = before.unwrap_or_else(|| {
        Box::new(Kept {
            session: database.connect(who),
            database: database.clone(),
            machine: machine::Session::default(),
            subscriptions: Subscriptions::default(),
            references: 0,
        })
    });
    kept.subscriptions.prefer(
        site.rules
            .preferred(connecting.accept, &client_id, listener),
    );
    let accepted = Accepted {
        session_present,
        assigned_client_id: (!brought).then(|| Text::new(&client_id).unwrap_or_default()),
        session: std::mem::take(&mut kept.machine),
        ..Accepted::default()
    };
    let joined = Joined {
        kept,
        place: entered.place,
        claimed: entered.claimed,
        will,
        client_id,
    };
    Ok((joined, accepted))
}

/// The database that a user name `database/user` names, if there is one of that name (design, section 6).
fn database(site: &Site, user_name: Option<&Text>) -> Database {
    let named = user_name
        .and_then(|user_name| user_name.as_str().split_once('/'))
        .and_then(|(name, _)| site.core.database(name));
    named.unwrap_or_else(|| site.default.clone())
}

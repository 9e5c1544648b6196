//! A session's subscriptions: what comes by which of them, and how.

mod held;

use std::sync::Arc;

use sapwood_core::{
    Claims, Database, Event, EventKind, EventValue, Limits, Session, Start, WatchError, WatchId,
    WatchSpec,
};
use sapwood_tree::{FilterIndex, Path, Query, QueryErrorKind, QueryLimits, TopicFilter};

use crate::codec::{Qos, ReasonCode, RetainHandling, SubscriptionId, Text};
use crate::durable::Subscribed;
use crate::machine::{Accept, Subscription, SubscriptionIds};
use crate::map;
use crate::rules::Preferred;
use crate::shared::Shape;

use held::Held;

/// With more subscriptions than this, those that match a topic are found by an index.
const INDEXED: usize = 16;

/// How many watches that only tell a first state again are kept at most.
const AGAIN_MAX: usize = 32;

/// What a session may subscribe to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SubscriptionLimits {
    pub(crate) subscriptions_max: usize,
    pub(crate) query: QueryLimits,
    /// Topics that it is known to hold by its queries.
    pub(crate) query_topics_max: usize,
}

/// Why a subscription is not taken.
#[derive(Debug)]
pub(crate) struct NotTaken {
    pub(crate) reason: ReasonCode,
    /// More about it, for the client.
    pub(crate) words: Option<Text>,
}

impl From<ReasonCode> for NotTaken {
    fn from(reason: ReasonCode) -> Self {
        Self {
            reason,
            words: None,
        }
    }
}

/// All subscriptions of a session.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    /// In the order of their watches.
    all: Vec<Entry>,
    index: FilterIndex<WatchId>,
    /// The watches that are telling their first state.
    first: Vec<First>,
    /// What data comes in where a subscription does not say.
    preferred: Preferred,
    /// Whether a subscription has ever said it.
    any_accept: bool,
    /// Whether one was ever asked for at QoS 0.
    any_unacknowledged: bool,
    /// Whether there ever was a query.
    any_query: bool,
    /// What was told by queries.
    held: Held,
    held_max: usize,
    /// Watches beside a subscription's own that tell its first state again; which subscription.
    again: Vec<(WatchId, WatchId)>,
}

#[derive(Debug)]
struct Entry {
    watch: WatchId,
    id: Option<SubscriptionId>,
    asked: Subscription,
    query: Option<Box<Query>>,
    /// Whether its first state is all that it has told, and that was not empty.
    told_first_only: bool,
    /// The commit that its first state was of.
    state_of: u64,
    /// Whether it had a first state to tell, and that has not been noted as told.
    untold: bool,
    /// Held while it is one to the server's reports.
    _reader: Option<Arc<()>>,
}

impl Entry {
    /// Whether it is told what its own client wrote, or somebody else did.
    fn takes(&self, is_own: bool) -> bool {
        !(is_own && self.asked.no_local)
    }
}

/// A group that a subscription shares in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Share {
    pub(crate) name: Box<str>,
    pub(crate) filter: TopicFilter,
}

impl Share {
    fn of(entry: &Entry) -> Option<Self> {
        Some(Self {
            name: entry.asked.filter.share.clone()?,
            filter: entry.asked.filter.filter.clone(),
        })
    }
}

/// A first state on its way.
#[derive(Debug)]
struct First {
    watch: WatchId,
    /// The commit that it is the state of, at the latest.
    until: u64,
    /// Whether it goes out as such: where a watch begins again because its client was slow, it goes out as changes.
    retain: bool,
}

/// How an event goes out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct How {
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    pub(crate) ids: SubscriptionIds,
    /// Whether it belongs to a first state, which comes as fast as the client takes it.
    pub(crate) first: bool,
    pub(crate) shape: Shape,
}

impl Subscriptions {
    /// Data comes so from now on, where a subscription does not say.
    pub(crate) fn prefer(&mut self, preferred: Preferred) {
        self.preferred = preferred;
    }

    /// Whether anything is to be delivered at QoS 1 or 2.
    pub(crate) fn any_acknowledged(&self) -> bool {
        self.all
            .iter()
            .any(|entry| entry.asked.qos.is_acknowledged())
    }

    /// Subscribes, or changes the subscription of the same filter (3.8.4-3); what is granted, or why not.
    pub(crate) fn add(
        &mut self,
        asked: Subscription,
        id: Option<SubscriptionId>,
        reader: Option<Arc<()>>,
        session: &mut Session,
        database: &Database,
        limits: &SubscriptionLimits,
    ) -> Result<ReasonCode, NotTaken> {
        let granted = granted(asked.qos);
        let query = query_of(&asked, &limits.query)?;
        self.any_unacknowledged |= !asked.qos.is_acknowledged();
        self.any_accept |= asked.accept != Accept::Unsaid;
        self.any_query |= query.is_some();
        self.held_max = limits.query_topics_max;
        let same = |entry: &Entry| entry.asked.text == asked.text;
        let first = self.all.iter().position(same);
        let known = first.and_then(|at| self.all.get_mut(at));
        if let Some(entry) = known {
            let again =
                asked.retain_handling == RetainHandling::Send && asked.filter.share.is_none();
            let watch = entry.watch;
            match (&entry.query, &query) {
                (_, None) => self.held.end(watch),
                (None, Some(_)) => self.held.forget(watch),
                (Some(_), Some(_)) => {}
            }
            (entry.asked, entry.id, entry.query) = (asked, id, query);
            let spec = WatchSpec::Topic(entry.asked.filter.filter.clone());
            if again {
                self.tell_again(watch, spec, session, database);
            }
            return Ok(granted);
        }
        if self.all.len() >= limits.subscriptions_max {
            Limits::met("mqtt.subscriptions_max");
            return Err(ReasonCode::QuotaExceeded.into());
        }
        let (spec, start) = watch_of(&asked);
        let watch = watch(&spec, &start, session)?;
        if start == Start::State {
            self.first.push(First {
                watch,
                until: newest(database),
                retain: true,
            });
        }
        if asked.filter.share.is_none() {
            self.index.insert(&asked.filter.filter, watch);
        }
        let at = self.all.partition_point(|entry| entry.watch < watch);
        let entry = Entry {
            watch,
            id,
            asked,
            query,
            told_first_only: false,
            state_of: 0,
            untold: start == Start::State,
            _reader: reader,
        };
        self.all.insert(at, entry);
        Ok(granted)
    }

    /// Goes on with a subscription that was kept.
    pub(crate) fn resume(
        &mut self,
        subscribed: &Subscribed,
        reader: Option<Arc<()>>,
        session: &mut Session,
        database: &Database,
        limits: &SubscriptionLimits,
    ) {
        let Subscribed { asked, id, first } = subscribed;
        let mut asked = asked.clone();
        let handling = asked.retain_handling;
        if !first {
            asked.retain_handling = RetainHandling::DoNotSend;
        }
        let text = asked.text.clone();
        if let Err(not) = self.add(asked, *id, reader, session, database, limits) {
            tracing::error!(filter = text.as_str(), reason = ?not.reason, "a subscription that was kept can't be gone on with");
            return;
        }
        let entry = self.all.iter_mut().find(|entry| entry.asked.text == text);
        if let Some(entry) = entry {
            entry.asked.retain_handling = handling;
            if entry.query.is_some() && !first {
                // What it has told is not known any more.
                self.held.forget(entry.watch);
            }
        }
    }

    /// The subscription of a text.
    pub(crate) fn get(&self, text: &Text) -> Option<Subscribed> {
        let entry = self.all.iter().find(|entry| entry.asked.text == *text)?;
        Some(Subscribed {
            asked: entry.asked.clone(),
            id: entry.id,
            first: false,
        })
    }

    /// Those whose first state was still to be told, each once.
    pub(crate) fn take_told(&mut self) -> Vec<Subscribed> {
        let told = self.all.iter_mut().filter(|entry| entry.untold);
        let told = told.map(|entry| {
            entry.untold = false;
            Subscribed {
                asked: entry.asked.clone(),
                id: entry.id,
                first: false,
            }
        });
        told.collect()
    }

    /// The group that a watch is of.
    pub(crate) fn share_of(&self, watch: WatchId) -> Option<Share> {
        self.entry(watch).and_then(Share::of)
    }

    /// The group that the subscription of a text shares in.
    pub(crate) fn share_named(&self, text: &Text) -> Option<Share> {
        let entry = self.all.iter().find(|entry| entry.asked.text == *text)?;
        Share::of(entry)
    }

    /// All groups that it shares in.
    pub(crate) fn shares(&self) -> Vec<(WatchId, Share)> {
        let all = self.all.iter();
        all.filter_map(|entry| Some((entry.watch, Share::of(entry)?)))
            .collect()
    }

    /// Whether all subscriptions that a topic matches are of QoS 0.
    pub(crate) fn is_told_at_most_once(&self, topic: &Path) -> bool {
        let mut any_kept = !self.any_unacknowledged;
        if !any_kept {
            self.for_each_match(topic, |entry| any_kept |= entry.asked.qos.is_acknowledged());
        }
        !any_kept
    }

    /// Whether another subscription than that of `text` wants what a filter matches at QoS 1 or 2.
    pub(crate) fn is_wanted(&self, filter: &TopicFilter, text: &Text) -> bool {
        self.all.iter().any(|entry| {
            entry.asked.text != *text
                && entry.asked.filter.share.is_none()
                && entry.asked.qos.is_acknowledged()
                && entry.asked.filter.filter == *filter
        })
    }

    /// How something that was kept goes out; `None` if it does not.
    pub(crate) fn how_kept(&mut self, event: &Event, session: &Session) -> Option<How> {
        let own = event.origin == Some(session.id());
        let is_message = event.kind == EventKind::Message;
        let seq = event.version.as_ref().map_or(0, |version| version.seq);
        let verdicts = if self.any_query {
            self.judge_all(None, event, own)
        } else {
            Verdicts::default()
        };
        let how = self.matching(event, map::qos(event), verdicts.wanted, |entry| {
            // What a first state has told is not told again.
            let is_new = is_message || seq > entry.state_of;
            is_new && entry.takes(own) && verdicts.takes(entry)
        });
        let how = how.filter(|how| how.qos.is_acknowledged());
        if how.is_none() {
            self.holds_still(&verdicts, event);
        }
        how
    }

    /// What is not told to go may still be held.
    fn holds_still(&mut self, verdicts: &Verdicts, event: &Event) {
        for (by, verdict) in &verdicts.judged {
            let goes = *verdict == Verdict::Removes
                || *verdict == Verdict::Tells && event.kind == EventKind::Delete;
            if goes {
                self.held.insert(*by, &event.path, self.held_max);
            }
        }
    }

    /// In which shape an event goes out.
    pub(crate) fn shape_of(&self, event: &Event) -> Shape {
        let how = self.matching(event, Qos::ExactlyOnce, Verdict::Tells, |_| true);
        how.map_or(Shape::AsItIs, |how| how.shape)
    }

    /// Has the first state of a subscription told once more, by a watch beside its own: what its own is told meanwhile
    /// is not disturbed.
    fn tell_again(
        &mut self,
        of: WatchId,
        spec: WatchSpec,
        session: &mut Session,
        database: &Database,
    ) {
        if self.again.len() >= AGAIN_MAX {
            let (oldest, _) = self.again.remove(0);
            self.first.retain(|first| first.watch != oldest);
            session.unwatch(oldest);
        }
        let Ok(watch) = session.watch(spec, Start::State) else {
            return;
        };
        self.again.push((watch, of));
        self.first.push(First {
            watch,
            until: newest(database),
            retain: true,
        });
    }

    /// Ends a subscription; `false` if there is none of that filter.
    pub(crate) fn remove(&mut self, text: &Text, session: &mut Session) -> bool {
        let Some(at) = self.all.iter().position(|entry| entry.asked.text == *text) else {
            return false;
        };
        let entry = self.all.remove(at);
        self.index.remove(&entry.asked.filter.filter, &entry.watch);
        session.unwatch(entry.watch);
        self.held.end(entry.watch);
        self.first.retain(|first| first.watch != entry.watch);
        let again = self.again.extract_if(.., |(_, of)| *of == entry.watch);
        for (watch, _) in again.collect::<Vec<_>>() {
            self.first.retain(|first| first.watch != watch);
            session.unwatch(watch);
        }
        true
    }

    /// How an event goes out; `None` if it does not. It came by this watch, but once for all that match.
    pub(crate) fn how(
        &mut self,
        watch: WatchId,
        event: &Arc<Event>,
        session: &mut Session,
        database: &Database,
    ) -> Option<How> {
        match event.kind {
            EventKind::Reset => {
                self.begins_again(watch, database);
                return None;
            }
            EventKind::Put | EventKind::Delete | EventKind::Message => {}
            EventKind::Patch | EventKind::Gap { .. } => return None,
        }
        let published = map::qos(event);
        if event.kind != EventKind::Message
            && let Some(retain) = self.is_first(watch, event)
        {
            let owner = self.owner(watch);
            let how = self.first(owner, event, published, retain);
            if let Some(version) = &event.version {
                if let Some(entry) = self.entry_mut(owner) {
                    entry.state_of = version.seq;
                }
                self.has_told_again(watch, session);
            }
            return how;
        }
        if event.kind != EventKind::Message
            && let Some(entry) = self.entry_mut(watch)
        {
            entry.told_first_only = false;
        }
        let own = event.origin == Some(session.id());
        self.live(watch, event, published, own)
    }

    /// How an event of a subscription's first state goes out.
    fn first(&mut self, by: WatchId, event: &Event, published: Qos, retain: bool) -> Option<How> {
        let verdict = self.judge(by, event);
        let entry = self.entry_mut(by)?;
        entry.told_first_only |= retain && verdict == Verdict::Tells;
        let how = How {
            qos: published.min(entry.asked.qos),
            retain: retain && verdict == Verdict::Tells,
            ids: entry.id.map_or(SubscriptionIds::None, SubscriptionIds::One),
            first: true,
            shape: Shape::AsItIs,
        };
        let accept = entry.asked.accept;
        let shape = self.shape(accept, &event.path, verdict)?;
        Some(How { shape, ..how })
    }

    /// What a subscription's query makes of an event; what it has told is remembered.
    fn judge(&mut self, by: WatchId, event: &Event) -> Verdict {
        let Some(query) = self.entry(by).and_then(|entry| entry.query.as_deref()) else {
            return Verdict::Tells;
        };
        let matches = match event.value() {
            EventValue::Value(value) => query.matches(value),
            EventValue::Absent | EventValue::Entries(_) => false,
        };
        match event.kind {
            EventKind::Message if matches => Verdict::Tells,
            EventKind::Message => Verdict::Skips,
            _ if matches => {
                self.held.insert(by, &event.path, self.held_max);
                Verdict::Tells
            }
            _ if !self.held.remove(by, &event.path, self.held_max) => Verdict::Skips,
            EventKind::Delete => Verdict::Tells,
            _ => Verdict::Removes,
        }
    }

    /// What the queries of all subscriptions that match make of an event. The others tell it as it is.
    fn judge_all(&mut self, watch: Option<WatchId>, event: &Event, is_own: bool) -> Verdicts {
        let mut matching = Vec::new();
        let mut each = |entry: &Entry| {
            matching.push((entry.watch, entry.query.is_some(), entry.takes(is_own)));
        };
        match watch.and_then(|watch| self.entry(watch)) {
            // What a group is told is one member's, and no query's.
            Some(entry) if entry.asked.filter.share.is_some() => return Verdicts::default(),
            Some(entry) if self.all.len() == 1 => each(entry),
            _ => self.for_each_match(&event.path, each),
        }
        let mut verdicts = Verdicts {
            judged: Vec::new(),
            wanted: Verdict::Removes,
        };
        for (by, is_query, takes) in matching {
            let verdict = if is_query {
                let verdict = self.judge(by, event);
                verdicts.judged.push((by, verdict));
                verdict
            } else {
                Verdict::Tells
            };
            if takes && verdict == Verdict::Tells {
                verdicts.wanted = Verdict::Tells;
            }
        }
        verdicts
    }

    /// The watch of the subscription that a watch belongs to.
    fn owner(&self, watch: WatchId) -> WatchId {
        let again = self.again.iter().find(|(again, _)| *again == watch);
        again.map_or(watch, |(_, of)| *of)
    }

    /// Ends a watch that was there for its first state only.
    fn has_told_again(&mut self, watch: WatchId, session: &mut Session) {
        if let Some(at) = self.again.iter().position(|(again, _)| *again == watch) {
            self.again.swap_remove(at);
            session.unwatch(watch);
        }
    }

    fn live(&mut self, watch: WatchId, event: &Event, published: Qos, is_own: bool) -> Option<How> {
        let retained = map::is_retained(event);
        let verdicts = if self.any_query {
            self.judge_all(Some(watch), event, is_own)
        } else {
            Verdicts::default()
        };
        let takes = |entry: &Entry| entry.takes(is_own) && verdicts.takes(entry);
        let verdict = verdicts.wanted;
        if let Some(entry) = self.entry(watch)
            && (entry.asked.filter.share.is_some() || self.all.len() == 1)
        {
            if !takes(entry) {
                return None;
            }
            return Some(How {
                qos: published.min(entry.asked.qos),
                retain: retained && entry.asked.retain_as_published,
                ids: entry.id.map_or(SubscriptionIds::None, SubscriptionIds::One),
                first: false,
                shape: self.shape(entry.asked.accept, &event.path, verdict)?,
            });
        }
        self.matching(event, published, verdict, takes)
    }

    /// How an event goes out by all subscriptions that match and are not shared.
    fn matching(
        &self,
        event: &Event,
        published: Qos,
        verdict: Verdict,
        takes: impl Fn(&Entry) -> bool,
    ) -> Option<How> {
        let retained = map::is_retained(event);
        let mut longest: Option<&Entry> = None;
        let mut how: Option<How> = None;
        let mut ids = Vec::new();
        self.for_each_match(&event.path, |entry| {
            if !takes(entry) {
                return;
            }
            let qos = published.min(entry.asked.qos);
            let retain = retained && entry.asked.retain_as_published;
            ids.extend(entry.id);
            let closeness = |entry: &Entry| entry.asked.filter.filter.closeness();
            if longest.is_none()
                || self.any_accept
                    && longest.is_some_and(|longest| closeness(entry) > closeness(longest))
            {
                longest = Some(entry);
            }
            let how = how.get_or_insert(How {
                qos,
                retain,
                ids: SubscriptionIds::None,
                first: false,
                shape: Shape::AsItIs,
            });
            how.qos = how.qos.max(qos);
            how.retain |= retain;
        });
        let ids = match *ids {
            [] => SubscriptionIds::None,
            [one] => SubscriptionIds::One(one),
            _ => SubscriptionIds::Many(ids.into()),
        };
        let shape = self.shape(longest?.asked.accept, &event.path, verdict)?;
        how.map(|how| How { ids, shape, ..how })
    }

    /// In which shape an event goes out; none if it does not.
    fn shape(&self, accept: Accept, topic: &Path, verdict: Verdict) -> Option<Shape> {
        match verdict {
            Verdict::Tells => {
                let format = self.preferred.format(accept, topic);
                Some(format.map_or(Shape::AsItIs, Shape::Data))
            }
            Verdict::Removes => Some(Shape::Removal),
            Verdict::Skips => None,
        }
    }

    /// The subscriptions whose filter matches and is not shared.
    fn for_each_match<'a>(&'a self, path: &Path, mut each: impl FnMut(&'a Entry)) {
        if self.all.len() <= INDEXED {
            let plain = self
                .all
                .iter()
                .filter(|entry| entry.asked.filter.share.is_none());
            plain
                .filter(|entry| entry.asked.filter.filter.matches(path))
                .for_each(each);
            return;
        }
        self.index.for_each_match(path, |watch| {
            if let Some(entry) = self.entry(*watch) {
                each(entry);
            }
        });
    }

    fn entry(&self, watch: WatchId) -> Option<&Entry> {
        let at = self
            .all
            .binary_search_by_key(&watch, |entry| entry.watch)
            .ok()?;
        self.all.get(at)
    }

    fn entry_mut(&mut self, watch: WatchId) -> Option<&mut Entry> {
        let at = self
            .all
            .binary_search_by_key(&watch, |entry| entry.watch)
            .ok()?;
        self.all.get_mut(at)
    }

    /// Whether an event belongs to a first state; then, whether it goes out as such. The last one of a first state bears
    /// its commit.
    fn is_first(&mut self, watch: WatchId, event: &Event) -> Option<bool> {
        let at = self.first.iter().position(|first| first.watch == watch)?;
        let first = self.first.get(at)?;
        let (until, retain) = (first.until, first.retain);
        let Some(version) = &event.version else {
            return Some(retain);
        };
        self.first.swap_remove(at);
        (version.seq <= until).then_some(retain)
    }

    /// A watch tells its state once more: because its client was slow, or because its first state was old by the time that it
    /// was told. Then it still is one, unless it was empty: what it tells now is new.
    fn begins_again(&mut self, watch: WatchId, database: &Database) {
        self.first.retain(|first| first.watch != watch);
        let entry = self.entry(self.owner(watch));
        let retain = entry.is_some_and(|entry| entry.told_first_only);
        self.first.push(First {
            watch,
            until: newest(database),
            retain,
        });
    }
}

/// What a query makes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Verdict {
    /// It matches, or goes while the client holds it.
    #[default]
    Tells,
    /// It matched before, as far as is known, and does no longer.
    Removes,
    /// It does not match, and did not.
    Skips,
}

/// What the queries of several subscriptions make of an event.
#[derive(Debug, Default)]
struct Verdicts {
    judged: Vec<(WatchId, Verdict)>,
    /// What is told in the end: where any tells it as it is, the others say nothing.
    wanted: Verdict,
}

impl Verdicts {
    fn takes(&self, entry: &Entry) -> bool {
        let verdict = self.judged.iter().find(|(by, _)| *by == entry.watch);
        verdict.map_or(Verdict::Tells, |(_, verdict)| *verdict) == self.wanted
    }
}

/// What a subscription's query says.
fn query_of(asked: &Subscription, limits: &QueryLimits) -> Result<Option<Box<Query>>, NotTaken> {
    let refused = |words: String| NotTaken {
        reason: ReasonCode::ImplementationSpecificError,
        words: Text::new(&words).ok(),
    };
    let Some(text) = &asked.query else {
        return Ok(None);
    };
    if asked.filter.share.is_some() {
        return Err(refused("query: not in a shared subscription".to_owned()));
    }
    match Query::parse(text.as_str(), limits) {
        Ok(query) => Ok(Some(Box::new(query))),
        Err(error) => {
            match error.kind {
                QueryErrorKind::TooLong(_) => Limits::met("mqtt.query_bytes_max"),
                QueryErrorKind::TooMany(_) => Limits::met("mqtt.query_terms_max"),
                _ => {}
            }
            Err(refused(format!("query: {error}")))
        }
    }
}

fn granted(qos: Qos) -> ReasonCode {
    match qos {
        Qos::AtMostOnce => ReasonCode::Success,
        Qos::AtLeastOnce => ReasonCode::GrantedQos1,
        Qos::ExactlyOnce => ReasonCode::GrantedQos2,
    }
}

/// What a new subscription watches, and from where on (3.3.1-9 to 3.3.1-11; 4.8.2-5 for shared ones).
fn watch_of(asked: &Subscription) -> (WatchSpec, Start) {
    let filter = asked.filter.filter.clone();
    match &asked.filter.share {
        Some(name) => (
            WatchSpec::Group {
                name: (&**name).into(),
                filter,
            },
            Start::Now,
        ),
        None if asked.retain_handling == RetainHandling::DoNotSend => {
            (WatchSpec::Topic(filter), Start::Now)
        }
        None => (WatchSpec::Topic(filter), Start::State),
    }
}

fn watch(spec: &WatchSpec, start: &Start, session: &mut Session) -> Result<WatchId, ReasonCode> {
    session
        .watch(spec.clone(), start.clone())
        .map_err(|error| match error {
            WatchError::Denied => ReasonCode::NotAuthorized,
            WatchError::TooMany { .. } => ReasonCode::QuotaExceeded,
            _ => ReasonCode::UnspecifiedError,
        })
}

/// The newest commit. A first state that was asked for before is of this one, or an older one.
fn newest(database: &Database) -> u64 {
    let reading = database.read(&Claims::anonymous(), &Path::root());
    reading.map_or(u64::MAX, |reading| reading.version().seq)
}

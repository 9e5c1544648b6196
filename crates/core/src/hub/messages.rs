//! What is said to paths, told to those who listen.

use std::collections::HashSet;
use std::sync::Arc;

use sapwood_tree::Path;
use tokio::sync::oneshot;

use super::Hub;
use super::index::Watcher;
use crate::durable::DurableId;
use crate::event::{Body, Event, EventKind};
use crate::lease::Effect;
use crate::message::Message;
use crate::outbox::{Outbox, Weighed};
use crate::session::{Outcome, SessionId};
use crate::write::WriteError;

/// Messages of one sender, in order.
pub(crate) struct Batch {
    pub(crate) said: Vec<Said>,
    pub(crate) origin: Option<SessionId>,
    /// The durable session that says them.
    pub(crate) durable: Option<DurableId>,
    /// What changes with them.
    pub(crate) effects: Vec<Effect>,
    pub(crate) reply: MessageReply,
}

/// A message on its way.
pub(crate) struct Said {
    pub(crate) path: Path,
    pub(crate) message: Arc<Message>,
    /// What it is answered by.
    pub(crate) tag: u64,
    /// Its number, if it is kept for durable sessions: they receive it, then or later.
    pub(crate) kept: Option<u64>,
}

pub(crate) enum MessageReply {
    Session {
        outbox: Arc<Outbox>,
        /// They came behind the session's writes.
        committed: bool,
    },
    Caller(oneshot::Sender<u64>),
    Nobody,
}

impl MessageReply {
    fn answer(&self, run: &[Said], receivers: u64) {
        let kept = run.iter().any(|said| said.kept.is_some());
        let receivers = receivers.max(u64::from(kept));
        if let Self::Session { outbox, .. } = self {
            outbox.published(run.iter().map(|said| said.tag), receivers);
        }
    }
}

impl Batch {
    /// Answers each of them with an error; nobody is told any.
    pub(crate) fn refuse(self, error: &WriteError) {
        if let MessageReply::Session { outbox, committed } = self.reply {
            outbox.committed(usize::from(committed));
            for said in self.said {
                outbox.answer(said.tag, Outcome::Written(Err(error.clone())));
            }
        }
    }
}

impl Hub {
    /// Delivers messages; the sender learns how many sessions had each.
    pub(super) fn publish(&mut self, batch: Batch) {
        let Batch {
            said,
            origin,
            reply,
            ..
        } = batch;
        let mut receivers = 0;
        // Of messages to one topic each watch is told all at once.
        for run in said.chunk_by(|one, next| one.path == next.path) {
            if let Some(told) = self.tell_run(run, origin) {
                receivers = told;
                reply.answer(run, told);
                continue;
            }
            for one in run {
                receivers = self.tell_message(one, origin);
                receivers = receivers.max(u64::from(one.kept.is_some()));
                reply.answer(std::slice::from_ref(one), receivers);
            }
        }
        match reply {
            MessageReply::Session { outbox, committed } => {
                outbox.committed(usize::from(committed));
            }
            MessageReply::Caller(sender) => {
                sender.send(receivers).ok();
            }
            MessageReply::Nobody => {}
        }
    }

    /// Tells messages to one topic together, if only plain watches of topics listen to it: each is told the same then.
    fn tell_run(&mut self, run: &[Said], origin: Option<SessionId>) -> Option<u64> {
        let (first, _) = run.split_first().filter(|(_, rest)| !rest.is_empty())?;
        let receivers = self.topics.receivers_of(&first.path);
        if receivers.any_groups() || self.any_paths_above(&first.path) {
            return None;
        }
        let mut events = std::mem::take(&mut self.run);
        events.extend(run.iter().map(|said| Weighed::new(event(said, origin))));
        for watcher in &receivers.watchers {
            let waker = watcher.outbox.push_all(watcher.slot, &events);
            self.wakers.add(waker);
        }
        events.clear();
        self.run = events;
        Some(receivers.watchers.len() as u64)
    }

    fn any_paths_above(&self, path: &Path) -> bool {
        let paths = [&self.trees, &self.children, &self.records];
        paths.iter().any(|index| index.any_at_or_above(path))
    }

    /// Tells all who listen to a path one message; how many sessions these are.
    fn tell_message(&mut self, said: &Said, origin: Option<SessionId>) -> u64 {
        let plain = Weighed::new(event(said, origin));
        let mut others = HashSet::new();
        if self.any_paths_above(&said.path) {
            self.tell_paths(said, &plain, &mut others);
        }
        let heard = self.topics.tell_message(&plain, &mut self.wakers);
        let by_topic = &heard.receivers.watchers;
        others.extend(heard.in_groups);
        if others.is_empty() {
            return by_topic.len() as u64;
        }
        let only_so = by_topic
            .iter()
            .filter(|watcher| !others.contains(&watcher.session));
        (only_so.count() + others.len()) as u64
    }

    fn tell_paths(&mut self, said: &Said, plain: &Weighed, told: &mut HashSet<SessionId>) {
        let path = &said.path;
        let with_id = |id: Option<&str>| match id {
            Some(id) => Weighed::new(event(said, plain.event.origin).with_id(id.into())),
            None => plain.clone(),
        };
        let wakers = &mut self.wakers;
        let mut tell = |watchers: &[Watcher], told_so: &Weighed| {
            for watcher in watchers {
                watcher.tell(&told_so.event, told_so.weight, wakers);
                told.insert(watcher.session);
            }
        };
        for (_, watchers) in self.trees.at_or_above(path) {
            tell(watchers, plain);
        }
        for (above, watchers) in self.children.at_or_above(path) {
            let rest = path.strip_prefix(&above);
            if let Some(child) = rest.as_ref().and_then(|rest| rest.segments().next()) {
                tell(watchers, &with_id(Some(child)));
            }
        }
        for (above, watchers) in self.records.at_or_above(path) {
            tell(watchers, &with_id(above.last()));
        }
    }
}

fn event(said: &Said, origin: Option<SessionId>) -> Event {
    let body = Body::Message(Arc::clone(&said.message));
    let mut event =
        Event::new(EventKind::Message, said.path.clone(), None, body).with_origin(origin);
    event.kept = said.kept;
    event
}

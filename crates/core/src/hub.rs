//! The hub: finds the watches that a commit touches, and hands each of their sessions a shared event.
//!
//! One thread for each database, which others step in for where it rests: who says a message then tells it, so that at a low
//! rate no thread is woken but those that write it out. It never reads the store but through the views that come with the commits, never waits for a
//! client, and never blocks the committer but by a full queue.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use sapwood_store::rows::View;
use sapwood_tree::RowChanges;
use tokio::sync::oneshot;

use crate::LogId;
use crate::commit::Commit;
use crate::event::Event;
use crate::outbox::{Outbox, Slot, Weighed};
use crate::queue::Queue;
use crate::session::{Outcome, SessionId, WatchSpec};
use crate::settings::Limits;
use crate::tell;

mod deferred;
mod fanout;
mod groups;
mod index;
mod messages;
mod topics;
mod wakers;

use deferred::Deferred;
use index::{PathIndex, Watcher};
pub(crate) use messages::{Batch, MessageReply, Said};
use topics::Topics;
use wakers::Wakers;

/// How many requests may wait for the hub. When as many do, the committer waits: it must not run ahead of those who are told.
const REQUESTS_MAX: usize = 1024;

/// How many requests more, if they are there already, are told before anybody is woken.
const BATCH_MAX: usize = 64;

/// How long the hub naps before it looks for commits that nobody watches, and how large a group of them is left waiting.
const NAP: Duration = Duration::from_millis(20);
const LAZY_BYTES: usize = 64 << 10;

/// A commit with the rows that it changed.
pub(crate) struct Applied {
    pub(crate) commit: Arc<Commit>,
    pub(crate) changes: RowChanges,
}

/// A commit with the states before and after it.
struct Published {
    commit: Arc<Commit>,
    before: View,
    after: View,
}

pub(crate) enum HubRequest {
    /// Commits, in order, and the answers that come behind them.
    Group {
        commits: Vec<Applied>,
        /// The state after the last of them, where it is at hand.
        view: Option<View>,
        answers: Vec<(Arc<Outbox>, u64, Outcome)>,
    },
    /// An answer to be put behind the events up to a commit.
    Answer {
        behind: u64,
        outbox: Arc<Outbox>,
        tag: u64,
        outcome: Outcome,
    },
    /// A watch that is told messages, and changes from the commit after `from` on.
    Listen {
        spec: WatchSpec,
        session: SessionId,
        slot: Slot,
        outbox: Arc<Outbox>,
        from: u64,
    },
    /// A watch that has been told everything up to a commit.
    Join {
        join: Join,
        reply: oneshot::Sender<JoinReply>,
    },
    /// A watch that ends.
    Leave {
        spec: WatchSpec,
        session: SessionId,
        slot: Slot,
        /// What it was told for a group, and has not taken.
        left: Vec<Arc<Event>>,
    },
    /// Messages.
    Publish(Batch),
    /// There are sessions to wake.
    Wake,
    /// Nothing comes after this.
    Stop,
}

/// A watch that wants to go on from a commit.
pub(crate) struct Join {
    pub(crate) spec: WatchSpec,
    pub(crate) session: SessionId,
    pub(crate) slot: Slot,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) from: u64,
    /// Of the first commit after `from`, the parts up to this one have been told.
    pub(crate) skip: Option<u32>,
    /// The state as of `from`, for a watch of topics: what a commit says to it depends on what was there before.
    pub(crate) view: Option<View>,
}

/// What became of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JoinReply {
    /// From here on, everything comes by itself.
    Joined,
    /// The hub does not remember as far back: the change log does.
    Behind,
    /// What happened since can't be told to this kind of watch: it begins again.
    Restart,
}

/// The way to a hub.
#[derive(Clone)]
pub(crate) struct HubHandle {
    requests: Arc<Queue<HubRequest>>,
    shared: Arc<Shared>,
    /// Locked while it is at work.
    hub: Arc<Mutex<Hub>>,
}

/// What the hub lets others see.
struct Shared {
    /// The newest commit whose events are all in the outboxes.
    passed: AtomicU64,
    /// Whether anything is watched.
    watched: AtomicBool,
}

impl HubHandle {
    /// Hands the hub a request; waits while its queue is full. After the hub has stopped, nobody is there to be told anything.
    pub(crate) fn tell(&self, request: HubRequest) {
        drop(if self.can_wait(&request) {
            self.requests.push_lazily(request)
        } else {
            self.requests.push(request)
        });
    }

    /// Tells messages, at once and on this thread where the hub rests: so at a low rate no thread is woken for them but the
    /// receivers'. Else they take their turn.
    pub(crate) fn publish(&self, batch: Batch) {
        // Where something waits for it, the message goes behind that: its session may have said it before.
        let Some(mut hub) = self.hub.try_lock().filter(|hub| hub.rests()) else {
            return self.tell(HubRequest::Publish(batch));
        };
        let leaves_some = hub.publish_now(batch);
        drop(hub);
        if leaves_some {
            self.tell(HubRequest::Wake);
        }
    }

    /// Commits that nobody watches and nobody waits for need not wake the hub one by one.
    fn can_wait(&self, request: &HubRequest) -> bool {
        match request {
            HubRequest::Group {
                commits, answers, ..
            } => {
                answers.is_empty()
                    && !self.shared.watched.load(Ordering::Acquire)
                    && commits
                        .iter()
                        .map(|applied| applied.commit.weight)
                        .sum::<usize>()
                        < LAZY_BYTES
            }
            _ => false,
        }
    }

    /// The newest commit whose events are all in the outboxes. While nothing is watched it may stay a little behind.
    pub(crate) fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::Acquire)
    }
}

pub(crate) struct HubSettings {
    pub(crate) log: LogId,
    pub(crate) limits: Limits,
    pub(crate) recent_bytes: usize,
}

/// Makes a hub that goes on from the state `view`.
pub(crate) fn hub(view: View, settings: HubSettings) -> HubHandle {
    let requests = Arc::new(Queue::bounded(REQUESTS_MAX));
    let shared = Arc::new(Shared {
        passed: AtomicU64::new(view.seq()),
        watched: AtomicBool::new(false),
    });
    let hub = Hub {
        requests: Arc::clone(&requests),
        taken: Vec::new(),
        at_hand: VecDeque::new(),
        processed: view.seq(),
        shared: Arc::clone(&shared),
        view,
        recent: VecDeque::new(),
        recent_weight: 0,
        behind: Vec::new(),
        trees: PathIndex::default(),
        children: PathIndex::default(),
        records: PathIndex::default(),
        topics: Topics::default(),
        wakers: Wakers::new(),
        run: Vec::new(),
        told_since: 0,
        deferred: Deferred::new(
            settings.limits.record_bytes_max,
            settings.limits.value_bytes_max,
        ),
        settings,
    };
    HubHandle {
        requests,
        shared,
        hub: Arc::new(Mutex::new(hub)),
    }
}

pub(crate) struct Hub {
    requests: Arc<Queue<HubRequest>>,
    /// Requests on their way from there to `at_hand`; empty but for a moment.
    taken: Vec<HubRequest>,
    at_hand: VecDeque<HubRequest>,
    settings: HubSettings,
    /// The newest commit that everybody has been told.
    processed: u64,
    shared: Arc<Shared>,
    /// The state as of that commit.
    view: View,
    /// The newest commits, bounded in bytes, for watches that join a little late.
    recent: VecDeque<Applied>,
    recent_weight: usize,
    /// Answers that wait for commits still on their way.
    behind: Vec<(u64, Arc<Outbox>, u64, Outcome)>,
    trees: PathIndex,
    children: PathIndex,
    records: PathIndex,
    topics: Topics,
    deferred: Deferred,
    wakers: Wakers,
    /// Events that are told together; empty but for a moment.
    run: Vec<Weighed>,
    /// How many requests were handled since sessions were last woken.
    told_since: usize,
}

impl HubHandle {
    /// Runs the hub until it is told to stop.
    pub(crate) fn run(self) {
        let mut hub = self.hub.lock();
        while let Some(request) = Hub::next(&mut hub) {
            hub.handle(request);
        }
        hub.wakers.wake_all();
    }
}

impl Hub {
    /// Whether nothing waits for it, and nobody for being woken.
    fn rests(&self) -> bool {
        self.at_hand.is_empty() && self.wakers.is_empty() && self.requests.is_empty()
    }

    /// Tells messages, and wakes who hears them; whether somebody is left to be woken.
    fn publish_now(&mut self, batch: Batch) -> bool {
        self.publish(batch);
        self.wakers.wake_some().is_some()
    }

    /// Waits for the next request; wakes meanwhile who has been told something, and tells what is due. `None` at the end.
    fn next(this: &mut MutexGuard<'_, Self>) -> Option<HubRequest> {
        // What is at hand is told before anybody is woken, unless it never ends.
        let mut calm = this.told_since == 0;
        loop {
            if this.told_since >= BATCH_MAX {
                this.told_since = 0;
                this.wakers.wake_some();
            }
            if let Some(request) = this.at_hand.pop_front() {
                this.told_since += 1;
                return (!matches!(request, HubRequest::Stop)).then_some(request);
            }
            if Self::take(this, Some(Duration::ZERO))? {
                continue;
            }
            this.told_since = 0;
            let due = this.deferred.due_in();
            if due == Some(Duration::ZERO) {
                this.tell_deferred();
            }
            let waits = [this.wakers.wake_some(), due, (!calm).then_some(NAP)];
            calm = !Self::take(this, waits.into_iter().flatten().min())?;
        }
    }

    /// Takes what waits; whether there was anything. `None` at the end.
    fn take(this: &mut MutexGuard<'_, Self>, timeout: Option<Duration>) -> Option<bool> {
        if timeout != Some(Duration::ZERO) {
            let requests = Arc::clone(&this.requests);
            // Meanwhile others may tell messages. What waits is left where it is, so that they see it and go behind it.
            MutexGuard::unlocked(this, || requests.wait(timeout));
        }
        let hub = &mut **this;
        let open = hub.requests.take(&mut hub.taken, Some(Duration::ZERO));
        let any = !hub.taken.is_empty();
        hub.at_hand.extend(hub.taken.drain(..));
        open.then_some(any)
    }

    fn handle(&mut self, request: HubRequest) {
        match request {
            HubRequest::Group {
                commits,
                view,
                answers,
            } => {
                self.pass(commits, view);
                for (outbox, tag, outcome) in answers {
                    outbox.committed(1);
                    outbox.answer(tag, outcome);
                }
            }
            HubRequest::Answer {
                behind,
                outbox,
                tag,
                outcome,
            } => {
                if behind <= self.processed {
                    outbox.answer(tag, outcome);
                } else {
                    self.behind.push((behind, outbox, tag, outcome));
                }
            }
            HubRequest::Listen {
                spec,
                session,
                slot,
                outbox,
                from,
            } => self.register(
                spec,
                Watcher {
                    session,
                    slot,
                    outbox,
                    from,
                },
            ),
            HubRequest::Join { join, reply } => {
                // Whoever asked may have gone: then it leaves right away, by the same queue.
                reply.send(self.join(join)).ok();
            }
            HubRequest::Leave {
                spec,
                session,
                slot,
                left,
            } => self.leave(&spec, session, slot, &left),
            HubRequest::Publish(batch) => self.publish(batch),
            HubRequest::Wake | HubRequest::Stop => {}
        }
    }

    /// Tells commits to those whom they touch, and remembers them.
    fn pass(&mut self, commits: Vec<Applied>, view: Option<View>) {
        let view = if self.is_watched() || view.is_none() {
            let published = self.states_of(&commits);
            // A bug in telling must not leave anybody with half of it: all begin again.
            if catch_unwind(AssertUnwindSafe(|| self.fan_out(&published))).is_err() {
                metrics::counter!("sapwood_panics_total").increment(1);
                tracing::error!("telling commits panicked; all watches begin again");
                self.lose_all();
            }
            view.or_else(|| published.last().map(|last| last.after.clone()))
        } else {
            view
        };
        if let Some(view) = view {
            self.view = view;
        }
        commits
            .into_iter()
            .for_each(|applied| self.remember(applied));
        self.shared.passed.store(self.processed, Ordering::Release);
        self.answer_those_behind();
    }

    /// The states between commits are made here and not by the committer: most commits touch nobody, and all wait for it.
    fn states_of(&self, commits: &[Applied]) -> Vec<Published> {
        states_from(self.view.clone(), commits.iter())
    }

    fn is_watched(&self) -> bool {
        let paths = [&self.trees, &self.children, &self.records];
        paths.iter().any(|index| !index.is_empty()) || !self.topics.is_empty()
    }

    fn lose_all(&self) {
        for index in [&self.trees, &self.children, &self.records] {
            index.for_each(Watcher::lose);
        }
        self.topics.for_each(Watcher::lose);
    }

    fn remember(&mut self, applied: Applied) {
        self.processed = applied.commit.seq;
        self.recent_weight += applied.commit.weight;
        self.recent.push_back(applied);
        while self.recent_weight > self.settings.recent_bytes {
            let Some(oldest) = self.recent.pop_front() else {
                break;
            };
            self.recent_weight -= oldest.commit.weight;
        }
    }

    fn answer_those_behind(&mut self) {
        let processed = self.processed;
        for (_, outbox, tag, outcome) in self
            .behind
            .extract_if(.., |(behind, ..)| *behind <= processed)
        {
            outbox.answer(tag, outcome);
        }
    }

    fn join(&mut self, join: Join) -> JoinReply {
        let watcher = Watcher {
            session: join.session,
            slot: join.slot,
            outbox: join.outbox,
            from: join.from,
        };
        if join.skip.is_some() && join.from >= self.processed {
            // The commit that it has a part of is still on its way here; it is in the log already.
            return JoinReply::Behind;
        }
        watcher.outbox.hear(join.slot);
        if join.from < self.processed {
            let first = self
                .recent
                .front()
                .map_or(self.processed + 1, |applied| applied.commit.seq);
            // The change log says nothing to a watch of topics, so it is told all that is remembered.
            let is_far = join.view.is_none() && self.is_far_behind(join.from);
            if join.from + 1 < first || is_far {
                return JoinReply::Behind;
            }
            if !self.catch_up(&join.spec, &watcher, join.skip, join.view) {
                return JoinReply::Restart;
            }
        }
        self.register(join.spec, watcher);
        JoinReply::Joined
    }

    /// Whether what a watch has missed would fill a good part of its outbox: then it reads the change log, as fast as its client takes it.
    fn is_far_behind(&self, from: u64) -> bool {
        let limits = &self.settings.limits;
        let missed = self
            .recent
            .iter()
            .rev()
            .map(|applied| &applied.commit)
            .take_while(|commit| commit.seq > from);
        let (count, bytes) = missed.fold((0, 0), |(count, bytes), commit| {
            (count + 1, bytes + commit.weight)
        });
        count > limits.outbox_events_max / 4 || bytes > limits.outbox_bytes_max / 4
    }

    fn register(&mut self, spec: WatchSpec, watcher: Watcher) {
        match spec {
            WatchSpec::Tree(path) => self.trees.insert(path, watcher),
            WatchSpec::Children(path) => self.children.insert(path, watcher),
            WatchSpec::Record(path) => self.records.insert(path, watcher),
            WatchSpec::Topic(filter) => self.topics.insert(&filter, watcher),
            WatchSpec::Group { name, filter } => self.topics.join(&name, &filter, watcher),
        }
        self.shared.watched.store(true, Ordering::Release);
    }

    /// Tells a watch the commits between its own and the newest; `false` where that can't be told.
    fn catch_up(
        &mut self,
        spec: &WatchSpec,
        watcher: &Watcher,
        skip: Option<u32>,
        view: Option<View>,
    ) -> bool {
        let behind = self
            .recent
            .partition_point(|applied| applied.commit.seq <= watcher.from);
        let missed = || self.recent.range(behind..).map(|applied| &applied.commit);
        match spec {
            WatchSpec::Tree(path) => {
                for commit in missed() {
                    let skip = skip.filter(|_| commit.seq == watcher.from + 1);
                    for event in
                        tell::replay_tree(commit, self.settings.log, path, &self.view, skip)
                    {
                        watcher.tell(&event, event.weight(), &mut self.wakers);
                    }
                }
                true
            }
            WatchSpec::Children(path) => {
                let skip = skip.map(|part| (watcher.from + 1, part));
                crate::watch::replay_children(missed(), path, &self.view, self.settings.log, skip)
            }
            .is_some_and(|events| {
                events
                    .iter()
                    .for_each(|event| watcher.tell(event, event.weight(), &mut self.wakers));
                true
            }),
            WatchSpec::Record(path) => {
                if let Some(event) =
                    crate::watch::replay_record(missed(), path, &self.view, self.settings.log)
                {
                    watcher.tell(&event, event.weight(), &mut self.wakers);
                }
                true
            }
            WatchSpec::Topic(filter) => view.is_some_and(|view| {
                let missed = states_from(view, self.recent.range(behind..));
                let mut only = Topics::default();
                only.insert(filter, watcher.clone());
                only.tell(
                    &missed,
                    self.settings.log,
                    &mut self.deferred,
                    &mut self.wakers,
                );
                true
            }),
            WatchSpec::Group { .. } => false,
        }
    }

    fn leave(&mut self, spec: &WatchSpec, session: SessionId, slot: Slot, left: &[Arc<Event>]) {
        match spec {
            WatchSpec::Tree(path) => self.trees.remove(path, session, slot),
            WatchSpec::Children(path) => self.children.remove(path, session, slot),
            WatchSpec::Record(path) => self.records.remove(path, session, slot),
            WatchSpec::Topic(filter) => self.topics.remove(filter, session, slot),
            WatchSpec::Group { name, filter } => {
                let member = (session, slot);
                self.topics
                    .leave((name, filter), member, left, &mut self.wakers);
            }
        }
        self.shared
            .watched
            .store(self.is_watched(), Ordering::Release);
    }
}

/// Commits with the states between them, the first of which is `before`.
fn states_from<'a>(mut before: View, commits: impl Iterator<Item = &'a Applied>) -> Vec<Published> {
    let state = |Applied { commit, changes }: &Applied| {
        let after = before.after(commit.seq, changes);
        Published {
            commit: Arc::clone(commit),
            before: std::mem::replace(&mut before, after.clone()),
            after,
        }
    };
    commits.map(state).collect()
}

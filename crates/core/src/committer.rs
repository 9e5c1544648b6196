//! The committer: the one order of a database's writes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use sapwood_store::log::{AppendError, CommitLog, CommitSeq, Retention};
use sapwood_store::rows::{PersistError, RowStore, View, Working};
use sapwood_tree::{OpKind, Path, Settings};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::clock::Clock;
use crate::commit::{self, Context, Decided};
use crate::durable::{self, DurableChange, DurableId, Durables, Kept, What};
use crate::gate::{Claims, Gate};
use crate::hub::{Applied, Batch, HubHandle, HubRequest, MessageReply, Said};
use crate::lease::{self, Effect};
use crate::message::Message;
use crate::outbox::Outbox;
use crate::queue::Queue;
use crate::session::{Outcome, SessionId};
use crate::settings::LogSettings;
use crate::write::{AtEnd, Committed, Write, WriteError, WriteOp};
use crate::{LogId, Version, codec};

/// A group is closed when its entries come to so many bytes, so that a flush stays short.
const GROUP_BYTES: usize = 8 << 20;

/// How often what is kept for durable sessions is looked through, and for how long.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
const SWEEP_BUDGET: Duration = Duration::from_millis(2);

/// How often the log's old segments are looked at.
const RETAIN_EVERY: Duration = Duration::from_secs(5);
/// And while there are more to go: one look drops only a few.
const RETAIN_AGAIN: Duration = Duration::from_millis(250);

/// Something for the committer, in the order in which it came.
pub(crate) enum Request {
    Write {
        claims: Claims,
        session: Option<SessionId>,
        /// The durable session that asks.
        durable: Option<DurableId>,
        write: Write,
        effects: Vec<Effect>,
        reply: Reply,
        /// Room in the queue, given back when the request is done.
        permit: Option<OwnedSemaphorePermit>,
    },
    /// Messages that have writes ahead of them, or are kept for somebody.
    Publish(Batch),
    /// A session ends: what it left is done, what it owned goes.
    EndSession {
        session: SessionId,
        claims: Claims,
        done: oneshot::Sender<()>,
    },
}

/// Who is answered.
pub(crate) enum Reply {
    Caller(oneshot::Sender<Result<Committed, WriteError>>),
    Session { outbox: Arc<Outbox>, tag: u64 },
    Nobody,
}

pub(crate) struct Committer {
    pub(crate) queue: Arc<Queue<Request>>,
    pub(crate) log: Box<dyn CommitLog>,
    pub(crate) store: RowStore,
    pub(crate) hub: HubHandle,
    pub(crate) gate: Gate,
    pub(crate) tree: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) retention: LogSettings,
    pub(crate) status: Arc<Status>,
    pub(crate) any_leases: bool,
    pub(crate) next_expiry: Option<u64>,
    /// When the next session ends that nobody ends.
    pub(crate) next_ending: Option<u64>,
    pub(crate) durables: Arc<Durables>,
    /// Where those wait who are answered, once somebody has waited.
    pub(crate) runtime: Arc<OnceLock<Handle>>,
}

/// Whether the database takes writes.
#[derive(Debug, Default)]
pub(crate) struct Status {
    /// The log has failed for good.
    pub(crate) failed: std::sync::atomic::AtomicBool,
    /// The disk is full, or the rows can't be written.
    pub(crate) stalled: std::sync::atomic::AtomicBool,
}

/// A group of commits on its way to the log.
struct Group {
    log: LogId,
    /// The state that the next write is decided on.
    working: Working,
    next: u64,
    entries: Vec<Bytes>,
    entry_bytes: usize,
    steps: Vec<Step>,
    answers: Vec<(Reply, Result<Outcome, WriteError>)>,
    ended: Vec<oneshot::Sender<()>>,
    /// Held until the group is in the log: they are the room of its requests in the queue.
    permits: Vec<OwnedSemaphorePermit>,
}

enum Step {
    Commit(Applied),
    Messages(Batch),
}

impl Committer {
    /// Runs until the queue is closed and empty; then brings everything to the disk.
    pub(crate) fn run(mut self) {
        let mut waiting = Vec::new();
        let (mut retained, mut swept) = (Instant::now(), Instant::now());
        let mut retain_after = RETAIN_EVERY;
        while self.queue.take(&mut waiting, self.wait(retain_after)) {
            if swept.elapsed() >= SWEEP_EVERY {
                // It goes with what else is there to be written.
                waiting.extend(self.sweep());
                swept = Instant::now();
            }
            let mut requests = waiting.drain(..).peekable();
            while requests.peek().is_some() {
                self.commit_group(&mut requests);
            }
            drop(requests);
            self.status.stalled.store(
                self.store.check().is_err(),
                std::sync::atomic::Ordering::Relaxed,
            );
            self.expire();
            if retained.elapsed() >= retain_after {
                retain_after = self.retain();
                retained = Instant::now();
            }
        }
        self.stop();
    }

    /// Commits one group. The order of these steps is the durability argument: do not move them.
    fn commit_group(&mut self, requests: &mut impl Iterator<Item = Request>) {
        let mut group = self.begin();
        for request in requests {
            self.decide(&mut group, request);
            if group.entry_bytes >= GROUP_BYTES {
                break;
            }
        }
        let Group {
            working,
            entries,
            steps,
            answers,
            ended,
            permits,
            ..
        } = group;
        // One flush for all of them.
        let appended = if entries.is_empty() {
            Ok(())
        } else {
            self.log.append(self.log.next(), &entries)
        };
        // Whoever is answered may ask again at once.
        drop(permits);
        match appended {
            Ok(()) => {
                if !entries.is_empty() {
                    let commits = steps.iter().filter_map(|step| match step {
                        Step::Commit(applied) => Some(&*applied.commit),
                        Step::Messages(_) => None,
                    });
                    // Before anybody sees the rows: who goes on from them finds all that was kept until then, and the hub
                    // tells what comes after.
                    self.durables.note(commits);
                    self.store.publish(working);
                }
                // Nobody is told what is not durable.
                self.publish(steps, answers);
            }
            Err(error) => {
                drop(working);
                self.refuse_all(&error, steps, answers);
            }
        }
        // Whoever waits for a session's end may have gone.
        for done in ended {
            done.send(()).ok();
        }
    }

    fn begin(&self) -> Group {
        Group {
            log: self.log.id(),
            working: self.store.begin(),
            next: self.log.next().0,
            entries: Vec::new(),
            entry_bytes: 0,
            steps: Vec::new(),
            answers: Vec::new(),
            ended: Vec::new(),
            permits: Vec::new(),
        }
    }

    fn decide(&mut self, group: &mut Group, request: Request) {
        match request {
            Request::Write {
                claims,
                session,
                durable,
                write,
                effects,
                reply,
                permit,
            } => {
                group.permits.extend(permit);
                let for_session = matches!(reply, Reply::Session { .. });
                let registers = for_session && write.ops.is_empty() && !effects.is_empty();
                let who = (session, durable);
                let decided = self.try_decide(group, &claims, who, write, effects);
                let outcome = decided.map(|committed| {
                    if registers {
                        Outcome::Registered
                    } else {
                        Outcome::Written(Ok(committed))
                    }
                });
                group.answers.push((reply, outcome));
            }
            Request::Publish(batch) => self.say(group, batch),
            Request::EndSession {
                session,
                claims,
                done,
            } => {
                self.end_session(group, session, &claims);
                group.ended.push(done);
            }
        }
    }

    fn try_decide(
        &mut self,
        group: &mut Group,
        claims: &Claims,
        (session, durable): (Option<SessionId>, Option<DurableId>),
        write: Write,
        effects: Vec<Effect>,
    ) -> Result<Committed, WriteError> {
        if self
            .status
            .failed
            .load(std::sync::atomic::Ordering::Relaxed)
        {
            return Err(WriteError::Unavailable);
        }
        self.store.check().map_err(|error| match error {
            PersistError::Full => WriteError::Full,
            error => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the rows take no writes"
                );
                WriteError::Unavailable
            }
        })?;
        let context = Context {
            log: &group.log,
            gate: &self.gate,
            tree: &self.tree,
            seq: group.next,
            now_ms: self.clock.now_ms(),
            any_leases: self.any_leases,
            durables: &self.durables,
            durable,
        };
        // A bug in deciding one write must not take the database down with it.
        let decided = catch_unwind(AssertUnwindSafe(|| {
            commit::decide(
                &context,
                group.working.view(),
                claims,
                session,
                write,
                effects,
            )
        }));
        let Ok(decided) = decided else {
            metrics::counter!("sapwood_panics_total").increment(1);
            tracing::error!("deciding a write panicked; it was refused");
            return Err(WriteError::Unavailable);
        };
        let Decided {
            commit,
            entry,
            changes,
            private,
            outcomes,
        } = decided?;
        self.note_leases(&commit.effects);
        group.working.apply(commit.seq, &changes, &private);
        let committed = Committed {
            version: Version::new(group.log, commit.seq),
            ops: outcomes,
        };
        group.next += 1;
        group.entry_bytes += entry.len();
        group.entries.push(entry);
        group.steps.push(Step::Commit(Applied { commit, changes }));
        Ok(committed)
    }

    /// Messages: in one commit, if somebody has to be told them for sure, or something changes with them.
    fn say(&mut self, group: &mut Group, mut batch: Batch) {
        let mut effects = std::mem::take(&mut batch.effects);
        self.keep(group.next, &mut batch, &mut effects);
        if !effects.is_empty() {
            let (claims, who) = (Claims::anonymous(), (None, batch.durable));
            let decided = self.try_decide(group, &claims, who, Write::default(), effects);
            if let Err(error) = decided {
                return batch.refuse(&error);
            }
        }
        group.steps.push(Step::Messages(batch));
    }

    /// Has commit `seq` keep what is said to durable sessions.
    fn keep(&self, seq: u64, batch: &mut Batch, effects: &mut Vec<Effect>) {
        let mut part = 0;
        for said in &mut batch.said {
            if said.message.qos > 0 && self.durables.wants(&said.path) {
                let what = What::Message(codec::encode_message(&said.path, &said.message));
                let origin = batch.durable;
                effects.push(Effect::Keep(Kept { part, origin, what }));
                said.kept = Some(durable::number(seq, part));
                part += 1;
            }
        }
    }

    fn note_leases(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::EndsAt { at_ms, .. } = effect {
                self.next_ending = self.next_ending.into_iter().chain([*at_ms]).min();
            }
            if let Effect::Lease { expires_ms, .. } = effect {
                self.any_leases = true;
                self.next_expiry = self.next_expiry.into_iter().chain(*expires_ms).min();
            }
        }
    }

    /// Tells everybody: the hub in order, with the answers of those who watch behind it; all others right away.
    fn publish(&self, steps: Vec<Step>, answers: Vec<(Reply, Result<Outcome, WriteError>)>) {
        let mut for_sessions = Vec::new();
        let mut for_callers = Vec::new();
        for (reply, outcome) in answers {
            match reply {
                Reply::Caller(sender) => for_callers.push((sender, outcome)),
                Reply::Session { outbox, tag } => for_sessions.push((
                    outbox,
                    tag,
                    outcome.unwrap_or_else(|error| Outcome::Written(Err(error))),
                )),
                Reply::Nobody => {}
            }
        }
        self.answer_callers(for_callers);
        let mut commits = Vec::new();
        for step in steps {
            match step {
                Step::Commit(published) => commits.push(published),
                Step::Messages(batch) => {
                    if !commits.is_empty() {
                        self.hub.tell(HubRequest::Group {
                            commits: std::mem::take(&mut commits),
                            view: None,
                            answers: Vec::new(),
                        });
                    }
                    self.hub.tell(HubRequest::Publish(batch));
                }
            }
        }
        if !commits.is_empty() || !for_sessions.is_empty() {
            self.hub.tell(HubRequest::Group {
                commits,
                view: Some(self.store.view()),
                answers: for_sessions,
            });
        }
    }

    /// A crowd is answered from within the runtime, where waking a task costs no lock, and its threads are woken once.
    fn answer_callers(&self, callers: Vec<CallerAnswer>) {
        const CROWD: usize = 4;
        let answers = Answers(callers);
        if let Some(runtime) = self.runtime.get()
            && answers.0.len() >= CROWD
        {
            drop(runtime.spawn(async move { drop(answers) }));
        }
    }

    /// The log did not take the group: nothing of it has happened.
    fn refuse_all(
        &self,
        error: &AppendError,
        steps: Vec<Step>,
        answers: Vec<(Reply, Result<Outcome, WriteError>)>,
    ) {
        let refusal = match error {
            AppendError::Full => WriteError::Full,
            AppendError::TooLarge { .. } => WriteError::TooLarge {
                index: 0,
                message: error.to_string(),
            },
            AppendError::Conflict { .. } | AppendError::Failed(_) => {
                self.status
                    .failed
                    .store(true, std::sync::atomic::Ordering::Relaxed);
                WriteError::Unavailable
            }
        };
        tracing::error!(
            error = error as &dyn std::error::Error,
            "the commit log refused a group"
        );
        for step in steps {
            match step {
                Step::Messages(batch) => batch.refuse(&refusal),
                Step::Commit(_) => {}
            }
        }
        for (reply, outcome) in answers {
            let error = outcome.err().unwrap_or_else(|| refusal.clone());
            match reply {
                Reply::Caller(sender) => answer(sender, Err(error)),
                Reply::Session { outbox, tag } => {
                    outbox.committed(1);
                    outbox.answer(tag, Outcome::Written(Err(error)));
                }
                Reply::Nobody => {}
            }
        }
    }

    /// Does what a session left to be done, and removes what it owned: in one commit.
    fn end_session(&mut self, group: &mut Group, session: SessionId, claims: &Claims) {
        let (mut ops, messages) = match what_remains(group.working.view(), session) {
            Ok(Some(remains)) => remains,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, %session, "what a session left could not be read");
                return;
            }
        };
        let said = messages.into_iter().map(|(path, message)| Said {
            path,
            message: Arc::new(message),
            tag: 0,
            kept: None,
        });
        let mut batch = Batch {
            said: said.collect(),
            origin: Some(session),
            durable: None,
            effects: Vec::new(),
            reply: MessageReply::Nobody,
        };
        // What is left to be said is kept by the commit that forgets that it was left.
        let mut effects = vec![Effect::Ended { session }];
        self.keep(group.next, &mut batch, &mut effects);
        loop {
            let write = Write {
                ops: ops.clone(),
                conditions: Vec::new(),
            };
            match self.try_decide(group, claims, (None, None), write, effects.clone()) {
                Ok(_) => break,
                // One of them can't be done: the others are.
                Err(
                    WriteError::Invalid { index, message, .. }
                    | WriteError::TooLarge { index, message },
                ) if index < ops.len() => {
                    let skipped = ops.remove(index);
                    tracing::warn!(%session, path = %skipped.path, message, "left out of what a session left to be done");
                }
                Err(WriteError::Denied { path }) => {
                    tracing::warn!(%session, %path, "denied, of what a session left to be done");
                    ops.retain(|op| op.path != path);
                }
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, %session, "what a session left is done at the next start");
                    return;
                }
            }
        }
        group.steps.push(Step::Messages(batch));
    }

    /// Ends the sessions that were connected when the server died. Before any door listens.
    pub(crate) fn end_lost_sessions(&mut self) {
        let sessions = match lease::sessions(&self.store.view()) {
            Ok(sessions) => sessions,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "sessions of before could not be read"
                );
                return;
            }
        };
        for session in sessions {
            let (done, _) = oneshot::channel();
            self.commit_group(&mut std::iter::once(Request::EndSession {
                session,
                claims: Claims::anonymous(),
                done,
            }));
        }
        self.leave_durables();
        self.expire();
    }

    /// Durable sessions whose clients were there when the server died: they are away now.
    fn leave_durables(&mut self) {
        let now_ms = self.clock.now_ms();
        let left = self.durables.left_behind().into_iter();
        let away = left.map(|(id, expiry_s)| Effect::Durable {
            id,
            change: DurableChange::Away {
                expires_ms: now_ms.saturating_add(u64::from(expiry_s) * 1000),
            },
        });
        self.commit_effects(away.collect());
    }

    fn commit_effects(&mut self, effects: Vec<Effect>) {
        if !effects.is_empty() {
            self.commit_group(&mut std::iter::once(of_effects(effects)));
        }
    }

    /// What is kept and needed no longer goes.
    fn sweep(&self) -> Option<Request> {
        let effects = self.durables.sweep(SWEEP_BUDGET);
        (!effects.is_empty()).then(|| of_effects(effects))
    }

    /// Ends sessions that nobody else ends.
    fn end_left(&mut self, now_ms: u64) {
        let view = self.store.view();
        let ending = lease::ending(&view, now_ms).unwrap_or_default();
        drop(view);
        for session in ending {
            let (done, _) = oneshot::channel();
            self.commit_group(&mut std::iter::once(Request::EndSession {
                session,
                claims: Claims::anonymous(),
                done,
            }));
        }
        self.next_ending = lease::next_ending(&self.store.view()).unwrap_or(None);
    }

    /// Ends durable sessions whose time is over.
    fn end_durables(&mut self, now_ms: u64) {
        let ended = self.durables.ended(now_ms);
        if !ended.is_empty() {
            metrics::counter!("sapwood_durable_expired_total").increment(ended.len() as u64);
        }
        let change = DurableChange::End;
        let ends = ended.into_iter().map(|id| Effect::Durable {
            id,
            change: change.clone(),
        });
        self.commit_effects(ends.collect());
    }

    /// Removes what has expired.
    fn expire(&mut self) {
        let now_ms = self.clock.now_ms();
        if self.durables.next_end().is_some_and(|end| end <= now_ms) {
            self.end_durables(now_ms);
        }
        if self.next_ending.is_some_and(|end| end <= now_ms) {
            self.end_left(now_ms);
        }
        if self.next_expiry.is_none_or(|expiry| expiry > now_ms) {
            return;
        }
        let view = self.store.view();
        let due = lease::expired_at(&view, now_ms);
        drop(view);
        match due {
            Ok(paths) => {
                let ops = paths
                    .into_iter()
                    .map(|path| WriteOp::new(path, OpKind::Delete))
                    .collect();
                let write = Write {
                    ops,
                    conditions: Vec::new(),
                };
                let effects = vec![Effect::Expired { until_ms: now_ms }];
                let mut request = of_effects(effects);
                if let Request::Write { write: ops, .. } = &mut request {
                    *ops = write;
                }
                self.commit_group(&mut std::iter::once(request));
            }
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "what has expired could not be read"
            ),
        }
        self.next_expiry = lease::next_expiry(&self.store.view()).unwrap_or(None);
    }

    /// How long to wait for requests: until something expires, or the log is to be looked at.
    fn wait(&self, retain_after: Duration) -> Option<Duration> {
        let sweeps = self.durables.needs_sweep().then_some(SWEEP_EVERY);
        let ends = self.next_ending.into_iter().chain(self.durables.next_end());
        let next = self.next_expiry.into_iter().chain(ends);
        let until_expiry = next
            .min()
            .map(|expiry| Duration::from_millis(expiry.saturating_sub(self.clock.now_ms()).max(1)));
        let waits = [until_expiry, sweeps, Some(retain_after)];
        waits.into_iter().flatten().min()
    }

    /// Drops what the log need not keep; says when to look again.
    fn retain(&mut self) -> Duration {
        let now = UNIX_EPOCH + Duration::from_millis(self.clock.now_ms());
        let keep = Retention {
            bytes_max: self.retention.keep_bytes,
            age_max: self.retention.keep_age,
            now,
        };
        let floor = CommitSeq(self.store.flushed());
        let reader = self.log.reader();
        let first = reader.first();
        if let Err(error) = self.log.retain(keep, floor) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "an old part of the log could not be removed"
            );
            return RETAIN_EVERY;
        }
        // Rows that are written over and over fill no table of the engine for minutes, while the log grows.
        let held_back = self.log.is_held_back(keep, floor);
        if held_back {
            self.store.persist_soon();
        }
        if held_back || reader.first() > first {
            RETAIN_AGAIN
        } else {
            RETAIN_EVERY
        }
    }

    fn stop(self) {
        self.hub.tell(HubRequest::Stop);
        if let Err(error) = self.store.shutdown() {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the rows could not be brought to the disk; the next start replays the log"
            );
        }
        if let Err(error) = self.log.close() {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the log could not be closed; the next start takes this for a crash"
            );
        }
    }
}

/// A commit of the server's own.
fn of_effects(effects: Vec<Effect>) -> Request {
    Request::Write {
        claims: Claims::anonymous(),
        session: None,
        durable: None,
        write: Write::default(),
        effects,
        reply: Reply::Nobody,
        permit: None,
    }
}

type Remains = (Vec<WriteOp>, Vec<(Path, Message)>);

/// What a session owns, and what it left to be done; none if it has neither.
fn what_remains(
    view: &View,
    session: SessionId,
) -> Result<Option<Remains>, sapwood_tree::RowsError> {
    let left = lease::left_by(view, session)?;
    let owned = lease::owned_by(view, session)?;
    if left.is_empty() && owned.is_empty() {
        return Ok(None);
    }
    let mut ops: Vec<WriteOp> = owned
        .into_iter()
        .map(|path| WriteOp::new(path, OpKind::Delete))
        .collect();
    let mut messages = Vec::new();
    for bytes in left {
        match codec::decode_at_end(&bytes) {
            Some(AtEnd::Write(op)) => ops.push(op),
            Some(AtEnd::Publish(path, message)) => messages.push((path, message)),
            None => tracing::error!(%session, "something that a session left could not be read"),
        }
    }
    Ok(Some((ops, messages)))
}

/// Answers that are given when this is dropped: by a task, or with it, if its runtime has ended.
struct Answers(Vec<CallerAnswer>);

impl Drop for Answers {
    fn drop(&mut self) {
        for (sender, outcome) in self.0.drain(..) {
            answer(sender, outcome);
        }
    }
}

type CallerAnswer = (
    oneshot::Sender<Result<Committed, WriteError>>,
    Result<Outcome, WriteError>,
);

fn answer(
    sender: oneshot::Sender<Result<Committed, WriteError>>,
    outcome: Result<Outcome, WriteError>,
) {
    let result = match outcome {
        Ok(Outcome::Written(written)) => written,
        Ok(Outcome::Read(_) | Outcome::Registered) => Err(WriteError::Unavailable),
        Err(error) => Err(error),
    };
    // A caller that has gone needs no answer; the write stays.
    drop(sender.send(result));
}

//! One watch on its way from its start to the live stream.
//!
//! A watch first tells the state of one commit, then what the change log says since, and then joins the hub, which
//! remembers the newest commits for it: between the three there is neither gap nor overlap. Until it joins nothing is queued for
//! it, however long its client takes.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use sapwood_store::rows::View;
use sapwood_tree::{Path, RowsError};
use sapwood_value::{Text, key_cmp};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::LogId;
use crate::commit::Commit;
use crate::database::Database;
use crate::event::{Body, Event, EventKind};
use crate::first_state::FirstState;
use crate::hub::JoinReply;
use crate::session::{Start, WatchSpec};
use crate::tell::{self, Touched};

/// How much of a first state, or of the change log, is read at a time, in bytes.
const STEP_BYTES: usize = 64 * 1024;

/// How many children a client that comes back may be told about one by one.
const CHILDREN_MAX: usize = 10_000;

pub(crate) struct Watch {
    spec: WatchSpec,
    stage: Stage,
    /// Something to be told before anything else.
    ahead: Option<Arc<Event>>,
    /// The state that it goes on from, of a watch of topics, until it has joined.
    view: Option<View>,
}

enum Stage {
    /// Tells the state; read right here, as it is small or just begun.
    First(Box<FirstState>),
    /// Tells the state; read on a thread that may wait for the disk.
    Reading(JoinHandle<Read>),
    /// Told everything up to a commit; skips the parts of the next one up to this.
    Behind { from: u64, skip: Option<u32> },
    /// Reads the change log.
    Log(JoinHandle<Result<CaughtUp, Lost>>),
    /// Asks the hub to go on from a commit.
    Joining {
        from: u64,
        skip: Option<u32>,
        reply: oneshot::Receiver<JoinReply>,
    },
    /// The hub tells it.
    Live,
    /// The hub is gone: the server is stopping.
    Stopped,
}

type Read = (Box<FirstState>, Result<Vec<Arc<Event>>, RowsError>);

/// What the change log said.
pub(crate) struct CaughtUp {
    events: Vec<Arc<Event>>,
    to: u64,
}

/// The change log can't say what happened since.
pub(crate) struct Lost;

/// What a watch has for its client.
pub(crate) struct Produced {
    pub(crate) events: Vec<Arc<Event>>,
    /// The commit that all told so far is behind, if it grew.
    pub(crate) seen: u64,
}

/// From where, and with what skipped, a watch asks to go on.
pub(crate) struct From {
    pub(crate) seq: u64,
    pub(crate) skip: Option<u32>,
    /// The state there, if it watches topics.
    pub(crate) view: Option<View>,
}

impl Watch {
    pub(crate) fn new(database: &Database, spec: WatchSpec, start: Start) -> Self {
        if matches!(spec, WatchSpec::Group { .. }) {
            let stage = Stage::Live;
            return Self {
                spec,
                stage,
                ahead: None,
                view: None,
            };
        }
        let view = database.view();
        let kept = kept_view(&spec, &view);
        let (stage, lost) = match start {
            Start::State => (first(database, &spec, view), false),
            // A topic's state is the newest of each: it is told again, and said to be.
            Start::Since(since)
                if since.log == database.log_id()
                    && since.seq <= view.seq()
                    && !matches!(spec, WatchSpec::Topic(_)) =>
            {
                let from = if since.part.is_some() {
                    since.seq.saturating_sub(1)
                } else {
                    since.seq
                };
                (
                    Stage::Behind {
                        from,
                        skip: since.part,
                    },
                    false,
                )
            }
            Start::Since(_) => (first(database, &spec, view), true),
            Start::Now => (
                Stage::Behind {
                    from: view.seq(),
                    skip: None,
                },
                false,
            ),
        };
        let ahead = lost.then(|| reset_event(&spec));
        Self {
            spec,
            stage,
            ahead,
            view: kept,
        }
    }

    pub(crate) fn spec(&self) -> &WatchSpec {
        &self.spec
    }

    pub(crate) fn path(&self) -> Path {
        path_of(&self.spec)
    }

    pub(crate) fn is_live(&self) -> bool {
        matches!(self.stage, Stage::Live | Stage::Stopped)
    }

    /// Whether all of its first state has been handed out.
    pub(crate) fn has_begun(&self) -> bool {
        !matches!(self.stage, Stage::First(_) | Stage::Reading(_))
    }

    /// Begins again with the state, and says so.
    pub(crate) fn reset(&mut self, database: &Database) {
        let view = database.view();
        self.view = kept_view(&self.spec, &view);
        self.stage = first(database, &self.spec, view);
        self.ahead = Some(reset_event(&self.spec));
    }

    /// Goes on as far as it can, until it has something to tell.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        database: &Database,
        mut join: impl FnMut(&WatchSpec, From) -> oneshot::Receiver<JoinReply>,
    ) -> Produced {
        let mut produced = Produced {
            events: self.ahead.take().into_iter().collect(),
            seen: 0,
        };
        while produced.events.is_empty() || self.may_go_on() {
            let stage = std::mem::replace(&mut self.stage, Stage::Stopped);
            match self.advance(stage, cx, database, &mut join, &mut produced) {
                Poll::Ready(next) => self.stage = next,
                Poll::Pending => break,
            }
            if self.is_live() {
                break;
            }
        }
        produced
    }

    /// Joining costs nothing, and what comes after it is queued behind what is told here.
    fn may_go_on(&self) -> bool {
        matches!(self.stage, Stage::Behind { .. })
    }

    /// One step. When it must wait, it has put the stage back.
    fn advance(
        &mut self,
        stage: Stage,
        cx: &mut Context<'_>,
        database: &Database,
        join: &mut impl FnMut(&WatchSpec, From) -> oneshot::Receiver<JoinReply>,
        produced: &mut Produced,
    ) -> Poll<Stage> {
        match stage {
            Stage::First(mut state) => {
                let events = state.step(STEP_BYTES);
                Poll::Ready(self.after_reading(state, events, produced))
            }
            Stage::Reading(mut reading) => match Pin::new(&mut reading).poll(cx) {
                Poll::Ready(Ok((state, events))) => {
                    Poll::Ready(self.after_reading(state, events, produced))
                }
                Poll::Ready(Err(_)) => Poll::Ready(Stage::Stopped),
                Poll::Pending => self.wait(Stage::Reading(reading)),
            },
            Stage::Behind { from, skip } => {
                let view = self.view.clone();
                let reply = join(
                    &self.spec,
                    From {
                        seq: from,
                        skip,
                        view,
                    },
                );
                Poll::Ready(Stage::Joining { from, skip, reply })
            }
            Stage::Joining {
                from,
                skip,
                mut reply,
            } => match Pin::new(&mut reply).poll(cx) {
                Poll::Ready(Ok(JoinReply::Joined)) => {
                    self.view = None;
                    Poll::Ready(Stage::Live)
                }
                Poll::Ready(Ok(JoinReply::Behind)) => {
                    Poll::Ready(self.read_log(database, from, skip))
                }
                Poll::Ready(Ok(JoinReply::Restart)) => {
                    Poll::Ready(self.start_over(database, produced))
                }
                Poll::Ready(Err(_)) => Poll::Ready(Stage::Stopped),
                Poll::Pending => self.wait(Stage::Joining { from, skip, reply }),
            },
            Stage::Log(mut reading) => match Pin::new(&mut reading).poll(cx) {
                Poll::Ready(Ok(Ok(caught_up))) => {
                    produced.events.extend(caught_up.events);
                    produced.seen = caught_up.to;
                    Poll::Ready(Stage::Behind {
                        from: caught_up.to,
                        skip: None,
                    })
                }
                Poll::Ready(Ok(Err(Lost))) => Poll::Ready(self.start_over(database, produced)),
                Poll::Ready(Err(_)) => Poll::Ready(Stage::Stopped),
                Poll::Pending => self.wait(Stage::Log(reading)),
            },
            stage @ (Stage::Live | Stage::Stopped) => Poll::Ready(stage),
        }
    }

    fn wait(&mut self, stage: Stage) -> Poll<Stage> {
        self.stage = stage;
        Poll::Pending
    }

    fn after_reading(
        &self,
        mut state: Box<FirstState>,
        events: Result<Vec<Arc<Event>>, RowsError>,
        produced: &mut Produced,
    ) -> Stage {
        match events {
            Ok(events) => produced.events.extend(events),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a first state could not be read"
                );
                return Stage::Stopped;
            }
        }
        if state.is_done() {
            produced.seen = state.seq();
            return Stage::Behind {
                from: state.seq(),
                skip: None,
            };
        }
        // It is not small: from here on a thread reads it that may wait, one step ahead of the client.
        Stage::Reading(tokio::task::spawn_blocking(move || {
            let events = state.step(STEP_BYTES);
            (state, events)
        }))
    }

    fn read_log(&self, database: &Database, from: u64, skip: Option<u32>) -> Stage {
        let (database, spec) = (database.clone(), self.spec.clone());
        Stage::Log(tokio::task::spawn_blocking(move || {
            catch_up(&database, &spec, from, skip)
        }))
    }

    fn start_over(&mut self, database: &Database, produced: &mut Produced) -> Stage {
        produced.events.push(reset_event(&self.spec));
        let view = database.view();
        self.view = kept_view(&self.spec, &view);
        first(database, &self.spec, view)
    }
}

/// What a commit says to a topic depends on what was there before, so such a watch brings the state along that it has been told.
fn kept_view(spec: &WatchSpec, view: &View) -> Option<View> {
    match spec {
        WatchSpec::Topic(_) => Some(view.clone()),
        WatchSpec::Tree(_)
        | WatchSpec::Children(_)
        | WatchSpec::Record(_)
        | WatchSpec::Group { .. } => None,
    }
}

fn first(database: &Database, spec: &WatchSpec, view: View) -> Stage {
    let piece_bytes_max = database.limits().first_state_bytes_max;
    Stage::First(Box::new(FirstState::new(
        spec,
        view,
        database.log_id(),
        piece_bytes_max,
    )))
}

fn reset_event(spec: &WatchSpec) -> Arc<Event> {
    Arc::new(Event::new(
        EventKind::Reset,
        path_of(spec),
        None,
        Body::Absent,
    ))
}

fn path_of(spec: &WatchSpec) -> Path {
    match spec {
        WatchSpec::Tree(path) | WatchSpec::Children(path) | WatchSpec::Record(path) => path.clone(),
        WatchSpec::Topic(filter) | WatchSpec::Group { filter, .. } => filter.literal_prefix(),
    }
}

/// What the change log says since a commit. Blocking.
fn catch_up(
    database: &Database,
    spec: &WatchSpec,
    from: u64,
    skip: Option<u32>,
) -> Result<CaughtUp, Lost> {
    let view = database.view();
    let log = database.log_id();
    if let WatchSpec::Tree(path) = spec {
        let commits = database.read_log(from, STEP_BYTES).map_err(|_| Lost)?;
        let to = commits.last().ok_or(Lost)?.seq;
        let skip_in = |seq| skip.filter(|_| seq == from + 1);
        let events = commits
            .iter()
            .flat_map(|commit| tell::replay_tree(commit, log, path, &view, skip_in(commit.seq)))
            .collect();
        return Ok(CaughtUp { events, to });
    }
    let mut commits = Vec::new();
    let mut to = from;
    while to < view.seq() {
        let next = database.read_log(to, STEP_BYTES).map_err(|_| Lost)?;
        to = next.last().ok_or(Lost)?.seq;
        commits.extend(
            next.into_iter()
                .filter(|commit| commit.seq <= view.seq())
                .map(|commit| touching(&commit, spec)),
        );
        if commits.len() > CHILDREN_MAX * 10 {
            return Err(Lost);
        }
    }
    let events = match spec {
        WatchSpec::Children(path) => replay_children(
            commits.iter(),
            path,
            &view,
            log,
            skip.map(|part| (from + 1, part)),
        )
        .ok_or(Lost)?,
        WatchSpec::Record(path) => replay_record(commits.iter(), path, &view, log)
            .into_iter()
            .collect(),
        WatchSpec::Tree(_) | WatchSpec::Topic(_) | WatchSpec::Group { .. } => return Err(Lost),
    };
    Ok(CaughtUp {
        events,
        to: view.seq(),
    })
}

/// A commit without the operations that say nothing to a watch: many are held at once.
fn touching(commit: &Commit, spec: &WatchSpec) -> Arc<Commit> {
    let path = path_of(spec);
    let ops = commit
        .ops
        .iter()
        .filter(|op| op.path.starts_with(&path) || path.starts_with(&op.path))
        .cloned()
        .collect();
    Arc::new(Commit {
        seq: commit.seq,
        at_ms: commit.at_ms,
        origin: commit.origin,
        ops,
        effects: Vec::new(),
        weight: 0,
    })
}

/// The children that commits touched, each once with its newest value, at the place of the last commit that did; none if that can't
/// be told one by one.
///
/// Within a commit they come in key order, and a part is a child's place among all that the commit touched: so that the one whose
/// sequence `skip` names can be gone on with behind that part.
pub(crate) fn replay_children<'a>(
    commits: impl Iterator<Item = &'a Arc<Commit>>,
    parent: &Path,
    view: &View,
    log: LogId,
    skip: Option<(u64, u32)>,
) -> Option<Vec<Arc<Event>>> {
    let mut newest: HashMap<Text, (u64, usize)> = HashMap::new();
    for commit in commits {
        let told = skip
            .filter(|(seq, _)| *seq == commit.seq)
            .map_or(0, |(_, part)| part as usize + 1);
        for (part, child) in touched_in(commit, parent)?
            .into_iter()
            .enumerate()
            .skip(told)
        {
            newest.insert(child, (commit.seq, part));
        }
        if newest.len() > CHILDREN_MAX {
            return None;
        }
    }
    let mut newest: Vec<((u64, usize), Text)> = newest
        .into_iter()
        .map(|(child, place)| (place, child))
        .collect();
    newest.sort_unstable();
    let seqs: Vec<u64> = newest.iter().map(|((seq, _), _)| *seq).collect();
    let events = newest
        .into_iter()
        .enumerate()
        .map(|(index, ((seq, part), child))| {
            let version = tell::version(log, seq, part, seqs.get(index + 1) != Some(&seq));
            Arc::new(
                tell::state_event(view, parent.child_unchecked(&child), Some(version))
                    .with_id(child),
            )
        });
    Some(events.collect())
}

/// The children of a path that a commit touches, in key order, each once; none if it may be any of them.
fn touched_in(commit: &Commit, parent: &Path) -> Option<Vec<Text>> {
    let mut children = Vec::new();
    for op in &commit.ops {
        match tell::touched(&op.path, &op.kind, parent) {
            Touched::None => {}
            Touched::Inside(child) | Touched::Whole(child, _) => children.push(child),
            Touched::Each(entries) => {
                children.extend(entries.iter().map(|(child, _)| child.clone()));
            }
            Touched::Any => return None,
        }
    }
    children.sort_unstable_by(|one, other| key_cmp(one, other));
    children.dedup();
    Some(children)
}

/// A record that commits touched, with its newest value.
pub(crate) fn replay_record<'a>(
    commits: impl Iterator<Item = &'a Arc<Commit>>,
    record: &Path,
    view: &View,
    log: LogId,
) -> Option<Arc<Event>> {
    let touches = |commit: &&Arc<Commit>| {
        commit.ops.iter().any(|op| {
            op.path.starts_with(record)
                || record.starts_with(&op.path) && tell::reaches_below(&op.path, &op.kind, record)
        })
    };
    let seq = commits.filter(touches).last()?.seq;
    let event = tell::state_event(view, record.clone(), Some(tell::version(log, seq, 0, true)));
    let event = match record.last() {
        Some(id) => event.with_id(id.into()),
        None => event,
    };
    Some(Arc::new(event))
}

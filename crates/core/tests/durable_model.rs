//! Whatever happens to durable sessions: what each finds is what the slowest obvious program says.

#![allow(clippy::unwrap_used, reason = "a test fails where it does")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{connect, next, path, short};
use proptest::prelude::*;
use sapwood_core::{
    Begin, Core, CoreSettings, Database, DurableChange, ManualClock, Message, Session,
};
use sapwood_tree::{Limits, TopicFilter};
use sapwood_value::Value;

const KEYS: [&str; 3] = ["one", "two", "three"];
const FILTERS: [&str; 5] = ["a", "b/+", "b/#", "#", "b/c"];
const TOPICS: [&str; 4] = ["/a", "/b", "/b/c", "/b/d/e"];

#[derive(Debug, Clone)]
enum Step {
    Begin(usize),
    End(usize),
    Subscribe(usize, usize),
    Unsubscribe(usize, usize),
    Publish(usize, u8),
    /// What is at such a place of what waits is given to the client.
    Take(usize, usize),
    /// The client is done with it.
    Settle(usize, usize),
    /// All up to it is passed.
    Pass(usize, usize),
    Restart,
    /// The committer looks for what is needed no longer.
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..KEYS.len();
    prop_oneof![
        2 => key().prop_map(Step::Begin),
        1 => key().prop_map(Step::End),
        6 => (key(), 0..FILTERS.len()).prop_map(|(key, at)| Step::Subscribe(key, at)),
        2 => (key(), 0..FILTERS.len()).prop_map(|(key, at)| Step::Unsubscribe(key, at)),
        12 => (0..TOPICS.len(), 0..3u8).prop_map(|(topic, qos)| Step::Publish(topic, qos)),
        4 => (key(), 0..4usize).prop_map(|(key, at)| Step::Take(key, at)),
        4 => (key(), 0..4usize).prop_map(|(key, at)| Step::Settle(key, at)),
        3 => (key(), 0..4usize).prop_map(|(key, at)| Step::Pass(key, at)),
        1 => Just(Step::Restart),
        1 => Just(Step::Sweep),
    ]
}

/// A session, as the model has it. Places are how much had been said before.
#[derive(Debug, Default)]
struct Model {
    cursor: usize,
    filters: BTreeMap<usize, usize>,
    held: BTreeMap<u64, String>,
    settled: BTreeSet<u64>,
}

impl Model {
    fn finds(&self, said: &[(usize, String)]) -> Vec<(usize, String)> {
        let matches = |place: usize, topic: usize| {
            place >= self.cursor
                && self
                    .filters
                    .iter()
                    .any(|(at, since)| place >= *since && filter(*at).matches(&path(TOPICS[topic])))
        };
        let all = said.iter().enumerate();
        all.filter(|(place, (topic, _))| matches(*place, *topic))
            .map(|(place, (_, text))| (place, text.clone()))
            .collect()
    }
}

fn filter(at: usize) -> TopicFilter {
    TopicFilter::parse(FILTERS[at], &Limits::default()).unwrap()
}

struct Play {
    dir: tempfile::TempDir,
    /// None for a moment, between two starts.
    running: Option<(Core, Database)>,
    sessions: BTreeMap<usize, Session>,
    models: BTreeMap<usize, Model>,
    /// What was said at QoS 1 or 2: topic and text.
    said: Vec<(usize, String)>,
    count: usize,
}

fn open(dir: &std::path::Path) -> (Core, Database) {
    let settings = CoreSettings {
        clock: Arc::new(ManualClock::at(1_000)),
        ..CoreSettings::folder(dir.to_owned())
    };
    let core = Core::open(settings).unwrap();
    let database = core.database("default").unwrap();
    (core, database)
}

impl Play {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            running: Some(open(dir.path())),
            dir,
            sessions: BTreeMap::new(),
            models: BTreeMap::new(),
            said: Vec::new(),
            count: 0,
        }
    }

    fn database(&self) -> &Database {
        &self.running.as_ref().unwrap().1
    }

    async fn change(&mut self, key: usize, change: DurableChange) {
        let session = self.sessions.get_mut(&key).unwrap();
        session.submit_changes(9, vec![change]);
        assert_eq!(next(session, 1).await, ["answer 9"]);
    }

    /// What waits at a place: its number, and where it is among all that was said.
    fn waiting(&self, key: usize, at: usize) -> Option<(u64, usize, String)> {
        let (session, model) = self.sessions.get(&key).zip(self.models.get(&key))?;
        let cursor = self.database().durable(KEYS[key]).unwrap()?.cursor;
        let number = *session.kept_after(cursor, 100).get(at)?;
        let (place, text) = model.finds(&self.said).get(at)?.clone();
        Some((number, place, text))
    }

    async fn play(&mut self, step: Step) {
        match step {
            Step::Begin(key) => self.begin(key).await,
            Step::End(key) => self.end(key).await,
            Step::Subscribe(key, at) if self.models.contains_key(&key) => {
                let change = DurableChange::Subscribe { filter: filter(at) };
                self.change(key, change).await;
                let since = self.said.len();
                let model = self.models.get_mut(&key).unwrap();
                model.filters.entry(at).or_insert(since);
            }
            Step::Unsubscribe(key, at) if self.models.contains_key(&key) => {
                let change = DurableChange::Unsubscribe { filter: filter(at) };
                self.change(key, change).await;
                self.models.get_mut(&key).unwrap().filters.remove(&at);
            }
            Step::Publish(topic, qos) => self.publish(topic, qos).await,
            Step::Take(key, at) => self.take(key, at).await,
            Step::Settle(key, at) => self.settle(key, at).await,
            Step::Pass(key, at) => self.pass(key, at).await,
            Step::Restart => self.restart().await,
            Step::Sweep => {
                tokio::time::sleep(Duration::from_millis(255)).await;
                for _ in 0..2 {
                    let mut session = connect(self.database());
                    session.submit_changes(1, Vec::new());
                    next(&mut session, 1).await;
                }
            }
            Step::Subscribe(..) | Step::Unsubscribe(..) => {}
        }
    }

    async fn begin(&mut self, key: usize) {
        let mut session = connect(self.database());
        let before = self.database().durable(KEYS[key]).unwrap();
        let instead_of = before.map(|durable| durable.id);
        session.submit_begin(1, KEYS[key], 60, Begin::Anew { instead_of });
        next(&mut session, 1).await;
        self.sessions.insert(key, session);
        let model = Model {
            cursor: self.said.len(),
            ..Model::default()
        };
        self.models.insert(key, model);
    }

    async fn end(&mut self, key: usize) {
        let Some(gone) = self.sessions.remove(&key) else {
            return;
        };
        self.models.remove(&key);
        let mut session = connect(self.database());
        session.submit_end(1, gone.durable().unwrap());
        next(&mut session, 1).await;
    }

    async fn publish(&mut self, topic: usize, qos: u8) {
        self.count += 1;
        let text = self.count.to_string();
        let mut message = Message::new(Value::String(text.as_str().into()));
        message.qos = qos;
        let mut session = connect(self.database());
        session.submit_publish(1, path(TOPICS[topic]), message);
        next(&mut session, 1).await;
        if qos > 0 {
            let text = format!("message {} \"{text}\"", TOPICS[topic]);
            self.said.push((topic, text));
        }
    }

    async fn take(&mut self, key: usize, at: usize) {
        let Some((number, _, text)) = self.waiting(key, at) else {
            return;
        };
        let row = Bytes::from_static(b"row");
        self.change(key, DurableChange::Take { number, row }).await;
        let model = self.models.get_mut(&key).unwrap();
        model.settled.remove(&number);
        model.held.insert(number, text);
    }

    async fn settle(&mut self, key: usize, at: usize) {
        let Some(model) = self.models.get(&key) else {
            return;
        };
        let Some(number) = model.held.keys().nth(at).copied() else {
            return;
        };
        let cursor = self.database().durable(KEYS[key]).unwrap().unwrap().cursor;
        self.change(key, DurableChange::Settle { number }).await;
        let model = self.models.get_mut(&key).unwrap();
        model.held.remove(&number);
        if number > cursor {
            model.settled.insert(number);
        }
    }

    async fn pass(&mut self, key: usize, at: usize) {
        let Some((cursor, place, _)) = self.waiting(key, at) else {
            return;
        };
        self.change(key, DurableChange::Pass { cursor }).await;
        let model = self.models.get_mut(&key).unwrap();
        model.cursor = place + 1;
        model.settled.retain(|number| *number > cursor);
    }

    async fn restart(&mut self) {
        self.sessions.clear();
        if let Some((core, database)) = self.running.take() {
            core.close();
            drop((core, database));
        }
        self.running = Some(open(self.dir.path()));
        for key in self.models.keys() {
            let id = self.database().durable(KEYS[*key]).unwrap().unwrap().id;
            let mut session = connect(self.database());
            session.submit_begin(1, KEYS[*key], 60, Begin::GoOn(id));
            assert_eq!(next(&mut session, 1).await, ["answer 1"]);
            self.sessions.insert(*key, session);
        }
    }

    fn check(&self) {
        assert_eq!(self.database().durable_sessions(), self.models.len());
        for (key, model) in &self.models {
            let session = &self.sessions[key];
            let durable = self.database().durable(KEYS[*key]).unwrap().unwrap();
            let text = |number: u64| session.kept(number).map(|event| short(&event));
            let numbers = session.kept_after(durable.cursor, 100);
            let found: Vec<_> = numbers.iter().filter_map(|number| text(*number)).collect();
            let finds = model.finds(&self.said).into_iter();
            let finds: Vec<_> = finds.map(|(_, text)| text).collect();
            assert_eq!(found, finds, "what {} finds", KEYS[*key]);
            let held = durable.held.iter().map(|(number, _)| *number);
            let held: BTreeMap<_, _> = held
                .map(|number| (number, text(number).unwrap_or_default()))
                .collect();
            assert_eq!(held, model.held, "what {} holds", KEYS[*key]);
            let settled: BTreeSet<_> = durable.settled.into_iter().collect();
            assert_eq!(settled, model.settled, "what {} is done with", KEYS[*key]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_session_finds_is_what_the_model_says(
        steps in prop::collection::vec(step(), 1..80)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(async {
            let mut play = Play::new();
            for key in 0..KEYS.len() {
                play.begin(key).await;
            }
            for step in steps {
                play.play(step).await;
                play.check();
            }
            let (core, _) = play.running.take().unwrap();
            core.close();
        });
    }
}

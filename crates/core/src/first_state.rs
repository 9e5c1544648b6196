//! What a watch is told first: the state as of one commit, in events of bounded size, read as they are taken.

use std::collections::VecDeque;
use std::sync::Arc;

use sapwood_store::rows::View;
use sapwood_tree::{Path, ReadError, Rows as _, RowsError, TopicFilter, is_segment};
use sapwood_value::{Map, Text, VALUE_KEY, Value};

use crate::event::{Body, Event, EventKind};
use crate::lease::Expiries;
use crate::session::WatchSpec;
use crate::settings::Limits;
use crate::{LogId, Version};

/// How many children are looked at together.
const CHILDREN: usize = 256;

/// The state that a watch begins with, on its way to the client.
pub(crate) struct FirstState {
    view: View,
    log: LogId,
    piece_bytes_max: usize,
    records: bool,
    /// What is still to be told, the next one last.
    left: Vec<Left>,
    expiries: Expiries,
    /// The newest event, kept back until it is known whether it is the last: that one carries the version.
    kept: Option<Event>,
}

enum Left {
    /// The value at a path: whole if it is small, else in pieces.
    Value(Path),
    /// The children of a path after one, each as a value or as a record.
    Children { parent: Path, after: Option<Text> },
    /// One record, or its absence.
    Record(Path),
    /// The topics that a filter matches.
    Topics(Box<sapwood_tree::FirstTopics>),
}

impl FirstState {
    pub(crate) fn new(spec: &WatchSpec, view: View, log: LogId, piece_bytes_max: usize) -> Self {
        let (records, left) = match spec {
            WatchSpec::Tree(path) => (false, Left::Value(path.clone())),
            WatchSpec::Children(path) => (
                true,
                Left::Children {
                    parent: path.clone(),
                    after: None,
                },
            ),
            WatchSpec::Record(path) => (true, Left::Record(path.clone())),
            // A group's watch has no first state, and comes here never.
            WatchSpec::Topic(filter) | WatchSpec::Group { filter, .. } => {
                (true, Left::Topics(Box::new(Self::topics(filter))))
            }
        };
        Self {
            view,
            log,
            piece_bytes_max,
            records,
            left: vec![left],
            expiries: Expiries::new(),
            kept: None,
        }
    }

    fn topics(filter: &TopicFilter) -> sapwood_tree::FirstTopics {
        sapwood_tree::FirstTopics::new(filter.clone())
    }

    /// The commit that this is the state of.
    pub(crate) fn seq(&self) -> u64 {
        self.view.seq()
    }

    /// Whether everything has been told.
    pub(crate) fn is_done(&self) -> bool {
        self.left.is_empty() && self.kept.is_none()
    }

    /// The next events, of about `budget` bytes together.
    pub(crate) fn step(&mut self, budget: usize) -> Result<Vec<Arc<Event>>, RowsError> {
        let mut events = VecDeque::new();
        let mut bytes = 0;
        while bytes < budget {
            let Some(left) = self.left.pop() else {
                let last = self
                    .kept
                    .take()
                    .map(|event| event.with_version(Version::new(self.log, self.view.seq())));
                events.extend(last.map(Arc::new));
                break;
            };
            for event in self.tell(left)? {
                bytes += event.weight();
                events.extend(self.kept.replace(event).map(Arc::new));
            }
        }
        Ok(events.into())
    }

    fn tell(&mut self, left: Left) -> Result<Vec<Event>, RowsError> {
        match left {
            Left::Value(path) => self.tell_value(path).map(|event| vec![event]),
            Left::Record(path) => {
                let value = self.whole(&path)?.unwrap_or(Value::Null);
                Ok(vec![put(path, value, true)])
            }
            Left::Children { parent, after } => self.tell_children(parent, after.as_deref()),
            Left::Topics(mut topics) => {
                let told = topics.next(&self.view, CHILDREN)?;
                if !told.is_empty() {
                    self.left.push(Left::Topics(topics));
                }
                told.into_iter()
                    .map(|(topic, said)| {
                        let expires_ms = self.expiries.of(&self.view, &topic)?;
                        let mut event = Event::new(EventKind::Put, topic, None, Body::Topic(said));
                        event.expires_ms = expires_ms;
                        Ok(event)
                    })
                    .collect()
            }
        }
    }

    /// What a large value holds itself, if its children can follow.
    fn in_pieces(&self, path: &Path) -> Result<Option<Value>, RowsError> {
        Limits::met("limits.first_state_bytes_max");
        self.shell(path)
    }

    /// A value whole; or, if it is large, what it holds itself, with its children to follow.
    fn tell_value(&mut self, path: Path) -> Result<Event, RowsError> {
        match sapwood_tree::tree_value(&self.view, &path, self.piece_bytes_max) {
            Ok(value) => {
                // An empty tree is an empty map at the root, and nothing anywhere else.
                let value = value.unwrap_or_else(|| {
                    if path.is_root() {
                        Value::Map(Map::new())
                    } else {
                        Value::Null
                    }
                });
                Ok(put(path, value, false))
            }
            Err(ReadError::TooLarge { .. }) => match self.in_pieces(&path)? {
                Some(shell) => {
                    self.left.push(Left::Children {
                        parent: path.clone(),
                        after: None,
                    });
                    Ok(put(path, shell, false))
                }
                None => {
                    let value = self.whole(&path)?.unwrap_or(Value::Null);
                    Ok(put(path, value, false))
                }
            },
            Err(ReadError::Rows(error)) => Err(error),
        }
    }

    fn tell_children(
        &mut self,
        parent: Path,
        after: Option<&str>,
    ) -> Result<Vec<Event>, RowsError> {
        let names = sapwood_tree::children(&self.view, &parent, after, CHILDREN)?;
        if names.len() == CHILDREN {
            self.left.push(Left::Children {
                parent: parent.clone(),
                after: names.last().cloned(),
            });
        }
        if !self.records {
            // The next one is taken from the end.
            let values = names
                .iter()
                .rev()
                .filter(|name| is_segment(name))
                .map(|child| Left::Value(parent.child_unchecked(child)));
            self.left.extend(values);
            return Ok(Vec::new());
        }
        let mut events = Vec::with_capacity(names.len());
        for child in names.into_iter().filter(|name| is_segment(name)) {
            let path = parent.child_unchecked(&child);
            if let Some(value) = self.whole(&path)? {
                events.push(put(path, value, true));
            }
        }
        Ok(events)
    }

    /// What a value holds beside its children, as a map for them to be put into; none if it is told whole.
    fn shell(&self, path: &Path) -> Result<Option<Value>, RowsError> {
        let own = match sapwood_tree::own(&self.view, path, self.piece_bytes_max) {
            Ok(own) => own,
            Err(ReadError::Rows(error)) => return Err(error),
            // What is too large is split into rows, or a leaf.
            Err(_) => self.view.row(path)?.map(|row| row.fragment.clone()),
        };
        let map = match own {
            Some(Value::Map(map)) => map
                .into_iter()
                .filter(|(key, _)| !is_segment(key))
                .collect(),
            Some(leaf) if self.view.scan(path, None, 1)?.is_empty() => {
                drop(leaf);
                return Ok(None);
            }
            Some(Value::Array(_)) | None => Map::new(),
            Some(scalar) => [(Text::from(VALUE_KEY), scalar)].into_iter().collect(),
        };
        Ok(Some(Value::Map(map)))
    }

    fn whole(&self, path: &Path) -> Result<Option<Value>, RowsError> {
        match sapwood_tree::tree_value(&self.view, path, usize::MAX) {
            Ok(value) => Ok(value),
            Err(ReadError::Rows(error)) => Err(error),
            // There is no limit.
            Err(_) => Ok(None),
        }
    }
}

fn put(path: Path, value: Value, with_id: bool) -> Event {
    let id = path.last().filter(|_| with_id).map(Text::from);
    let event = Event::new(EventKind::Put, path, None, Body::Value(value));
    match id {
        Some(id) => event.with_id(id),
        None => event,
    }
}

//! Values too large to be told again with every change inside them.
//!
//! A push into a large collection costs what a push costs: who watches the collection as one value is told it later, the newest, at
//! no more than so many bytes a second (design, section 2.2).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sapwood_tree::{Path, ReadError, TopicValue};

/// Whether a value is told now.
pub(super) enum Size<T> {
    /// Now; none if nothing is there any more.
    Told(Option<T>),
    /// Later.
    Later,
}

/// What of a path is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Its tree value.
    Tree,
    /// What it says as a topic: its document, or plain value.
    Topic,
}

#[derive(Debug)]
pub(super) struct Deferred {
    bytes_per_second: usize,
    value_bytes_max: usize,
    waiting: HashMap<(Kind, Path), Waiting>,
}

#[derive(Debug)]
struct Waiting {
    due: Instant,
    /// It changed since it was told.
    changed: bool,
    warned: bool,
}

/// How long the first change inside a large value waits: its size is known only when it is read.
const FIRST_WAIT: Duration = Duration::from_secs(1);

impl Deferred {
    pub(super) fn new(bytes_per_second: usize, value_bytes_max: usize) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            value_bytes_max,
            waiting: HashMap::new(),
        }
    }

    /// The value at a path, in which something changed; or a note to tell it later. `read` reads it, up to a limit in bytes.
    pub(super) fn value_now<T>(
        &mut self,
        kind: Kind,
        path: &Path,
        read: impl FnOnce(usize) -> Result<Option<T>, ReadError>,
    ) -> Size<T> {
        if let Some(waiting) = self.waiting.get_mut(&(kind, path.clone())) {
            waiting.changed = true;
            metrics::counter!("sapwood_values_deferred_total").increment(1);
            return Size::Later;
        }
        match read(self.bytes_per_second) {
            Ok(value) => Size::Told(value),
            Err(ReadError::TooLarge { .. }) => {
                let waiting = Waiting {
                    due: Instant::now() + FIRST_WAIT,
                    changed: true,
                    warned: false,
                };
                self.waiting.insert((kind, path.clone()), waiting);
                metrics::counter!("sapwood_values_deferred_total").increment(1);
                tracing::info!(%path, bytes = self.bytes_per_second, "a watched value is larger than is told with each change: declare a resource below it");
                Size::Later
            }
            Err(ReadError::Rows(error)) => {
                tracing::error!(error = &error as &dyn std::error::Error, %path, "a told value could not be read");
                Size::Later
            }
        }
    }

    /// How long until something is due.
    pub(super) fn due_in(&self) -> Option<Duration> {
        let due = self.waiting.values().map(|waiting| waiting.due).min()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// What is due, with its newest value; `read` reads it, up to a limit in bytes.
    pub(super) fn take_due(
        &mut self,
        read: impl Fn(Kind, &Path, usize) -> Result<Option<TopicValue>, ReadError>,
    ) -> Vec<(Kind, Path, Option<Arc<TopicValue>>)> {
        let now = Instant::now();
        let mut told = Vec::new();
        let due: Vec<(Kind, Path)> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.due <= now)
            .map(|(key, _)| key.clone())
            .collect();
        for (kind, path) in due {
            let key = (kind, path.clone());
            let Some(waiting) = self.waiting.get_mut(&key) else {
                continue;
            };
            if !std::mem::take(&mut waiting.changed) {
                self.waiting.remove(&key);
                continue;
            }
            match read(kind, &path, self.value_bytes_max) {
                Ok(said) => {
                    let bytes = said
                        .as_ref()
                        .map_or(0, |said| said.value().estimated_bytes());
                    waiting.due = now
                        + Duration::from_secs((bytes / self.bytes_per_second) as u64)
                            .max(FIRST_WAIT);
                    told.push((kind, path, said.map(Arc::new)));
                }
                Err(_) => {
                    waiting.due = now
                        + Duration::from_secs(
                            (self.value_bytes_max / self.bytes_per_second) as u64,
                        );
                    if !std::mem::replace(&mut waiting.warned, true) {
                        tracing::warn!(%path, bytes_max = self.value_bytes_max, "a watched value is too large to be told at all: watch its children, or declare a resource below it");
                    }
                }
            }
        }
        told
    }
}

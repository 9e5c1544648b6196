//! How often each limit was met, as the server counts it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

/// A recorder of `sapwood_limits_total` alone. All clones count together.
#[derive(Clone, Default)]
pub struct LimitsMet(Arc<Shared>);

#[derive(Default)]
struct Shared {
    counts: Mutex<HashMap<String, u64>>,
    changed: Condvar,
}

impl LimitsMet {
    /// How often the limit of this setting was met.
    pub fn count(&self, setting: &str) -> u64 {
        let counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(setting).copied().unwrap_or(0)
    }

    /// Waits until the limit of this setting was met more than `before` times; `false` if it was not in time.
    pub fn grows(&self, setting: &str, before: u64, patience: Duration) -> bool {
        let counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let still =
            |counts: &mut HashMap<String, u64>| counts.get(setting).copied().unwrap_or(0) <= before;
        let waited = self.0.changed.wait_timeout_while(counts, patience, still);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl fmt::Debug for LimitsMet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LimitsMet").field(&self.0.counts).finish()
    }
}

struct Limit {
    of: LimitsMet,
    setting: String,
}

impl CounterFn for Limit {
    fn increment(&self, by: u64) {
        let shared = &self.of.0;
        let mut counts = shared.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(self.setting.clone()).or_default() += by;
        shared.changed.notify_all();
    }

    fn absolute(&self, _: u64) {}
}

impl Recorder for LimitsMet {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let setting = key.labels().find(|label| label.key() == "limit");
        match setting.filter(|_| key.name() == "sapwood_limits_total") {
            Some(setting) => Counter::from_arc(Arc::new(Limit {
                of: self.clone(),
                setting: setting.value().to_owned(),
            })),
            None => Counter::noop(),
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

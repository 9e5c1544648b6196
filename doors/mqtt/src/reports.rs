//! `$SYS/broker/…`, as mosquitto's users know it.
//!
//! Reports are messages: they are told every ten seconds while somebody subscribes to them, and at once when somebody does,
//! and nothing of them is kept in the tree.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, counter, gauge};
use sapwood_core::{Claims, Message};
use sapwood_tree::{Path, Payload};
use tokio::sync::Notify;

use crate::door::Site;

/// Time between two reports.
const INTERVAL: Duration = Duration::from_secs(10);

/// What is counted: for `/metrics`, and for the reports.
pub(crate) struct Figures {
    begin: Instant,
    asked: Notify,
    /// Each subscription to reports holds it.
    reader: Arc<()>,
    open: AtomicI64,
    publishes_received: AtomicU64,
    publishes_sent: AtomicU64,
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
    metrics: Metrics,
}

struct Metrics {
    open: Gauge,
    publishes_received: Counter,
    publishes_sent: Counter,
    bytes_received: Counter,
    bytes_sent: Counter,
}

/// What a connection has counted since it last said so.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) publishes_received: u64,
    pub(crate) publishes_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
}

impl Figures {
    pub(crate) fn new() -> Self {
        Self {
            begin: Instant::now(),
            asked: Notify::new(),
            reader: Arc::new(()),
            open: AtomicI64::new(0),
            publishes_received: AtomicU64::new(0),
            publishes_sent: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            metrics: Metrics {
                open: gauge!("sapwood_mqtt_connections"),
                publishes_received: counter!("sapwood_mqtt_publishes_received_total"),
                publishes_sent: counter!("sapwood_mqtt_publishes_sent_total"),
                bytes_received: counter!("sapwood_mqtt_received_bytes_total"),
                bytes_sent: counter!("sapwood_mqtt_sent_bytes_total"),
            },
        }
    }

    pub(crate) fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.metrics.open.increment(1);
    }

    pub(crate) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.metrics.open.decrement(1);
    }

    /// Adds what a connection has counted.
    pub(crate) fn add(&self, counted: Counted) {
        if counted == Counted::default() {
            return;
        }
        let add = |all: &AtomicU64, metric: &Counter, more: u64| {
            if more > 0 {
                all.fetch_add(more, Ordering::Relaxed);
                metric.increment(more);
            }
        };
        let metrics = &self.metrics;
        add(
            &self.publishes_received,
            &metrics.publishes_received,
            counted.publishes_received,
        );
        add(
            &self.publishes_sent,
            &metrics.publishes_sent,
            counted.publishes_sent,
        );
        add(
            &self.bytes_received,
            &metrics.bytes_received,
            counted.bytes_received,
        );
        add(&self.bytes_sent, &metrics.bytes_sent, counted.bytes_sent);
    }

    /// What a subscription holds if it is one to reports; the first one comes now.
    pub(crate) fn reader(&self, filter: &str) -> Option<Arc<()>> {
        filter.starts_with("$SYS/").then(|| {
            self.asked.notify_one();
            Arc::clone(&self.reader)
        })
    }

    fn has_readers(&self) -> bool {
        Arc::strong_count(&self.reader) > 1
    }
}

/// Reports for ever.
pub(crate) async fn run(site: &Site) {
    loop {
        drop(tokio::time::timeout(INTERVAL, site.figures.asked.notified()).await);
        if !site.figures.has_readers() {
            continue;
        }
        for (name, value) in reports(site) {
            for database in site.core.databases() {
                let Ok(path) = Path::from_segments(
                    ["$SYS", "broker"].into_iter().chain(name.split('/')),
                    database.tree_limits(),
                ) else {
                    continue;
                };
                let payload = Payload {
                    bytes: Some(value.clone().into()),
                    ..Payload::default()
                };
                let message = Message::from_payload(payload, database.limits().decoder());
                // While the server stops, nobody is left to be told.
                drop(database.publish(&Claims::anonymous(), &path, message).await);
            }
        }
    }
}

fn reports(site: &Site) -> Vec<(&'static str, String)> {
    let figures = &site.figures;
    let of = |number: &AtomicU64| number.load(Ordering::Relaxed).to_string();
    let connected = figures.open.load(Ordering::Relaxed);
    let all = site.registry.len();
    let away = usize::try_from(connected).map_or(all, |connected| all.saturating_sub(connected));
    vec![
        ("version", format!("sapwood {}", env!("CARGO_PKG_VERSION"))),
        (
            "uptime",
            format!("{} seconds", figures.begin.elapsed().as_secs()),
        ),
        ("clients/connected", connected.to_string()),
        ("clients/active", connected.to_string()),
        ("clients/disconnected", away.to_string()),
        ("clients/inactive", away.to_string()),
        ("clients/total", all.to_string()),
        ("messages/received", of(&figures.publishes_received)),
        ("messages/sent", of(&figures.publishes_sent)),
        ("publish/messages/received", of(&figures.publishes_received)),
        ("publish/messages/sent", of(&figures.publishes_sent)),
        ("bytes/received", of(&figures.bytes_received)),
        ("bytes/sent", of(&figures.bytes_sent)),
    ]
}

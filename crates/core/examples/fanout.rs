//! What a delivery costs: one session publishes to a topic, many watch it.
//! `cargo run --release --example fanout -- [watchers] [seconds] [window] [messages a second, else as fast as they are taken]`.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring tool")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sapwood_core::{
    Claims, Connect, Core, CoreSettings, Database, Message, Session, Start, WatchSpec,
};
use sapwood_tree::{Limits, Path, Payload, TopicFilter};

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter_map(|text| text.parse::<u64>().ok());
    let (watchers, seconds, window, rate) = (
        arguments.next().unwrap_or(100),
        arguments.next().unwrap_or(3),
        arguments.next().unwrap_or(100),
        arguments.next(),
    );
    let core = Core::open(CoreSettings::memory()).unwrap();
    let database = core.database("default").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (told, ended) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let (elapsed, used, sent) = runtime.block_on(async {
        for _ in 0..watchers {
            let session = connect(&database);
            tokio::spawn(listen(session, Arc::clone(&told)));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let (before, began) = (cpu(), Instant::now());
        let publisher = connect(&database);
        let stop = Arc::clone(&ended);
        let published = match rate {
            Some(rate) => tokio::spawn(publish_at(publisher, rate, seconds)),
            None => {
                let told = Arc::clone(&told);
                tokio::spawn(publish(publisher, window, stop, told, watchers))
            }
        };
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        ended.store(true, Ordering::Relaxed);
        let sent = published.await.unwrap();
        while told.load(Ordering::Relaxed) < sent * watchers
            && began.elapsed().as_secs() < seconds + 2
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (began.elapsed().as_secs_f64(), cpu() - before, sent)
    });
    let deliveries = told.load(Ordering::Relaxed);
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let count = deliveries as f64;
    println!(
        "1 -> {watchers}: {:.0} deliveries/s, {:.3} us CPU each, {} of {} dropped",
        count / elapsed,
        used * 1e6 / count,
        sent * watchers - deliveries,
        sent * watchers
    );
    core.close();
}

fn connect(database: &Database) -> Session {
    database.connect(Connect {
        protocol: "example",
        peer: None,
        claims: Claims::anonymous(),
    })
}

async fn listen(mut session: Session, told: Arc<AtomicU64>) {
    let filter = TopicFilter::parse("a/+", &Limits::default()).unwrap();
    session.watch(WatchSpec::Topic(filter), Start::Now).unwrap();
    let mut out = Vec::new();
    loop {
        session.next(&mut out).await;
        told.fetch_add(out.len() as u64, Ordering::Relaxed);
        out.clear();
    }
}

/// Publishes with so many at a time that not everybody has; how many it were.
async fn publish(
    mut session: Session,
    window: u64,
    ended: Arc<AtomicBool>,
    told: Arc<AtomicU64>,
    watchers: u64,
) -> u64 {
    let path = Path::parse("/a/b", &Limits::default()).unwrap();
    let (mut sent, mut answered) = (0, 0);
    let mut out = Vec::new();
    while !ended.load(Ordering::Relaxed) || answered < sent {
        let had = told.load(Ordering::Relaxed) / watchers;
        while sent - had.min(answered) < window && !ended.load(Ordering::Relaxed) {
            session.submit_publish(sent, path.clone(), message());
            sent += 1;
        }
        if answered == sent {
            tokio::task::yield_now().await;
            continue;
        }
        session.next(&mut out).await;
        answered += out.len() as u64;
        out.clear();
    }
    sent
}

/// Publishes so many a second; how many it were.
async fn publish_at(mut session: Session, rate: u64, seconds: u64) -> u64 {
    let path = Path::parse("/a/b", &Limits::default()).unwrap();
    let mut turns = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate).unwrap());
    let mut out = Vec::new();
    for number in 0..rate * seconds {
        turns.tick().await;
        session.submit_publish(number, path.clone(), message());
        session.next(&mut out).await;
        out.clear();
    }
    rate * seconds
}

fn message() -> Message {
    let payload = Payload {
        bytes: Some(vec![b'x'; 64].into()),
        ..Payload::default()
    };
    Message::from_payload(payload, sapwood_value::Limits::default())
}

/// CPU seconds that this process has used.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

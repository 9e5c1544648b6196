//! How many durable writes a database takes, and what one costs: `cargo run --release --example writers -- [writers] [seconds]`.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring tool")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sapwood_core::{Claims, Core, CoreSettings, Write};
use sapwood_tree::{Limits, OpKind, Path};
use sapwood_value::{Value, json};

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter_map(|text| text.parse::<u64>().ok());
    let (writers, seconds) = (
        arguments.next().unwrap_or(64),
        arguments.next().unwrap_or(3),
    );
    let folder = tempfile::tempdir().unwrap();
    let core = Core::open(CoreSettings::folder(folder.path().to_owned())).unwrap();
    let database = core.database("default").unwrap();
    let value: Value = json::decode(
        br#"{"temperature":21.5,"humidity":40,"at":1700000000000}"#,
        &sapwood_value::Limits::default(),
    )
    .unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let (cpu, began) = (cpu(), Instant::now());
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for writer in 0..writers {
            let (database, value, count) = (database.clone(), value.clone(), Arc::clone(&count));
            tasks.push(tokio::spawn(async move {
                let mut number = 0;
                while began.elapsed() < Duration::from_secs(seconds) {
                    let path = Path::parse(
                        &format!("/sensors/{}", writer * 100 + number % 100),
                        &Limits::default(),
                    )
                    .unwrap();
                    let write = Write::of(
                        path,
                        OpKind::Put {
                            value: value.clone(),
                            mark: true,
                        },
                    );
                    database.write(&Claims::anonymous(), write).await.unwrap();
                    number += 1;
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
    let (elapsed, cpu) = (began.elapsed().as_secs_f64(), self::cpu() - cpu);
    let writes = count.load(Ordering::Relaxed) as f64;
    println!(
        "{writers} writers: {:.0} writes/s, {:.2} us CPU each",
        writes / elapsed,
        cpu * 1e6 / writes
    );
    core.close();
}

/// CPU seconds that this process has used.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

//! What a first state of many records costs: `cargo run --release --example first -- [records] [rounds]`.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring tool")]

use std::time::Instant;

use sapwood_core::{Claims, Connect, Core, CoreSettings, Start, WatchSpec, Write, WriteOp};
use sapwood_tree::{Limits, OpKind, Path, Payload, TopicFilter};

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter_map(|text| text.parse::<usize>().ok());
    let (records, rounds) = (
        arguments.next().unwrap_or(20_000),
        arguments.next().unwrap_or(50),
    );
    let core = Core::open(CoreSettings::memory()).unwrap();
    let database = core.database("default").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for some in (0..records).collect::<Vec<_>>().chunks(1000) {
            let ops = some.iter().map(|number| {
                let path = format!("/devices/{}/{number}", number % 100);
                let path = Path::parse(&path, &Limits::default()).unwrap();
                let payload = Payload {
                    bytes: Some(vec![b'x'; 64].into()),
                    ..Payload::default()
                };
                let (document, form) = payload.read(&sapwood_value::Limits::default());
                let payload = Some(Payload { form, ..payload });
                WriteOp::new(path, OpKind::PutRecord { document, payload })
            });
            let write = Write {
                ops: ops.collect(),
                conditions: Vec::new(),
            };
            database.write(&Claims::anonymous(), write).await.unwrap();
        }
        let (before, began) = (cpu(), Instant::now());
        let mut out = Vec::new();
        for _ in 0..rounds {
            let mut session = database.connect(Connect {
                protocol: "example",
                peer: None,
                claims: Claims::anonymous(),
            });
            let filter = TopicFilter::parse("#", &Limits::default()).unwrap();
            session
                .watch(WatchSpec::Topic(filter), Start::State)
                .unwrap();
            let mut told = 0;
            while told < records {
                session.next(&mut out).await;
                told += out.len();
                out.clear();
            }
        }
        let (used, count) = (cpu() - before, records * rounds);
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let count = count as f64;
        println!(
            "{records} records: {:.3} us CPU each, {:.0} a second",
            used * 1e6 / count,
            count / began.elapsed().as_secs_f64()
        );
    });
    core.close();
}

/// CPU seconds that this process has used.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

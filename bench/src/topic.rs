//! A leaf written deep in plain tree, while a topic filter is told of a prefix of it: at the core, as no door speaks
//! topics yet. Our own process is the server here, so the writers' share is in both figures.

use std::{path::PathBuf, sync::Arc, time::Instant};

use anyhow::{Context, Result};
use sapwood_core::{
    Claims, Connect, Core, CoreSettings, Database, Durability, Start, WatchSpec, Write,
};
use sapwood_tree::{OpKind, Path, TopicFilter};
use sapwood_value::Value;

use crate::{Plan, closed_loop::Measured, process, report};

const WRITERS: usize = 64;
const LEAF_BYTES: usize = 1024;
/// Leaves of one write while the prefix is filled.
const LEAVES_AT_ONCE: usize = 1000;

/// Writes below a prefix of 64 KiB, and of 1 GiB, with and without a filter that is told the prefix.
///
/// # Errors
/// The core refused something.
pub fn prefixes(plan: &Plan, largest: usize) -> Result<()> {
    for bytes in [64 << 10, largest] {
        let name = match bytes >> 20 {
            0 => format!("{} KiB", bytes >> 10),
            mib => format!("{mib} MiB"),
        };
        let folder = tempfile::tempdir()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        runtime.block_on(prefix(plan, folder.path().join("data"), bytes, &name))?;
    }
    Ok(())
}

async fn prefix(plan: &Plan, data: PathBuf, bytes: usize, name: &str) -> Result<()> {
    let core = Core::open(CoreSettings {
        durability: Durability::Interval,
        ..CoreSettings::folder(data)
    })?;
    let database = core.database("default").context("no default database")?;
    let leaves = bytes / LEAF_BYTES;
    fill(&database, leaves).await?;
    let (mut told, mut untold) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        untold.push(write_leaves(plan, &database, leaves).await?);
        let watcher = watch(&database)?;
        told.push(write_leaves(plan, &database, leaves).await?);
        watcher.abort();
    }
    let (told, untold) = (report::median(told), report::median(untold));
    report::line(
        &format!("leaf write, `+/+` is told a prefix of {name}"),
        &told,
    );
    report::line("the same, no filter", &untold);
    report::ratio(&told, &untold);
    core.close();
    Ok(())
}

/// A session that takes what the filter tells it.
fn watch(database: &Database) -> Result<tokio::task::JoinHandle<()>> {
    let mut session = database.connect(Connect {
        protocol: "bench",
        peer: None,
        claims: Claims::anonymous(),
    });
    let filter = TopicFilter::parse("+/+", database.tree_limits())?;
    session.watch(WatchSpec::Topic(filter), Start::Now)?;
    Ok(tokio::spawn(async move {
        let mut out = Vec::new();
        loop {
            session.next(&mut out).await;
            out.clear();
        }
    }))
}

fn base(database: &Database) -> Result<Path> {
    Ok(Path::parse("/fleet/one", database.tree_limits())?)
}

fn leaf(n: usize) -> Value {
    Value::String(format!("{n:0LEAF_BYTES$}").into())
}

async fn fill(database: &Database, leaves: usize) -> Result<()> {
    let (claims, base) = (Claims::anonymous(), base(database)?);
    for first in (0..leaves).step_by(LEAVES_AT_ONCE) {
        let entries = (first..leaves.min(first + LEAVES_AT_ONCE))
            .map(|n| (format!("k{n:07}").into(), Some(leaf(n))))
            .collect();
        let kind = OpKind::Merge {
            entries,
            mark: false,
        };
        database
            .write(&claims, Write::of(base.clone(), kind))
            .await?;
    }
    Ok(())
}

/// Closed loop: each writer waits for its answer.
async fn write_leaves(plan: &Plan, database: &Database, leaves: usize) -> Result<Measured> {
    let base = Arc::new(base(database)?);
    let cpu = process::own_cpu_time()?;
    let start = Instant::now();
    let deadline = start + plan.window;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (database, base) = (database.clone(), base.clone());
            tokio::spawn(async move {
                let claims = Claims::anonymous();
                let mut written = 0;
                while Instant::now() < deadline {
                    let n = (writer + written * WRITERS) * 7919 % leaves;
                    let kind = OpKind::Put {
                        value: leaf(written),
                        mark: false,
                    };
                    let path = base.child_unchecked(&format!("k{n:07}"));
                    database.write(&claims, Write::of(path, kind)).await?;
                    written += 1;
                }
                Ok::<_, sapwood_core::WriteError>(written as u64)
            })
        })
        .collect();
    let mut operations = 0;
    for writer in writers {
        operations += writer.await??;
    }
    let server_cpu = process::own_cpu_time()? - cpu;
    Ok(Measured {
        operations,
        window: start.elapsed(),
        server_cpu,
        generator_cpu: server_cpu,
        latency: None,
    })
}

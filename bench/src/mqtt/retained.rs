//! What a new subscriber of `#` costs, and how soon it has something.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    Broker, WRITERS,
    client::{self, READ_BYTES},
    opening, puts, wire,
};
use crate::{Plan, closed_loop::Measured, process, report, resting};

const FEW: usize = 20_000;
const MANY: usize = 1_000_000;

/// The first state of 20,000 records, and of 1,000,000 with the memory that it takes.
///
/// # Errors
/// A server didn't start, or lost something.
pub fn read(plan: &Plan) -> Result<()> {
    let brokers = Broker::all(plan)?;
    let mut contenders: Vec<super::Contender<'_>> = Vec::new();
    for broker in &brokers {
        let count = fill(broker, FEW)?;
        contenders.push((
            format!("{}: read of {count} retained by `#`", broker.name),
            Box::new(move || reads(broker, count, plan.window)),
        ));
    }
    super::in_turn(plan, contenders)?;
    drop(brokers);
    // Its bounds are the time to the first record and the memory, which need no peer.
    read_many(&Broker::sapwood(plan, &[])?)
}

/// Puts about so many records: how many it were.
fn fill(broker: &Broker, count: usize) -> Result<usize> {
    // Two puts of each topic.
    let each = 2 * (count / WRITERS);
    puts(broker, 16, each).publish(each as u64)?;
    Ok(WRITERS * (count / WRITERS))
}

/// Reads over and over; the latency is that of the first record.
fn reads(broker: &Broker, count: usize, window: Duration) -> Result<Measured> {
    read_once(broker, count)?;
    let (server, own) = (process::cpu_time(broker.id)?, process::own_cpu_time()?);
    let start = Instant::now();
    let (mut operations, mut firsts) = (0, Vec::new());
    while start.elapsed() < window {
        firsts.push(read_once(broker, count)?);
        operations += count as u64;
    }
    let window = start.elapsed();
    firsts.sort_unstable();
    Ok(Measured {
        operations,
        window,
        server_cpu: process::cpu_time(broker.id)? - server,
        generator_cpu: process::own_cpu_time()? - own,
        latency: Some((firsts[firsts.len() / 2], firsts[firsts.len() * 99 / 100])),
    })
}

fn read_many(broker: &Broker) -> Result<()> {
    let count = fill(broker, MANY)?;
    let before = resting::settled(broker.id)?;
    let (server, own) = (process::cpu_time(broker.id)?, process::own_cpu_time()?);
    let start = Instant::now();
    let (first, peak) = with_peak(broker.id, || read_once(broker, count))?;
    let took = start.elapsed();
    let cpu = process::cpu_time(broker.id)? - server;
    let own = process::own_cpu_time()? - own;
    let after = resting::settled(broker.id)?;
    let mib = |bytes: u64| bytes >> 20;
    report::line(
        &format!("{}: read of {count} retained by `#`", broker.name),
        &Measured {
            operations: count as u64,
            window: took,
            server_cpu: cpu,
            generator_cpu: own,
            latency: Some((first, first)),
        },
    );
    report::figure(
        &format!("{}: resident before, at the peak, after", broker.name),
        &format!("{}, {}, {} MiB", mib(before), mib(peak), mib(after)),
    );
    Ok(())
}

/// Subscribes to all, and reads so many records: how long the first took.
fn read_once(broker: &Broker, count: usize) -> Result<Duration> {
    let mut stream = client::open(broker.address, &opening("reader".into()))?;
    let start = Instant::now();
    stream.write_all(&wire::subscribe(&["#".to_owned()], 0))?;
    let mut buffer = vec![0; READ_BYTES];
    let (mut held, mut left, mut first) = (0, count, None);
    while left > 0 {
        held += read_some(&mut stream, &mut buffer[held..])
            .with_context(|| format!("{left} of {count} records are missing"))?;
        let mut at = 0;
        while let Some((byte, _, end)) = wire::first(&buffer[at..held]) {
            match byte >> 4 {
                3 => {
                    first.get_or_insert_with(|| start.elapsed());
                    left = left.saturating_sub(1);
                }
                9 => {}
                _ => bail!("not expected: {byte:#x}"),
            }
            at += end;
            if left == 0 {
                break;
            }
        }
        buffer.copy_within(at..held, 0);
        held -= at;
    }
    first.context("no record came")
}

fn read_some(stream: &mut TcpStream, room: &mut [u8]) -> Result<usize> {
    match stream.read(room)? {
        0 => bail!("the server closed the connection"),
        n => Ok(n),
    }
}

/// Runs `work` beside a look at the server's memory every few milliseconds: the most that was seen.
fn with_peak<T>(server: u32, work: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut peak = 0;
            while !done.load(Ordering::Relaxed) {
                peak = peak.max(process::resident(server).unwrap_or(0));
                std::thread::sleep(Duration::from_millis(20));
            }
            peak
        });
        let worked = work();
        done.store(true, Ordering::Relaxed);
        let peak = watching.join().map_err(|_| anyhow::anyhow!("panicked"))?;
        Ok((worked?, peak))
    })
}

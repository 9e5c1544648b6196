//! What the server costs while nothing happens: its start, its memory, its connections.

use std::{
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::Result;
use sapwood_testkit::ServerBuilder;

use crate::{
    Plan,
    exchange::{self, Exchange, Framing},
    fan_out::Stream,
    peers::Peer,
    process, report,
};

const STARTS: usize = 9;

/// Cold start on an empty folder: until the first answer, and what is resident then.
///
/// # Errors
/// The server didn't start.
pub fn start(plan: &Plan) -> Result<()> {
    let (mut times, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let begin = Instant::now();
        let server = ServerBuilder::dev(&plan.sapwood).start()?;
        let mut exchange = Exchange::connect(server.address(), Framing::Http)?;
        exchange.send(&exchange::read_request("/"))?;
        times.push(begin.elapsed());
        memory.push(settled(server.id())?);
    }
    times.sort_unstable();
    memory.sort_unstable();
    report::figure(
        "cold start, empty, to the first answer",
        &report::time(times[STARTS / 2]),
    );
    report::figure(
        "resident then",
        &format!("{} MiB", tenths(memory[STARTS / 2], 1 << 20)),
    );
    Ok(())
}

/// Resident memory of each of many connections that watch and are told nothing, and of nchan's beside it.
///
/// # Errors
/// A server didn't start, or took not so many connections.
pub fn connections(plan: &Plan, count: usize) -> Result<()> {
    for (stream, name) in [(Stream::WebSocket, "WebSocket"), (Stream::Sse, "SSE")] {
        let server = ServerBuilder::dev(&plan.sapwood)
            .set("store.durability=memory")
            .start()?;
        let mut exchange = Exchange::connect(server.address(), Framing::Http)?;
        exchange.send(&exchange::write_request("PUT", "/sensors/341", "1"))?;
        let each = memory_of_each(
            server.address(),
            server.id(),
            &stream.request("/sensors/341"),
            count,
        )?;
        report::figure(
            &format!("{count} {name} connections at rest, each"),
            &format!("{} KiB", tenths(each, 1 << 10)),
        );
        let nchan = Peer::nginx(1, NCHAN)?;
        let each = memory_of_each(nchan.address, nchan.id(), &stream.request("/sub"), count)?;
        report::figure(
            &format!("nchan, {count} by {name}, each"),
            &format!("{} KiB", tenths(each, 1 << 10)),
        );
    }
    Ok(())
}

const NCHAN: &str =
    "location = /sub { nchan_subscriber eventsource websocket; nchan_channel_id bench; }";

fn memory_of_each(address: SocketAddr, server: u32, request: &[u8], count: usize) -> Result<u64> {
    let before = settled(server)?;
    let mut held: Vec<TcpStream> = Vec::with_capacity(count);
    for _ in 0..count {
        held.push(exchange::open_stream(address, request)?.0);
    }
    let after = settled(server)?;
    drop(held);
    Ok(after.saturating_sub(before) / count as u64)
}

/// Resident memory once it stands still, or after five seconds.
pub fn settled(server: u32) -> Result<u64> {
    let mut last = process::resident(server)?;
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(300));
        let now = process::resident(server)?;
        if now.abs_diff(last) < 64 << 10 {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

/// `amount` in units, to one digit.
pub fn tenths(amount: u64, unit: u64) -> String {
    let tenths = amount * 10 / unit;
    format!("{}.{}", tenths / 10, tenths % 10)
}

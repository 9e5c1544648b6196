//! What is measured under load.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context, Result, bail};
use sapwood_testkit::{FLUSH_MS_VARIABLE, Server, ServerBuilder, slow_flush_library};

use crate::{
    Plan,
    closed_loop::{Load, Measured},
    exchange::{self, Exchange, Framing},
    fan_out::{FanOut, Stream},
    peers::Peer,
    report,
};

const WRITERS: usize = 64;
/// How many keys each connection goes through.
const KEYS: usize = 64;
/// How many requests: each key is written with two values in turn, so that each write changes something.
const REQUESTS: usize = 2 * KEYS;
const RECEIVERS: usize = 100;
/// How many publish at once where one that waits for each answer is not the full rate.
const PUBLISHERS: usize = 16;

/// A record as a sensor would send it, about 100 bytes.
fn record(n: usize) -> String {
    format!(
        r#"{{"temp":{}.5,"unit":"C","name":"sensor {n:06}","place":"greenhouse 7, row 12","online":true,"seen":1760000000}}"#,
        n % 40
    )
}

fn sapwood(plan: &Plan) -> Result<Server> {
    ServerBuilder::dev(&plan.sapwood).start()
}

/// Durable writes by 64 connections, beside Redis.
///
/// # Errors
/// A server didn't start, or refused something.
pub fn put(plan: &Plan) -> Result<()> {
    let (server, redis) = (sapwood(plan)?, Peer::redis(&[])?);
    let ours = put_load(&server, WRITERS);
    let theirs = Load {
        address: redis.address,
        server: redis.id(),
        framing: Framing::Resp,
        requests: requests(WRITERS, redis_set),
    };
    in_turn(
        plan,
        ("PUT, durable, 64 connections", || ours.run(plan.window)),
        ("Redis SET, `appendfsync always`, 64 connections", || {
            theirs.run(plan.window)
        }),
    )
}

/// Group commit: 64 writers against one, where a flush costs 5 ms.
///
/// # Errors
/// The server didn't start, or refused something.
pub fn slow_flush(plan: &Plan) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let library = slow_flush_library(folder.path())?;
    let server = ServerBuilder::dev(&plan.sapwood)
        .environment("LD_PRELOAD", &library)
        .environment(FLUSH_MS_VARIABLE, "5")
        .start()?;
    let (many, one) = (put_load(&server, WRITERS), put_load(&server, 1));
    in_turn(
        plan,
        ("PUT, a flush costs 5 ms, 64 connections", || {
            many.run(plan.window)
        }),
        ("the same, 1 connection", || one.run(plan.window)),
    )
}

/// A read from memory, beside nginx answering a constant of the same size and headers.
///
/// # Errors
/// A server didn't start, or refused something.
pub fn get(plan: &Plan) -> Result<()> {
    let server = sapwood(plan)?;
    let mut exchange = Exchange::connect(server.address(), Framing::Http)?;
    exchange.send(&exchange::write_request(
        "PUT",
        "/sensors/341",
        &record(341),
    ))?;
    let answer = exchange.send(&exchange::read_request("/sensors/341"))?;
    let nginx = Peer::nginx(2, &constant_location(&String::from_utf8(answer)?)?)?;
    let request = || requests(WRITERS, |_, _| exchange::read_request("/sensors/341"));
    let load = |address, server| Load {
        address,
        server,
        framing: Framing::Http,
        requests: request(),
    };
    let ours = load(server.address(), server.id());
    let theirs = load(nginx.address, nginx.id());
    in_turn(
        plan,
        ("GET of a record, 64 connections", || ours.run(plan.window)),
        ("nginx, the same bytes as a constant", || {
            theirs.run(plan.window)
        }),
    )
}

/// One writer, and several, to 100 who watch, by each kind of stream, beside nchan.
///
/// # Errors
/// A server didn't start, or refused something.
pub fn fan_out(plan: &Plan) -> Result<()> {
    for stream in [Stream::Sse, Stream::WebSocket] {
        for publishers in [1, PUBLISHERS] {
            fan_out_by(plan, stream, publishers)?;
        }
    }
    Ok(())
}

fn fan_out_by(plan: &Plan, stream: Stream, publishers: usize) -> Result<()> {
    let server = ServerBuilder::dev(&plan.sapwood)
        .set("store.durability=memory")
        .start()?;
    let nchan = Peer::nginx(1, NCHAN)?;
    let fan_out = |address, server, watched: &str, requests| FanOut {
        address,
        server,
        stream,
        watched: watched.into(),
        receivers: RECEIVERS,
        publishers,
        requests,
    };
    let puts = (0..REQUESTS)
        .map(|n| exchange::write_request("PUT", &format!("/sensors/{}", n % KEYS), &record(n)))
        .collect();
    let posts = (0..REQUESTS)
        .map(|n| exchange::write_request("POST", "/pub", &event(n)))
        .collect();
    let ours = fan_out(server.address(), server.id(), "/sensors", puts);
    let theirs = fan_out(nchan.address, nchan.id(), "/sub", posts);
    let name = match stream {
        Stream::Sse => "SSE",
        Stream::WebSocket => "WebSocket",
    };
    in_turn(
        plan,
        (
            &format!("PUT by {publishers} to 100 {name} watchers, per delivery"),
            || ours.run(plan.window),
        ),
        (&format!("nchan, {publishers} to 100 by {name}"), || {
            theirs.run(plan.window)
        }),
    )
}

/// What a watcher of ours is sent, so that nchan sends as many bytes.
fn event(n: usize) -> String {
    format!(
        r#"{{"type":"put","path":"/sensors/{n}","value":{},"version":"0123456789abcdef.{:06}"}}"#,
        record(n),
        n * 1000
    )
}

const NCHAN: &str = "
location = /pub { nchan_publisher; nchan_channel_id bench; nchan_message_buffer_length 1000; nchan_message_timeout 10s; }
location = /sub { nchan_subscriber eventsource websocket; nchan_channel_id bench; nchan_subscriber_first_message newest; }
";

fn put_load(server: &Server, connections: usize) -> Load {
    Load {
        address: server.address(),
        server: server.id(),
        framing: Framing::Http,
        requests: requests(connections, |connection, n| {
            exchange::write_request(
                "PUT",
                &format!("/sensors/{connection}-{}", n % KEYS),
                &record(n),
            )
        }),
    }
}

fn redis_set(connection: usize, n: usize) -> Vec<u8> {
    let key = format!("sensors/{connection}-{}", n % KEYS);
    set(&key, record(n).as_bytes())
}

/// Redis' SET.
pub fn set(key: &str, value: &[u8]) -> Vec<u8> {
    let head = format!(
        "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n",
        key.len(),
        value.len()
    );
    [head.as_bytes(), value, b"\r\n"].concat()
}

/// For each connection its requests.
pub fn requests(
    connections: usize,
    request: impl Fn(usize, usize) -> Vec<u8>,
) -> Vec<Vec<Vec<u8>>> {
    (0..connections)
        .map(|connection| (0..REQUESTS).map(|n| request(connection, n)).collect())
        .collect()
}

/// An nginx location that answers everything with the same body and headers as `answer`.
fn constant_location(answer: &str) -> Result<String> {
    let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
    let mut location = String::from("location / {\n");
    for line in head.lines().skip(1) {
        let (name, value) = line
            .split_once(':')
            .with_context(|| format!("no header: {line}"))?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-type" => writeln!(location, "default_type '{value}';")?,
            // nginx writes these itself.
            "content-length" | "date" | "connection" => {}
            _ => writeln!(location, "add_header {name} '{value}';")?,
        }
    }
    if body.contains('\'') || body.contains('$') {
        bail!("a body that nginx would not take as it stands");
    }
    writeln!(location, "return 200 '{body}';\n}}")?;
    Ok(location)
}

type Run<'a, F> = (&'a str, F);

/// Runs both in turn, in windows of the same length, and prints the medians.
fn in_turn(
    plan: &Plan,
    (our_name, ours): Run<'_, impl Fn() -> Result<Measured>>,
    (their_name, theirs): Run<'_, impl Fn() -> Result<Measured>>,
) -> Result<()> {
    let (mut our_rounds, mut their_rounds) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        our_rounds.push(ours()?);
        their_rounds.push(theirs()?);
        // What one leaves behind (flushes, closed sockets) must not cost the other.
        std::thread::sleep(Duration::from_millis(200));
    }
    let (ours, theirs) = (report::median(our_rounds), report::median(their_rounds));
    report::line(our_name, &ours);
    report::line(their_name, &theirs);
    report::ratio(&ours, &theirs);
    Ok(())
}

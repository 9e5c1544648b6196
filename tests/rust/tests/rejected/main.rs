//! What may not be said, 100,000 times: each kind gets the standard's reason and a close, the memory stays flat, and another
//! client notices nothing. `REJECTED_EACH=100000` says so many of each kind instead.

mod kinds;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kinds::{Answer, Kind, connect, kinds, publish};
use sapwood_client_tests::{Client, Options, Server, Version};

const ALL: usize = 100_000;
const THREADS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(10);
/// What an allocator may keep more of; a hundred bytes for each would be four times that.
const GROWTH_KIB_MAX: u64 = 2 << 10;

fn stream(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", server.mqtt)).expect("a connection");
    stream.set_nodelay(true).expect("set");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream
}

/// Says it once, and returns what came until the server closed.
fn say(server: &Server, kind: &Kind, n: usize) -> Vec<u8> {
    let mut stream = stream(server);
    let mut said = kind
        .hello
        .map_or(Vec::new(), |level| connect(level, &format!("{n:09}")));
    said.extend(&kind.bytes);
    let mut heard = Vec::new();
    let told = stream
        .write_all(&said)
        .and_then(|()| stream.read_to_end(&mut heard));
    match told {
        Ok(_) => {}
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
            ) => {}
        Err(error) => panic!("{}: {error}, after {heard:x?}", kind.what),
    }
    heard
}

/// The packets in what was heard: first byte and body.
fn packets(mut heard: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut packets = Vec::new();
    while let [first, length, rest @ ..] = heard {
        assert!(*length < 0x80, "a long packet in {heard:x?}");
        let (body, behind) = rest.split_at(usize::from(*length).min(rest.len()));
        packets.push((*first, body.to_vec()));
        heard = behind;
    }
    packets
}

fn check(kind: &Kind, heard: &[u8]) {
    let packets = packets_of(kind, heard);
    let last = packets.last();
    let fits = match kind.answer {
        // Behind CONNACK, which says that the client was let in.
        Answer::Silence => {
            last.is_none_or(|(first, body)| kind.hello.is_some() && *first == 0x20 && body[1] == 0)
        }
        Answer::Refused(code) => {
            last.is_some_and(|(first, body)| *first == 0x20 && body[1] == code)
        }
        Answer::Ends(code) => {
            last.is_some_and(|(first, body)| *first == 0xE0 && body.first() == Some(&code))
        }
        Answer::Told(first, code) => packets
            .iter()
            .any(|(other, body)| *other == first && body.last() == Some(&code)),
    };
    assert!(
        fits,
        "{} ({}): expected {:?}, got {heard:x?}",
        kind.what, kind.section, kind.answer
    );
}

/// CONNACK of 5.0 has a length above 0x7F only if it says much.
fn packets_of(kind: &Kind, heard: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let packets = packets(heard);
    assert!(
        kind.hello.is_none() || packets.first().is_some_and(|(first, _)| *first == 0x20),
        "{}: {heard:x?}",
        kind.what
    );
    packets
}

fn rss_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).expect("Linux");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("its memory");
    line.split_whitespace()
        .nth(1)
        .expect("a number")
        .parse()
        .expect("a number")
}

/// Waits until a figure, of all labels, is 0.
fn wait_until_none(server: &Server, figure: &str) {
    let begin = Instant::now();
    loop {
        let page = server.get("/metrics").expect("figures");
        let lines: Vec<&str> = page
            .lines()
            .filter(|line| line.starts_with(figure))
            .collect();
        assert!(!lines.is_empty(), "no {figure} in {page}");
        if lines.iter().all(|line| line.ends_with(" 0")) {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "{lines:?}");
        thread::yield_now();
    }
}

/// Says each kind so many times.
fn storm(server: &Server, kinds: &[Kind], each: usize, ids: &AtomicUsize) {
    thread::scope(|scope| {
        for part in 0..THREADS {
            scope.spawn(move || {
                for n in 0..kinds.len() * each {
                    if n % THREADS == part {
                        let kind = &kinds[n % kinds.len()];
                        check(
                            kind,
                            &say(server, kind, ids.fetch_add(1, Ordering::Relaxed)),
                        );
                    }
                }
            });
        }
    });
}

/// Publishes to itself until told to stop; the longest time that it waited, and how often it was told.
fn bystander(server: &Server, stop: &AtomicBool) -> (Duration, usize) {
    let (client, _) = Client::connect(server, Options::new(Version::V5, "bystander"));
    client.subscribe("undisturbed/#", 1);
    let (mut longest, mut count) = (Duration::ZERO, 0);
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        client.say("undisturbed/a", &count.to_string(), 1, count % 2 == 0);
        assert_eq!(client.told(), format!("undisturbed/a {count} 1 false"));
        longest = longest.max(begin.elapsed());
        count += 1;
    }
    client.leave();
    (longest, count)
}

#[test]
fn each_kind_is_answered_as_the_standard_says() {
    let server = Server::start("rejected-once");
    let kinds = kinds();
    for (n, kind) in kinds.iter().enumerate() {
        check(kind, &say(&server, kind, n));
    }
    let mut names: Vec<&str> = kinds.iter().map(|kind| kind.what).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), kinds.len());
}

#[test]
fn a_hundred_thousand_rejected_packets_leak_nothing_and_disturb_nobody() {
    let server = Server::start("rejected");
    let (kinds, ids, stop) = (kinds(), AtomicUsize::new(0), AtomicBool::new(false));
    let each = std::env::var("REJECTED_EACH")
        .ok()
        .and_then(|each| each.parse().ok());
    let each = each.unwrap_or(ALL.div_ceil(kinds.len()));
    let begin = Instant::now();
    let (before, after, (longest, count)) = thread::scope(|scope| {
        let bystander = scope.spawn(|| bystander(&server, &stop));
        storm(&server, &kinds, each / 5, &ids);
        let before = rss_kib(&server);
        storm(&server, &kinds, each - each / 5, &ids);
        let after = rss_kib(&server);
        stop.store(true, Ordering::Relaxed);
        (before, after, bystander.join().expect("undisturbed"))
    });
    println!(
        "{} rejected packets of {} kinds in {:?}: {before} KiB after a fifth, {after} KiB at the end; \
         a bystander was told {count} times, the slowest in {longest:?}",
        each * kinds.len(),
        kinds.len(),
        begin.elapsed(),
    );
    assert!(
        after <= before + GROWTH_KIB_MAX,
        "from {before} to {after} KiB"
    );
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    // Nothing of it is left: no connection, no session, no will.
    for figure in ["sapwood_mqtt_connections", "sapwood_mqtt_client_ids"] {
        wait_until_none(&server, figure);
    }
    assert_eq!(server.get("/rejected"), None);
    let mut last = stream(&server);
    last.write_all(
        &[
            connect(5, "last"),
            publish(5, 0x32, "undisturbed/last", &[0, 1], b"x"),
        ]
        .concat(),
    )
    .expect("sent");
    let mut heard = [0; 3];
    last.read_exact(&mut heard).expect("CONNACK");
    assert_eq!(heard[0], 0x20);
}

//! T-D1: eight writers, SIGKILL at a random moment, a new start, a look. No write that was answered is lost, none is
//! there by half, and nothing is there that nobody wrote.
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use sapwood_testkit::{Client, Server, ServerBuilder};
use serde_json::{Value, json};

const ROUNDS: u64 = 20;
const WRITERS: u64 = 8;
const KEYS: u64 = 5;

/// What a key may hold after the crash.
#[derive(Clone, Debug, Default)]
struct Key {
    /// The newest answered write; 0 before the first, and whether it was a delete.
    answered: Option<u64>,
    /// The write that was sent and not answered, if any.
    in_flight: Option<Option<u64>>,
}

/// One writer's keys: nobody else writes there, so it knows what must be there.
type Known = BTreeMap<u64, Key>;

fn document(n: u64) -> Value {
    json!({ "n": n, "again": n, "pad": "x".repeat(usize::try_from(n % 300).unwrap()) })
}

/// Writes until the server is gone: a single PUT, a DELETE, or a batch over two paths that must agree.
fn write(
    address: SocketAddr,
    writer: u64,
    mut n: u64,
    known: &mut Known,
    answered: &AtomicU64,
) -> u64 {
    let Ok(mut client) = Client::connect(address) else {
        return n;
    };
    loop {
        n += 1;
        let key = n % KEYS;
        let value = (!n.is_multiple_of(7)).then_some(n);
        let entry = known.entry(key).or_default();
        entry.in_flight = Some(value);
        let path = format!("/kill/w{writer}/k{key}");
        let twin = format!("/kill/w{writer}/t{key}");
        let sent = match value {
            Some(n) => {
                let batch = json!([
                    { "op": "put", "path": path, "value": document(n) },
                    { "op": "put", "path": twin, "value": document(n) },
                ]);
                client.request(
                    "POST",
                    "/.batch",
                    &[("Content-Type", "application/json")],
                    batch.to_string().as_bytes(),
                )
            }
            None => {
                let batch =
                    json!([{ "op": "delete", "path": path }, { "op": "delete", "path": twin }]);
                client.request(
                    "POST",
                    "/.batch",
                    &[("Content-Type", "application/json")],
                    batch.to_string().as_bytes(),
                )
            }
        };
        let Ok(response) = sent else { return n };
        if response.status == 503 {
            return n; // it drains
        }
        assert_eq!(response.status, 200, "{}", response.text());
        entry.answered = value;
        entry.in_flight = None;
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

fn start_writers(
    server: &Server,
    known: &[Known],
    n: u64,
    answered: &Arc<AtomicU64>,
) -> Vec<JoinHandle<(Known, u64)>> {
    let address = server.address();
    (0..WRITERS)
        .zip(known.iter().cloned())
        .map(|(writer, mut known)| {
            let answered = Arc::clone(answered);
            thread::spawn(move || {
                let n = write(address, writer, n, &mut known, &answered);
                (known, n)
            })
        })
        .collect()
}

fn read(client: &mut Client, path: &str) -> Option<Value> {
    let response = client.get(path).unwrap();
    match response.status {
        200 => Some(serde_json::from_slice(&response.body).unwrap()),
        404 => None,
        other => panic!("GET {path}: {other} {}", response.text()),
    }
}

/// Compares, and takes what is there as what is known.
fn check(client: &mut Client, writer: u64, known: &mut Known, round: u64) {
    for (key, entry) in known {
        let path = format!("/kill/w{writer}/k{key}");
        let there = read(client, &path);
        let twin = read(client, &format!("/kill/w{writer}/t{key}"));
        assert_eq!(
            there, twin,
            "round {round}: half of the batch of {path} is there"
        );
        let n = there.as_ref().map(|value| value["n"].as_u64().unwrap());
        let may_be = [Some(entry.answered), entry.in_flight];
        assert!(
            may_be.contains(&Some(n)),
            "round {round}: {path} is {n:?}, and should be one of {may_be:?}"
        );
        assert_eq!(there, n.map(document), "round {round}: {path} is torn");
        *entry = Key {
            answered: n,
            in_flight: None,
        };
    }
}

/// Lets eight writers write, ends the server while they do, starts it again and compares; again and again.
fn rounds(rounds: u64, durability: &str, end: fn(&mut Server)) {
    let folder = tempfile::tempdir().unwrap();
    let mut server = ServerBuilder::dev(env!("CARGO_BIN_EXE_sapwood"))
        .data(folder.path().join("data"))
        .set("store.segment_bytes=1048576")
        .set(durability)
        .start()
        .unwrap();
    let mut known = vec![Known::new(); usize::try_from(WRITERS).unwrap()];
    let mut n = 0;
    for round in 0..rounds {
        let answered = Arc::new(AtomicU64::new(0));
        let writers = start_writers(&server, &known, n, &answered);
        let moment = 10 + RandomState::new().hash_one(round) % 400;
        while answered.load(Ordering::Relaxed) < moment {
            thread::yield_now();
        }
        end(&mut server);
        for (slot, writer) in known.iter_mut().zip(writers) {
            let (after, last) = writer.join().unwrap();
            *slot = after;
            n = n.max(last);
        }
        server.start_again().unwrap();
        let mut client = server.client().unwrap();
        for (writer, known) in (0..WRITERS).zip(&mut known) {
            check(&mut client, writer, known, round);
        }
    }
    assert!(server.terminate().unwrap().success());
}

fn kill(server: &mut Server) {
    server.kill().unwrap();
}

fn terminate(server: &mut Server) {
    let status = server.terminate().unwrap();
    assert!(status.success(), "{status}\n{}", server.log().unwrap());
}

#[test]
fn no_answered_write_is_lost_when_the_server_is_killed_at_any_moment() {
    rounds(ROUNDS, "store.durability=sync", kill);
}

#[test]
fn at_interval_no_answered_write_is_lost_to_a_kill_either() {
    rounds(5, "store.durability=interval", kill);
}

#[test]
fn no_answered_write_is_lost_when_the_server_is_told_to_end_under_load() {
    rounds(5, "store.durability=sync", terminate);
}

//! T-D5: a full disk is an error to the writer and no more. Reads and streams go on, and so do writes when there is
//! room again, without a restart.
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use sapwood_testkit::{Client, Server, ServerBuilder, SmallDisk};

const DISK_BYTES: u64 = 112 << 20;
const BALLAST_BYTES: usize = 48 << 20;
const VALUE_BYTES: usize = 256 << 10;

fn put(client: &mut Client, n: usize) -> u16 {
    let value = format!("\"{n}{}\"", "x".repeat(VALUE_BYTES));
    match client.put(&format!("/full/{n}"), &value) {
        Ok(response) => response.status,
        Err(error) => panic!("write {n} got no answer: {error:#}"),
    }
}

/// Writes until the disk is full; how many were answered well.
fn fill(server: &Server) -> usize {
    let mut client = server.client().unwrap();
    for n in 0..1000 {
        match put(&mut client, n) {
            201 => {}
            507 => return n,
            other => panic!("a write to a full disk was answered with {other}"),
        }
    }
    panic!("the disk never got full");
}

fn all_are_there(client: &mut Client, written: usize) {
    for n in 0..written {
        let response = client.get(&format!("/full/{n}")).unwrap();
        assert_eq!(response.status, 200, "write {n} was answered and is lost");
        assert_eq!(response.body.len(), VALUE_BYTES + n.to_string().len() + 2);
    }
}

/// Asks `/readyz` until it answers so: it follows the answers to writes.
fn becomes_ready(client: &mut Client, status: u16) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let ready = client.get("/readyz").unwrap();
        if ready.status == status {
            return;
        }
        assert!(Instant::now() < deadline, "not {status}: {}", ready.text());
    }
}

/// What a client of MQTT hears behind CONNACK when it publishes with RETAIN at QoS 1, up to that many bytes or the end.
fn publishes(server: &mut Server, level: u8, bytes: usize) -> Vec<u8> {
    let line = server.prints("mqtt://").unwrap();
    let address: SocketAddr = line.trim().trim_start_matches("mqtt://").parse().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let none: &[u8] = if level == 5 { &[0] } else { &[] };
    let connect = [b"\0\x04MQTT", &[level, 2, 0, 60][..], none, b"\0\x01c"].concat();
    let publish = [b"\0\x04full\0\x07", none, &[b'x'; 100]].concat();
    for (first, body) in [(0x10, connect), (0x33, publish)] {
        let head = [first, u8::try_from(body.len()).unwrap()];
        stream.write_all(&[&head[..], &body].concat()).unwrap();
    }
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[0], 0x20);
    stream
        .read_exact(&mut vec![0; usize::from(head[1])])
        .unwrap();
    let mut heard = Vec::new();
    stream.take(bytes as u64).read_to_end(&mut heard).unwrap();
    heard
}

#[test]
fn a_full_disk_refuses_writes_and_nothing_else_until_there_is_room() {
    let disk = match SmallDisk::mount(DISK_BYTES) {
        Ok(disk) => disk,
        Err(error) => {
            // Past the test runner's capture, so that it is seen and counted.
            writeln!(std::io::stderr(), "skipped: disk_full: {error:#}").unwrap();
            return;
        }
    };
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; BALLAST_BYTES]).unwrap();
    let mut server = ServerBuilder::dev(env!("CARGO_BIN_EXE_sapwood"))
        .data(disk.path().join("data"))
        .set("store.segment_bytes=2097152")
        .set("store.retention_bytes=2097152")
        .argument("--mqtt")
        .argument(":0")
        .start()
        .unwrap();

    let written = fill(&server);
    assert!(written > 10, "only {written} writes fitted");
    let mut client = server.client().unwrap();
    all_are_there(&mut client, written);
    let mut stream = server
        .client()
        .unwrap()
        .events("/full/0/nothing", &[])
        .unwrap();
    assert!(stream.data().unwrap().contains("\"put\""));
    let health = client.get("/healthz").unwrap();
    assert_eq!(health.status, 200, "{}", health.text());
    becomes_ready(&mut client, 503);
    // MQTT 5.0, 3.4.2.1; 3.1.1, 4.8.0-2: it may not be told that it is done, so the connection ends without an answer.
    assert_eq!(publishes(&mut server, 5, 5), [0x40, 3, 0, 7, 0x97]);
    assert_eq!(publishes(&mut server, 4, 5), []);

    std::fs::remove_file(&ballast).unwrap();
    // The engine looks for room from time to time; each try is a whole request.
    let deadline = Instant::now() + Duration::from_secs(20);
    while put(&mut client, written) != 201 {
        assert!(
            Instant::now() < deadline,
            "there is room, and writes are still refused"
        );
    }
    becomes_ready(&mut client, 200);

    server.kill().unwrap();
    server.start_again().unwrap();
    all_are_there(&mut server.client().unwrap(), written + 1);
    assert!(server.terminate().unwrap().success());
}

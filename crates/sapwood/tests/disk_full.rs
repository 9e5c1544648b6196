//! T-D5: a full disk is an error to the writer and no more. Reads and streams go on, and so do writes when there is
//! room again, without a restart.
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

use std::{
    io::Write,
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

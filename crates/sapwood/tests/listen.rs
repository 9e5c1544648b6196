//! Where MQTT listens besides a port: a Unix socket, behind a proxy that says for whom it connects, and where a file of
//! Harper's says.
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    process::Command,
    time::Duration,
};

use sapwood_testkit::{Server, ServerBuilder};

const BINARY: &str = env!("CARGO_BIN_EXE_sapwood");

/// CONNECT of 3.1.1 with a clean session, and the CONNACK that it must get.
const CONNECT: &[u8] = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01a";
const CONNACK: [u8; 4] = [0x20, 2, 0, 0];

/// Whether what is said on the stream is answered as a client's CONNECT is; else it must have been closed without a word.
fn lets_in<S: Read + Write>(mut stream: S, pieces: &[&[u8]]) -> bool {
    for piece in pieces {
        if stream
            .write_all(piece)
            .and_then(|()| stream.flush())
            .is_err()
        {
            break;
        }
    }
    let mut answer = Vec::new();
    let mut bytes = [0; 4];
    while answer.len() < CONNACK.len() {
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(n) => answer.extend_from_slice(&bytes[..n]),
        }
    }
    assert!(answer.is_empty() || answer == CONNACK, "{answer:?}");
    !answer.is_empty()
}

fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
}

fn mqtt_address(server: &Server) -> SocketAddr {
    let line = server.prints("mqtt://").unwrap();
    line.trim()
        .strip_prefix("mqtt://")
        .unwrap()
        .parse()
        .unwrap()
}

fn fails(arguments: &[&str]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(BINARY)
        .args(arguments)
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(!output.status.success(), "{arguments:?} should fail");
    let text = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), text)
}

fn at_socket(path: &Path) -> ServerBuilder {
    ServerBuilder::serve_open(BINARY)
        .argument("--mqtt")
        .argument(format!("unix:{}", path.display()))
}

#[test]
fn a_unix_socket_is_served_kept_to_its_mode_and_removed_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mqtt.sock");
    let mut server = at_socket(&path).start().unwrap();
    server.prints("mqtt at the Unix socket").unwrap();
    assert!(lets_in(UnixStream::connect(&path).unwrap(), &[CONNECT]));
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    assert!(!server.log().unwrap().contains("mqtt://"));

    let (code, text) = fails(&[
        "serve",
        "--open",
        "--memory",
        "--http",
        ":0",
        "--mqtt",
        &format!("unix:{}", path.display()),
    ]);
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("another program listens at"), "{text}");
    assert!(lets_in(UnixStream::connect(&path).unwrap(), &[CONNECT]));

    server.kill().unwrap();
    assert!(path.exists(), "a killed server can't tidy up");
    server.start_again().unwrap();
    assert!(lets_in(UnixStream::connect(&path).unwrap(), &[CONNECT]));
    assert!(server.terminate().unwrap().success());
    assert!(!path.exists());
}

#[test]
fn a_unix_socket_is_beside_the_port_with_a_mode_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mqtt.sock");
    let server = ServerBuilder::dev(BINARY)
        .set(&format!("mqtt.unix={}", path.display()))
        .set("mqtt.unix_mode=\"0600\"")
        .set("mqtt.listen=:0")
        .start()
        .unwrap();
    assert!(lets_in(tcp(mqtt_address(&server)), &[CONNECT]));
    assert!(lets_in(UnixStream::connect(&path).unwrap(), &[CONNECT]));
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_is_no_socket_stops_the_start_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letter");
    fs::write(&path, "dear").unwrap();
    let unix = format!("mqtt.unix={}", path.display());
    let (code, text) = fails(&["dev", "--memory", "--http", ":0", "--set", &unix]);
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("is no socket"), "{text}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "dear");
    for (set, said) in [
        ("mqtt.unix_mode=\"rw\"", "expected permission bits"),
        ("mqtt.listen=unix:/tmp/other", "leave one of them out"),
        (
            "http.proxy_protocol=[\"unix\"]",
            "http.proxy_protocol: expected",
        ),
        (
            "mqtt.proxy_protocol=[\"10.0.0.0/99\"]",
            "mqtt.proxy_protocol: expected an address",
        ),
    ] {
        let sets = ["--set", &unix, "--set", set];
        let (code, text) = fails(&[&["dev", "--memory", "--http", ":0"][..], &sets].concat());
        assert_eq!(code, 2, "{set}: {text}");
        assert!(text.contains(said), "{set}: {text}");
    }
}

/// Version 2, for a client at 192.0.2.8, port 40000, with an addition.
fn binary_header() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10".to_vec();
    header.extend([
        192, 0, 2, 8, 127, 0, 0, 1, 0x9c, 0x40, 0x07, 0x5b, 0x20, 0, 1, 9,
    ]);
    header
}

fn line(client: &str) -> String {
    format!("PROXY TCP4 {client} 127.0.0.1 40000 1883\r\n")
}

fn behind_a_proxy(proxies: &str) -> Server {
    ServerBuilder::dev(BINARY)
        .set(&format!("mqtt.proxy_protocol={proxies}"))
        .set("mqtt.listen=:0")
        .set("log.filter=debug")
        .set("http.connections_per_address_max=1")
        .set("mqtt.connect_timeout_s=2")
        .start()
        .unwrap()
}

#[test]
fn behind_a_proxy_the_client_is_whom_its_header_names() {
    let server = behind_a_proxy("[\"127.0.0.0/8\"]");
    let at = mqtt_address(&server);
    let text = line("192.0.2.7");
    // Cut everywhere, and with CONNECT in the same piece.
    let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
    assert!(lets_in(tcp(at), &[&bytes[..], &[CONNECT]].concat()));
    let connected = server.logs("mqtt client connected").unwrap();
    assert!(connected.contains("192.0.2.7:40000"), "{connected}");
    assert!(lets_in(
        tcp(at),
        &[&[&binary_header()[..], CONNECT].concat()]
    ));
    server.logs("192.0.2.8:40000").unwrap();
    // The proxy itself, to see whether we are there.
    let own = [&b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"[..], CONNECT].concat();
    assert!(lets_in(tcp(at), &[&own]));
    assert!(lets_in(tcp(at), &[b"PROXY UNKNOWN\r\n", CONNECT]));
}

#[test]
fn behind_a_proxy_the_limits_count_the_clients_address() {
    let server = behind_a_proxy("[\"127.0.0.1\"]");
    let at = mqtt_address(&server);
    let mut first = tcp(at);
    first.write_all(line("192.0.2.7").as_bytes()).unwrap();
    assert!(lets_in(&first, &[CONNECT]));
    let second = line("192.0.2.7");
    assert!(!lets_in(tcp(at), &[second.as_bytes(), CONNECT]));
    let other = line("192.0.2.9");
    assert!(lets_in(tcp(at), &[other.as_bytes(), CONNECT]));
}

#[test]
fn without_its_header_or_from_elsewhere_a_connection_is_refused() {
    let server = behind_a_proxy("[\"127.0.0.1\"]");
    let at = mqtt_address(&server);
    assert!(!lets_in(tcp(at), &[CONNECT]));
    server.logs("no PROXY header").unwrap();
    assert!(!lets_in(tcp(at), &[b"PROXY TCP4 x y 1 2\r\n", CONNECT]));
    server.logs("malformed PROXY line").unwrap();
    let mut long = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec();
    long.resize(5000, 0);
    assert!(!lets_in(tcp(at), &[&long]));
    server.logs("PROXY header too long").unwrap();
    // It waits for the rest no longer than for CONNECT.
    assert!(!lets_in(tcp(at), &[b"PROXY TCP4 "]));
    server.logs("no whole PROXY header in time").unwrap();
    let metrics = server.client().unwrap().get("/metrics").unwrap().text();
    assert!(
        metrics.contains("sapwood_limits_total{limit=\"mqtt.connect_timeout_s\"} 1"),
        "{metrics}"
    );

    let server = behind_a_proxy("[\"192.0.2.0/24\"]");
    let header = line("192.0.2.7");
    let at = mqtt_address(&server);
    assert!(!lets_in(tcp(at), &[header.as_bytes(), CONNECT]));
    server.logs("not from a trusted proxy").unwrap();
}

#[test]
fn a_unix_socket_may_be_a_proxys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mqtt.sock");
    let server = at_socket(&path)
        .set("mqtt.proxy_protocol=[\"unix\"]")
        .set("log.filter=debug")
        .start()
        .unwrap();
    let connect = || UnixStream::connect(&path).unwrap();
    assert!(!lets_in(connect(), &[CONNECT]));
    assert!(lets_in(connect(), &[&binary_header(), CONNECT]));
    server.logs("192.0.2.8:40000").unwrap();
}

#[test]
fn http_behind_a_proxy_logs_the_clients_address() {
    let server = ServerBuilder::dev(BINARY)
        .set("http.proxy_protocol=[\"127.0.0.1\", \"::1\"]")
        .start()
        .unwrap();
    let request = "GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut stream = tcp(server.address());
    stream
        .write_all(format!("{}{request}", line("192.0.2.7")).as_bytes())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let refused = server.logs("request refused").unwrap();
    assert!(refused.contains("192.0.2.7:40000"), "{refused}");
    let mut stream = tcp(server.address());
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    assert!(stream.read_to_end(&mut answer).map_or(true, |n| n == 0));
}

#[test]
fn a_file_of_harpers_says_where_mqtt_listens_and_what_is_not_heeded_is_logged() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("harper-config.yaml");
    fs::write(
        &file,
        "serverModules: [{module: mqtt, port: 0, securePort: 8883, webSocket: true}]\n",
    )
    .unwrap();
    let server = ServerBuilder::serve_open(BINARY)
        .argument("--harper-config")
        .argument(&file)
        .start()
        .unwrap();
    assert!(lets_in(tcp(mqtt_address(&server)), &[CONNECT]));
    let notice = server.logs("securePort").unwrap();
    assert!(notice.contains("harper-config.yaml:1"), "{notice}");

    fs::write(&file, "serverModules:\n  - module: [mqtt\n").unwrap();
    let (code, text) = fails(&["dev", "--harper-config", file.to_str().unwrap()]);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("harper-config.yaml:"), "{text}");
}

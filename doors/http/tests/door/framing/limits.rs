//! Every limit of a connection counts each time that it is met.

use std::sync::LazyLock;
use std::time::Duration;

use sapwood_http::HttpConfig;
use sapwood_testkit::LimitsMet;

use crate::server::Server;

/// How often each limit was met in this process.
static MET: LazyLock<LimitsMet> = LazyLock::new(LimitsMet::default);

/// What `run` does to a server meets the limit.
fn meets(limit: &str, config: HttpConfig, run: impl FnOnce(&Server)) {
    // Another test of this process may have been first, with the same recorder.
    let _installed = metrics::set_global_recorder(MET.clone());
    let before = MET.count(limit);
    let server = Server::with(config);
    run(&server);
    assert!(MET.grows(limit, before, Duration::from_secs(20)), "{limit}");
}

fn sends(bytes: impl AsRef<[u8]>) -> impl FnOnce(&Server) {
    move |server| {
        let mut client = server.connect();
        client.send(bytes.as_ref());
        client.rest();
    }
}

fn quick() -> HttpConfig {
    HttpConfig {
        head_timeout_s: 1,
        idle_timeout_s: 1,
        write_timeout_s: 1,
        ..HttpConfig::default()
    }
}

#[test]
fn what_bounds_a_head_counts() {
    let long = "x".repeat(70_000);
    let head = "GET / HTTP/1.1\r\nHost: localhost\r\n";
    meets(
        "http.head_bytes_max",
        quick(),
        sends(format!("{head}A: {long}\r\n\r\n")),
    );
    meets(
        "http.head_bytes_max",
        quick(),
        sends(format!("GET /{long} HTTP/1.1\r\n")),
    );
    meets(
        "http.head_fields_max",
        quick(),
        sends(format!("{head}{}\r\n", "A: b\r\n".repeat(101))),
    );
    meets("http.head_timeout_s", quick(), sends(head));
    meets("http.head_timeout_s", quick(), sends(""));
}

#[test]
fn a_connection_that_waits_too_long_between_requests_counts() {
    meets("http.idle_timeout_s", quick(), |server| {
        let mut client = server.connect();
        assert_eq!(client.ask("GET", "/", &[], b"").status, 200);
        assert_eq!(client.rest(), b"");
    });
}

#[test]
fn a_connection_beyond_the_most_counts() {
    let config = HttpConfig {
        connections_max: 1,
        ..HttpConfig::default()
    };
    meets("http.connections_max", config, |server| {
        let mut first = server.connect();
        assert_eq!(first.ask("GET", "/", &[], b"").status, 200);
        assert_eq!(server.connect().rest(), b"");
        assert_eq!(first.ask("GET", "/", &[], b"").status, 200);
    });
}

#[test]
fn who_takes_nothing_of_an_answer_is_cut_off() {
    let mut stuck = None;
    meets("http.write_timeout_s", quick(), |server| {
        let large = format!("\"{}\"", "x".repeat(4 << 20));
        assert_eq!(server.put("/large", &large).status, 201);
        let mut client = server.connect();
        let get = "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n";
        client.send(get.repeat(8).as_bytes());
        // Half a head does not put the end off.
        client.send(b"GET /large HTTP/1.1\r\n");
        stuck = Some(client);
    });
    // It has got less than it asked for.
    assert!(stuck.unwrap().rest().len() < 8 * (4 << 20));
}

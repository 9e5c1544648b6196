//! Requests that are no requests, and clients that are too slow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sapwood_http::{Folder, HttpConfig};

use crate::server::Server;

mod limits;

#[test]
fn smuggling_shapes_are_answered_400_and_closed() {
    let server = Server::start();
    for fields in [
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Content-Length: 0\n",
        "A: b\r\n folded\r\n",
        "Content-Length: -1\r\n",
    ] {
        let mut client = server.connect();
        client.send(
            format!("PUT /a HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n1\r\n1\r\n0\r\n\r\n")
                .as_bytes(),
        );
        let answer = client.answer(false);
        assert_eq!(
            (answer.status, answer.code()),
            (400, "bad_framing".to_owned()),
            "{fields:?}"
        );
        assert_eq!(answer.field("connection"), Some("close"));
        assert_eq!(client.rest(), b"", "{fields:?}");
    }
    assert_eq!(server.get("/a").status, 404);
}

#[test]
fn the_body_of_a_request_for_a_websocket_is_not_read_as_frames() {
    let server = Server::start();
    for (fields, body) in [
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Content-Length: 4\r\n", "abcd"),
    ] {
        let mut client = server.connect();
        client.send(
            format!(
                "GET /a HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n{body}"
            )
            .as_bytes(),
        );
        let answer = client.answer(false);
        assert_eq!((answer.status, &*answer.code()), (400, "bad_framing"));
        assert_eq!(answer.field("connection"), Some("close"));
        assert_eq!(client.rest(), b"", "{fields:?}");
    }
}

#[test]
fn what_is_no_http_is_told_why_and_closed() {
    let server = Server::start();
    let host = "\r\nHost: localhost\r\n\r\n";
    for (request, status, code) in [
        ("\u{16}\u{3}\u{1}", 400, "bad_request"),
        ("HELLO\r\n\r\n", 400, "bad_request"),
        ("G@T / HTTP/1.1", 400, "bad_request"),
        ("GET\u{1} / HTTP/1.1", 400, "bad_request"),
        ("GET /", 400, "bad_request"),
        ("GET ok HTTP/1.1", 400, "bad_request"),
        ("GET /a b HTTP/1.1", 400, "bad_request"),
        ("GET /<a> HTTP/1.1", 400, "bad_request"),
        ("GET /\0 HTTP/1.1", 400, "bad_request"),
        ("CONNECT localhost:80 HTTP/1.1", 400, "bad_request"),
        ("GET / HTTP/1.1\r\nA: b\0", 400, "bad_request"),
        ("GET / HTTP/1.1\r\nA: b\rc", 400, "bad_request"),
        ("GET / HTTP/1.1\r\nA(: b", 400, "bad_request"),
        ("GET / HTTP/1.2", 505, "version_not_supported"),
        ("GET / HTTP/9.9", 505, "version_not_supported"),
        (
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            505,
            "version_not_supported",
        ),
    ] {
        let mut client = server.connect();
        client.send(format!("{request}{host}").as_bytes());
        let answer = client.answer(false);
        assert_eq!(
            (answer.status, &*answer.code()),
            (status, code),
            "{request:?}"
        );
        let kind = format!("{{\"type\":\"urn:sapwood:problem:{code}\",\"title\":\"");
        assert!(answer.text().starts_with(&kind), "{answer:?}");
        for field in ["sapwood-version", "date", "x-content-type-options"] {
            assert!(answer.field(field).is_some(), "{field}: {answer:?}");
        }
        assert_eq!(answer.field("connection"), Some("close"));
        assert_eq!(client.rest(), b"", "{request:?}");
    }
    let mut client = server.connect();
    client.send(b"GET /\xe4 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.answer(false).code(), "bad_request");
    let mut client = server.connect();
    client.send(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.answer(false).code(), "bad_host");
}

#[test]
fn every_answer_names_a_version() {
    let server = Server::start();
    let version = server
        .put("/a", "1")
        .field("sapwood-version")
        .map(str::to_owned);
    assert!(version.is_some());
    for (method, target, fields, status) in [
        ("OPTIONS", "*", &[][..], 204),
        ("GET", "/metrics", &[], 200),
        ("HEAD", "/healthz", &[], 200),
        ("GET", "/.sapwood/readyz", &[], 200),
        ("GET", "/.sapwood/demo", &[], 200),
        ("GET", "/.json", &[], 404),
        ("GET", "/a?ns=none", &[], 404),
        ("GET", "/a//b", &[], 400),
        ("PUT", "/metrics", &[], 405),
        ("GET", "http://example.com/", &[], 421),
        ("GET", "/", &["Origin: https://example.com"], 403),
        ("GET", "/", &["Host: localhost"], 400),
    ] {
        let answer = server.ask(method, target, fields, b"");
        assert_eq!(answer.status, status, "{target}");
        assert_eq!(
            answer.field("sapwood-version"),
            version.as_deref(),
            "{target}"
        );
    }
}

#[test]
fn a_file_names_a_version_and_so_does_one_that_is_known() {
    let root = std::env::temp_dir().join(format!("sapwood-door-{}", std::process::id()));
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(root.join("page.html"), "page").unwrap();
    let folder = Arc::new(Folder::open(&root).unwrap());
    let server = Server::of(HttpConfig::default(), Some(folder), Vec::new());
    let put = server.put("/a", "1");
    let first = server.get("/page.html");
    let known = format!("If-None-Match: {}", first.field("etag").unwrap());
    let again = server.ask("GET", "/page.html", &[&known], b"");
    let head = server.ask("HEAD", "/page.html", &[], b"");
    std::fs::remove_file(root.join("page.html")).unwrap();
    let gone = server.get("/page.html");
    std::fs::remove_dir_all(&root).unwrap();
    assert_eq!((first.status, first.text()), (200, "page"));
    assert_eq!((again.status, head.status, gone.status), (304, 200, 404));
    for answer in [first, again, head, gone] {
        let version = answer.field("sapwood-version");
        assert!(version.is_some(), "{answer:?}");
        assert_eq!(version, put.field("sapwood-version"));
    }
}

#[test]
fn a_request_before_a_bad_one_gets_its_own_answer() {
    let server = Server::start();
    let mut client = server.connect();
    client.send(
        b"PUT /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n1GET / HTTP/1.1\nHost: localhost\r\n\r\n",
    );
    assert_eq!(client.answer(false).status, 201);
    assert_eq!(client.answer(false).code(), "bad_framing");
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_body_that_breaks_off_gets_one_answer() {
    let server = Server::start();
    for body in [
        "x\r\n",
        "1\r\n12\r\n0\r\n\r\n",
        "1\r\n1\r\n0\r\nA: \0\r\n\r\n",
    ] {
        let mut client = server.connect();
        client.send(
            format!(
                "PUT /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
            )
            .as_bytes(),
        );
        let answer = client.answer(false);
        assert_eq!(answer.code(), "bad_framing", "{body:?}");
        assert_eq!(answer.field("connection"), Some("close"), "{body:?}");
        assert_eq!(client.rest(), b"", "{body:?}");
    }
    assert_eq!(server.get("/a").status, 404);
}

#[test]
fn a_head_may_come_byte_by_byte() {
    let server = Server::start();
    let mut client = server.connect();
    for byte in b"PUT /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n2\r\n0\r\n\r\n" {
        client.send(&[*byte]);
    }
    assert_eq!(client.answer(false).status, 201);
    assert_eq!(client.ask("GET", "/a", &[], b"").text(), "2");
}

#[test]
fn a_stream_begins_behind_the_answer_before_it() {
    let server = Server::start();
    let large = format!("\"{}\"", "x".repeat(8 << 20));
    assert_eq!(server.put("/large", &large).status, 201);
    let mut client = server.connect();
    client.send(
        b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n\
          GET /a HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n",
    );
    assert_eq!(client.answer(false).body.len(), large.len());
    assert_eq!(client.answer(true).status, 200);
    client.until("data: ");
}

#[test]
fn who_sends_nothing_has_as_long_as_a_head_may_take() {
    let config = HttpConfig {
        head_timeout_s: 1,
        ..HttpConfig::default()
    };
    let server = Server::with(config);
    let begin = Instant::now();
    assert_eq!(server.connect().rest(), b"");
    assert!(begin.elapsed() < Duration::from_secs(8));
}

#[test]
fn between_requests_a_connection_may_idle_longer() {
    let config = HttpConfig {
        head_timeout_s: 1,
        idle_timeout_s: 4,
        ..HttpConfig::default()
    };
    let server = Server::with(config);
    let mut client = server.connect();
    let begin = Instant::now();
    assert_eq!(client.ask("GET", "/", &[], b"").status, 200);
    assert_eq!(client.rest(), b"");
    assert!(begin.elapsed() >= Duration::from_secs(3));
    // A head that has begun has its own time, from its first byte.
    let mut client = server.connect();
    assert_eq!(client.ask("GET", "/", &[], b"").status, 200);
    client.send(b"GET / ");
    assert_eq!(client.answer(false).code(), "head_timeout");
}

#[test]
fn requests_may_follow_without_waiting() {
    let server = Server::start();
    let mut client = server.connect();
    let put = "PUT /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n1";
    let get = "GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.send(format!("{put}{get}{get}").as_bytes());
    assert_eq!(client.answer(false).status, 201);
    assert_eq!(client.answer(false).text(), "1");
    assert_eq!(client.answer(false).text(), "1");
}

#[test]
fn a_head_that_is_too_large_or_too_slow_is_refused() {
    let config = HttpConfig {
        head_timeout_s: 1,
        ..HttpConfig::default()
    };
    let server = Server::with(config);
    let mut large = server.connect();
    large.send(
        format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nA: {}\r\n\r\n",
            "x".repeat(70_000)
        )
        .as_bytes(),
    );
    assert_eq!(large.answer(false).status, 431);
    let mut long = server.connect();
    long.send(format!("GET /{} HTTP/1.1\r\n", "x".repeat(70_000)).as_bytes());
    assert_eq!(long.answer(false).status, 414);
    let mut many = server.connect();
    many.send(
        format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
            "A: b\r\n".repeat(101)
        )
        .as_bytes(),
    );
    assert_eq!(many.answer(false).status, 431);
    let begin = Instant::now();
    let mut slow = server.connect();
    slow.send(b"GET / HTTP/1.1\r\nHost:");
    assert_eq!(slow.answer(false).status, 408);
    assert!(begin.elapsed() < Duration::from_secs(8));
}

#[test]
fn an_upgrade_to_something_else_is_just_a_request() {
    let server = Server::start();
    let answer = server.ask(
        "GET",
        "/",
        &[
            "Connection: Upgrade, HTTP2-Settings",
            "Upgrade: h2c",
            "HTTP2-Settings: x",
        ],
        b"",
    );
    assert_eq!(answer.status, 200);
}

#[test]
fn a_drain_ends_idle_connections() {
    let mut server = Server::start();
    let mut client = server.connect();
    assert_eq!(client.ask("GET", "/", &[], b"").status, 200);
    server.drain();
    assert_eq!(client.rest(), b"");
}

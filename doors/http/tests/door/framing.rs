//! Requests that are no requests, and clients that are too slow.

use std::time::{Duration, Instant};

use sapwood_http::HttpConfig;

use crate::server::Server;

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
fn what_is_no_http_is_answered_400_and_closed() {
    let server = Server::start();
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\r\n\r\n"[..],
        b"HELLO\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        let mut client = server.connect();
        client.send(bytes);
        assert_eq!(client.answer(false).status, 400, "{bytes:?}");
        client.rest();
    }
    let mut client = server.connect();
    client.send(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.answer(false).code(), "bad_host");
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

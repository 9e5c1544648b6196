//! What a body is, what may stand beside a write, and the format of its answer.

use sapwood_http::HttpConfig;

use crate::server::Server;

#[test]
fn without_a_type_a_body_is_what_the_ending_of_its_url_says() {
    let server = Server::start();
    let form = "Content-Type: application/x-www-form-urlencoded";
    for (target, fields, body) in [
        ("/a/b.cbor", &[][..], &b"\xa1\x61x\x01"[..]),
        ("/a/c.msgpack", &[], b"\x81\xa1x\x01"),
        ("/a/d.cbor", &[form], b"\xa1\x61x\x01"),
        (
            "/a/e.cbor",
            &["Content-Type: application/json"],
            b"{\"x\":1}",
        ),
    ] {
        let made = server.ask("PUT", target, fields, body);
        assert_eq!(made.status, 201, "{target}: {made:?}");
        let path = target.split('.').next().unwrap();
        assert_eq!(server.get(path).text(), "{\"x\":1}", "{target}");
    }
    assert_eq!(
        server
            .ask("PATCH", "/a/b.cbor", &[], b"\xa1\x61y\x02")
            .status,
        204
    );
    assert_eq!(server.get("/a/b").text(), "{\"x\":1,\"y\":2}");
    assert_eq!(
        server.ask("PUT", "/a/f.cbor", &[], b"\xff").code(),
        "malformed"
    );
}

#[test]
fn an_answer_to_a_write_has_the_format_of_the_ending() {
    let server = Server::start();
    let made = server.ask("POST", "/list.cbor", &[], b"\x01");
    assert_eq!(
        (made.status, made.field("content-type")),
        (201, Some("application/cbor"))
    );
    assert_eq!(made.body.first(), Some(&0x74), "a text of 20 bytes");
    let sent = server.ask("POST", "/list.msgpack?publish", &[], b"\x01");
    assert_eq!(
        (sent.field("content-type"), &*sent.body),
        (Some("application/msgpack"), &b"\x81\xa9receivers\x00"[..])
    );
    for (target, empty) in [("/.batch.cbor", b"\x80"), ("/.batch.msgpack", b"\x90")] {
        let done = server.ask("POST", target, &[], empty);
        assert_eq!((done.status, &*done.body), (200, &empty[..]), "{target}");
    }
    let done = server.ask(
        "POST",
        "/.batch.cbor",
        &[],
        b"\x81\xa3\x62op\x63put\x64path\x62/z\x65value\x01",
    );
    assert_eq!(
        (done.status, done.field("content-type")),
        (200, Some("application/cbor")),
        "{done:?}"
    );
    assert_eq!(server.get("/z").text(), "1");
}

#[test]
fn a_lifetime_goes_with_what_is_written_and_with_nothing_else() {
    let server = Server::start();
    server.put("/a", "1");
    for (method, target) in [("DELETE", "/a"), ("POST", "/a?publish")] {
        let refused = server.ask(method, target, &["Sapwood-Ttl: 5"], b"1");
        assert_eq!(
            (refused.status, refused.code()),
            (400, "bad_operation".to_owned()),
            "{method} {target}"
        );
    }
    let refused = server.ask("POST", "/a?publish", &["If-Match: *"], b"1");
    assert_eq!(refused.code(), "bad_operation");
    assert_eq!(server.get("/a").text(), "1");
}

#[test]
fn what_only_streams_understand_is_refused_beside_a_write() {
    let server = Server::start();
    server.put("/a", "{}");
    for query in ["since=x", "events=tree"] {
        for (method, path) in [
            ("GET", "/a"),
            ("PUT", "/a"),
            ("PATCH", "/a"),
            ("POST", "/a"),
            ("DELETE", "/a"),
            ("POST", "/.batch"),
        ] {
            let refused = server.ask(method, &format!("{path}?{query}"), &[], b"{}");
            assert_eq!(
                (refused.status, refused.code()),
                (400, "bad_query".to_owned()),
                "{method} {path}?{query}"
            );
        }
    }
    assert_eq!(server.get("/a").text(), "{}");
}

#[test]
fn a_type_whose_parameters_are_none_is_refused_and_nothing_is_stored() {
    let server = Server::start();
    for odd in [
        "a/b; =",
        "a/b; c",
        "a/b; c=",
        "a/b; =d",
        "a/b; c=d e",
        "x/y;a=\"b\\\"",
        "x/y;a=\"b",
        "x/y;a=\"b\"c",
        "application/json; =",
    ] {
        let refused = server.ask("PUT", "/a", &[&format!("Content-Type: {odd}")], b"1");
        assert_eq!(
            (refused.status, refused.code()),
            (400, "bad_header".to_owned()),
            "{odd}"
        );
    }
    assert_eq!(server.get("/a").status, 404);
    for fine in ["a/b;", "a/b; c=d;e=\"f;\\\"g\"", "a/b ; ;c=d"] {
        let made = server.ask("PUT", "/b", &[&format!("Content-Type: {fine}")], b"1");
        assert!(made.status < 300, "{fine}: {made:?}");
    }
}

#[test]
fn an_answer_that_leaves_a_body_unread_ends_the_connection_and_says_so() {
    let config = HttpConfig {
        body_bytes_max: 100,
        ..HttpConfig::default()
    };
    let server = Server::with(config);
    let large = "Content-Length: 70000\r\n";
    for (method, target, fields, status) in [
        ("PUT", "/a", large, 413),
        ("PUT", "/a", "Content-Length: 101\r\n", 413),
        ("PUT", "/a?x=1", large, 501),
        ("DELETE", "/a", large, 404),
        ("GET", "/a", "Content-Length: 1\r\n", 404),
        ("PUT", "/a?x=1", "Transfer-Encoding: chunked\r\n", 501),
        (
            "PUT",
            "/a?x=1",
            "Content-Length: 1\r\nExpect: 100-continue\r\n",
            501,
        ),
    ] {
        let mut client = server.connect();
        let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        client.send(head.as_bytes());
        let answer = client.answer(false);
        assert_eq!(answer.status, status, "{method} {target} {fields:?}");
        assert_eq!(answer.field("connection"), Some("close"), "{fields:?}");
        assert_eq!(client.rest(), b"", "{method} {target} {fields:?}");
    }
}

#[test]
fn a_small_body_that_the_answer_did_not_need_keeps_the_connection() {
    let server = Server::start();
    let mut client = server.connect();
    for (method, target) in [("PUT", "/a?x=1"), ("DELETE", "/a"), ("PATCH", "/a/")] {
        let head =
            format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n");
        client.send(head.as_bytes());
        client.send(b"{}");
        assert_eq!(
            client.answer(false).field("connection"),
            None,
            "{method} {target}"
        );
    }
    assert_eq!(client.ask("GET", "/a", &[], b"").status, 404);
}

#[test]
fn a_body_that_comes_too_slowly_is_told_once_and_ends_the_connection() {
    let server = Server::start();
    let mut client = server.connect();
    client.send(b"PUT /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1");
    let answer = client.answer(false);
    assert_eq!((answer.status, &*answer.code()), (408, "request_timeout"));
    assert_eq!(answer.field("connection"), Some("close"));
    assert_eq!(client.rest(), b"");
}

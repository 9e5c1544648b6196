//! Methods, formats and paths (issue, part 5).

use crate::server::Server;

#[test]
fn a_put_makes_then_replaces_then_removes() {
    let server = Server::start();
    let made = server.put("/a/b", r#"{"x":1,"y":[1,2.0,{}]}"#);
    assert_eq!(made.status, 201);
    let version = made.field("sapwood-version").unwrap().to_owned();
    let read = server.get("/a/b");
    assert_eq!(
        (read.status, read.text()),
        (200, r#"{"x":1,"y":[1,2.0,{}]}"#)
    );
    assert_eq!(read.field("sapwood-version"), Some(&*version));
    assert_eq!(read.field("vary"), Some("Accept"));
    assert_eq!(read.field("cache-control"), Some("no-cache"));
    assert_eq!(read.field("x-content-type-options"), Some("nosniff"));
    assert_eq!(server.put("/a/b", "2").status, 204);
    assert_eq!(server.get("/a").text(), r#"{"b":2}"#);
    assert_eq!(server.put("/a/b", "null").status, 204);
    let gone = server.get("/a/b");
    assert_eq!((gone.status, gone.code()), (404, "not_found".to_owned()));
    assert!(gone.field("sapwood-version").is_some());
    assert_eq!(server.put("/a/b", "null").status, 404);
    assert_eq!(server.get("/").text(), "{}");
}

#[test]
fn a_patch_merges_and_null_removes() {
    let server = Server::start();
    server.put("/a/b", r#"{"x":1,"y":2}"#);
    assert_eq!(
        server
            .ask("PATCH", "/a/b", &[], br#"{"x":null,"z":{"w":null}}"#)
            .status,
        204
    );
    assert_eq!(server.get("/a/b").text(), r#"{"y":2,"z":{"w":null}}"#);
    assert_eq!(server.ask("PATCH", "/a/b", &[], b"[1]").code(), "malformed");
    assert_eq!(
        server
            .ask("PATCH", "/a/b", &["Content-Type: text/plain"], b"x")
            .code(),
        "unsupported_type"
    );
}

#[test]
fn a_post_appends_a_child_under_an_id_that_sorts() {
    let server = Server::start();
    let first = server.ask("POST", "/list", &[], b"1");
    let second = server.ask("POST", "/list/", &[], b"2");
    assert_eq!((first.status, second.status), (201, 201));
    let (one, two) = (
        first.field("location").unwrap(),
        second.field("location").unwrap(),
    );
    assert!(one < two, "{one} {two}");
    assert_eq!(
        format!("\"{}\"", one.strip_prefix("/list/").unwrap()),
        first.text()
    );
    assert_eq!(server.get(one).text(), "1");
}

#[test]
fn a_delete_of_nothing_is_not_found() {
    let server = Server::start();
    assert_eq!(server.ask("DELETE", "/a", &[], b"").status, 404);
    server.put("/a", "1");
    assert_eq!(server.ask("DELETE", "/a", &[], b"").status, 204);
    assert_eq!(server.get("/a").status, 404);
}

#[test]
fn a_head_has_the_fields_and_no_body() {
    let server = Server::start();
    server.put("/a/b", "[1,2,3]");
    let mut client = server.connect();
    let head = client.ask("HEAD", "/a/b", &[], b"");
    assert_eq!(
        (head.status, head.field("content-length")),
        (200, Some("7"))
    );
    assert_eq!(
        client.ask("GET", "/a/b", &[], b"").field("etag"),
        head.field("etag")
    );
    assert_eq!(client.ask("HEAD", "/nothing", &[], b"").status, 404);
}

#[test]
fn a_trailing_slash_names_the_children() {
    let server = Server::start();
    server.put("/a", r#"{"10":"x","9":{"y":1},"b":null}"#);
    assert_eq!(
        server.get("/a/").text(),
        r#"[{"id":"9","value":{"y":1}},{"id":"10","value":"x"},{"id":"b","value":null}]"#
    );
    assert_eq!(server.get("/nothing/").status, 404);
    for method in ["PUT", "PATCH", "DELETE"] {
        let refused = server.ask(method, "/a/", &[], b"{}");
        assert_eq!(refused.status, 405);
        assert_eq!(refused.field("allow"), Some("GET, HEAD, POST, OPTIONS"));
    }
}

#[test]
fn a_large_tree_streams_in_every_format() {
    let server = Server::start();
    for n in 0..40 {
        server.put(&format!("/big/{n}"), &format!("\"{}\"", "x".repeat(5000)));
    }
    let json = server.get("/big");
    assert_eq!(json.field("transfer-encoding"), Some("chunked"));
    assert_eq!(json.field("etag"), None);
    assert_eq!(json.body.len(), 2 + 39 + 40 * 5002 + 10 * 4 + 30 * 5);
    assert!(server.get("/big/").body.len() > json.body.len());
    assert_eq!(server.get("/big.cbor").body.first(), Some(&0xbf));
    assert_eq!(server.get("/big.msgpack").body.first(), Some(&0xde));
}

#[test]
fn formats_go_by_type_accept_and_ending() {
    let server = Server::start();
    let made = server.ask(
        "PUT",
        "/a/b",
        &["Content-Type: application/cbor"],
        b"\xa1\x61x\x41\xff",
    );
    assert_eq!(made.status, 201);
    assert_eq!(server.get("/a/b").text(), r#"{"x":{".bytes":"/w=="}}"#);
    assert_eq!(server.get("/a/b.cbor").body, b"\xa1\x61x\x41\xff");
    assert_eq!(
        server
            .ask("GET", "/a/b", &["Accept: application/x-msgpack"], b"")
            .body,
        b"\x81\xa1x\xc4\x01\xff"
    );
    assert_eq!(
        server
            .ask(
                "GET",
                "/a/b",
                &["Accept: application/cbor, application/json"],
                b""
            )
            .field("content-type"),
        Some("application/json")
    );
    let none = server.ask("GET", "/a/b", &["Accept: image/png"], b"");
    assert_eq!(
        (none.status, none.code()),
        (406, "not_acceptable".to_owned())
    );
    assert!(none.text().contains(r#""available":["application/json","#));
    assert_eq!(server.get("/a/b.json").code(), "json_ending");
}

#[test]
fn a_body_of_another_type_is_kept_and_given_back() {
    let server = Server::start();
    let html = "<script>alert(1)</script>";
    assert_eq!(
        server
            .ask(
                "PUT",
                "/page",
                &["Content-Type: text/html; charset=utf-8"],
                html.as_bytes()
            )
            .status,
        201
    );
    let page = server.ask("GET", "/page", &["Accept: text/html,*/*;q=0.8"], b"");
    assert_eq!(
        (page.text(), page.field("content-type")),
        (html, Some("text/html; charset=utf-8"))
    );
    assert_eq!(page.field("content-security-policy"), Some("sandbox"));
    assert!(
        server
            .ask("GET", "/page", &["Accept: application/json"], b"")
            .text()
            .contains(r#"".type":"text/html; charset=utf-8""#)
    );
    server.ask("PUT", "/picture", &["Content-Type: image/png"], b"\x89PNG");
    let picture = server.get("/picture");
    assert_eq!(
        (&*picture.body, picture.field("content-security-policy")),
        (&b"\x89PNG"[..], None)
    );
    server.ask(
        "PUT",
        "/note",
        &["Content-Type: text/plain"],
        "ä".as_bytes(),
    );
    assert_eq!(server.get("/note").text(), "\"ä\"");
    assert_eq!(
        server
            .ask("GET", "/note", &["Accept: text/plain"], b"")
            .text(),
        "ä"
    );
}

#[test]
fn a_body_without_a_type_is_json_or_says_what_to_add() {
    let server = Server::start();
    let form = "Content-Type: application/x-www-form-urlencoded";
    assert_eq!(server.ask("PUT", "/a", &[form], b"{\"x\":1}").status, 201);
    let refused = server.ask("PUT", "/a", &[form], b"hello");
    assert_eq!(
        (refused.status, refused.code()),
        (415, "type_needed".to_owned())
    );
    assert!(refused.text().contains("-H 'Content-Type: text/plain'"));
    assert_eq!(
        server
            .ask("PUT", "/a", &["Content-Encoding: gzip"], b"1")
            .code(),
        "unsupported_type"
    );
    assert_eq!(server.get("/a").text(), "{\"x\":1}");
}

#[test]
fn bad_bodies_store_nothing_and_the_connection_goes_on() {
    let server = Server::start();
    let mut client = server.connect();
    let deep = "[".repeat(200_000);
    for (body, code) in [
        ("{\"a\":", "malformed"),
        ("{\"a\":1,\"a\":2}", "duplicate_key"),
        ("[1e999]", "number_range"),
        (&*deep, "too_deep"),
    ] {
        let answer = client.ask(
            "PUT",
            "/a",
            &["Content-Type: application/json"],
            body.as_bytes(),
        );
        assert_eq!(
            (answer.status, answer.code()),
            (400, code.to_owned()),
            "{answer:?}"
        );
    }
    for body in [
        &b"\x9f"[..],
        b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xa1\x01\x02",
        b"\xf9\x7e\x00",
    ] {
        assert_eq!(
            client
                .ask("PUT", "/a", &["Content-Type: application/cbor"], body)
                .status,
            400,
            "{body:?}"
        );
    }
    assert_eq!(client.ask("GET", "/a", &[], b"").status, 404);
}

#[test]
fn a_body_above_the_limit_is_refused() {
    let config = sapwood_http::HttpConfig {
        body_bytes_max: 1000,
        ..Default::default()
    };
    let server = Server::with(config);
    let refused = server.put("/a", &format!("\"{}\"", "x".repeat(2000)));
    assert_eq!(
        (refused.status, refused.code()),
        (413, "too_large".to_owned())
    );
    let mut client = server.connect();
    client.send(b"PUT /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..20 {
        client.send(b"64\r\n");
        client.send(&[b'1'; 100]);
        client.send(b"\r\n");
    }
    assert_eq!(client.answer(false).status, 413);
    assert_eq!(server.get("/a").status, 404);
}

#[test]
fn paths_that_a_url_cannot_say_are_escaped() {
    let server = Server::start();
    assert_eq!(server.put("/x/report%252Ejson", "1").status, 201);
    assert_eq!(server.put("/x/~", "2").status, 201);
    assert_eq!(server.get("/x").text(), r#"{"":2,"report.json":1}"#);
    assert_eq!(server.get("/x//y").code(), "bad_path");
    assert_eq!(server.get("/%ff").code(), "bad_escape");
    assert_eq!(server.get("/.secret").code(), "unknown_system_path");
    assert_eq!(server.put("/.secret/x", "1").code(), "unknown_system_path");
}

#[test]
fn a_request_belongs_to_the_database_that_it_names() {
    let server = Server::start();
    server.put("/a?ns=other", "1");
    assert_eq!(server.get("/a").status, 404);
    assert_eq!(server.get("/a?ns=other").text(), "1");
    for default in ["", "localhost", "123"] {
        assert_eq!(server.get(&format!("/?ns={default}")).text(), "{}");
    }
    assert_eq!(server.get("/a?ns=nobody").code(), "unknown_database");
    let mut client = server.connect();
    // Host names have no case.
    for host in ["other.localhost", "OTHER.localhost", "Other.LocalHost:9"] {
        client.send(format!("GET /a HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        assert_eq!(client.answer(false).text(), "1", "{host}");
    }
}

#[test]
fn a_message_reaches_nobody_or_somebody_and_is_not_kept() {
    let server = Server::start();
    let sent = server.ask("POST", "/a?publish", &[], b"{\"m\":1}");
    assert_eq!((sent.status, sent.text()), (200, r#"{"receivers":0}"#));
    assert_eq!(server.get("/a").status, 404);
    assert_eq!(
        server.ask("PUT", "/a?publish", &[], b"1").code(),
        "bad_query"
    );
}

#[test]
fn what_the_query_cannot_do_yet_is_said() {
    let server = Server::start();
    for query in ["age==3", "since==1", "explain=1", "after=x"] {
        let answer = server.get(&format!("/a?{query}"));
        assert_eq!(
            (answer.status, answer.code()),
            (501, "not_yet".to_owned()),
            "{query}"
        );
    }
}

#[test]
fn server_values_and_lifetimes_are_taken() {
    let server = Server::start();
    server.put("/c/n", "5");
    assert_eq!(
        server
            .ask("PATCH", "/c", &[], br#"{"n":{".sv":{"increment":2}}}"#)
            .status,
        204
    );
    assert_eq!(server.get("/c/n").text(), "7");
    assert_eq!(
        server
            .ask(
                "PUT",
                "/c/t",
                &["Sapwood-Ttl: 100"],
                br#"{".sv":"timestamp"}"#
            )
            .status,
        201
    );
    assert!(server.get("/c/t").text().parse::<u64>().unwrap() > 1_700_000_000_000);
    assert_eq!(
        server.ask("PUT", "/c/t", &["Sapwood-Ttl: 0"], b"1").code(),
        "bad_ttl"
    );
}

#[test]
fn pages_of_other_sites_get_nothing_and_those_of_this_machine_may_read() {
    let server = Server::start();
    let mut client = server.connect();
    client.send(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_eq!(client.answer(false).status, 421);
    assert_eq!(
        server
            .ask("GET", "/", &["Origin: https://evil.example"], b"")
            .status,
        403
    );
    assert_eq!(
        server
            .ask("GET", "/", &["Sec-Fetch-Site: cross-site"], b"")
            .status,
        403
    );
    let preflight = server.ask(
        "OPTIONS",
        "/a",
        &[
            "Origin: http://localhost:3000",
            "Access-Control-Request-Method: PUT",
            "Access-Control-Request-Headers: if-match, x-requested-with",
        ],
        b"",
    );
    assert_eq!(preflight.status, 204);
    assert_eq!(
        preflight.field("access-control-allow-origin"),
        Some("http://localhost:3000")
    );
    assert!(
        preflight
            .field("access-control-allow-methods")
            .unwrap()
            .contains("PATCH")
    );
    assert_eq!(
        preflight.field("access-control-allow-headers"),
        Some("if-match, x-requested-with"),
        "full, for a page of this machine"
    );
    assert_eq!(server.get("/").field("access-control-allow-origin"), None);
}

#[test]
fn the_demo_page_is_for_browsers() {
    let server = Server::start();
    let browser = ["Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"];
    let page = server.ask("GET", "/", &browser, b"");
    assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
    assert!(
        page.field("content-security-policy")
            .unwrap()
            .contains("script-src 'self'")
    );
    assert_eq!(server.get("/").text(), "{}");
    assert_eq!(server.get("/.sapwood/demo").body, page.body);
    for name in [
        "/metrics",
        "/healthz",
        "/readyz",
        "/.sapwood/metrics",
        "/.sapwood/healthz",
        "/.sapwood/readyz",
    ] {
        assert_eq!(server.get(name).status, 200, "{name}");
        assert_eq!(server.ask("HEAD", name, &[], b"").status, 200, "{name}");
        assert_eq!(server.ask("PUT", name, &[], b"1").status, 405, "{name}");
    }
}

#[test]
fn streams_name_the_newest_commit_in_their_heads() {
    let server = Server::with(sapwood_http::HttpConfig::default());
    let put = server.put("/a", "1");
    let version = put.field("sapwood-version").unwrap().to_owned();
    for opening in [
        "Accept: text/event-stream",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ] {
        let mut client = server.connect();
        client.send(format!("GET /a HTTP/1.1\r\nHost: localhost\r\n{opening}\r\n\r\n").as_bytes());
        let head = client.until("\r\n\r\n");
        assert!(
            head.contains(&format!("Sapwood-Version: {version}\r\n"))
                || head.ends_with(&format!("Sapwood-Version: {version}")),
            "{head}"
        );
    }
}

#[test]
fn a_head_of_the_root_says_what_a_browser_would_get() {
    let server = Server::with(sapwood_http::HttpConfig::default());
    let head = server.ask("HEAD", "/", &["Accept: text/html"], b"");
    assert_eq!(head.status, 200);
    assert!(head.field("content-type").unwrap().starts_with("text/html"));
}

#[test]
fn the_conditions_of_a_post_are_about_the_path_that_the_url_names() {
    let server = Server::with(sapwood_http::HttpConfig::default());
    server.put("/k/r", "{}");
    let typed = "Content-Type: application/json";
    let post = |field: &str| server.ask("POST", "/k/r", &[typed, field], b"1").status;
    assert_eq!(post("If-Match: *"), 201);
    assert_eq!(post("If-Match: \"other\""), 412);
    assert_eq!(post("If-None-Match: *"), 412);
}

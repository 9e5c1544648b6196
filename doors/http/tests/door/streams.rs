//! Server-sent events (issue, part 6).

use crate::server::{Client, Server};

fn open(server: &Server, target: &str, fields: &[&str]) -> Client {
    let mut client = server.connect();
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    client.send(
        format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{fields}\r\n"
        )
        .as_bytes(),
    );
    let head = client.until("\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(
        head.contains("Content-Type: text/event-stream\r\n")
            && head.contains("Cache-Control: no-store\r\n"),
        "{head}"
    );
    let first = client.until("\n\n");
    assert!(
        first.starts_with(':') && first.contains("retry: "),
        "{first}"
    );
    client
}

/// The next block that is no comment: its id and its data.
fn next(client: &mut Client) -> (Option<String>, String) {
    let block = client.until("\n\n");
    assert!(!block.contains("event:"));
    let field = |name: &str| {
        block
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::to_owned)
    };
    (field("id: "), field("data: ").unwrap_or_default())
}

/// The data without its version.
fn told(client: &mut Client) -> String {
    let (_, data) = next(client);
    data.split(",\"version\"")
        .next()
        .unwrap()
        .trim_end_matches('}')
        .to_owned()
}

#[test]
fn a_stream_tells_the_state_and_then_its_changes() {
    let server = Server::start();
    let mut client = open(&server, "/a", &[]);
    assert_eq!(
        told(&mut client),
        r#"{"type":"put","path":"/a","value":null"#
    );
    let version = server
        .put("/a/b", "1")
        .field("sapwood-version")
        .unwrap()
        .to_owned();
    let (id, data) = next(&mut client);
    assert_eq!(id.as_deref(), Some(&*version));
    assert_eq!(
        data,
        format!(r#"{{"type":"put","path":"/a/b","value":1,"version":"{version}"}}"#)
    );
    server.ask("PATCH", "/a", &[], br#"{"c":2,"b":null}"#);
    assert_eq!(
        told(&mut client),
        r#"{"type":"patch","path":"/a","value":{"b":null,"c":2"#
    );
    server.ask("DELETE", "/a/c", &[], b"");
    assert_eq!(told(&mut client), r#"{"type":"delete","path":"/a/c""#);
    let sent = server.ask("POST", "/a/x?publish", &[], b"\"hi\"");
    assert_eq!(sent.text(), r#"{"receivers":1}"#);
    let (id, data) = next(&mut client);
    assert_eq!(
        (id, &*data),
        (None, r#"{"type":"message","path":"/a/x","value":"hi"}"#)
    );
}

#[test]
fn a_stream_resumes_without_gap_or_repeat() {
    let server = Server::start();
    let first = server
        .put("/a/x", "1")
        .field("sapwood-version")
        .unwrap()
        .to_owned();
    server.put("/a/y", "2");
    server.put("/other", "3");
    server.put("/a/z", "4");
    for client in [
        &mut open(&server, "/a", &[&format!("Last-Event-ID: {first}")]),
        &mut open(&server, &format!("/a?since={first}"), &[]),
    ] {
        assert_eq!(told(client), r#"{"type":"put","path":"/a/y","value":2"#);
        assert_eq!(told(client), r#"{"type":"put","path":"/a/z","value":4"#);
    }
}

#[test]
fn a_stream_that_cannot_resume_says_so() {
    let server = Server::start();
    server.put("/a", "1");
    for id in ["nonsense", "AAAAAAAAAAA.5"] {
        let mut client = open(&server, "/a", &[&format!("Last-Event-ID: {id}")]);
        assert!(told(&mut client).starts_with(r#"{"type":"reset","path":"/a""#));
        assert_eq!(told(&mut client), r#"{"type":"put","path":"/a","value":1"#);
    }
    let bad = server.ask(
        "GET",
        "/a?since=nonsense",
        &["Accept: text/event-stream"],
        b"",
    );
    assert_eq!(bad.code(), "bad_since");
}

#[test]
fn a_trailing_slash_and_a_declared_resource_tell_records() {
    let server = Server::start();
    server.put("/list/a", r#"{"x":1}"#);
    let mut list = open(&server, "/list/", &[]);
    assert_eq!(
        told(&mut list),
        r#"{"type":"put","path":"/list/a","id":"a","value":{"x":1"#
    );
    server.put("/list/a/x", "2");
    assert_eq!(
        told(&mut list),
        r#"{"type":"put","path":"/list/a","id":"a","value":{"x":2"#
    );
    let mut sensor = open(&server, "/sensors/7", &[]);
    assert!(told(&mut sensor).contains(r#""value":null"#));
    server.put("/sensors/7/t", "5");
    assert_eq!(
        told(&mut sensor),
        r#"{"type":"put","path":"/sensors/7","id":"7","value":{"t":5"#
    );
    let mut tree = open(&server, "/sensors/7?events=tree", &[]);
    told(&mut tree);
    server.put("/sensors/7/t", "6");
    assert_eq!(
        told(&mut tree),
        r#"{"type":"put","path":"/sensors/7/t","value":6"#
    );
    let bad = server.ask("GET", "/a?events=all", &["Accept: text/event-stream"], b"");
    assert_eq!(bad.code(), "bad_query");
}

#[test]
fn a_line_break_in_data_forges_nothing() {
    let server = Server::start();
    let mut client = open(&server, "/a", &[]);
    told(&mut client);
    server.put("/a/b%0A%0Adata:%20x", r#""\n\ndata: forged\r\nid: 9""#);
    let (_, data) = next(&mut client);
    assert!(
        data.contains(r#""value":"\n\ndata: forged\r\nid: 9""#)
            && data.contains(r#""path":"/a/b\n\ndata: x""#),
        "{data}"
    );
}

#[test]
fn a_drain_ends_streams() {
    let mut server = Server::start();
    let mut client = open(&server, "/a", &[]);
    told(&mut client);
    server.drain();
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_head_of_a_stream_has_its_fields_and_no_stream() {
    let server = Server::start();
    let events = "Accept: text/event-stream";
    let mut client = server.connect();
    for target in ["/a", "/a/", "/"] {
        let head = client.ask("HEAD", target, &[events], b"");
        assert_eq!(head.status, 200, "{target}");
        assert_eq!(head.field("content-type"), Some("text/event-stream"));
        assert_eq!(head.field("cache-control"), Some("no-store"));
        assert!(head.field("sapwood-version").is_some());
        assert_eq!(head.field("content-length"), None);
    }
    let head = client.ask("HEAD", "/a?since=x", &[events], b"");
    assert_eq!(head.status, 400);
}

//! `POST /.batch`.

use crate::server::Server;

fn batch(server: &Server, body: &str) -> crate::server::Answer {
    server.ask(
        "POST",
        "/.batch",
        &["Content-Type: application/json"],
        body.as_bytes(),
    )
}

#[test]
fn a_batch_is_one_commit() {
    let server = Server::start();
    server.put("/a/x", "1");
    let done = batch(
        &server,
        r#"[{"op":"put","path":"/a/y","value":2},{"op":"delete","path":"/a/x"},{"op":"post","path":"/l","value":3},{"op":"patch","path":"/a/y","value":{"z":1}}]"#,
    );
    assert_eq!(done.status, 200, "{done:?}");
    let version = done.field("sapwood-version").unwrap();
    assert_eq!(
        done.text()
            .matches(&format!("\"version\":\"{version}\""))
            .count(),
        4
    );
    assert_eq!(done.text().matches("\"id\":").count(), 1);
    assert_eq!(server.get("/a").text(), r#"{"y":{"z":1}}"#);
    assert_eq!(batch(&server, "[]").text(), "[]");
}

#[test]
fn a_batch_happens_whole_or_not_at_all() {
    let server = Server::start();
    let refused = batch(
        &server,
        r#"[{"op":"put","path":"/a","value":1},{"op":"put","path":"/b","value":1,"if":{"exists":true}}]"#,
    );
    assert_eq!(
        (refused.status, refused.code()),
        (412, "precondition_failed".to_owned())
    );
    assert!(refused.text().contains("\"index\":1"));
    assert_eq!(server.get("/a").status, 404);
    let bad = batch(
        &server,
        r#"[{"op":"put","path":"/a","value":1},{"op":"put","path":"//","value":1}]"#,
    );
    assert!(
        bad.status == 400 && bad.text().contains("\"index\":1"),
        "{bad:?}"
    );
}

#[test]
fn every_if_is_judged_on_the_tree_before_the_batch() {
    let server = Server::start();
    let done = batch(
        &server,
        r#"[{"op":"put","path":"/a/1","value":1,"if":{"exists":false}},{"op":"put","path":"/a/1","value":2,"if":{"exists":false}}]"#,
    );
    assert_eq!(done.status, 200);
    let version = server
        .get("/a/1")
        .field("sapwood-version")
        .unwrap()
        .to_owned();
    let tag = server
        .get("/a/1")
        .field("etag")
        .unwrap()
        .trim_matches('"')
        .to_owned();
    let by = |condition: &str| {
        batch(
            &server,
            &format!(r#"[{{"op":"put","path":"/a/1","value":2,"if":{condition}}}]"#),
        )
        .status
    };
    assert_eq!(by(&format!(r#"{{"version":"{version}"}}"#)), 200);
    assert_eq!(by(&format!(r#"{{"etag":"{tag}"}}"#)), 200);
    assert_eq!(by(r#"{"etag":"x"}"#), 412);
    assert_eq!(by(r#"{"version":"AAAAAAAAAAA.1"}"#), 412);
}

#[test]
fn a_batch_is_posted_as_data() {
    let server = Server::start();
    assert_eq!(server.get("/.batch").field("allow"), Some("POST, OPTIONS"));
    assert_eq!(
        server
            .ask("POST", "/.batch", &["Content-Type: text/plain"], b"[]")
            .status,
        415
    );
    assert_eq!(batch(&server, "{}").code(), "bad_operation");
    assert_eq!(batch(&server, "[").code(), "malformed");
    let put = br#"[{"op":"put","path":"/a","value":1}]"#;
    let published = server.ask("POST", "/.batch?publish", &[], put);
    assert_eq!((published.status, &*published.code()), (400, "bad_query"));
    assert_eq!(server.get("/a").status, 404);
}

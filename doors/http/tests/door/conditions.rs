//! Entity tags and preconditions (RFC 9110, 13).

use crate::server::Server;

#[test]
fn a_tag_spares_the_body_and_guards_the_write() {
    let server = Server::start();
    server.put("/a/b", "1");
    let tag = server.get("/a/b").field("etag").unwrap().to_owned();
    let cbor_tag = server.get("/a/b.cbor").field("etag").unwrap().to_owned();
    assert_ne!(tag, cbor_tag);
    let same = server.ask(
        "GET",
        "/a/b",
        &[&format!("If-None-Match: \"x\", {tag}")],
        b"",
    );
    assert_eq!((same.status, same.field("etag")), (304, Some(&*tag)));
    assert_eq!(
        server
            .ask("GET", "/a/b", &[&format!("If-None-Match: {cbor_tag}")], b"")
            .status,
        200
    );
    assert_eq!(
        server.ask("GET", "/a/b", &["If-None-Match: *"], b"").status,
        304
    );
    assert_eq!(
        server.ask("GET", "/a/b", &["If-Match: \"x\""], b"").status,
        412
    );
    assert_eq!(
        server.ask("GET", "/nothing", &["If-Match: *"], b"").status,
        412
    );
    assert_eq!(
        server
            .ask("PUT", "/a/b", &[&format!("If-Match: {cbor_tag}")], b"2")
            .status,
        204
    );
    let stale = server.ask("PUT", "/a/b", &[&format!("If-Match: {tag}")], b"3");
    assert_eq!(
        (stale.status, stale.code()),
        (412, "precondition_failed".to_owned())
    );
    assert_eq!(server.get("/a/b").text(), "2");
    assert_eq!(
        server
            .ask("PUT", "/a/b", &["If-None-Match: *"], b"3")
            .status,
        412
    );
    assert_eq!(
        server
            .ask("PUT", "/a/c", &["If-None-Match: *"], b"3")
            .status,
        201
    );
    assert_eq!(
        server
            .ask("PUT", "/a/c", &["If-Match: nonsense"], b"3")
            .code(),
        "bad_header"
    );
    let delete = |tag: &str| {
        server
            .ask("DELETE", "/a/b", &[&format!("If-Match: {tag}")], b"")
            .status
    };
    assert_eq!(delete("\"x\""), 412);
    assert_eq!(delete("*"), 204);
}

#[test]
fn of_many_writers_with_one_tag_exactly_one_wins() {
    let server = Server::start();
    server.put("/a/b", "0");
    let tag = server.get("/a/b").field("etag").unwrap().to_owned();
    let won: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = (1..9)
            .map(|n| {
                let (server, tag) = (&server, &tag);
                scope.spawn(move || {
                    server
                        .ask(
                            "PUT",
                            "/a/b",
                            &[&format!("If-Match: {tag}")],
                            n.to_string().as_bytes(),
                        )
                        .status
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| usize::from(writer.join().unwrap() == 204))
            .sum()
    });
    assert_eq!(won, 1);
}

#[test]
fn a_tree_value_has_a_tag_up_to_its_limit() {
    let server = Server::start();
    server.put("/t/a", "1");
    let tag = server.get("/t").field("etag").unwrap().to_owned();
    server.put("/t/b", "1");
    assert_ne!(server.get("/t").field("etag"), Some(&*tag));
    server.ask("DELETE", "/t/b", &[], b"");
    assert_eq!(server.get("/t").field("etag"), Some(&*tag));
    for n in 0..20 {
        server.put(&format!("/t/{n}"), &format!("\"{}\"", "x".repeat(5000)));
    }
    assert_eq!(server.get("/t").field("etag"), None);
    assert_eq!(
        server
            .ask("DELETE", "/t", &[&format!("If-Match: {tag}")], b"")
            .status,
        412
    );
    assert_eq!(
        server.ask("DELETE", "/t", &["If-Match: *"], b"").status,
        204
    );
}

#[test]
fn a_large_record_has_a_tag_at_any_size() {
    let server = Server::start();
    let entries: Vec<String> = (0..400)
        .map(|n| format!("\"{n}\":\"{}\"", "x".repeat(500)))
        .collect();
    server.put("/r/big", &format!("{{{}}}", entries.join(",")));
    let read = server.get("/r/big");
    assert!(read.body.len() > 200_000);
    let tag = read.field("etag").unwrap();
    assert_eq!(
        server
            .ask("GET", "/r/big", &[&format!("If-None-Match: {tag}")], b"")
            .status,
        304
    );
}

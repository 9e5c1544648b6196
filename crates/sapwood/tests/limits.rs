//! Each limit has a setting, and a counter that says how often it was met.
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

use sapwood_testkit::{Client, Server, ServerBuilder};

const BINARY: &str = env!("CARGO_BIN_EXE_sapwood");

/// How often a limit was met, as `/metrics` says.
fn met(client: &mut Client, setting: &str) -> u64 {
    let metrics = client.get("/metrics").unwrap().text();
    let name = format!("sapwood_limits_total{{limit=\"{setting}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |count| count.parse().unwrap())
}

/// Sends a body that breaks one limit: what is answered, and that it is counted.
fn check(
    server: &Server,
    method: &str,
    target: &str,
    body: &str,
    setting: &str,
    answer: (u16, &str),
) {
    let mut client = server.client().unwrap();
    let before = met(&mut client, setting);
    let json = [("Content-Type", "application/json")];
    let response = client
        .request(method, target, &json, body.as_bytes())
        .unwrap();
    let text = response.text();
    assert_eq!(response.status, answer.0, "{setting}: {text}");
    assert!(text.contains(answer.1), "{setting}: {text}");
    let mut client = server.client().unwrap();
    assert_eq!(met(&mut client, setting), before + 1, "{setting}");
}

#[test]
fn a_limit_that_is_met_is_answered_and_counted_under_its_setting() {
    let server = ServerBuilder::dev(BINARY)
        .set("http.body_bytes_max=3000")
        .set("http.batch_operations_max=1")
        .set("limits.depth_max=4")
        .set("limits.segment_bytes_max=10")
        .set("limits.value_bytes_max=2000")
        .set("limits.string_bytes_max=1000")
        .set("limits.parse_depth_max=8")
        .set("limits.value_memory_bytes_max=1500")
        .start()
        .unwrap();
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes));
    let two = r#"[{"op":"delete","path":"/a"},{"op":"delete","path":"/b"}]"#;
    let large = (413, "too_large");
    for (method, target, body, setting, answer) in [
        ("PUT", "/a", text(4000), "http.body_bytes_max", large),
        (
            "POST",
            "/.batch",
            two.into(),
            "http.batch_operations_max",
            large,
        ),
        (
            "PUT",
            "/a/b/c/d/e",
            "1".into(),
            "limits.depth_max",
            (400, "bad_path"),
        ),
        (
            "PUT",
            "/a/b/c",
            "[[1]]".into(),
            "limits.depth_max",
            (400, "too_deep"),
        ),
        (
            "PUT",
            "/abcdefghijk",
            "1".into(),
            "limits.segment_bytes_max",
            (400, "bad_path"),
        ),
        ("PUT", "/a", text(2500), "limits.value_bytes_max", large),
        ("PUT", "/a", text(1500), "limits.string_bytes_max", large),
        (
            "PUT",
            "/a",
            "[".repeat(9),
            "limits.parse_depth_max",
            (400, "too_deep"),
        ),
        (
            "PUT",
            "/a",
            format!("[{}1]", "1,".repeat(100)),
            "limits.value_memory_bytes_max",
            large,
        ),
    ] {
        check(&server, method, target, &body, setting, answer);
    }
    assert_eq!(server.client().unwrap().get("/a").unwrap().status, 404);
}

#[test]
fn the_deepest_body_that_can_be_configured_is_stored_and_read() {
    let server = ServerBuilder::dev(BINARY)
        .set("limits.parse_depth_max=120")
        .set("limits.depth_max=256")
        .set("limits.segment_bytes_max=200")
        .start()
        .unwrap();
    let mut client = server.client().unwrap();
    let json = format!("{}{}", "[".repeat(120), "]".repeat(120));
    let made = client.put("/json", &json).unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
    for (target, array, last) in [("/cbor.cbor", 0x81, 0x80), ("/pack.msgpack", 0x91, 0x90)] {
        let body = [vec![array; 119], vec![last]].concat();
        let made = client.request("PUT", target, &[], &body).unwrap();
        assert_eq!(made.status, 201, "{}", made.text());
        assert_eq!(client.get(target).unwrap().body, body);
    }
    assert_eq!(client.get("/cbor").unwrap().text(), json);
    assert_eq!(client.get("/json").unwrap().text(), json);
}

//! WebSockets (issue, part 7; RFC 6455).

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sapwood_http::HttpConfig;
use sapwood_net::websocket::Kind;
use sapwood_net::{Closed, Connection, Door, Mount, Transport};

use crate::server::{Client, Server};

/// A client that writes frames by hand.
struct Socket(Client);

impl Socket {
    fn open(server: &Server, target: &str, fields: &[&str]) -> Self {
        let (socket, head) = Self::opened(server, target, fields);
        assert!(
            !head.to_lowercase().contains("sec-websocket-protocol"),
            "{head}"
        );
        socket
    }

    /// The socket, and the head of the answer.
    fn opened(server: &Server, target: &str, fields: &[&str]) -> (Self, String) {
        let mut client = server.connect();
        let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        client.send(
            format!(
                "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
            )
            .as_bytes(),
        );
        let head = client.until("\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        assert!(head.contains("\r\nSapwood-Version: "), "{head}");
        (Self(client), head)
    }

    fn frame(&mut self, first: u8, payload: &[u8]) {
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..126 => frame.push(0x80 | u8::try_from(short).unwrap()),
            long => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&u16::try_from(long).unwrap().to_be_bytes());
            }
        }
        frame.extend_from_slice(&[0; 4]); // a mask that changes nothing
        frame.extend_from_slice(payload);
        self.0.send(&frame);
    }

    fn say(&mut self, text: &str) {
        self.frame(0x81, text.as_bytes());
    }

    /// The next frame: its opcode and its payload.
    fn next(&mut self) -> (u8, Vec<u8>) {
        let head = self.0.exactly(2);
        let length = match head[1] {
            126 => usize::from(u16::from_be_bytes(self.0.exactly(2).try_into().unwrap())),
            127 => {
                usize::try_from(u64::from_be_bytes(self.0.exactly(8).try_into().unwrap())).unwrap()
            }
            short => usize::from(short),
        };
        (head[0] & 15, self.0.exactly(length))
    }

    fn text(&mut self) -> String {
        let (opcode, payload) = self.next();
        assert_eq!(opcode, 1, "{payload:?}");
        String::from_utf8(payload).unwrap()
    }

    fn closed_with(&mut self) -> u16 {
        let (opcode, payload) = self.next();
        assert_eq!(opcode, 8, "{payload:?}");
        u16::from_be_bytes(payload[..2].try_into().unwrap())
    }
}

fn version(text: &str) -> &str {
    text.split("\"version\":\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
}

#[test]
fn events_come_and_commands_are_answered_behind_them() {
    let server = Server::start();
    let mut socket = Socket::open(&server, "/a", &[]);
    assert!(
        socket
            .text()
            .starts_with(r#"{"type":"put","path":"/a","value":null"#)
    );
    socket.say(r#"{"id":1,"op":"put","path":"/a/b","value":{"x":1}}"#);
    let event = socket.text();
    assert!(
        event.starts_with(r#"{"type":"put","path":"/a/b","value":{"x":1}"#),
        "{event}"
    );
    assert_eq!(
        socket.text(),
        format!(r#"{{"id":1,"ok":{{"version":"{}"}}}}"#, version(&event))
    );
    socket.say(r#"{"id":"g","op":"get"}"#);
    assert!(
        socket
            .text()
            .starts_with(r#"{"id":"g","ok":{"value":{"b":{"x":1}},"version":""#)
    );
    socket.say(r#"{"id":2,"op":"publish","path":"/a/m","value":"hi"}"#);
    assert_eq!(
        socket.text(),
        r#"{"type":"message","path":"/a/m","value":"hi"}"#
    );
    assert_eq!(socket.text(), r#"{"id":2,"ok":{"receivers":1}}"#);
    socket.say(r#"{"id":3,"op":"delete","path":"/nothing"}"#);
    assert!(
        socket
            .text()
            .starts_with(r#"{"id":3,"error":{"code":"not_found""#)
    );
    socket.say(r#"{"id":4,"op":"put","path":"/a/b","value":1,"if":{"exists":false}}"#);
    assert!(
        socket
            .text()
            .starts_with(r#"{"id":4,"error":{"code":"precondition_failed""#)
    );
    assert_eq!(server.get("/a/b").text(), r#"{"x":1}"#);
}

#[test]
fn nothing_that_a_client_says_is_ignored() {
    let server = Server::start();
    let mut socket = Socket::open(&server, "/a", &[]);
    socket.text();
    for (said, code) in [
        ("hello", "malformed"),
        ("[]", "bad_operation"),
        (r#"{"id":1,"op":"fly"}"#, "bad_operation"),
        (
            r#"{"op":"put","path":"/.x","value":1}"#,
            "unknown_system_path",
        ),
    ] {
        socket.say(said);
        let answer = socket.text();
        assert!(
            answer.contains(&format!(r#""error":{{"code":"{code}""#)),
            "{answer}"
        );
    }
}

#[test]
fn what_a_session_owns_or_leaves_is_done_when_it_ends() {
    let server = Server::start();
    let mut watcher = Socket::open(&server, "/p", &[]);
    watcher.text();
    let mut socket = Socket::open(&server, "/p/me", &[]);
    socket.text();
    socket.say(r#"{"id":1,"op":"put","value":"here","owner":true}"#);
    socket.text();
    assert!(socket.text().contains("\"ok\""));
    socket.say(r#"{"id":2,"op":"put","path":"/p/last","value":"gone","at_end":true}"#);
    assert_eq!(socket.text(), r#"{"id":2,"ok":{}}"#);
    assert!(watcher.text().contains(r#""path":"/p/me","value":"here""#));
    drop(socket);
    let mut told = [watcher.text(), watcher.text()];
    told.sort();
    assert!(
        told[0].starts_with(r#"{"type":"delete","path":"/p/me""#),
        "{told:?}"
    );
    assert!(
        told[1].starts_with(r#"{"type":"put","path":"/p/last","value":"gone""#),
        "{told:?}"
    );
    assert_eq!(server.get("/p").text(), r#"{"last":"gone"}"#);
}

#[test]
fn binary_formats_speak_binary_frames() {
    let server = Server::start();
    server.put("/a", "1");
    for (mut socket, first) in [
        (Socket::open(&server, "/a.cbor", &[]), 0xa4),
        (
            Socket::open(&server, "/a", &["Accept: application/x-msgpack"]),
            0x84,
        ),
    ] {
        let (opcode, payload) = socket.next();
        assert_eq!((opcode, payload[0]), (2, first));
    }
    let mut socket = Socket::open(&server, "/a.cbor", &[]);
    socket.next();
    socket.frame(0x82, b"\xa2\x62id\x07\x62op\x63get");
    let (_, answer) = socket.next();
    assert!(answer.starts_with(b"\xa2\x62id\x07\x62ok"), "{answer:?}");
}

#[test]
fn subprotocols_that_nobody_has_are_not_agreed_to() {
    let server = Server::start();
    Socket::open(&server, "/a", &["Sec-WebSocket-Protocol: nothing, known"]);
}

#[test]
fn half_a_handshake_is_refused_in_http() {
    let server = Server::start();
    let bad = server.ask(
        "GET",
        "/a",
        &[
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 12",
            "Sec-WebSocket-Key: x",
        ],
        b"",
    );
    assert_eq!(
        (bad.status, bad.field("sec-websocket-version")),
        (426, Some("13"))
    );
    let foreign = [
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Origin: https://evil.example",
    ];
    assert_eq!(server.ask("GET", "/a", &foreign, b"").status, 403);
}

#[test]
fn framing_errors_close_with_their_code() {
    let config = HttpConfig {
        body_bytes_max: 1000,
        ..HttpConfig::default()
    };
    let server = Server::with(config);
    let open = || {
        let mut socket = Socket::open(&server, "/a", &[]);
        socket.text();
        socket
    };
    let mut socket = open();
    socket.0.send(b"\x81\x01a"); // not masked
    assert_eq!(socket.closed_with(), 1002);
    let mut socket = open();
    socket.frame(0xf1, b"a"); // reserved bits
    assert_eq!(socket.closed_with(), 1002);
    let mut socket = open();
    socket.frame(0x81, b"\xff");
    assert_eq!(socket.closed_with(), 1007);
    let mut socket = open();
    socket.frame(0x81, &[b'a'; 2000]);
    assert_eq!(socket.closed_with(), 1009);
    let mut socket = open();
    socket.frame(0x01, &[b'a'; 900]);
    socket.frame(0x80, &[b'a'; 900]);
    assert_eq!(socket.closed_with(), 1009);
    let mut socket = open();
    socket.frame(0x88, &1000_u16.to_be_bytes());
    assert_eq!(socket.closed_with(), 1000);
    assert_eq!(socket.0.rest(), b"");
}

#[test]
fn a_drain_closes_with_1001() {
    let mut server = Server::start();
    let mut socket = Socket::open(&server, "/a", &[]);
    socket.text();
    server.drain();
    assert_eq!(socket.closed_with(), 1001);
}

#[test]
fn the_echo_is_there_when_switched_on() {
    let server = Server::start();
    assert_eq!(server.get("/.echo").status, 404);
    let server = Server::with(HttpConfig {
        echo: true,
        ..HttpConfig::default()
    });
    let mut socket = Socket::open(&server, "/.echo", &[]);
    socket.say("hello");
    assert_eq!(socket.text(), "hello");
    socket.frame(0x82, b"\x00\xff");
    assert_eq!(socket.next(), (2, b"\x00\xff".to_vec()));
    assert_eq!(server.get("/.echo").status, 426);
}

/// A door that says its subprotocol.
struct Hello;

impl Door for Hello {
    fn name(&self) -> &'static str {
        "hello"
    }

    fn mounts(&self) -> Vec<Mount> {
        vec![Mount::Subprotocol("v1.hello")]
    }

    fn serve(&self, connection: Connection) -> BoxFuture<'static, Closed> {
        async move {
            if let Transport::WebSocket {
                mut stream,
                subprotocol,
            } = connection.transport
            {
                stream.say(Kind::Text, subprotocol.into());
                stream.flush().await.unwrap();
            }
            Closed::Orderly
        }
        .boxed()
    }
}

#[test]
fn a_subprotocol_that_a_door_has_mounted_is_agreed_to() {
    let server = Server::of(HttpConfig::default(), None, vec![Arc::new(Hello)]);
    let offer = ["Sec-WebSocket-Protocol: other, v1.hello"];
    let (mut socket, head) = Socket::opened(&server, "/a", &offer);
    assert!(
        head.contains("\r\nSec-WebSocket-Protocol: v1.hello\r\n"),
        "{head}"
    );
    assert_eq!(socket.text(), "v1.hello");
}

#[test]
fn a_client_whose_message_takes_long_is_not_taken_for_gone() {
    let server = Server::with(HttpConfig {
        ping_interval_s: 1,
        ..HttpConfig::default()
    });
    let mut socket = Socket::open(&server, "/a", &[]);
    socket.text();
    let command = format!(r#"{{"id":1,"op":"get"{}}}"#, " ".repeat(1000));
    let mut frame = vec![0x81, 0xfe];
    frame.extend_from_slice(&u16::try_from(command.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(command.as_bytes());
    // A piece for each ping: within a frame, no pong can be sent.
    let (first, pieces) = frame.split_at(frame.len() - 4 * 200);
    socket.0.send(first);
    for piece in pieces.chunks(200) {
        assert_eq!(socket.next().0, 9);
        socket.0.send(piece);
    }
    assert!(socket.text().starts_with(r#"{"id":1,"#));
}

#[test]
fn a_client_that_says_nothing_is_taken_for_gone() {
    let server = Server::with(HttpConfig {
        ping_interval_s: 1,
        ..HttpConfig::default()
    });
    let mut socket = Socket::open(&server, "/a", &[]);
    socket.text();
    assert_eq!((socket.next().0, socket.next().0), (9, 9));
    assert_eq!(socket.0.rest(), b"");
}

#[test]
fn who_leaves_too_much_for_the_end_is_told_how_much_that_is() {
    let server = Server::start();
    let mut socket = Socket::open(&server, "/p", &[]);
    socket.text();
    let leave = r#"{"id":1,"op":"put","path":"/p/x","value":1,"at_end":true}"#;
    for _ in 0..100 {
        socket.say(leave);
        assert_eq!(socket.text(), r#"{"id":1,"ok":{}}"#);
    }
    socket.say(leave);
    let answer = socket.text();
    assert!(
        answer.contains(r#""code":"too_many_requests","status":429"#),
        "{answer}"
    );
    assert!(answer.contains("at most 100 things"), "{answer}");
}

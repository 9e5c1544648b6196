//! The kinds of packets that are rejected, each by its paragraph of MQTT 5.0, or of 3.1.1 where it says so.

/// One of them.
pub struct Kind {
    pub what: &'static str,
    pub section: &'static str,
    /// The level of the CONNECT in front; none if it is the first packet.
    pub hello: Option<u8>,
    pub bytes: Vec<u8>,
    pub answer: Answer,
}

/// How the server ends the connection.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// Without a word.
    Silence,
    /// CONNACK with this code.
    Refused(u8),
    /// DISCONNECT with this code.
    Ends(u8),
    /// A packet of this first byte with this last one says no; the client takes its leave itself.
    Told(u8, u8),
}

use Answer::{Ends, Refused, Silence, Told};

fn length(mut n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = (n & 0x7F) as u8;
        n >>= 7;
        if n == 0 {
            out.push(byte);
            return out;
        }
        out.push(byte | 0x80);
    }
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first][..], &length(body.len()), body].concat()
}

fn text(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text].concat()
}

/// A CONNECT with these flags and properties, and what stands behind the client id.
fn hello(level: u8, flags: u8, properties: &[u8], client_id: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut body = [&text(b"MQTT")[..], &[level, flags, 0, 60]].concat();
    if level == 5 {
        body.push(properties.len() as u8);
        body.extend(properties);
    }
    body.extend(text(client_id));
    body.extend(rest);
    packet(0x10, &body)
}

/// A CONNECT that is taken.
pub fn connect(level: u8, client_id: &str) -> Vec<u8> {
    hello(level, 2, &[], client_id.as_bytes(), &[])
}

/// A PUBLISH; `rest` is the packet id, if there is one.
pub fn publish(level: u8, first: u8, topic: &str, rest: &[u8], payload: &[u8]) -> Vec<u8> {
    let properties: &[u8] = if level == 5 { &[0] } else { &[] };
    packet(
        first,
        &[&text(topic.as_bytes())[..], rest, properties, payload].concat(),
    )
}

/// A PUBLISH of QoS 0 with these properties.
fn with(topic: &str, properties: &[u8]) -> Vec<u8> {
    packet(
        0x30,
        &[
            &text(topic.as_bytes())[..],
            &[properties.len() as u8],
            properties,
        ]
        .concat(),
    )
}

/// A SUBSCRIBE of 5.0 for one filter.
fn subscribe(properties: &[u8], filter: &str, options: u8) -> Vec<u8> {
    let filter = text(filter.as_bytes());
    packet(
        0x82,
        &[
            &[0, 1, properties.len() as u8],
            properties,
            &filter[..],
            &[options],
        ]
        .concat(),
    )
}

/// All of them.
pub fn kinds() -> Vec<Kind> {
    let mut kinds = first();
    kinds.extend(connects());
    kinds.extend(heads());
    kinds.extend(publishes());
    kinds.extend(requests());
    kinds.extend(answers());
    kinds.extend(old());
    kinds.extend(told());
    kinds
}

type Row = (&'static str, &'static str, Vec<u8>, Answer);

fn of(hello: Option<u8>, rows: Vec<Row>) -> Vec<Kind> {
    let kind = |(what, section, bytes, answer)| Kind {
        what,
        section,
        hello,
        bytes,
        answer,
    };
    rows.into_iter().map(kind).collect()
}

fn first() -> Vec<Kind> {
    of(
        None,
        vec![
            (
                "PUBLISH first",
                "3.1.0-1",
                publish(4, 0x30, "rejected", &[], b"x"),
                Silence,
            ),
            ("CONNACK first", "3.1.0-1", vec![0x20, 2, 0, 0], Silence),
            ("AUTH first", "3.1.0-1", vec![0xF0, 0], Silence),
            ("a packet of type 0 first", "3.1.0-1", vec![0, 0], Silence),
            (
                "HTTP",
                "3.1.0-1",
                b"GET / HTTP/1.1\r\n\r\n".to_vec(),
                Silence,
            ),
            (
                "a name that is not MQTT",
                "3.1.2-1",
                packet(0x10, b"\0\x04MQTX\x05\x02\0\x3c\0\0\x01c"),
                Silence,
            ),
            (
                "a CONNECT larger than is taken",
                "3.2.2-15",
                vec![0x10, 0xFF, 0xFF, 0xFF, 0x7F],
                Silence,
            ),
            (
                "an unknown later level",
                "3.1.2-2",
                hello(9, 2, &[], b"c", &[]),
                Refused(0x84),
            ),
            (
                "an unknown older level",
                "3.1.1, 3.1.2-2",
                hello(2, 2, &[], b"c", &[]),
                Refused(1),
            ),
            (
                "reserved flags of CONNECT's head",
                "2.1.3-1",
                [&[0x11][..], &connect(5, "c")[1..]].concat(),
                Silence,
            ),
        ],
    )
}

fn connects() -> Vec<Kind> {
    let five = |flags, properties: &[u8], rest: &[u8]| hello(5, flags, properties, b"c", rest);
    of(
        None,
        vec![
            (
                "the reserved flag of CONNECT",
                "3.1.2-3",
                five(3, &[], &[]),
                Refused(0x81),
            ),
            (
                "a will of QoS 3",
                "3.1.2-12",
                five(0x1E, &[], b"\0\0\x01w\0\x01x"),
                Refused(0x81),
            ),
            (
                "the QoS of no will",
                "3.1.2-11",
                five(0x0A, &[], &[]),
                Refused(0x81),
            ),
            (
                "RETAIN of no will",
                "3.1.2-13",
                five(0x22, &[], &[]),
                Refused(0x81),
            ),
            (
                "a will that is not there",
                "3.1.2-9",
                five(0x06, &[], &[]),
                Refused(0x81),
            ),
            (
                "a will to a wildcard",
                "3.3.2-2",
                five(0x06, &[], b"\0\0\x01#\0\x01x"),
                Refused(0x90),
            ),
            (
                "a will to the system",
                "3.1.3.3",
                five(0x06, &[], b"\0\0\x02.x\0\x01x"),
                Refused(0x90),
            ),
            (
                "a will that is no text",
                "3.1.3.2.3",
                five(0x06, &[], b"\x02\x01\x01\0\x08rejected\0\x01\xff"),
                Refused(0x99),
            ),
            (
                "a user name that is not there",
                "3.1.2-17",
                five(0x82, &[], &[]),
                Refused(0x81),
            ),
            (
                "bytes behind CONNECT",
                "3.1.4-1",
                five(2, &[], b"x"),
                Refused(0x81),
            ),
            (
                "a property twice in CONNECT",
                "3.1.2.11.2",
                five(2, b"\x11\0\0\0\x01\x11\0\0\0\x01", &[]),
                Refused(0x82),
            ),
            (
                "a property of PUBLISH in CONNECT",
                "2.2.2.2",
                five(2, b"\x23\0\x01", &[]),
                Refused(0x81),
            ),
            (
                "an unknown property in CONNECT",
                "2.2.2.2",
                five(2, b"\x7f\0", &[]),
                Refused(0x81),
            ),
            (
                "a receive maximum of zero",
                "3.1.2.11.3",
                five(2, b"\x21\0\0", &[]),
                Refused(0x82),
            ),
            (
                "a largest packet of zero bytes",
                "3.1.2.11.4",
                five(2, b"\x27\0\0\0\0", &[]),
                Refused(0x82),
            ),
            (
                "authentication by an unknown method",
                "4.12.0-1",
                five(2, b"\x15\0\x01x", &[]),
                Refused(0x8C),
            ),
            (
                "authentication without a method",
                "3.1.2.11.10",
                five(2, b"\x16\0\x01x", &[]),
                Refused(0x82),
            ),
            (
                "U+0000 in a client id",
                "1.5.4-2",
                hello(5, 2, &[], b"a\0b", &[]),
                Refused(0x81),
            ),
            (
                "a client id that is no UTF-8",
                "1.5.4-1",
                hello(5, 2, &[], b"\xed\xa0\x80", &[]),
                Refused(0x81),
            ),
            (
                "no client id and no clean session",
                "3.1.1, 3.1.3-8",
                hello(4, 0, &[], b"", &[]),
                Refused(2),
            ),
            (
                "a password without a user name",
                "3.1.1, 3.1.2-22",
                hello(4, 0x42, &[], b"c", b"\0\x01p"),
                Silence,
            ),
            (
                "the reserved flag in 3.1.1",
                "3.1.1, 3.1.2-3",
                hello(4, 3, &[], b"c", &[]),
                Silence,
            ),
        ],
    )
}

fn heads() -> Vec<Kind> {
    of(
        Some(5),
        vec![
            (
                "a second CONNECT",
                "3.1.0-2",
                connect(5, "other"),
                Ends(0x82),
            ),
            ("a packet of type 0", "2.1.2", vec![0, 0], Ends(0x81)),
            (
                "reserved flags of PINGREQ",
                "2.1.3-1",
                vec![0xC1, 0],
                Ends(0x81),
            ),
            (
                "reserved flags of PUBACK",
                "2.1.3-1",
                vec![0x42, 2, 0, 1],
                Ends(0x81),
            ),
            (
                "reserved flags of PUBREL",
                "3.6.1-1",
                vec![0x60, 2, 0, 1],
                Ends(0x81),
            ),
            (
                "reserved flags of SUBSCRIBE",
                "3.8.1-1",
                vec![0x80, 7, 0, 1, 0, 0, 1, b'a', 0],
                Ends(0x81),
            ),
            (
                "reserved flags of UNSUBSCRIBE",
                "3.10.1-1",
                vec![0xA0, 6, 0, 1, 0, 0, 1, b'a'],
                Ends(0x81),
            ),
            (
                "reserved flags of DISCONNECT",
                "3.14.1-1",
                vec![0xE1, 0],
                Ends(0x81),
            ),
            (
                "reserved flags of AUTH",
                "3.15.1-1",
                vec![0xF1, 0],
                Ends(0x81),
            ),
            (
                "a length of five bytes",
                "1.5.5",
                vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF],
                Ends(0x81),
            ),
            (
                "a length in more bytes than it needs",
                "1.5.5-1",
                vec![0xC0, 0x80, 0],
                Ends(0x81),
            ),
            (
                "a packet larger than is taken",
                "3.2.2-15",
                vec![0x30, 0xFF, 0xFF, 0xFF, 0x7F],
                Ends(0x95),
            ),
            (
                "PINGREQ with a body",
                "3.12.3",
                vec![0xC0, 1, 0],
                Ends(0x81),
            ),
            (
                "CONNACK from a client",
                "3.2",
                vec![0x20, 3, 0, 0, 0],
                Ends(0x82),
            ),
            (
                "SUBACK from a client",
                "3.9",
                vec![0x90, 4, 0, 1, 0, 0],
                Ends(0x82),
            ),
            (
                "UNSUBACK from a client",
                "3.11",
                vec![0xB0, 4, 0, 1, 0, 0],
                Ends(0x82),
            ),
            ("PINGRESP from a client", "3.13", vec![0xD0, 0], Ends(0x82)),
            (
                "AUTH without a method",
                "4.12.0-7",
                vec![0xF0, 2, 0x18, 0],
                Ends(0x82),
            ),
            (
                "a longer life at the end",
                "3.14.2.2.2",
                packet(0xE0, b"\0\x05\x11\0\0\0\x09"),
                Ends(0x82),
            ),
        ],
    )
}

fn publishes() -> Vec<Kind> {
    let five = |first, topic, rest: &[u8]| publish(5, first, topic, rest, b"x");
    let flood = (1..=21u16).flat_map(|id| five(0x34, "rejected-flood", &id.to_be_bytes()));
    of(
        Some(5),
        vec![
            (
                "a message of QoS 3",
                "3.3.1-4",
                five(0x36, "rejected", &[0, 1]),
                Ends(0x81),
            ),
            (
                "DUP at QoS 0",
                "3.3.1-2",
                five(0x38, "rejected", &[]),
                Ends(0x81),
            ),
            (
                "a packet id of zero",
                "2.2.1-3",
                five(0x32, "rejected", &[0, 0]),
                Ends(0x82),
            ),
            ("an empty topic", "3.3.2.1", five(0x30, "", &[]), Ends(0x82)),
            (
                "+ in a topic name",
                "3.3.2-2",
                five(0x30, "rejected/+", &[]),
                Ends(0x90),
            ),
            (
                "# in a topic name",
                "3.3.2-2",
                five(0x31, "rejected/#", &[]),
                Ends(0x90),
            ),
            (
                "U+0000 in a topic",
                "1.5.4-2",
                five(0x30, "a\0", &[]),
                Ends(0x81),
            ),
            (
                "half a surrogate pair in a topic",
                "1.5.4-1",
                packet(0x30, b"\0\x03\xed\xa0\x80\0"),
                Ends(0x81),
            ),
            (
                "a topic that ends behind the packet",
                "4.13.1",
                packet(0x30, b"\0\x09a"),
                Ends(0x81),
            ),
            (
                "an alias of zero",
                "3.3.2-8",
                with("rejected", b"\x23\0\0"),
                Ends(0x94),
            ),
            (
                "an alias out of range",
                "3.3.2-9",
                with("rejected", b"\x23\0\x11"),
                Ends(0x94),
            ),
            (
                "an alias that stands for nothing",
                "3.3.2.3.4",
                with("", b"\x23\0\x01"),
                Ends(0x82),
            ),
            (
                "a subscription identifier from a client",
                "3.3.4-6",
                with("rejected", b"\x0b\x01"),
                Ends(0x82),
            ),
            (
                "an unknown property",
                "2.2.2.2",
                with("rejected", b"\x7f\0"),
                Ends(0x81),
            ),
            (
                "a property of CONNECT in PUBLISH",
                "2.2.2.2",
                with("rejected", b"\x11\0\0\0\x01"),
                Ends(0x81),
            ),
            (
                "a property twice",
                "3.3.2.3.3",
                with("rejected", b"\x02\0\0\0\x01\x02\0\0\0\x01"),
                Ends(0x82),
            ),
            (
                "a payload format of 2",
                "3.3.2.3.2",
                with("rejected", b"\x01\x02"),
                Ends(0x82),
            ),
            (
                "a wildcard in a response topic",
                "3.3.2-14",
                with("rejected", b"\x08\0\x01#"),
                Ends(0x82),
            ),
            (
                "a user property that is no UTF-8",
                "1.5.7-1",
                with("rejected", b"\x26\0\x01a\0\x01\xff"),
                Ends(0x81),
            ),
            (
                "more than the receive maximum",
                "3.3.4-7",
                flood.collect(),
                Ends(0x93),
            ),
        ],
    )
}

fn requests() -> Vec<Kind> {
    let many: Vec<u8> = [0, 1, 0]
        .into_iter()
        .chain((0..101).flat_map(|_| *b"\0\x01a\0"))
        .collect();
    of(
        Some(5),
        vec![
            (
                "SUBSCRIBE of packet id zero",
                "2.2.1-3",
                packet(0x82, b"\0\0\0\0\x01a\0"),
                Ends(0x82),
            ),
            (
                "SUBSCRIBE without a filter",
                "3.8.3-2",
                packet(0x82, b"\0\x01\0"),
                Ends(0x82),
            ),
            (
                "reserved bits of the options",
                "3.8.3-5",
                subscribe(&[], "a", 0x40),
                Ends(0x81),
            ),
            (
                "a subscription of QoS 3",
                "3.8.3.1",
                subscribe(&[], "a", 3),
                Ends(0x82),
            ),
            (
                "a retain handling of 3",
                "3.8.3.1",
                subscribe(&[], "a", 0x30),
                Ends(0x82),
            ),
            (
                "# before the end",
                "4.7.1-1",
                subscribe(&[], "a/#/b", 0),
                Ends(0x8F),
            ),
            (
                "+ beside something",
                "4.7.1-2",
                subscribe(&[], "a+", 0),
                Ends(0x8F),
            ),
            (
                "an empty filter",
                "4.7.3-1",
                subscribe(&[], "", 0),
                Ends(0x8F),
            ),
            (
                "a share without a name",
                "4.8.2-1",
                subscribe(&[], "$share//a", 0),
                Ends(0x8F),
            ),
            (
                "a share without a filter",
                "4.8.2-2",
                subscribe(&[], "$share/n", 0),
                Ends(0x8F),
            ),
            (
                "no local on a shared subscription",
                "3.8.3-4",
                subscribe(&[], "$share/n/a", 4),
                Ends(0x82),
            ),
            (
                "a subscription identifier of zero",
                "3.8.2.1.2",
                subscribe(b"\x0b\0", "a", 0),
                Ends(0x82),
            ),
            (
                "two subscription identifiers",
                "3.8.2.1.2",
                subscribe(b"\x0b\x01\x0b\x02", "a", 0),
                Ends(0x82),
            ),
            (
                "more filters than are taken",
                "4.13.1",
                packet(0x82, &many),
                Ends(0x97),
            ),
            (
                "UNSUBSCRIBE of packet id zero",
                "2.2.1-3",
                packet(0xA2, b"\0\0\0\0\x01a"),
                Ends(0x82),
            ),
            (
                "UNSUBSCRIBE without a filter",
                "3.10.3-2",
                packet(0xA2, b"\0\x01\0"),
                Ends(0x82),
            ),
            (
                "UNSUBSCRIBE of no filter",
                "4.7.1-2",
                packet(0xA2, b"\0\x01\0\0\x02a+"),
                Ends(0x8F),
            ),
        ],
    )
}

fn answers() -> Vec<Kind> {
    of(
        Some(5),
        vec![
            (
                "PUBACK of packet id zero",
                "2.2.1-5",
                packet(0x40, b"\0\0"),
                Ends(0x82),
            ),
            (
                "PUBREC of packet id zero",
                "2.2.1-5",
                packet(0x50, b"\0\0"),
                Ends(0x82),
            ),
            (
                "PUBREL of packet id zero",
                "2.2.1-5",
                packet(0x62, b"\0\0"),
                Ends(0x82),
            ),
            (
                "PUBCOMP of packet id zero",
                "2.2.1-5",
                packet(0x70, b"\0\0"),
                Ends(0x82),
            ),
            (
                "a reason that there is not",
                "2.4",
                packet(0x40, b"\0\x01\x55"),
                Ends(0x81),
            ),
            (
                "a reason of PUBREL in PUBACK",
                "3.4.2-1",
                packet(0x40, b"\0\x01\x92"),
                Ends(0x82),
            ),
            (
                "a reason of PUBACK in PUBREL",
                "3.6.2-1",
                packet(0x62, b"\0\x01\x10"),
                Ends(0x82),
            ),
            (
                "bytes behind PUBACK",
                "4.13.1",
                packet(0x40, b"\0\x01\0\0x"),
                Ends(0x81),
            ),
            (
                "a reason of CONNACK in DISCONNECT",
                "3.14.2-1",
                packet(0xE0, b"\x85"),
                Ends(0x82),
            ),
        ],
    )
}

/// 3.1.1 has no words: the connection just ends.
fn old() -> Vec<Kind> {
    let four = |first, topic, rest: &[u8]| publish(4, first, topic, rest, b"x");
    of(
        Some(4),
        vec![
            (
                "3.1.1: a second CONNECT",
                "3.1.1, 3.1.0-2",
                connect(4, "other"),
                Silence,
            ),
            (
                "3.1.1: reserved flags",
                "3.1.1, 2.2.2-2",
                vec![0x60, 2, 0, 1],
                Silence,
            ),
            ("3.1.1: AUTH", "3.1.1, 2.2.1", vec![0xF0, 0], Silence),
            (
                "3.1.1: a message of QoS 3",
                "3.1.1, 3.3.1-4",
                four(0x36, "rejected", &[0, 1]),
                Silence,
            ),
            (
                "3.1.1: a packet id of zero",
                "3.1.1, 2.3.1-1",
                four(0x32, "rejected", &[0, 0]),
                Silence,
            ),
            (
                "3.1.1: a wildcard in a topic",
                "3.1.1, 3.3.2-2",
                four(0x30, "rejected/#", &[]),
                Silence,
            ),
            (
                "3.1.1: an empty topic",
                "3.1.1, 4.7.3-1",
                four(0x30, "", &[]),
                Silence,
            ),
            (
                "3.1.1: U+0000",
                "3.1.1, 1.5.3-2",
                four(0x30, "a\0", &[]),
                Silence,
            ),
            (
                "3.1.1: SUBSCRIBE without a filter",
                "3.1.1, 3.8.3-3",
                vec![0x82, 2, 0, 1],
                Silence,
            ),
            (
                "3.1.1: reserved bits of SUBSCRIBE",
                "3.1.1, 3.8.3-4",
                vec![0x82, 6, 0, 1, 0, 1, b'a', 4],
                Silence,
            ),
            (
                "3.1.1: UNSUBSCRIBE without a filter",
                "3.1.1, 3.10.3-2",
                vec![0xA2, 2, 0, 1],
                Silence,
            ),
            (
                "3.1.1: CONNACK from a client",
                "3.1.1, 3.2",
                vec![0x20, 2, 0, 0],
                Silence,
            ),
            (
                "3.1.1: PUBACK with a reason",
                "3.1.1, 3.4",
                packet(0x40, b"\0\x01\0"),
                Silence,
            ),
        ],
    )
}

/// What is refused, and does not end the connection.
fn told() -> Vec<Kind> {
    let bye = |bytes: Vec<u8>| [bytes, vec![0xE0, 0]].concat();
    let deep = vec!["a"; 33].join("/");
    let false_text = packet(
        0x32,
        &[&text(b"rejected")[..], b"\0\x01\x02\x01\x01\xff"].concat(),
    );
    of(
        Some(5),
        vec![
            (
                "a topic of the system",
                "3.4.2.1",
                bye(publish(5, 0x32, ".x", &[0, 1], b"x")),
                Told(0x40, 0x90),
            ),
            (
                "a topic of too many levels",
                "3.4.2.1",
                bye(publish(5, 0x33, &deep, &[0, 1], b"x")),
                Told(0x40, 0x90),
            ),
            (
                "a topic of the server",
                "3.5.2.1",
                bye(publish(5, 0x34, "$SYS/x", &[0, 1], b"x")),
                Told(0x50, 0x87),
            ),
            (
                "a payload that is no text",
                "3.3.2.3.2",
                bye(false_text),
                Told(0x40, 0x99),
            ),
            (
                "a filter of too many levels",
                "3.9.3",
                bye(subscribe(&[], &deep, 0)),
                Told(0x90, 0x8F),
            ),
            (
                "a filter that is not there",
                "3.11.3",
                bye(packet(0xA2, b"\0\x01\0\0\x01a")),
                Told(0xB0, 0x11),
            ),
            (
                "PUBREL of nothing",
                "3.7.2.1",
                bye(packet(0x62, b"\0\x07")),
                Told(0x70, 0x92),
            ),
            (
                "PUBREC of nothing",
                "3.6.2.1",
                bye(packet(0x50, b"\0\x07")),
                Told(0x62, 0x92),
            ),
        ],
    )
}

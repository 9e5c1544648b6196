//! What is refused, each by its paragraph: of 5.0, unless it says 3.1.1.

use bytes::BytesMut;

use crate::codec::*;

const PROTOCOL: u8 = 0x82;
const MALFORMED: u8 = 0x81;

/// What a server that has just been called makes of these bytes, and what one that speaks 5.0, or 3.1.1.
fn refused(mut decoder: Decoder, bytes: &[u8]) -> (u8, &'static str) {
    let fault = decoder.decode(&mut BytesMut::from(bytes)).unwrap_err();
    (fault.reason as u8, fault.section)
}

fn first(bytes: &[u8]) -> (u8, &'static str) {
    refused(Decoder::new(DecodeLimits::default()), bytes)
}

fn v5(bytes: &[u8]) -> (u8, &'static str) {
    refused(
        Decoder::with_version(Version::V5, DecodeLimits::default()),
        bytes,
    )
}

fn v3(bytes: &[u8]) -> (u8, &'static str) {
    refused(
        Decoder::with_version(Version::V3_1_1, DecodeLimits::default()),
        bytes,
    )
}

/// A packet of a type with flags.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, u8::try_from(body.len()).unwrap()];
    bytes.extend(body);
    bytes
}

fn connect(level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', level, flags, 0, 10];
    body.extend(rest);
    packet(0x10, &body)
}

#[test]
fn strings_are_utf_8_without_nul() {
    // 1.5.4-1, 1.5.4-2, 3.3.2-1, 4.7.3-2; 3.1.1, 1.5.3-1, 1.5.3-2, 4.7.3-2
    for (text, section) in [
        (&b"\xFF"[..], "1.5.4-1"),
        (b"\xED\xA0\x80", "1.5.4-1"),
        (b"\xC0\x80", "1.5.4-1"),
        (b"a\0", "1.5.4-2"),
    ] {
        let mut body = vec![0, u8::try_from(text.len()).unwrap()];
        body.extend(text);
        assert_eq!(v3(&packet(0x30, &body)), (MALFORMED, section));
        body.push(0);
        assert_eq!(v5(&packet(0x30, &body)), (MALFORMED, section));
        // 3.8.3-1, 3.10.3-1; 3.1.1, 3.8.3-1, 3.10.3-1
        let mut filter = vec![0, 1, 0, u8::try_from(text.len()).unwrap()];
        filter.extend(text);
        assert_eq!(v3(&packet(0xA2, &filter)), (MALFORMED, section));
        filter.push(0);
        assert_eq!(v3(&packet(0x82, &filter)), (MALFORMED, section));
        filter.insert(2, 0);
        assert_eq!(v5(&packet(0x82, &filter)), (MALFORMED, section));
        // 3.1.3-4, 3.1.3-11, 3.1.3-12; 3.1.1, 3.1.3-4, 3.1.3-10, 3.1.3-11
        let field = |text: &[u8]| [&[0, u8::try_from(text.len()).unwrap()], text].concat();
        assert_eq!(first(&connect(4, 2, &field(text))), (MALFORMED, section));
        let will = [&[0, 0][..], &field(text), &[0, 0]].concat();
        assert_eq!(first(&connect(4, 6, &will)), (MALFORMED, section));
        let user = [&[0, 0][..], &field(text)].concat();
        assert_eq!(first(&connect(4, 0x82, &user)), (MALFORMED, section));
    }
}

#[test]
fn lengths_are_short_and_of_at_most_four_bytes() {
    // 1.5.5, 1.5.5-1
    assert_eq!(v5(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF]), (MALFORMED, "1.5.5"));
    assert_eq!(v3(&[0x30, 0x80, 0x80, 0x80, 0x80]), (MALFORMED, "1.5.5"));
    assert_eq!(v5(&[0xC0, 0x80, 0]), (MALFORMED, "1.5.5-1"));
    let long = packet(0x30, &[0, 1, b'a', 0x80, 0]);
    assert_eq!(v5(&long), (MALFORMED, "1.5.5-1"));
    // 3.1.1 does not ask for it.
    let mut decoder = Decoder::with_version(Version::V3_1_1, DecodeLimits::default());
    let read = decoder.decode(&mut BytesMut::from(&[0xC0, 0x80, 0][..]));
    assert_eq!(read, Ok(Some(Packet::Pingreq)));
}

#[test]
fn both_strings_of_a_pair_are_checked() {
    // 1.5.7-1
    let bad = packet(0x30, &[0, 1, b'a', 6, 0x26, 0, 1, b'n', 0, 0xFF]);
    assert_eq!(v5(&bad).0, MALFORMED);
    let bad = packet(0x30, &[0, 1, b'a', 7, 0x26, 0, 1, b'n', 0, 1, 0]);
    assert_eq!(v5(&bad), (MALFORMED, "1.5.4-2"));
}

#[test]
fn reserved_flags_are_as_the_table_says() {
    // 2.1.3-1, 3.6.1-1, 3.8.1-1, 3.10.1-1, 3.14.1-1, 3.15.1-1
    // 3.1.1, 2.2.2-1, 2.2.2-2, 3.6.1-1, 3.8.1-1, 3.10.1-1, 3.14.1-1
    for kind in [1u8, 2, 4, 5, 7, 9, 11, 12, 13] {
        assert_eq!(v5(&[kind << 4 | 1, 0]), (MALFORMED, "2.1.3-1"));
        assert_eq!(v3(&[kind << 4 | 8, 0]), (MALFORMED, "2.1.3-1"));
    }
    for (first, section) in [
        (0x60, "3.6.1-1"),
        (0x83, "3.8.1-1"),
        (0xA0, "3.10.1-1"),
        (0xE1, "3.14.1-1"),
        (0xF4, "3.15.1-1"),
    ] {
        assert_eq!(v5(&[first, 0]), (MALFORMED, section));
    }
    assert_eq!(v5(&[0x00, 0]), (MALFORMED, "2.1.2"));
    // AUTH came with 5.0.
    assert_eq!(v3(&[0xF0, 0]), (MALFORMED, "2.1.2"));
}

#[test]
fn packet_ids_are_not_zero() {
    // 2.2.1-3, 2.2.1-5, 2.2.1-6; 3.1.1, 2.3.1-1, 2.3.1-6, 2.3.1-7
    for (first, body, section) in [
        (0x32, &b"\0\x01a\0\0\0"[..], "2.2.1-3"),
        (0x40, b"\0\0", "2.2.1-5"),
        (0x50, b"\0\0", "2.2.1-5"),
        (0x62, b"\0\0", "2.2.1-5"),
        (0x70, b"\0\0", "2.2.1-5"),
        (0x82, b"\0\0\0\0\x01a\0", "2.2.1-3"),
        (0x90, b"\0\0\0\0", "2.2.1-6"),
        (0xA2, b"\0\0\0\0\x01a", "2.2.1-3"),
        (0xB0, b"\0\0\0\0", "2.2.1-6"),
    ] {
        assert_eq!(v5(&packet(first, body)), (PROTOCOL, section));
        assert_eq!(v3(&packet(first, body)), (PROTOCOL, section));
    }
}

#[test]
fn properties_are_known_at_their_place_and_single() {
    // 2.2.2.2
    let publish = |list: &[u8]| {
        let mut body = vec![0, 1, b'a', u8::try_from(list.len()).unwrap()];
        body.extend(list);
        v5(&packet(0x30, &body))
    };
    assert_eq!(publish(&[0x7F, 0]), (MALFORMED, "2.2.2.2"));
    assert_eq!(publish(&[0x11, 0, 0, 0, 1]), (MALFORMED, "2.2.2.2"));
    assert_eq!(publish(&[0x81, 0, 0]), (MALFORMED, "2.2.2.2"));
    assert_eq!(publish(&[1, 0, 1, 0]), (PROTOCOL, "2.2.2.2"));
    assert_eq!(publish(&[1, 2]), (PROTOCOL, "2.2.2.2"));
    // The list ends inside a property, or behind the packet.
    assert_eq!(publish(&[2, 0]), (MALFORMED, "4.13.1"));
    assert_eq!(v5(&packet(0x30, &[0, 1, b'a', 9])), (MALFORMED, "4.13.1"));
}

#[test]
fn properties_that_may_not_be_zero_are_not() {
    // 3.1.2.11.3, 3.1.2.11.4
    for list in [&[0x21, 0, 0][..], &[0x27, 0, 0, 0, 0]] {
        let mut rest = vec![u8::try_from(list.len()).unwrap()];
        rest.extend(list);
        rest.extend([0, 0]);
        assert_eq!(first(&connect(5, 2, &rest)), (PROTOCOL, "2.2.2.2"));
    }
    // 3.8.2.1.2
    let subscribe = packet(0x82, &[0, 1, 2, 0x0B, 0, 0, 1, b'a', 0]);
    assert_eq!(v5(&subscribe), (PROTOCOL, "3.8.2.1.2"));
}

#[test]
fn the_first_packet_is_connect() {
    // 3.1.0-1, refused by its first byte; 3.1.1, 3.1.0-1; CVE-2021-28166, CVE-2023-0809
    for kind in (0..=15u8).filter(|kind| *kind != 1) {
        assert_eq!(first(&[kind << 4]), (PROTOCOL, "3.1.0-1"));
    }
}

#[test]
fn the_protocol_name_is_mqtt() {
    // 3.1.2-1; 3.1.1, 3.1.2-1
    let other = packet(0x10, b"\0\x04MQTX\x05\0\0\0");
    assert_eq!(first(&other), (0x84, "3.1.2-1"));
}

#[test]
fn the_flags_of_connect_agree_with_each_other() {
    // 3.1.2-3, 3.1.2-11, 3.1.2-12, 3.1.2-13; 3.1.1, 3.1.2-3, 3.1.2-13, 3.1.2-14, 3.1.2-15
    for (flags, section) in [
        (0x01, "3.1.2-3"),
        (0x08, "3.1.2-11"),
        (0x1C, "3.1.2-12"),
        (0x18, "3.1.2-12"),
        (0x20, "3.1.2-13"),
    ] {
        assert_eq!(first(&connect(5, flags, &[0, 0, 0])), (MALFORMED, section));
        assert_eq!(first(&connect(4, flags, &[0, 0])), (MALFORMED, section));
    }
    // 3.1.1, 3.1.2-22; 5.0 allows it.
    let password = connect(4, 0x42, &[0, 0, 0, 1, b'p']);
    assert_eq!(first(&password), (MALFORMED, "3.1.1, 3.1.2-22"));
    let password = connect(5, 0x42, &[0, 0, 0, 0, 1, b'p']);
    let read = Decoder::new(DecodeLimits::default()).decode(&mut BytesMut::from(&*password));
    assert!(matches!(read, Ok(Some(Packet::Connect(_)))));
}

#[test]
fn connect_has_all_that_its_flags_say_and_no_more() {
    // 3.1.2-9, 3.1.2-16, 3.1.2-17, 3.1.2-18, 3.1.2-19, 3.1.3-1, 3.1.3-3, 3.1.4-1
    // 3.1.1, 3.1.2-9, 3.1.2-11, 3.1.2-18, 3.1.2-19, 3.1.2-20, 3.1.2-21, 3.1.3-1, 3.1.3-3
    for flags in [0x04, 0x80, 0xC0] {
        assert_eq!(first(&connect(4, flags, &[0, 0])), (MALFORMED, "4.13.1"));
        assert_eq!(first(&connect(5, flags, &[0, 0, 0])), (MALFORMED, "4.13.1"));
    }
    assert_eq!(first(&connect(4, 2, &[0, 0, 9])), (MALFORMED, "4.13.1"));
}

#[test]
fn a_fault_in_connect_still_says_the_version() {
    let mut decoder = Decoder::new(DecodeLimits::default());
    let bytes = connect(5, 1, &[0, 0, 0]);
    assert!(decoder.decode(&mut BytesMut::from(&*bytes)).is_err());
    assert_eq!(decoder.version(), Some(Version::V5));
}

#[test]
fn authentication_data_needs_a_method() {
    // 3.1.2.11.10
    let data = connect(5, 2, &[4, 0x16, 0, 1, b'd', 0, 0]);
    assert_eq!(first(&data), (PROTOCOL, "3.1.2.11.10"));
}

#[test]
fn a_wills_topic_is_a_topic() {
    // 3.3.2-2, 4.7.3-1 by 3.1.3.3
    let will = |topic: u8| connect(4, 0x06, &[0, 0, 0, 1, topic, 0, 0]);
    assert_eq!(first(&will(b'#')), (0x90, "3.3.2-2"));
    let empty = connect(4, 0x06, &[0, 0, 0, 0, 0, 0]);
    assert_eq!(first(&empty), (0x90, "4.7.3-1"));
}

#[test]
fn a_packet_above_the_limit_is_refused_by_its_head() {
    // 3.2.2-15
    let head = [0x30, 0xFF, 0xFF, 0xFF, 0x7F];
    assert_eq!(v5(&head), (0x95, "3.2.2-15"));
    assert_eq!(first(&[0x10, 0xFF, 0xFF, 0x7F]), (0x95, "3.2.2-15"));
}

#[test]
fn publish_has_a_qos_and_dup_only_with_one() {
    // 3.3.1-2, 3.3.1-4; 3.1.1, 3.3.1-2, 3.3.1-4
    let publish = |first: u8| packet(first, &[0, 1, b'a', 0, 1, 0]);
    assert_eq!(v5(&publish(0x36)), (MALFORMED, "3.3.1-4"));
    assert_eq!(v3(&publish(0x36)), (MALFORMED, "3.3.1-4"));
    assert_eq!(v5(&publish(0x38)), (MALFORMED, "3.3.1-2"));
    assert_eq!(v3(&publish(0x38)), (MALFORMED, "3.3.1-2"));
}

#[test]
fn topic_names_have_no_wildcards() {
    // 3.3.2-2, 4.7.0-1; 3.1.1, 3.3.2-2, 4.7.1-1; CVE-2017-7653
    for topic in [b'+', b'#'] {
        assert_eq!(v5(&packet(0x30, &[0, 1, topic, 0])), (0x90, "3.3.2-2"));
        assert_eq!(v3(&packet(0x30, &[0, 1, topic])), (0x90, "3.3.2-2"));
    }
    // 3.3.2-14
    let response = packet(0x30, &[0, 1, b'a', 4, 8, 0, 1, b'#']);
    assert_eq!(v5(&response), (PROTOCOL, "3.3.2-14"));
}

#[test]
fn a_topic_is_there_or_an_alias_stands_for_it() {
    // 3.3.2.1, 4.7.3-1, 3.3.2-8; CVE-2021-34432
    assert_eq!(v5(&packet(0x30, &[0, 0, 0])), (PROTOCOL, "3.3.2.1"));
    assert_eq!(v3(&packet(0x30, &[0, 0])), (0x90, "4.7.3-1"));
    let zero = packet(0x30, &[0, 1, b'a', 3, 0x23, 0, 0]);
    assert_eq!(v5(&zero), (0x94, "3.3.2-8"));
}

#[test]
fn reason_codes_are_those_of_their_packet() {
    // 3.4.2-1, 3.5.2-1, 3.6.2-1, 3.7.2-1, 3.15.2-1, 2.4
    assert_eq!(v5(&packet(0x40, &[0, 1, 0x92])), (PROTOCOL, "3.4.2-1"));
    assert_eq!(v5(&packet(0x50, &[0, 1, 0x92])), (PROTOCOL, "3.5.2-1"));
    assert_eq!(v5(&packet(0x62, &[0, 1, 0x80])), (PROTOCOL, "3.6.2-1"));
    assert_eq!(v5(&packet(0x70, &[0, 1, 0x10])), (PROTOCOL, "3.7.2-1"));
    assert_eq!(v5(&packet(0x40, &[0, 1, 0x55])), (MALFORMED, "2.4"));
    assert_eq!(v5(&packet(0xF0, &[0x80, 0])), (PROTOCOL, "3.15.2-1"));
    // 3.2.2-8, 3.9.3-2, 3.11.3-2, 3.14.2-1; 3.1.1, 3.9.3-2
    assert_eq!(v5(&packet(0x20, &[0, 0x8E, 0])), (PROTOCOL, "3.2.2-8"));
    assert_eq!(v5(&packet(0x90, &[0, 1, 0, 0x10])), (PROTOCOL, "3.9.3-2"));
    assert_eq!(v3(&packet(0x90, &[0, 1, 0x87])), (PROTOCOL, "3.9.3-2"));
    assert_eq!(v5(&packet(0xB0, &[0, 1, 0, 1])), (PROTOCOL, "3.11.3-2"));
    assert_eq!(v5(&packet(0xE0, &[0x85])), (PROTOCOL, "3.14.2-1"));
    // 3.x has none.
    assert_eq!(v3(&packet(0x40, &[0, 1, 0])), (MALFORMED, "4.13.1"));
}

#[test]
fn subscribe_has_a_filter_and_known_options() {
    // 3.8.3-2, 3.8.3-5, 3.8.3.1; 3.1.1, 3.8.3-3, 3.8.3-4
    assert_eq!(v5(&packet(0x82, &[0, 1, 0])), (PROTOCOL, "3.8.3-2"));
    assert_eq!(v3(&packet(0x82, &[0, 1])), (PROTOCOL, "3.8.3-2"));
    let v5_options = |options| v5(&packet(0x82, &[0, 1, 0, 0, 1, b'a', options]));
    assert_eq!(v5_options(0x40), (MALFORMED, "3.8.3-5"));
    assert_eq!(v5_options(0x80), (MALFORMED, "3.8.3-5"));
    assert_eq!(v5_options(0x03), (PROTOCOL, "3.8.3.1"));
    assert_eq!(v5_options(0x30), (PROTOCOL, "3.8.3.1"));
    let v3_options = |options| v3(&packet(0x82, &[0, 1, 0, 1, b'a', options]));
    assert_eq!(v3_options(0x04), (MALFORMED, "3.8.3-5"));
    assert_eq!(v3_options(0x03), (PROTOCOL, "3.8.3.1"));
    // A filter without its options.
    assert_eq!(
        v3(&packet(0x82, &[0, 1, 0, 1, b'a'])),
        (MALFORMED, "4.13.1")
    );
}

#[test]
fn unsubscribe_has_a_filter() {
    // 3.10.3-2; 3.1.1, 3.10.3-2
    assert_eq!(v5(&packet(0xA2, &[0, 1, 0])), (PROTOCOL, "3.10.3-2"));
    assert_eq!(v3(&packet(0xA2, &[0, 1])), (PROTOCOL, "3.10.3-2"));
}

#[test]
fn filters_in_a_packet_are_limited() {
    // Reliability, L8.
    let limits = DecodeLimits {
        filters_max: 2,
        ..DecodeLimits::default()
    };
    let decoder = || Decoder::with_version(Version::V3_1_1, limits);
    let three = packet(0x82, &[0, 1, 0, 1, b'a', 0, 0, 1, b'b', 0, 0, 1, b'c', 0]);
    assert_eq!(refused(decoder(), &three).0, 0x97);
    let three = packet(0xA2, &[0, 1, 0, 1, b'a', 0, 1, b'b', 0, 1, b'c']);
    assert_eq!(refused(decoder(), &three).0, 0x97);
}

#[test]
fn pings_are_empty() {
    // 3.12.2, 3.12.3, 3.13, and 3.14 in 3.1.1
    assert_eq!(v5(&packet(0xC0, &[0])), (MALFORMED, "4.13.1"));
    assert_eq!(v3(&packet(0xD0, &[0])), (MALFORMED, "4.13.1"));
    assert_eq!(v3(&packet(0xE0, &[0])), (MALFORMED, "4.13.1"));
}

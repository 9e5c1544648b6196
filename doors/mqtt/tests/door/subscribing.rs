//! Subscriptions and their options (3.8, 3.10, 4.7).

use sapwood_mqtt::codec::{Packet, Publish, RetainHandling, SubscribeFilter, Version};
use sapwood_value::{Text, Value};

use crate::server::{Q0, Q1, Q2, Server, filter, hello, publish};

#[test]
fn the_first_state_comes_retained_and_changes_do_not() {
    // 3.3.1-9, 3.3.1-12; 3.1.1, 3.3.1-8, 3.3.1-9
    let server = Server::start();
    let mut client = server.connect("c");
    client.retain("a/1", "1");
    client.subscribe("a/#", Q1);
    assert_eq!(client.told(), "a/1 1 q1 retain");
    let mut other = server.connect("o");
    other.retain("a/1", "2");
    assert_eq!(client.told(), "a/1 2 q1");
}

#[test]
fn the_first_change_behind_an_empty_first_state_is_not_retained() {
    let server = Server::start();
    let mut client = server.connect("c");
    client.subscribe("a/#", Q0);
    let mut other = server.connect("o");
    other.retain("a/1", "2");
    assert_eq!(client.told(), "a/1 2 q0");
}

#[test]
fn retain_goes_as_published_for_who_asks() {
    // 3.3.1-13
    let server = Server::start();
    let mut client = server.connect("c");
    let asked = SubscribeFilter {
        retain_as_published: true,
        ..filter("a", Q0)
    };
    client.subscribe_with(vec![asked], None);
    let mut other = server.connect("o");
    other.retain("a", "1");
    assert_eq!(client.told(), "a 1 q0 retain");
    other.say("a", "2");
    assert_eq!(client.told(), "a 2 q0");
}

#[test]
fn retain_handling_says_whether_the_first_state_comes() {
    // 3.3.1-9, 3.3.1-10, 3.3.1-11
    let server = Server::start();
    let mut client = server.connect("c");
    client.retain("a", "1");
    let asked = |handling| SubscribeFilter {
        retain_handling: handling,
        ..filter("a", Q0)
    };
    client.subscribe_with(vec![asked(RetainHandling::DoNotSend)], None);
    client.silent();
    client.subscribe_with(vec![asked(RetainHandling::SendIfNew)], None);
    client.silent();
    client.subscribe_with(vec![asked(RetainHandling::Send)], None);
    assert_eq!(client.told(), "a 1 q0 retain");
    client.silent();
    client.unsubscribe("a");
    client.subscribe_with(vec![asked(RetainHandling::SendIfNew)], None);
    assert_eq!(client.told(), "a 1 q0 retain");
}

#[test]
fn a_subscription_is_replaced_by_its_own_filter_and_nothing_is_told_twice() {
    // 3.8.4-3, 3.8.4-4
    let server = Server::start();
    let mut client = server.connect("c");
    for n in 0..40 {
        let qos = if n % 2 == 0 { Q1 } else { Q0 };
        client.subscribe("a/#", qos);
    }
    let mut other = server.connect("o");
    other.say_surely("a/b", "x");
    assert_eq!(client.told(), "a/b x q0");
    other.retain("a/b", "y");
    assert_eq!(client.told(), "a/b y q0");
    client.subscribe("a/#", Q1);
    assert_eq!(client.told(), "a/b y q1 retain");
    other.retain("a/b", "z");
    assert_eq!(client.told(), "a/b z q1");
    client.silent();
}

#[test]
fn no_local_keeps_a_client_from_its_own_messages() {
    // 3.8.3-3
    let server = Server::start();
    let mut client = server.connect("c");
    let asked = SubscribeFilter {
        no_local: true,
        ..filter("#", Q0)
    };
    client.subscribe_with(vec![asked], None);
    client.say("a", "own");
    client.retain("b", "own");
    let mut other = server.connect("o");
    other.say("a", "other");
    assert_eq!(client.told(), "a other q0");
    other.retain("b", "other");
    assert_eq!(client.told(), "b other q0");
    client.silent();
}

#[test]
fn overlapping_subscriptions_are_told_once_with_all_their_ids() {
    // 3.3.4-2, 3.3.4-3, 3.3.4-4, 3.3.4-5
    let server = Server::start();
    let mut client = server.connect("c");
    client.subscribe_with(vec![filter("a/+", Q0)], Some(1));
    client.subscribe_with(vec![filter("a/#", Q2)], Some(268_435_455));
    client.subscribe_with(vec![filter("a/b", Q1)], None);
    client.subscribe_with(vec![filter("c/#", Q2)], Some(3));
    let mut other = server.connect("o");
    other.say_surely("a/b", "x");
    assert_eq!(client.told(), "a/b x q1 #1 #268435455");
    other.retain("a/b", "y");
    assert_eq!(client.told(), "a/b y q1 #1 #268435455");
    client.silent();
}

#[test]
fn many_subscriptions_find_their_own() {
    let server = Server::start();
    let mut client = server.connect("c");
    for n in 0..100_u32 {
        let text = if n % 2 == 0 {
            format!("a/{n}/#")
        } else {
            format!("a/{n}/+")
        };
        client.subscribe_with(vec![filter(&text, Q0)], Some(n + 1));
    }
    let mut other = server.connect("o");
    for n in 0..100 {
        other.say(&format!("a/{n}/x"), "x");
        assert_eq!(client.told(), format!("a/{n}/x x q0 #{}", n + 1));
    }
}

#[test]
fn a_first_state_bears_its_own_subscription_only() {
    // 3.3.4-2
    let server = Server::start();
    let mut client = server.connect("c");
    client.retain("a/b", "x");
    client.subscribe_with(vec![filter("a/+", Q0)], Some(1));
    assert_eq!(client.told(), "a/b x q0 retain #1");
    client.subscribe_with(vec![filter("a/#", Q1)], Some(2));
    assert_eq!(client.told(), "a/b x q1 retain #2");
    client.silent();
}

#[test]
fn nothing_comes_behind_an_unsubscribe() {
    // 3.10.4-2, 3.11.3
    let server = Server::start();
    let mut client = server.connect("c");
    client.subscribe("a", Q0);
    assert_eq!(client.unsubscribe("a"), [0]);
    assert_eq!(client.unsubscribe("a"), [0x11]);
    let mut other = server.connect("o");
    assert_eq!(other.say_surely("a", "x"), 0x10);
    client.silent();
}

#[test]
fn a_large_first_state_comes_whole_and_in_order() {
    let server = Server::start();
    let mut publisher = server.connect("p");
    for n in 0..3000 {
        publisher.send(Packet::Publish(Publish {
            retain: true,
            ..publish(&format!("many/{n:05}"), &n.to_string(), Q0, 0)
        }));
    }
    publisher.retain("many", "all");
    for qos in [Q0, Q1] {
        let mut client = server.connect("c");
        client.subscribe("many/+", qos);
        for n in 0..3000 {
            let expected = format!("many/{n:05} {n} q{} retain", qos as u8);
            assert_eq!(client.told(), expected.replace(" q1", " q0"));
        }
    }
}

#[test]
fn a_filter_in_3_1_1_is_told_once_at_the_highest_qos() {
    // 3.1.1, 3.3.5-1, 3.8.4-6
    let server = Server::start();
    let (mut client, _) = server.connect_as(hello(Version::V3_1_1, "c"));
    client.subscribe("a/+", Q0);
    client.subscribe("a/#", Q1);
    let mut other = server.connect("o");
    other.say_surely("a/b", "x");
    assert_eq!(client.told(), "a/b x q1");
    client.silent();
}

#[test]
fn the_server_s_figures_come_when_somebody_asks() {
    let server = Server::start();
    let mut client = server.connect("c");
    client.subscribe("$SYS/broker/clients/connected", Q0);
    assert_eq!(client.told(), "$SYS/broker/clients/connected 1 q0");
    client.subscribe("$SYS/broker/version", Q0);
    while !client.told().starts_with("$SYS/broker/version sapwood") {}
}

#[test]
fn a_write_above_records_is_told_once_each_in_the_order_of_paths() {
    // design, 2.2: once per session, commit and told topic
    let server = Server::start();
    let mut client = server.connect("c");
    for topic in ["a/2", "a/10", "a/b/c"] {
        client.retain(topic, "0");
    }
    for (text, qos, n) in [("a/+", Q0, 1), ("a/#", Q2, 2), ("a/2", Q1, 3)] {
        let asked = SubscribeFilter {
            retain_handling: RetainHandling::DoNotSend,
            ..filter(text, qos)
        };
        client.subscribe_with(vec![asked], Some(n));
    }
    server.put("a/b/c", Value::Int(1));
    assert_eq!(client.told(), "a/b/c 1 q1 #2");
    let below = [("10", 1), ("2", 2)].map(|(key, value)| (Text::from(key), Value::Int(value)));
    server.put("a", Value::Map(below.into_iter().collect()));
    let told: Vec<String> = (0..3).map(|_| client.told()).collect();
    assert_eq!(
        told,
        ["a/2 2 q1 #1 #2 #3", "a/10 1 q1 #1 #2", "a/b/c  q2 #2"]
    );
    client.silent();
}

#[test]
fn filters_of_one_packet_are_as_if_each_had_come_alone() {
    // 3.8.4-5, 3.8.4-4
    let server = Server::start();
    let mut client = server.connect("c");
    client.retain("a", "1");
    let all = vec![
        filter("a", Q0),
        filter("b", Q1),
        filter("+", Q2),
        filter("a/#/b/", Q0),
    ];
    assert_eq!(client.subscribe_with(all[..3].to_vec(), None), [0, 1, 2]);
    // Each brings its first state.
    let mut told = [client.told(), client.told()];
    told.sort();
    assert_eq!(told, ["a 1 q0 retain", "a 1 q1 retain"]);
    server.connect("o").say_surely("a", "x");
    assert_eq!(client.told(), "a x q1");
    // One that is none ends it, and nothing of the packet counts.
    client.send(Packet::Subscribe(sapwood_mqtt::codec::Subscribe {
        packet_id: crate::server::id(4),
        properties: Default::default(),
        filters: all,
    }));
    assert_eq!(client.ends(), 0x8F);
}

#[test]
fn an_unsubscribe_takes_its_own_filters_each_with_its_reason() {
    // 3.10.4-1, 3.10.4-6, 3.11.3-1, 3.10.3-1
    let server = Server::start();
    let mut client = server.connect("c");
    client.subscribe_with(
        vec![filter("a/+", Q0), filter("a/#", Q0), filter("b", Q0)],
        None,
    );
    let filters = ["a/b", "a/+", "b", "a/+"].map(crate::server::text).to_vec();
    client.send(Packet::Unsubscribe(sapwood_mqtt::codec::Unsubscribe {
        packet_id: crate::server::id(5),
        properties: Default::default(),
        filters,
    }));
    let Some(Packet::Unsuback(unsuback)) = client.next() else {
        panic!("no UNSUBACK");
    };
    let reasons: Vec<u8> = unsuback
        .reasons
        .iter()
        .map(|reason| *reason as u8)
        .collect();
    assert_eq!(reasons, [0x11, 0, 0, 0x11]);
    let mut other = server.connect("o");
    assert_eq!(other.say_surely("a/b", "x"), 0);
    assert_eq!(client.told(), "a/b x q0");
    assert_eq!(other.say_surely("b", "x"), 0x10);
}

#[test]
fn a_new_subscription_has_the_identifier_of_its_own_time() {
    // 3.8.2.1.2, 3.3.4-3
    let server = Server::start();
    let mut client = server.connect("c");
    let mut other = server.connect("o");
    client.subscribe_with(vec![filter("a", Q0), filter("b", Q0)], Some(1));
    client.subscribe_with(vec![filter("a", Q0)], Some(7));
    other.say("a", "x");
    assert_eq!(client.told(), "a x q0 #7");
    other.say("b", "x");
    assert_eq!(client.told(), "b x q0 #1");
    client.subscribe_with(vec![filter("a", Q0)], None);
    other.say("a", "x");
    assert_eq!(client.told(), "a x q0");
}

#[test]
fn wildcards_match_levels_and_nothing_else() {
    // 4.7.1-1, 4.7.1-2, 4.7.2-1, 4.7.3-1, 4.7.3-4, 3.3.2-3
    // 3.1.1, 4.7.1-2, 4.7.1-3, 4.7.2-1, 4.7.3-1, 4.7.3-4, 3.3.2-3
    let server = Server::start();
    let mut publisher = server.connect("p");
    for (text, told) in [
        ("sport/tennis/+", &["sport/tennis/1", "sport/tennis/"][..]),
        (
            "sport/#",
            &["sport", "sport/tennis/1", "sport/tennis/", "sport//x"],
        ),
        ("+/+", &["/finance", "sport/x", "/"]),
        ("/+", &["/finance", "/"]),
        ("+", &["sport", "ACCOUNTS", "Accounts"]),
        ("Accounts", &["Accounts"]),
        ("$other/+", &["$other/x"]),
    ] {
        let version = if text.starts_with('+') {
            Version::V3_1_1
        } else {
            Version::V5
        };
        let (mut client, _) = server.connect_as(hello(version, "c"));
        client.subscribe(text, Q0);
        let all = [
            "sport",
            "sport/tennis/1",
            "sport/tennis/",
            "sport//x",
            "/finance",
            "sport/x",
            "/",
            "ACCOUNTS",
            "Accounts",
            "$other/x",
        ];
        for topic in all {
            publisher.say_surely(topic, "x");
        }
        publisher.say_surely(told[0], "last");
        let mut got = Vec::new();
        loop {
            let publish = client.publish();
            if publish.message.payload == "last" {
                break;
            }
            got.push(publish.message.topic.as_str().to_owned());
        }
        got.sort();
        let mut told = told.to_vec();
        if text == "sport/#" {
            told.push("sport/x");
        }
        told.sort_unstable();
        assert_eq!(got, told, "{text}");
    }
}

//! Subscriptions and their options (3.8, 3.10, 4.7).

use sapwood_mqtt::codec::{Packet, Publish, RetainHandling, SubscribeFilter, Version};

use crate::server::{Q0, Q1, Q2, Server, filter, hello, publish};

#[test]
fn the_first_state_comes_retained_and_changes_do_not() {
    // 3.3.1-8, 3.3.1-12
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
    // 3.3.1-9 to 3.3.1-11
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
    // 3.8.4-3
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
    // 3.3.4-2 to 3.3.4-5
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

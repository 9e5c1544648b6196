//! The folders are the architecture: who may use whom.

use std::fs;

use super::{read, root};

/// Folder, and which of our folders it may name in its manifest (for tests, `testkit` besides).
const MAY_USE: &[(&str, &[&str])] = &[
    ("crates/value", &[]),
    ("crates/tree", &["value"]),
    ("crates/store", &["value", "tree"]),
    ("crates/core", &["value", "tree", "store"]),
    ("crates/net", &["value", "tree", "core"]),
    ("crates/testkit", &[]),
    ("doors/*", &["value", "tree", "core", "net"]),
    (
        "crates/sapwood",
        &["value", "tree", "core", "store", "net", "http", "mqtt"],
    ),
];

/// Crates of a pure crate's dependencies that would make it impure.
const IMPURE: &[&str] = &[
    "tokio", "fjall", "rustix", "rand", "hyper", "notify", "metrics",
];

fn members() -> Vec<String> {
    let mut members = Vec::new();
    for folder in ["crates", "doors"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            members.push(format!("{folder}/{name}"));
        }
    }
    members
}

fn may_use(member: &str) -> &'static [&'static str] {
    let matches = |pattern: &str| {
        pattern == member
            || pattern
                .strip_suffix('*')
                .is_some_and(|p| member.starts_with(p))
    };
    let rule = MAY_USE.iter().find(|(pattern, _)| matches(pattern));
    rule.unwrap_or_else(|| panic!("{member} is in no line of MAY_USE: say what it may use"))
        .1
}

fn dependencies(member: &str, kind: &str) -> Vec<String> {
    let manifest: toml::Table = read(format!("{member}/Cargo.toml")).parse().unwrap();
    manifest
        .get(kind)
        .and_then(|table| table.as_table())
        .map_or_else(Vec::new, |table| table.keys().cloned().collect())
}

#[test]
fn nothing_points_back() {
    for member in members() {
        for dependency in dependencies(&member, "dependencies") {
            let Some(ours) = dependency.strip_prefix("sapwood-") else {
                continue;
            };
            assert!(
                may_use(&member).contains(&ours),
                "{member} must not use {ours}"
            );
        }
    }
}

#[test]
fn pure_crates_have_neither_clock_nor_file_nor_socket() {
    for member in ["crates/value", "crates/tree"] {
        for dependency in dependencies(member, "dependencies") {
            assert!(
                !IMPURE.contains(&dependency.as_str()),
                "{member} is pure, but uses {dependency}"
            );
        }
    }
}

#[test]
fn each_door_says_what_it_supports() {
    for member in members()
        .iter()
        .filter(|member| member.starts_with("doors/"))
    {
        assert!(
            root().join(member).join("README.md").exists(),
            "{member} has no README.md"
        );
    }
}

#[test]
fn every_member_inherits_the_lints() {
    for member in members() {
        let manifest: toml::Table = read(format!("{member}/Cargo.toml")).parse().unwrap();
        assert_eq!(
            manifest["lints"]["workspace"].as_bool(),
            Some(true),
            "{member}"
        );
    }
}

//! Licences and duplicate versions, by `deny.toml`, for machines without cargo-deny.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// (name, version, licence) of every package from outside.
fn packages() -> Vec<(String, String, String)> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            TARGET,
        ])
        .current_dir(super::root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let used: Vec<&Value> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| &node["id"])
        .collect();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .filter(|package| used.contains(&&package["id"]) && !package["source"].is_null())
        .map(|package| {
            let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
            (text("name"), text("version"), text("license"))
        })
        .collect()
}

fn deny() -> toml::Table {
    super::read("deny.toml").parse().unwrap()
}

fn texts(value: &toml::Value) -> Vec<&str> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item.as_str().unwrap())
        .collect()
}

/// Whether an SPDX expression can be kept with the licences allowed. `AND` binds tighter than `OR`.
fn fits(expression: &str, allowed: &[&str]) -> bool {
    let expression = expression.replace('/', " OR ").replace(['(', ')'], " ");
    let mut alternatives: Vec<Vec<String>> = vec![Vec::new()];
    let mut words = expression.split_whitespace().peekable();
    while let Some(word) = words.next() {
        match word {
            "OR" => alternatives.push(Vec::new()),
            "AND" => {}
            "WITH" => {
                let exception = words.next().unwrap_or_default();
                let licence = alternatives
                    .last_mut()
                    .and_then(|all| all.last_mut())
                    .unwrap();
                *licence = format!("{licence} WITH {exception}");
            }
            licence => alternatives
                .last_mut()
                .unwrap()
                .push(licence.trim_end_matches('+').to_owned()),
        }
    }
    alternatives.iter().any(|all| {
        !all.is_empty()
            && all
                .iter()
                .all(|licence| allowed.contains(&licence.as_str()))
    })
}

#[test]
fn dependencies_have_licences_that_we_can_keep() {
    let deny = deny();
    let allowed = texts(&deny["licenses"]["allow"]);
    let exceptions: BTreeMap<&str, Vec<&str>> = deny["licenses"]["exceptions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|exception| {
            (
                exception["crate"].as_str().unwrap(),
                texts(&exception["allow"]),
            )
        })
        .collect();
    for (name, version, licence) in packages() {
        let also = exceptions.get(name.as_str()).cloned().unwrap_or_default();
        let all: Vec<&str> = allowed.iter().copied().chain(also).collect();
        assert!(
            fits(&licence, &all),
            "{name} {version} has the licence {licence:?}: see deny.toml"
        );
    }
}

#[test]
fn dependencies_come_in_one_version_or_with_a_reason() {
    let deny = deny();
    let skipped: Vec<&str> = deny["bans"]["skip"]
        .as_array()
        .unwrap()
        .iter()
        .map(|skip| skip["crate"].as_str().unwrap())
        .collect();
    let excused = |name: &str, version: &str| {
        skipped.iter().any(|skip| {
            skip.split_once('@').is_some_and(|(of, from)| {
                of == name && (version == from || version.starts_with(&format!("{from}.")))
            })
        })
    };
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, version, _) in packages() {
        versions.entry(name).or_default().push(version);
    }
    for (name, mut versions) in versions {
        versions.retain(|version| !excused(&name, version));
        assert!(
            versions.len() <= 1,
            "{name} is there in versions {versions:?}: see deny.toml"
        );
    }
}

#[test]
fn an_expression_is_judged_as_spdx_means_it() {
    let allowed = ["MIT", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"];
    for good in [
        "MIT",
        "GPL-2.0 OR MIT",
        "MIT/GPL-3.0",
        "MIT AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(fits(good, &allowed), "{good}");
    }
    for bad in ["", "GPL-2.0", "MIT AND GPL-2.0", "Apache-2.0"] {
        assert!(!fits(bad, &allowed), "{bad}");
    }
}

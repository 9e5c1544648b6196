//! Every normative statement of both standards that binds a server has a test that names it, and no number is cited that
//! there is not. With `--nocapture` the table is printed.
#![allow(
    clippy::unwrap_used,
    reason = "a test that can't go on has failed, and its helpers with it"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Chapter, section, subsection, number.
type Statement = [u32; 4];
/// Tests by statement.
type Held = BTreeMap<Statement, BTreeSet<String>>;

/// One version's statements (its appendix B): a section's first and last; those that bind clients alone; and those that
/// need no test, with the reason.
struct Standard {
    name: &'static str,
    all: &'static [(&'static str, u32, u32)],
    clients: &'static [&'static str],
    without: &'static [(&'static str, &'static str)],
}

const NO_METHOD: &str = "no method of authentication is known, so no AUTH is sent";
const ALL_SERVED: &str = "every QoS and RETAIN are served";

const FIVE: Standard = Standard {
    name: "MQTT 5.0",
    all: &[
        ("1.5.4", 1, 3),
        ("1.5.5", 1, 1),
        ("1.5.7", 1, 1),
        ("2.1.3", 1, 1),
        ("2.2.1", 2, 6),
        ("2.2.2", 1, 1),
        ("3.1.0", 1, 2),
        ("3.1.2", 1, 30),
        ("3.1.3", 1, 12),
        ("3.1.4", 1, 6),
        ("3.2.0", 1, 2),
        ("3.2.2", 1, 22),
        ("3.3.1", 1, 13),
        ("3.3.2", 1, 20),
        ("3.3.4", 1, 10),
        ("3.4.2", 1, 3),
        ("3.5.2", 1, 3),
        ("3.6.1", 1, 1),
        ("3.6.2", 1, 3),
        ("3.7.2", 1, 3),
        ("3.8.1", 1, 1),
        ("3.8.3", 1, 5),
        ("3.8.4", 1, 8),
        ("3.9.2", 1, 2),
        ("3.9.3", 1, 2),
        ("3.10.1", 1, 1),
        ("3.10.3", 1, 2),
        ("3.10.4", 1, 6),
        ("3.11.2", 1, 2),
        ("3.11.3", 1, 2),
        ("3.12.4", 1, 1),
        ("3.14.0", 1, 1),
        ("3.14.1", 1, 1),
        ("3.14.2", 1, 4),
        ("3.14.4", 1, 3),
        ("3.15.1", 1, 1),
        ("3.15.2", 1, 3),
        ("4.1.0", 1, 2),
        ("4.2.0", 1, 1),
        ("4.3.1", 1, 1),
        ("4.3.2", 1, 5),
        ("4.3.3", 1, 13),
        ("4.4.0", 1, 2),
        ("4.5.0", 1, 2),
        ("4.6.0", 1, 6),
        ("4.7.0", 1, 1),
        ("4.7.1", 1, 2),
        ("4.7.2", 1, 1),
        ("4.7.3", 1, 4),
        ("4.8.2", 1, 6),
        ("4.9.0", 1, 3),
        ("4.12.0", 1, 7),
        ("4.12.1", 1, 2),
        ("4.13.1", 1, 1),
        ("4.13.2", 1, 1),
        ("6.0.0", 1, 4),
    ],
    clients: &[
        "3.1.2-20", "3.1.2-30", "3.2.2-4", "3.2.2-5", "3.2.2-11", "3.2.2-14", "3.2.2-18",
        "3.3.4-8", "4.5.0-2", "4.12.0-3",
    ],
    without: &[
        ("3.1.3-8", "no client id is refused in 5.0"),
        ("3.2.2-9", ALL_SERVED),
        ("3.2.2-10", ALL_SERVED),
        ("3.2.2-12", ALL_SERVED),
        ("3.2.2-13", ALL_SERVED),
        ("3.15.2-2", NO_METHOD),
        ("3.15.2-3", NO_METHOD),
        ("4.2.0-1", "every test: TCP and WebSockets"),
        ("4.12.0-2", NO_METHOD),
        ("4.12.0-5", NO_METHOD),
    ],
};

const THREE: Standard = Standard {
    name: "MQTT 3.1.1",
    all: &[
        ("1.5.3", 1, 3),
        ("2.2.2", 1, 2),
        ("2.3.1", 1, 7),
        ("3.1.0", 1, 2),
        ("3.1.2", 1, 24),
        ("3.1.3", 1, 11),
        ("3.1.4", 1, 5),
        ("3.2.0", 1, 1),
        ("3.2.2", 1, 6),
        ("3.3.1", 1, 12),
        ("3.3.2", 1, 3),
        ("3.3.4", 1, 1),
        ("3.3.5", 1, 2),
        ("3.6.1", 1, 1),
        ("3.8.1", 1, 1),
        ("3.8.3", 1, 4),
        ("3.8.4", 1, 6),
        ("3.9.3", 1, 2),
        ("3.10.1", 1, 1),
        ("3.10.3", 1, 2),
        ("3.10.4", 1, 6),
        ("3.12.4", 1, 1),
        ("3.14.1", 1, 1),
        ("3.14.4", 1, 3),
        ("4.1.0", 1, 2),
        ("4.3.1", 1, 1),
        ("4.3.2", 1, 2),
        ("4.3.3", 1, 2),
        ("4.4.0", 1, 1),
        ("4.5.0", 1, 2),
        ("4.6.0", 1, 6),
        ("4.7.1", 1, 3),
        ("4.7.2", 1, 1),
        ("4.7.3", 1, 4),
        ("4.8.0", 1, 2),
        ("6.0.0", 1, 4),
        ("7.0.0", 1, 2),
        ("7.1.1", 1, 1),
        ("7.1.2", 1, 1),
    ],
    clients: &[
        "2.3.1-2", "2.3.1-3", "3.1.2-23", "3.1.3-7", "3.14.4-1", "3.14.4-2", "4.5.0-2", "6.0.0-3",
        "7.1.2-1",
    ],
    without: &[
        ("3.8.3-2", "filters with wildcards are served"),
        ("7.0.0-1", "no connection is made to another server yet"),
        (
            "7.0.0-2",
            "every test: nothing beside the standard is asked for",
        ),
        ("7.1.1-1", "every test: TCP and WebSockets"),
    ],
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn statement(token: &str) -> Option<Statement> {
    let (section, number) = token.trim_matches('.').split_once('-')?;
    let mut parts = section.split('.').map(str::parse);
    let mut next = || parts.next()?.ok();
    let statement = [next()?, next()?, next()?, number.parse().ok()?];
    parts.next().is_none().then_some(statement)
}

fn spell([chapter, section, part, number]: Statement) -> String {
    format!("{chapter}.{section}.{part}-{number}")
}

impl Standard {
    fn statements(&self) -> BTreeSet<Statement> {
        let section = |(section, first, last): &(&str, u32, u32)| {
            let all = (*first..=*last).map(|number| format!("{section}-{number}"));
            all.map(|text| statement(&text).unwrap())
                .collect::<Vec<_>>()
        };
        self.all.iter().flat_map(section).collect()
    }

    /// Those that bind a server, and need a test.
    fn tested(&self) -> BTreeSet<Statement> {
        let mut statements = self.statements();
        let without = self.without.iter().map(|(text, _)| *text);
        for text in self.clients.iter().copied().chain(without) {
            assert!(statements.remove(&statement(text).unwrap()), "{text}");
        }
        statements
    }

    fn table(&self, held: &Held) -> String {
        let mut table = format!("{}\n", self.name);
        let none = BTreeSet::new();
        for statement in self.tested() {
            let tests: Vec<&str> = held
                .get(&statement)
                .unwrap_or(&none)
                .iter()
                .map(|test| &**test)
                .collect();
            table += &format!("{:9} {}\n", spell(statement), tests.join(", "));
        }
        for (text, reason) in self.without {
            table += &format!("{text:9} ({reason})\n");
        }
        table + &format!("clients'  {}\n", self.clients.join(", "))
    }
}

/// What the sources cite: in tests of either version, and anywhere.
#[derive(Default)]
struct Cited {
    tests: [Held; 2],
    anywhere: [BTreeMap<Statement, String>; 2],
}

impl Cited {
    fn of_the_sources() -> Self {
        let mut cited = Self::default();
        for folder in [
            "crates/sapwood/tests",
            "doors/mqtt/src",
            "doors/mqtt/tests",
            "tests/node",
            "tests/rust/tests",
        ] {
            cited.folder(&root().join(folder));
        }
        cited
    }

    fn folder(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_source = path
                .extension()
                .is_some_and(|ending| ending == "rs" || ending == "js");
            if path.is_dir() {
                self.folder(&path);
            } else if is_source && !path.ends_with(file!().rsplit('/').next().unwrap()) {
                self.file(&path);
            }
        }
    }

    fn file(&mut self, path: &Path) {
        let (mut test, mut is_test) = (None, false);
        for line in fs::read_to_string(path).unwrap().lines() {
            let trimmed = line.trim_start();
            if let Some(name) = trimmed.strip_prefix("test(\"") {
                test = name.split('"').next().map(str::to_owned);
            } else if let Some(name) = trimmed.strip_prefix("fn ") {
                let name = name.split('(').next().unwrap_or_default();
                test = std::mem::take(&mut is_test).then(|| name.to_owned());
            }
            is_test |= trimmed == "#[test]";
            let comment = trimmed.find("//").map(|at| &trimmed[at..]);
            for part in trimmed.split([';', '"']) {
                self.part(part, path);
            }
            for part in comment.unwrap_or_default().split(';') {
                if let Some(test) = &test {
                    self.held(part, test);
                }
            }
        }
    }

    fn held(&mut self, part: &str, test: &str) {
        let version = usize::from(part.contains("3.1.1,"));
        for statement in tokens(part) {
            let tests = self.tests[version].entry(statement).or_default();
            tests.insert(test.to_owned());
        }
    }

    fn part(&mut self, part: &str, path: &Path) {
        let version = usize::from(part.contains("3.1.1,"));
        for statement in tokens(part) {
            let place = format!("{}: {part}", path.display());
            self.anywhere[version].insert(statement, place);
        }
    }
}

fn tokens(text: &str) -> impl Iterator<Item = Statement> {
    let is_other = |c: char| !c.is_ascii_digit() && c != '.' && c != '-';
    text.split(is_other).filter_map(statement)
}

#[test]
fn no_statement_is_cited_that_there_is_not() {
    let cited = Cited::of_the_sources();
    for (standard, anywhere) in [FIVE, THREE].iter().zip(&cited.anywhere) {
        let statements = standard.statements();
        for (statement, place) in anywhere {
            let known = statements.contains(statement);
            assert!(
                known,
                "{} has no {}: {place}",
                standard.name,
                spell(*statement)
            );
        }
    }
}

#[test]
fn every_statement_that_binds_a_server_has_a_test() {
    let cited = Cited::of_the_sources();
    for (standard, held) in [FIVE, THREE].iter().zip(&cited.tests) {
        println!("{}", standard.table(held));
        let mut missing = standard.tested();
        missing.retain(|statement| !held.contains_key(statement));
        let missing: Vec<String> = missing.into_iter().map(spell).collect();
        assert!(
            missing.is_empty(),
            "{}: no test names {}",
            standard.name,
            missing.join(", ")
        );
    }
}

//! The older YAML form of Harper's configuration, `serverModules`: what `--harper-config FILE` takes over from it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::{
    ConfigError,
    layers::{Entry, Node, Origin},
};
use crate::address::{self, MQTT_PORT};

/// How deep lists and maps may lie within each other.
const DEPTH_MAX: usize = 32;

/// What a file says to Sapwood.
#[derive(Debug)]
pub(super) struct Harper {
    /// The keys that it sets, as a layer.
    pub(super) entry: Entry,
    /// What it says beside, each with its line: nothing here heeds it.
    pub(super) notices: Vec<String>,
}

/// Reads such a file's text.
pub(super) fn read(path: &Path, text: &str) -> Result<Harper, ConfigError> {
    let place = Place {
        path: Arc::new(path.to_owned()),
    };
    let root = Reader::new(text, &place).document()?;
    let mut harper = Harper {
        entry: Entry::empty(),
        notices: Vec::new(),
    };
    let mut found = false;
    for (key, spot) in root.pairs(&place, "")? {
        if key.text == "serverModules" {
            found |= harper.modules(&place, spot)?;
        } else {
            let what = format!("{} is not read from this file", key.text);
            harper.notice(&place, key.line, &what);
        }
    }
    if !found {
        let what = "there is no module mqtt in serverModules, so this file sets nothing";
        harper.notice(&place, 1, what);
    }
    Ok(harper)
}

impl Harper {
    /// Reads the list of modules: whether MQTT's is there.
    fn modules(&mut self, place: &Place, list: &Spot) -> Result<bool, ConfigError> {
        let Yaml::List(modules) = &list.yaml else {
            return Err(place.refuse(list.line, "serverModules", "expected a list"));
        };
        let mut found = false;
        for (index, module) in modules.iter().enumerate() {
            let within = format!("serverModules[{index}]");
            let pairs = module.pairs(place, &within)?;
            let name = pairs.iter().find(|(key, _)| key.text == "module");
            let name = match name {
                Some((_, spot)) => spot.text(place, &format!("{within}.module"))?,
                None => return Err(place.refuse(module.line, &within, "expected a key module")),
            };
            if name != "mqtt" {
                let what = format!("the module {name} is not read from this file");
                self.notice(place, module.line, &what);
                continue;
            }
            if found {
                return Err(place.refuse(module.line, &within, "the module mqtt is there twice"));
            }
            found = true;
            self.mqtt(place, &within, pairs)?;
        }
        Ok(found)
    }

    fn mqtt(
        &mut self,
        place: &Place,
        within: &str,
        pairs: &[(Key, Spot)],
    ) -> Result<(), ConfigError> {
        for (key, spot) in pairs {
            let full = format!("{within}.{}", key.text);
            match key.text.as_str() {
                "module" => {}
                "port" => {
                    let text = spot.text(place, &full)?;
                    address::parse(text, MQTT_PORT)
                        .map_err(|message| place.refuse(spot.line, &full, message))?;
                    self.set(place, key.line, "listen", Node::String(text.to_owned()));
                }
                "webSocket" => {
                    let is_on = spot.truth(place, &full)?;
                    self.set(place, key.line, "websocket", Node::Bool(is_on));
                }
                "securePort" => {
                    let what = "securePort is not heeded: there is no TLS yet";
                    self.notice(place, key.line, what);
                }
                other => {
                    let what = format!("{other} of the module mqtt is not heeded");
                    self.notice(place, key.line, &what);
                }
            }
        }
        Ok(())
    }

    fn set(&mut self, place: &Place, line: usize, key: &str, node: Node) {
        let path = ["mqtt".to_owned(), key.to_owned()];
        self.entry
            .overlay(Entry::nested(&path, node, &place.at(line)));
    }

    fn notice(&mut self, place: &Place, line: usize, what: &str) {
        self.notices.push(format!("{}: {what}", place.at(line)));
    }
}

/// The file that is read.
struct Place {
    path: Arc<PathBuf>,
}

impl Place {
    fn at(&self, line: usize) -> Origin {
        Origin::File {
            path: Arc::clone(&self.path),
            line,
        }
    }

    fn refuse(&self, line: usize, key: &str, message: impl Into<String>) -> ConfigError {
        let message = message.into();
        if key.is_empty() {
            return self.syntax(line, message);
        }
        ConfigError::Value {
            origin: self.at(line),
            key: key.to_owned(),
            message,
        }
    }

    fn syntax(&self, line: usize, message: impl Into<String>) -> ConfigError {
        ConfigError::Syntax {
            origin: self.at(line),
            message: message.into(),
        }
    }

    fn scan(&self, error: &ScanError) -> ConfigError {
        self.syntax(error.marker().line(), error.info())
    }
}

/// A node of the document, and its line, counted from 1.
#[derive(Debug)]
struct Spot {
    line: usize,
    yaml: Yaml,
}

#[derive(Debug)]
enum Yaml {
    /// Whether it stands there without quotes.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Spot>),
    Map(Vec<(Key, Spot)>),
}

#[derive(Debug)]
struct Key {
    line: usize,
    text: String,
}

impl Spot {
    fn pairs(&self, place: &Place, key: &str) -> Result<&[(Key, Self)], ConfigError> {
        match &self.yaml {
            Yaml::Map(pairs) => Ok(pairs),
            // An empty file, or a key without a value.
            Yaml::Scalar { text, plain: true } if text.is_empty() || text == "~" => Ok(&[]),
            Yaml::Scalar { .. } | Yaml::List(_) => {
                Err(place.refuse(self.line, key, "expected keys with values"))
            }
        }
    }

    fn text(&self, place: &Place, key: &str) -> Result<&str, ConfigError> {
        match &self.yaml {
            Yaml::Scalar { text, .. } => Ok(text),
            Yaml::List(_) | Yaml::Map(_) => {
                Err(place.refuse(self.line, key, "expected a single value"))
            }
        }
    }

    /// A boolean of YAML 1.2's core schema.
    fn truth(&self, place: &Place, key: &str) -> Result<bool, ConfigError> {
        match &self.yaml {
            Yaml::Scalar { text, plain: true } => match text.as_str() {
                "true" | "True" | "TRUE" => return Ok(true),
                "false" | "False" | "FALSE" => return Ok(false),
                _ => {}
            },
            Yaml::Scalar { .. } | Yaml::List(_) | Yaml::Map(_) => {}
        }
        Err(place.refuse(self.line, key, "expected true or false"))
    }
}

/// Builds nodes from the parser's events.
struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    place: &'a Place,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, place: &'a Place) -> Self {
        Self {
            parser: Parser::new_from_str(text),
            place,
        }
    }

    /// The first document; there must be no other.
    fn document(&mut self) -> Result<Spot, ConfigError> {
        let mut root = None;
        loop {
            let (event, line) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
                Event::Nothing => {}
                _ if root.is_some() => {
                    return Err(self.place.syntax(line, "expected a single document"));
                }
                event => root = Some(self.node(event, line, 0)?),
            }
        }
        Ok(root.unwrap_or(Spot {
            line: 1,
            yaml: Yaml::Map(Vec::new()),
        }))
    }

    fn next(&mut self) -> Result<(Event<'a>, usize), ConfigError> {
        match self.parser.next_event() {
            Some(Ok((event, Span { start, .. }))) => Ok((event, line(start))),
            Some(Err(error)) => Err(self.place.scan(&error)),
            None => Ok((Event::StreamEnd, 1)),
        }
    }

    fn node(&mut self, event: Event<'a>, line: usize, depth: usize) -> Result<Spot, ConfigError> {
        if depth > DEPTH_MAX {
            return Err(self.place.syntax(line, "nested too deeply"));
        }
        let yaml = match event {
            Event::Scalar(text, style, ..) => Yaml::Scalar {
                text: text.into_owned(),
                plain: style == ScalarStyle::Plain,
            },
            Event::SequenceStart(..) => Yaml::List(self.list(depth)?),
            Event::MappingStart(..) => Yaml::Map(self.map(depth)?),
            Event::Alias(_) => {
                let message = "aliases are not read here: write the value out";
                return Err(self.place.syntax(line, message));
            }
            _ => return Err(self.place.syntax(line, "expected a value")),
        };
        Ok(Spot { line, yaml })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Spot>, ConfigError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd | Event::StreamEnd, _) => return Ok(items),
                (event, line) => items.push(self.node(event, line, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(Key, Spot)>, ConfigError> {
        let mut pairs: Vec<(Key, Spot)> = Vec::new();
        loop {
            let (event, line) = match self.next()? {
                (Event::MappingEnd | Event::StreamEnd, _) => return Ok(pairs),
                (Event::Scalar(text, ..), line) => (text.into_owned(), line),
                (_, line) => return Err(self.place.syntax(line, "expected a name as the key")),
            };
            let key = Key { line, text: event };
            if pairs.iter().any(|(before, _)| before.text == key.text) {
                let message = format!("{} is there twice", key.text);
                return Err(self.place.syntax(line, message));
            }
            let (event, line) = self.next()?;
            let spot = self.node(event, line, depth + 1)?;
            pairs.push((key, spot));
        }
    }
}

fn line(marker: Marker) -> usize {
    marker.line()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Harper, String> {
        super::read(Path::new("harper.yaml"), text).map_err(|error| error.to_string())
    }

    fn set(harper: &Harper, key: &str) -> Option<String> {
        let entry = harper.entry.at(["mqtt", key])?;
        Some(match &entry.node {
            Node::String(text) => text.clone(),
            Node::Bool(value) => value.to_string(),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn port_and_web_socket_are_taken_over_and_all_else_is_noticed_with_its_line() {
        let harper = read(
            "# an app\nrootPath: /data\nserverModules:\n  - module: mqtt\n    port: 1884\n    \
             securePort: 8883\n    webSocket: false\n    mtls: {user: x}\n  - module: http\n    port: 80\n",
        )
        .unwrap();
        assert_eq!(set(&harper, "listen").as_deref(), Some("1884"));
        assert_eq!(set(&harper, "websocket").as_deref(), Some("false"));
        let origin = &harper.entry.at(["mqtt", "listen"]).unwrap().origin;
        assert_eq!(origin.to_string(), "harper.yaml:5");
        assert_eq!(
            harper.notices,
            [
                "harper.yaml:2: rootPath is not read from this file",
                "harper.yaml:6: securePort is not heeded: there is no TLS yet",
                "harper.yaml:8: mtls of the module mqtt is not heeded",
                "harper.yaml:9: the module http is not read from this file",
            ]
        );
    }

    #[test]
    fn the_whole_form_may_stand_in_one_line() {
        let text = "serverModules: [{module: mqtt, port: 1883, securePort: 8883, webSocket: true}]";
        let harper = read(text).unwrap();
        assert_eq!(set(&harper, "listen").as_deref(), Some("1883"));
        assert_eq!(set(&harper, "websocket").as_deref(), Some("true"));
        assert_eq!(harper.notices.len(), 1);
        let with_host = "serverModules: [{module: 'mqtt', port: '0.0.0.0:1883'}]";
        let harper = read(with_host).unwrap();
        assert_eq!(set(&harper, "listen").as_deref(), Some("0.0.0.0:1883"));
        assert_eq!(set(&harper, "websocket"), None);
    }

    #[test]
    fn a_file_without_the_module_says_that_it_sets_nothing() {
        for text in ["", "# nothing\n", "serverModules: []\n"] {
            let harper = read(text).unwrap();
            assert_eq!(harper.notices.len(), 1, "{text:?}");
            assert!(harper.notices[0].contains("no module mqtt"), "{text:?}");
        }
    }

    #[test]
    fn bad_yaml_is_refused_with_its_line() {
        for (text, begins) in [
            ("serverModules: [\n", "harper.yaml:"),
            ("a: 1\n b: 2\n", "harper.yaml:2: "),
            ("serverModules:\n\t- x\n", "harper.yaml:2: "),
            ("a: 'x\n", "harper.yaml:"),
            ("a: &x 1\nb: *x\n", "harper.yaml:2: aliases"),
            ("a: 1\na: 2\n", "harper.yaml:2: a is there twice"),
            (
                "a: 1\n---\nb: 1\n",
                "harper.yaml:3: expected a single document",
            ),
            ("[1]", "harper.yaml:1: expected keys with values"),
            ("? [a]\n: 1\n", "harper.yaml:1: expected a name"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(begins), "{text:?}: {error}");
        }
        let deep = "[".repeat(100_000);
        assert!(read(&deep).is_err());
        let nested = format!("a: {}1{}", "[".repeat(60), "]".repeat(60));
        assert!(read(&nested).unwrap_err().contains("nested too deeply"));
    }

    #[test]
    fn a_wrong_value_names_its_key_and_line() {
        for (value, error) in [
            (
                "port: x y",
                "harper.yaml:1: serverModules[0].port: expected an address",
            ),
            (
                "port: 99999",
                "harper.yaml:1: serverModules[0].port: expected an address",
            ),
            (
                "port: [1]",
                "harper.yaml:1: serverModules[0].port: expected a single value",
            ),
            (
                "webSocket: 'true'",
                "harper.yaml:1: serverModules[0].webSocket: expected true or false",
            ),
            (
                "webSocket: yes",
                "harper.yaml:1: serverModules[0].webSocket: expected true or false",
            ),
        ] {
            let text = format!("serverModules: [{{module: mqtt, {value}}}]");
            let said = read(&text).unwrap_err();
            assert!(said.starts_with(error), "{said}");
        }
        for text in [
            "serverModules: 1",
            "serverModules: [1]",
            "serverModules: [{port: 1}]",
            "serverModules: [{module: mqtt}, {module: mqtt}]",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}

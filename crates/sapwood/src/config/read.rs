//! From entries to the structs of the components: a serde deserializer that knows where each value was written,
//! so that an error names the key, the file and the line, and what to write instead.

use std::{collections::btree_map, fmt, slice};

use serde::de::{
    self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor,
};

use super::{
    ConfigError,
    layers::{self, Entry, Node, Origin},
    nearest::nearest,
};

/// Reads `T` from what was written.
pub(super) fn read<T: de::DeserializeOwned>(entry: &Entry) -> Result<T, ConfigError> {
    T::deserialize(At {
        entry,
        path: &Place::Root,
    })
    .map_err(|Error(error)| *error)
}

/// The way to an entry, kept on the stack while reading.
enum Place<'a> {
    Root,
    Below(&'a Self, &'a str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Below(Self::Root, key) => f.write_str(&quoted(key)),
            Self::Below(above, key) => write!(f, "{above}.{}", quoted(key)),
        }
    }
}

/// A key as it is written in TOML.
pub(super) fn quoted(key: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !key.is_empty() && key.bytes().all(bare) {
        key.to_owned()
    } else {
        format!("{key:?}")
    }
}

/// Boxed: an error is rare, and a result should be small.
#[derive(Debug)]
struct Error(Box<ConfigError>);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(Box::new(ConfigError::Unplaced(message.to_string())))
    }

    fn invalid_type(got: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!(
            "expected {}, got {}",
            in_words(expected),
            got_in_words(got)
        ))
    }

    fn invalid_value(got: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(got, expected)
    }

    fn unknown_variant(got: &str, known: &'static [&'static str]) -> Self {
        let known: Vec<_> = known.iter().map(|name| format!("{name:?}")).collect();
        Self::custom(format_args!(
            "expected one of {}, got {got:?}",
            known.join(", ")
        ))
    }
}

/// What serde calls `u16` is «a whole number from 0 to 65535» to a person.
fn in_words(expected: &dyn Expected) -> String {
    let word = expected.to_string();
    match word.as_str() {
        "bool" | "a boolean" => "true or false".to_owned(),
        "u8" => format!("a whole number from 0 to {}", u8::MAX),
        "u16" => format!("a whole number from 0 to {}", u16::MAX),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a string" | "path string" | "a borrowed string" => "a text in quotes".to_owned(),
        "a sequence" => "a list in brackets".to_owned(),
        _ if word.starts_with("struct ") || word == "a map" => "a table".to_owned(),
        _ => word,
    }
}

fn got_in_words(got: Unexpected<'_>) -> String {
    match got {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Signed(value) => value.to_string(),
        Unexpected::Unsigned(value) => value.to_string(),
        Unexpected::Float(value) => value.to_string(),
        Unexpected::Str(text) => format!("{text:?}"),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

struct At<'a> {
    entry: &'a Entry,
    path: &'a Place<'a>,
}

impl<'a> At<'a> {
    /// Gives an error that knows no place this one.
    fn place(&self, result: Result<(), ConfigError>) -> Result<(), Error> {
        result.map_err(|error| self.placed(Error(Box::new(error))))
    }

    fn placed(&self, error: Error) -> Error {
        match *error.0 {
            ConfigError::Unplaced(message) => Error(Box::new(ConfigError::Value {
                origin: self.entry.origin.clone(),
                key: self.path.to_string(),
                message,
            })),
            placed => Error(Box::new(placed)),
        }
    }

    /// What a bare text means where no type is asked for.
    fn resolved(&self) -> Option<Node> {
        match &self.entry.node {
            Node::Bare(text) => Some(
                layers::bare(text, &self.entry.origin)
                    .unwrap_or_else(|| Node::String(text.clone())),
            ),
            _ => None,
        }
    }

    fn known(&self, fields: &'static [&'static str]) -> Result<(), ConfigError> {
        let Node::Table(table) = &self.entry.node else {
            return Ok(());
        };
        let Some((key, entry)) = table
            .iter()
            .find(|(key, _)| !fields.contains(&key.as_str()))
        else {
            return Ok(());
        };
        let full = |key: &str| Place::Below(self.path, key).to_string();
        Err(ConfigError::Unknown {
            origin: entry.origin.clone(),
            key: full(key),
            nearest: nearest(key, fields.iter().copied()).map(full),
            known: fields.join(", "),
        })
    }
}

fn visit<'de, V: Visitor<'de>>(
    node: &Node,
    origin: &Origin,
    path: &Place<'_>,
    visitor: V,
) -> Result<V::Value, Error> {
    match node {
        Node::Bool(value) => visitor.visit_bool(*value),
        Node::Int(value) => visitor.visit_i64(*value),
        Node::Float(value) => visitor.visit_f64(*value),
        Node::String(text) => visitor.visit_str(text),
        Node::Bare(text) => {
            let node = layers::bare(text, origin).unwrap_or_else(|| Node::String(text.clone()));
            visit(&node, origin, path, visitor)
        }
        Node::List(items) => visitor.visit_seq(Items {
            items: items.iter(),
            path,
        }),
        Node::Table(table) => visitor.visit_map(Keys {
            entries: table.iter(),
            value: None,
            path,
        }),
    }
}

impl<'de> Deserializer<'de> for At<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visit(&self.entry.node, &self.entry.origin, self.path, visitor)
            .map_err(|error| self.placed(error))
    }

    /// A bare text is this text, unless it is a TOML string in quotes.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let result = match (&self.entry.node, self.resolved()) {
            (_, Some(Node::String(text))) => visitor.visit_str(&text),
            (Node::Bare(text), _) => visitor.visit_str(text),
            (node, _) => visit(node, &self.entry.origin, self.path, visitor),
        };
        result.map_err(|error| self.placed(error))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.place(self.known(fields))?;
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let node = self.resolved().unwrap_or_else(|| self.entry.node.clone());
        let result = match node {
            Node::String(text) => visitor.visit_enum(text.into_deserializer()),
            _ => Err(de::Error::custom(format_args!(
                "expected one of {}",
                variants.join(", ")
            ))),
        };
        result.map_err(|error| self.placed(error))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

struct Items<'a> {
    items: slice::Iter<'a, Entry>,
    path: &'a Place<'a>,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.items
            .next()
            .map(|entry| {
                seed.deserialize(At {
                    entry,
                    path: self.path,
                })
            })
            .transpose()
    }
}

struct Keys<'a> {
    entries: btree_map::Iter<'a, String, Entry>,
    value: Option<(&'a String, &'a Entry)>,
    path: &'a Place<'a>,
}

impl<'de> de::MapAccess<'de> for Keys<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        self.value = self.entries.next();
        let Some((key, _)) = self.value else {
            return Ok(None);
        };
        seed.deserialize(key.as_str().into_deserializer()).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let Some((key, entry)) = self.value.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        let path = &Place::Below(self.path, key);
        // A type that is made of another one refuses without a place.
        seed.deserialize(At { entry, path })
            .map_err(|error| At { entry, path }.placed(error))
    }
}

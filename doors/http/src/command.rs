//! What a client asks for beside an HTTP method: the entries of a batch, and the commands of a WebSocket.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::time::Duration;

use sapwood_core::{Condition, Tag, TagList, Version};
use sapwood_tree::{Limits as PathLimits, Path};
use sapwood_value::{Format, Limits, Map, ServerValue, Spelled, Text, Value, spelling};

use crate::body::count_decode;
use crate::etag;
use crate::plain;
use crate::problem::{self, Problem};

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// Reads.
    Get,
    /// Replaces.
    Put,
    /// Merges.
    Patch,
    /// Adds a child under a push id.
    Post,
    /// Removes.
    Delete,
    /// Sends a message.
    Publish,
}

/// One operation as a client writes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// What.
    pub name: Name,
    /// Where, if it says so.
    pub path: Option<Path>,
    /// The value, with what its spelling says beside it.
    pub value: Option<Spelled>,
    /// What must be so before.
    pub conditions: Vec<Condition>,
    /// It goes after this long.
    pub ttl: Option<Duration>,
    /// It goes when the session does.
    pub owner: bool,
    /// It is done when the session ends.
    pub at_end: bool,
}

/// A message of a WebSocket's client.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// What the answer repeats.
    pub id: Value,
    /// What is asked, or why it can't be read.
    pub operation: Result<Operation, Problem>,
}

/// Reads a WebSocket message.
pub fn read_command(
    message: &[u8],
    format: Format,
    limits: &Limits,
    paths: &PathLimits,
) -> Command {
    let nobody = |problem: Problem| Command {
        id: Value::Null,
        operation: Err(problem),
    };
    let value = match format.decode(message, limits) {
        Ok(value) => value,
        Err(error) => {
            count_decode(&error);
            return nobody(error.into());
        }
    };
    let Value::Map(mut map) = value else {
        return nobody(
            Problem::new(&problem::BAD_OPERATION, "a command is a map with an op")
                .hint(r#"{"id":1,"op":"put","path":"/a","value":1}"#),
        );
    };
    let id = map.remove("id").unwrap_or(Value::Null);
    if matches!(id, Value::Map(_) | Value::Array(_) | Value::Bytes(_)) {
        return nobody(Problem::new(
            &problem::BAD_OPERATION,
            "a command's id is a string or a number",
        ));
    }
    Command {
        id,
        operation: read_operation(map, Where::Command, paths),
    }
}

/// Reads the body of a batch: an array of operations.
///
/// # Errors
/// A problem with status 400, with the index of the entry where there is one.
pub fn read_batch(body: Value, paths: &PathLimits) -> Result<Vec<Operation>, Problem> {
    let Value::Array(entries) = body else {
        return Err(
            Problem::new(&problem::BAD_OPERATION, "a batch is an array of operations")
                .hint(r#"[{"op":"put","path":"/a","value":1}]"#),
        );
    };
    let read = |(index, entry)| match entry {
        Value::Map(map) => {
            read_operation(map, Where::Batch, paths).map_err(|problem| problem.at(index))
        }
        _ => {
            Err(Problem::new(&problem::BAD_OPERATION, "an operation of a batch is a map").at(index))
        }
    };
    entries.into_iter().enumerate().map(read).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    Batch,
    Command,
}

fn bad(detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(&problem::BAD_OPERATION, detail)
}

fn read_operation(mut map: Map, place: Where, paths: &PathLimits) -> Result<Operation, Problem> {
    let name = read_name(map.remove("op"), place)?;
    let path = match map.remove("path") {
        Some(Value::String(text)) => Some(plain::parse(&text, paths)?),
        Some(_) => return Err(bad("path is a string")),
        None if place == Where::Batch => return Err(bad("the operation has no path")),
        None => None,
    };
    let value = map.remove("value").map(spelling::read).transpose()?;
    let conditions = map
        .remove("if")
        .map_or_else(|| Ok(Vec::new()), read_conditions)?;
    let ttl = map.remove("ttl").map(|ttl| read_ttl(&ttl)).transpose()?;
    let (mut owner, mut at_end) = (false, false);
    if place == Where::Command {
        owner = read_flag(&mut map, "owner")?;
        at_end = read_flag(&mut map, "at_end")?;
    }
    if let Some(key) = map.keys().next() {
        return Err(bad(format!("an operation has no member {key:?}")));
    }
    let operation = Operation {
        name,
        path,
        value,
        conditions,
        ttl,
        owner,
        at_end,
    };
    operation.check()?;
    Ok(operation)
}

impl Operation {
    /// Whether its members go together.
    fn check(&self) -> Result<(), Problem> {
        let writes_value = matches!(self.name, Name::Put | Name::Patch | Name::Post);
        match (self.name, &self.value) {
            (Name::Put | Name::Patch | Name::Post | Name::Publish, None) => {
                return Err(bad("the operation has no value"));
            }
            (Name::Get | Name::Delete, Some(_)) => return Err(bad("the operation takes no value")),
            _ => {}
        }
        if !writes_value && (self.ttl.is_some() || self.owner) {
            return Err(bad("ttl and owner go with what is written"));
        }
        if self.at_end && (self.name == Name::Get || !self.conditions.is_empty()) {
            return Err(bad("at_end goes with a write or a message without if"));
        }
        if matches!(self.name, Name::Get | Name::Publish) && !self.conditions.is_empty() {
            return Err(bad("if goes with a write"));
        }
        Ok(())
    }
}

fn read_name(op: Option<Value>, place: Where) -> Result<Name, Problem> {
    let known = match place {
        Where::Batch => "put, patch, post or delete",
        Where::Command => "get, put, patch, post, delete or publish",
    };
    let Some(Value::String(word)) = op else {
        return Err(bad(format!("op is {known}")));
    };
    match (&*word, place) {
        ("put", _) => Ok(Name::Put),
        ("patch", _) => Ok(Name::Patch),
        ("post", _) => Ok(Name::Post),
        ("delete", _) => Ok(Name::Delete),
        ("get", Where::Command) => Ok(Name::Get),
        ("publish", Where::Command) => Ok(Name::Publish),
        _ => Err(bad(format!("op is {known}, not {word:?}"))),
    }
}

fn read_flag(map: &mut Map, key: &str) -> Result<bool, Problem> {
    match map.remove(key) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(flag),
        Some(_) => Err(bad(format!("{key} is true or false"))),
    }
}

fn read_conditions(value: Value) -> Result<Vec<Condition>, Problem> {
    let shape = || bad(r#"if is {"etag": …}, {"version": …} or {"exists": true or false}"#);
    let Value::Map(map) = value else {
        return Err(shape());
    };
    let mut conditions = Vec::new();
    for (key, value) in map {
        conditions.push(match (&*key, value) {
            ("exists", Value::Bool(exists)) => Condition::Exists(exists),
            ("version", Value::String(version)) => Condition::Version(read_version(&version)?),
            ("etag", Value::String(tags)) => Condition::Match(read_tags(&tags)?),
            _ => return Err(shape()),
        });
    }
    if conditions.is_empty() {
        Err(shape())
    } else {
        Ok(conditions)
    }
}

/// A version as a precondition.
fn read_version(text: &str) -> Result<Version, Problem> {
    match text.parse::<Version>() {
        Ok(version) if version.part.is_none() => Ok(version),
        _ => Err(bad("a version is <log id>.<sequence>")),
    }
}

/// Tags as in `If-Match`, or one tag without its quotes.
fn read_tags(text: &str) -> Result<TagList, Problem> {
    if text == "*" || text.contains('"') {
        let list = etag::TagList::parse("etag", std::iter::once(text.as_bytes()))?;
        return Ok(list.as_ref().map_or(TagList::Any, strong));
    }
    let tag = etag::ClientTag {
        opaque: text.to_owned(),
        weak: false,
    };
    Ok(TagList::Tags(vec![Tag::parse(tag.value())]))
}

/// The tags of a list that a strong comparison looks at.
pub fn strong(list: &etag::TagList) -> TagList {
    match list {
        etag::TagList::Any => TagList::Any,
        etag::TagList::Tags(tags) => TagList::Tags(
            tags.iter()
                .filter(|tag| !tag.weak)
                .map(|tag| Tag::parse(tag.value()))
                .collect(),
        ),
    }
}

/// A lifetime in seconds.
///
/// # Errors
/// A problem with status 400.
pub fn read_ttl(value: &Value) -> Result<Duration, Problem> {
    const SECONDS_MAX: f64 = 1e10; // some 300 years
    let seconds = match value {
        #[expect(
            clippy::cast_precision_loss,
            reason = "past 2^53 seconds nobody counts"
        )]
        Value::Int(seconds) => *seconds as f64,
        Value::Float(seconds) => *seconds,
        _ => f64::NAN,
    };
    if seconds > 0.0 && seconds <= SECONDS_MAX {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(Problem::new(
            &problem::BAD_TTL,
            "a lifetime is a number of seconds above 0",
        ))
    }
}

/// The children of a PATCH: none for those to remove. `server_values` are the places that the server fills in, which
/// hold null until then.
///
/// # Errors
/// A problem with status 400 if the value is no map.
pub fn merge_entries(
    value: Value,
    server_values: &[(Vec<Text>, ServerValue)],
) -> Result<Vec<(Text, Option<Value>)>, Problem> {
    let Value::Map(map) = value else {
        return Err(Problem::new(
            &problem::MALFORMED,
            "a PATCH is a map of the children to change",
        ));
    };
    let is_filled = |key: &Text| {
        server_values
            .iter()
            .any(|(place, _)| place.len() == 1 && place.first() == Some(key))
    };
    Ok(map
        .into_iter()
        .map(|(key, value)| {
            let kept = !value.is_null() || is_filled(&key);
            (key, kept.then_some(value))
        })
        .collect())
}

/// For the fuzzer: no bytes make the readers panic.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    for format in [Format::Json, Format::Cbor, Format::MessagePack] {
        let _command = read_command(bytes, format, &Limits::default(), &PathLimits::default());
        if let Ok(value) = format.decode(bytes, &Limits::default()) {
            let _batch = read_batch(value, &PathLimits::default());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn command(text: &str) -> Command {
        read_command(
            text.as_bytes(),
            Format::Json,
            &Limits::default(),
            &PathLimits::default(),
        )
    }

    fn refused(text: &str) -> &'static str {
        command(text).operation.unwrap_err().code()
    }

    #[test]
    fn a_command_is_read_whole() {
        let command = command(
            r#"{"id":"x","op":"put","path":"/a/b","value":{"c":1},"if":{"exists":false},"ttl":1.5,"owner":true}"#,
        );
        assert_eq!(command.id, Value::String("x".into()));
        let operation = command.operation.unwrap();
        assert_eq!(operation.name, Name::Put);
        assert_eq!(operation.path.unwrap().as_str(), "/a/b");
        assert_eq!(operation.conditions, [Condition::Exists(false)]);
        assert_eq!(operation.ttl, Some(Duration::from_millis(1500)));
        assert!(operation.owner && !operation.at_end);
    }

    #[test]
    fn a_command_without_a_path_means_the_url_s() {
        assert_eq!(command(r#"{"op":"get"}"#).operation.unwrap().path, None);
    }

    #[test]
    fn what_is_no_command_is_answered_with_its_id() {
        let command = command(r#"{"id":7,"op":"fly"}"#);
        assert_eq!(command.id, Value::Int(7));
        assert_eq!(command.operation.unwrap_err().code(), "bad_operation");
        assert_eq!(refused("[]"), "bad_operation");
        assert_eq!(refused("{"), "malformed");
        assert_eq!(refused(r#"{"op":"put"}"#), "bad_operation");
        assert_eq!(
            refused(r#"{"op":"put","value":1,"paht":"/a"}"#),
            "bad_operation"
        );
        assert_eq!(refused(r#"{"op":"put","value":1,"path":"a"}"#), "bad_path");
        assert_eq!(refused(r#"{"op":"put","value":1,"ttl":0}"#), "bad_ttl");
        assert_eq!(
            refused(r#"{"op":"put","value":1,"if":{}}"#),
            "bad_operation"
        );
        assert_eq!(refused(r#"{"op":"delete","value":1}"#), "bad_operation");
        assert_eq!(refused(r#"{"op":"delete","owner":true}"#), "bad_operation");
        assert_eq!(refused(r#"{"op":"get","at_end":true}"#), "bad_operation");
        assert_eq!(
            refused(r#"{"op":"put","value":{".value":1,"a":2}}"#),
            "mixed_value"
        );
    }

    #[test]
    fn a_batch_names_the_entry_that_is_wrong() {
        let batch = |text: &str| {
            read_batch(
                Format::Json
                    .decode(text.as_bytes(), &Limits::default())
                    .unwrap(),
                &PathLimits::default(),
            )
        };
        assert_eq!(
            batch(r#"[{"op":"put","path":"/a","value":null},{"op":"delete","path":"/b"}]"#)
                .unwrap()
                .len(),
            2
        );
        let problem =
            batch(r#"[{"op":"delete","path":"/b"},{"op":"get","path":"/a"}]"#).unwrap_err();
        assert!(
            String::from_utf8(problem.to_json())
                .unwrap()
                .contains("\"index\":1")
        );
        assert!(batch(r#"[{"op":"delete"}]"#).is_err());
        assert!(batch(r#"[{"op":"put","path":"/a","value":1,"owner":true}]"#).is_err());
        assert!(batch("{}").is_err());
    }

    #[test]
    fn a_tag_is_taken_with_and_without_its_quotes() {
        let tags = |text: &str| {
            command(&format!(r#"{{"op":"delete","if":{{"etag":{text}}}}}"#))
                .operation
                .unwrap()
                .conditions
        };
        let one = Condition::Match(TagList::Tags(vec![Tag::parse("abc.5")]));
        assert_eq!(tags(r#""abc.5-j""#), std::slice::from_ref(&one));
        assert_eq!(tags(r#""\"abc.5-c\"""#), [one]);
        assert_eq!(tags(r#""*""#), [Condition::Match(TagList::Any)]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60), text in r#"[\[{]("op":"put"|"path":"/a"|"value":|null|"if":|[{},:1])*"#) {
            fuzz(&bytes);
            fuzz(text.as_bytes());
        }
    }
}

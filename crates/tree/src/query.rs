//! Queries: which records somebody wants, by what is in them.
//!
//! The text is a small language of conditions: `temp=gt=20&lt=30&(room=kitchen|room==null)`. What it has is in
//! `docs/queries.md`. Here it is parsed and judged; nothing is read.

use std::cmp::Ordering;
use std::str::FromStr as _;

use sapwood_value::{Limits, Text, Value, json, number_cmp, utf16_cmp};

mod parse;

/// Which records are wanted.
#[derive(Debug, Clone)]
pub struct Query {
    wanted: Node,
}

/// What a query may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryLimits {
    /// Longest text, in bytes.
    pub bytes_max: usize,
    /// Most conditions.
    pub terms_max: usize,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self {
            bytes_max: 4096,
            terms_max: 64,
        }
    }
}

/// Why a text is no query, and where in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}, at byte {at}")]
pub struct QueryError {
    /// The byte of the text.
    pub at: usize,
    /// What is wrong there.
    pub kind: QueryErrorKind,
}

/// What is wrong with a query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryErrorKind {
    /// Past [`QueryLimits::bytes_max`].
    #[error("a query longer than {0} bytes")]
    TooLong(usize),
    /// Past [`QueryLimits::terms_max`].
    #[error("more than {0} conditions")]
    TooMany(usize),
    /// Groups in groups in groups.
    #[error("more than {0} groups in one another")]
    TooDeep(usize),
    /// Both without a group say nothing of which binds closer.
    #[error("& and | mixed without a group")]
    Mixed,
    /// A group without its other end.
    #[error("a group that is not closed")]
    Unclosed,
    /// Something that can't stand here.
    #[error("expected a condition, a group, & or |")]
    Unexpected,
    /// A condition without a name or without a comparison.
    #[error("expected NAME=VALUE, or another comparison")]
    NoComparison,
    /// A comparison that there is none of.
    #[error("no comparison ={0}=; there are lt, le, gt, ge, ne, ct, sw and ew")]
    Comparison(String),
    /// `%` without two hexadecimal digits, or bytes that are no text.
    #[error("a % that escapes no text")]
    Escape,
    /// A value that its prefix says is another type.
    #[error("no {0}")]
    Value(&'static str),
    /// Lower and higher go for numbers and texts.
    #[error("a comparison by order with what has none")]
    Order,
    /// What belongs to the language, and is not there yet.
    #[error("{0} is not there yet")]
    NotYet(&'static str),
}

#[derive(Debug, Clone)]
enum Node {
    All(Vec<Self>),
    Any(Vec<Self>),
    Term(Term),
}

/// A condition: that the field, or any item of an array there, meets a test; or that none does.
#[derive(Debug, Clone)]
struct Term {
    /// The way to the field; empty for the value itself.
    names: Vec<Text>,
    test: Test,
    negated: bool,
}

#[derive(Debug, Clone)]
enum Test {
    /// The text says the value, in whatever type the value has.
    Says(Text),
    /// The value is this one.
    Is(Value),
    /// The value comes before or behind this one.
    Ordered(By, Value),
    Contains(Text),
    StartsWith(Text),
    EndsWith(Text),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Less,
    AtMost,
    Greater,
    AtLeast,
}

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// If it is none, one past the limits, or one that can't be answered yet.
    pub fn parse(text: &str, limits: &QueryLimits) -> Result<Self, QueryError> {
        parse::parse(text, limits).map(|wanted| Self { wanted })
    }

    /// Whether a record's value is wanted. The cost is the number of conditions, times the size of the arrays in it.
    pub fn matches(&self, value: &Value) -> bool {
        self.wanted.matches(value)
    }
}

impl Node {
    fn matches(&self, value: &Value) -> bool {
        match self {
            Self::All(all) => all.iter().all(|node| node.matches(value)),
            Self::Any(any) => any.iter().any(|node| node.matches(value)),
            Self::Term(term) => term.negated != holds(value, &term.names, &term.test),
        }
    }
}

/// Whether the field, or any item of an array on the way or there, meets a test. A field that is not there is null.
fn holds(value: &Value, names: &[Text], test: &Test) -> bool {
    match (value, names) {
        (Value::Array(items), _) => items.iter().any(|item| holds(item, names, test)),
        (value, []) => test.is_met(value),
        (Value::Map(map), [name, rest @ ..]) => {
            holds(map.get(name).unwrap_or(&Value::Null), rest, test)
        }
        (_, _) => test.is_met(&Value::Null),
    }
}

impl Test {
    fn is_met(&self, value: &Value) -> bool {
        match self {
            Self::Says(text) => says(text, value),
            Self::Is(other) => compare(value, other) == Some(Ordering::Equal),
            Self::Ordered(by, other) => compare(value, other).is_some_and(|order| match by {
                By::Less => order.is_lt(),
                By::AtMost => order.is_le(),
                By::Greater => order.is_gt(),
                By::AtLeast => order.is_ge(),
            }),
            Self::Contains(part) => value.as_str().is_some_and(|text| text.contains(&**part)),
            Self::StartsWith(part) => value.as_str().is_some_and(|text| text.starts_with(&**part)),
            Self::EndsWith(part) => value.as_str().is_some_and(|text| text.ends_with(&**part)),
        }
    }
}

/// Whether a text says a value of whatever type.
fn says(text: &str, value: &Value) -> bool {
    match value {
        Value::String(own) => **own == *text,
        Value::Null => text == "null",
        Value::Bool(own) => bool::from_str(text) == Ok(*own),
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => {
            number(text).is_some_and(|other| number_cmp(value, &other).is_eq())
        }
        Value::Bytes(_) | Value::Array(_) | Value::Map(_) => false,
    }
}

/// How two values of the same type lie to each other; none if they are of different types, or of one without an order.
fn compare(value: &Value, other: &Value) -> Option<Ordering> {
    match (value, other) {
        (Value::String(one), Value::String(other)) => Some(utf16_cmp(one, other)),
        (Value::Bool(one), Value::Bool(other)) => Some(one.cmp(other)),
        (Value::Null, Value::Null) => Some(Ordering::Equal),
        (one, other) if one.is_number() && other.is_number() => Some(number_cmp(one, other)),
        _ => None,
    }
}

/// The number that a text is in JSON.
fn number(text: &str) -> Option<Value> {
    let is_part =
        |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
    if !text.bytes().all(is_part) {
        return None;
    }
    let value = json::decode(text.as_bytes(), &Limits::default()).ok()?;
    value.is_number().then_some(value)
}

#[cfg(test)]
mod tests;

//! What a client of 5.0 asks for by user properties.

use sapwood_value::Format;

use crate::codec::{Text, UserProperties};

/// In which format a client wants what is data (user property `accept`, on CONNECT or SUBSCRIBE).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Accept {
    /// It has not said.
    #[default]
    Unsaid,
    /// As it is.
    Anything,
    /// In this one.
    Data(Format),
}

/// What a client asks for by the user properties of a SUBSCRIBE, for all filters of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Options {
    pub(super) accept: Accept,
    pub(super) query: Option<Text>,
}

impl Options {
    /// Reads them; other properties mean nothing here.
    ///
    /// # Errors
    /// What can't be served, in words for the client.
    pub(super) fn read(properties: &UserProperties) -> Result<Self, Text> {
        Ok(Self {
            accept: accept(properties)?,
            query: query(properties)?,
        })
    }
}

/// The user property `query`; what it means is the door's to say.
fn query(properties: &UserProperties) -> Result<Option<Text>, Text> {
    let is_query = |(name, value): (Text, Text)| (name.as_str() == "query").then_some(value);
    let mut queries = properties.iter().filter_map(is_query);
    let query = queries.next();
    match queries.next() {
        None => Ok(query.map(|query| query.detached())),
        Some(_) => Err(words("query: more than one; join them by &")),
    }
}

/// The user properties `accept`: one list, as HTTP's `Accept` (RFC 9110, 12.5.1).
///
/// # Errors
/// If none of what it takes can be given, in words for the client.
pub(super) fn accept(properties: &UserProperties) -> Result<Accept, Text> {
    let is_accept = |(name, value): (Text, Text)| (name.as_str() == "accept").then_some(value);
    let values: Vec<Text> = properties.iter().filter_map(is_accept).collect();
    if values.is_empty() {
        return Ok(Accept::Unsaid);
    }
    let lists = values.iter().map(|value| &**value.as_bytes());
    match sapwood_value::Accept::parse(lists).data_format() {
        Ok(Some(format)) => Ok(Accept::Data(format)),
        Ok(None) => Ok(Accept::Anything),
        Err(error) => Err(words(&format!("accept: {error}"))),
    }
}

/// A reason string.
fn words(text: &str) -> Text {
    Text::new(text).unwrap_or_default()
}

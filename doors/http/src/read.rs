//! GET and HEAD.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use futures_util::stream;
use http::{Response, StatusCode, header};
use sapwood_core::{Reading, Version};
use sapwood_net::http::Body;
use sapwood_tree::{ReadError, RowsError, TreeStream, is_segment};
use sapwood_value::{Format, Text, Value, cbor};

use crate::door::anonymous;
use crate::etag::TagList;
use crate::event::Object;
use crate::negotiate::{Form, OCTETS, Offers, raw_type};
use crate::problem::{self, Problem};
use crate::request::Asked;
use crate::respond::{self, VERSION};
use crate::url::Ending;

/// Answers a GET or a HEAD.
pub(crate) fn answer(asked: &Asked) -> Result<Response<Body>, Problem> {
    asked.no_stream()?;
    let reading = asked
        .database
        .read(&anonymous(), asked.path())
        .map_err(|_| Problem::new(&problem::DENIED, "no rule allows to read this"))?;
    let mut response = if asked.target.children {
        children(asked, &reading)
    } else {
        value(asked, &reading)
    }
    .unwrap_or_else(|problem| respond::problem(&problem));
    respond::set(&mut response, VERSION, reading.version().to_string());
    Ok(response)
}

fn value(asked: &Asked, reading: &Reading) -> Result<Response<Body>, Problem> {
    // The common case: one row says it all, and remembers its JSON.
    if let Some(row) = reading.single().map_err(failed)? {
        let tag = Version::new(asked.database.log_id(), row.version).to_string();
        return whole(asked, &row.fragment, Some(tag), || row.json().clone());
    }
    match reading.value(Reading::VALUE_BYTES_SMALL) {
        Ok(Some(value)) => {
            let tag = reading.tag().map_err(failed)?.map(|tag| tag.to_string());
            whole(asked, &value, tag, || {
                respond::encode(&value, Form::Data(Format::Json))
            })
        }
        Ok(None) => {
            conditions(asked, false, None, Form::Data(Format::Json))?;
            Err(Problem::new(&problem::NOT_FOUND, "nothing is here"))
        }
        Err(ReadError::TooLarge { .. }) => large(asked, reading),
        Err(error) => Err(internal(&error)),
    }
}

/// A value that is at hand.
fn whole(
    asked: &Asked,
    value: &Value,
    tag: Option<String>,
    json: impl FnOnce() -> Bytes,
) -> Result<Response<Body>, Problem> {
    let form = choose(asked, &Offers::of(value))?;
    let tag = tag.map(|tag| format!("{tag}-{}", form.letter()));
    let raw_type = match value {
        Value::Bytes(blob) => raw_type(blob),
        _ => OCTETS,
    };
    let body = |form: Form| {
        if form == Form::Data(Format::Json) {
            json()
        } else {
            respond::encode(value, form)
        }
    };
    let mut response = match conditions(asked, true, tag.as_deref(), form)? {
        Asks::Body => respond::negotiated(StatusCode::OK, form, raw_type, body(form).into()),
        Asks::Nothing => unmodified(),
    };
    if let Some(tag) = tag {
        respond::set(&mut response, header::ETAG, format!("\"{tag}\""));
    }
    Ok(response)
}

/// A value that goes out piece by piece. One record has a tag at any size, and is no tree.
fn large(asked: &Asked, reading: &Reading) -> Result<Response<Body>, Problem> {
    let tag = reading.tag().map_err(failed)?.map(|tag| tag.to_string());
    let form = choose(asked, &Offers::data())?;
    let Form::Data(format) = form else {
        return Err(Problem::new(&problem::INTERNAL, "no format"));
    };
    let tag = tag.map(|tag| format!("{tag}-{}", form.letter()));
    let mut response = match conditions(asked, true, tag.as_deref(), form)? {
        Asks::Body => respond::negotiated(
            StatusCode::OK,
            form,
            OCTETS,
            tree_body(reading.clone(), format),
        ),
        Asks::Nothing => unmodified(),
    };
    if let Some(tag) = tag {
        respond::set(&mut response, header::ETAG, format!("\"{tag}\""));
    }
    Ok(response)
}

/// The direct children: an array of their names and values, in key order.
fn children(asked: &Asked, reading: &Reading) -> Result<Response<Body>, Problem> {
    let form = choose(asked, &Offers::data())?;
    let Form::Data(format) = form else {
        return Err(Problem::new(&problem::INTERNAL, "no format"));
    };
    let exists = reading.exists().map_err(failed)?;
    match conditions(asked, exists, None, form)? {
        Asks::Body if exists => Ok(respond::negotiated(
            StatusCode::OK,
            form,
            OCTETS,
            children_body(reading.clone(), format),
        )),
        Asks::Body => Err(Problem::new(&problem::NOT_FOUND, "nothing is here")),
        Asks::Nothing => Ok(unmodified()),
    }
}

fn choose(asked: &Asked, offers: &Offers<'_>) -> Result<Form, Problem> {
    match asked.target.ending {
        Some(Ending::Format(format)) => Ok(Form::Data(format)),
        Some(Ending::Firebase) | None => offers.choose(&asked.accept),
    }
}

/// What a conditional request asks for.
enum Asks {
    Body,
    /// The client has it already: 304.
    Nothing,
}

/// `If-Match` and `If-None-Match` of a read (RFC 9110, 13.2.2).
fn conditions(asked: &Asked, exists: bool, tag: Option<&str>, form: Form) -> Result<Asks, Problem> {
    let value_tag = || {
        tag.and_then(|tag| tag.strip_suffix(form.letter()))
            .and_then(|tag| tag.strip_suffix('-'))
    };
    if let Some(list) = asked.tags(header::IF_MATCH)? {
        let holds = match list {
            TagList::Any => exists,
            TagList::Tags(tags) => value_tag().is_some_and(|value| {
                tags.iter()
                    .any(|given| !given.weak && given.value() == value)
            }),
        };
        if !holds {
            return Err(Problem::new(
                &problem::PRECONDITION_FAILED,
                "the value is not the one that If-Match names",
            ));
        }
    }
    let matches = match asked.tags(header::IF_NONE_MATCH)? {
        None => false,
        Some(TagList::Any) => exists,
        Some(TagList::Tags(tags)) => tags.iter().any(|given| Some(given.opaque.as_str()) == tag),
    };
    Ok(if matches { Asks::Nothing } else { Asks::Body })
}

fn unmodified() -> Response<Body> {
    let mut response = respond::empty(StatusCode::NOT_MODIFIED);
    response
        .headers_mut()
        .insert(header::VARY, header::HeaderValue::from_static("Accept"));
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-cache"),
    );
    response
}

fn failed(error: RowsError) -> Problem {
    internal(&ReadError::Rows(error))
}

fn internal(error: &ReadError) -> Problem {
    tracing::error!(
        error = error as &dyn std::error::Error,
        "the tree could not be read"
    );
    Problem::new(&problem::INTERNAL, "the tree could not be read")
}

/// How many bytes of a large body are made at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// Makes the pieces of a body on threads that may wait for the disk; one at a time, as the client takes them.
fn body_of(producer: impl FnMut(&mut Vec<u8>) -> Result<bool, RowsError> + Send + 'static) -> Body {
    Body::stream(stream::unfold(Some(producer), |producer| async move {
        let mut producer = producer?;
        let made = tokio::task::spawn_blocking(move || {
            let mut piece = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
            let more = producer(&mut piece);
            more.map(|more| (piece, more.then_some(producer)))
        });
        match made.await {
            Ok(Ok((piece, next))) => Some((Ok(Bytes::from(piece)), next)),
            Ok(Err(error)) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a large value could not be read to its end"
                );
                Some((Err(io::Error::other(error)), None))
            }
            Err(error) => Some((Err(io::Error::other(error)), None)),
        }
    }))
}

fn tree_body(reading: Reading, format: Format) -> Body {
    let mut stream = None;
    body_of(move |out| {
        let rows = reading.rows();
        if stream.is_none() {
            stream = TreeStream::begin(rows, reading.path(), format)?;
        }
        match &mut stream {
            Some(stream) => stream.next_chunk(rows, out, PIECE_BYTES),
            None => Ok(false),
        }
    })
}

fn children_body(reading: Reading, format: Format) -> Body {
    let mut children = Children {
        reading,
        format,
        after: None,
        begun: false,
        names: VecDeque::new(),
        no_more: false,
        open: None,
    };
    body_of(move |out| children.next_piece(out))
}

/// Writes the array of a path's children, in bounded memory whatever their number and size.
struct Children {
    reading: Reading,
    format: Format,
    begun: bool,
    /// The last name that was read ahead.
    after: Option<Text>,
    names: VecDeque<Text>,
    no_more: bool,
    /// The child whose value is not at its end.
    open: Option<TreeStream>,
}

impl Children {
    /// Adds a piece, and says whether there is more.
    fn next_piece(&mut self, out: &mut Vec<u8>) -> Result<bool, RowsError> {
        const NAMES: usize = 256;
        if !std::mem::replace(&mut self.begun, true) {
            self.begin(out)?;
            self.read_names(NAMES)?;
            if let Some(name) = self.names.pop_front() {
                self.child(&name, out)?;
            }
        }
        while out.len() < PIECE_BYTES {
            if let Some(stream) = &mut self.open {
                if stream.next_chunk(self.reading.rows(), out, PIECE_BYTES)? {
                    continue;
                }
                self.open = None;
                self.end_child(out);
            }
            if self.names.is_empty() && !self.no_more {
                self.read_names(NAMES)?;
            }
            let Some(name) = self.names.pop_front() else {
                self.end(out);
                return Ok(false);
            };
            if self.format == Format::Json {
                out.push(b',');
            }
            self.child(&name, out)?;
        }
        Ok(true)
    }

    fn read_names(&mut self, max: usize) -> Result<(), RowsError> {
        let names = sapwood_tree::children(
            self.reading.rows(),
            self.reading.path(),
            self.after.as_deref(),
            max,
        )?;
        self.no_more = names.len() < max;
        self.after = names.last().cloned().or_else(|| self.after.take());
        self.names.extend(names);
        Ok(())
    }

    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), RowsError> {
        match self.format {
            Format::Json => out.push(b'['),
            Format::Cbor => out.push(0x9f), // an array of indefinite length
            Format::MessagePack => {
                let count = sapwood_tree::count_children(self.reading.rows(), self.reading.path())?;
                out.push(0xdd); // array 32
                out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
            }
        }
        Ok(())
    }

    fn end(&self, out: &mut Vec<u8>) {
        match self.format {
            Format::Json => out.push(b']'),
            Format::Cbor => cbor::end(out),
            Format::MessagePack => {}
        }
    }

    /// Begins a child: its name, and its value as a stream of its own.
    fn child(&mut self, name: &Text, out: &mut Vec<u8>) -> Result<(), RowsError> {
        let mut object = Object::begin(self.format, 2, out);
        object.text("id", name);
        object.key("value");
        let path = self.reading.path();
        if is_segment(name) {
            self.open = TreeStream::begin(
                self.reading.rows(),
                &path.child_unchecked(name),
                self.format,
            )?;
        }
        if self.open.is_none() {
            // A key that can't be addressed is read with its document.
            let own = match sapwood_tree::own(self.reading.rows(), path, usize::MAX) {
                Ok(own) => own,
                Err(ReadError::Rows(error)) => return Err(error),
                Err(_) => None,
            };
            let value = own
                .and_then(|own| own.child(name).cloned())
                .unwrap_or(Value::Null);
            self.format.encode_spelled(&value, out);
            self.end_child(out);
        }
        Ok(())
    }

    fn end_child(&self, out: &mut Vec<u8>) {
        match self.format {
            Format::Json => out.push(b'}'),
            Format::Cbor | Format::MessagePack => {}
        }
    }
}

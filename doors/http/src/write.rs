//! PUT, PATCH, POST, DELETE, messages and batches.

use std::sync::Arc;

use http::{Response, StatusCode, header};
use sapwood_core::{Committed, Condition, Limits, Message, Write, WriteError, WriteOp};
use sapwood_net::http::Body;
use sapwood_tree::{OpKind, Path};
use sapwood_value::{Map, Spelled, Text, Value};

use crate::body::BodyType;
use crate::command::{Name, Operation, merge_entries, read_batch};
use crate::door::{Site, anonymous};
use crate::problem::{self, Member, Problem};
use crate::request::{Asked, Sent, Upload};
use crate::respond::{self, VERSION};
use crate::{event, plain, url};

/// PUT: replaces; null is DELETE.
pub(crate) async fn put(
    site: &Site,
    asked: &Asked,
    body: &mut Upload,
) -> Result<Response<Body>, Problem> {
    let sent = asked.read(body, &site.config, BodyType::read).await?;
    if is_removal(&sent.value) {
        return remove(asked, sent.conditions).await;
    }
    let committed = change(asked, sent, put_op).await?;
    let existed = committed.ops.first().is_some_and(|op| op.existed);
    Ok(done(
        if existed {
            StatusCode::NO_CONTENT
        } else {
            StatusCode::CREATED
        },
        &committed,
    ))
}

/// PATCH: merges the children that it names; null removes one.
pub(crate) async fn patch(
    site: &Site,
    asked: &Asked,
    body: &mut Upload,
) -> Result<Response<Body>, Problem> {
    let sent = asked.read(body, &site.config, BodyType::read_data).await?;
    let committed = change(asked, sent, patch_op).await?;
    Ok(done(StatusCode::NO_CONTENT, &committed))
}

/// DELETE: 404 if nothing was there.
pub(crate) async fn delete(asked: &Asked) -> Result<Response<Body>, Problem> {
    asked.no_stream()?;
    no_ttl(asked)?;
    remove(asked, asked.conditions()?).await
}

/// Removes what is there.
async fn remove(
    asked: &Asked,
    mut conditions: Vec<(Path, Condition)>,
) -> Result<Response<Body>, Problem> {
    let exists = conditions.len();
    conditions.push((asked.path().clone(), Condition::Exists(true)));
    let write = Write {
        ops: vec![WriteOp::new(asked.path().clone(), OpKind::Delete)],
        conditions,
    };
    match asked.database.write(&anonymous(), write).await {
        Ok(committed) => Ok(done(StatusCode::NO_CONTENT, &committed)),
        Err(WriteError::Conflict { index, .. }) if index == exists => {
            Err(Problem::new(&problem::NOT_FOUND, "nothing is here"))
        }
        Err(error) => Err(refused(&error)),
    }
}

/// POST: appends a child under a push id, or sends a message.
pub(crate) async fn post(
    site: &Arc<Site>,
    mut asked: Asked,
    body: &mut Upload,
) -> Result<Response<Body>, Problem> {
    if asked.target.query.publish {
        return publish(site, &asked, body).await;
    }
    // The conditions are about the resource that the URL names, not about the child that is made (RFC 9110, 13.1).
    let sent = asked.read(body, &site.config, BodyType::read).await?;
    let id = site.push_id(&asked.database);
    asked.target.path = child(&asked, asked.path(), &id)?;
    let committed = change(&asked, sent, post_op).await?;
    let mut response = asked.small(StatusCode::CREATED, &Value::String(id.into()));
    respond::set(&mut response, header::LOCATION, url::href(asked.path()));
    respond::set(&mut response, VERSION, committed.version.to_string());
    Ok(response)
}

async fn publish(site: &Site, asked: &Asked, body: &mut Upload) -> Result<Response<Body>, Problem> {
    no_ttl(asked)?;
    no_conditions(asked)?;
    let sent = asked.read(body, &site.config, BodyType::read).await?;
    let content_type = asked
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|field| field.to_str().ok())
        .map(Text::from);
    let message = message(sent.value)?.with_content_type(content_type);
    let receivers = asked
        .database
        .publish(&anonymous(), asked.path(), message)
        .await
        .map_err(|error| refused(&error))?;
    let mut answer = Map::new();
    answer.insert("receivers".into(), event::number(receivers));
    Ok(asked.small(StatusCode::OK, &Value::Map(answer)))
}

/// Refuses a lifetime where nothing is written that could have one.
fn no_ttl(asked: &Asked) -> Result<(), Problem> {
    if asked.ttl()?.is_none() {
        return Ok(());
    }
    Err(Problem::new(
        &problem::BAD_OPERATION,
        "Sapwood-Ttl goes with what is written",
    ))
}

/// Refuses conditions where nothing is written.
fn no_conditions(asked: &Asked) -> Result<(), Problem> {
    if asked.conditions()?.is_empty() {
        return Ok(());
    }
    Err(Problem::new(
        &problem::BAD_OPERATION,
        "If-Match and If-None-Match go with a write",
    ))
}

/// POST of a batch: all of it or nothing, in one commit.
pub(crate) async fn batch(
    site: &Arc<Site>,
    asked: &Asked,
    body: &mut Upload,
) -> Result<Response<Body>, Problem> {
    if asked.target.query.publish {
        return Err(Problem::new(
            &problem::BAD_QUERY,
            "publish goes with the path of a message, not with a batch",
        ));
    }
    no_ttl(asked)
        .and_then(|()| no_conditions(asked))
        .map_err(|problem| {
            problem.hint("in a batch, \"if\" and \"ttl\" go into the operation that they belong to")
        })?;
    let sent = asked
        .read(body, &site.config, BodyType::read_unspelled)
        .await?;
    let operations = read_batch(sent.value, asked.database.tree_limits())?;
    let max = site.config.batch_operations_max;
    if operations.len() > max {
        Limits::met("http.batch_operations_max");
        return Err(Problem::new(
            &problem::TOO_LARGE,
            format!("a batch has at most {max} operations"),
        )
        .with("limit", Member::Number(max as u64)));
    }
    let Batch {
        write,
        condition_of,
        ids,
    } = Batch::of(site, asked, operations)?;
    if write.ops.is_empty() {
        return Ok(asked.small(StatusCode::OK, &Value::Array(Vec::new())));
    }
    let paths: Vec<String> = write.ops.iter().map(|op| plain::text(&op.path)).collect();
    let committed = asked
        .database
        .write(&anonymous(), write)
        .await
        .map_err(|error| refused_in_batch(&error, &condition_of))?;
    let version = Value::from(committed.version.to_string());
    let entry = |(path, id): (String, Option<String>)| {
        let mut entry = Map::new();
        entry.insert("path".into(), Value::from(path));
        entry.insert("version".into(), version.clone());
        if let Some(id) = id {
            entry.insert("id".into(), Value::from(id));
        }
        Value::Map(entry)
    };
    let answer = Value::Array(paths.into_iter().zip(ids).map(entry).collect());
    let mut response = asked.small(StatusCode::OK, &answer);
    respond::set(&mut response, VERSION, committed.version.to_string());
    Ok(response)
}

/// The one write of a batch.
#[derive(Default)]
struct Batch {
    write: Write,
    /// The operation that each condition stands in.
    condition_of: Vec<usize>,
    /// The new child of each operation that is a POST.
    ids: Vec<Option<String>>,
}

impl Batch {
    fn of(site: &Site, asked: &Asked, operations: Vec<Operation>) -> Result<Self, Problem> {
        let mut batch = Self::default();
        for (index, operation) in operations.into_iter().enumerate() {
            batch
                .add(site, asked, index, operation)
                .map_err(|problem| problem.at(index))?;
        }
        Ok(batch)
    }

    fn add(
        &mut self,
        site: &Site,
        asked: &Asked,
        index: usize,
        operation: Operation,
    ) -> Result<(), Problem> {
        let mut path = operation.path.clone().unwrap_or_else(Path::root);
        writable(&path)?;
        for condition in &operation.conditions {
            self.write
                .conditions
                .push((path.clone(), condition.clone()));
            self.condition_of.push(index);
        }
        let id = (operation.name == Name::Post).then(|| site.push_id(&asked.database));
        if let Some(id) = &id {
            path = child(asked, &path, id)?;
        }
        self.write.ops.push(write_op(operation, path)?);
        self.ids.push(id);
        Ok(())
    }
}

/// The write of an operation of a batch or a WebSocket, at its path (of a POST: the new child's).
pub(crate) fn write_op(operation: Operation, path: Path) -> Result<WriteOp, Problem> {
    let Operation {
        name,
        value,
        ttl,
        owner,
        ..
    } = operation;
    let value = value.unwrap_or_else(|| Spelled::plain(Value::Null));
    let op = match name {
        Name::Put if is_removal(&value) => WriteOp::new(path, OpKind::Delete),
        Name::Put => put_op(path, value)?,
        Name::Patch => patch_op(path, value)?,
        Name::Post => post_op(path, value)?,
        Name::Delete => WriteOp::new(path, OpKind::Delete),
        Name::Get | Name::Publish => {
            return Err(Problem::new(
                &problem::BAD_OPERATION,
                "the operation is no write",
            ));
        }
    };
    Ok(WriteOp { ttl, owner, ..op })
}

/// Whether a value written means that nothing is to be there.
fn is_removal(spelled: &Spelled) -> bool {
    spelled.value.is_null() && spelled.server_values.is_empty()
}

fn put_op(path: Path, spelled: Spelled) -> Result<WriteOp, Problem> {
    let Spelled {
        value,
        server_values,
        priorities,
    } = spelled;
    no_priorities(&priorities)?;
    Ok(WriteOp {
        server_values,
        ..WriteOp::new(path, OpKind::Put { value, mark: true })
    })
}

fn post_op(path: Path, spelled: Spelled) -> Result<WriteOp, Problem> {
    if is_removal(&spelled) {
        return Err(Problem::new(
            &problem::BAD_OPERATION,
            "a POST of null would make nothing",
        ));
    }
    put_op(path, spelled)
}

fn patch_op(path: Path, spelled: Spelled) -> Result<WriteOp, Problem> {
    let Spelled {
        value,
        server_values,
        priorities,
    } = spelled;
    no_priorities(&priorities)?;
    let entries = merge_entries(value, &server_values)?;
    Ok(WriteOp {
        server_values,
        ..WriteOp::new(
            path,
            OpKind::Merge {
                entries,
                mark: true,
            },
        )
    })
}

/// The message of a body.
pub(crate) fn message(spelled: Spelled) -> Result<Message, Problem> {
    if !spelled.server_values.is_empty() {
        return Err(Problem::new(
            &problem::BAD_SERVER_VALUE,
            "server values go with writes, not with messages",
        ));
    }
    no_priorities(&spelled.priorities)?;
    Ok(Message::new(spelled.value))
}

fn no_priorities(priorities: &[(Vec<Text>, Value)]) -> Result<(), Problem> {
    match priorities.iter().find(|(_, priority)| !priority.is_null()) {
        None => Ok(()),
        Some(_) => Err(
            Problem::new(&problem::BAD_PRIORITY, "priorities are not stored yet")
                .hint("a data key of that name is written %2Epriority"),
        ),
    }
}

/// The child that a POST makes.
pub(crate) fn child(asked: &Asked, path: &Path, id: &str) -> Result<Path, Problem> {
    path.child(id, asked.database.tree_limits())
        .map_err(|error| url::no_path(&error))
}

/// Refuses the system's paths.
pub(crate) fn writable(path: &Path) -> Result<(), Problem> {
    if path.is_system() {
        return Err(Problem::new(
            &problem::UNKNOWN_SYSTEM_PATH,
            format!("{} is none of the system's paths", path.as_str()),
        ));
    }
    Ok(())
}

/// Commits what was sent as one operation on the path that was asked for.
async fn change(
    asked: &Asked,
    sent: Sent<Spelled>,
    op: fn(Path, Spelled) -> Result<WriteOp, Problem>,
) -> Result<Committed, Problem> {
    let Sent {
        value,
        conditions,
        ttl,
        share: _share,
    } = sent;
    let op = WriteOp {
        ttl,
        ..op(asked.path().clone(), value)?
    };
    let write = Write {
        ops: vec![op],
        conditions,
    };
    asked
        .database
        .write(&anonymous(), write)
        .await
        .map_err(|error| refused(&error))
}

fn done(status: StatusCode, committed: &Committed) -> Response<Body> {
    let mut response = respond::empty(status);
    respond::set(&mut response, VERSION, committed.version.to_string());
    response
}

/// A refused write as a problem.
pub(crate) fn refused(error: &WriteError) -> Problem {
    let detail = error.to_string();
    match error {
        WriteError::Denied { .. } => Problem::new(&problem::DENIED, detail),
        WriteError::Conflict { .. } => Problem::new(&problem::PRECONDITION_FAILED, detail)
            .hint("read the value again, and decide anew"),
        WriteError::Invalid { code, .. } => Problem::new(
            problem::named(code).unwrap_or(&problem::INVALID_WRITE),
            detail,
        ),
        WriteError::TooLarge { .. } => Problem::new(&problem::TOO_LARGE, detail),
        WriteError::NoSession => Problem::new(&problem::BAD_OPERATION, detail),
        WriteError::Busy => Problem::new(&problem::BUSY, detail),
        WriteError::Full => Problem::new(&problem::DISK_FULL, detail)
            .hint("make room on the server's disk; reads go on"),
        WriteError::Unavailable => Problem::new(&problem::UNAVAILABLE, detail),
        _ => Problem::new(&problem::INTERNAL, "the write failed"),
    }
}

fn refused_in_batch(error: &WriteError, condition_of: &[usize]) -> Problem {
    let problem = refused(error);
    match error {
        WriteError::Conflict { index, .. } => condition_of
            .get(*index)
            .map_or(problem.clone(), |index| problem.at(*index)),
        WriteError::Invalid { index, .. } | WriteError::TooLarge { index, .. } => {
            problem.at(*index)
        }
        _ => problem,
    }
}

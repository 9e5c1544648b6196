//! The door itself: what it is made of, and where each request goes.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use metrics::{Counter, counter};
use parking_lot::Mutex;
use sapwood_core::{Claims, Core, Database};
use sapwood_net::http::origin::{Policy, Verdict};
use sapwood_net::http::{Body, Caller, Handler, Reply};
use sapwood_net::{Closed, Connection, Door, Mount, websocket};
use sapwood_tree::Path;

use crate::files::Folder;
use crate::negotiate::Accept;
use crate::problem::{self, Problem};
use crate::push_id::PushIds;
use crate::request::Asked;
use crate::respond::VERSION;
use crate::url::{Ending, Target};
use crate::{HttpConfig, pages, read, respond, socket, stream, write};

/// What the binary tells the door beside its configuration.
pub struct Options {
    /// Where to listen.
    pub address: SocketAddr,
    /// Whom to serve.
    pub policy: Policy,
    /// The folder of files, if there is one.
    pub folder: Option<Arc<Folder>>,
    /// The text of `/metrics`.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
}

/// The HTTP door.
pub struct HttpDoor {
    site: Arc<Site>,
    limits: Arc<sapwood_net::http::Limits>,
    address: SocketAddr,
}

/// What every request needs.
pub(crate) struct Site {
    pub(crate) core: Core,
    pub(crate) config: HttpConfig,
    policy: Policy,
    folder: Option<Arc<Folder>>,
    pub(crate) metrics_text: Box<dyn Fn() -> String + Send + Sync>,
    push_ids: Mutex<PushIds>,
    default: Database,
    counters: Counters,
}

struct Counters {
    ok: Counter,
    client_errors: Counter,
    server_errors: Counter,
    taken_over: Counter,
}

impl HttpDoor {
    /// A door to `core`. It has a database named `default`, as every core has.
    ///
    /// # Errors
    /// If it has none.
    pub fn new(core: Core, config: HttpConfig, options: Options) -> Result<Self, MissingDefault> {
        let default = core.database("default").ok_or(MissingDefault)?;
        let count =
            |outcome: &'static str| counter!("sapwood_http_requests_total", "outcome" => outcome);
        let counters = Counters {
            ok: count("ok"),
            client_errors: count("client_error"),
            server_errors: count("server_error"),
            taken_over: count("stream"),
        };
        let limits = Arc::new(config.connection_limits());
        let site = Site {
            core,
            config,
            policy: options.policy,
            folder: options.folder,
            metrics_text: options.metrics,
            push_ids: Mutex::default(),
            default,
            counters,
        };
        Ok(Self {
            site: Arc::new(site),
            limits,
            address: options.address,
        })
    }
}

/// A core without a database named `default`.
#[derive(Debug, thiserror::Error)]
#[error("there is no database named default")]
pub struct MissingDefault;

impl Door for HttpDoor {
    fn name(&self) -> &'static str {
        "http"
    }

    fn mounts(&self) -> Vec<Mount> {
        vec![Mount::Tcp(self.address)]
    }

    fn serve(&self, connection: Connection) -> BoxFuture<'static, Closed> {
        sapwood_net::http::serve(connection, Arc::clone(&self.site), Arc::clone(&self.limits))
            .boxed()
    }
}

impl Handler for Site {
    fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        caller: Arc<Caller>,
    ) -> BoxFuture<'static, Reply> {
        async move {
            let head = request.method() == Method::HEAD;
            let origin =
                match self
                    .policy
                    .judge(request.version(), request.uri(), request.headers())
                {
                    Verdict::Allow(origin) => origin,
                    refused => return self.finish(Err(refusal(&refused)), head, None),
                };
            let (parts, body) = request.into_parts();
            let (method, uri) = (parts.method.clone(), parts.uri.clone());
            let fields = parts.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
            let reply = self.route(parts, body, &caller, origin.as_ref()).await;
            let mut reply = self.finish(reply, head, origin);
            if let Reply::Response(response) = &mut reply {
                allow_fields(response.headers_mut(), fields);
                if response.status().as_u16() >= 400 {
                    let (status, peer) = (response.status().as_u16(), caller.info.peer);
                    tracing::info!(%method, path = uri.path(), status, %peer, connection = caller.info.id, "request refused");
                }
            }
            reply
        }
        .boxed()
    }
}

fn refusal(verdict: &Verdict) -> Problem {
    match verdict {
        Verdict::BadHost => Problem::new(&problem::BAD_HOST, "a request names one host"),
        Verdict::Misdirected => Problem::new(&problem::MISDIRECTED, "this host is not served here")
            .hint("this server is open and on loopback: reach it as localhost"),
        Verdict::Foreign | Verdict::Allow(_) => {
            Problem::new(&problem::FOREIGN_ORIGIN, "a page elsewhere asked for this")
                .hint("this server is open and on loopback: it answers pages of this machine only")
        }
    }
}

const TREE_METHODS: &str = "GET, HEAD, PUT, PATCH, POST, DELETE, OPTIONS";
const CHILDREN_METHODS: &str = "GET, HEAD, POST, OPTIONS";
const BATCH_METHODS: &str = "POST, OPTIONS";
pub(crate) const PAGE_METHODS: &str = "GET, HEAD, OPTIONS";

impl Site {
    async fn route(
        self: &Arc<Self>,
        parts: Parts,
        body: Incoming,
        caller: &Arc<Caller>,
        origin: Option<&HeaderValue>,
    ) -> Result<Reply, Problem> {
        let reads = parts.method == Method::GET || parts.method == Method::HEAD;
        let path = parts.uri.path();
        let upgrade = websocket::is_asked(&parts.headers);
        if reads
            && !upgrade
            && let Some(folder) = &self.folder
            && let Some(file) = folder.find(path, || accept_of(&parts.headers).prefers("text/html"))
        {
            return Ok(file.answer(&parts.headers).await.into());
        }
        if let Some(page) = pages::find(path, self.config.bare_names) {
            return self.page(page, &parts.method).map(Into::into);
        }
        if path == "*" {
            return Ok(allowed(TREE_METHODS).into());
        }
        let asked = match self.ask(parts) {
            Ok(asked) => asked,
            Err(problem) => return Ok(stamped(refused(&problem).into(), &self.default)),
        };
        let database = asked.database.clone();
        let reply = if asked.path().is_system() {
            self.system(asked, body, caller, upgrade).await
        } else if upgrade {
            socket::open(self, asked, caller)
        } else {
            self.tree(asked, body, caller, origin).await
        };
        Ok(stamped(
            reply.unwrap_or_else(|problem| refused(&problem).into()),
            &database,
        ))
    }

    /// A request for a place in the tree.
    async fn tree(
        self: &Arc<Self>,
        asked: Asked,
        body: Incoming,
        caller: &Arc<Caller>,
        origin: Option<&HeaderValue>,
    ) -> Result<Reply, Problem> {
        let children = asked.target.children;
        match asked.method {
            Method::GET
                if asked.target.ending.is_none() && asked.accept.prefers("text/event-stream") =>
            {
                stream::open(self, &asked, caller, origin)
            }
            Method::GET | Method::HEAD
                if asked.path().is_root()
                    && asked.target.ending.is_none()
                    && asked.accept.prefers("text/html") =>
            {
                Ok(pages::demo().into())
            }
            Method::GET | Method::HEAD => read::answer(&asked).map(Into::into),
            Method::POST => write::post(self, asked, body).await.map(Into::into),
            Method::OPTIONS => Ok(allowed(if children {
                CHILDREN_METHODS
            } else {
                TREE_METHODS
            })
            .into()),
            Method::PUT | Method::PATCH | Method::DELETE if children => {
                Err(Problem::method(CHILDREN_METHODS))
            }
            Method::PUT => write::put(self, &asked, body).await.map(Into::into),
            Method::PATCH => write::patch(self, &asked, body).await.map(Into::into),
            Method::DELETE => write::delete(&asked).await.map(Into::into),
            _ => Err(Problem::method(if children {
                CHILDREN_METHODS
            } else {
                TREE_METHODS
            })),
        }
    }

    /// A request for one of the system's paths.
    async fn system(
        self: &Arc<Self>,
        asked: Asked,
        body: Incoming,
        caller: &Arc<Caller>,
        upgrade: bool,
    ) -> Result<Reply, Problem> {
        match asked.path().as_str() {
            "/.batch" if asked.method == Method::POST => {
                write::batch(self, &asked, body).await.map(Into::into)
            }
            "/.batch" if asked.method == Method::OPTIONS => Ok(allowed(BATCH_METHODS).into()),
            "/.batch" => Err(Problem::method(BATCH_METHODS)),
            "/.echo" if self.config.echo && upgrade => socket::open_echo(self, &asked, caller),
            "/.echo" if self.config.echo => Err(Problem::new(
                &problem::UPGRADE_REQUIRED,
                "this path speaks WebSocket only",
            )),
            path => Err(Problem::new(
                &problem::UNKNOWN_SYSTEM_PATH,
                format!("{path} is none of the system's paths"),
            )),
        }
    }

    fn page(&self, page: pages::Page, method: &Method) -> Result<Response<Body>, Problem> {
        match *method {
            Method::GET | Method::HEAD => Ok(page.answer(self)),
            Method::OPTIONS => Ok(allowed(PAGE_METHODS)),
            _ => Err(Problem::method(PAGE_METHODS)),
        }
    }

    /// Takes a request for the tree apart.
    fn ask(&self, parts: Parts) -> Result<Asked, Problem> {
        let Parts {
            method,
            uri,
            version,
            headers,
            ..
        } = parts;
        let target = Target::parse(uri.path(), uri.query(), self.default.tree_limits())?;
        if target.ending == Some(Ending::Firebase) {
            return Err(Problem::new(&problem::JSON_ENDING, "URLs that end in .json are kept for Firebase's REST interface, which is not there yet")
                .hint("leave .json out; a data key that ends so is written with %252Ejson"));
        }
        if let Some(other) = target.query.others.first() {
            return Err(Problem::new(
                &problem::NOT_YET,
                format!("the query says {other:?}, and queries are not there yet"),
            ));
        }
        if target.query.publish && method != Method::POST {
            return Err(Problem::new(&problem::BAD_QUERY, "publish goes with POST"));
        }
        let database = self.database(target.query.ns.as_deref(), uri.host(), &headers)?;
        let accept = accept_of(&headers);
        Ok(Asked {
            database,
            target,
            method,
            version,
            headers,
            accept,
        })
    }

    /// The database that `ns` or the first label of the host names (design, section 6).
    fn database(
        &self,
        ns: Option<&str>,
        target_host: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Database, Problem> {
        let host = target_host
            .or_else(|| {
                headers
                    .get(header::HOST)
                    .and_then(|host| host.to_str().ok())
            })
            .unwrap_or_default();
        // Host names have no case, and databases small letters.
        let label = host
            .split(['.', ':'])
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let Some(name) = ns else {
            // A host that is no database's is just a host.
            let named = label != "localhost" && host.contains('.');
            return Ok(named
                .then(|| self.core.database(&label))
                .flatten()
                .unwrap_or_else(|| self.default.clone()));
        };
        if let Some(database) = self.core.database(name) {
            return Ok(database);
        }
        let is_default =
            name.bytes().all(|byte| byte.is_ascii_digit()) || name == "localhost" || name == label;
        if is_default {
            return Ok(self.default.clone());
        }
        Err(Problem::new(
            &problem::UNKNOWN_DATABASE,
            format!("no database is named {name:?}"),
        )
        .hint("declare it as [databases.NAME]"))
    }

    /// A push id for a new child.
    pub(crate) fn push_id(&self, database: &Database) -> String {
        self.push_ids.lock().next(database.now_ms(), rand::random)
    }

    /// Counts, logs and completes an answer.
    fn finish(
        &self,
        reply: Result<Reply, Problem>,
        head: bool,
        origin: Option<HeaderValue>,
    ) -> Reply {
        let mut response = match reply {
            Ok(Reply::Response(response)) => response,
            Ok(takeover @ Reply::Takeover(_)) => {
                self.counters.taken_over.increment(1);
                return takeover;
            }
            Err(problem) => refused(&problem),
        };
        match response.status().as_u16() {
            500.. => self.counters.server_errors.increment(1),
            400.. => self.counters.client_errors.increment(1),
            _ => self.counters.ok.increment(1),
        }
        if head {
            response = respond::without_body(response);
        }
        if let Some(origin) = origin {
            share(response.headers_mut(), origin);
        }
        Reply::Response(response)
    }
}

fn refused(problem: &Problem) -> Response<Body> {
    tracing::debug!(
        code = problem.code(),
        detail = problem.detail(),
        "request refused"
    );
    respond::problem(problem)
}

/// Says the database's newest commit where the answer does not name one itself.
fn stamped(mut reply: Reply, database: &Database) -> Reply {
    if let Reply::Response(response) = &mut reply
        && !response.headers().contains_key(VERSION)
        && let Ok(reading) = database.read(&anonymous(), &Path::root())
    {
        respond::set(response, VERSION, reading.version().to_string());
    }
    reply
}

/// The claims of a caller: nobody in particular, until there are credentials.
pub(crate) fn anonymous() -> Claims {
    Claims::anonymous()
}

fn accept_of(headers: &HeaderMap) -> Accept {
    Accept::parse(
        headers
            .get_all(header::ACCEPT)
            .iter()
            .map(|field| field.as_bytes()),
    )
}

/// An answer to OPTIONS.
fn allowed(methods: &'static str) -> Response<Body> {
    let mut response = respond::empty(StatusCode::NO_CONTENT);
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

/// A page of this machine may send whatever field it asks for.
fn allow_fields(headers: &mut HeaderMap, asked: Option<HeaderValue>) {
    if let Some(asked) = asked
        && headers.contains_key(header::ACCESS_CONTROL_ALLOW_HEADERS)
    {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked);
    }
}

/// Lets the page at an origin read the answer (Fetch, CORS).
pub(crate) fn share(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
        HeaderValue::from_static("true"),
    );
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("ETag, Location, Sapwood-Version, Allow"),
    );
    if headers.contains_key(header::ALLOW) {
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static(TREE_METHODS),
        );
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("Accept, Content-Type, If-Match, If-None-Match, Last-Event-ID, Sapwood-Ttl, Cache-Control, Authorization"),
        );
        headers.insert(
            header::ACCESS_CONTROL_MAX_AGE,
            HeaderValue::from_static("600"),
        );
    }
}

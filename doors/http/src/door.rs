//! The door itself: what it is made of, and where each request goes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Uri};
use hyper::body::{Body as _, Incoming};
use metrics::{Counter, counter};
use parking_lot::Mutex;
use sapwood_core::{Claims, Core, Database};
use sapwood_net::http::origin::{Policy, Verdict};
use sapwood_net::http::{Body, Caller, Handler, Handling, Refusal, Reply};
use sapwood_net::{Closed, Connection, Door, Mount, websocket};
use sapwood_tree::Path;

use crate::files::{Folder, Listed};
use crate::negotiate::Accept;
use crate::problem::{self, Problem};
use crate::push_id::PushIds;
use crate::request::{Asked, Upload};
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
        let proxies = &self.site.config.proxy_protocol;
        vec![Mount::Tcp {
            address: self.address,
            proxied: proxies.of_tcp(self.limits.head_timeout, "http.head_timeout_s"),
        }]
    }

    fn serve(&self, connection: Connection) -> BoxFuture<'static, Closed> {
        sapwood_net::http::serve(connection, Arc::clone(&self.site), Arc::clone(&self.limits))
            .boxed()
    }
}

impl Handler for Site {
    fn handle(self: Arc<Self>, request: Request<Incoming>, caller: Arc<Caller>) -> Handling {
        let method = request.method();
        let judged = self
            .policy
            .judge(request.version(), request.uri(), request.headers());
        let mut closing = Closing {
            head: method == Method::HEAD,
            reads: method == Method::GET || method == Method::HEAD,
            ends: !request.body().is_end_stream(),
            method: method.clone(),
            uri: request.uri().clone(),
            origin: None,
            fields: None,
        };
        match judged {
            Verdict::Allow(origin) => closing.origin = origin,
            refused => return Handling::Now(self.close(Err(refusal(&refused)), closing, &caller)),
        }
        let (parts, body) = request.into_parts();
        if closing.origin.is_some() {
            let fields = parts.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
            closing.fields = fields.cloned();
        }
        // A read waits for nothing, so it needs no future; a file and an upgrade do.
        if closing.reads && !websocket::is_asked(&parts.headers) {
            let Some(file) = self.file(&parts) else {
                let reply = self.route_read(parts, &caller, closing.origin.as_ref());
                return Handling::Now(self.close(reply, closing, &caller));
            };
            let answer = async move {
                let answer = file.answer(&parts.headers).await;
                self.close(Ok(answer.into()), closing, &caller)
            };
            return Handling::Later(answer.boxed());
        }
        let mut upload = Upload::new(body, &parts.headers);
        Handling::Later(
            async move {
                let reply = self.route(parts, &mut upload, &caller).await;
                upload.drain(&self.config).await;
                closing.ends = upload.is_unread();
                self.close(reply, closing, &caller)
            }
            .boxed(),
        )
    }

    fn refuse(&self, refusal: Refusal, caller: &Caller) -> Response<Body> {
        let kind = problem::named(refusal.code()).unwrap_or(&problem::BAD_REQUEST);
        let mut response = refused(&Problem::new(kind, refusal.detail()));
        // hyper, which dates all other answers, never sees this one.
        let now = UNIX_EPOCH + Duration::from_millis(self.default.now_ms());
        respond::set(&mut response, header::DATE, httpdate::fmt_http_date(now));
        self.count(&response);
        stamp(&mut response, &self.default);
        let (status, code) = (response.status().as_u16(), kind.name);
        let (peer, request) = (caller.info.peer, caller.request());
        tracing::info!(status, code, %peer, connection = caller.info.id, request, "request refused");
        response
    }
}

/// What completing an answer needs of its request.
struct Closing {
    head: bool,
    reads: bool,
    /// Some of the body is still to come, and is not waited for: the connection ends.
    ends: bool,
    method: Method,
    uri: Uri,
    origin: Option<HeaderValue>,
    /// The fields that a page asks to be allowed.
    fields: Option<HeaderValue>,
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
    /// The file that a GET or a HEAD means, if it means one.
    fn file(&self, parts: &Parts) -> Option<Arc<Listed>> {
        let wants_page = || accept_of(&parts.headers).prefers("text/html");
        self.folder.as_ref()?.find(parts.uri.path(), wants_page)
    }

    /// Everything but GET and HEAD, and whatever asks for a WebSocket.
    async fn route(
        self: &Arc<Self>,
        parts: Parts,
        body: &mut Upload,
        caller: &Arc<Caller>,
    ) -> Result<Reply, Problem> {
        let upgrade = websocket::is_asked(&parts.headers);
        if let Some(reply) = self.own_page(&parts) {
            return reply;
        }
        let asked = self.ask(parts)?;
        let database = asked.database.clone();
        let reply = if upgrade && !asked.path().is_system() {
            socket::open(self, asked, caller)
        } else if asked.path().is_system() {
            self.system(asked, body, caller, upgrade).await
        } else {
            self.write(asked, body).await
        };
        Ok(stamped(
            reply.unwrap_or_else(|problem| refused(&problem).into()),
            &database,
        ))
    }

    /// GET and HEAD, where no file is meant.
    fn route_read(
        self: &Arc<Self>,
        parts: Parts,
        caller: &Arc<Caller>,
        origin: Option<&HeaderValue>,
    ) -> Result<Reply, Problem> {
        if let Some(reply) = self.own_page(&parts) {
            return reply;
        }
        let asked = self.ask(parts)?;
        let reply = if asked.path().is_system() {
            self.system_read(&asked, caller, false)
        } else {
            self.read(&asked, caller, origin)
        };
        Ok(stamped(
            reply.unwrap_or_else(|problem| refused(&problem).into()),
            &asked.database,
        ))
    }

    /// A page of the door's own, and the target `*`.
    fn own_page(&self, parts: &Parts) -> Option<Result<Reply, Problem>> {
        let path = parts.uri.path();
        if let Some(page) = pages::find(path, self.config.bare_names) {
            return Some(self.page(page, &parts.method).map(Into::into));
        }
        (path == "*").then(|| Ok(allowed(TREE_METHODS).into()))
    }

    /// A value, a stream of its changes, or the demo page.
    fn read(
        self: &Arc<Self>,
        asked: &Asked,
        caller: &Arc<Caller>,
        origin: Option<&HeaderValue>,
    ) -> Result<Reply, Problem> {
        let by_accept = asked.target.ending.is_none();
        if by_accept && asked.accept.prefers("text/event-stream") {
            return match asked.method {
                Method::HEAD => stream::head_alone(asked).map(Into::into),
                _ => stream::open(self, asked, caller, origin),
            };
        }
        if by_accept && asked.path().is_root() && asked.accept.prefers("text/html") {
            return Ok(pages::demo().into());
        }
        read::answer(asked).map(Into::into)
    }

    /// A change of the tree, or a message.
    async fn write(self: &Arc<Self>, asked: Asked, body: &mut Upload) -> Result<Reply, Problem> {
        let children = asked.target.children;
        let methods = if children {
            CHILDREN_METHODS
        } else {
            TREE_METHODS
        };
        match asked.method {
            Method::POST => write::post(self, asked, body).await.map(Into::into),
            Method::OPTIONS => Ok(allowed(methods).into()),
            Method::PUT | Method::PATCH | Method::DELETE if children => {
                Err(Problem::method(methods))
            }
            Method::PUT => write::put(self, &asked, body).await.map(Into::into),
            Method::PATCH => write::patch(self, &asked, body).await.map(Into::into),
            Method::DELETE => write::delete(&asked).await.map(Into::into),
            _ => Err(Problem::method(methods)),
        }
    }

    /// A request for one of the system's paths.
    async fn system(
        self: &Arc<Self>,
        asked: Asked,
        body: &mut Upload,
        caller: &Arc<Caller>,
        upgrade: bool,
    ) -> Result<Reply, Problem> {
        match asked.path().as_str() {
            "/.batch" if asked.method == Method::POST => {
                write::batch(self, &asked, body).await.map(Into::into)
            }
            "/.batch" if asked.method == Method::OPTIONS => Ok(allowed(BATCH_METHODS).into()),
            _ => self.system_read(&asked, caller, upgrade),
        }
    }

    /// What only batches do has been done already.
    fn system_read(
        &self,
        asked: &Asked,
        caller: &Arc<Caller>,
        upgrade: bool,
    ) -> Result<Reply, Problem> {
        match asked.path().as_str() {
            "/.batch" => Err(Problem::method(BATCH_METHODS)),
            "/.echo" if self.config.echo && upgrade => socket::open_echo(self, asked, caller),
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

    fn count(&self, response: &Response<Body>) {
        match response.status().as_u16() {
            500.. => self.counters.server_errors.increment(1),
            400.. => self.counters.client_errors.increment(1),
            _ => self.counters.ok.increment(1),
        }
    }

    /// Counts, logs and completes an answer.
    fn close(&self, reply: Result<Reply, Problem>, closing: Closing, caller: &Caller) -> Reply {
        let mut response = match reply {
            Ok(Reply::Response(response)) => response,
            Ok(takeover @ Reply::Takeover(_)) => {
                self.counters.taken_over.increment(1);
                return takeover;
            }
            Err(problem) => refused(&problem),
        };
        self.count(&response);
        stamp(&mut response, &self.default);
        if closing.head {
            response = respond::without_body(response);
        }
        if closing.ends {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        if let Some(origin) = closing.origin {
            share(response.headers_mut(), origin);
            allow_fields(response.headers_mut(), closing.fields);
        }
        let status = response.status().as_u16();
        if status >= 400 {
            let (method, path) = (closing.method, closing.uri.path());
            let (code, peer, request) = (
                respond::code_of(&response),
                caller.info.peer,
                caller.request(),
            );
            tracing::info!(%method, path, status, code, %peer, connection = caller.info.id, request, "request refused");
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
    counter!("sapwood_http_problems_total", "code" => problem.code()).increment(1);
    respond::problem(problem)
}

/// The database's newest commit, as a stream's head names it.
pub(crate) fn newest(database: &Database) -> Result<String, Problem> {
    let reading = database.read(&anonymous(), &Path::root());
    let denied = |_| write::refused(&sapwood_core::WriteError::Denied { path: Path::root() });
    reading
        .map(|reading| reading.version().to_string())
        .map_err(denied)
}

/// Says the newest commit of the database that was asked, where the answer does not name one itself.
fn stamped(mut reply: Reply, database: &Database) -> Reply {
    if let Reply::Response(response) = &mut reply {
        stamp(response, database);
    }
    reply
}

fn stamp(response: &mut Response<Body>, database: &Database) {
    if !response.headers().contains_key(VERSION)
        && let Ok(reading) = database.read(&anonymous(), &Path::root())
    {
        respond::set(response, VERSION, reading.version().to_string());
    }
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

//! A server in the test's own process, and a client that shows the bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use sapwood_core::{Core, CoreSettings, DatabaseSettings};
use sapwood_http::{Folder, HttpConfig, HttpDoor, Options};
use sapwood_net::Door;
use sapwood_net::http::origin::Policy;
use tokio::sync::oneshot;

/// A server that ends with the test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    drain: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(HttpConfig::default())
    }

    pub(crate) fn with(config: HttpConfig) -> Self {
        Self::of(config, None, Vec::new())
    }

    /// A server of a folder of files, and of more doors.
    pub(crate) fn of(
        config: HttpConfig,
        folder: Option<Arc<Folder>>,
        mut doors: Vec<Arc<dyn Door>>,
    ) -> Self {
        let mut settings = CoreSettings::memory();
        settings.databases = vec![
            DatabaseSettings {
                name: "default".to_owned(),
                declared: vec!["sensors/{id}".to_owned()],
            },
            DatabaseSettings {
                name: "other".to_owned(),
                declared: Vec::new(),
            },
        ];
        let (drain, drained) = oneshot::channel::<()>();
        let (ready, started) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let core = Core::open(settings).unwrap();
                let limits = config.listener_limits();
                let options = Options {
                    address: "127.0.0.1:0".parse().unwrap(),
                    policy: Policy::Loopback,
                    folder,
                    metrics: Box::new(|| "metrics\n".to_owned()),
                };
                let http = HttpDoor::new(core.clone(), config, options).unwrap();
                doors.push(Arc::new(http));
                let bound = sapwood_net::bind(&doors, &limits).unwrap();
                ready.send(bound.addresses().next().unwrap().1).unwrap();
                bound
                    .run(async { drop(drained.await) }, Duration::from_secs(5))
                    .await;
                tokio::task::spawn_blocking(move || core.close())
                    .await
                    .unwrap();
            });
        });
        Self {
            address: started.recv().unwrap(),
            drain: Some(drain),
            thread: Some(thread),
        }
    }

    /// Tells the server to stop, without waiting.
    pub(crate) fn drain(&mut self) {
        drop(self.drain.take());
    }

    pub(crate) fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Client {
            stream,
            read: Vec::new(),
        }
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(&self, method: &str, target: &str, fields: &[&str], body: &[u8]) -> Answer {
        self.connect().ask(method, target, fields, body)
    }

    pub(crate) fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[], b"")
    }

    pub(crate) fn put(&self, target: &str, json: &str) -> Answer {
        self.ask(
            "PUT",
            target,
            &["Content-Type: application/json"],
            json.as_bytes(),
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.drain();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// One connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) read: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn code(&self) -> String {
        let (_, rest) = self
            .text()
            .split_once("\"code\":\"")
            .unwrap_or_else(|| panic!("no problem: {self:?}"));
        rest.split('"').next().unwrap().to_owned()
    }
}

impl Client {
    pub(crate) fn ask(
        &mut self,
        method: &str,
        target: &str,
        fields: &[&str],
        body: &[u8],
    ) -> Answer {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
        for field in fields {
            head.push_str(field);
            head.push_str("\r\n");
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        self.send(format!("{head}\r\n").as_bytes());
        self.send(body);
        self.answer(method == "HEAD")
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Reads on until `end` is there; gives what came before it, and it.
    pub(crate) fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = find(&self.read, end.as_bytes()) {
                let rest = self.read.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap();
            }
            assert!(
                self.more(),
                "the connection ended at {:?}, without {end:?}",
                String::from_utf8_lossy(&self.read)
            );
        }
    }

    pub(crate) fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            assert!(self.more(), "the connection ended");
        }
        let rest = self.read.split_off(length);
        std::mem::replace(&mut self.read, rest)
    }

    /// Everything until the connection ends.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.read)
    }

    fn more(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let n = self.stream.read(&mut bytes).unwrap_or(0);
        self.read.extend_from_slice(&bytes[..n]);
        n > 0
    }

    pub(crate) fn answer(&mut self, head_only: bool) -> Answer {
        let head = self.until("\r\n\r\n");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer {
            status,
            head,
            body: Vec::new(),
        };
        if head_only || status == 204 || status == 304 {
            return answer;
        }
        if let Some(length) = answer.field("content-length") {
            answer.body = self.exactly(length.parse().unwrap());
        } else if answer.field("transfer-encoding").is_some() {
            loop {
                let size = usize::from_str_radix(self.until("\r\n").trim(), 16).unwrap();
                answer.body.extend(self.exactly(size));
                self.until("\r\n");
                if size == 0 {
                    break;
                }
            }
        }
        answer
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

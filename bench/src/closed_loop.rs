//! Many connections from one thread, each with one request under way: the next leaves when the answer is there.

use std::{
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::{exchange::Framing, process};

/// Before each window, so that files, caches and branch predictors are warm.
const WARM_UP: Duration = Duration::from_millis(700);

/// What one window showed.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Operations answered, or deliveries received, in the window.
    pub operations: u64,
    /// How long the window was.
    pub window: Duration,
    /// The server's CPU time in it.
    pub server_cpu: Duration,
    /// The load generator's.
    pub generator_cpu: Duration,
    /// The time from request to answer that half, and 99 of 100, of the operations stayed below.
    pub latency: Option<(Duration, Duration)>,
}

/// The requests that each connection sends in turn, and how to read the answers.
pub struct Load {
    /// Where the server listens.
    pub address: SocketAddr,
    /// Its process.
    pub server: u32,
    /// How answers are framed.
    pub framing: Framing,
    /// For each connection the requests that it goes through, over and over.
    pub requests: Vec<Vec<Vec<u8>>>,
}

impl Load {
    /// Runs the load for a warm-up and one window.
    ///
    /// # Errors
    /// A connection broke, or the server refused something.
    pub fn run(&self, window: Duration) -> Result<Measured> {
        let mut generator = Generator::connect(self)?;
        generator.run_until(Instant::now() + WARM_UP)?;
        generator.latencies.clear();
        let (server, own) = (process::cpu_time(self.server)?, process::own_cpu_time()?);
        let start = Instant::now();
        generator.run_until(start + window)?;
        let window = start.elapsed();
        let server_cpu = process::cpu_time(self.server)? - server;
        let generator_cpu = process::own_cpu_time()? - own;
        Ok(Measured {
            operations: generator.latencies.len() as u64,
            window,
            server_cpu,
            generator_cpu,
            latency: Some(generator.percentiles()),
        })
    }
}

struct Generator<'a> {
    poll: Poll,
    connections: Vec<Connection<'a>>,
    /// In microseconds, one for each operation of the window.
    latencies: Vec<u32>,
}

struct Connection<'a> {
    stream: TcpStream,
    requests: &'a [Vec<u8>],
    next: usize,
    framing: Framing,
    read: Vec<u8>,
    sent: Instant,
}

impl<'a> Generator<'a> {
    fn connect(load: &'a Load) -> Result<Self> {
        let poll = Poll::new()?;
        let mut connections = Vec::new();
        for (i, requests) in load.requests.iter().enumerate() {
            let stream = std::net::TcpStream::connect(load.address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry()
                .register(&mut stream, Token(i), Interest::READABLE)?;
            let mut connection = Connection {
                stream,
                requests,
                next: 0,
                framing: load.framing,
                read: Vec::new(),
                sent: Instant::now(),
            };
            connection.send()?;
            connections.push(connection);
        }
        Ok(Self {
            poll,
            connections,
            latencies: Vec::with_capacity(1 << 22),
        })
    }

    fn run_until(&mut self, deadline: Instant) -> Result<()> {
        let mut events = Events::with_capacity(256);
        loop {
            self.poll
                .poll(&mut events, Some(Duration::from_millis(20)))?;
            let now = Instant::now();
            for event in &events {
                let connection = self
                    .connections
                    .get_mut(event.token().0)
                    .context("no such connection")?;
                connection.receive(now, &mut self.latencies)?;
            }
            // Behind the events: each is told once only.
            if now >= deadline {
                return Ok(());
            }
        }
    }

    fn percentiles(&mut self) -> (Duration, Duration) {
        self.latencies.sort_unstable();
        let at = |share: usize| {
            let index =
                (self.latencies.len() * share / 100).min(self.latencies.len().saturating_sub(1));
            Duration::from_micros(u64::from(self.latencies.get(index).copied().unwrap_or(0)))
        };
        (at(50), at(99))
    }
}

impl Connection<'_> {
    fn send(&mut self) -> Result<()> {
        let request = &self.requests[self.next];
        self.next = (self.next + 1) % self.requests.len();
        self.sent = Instant::now();
        // Small, and the last one is answered: it fits into the socket's buffer.
        let written = self.stream.write(request)?;
        if written < request.len() {
            bail!("a request of {} bytes was cut at {written}", request.len());
        }
        Ok(())
    }

    fn receive(&mut self, now: Instant, latencies: &mut Vec<u32>) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let n = match self.stream.read(&mut buffer) {
                Ok(0) => bail!(
                    "the server closed the connection: {}",
                    String::from_utf8_lossy(&self.read)
                ),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            self.read.extend_from_slice(&buffer[..n]);
            if let Some(length) = self.framing.answer_length(&self.read)? {
                self.read.drain(..length);
                latencies.push(u32::try_from((now - self.sent.min(now)).as_micros())?);
                self.send()?;
            }
            if n < buffer.len() {
                return Ok(());
            }
        }
    }
}

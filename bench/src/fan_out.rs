//! Few publishers, many receivers. Deliveries are counted where they arrive.

use std::{
    io::{ErrorKind, Read},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use memchr::memmem;
use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::{
    closed_loop::Measured,
    exchange::{self, Exchange, Framing},
    process,
};

/// Publishers wait when the slowest receiver is so many deliveries behind: so nothing is dropped or conflated, and
/// both servers do the whole work.
const AHEAD_MAX: u64 = 64;
/// How often it is looked whether they are too far ahead.
const LOOK_EVERY: u64 = 4;
const WARM_UP: Duration = Duration::from_millis(700);

/// How receivers listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Server-sent events: one delivery for each `data:` line.
    Sse,
    /// WebSocket: one delivery for each frame of data.
    WebSocket,
}

impl Stream {
    /// The request that opens such a stream.
    pub fn request(self, path: &str) -> Vec<u8> {
        match self {
            Self::Sse => exchange::sse_request(path),
            Self::WebSocket => exchange::upgrade_request(path),
        }
    }
}

/// Publishers and receivers.
pub struct FanOut {
    /// Where the server listens.
    pub address: SocketAddr,
    /// Its process.
    pub server: u32,
    /// How the receivers listen.
    pub stream: Stream,
    /// The path that they listen at, with its query.
    pub watched: String,
    /// How many there are.
    pub receivers: usize,
    /// How many connections publish at once.
    pub publishers: usize,
    /// The requests that a publisher goes through, over and over.
    pub requests: Vec<Vec<u8>>,
}

impl FanOut {
    /// Publishes at full rate for a warm-up and one window.
    ///
    /// # Errors
    /// A connection broke, or the server refused something.
    pub fn run(&self, window: Duration) -> Result<Measured> {
        let receivers = Receivers::start(self)?;
        let published = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        let measured = std::thread::scope(|scope| {
            let publishers: Vec<_> = (0..self.publishers)
                .map(|number| {
                    let publisher = Publisher {
                        requests: &self.requests,
                        published: &published,
                        receivers: &receivers,
                        stop: &stop,
                    };
                    scope.spawn(move || publisher.run(self.address, number))
                })
                .collect();
            let measured = self.measure(window, &receivers);
            stop.store(true, Ordering::Relaxed);
            for publisher in publishers {
                publisher
                    .join()
                    .map_err(|_| anyhow::anyhow!("a publisher panicked"))??;
            }
            measured
        });
        receivers.stop()?;
        measured
    }

    fn measure(&self, window: Duration, receivers: &Receivers) -> Result<Measured> {
        std::thread::sleep(WARM_UP);
        let (server, own) = (process::cpu_time(self.server)?, process::own_cpu_time()?);
        let (before, start) = (receivers.sum(), Instant::now());
        std::thread::sleep(window);
        let (operations, window) = (receivers.sum() - before, start.elapsed());
        Ok(Measured {
            operations,
            window,
            server_cpu: process::cpu_time(self.server)? - server,
            generator_cpu: process::own_cpu_time()? - own,
            latency: None,
        })
    }
}

/// One connection that publishes, each time when it has the answer to the last one.
struct Publisher<'a> {
    requests: &'a [Vec<u8>],
    published: &'a AtomicU64,
    receivers: &'a Receivers,
    stop: &'a AtomicBool,
}

impl Publisher<'_> {
    fn run(&self, address: SocketAddr, number: usize) -> Result<()> {
        let mut exchange = Exchange::connect(address, Framing::Http)?;
        // Each begins elsewhere, so that no two write the same key at once.
        let from = number * 7 % self.requests.len();
        for request in self.requests.iter().cycle().skip(from) {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            exchange.send(request)?;
            let published = self.published.fetch_add(1, Ordering::Relaxed);
            if published.is_multiple_of(LOOK_EVERY) {
                self.wait_for_receivers()?;
            }
        }
        Ok(())
    }

    fn wait_for_receivers(&self) -> Result<()> {
        while self
            .published
            .load(Ordering::Relaxed)
            .saturating_sub(self.receivers.slowest())
            > AHEAD_MAX
            && !self.stop.load(Ordering::Relaxed)
        {
            if self.receivers.ended.load(Ordering::Relaxed) {
                bail!("a receiver lost its stream");
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        Ok(())
    }
}

struct Receivers {
    counts: Arc<Vec<AtomicU64>>,
    stop: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Receivers {
    fn start(fan_out: &FanOut) -> Result<Self> {
        let poll = Poll::new()?;
        let mut receivers = Vec::new();
        for i in 0..fan_out.receivers {
            let (stream, behind) =
                exchange::open_stream(fan_out.address, &fan_out.stream.request(&fan_out.watched))?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry()
                .register(&mut stream, Token(i), Interest::READABLE)?;
            let mut counter = Counter::new(fan_out.stream);
            counter.count(&behind);
            receivers.push((stream, counter));
        }
        let counts: Arc<Vec<AtomicU64>> =
            Arc::new((0..fan_out.receivers).map(|_| AtomicU64::new(0)).collect());
        let (stop, ended) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let thread = std::thread::spawn({
            let (counts, stop, ended) = (counts.clone(), stop.clone(), ended.clone());
            move || {
                let result = receive(poll, receivers, &counts, &stop);
                ended.store(true, Ordering::Relaxed);
                result
            }
        });
        // The first state, where there is one, is not counted.
        std::thread::sleep(Duration::from_millis(200));
        for count in counts.iter() {
            count.store(0, Ordering::Relaxed);
        }
        Ok(Self {
            counts,
            stop,
            ended,
            thread,
        })
    }

    fn sum(&self) -> u64 {
        self.counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    fn slowest(&self) -> u64 {
        self.counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .min()
            .unwrap_or(0)
    }

    fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow::anyhow!("the receivers panicked"))?
    }
}

fn receive(
    mut poll: Poll,
    mut receivers: Vec<(TcpStream, Counter)>,
    counts: &[AtomicU64],
    stop: &AtomicBool,
) -> Result<()> {
    let mut events = Events::with_capacity(256);
    let mut buffer = vec![0; 64 * 1024];
    while !stop.load(Ordering::Relaxed) {
        poll.poll(&mut events, Some(Duration::from_millis(20)))?;
        for event in &events {
            let i = event.token().0;
            let (stream, counter) = receivers.get_mut(i).context("no such receiver")?;
            loop {
                let n = match stream.read(&mut buffer) {
                    Ok(0) => bail!("the server ended a stream"),
                    Ok(n) => n,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                };
                counts[i].fetch_add(counter.count(&buffer[..n]), Ordering::Relaxed);
                if n < buffer.len() {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Counts deliveries in a stream that arrives in pieces.
enum Counter {
    /// The last bytes of the piece before, in which a `data:` may have begun.
    Sse { carry: Vec<u8> },
    /// The bytes of a frame's head so far, and how many of its payload are to come.
    WebSocket { head: Vec<u8>, left: u64 },
}

const DATA: &[u8] = b"\ndata:";

impl Counter {
    fn new(stream: Stream) -> Self {
        match stream {
            Stream::Sse => Self::Sse {
                carry: b"\n".to_vec(),
            },
            Stream::WebSocket => Self::WebSocket {
                head: Vec::new(),
                left: 0,
            },
        }
    }

    fn count(&mut self, bytes: &[u8]) -> u64 {
        match self {
            Self::Sse { carry } => count_lines(carry, bytes),
            Self::WebSocket { head, left } => count_frames(head, left, bytes),
        }
    }
}

fn count_lines(carry: &mut Vec<u8>, bytes: &[u8]) -> u64 {
    carry.extend_from_slice(&bytes[..bytes.len().min(DATA.len() - 1)]);
    let across = memmem::find_iter(carry, DATA).count();
    let inside = memmem::find_iter(bytes, DATA).count();
    if bytes.len() >= DATA.len() - 1 {
        carry.clear();
        carry.extend_from_slice(&bytes[bytes.len() - (DATA.len() - 1)..]);
    } else {
        let keep = carry.len().saturating_sub(DATA.len() - 1);
        carry.drain(..keep);
    }
    (across + inside) as u64
}

/// RFC 6455, 5.2; a server's frames are not masked.
fn count_frames(head: &mut Vec<u8>, left: &mut u64, mut bytes: &[u8]) -> u64 {
    let mut frames = 0;
    loop {
        let skipped = bytes
            .len()
            .min(usize::try_from(*left).unwrap_or(usize::MAX));
        *left -= skipped as u64;
        bytes = &bytes[skipped..];
        let Some((&byte, behind)) = bytes.split_first() else {
            return frames;
        };
        head.push(byte);
        bytes = behind;
        let length = match (head.len(), head.get(1).map(|byte| byte & 0x7f)) {
            (2, Some(length @ 0..=125)) => u64::from(length),
            (4, Some(126)) => u64::from(u16::from_be_bytes([head[2], head[3]])),
            (10, Some(127)) => head[2..10]
                .iter()
                .fold(0, |sum, &byte| sum << 8 | u64::from(byte)),
            _ => continue,
        };
        // Text, binary; neither pings nor a close.
        frames += u64::from(matches!(head[0] & 0x0f, 1 | 2));
        *left = length;
        head.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_in_pieces(stream: Stream, bytes: &[u8]) -> Vec<u64> {
        (1..bytes.len())
            .map(|size| {
                let mut counter = Counter::new(stream);
                bytes.chunks(size).map(|piece| counter.count(piece)).sum()
            })
            .collect()
    }

    #[test]
    fn events_are_counted_wherever_the_stream_is_cut() {
        let text = b"data: 1\nid: 7\n\n: comment\n\nid: 8\ndata: \"data:\"\n\ndata: 3\n\n";
        assert!(count_in_pieces(Stream::Sse, text).iter().all(|&n| n == 3));
    }

    #[test]
    fn frames_are_counted_wherever_the_stream_is_cut() {
        let mut bytes = vec![0x81, 3, b'a', b'b', b'c', 0x89, 0, 0x82, 126, 0, 200];
        bytes.extend([1; 200]);
        bytes.extend([0x81, 0]);
        assert!(
            count_in_pieces(Stream::WebSocket, &bytes)
                .iter()
                .all(|&n| n == 3)
        );
    }
}

//! Publishers with their receivers, all on one thread: a publisher goes on when what it has sent has arrived, but for a window.

use std::{
    net::SocketAddr,
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use mio::{Events, Poll};

use super::{
    client::{self, Client, Counting, Opening, READ_BYTES},
    wire::Publish,
};
use crate::{closed_loop::Measured, process};

const WARM_UP: Duration = Duration::from_millis(700);

/// With nothing arriving for so long, something is lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a publisher sends.
#[derive(Debug, Clone)]
pub enum Sends {
    /// These packets, over and over.
    Packets(Vec<Publish>),
    /// These bytes (Redis).
    Bytes(Vec<u8>),
}

/// A publisher, and who hears it.
#[derive(Debug, Clone)]
pub struct Flow {
    pub publisher: Opening,
    pub sends: Sends,
    /// Its receivers, by their places.
    pub receivers: Range<usize>,
    /// How many messages it may be ahead of the slowest of them, and of its acknowledgements.
    pub window: u64,
    /// Its packets are acknowledged.
    pub acknowledged: bool,
    /// Each message goes to one of the receivers only.
    pub to_one: bool,
}

/// A load on a server.
#[derive(Debug, Clone)]
pub struct Load {
    pub address: SocketAddr,
    pub server: u32,
    pub counting: Counting,
    pub receivers: Vec<Opening>,
    pub flows: Vec<Flow>,
}

impl Load {
    /// Publishes at full rate for a warm-up and one window. Operations are deliveries, or acknowledgements where nobody
    /// receives.
    ///
    /// # Errors
    /// A connection broke, or a message did not arrive.
    pub fn run(&self, window: Duration) -> Result<Measured> {
        let mut running = Running::start(self)?;
        running.run_until(Instant::now() + WARM_UP)?;
        let (server, own) = (process::cpu_time(self.server)?, process::own_cpu_time()?);
        let (before, start) = (running.operations(), Instant::now());
        running.run_until(start + window)?;
        let window = start.elapsed();
        Ok(Measured {
            operations: running.operations() - before,
            window,
            server_cpu: process::cpu_time(self.server)? - server,
            generator_cpu: process::own_cpu_time()? - own,
            latency: None,
        })
    }

    /// Publishes so many messages of each flow, and waits until they have arrived.
    ///
    /// # Errors
    /// As [`Load::run`].
    pub fn publish(&self, messages: u64) -> Result<()> {
        let mut running = Running::start(self)?;
        running.most = messages;
        while !running.is_done() {
            running.turn()?;
        }
        Ok(())
    }
}

struct Running<'a> {
    load: &'a Load,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    /// Receivers, then publishers.
    clients: Vec<Client>,
    published: Vec<u64>,
    /// Messages that each flow may send in all.
    most: u64,
    seen: (u64, Instant),
}

impl<'a> Running<'a> {
    fn start(load: &'a Load) -> Result<Self> {
        let poll = Poll::new()?;
        let mut clients = Vec::new();
        let publishers = load.flows.iter().map(|flow| &flow.publisher);
        for opening in load.receivers.iter().chain(publishers) {
            let stream = match load.counting {
                Counting::Mqtt => client::open(load.address, opening)?,
                Counting::Bytes(_) => super::redis::open(load.address, opening)?,
            };
            let token = clients.len();
            clients.push(Client::new(stream, load.counting, poll.registry(), token)?);
        }
        Ok(Self {
            load,
            poll,
            events: Events::with_capacity(1024),
            buffer: vec![0; READ_BYTES + (1 << 20)],
            clients,
            published: vec![0; load.flows.len()],
            most: u64::MAX,
            seen: (0, Instant::now()),
        })
    }

    fn operations(&self) -> u64 {
        let (receivers, publishers) = self.clients.split_at(self.load.receivers.len());
        if receivers.is_empty() {
            publishers.iter().map(|client| client.acknowledged).sum()
        } else {
            receivers.iter().map(|client| client.received).sum()
        }
    }

    fn run_until(&mut self, deadline: Instant) -> Result<()> {
        while Instant::now() < deadline {
            self.turn()?;
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<()> {
        self.pump()?;
        self.poll
            .poll(&mut self.events, Some(Duration::from_millis(20)))?;
        for event in &self.events {
            let client = &mut self.clients[event.token().0];
            if event.is_writable() {
                client.flush()?;
            }
            if event.is_readable() {
                client.read(&mut self.buffer)?;
            }
        }
        self.watch_progress()
    }

    fn watch_progress(&mut self) -> Result<()> {
        let operations = self.operations();
        if operations != self.seen.0 {
            self.seen = (operations, Instant::now());
        }
        ensure!(
            self.seen.1.elapsed() < PATIENCE || self.is_done(),
            "messages are missing: {operations} came of {:?} sent",
            self.published.iter().sum::<u64>()
        );
        Ok(())
    }

    fn is_done(&self) -> bool {
        (0..self.load.flows.len())
            .all(|index| self.published[index] == self.most && self.arrived(index) >= self.most)
    }

    /// How many of a flow's messages are through.
    fn arrived(&self, index: usize) -> u64 {
        let flow = &self.load.flows[index];
        let receivers = self.clients[flow.receivers.clone()].iter();
        let counts = receivers.map(|client| client.received);
        let received = if flow.receivers.is_empty() {
            u64::MAX
        } else if flow.to_one {
            counts.sum()
        } else {
            counts.min().unwrap_or(u64::MAX)
        };
        let publisher = &self.clients[self.load.receivers.len() + index];
        if flow.acknowledged {
            received.min(publisher.acknowledged)
        } else {
            received
        }
    }

    /// Lets each publisher send what it may, in one write.
    fn pump(&mut self) -> Result<()> {
        for index in 0..self.load.flows.len() {
            let flow = &self.load.flows[index];
            let published = self.published[index];
            let may = self
                .arrived(index)
                .saturating_add(flow.window)
                .min(self.most);
            // By halves: one write for many, whichever server it is.
            if may <= published || (may - published < flow.window / 2 && may < self.most) {
                continue;
            }
            let publisher = &mut self.clients[self.load.receivers.len() + index];
            for number in published..may {
                match &flow.sends {
                    Sends::Bytes(bytes) => publisher.out().extend_from_slice(bytes),
                    Sends::Packets(packets) => {
                        let Some(packet) = packets.get(number as usize % packets.len()) else {
                            bail!("nothing to send");
                        };
                        packet.append((number % 60_000) as u16 + 1, publisher.out());
                    }
                }
            }
            publisher.flush()?;
            self.published[index] = may;
        }
        Ok(())
    }
}

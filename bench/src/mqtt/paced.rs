//! A fixed rate: publishers send by the clock, and each message says when it left.

use std::{
    io::Write,
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use mio::{Events, Poll};

use super::{
    client::{self, Client, Counting, Opening, READ_BYTES},
    wire::Publish,
};
use crate::{closed_loop::Measured, process};

const WARM_UP: Duration = Duration::from_millis(700);

/// A load that does not wait for answers.
#[derive(Debug, Clone)]
pub struct Paced {
    pub address: std::net::SocketAddr,
    pub server: u32,
    pub receivers: Vec<Opening>,
    /// They send in turn.
    pub publishers: Vec<(Opening, Publish)>,
    /// Messages in a second, of all publishers together.
    pub rate: u32,
    /// How many receivers each message has.
    pub copies: u64,
}

impl Paced {
    /// Publishes for a warm-up and one window.
    ///
    /// # Errors
    /// A connection broke, or messages are missing at the end.
    pub fn run(&self, window: Duration) -> Result<Measured> {
        let poll = Poll::new()?;
        let mut clients = Vec::new();
        for opening in &self.receivers {
            let stream = client::open(self.address, opening)?;
            let token = clients.len();
            clients.push(Client::new(stream, Counting::Mqtt, poll.registry(), token)?);
        }
        let mut publishers = Vec::new();
        for (opening, publish) in &self.publishers {
            let stream = client::open(self.address, opening)?;
            // Acknowledgements are read where all else is. Small packets are taken at once, or the rate is too high.
            let reading = stream.try_clone()?;
            let token = clients.len();
            clients.push(Client::new(
                reading,
                Counting::Mqtt,
                poll.registry(),
                token,
            )?);
            publishers.push((stream, publish));
        }
        let base = Instant::now();
        for client in &mut clients {
            client.stamped = Some((base, Vec::with_capacity(1 << 16)));
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| send(publishers, self.rate, base, &stop));
            let measured = self.measure(poll, &mut clients, window);
            stop.store(true, Ordering::Relaxed);
            let sent = sending
                .join()
                .map_err(|_| anyhow::anyhow!("a publisher panicked"))?;
            sent.and(measured)
        })
    }

    fn measure(
        &self,
        mut poll: Poll,
        clients: &mut [Client],
        window: Duration,
    ) -> Result<Measured> {
        let mut buffer = vec![0; READ_BYTES + (1 << 20)];
        read_until(&mut poll, clients, &mut buffer, Instant::now() + WARM_UP)?;
        let mut before = 0;
        for client in clients.iter_mut() {
            before += client.received;
            if let Some((_, took)) = &mut client.stamped {
                took.clear();
            }
        }
        let (server, own) = (process::cpu_time(self.server)?, process::own_cpu_time()?);
        let start = Instant::now();
        read_until(&mut poll, clients, &mut buffer, start + window)?;
        let window = start.elapsed();
        let (server_cpu, generator_cpu) = (
            process::cpu_time(self.server)? - server,
            process::own_cpu_time()? - own,
        );
        let operations = clients.iter().map(|client| client.received).sum::<u64>() - before;
        let asked = window.as_secs_f64() * f64::from(self.rate) * self.copies as f64;
        ensure!(
            operations as f64 > asked * 0.95,
            "{operations} deliveries of {asked:.0}: it does not keep up"
        );
        let mut took: Vec<u32> = clients
            .iter_mut()
            .filter_map(|client| client.stamped.take())
            .flat_map(|(_, took)| took)
            .collect();
        took.sort_unstable();
        let at = |share: usize| {
            let micros = took.get(took.len() * share / 100).copied().unwrap_or(0);
            Duration::from_micros(micros.into())
        };
        Ok(Measured {
            operations,
            window,
            server_cpu,
            generator_cpu,
            latency: Some((at(50), at(99))),
        })
    }
}

fn read_until(
    poll: &mut Poll,
    clients: &mut [Client],
    buffer: &mut [u8],
    deadline: Instant,
) -> Result<()> {
    let mut events = Events::with_capacity(1024);
    while Instant::now() < deadline {
        poll.poll(&mut events, Some(Duration::from_millis(20)))?;
        for event in &events {
            if event.is_readable() {
                clients[event.token().0].read(buffer)?;
            }
        }
    }
    Ok(())
}

fn send(
    mut publishers: Vec<(TcpStream, &Publish)>,
    rate: u32,
    base: Instant,
    stop: &AtomicBool,
) -> Result<()> {
    let start = Instant::now();
    let mut packet = Vec::new();
    for number in 0_u64.. {
        let due = start + Duration::from_nanos(number * 1_000_000_000 / u64::from(rate));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let turn = number as usize % publishers.len();
        let (stream, publish) = &mut publishers[turn];
        packet.clear();
        publish.append((number % 60_000) as u16 + 1, &mut packet);
        let now = base.elapsed().as_nanos() as u64;
        packet[publish.payload..publish.payload + 8].copy_from_slice(&now.to_be_bytes());
        stream.write_all(&packet)?;
    }
    Ok(())
}

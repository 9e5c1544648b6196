//! One connection of the load generator: it counts what comes, and acknowledges it.

use std::{
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use mio::{Interest, Registry, Token, net::TcpStream};

use super::wire;

/// What is read at a time.
pub const READ_BYTES: usize = 256 << 10;

/// How a connection begins.
#[derive(Debug, Clone, Default)]
pub struct Opening {
    pub client_id: String,
    /// Its session is kept.
    pub kept: bool,
    pub filters: Vec<String>,
    pub qos: u8,
}

/// Connects, subscribes, and waits for both answers. What the subscription brings with it stays to be read.
///
/// # Errors
/// The server refused it.
pub fn open(address: SocketAddr, opening: &Opening) -> Result<std::net::TcpStream> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(&wire::connect(&opening.client_id, !opening.kept))?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).context("no CONNACK")?;
    ensure!(connack[3] == 0, "refused: {connack:?}");
    // As many filters as go into a packet everywhere.
    for filters in opening.filters.chunks(100) {
        stream.write_all(&wire::subscribe(filters, opening.qos))?;
        let suback = read_packet(&mut stream).context("no SUBACK")?;
        let granted = suback.get(suback.len() - filters.len()..);
        ensure!(
            suback[0] == 0x90 && granted.is_some_and(|all| all.iter().all(|&qos| qos < 0x80)),
            "not subscribed: {suback:?}"
        );
    }
    Ok(stream)
}

fn read_packet(stream: &mut std::net::TcpStream) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while wire::first(&bytes).is_none() {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        bytes.push(byte[0]);
    }
    Ok(bytes)
}

/// How what comes is counted.
#[derive(Debug, Clone, Copy)]
pub enum Counting {
    Mqtt,
    /// Each delivery is so many bytes (Redis).
    Bytes(u64),
}

/// A connection.
pub struct Client {
    stream: TcpStream,
    counting: Counting,
    /// The beginning of a packet whose end has not come.
    carry: Vec<u8>,
    out: Vec<u8>,
    bytes: u64,
    /// Messages that have come.
    pub received: u64,
    /// Messages whose last acknowledgement has come.
    pub acknowledged: u64,
    /// When the times in the payloads count from; how long each took, in microseconds.
    pub stamped: Option<(Instant, Vec<u32>)>,
}

impl Client {
    pub fn new(
        stream: std::net::TcpStream,
        counting: Counting,
        registry: &Registry,
        token: usize,
    ) -> Result<Self> {
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, Token(token), interest)?;
        Ok(Self {
            stream,
            counting,
            carry: Vec::new(),
            out: Vec::new(),
            bytes: 0,
            received: 0,
            acknowledged: 0,
            stamped: None,
        })
    }

    /// What is to be sent; [`Client::flush`] sends it.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Sends what the server takes.
    pub fn flush(&mut self) -> Result<()> {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(written) => drop(self.out.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads what has come, and answers it. `buffer` is longer than [`READ_BYTES`] by what a packet may take.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<()> {
        loop {
            let held = self.carry.len();
            buffer[..held].copy_from_slice(&self.carry);
            let room = &mut buffer[held..held + READ_BYTES];
            let (n, full) = match self.stream.read(room) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(n) => (n, n == room.len()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            };
            match self.counting {
                Counting::Bytes(each) => {
                    self.bytes += n as u64;
                    self.received = self.bytes / each;
                }
                Counting::Mqtt => {
                    let bytes = &buffer[..held + n];
                    let done = self.scan(bytes)?;
                    self.carry.clear();
                    self.carry.extend_from_slice(&bytes[done..]);
                }
            }
            if !full {
                break;
            }
        }
        self.flush()
    }

    /// Goes through whole packets: where they end.
    fn scan(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut at = 0;
        while let Some((first, body, end)) = wire::first(&bytes[at..]) {
            self.take(first, &bytes[at + body..at + end])?;
            at += end;
        }
        Ok(at)
    }

    fn take(&mut self, first: u8, body: &[u8]) -> Result<()> {
        let id = |at: usize| [body[at], body[at + 1]];
        match first >> 4 {
            3 => self.delivered(first, body),
            4 | 7 => self.acknowledged += 1,
            5 => wire::acknowledge(0x62, id(0), &mut self.out),
            6 => wire::acknowledge(0x70, id(0), &mut self.out),
            13 => {}
            _ => bail!("not expected: {first:#x} {body:?}"),
        }
        Ok(())
    }

    fn delivered(&mut self, first: u8, body: &[u8]) {
        self.received += 1;
        let qos = first >> 1 & 3;
        let id = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
        let mut payload = id;
        if qos > 0 {
            payload += 2;
            let answer = if qos == 1 { 0x40 } else { 0x50 };
            wire::acknowledge(answer, [body[id], body[id + 1]], &mut self.out);
        }
        if let Some((since, took)) = &mut self.stamped
            && let Some(stamp) = body.get(payload..).and_then(|rest| rest.first_chunk())
        {
            let sent = Duration::from_nanos(u64::from_be_bytes(*stamp));
            let micros = since.elapsed().saturating_sub(sent).as_micros();
            took.push(u32::try_from(micros).unwrap_or(u32::MAX));
        }
    }
}

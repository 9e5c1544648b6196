//! Just enough of HTTP, RESP and WebSocket to send requests and to know where an answer ends.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use memchr::memmem;

/// How answers are framed.
#[derive(Debug, Clone, Copy)]
pub enum Framing {
    /// HTTP/1.1 with `Content-Length`, or an answer that has no body.
    Http,
    /// Redis: one line.
    Resp,
}

impl Framing {
    /// The length of the first answer in `bytes`, if it is there whole.
    ///
    /// # Errors
    /// The answer is an error, or of a shape that we don't measure.
    pub fn answer_length(self, bytes: &[u8]) -> Result<Option<usize>> {
        match self {
            Self::Http => http_answer_length(bytes),
            Self::Resp => resp_answer_length(bytes),
        }
    }
}

fn resp_answer_length(bytes: &[u8]) -> Result<Option<usize>> {
    if bytes.first() == Some(&b'-') {
        bail!("refused: {}", String::from_utf8_lossy(bytes));
    }
    Ok(memmem::find(bytes, b"\r\n").map(|end| end + 2))
}

fn http_answer_length(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = &bytes[..end + 2];
    let status = head.get(9..12).unwrap_or_default();
    if !status.starts_with(b"2") {
        bail!("refused: {}", String::from_utf8_lossy(bytes));
    }
    let body = if status == b"204" {
        0
    } else {
        content_length(head)?
    };
    let length = end + 4 + body;
    Ok((bytes.len() >= length).then_some(length))
}

fn content_length(head: &[u8]) -> Result<usize> {
    let line = head
        .split(|&byte| byte == b'\n')
        .find(|line| line.len() > 15 && line[..15].eq_ignore_ascii_case(b"content-length:"))
        .with_context(|| format!("no length: {}", String::from_utf8_lossy(head)))?;
    Ok(std::str::from_utf8(&line[15..])?.trim().parse()?)
}

/// A request with a JSON body.
pub fn write_request(method: &str, path: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A request without a body.
pub fn read_request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n")
        .into_bytes()
}

/// A request for server-sent events.
pub fn sse_request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        .into_bytes()
}

/// A WebSocket upgrade. The key is the one of RFC 6455, 1.3: nobody checks ours.
pub fn upgrade_request(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}

/// A blocking connection for one exchange after the other.
pub struct Exchange {
    stream: TcpStream,
    framing: Framing,
    read: Vec<u8>,
}

impl Exchange {
    /// # Errors
    /// Nobody listens there.
    pub fn connect(address: SocketAddr, framing: Framing) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self {
            stream,
            framing,
            read: Vec::new(),
        })
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// The connection broke, or the answer is an error.
    pub fn send(&mut self, request: &[u8]) -> Result<Vec<u8>> {
        self.stream.write_all(request)?;
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some(length) = self.framing.answer_length(&self.read)? {
                return Ok(self.read.drain(..length).collect());
            }
            match self.stream.read(&mut buffer)? {
                0 => bail!("the server closed the connection"),
                n => self.read.extend_from_slice(&buffer[..n]),
            }
        }
    }
}

/// Opens a stream that never ends: sends `request`, reads the head, and hands out the socket with what came behind.
///
/// # Errors
/// The connection broke, or the answer is no stream.
pub fn open_stream(address: SocketAddr, request: &[u8]) -> Result<(TcpStream, Vec<u8>)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(request)?;
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(end) = memmem::find(&read, b"\r\n\r\n") {
            if !read.starts_with(b"HTTP/1.1 200") && !read.starts_with(b"HTTP/1.1 101") {
                bail!("refused: {}", String::from_utf8_lossy(&read));
            }
            return Ok((stream, read.split_off(end + 4)));
        }
        match stream.read(&mut buffer)? {
            0 => bail!("the server closed the connection"),
            n => read.extend_from_slice(&buffer[..n]),
        }
    }
}

//! A blocking HTTP/1.1 client of a few lines, so that tests need no other crate and see the bytes as they are.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail};

/// No answer takes this long; a test that waits longer has failed.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// One connection, used for one request after the other.
pub struct Client {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case, values as they came.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text; what is no UTF-8 shows as such.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        Ok(Self {
            address,
            stream: BufReader::new(stream),
        })
    }

    /// Sends one request and reads its answer.
    ///
    /// # Errors
    /// The connection broke, or what came is no answer.
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response> {
        self.send(method, target, headers, body)?;
        self.response(method == "HEAD")
    }

    /// GET.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn get(&mut self, target: &str) -> Result<Response> {
        self.request("GET", target, &[], b"")
    }

    /// PUT of JSON.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn put(&mut self, target: &str, json: &str) -> Result<Response> {
        self.request(
            "PUT",
            target,
            &[("Content-Type", "application/json")],
            json.as_bytes(),
        )
    }

    /// Sends bytes as they are: for what no client should send.
    ///
    /// # Errors
    /// The connection broke.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.get_mut().write_all(bytes)?)
    }

    /// Reads the next answer.
    ///
    /// # Errors
    /// The connection broke, or what came is no answer.
    pub fn response(&mut self, without_body: bool) -> Result<Response> {
        let (status, headers) = self.head()?;
        let mut response = Response {
            status,
            headers,
            body: Vec::new(),
        };
        if !without_body && status != 204 && status != 304 && status >= 200 {
            response.body = self.body(&response)?;
        }
        Ok(response)
    }

    /// Opens a stream of events with GET; the connection is its own from then on.
    ///
    /// # Errors
    /// The server refused.
    pub fn events(mut self, target: &str, headers: &[(&str, &str)]) -> Result<EventStream> {
        let mut all = vec![("Accept", "text/event-stream")];
        all.extend_from_slice(headers);
        self.send("GET", target, &all, b"")?;
        let (status, headers) = self.head()?;
        if status != 200 {
            bail!("an event stream was refused with {status}");
        }
        let chunked = headers
            .iter()
            .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        Ok(EventStream {
            client: self,
            chunked,
            buffered: Vec::new(),
        })
    }

    fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<()> {
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || matches!(method, "PUT" | "POST" | "PATCH") {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        let mut bytes = (request + "\r\n").into_bytes();
        bytes.extend_from_slice(body);
        self.send_raw(&bytes)
    }

    fn head(&mut self) -> Result<(u16, Vec<(String, String)>)> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.with_context(|| format!("no status in {line:?}"))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok((status, headers));
            }
            let (name, value) = line
                .split_once(':')
                .with_context(|| format!("no header: {line:?}"))?;
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
    }

    fn body(&mut self, response: &Response) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        if response
            .header("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
        {
            while let Some(chunk) = self.chunk()? {
                body.extend_from_slice(&chunk);
            }
        } else if let Some(length) = response.header("content-length") {
            body.resize(length.parse()?, 0);
            self.stream.read_exact(&mut body)?;
        } else {
            self.stream.read_to_end(&mut body)?;
        }
        Ok(body)
    }

    /// One chunk of a chunked body; none at its end.
    fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        let size = self.line()?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16)?;
        let mut chunk = vec![0; size];
        self.stream.read_exact(&mut chunk)?;
        self.line()?;
        Ok((size > 0).then_some(chunk))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the server closed the connection");
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

/// A stream of server-sent events.
pub struct EventStream {
    client: Client,
    chunked: bool,
    buffered: Vec<u8>,
}

impl EventStream {
    /// The next block as it was sent, without the empty line that ends it.
    ///
    /// # Errors
    /// The stream ended, or nothing came for thirty seconds.
    pub fn block(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.buffered.windows(2).position(|two| two == b"\n\n") {
                let block = self.buffered.drain(..end + 2).collect::<Vec<_>>();
                return Ok(String::from_utf8_lossy(&block[..end]).into_owned());
            }
            let more = if self.chunked {
                self.client.chunk()?
            } else {
                self.some_bytes()?
            };
            self.buffered
                .extend_from_slice(&more.context("the stream ended")?);
        }
    }

    /// The `data:` of the next block that has any.
    ///
    /// # Errors
    /// As [`EventStream::block`].
    pub fn data(&mut self) -> Result<String> {
        loop {
            let block = self.block()?;
            let data: Vec<_> = block
                .lines()
                .filter_map(|line| line.strip_prefix("data:"))
                .map(str::trim)
                .collect();
            if !data.is_empty() {
                return Ok(data.join("\n"));
            }
        }
    }

    fn some_bytes(&mut self) -> Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; 4096];
        let read = self.client.stream.read(&mut bytes)?;
        bytes.truncate(read);
        Ok((read > 0).then_some(bytes))
    }
}

//! A strict look at the framing of HTTP/1.1 requests, ahead of the parser.
//!
//! hyper takes what RFC 9112 lets a lenient recipient take: bare LF, a length beside chunked, the same
//! length twice. Two servers in a row that read such a message differently are what request smuggling
//! lives on, so none of it gets as far as hyper.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use memchr::memchr;

/// Why the bytes of a connection are no acceptable request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A line that does not end in CR LF (RFC 9112, 2.2).
    BareLf,
    /// White space between a field name and its colon (5.1), or a folded line (5.2).
    Space,
    /// More than one `Content-Length` (6.3).
    TwoLengths,
    /// `Content-Length` beside `Transfer-Encoding` (6.1).
    LengthAndChunked,
    /// A `Content-Length` that is no decimal number (6.3).
    BadLength,
    /// A `Transfer-Encoding` other than `chunked`, or more than one (6.1).
    BadEncoding,
    /// A chunk that breaks the grammar (7.1).
    BadChunk,
    /// The request line and fields are too long, or too many.
    HeadTooLarge,
    /// The head took too long to arrive.
    HeadTimeout,
}

impl Refusal {
    /// The status to answer with.
    pub fn status(self) -> u16 {
        match self {
            Self::HeadTooLarge => 431,
            Self::HeadTimeout => 408,
            Self::BareLf | Self::Space | Self::TwoLengths | Self::LengthAndChunked => 400,
            Self::BadLength | Self::BadEncoding | Self::BadChunk => 400,
        }
    }

    /// A stable word for metrics and problem documents.
    pub fn code(self) -> &'static str {
        match self {
            Self::HeadTooLarge => "head_too_large",
            Self::HeadTimeout => "head_timeout",
            Self::BareLf | Self::Space | Self::TwoLengths | Self::LengthAndChunked => "bad_framing",
            Self::BadLength | Self::BadEncoding | Self::BadChunk => "bad_framing",
        }
    }

    /// One sentence that is safe to show.
    pub fn detail(self) -> &'static str {
        match self {
            Self::BareLf => "A line of the request ends in LF without CR.",
            Self::Space => "A field of the request has space before its colon, or is folded.",
            Self::TwoLengths => "The request has more than one Content-Length.",
            Self::LengthAndChunked => "The request has both Content-Length and Transfer-Encoding.",
            Self::BadLength => "The request's Content-Length is not a decimal number.",
            Self::BadEncoding => "The request's Transfer-Encoding is not just chunked.",
            Self::BadChunk => "The request's chunked body is malformed.",
            Self::HeadTooLarge => {
                "The request line and fields are too long, or there are too many of them."
            }
            Self::HeadTimeout => "The request line and fields took too long to arrive.",
        }
    }
}

/// Follows the requests of one connection.
#[derive(Debug)]
pub struct Framing {
    state: State,
    head: Head,
    /// A line of which only the beginning has arrived.
    line: Vec<u8>,
    head_bytes_max: usize,
    fields_max: usize,
}

/// What the current head has said so far.
#[derive(Debug, Default)]
struct Head {
    bytes: usize,
    lines: usize,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the request line or the fields.
    Head,
    /// In a body, or in a chunk's data, with so many bytes to come.
    Body(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailer,
    /// The client asked for another protocol: what follows is not for us to judge.
    Opaque,
}

impl Framing {
    /// Follows a new connection, whose heads have at most so many bytes and fields.
    pub fn new(head_bytes_max: usize, fields_max: usize) -> Self {
        Self {
            state: State::Head,
            head: Head::default(),
            line: Vec::new(),
            head_bytes_max,
            fields_max,
        }
    }

    /// Whether a request's head has begun and not ended.
    pub fn is_in_head(&self) -> bool {
        self.state == State::Head && self.head.bytes > 0
    }

    /// Whether the next byte begins a request.
    pub fn is_between(&self) -> bool {
        self.state == State::Head && self.head.bytes == 0
    }

    /// Looks at the next `bytes` of the connection.
    ///
    /// # Errors
    /// [`Refusal`], with the number of bytes before the request that is refused.
    pub fn check(&mut self, bytes: &[u8]) -> Result<(), (usize, Refusal)> {
        let mut rest = bytes;
        let mut whole = 0; // bytes of requests that are complete, or began in an earlier call
        while !rest.is_empty() {
            if self.is_between() {
                whole = bytes.len() - rest.len();
            }
            rest = self.step(rest).map_err(|refusal| (whole, refusal))?;
        }
        Ok(())
    }

    /// Takes one line, or one piece of a body, off the front.
    fn step<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Refusal> {
        match self.state {
            State::Opaque => Ok(&[]),
            State::Body(left) => Ok(self.skip(bytes, left, State::Body, State::Head)),
            State::ChunkData(left) => Ok(self.skip(bytes, left, State::ChunkData, State::ChunkEnd)),
            State::Head | State::Trailer | State::ChunkSize | State::ChunkEnd => {
                self.take_line(bytes)
            }
        }
    }

    fn skip<'a>(
        &mut self,
        bytes: &'a [u8],
        left: u64,
        more: impl Fn(u64) -> State,
        done: State,
    ) -> &'a [u8] {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let left = left - here as u64;
        self.state = if left == 0 { done } else { more(left) };
        bytes.get(here..).unwrap_or_default()
    }

    fn take_line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Refusal> {
        let end = memchr(b'\n', bytes).map(|at| at + 1);
        let (piece, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        self.count(piece.len())?;
        if end.is_none() {
            self.line.extend_from_slice(piece);
            return Ok(rest);
        }
        if self.line.is_empty() {
            self.whole_line(piece)?;
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(piece);
            self.whole_line(&line)?;
        }
        Ok(rest)
    }

    fn count(&mut self, bytes: usize) -> Result<(), Refusal> {
        const CHUNK_LINE_BYTES_MAX: usize = 256;
        let max = match self.state {
            State::ChunkSize | State::ChunkEnd => CHUNK_LINE_BYTES_MAX,
            _ => self.head_bytes_max,
        };
        self.head.bytes = self.head.bytes.saturating_add(bytes);
        if self.head.bytes > max {
            Err(Refusal::HeadTooLarge)
        } else {
            Ok(())
        }
    }

    fn whole_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let Some(line) = line.strip_suffix(b"\r\n") else {
            return Err(Refusal::BareLf);
        };
        match self.state {
            State::Head => self.head_line(line),
            State::Trailer if line.is_empty() => {
                self.next(State::Head);
                Ok(())
            }
            State::Trailer => self.field(line),
            State::ChunkSize => self.chunk_size(line),
            State::ChunkEnd if line.is_empty() => {
                self.head.bytes = 0;
                self.state = State::ChunkSize;
                Ok(())
            }
            State::ChunkEnd => Err(Refusal::BadChunk),
            State::Body(_) | State::ChunkData(_) | State::Opaque => Ok(()),
        }
    }

    fn next(&mut self, state: State) {
        self.state = state;
        self.head = Head::default();
    }

    fn head_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        if self.head.lines == 0 {
            // Empty lines before a request are skipped (2.2); the request line itself is hyper's to judge.
            self.head.lines = usize::from(!line.is_empty());
            return Ok(());
        }
        if !line.is_empty() {
            self.head.lines += 1;
            return if self.head.lines > self.fields_max + 1 {
                Err(Refusal::HeadTooLarge)
            } else {
                self.field(line)
            };
        }
        let head = std::mem::take(&mut self.head);
        self.state = match (head.upgrade, head.chunked, head.length) {
            (true, _, _) => State::Opaque,
            (false, true, Some(_)) => return Err(Refusal::LengthAndChunked),
            (false, true, None) => State::ChunkSize,
            (false, false, None | Some(0)) => State::Head,
            (false, false, Some(length)) => State::Body(length),
        };
        Ok(())
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let Some(colon) = memchr(b':', line) else {
            return Err(Refusal::Space);
        };
        let (name, value) = line.split_at(colon);
        if name.first().is_none_or(u8::is_ascii_whitespace)
            || name.last().is_none_or(u8::is_ascii_whitespace)
        {
            return Err(Refusal::Space);
        }
        if self.state == State::Trailer {
            return Ok(()); // it says nothing about framing any more
        }
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => self.length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.encoding(value),
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.head.upgrade = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.head.length.is_some() || value.contains(&b',') {
            return Err(Refusal::TwoLengths);
        }
        self.head.length = Some(number(value, 10).ok_or(Refusal::BadLength)?);
        Ok(())
    }

    fn encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.head.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::BadEncoding);
        }
        self.head.chunked = true;
        Ok(())
    }

    fn chunk_size(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let size = line
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default()
            .trim_ascii_end();
        let size = number(size, 16).ok_or(Refusal::BadChunk)?;
        self.next(if size == 0 {
            State::Trailer
        } else {
            State::ChunkData(size)
        });
        Ok(())
    }
}

/// Digits and nothing else: no sign, no space.
fn number(text: &[u8], radix: u32) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = !text.is_empty() && text.chars().all(|digit| digit.is_digit(radix));
    digits
        .then(|| u64::from_str_radix(text, radix).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(bytes: &[u8]) -> Result<bool, Refusal> {
        let mut framing = Framing::new(64 * 1024, 100);
        framing.check(bytes).map_err(|(_, refusal)| refusal)?;
        Ok(framing.is_between())
    }

    fn refused(head: &str, refusal: Refusal) {
        let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n");
        assert_eq!(check(bytes.as_bytes()), Err(refusal), "{head:?}");
    }

    #[test]
    fn shapes_that_two_servers_may_read_differently_are_refused() {
        refused(
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            Refusal::TwoLengths,
        );
        refused("Content-Length: 1, 1\r\n", Refusal::TwoLengths);
        refused(
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            Refusal::LengthAndChunked,
        );
        refused(
            "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
            Refusal::LengthAndChunked,
        );
        refused(
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            Refusal::BadEncoding,
        );
        refused("Transfer-Encoding: gzip, chunked\r\n", Refusal::BadEncoding);
        refused("Transfer-Encoding : chunked\r\n", Refusal::Space);
        refused("A: b\r\n c\r\n", Refusal::Space);
        refused("Content-Length: +1\r\n", Refusal::BadLength);
        refused("Content-Length: 1 2\r\n", Refusal::BadLength);
        refused("A: b\nB: c\r\n", Refusal::BareLf);
    }

    #[test]
    fn requests_follow_each_other() {
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let put = "PUT /a HTTP/1.1\r\ncontent-length: 4\r\n\r\n\n\n\n\n";
        let chunked = "PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\n\n\n\n\r\n0\r\nTrailer: x\r\n\r\n";
        assert_eq!(
            check(format!("{get}{put}{chunked}\r\n{get}{put}").as_bytes()),
            Ok(true)
        );
        assert_eq!(check(&put.as_bytes()[..put.len() - 1]), Ok(false));
    }

    #[test]
    fn what_came_before_the_refused_request_is_let_through() {
        let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let bytes = [get.as_slice(), b"GET / HTTP/1.1\nHost: a\n\n"].concat();
        assert_eq!(
            Framing::new(1000, 10).check(&bytes),
            Err((get.len(), Refusal::BareLf))
        );
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for body in [
            "x\r\n",
            "-1\r\n",
            "1\na",
            "1\r\naa\r\n",
            "\r\n",
            "11111111111111111\r\n",
        ] {
            let bytes = format!("PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
            assert!(check(bytes.as_bytes()).is_err(), "{body:?}");
        }
    }

    #[test]
    fn a_head_that_never_ends_is_refused_in_time() {
        let mut framing = Framing::new(1000, 10);
        let refused = (0..1001).map(|_| framing.check(b"a")).find_map(Result::err);
        assert_eq!(refused, Some((0, Refusal::HeadTooLarge)));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(11));
        assert_eq!(
            Framing::new(1000, 10).check(many.as_bytes()),
            Err((0, Refusal::HeadTooLarge))
        );
    }

    #[test]
    fn after_an_upgrade_nothing_is_judged() {
        assert_eq!(
            check(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n\n\n\x00"),
            Ok(false)
        );
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_makes_no_difference(
            text in "(GET / HTTP/1.1\r\n|Content-Length: 3\r\n|Transfer-Encoding: chunked\r\n|\r\n|\n|3\r\n|0\r\n|abc|a: b\r\n){0,12}",
            cuts in proptest::collection::vec(1_usize..9, 0..20),
        ) {
            let bytes = text.as_bytes();
            let whole = Framing::new(200, 5).check(bytes).map_err(|(_, refusal)| refusal);
            let mut framing = Framing::new(200, 5);
            let mut rest = bytes;
            let mut pieces = Ok(());
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces = pieces.and_then(|()| framing.check(piece).map_err(|(_, refusal)| refusal));
                rest = after;
            }
            prop_assert_eq!(whole, pieces);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _checked = Framing::new(100, 5).check(&bytes);
        }
    }
}

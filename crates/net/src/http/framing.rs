//! A strict look at HTTP/1.1 requests, ahead of the parser.
//!
//! hyper takes what RFC 9112 lets a lenient recipient take: bare LF, a length beside chunked, the same
//! length twice. Two servers in a row that read such a message differently are what request smuggling
//! lives on, so none of it gets as far as hyper. Nor does what hyper would refuse without a word of why.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use memchr::{memchr, memrchr};

pub use super::refusal::Refusal;

/// Follows the requests of one connection.
#[derive(Debug)]
pub struct Framing {
    state: State,
    head: Head,
    /// A head has arrived whole.
    begun: bool,
    /// The client asked for another protocol: what follows its request is not for us to judge.
    upgraded: bool,
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
    /// HTTP/1.0.
    old: bool,
    length: Option<u64>,
    chunked: bool,
    upgrade: Upgrade,
}

/// What a head's `Upgrade` asks for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Upgrade {
    #[default]
    Nothing,
    /// Something that is not there: the request is answered as if it had not asked.
    Other,
    WebSocket,
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
    /// Behind a request that asked for another protocol.
    Opaque,
}

impl Framing {
    /// Follows a new connection, whose heads have at most so many bytes and fields.
    pub fn new(head_bytes_max: usize, fields_max: usize) -> Self {
        Self {
            state: State::Head,
            head: Head::default(),
            begun: false,
            upgraded: false,
            line: Vec::new(),
            head_bytes_max,
            fields_max,
        }
    }

    /// Whether a request's head has begun and not ended.
    pub fn is_in_head(&self) -> bool {
        self.state == State::Head && self.head.bytes > 0
    }

    /// Whether a head has arrived whole on this connection.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether the next byte is one of a chunked body's own lines.
    pub fn is_in_chunks(&self) -> bool {
        matches!(
            self.state,
            State::ChunkSize | State::ChunkEnd | State::Trailer
        )
    }

    /// Looks at the next `bytes` of the connection. Gives how many of them, from the first, are not part of a head that has
    /// not ended yet, and whether the rest may go on.
    ///
    /// After a refusal the connection has no meaning any more.
    pub fn check(&mut self, bytes: &[u8]) -> (usize, Result<(), Refusal>) {
        let mut rest = bytes;
        let mut good = 0;
        while !rest.is_empty() {
            if !self.is_in_head() {
                good = bytes.len() - rest.len();
            }
            match self.step(rest) {
                Ok(after) => rest = after,
                Err(refusal) => return (good, Err(refusal)),
            }
        }
        let all = !self.is_in_head();
        (if all { bytes.len() } else { good }, Ok(()))
    }

    /// Takes one line, or one piece of a body, off the front.
    fn step<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Refusal> {
        match self.state {
            State::Opaque => Ok(&[]),
            State::Body(left) => Ok(self.skip(bytes, left, State::Body, self.behind())),
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
        self.beginning(piece)?;
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

    /// What is no request at all (TLS, most often) is not waited for.
    fn beginning(&self, piece: &[u8]) -> Result<(), Refusal> {
        let begins = self.state == State::Head && self.head.lines == 0 && self.line.is_empty();
        let bad = |byte: &u8| !is_token_byte(*byte) && !matches!(byte, b'\r' | b'\n');
        if begins && piece.first().is_some_and(bad) {
            return Err(Refusal::Method);
        }
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<(), Refusal> {
        const CHUNK_LINE_BYTES_MAX: usize = 256;
        let max = match self.state {
            State::ChunkSize | State::ChunkEnd => CHUNK_LINE_BYTES_MAX,
            _ => self.head_bytes_max,
        };
        self.head.bytes = self.head.bytes.saturating_add(bytes);
        match self.state {
            _ if self.head.bytes <= max => Ok(()),
            State::Head if self.head.lines == 0 => Err(Refusal::TargetTooLong),
            State::ChunkSize | State::ChunkEnd => Err(Refusal::BadChunk),
            _ => Err(Refusal::HeadTooLarge),
        }
    }

    fn whole_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let Some(line) = line.strip_suffix(b"\r\n") else {
            return Err(Refusal::BareLf);
        };
        match self.state {
            State::Head => self.head_line(line),
            State::Trailer if line.is_empty() => {
                self.next(self.behind());
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

    /// What follows a request that has ended.
    fn behind(&self) -> State {
        if self.upgraded {
            State::Opaque
        } else {
            State::Head
        }
    }

    fn next(&mut self, state: State) {
        self.state = state;
        self.head = Head::default();
    }

    fn head_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        if self.head.lines == 0 {
            // Empty lines before a request are skipped (2.2).
            if !line.is_empty() {
                self.head.lines = 1;
                self.head.old = request_line(line)?;
            }
            return Ok(());
        }
        if !line.is_empty() {
            self.head.lines += 1;
            return if self.head.lines > self.fields_max + 1 {
                Err(Refusal::TooManyFields)
            } else {
                self.field(line)
            };
        }
        let head = std::mem::take(&mut self.head);
        self.begun = true;
        self.upgraded = head.upgrade != Upgrade::Nothing;
        let has_body = head.chunked || head.length.is_some_and(|length| length > 0);
        self.state = match (head.chunked, head.length) {
            (true, Some(_)) => return Err(Refusal::LengthAndChunked),
            (true, None) if head.old => return Err(Refusal::BadEncoding),
            // Its bytes would be read as frames.
            _ if head.upgrade == Upgrade::WebSocket && has_body => {
                return Err(Refusal::UpgradeBody);
            }
            (true, None) => State::ChunkSize,
            (false, None | Some(0)) => self.behind(),
            (false, Some(length)) => State::Body(length),
        };
        Ok(())
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Refusal> {
        if line.first().is_none_or(u8::is_ascii_whitespace) {
            return Err(Refusal::Space);
        }
        let colon = memchr(b':', line).ok_or(Refusal::FieldName)?;
        let (name, value) = line.split_at(colon);
        if name.last().is_some_and(u8::is_ascii_whitespace) {
            return Err(Refusal::Space);
        }
        if name.is_empty() || !name.iter().all(|byte| is_token_byte(*byte)) {
            return Err(Refusal::FieldName);
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(Refusal::HeadTooLarge);
        }
        if value.iter().any(|byte| is_control(*byte)) {
            return Err(Refusal::FieldValue);
        }
        if self.state == State::Trailer {
            return Ok(()); // it says nothing about framing any more
        }
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => self.length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.encoding(value),
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                let asked = upgrade(value);
                self.head.upgrade = self.head.upgrade.max(asked);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.head.length.is_some() || value.contains(&b',') {
            return Err(Refusal::TwoLengths);
        }
        let length = number(value, 10).filter(|length| length >> 63 == 0);
        self.head.length = Some(length.ok_or(Refusal::BadLength)?);
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

/// What a list of protocols asks for.
fn upgrade(list: &[u8]) -> Upgrade {
    let asks = list
        .split(|byte| *byte == b',')
        .any(|name| name.trim_ascii().eq_ignore_ascii_case(b"websocket"));
    if asks {
        Upgrade::WebSocket
    } else {
        Upgrade::Other
    }
}

/// The longest target and the longest name of a field that the parser takes.
const TARGET_BYTES_MAX: usize = 65_534;
const NAME_BYTES_MAX: usize = 65_535;

/// Reads `method target version` (3); whether the version is 1.0.
fn request_line(line: &[u8]) -> Result<bool, Refusal> {
    let end = memchr(b' ', line).unwrap_or(line.len());
    let (method, rest) = line.split_at(end);
    if method.is_empty() || !method.iter().all(|byte| is_token_byte(*byte)) {
        return Err(Refusal::Method);
    }
    let rest = rest.get(1..).unwrap_or_default();
    let (target, version) = rest.split_at(memrchr(b' ', rest).ok_or(Refusal::NoVersion)?);
    let old = match version {
        b" HTTP/1.1" => false,
        b" HTTP/1.0" => true,
        [b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Refusal::Version);
        }
        _ => return Err(Refusal::NoVersion),
    };
    if target.len() > TARGET_BYTES_MAX {
        return Err(Refusal::TargetTooLong);
    }
    check_target(target, method).map(|()| old)
}

/// The forms of 3.2, but that of CONNECT: nothing is tunnelled here.
fn check_target(target: &[u8], method: &[u8]) -> Result<(), Refusal> {
    let is_plain = target.iter().all(|byte| is_plain(*byte));
    if !is_plain
        && target
            .iter()
            .any(|byte| matches!(byte, 0..=b' ' | b'#' | b'<' | b'>' | 0x7f))
    {
        return Err(Refusal::TargetByte);
    }
    match target {
        b"*" if method == b"OPTIONS" => Ok(()),
        [b'/', ..] if is_plain => Ok(()),
        // What is neither plain nor forbidden is the parser's to judge: some clients do not escape a brace, say.
        [b'/', ..] => http::Uri::try_from(target)
            .map(drop)
            .map_err(|_| Refusal::TargetByte),
        _ if has_scheme(target) && http::Uri::try_from(target).is_ok() => Ok(()),
        _ => Err(Refusal::TargetForm),
    }
}

fn has_scheme(target: &[u8]) -> bool {
    [&b"http://"[..], b"https://"].iter().any(|scheme| {
        target
            .get(..scheme.len())
            .is_some_and(|front| front.eq_ignore_ascii_case(scheme))
    })
}

/// A byte that stands for itself in a path and in a query, whoever reads it.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b'!' | b'$'..=b';' | b'=' | b'?'..=b'Z' | b'_' | b'a'..=b'z' | b'~')
}

/// A byte of a token (RFC 9110, 5.6.2).
const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

const fn is_control(byte: u8) -> bool {
    byte < b' ' && byte != b'\t' || byte == 0x7f
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
        framing.check(bytes).1?;
        Ok(framing.state == State::Head && !framing.is_in_head())
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
        refused(
            "Content-Length: 18446744073709551615\r\n",
            Refusal::BadLength,
        );
        refused(
            "Upgrade: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            Refusal::LengthAndChunked,
        );
        assert_eq!(
            check(b"PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Err(Refusal::BadEncoding)
        );
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
            (get.len(), Err(Refusal::BareLf))
        );
    }

    #[test]
    fn a_head_that_has_not_ended_is_not_let_through() {
        let mut framing = Framing::new(1000, 10);
        assert_eq!(framing.check(b"GET / HTTP/1.1\r\n"), (0, Ok(())));
        assert!(framing.is_in_head() && !framing.has_begun());
        let rest = b"\r\nPUT / HTTP/1.1\r\nContent-Length: 2\r\n\r\na";
        assert_eq!(framing.check(rest), (rest.len(), Ok(())));
        assert!(!framing.is_in_head() && framing.has_begun());
        assert_eq!(framing.check(b"bGET /"), (1, Ok(())));
    }

    #[test]
    fn a_request_line_is_a_method_a_target_and_a_version() {
        let refusal = |line: &[u8]| check(&[line, b"\r\nHost: a\r\n\r\n"].concat()).err();
        for good in [
            "GET / HTTP/1.1",
            "GET / HTTP/1.0",
            "M-SEARCH /a?b==c{}|\u{e4} HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            "GET http://a:1/b HTTP/1.1",
            "GET HTTPS://a HTTP/1.1",
        ] {
            assert_eq!(refusal(good.as_bytes()), None, "{good}");
        }
        for (line, expected) in [
            ("G@T / HTTP/1.1", Refusal::Method),
            ("GET\u{1} / HTTP/1.1", Refusal::Method),
            (" / HTTP/1.1", Refusal::Method),
            ("\u{16}\u{3}\u{1}", Refusal::Method),
            ("HELLO", Refusal::NoVersion),
            ("GET /", Refusal::NoVersion),
            ("GET / http/1.1", Refusal::NoVersion),
            ("GET / HTTP/1.1 ", Refusal::NoVersion),
            ("GET / HTTP/11.1", Refusal::NoVersion),
            ("GET / HTTP/1.2", Refusal::Version),
            ("GET / HTTP/9.9", Refusal::Version),
            ("PRI * HTTP/2.0", Refusal::Version),
            ("GET /a b HTTP/1.1", Refusal::TargetByte),
            ("GET  / HTTP/1.1", Refusal::TargetByte),
            ("GET /a\tb HTTP/1.1", Refusal::TargetByte),
            ("GET /a\0 HTTP/1.1", Refusal::TargetByte),
            ("GET /<a> HTTP/1.1", Refusal::TargetByte),
            ("GET /a#b HTTP/1.1", Refusal::TargetByte),
            ("GET /\u{7f} HTTP/1.1", Refusal::TargetByte),
            ("GET ok HTTP/1.1", Refusal::TargetForm),
            ("GET  HTTP/1.1", Refusal::TargetForm),
            ("GET ?a HTTP/1.1", Refusal::TargetForm),
            ("GET * HTTP/1.1", Refusal::TargetForm),
            ("GET ftp://a/ HTTP/1.1", Refusal::TargetForm),
            ("GET http:///a HTTP/1.1", Refusal::TargetForm),
            ("GET http://[::1/ HTTP/1.1", Refusal::TargetForm),
            ("CONNECT a:1 HTTP/1.1", Refusal::TargetForm),
        ] {
            assert_eq!(refusal(line.as_bytes()), Some(expected), "{line:?}");
        }
        assert_eq!(refusal(b"GET /\xe4 HTTP/1.1"), Some(Refusal::TargetByte));
    }

    #[test]
    fn what_is_no_field_is_refused() {
        refused("A: b\0\r\n", Refusal::FieldValue);
        refused("A: b\rc\r\n", Refusal::FieldValue);
        refused("A: b\u{7f}\r\n", Refusal::FieldValue);
        refused("A(: b\r\n", Refusal::FieldName);
        refused("\u{e4}: b\r\n", Refusal::FieldName);
        refused(": b\r\n", Refusal::FieldName);
        refused("A\r\n", Refusal::FieldName);
        assert_eq!(
            check("GET / HTTP/1.1\r\nA:\tb \u{e4}\r\n\r\n".as_bytes()),
            Ok(true)
        );
    }

    #[test]
    fn what_is_no_request_is_not_waited_for() {
        assert_eq!(check(b"\x16\x03\x01"), Err(Refusal::Method));
        assert_eq!(check(b"\r"), Ok(false));
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
        let endless = |bytes: &[u8]| {
            let mut framing = Framing::new(1000, 10);
            framing.check(bytes).1.unwrap();
            (0..1001).find_map(|_| framing.check(b"a").1.err())
        };
        assert_eq!(endless(b""), Some(Refusal::TargetTooLong));
        assert_eq!(endless(b"GET / HTTP/1.1\r\na"), Some(Refusal::HeadTooLarge));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(11));
        assert_eq!(
            Framing::new(1000, 10).check(many.as_bytes()),
            (0, Err(Refusal::TooManyFields))
        );
    }

    #[test]
    fn after_an_upgrade_nothing_is_judged() {
        for upgrade in ["Upgrade: websocket", "Upgrade: h2c\r\nContent-Length: 1"] {
            let bytes = format!("GET / HTTP/1.1\r\n{upgrade}\r\n\r\n\n\n\n\0");
            assert_eq!(check(bytes.as_bytes()), Ok(false), "{upgrade}");
        }
    }

    #[test]
    fn a_request_for_a_websocket_has_no_body() {
        for fields in [
            "Upgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 1\r\nupgrade: h2c, WebSocket\r\n",
            "Upgrade: websocket\r\nUpgrade: h2c\r\nContent-Length: 1\r\n",
        ] {
            refused(fields, Refusal::UpgradeBody);
        }
        refused(
            "Upgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            Refusal::BadChunk,
        );
        assert_eq!(
            check(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n"),
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
            let whole = Framing::new(200, 5).check(bytes).1;
            let mut framing = Framing::new(200, 5);
            let mut rest = bytes;
            let mut pieces = Ok(());
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces = pieces.and_then(|()| framing.check(piece).1);
                rest = after;
            }
            prop_assert_eq!(whole, pieces);
        }

        #[test]
        fn what_is_let_through_is_nothing_that_the_parser_refuses(
            method in "[A-Z!#a(\\x00]{1,3}",
            target in prop_oneof!["/[ -~\u{e4}]{0,4}(\\?[ -~\u{e4}]{0,4})?", "(http|ftp)://[ -~]{0,6}"],
            name in "[!-9;-~]{1,2}",
            value in "[\\x00-\u{e4}]{0,4}",
        ) {
            let bytes = format!("{method} {target} HTTP/1.1\r\n{name}: {value}\r\n\r\n");
            if Framing::new(1000, 5).check(bytes.as_bytes()).1.is_ok() {
                prop_assert!(http::Method::from_bytes(method.as_bytes()).is_ok());
                prop_assert!(http::Uri::try_from(target.as_bytes()).is_ok());
                prop_assert!(http::HeaderName::try_from(name).is_ok());
                prop_assert!(http::HeaderValue::try_from(value).is_ok());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _checked = Framing::new(100, 5).check(&bytes);
        }
    }
}

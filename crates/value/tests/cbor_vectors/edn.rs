//! As much of CBOR's diagnostic notation (RFC 8949, 8) as the vectors use; commas are optional there.

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Edn {
    Null,
    Undefined,
    Bool(bool),
    Simple(u8),
    Int(i128),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Array(Vec<Self>),
    Map(Vec<(Self, Self)>),
    Tag(u64, Box<Self>),
}

impl Edn {
    pub(crate) fn member(&self, name: &str) -> Option<&Self> {
        let Self::Map(entries) = self else {
            return None;
        };
        entries
            .iter()
            .find(|(key, _)| *key == Self::Text(name.into()))
            .map(|(_, value)| value)
    }
}

pub(crate) fn parse(text: &str) -> Edn {
    let mut parser = Parser { rest: text };
    let item = parser.item();
    parser.space();
    assert!(
        parser.rest.is_empty(),
        "more behind the item: {:.40}",
        parser.rest
    );
    item
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    /// Skips what says nothing: space, commas, comments, and the mark of an open length.
    fn space(&mut self) {
        loop {
            self.rest = self
                .rest
                .trim_start_matches(|c: char| c.is_whitespace() || c == ',' || c == '_');
            let Some(comment) = self.rest.strip_prefix('#') else {
                return;
            };
            self.rest = comment.trim_start_matches(|c| c != '\n');
        }
    }

    fn eat(&mut self, token: &str) -> bool {
        self.space();
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, token: &str) {
        assert!(self.eat(token), "no `{token}` at {:.40}", self.rest);
    }

    fn item(&mut self) -> Edn {
        if self.eat("[") {
            return Edn::Array(self.until("]", Self::item));
        }
        if self.eat("{") {
            return Edn::Map(self.until("}", Self::entry));
        }
        if self.eat("(") {
            return self
                .until(")", Self::item)
                .into_iter()
                .reduce(joined)
                .unwrap();
        }
        if self.eat("h'") {
            return self.bytes();
        }
        if self.rest.starts_with('"') {
            return self.text();
        }
        self.word()
    }

    fn until<T>(&mut self, close: &str, one: fn(&mut Self) -> T) -> Vec<T> {
        let mut all = Vec::new();
        while !self.eat(close) {
            all.push(one(self));
        }
        all
    }

    fn entry(&mut self) -> (Edn, Edn) {
        let key = self.item();
        self.expect(":");
        (key, self.item())
    }

    fn bytes(&mut self) -> Edn {
        let (digits, rest) = self.rest.split_once('\'').unwrap();
        self.rest = rest;
        let digits: Vec<char> = digits.chars().filter(|c| !c.is_whitespace()).collect();
        let byte =
            |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
        Edn::Bytes(digits.chunks(2).map(byte).collect())
    }

    /// A string is spelled as JSON spells it.
    fn text(&mut self) -> Edn {
        let mut strings = serde_json::Deserializer::from_str(self.rest).into_iter::<String>();
        let text = strings.next().unwrap().unwrap();
        self.rest = &self.rest[strings.byte_offset()..];
        Edn::Text(text)
    }

    fn word(&mut self) -> Edn {
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
        let (word, rest): (&'a str, &'a str) = self.rest.split_at(end);
        self.rest = rest;
        match word {
            "null" => Edn::Null,
            "undefined" => Edn::Undefined,
            "true" => Edn::Bool(true),
            "false" => Edn::Bool(false),
            "NaN" => Edn::Float(f64::NAN),
            "Infinity" => Edn::Float(f64::INFINITY),
            "-Infinity" => Edn::Float(f64::NEG_INFINITY),
            "simple" => self.simple(),
            number => self.number(number),
        }
    }

    fn simple(&mut self) -> Edn {
        self.expect("(");
        let Edn::Int(n) = self.item() else {
            panic!("a simple value is a number")
        };
        self.expect(")");
        Edn::Simple(n.try_into().unwrap())
    }

    fn number(&mut self, word: &str) -> Edn {
        let (sign, digits) = word
            .strip_prefix('-')
            .map_or((1, word), |digits| (-1, digits));
        if let Some(digits) = digits.strip_prefix("0x") {
            return Edn::Int(sign * i128::from_str_radix(digits, 16).unwrap());
        }
        if digits.contains(['.', 'e']) {
            return Edn::Float(word.parse().unwrap());
        }
        let number: i128 = word
            .parse()
            .unwrap_or_else(|_| panic!("no number: {word:?} at {:.40}", self.rest));
        if !self.rest.starts_with('(') {
            return Edn::Int(number);
        }
        self.expect("(");
        let inner = self.item();
        self.expect(")");
        Edn::Tag(number.try_into().unwrap(), Box::new(inner))
    }
}

/// Two chunks of a string.
fn joined(a: Edn, b: Edn) -> Edn {
    match (a, b) {
        (Edn::Text(a), Edn::Text(b)) => Edn::Text(a + &b),
        (Edn::Bytes(a), Edn::Bytes(b)) => Edn::Bytes([a, b].concat()),
        (a, b) => panic!("no chunks: {a:?}, {b:?}"),
    }
}

//! The text of a query.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use sapwood_value::{Text, Value};

use super::{By, Node, QueryError, QueryErrorKind as Kind, QueryLimits, Term, Test, number};

/// How deep groups may lie in one another.
const DEPTH_MAX: usize = 16;

/// The name of the value itself.
const ITSELF: &str = ".value";

pub(super) fn parse(text: &str, limits: &QueryLimits) -> Result<Node, QueryError> {
    if text.len() > limits.bytes_max {
        return Err(QueryError {
            at: limits.bytes_max,
            kind: Kind::TooLong(limits.bytes_max),
        });
    }
    let mut parser = Parser {
        text,
        at: 0,
        terms: 0,
        terms_max: limits.terms_max,
    };
    let node = parser.list(0)?;
    match parser.peek() {
        None => Ok(node),
        Some(_) => Err(parser.error(Kind::Unexpected)),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    terms: usize,
    terms_max: usize,
}

/// A condition as it stands in the text.
struct Condition<'a> {
    at: usize,
    name: &'a str,
    comparison: &'a str,
    value: &'a str,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.rest().bytes().next()
    }

    fn error(&self, kind: Kind) -> QueryError {
        QueryError { at: self.at, kind }
    }

    /// Conditions and groups with `&` or `|` between them.
    fn list(&mut self, depth: usize) -> Result<Node, QueryError> {
        let mut nodes = vec![self.item(depth, None)?];
        let Some(joint @ (b'&' | b'|')) = self.peek() else {
            return Ok(nodes.swap_remove(0));
        };
        while let Some(next @ (b'&' | b'|')) = self.peek() {
            if next != joint {
                return Err(self.error(Kind::Mixed));
            }
            self.at += 1;
            let before = match nodes.last() {
                Some(Node::Term(term)) if joint == b'&' => Some(term),
                _ => None,
            };
            let node = self.item(depth, before)?;
            nodes.push(node);
        }
        Ok(if joint == b'&' {
            Node::All(nodes)
        } else {
            Node::Any(nodes)
        })
    }

    /// A group or a condition, behind `before`.
    fn item(&mut self, depth: usize, before: Option<&Term>) -> Result<Node, QueryError> {
        let close = match self.peek() {
            Some(b'(') => b')',
            Some(b'[') => b']',
            Some(_) => return self.condition(before).map(Node::Term),
            None => return Err(self.error(Kind::Unexpected)),
        };
        if depth >= DEPTH_MAX {
            return Err(self.error(Kind::TooDeep(DEPTH_MAX)));
        }
        let open = self.at;
        self.at += 1;
        let node = self.list(depth + 1)?;
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(node)
            }
            None => Err(QueryError {
                at: open,
                kind: Kind::Unclosed,
            }),
            Some(_) => Err(self.error(Kind::Unexpected)),
        }
    }

    fn condition(&mut self, before: Option<&Term>) -> Result<Term, QueryError> {
        let rest = self.rest();
        let end = rest.find(['&', '|', '(', ')', '[', ']']);
        let (text, behind) = rest
            .split_at_checked(end.unwrap_or(rest.len()))
            .unwrap_or((rest, ""));
        if behind.starts_with(['(', '[']) {
            return Err(match text {
                "select" => self.error(Kind::NotYet("select(…)")),
                "limit" => self.error(Kind::NotYet("limit(…)")),
                "sort" => self.error(Kind::NotYet("sort(…)")),
                _ => self.error(Kind::Unexpected),
            });
        }
        if text.is_empty() {
            return Err(self.error(Kind::Unexpected));
        }
        self.terms += 1;
        if self.terms > self.terms_max {
            return Err(self.error(Kind::TooMany(self.terms_max)));
        }
        let condition = self.split(text)?;
        self.at += text.len();
        condition.term(before)
    }

    fn split(&self, text: &'a str) -> Result<Condition<'a>, QueryError> {
        let missing = || self.error(Kind::NoComparison);
        let at = text.find(['=', '!']).ok_or_else(missing)?;
        let (name, rest) = text.split_at_checked(at).ok_or_else(missing)?;
        if name.is_empty() {
            return Err(missing());
        }
        let length = match rest.as_bytes() {
            [b'!', b'=', b'=', ..] | [b'=', b'=', b'=', ..] => 3,
            [b'!', b'=', ..] | [b'=', b'=', ..] => 2,
            [b'=', a, b, b'=', ..] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => 4,
            [b'=', ..] => 1,
            _ => return Err(missing()),
        };
        let (comparison, value) = rest.split_at_checked(length).ok_or_else(missing)?;
        Ok(Condition {
            at: self.at,
            name,
            comparison,
            value,
        })
    }
}

impl Condition<'_> {
    fn error(&self, kind: Kind) -> QueryError {
        QueryError { at: self.at, kind }
    }

    fn term(&self, before: Option<&Term>) -> Result<Term, QueryError> {
        if let Some((by, names)) = self.other_end(before) {
            let test = self.ordered(by)?;
            return Ok(Term {
                names,
                test,
                negated: false,
            });
        }
        let names = self.names()?;
        let (test, negated) = match self.comparison {
            "=" | "===" => (Test::Says(self.text(self.value)?), false),
            "!==" => (Test::Says(self.text(self.value)?), true),
            "==" => (self.equal()?, false),
            "!=" | "=ne=" => (self.equal()?, true),
            "=lt=" => (self.ordered(By::Less)?, false),
            "=le=" => (self.ordered(By::AtMost)?, false),
            "=gt=" => (self.ordered(By::Greater)?, false),
            "=ge=" => (self.ordered(By::AtLeast)?, false),
            "=ct=" => (Test::Contains(self.text(self.value)?), false),
            "=sw=" => (Test::StartsWith(self.text(self.value)?), false),
            "=ew=" => (Test::EndsWith(self.text(self.value)?), false),
            other => {
                let name = other.trim_matches('=').to_owned();
                return Err(self.error(Kind::Comparison(name)));
            }
        };
        Ok(Term {
            names,
            test,
            negated,
        })
    }

    /// The second half of `price=gt=10&lt=40`, where the name is left out.
    fn other_end(&self, before: Option<&Term>) -> Option<(By, Vec<Text>)> {
        let before = before?;
        let Test::Ordered(first, _) = before.test else {
            return None;
        };
        let by = match (first, self.name) {
            (By::Greater | By::AtLeast, "lt") => By::Less,
            (By::Greater | By::AtLeast, "le") => By::AtMost,
            (By::Less | By::AtMost, "gt") => By::Greater,
            (By::Less | By::AtMost, "ge") => By::AtLeast,
            _ => return None,
        };
        (self.comparison == "=").then(|| (by, before.names.clone()))
    }

    fn names(&self) -> Result<Vec<Text>, QueryError> {
        if self.name == ITSELF {
            return Ok(Vec::new());
        }
        let one = |name| match self.text(name)? {
            name if name.is_empty() => Err(self.error(Kind::NoComparison)),
            name => Ok(name),
        };
        self.name.split('.').map(one).collect()
    }

    /// A test for the value, of the type that it looks like; with a star at the end for what begins so.
    fn equal(&self) -> Result<Test, QueryError> {
        match self.value.strip_suffix('*') {
            Some(start) => self.text(start).map(Test::StartsWith),
            None => self.typed().map(Test::Is),
        }
    }

    fn ordered(&self, by: By) -> Result<Test, QueryError> {
        let value = self.typed()?;
        if value.is_number() || value.as_str().is_some() {
            Ok(Test::Ordered(by, value))
        } else {
            Err(self.error(Kind::Order))
        }
    }

    /// The value, of the type that its prefix says, or that it looks like.
    fn typed(&self) -> Result<Value, QueryError> {
        let text = self.text(self.value)?;
        let (prefix, said) = text.split_once(':').unwrap_or(("", &text));
        let missing = |what| self.error(Kind::Value(what));
        match prefix {
            "string" => Ok(said.into()),
            "number" => number(said).ok_or_else(|| missing("number behind number:")),
            "boolean" => truth(said).ok_or_else(|| missing("true or false behind boolean:")),
            "date" => Err(self.error(Kind::NotYet("date:"))),
            _ if &*text == "null" => Ok(Value::Null),
            _ => Ok(truth(&text)
                .or_else(|| number(&text))
                .unwrap_or_else(|| Value::String(text.clone()))),
        }
    }

    /// What a text with escapes says.
    fn text(&self, text: &str) -> Result<Text, QueryError> {
        if !text.contains('%') {
            return Ok(text.into());
        }
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'%' => {
                    let digits = (digit(rest.next()), digit(rest.next()));
                    let (Some(high), Some(low)) = digits else {
                        return Err(self.error(Kind::Escape));
                    };
                    high << 4 | low
                }
                other => other,
            });
        }
        let text = String::from_utf8(bytes).map_err(|_| self.error(Kind::Escape))?;
        Ok(text.into())
    }
}

fn digit(byte: Option<u8>) -> Option<u8> {
    let digit = char::from(byte?).to_digit(16)?;
    u8::try_from(digit).ok()
}

fn truth(text: &str) -> Option<Value> {
    match text {
        "true" => Some(Value::Bool(true)),
        "false" => Some(Value::Bool(false)),
        _ => None,
    }
}

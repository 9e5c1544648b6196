//! Which media types a client takes (RFC 9110, 12.5.1): HTTP's `Accept`, and what other protocols make of it.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use crate::{Format, Text};

/// What a client says that it takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accept {
    /// Empty if there was no such field: then everything is welcome.
    ranges: Vec<Range>,
    given: bool,
    /// Something was said that is no list of types.
    unread: bool,
}

/// The client takes no format that data can be given in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("data can be given as application/json, application/cbor or application/msgpack")]
pub struct NotAcceptable;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Range {
    main: Text,
    sub: Text,
    /// In thousandths.
    quality: u16,
}

/// How closely a range names a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closeness {
    /// By `*/*`, or because nothing was said.
    Any,
    /// By `text/*`.
    Main,
    /// By its name.
    Exact,
}

impl Accept {
    /// Takes everything.
    pub fn anything() -> Self {
        Self::default()
    }

    /// Reads the `Accept` fields. What is malformed in them is left out, as if it had not been said.
    pub fn parse<'a>(fields: impl Iterator<Item = &'a [u8]>) -> Self {
        const RANGES_MAX: usize = 64;
        let mut accept = Self::default();
        for field in fields {
            accept.given = true;
            if field == b"*/*" {
                continue; // what most programs say, and the same as nothing
            }
            let Ok(field) = std::str::from_utf8(field) else {
                accept.unread = true;
                continue;
            };
            for part in field.split(',') {
                match read_range(part) {
                    Some(range) if accept.ranges.len() < RANGES_MAX => accept.ranges.push(range),
                    Some(_) => {}
                    None => accept.unread = true,
                }
            }
        }
        accept
    }

    /// How much the client wants a type, in thousandths, and how closely it named it. Parameters of the type don't count.
    pub fn quality(&self, media_type: &str) -> (u16, Closeness) {
        if self.ranges.is_empty() {
            // Nothing said, or nothing that can be read: take it as no field at all.
            return (1000, Closeness::Any);
        }
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        let (main, sub) = essence.split_once('/').unwrap_or((essence, ""));
        let mut best = None;
        for range in &self.ranges {
            let closeness = match (&*range.main, &*range.sub) {
                ("*", "*") => Closeness::Any,
                (range_main, "*") if range_main.eq_ignore_ascii_case(main) => Closeness::Main,
                (range_main, range_sub)
                    if range_main.eq_ignore_ascii_case(main)
                        && same_subtype(main, range_sub, sub) =>
                {
                    Closeness::Exact
                }
                _ => continue,
            };
            if best.is_none_or(|(_, other)| closeness > other) {
                best = Some((range.quality, closeness));
            }
        }
        best.unwrap_or((0, Closeness::Any))
    }

    /// Whether the client names a type and wants it more than data: in equal measure counts if it only names data by a
    /// wildcard.
    pub fn prefers(&self, media_type: &str) -> bool {
        let (wanted, closeness) = self.quality(media_type);
        self.given
            && wanted > 0
            && closeness == Closeness::Exact
            && Format::ALL.iter().all(|data| {
                let (quality, closeness) = self.quality(data.media_type());
                quality < wanted || (quality == wanted && closeness != Closeness::Exact)
            })
    }

    /// The format that the client wants data in, of equals the one it names most closely, and the first of
    /// [`Format::ALL`]; none if it names none of them and takes anything.
    ///
    /// # Errors
    /// If it takes none of them, or nothing that it says can be read.
    pub fn data_format(&self) -> Result<Option<Format>, NotAcceptable> {
        if self.ranges.is_empty() {
            return if self.unread {
                Err(NotAcceptable)
            } else {
                Ok(None)
            };
        }
        let mut best = None;
        for format in Format::ALL {
            let (quality, closeness) = self.quality(format.media_type());
            if quality > 0 && best.is_none_or(|(most, how, _)| (quality, closeness) > (most, how)) {
                best = Some((quality, closeness, format));
            }
        }
        match best {
            None => Err(NotAcceptable),
            Some((_, Closeness::Any, _)) => Ok(None),
            Some((_, _, format)) => Ok(Some(format)),
        }
    }
}

/// MessagePack has several names.
fn same_subtype(main: &str, a: &str, b: &str) -> bool {
    let is_msgpack = |name: &str| {
        ["msgpack", "x-msgpack", "vnd.msgpack"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
    };
    a.eq_ignore_ascii_case(b)
        || (main.eq_ignore_ascii_case("application") && is_msgpack(a) && is_msgpack(b))
}

fn read_range(text: &str) -> Option<Range> {
    let mut parts = text.split(';');
    let (main, sub) = match parts.next()?.trim() {
        "*" => ("*", "*"), // what Java's old clients send
        essence => essence.split_once('/')?,
    };
    if main.is_empty() || sub.is_empty() || (main == "*" && sub != "*") {
        return None;
    }
    let mut quality = 1000;
    for parameter in parts {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if name.trim().eq_ignore_ascii_case("q") {
            quality = read_quality(value.trim())?;
        }
    }
    Some(Range {
        main: main.into(),
        sub: sub.into(),
        quality,
    })
}

/// A weight with at most three decimals, in thousandths.
fn read_quality(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let thousandths = format!("{decimals:0<3}").parse::<u16>().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_of_data_is_the_favourite_that_was_named() {
        let wanted = |text: &str| Accept::parse([text.as_bytes()].into_iter()).data_format();
        for (text, format) in [
            ("application/cbor", Some(Format::Cbor)),
            ("application/x-msgpack", Some(Format::MessagePack)),
            (
                "application/json;q=0.5, application/cbor",
                Some(Format::Cbor),
            ),
            ("application/cbor, application/json", Some(Format::Json)),
            ("application/*", Some(Format::Json)),
            (
                "text/html, application/cbor;q=0.1, */*;q=0.1",
                Some(Format::Cbor),
            ),
            ("*/*", None),
            ("text/html, */*;q=0.1", None),
        ] {
            assert_eq!(wanted(text), Ok(format), "{text}");
        }
        for text in [
            "cbor",
            "",
            "image/png",
            "application/cbor;q=0",
            "text/*",
            "application/cbor;q=9",
        ] {
            assert_eq!(wanted(text), Err(NotAcceptable), "{text}");
        }
        assert_eq!(Accept::anything().data_format(), Ok(None));
    }
}

//! Entity tags and the conditions that name them (RFC 9110, 8.8.3 and 13.1).
//!
//! A value has one tag whatever its format; the format's letter behind it makes the tag that a client sees, so that the
//! tags of two representations differ. A write's condition takes any of them.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use crate::problem::{self, Problem};

/// The list of a conditional header field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagList {
    /// `*`.
    Any,
    /// Tags as the client wrote them, without quotes.
    Tags(Vec<ClientTag>),
}

/// One tag of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTag {
    /// What stands between the quotes.
    pub opaque: String,
    /// It was marked `W/`: it never matches where the comparison is strong.
    pub weak: bool,
}

impl ClientTag {
    /// The value's own tag, without the format's letter.
    pub fn value(&self) -> &str {
        self.opaque
            .rsplit_once('-')
            .map_or(&*self.opaque, |(tag, _)| tag)
    }
}

impl TagList {
    /// Reads the fields of one name, as many as there are.
    ///
    /// # Errors
    /// A problem with status 400.
    pub fn parse<'a>(
        name: &str,
        fields: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Option<Self>, Problem> {
        let (mut tags, mut any, mut seen) = (Vec::new(), false, false);
        for field in fields {
            seen = true;
            let field = std::str::from_utf8(field).map_err(|_| bad(name))?.trim();
            if field == "*" {
                any = true;
            } else {
                read_list(field, &mut tags).ok_or_else(|| bad(name))?;
            }
        }
        match (seen, any, tags.is_empty()) {
            (false, _, _) => Ok(None),
            (true, true, true) => Ok(Some(Self::Any)),
            (true, false, false) => Ok(Some(Self::Tags(tags))),
            (true, true, false) | (true, false, true) => Err(bad(name)),
        }
    }
}

fn bad(name: &str) -> Problem {
    Problem::new(
        &problem::BAD_HEADER,
        format!("{name} is neither * nor a list of quoted entity tags"),
    )
}

fn read_list(mut rest: &str, tags: &mut Vec<ClientTag>) -> Option<()> {
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Some(());
        }
        let (weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let (opaque, after) = quoted.strip_prefix('"')?.split_once('"')?;
        if !opaque
            .bytes()
            .all(|byte| byte == 0x21 || byte >= 0x23 && byte != 0x7f)
        {
            return None;
        }
        tags.push(ClientTag {
            opaque: opaque.to_owned(),
            weak,
        });
        rest = after.trim_start();
        if !rest.is_empty() && !rest.starts_with(',') {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(fields: &[&str]) -> Result<Option<TagList>, Problem> {
        TagList::parse("If-Match", fields.iter().map(|field| field.as_bytes()))
    }

    fn opaque(fields: &[&str]) -> Vec<String> {
        match parse(fields).unwrap().unwrap() {
            TagList::Any => vec!["*".to_owned()],
            TagList::Tags(tags) => tags
                .into_iter()
                .map(|tag| {
                    if tag.weak {
                        format!("W/{}", tag.opaque)
                    } else {
                        tag.opaque
                    }
                })
                .collect(),
        }
    }

    #[test]
    fn lists_are_read_over_several_fields() {
        assert_eq!(parse(&[]), Ok(None));
        assert_eq!(opaque(&["*"]), ["*"]);
        assert_eq!(
            opaque(&["\"a-j\" , W/\"b,c\",,\"\"", "\"d\""]),
            ["a-j", "W/b,c", "", "d"]
        );
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for field in [
            "",
            "a",
            "\"a",
            "\"a\" \"b\"",
            "*, \"a\"",
            "w/\"a\"",
            "\"a b\"",
            "\"a\"b",
        ] {
            assert!(parse(&[field]).is_err(), "{field}");
        }
        assert!(parse(&["*", "\"a\""]).is_err());
    }

    #[test]
    fn the_letter_of_the_format_is_not_part_of_the_value_s_tag() {
        let tag = |opaque: &str| {
            ClientTag {
                opaque: opaque.to_owned(),
                weak: false,
            }
            .value()
            .to_owned()
        };
        assert_eq!(tag("abc.5-j"), "abc.5");
        assert_eq!(tag("abc"), "abc");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[W/\"*a, -]{0,20}|.{0,20}") {
            let _list = parse(&[&text]);
        }
    }
}

//! The place of a commit, as clients see it; and the tag of a value.

use std::fmt;
use std::str::FromStr;

use sapwood_store::log::LogId;

/// The place of a commit, or of one change within it: `<log id>.<sequence>` or `<log id>.<sequence>.<part>`.
///
/// What `?since=` and `Last-Event-ID` take; in its first form a precondition, too.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version {
    /// The commit log that the sequence belongs to.
    pub log: LogId,
    /// The commit's sequence; 0 is the empty database.
    pub seq: u64,
    /// On all events of a commit but the last: which of its operations this is, from 0.
    pub part: Option<u32>,
}

impl Version {
    /// A whole commit.
    pub fn new(log: LogId, seq: u64) -> Self {
        Self {
            log,
            seq,
            part: None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.log, self.seq)?;
        match self.part {
            Some(part) => write!(f, ".{part}"),
            None => Ok(()),
        }
    }
}

/// A text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a version is <log id>.<sequence>")]
pub struct VersionError;

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let mut pieces = text.split('.');
        let log = pieces
            .next()
            .and_then(|log| log.parse().ok())
            .ok_or(VersionError)?;
        let seq = pieces.next().and_then(digits).ok_or(VersionError)?;
        let part = pieces
            .next()
            .map(|part| {
                digits(part)
                    .and_then(|part| u32::try_from(part).ok())
                    .ok_or(VersionError)
            })
            .transpose()?;
        match pieces.next() {
            None => Ok(Self { log, seq, part }),
            Some(_) => Err(VersionError),
        }
    }
}

/// A canonical decimal number: so that two spellings are never one version.
fn digits(text: &str) -> Option<u64> {
    let canonical = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse().ok()).flatten()
}

/// A short text that differs whenever the value does: the strong part of an HTTP entity tag.
///
/// A record with nothing below has its version for a tag, so it has one at any size; any other value has a hash of its
/// content, up to [`Tag::VALUE_BYTES_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tag(String);

impl Tag {
    /// The largest value that is hashed for a tag, in bytes of its JSON form.
    pub const VALUE_BYTES_MAX: usize = 64 * 1024;

    pub(crate) fn of_record(log: &LogId, version: u64) -> Self {
        Self(format!("{log}.{version}"))
    }

    pub(crate) fn of_content(encoded: &[u8]) -> Self {
        let hash = blake3::hash(encoded).to_hex();
        Self(format!("h{}", hash.get(..32).unwrap_or_default()))
    }

    /// A tag as a client gives it back; anything is one, and most match nothing.
    pub fn parse(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_reads_back_what_it_prints() {
        let version = Version {
            log: LogId::random(),
            seq: 17,
            part: Some(3),
        };
        assert_eq!(version.to_string().parse(), Ok(version.clone()));
        let whole = Version::new(version.log, 0);
        assert_eq!(whole.to_string().parse(), Ok(whole));
    }

    #[test]
    fn what_is_no_version_is_refused() {
        let log = LogId::random();
        for text in [
            String::new(),
            log.to_string(),
            format!("{log}."),
            format!("{log}.01"),
            format!("{log}.1.2.3"),
            format!("{log}.-1"),
            format!("{log}.1.x"),
        ] {
            assert_eq!(text.parse::<Version>(), Err(VersionError), "{text}");
        }
    }
}

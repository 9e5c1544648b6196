//! The two numbers that name a commit: which log, and where in it.

use std::fmt;
use std::str::FromStr;

/// The number of a commit in its database. The first commit is 1; 0 stands for before all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitSeq(pub u64);

impl CommitSeq {
    /// Before the first commit.
    pub const ZERO: Self = Self(0);
    /// The first commit.
    pub const FIRST: Self = Self(1);

    /// The commit after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// The commit before this one; 0 before 0.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The commit `count` after this one.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

impl fmt::Display for CommitSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one history of commits; drawn at random. Prints as 11 letters and digits, which fit a URL as they are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(u64);

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const LENGTH: usize = 11;

impl LogId {
    /// A new one, that nobody has had.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// The id with this number, as a file has it.
    #[must_use]
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// The id as a number, as a file has it.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = ['0'; LENGTH];
        let mut rest = self.0;
        for place in text.iter_mut().rev() {
            *place = DIGITS
                .get((rest % 62) as usize)
                .copied()
                .map_or('0', char::from);
            rest /= 62;
        }
        text.iter().try_for_each(|c| fmt::Write::write_char(f, *c))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogId({self})")
    }
}

/// The text is not what a [`LogId`] prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a log id is 11 letters and digits")]
pub struct ParseLogIdError;

impl FromStr for LogId {
    type Err = ParseLogIdError;

    fn from_str(text: &str) -> Result<Self, ParseLogIdError> {
        if text.len() != LENGTH {
            return Err(ParseLogIdError);
        }
        let number = text.bytes().try_fold(0u64, |number, byte| {
            let digit = DIGITS.iter().position(|d| *d == byte)?;
            number.checked_mul(62)?.checked_add(digit as u64)
        });
        number.map(Self).ok_or(ParseLogIdError)
    }
}

/// Tells the log of one database from that of another, should somebody mix up their files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DatabaseId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_id_reads_back_from_what_it_prints() {
        for number in [0, 1, 61, 62, u64::MAX] {
            let id = LogId::from_u64(number);
            assert_eq!(id.to_string().len(), LENGTH);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn what_no_log_id_prints_is_refused() {
        for text in [
            "",
            "0",
            "0000000000-",
            "000000000000",
            "zzzzzzzzzzz",
            "0000000000é",
        ] {
            assert_eq!(text.parse::<LogId>(), Err(ParseLogIdError), "{text}");
        }
    }
}

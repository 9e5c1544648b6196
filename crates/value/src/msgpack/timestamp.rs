//! MessagePack's timestamp extension as RFC 3339 text, which is how JSON has it.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use crate::budget::Fault;

/// The extension type.
pub(super) const KIND: i8 = -1;

const DAY_S: i64 = 86_400;
/// 0000-01-01 and 10000-01-01, in seconds of Unix time: the years that RFC 3339 can say.
const YEARS: std::ops::Range<i64> = -62_167_219_200..253_402_300_800;

/// The text of an instant, in UTC, with as many digits as it needs.
pub(super) fn text(data: &[u8]) -> Result<String, Fault> {
    let (seconds, nanoseconds) = parse(data)?;
    if nanoseconds >= 1_000_000_000 {
        return Err(Fault::malformed(
            "a timestamp with more nanoseconds than a second has",
        ));
    }
    if !YEARS.contains(&seconds) {
        return Err(Fault::number("a timestamp outside the years 0 to 9999"));
    }
    let (year, month, day) = date(seconds.div_euclid(DAY_S));
    let time = seconds.rem_euclid(DAY_S);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if nanoseconds > 0 {
        let fraction = format!(".{nanoseconds:09}");
        text.push_str(fraction.trim_end_matches('0'));
    }
    text.push('Z');
    Ok(text)
}

/// Seconds and nanoseconds of the three forms.
fn parse(data: &[u8]) -> Result<(i64, u32), Fault> {
    let wrong = || Fault::malformed("a timestamp of the wrong length");
    if let Ok(seconds) = data.try_into().map(u32::from_be_bytes) {
        return Ok((seconds.into(), 0));
    }
    if let Ok(both) = data.try_into().map(u64::from_be_bytes) {
        let (nanoseconds, seconds) = (both >> 34, both & 0x3_FFFF_FFFF);
        return Ok((
            i64::try_from(seconds).map_err(|_| wrong())?,
            u32::try_from(nanoseconds).map_err(|_| wrong())?,
        ));
    }
    let (nanoseconds, seconds) = data.split_first_chunk().ok_or_else(wrong)?;
    let seconds = seconds.try_into().map_err(|_| wrong())?;
    Ok((
        i64::from_be_bytes(seconds),
        u32::from_be_bytes(*nanoseconds),
    ))
}

/// The civil date of a day since 1970-01-01, in the proleptic Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last of its year.
const fn date(day: i64) -> (i64, i64, i64) {
    const DAYS_TO_0000_03_01: i64 = 719_468;
    const ERA_DAYS: i64 = 146_097; // 400 years
    let day = day + DAYS_TO_0000_03_01;
    let era = day.div_euclid(ERA_DAYS);
    let of_era = day.rem_euclid(ERA_DAYS);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(seconds: i64, nanoseconds: u32) -> Option<String> {
        let mut data = nanoseconds.to_be_bytes().to_vec();
        data.extend_from_slice(&seconds.to_be_bytes());
        text(&data).ok()
    }

    #[test]
    fn an_instant_is_rfc_3339_text() {
        let check = |seconds, nanoseconds, expected: &str| {
            assert_eq!(long(seconds, nanoseconds).as_deref(), Some(expected));
        };
        check(0, 0, "1970-01-01T00:00:00Z");
        check(1_514_862_245, 678_901_234, "2018-01-02T03:04:05.678901234Z");
        check(951_782_399, 500_000_000, "2000-02-28T23:59:59.5Z");
        check(951_782_400, 1, "2000-02-29T00:00:00.000000001Z");
        check(4_107_542_400, 0, "2100-03-01T00:00:00Z");
        check(-1, 0, "1969-12-31T23:59:59Z");
        check(YEARS.start, 0, "0000-01-01T00:00:00Z");
        check(YEARS.end - 1, 0, "9999-12-31T23:59:59Z");
    }

    #[test]
    fn what_rfc_3339_cannot_say_is_refused() {
        assert_eq!(long(YEARS.end, 0), None);
        assert_eq!(long(YEARS.start - 1, 0), None);
        assert_eq!(long(0, 1_000_000_000), None);
        assert!(text(&[0; 5]).is_err());
        assert!(text(&[0; 13]).is_err());
    }
}

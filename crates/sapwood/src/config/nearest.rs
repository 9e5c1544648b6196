//! Which known name someone probably meant.

/// The known name that differs least from `word`, if any is near enough to be meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, name) = known
        .into_iter()
        .map(|name| (distance(word, name), name))
        .min_by_key(|(d, _)| *d)?;
    let bound = (word.chars().count().max(name.chars().count()) / 2).max(1);
    (distance <= bound).then_some(name)
}

/// How many letters to insert, drop, change or swap with their neighbour (Damerau–Levenshtein, restricted).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (fold(a).collect(), fold(b).collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (above[j] + usize::from(x != y))
                .min(above[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

fn fold(word: &str) -> impl Iterator<Item = char> + '_ {
    // A bound, as the word may be any text that someone put into a file.
    word.chars()
        .take(64)
        .flat_map(char::to_lowercase)
        .map(|c| if c == '-' { '_' } else { c })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_the_name_that_was_meant() {
        let known = ["data", "durability", "cache_bytes"];
        for (word, meant) in [
            ("durabilty", "durability"),
            ("cache-bytes", "cache_bytes"),
            ("dtaa", "data"),
            ("Data", "data"),
        ] {
            assert_eq!(nearest(word, known), Some(meant), "{word}");
        }
    }

    #[test]
    fn a_word_like_no_other_finds_none() {
        assert_eq!(nearest("zebra", ["data", "durability"]), None);
    }
}

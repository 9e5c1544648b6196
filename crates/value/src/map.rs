//! Maps in key order.

use std::iter::FusedIterator;

use crate::{Text, Value, key_cmp};

/// Keys and values, kept in [key order](key_cmp). Every key is there once.
#[derive(Debug, Clone, Default)]
pub struct Map {
    entries: Vec<(Text, Value)>,
    implied: bool,
}

/// Two entries of a map had the same key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the key \"{}\" is there twice", shown(.0))]
pub struct DuplicateKey(pub Text);

/// As much of a key as a message shows, without control characters.
pub(crate) fn shown(key: &str) -> String {
    const SHOWN_CHARS: usize = 64;
    let end = key.char_indices().nth(SHOWN_CHARS);
    let (start, more) = end.map_or((key, ""), |(end, _)| (&key[..end], "…"));
    format!("{}{more}", start.escape_debug())
}

impl Map {
    /// An empty map that somebody spelled out: it stays when its last key goes.
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
            implied: false,
        }
    }

    /// An empty map that nobody spelled out: it goes with its last key.
    pub const fn implied() -> Self {
        Self {
            entries: Vec::new(),
            implied: true,
        }
    }

    /// Whether nobody spelled this map out.
    pub const fn is_implied(&self) -> bool {
        self.implied
    }

    /// Says whether somebody spelled this map out.
    pub const fn set_implied(&mut self, implied: bool) {
        self.implied = implied;
    }

    /// How many keys there are.
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries
            .get(self.position(key).ok()?)
            .map(|(_, value)| value)
    }

    /// The value of a key.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        let at = self.position(key).ok()?;
        self.entries.get_mut(at).map(|(_, value)| value)
    }

    /// Whether the key is there.
    pub fn contains_key(&self, key: &str) -> bool {
        self.position(key).is_ok()
    }

    /// Where a key is, or where it would go.
    pub fn position(&self, key: &str) -> Result<usize, usize> {
        self.entries
            .binary_search_by(|(other, _)| key_cmp(other, key))
    }

    /// Sets a key; gives back what it held.
    pub fn insert(&mut self, key: Text, value: Value) -> Option<Value> {
        // Appending in order is the common case, and costs one comparison.
        if self
            .entries
            .last()
            .is_none_or(|(last, _)| key_cmp(last, &key).is_lt())
        {
            self.entries.push((key, value));
            return None;
        }
        match self.position(&key) {
            Ok(at) => self
                .entries
                .get_mut(at)
                .map(|(_, old)| std::mem::replace(old, value)),
            Err(at) => {
                self.entries.insert(at, (key, value));
                None
            }
        }
    }

    /// The value of a key, put there by `make` if the key was absent.
    pub fn get_or_insert_with(&mut self, key: &str, make: impl FnOnce() -> Value) -> &mut Value {
        let at = match self.position(key) {
            Ok(at) => at,
            Err(at) => {
                self.entries.insert(at, (key.into(), make()));
                at
            }
        };
        &mut self.entries[at].1
    }

    /// Removes a key; gives back what it held. Whether an implied map that empties goes is the caller's to decide.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.position(key).ok()?;
        Some(self.entries.remove(at).1)
    }

    /// Keeps the entries that `keep` says yes to.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &mut Value) -> bool) {
        self.entries.retain_mut(|(key, value)| keep(key, value));
    }

    /// The entries in key order.
    pub fn entries(&self) -> &[(Text, Value)] {
        &self.entries
    }

    /// The entries in key order.
    pub fn into_entries(self) -> Vec<(Text, Value)> {
        self.entries
    }

    /// The entries in key order.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.entries.iter())
    }

    /// The entries in key order, the values to change.
    pub fn iter_mut(
        &mut self,
    ) -> impl DoubleEndedIterator<Item = (&Text, &mut Value)> + ExactSizeIterator {
        self.entries.iter_mut().map(|(key, value)| (&*key, value))
    }

    /// The keys in key order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &Text> + ExactSizeIterator {
        self.entries.iter().map(|(key, _)| key)
    }

    /// The values in key order.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Value> + ExactSizeIterator {
        self.entries.iter().map(|(_, value)| value)
    }

    /// A map of these entries, in whatever order they come.
    ///
    /// # Errors
    /// If a key is there twice.
    pub fn from_entries(mut entries: Vec<(Text, Value)>) -> Result<Self, DuplicateKey> {
        if !entries.is_sorted_by(|(a, _), (b, _)| key_cmp(a, b).is_lt()) {
            entries.sort_unstable_by(|(a, _), (b, _)| key_cmp(a, b));
            if let Some([(key, _), _]) = entries.array_windows().find(|[(a, _), (b, _)]| a == b) {
                return Err(DuplicateKey(key.clone()));
            }
        }
        Ok(Self {
            entries,
            implied: false,
        })
    }

    /// A map of entries that are known to be in key order, each key once.
    pub(crate) fn from_sorted(entries: Vec<(Text, Value)>, implied: bool) -> Self {
        debug_assert!(
            entries.is_sorted_by(|(a, _), (b, _)| key_cmp(a, b).is_lt()),
            "keys in order"
        );
        Self { entries, implied }
    }
}

/// `==` is about what a map holds, not about who made it.
impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Eq for Map {}

/// For tests and literals: of equal keys the last wins.
impl<K: Into<Text>, V: Into<Value>> FromIterator<(K, V)> for Map {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        for (key, value) in entries {
            let _replaced: Option<Value> = map.insert(key.into(), value.into());
        }
        map
    }
}

impl IntoIterator for Map {
    type Item = (Text, Value);
    type IntoIter = std::vec::IntoIter<(Text, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = (&'a Text, &'a Value);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The entries of a [`Map`] in key order.
#[derive(Debug, Clone)]
pub struct Iter<'a>(std::slice::Iter<'a, (Text, Value)>);

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a Text, &'a Value);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, value)| (key, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(key, value)| (key, value))
    }
}

impl ExactSizeIterator for Iter<'_> {}
impl FusedIterator for Iter<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_in_key_order_whatever_the_order_they_went_in() {
        let map: Map = [("b", 1), ("10", 2), ("a", 3), ("9", 4), ("-1", 5)]
            .into_iter()
            .collect();
        let keys: Vec<&str> = map.keys().map(Text::as_str).collect();
        assert_eq!(keys, ["-1", "9", "10", "a", "b"]);
        assert_eq!(map.get("10"), Some(&Value::Int(2)));
        assert_eq!(map.get("11"), None);
    }

    #[test]
    fn a_key_is_there_once() {
        let entry = |key: &str| (Text::from(key), Value::Null);
        assert_eq!(
            Map::from_entries(vec![entry("b"), entry("a"), entry("b")]),
            Err(DuplicateKey("b".into()))
        );
        assert_eq!(
            Map::from_entries(vec![entry("a"), entry("a")]),
            Err(DuplicateKey("a".into()))
        );
        let mut map = Map::from_entries(vec![entry("b"), entry("a")]).unwrap();
        assert_eq!(map.insert("a".into(), Value::Int(1)), Some(Value::Null));
        assert_eq!(map.len(), 2);
        assert_eq!(map.remove("a"), Some(Value::Int(1)));
        assert_eq!(map.remove("a"), None);
        *map.get_or_insert_with("c", || Value::Int(0)) = Value::Int(9);
        assert_eq!(map.get("c"), Some(&Value::Int(9)));
    }
}

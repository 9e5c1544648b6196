//! Changing a document: the rules for arrays, scalars and maps that nobody spelled out (design, 2.3).

use sapwood_value::{Map, Text, Value, key_cmp};

use crate::walk::merged_map;
use crate::{Limits, Path};

/// `document` with `value` (none removes) at the end of `path`.
///
/// Maps that nobody spelled out and that empty stay for now: [`prune`] judges them after the whole write. In arrays,
/// where it decides what the rest becomes, it is judged at once.
pub(super) fn put_in<'a>(
    document: Option<Value>,
    mut path: impl Iterator<Item = &'a str> + Clone,
    value: Option<Value>,
) -> Option<Value> {
    let Some(key) = path.next() else {
        return value;
    };
    let map = match document {
        Some(Value::Map(map)) => map,
        Some(Value::Array(items)) => match put_in_array(items, key, path.clone(), value) {
            Ok(array) => return Some(array),
            Err(PutInMap { map, value }) => return Some(put_in_map(map, key, boxed(path), value)),
        },
        None if value.is_none() => return None,
        scalar if value.is_none() => return scalar,
        Some(
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::UInt(_)
            | Value::Float(_)
            | Value::String(_)
            | Value::Bytes(_),
        )
        | None => Map::implied(),
    };
    Some(put_in_map(map, key, boxed(path), value))
}

/// Path iterators nest with each level; boxed they have one type.
fn boxed<'a>(path: impl Iterator<Item = &'a str> + Clone) -> std::vec::IntoIter<&'a str> {
    path.collect::<Vec<_>>().into_iter()
}

fn put_in_map(
    mut map: Map,
    key: &str,
    path: std::vec::IntoIter<&str>,
    value: Option<Value>,
) -> Value {
    match map.get_mut(key) {
        Some(slot) => match put_in(Some(std::mem::take(slot)), path, value) {
            Some(inner) => *slot = inner,
            None => {
                map.remove(key);
            }
        },
        None => {
            if let Some(inner) = put_in(None, path, value) {
                map.insert(Text::from(key), inner);
            }
        }
    }
    Value::Map(map)
}

/// The array has to become a map, in which the value is then put.
struct PutInMap {
    map: Map,
    value: Option<Value>,
}

/// An index that is there is replaced, one past the end appended; deleting the last shortens.
fn put_in_array<'a>(
    mut items: Vec<Value>,
    key: &str,
    path: impl Iterator<Item = &'a str> + Clone,
    value: Option<Value>,
) -> Result<Value, PutInMap> {
    let index = index_of(key);
    let old = index.and_then(|index| items.get(index));
    let mut inner = put_in(old.cloned(), boxed(path), value.clone());
    if inner.as_mut().is_some_and(|inner| !prune(inner)) {
        inner = None;
    }
    match (index, inner) {
        (_, None) if old.is_none() => {}
        (Some(index), None) if index + 1 == items.len() => {
            items.pop();
        }
        (Some(index), Some(inner)) if index < items.len() => items[index] = inner,
        (Some(index), Some(inner)) if index == items.len() => items.push(inner),
        _ => {
            let mut map = Value::Map(merged_map(Some(Value::Array(items))));
            spell_out(&mut map);
            let map = merged_map(Some(map));
            return Err(PutInMap { map, value });
        }
    }
    Ok(Value::Array(items))
}

/// The array index that a key is, if it is a canonical one.
fn index_of(key: &str) -> Option<usize> {
    let canonical = key == "0" || !key.starts_with(['0', '+']);
    key.parse().ok().filter(|_| canonical)
}

/// Says that every map in a value was spelled out.
pub(super) fn spell_out(value: &mut Value) {
    match value {
        Value::Map(map) => {
            map.set_implied(false);
            for (_, inner) in map.iter_mut() {
                spell_out(inner);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(spell_out),
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::UInt(_)
        | Value::Float(_)
        | Value::String(_)
        | Value::Bytes(_) => {}
    }
}

/// Removes maps that nobody spelled out and that are empty; whether something is left.
pub(super) fn prune(value: &mut Value) -> bool {
    match value {
        Value::Map(map) => {
            map.retain(|_, inner| prune(inner));
            !(map.is_empty() && map.is_implied())
        }
        Value::Array(items) => {
            for item in items {
                prune(item);
            }
            true
        }
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::UInt(_)
        | Value::Float(_)
        | Value::String(_)
        | Value::Bytes(_) => true,
    }
}

/// Takes out of a value at `path` what it has at each of these paths below it, on ways of maps: arrays are kept whole,
/// and a null is not taken. A large map is gone through once, however much is taken out of it.
pub(super) fn take_parts<T: Clone>(
    path: &Path,
    value: &mut Value,
    mut found: Vec<(Path, T)>,
) -> Vec<(Path, T, Value)> {
    // From below, as what is taken is what those in it leave; siblings together, in key order.
    found.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    found.dedup_by(|(a, _), (b, _)| a == b);
    let mut taken = Vec::new();
    for siblings in found.chunk_by(|(a, _), (b, _)| a.parent() == b.parent()) {
        let parent = siblings.first().and_then(|(at, _)| at.parent());
        let map = parent.and_then(|parent| map_at(value, parent.segments_below(path)?));
        if let Some(map) = map {
            take_children(map, siblings, &mut taken);
        }
    }
    taken
}

/// The map along a path of maps.
fn map_at<'v, 'a>(
    value: &'v mut Value,
    path: impl Iterator<Item = &'a str>,
) -> Option<&'v mut Map> {
    let mut map = value.as_map_mut()?;
    for key in path {
        map = map.get_mut(key)?.as_map_mut()?;
    }
    Some(map)
}

fn take_children<T: Clone>(
    map: &mut Map,
    siblings: &[(Path, T)],
    taken: &mut Vec<(Path, T, Value)>,
) {
    if let [(at, with)] = siblings {
        let key = at.last().unwrap_or_default();
        if map.get(key).is_some_and(|value| !value.is_null()) {
            let value = map.remove(key).unwrap_or_default();
            taken.push((at.clone(), with.clone(), value));
        }
        return;
    }
    let mut siblings = siblings.iter().peekable();
    map.retain(|key, value| {
        let name = |at: &Path| key_cmp(at.last().unwrap_or_default(), key);
        while siblings.next_if(|(at, _)| name(at).is_lt()).is_some() {}
        match siblings.next_if(|(at, _)| name(at).is_eq() && !value.is_null()) {
            Some((at, with)) => {
                taken.push((at.clone(), with.clone(), std::mem::take(value)));
                false
            }
            None => true,
        }
    });
}

/// Whether two values are the same, also in which maps were spelled out.
pub(super) fn identical(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Map(a), Value::Map(b)) => {
            a.is_implied() == b.is_implied()
                && a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|((j, x), (k, y))| j == k && identical(x, y))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(x, y)| identical(x, y))
        }
        (a, b) => a == b,
    }
}

/// What a value to be written has too much of.
pub(super) enum Excess {
    Depth,
    String(usize),
    Value(usize),
}

/// Checks a value that is to lie `above` levels below the root; gives about how many bytes it takes.
pub(super) fn check(value: &Value, above: usize, limits: &Limits) -> Result<usize, Excess> {
    let bytes = check_inner(value, above, limits)?;
    if bytes > limits.value_bytes {
        return Err(Excess::Value(bytes));
    }
    Ok(bytes)
}

fn check_inner(value: &Value, above: usize, limits: &Limits) -> Result<usize, Excess> {
    if above > limits.depth {
        return Err(Excess::Depth);
    }
    match value {
        Value::String(text) if text.len() > limits.string_bytes => Err(Excess::String(text.len())),
        Value::Array(items) => items.iter().try_fold(3, |sum, item| {
            Ok(sum + check_inner(item, above + 1, limits)?)
        }),
        Value::Map(map) => map.iter().try_fold(3, |sum, (key, inner)| {
            if key.len() > limits.string_bytes {
                return Err(Excess::String(key.len()));
            }
            Ok(sum + 2 + key.len() + check_inner(inner, above + 1, limits)?)
        }),
        scalar => Ok(scalar.estimated_bytes()),
    }
}

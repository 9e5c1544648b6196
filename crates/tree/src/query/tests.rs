use proptest::prelude::*;

use super::*;

fn query(text: &str) -> Query {
    Query::parse(text, &QueryLimits::default()).unwrap()
}

fn matches(text: &str, value: &str) -> bool {
    query(text).matches(&Value::from_json(value).unwrap())
}

fn refused(text: &str) -> String {
    let limits = QueryLimits {
        bytes_max: 100,
        terms_max: 5,
    };
    Query::parse(text, &limits).unwrap_err().to_string()
}

#[test]
fn a_text_is_taken_in_the_type_that_the_field_has() {
    for (text, values, others) in [
        (
            "a=5",
            &[r#"{"a":5}"#, r#"{"a":5.0}"#, r#"{"a":"5"}"#][..],
            &[r#"{"a":6}"#, "{}"][..],
        ),
        (
            "a===true",
            &[r#"{"a":true}"#, r#"{"a":"true"}"#],
            &[r#"{"a":false}"#, r#"{"a":1}"#],
        ),
        ("a=null", &[r#"{"a":null}"#, "{}", "5"], &[r#"{"a":0}"#]),
        (
            "a!==5",
            &["{}", r#"{"a":6}"#],
            &[r#"{"a":5}"#, r#"{"a":"5"}"#],
        ),
        ("a=x*", &[r#"{"a":"x*"}"#], &[r#"{"a":"xy"}"#]),
        ("a=", &[r#"{"a":""}"#], &["{}"]),
    ] {
        values
            .iter()
            .for_each(|value| assert!(matches(text, value), "{text} {value}"));
        others
            .iter()
            .for_each(|value| assert!(!matches(text, value), "{text} {value}"));
    }
}

#[test]
fn values_have_the_type_that_they_look_like_or_that_is_said() {
    for (text, values, others) in [
        (
            "a==5",
            &[r#"{"a":5}"#, r#"{"a":5.0}"#][..],
            &[r#"{"a":"5"}"#, "{}"][..],
        ),
        ("a==string:5", &[r#"{"a":"5"}"#], &[r#"{"a":5}"#]),
        ("a==number:5e0", &[r#"{"a":5}"#], &[r#"{"a":"5e0"}"#]),
        ("a==boolean:true", &[r#"{"a":true}"#], &[r#"{"a":"true"}"#]),
        ("a!=null", &[r#"{"a":0}"#], &["{}", r#"{"a":null}"#]),
        ("a=ne=5", &["{}", r#"{"a":"5"}"#], &[r#"{"a":5}"#]),
        ("a==ab*", &[r#"{"a":"abc"}"#], &[r#"{"a":"b"}"#]),
        ("a==ab%2A", &[r#"{"a":"ab*"}"#], &[r#"{"a":"abc"}"#]),
        (
            "a=gt=5",
            &[r#"{"a":5.5}"#],
            &[r#"{"a":5}"#, r#"{"a":"6"}"#, "{}"],
        ),
        (
            "a=ge=b",
            &[r#"{"a":"b"}"#, r#"{"a":"c"}"#],
            &[r#"{"a":"a"}"#, r#"{"a":9}"#],
        ),
        ("a=ct=b", &[r#"{"a":"abc"}"#], &[r#"{"a":"ac"}"#]),
        ("a=sw=b", &[r#"{"a":"bc"}"#], &[r#"{"a":"ab"}"#]),
        ("a=ew=b", &[r#"{"a":"ab"}"#], &[r#"{"a":"bc"}"#]),
        ("a==5:6", &[r#"{"a":"5:6"}"#], &[r#"{"a":5}"#]),
    ] {
        values
            .iter()
            .for_each(|value| assert!(matches(text, value), "{text} {value}"));
        others
            .iter()
            .for_each(|value| assert!(!matches(text, value), "{text} {value}"));
    }
}

#[test]
fn names_lead_into_maps_and_through_arrays() {
    assert!(matches("a.b=5", r#"{"a":{"b":5}}"#));
    assert!(!matches("a.b=5", r#"{"a":5}"#));
    assert!(matches("a%2Eb=5", r#"{"a.b":5}"#));
    assert!(matches("tags=x", r#"{"tags":["y","x"]}"#));
    assert!(!matches("tags!=x", r#"{"tags":["y","x"]}"#));
    assert!(matches("a.b=5", r#"{"a":[{"b":4},{"b":[5]}]}"#));
    assert!(matches(".value=gt=20", "21.5") && !matches(".value=gt=20", "20"));
    assert!(matches("%2Evalue=1", r#"{".value":1}"#));
}

#[test]
fn conditions_are_joined_by_groups() {
    for (text, yes) in [
        ("a=1&b=2", true),
        ("a=1&b=3", false),
        ("a=3|b=2", true),
        ("(a=3|b=2)&a=1", true),
        ("[a=3|b=3]&a=1", false),
        ("a=1&(b=3|[a=1&b=2])", true),
        ("b=gt=1&lt=3", true),
        ("b=gt=1&le=1.5", false),
        ("b=lt=3&ge=2", true),
        ("b=gt=1&lt=3&a=1", true),
        // Not behind an order, so it is a field of that name.
        ("a=1&lt=3", false),
        ("b=gt=1|lt=3", true),
    ] {
        assert_eq!(matches(text, r#"{"a":1,"b":2}"#), yes, "{text}");
    }
    assert!(!matches("b=gt=1|lt=3", r#"{"b":0}"#));
}

#[test]
fn what_is_no_query_is_refused_with_its_place() {
    for (text, words) in [
        ("", "expected a condition, a group, & or |, at byte 0"),
        ("a", "expected NAME=VALUE, or another comparison, at byte 0"),
        ("a=1&", "expected a condition, a group, & or |, at byte 4"),
        (
            "a=1&=2",
            "expected NAME=VALUE, or another comparison, at byte 4",
        ),
        (
            "a..b=2",
            "expected NAME=VALUE, or another comparison, at byte 0",
        ),
        (
            "a!2",
            "expected NAME=VALUE, or another comparison, at byte 0",
        ),
        ("a=1&b=2|c=3", "& and | mixed without a group, at byte 7"),
        ("a=1&(b=2", "a group that is not closed, at byte 4"),
        ("(b=2]", "expected a condition, a group, & or |, at byte 4"),
        ("a=1)", "expected a condition, a group, & or |, at byte 3"),
        (
            "a=xx=1",
            "no comparison =xx=; there are lt, le, gt, ge, ne, ct, sw and ew, at byte 0",
        ),
        ("a=%2", "a % that escapes no text, at byte 0"),
        ("a=%ff", "a % that escapes no text, at byte 0"),
        ("a==number:x", "no number behind number:, at byte 0"),
        (
            "a==boolean:1",
            "no true or false behind boolean:, at byte 0",
        ),
        (
            "a=gt=null",
            "a comparison by order with what has none, at byte 0",
        ),
        ("a==date:2026-01-01", "date: is not there yet, at byte 0"),
        ("a=1&select(a,b)", "select(…) is not there yet, at byte 4"),
        ("limit(5)", "limit(…) is not there yet, at byte 0"),
        ("sort(+a)", "sort(…) is not there yet, at byte 0"),
        ("f(a)", "expected a condition, a group, & or |, at byte 0"),
        (
            "a=1&a=1&a=1&a=1&a=1&a=1",
            "more than 5 conditions, at byte 20",
        ),
        (
            &"a".repeat(101),
            "a query longer than 100 bytes, at byte 100",
        ),
        (
            &format!("{}a=1", "(".repeat(17)),
            "more than 16 groups in one another, at byte 16",
        ),
    ] {
        assert_eq!(refused(text), words, "{text}");
    }
}

/// A query as a tree, made and judged without the parser.
#[derive(Debug, Clone)]
enum Wanted {
    Joined(bool, Vec<Self>),
    Compared(String, &'static str, Value),
}

impl Wanted {
    fn text(&self) -> String {
        match self {
            Self::Joined(all, parts) => {
                let joint = if *all { "&" } else { "|" };
                let parts: Vec<String> = parts.iter().map(Self::text).collect();
                format!("({})", parts.join(joint))
            }
            Self::Compared(name, comparison, value) => {
                let value = match value {
                    Value::String(text) => format!("string:{text}"),
                    other => String::from_utf8(encoded(other)).unwrap(),
                };
                format!("{name}{comparison}{value}")
            }
        }
    }

    fn matches(&self, value: &Value) -> bool {
        match self {
            Self::Joined(true, parts) => !parts.iter().any(|part| !part.matches(value)),
            Self::Joined(false, parts) => {
                parts.iter().filter(|part| part.matches(value)).count() > 0
            }
            Self::Compared(name, comparison, other) => {
                let found = all_at(vec![value.clone()], name.split('.'));
                let mut orders = found.iter().filter_map(|found| order(found, other));
                match *comparison {
                    "==" => orders.any(|order| order == 0),
                    "!=" => !orders.any(|order| order == 0),
                    "=lt=" => orders.any(|order| order < 0),
                    "=le=" => orders.any(|order| order <= 0),
                    "=gt=" => orders.any(|order| order > 0),
                    _ => orders.any(|order| order >= 0),
                }
            }
        }
    }
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    json::encode(value, &mut out);
    out
}

/// Arrays as their items, and theirs.
fn flat(values: Vec<Value>) -> Vec<Value> {
    let one = |value| match value {
        Value::Array(items) => flat(items),
        other => vec![other],
    };
    values.into_iter().flat_map(one).collect()
}

fn all_at<'a>(values: Vec<Value>, mut names: impl Iterator<Item = &'a str>) -> Vec<Value> {
    let values = flat(values);
    let Some(name) = names.next() else {
        return values;
    };
    let step = |value: Value| {
        let found = value.as_map().and_then(|map| map.get(name).cloned());
        found.unwrap_or_default()
    };
    all_at(values.into_iter().map(step).collect(), names)
}

/// Of small numbers, ASCII texts, null and truth.
fn order(one: &Value, other: &Value) -> Option<i8> {
    let float = |value: &Value| match value {
        Value::Int(n) => Some(*n as f64),
        Value::Float(n) => Some(*n),
        _ => None,
    };
    match (one, other) {
        (Value::String(one), Value::String(other)) => {
            Some(one.as_bytes().cmp(other.as_bytes()) as i8)
        }
        (Value::Bool(one), Value::Bool(other)) => Some(one.cmp(other) as i8),
        (Value::Null, Value::Null) => Some(0),
        _ => Some(float(one)?.partial_cmp(&float(other)?)? as i8),
    }
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-3i64..3).prop_map(Value::Int),
        (-3i8..3).prop_map(|n| Value::Float(f64::from(n) / 2.0)),
        "[ab]{0,2}".prop_map(|text| Value::String(text.into())),
    ]
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let name = prop::sample::select(vec!["a", "b", "a.b", "b.a.a"]);
    let ordered = prop::sample::select(vec!["==", "!=", "=lt=", "=le=", "=gt=", "=ge="]);
    let equal = (
        prop::sample::select(vec!["==", "!="]),
        prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::Bool)],
    );
    let comparison = prop_oneof![4 => (ordered, scalar()), 1 => equal];
    let one = (name, comparison).prop_map(|(name, (comparison, value))| {
        Wanted::Compared(name.to_owned(), comparison, value)
    });
    one.prop_recursive(3, 12, 4, |inner| {
        (any::<bool>(), prop::collection::vec(inner, 1..4))
            .prop_map(|(all, parts)| Wanted::Joined(all, parts))
    })
}

fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![4 => scalar(), 1 => Just(Value::Null), 1 => any::<bool>().prop_map(Value::Bool)];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let key = prop::sample::select(vec!["a", "b"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::btree_map(key, inner, 0..3).prop_map(|map| {
                Value::Map(
                    map.into_iter()
                        .map(|(key, value)| (Text::from(key), value))
                        .collect(),
                )
            }),
        ]
    })
}

proptest! {
    #[test]
    fn queries_say_what_the_slowest_program_says(wanted in wanted(), documents in prop::collection::vec(document(), 1..8)) {
        let query = query(&wanted.text());
        for document in documents {
            prop_assert_eq!(query.matches(&document), wanted.matches(&document), "{} {:?}", wanted.text(), document);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[ab.=!&|()%0-9*:\\[\\]é]{0,40}", any in any::<String>()) {
        for text in [&text, &any] {
            if let Ok(query) = Query::parse(text, &QueryLimits::default()) {
                query.matches(&Value::Int(5));
            }
        }
    }
}

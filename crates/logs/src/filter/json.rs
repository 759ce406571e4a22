//! Patterns on JSON events: `{ $.level = "error" && ($.latency > 100 || $.user.id NOT EXISTS) }`.

use serde_json::Value;

use super::ParsePatternError;
use super::condition::{self, Comparison};
use super::cursor::Cursor;
use super::expression::{self, Expression};

pub(super) type Condition = Expression<Test>;

#[derive(Clone, Debug)]
pub(super) struct Test {
    path: Vec<Step>,
    check: Check,
}

#[derive(Clone, Debug)]
enum Step {
    Member(String),
    Index(usize),
    /// `[*]` or `.*`: any element or member.
    Any,
}

#[derive(Clone, Debug)]
enum Check {
    Compare(Comparison),
    Is(Value),
    Exists(bool),
}

type Result<T> = std::result::Result<T, ParsePatternError>;

pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Condition> {
    cursor.expect("{", "expected an opening brace")?;
    let condition = expression::parse(cursor, test)?;
    cursor.skip_spaces();
    cursor.expect("}", "expected a closing brace")?;
    Ok(condition)
}

/// Whether the message is JSON for which the condition holds.
pub(super) fn matches(condition: &Condition, message: &str) -> bool {
    // Most lines are not JSON; this spares them the parser.
    if !message.trim_start().starts_with(['{', '[']) {
        return false;
    }
    let Ok(event) = serde_json::from_str::<Value>(message) else {
        return false;
    };
    condition.holds(&|test| test.holds(&event))
}

fn test(cursor: &mut Cursor<'_>) -> Result<Test> {
    let path = path(cursor)?;
    cursor.skip_spaces();
    if let Some(operator) = condition::operator(cursor) {
        let comparison = condition::comparison(cursor, operator, &['}'])?;
        return Ok(Test {
            path,
            check: Check::Compare(comparison),
        });
    }
    let check = if cursor.take_word("IS") {
        cursor.skip_spaces();
        [
            ("NULL", Value::Null),
            ("TRUE", Value::Bool(true)),
            ("FALSE", Value::Bool(false)),
        ]
        .into_iter()
        .find_map(|(word, value)| cursor.take_word(word).then_some(Check::Is(value)))
        .ok_or_else(|| cursor.error("expected NULL, TRUE or FALSE"))?
    } else if cursor.take_word("NOT") {
        cursor.skip_spaces();
        if !cursor.take_word("EXISTS") {
            return Err(cursor.error("expected EXISTS"));
        }
        Check::Exists(false)
    } else if cursor.take_word("EXISTS") {
        Check::Exists(true)
    } else {
        return Err(cursor.error("expected an operator"));
    };
    Ok(Test { path, check })
}

fn path(cursor: &mut Cursor<'_>) -> Result<Vec<Step>> {
    cursor.skip_spaces();
    cursor.expect("$", "expected a selector, which begins with $.")?;
    let mut path = Vec::new();
    loop {
        if cursor.take("[") {
            path.push(bracket(cursor)?);
        } else if cursor.take(".") {
            // `$.['a b']` is written with a dot too.
            if cursor.peek() == Some('[') {
                continue;
            }
            let plain = |next: char| next.is_alphanumeric() || "_-@:/#".contains(next);
            match cursor.take_while(plain) {
                "" if cursor.take("*") => path.push(Step::Any),
                "" => return Err(cursor.error("expected the name of a member")),
                name => path.push(Step::Member(name.to_owned())),
            }
        } else if path.is_empty() {
            return Err(cursor.error("expected a selector, which begins with $."));
        } else {
            return Ok(path);
        }
    }
}

fn bracket(cursor: &mut Cursor<'_>) -> Result<Step> {
    let step = match cursor.peek() {
        Some('*') => {
            cursor.next();
            Step::Any
        }
        Some('"') => Step::Member(cursor.quoted()?),
        Some('\'') => {
            cursor.next();
            let name = cursor.take_while(|next| next != '\'').to_owned();
            cursor.expect("'", "a quote that is never closed")?;
            Step::Member(name)
        }
        _ => {
            let digits = cursor.take_while(|next| next.is_ascii_digit());
            Step::Index(
                digits
                    .parse()
                    .map_err(|_| cursor.error("expected an index"))?,
            )
        }
    };
    cursor.expect("]", "expected a closing bracket")?;
    Ok(step)
}

impl Test {
    fn holds(&self, event: &Value) -> bool {
        let mut found = vec![event];
        for step in &self.path {
            let mut next = Vec::new();
            for value in found {
                match (step, value) {
                    (Step::Member(name), Value::Object(members)) => next.extend(members.get(name)),
                    (Step::Index(index), Value::Array(elements)) => {
                        next.extend(elements.get(*index))
                    }
                    (Step::Any, Value::Object(members)) => next.extend(members.values()),
                    (Step::Any, Value::Array(elements)) => next.extend(elements),
                    _ => {}
                }
            }
            found = next;
        }
        match &self.check {
            Check::Exists(wanted) => found.is_empty() != *wanted,
            Check::Is(wanted) => found.into_iter().any(|value| value == wanted),
            Check::Compare(comparison) => found.into_iter().any(|value| compare(comparison, value)),
        }
    }
}

fn compare(comparison: &Comparison, value: &Value) -> bool {
    match value {
        Value::String(text) => comparison.holds_for_text(text),
        Value::Number(number) => number
            .as_f64()
            .is_some_and(|number| comparison.holds_for_number(number)),
        Value::Bool(value) => comparison.holds_for_text(if *value { "true" } else { "false" }),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pattern;

    const EVENT: &str = r#"{
        "eventType": "UpdateTrail", "sourceIPAddress": "111.111.111.111", "size": 42, "ratio": 0.5,
        "arrayKey": ["value", "another"], "objectList": [{"name": "a", "id": 1}, {"name": "b", "id": 2}],
        "SomeObject": null, "cluster.name": "c", "ThisFlag": true, "deep": {"er": {"x": "y"}}
    }"#;

    fn check(pattern: &str) -> bool {
        Pattern::parse(pattern)
            .unwrap_or_else(|err| panic!("{pattern}: {err}"))
            .matches(EVENT)
    }

    #[test]
    fn selectors_and_operators_work_as_documented() {
        for pattern in [
            r#"{ $.eventType = "UpdateTrail" }"#,
            r#"{$.eventType=UpdateTrail}"#,
            r#"{ $.eventType = "Update*" }"#,
            "{ $.sourceIPAddress != 123.123.* }",
            "{ $.sourceIPAddress = 111.111.* }",
            r#"{ $.arrayKey[0] = "value" }"#,
            r#"{ $.arrayKey[*] = "another" }"#,
            "{ $.objectList[1].id = 2 }",
            "{ $.objectList[*].id > 1 }",
            "{ $.SomeObject IS NULL }",
            "{ $.SomeOtherObject NOT EXISTS }",
            "{ $.ThisFlag IS TRUE }",
            "{ $.ThisFlag is true }",
            "{ $.size > 41 && $.size < 43 && $.size >= 42 && $.size <= 42.0 && $.size = 4.2e1 }",
            "{ $.ratio = 0.5 }",
            r#"{ $.['cluster.name'] = "c" }"#,
            r#"{ $["cluster.name"] = c }"#,
            r#"{ ($.size = 1 || $.ratio < 1) && $.deep.er.x = "y" }"#,
            "{ $.size = 1 || $.size = 2 && $.size = 3 || $.size = 42 }",
            r#"{ $.eventType != "Other" }"#,
        ] {
            assert!(check(pattern), "{pattern}");
        }
    }

    #[test]
    fn what_does_not_hold_does_not_match() {
        for pattern in [
            r#"{ $.eventType = "updatetrail" }"#,
            r#"{ $.eventType != "UpdateTrail" }"#,
            r#"{ $.missing != "x" }"#,
            "{ $.missing = * }",
            "{ $.missing IS NULL }",
            "{ $.SomeObject NOT EXISTS }",
            "{ $.ThisFlag IS FALSE }",
            "{ $.size > 42 }",
            "{ $.eventType > 1 }",
            "{ $.deep = * }",
            "{ $.size = 42 && $.ratio = 1 }",
        ] {
            assert!(!check(pattern), "{pattern}");
        }
        let pattern = Pattern::parse("{ $.a NOT EXISTS }").unwrap();
        assert!(
            !pattern.matches("plain text"),
            "an event that is not JSON never matches"
        );
    }

    #[test]
    fn malformed_conditions_are_errors() {
        for pattern in [
            "{",
            "{}",
            "{ $ }",
            "{ $. = 1 }",
            "{ $.a }",
            "{ $.a = 1",
            "{ a = 1 }",
            "{ $.a == }",
            "{ $.a > x }",
            "{ $.a IS }",
            "{ $.a NOT }",
            "{ ($.a = 1 }",
            "{ $.a = 1 && }",
            "{ $.a[x] = 1 }",
            "{ $.a[99999999999999999999999] = 1 }",
        ] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
        let deep = format!("{{ {}$.a = 1{} }}", "(".repeat(100), ")".repeat(100));
        assert!(Pattern::parse(&deep).is_err());
    }
}

//! Filter patterns: whether a text is one.
//!
//! A pattern is an object whose leaves are lists of what a value may be: plain values, or
//! comparisons like `{"prefix": "a"}`.
//! <https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html>

use serde_json::Value;

const MAX_PATTERN_BYTES: usize = 4096;
const COMPARISONS: [&str; 8] = [
    "anything-but",
    "cidr",
    "equals-ignore-case",
    "exists",
    "numeric",
    "prefix",
    "suffix",
    "wildcard",
];

pub fn is_pattern(text: &str) -> bool {
    text.len() <= MAX_PATTERN_BYTES
        && matches!(
            serde_json::from_str(text),
            Ok(Value::Object(members)) if !members.is_empty() && are_members(&members)
        )
}

fn are_members(members: &serde_json::Map<String, Value>) -> bool {
    members.iter().all(|(name, value)| match value {
        Value::Object(inner) => !inner.is_empty() && are_members(inner),
        Value::Array(choices) if name == "$or" => {
            let pattern = |choice: &Value| choice.as_object().is_some_and(are_members);
            !choices.is_empty() && choices.iter().all(pattern)
        }
        Value::Array(choices) => !choices.is_empty() && choices.iter().all(is_choice),
        _ => false,
    })
}

fn is_choice(choice: &Value) -> bool {
    match choice {
        Value::Object(comparison) => {
            comparison.len() == 1 && comparison.iter().all(|(name, value)| compares(name, value))
        }
        Value::Array(_) => false,
        _ => true,
    }
}

fn compares(name: &str, value: &Value) -> bool {
    match name {
        "exists" => value.is_boolean(),
        "numeric" => value.as_array().is_some_and(|parts| {
            let pair = |pair: &[Value]| {
                let operator = pair[0].as_str();
                operator.is_some_and(|text| matches!(text, "=" | "<" | "<=" | ">" | ">="))
                    && pair.get(1).is_some_and(Value::is_number)
            };
            matches!(parts.len(), 2 | 4) && parts.chunks(2).all(pair)
        }),
        "cidr" | "equals-ignore-case" | "prefix" | "suffix" | "wildcard" => {
            value.is_string() || value.is_object()
        }
        _ => COMPARISONS.contains(&name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_are_lists() {
        for text in [
            r#"{"body": {"event_type": ["function_1", null, 7]}}"#,
            r#"{"eventName": ["INSERT", {"prefix": "MOD"}]}"#,
            r#"{"a": [{"numeric": [">", 0, "<=", 100]}], "b": [{"exists": false}]}"#,
            r#"{"$or": [{"a": ["x"]}, {"b": [{"anything-but": ["y"]}]}]}"#,
        ] {
            assert!(is_pattern(text), "{text}");
        }
        for text in [
            "",
            "null",
            r#""simple string""#,
            "{}",
            r#"{"eventSource": "aws:sqs"}"#,
            r#"{"eventSource": []}"#,
            r#"{"a": [{"numeric": [">"]}]}"#,
            r#"{"a": [{"exists": "yes"}]}"#,
            r#"{"a": [{"unknown": "x"}]}"#,
            r#"{"a": [["x"]]}"#,
        ] {
            assert!(!is_pattern(text), "{text}");
        }
        let long = format!(r#"{{"a": ["{}"]}}"#, "x".repeat(4096));
        assert!(!is_pattern(&long));
    }
}

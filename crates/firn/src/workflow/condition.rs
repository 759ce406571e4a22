//! The condition of a `Choice` rule as a human would write it down.

use serde_json::{Map, Value};

/// Rules inside rules; definitions are not read deeper either.
const MAX_DEPTH: usize = 64;

/// `$.total > 100 and $.name is present`; of a rule that makes no sense, what is there of it.
pub fn of_rule(rule: &Map<String, Value>) -> String {
    match rule.get("Condition") {
        Some(Value::String(text)) => expression(text),
        Some(other) => other.to_string(),
        None => of_json_path(rule, 0),
    }
}

/// An expression without its delimiters, on one line.
pub fn expression(text: &str) -> String {
    let inner = text
        .strip_prefix("{%")
        .and_then(|text| text.strip_suffix("%}"));
    inner
        .unwrap_or(text)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn of_json_path(rule: &Map<String, Value>, depth: usize) -> String {
    if depth > MAX_DEPTH {
        return "\u{2026}".to_owned();
    }
    for (field, word) in [("And", " and "), ("Or", " or ")] {
        if let Some(rules) = rule.get(field).and_then(Value::as_array) {
            let parts: Vec<String> = rules.iter().map(|rule| inner(rule, depth)).collect();
            return parts.join(word);
        }
    }
    if let Some(negated) = rule.get("Not") {
        return format!("not {}", inner(negated, depth));
    }
    let variable = rule.get("Variable").and_then(Value::as_str).unwrap_or("?");
    let test = rule
        .iter()
        .find(|(field, _)| !["Variable", "Next", "Comment", "Assign"].contains(&field.as_str()));
    match test {
        Some((field, value)) => format!("{variable} {}", comparison(field, value)),
        None => variable.to_owned(),
    }
}

fn inner(rule: &Value, depth: usize) -> String {
    let Some(object) = rule.as_object() else {
        return "?".to_owned();
    };
    let text = of_json_path(object, depth + 1);
    let compound = object.contains_key("And") || object.contains_key("Or");
    if compound { format!("({text})") } else { text }
}

fn comparison(field: &str, value: &Value) -> String {
    let is = if value == &Value::Bool(false) {
        "is not"
    } else {
        "is"
    };
    match field {
        "IsPresent" => return format!("{is} present"),
        "IsNull" => return format!("{is} null"),
        "IsBoolean" => return format!("{is} a boolean"),
        "IsNumeric" => return format!("{is} a number"),
        "IsString" => return format!("{is} a string"),
        "IsTimestamp" => return format!("{is} a timestamp"),
        "StringMatches" => return format!("matches {value}"),
        _ => {}
    }
    let (name, is_path) = match field.strip_suffix("Path") {
        Some(name) => (name, true),
        None => (field, false),
    };
    let name = ["Boolean", "Numeric", "String", "Timestamp"]
        .iter()
        .find_map(|kind| name.strip_prefix(kind))
        .unwrap_or(name);
    let operator = match name {
        "Equals" => "=",
        "GreaterThan" => ">",
        "GreaterThanEquals" => "\u{2265}",
        "LessThan" => "<",
        "LessThanEquals" => "\u{2264}",
        other => other,
    };
    match value.as_str() {
        Some(text) if is_path || field.starts_with("Timestamp") => format!("{operator} {text}"),
        _ => format!("{operator} {value}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(rule: Value) -> String {
        of_rule(rule.as_object().unwrap())
    }

    #[test]
    fn comparisons_read_as_formulas() {
        let rule = json!({"Variable": "$.n", "NumericGreaterThanEquals": 5, "Next": "A"});
        assert_eq!(text(rule), "$.n \u{2265} 5");
        let rule = json!({"Next": "A", "Variable": "$.s", "StringEquals": "x"});
        assert_eq!(text(rule), "$.s = \"x\"");
        let rule = json!({"Variable": "$.a", "StringEqualsPath": "$.b"});
        assert_eq!(text(rule), "$.a = $.b");
        let rule = json!({"Variable": "$.at", "TimestampLessThan": "2030-01-01T00:00:00Z"});
        assert_eq!(text(rule), "$.at < 2030-01-01T00:00:00Z");
        let rule = json!({"Variable": "$.a", "IsPresent": false});
        assert_eq!(text(rule), "$.a is not present");
    }

    #[test]
    fn rules_inside_rules_have_parentheses() {
        let rule = json!({"And": [
            {"Variable": "$.a", "IsNull": true},
            {"Or": [{"Variable": "$.b", "BooleanEquals": true}, {"Not": {"Variable": "$.c", "StringMatches": "x*"}}]},
        ]});
        assert_eq!(
            text(rule),
            "$.a is null and ($.b = true or not $.c matches \"x*\")"
        );
    }

    #[test]
    fn expressions_lose_their_delimiters() {
        let rule = json!({"Condition": "{% $states.input.total\n   > 100 %}", "Next": "A"});
        assert_eq!(text(rule), "$states.input.total > 100");
        assert_eq!(text(json!({"Condition": true})), "true");
    }

    #[test]
    fn broken_rules_are_shown_as_far_as_they_go() {
        assert_eq!(text(json!({})), "?");
        assert_eq!(text(json!({"And": [1]})), "?");
    }
}

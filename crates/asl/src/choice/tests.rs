use serde_json::{Value, json};

use super::*;
use crate::scope::Variables;

fn holds(rule: &Value, input: &Value) -> Result<bool, MissingVariable> {
    let context = json!({"Execution": {"Name": "run"}});
    let variables = Variables::from([("limit".into(), json!(3).into())]);
    let scope = Scope {
        input,
        context: &context,
        variables: &variables,
    };
    Rule::parse(rule.as_object().unwrap())
        .unwrap()
        .holds(&scope)
}

/// Every combination of operator and value that was recorded on AWS.
#[test]
fn rules_hold_where_they_do_on_aws() {
    let recorded = include_str!("../../../../tests/golden/aws/choice_rules.jsonl");
    let mut count = 0;
    for line in recorded.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let held = holds(&row["rule"], &row["input"]);
        assert_eq!(held, Ok(row["holds"].as_bool().unwrap()), "{line}");
        count += 1;
    }
    assert!(count > 200, "only {count} rules were tried");
}

#[test]
fn rules_combine() {
    let rule = json!({"Or": [
        {"And": [
            {"Variable": "$.n", "NumericGreaterThan": 1},
            {"Not": {"Variable": "$.n", "NumericGreaterThanPath": "$limit"}},
        ]},
        {"Variable": "$$.Execution.Name", "StringMatches": "x*"},
    ], "Next": "A"});
    for (n, expected) in [(1, false), (2, true), (3, true), (4, false)] {
        assert_eq!(holds(&rule, &json!({"n": n})), Ok(expected), "{n}");
    }
}

#[test]
fn texts_match_patterns() {
    for (text, pattern, expected) in [
        ("log-2.txt", "log-*.txt", true),
        ("log-.txt", "log-*.txt", true),
        ("log-2.txt ", "log-*.txt", false),
        ("abcabc", "*b*b*", true),
        ("abc", "*b*b*", false),
        ("a*c", r"a\*c", true),
        ("abc", r"a\*c", false),
        ("aXa", "a*a", true),
        ("a", "a*a", false),
        ("", "*", true),
    ] {
        let rule = json!({"Variable": "$", "StringMatches": pattern});
        assert_eq!(holds(&rule, &json!(text)), Ok(expected), "{text} {pattern}");
    }
}

#[test]
fn moments_are_compared_as_moments() {
    let rule = json!({"Variable": "$.t", "TimestampEquals": "2024-01-01T10:00:00+01:00"});
    assert_eq!(
        holds(&rule, &json!({"t": "2024-01-01T09:00:00Z"})),
        Ok(true)
    );
    assert_eq!(holds(&rule, &json!({"t": "2024-01-01"})), Ok(false));
    let is_timestamp = json!({"Variable": "$.t", "IsTimestamp": true});
    for (text, expected) in [
        ("2024-01-01T09:00:00Z", true),
        ("2024-01-01T09:00:00.123+02:00", true),
        ("2024-01-01 09:00:00Z", false),
        ("2024-01-01", false),
        ("2024-13-01T09:00:00Z", false),
    ] {
        assert_eq!(
            holds(&is_timestamp, &json!({"t": text})),
            Ok(expected),
            "{text}"
        );
    }
}

#[test]
fn missing_variable_is_an_error_unless_presence_is_asked() {
    let rule = json!({"Variable": "$.a.b", "StringEquals": "x"});
    let missing = holds(&rule, &json!({"a": {}})).unwrap_err();
    assert_eq!(missing.path, "$.a.b");
    let present = json!({"Variable": "$.a.b", "IsPresent": false});
    assert_eq!(holds(&present, &json!({"a": {}})), Ok(true));
    let operand = json!({"Variable": "$.a", "StringEqualsPath": "$.c"});
    assert_eq!(holds(&operand, &json!({"a": "x"})).unwrap_err().path, "$.c");
}

#[test]
fn what_is_no_rule_is_refused() {
    let one = "Exactly one of these fields is required: [And, Or, Not, or a comparison]";
    for (rule, place, message) in [
        (
            json!({"StringEquals": "x"}),
            "",
            "These fields are required: [Variable]",
        ),
        (json!({"Variable": "$"}), "", one),
        (
            json!({"Variable": "$", "IsNull": true, "IsString": true}),
            "",
            one,
        ),
        (
            json!({"Variable": "$", "Sounds": "x"}),
            "",
            "Field 'Sounds' is not supported",
        ),
        (
            json!({"Variable": "$", "BooleanLessThan": true}),
            "",
            "Field 'BooleanLessThan' is not supported",
        ),
        (
            json!({"Variable": "$", "NumericEquals": "1"}),
            "/NumericEquals",
            "Expected value of type [NUMBER]",
        ),
        (
            json!({"Variable": "$", "TimestampEquals": "noon"}),
            "/TimestampEquals",
            "Value is not a valid ISO-8601 extended offset date-time format string",
        ),
        (
            json!({"Variable": "x", "IsNull": true}),
            "/Variable",
            "The value for the field 'Variable' must be a valid JSONPath",
        ),
        (json!({"And": []}), "/And", "Value cannot be empty"),
        (
            json!({"Or": [{"Variable": "$", "IsNull": true}, {"Not": {
                "Variable": "$", "IsNull": true, "Next": "inside",
            }}]}),
            "/Or[1]/Not",
            "Field 'Next' is not supported",
        ),
    ] {
        let error = Rule::parse(rule.as_object().unwrap()).unwrap_err();
        assert_eq!(
            (error.place.as_str(), error.problem.to_string().as_str()),
            (place, message),
            "{rule}"
        );
    }
}

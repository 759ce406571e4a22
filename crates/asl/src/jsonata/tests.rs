use serde_json::json;

use super::*;
use crate::Budget;
use crate::scope::{Scope, Seeded, Variables};

fn evaluate(expression: &str, input: Value) -> Result<Value, EvaluationError> {
    let context = json!({"State": {"Name": "S"}});
    let variables = Variables::from([("limit".into(), json!(3).into())]);
    let mut chance = Seeded::new(1);
    let mut evaluation = Evaluation {
        scope: Scope {
            input: &input,
            context: &context,
            variables: &variables,
        },
        chance: &mut chance,
        budget: Budget::default(),
        now_ms: 1_700_000_000_123,
        result: None,
        error_output: None,
    };
    Jsonata::of(expression)
        .unwrap()
        .evaluate("Output", &mut evaluation)
}

#[test]
fn states_and_variables_are_bound() {
    let input = json!({"a": {"b": [1, 2.5, "x", null, true]}});
    for (expression, expected) in [
        ("{% $states.input.a.b[1] %}", json!(2.5)),
        ("{%$states.input%}", input.clone()),
        ("{% $states.context.State.Name & '!' %}", json!("S!")),
        ("{% $limit * 2 %}", json!(6)),
        ("{% [$states.input.a.b[0..1]] %}", json!([1, 2.5])),
        (
            "{% {'x': $limit > 2 ? 'big' : 'small'} %}",
            json!({"x": "big"}),
        ),
    ] {
        assert_eq!(
            evaluate(expression, input.clone()).unwrap(),
            expected,
            "{expression}"
        );
    }
}

#[test]
fn functions_of_aws_are_there() {
    for (expression, expected) in [
        ("{% $partition([1,2,3,4], 3) %}", json!([[1, 2, 3], [4]])),
        ("{% $range(0, 10, 4) %}", json!([0, 4, 8])),
        (
            "{% $hash('input data', 'MD5') %}",
            json!("812f45842bc6d66ee14572ce20db8e86"),
        ),
        ("{% $parse('{\"a\": [1]}') %}", json!({"a": [1]})),
        ("{% $length($uuid()) %}", json!(36)),
        ("{% $random(7) = $random(7) %}", json!(true)),
        ("{% $random() >= 0 and $random() < 1 %}", json!(true)),
        ("{% $millis() %}", json!(1_700_000_000_123_i64)),
        ("{% $now() %}", json!("2023-11-14T22:13:20.123Z")),
        ("{% $now('[Y0001]-[M01]') %}", json!("2023-11")),
    ] {
        assert_eq!(
            evaluate(expression, json!({})).unwrap(),
            expected,
            "{expression}"
        );
    }
}

#[test]
fn failures_name_expression_and_field() {
    let undefined = evaluate("{% $doesNotExist %}", json!({})).unwrap_err();
    assert_eq!(
        undefined.cause,
        "The JSONata expression '$doesNotExist' specified for the field 'Output' returned nothing \
         (undefined)."
    );
    assert_eq!(undefined.location.as_deref(), Some("Output"));
    let thrown = evaluate("{% $error('boom') %}", json!({})).unwrap_err();
    assert!(thrown.cause.contains("boom"), "{}", thrown.cause);
    for forbidden in ["{% $eval('1') %}", "{% function($x){$x} %}", "{% $sum %}"] {
        assert!(evaluate(forbidden, json!({})).is_err(), "{forbidden}");
    }
}

#[test]
fn endless_expressions_end() {
    let endless = "{% ($f := function($n){ $f($n + 1) + 1 }; $f(0)) %}";
    assert!(evaluate(endless, json!({})).is_err());
    assert!(evaluate("{% [1..100000000] %}", json!({})).is_err());
}

#[test]
fn only_delimited_text_is_an_expression() {
    assert_eq!(Jsonata::of("plain"), None);
    assert_eq!(Jsonata::of("{% open"), None);
    let mistakes = |text: &str| Jsonata::of(text).unwrap().mistakes(Offered::default());
    assert_eq!(mistakes("{% 1 + %}").len(), 1);
    assert_eq!(mistakes("{% 1 + 1 %}"), []);
}

/// Found by fuzzing: the library multiplies the width of a picture until it overflows.
#[test]
fn expression_that_the_library_panics_at_fails() {
    let expression = "{% $fromMillis(1, '[Y0.rQ(-4444444444444444444444444444444a,]') %}";
    let failed = evaluate(expression, json!(null)).unwrap_err();
    assert!(failed.cause.contains("threw an error"), "{failed:?}");
}

use serde_json::json;

use super::*;
use crate::scope::{Seeded, Variables};

fn evaluate(source: &str, input: Value) -> Result<Value, IntrinsicError> {
    let context =
        json!({"Execution": {"Name": "run"}, "StateMachine": {"Id": "arn:x", "Name": "m-1"}});
    let variables = Variables::from([("total".into(), json!(41).into())]);
    let scope = Scope {
        input: &input,
        context: &context,
        variables: &variables,
    };
    Intrinsic::parse(source)
        .unwrap()
        .evaluate(&scope, &mut Seeded::new(7))
}

fn value(source: &str, input: Value) -> Value {
    evaluate(source, input).unwrap()
}

fn reason(source: &str, input: Value) -> String {
    match evaluate(source, input) {
        Err(IntrinsicError::Failed { call, reason }) => {
            assert_eq!(call, source);
            reason
        }
        other => panic!("{source} gave {other:?}"),
    }
}

/// Inputs and results recorded on AWS.
#[test]
fn functions_give_what_aws_gives() {
    let object = json!({"Arg1": 1, "Arg2": []});
    let text = "{\"Arg1\": 1, \"Arg2\": []}";
    for (call, input, expected) in [
        ("States.Array()", json!(1), json!([])),
        (
            "States.Array($.a, $.b)",
            json!({"a": "", "b": null}),
            json!(["", null]),
        ),
        (
            "States.ArrayGetItem($.a, $.b)",
            json!({"a": [1, 2, 3, 4, 5, 6], "b": 5}),
            json!(6),
        ),
        ("States.ArrayLength($)", json!([1, 2, 3]), json!(3)),
        ("States.ArrayRange(0, 9, 3)", json!({}), json!([0, 3, 6, 9])),
        (
            "States.ArrayRange(0, 10, 3)",
            json!({}),
            json!([0, 3, 6, 9]),
        ),
        (
            "States.ArrayRange(1, 9, 2)",
            json!({}),
            json!([1, 3, 5, 7, 9]),
        ),
        (
            "States.ArrayPartition($, 3)",
            json!([0, 1, 2, 3]),
            json!([[0, 1, 2], [3]]),
        ),
        ("States.ArrayContains($, 5)", json!([1, 5]), json!(true)),
        (
            "States.ArrayUnique($)",
            json!([1, 2, 1, "a", "a"]),
            json!([1, 2, "a"]),
        ),
        (
            "States.Hash($, 'MD5')",
            json!("input data"),
            json!("812f45842bc6d66ee14572ce20db8e86"),
        ),
        (
            "States.Hash($, 'SHA-1')",
            json!("input data"),
            json!("aaff4a450a104cd177d28d18d74485e8cae074b7"),
        ),
        (
            "States.Hash($, 'SHA-256')",
            json!("input data"),
            json!("b4a697a057313163aee33cd8d40c66e9f0f177e00cac2de32475ffff6169c3e3"),
        ),
        (
            "States.JsonToString($)",
            object.clone(),
            json!("{\"Arg1\":1,\"Arg2\":[]}"),
        ),
        (
            "States.JsonToString($)",
            json!("HelloWorld"),
            json!("\"HelloWorld\""),
        ),
        ("States.StringToJson($)", json!(""), json!(null)),
        ("States.StringToJson($)", json!(" "), json!(null)),
        ("States.StringToJson($)", json!("1.1"), json!(1.1)),
        ("States.StringToJson($)", json!("-0"), json!(0)),
        (
            "States.StringToJson($)",
            json!("[-0, -0.5, \"-0\"]"),
            json!([0, -0.5, "-0"]),
        ),
        ("States.StringToJson($)", json!(text), object.clone()),
        (
            "States.StringSplit($, ',')",
            json!(" , "),
            json!([" ", " "]),
        ),
        ("States.StringSplit($, ',')", json!(",,"), json!([])),
        (
            "States.StringSplit($, '.+,=')",
            json!("This.is+a,test=string"),
            json!(["This", "is", "a", "test", "string"]),
        ),
        (
            "States.Format('a={} b={}.', $, 1.1)",
            json!(" "),
            json!("a=  b=1.1."),
        ),
        ("States.Format('{}', $)", object, json!("{Arg1=1, Arg2=[]}")),
        ("States.Format('{}', $)", json!(text), json!(text)),
        (
            "States.Format('{}', $$.StateMachine)",
            json!({}),
            json!("{Id=arn:x, Name=m-1}"),
        ),
        ("States.MathAdd($total, 1)", json!({}), json!(42)),
        (
            "States.Base64Encode('Data to encode')",
            json!({}),
            json!("RGF0YSB0byBlbmNvZGU="),
        ),
        (
            "States.Base64Decode('RGVjb2RlZCBkYXRh')",
            json!({}),
            json!("Decoded data"),
        ),
        (
            "States.JsonMerge($.a, $.b, false)",
            json!({"a": {"x": {"y": 1}, "z": 1}, "b": {"x": {"w": 2}}}),
            json!({"x": {"w": 2}, "z": 1}),
        ),
    ] {
        assert_eq!(value(call, input), expected, "{call}");
    }
}

#[test]
fn calls_nest() {
    let call = "States.ArrayGetItem(States.StringSplit($$.StateMachine.Name, '-'), 0)";
    assert_eq!(value(call, json!({})), json!("m"));
    let paths = Intrinsic::parse("States.Array($.a, States.Array($$.b))").unwrap();
    let sources: Vec<&str> = paths.paths().into_iter().map(Path::source).collect();
    assert_eq!(sources, ["$.a", "$$.b"]);
}

#[test]
fn commas_and_parentheses_inside_a_path_belong_to_it() {
    let input = json!({"a": [{"n": 1}, {"n": 2}], "b,c)": 3});
    let call = "States.Array($.a[?(@.n == 1)].n, $['b,c)'], $.a[0,1].n)";
    assert_eq!(value(call, input), json!([[1], 3, [1, 2]]));
}

#[test]
fn braces_and_quotes_can_be_escaped() {
    let call = r"States.Format('it\'s \{\} \\ {}', 1)";
    assert_eq!(value(call, json!({})), json!(r"it's {} \ 1"));
}

#[test]
fn whole_numbers_are_made_of_others() {
    assert_eq!(value("States.MathAdd(1.5, -1)", json!({})), json!(1));
    assert_eq!(
        value("States.ArrayRange(10, 1, -4)", json!({})),
        json!([10, 6, 2])
    );
    assert_eq!(value("States.ArrayRange(1, 9, -1)", json!({})), json!([]));
}

#[test]
fn chance_stays_within_its_bounds_and_repeats_with_its_seed() {
    for seed in 0..200 {
        let call = format!("States.MathRandom(3, 5, {seed})");
        let number = value(&call, json!({})).as_i64().unwrap();
        assert!((3..5).contains(&number));
        assert_eq!(value(&call, json!({})), json!(number));
    }
    let uuid = value("States.UUID()", json!({}));
    let uuid = uuid.as_str().unwrap();
    let parts: Vec<usize> = uuid.split('-').map(str::len).collect();
    assert_eq!((parts, &uuid[14..15]), (vec![8, 4, 4, 4, 12], "4"));
    assert!("89ab".contains(&uuid[19..20]));
}

#[test]
fn wrong_arguments_fail_the_function() {
    for (call, expected) in [
        ("States.ArrayLength('x')", "\"x\" is not an array"),
        (
            "States.ArrayGetItem($.a, 3)",
            "the index 3 is outside of the array",
        ),
        (
            "States.ArrayGetItem($.a, -1)",
            "the index -1 is outside of the array",
        ),
        (
            "States.ArrayPartition($.a, 0)",
            "the chunk size 0 is not positive",
        ),
        (
            "States.ArrayRange(0, 1000, 1)",
            "the array would have more than 1000 elements",
        ),
        ("States.ArrayRange(0, 1, 0)", "the step is zero"),
        ("States.Hash('a', 'SHA-3')", "'SHA-3' is not an algorithm"),
        (
            "States.JsonMerge($, $, true)",
            "only the shallow merging mode is supported",
        ),
        ("States.MathRandom(5, 5)", "5 is not less than 5"),
        (
            "States.Format('{} {}', 1)",
            "there are more {} than arguments",
        ),
        (
            "States.Format('{}', 1, 2)",
            "there are more arguments than {}",
        ),
        ("States.Base64Decode('%')", "the string is not valid Base64"),
    ] {
        assert_eq!(reason(call, json!({"a": [1]})), expected, "{call}");
    }
}

#[test]
fn missing_path_is_named() {
    let missing = evaluate("States.Array($.a, $.b.c)", json!({"a": 1})).unwrap_err();
    let IntrinsicError::Path { path, cause } = missing else {
        panic!("{missing:?}")
    };
    assert_eq!(path, "$.b.c");
    let Unresolved::Nothing(none) = cause else {
        panic!("{cause:?}")
    };
    assert_eq!(none.at, "$['b']");
    let unknown = evaluate("States.Array($nobody)", json!({})).unwrap_err();
    assert!(matches!(
        unknown,
        IntrinsicError::Path {
            cause: Unresolved::Variable(_),
            ..
        }
    ));
}

#[test]
fn what_is_no_call_is_refused() {
    for (source, message) in [
        (
            "States.Nothing()",
            "'States.Nothing' is not an intrinsic function",
        ),
        ("States.UUID(1)", "States.UUID does not take 1 arguments"),
        (
            "States.Array(1",
            "',' or ')' expected at character 14 of the call 'States.Array(1'",
        ),
        (
            "States.Array(a)",
            "an argument expected at character 14 of the call 'States.Array(a)'",
        ),
        (
            "States.Array($.)",
            "$. in an intrinsic function is not a valid path",
        ),
        (
            "States.Array() x",
            "the end expected at character 15 of the call 'States.Array() x'",
        ),
    ] {
        assert_eq!(Intrinsic::parse(source).unwrap_err().to_string(), message);
    }
    let deep = format!("{}1{}", "States.Array(".repeat(11), ")".repeat(11));
    assert!(Intrinsic::parse(&deep).is_err());
}

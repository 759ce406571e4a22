use serde_json::{Value, json};

use super::*;

fn wrong(definition: &Value) -> Vec<String> {
    match Definition::parse(&definition.to_string()) {
        Ok(_) => Vec::new(),
        Err(InvalidDefinition(all)) => all.iter().map(ToString::to_string).collect(),
    }
}

fn single(state: Value) -> Value {
    json!({"StartAt": "S", "States": {"S": state}})
}

#[test]
fn nested_flows_are_numbered() {
    let definition = json!({"StartAt": "P", "TimeoutSeconds": 9, "States": {
        "P": {"Type": "Parallel", "Next": "M", "Branches": [
            {"StartAt": "A", "States": {"A": {"Type": "Pass", "End": true}}},
            {"StartAt": "A", "States": {"A": {"Type": "Succeed"}}},
        ]},
        "M": {"Type": "Map", "End": true, "ItemProcessor": {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "EXPRESS"},
            "StartAt": "T", "States": {"T": {
                "Type": "Task", "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
                "TimeoutSecondsPath": "$.t", "End": true, "Retry": [{"ErrorEquals": ["States.ALL"]}],
            }},
        }},
    }});
    let definition = Definition::parse(&definition.to_string()).unwrap();
    assert_eq!(definition.timeout_seconds, Some(9));
    let state = |flow: FlowId, name: &str| definition.state(definition.flow(flow).states[name]);
    let main = definition.main();
    let Kind::Parallel { branches } = &state(main, "P").kind else {
        panic!()
    };
    assert_eq!(branches.len(), 2);
    assert_eq!(state(branches[1], "A").kind, Kind::Succeed);
    let Kind::Map(map) = &state(main, "M").kind else {
        panic!()
    };
    assert_eq!(map.mode, MapMode::Distributed { express: true });
    let task = state(map.processor, "T");
    assert_eq!(task.retry[0].max_attempts, 3);
    let Kind::Task(task) = &task.kind else {
        panic!()
    };
    let Resource::Service {
        action, pattern, ..
    } = &task.resource
    else {
        panic!()
    };
    assert_eq!(action, "sendMessage.waitForTaskToken");
    assert_eq!(*pattern, Pattern::WaitForTaskToken);
    assert!(matches!(task.timeout_seconds, Some(Amount::Path(_))));
}

/// Words recorded on AWS.
#[test]
fn mistakes_are_told_as_aws_tells_them() {
    for (definition, expected) in [
        (
            json!({}),
            "SCHEMA_VALIDATION_FAILED: These fields are required: [States, StartAt] at /",
        ),
        (
            json!({"States": {"A": {"Type": "Pass", "End": true}}}),
            "SCHEMA_VALIDATION_FAILED: These fields are required: [StartAt] at /",
        ),
        (
            json!({"StartAt": "Pass", "QueryLanguage": "JSONata", "States": {
                "Pass": {"Type": "Pass", "End": true, "QueryLanguage": "JSONPath"},
            }}),
            "SCHEMA_VALIDATION_FAILED: 'QueryLanguage' can not be 'JSONPath' if set to 'JSONata' \
             for whole state machine at /States/Pass",
        ),
        (
            single(json!({"Type": "TypeThatDoesNotExist", "End": true})),
            "SCHEMA_VALIDATION_FAILED: The field 'Type' should have one of these values: [Task, \
             Wait, Pass, Succeed, Fail, Choice, Parallel, Map] at /States/S/Type",
        ),
        (
            single(json!({"Type": "Parallel", "Branches": [], "End": true})),
            "SCHEMA_VALIDATION_FAILED: Value cannot be empty at /States/S/Branches",
        ),
        (
            single(json!({
                "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Credentials": {},
                "End": true,
            })),
            "SCHEMA_VALIDATION_FAILED: The field 'RoleArn' is required but was missing at \
             /States/S/Credentials",
        ),
        (
            single(json!({"Type": "Pass", "Parameters": {"parsed.$": "States.X("}, "End": true})),
            "SCHEMA_VALIDATION_FAILED: The value for the field 'parsed.$' must be a valid JSONPath \
             or a valid intrinsic function call at /States/S/Parameters",
        ),
        (
            single(json!({"Type": "Task", "Resource": "arn:aws:states:::dynamodb", "End": true})),
            "SCHEMA_VALIDATION_FAILED: The resource provided arn:aws:states:::dynamodb is not \
             recognized. The value is not a valid resource ARN, or the resource is not available \
             in this region. at /States/S/Resource",
        ),
    ] {
        assert_eq!(wrong(&definition), [expected], "{definition}");
    }
    let nothing = Definition::parse("").unwrap_err();
    assert_eq!(
        nothing.0[0].message,
        "Definition must be a valid JSON object"
    );
    let no_json = Definition::parse("not a definition").unwrap_err();
    assert_eq!(no_json.0[0].code, "INVALID_JSON_DESCRIPTION");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let definition = json!({"StartAt": "A", "States": {
        "A": {"Type": "Pass", "Next": "Nowhere"},
        "B": {"Type": "Wait", "End": true},
        "C": {"Type": "Choice", "Choices": [{"Variable": "$.x", "Next": "A"}]},
        "D": {"Type": "Pass", "Output": 1, "Next": "A"},
    }});
    let not_reached = |name: &str| {
        format!("MISSING_TRANSITION_TARGET: State \"{name}\" is not reachable. at /States/{name}")
    };
    assert_eq!(
        wrong(&definition),
        [
            "SCHEMA_VALIDATION_FAILED: Exactly one of these fields is required: [Seconds, \
             SecondsPath, Timestamp, TimestampPath] at /States/B"
                .to_owned(),
            "SCHEMA_VALIDATION_FAILED: Exactly one of these fields is required: [And, Or, Not, or \
             a comparison] at /States/C/Choices[0]"
                .to_owned(),
            "SCHEMA_VALIDATION_FAILED: The QueryLanguage is set to 'JSONPath', but field 'Output' \
             is only supported for the 'JSONata' QueryLanguage at /States/D"
                .to_owned(),
            "MISSING_TRANSITION_TARGET: Missing 'Next' target: Nowhere at /States/A/Next"
                .to_owned(),
            not_reached("B"),
            not_reached("C"),
            not_reached("D"),
        ]
    );
}

/// Where states lead, as AWS tells it.
#[test]
fn transitions_are_checked_in_every_flow() {
    let pass = json!({"Type": "Pass", "End": true});
    for (definition, expected) in [
        (
            json!({"StartAt": "A", "States": {"A": pass, "B": pass}}),
            &["MISSING_TRANSITION_TARGET: State \"B\" is not reachable. at /States/B"][..],
        ),
        (
            json!({"StartAt": "A", "States": {
                "A": {"Type": "Pass", "Next": "B"}, "B": {"Type": "Pass", "Next": "A"},
                "Unused": {"Type": "Pass", "Next": "A"},
            }}),
            &["MISSING_END_STATE: Workflow has no terminal state at null"],
        ),
        (
            json!({"StartAt": "A", "States": {"A": {"Type": "Pass", "Next": "NOPE"}}}),
            &[
                "MISSING_TRANSITION_TARGET: Missing 'Next' target: NOPE at /States/A/Next",
                "MISSING_END_STATE: Workflow has no terminal state at null",
            ],
        ),
        (
            json!({"StartAt": "Nope", "States": {"A": pass}}),
            &[
                "MISSING_TRANSITION_TARGET: Missing 'Next' target: Nope at /StartAt",
                "MISSING_TRANSITION_TARGET: State \"A\" is not reachable. at /States/A",
            ],
        ),
        (
            json!({"StartAt": "A", "States": {
                "A": {
                    "Type": "Choice", "Default": "Ghost",
                    "Choices": [{"Variable": "$.x", "IsPresent": true, "Next": "Z"}],
                },
                "Z": pass,
            }}),
            &["MISSING_TRANSITION_TARGET: Missing 'Next' target: Ghost at /States/A/Default"],
        ),
        (
            single(json!({
                "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": true,
                "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Ghost"}],
            })),
            &["MISSING_TRANSITION_TARGET: Missing 'Next' target: Ghost at /States/S/Catch[0]/Next"],
        ),
        (
            single(json!({"Type": "Parallel", "End": true, "Branches": [
                {"StartAt": "W", "States": {"W": pass, "Ghost": pass}},
            ]})),
            &[
                "MISSING_TRANSITION_TARGET: State \"Ghost\" is not reachable. at \
               /States/S/Branches[0]/States/Ghost",
            ],
        ),
        (
            // The states inside of a state may go round for ever.
            single(json!({"Type": "Map", "End": true, "ItemProcessor": {
                "StartAt": "A", "States": {
                    "A": {"Type": "Pass", "Next": "B"}, "B": {"Type": "Pass", "Next": "A"},
                },
            }})),
            &[],
        ),
    ] {
        assert_eq!(wrong(&definition), expected, "{definition}");
    }
}

/// What AWS says of fields that are not for a state.
#[test]
fn fields_of_another_kind_or_language_are_refused() {
    let pass = json!({"StartAt": "P", "States": {"P": {"Type": "Pass", "End": true}}});
    let mut with_language = pass.clone();
    with_language["QueryLanguage"] = json!("JSONata");
    let unsupported = |field: &str, place: &str| {
        vec![format!(
            "SCHEMA_VALIDATION_FAILED: Field '{field}' is not supported at {place}"
        )]
    };
    let foreign = |own: &str, field: &str, other: &str| {
        format!(
            "SCHEMA_VALIDATION_FAILED: The QueryLanguage is set to '{own}', but field '{field}' is \
             only supported for the '{other}' QueryLanguage at /States/S"
        )
    };
    let no_language = |place: &str| {
        format!(
            "SCHEMA_VALIDATION_FAILED: Value should be one of the following: [JSONPath, JSONata] at \
             {place}/QueryLanguage"
        )
    };
    let errors = json!([{"ErrorEquals": ["States.ALL"], "Next": "S"}]);
    for (definition, expected) in [
        (
            single(json!({"Type": "Pass", "End": true, "TimeoutSeconds": 5})),
            unsupported("TimeoutSeconds", "/States/S"),
        ),
        (
            single(json!({"Type": "Pass", "End": true, "Catch": errors})),
            unsupported("Catch", "/States/S"),
        ),
        (
            single(json!({"Type": "Wait", "Seconds": 1, "ResultPath": null, "End": true})),
            unsupported("ResultPath", "/States/S"),
        ),
        (
            single(json!({"Type": "Map", "End": true, "ItemProcessor": with_language})),
            unsupported("QueryLanguage", "/States/S/ItemProcessor"),
        ),
        (
            single(json!({"Type": "Parallel", "End": true, "Branches": [with_language]})),
            unsupported("QueryLanguage", "/States/S/Branches[0]"),
        ),
        (
            json!({"Coment": "", "StartAt": "P", "States": pass["States"]}),
            unsupported("Coment", "/"),
        ),
        (
            single(json!({
                "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Arguments": {},
                "End": true,
            })),
            vec![foreign("JSONPath", "Arguments", "JSONata")],
        ),
        (
            single(
                json!({"Type": "Pass", "QueryLanguage": "jsonata", "InputPath": "$.a",
                "Output": 1, "End": true}),
            ),
            vec![
                foreign("JSONata", "InputPath", "JSONPath"),
                no_language("/States/S"),
            ],
        ),
        (
            json!({"QueryLanguage": "jsonpath", "StartAt": "S", "States": {
                "S": {"Type": "Pass", "InputPath": "$.a", "End": true},
            }}),
            vec![no_language(""), foreign("JSONata", "InputPath", "JSONPath")],
        ),
        (
            // The language of a Map is not that of the states inside of it.
            single(
                json!({"Type": "Map", "QueryLanguage": "JSONata", "End": true,
                    "ItemProcessor": {"StartAt": "P", "States": {
                        "P": {"Type": "Pass", "Output": 1, "End": true},
                    }},
                }),
            ),
            vec![
                "SCHEMA_VALIDATION_FAILED: The QueryLanguage is set to 'JSONPath', but field \
                 'Output' is only supported for the 'JSONata' QueryLanguage at \
                 /States/S/ItemProcessor/States/P"
                    .to_owned(),
            ],
        ),
        (
            json!({"QueryLanguage": "JSONata", "StartAt": "S", "States": {"S": {
                "Type": "Map", "QueryLanguage": "JSONPath", "MaxConcurrency": -1, "End": true,
                "ItemProcessor": pass,
            }}}),
            vec![
                "SCHEMA_VALIDATION_FAILED: 'QueryLanguage' can not be 'JSONPath' if set to \
                 'JSONata' for whole state machine at /States/S"
                    .to_owned(),
                "SCHEMA_VALIDATION_FAILED: Minimum value is 0 at /States/S/MaxConcurrency"
                    .to_owned(),
            ],
        ),
        (
            json!({"QueryLanguage": 5, "StartAt": "P", "States": pass["States"]}),
            vec![
                "SCHEMA_VALIDATION_FAILED: Expected value of type [STRING] at /QueryLanguage"
                    .to_owned(),
            ],
        ),
        (
            single(json!({"Type": "Choice"})),
            vec![
                "SCHEMA_VALIDATION_FAILED: These fields are required: [Choices] at /States/S"
                    .to_owned(),
                "MISSING_END_STATE: Workflow has no terminal state at null".to_owned(),
            ],
        ),
        (
            json!({"StartAt": "S", "States": {
                "S": {"Type": "Choice", "Default": "E",
                    "Choices": [{"Variable": "$", "StringMatches": "Test"}]},
                "E": {"Type": "Succeed"},
            }}),
            vec![
                "SCHEMA_VALIDATION_FAILED: These fields are required: [Next] at \
                 /States/S/Choices[0]"
                    .to_owned(),
            ],
        ),
    ] {
        assert_eq!(wrong(&definition), expected, "{definition}");
    }
}

/// Measured on AWS, expression by expression.
#[test]
fn expressions_are_checked_before_they_run() {
    let output = |expression: &str| {
        let output = format!("{{% {expression} %}}");
        let mut definition = single(json!({"Type": "Pass", "Output": output, "End": true}));
        definition["QueryLanguage"] = json!("JSONata");
        wrong(&definition)
    };
    for (expression, message) in [
        ("a[1,2)", "Expected \"]\", got \",\""),
        (
            "\"unterminated",
            "String literal must be terminated by a matching quote",
        ),
        ("1 +", "Unexpected end of expression"),
        (
            "{\"a\":}",
            "The symbol \"}\" cannot be used as a unary operator",
        ),
        ("$x :=", "Unexpected end of expression"),
        (
            "$match(\"a\", /abc",
            "No terminating / in regular expression",
        ),
        ("", "Unexpected end of expression"),
    ] {
        let expected = format!("INVALID_JSONATA_EXPRESSION: {message} at /States/S/Output");
        assert_eq!(output(expression), [expected], "{expression}");
    }
    let top = |name: &str| format!("Reference to '{name}' at the top level is not supported.");
    for (expression, messages) in [
        ("phone", vec![top("phone")]),
        ("phone[0]", vec![top("phone")]),
        ("$.phone", vec![top("$")]),
        ("aaa + bbb + aaa", vec![top("aaa"), top("bbb")]),
        ("$map($states.input.a, function($x){ b })", vec![top("b")]),
        ("$$", vec!["Reference to '$$' is not supported.".to_owned()]),
        (
            "$states.errorOutput",
            vec!["Field '$states.errorOutput' does not exist.".to_owned()],
        ),
        ("$states.input.items[phone > 3]", vec![]),
        ("$map($states.input.a, function($x){ $x.phone })", vec![]),
        ("$phone", vec![]),
        ("$states.input.a.{'x': phone}", vec![]),
        ("$states.input.a^(>price)", vec![]),
        ("($x := 1; $x + 1)", vec![]),
    ] {
        let expected: Vec<String> = messages
            .iter()
            .map(|message| format!("UNSUPPORTED_JSONATA_EXPRESSION: {message} at /States/S/Output"))
            .collect();
        assert_eq!(output(expression), expected, "{expression}");
    }
    let mut nested = single(json!({"Type": "Pass", "End": true,
        "Output": {"a": {"b": ["{% phone %}"]}}, "Assign": {"Next": "{% x %}"}}));
    nested["QueryLanguage"] = json!("JSONata");
    assert_eq!(
        wrong(&nested),
        [
            "UNSUPPORTED_JSONATA_EXPRESSION: Reference to 'phone' at the top level is not \
             supported. at /States/S/Output/a/b[0]",
            "UNSUPPORTED_JSONATA_EXPRESSION: Reference to 'x' at the top level is not supported. \
             at /States/S/Assign/Next",
        ]
    );
}

#[test]
fn the_error_of_a_catcher_is_there_in_a_catcher() {
    let definition = json!({"QueryLanguage": "JSONata", "StartAt": "T", "States": {
        "T": {
            "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Next": "E",
            "Output": "{% $states.result %}",
            "Catch": [{
                "ErrorEquals": ["States.ALL"], "Next": "E",
                "Output": "{% $states.errorOutput %}", "Assign": {"e": "{% $states.errorOutput %}"},
            }],
        },
        "E": {"Type": "Pass", "End": true},
    }});
    assert_eq!(wrong(&definition), [""; 0]);
}

#[test]
fn warnings_do_not_refuse_a_definition() {
    let definition = single(json!({"Type": "Pass", "End": true,
        "Parameters": {"plain": "$.x", "path.$": "$.x", "price": "$5 a piece"},
        "Result": {"a.$": "$.x"},
    }))
    .to_string();
    assert!(Definition::parse(&definition).is_ok());
    let told: Vec<(Severity, &str, Option<String>)> = Definition::diagnose(&definition)
        .into_iter()
        .map(|found| (found.severity, found.code, found.location))
        .collect();
    let at = |place: &str| Some(place.to_owned());
    assert_eq!(
        told,
        [
            (
                Severity::Warning,
                "PASS_RESULT_IS_STATIC",
                at("/States/S/Result")
            ),
            (
                Severity::Warning,
                "NO_DOLLAR",
                at("/States/S/Parameters/plain")
            ),
        ]
    );
}

/// The texts are Jackson's.
#[test]
fn text_that_is_no_json_is_told_with_its_place() {
    let told = |text: &str| {
        let found = Definition::diagnose(text).remove(0);
        assert_eq!(found.code, "INVALID_JSON_DESCRIPTION");
        let message = found.message.split("\n at ").next().unwrap().to_owned();
        let location = found.location.unwrap();
        let (_, place) = location.rsplit_once("; ").unwrap();
        let (_, line) = location.rsplit_once("line: ").unwrap();
        assert!(line.ends_with(place.strip_prefix("line: ").unwrap_or(place)));
        (message, format!("line: {line}"))
    };
    for (text, message, place) in [
        (
            "not a definition",
            "Unrecognized token 'not': was expecting (JSON String, Number, Array, Object or token \
             'null', 'true' or 'false')",
            "line: 1, column: 4]",
        ),
        (
            "{\"a\": 1,\n}",
            "Unexpected character ('}' (code 125)): was expecting double-quote to start field name",
            "line: 2, column: 2]",
        ),
        (
            "{\"a\" 1}",
            "Unexpected character ('1' (code 49)): was expecting a colon to separate field name \
             and value",
            "line: 1, column: 7]",
        ),
        (
            "{\"a\": 1 \"b\": 2}",
            "Unexpected character ('\"' (code 34)): was expecting comma to separate Object entries",
            "line: 1, column: 10]",
        ),
    ] {
        assert_eq!(told(text), (message.to_owned(), place.to_owned()), "{text}");
    }
    assert_eq!(
        Definition::diagnose("not a definition")[0]
            .location
            .as_deref(),
        Some("[Source: (String)\"not a definition\"; line: 1, column: 4]")
    );
    let open = told("{\"a\": [1").0;
    assert_eq!(
        open,
        "Unexpected end-of-input: expected close marker for Array (start marker at [Source: \
         (String)\"{\"a\": [1\"; line: 1, column: 7])"
    );
}

/// Recorded.
#[test]
fn labels_are_refused_in_words_of_their_own() {
    let labelled = |label: &str| {
        single(
            json!({"Type": "Map", "End": true, "Label": label, "ItemProcessor": {
                "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
                "StartAt": "I", "States": {"I": {"Type": "Pass", "End": true}},
            }}),
        )
        .to_string()
    };
    assert!(Definition::parse(&labelled("Wörk_1")).is_ok());
    for (label, argument) in [
        ("label_#", "\"Label contains invalid character: '#'\""),
        ("label_\\", r#""Label contains invalid character: '\\\\'""#),
        ("label_\r", r#""Label contains invalid character: '\\r'""#),
        (
            "label_\u{85}",
            r#""Label contains invalid character: '\\x85'""#,
        ),
    ] {
        let text = labelled(label);
        let refused = Definition::parse(&text).unwrap_err();
        assert_eq!(
            refused.message(&text),
            format!("Error=ValueError Args=[{argument}] in definition '{text}'.")
        );
    }
}

#[test]
fn a_state_alone_may_lead_anywhere() {
    let state = json!({"Type": "Choice", "Default": "Elsewhere", "Choices": [
        {"Variable": "$.x", "IsNull": true, "Next": "There"},
    ]});
    let definition = Definition::of_state("StateName", &state.to_string()).unwrap();
    assert!(definition.find("StateName").is_some());
    let refused = Definition::of_state(
        "StateName",
        r#"{"Type": "Parallel", "Branches": [], "End": true}"#,
    );
    assert_eq!(
        refused.unwrap_err().message(""),
        "Invalid State Machine Definition: 'SCHEMA_VALIDATION_FAILED: Value cannot be empty at \
         /States/StateName/Branches'"
    );
}

#[test]
fn definitions_inside_definitions_have_a_bound() {
    let mut definition = json!({"StartAt": "S", "States": {"S": {"Type": "Pass", "End": true}}});
    for _ in 0..70 {
        definition = json!({"StartAt": "S", "States": {
            "S": {"Type": "Parallel", "End": true, "Branches": [definition]},
        }});
    }
    assert!(!wrong(&definition).is_empty());
    // Deeper than the JSON reader goes.
    let text = format!("{{\"States\": {}", "[".repeat(100_000));
    assert!(Definition::parse(&text).is_err());
}

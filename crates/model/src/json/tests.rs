use proptest::prelude::*;

use super::*;
use crate::lambda::{CreateFunctionInput, FunctionConfiguration, Runtime, VpcConfigResponse};
use crate::logs::{InputLogEvent, PutLogEventsInput};

fn read<T: FromJson + Default>(text: &str) -> Result<T, DecodeError> {
    from_body(&Bytes::copy_from_slice(text.as_bytes())).map(|(value, _)| value)
}

fn refusal<T: FromJson + Default>(text: &str) -> String {
    let Err(DecodeError::Serialization(message)) = read::<T>(text) else {
        panic!("accepted: {text}");
    };
    message
}

#[test]
fn unknown_members_and_nulls_are_passed_over() {
    let input: CreateFunctionInput = read(
        r#" {"Nonsense": {"a": [1, -2.5e3, true, false, null, "\u00e9\"", {}]}, "FunctionName": "f",
            "Handler": null, "Runtime": "python3.12", "Publish": true, "Timeout": 3} "#,
    )
    .unwrap();
    assert_eq!(input.function_name, "f");
    assert_eq!(
        (input.handler, input.publish, input.timeout),
        (None, Some(true), Some(3))
    );
    assert_eq!(input.runtime, Some(Runtime::Python312));
}

#[test]
fn the_last_of_two_equal_keys_wins() {
    let input: CreateFunctionInput = read(r#"{"Handler": "a", "Handler": "b"}"#).unwrap();
    assert_eq!(input.handler.as_deref(), Some("b"));
}

#[test]
fn wrong_types_are_told_in_the_words_of_aws() {
    type Input = CreateFunctionInput;
    for (text, expected) in [
        (
            r#"{"Handler": 1}"#,
            "NUMBER_VALUE cannot be converted to String",
        ),
        (
            r#"{"Handler": true}"#,
            "TRUE_VALUE cannot be converted to String",
        ),
        (
            r#"{"Handler": {}}"#,
            "Start of structure or map found where not expected.",
        ),
        (
            r#"{"Handler": []}"#,
            "Start of list found where not expected",
        ),
        (
            r#"{"MemorySize": "128"}"#,
            "STRING_VALUE cannot be converted to Integer",
        ),
        (
            r#"{"MemorySize": 1.5}"#,
            "NUMBER_VALUE cannot be converted to Integer",
        ),
        (
            r#"{"MemorySize": 99999999999}"#,
            "NUMBER_VALUE cannot be converted to Integer",
        ),
        (
            r#"{"Publish": "true"}"#,
            "STRING_VALUE cannot be converted to Boolean",
        ),
        (r#"{"Code": "zip"}"#, "Unexpected field type"),
        (r#"{"Layers": "l"}"#, "Unexpected field type"),
        (
            r#"{"Layers": {}}"#,
            "Start of structure or map found where not expected.",
        ),
        (r#"{"Tags": []}"#, "Start of list found where not expected"),
        (r"[]", "Start of list found where not expected"),
        (r"3", "Unexpected field type"),
    ] {
        assert_eq!(refusal::<Input>(text), expected, "{text}");
    }
}

#[test]
fn malformed_documents_are_refused() {
    for text in [
        "{",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,}",
        "{,}",
        "{a:1}",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":-}",
        "{\"a\":1e}",
        "{\"a\":tru}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12\"}",
        "{} {}",
        "{\"a\":[1,]}",
        "nul",
        "\u{feff}{}",
    ] {
        refusal::<CreateFunctionInput>(text);
    }
    assert!(
        from_body::<CreateFunctionInput>(&Bytes::from_static(b"{\"Handler\":\"\xff\"}")).is_err()
    );
    let deep = "[".repeat(100_000);
    refusal::<CreateFunctionInput>(&format!("{{\"a\":{deep}"));
}

#[test]
fn an_empty_body_is_an_empty_object() {
    assert_eq!(
        read::<CreateFunctionInput>("").unwrap(),
        CreateFunctionInput::default()
    );
}

#[test]
fn absent_required_members_are_noted_with_their_paths() {
    let body = r#"{"logGroupName": "g", "logEvents": [{"message": "m", "timestamp": 1}, {"message": "m"}, null]}"#;
    let (_, missing) =
        from_body::<PutLogEventsInput>(&Bytes::from_static(body.as_bytes())).unwrap();
    let mut expected = Missing::default();
    for path in [
        "logEvents.2.member.timestamp",
        "logEvents.3.member",
        "logStreamName",
    ] {
        expected.note(path);
    }
    assert_eq!(missing, expected);
}

#[test]
fn escapes_become_characters() {
    let text = r#"{"Handler": "\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\ud83dx"}"#;
    let input: CreateFunctionInput = read(text).unwrap();
    assert_eq!(input.handler.unwrap(), "\"\\/\u{8}\u{c}\n\r\té😀\u{fffd}x");
}

#[test]
fn a_blob_shares_the_memory_of_its_document() {
    let body = Bytes::from_static(br#"{"Code": {"ZipFile": "aGVsbG8="}}"#);
    let (input, _) = from_body::<CreateFunctionInput>(&body).unwrap();
    let zip = input.code.zip_file.unwrap();
    let text = zip.to_base64();
    assert!(body.as_ptr_range().contains(&text.as_ptr()));
    assert_eq!(zip.decode().unwrap(), "hello");
    // Some encoders escape slashes.
    let input: CreateFunctionInput = read(r#"{"Code": {"ZipFile": "\/\/8="}}"#).unwrap();
    assert_eq!(
        input.code.zip_file.unwrap().decode().unwrap().as_ref(),
        b"\xff\xff"
    );
}

#[test]
fn absent_members_are_not_written() {
    let configuration = FunctionConfiguration {
        function_name: Some("f".to_owned()),
        vpc_config: Some(VpcConfigResponse {
            subnet_ids: Some(Vec::new()),
            ..Default::default()
        }),
        ..Default::default()
    };
    assert_eq!(
        to_bytes(&configuration),
        r#"{"FunctionName":"f","VpcConfig":{"SubnetIds":[]}}"#
    );
}

#[test]
fn moments_are_written_with_the_decimals_they_need() {
    for (micros, text) in [
        (1_700_000_000_000_000, "1700000000"),
        (1_700_000_000_123_000, "1700000000.123"),
        (1_700_000_000_000_001, "1700000000.000001"),
        (-1_500_000, "-1.500"),
    ] {
        assert_eq!(to_bytes(&Timestamp::from_micros(micros)), text);
    }
}

proptest! {
    #[test]
    fn strings_survive(text: String) {
        let written = to_bytes(&text);
        prop_assert_eq!(serde_json::from_slice::<String>(&written).unwrap(), &*text);
        let mut reader = Reader::new(&written);
        prop_assert_eq!(String::from_json(&mut reader).unwrap(), text);
    }

    #[test]
    fn numbers_survive(long: i64, int: i32, float: f64) {
        prop_assume!(float.is_finite());
        prop_assert_eq!(i64::from_json(&mut Reader::new(&to_bytes(&long))).unwrap(), long);
        prop_assert_eq!(i32::from_json(&mut Reader::new(&to_bytes(&int))).unwrap(), int);
        prop_assert_eq!(f64::from_json(&mut Reader::new(&to_bytes(&float))).unwrap(), float);
    }

    #[test]
    fn moments_survive(micros in -4_000_000_000_000_000_i64..4_000_000_000_000_000) {
        let moment = Timestamp::from_micros(micros);
        prop_assert_eq!(Timestamp::from_json(&mut Reader::new(&to_bytes(&moment))).unwrap(), moment);
    }

    #[test]
    fn structures_survive(
        events in proptest::collection::vec((any::<String>(), any::<i64>()), 0..5),
        group: String,
    ) {
        let input = PutLogEventsInput {
            log_group_name: group,
            log_events: events
                .into_iter()
                .map(|(message, timestamp)| InputLogEvent { message, timestamp })
                .collect(),
            ..Default::default()
        };
        let (read, missing) = from_body::<PutLogEventsInput>(&to_bytes(&input)).unwrap();
        prop_assert_eq!(read, input);
        prop_assert!(missing.is_empty());
    }

    #[test]
    fn any_bytes_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = from_body::<CreateFunctionInput>(&bytes.into());
    }

    #[test]
    fn what_serde_json_accepts_is_accepted(value in json()) {
        let text = serde_json::to_string(&value).unwrap();
        let document = Bytes::from(text);
        let mut reader = Reader::new(&document);
        reader.skip().unwrap();
        reader.end().unwrap();
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

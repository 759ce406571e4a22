//! Intrinsic functions: whatever parses has a value, or a reason why it has none, and the same one
//! again. The call is the first line, the document follows.
#![no_main]

use asl::{Intrinsic, Scope, Seeded, Variables};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|text: &str| {
    let (source, document) = text.split_once('\n').unwrap_or((text, "{}"));
    let (Ok(call), Ok(document)) = (
        Intrinsic::parse(source),
        serde_json::from_str::<Value>(document),
    ) else {
        return;
    };
    let scope = Scope {
        input: &document,
        context: &Value::Null,
        variables: &Variables::new(),
    };
    let value = call.evaluate(&scope, &mut Seeded::new(1));
    let again =
        Intrinsic::parse(call.source()).map(|call| call.evaluate(&scope, &mut Seeded::new(1)));
    assert_eq!(again, Ok(value));
});

//! Intrinsic functions: whatever parses has a value, or a reason why it has none.
#![no_main]

use asl::{Intrinsic, Scope, Seeded, Variables};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: (&str, &str)| {
    let (source, document) = input;
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
    let _ = call.evaluate(&scope, &mut Seeded::new(1));
});

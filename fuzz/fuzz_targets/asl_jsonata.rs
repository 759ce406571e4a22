//! JSONata: whatever the text, it is refused before it runs, or it runs within its bounds, which are
//! those of libFuzzer here. `$states.input` and the variable `$v` have something in them.
#![no_main]

use std::sync::Arc;

use asl::failure::Evaluation;
use asl::jsonata::{Jsonata, Offered};
use asl::{Budget, Scope, Seeded, Variables};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

// What the library panics at is caught, and nothing to stop for.
fuzz_target!(init: drop(std::panic::take_hook()), |bytes: &[u8]| {
    let Ok(source) = std::str::from_utf8(bytes) else {
        return;
    };
    let Some(expression) = Jsonata::of(&format!("{{%{source}%}}")) else {
        return;
    };
    if !expression.mistakes(Offered::default()).is_empty() {
        return;
    }
    let input = json!({"a": [1, 2.5, "x", null, {"b": true}], "t": "text"});
    let variables = Variables::from([("v".into(), Arc::new(json!([3, 1, 2])))]);
    let mut chance = Seeded::new(1);
    let _ = expression.evaluate(
        "Output",
        &mut Evaluation {
            scope: Scope {
                input: &input,
                context: &Value::Null,
                variables: &variables,
            },
            chance: &mut chance,
            budget: Budget::default(),
            now_ms: 1_763_000_000_000,
            result: None,
            error_output: None,
        },
    );
});

//! JSONata: whatever the text, it is refused before it runs, or it runs within its bounds.
#![no_main]

use asl::failure::Evaluation;
use asl::jsonata::{Jsonata, Offered};
use asl::{Scope, Seeded, Variables};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|source: &str| {
    let Some(expression) = Jsonata::of(&format!("{{%{source}%}}")) else {
        return;
    };
    if !expression.mistakes(Offered::default()).is_empty() {
        return;
    }
    let input = json!({"a": [1, 2.5, "x", null, {"b": true}], "t": "text"});
    let mut chance = Seeded::new(1);
    let _ = expression.evaluate(
        "Output",
        &mut Evaluation {
            scope: Scope {
                input: &input,
                context: &Value::Null,
                variables: &Variables::new(),
            },
            chance: &mut chance,
            now_ms: 1_763_000_000_000,
            result: None,
            error_output: None,
        },
    );
});

//! Paths: whatever parses can be followed in any document.
#![no_main]

use asl::Path;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: (&str, &str)| {
    let (source, document) = input;
    let (Ok(path), Ok(document)) = (Path::parse(source), serde_json::from_str::<Value>(document))
    else {
        return;
    };
    let _ = path.select(&document);
    if path.is_reference() {
        let _ = path.put(document, Value::Null);
    }
});

//! Paths: whatever parses can be followed in any document, and what is put somewhere is found there.
//! The path is the first line, the document follows.
#![no_main]

use asl::Path;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|text: &str| {
    let (source, document) = text.split_once('\n').unwrap_or((text, "{}"));
    let (Ok(path), Ok(document)) = (Path::parse(source), serde_json::from_str::<Value>(document))
    else {
        return;
    };
    assert_eq!(Path::parse(path.source()).as_ref(), Ok(&path));
    if let Ok(selected) = path.select(&document) {
        assert!(path.is_definite() || selected.is_array());
    }
    if path.is_reference()
        && let Ok(changed) = path.put(document, json!("put"))
    {
        let found = path.select(&changed).map(|found| found.into_value());
        assert_eq!(found, Ok(json!("put")));
    }
});

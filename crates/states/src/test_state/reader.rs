//! What an `ItemReader` would read, as a test brings it along.

use asl::definition::ItemReader;
use serde_json::Value;

use crate::Error;

const MAX_BYTES: usize = 262_144;

/// The items in the text of a file.
pub fn items(reader: Option<&ItemReader>, text: &str) -> Result<Value, Error> {
    if text.len() > MAX_BYTES {
        return Err(Error::validation(
            "mapItemReaderData is longer than 262144 bytes",
        ));
    }
    let config = reader.and_then(|reader| reader.config.as_ref());
    let config = config.and_then(|config| config.as_value());
    let setting = |name: &str| config.and_then(|config| config.get(name)?.as_str());
    let lines = || text.lines().filter(|line| !line.trim().is_empty());
    match setting("InputType") {
        Some("JSONL") => lines()
            .map(|line| serde_json::from_str::<Value>(line).map_err(|_| wrong("JSON Lines")))
            .collect(),
        Some("CSV") => {
            let headers = usize::from(setting("CSVHeaderLocation") != Some("GIVEN"));
            Ok(lines().skip(headers).map(Value::from).collect())
        }
        _ => {
            let document: Value = serde_json::from_str(text).map_err(|_| wrong("JSON"))?;
            let items = match setting("ItemsPointer") {
                None => Some(&document),
                Some(pointer) => document.pointer(pointer),
            };
            match items {
                Some(items @ (Value::Array(_) | Value::Object(_))) => Ok(items.clone()),
                _ => Err(Error::validation("mapItemReaderData must hold an array")),
            }
        }
    }
}

fn wrong(format: &str) -> Error {
    Error::validation(format!("mapItemReaderData must be valid {format}"))
}

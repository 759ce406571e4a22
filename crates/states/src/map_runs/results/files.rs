//! Result files, each of one class of children, and the manifest that names them.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};

/// A file is written when it has so many bytes. AWS writes up to 5 GB; less is held in memory so.
const FILE_BYTES: usize = 16 << 20;

const CLASSES: [&str; 3] = ["FAILED", "PENDING", "SUCCEEDED"];

/// The files of a run: one that is being filled, and the names of those that are written.
#[derive(Debug, Default)]
pub struct Files {
    lines: bool,
    text: Vec<u8>,
    written: BTreeMap<&'static str, Vec<(String, usize)>>,
}

impl Files {
    pub fn new(lines: bool) -> Self {
        Self {
            lines,
            ..Self::default()
        }
    }

    /// Adds a result, which is JSON text.
    pub fn add(&mut self, text: &str) {
        if !self.lines {
            self.text
                .push(if self.text.is_empty() { b'[' } else { b',' });
        }
        self.text.extend_from_slice(text.as_bytes());
        if self.lines {
            self.text.push(b'\n');
        }
    }

    pub fn is_full(&self) -> bool {
        self.text.len() >= FILE_BYTES
    }

    /// The file as it is to be written, and its number; `None` if nothing is in it.
    pub fn take(&mut self, class: &'static str) -> Option<(usize, Bytes)> {
        if self.text.is_empty() {
            return None;
        }
        if !self.lines {
            self.text.push(b']');
        }
        let number = self.written.get(class).map_or(0, Vec::len);
        Some((number, std::mem::take(&mut self.text).into()))
    }

    pub fn written(&mut self, class: &'static str, key: String, size: usize) {
        self.written.entry(class).or_default().push((key, size));
    }
}

/// The manifest of a run.
pub fn manifest(bucket: &str, run_arn: &str, files: &Files) -> Bytes {
    let mut listed = serde_json::Map::new();
    for class in CLASSES {
        let of_class = files.written.get(class).into_iter().flatten();
        let of_class: Vec<Value> = of_class
            .map(|(key, size)| json!({"Key": key, "Size": size}))
            .collect();
        listed.insert(class.to_owned(), of_class.into());
    }
    let manifest = json!({
        "DestinationBucket": bucket,
        "MapRunArn": run_arn,
        "ResultFiles": listed,
    });
    manifest.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_arrays_or_lines_and_are_numbered_by_class() {
        let mut files = Files::new(false);
        assert!(files.take("FAILED").is_none());
        files.add("1");
        files.add("{}");
        let (number, body) = files.take("SUCCEEDED").unwrap();
        assert_eq!((number, &body[..]), (0, &b"[1,{}]"[..]));
        files.written("SUCCEEDED", "p/SUCCEEDED_0.json".into(), body.len());
        files.add("2");
        assert_eq!(files.take("SUCCEEDED").unwrap().0, 1);
        let mut lines = Files::new(true);
        lines.add("1");
        lines.add("2");
        assert_eq!(&lines.take("FAILED").unwrap().1[..], b"1\n2\n");
        let manifest: Value = serde_json::from_slice(&manifest("b", "arn", &files)).unwrap();
        let expected = json!({"DestinationBucket": "b", "MapRunArn": "arn", "ResultFiles": {
            "FAILED": [], "PENDING": [],
            "SUCCEEDED": [{"Key": "p/SUCCEEDED_0.json", "Size": 6}]}});
        assert_eq!(manifest, expected);
    }
}

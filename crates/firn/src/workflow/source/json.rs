//! JSON, and the lines of its parts.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Placeholders, Source, SourceError, below};

pub fn read(text: &str, placeholders: &mut Placeholders<'_>) -> Result<Source, SourceError> {
    let text = fill(text, placeholders);
    let value: Value = serde_json::from_str(&text).map_err(|error| SourceError::Syntax {
        line: error.line(),
        column: error.column(),
        message: message(&error),
    })?;
    let mut lines = BTreeMap::new();
    let mut scanner = Scanner {
        bytes: text.as_bytes(),
        at: 0,
        line: 1,
    };
    scanner.value(String::new(), &mut lines);
    Ok(Source {
        text,
        value,
        open: Vec::new(),
        lines,
    })
}

/// The reason alone, without the place that serde puts behind it.
fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    text[..end].to_owned()
}

/// Inside strings, values are written as parts of strings; elsewhere as they are.
fn fill(text: &str, placeholders: &mut Placeholders<'_>) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    let mut inside = false;
    while !rest.is_empty() {
        let end = if inside {
            string_end(rest)
        } else {
            rest.find('"').unwrap_or(rest.len())
        };
        let (part, behind) = rest.split_at(end);
        if inside {
            filled.push_str(&placeholders.fill(part, escaped));
        } else {
            filled.push_str(&placeholders.fill(part, str::to_owned));
        }
        if let Some(behind) = behind.strip_prefix('"') {
            filled.push('"');
            inside = !inside;
            rest = behind;
        } else {
            rest = behind;
        }
    }
    filled
}

/// Where a string's closing quote is.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at,
            _ => {}
        }
    }
    text.len()
}

fn escaped(value: &str) -> String {
    let quoted = Value::from(value).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Walks over a text that has just been read as JSON, so it is whole and not nested too deeply.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
}

impl Scanner<'_> {
    fn value(&mut self, pointer: String, lines: &mut BTreeMap<String, usize>) {
        match self.next() {
            Some(b'{') => self.object(&pointer, lines),
            Some(b'[') => self.array(&pointer, lines),
            Some(b'"') => drop(self.string()),
            _ => {
                while self
                    .bytes
                    .get(self.at)
                    .is_some_and(|b| !b" \t\r\n,]}".contains(b))
                {
                    self.at += 1;
                }
            }
        }
        // A member is where its name is.
        lines.entry(pointer).or_insert(self.line);
    }

    fn object(&mut self, pointer: &str, lines: &mut BTreeMap<String, usize>) {
        lines.entry(pointer.to_owned()).or_insert(self.line);
        self.at += 1;
        while self.next() == Some(b'"') {
            let line = self.line;
            let inner = below(pointer, &self.string());
            lines.insert(inner.clone(), line);
            self.next();
            self.at += 1;
            self.value(inner, lines);
            if self.next() == Some(b',') {
                self.at += 1;
            }
        }
        self.at += 1;
    }

    fn array(&mut self, pointer: &str, lines: &mut BTreeMap<String, usize>) {
        lines.entry(pointer.to_owned()).or_insert(self.line);
        self.at += 1;
        let mut index = 0;
        while self.next().is_some_and(|byte| byte != b']') {
            let inner = format!("{pointer}/{index}");
            lines.insert(inner.clone(), self.line);
            self.value(inner, lines);
            index += 1;
            if self.next() == Some(b',') {
                self.at += 1;
            }
        }
        self.at += 1;
    }

    fn string(&mut self) -> String {
        let start = self.at;
        self.at += 1;
        let mut escaped = false;
        while let Some(byte) = self.bytes.get(self.at) {
            self.at += 1;
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => break,
                _ => {}
            }
        }
        let text = self.bytes.get(start..self.at).unwrap_or_default();
        serde_json::from_slice(text).unwrap_or_default()
    }

    /// The next byte that is no space.
    fn next(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            match byte {
                b'\n' => self.line += 1,
                b' ' | b'\t' | b'\r' => {}
                _ => return Some(byte),
            }
            self.at += 1;
        }
    }
}

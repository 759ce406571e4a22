//! Definitions in files: JSON or YAML, with placeholders, and with the line of every part.

mod json;
mod yaml;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// AWS takes no longer ones.
pub const MAX_BYTES: usize = 1 << 20;

/// A definition as it is sent, and where its parts stand in the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    /// JSON text.
    pub text: String,
    pub value: Value,
    /// Placeholders that nothing was given for.
    pub open: Vec<String>,
    /// Lines by JSON pointer.
    lines: BTreeMap<String, usize>,
}

/// Why a file is no definition.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SourceError {
    #[error("line {line}, column {column}: {message}")]
    Syntax {
        line: usize,
        column: usize,
        message: String,
    },
    #[error("the definition is longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error("--param {0} has no place: the definition has no ${{{0}}}")]
    UnusedParameter(String),
}

/// What placeholders stand for.
pub type Parameters = BTreeMap<String, String>;

impl Source {
    /// Reads a definition. The name of the file tells YAML from JSON.
    pub fn read(name: &Path, text: &str, parameters: &Parameters) -> Result<Self, SourceError> {
        if text.len() > MAX_BYTES {
            return Err(SourceError::TooLong);
        }
        let extension = name.extension().and_then(|extension| extension.to_str());
        let mut placeholders = Placeholders::new(parameters);
        let mut source = if matches!(extension, Some("yaml" | "yml")) {
            yaml::read(text, &mut placeholders)?
        } else {
            json::read(text, &mut placeholders)?
        };
        if let Some(unused) = placeholders.unused() {
            return Err(SourceError::UnusedParameter(unused));
        }
        source.open = placeholders.open;
        Ok(source)
    }

    /// The line of a part, or of the nearest part around it. `location` is a JSON pointer, or one
    /// with `[0]` for elements, as diagnostics have them.
    pub fn line(&self, location: &str) -> Option<usize> {
        let pointer = location.replace('[', "/").replace(']', "");
        let mut pointer = pointer.trim_end_matches('/');
        loop {
            if let Some(line) = self.lines.get(pointer) {
                return Some(*line);
            }
            pointer = &pointer[..pointer.rfind('/')?];
        }
    }
}

/// Replaces `${Name}`, as SAM's `DefinitionSubstitutions` do.
struct Placeholders<'a> {
    parameters: &'a Parameters,
    used: Vec<&'a str>,
    open: Vec<String>,
}

impl<'a> Placeholders<'a> {
    fn new(parameters: &'a Parameters) -> Self {
        Self {
            parameters,
            used: Vec::new(),
            open: Vec::new(),
        }
    }

    /// The text with values for placeholders, each written by `write`.
    fn fill(&mut self, text: &str, write: impl Fn(&str) -> String) -> String {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, placeholder) = rest.split_at(at);
            filled.push_str(before);
            let name = &placeholder[2..];
            let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let (name, behind) = name.split_at(end.unwrap_or(name.len()));
            let known = behind
                .starts_with('}')
                .then(|| self.parameters.get_key_value(name))
                .flatten();
            if let Some((name, value)) = known {
                filled.push_str(&write(value));
                self.used.push(name);
                rest = &behind[1..];
            } else {
                let is_one = behind.starts_with('}') && !name.is_empty();
                if is_one && !self.open.iter().any(|open| open == name) {
                    self.open.push(name.to_owned());
                }
                filled.push_str("${");
                rest = &placeholder[2..];
            }
        }
        filled.push_str(rest);
        filled
    }

    fn unused(&self) -> Option<String> {
        let mut names = self.parameters.keys();
        names
            .find(|name| !self.used.contains(&name.as_str()))
            .cloned()
    }
}

/// A member's name as part of a JSON pointer.
fn below(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parameters(all: &[(&str, &str)]) -> Parameters {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        all.iter().map(owned).collect()
    }

    fn read(name: &str, text: &str, all: &[(&str, &str)]) -> Result<Source, SourceError> {
        Source::read(Path::new(name), text, &parameters(all))
    }

    #[test]
    fn json_and_yaml_are_the_same_definition() {
        let json = "{\n \"StartAt\": \"A\",\n \"States\": {\n  \"A\": {\"Type\": \"Wait\", \"Seconds\": 5,\n   \"End\": true}}}";
        let yaml =
            "# Waits\nStartAt: A\nStates:\n  A:\n    Type: Wait\n    Seconds: 5\n    End: true\n";
        let json = read("a.asl.json", json, &[]).unwrap();
        let yaml = read("a.asl.yaml", yaml, &[]).unwrap();
        assert_eq!(json.value, yaml.value);
        assert_eq!(json.line("/States/A/End"), Some(5));
        assert_eq!(yaml.line("/States/A/End"), Some(7));
        assert_eq!(yaml.line("/States/A/Nothing[3]/x"), Some(4));
    }

    #[test]
    fn placeholders_are_filled_in_texts_and_beside_them() {
        let text = r#"{"A": "x ${Name} y", "B": ${Number}, "C": "${Quoted}", "D": "${other}"}"#;
        let all = [("Name", "n"), ("Number", "5"), ("Quoted", "\"q\"")];
        let source = read("a.json", text, &all).unwrap();
        let expected = json!({"A": "x n y", "B": 5, "C": "\"q\"", "D": "${other}"});
        assert_eq!(source.value, expected);
        assert_eq!(source.open, ["other"]);
        let source = read(
            "a.yml",
            "A: ${Number}\nB: '${Number}'\nC: a ${Number}\n",
            &all[1..2],
        )
        .unwrap();
        assert_eq!(source.value, json!({"A": 5, "B": "5", "C": "a 5"}));
    }

    #[test]
    fn a_parameter_without_a_place_is_a_mistake() {
        let error = read("a.json", "{}", &[("Nmae", "x")]).unwrap_err();
        assert_eq!(error, SourceError::UnusedParameter("Nmae".into()));
    }

    #[test]
    fn mistakes_have_a_line() {
        let at = |name, text| match read(name, text, &[]) {
            Err(SourceError::Syntax { line, .. }) => line,
            other => panic!("{other:?}"),
        };
        assert_eq!(at("a.json", "{\n \"a\": }"), 2);
        assert_eq!(at("a.yaml", "a: 1\nb: [1, 2\n"), 3);
        assert_eq!(at("a.yaml", "a: 1\nb: !!binary x\n"), 2);
        assert_eq!(at("a.yaml", "a: 1\n? [1]\n: 2\n"), 2);
        assert_eq!(at("a.yaml", "a: 1\na: 2\n"), 2);
    }

    #[test]
    fn yaml_that_grows_without_end_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let inner = format!("*a{}, ", level - 1).repeat(10);
            text.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
        }
        assert!(matches!(
            read("a.yaml", &text, &[]),
            Err(SourceError::Syntax { .. })
        ));
        let deep = "[".repeat(100_000);
        assert!(read("a.yaml", &deep, &[]).is_err());
        assert!(read("a.json", &deep, &[]).is_err());
    }
}

//! Reading the members of one object, noting what is wrong with them.

use serde_json::{Map, Value};

use super::{Amount, Diagnostic, Language, Severity, Text};
use crate::intrinsic::Intrinsic;
use crate::jsonata::Jsonata;
use crate::path::Path;
use crate::template::Template;

pub const SCHEMA: &str = "SCHEMA_VALIDATION_FAILED";

/// An object of the definition, and where it is.
pub struct Fields<'d> {
    pub object: &'d Map<String, Value>,
    pub location: String,
    pub language: Language,
}

/// Everything that was found wrong.
#[derive(Default)]
pub struct Found(pub Vec<Diagnostic>);

impl Found {
    pub fn schema(&mut self, message: impl Into<String>, location: impl Into<String>) {
        self.add(SCHEMA, message, location);
    }

    pub fn add(
        &mut self,
        code: &'static str,
        message: impl Into<String>,
        location: impl Into<String>,
    ) {
        self.0.push(Diagnostic {
            severity: Severity::Error,
            code,
            message: message.into(),
            location: Some(location.into()),
        });
    }
}

impl<'d> Fields<'d> {
    pub fn at(&self, field: &str) -> String {
        format!("{}/{field}", self.location)
    }

    pub fn get(&self, field: &str) -> Option<&'d Value> {
        self.object.get(field)
    }

    /// The object in a member.
    pub fn inner(&self, field: &str, found: &mut Found) -> Option<Fields<'d>> {
        let value = self.get(field)?;
        let Some(object) = value.as_object() else {
            found.schema("Expected value of type Object", self.at(field));
            return None;
        };
        Some(Fields {
            object,
            location: self.at(field),
            language: self.language,
        })
    }

    pub fn text(&self, field: &str, found: &mut Found) -> Option<&'d str> {
        let text = self.get(field)?.as_str();
        if text.is_none() {
            found.schema("Expected value of type String", self.at(field));
        }
        text
    }

    pub fn required_text(&self, field: &str, found: &mut Found) -> Option<&'d str> {
        if self.get(field).is_none() {
            self.missing(field, found);
        }
        self.text(field, found)
    }

    pub fn missing(&self, field: &str, found: &mut Found) {
        found.schema(
            format!("The field '{field}' is required but was missing"),
            self.location.clone(),
        );
    }

    /// A whole number from `least` on.
    pub fn whole(&self, field: &str, least: u64, found: &mut Found) -> Option<u64> {
        let value = self.get(field)?;
        match value.as_u64() {
            Some(number) if number >= least => Some(number),
            _ => {
                let message =
                    format!("The field '{field}' must be a whole number, {least} or more");
                found.schema(message, self.at(field));
                None
            }
        }
    }

    /// A number, an expression, or the path in the field's sister `…Path`.
    pub fn amount(&self, field: &str, found: &mut Found) -> Option<Amount> {
        let by_path = format!("{field}Path");
        if self.language == Language::JsonPath
            && let Some(path) = self.path(&by_path, found)
        {
            return Some(Amount::Path(path));
        }
        let value = self.get(field)?;
        if let Some(number) = value.as_f64() {
            return Some(Amount::Value(number));
        }
        if self.language == Language::Jsonata
            && let Some(expression) = value.as_str().and_then(Jsonata::of)
        {
            self.check(field, &expression, found);
            return Some(Amount::Jsonata(expression));
        }
        found.schema("Expected value of type Integer", self.at(field));
        None
    }

    /// A path in a member that must be a path.
    pub fn path(&self, field: &str, found: &mut Found) -> Option<Path> {
        let text = self.text(field, found)?;
        match Path::parse(text) {
            Ok(path) => Some(path),
            Err(_) => {
                let message = format!("Invalid path '{text}'");
                found.schema(message, self.at(field));
                None
            }
        }
    }

    /// A path that may be null.
    pub fn optional_path(&self, field: &str, found: &mut Found) -> Option<Option<Path>> {
        match self.get(field)? {
            Value::Null => Some(None),
            _ => self.path(field, found).map(Some),
        }
    }

    /// A path that says where a value goes; may be null.
    pub fn reference(&self, field: &str, found: &mut Found) -> Option<Option<Path>> {
        let path = self.optional_path(field, found)?;
        if let Some(path) = &path
            && !path.is_reference()
        {
            let message = format!("Invalid path '{path}': it must be a reference path");
            found.schema(message, self.at(field));
        }
        Some(path)
    }

    pub fn template(&self, field: &str, found: &mut Found) -> Option<Template> {
        let value = self.get(field)?;
        match self.language {
            Language::JsonPath => match Template::json_path(value) {
                Ok(template) => Some(template),
                Err(wrong) => {
                    let message = format!(
                        "The value for the field '{}' must be a valid JSONPath or a valid \
                         intrinsic function call",
                        wrong.field
                    );
                    found.schema(message, self.at(field));
                    None
                }
            },
            Language::Jsonata => {
                let template = Template::jsonata(value);
                let mut expressions = Vec::new();
                template.expressions(field, &mut expressions);
                for (place, expression) in expressions {
                    self.check(&place, expression, found);
                }
                Some(template)
            }
        }
    }

    /// A text in one of the forms `X`, `XPath` or, with JSONata, an expression.
    pub fn text_or_path(&self, field: &str, found: &mut Found) -> Option<Text> {
        let by_path = format!("{field}Path");
        if self.language == Language::JsonPath
            && let Some(source) = self.text(&by_path, found)
        {
            if Intrinsic::is_intended(source) {
                return match Intrinsic::parse(source) {
                    Ok(call) => Some(Text::Intrinsic(call)),
                    Err(error) => {
                        found.schema(error.to_string(), self.at(&by_path));
                        None
                    }
                };
            }
            return self.path(&by_path, found).map(Text::Path);
        }
        self.text(field, found)?;
        self.template(field, found).map(Text::Template)
    }

    fn check(&self, place: &str, expression: &Jsonata, found: &mut Found) {
        if let Err(reason) = expression.check() {
            let message = format!("Invalid JSONata expression: {reason}");
            found.schema(message, self.at(place));
        }
    }
}

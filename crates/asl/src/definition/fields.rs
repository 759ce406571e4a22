//! Reading the members of one object, noting what is wrong with them.

use serde_json::{Map, Value};

use super::{Amount, Diagnostic, Language, Severity, Text};
use crate::intrinsic::Intrinsic;
use crate::jsonata::{Jsonata, Offered};
use crate::path::Path;
use crate::template::Template;

pub const SCHEMA: &str = "SCHEMA_VALIDATION_FAILED";
/// The most seconds that a field can have.
pub const MAX_SECONDS: u64 = 99_999_999;

/// An object of the definition, and where it is.
#[derive(Clone)]
pub struct Fields<'d> {
    pub object: &'d Map<String, Value>,
    pub location: String,
    /// The query language of the state.
    pub language: Language,
    /// The query language of the whole machine: states inside of states have it, unless they say
    /// otherwise.
    pub machine: Language,
}

/// Everything that was found wrong, in the order in which AWS tells it: first what an object says,
/// then where states lead.
#[derive(Default)]
pub struct Found {
    objects: Vec<Diagnostic>,
    transitions: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    /// There is an expression whose evaluation may take long.
    is_heavy: bool,
}

impl Found {
    /// Notes what evaluating an expression may take.
    pub fn weigh(&mut self, expression: &Jsonata) {
        self.is_heavy |= expression.is_heavy();
    }

    pub const fn is_heavy(&self) -> bool {
        self.is_heavy
    }

    pub fn schema(&mut self, message: impl Into<String>, location: impl Into<String>) {
        self.error(SCHEMA, message, location);
    }

    pub fn error(
        &mut self,
        code: &'static str,
        message: impl Into<String>,
        location: impl Into<String>,
    ) {
        let location = Some(location.into());
        self.objects
            .push(diagnostic(Severity::Error, code, message, location));
    }

    /// Something about where states lead; the whole machine has no location.
    pub fn transition(
        &mut self,
        code: &'static str,
        message: impl Into<String>,
        location: Option<String>,
    ) {
        self.transitions
            .push(diagnostic(Severity::Error, code, message, location));
    }

    pub fn warning(
        &mut self,
        code: &'static str,
        message: impl Into<String>,
        location: impl Into<String>,
    ) {
        let location = Some(location.into());
        self.warnings
            .push(diagnostic(Severity::Warning, code, message, location));
    }

    pub fn is_wrong(&self) -> bool {
        !self.objects.is_empty() || !self.transitions.is_empty()
    }

    pub fn into_all(self) -> Vec<Diagnostic> {
        let Self {
            mut objects,
            transitions,
            warnings,
            is_heavy: _,
        } = self;
        objects.extend(transitions);
        objects.extend(warnings);
        objects
    }
}

fn diagnostic(
    severity: Severity,
    code: &'static str,
    message: impl Into<String>,
    location: Option<String>,
) -> Diagnostic {
    Diagnostic {
        severity,
        code,
        message: message.into(),
        location,
    }
}

impl<'d> Fields<'d> {
    pub fn at(&self, field: &str) -> String {
        format!("{}/{field}", self.location)
    }

    /// The place of the object itself.
    pub fn here(&self) -> String {
        match self.location.as_str() {
            "" => "/".to_owned(),
            location => location.to_owned(),
        }
    }

    pub fn get(&self, field: &str) -> Option<&'d Value> {
        self.object.get(field)
    }

    /// The object in a member.
    pub fn inner(&self, field: &str, found: &mut Found) -> Option<Fields<'d>> {
        let value = self.get(field)?;
        let Some(object) = value.as_object() else {
            self.expected("OBJECT", field, found);
            return None;
        };
        Some(Fields {
            object,
            location: self.at(field),
            ..*self
        })
    }

    pub fn text(&self, field: &str, found: &mut Found) -> Option<&'d str> {
        let text = self.get(field)?.as_str();
        if text.is_none() {
            self.expected("STRING", field, found);
        }
        text
    }

    pub fn required_text(&self, field: &str, found: &mut Found) -> Option<&'d str> {
        self.require(&[field], found);
        self.text(field, found)
    }

    pub fn flag(&self, field: &str, found: &mut Found) -> Option<bool> {
        let flag = self.get(field)?.as_bool();
        if flag.is_none() {
            self.expected("BOOLEAN", field, found);
        }
        flag
    }

    fn expected(&self, kind: &str, field: &str, found: &mut Found) {
        found.schema(format!("Expected value of type [{kind}]"), self.at(field));
    }

    /// Members that have to be there.
    pub fn require(&self, fields: &[&str], found: &mut Found) -> bool {
        let missing: Vec<&str> = fields
            .iter()
            .copied()
            .filter(|field| self.get(field).is_none())
            .collect();
        if !missing.is_empty() {
            let message = format!("These fields are required: [{}]", missing.join(", "));
            found.schema(message, self.here());
        }
        missing.is_empty()
    }

    /// Members of which one has to be there, and no more.
    pub fn require_one(&self, fields: &[&str], found: &mut Found) -> bool {
        let given = fields.iter().filter(|field| self.get(field).is_some());
        let is_one = given.count() == 1;
        if !is_one {
            let message = format!(
                "Exactly one of these fields is required: [{}]",
                fields.join(", ")
            );
            found.schema(message, self.here());
        }
        is_one
    }

    /// A field and the path that can stand for it must not be there both.
    pub fn not_both(&self, field: &str, other: &str, found: &mut Found) {
        if self.get(field).is_some() && self.get(other).is_some() {
            let message = format!("Only one of these fields is allowed: [{field}, {other}]");
            found.schema(message, self.at(field));
        }
    }

    /// Members of other names are refused.
    pub fn only(&self, known: &[&[&str]], found: &mut Found) {
        for field in self.object.keys() {
            if !known.iter().any(|names| names.contains(&field.as_str())) {
                let message = format!("Field '{field}' is not supported");
                found.schema(message, self.here());
            }
        }
    }

    /// One of some texts.
    pub fn one_of(
        &self,
        field: &str,
        values: &[&'static str],
        found: &mut Found,
    ) -> Option<&'static str> {
        let text = self.text(field, found)?;
        let value = values.iter().copied().find(|value| *value == text);
        if value.is_none() {
            let message = format!(
                "Value should be one of the following: [{}]",
                values.join(", ")
            );
            found.schema(message, self.at(field));
        }
        value
    }

    /// A whole number in a range.
    pub fn whole(&self, field: &str, least: u64, most: u64, found: &mut Found) -> Option<u64> {
        let value = self.get(field)?;
        let is_whole = value.as_i64().is_some() || value.as_u64().is_some();
        if !is_whole {
            self.expected("INTEGER", field, found);
            return None;
        }
        // What is negative is less than any bound here.
        let number = value.as_u64();
        if number.is_none_or(|number| number < least) {
            found.schema(format!("Minimum value is {least}"), self.at(field));
            return None;
        }
        if number.is_some_and(|number| number > most) {
            found.schema(format!("Maximum value is {most}"), self.at(field));
            return None;
        }
        number
    }

    /// A number in a range, an expression, or the path in the field's sister `…Path`.
    pub fn amount(&self, field: &str, range: Range, found: &mut Found) -> Option<Amount> {
        let by_path = format!("{field}Path");
        self.not_both(field, &by_path, found);
        if self.language == Language::JsonPath && self.get(&by_path).is_some() {
            return self.reference(&by_path, found).flatten().map(Amount::Path);
        }
        let value = self.get(field)?;
        if self.language == Language::Jsonata
            && let Some(expression) = value.as_str().and_then(Jsonata::of)
        {
            self.check(field, &expression, Offered::default(), found);
            return Some(Amount::Jsonata(expression));
        }
        let number = match (value.as_f64(), range.whole) {
            (Some(number), true) if number.fract() == 0.0 => number,
            (Some(number), false) => number,
            (_, true) => {
                self.expected("INTEGER", field, found);
                return None;
            }
            (None, false) => {
                self.expected("NUMBER", field, found);
                return None;
            }
        };
        if number < range.least {
            found.schema(format!("Minimum value is {}", range.least), self.at(field));
            return None;
        }
        if number > range.most {
            found.schema(format!("Maximum value is {}", range.most), self.at(field));
            return None;
        }
        Some(Amount::Value(number))
    }

    /// A path in a member that must be a path.
    pub fn path(&self, field: &str, found: &mut Found) -> Option<Path> {
        let text = self.text(field, found)?;
        let path = Path::parse(text).ok();
        if path.is_none() {
            let message = format!("The value for the field '{field}' must be a valid JSONPath");
            found.schema(message, self.at(field));
        }
        path
    }

    /// A path that may be null.
    pub fn optional_path(&self, field: &str, found: &mut Found) -> Option<Option<Path>> {
        match self.get(field)? {
            Value::Null => Some(None),
            _ => self.path(field, found).map(Some),
        }
    }

    /// A path that leads to one place; may be null.
    pub fn reference(&self, field: &str, found: &mut Found) -> Option<Option<Path>> {
        let path = self.optional_path(field, found)?;
        if let Some(path) = &path
            && !path.is_reference()
        {
            found.schema("Value is not a Reference Path", self.at(field));
        }
        Some(path)
    }

    pub fn template(&self, field: &str, offered: Offered, found: &mut Found) -> Option<Template> {
        let value = self.get(field)?;
        match self.language {
            Language::JsonPath => match Template::json_path(value) {
                Ok(template) => {
                    plain_paths(value, &self.at(field), found);
                    Some(template)
                }
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
                    self.check(&place, expression, offered, found);
                }
                Some(template)
            }
        }
    }

    /// A text in one of the forms `X`, `XPath` or, with JSONata, an expression.
    pub fn text_or_path(&self, field: &str, found: &mut Found) -> Option<Text> {
        let by_path = format!("{field}Path");
        self.not_both(field, &by_path, found);
        if self.language == Language::JsonPath
            && let Some(source) = self.text(&by_path, found)
        {
            if Intrinsic::is_intended(source) {
                return match Intrinsic::parse(source) {
                    Ok(call) => Some(Text::Intrinsic(call)),
                    Err(_) => {
                        let message = format!(
                            "The value for the field '{by_path}' must be a valid JSONPath or a \
                             valid intrinsic function call"
                        );
                        found.schema(message, self.at(&by_path));
                        None
                    }
                };
            }
            return self.reference(&by_path, found).flatten().map(Text::Path);
        }
        let text = self.text(field, found)?;
        match self.language {
            // A text with a dollar in it is a text here.
            Language::JsonPath => Some(Text::Template(Template::Value(text.into()))),
            Language::Jsonata => self
                .template(field, Offered::default(), found)
                .map(Text::Template),
        }
    }

    fn check(&self, place: &str, expression: &Jsonata, offered: Offered, found: &mut Found) {
        found.weigh(expression);
        for mistake in expression.mistakes(offered) {
            found.error(mistake.code, mistake.message, self.at(place));
        }
    }
}

/// What numbers a field can have.
#[derive(Clone, Copy)]
pub struct Range {
    pub least: f64,
    pub most: f64,
    pub whole: bool,
}

impl Range {
    pub const COUNT: Self = Self {
        least: 0.0,
        most: f64::INFINITY,
        whole: true,
    };
    pub const POSITIVE: Self = Self {
        least: 1.0,
        ..Self::COUNT
    };
    /// Of `TimeoutSeconds`.
    #[expect(clippy::cast_precision_loss, reason = "it is exact")]
    pub const TIMEOUT: Self = Self {
        least: 1.0,
        most: MAX_SECONDS as f64,
        whole: true,
    };
    /// Of `Wait`.
    pub const SECONDS: Self = Self {
        least: 0.0,
        ..Self::TIMEOUT
    };
    pub const PERCENTAGE: Self = Self {
        least: 0.0,
        most: 100.0,
        whole: false,
    };
}

/// Warns of texts that look like paths where they are taken as texts.
fn plain_paths(value: &Value, location: &str, found: &mut Found) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if !name.ends_with(".$")
                    && let Some(text) = member.as_str()
                    && looks_dynamic(text)
                {
                    let message =
                        "No .$ on a field that appears to be a JSONPath or Intrinsic Function.";
                    found.warning("NO_DOLLAR", message, format!("{location}/{name}"));
                }
                plain_paths(member, &format!("{location}/{name}"), found);
            }
        }
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                plain_paths(element, &format!("{location}[{index}]"), found);
            }
        }
        _ => {}
    }
}

/// Whether a text is meant as a path or as a call, by its look.
pub fn looks_dynamic(text: &str) -> bool {
    let is_path = text.starts_with('$') && Path::parse(text).is_ok();
    is_path || (Intrinsic::is_intended(text) && Intrinsic::parse(text).is_ok())
}

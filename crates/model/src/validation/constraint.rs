use std::sync::OnceLock;

use fancy_regex::Regex;

use super::Show;

/// The constraints on one value.
#[derive(Debug)]
pub struct Constraint {
    /// Bounds on the value's length or on the number itself.
    pub size: Size,
    /// A regular expression for the whole text.
    pub pattern: Option<&'static Pattern>,
    /// The values allowed, in the order in which AWS lists them.
    pub one_of: Option<&'static [&'static str]>,
    /// True if AWS lists `Member must not be null` among the constraints of a list's element.
    pub not_null: bool,
    /// True if the value must not show in a message.
    pub sensitive: bool,
}

/// Bounds, inclusive.
#[derive(Debug)]
pub enum Size {
    /// None.
    Any,
    /// Of a text in UTF-16 code units, or of a list or map.
    Length { min: Option<i64>, max: Option<i64> },
    /// Of a whole number.
    Range { min: Option<i64>, max: Option<i64> },
    /// Of a number.
    FloatRange { min: Option<f64>, max: Option<f64> },
}

impl Constraint {
    /// No constraint at all; a base for `..Constraint::NONE`.
    pub const NONE: Self = Self {
        size: Size::Any,
        pattern: None,
        one_of: None,
        not_null: false,
        sensitive: false,
    };

    /// All constraints in words, whether broken or not.
    pub(super) fn descriptions(&self) -> Vec<String> {
        let mut list = Vec::new();
        match self.size {
            Size::Any => {}
            Size::Length { min, max } => {
                list.extend(max.map(too_long));
                list.extend(min.map(too_short));
            }
            Size::Range { min, max } => {
                list.extend(max.map(too_large));
                list.extend(min.map(too_small));
            }
            Size::FloatRange { min, max } => {
                list.extend(max.map(|max| too_large(format!("{max:?}"))));
                list.extend(min.map(|min| too_small(format!("{min:?}"))));
            }
        }
        list.extend(self.pattern.map(mismatch));
        list.extend(self.one_of.map(not_listed));
        if self.not_null {
            list.push("Member must not be null".to_owned());
        }
        list
    }

    pub(super) fn check_length(&self, length: usize, found: &mut Vec<String>) {
        let Size::Length { min, max } = self.size else {
            return;
        };
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        found.extend(max.filter(|max| length > *max).map(too_long));
        found.extend(min.filter(|min| length < *min).map(too_short));
    }
}

/// A value that constraints can be checked on.
pub trait Constrained: Show {
    /// Describes each constraint that the value breaks.
    fn check(&self, constraint: &Constraint, found: &mut Vec<String>);
}

/// Checks a text: its length, its pattern, whether it is a listed value.
pub fn check_text(text: &str, constraint: &Constraint, found: &mut Vec<String>) {
    if !matches!(constraint.size, Size::Any) {
        let length = if text.is_ascii() {
            text.len()
        } else {
            text.encode_utf16().count()
        };
        constraint.check_length(length, found);
    }
    found.extend(
        constraint
            .pattern
            .filter(|pattern| !pattern.matches(text))
            .map(mismatch),
    );
    found.extend(
        constraint
            .one_of
            .filter(|values| !values.contains(&text))
            .map(not_listed),
    );
}

impl Constrained for String {
    fn check(&self, constraint: &Constraint, found: &mut Vec<String>) {
        check_text(self, constraint, found);
    }
}

impl Constrained for i64 {
    fn check(&self, constraint: &Constraint, found: &mut Vec<String>) {
        let Size::Range { min, max } = constraint.size else {
            return;
        };
        found.extend(max.filter(|max| self > max).map(too_large));
        found.extend(min.filter(|min| self < min).map(too_small));
    }
}

impl Constrained for i32 {
    fn check(&self, constraint: &Constraint, found: &mut Vec<String>) {
        i64::from(*self).check(constraint, found);
    }
}

impl Constrained for f64 {
    fn check(&self, constraint: &Constraint, found: &mut Vec<String>) {
        let Size::FloatRange { min, max } = constraint.size else {
            return;
        };
        found.extend(
            max.filter(|max| self > max)
                .map(|max| too_large(format!("{max:?}"))),
        );
        found.extend(
            min.filter(|min| self < min)
                .map(|min| too_small(format!("{min:?}"))),
        );
    }
}

impl Constrained for crate::Blob {
    fn check(&self, constraint: &Constraint, found: &mut Vec<String>) {
        constraint.check_length(self.len(), found);
    }
}

fn too_long(max: i64) -> String {
    format!("Member must have length less than or equal to {max}")
}

fn too_short(min: i64) -> String {
    format!("Member must have length greater than or equal to {min}")
}

fn too_large(max: impl std::fmt::Display) -> String {
    format!("Member must have value less than or equal to {max}")
}

fn too_small(min: impl std::fmt::Display) -> String {
    format!("Member must have value greater than or equal to {min}")
}

fn mismatch(pattern: &'static Pattern) -> String {
    format!(
        "Member must satisfy regular expression pattern: {}",
        pattern.source
    )
}

fn not_listed(values: &'static [&'static str]) -> String {
    format!(
        "Member must satisfy enum value set: [{}]",
        values.join(", ")
    )
}

/// A regular expression from an interface, compiled when first needed.
#[derive(Debug)]
pub struct Pattern {
    source: &'static str,
    expression: &'static str,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// `source` is the interface's (Java) notation, for messages; `expression` the same in Rust's.
    pub const fn new(source: &'static str, expression: &'static str) -> Self {
        Self {
            source,
            expression,
            compiled: OnceLock::new(),
        }
    }

    /// True if the whole text matches. A text on which the search grows beyond bounds does not.
    pub fn matches(&self, text: &str) -> bool {
        self.regex()
            .is_some_and(|regex| regex.is_match(text).unwrap_or(false))
    }

    /// Whether the expression compiles, which a test checks for all patterns.
    pub fn is_valid(&self) -> bool {
        self.regex().is_some()
    }

    fn regex(&self) -> Option<&Regex> {
        self.compiled
            .get_or_init(|| Regex::new(&format!("^(?:{})$", self.expression)).ok())
            .as_ref()
    }
}

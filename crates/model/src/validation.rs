//! Constraint checks with AWS's messages.
//!
//! A request that breaks constraints is answered with one message that lists every violation:
//! `2 validation errors detected: Value '' at 'name' failed to satisfy constraint: Member must …;
//! Value null at …`. The wording, the way values are shown and the order (that of the interface's
//! members) follow answers recorded on AWS.

mod constraint;
mod missing;
mod path;
mod show;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::DecodeError;

pub use constraint::{Constrained, Constraint, Pattern, Size, check_text};
pub use missing::Missing;
pub(crate) use missing::push_member;
pub use path::Path;
pub use show::{Show, Structure};

/// A structure with constraints on its members, or on members of those.
pub trait Validate {
    /// Reports every violation within the structure at `at`.
    fn validate(&self, validator: &mut Validator, at: &Path<'_>);
}

/// Collects violations.
#[derive(Debug, Default)]
pub struct Validator {
    missing: Missing,
    violations: Vec<String>,
}

/// More violations than this are not listed, so that one request cannot ask for an endless answer.
const MAX_VIOLATIONS: usize = 100;

impl Validator {
    /// Checks a whole input, given which of its required members were absent.
    pub fn check<T: Validate>(input: &T, missing: Missing) -> Result<(), DecodeError> {
        let mut validator = Self {
            missing,
            violations: Vec::new(),
        };
        input.validate(&mut validator, &Path::ROOT);
        // What is left are nulls inside lists and maps, which no member's check comes across.
        for path in validator.missing.take() {
            validator.report(&path, " null", "Member must not be null");
        }
        validator.finish()
    }

    fn finish(self) -> Result<(), DecodeError> {
        let count = self.violations.len();
        if count == 0 {
            return Ok(());
        }
        let plural = if count == 1 { "" } else { "s" };
        let list = self.violations.join("; ");
        Err(DecodeError::Validation(format!(
            "{count} validation error{plural} detected: {list}"
        )))
    }

    /// The value of a required member, or a violation if it was absent.
    pub fn required<'v, T>(
        &mut self,
        at: &Path<'_>,
        name: &'static str,
        value: &'v T,
    ) -> Option<&'v T> {
        if self.missing.is_empty() || !self.missing.remove(&at.member(name).to_string()) {
            return Some(value);
        }
        self.report(&at.member(name), " null", "Member must not be null");
        None
    }

    /// Checks a single value.
    pub fn value<T: Constrained>(
        &mut self,
        at: &Path<'_>,
        name: &'static str,
        value: Option<&T>,
        constraint: &Constraint,
    ) {
        let Some(value) = value else { return };
        let mut found = Vec::new();
        value.check(constraint, &mut found);
        if !found.is_empty() {
            self.report_each(&at.member(name), value, constraint.sensitive, &found);
        }
    }

    /// Checks the length of a list or map.
    pub fn length<T: Show>(
        &mut self,
        at: &Path<'_>,
        name: &'static str,
        value: Option<(&T, usize)>,
        constraint: &Constraint,
    ) {
        let Some((value, length)) = value else { return };
        let mut found = Vec::new();
        constraint.check_length(length, &mut found);
        if !found.is_empty() {
            self.report_each(&at.member(name), value, constraint.sensitive, &found);
        }
    }

    /// Checks each value of a list of single values; AWS reports the list as a whole.
    pub fn elements<T: Constrained>(
        &mut self,
        at: &Path<'_>,
        name: &'static str,
        list: Option<&Vec<T>>,
        element: &Constraint,
    ) {
        let Some(list) = list else { return };
        if !list.iter().all(|value| satisfies(value, element)) {
            let mut descriptions = element.descriptions();
            let found = match descriptions.len() {
                1 => descriptions.remove(0),
                _ => format!(
                    "Member must satisfy constraint: [{}]",
                    descriptions.join(", ")
                ),
            };
            self.report_each(&at.member(name), list, element.sensitive, &[found]);
        }
    }

    /// Checks each key of a map.
    pub fn keys<T: Show>(
        &mut self,
        at: &Path<'_>,
        name: &'static str,
        map: Option<&BTreeMap<String, T>>,
        key: &Constraint,
    ) {
        let Some(map) = map else { return };
        if !map.keys().all(|value| satisfies(value, key)) {
            let found = format!(
                "Map keys must satisfy constraint: [{}]",
                key.descriptions().join(", ")
            );
            self.report_each(&at.member(name), map, key.sensitive, &[found]);
        }
    }

    /// Checks each value of a map of single values.
    pub fn values<T: Constrained>(
        &mut self,
        at: &Path<'_>,
        name: &'static str,
        map: Option<&BTreeMap<String, T>>,
        value: &Constraint,
    ) {
        let Some(map) = map else { return };
        if !map.values().all(|item| satisfies(item, value)) {
            let found = format!(
                "Map value must satisfy constraint: [{}]",
                value.descriptions().join(", ")
            );
            self.report_each(&at.member(name), map, value.sensitive, &[found]);
        }
    }

    /// Checks the members of a structure.
    pub fn structure<T: Validate>(&mut self, at: &Path<'_>, name: &'static str, value: Option<&T>) {
        if let Some(value) = value {
            value.validate(self, &at.member(name));
        }
    }

    /// Checks the members of each structure in a list.
    pub fn structures<T: Validate>(
        &mut self,
        at: &Path<'_>,
        name: &'static str,
        list: Option<&Vec<T>>,
    ) {
        let at = at.member(name);
        for (index, value) in list.into_iter().flatten().enumerate() {
            value.validate(self, &at.index(index));
        }
    }

    /// Checks the members of each structure in a map.
    pub fn structures_by_key<T: Validate>(
        &mut self,
        at: &Path<'_>,
        name: &'static str,
        map: Option<&BTreeMap<String, T>>,
    ) {
        let at = at.member(name);
        for (key, value) in map.into_iter().flatten() {
            value.validate(self, &at.key(key));
        }
    }

    fn report_each<T: Show>(
        &mut self,
        at: &Path<'_>,
        value: &T,
        sensitive: bool,
        found: &[String],
    ) {
        let mut shown = String::new();
        if !sensitive {
            shown.push_str(" '");
            value.show(&mut shown);
            shown.push('\'');
        }
        for violation in found {
            self.report(at, &shown, violation);
        }
    }

    fn report(&mut self, at: &dyn Display, shown: &str, violation: &str) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(format!(
                "Value{shown} at '{at}' failed to satisfy constraint: {violation}"
            ));
        }
    }
}

fn satisfies<T: Constrained>(value: &T, constraint: &Constraint) -> bool {
    let mut found = Vec::new();
    value.check(constraint, &mut found);
    found.is_empty()
}

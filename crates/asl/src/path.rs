//! JSONPath as Amazon States Language has it: Jayway's dialect, with `$$` for the context object
//! and `$name` for variables.
//!
//! A path is *definite* if it can lead to one value at most. An indefinite path (wildcard, slice,
//! several names or indices, filter, descent) always gives an array.
//! <https://docs.aws.amazon.com/step-functions/latest/dg/amazon-states-language-paths.html>

mod filter;
mod parse;
mod select;
#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::Value;

pub use filter::numbers as compare_numbers;
pub use parse::ParsePathError;

/// A parsed path. [`Path::parse`] accepts what [`Path::source`] shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    source: Box<str>,
    root: Root,
    steps: Vec<Step>,
}

/// What a path starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// `$`: the state's input, or whatever the field is applied to.
    Input,
    /// `$$`: the context object.
    Context,
    /// `$name`: a variable.
    Variable(Box<str>),
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// `.name` or `['name']`.
    Name(Box<str>),
    /// `['a', 'b']`.
    Names(Vec<Box<str>>),
    /// `[3]`; counted from the end if negative.
    Index(i64),
    /// `[0, 2]`.
    Indices(Vec<i64>),
    /// `[from:to]`.
    Slice(Option<i64>, Option<i64>),
    /// `[*]` or `.*`.
    Wildcard,
    /// `[?(…)]`.
    Filter(Box<filter::Expression>),
    /// `..`: what follows is looked for at every depth.
    Descent,
    /// `.length()`.
    Length,
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq)]
pub enum Selected<'v> {
    /// A definite path's value.
    One(&'v Value),
    /// The values of an indefinite path, or a number that a function gave.
    Computed(Value),
}

/// A definite path leads nowhere, or another one to too much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoResult {
    /// The part of the path that finds nothing, as Jayway writes it: `$['a'][0]`.
    pub at: String,
    /// The path leads to more than can be held, rather than nowhere.
    pub is_too_much: bool,
}

impl NoResult {
    fn at(at: &str) -> Self {
        let at = at.to_owned();
        let is_too_much = false;
        Self { at, is_too_much }
    }
}

impl Path {
    /// Parses a whole path.
    pub fn parse(source: &str) -> Result<Self, ParsePathError> {
        parse::path(source)
    }

    /// The path as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    pub fn root(&self) -> &Root {
        &self.root
    }

    /// True if the path leads to one value at most.
    pub fn is_definite(&self) -> bool {
        self.steps.iter().all(Step::is_definite)
    }

    /// True if the path names one place: only names and indices from the start. Such a *reference
    /// path* can also say where a value goes.
    pub fn is_reference(&self) -> bool {
        let plain = |step: &Step| matches!(step, Step::Name(_) | Step::Index(_));
        self.steps.iter().all(plain)
    }

    /// What the path leads to in `document`, which is the value of its [`Path::root`].
    pub fn select<'v>(&self, document: &'v Value) -> Result<Selected<'v>, NoResult> {
        select::select(self, document)
    }

    /// `document` with `value` put where this reference path leads. Objects on the way come into
    /// being; where something else is in the way, the path cannot be applied.
    pub fn put(&self, document: Value, value: Value) -> Result<Value, NoResult> {
        select::put(&self.steps, document, value, &mut String::from("$"))
    }
}

impl Step {
    const fn is_definite(&self) -> bool {
        matches!(self, Self::Name(_) | Self::Index(_) | Self::Length)
    }
}

impl Selected<'_> {
    /// The value, copied if it is part of the document.
    pub fn into_value(self) -> Value {
        match self {
            Self::One(value) => value.clone(),
            Self::Computed(value) => value,
        }
    }
}

impl std::ops::Deref for Selected<'_> {
    type Target = Value;

    fn deref(&self) -> &Value {
        match self {
            Self::One(value) => value,
            Self::Computed(value) => value,
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

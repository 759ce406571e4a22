//! Intrinsic functions: `States.Format('Hello {}', $.name)`.
//! <https://docs.aws.amazon.com/step-functions/latest/dg/intrinsic-functions.html>

mod function;
mod parse;
#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::Value;

use crate::budget::Budget;
use crate::path::Path;
use crate::scope::{Chance, Scope, Unresolved};
pub use function::Function;
pub use parse::ParseIntrinsicError;

/// A parsed call.
#[derive(Clone, Debug, PartialEq)]
pub struct Intrinsic {
    source: Box<str>,
    function: Function,
    arguments: Vec<Argument>,
}

#[derive(Clone, Debug, PartialEq)]
enum Argument {
    Path(Path),
    Value(Value),
    Call(Intrinsic),
}

/// Why a call has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntrinsicError {
    /// A path among its arguments leads nowhere.
    Path { path: String, cause: Unresolved },
    /// The function does not accept its arguments. The error name is `States.IntrinsicFailure`.
    Failed { call: String, reason: String },
}

impl Intrinsic {
    /// Parses a whole call.
    pub fn parse(source: &str) -> Result<Self, ParseIntrinsicError> {
        parse::intrinsic(source)
    }

    /// True if a text is meant as a call.
    pub fn is_intended(text: &str) -> bool {
        text.starts_with("States.")
    }

    /// The call as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// All paths among the arguments, also those of calls inside.
    pub fn paths(&self) -> Vec<&Path> {
        let mut paths = Vec::new();
        for argument in &self.arguments {
            match argument {
                Argument::Path(path) => paths.push(path),
                Argument::Value(_) => {}
                Argument::Call(call) => paths.extend(call.paths()),
            }
        }
        paths
    }

    pub fn evaluate(
        &self,
        scope: &Scope<'_>,
        chance: &mut dyn Chance,
    ) -> Result<Value, IntrinsicError> {
        self.evaluate_within(&Budget::default(), scope, chance)
    }

    fn evaluate_within(
        &self,
        budget: &Budget,
        scope: &Scope<'_>,
        chance: &mut dyn Chance,
    ) -> Result<Value, IntrinsicError> {
        let failed = |reason| IntrinsicError::Failed {
            call: self.source.to_string(),
            reason,
        };
        let mut values = Vec::with_capacity(self.arguments.len());
        for argument in &self.arguments {
            values.push(match argument {
                Argument::Value(value) => value.clone(),
                Argument::Call(call) => call.evaluate_within(budget, scope, chance)?,
                Argument::Path(path) => match scope.select(path) {
                    Ok(selected) if budget.spend_on(&selected) => selected.into_value(),
                    Ok(_) => return Err(failed("its arguments are too large".to_owned())),
                    Err(cause) => {
                        let path = path.source().to_owned();
                        return Err(IntrinsicError::Path { path, cause });
                    }
                },
            });
        }
        let value = self.function.call(values, chance).map_err(failed)?;
        match budget.spend_on(&value) {
            true => Ok(value),
            false => Err(failed("its value is too large".to_owned())),
        }
    }
}

impl fmt::Display for Intrinsic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

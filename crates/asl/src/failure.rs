//! Why a state fails, in the words that executions end with.

use serde_json::Value;

use crate::budget::Budget;
use crate::scope::{Chance, Scope};

/// The error names that the language reserves.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>
pub mod names {
    pub const ALL: &str = "States.ALL";
    pub const DATA_LIMIT_EXCEEDED: &str = "States.DataLimitExceeded";
    pub const EXCEED_TOLERATED_FAILURE_THRESHOLD: &str = "States.ExceedToleratedFailureThreshold";
    pub const INTRINSIC_FAILURE: &str = "States.IntrinsicFailure";
    pub const NO_CHOICE_MATCHED: &str = "States.NoChoiceMatched";
    pub const PARAMETER_PATH_FAILURE: &str = "States.ParameterPathFailure";
    pub const QUERY_EVALUATION_ERROR: &str = "States.QueryEvaluationError";
    pub const RESULT_PATH_MATCH_FAILURE: &str = "States.ResultPathMatchFailure";
    pub const RUNTIME: &str = "States.Runtime";
    pub const TASK_FAILED: &str = "States.TaskFailed";
    pub const TIMEOUT: &str = "States.Timeout";
}

/// An error with its name and, if there is one, its cause.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Failure {
    pub error: Option<String>,
    pub cause: Option<String>,
}

impl Failure {
    pub fn new(error: impl Into<String>, cause: impl Into<String>) -> Self {
        Self {
            error: Some(error.into()),
            cause: Some(cause.into()),
        }
    }

    /// What a `Catch` passes on.
    pub fn to_value(&self) -> Value {
        let mut object = serde_json::Map::new();
        object.insert("Error".into(), self.error.clone().into());
        object.insert("Cause".into(), self.cause.clone().into());
        Value::Object(object)
    }
}

/// What an expression is evaluated with.
pub struct Evaluation<'a> {
    pub scope: Scope<'a>,
    pub chance: &'a mut dyn Chance,
    pub budget: Budget,
    /// Milliseconds since the epoch, for JSONata's `$now` and `$millis`.
    pub now_ms: i64,
    /// What `$states.result` is, where there is a result.
    pub result: Option<&'a Value>,
    /// What `$states.errorOutput` is, in a `Catch`.
    pub error_output: Option<&'a Value>,
}

/// Why an expression has no value. The cause lacks the name of the state, which who evaluates adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvaluationError {
    pub error: &'static str,
    pub cause: String,
    /// The field, where JSONata failed: it has an event of its own.
    pub location: Option<String>,
}

impl EvaluationError {
    pub fn runtime(cause: impl Into<String>) -> Self {
        Self::named(names::RUNTIME, cause)
    }

    pub fn named(error: &'static str, cause: impl Into<String>) -> Self {
        Self {
            error,
            cause: cause.into(),
            location: None,
        }
    }

    pub fn query(location: &str, cause: impl Into<String>) -> Self {
        Self {
            error: names::QUERY_EVALUATION_ERROR,
            cause: cause.into(),
            location: Some(location.to_owned()),
        }
    }

    pub fn intrinsic(call: &str, reason: &str) -> Self {
        let cause = format!("The function '{call}' had the following error: {reason}");
        Self::named(names::INTRINSIC_FAILURE, cause)
    }

    pub fn parameter_path(path: &str, field: &str, input: &Value) -> Self {
        let cause = format!(
            "The JSONPath '{path}' specified for the field '{field}' could not be found in the \
             input '{input}'"
        );
        Self::named(names::PARAMETER_PATH_FAILURE, cause)
    }

    pub fn unknown_variable(name: &str) -> Self {
        Self::runtime(format!("The variable '${name}' is not defined"))
    }

    pub fn too_much(field: &str) -> Self {
        let cause = format!("The value of the field '{field}' exceeds the maximum size");
        Self::named(names::DATA_LIMIT_EXCEEDED, cause)
    }

    /// The error as an execution tells it.
    pub fn in_state(&self, name: &str, entered_event: u64) -> Failure {
        Failure::new(
            self.error,
            format!(
                "An error occurred while executing the state '{name}' (entered at the event id \
                 #{entered_event}). {}",
                self.cause
            ),
        )
    }
}

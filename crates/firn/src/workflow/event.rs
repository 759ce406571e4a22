//! Events of histories, as `GetExecutionHistory` answers them.

use serde_json::{Map, Value};

/// One event. Its details stand under a member that is named after its type.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub id: i64,
    pub previous: i64,
    pub at_ms: i64,
    /// `TaskStateEntered` and the like.
    pub kind: String,
    details: Map<String, Value>,
}

impl Event {
    /// Reads an event; `None` if it has no number or no type.
    pub fn read(value: &Value) -> Option<Self> {
        let members = value.as_object()?;
        let details = members
            .iter()
            .find(|(name, _)| name.ends_with("EventDetails"))
            .and_then(|(_, details)| details.as_object());
        Some(Self {
            id: members.get("id")?.as_i64()?,
            previous: members
                .get("previousEventId")
                .and_then(Value::as_i64)
                .unwrap_or_default(),
            at_ms: members.get("timestamp").map_or(0, milliseconds),
            kind: members.get("type")?.as_str()?.to_owned(),
            details: details.cloned().unwrap_or_default(),
        })
    }

    /// The type of the state that was entered or left.
    pub fn entered(&self) -> Option<&str> {
        self.kind.strip_suffix("StateEntered")
    }

    pub fn exited(&self) -> Option<&str> {
        self.kind.strip_suffix("StateExited")
    }

    /// Whether a state, or one attempt at it, has failed.
    pub fn is_failure(&self) -> bool {
        let failed = self.kind.ends_with("Failed") || self.kind.ends_with("TimedOut");
        failed && !self.is_about_execution() && !self.kind.starts_with("MapIteration")
    }

    pub fn is_about_execution(&self) -> bool {
        self.kind.starts_with("Execution")
    }

    /// Whether no event can follow, but for those of a redrive.
    pub fn ends_execution(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "ExecutionSucceeded" | "ExecutionFailed" | "ExecutionAborted" | "ExecutionTimedOut"
        )
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.details.get(name)?.as_str()
    }

    pub fn number(&self, name: &str) -> Option<i64> {
        self.details.get(name)?.as_i64()
    }

    /// `Busy: try later`, of a failure.
    pub fn error(&self) -> Option<String> {
        reason(self.text("error"), self.text("cause"))
    }

    /// What a state or a task was given.
    pub fn input(&self) -> Option<&str> {
        self.text("input").or_else(|| self.text("parameters"))
    }

    pub fn output(&self) -> Option<&str> {
        self.text("output")
    }
}

/// An error and its cause in one line. Functions give their causes as JSON, of which the message is
/// what counts.
pub fn reason(error: Option<&str>, cause: Option<&str>) -> Option<String> {
    let document = cause.and_then(|cause| serde_json::from_str::<Value>(cause).ok());
    let message = document
        .as_ref()
        .and_then(|document| document.get("errorMessage")?.as_str());
    let parts = [error, message.or(cause)];
    let parts = parts.into_iter().flatten().filter(|text| !text.is_empty());
    let text = parts.collect::<Vec<_>>().join(": ");
    (!text.is_empty()).then_some(text)
}

/// Moments are seconds with decimals.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a float becomes the nearest whole number that there is"
)]
fn milliseconds(value: &Value) -> i64 {
    (value.as_f64().unwrap_or_default() * 1000.0).round() as i64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn details_are_found_whatever_they_are_called() {
        let event = Event::read(&json!({
            "id": 5, "previousEventId": 4, "type": "LambdaFunctionFailed", "timestamp": 1700000000.123,
            "lambdaFunctionFailedEventDetails": {"error": "Busy", "cause": "try later"},
        }))
        .unwrap();
        assert_eq!(event.error().as_deref(), Some("Busy: try later"));
        assert_eq!(event.at_ms, 1_700_000_000_123);
        assert!(event.is_failure());
    }

    #[test]
    fn of_a_function_that_failed_the_message_is_told() {
        let cause = r#"{"errorMessage": "no such colour", "stackTrace": []}"#;
        let told = reason(Some("ValueError"), Some(cause));
        assert_eq!(told.as_deref(), Some("ValueError: no such colour"));
        assert_eq!(reason(None, Some("late")).as_deref(), Some("late"));
        assert_eq!(reason(Some(""), None), None);
    }

    #[test]
    fn the_end_of_an_execution_is_no_failure_of_a_state() {
        let event = Event::read(&json!({"id": 9, "type": "ExecutionFailed"})).unwrap();
        assert!(!event.is_failure());
        assert!(event.ends_execution());
        assert!(Event::read(&json!({"id": 1})).is_none());
        assert!(Event::read(&json!(7)).is_none());
    }
}

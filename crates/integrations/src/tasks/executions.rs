//! Executions within executions.

use std::sync::Arc;

use asl::failure::{Failure, names};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue};
use model::stepfunctions::operation::{DescribeExecution, StartExecution, StopExecution};
use model::stepfunctions::{
    DescribeExecutionInput, DescribeExecutionOutput, SERVICE, StartExecutionInput,
    StopExecutionInput,
};
use protocol::{ApiError, Caller};
use serde_json::{Map, Value, json};

use super::Task;
use super::lambda::refusal;
use crate::Integrations;
use crate::exchange::add_metadata;
use crate::failure::unfit;
use crate::support::Optimised;
use crate::wire::{Invalid, http_date};

const FIELDS: [&str; 4] = ["StateMachineArn", "Input", "Name", "TraceHeader"];

impl Task<'_> {
    /// Starts an execution. Without a name it gets one that follows from the task's id, so that it
    /// is started once, whatever happens to this server meanwhile.
    pub async fn start_execution(
        &self,
        known: &'static Optimised,
        again: bool,
    ) -> Result<Value, Failure> {
        let given = &*self.call.input;
        let input = self
            .start_input(given)
            .map_err(|invalid| unfit(given, &[invalid]))?;
        let (machine, name) = (input.state_machine_arn.clone(), input.name.clone());
        let caller = self.caller();
        let router = &self.integrations.router;
        match router.call::<StartExecution>(&caller, input.clone()).await {
            Ok(output) => {
                let started = output.start_date.as_millis();
                Ok(self.started(&output.execution_arn, started))
            }
            Err(error) => {
                // After a restart it may have been this task that started it.
                if again && exists(&error) {
                    let arn = execution_arn(&machine, name.as_deref().unwrap_or_default());
                    let described = self.describe(&caller, &arn).await?;
                    if described.input == input.input {
                        return Ok(self.started(&arn, described.start_date.as_millis()));
                    }
                }
                Err(refusal(known.name, &SERVICE, &error, &caller.request_id))
            }
        }
    }

    fn start_input(&self, given: &Value) -> Result<StartExecutionInput, Invalid> {
        let object = given
            .as_object()
            .ok_or_else(|| Invalid::Format("Parameters".into()))?;
        if let Some(other) = object.keys().find(|key| !FIELDS.contains(&key.as_str())) {
            return Err(Invalid::Unsupported(other.clone()));
        }
        let text = |field: &str| match object.get(field) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => Some(other.to_string()),
        };
        // Any JSON is the input; a text is the text of one.
        Ok(StartExecutionInput {
            state_machine_arn: text("StateMachineArn")
                .ok_or_else(|| Invalid::Missing("StateMachineArn".into()))?,
            name: Some(text("Name").unwrap_or_else(|| self.request_id())),
            input: Some(text("Input").unwrap_or_else(|| "{}".to_owned())),
            trace_header: text("TraceHeader").or_else(|| self.context.trace_header.clone()),
        })
    }

    /// What AWS tells of an execution that has been started.
    fn started(&self, arn: &str, start_ms: i64) -> Value {
        let mut output = Map::new();
        output.insert("ExecutionArn".into(), arn.into());
        // The answer is short of what the API would send only by its names' first letters.
        let length = json!({"executionArn": arn, "startDate": start_ms})
            .to_string()
            .len();
        let mut headers = HeaderMap::new();
        let mut put = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        put(
            HeaderName::from_static("x-amzn-requestid"),
            &self.request_id(),
        );
        put(http::header::CONNECTION, "keep-alive");
        put(CONTENT_LENGTH, &length.to_string());
        put(DATE, &http_date(self.integrations.clock.now()));
        put(CONTENT_TYPE, "application/x-amz-json-1.0");
        add_metadata(&mut output, 200, &headers);
        output.insert("StartDate".into(), start_ms.into());
        Value::Object(output)
    }

    /// Waits for the end of an execution. Dropped, it stops it.
    pub async fn await_execution(&self, started: &Value, as_json: bool) -> Result<Value, Failure> {
        let arn = started.get("ExecutionArn").and_then(Value::as_str);
        let arn = arn.unwrap_or_default().to_owned();
        let caller = self.caller();
        let stop = StopOnDrop {
            integrations: Some(Arc::clone(self.integrations)),
            caller: caller.clone(),
            arn: arn.clone(),
        };
        (self.integrations.hooks.ended)(arn.clone()).await;
        stop.disarm();
        let described = self.describe(&caller, &arn).await?;
        let succeeded = described.status.as_str() == "SUCCEEDED";
        let output = describe(described, as_json && succeeded);
        if succeeded {
            return Ok(output);
        }
        Err(Failure::new(names::TASK_FAILED, output.to_string()))
    }

    async fn describe(
        &self,
        caller: &Caller,
        arn: &str,
    ) -> Result<DescribeExecutionOutput, Failure> {
        let input = DescribeExecutionInput {
            execution_arn: arn.to_owned(),
            ..DescribeExecutionInput::default()
        };
        let router = &self.integrations.router;
        router
            .call::<DescribeExecution>(caller, input)
            .await
            .map_err(|error| refusal("states", &SERVICE, &error, &caller.request_id))
    }
}

fn exists(error: &ApiError) -> bool {
    error.shape(Some(&SERVICE)).code == "ExecutionAlreadyExists"
}

/// The ARN of an execution by its machine's, which may be a version's or an alias's.
fn execution_arn(machine: &str, name: &str) -> String {
    let mut parts: Vec<&str> = machine.split(':').take(7).collect();
    if let Some(kind) = parts.get_mut(5) {
        *kind = "execution";
    }
    parts.push(name);
    parts.join(":")
}

/// An execution as the output of a task, its data as texts or as JSON.
fn describe(of: DescribeExecutionOutput, as_json: bool) -> Value {
    let mut made = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            made.insert(name.to_owned(), value);
        }
    };
    let data = |text: String| {
        let parsed = if as_json {
            serde_json::from_str(&text).ok()
        } else {
            None
        };
        parsed.unwrap_or(Value::String(text))
    };
    let included = json!({"Included": true});
    put("Cause", of.cause.map(Value::from));
    put("Error", of.error.map(Value::from));
    put("ExecutionArn", Some(of.execution_arn.into()));
    put("InputDetails", of.input.is_some().then(|| included.clone()));
    put("Input", of.input.map(data));
    put("Name", of.name.map(Value::from));
    put("OutputDetails", of.output.is_some().then_some(included));
    put("Output", of.output.map(data));
    put("StartDate", Some(of.start_date.as_millis().into()));
    put("StateMachineArn", Some(of.state_machine_arn.into()));
    put("Status", Some(of.status.as_str().into()));
    put("StopDate", of.stop_date.map(|date| date.as_millis().into()));
    put("TraceHeader", of.trace_header.map(Value::from));
    made.sort_keys();
    Value::Object(made)
}

/// Stops an execution that nobody waits for any more.
struct StopOnDrop {
    integrations: Option<Arc<Integrations>>,
    caller: Caller,
    arn: String,
}

impl StopOnDrop {
    fn disarm(mut self) {
        self.integrations = None;
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        let Some(integrations) = self.integrations.take() else {
            return;
        };
        if integrations.is_stopping() {
            return;
        }
        let input = StopExecutionInput {
            execution_arn: std::mem::take(&mut self.arn),
            ..StopExecutionInput::default()
        };
        let caller = self.caller.clone();
        integrations.clone().in_background(async move {
            let stopped = integrations
                .router
                .call::<StopExecution>(&caller, input)
                .await;
            if let Err(error) = stopped {
                tracing::debug!(%error, "an execution that nobody waits for was not stopped");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_are_named_after_the_machine_not_its_alias() {
        let machine = "arn:aws:states:us-east-1:123456789012:stateMachine:m";
        let expected = "arn:aws:states:us-east-1:123456789012:execution:m:n";
        assert_eq!(execution_arn(machine, "n"), expected);
        assert_eq!(execution_arn(&format!("{machine}:live"), "n"), expected);
    }
}

//! What a request asks for, and why it cannot have it. The messages are AWS's.

use std::sync::Arc;

use asl::definition::{Kind, Pattern, Resource, StateId};
use asl::failure::Failure;
use asl::machine::trial::{Iterations, Mock};
use asl::{Definition, Variables};
use model::stepfunctions::{
    InspectionLevel, MockInput, MockResponseValidationMode, TestStateConfiguration, TestStateInput,
    error,
};
use serde_json::{Map, Value};

use super::{context, reader, schema, takes_mocks};
use crate::Error;

/// What a state of its own is called.
const NAME: &str = "StateName";
const MAX_BYTES: usize = 262_144;

#[derive(Debug)]
pub struct Request {
    pub definition: Arc<Definition>,
    pub state: StateId,
    pub role_arn: Option<String>,
    pub input: Arc<Value>,
    pub variables: Variables,
    pub context: Option<Value>,
    pub mock: Option<Mock>,
    /// The mocked result as it was given.
    pub mocked_text: Option<String>,
    pub iterations: Iterations,
    pub retries: u64,
    pub level: InspectionLevel,
}

pub fn read(input: TestStateInput) -> Result<Request, Error> {
    let (definition, state) = definition(&input)?;
    let kind = &definition.state(state).kind;
    let configuration = input.state_configuration.clone().unwrap_or_default();
    check(&input, &configuration, kind)?;
    let mock = match &input.mock {
        None => None,
        Some(mock) => Some(self::mock(mock, kind)?),
    };
    let read = match (kind, &configuration.map_item_reader_data) {
        (Kind::Map(map), Some(text)) => Some(reader::items(map.reader.as_ref(), text)?),
        _ => None,
    };
    let inner = configuration.error_caused_by_state.as_deref();
    if let Some(name) = inner
        && !definition.is_inside(state, name)
    {
        return Err(Error::validation(format!(
            "The state '{name}' is not part of the state under test"
        )));
    }
    let count = |number: Option<i32>| number.and_then(|number| u64::try_from(number).ok());
    Ok(Request {
        state,
        role_arn: input.role_arn,
        input: Arc::new(data(input.input.as_deref())?),
        variables: variables(input.variables.as_deref())?,
        context: input.context.as_deref().map(context::read).transpose()?,
        mock,
        mocked_text: input.mock.and_then(|mock| mock.result),
        iterations: Iterations {
            read,
            failed: count(configuration.map_iteration_failure_count),
        },
        retries: count(configuration.retrier_retry_count).unwrap_or(0),
        level: input.inspection_level.unwrap_or(InspectionLevel::Info),
        definition: Arc::new(definition),
    })
}

fn invalid(message: impl Into<String>) -> Error {
    Error::refused(&error::INVALID_DEFINITION, message)
}

/// The definition of a whole machine, and the state that is named; or that of a state.
fn definition(input: &TestStateInput) -> Result<(Definition, StateId), Error> {
    let text = &input.definition;
    let (parsed, name) = match &input.state_name {
        Some(name) => (Definition::parse(text), name.as_str()),
        None => (Definition::of_state(NAME, text), NAME),
    };
    let definition = parsed.map_err(|refused| invalid(refused.message(text)))?;
    match definition.find(name) {
        Some(state) => Ok((definition, state)),
        None => Err(Error::validation("State not found in the definition")),
    }
}

fn check(
    input: &TestStateInput,
    configuration: &TestStateConfiguration,
    kind: &Kind,
) -> Result<(), Error> {
    let only_mocked = |field: &str| {
        Error::validation(format!(
            "TestState does not support {field} when a mock is not specified."
        ))
    };
    if input.mock.is_none() {
        if configuration.map_iteration_failure_count.is_some() {
            return Err(only_mocked("MapIterationFailureCount"));
        }
        if configuration.map_item_reader_data.is_some() {
            return Err(only_mocked("MapItemReaderData"));
        }
        if configuration.error_caused_by_state.is_some() {
            return Err(only_mocked("ErrorCausedByState"));
        }
        if configuration.retrier_retry_count.is_some() {
            return Err(only_mocked("RetrierRetryCount"));
        }
        return unmocked(input, kind);
    }
    if !takes_mocks(kind) {
        return Err(Error::validation(format!(
            "State type '{}' is not supported when a mock is specified",
            kind.name()
        )));
    }
    if input.reveal_secrets == Some(true) {
        return Err(Error::validation(
            "TestState does not support RevealSecrets when a mock is specified.",
        ));
    }
    Ok(())
}

/// What AWS does not run for a test, or not without a role.
fn unmocked(input: &TestStateInput, kind: &Kind) -> Result<(), Error> {
    match kind {
        Kind::Parallel { .. } | Kind::Map(_) => Err(invalid(
            "TestState API does not support Map or Parallel states. Supported state types include: \
             [Task, Wait, Pass, Succeed, Fail, Choice]",
        )),
        Kind::Task(task) => {
            match &task.resource {
                Resource::Activity { .. } => {
                    return Err(invalid("TestState API does not support Activity tasks."));
                }
                Resource::Service { pattern, .. } if *pattern != Pattern::RequestResponse => {
                    return Err(invalid(
                        "TestState API does not support '.sync' or '.waitForTaskToken' integration \
                         patterns.",
                    ));
                }
                Resource::Service { .. } | Resource::Lambda { .. } => {}
            }
            if input.role_arn.is_none() {
                return Err(Error::validation(
                    "RoleArn must be specified when testing a Task state",
                ));
            }
            if input.reveal_secrets == Some(true) {
                return Err(Error::NotSupported("revealSecrets of TestState"));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn mock(mock: &MockInput, kind: &Kind) -> Result<Mock, Error> {
    match (&mock.result, &mock.error_output) {
        (Some(_), Some(_)) => Err(Error::validation(
            "A test mock should have only one of the following fields: [result, errorOutput].",
        )),
        (None, None) => Err(Error::validation(
            "A test mock should have one of the following fields: [result, errorOutput].",
        )),
        (None, Some(output)) => Ok(Mock::Error(Failure {
            error: output.error.clone(),
            cause: output.cause.clone(),
        })),
        (Some(text), None) => {
            let result: Value = serde_json::from_str(text)
                .map_err(|_| Error::validation("Mocked result must be valid JSON"))?;
            let mode = mock
                .field_validation_mode
                .clone()
                .unwrap_or(MockResponseValidationMode::Strict);
            check_result(&result, kind, &mode)?;
            Ok(Mock::Result(result))
        }
    }
}

/// Whether a result is one that the state's work could have.
fn check_result(
    result: &Value,
    kind: &Kind,
    mode: &MockResponseValidationMode,
) -> Result<(), Error> {
    match kind {
        Kind::Map(map) => match (&map.writer, result) {
            (Some(_), Value::Object(_)) | (None, Value::Array(_)) => Ok(()),
            (Some(_), _) => Err(Error::validation("Mocked result must be a JSON object.")),
            (None, _) => Err(Error::validation("Mocked result must be an array.")),
        },
        Kind::Parallel { branches } => match result.as_array() {
            None => Err(Error::validation("Mocked result must be an array.")),
            Some(results) if results.len() == branches.len() => Ok(()),
            Some(_) => Err(Error::validation(
                "Mocked result must contain the same number of items as number of Parallel \
                 branches.",
            )),
        },
        Kind::Task(task) => schema::check(&task.resource, result, mode).map_err(Error::validation),
        _ => Ok(()),
    }
}

fn data(text: Option<&str>) -> Result<Value, Error> {
    let Some(text) = text else {
        return Ok(Value::Object(Map::new()));
    };
    let wrong = |reason: String| {
        let message = format!("Invalid State Machine Execution Input: '{reason}'");
        Error::refused(&error::INVALID_EXECUTION_INPUT, message)
    };
    if text.len() > MAX_BYTES {
        return Err(wrong(
            "The input exceeds the maximum number of bytes service limit.".to_owned(),
        ));
    }
    serde_json::from_str(text).map_err(|error| wrong(error.to_string()))
}

fn variables(text: Option<&str>) -> Result<Variables, Error> {
    let Some(text) = text else {
        return Ok(Variables::new());
    };
    match serde_json::from_str(text) {
        Ok(Value::Object(members)) => Ok(members
            .into_iter()
            .map(|(name, value)| (name.into(), Arc::new(value)))
            .collect()),
        _ => Err(Error::validation("Variables must be a valid JSON object")),
    }
}

//! The context object.
//! <https://docs.aws.amazon.com/step-functions/latest/dg/input-output-contextobject.html>

use serde_json::{Map, Value, json};

use super::{Fiber, Identity, Phase};
use crate::definition::{Definition, Kind};

/// What `$$` is for a fiber.
pub fn context(identity: &Identity, definition: &Definition, fiber: &Fiber) -> Value {
    let state = definition.state(fiber.state);
    let mut object = Map::new();
    let mut execution = json!({
        "Id": identity.execution_arn,
        "Input": identity.input,
        "Name": identity.execution_name,
        "RoleArn": identity.role_arn,
        "StartTime": moment(identity.started_ms),
    });
    // Recorded on AWS: what cannot be redriven has no count of it.
    if !identity.execution_arn.contains(":express:") {
        execution["RedriveCount"] = identity.redrive_count.into();
    }
    object.insert("Execution".into(), execution);
    object.insert(
        "StateMachine".into(),
        json!({"Id": identity.machine_arn, "Name": identity.machine_name}),
    );
    let mut shown = json!({"Name": state.name, "EnteredTime": moment(fiber.entered_ms)});
    if let Kind::Task(_) | Kind::Parallel { .. } | Kind::Map(_) = state.kind {
        shown["RetryCount"] = fiber.retries.into();
    }
    object.insert("State".into(), shown);
    if let Phase::Task {
        token: Some(token), ..
    } = &fiber.phase
    {
        object.insert("Task".into(), json!({"Token": token}));
    }
    if let Some(item) = &fiber.item {
        let shown = json!({"Item": {"Index": item.index, "Value": item.value}});
        object.insert("Map".into(), shown);
    }
    Value::Object(object)
}

/// RFC 3339, in milliseconds.
pub fn moment(at_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(at_ms) {
        Ok(moment) => format!("{moment:.3}"),
        // Not reached: executions do not live so far from today.
        Err(_) => String::new(),
    }
}

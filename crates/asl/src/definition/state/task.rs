//! What a Task says.

use crate::definition::fields::{Fields, Found, Range};
use crate::definition::{Amount, Resource, Task};
use crate::jsonata::Offered;

pub fn task(fields: &Fields<'_>, found: &mut Found) -> Option<Task> {
    let credentials = match fields.inner("Credentials", found) {
        None => None,
        Some(inner) => {
            if inner.get("RoleArn").is_none() && inner.get("RoleArn.$").is_none() {
                let message = "The field 'RoleArn' is required but was missing";
                found.schema(message, inner.location);
            }
            fields.template("Credentials", Offered::default(), found)
        }
    };
    let timeout_seconds = fields.amount("TimeoutSeconds", Range::TIMEOUT, found);
    let heartbeat_seconds = fields.amount("HeartbeatSeconds", Range::TIMEOUT, found);
    if let (Some(Amount::Value(timeout)), Some(Amount::Value(heartbeat))) =
        (&timeout_seconds, &heartbeat_seconds)
        && heartbeat >= timeout
    {
        let message = "The value of 'HeartbeatSeconds' must be smaller than 'TimeoutSeconds'";
        found.schema(message, fields.at("HeartbeatSeconds"));
    }
    Some(Task {
        resource: resource(fields, found)?,
        credentials,
        timeout_seconds,
        heartbeat_seconds,
    })
}

pub fn resource(fields: &Fields<'_>, found: &mut Found) -> Option<Resource> {
    let arn = fields.required_text("Resource", found)?;
    let parsed = Resource::parse(arn);
    if parsed.is_none() {
        found.schema(Resource::refusal(arn), fields.at("Resource"));
    }
    parsed
}

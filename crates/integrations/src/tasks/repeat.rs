//! Calls that may be made again when it is not known whether they were made.

use asl::definition::{Pattern, Resource};
use serde_json::Value;

use crate::Call;
use crate::catalog::{self, Entry, Operation};
use crate::support::{self, Integration};

/// What begins the names of operations that only look.
const READS: [&str; 9] = [
    "Get", "List", "Describe", "BatchGet", "Head", "Query", "Scan", "Search", "Detect",
];

/// Whether a call does the same when it is made twice.
pub fn is_safe(call: &Call) -> bool {
    let Resource::Service {
        service,
        action,
        pattern,
    } = &call.resource
    else {
        return false;
    };
    match support::find(service, action) {
        // The name of the execution follows from the task.
        Some(Integration::Optimised(known, _)) if known.name == "states" => true,
        Some(Integration::Optimised(known, _)) if matches!(known.name, "http" | "apigateway") => {
            let method = call.input.get("Method").and_then(Value::as_str);
            matches!(method, Some("GET" | "HEAD" | "OPTIONS"))
                && *pattern == Pattern::RequestResponse
        }
        Some(Integration::Optimised(known, action)) => {
            let found = catalog::find(known.service);
            found
                .and_then(|entry| Some((entry, entry.operation(action.name)?)))
                .is_some_and(|(entry, (name, operation))| {
                    is_repeatable(entry, name, operation, &call.input)
                })
        }
        Some(Integration::Sdk(entry, name, operation)) => {
            is_repeatable(entry, name, operation, &call.input)
        }
        None => false,
    }
}

fn is_repeatable(entry: &'static Entry, name: &str, operation: &Operation, given: &Value) -> bool {
    if READS.iter().any(|read| name.starts_with(read)) {
        return true;
    }
    match (&*entry.names.name, name) {
        // The same item is put or deleted, unless that depends on what is there.
        ("dynamodb", "PutItem" | "DeleteItem") => given.as_object().is_some_and(|given| {
            given
                .keys()
                .all(|key| matches!(key.as_str(), "TableName" | "Item" | "Key"))
        }),
        ("s3", "PutObject" | "DeleteObject") => true,
        _ => has_token(entry, operation),
    }
}

/// Whether the service tells a repeated request by a token, which follows from the task.
fn has_token(entry: &'static Entry, operation: &Operation) -> bool {
    let input = operation
        .input
        .and_then(|id| Some(entry.interface()?.shape(id)));
    input.is_some_and(|shape| {
        let mut bounds = shape
            .members
            .iter()
            .filter_map(|member| member.bound.as_deref());
        bounds.any(|bound| bound.idempotency_token)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tasks::tests::call;

    #[test]
    fn only_what_does_the_same_twice_is_called_twice() {
        let safe = |resource: &str, input: Value| {
            is_safe(&call(&format!("arn:aws:states:::{resource}"), input))
        };
        let item = json!({"TableName": "t", "Item": {"id": {"S": "1"}}});
        let mut on_condition = item.clone();
        on_condition["ConditionExpression"] = "attribute_not_exists(id)".into();
        for (resource, input) in [
            ("states:startExecution.sync", json!({})),
            ("aws-sdk:dynamodb:query", json!({})),
            ("dynamodb:putItem", item),
            ("ecs:runTask.sync", json!({})),
            ("http:invoke", json!({"Method": "GET"})),
        ] {
            assert!(safe(resource, input), "{resource}");
        }
        for (resource, input) in [
            ("lambda:invoke", json!({})),
            ("sqs:sendMessage", json!({})),
            ("dynamodb:updateItem", json!({})),
            ("dynamodb:putItem", on_condition),
            ("batch:submitJob.sync", json!({})),
            ("http:invoke", json!({"Method": "POST"})),
        ] {
            assert!(!safe(resource, input), "{resource}");
        }
        let function = "arn:aws:lambda:us-east-1:123456789012:function:f";
        assert!(!is_safe(&call(function, json!({}))));
    }
}

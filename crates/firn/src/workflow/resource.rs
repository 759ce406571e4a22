//! What a task runs, in a few words.

use asl::definition::{Pattern, Resource};
use serde_json::{Map, Value};

use super::condition::expression;

/// `Lambda charge`, `SQS sendMessage`, `Activity review`; the ARN if it is nothing known.
pub fn of_task(state: &Map<String, Value>) -> Vec<String> {
    let Some(arn) = state.get("Resource").and_then(Value::as_str) else {
        return vec!["Task".to_owned()];
    };
    let Some(resource) = Resource::parse(arn) else {
        return vec![arn.to_owned()];
    };
    let mut lines = vec![name(&resource, state)];
    if let Resource::Service { pattern, .. } = &resource {
        match pattern {
            Pattern::RequestResponse => {}
            Pattern::Sync | Pattern::Sync2 => lines.push("waits for its end".to_owned()),
            Pattern::WaitForTaskToken => lines.push("waits for a callback".to_owned()),
        }
    }
    lines
}

fn name(resource: &Resource, state: &Map<String, Value>) -> String {
    match resource {
        Resource::Lambda { arn } => format!("Lambda {}", function(arn)),
        Resource::Activity { arn } => {
            format!("Activity {}", arn.rsplit(':').next().unwrap_or(arn))
        }
        Resource::Service {
            service, action, ..
        } => {
            let action = action.split('.').next().unwrap_or(action);
            let target = if service == "lambda" {
                argument(state, "FunctionName").map(|name| function(&name).to_owned())
            } else if service == "states" {
                let arn = argument(state, "StateMachineArn");
                arn.map(|arn| arn.rsplit(':').next().unwrap_or(&arn).to_owned())
            } else {
                None
            };
            let service = service_name(service);
            match target {
                Some(target) => format!("{service} {target}"),
                None => format!("{service} {action}"),
            }
        }
    }
}

/// An argument that is written down, or the expression that finds it.
fn argument(state: &Map<String, Value>, name: &str) -> Option<String> {
    let all = ["Arguments", "Parameters"];
    let object = all
        .iter()
        .find_map(|field| state.get(*field)?.as_object())?;
    let value = object
        .get(name)
        .or_else(|| object.get(&format!("{name}.$")))?;
    value.as_str().map(expression)
}

/// The name of a function, with its qualifier, out of an ARN.
fn function(arn: &str) -> &str {
    match arn.split_once(":function:") {
        Some((before, name)) if before.starts_with("arn:") => name,
        _ => arn,
    }
}

fn service_name(service: &str) -> &str {
    let service = service.strip_prefix("aws-sdk:").unwrap_or(service);
    match service {
        "lambda" => "Lambda",
        "sqs" => "SQS",
        "sns" => "SNS",
        "s3" => "S3",
        "dynamodb" => "DynamoDB",
        "events" | "eventbridge" => "EventBridge",
        "states" | "sfn" => "Step Functions",
        "http" => "HTTP",
        "bedrock" => "Bedrock",
        "scheduler" => "Scheduler",
        "apigateway" => "API Gateway",
        "ecs" => "ECS",
        "batch" => "Batch",
        "glue" => "Glue",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(state: Value) -> Vec<String> {
        of_task(state.as_object().unwrap())
    }

    #[test]
    fn functions_go_by_their_names() {
        let arn = "arn:aws:lambda:us-east-1:123456789012:function:charge:live";
        assert_eq!(lines(json!({"Resource": arn})), ["Lambda charge:live"]);
        let invoke = "arn:aws:states:::lambda:invoke";
        let state = json!({"Resource": invoke, "Parameters": {"FunctionName": arn}});
        assert_eq!(lines(state), ["Lambda charge:live"]);
        let state = json!({"Resource": invoke, "Parameters": {"FunctionName.$": "$.f"}});
        assert_eq!(lines(state), ["Lambda $.f"]);
        let state = json!({"Resource": invoke, "Arguments": {"FunctionName": "{% $f %}"}});
        assert_eq!(lines(state), ["Lambda $f"]);
    }

    #[test]
    fn services_go_by_service_and_action() {
        let arn = "arn:aws:states:::sqs:sendMessage.waitForTaskToken";
        assert_eq!(
            lines(json!({"Resource": arn})),
            ["SQS sendMessage", "waits for a callback"]
        );
        let arn = "arn:aws:states:::aws-sdk:dynamodb:getItem";
        assert_eq!(lines(json!({"Resource": arn})), ["DynamoDB getItem"]);
        let arn = "arn:aws:states:us-east-1:123456789012:activity:review";
        assert_eq!(lines(json!({"Resource": arn})), ["Activity review"]);
        assert_eq!(lines(json!({"Resource": "?"})), ["?"]);
    }
}

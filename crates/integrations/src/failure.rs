//! What failed calls are called in workflows.

use asl::failure::Failure;

use crate::catalog::Entry;
use crate::support::Optimised;
use crate::wire::{Invalid, Rejected};

/// Whose words a failure is told in.
#[derive(Clone, Copy, Debug)]
pub enum Voice {
    /// Version 1 of AWS's SDK for Java.
    One(&'static Optimised),
    /// Version 2.
    Two(&'static Entry),
    /// Version 2, under another name.
    Named(&'static Optimised),
}

impl Voice {
    fn prefix(self) -> &'static str {
        match self {
            Self::One(service) | Self::Named(service) => service.error,
            Self::Two(entry) => &entry.names.class,
        }
    }

    /// The failure for what a service refused.
    pub fn rejected(self, entry: &'static Entry, rejected: &Rejected) -> Failure {
        let exceptions = entry.interface().map(|interface| &interface.exceptions);
        let name = rejected.shape.as_ref().unwrap_or(&rejected.code);
        let found = exceptions.and_then(|known| {
            let by_code = known.get(name.as_str());
            by_code.or_else(|| known.values().find(|known| *known.shape == **name))
        });
        let message = rejected.message.as_deref().unwrap_or("null");
        let (status, id) = (rejected.status.as_u16(), &rejected.request_id);
        match self {
            Self::One(service) => {
                let class = found.map_or_else(
                    || service.other.to_owned(),
                    |exception| class_of_one(&exception.shape),
                );
                let cause = format!(
                    "{message} (Service: {}; Status Code: {status}; Error Code: {}; Request ID: \
                     {id}; Proxy: null)",
                    service.cause, rejected.code
                );
                Failure::new(format!("{}.{class}", service.error), cause)
            }
            Self::Two(_) | Self::Named(_) => {
                let service = self.prefix();
                let class = found.map_or_else(
                    || format!("{service}Exception"),
                    |exception| exception.class.to_string(),
                );
                let extended = match &rejected.extended_request_id {
                    Some(id) => format!(", Extended Request ID: {id}"),
                    None => String::new(),
                };
                let cause = format!(
                    "{message} (Service: {service}, Status Code: {status}, Request ID: \
                     {id}{extended})"
                );
                Failure::new(format!("{service}.{class}"), cause)
            }
        }
    }

    /// The failure for a service that was not reached.
    pub fn unreached(self, cause: impl Into<String>) -> Failure {
        Failure::new(format!("{}.SdkClientException", self.prefix()), cause)
    }

    /// The failure for a service that this server neither has nor is told of.
    pub fn not_served(self, entry: &Entry) -> Failure {
        let name = &entry.names.name;
        self.unreached(format!(
            "This server does not serve {name} itself, and its configuration names no other that \
             does: set upstream.{name} to the endpoint of one"
        ))
    }
}

/// The name of an exception's class in version 1.
fn class_of_one(shape: &str) -> String {
    let name = shape.strip_suffix("Fault").unwrap_or(shape);
    if name.ends_with("Exception") {
        crate::catalog::pascal(name)
    } else {
        format!("{}Exception", crate::catalog::pascal(name))
    }
}

/// The failure for parameters that do not fit.
pub fn unfit(parameters: &serde_json::Value, invalid: &[Invalid]) -> Failure {
    let reasons: Vec<String> = invalid.iter().map(ToString::to_string).collect();
    Failure::new(
        asl::failure::names::RUNTIME,
        format!(
            "The Parameters '{parameters}' could not be used to start the Task: [{}]",
            reasons.join(", ")
        ),
    )
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::catalog;
    use crate::support::OPTIMISED;

    fn rejected(status: u16, code: &str, message: &str) -> Rejected {
        Rejected {
            status: StatusCode::from_u16(status).unwrap(),
            code: code.to_owned(),
            shape: None,
            message: Some(message.to_owned()),
            request_id: "id".to_owned(),
            extended_request_id: None,
        }
    }

    fn one(name: &str, rejected: &Rejected) -> (String, String) {
        let service = OPTIMISED.iter().find(|known| known.name == name).unwrap();
        let entry = catalog::find(service.service).unwrap();
        let failure = Voice::One(service).rejected(entry, rejected);
        (failure.error.unwrap(), failure.cause.unwrap())
    }

    fn two(name: &str, rejected: &Rejected) -> (String, String) {
        let entry = catalog::find_sdk(name).unwrap();
        let failure = Voice::Two(entry).rejected(entry, rejected);
        (failure.error.unwrap(), failure.cause.unwrap())
    }

    // What AWS says, as recorded.
    #[test]
    fn closely_integrated_services_fail_in_the_words_of_the_first_sdk() {
        let (error, cause) = one("sns", &rejected(404, "NotFound", "Topic does not exist"));
        assert_eq!(error, "SNS.NotFoundException");
        assert_eq!(
            cause,
            "Topic does not exist (Service: AmazonSNS; Status Code: 404; Error Code: NotFound; \
             Request ID: id; Proxy: null)"
        );
        let (error, cause) = one("dynamodb", &rejected(400, "ValidationException", "no"));
        assert_eq!(error, "DynamoDB.AmazonDynamoDBException");
        assert!(cause.starts_with(
            "no (Service: AmazonDynamoDBv2; Status Code: 400; Error Code: ValidationException;"
        ));
        let (error, _) = one("states", &rejected(400, "StateMachineDoesNotExist", "no"));
        assert_eq!(error, "StepFunctions.StateMachineDoesNotExistException");
        let queue = Rejected {
            shape: Some("QueueDoesNotExist".to_owned()),
            ..rejected(400, "AWS.SimpleQueueService.NonExistentQueue", "no")
        };
        let (error, cause) = one("sqs", &queue);
        assert_eq!(error, "SQS.QueueDoesNotExistException");
        assert!(cause.contains("Error Code: AWS.SimpleQueueService.NonExistentQueue;"));
    }

    #[test]
    fn other_services_fail_in_the_words_of_the_second_sdk() {
        let (error, cause) = two("dynamodb", &rejected(400, "ValidationException", "no"));
        assert_eq!(error, "DynamoDb.DynamoDbException");
        assert_eq!(
            cause,
            "no (Service: DynamoDb, Status Code: 400, Request ID: id)"
        );
        let (error, _) = two(
            "secretsmanager",
            &rejected(400, "ValidationException", "no"),
        );
        assert_eq!(error, "SecretsManager.SecretsManagerException");
        assert_eq!(
            two(
                "dynamodb",
                &rejected(400, "ResourceNotFoundException", "no")
            )
            .0,
            "DynamoDb.ResourceNotFoundException"
        );
        assert_eq!(
            two("s3", &rejected(404, "NoSuchKey", "no")).0,
            "S3.NoSuchKeyException"
        );
    }
}

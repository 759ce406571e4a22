//! Which integrations there are, and what they let a task wait for.
//!
//! <https://docs.aws.amazon.com/step-functions/latest/dg/integrate-optimized.html>

use asl::definition::{Pattern, Resource};

use crate::catalog::{self, Entry, Operation};
use crate::wire::Style;

/// Why a state machine cannot have a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("there is no such integration")]
    NotRecognized,
    #[error("the integration does not support this pattern")]
    PatternNotSupported,
    #[error("express workflows do not support this pattern")]
    NotInExpress,
}

/// A service that AWS integrates more closely than through `aws-sdk`.
#[derive(Debug)]
pub struct Optimised {
    /// As resources name it.
    pub name: &'static str,
    /// As the catalog does.
    pub service: &'static str,
    /// What names of its errors begin with.
    pub error: &'static str,
    /// As causes name it.
    pub cause: &'static str,
    /// The class of errors that have none of their own.
    pub other: &'static str,
    pub style: Style,
    /// Answers hold the HTTP headers, too.
    pub headers: bool,
    pub actions: &'static [Action],
}

#[derive(Debug)]
pub struct Action {
    pub name: &'static str,
    pub sync: bool,
    pub token: bool,
}

const fn plain(name: &'static str) -> Action {
    Action {
        name,
        sync: false,
        token: false,
    }
}

const fn token(name: &'static str) -> Action {
    Action {
        name,
        sync: false,
        token: true,
    }
}

const fn sync(name: &'static str) -> Action {
    Action {
        name,
        sync: true,
        token: false,
    }
}

const fn both(name: &'static str) -> Action {
    Action {
        name,
        sync: true,
        token: true,
    }
}

const fn one(
    name: &'static str,
    service: &'static str,
    [error, cause, other]: [&'static str; 3],
    actions: &'static [Action],
) -> Optimised {
    let (style, headers) = (Style::One, true);
    Optimised {
        name,
        service,
        error,
        cause,
        other,
        style,
        headers,
        actions,
    }
}

const fn two(
    name: &'static str,
    service: &'static str,
    [error, cause, other]: [&'static str; 3],
    actions: &'static [Action],
) -> Optimised {
    let (style, headers) = (Style::Two, false);
    Optimised {
        name,
        service,
        error,
        cause,
        other,
        style,
        headers,
        actions,
    }
}

/// Sorted by name.
pub static OPTIMISED: [Optimised; 21] = [
    two(
        "apigateway",
        "apigateway",
        ["ApiGateway"; 3],
        &[token("invoke")],
    ),
    one(
        "athena",
        "athena",
        ["Athena", "AmazonAthena", "AmazonAthenaException"],
        &[
            plain("getQueryExecution"),
            plain("getQueryResults"),
            sync("startQueryExecution"),
            plain("stopQueryExecution"),
        ],
    ),
    one(
        "batch",
        "batch",
        ["Batch", "AWSBatch", "AWSBatchException"],
        &[sync("submitJob")],
    ),
    two(
        "bedrock",
        "bedrock",
        ["Bedrock", "Bedrock", "BedrockException"],
        &[sync("createModelCustomizationJob"), token("invokeModel")],
    ),
    one(
        "codebuild",
        "codebuild",
        ["CodeBuild", "AWSCodeBuild", "AWSCodeBuildException"],
        &[
            plain("batchDeleteBuilds"),
            plain("batchGetReports"),
            sync("startBuild"),
            sync("startBuildBatch"),
            plain("stopBuild"),
            plain("stopBuildBatch"),
            plain("deleteBuildBatch"),
            plain("retryBuildBatch"),
            plain("batchGetBuildBatches"),
        ],
    ),
    one(
        "databrew",
        "databrew",
        [
            "GlueDataBrew",
            "AWSGlueDataBrew",
            "AWSGlueDataBrewException",
        ],
        &[sync("startJobRun")],
    ),
    one(
        "dynamodb",
        "dynamodb",
        ["DynamoDB", "AmazonDynamoDBv2", "AmazonDynamoDBException"],
        &[
            plain("getItem"),
            plain("putItem"),
            plain("updateItem"),
            plain("deleteItem"),
        ],
    ),
    one(
        "ecs",
        "ecs",
        ["ECS", "AmazonECS", "AmazonECSException"],
        &[both("runTask")],
    ),
    one(
        "eks",
        "eks",
        ["Eks", "AmazonEKS", "AmazonEKSException"],
        &[
            sync("createCluster"),
            sync("deleteCluster"),
            sync("createFargateProfile"),
            sync("deleteFargateProfile"),
            sync("createNodegroup"),
            sync("deleteNodegroup"),
        ],
    ),
    one(
        "elasticmapreduce",
        "emr",
        [
            "ElasticMapReduce",
            "AmazonElasticMapReduce",
            "AmazonElasticMapReduceException",
        ],
        &[
            sync("createCluster"),
            sync("addStep"),
            plain("cancelStep"),
            sync("terminateCluster"),
            plain("setClusterTerminationProtection"),
        ],
    ),
    one(
        "emr-containers",
        "emr-containers",
        [
            "EMRContainers",
            "AmazonEMRContainers",
            "AmazonEMRContainersException",
        ],
        &[
            sync("createVirtualCluster"),
            sync("deleteVirtualCluster"),
            sync("startJobRun"),
        ],
    ),
    two(
        "emr-serverless",
        "emr-serverless",
        ["EmrServerless", "EmrServerless", "EmrServerlessException"],
        &[
            sync("createApplication"),
            sync("startApplication"),
            sync("stopApplication"),
            sync("deleteApplication"),
            sync("startJobRun"),
        ],
    ),
    two(
        "events",
        "events",
        ["EventBridge", "EventBridge", "EventBridgeException"],
        &[token("putEvents")],
    ),
    one(
        "glue",
        "glue",
        ["Glue", "AWSGlue", "AWSGlueException"],
        &[sync("startJobRun")],
    ),
    two("http", "http", ["States.Http"; 3], &[plain("invoke")]),
    one(
        "lambda",
        "lambda",
        ["Lambda", "AWSLambda", "AWSLambdaException"],
        &[token("invoke")],
    ),
    one(
        "mediaconvert",
        "mediaconvert",
        [
            "MediaConvert",
            "AWSMediaConvert",
            "AWSMediaConvertException",
        ],
        &[sync("createJob")],
    ),
    one(
        "sagemaker",
        "sagemaker",
        ["SageMaker", "AmazonSageMaker", "AmazonSageMakerException"],
        &[
            plain("createEndpoint"),
            plain("createEndpointConfig"),
            plain("createModel"),
            plain("updateEndpoint"),
            sync("createHyperParameterTuningJob"),
            sync("createLabelingJob"),
            sync("createProcessingJob"),
            sync("createTrainingJob"),
            sync("createTransformJob"),
        ],
    ),
    one(
        "sns",
        "sns",
        ["SNS", "AmazonSNS", "AmazonSNSException"],
        &[token("publish")],
    ),
    one(
        "sqs",
        "sqs",
        ["SQS", "AmazonSQS", "AmazonSQSException"],
        &[token("sendMessage")],
    ),
    one(
        "states",
        "stepfunctions",
        [
            "StepFunctions",
            "AWSStepFunctions",
            "AWSStepFunctionsException",
        ],
        &[both("startExecution")],
    ),
];

/// What a task calls.
#[derive(Clone, Copy, Debug)]
pub enum Integration {
    /// A service that is integrated closely, and the action without its pattern.
    Optimised(&'static Optimised, &'static Action),
    /// An operation of `aws-sdk`.
    Sdk(&'static Entry, &'static str, &'static Operation),
}

/// The integration that a resource names.
pub fn find(service: &str, action: &str) -> Option<Integration> {
    let action = bare(action);
    if let Some(name) = service.strip_prefix("aws-sdk:") {
        let entry = catalog::find_sdk(name)?;
        let (name, operation) = entry.operation(action)?;
        // Resources have a small letter first.
        let small = action.starts_with(|letter: char| letter.is_ascii_lowercase());
        return small.then_some(Integration::Sdk(entry, name, operation));
    }
    let found = OPTIMISED.iter().find(|known| known.name == service)?;
    let action = found.actions.iter().find(|known| known.name == action)?;
    Some(Integration::Optimised(found, action))
}

/// An action without its pattern.
pub fn bare(action: &str) -> &str {
    action.split('.').next().unwrap_or(action)
}

/// Whether tasks can have a resource, in a standard or an express workflow.
pub fn check(resource: &Resource, express: bool) -> Result<(), Refused> {
    let Resource::Service {
        service,
        action,
        pattern,
    } = resource
    else {
        let activity = matches!(resource, Resource::Activity { .. });
        return if express && activity {
            Err(Refused::NotInExpress)
        } else {
            Ok(())
        };
    };
    let integration = find(service, action).ok_or(Refused::NotRecognized)?;
    let (sync, token) = match integration {
        Integration::Optimised(_, action) => (action.sync, action.token),
        Integration::Sdk(..) => (false, true),
    };
    let supported = match pattern {
        Pattern::RequestResponse => true,
        Pattern::Sync => sync,
        Pattern::Sync2 => sync && service == "states",
        Pattern::WaitForTaskToken => token,
    };
    if !supported {
        return Err(Refused::PatternNotSupported);
    }
    if express && *pattern != Pattern::RequestResponse {
        return Err(Refused::NotInExpress);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(arn: &str, express: bool) -> Result<(), Refused> {
        check(&Resource::parse(arn).unwrap(), express)
    }

    #[test]
    fn integrations_are_known_with_their_patterns() {
        for known in [
            "arn:aws:states:::lambda:invoke.waitForTaskToken",
            "arn:aws:states:::states:startExecution.sync:2",
            "arn:aws:states:::ecs:runTask.sync",
            "arn:aws:states:::aws-sdk:scheduler:createSchedule",
            "arn:aws:states:::aws-sdk:dynamodb:query.waitForTaskToken",
            "arn:aws:states:::http:invoke",
        ] {
            assert_eq!(checked(known, false), Ok(()), "{known}");
        }
        for (unknown, why) in [
            ("arn:aws:states:::dynamodb:query", Refused::NotRecognized),
            (
                "arn:aws:states:::aws-sdk:dynamodb:guess",
                Refused::NotRecognized,
            ),
            (
                "arn:aws:states:::aws-sdk:nothing:list",
                Refused::NotRecognized,
            ),
            (
                "arn:aws:states:::sqs:sendMessage.sync",
                Refused::PatternNotSupported,
            ),
            (
                "arn:aws:states:::ecs:runTask.sync:2",
                Refused::PatternNotSupported,
            ),
            (
                "arn:aws:states:::aws-sdk:sqs:sendMessage.sync",
                Refused::PatternNotSupported,
            ),
            (
                "arn:aws:states:::http:invoke.waitForTaskToken",
                Refused::PatternNotSupported,
            ),
        ] {
            assert_eq!(checked(unknown, false), Err(why), "{unknown}");
        }
    }

    #[test]
    fn express_workflows_wait_for_nobody() {
        for refused in [
            "arn:aws:states:::lambda:invoke.waitForTaskToken",
            "arn:aws:states:::states:startExecution.sync",
            "arn:aws:states:us-east-1:123456789012:activity:a",
        ] {
            assert_eq!(
                checked(refused, true),
                Err(Refused::NotInExpress),
                "{refused}"
            );
        }
        assert_eq!(checked("arn:aws:states:::sqs:sendMessage", true), Ok(()));
    }

    #[test]
    fn every_action_is_an_operation_or_has_code_of_its_own() {
        let own = ["apigateway", "elasticmapreduce", "http"];
        assert!(OPTIMISED.is_sorted_by_key(|known| known.name));
        for known in OPTIMISED.iter().filter(|known| !own.contains(&known.name)) {
            let entry = catalog::find(known.service).unwrap();
            for action in known
                .actions
                .iter()
                .filter(|action| action.name != "invokeModel")
            {
                assert!(
                    entry.operation(action.name).is_some(),
                    "{} {}",
                    known.name,
                    action.name
                );
            }
        }
    }
}

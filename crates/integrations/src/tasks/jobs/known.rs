//! The jobs that can be waited for.

use serde_json::{Value, json};

use super::{Job, Stop};

/// Counts as a status where a service says that it does not know the thing (any more).
pub const GONE: &str = "(gone)";

pub fn find(service: &str, action: &str) -> Option<&'static Job> {
    JOBS.iter()
        .find(|job| job.service == service && job.action == action)
}

/// The jobs of SageMaker are alike but for their names.
macro_rules! sagemaker {
    ($kind:literal) => {
        Job {
            service: "sagemaker",
            action: concat!("create", $kind, "Job"),
            look: concat!("describe", $kind, "Job"),
            ask: |given, _| named(given, concat!($kind, "JobName")),
            job: "",
            status: concat!("/", $kind, "JobStatus"),
            succeeded: &["Completed"],
            failed: &["Failed", "Stopped"],
            whole: true,
            stop: stop(concat!("stop", $kind, "Job"), |given, _| {
                named(given, concat!($kind, "JobName"))
            }),
        }
    };
}

static JOBS: [Job; 31] = [
    Job {
        service: "athena",
        action: "startQueryExecution",
        look: "getQueryExecution",
        ask: |_, got| Some(json!({"QueryExecutionId": got.get("QueryExecutionId")?})),
        job: "/QueryExecution",
        status: "/Status/State",
        succeeded: &["SUCCEEDED"],
        failed: &["FAILED", "CANCELLED"],
        whole: true,
        stop: stop("stopQueryExecution", |_, got| {
            Some(json!({"QueryExecutionId": got.get("QueryExecutionId")?}))
        }),
    },
    Job {
        service: "batch",
        action: "submitJob",
        look: "describeJobs",
        ask: |_, got| Some(json!({"Jobs": [got.get("JobId")?]})),
        job: "/Jobs/0",
        status: "/Status",
        succeeded: &["SUCCEEDED"],
        failed: &["FAILED"],
        whole: false,
        stop: stop("terminateJob", |_, got| {
            Some(json!({"JobId": got.get("JobId")?, "Reason": "The task was stopped"}))
        }),
    },
    Job {
        service: "bedrock",
        action: "createModelCustomizationJob",
        look: "getModelCustomizationJob",
        ask: |_, got| Some(json!({"JobIdentifier": got.get("JobArn")?})),
        job: "",
        status: "/Status",
        succeeded: &["Completed"],
        failed: &["Failed", "Stopped"],
        whole: true,
        stop: stop("stopModelCustomizationJob", |_, got| {
            Some(json!({"JobIdentifier": got.get("JobArn")?}))
        }),
    },
    Job {
        service: "codebuild",
        action: "startBuild",
        look: "batchGetBuilds",
        ask: |_, got| Some(json!({"Ids": [got.pointer("/Build/Id")?]})),
        job: "/Builds/0",
        status: "/BuildStatus",
        succeeded: &["SUCCEEDED"],
        failed: &["FAILED", "FAULT", "TIMED_OUT", "STOPPED"],
        whole: false,
        stop: stop("stopBuild", |_, got| {
            Some(json!({"Id": got.pointer("/Build/Id")?}))
        }),
    },
    Job {
        service: "codebuild",
        action: "startBuildBatch",
        look: "batchGetBuildBatches",
        ask: |_, got| Some(json!({"Ids": [got.pointer("/BuildBatch/Id")?]})),
        job: "/BuildBatches/0",
        status: "/BuildBatchStatus",
        succeeded: &["SUCCEEDED"],
        failed: &["FAILED", "FAULT", "TIMED_OUT", "STOPPED"],
        whole: false,
        stop: stop("stopBuildBatch", |_, got| {
            Some(json!({"Id": got.pointer("/BuildBatch/Id")?}))
        }),
    },
    Job {
        service: "databrew",
        action: "startJobRun",
        look: "describeJobRun",
        ask: |given, got| Some(json!({"Name": given.get("Name")?, "RunId": got.get("RunId")?})),
        job: "",
        status: "/State",
        succeeded: &["SUCCEEDED"],
        failed: &["FAILED", "STOPPED", "TIMEOUT"],
        whole: true,
        stop: stop("stopJobRun", |given, got| {
            Some(json!({"Name": given.get("Name")?, "RunId": got.get("RunId")?}))
        }),
    },
    Job {
        service: "ecs",
        action: "runTask",
        look: "describeTasks",
        ask: |given, got| {
            let mut ask = json!({"Tasks": [got.pointer("/Tasks/0/TaskArn")?]});
            if let Some(cluster) = given.get("Cluster") {
                ask["Cluster"] = cluster.clone();
            }
            Some(ask)
        },
        job: "/Tasks/0",
        status: "/LastStatus",
        succeeded: &["STOPPED"],
        failed: &[],
        whole: false,
        stop: stop("stopTask", |given, got| {
            let mut ask = json!({"Task": got.pointer("/Tasks/0/TaskArn")?});
            if let Some(cluster) = given.get("Cluster") {
                ask["Cluster"] = cluster.clone();
            }
            Some(ask)
        }),
    },
    eks(
        "createCluster",
        "describeCluster",
        |given, _| Some(json!({"Name": given.get("Name")?})),
        "/Cluster",
        &["ACTIVE"],
    ),
    eks(
        "deleteCluster",
        "describeCluster",
        |given, _| Some(json!({"Name": given.get("Name")?})),
        "/Cluster",
        &[GONE],
    ),
    eks(
        "createFargateProfile",
        "describeFargateProfile",
        fargate,
        "/FargateProfile",
        &["ACTIVE"],
    ),
    eks(
        "deleteFargateProfile",
        "describeFargateProfile",
        fargate,
        "/FargateProfile",
        &[GONE],
    ),
    eks(
        "createNodegroup",
        "describeNodegroup",
        nodes,
        "/Nodegroup",
        &["ACTIVE"],
    ),
    eks(
        "deleteNodegroup",
        "describeNodegroup",
        nodes,
        "/Nodegroup",
        &[GONE],
    ),
    Job {
        service: "elasticmapreduce",
        action: "addStep",
        look: "describeStep",
        ask: |given, got| {
            Some(json!({"ClusterId": given.get("ClusterId")?, "StepId": got.get("StepId")?}))
        },
        job: "/Step",
        status: "/Status/State",
        succeeded: &["COMPLETED"],
        failed: &["CANCELLED", "FAILED", "INTERRUPTED"],
        whole: true,
        stop: stop("cancelSteps", |given, got| {
            Some(json!({"ClusterId": given.get("ClusterId")?, "StepIds": [got.get("StepId")?]}))
        }),
    },
    Job {
        service: "elasticmapreduce",
        action: "createCluster",
        look: "describeCluster",
        ask: |_, got| Some(json!({"ClusterId": got.get("ClusterId")?})),
        job: "/Cluster",
        status: "/Status/State",
        succeeded: &["WAITING", "RUNNING", "TERMINATED"],
        failed: &["TERMINATED_WITH_ERRORS"],
        whole: true,
        stop: stop("terminateJobFlows", |_, got| {
            Some(json!({"JobFlowIds": [got.get("ClusterId")?]}))
        }),
    },
    Job {
        service: "elasticmapreduce",
        action: "terminateCluster",
        look: "describeCluster",
        ask: |given, _| Some(json!({"ClusterId": given.get("ClusterId")?})),
        job: "/Cluster",
        status: "/Status/State",
        succeeded: &["TERMINATED", "TERMINATED_WITH_ERRORS"],
        failed: &[],
        whole: true,
        stop: None,
    },
    Job {
        service: "emr-containers",
        action: "createVirtualCluster",
        look: "describeVirtualCluster",
        ask: |_, got| Some(json!({"Id": got.get("Id")?})),
        job: "/VirtualCluster",
        status: "/State",
        succeeded: &["RUNNING"],
        failed: &["TERMINATED", "ARRESTED"],
        whole: true,
        stop: None,
    },
    Job {
        service: "emr-containers",
        action: "deleteVirtualCluster",
        look: "describeVirtualCluster",
        ask: |_, got| Some(json!({"Id": got.get("Id")?})),
        job: "/VirtualCluster",
        status: "/State",
        succeeded: &["TERMINATED"],
        failed: &["ARRESTED"],
        whole: true,
        stop: None,
    },
    Job {
        service: "emr-containers",
        action: "startJobRun",
        look: "describeJobRun",
        ask: |given, got| {
            Some(json!({"VirtualClusterId": given.get("VirtualClusterId")?, "Id": got.get("Id")?}))
        },
        job: "/JobRun",
        status: "/State",
        succeeded: &["COMPLETED"],
        failed: &["FAILED", "CANCELLED"],
        whole: true,
        stop: stop("cancelJobRun", |given, got| {
            Some(json!({"VirtualClusterId": given.get("VirtualClusterId")?, "Id": got.get("Id")?}))
        }),
    },
    application(
        "createApplication",
        |_, got| Some(json!({"ApplicationId": got.get("ApplicationId")?})),
        &["CREATED", "STARTED"],
    ),
    application("startApplication", application_of, &["STARTED"]),
    application("stopApplication", application_of, &["STOPPED"]),
    application("deleteApplication", application_of, &["TERMINATED", GONE]),
    Job {
        service: "emr-serverless",
        action: "startJobRun",
        look: "getJobRun",
        ask: |_, got| {
            Some(
                json!({"ApplicationId": got.get("ApplicationId")?, "JobRunId": got.get("JobRunId")?}),
            )
        },
        job: "/JobRun",
        status: "/State",
        succeeded: &["SUCCESS"],
        failed: &["FAILED", "CANCELLED"],
        whole: true,
        stop: stop("cancelJobRun", |_, got| {
            Some(
                json!({"ApplicationId": got.get("ApplicationId")?, "JobRunId": got.get("JobRunId")?}),
            )
        }),
    },
    Job {
        service: "glue",
        action: "startJobRun",
        look: "getJobRun",
        ask: |given, got| {
            Some(json!({"JobName": given.get("JobName")?, "RunId": got.get("JobRunId")?}))
        },
        job: "/JobRun",
        status: "/JobRunState",
        succeeded: &["SUCCEEDED"],
        failed: &["FAILED", "STOPPED", "TIMEOUT", "ERROR", "EXPIRED"],
        whole: false,
        stop: stop("batchStopJobRun", |given, got| {
            Some(json!({"JobName": given.get("JobName")?, "JobRunIds": [got.get("JobRunId")?]}))
        }),
    },
    Job {
        service: "mediaconvert",
        action: "createJob",
        look: "getJob",
        ask: |_, got| Some(json!({"Id": got.pointer("/Job/Id")?})),
        job: "/Job",
        status: "/Status",
        succeeded: &["COMPLETE"],
        failed: &["ERROR", "CANCELED"],
        whole: true,
        stop: stop("cancelJob", |_, got| {
            Some(json!({"Id": got.pointer("/Job/Id")?}))
        }),
    },
    sagemaker!("Processing"),
    sagemaker!("Training"),
    sagemaker!("Transform"),
    sagemaker!("HyperParameterTuning"),
    sagemaker!("Labeling"),
];

const fn stop(operation: &'static str, ask: fn(&Value, &Value) -> Option<Value>) -> Option<Stop> {
    Some(Stop { operation, ask })
}

const fn eks(
    action: &'static str,
    look: &'static str,
    ask: fn(&Value, &Value) -> Option<Value>,
    job: &'static str,
    succeeded: &'static [&'static str],
) -> Job {
    Job {
        service: "eks",
        action,
        look,
        ask,
        job,
        status: "/Status",
        succeeded,
        failed: &["FAILED", "CREATE_FAILED", "DELETE_FAILED", "DEGRADED"],
        whole: true,
        stop: None,
    }
}

const fn application(
    action: &'static str,
    ask: fn(&Value, &Value) -> Option<Value>,
    succeeded: &'static [&'static str],
) -> Job {
    Job {
        service: "emr-serverless",
        action,
        look: "getApplication",
        ask,
        job: "/Application",
        status: "/State",
        succeeded,
        failed: &["TERMINATED"],
        whole: true,
        stop: None,
    }
}

fn application_of(given: &Value, _: &Value) -> Option<Value> {
    Some(json!({"ApplicationId": given.get("ApplicationId")?}))
}

fn fargate(given: &Value, _: &Value) -> Option<Value> {
    let (cluster, name) = (given.get("ClusterName")?, given.get("FargateProfileName")?);
    Some(json!({"ClusterName": cluster, "FargateProfileName": name}))
}

fn nodes(given: &Value, _: &Value) -> Option<Value> {
    let (cluster, name) = (given.get("ClusterName")?, given.get("NodegroupName")?);
    Some(json!({"ClusterName": cluster, "NodegroupName": name}))
}

fn named(given: &Value, name: &str) -> Option<Value> {
    let mut ask = json!({});
    ask[name] = given.get(name)?.clone();
    Some(ask)
}

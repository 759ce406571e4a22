//! Jobs of other services, which `.sync` tasks wait for by looking at them again and again.

use std::sync::Arc;
use std::time::Duration;

use asl::failure::{Failure, names};
use serde_json::{Value, json};

use super::Task;
use crate::support::{Action, OPTIMISED, Optimised};
use crate::{Call, Context, Integrations};

/// Looks that fail one after the other before a task gives up.
const MAX_FAILED_LOOKS: u32 = 20;

/// How a job is waited for.
struct Job {
    service: &'static str,
    action: &'static str,
    /// The operation that tells how it stands.
    look: &'static str,
    /// Its parameters, from those of the task and what the call has answered.
    ask: fn(&Value, &Value) -> Option<Value>,
    /// Where in its answer the job is; empty is all of it.
    job: &'static str,
    /// Where in the job its status is.
    status: &'static str,
    succeeded: &'static [&'static str],
    failed: &'static [&'static str],
    /// The output of the task is the job, or all of the answer.
    whole: bool,
    /// What ends it.
    stop: Option<Stop>,
}

struct Stop {
    operation: &'static str,
    ask: fn(&Value, &Value) -> Option<Value>,
}

const fn stop(operation: &'static str, ask: fn(&Value, &Value) -> Option<Value>) -> Option<Stop> {
    Some(Stop { operation, ask })
}

static JOBS: [Job; 28] = [
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
        "ACTIVE",
    ),
    eks(
        "deleteCluster",
        "describeCluster",
        |given, _| Some(json!({"Name": given.get("Name")?})),
        "/Cluster",
        GONE,
    ),
    eks(
        "createFargateProfile",
        "describeFargateProfile",
        fargate,
        "/FargateProfile",
        "ACTIVE",
    ),
    eks(
        "deleteFargateProfile",
        "describeFargateProfile",
        fargate,
        "/FargateProfile",
        GONE,
    ),
    eks(
        "createNodegroup",
        "describeNodegroup",
        nodes,
        "/Nodegroup",
        "ACTIVE",
    ),
    eks(
        "deleteNodegroup",
        "describeNodegroup",
        nodes,
        "/Nodegroup",
        GONE,
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
    Job {
        service: "sagemaker",
        action: "createProcessingJob",
        look: "describeProcessingJob",
        ask: |given, _| named(given, "ProcessingJobName"),
        job: "",
        status: "/ProcessingJobStatus",
        succeeded: &["Completed"],
        failed: &["Failed", "Stopped"],
        whole: true,
        stop: stop("stopProcessingJob", |given, _| {
            named(given, "ProcessingJobName")
        }),
    },
    Job {
        service: "sagemaker",
        action: "createTrainingJob",
        look: "describeTrainingJob",
        ask: |given, _| named(given, "TrainingJobName"),
        job: "",
        status: "/TrainingJobStatus",
        succeeded: &["Completed"],
        failed: &["Failed", "Stopped"],
        whole: true,
        stop: stop("stopTrainingJob", |given, _| {
            named(given, "TrainingJobName")
        }),
    },
];

/// The rest of SageMaker's, which are alike but for their names.
static MORE_JOBS: [Job; 3] = [
    Job {
        service: "sagemaker",
        action: "createTransformJob",
        look: "describeTransformJob",
        ask: |given, _| named(given, "TransformJobName"),
        job: "",
        status: "/TransformJobStatus",
        succeeded: &["Completed"],
        failed: &["Failed", "Stopped"],
        whole: true,
        stop: stop("stopTransformJob", |given, _| {
            named(given, "TransformJobName")
        }),
    },
    Job {
        service: "sagemaker",
        action: "createHyperParameterTuningJob",
        look: "describeHyperParameterTuningJob",
        ask: |given, _| named(given, "HyperParameterTuningJobName"),
        job: "",
        status: "/HyperParameterTuningJobStatus",
        succeeded: &["Completed"],
        failed: &["Failed", "Stopped"],
        whole: true,
        stop: stop("stopHyperParameterTuningJob", |given, _| {
            named(given, "HyperParameterTuningJobName")
        }),
    },
    Job {
        service: "sagemaker",
        action: "createLabelingJob",
        look: "describeLabelingJob",
        ask: |given, _| named(given, "LabelingJobName"),
        job: "",
        status: "/LabelingJobStatus",
        succeeded: &["Completed"],
        failed: &["Failed", "Stopped"],
        whole: true,
        stop: stop("stopLabelingJob", |given, _| {
            named(given, "LabelingJobName")
        }),
    },
];

/// Counts as a status where a service says that it does not know the thing (any more).
const GONE: &str = "(gone)";

const fn eks(
    action: &'static str,
    look: &'static str,
    ask: fn(&Value, &Value) -> Option<Value>,
    job: &'static str,
    done: &'static str,
) -> Job {
    Job {
        service: "eks",
        action,
        look,
        ask,
        job,
        status: "/Status",
        // The one status that is awaited.
        succeeded: if done.len() == GONE.len() {
            &[GONE]
        } else {
            &["ACTIVE"]
        },
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

fn find(service: &str, action: &str) -> Option<&'static Job> {
    let mut all = JOBS.iter().chain(&MORE_JOBS);
    all.find(|job| job.service == service && job.action == action)
}

impl Task<'_> {
    /// Waits for a job. Dropped, it stops it.
    pub async fn await_job(
        &self,
        service: &str,
        action: &str,
        submitted: Value,
    ) -> Result<Value, Failure> {
        let known = OPTIMISED.iter().find(|known| known.name == service);
        let Some((job, known)) = find(service, action).zip(known) else {
            let cause = format!("{service}:{action} is nothing to wait for");
            return Err(Failure::new(names::RUNTIME, cause));
        };
        let ask = (job.ask)(&self.call.input, &submitted).ok_or_else(|| {
            let cause = format!("{service} did not name what {action} has started: {submitted}");
            Failure::new(names::TASK_FAILED, cause)
        })?;
        let guard = StopOnDrop {
            integrations: Some(Arc::clone(self.integrations)),
            call: self.call.clone(),
            job,
            known,
            submitted,
        };
        let ended = self.watch(job, known, &ask).await;
        guard.disarm();
        ended
    }

    async fn watch(
        &self,
        job: &'static Job,
        known: &'static Optimised,
        ask: &Value,
    ) -> Result<Value, Failure> {
        let pause = Duration::from_millis(self.integrations.config.poll_ms.max(10));
        let mut failed_looks = 0;
        loop {
            match self.look(job, known, ask).await {
                Ok(Some(ended)) => return ended,
                Ok(None) => failed_looks = 0,
                Err(failure) => {
                    failed_looks += 1;
                    if failed_looks >= MAX_FAILED_LOOKS {
                        return Err(failure);
                    }
                }
            }
            self.integrations.clock.sleep(pause).await;
        }
    }

    /// Looks at a job; `None` while it runs.
    async fn look(
        &self,
        job: &'static Job,
        known: &'static Optimised,
        ask: &Value,
    ) -> Result<Option<Result<Value, Failure>>, Failure> {
        let answered = match self.operate(known, job.look, ask).await {
            Err(failure) if job.succeeded.contains(&GONE) && is_gone(&failure) => {
                return Ok(Some(Ok(ask.clone())));
            }
            answered => strip_metadata(answered?),
        };
        let Some(found) = answered.pointer(job.job) else {
            return Ok(None);
        };
        let status = found.pointer(job.status).and_then(Value::as_str);
        let status = status.unwrap_or_default();
        let output = if job.whole { &answered } else { found };
        if job.succeeded.contains(&status) {
            if job.service == "ecs" && has_failed(found) {
                return Ok(Some(Err(failed(output))));
            }
            return Ok(Some(Ok(output.clone())));
        }
        Ok(job.failed.contains(&status).then(|| Err(failed(output))))
    }

    /// EMR's actions, which are not named as its operations.
    pub async fn map_reduce(
        &self,
        known: &'static Optimised,
        action: &Action,
    ) -> Result<Value, Failure> {
        let given = &*self.call.input;
        let of = |name: &str| given.get(name).cloned().unwrap_or(Value::Null);
        match action.name {
            "createCluster" => {
                let mut made = self.operate(known, "runJobFlow", given).await?;
                rename(&mut made, "JobFlowId", "ClusterId");
                Ok(made)
            }
            "addStep" => {
                let ask = json!({"JobFlowId": of("ClusterId"), "Steps": [of("Step")]});
                let mut made = self.operate(known, "addJobFlowSteps", &ask).await?;
                let step = made.pointer("/StepIds/0").cloned().unwrap_or(Value::Null);
                made["StepId"] = step;
                if let Some(made) = made.as_object_mut() {
                    made.shift_remove("StepIds");
                }
                Ok(made)
            }
            "cancelStep" => {
                let ask = json!({"ClusterId": of("ClusterId"), "StepIds": [of("StepId")]});
                self.operate(known, "cancelSteps", &ask).await
            }
            "terminateCluster" => {
                let ask = json!({"JobFlowIds": [of("ClusterId")]});
                self.operate(known, "terminateJobFlows", &ask).await
            }
            _ => {
                let ask = json!({
                    "JobFlowIds": [of("ClusterId")],
                    "TerminationProtected": of("TerminationProtected"),
                });
                self.operate(known, "setTerminationProtection", &ask).await
            }
        }
    }
}

fn rename(object: &mut Value, from: &str, to: &str) {
    if let Some(object) = object.as_object_mut()
        && let Some(value) = object.shift_remove(from)
    {
        object.insert(to.to_owned(), value);
    }
}

fn failed(job: &Value) -> Failure {
    Failure::new(names::TASK_FAILED, job.to_string())
}

fn is_gone(failure: &Failure) -> bool {
    let error = failure.error.as_deref().unwrap_or_default();
    error.ends_with(".ResourceNotFoundException")
}

/// A task of ECS has stopped either way; its containers tell which.
fn has_failed(task: &Value) -> bool {
    let containers = task.get("Containers").and_then(Value::as_array);
    let exit = |container: &Value| container.get("ExitCode").and_then(Value::as_i64);
    let not_started = task.get("StopCode").and_then(Value::as_str) == Some("TaskFailedToStart");
    not_started
        || containers
            .into_iter()
            .flatten()
            .any(|container| exit(container) != Some(0))
}

/// What was told of the look itself is no part of the job.
fn strip_metadata(mut answered: Value) -> Value {
    if let Some(object) = answered.as_object_mut() {
        object.shift_remove("SdkHttpMetadata");
        object.shift_remove("SdkResponseMetadata");
    }
    answered
}

/// Stops a job that nobody waits for any more.
struct StopOnDrop {
    integrations: Option<Arc<Integrations>>,
    call: Call,
    job: &'static Job,
    known: &'static Optimised,
    submitted: Value,
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
        let Some(stop) = self
            .job
            .stop
            .as_ref()
            .filter(|_| !integrations.is_stopping())
        else {
            return;
        };
        let Some(ask) = (stop.ask)(&self.call.input, &self.submitted) else {
            return;
        };
        let (call, known) = (self.call.clone(), self.known);
        integrations.clone().in_background(async move {
            let task = Task {
                integrations: &integrations,
                context: Context::of(&call),
                call: &call,
                report: &(Arc::new(|_| {}) as crate::Report),
            };
            if let Err(failure) = task.operate(known, stop.operation, &ask).await {
                tracing::debug!(?failure, "a job that nobody waits for was not stopped");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog;

    #[test]
    fn every_action_that_can_be_waited_for_is_and_its_operations_exist() {
        for known in OPTIMISED.iter().filter(|known| known.name != "states") {
            let entry = catalog::find(known.service);
            for action in known.actions.iter().filter(|action| action.sync) {
                let job = find(known.name, action.name);
                let job = job.unwrap_or_else(|| panic!("{} {}", known.name, action.name));
                let entry = entry.unwrap();
                assert!(entry.operation(job.look).is_some(), "{}", job.look);
                if let Some(stop) = &job.stop {
                    assert!(
                        entry.operation(stop.operation).is_some(),
                        "{}",
                        stop.operation
                    );
                }
            }
        }
    }

    #[test]
    fn a_container_that_failed_fails_its_task() {
        assert!(!has_failed(&json!({"Containers": [{"ExitCode": 0}]})));
        assert!(has_failed(
            &json!({"Containers": [{"ExitCode": 0}, {"ExitCode": 3}]})
        ));
        assert!(has_failed(
            &json!({"StopCode": "TaskFailedToStart", "Containers": []})
        ));
    }
}

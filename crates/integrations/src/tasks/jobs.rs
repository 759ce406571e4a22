//! Jobs of other services, which `.sync` tasks wait for by looking at them again and again.

mod known;
mod map_reduce;

use std::sync::Arc;
use std::time::Duration;

use asl::failure::{Failure, names};
use serde_json::Value;

use self::known::{GONE, find};
use super::Task;
use crate::support::{OPTIMISED, Optimised};
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
    use serde_json::json;

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

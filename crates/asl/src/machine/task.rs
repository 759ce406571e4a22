//! Tasks: scheduled, started, submitted, done.

use std::sync::Arc;

use serde_json::Value;

use super::faults::Fault;
use super::run::check_size;
use super::{Command, FiberId, Phase, Step, TaskId, TaskRequest, TimerId, TimerKind};
use crate::definition::{Amount, Kind, Resource, Task};
use crate::failure::{EvaluationError, Failure, names};
use crate::history::{EventKind, TaskEvent, TaskKind};
use crate::scope::Chance;

impl Step<'_> {
    pub fn schedule(&mut self, id: FiberId, task: &Task) -> Result<(), Fault> {
        let token = task.resource.waits_for_token().then(|| self.token(id));
        // The token is part of the context that the input is made with.
        self.set_phase(
            id,
            Phase::Task {
                heartbeat_seconds: None,
                token: token.clone(),
            },
        );
        let input = self.effective_input(id).inspect_err(|_| {
            // It never ran, so there is nothing to cancel.
            self.set_phase(id, Phase::Executing);
        });
        let input = input?;
        if let Some(cause) = self.refusal(&task.resource, &input) {
            self.set_phase(id, Phase::Executing);
            return Err(EvaluationError::runtime(cause).into());
        }
        let data = self.data(id);
        let role = match &task.credentials {
            None => None,
            Some(template) => {
                let value = self.evaluate(&data, |evaluation| {
                    template.evaluate("Credentials", evaluation)
                })?;
                value
                    .get("RoleArn")
                    .and_then(Value::as_str)
                    .map(str::to_owned)
            }
        };
        let timeout_seconds = self.seconds("TimeoutSeconds", task.timeout_seconds.as_ref(), id)?;
        let heartbeat_seconds =
            self.seconds("HeartbeatSeconds", task.heartbeat_seconds.as_ref(), id)?;
        let timer = self.next_run(id, TimerKind::TaskTimeout);
        let task_id = TaskId {
            fiber: id,
            run: timer.run,
        };
        self.set_phase(
            id,
            Phase::Task {
                heartbeat_seconds,
                token: token.clone(),
            },
        );
        let scheduled = TaskEvent::Scheduled {
            input: Arc::clone(&input),
            region: self.execution.identity.region.clone(),
            timeout_seconds,
            heartbeat_seconds,
            role_arn: role.clone(),
        };
        self.record_task(id, &task.resource, scheduled);
        if let Some(seconds) = timeout_seconds {
            self.set_timer(timer, seconds.saturating_mul(1000));
        }
        let fiber = &self.execution.fibers[&id];
        self.commands.push(Command::Run(TaskRequest {
            task: task_id,
            state: self.definition.state(fiber.state).name.clone(),
            attempt: fiber.retries,
            resource: task.resource.clone(),
            input,
            token,
            timeout_seconds,
            heartbeat_seconds,
            role_arn: role,
        }));
        if let Some(seconds) = heartbeat_seconds {
            let kind = TimerKind::Heartbeat;
            self.set_timer(TimerId { kind, ..timer }, seconds.saturating_mul(1000));
        }
        Ok(())
    }

    /// Why a task cannot be scheduled, in AWS's words.
    fn refusal(&self, resource: &Resource, input: &Value) -> Option<String> {
        if let Resource::Activity { arn } = resource
            && self.execution.missing.contains(arn)
        {
            return Some(format!("The activity {arn} does not exist."));
        }
        let reasons = self.definition.refusals(resource, input);
        (!reasons.is_empty()).then(|| {
            let reasons = reasons.join(", ");
            format!("The Parameters '{input}' could not be used to start the Task: [{reasons}]")
        })
    }

    fn seconds(
        &mut self,
        field: &str,
        amount: Option<&Amount>,
        id: FiberId,
    ) -> Result<Option<u64>, EvaluationError> {
        let Some(amount) = amount else {
            return Ok(None);
        };
        let data = self.data(id);
        let seconds = self.amount(field, amount, &data)?;
        if !(1.0..=99_999_999.0).contains(&seconds) {
            let cause = format!("{field} must be a number from 1 to 99999999: {seconds}");
            return Err(EvaluationError::runtime(cause));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range was checked"
        )]
        let whole = seconds as u64;
        Ok(Some(whole))
    }

    /// A token that nobody can guess, and that names its task.
    fn token(&mut self, id: FiberId) -> String {
        let (high, low) = (self.chance.bits(), self.chance.bits());
        let run = self
            .execution
            .fibers
            .get(&id)
            .map_or(0, |fiber| fiber.run + 1);
        let bytes = [
            &self.execution.identity.number.to_be_bytes()[..],
            &id.0.to_be_bytes(),
            &run.to_be_bytes(),
            &high.to_be_bytes(),
            &low.to_be_bytes(),
        ];
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes.concat())
    }

    fn record_task(&mut self, id: FiberId, resource: &Resource, event: TaskEvent) {
        let task = match resource {
            Resource::Lambda { arn } => TaskKind::Lambda { arn: arn.clone() },
            Resource::Activity { arn } => TaskKind::Activity { arn: arn.clone() },
            Resource::Service {
                service, action, ..
            } => TaskKind::Service {
                service: service.clone(),
                action: action.clone(),
            },
        };
        self.record_of(id, EventKind::Task { task, event });
    }

    /// The resource of the task at which a fiber stands.
    fn resource(&self, id: FiberId) -> Option<&Resource> {
        let fiber = self.execution.fibers.get(&id)?;
        match &self.definition.state(fiber.state).kind {
            Kind::Task(task) => Some(&task.resource),
            _ => None,
        }
    }

    fn note(&mut self, task: TaskId, event: TaskEvent) -> bool {
        if self.awaiting(task).is_none() {
            return false;
        }
        let Some(resource) = self.resource(task.fiber).cloned() else {
            return false;
        };
        self.record_task(task.fiber, &resource, event);
        true
    }

    pub fn task_started(&mut self, task: TaskId, worker: Option<String>) {
        self.note(task, TaskEvent::Started { worker });
    }

    pub fn task_submitted(&mut self, task: TaskId, output: Value) {
        let output = Arc::new(output);
        self.note(task, TaskEvent::Submitted { output });
    }

    pub fn task_succeeded(&mut self, task: TaskId, output: Value) {
        let output = Arc::new(output);
        let Some(resource) = self.awaiting(task).and_then(|_| self.resource(task.fiber)) else {
            return;
        };
        let name = match resource {
            Resource::Lambda { arn } | Resource::Activity { arn } => arn.clone(),
            Resource::Service { service, .. } => service.clone(),
        };
        if let Err(failure) = check_size(&name, &output) {
            return self.task_failed(task, failure);
        }
        self.note(
            task,
            TaskEvent::Succeeded {
                output: Arc::clone(&output),
            },
        );
        self.set_phase(task.fiber, Phase::Executing);
        let made = self.output(task.fiber, output);
        let left = made
            .map_err(Fault::from)
            .and_then(|made| self.exit(task.fiber, made));
        if let Err(fault) = left {
            self.fault(task.fiber, fault);
        }
    }

    pub fn task_failed(&mut self, task: TaskId, failure: Failure) {
        if self.note(task, TaskEvent::Failed(failure.clone())) {
            self.set_phase(task.fiber, Phase::Executing);
            self.fault(task.fiber, failure.into());
        }
    }

    pub fn task_timed_out(&mut self, timer: TimerId) {
        let task = TaskId {
            fiber: timer.fiber,
            run: timer.run,
        };
        let failure = Failure {
            error: Some(names::TIMEOUT.to_owned()),
            cause: None,
        };
        if self.note(task, TaskEvent::TimedOut(failure.clone())) {
            self.commands.push(Command::Cancel(task));
            self.set_phase(task.fiber, Phase::Executing);
            self.fault(task.fiber, failure.into());
        }
    }

    pub fn task_heartbeat(&mut self, task: TaskId) {
        let Some(fiber) = self.awaiting(task) else {
            return;
        };
        if let Phase::Task {
            heartbeat_seconds: Some(seconds),
            ..
        } = fiber.phase
        {
            let timer = TimerId {
                fiber: task.fiber,
                run: task.run,
                kind: TimerKind::Heartbeat,
            };
            self.set_timer(timer, seconds.saturating_mul(1000));
        }
    }
}

//! `TestState`: one state, run alone, with or without a mock in the place of its work.
//!
//! The state runs in `asl`, with the code that runs executions. What is decided here: whether a
//! request makes sense, what the context object is, and what of the inspection is shown.
//! <https://docs.aws.amazon.com/step-functions/latest/dg/test-state-isolation.html>

mod context;
mod reader;
mod request;
mod schema;
mod show;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use asl::definition::Kind;
use asl::failure::{Failure, names};
use asl::machine::trial::{Ended, Next, Setup, Trial};
use asl::machine::{Identity, TaskRequest};
use clock::{Clock, Timestamp};
use integrations::{Call, Report, Update};
use model::stepfunctions::{TestStateInput, TestStateOutput};
use protocol::Caller;
use tokio::sync::mpsc;

use crate::Error;
use crate::aside::{aside, turn};
use crate::executions::{About, Attempt, TaskRunner, chance};
use crate::machines::{Kind as MachineKind, Revision};
use request::Request;

/// AWS gives a state five minutes.
const MAX_DURATION: Duration = Duration::from_secs(300);

/// Runs the state of a request.
pub async fn run(
    clock: &Clock,
    tasks: &TaskRunner,
    caller: &Caller,
    input: TestStateInput,
) -> Result<TestStateOutput, Error> {
    let request = request::read(input)?;
    let names = Names::new(caller);
    let started = clock.now();
    let setup = Setup {
        identity: names.identity(caller, &request, started),
        state: request.state,
        input: Arc::clone(&request.input),
        variables: request.variables.clone(),
        context: request.context.clone(),
        retries: request.retries,
    };
    let definition = Arc::clone(&request.definition);
    let mut trial = Trial::new(&definition, setup, started.as_millis());
    let ended = match &request.mock {
        Some(mock) => {
            let _turn = turn(&definition).await;
            let mocked = || {
                let iterations = &request.iterations;
                let now_ms = started.as_millis();
                trial.mocked(&definition, mock.clone(), iterations, now_ms, chance())
            };
            aside(mocked).map_err(|misfit| Error::validation(misfit.to_string()))?
        }
        None => {
            let one = One {
                clock,
                tasks,
                caller,
                names: &names,
                request: &request,
                started,
            };
            one.run(&mut trial).await
        }
    };
    Ok(show::output(&request, &trial.inspection(), ended))
}

/// What the machine and its execution are called that there are not.
struct Names {
    machine: String,
    execution: String,
}

impl Names {
    fn new(_caller: &Caller) -> Self {
        Self {
            machine: uuid::Uuid::new_v4().to_string(),
            execution: uuid::Uuid::new_v4().to_string(),
        }
    }

    fn machine_arn(&self, caller: &Caller) -> String {
        let Caller {
            account, region, ..
        } = caller;
        format!(
            "arn:aws:states:{region}:{account}:stateMachine:{}",
            self.machine
        )
    }

    fn execution_arn(&self, caller: &Caller) -> String {
        let Caller {
            account, region, ..
        } = caller;
        format!(
            "arn:aws:states:{region}:{account}:express:{}:{}",
            self.machine, self.execution
        )
    }

    fn identity(&self, caller: &Caller, request: &Request, started: Timestamp) -> Identity {
        Identity {
            number: 0,
            execution_arn: self.execution_arn(caller),
            execution_name: self.execution.clone(),
            machine_arn: self.machine_arn(caller),
            machine_name: self.machine.clone(),
            role_arn: request.role_arn.clone().unwrap_or_default(),
            region: caller.region.to_string(),
            started_ms: started.as_millis(),
            input: Arc::clone(&request.input),
            redrive_count: 0,
        }
    }
}

/// A state that is run for real.
struct One<'a> {
    clock: &'a Clock,
    tasks: &'a TaskRunner,
    caller: &'a Caller,
    names: &'a Names,
    request: &'a Request,
    started: Timestamp,
}

impl One<'_> {
    async fn run(&self, trial: &mut Trial) -> Ended {
        let definition = &self.request.definition;
        let own_turn = turn(definition).await;
        let next = aside(|| trial.run(definition, self.started.as_millis(), chance()));
        drop(own_turn);
        match next {
            Next::Ended(ended) => ended,
            Next::Wait { at_ms } => {
                let last = self.started + MAX_DURATION;
                let moment = Timestamp::from_millis(at_ms);
                if moment > last {
                    self.clock.sleep_until(last).await;
                    return Ended::Failed(timeout());
                }
                self.clock.sleep_until(moment).await;
                let _turn = turn(definition).await;
                aside(|| trial.wake(definition, self.clock.now().as_millis(), chance()))
            }
            Next::Run(request) => {
                let result = self.task(&request).await;
                let _turn = turn(definition).await;
                let now_ms = self.clock.now().as_millis();
                aside(|| trial.answer(definition, result, now_ms, chance()))
            }
        }
    }

    async fn task(&self, request: &TaskRequest) -> Result<serde_json::Value, Failure> {
        let (told, mut heard) = mpsc::unbounded_channel();
        let report: Report = Arc::new(move |update| {
            // Who does not listen any more has given up.
            let _ = told.send(update);
        });
        let seconds = request.timeout_seconds.map(Duration::from_secs);
        let limit = seconds.map_or(MAX_DURATION, |seconds| seconds.min(MAX_DURATION));
        let work = (self.tasks)(Attempt {
            call: self.call(request),
            state: request.state.to_string(),
            retries: request.attempt,
            about: Arc::new(self.about()),
            resumed: None,
            report,
        });
        let answer = async {
            work.await;
            let mut last = None;
            while let Ok(update) = heard.try_recv() {
                last = Some(update);
            }
            last
        };
        let cut = self.clock.sleep(limit);
        tokio::select! {
            last = answer => match last {
                Some(Update::Succeeded(output)) => Ok(output),
                Some(Update::Failed(failure)) => Err(failure),
                _ => Err(Failure::new(names::TASK_FAILED, "The task did not come to its end.")),
            },
            () = cut => Err(timeout()),
        }
    }

    fn call(&self, request: &TaskRequest) -> Call {
        Call {
            id: format!("{}-{}", self.names.execution, request.task),
            account: self.caller.account,
            region: self.caller.region.clone(),
            machine_arn: self.names.machine_arn(self.caller),
            execution_arn: self.names.execution_arn(self.caller),
            role_arn: self.request.role_arn.clone().unwrap_or_default(),
            task_role_arn: request.role_arn.clone(),
            resource: request.resource.clone(),
            input: Arc::clone(&request.input),
            token: request.token.clone(),
            timeout_seconds: request.timeout_seconds,
            trace_header: None,
        }
    }

    fn about(&self) -> About {
        let revision = Revision {
            id: self.names.machine.clone(),
            machine_arn: self.names.machine_arn(self.caller),
            machine_name: self.names.machine.clone(),
            kind: MachineKind::Express,
            role_arn: self.request.role_arn.clone().unwrap_or_default(),
            definition_text: "".into(),
            definition: Arc::clone(&self.request.definition),
            logging: None,
            tracing: false,
            created: self.started,
            first: true,
        };
        About {
            arn: self.names.execution_arn(self.caller),
            name: self.names.execution.clone(),
            revision: Arc::new(revision),
            version_arn: None,
            alias_arn: None,
            map_run_arn: None,
            test_case: None,
            trace_header: None,
            input_text: self.request.input.to_string().into(),
            input: Arc::clone(&self.request.input),
            start: self.started,
            redrives: 0,
            redriven: None,
            redrive_token: None,
        }
    }
}

fn timeout() -> Failure {
    Failure {
        error: Some(names::TIMEOUT.to_owned()),
        cause: None,
    }
}

/// Whether a state's work can be mocked at all.
fn takes_mocks(kind: &Kind) -> bool {
    matches!(kind, Kind::Task(_) | Kind::Parallel { .. } | Kind::Map(_))
}

//! Entering, executing and leaving states.

use std::sync::Arc;

use serde_json::Value;

use super::data::{Data, Made, filter, select, text_of};
use super::faults::Fault;
use super::{
    FiberId, MAX_DATA_BYTES, MAX_EVENTS, MAX_VARIABLES_BYTES, Outcome, Phase, Step, TimerId,
    TimerKind, is_too_deep,
};
use crate::choice::Rule;
use crate::definition::{Choice, Condition, Kind, Language, StateId, Wait};
use crate::failure::{EvaluationError, Failure, names};
use crate::history::{EventKind, StateKind};
use crate::scope::Scope;

impl Step<'_> {
    /// Moves a fiber on until it waits for something, or leads to another state.
    pub fn advance(&mut self, id: FiberId) {
        let Some(fiber) = self.execution.fibers.get(&id) else {
            return;
        };
        if self.execution.last_event + 1 >= MAX_EVENTS {
            let cause = format!(
                "The execution reached the maximum number of history events ({MAX_EVENTS})."
            );
            return self.end_failed(fiber.previous, Failure::new(names::RUNTIME, cause));
        }
        if fiber.phase == Phase::Entering {
            self.enter(id);
        }
        let executed = self.execute(id);
        if let Err(fault) = executed {
            self.fault(id, fault);
        }
    }

    pub fn enter(&mut self, id: FiberId) {
        let now_ms = self.now_ms;
        let definition = self.definition;
        let Some(fiber) = self.execution.fibers.get_mut(&id) else {
            return;
        };
        let state = definition.state(fiber.state);
        fiber.before = fiber.previous;
        fiber.entered_ms = now_ms;
        fiber.attempts = vec![0; state.retry.len()];
        fiber.retries = 0;
        fiber.forked = false;
        fiber.phase = Phase::Executing;
        let entered = EventKind::StateEntered {
            state: kind_of(&state.kind),
            name: state.name.to_string(),
            input: Arc::clone(&fiber.input),
        };
        let event = self.record_of(id, entered);
        if let Some(fiber) = self.execution.fibers.get_mut(&id) {
            fiber.entered_event = event;
        }
    }

    pub fn execute(&mut self, id: FiberId) -> Result<(), Fault> {
        let definition = self.definition;
        let state = definition.state(self.execution.fibers[&id].state);
        match &state.kind {
            Kind::Pass { result } => {
                let input = self.effective_input(id)?;
                let result = match (result, state.language) {
                    (Some(result), Language::JsonPath) => {
                        let result = Arc::new(result.clone());
                        self.see(|inspection| {
                            // Recorded on AWS: what the result takes the place of is not shown.
                            inspection.after_input_path = None;
                            inspection.after_parameters = None;
                            inspection.result = Some(Arc::clone(&result));
                        });
                        result
                    }
                    _ => input,
                };
                let made = self.output(id, result)?;
                self.exit(id, made)
            }
            Kind::Succeed => {
                let input = self.effective_input(id)?;
                let made = self.output(id, input)?;
                self.exit(id, made)
            }
            Kind::Fail { error, cause } => {
                let data = self.data(id);
                if state.language == Language::JsonPath {
                    let input = Arc::clone(&data.input);
                    self.see(|inspection| inspection.after_input_path = Some(input));
                }
                let mut read = |field, text: &Option<_>| match text {
                    None => Ok(None),
                    Some(text) => self.text(field, text, &data).map(Some),
                };
                let failure = Failure {
                    error: read("Error", error)?,
                    cause: read("Cause", cause)?,
                };
                Err(failure.into())
            }
            Kind::Wait(wait) => self.wait(id, wait),
            Kind::Choice(choice) => self.choose(id, choice),
            Kind::Task(task) => self.schedule(id, task),
            Kind::Parallel { branches } => self.fork(id, branches),
            Kind::Map(map) => self.map(id, map),
        }
    }

    fn wait(&mut self, id: FiberId, wait: &Wait) -> Result<(), Fault> {
        let data = self.data(id);
        let output = match &self
            .definition
            .state(self.execution.fibers[&id].state)
            .input
            .path
        {
            None => Arc::clone(&data.input),
            path => filter(path.as_ref(), &data)?,
        };
        let data = data.with_input(Arc::clone(&output));
        if self.language_of(id) == Language::JsonPath {
            let input = Arc::clone(&output);
            self.see(|inspection| inspection.after_input_path = Some(input));
        }
        let at_ms = match wait {
            Wait::Seconds(amount) => {
                let seconds = self.amount("Seconds", amount, &data)?;
                if !(0.0..=99_999_999.0).contains(&seconds) {
                    let cause = format!("Seconds must be a number from 0 to 99999999: {seconds}");
                    return Err(EvaluationError::runtime(cause).into());
                }
                self.now_ms.saturating_add(milliseconds(seconds))
            }
            Wait::Timestamp(template) => {
                let value = self.evaluate(&data, |evaluation| {
                    template.evaluate("Timestamp", evaluation)
                })?;
                moment(&value).ok_or_else(|| {
                    EvaluationError::query(
                        "Timestamp",
                        format!(
                            "The Timestamp field cannot be parsed as an ISO-8601 extended offset \
                             date-time format string: {}",
                            text_of(&value)
                        ),
                    )
                })?
            }
            Wait::TimestampPath(path) => {
                let value = select(path, &data)?;
                moment(&value).ok_or_else(|| {
                    EvaluationError::runtime(format!(
                        "The TimestampPath parameter does not reference a valid ISO-8601 extended \
                         offset date-time format string: {path} == {}",
                        text_of(&value)
                    ))
                })?
            }
        };
        if at_ms <= self.now_ms {
            return self.waited(id, output);
        }
        let timer = self.next_run(id, TimerKind::Wait);
        self.set_phase(id, Phase::Waiting { output });
        self.commands.push(super::Command::Timer { timer, at_ms });
        Ok(())
    }

    fn language_of(&self, id: FiberId) -> Language {
        self.definition
            .state(self.execution.fibers[&id].state)
            .language
    }

    fn waited(&mut self, id: FiberId, output: Arc<Value>) -> Result<(), Fault> {
        let made = self.output(id, output)?;
        self.exit(id, made)
    }

    fn choose(&mut self, id: FiberId, choice: &Choice) -> Result<(), Fault> {
        let definition = self.definition;
        let state = definition.state(self.execution.fibers[&id].state);
        let input = self.effective_input(id)?;
        let data = self.data(id).with_input(input);
        for rule in &choice.rules {
            if !self.holds(&rule.condition, &data)? {
                continue;
            }
            let assigned = self.assigned(rule.assign.as_ref(), &data)?;
            let output = match &rule.output {
                Some(template) => Arc::new(
                    self.evaluate(&data, |evaluation| template.evaluate("Output", evaluation))?,
                ),
                None => filter(state.output.path.as_ref(), &data)?,
            };
            return self.leave(id, Made { output, assigned }, Some(rule.next));
        }
        let Some(default) = choice.default else {
            let name = &state.name;
            let cause = format!(
                "Failed to transition out of the state '{name}'. The state does not point to a next state."
            );
            return Err(Failure::new(names::NO_CHOICE_MATCHED, cause).into());
        };
        let input = Arc::clone(&data.input);
        let made = self.output(id, input)?;
        self.leave(id, made, Some(default))
    }

    fn holds(&mut self, condition: &Condition, data: &Data) -> Result<bool, EvaluationError> {
        match condition {
            Condition::Rule(rule) => rule_holds(rule, data),
            Condition::Template(template) => {
                let value = self.evaluate(data, |evaluation| {
                    template.evaluate("Condition", evaluation)
                })?;
                value.as_bool().ok_or_else(|| {
                    let cause = format!("The Condition field must be a boolean: {value}");
                    EvaluationError::query("Condition", cause)
                })
            }
        }
    }

    /// Ends a state, and goes where it leads.
    pub fn exit(&mut self, id: FiberId, made: Made) -> Result<(), Fault> {
        let next = self.definition.state(self.execution.fibers[&id].state).next;
        self.leave(id, made, next)
    }

    pub fn leave(&mut self, id: FiberId, made: Made, next: Option<StateId>) -> Result<(), Fault> {
        let definition = self.definition;
        let state = definition.state(self.execution.fibers[&id].state);
        check_size(&state.name, &made.output)?;
        self.check_variables(id, &made)?;
        self.record_of(
            id,
            EventKind::StateExited {
                state: kind_of(&state.kind),
                name: state.name.to_string(),
                output: Arc::clone(&made.output),
                assigned: made.assigned.clone(),
            },
        );
        let Some(fiber) = self.execution.fibers.get_mut(&id) else {
            return Ok(());
        };
        for (name, value) in made.assigned {
            fiber.variables.insert(name.into(), value);
        }
        if self.watched_left(id, &made.output, next) {
            return Ok(());
        }
        let Some(fiber) = self.execution.fibers.get_mut(&id) else {
            return Ok(());
        };
        match next {
            Some(next) => {
                fiber.state = next;
                fiber.input = made.output;
                fiber.phase = Phase::Entering;
                self.ready.push_back(id);
            }
            None => self.end_fiber(id, made.output),
        }
        Ok(())
    }

    /// What a state assigns has bounds: by itself, and with all variables that are there.
    fn check_variables(&self, id: FiberId, made: &Made) -> Result<(), Failure> {
        if made.assigned.is_empty() {
            return Ok(());
        }
        let fiber = &self.execution.fibers[&id];
        let assigned: usize = made.assigned.values().map(|value| length(value)).sum();
        let kept = fiber.variables.iter();
        let kept = kept.filter(|(name, _)| !made.assigned.contains_key(&***name));
        let kept: usize = kept.map(|(_, value)| length(value)).sum();
        let cause = if made.assigned.values().any(|value| is_too_deep(value)) {
            "The value of a variable is nested too deeply."
        } else if assigned > MAX_DATA_BYTES {
            "The size of the variables that the state assigns exceeds 256 KiB."
        } else if assigned + kept > MAX_VARIABLES_BYTES {
            "The size of all variables exceeds 10 MiB."
        } else {
            return Ok(());
        };
        Err(Failure::new(names::DATA_LIMIT_EXCEEDED, cause))
    }

    /// A fiber has come to the end of its flow.
    fn end_fiber(&mut self, id: FiberId, output: Arc<Value>) {
        let Some(fiber) = self.execution.fibers.remove(&id) else {
            return;
        };
        match fiber.parent {
            Some(branch) => self.branch_done(branch, fiber.previous, output),
            None => {
                let succeeded = EventKind::ExecutionSucceeded {
                    output: Arc::clone(&output),
                };
                self.record(fiber.previous, succeeded);
                self.finish(Outcome::Succeeded(output));
            }
        }
    }

    pub fn end_failed(&mut self, previous: u64, failure: Failure) {
        self.record(previous, EventKind::ExecutionFailed(failure.clone()));
        self.finish(Outcome::Failed(failure));
    }

    /// A moment that somebody waited for has come.
    pub fn fire(&mut self, timer: TimerId) {
        if timer.kind == TimerKind::ExecutionTimeout {
            let failure = Failure {
                error: Some(names::TIMEOUT.to_owned()),
                cause: None,
            };
            self.record(0, EventKind::ExecutionTimedOut(failure.clone()));
            return self.finish(Outcome::TimedOut(failure));
        }
        let Some(fiber) = self.execution.fibers.get_mut(&timer.fiber) else {
            return;
        };
        if fiber.run != timer.run {
            return;
        }
        match (timer.kind, &fiber.phase) {
            (TimerKind::Wait, Phase::Waiting { output }) => {
                let output = Arc::clone(output);
                let waited = self.waited(timer.fiber, output);
                if let Err(fault) = waited {
                    self.fault(timer.fiber, fault);
                }
            }
            (TimerKind::Retry, Phase::Backoff) => {
                fiber.phase = Phase::Executing;
                self.ready.push_back(timer.fiber);
            }
            // Recorded on AWS: a missed heartbeat is told as a timeout, too.
            (TimerKind::TaskTimeout | TimerKind::Heartbeat, Phase::Task { .. }) => {
                self.task_timed_out(timer);
            }
            _ => {}
        }
    }

    pub fn set_phase(&mut self, id: FiberId, phase: Phase) {
        if let Some(fiber) = self.execution.fibers.get_mut(&id) {
            fiber.phase = phase;
        }
    }

    /// A timer of a run that is just beginning.
    pub fn next_run(&mut self, id: FiberId, kind: TimerKind) -> TimerId {
        let run = self.execution.fibers.get_mut(&id).map_or(0, |fiber| {
            fiber.run += 1;
            fiber.run
        });
        TimerId {
            fiber: id,
            run,
            kind,
        }
    }
}

fn rule_holds(rule: &Rule, data: &Data) -> Result<bool, EvaluationError> {
    let scope = Scope {
        input: &data.input,
        context: &data.context,
        variables: &data.variables,
    };
    rule.holds(&scope).map_err(EvaluationError::from)
}

pub fn check_size(name: &str, value: &Value) -> Result<(), Failure> {
    let cause = if is_too_deep(value) {
        format!("The state/task '{name}' returned a result that is nested too deeply.")
    } else if length(value) > MAX_DATA_BYTES {
        format!(
            "The state/task '{name}' returned a result with a size exceeding the maximum number of \
             bytes service limit."
        )
    } else {
        return Ok(());
    };
    Err(Failure::new(names::DATA_LIMIT_EXCEEDED, cause))
}

/// The length of a value as JSON text, which is not made for that.
fn length(value: &Value) -> usize {
    let mut counter = Counter(0);
    // Counting cannot fail.
    let _ = serde_json::to_writer(&mut counter, value);
    counter.0
}

struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub fn kind_of(kind: &Kind) -> StateKind {
    match kind {
        Kind::Pass { .. } => StateKind::Pass,
        Kind::Succeed => StateKind::Succeed,
        Kind::Fail { .. } => StateKind::Fail,
        Kind::Wait(_) => StateKind::Wait,
        Kind::Choice(_) => StateKind::Choice,
        Kind::Task(_) => StateKind::Task,
        Kind::Parallel { .. } => StateKind::Parallel,
        Kind::Map(_) => StateKind::Map,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1000.0) as i64
}

/// A moment in milliseconds since the epoch, from text with a `T` and an offset.
fn moment(value: &Value) -> Option<i64> {
    let moment = crate::choice::timestamp(value)?;
    Some(moment.as_millisecond())
}

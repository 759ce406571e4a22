//! Errors: retried, caught, or passed on.

use std::sync::Arc;

use serde_json::Value;

use super::data::{Made, place};
use super::run::kind_of;
use super::{FiberId, Phase, Step, TimerKind};
use crate::definition::{Catcher, Kind, Language, Retrier};
use crate::failure::{EvaluationError, Failure, names};
use crate::history::EventKind;
use crate::scope::Chance;

/// What went wrong in a state.
#[derive(Clone, Debug)]
pub enum Fault {
    Evaluation(EvaluationError),
    Failure(Failure),
}

impl From<EvaluationError> for Fault {
    fn from(error: EvaluationError) -> Self {
        Self::Evaluation(error)
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Step<'_> {
    /// Deals with what went wrong in the state at which a fiber stands.
    pub fn fault(&mut self, id: FiberId, fault: Fault) {
        let definition = self.definition;
        let Some(fiber) = self.execution.fibers.get(&id) else {
            return;
        };
        let state = definition.state(fiber.state);
        let failure = match fault {
            Fault::Failure(failure) => failure,
            Fault::Evaluation(error) => {
                let failure = error.in_state(&state.name, fiber.entered_event);
                if let Some(location) = error.location {
                    // Recorded on AWS: nothing follows from the event of a state that did nothing.
                    let idle = fiber.previous == fiber.entered_event;
                    let previous = if idle && !matches!(state.kind, Kind::Wait(_)) {
                        fiber.before
                    } else {
                        fiber.previous
                    };
                    let event = self.record(
                        previous,
                        EventKind::EvaluationFailed {
                            failure: failure.clone(),
                            location,
                            state: state.name.to_string(),
                        },
                    );
                    self.set_previous(id, event);
                }
                failure
            }
        };
        if self.retry(id, &state.retry, &failure) {
            self.unwound = None;
            return;
        }
        let caught = state
            .catch
            .iter()
            .enumerate()
            .find(|(_, catcher)| accepts(&catcher.errors, &failure));
        if let (Some((index, _)), Some(watch)) = (caught, &mut self.watch) {
            watch.catching(index, failure.clone());
        }
        let passed_on = match caught {
            None => failure,
            Some((_, catcher)) => match self.catch(id, catcher, &failure) {
                Ok(()) => {
                    self.unwound = None;
                    return;
                }
                Err(error) => {
                    let entered = self
                        .execution
                        .fibers
                        .get(&id)
                        .map_or(0, |f| f.entered_event);
                    error.in_state(&state.name, entered)
                }
            },
        };
        self.fail(id, passed_on);
    }

    pub fn set_previous(&mut self, id: FiberId, event: u64) {
        if let Some(fiber) = self.execution.fibers.get_mut(&id) {
            fiber.previous = event;
        }
    }

    /// Sets the timer of another attempt, if there is one left.
    fn retry(&mut self, id: FiberId, retriers: &[Retrier], failure: &Failure) -> bool {
        let found = retriers
            .iter()
            .enumerate()
            .find(|(_, retrier)| accepts(&retrier.errors, failure));
        let Some((index, retrier)) = found else {
            return false;
        };
        let Some(fiber) = self.execution.fibers.get_mut(&id) else {
            return false;
        };
        let Some(attempts) = fiber.attempts.get_mut(index) else {
            return false;
        };
        if *attempts >= retrier.max_attempts {
            return false;
        }
        if let Some(watch) = &mut self.watch {
            watch.retried(index, retrier, *attempts, failure.clone());
            return true;
        }
        let seconds = delay_seconds(retrier, *attempts);
        *attempts += 1;
        fiber.retries += 1;
        fiber.phase = Phase::Backoff;
        let jitter = if retrier.full_jitter {
            self.chance.unit()
        } else {
            1.0
        };
        let timer = self.next_run(id, TimerKind::Retry);
        self.set_timer(timer, whole_millis(seconds * jitter));
        true
    }

    fn catch(
        &mut self,
        id: FiberId,
        catcher: &Catcher,
        failure: &Failure,
    ) -> Result<(), EvaluationError> {
        let definition = self.definition;
        let state = definition.state(self.execution.fibers[&id].state);
        let error = Arc::new(failure.to_value());
        let mut data = self.data(id);
        let made = match state.language {
            Language::JsonPath => {
                let raw = Arc::clone(&data.input);
                let data = data.with_input(Arc::clone(&error));
                let assigned = self.assigned(catcher.assign.as_ref(), &data)?;
                let output = place(catcher.result_path.as_ref(), raw, error)?;
                Made { output, assigned }
            }
            Language::Jsonata => {
                data.error_output = Some(Value::clone(&error));
                let assigned = self.assigned(catcher.assign.as_ref(), &data)?;
                let output =
                    match &catcher.output {
                        None => error,
                        Some(template) => Arc::new(self.evaluate(&data, |evaluation| {
                            template.evaluate("Output", evaluation)
                        })?),
                    };
                Made { output, assigned }
            }
        };
        match self.leave(id, made, Some(catcher.next)) {
            Ok(()) => Ok(()),
            Err(Fault::Evaluation(error)) => Err(error),
            // Only too much data is left.
            Err(Fault::Failure(failure)) => Err(EvaluationError::named(
                names::DATA_LIMIT_EXCEEDED,
                failure.cause.unwrap_or_default(),
            )),
        }
    }

    /// Nobody has caught it: the state fails, and with it what it is part of.
    fn fail(&mut self, id: FiberId, failure: Failure) {
        if let Some(watch) = &mut self.watch {
            return watch.failed(failure);
        }
        let Some(fiber) = self.execution.fibers.get(&id) else {
            return;
        };
        let kind = &self.definition.state(fiber.state).kind;
        let forked = fiber.forked;
        self.remember();
        if forked {
            self.record_of(id, EventKind::StateFailed(kind_of(kind)));
        }
        let Some(fiber) = self.execution.fibers.remove(&id) else {
            return;
        };
        match fiber.parent {
            Some(branch) => self.branch_failed(branch, fiber.previous, failure),
            None => self.end_failed(fiber.previous, failure),
        }
    }
}

/// Whether a list of error names means this failure.
fn accepts(errors: &[String], failure: &Failure) -> bool {
    let given = failure.error.as_deref().unwrap_or_default();
    // AWS documents the same of `States.DataLimitExceeded`, but is recorded to catch that.
    let is_terminal = given == names::RUNTIME;
    errors.iter().any(|name| match name.as_str() {
        names::ALL => !is_terminal,
        names::TASK_FAILED => !is_terminal && given != names::TIMEOUT,
        name => name == given,
    })
}

pub fn delay_seconds(retrier: &Retrier, attempts: u64) -> f64 {
    let exponent = i32::try_from(attempts).unwrap_or(i32::MAX);
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds of a year and less are exact"
    )]
    let (interval, cap) = (
        retrier.interval_seconds as f64,
        retrier
            .max_delay_seconds
            .map_or(f64::INFINITY, |seconds| seconds as f64),
    );
    (interval * retrier.backoff_rate.powi(exponent)).min(cap)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is positive, and floats beyond the range become its end"
)]
fn whole_millis(seconds: f64) -> u64 {
    (seconds * 1000.0) as u64
}

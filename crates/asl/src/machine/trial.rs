//! One state, run alone, with what it makes of its data on the way: what `TestState` is about.
//!
//! The state runs as it does in an execution, with the same code. A [`Watch`] beside the step takes
//! down what is seen, and ends the run where the state would be left, retried or caught.

use std::sync::Arc;

use serde_json::Value;

use super::data::{filter, select};
use super::faults::{Fault, delay_seconds};
use super::{
    Command, Execution, FiberId, Identity, Input, Item, Step, TaskId, TaskRequest, TimerId,
    TimerKind,
};
use crate::definition::{Definition, Kind, Language, Map, Retrier, StateId};
use crate::failure::{EvaluationError, Failure, names};
use crate::scope::{Seeded, Variables};

/// What a state is run with.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    pub identity: Identity,
    pub state: StateId,
    pub input: Arc<Value>,
    pub variables: Variables,
    /// The context object, where it is not to be made.
    pub context: Option<Value>,
    /// How often the state has been retried before.
    pub retries: u64,
}

/// What stands for the work of a state.
#[derive(Clone, Debug, PartialEq)]
pub enum Mock {
    Result(Value),
    Error(Failure),
}

/// What is known of the iterations of a mocked `Map`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Iterations {
    /// What its reader has read.
    pub read: Option<Value>,
    pub failed: Option<u64>,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// The task is to be run, and [`Trial::answer`] to be told of it.
    Run(Box<TaskRequest>),
    /// [`Trial::wake`] at this moment.
    Wait {
        at_ms: i64,
    },
    Ended(Ended),
}

/// How a state came to its end.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    Succeeded {
        output: Arc<Value>,
        next: Option<String>,
    },
    Failed(Failure),
    /// It would be retried.
    Retriable {
        failure: Failure,
        retrier: usize,
        seconds: f64,
    },
    Caught {
        failure: Failure,
        catcher: usize,
        output: Arc<Value>,
        next: String,
    },
}

/// What a state made of its data, step by step; what did not take place is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inspection {
    pub after_input_path: Option<Arc<Value>>,
    pub after_parameters: Option<Arc<Value>>,
    pub after_arguments: Option<Arc<Value>>,
    pub result: Option<Arc<Value>>,
    pub after_result_selector: Option<Arc<Value>>,
    pub after_result_path: Option<Arc<Value>>,
    pub after_items_path: Option<Arc<Value>>,
    pub after_item_selector: Option<Arc<Value>>,
    pub max_concurrency: Option<u64>,
    pub tolerated_count: Option<u64>,
    pub tolerated_percentage: Option<f64>,
    /// The variables afterwards.
    pub variables: Variables,
}

/// Why a mock does not fit the state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    #[error(
        "Map iteration failure count must be less than or equal to the number of Map iterations"
    )]
    TooManyFailures,
    #[error(
        "ItemReader data must be specified when testing a Map state with ItemReader specified."
    )]
    NoReaderData,
}

/// Takes down what a step does, and keeps it from going on to another state.
#[derive(Debug)]
pub struct Watch {
    context: Option<Value>,
    pub inspection: Inspection,
    /// The catcher that is about to take a failure.
    caught: Option<(usize, Failure)>,
    ended: Option<Ended>,
}

/// A state while it is run.
#[derive(Debug)]
pub struct Trial {
    execution: Execution,
    watch: Option<Box<Watch>>,
    task: Option<TaskId>,
    timer: Option<TimerId>,
}

const FIBER: FiberId = FiberId(0);

impl Trial {
    pub fn new(definition: &Definition, setup: Setup, now_ms: i64) -> Self {
        let mut execution = Execution::new(setup.identity);
        // As in an execution, the state follows from the event of the start.
        execution.last_event = 1;
        let mut trial = Self {
            execution,
            watch: Some(Box::new(Watch {
                context: setup.context,
                inspection: Inspection::default(),
                caught: None,
                ended: None,
            })),
            task: None,
            timer: None,
        };
        trial.step(definition, now_ms, 0, |step| {
            step.spawn(None, setup.state, setup.input, setup.variables, 1, None);
            step.enter(FIBER);
            if let Some(fiber) = step.execution.fibers.get_mut(&FIBER) {
                fiber.retries = setup.retries;
                fiber.attempts.fill(setup.retries);
            }
        });
        trial
    }

    /// Runs the state. A task is not run here, and what `Parallel` and `Map` run is not, either.
    pub fn run(&mut self, definition: &Definition, now_ms: i64, seed: u64) -> Next {
        self.step(definition, now_ms, seed, |step| {
            if let Err(fault) = step.execute(FIBER) {
                step.fault(FIBER, fault);
            }
        })
    }

    /// Runs the state with a mock in the place of its work.
    pub fn mocked(
        &mut self,
        definition: &Definition,
        mock: Mock,
        iterations: &Iterations,
        now_ms: i64,
        seed: u64,
    ) -> Result<Ended, Misfit> {
        let state = self.execution.fibers.get(&FIBER).map(|fiber| fiber.state);
        let kind = state.map(|state| &definition.state(state).kind);
        let mut misfit = None;
        let next = match kind {
            Some(Kind::Map(map)) => self.step(definition, now_ms, seed, |step| {
                match step.mocked_map(map, mock, iterations) {
                    Ok(Ok(())) => {}
                    Ok(Err(fault)) => step.fault(FIBER, fault),
                    Err(found) => misfit = Some(found),
                }
            }),
            Some(Kind::Parallel { .. }) => self.step(definition, now_ms, seed, |step| {
                if let Err(fault) = step.mocked_parallel(mock) {
                    step.fault(FIBER, fault);
                }
            }),
            _ => match self.run(definition, now_ms, seed) {
                Next::Run(_) => Next::Ended(self.answer(
                    definition,
                    match mock {
                        Mock::Result(result) => Ok(result),
                        Mock::Error(failure) => Err(failure),
                    },
                    now_ms,
                    seed,
                )),
                other => other,
            },
        };
        match (misfit, next) {
            (Some(misfit), _) => Err(misfit),
            (None, Next::Ended(ended)) => Ok(ended),
            // Only tasks and waits are not at their end, and a wait has no mock.
            (None, _) => Ok(unfinished()),
        }
    }

    /// What became of the task.
    pub fn answer(
        &mut self,
        definition: &Definition,
        result: Result<Value, Failure>,
        now_ms: i64,
        seed: u64,
    ) -> Ended {
        let Some(task) = self.task else {
            return unfinished();
        };
        let input = match result {
            Ok(output) => Input::TaskSucceeded { task, output },
            Err(failure) => Input::TaskFailed { task, failure },
        };
        match self.step(definition, now_ms, seed, |step| step.take(input)) {
            Next::Ended(ended) => ended,
            _ => unfinished(),
        }
    }

    /// The moment has come that a `Wait` waits for.
    pub fn wake(&mut self, definition: &Definition, now_ms: i64, seed: u64) -> Ended {
        let Some(timer) = self.timer else {
            return unfinished();
        };
        match self.step(definition, now_ms, seed, |step| step.fire(timer)) {
            Next::Ended(ended) => ended,
            _ => unfinished(),
        }
    }

    pub fn inspection(&self) -> Inspection {
        self.watch
            .as_ref()
            .map(|watch| watch.inspection.clone())
            .unwrap_or_default()
    }

    fn step(
        &mut self,
        definition: &Definition,
        now_ms: i64,
        seed: u64,
        make: impl FnOnce(&mut Step<'_>),
    ) -> Next {
        let mut step = Step {
            execution: &mut self.execution,
            definition,
            now_ms,
            chance: Seeded::new(seed),
            budget: std::rc::Rc::default(),
            commands: Vec::new(),
            ready: std::collections::VecDeque::new(),
            unwound: None,
            watch: self.watch.take(),
        };
        make(&mut step);
        let Step {
            commands, watch, ..
        } = step;
        self.watch = watch;
        let ended = self.watch.as_mut().and_then(|watch| watch.ended.take());
        if let Some(ended) = ended {
            return Next::Ended(ended);
        }
        for command in commands {
            match command {
                Command::Run(request) => {
                    self.task = Some(request.task);
                    return Next::Run(Box::new(request));
                }
                Command::Timer { timer, at_ms } if timer.kind == TimerKind::Wait => {
                    self.timer = Some(timer);
                    return Next::Wait { at_ms };
                }
                _ => {}
            }
        }
        Next::Ended(unfinished())
    }
}

/// What a caller gets who does not do what [`Next`] says.
fn unfinished() -> Ended {
    let cause = "The state has not come to its end.";
    Ended::Failed(Failure::new(names::RUNTIME, cause))
}

impl Watch {
    pub fn context(&self) -> Option<&Value> {
        self.context.as_ref()
    }

    pub fn catching(&mut self, catcher: usize, failure: Failure) {
        self.caught = Some((catcher, failure));
    }

    pub fn failed(&mut self, failure: Failure) {
        self.ended = Some(Ended::Failed(failure));
    }

    pub fn retried(&mut self, index: usize, retrier: &Retrier, attempts: u64, failure: Failure) {
        self.ended = Some(Ended::Retriable {
            failure,
            retrier: index,
            seconds: delay_seconds(retrier, attempts),
        });
    }

    pub fn left(&mut self, output: Arc<Value>, next: Option<&str>) {
        let next = next.map(str::to_owned);
        self.ended = Some(match (self.caught.take(), next) {
            (Some((catcher, failure)), Some(next)) => Ended::Caught {
                failure,
                catcher,
                output,
                next,
            },
            (_, next) => Ended::Succeeded { output, next },
        });
    }
}

impl Step<'_> {
    /// Takes down what is seen, if anybody looks.
    pub fn see(&mut self, note: impl FnOnce(&mut Inspection)) {
        if let Some(watch) = &mut self.watch {
            note(&mut watch.inspection);
        }
    }

    fn mocked_parallel(&mut self, mock: Mock) -> Result<(), Fault> {
        self.effective_input(FIBER)?;
        self.mocked_end(mock)
    }

    fn mocked_end(&mut self, mock: Mock) -> Result<(), Fault> {
        match mock {
            Mock::Error(failure) => Err(failure.into()),
            Mock::Result(result) => {
                let made = self.output(FIBER, Arc::new(result))?;
                self.exit(FIBER, made)
            }
        }
    }

    fn mocked_map(
        &mut self,
        map: &Map,
        mock: Mock,
        iterations: &Iterations,
    ) -> Result<Result<(), Fault>, Misfit> {
        if map.reader.is_some() && iterations.read.is_none() {
            return Err(Misfit::NoReaderData);
        }
        let length = match self.map_inspected(map, iterations.read.as_ref()) {
            Ok(length) => length,
            Err(error) => return Ok(Err(error.into())),
        };
        let failed = iterations.failed.unwrap_or(0);
        if failed > length {
            return Err(Misfit::TooManyFailures);
        }
        let exceeded = self
            .watch
            .as_ref()
            .is_some_and(|watch| watch.inspection.is_exceeded(failed, length));
        if exceeded {
            let cause = "The specified tolerated failure threshold was exceeded";
            let failure = Failure::new(names::EXCEED_TOLERATED_FAILURE_THRESHOLD, cause);
            return Ok(Err(failure.into()));
        }
        Ok(self.mocked_end(mock))
    }

    /// What a `Map` makes of its input before it iterates, and how many items there are.
    fn map_inspected(&mut self, map: &Map, read: Option<&Value>) -> Result<u64, EvaluationError> {
        let definition = self.definition;
        let state = definition.state(self.execution.fibers[&FIBER].state);
        let data = self.data(FIBER);
        let input = match state.language {
            Language::JsonPath => filter(state.input.path.as_ref(), &data)?,
            Language::Jsonata => Arc::clone(&data.input),
        };
        let data = data.with_input(input);
        let items = match (read, &map.items_path, &map.items) {
            (Some(read), ..) => Arc::new(read.clone()),
            (None, Some(path), _) => Arc::new(select(path, &data)?),
            (None, None, Some(template)) => {
                let items =
                    self.evaluate(&data, |evaluation| template.evaluate("Items", evaluation))?;
                Arc::new(items)
            }
            (None, None, None) => Arc::clone(&data.input),
        };
        let length = match &*items {
            Value::Array(items) => items.len(),
            Value::Object(members) => members.len(),
            other => return Err(super::branches::not_an_array(map, other)),
        };
        if state.language == Language::JsonPath {
            self.see(|inspection| inspection.after_items_path = Some(Arc::clone(&items)));
        }
        if map.selector.is_some() {
            let selected = self.selected(map, &data.input, &items)?;
            self.see(|inspection| inspection.after_item_selector = Some(Arc::new(selected)));
        }
        let max_concurrency = self.limit("MaxConcurrency", map, &data)?;
        let count = self.tolerated(map, &data)?;
        let percentage = self.tolerated_percentage(map, &data)?;
        self.see(|inspection| {
            inspection.max_concurrency = Some(max_concurrency);
            inspection.tolerated_count = count;
            inspection.tolerated_percentage = percentage;
        });
        Ok(length as u64)
    }

    /// The inputs of all iterations.
    fn selected(
        &mut self,
        map: &Map,
        input: &Arc<Value>,
        items: &Value,
    ) -> Result<Value, EvaluationError> {
        let Some(selector) = &map.selector else {
            return Ok(Value::Null);
        };
        let values: Vec<Value> = match items {
            Value::Array(values) => values.clone(),
            Value::Object(members) => members
                .iter()
                .map(|(key, value)| serde_json::json!({"Key": key, "Value": value}))
                .collect(),
            _ => Vec::new(),
        };
        let mut all = Vec::with_capacity(values.len());
        for (index, value) in values.into_iter().enumerate() {
            let value = Arc::new(value);
            let input = Arc::clone(input);
            let data = self.data_of_item(FIBER, Item { index, value });
            let data = data.with_input(input);
            all.push(self.evaluate(&data, |evaluation| {
                selector.evaluate("ItemSelector", evaluation)
            })?);
        }
        Ok(Value::Array(all))
    }

    /// The name of a state, for who only looks on.
    pub fn name_of(&self, state: StateId) -> &str {
        &self.definition.state(state).name
    }

    /// Ends a watched state; `false` if nobody watches.
    pub fn watched_left(
        &mut self,
        id: FiberId,
        output: &Arc<Value>,
        next: Option<StateId>,
    ) -> bool {
        if self.watch.is_none() {
            return false;
        }
        let name = next.map(|next| self.name_of(next).to_owned());
        let variables = self
            .execution
            .fibers
            .remove(&id)
            .map(|fiber| fiber.variables)
            .unwrap_or_default();
        if let Some(watch) = &mut self.watch {
            watch.inspection.variables = variables;
            watch.left(Arc::clone(output), name.as_deref());
        }
        true
    }
}

impl Inspection {
    /// Whether so many failures are more than the state tolerates; one that says nothing about it
    /// is not asked.
    #[expect(clippy::cast_precision_loss, reason = "of counts that exist in memory")]
    fn is_exceeded(&self, failed: u64, length: u64) -> bool {
        let by_count = self.tolerated_count.is_some_and(|count| failed > count);
        let by_percentage = self
            .tolerated_percentage
            .is_some_and(|most| failed as f64 * 100.0 > most * length as f64);
        by_count || by_percentage
    }
}

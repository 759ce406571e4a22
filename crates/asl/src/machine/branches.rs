//! `Parallel` and `Map`: fibers inside a fiber.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

use super::data::{filter, select};
use super::faults::Fault;
use super::{
    Branch, Branches, Command, FiberId, Item, MapRequest, Phase, Step, TaskId, TimerKind,
    is_too_deep,
};
use crate::definition::{FlowId, Kind, Language, Map, MapMode};
use crate::failure::{EvaluationError, Failure};
use crate::history::{EventKind, StateKind};

/// AWS runs at most this many iterations of an inline map at once.
const MAX_INLINE: usize = 40;

impl Step<'_> {
    pub fn fork(&mut self, id: FiberId, flows: &[FlowId]) -> Result<(), Fault> {
        let input = self.effective_input(id)?;
        let started = EventKind::StateStarted {
            state: StateKind::Parallel,
            length: None,
        };
        let previous = self.record_of(id, started);
        self.set_forked(id);
        self.set_phase(
            id,
            Phase::Branches(Branches {
                results: vec![None; flows.len()],
                done: 0,
                waiting: VecDeque::new(),
                items: None,
                input: Arc::clone(&input),
            }),
        );
        let variables = self.execution.fibers[&id].variables.clone();
        let item = self.execution.fibers[&id].item.clone();
        for (index, flow) in flows.iter().enumerate() {
            let start = self.definition.flow(*flow).start;
            let branch = Some(Branch { fiber: id, index });
            let (input, variables, item) = (Arc::clone(&input), variables.clone(), item.clone());
            self.spawn(branch, start, input, variables, previous, item);
        }
        Ok(())
    }

    pub fn map(&mut self, id: FiberId, map: &Map) -> Result<(), Fault> {
        let definition = self.definition;
        let state = definition.state(self.execution.fibers[&id].state);
        let data = self.data(id);
        let input = match state.language {
            Language::JsonPath => filter(state.input.path.as_ref(), &data)?,
            Language::Jsonata => Arc::clone(&data.input),
        };
        let data = data.with_input(Arc::clone(&input));
        let items = match (&map.items_path, &map.items, &map.reader) {
            (_, _, Some(_)) => None,
            (Some(path), ..) => Some(Arc::new(select(path, &data)?)),
            (_, Some(template), _) => {
                let items =
                    self.evaluate(&data, |evaluation| template.evaluate("Items", evaluation))?;
                Some(Arc::new(items))
            }
            _ => Some(Arc::clone(&input)),
        };
        let length = match items.as_deref() {
            None => 0,
            Some(Value::Array(items)) => items.len(),
            Some(Value::Object(members)) if map.mode != MapMode::Inline => members.len(),
            Some(other) => return Err(not_an_array(map, other).into()),
        };
        let max_concurrency = self.limit("MaxConcurrency", map, &data)?;
        let started = EventKind::StateStarted {
            state: StateKind::Map,
            length: Some(length as u64),
        };
        // One that is taken up again has said so when it began.
        let again = self.execution.fibers[&id].phase == Phase::MapRun;
        let previous = match again {
            true => self.execution.fibers[&id].previous,
            false => self.record_of(id, started),
        };
        if let MapMode::Distributed { .. } = map.mode {
            let tolerated_count = self.tolerated(map, &data)?;
            let tolerated_percentage = self.tolerated_percentage(map, &data)?;
            let run = match again {
                true => self.execution.fibers[&id].run,
                false => self.next_run(id, TimerKind::TaskTimeout).run,
            };
            self.set_forked(id);
            self.set_phase(id, Phase::MapRun);
            self.commands.push(Command::RunMap(MapRequest {
                task: TaskId { fiber: id, run },
                state: self.execution.fibers[&id].state,
                entered_event: self.execution.fibers[&id].entered_event,
                input,
                context: data.context,
                variables: data.variables,
                items,
                max_concurrency,
                tolerated_count,
                tolerated_percentage,
            }));
            return Ok(());
        }
        self.set_forked(id);
        let at_once = match usize::try_from(max_concurrency) {
            Ok(limit) if limit > 0 => limit.min(MAX_INLINE),
            _ => MAX_INLINE,
        };
        self.set_phase(
            id,
            Phase::Branches(Branches {
                results: vec![None; length],
                done: 0,
                waiting: (0..length).collect(),
                items,
                input,
            }),
        );
        for _ in 0..at_once.min(length) {
            self.iterate(id, previous)?;
        }
        if length == 0 {
            self.joined(id);
        }
        Ok(())
    }

    pub fn limit(
        &mut self,
        field: &str,
        map: &Map,
        data: &super::data::Data,
    ) -> Result<u64, EvaluationError> {
        let Some(amount) = &map.max_concurrency else {
            return Ok(0);
        };
        let number = self.amount(field, amount, data)?;
        if number < 0.0 {
            return Err(EvaluationError::runtime(format!(
                "{field} cannot be negative."
            )));
        }
        Ok(whole(number))
    }

    pub fn tolerated(
        &mut self,
        map: &Map,
        data: &super::data::Data,
    ) -> Result<Option<u64>, EvaluationError> {
        const FIELD: &str = "ToleratedFailureCount";
        let Some(amount) = &map.tolerated_count else {
            return Ok(None);
        };
        let number = self.amount(FIELD, amount, data)?;
        if number < 0.0 {
            return Err(EvaluationError::runtime(format!(
                "{FIELD} cannot be negative."
            )));
        }
        Ok(Some(whole(number)))
    }

    pub fn tolerated_percentage(
        &mut self,
        map: &Map,
        data: &super::data::Data,
    ) -> Result<Option<f64>, EvaluationError> {
        const FIELD: &str = "ToleratedFailurePercentage";
        let Some(amount) = &map.tolerated_percentage else {
            return Ok(None);
        };
        let number = self.amount(FIELD, amount, data)?;
        if !(0.0..=100.0).contains(&number) {
            let cause = format!("{FIELD} must be between 0 and 100.");
            return Err(EvaluationError::runtime(cause));
        }
        Ok(Some(number))
    }

    /// From here on, its failure is told by an event of its own.
    fn set_forked(&mut self, id: FiberId) {
        if let Some(fiber) = self.execution.fibers.get_mut(&id) {
            fiber.forked = true;
        }
    }

    /// Begins the next iteration of an inline map.
    fn iterate(&mut self, id: FiberId, previous: u64) -> Result<(), Fault> {
        let definition = self.definition;
        let state = definition.state(self.execution.fibers[&id].state);
        let Kind::Map(map) = &state.kind else {
            return Ok(());
        };
        let Some(Phase::Branches(branches)) = self
            .execution
            .fibers
            .get_mut(&id)
            .map(|fiber| &mut fiber.phase)
        else {
            return Ok(());
        };
        let Some(index) = branches.waiting.pop_front() else {
            return Ok(());
        };
        let value = branches
            .items
            .as_deref()
            .and_then(|items| items.get(index))
            .cloned();
        let value = Arc::new(value.unwrap_or_default());
        let input = Arc::clone(&branches.input);
        let item = Item {
            index,
            value: Arc::clone(&value),
        };
        let name = state.name.to_string();
        let event = self.record(
            previous,
            EventKind::MapIterationStarted {
                name,
                index: index as u64,
            },
        );
        let input = match &map.selector {
            None => value,
            Some(selector) => {
                let data = self.data_of_item(id, item.clone()).with_input(input);
                let value = self.evaluate(&data, |evaluation| {
                    selector.evaluate("ItemSelector", evaluation)
                })?;
                if is_too_deep(&value) {
                    return Err(EvaluationError::too_much("ItemSelector").into());
                }
                Arc::new(value)
            }
        };
        let start = definition.flow(map.processor).start;
        let variables = self.execution.fibers[&id].variables.clone();
        self.spawn(
            Some(Branch { fiber: id, index }),
            start,
            input,
            variables,
            event,
            Some(item),
        );
        Ok(())
    }

    /// What an iteration's input is made with: `$$.Map.Item` is the item.
    pub fn data_of_item(&mut self, id: FiberId, item: Item) -> super::data::Data {
        let before = self
            .execution
            .fibers
            .get_mut(&id)
            .and_then(|fiber| fiber.item.replace(item));
        let data = self.data(id);
        if let Some(fiber) = self.execution.fibers.get_mut(&id) {
            fiber.item = before;
        }
        data
    }

    pub fn branch_done(&mut self, branch: Branch, last_event: u64, output: Arc<Value>) {
        let id = branch.fiber;
        let Some(fiber) = self.execution.fibers.get_mut(&id) else {
            return;
        };
        let state = self.definition.state(fiber.state);
        let Phase::Branches(branches) = &mut fiber.phase else {
            return;
        };
        if let Some(place) = branches.results.get_mut(branch.index) {
            *place = Some(output);
        }
        branches.done += 1;
        let all = branches.done == branches.results.len();
        let more = !branches.waiting.is_empty();
        let mut previous = last_event;
        if let Kind::Map(_) = state.kind {
            let name = state.name.to_string();
            let index = branch.index as u64;
            let event = self.record(last_event, EventKind::MapIterationSucceeded { name, index });
            // Recorded on AWS: the next iteration follows from what came before this event, the end
            // of the map from the event itself.
            if all {
                previous = event;
            }
        }
        if all {
            self.set_previous(id, previous);
            self.joined(id);
        } else if more && let Err(fault) = self.iterate(id, previous) {
            self.end_branches(id);
            self.fault(id, fault);
        }
    }

    /// All branches have come to their end.
    fn joined(&mut self, id: FiberId) {
        let Some(fiber) = self.execution.fibers.get_mut(&id) else {
            return;
        };
        let Phase::Branches(branches) = std::mem::replace(&mut fiber.phase, Phase::Executing)
        else {
            return;
        };
        let kind = match self.definition.state(fiber.state).kind {
            Kind::Map(_) => StateKind::Map,
            _ => StateKind::Parallel,
        };
        // Nothing follows from this event.
        let previous = fiber.previous;
        self.record(previous, EventKind::StateSucceeded(kind));
        let results = branches.results.into_iter();
        let results = results.map(|result| result.map(Arc::unwrap_or_clone).unwrap_or_default());
        let result = Arc::new(Value::Array(results.collect()));
        let made = self.output(id, result);
        let left = made
            .map_err(Fault::from)
            .and_then(|made| self.exit(id, made));
        if let Err(fault) = left {
            self.fault(id, fault);
        }
    }

    pub fn branch_failed(&mut self, branch: Branch, last_event: u64, failure: Failure) {
        let id = branch.fiber;
        let Some(fiber) = self.execution.fibers.get(&id) else {
            return;
        };
        let state = self.definition.state(fiber.state);
        if let Kind::Map(_) = state.kind {
            let name = state.name.to_string();
            let index = branch.index as u64;
            self.record(last_event, EventKind::MapIterationFailed { name, index });
        }
        self.set_previous(id, last_event);
        self.end_branches(id);
        self.fault(id, failure.into());
    }

    /// Takes away what still runs inside a fiber, and notes what was running.
    fn end_branches(&mut self, id: FiberId) {
        let children: Vec<FiberId> = self
            .execution
            .fibers
            .iter()
            .filter(|(_, fiber)| fiber.parent.is_some_and(|branch| branch.fiber == id))
            .map(|(child, _)| *child)
            .collect();
        for child in children {
            self.end_branches(child);
            let Some(fiber) = self.drop_fiber(child) else {
                continue;
            };
            if fiber.phase != Phase::Entering {
                let kind = super::run::kind_of(&self.definition.state(fiber.state).kind);
                self.record(fiber.previous, EventKind::StateAborted(kind));
            }
        }
        if let Some(fiber) = self.execution.fibers.get_mut(&id)
            && let Phase::Branches(_) = fiber.phase
        {
            fiber.phase = Phase::Executing;
        }
    }

    pub fn map_run_started(&mut self, task: TaskId, arn: String) {
        if self.awaiting(task).is_some() {
            self.record_of(task.fiber, EventKind::MapRunStarted { arn });
        }
    }

    pub fn map_run_redriven(&mut self, task: TaskId, arn: String, count: u32) {
        if self.awaiting(task).is_some() {
            self.record_of(task.fiber, EventKind::MapRunRedriven { arn, count });
        }
    }

    pub fn map_run_ended(&mut self, task: TaskId, result: Result<Value, Failure>) {
        if self.awaiting(task).is_none() {
            return;
        }
        let id = task.fiber;
        match result {
            Ok(output) => {
                self.set_phase(id, Phase::Executing);
                let event = self.record_of(id, EventKind::MapRunSucceeded);
                self.record(event, EventKind::StateSucceeded(StateKind::Map));
                let made = self.output(id, Arc::new(output));
                let left = made
                    .map_err(Fault::from)
                    .and_then(|made| self.exit(id, made));
                if let Err(fault) = left {
                    self.fault(id, fault);
                }
            }
            Err(failure) => {
                self.record_of(id, EventKind::MapRunFailed(failure.clone()));
                self.fault(id, failure.into());
            }
        }
    }
}

pub fn not_an_array(map: &Map, value: &Value) -> EvaluationError {
    let path = map.items_path.as_ref().map_or("$", |path| path.source());
    EvaluationError::runtime(format!(
        "Reference path \"{path}\" must point to array, but points to: {value}"
    ))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is not negative, and floats beyond the range become its end"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

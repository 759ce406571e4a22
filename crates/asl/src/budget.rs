//! What an expression may cost.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

/// `$[0,0][0,0]…`, `$..*..*` and a template that names a large input ten thousand times make more than
/// any memory holds. What a state may put out costs a small part of this.
const MAX_COST: usize = 16 << 20;
/// What a value costs beside its text; about an eighth of the memory that it takes.
pub const COST_OF_VALUE: usize = 8;

/// All values that the JSONata expressions of one step give. An inline map evaluates its selector for
/// every item in one step, so that this is more than one field may have.
const MAX_COST_OF_STEP: usize = 4 * MAX_COST;
/// The time that all JSONata expressions of one step have together. The one thing here that depends
/// on the machine: without it, an endless tail call would never end.
pub const MAX_TIME: Duration = Duration::from_secs(5);

/// What is left to spend, on looking at values and on copying them.
#[derive(Debug)]
pub struct Budget {
    left: Cell<usize>,
    step: Rc<StepBudget>,
}

/// What all evaluations of a step share: a template may hold tens of thousands of expressions, and a
/// step may enter thousands of states.
#[derive(Debug)]
pub struct StepBudget {
    cost: Cell<usize>,
    time: Cell<Duration>,
}

impl Default for StepBudget {
    fn default() -> Self {
        Self {
            cost: Cell::new(MAX_COST_OF_STEP),
            time: Cell::new(MAX_TIME),
        }
    }
}

impl Default for Budget {
    /// Of an evaluation that belongs to no step, or is all of one.
    fn default() -> Self {
        Self::within(&Rc::default())
    }
}

impl Budget {
    /// Of one evaluation among those of a step.
    pub fn within(step: &Rc<StepBudget>) -> Self {
        Self {
            left: Cell::new(MAX_COST),
            step: Rc::clone(step),
        }
    }

    /// The time that is left to the expressions of the step.
    pub fn time_left(&self) -> Duration {
        self.step.time.get()
    }

    pub fn spend_time(&self, taken: Duration) {
        let left = self.step.time.get().saturating_sub(taken);
        self.step.time.set(left);
    }

    /// Pays for what an expression has made, out of what the step has. True as long as not
    /// everything is spent.
    pub fn spend_on_result(&self, value: &Value) -> bool {
        spend_on(&self.step.cost, value)
    }

    /// Pays for looking at a value. True as long as not everything is spent.
    pub fn spend_on_step(&self) -> bool {
        spend(&self.left, COST_OF_VALUE)
    }

    /// Pays for a copy of a value.
    pub fn spend_on(&self, value: &Value) -> bool {
        spend_on(&self.left, value)
    }

    pub fn is_spent(&self) -> bool {
        self.left.get() == 0
    }
}

fn spend(left: &Cell<usize>, cost: usize) -> bool {
    let rest = left.get().saturating_sub(cost);
    left.set(rest);
    rest > 0
}

fn spend_on(left: &Cell<usize>, value: &Value) -> bool {
    match value {
        Value::String(text) => spend(left, COST_OF_VALUE + text.len()),
        Value::Array(elements) => {
            spend(left, COST_OF_VALUE) && elements.iter().all(|element| spend_on(left, element))
        }
        Value::Object(members) => {
            let mut members = members.iter();
            spend(left, COST_OF_VALUE)
                && members.all(|(name, member)| spend(left, name.len()) && spend_on(left, member))
        }
        _ => spend(left, COST_OF_VALUE),
    }
}

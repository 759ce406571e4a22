//! What an expression may cost.

use std::cell::Cell;

use serde_json::Value;

/// `$[0,0][0,0]…`, `$..*..*` and a template that names a large input ten thousand times make more than
/// any memory holds. What a state may put out costs a small part of this.
const MAX_COST: usize = 16 << 20;
/// What a value costs beside its text; about an eighth of the memory that it takes.
const COST_OF_VALUE: usize = 8;

/// What is left to spend, on looking at values and on copying them.
#[derive(Debug)]
pub struct Budget(Cell<usize>);

impl Default for Budget {
    fn default() -> Self {
        Self(Cell::new(MAX_COST))
    }
}

impl Budget {
    /// Pays for looking at a value. True as long as not everything is spent.
    pub fn spend_on_step(&self) -> bool {
        self.spend(COST_OF_VALUE)
    }

    fn spend(&self, cost: usize) -> bool {
        let left = self.0.get().saturating_sub(cost);
        self.0.set(left);
        left > 0
    }

    /// Pays for a copy of a value.
    pub fn spend_on(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.spend(COST_OF_VALUE + text.len()),
            Value::Array(elements) => {
                self.spend(COST_OF_VALUE) && elements.iter().all(|element| self.spend_on(element))
            }
            Value::Object(members) => {
                let mut members = members.iter();
                self.spend(COST_OF_VALUE)
                    && members.all(|(name, member)| self.spend(name.len()) && self.spend_on(member))
            }
            _ => self.spend(COST_OF_VALUE),
        }
    }

    pub fn is_spent(&self) -> bool {
        self.0.get() == 0
    }
}

//! JSONata expressions, evaluated by the crate `jsonata-core`.
//!
//! AWS's additions: `$states`, variables, and the functions `$partition`, `$range`, `$hash`,
//! `$random` with a seed, `$uuid` and `$parse`; `$eval` is not available. Chance and time come from
//! the evaluation, so that the same journal gives the same values again.
//! <https://docs.aws.amazon.com/step-functions/latest/dg/transforming-data.html>
//!
//! What cannot become large is evaluated here ([`cost`] says how that is known), everything else in
//! a process with a memory limit, if the program has any ([`elsewhere`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use jsonata_core::ast::AstNode;
use jsonata_core::parser;
use serde_json::Value;

use crate::budget::MAX_TIME;
use crate::failure::{Evaluation, EvaluationError};

mod check;
mod cost;
mod data;
pub mod elsewhere;
mod run;
#[cfg(test)]
mod tests;

pub use check::{Mistake, Offered};
use cost::Bound;
use data::Bound as Binding;
use elsewhere::{Lost, Request};
use run::{Given, Panicked, Refusal, guarded, mentions, run};

/// An expression, with its text without delimiters.
#[derive(Clone, Debug)]
pub struct Jsonata {
    source: Box<str>,
    tree: Result<Arc<AstNode>, Mistake>,
    /// What it costs at most, if that is known.
    bound: Option<Bound>,
}

impl PartialEq for Jsonata {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Jsonata {
    /// The expression in a text of the form `{% … %}`.
    pub fn of(text: &str) -> Option<Self> {
        let inner = text.strip_prefix("{%")?.strip_suffix("%}")?;
        let source: Box<str> = inner.trim().into();
        let tree = match guarded(|| parser::parse(&source)) {
            Ok(parsed) => parsed
                .map(Arc::new)
                .map_err(|error| check::syntax(&source, &error)),
            Err(Panicked) => Err(check::unreadable()),
        };
        let bound = tree.as_ref().ok().and_then(|tree| Bound::of(tree));
        Some(Self {
            source,
            tree,
            bound,
        })
    }

    /// What AWS refuses the expression for, at a place where `$states` has these parts.
    pub fn mistakes(&self, offered: Offered) -> Vec<Mistake> {
        match &self.tree {
            Ok(tree) => check::references(tree, offered),
            Err(mistake) => vec![mistake.clone()],
        }
    }

    /// Whether its evaluation may take long.
    pub fn is_heavy(&self) -> bool {
        !self.bound.is_some_and(Bound::is_light)
    }

    /// The value, for the field at `place`.
    pub fn evaluate(
        &self,
        place: &str,
        evaluation: &mut Evaluation<'_>,
    ) -> Result<Value, EvaluationError> {
        let failed = |reason: &str| {
            let source = &self.source;
            let cause = format!(
                "The JSONata expression '{source}' specified for the field '{place}' {reason}"
            );
            EvaluationError::query(place, cause)
        };
        // Not reached for an expression of a definition, which is checked before it runs.
        let tree = self
            .tree
            .as_ref()
            .map_err(|mistake| failed(&format!("is not valid. {}", mistake.message)))?;
        let began = Instant::now();
        // Each evaluation has its own generator, taken from that of the step.
        let seed = evaluation.chance.bits();
        let limit = evaluation.budget.time_left();
        let made = match limit.is_zero() {
            true => Err(Failed::Refused(Refusal::TooLong)),
            false => self.value(tree, evaluation, seed, limit),
        };
        evaluation.budget.spend_time(began.elapsed());
        let made = made.and_then(|text| {
            let no_json = || Refusal::Because("returned a value that is not JSON.".to_owned());
            let value = serde_json::from_str(&text).map_err(|_| Failed::Refused(no_json()))?;
            match evaluation.budget.spend_on_result(&value) {
                true => Ok(value),
                false => Err(Failed::Refused(Refusal::TooLarge)),
            }
        });
        made.map_err(|why| match why {
            Failed::Refused(Refusal::Because(reason)) => failed(&reason),
            Failed::Refused(Refusal::TooLarge) => EvaluationError::too_much(place),
            Failed::Refused(Refusal::TooLong) | Failed::Lost(Lost::Time) => {
                let seconds = MAX_TIME.as_secs();
                failed(&format!(
                    "threw an error during evaluation. It takes longer than the {seconds} seconds \
                     that the expressions of a step may take together."
                ))
            }
            Failed::Lost(Lost::Memory) => failed(
                "threw an error during evaluation. It needs more memory than one expression may \
                 have.",
            ),
            Failed::Lost(Lost::Process) => {
                failed("threw an error during evaluation. What evaluated it has ended.")
            }
        })
    }

    /// The value as JSON, made here or elsewhere.
    fn value(
        &self,
        tree: &AstNode,
        evaluation: &Evaluation<'_>,
        seed: u64,
        limit: Duration,
    ) -> Result<String, Failed> {
        let bindings = self.bindings(evaluation);
        if let Some(elsewhere) = elsewhere::elsewhere()
            && !self.is_small(&bindings)
        {
            let request = Request {
                source: &self.source,
                bindings: &bindings,
                seed,
                now_ms: evaluation.now_ms,
                limit,
            };
            let answer = elsewhere(&request.write(), limit).map_err(Failed::Lost)?;
            return elsewhere::read_answer(answer)
                .ok_or(Failed::Lost(Lost::Process))?
                .map_err(Failed::Refused);
        }
        let bindings = bindings.iter();
        let given = Given {
            bindings: bindings
                .map(|(name, value)| ((*name).to_owned(), value.value()))
                .collect(),
            seed,
            now_ms: evaluation.now_ms,
            limit,
        };
        run(tree, &self.source, given).map_err(Failed::Refused)
    }

    fn is_small(&self, bindings: &[(&str, Binding<'_>)]) -> bool {
        let Some(bound) = self.bound else {
            return false;
        };
        let values: Vec<&Value> = bindings
            .iter()
            .flat_map(|(_, value)| value.values())
            .collect();
        cost::size(&values).is_some_and(|size| bound.is_small(size))
    }

    /// `$states` and the variables, as far as the expression can use them.
    fn bindings<'e>(&self, evaluation: &'e Evaluation<'_>) -> Vec<(&'e str, Binding<'e>)> {
        let mut bindings = Vec::new();
        if mentions(&self.source, "states") {
            bindings.push(("states", Binding::Members(states(evaluation))));
        }
        for (name, value) in evaluation.scope.variables {
            if mentions(&self.source, name) {
                bindings.push((&**name, Binding::Value(value)));
            }
        }
        bindings
    }
}

/// Why there is no value.
enum Failed {
    Refused(Refusal),
    Lost(Lost),
}

fn states<'e>(evaluation: &'e Evaluation<'_>) -> Vec<(&'static str, &'e Value)> {
    let mut states = vec![
        ("input", evaluation.scope.input),
        ("context", evaluation.scope.context),
    ];
    states.extend(evaluation.result.map(|result| ("result", result)));
    states.extend(evaluation.error_output.map(|error| ("errorOutput", error)));
    states
}

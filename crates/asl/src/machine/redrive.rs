//! Taking up an execution that has failed, where it failed.
//! <https://docs.aws.amazon.com/step-functions/latest/dg/redrive-executions.html>

use super::{Execution, FiberId, Outcome, Phase, Step, TimerId};
use crate::definition::Kind;
use crate::history::EventKind;

impl Execution {
    /// Whether it has ended in a way that it can be taken up from.
    pub fn is_redrivable(&self) -> bool {
        !self.stopped.is_empty() && !matches!(self.outcome, None | Some(Outcome::Succeeded(_)))
    }
}

impl Step<'_> {
    /// Remembers where everything stood before a failure takes it away, unless an earlier part of
    /// the same failure has done so.
    pub fn remember(&mut self) {
        if self.unwound.is_none() {
            self.unwound = Some(self.execution.fibers.clone());
        }
    }

    /// What did not succeed is done again, with the input that it had; what did stays as it is.
    pub fn redrive(&mut self) {
        if !self.execution.is_redrivable() {
            return;
        }
        self.execution.outcome = None;
        self.execution.identity.redrive_count += 1;
        self.execution.fibers = std::mem::take(&mut self.execution.stopped);
        let count = self.execution.identity.redrive_count;
        let last = self.execution.last_event;
        let event = self.record(last, EventKind::ExecutionRedriven { count });
        if let Some(seconds) = self.definition.timeout_seconds {
            self.set_timer(TimerId::deadline(), seconds.saturating_mul(1000));
        }
        let ids: Vec<FiberId> = self.execution.fibers.keys().copied().collect();
        for id in ids {
            self.stand_up(id, event);
        }
    }

    fn stand_up(&mut self, id: FiberId, event: u64) {
        let Some(fiber) = self.execution.fibers.get_mut(&id) else {
            return;
        };
        fiber.previous = event;
        fiber.retries = 0;
        fiber.attempts.iter_mut().for_each(|attempts| *attempts = 0);
        match fiber.phase {
            // Its branches stand up for themselves; it goes on when they have come to their end.
            Phase::Branches(_) => {}
            Phase::Entering => self.ready.push_back(id),
            Phase::MapRun => {
                let state = self.definition.state(fiber.state);
                if let Kind::Map(map) = &state.kind
                    && let Err(fault) = self.map(id, map)
                {
                    self.fault(id, fault);
                }
            }
            Phase::Executing | Phase::Waiting { .. } | Phase::Backoff | Phase::Task { .. } => {
                fiber.phase = Phase::Executing;
                let is_map = matches!(
                    self.definition.state(fiber.state).kind,
                    Kind::Map(_) | Kind::Parallel { .. }
                );
                fiber.forked &= !is_map;
                self.ready.push_back(id);
            }
        }
    }
}

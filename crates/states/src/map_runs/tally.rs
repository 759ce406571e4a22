//! How many children, and items in them, stand where.

use serde::{Deserialize, Serialize};

use super::record::{Ended, Outcome, Status};

/// Numbers of children or of items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub total: u64,
    pub running: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub timed_out: u64,
    pub aborted: u64,
    pub results_written: u64,
    /// Failed before, and not begun again yet.
    #[serde(default)]
    pub pending_redrive: u64,
}

impl Tally {
    pub fn pending(&self) -> u64 {
        let known = self.running + self.ended() + self.pending_redrive;
        self.total.saturating_sub(known)
    }

    pub fn not_succeeded(&self) -> u64 {
        self.failed + self.timed_out + self.aborted
    }

    pub fn ended(&self) -> u64 {
        self.succeeded + self.not_succeeded()
    }

    fn place(&mut self, how: &Ended) -> &mut u64 {
        match how {
            Ended::Succeeded { .. } => &mut self.succeeded,
            Ended::Failed { status, .. } => match status {
                Status::Failed => &mut self.failed,
                Status::TimedOut => &mut self.timed_out,
                Status::Aborted => &mut self.aborted,
            },
        }
    }
}

/// Both numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub children: Tally,
    pub items: Tally,
}

impl Counts {
    pub fn read(&mut self, children: u64, items: u64) {
        self.children.total += children;
        self.items.total += items;
    }

    pub fn begun(&mut self, items: u32, again: bool) {
        self.children.running += 1;
        self.items.running += u64::from(items);
        if again {
            self.children.pending_redrive = self.children.pending_redrive.saturating_sub(1);
            let waiting = &mut self.items.pending_redrive;
            *waiting = waiting.saturating_sub(u64::from(items));
        }
    }

    /// A child that was running has ended.
    pub fn ended(&mut self, outcome: &Outcome) {
        self.children.running = self.children.running.saturating_sub(1);
        let running = &mut self.items.running;
        *running = running.saturating_sub(u64::from(outcome.items));
        self.found(outcome);
    }

    /// A child ended before.
    pub fn found(&mut self, outcome: &Outcome) {
        *self.children.place(&outcome.how) += 1;
        *self.items.place(&outcome.how) += u64::from(outcome.items);
    }

    /// A child that ended without success is to run again.
    pub fn waits_again(&mut self, outcome: &Outcome) {
        self.children.pending_redrive += 1;
        self.items.pending_redrive += u64::from(outcome.items);
    }

    pub fn written(&mut self) {
        self.children.results_written = self.children.ended();
        self.items.results_written = self.items.ended();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(how: Ended) -> Outcome {
        Outcome {
            child: 0,
            items: 3,
            redrives: 0,
            named: 0,
            start: 0,
            stop: 0,
            how,
        }
    }

    #[test]
    fn children_and_their_items_are_counted_where_they_stand() {
        let mut counts = Counts::default();
        counts.read(3, 9);
        counts.begun(3, false);
        counts.begun(3, false);
        counts.ended(&outcome(Ended::Succeeded { output: "1".into() }));
        let failed = outcome(Ended::Failed {
            status: Status::TimedOut,
            error: None,
            cause: None,
        });
        counts.ended(&failed);
        assert_eq!(counts.children.pending(), 1);
        assert_eq!(counts.items.pending(), 3);
        assert_eq!(counts.items.timed_out, 3);
        assert_eq!(counts.items.running, 0);
        counts.written();
        assert_eq!(counts.children.results_written, 2);
        let mut again = Counts::default();
        again.read(1, 3);
        again.waits_again(&failed);
        assert_eq!(again.children.pending(), 0);
        again.begun(3, true);
        assert_eq!(again.items.pending_redrive, 0);
        assert_eq!(again.items.running, 3);
    }
}

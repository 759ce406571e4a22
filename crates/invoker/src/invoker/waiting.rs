//! Waiting in line for an environment.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Granted, Invoker};
use crate::placement::{Grant, Placed, Ticket};
use crate::{Function, FunctionKey, InvokeError, provisioned};

impl Invoker {
    /// An environment for one invocation, at once or when it is its turn.
    pub(super) async fn place(
        self: &Arc<Self>,
        key: &FunctionKey,
        function: &Arc<Function>,
    ) -> Result<Granted, InvokeError> {
        match self.with_placement(|placement| placement.request(key, function)) {
            Placed::Environment(environment) => Ok(Grant::Environment(environment)),
            Placed::Waiting(ticket, receiver) => {
                let mut place = PlaceInLine {
                    invoker: self,
                    key,
                    ticket,
                    receiver,
                };
                place.wait(self.config.queue_wait()).await
            }
        }
    }

    /// Waits for an environment that is about to come back. `None` if it does not.
    pub(crate) async fn await_turn(
        self: &Arc<Self>,
        key: &FunctionKey,
        ticket: Ticket,
        receiver: oneshot::Receiver<Granted>,
    ) -> Option<Granted> {
        let mut place = PlaceInLine {
            invoker: self,
            key,
            ticket,
            receiver,
        };
        place.wait(provisioned::EXPECTED_BACK).await.ok()
    }
}

/// A place in line, given up when dropped.
struct PlaceInLine<'a> {
    invoker: &'a Arc<Invoker>,
    key: &'a FunctionKey,
    ticket: Ticket,
    receiver: oneshot::Receiver<Granted>,
}

impl PlaceInLine<'_> {
    async fn wait(&mut self, limit: Duration) -> Result<Granted, InvokeError> {
        match tokio::time::timeout(limit, &mut self.receiver).await {
            Ok(Ok(granted)) => Ok(granted),
            Ok(Err(_)) => Err(InvokeError::ShuttingDown),
            Err(_) => Err(InvokeError::NoCapacity),
        }
    }
}

impl Drop for PlaceInLine<'_> {
    fn drop(&mut self) {
        self.receiver.close();
        match self.receiver.try_recv() {
            // Granted in the very moment the caller went away: it goes to the next.
            Ok(Grant::Environment(environment)) => self.invoker.release(environment, false),
            Ok(Grant::Failed(_)) => self.invoker.lost(self.key, false),
            Ok(Grant::Throttled) => {}
            Err(_) => self
                .invoker
                .with_placement(|placement| placement.leave(self.key, self.ticket)),
        }
    }
}

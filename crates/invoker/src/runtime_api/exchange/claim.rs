use tokio::sync::oneshot;

use super::{Answer, Exchange, Phase};

/// The right to answer the running invocation. Dropped without an answer, the response counts as
/// cut off.
#[derive(Debug)]
pub(in super::super) struct Claim<'a> {
    pub(super) exchange: &'a Exchange,
    pub(super) answer: Option<oneshot::Sender<Answer>>,
}

impl Claim<'_> {
    /// Passes the answer on. The runtime may then ask for the next event.
    pub fn answer(mut self, answer: Answer) {
        // The phase changes before the answer goes out, so that the invoker finds it changed.
        let sender = self.answer.take();
        self.finish();
        if let Some(sender) = sender {
            let _ = sender.send(answer);
        }
    }

    /// Passes on an answer whose body is still coming in; [`Claim::finish`] follows.
    pub fn begin(&mut self, answer: Answer) {
        if let Some(sender) = self.answer.take() {
            let _ = sender.send(answer);
        }
    }

    pub fn finish(self) {
        drop(self);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = self.exchange.lock();
        let cut_off = match &mut state.phase {
            Phase::Closed(exit) => Answer::Exited(*exit),
            Phase::Responding { request_id, .. } => {
                let request_id = std::mem::take(request_id);
                state.phase = Phase::ResponseSent { request_id };
                Answer::Truncated
            }
            _ => Answer::Truncated,
        };
        drop(state);
        self.begin(cut_off);
    }
}

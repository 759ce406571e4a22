use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use clock::Clock;

use crate::Invocation;
use crate::runtime_api::event::Event;
use crate::trace::trace_header;

/// What warms a runtime up before its snapshot is taken.
#[derive(Debug)]
pub(crate) struct Rehearsal {
    /// Priming events, delivered in order.
    pub events: VecDeque<Bytes>,
    pub clock: Clock,
    /// The function's ARN and its timeout, as priming events carry them.
    pub invoked_arn: String,
    pub timeout: Duration,
}

impl Rehearsal {
    pub(super) fn event(&self, payload: Bytes, number: u64) -> Event {
        let now = self.clock.now();
        let invocation = Invocation {
            request_id: uuid::Uuid::new_v4().to_string(),
            payload,
            invoked_arn: self.invoked_arn.clone(),
            ..Invocation::default()
        };
        Event {
            invocation,
            invocation_id: format!("0-{number:x}"),
            deadline_ms: (now + self.timeout).as_millis(),
            trace_header: trace_header(None, false, now),
        }
    }
}

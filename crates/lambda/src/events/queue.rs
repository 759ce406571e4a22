//! What waits, in memory: for each function the slots of its events in order of arrival, and all
//! timers. Payloads stay on disk. Nothing here waits, reads a clock or does I/O.
//!
//! How many events of one function run at a time follows what its concurrency gives: the number
//! grows with every event that ran and falls when one was throttled, as a TCP sender finds its
//! bandwidth. A throttled function also rests for a second before new events are tried; AWS "reduces
//! the rate at which it reads events from the queue".

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use clock::Timestamp;

use super::delivery::Service;
use super::record::Slot;
use crate::function::FunctionId;

/// How many events of a function run at first. Each may need an environment of its own, so more are
/// only tried when these went well.
const FIRST_WINDOW: usize = 8;
/// How long a function rests after it was throttled.
const REST: Duration = Duration::from_secs(1);
/// Events too old to run are only written to their destination; some of these at a time.
const MAX_EXPIRING: usize = 4;

/// An event that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    pub slot: Slot,
    /// Tries that the function failed.
    pub errors: u8,
    /// Consecutive tries that the service did not admit.
    pub refusals: u8,
}

/// What a timer is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Timer {
    /// An event is due again.
    Event(Arc<FunctionId>, Item),
    /// A function may go on, or its oldest event has become too old.
    Function(Arc<FunctionId>),
    /// A delivery is due again.
    Delivery(Service, Parcel),
}

/// A delivery that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parcel {
    pub slot: Slot,
    pub failures: u8,
}

/// An event that somebody has to see to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub item: Item,
    /// Taken only because it is too old, so it does not count as running.
    pub expired: bool,
}

/// How a try went, as far as the queue cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    /// The function ran.
    Ran,
    /// The service did not admit it for want of concurrency.
    Throttled,
    /// It did not come to that.
    Neither,
}

/// Everything that waits.
#[derive(Debug, Default)]
pub struct Queues {
    functions: HashMap<Arc<FunctionId>, Queue>,
    timers: BTreeMap<(Timestamp, u64), Timer>,
    timers_set: u64,
    waiting: usize,
    max_window: usize,
}

#[derive(Debug)]
struct Queue {
    ready: VecDeque<Item>,
    running: usize,
    expiring: usize,
    window: usize,
    /// Below it, the window grows with every event that ran; above, once per round.
    threshold: usize,
    ran: usize,
    rests_until: Timestamp,
    /// The earliest timer of the kind [`Timer::Function`] that is set.
    wakes: Option<Timestamp>,
}

impl Queues {
    pub fn new(max_window: usize) -> Self {
        Self {
            max_window: max_window.max(1),
            ..Self::default()
        }
    }

    /// How many events wait, those with a timer and those that run included.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Adds an event that was accepted.
    pub fn push(&mut self, function: &FunctionId, item: Item) {
        self.waiting += 1;
        self.queue(function).ready.push_back(item);
    }

    /// Adds an event that was found with a timer.
    pub fn push_later(&mut self, function: &FunctionId, item: Item, due: Timestamp) {
        self.waiting += 1;
        let function = self.key(function);
        self.set(due, Timer::Event(function, item));
    }

    /// Takes the next event that may be seen to now. Events that arrived before `expired` need not
    /// wait for their turn.
    pub fn claim(
        &mut self,
        function: &FunctionId,
        now: Timestamp,
        expired: Timestamp,
    ) -> Option<Claim> {
        let queue = self.functions.get_mut(function)?;
        let front = *queue.ready.front()?;
        let runs = queue.running < queue.window && queue.rests_until <= now;
        let expired = front.slot.at <= expired;
        let expires = expired && queue.expiring < MAX_EXPIRING;
        if !runs && !expires {
            return None;
        }
        queue.ready.pop_front();
        if runs {
            queue.running += 1;
        } else {
            queue.expiring += 1;
        }
        Some(Claim {
            item: front,
            expired: !runs,
        })
    }

    /// When a function that has events but may not run them should be looked at again: sets a timer
    /// unless there is an earlier one. `age` is how old an event may become.
    pub fn wake_later(&mut self, function: &FunctionId, now: Timestamp, age: Duration) -> bool {
        let Some((key, _)) = self.functions.get_key_value(function) else {
            return false;
        };
        let key = Arc::clone(key);
        let Some(queue) = self.functions.get_mut(function) else {
            return false;
        };
        let Some(front) = queue.ready.front() else {
            return false;
        };
        let mut at = front.slot.at + age;
        if queue.rests_until > now {
            at = at.min(queue.rests_until);
        }
        // What has expired already is seen to by those who are at it.
        if at <= now || queue.wakes.is_some_and(|set| set <= at) {
            return false;
        }
        queue.wakes = Some(at);
        self.set(at, Timer::Function(key));
        true
    }

    /// Gives back what a claim took of the window.
    pub fn release(&mut self, function: &FunctionId, claim: Claim, now: Timestamp, how: Landing) {
        let max_window = self.max_window;
        let Some(queue) = self.functions.get_mut(function) else {
            return;
        };
        if claim.expired {
            queue.expiring = queue.expiring.saturating_sub(1);
        } else {
            queue.running = queue.running.saturating_sub(1);
        }
        match how {
            Landing::Ran => queue.grow(max_window),
            Landing::Throttled => queue.shrink(now),
            Landing::Neither => {}
        }
        if queue.is_idle(now) {
            self.functions.remove(function);
        }
    }

    /// Has an event that was claimed tried again at `due`.
    pub fn retry(&mut self, function: &FunctionId, item: Item, due: Timestamp) {
        let function = self.key(function);
        self.set(due, Timer::Event(function, item));
    }

    /// An event that was claimed is over.
    pub fn finish(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Has a delivery tried again at `due`.
    pub fn deliver_later(&mut self, service: Service, parcel: Parcel, due: Timestamp) {
        self.set(due, Timer::Delivery(service, parcel));
    }

    /// When the next timer goes off.
    pub fn next_timer(&self) -> Option<Timestamp> {
        self.timers.keys().next().map(|(at, _)| *at)
    }

    /// Takes a timer that is due. Of one about an event, the event is the first of its function now.
    pub fn due(&mut self, now: Timestamp) -> Option<Timer> {
        let first = self.timers.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let timer = first.remove();
        match &timer {
            Timer::Event(function, item) => self.queue(function).ready.push_front(*item),
            Timer::Function(function) => {
                let function: &FunctionId = function;
                if let Some(queue) = self.functions.get_mut(function) {
                    queue.wakes = None;
                }
            }
            Timer::Delivery(..) => {}
        }
        Some(timer)
    }

    fn set(&mut self, at: Timestamp, timer: Timer) {
        self.timers_set += 1;
        self.timers.insert((at, self.timers_set), timer);
    }

    fn key(&self, function: &FunctionId) -> Arc<FunctionId> {
        match self.functions.get_key_value(function) {
            Some((key, _)) => Arc::clone(key),
            None => Arc::new(function.clone()),
        }
    }

    fn queue(&mut self, function: &FunctionId) -> &mut Queue {
        if !self.functions.contains_key(function) {
            let queue = Queue::new(self.max_window);
            self.functions.insert(Arc::new(function.clone()), queue);
        }
        #[expect(clippy::expect_used, reason = "it was inserted above")]
        self.functions.get_mut(function).expect("a queue")
    }
}

impl Queue {
    fn new(max_window: usize) -> Self {
        Self {
            ready: VecDeque::new(),
            running: 0,
            expiring: 0,
            window: FIRST_WINDOW.min(max_window),
            threshold: max_window,
            ran: 0,
            rests_until: Timestamp::default(),
            wakes: None,
        }
    }

    fn grow(&mut self, max_window: usize) {
        self.ran += 1;
        if self.window < self.threshold || self.ran >= self.window {
            self.window = (self.window + 1).min(max_window);
            self.ran = 0;
        }
    }

    fn shrink(&mut self, now: Timestamp) {
        self.ran = 0;
        // Those that still run show how much there is.
        self.window = self.running.max(1);
        self.threshold = self.window;
        self.rests_until = now + REST;
    }

    fn is_idle(&self, now: Timestamp) -> bool {
        let busy = self.running + self.expiring > 0 || !self.ready.is_empty();
        !busy && self.wakes.is_none() && self.rests_until <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::tests::function;

    const AGE: Duration = Duration::from_secs(6 * 3600);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + seconds)
    }

    fn item(tie: u64) -> Item {
        Item {
            slot: Slot { at: at(0), tie },
            errors: 0,
            refusals: 0,
        }
    }

    fn claim(queues: &mut Queues, id: &FunctionId, seconds: i64) -> Option<Claim> {
        queues.claim(id, at(seconds), at(seconds) - AGE)
    }

    #[test]
    fn events_come_in_order_of_arrival_and_no_more_than_the_window() {
        let (mut queues, id) = (Queues::new(2), function("f").id);
        for tie in 0..3 {
            queues.push(&id, item(tie));
        }
        let first = claim(&mut queues, &id, 0).unwrap();
        assert_eq!((first.item, first.expired), (item(0), false));
        assert_eq!(claim(&mut queues, &id, 0).unwrap().item, item(1));
        assert_eq!(claim(&mut queues, &id, 0), None);
        queues.release(&id, first, at(0), Landing::Ran);
        queues.finish();
        assert_eq!(claim(&mut queues, &id, 0).unwrap().item, item(2));
        assert_eq!(queues.waiting(), 2);
    }

    #[test]
    fn the_window_grows_while_events_run_and_rests_when_they_are_throttled() {
        let (mut queues, id) = (Queues::new(100), function("f").id);
        for tie in 0..1000 {
            queues.push(&id, item(tie));
        }
        let claims: Vec<_> = std::iter::from_fn(|| claim(&mut queues, &id, 0)).collect();
        assert_eq!(claims.len(), FIRST_WINDOW);
        for claim in claims {
            queues.release(&id, claim, at(0), Landing::Ran);
        }
        let claims: Vec<_> = std::iter::from_fn(|| claim(&mut queues, &id, 0)).collect();
        assert_eq!(claims.len(), 2 * FIRST_WINDOW);
        // Three are refused while thirteen run.
        for claim in &claims[..3] {
            queues.release(&id, *claim, at(0), Landing::Throttled);
        }
        queues.release(&id, claims[3], at(0), Landing::Ran);
        assert_eq!(claim(&mut queues, &id, 0), None, "it rests");
        assert!(queues.wake_later(&id, at(0), AGE));
        assert!(!queues.wake_later(&id, at(0), AGE), "the timer is set");
        assert_eq!(queues.next_timer(), Some(at(1)));
        assert!(matches!(queues.due(at(1)), Some(Timer::Function(_))));
        let again: Vec<_> = std::iter::from_fn(|| claim(&mut queues, &id, 1)).collect();
        assert_eq!(again.len(), 1, "one place, since thirteen run or ran");
    }

    #[test]
    fn what_is_too_old_does_not_wait_for_concurrency() {
        let (mut queues, id) = (Queues::new(1), function("f").id);
        for tie in 0..9 {
            queues.push(&id, item(tie));
        }
        let running = claim(&mut queues, &id, 0).unwrap();
        assert_eq!(claim(&mut queues, &id, 10), None);
        assert!(queues.wake_later(&id, at(10), AGE));
        let too_old = 6 * 3600;
        assert_eq!(queues.next_timer(), Some(at(too_old)));
        assert!(queues.due(at(too_old)).is_some());
        let expired: Vec<_> = std::iter::from_fn(|| claim(&mut queues, &id, too_old)).collect();
        assert_eq!(expired.len(), MAX_EXPIRING);
        assert!(expired.iter().all(|claim| claim.expired));
        queues.release(&id, expired[0], at(too_old), Landing::Neither);
        assert!(claim(&mut queues, &id, too_old).is_some_and(|claim| claim.expired));
        queues.release(&id, running, at(too_old), Landing::Ran);
    }

    #[test]
    fn a_retry_comes_first_when_its_time_has_come() {
        let (mut queues, id) = (Queues::new(9), function("f").id);
        queues.push(&id, item(1));
        queues.push(&id, item(2));
        let first = claim(&mut queues, &id, 0).unwrap();
        let again = Item {
            errors: 1,
            ..first.item
        };
        queues.release(&id, first, at(0), Landing::Ran);
        queues.retry(&id, again, at(60));
        assert_eq!(queues.due(at(59)), None);
        assert!(matches!(queues.due(at(60)), Some(Timer::Event(..))));
        assert_eq!(claim(&mut queues, &id, 60).unwrap().item, again);
    }

    #[test]
    fn a_function_without_events_leaves_nothing_behind() {
        let (mut queues, id) = (Queues::new(9), function("f").id);
        queues.push(&id, item(1));
        let first = claim(&mut queues, &id, 0).unwrap();
        queues.release(&id, first, at(0), Landing::Ran);
        queues.finish();
        assert!(queues.functions.is_empty());
        assert_eq!((queues.waiting(), queues.next_timer()), (0, None));
    }
}

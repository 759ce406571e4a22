//! What follows from a try: nothing more, another one later, or giving up. The rules are AWS's:
//! <https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html>.
//!
//! A function that fails is tried again after one minute, then after two. What the service could
//! not admit, or could not start, is tried again after one second, then twice as long each time up
//! to five minutes, for as long as the event may live; such tries do not count.

use std::time::Duration;

use bytes::Bytes;
use clock::Timestamp;

use super::configuration::EventInvoke;
use super::queue::Item;

const FUNCTION_WAIT: Duration = Duration::from_secs(60);
const SERVICE_WAIT: Duration = Duration::from_secs(1);
const LONGEST_SERVICE_WAIT: Duration = Duration::from_secs(300);

/// What came of one try.
#[derive(Debug, Clone, PartialEq)]
pub enum Tried {
    /// The function answered, well or with an error.
    Answered(Response),
    /// The function, version or alias is not there.
    NotFound(String),
    /// Concurrency did not allow it.
    Throttled(String),
    /// The function has no concurrency at all, and will have none.
    NoConcurrency,
    /// It would have been one round too many of a loop.
    Recursive(String),
    /// The service could not run it.
    Unavailable,
}

/// The part of an answer that destinations are told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Response {
    pub status: u16,
    pub executed_version: Option<String>,
    pub function_error: Option<String>,
    /// `None` if no function was there to answer.
    pub payload: Option<Bytes>,
    /// What a dead letter says of it, if the payload does not.
    pub message: Option<String>,
}

/// `condition` in the record for a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    Success,
    RetriesExhausted,
    EventAgeExceeded,
    ZeroReservedConcurrency,
    RecursiveInvocation,
}

/// What to do with the event.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    Retry {
        item: Item,
        due: Timestamp,
    },
    Over {
        condition: Condition,
        /// How often the function was invoked.
        count: u8,
        response: Option<Response>,
    },
}

impl Condition {
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "Success",
            Self::RetriesExhausted => "RetriesExhausted",
            Self::EventAgeExceeded => "EventAgeExceeded",
            Self::ZeroReservedConcurrency => "ZeroReservedConcurrency",
            Self::RecursiveInvocation => "RecursiveInvocation",
        }
    }
}

/// What to do with an event that has become too old before its turn came.
pub fn too_old(item: Item, config: &EventInvoke, now: Timestamp) -> Option<Verdict> {
    (now >= item.slot.at + config.max_age()).then_some(Verdict::Over {
        condition: Condition::EventAgeExceeded,
        count: item.errors,
        response: None,
    })
}

/// What to do after a try.
pub fn after(tried: Tried, item: Item, config: &EventInvoke, now: Timestamp) -> Verdict {
    let over = |condition, count, response| Verdict::Over {
        condition,
        count,
        response,
    };
    match tried {
        Tried::Answered(response) if response.function_error.is_none() => over(
            Condition::Success,
            item.errors.saturating_add(1),
            Some(response),
        ),
        Tried::Answered(response) => failed(response, item, config, now),
        Tried::NotFound(message) => {
            failed(Response::refusal(404, None, message), item, config, now)
        }
        Tried::NoConcurrency => over(Condition::ZeroReservedConcurrency, item.errors, None),
        Tried::Recursive(message) => {
            let error = Some("RecursiveInvocationException");
            let response = Response::refusal(400, error, message);
            over(Condition::RecursiveInvocation, item.errors, Some(response))
        }
        Tried::Throttled(message) => {
            let response = Response::refusal(429, None, message);
            refused(Some(response), item, config, now)
        }
        Tried::Unavailable => refused(None, item, config, now),
    }
}

fn failed(response: Response, item: Item, config: &EventInvoke, now: Timestamp) -> Verdict {
    let errors = item.errors.saturating_add(1);
    let over = |condition| Verdict::Over {
        condition,
        count: errors,
        response: Some(response.clone()),
    };
    if errors > config.max_retries() {
        return over(Condition::RetriesExhausted);
    }
    let due = now + FUNCTION_WAIT * u32::from(errors);
    // A recording shows that AWS does not wait for a try that could not be made any more.
    if due >= item.slot.at + config.max_age() {
        return over(Condition::EventAgeExceeded);
    }
    let item = Item {
        errors,
        refusals: 0,
        ..item
    };
    Verdict::Retry { item, due }
}

fn refused(
    response: Option<Response>,
    item: Item,
    config: &EventInvoke,
    now: Timestamp,
) -> Verdict {
    let wait = SERVICE_WAIT * (1 << u32::from(item.refusals.min(9)));
    let due = now + wait.min(LONGEST_SERVICE_WAIT);
    if due >= item.slot.at + config.max_age() {
        return Verdict::Over {
            condition: Condition::EventAgeExceeded,
            count: item.errors,
            response,
        };
    }
    let refusals = item.refusals.saturating_add(1);
    let item = Item { refusals, ..item };
    Verdict::Retry { item, due }
}

impl Response {
    fn refusal(status: u16, error: Option<&str>, message: String) -> Self {
        Self {
            status,
            function_error: error.map(str::to_owned),
            message: Some(message),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::record::Slot;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + seconds)
    }

    fn item() -> Item {
        Item {
            slot: Slot { at: at(0), tie: 1 },
            errors: 0,
            refusals: 0,
        }
    }

    fn error() -> Tried {
        Tried::Answered(Response {
            status: 200,
            function_error: Some("Unhandled".into()),
            ..Response::default()
        })
    }

    /// Tries until it is over: the seconds of all tries, and how it ended.
    fn run(tried: &Tried, config: &EventInvoke) -> (Vec<i64>, Condition, u8) {
        let (mut now, mut item, mut tries) = (at(0), item(), Vec::new());
        loop {
            tries.push(now.as_secs() - at(0).as_secs());
            match after(tried.clone(), item, config, now) {
                Verdict::Retry { item: again, due } => (item, now) = (again, due),
                Verdict::Over {
                    condition, count, ..
                } => return (tries, condition, count),
            }
        }
    }

    #[test]
    fn a_failing_function_is_tried_again_after_one_minute_and_then_two() {
        let ended = run(&error(), &EventInvoke::default());
        assert_eq!(ended, (vec![0, 60, 180], Condition::RetriesExhausted, 3));
        let config = EventInvoke {
            retries: Some(0),
            ..EventInvoke::default()
        };
        assert_eq!(
            run(&error(), &config),
            (vec![0], Condition::RetriesExhausted, 1)
        );
    }

    #[test]
    fn age_ends_an_event_before_a_try_that_could_not_be_made() {
        let config = |age| EventInvoke {
            age_seconds: Some(age),
            ..EventInvoke::default()
        };
        let ended = run(&error(), &config(60));
        assert_eq!(ended, (vec![0], Condition::EventAgeExceeded, 1));
        let ended = run(&error(), &config(90));
        assert_eq!(ended, (vec![0, 60], Condition::EventAgeExceeded, 2));
    }

    #[test]
    fn throttled_events_back_off_to_five_minutes_for_six_hours() {
        let throttled = Tried::Throttled("Rate Exceeded.".into());
        let (tries, condition, count) = run(&throttled, &EventInvoke::default());
        assert_eq!(tries[..10], [0, 1, 3, 7, 15, 31, 63, 127, 255, 511]);
        assert_eq!(tries[11] - tries[10], 300);
        assert_eq!((condition, count), (Condition::EventAgeExceeded, 0));
        let last = *tries.last().unwrap();
        assert!((21_000..21_600).contains(&last), "{last}");
        let (unavailable, ..) = run(&Tried::Unavailable, &EventInvoke::default());
        assert_eq!(unavailable, tries);
    }

    #[test]
    fn throttling_does_not_use_up_retries() {
        let failed = Item {
            errors: 1,
            refusals: 0,
            ..item()
        };
        let throttled = Tried::Throttled(String::new());
        let verdict = after(throttled, failed, &EventInvoke::default(), at(60));
        let Verdict::Retry { item, .. } = verdict else {
            panic!("{verdict:?}")
        };
        assert_eq!((item.errors, item.refusals), (1, 1));
    }

    #[test]
    fn without_concurrency_and_in_a_loop_there_is_no_second_try() {
        for (tried, condition) in [
            (Tried::NoConcurrency, Condition::ZeroReservedConcurrency),
            (
                Tried::Recursive(String::new()),
                Condition::RecursiveInvocation,
            ),
        ] {
            let (tries, ended, count) = run(&tried, &EventInvoke::default());
            assert_eq!((tries.len(), ended, count), (1, condition, 0));
        }
    }

    #[test]
    fn an_event_is_too_old_at_the_end_of_its_age() {
        let config = EventInvoke {
            age_seconds: Some(60),
            ..EventInvoke::default()
        };
        assert_eq!(too_old(item(), &config, at(59)), None);
        assert!(too_old(item(), &config, at(60)).is_some());
    }
}

//! Pools that are kept, and the limit of new environments.

use super::*;
use crate::admission::{Admission, Place};
use crate::provisioned::INIT_FAILURE;
use crate::{Config, testing};

fn stand() -> Arc<Stand> {
    let admission = Admission::new(&Config::default());
    let function = Arc::new(testing::function());
    let gate = admission.gate(Place::from(&*function));
    Stand::new(function, &gate)
}

fn keep(line: &mut Line, stand: &Arc<Stand>, wanted: u32) -> Vec<u64> {
    stand.want(wanted, true);
    line.keep(stand, wanted as usize)
}

/// All that can be started, with environments numbered from `first`.
fn fill(line: &mut Line, stand: &Arc<Stand>, first: u64) -> u64 {
    let mut next = first;
    loop {
        let started = starts(line);
        if started.is_empty() {
            return next;
        }
        for key in started {
            line.turn_over();
            assert!(line.started(&key, next, next).is_none(), "{}", stand.key);
            next += 1;
        }
    }
}

fn take(line: &mut Line, stand: &Arc<Stand>) -> Option<u64> {
    match line.request_kept(&stand.key)? {
        Placed::Environment(id) => Some(id),
        Placed::Waiting(..) => None,
    }
}

#[test]
fn kept_pool_is_brought_to_its_size_and_back() {
    let (mut line, stand) = (Line::new(2, 10_000), stand());
    assert!(keep(&mut line, &stand, 3).is_empty());
    assert_eq!(fill(&mut line, &stand, 1), 4);
    assert_eq!(stand.allocated(), 3);
    assert!(stand.status().is_ready());
    assert_eq!(
        keep(&mut line, &stand, 1),
        [1, 2],
        "least recently used first"
    );
    assert_eq!(stand.allocated(), 1);
    assert_eq!(keep(&mut line, &stand, 0), [3]);
    assert!(line.pools.is_empty() && line.kept.is_empty());
}

#[test]
fn busy_environment_that_is_too_many_ends_when_it_is_free() {
    let (mut line, stand) = (Line::new(4, 10_000), stand());
    keep(&mut line, &stand, 2);
    fill(&mut line, &stand, 1);
    let busy = take(&mut line, &stand).unwrap();
    let other = take(&mut line, &stand).unwrap();
    assert!(keep(&mut line, &stand, 1).is_empty());
    assert_eq!(
        line.release(&stand.key, busy, busy, Instant::now()),
        Some(busy)
    );
    assert_eq!(line.release(&stand.key, other, other, Instant::now()), None);
    assert_eq!(stand.allocated(), 1);
}

#[test]
fn invocation_waits_for_one_that_returns_and_else_spills_over() {
    let (mut line, stand) = (Line::new(4, 10_000), stand());
    keep(&mut line, &stand, 1);
    fill(&mut line, &stand, 1);
    assert_eq!(take(&mut line, &stand), Some(1));
    assert!(line.request_kept(&stand.key).is_none(), "it is busy");
    line.returning(&stand.key);
    let Some(Placed::Waiting(_, mut waiting)) = line.request_kept(&stand.key) else {
        panic!("nobody is promised the one that returns");
    };
    assert!(line.request_kept(&stand.key).is_none(), "it is promised");
    line.returned(&stand.key, 1, 1, Instant::now());
    assert_eq!(granted(&mut waiting), Some(1));
    line.returning(&stand.key);
    let Some(Placed::Waiting(_, mut waiting)) = line.request_kept(&stand.key) else {
        panic!("nobody is promised the one that returns");
    };
    line.late(&stand.key);
    assert!(matches!(
        waiting.try_recv(),
        Err(oneshot::error::TryRecvError::Closed)
    ));
    assert!(starts(&mut line).is_empty(), "one is enough");
}

#[test]
fn dead_environment_is_replaced_but_not_for_ever_at_once() {
    let (mut line, stand) = (Line::new(4, 10_000), stand());
    keep(&mut line, &stand, 1);
    let mut next = fill(&mut line, &stand, 1);
    for died in 0..1000 {
        take(&mut line, &stand).unwrap();
        line.lost(&stand.key, false);
        assert_eq!(stand.allocated(), 0);
        let actions = line.actions();
        match actions.as_slice() {
            [Action::Start(key, _)] => {
                line.turn_over();
                line.started(key, next, next);
                next += 1;
            }
            [Action::Remind(at)] => {
                assert!(died >= 8, "after {died}");
                // Later it goes on.
                line.attend();
                let later = *at + Duration::from_secs(60);
                assert!(matches!(
                    line.actions_at(later).as_slice(),
                    [Action::Start(..)]
                ));
                return;
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("replaced without end");
}

#[test]
fn failed_start_is_told_and_tried_again_later() {
    let (mut line, stand) = (Line::new(4, 10_000), stand());
    keep(&mut line, &stand, 1);
    assert_eq!(starts(&mut line).len(), 1);
    line.turn_over();
    line.freed(128, false);
    let again = line.kept_start_failed(&stand.key, INIT_FAILURE).unwrap();
    assert!(again > Instant::now() + Duration::from_secs(4));
    assert_eq!(stand.status().failure.as_deref(), Some(INIT_FAILURE));
    line.attend();
    assert!(starts(&mut line).is_empty(), "not yet");
    line.attend();
    assert_eq!(line.actions_at(again).len(), 1);
    line.turn_over();
    line.started(&stand.key, 1, 1);
    assert_eq!(stand.status().failure, None);
    assert!(stand.status().is_ready());
}

#[test]
fn starts_that_somebody_waits_for_come_first() {
    let (mut line, f, stand) = (Line::new(1, 10_000), key("f"), stand());
    keep(&mut line, &stand, 2);
    let _waiting = wait(&mut line, &f);
    assert_eq!(starts(&mut line), std::slice::from_ref(&f));
    line.turn_over();
    line.started(&f, 1, 1);
    assert_eq!(starts(&mut line), std::slice::from_ref(&stand.key));
}

#[test]
fn kept_environments_make_room_for_nobody_but_leave_some() {
    let (mut line, f, stand) = (Line::new(8, 640), key("f"), stand());
    keep(&mut line, &stand, 5);
    assert_eq!(
        fill(&mut line, &stand, 1),
        5,
        "four of 128 MB are 80 percent"
    );
    assert_eq!(stand.status().failure.as_deref(), Some(NO_MEMORY));
    let _first = wait(&mut line, &f);
    assert_eq!(starts(&mut line), std::slice::from_ref(&f));
    line.turn_over();
    let _second = wait(&mut line, &f);
    assert!(starts(&mut line).is_empty(), "nobody is ended for it");
    assert_eq!(stand.allocated(), 4);
    // With less of them the failure is over.
    keep(&mut line, &stand, 4);
    assert!(stand.status().is_ready());
}

#[test]
fn closed_placement_keeps_nothing() {
    let (mut line, stand) = (Line::new(4, 10_000), stand());
    keep(&mut line, &stand, 2);
    fill(&mut line, &stand, 1);
    assert_eq!(line.close().len(), 2);
    assert!(line.actions().is_empty());
}

#[test]
fn function_is_refused_more_environments_than_it_may_be_given() {
    let (mut line, f, g) = (Line::new(100, 1_000_000), key("f"), key("g"));
    line.limit_scaling(Rate::new(3, Duration::from_secs(3)));
    let mut waiting: Vec<_> = (0..5).map(|_| wait(&mut line, &f).1).collect();
    let now = Instant::now();
    assert_eq!(line.actions_at(now).len(), 3);
    let refused: Vec<_> = waiting
        .iter_mut()
        .map(|waiting| matches!(waiting.try_recv(), Ok(Grant::Throttled)))
        .collect();
    assert_eq!(refused, [false, false, false, true, true], "who came last");
    // All versions of a function share the limit; here both keys are of the same ARN.
    let (_, mut other) = wait(&mut line, &g);
    assert!(line.actions_at(now).is_empty());
    assert!(matches!(other.try_recv(), Ok(Grant::Throttled)));
    let _later = wait(&mut line, &g);
    assert_eq!(line.actions_at(now + Duration::from_secs(1)).len(), 1);
}

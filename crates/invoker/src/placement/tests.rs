mod kept;

use proptest::prelude::*;

use super::*;

type Line = Placement<u64, &'static str>;
type Waiting = oneshot::Receiver<Grant<u64, &'static str>>;

fn key(name: &str) -> FunctionKey {
    FunctionKey::new(name, "1", "r")
}

fn function() -> Arc<Function> {
    Arc::new(crate::testing::function())
}

fn wait(line: &mut Line, key: &FunctionKey) -> (Ticket, Waiting) {
    match line.request(key, &function()) {
        Placed::Waiting(ticket, receiver) => (ticket, receiver),
        Placed::Environment(id) => panic!("got idle environment {id}"),
    }
}

fn starts(line: &mut Line) -> Vec<FunctionKey> {
    line.actions()
        .into_iter()
        .map(|action| match action {
            Action::Start(key, _) => key,
            Action::End(id) => panic!("ended {id}"),
            Action::Yield(mb) => panic!("yields {mb} MB"),
            Action::Remind(at) => panic!("wants to be reminded at {at:?}"),
        })
        .collect()
}

fn granted(waiting: &mut Waiting) -> Option<u64> {
    match waiting.try_recv() {
        Ok(Grant::Environment(id)) => Some(id),
        _ => None,
    }
}

#[test]
fn most_recently_used_environment_is_taken_first() {
    let (mut line, f) = (Line::new(4, 1_000), key("f"));
    let (_, _first) = wait(&mut line, &f);
    let (_, _second) = wait(&mut line, &f);
    assert_eq!(starts(&mut line).len(), 2);
    assert!(line.started(&f, 1, 1).is_none());
    assert!(line.started(&f, 2, 2).is_none());
    line.release(&f, 2, 2, Instant::now());
    line.release(&f, 1, 1, Instant::now());
    assert!(matches!(
        line.request(&f, &function()),
        Placed::Environment(1)
    ));
    assert!(matches!(
        line.request(&f, &function()),
        Placed::Environment(2)
    ));
}

#[test]
fn environment_that_becomes_free_serves_the_one_who_waits_for_a_turn() {
    let (mut line, f) = (Line::new(1, 10_000), key("f"));
    let (_, mut first) = wait(&mut line, &f);
    let (_, mut second) = wait(&mut line, &f);
    let (_, mut third) = wait(&mut line, &f);
    assert_eq!(starts(&mut line), std::slice::from_ref(&f));
    line.started(&f, 1, 1);
    line.turn_over();
    assert_eq!(granted(&mut first), Some(1));
    assert_eq!(starts(&mut line), std::slice::from_ref(&f));
    // The first invocation is done before the second start is.
    assert!(line.release(&f, 1, 1, Instant::now()).is_none());
    assert_eq!(granted(&mut second), Some(1));
    assert_eq!(granted(&mut third), None);
    line.started(&f, 2, 2);
    assert_eq!(granted(&mut third), Some(2));
}

#[test]
fn starts_that_nobody_waits_for_any_more_do_not_happen() {
    let (mut line, f) = (Line::new(1, 10_000), key("f"));
    let (_, _first) = wait(&mut line, &f);
    let (ticket, second) = wait(&mut line, &f);
    assert_eq!(starts(&mut line).len(), 1);
    drop(second);
    line.leave(&f, ticket);
    line.turn_over();
    assert_eq!(starts(&mut line).len(), 0);
}

#[test]
fn turns_go_round_in_order_of_arrival_over_all_functions() {
    let (mut line, f, g) = (Line::new(1, 10_000), key("f"), key("g"));
    let _waiting = [
        wait(&mut line, &f),
        wait(&mut line, &g),
        wait(&mut line, &f),
        wait(&mut line, &g),
    ];
    let mut order = Vec::new();
    for _ in 0..4 {
        order.extend(starts(&mut line));
        line.turn_over();
    }
    assert_eq!(order, [f.clone(), g.clone(), f, g]);
}

#[test]
fn returning_environment_saves_a_start_unless_it_is_late() {
    let (mut line, f) = (Line::new(4, 10_000), key("f"));
    let (_, mut first) = wait(&mut line, &f);
    starts(&mut line);
    line.started(&f, 1, 1);
    assert_eq!(granted(&mut first), Some(1));
    line.returning(&f);
    let (_, mut second) = wait(&mut line, &f);
    assert!(starts(&mut line).is_empty());
    line.late(&f);
    assert_eq!(starts(&mut line), std::slice::from_ref(&f));
    line.release(&f, 1, 1, Instant::now());
    assert_eq!(granted(&mut second), Some(1));
}

#[test]
fn memory_is_never_promised_twice() {
    let (mut line, f, g) = (Line::new(8, 256), key("f"), key("g"));
    let (_, mut first) = wait(&mut line, &f);
    let (_, mut second) = wait(&mut line, &f);
    assert_eq!(starts(&mut line).len(), 2);
    line.started(&f, 1, 1);
    line.started(&f, 2, 2);
    assert!(granted(&mut first).is_some() && granted(&mut second).is_some());
    let (_, _third) = wait(&mut line, &g);
    assert!(line.actions().is_empty(), "both are busy: g waits");
    line.release(&f, 1, 1, Instant::now());
    let actions = line.actions();
    assert!(matches!(actions[..], [Action::End(1)]), "{actions:?}");
    assert!(line.actions().is_empty(), "not before it is gone");
    line.freed(128, true);
    assert_eq!(starts(&mut line), std::slice::from_ref(&g));
}

#[test]
fn function_larger_than_the_budget_runs_alone() {
    let (mut line, f) = (Line::new(8, 100), key("f"));
    let _waiting = [wait(&mut line, &f), wait(&mut line, &f)];
    assert_eq!(starts(&mut line).len(), 1);
    line.freed(128, false);
    assert_eq!(starts(&mut line).len(), 1);
}

#[test]
fn failed_start_is_reported_to_one_and_retried_for_the_others() {
    let (mut line, f) = (Line::new(1, 10_000), key("f"));
    let (_, mut first) = wait(&mut line, &f);
    let (_, mut second) = wait(&mut line, &f);
    starts(&mut line);
    line.turn_over();
    assert!(line.start_failed(&f, "broken").is_none());
    line.freed(128, false);
    assert!(matches!(first.try_recv(), Ok(Grant::Failed("broken"))));
    assert!(second.try_recv().is_err());
    assert_eq!(starts(&mut line).len(), 1);
}

#[test]
fn retired_function_keeps_nothing_but_serves_who_waits() {
    let (mut line, f) = (Line::new(4, 10_000), key("f"));
    let (_, mut first) = wait(&mut line, &f);
    starts(&mut line);
    line.started(&f, 1, 1);
    assert_eq!(granted(&mut first), Some(1));
    let (_, mut second) = wait(&mut line, &f);
    assert!(line.retire(&f).is_empty());
    assert!(line.release(&f, 1, 1, Instant::now()).is_none());
    assert_eq!(granted(&mut second), Some(1));
    assert_eq!(line.release(&f, 1, 1, Instant::now()), Some(1));
}

#[test]
fn prepare_starts_one_and_only_one() {
    let (mut line, f) = (Line::new(4, 10_000), key("f"));
    line.prepare(&f, &function());
    line.prepare(&f, &function());
    assert_eq!(starts(&mut line), std::slice::from_ref(&f));
    line.prepare(&f, &function());
    assert!(starts(&mut line).is_empty());
    line.started(&f, 1, 1);
    assert!(matches!(
        line.request(&f, &function()),
        Placed::Environment(1)
    ));
}

proptest! {
    /// Random arrivals, ends and failures: everyone is served in order of arrival within their
    /// function, memory stays within the budget, and the line never stalls.
    #[test]
    fn everyone_is_served_in_order(
        arrivals in prop::collection::vec(0u8..3, 1..60),
        choices in prop::collection::vec(any::<u8>(), 1..200),
        parallel in 1usize..4,
        budget in 1u64..8,
    ) {
        let mut line = Line::new(parallel, budget * 128);
        let keys = [key("a"), key("b"), key("c")];
        let mut arrivals = arrivals.into_iter();
        let mut choices = choices.into_iter().chain([0, 1, 2]).cycle();
        let mut waiting: Vec<(FunctionKey, Waiting)> = Vec::new();
        let (mut starting, mut busy) = (Vec::new(), Vec::new());
        let (mut next_id, mut alive, mut left) = (0u64, 0u64, arrivals.len());
        let mut rounds = 0;
        while left > 0 {
            rounds += 1;
            prop_assert!(rounds < 5_000, "the line stalled");
            match choices.next().unwrap() % 3 {
                0 => if let Some(which) = arrivals.next() {
                    let key = keys[usize::from(which)].clone();
                    match line.request(&key, &function()) {
                        Placed::Environment(id) => { busy.push((key, id)); left -= 1; }
                        Placed::Waiting(_, receiver) => waiting.push((key, receiver)),
                    }
                },
                1 => if let Some(key) = starting.pop() {
                    line.turn_over();
                    next_id += 1;
                    let ended = line.started(&key, next_id, next_id);
                    prop_assert!(ended.is_none());
                },
                _ => if !busy.is_empty() {
                    let (key, id) = busy.remove(0);
                    prop_assert!(line.release(&key, id, id, Instant::now()).is_none());
                },
            }
            loop {
                let actions = line.actions();
                if actions.is_empty() { break }
                for action in actions {
                    match action {
                        Action::Start(key, _) => { starting.push(key); alive += 1; }
                        Action::End(_) => { alive -= 1; line.freed(128, true); }
                        Action::Yield(mb) => panic!("nothing is parked: {mb} MB"),
                        Action::Remind(at) => panic!("nothing is kept: {at:?}"),
                    }
                }
                prop_assert!(alive <= budget);
            }
            let mut unserved = std::collections::HashSet::new();
            let mut still = Vec::new();
            for (key, mut receiver) in waiting {
                match receiver.try_recv() {
                    Ok(Grant::Environment(id)) => {
                        prop_assert!(!unserved.contains(&key), "overtaken in line");
                        busy.push((key, id));
                        left -= 1;
                    }
                    _ => { unserved.insert(key.clone()); still.push((key, receiver)); }
                }
            }
            waiting = still;
        }
    }
}

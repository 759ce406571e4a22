use clock::Clock;
use proptest::prelude::*;

use super::*;
use crate::Invocation;

fn event(id: &str) -> Arc<Event> {
    let invocation_id = format!("i-{id}");
    Arc::new(Event {
        invocation: Invocation {
            request_id: id.into(),
            ..Invocation::default()
        },
        invocation_id,
        ..Event::default()
    })
}

fn ready() -> Exchange {
    let (exchange, mut init) = Exchange::new(Init::OnDemand);
    assert!(matches!(exchange.next(Caller::default()), Next::Wait(_)));
    assert!(matches!(init.try_recv(), Ok(InitOutcome::Ready)));
    exchange
}

fn response() -> Answer {
    Answer::Response {
        body: Bytes::from_static(b"1"),
        content_type: None,
    }
}

#[test]
fn parked_runtime_gets_the_event_at_once() {
    let (exchange, _init) = Exchange::new(Init::OnDemand);
    let Next::Wait(mut parked) = exchange.next(Caller::default()) else {
        panic!("must wait")
    };
    let _answer = exchange.deliver(event("a")).unwrap();
    assert_eq!(parked.try_recv().unwrap().invocation.request_id, "a");
}

#[test]
fn event_survives_a_lost_connection() {
    let (exchange, _init) = Exchange::new(Init::OnDemand);
    drop(exchange.next(Caller::default()));
    let _answer = exchange.deliver(event("a")).unwrap();
    let Next::Event(event) = exchange.next(Caller::default()) else {
        panic!("must be there")
    };
    assert_eq!(event.invocation.request_id, "a");
}

#[test]
fn answer_reaches_the_invoker_and_the_runtime_comes_back() {
    let exchange = ready();
    let mut answer = exchange.deliver(event("a")).unwrap();
    exchange
        .claim("a", None, Kind::Response)
        .unwrap()
        .answer(response());
    assert!(matches!(answer.try_recv(), Ok(Answer::Response { .. })));
    let mut back = exchange.back();
    assert!(back.try_recv().is_err());
    assert!(matches!(exchange.next(Caller::default()), Next::Wait(_)));
    assert_eq!(back.try_recv().unwrap(), Back::Ready);
}

#[test]
fn second_answer_is_an_invalid_transition_and_a_foreign_one_an_invalid_id() {
    let exchange = ready();
    let _answer = exchange.deliver(event("a")).unwrap();
    assert_eq!(
        exchange.claim("b", None, Kind::Response).unwrap_err(),
        Refusal::UnknownRequest
    );
    assert_eq!(
        exchange
            .claim("a", Some(b"i-earlier"), Kind::Response)
            .unwrap_err(),
        Refusal::UnknownRequest
    );
    exchange
        .claim("a", Some(b"i-a"), Kind::Response)
        .unwrap()
        .answer(response());
    assert_eq!(
        exchange.claim("a", None, Kind::Error).unwrap_err(),
        Refusal::Transition("ResponseSent", "InvocationErrorResponse")
    );
}

#[test]
fn dropped_claim_is_a_truncated_response() {
    let exchange = ready();
    let mut answer = exchange.deliver(event("a")).unwrap();
    drop(exchange.claim("a", None, Kind::Response).unwrap());
    assert!(matches!(answer.try_recv(), Ok(Answer::Truncated)));
    assert!(matches!(exchange.next(Caller::default()), Next::Wait(_)));
}

#[test]
fn exit_is_told_to_everyone_who_waits() {
    let (exchange, mut init) = Exchange::new(Init::OnDemand);
    exchange.close(Exit::Code(1));
    assert!(matches!(
        init.try_recv(),
        Ok(InitOutcome::Exited(Exit::Code(1)))
    ));

    let exchange = ready();
    let mut answer = exchange.deliver(event("a")).unwrap();
    exchange.close(Exit::Signal(9));
    assert!(matches!(
        answer.try_recv(),
        Ok(Answer::Exited(Exit::Signal(9)))
    ));
    assert_eq!(
        exchange.back().try_recv().unwrap(),
        Back::Exited(Exit::Signal(9))
    );
    assert!(exchange.deliver(event("b")).is_err());
    assert!(matches!(exchange.next(Caller::default()), Next::Refused(_)));
}

#[test]
fn init_error_is_accepted_once_and_only_before_the_first_next() {
    let fault = RuntimeFault {
        error_type: None,
        body: Bytes::from_static(b"{}"),
    };
    let (exchange, mut init) = Exchange::new(Init::OnDemand);
    exchange.init_error(fault.clone()).unwrap();
    assert!(matches!(init.try_recv(), Ok(InitOutcome::Failed(_))));
    assert!(exchange.init_error(fault.clone()).is_err());
    assert_eq!(
        ready().init_error(fault).unwrap_err(),
        Refusal::Transition("Ready", "InitError")
    );
}

const FROM: Caller = Caller {
    port: 40_001,
    http_1_0: false,
    connection: None,
};

fn fault() -> RuntimeFault {
    RuntimeFault {
        error_type: Some("Runtime.AfterRestoreError".into()),
        body: Bytes::from_static(b"{}"),
    }
}

fn rehearsing(events: &[&'static str]) -> (Exchange, oneshot::Receiver<InitOutcome>) {
    Exchange::new(Init::Snapshot(Rehearsal {
        events: events
            .iter()
            .map(|event| Bytes::from_static(event.as_bytes()))
            .collect(),
        clock: Clock::manual(clock::Timestamp::from_secs(1_000)),
        invoked_arn: "arn".into(),
        timeout: Duration::from_secs(3),
    }))
}

fn answer_rehearsal(exchange: &Exchange, event: &Event) {
    let id = &event.invocation.request_id;
    let claim = exchange.claim(id, Some(event.invocation_id.as_bytes()), Kind::Response);
    claim.unwrap().answer(response());
}

/// A runtime that was frozen in `restore/next`.
fn thawed() -> (Exchange, oneshot::Receiver<RestoreOutcome>) {
    Exchange::thawed(&[Pending {
        request: PendingRequest::RestoreNext,
        caller: FROM,
    }])
}

#[test]
fn runtime_that_knows_snapshots_is_cut_in_restore_next() {
    let (exchange, mut init) = rehearsing(&[]);
    assert!(matches!(exchange.priming_next(), Next::Nothing));
    let RestoreNext::Wait(_waiting) = exchange.restore_next(FROM) else {
        panic!("must wait")
    };
    assert!(matches!(init.try_recv(), Ok(InitOutcome::RestoreReady)));
    let pending = exchange.pending();
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0].request, PendingRequest::RestoreNext);
    assert_eq!(pending[0].caller, FROM);
}

#[test]
fn runtime_that_does_not_is_cut_in_the_next_after_all_priming_events() {
    let (exchange, mut init) = rehearsing(&["1", "2"]);
    for payload in ["1", "2"] {
        let Next::Event(event) = exchange.next(FROM) else {
            panic!("no event")
        };
        assert_eq!(event.invocation.payload, payload);
        assert_eq!(event.invocation.invoked_arn, "arn");
        assert_eq!(event.deadline_ms, 1_003_000);
        assert!(init.try_recv().is_err());
        answer_rehearsal(&exchange, &event);
    }
    let Next::Wait(_waiting) = exchange.next(FROM) else {
        panic!("must wait")
    };
    assert!(matches!(init.try_recv(), Ok(InitOutcome::Ready)));
    assert_eq!(
        exchange.pending()[0].request,
        PendingRequest::InvocationNext
    );
}

#[test]
fn priming_event_is_there_again_until_it_is_answered() {
    let (exchange, _init) = rehearsing(&["1"]);
    let Next::Event(first) = exchange.priming_next() else {
        panic!("no event")
    };
    let Next::Event(again) = exchange.priming_next() else {
        panic!("no event")
    };
    assert_eq!(first.invocation.request_id, again.invocation.request_id);
    let id = &first.invocation.request_id;
    drop(exchange.claim(id, None, Kind::Error).unwrap());
    assert!(matches!(exchange.priming_next(), Next::Nothing));
    assert!(matches!(exchange.restore_next(FROM), RestoreNext::Wait(_)));
    assert!(matches!(exchange.priming_next(), Next::Refused(_)));
}

#[test]
fn warming_up_changes_nothing_and_ends_with_the_init() {
    let (exchange, mut init) = rehearsing(&["1"]);
    let event = exchange.warm_event().unwrap();
    assert_eq!(event.invocation.payload, "{}");
    assert!(!event.headers().is_empty());
    exchange.warm_answer().unwrap();
    assert!(init.try_recv().is_err());
    assert!(matches!(exchange.priming_next(), Next::Event(_)));
    let (exchange, _init) = rehearsing(&[]);
    let _waiting = exchange.restore_next(FROM);
    assert!(exchange.warm_event().is_err());
    assert!(exchange.warm_answer().is_err());
}

#[test]
fn hook_before_the_snapshot_may_fail_after_priming() {
    let (exchange, mut init) = rehearsing(&["1"]);
    let Next::Event(event) = exchange.priming_next() else {
        panic!("no event")
    };
    assert!(exchange.init_error(fault()).is_err(), "an event is running");
    answer_rehearsal(&exchange, &event);
    exchange.init_error(fault()).unwrap();
    assert!(matches!(init.try_recv(), Ok(InitOutcome::Failed(_))));
    assert!(matches!(
        exchange.restore_next(FROM),
        RestoreNext::Refused(_)
    ));
}

#[test]
fn thawed_runtime_goes_on_when_released_and_serves_when_it_asks() {
    let (exchange, mut outcome) = thawed();
    let RestoreNext::Wait(mut waiting) = exchange.restore_next(FROM) else {
        panic!("must wait")
    };
    assert!(waiting.try_recv().is_err());
    exchange.release();
    assert!(waiting.try_recv().is_ok());
    assert!(outcome.try_recv().is_err());
    assert!(exchange.deliver(event("a")).is_err(), "its hooks run");
    let Next::Wait(_parked) = exchange.next(FROM) else {
        panic!("must wait")
    };
    assert!(matches!(
        outcome.try_recv(),
        Ok(RestoreOutcome::Ready { .. })
    ));
    assert!(exchange.deliver(event("a")).is_ok());
}

#[test]
fn early_release_is_kept_for_the_request_and_the_hooks_are_timed_from_there() {
    let (exchange, mut outcome) = thawed();
    exchange.release();
    std::thread::sleep(Duration::from_millis(30));
    assert!(matches!(exchange.restore_next(FROM), RestoreNext::Go));
    assert!(
        matches!(exchange.restore_next(FROM), RestoreNext::Refused(_)),
        "once"
    );
    let _parked = exchange.next(FROM);
    let Ok(RestoreOutcome::Ready { hooks }) = outcome.try_recv() else {
        panic!("not ready")
    };
    assert!(hooks < Duration::from_millis(30), "{hooks:?}");
}

#[test]
fn release_that_met_a_broken_connection_is_kept() {
    let (exchange, _outcome) = thawed();
    drop(exchange.restore_next(FROM));
    assert!(exchange.pending().is_empty());
    exchange.release();
    assert!(matches!(exchange.restore_next(FROM), RestoreNext::Go));
}

#[test]
fn image_without_restore_next_is_ready_when_its_request_arrives() {
    let (exchange, mut outcome) = Exchange::thawed(&[Pending {
        request: PendingRequest::InvocationNext,
        caller: FROM,
    }]);
    exchange.release();
    assert!(outcome.try_recv().is_err());
    assert!(exchange.deliver(event("a")).is_err());
    let Next::Wait(_parked) = exchange.next(FROM) else {
        panic!("must wait")
    };
    let Ok(RestoreOutcome::Ready { hooks }) = outcome.try_recv() else {
        panic!("not ready")
    };
    assert_eq!(hooks, Duration::ZERO);
}

#[test]
fn failed_hook_after_the_restore_is_told_and_ends_the_environment() {
    let (exchange, mut outcome) = thawed();
    assert_eq!(
        exchange.restore_error(fault()).unwrap_err(),
        Refusal::Transition("RestoreReady", "RestoreError")
    );
    exchange.release();
    exchange.restore_error(fault()).unwrap();
    assert!(matches!(outcome.try_recv(), Ok(RestoreOutcome::Failed(_))));
    assert!(exchange.restore_error(fault()).is_err());
    assert!(matches!(exchange.next(FROM), Next::Refused(_)));
}

#[test]
fn exit_ends_the_restore() {
    let (exchange, mut outcome) = thawed();
    exchange.release();
    exchange.close(Exit::Code(65));
    assert!(matches!(
        outcome.try_recv(),
        Ok(RestoreOutcome::Exited(Exit::Code(65)))
    ));
}

#[test]
fn runtime_for_invocations_has_no_restore_phase() {
    let (exchange, _init) = Exchange::new(Init::OnDemand);
    assert!(!exchange.is_of_snapshot());
    assert!(matches!(
        exchange.restore_next(FROM),
        RestoreNext::Refused(Refusal::Transition("Started", "Ready"))
    ));
    assert!(matches!(exchange.priming_next(), Next::Refused(_)));
}

#[tokio::test]
async fn arrival_is_noticed_whether_it_is_early_or_late() {
    let (exchange, _outcome) = thawed();
    let exchange = Arc::new(exchange);
    let arrival = tokio::spawn({
        let exchange = Arc::clone(&exchange);
        async move { exchange.arrived().await }
    });
    tokio::task::yield_now().await;
    assert!(!arrival.is_finished());
    let _waiting = exchange.restore_next(FROM);
    arrival.await.unwrap();
    exchange.arrived().await;
}

#[derive(Clone, Debug)]
enum Step {
    Next,
    RestoreNext,
    PrimingNext,
    Deliver(u8),
    Claim(u8),
    DropClaim(u8),
    ClaimRehearsal,
    InitError,
    Release,
    RestoreError,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Next),
        2 => Just(Step::RestoreNext),
        2 => Just(Step::PrimingNext),
        4 => (0u8..3).prop_map(Step::Deliver),
        4 => (0u8..3).prop_map(Step::Claim),
        1 => (0u8..3).prop_map(Step::DropClaim),
        4 => Just(Step::ClaimRehearsal),
        1 => Just(Step::InitError),
        2 => Just(Step::Release),
        1 => Just(Step::RestoreError),
        1 => Just(Step::Close),
    ]
}

fn any_exchange(kind: u8) -> Exchange {
    match kind {
        0 => Exchange::new(Init::OnDemand).0,
        1 => rehearsing(&["1", "2"]).0,
        _ => thawed().0,
    }
}

proptest! {
    /// Whatever a runtime does, and whatever it is started for, every delivered event is answered
    /// at most once, by its own id or by the exit; no event is accepted while another is
    /// unanswered, nor before the runtime has asked for one.
    #[test]
    fn every_event_is_answered_at_most_once(
        kind in 0u8..3,
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let exchange = any_exchange(kind);
        let mut parked = Vec::new();
        let mut asked = false;
        let mut rehearsal: Option<Arc<Event>> = None;
        let mut running: Option<(u8, oneshot::Receiver<Answer>)> = None;
        for step in steps {
            match step {
                Step::Next | Step::PrimingNext => {
                    let got = match step {
                        Step::Next => exchange.next(FROM),
                        _ => exchange.priming_next(),
                    };
                    match got {
                        Next::Wait(receiver) => {
                            prop_assert!(running.is_none() && rehearsal.is_none());
                            asked = true;
                            parked.push(receiver);
                        }
                        Next::Event(event) => match &running {
                            Some((id, _)) => {
                                prop_assert_eq!(&event.invocation.request_id, &id.to_string());
                            }
                            None => rehearsal = Some(event),
                        },
                        Next::Nothing | Next::Refused(_) => {}
                    }
                }
                Step::RestoreNext => {
                    if !matches!(exchange.restore_next(FROM), RestoreNext::Refused(_)) {
                        prop_assert!(!asked && rehearsal.is_none());
                    }
                }
                Step::Deliver(id) => {
                    if let Ok(answer) = exchange.deliver(event(&id.to_string())) {
                        prop_assert!(running.is_none() && asked);
                        running = Some((id, answer));
                    }
                }
                Step::Claim(id) | Step::DropClaim(id) => {
                    let drop_it = matches!(step, Step::DropClaim(_));
                    if let Ok(claim) = exchange.claim(&id.to_string(), None, Kind::Response) {
                        if drop_it { drop(claim) } else { claim.answer(response()) }
                        let (expected, mut answer) = running.take().expect("an event is running");
                        prop_assert_eq!(expected, id);
                        prop_assert!(answer.try_recv().is_ok());
                    }
                }
                Step::ClaimRehearsal => {
                    if let Some(event) = rehearsal.take() {
                        let id = &event.invocation.request_id;
                        if let Ok(claim) = exchange.claim(id, None, Kind::Error) {
                            claim.answer(response());
                        }
                    }
                }
                Step::InitError => drop(exchange.init_error(fault())),
                Step::Release => exchange.release(),
                Step::RestoreError => drop(exchange.restore_error(fault())),
                Step::Close => {
                    exchange.close(Exit::Code(1));
                    if let Some((_, mut answer)) = running.take() {
                        prop_assert!(matches!(answer.try_recv(), Ok(Answer::Exited(_))));
                    }
                    prop_assert!(exchange.is_closed());
                }
            }
        }
    }
}

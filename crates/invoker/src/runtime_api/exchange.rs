use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sandbox::Exit;
use tokio::sync::oneshot;

use super::event::Event;
use super::stream::StreamSource;

/// Where the invoker and one runtime meet.
///
/// The phases are those of AWS's supervisor, which serves one invocation at a time:
///
/// ```text
/// Started ──next──> Ready ──deliver──> Running ──response/error──> Responding ──> ResponseSent
///    │ init/error     ^                                                               │
///    v                └────────────────────────────next───────────────────────────────┘
/// InitError                                        (Closed from anywhere: the process is gone)
/// ```
#[derive(Debug)]
pub(crate) struct Exchange {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// A runtime waiting in `next`. Its receiver goes away when its connection does.
    parked: Option<oneshot::Sender<Arc<Event>>>,
    init: Option<oneshot::Sender<InitOutcome>>,
    back: Option<oneshot::Sender<Back>>,
}

#[derive(Debug)]
enum Phase {
    Started,
    InitError,
    Ready,
    Running {
        event: Arc<Event>,
        answer: oneshot::Sender<Answer>,
    },
    Responding {
        request_id: String,
        kind: Kind,
    },
    ResponseSent {
        request_id: String,
    },
    Closed(Exit),
}

/// How the init phase ended.
#[derive(Debug)]
pub(crate) enum InitOutcome {
    Ready,
    Failed(RuntimeFault),
    Exited(Exit),
}

/// Whether a runtime that answered can serve another invocation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Back {
    Ready,
    Exited(Exit),
}

/// The runtime cannot take an event: its process has ended.
#[derive(Debug)]
pub(crate) struct Undelivered;

/// What a runtime made of an event.
#[derive(Debug)]
pub(crate) enum Answer {
    Response {
        body: Bytes,
        content_type: Option<String>,
    },
    Stream {
        chunks: StreamSource,
        content_type: Option<String>,
    },
    Error(RuntimeFault),
    TooLarge,
    Truncated,
    InvalidResponseMode,
    /// The process ended first.
    Exited(Exit),
}

/// An error as the runtime reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RuntimeFault {
    /// `Lambda-Runtime-Function-Error-Type`, which Python and Node send for init errors only.
    pub error_type: Option<String>,
    pub body: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Response,
    Error,
}

/// What `GET .../next` gets.
#[derive(Debug)]
pub(super) enum Next {
    Event(Arc<Event>),
    Wait(oneshot::Receiver<Arc<Event>>),
    Refused(Refusal),
}

/// Why a request of the runtime is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    UnknownRequest,
    /// The names of the current and of the wanted state.
    Transition(&'static str, &'static str),
}

/// The right to answer the running invocation. Dropped without an answer, the response counts as
/// cut off.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    exchange: &'a Exchange,
    answer: Option<oneshot::Sender<Answer>>,
}

impl Exchange {
    /// For a runtime that is about to start. The receiver tells how its init phase ends.
    pub fn new() -> (Self, oneshot::Receiver<InitOutcome>) {
        let (init, outcome) = oneshot::channel();
        let state = State {
            phase: Phase::Started,
            parked: None,
            init: Some(init),
            back: None,
        };
        (
            Self {
                state: Mutex::new(state),
            },
            outcome,
        )
    }

    /// Hands an event to the runtime, which must be ready. Fails when its process has ended.
    pub fn deliver(&self, event: Arc<Event>) -> Result<oneshot::Receiver<Answer>, Undelivered> {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Ready) {
            return Err(Undelivered);
        }
        let (answer, receiver) = oneshot::channel();
        if let Some(parked) = state.parked.take() {
            // When the connection broke meanwhile, the runtime's next `next` finds the event.
            let _ = parked.send(Arc::clone(&event));
        }
        state.phase = Phase::Running { event, answer };
        Ok(receiver)
    }

    /// Resolves when the runtime that has answered asks for the next event, or ends.
    pub fn back(&self) -> oneshot::Receiver<Back> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        match &state.phase {
            Phase::Ready => drop(sender.send(Back::Ready)),
            Phase::Closed(exit) => drop(sender.send(Back::Exited(*exit))),
            _ => state.back = Some(sender),
        }
        receiver
    }

    /// The process is gone: whoever waits for it learns so.
    pub fn close(&self, exit: Exit) {
        let mut state = self.lock();
        if let Some(init) = state.init.take() {
            let _ = init.send(InitOutcome::Exited(exit));
        }
        if let Some(back) = state.back.take() {
            let _ = back.send(Back::Exited(exit));
        }
        state.parked = None;
        let phase = std::mem::replace(&mut state.phase, Phase::Closed(exit));
        if let Phase::Running { answer, .. } = phase {
            let _ = answer.send(Answer::Exited(exit));
        }
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.lock().phase, Phase::Closed(_))
    }

    pub(super) fn next(&self) -> Next {
        let mut state = self.lock();
        match &state.phase {
            Phase::Started => {
                state.phase = Phase::Ready;
                if let Some(init) = state.init.take() {
                    let _ = init.send(InitOutcome::Ready);
                }
            }
            Phase::ResponseSent { .. } => {
                state.phase = Phase::Ready;
                if let Some(back) = state.back.take() {
                    let _ = back.send(Back::Ready);
                }
            }
            Phase::Ready => {}
            // A client that lost its connection asks again and gets the same event.
            Phase::Running { event, .. } => return Next::Event(Arc::clone(event)),
            phase => return Next::Refused(Refusal::Transition(phase.name(), "Ready")),
        }
        let (sender, receiver) = oneshot::channel();
        state.parked = Some(sender);
        Next::Wait(receiver)
    }

    /// Checks that an answer belongs to the running invocation and reserves it.
    pub(super) fn claim(
        &self,
        request_id: &str,
        invocation_id: Option<&[u8]>,
        kind: Kind,
    ) -> Result<Claim<'_>, Refusal> {
        let mut state = self.lock();
        match &state.phase {
            Phase::Running { event, .. } => {
                let stale = invocation_id.is_some_and(|id| id != event.invocation_id.as_bytes());
                if event.invocation.request_id != request_id || stale {
                    return Err(Refusal::UnknownRequest);
                }
            }
            Phase::Responding {
                request_id: current,
                ..
            }
            | Phase::ResponseSent {
                request_id: current,
            } if current == request_id => {
                return Err(Refusal::Transition(state.phase.name(), kind.state_name()));
            }
            _ => return Err(Refusal::UnknownRequest),
        }
        let responding = Phase::Responding {
            request_id: request_id.to_owned(),
            kind,
        };
        match std::mem::replace(&mut state.phase, responding) {
            Phase::Running { answer, .. } => Ok(Claim {
                exchange: self,
                answer: Some(answer),
            }),
            other => {
                state.phase = other;
                Err(Refusal::UnknownRequest)
            }
        }
    }

    /// `POST .../init/error`.
    pub(super) fn init_error(&self, fault: RuntimeFault) -> Result<(), Refusal> {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Started) {
            return Err(Refusal::Transition(state.phase.name(), "InitError"));
        }
        state.phase = Phase::InitError;
        if let Some(init) = state.init.take() {
            let _ = init.send(InitOutcome::Failed(fault));
        }
        Ok(())
    }

    /// The name of the current state, for refusals of what no state permits.
    pub(super) fn state_name(&self) -> &'static str {
        self.lock().phase.name()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, so the state is whole even if it is poisoned.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

impl Phase {
    /// The names that AWS's supervisor prints in `InvalidStateTransition`.
    fn name(&self) -> &'static str {
        match self {
            Self::Started => "Started",
            Self::InitError => "InitError",
            Self::Ready => "Ready",
            Self::Running { .. } => "Running",
            Self::Responding { kind, .. } => kind.state_name(),
            Self::ResponseSent { .. } => "ResponseSent",
            Self::Closed(_) => "Exited",
        }
    }
}

impl Kind {
    const fn state_name(self) -> &'static str {
        match self {
            Self::Response => "InvocationResponse",
            Self::Error => "InvocationErrorResponse",
        }
    }
}

#[cfg(test)]
mod tests {
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
        let (exchange, mut init) = Exchange::new();
        assert!(matches!(exchange.next(), Next::Wait(_)));
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
        let (exchange, _init) = Exchange::new();
        let Next::Wait(mut parked) = exchange.next() else {
            panic!("must wait")
        };
        let _answer = exchange.deliver(event("a")).unwrap();
        assert_eq!(parked.try_recv().unwrap().invocation.request_id, "a");
    }

    #[test]
    fn event_survives_a_lost_connection() {
        let (exchange, _init) = Exchange::new();
        drop(exchange.next());
        let _answer = exchange.deliver(event("a")).unwrap();
        let Next::Event(event) = exchange.next() else {
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
        assert!(matches!(exchange.next(), Next::Wait(_)));
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
        assert!(matches!(exchange.next(), Next::Wait(_)));
    }

    #[test]
    fn exit_is_told_to_everyone_who_waits() {
        let (exchange, mut init) = Exchange::new();
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
        assert!(matches!(exchange.next(), Next::Refused(_)));
    }

    #[test]
    fn init_error_is_accepted_once_and_only_before_the_first_next() {
        let fault = RuntimeFault {
            error_type: None,
            body: Bytes::from_static(b"{}"),
        };
        let (exchange, mut init) = Exchange::new();
        exchange.init_error(fault.clone()).unwrap();
        assert!(matches!(init.try_recv(), Ok(InitOutcome::Failed(_))));
        assert!(exchange.init_error(fault.clone()).is_err());
        assert_eq!(
            ready().init_error(fault).unwrap_err(),
            Refusal::Transition("Ready", "InitError")
        );
    }

    #[derive(Clone, Debug)]
    enum Step {
        Next,
        Deliver(u8),
        Claim(u8),
        DropClaim(u8),
        InitError,
        Close,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Next),
            4 => (0u8..3).prop_map(Step::Deliver),
            4 => (0u8..3).prop_map(Step::Claim),
            1 => (0u8..3).prop_map(Step::DropClaim),
            1 => Just(Step::InitError),
            1 => Just(Step::Close),
        ]
    }

    proptest! {
        /// Whatever a runtime does, every delivered event is answered at most once, by its own id
        /// or by the exit, and no event is accepted while another is unanswered.
        #[test]
        fn every_event_is_answered_at_most_once(steps in prop::collection::vec(step(), 0..60)) {
            let (exchange, _init) = Exchange::new();
            let mut parked = Vec::new();
            let mut running: Option<(u8, oneshot::Receiver<Answer>)> = None;
            for step in steps {
                match step {
                    Step::Next => match exchange.next() {
                        Next::Wait(receiver) => {
                            prop_assert!(running.is_none());
                            parked.push(receiver);
                        }
                        Next::Event(event) => {
                            let (id, _) = running.as_ref().expect("an event is running");
                            prop_assert_eq!(&event.invocation.request_id, &id.to_string());
                        }
                        Next::Refused(_) => {}
                    },
                    Step::Deliver(id) => {
                        if let Ok(answer) = exchange.deliver(event(&id.to_string())) {
                            prop_assert!(running.is_none());
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
                    Step::InitError => {
                        let fault = RuntimeFault { error_type: None, body: Bytes::new() };
                        let _ = exchange.init_error(fault);
                    }
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
}

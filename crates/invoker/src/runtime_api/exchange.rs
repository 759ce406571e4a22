mod claim;
mod rehearsal;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sandbox::Exit;
use tokio::sync::{Notify, oneshot};

use super::event::Event;
use super::replay::{Caller, Pending, PendingRequest};
use super::stream::StreamSource;
use super::traffic::{Quiet, Traffic};

pub(super) use claim::Claim;
pub(crate) use rehearsal::Rehearsal;

/// Where the invoker and one runtime meet.
///
/// The phases are those of AWS's supervisor, which serves one invocation at a time:
///
/// ```text
/// Started ──next──> Ready ──deliver──> Running ──response/error──> Responding ──> ResponseSent
///  │  │ init/error    ^ ^                                                              │
///  │  v               │ └────────────────────────────next──────────────────────────────┘
///  │ InitError        └─next──────────────┐
///  └──restore/next──> RestoreReady ──> Restoring ──restore/error──> RestoreError
///                                         (Closed from anywhere: the process is gone)
/// ```
///
/// A snapshot is cut in `RestoreReady`, or in `Ready` if the runtime does not know `restore/next`.
/// Until then priming events go through Running and ResponseSent as any other event does; nobody
/// hears of their answers.
#[derive(Debug)]
pub(crate) struct Exchange {
    state: Mutex<State>,
    /// A runtime has begun to wait for the answer to one of the two `next` calls.
    waits: Notify,
    traffic: Arc<Traffic>,
    of_snapshot: bool,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    waiting: Option<Waiting>,
    init: Option<oneshot::Sender<InitOutcome>>,
    rehearsal: Option<Rehearsal>,
    rehearsed: u64,
    restore: Restore,
    /// When the runtime began to answer the latest event.
    claimed: Option<Instant>,
    back: Option<oneshot::Sender<Back>>,
}

/// A runtime that waits for an answer. The receiver goes away when its connection does.
#[derive(Debug)]
struct Waiting {
    caller: Caller,
    wake: Wake,
}

#[derive(Debug)]
enum Wake {
    Event(oneshot::Sender<Arc<Event>>),
    Restore(oneshot::Sender<()>),
}

#[derive(Debug, Default)]
struct Restore {
    outcome: Option<oneshot::Sender<RestoreOutcome>>,
    /// It was released before its `restore/next` was here to be answered.
    early: bool,
    released: Option<Instant>,
}

#[derive(Debug)]
enum Phase {
    Started,
    InitError,
    RestoreReady,
    Restoring,
    RestoreError,
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

/// What a runtime is started for.
#[derive(Debug)]
pub(crate) enum Init {
    /// To serve invocations.
    OnDemand,
    /// To be frozen when it has come up.
    Snapshot(Rehearsal),
}

/// How the init phase ended.
#[derive(Debug)]
pub(crate) enum InitOutcome {
    /// The runtime asks for its first event.
    Ready,
    /// The runtime of a snapshot waits in `restore/next`.
    RestoreReady,
    Failed(RuntimeFault),
    Exited(Exit),
}

/// How the restore phase ended.
#[derive(Debug)]
pub(crate) enum RestoreOutcome {
    /// The runtime asks for an event.
    Ready {
        /// From the answer to `restore/next` to this: what the hooks after the restore took.
        hooks: Duration,
    },
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

/// What `GET .../invocation/next` and `GET .../priming/next` get.
#[derive(Debug)]
pub(super) enum Next {
    Event(Arc<Event>),
    Wait(oneshot::Receiver<Arc<Event>>),
    /// No priming event is left.
    Nothing,
    Refused(Refusal),
}

/// What `GET .../restore/next` gets.
#[derive(Debug)]
pub(super) enum RestoreNext {
    Go,
    Wait(oneshot::Receiver<()>),
    Refused(Refusal),
}

/// Why a request of the runtime is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    UnknownRequest,
    /// The names of the current and of the wanted state.
    Transition(&'static str, &'static str),
}

impl Exchange {
    /// For a runtime that is about to start. The receiver tells how its init phase ends.
    pub fn new(init: Init) -> (Self, oneshot::Receiver<InitOutcome>) {
        let (sender, outcome) = oneshot::channel();
        let rehearsal = match init {
            Init::OnDemand => None,
            Init::Snapshot(rehearsal) => Some(rehearsal),
        };
        let of_snapshot = rehearsal.is_some();
        let state = State {
            init: Some(sender),
            rehearsal,
            ..State::new(Phase::Started)
        };
        (Self::of(state, of_snapshot), outcome)
    }

    /// For a runtime that is about to be thawed, from where [`Exchange::pending`] told that it
    /// was. The receiver tells how its restore phase ends.
    pub fn thawed(pending: &[Pending]) -> (Self, oneshot::Receiver<RestoreOutcome>) {
        let (sender, outcome) = oneshot::channel();
        let knows_restore = pending
            .iter()
            .any(|pending| pending.request == PendingRequest::RestoreNext);
        let phase = if knows_restore {
            Phase::RestoreReady
        } else {
            Phase::Restoring
        };
        let mut state = State::new(phase);
        state.restore.outcome = Some(sender);
        (Self::of(state, true), outcome)
    }

    fn of(state: State, of_snapshot: bool) -> Self {
        Self {
            state: Mutex::new(state),
            waits: Notify::new(),
            traffic: Arc::default(),
            of_snapshot,
        }
    }

    /// The runtime was started for a snapshot, or comes from one: it may use SnapStart's calls.
    pub(super) const fn is_of_snapshot(&self) -> bool {
        self.of_snapshot
    }

    /// What the runtime of a snapshot waits for, once its init has ended: the image needs it.
    pub fn pending(&self) -> Vec<Pending> {
        let state = self.lock();
        let waiting = state.waiting.iter().filter(|waiting| waiting.is_there());
        waiting
            .map(|waiting| Pending {
                request: waiting.request(),
                caller: waiting.caller,
            })
            .collect()
    }

    /// Resolves when the runtime waits for the answer to one of the two `next` calls: a thawed
    /// one is then as far as it gets before [`Exchange::release`].
    pub async fn arrived(&self) {
        loop {
            let waits = self.waits.notified();
            if self.lock().is_waited_for() {
                return;
            }
            waits.await;
        }
    }

    /// Resolves when no request is under way but the one that waits for an answer of the invoker.
    pub async fn quiet(&self) -> Quiet {
        self.traffic.quiet().await
    }

    /// Whether a snapshot that was cut after that moment misses nothing that the processes sent.
    /// To be asked when they have been killed; resolves when their connections have ended.
    pub async fn was_quiet_since(&self, since: Quiet) -> bool {
        self.traffic.lasted(since).await
    }

    /// Lets a runtime that waits in `restore/next`, or is about to, go on. One that waits in
    /// `invocation/next` needs no release.
    pub fn release(&self) {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::RestoreReady) {
            return;
        }
        state.phase = Phase::Restoring;
        state.restore.released = Some(Instant::now());
        state.restore.early = match state.waiting.take() {
            // When the connection broke meanwhile, the runtime asks again.
            Some(Waiting {
                wake: Wake::Restore(wake),
                ..
            }) => wake.send(()).is_err(),
            _ => true,
        };
    }

    /// Hands an event to the runtime, which must be ready. Fails when its process has ended.
    pub fn deliver(&self, event: Arc<Event>) -> Result<oneshot::Receiver<Answer>, Undelivered> {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Ready) {
            return Err(Undelivered);
        }
        let (answer, receiver) = oneshot::channel();
        if let Some(Waiting {
            wake: Wake::Event(wake),
            ..
        }) = state.waiting.take()
        {
            // When the connection broke meanwhile, the runtime's next `next` finds the event.
            let _ = wake.send(Arc::clone(&event));
        }
        state.phase = Phase::Running { event, answer };
        state.claimed = None;
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
        if let Some(outcome) = state.restore.outcome.take() {
            let _ = outcome.send(RestoreOutcome::Exited(exit));
        }
        if let Some(back) = state.back.take() {
            let _ = back.send(Back::Exited(exit));
        }
        state.waiting = None;
        let phase = std::mem::replace(&mut state.phase, Phase::Closed(exit));
        if let Phase::Running { answer, .. } = phase {
            let _ = answer.send(Answer::Exited(exit));
        }
    }

    /// When the runtime began to answer the event it was given last; `None` if it has not.
    pub fn claimed(&self) -> Option<Instant> {
        self.lock().claimed
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.lock().phase, Phase::Closed(_))
    }

    /// `GET .../invocation/next`.
    pub(super) fn next(&self, caller: Caller) -> Next {
        let mut state = self.lock();
        match &state.phase {
            Phase::Started | Phase::ResponseSent { .. } if state.init.is_some() => {
                if let Some(event) = state.rehearse() {
                    return Next::Event(event);
                }
                state.phase = Phase::Ready;
                if let Some(init) = state.init.take() {
                    let _ = init.send(InitOutcome::Ready);
                }
            }
            Phase::Restoring => {
                state.phase = Phase::Ready;
                let hooks = state.restore.released.map(|released| released.elapsed());
                if let Some(outcome) = state.restore.outcome.take() {
                    let _ = outcome.send(RestoreOutcome::Ready {
                        hooks: hooks.unwrap_or_default(),
                    });
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
        self.wait(&mut state, caller, Wake::Event(sender));
        Next::Wait(receiver)
    }

    /// `GET .../restore/next`.
    pub(super) fn restore_next(&self, caller: Caller) -> RestoreNext {
        let mut state = self.lock();
        match &state.phase {
            Phase::Started | Phase::ResponseSent { .. } if state.is_rehearsing() => {
                state.phase = Phase::RestoreReady;
                if let Some(init) = state.init.take() {
                    let _ = init.send(InitOutcome::RestoreReady);
                }
            }
            // Asked again after a lost connection, or for the first time after the thaw.
            Phase::RestoreReady => {}
            Phase::Restoring if state.restore.early => {
                state.restore.early = false;
                state.restore.released = Some(Instant::now());
                return RestoreNext::Go;
            }
            // The wanted state is what AWS's supervisor prints.
            phase => return RestoreNext::Refused(Refusal::Transition(phase.name(), "Ready")),
        }
        let (sender, receiver) = oneshot::channel();
        self.wait(&mut state, caller, Wake::Restore(sender));
        RestoreNext::Wait(receiver)
    }

    /// `GET .../firn/priming/next`.
    pub(super) fn priming_next(&self) -> Next {
        let mut state = self.lock();
        match &state.phase {
            Phase::Started | Phase::ResponseSent { .. } if state.is_rehearsing() => {
                state.rehearse().map_or(Next::Nothing, Next::Event)
            }
            Phase::Running { event, .. } if state.is_rehearsing() => Next::Event(Arc::clone(event)),
            phase => Next::Refused(Refusal::Transition(phase.name(), "Running")),
        }
    }

    /// `GET .../firn/warm`: an event that changes nothing.
    pub(super) fn warm_event(&self) -> Result<Event, Refusal> {
        let mut state = self.lock();
        if !state.is_rehearsing() {
            return Err(Refusal::Transition(state.phase.name(), "Running"));
        }
        let event = state.rehearsal_event(Bytes::from_static(b"{}"));
        event.ok_or(Refusal::Transition("Started", "Running"))
    }

    /// `POST .../firn/warm`.
    pub(super) fn warm_answer(&self) -> Result<(), Refusal> {
        let state = self.lock();
        if state.is_rehearsing() {
            return Ok(());
        }
        Err(Refusal::Transition(state.phase.name(), "ResponseSent"))
    }

    pub(super) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    fn wait(&self, state: &mut State, caller: Caller, wake: Wake) {
        state.waiting = Some(Waiting { caller, wake });
        self.waits.notify_waiters();
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
            Phase::Running { answer, .. } => {
                state.claimed = Some(Instant::now());
                Ok(Claim {
                    exchange: self,
                    answer: Some(answer),
                })
            }
            other => {
                state.phase = other;
                Err(Refusal::UnknownRequest)
            }
        }
    }

    /// `POST .../init/error`.
    pub(super) fn init_error(&self, fault: RuntimeFault) -> Result<(), Refusal> {
        let mut state = self.lock();
        let initializing = match state.phase {
            Phase::Started => true,
            // A hook before the snapshot may fail after priming.
            Phase::ResponseSent { .. } => state.is_rehearsing(),
            _ => false,
        };
        if !initializing {
            return Err(Refusal::Transition(state.phase.name(), "InitError"));
        }
        state.phase = Phase::InitError;
        if let Some(init) = state.init.take() {
            let _ = init.send(InitOutcome::Failed(fault));
        }
        Ok(())
    }

    /// `POST .../restore/error`.
    pub(super) fn restore_error(&self, fault: RuntimeFault) -> Result<(), Refusal> {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Restoring) {
            return Err(Refusal::Transition(state.phase.name(), "RestoreError"));
        }
        state.phase = Phase::RestoreError;
        if let Some(outcome) = state.restore.outcome.take() {
            let _ = outcome.send(RestoreOutcome::Failed(fault));
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, so the state is whole even if it is poisoned.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(phase: Phase) -> Self {
        Self {
            phase,
            waiting: None,
            init: None,
            rehearsal: None,
            rehearsed: 0,
            restore: Restore::default(),
            claimed: None,
            back: None,
        }
    }

    fn is_waited_for(&self) -> bool {
        self.waiting.as_ref().is_some_and(Waiting::is_there)
    }

    /// A snapshot is to be taken, and the runtime has not come to its end yet.
    fn is_rehearsing(&self) -> bool {
        self.init.is_some() && self.rehearsal.is_some()
    }

    /// Hands out the next priming event, if there is one.
    fn rehearse(&mut self) -> Option<Arc<Event>> {
        let payload = self.rehearsal.as_mut()?.events.pop_front()?;
        let event = Arc::new(self.rehearsal_event(payload)?);
        // Nobody waits for the answer.
        let (answer, _) = oneshot::channel();
        self.phase = Phase::Running {
            event: Arc::clone(&event),
            answer,
        };
        Some(event)
    }

    fn rehearsal_event(&mut self, payload: Bytes) -> Option<Event> {
        let rehearsal = self.rehearsal.as_ref()?;
        self.rehearsed += 1;
        Some(rehearsal.event(payload, self.rehearsed))
    }
}

impl Waiting {
    /// Its connection has not been closed.
    fn is_there(&self) -> bool {
        !match &self.wake {
            Wake::Event(wake) => wake.is_closed(),
            Wake::Restore(wake) => wake.is_closed(),
        }
    }

    fn request(&self) -> PendingRequest {
        match self.wake {
            Wake::Event(_) => PendingRequest::InvocationNext,
            Wake::Restore(_) => PendingRequest::RestoreNext,
        }
    }
}

impl Phase {
    /// The names that AWS's supervisor prints in `InvalidStateTransition`.
    fn name(&self) -> &'static str {
        match self {
            Self::Started => "Started",
            Self::InitError => "InitError",
            Self::RestoreReady => "RestoreReady",
            Self::Restoring => "Restoring",
            Self::RestoreError => "RestoreError",
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
mod tests;

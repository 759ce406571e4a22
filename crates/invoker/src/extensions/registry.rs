use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sandbox::Exit;
use serde::Serialize;
use tokio::sync::{Notify, oneshot};

use super::MAX_EXTENSIONS;

/// The extensions of one environment, and where each of them stands.
///
/// ```text
/// Started ──register──> Registered ──next──> Ready ──event──> Running
///    │                    │ │  init/error      ^ │ exit/error    │ │ exit/error
///    v                    │ v                  │ v               │ v
/// LaunchError             │ InitError          │ ExitError       │ ExitError
///                         v                    └──────next───────┘
///                       ExitError
/// ```
#[derive(Debug, Default)]
pub(crate) struct Extensions {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    members: Vec<Extension>,
    /// The runtime has come up: nobody registers any more.
    closed: bool,
    /// The environment ends: that a process ends is no news.
    ending: bool,
    /// What broke the environment first.
    fault: Option<ExtensionFault>,
}

#[derive(Debug)]
struct Extension {
    name: String,
    id: String,
    external: bool,
    phase: Phase,
    events: Vec<EventKind>,
    error_type: Option<String>,
    /// Waits in `event/next`.
    waiting: Option<oneshot::Sender<Arc<Event>>>,
    /// Was handed out to a connection that had broken.
    undelivered: Option<Arc<Event>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Started,
    Registered,
    Ready,
    Running,
    InitError,
    ExitError,
    LaunchError,
    Exited,
}

/// What an extension can register for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    Invoke,
    Shutdown,
}

/// An event on its way to an extension, as the body of its `event/next`.
#[derive(Debug)]
pub(super) struct Event {
    /// Names the delivery.
    pub id: String,
    pub body: String,
}

/// What an extension learns of an invocation.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InvokeEvent<'a> {
    pub event_type: &'static str,
    pub deadline_ms: i64,
    pub request_id: &'a str,
    pub invoked_function_arn: &'a str,
    pub tracing: Tracing<'a>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Tracing<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    value: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShutdownEvent {
    event_type: &'static str,
    shutdown_reason: &'static str,
    deadline_ms: i64,
}

/// Why an environment ends, as its extensions are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Spindown,
    Timeout,
    Failure,
}

/// An extension that broke its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExtensionFault {
    pub error_type: &'static str,
    pub message: String,
}

/// What the log tells of an extension when the init phase is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub name: String,
    pub state: &'static str,
    pub events: Vec<&'static str>,
    pub error_type: Option<String>,
}

/// Why a call is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Closed,
    NameTaken,
    TooMany,
    ShutdownForInternal,
    Unknown(String),
    Transition {
        from: &'static str,
        to: &'static str,
        extension: String,
    },
}

/// What `event/next` gets.
#[derive(Debug)]
pub(super) enum Next {
    Event(Arc<Event>),
    Wait(oneshot::Receiver<Arc<Event>>),
}

/// An error that an extension reports of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    Init,
    Exit,
}

impl Extensions {
    /// Of an environment in which nobody can register, because it has been up before.
    pub fn closed() -> Self {
        let state = State {
            closed: true,
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    /// An external extension is about to be started. False if there are too many.
    pub fn start(&self, name: &str) -> bool {
        let mut state = self.lock();
        let admitted = state.members.len() < MAX_EXTENSIONS;
        let mut extension = Extension::new(name, true);
        if !admitted {
            extension.fail(Phase::LaunchError, "TooManyExtensions");
            state.break_by("Extension.LaunchError", "too many extensions");
        }
        state.members.push(extension);
        drop(state);
        self.changed.notify_waiters();
        admitted
    }

    /// An external extension could not be executed.
    pub fn not_started(&self, name: &str, source: &std::io::Error) {
        let error_type = match source.kind() {
            std::io::ErrorKind::PermissionDenied => "PermissionDenied",
            _ => "UnknownError",
        };
        let mut state = self.lock();
        if let Some(extension) = state.external(name) {
            extension.fail(Phase::LaunchError, error_type);
        }
        let message = format!("fork/exec /opt/extensions/{name}: {source}");
        state.break_by("Extension.LaunchError", &message);
        drop(state);
        self.changed.notify_waiters();
    }

    /// The process of an external extension has ended.
    pub fn exited(&self, name: &str, exit: Exit) {
        let mut state = self.lock();
        let Some(extension) = state.external(name) else {
            return;
        };
        extension.waiting = None;
        let error_type = match extension.phase {
            Phase::InitError => "Extension.InitError",
            Phase::ExitError => "Extension.ExitError",
            _ => "Extension.Crash",
        };
        if extension.error_type.is_none() {
            extension.phase = Phase::Exited;
        }
        if !state.ending {
            state.break_by(error_type, &describe(exit));
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Resolves when every external extension has registered.
    pub async fn registered(&self) {
        self.until(|state| {
            let external = state.members.iter().filter(|member| member.external);
            external
                .filter(|member| member.phase == Phase::Started)
                .count()
                == 0
        })
        .await;
    }

    /// Nobody registers any more. Says whether anybody has.
    pub fn close(&self) -> bool {
        let mut state = self.lock();
        state.closed = true;
        !state.members.is_empty()
    }

    /// Resolves when every extension waits for an event.
    pub async fn ready(&self) {
        self.until(|state| {
            let mut members = state.members.iter();
            members.all(|member| member.phase == Phase::Ready)
        })
        .await;
    }

    /// Resolves when every extension that was told of the invocation waits for the next event.
    pub async fn done(&self) {
        self.until(|state| !state.members.iter().any(|member| member.is_busy()))
            .await;
    }

    /// Resolves when an extension has broken the environment.
    pub async fn broken(&self) -> ExtensionFault {
        loop {
            let changed = self.changed.notified();
            if let Some(fault) = &self.lock().fault {
                return fault.clone();
            }
            changed.await;
        }
    }

    pub fn is_broken(&self) -> bool {
        self.lock().fault.is_some()
    }

    /// Tells those who want to know of an invocation.
    pub fn invoke(&self, id: &str, event: &InvokeEvent<'_>) {
        self.tell(EventKind::Invoke, id, event);
    }

    /// Tells those who want to know that the environment ends.
    pub fn shut_down(&self, reason: Reason, deadline_ms: i64) {
        self.lock().ending = true;
        let event = ShutdownEvent {
            event_type: "SHUTDOWN",
            shutdown_reason: reason.as_str(),
            deadline_ms,
        };
        self.tell(EventKind::Shutdown, "shutdown", &event);
    }

    /// From here on, that a process ends is no news.
    pub fn expect_the_end(&self) {
        self.lock().ending = true;
    }

    /// The names of external extensions that want to be told of the end.
    pub fn wants_shutdown(&self, name: &str) -> bool {
        let mut state = self.lock();
        state.external(name).is_some_and(|extension| {
            extension.events.contains(&EventKind::Shutdown) && extension.phase != Phase::Exited
        })
    }

    /// Where all of them stand.
    pub fn standings(&self) -> Vec<Standing> {
        let state = self.lock();
        // External ones first, as AWS logs them.
        let external = state.members.iter().filter(|member| member.external);
        let internal = state.members.iter().filter(|member| !member.external);
        external.chain(internal).map(Extension::standing).collect()
    }

    fn tell(&self, kind: EventKind, id: &str, event: &impl Serialize) {
        let event = Arc::new(Event {
            id: id.to_owned(),
            // Strings and numbers always serialise.
            body: serde_json::to_string(event).unwrap_or_default(),
        });
        let mut state = self.lock();
        for member in &mut state.members {
            if member.events.contains(&kind) {
                member.hand(&event);
            }
        }
    }

    async fn until(&self, is_so: impl Fn(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            if is_so(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    /// `POST .../register`. Answers the extension's identifier.
    pub(super) fn register(&self, name: &str, events: Vec<EventKind>) -> Result<String, Refusal> {
        let mut state = self.lock();
        let id = match state.external(name) {
            Some(extension) => {
                if extension.phase != Phase::Started {
                    return Err(extension.refuses("Registered", name));
                }
                extension.phase = Phase::Registered;
                extension.events = events;
                extension.id.clone()
            }
            None => state.register_internal(name, events)?,
        };
        drop(state);
        self.changed.notify_waiters();
        Ok(id)
    }

    /// `GET .../event/next`.
    pub(super) fn next(&self, id: &str) -> Result<Next, Refusal> {
        let mut state = self.lock();
        let extension = state.member(id)?;
        let lost = |waiting: &oneshot::Sender<Arc<Event>>| waiting.is_closed();
        if matches!(extension.phase, Phase::Registered | Phase::Running)
            && let Some(event) = extension.undelivered.take()
        {
            extension.phase = Phase::Running;
            return Ok(Next::Event(event));
        }
        match extension.phase {
            Phase::Registered | Phase::Running => {}
            // Asked again after its connection broke.
            Phase::Ready if extension.waiting.as_ref().is_none_or(lost) => {}
            _ => return Err(extension.refuses("Ready", id)),
        }
        let (sender, receiver) = oneshot::channel();
        extension.phase = Phase::Ready;
        extension.waiting = Some(sender);
        drop(state);
        self.changed.notify_waiters();
        Ok(Next::Wait(receiver))
    }

    /// `POST .../init/error` and `.../exit/error`.
    pub(super) fn report(&self, id: &str, report: Report, error_type: &str) -> Result<(), Refusal> {
        let mut state = self.lock();
        let extension = state.member(id)?;
        let to = match report {
            Report::Init => Phase::InitError,
            Report::Exit => Phase::ExitError,
        };
        if extension.phase == to {
            // Only the first one counts.
            return Ok(());
        }
        let allowed = match report {
            Report::Init => extension.phase == Phase::Registered,
            Report::Exit => matches!(
                extension.phase,
                Phase::Registered | Phase::Ready | Phase::Running
            ),
        };
        if !allowed {
            return Err(extension.refuses(to.name(), id));
        }
        extension.fail(to, error_type);
        let external = extension.external;
        let message = format!("extension {} reported {error_type}", extension.name);
        // One with a process of its own is expected to end it, which then tells how.
        if !external && !state.ending {
            state.break_by(report.error_type(), &message);
        }
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    /// As [`Extensions::broken`]; an extension that reported an error but does not end by itself
    /// counts as broken after `grace`.
    pub async fn broken_within(&self, grace: Duration) -> ExtensionFault {
        tokio::select! {
            fault = self.broken() => return fault,
            () = self.until(|state| state.members.iter().any(|member| member.has_reported())) => {}
        }
        match tokio::time::timeout(grace, self.broken()).await {
            Ok(fault) => fault,
            Err(_) => {
                self.lock().break_by_report();
                self.broken().await
            }
        }
    }

    /// The name of a registered extension.
    pub(crate) fn name_of(&self, id: &str) -> Option<String> {
        self.lock()
            .member(id)
            .ok()
            .map(|member| member.name.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, so the state is whole even if it is poisoned.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn external(&mut self, name: &str) -> Option<&mut Extension> {
        self.members
            .iter_mut()
            .find(|member| member.external && member.name == name)
    }

    /// Those that have registered are known by their identifier.
    fn member(&mut self, id: &str) -> Result<&mut Extension, Refusal> {
        self.members
            .iter_mut()
            .find(|member| member.id == id)
            .ok_or_else(|| Refusal::Unknown(id.to_owned()))
    }

    fn register_internal(&mut self, name: &str, events: Vec<EventKind>) -> Result<String, Refusal> {
        if events.contains(&EventKind::Shutdown) {
            return Err(Refusal::ShutdownForInternal);
        }
        if self.closed {
            return Err(Refusal::Closed);
        }
        if self.members.len() >= MAX_EXTENSIONS {
            return Err(Refusal::TooMany);
        }
        if self.members.iter().any(|member| member.name == name) {
            return Err(Refusal::NameTaken);
        }
        let mut extension = Extension::new(name, false);
        extension.phase = Phase::Registered;
        extension.events = events;
        let id = extension.id.clone();
        self.members.push(extension);
        Ok(id)
    }

    fn break_by_report(&mut self) {
        let reported = self.members.iter().find(|member| member.has_reported());
        let Some(member) = reported else {
            return;
        };
        let error_type = match member.phase {
            Phase::InitError => "Extension.InitError",
            _ => "Extension.ExitError",
        };
        let reported = member.error_type.as_deref().unwrap_or_default();
        let message = format!("extension {} reported {reported}", member.name);
        self.break_by(error_type, &message);
    }

    fn break_by(&mut self, error_type: &'static str, message: &str) {
        self.fault.get_or_insert_with(|| ExtensionFault {
            error_type,
            message: message.to_owned(),
        });
    }
}

impl Extension {
    fn new(name: &str, external: bool) -> Self {
        Self {
            name: name.to_owned(),
            id: uuid::Uuid::new_v4().to_string(),
            external,
            phase: Phase::Started,
            events: Vec::new(),
            error_type: None,
            waiting: None,
            undelivered: None,
        }
    }

    fn hand(&mut self, event: &Arc<Event>) {
        let ready = self.phase == Phase::Ready;
        if !ready && self.phase != Phase::Running && self.phase != Phase::Registered {
            return;
        }
        if ready {
            self.phase = Phase::Running;
        }
        let waiting = self.waiting.take();
        let sent = waiting.is_some_and(|waiting| waiting.send(Arc::clone(event)).is_ok());
        // When the connection broke meanwhile, its next `next` finds the event; so does that of
        // one that is still busy when the environment ends.
        self.undelivered = (!sent).then(|| Arc::clone(event));
    }

    fn fail(&mut self, phase: Phase, error_type: &str) {
        self.phase = phase;
        self.waiting = None;
        self.error_type.get_or_insert_with(|| error_type.to_owned());
    }

    fn is_busy(&self) -> bool {
        self.events.contains(&EventKind::Invoke) && self.phase == Phase::Running
    }

    fn has_reported(&self) -> bool {
        matches!(self.phase, Phase::InitError | Phase::ExitError)
    }

    fn refuses(&self, to: &'static str, extension: &str) -> Refusal {
        Refusal::Transition {
            from: self.phase.name(),
            to,
            extension: extension.to_owned(),
        }
    }

    fn standing(&self) -> Standing {
        Standing {
            name: self.name.clone(),
            state: self.phase.name(),
            events: self.events.iter().map(|kind| kind.as_str()).collect(),
            error_type: self.error_type.clone(),
        }
    }
}

impl<'a> InvokeEvent<'a> {
    pub fn new(request_id: &'a str, arn: &'a str, deadline_ms: i64, trace: &'a str) -> Self {
        Self {
            event_type: "INVOKE",
            deadline_ms,
            request_id,
            invoked_function_arn: arn,
            tracing: Tracing {
                kind: "X-Amzn-Trace-Id",
                value: trace,
            },
        }
    }
}

impl EventKind {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "INVOKE" => Some(Self::Invoke),
            "SHUTDOWN" => Some(Self::Shutdown),
            _ => None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Invoke => "INVOKE",
            Self::Shutdown => "SHUTDOWN",
        }
    }
}

impl Reason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Spindown => "SPINDOWN",
            Self::Timeout => "TIMEOUT",
            Self::Failure => "FAILURE",
        }
    }
}

impl Report {
    const fn error_type(self) -> &'static str {
        match self {
            Self::Init => "Extension.InitError",
            Self::Exit => "Extension.ExitError",
        }
    }
}

impl Phase {
    const fn name(self) -> &'static str {
        match self {
            Self::Started => "Started",
            Self::Registered => "Registered",
            Self::Ready => "Ready",
            Self::Running => "Running",
            Self::InitError => "InitError",
            Self::ExitError => "ExitError",
            Self::LaunchError => "LaunchError",
            Self::Exited => "Exited",
        }
    }
}

/// How the end of an extension is worded.
fn describe(exit: Exit) -> String {
    match exit {
        Exit::Code(0) => "exit code 0".to_owned(),
        Exit::Code(code) => format!("exit status {code}"),
        Exit::Signal(signal) => format!("signal: {}", crate::exit::name(signal)),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

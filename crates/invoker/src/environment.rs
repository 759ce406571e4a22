use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use clock::Clock;
use sandbox::{Exit, Process, Sandbox};
use tokio::task::{AbortHandle, JoinSet};

use crate::extensions::{Companions, ExtensionFault, Reason};
use crate::hooks::EndpointGuard;
use crate::invoker::Invoker;
use crate::output::{Capture, platform};
use crate::runtime_api::Exchange;
use crate::snapshots::{LiveImage, Turn};
use crate::status::{Entry, EnvironmentState};
use crate::{Function, FunctionKey, exit};

/// A started execution environment: a sandbox with a runtime in it that has finished its init.
///
/// It has one owner at a time: the pool while it is idle, else the invocation it serves.
#[derive(Debug)]
pub(crate) struct Environment {
    pub key: FunctionKey,
    pub function: Arc<Function>,
    pub exchange: Arc<Exchange>,
    pub capture: Arc<Capture>,
    pub writer: platform::Writer,
    pub entry: Entry,
    /// Until an invocation has reported it.
    pub init_duration: Option<Duration>,
    /// As `init_duration`, of an environment that was thawed.
    pub restored: Option<Restored>,
    /// What it was thawed from.
    pub origin: Option<Origin>,
    /// Its extensions, if it has any.
    pub companions: Option<Box<Companions>>,
    pub deliveries: u64,
    woken: Instant,
    sandbox: Sandbox,
    process: Arc<Process>,
    lease: MemoryLease,
    oom_kills_seen: u64,
    frozen: bool,
    /// Held for their drop.
    _services: Services,
}

/// How a restore went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Restored {
    /// From the moment it was wanted to the runtime's request for an event.
    pub duration: Duration,
    /// Of this, what the function's own hooks took.
    pub hooks: Duration,
}

/// The image that an environment was thawed from.
#[derive(Debug)]
pub(crate) struct Origin {
    pub live: Arc<LiveImage>,
    /// Set when it was killed because a page of its memory could not be had.
    pub lost_memory: Arc<AtomicBool>,
    /// Until its first answer, if it is to show what that needs.
    pub turn: Mutex<Option<Turn>>,
}

/// What runs on the server for one environment, stopped by dropping it.
#[derive(Debug)]
#[expect(dead_code, reason = "the parts are held for their drop")]
pub(crate) struct Services {
    pub api: Aborted,
    pub readers: JoinSet<()>,
    pub watcher: Aborted,
    pub endpoint: EndpointGuard,
    pub pager: Option<Aborted>,
}

/// A task that is aborted when this is dropped.
#[derive(Debug)]
pub(crate) struct Aborted(pub AbortHandle);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The memory promised to an environment, given back when it is gone.
#[derive(Debug)]
pub(crate) struct MemoryLease {
    invoker: Weak<Invoker>,
    memory_mb: u32,
    parked: bool,
    pub leaving: bool,
}

impl MemoryLease {
    pub fn new(invoker: &Arc<Invoker>, memory_mb: u32) -> Self {
        Self {
            invoker: Arc::downgrade(invoker),
            memory_mb,
            parked: false,
            leaving: false,
        }
    }

    /// For a parked environment, if that much is free.
    pub fn parked(invoker: &Arc<Invoker>, memory_mb: u32) -> Option<Self> {
        if !invoker.promise_parked(memory_mb) {
            return None;
        }
        let mut lease = Self::new(invoker, memory_mb);
        lease.parked = true;
        Some(lease)
    }

    /// For an environment that a snapshot is made of, whether or not it is free.
    pub fn charged(invoker: &Arc<Invoker>, memory_mb: u32) -> Self {
        invoker.charge(memory_mb);
        Self::new(invoker, memory_mb)
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        let Some(invoker) = self.invoker.upgrade() else {
            return;
        };
        if self.parked {
            invoker.freed_parked(self.memory_mb);
        } else {
            invoker.freed(self.memory_mb, self.leaving);
        }
    }
}

/// How a runtime that ended is reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Crash {
    pub error_type: &'static str,
    pub message: String,
}

/// The parts of an environment whose runtime has come up, by whatever way it did.
pub(crate) struct Parts {
    pub key: FunctionKey,
    pub function: Arc<Function>,
    pub exchange: Arc<Exchange>,
    pub capture: Arc<Capture>,
    pub entry: Entry,
    pub init_duration: Option<Duration>,
    pub restored: Option<Restored>,
    pub origin: Option<Origin>,
    pub companions: Option<Box<Companions>>,
    pub sandbox: Sandbox,
    pub process: Arc<Process>,
    pub lease: MemoryLease,
    pub services: Services,
}

impl Environment {
    pub fn assemble(parts: Parts) -> Self {
        Self {
            writer: platform::Writer::of(&parts.function),
            oom_kills_seen: parts.sandbox.oom_kills(),
            key: parts.key,
            function: parts.function,
            exchange: parts.exchange,
            capture: parts.capture,
            entry: parts.entry,
            init_duration: parts.init_duration,
            restored: parts.restored,
            origin: parts.origin,
            companions: parts.companions,
            deliveries: 0,
            woken: Instant::now(),
            sandbox: parts.sandbox,
            process: parts.process,
            lease: parts.lease,
            frozen: false,
            _services: parts.services,
        }
    }

    pub fn id(&self) -> u64 {
        self.entry.id()
    }

    /// Stops its processes. A kernel that refuses leaves it running: that costs CPU, not safety.
    pub fn freeze(&mut self) {
        match self.sandbox.freeze() {
            Ok(()) => {
                self.frozen = true;
                self.entry.set(EnvironmentState::Frozen);
            }
            Err(err) => {
                tracing::warn!(error = %err, function = %self.key, "cannot freeze an environment");
            }
        }
    }

    /// Lets its processes run, for an invocation. False if that failed: it cannot be used then.
    pub fn wake(&mut self) -> bool {
        self.entry.set(EnvironmentState::Busy);
        self.woken = Instant::now();
        if !std::mem::take(&mut self.frozen) {
            return true;
        }
        match self.sandbox.thaw() {
            Ok(()) => true,
            Err(err) => {
                tracing::error!(error = %err, function = %self.key, "cannot thaw an environment");
                false
            }
        }
    }

    /// Since when it has been busy.
    pub fn woken(&self) -> Instant {
        self.woken
    }

    /// A process that it cannot do without has ended.
    pub fn is_broken(&self) -> bool {
        let broken = |companions: &Companions| companions.extensions.is_broken();
        self.exchange.is_closed() || self.companions.as_deref().is_some_and(broken)
    }

    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// The most memory it ever used, rounded up, as REPORT shows it.
    pub fn max_memory_mb(&self) -> u32 {
        let mb = self.sandbox.memory_peak_bytes().div_ceil(1024 * 1024);
        u32::try_from(mb)
            .unwrap_or(u32::MAX)
            .min(self.function.memory_mb)
    }

    /// How the end of the runtime is reported: as out of memory, if the kernel killed for it since
    /// the environment was last looked at.
    pub fn crash(&self, end: &Exit) -> Crash {
        let lost = |origin: &Origin| origin.lost_memory.load(Ordering::Acquire);
        if self.origin.as_ref().is_some_and(lost) {
            return Crash {
                error_type: "Sandbox.Failure",
                message: "the environment lost memory that it was restored from".into(),
            };
        }
        crash(end, self.sandbox.oom_kills() > self.oom_kills_seen)
    }

    /// A new invocation is not blamed for earlier kills.
    pub fn forget_oom_kills(&mut self) {
        self.oom_kills_seen = self.sandbox.oom_kills();
    }

    /// The memory is on its way back to make room for another environment.
    pub fn mark_leaving(&mut self) {
        self.lease.leaving = true;
    }

    /// Asks the runtime to end with SIGTERM, then kills what is left after `grace`. Extensions are
    /// asked too, and have the time that AWS gives them.
    pub async fn end(mut self: Box<Self>, grace: Duration, clock: Clock) {
        if self.companions.is_some() {
            return self.shut_down(Reason::Spindown, &clock).await;
        }
        // Who is not asked needs not to be woken.
        let thawed = !grace.is_zero() && self.wake();
        self.entry.set(EnvironmentState::Ending);
        if thawed && !grace.is_zero() && !self.exchange.is_closed() {
            const SIGTERM: i32 = 15;
            if self.process.signal(SIGTERM).is_ok() {
                let _ = tokio::time::timeout(grace, self.process.wait()).await;
            }
        }
        self.kill().await;
    }

    /// Ends it for this reason, after its extensions were told.
    pub async fn shut_down(mut self: Box<Self>, reason: Reason, clock: &Clock) {
        if let Some(companions) = self.companions.take() {
            let awake = self.wake();
            self.entry.set(EnvironmentState::Ending);
            if awake {
                companions
                    .shut_down(Some(&self.process), reason, clock)
                    .await;
            }
        }
        self.kill().await;
    }

    /// Ends it at once. The memory counts as free when everything is gone.
    pub async fn kill(self: Box<Self>) {
        let Self {
            sandbox,
            capture,
            lease,
            entry,
            ..
        } = *self;
        entry.set(EnvironmentState::Ending);
        sandbox.destroy().await;
        capture.drain();
        capture.flush();
        drop(lease);
    }
}

impl From<ExtensionFault> for Crash {
    fn from(fault: ExtensionFault) -> Self {
        Self {
            error_type: fault.error_type,
            message: fault.message,
        }
    }
}

pub(crate) fn crash(end: &Exit, out_of_memory: bool) -> Crash {
    Crash {
        error_type: if out_of_memory {
            "Runtime.OutOfMemory"
        } else {
            "Runtime.ExitError"
        },
        message: exit::describe(end),
    }
}

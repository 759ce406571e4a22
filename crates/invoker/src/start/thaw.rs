//! Bringing a runtime back from a snapshot.
//!
//! [`Raised::raise`] thaws it up to the request that it was waiting in when it was frozen;
//! [`Raised::release`] lets it go on, through its hooks, until it asks for an event. One that is
//! parked stands still between the two, and its hooks have run ahead.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sandbox::{Exit, Process, Thaw};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::paging::{self, Paging};
use super::{Ground, Listeners, Plot, Site, io_error, log_pipe, spec};
use crate::environment::{Aborted, Environment, MemoryLease, Origin, Parts, Restored, Services};
use crate::invoker::Invoker;
use crate::output::Sources;
use crate::output::platform::{Status, Versions};
use crate::runtime_api::{Exchange, RestoreOutcome, RuntimeFault};
use crate::snapshots::{LiveError, LiveImage, Phase, Plan, Revision, Snapshots, Turn};
use crate::status::EnvironmentState;

/// A runtime that was thawed and waits, or is about to wait, to be released.
#[derive(Debug)]
pub(crate) struct Raised {
    revision: Arc<Revision>,
    plan: Arc<Plan>,
    live: Arc<LiveImage>,
    site: Site,
    process: Arc<Process>,
    watcher: Aborted,
    readers: JoinSet<()>,
    pager: Option<Aborted>,
    lost_memory: Arc<AtomicBool>,
    turn: Option<Turn>,
    restored: oneshot::Receiver<RestoreOutcome>,
    /// What came of it, if that was known before it was told to go on: an image that waits for an
    /// event is ready by having arrived.
    early: Option<RestoreOutcome>,
    began: Instant,
    /// When its process was created, unless it stood still since.
    forked: Option<Instant>,
    /// It has been told to go on.
    released: bool,
    /// How its restore phase went, if that was over before anybody wanted it.
    ahead: Option<Restored>,
    frozen: bool,
}

/// Why a runtime could not be brought back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ThawError {
    #[error("cannot start an execution environment")]
    Environment(#[from] sandbox::Error),
    #[error("the image is not usable")]
    Image(#[from] LiveError),
    /// The process could not be made from the image.
    #[error("the process could not be thawed: {0}")]
    Engine(String),
    #[error("a page of the image could not be read")]
    LostMemory,
    /// The runtime ended without a word while it was being restored.
    #[error("the runtime ended while it was being restored ({0:?})")]
    Ended(Exit),
    /// A hook after the restore failed; the runtime said how.
    #[error("the runtime reported an error")]
    Reported(RuntimeFault),
    #[error("the restore took too long")]
    TimedOut,
}

impl ThawError {
    /// A word for the metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Environment(_) => "environment",
            Self::Image(LiveError::Pages(_)) | Self::LostMemory => "pages",
            Self::Image(_) => "image",
            Self::Engine(_) => "engine",
            Self::Ended(_) => "ended",
            Self::Reported(_) => "hook",
            Self::TimedOut => "timeout",
        }
    }

    /// The function's own doing, which another start would only repeat.
    pub fn is_the_functions(&self) -> bool {
        matches!(self, Self::Reported(_) | Self::TimedOut)
    }
}

/// What one thaw is made from.
pub(crate) struct Source {
    pub snapshots: Arc<Snapshots>,
    pub revision: Arc<Revision>,
    pub plan: Arc<Plan>,
    pub live: Arc<LiveImage>,
}

impl Raised {
    /// Thaws it. With `release`, the runtime goes on as soon as it is there.
    pub async fn raise(
        invoker: &Arc<Invoker>,
        source: Source,
        release: bool,
    ) -> Result<Self, ThawError> {
        let Source {
            snapshots,
            revision,
            plan,
            live,
        } = source;
        let metrics = snapshots.metrics();
        let began = Instant::now();
        let can_fault = snapshots.userfault_device().is_some();
        // One that nobody waits for may never answer.
        let mut turn = release.then(|| Turn::take(&live)).flatten();
        let recorded = turn.as_ref().and_then(|_| live.recorded_next());
        let ready = match recorded {
            Some(ready) => ready,
            None if release || !live.is_complete() => live.ready(can_fault, metrics).await?,
            None => live.ahead(&snapshots).await?,
        };
        let (exchange, restored) = Exchange::thawed(&live.pending);
        if release {
            exchange.release();
        }
        let taking = Instant::now();
        let mut prepared = invoker.sandboxes().take().await?;
        let thawing = metrics.lap(Phase::TakeSandbox, taking);
        let listeners = Listeners::take(&mut prepared)?;
        let spec = spec(invoker, &revision.function, &plan.resolved);
        let asks = ready.fill.is_some() || ready.recording;
        let userfault = match snapshots.userfault_device().filter(|_| asks) {
            Some(device) => {
                let (ours, theirs) = paging::handover()?;
                Some((device, ours, theirs))
            }
            None => None,
        };
        let log = match live.has_log_pipe() {
            true => Some(log_pipe()?),
            false => None,
        };
        let (frames, log): (Option<OwnedFd>, Option<OwnedFd>) = log.unzip();
        let thaw = Thaw {
            pid: live.image.pid,
            tape: ready.tape.file(),
            pages: live.pages(),
            log: log.as_ref().map(|log| log.as_fd()),
            userfault: userfault
                .as_ref()
                .map(|(device, _, theirs)| (device.as_fd(), theirs.as_fd())),
            scratch: live.scratch(),
        };
        let plot = Plot {
            invoker,
            function: &revision.function,
            resolved: &plan.resolved,
            exchange,
            stream: None,
            token: live.token().map(str::to_owned),
            replay: live.pending.clone(),
            fresh: false,
        };
        // The rest is done while the environment comes up.
        let (thawed, ground) = tokio::join!(prepared.enter_thawing(spec, thaw), async {
            Ground::lay(plot, listeners)
        });
        let ((sandbox, mut process), ground) = (thawed?, ground?);
        drop(log);
        let forked = metrics.lap(Phase::Enter, thawing);
        let site = ground.with(sandbox);
        let lines = [process.stdout(), process.stderr()];
        let lines = lines.into_iter().flatten().collect();
        let process = Arc::new(process);
        let lost_memory = Arc::new(AtomicBool::new(false));
        let mut pager = None;
        if let Some((_, ours, theirs)) = userfault {
            drop(theirs);
            if let Some(fill) = ready.fill {
                let paging = Paging {
                    snapshots: Arc::clone(&snapshots),
                    revision: Arc::clone(&revision),
                    live: Arc::clone(&live),
                    fill,
                    process: Arc::clone(&process),
                    failed: Arc::clone(&lost_memory),
                };
                pager = Some(Aborted(tokio::spawn(paging.serve(ours)).abort_handle()));
            } else if let Some(turn) = &mut turn {
                turn.keep(tokio::spawn(paging::receive_recorder(ours)));
            }
        }
        site.listen(Sources { lines, frames })?;
        let watcher = site.watch(invoker, revision.key.clone(), &process);
        let mut raised = Self {
            revision,
            plan,
            live,
            site,
            process,
            watcher,
            // After the first line of the log.
            readers: JoinSet::new(),
            pager,
            lost_memory,
            turn,
            restored,
            early: None,
            began,
            forked: release.then_some(forked),
            released: release,
            ahead: None,
            frozen: false,
        };
        if release {
            raised.log_start(invoker);
        }
        raised.readers = raised.site.capture.spawn_readers();
        Ok(raised)
    }

    pub fn id(&self) -> u64 {
        self.site.entry.id()
    }

    pub fn revision(&self) -> &Arc<Revision> {
        &self.revision
    }

    /// What it was thawed from.
    pub fn live(&self) -> &Arc<LiveImage> {
        &self.live
    }

    /// Waits until it is as far as it gets without being told to go on.
    pub async fn arrived(&mut self, limit: Duration) -> Result<(), ThawError> {
        let exchange = Arc::clone(&self.site.exchange);
        let waiting = tokio::time::timeout(limit, async {
            let outcome = tokio::select! {
                () = exchange.arrived() => None,
                outcome = &mut self.restored => Some(outcome),
            };
            // What it waits for is known as soon as it is connected, ahead of the rest of the thaw.
            self.process.thawed().await?;
            Ok::<_, ThawError>(outcome)
        });
        let Ok(outcome) = waiting.await else {
            return Err(ThawError::TimedOut);
        };
        // One that asks for an event has come to the end of its restore with that.
        let outcome = outcome?.or_else(|| self.restored.try_recv().ok().map(Ok));
        match outcome {
            Some(Ok(RestoreOutcome::Failed(fault))) => return Err(ThawError::Reported(fault)),
            Some(Ok(RestoreOutcome::Exited(exit))) => return Err(self.ended(exit)),
            Some(Ok(ready @ RestoreOutcome::Ready { .. })) => self.early = Some(ready),
            Some(Err(_)) => return Err(self.ended(Exit::Signal(9))),
            None => {}
        }
        match self.process.thaw_failure() {
            Some(report) => Err(ThawError::Engine(report)),
            None => Ok(()),
        }
    }

    /// Stops its processes, so that it costs no processor time until it is woken.
    pub fn park(&mut self) -> Result<(), ThawError> {
        self.site.sandbox.freeze()?;
        self.frozen = true;
        self.site.entry.set(EnvironmentState::Parked);
        Ok(())
    }

    /// Lets a parked one run again.
    pub fn wake(&mut self) -> Result<(), ThawError> {
        self.began = Instant::now();
        if std::mem::take(&mut self.frozen) {
            self.site.sandbox.thaw()?;
        }
        self.site.entry.set(EnvironmentState::Starting);
        Ok(())
    }

    pub fn has_ended(&self) -> bool {
        self.site.exchange.is_closed()
    }

    /// The hooks after the restore run now, so that nobody waits for them later: as in every
    /// environment between two events, what they made may be old when the next one comes.
    pub async fn run_hooks(
        &mut self,
        invoker: &Invoker,
        snapshots: &Snapshots,
    ) -> Result<(), ThawError> {
        // Where there are none, the restore phase is as long as its wake.
        if self.early.is_none() {
            self.ahead = Some(self.restore(invoker, snapshots).await?);
            self.site.capture.flush_printed();
        }
        Ok(())
    }

    /// Lets the runtime go on, and waits until it asks for its first event.
    pub async fn release(
        mut self: Box<Self>,
        invoker: &Invoker,
        snapshots: &Snapshots,
    ) -> Result<Unleased, ThawError> {
        let restored = match self.ahead.take() {
            Some(ahead) => Ok(ahead),
            None => self.restore(invoker, snapshots).await,
        };
        match restored {
            Ok(restored) => Ok(Unleased {
                raised: self,
                restored,
            }),
            Err(error) => {
                self.end(invoker, true);
                Err(error)
            }
        }
    }

    async fn restore(
        &mut self,
        invoker: &Invoker,
        snapshots: &Snapshots,
    ) -> Result<Restored, ThawError> {
        if !std::mem::replace(&mut self.released, true) {
            self.log_start(invoker);
            self.site.exchange.release();
        }
        let limit = snapshots.config().restore_timeout();
        let left = limit.saturating_sub(self.began.elapsed());
        let outcome = match self.early.take() {
            Some(early) => Ok(Ok(early)),
            None => tokio::time::timeout(left, &mut self.restored).await,
        };
        let error = match outcome {
            Ok(Ok(RestoreOutcome::Ready { hooks })) => {
                snapshots.metrics().record(Phase::RestoreHooks, hooks);
                if let Some(forked) = self.forked {
                    let engine = forked.elapsed().saturating_sub(hooks);
                    snapshots.metrics().record(Phase::ThawEngine, engine);
                }
                let duration = self.began.elapsed();
                self.log(invoker, duration, &Status::Success);
                return Ok(Restored { duration, hooks });
            }
            Ok(Ok(RestoreOutcome::Failed(fault))) => {
                // The runtime prints and exits after its report; what it prints belongs here.
                let _ = tokio::time::timeout(super::EXIT_AFTER_REPORT, self.process.wait()).await;
                ThawError::Reported(fault)
            }
            Ok(Ok(RestoreOutcome::Exited(exit))) => self.ended(exit),
            // The sender lives in the exchange, which `self` holds.
            Ok(Err(_)) => self.ended(Exit::Signal(9)),
            Err(_) => ThawError::TimedOut,
        };
        if error.is_the_functions() {
            let status = match &error {
                ThawError::Reported(fault) => {
                    Status::Error(super::valid_error_type(fault.error_type.as_deref()))
                }
                _ => Status::Timeout,
            };
            self.log(invoker, self.began.elapsed().min(limit), &status);
        }
        Err(error)
    }

    /// When it is told to go on, not before: of an environment that nobody has noticed nothing is
    /// logged, unless its hooks print something.
    fn log_start(&self, invoker: &Invoker) {
        let now = invoker.clock().now();
        let versions = Versions::of(
            &self.revision.function,
            self.plan.resolved.version.as_deref(),
        );
        let (capture, writer) = (&self.site.capture, self.site.writer);
        capture.push(
            now,
            writer.restore_start(now, &self.revision.function, &versions),
        );
    }

    fn log(&self, invoker: &Invoker, duration: Duration, status: &Status) {
        let (capture, writer) = (&self.site.capture, self.site.writer);
        // What its hooks printed comes before.
        capture.drain();
        let now = invoker.clock().now();
        writer.restore_report(now, duration, status, |line| capture.push(now, Some(line)));
    }

    /// Ends it in the background. Of one that nobody noticed, nothing is logged.
    pub fn end(self: Box<Self>, invoker: &Invoker, was_noticed: bool) {
        self.site.entry.set(EnvironmentState::Ending);
        invoker.tasks().spawn(async move {
            let Self { site, .. } = *self;
            site.sandbox.destroy().await;
            if was_noticed {
                site.capture.drain();
                site.capture.flush();
            }
        });
    }

    /// How a process that has ended by itself is told.
    fn ended(&self, exit: Exit) -> ThawError {
        if self.lost_memory.load(Ordering::Acquire) {
            return ThawError::LostMemory;
        }
        match self.process.thaw_failure() {
            Some(report) => ThawError::Engine(report),
            None => ThawError::Ended(exit),
        }
    }
}

/// A restored runtime that lacks nothing but the memory promised to it.
pub(crate) struct Unleased {
    raised: Box<Raised>,
    restored: Restored,
}

impl Unleased {
    pub fn lease(self, lease: MemoryLease) -> Box<Environment> {
        let Raised {
            revision,
            live,
            site,
            process,
            watcher,
            readers,
            pager,
            lost_memory,
            turn,
            ..
        } = *self.raised;
        let services = Services {
            api: site.api,
            readers,
            watcher,
            endpoint: site.endpoint,
            pager,
        };
        Box::new(Environment::assemble(Parts {
            key: revision.key.clone(),
            function: Arc::clone(&revision.function),
            exchange: site.exchange,
            capture: site.capture,
            entry: site.entry,
            init_duration: None,
            restored: Some(self.restored),
            origin: Some(Origin {
                live,
                lost_memory,
                turn: Mutex::new(turn),
            }),
            companions: None,
            sandbox: site.sandbox,
            process,
            lease,
            services,
        }))
    }
}

impl From<io::Error> for ThawError {
    fn from(err: io::Error) -> Self {
        Self::Environment(io_error(err))
    }
}

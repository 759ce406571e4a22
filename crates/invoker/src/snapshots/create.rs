//! Making a snapshot: an init of its own, the freeze, a trial, and into the store.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use snapshot::{External, FreezeError, FreezeOptions, Frozen};
use tokio::sync::oneshot;

use super::envelope::{self, Header};
use super::live::{LiveError, LiveImage, Pages};
use super::revision::{Plan, Revision, Stage, Stored};
use super::{InitFailure, Phase, SnapshotError, SnapshotOutcome, Snapshots, priming};
use crate::Function;
use crate::environment::{Crash, MemoryLease};
use crate::extensions::external_extensions;
use crate::invoker::Invoker;
use crate::output::platform;
use crate::runtime_api::{Exchange, Init, InitOutcome, Pending, Rehearsal, new_token};
use crate::start::{
    EXIT_AFTER_REPORT, InitFault, LaunchError, Launched, Plot, Raised, Run, Site, Source,
    ThawError, launch,
};
use crate::variables;

/// The runtime's requests get this long to come to rest before the freeze.
const QUIET: Duration = Duration::from_secs(5);
/// From the last request to the freeze: the kernel acknowledges what was received after 40 ms, and
/// a runtime's other threads come to rest.
const SETTLES: Duration = Duration::from_millis(60);
/// A trial gets this long to reach its last step.
const TRIAL: Duration = Duration::from_secs(20);

/// An environment that was initialised for a snapshot, frozen.
struct Cut {
    frozen: Frozen,
    pages: Pages,
    header: Header,
}

/// What came of an init for a snapshot.
enum Initialised {
    Cut(Box<Cut>),
    Unfit(String),
    /// The runtime sent something while it was being frozen, and would wait for the answer for
    /// ever.
    Noisy,
}

/// An image has one process, and no way to tell an extension in it that it was brought back.
const EXTENSIONS: &str = "the function has extensions, which cannot be restored from snapshots";

async fn has_external_extensions(function: &Arc<Function>) -> bool {
    if function.layer_dirs.is_empty() {
        return false;
    }
    let function = Arc::clone(function);
    let listing =
        tokio::task::spawn_blocking(move || !external_extensions(&function.layer_dirs).is_empty());
    listing.await.unwrap_or(false)
}

/// Inits that are run for a snapshot whose runtime does not keep quiet.
const MAX_INITS: u32 = 3;

impl Snapshots {
    /// Makes the snapshot of a function revision, or adopts the one that the store has. Goes on
    /// when the caller goes away.
    pub async fn make(
        self: &Arc<Self>,
        invoker: &Arc<Invoker>,
        function: &Arc<Function>,
    ) -> Result<SnapshotOutcome, SnapshotError> {
        let revision = self.revision(function);
        let (sender, mut answer) = revision.join_making();
        if let Some(sender) = sender {
            let (snapshots, invoker) = (Arc::clone(self), Arc::clone(invoker));
            let tasks = invoker.tasks().clone();
            tasks.spawn(async move {
                let result = tokio::select! {
                    result = snapshots.make_or_adopt(&invoker, &revision) => result,
                    () = snapshots.closed() => Err(SnapshotError::ShuttingDown),
                };
                snapshots.note(&revision, &result);
                revision.made();
                sender.send_replace(Some(result));
            });
        }
        let answer = answer.wait_for(Option::is_some).await;
        match answer.as_deref() {
            Ok(Some(result)) => result.clone(),
            // The task went away with the server.
            _ => Err(SnapshotError::ShuttingDown),
        }
    }

    fn note(&self, revision: &Revision, result: &Result<SnapshotOutcome, SnapshotError>) {
        match result {
            Ok(SnapshotOutcome::Ready { adopted, .. }) => {
                revision.set_stage(Stage::Ready);
                self.metrics.count(if *adopted {
                    "snapshots_adopted"
                } else {
                    "snapshots_created"
                });
            }
            Ok(SnapshotOutcome::Unfit { reason }) => {
                self.metrics.count("snapshots_unfit");
                revision.set_stage(Stage::Unfit(reason.clone()));
            }
            Err(SnapshotError::ShuttingDown | SnapshotError::Forgotten) => {}
            Err(err) => {
                self.metrics.count("snapshots_failed");
                revision.failed(chain(err));
            }
        }
    }

    async fn make_or_adopt(
        self: &Arc<Self>,
        invoker: &Arc<Invoker>,
        revision: &Arc<Revision>,
    ) -> Result<SnapshotOutcome, SnapshotError> {
        if self.confinement.is_none() {
            return Ok(SnapshotOutcome::Unfit {
                reason: "environments cannot be restored from snapshots on this host".into(),
            });
        }
        if let Some((plan, live)) = self.open(invoker, revision).await? {
            return Ok(SnapshotOutcome::Ready {
                id: plan.identity.id.to_string(),
                bytes: live.bytes(),
                stored_bytes: 0,
                adopted: true,
            });
        }
        let plan = self.plan(invoker, revision).await?;
        // Never closed.
        let _permit = self.making.acquire().await;
        if revision.is_forgotten() {
            return Err(SnapshotError::Forgotten);
        }
        let outcome = self.create(invoker, revision, &plan).await?;
        if revision.is_forgotten() {
            self.discard_stored(revision, &plan, "forgotten").await;
            return Err(SnapshotError::Forgotten);
        }
        Ok(outcome)
    }

    async fn create(
        self: &Arc<Self>,
        invoker: &Arc<Invoker>,
        revision: &Arc<Revision>,
        plan: &Arc<Plan>,
    ) -> Result<SnapshotOutcome, SnapshotError> {
        let mut inits = 0;
        let cut = loop {
            inits += 1;
            match self.initialise(invoker, revision, plan).await? {
                Initialised::Cut(cut) => break *cut,
                Initialised::Unfit(reason) => return Ok(SnapshotOutcome::Unfit { reason }),
                Initialised::Noisy if inits < MAX_INITS => {}
                Initialised::Noisy => {
                    return Ok(SnapshotOutcome::Unfit {
                        reason: "the runtime keeps calling the Runtime API while it waits for the \
                                 restore"
                            .into(),
                    });
                }
            }
        };
        let bytes = cut.frozen.image.pages_len;
        let (live, meta) = match self.bring_to_life(cut).await? {
            Ok(made) => made,
            Err(reason) => return Ok(SnapshotOutcome::Unfit { reason }),
        };
        if let Err(reason) = self.try_out(invoker, revision, plan, &live).await? {
            return Ok(SnapshotOutcome::Unfit { reason });
        }
        let began = Instant::now();
        let (account, id) = (&plan.identity.account, &plan.identity.id);
        let pages = live.pages().try_clone_to_owned();
        let pages = pages.map_err(|err| SnapshotError::Freeze(Arc::new(err)))?;
        let stored = self
            .images
            .put(account, id, meta, pages.into(), bytes)
            .await
            .map_err(SnapshotError::Store)?;
        self.metrics.lap(Phase::Store, began);
        revision.set_stored(Stored {
            created: invoker.clock().now(),
            bytes,
            stored_bytes: stored.stored_bytes,
        });
        revision.set_live(Arc::clone(&live));
        self.evict(&live);
        Ok(SnapshotOutcome::Ready {
            id: id.to_string(),
            bytes,
            stored_bytes: stored.stored_bytes,
            adopted: false,
        })
    }

    /// Runs an init for the snapshot and freezes what it leads to.
    async fn initialise(
        self: &Arc<Self>,
        invoker: &Arc<Invoker>,
        revision: &Arc<Revision>,
        plan: &Arc<Plan>,
    ) -> Result<Initialised, SnapshotError> {
        let function = &revision.function;
        if has_external_extensions(function).await {
            return Ok(Initialised::Unfit(EXTENSIONS.into()));
        }
        let lease = MemoryLease::charged(invoker, function.memory_mb);
        let (events, complaint) = priming_events(function).await;
        let (exchange, init) = Exchange::new(Init::Snapshot(Rehearsal {
            events,
            clock: invoker.clock().clone(),
            invoked_arn: format!("{}:{}", function.arn, function.version),
            timeout: function.timeout,
        }));
        let token = new_token();
        let mut site = Site::prepare(Plot {
            invoker,
            function,
            resolved: &plan.resolved,
            exchange,
            stream: None,
            token: Some(token.clone()),
            replay: Vec::new(),
            fresh: true,
        })
        .await
        .map_err(environment)?;
        let phase = platform::Phase::Snapshot;
        site.log_init_start(invoker, phase, (function, &plan.resolved));
        if let Some(complaint) = complaint {
            site.capture.push(
                invoker.clock().now(),
                Some(format!("[WARNING] no priming events: {complaint}\n")),
            );
            site.capture.flush();
        }
        let began = Instant::now();
        let run = Run {
            invoker,
            function,
            resolved: &plan.resolved,
            token: Some(&token),
            phase,
        };
        let initialised = match launch(run, &mut site).await {
            Ok(launched) => {
                let init = Initialising {
                    launched,
                    init,
                    began,
                    token,
                };
                self.await_init(invoker, revision, site, init).await
            }
            Err(LaunchError::EntryPoint(crash)) => {
                let fault = InitFault::Crashed(crash);
                site.end_after(invoker, &fault, phase, began.elapsed())
                    .await;
                Err(SnapshotError::Init(fault.failure(function)))
            }
            Err(LaunchError::Server(err)) => Err(environment(err)),
        };
        drop(lease);
        initialised
    }

    async fn await_init(
        self: &Arc<Self>,
        invoker: &Arc<Invoker>,
        revision: &Arc<Revision>,
        site: Site,
        init: Initialising,
    ) -> Result<Initialised, SnapshotError> {
        let function = &revision.function;
        let Initialising {
            launched,
            init,
            began,
            token,
        } = init;
        let process = Arc::new(launched.process);
        let watcher = site.watch(invoker, revision.key.clone(), &process);
        let readers = site.capture.spawn_readers();
        let limit = self.config.init_timeout(function.timeout);
        let outcome = tokio::time::timeout(limit, init).await;
        let elapsed = began.elapsed();
        let fault = match outcome {
            Ok(Ok(InitOutcome::Ready | InitOutcome::RestoreReady)) => {
                self.metrics.record(Phase::Init, elapsed);
                // Its end is no longer news.
                drop(watcher);
                let cut = if site.extensions.close() {
                    Ok(Initialised::Unfit(EXTENSIONS.into()))
                } else {
                    self.cut(&site, &process, (launched.pipes, token), function)
                        .await
                };
                site.capture.drain();
                site.log_init_report(invoker, platform::Phase::Snapshot, elapsed);
                drop(readers);
                site.sandbox.destroy().await;
                return cut;
            }
            Ok(Ok(InitOutcome::Failed(fault))) => {
                // The runtime prints and exits after its report; what it prints belongs here.
                let _ = tokio::time::timeout(EXIT_AFTER_REPORT, process.wait()).await;
                InitFault::Reported(fault)
            }
            Ok(Ok(InitOutcome::Exited(exit))) => site.crashed(&exit),
            // The sender lives in the exchange, which `site` holds.
            Ok(Err(_)) => site.crashed(&sandbox::Exit::Signal(9)),
            Err(_) => InitFault::TimedOut,
        };
        drop((watcher, readers));
        let elapsed = elapsed.min(limit);
        site.end_after(invoker, &fault, platform::Phase::Snapshot, elapsed)
            .await;
        Err(SnapshotError::Init(fault.failure(function)))
    }

    /// Freezes a runtime that waits for what comes after the snapshot.
    async fn cut(
        &self,
        site: &Site,
        process: &sandbox::Process,
        (pipes, token): (Vec<(External, u64)>, String),
        function: &Arc<Function>,
    ) -> Result<Initialised, SnapshotError> {
        let failed = |err: std::io::Error| SnapshotError::Freeze(Arc::new(err));
        let Ok(quiet) = tokio::time::timeout(QUIET, site.exchange.quiet()).await else {
            return Ok(Initialised::Unfit(
                "a request to the Runtime API was not completed before the snapshot".into(),
            ));
        };
        tokio::time::sleep(SETTLES).await;
        let pending: Vec<Pending> = site.exchange.pending();
        if pending.is_empty() {
            return Ok(Initialised::Unfit(
                "the runtime closed its connection to the Runtime API before the snapshot".into(),
            ));
        }
        let pid = process.host_pid().map_err(environment)?;
        let scratch_max_bytes = u64::from(function.ephemeral_mb) * 1024 * 1024;
        let began = Instant::now();
        let freezing = tokio::task::spawn_blocking(move || {
            let pages = Pages::new().map_err(|source| FreezeError::Failed {
                doing: "create the page file".into(),
                source,
            })?;
            let options = FreezeOptions {
                externals: &pipes,
                local_listeners: &[variables::RUNTIME_API_PORT, variables::ENDPOINT_PORT],
                scratch_max_bytes,
                ..FreezeOptions::default()
            };
            let frozen = snapshot::freeze(pid, &options, pages.file())?;
            Ok::<_, FreezeError>((frozen, pages))
        });
        let (frozen, pages) = match freezing.await {
            Ok(Ok(frozen)) => frozen,
            Ok(Err(err)) => return unfreezable(err).map(Initialised::Unfit),
            Err(err) => return Err(failed(std::io::Error::other(err))),
        };
        self.metrics.lap(Phase::Freeze, began);
        let quiet = tokio::time::timeout(QUIET, site.exchange.was_quiet_since(quiet));
        if quiet.await != Ok(true) {
            return Ok(Initialised::Noisy);
        }
        let header = Header {
            pending,
            token,
            shares_memory: may_share_memory(&frozen),
        };
        Ok(Initialised::Cut(Box::new(Cut {
            frozen,
            pages,
            header,
        })))
    }

    /// Makes it what restores start from. The inner error says why that cannot be.
    async fn bring_to_life(
        self: &Arc<Self>,
        cut: Cut,
    ) -> Result<Result<(Arc<LiveImage>, Vec<u8>), String>, SnapshotError> {
        let Some(confinement) = self.confinement.clone() else {
            return Ok(Err("environments cannot be restored on this host".into()));
        };
        let snapshots = Arc::clone(self);
        let working = tokio::task::spawn_blocking(move || {
            let Cut {
                frozen,
                pages,
                header,
            } = cut;
            let encoded = frozen.image.encode();
            let Some(meta) = envelope::seal(&header, &encoded) else {
                return Ok(Err("its description cannot be written".to_owned()));
            };
            let parts = (header, frozen.image);
            match LiveImage::complete(parts, &confinement, pages, &snapshots) {
                Ok(live) => Ok(Ok((Arc::new(live), meta))),
                Err(err) => unthawable(err).map(Err),
            }
        });
        match working.await {
            Ok(Ok(made)) => Ok(made),
            Ok(Err(err)) => Err(SnapshotError::Freeze(Arc::new(err))),
            Err(err) => Err(SnapshotError::Freeze(Arc::new(err))),
        }
    }

    /// Thaws it once, up to its last step. The inner error says why that does not work.
    async fn try_out(
        self: &Arc<Self>,
        invoker: &Arc<Invoker>,
        revision: &Arc<Revision>,
        plan: &Arc<Plan>,
        live: &Arc<LiveImage>,
    ) -> Result<Result<(), String>, SnapshotError> {
        let began = Instant::now();
        let source = Source {
            snapshots: Arc::clone(self),
            revision: Arc::clone(revision),
            plan: Arc::clone(plan),
            live: Arc::clone(live),
        };
        let arrived = match Raised::raise(invoker, source, false).await {
            Ok(mut raised) => {
                let arrived = raised.arrived(TRIAL).await;
                Box::new(raised).end(invoker, false);
                arrived
            }
            Err(err) => Err(err),
        };
        self.metrics.lap(Phase::Trial, began);
        match arrived {
            Ok(()) => Ok(Ok(())),
            Err(ThawError::Environment(err)) => Err(environment(err)),
            Err(err) => Ok(Err(format!("a trial restore failed: {}", chain(&err)))),
        }
    }
}

/// An init that has begun.
struct Initialising {
    launched: Launched,
    init: oneshot::Receiver<InitOutcome>,
    began: Instant,
    token: String,
}

async fn priming_events(function: &Arc<Function>) -> (VecDeque<Bytes>, Option<String>) {
    let function = Arc::clone(function);
    let reading = tokio::task::spawn_blocking(move || priming::events(&function));
    match reading.await {
        Ok(Ok(events)) => (events.into(), None),
        Ok(Err(complaint)) => (VecDeque::new(), Some(complaint)),
        Err(err) => (VecDeque::new(), Some(err.to_string())),
    }
}

/// Why a process cannot be frozen, if that is for what it is, or for what this machine is. Anything
/// else may go well another time.
fn unfreezable(err: FreezeError) -> Result<String, SnapshotError> {
    match err {
        FreezeError::Unsupported { what } => Ok(what),
        err => Err(SnapshotError::Freeze(Arc::new(err))),
    }
}

/// The same of an image that was made, and cannot become a process here.
fn unthawable(err: LiveError) -> Result<String, LiveError> {
    match err {
        LiveError::Compile(err) => Ok(chain(&err)),
        err => Err(err),
    }
}

/// Clones may share the pages of the image if nothing in the process relies on what the kernel
/// promises of memory that was given back: that it reads as zeros. The interpreters that firn knows
/// do not; allocators that do are looked for.
fn may_share_memory(frozen: &Frozen) -> bool {
    frozen.allocators.is_empty() && is_known_interpreter(&frozen.image.exe)
}

/// By what it is, not by the function's runtime: a `bootstrap` may be a script that starts one. One
/// that comes with the function may have been built in any way.
fn is_known_interpreter(program: &[u8]) -> bool {
    let own = ["/var/task/", "/opt/", "/tmp/"];
    let name = program.rsplit(|byte| *byte == b'/').next();
    let name = name.unwrap_or_default();
    !own.iter()
        .any(|folder| program.starts_with(folder.as_bytes()))
        && (name.starts_with(b"python3") || name == b"node" || name == b"java")
}

impl InitFault {
    /// As whoever asked for the snapshot is told.
    fn failure(&self, function: &Function) -> InitFailure {
        match self {
            Self::Crashed(Crash {
                error_type,
                message,
            }) => InitFailure {
                error_type: (*error_type).to_owned(),
                message: message.clone(),
                state_reason_code: match *error_type {
                    "Runtime.InvalidEntrypoint" => "FunctionError.InvalidEntryPoint",
                    "Runtime.OutOfMemory" => "FunctionError.InitResourceExhausted",
                    _ => "FunctionError",
                },
            },
            Self::Reported(fault) => {
                let body: serde_json::Value =
                    serde_json::from_slice(&fault.body).unwrap_or_default();
                let text = |name: &str| body.get(name)?.as_str().map(str::to_owned);
                InitFailure {
                    error_type: fault
                        .error_type
                        .clone()
                        .or_else(|| text("errorType"))
                        .unwrap_or_else(|| "Runtime.Unknown".into()),
                    message: text("errorMessage").unwrap_or_default(),
                    state_reason_code: "FunctionError.RuntimeInitError",
                }
            }
            Self::TimedOut => InitFailure {
                error_type: "Sandbox.Timedout".into(),
                message: format!("the init of {} took too long for a snapshot", function.name),
                state_reason_code: "FunctionError.InitTimeout",
            },
        }
    }
}

fn environment(err: sandbox::Error) -> SnapshotError {
    SnapshotError::Environment(Arc::new(err))
}

/// An error with its causes.
fn chain(err: &dyn StdError) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        text.push_str(": ");
        text.push_str(&err.to_string());
        cause = err.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use snapshot::TapeError;

    use super::*;

    #[test]
    fn another_architecture_is_a_reason_and_a_failure_is_none() {
        let reason = unthawable(LiveError::Compile(TapeError::Architecture)).unwrap();
        assert_eq!(reason, "processes cannot be thawed on this architecture");
        let full = || std::io::Error::other("no room");
        assert!(unthawable(LiveError::Memory(full())).is_err());

        let what = "freezing needs an x86-64 processor".to_owned();
        let refused = FreezeError::Unsupported { what: what.clone() };
        assert_eq!(unfreezable(refused).unwrap(), what);
        let failed = FreezeError::Failed {
            doing: "write pages".into(),
            source: full(),
        };
        assert!(matches!(unfreezable(failed), Err(SnapshotError::Freeze(_))));
    }

    #[test]
    fn only_installed_interpreters_are_known() {
        for program in [
            "/usr/bin/python3.11",
            "/root/n/bin/node",
            "/usr/lib/jvm/bin/java",
        ] {
            assert!(is_known_interpreter(program.as_bytes()), "{program}");
        }
        for program in [
            "/var/task/bootstrap",
            "/opt/bin/node",
            "/usr/bin/nodejs-like",
            "",
        ] {
            assert!(!is_known_interpreter(program.as_bytes()), "{program}");
        }
    }
}

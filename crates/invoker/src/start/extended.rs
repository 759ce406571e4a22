//! What a start has to do about extensions.

use std::sync::Arc;
use std::time::Instant;

use clock::Timestamp;
use sandbox::{Command, Exit, Process};
use tokio::sync::oneshot;

use super::{EXIT_AFTER_REPORT, InitFault, Site, Start};
use crate::environment::Aborted;
use crate::extensions::{Companion, Companions, ExtensionFault, Extensions, Reason};
use crate::invoker::Invoker;
use crate::output::platform::{self, Phase, Status, Versions, Writer};
use crate::output::{Capture, Sources};
use crate::runtime_api::{InitOutcome, RuntimeFault};
use crate::runtimes::Resolved;
use crate::telemetry::{Audience, Category};
use crate::variables::{self, Access};
use crate::{Function, FunctionKey};

/// Why the runtime is not started.
pub(super) enum NoExtensions {
    Fault(InitFault),
    Server(sandbox::Error),
}

/// How an init phase ended for runtime and extensions together.
pub(super) enum CameUp {
    Ready,
    Failed(RuntimeFault),
    Exited(Exit),
    Extension(ExtensionFault),
}

impl Site {
    /// Starts the external extensions and waits until they have registered.
    pub(super) async fn start_extensions(
        &mut self,
        start: &Start,
        resolved: &Resolved,
        names: Vec<String>,
        began: Instant,
    ) -> Result<(), NoExtensions> {
        let credentials = (start.invoker.hooks().credentials)(&start.function);
        let access = Access::Keys(credentials, start.phase.initialization_type());
        let env = variables::build_for_extensions(&start.function, resolved, access);
        for name in names {
            if !self.extensions.start(&name) {
                break;
            }
            let mut command = Command::new(format!("/opt/extensions/{name}"));
            command.env.clone_from(&env);
            match self.sandbox.spawn(command).await {
                Ok(process) => self.accompany(start, name, process)?,
                Err(sandbox::Error::Exec { source, .. }) => {
                    self.extensions.not_started(&name, &source);
                    break;
                }
                Err(err) => return Err(NoExtensions::Server(err)),
            }
        }
        let left = start.limit.saturating_sub(began.elapsed());
        let registered = tokio::time::timeout(left, async {
            tokio::select! {
                biased;
                fault = self.extensions.broken() => Some(fault),
                () = self.extensions.registered() => None,
            }
        });
        let fault = match registered.await {
            Ok(None) => return Ok(()),
            Ok(Some(fault)) => InitFault::Crashed(fault.into()),
            Err(_) => InitFault::TimedOut,
        };
        self.shut_down_extensions(&start.invoker, None, &fault)
            .await;
        Err(NoExtensions::Fault(fault))
    }

    /// Takes the process of an extension in.
    fn accompany(
        &mut self,
        start: &Start,
        name: String,
        mut process: Process,
    ) -> Result<(), NoExtensions> {
        let lines = [process.stdout(), process.stderr()];
        let sources = Sources {
            lines: lines.into_iter().flatten().collect(),
            frames: None,
        };
        self.capture
            .add(sources, Category::Extension)
            .map_err(|err| NoExtensions::Server(super::io_error(err)))?;
        self.capture.tend(&mut self.readers);
        let process = Arc::new(process);
        let watcher = self.watch_companion(&start.invoker, start.key.clone(), &name, &process);
        self.companions.push(Companion {
            name,
            process,
            _watcher: watcher,
        });
        Ok(())
    }

    fn watch_companion(
        &self,
        invoker: &Arc<Invoker>,
        key: FunctionKey,
        name: &str,
        process: &Arc<Process>,
    ) -> Aborted {
        let (process, extensions) = (Arc::clone(process), Arc::clone(&self.extensions));
        let (invoker, name) = (Arc::downgrade(invoker), name.to_owned());
        let id = self.entry.id();
        let watching = tokio::spawn(async move {
            let exit = process.wait().await;
            extensions.exited(&name, exit);
            // As with a runtime: of an idle environment nobody else would notice.
            if let Some(invoker) = invoker.upgrade() {
                invoker.runtime_ended(&key, id);
            }
        });
        Aborted(watching.abort_handle())
    }

    /// Resolves when the runtime and all extensions ask for their first event, or cannot.
    pub(super) async fn come_up(
        &self,
        start: &Start,
        (process, init): (&Process, oneshot::Receiver<InitOutcome>),
    ) -> CameUp {
        let outcome = tokio::select! {
            outcome = init => outcome,
            fault = self.extensions.broken_within(EXIT_AFTER_REPORT) => {
                let status = Status::Error(fault.error_type.to_owned());
                self.tell_runtime_done(start, &status);
                return CameUp::Extension(fault);
            }
        };
        // The sender lives in the exchange, which `self` holds.
        match outcome.unwrap_or(InitOutcome::Exited(Exit::Signal(9))) {
            InitOutcome::Ready | InitOutcome::RestoreReady => {}
            InitOutcome::Failed(fault) => {
                let error_type = super::valid_error_type(fault.error_type.as_deref());
                self.tell_runtime_done(start, &Status::Error(error_type));
                return CameUp::Failed(fault);
            }
            InitOutcome::Exited(exit) => {
                self.tell_runtime_done(start, &Status::Error("Runtime.ExitError".into()));
                return CameUp::Exited(exit);
            }
        }
        self.tell_runtime_done(start, &Status::Success);
        if !self.extensions.close() {
            return CameUp::Ready;
        }
        tokio::select! {
            biased;
            fault = self.extensions.broken_within(EXIT_AFTER_REPORT) => CameUp::Extension(fault),
            exit = process.wait() => CameUp::Exited(exit),
            () = self.extensions.ready() => CameUp::Ready,
        }
    }

    /// Ends the init phase, which went well.
    pub(super) fn finish_init(
        &mut self,
        start: &Start,
        elapsed: std::time::Duration,
    ) -> Option<Box<Companions>> {
        let now = start.invoker.clock().now();
        let has_extensions = log_extensions(now, &self.extensions, (&self.capture, self.writer));
        let (phase, status) = (start.phase, Status::Success);
        let line = self.writer.init_report(now, elapsed, phase, &status);
        self.capture.push(now, line);
        let telemetry = self.capture.telemetry();
        telemetry.platform(Audience::Telemetry, now, "platform.initReport", || {
            platform::init_report_record(elapsed, phase, &status)
        });
        telemetry.close();
        has_extensions.then(|| {
            Box::new(Companions {
                extensions: Arc::clone(&self.extensions),
                telemetry: Arc::clone(telemetry),
                processes: std::mem::take(&mut self.companions),
            })
        })
    }

    /// Before an environment whose init failed is destroyed.
    pub(super) async fn shut_down_extensions(
        &mut self,
        invoker: &Invoker,
        runtime: Option<&Process>,
        fault: &InitFault,
    ) {
        if self.companions.is_empty() {
            return;
        }
        let reason = match fault {
            InitFault::TimedOut => Reason::Timeout,
            _ => Reason::Failure,
        };
        let companions = Companions {
            extensions: Arc::clone(&self.extensions),
            telemetry: Arc::clone(self.capture.telemetry()),
            processes: std::mem::take(&mut self.companions),
        };
        companions.shut_down(runtime, reason, invoker.clock()).await;
    }

    pub(super) fn tell_init_start(
        &self,
        now: Timestamp,
        phase: Phase,
        function: &Function,
        versions: &Versions,
    ) {
        let telemetry = self.capture.telemetry();
        telemetry.platform(Audience::Telemetry, now, "platform.initStart", || {
            platform::init_start_record(phase, function, versions)
        });
    }

    fn tell_runtime_done(&self, start: &Start, status: &Status) {
        let now = start.invoker.clock().now();
        // What the runtime printed so far comes before.
        self.capture.drain();
        let line = self.writer.init_runtime_done(now, start.phase, status);
        self.capture.push(now, line);
        let telemetry = self.capture.telemetry();
        let kind = "platform.initRuntimeDone";
        telemetry.platform(Audience::Telemetry, now, kind, || {
            platform::init_runtime_done_record(start.phase, status)
        });
    }
}

/// Logs where the extensions stand when the init phase is over. Says whether there are any.
pub(super) fn log_extensions(
    now: Timestamp,
    extensions: &Extensions,
    (capture, writer): (&Capture, Writer),
) -> bool {
    let standings = extensions.standings();
    let telemetry = capture.telemetry();
    for notice in telemetry.take_notices() {
        capture.push(now, writer.subscription(notice.time, &notice));
    }
    for standing in &standings {
        capture.push(now, writer.extension(now, standing));
        telemetry.platform(Audience::Both, now, "platform.extension", || {
            platform::extension_record(standing)
        });
    }
    !standings.is_empty()
}

//! Getting an environment: by a cold start, or by a thaw.
//!
//! [`Site::prepare`] lays the ground that every way shares: a sandbox from the pool with mounts and
//! limits, its Runtime API, its log stream. What brings the runtime up on it is a step of its own:
//! [`launch`] starts one from nothing, [`Raised`] brings one back from a snapshot. Both end in
//! [`Environment::assemble`].

mod extended;
mod paging;
mod thaw;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sandbox::{Command, Exit, Mount, Process, Sandbox, Spec};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::environment::{self, Aborted, Crash, Environment, MemoryLease, Parts, Services};
use crate::extensions::{self, Companion, Extensions};
use crate::invoker::Invoker;
use crate::output::platform::{Phase, Status, Versions, Writer};
use crate::output::{Capture, LevelFilter, Sources, Stream};
use crate::runtime_api::{
    self, CredentialSource, Exchange, Init, InitOutcome, Pending, RuntimeFault, Service,
};
use crate::runtimes::{Resolved, RuntimeError};
use crate::status::{EnvironmentState, EnvironmentStatus};
use crate::telemetry::{Category, Telemetry};
use crate::variables::Access;
use crate::{EndpointIdentity, Function, FunctionKey, InvokeError, variables};

use extended::{CameUp, NoExtensions, log_extensions};
pub(crate) use thaw::{Raised, Source, ThawError, Unleased};

/// A start to be made.
pub(crate) struct Start {
    pub invoker: Arc<Invoker>,
    pub key: FunctionKey,
    pub function: Arc<Function>,
    pub lease: MemoryLease,
    /// The log stream of an earlier try, which this one continues.
    pub stream: Option<Stream>,
    pub phase: Phase,
    pub limit: Duration,
}

/// Why there is no environment.
#[derive(Debug)]
pub(crate) enum StartFailure {
    /// The function's init failed: the invocation tries once more, then reports it.
    Init(FailedInit),
    /// The server failed, or cannot run this runtime.
    Unable(InvokeError),
}

/// A failed init, with what a second try goes on with.
#[derive(Debug)]
pub(crate) struct FailedInit {
    pub lease: MemoryLease,
    pub stream: Stream,
    pub fault: InitFault,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InitFault {
    /// The runtime ended, or could not be started at all.
    Crashed(Crash),
    /// The runtime reported it.
    Reported(RuntimeFault),
    TimedOut,
}

impl InitFault {
    pub fn status(&self) -> Status {
        match self {
            Self::Crashed(crash) => Status::Error(crash.error_type.to_owned()),
            Self::Reported(fault) => Status::Error(valid_error_type(fault.error_type.as_deref())),
            Self::TimedOut => Status::Timeout,
        }
    }
}

/// The platform's logs show only error types of these two families; anything else is unknown.
pub(crate) fn valid_error_type(reported: Option<&str>) -> String {
    let reported = reported.unwrap_or_default();
    let named = ["Runtime.", "Function."].iter().any(|family| {
        reported
            .strip_prefix(family)
            .is_some_and(|name| name.starts_with(|c: char| c.is_ascii_uppercase()))
    });
    match reported {
        named_type if named => named_type.to_owned(),
        other if other.starts_with("Function.") => "Function.Unknown".to_owned(),
        _ => "Runtime.Unknown".to_owned(),
    }
}

/// Starts a runtime from nothing.
pub(crate) async fn cold(start: Start) -> Result<Box<Environment>, StartFailure> {
    let (resolved, external) = match resolve(&start).await {
        Ok(found) => found,
        Err(RuntimeError::NoBootstrap) => return Err(start.without_entry_point()),
        Err(err) => return Err(StartFailure::Unable(InvokeError::Runtime(err))),
    };
    let (exchange, init) = Exchange::new(Init::OnDemand);
    let plot = Plot {
        invoker: &start.invoker,
        function: &start.function,
        resolved: &resolved,
        exchange,
        stream: start.stream.clone(),
        token: None,
        replay: Vec::new(),
        fresh: true,
    };
    let mut site = Site::prepare(plot).await.map_err(unable)?;
    if start.function.is_debugged() {
        let connector = site.sandbox.connector();
        start.invoker.debuggers().put(start.key.clone(), connector);
    }
    // A second try continues the first one's stream and is not announced again.
    if start.phase != Phase::Invoke {
        site.log_init_start(&start.invoker, start.phase, (&start.function, &resolved));
    }
    let began = Instant::now();
    if !external.is_empty() {
        let started = site.start_extensions(&start, &resolved, external, began);
        match started.await {
            Ok(()) => {}
            Err(NoExtensions::Fault(fault)) => {
                return Err(site.fail(start, fault, began.elapsed()).await);
            }
            Err(NoExtensions::Server(err)) => return Err(unable(err)),
        }
    }
    let run = Run {
        invoker: &start.invoker,
        function: &start.function,
        resolved: &resolved,
        token: None,
        phase: start.phase,
    };
    match launch(run, &mut site).await {
        Ok(launched) => {
            site.await_init(start, (launched.process, init), began)
                .await
        }
        Err(LaunchError::EntryPoint(crash)) => Err(site
            .fail(start, InitFault::Crashed(crash), began.elapsed())
            .await),
        Err(LaunchError::Server(err)) => Err(unable(err)),
    }
}

/// Finds the runtime and the external extensions. Resolving may run an interpreter to ask for its
/// version, so it is kept off the event loop.
async fn resolve(start: &Start) -> Result<(Resolved, Vec<String>), RuntimeError> {
    let runtimes = start.invoker.runtimes().clone();
    let function = Arc::clone(&start.function);
    let resolving = tokio::task::spawn_blocking(move || {
        let layers = &function.layer_dirs;
        let resolved = runtimes.resolve_function(&function.runtime, &function.code_dir, layers)?;
        Ok((resolved, extensions::external_extensions(layers)))
    });
    resolving
        .await
        .unwrap_or_else(|_| Err(RuntimeError::Unknown(start.function.runtime.clone())))
}

/// What a [`Site`] is prepared for.
pub(crate) struct Plot<'a> {
    pub invoker: &'a Arc<Invoker>,
    pub function: &'a Arc<Function>,
    pub resolved: &'a Resolved,
    pub exchange: Exchange,
    /// The log stream of an earlier try, which this one continues.
    pub stream: Option<Stream>,
    /// With which the environment asks for its credentials, if it does not have them as variables.
    pub token: Option<String>,
    /// Requests that a thawed runtime is waiting for.
    pub replay: Vec<Pending>,
    /// The runtime is started here, not thawed, so that extensions can register.
    pub fresh: bool,
}

/// A sandbox that is ready for a runtime.
#[derive(Debug)]
pub(crate) struct Site {
    pub sandbox: Sandbox,
    pub exchange: Arc<Exchange>,
    pub api: Aborted,
    pub endpoint: crate::EndpointGuard,
    pub stream: Stream,
    pub entry: crate::status::Entry,
    pub capture: Arc<Capture>,
    pub writer: Writer,
    pub extensions: Arc<Extensions>,
    companions: Vec<Companion>,
    /// Tasks that read what processes print.
    readers: JoinSet<()>,
}

impl Site {
    pub async fn prepare(plot: Plot<'_>) -> Result<Self, sandbox::Error> {
        let mut prepared = plot.invoker.sandboxes().take().await?;
        let listeners = Listeners::take(&mut prepared)?;
        let spec = spec(plot.invoker, plot.function, plot.resolved);
        // The rest is done while the environment takes in its mounts.
        let (sandbox, ground) =
            tokio::join!(prepared.enter(spec), async { Ground::lay(plot, listeners) });
        let (sandbox, ground) = (sandbox?, ground.map_err(io_error)?);
        Ok(ground.with(sandbox))
    }

    pub fn log_init_start(
        &self,
        invoker: &Invoker,
        phase: Phase,
        (function, resolved): (&Function, &Resolved),
    ) {
        let now = invoker.clock().now();
        let versions = Versions::of(function, resolved.version.as_deref());
        let line = self.writer.init_start(now, phase, function, &versions);
        self.capture.push(now, line);
        self.tell_init_start(now, phase, function, &versions);
        self.capture.flush();
    }

    /// Logs an init that went well.
    pub fn log_init_report(&self, invoker: &Invoker, phase: Phase, elapsed: Duration) {
        let now = invoker.clock().now();
        let line = self
            .writer
            .init_report(now, elapsed, phase, &Status::Success);
        self.capture.push(now, line);
        self.capture.flush();
    }

    /// Takes over the output of the runtime's process.
    pub fn listen(&self, sources: Sources) -> io::Result<()> {
        self.capture.add(sources, Category::Function)
    }

    /// Waits until the runtime asks for its first event, and every extension with it.
    async fn await_init(
        mut self,
        start: Start,
        (process, init): (Process, oneshot::Receiver<InitOutcome>),
        began: Instant,
    ) -> Result<Box<Environment>, StartFailure> {
        let process = Arc::new(process);
        let watcher = self.watch(&start.invoker, start.key.clone(), &process);
        self.capture.tend(&mut self.readers);
        let left = start.limit.saturating_sub(began.elapsed());
        let coming_up = self.come_up(&start, (&process, init));
        let outcome = tokio::time::timeout(left, coming_up).await;
        let elapsed = began.elapsed();
        let fault = match outcome {
            Ok(CameUp::Ready) => {
                let companions = self.finish_init(&start, elapsed);
                let services = Services {
                    api: self.api,
                    readers: self.readers,
                    watcher,
                    endpoint: self.endpoint,
                    pager: None,
                };
                return Ok(Box::new(Environment::assemble(Parts {
                    key: start.key,
                    function: start.function,
                    exchange: self.exchange,
                    capture: self.capture,
                    entry: self.entry,
                    // Inside an invocation it is part of that invocation's duration; ahead of all
                    // of them it is none's.
                    init_duration: (start.phase == Phase::Init).then_some(elapsed),
                    restored: None,
                    origin: None,
                    companions,
                    sandbox: self.sandbox,
                    process,
                    lease: start.lease,
                    services,
                })));
            }
            Ok(CameUp::Failed(fault)) => {
                // The runtime prints and exits after its report; what it prints belongs here.
                let _ = tokio::time::timeout(EXIT_AFTER_REPORT, process.wait()).await;
                InitFault::Reported(fault)
            }
            Ok(CameUp::Exited(exit)) => self.crashed(&exit),
            Ok(CameUp::Extension(fault)) => InitFault::Crashed(fault.into()),
            Err(_) => InitFault::TimedOut,
        };
        self.shut_down_extensions(&start.invoker, Some(&process), &fault)
            .await;
        drop((watcher, std::mem::take(&mut self.readers)));
        Err(self.fail(start, fault, elapsed).await)
    }

    pub fn crashed(&self, exit: &Exit) -> InitFault {
        InitFault::Crashed(environment::crash(exit, self.sandbox.oom_kills() > 0))
    }

    async fn fail(self, start: Start, fault: InitFault, elapsed: Duration) -> StartFailure {
        let elapsed = if fault == InitFault::TimedOut {
            start.limit
        } else {
            elapsed
        };
        let stream = self.stream.clone();
        self.end_after(&start.invoker, &fault, start.phase, elapsed)
            .await;
        StartFailure::Init(FailedInit {
            lease: start.lease,
            stream,
            fault,
        })
    }

    /// Ends everything after an init that failed, and logs that it did.
    pub async fn end_after(
        self,
        invoker: &Invoker,
        fault: &InitFault,
        phase: Phase,
        elapsed: Duration,
    ) {
        let now = invoker.clock().now();
        self.sandbox.destroy().await;
        self.capture.drain();
        log_extensions(now, &self.extensions, (&self.capture, self.writer));
        let line = self
            .writer
            .init_report(now, elapsed, phase, &fault.status());
        self.capture.push(now, line);
        self.capture.flush();
    }

    /// Tells the exchange, and with it whoever waits, that the runtime is gone.
    pub fn watch(
        &self,
        invoker: &Arc<Invoker>,
        key: FunctionKey,
        process: &Arc<Process>,
    ) -> Aborted {
        let process = Arc::clone(process);
        let exchange = Arc::clone(&self.exchange);
        let invoker = Arc::downgrade(invoker);
        let id = self.entry.id();
        let watching = tokio::spawn(async move {
            let exit = process.wait().await;
            exchange.close(exit);
            if let Some(invoker) = invoker.upgrade() {
                invoker.runtime_ended(&key, id);
            }
        });
        Aborted(watching.abort_handle())
    }
}

/// What a [`Site`] has beside its sandbox.
struct Ground {
    exchange: Arc<Exchange>,
    api: Aborted,
    endpoint: crate::EndpointGuard,
    stream: Stream,
    entry: crate::status::Entry,
    capture: Arc<Capture>,
    writer: Writer,
    extensions: Arc<Extensions>,
}

impl Ground {
    fn lay(plot: Plot<'_>, listeners: Listeners) -> io::Result<Self> {
        let Plot {
            invoker, function, ..
        } = plot;
        let listener = TcpListener::from_std(listeners.api)?;
        let exchange = Arc::new(plot.exchange);
        let credentials = plot.token.map(|token| {
            let (hooks, function) = (invoker.hooks().clone(), Arc::clone(function));
            CredentialSource::new(token, invoker.clock().clone(), move || {
                (hooks.credentials)(&function)
            })
        });
        let clock = invoker.clock().clone();
        let (extensions, telemetry) = if plot.fresh {
            let telemetry = Telemetry::new(function.log_format, clock);
            (Extensions::default(), telemetry)
        } else {
            (Extensions::closed(), Telemetry::off(clock))
        };
        let (extensions, telemetry) = (Arc::new(extensions), Arc::new(telemetry));
        let service = Service {
            limits: invoker.limits(),
            credentials,
            replay: plot.replay,
            extensions: Arc::clone(&extensions),
            telemetry: Arc::clone(&telemetry),
            about: extensions::api::About::of(function),
        };
        let served = runtime_api::serve(listener, Arc::clone(&exchange), service);
        let api = Aborted(tokio::spawn(served).abort_handle());
        let endpoint =
            (invoker.hooks().endpoint)(listeners.endpoint, EndpointIdentity::of(function));

        let now = invoker.clock().now();
        let stream = plot.stream.unwrap_or_else(|| Stream::new(function, now));
        let entry = invoker.registry().enter(EnvironmentStatus {
            id: 0,
            function_arn: function.arn.clone(),
            version: function.version.clone(),
            memory_mb: function.memory_mb,
            log_stream: stream.name.to_string(),
            started: now,
            state: EnvironmentState::Starting,
        });
        Ok(Self {
            exchange,
            api,
            endpoint,
            capture: Arc::new(
                Capture::new(
                    stream.clone(),
                    invoker.hooks().clone(),
                    invoker.clock().clone(),
                    telemetry,
                )
                .filtered(LevelFilter::of(function)),
            ),
            writer: Writer::of(function),
            stream,
            entry,
            extensions,
        })
    }

    fn with(self, sandbox: Sandbox) -> Site {
        self.capture.telemetry().connect_by(sandbox.connector());
        Site {
            sandbox,
            exchange: self.exchange,
            api: self.api,
            endpoint: self.endpoint,
            stream: self.stream,
            entry: self.entry,
            capture: self.capture,
            writer: self.writer,
            extensions: self.extensions,
            companions: Vec::new(),
            readers: JoinSet::new(),
        }
    }
}

/// What functions connect to on their own loopback.
struct Listeners {
    api: std::net::TcpListener,
    endpoint: std::net::TcpListener,
}

impl Listeners {
    fn take(prepared: &mut sandbox::Prepared) -> Result<Self, sandbox::Error> {
        Ok(Self {
            api: prepared.listener(variables::RUNTIME_API_PORT)?,
            endpoint: prepared.listener(variables::ENDPOINT_PORT)?,
        })
    }
}

/// After `init/error` a runtime gets this long to end by itself.
pub(crate) const EXIT_AFTER_REPORT: Duration = Duration::from_millis(200);

impl Start {
    /// A package without a `bootstrap`: told as AWS tells it, without any sandbox.
    fn without_entry_point(self) -> StartFailure {
        let now = self.invoker.clock().now();
        let stream = self
            .stream
            .unwrap_or_else(|| Stream::new(&self.function, now));
        let fault = InitFault::Crashed(Crash {
            error_type: "Runtime.InvalidEntrypoint",
            message: RuntimeError::NoBootstrap.to_string(),
        });
        let capture = silent_capture(&self.invoker, stream.clone());
        let writer = Writer::of(&self.function);
        capture.push(
            now,
            writer.init_report(now, Duration::ZERO, self.phase, &fault.status()),
        );
        capture.flush();
        StartFailure::Init(FailedInit {
            lease: self.lease,
            stream,
            fault,
        })
    }
}

/// A log stream with the platform's lines only.
pub(crate) fn silent_capture(invoker: &Invoker, stream: Stream) -> Arc<Capture> {
    let clock = invoker.clock().clone();
    let telemetry = Arc::new(Telemetry::off(clock.clone()));
    let hooks = invoker.hooks().clone();
    Arc::new(Capture::new(stream, hooks, clock, telemetry))
}

/// A runtime to be started from nothing.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub invoker: &'a Arc<Invoker>,
    pub function: &'a Arc<Function>,
    pub resolved: &'a Resolved,
    /// It is started for a snapshot, and asks for its credentials with this.
    pub token: Option<&'a str>,
    pub phase: Phase,
}

pub(crate) enum LaunchError {
    EntryPoint(Crash),
    Server(sandbox::Error),
}

/// A process, and the pipes that it writes to.
pub(crate) struct Launched {
    pub process: Process,
    pub pipes: Vec<(snapshot::External, u64)>,
}

pub(crate) async fn launch(run: Run<'_>, site: &mut Site) -> Result<Launched, LaunchError> {
    let Run {
        invoker,
        function,
        resolved,
        token,
        phase,
    } = run;
    let server = |err: io::Error| LaunchError::Server(io_error(err));
    let (memory_mb, environment) = (function.memory_mb, &function.environment);
    let (program, args) = match token {
        Some(_) => resolved.command(memory_mb, environment),
        None => resolved.command_here(memory_mb, environment),
    };
    // Clients of the `provided` family are not known to write frames, so AWS gives them no pipe.
    let log_pipe = match resolved.execution_env {
        Some(_) => Some(log_pipe().map_err(server)?),
        None => None,
    };
    let access = match token {
        Some(token) => Access::Token(token),
        None => Access::Keys(
            (invoker.hooks().credentials)(function),
            phase.initialization_type(),
        ),
    };
    let env = variables::build(
        function,
        resolved,
        access,
        &site.stream.name,
        log_pipe.is_some(),
    );
    let (frames, fds) = match log_pipe {
        Some((reader, writer)) => (Some(reader), vec![(writer, variables::TELEMETRY_LOG_FD)]),
        None => (None, Vec::new()),
    };
    let command = Command {
        program: program.clone(),
        args,
        env,
        cwd: "/var/task".into(),
        fds,
    };
    let mut process = match site.sandbox.spawn(command).await {
        Ok(process) => process,
        Err(sandbox::Error::Exec { source, .. }) => {
            return Err(LaunchError::EntryPoint(
                site.no_entry_point(run, &program, &source),
            ));
        }
        Err(err) => return Err(LaunchError::Server(err)),
    };
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let pipes = [
        (snapshot::External::Output, &stdout),
        (snapshot::External::Error, &stderr),
        (snapshot::External::Log, &frames),
    ];
    let pipes = pipes
        .into_iter()
        .filter_map(|(role, pipe)| Some((role, pipe_number(pipe.as_ref()?).ok()?)))
        .collect();
    let lines = [stdout, stderr].into_iter().flatten().collect();
    site.listen(Sources { lines, frames }).map_err(server)?;
    Ok(Launched { process, pipes })
}

/// What tells a pipe from others: both ends have the same.
fn pipe_number(pipe: &OwnedFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(pipe)?.st_ino)
}

impl Site {
    /// Words a program that cannot be executed. AWS runs managed runtimes through a shell script,
    /// which complains about a bad wrapper and exits as shells do.
    fn no_entry_point(&self, run: Run<'_>, program: &std::path::Path, source: &io::Error) -> Crash {
        let program = program.display();
        if run.resolved.program.as_os_str() != program.to_string().as_str() {
            let (complaint, code) = match source.kind() {
                io::ErrorKind::NotFound => ("does not exist", 127),
                _ => ("is not an executable", 126),
            };
            self.capture.push(
                run.invoker.clock().now(),
                Some(format!("{program}: {complaint}\n")),
            );
            return environment::crash(&Exit::Code(code), false);
        }
        let reason = match source.kind() {
            io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ if source.raw_os_error() == Some(8) => "exec format error".to_owned(),
            _ => source.to_string(),
        };
        Crash {
            error_type: "Runtime.InvalidEntrypoint",
            message: format!("fork/exec {program}: {reason}"),
        }
    }
}

/// A full pipe makes the function wait, never the server: it reads without blocking.
fn log_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    Ok((reader.into(), writer.into()))
}

pub(crate) fn spec(invoker: &Invoker, function: &Function, resolved: &Resolved) -> Spec {
    const MIB: u64 = 1024 * 1024;
    let mount = |source: PathBuf, target: &str| Mount {
        source,
        target: target.into(),
    };
    let mut mounts = vec![mount(function.code_dir.clone(), "/var/task")];
    mounts.extend(
        function
            .layer_dirs
            .iter()
            .map(|layer| mount(layer.clone(), "/opt")),
    );
    let runtime = resolved.mounts.iter().cloned();
    mounts.extend(runtime.map(|(source, target)| Mount { source, target }));
    Spec {
        memory_bytes: u64::from(function.memory_mb) * MIB,
        // AWS gives one vCPU per 1,769 MB.
        // https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
        cpu: invoker
            .config()
            .limit_cpu
            .then(|| f64::from(function.memory_mb) / 1769.0),
        pids_max: invoker.config().max_processes,
        tmp_bytes: u64::from(function.ephemeral_mb) * MIB,
        mounts,
        ..Spec::default()
    }
}

impl EndpointIdentity {
    fn of(function: &Function) -> Self {
        Self {
            account: function.account.clone(),
            region: function.region.clone(),
            role: function.role.clone(),
            function_arn: function.arn.clone(),
        }
    }
}

fn unable(err: sandbox::Error) -> StartFailure {
    StartFailure::Unable(InvokeError::Environment(Arc::new(err)))
}

fn io_error(source: io::Error) -> sandbox::Error {
    sandbox::Error::Io {
        action: "set up an environment's Runtime API".into(),
        source,
    }
}

/// The body that an invocation answers when its init failed.
pub(crate) fn error_body(error_type: &str, message: &str) -> Bytes {
    let text = |text| serde_json::Value::from(text);
    format!(
        r#"{{"errorType":{},"errorMessage":{}}}"#,
        text(error_type),
        text(message)
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_types_of_foreign_families_are_unknown() {
        assert_eq!(
            valid_error_type(Some("Runtime.ImportModuleError")),
            "Runtime.ImportModuleError"
        );
        assert_eq!(valid_error_type(Some("Function.weird")), "Function.Unknown");
        assert_eq!(valid_error_type(Some("ValueError")), "Runtime.Unknown");
        assert_eq!(valid_error_type(None), "Runtime.Unknown");
    }

    #[test]
    fn error_body_is_json_in_the_recorded_order() {
        assert_eq!(
            error_body("Sandbox.Timedout", "a \"b\""),
            r#"{"errorType":"Sandbox.Timedout","errorMessage":"a \"b\""}"#
        );
    }
}

//! One environment, as the server sees it.

use std::collections::HashMap;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::pipe::PipeFlags;
use tokio::io::Interest;
use tokio::sync::{oneshot, watch};

use crate::cgroup::{self, Group, Limits, OomSource};
use crate::connector::Connector;
use crate::link::Link;
use crate::process::Process;
use crate::service::{Service, patiently};
use crate::thawing::Thawing;
use crate::wire::{self, Enter, Failure, FromInit, Spawn, ToInit};
use crate::{Command, Egress, Error, Exit, Spec, Thaw, sys};

/// Numbers that `Command::fds` may ask for.
const TARGET_FDS: std::ops::Range<i32> = 3..128;
/// The kernel reports that memory ran out just before it kills.
const OOM_SETTLES: Duration = Duration::from_millis(1);
pub(crate) const ENDED: Error = Error::Ended("the environment");

/// What the handles of one environment share.
#[derive(Debug)]
pub struct Environment {
    id: u64,
    service: Arc<Service>,
    pub(crate) link: Link,
    group: Group,
    state: Mutex<State>,
    frozen: AtomicBool,
    gone: watch::Receiver<bool>,
}

#[derive(Debug, Default)]
struct State {
    ended: bool,
    last_sequence: u64,
    entering: Option<oneshot::Sender<Result<(), Failure>>>,
    spawning: HashMap<u64, oneshot::Sender<Result<Started, NotStarted>>>,
    connecting: HashMap<u64, oneshot::Sender<Result<OwnedFd, Failure>>>,
    processes: HashMap<i32, watch::Sender<Option<Exit>>>,
}

pub(crate) type Started = (i32, OwnedFd, watch::Receiver<Option<Exit>>);

#[derive(Debug)]
pub(crate) struct NotStarted {
    exec: bool,
    pub failure: Failure,
}

impl Environment {
    /// Waits for the first word of a new init.
    pub async fn ready(
        service: Arc<Service>,
        id: u64,
        link: Link,
        paths: cgroup::Paths,
        gone: watch::Receiver<bool>,
    ) -> Result<Prepared, Error> {
        let received = link.receive().await;
        let received = received.map_err(|err| Error::io("hear from the environment", err))?;
        let listeners = match received {
            Some((FromInit::Ready, fds)) => fds,
            Some((FromInit::NotReady(failure), _)) => return Err(failure.into()),
            Some(_) => {
                return Err(Error::Invalid(
                    "the environment answered out of turn".into(),
                ));
            }
            None => return Err(ENDED),
        };
        let ports = &service.config.listen_ports;
        if listeners.len() != ports.len() {
            return Err(Error::Invalid(
                "the environment sent too few listeners".into(),
            ));
        }
        let listeners = ports
            .iter()
            .copied()
            .zip(listeners.into_iter().map(Into::into))
            .collect();
        let limits = Limits::open(&paths).map_err(|err| Error::io("open its cgroup", err))?;
        let group = Group::open(paths).map_err(|err| Error::io("open its cgroup", err))?;
        let environment = Arc::new(Self {
            id,
            service,
            link,
            group,
            state: Mutex::default(),
            frozen: AtomicBool::new(false),
            gone,
        });
        // Ends with the control socket, which ends with the environment.
        tokio::spawn(Arc::clone(&environment).read());
        Ok(Prepared {
            handle: Handle(environment),
            listeners,
            limits,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every critical section is a handful of infallible operations.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(self: Arc<Self>) {
        loop {
            match self.link.receive().await {
                Ok(Some((message, fds))) => self.dispatch(message, fds),
                Ok(None) => break,
                Err(err) => {
                    tracing::error!(error = %err, id = self.id, "an environment sent nonsense");
                    self.service.destroy(self.id);
                    break;
                }
            }
        }
        {
            let mut state = self.state();
            state.ended = true;
            state.entering = None;
            state.spawning.clear();
            state.connecting.clear();
        }
        // Until then they may still be running: told of their end now, their owner would take away
        // what they talk to, and they would complain of it.
        let mut gone = self.gone.clone();
        let _ = patiently("end the environment", gone.wait_for(|gone| *gone)).await;
        let processes = std::mem::take(&mut self.state().processes);
        for exit in processes.into_values() {
            exit.send_replace(Some(Exit::Signal(libc::SIGKILL)));
        }
    }

    fn dispatch(&self, message: FromInit, mut fds: Vec<OwnedFd>) {
        let mut state = self.state();
        match message {
            FromInit::Entered => state.entered(Ok(())),
            FromInit::NotEntered(failure) => state.entered(Err(failure)),
            FromInit::Spawned { sequence, pid } => {
                let (exit, exits) = watch::channel(None);
                if let (Some(sender), Some(pidfd)) = (state.spawning.remove(&sequence), fds.pop()) {
                    state.processes.insert(pid, exit);
                    let _ = sender.send(Ok((pid, pidfd, exits)));
                }
            }
            FromInit::NotSpawned {
                sequence,
                exec,
                failure,
            } => {
                if let Some(sender) = state.spawning.remove(&sequence) {
                    let _ = sender.send(Err(NotStarted { exec, failure }));
                }
            }
            FromInit::Exited { pid, code, signal } => {
                if let Some(exit) = state.processes.remove(&pid) {
                    let code = code.map(Exit::Code);
                    let how = code.or(signal.map(Exit::Signal)).unwrap_or(Exit::Signal(0));
                    exit.send_replace(Some(how));
                }
            }
            FromInit::Connecting { sequence } => {
                if let (Some(sender), Some(socket)) =
                    (state.connecting.remove(&sequence), fds.pop())
                {
                    let _ = sender.send(Ok(socket));
                }
            }
            FromInit::NotConnected { sequence, failure } => {
                if let Some(sender) = state.connecting.remove(&sequence) {
                    let _ = sender.send(Err(failure));
                }
            }
            FromInit::Ready | FromInit::NotReady(_) => {}
        }
    }

    /// Registers a connection that init is about to be asked for.
    pub(crate) fn expect_connection(
        &self,
    ) -> Result<(u64, oneshot::Receiver<Result<OwnedFd, Failure>>), Error> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        if state.ended {
            return Err(ENDED);
        }
        state.last_sequence += 1;
        let sequence = state.last_sequence;
        state.connecting.insert(sequence, sender);
        Ok((sequence, receiver))
    }

    /// Registers a start that init is about to be asked for.
    pub(crate) fn expect_start(
        &self,
    ) -> Result<(u64, oneshot::Receiver<Result<Started, NotStarted>>), Error> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        if state.ended {
            return Err(ENDED);
        }
        state.last_sequence += 1;
        let sequence = state.last_sequence;
        state.spawning.insert(sequence, sender);
        Ok((sequence, receiver))
    }

    /// Signals one process.
    pub fn signal(&self, pid: i32, signal: i32) -> Result<(), Error> {
        match self.link.try_send(&ToInit::Signal { pid, signal }) {
            Err(err) if err.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Error::io("signal a process", err))
            }
            _ => Ok(()),
        }
    }
}

impl State {
    fn entered(&mut self, result: Result<(), Failure>) {
        if let Some(sender) = self.entering.take() {
            let _ = sender.send(result);
        }
    }
}

/// Destroys the environment when dropped.
#[derive(Debug)]
struct Handle(Arc<Environment>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.link.close();
        self.0.service.destroy(self.0.id);
    }
}

/// An environment that is ready for a function but belongs to none yet.
#[derive(Debug)]
pub struct Prepared {
    handle: Handle,
    listeners: Vec<(u16, TcpListener)>,
    limits: Limits,
}

impl Prepared {
    /// The listener on 127.0.0.1:`port` inside, one of `Config::listen_ports`; non-blocking. It
    /// can be taken once.
    pub fn listener(&mut self, port: u16) -> Result<TcpListener, Error> {
        let found = self.listeners.iter().position(|(known, _)| *known == port);
        let found = found.ok_or_else(|| {
            Error::Invalid(format!(
                "port {port} is not one of `listen_ports`, or was taken"
            ))
        })?;
        Ok(self.listeners.swap_remove(found).1)
    }

    /// Whether it died in the pool.
    pub(crate) fn has_ended(&self) -> bool {
        self.handle.0.state().ended
    }

    /// Gives it limits, mounts and names. From here on it can run programs.
    pub async fn enter(self, spec: Spec) -> Result<Sandbox, Error> {
        let entering = self.begin_enter(spec).await?;
        entered(entering).await?;
        Ok(Sandbox {
            handle: self.handle,
        })
    }

    /// Does what [`enter`](Self::enter) and [`Sandbox::thaw_process`] do, without waiting for the
    /// one before the other.
    pub async fn enter_thawing(
        self,
        spec: Spec,
        thaw: Thaw<'_>,
    ) -> Result<(Sandbox, Process), Error> {
        let entering = self.begin_enter(spec).await?;
        let thawing = Thawing::begin(&self.handle.0, thaw).await?;
        entered(entering).await?;
        let process = thawing.finish(&self.handle.0).await?;
        let sandbox = Sandbox {
            handle: self.handle,
        };
        Ok((sandbox, process))
    }

    async fn begin_enter(&self, spec: Spec) -> Result<Entering, Error> {
        let environment = &self.handle.0;
        check_names(&spec)?;
        let limited = self.limits.set(spec.memory_bytes, spec.pids_max, spec.cpu);
        limited.map_err(|err| Error::io("set the limits of the environment", err))?;
        let (sources, targets): (Vec<_>, Vec<_>) = spec
            .mounts
            .iter()
            .map(|mount| (&mount.source, &mount.target))
            .unzip();
        if sources.len() > wire::MAX_FDS {
            return Err(Error::Invalid(format!(
                "{} mounts, too many",
                sources.len()
            )));
        }
        let sources = sources
            .into_iter()
            .map(|path| text(path))
            .collect::<Result<_, _>>()?;
        let mounts = environment.service.open(sources).await?;
        let egress = spec.egress != Some(Egress::Deny);
        let enter = Enter {
            targets: targets
                .into_iter()
                .map(|path| text(path))
                .collect::<Result<_, _>>()?,
            tmp_bytes: spec.tmp_bytes,
            hostname: spec.hostname,
            hosts: spec.hosts,
            pids_max: spec.pids_max,
            egress,
        };
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = environment.state();
            if state.ended {
                return Err(ENDED);
            }
            state.entering = Some(sender);
        }
        let fds: Vec<_> = mounts.iter().map(AsFd::as_fd).collect();
        let sent = environment
            .link
            .send(&ToInit::Enter(Box::new(enter)), &fds)
            .await;
        sent.map_err(|err| Error::io("instruct the environment", err))?;
        Ok(receiver)
    }
}

type Entering = oneshot::Receiver<Result<(), Failure>>;

async fn entered(entering: Entering) -> Result<(), Error> {
    let entered = patiently("enter the environment", entering).await?;
    Ok(entered.map_err(|_| ENDED)??)
}

/// Names end up in files whose syntax they must not break.
fn check_names(spec: &Spec) -> Result<(), Error> {
    let names = spec
        .hosts
        .iter()
        .map(|(_, name)| name)
        .chain([&spec.hostname]);
    let strange = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_');
    match names
        .into_iter()
        .find(|name| name.is_empty() || name.contains(strange))
    {
        Some(name) => Err(Error::Invalid(format!("{name:?} is not a host name"))),
        None => Ok(()),
    }
}

fn text(path: &Path) -> Result<String, Error> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::Invalid(format!("{} is not text", path.display())))
}

/// An environment with its limits and mounts in place. Dropping it destroys it.
#[derive(Debug)]
pub struct Sandbox {
    handle: Handle,
}

impl Sandbox {
    /// Runs a program inside, as the function's user. Resolves once it has been executed.
    pub async fn spawn(&self, command: Command) -> Result<Process, Error> {
        let environment = &self.handle.0;
        if environment.frozen.load(Ordering::Acquire) {
            return Err(Error::Invalid(
                "nothing can be started in a frozen environment".into(),
            ));
        }
        for (_, target) in &command.fds {
            if !TARGET_FDS.contains(target) {
                return Err(Error::Invalid(format!(
                    "{target} is not a possible descriptor"
                )));
            }
        }
        let (stdout, stdout_end) = output_pipe()?;
        let (stderr, stderr_end) = output_pipe()?;
        let (sequence, receiver) = environment.expect_start()?;
        let spawn = Spawn {
            sequence,
            program: text(&command.program)?,
            args: command.args,
            env: command.env,
            cwd: text(&command.cwd)?,
            fds: command.fds.iter().map(|(_, target)| *target).collect(),
        };
        let mut fds = vec![stdout_end.as_fd(), stderr_end.as_fd()];
        fds.extend(command.fds.iter().map(|(fd, _)| fd.as_fd()));
        let sent = environment
            .link
            .send(&ToInit::Spawn(Box::new(spawn)), &fds)
            .await;
        sent.map_err(|err| Error::io("instruct the environment", err))?;
        drop((stdout_end, stderr_end));
        match patiently("start a program", receiver)
            .await?
            .map_err(|_| ENDED)?
        {
            Ok((pid, pidfd, exits)) => Ok(Process::new(
                Arc::clone(environment),
                pid,
                pidfd,
                exits,
                stdout,
                stderr,
            )),
            Err(NotStarted {
                exec: true,
                failure,
            }) => Err(Error::Exec {
                program: command.program,
                source: std::io::Error::from_raw_os_error(failure.errno),
            }),
            Err(NotStarted {
                exec: false,
                failure,
            }) => Err(failure.into()),
        }
    }

    /// Brings a process back from an image. Resolves as soon as it has begun; when the image turns
    /// out to be unusable, the process ends, and [`Process::thaw_failure`] says why.
    pub async fn thaw_process(&self, thaw: Thaw<'_>) -> Result<Process, Error> {
        let thawing = Thawing::begin(&self.handle.0, thaw).await?;
        thawing.finish(&self.handle.0).await
    }

    /// Makes connections to what listens inside. Does not keep the environment alive.
    pub fn connector(&self) -> Connector {
        Connector::new(Arc::clone(&self.handle.0))
    }

    /// Stops all function processes where they are. Returns as soon as the kernel has taken the
    /// order: each process stops the next time it would run code of its own, which is at once
    /// (microseconds) unless it is in the middle of a long system call.
    pub fn freeze(&self) -> Result<(), Error> {
        self.handle.0.frozen.store(true, Ordering::Release);
        self.set_frozen(libc::SIGSTOP, Group::freeze)
    }

    /// Lets them continue.
    pub fn thaw(&self) -> Result<(), Error> {
        self.set_frozen(libc::SIGCONT, Group::thaw)?;
        self.handle.0.frozen.store(false, Ordering::Release);
        Ok(())
    }

    fn set_frozen(
        &self,
        signal: i32,
        action: impl FnOnce(&Group) -> std::io::Result<()>,
    ) -> Result<(), Error> {
        let environment = &self.handle.0;
        let result = if environment.group.can_freeze() {
            action(&environment.group)
        } else {
            environment.link.try_send(&ToInit::SignalAll { signal })
        };
        result.map_err(|err| Error::io("freeze or thaw an environment", err))
    }

    /// Whether all function processes have stopped. Always false where signals stand in for a
    /// freezer.
    pub fn is_frozen(&self) -> bool {
        self.handle.0.group.is_frozen().unwrap_or(false)
    }

    /// Processes killed so far because the memory limit was reached.
    pub fn oom_kills(&self) -> u64 {
        self.handle.0.group.oom_kills()
    }

    /// Resolves when a process was killed because the memory limit was reached; at once when that
    /// happened before. Never resolves without a memory cgroup.
    pub async fn on_oom(&self) {
        let group = &self.handle.0.group;
        let source = group.oom_source();
        if group.oom_kills() > 0 {
            return;
        }
        match source {
            Ok(Some(source)) => wait_for_oom(group, source).await,
            Ok(None) => std::future::pending().await,
            Err(err) => {
                tracing::warn!(error = %err, "memory exhaustion cannot be watched");
                std::future::pending().await
            }
        }
    }

    /// The most memory used since the start or the last reset.
    pub fn memory_peak_bytes(&self) -> u64 {
        self.handle.0.group.memory_peak()
    }

    /// Starts a new measurement of the peak.
    pub fn reset_memory_peak(&self) {
        self.handle.0.group.reset_memory_peak();
    }

    /// Resolves when the environment has ended by itself or with the spawner.
    pub async fn ended(&self) {
        // An error means that the sender is gone, and with it the environment.
        let _ = self.handle.0.gone.clone().wait_for(|gone| *gone).await;
    }

    /// Kills everything inside and resolves when nothing is left of it.
    pub async fn destroy(self) {
        let mut gone = self.handle.0.gone.clone();
        drop(self);
        let _ = gone.wait_for(|gone| *gone).await;
    }
}

pub(crate) fn output_pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    let pipe = rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
    let (read, write) = pipe.map_err(|err| Error::io("create a pipe", err))?;
    // Only this end: the program expects a blocking one.
    rustix::io::ioctl_fionbio(&read, true).map_err(|err| Error::io("prepare a pipe", err))?;
    Ok((read, write))
}

async fn wait_for_oom(group: &Group, source: OomSource) {
    let (fd, interest) = match source {
        OomSource::Eventfd(fd) => (fd, Interest::READABLE),
        OomSource::Poll(fd) => (fd, Interest::PRIORITY),
    };
    let watched = match sys::watch(fd, interest) {
        Ok(watched) => watched,
        Err(err) => {
            tracing::warn!(error = %err, "memory exhaustion cannot be watched");
            return std::future::pending().await;
        }
    };
    loop {
        let Ok(mut ready) = watched.ready(interest).await else {
            return std::future::pending().await;
        };
        let _ = rustix::io::read(watched.get_ref(), &mut [0; 8]);
        ready.clear_ready();
        for _ in 0..50 {
            if group.oom_kills() > 0 {
                return;
            }
            tokio::time::sleep(OOM_SETTLES).await;
        }
    }
}

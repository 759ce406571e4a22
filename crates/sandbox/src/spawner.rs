//! The process that creates environments.
//!
//! It is the server's own program, executed again, so that it starts with one thread, an empty
//! environment and no descriptor of the server except one socket. Being single-threaded it may
//! create processes without `exec` and run ordinary code in them. It holds every right that the
//! server was given, reads nothing but the server's messages, and its death ends all environments:
//! each init asks the kernel for SIGKILL when it dies.

mod environment;
mod host;
mod template;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll;
use rustix::process::WaitIdOptions;

use crate::network::Router;
use crate::wire::{self, Abilities, Failure, FromSpawner, Refusal, ToSpawner};
use crate::{Config, Egress, cgroup, seccomp, sys};
use environment::Environment;
pub use environment::{FUNCTION_GID, FUNCTION_UID};
use host::Host;
pub use template::{Layout, NEW_ROOT, hosts};

/// Set, to any value, in the environment of a spawner.
pub const MARKER: &str = "FIRN_SANDBOX_SPAWNER";

/// Must be the first call in the `main` of every program that starts [`Sandboxes`](crate::Sandboxes):
/// the spawner is this very program, executed again. In that second life the call never returns;
/// otherwise it does nothing.
pub fn spawner_main() {
    if std::env::var_os(MARKER).is_none() {
        return;
    }
    let status = match run() {
        Ok(()) => 0,
        Err(failure) => {
            complain(&failure);
            1
        }
    };
    sys::exit_now(status)
}

#[expect(
    clippy::print_stderr,
    reason = "the spawner has no other log; it shares the server's"
)]
fn complain(failure: &Failure) {
    eprintln!("sandbox spawner: {}: {}", failure.action, failure.cause);
}

/// What both the spawner and the init of each environment use, prepared once.
pub struct Shared {
    pub config: Config,
    pub host: Host,
    pub tree: cgroup::Tree,
    pub filters: Option<Filters>,
    pub abilities: Abilities,
}

/// The two parts of the system call filter, compiled; see [`seccomp::early`].
pub struct Filters {
    pub early: seccomp::Filter,
    pub late: seccomp::Filter,
}

fn run() -> Result<(), Failure> {
    use wire::Doing;
    if fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1) {
        let err = io::Error::other("spawner_main was called after a thread had been started");
        return Err(Failure::new("start", &err));
    }
    let control = take_control().doing(|| "take the control socket".into())?;
    let _ = rustix::thread::set_name(c"firn-spawner");
    // The server's end shows as the end of the socket, whatever caused it, and leaves time to
    // clean up. Until then the spawner must work: a server asked to end finishes its invocations.
    let _ = rustix::process::setsid();
    sys::ignore_requests_to_end();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let mut buffer = vec![0; wire::MAX_MESSAGE];
    let received = wire::receive(&control, &mut buffer).doing(|| "read the settings".into())?;
    let Some((ToSpawner::Start(config), _)) = received else {
        return Ok(());
    };
    let prepared = prepare(*config).and_then(|mut shared| {
        let router = open_router(&mut shared)?;
        Ok((shared, router))
    });
    match prepared {
        Ok((shared, router)) => {
            let started = FromSpawner::Started(Box::new(shared.abilities.clone()));
            wire::send(&control, &started, &[]).doing(|| "answer".into())?;
            Spawner::new(control, shared, router)?.serve(&mut buffer)
        }
        Err(refusal) => {
            wire::send(&control, &FromSpawner::Refused(refusal), &[]).doing(|| "answer".into())
        }
    }
}

/// The socket arrives as standard input, which every way of starting a process can redirect.
fn take_control() -> io::Result<OwnedFd> {
    let control = sys::duplicate_above(std::io::stdin().as_fd(), 3)?;
    if rustix::net::sockopt::socket_type(&control)? != rustix::net::SocketType::SEQPACKET {
        return Err(io::Error::other(format!(
            "{MARKER} is set, but standard input is no control socket"
        )));
    }
    let null = fs::File::open("/dev/null")?;
    // SAFETY: nothing has read standard input, nor owns descriptor 0.
    unsafe { sys::place(null.as_fd(), 0) }?;
    Ok(control)
}

fn prepare(mut config: Config) -> Result<Shared, Refusal> {
    let failed = Refusal::Failed;
    let mut abilities = Abilities::default();
    let server = rustix::process::getppid().ok_or_else(|| {
        failed(Failure::new(
            "find the server",
            &io::ErrorKind::NotFound.into(),
        ))
    })?;
    let tree = cgroup::Tree::discover(server, config.freezer, &config.state_dir);
    abilities.cgroup = tree.kind();
    abilities.freezer = tree.freezer();
    abilities.notes.clone_from(&tree.notes);
    let why = if tree.notes.is_empty() {
        "none is mounted".into()
    } else {
        tree.notes.join("; ")
    };
    require(
        tree.kind() != cgroup::Kind::None,
        config.allow.no_cgroup,
        || {
            (
                "a memory and pids cgroup that this process may write",
                why.clone(),
                "no_cgroup",
            )
        },
    )?;
    let chosen = config.freezer == Some(cgroup::Freezer::Signals);
    require(
        tree.freezer() != cgroup::Freezer::Signals || chosen,
        config.allow.no_freezer,
        || {
            (
                "a freezer cgroup that this process may write",
                why.clone(),
                "no_freezer",
            )
        },
    )?;

    config.uid_base = environment::available_users(&config).map_err(failed)?;
    let host = Host::enter(&config).map_err(failed)?;
    abilities.single_user = host.single_user;
    abilities.userns = host.userns.is_ok();
    let detail = host
        .userns
        .as_ref()
        .err()
        .map(|err| err.cause.clone())
        .unwrap_or_default();
    require(
        abilities.userns,
        config.allow.no_userns && !host.single_user,
        || ("user namespaces", detail, "no_userns"),
    )?;

    abilities.seccomp = fs::exists("/proc/sys/kernel/seccomp/actions_avail").unwrap_or(false);
    require(abilities.seccomp, config.allow.no_seccomp, || {
        (
            "system call filters",
            "the kernel was built without seccomp".into(),
            "no_seccomp",
        )
    })?;
    let filters = abilities.seccomp.then(|| Filters {
        early: seccomp::early(),
        late: seccomp::late(),
    });
    Ok(Shared {
        config,
        host,
        tree,
        filters,
        abilities,
    })
}

/// Opens the way out of environments, if there is to be one.
fn open_router(shared: &mut Shared) -> Result<Option<Router>, Refusal> {
    if shared.config.egress == Egress::Deny {
        shared.abilities.egress_detail = "the configuration denies it".into();
        return Ok(None);
    }
    let router = if shared.host.single_user {
        Err("only root can connect environments to the host's network".to_owned())
    } else {
        Router::open(&shared.config).map_err(|err| format!("{}: {}", err.action, err.cause))
    };
    shared.abilities.egress = router.is_ok();
    let detail = router.as_ref().err().cloned().unwrap_or_default();
    shared.abilities.egress_detail.clone_from(&detail);
    require(router.is_ok(), shared.config.egress == Egress::Auto, || {
        ("a way out for functions", detail, "egress = \"auto\"")
    })?;
    Ok(router.ok())
}

fn require(
    works: bool,
    dispensable: bool,
    missing: impl FnOnce() -> (&'static str, String, &'static str),
) -> Result<(), Refusal> {
    if works || dispensable {
        return Ok(());
    }
    let (feature, detail, flag) = missing();
    Err(Refusal::Missing {
        feature: feature.into(),
        detail,
        flag: flag.into(),
    })
}

struct Spawner {
    control: OwnedFd,
    poll: OwnedFd,
    shared: Shared,
    router: Option<Router>,
    environments: HashMap<u64, Environment>,
}

/// Epoll's token of the control socket; the others are environment ids, which start at 1.
const CONTROL: u64 = 0;
/// Set in the token of an environment that is being set up and asks for its network.
const SETUP: u64 = 1 << 63;

impl Spawner {
    fn new(control: OwnedFd, shared: Shared, router: Option<Router>) -> Result<Self, Failure> {
        use wire::Doing;
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).doing(|| "create a poll".into())?;
        let spawner = Self {
            control,
            poll,
            shared,
            router,
            environments: HashMap::new(),
        };
        spawner
            .watch(spawner.control.as_fd(), CONTROL)
            .doing(|| "watch the server".into())?;
        Ok(spawner)
    }

    fn watch(&self, fd: BorrowedFd<'_>, token: u64) -> rustix::io::Result<()> {
        epoll::add(
            &self.poll,
            fd,
            epoll::EventData::new_u64(token),
            epoll::EventFlags::IN,
        )
    }

    fn serve(mut self, buffer: &mut [u8]) -> Result<(), Failure> {
        use wire::Doing;
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            let room = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.poll, room, None) {
                Err(rustix::io::Errno::INTR) => continue,
                result => result.doing(|| "wait for events".into())?,
            };
            for event in &events {
                let alive = match event.data.u64() {
                    CONTROL => self.handle(buffer)?,
                    token if token & SETUP != 0 => self.connect(token & !SETUP),
                    id => self.ended(id),
                };
                if !alive {
                    self.end_all();
                    return Ok(());
                }
            }
        }
    }

    /// Handles one message; false when the server has gone.
    fn handle(&mut self, buffer: &mut [u8]) -> Result<bool, Failure> {
        use wire::Doing;
        let received =
            wire::receive(&self.control, buffer).doing(|| "read from the server".into())?;
        let Some((message, fds)) = received else {
            return Ok(false);
        };
        Ok(match message {
            ToSpawner::Create { id, slot } => self.create(id, slot, fds),
            ToSpawner::Open { request, sources } => self.open(request, &sources),
            ToSpawner::Destroy { id } => {
                if let Some(environment) = self.environments.get(&id) {
                    environment.kill();
                }
                true
            }
            ToSpawner::Start(_) => true,
        })
    }

    fn answer(&self, message: &FromSpawner, fds: &[BorrowedFd<'_>]) -> bool {
        wire::send(&self.control, message, fds).is_ok()
    }

    fn create(&mut self, id: u64, slot: u32, mut fds: Vec<OwnedFd>) -> bool {
        let made = match fds.pop() {
            Some(control) => Environment::create(&self.shared, id, slot, control),
            None => Err(Failure::new("create", &io::ErrorKind::InvalidInput.into())),
        };
        match made {
            Ok(environment) => {
                let cgroup = environment.cell.paths.clone();
                let created = FromSpawner::Created { id, cgroup };
                let alive = self.answer(&created, &[]);
                let mut watched = self.watch(environment.pidfd.as_fd(), id);
                if let Some(setup) = &environment.setup {
                    watched = watched.and(self.watch(setup.as_fd(), id | SETUP));
                }
                self.environments.insert(id, environment);
                alive && (watched.is_ok() || self.ended(id))
            }
            Err(failure) => self.answer(&FromSpawner::NotCreated { id, failure }, &[]),
        }
    }

    fn open(&self, request: u64, sources: &[String]) -> bool {
        let opened: Result<Vec<_>, _> = sources
            .iter()
            .map(|source| host::open_source(source))
            .collect();
        match opened {
            Ok(mounts) => {
                let fds: Vec<_> = mounts.iter().map(AsFd::as_fd).collect();
                self.answer(&FromSpawner::Opened { request }, &fds)
            }
            Err(failure) => self.answer(&FromSpawner::NotOpened { request, failure }, &[]),
        }
    }

    /// A new init has its network namespace and wants it connected; or has ended.
    fn connect(&mut self, id: u64) -> bool {
        let environment = self.environments.get_mut(&id);
        let Some((environment, setup)) = environment.and_then(|environment| {
            let setup = environment.setup.take()?;
            Some((environment, setup))
        }) else {
            return true;
        };
        let asked = wire::receive::<()>(&setup, &mut [0; 16]).is_ok_and(|word| word.is_some());
        if let Some(router) = self.router.as_mut().filter(|_| asked) {
            let answer = router.connect(environment.slot, environment.pid);
            // If it cannot be sent, the init has died, which is noticed elsewhere.
            let _ = wire::send(&setup, &answer, &[]);
        }
        true
    }

    /// An init has ended, and with it everything inside.
    fn ended(&mut self, id: u64) -> bool {
        if let Some(environment) = self.environments.remove(&id) {
            environment.bury();
        }
        self.answer(&FromSpawner::Gone { id }, &[])
    }

    /// Leaves nothing behind.
    fn end_all(&mut self) {
        for environment in self.environments.values() {
            environment.kill();
        }
        for (_, environment) in self.environments.drain() {
            environment.bury();
        }
        self.shared.tree.remove();
        self.router = None;
    }
}

/// Waits for a process whose end is certain.
fn reap(pidfd: &OwnedFd) {
    let id = rustix::process::WaitId::PidFd(pidfd.as_fd());
    while let Err(rustix::io::Errno::INTR) =
        rustix::process::waitid(id.clone(), WaitIdOptions::EXITED)
    {}
}

//! The first process of an environment.
//!
//! It is a copy of the spawner, made without `exec`: it keeps its control socket, the handles
//! through which function processes join their cgroups, and the compiled system call filters. It
//! sets the namespaces up, then does what the server asks: attach mounts, start programs, pass on
//! signals and exit statuses. Nothing foreign runs in it.
//!
//! Function processes cannot influence it. They have another user id inside the namespace and no
//! capability, it is not dumpable (no ptrace, no `/proc/1/mem`), `/proc` does not even show it to
//! them, and the kernel ignores signals to it from inside because it installs no handlers.

mod launch;
mod root;
mod scratch;
mod stub;
mod thaw;

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, Gid, Uid};

use crate::spawner::Shared;
use crate::wire::{self, Doing, Failure, FromInit, ToInit};
use crate::{cgroup, network, sys};

/// Users and groups of one environment.
#[derive(Debug, Clone, Copy)]
pub struct Ids {
    /// Init's user and group inside.
    pub init: u32,
    /// The function's user inside.
    pub uid: u32,
    /// The function's group inside.
    pub gid: u32,
    /// Init's user and group as the spawner numbers them; the function's is the next one.
    pub host: Option<u32>,
    /// There is only one user, which is both init's and the function's.
    pub single_user: bool,
    /// Whether the environment has a user namespace.
    pub userns: bool,
}

/// What a new init is born with.
pub struct Birth<'a> {
    pub shared: &'a Shared,
    pub cell: &'a cgroup::Cell,
    pub ids: Ids,
    /// To the server.
    pub control: OwnedFd,
    /// To the spawner, for the time of the setup.
    pub spawner: OwnedFd,
}

/// The whole life of an init.
pub fn run(birth: Birth<'_>) -> ! {
    let control = birth.control.as_raw_fd();
    let mut init = match set_up(birth) {
        Ok(init) => init,
        Err((control, failure)) => {
            let _ = wire::send(&control, &FromInit::NotReady(failure), &[]);
            sys::exit_now(1);
        }
    };
    debug_assert_eq!(init.control.as_raw_fd(), control);
    // What a thaw needs of this process, for the stub as well.
    snapshot::rehearse();
    // Without one, processes are made when they are asked for.
    init.stub = stub::Stub::make(&init, None, || Ok(())).ok();
    let result = init.serve();
    sys::exit_now(i32::from(result.is_err()))
}

struct Init<'a> {
    shared: &'a Shared,
    cell: &'a cgroup::Cell,
    ids: Ids,
    control: OwnedFd,
    children: OwnedFd,
    /// Waits to become the first process, unless that is a program.
    stub: Option<stub::Stub>,
    /// Spawned at the server's request and not yet reaped: the only ones it may signal.
    processes: HashSet<Pid>,
    pids_max: u32,
    entered: bool,
}

fn set_up(birth: Birth<'_>) -> Result<Init<'_>, (OwnedFd, Failure)> {
    let Birth {
        shared,
        cell,
        ids,
        control,
        spawner,
    } = birth;
    let prepared = prepare(shared, cell, ids, &control, spawner);
    match prepared {
        Ok(children) => Ok(Init {
            shared,
            cell,
            ids,
            control,
            children,
            stub: None,
            processes: HashSet::new(),
            pids_max: 0,
            entered: false,
        }),
        Err(failure) => Err((control, failure)),
    }
}

fn prepare(
    shared: &Shared,
    cell: &cgroup::Cell,
    ids: Ids,
    control: &OwnedFd,
    spawner: OwnedFd,
) -> Result<OwnedFd, Failure> {
    let mut keep = vec![control.as_raw_fd(), spawner.as_raw_fd(), 2];
    keep.extend(cell.join.iter().map(AsRawFd::as_raw_fd));
    keep.extend(cell.function.iter().map(AsRawFd::as_raw_fd));
    // SAFETY: this process never returns to the spawner's code, and of what it was given it uses
    // only what is kept.
    unsafe { sys::close_all_except(&keep) }.doing(|| "close the spawner's descriptors".into())?;

    // The spawner writes the user mapping, for which /proc must show this process as its own.
    let mut go = [0; 4];
    let received = rustix::net::recv(&spawner, &mut go, rustix::net::RecvFlags::empty());
    if received.doing(|| "wait for the spawner".into())?.1 == 0 {
        return Err(Failure::new(
            "wait for the spawner",
            &io::ErrorKind::UnexpectedEof.into(),
        ));
    }
    // If memory runs short on the whole machine, functions go before the server does.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    become_init(ids)?;

    let listeners = open_network(shared)?;
    if shared.abilities.egress {
        connect(&spawner)?;
    }
    drop(spawner);
    rustix::system::sethostname(b"sandbox").doing(|| "set the host name".into())?;
    root::build(&shared.host.layout, ids)?;
    harden(ids)?;
    let children = sys::child_events().doing(|| "watch children".into())?;
    let fds: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
    wire::send(control, &FromInit::Ready, &fds).doing(|| "report".into())?;
    Ok(children)
}

fn become_init(ids: Ids) -> Result<(), Failure> {
    if ids.userns && !ids.single_user {
        rustix::thread::set_thread_groups(&[]).doing(|| "drop groups".into())?;
    }
    if ids.userns {
        let (uid, gid) = (Uid::from_raw(ids.init), Gid::from_raw(group_of_init(ids)));
        rustix::thread::set_thread_res_gid(gid, gid, gid).doing(|| "become init's group".into())?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).doing(|| "become init's user".into())?;
    }
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .doing(|| "forbid tracing of init".into())?;
    // After the change of user, which cancels it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .doing(|| "tie init to the spawner".into())?;
    let _ = rustix::thread::set_name(c"init");
    // Otherwise the keys of the session that started the server would come along.
    sys::new_session_keyring();
    Ok(())
}

fn group_of_init(ids: Ids) -> u32 {
    if ids.single_user { ids.gid } else { ids.init }
}

/// A network of its own with nothing but loopback, and the server's listeners on it.
fn open_network(shared: &Shared) -> Result<Vec<TcpListener>, Failure> {
    // SAFETY: this process has one thread, being a copy of the spawner.
    unsafe { sys::unshare(libc::CLONE_NEWNET) }.doing(|| "create a network namespace".into())?;
    sys::loopback_up().doing(|| "switch loopback on".into())?;
    let listen = |port: &u16| {
        let listener = TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, *port))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    let ports = &shared.config.listen_ports;
    ports
        .iter()
        .map(listen)
        .collect::<io::Result<_>>()
        .doing(|| "listen inside".into())
}

/// Asks the spawner, which alone may touch the host's network, for a way out.
fn connect(spawner: &OwnedFd) -> Result<(), Failure> {
    wire::send(spawner, &(), &[]).doing(|| "ask for a network".into())?;
    let answer = wire::receive::<Result<network::Address, Failure>>(spawner, &mut [0; 8192]);
    let answer = answer.doing(|| "wait for a network".into())?;
    let gone = || Failure::new("wait for a network", &io::ErrorKind::UnexpectedEof.into());
    let (address, _) = answer.ok_or_else(gone)?;
    network::configure(address?).doing(|| "configure the network".into())
}

/// Gives up for all descendants what init itself needs for setting up and starting programs:
/// nothing it starts can gain a privilege by executing a file.
fn harden(ids: Ids) -> Result<(), Failure> {
    if ids.userns {
        // Function code cannot make namespaces, by its filter. This is the second lock.
        let _ = std::fs::write("/proc/sys/user/max_user_namespaces", "0");
    }
    root::protect_proc()?;
    root::seal()?;
    rustix::thread::set_no_new_privs(true).doing(|| "set no-new-privileges".into())?;
    let bits = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
        // A thaw needs its capabilities a little longer than its user; every way to run foreign
        // code drops them in a step of its own.
        | CapabilitiesSecureBits::NO_SETUID_FIXUP
        | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    rustix::thread::set_capabilities_secure_bits(bits).doing(|| "set secure bits".into())?;
    rustix::thread::clear_ambient_capability_set().doing(|| "clear capabilities".into())?;
    sys::drop_bounding_set().doing(|| "drop the capability bounding set".into())
}

impl Init<'_> {
    /// Ends when the server closes the control socket.
    fn serve(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; wire::MAX_MESSAGE];
        loop {
            let mut ready = [
                PollFd::new(&self.control, PollFlags::IN),
                PollFd::new(&self.children, PollFlags::IN),
            ];
            match rustix::event::poll(&mut ready, None) {
                Err(rustix::io::Errno::INTR) => continue,
                result => result?,
            };
            let [from_server, from_children] = ready.map(|fd| !fd.revents().is_empty());
            if from_children {
                self.reap()?;
            }
            if from_server {
                let Some((message, fds)) = wire::receive(&self.control, &mut buffer)? else {
                    return Ok(());
                };
                self.handle(message, fds)?;
            }
        }
    }

    fn handle(&mut self, message: ToInit, fds: Vec<OwnedFd>) -> io::Result<()> {
        match message {
            ToInit::Enter(enter) => {
                self.pids_max = enter.pids_max;
                let mut entered = root::enter(&enter, fds);
                if self.shared.abilities.egress && !enter.egress {
                    let gone = network::disconnect().doing(|| "cut the network".into());
                    entered = entered.and(gone);
                }
                self.entered = entered.is_ok();
                let answer = match entered {
                    Ok(()) => FromInit::Entered,
                    Err(failure) => FromInit::NotEntered(failure),
                };
                wire::send(&self.control, &answer, &[])
            }
            ToInit::Spawn(spawn) => {
                let sequence = spawn.sequence;
                let started = launch::launch(self, *spawn, fds);
                self.answer_start(sequence, started)
            }
            ToInit::Thaw(order) => {
                let started = thaw::thaw(self, order, fds).map_err(launch::Refused::from);
                self.answer_start(order.sequence, started)
            }
            ToInit::Signal { pid, signal } => {
                let pid = Pid::from_raw(pid).filter(|pid| self.processes.contains(pid));
                if let (Some(pid), Some(signal)) = (pid, Signal::from_named_raw(signal)) {
                    let _ = rustix::process::kill_process(pid, signal);
                }
                Ok(())
            }
            ToInit::SignalAll { signal } => {
                sys::kill_all(signal);
                Ok(())
            }
            ToInit::Connect { sequence, port } => match network::connect_inside(port) {
                Ok(socket) => {
                    let answer = FromInit::Connecting { sequence };
                    wire::send(&self.control, &answer, &[socket.as_fd()])
                }
                Err(err) => {
                    let failure = Failure::new(format!("connect to port {port} inside"), &err);
                    let answer = FromInit::NotConnected { sequence, failure };
                    wire::send(&self.control, &answer, &[])
                }
            },
        }
    }

    fn answer_start(
        &mut self,
        sequence: u64,
        started: Result<(Pid, OwnedFd), launch::Refused>,
    ) -> io::Result<()> {
        match started {
            Ok((pid, pidfd)) => {
                self.processes.insert(pid);
                let pid = pid.as_raw_nonzero().get();
                let answer = FromInit::Spawned { sequence, pid };
                wire::send(&self.control, &answer, &[pidfd.as_fd()])
            }
            Err(launch::Refused { exec, failure }) => {
                let answer = FromInit::NotSpawned {
                    sequence,
                    exec,
                    failure,
                };
                wire::send(&self.control, &answer, &[])
            }
        }
    }

    /// Collects ended processes, also those that their parents left behind.
    fn reap(&mut self) -> io::Result<()> {
        let _ = rustix::io::read(&self.children, &mut [0; 1024]);
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CHILD) | Ok(None) => return Ok(()),
                Err(err) => return Err(err.into()),
                Ok(Some((pid, status))) => {
                    if self.processes.remove(&pid) {
                        let exited = FromInit::Exited {
                            pid: pid.as_raw_nonzero().get(),
                            code: status.exit_status(),
                            signal: status.terminating_signal(),
                        };
                        wire::send(&self.control, &exited, &[])?;
                    }
                }
            }
        }
    }
}

/// Gives up every capability of this process.
fn drop_capabilities() -> rustix::io::Result<()> {
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(
        None,
        rustix::thread::CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )
}

//! Starting a program as the function's user.

use std::borrow::Cow;
use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Resource, Rlimit};
use rustix::thread::{Gid, Uid};

use super::stub::{Order, Task};
use super::{Init, drop_capabilities};
use crate::sys::{self, Fork};
use crate::wire::{Doing, Failure, Spawn};

/// Descriptors are moved up here before each gets its final number. Above every number that
/// `Command::fds` may ask for, below the lowest limit a server is likely to run with.
const PARKING: RawFd = 128;
/// AWS's limit on open files.
const OPEN_FILES: u64 = 1024;

/// Why a program does not run.
pub struct Refused {
    /// The program itself is at fault: it does not exist, or cannot be executed.
    pub exec: bool,
    pub failure: Failure,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self {
            exec: false,
            failure,
        }
    }
}

/// What is done between `fork` and `exec`, in order.
const STEPS: &[&str] = &[
    "take its post",
    "place descriptors",
    "set resource limits",
    "become the function's user",
    "drop capabilities",
    "enter the working directory",
    "install the system call filter",
    "execute the program",
];
const EXECUTE: usize = 7;
const CHANGE_DIR: usize = 5;

/// Starts the program; returns once it has been executed, or could not be.
pub fn launch(
    init: &mut Init<'_>,
    spawn: Spawn,
    fds: Vec<OwnedFd>,
) -> Result<(Pid, OwnedFd), Refused> {
    if fds.len() != spawn.fds.len() + 2 {
        return Err(Failure::new("take descriptors", &io::ErrorKind::InvalidData.into()).into());
    }
    // What cannot be executed at all need not be sent.
    Image::new(&spawn).doing(|| format!("start {}", spawn.program))?;
    let (result, report) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).doing(|| "create a pipe".into())?;
    let order = Order {
        pids_max: init.pids_max,
        task: Task::Spawn(Cow::Borrowed(&spawn)),
    };
    let with_report: Vec<_> = std::iter::once(&report)
        .chain(&fds)
        .map(AsFd::as_fd)
        .collect();
    let waiting = init.stub.take();
    let ordered = waiting.map(|stub| stub.order(&order, &with_report));
    let (pid, pidfd) = match ordered {
        Some(Ok(ordered)) => ordered,
        _ => {
            let group = init.cell.function.as_ref().map(AsFd::as_fd);
            // SAFETY: init has one thread, being a copy of the spawner.
            let forked = unsafe { sys::fork(0, group, None) };
            match forked.doing(|| "create a process".into())? {
                Fork::Parent { pid, pidfd } => (pid, pidfd),
                Fork::Child => run(init, &spawn, fds, report, Post::Ahead),
            }
        }
    };
    drop((report, fds));
    let mut answer = Vec::new();
    let read = std::fs::File::from(result)
        .take(64)
        .read_to_end(&mut answer);
    read.doing(|| "wait for the program".into())?;
    // Success closes the pipe without a word; so does a kill before that, reported as an exit.
    let [step, errno @ ..] = answer.as_slice() else {
        return Ok((pid, pidfd));
    };
    let step = usize::from(*step).min(STEPS.len() - 1);
    let errno = errno.try_into().map(i32::from_le_bytes).unwrap_or(0);
    // Not in the list of processes yet, so the exit is nobody's news; collect it here.
    let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    let failure = Failure::new(STEPS[step], &io::Error::from_raw_os_error(errno));
    Err(Refused {
        exec: step == EXECUTE || step == CHANGE_DIR,
        failure,
    })
}

/// Whether the process has gone through [`take_post`] already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Post {
    Ahead,
    Taken,
}

/// Becomes the program, in a process that has taken its post. The first descriptor is for the
/// report.
pub fn become_program(init: &Init<'_>, spawn: &Spawn, mut fds: Vec<OwnedFd>) -> ! {
    if fds.is_empty() {
        sys::exit_now(127);
    }
    let report = fds.remove(0);
    run(init, spawn, fds, report, Post::Taken)
}

/// In the new process. Never returns: either the program runs, or the report says why not.
fn run(init: &Init<'_>, spawn: &Spawn, fds: Vec<OwnedFd>, report: OwnedFd, post: Post) -> ! {
    let Ok(report) = sys::duplicate_above(report.as_fd(), PARKING) else {
        sys::exit_now(127)
    };
    let (step, err) = match Image::new(spawn) {
        Err(err) => (EXECUTE, err),
        Ok(image) => match image.confine(init, fds, &report, post) {
            Err(failed) => failed,
            Ok(()) => (
                EXECUTE,
                sys::execute(&image.program, &image.args, &image.env),
            ),
        },
    };
    let mut answer = vec![u8::try_from(step).unwrap_or(u8::MAX)];
    answer.extend(err.raw_os_error().unwrap_or(libc::EINVAL).to_le_bytes());
    let _ = std::fs::File::from(report).write_all(&answer);
    sys::exit_now(127)
}

/// A program with its arguments in the form the kernel takes.
struct Image {
    program: CString,
    args: Vec<CString>,
    env: Vec<CString>,
    cwd: CString,
    targets: Vec<RawFd>,
}

impl Image {
    fn new(spawn: &Spawn) -> io::Result<Self> {
        let program = CString::new(&*spawn.program)?;
        let args = std::iter::once(&spawn.program).chain(&spawn.args);
        let args = args
            .map(|arg| CString::new(&**arg))
            .collect::<Result<_, _>>()?;
        let pair = |(name, value): &(String, String)| CString::new(format!("{name}={value}"));
        let env = spawn.env.iter().map(pair).collect::<Result<_, _>>()?;
        let targets = [1, 2]
            .into_iter()
            .chain(spawn.fds.iter().copied())
            .collect();
        Ok(Self {
            program,
            args,
            env,
            cwd: CString::new(&*spawn.cwd)?,
            targets,
        })
    }

    /// Turns this copy of init into a process that may run foreign code.
    fn confine(
        &self,
        init: &Init<'_>,
        fds: Vec<OwnedFd>,
        report: &OwnedFd,
        post: Post,
    ) -> Result<(), (usize, io::Error)> {
        fn at<T, E: Into<io::Error>>(
            step: usize,
            result: Result<T, E>,
        ) -> Result<T, (usize, io::Error)> {
            result.map_err(|err| (step, err.into()))
        }
        if post == Post::Ahead {
            at(0, take_post(init))?;
            at(2, limit_processes(init.pids_max))?;
        }
        at(1, self.place(fds, report))?;
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        sys::reset_signals();
        at(3, become_function(init))?;
        at(4, drop_capabilities())?;
        // As the function's user, who must be allowed to enter it.
        at(CHANGE_DIR, rustix::process::chdir(&*self.cwd))?;
        if let Some(filters) = &init.shared.filters {
            let filter = match post {
                Post::Ahead => &filters.whole,
                Post::Taken => &filters.late,
            };
            at(6, sys::seccomp(filter))?;
        }
        Ok(())
    }

    /// Leaves open exactly standard input (empty), output, error, and what was asked for.
    fn place(&self, fds: Vec<OwnedFd>, report: &OwnedFd) -> io::Result<()> {
        let null = std::fs::File::open("/dev/null")?;
        let mut parked = vec![(sys::duplicate_above(null.as_fd(), PARKING)?, 0)];
        for (fd, target) in fds.iter().zip(&self.targets) {
            if !(1..PARKING).contains(target) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            parked.push((sys::duplicate_above(fd.as_fd(), PARKING)?, *target));
        }
        let mut keep = vec![report.as_raw_fd()];
        for (fd, target) in &parked {
            // SAFETY: everything this process still uses is parked above all targets.
            unsafe { sys::place(fd.as_fd(), *target) }?;
            keep.push(*target);
        }
        // SAFETY: from here on only `report` is used; this function never returns to init's code.
        // The owners of the rest are leaked, not dropped.
        std::mem::forget((fds, parked, null));
        // SAFETY: as above.
        unsafe { sys::close_all_except(&keep) }
    }
}

/// What is the same for every process of a function, whatever it is to become.
pub(super) fn take_post(init: &Init<'_>) -> io::Result<()> {
    join_cgroups(init)?;
    rustix::process::setsid()?;
    for (resource, most) in [
        (Resource::Nofile, OPEN_FILES),
        // Not 0: the kernel would still hand the dump to a program on the host, if it is set up
        // that way, and 1 is the one value that keeps it from doing so.
        (Resource::Core, 1),
        (Resource::Memlock, 8 << 20),
        (Resource::Rtprio, 0),
        (Resource::Nice, 0),
        (Resource::Msgqueue, 819_200),
    ] {
        limit(resource, most)?;
    }
    Ok(())
}

fn join_cgroups(init: &Init<'_>) -> io::Result<()> {
    for tasks in &init.cell.join {
        rustix::io::write(tasks, b"0")?;
    }
    // So that /proc/self/cgroup says nothing about the host. Absent before Linux 4.6.
    // SAFETY: this process has one thread, being a copy of init.
    let _ = unsafe { sys::unshare(libc::CLONE_NEWCGROUP) };
    Ok(())
}

pub(super) fn limit_processes(most: u32) -> io::Result<()> {
    limit(Resource::Nproc, most.into())
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let current = rustix::process::getrlimit(resource);
    // Raising needs a privilege that init does not have; the lower of both is in force.
    let most = Some(current.maximum.map_or(most, |maximum| maximum.min(most)));
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    Ok(rustix::process::setrlimit(resource, limit)?)
}

fn become_function(init: &Init<'_>) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(init.ids.uid), Gid::from_raw(init.ids.gid));
    if !init.ids.single_user {
        rustix::thread::set_thread_groups(&[])?;
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

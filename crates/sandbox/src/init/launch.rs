//! Starting a program as the function's user.

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Resource, Rlimit};
use rustix::thread::{Gid, Uid};

use snapshot::{Order, slot};

use super::stub::Stub;
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
    let image = Image::new(&spawn).doing(|| format!("start {}", spawn.program))?;
    let (result, report) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).doing(|| "create a pipe".into())?;
    let (pid, pidfd) = match order(init, &image, &report, &fds) {
        Some(ordered) => ordered,
        None => {
            // Where the stub was, an image will look for this process.
            let waiting = init.stub.take().map(Stub::dismiss).transpose();
            let pid = waiting.doing(|| "end the waiting process".into())?;
            let group = init.cell.function.as_ref().map(AsFd::as_fd);
            let pid = pid.map(|pid| pid.as_raw_nonzero().get());
            // SAFETY: init has one thread, being a copy of the spawner.
            let forked = unsafe { sys::fork(0, group, pid) };
            match forked.doing(|| "create a process".into())? {
                Fork::Parent { pid, pidfd } => (pid, pidfd),
                Fork::Child => run(init, &image, fds, report),
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
    let [step, rest @ ..] = answer.as_slice() else {
        return Ok((pid, pidfd));
    };
    let step = usize::from(*step).min(STEPS.len() - 1);
    // Not in the list of processes yet, so the exit is nobody's news; collect it here.
    let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    let failure = Failure::new(STEPS[step], &io::Error::from_raw_os_error(reported(rest)));
    Err(Refused {
        exec: step == EXECUTE || step == CHANGE_DIR,
        failure,
    })
}

/// In the new process. Never returns: either the program runs, or the report says why not.
fn run(init: &Init<'_>, image: &Image, fds: Vec<OwnedFd>, report: OwnedFd) -> ! {
    let Ok(report) = sys::duplicate_above(report.as_fd(), PARKING) else {
        sys::exit_now(127)
    };
    let (step, err) = match image.confine(init, fds, &report) {
        Err(failed) => failed,
        Ok(()) => (
            EXECUTE,
            sys::execute(&image.program, &image.args, &image.env),
        ),
    };
    let mut answer = vec![u8::try_from(step).unwrap_or(u8::MAX)];
    // As the stub says it.
    let errno = err.raw_os_error().unwrap_or(libc::EINVAL);
    answer.extend(format!(" -{errno}\n").bytes());
    let _ = std::fs::File::from(report).write_all(&answer);
    sys::exit_now(127)
}

/// The error number at the end of a report.
fn reported(text: &[u8]) -> i32 {
    let text = String::from_utf8_lossy(text);
    let number = text
        .rsplit(' ')
        .next()
        .and_then(|word| word.trim().parse().ok());
    number.map_or(0, i32::wrapping_neg)
}

/// Has the waiting process execute the program, if there is one and it has room for the order.
fn order(
    init: &mut Init<'_>,
    image: &Image,
    report: &OwnedFd,
    fds: &[OwnedFd],
) -> Option<(Pid, OwnedFd)> {
    init.stub.as_ref()?;
    let order = image.order(init)?;
    let null = std::fs::File::open("/dev/null").ok()?;
    let all = [report.as_fd(), null.as_fd()];
    let all: Vec<_> = all.into_iter().chain(fds.iter().map(AsFd::as_fd)).collect();
    init.stub.take()?.order(&order, &all).ok()
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

    /// The same steps as [`Image::confine`], less what the stub has done. With the order come the report,
    /// an empty file for standard input, and the program's descriptors.
    fn order(&self, init: &Init<'_>) -> Option<Vec<u8>> {
        let mut order = Order::default();
        let about = |order: &mut Order, step: u8| order.about(&[step]);
        order.place(0, slot::REPORT, libc::O_CLOEXEC);
        about(&mut order, 1);
        let targets = [0].iter().chain(&self.targets);
        // Above all of them first, so that none takes another's place.
        let moves = targets.zip(1_i32..).zip(PARKING..);
        for ((target, fd), parked) in moves.clone() {
            if !(0..PARKING).contains(target) {
                return None;
            }
            order.place(fd, parked, 0);
        }
        for ((target, _), parked) in moves {
            order.place(parked, *target, 0);
        }
        let mut kept: Vec<_> = self.targets.clone();
        kept.extend([0, slot::REPORT]);
        kept.sort_unstable();
        kept.dedup();
        let mut first = 0;
        for fd in kept {
            if fd > first {
                order.close(first, fd - 1);
            }
            first = fd + 1;
        }
        about(&mut order, 2);
        let processes = within_limit(Resource::Nproc, init.pids_max.into());
        order.limit(libc::RLIMIT_NPROC, processes);
        order.call_for(libc::SYS_umask, &[0o022]);
        about(&mut order, 3);
        let (uid, gid) = (u64::from(init.ids.uid), u64::from(init.ids.gid));
        if !init.ids.single_user {
            order.call(libc::SYS_setgroups, &[0, 0]);
        }
        order.call(libc::SYS_setresgid, &[gid, gid, gid]);
        order.call(libc::SYS_setresuid, &[uid, uid, uid]);
        // The last that need a right.
        order.keep_time();
        order.close(first, i32::MAX);
        about(&mut order, 4);
        order.drop_capabilities();
        about(&mut order, 5);
        let cwd = order.text(&self.cwd);
        order.call(libc::SYS_chdir, &[cwd]);
        if let Some(filters) = &init.shared.filters {
            about(&mut order, 6);
            order.filter(&filters.late);
        }
        about(&mut order, 7);
        order.execute(&self.program, &self.args, &self.env);
        order.finish().ok()
    }

    /// Turns this copy of init into a process that may run foreign code.
    fn confine(
        &self,
        init: &Init<'_>,
        fds: Vec<OwnedFd>,
        report: &OwnedFd,
    ) -> Result<(), (usize, io::Error)> {
        fn at<T, E: Into<io::Error>>(
            step: usize,
            result: Result<T, E>,
        ) -> Result<T, (usize, io::Error)> {
            result.map_err(|err| (step, err.into()))
        }
        at(0, take_post(init))?;
        at(2, limit(Resource::Nproc, init.pids_max.into()))?;
        at(1, self.place(fds, report))?;
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        sys::reset_signals();
        at(3, become_function(init))?;
        at(4, drop_capabilities())?;
        // As the function's user, who must be allowed to enter it.
        at(CHANGE_DIR, rustix::process::chdir(&*self.cwd))?;
        if let Some(filters) = &init.shared.filters {
            at(6, sys::seccomp(&filters.early))?;
            at(6, sys::seccomp(&filters.late))?;
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

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let most = Some(within_limit(resource, most));
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    Ok(rustix::process::setrlimit(resource, limit)?)
}

/// This much, or what is in force if that is less: raising a limit needs a privilege that init does
/// not have.
pub(super) fn within_limit(resource: Resource, most: u64) -> u64 {
    let maximum = rustix::process::getrlimit(resource).maximum;
    maximum.map_or(most, |maximum| maximum.min(most))
}

fn become_function(init: &Init<'_>) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(init.ids.uid), Gid::from_raw(init.ids.gid));
    if !init.ids.single_user {
        rustix::thread::set_thread_groups(&[])?;
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

//! A process inside an environment, as the server sees it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::sync::watch;

use crate::sandbox::Environment;
use crate::{Error, Exit, sys};

/// A running (or ended) process of an environment. Dropping it does not end it.
#[derive(Debug)]
pub struct Process {
    environment: Arc<Environment>,
    pid: i32,
    pidfd: OwnedFd,
    exits: watch::Receiver<Option<Exit>>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    report: Option<OwnedFd>,
}

impl Process {
    pub(crate) fn new(
        environment: Arc<Environment>,
        pid: i32,
        pidfd: OwnedFd,
        exits: watch::Receiver<Option<Exit>>,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Self {
        Self {
            environment,
            pid,
            pidfd,
            exits,
            stdout: Some(stdout),
            stderr: Some(stderr),
            report: None,
        }
    }

    /// Adds the read end of the pipe in which a thaw says why it failed.
    pub(crate) fn with_report(self, report: OwnedFd) -> Self {
        Self {
            report: Some(report),
            ..self
        }
    }

    /// Resolves when a thaw has come to its end: from there on the image's own code runs, or the
    /// report says why it does not.
    pub async fn thawed(&self) -> Result<(), Error> {
        let Some(report) = &self.report else {
            return Ok(());
        };
        let watched = report
            .try_clone()
            .and_then(|report| sys::watch(report, Interest::READABLE))
            .map_err(|err| Error::io("watch a thaw", err))?;
        let ended = watched.readable().await;
        ended
            .map(drop)
            .map_err(|err| Error::io("watch a thaw", err))
    }

    /// What a thaw that failed (exit status 98 or 99) says about it; `None` when it says nothing.
    pub fn thaw_failure(&self) -> Option<String> {
        let mut text = [0; 4096];
        let length = rustix::io::read(self.report.as_ref()?, &mut text).ok()?;
        let text = String::from_utf8_lossy(text.get(..length)?);
        Some(text.trim_end().to_owned()).filter(|text| !text.is_empty())
    }

    /// Its process id as the server's own pid namespace numbers it.
    pub fn host_pid(&self) -> Result<i32, Error> {
        let path = format!("/proc/self/fdinfo/{}", self.pidfd.as_raw_fd());
        let text = std::fs::read_to_string(path).map_err(|err| Error::io("find a process", err))?;
        let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"));
        let pid = pid.and_then(|pid| pid.trim().parse().ok());
        // -1 says that the process has been reaped.
        pid.filter(|pid| *pid > 0)
            .ok_or(Error::Ended("the process"))
    }

    /// Its process id inside the environment.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// A handle to it for the server itself.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The read end of its standard output, non-blocking; `None` once taken.
    pub fn stdout(&mut self) -> Option<OwnedFd> {
        self.stdout.take()
    }

    /// The read end of its standard error, non-blocking; `None` once taken.
    pub fn stderr(&mut self) -> Option<OwnedFd> {
        self.stderr.take()
    }

    /// Resolves when the process has ended. May be called any number of times.
    pub async fn wait(&self) -> Exit {
        let mut exits = self.exits.clone();
        match exits.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::Signal(libc::SIGKILL)),
            // The environment went away with everything in it.
            Err(_) => Exit::Signal(libc::SIGKILL),
        }
    }

    /// Sends a signal to this process alone. A process that has ended is not an error.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        self.environment.signal(self.pid, signal)
    }
}

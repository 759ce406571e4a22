//! A process inside an environment, as the server sees it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use tokio::sync::watch;

use crate::sandbox::Environment;
use crate::{Error, Exit};

/// A running (or ended) process of an environment. Dropping it does not end it.
#[derive(Debug)]
pub struct Process {
    environment: Arc<Environment>,
    pid: i32,
    pidfd: OwnedFd,
    exits: watch::Receiver<Option<Exit>>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
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
        }
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

//! Bringing a process back from an image, as the server asks for it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::process::Process;
use crate::sandbox::{ENDED, Environment, NotStarted, Started, output_pipe};
use crate::service::patiently;
use crate::wire::{self, ToInit};
use crate::{Error, Thaw};

/// A thaw that init has been asked for.
pub struct Thawing {
    answer: oneshot::Receiver<Result<Started, NotStarted>>,
    stdout: OwnedFd,
    stderr: OwnedFd,
    report: OwnedFd,
}

impl Thawing {
    pub async fn begin(environment: &Environment, thaw: Thaw<'_>) -> Result<Self, Error> {
        let (stdout, stdout_end) = output_pipe()?;
        let (stderr, stderr_end) = output_pipe()?;
        let (report, report_end) = output_pipe()?;
        let (sequence, answer) = environment.expect_start()?;
        let order = wire::Thaw {
            sequence,
            pid: thaw.pid,
            log: thaw.log.is_some(),
            userfault: thaw.userfault.is_some(),
            scratch: thaw.scratch.is_some(),
        };
        let mut fds = vec![
            report_end.as_fd(),
            stdout_end.as_fd(),
            stderr_end.as_fd(),
            thaw.tape,
            thaw.pages,
        ];
        fds.extend(thaw.log);
        if let Some((device, socket)) = thaw.userfault {
            fds.extend([device, socket]);
        }
        fds.extend(thaw.scratch);
        let sent = environment.link.send(&ToInit::Thaw(order), &fds).await;
        sent.map_err(|err| Error::io("instruct the environment", err))?;
        Ok(Self {
            answer,
            stdout,
            stderr,
            report,
        })
    }

    pub async fn finish(self, environment: &Arc<Environment>) -> Result<Process, Error> {
        let answer = patiently("thaw a process", self.answer).await?;
        match answer.map_err(|_| ENDED)? {
            Ok((pid, pidfd, exits)) => Ok(Process::new(
                Arc::clone(environment),
                pid,
                pidfd,
                exits,
                self.stdout,
                self.stderr,
            )
            .with_report(self.report)),
            Err(NotStarted { failure, .. }) => Err(failure.into()),
        }
    }
}

//! One process, as the pool sees it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use asl::jsonata::elsewhere::Lost;

use crate::wire;
use crate::worker::{MORE, NAME};

/// What `abort` raises, and with it an allocation that fails.
const ABORTED: i32 = 6;

#[derive(Debug)]
pub struct Process {
    child: Child,
    socket: UnixStream,
}

impl Process {
    /// Starts a process. It ends with the thread that has called this.
    pub fn start(program: &Path) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new(program)
            .arg0(NAME)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What is typed at the server's terminal is not meant for it.
            .process_group(0)
            .spawn()?;
        Ok(Self {
            child,
            socket: ours,
        })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended since it was last used.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The answer to a request, and whether there can be another one.
    pub fn ask(&mut self, request: &[u8], deadline: Instant) -> Result<(Vec<u8>, bool), Lost> {
        let answer = self.exchange(request, deadline);
        match answer {
            Ok(Some(mut answer)) if !answer.is_empty() => {
                let is_more = answer.remove(0) == MORE;
                Ok((answer, is_more))
            }
            Err(err) if is_late(&err) => Err(Lost::Time),
            _ => Err(self.end()),
        }
    }

    fn exchange(&mut self, request: &[u8], deadline: Instant) -> io::Result<Option<Vec<u8>>> {
        self.socket.set_write_timeout(Some(left(deadline)))?;
        wire::write(&mut self.socket, request)?;
        // The first byte comes when everything is evaluated, the rest at once.
        self.socket.set_read_timeout(Some(left(deadline)))?;
        wire::read(&mut self.socket, wire::MAX_ANSWER_BYTES)
    }

    /// What has ended it, after it has closed its socket.
    fn end(&mut self) -> Lost {
        // Whatever it was about to do; it changes nothing for one that has ended.
        let _ = self.child.kill();
        match self.child.wait() {
            Ok(status) if status.signal() == Some(ABORTED) => Lost::Memory,
            _ => Lost::Process,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_late(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Not zero, which would mean for ever.
fn left(deadline: Instant) -> Duration {
    deadline
        .saturating_duration_since(Instant::now())
        .max(Duration::from_millis(1))
}

//! Python programs to freeze.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus};
use snapshot::{External, FreezeError, FreezeOptions, Frozen, Image};

/// What every program begins and ends with. It says `ready`, then `tick` for ever.
const PRELUDE: &str = "
import os, sys, time, ctypes, socket, select, mmap, fcntl, threading, signal, struct, tempfile
os.closerange(3, 1024)
libc = ctypes.CDLL(None, use_errno=True)
def check(value):
    if value < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return value
def say(word):
    os.write(1, (str(word) + '\\n').encode())
";
const END: &str = "
say('ready')
while True:
    time.sleep(0.02)
    say('tick')
";

/// A running program, which is killed in the end.
pub struct Program {
    child: Child,
    /// Freezing may have waited for the child, so that its number may be another process's.
    pidfd: OwnedFd,
    output: BufReader<ChildStdout>,
    externals: Vec<(External, u64)>,
    pub scratch: tempfile::TempDir,
    /// Ports of the platform.
    pub listeners: Vec<u16>,
}

/// What it said before `ready`.
pub type Said = Vec<String>;

impl Program {
    /// Runs `code`, in which `SCRATCH` is a directory that belongs to the image.
    pub fn python(code: &str) -> (Self, Said) {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().to_str().unwrap();
        let code = format!("{PRELUDE}\nSCRATCH = {path:?}\n{code}\n{END}");
        let mut command = Command::new("python3");
        command.args(["-c", &code]).current_dir("/");
        let mut program = Self::start(command, scratch);
        let said = program.until_ready();
        (program, said)
    }

    fn start(mut command: Command, scratch: tempfile::TempDir) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("python3 is needed");
        let pid = Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let output = child.stdout.take().unwrap();
        let inode = |fd: std::os::fd::BorrowedFd<'_>| rustix::fs::fstat(fd).unwrap().st_ino;
        let error = child.stderr.as_ref().unwrap();
        let externals = vec![
            (External::Output, inode(output.as_fd())),
            (External::Error, inode(error.as_fd())),
        ];
        Self {
            child,
            pidfd,
            output: BufReader::new(output),
            externals,
            scratch,
            listeners: Vec::new(),
        }
    }

    fn until_ready(&mut self) -> Said {
        let mut said = Vec::new();
        loop {
            match &*self.line() {
                "ready" => return said,
                word => said.push(word.to_owned()),
            }
        }
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        if line.is_empty() {
            let mut error = String::new();
            self.child
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut error)
                .unwrap();
            panic!("the program has ended ({:?}): {error}", self.ended());
        }
        line.trim_end().to_owned()
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub fn pidfd(&self) -> OwnedFd {
        self.pidfd.try_clone().unwrap()
    }

    /// Waits for its end, and how it ended unless that has been asked before.
    fn ended(&self) -> Option<WaitIdStatus> {
        let id = WaitId::PidFd(self.pidfd.as_fd());
        rustix::process::waitid(id, WaitIdOptions::EXITED).unwrap_or(None)
    }

    /// Freezes it; `change` sets further options.
    pub fn freeze_with(
        &self,
        change: impl FnOnce(&mut FreezeOptions<'_>),
    ) -> (Result<Frozen, FreezeError>, File) {
        let scratch = [self.scratch.path().to_str().unwrap()];
        let mut options = FreezeOptions {
            externals: &self.externals,
            scratch: &scratch,
            local_listeners: &self.listeners,
            ..FreezeOptions::default()
        };
        change(&mut options);
        let pages = tempfile::tempfile().unwrap();
        (snapshot::freeze(self.pid(), &options, &pages), pages)
    }

    /// Freezes it for good, and checks what holds for every image.
    pub fn freeze(self) -> (Frozen, File) {
        let (frozen, pages) = self.freeze_with(|_| ());
        let frozen = frozen.unwrap();
        check(&frozen.image, &pages);
        // Nothing is left of it, not even a zombie.
        assert!(!std::path::Path::new(&format!("/proc/{}", self.pid())).exists());
        (frozen, pages)
    }

    /// Freezing must be refused with these words, and the program run on.
    pub fn refused(mut self, words: &str) {
        let (frozen, _) = self.freeze_with(|_| ());
        self.must_be_refused(frozen, words);
    }

    pub fn must_be_refused(&mut self, frozen: Result<Frozen, FreezeError>, words: &str) {
        match frozen {
            Err(FreezeError::Unsupported { what }) => {
                assert!(what.contains(words), "{what:?} does not say {words:?}");
            }
            other => panic!(
                "not refused for {words:?}: {:?}",
                other.map(|frozen| frozen.stats)
            ),
        }
        self.runs_on();
    }

    /// It is not traced and ticks.
    pub fn runs_on(&mut self) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        assert!(status.contains("TracerPid:\t0\n"), "{status}");
        // What it said before may still be in the pipe.
        let behind = 2 + usize::try_from(unread(&self.output)).unwrap() / "tick\n".len();
        for _ in 0..behind {
            assert_eq!(self.line(), "tick");
        }
    }
}

fn unread(output: &BufReader<ChildStdout>) -> u64 {
    let waiting = rustix::io::ioctl_fionread(output.get_ref()).unwrap();
    waiting + output.buffer().len() as u64
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        self.ended();
    }
}

/// What holds for every image.
pub fn check(image: &Image, pages: &File) {
    let len = pages.metadata().unwrap().len();
    assert_eq!(len, image.pages_len);
    assert_eq!(image.threads[0].tid, image.pid);
    assert_eq!(image.signals.len(), 64);
    assert!(image.special.iter().any(|special| special.name == "[vdso]"));
    let decoded = Image::decode(&image.encode()).expect("the image is not accepted for thawing");
    // Not `assert_eq`, which would print all of both. Reading back clears a few flags of threads.
    let same = [
        decoded.threads.len() == image.threads.len(),
        decoded.mappings == image.mappings,
        decoded.descriptions == image.descriptions,
        Image::decode(&decoded.encode()).is_ok_and(|again| again == decoded),
    ];
    assert_eq!(same, [true; 4]);
}

/// Memory as the image has it.
pub fn memory(image: &Image, pages: &File, address: u64, len: usize) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; len];
    for segment in image.mappings.iter().flat_map(|mapping| &mapping.segments) {
        let end = address + len as u64;
        let (from, to) = (
            segment.start.max(address),
            (segment.start + segment.len).min(end),
        );
        if from < to {
            let part =
                usize::try_from(from - address).unwrap()..usize::try_from(to - address).unwrap();
            let offset = segment.offset + (from - segment.start);
            pages.read_exact_at(&mut bytes[part], offset).unwrap();
        }
    }
    bytes
}

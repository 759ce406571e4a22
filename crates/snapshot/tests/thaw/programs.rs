//! Real programs: started, frozen, thawed.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use snapshot::{
    CompileOptions, External, FreezeOptions, Image, Memory, Tape, WorkingSet, compile, freeze,
};

use crate::cage::{Cage, Job, PORT, Peer, page_file};
use crate::tiny::confinement;

/// A frozen program.
pub struct Program {
    pub image: Image,
    pub pages: File,
}

impl Program {
    /// Starts a program, which connects and says that it is ready, and freezes it.
    pub fn freeze(args: &[&str]) -> Result<Self> {
        let mut cage = Cage::start(17, &Job::Program(args))?;
        let mut peer = cage.accept_clone().context("start")?;
        let ready = peer.line();
        if ready.is_err() {
            let mut error = String::new();
            let _ = std::io::Read::read_to_string(
                &mut cage.error.take().context("no pipe")?,
                &mut error,
            );
            anyhow::bail!("the program is not ready: {error}");
        }
        ensure!(ready? == "ready");
        Self::freeze_cage(&cage)
    }

    /// Freezes what runs in a cage, which is the end of it.
    pub fn freeze_cage(cage: &Cage) -> Result<Self> {
        // Until it waits for the next line.
        std::thread::sleep(Duration::from_millis(100));
        let inode = |file: &Option<File>| -> Result<u64> {
            Ok(file.as_ref().context("no pipe")?.metadata()?.ino())
        };
        let externals = [
            (External::Output, inode(&cage.output)?),
            (External::Error, inode(&cage.error)?),
        ];
        let options = FreezeOptions {
            externals: &externals,
            local_listeners: &[PORT],
            ..FreezeOptions::default()
        };
        let pages = page_file()?;
        let frozen = freeze(cage.host_pid, &options, &pages).context("freeze")?;
        let encoded = frozen.image.encode();
        let image = Image::decode(&encoded).context("decode")?;
        ensure!(image == frozen.image, "another image was decoded");
        Ok(Self { image, pages })
    }

    pub fn tape(&self, memory: Memory, working_set: Option<&WorkingSet>) -> Result<Tape> {
        let filter = filter();
        let confinement = snapshot::Confinement {
            filter: &filter,
            ..confinement()
        };
        let options = CompileOptions {
            memory,
            working_set,
            confinement: Some(confinement),
            ..CompileOptions::default()
        };
        Ok(compile(&self.image, &options)?)
    }

    /// A clone, and its connection.
    pub fn thaw(&self, tape: &Tape) -> Result<(Cage, Peer)> {
        let job = Job::Tape {
            tape,
            pages: &self.pages,
            scratch: &self.image.scratch,
            userfault: None,
        };
        let mut cage = Cage::start(self.image.pid, &job)?;
        let peer = cage.accept_clone()?;
        Ok((cage, peer))
    }

    pub fn thaw_shared(&self) -> Result<(Cage, Peer)> {
        self.thaw(&self.tape(Memory::Shared, None)?)
    }
}

/// Refuses `acct` with an error number of its own, and allows everything else.
fn filter() -> Vec<libc::sock_filter> {
    const LOAD: u16 = 0x20;
    const EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let line = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    vec![
        line(LOAD, 0, 0, 0),
        line(EQUAL, 0, 1, 163),
        line(RETURN, 0, 0, 0x0005_0000 | 77),
        line(RETURN, 0, 0, 0x7fff_0000),
    ]
}

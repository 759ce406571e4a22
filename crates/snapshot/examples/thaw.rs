//! Thaws what `examples/freeze.rs` has frozen: `thaw DIRECTORY`, in namespaces of its own, and
//! shows what it writes.
//!
//! For experiments with the engine; the server does the same with more care.

#![allow(
    dead_code,
    reason = "what is shared with the tests is more than needed here"
)]

#[path = "../tests/thaw/cage.rs"]
mod cage;

use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use cage::{Cage, GID, Job, UID};
use snapshot::{CompileOptions, Confinement, Image, compile};

fn main() -> Result<()> {
    let directory = std::env::args().nth(1).context("from which directory?")?;
    let directory = Path::new(&directory);
    let image = Image::decode(&fs::read(directory.join("meta"))?)?;
    let pages = File::open(directory.join("pages"))?;
    let options = CompileOptions {
        confinement: Some(Confinement {
            uid: UID,
            gid: GID,
            drop_groups: true,
            filter: &[],
        }),
        ..CompileOptions::default()
    };
    let tape = compile(&image, &options)?;
    let job = Job::Tape {
        tape: &tape,
        pages: &pages,
        scratch: &image.scratch,
        userfault: None,
    };
    let mut cage = Cage::start(image.pid, &job)?;
    eprint!("{}", cage.report()?);
    eprintln!("process {}", cage.host_pid);
    io::copy(
        &mut cage.output.take().context("output")?,
        &mut io::stdout(),
    )?;
    io::copy(&mut cage.error.take().context("error")?, &mut io::stderr())?;
    eprintln!("status {}", cage.wait()?);
    Ok(())
}

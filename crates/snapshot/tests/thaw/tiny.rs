//! Processes that never were: images made by hand.

use std::fs::File;
use std::io::Write;

use anyhow::{Context, Result};
use snapshot::{CompileOptions, Confinement, Image, Memory, Special, compile, example};

use crate::cage::{Cage, GID, Job, UID, page_file};

fn special() -> Result<Vec<Special>> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let mut special = Vec::new();
    for line in maps.lines() {
        let name = line.split_whitespace().nth(5).unwrap_or("");
        if matches!(name, "[vvar]" | "[vvar_vclock]" | "[vdso]") {
            let range = line.split(' ').next().unwrap_or("");
            let (start, end) = range.split_once('-').unwrap_or(("", ""));
            special.push(Special {
                name: name.to_owned(),
                start: u64::from_str_radix(start, 16)?,
                end: u64::from_str_radix(end, 16)?,
            });
        }
    }
    Ok(special)
}

/// A process that says "hi", as this kernel can run it.
fn image() -> Result<Image> {
    use std::os::unix::fs::MetadataExt;
    let mut image = example::image();
    image.special = special()?;
    let found = std::fs::metadata("/usr/bin/env")?;
    image.files[0].size = found.len();
    image.files[0].modified_ns = found.mtime() * 1_000_000_000 + found.mtime_nsec();
    Ok(image)
}

fn pages() -> Result<File> {
    let mut pages = page_file()?;
    pages.write_all(example::CODE)?;
    pages.set_len(0x3000)?;
    Ok(pages)
}

pub fn confinement() -> Confinement<'static> {
    Confinement {
        uid: UID,
        gid: GID,
        drop_groups: true,
        filter: &[],
    }
}

/// A hand-made process runs, in both forms of memory.
pub fn says_hi() -> Result<()> {
    let image = image()?;
    image.validate()?;
    let pages = pages()?;
    for memory in [Memory::Shared, Memory::Exact] {
        let options = CompileOptions {
            memory,
            confinement: Some(confinement()),
            ..CompileOptions::default()
        };
        let tape = compile(&image, &options)?;
        let job = Job::Tape {
            tape: &tape,
            pages: &pages,
            scratch: &[],
            userfault: None,
        };
        let mut cage = Cage::start(20, &job)?;
        let (status, report) = (cage.wait()?, cage.report()?);
        anyhow::ensure!(status == 7, "status {status}, {report}");
        let mut output = String::new();
        std::io::Read::read_to_string(&mut cage.output.take().context("no pipe")?, &mut output)?;
        anyhow::ensure!(
            output == "hi\n" && report.is_empty(),
            "{output:?} {report:?}"
        );
    }
    Ok(())
}

/// A step that cannot be done ends the process and says which it was.
pub fn failures_are_named() -> Result<()> {
    let mut image = image()?;
    image.cwd = b"/nowhere".to_vec();
    let pages = pages()?;
    let tape = compile(&image, &CompileOptions::default())?;
    let job = Job::Tape {
        tape: &tape,
        pages: &pages,
        scratch: &[],
        userfault: None,
    };
    let mut cage = Cage::start(20, &job)?;
    let (status, report) = (cage.wait()?, cage.report()?);
    let wanted = "enter the working directory: call 0080 answered -0002\n";
    anyhow::ensure!(status == 99 && report == wanted, "{status} {report:?}");

    let mut image = self::image()?;
    image.files[0].size += 1;
    let tape = compile(&image, &CompileOptions::default())?;
    let job = Job::Tape {
        tape: &tape,
        pages: &pages,
        scratch: &[],
        userfault: None,
    };
    let mut cage = Cage::start(20, &job)?;
    let (status, report) = (cage.wait()?, cage.report()?);
    let named = report.contains("/usr/bin/env is not the file");
    anyhow::ensure!(status == 98 && named, "{status} {report:?}");
    Ok(())
}

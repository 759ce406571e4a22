//! Freezes a process into a directory: `freeze PID DIRECTORY [--keep] [--scratch PATH]...
//! [--listener PORT]... [--output FD] [--error FD] [--log FD]`.
//!
//! For experiments with the engine; the server does the same with more care.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use snapshot::{External, FreezeOptions};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let pid: i32 = args.next().context("which process?")?.parse()?;
    let directory = args.next().context("into which directory?")?;
    let (mut scratch, mut listeners, mut externals, mut keep) = (vec![], vec![], vec![], false);
    while let Some(option) = args.next() {
        if option == "--keep" {
            keep = true;
            continue;
        }
        let value = args
            .next()
            .with_context(|| format!("{option} needs a value"))?;
        let role = match &*option {
            "--scratch" => {
                scratch.push(value);
                continue;
            }
            "--listener" => {
                listeners.push(value.parse()?);
                continue;
            }
            "--output" => External::Output,
            "--error" => External::Error,
            "--log" => External::Log,
            other => bail!("unknown option {other}"),
        };
        let pipe = fs::metadata(format!("/proc/{pid}/fd/{value}"))?;
        externals.push((role, pipe.ino()));
    }
    let scratch: Vec<&str> = scratch.iter().map(String::as_str).collect();
    let options = FreezeOptions {
        externals: &externals,
        local_listeners: &listeners,
        scratch: &scratch,
        keep,
        ..FreezeOptions::default()
    };
    let directory = Path::new(&directory);
    fs::create_dir_all(directory)?;
    let pages = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(directory.join("pages"))?;
    let frozen = snapshot::freeze(pid, &options, &pages)?;
    fs::write(directory.join("meta"), frozen.image.encode())?;
    eprintln!("{:#?}\nallocators: {:?}", frozen.stats, frozen.allocators);
    Ok(())
}

//! Writes and looks into zip files.

use std::fs::File as FsFile;
use std::io::{Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::files::File;

const COPY_BUFFER_BYTES: usize = 64 << 10;

/// Writes `files` as a zip and tells `progress` of every chunk of source bytes. Times are the
/// format's zero and permissions are reduced to the executable bit, so that unchanged sources have
/// an unchanged CodeSha256.
pub fn write(files: &[File], out: impl Write + Seek, progress: &dyn Fn(u64)) -> Result<()> {
    let mut zip = ZipWriter::new(out);
    let mut buffer = vec![0; COPY_BUFFER_BYTES];
    for file in files {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .unix_permissions(if file.executable { 0o755 } else { 0o644 });
        zip.start_file(&file.name, options)
            .with_context(|| format!("cannot add {} to the zip", file.name))?;
        let mut source = FsFile::open(&file.path)
            .with_context(|| format!("cannot read {}", file.path.display()))?;
        loop {
            let n = source
                .read(&mut buffer)
                .with_context(|| format!("cannot read {}", file.path.display()))?;
            if n == 0 {
                break;
            }
            zip.write_all(&buffer[..n])
                .context("cannot write the zip")?;
            progress(n as u64);
        }
    }
    zip.finish()
        .context("cannot finish the zip")?
        .flush()
        .context("cannot write the zip")
}

/// The names of the files in a zip.
pub fn names(path: &Path) -> Result<Vec<String>> {
    let archive = open(path)?;
    Ok(archive
        .file_names()
        .filter(|name| !name.ends_with('/'))
        .map(str::to_owned)
        .collect())
}

/// The text of one file in a zip; nothing if it is absent, larger than `max_bytes` or not UTF-8.
pub fn text(path: &Path, name: &str, max_bytes: u64) -> Option<String> {
    let mut archive = open(path).ok()?;
    let entry = archive.by_name(name).ok()?;
    let mut text = String::new();
    // The size in the zip's directory may lie, the reader's limit does not.
    entry.take(max_bytes).read_to_string(&mut text).ok()?;
    Some(text)
}

fn open(path: &Path) -> Result<ZipArchive<FsFile>> {
    let file = FsFile::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    ZipArchive::new(file).with_context(|| format!("{} is not a zip file", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::files::collect;

    fn sources() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("app.py"),
            "def handler(event, context): pass\n",
        )
        .unwrap();
        std::fs::write(dir.path().join("bootstrap"), "#!/bin/sh\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(dir.path().join("bootstrap"), mode).unwrap();
        dir
    }

    fn zip_of(dir: &Path) -> Vec<u8> {
        let mut out = std::io::Cursor::new(Vec::new());
        write(&collect(dir).unwrap(), &mut out, &|_| {}).unwrap();
        out.into_inner()
    }

    #[test]
    fn unchanged_sources_give_the_same_bytes() {
        let dir = sources();
        assert_eq!(zip_of(dir.path()), zip_of(dir.path()));
    }

    #[test]
    fn executable_bit_survives() {
        let dir = sources();
        let mut archive = ZipArchive::new(std::io::Cursor::new(zip_of(dir.path()))).unwrap();
        let mode = |name: &str, archive: &mut ZipArchive<_>| {
            archive.by_name(name).unwrap().unix_mode().unwrap() & 0o777
        };
        assert_eq!(mode("bootstrap", &mut archive), 0o755);
        assert_eq!(mode("app.py", &mut archive), 0o644);
    }

    #[test]
    fn text_of_a_zip_member_is_read_and_absent_ones_are_nothing() {
        let dir = sources();
        let path = dir.path().join("out.zip");
        std::fs::write(&path, zip_of(dir.path())).unwrap();
        assert!(
            text(&path, "app.py", 1000)
                .unwrap()
                .starts_with("def handler")
        );
        assert_eq!(text(&path, "none.py", 1000), None);
        assert_eq!(names(&path).unwrap().len(), 2);
    }

    #[test]
    fn progress_counts_source_bytes() {
        let dir = sources();
        let seen = std::cell::Cell::new(0);
        write(
            &collect(dir.path()).unwrap(),
            std::io::Cursor::new(Vec::new()),
            &|n| {
                seen.set(seen.get() + n);
            },
        )
        .unwrap();
        assert_eq!(seen.get(), 34 + 10);
    }

    #[test]
    fn file_that_is_no_zip_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.zip");
        std::fs::write(&path, b"not a zip").unwrap();
        assert!(
            names(&path)
                .unwrap_err()
                .to_string()
                .contains("is not a zip file")
        );
    }
}

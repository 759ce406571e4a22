//! Complete copies of the code, each in a folder of its own.
//!
//! What has not changed since the last copy is a second name of the same file there, so that a copy
//! costs what was changed. Old copies stay until no invocation can be running on them.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::package::files::{self, File};

/// Longer than any invocation that is not being debugged.
const KEPT: Duration = Duration::from_secs(16 * 60);

#[derive(Debug)]
pub struct Workspace {
    folder: PathBuf,
    source: PathBuf,
    generation: u64,
    /// What the last copy was made of, by name.
    copied: HashMap<String, Stamp>,
    old: Vec<(Instant, PathBuf)>,
}

/// What came of a try.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    New(u64),
    /// All is as in the last copy.
    Same,
    /// A file changed while it was copied.
    Unstable,
}

/// What tells whether a file has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            // Also tells of a change of the permissions.
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

impl Workspace {
    /// Copies of `source` in `folder`.
    pub fn new(folder: PathBuf, source: PathBuf) -> Self {
        Self {
            folder,
            source,
            generation: 0,
            copied: HashMap::new(),
            old: Vec::new(),
        }
    }

    /// Makes a copy of the source as it is now, if it is not as it was.
    pub fn take(&mut self) -> Result<Taken> {
        let files = files::collect(&self.source)?;
        let mut stamps = HashMap::with_capacity(files.len());
        for file in &files {
            let stamp = Stamp::of(&file.path)
                .with_context(|| format!("cannot read {}", file.path.display()))?;
            stamps.insert(file.name.clone(), stamp);
        }
        if self.generation > 0 && stamps == self.copied {
            return Ok(Taken::Same);
        }
        anyhow::ensure!(!files.is_empty(), "{} is empty", self.source.display());
        let generation = self.generation + 1;
        let target = self.copy_of(generation);
        // A try that did not succeed has left something.
        let _ = fs::remove_dir_all(&target);
        self.copy(&files, &stamps, &target)?;
        let stable = |file: &File| Stamp::of(&file.path).ok().as_ref() == stamps.get(&file.name);
        if !files.iter().all(stable) {
            return Ok(Taken::Unstable);
        }
        if self.generation > 0 {
            self.old
                .push((Instant::now(), self.copy_of(self.generation)));
        }
        self.generation = generation;
        self.copied = stamps;
        self.remove_old();
        Ok(Taken::New(generation))
    }

    fn copy_of(&self, generation: u64) -> PathBuf {
        self.folder.join(generation.to_string())
    }

    fn copy(&self, files: &[File], stamps: &HashMap<String, Stamp>, target: &Path) -> Result<()> {
        let last = self.copy_of(self.generation);
        create(target)?;
        let mut parent = PathBuf::new();
        for file in files {
            let to = target.join(&file.name);
            let within = to.parent().unwrap_or(target);
            if within != parent {
                create(within)?;
                within.clone_into(&mut parent);
            }
            let unchanged = self.copied.get(&file.name) == stamps.get(&file.name);
            if unchanged && fs::hard_link(last.join(&file.name), &to).is_ok() {
                continue;
            }
            let copied = fs::copy(&file.path, &to).and_then(|_| {
                let mode = if file.executable { 0o755 } else { 0o644 };
                fs::set_permissions(&to, fs::Permissions::from_mode(mode))
            });
            match copied {
                // Gone since it was listed: the next look will tell.
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                other => other.with_context(|| format!("cannot copy {}", file.path.display()))?,
            }
        }
        Ok(())
    }

    fn remove_old(&mut self) {
        self.old.retain(|(since, path)| {
            let keep = since.elapsed() < KEPT;
            if !keep {
                // The server removes what stays.
                let _ = fs::remove_dir_all(path);
            }
            keep
        });
    }
}

/// The function's user must be able to read it, whatever the umask.
fn create(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot create {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        source: tempfile::TempDir,
        copies: tempfile::TempDir,
    }

    fn fixture() -> (Fixture, Workspace) {
        let fixture = Fixture {
            source: tempfile::tempdir().unwrap(),
            copies: tempfile::tempdir().unwrap(),
        };
        let workspace = Workspace::new(
            fixture.copies.path().to_owned(),
            fixture.source.path().to_owned(),
        );
        (fixture, workspace)
    }

    impl Fixture {
        fn write(&self, name: &str, text: &str) {
            let path = self.source.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn copied(&self, name: &str) -> PathBuf {
            self.copies.path().join(name)
        }
    }

    #[test]
    fn a_copy_never_changes() {
        let (fixture, mut workspace) = fixture();
        fixture.write("app.py", "one");
        fixture.write("lib/rest.py", "rest");
        assert_eq!(workspace.take().unwrap(), Taken::New(1));
        assert_eq!(workspace.take().unwrap(), Taken::Same);
        // In place, as many editors save.
        fixture.write("app.py", "two");
        assert_eq!(workspace.take().unwrap(), Taken::New(2));
        let text = |name: &str| fs::read_to_string(fixture.copied(name)).unwrap();
        assert_eq!(
            (text("1/app.py"), text("2/app.py")),
            ("one".into(), "two".into())
        );
        let inode = |name: &str| fs::metadata(fixture.copied(name)).unwrap().ino();
        assert_eq!(inode("1/lib/rest.py"), inode("2/lib/rest.py"));
        assert_ne!(inode("1/app.py"), inode("2/app.py"));
    }

    #[test]
    fn what_was_deleted_or_made_executable_is_a_change() {
        let (fixture, mut workspace) = fixture();
        fixture.write("bootstrap", "#!/bin/sh");
        fixture.write("gone.py", "");
        workspace.take().unwrap();
        fs::remove_file(fixture.source.path().join("gone.py")).unwrap();
        assert_eq!(workspace.take().unwrap(), Taken::New(2));
        assert!(fixture.copied("1/gone.py").exists() && !fixture.copied("2/gone.py").exists());
        let bootstrap = fixture.source.path().join("bootstrap");
        fs::set_permissions(bootstrap, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(workspace.take().unwrap(), Taken::New(3));
        let mode = |name: &str| fs::metadata(fixture.copied(name)).unwrap().mode() & 0o777;
        assert_eq!((mode("2/bootstrap"), mode("3/bootstrap")), (0o644, 0o755));
    }

    #[test]
    fn ignored_files_and_empty_folders_do_not_count() {
        let (fixture, mut workspace) = fixture();
        assert!(workspace.take().is_err());
        fixture.write("app.py", "one");
        workspace.take().unwrap();
        fixture.write(".git/HEAD", "x");
        fixture.write("__pycache__/app.pyc", "x");
        assert_eq!(workspace.take().unwrap(), Taken::Same);
    }

    #[test]
    fn links_are_followed_and_dangling_ones_are_errors() {
        let (fixture, mut workspace) = fixture();
        fixture.write("app.py", "one");
        let outside = tempfile::NamedTempFile::new().unwrap();
        fs::write(&outside, "shared").unwrap();
        let link = fixture.source.path().join("shared.py");
        std::os::unix::fs::symlink(outside.path(), &link).unwrap();
        assert_eq!(workspace.take().unwrap(), Taken::New(1));
        let copied = fixture.copied("1/shared.py");
        assert!(fs::symlink_metadata(&copied).unwrap().is_file());
        assert_eq!(fs::read_to_string(copied).unwrap(), "shared");
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("/no/such/file", &link).unwrap();
        assert!(workspace.take().is_err());
    }
}

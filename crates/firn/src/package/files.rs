//! Walks a folder and lists the files that go into a package.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::MAX_UNZIPPED_BYTES;
use super::ignore::Rules;

/// Deeper than any real package; ends a walk through a loop of symbolic links.
const MAX_DEPTH: usize = 64;

/// One file to upload.
#[derive(Debug)]
pub struct File {
    /// Name inside the package, with `/` between folders.
    pub name: String,
    pub path: PathBuf,
    pub size: u64,
    pub executable: bool,
}

/// The files of `folder` in a fixed order, so that the same sources give the same zip. Symbolic
/// links are followed, as `zip -r` does.
pub fn collect(folder: &Path) -> Result<Vec<File>> {
    let firnignore = match std::fs::read_to_string(folder.join(".firnignore")) {
        Ok(text) => text,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(err) => return Err(err).context("cannot read .firnignore"),
    };
    let mut files = Vec::new();
    walk(folder, "", 0, &Rules::new(&firnignore), &mut files)?;
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let total: u64 = files.iter().map(|file| file.size).sum();
    if total > MAX_UNZIPPED_BYTES {
        bail!(
            "{} holds {total} bytes; a function's code may be at most {MAX_UNZIPPED_BYTES} bytes \
             unzipped (list what it does not need in .firnignore)",
            folder.display()
        );
    }
    Ok(files)
}

fn walk(
    folder: &Path,
    prefix: &str,
    depth: usize,
    rules: &Rules,
    files: &mut Vec<File>,
) -> Result<()> {
    if depth > MAX_DEPTH {
        bail!(
            "{} is nested too deeply: is there a loop of links?",
            folder.display()
        );
    }
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else {
            bail!(
                "{} has a name that is not UTF-8, which a package cannot hold",
                path.display()
            );
        };
        let name = format!("{prefix}{name}");
        let metadata = std::fs::metadata(&path)
            .with_context(|| format!("cannot read {} (a dangling link?)", path.display()))?;
        if rules.excludes(&name, metadata.is_dir()) {
            continue;
        }
        if metadata.is_dir() {
            walk(&path, &format!("{name}/"), depth + 1, rules, files)?;
        } else if metadata.is_file() {
            files.push(File {
                name,
                path,
                size: metadata.len(),
                executable: is_executable(&metadata),
            });
        }
    }
    Ok(())
}

fn is_executable(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o111 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        collect(folder)
            .unwrap()
            .into_iter()
            .map(|file| file.name)
            .collect()
    }

    #[test]
    fn files_come_sorted_and_without_ignored_ones() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "z.py",
            "lib/a.py",
            "lib/__pycache__/a.pyc",
            ".git/config",
            "notes.md",
        ] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
        }
        std::fs::write(dir.path().join(".firnignore"), "*.md\n").unwrap();
        assert_eq!(names(dir.path()), ["lib/a.py", "z.py"]);
    }

    #[test]
    fn loop_of_links_is_an_error_not_an_endless_walk() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("again")).unwrap();
        assert!(collect(dir.path()).is_err());
    }
}

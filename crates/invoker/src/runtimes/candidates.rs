//! The places where interpreters are looked for, in order: firn's runtime directory, PATH, the system's directories,
//! version managers. Only lists files; [`super::probe`] runs them.

use std::collections::HashSet;
use std::env;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::name::Family;
use super::{RuntimesConfig, jvm};

const PYTHON_MINORS: std::ops::RangeInclusive<u32> = 8..=20;

/// The places outside firn's runtime directory. A test points them into a directory of its own.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// Directories with programs, as in `PATH`.
    pub path: Vec<PathBuf>,
    /// Directories with one subdirectory per Python version, as `~/.pyenv/versions`.
    pub python_versions: Vec<PathBuf>,
    /// Directories with one subdirectory per Node version, as `~/.nvm/versions/node`.
    pub node_versions: Vec<PathBuf>,
    /// Directories with one subdirectory per JVM, as `/usr/lib/jvm`.
    pub java_versions: Vec<PathBuf>,
}

/// A file that may be an interpreter.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The real file, symbolic links resolved.
    pub path: PathBuf,
    /// The version its name promises, as [`super::Runtime::version`].
    pub claims: Option<u32>,
}

impl Search {
    /// PATH and the version managers this process's environment points to.
    pub fn from_env() -> Self {
        let mut path: Vec<PathBuf> = env::var_os("PATH")
            .map(|value| env::split_paths(&value).collect())
            .unwrap_or_default();
        path.extend(["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from));

        if let Some(home) = env::var_os("JAVA_HOME") {
            path.insert(0, PathBuf::from(home).join("bin"));
        }

        let home = env::var_os("HOME").map(PathBuf::from);
        let in_home = |dir: &str| home.as_ref().map(|home| home.join(dir));
        let named = |variable: &str, dir: &str| {
            env::var_os(variable)
                .map(PathBuf::from)
                .or_else(|| in_home(dir))
                .into_iter()
        };
        let mut python_versions: Vec<PathBuf> = named("PYENV_ROOT", ".pyenv")
            .map(|root| root.join("versions"))
            .collect();
        // pyenv's shims are scripts; what they stand for is next to their directory.
        python_versions.extend(
            path.iter()
                .filter(|dir| dir.ends_with("shims"))
                .filter_map(|dir| Some(dir.parent()?.join("versions"))),
        );
        python_versions.extend(named("UV_PYTHON_INSTALL_DIR", ".local/share/uv/python"));
        python_versions.extend(in_home(".asdf/installs/python"));
        python_versions.extend(in_home(".local/share/mise/installs/python"));

        let mut node_versions: Vec<PathBuf> = named("NVM_DIR", ".nvm")
            .map(|root| root.join("versions/node"))
            .collect();
        node_versions
            .extend(named("FNM_DIR", ".local/share/fnm").map(|root| root.join("node-versions")));
        node_versions.extend(in_home(".volta/tools/image/node"));
        node_versions.extend(in_home(".asdf/installs/nodejs"));
        node_versions.extend(in_home(".local/share/mise/installs/node"));
        let mut java_versions: Vec<PathBuf> = ["/usr/lib/jvm", "/usr/java", "/opt/java"]
            .map(PathBuf::from)
            .into();
        java_versions
            .extend(named("SDKMAN_DIR", ".sdkman").map(|root| root.join("candidates/java")));
        java_versions.extend(in_home(".jdks"));
        java_versions.extend(in_home(".asdf/installs/java"));
        java_versions.extend(in_home(".local/share/mise/installs/java"));
        Self {
            path,
            python_versions,
            node_versions,
            java_versions,
        }
    }
}

/// Every candidate of a family, best place first, each real file once.
pub(super) fn of(family: Family, config: &RuntimesConfig) -> Vec<Candidate> {
    let (mut found, search) = (Vec::new(), &config.search);
    match family {
        Family::Python => {
            for (name, dir) in subdirectories(&config.dir, "python3.") {
                let minor = name
                    .strip_prefix("python3.")
                    .and_then(|minor| minor.parse().ok());
                found.push((dir.join("bin/python3"), minor));
            }
            for dir in &search.path {
                found.extend(pythons_in(dir));
            }
            for (name, dir) in search
                .python_versions
                .iter()
                .flat_map(|root| subdirectories(root, ""))
            {
                found.push((dir.join("bin/python3"), python_minor(&name)));
            }
        }
        Family::Node => {
            for (name, dir) in subdirectories(&config.dir, "nodejs") {
                let major = name.strip_prefix("nodejs").and_then(leading_number);
                found.push((dir.join("bin/node"), major));
            }
            for dir in &search.path {
                found.push((dir.join("node"), None));
                found.push((dir.join("nodejs"), None));
            }
            for (name, dir) in search
                .node_versions
                .iter()
                .flat_map(|root| subdirectories(root, ""))
            {
                let major = leading_number(name.trim_start_matches('v'));
                found.push((dir.join("bin/node"), major));
                found.push((dir.join("installation/bin/node"), major));
            }
        }
        Family::Java => {
            let own = subdirectories(&config.dir, "java").into_iter();
            let managed = search
                .java_versions
                .iter()
                .flat_map(|root| subdirectories(root, ""));
            for (name, dir) in own {
                found.push((dir.join("bin/java"), jvm::major(&name)));
            }
            for dir in &search.path {
                found.push((dir.join("java"), None));
            }
            for (name, dir) in managed {
                found.push((dir.join("bin/java"), jvm::major(&name)));
            }
        }
        _ => {}
    }
    let mut seen = HashSet::new();
    found
        .into_iter()
        .filter_map(|(path, claims)| {
            Some(Candidate {
                path: fs::canonicalize(path).ok()?,
                claims,
            })
        })
        .filter(|candidate| seen.insert(candidate.path.clone()) && is_elf(&candidate.path))
        .collect()
}

/// `python3.N` for every N that firn may use, then the name that does not tell. Asked for by name: listing a PATH
/// directory with thousands of programs takes longer.
fn pythons_in(dir: &Path) -> impl Iterator<Item = (PathBuf, Option<u32>)> {
    let named = |minor| (dir.join(format!("python3.{minor}")), Some(minor));
    PYTHON_MINORS
        .map(named)
        .chain([(dir.join("python3"), None)])
}

/// `3.12.1`, `cpython-3.12.4-linux-x86_64-gnu` → 12.
fn python_minor(name: &str) -> Option<u32> {
    let rest = name.strip_prefix("cpython-").unwrap_or(name);
    leading_number(rest.strip_prefix("3.")?)
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text[..end].parse().ok()
}

fn subdirectories(dir: &Path, prefix: &str) -> Vec<(String, PathBuf)> {
    let names = entries(dir)
        .into_iter()
        .filter(|name| name.starts_with(prefix));
    names.map(|name| (name.clone(), dir.join(name))).collect()
}

/// Names in a directory, newest version first, so that of two patch releases the newer one is taken. Empty if there
/// is no such directory.
fn entries(dir: &Path) -> Vec<String> {
    let Ok(listing) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut names: Vec<String> = listing
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_by_cached_key(|name| std::cmp::Reverse(numbers(name)));
    names
}

fn numbers(name: &str) -> (Vec<u64>, String) {
    let numbers = name
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect();
    (numbers, name.to_owned())
}

/// Version managers put scripts of the same name into PATH; those need a shell and files that the sandbox lacks.
fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut magic))
        .is_ok()
        && magic == *b"\x7fELF"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_names_of_version_managers_tell_the_version() {
        assert_eq!(python_minor("3.12.1"), Some(12));
        assert_eq!(python_minor("cpython-3.9.20-linux-x86_64-gnu"), Some(9));
        assert_eq!(python_minor("2.7.18"), None);
        assert_eq!(python_minor("pypy3.10-7.3"), None);
        assert_eq!(leading_number("22.11.0"), Some(22));
        assert_eq!(leading_number("system"), None);
    }

    #[test]
    fn newer_patch_releases_come_first() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["3.12.9", "3.12.11", "3.8.18"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        assert_eq!(entries(dir.path()), ["3.12.11", "3.12.9", "3.8.18"]);
    }
}

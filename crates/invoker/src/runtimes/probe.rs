//! What an interpreter says about itself: it is run once, and the answer kept in a file until the interpreter changes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::jvm;
use super::name::{Family, Runtime};

/// An interpreter that answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Interpreter {
    pub program: PathBuf,
    version: (u32, u32, u32),
    /// Directories and files it needs to see besides the system's own.
    needs: Vec<PathBuf>,
}

/// The answers of all interpreters met so far.
pub(super) struct Probes {
    file: PathBuf,
    known: Option<Cache>,
    changed: bool,
}

#[derive(Default, Serialize, Deserialize)]
struct Cache {
    format: u32,
    interpreters: BTreeMap<PathBuf, Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    stamp: Stamp,
    /// `None` for a file that is no working interpreter.
    interpreter: Option<Interpreter>,
}

/// Changes whenever the file is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    mtime_ns: i64,
    size: u64,
    inode: u64,
}

const FORMAT: u32 = 1;
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

// These print three version numbers, the prefix, and every file that is mapped. A JVM only tells its version: its
// files are all in its home.
const ASK_PYTHON: &str = r"
import sys
print(*sys.version_info[:3])
print(sys.base_prefix)
for line in open('/proc/self/maps'):
    parts = line.split(None, 5)
    if len(parts) == 6: print(parts[5].strip())
";
const ASK_NODE: &str = r"
console.log(process.versions.node.split('.').join(' '));
console.log(require('path').dirname(process.execPath));
for (const line of require('fs').readFileSync('/proc/self/maps', 'latin1').split('\n')) {
  const parts = line.split(/\s+/);
  if (parts.length > 5) console.log(parts.slice(5).join(' '));
}
";
const SETTINGS: [&str; 7] = [
    "NODE_OPTIONS",
    "NODE_PATH",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
];
/// The sandbox has these anyway.
const SYSTEM: [&str; 5] = ["/usr", "/lib", "/lib64", "/bin", "/etc"];

impl Interpreter {
    pub fn release(&self) -> u32 {
        // Python's major version is always 3 here, so its minor is what tells.
        if self.version.0 == 3 {
            self.version.1
        } else {
            self.version.0
        }
    }

    pub fn satisfies(&self, runtime: &Runtime) -> bool {
        self.release() == runtime.version()
    }

    pub fn version(&self) -> String {
        let (major, minor, patch) = self.version;
        format!("{major}.{minor}.{patch}")
    }

    /// Its directory, if functions would not find it in the usual PATH.
    pub fn bin_dir(&self) -> Option<&Path> {
        self.program.parent().filter(|dir| !is_system(dir))
    }

    pub fn mounts(&self) -> Vec<(PathBuf, PathBuf)> {
        self.needs
            .iter()
            .map(|path| (path.clone(), path.clone()))
            .collect()
    }
}

impl Probes {
    pub fn at(file: PathBuf) -> Self {
        Self {
            file,
            known: None,
            changed: false,
        }
    }

    /// What the interpreter at `path` is; `None` if it is none that firn can run.
    pub fn get(&mut self, family: Family, path: &Path) -> Option<Interpreter> {
        let stamp = Stamp::of(path)?;
        let known = self.known.get_or_insert_with(|| read(&self.file));
        if let Some(entry) = known
            .interpreters
            .get(path)
            .filter(|entry| entry.stamp == stamp)
        {
            return entry.interpreter.clone();
        }
        let interpreter = ask(family, path);
        if interpreter.is_none() {
            tracing::debug!(path = %path.display(), "not a working interpreter");
        }
        self.changed = true;
        known.interpreters.insert(
            path.to_owned(),
            Entry {
                stamp,
                interpreter: interpreter.clone(),
            },
        );
        interpreter
    }

    /// Answers for an interpreter that cannot be run.
    #[cfg(test)]
    pub fn remember(&mut self, path: &Path, version: (u32, u32, u32), prefix: &Path) {
        let interpreter = Interpreter {
            program: path.to_owned(),
            version,
            needs: needs(prefix.to_owned(), [].into_iter()),
        };
        let entry = Entry {
            stamp: Stamp::of(path).unwrap(),
            interpreter: Some(interpreter),
        };
        let known = self.known.get_or_insert_with(|| read(&self.file));
        known.interpreters.insert(path.to_owned(), entry);
        self.changed = true;
    }

    /// Writes what was learnt. Failing only costs the next start a few probes.
    pub fn save(&mut self) {
        let Some(known) = self.known.as_ref().filter(|_| self.changed) else {
            return;
        };
        self.changed = false;
        let written = serde_json::to_vec_pretty(known)
            .map_err(std::io::Error::from)
            .and_then(|bytes| {
                if let Some(dir) = self.file.parent() {
                    fs::create_dir_all(dir)?;
                }
                let unfinished = self
                    .file
                    .with_extension(format!("json.{}", std::process::id()));
                fs::write(&unfinished, bytes)?;
                fs::rename(&unfinished, &self.file)
            });
        if let Err(err) = written {
            tracing::debug!(file = %self.file.display(), %err, "could not remember the interpreters found");
        }
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        let mtime_ns = meta
            .mtime()
            .saturating_mul(1_000_000_000)
            .saturating_add(meta.mtime_nsec());
        Some(Self {
            mtime_ns,
            size: meta.len(),
            inode: meta.ino(),
        })
    }
}

/// A missing, damaged or foreign file is an empty one.
fn read(file: &Path) -> Cache {
    let cache = fs::read(file)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    cache
        .filter(|cache: &Cache| cache.format == FORMAT)
        .unwrap_or(Cache {
            format: FORMAT,
            ..Cache::default()
        })
}

fn ask(family: Family, program: &Path) -> Option<Interpreter> {
    let mut command = Command::new(program);
    match family {
        Family::Python => command.args(["-I", "-S", "-c", ASK_PYTHON]),
        Family::Node => command.args(["-e", ASK_NODE]),
        Family::Java => command.args(["-XX:-UsePerfData", "--version"]),
        _ => return None,
    };
    // Settings of the user's shell must not change what is found.
    for variable in SETTINGS {
        command.env_remove(variable);
    }
    let answer = output(command)?;
    if family == Family::Java {
        return Some(Interpreter {
            program: program.to_owned(),
            version: jvm::version(&answer)?,
            needs: needs(jvm::home(program)?, std::iter::empty()),
        });
    }
    let mut lines = answer.lines();
    let mut numbers = lines.next()?.split(' ').map(str::parse);
    let mut number = || numbers.next().and_then(Result::ok);
    let version = (number()?, number()?, number()?);
    if family == Family::Python && version.0 != 3 {
        return None;
    }
    let prefix = PathBuf::from(lines.next()?);
    Some(Interpreter {
        program: program.to_owned(),
        version,
        needs: needs(prefix, lines.map(Path::new)),
    })
}

/// The prefix, and mapped files outside of it, such as a libpython elsewhere.
fn needs<'a>(prefix: PathBuf, mapped: impl Iterator<Item = &'a Path>) -> Vec<PathBuf> {
    let mut needs = Vec::new();
    if !is_system(&prefix) && prefix.is_absolute() && prefix != Path::new("/") {
        needs.push(prefix);
    }
    for file in mapped.filter(|file| file.is_absolute() && file.is_file() && !is_system(file)) {
        if !needs.iter().any(|have| file.starts_with(have)) {
            needs.push(file.to_owned());
        }
    }
    needs
}

fn is_system(path: &Path) -> bool {
    SYSTEM.iter().any(|dir| path.starts_with(dir))
}

/// Standard output of a program that ends well and in time.
fn output(mut command: Command) -> Option<String> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let pipe = child.stdout.take()?;
    let reader = thread::spawn(move || {
        let mut text = String::new();
        pipe.take(MAX_ANSWER_BYTES)
            .read_to_string(&mut text)
            .ok()
            .map(|_| text)
    });
    let started = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if started.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(1)),
            _ => break None,
        }
    };
    if status.is_none() {
        // It may be gone by now; either way there is nothing left to do about it.
        let _ = child.kill();
        let _ = child.wait();
    }
    let text = reader.join().ok()??;
    status
        .filter(std::process::ExitStatus::success)
        .map(|_| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_cache_is_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("interpreters.json");
        for content in ["", "{", "[]", r#"{"format": 99, "interpreters": {}}"#] {
            fs::write(&file, content).unwrap();
            assert!(read(&file).interpreters.is_empty());
        }
    }

    #[test]
    fn only_what_the_system_lacks_is_needed() {
        let dir = tempfile::tempdir().unwrap();
        let prefix = dir.path().join("prefix");
        let library = dir.path().join("libpython.so");
        fs::write(&library, "").unwrap();
        let mapped = [
            library.as_path(),
            Path::new("/usr/lib/libc.so.6"),
            Path::new("[heap]"),
        ];
        assert_eq!(needs(prefix.clone(), mapped.into_iter()), [prefix, library]);
        assert!(needs("/usr".into(), std::iter::empty()).is_empty());
    }
}

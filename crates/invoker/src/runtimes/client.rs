//! firn's runtime clients, embedded in the binary and unpacked under the data directory as what `/var/runtime` shows.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use super::RuntimeError;
use super::probe::Interpreter;

#[derive(Debug, Clone, Copy)]
pub(super) enum Client {
    Python,
    Node,
    Java,
}

/// The client's classes, on the class path of the JVM.
pub(super) const JAVA_JAR: &str = "firn-runtime.jar";
/// Security properties of the JVM.
pub(super) const JAVA_SECURITY: &str = "firn.security";

/// When every file of a client was last modified, as far as it says: the beginning of 2000.
const UNPACKED: Duration = Duration::from_secs(946_684_800);

macro_rules! embed {
    ($folder:literal: $($file:literal),+ $(,)?) => {
        &[$(($file, include_bytes!(concat!("../../../../runtimes/", $folder, "/", $file)) as &[u8])),+]
    };
}

const PYTHON: &[(&str, &[u8])] = embed!("python":
    "bootstrap.py",
    "firn_runtime.py",
    "firn_errors.py",
    "firn_logging.py",
    "firn_json.py",
    "firn_snapshot.py",
    "snapshot_restore_py.py",
    "awslambdaric/__init__.py",
    "awslambdaric/lambda_context.py",
);
const NODE: &[(&str, &[u8])] = embed!("node":
    "@firn/snapshot.js",
    "index.js",
    "api.js",
    "context.js",
    "errors.js",
    "invoke-store.js",
    "loader.js",
    "log.js",
    "loop.js",
    "loop-with-callbacks.js",
    "package.json",
    "random.js",
    "resolve.mjs",
    "snapshot.js",
    "streaming.js",
);

// Compiled by build.rs; empty if there was no compiler.
const JAR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/firn-runtime.jar"));
const JAVA: &[(&str, &[u8])] = &[
    (JAVA_JAR, JAR),
    (
        JAVA_SECURITY,
        include_bytes!("../../../../runtimes/java/firn.security"),
    ),
];

/// A name that nothing else on this machine uses for its unfinished work: two starts of one server, or two servers, may
/// want the same thing at the same time.
pub(super) fn unique() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    format!("{}-{number}", std::process::id())
}

impl Client {
    fn files(self) -> &'static [(&'static str, &'static [u8])] {
        match self {
            Self::Python => PYTHON,
            Self::Node => NODE,
            Self::Java => JAVA,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Node => "node",
            Self::Java => "java",
        }
    }

    /// The mount point for the SDK, which a read-only directory cannot grow later.
    fn mount_point(self) -> Option<&'static str> {
        match self {
            Self::Python => Some("sdk"),
            Self::Node => Some("node_modules"),
            Self::Java => None,
        }
    }

    /// The directory with the client's files: `<data_dir>/runtime/<hash of the content>/<name>`. Another process may
    /// unpack at the same time; whoever renames first wins and the content is the same.
    pub fn unpack(self, data_dir: &Path) -> Result<PathBuf, RuntimeError> {
        if matches!(self, Self::Java) && JAR.is_empty() {
            return Err(RuntimeError::NotBuilt);
        }
        let versioned = data_dir.join("runtime").join(self.hash());
        let dir = versioned.join(self.name());
        if dir.is_dir() {
            return Ok(dir);
        }
        let unfinished = versioned.join(format!(".{}.{}", self.name(), unique()));
        let unpacked = self
            .write(&unfinished)
            .and_then(|()| fs::rename(&unfinished, &dir));
        if let Err(source) = unpacked {
            // Best effort: what is left behind is never read.
            let _ = fs::remove_dir_all(&unfinished);
            if !dir.is_dir() {
                return Err(RuntimeError::Unpack { path: dir, source });
            }
        }
        Ok(dir)
    }

    fn hash(self) -> String {
        let mut hasher = Sha256::new_with_prefix(BUNDLE_END);
        for (name, content) in self.files() {
            hasher.update(name.len().to_le_bytes());
            hasher.update(name);
            hasher.update(content.len().to_le_bytes());
            hasher.update(content);
        }
        let mut hash = hex::encode(hasher.finalize());
        hash.truncate(16);
        hash
    }

    fn write(self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        if let Some(mount_point) = self.mount_point() {
            fs::create_dir(dir.join(mount_point))?;
        }
        for (name, content) in self.files() {
            let path = dir.join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let content = match (self, *name) {
                (Self::Node, "index.js") => bundle(self.files()).into(),
                _ => Cow::Borrowed(*content),
            };
            let mut file = File::create(path)?;
            file.write_all(&content)?;
            // The same on every server, so that a process with such a file open can be thawed on another one.
            file.set_modified(SystemTime::UNIX_EPOCH + UNPACKED)?;
        }
        Ok(())
    }
}

/// All CommonJS modules in one file: finding and opening each costs a cold start a good part of a millisecond.
fn bundle(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bundle = b"'use strict';\nconst modules = {\n".to_vec();
    for (name, content) in files.iter().filter(|(name, _)| name.ends_with(".js")) {
        bundle.extend_from_slice(format!("'./{name}'(module, require) {{\n").as_bytes());
        bundle.extend_from_slice(content);
        bundle.extend_from_slice(b"},\n");
    }
    bundle.extend_from_slice(BUNDLE_END.as_bytes());
    bundle
}

const BUNDLE_END: &str = "};
const loaded = {};
function load(name) {
  if (!(name in modules)) return require(name);
  if (!(name in loaded)) {
    loaded[name] = { exports: {} };
    modules[name](loaded[name], load);
  }
  return loaded[name].exports;
}
load('./index.js');
";

// The bytecode carries the path that the source has inside the sandbox, for tracebacks. Unchecked hashes spare the
// interpreter the comparison with the source at every start.
const COMPILE: &str = r"
import os, py_compile, sys
root = sys.argv[1]
for folder, folders, files in os.walk(root):
    folders[:] = [name for name in folders if name not in ('sdk', '__pycache__')]
    for name in files:
        if name.endswith('.py'):
            path = os.path.join(folder, name)
            py_compile.compile(path, dfile='/var/runtime' + path[len(root):], doraise=True,
                               invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
print(sys.implementation.cache_tag)
";

/// Leaves bytecode next to the client's sources, so that a cold start does not compile them. Without it functions
/// only start more slowly, so a failure is logged and nothing else.
pub(super) fn compile_python(dir: &Path, interpreter: &Interpreter) {
    let done = dir
        .join("__pycache__")
        .join(format!(".compiled-{}", interpreter.version()));
    if done.exists() {
        return;
    }
    let output = Command::new(&interpreter.program)
        .args(["-I", "-S", "-c", COMPILE])
        .arg(dir)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            // The marker only spares the next start this work.
            let _ = fs::write(done, "");
        }
        Ok(output) => {
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            tracing::warn!(interpreter = %interpreter.program.display(), %stderr, "could not compile the Python client");
        }
        Err(err) => {
            tracing::warn!(interpreter = %interpreter.program.display(), %err, "could not compile the Python client");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_at_the_same_time_do_not_disturb_each_other() {
        let data = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            let unpacking: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| Client::Node.unpack(data.path())))
                .collect();
            for unpacked in unpacking {
                assert!(unpacked.join().unwrap().unwrap().join("index.js").is_file());
            }
        });
    }

    #[test]
    fn unpacking_twice_gives_the_same_complete_directory() {
        let data = tempfile::tempdir().unwrap();
        let java = (!JAR.is_empty()).then_some(Client::Java);
        for client in [Client::Python, Client::Node].into_iter().chain(java) {
            let first = client.unpack(data.path()).unwrap();
            assert_eq!(client.unpack(data.path()).unwrap(), first);
            for (name, content) in client
                .files()
                .iter()
                .filter(|(name, _)| *name != "index.js")
            {
                assert_eq!(fs::read(first.join(name)).unwrap(), *content);
            }
            if let Some(mount_point) = client.mount_point() {
                assert!(first.join(mount_point).is_dir());
            }
            let leftovers = fs::read_dir(first.parent().unwrap()).unwrap().count();
            assert_eq!(leftovers, 1);
        }
    }

    #[test]
    fn a_data_directory_that_cannot_be_written_is_named_in_the_error() {
        let data = tempfile::NamedTempFile::new().unwrap();
        let err = Client::Python.unpack(data.path()).unwrap_err();
        assert!(
            err.to_string().contains(&data.path().display().to_string()),
            "{err}"
        );
    }
}

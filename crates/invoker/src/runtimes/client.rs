//! firn's runtime clients, embedded in the binary and unpacked under the data directory as what `/var/runtime` shows.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};

use super::RuntimeError;
use super::probe::Interpreter;

#[derive(Debug, Clone, Copy)]
pub(super) enum Client {
    Python,
    Node,
}

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
    "snapshot_restore_py.py",
    "awslambdaric/__init__.py",
    "awslambdaric/lambda_context.py",
);
const NODE: &[(&str, &[u8])] = embed!("node":
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
    "resolve.mjs",
    "streaming.js",
);

impl Client {
    fn files(self) -> &'static [(&'static str, &'static [u8])] {
        match self {
            Self::Python => PYTHON,
            Self::Node => NODE,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Node => "node",
        }
    }

    /// Mount points for the SDK, which a read-only directory cannot grow later.
    fn mount_point(self) -> &'static str {
        match self {
            Self::Python => "sdk",
            Self::Node => "node_modules",
        }
    }

    /// The directory with the client's files: `<data_dir>/runtime/<hash of the content>/<name>`. Another process may
    /// unpack at the same time; whoever renames first wins and the content is the same.
    pub fn unpack(self, data_dir: &Path) -> Result<PathBuf, RuntimeError> {
        let versioned = data_dir.join("runtime").join(self.hash());
        let dir = versioned.join(self.name());
        if dir.is_dir() {
            return Ok(dir);
        }
        let unfinished = versioned.join(format!(".{}.{}", self.name(), std::process::id()));
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
        fs::create_dir_all(dir.join(self.mount_point()))?;
        for (name, content) in self.files() {
            let path = dir.join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, content)?;
        }
        match self {
            Self::Python => Ok(()),
            Self::Node => fs::write(dir.join("index.js"), bundle(self.files())),
        }
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
    fn unpacking_twice_gives_the_same_complete_directory() {
        let data = tempfile::tempdir().unwrap();
        for client in [Client::Python, Client::Node] {
            let first = client.unpack(data.path()).unwrap();
            assert_eq!(client.unpack(data.path()).unwrap(), first);
            for (name, content) in client
                .files()
                .iter()
                .filter(|(name, _)| *name != "index.js")
            {
                assert_eq!(fs::read(first.join(name)).unwrap(), *content);
            }
            assert!(first.join(client.mount_point()).is_dir());
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

//! Which interpreter runs a function: maps Lambda's `Runtime` values to interpreters found on this machine, and
//! lays out what must be visible under `/var/runtime` inside the sandbox.
//!
//! Owns the search for interpreters, the cache of what was found, firn's own runtime clients (embedded in the binary,
//! unpacked under the data directory) and `firn runtimes install`. It starts no function: [`Resolved`] says what to
//! run and what to mount, the invoker does it.
//!
//! Nothing is searched or run until a runtime is first resolved, so a server start costs nothing here.

mod candidates;
mod client;
mod install;
mod jvm;
mod name;
mod probe;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use candidates::Search;
pub use install::{InstallError, Progress, Target};
pub use name::{Family, Runtime};

use client::Client;
use probe::{Interpreter, Probes};

/// Where the clients are mounted inside the sandbox, `LAMBDA_RUNTIME_DIR`.
pub const RUNTIME_DIR: &str = "/var/runtime";
/// Where the function's package is mounted, `LAMBDA_TASK_ROOT`.
pub const TASK_ROOT: &str = "/var/task";

const LD_LIBRARY_PATH: &str = "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib";
const PATH: &str = "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin";

/// Where interpreters are looked for and where firn keeps its own files.
#[derive(Debug, Clone)]
pub struct RuntimesConfig {
    /// firn's runtime directory: `<dir>/python3.12/bin/python3.12`, `<dir>/nodejs22.x/bin/node`,
    /// `<dir>/java21/bin/java`, `<dir>/sdk/…`.
    /// Filled by `firn runtimes install` or by hand; searched first.
    pub dir: PathBuf,
    /// The server's data directory; the clients are unpacked to `<data_dir>/runtime`.
    pub data_dir: PathBuf,
    /// The places outside `dir` that are searched.
    pub search: Search,
}

impl RuntimesConfig {
    /// Searches what the environment of this process names (`PATH`, `HOME`, `PYENV_ROOT`, `NVM_DIR`, …).
    pub fn new(dir: impl Into<PathBuf>, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            data_dir: data_dir.into(),
            search: Search::from_env(),
        }
    }

    /// Where the AWS SDK of an interpreter belongs: Python's by minor version, because what pip picks depends on it.
    fn sdk_for(&self, family: Family, release: u32) -> Option<PathBuf> {
        let sdk = self.dir.join("sdk");
        match family {
            Family::Python => Some(sdk.join("python").join(format!("3.{release}"))),
            Family::Node => Some(sdk.join("node").join("node_modules")),
            _ => None,
        }
    }
}

/// The mapping from runtimes to interpreters. Cheap to clone.
#[derive(Clone)]
pub struct Runtimes {
    inner: Arc<Inner>,
}

struct Inner {
    config: RuntimesConfig,
    probes: Mutex<Probes>,
    // Only successes are kept: an interpreter that is installed while the server runs is found on the next try.
    resolved: Mutex<HashMap<Runtime, Resolved>>,
}

/// What to run for one runtime, and what it needs to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The program, as a path inside the sandbox.
    pub program: PathBuf,
    /// Its arguments, without those that the function has a say in ([`Resolved::command`]); for a managed runtime the
    /// last one is the client's entry point.
    pub args: Vec<String>,
    /// Read-only binds, host path to path inside, to be made in this order: later ones lie inside earlier ones (the
    /// mount points exist). A source may be a single file. The host's `/usr`, `/lib*`, `/bin` and `/etc/ld.so.cache`
    /// are expected to be there already.
    pub mounts: Vec<(PathBuf, PathBuf)>,
    /// Defaults that the function's own environment may override, except `AWS_EXECUTION_ENV` and `LAMBDA_RUNTIME_DIR`.
    pub env: Vec<(String, String)>,
    /// Whether the interpreter has exactly the wanted version (for Python the minor, else the major one).
    pub exact: bool,
    /// What to tell the user when it has not.
    pub warning: Option<String>,
    /// The value of `AWS_EXECUTION_ENV`; `None` for the `provided` family, which AWS leaves unset.
    pub execution_env: Option<String>,
    /// The interpreter's full version, `None` for the `provided` family.
    pub version: Option<String>,
    /// Whether functions see an AWS SDK that they do not package.
    pub has_sdk: bool,
    /// The runtime this answers.
    pub runtime: Runtime,
    /// Where a JVM finds classes prepared for a fast start, as a path inside. Differs from machine to machine, so it is
    /// only for [`Resolved::command_here`].
    pub archive: Option<String>,
}

/// Why a runtime cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("`{0}` is not a Lambda runtime")]
    Unknown(String),
    #[error(
        "runtime {runtime} is known, but firn cannot run {family} functions yet; package the function with a `bootstrap` for provided.al2023"
    )]
    Unsupported { runtime: String, family: Family },
    #[error(
        "runtime {runtime} is retired and firn has no client for it: choose a newer {family} runtime"
    )]
    Retired { runtime: String, family: Family },
    #[error("no interpreter for {runtime} on this machine: {remedy}")]
    NotInstalled { runtime: String, remedy: String },
    /// AWS's `Runtime.InvalidEntrypoint`.
    #[error("Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]")]
    NoBootstrap,
    #[error(
        "this firn was built without its client for Java; build it where a `javac` is installed"
    )]
    NotBuilt,
    #[error("unpack the runtime client to {}", path.display())]
    Unpack {
        path: PathBuf,
        source: std::io::Error,
    },
}

impl RuntimeError {
    /// The `errorType` Lambda reports for an invocation that fails this way.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::NoBootstrap | Self::NotInstalled { .. } | Self::NotBuilt => {
                "Runtime.InvalidEntrypoint"
            }
            Self::Unknown(_) | Self::Unsupported { .. } | Self::Retired { .. } => "InvalidRuntime",
            Self::Unpack { .. } => "Runtime.Unknown",
        }
    }
}

/// One line of `firn runtimes`.
#[derive(Debug, Clone)]
pub struct Row {
    pub runtime: Runtime,
    pub resolved: Result<Resolved, String>,
}

impl Runtimes {
    /// Prepares the mapping. Touches neither disk nor interpreters.
    pub fn discover(config: RuntimesConfig) -> Self {
        let probes = Mutex::new(Probes::at(
            config.data_dir.join("runtime").join("interpreters.json"),
        ));
        Self {
            inner: Arc::new(Inner {
                config,
                probes,
                resolved: Mutex::default(),
            }),
        }
    }

    /// The interpreter and mounts for a `Runtime` value. The first call for a runtime may run interpreters to ask
    /// their version (about 20 ms each, remembered on disk) and compile the client's bytecode, or have a JVM archive its
    /// classes, which takes it a second: call it where blocking
    /// is allowed. For the `provided` family the program is `/var/task/bootstrap`; see [`Runtimes::resolve_function`].
    pub fn resolve(&self, runtime: &str) -> Result<Resolved, RuntimeError> {
        let runtime = Runtime::parse(runtime)?;
        if let Some(found) = self.memo().get(&runtime) {
            return Ok(found.clone());
        }
        let resolved = self.inner.resolve(&runtime)?;
        if let Some(warning) = &resolved.warning {
            tracing::warn!(%runtime, "{warning}");
        }
        self.memo().insert(runtime, resolved.clone());
        Ok(resolved)
    }

    /// As [`Runtimes::resolve`], for one function: a `provided` runtime runs the package's `bootstrap`, else the one
    /// of the topmost layer that has it.
    pub fn resolve_function(
        &self,
        runtime: &str,
        code_dir: &Path,
        layer_dirs: &[PathBuf],
    ) -> Result<Resolved, RuntimeError> {
        let mut resolved = self.resolve(runtime)?;
        if resolved.runtime.family() == Family::Provided {
            resolved.program = bootstrap(code_dir, layer_dirs).ok_or(RuntimeError::NoBootstrap)?;
        }
        Ok(resolved)
    }

    /// Every runtime that firn knows to run, with what it maps to. Probes all of them.
    pub fn table(&self) -> Vec<Row> {
        Runtime::supported()
            .map(|runtime| Row {
                resolved: self
                    .resolve(runtime.as_str())
                    .map_err(|err| err.to_string()),
                runtime,
            })
            .collect()
    }

    /// The configuration this was made from.
    pub fn config(&self) -> &RuntimesConfig {
        &self.inner.config
    }

    /// Forgets what was resolved, so that a newly installed interpreter or SDK is seen.
    pub fn refresh(&self) {
        self.memo().clear();
    }

    fn memo(&self) -> std::sync::MutexGuard<'_, HashMap<Runtime, Resolved>> {
        self.inner
            .resolved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolved {
    /// The command line for a function with this memory and these environment variables: adds the flags that AWS's own
    /// bootstrap gives Node and Java, and puts `AWS_LAMBDA_EXEC_WRAPPER` in front. It depends on nothing that differs
    /// between servers with the same interpreter.
    pub fn command(
        &self,
        memory_mb: u32,
        environment: &BTreeMap<String, String>,
    ) -> (PathBuf, Vec<String>) {
        self.wrapped(self.flags(memory_mb, environment), environment)
    }

    /// As [`Resolved::command`], for a process that will not become a snapshot: it may also use what was prepared on
    /// this machine to start faster.
    pub fn command_here(
        &self,
        memory_mb: u32,
        environment: &BTreeMap<String, String>,
    ) -> (PathBuf, Vec<String>) {
        let mut flags = self.flags(memory_mb, environment);
        if let Some(archive) = &self.archive {
            flags.extend(jvm::archive_flags(archive, &jvm::own_options(environment)));
        }
        self.wrapped(flags, environment)
    }

    fn flags(&self, memory_mb: u32, environment: &BTreeMap<String, String>) -> Vec<String> {
        match self.runtime.family() {
            Family::Node => {
                let options = environment
                    .get("NODE_OPTIONS")
                    .map(String::as_str)
                    .unwrap_or_default();
                let flags = self.node_module_flags(options);
                let flags = flags.chain(node_heap_flags(memory_mb, options));
                flags.chain([NO_MEMORY_REDUCER.to_owned()]).collect()
            }
            Family::Java => {
                let release = self
                    .interpreter_version()
                    .map_or(jvm::OLDEST, |(major, _)| major);
                jvm::flags(release, memory_mb, &jvm::own_options(environment))
            }
            _ => Vec::new(),
        }
    }

    fn wrapped(
        &self,
        mut args: Vec<String>,
        environment: &BTreeMap<String, String>,
    ) -> (PathBuf, Vec<String>) {
        args.extend(self.args.iter().cloned());
        match environment
            .get("AWS_LAMBDA_EXEC_WRAPPER")
            .filter(|wrapper| !wrapper.is_empty())
        {
            Some(wrapper) if self.runtime.family() != Family::Provided => {
                args.insert(0, self.program.to_string_lossy().into_owned());
                (PathBuf::from(wrapper), args)
            }
            _ => (self.program.clone(), args),
        }
    }

    /// Features that newer Nodes have by default and Lambda's runtimes do not, unless NODE_OPTIONS asks for them.
    /// <https://docs.aws.amazon.com/lambda/latest/dg/lambda-nodejs.html>
    fn node_module_flags(&self, node_options: &str) -> impl Iterator<Item = String> {
        // Node that does not know a flag does not start.
        let known = self
            .interpreter_version()
            .is_some_and(|version| version >= (20, 17));
        let runtime = self.runtime.version();
        [
            ("require-module", runtime <= 22),
            ("detect-module", runtime <= 22 && runtime != 20),
        ]
        .into_iter()
        .filter(move |(_, off)| *off && known)
        .filter(|(name, _)| !node_options.contains(&format!("--experimental-{name}")))
        .map(|(name, _)| format!("--no-experimental-{name}"))
    }

    fn interpreter_version(&self) -> Option<(u32, u32)> {
        let mut numbers = self.version.as_deref()?.split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
}

impl Inner {
    fn resolve(&self, runtime: &Runtime) -> Result<Resolved, RuntimeError> {
        match runtime.family() {
            family @ (Family::Python | Family::Node | Family::Java) if runtime.version() == 0 => {
                Err(RuntimeError::Retired {
                    runtime: runtime.to_string(),
                    family,
                })
            }
            Family::Python => self.resolve_python(runtime),
            Family::Node => self.resolve_node(runtime),
            Family::Java => self.resolve_java(runtime),
            Family::Provided => Ok(provided(runtime)),
            family => Err(RuntimeError::Unsupported {
                runtime: runtime.to_string(),
                family,
            }),
        }
    }

    fn resolve_python(&self, runtime: &Runtime) -> Result<Resolved, RuntimeError> {
        let interpreter = self.find(runtime)?;
        let client = Client::Python.unpack(&self.config.data_dir)?;
        client::compile_python(&client, &interpreter);
        // -S: packages installed for the machine's own use must not leak into functions; the client does the part of
        // `site` that functions rely on. -B: /var/task and /opt are read-only, so every attempt to write bytecode
        // would fail, at the cost of a few system calls per module.
        let args = ["-S", "-B", "/var/runtime/bootstrap.py"];
        Ok(self.managed(runtime, &interpreter, client, &args, Vec::new()))
    }

    fn resolve_node(&self, runtime: &Runtime) -> Result<Resolved, RuntimeError> {
        let interpreter = self.find(runtime)?;
        let client = Client::Node.unpack(&self.config.data_dir)?;
        let major = runtime.version();
        let node_path = format!(
            "/opt/nodejs/node{major}/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime:/var/task"
        );
        let env = vec![("NODE_PATH".to_owned(), node_path)];
        Ok(self.managed(
            runtime,
            &interpreter,
            client,
            &["/var/runtime/index.js"],
            env,
        ))
    }

    fn resolve_java(&self, runtime: &Runtime) -> Result<Resolved, RuntimeError> {
        let interpreter = self.find(runtime)?;
        let client = Client::Java.unpack(&self.config.data_dir)?;
        let archive = jvm::archive(&client, &interpreter);
        let jar = format!("{RUNTIME_DIR}/{}", client::JAVA_JAR);
        // -jar, because the packages that the client opens by its manifest would otherwise be flags, and with any of
        // those the JVM does not use its prepared module graph.
        let resolved = self.managed(runtime, &interpreter, client, &["-jar", &jar], Vec::new());
        Ok(Resolved {
            archive,
            ..resolved
        })
    }

    fn managed(
        &self,
        runtime: &Runtime,
        interpreter: &Interpreter,
        client: PathBuf,
        args: &[&str],
        extra_env: Vec<(String, String)>,
    ) -> Resolved {
        let execution_env = format!("AWS_Lambda_{runtime}");
        let mut mounts = interpreter.mounts();
        mounts.push((client, RUNTIME_DIR.into()));
        mounts.extend(self.sdk_mounts(runtime.family(), interpreter.release()));
        let mut env = base_env(interpreter.bin_dir());
        env.push(("AWS_EXECUTION_ENV".into(), execution_env.clone()));
        env.extend(extra_env);
        let exact = interpreter.satisfies(runtime);
        Resolved {
            program: interpreter.program.clone(),
            args: args.iter().map(ToString::to_string).collect(),
            mounts,
            env,
            exact,
            warning: (!exact).then(|| {
                format!(
                    "no {} on this machine: {runtime} functions run on {} {} ({}); `firn runtimes` shows the mapping",
                    runtime.interpreter_name(),
                    runtime.family(),
                    interpreter.version(),
                    interpreter.program.display()
                )
            }),
            execution_env: Some(execution_env),
            version: Some(interpreter.version()),
            has_sdk: self.config.sdk_for(runtime.family(), interpreter.release()).is_some_and(|dir| dir.is_dir()),
            runtime: runtime.clone(),
            archive: None,
        }
    }

    /// The wanted version if it is there, else the lowest above it, else the highest below it: interpreters run older
    /// code far more often than newer code.
    fn find(&self, runtime: &Runtime) -> Result<Interpreter, RuntimeError> {
        let candidates = candidates::of(runtime.family(), &self.config);
        let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = runtime.version();
        // The name of most candidates tells their version, so that an exact match probes one interpreter only.
        let (claiming, others): (Vec<_>, Vec<_>) = candidates
            .into_iter()
            .partition(|candidate| candidate.claims == Some(wanted));
        let mut found = Vec::new();
        for candidate in claiming.into_iter().chain(others) {
            let Some(interpreter) = probes.get(runtime.family(), &candidate.path) else {
                continue;
            };
            if interpreter.satisfies(runtime) {
                probes.save();
                return Ok(interpreter);
            }
            found.push(interpreter);
        }
        probes.save();
        let above = found
            .iter()
            .filter(|i| i.release() > wanted)
            .min_by_key(|i| i.release());
        let below = found.iter().max_by_key(|i| i.release());
        above
            .or(below)
            .cloned()
            .ok_or_else(|| RuntimeError::NotInstalled {
                runtime: runtime.to_string(),
                remedy: install::remedy(runtime),
            })
    }

    fn sdk_mounts(&self, family: Family, release: u32) -> Vec<(PathBuf, PathBuf)> {
        let inside: &[&str] = match family {
            Family::Python => &["/var/runtime/sdk"],
            // ES modules ignore NODE_PATH (AWS runs a patched Node), but their search climbs to the root.
            Family::Node => &["/var/runtime/node_modules", "/node_modules"],
            _ => &[],
        };
        let host = self
            .config
            .sdk_for(family, release)
            .filter(|dir| dir.is_dir());
        host.into_iter()
            .flat_map(|host| {
                inside
                    .iter()
                    .map(move |inside| (host.clone(), inside.into()))
            })
            .collect()
    }
}

fn provided(runtime: &Runtime) -> Resolved {
    Resolved {
        program: Path::new(TASK_ROOT).join("bootstrap"),
        args: Vec::new(),
        mounts: Vec::new(),
        env: base_env(None),
        exact: true,
        warning: None,
        execution_env: None,
        version: None,
        has_sdk: false,
        runtime: runtime.clone(),
        archive: None,
    }
}

fn base_env(bin_dir: Option<&Path>) -> Vec<(String, String)> {
    let path = match bin_dir {
        Some(dir) => format!("{}:{PATH}", dir.display()),
        None => PATH.to_owned(),
    };
    [
        ("LAMBDA_RUNTIME_DIR", RUNTIME_DIR.to_owned()),
        ("LAMBDA_TASK_ROOT", TASK_ROOT.to_owned()),
        ("LANG", "en_US.UTF-8".to_owned()),
        ("LD_LIBRARY_PATH", LD_LIBRARY_PATH.to_owned()),
        ("PATH", path),
        ("SHLVL", "0".to_owned()),
        ("TZ", ":UTC".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// Later layers cover earlier ones under /opt, so the last one that has a bootstrap counts.
fn bootstrap(code_dir: &Path, layer_dirs: &[PathBuf]) -> Option<PathBuf> {
    if code_dir.join("bootstrap").is_file() {
        return Some(Path::new(TASK_ROOT).join("bootstrap"));
    }
    let in_layer = layer_dirs
        .iter()
        .any(|layer| layer.join("bootstrap").is_file());
    in_layer.then(|| PathBuf::from("/opt/bootstrap"))
}

/// V8 collects all garbage eight seconds after it has last been busy. Environments are frozen then, so that it does so when
/// they are woken: in the midst of their next event, or of the first of one that was thawed or parked, whose memory it
/// then no longer shares with others.
const NO_MEMORY_REDUCER: &str = "--no-memory-reducer";

/// AWS's bootstrap gives a tenth of the memory to the young generation and the rest to the old one, unless
/// NODE_OPTIONS sets either. <https://docs.aws.amazon.com/lambda/latest/dg/lambda-nodejs.html>
fn node_heap_flags(memory_mb: u32, node_options: &str) -> Vec<String> {
    let options = node_options.replace('_', "-");
    if options.contains("--max-semi-space-size") || options.contains("--max-old-space-size") {
        return Vec::new();
    }
    let new_space = memory_mb / 10;
    vec![
        format!("--max-semi-space-size={}", (new_space / 2).max(1)),
        format!("--max-old-space-size={}", memory_mb - new_space),
    ]
}

#[cfg(test)]
mod tests;

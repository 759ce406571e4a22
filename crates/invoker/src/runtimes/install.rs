//! `firn runtimes install`: the AWS SDKs that functions may use without packaging them, and Node interpreters. Runs the
//! machine's own pip and npm, so their configuration decides where packages come from. Never part of an invocation.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use super::candidates;
use super::jvm;
use super::name::{Family, Runtime};
use super::probe::Interpreter;
use super::{Runtimes, RuntimesConfig};

/// One thing that can be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// boto3 for one minor version of Python 3.
    PythonSdk { minor: u32 },
    /// The `@aws-sdk/*` clients.
    NodeSdk,
    /// A Node interpreter of one major version.
    Node { major: u32 },
}

/// What an installation tells while it goes on.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// The next of `of` steps begins.
    Step {
        number: usize,
        of: usize,
        what: &'a str,
    },
    /// A line that the package manager printed.
    Output(&'a str),
}

/// Why nothing was installed; what was there before is still there.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error(
        "`{0}` cannot be installed: use `python`, `node`, `all`, or a runtime such as `python3.12` or `nodejs22.x`"
    )]
    Unknown(String),
    #[error("no interpreter for {0} on this machine: {1}")]
    NoInterpreter(String, String),
    #[error("nothing to install for Java: functions package the SDK they use. To get a JVM, {0}")]
    Java(String),
    #[error("{tool} is needed and was not found: {remedy}")]
    NoTool {
        tool: &'static str,
        remedy: &'static str,
    },
    #[error("{what} failed:\n{output}")]
    Failed { what: String, output: String },
    #[error("{action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

const BOTO3: &[&str] = &["boto3"];
const AWS_SDK: &[&str] = &[
    "@aws-sdk/client-api-gateway",
    "@aws-sdk/client-apigatewaymanagementapi",
    "@aws-sdk/client-athena",
    "@aws-sdk/client-bedrock-agent-runtime",
    "@aws-sdk/client-bedrock-runtime",
    "@aws-sdk/client-cloudformation",
    "@aws-sdk/client-cloudwatch",
    "@aws-sdk/client-cloudwatch-logs",
    "@aws-sdk/client-cognito-identity-provider",
    "@aws-sdk/client-comprehend",
    "@aws-sdk/client-dynamodb",
    "@aws-sdk/client-dynamodb-streams",
    "@aws-sdk/client-ecs",
    "@aws-sdk/client-eventbridge",
    "@aws-sdk/client-firehose",
    "@aws-sdk/client-iam",
    "@aws-sdk/client-kinesis",
    "@aws-sdk/client-kms",
    "@aws-sdk/client-lambda",
    "@aws-sdk/client-rds-data",
    "@aws-sdk/client-rekognition",
    "@aws-sdk/client-s3",
    "@aws-sdk/client-scheduler",
    "@aws-sdk/client-secrets-manager",
    "@aws-sdk/client-ses",
    "@aws-sdk/client-sesv2",
    "@aws-sdk/client-sfn",
    "@aws-sdk/client-sns",
    "@aws-sdk/client-sqs",
    "@aws-sdk/client-ssm",
    "@aws-sdk/client-sts",
    "@aws-sdk/client-translate",
    "@aws-sdk/credential-providers",
    "@aws-sdk/lib-dynamodb",
    "@aws-sdk/lib-storage",
    "@aws-sdk/s3-request-presigner",
    "@aws-sdk/util-dynamodb",
];
const NPM: &str = if cfg!(windows) { "npm.cmd" } else { "npm" };
const NPM_FLAGS: [&str; 6] = [
    "install",
    "--no-audit",
    "--no-fund",
    "--ignore-scripts",
    "--omit=dev",
    "--loglevel=http",
];
const NEEDS_NPM: InstallError = InstallError::NoTool {
    tool: "npm",
    remedy: "install Node.js with npm, for example the packages `nodejs` and `npm`",
};
const MAX_ERROR_LINES: usize = 30;

impl Runtimes {
    /// What the words after `firn runtimes install` mean. `python` and `all` cover every Python that is here.
    pub fn targets(&self, words: &[String]) -> Result<Vec<Target>, InstallError> {
        let mut targets = Vec::new();
        for word in words {
            let more = match word.as_str() {
                "python" => self.python_sdks(),
                "node" | "nodejs" => vec![Target::NodeSdk],
                "all" => self
                    .python_sdks()
                    .into_iter()
                    .chain([Target::NodeSdk])
                    .collect(),
                "java" => return Err(InstallError::Java(java_remedy("java21", "17 or newer"))),
                name => vec![self.target(name)?],
            };
            targets.extend(
                more.into_iter()
                    .filter(|target| !targets.contains(target))
                    .collect::<Vec<_>>(),
            );
        }
        Ok(targets)
    }

    fn python_sdks(&self) -> Vec<Target> {
        let here = |runtime: &Runtime| {
            self.resolve(runtime.as_str())
                .is_ok_and(|resolved| resolved.exact)
        };
        Runtime::supported()
            .filter(|runtime| runtime.family() == Family::Python && here(runtime))
            .map(|runtime| Target::PythonSdk {
                minor: runtime.version(),
            })
            .collect()
    }

    fn target(&self, name: &str) -> Result<Target, InstallError> {
        let unknown = || InstallError::Unknown(name.to_owned());
        let runtime = Runtime::parse(name).map_err(|_| unknown())?;
        match (runtime.family(), runtime.version()) {
            (Family::Node, major) if major > 0 => Ok(Target::Node { major }),
            // firn cannot install a Python, only what belongs to one that is here.
            (Family::Python, minor) if minor > 0 => match self.resolve(name) {
                Ok(resolved) if resolved.exact => Ok(Target::PythonSdk { minor }),
                _ => Err(InstallError::NoInterpreter(
                    name.to_owned(),
                    remedy(&runtime),
                )),
            },
            (Family::Java, major) if major > 0 => Err(InstallError::Java(remedy(&runtime))),
            _ => Err(unknown()),
        }
    }

    /// Installs one thing into the runtime directory; replaces what was there at once, at the end. Blocks for as long
    /// as the package manager takes.
    pub fn install(
        &self,
        target: &Target,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<PathBuf, InstallError> {
        let installed = match target {
            Target::PythonSdk { minor } => self.install_python_sdk(*minor, progress),
            Target::NodeSdk => install_node_sdk(self.config(), progress),
            Target::Node { major } => install_node(self.config(), *major, progress),
        };
        self.refresh();
        installed
    }

    fn install_python_sdk(
        &self,
        minor: u32,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<PathBuf, InstallError> {
        let runtime = format!("python3.{minor}");
        let interpreter = Runtime::parse(&runtime)
            .and_then(|runtime| self.inner.find(&runtime))
            .map_err(|err| InstallError::NoInterpreter(runtime, err.to_string()))?;
        let pip = pip(self.config(), &interpreter)?;
        let staging = Staging::new(&self.config().dir)?;

        progress(Progress::Step {
            number: 1,
            of: 2,
            what: "fetch boto3",
        });
        let mut command = Command::new(pip);
        command.args([
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--no-input",
            "--no-compile",
        ]);
        command.args([
            "--progress-bar=off",
            "--only-binary=:all:",
            "--python-version",
            &format!("3.{minor}"),
        ]);
        command.arg("--target").arg(staging.path()).args(BOTO3);
        run("pip install", command, progress)?;

        progress(Progress::Step {
            number: 2,
            of: 2,
            what: "compile boto3",
        });
        let mut command = Command::new(&interpreter.program);
        command.args([
            "-I",
            "-m",
            "compileall",
            "-q",
            "--invalidation-mode",
            "unchecked-hash",
            "-j",
            "0",
        ]);
        command
            .arg("-d")
            .arg("/var/runtime/sdk")
            .arg(staging.path());
        run("compileall", command, progress)?;

        staging.publish(
            &self
                .config()
                .dir
                .join("sdk/python")
                .join(format!("3.{minor}")),
        )
    }
}

fn install_node_sdk(
    config: &RuntimesConfig,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, InstallError> {
    let staging = Staging::new(&config.dir)?;
    progress(Progress::Step {
        number: 1,
        of: 1,
        what: "fetch the @aws-sdk clients",
    });
    npm(&staging, AWS_SDK, progress)?;
    Ok(staging
        .publish(&config.dir.join("sdk/node"))?
        .join("node_modules"))
}

fn install_node(
    config: &RuntimesConfig,
    major: u32,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, InstallError> {
    let arch = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "x64"
    };
    let package = format!("node-linux-{arch}");
    let staging = Staging::new(&config.dir)?;
    let what = format!("fetch Node.js {major}");
    progress(Progress::Step {
        number: 1,
        of: 1,
        what: &what,
    });
    npm(&staging, &[&format!("{package}@{major}")], progress)?;
    let inner = Staging {
        dir: staging.path().join("node_modules").join(package),
    };
    inner.publish(&config.dir.join(format!("nodejs{major}.x")))
}

fn npm(
    staging: &Staging,
    packages: &[&str],
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), InstallError> {
    let mut command = Command::new(NPM);
    command
        .args(NPM_FLAGS)
        .arg("--prefix")
        .arg(staging.path())
        .args(packages);
    match run("npm install", command, progress) {
        Err(InstallError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Err(NEEDS_NPM)
        }
        result => result,
    }
}

/// A Python with pip: its own, or any other, since pip can install for another version.
fn pip(config: &RuntimesConfig, interpreter: &Interpreter) -> Result<PathBuf, InstallError> {
    let others = candidates::of(Family::Python, config)
        .into_iter()
        .map(|candidate| candidate.path);
    let has_pip = |program: &PathBuf| {
        let mut command = Command::new(program);
        command
            .args(["-m", "pip", "--version"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    [interpreter.program.clone()]
        .into_iter()
        .chain(others)
        .find(has_pip)
        .ok_or(InstallError::NoTool {
            tool: "pip",
            remedy: "install it for one of the Pythons here, for example the package `python3-pip`",
        })
}

/// How to get an interpreter that is missing.
pub(super) fn remedy(runtime: &Runtime) -> String {
    match runtime.family() {
        Family::Node => format!(
            "run `firn runtimes install {runtime}`, or put one at {runtime}/bin/node in the runtime directory"
        ),
        Family::Java => java_remedy(
            runtime.as_str(),
            &runtime.version().max(jvm::OLDEST).to_string(),
        ),
        _ => format!(
            "install {} with the system's packages, pyenv or uv, or put one at {runtime}/bin/python3 in the runtime directory",
            runtime.interpreter_name()
        ),
    }
}

fn java_remedy(runtime: &str, version: &str) -> String {
    format!(
        "install a JRE or JDK {version} with the system's packages (as openjdk-17-jre-headless) or sdkman, or put one at {runtime}/bin/java in the runtime directory"
    )
}

/// A directory that becomes something else by renaming, or goes away.
struct Staging {
    dir: PathBuf,
}

impl Staging {
    fn new(root: &Path) -> Result<Self, InstallError> {
        let dir = root.join(format!(".installing-{}", std::process::id()));
        let io_error = |source| InstallError::Io {
            action: "create",
            path: dir.clone(),
            source,
        };
        match fs::remove_dir_all(&dir) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(io_error(err)),
            _ => {}
        }
        fs::create_dir_all(&dir).map_err(io_error)?;
        Ok(Self { dir })
    }

    fn path(&self) -> &Path {
        &self.dir
    }

    /// Moves the directory to `target`. Sandboxes that have the old one mounted keep it until they end.
    fn publish(&self, target: &Path) -> Result<PathBuf, InstallError> {
        let old = target.with_extension(format!("old-{}", std::process::id()));
        let moved = target
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| {
                match fs::rename(target, &old) {
                    Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
                    _ => {}
                }
                fs::rename(&self.dir, target)
            });
        // Nothing refers to the old one any more; what cannot be removed only takes space.
        let _ = fs::remove_dir_all(&old);
        moved.map_err(|source| InstallError::Io {
            action: "install to",
            path: target.to_owned(),
            source,
        })?;
        Ok(target.to_owned())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Gone already if it was published.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Runs a package manager and passes on what it prints.
fn run(
    what: &str,
    mut command: Command,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), InstallError> {
    let program = PathBuf::from(command.get_program());
    let io_error = |source| InstallError::Io {
        action: "run",
        path: program.clone(),
        source,
    };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(io_error)?;
    let (sender, lines) = std::sync::mpsc::channel();
    let streams: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|s| Box::new(s) as _),
        child.stderr.take().map(|s| Box::new(s) as _),
    ];
    let readers: Vec<_> = streams
        .into_iter()
        .flatten()
        .map(|stream| {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            })
        })
        .collect();
    drop(sender);
    let mut last = std::collections::VecDeque::new();
    for line in lines {
        progress(Progress::Output(&line));
        if last.len() == MAX_ERROR_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    for reader in readers {
        // A reader that panicked has lost output, not the result.
        let _ = reader.join();
    }
    let status = child.wait().map_err(io_error)?;
    if status.success() {
        return Ok(());
    }
    Err(InstallError::Failed {
        what: what.to_owned(),
        output: Vec::from(last).join("\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_package_manager_leaves_what_was_there() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("sdk");
        fs::create_dir(&target).unwrap();
        let staging = Staging::new(root.path()).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo fetching; echo no route >&2; exit 3"]);
        let mut printed = Vec::new();
        let err = run("pip install", command, &mut |progress| {
            if let Progress::Output(line) = progress {
                printed.push(line.to_owned());
            }
        })
        .unwrap_err();
        drop(staging);
        assert!(err.to_string().contains("no route"), "{err}");
        assert!(printed.contains(&"fetching".to_owned()));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn publishing_replaces_the_old_directory() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("sdk/python/3.12");
        for content in ["old", "new"] {
            let staging = Staging::new(root.path()).unwrap();
            fs::write(staging.path().join("file"), content).unwrap();
            assert_eq!(staging.publish(&target).unwrap(), target);
        }
        assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "new");
        assert_eq!(
            fs::read_dir(root.path().join("sdk/python"))
                .unwrap()
                .count(),
            1
        );
    }
}

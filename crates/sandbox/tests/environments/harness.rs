//! A very small test runner, and what the tests share.

use std::future::Future;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, Instant};

use sandbox::{Command, Config, Exit, Mount, Process, Sandbox, Sandboxes, Spec};

pub type Outcome = anyhow::Result<()>;
pub type Run = fn() -> Pin<Box<dyn Future<Output = Outcome>>>;
pub type Tests = &'static [(&'static str, Run)];

/// Lists test functions of a module with their names.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub const TESTS: $crate::harness::Tests =
            &[$((concat!(module_path!(), "::", stringify!($name)), || Box::pin($name()))),*];
    };
}

/// Longest that one test may take; a hang is a failure.
const LIMIT: Duration = Duration::from_secs(60);

pub fn run(groups: &[Tests]) {
    let filters: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let exact = std::env::args().any(|arg| arg == "--exact");
    let selected = |name: &str| {
        filters.is_empty()
            || filters.iter().any(|f| {
                if exact {
                    name == f
                } else {
                    name.contains(f.as_str())
                }
            })
    };
    let tests: Vec<_> = groups.iter().flat_map(|group| group.iter()).collect();
    if std::env::args().any(|arg| arg == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    let prefix = if rootless() { "rootless: " } else { "" };
    let started = Instant::now();
    println!(
        "\nrunning {} tests",
        tests.iter().filter(|(name, _)| selected(name)).count()
    );
    let (mut passed, mut failed, mut ignored) = (0, Vec::new(), 0);
    for (name, test) in &tests {
        if !selected(name) {
            ignored += 1;
            continue;
        }
        match attempt(*test) {
            Ok(()) => {
                passed += 1;
                println!("test {prefix}{name} ... ok");
            }
            Err(reason) => {
                println!(
                    "test {prefix}{name} ... FAILED\n    {}",
                    reason.replace('\n', "\n    ")
                );
                failed.push(*name);
            }
        }
    }
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {} failed; 0 ignored; 0 measured; {ignored} \
         filtered out; finished in {:.2}s\n",
        failed.len(),
        started.elapsed().as_secs_f64(),
    );
    let mut success = failed.is_empty();
    if !rootless()
        && !run_rootless().unwrap_or_else(|err| {
            println!("test rootless ... FAILED\n    {err:#}");
            false
        })
    {
        success = false;
    }
    let _ = std::fs::remove_dir(config().state_dir);
    std::process::exit(i32::from(!success));
}

/// Runs this program again as `nobody`, from a directory that `nobody` can reach.
fn run_rootless() -> anyhow::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let dir = tempfile::tempdir()?;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777))?;
    let program = dir.path().join("environments");
    std::fs::copy(std::env::current_exe()?, &program)?;
    let status = std::process::Command::new(program)
        .args(std::env::args_os().skip(1))
        .env("TMPDIR", dir.path())
        .uid(65534)
        .gid(65534)
        .current_dir(dir.path())
        .status()?;
    Ok(status.success())
}

/// Says on the terminal that a test could not do its work here.
pub fn skip(reason: &str) -> Outcome {
    println!("    SKIPPED: {reason}");
    Ok(())
}

fn attempt(test: Run) -> Result<(), String> {
    let result = catch_unwind(AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        runtime.block_on(async {
            tokio::time::timeout(LIMIT, test())
                .await
                .unwrap_or_else(|_| anyhow::bail!("timed out"))
        })
    }));
    match result {
        Ok(Ok(())) => Ok(()),
        Ok(Err(err)) => Err(format!("{err:#}")),
        Err(panic) => Err(panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "panicked".into())),
    }
}

/// Where a server started by a test keeps its notes.
pub const STATE_DIR: &str = "FIRN_TEST_STATE_DIR";

/// Settings that work for the user running the tests.
pub fn config() -> Config {
    let mut config = Config {
        pool_size: 1,
        ..Config::default()
    };
    // A server started by a test shares the notes of the test.
    config.state_dir = std::env::var_os(STATE_DIR).map_or_else(
        || std::env::temp_dir().join(format!("firn-sandbox-{}", std::process::id())),
        PathBuf::from,
    );
    // For a run on a host without user namespaces, by hand.
    config.allow.no_userns = std::env::var_os("FIRN_TEST_NO_USERNS").is_some();
    if rootless() {
        config.allow.no_cgroup = true;
        config.allow.no_freezer = true;
    }
    config
}

pub fn rootless() -> bool {
    !rustix::process::geteuid().is_root()
}

pub async fn enter(sandboxes: &Sandboxes, spec: Spec) -> anyhow::Result<Sandbox> {
    Ok(sandboxes.take().await?.enter(spec).await?)
}

pub struct Output {
    pub exit: Exit,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end.
pub async fn output(sandbox: &Sandbox, command: Command) -> anyhow::Result<Output> {
    let mut process = sandbox.spawn(command).await?;
    let stdout = read(process.stdout());
    let stderr = read(process.stderr());
    let exit = process.wait().await;
    Ok(Output {
        exit,
        stdout: stdout.await?,
        stderr: stderr.await?,
    })
}

pub fn read(fd: Option<OwnedFd>) -> tokio::task::JoinHandle<String> {
    tokio::task::spawn_blocking(move || {
        let Some(fd) = fd else { return String::new() };
        let _ = rustix::io::ioctl_fionbio(&fd, false);
        let mut text = Vec::new();
        let _ = std::fs::File::from(fd).read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    })
}

pub fn shell(script: impl Into<String>) -> Command {
    Command::new("/bin/sh")
        .arg("-c")
        .arg(script)
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
}

pub async fn sh(sandbox: &Sandbox, script: &str) -> anyhow::Result<Output> {
    output(sandbox, shell(script)).await
}

pub fn python(script: &str) -> Command {
    Command::new("/usr/bin/python3")
        .arg("-I")
        .arg("-c")
        .arg(script)
}

/// Runs Python and returns what it printed; anything but a clean exit is an error.
pub async fn py(sandbox: &Sandbox, script: &str) -> anyhow::Result<String> {
    let output = output(sandbox, python(script)).await?;
    anyhow::ensure!(
        output.exit == Exit::Code(0),
        "{:?}: {}",
        output.exit,
        output.stderr
    );
    Ok(output.stdout.trim().to_owned())
}

/// A directory that can be mounted inside: everybody may read it.
pub fn code(files: &[(&str, &str)]) -> anyhow::Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir()?;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))?;
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(dir)
}

pub fn mount(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Mount {
    Mount {
        source: source.into(),
        target: target.into(),
    }
}

/// Waits until something becomes true.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) -> Outcome {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        anyhow::ensure!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

pub async fn wait_for_line(process: &mut Process) -> anyhow::Result<String> {
    use tokio::io::AsyncReadExt;
    let fd = process
        .stdout()
        .ok_or_else(|| anyhow::anyhow!("stdout was taken"))?;
    let mut pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(fd)?;
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let byte = pipe.read_u8().await?;
        line.push(byte);
    }
    // Kept open, or the writer would be killed by its next word.
    std::mem::forget(pipe);
    Ok(String::from_utf8_lossy(&line).trim().to_owned())
}

//! A very small test runner, and what the tests share.

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chunks::Chunks;
use clock::Clock;
use invoker::{
    Config, Credentials, EnvironmentState, Function, Hooks, Invocation, Invoker, LogFormat,
    Outcome, Runtimes, RuntimesConfig,
};
use sandbox::{Relaxations, Sandboxes};
use tempfile::TempDir;

pub type Verdict = anyhow::Result<()>;
pub type Run = fn() -> Pin<Box<dyn Future<Output = Verdict>>>;
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
const LIMIT: Duration = Duration::from_secs(90);

pub fn run(groups: &[Tests]) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let flag = |name: &str| arguments.iter().any(|argument| argument == name);
    let filters: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let selected = |name: &str| {
        filters.is_empty()
            || filters.iter().any(|f| {
                if flag("--exact") {
                    name == *f
                } else {
                    name.contains(f.as_str())
                }
            })
    };
    let tests: Vec<_> = groups.iter().flat_map(|group| group.iter()).collect();
    if flag("--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    let (chosen, others): (Vec<_>, Vec<_>) =
        tests.into_iter().partition(|(name, _)| selected(name));
    let started = Instant::now();
    println!("\nrunning {} tests", chosen.len());
    let mut failed = 0;
    for (name, test) in &chosen {
        match attempt(*test) {
            Ok(()) => println!("test {name} ... ok"),
            Err(reason) => {
                failed += 1;
                println!(
                    "test {name} ... FAILED\n    {}",
                    reason.replace('\n', "\n    ")
                );
            }
        }
    }
    println!(
        "\ntest result: {}. {} passed; {failed} failed; 0 ignored; 0 measured; {} filtered out; \
         finished in {:.2}s\n",
        if failed == 0 { "ok" } else { "FAILED" },
        chosen.len() - failed,
        others.len(),
        started.elapsed().as_secs_f64(),
    );
    std::process::exit(i32::from(failed > 0));
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
        Ok(verdict) => verdict.map_err(|err| format!("{err:#}")),
        Err(panic) => Err(panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
            .unwrap_or_else(|| "panicked".to_owned())),
    }
}

/// An invoker with its sandboxes, its log, and a directory for functions.
pub struct Server {
    pub invoker: Arc<Invoker>,
    pub sandboxes: Sandboxes,
    pub images: Option<Chunks>,
    log: Arc<Mutex<Vec<(String, String)>>>,
    dir: TempDir,
}

impl Server {
    pub async fn start() -> anyhow::Result<Self> {
        Self::with(Config::default()).await
    }

    pub async fn with(config: Config) -> anyhow::Result<Self> {
        Self::build(config, |_| Ok(None))
    }

    /// With snapshots.
    pub async fn with_images(config: Config) -> anyhow::Result<Self> {
        Self::build(config, open_images)
    }

    /// Stops, and starts again on the same directory.
    pub async fn successor(self, config: Config) -> anyhow::Result<Self> {
        let Self {
            invoker,
            sandboxes,
            images,
            dir,
            ..
        } = self;
        invoker.shutdown().await;
        sandboxes.shutdown().await;
        // The store is locked until nobody has it.
        let last = Arc::downgrade(&invoker);
        drop((invoker, images));
        while last.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Self::build_in(dir, config, open_images)
    }

    fn build(
        config: Config,
        images: impl FnOnce(&Path) -> anyhow::Result<Option<Chunks>>,
    ) -> anyhow::Result<Self> {
        let dir = TempDir::new()?;
        // Functions run under another user.
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755))?;
        Self::build_in(dir, config, images)
    }

    fn build_in(
        dir: TempDir,
        config: Config,
        images: impl FnOnce(&Path) -> anyhow::Result<Option<Chunks>>,
    ) -> anyhow::Result<Self> {
        let sandboxes = Sandboxes::start(sandbox::Config {
            state_dir: dir.path().join("sandboxes"),
            allow: Relaxations::ALL,
            ..sandbox::Config::default()
        })
        .context("start the sandboxes")?;
        let runtimes = Runtimes::discover(RuntimesConfig::new(
            dir.path().join("runtimes"),
            dir.path().join("data"),
        ));
        let log = Arc::new(Mutex::new(Vec::new()));
        let hooks = Hooks {
            logs: {
                let log = Arc::clone(&log);
                Arc::new(move |batch| {
                    let mut log = log.lock().unwrap();
                    for (_, text) in batch.events {
                        log.push((batch.stream.to_string(), text));
                    }
                })
            },
            credentials: {
                // Numbered, so that tests see when they were asked for anew.
                let issued = AtomicU32::new(0);
                Arc::new(move |_| Credentials {
                    access_key_id: format!("KEY{}", issued.fetch_add(1, Ordering::Relaxed)),
                    secret_access_key: "secret".into(),
                    session_token: "session".into(),
                    expiration: None,
                })
            },
            ..Hooks::none()
        };
        let images = images(dir.path())?;
        let (clock, ours) = (Clock::system(), sandboxes.clone());
        let invoker = match images.clone() {
            Some(images) => Invoker::with_images(config, ours, runtimes, images, clock, hooks),
            None => Invoker::new(config, ours, runtimes, clock, hooks),
        };
        Ok(Self {
            invoker,
            sandboxes,
            images,
            log,
            dir,
        })
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A `provided` function with this shell script as its `bootstrap`.
    pub fn custom(&self, name: &str, script: &str) -> anyhow::Result<Function> {
        let function = self.function(name, "provided.al2023")?;
        write_executable(&function.code_dir.join("bootstrap"), script)?;
        Ok(function)
    }

    /// A Python function with this code as `app.py`.
    pub fn python(&self, name: &str, code: &str) -> anyhow::Result<Function> {
        let function = self.function(name, "python3.12")?;
        std::fs::write(function.code_dir.join("app.py"), code)?;
        Ok(function)
    }

    pub fn function(&self, name: &str, runtime: &str) -> anyhow::Result<Function> {
        let code_dir = self.dir.path().join(name);
        std::fs::create_dir_all(&code_dir)?;
        Ok(Function {
            arn: format!("arn:aws:lambda:eu-central-1:000000000000:function:{name}"),
            name: name.into(),
            version: "$LATEST".into(),
            account: "000000000000".into(),
            region: "eu-central-1".into(),
            revision_id: "r1".into(),
            runtime: runtime.into(),
            handler: "app.handler".into(),
            memory_mb: 128,
            timeout: Duration::from_secs(10),
            ephemeral_mb: 512,
            environment: [].into(),
            code_dir,
            layer_dirs: Vec::new(),
            role: "arn:aws:iam::000000000000:role/r".into(),
            log_group: format!("/aws/lambda/{name}"),
            log_format: LogFormat::Text,
            application_log_level: None,
            system_log_level: None,
            tracing_active: false,
            snap_start: false,
            code_sha256: String::new(),
            development: None,
        })
    }

    pub async fn call(&self, function: &Arc<Function>, payload: &str) -> anyhow::Result<Answer> {
        self.call_as(function, invocation(payload)).await
    }

    pub async fn call_as(
        &self,
        function: &Arc<Function>,
        invocation: Invocation,
    ) -> anyhow::Result<Answer> {
        Answer::of(
            self.invoker
                .invoke(Arc::clone(function), invocation)
                .await?,
        )
    }

    /// All log events so far.
    pub fn log(&self) -> Vec<String> {
        self.log
            .lock()
            .unwrap()
            .iter()
            .map(|(_, text)| text.clone())
            .collect()
    }

    /// The log events of one stream.
    pub fn stream(&self, name: &str) -> Vec<String> {
        let log = self.log.lock().unwrap();
        log.iter()
            .filter(|(stream, _)| stream == name)
            .map(|(_, text)| text.clone())
            .collect()
    }

    pub fn streams(&self) -> Vec<String> {
        let mut streams: Vec<_> = self
            .log
            .lock()
            .unwrap()
            .iter()
            .map(|(stream, _)| stream.clone())
            .collect();
        streams.sort();
        streams.dedup();
        streams
    }

    /// Waits until the environments are in these states.
    pub async fn settle(&self, states: &[EnvironmentState]) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let now: Vec<_> = self
                .invoker
                .environments()
                .into_iter()
                .map(|environment| environment.state)
                .collect();
            if now == states {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < deadline, "environments are {now:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn stop(self) {
        self.invoker.shutdown().await;
        self.sandboxes.shutdown().await;
    }
}

fn open_images(dir: &Path) -> anyhow::Result<Option<Chunks>> {
    let images = chunks::Config::local(&dir.join("images"));
    let key = chunks::Key::from_bytes([7; 32]);
    Ok(Some(Chunks::open(images, key, Clock::system())?))
}

/// A buffered outcome, in text.
#[derive(Debug)]
pub struct Answer {
    pub payload: String,
    pub failed: bool,
    pub tail: String,
    pub report: invoker::Report,
}

impl Answer {
    fn of(outcome: Outcome) -> anyhow::Result<Self> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let payload = outcome
            .payload
            .into_buffered()
            .context("a buffered payload")?;
        Ok(Self {
            payload: text(&payload),
            failed: outcome.function_error.is_some(),
            tail: outcome.log_tail.map(|tail| text(&tail)).unwrap_or_default(),
            report: outcome.report,
        })
    }
}

pub const REQUEST_ID: &str = "11111111-2222-3333-4444-555555555555";

pub fn invocation(payload: &str) -> Invocation {
    Invocation {
        request_id: REQUEST_ID.into(),
        payload: payload.to_owned().into(),
        invoked_arn: "arn:aws:lambda:eu-central-1:000000000000:function:f".into(),
        want_tail: true,
        ..Invocation::default()
    }
}

/// Puts the script in the place of whatever was there. One that is being executed cannot be written
/// to, so another file takes its name.
pub fn write_executable(path: &Path, script: &str) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, script)?;
    std::fs::set_permissions(&new, PermissionsExt::from_mode(0o755))?;
    Ok(std::fs::rename(new, path)?)
}

/// The digits of durations and sizes as `#`, for comparisons.
pub fn masked(text: &str) -> String {
    let mut masked = String::new();
    for word in text.split_inclusive(['\t', '\n']) {
        let measured = [
            "Duration: ",
            "Billed Duration: ",
            "Max Memory Used: ",
            "Init Duration: ",
            "Restore Duration: ",
            "Billed Restore Duration: ",
            "RESTORE_REPORT Restore Duration: ",
            "INIT_REPORT Init Duration: ",
        ]
        .iter()
        .find(|name| word.starts_with(*name));
        match measured.and_then(|name| Some((name, word[name.len()..].split_once(' ')?))) {
            Some((name, (_, unit))) => masked.extend([name, "# ", unit]),
            None => masked.push_str(word),
        }
    }
    masked
}

/// A runtime in shell: evaluates the event as a shell command.
pub const SHELL: &str = r#"#!/bin/sh
API="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
echo "init done"
while true; do
  EVENT=$(curl -sS -D /tmp/head "$API/invocation/next") || exit 9
  ID=$(tr -d '\r' < /tmp/head | sed -n 's/^lambda-runtime-aws-request-id: //Ip')
  RESULT=response
  OUT=""
  eval "$EVENT"
  curl -sS -X POST --data-binary "$OUT" "$API/invocation/$ID/$RESULT" > /tmp/answer
done
"#;

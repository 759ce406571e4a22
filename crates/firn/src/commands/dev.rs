//! `firn dev`: runs a function straight from a folder, and takes up every change that is saved there.
//!
//! The function is an ordinary one: it has a log, a URL, an ARN, and whatever else is configured. While
//! the command runs, its `$LATEST` is served from copies of the folder, each complete and unchanging,
//! so that neither a file that is half written nor an invocation under way sees anything in between.
//! A function that the command had to create is deleted when it ends.

mod link;
mod log;
mod own_server;
mod url;
mod watch;
mod workspace;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use model::Blob;
use model::lambda::{DeleteFunctionInput, InvokeInput};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Global;
use crate::client::Client;
use crate::commands::deploy::{self, FunctionFlags};
use crate::failure::usage;
use crate::output::{self, Style};
use link::{FromLink, Link};
use log::Log;
use watch::Watch;
use workspace::{Taken, Workspace};

/// Changes come in bursts: an editor writes several files, a tool a whole folder.
const QUIET: Duration = Duration::from_millis(25);
/// Package managers pause while they write.
const QUIET_OF_PACKAGES: Duration = Duration::from_millis(400);
/// Whatever goes on, a save is taken up by then.
const AT_LATEST: Duration = Duration::from_secs(3);

/// Flags of `firn dev`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder with the function's source
    #[arg(value_name = "DIR", default_value = ".")]
    path: PathBuf,
    #[command(flatten)]
    function: FunctionFlags,
    /// A command that builds the code, run by a shell in DIR at the start and after each save
    #[arg(long, value_name = "CMD")]
    build: Option<String>,
    /// The folder that holds the built code, if it is not DIR; changes in it count for nothing
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Let a debugger attach on this port [default port: 5678 Python, 9229 Node, 5005 Java]
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "0")]
    debug: Option<u16>,
    /// Invoke with this event (a file with JSON) after each change, and print the answer
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
    /// Give the function a URL that anybody may call
    #[arg(long)]
    url: bool,
    /// Keep a function that this command created when it ends
    #[arg(long)]
    keep: bool,
}

pub async fn run(args: Args, global: &Global) -> Result<()> {
    // Before anything is made that has to be taken away again.
    let mut interrupted = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminated = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut global = global.clone();
    let server = own_server::find_or_start(&mut global).await?;
    let ended = match Session::open(args, &global).await {
        Ok(mut session) => {
            let ended = tokio::select! {
                worked = session.work() => worked,
                _ = interrupted.recv() => Ok(()),
                _ = terminated.recv() => Ok(()),
            };
            ended.and(session.close().await)
        }
        Err(err) => Err(err),
    };
    if let Some(server) = server {
        server.stop().await?;
    }
    ended
}

/// One run of the command.
struct Session {
    client: Client,
    args: Args,
    name: String,
    runtime: String,
    debug_port: Option<u16>,
    created: bool,
    style: Style,
    quiet: bool,
    link: Link,
    watch: Watch,
    workspace: Workspace,
    log: Log,
}

impl Session {
    async fn open(args: Args, global: &Global) -> Result<Self> {
        let client = Client::new(global)?;
        if !args.path.is_dir() {
            return Err(usage(format!("{} is no folder", args.path.display())));
        }
        let output = args.output.clone().unwrap_or_else(|| args.path.clone());
        // The built code tells runtime and handler, so it has to be there.
        build(&args).await?;
        let flags = args.function.clone();
        let prepared = deploy::prepare_for_development(&output, flags, global).await?;
        let debug_port = match args.debug {
            Some(0) => Some(usual_port(&prepared.runtime)?),
            other => other,
        };
        let link = Link::open(&client, &prepared.arn, debug_port).await;
        let link = match link {
            Ok(link) => link,
            Err(err) => {
                if prepared.created {
                    delete(&client, &prepared.name).await?;
                }
                return Err(err);
            }
        };
        let watch = Watch::new(&args.path, args.output.as_deref())?;
        let workspace = Workspace::new(link.workspace().to_owned(), output);
        Ok(Self {
            log: Log::of(&prepared.name),
            name: prepared.name,
            runtime: prepared.runtime,
            debug_port,
            created: prepared.created,
            style: Style::stdout(),
            quiet: global.quiet,
            client,
            args,
            link,
            watch,
            workspace,
        })
    }

    /// The first code, and what there is to know.
    async fn begin(&mut self) -> Result<()> {
        let began = Instant::now();
        let generation = loop {
            self.watch.follow()?;
            match self.workspace.take()? {
                Taken::New(generation) => break generation,
                Taken::Unstable | Taken::Same => tokio::time::sleep(QUIET).await,
            }
        };
        self.link.serve(generation).await?;
        let (runtime, ms) = (&self.runtime, began.elapsed().as_millis());
        output::line(format!("{} is ready ({runtime}, {ms} ms)", self.name))?;
        if !self.quiet {
            output::line(format!("  invoke    firn invoke {} -p '{{}}'", self.name))?;
            output::line(format!("  arn       {}", self.link.function()))?;
        }
        if self.args.url {
            let url = url::of(&self.client, &self.name).await?;
            output::line(format!("  url       {url}"))?;
        }
        if let Some(port) = self.debug_port {
            output::line(format!(
                "  debugger  127.0.0.1:{port} (timeouts are suspended)"
            ))?;
        }
        if !self.quiet {
            let path = self.args.path.display();
            output::line(format!("  watching  {path} (Ctrl-C ends)"))?;
        }
        self.try_event().await
    }

    async fn work(&mut self) -> Result<()> {
        self.begin().await?;
        loop {
            tokio::select! {
                changed = self.watch.changed() => {
                    changed?;
                    self.settle().await?;
                    self.reload().await?;
                }
                message = self.link.next() => match message? {
                    FromLink::Synchronise(request) => {
                        // Whatever was saved before the invocation is in the kernel's queue.
                        if self.watch.has_changed()? {
                            self.settle().await?;
                            self.reload().await?;
                        }
                        self.link.synchronised(request).await?;
                    }
                    FromLink::Ended => bail!("the server has ended"),
                },
                lines = self.log.next(&self.client) => self.log.print(lines?)?,
            }
        }
    }

    /// Waits until nobody has written for a moment.
    async fn settle(&mut self) -> Result<()> {
        let latest = Instant::now() + AT_LATEST;
        while Instant::now() < latest {
            let quiet = match self.watch.only_packages_changed() {
                true => QUIET_OF_PACKAGES,
                false => QUIET,
            };
            match tokio::time::timeout(quiet, self.watch.changed()).await {
                Ok(changed) => changed?,
                Err(_) => break,
            }
        }
        self.watch.settle();
        Ok(())
    }

    /// Takes up what has changed. What cannot be built or read is told, and the code stays what it was.
    async fn reload(&mut self) -> Result<()> {
        let began = Instant::now();
        if let Err(err) = build(&self.args).await {
            return self.complain(&err);
        }
        if self.args.build.is_some() && self.args.output.is_none() {
            // What the build wrote into the folder is no change of its source.
            self.watch.forget()?;
        }
        self.watch.follow()?;
        let taken = loop {
            match self.workspace.take() {
                // Somebody writes on; what was copied may be half of it.
                Ok(Taken::Unstable) => tokio::time::sleep(QUIET).await,
                Ok(taken) => break taken,
                Err(err) => return self.complain(&err),
            }
            if began.elapsed() > AT_LATEST {
                return self.complain(&anyhow::anyhow!("the files change all the time"));
            }
        };
        let Taken::New(generation) = taken else {
            return Ok(());
        };
        self.link.serve(generation).await?;
        let ms = began.elapsed().as_millis();
        let text = format!("reloaded in {ms} ms");
        output::line(self.style.faint(&text))?;
        self.try_event().await
    }

    fn complain(&self, err: &anyhow::Error) -> Result<()> {
        eprintln!(
            "{}",
            Style::stderr().faint(&format!("not reloaded: {err:#}"))
        );
        Ok(())
    }

    /// Invokes with the event, if there is one, while still answering what the server asks.
    async fn try_event(&mut self) -> Result<()> {
        let Some(path) = self.args.event.clone() else {
            return Ok(());
        };
        let event = match std::fs::read(&path) {
            Ok(event) => event,
            Err(err) => {
                let err =
                    anyhow::Error::from(err).context(format!("cannot read {}", path.display()));
                return self.complain(&err);
            }
        };
        let input = InvokeInput {
            function_name: self.name.clone(),
            payload: Some(Blob::from(event)),
            ..InvokeInput::default()
        };
        let began = Instant::now();
        let invoking = self.client.call(&input);
        tokio::pin!(invoking);
        let answer = loop {
            tokio::select! {
                answer = &mut invoking => break answer,
                message = self.link.next() => match message? {
                    // The code has just been taken up; a later save is for the next round.
                    FromLink::Synchronise(request) => self.link.synchronised(request).await?,
                    FromLink::Ended => bail!("the server has ended"),
                },
            }
        };
        let ms = began.elapsed().as_millis();
        match answer {
            Ok(reply) => {
                let payload = reply.output.payload.unwrap_or_default();
                let payload = payload.decode().context("the answer cannot be read")?;
                let text = String::from_utf8_lossy(&payload).into_owned();
                let failed = reply.output.function_error.is_some();
                let verdict = if failed { "failed" } else { "answered" };
                output::line(format!("{verdict} in {ms} ms: {text}"))
            }
            Err(err) => self.complain(&err),
        }
    }

    async fn close(self) -> Result<()> {
        // The server first: then nobody runs this code any more.
        drop(self.link);
        if self.args.url {
            url::remove(&self.client, &self.name, self.created).await?;
        }
        if self.created && !self.args.keep {
            delete(&self.client, &self.name).await?;
        }
        Ok(())
    }
}

async fn delete(client: &Client, name: &str) -> Result<()> {
    let input = DeleteFunctionInput {
        function_name: name.to_owned(),
        ..DeleteFunctionInput::default()
    };
    client.call(&input).await.map(drop)
}

async fn build(args: &Args) -> Result<()> {
    let Some(command) = &args.build else {
        return Ok(());
    };
    let mut shell = tokio::process::Command::new("sh");
    shell.arg("-c").arg(command).current_dir(&args.path);
    let status = shell
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await
        .context("cannot run the build")?;
    if !status.success() {
        bail!("the build failed ({status})");
    }
    Ok(())
}

fn usual_port(runtime: &str) -> Result<u16> {
    for (family, port) in [("python", 5678), ("nodejs", 9229), ("java", 5005)] {
        if runtime.starts_with(family) {
            return Ok(port);
        }
    }
    Err(usage(format!(
        "firn knows no debugger for {runtime}: --debug is for Python, Node and Java"
    )))
}

/// Whether a path leads to something that package managers write.
fn is_of_packages(path: &Path) -> bool {
    let written = |part: std::path::Component<'_>| {
        let part = part.as_os_str();
        part == "node_modules" || part == "site-packages" || part == ".venv"
    };
    path.components().any(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debuggers_have_their_usual_ports() {
        assert_eq!(usual_port("python3.13").unwrap(), 5678);
        assert_eq!(usual_port("nodejs22.x").unwrap(), 9229);
        assert_eq!(usual_port("java21").unwrap(), 5005);
        assert!(usual_port("provided.al2023").is_err());
    }

    #[test]
    fn packages_are_told_from_source() {
        assert!(is_of_packages(Path::new("/a/node_modules/x/index.js")));
        assert!(!is_of_packages(Path::new("/a/node_modules.js")));
    }
}
